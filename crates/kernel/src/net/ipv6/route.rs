//! Routing of IPv6: what goes out, what came in, which source address (RFC 6724), path MTUs.
use super::addrconf::{If6Addr, Scope6};
use super::fib::{Found6, Route6};
use super::multipath::{HashKeys6, select_path};
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::net::Net;
use crate::net::af::Flow;
use crate::net::core::dev::NetDevice;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::fib_rules::{self, L4, RuleFlow};
use crate::net::core::neighbour::Nud;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::{RT_TABLE_MAIN, RouteType};
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::net::ipv4::rule::Insert;
use crate::net::netlink::notify;
use crate::net::netns::NetNs;
use belljar_abi::netlink::NLM_F_REPLACE;
use belljar_abi::rtnetlink::{RTAX_MTU, RTM_DELROUTE, RTM_NEWROUTE};
use belljar_abi::{Errno, IPV6_PREFER_SRC_TMP};
use belljar_wire::ipv6::{IPV6_MIN_MTU, Ipv6Header, is_linklocal, needs_scope};
use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;

/// Path MTUs learned, kept for `route.mtu_expires`. Bounded: the oldest goes first.
#[derive(Clone, Debug, Default)]
pub struct Exceptions6 {
    by_dst: BTreeMap<Ipv6Addr, (u32, Jiffies)>,
    timer: TimerSlot,
}

const MAX_EXCEPTIONS: usize = 10_240;

impl Exceptions6 {
    pub fn get(&self, dst: Ipv6Addr, now: Jiffies) -> Option<u32> {
        self.by_dst.get(&dst).filter(|(_, at)| *at > now).map(|(mtu, _)| *mtu)
    }

    /// Destination, MTU, tick of its end.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, u32, Jiffies)> + '_ {
        self.by_dst.iter().map(|(d, (mtu, at))| (*d, *mtu, *at))
    }
}

pub(super) fn device_mtu(net: &Net, dev: DevId) -> u32 {
    net.devs.get(dev).map_or(0, |d| d.inet6.mtu(d.mtu))
}

/// The device that packets to this address have to use: a link is part of what it means.
fn strict(daddr: Ipv6Addr) -> bool {
    needs_scope(daddr) || daddr.is_multicast()
}

/// The route of a packet of ours, with the source it takes. ENETUNREACH without a route, EADDRNOTAVAIL where there is no
/// address at all to send from.
#[doc(alias = "ip6_dst_lookup_tail")]
pub fn ip6_route_output(net: &mut Net, ns: NsId, fl: &Flow, daddr: Ipv6Addr) -> Result<Dst, Errno> {
    let n = net.ns.get(ns).ok_or(Errno::ENETUNREACH)?;
    let (lo, genid) = (n.lo, n.rt_genid);
    let saddr = match fl.saddr {
        IpAddr::V6(a) if !a.is_unspecified() => Some(a),
        _ => None,
    };
    if let Some(id) = fl.oif
        && net.devs.get(id).is_none_or(|d| d.ns != ns)
    {
        return Err(Errno::ENODEV);
    }
    let asked = |src: Option<Ipv6Addr>| RuleFlow {
        src: src.map(IpAddr::V6),
        dst: daddr.into(),
        iif: lo,
        oif: fl.oif,
        tos: fl.tos,
        mark: fl.mark,
        l4: fl.l4(),
    };
    let policy = n.sysctl.multipath_hash6();
    let by = |net: &Net, src| select(net, ns, &asked(src), fl.oif, || HashKeys6::of_flow(policy, fl, src, daddr));
    let (mut found, silent) = by(net, saddr);
    let out = found.and_then(|f| f.route.dev);
    // The source is chosen before anybody asks whether there is a way (`ip6_route_get_saddr`).
    let src = match (saddr, found.and_then(|f| f.route.prefsrc)) {
        (Some(a), _) => a,
        (None, Some(a)) => a,
        (None, None) => select_saddr(net, ns, out, daddr, fl.prefs).ok_or(Errno::EADDRNOTAVAIL)?,
    };
    if let Some((dev, gw)) = silent {
        probe(net, ns, dev, gw);
    }
    if saddr.is_none()
        && found.is_none_or(|f| f.route.dev.is_none())
        && net.ns.get(ns).is_some_and(|n| n.v6.fib.rules.is_some())
    {
        // Rules may ask about the source, which there is now.
        found = by(net, Some(src)).0;
    }
    let found = found.ok_or(Errno::ENETUNREACH)?;
    let (route, out) = (found.route, found.route.dev);
    let kind = kind_of(&found, daddr)?;
    let dev = if kind == RouteKind::Local { lo } else { out.ok_or(Errno::ENETUNREACH)? };
    if !net.devs.get(dev).is_some_and(|d| d.up) {
        return Err(Errno::ENETUNREACH);
    }
    let gateway = next_hop(net, ns, daddr, dev, &route).filter(|_| kind == RouteKind::Unicast);
    let mtu = path_mtu(net, ns, daddr, dev, route.metrics);
    Ok(Dst { kind, dev, gateway, src: src.into(), mtu, genid, metrics: route.metrics })
}

/// Among routers, the one that can be reached and ranks itself highest; hosts that forward do not ask who answers. And one
/// that was passed over because it does not. `keys` are asked for where next hops share the route.
#[doc(alias = "ip6_pol_route")]
fn select(
    net: &Net,
    ns: NsId,
    fl: &RuleFlow,
    oif: Option<DevId>,
    keys: impl FnOnce() -> HashKeys6,
) -> (Option<Found6>, Option<(DevId, Ipv6Addr)>) {
    let (found, silent) = select_found(net, ns, fl, oif);
    let Some(mut f) = found.filter(|f| oif.is_none() && f.route.can_ecmp()) else { return (found, silent) };
    let good = |r: &Route6| gateway_alive(net, ns, r) && net.ns.get(ns).is_some_and(|n| linked(net, n, r));
    f.route = select_path(net, ns, &f, fl.dst, &keys(), good);
    (Some(f), silent)
}

fn select_found(net: &Net, ns: NsId, fl: &RuleFlow, oif: Option<DevId>) -> (Option<Found6>, Option<(DevId, Ipv6Addr)>) {
    let Some(n) = net.ns.get(ns) else { return (None, None) };
    let linked = |r: &Route6| linked(net, n, r);
    if n.v6.conf_all.forwarding != 0 {
        return (n.v6.fib.lookup_alive(fl, oif, net.env.now, linked, |_| true), None);
    }
    let silent = std::cell::Cell::new(None);
    let alive = |r: &Route6| {
        let alive = gateway_alive(net, ns, r);
        if !alive {
            silent.set(r.dev.zip(r.gateway));
        }
        alive
    };
    (n.v6.fib.lookup_alive(fl, oif, net.env.now, linked, alive), silent.get())
}

/// `ignore_routes_with_linkdown`: without carrier a route of the device does not count.
#[doc(alias = "ip6_ignore_linkdown")]
pub(in crate::net) fn linked(net: &Net, n: &NetNs, r: &Route6) -> bool {
    let down = |d: &NetDevice| d.inet6.conf.ignore_routes_with_linkdown != 0 && !d.carrier;
    !n.v6.ignores_linkdown || !r.dev.and_then(|d| net.devs.get(d)).is_some_and(down)
}

/// A router that did not answer is asked again, once in `router_probe_interval`.
#[doc(alias = "rt6_probe")]
fn probe(net: &mut Net, ns: NsId, dev: DevId, gw: Ipv6Addr) {
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let Some(wait) = net.devs.get(dev).map(|d| d.inet6.conf.router_probe_interval.get().saturating_mul(hz)) else {
        return;
    };
    let Some(n) = net.ns.get_mut(ns) else { return };
    let entry = n.neigh_table.get(dev, gw.into()).and_then(|id| n.neighs.get_mut(id));
    if let Some(e) = entry.filter(|e| now.wrapping_sub(e.updated) > wait) {
        e.updated = now;
        super::ndisc::send_ns(net, dev, gw, None, None);
    }
}

/// A neighbour of which nothing is known counts as alive.
#[doc(alias = "rt6_check_neigh")]
fn gateway_alive(net: &Net, ns: NsId, r: &Route6) -> bool {
    let (Some(gw), Some(dev), Some(n)) = (r.gateway, r.dev, net.ns.get(ns)) else { return true };
    let entry = n.neigh_table.get(dev, gw.into()).and_then(|id| n.neighs.get(id));
    entry.is_none_or(|e| e.state != Nud::Failed)
}

/// The route's gateway, or what a redirect said: another one, or that the destination is on the link.
fn next_hop(net: &Net, ns: NsId, daddr: Ipv6Addr, dev: DevId, r: &Route6) -> Option<IpAddr> {
    let told = net.ns.get(ns).and_then(|n| n.v6.redirects.get(daddr, dev, net.env.jiffies()));
    match told.filter(|_| r.gateway.is_some()) {
        Some(to) => Some(to).filter(|to| *to != daddr).map(IpAddr::V6),
        None => r.gateway.map(IpAddr::V6),
    }
}

fn kind_of(f: &Found6, daddr: Ipv6Addr) -> Result<RouteKind, Errno> {
    match f.route.kind {
        // A rule says it in another way than a route.
        RouteType::Unreachable if f.by_rule => Err(Errno::ENETUNREACH),
        RouteType::Unreachable => Err(Errno::EHOSTUNREACH),
        RouteType::Blackhole => Err(Errno::EINVAL),
        RouteType::Prohibit => Err(Errno::EACCES),
        RouteType::Local | RouteType::Anycast => Ok(RouteKind::Local),
        _ if daddr.is_multicast() => Ok(RouteKind::Multicast),
        _ => Ok(RouteKind::Unicast),
    }
}

/// What the device takes, less where the path is narrower.
fn path_mtu(net: &Net, ns: NsId, daddr: Ipv6Addr, dev: DevId, metrics: MetricsId) -> u32 {
    let own = device_mtu(net, dev);
    let Some(n) = net.ns.get(ns) else { return own };
    let mtu = match n.metrics.get(metrics).map_or(0, |m| m.get(RTAX_MTU)) {
        0 => own,
        mtu => mtu.min(own),
    };
    let learned = n.v6.exceptions.get(daddr, net.env.jiffies());
    learned.map_or(mtu, |m| m.min(mtu))
}

/// RFC 6724 §5, in the order of Linux's rules.
#[doc(alias = "ipv6_dev_get_saddr")]
pub fn get_saddr(net: &Net, ns: NsId, out: Option<DevId>, daddr: Ipv6Addr) -> Option<Ipv6Addr> {
    select_saddr(net, ns, out, daddr, 0)
}

/// `prefs`: IPV6_PREFER_SRC_TMP or IPV6_PREFER_SRC_PUBLIC, where a program chose.
fn select_saddr(net: &Net, ns: NsId, out: Option<DevId>, daddr: Ipv6Addr, prefs: u8) -> Option<Ipv6Addr> {
    let dst_scope = Scope6::of(daddr);
    let own = |o: &DevId| net.devs.get(*o).is_some_and(|d| d.inet6.conf.use_oif_addrs_only != 0);
    let only = out.filter(|o| strict(daddr) && dst_scope <= Scope6::Link || own(o));
    let mut best: Option<(Rank, Ipv6Addr)> = None;
    for dev in net.ns_devs(ns).filter(|d| only.is_none_or(|o| o == *d)) {
        let Some(d) = net.devs.get(dev) else { continue };
        for a in d.inet6.addrs.iter().filter(|a| a.usable() && !a.dadfailed) {
            let wants_temporary = match i32::from(prefs) {
                0 => d.inet6.conf.use_tempaddr >= 2,
                prefs => prefs & IPV6_PREFER_SRC_TMP != 0,
            };
            let fits = a.temporary() == wants_temporary;
            let mut rank = rank(a, daddr, dst_scope, (out == Some(dev), fits), net.env.now);
            rank.2 &= !a.optimistic() || net.uses_optimistic(ns, dev);
            if best.is_none_or(|(b, _)| rank > b) {
                best = Some((rank, a.addr));
            }
        }
    }
    best.map(|(_, a)| a)
}

/// Higher is better, first field first.
type Rank = (bool, i32, bool, bool, bool, bool, u32, bool);

fn rank(a: &If6Addr, daddr: Ipv6Addr, dst_scope: Scope6, (same_dev, fits): (bool, bool), now: u64) -> Rank {
    let scope = Scope6::of(a.addr) as i32;
    let distance = if scope >= dst_scope as i32 { -scope } else { scope - 128 };
    let common = (a.addr.to_bits() ^ daddr.to_bits()).leading_zeros().min(a.prefix.into());
    (
        a.addr == daddr,
        distance,
        !a.deprecated(now),
        same_dev,
        label(a.addr) == label(daddr),
        fits,
        common,
        !a.optimistic(),
    )
}

/// The policy table of RFC 6724 as Linux has it.
#[doc(alias = "ipv6_addr_label")]
fn label(a: Ipv6Addr) -> u32 {
    let s = a.segments();
    match s {
        _ if a.is_loopback() => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 6,
        [0x2001, x, ..] if x & 0xfff0 == 0x10 => 7,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [x, ..] if x & 0xffc0 == 0xfec0 => 11,
        [x, ..] if x & 0xfe00 == 0xfc00 => 5,
        _ => 1,
    }
}

/// One of this host, on any of its devices (`ipv6_chk_addr`). A tentative one is not yet.
#[doc(alias = "ipv6_chk_addr")]
pub fn is_local(net: &Net, ns: NsId, addr: Ipv6Addr) -> bool {
    chk_addr(net, ns, addr, None)
}

/// On one device, for link-local addresses.
pub fn chk_addr(net: &Net, ns: NsId, addr: Ipv6Addr, dev: Option<DevId>) -> bool {
    let on = |id: DevId| {
        let Some(d) = net.devs.get(id) else { return false };
        d.inet6.addrs.iter().any(|a| a.addr == addr && a.usable())
    };
    net.ns_devs(ns).any(|id| dev.is_none_or(|d| d == id) && on(id))
}

/// The route to an address, for who asks about neither packet nor next hop.
#[doc(alias = "ip6_route_lookup")]
pub fn route_of(
    net: &Net,
    ns: NsId,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    oif: Option<DevId>,
    mark: u32,
) -> Option<Route6> {
    let lo = net.ns.get(ns)?.lo;
    let fl = RuleFlow { src: Some(src.into()), dst: dst.into(), iif: lo, oif, tos: 0, mark, l4: L4::default() };
    Some(select_found(net, ns, &fl, oif).0?.route)
}

/// The route that a packet which came in by `dev` would take, whether or not this host passes it on.
#[doc(alias = "ip6_route_input_lookup")]
pub(in crate::net) fn input_route(
    net: &Net,
    ns: NsId,
    dev: DevId,
    fl: &Flow,
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> Result<(Found6, Option<IpAddr>), Errno> {
    let policy = net.ns.get(ns).ok_or(Errno::ENETUNREACH)?.sysctl.multipath_hash6();
    let oif = needs_scope(dst).then_some(dev);
    let (tos, mark, l4) = (fl.tos, fl.mark, fl.l4());
    let asked = RuleFlow { src: Some(src.into()), dst: dst.into(), iif: dev, oif, tos, mark, l4 };
    let (found, _) = select(net, ns, &asked, oif, || HashKeys6::of_flow(policy, fl, Some(src), dst));
    let found = found.ok_or(Errno::ENETUNREACH)?;
    kind_of(&found, dst)?;
    Ok((found, found.route.dev.and_then(|out| next_hop(net, ns, dst, out, &found.route))))
}

/// Where a received packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input6 {
    /// To this host.
    Local(Dst),
    Forward(Dst),
    /// No way, or none that is allowed: the errno names the ICMPv6 error.
    Refused(Errno),
    /// Not for us and not to be passed on.
    NotForwarding,
}

/// Local delivery, forwarding, or why not.
pub fn ip6_route_input(net: &Net, ns: NsId, dev: DevId, ip: &Ipv6Header, skb: &SkBuff) -> Input6 {
    let daddr = ip.dst;
    let Some(n) = net.ns.get(ns) else { return Input6::NotForwarding };
    let none = MetricsId::default();
    let to = |kind, dev, gateway, mtu, metrics| Dst {
        kind,
        dev,
        gateway,
        src: daddr.into(),
        mtu,
        genid: n.rt_genid,
        metrics,
    };
    let Some(d) = net.devs.get(dev) else { return Input6::NotForwarding };
    if daddr.is_multicast() {
        let joined = d.inet6.has_group(daddr) || d.is_loopback();
        let dst = to(RouteKind::Multicast, dev, None, d.inet6.mtu(d.mtu), none);
        return if joined { Input6::Local(dst) } else { Input6::NotForwarding };
    }
    let oif = needs_scope(daddr).then_some(dev);
    let mut fl = RuleFlow {
        src: Some(ip.src.into()),
        dst: daddr.into(),
        iif: dev,
        oif,
        tos: ip.tclass,
        mark: skb.mark,
        l4: L4::default(),
    };
    if n.v6.fib.rules.is_some() && fib_rules::wants_l4(&n.v6.fib.rules) {
        fl.l4 = L4::dissect6(skb.head.at(skb.network_header), ip.next);
    }
    let policy = n.sysctl.multipath_hash6();
    let (found, _) = select(net, ns, &fl, oif, || HashKeys6::of(policy, skb, ip));
    let local = found.is_some_and(|f| f.route.is_here());
    if local || n.tproxy.is_some_and(|t| t.dev == dev) {
        return Input6::Local(to(RouteKind::Local, n.lo, None, device_mtu(net, dev), none));
    }
    if n.v6.conf_all.forwarding == 0 && d.inet6.conf.force_forwarding == 0 {
        return Input6::NotForwarding;
    }
    let Some(f) = found else { return Input6::Refused(Errno::ENETUNREACH) };
    let r = f.route;
    match (kind_of(&f, daddr), r.dev) {
        (Ok(kind), Some(out)) => {
            let mtu = path_mtu(net, ns, daddr, out, r.metrics);
            Input6::Forward(to(kind, out, next_hop(net, ns, daddr, out, &r), mtu, r.metrics))
        }
        (Err(e), _) => Input6::Refused(e),
        _ => Input6::Refused(Errno::ENETUNREACH),
    }
}

/// A packet too big came back: the path's MTU. What every link carries is no news (RFC 8201 §4).
#[doc(alias = "ip6_update_pmtu")]
pub fn update_pmtu(net: &mut Net, ns: NsId, daddr: Ipv6Addr, mtu: u32) {
    let (now, at, hz) = (net.env.jiffies(), net.env.now, net.env.hz);
    let Some(n) = net.ns.get_mut(ns) else { return };
    let route = n.v6.fib.lookup(daddr, None, at).and_then(|r| n.metrics.get(r.metrics));
    if mtu < IPV6_MIN_MTU || route.is_some_and(|m| m.locked(RTAX_MTU)) {
        return;
    }
    if n.v6.exceptions.get(daddr, now).is_some_and(|old| old < mtu) {
        return;
    }
    let all = &mut n.v6.exceptions.by_dst;
    if all.len() >= MAX_EXCEPTIONS
        && let Some(oldest) = all.iter().min_by_key(|(_, (_, at))| *at).map(|(d, _)| *d)
    {
        all.remove(&oldest);
    }
    all.insert(daddr, (mtu, time::round_up(at + u64::from(n.sysctl.mtu_expires6) * SEC, hz)));
    n.rt_genid = n.rt_genid.wrapping_add(1);
    arm_expiry(net, ns);
}

pub(super) fn arm_expiry(net: &mut Net, ns: NsId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    let mtus = n.v6.exceptions.by_dst.values().map(|(_, at)| *at).min();
    if let Some(first) = mtus.into_iter().chain(n.v6.redirects.first_end()).min() {
        net.env.timers.arm(&mut n.v6.exceptions.timer, first, TimerKey::Pmtu6Expire(ns));
    }
}

/// Learned path MTUs are old.
pub fn expire_pmtu(net: &mut Net, ns: NsId, at: Fired) {
    let now = net.env.jiffies();
    let Some(n) = net.ns.get_mut(ns) else { return };
    if net.env.timers.look(&mut n.v6.exceptions.timer, at, now, TimerKey::Pmtu6Expire(ns)) == Fire::NotYet {
        return;
    }
    n.v6.exceptions.by_dst.retain(|_, (_, at)| *at > now);
    n.v6.redirects.retain(|_, _, end| end > now);
    n.rt_genid = n.rt_genid.wrapping_add(1);
    arm_expiry(net, ns);
}

/// A next hop does not answer: what a redirect said of it is forgotten, and who goes through a router looks for another.
#[doc(alias = "ip6_link_failure")]
pub fn link_failure(net: &mut Net, ns: NsId, dst: &Dst) {
    let (Some(IpAddr::V6(gw)), Some(n)) = (dst.gateway, net.ns.get_mut(ns)) else { return };
    n.v6.redirects.retain(|to, dev, _| (to, dev) != (gw, dst.dev));
    n.rt_genid = n.rt_genid.wrapping_add(1);
}

impl Net {
    /// `ip -6 route add DST/PREFIX …`; EEXIST for the same destination and metric, EHOSTUNREACH for a gateway that no link
    /// leads to.
    pub fn add_route6(&mut self, ns: NsId, dst: Ipv6Addr, prefix: u8, route: Route6) -> Result<(), Errno> {
        let how = Insert { create: true, excl: true, ..Insert::default() };
        self.insert_route6(ns, RT_TABLE_MAIN, (dst, prefix), &mut [route], how)
    }

    /// A route into a table, by several next hops perhaps, as netlink asks for it; ENOENT for one that is to be changed and is
    /// not there.
    #[doc(alias = "ip6_route_multipath_add")]
    pub fn insert_route6(
        &mut self,
        ns: NsId,
        table: u32,
        (dst, prefix): (Ipv6Addr, u8),
        hops: &mut [Route6],
        how: Insert,
    ) -> Result<(), Errno> {
        if prefix > 128 || dst.to_bits() & !super::fib::mask(prefix) != 0 {
            return Err(Errno::EINVAL);
        }
        for route in hops.iter_mut() {
            self.check_hop6(ns, route)?;
        }
        let [first, others @ ..] = &*hops else { return Err(Errno::EINVAL) };
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let t = n.v6.fib.table_mut(table);
        let there = || t.get(dst, prefix).iter().filter(|r| r.metric == first.metric);
        let twice = |h: &Route6, in_: &[Route6]| in_.iter().any(|r| (r.gateway, r.dev) == (h.gateway, h.dev));
        let double = others.iter().enumerate().any(|(n, h)| twice(h, &hops[..=n]));
        // In the place of the next hops of a route or of one without; of the other kind only when there is none of its own.
        let old = match how.replace {
            true => there().find(|r| r.can_ecmp() == first.can_ecmp()).or(there().next()).copied(),
            false => None,
        };
        match there().next() {
            None if !how.create => return Err(Errno::ENOENT),
            Some(_) if how.excl => return Err(Errno::EEXIST),
            _ if double => return Err(Errno::EEXIST),
            _ if !how.replace && there().any(|r| twice(r, hops)) => return Err(Errno::EEXIST),
            _ => {}
        }
        if let (Some(old), Some(first)) = (old, hops.first()) {
            // The first comes in the old one's place, the others behind all of their metric.
            t.edit(dst, prefix, |routes| {
                routes.iter_mut().find(|r| **r == old).into_iter().for_each(|r| *r = *first);
                routes.retain(|r| r == first || !r.is_sibling(&old));
            });
        }
        hops.iter().for_each(|r| t.insert(dst, prefix, *r));
        let shared: Vec<Route6> = t.get(dst, prefix).iter().filter(|r| r.is_sibling(first)).copied().collect();
        n.rt_genid = n.rt_genid.wrapping_add(1);
        let flags = if how.replace { NLM_F_REPLACE } else { 0 };
        notify::route6(self, (RTM_NEWROUTE, flags), ns, table, (dst, prefix), &told(hops, shared));
        Ok(())
    }

    /// The next hop itself has to be on a link that is up.
    #[doc(alias = "fib6_nh_init")]
    fn check_hop6(&self, ns: NsId, route: &mut Route6) -> Result<(), Errno> {
        let n = self.ns.get(ns).ok_or(Errno::ENODEV)?;
        self.validate_gw6(ns, route).map_err(|_| Errno::EINVAL)?;
        if let Some(gw) = route.gateway.filter(|gw| !is_linklocal(*gw) && !route.onlink) {
            let hop = n.v6.fib.lookup(gw, route.dev, self.env.now).ok_or(Errno::EHOSTUNREACH)?;
            if hop.kind != RouteType::Unicast || hop.gateway.is_some() {
                return Err(Errno::EHOSTUNREACH);
            }
            route.dev = route.dev.or(hop.dev);
        }
        if route.kind == RouteType::Unicast {
            let d = route.dev.and_then(|d| self.devs.get(d)).filter(|d| d.ns == ns).ok_or(Errno::ENODEV)?;
            if !d.up {
                return Err(Errno::ENETDOWN);
            }
        }
        Ok(())
    }

    /// `ip -6 route del`: the first that fits; ESRCH when none does.
    pub fn del_route6(&mut self, ns: NsId, dst: Ipv6Addr, prefix: u8, dev: Option<DevId>) -> Result<(), Errno> {
        self.del_route6_of(ns, RT_TABLE_MAIN, (dst, prefix), true, |r| dev.is_none() || r.dev == dev)
    }

    /// The same by whatever a request says of it, with `all` the next hops that share the route.
    #[doc(alias = "ip6_route_del")]
    pub fn del_route6_of(
        &mut self,
        ns: NsId,
        table: u32,
        (dst, prefix): (Ipv6Addr, u8),
        all: bool,
        which: impl Fn(&Route6) -> bool,
    ) -> Result<(), Errno> {
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let mut gone = Vec::new();
        n.v6.fib.table_mut(table).edit(dst, prefix, |routes| {
            let Some(first) = routes.iter().find(|r| which(r)).copied() else { return };
            gone = routes.extract_if(.., |r| *r == first || (all && r.is_sibling(&first))).collect();
        });
        if gone.is_empty() {
            return Err(Errno::ESRCH);
        }
        n.rt_genid = n.rt_genid.wrapping_add(1);
        notify::route6(self, (RTM_DELROUTE, 0), ns, table, (dst, prefix), &gone);
        Ok(())
    }
}

/// What is said of new next hops: one that joins others stands before them.
fn told(new: &[Route6], shared: Vec<Route6>) -> Vec<Route6> {
    match new {
        [one] => new.iter().copied().chain(shared.into_iter().filter(|r| r != one)).collect(),
        _ => shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_as_ip_addrlabel_lists_them() {
        let of = |a: &str| label(a.parse().unwrap());
        let got = ["::1", "::ffff:1.2.3.4", "::5", "2001::1", "2001:1f::", "2001:db8::", "2002::", "fd00::", "fec0::"]
            .map(of);
        assert_eq!(got, [0, 4, 3, 6, 7, 1, 2, 5, 11]);
    }
}
