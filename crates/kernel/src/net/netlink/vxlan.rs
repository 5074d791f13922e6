//! What netlink says of a VXLAN (`IFLA_INFO_DATA` of kind vxlan), and its table of addresses (`bridge fdb … self`).
use super::vlan::Link;
use super::{Caller, Done, Head, Req, device, index, refuse, u32_of};
use crate::drivers::vxlan::{self, DEFAULT_PORT, HEADROOM, Remote, VxFdb, Vxlan};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use belljar_abi::netlink::{self as nl, Msg, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::Mac;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// RTN_UNICAST, in `ndm_type`.
const UNICAST: u8 = 1;

fn be16(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

fn u8_of(v: &[u8]) -> Done<u8> {
    v.first().copied().ok_or(Errno::EINVAL.into())
}

fn v4(v: &[u8]) -> Done<Ipv4Addr> {
    super::v4_of(v)
}

/// Settings over those that `v` has; what is not here is refused.
#[doc(alias = "vxlan_nl2conf")]
fn settings(net: &Net, c_ns: NsId, v: &mut Vxlan, data: &[u8], new: bool) -> Done {
    for (kind, value) in nl::attrs(data) {
        match kind {
            IFLA_VXLAN_ID => match u32_of(value)? {
                vni if vni >= 1 << 24 => return Err(Errno::ERANGE.into()),
                vni if !new && vni != v.vni => return refuse(Errno::EOPNOTSUPP, "Cannot change VNI"),
                vni => v.vni = vni,
            },
            IFLA_VXLAN_GROUP => match v4(value)? {
                group if group.is_multicast() => return refuse(Errno::EOPNOTSUPP, "Multicast is not supported"),
                to => v.remote = to,
            },
            IFLA_VXLAN_LOCAL => match v4(value)? {
                from if from.is_multicast() => return refuse(Errno::EINVAL, "Local address cannot be multicast"),
                from => v.local = from,
            },
            IFLA_VXLAN_LINK => {
                let lower = net.dev_by_index(c_ns, u32_of(value)?).filter(|_| u32_of(value) != Ok(0));
                match (lower, new) {
                    (None, true) => return refuse(Errno::ENODEV, "Invalid local interface, device not found"),
                    (lower, true) => v.lower = lower,
                    (lower, false) if lower == v.lower => {}
                    _ => return Err(Errno::EOPNOTSUPP.into()),
                }
            }
            IFLA_VXLAN_TTL => v.ttl = u8_of(value)?,
            IFLA_VXLAN_TOS => v.tos = u8_of(value)?,
            IFLA_VXLAN_LEARNING => v.learning = u8_of(value)? != 0,
            IFLA_VXLAN_AGEING => v.ageing = u32_of(value)?,
            IFLA_VXLAN_PORT => match be16(value)? {
                port if !new && port != v.port => return refuse(Errno::EOPNOTSUPP, "Cannot change port"),
                port => v.port = port,
            },
            IFLA_VXLAN_PORT_RANGE => {
                let range = (be16(value)?, be16(value.get(2..).unwrap_or(&[]))?);
                if range.0 > range.1 {
                    return refuse(Errno::EINVAL, "Invalid source port range");
                }
                if !new && range != v.ports {
                    return refuse(Errno::EOPNOTSUPP, "Cannot change port range");
                }
                v.ports = range;
            }
            IFLA_VXLAN_UDP_CSUM => match (u8_of(value)? != 0, new) {
                (on, false) if on != v.udp_csum => return refuse(Errno::EOPNOTSUPP, "Cannot change UDP_CSUM flag"),
                (on, _) => v.udp_csum = on,
            },
            IFLA_VXLAN_TTL_INHERIT if !new => {
                return refuse(Errno::EOPNOTSUPP, "vxlan: cannot change TTL_INHERIT flag");
            }
            IFLA_VXLAN_TTL_INHERIT => v.ttl_inherit = true,
            IFLA_VXLAN_UDP_ZERO_CSUM6_TX if !new => {
                return refuse(Errno::EOPNOTSUPP, "vxlan: cannot change UDP_ZERO_CSUM6_TX flag");
            }
            IFLA_VXLAN_UDP_ZERO_CSUM6_RX if !new => {
                return refuse(Errno::EOPNOTSUPP, "vxlan: cannot change UDP_ZERO_CSUM6_RX flag");
            }
            IFLA_VXLAN_UDP_ZERO_CSUM6_TX => v.no_csum6.0 = u8_of(value)? != 0,
            IFLA_VXLAN_UDP_ZERO_CSUM6_RX => v.no_csum6.1 = u8_of(value)? != 0,
            IFLA_VXLAN_LIMIT => match u32_of(value)? {
                _ if !new => return refuse(Errno::EOPNOTSUPP, "Cannot change limit"),
                most => v.addrmax = most,
            },
            // Off is what they are here.
            IFLA_VXLAN_PROXY
            | IFLA_VXLAN_RSC
            | IFLA_VXLAN_L2MISS
            | IFLA_VXLAN_L3MISS
            | IFLA_VXLAN_COLLECT_METADATA
            | IFLA_VXLAN_DF
            | IFLA_VXLAN_LABEL
            | IFLA_VXLAN_REMCSUM_TX
            | IFLA_VXLAN_REMCSUM_RX
                if !value.is_empty() && value.iter().all(|b| *b == 0) => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(())
}

#[doc(alias = "vxlan_newlink")]
pub(crate) fn create(net: &mut Net, c_ns: NsId, (ns, name): (NsId, &str), link: Link, data: &[u8]) -> Done<DevId> {
    if link != Link::None {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if data.is_empty() {
        return refuse(Errno::EINVAL, "Required attributes not provided to perform the operation");
    }
    let mut v = Vxlan {
        ns: c_ns,
        lower: None,
        vni: 0,
        port: DEFAULT_PORT,
        remote: Ipv4Addr::UNSPECIFIED,
        local: Ipv4Addr::UNSPECIFIED,
        ttl: 0,
        ttl_inherit: false,
        tos: 0,
        learning: true,
        ageing: 300,
        ports: (0, 0),
        udp_csum: true,
        no_csum6: (false, false),
        addrmax: 0,
        fdb: BTreeMap::new(),
    };
    settings(net, c_ns, &mut v, data, true)?;
    let name = net.alloc_name(ns, name)?;
    match net.add_vxlan((ns, &name), v) {
        Err(Errno::EEXIST) if net.dev_by_name(ns, &name).is_none() => {
            refuse(Errno::EEXIST, "A VXLAN device with the specified VNI already exists")
        }
        done => Ok(done?),
    }
}

/// The largest MTU over the device below, if there is one.
pub(crate) fn most_mtu(net: &Net, dev: DevId) -> Option<u32> {
    let lower = vxlan::of(net, dev)?.lower?;
    Some(net.devs.get(lower)?.mtu.saturating_sub(HEADROOM))
}

#[doc(alias = "vxlan_changelink")]
pub(crate) fn change(net: &mut Net, dev: DevId, data: &[u8]) -> Done {
    let before = vxlan::of(net, dev).cloned().ok_or(Errno::EOPNOTSUPP)?;
    let mut v = before.clone();
    let here = net.devs.get(dev).map_or(v.ns, |d| d.ns);
    settings(net, here, &mut v, data, false)?;
    let (old, new) = (before.remote, v.remote);
    let default = Remote { ip: new, port: v.port, vni: v.vni, dev: v.lower };
    if let Some(slot) = net.vxlan_mut(dev) {
        *slot = v;
    }
    if old == new {
        return Ok(());
    }
    // The entry of the zero address has the new destination instead of the old one.
    let entry = before.fdb.get(&Mac::ZERO);
    let mut rest: Vec<Remote> = entry.map_or_else(Vec::new, |e| e.remotes.clone());
    rest.retain(|r| r.ip != old);
    if !new.is_unspecified() {
        rest.insert(0, default);
    }
    match rest.is_empty() {
        true => {
            vxlan::fdb_del(net, dev, Mac::ZERO);
        }
        false => vxlan::fdb_set(net, dev, Mac::ZERO, NUD_REACHABLE | NUD_PERMANENT, rest),
    }
    Ok(())
}

#[doc(alias = "vxlan_fill_info")]
pub(crate) fn fill(net: &Net, v: &Vxlan, m: &mut Msg<'_>) {
    m.attr_u32(IFLA_VXLAN_ID, v.vni);
    if !v.remote.is_unspecified() {
        m.attr(IFLA_VXLAN_GROUP, &v.remote.octets());
    }
    if v.lower.is_some() {
        m.attr_u32(IFLA_VXLAN_LINK, index(net, v.lower));
    }
    if !v.local.is_unspecified() {
        m.attr(IFLA_VXLAN_LOCAL, &v.local.octets());
    }
    m.attr_u8(IFLA_VXLAN_TTL, v.ttl)
        .attr_u8(IFLA_VXLAN_TTL_INHERIT, v.ttl_inherit.into())
        .attr_u8(IFLA_VXLAN_TOS, v.tos);
    m.attr_u8(IFLA_VXLAN_DF, 0).attr_u32(IFLA_VXLAN_LABEL, 0).attr_u8(IFLA_VXLAN_LEARNING, v.learning.into());
    for (kind, on) in [
        (IFLA_VXLAN_PROXY, false),
        (IFLA_VXLAN_RSC, false),
        (IFLA_VXLAN_L2MISS, false),
        (IFLA_VXLAN_L3MISS, false),
        (IFLA_VXLAN_COLLECT_METADATA, false),
        (IFLA_VXLAN_UDP_ZERO_CSUM6_TX, v.no_csum6.0),
        (IFLA_VXLAN_UDP_ZERO_CSUM6_RX, v.no_csum6.1),
        (IFLA_VXLAN_REMCSUM_TX, false),
        (IFLA_VXLAN_REMCSUM_RX, false),
    ] {
        m.attr_u8(kind, on.into());
    }
    m.attr_u32(IFLA_VXLAN_AGEING, v.ageing).attr_u32(IFLA_VXLAN_LIMIT, v.addrmax);
    m.attr(IFLA_VXLAN_PORT, &v.port.to_be_bytes()).attr_u8(IFLA_VXLAN_UDP_CSUM, v.udp_csum.into());
    m.attr(IFLA_VXLAN_PORT_RANGE, &[v.ports.0.to_be_bytes(), v.ports.1.to_be_bytes()].concat());
}

/// One destination of one address.
#[doc(alias = "vxlan_fdb_info")]
pub(crate) fn fill_fdb(net: &Net, dev: DevId, mac: Mac, e: &VxFdb, r: &Remote, out: &mut Vec<u8>, h: Head) {
    let Some(v) = vxlan::of(net, dev) else { return };
    let ifindex = index(net, Some(dev)) as i32;
    let msg = NdMsg { family: abi::AF_BRIDGE as u8, ifindex, state: e.state, flags: NTF_SELF, kind: UNICAST };
    let now = net.env.jiffies();
    let ago = |at: u32| now.wrapping_sub(at) as u64 * 100 / u64::from(net.env.hz.max(1));
    let info: Vec<u8> = [ago(e.used), 0, ago(e.updated), 0].iter().flat_map(|v| (*v as u32).to_ne_bytes()).collect();
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(NDA_LLADDR, &mac.0).attr(NDA_DST, &r.ip.octets());
    if r.port != v.port {
        m.attr(NDA_PORT, &r.port.to_be_bytes());
    }
    if r.vni != v.vni {
        m.attr_u32(NDA_VNI, r.vni);
    }
    if r.dev.is_some() {
        m.attr_u32(NDA_IFINDEX, index(net, r.dev));
    }
    m.attr(NDA_CACHEINFO, &info);
}

/// What a request says of an address: whose, and where it is.
struct Entry {
    dev: DevId,
    mac: Mac,
    to: Option<Remote>,
    state: u16,
}

/// A request is about a VXLAN's own table.
pub(crate) fn is_mine(net: &Net, c: &Caller<'_>, r: Req<'_>) -> bool {
    let Some(msg) = NdMsg::parse(r.body).filter(|m| m.ifindex > 0) else { return false };
    let dev = net.dev_by_index(c.ns, msg.ifindex as u32);
    msg.flags & NTF_SELF != 0 && msg.flags & NTF_MASTER == 0 && dev.is_some_and(|d| vxlan::of(net, d).is_some())
}

#[doc(alias = "vxlan_fdb_parse")]
fn entry(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Entry> {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let dev = device(net, c, msg.ifindex as u32)?;
    let v = vxlan::of(net, dev).ok_or(Errno::EOPNOTSUPP)?;
    let (mut mac, mut ip, mut port, mut vni, mut via) = (None, None, v.port, v.vni, None);
    for (kind, value) in r.attrs(NdMsg::LEN) {
        match kind {
            NDA_LLADDR => mac = value.first_chunk().map(|m| Mac(*m)),
            NDA_DST if value.len() == 4 => ip = Some(v4(value)?),
            NDA_DST => return refuse(Errno::EAFNOSUPPORT, "Unsupported address family"),
            NDA_PORT => port = be16(value)?,
            NDA_VNI | NDA_SRC_VNI => vni = u32_of(value)?,
            NDA_IFINDEX => match net.dev_by_index(v.ns, u32_of(value)?) {
                Some(d) => via = Some(d),
                None => return refuse(Errno::EADDRNOTAVAIL, "Device not found"),
            },
            NDA_CACHEINFO => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let Some(mac) = mac else { return refuse(Errno::EINVAL, "invalid address") };
    let to = ip.filter(|ip| !ip.is_unspecified()).map(|ip| Remote { ip, port, vni, dev: via });
    Ok(Entry { dev, mac, to, state: msg.state })
}

#[doc(alias = "vxlan_fdb_add")]
pub(crate) fn fdb_add(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let Entry { dev, mac, to, state } = entry(net, c, r)?;
    if state & (NUD_PERMANENT | NUD_REACHABLE) == 0 {
        return refuse(Errno::EINVAL, "RTM_NEWNEIGH with invalid state");
    }
    let to = to.ok_or(Errno::EINVAL)?;
    if to.ip.is_multicast() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let group = mac.is_multicast() || mac.is_zero();
    let known = vxlan::entries(net, dev).any(|(m, _)| m == mac);
    if !known {
        return match () {
            () if !r.flag(NLM_F_CREATE) => Err(Errno::ENOENT.into()),
            () if r.flag(NLM_F_REPLACE) && group => refuse(Errno::EOPNOTSUPP, "Cannot replace non-existing FDB"),
            () if !vxlan::has_room(net, dev) => Err(Errno::ENOSPC.into()),
            () => {
                vxlan::fdb_set(net, dev, mac, state, vec![to]);
                Ok(())
            }
        };
    }
    match () {
        () if r.flag(NLM_F_EXCL) => Err(Errno::EEXIST.into()),
        () if r.flag(NLM_F_REPLACE) && group => refuse(Errno::EOPNOTSUPP, "Cannot replace non-unicast fdb entries"),
        () if r.flag(NLM_F_REPLACE) => {
            vxlan::fdb_set(net, dev, mac, state, vec![to]);
            Ok(())
        }
        () if r.flag(NLM_F_APPEND) && group => Ok(vxlan::fdb_append(net, dev, mac, to)?),
        // A single address is in one place.
        () => Ok(()),
    }
}

#[doc(alias = "vxlan_fdb_delete")]
pub(crate) fn fdb_del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let Entry { dev, mac, to, .. } = entry(net, c, r)?;
    let known = vxlan::of(net, dev).and_then(|v| v.fdb.get(&mac)).cloned().ok_or(Errno::ENOENT)?;
    if let Some(to) = to {
        // One that is not there is no mistake; the device that it leaves by is a part of it.
        if !known.remotes.contains(&to) {
            return Ok(());
        }
        let rest: Vec<Remote> = known.remotes.iter().filter(|r| **r != to).copied().collect();
        if !rest.is_empty() {
            vxlan::fdb_set(net, dev, mac, known.state, rest);
            return Ok(());
        }
    }
    vxlan::fdb_del(net, dev, mac);
    Ok(())
}
