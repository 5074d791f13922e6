//! What changed, for those who are members of the groups (`ip monitor`, NetworkManager, …). Nothing is written while nobody
//! listens.
use super::{Head, addr, fdb, link, mdb, neigh, route, route6, rule, vxlan};
use crate::drivers::bridge_fdb::{FdbEntry, FdbKey};
use crate::drivers::bridge_mcast::{BrIp, PortGroup};
use crate::drivers::vxlan::{Remote, VxFdb};
use crate::ids::{DevId, NeighId, NsId};
use crate::net::Net;
use crate::net::core::fib_rules::Rule;
use crate::net::ipv4::devinet::IfAddr;
use crate::net::ipv4::fib::Route;
use crate::net::ipv6::addrconf::If6Addr;
use crate::net::ipv6::fib::Route6;
use belljar_abi::AF_INET6;
use belljar_abi::netlink::{self as nl, NETLINK_NETFILTER, NETLINK_ROUTE};
use belljar_abi::rtnetlink::*;
use belljar_wire::Mac;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Notifications that nobody has taken yet; what comes then is lost, and listeners are told so.
const MOST_WAITING: usize = 8192;

/// One message for the members of a group, or for one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub ns: NsId,
    /// NETLINK_ROUTE or NETLINK_NETFILTER.
    pub protocol: i32,
    /// `RTNLGRP_*` or `NFNLGRP_*`.
    pub group: u32,
    /// The socket that alone gets it, by its port; 0: all of the group.
    pub port: u32,
    /// Empty: some were lost.
    pub bytes: Vec<u8>,
}

impl Net {
    /// Which groups of a namespace have members: bit n for group n.
    pub fn nl_listen(&mut self, ns: NsId, protocol: i32, groups: u64) {
        if let Some(n) = self.ns.get_mut(ns) {
            *(if protocol == NETLINK_NETFILTER { &mut n.nf_groups } else { &mut n.nl_groups }) = groups;
        }
    }

    /// The oldest notification that nobody has taken.
    pub fn pop_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}

fn tell(net: &mut Net, ns: NsId, group: u32, write: impl FnOnce(&Net, &mut Vec<u8>)) {
    if net.ns.get(ns).is_none_or(|n| n.nl_groups & (1 << group) == 0) {
        return;
    }
    push(net, ns, NETLINK_ROUTE, (group, 0), write);
}

/// Of a next hop object.
pub(crate) fn nexthop(net: &mut Net, ns: NsId, write: impl FnOnce(&Net, &mut Vec<u8>)) {
    tell(net, ns, RTNLGRP_NEXTHOP, write);
}

/// A message of traffic control that is written already.
pub(crate) fn tc(net: &mut Net, ns: NsId, bytes: Vec<u8>) {
    tell(net, ns, RTNLGRP_TC, |_, out| *out = bytes);
}

/// The same for a group of NETLINK_NETFILTER.
pub(crate) fn nfnetlink(net: &mut Net, ns: NsId, group: u32, write: impl FnOnce(&Net, &mut Vec<u8>)) {
    if net.ns.get(ns).is_some_and(|n| n.nf_groups & (1 << group) != 0) {
        push(net, ns, NETLINK_NETFILTER, (group, 0), write);
    }
}

/// To one socket of NETLINK_NETFILTER.
pub(crate) fn unicast(net: &mut Net, ns: NsId, port: u32, bytes: Vec<u8>) {
    push(net, ns, NETLINK_NETFILTER, (0, port), |_, out| *out = bytes);
}

fn push(net: &mut Net, ns: NsId, protocol: i32, (group, port): (u32, u32), write: impl FnOnce(&Net, &mut Vec<u8>)) {
    let mut bytes = Vec::new();
    match net.notices.len() {
        MOST_WAITING.. => return,
        n if n + 1 == MOST_WAITING => {}
        _ => write(net, &mut bytes),
    }
    net.notices.push_back(Notice { ns, protocol, group, port, bytes });
}

fn head(kind: u16) -> Head {
    Head { kind, ..Head::default() }
}

/// A device is new, changed or goes.
pub fn link(net: &mut Net, kind: u16, dev: DevId) {
    let Some(ns) = net.devs.get(dev).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_LINK, |net, out| link::fill(net, dev, out, head(kind), false));
}

/// The same at the end of a request that began with `since` notices: not again what was said of the device last.
pub fn link_once(net: &mut Net, dev: DevId, since: usize) {
    let Some((ns, index)) = net.devs.get(dev).map(|d| (d.ns, d.ifindex)) else { return };
    tell(net, ns, RTNLGRP_LINK, |net, out| link::fill(net, dev, out, head(RTM_NEWLINK), false));
    let told = |n: &Notice| {
        let is = n.ns == ns && n.protocol == NETLINK_ROUTE && n.group == RTNLGRP_LINK;
        let of = nl::messages(&n.bytes).next().and_then(|(h, b)| Some((h.kind, IfInfoMsg::parse(b)?.index)));
        is && of == Some((RTM_NEWLINK, index as i32))
    };
    let Some(last) = net.notices.back().filter(|n| told(n) && net.notices.len() > since) else { return };
    let before = net.notices.iter().rev().skip(1).take(net.notices.len() - 1 - since).find(|n| told(n));
    if before.is_some_and(|b| b.bytes == last.bytes) {
        net.notices.pop_back();
    }
}

pub fn addr4(net: &mut Net, kind: u16, dev: DevId, a: &IfAddr) {
    let Some(ns) = net.devs.get(dev).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_IPV4_IFADDR, |net, out| addr::fill4(net, dev, a, out, head(kind)));
}

pub fn addr6(net: &mut Net, kind: u16, dev: DevId, a: &If6Addr) {
    let Some(ns) = net.devs.get(dev).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_IPV6_IFADDR, |net, out| addr::fill6(net, dev, a, out, head(kind)));
}

pub fn route4(net: &mut Net, kind: u16, flags: u16, ns: NsId, table: u32, (dst, len): (Ipv4Addr, u8), hops: &[Route]) {
    tell(net, ns, RTNLGRP_IPV4_ROUTE, |net, out| {
        route::fill(net, ns, table, (dst, len), hops, out, Head { flags, ..head(kind) });
    });
}

pub fn route6(
    net: &mut Net,
    (kind, flags): (u16, u16),
    ns: NsId,
    table: u32,
    (dst, len): (Ipv6Addr, u8),
    hops: &[Route6],
) {
    tell(net, ns, RTNLGRP_IPV6_ROUTE, |net, out| {
        route6::fill(net, ns, table, (dst, len), hops, out, Head { flags, ..head(kind) });
    });
}

pub fn rule(net: &mut Net, kind: u16, ns: NsId, family: i32, r: &Rule) {
    let group = if family == AF_INET6 { RTNLGRP_IPV6_RULE } else { RTNLGRP_IPV4_RULE };
    tell(net, ns, group, |net, out| {
        // One that is gone has let go of its target.
        let unresolved = kind == RTM_NEWRULE && net.rule_is_unresolved(ns, family, r);
        rule::fill((family, unresolved), r, out, head(kind));
    });
}

pub fn neigh(net: &mut Net, kind: u16, ns: NsId, id: NeighId) {
    tell(net, ns, RTNLGRP_NEIGH, |net, out| neigh::fill(net, ns, id, out, head(kind)));
}

/// A destination of an address of a VXLAN.
pub fn vxlan_fdb(net: &mut Net, kind: u16, dev: DevId, mac: Mac, e: &VxFdb, r: &Remote) {
    let Some(ns) = net.devs.get(dev).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_NEIGH, |net, out| vxlan::fill_fdb(net, dev, mac, e, r, out, head(kind)));
}

pub fn fdb(net: &mut Net, kind: u16, br: DevId, key: FdbKey, e: &FdbEntry) {
    let Some(ns) = net.devs.get(br).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_NEIGH, |net, out| fdb::fill(net, br, key, e, out, head(kind)));
}

/// A port has members of a group now, or the machine has.
pub fn mdb(net: &mut Net, kind: u16, br: DevId, ip: &BrIp, port: Option<DevId>) {
    let Some(ns) = net.devs.get(br).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_MDB, |net, out| mdb::fill_one(net, br, ip, port, out, head(kind)));
}

/// The same of one that is not there any more.
pub fn mdb_group(net: &mut Net, kind: u16, br: DevId, ip: &BrIp, g: &PortGroup) {
    let Some(ns) = net.devs.get(br).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_MDB, |net, out| mdb::fill_group(net, br, ip, g, out, head(kind)));
}

/// A router is behind a port, or is not.
pub fn mdb_router(net: &mut Net, kind: u16, br: DevId, port: DevId) {
    let Some(ns) = net.devs.get(br).map(|d| d.ns) else { return };
    tell(net, ns, RTNLGRP_MDB, |net, out| mdb::fill_router(net, br, port, out, head(kind)));
}
