//! The family `ethtool` of generic netlink: the requests of ethtool(8) in attributes. What is done stands with the device
//! ([`crate::drivers::nic::ethtool`]): these are the same operations that SIOCETHTOOL has, said in other words.
use super::genl::ETHTOOL_ID;
use super::{Caller, Done, Refusal, Req, refuse, str_of, u32_of};
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::core::dev::DevKind;
use crate::net::core::features::{self, Bits};
use belljar_abi::Errno;
use belljar_abi::ethtool::*;
use belljar_abi::genl::*;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};

/// What is answered; everything else that 6.18 has, no device here has.
pub const COMMANDS: [u8; 31] = [
    ETHTOOL_MSG_STRSET_GET,
    ETHTOOL_MSG_LINKINFO_GET,
    ETHTOOL_MSG_LINKMODES_GET,
    ETHTOOL_MSG_LINKSTATE_GET,
    ETHTOOL_MSG_FEATURES_GET,
    ETHTOOL_MSG_FEATURES_SET,
    ETHTOOL_MSG_RINGS_GET,
    ETHTOOL_MSG_RINGS_SET,
    ETHTOOL_MSG_CHANNELS_GET,
    ETHTOOL_MSG_CHANNELS_SET,
    ETHTOOL_MSG_COALESCE_GET,
    ETHTOOL_MSG_COALESCE_SET,
    ETHTOOL_MSG_TSINFO_GET,
    // No device here has these; ethtool looks whether the kernel knows them, and else asks by ioctl.
    ETHTOOL_MSG_DEBUG_GET,
    ETHTOOL_MSG_DEBUG_SET,
    ETHTOOL_MSG_WOL_GET,
    ETHTOOL_MSG_WOL_SET,
    ETHTOOL_MSG_PRIVFLAGS_GET,
    ETHTOOL_MSG_PRIVFLAGS_SET,
    ETHTOOL_MSG_PAUSE_GET,
    ETHTOOL_MSG_PAUSE_SET,
    ETHTOOL_MSG_EEE_GET,
    ETHTOOL_MSG_EEE_SET,
    ETHTOOL_MSG_FEC_GET,
    ETHTOOL_MSG_FEC_SET,
    ETHTOOL_MSG_LINKINFO_SET,
    ETHTOOL_MSG_LINKMODES_SET,
    ETHTOOL_MSG_TUNNEL_INFO_GET,
    ETHTOOL_MSG_MODULE_EEPROM_GET,
    ETHTOOL_MSG_MODULE_GET,
    ETHTOOL_MSG_MODULE_SET,
];

pub fn changes(cmd: u8) -> bool {
    matches!(
        cmd,
        ETHTOOL_MSG_FEATURES_SET
            | ETHTOOL_MSG_RINGS_SET
            | ETHTOOL_MSG_CHANNELS_SET
            | ETHTOOL_MSG_COALESCE_SET
            | ETHTOOL_MSG_DEBUG_SET
            | ETHTOOL_MSG_WOL_SET
            | ETHTOOL_MSG_PRIVFLAGS_SET
            | ETHTOOL_MSG_PAUSE_SET
            | ETHTOOL_MSG_EEE_SET
            | ETHTOOL_MSG_FEC_SET
            | ETHTOOL_MSG_LINKINFO_SET
            | ETHTOOL_MSG_LINKMODES_SET
            | ETHTOOL_MSG_MODULE_SET
    )
}

/// Veth pairs tell a speed that they do not have.
const VETH_SPEED: u32 = 10_000;
const PORT_TP: u8 = 0;

/// The header of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    dev: Option<DevId>,
    flags: u32,
}

fn header(k: &Kernel, c: &Caller<'_>, r: Req<'_>) -> Done<Asked> {
    let Some(h) = r.attr(GENL_HDRLEN, ETHTOOL_A_HEADER) else { return refuse(Errno::EINVAL, "request header missing") };
    let get = |kind| nl::attrs(h).find(|(a, _)| *a == kind).map(|(_, v)| v);
    let flags = get(ETHTOOL_A_HEADER_FLAGS).map(u32_of).transpose()?.unwrap_or(0);
    let net = &k.net;
    let named = get(ETHTOOL_A_HEADER_DEV_NAME).map(str_of).transpose()?;
    let unknown = |kind, text| {
        let at = get(kind).and_then(|v| r.offset_of(v));
        Refusal { errno: Errno::ENODEV, text: Some(text), at }
    };
    let no_name = || unknown(ETHTOOL_A_HEADER_DEV_NAME, "no device matches name");
    let by_name = named.map(|n| net.dev_by_name(c.ns, n).ok_or_else(no_name)).transpose()?;
    let dev = match get(ETHTOOL_A_HEADER_DEV_INDEX).map(u32_of).transpose()? {
        None => by_name,
        Some(index) => {
            let Some(d) = net.dev_by_index(c.ns, index) else {
                return Err(unknown(ETHTOOL_A_HEADER_DEV_INDEX, "no device matches ifindex"));
            };
            if by_name.is_some_and(|n| n != d) {
                return refuse(Errno::ENODEV, "ifname and ifindex do not match");
            }
            Some(d)
        }
    };
    Ok(Asked { dev, flags })
}

pub(super) fn command(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, cmd: u8, dump: bool, out: &mut Vec<Vec<u8>>) -> Done {
    if cmd == 0 || cmd > ETHTOOL_MSG_USER_MAX {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if changes(cmd) && !c.net_admin {
        return Err(Errno::EPERM.into());
    }
    let asked = header(k, c, r)?;
    if cmd == ETHTOOL_MSG_STRSET_GET && !dump {
        return strset(k, c, r, asked, out);
    }
    if dump {
        let devs = k.net.ns.get(c.ns).map_or_else(Vec::new, |n| n.devs.clone());
        for dev in devs.into_iter().filter(|_| !changes(cmd)) {
            // Those that have not got it are left out.
            let _ = get(k, c, r, cmd, Asked { dev: Some(dev), ..asked }, dev, out);
        }
        return Ok(());
    }
    let Some(dev) = asked.dev else { return refuse(Errno::EINVAL, "device not specified") };
    match cmd {
        ETHTOOL_MSG_FEATURES_SET => set_features(k, c, r, asked, dev, out),
        ETHTOOL_MSG_RINGS_SET => set_rings(k, r, dev),
        ETHTOOL_MSG_CHANNELS_SET => set_channels(k, r, dev),
        ETHTOOL_MSG_COALESCE_SET => set_coalesce(k, r, dev),
        ETHTOOL_MSG_MODULE_SET => {
            let policy = r.attr(GENL_HDRLEN, ETHTOOL_A_MODULE_POWER_MODE_POLICY);
            let text = Some("Setting power mode policy is not supported by this device");
            match policy {
                None => Ok(()),
                Some(v) => Err(Refusal { errno: Errno::EOPNOTSUPP, text, at: r.offset_of(v) }),
            }
        }
        _ => get(k, c, r, cmd, asked, dev, out),
    }
}

/// The ioctl of the same name: words in, words out.
fn ioctl(k: &mut Kernel, dev: DevId, request: &[u32]) -> Done<(i64, Vec<u32>)> {
    let bytes: Vec<u8> = request.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let (value, reply) = k.ethtool(dev, &bytes)?;
    let words = reply.as_chunks::<4>().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
    Ok((value, words))
}

fn at(words: &[u32], n: usize) -> u32 {
    words.get(n).copied().unwrap_or(0)
}

fn reply(k: &Kernel, c: &Caller<'_>, r: Req<'_>, cmd: u8, dev: DevId, fill: impl FnOnce(&mut Msg<'_>)) -> Vec<u8> {
    let mut b = Vec::new();
    let mut m = Msg::new(&mut b, ETHTOOL_ID, 0, r.hdr.seq, c.port);
    m.body(&[cmd, 1, 0, 0]);
    if let Some(d) = k.net.devs.get(dev) {
        m.nest(ETHTOOL_A_HEADER | NLA_F_NESTED, |h| {
            h.attr_u32(ETHTOOL_A_HEADER_DEV_INDEX, d.ifindex).attr_str(ETHTOOL_A_HEADER_DEV_NAME, &d.name);
        });
    }
    fill(&mut m);
    b
}

fn get(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, cmd: u8, asked: Asked, dev: DevId, out: &mut Vec<Vec<u8>>) -> Done {
    let compact = asked.flags & ETHTOOL_FLAG_COMPACT_BITSETS != 0;
    let answer = match cmd {
        // Of modules that can be turned off; none is here, and the rest of the answer is empty.
        ETHTOOL_MSG_MODULE_GET => reply(k, c, r, ETHTOOL_MSG_MODULE_GET_REPLY, dev, |_| {}),
        ETHTOOL_MSG_TUNNEL_INFO_GET => {
            return refuse(Errno::EOPNOTSUPP, "device does not report tunnel offload info");
        }
        ETHTOOL_MSG_LINKINFO_GET => linkinfo(k, c, r, dev)?,
        ETHTOOL_MSG_LINKMODES_GET => linkmodes(k, c, r, dev, compact)?,
        ETHTOOL_MSG_LINKSTATE_GET => {
            let (_, words) = ioctl(k, dev, &[ETHTOOL_GLINK, 0])?;
            reply(k, c, r, ETHTOOL_MSG_LINKSTATE_GET_REPLY, dev, |m| {
                m.attr_u8(ETHTOOL_A_LINKSTATE_LINK, at(&words, 1) as u8);
            })
        }
        ETHTOOL_MSG_FEATURES_GET => {
            let f = bits(k, dev)?;
            reply(k, c, r, ETHTOOL_MSG_FEATURES_GET_REPLY, dev, |m| {
                bitset(m, ETHTOOL_A_FEATURES_HW, &FEATURES, f.hw, Some(u64::MAX), compact);
                bitset(m, ETHTOOL_A_FEATURES_WANTED, &FEATURES, f.wanted, None, compact);
                bitset(m, ETHTOOL_A_FEATURES_ACTIVE, &FEATURES, f.active, None, compact);
                bitset(m, ETHTOOL_A_FEATURES_NOCHANGE, &FEATURES, f.nochange, None, compact);
            })
        }
        ETHTOOL_MSG_RINGS_GET => {
            let (_, w) = ioctl(k, dev, &[ETHTOOL_GRINGPARAM, 0])?;
            reply(k, c, r, ETHTOOL_MSG_RINGS_GET_REPLY, dev, |m| {
                for n in (0..4).filter(|n| at(&w, 1 + n) != 0) {
                    m.attr_u32(ETHTOOL_A_RINGS_RX_MAX + n as u16, at(&w, 1 + n));
                    m.attr_u32(ETHTOOL_A_RINGS_RX + n as u16, at(&w, 5 + n));
                }
                m.attr_u8(ETHTOOL_A_RINGS_TX_PUSH, 0).attr_u8(ETHTOOL_A_RINGS_RX_PUSH, 0);
            })
        }
        ETHTOOL_MSG_CHANNELS_GET => {
            let w = channels(k, dev)?;
            reply(k, c, r, ETHTOOL_MSG_CHANNELS_GET_REPLY, dev, |m| {
                for n in (0..4).filter(|n| at(&w, 1 + n) != 0) {
                    m.attr_u32(ETHTOOL_A_CHANNELS_RX_MAX + n as u16, at(&w, 1 + n));
                    m.attr_u32(ETHTOOL_A_CHANNELS_RX_COUNT + n as u16, at(&w, 5 + n));
                }
            })
        }
        ETHTOOL_MSG_COALESCE_GET => {
            let (_, w) = ioctl(k, dev, &[ETHTOOL_GCOALESCE, 0])?;
            reply(k, c, r, ETHTOOL_MSG_COALESCE_GET_REPLY, dev, |m| {
                // What the card has, and what it says though it has it not.
                for (n, v) in w.iter().enumerate().skip(1).filter(|(n, v)| COALESCE.contains(n) || **v != 0) {
                    let kind = ETHTOOL_A_COALESCE_RX_USECS + n as u16 - 1;
                    match n {
                        ADAPTIVE_RX => m.attr_u8(kind, *v as u8),
                        _ => m.attr_u32(kind, *v),
                    };
                }
            })
        }
        ETHTOOL_MSG_TSINFO_GET => {
            let (_, w) = ioctl(k, dev, &[ETHTOOL_GET_TS_INFO, 0])?;
            reply(k, c, r, ETHTOOL_MSG_TSINFO_GET_REPLY, dev, |m| {
                bitset(m, ETHTOOL_A_TSINFO_TIMESTAMPING, &SOF_NAMES, at(&w, 1).into(), None, compact);
            })
        }
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    out.push(answer);
    Ok(())
}

/// Words of `struct ethtool_coalesce` that cards here have: times and frames of reception, and whether they are adaptive.
const COALESCE: [usize; 3] = [1, 2, ADAPTIVE_RX];
const ADAPTIVE_RX: usize = 10;

fn is_veth(k: &Kernel, dev: DevId) -> bool {
    k.net.devs.get(dev).is_some_and(|d| matches!(d.kind, DevKind::Veth(_)))
}

/// Speed, duplex and port.
fn settings(k: &Kernel, dev: DevId) -> Done<(u32, u8, u8)> {
    let d = k.net.devs.get(dev).ok_or(Errno::ENODEV)?;
    match d.kind {
        DevKind::Veth(_) => Ok((VETH_SPEED, DUPLEX_FULL, PORT_TP)),
        DevKind::Nic(ref n) => Ok((n.link().0, n.link().1, PORT_OTHER)),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn linkinfo(k: &Kernel, c: &Caller<'_>, r: Req<'_>, dev: DevId) -> Done<Vec<u8>> {
    let (_, _, port) = settings(k, dev)?;
    Ok(reply(k, c, r, ETHTOOL_MSG_LINKINFO_GET_REPLY, dev, |m| {
        m.attr_u8(ETHTOOL_A_LINKINFO_PORT, port).attr_u8(ETHTOOL_A_LINKINFO_PHYADDR, 0);
        m.attr_u8(ETHTOOL_A_LINKINFO_TP_MDIX, 0).attr_u8(ETHTOOL_A_LINKINFO_TP_MDIX_CTRL, 0);
        m.attr_u8(ETHTOOL_A_LINKINFO_TRANSCEIVER, 0);
    }))
}

fn linkmodes(k: &Kernel, c: &Caller<'_>, r: Req<'_>, dev: DevId, compact: bool) -> Done<Vec<u8>> {
    let (speed, duplex, _) = settings(k, dev)?;
    Ok(reply(k, c, r, ETHTOOL_MSG_LINKMODES_GET_REPLY, dev, |m| {
        m.attr_u8(ETHTOOL_A_LINKMODES_AUTONEG, 0);
        // No modes are supported, so none has to be named.
        m.nest(ETHTOOL_A_LINKMODES_OURS | NLA_F_NESTED, |b| {
            b.attr_u32(ETHTOOL_A_BITSET_SIZE, LINK_MODES);
            if compact {
                let none = [0; (LINK_MODES as usize).div_ceil(32) * 4];
                b.attr(ETHTOOL_A_BITSET_VALUE, &none).attr(ETHTOOL_A_BITSET_MASK, &none);
            } else {
                b.nest(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, |_| {});
            }
        });
        m.attr_u32(ETHTOOL_A_LINKMODES_SPEED, speed).attr_u8(ETHTOOL_A_LINKMODES_DUPLEX, duplex);
        m.attr_u8(ETHTOOL_A_LINKMODES_RATE_MATCHING, 0);
    }))
}

/// As SIOCETHTOOL says it; of a veth, one queue each way.
fn channels(k: &mut Kernel, dev: DevId) -> Done<Vec<u32>> {
    if is_veth(k, dev) {
        return Ok(vec![ETHTOOL_GCHANNELS, 1, 1, 0, 0, 1, 1, 0, 0]);
    }
    Ok(ioctl(k, dev, &[ETHTOOL_GCHANNELS, 0])?.1)
}

/// A set of bits: as two masks, or bit by bit with names. Without a mask it is a list of what is set.
fn bitset(m: &mut Msg<'_>, kind: u16, names: &[&str], value: u64, mask: Option<u64>, compact: bool) {
    m.nest(kind | NLA_F_NESTED, |b| {
        if mask.is_none() {
            b.attr(ETHTOOL_A_BITSET_NOMASK, &[]);
        }
        b.attr_u32(ETHTOOL_A_BITSET_SIZE, names.len() as u32);
        if compact {
            let bytes = names.len().div_ceil(32) * 4;
            let cut = |v: u64| v.to_ne_bytes()[..bytes.min(8)].to_vec();
            b.attr(ETHTOOL_A_BITSET_VALUE, &cut(value));
            if let Some(mask) = mask {
                b.attr(ETHTOOL_A_BITSET_MASK, &cut(mask));
            }
            return;
        }
        b.nest(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, |b| {
            for (n, name) in names.iter().enumerate() {
                let (set, named) = (value >> n & 1 != 0, mask.unwrap_or(value) >> n & 1 != 0);
                if !named {
                    continue;
                }
                b.nest(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, |b| {
                    b.attr_u32(ETHTOOL_A_BITSET_BIT_INDEX, n as u32).attr_str(ETHTOOL_A_BITSET_BIT_NAME, name);
                    if set && mask.is_some() {
                        b.attr(ETHTOOL_A_BITSET_BIT_VALUE, &[]);
                    }
                });
            }
        });
    });
}

/// Value and mask of a set in a request, in either form.
#[doc(alias = "ethnl_parse_bitset")]
fn read_bitset(b: &[u8], names: &[&str], offset: impl Fn(&[u8]) -> Option<u32>) -> Done<(u64, u64)> {
    let get = |kind| nl::attrs(b).find(|(a, _)| *a == kind).map(|(_, v)| v);
    let nomask = get(ETHTOOL_A_BITSET_NOMASK).is_some();
    let wide = |v: &[u8]| {
        let mut eight = [0; 8];
        eight.iter_mut().zip(v).for_each(|(t, b)| *t = *b);
        u64::from_ne_bytes(eight)
    };
    let Some(bits) = get(ETHTOOL_A_BITSET_BITS) else {
        let size = get(ETHTOOL_A_BITSET_SIZE).map(u32_of).transpose()?.ok_or(Errno::EINVAL)? as usize;
        let value = get(ETHTOOL_A_BITSET_VALUE).ok_or(Errno::EINVAL)?;
        let mask = get(ETHTOOL_A_BITSET_MASK);
        let right = |v: &[u8]| v.len() == size.div_ceil(32) * 4;
        if !right(value) || mask.is_some_and(|m| !right(m)) || mask.is_none() != nomask {
            return Err(Errno::EINVAL.into());
        }
        let beyond = |v: &[u8]| v.iter().skip(8).any(|b| *b != 0);
        if beyond(value) || mask.is_some_and(beyond) {
            return Err(Errno::EINVAL.into());
        }
        return Ok((wide(value), mask.map_or(u64::MAX, wide)));
    };
    let (mut value, mut mask) = (0, 0);
    for (_, bit) in nl::attrs(bits).filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT) {
        let get = |kind| nl::attrs(bit).find(|(a, _)| *a == kind).map(|(_, v)| v);
        let index = match (get(ETHTOOL_A_BITSET_BIT_INDEX), get(ETHTOOL_A_BITSET_BIT_NAME)) {
            (Some(n), _) => u32_of(n)? as usize,
            (None, Some(name)) => {
                let name = str_of(name)?;
                let found = names.iter().position(|n| !n.is_empty() && *n == name);
                let at = get(ETHTOOL_A_BITSET_BIT_NAME).and_then(&offset);
                found.ok_or(Refusal { errno: Errno::EOPNOTSUPP, text: Some("bit name not found"), at })?
            }
            (None, None) => return refuse(Errno::EINVAL, "neither bit index nor name specified"),
        };
        if index >= names.len() {
            return refuse(Errno::EOPNOTSUPP, "bit index too high");
        }
        mask |= 1 << index;
        if nomask || get(ETHTOOL_A_BITSET_BIT_VALUE).is_some() {
            value |= 1 << index;
        }
    }
    Ok((value, if nomask { u64::MAX } else { mask }))
}

fn bits(k: &Kernel, dev: DevId) -> Done<Bits> {
    Ok(features::show(k.net.devs.get(dev).ok_or(Errno::ENODEV)?))
}

#[doc(alias = "ethnl_set_features")]
fn set_features(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, asked: Asked, dev: DevId, out: &mut Vec<Vec<u8>>) -> Done {
    let wanted = r.attr(GENL_HDRLEN, ETHTOOL_A_FEATURES_WANTED).ok_or(Errno::EINVAL)?;
    let (value, mask) = read_bitset(wanted, &FEATURES, |v| r.offset_of(v))?;
    let old = bits(k, dev)?;
    let able = mask & old.hw;
    features::set(&mut k.net, dev, value, able);
    let new = bits(k, dev)?.active;
    if asked.flags & ETHTOOL_FLAG_OMIT_REPLY == 0 {
        // What is not as it was asked for, and what has become different.
        let (missed, changed) = ((value ^ new) & mask, old.active ^ new);
        let compact = asked.flags & ETHTOOL_FLAG_COMPACT_BITSETS != 0;
        out.push(reply(k, c, r, ETHTOOL_MSG_FEATURES_SET_REPLY, dev, |m| {
            bitset(m, ETHTOOL_A_FEATURES_WANTED, &FEATURES, value & missed, Some(missed), compact);
            bitset(m, ETHTOOL_A_FEATURES_ACTIVE, &FEATURES, new & changed, Some(changed), compact);
        }));
    }
    Ok(())
}

/// The values of consecutive attributes put over those of consecutive words; whether any was given.
fn overlay(r: Req<'_>, first: u16, words: &mut [u32]) -> Done<bool> {
    let mut any = false;
    for (n, w) in words.iter_mut().enumerate() {
        if let Some(v) = r.attr(GENL_HDRLEN, first + n as u16) {
            *w = u32_of(v)?;
            any = true;
        }
    }
    Ok(any)
}

/// Attributes beyond those that are here.
fn only(r: Req<'_>, known: impl Fn(u16) -> bool) -> Done {
    let strange = r.attrs(GENL_HDRLEN).any(|(kind, _)| kind != ETHTOOL_A_HEADER && !known(kind));
    if strange { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) }
}

/// EINVAL, with the attribute that asks for it.
fn too_many(r: Req<'_>, kind: u16, text: &'static str) -> Done {
    let at = r.attr(GENL_HDRLEN, kind).and_then(|v| r.offset_of(v));
    Err(Refusal { errno: Errno::EINVAL, text: Some(text), at })
}

#[doc(alias = "ethnl_set_rings")]
fn set_rings(k: &mut Kernel, r: Req<'_>, dev: DevId) -> Done {
    let (_, mut w) = ioctl(k, dev, &[ETHTOOL_GRINGPARAM, 0])?;
    only(r, |kind| (ETHTOOL_A_RINGS_RX..ETHTOOL_A_RINGS_RX + 4).contains(&kind))?;
    w.resize(9, 0);
    let max: Vec<u32> = w.iter().copied().skip(1).take(4).collect();
    overlay(r, ETHTOOL_A_RINGS_RX, w.get_mut(5..9).unwrap_or(&mut []))?;
    if let Some(n) = w.iter().skip(5).zip(&max).position(|(now, most)| now > most) {
        return too_many(r, ETHTOOL_A_RINGS_RX + n as u16, "requested ring size exceeds maximum");
    }
    if let Some(cmd) = w.first_mut() {
        *cmd = ETHTOOL_SRINGPARAM;
    }
    ioctl(k, dev, &w).map(drop)
}

#[doc(alias = "ethnl_set_channels")]
fn set_channels(k: &mut Kernel, r: Req<'_>, dev: DevId) -> Done {
    let mut w = channels(k, dev)?;
    w.resize(9, 0);
    let old = w.clone();
    let range = ETHTOOL_A_CHANNELS_RX_COUNT..ETHTOOL_A_CHANNELS_RX_COUNT + 4;
    only(r, |kind| range.contains(&kind))?;
    overlay(r, ETHTOOL_A_CHANNELS_RX_COUNT, w.get_mut(5..9).unwrap_or(&mut []))?;
    if let Some(n) = (0..4).find(|n| at(&w, n + 5) > at(&w, n + 1)) {
        return too_many(r, ETHTOOL_A_CHANNELS_RX_COUNT + n as u16, "requested channel count exceeds maximum");
    }
    if at(&w, 8) == 0 && (at(&w, 5) == 0 || at(&w, 6) == 0) {
        return refuse(Errno::EINVAL, "requested channel counts would result in no RX or TX channel being configured");
    }
    if w == old {
        return Ok(());
    }
    if let Some(cmd) = w.first_mut() {
        *cmd = ETHTOOL_SCHANNELS;
    }
    ioctl(k, dev, &w).map(drop)
}

#[doc(alias = "ethnl_set_coalesce")]
fn set_coalesce(k: &mut Kernel, r: Req<'_>, dev: DevId) -> Done {
    let (_, mut w) = ioctl(k, dev, &[ETHTOOL_GCOALESCE, 0])?;
    let strange = r.attrs(GENL_HDRLEN).any(|(kind, _)| {
        let word = usize::from(kind.saturating_sub(ETHTOOL_A_COALESCE_RX_USECS)) + 1;
        kind != ETHTOOL_A_HEADER && !COALESCE.contains(&word)
    });
    if strange {
        return refuse(Errno::EOPNOTSUPP, "cannot modify an unsupported parameter");
    }
    overlay(r, ETHTOOL_A_COALESCE_RX_USECS, w.get_mut(1..3).unwrap_or(&mut []))?;
    let adaptive = r.attr(GENL_HDRLEN, ETHTOOL_A_COALESCE_RX_USECS + ADAPTIVE_RX as u16 - 1);
    if let (Some(v), Some(w)) = (adaptive.and_then(|v| v.first()), w.get_mut(ADAPTIVE_RX)) {
        *w = u32::from(*v != 0);
    }
    if let Some(cmd) = w.first_mut() {
        *cmd = ETHTOOL_SCOALESCE;
    }
    ioctl(k, dev, &w).map(drop)
}

/// Names: of features and time stamps everywhere, of counters by device.
#[doc(alias = "strset_parse_request")]
fn strset(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, asked: Asked, out: &mut Vec<Vec<u8>>) -> Done {
    let Some(sets) = r.attr(GENL_HDRLEN, ETHTOOL_A_STRSET_STRINGSETS) else { return Err(Errno::EINVAL.into()) };
    let counts_only = r.attr(GENL_HDRLEN, ETHTOOL_A_STRSET_COUNTS_ONLY).is_some();
    let mut wanted = Vec::new();
    for (_, set) in nl::attrs(sets).filter(|(kind, _)| *kind == ETHTOOL_A_STRINGSETS_STRINGSET).take(32) {
        let id = nl::attrs(set).find(|(a, _)| *a == ETHTOOL_A_STRINGSET_ID).map(|(_, v)| u32_of(v)).transpose()?;
        let id = id.ok_or(Errno::EINVAL)?;
        wanted.push((id, strings(k, id, asked.dev)?));
    }
    let mut b = Vec::new();
    let mut m = Msg::new(&mut b, ETHTOOL_ID, 0, r.hdr.seq, c.port);
    m.body(&[ETHTOOL_MSG_STRSET_GET_REPLY, 1, 0, 0]);
    if let Some(d) = asked.dev.and_then(|d| k.net.devs.get(d)) {
        m.nest(ETHTOOL_A_HEADER | NLA_F_NESTED, |h| {
            h.attr_u32(ETHTOOL_A_HEADER_DEV_INDEX, d.ifindex).attr_str(ETHTOOL_A_HEADER_DEV_NAME, &d.name);
        });
    }
    m.nest(ETHTOOL_A_STRSET_STRINGSETS | NLA_F_NESTED, |m| {
        for (id, names) in wanted.iter().filter(|(_, names)| !names.is_empty()) {
            m.nest(ETHTOOL_A_STRINGSETS_STRINGSET | NLA_F_NESTED, |m| {
                m.attr_u32(ETHTOOL_A_STRINGSET_ID, *id).attr_u32(ETHTOOL_A_STRINGSET_COUNT, names.len() as u32);
                if counts_only {
                    return;
                }
                m.nest(ETHTOOL_A_STRINGSET_STRINGS | NLA_F_NESTED, |m| {
                    for (n, name) in names.iter().enumerate() {
                        m.nest(ETHTOOL_A_STRINGS_STRING | NLA_F_NESTED, |m| {
                            m.attr_u32(ETHTOOL_A_STRING_INDEX, n as u32).attr_str(ETHTOOL_A_STRING_VALUE, name);
                        });
                    }
                });
            });
        }
    });
    out.push(b);
    Ok(())
}

/// `ETH_SS_TS_*` begin here; only the first of them has names that a device here could use.
const ETH_SS_SOF_TIMESTAMPING: u32 = 12;

fn strings(k: &mut Kernel, id: u32, dev: Option<DevId>) -> Done<Vec<String>> {
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    match (id, dev) {
        (ETH_SS_FEATURES, _) => Ok(own(&FEATURES)),
        (ETH_SS_SOF_TIMESTAMPING, _) => Ok(own(&SOF_NAMES)),
        (ETH_SS_STATS, Some(dev)) => {
            let request: Vec<u8> = [ETHTOOL_GSTRINGS, ETH_SS_STATS, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
            let (_, reply) = k.ethtool(dev, &request)?;
            let names = reply.get(12..).unwrap_or(&[]).chunks_exact(ETH_GSTRING_LEN);
            names.map(|n| str_of(n).map(str::to_owned)).collect()
        }
        (ETH_SS_STATS, None) => refuse(Errno::EINVAL, "requested per device strings without dev"),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_bits_in_both_forms() {
        for compact in [true, false] {
            let mut b = Vec::new();
            bitset(&mut Msg::new(&mut b, 16, 0, 0, 0), 3, &FEATURES, 1 << 16, Some(1 << 16 | 1 << 40), compact);
            let (_, body) = nl::messages(&b).next().unwrap();
            let (_, set) = nl::attrs(body).next().unwrap();
            assert_eq!(read_bitset(set, &FEATURES, |_| None), Ok((1 << 16, 1 << 16 | 1 << 40)));
        }
        assert!(read_bitset(&[], &FEATURES, |_| None).is_err());
        // A length that is not its size's.
        let mut b = Vec::new();
        Msg::new(&mut b, 16, 0, 0, 0)
            .attr_u32(ETHTOOL_A_BITSET_SIZE, u32::MAX)
            .attr(ETHTOOL_A_BITSET_VALUE, &[0; 4])
            .attr(ETHTOOL_A_BITSET_MASK, &[0; 4]);
        assert!(read_bitset(&b[16..], &FEATURES, |_| None).is_err());
    }

    #[test]
    fn a_pair_can_be_told_to_pass_no_super_segments() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        let (dev, _) = k.net.add_veth((ns, "v0"), (ns, "v1")).unwrap();
        let form = nl::ErrorForm { ext_ack: true, cap_ack: true };
        let c = Caller { ns, port: 0, uid: 0, process: (1, ""), net_admin: true, strict: false, form, netns: &[] };
        let mut ask = |on: bool| {
            let mut b = Vec::new();
            let mut m = Msg::new(&mut b, ETHTOOL_ID, nl::NLM_F_REQUEST, 1, 0);
            m.body(&[ETHTOOL_MSG_FEATURES_SET, 1, 0, 0]).nest(ETHTOOL_A_HEADER | NLA_F_NESTED, |h| {
                h.attr_str(ETHTOOL_A_HEADER_DEV_NAME, "v0");
            });
            bitset(&mut m, ETHTOOL_A_FEATURES_WANTED, &FEATURES, u64::from(on) << 16, Some(1 << 16), false);
            k.genetlink(0, &c, &b);
            k.net.devs.get(dev).unwrap().features
        };
        let (off, on) = (ask(false), ask(true));
        assert!(!off.tso && off.tso6 && on.tso);
    }
}
