//! Neighbour discovery (RFC 4861): questions and answers about hardware addresses, and what routers say.
use super::addrconf::If6Addr;
use super::fib::{self, PRIO_USER, PROTO_RA, Pref, Route6};
use super::{anycast, icmp, output, redirect, route};
use crate::env::{Nanos, SEC};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use belljar_abi::rtnetlink::NTF_ROUTER;
use belljar_wire::Mac;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{ALL_NODES, ALL_ROUTERS, IPV6_HLEN, Ipv6Header, NEXTHDR_ICMP, is_linklocal, solicited_node};
use core::net::{IpAddr, Ipv6Addr};

/// Every message has this hop limit: one that passed a router has not (RFC 4861 §11.2).
pub(super) const HOP_LIMIT: u8 = 255;

/// Asks for `target`: everybody who might be it, or one host that was it.
#[doc(alias = "ndisc_send_ns")]
pub fn send_ns(net: &mut Net, dev: DevId, target: Ipv6Addr, to: Option<Mac>, saddr: Option<Ipv6Addr>) {
    let Some(d) = net.devs.get(dev) else { return };
    let (ns, mac) = (d.ns, d.mac);
    // RFC 4861 §7.2.2: the address of the packet that waits, when it is one of the interface's.
    let sure =
        |a: &Ipv6Addr| net.devs.get(dev).is_some_and(|d| d.inet6.addrs.iter().any(|x| x.addr == *a && !x.tentative()));
    let own = saddr.filter(sure);
    let Some(src) = own.or_else(|| d.inet6.linklocal()).or_else(|| route::get_saddr(net, ns, Some(dev), target)) else {
        return;
    };
    let mut b = vec![NDISC_NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    b.extend(target.octets());
    b.extend(nd_mac_option(ND_OPT_SOURCE_LL_ADDR, mac));
    let _ = match to {
        Some(to) => output::send_control_to(net, dev, src, target, HOP_LIMIT, b, to),
        None => output::send_control(net, dev, src, solicited_node(target), HOP_LIMIT, false, b),
    };
}

/// Asks whether somebody has `target` already; with a nonce, by which the question itself is known when the link sends it
/// back (RFC 7527 §4.1).
pub(super) fn send_dad(net: &mut Net, dev: DevId, target: Ipv6Addr, nonce: Option<[u8; 6]>) {
    let mut b = vec![NDISC_NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    b.extend(target.octets());
    if let Some(nonce) = nonce {
        b.extend([ND_OPT_NONCE, 1]);
        b.extend(nonce);
    }
    let _ = output::send_control(net, dev, Ipv6Addr::UNSPECIFIED, solicited_node(target), HOP_LIMIT, false, b);
}

/// Answers for `target`. Who asked the host itself has its hardware address, and is told only that it still holds.
#[doc(alias = "ndisc_send_na")]
fn send_na(net: &mut Net, dev: DevId, to: Ipv6Addr, target: Ipv6Addr, solicited: bool, by_group: bool) {
    let Some(d) = net.devs.get(dev) else { return };
    let (ns, mac) = (d.ns, d.mac);
    let anycast = d.inet6.anycast.has(target);
    // What others hold as well is not to take the place of another's answer, nor does it send (RFC 4861 §7.2.7).
    let of_ours = d.inet6.addrs.iter().find(|a| a.addr == target);
    // Of what may still be another's nobody is to change his mind (RFC 4429 §3.3).
    let (own, sure) = (of_ours.is_some(), of_ours.is_some_and(|a| !a.optimistic()));
    // Of others what was said of them (`pndisc_is_router`).
    let router = match net.pneigh(ns, target.into(), Some(dev)).filter(|_| !own && !anycast) {
        Some(p) => p.flags & NTF_ROUTER != 0,
        None => d.inet6.conf.forwarding != 0,
    };
    let router = if router { NA_ROUTER } else { 0 };
    let src = if own { Some(target) } else { route::get_saddr(net, ns, Some(dev), to) };
    let Some(src) = src else { return };
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = router | flag(by_group && sure, NA_OVERRIDE) | flag(solicited, NA_SOLICITED);
    let mut b = vec![NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    b.extend(target.octets());
    if by_group || d.inet6.conf.force_tllao != 0 {
        b.extend(nd_mac_option(ND_OPT_TARGET_LL_ADDR, mac));
    }
    let _ = output::send_control(net, dev, src, to, HOP_LIMIT, false, b);
}

/// Tells the link of an address that is the device's now (`ndisc_notify`).
pub(super) fn notify(net: &mut Net, dev: DevId, addr: Ipv6Addr) {
    let Some(d) = net.devs.get(dev) else { return };
    let all = net.ns.get(d.ns).is_some_and(|n| n.v6.conf_all.ndisc_notify != 0);
    if all || d.inet6.conf.ndisc_notify != 0 {
        send_na(net, dev, ALL_NODES, addr, false, true);
    }
}

/// Asks for routers.
#[doc(alias = "ndisc_send_rs")]
pub(super) fn send_rs(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get(dev) else { return };
    let (src, mac) = (d.inet6.linklocal().unwrap_or(Ipv6Addr::UNSPECIFIED), d.mac);
    let mut b = vec![NDISC_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    if !src.is_unspecified() {
        b.extend(nd_mac_option(ND_OPT_SOURCE_LL_ADDR, mac));
    }
    let _ = output::send_control(net, dev, src, ALL_ROUTERS, HOP_LIMIT, false, b);
}

/// A message whose checksum is good; `m` is all of it.
pub(super) fn ndisc_rcv(k: &mut Kernel, ns: NsId, dev: DevId, skb: Skb, ip: &Ipv6Header) {
    let mut m = skb.head.bytes().to_vec();
    m.extend(skb.frags.iter().flat_map(|s| s.as_slice().iter().copied()));
    let net = &mut k.net;
    if skb.frag_max != 0 && net.devs.get(dev).is_some_and(|d| d.inet6.conf.suppress_frag_ndisc != 0) {
        return fragmented(net, skb);
    }
    // RFC 4861 §6.1, §7.1: from this link, code 0.
    if ip.hop_limit != HOP_LIMIT || m.get(1) != Some(&0) {
        return net.kfree_skb(skb, DropReason::Ipv6NdiscHopLimit, "ndisc_rcv");
    }
    let valid = match m.first() {
        Some(&NDISC_NEIGHBOUR_SOLICITATION) => recv_ns(net, ns, dev, ip, &m),
        Some(&NDISC_NEIGHBOUR_ADVERTISEMENT) => recv_na(net, ns, dev, ip, &m),
        Some(&NDISC_ROUTER_ADVERTISEMENT) => recv_ra(net, ns, dev, ip, &m),
        Some(&NDISC_ROUTER_SOLICITATION) => recv_rs(net, ns, dev, ip, &m),
        _ => redirect::rcv(net, ns, dev, ip, &m),
    };
    match valid {
        Some(()) => net.consume_skb(skb),
        None => net.kfree_skb(skb, DropReason::Ipv6NdiscBadOptions, "ndisc_rcv"),
    }
}

/// Discovery does not need it, and who watches a link for forgeries does not see through it (RFC 6980).
#[doc(alias = "ndisc_suppress_frag_ndisc")]
#[cold]
fn fragmented(net: &mut Net, skb: Skb) {
    net.kmsg_ratelimited("ICMPv6: Received fragmented ndisc packet. Carefully consider disabling suppress_frag_ndisc.");
    net.kfree_skb(skb, DropReason::Ipv6NdiscFrag, "ndisc_rcv");
}

/// The target, and the hardware address in the option `kind`. `None`: malformed.
fn target_and_mac(m: &[u8], kind: u8) -> Option<(Ipv6Addr, Option<Mac>)> {
    let target = Ipv6Addr::from(*m.get(8..24)?.first_chunk::<16>()?);
    Some((target, mac_option(m.get(24..)?, kind)?))
}

pub(super) fn mac_option(options: &[u8], kind: u8) -> Option<Option<Mac>> {
    let mut mac = None;
    for o in nd_options(options) {
        let (k, body) = o?;
        if k == kind {
            mac = Some(nd_mac(body)?);
        }
    }
    Some(mac)
}

/// `router`: what the message says of its sender, if it does.
fn learn(net: &mut Net, ns: NsId, dev: DevId, addr: Ipv6Addr, mac: Mac, router: Option<bool>) {
    if let Some(id) = neighbour::lookup_or_create(net, ns, dev, IpAddr::V6(addr)) {
        if let Some(router) = router {
            neighbour::update_flags(net, ns, id, NTF_ROUTER, if router { NTF_ROUTER } else { 0 });
        }
        neighbour::update(net, ns, id, mac, Nud::Stale, Update { r#override: true, admin: false, weak: false });
    }
}

fn nonce(m: &[u8]) -> Option<[u8; 6]> {
    let mut all = nd_options(m.get(24..)?).flatten();
    all.find(|o| o.0 == ND_OPT_NONCE).and_then(|o| o.1.first_chunk().copied())
}

#[doc(alias = "ndisc_recv_ns")]
fn recv_ns(net: &mut Net, ns: NsId, dev: DevId, ip: &Ipv6Header, m: &[u8]) -> Option<()> {
    let (target, mac) = target_and_mac(m, ND_OPT_SOURCE_LL_ADDR)?;
    let dad = ip.src.is_unspecified();
    if target.is_multicast() || (dad && (mac.is_some() || ip.dst != solicited_node(target))) {
        return None;
    }
    let q = Question { from: ip.src, asked_all: ip.dst.is_multicast(), target, mac };
    let i = &net.devs.get(dev)?.inet6;
    let Some(own) = i.addrs.iter().find(|a| a.addr == target).copied() else {
        match (i.anycast.has(target) || is_proxied(net, ns, dev, target), q.asked_all) {
            (true, true) => anycast::ask_later(net, dev, q),
            (true, false) => answer(net, ns, dev, &q),
            _ => {}
        }
        return Some(());
    };
    if own.tentative() {
        // Somebody else asks for it at the same time; a question that is not for detection proves nothing.
        let looped = own.nonce.is_some() && nonce(m) == own.nonce;
        if dad && !own.dadfailed && !looped {
            net.dad_failure(dev, target);
        }
        if dad || !own.optimistic() {
            return Some(());
        }
    }
    answer(net, ns, dev, &q);
    Some(())
}

/// A router that is to (`proxy_ndp`) answers for who is named on the device.
fn is_proxied(net: &Net, ns: NsId, dev: DevId, target: Ipv6Addr) -> bool {
    let all = net.ns.get(ns).is_some_and(|n| n.v6.conf_all.proxy_ndp != 0);
    let conf = net.devs.get(dev).map(|d| d.inet6.conf);
    conf.is_some_and(|c| c.forwarding != 0 && (all || c.proxy_ndp != 0))
        && net.pneigh(ns, target.into(), Some(dev)).is_some()
}

/// What is meant for the discovery of who is answered for is taken here, however it is addressed.
#[doc(alias = "ip6_forward_proxy_check")]
pub(super) fn is_for_proxy(net: &Net, ns: NsId, dev: DevId, ip: &Ipv6Header, skb: &Skb) -> bool {
    let on = net.ns.get(ns).is_some_and(|n| n.v6.conf_all.proxy_ndp != 0);
    on && ip.next == NEXTHDR_ICMP
        && skb
            .head
            .at(skb.network_header)
            .get(IPV6_HLEN)
            .is_some_and(|kind| (NDISC_ROUTER_SOLICITATION..=NDISC_REDIRECT).contains(kind))
        && net.pneigh(ns, ip.dst.into(), Some(dev)).is_some()
}

/// Who asks for an address of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Unspecified: somebody who would like to have it.
    from: Ipv6Addr,
    asked_all: bool,
    target: Ipv6Addr,
    mac: Option<Mac>,
}

/// Answers it. Asked by multicast without an address, there is nobody to answer to but whom we know.
pub(super) fn answer(net: &mut Net, ns: NsId, dev: DevId, q: &Question) {
    if q.from.is_unspecified() {
        return send_na(net, dev, ALL_NODES, q.target, false, true);
    }
    let stats = net.neigh_stats(true);
    *(if q.asked_all { &mut stats.rcv_probes_mcast } else { &mut stats.rcv_probes_ucast }) += 1;
    let known = neighbour::lookup(net, ns, dev, IpAddr::V6(q.from)).is_some();
    match q.mac {
        Some(mac) => learn(net, ns, dev, q.from, mac, None),
        None if q.asked_all && !known => return,
        None => {}
    }
    send_na(net, dev, q.from, q.target, true, q.asked_all);
}

#[doc(alias = "ndisc_recv_na")]
fn recv_na(net: &mut Net, ns: NsId, dev: DevId, ip: &Ipv6Header, m: &[u8]) -> Option<()> {
    let (target, mac) = target_and_mac(m, ND_OPT_TARGET_LL_ADDR)?;
    let flags = *m.get(4)?;
    let solicited = flags & NA_SOLICITED != 0;
    if !solicited && net.devs.get(dev)?.inet6.conf.drop_unsolicited_na != 0 {
        return None;
    }
    if target.is_multicast() || (ip.dst.is_multicast() && solicited) {
        return None;
    }
    if let Some(own) = net.devs.get(dev)?.inet6.addrs.iter().find(|a| a.addr == target) {
        if own.tentative() {
            net.dad_failure(dev, target);
        }
        return Some(());
    }
    let known = neighbour::lookup(net, ns, dev, IpAddr::V6(target));
    let Some(id) = known else {
        if let Some(mac) = mac.filter(|_| accepts_untracked(net, dev, ip.src)) {
            learn(net, ns, dev, target, mac, Some(flags & NA_ROUTER != 0));
        }
        return Some(());
    };
    let entry = net.ns.get(ns)?.neighs.get(id)?;
    let (state, old) = (entry.state, entry.mac);
    // RFC 4861 §7.2.5: without the address nothing is learned while none is known.
    let Some(mac) = mac.or(state.valid().then_some(old)) else { return Some(()) };
    let to = if solicited { Nud::Reachable } else { Nud::Stale };
    let r#override = flags & NA_OVERRIDE != 0;
    neighbour::update_flags(net, ns, id, NTF_ROUTER, if flags & NA_ROUTER == 0 { 0 } else { NTF_ROUTER });
    neighbour::update(net, ns, id, mac, to, Update { r#override, admin: false, weak: true });
    if flags & NA_ROUTER == 0 {
        no_router_any_more(net, ns, dev, target);
    }
    Some(())
}

/// A router learns of neighbours that it did not ask for, from all (1) or from who is on a network of the device (2): RFC 9131.
#[doc(alias = "accept_untracked_na")]
fn accepts_untracked(net: &Net, dev: DevId, from: Ipv6Addr) -> bool {
    let Some(i) = net.devs.get(dev).map(|d| &d.inet6) else { return false };
    let same = |a: &If6Addr| (a.addr.to_bits() ^ from.to_bits()) & fib::mask(a.prefix) == 0;
    i.conf.forwarding != 0
        && match i.conf.accept_untracked_na {
            0 => false,
            1 => true,
            _ => i.addrs.iter().any(same),
        }
}

/// Who says that it is none is no default router (RFC 4861 §7.2.5).
#[doc(alias = "rt6_clean_tohost")]
fn no_router_any_more(net: &mut Net, ns: NsId, dev: DevId, target: Ipv6Addr) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    let through = |r: &Route6| r.proto == PROTO_RA && r.dev == Some(dev) && r.gateway == Some(target);
    if n.v6.fib.main.get(Ipv6Addr::UNSPECIFIED, 0).iter().any(through) {
        n.v6.fib.main.remove_all(through);
        n.v6.redirects.retain(|to, d, _| (to, d) != (target, dev));
        n.rt_genid = n.rt_genid.wrapping_add(1);
    }
}

#[doc(alias = "ndisc_recv_rs")]
fn recv_rs(net: &mut Net, ns: NsId, dev: DevId, ip: &Ipv6Header, m: &[u8]) -> Option<()> {
    let mac = mac_option(m.get(8..)?, ND_OPT_SOURCE_LL_ADDR)?;
    // Only routers care.
    if let Some(mac) = mac.filter(|_| net.devs.get(dev).is_some_and(|d| d.inet6.conf.forwarding != 0)) {
        if ip.src.is_unspecified() {
            return None;
        }
        learn(net, ns, dev, ip.src, mac, Some(false));
    }
    Some(())
}

fn recv_ra(net: &mut Net, ns: NsId, dev: DevId, ip: &Ipv6Header, m: &[u8]) -> Option<()> {
    if !is_linklocal(ip.src) {
        return None;
    }
    let mac = mac_option(m.get(16..)?, ND_OPT_SOURCE_LL_ADDR)?;
    let local = route::chk_addr(net, ns, ip.src, Some(dev));
    if !local || net.devs.get(dev)?.inet6.conf.accept_ra_from_local != 0 {
        router_discovery(net, ns, dev, ip.src, m);
    }
    if let Some(mac) = mac {
        learn(net, ns, dev, ip.src, mac, Some(true));
    }
    Some(())
}

/// What a router says of itself and its link, where it is listened to (RFC 4861 §6.3.4).
#[doc(alias = "ndisc_router_discovery")]
fn router_discovery(net: &mut Net, ns: NsId, dev: DevId, router: Ipv6Addr, m: &[u8]) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let conf = d.inet6.conf;
    let accepts = match conf.accept_ra {
        0 => false,
        1 => conf.forwarding == 0,
        _ => true,
    };
    let (Some(&[_, _, _, _, hops, flags, l0, l1, ..]), true) = (m.first_chunk::<16>(), accepts) else { return };
    d.inet6.rs = None;
    let lifetime = u16::from_be_bytes([l0, l1]);
    if conf.accept_ra_defrtr != 0 && (lifetime == 0 || conf.accept_ra_min_lft <= lifetime.into()) {
        let pref = if conf.accept_ra_rtr_pref != 0 { Pref::of(flags) } else { Pref::Medium };
        default_router(net, ns, dev, router, u64::from(lifetime) * SEC, (pref, conf.ra_defrtr_metric));
    }
    if hops != 0 && conf.accept_ra_min_hop_limit <= hops.into() {
        net.ra_hop_limit(dev, router, hops);
    }
    let options = || nd_options(m.get(16..).unwrap_or(&[])).flatten();
    let sllao = options().any(|o| o.0 == ND_OPT_SOURCE_LL_ADDR);
    for (kind, body) in options() {
        match kind {
            ND_OPT_PREFIX_INFO if conf.accept_ra_pinfo != 0 => net.prefix_rcv(dev, body, sllao),
            ND_OPT_ROUTE_INFO if conf.accept_ra_rtr_pref != 0 => route_info(net, ns, dev, router, body),
            ND_OPT_MTU if conf.accept_ra_mtu != 0 => {
                let mtu = body.get(2..6).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
                net.ra_mtu(dev, router, mtu);
            }
            _ => {}
        }
    }
    net.arm_addrconf(dev);
}

/// A route that a router advertises (RFC 4191 §2.3), of a length that `accept_ra_rt_info_*` allow.
#[doc(alias = "rt6_route_rcv")]
fn route_info(net: &mut Net, ns: NsId, dev: DevId, router: Ipv6Addr, b: &[u8]) {
    let Some(conf) = net.devs.get(dev).map(|d| d.inet6.conf) else { return };
    let (Some(&[len, flags, l0, l1, l2, l3]), words) = (b.first_chunk(), b.get(6..).unwrap_or(&[])) else { return };
    let (lifetime, bits) = (u32::from_be_bytes([l0, l1, l2, l3]), usize::from(len));
    let (least, most) = (conf.accept_ra_rt_info_min_plen, conf.accept_ra_rt_info_max_plen);
    let refused = (bits == 0 && conf.accept_ra_defrtr == 0)
        || (lifetime != 0 && i64::from(conf.accept_ra_min_lft) > lifetime.into())
        || !(least..=most).contains(&i32::from(len));
    // As many octets as the length needs, in steps of eight; the reserved preference says nothing (RFC 4191 §2.3).
    let enough = [0, 8, 16].into_iter().any(|n| words.len() == n && bits <= n * 8);
    if refused || !enough || bits > 128 || flags >> 3 & 3 == 2 {
        return;
    }
    let mut prefix = [0; 16];
    prefix.iter_mut().zip(words).for_each(|(p, w)| *p = *w);
    let prefix = Ipv6Addr::from_bits(u128::from_be_bytes(prefix) & fib::mask(len));
    let until = if lifetime == u32::MAX { None } else { Some(u64::from(lifetime) * SEC) };

    ra_route(net, ns, dev, (prefix, len), router, until, (Pref::of(flags), PRIO_USER));
}

/// The way out is through `router` for so long, or not any more.
#[doc(alias = "rt6_add_dflt_router")]
fn default_router(net: &mut Net, ns: NsId, dev: DevId, router: Ipv6Addr, lifetime: Nanos, how: (Pref, u32)) {
    ra_route(net, ns, dev, (Ipv6Addr::UNSPECIFIED, 0), router, Some(lifetime), how);
}

/// The same of any prefix; `None` is for ever.
#[doc(alias = "rt6_add_route_info")]
fn ra_route(
    net: &mut Net,
    ns: NsId,
    dev: DevId,
    (prefix, len): (Ipv6Addr, u8),
    router: Ipv6Addr,
    lifetime: Option<Nanos>,
    (pref, metric): (Pref, u32),
) {
    let now = net.env.now;
    let Some(n) = net.ns.get_mut(ns) else { return };
    let same = |r: &Route6| r.dev == Some(dev) && r.gateway == Some(router) && r.proto == PROTO_RA;
    // One that is known stays in its place.
    let mut known = false;
    let expires = lifetime.map(|l| now + l);
    n.v6.fib.main.edit(prefix, len, |routes| {
        routes.retain(|r| lifetime != Some(0) || !same(r));
        for r in routes.iter_mut().filter(|r| same(r)) {
            (r.expires, r.pref, known) = (expires, pref, true);
        }
    });
    n.rt_genid = n.rt_genid.wrapping_add(1);
    if known {
        return;
    }
    if lifetime != Some(0)
        && net.has_room_for_route(ns, dev)
        && let Some(n) = net.ns.get_mut(ns)
    {
        let via = Route6::unicast(Some(router), Some(dev));
        n.v6.fib.main.insert(prefix, len, Route6 { proto: PROTO_RA, metric, expires, pref, ..via });
    }
}

/// Nobody answered: who waits hears "address unreachable".
#[doc(alias = "ndisc_error_report")]
pub fn error_report(net: &mut Net, skb: Skb) {
    if let (Some(ns), Some(dst)) = (skb.ns, skb.dst) {
        route::link_failure(net, ns, &dst);
    }
    icmp::icmpv6_send(net, &skb, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0);
    net.kfree_skb(skb, DropReason::NeighFailed, "ndisc_error_report");
}
