//! Groups of an interface, and what the routers of the link are told of them (MLDv2, RFC 3810).
use super::output;
use crate::env::{MSEC, Nanos};
use crate::ids::*;
use crate::net::Net;
use crate::net::mib::Mib;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{ALL_NODES, ALL_ROUTERS, IPV6_HLEN, Ipv6Header, MLD2_ROUTERS, is_linklocal};
use core::net::Ipv6Addr;

/// How often a change is reported (RFC 3810 §9.1).
pub const ROBUSTNESS: u32 = 2;
/// `MLDV2_UNSOLICITED_REPORT_INTERVAL`.
const UNSOLICITED_MS: u32 = 1000;

const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;

/// `struct ifmcaddr6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group6 {
    pub addr: Ipv6Addr,
    /// Who wants it: sockets, and our own addresses.
    pub users: u32,
    /// Reports about it that are still to be sent.
    pub tell: u32,
    /// Nobody wants it any more; it stays until that was told.
    pub left: bool,
}

/// Not told to anybody: all nodes, and what stays in the host (RFC 3810 §6).
fn silent(group: Ipv6Addr) -> bool {
    group == ALL_NODES || group.segments()[0] & 15 <= 1
}

/// One more who wants to hear the group.
#[doc(alias = "__ipv6_dev_mc_inc")]
pub fn join(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    let now = net.env.now;
    let Some(d) = net.devs.get_mut(dev) else { return };
    let loopback = d.is_loopback();
    let i = &mut d.inet6;
    if let Some(g) = i.groups.iter_mut().find(|g| g.addr == group) {
        g.users += 1;
        if !g.left {
            return;
        }
        (g.left, g.tell) = (false, ROBUSTNESS);
    } else {
        i.groups.push(Group6 { addr: group, users: 1, tell: if silent(group) { 0 } else { ROBUSTNESS }, left: false });
    }
    if !silent(group) && !loopback {
        i.mld = Some((now, ROBUSTNESS));
        net.arm_addrconf(dev);
    }
}

/// The group of those who ask for a new address: when it is new too, routers are told of all groups again.
#[doc(alias = "addrconf_join_solict")]
pub(super) fn join_for_address(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    let new = net.devs.get(dev).is_some_and(|d| !d.inet6.has_group(group));
    join(net, dev, group);
    if let Some(d) = net.devs.get_mut(dev).filter(|_| new) {
        let all = d.inet6.groups.iter_mut().filter(|g| !silent(g.addr) && !g.left);
        all.for_each(|g| g.tell = ROBUSTNESS);
    }
}

/// One less.
#[doc(alias = "__ipv6_dev_mc_dec")]
pub fn leave(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    let now = net.env.now;
    let Some(d) = net.devs.get_mut(dev) else { return };
    let loopback = d.is_loopback();
    let i = &mut d.inet6;
    let Some(at) = i.groups.iter().position(|g| g.addr == group && !g.left) else { return };
    let Some(g) = i.groups.get_mut(at) else { return };
    g.users = g.users.saturating_sub(1);
    if g.users > 0 {
        return;
    }
    if silent(group) || loopback || !d.up {
        i.groups.remove(at);
        return;
    }
    (g.left, g.tell) = (true, ROBUSTNESS);
    i.mld = Some((now, ROBUSTNESS));
    net.arm_addrconf(dev);
}

/// Groups of routers, which an interface that forwards hears (`dev_forward_change`).
const ROUTER_GROUPS: [Ipv6Addr; 3] =
    [ALL_ROUTERS, Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2)];

/// The interface became a router's, or ceased to be one.
pub(super) fn router(net: &mut Net, dev: DevId, on: bool) {
    if net.devs.get(dev).is_some_and(|d| d.up && d.inet6.enabled() && !d.is_loopback()) {
        ROUTER_GROUPS.into_iter().for_each(|g| if on { join(net, dev, g) } else { leave(net, dev, g) });
    }
}

/// Reports that are due: changes, and answers to queries.
#[doc(alias = "mld_ifc_work")]
pub(super) fn run(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let wait = u64::from(net.env.rng.below(UNSOLICITED_MS)) * MSEC;
    let Some(d) = net.devs.get_mut(dev) else { return };
    let i = &mut d.inet6;
    if let Some((_, left)) = i.mld.filter(|m| m.0 <= now) {
        let mut records = Vec::new();
        for g in i.groups.iter_mut().rev().filter(|g| g.tell > 0) {
            g.tell -= 1;
            records.push((if g.left { CHANGE_TO_INCLUDE } else { CHANGE_TO_EXCLUDE }, g.addr));
        }
        i.groups.retain(|g| !g.left || g.tell > 0);
        let more = i.groups.iter().any(|g| g.tell > 0) && left > 0;
        i.mld = more.then(|| (now + wait, left - 1));
        report(net, dev, &records);
    }
    let Some(d) = net.devs.get_mut(dev) else { return };
    if d.inet6.mld_query.is_some_and(|at| at <= now) {
        d.inet6.mld_query = None;
        let all: Vec<_> = d
            .inet6
            .groups
            .iter()
            .rev()
            .filter(|g| !silent(g.addr) && !g.left)
            .map(|g| (MODE_IS_EXCLUDE, g.addr))
            .collect();
        report(net, dev, &all);
    }
}

/// Reports with a record for each group, as many as the MTU makes necessary.
#[doc(alias = "mld_sendpack")]
fn report(net: &mut Net, dev: DevId, records: &[(u8, Ipv6Addr)]) {
    let Some(d) = net.devs.get(dev) else { return };
    if records.is_empty() || !d.up {
        return;
    }
    let src = d.inet6.linklocal().unwrap_or(Ipv6Addr::UNSPECIFIED);
    let ns = d.ns;
    // The IPv6 header, that of the router alert, the message's own; a record without sources has 20 bytes.
    let room = (d.inet6.mtu(d.mtu) as usize).saturating_sub(IPV6_HLEN + 8 + 8);
    for part in records.chunks((room / 20).max(1)) {
        let mut b = vec![ICMPV6_MLD2_REPORT, 0, 0, 0, 0, 0];
        b.extend((part.len() as u16).to_be_bytes());
        for (kind, group) in part {
            b.extend([*kind, 0, 0, 0]);
            b.extend(group.octets());
        }
        if output::send_control(net, dev, src, MLD2_ROUTERS, 1, true, b).is_err() {
            net.inc(ns, Mib::Ip6OutDiscards);
        }
    }
}

/// A router of this link asks who listens: an answer after a random part of the time it allows (RFC 3810 §6.2).
#[doc(alias = "igmp6_event_query")]
pub(super) fn query(net: &mut Net, dev: DevId, ip: &Ipv6Header, message: &[u8]) {
    if !is_linklocal(ip.src) || ip.hop_limit != 1 {
        return;
    }
    let Some(code) = message.get(4..6).and_then(|b| b.first_chunk()).map(|b| u16::from_be_bytes(*b)) else { return };
    // RFC 3810 §5.1.3: large values have an exponent.
    let ms = match code {
        0..0x8000 => u32::from(code),
        c => u32::from(c & 0xfff | 0x1000) << ((c >> 12 & 7) + 3),
    };
    let at: Nanos = net.env.now + u64::from(net.env.rng.below(ms.max(1))) * MSEC;
    if let Some(d) = net.devs.get_mut(dev) {
        d.inet6.mld_query = Some(d.inet6.mld_query.map_or(at, |old| old.min(at)));
    }
    net.arm_addrconf(dev);
}
