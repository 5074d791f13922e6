//! Groups of bridges: what `bridge mdb` shows and changes.
use super::bridge::left;
use super::{Caller, Done, Dump, Head, Req, device, index, notify, refuse};
use crate::drivers::bridge_mcast::{self as mcast, BrIp, BrMcast, FAMILIES, GroupAddr, MdbEntry, PortGroup};
use crate::drivers::{bridge, bridge_stp};
use crate::ids::DevId;
use crate::net::Net;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_P_IP, ETH_P_IPV6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// `struct br_port_msg`, `struct br_mdb_entry`.
const PORT_MSG: usize = 8;
const MDB_ENTRY: usize = 28;
/// Who put an entry there.
pub const RTPROT_KERNEL: u8 = 2;
const RTPROT_STATIC: u8 = 4;
const MCAST_EXCLUDE: u8 = 0;
const MCAST_INCLUDE: u8 = 1;

/// `struct br_port_msg`: the bridge.
fn head(net: &Net, br: DevId, m: &mut Msg<'_>) {
    let mut msg = [0; PORT_MSG];
    msg[0] = abi::AF_BRIDGE as u8;
    msg[4..].copy_from_slice(&index(net, Some(br)).to_ne_bytes());
    m.body(&msg);
}

/// `struct br_mdb_entry`.
fn entry(ifindex: u32, (state, flags): (u8, u8), ip: &BrIp) -> Vec<u8> {
    let mut b = vec![0; MDB_ENTRY];
    b[..4].copy_from_slice(&ifindex.to_ne_bytes());
    (b[4], b[5]) = (state, flags);
    b[6..8].copy_from_slice(&ip.vid.to_ne_bytes());
    let proto = match ip.group {
        GroupAddr::V4(a) => {
            b[8..12].copy_from_slice(&a.octets());
            ETH_P_IP
        }
        GroupAddr::V6(a) => {
            b[8..24].copy_from_slice(&a.octets());
            ETH_P_IPV6
        }
        GroupAddr::L2(mac) => {
            b[8..14].copy_from_slice(&mac.0);
            0
        }
    };
    b[24..26].copy_from_slice(&proto.to_be_bytes());
    b
}

/// The attributes inside MDBA_MDB_ENTRY_INFO, behind the fixed part and without one of their own around them.
fn info(m: &mut Msg<'_>, fixed: &[u8], rest: impl FnOnce(&mut Msg<'_>)) {
    m.nest(MDBA_MDB_ENTRY_INFO, |m| {
        m.body(fixed);
        rest(m);
    });
}

fn source(m: &mut Msg<'_>, kind: u16, s: IpAddr) {
    m.attr(kind, &super::octets(s));
}

fn group_info(net: &Net, m: &mut Msg<'_>, ip: &BrIp, g: &PortGroup, sources: bool) {
    let state = if g.permanent { MDB_PERMANENT } else { MDB_TEMPORARY };
    info(m, &entry(index(net, Some(g.port)), (state, 0), ip), |m| {
        m.attr_u32(MDBA_MDB_EATTR_TIMER, left(net, g.until) as u32).attr_u8(MDBA_MDB_EATTR_RTPROT, g.proto);
        if let Some(s) = ip.src {
            source(m, MDBA_MDB_EATTR_SOURCE, s);
        }
        if !sources {
            return;
        }
        if !g.sources.is_empty() {
            m.nest(MDBA_MDB_EATTR_SRC_LIST | NLA_F_NESTED, |m| {
                for (s, until) in &g.sources {
                    m.nest(MDBA_MDB_SRCLIST_ENTRY | NLA_F_NESTED, |m| {
                        source(m, MDBA_MDB_SRCATTR_ADDRESS, *s);
                        m.attr_u32(MDBA_MDB_SRCATTR_TIMER, left(net, *until) as u32);
                    });
                }
            });
        }
        m.attr_u8(MDBA_MDB_EATTR_GROUP_MODE, if g.exclude { MCAST_EXCLUDE } else { MCAST_INCLUDE });
    });
}

/// One source of a group, as an entry of its own.
fn source_info(net: &Net, m: &mut Msg<'_>, ip: &BrIp, g: &PortGroup, s: IpAddr) {
    let blocked = g.sources.get(&s).is_some_and(Option::is_none);
    let ip = BrIp { src: Some(s), ..*ip };
    let flags = (MDB_TEMPORARY, if blocked { MDB_FLAGS_BLOCKED } else { 0 });
    info(m, &entry(index(net, Some(g.port)), flags, &ip), |m| {
        m.attr_u32(MDBA_MDB_EATTR_TIMER, 0).attr_u8(MDBA_MDB_EATTR_RTPROT, g.proto);
        source(m, MDBA_MDB_EATTR_SOURCE, s);
    });
}

fn host_info(net: &Net, m: &mut Msg<'_>, br: DevId, ip: &BrIp, e: Option<&MdbEntry>) {
    info(m, &entry(index(net, Some(br)), (MDB_TEMPORARY, 0), ip), |m| {
        m.attr_u32(MDBA_MDB_EATTR_TIMER, left(net, e.and_then(|e| e.host)) as u32);
        if let Some(s) = ip.src {
            source(m, MDBA_MDB_EATTR_SOURCE, s);
        }
    });
}

/// The mode of a group's list is told where sources count.
fn detailed(b: &BrMcast, ip: &BrIp) -> bool {
    ip.src.is_none() && ip.family().is_some_and(|f| b.has_sources(f))
}

/// Bridge by bridge: its groups, the newest first, then the ports with routers.
#[doc(alias = "br_mdb_dump")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let only = nl::u32_at(r.body, 4).filter(|i| *i != 0);
    for br in net.ns_devs(c.ns) {
        let Some(b) = mcast::of(net, br).filter(|_| only.is_none_or(|i| i == index(net, Some(br)))) else { continue };
        let mut all: Vec<(&BrIp, &MdbEntry)> = b.mdb.iter().collect();
        all.sort_by_key(|(_, e)| Reverse(e.made));
        let h = Head::dump(RTM_GETMDB, d);
        let mut m = Msg::new(d.room(), h.kind, h.flags, h.seq, h.port);
        head(net, br, &mut m);
        m.nest(MDBA_MDB, |m| {
            for (ip, e) in all {
                fill_entry(net, br, b, ip, e, m);
            }
        });
        routers(net, br, &mut m);
    }
}

fn fill_entry(net: &Net, br: DevId, b: &BrMcast, ip: &BrIp, e: &MdbEntry, m: &mut Msg<'_>) {
    for g in e.ports.iter().filter(|g| ip.src.is_none() && !g.sources.is_empty()) {
        m.nest(MDBA_MDB_ENTRY, |m| {
            g.sources.keys().rev().for_each(|s| source_info(net, m, ip, g, *s));
        });
    }
    m.nest(MDBA_MDB_ENTRY, |m| {
        if e.host.is_some() {
            host_info(net, m, br, ip, Some(e));
        }
        e.ports.iter().for_each(|g| group_info(net, m, ip, g, detailed(b, ip)));
    });
}

#[doc(alias = "br_rports_fill_info")]
fn routers(net: &Net, br: DevId, m: &mut Msg<'_>) {
    let all = bridge::of(net, br).map_or(&[][..], |b| &b.ports);
    let is_router = |d: &DevId| bridge::port(net, *d).is_some_and(|p| FAMILIES.iter().any(|f| p.mcast.is_router(*f)));
    if !all.iter().any(is_router) {
        return;
    }
    m.nest(MDBA_ROUTER, |m| {
        all.iter().rev().copied().filter(is_router).for_each(|dev| router(net, dev, m));
    });
}

fn router(net: &Net, dev: DevId, m: &mut Msg<'_>) {
    let Some(p) = bridge::port(net, dev).map(|p| p.mcast) else { return };
    let [four, six] = p.routers.map(|t| left(net, t) as u32);
    m.nest(MDBA_ROUTER_PORT, |m| {
        m.body(&index(net, Some(dev)).to_ne_bytes()).attr_u32(MDBA_ROUTER_PATTR_TIMER, four.max(six));
        m.attr_u8(MDBA_ROUTER_PATTR_TYPE, p.router);
        m.attr_u32(MDBA_ROUTER_PATTR_INET_TIMER, four).attr_u32(MDBA_ROUTER_PATTR_INET6_TIMER, six);
    });
}

fn message(net: &Net, br: DevId, out: &mut Vec<u8>, h: Head, fill: impl FnOnce(&mut Msg<'_>)) {
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    head(net, br, &mut m);
    m.nest(MDBA_MDB, |m| {
        m.nest(MDBA_MDB_ENTRY, fill);
    });
}

/// What is told of a port, or of the machine, that joined.
pub(crate) fn fill_one(net: &Net, br: DevId, ip: &BrIp, port: Option<DevId>, out: &mut Vec<u8>, h: Head) {
    let Some(b) = mcast::of(net, br) else { return };
    let e = b.mdb.get(ip);
    message(net, br, out, h, |m| match port {
        None => host_info(net, m, br, ip, e),
        Some(dev) => {
            let g = e.and_then(|e| e.ports.iter().find(|g| g.port == dev));
            g.into_iter().for_each(|g| group_info(net, m, ip, g, detailed(b, ip)));
        }
    });
}

pub(crate) fn fill_group(net: &Net, br: DevId, ip: &BrIp, g: &PortGroup, out: &mut Vec<u8>, h: Head) {
    let Some(b) = mcast::of(net, br) else { return };
    message(net, br, out, h, |m| group_info(net, m, ip, g, detailed(b, ip)));
}

pub(crate) fn fill_router(net: &Net, br: DevId, dev: DevId, out: &mut Vec<u8>, h: Head) {
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    head(net, br, &mut m);
    m.nest(MDBA_ROUTER, |m| {
        m.nest(MDBA_ROUTER_PORT, |m| {
            m.body(&index(net, Some(dev)).to_ne_bytes());
        });
    });
}

/// What a request is about.
struct Wanted {
    br: DevId,
    /// `None`: the bridge itself.
    port: Option<DevId>,
    ip: BrIp,
    permanent: bool,
}

/// Unknown numbers are refused in the words of the kernel, one after another.
fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Wanted> {
    let br = match nl::u32_at(r.body, 4) {
        None => return Err(Errno::EINVAL.into()),
        Some(0) => return refuse(Errno::EINVAL, "Invalid bridge ifindex"),
        Some(i) => device(net, c, i).or_else(|_| refuse(Errno::ENODEV, "Bridge device doesn't exist"))?,
    };
    if mcast::of(net, br).is_none() {
        return refuse(Errno::EOPNOTSUPP, "Device does not support MDB operations");
    }
    let e = r.attr(PORT_MSG, MDBA_SET_ENTRY).and_then(|v| v.first_chunk::<MDB_ENTRY>());
    let Some(e) = e else { return refuse(Errno::EINVAL, "Missing MDBA_SET_ENTRY attribute") };
    let mut ip = group_of(e)?;
    if e[4] > MDB_PERMANENT {
        return refuse(Errno::EINVAL, "Unknown entry state");
    }
    let ifindex = u32::from_ne_bytes([e[0], e[1], e[2], e[3]]);
    let dev = match ifindex {
        0 => return refuse(Errno::EINVAL, "Zero entry ifindex is not allowed"),
        i => device(net, c, i).or_else(|_| refuse(Errno::ENODEV, "Port doesn't exist"))?,
    };
    for (kind, v) in r.attr(PORT_MSG, MDBA_SET_ENTRY_ATTRS).map(nl::attrs).into_iter().flatten() {
        match (kind, ip.group) {
            (MDBE_ATTR_SOURCE, GroupAddr::V4(_)) => ip.src = Some(super::v4_of(v)?.into()),
            (MDBE_ATTR_SOURCE, GroupAddr::V6(_)) => ip.src = Some(super::v6_of(v)?.into()),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(Wanted { br, port: (dev != br).then_some(dev), ip, permanent: e[4] == MDB_PERMANENT })
}

/// The group of a `struct br_mdb_entry`.
#[doc(alias = "rtnl_validate_mdb_entry")]
fn group_of(e: &[u8; MDB_ENTRY]) -> Done<BrIp> {
    let vid = u16::from_ne_bytes([e[6], e[7]]);
    let group = match u16::from_be_bytes([e[24], e[25]]) {
        ETH_P_IP => {
            let a = Ipv4Addr::new(e[8], e[9], e[10], e[11]);
            if !a.is_multicast() {
                return refuse(Errno::EINVAL, "IPv4 entry group address is not multicast or 0.0.0.0");
            }
            if a.octets()[..3] == [224, 0, 0] {
                return refuse(Errno::EINVAL, "IPv4 entry group address is local multicast");
            }
            GroupAddr::V4(a)
        }
        ETH_P_IPV6 => {
            let a = Ipv6Addr::from(*e[8..24].first_chunk::<16>().ok_or(Errno::EINVAL)?);
            if a == belljar_wire::ipv6::ALL_NODES {
                return refuse(Errno::EINVAL, "IPv6 entry group address is link-local all nodes");
            }
            GroupAddr::V6(a)
        }
        0 => {
            let mac = Mac([e[8], e[9], e[10], e[11], e[12], e[13]]);
            if !mac.is_multicast() {
                return refuse(Errno::EINVAL, "L2 entry group is not multicast");
            }
            GroupAddr::L2(mac)
        }
        _ => return refuse(Errno::EINVAL, "Unknown entry protocol"),
    };
    if vid >= 4095 {
        return refuse(Errno::EINVAL, "Invalid entry VLAN id");
    }
    Ok(BrIp { group, src: None, vid })
}

/// `bridge mdb add|del dev BRIDGE port PORT grp GROUP …`.
#[doc(alias = "br_mdb_add")]
#[doc(alias = "br_mdb_del")]
pub(crate) fn change(net: &mut Net, c: &Caller<'_>, r: Req<'_>, add: bool) -> Done {
    let w = parse(net, c, r)?;
    if !add {
        return del(net, &w);
    }
    if !net.devs.get(w.br).is_some_and(|d| d.up) {
        return refuse(Errno::EINVAL, "bridge: Bridge device is not running");
    }
    if !mcast::of(net, w.br).is_some_and(|m| m.enabled) {
        return refuse(Errno::EINVAL, "bridge: Bridge's multicast processing is disabled");
    }
    if let Some(port) = w.port {
        let Some(p) = bridge::port(net, port) else {
            return refuse(Errno::EINVAL, "bridge: Net device is not a bridge port");
        };
        if net.devs.get(port).and_then(|d| d.master) != Some(w.br) {
            return refuse(Errno::EINVAL, "bridge: Port belongs to a different bridge device");
        }
        if p.stp.state == bridge_stp::BR_STATE_DISABLED && !w.permanent {
            return refuse(Errno::EINVAL, "bridge: Port is in disabled state and entry is not permanent");
        }
    }
    if w.ip.family().is_none() && !w.permanent {
        return refuse(Errno::EINVAL, "bridge: Only permanent L2 entries allowed");
    }
    if w.port.is_none() && w.permanent {
        return refuse(Errno::EINVAL, "bridge: Flags are not allowed for host groups");
    }
    put(net, &w)
}

fn put(net: &mut Net, w: &Wanted) -> Done {
    let age = mcast::of(net, w.br).map_or(0, |m| m.membership_interval);
    let until = if w.permanent { None } else { mcast::later(net, w.br, age) };
    let Some(e) = mcast::group(net, w.br, w.ip) else { return Err(Errno::E2BIG.into()) };
    let Some(port) = w.port else {
        if e.host.is_some() {
            return refuse(Errno::EEXIST, "bridge: Group is already joined by host");
        }
        e.host = until;
        notify::mdb(net, RTM_NEWMDB, w.br, &w.ip, None);
        return Ok(());
    };
    if e.ports.iter().any(|g| g.port == port) {
        let text = match w.ip.src {
            None => "bridge: (*, G) group is already joined by port",
            Some(_) => "bridge: (S, G) group is already joined by port",
        };
        return refuse(Errno::EEXIST, text);
    }
    let (permanent, exclude) = (w.permanent, w.ip.src.is_none());
    let g = PortGroup { port, permanent, proto: RTPROT_STATIC, until, exclude, sources: BTreeMap::new() };
    e.ports.insert(0, g);
    notify::mdb(net, RTM_NEWMDB, w.br, &w.ip, Some(port));
    Ok(())
}

fn del(net: &mut Net, w: &Wanted) -> Done {
    let there = mcast::of(net, w.br).and_then(|m| m.mdb.get(&w.ip)).is_some_and(|e| match w.port {
        None => e.host.is_some(),
        Some(p) => e.ports.iter().any(|g| g.port == p),
    });
    if !there {
        return Err(Errno::EINVAL.into());
    }
    mcast::remove(net, w.br, &w.ip, |g| Some(g.port) == w.port, w.port.is_none());
    Ok(())
}
