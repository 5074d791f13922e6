//! The addresses that a device takes beside its own (`bridge fdb add … self`), one entry asked for (`bridge fdb get`), and many
//! deleted at once (`bridge fdb flush`).
use super::{Caller, Done, Head, Req, device, fdb, index, refuse};
use crate::drivers::bridge;
use crate::drivers::bridge_fdb::{self, FdbEntry, FdbKind};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_wire::Mac;

fn u16_of(v: &[u8]) -> Option<u16> {
    v.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

/// The device whose own list a request is about, and the address; `None`: it is about a bridge.
pub(super) fn asked(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Option<(DevId, Option<Mac>)> {
    let msg = NdMsg::parse(r.body).filter(|m| m.flags & NTF_SELF != 0 && m.ifindex > 0)?;
    let dev = device(net, c, msg.ifindex as u32).ok()?;
    let kind = &net.devs.get(dev)?.kind;
    // Those have tables of their own.
    if msg.flags & NTF_MASTER != 0 || matches!(kind, DevKind::Bridge(_) | DevKind::Macvlan(_) | DevKind::Vxlan(_)) {
        return None;
    }
    Some((dev, r.attr(NdMsg::LEN, NDA_LLADDR).and_then(|v| v.first_chunk()).map(|m| Mac(*m))))
}

/// Who has to take it does so already: only a card's filter for groups asks for this list.
#[doc(alias = "ndo_dflt_fdb_add")]
pub(super) fn add(net: &mut Net, r: Req<'_>, dev: DevId, mac: Option<Mac>) -> Done {
    let Some(mac) = mac.filter(|m| !m.is_zero()) else { return refuse(Errno::EINVAL, "invalid address") };
    if r.attr(NdMsg::LEN, NDA_VLAN).is_some() {
        return Err(Errno::EINVAL.into());
    }
    let state = NdMsg::parse(r.body).map_or(0, |m| m.state);
    if state != 0 && state & NUD_PERMANENT == 0 {
        return Err(Errno::EINVAL.into());
    }
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let there = d.uc.contains(&mac) || d.packet_groups.contains(&mac.0);
    match (there, mac.is_multicast()) {
        (true, _) if r.flag(NLM_F_EXCL) => Err(Errno::EEXIST.into()),
        (true, _) => Ok(()),
        (false, true) => {
            d.packet_groups.push(mac.0);
            Ok(())
        }
        (false, false) => {
            d.uc.push(mac);
            Ok(())
        }
    }
}

#[doc(alias = "ndo_dflt_fdb_del")]
pub(super) fn del(net: &mut Net, dev: DevId, mac: Option<Mac>) -> Done {
    let Some(mac) = mac else { return refuse(Errno::EINVAL, "invalid address") };
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let at = d.uc.iter().position(|m| *m == mac);
    let group = d.packet_groups.iter().position(|m| *m == mac.0);
    match (at, group) {
        (Some(at), _) => _ = d.uc.remove(at),
        (None, Some(at)) => _ = d.packet_groups.remove(at),
        _ => return Err(Errno::ENOENT.into()),
    }
    Ok(())
}

#[doc(alias = "rtnl_fdb_get")]
pub(super) fn get(net: &Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let attr = |kind| r.attr(NdMsg::LEN, kind);
    let Some(mac) = attr(NDA_LLADDR).and_then(|v| v.first_chunk()).map(|m| Mac(*m)) else {
        return refuse(Errno::EINVAL, "Missing lookup address for fdb get request");
    };
    let dev = match msg.ifindex {
        0 => None,
        i => match device(net, c, i as u32) {
            Ok(dev) => Some(dev),
            Err(_) => return refuse(Errno::ENODEV, "Unknown device ifindex"),
        },
    };
    let master = attr(NDA_MASTER).and_then(|v| nl::u32_at(v, 0)).filter(|i| *i != 0);
    let at = match (dev, master) {
        (Some(_), Some(_)) => return refuse(Errno::EINVAL, "Master and device are mutually exclusive"),
        (None, Some(i)) => match device(net, c, i) {
            Ok(br) => br,
            Err(_) => return refuse(Errno::EINVAL, "Unknown master ifindex"),
        },
        (Some(dev), None) if msg.flags == 0 || msg.flags & NTF_MASTER != 0 => {
            match net.devs.get(dev).and_then(|d| d.master).filter(|_| bridge::port(net, dev).is_some()) {
                Some(br) => br,
                None => return refuse(Errno::EINVAL, "Device is not a bridge port"),
            }
        }
        (Some(_), None) if msg.flags & NTF_SELF == 0 => return refuse(Errno::EINVAL, "Missing NTF_SELF"),
        (Some(dev), None) => dev,
        (None, None) => return refuse(Errno::ENODEV, "No device specified"),
    };
    if bridge::of(net, at).is_none() {
        return refuse(Errno::EOPNOTSUPP, "Fdb get operation not supported by device");
    }
    let key = (mac, attr(NDA_VLAN).and_then(u16_of).unwrap_or(0));
    let Some(e) = bridge_fdb::entry(net, at, key) else { return refuse(Errno::ENOENT, "Fdb entry not found") };
    fdb::fill(net, at, key, &e, out, Head::reply(RTM_NEWNEIGH, c, r));
    Ok(())
}

/// What of a bridge's table a request to delete is about.
struct Which {
    port: Option<u32>,
    vid: u16,
    /// Bits that count, and what they are to be: permanent, static.
    state: (u16, u16),
    /// Entries here have none of the flags.
    none: bool,
}

impl Which {
    fn fits(&self, net: &Net, br: DevId, vid: u16, e: &FdbEntry) -> bool {
        let is = match e.kind {
            FdbKind::Local => NUD_PERMANENT | NUD_NOARP,
            FdbKind::Static => NUD_NOARP,
            FdbKind::Learned => 0,
        };
        let (mask, wanted) = self.state;
        !self.none
            && (self.vid == 0 || self.vid == vid)
            && self.port.is_none_or(|i| index(net, Some(e.port.unwrap_or(br))) == i)
            && is & mask == wanted & mask
    }
}

#[doc(alias = "__fdb_flush_validate_ifindex")]
fn flushable(net: &Net, c: &Caller<'_>, br: DevId, port: u32) -> Done {
    let Some(dev) = net.dev_by_index(c.ns, port) else {
        return refuse(Errno::EINVAL, "bridge: Unknown flush device ifindex");
    };
    if bridge::of(net, dev).is_some() {
        return match dev == br {
            true => Ok(()),
            false => refuse(Errno::EINVAL, "bridge: Flush bridge device does not match target bridge device"),
        };
    }
    match net.devs.get(dev).and_then(|d| d.master).filter(|_| bridge::port(net, dev).is_some()) {
        None => refuse(Errno::EINVAL, "bridge: Flush device is not a bridge or bridge port"),
        Some(master) if master != br => refuse(Errno::EINVAL, "bridge: Port belongs to a different bridge device"),
        Some(_) => Ok(()),
    }
}

#[doc(alias = "br_fdb_delete_bulk")]
pub(super) fn flush(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.ifindex <= 0 {
        return refuse(Errno::EINVAL, "invalid ifindex");
    }
    let dev = device(net, c, msg.ifindex as u32)?;
    let own = bridge::of(net, dev).is_some();
    let master = net.devs.get(dev).and_then(|d| d.master).filter(|_| bridge::port(net, dev).is_some());
    let master = master.filter(|_| msg.flags == 0 || msg.flags & NTF_MASTER != 0);
    let br = if own { dev } else { master.ok_or(Errno::EOPNOTSUPP)? };
    let mut which = Which { port: (!own).then_some(msg.ifindex as u32), vid: 0, state: (0, msg.state), none: false };
    for (kind, v) in r.attrs(NdMsg::LEN) {
        match kind {
            NDA_VLAN => which.vid = u16_of(v).ok_or(Errno::EINVAL)?,
            NDA_IFINDEX => {
                let port = nl::u32_at(v, 0).ok_or(Errno::EINVAL)?;
                flushable(net, c, br, port)?;
                which.port = Some(port);
            }
            NDA_NDM_STATE_MASK => which.state.0 = u16_of(v).ok_or(Errno::EINVAL)?,
            NDA_NDM_FLAGS_MASK => {
                which.none = v.first().is_some_and(|mask| msg.flags & mask & !(NTF_SELF | NTF_MASTER) != 0)
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let gone: Vec<_> =
        bridge_fdb::entries(net, br).filter(|((_, vid), e)| which.fits(net, br, *vid, e)).map(|e| e.0).collect();
    bridge_fdb::forget(net, br, |key, _| gone.contains(key));
    Ok(())
}
