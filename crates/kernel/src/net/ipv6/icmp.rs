//! Sending ICMPv6: errors with their rate limits, echo replies.
use super::anycast::is_anycast;
use super::fib::mask;
use super::flowlabel::REFLECT_ECHO_REPLIES;
use super::output::{Ip6Tx, ip6_xmit};
use super::route;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::skb::{PktType, Sender, SkBuff};
use crate::net::ipv4::icmp::{global_allow, global_consume, reply_mark};
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::net::mib::Mib;
use crate::net::netfilter::attach;
use crate::net::netfilter::conntrack::NfCt;
use belljar_wire::icmp::{ICMP_HLEN, IcmpHeader};
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::{Csum, Seg, Segs, checksum};
use core::net::{IpAddr, Ipv6Addr};

/// Tells the sender of `offending` (its network header still reachable) about an error. `info` is the word behind the
/// checksum: MTU or pointer.
#[doc(alias = "icmp6_send")]
pub fn icmpv6_send(net: &mut Net, offending: &SkBuff, kind: u8, code: u8, info: u32) {
    let Some(ns) = offending.ns else { return };
    let packet = offending.head.at(offending.network_header);
    let Ok(ip) = Ipv6Header::parse(packet) else { return };
    // RFC 4443 §2.4 e: never about groups but for two reasons, errors, or packets without a sender.
    let to_many = ip.dst.is_multicast() || !matches!(offending.pkt_type, PktType::Host | PktType::Outgoing);
    let allowed = kind == ICMPV6_PKT_TOOBIG || (kind == ICMPV6_PARAMPROB && code == ICMPV6_UNK_OPTION);
    if (to_many && !allowed) || ip.src.is_unspecified() || ip.src.is_multicast() || ineligible(packet) {
        return;
    }
    let dev = offending.dev;
    let Some(apply) = global(net, ns, dev, kind) else { return };
    let ours = route::is_local(net, ns, ip.dst) || is_anycast(net, ns, dev, ip.dst);
    let source = if ip.dst.is_multicast() || !ours { None } else { Some(ip.dst) };
    let saddr = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
    let oif = dev.filter(|_| needs_scope(ip.src));
    let mark = reply_mark(net, ns, true, offending.mark);
    let fl = Flow { saddr: saddr.into(), oif, mark, proto: NEXTHDR_ICMP, ..Flow::to(ip.src.into()) };
    let Ok(dst) = route::ip6_route_output(net, ns, &fl, ip.src) else { return };
    if is_known_anycast(net, ns, &dst, ip.src) {
        return;
    }
    if apply && !allow(net, ns, &dst, ip.src) {
        return;
    }
    let room = (IPV6_MIN_MTU as usize).min(dst.mtu as usize).saturating_sub(IPV6_HLEN + ICMP_HLEN);
    let mut quote = Segs::from(Seg::from(&packet[..packet.len().min(room)]));
    quote.append(offending.frags.slice(0, room.saturating_sub(packet.len()).min(offending.frags.len())));
    let header = IcmpHeader { kind, code, csum: 0, rest: info.to_be_bytes() };
    push(net, ns, (attach(offending), mark), &dst, ip.src, header, quote, (0, 0));
}

/// Whoever has it is one of several (RFC 4443 §2.4 e.6): a network's first address, unless `icmp.error_anycast_as_unicast`.
#[doc(alias = "ipv6_anycast_destination")]
fn is_known_anycast(net: &Net, ns: NsId, dst: &Dst, to: Ipv6Addr) -> bool {
    let Some(n) = net.ns.get(ns).filter(|n| n.sysctl.icmp6_error_anycast_as_unicast == 0) else { return false };
    let on_link = dst.kind == RouteKind::Unicast && dst.gateway.is_none();
    let first = |len: u8| len < 127 && to.to_bits() & !mask(len) == 0;
    (on_link && n.v6.fib.main.prefix_of(to, net.env.now).is_some_and(first)) || is_anycast(net, ns, Some(dst.dev), to)
}

/// An ICMPv6 error, or a fragment that is not the first, or what cannot be read (`is_ineligible`).
fn ineligible(packet: &[u8]) -> bool {
    let Some(t) = transport(packet) else { return true };
    let later = t.frag.is_some_and(|f| f.offset != 0);
    t.proto == NEXTHDR_ICMP && (later || packet.get(t.at).is_none_or(|kind| kind & ICMPV6_INFOMSG_MASK == 0))
}

/// Whether a type is limited: what `icmp.ratemask` leaves out and what came by the loopback is free. `None`: the namespace's
/// budget, which IPv4 draws on as well, is spent.
#[doc(alias = "icmpv6_global_allow")]
fn global(net: &mut Net, ns: NsId, dev: Option<DevId>, kind: u8) -> Option<bool> {
    let from_lo = dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.is_loopback());
    if from_lo || !net.ns.get(ns)?.sysctl.icmp6_ratemask.contains(kind.into()) {
        return Some(false);
    }
    if !global_allow(net, ns) {
        net.inc(ns, Mib::IcmpOutRateLimitGlobal);
        return None;
    }
    Some(true)
}

/// A token of the destination's own bucket, wider prefixes having more, which this host does not need, and of the namespace's.
#[doc(alias = "icmpv6_xrlim_allow")]
fn allow(net: &mut Net, ns: NsId, dst: &Dst, to: Ipv6Addr) -> bool {
    let (now, hz, time) = (net.env.jiffies(), net.env.hz, net.env.now);
    let to_lo = dst.kind == RouteKind::Local || net.devs.get(dst.dev).is_some_and(|d| d.is_loopback());
    let Some(n) = net.ns.get_mut(ns) else { return false };
    let prefix = n.v6.fib.main.prefix_of(to, time).unwrap_or(128);
    let ticks = (u64::from(n.sysctl.icmp6_ratelimit) * u64::from(hz) / 1000) as u32;
    if !to_lo && !n.peers.get(IpAddr::V6(to), now).xrlim_allow(ticks >> ((128 - prefix) >> 5), now) {
        net.inc(ns, Mib::Icmp6OutRateLimitHost);
        return false;
    }
    global_consume(net, ns);
    true
}

/// Answers an echo request (ICMP header pulled) with its own payload.
#[doc(alias = "icmpv6_echo_reply")]
pub(super) fn echo_reply(net: &mut Net, ns: NsId, skb: &SkBuff, ip: &Ipv6Header, request: IcmpHeader, data: Segs) {
    let Some(apply) = global(net, ns, skb.dev, ICMPV6_ECHO_REPLY) else { return };
    let by_anycast = net.ns.get(ns).is_some_and(|n| n.sysctl.anycast_src_echo_reply != 0);
    let many = ip.dst.is_multicast() || (!by_anycast && is_anycast(net, ns, skb.dev, ip.dst));
    let saddr = if many { Ipv6Addr::UNSPECIFIED } else { ip.dst };
    let oif = skb.dev.filter(|_| needs_scope(ip.src));
    let mark = reply_mark(net, ns, true, skb.mark);
    let fl = Flow { saddr: saddr.into(), oif, mark, proto: NEXTHDR_ICMP, ..Flow::to(ip.src.into()) };
    let Ok(dst) = route::ip6_route_output(net, ns, &fl, ip.src) else { return };
    if apply && !allow(net, ns, &dst, ip.src) {
        return;
    }
    let header = IcmpHeader { kind: ICMPV6_ECHO_REPLY, csum: 0, ..request };
    let reflect = net.ns.get(ns).is_some_and(|n| n.sysctl.flowlabel_reflect & REFLECT_ECHO_REPLIES != 0);
    let flow = if reflect { ip.flow } else { 0 };
    push(net, ns, (NfCt::default(), mark), &dst, ip.src, header, data, (ip.tclass, flow));
}

/// Counts, checksums and sends one message.
#[allow(clippy::too_many_arguments)]
fn push(
    net: &mut Net,
    ns: NsId,
    (nf, mark): (NfCt, u32),
    dst: &Dst,
    to: Ipv6Addr,
    header: IcmpHeader,
    data: Segs,
    (tclass, flow): (u8, u32),
) {
    let IpAddr::V6(saddr) = dst.src else { return };
    let mut skb = net.alloc_skb();
    (skb.sender, skb.mark) = (Sender::Kernel, mark);
    let mut b = [0; ICMP_HLEN];
    header.emit(&mut b);
    let pseudo = checksum::pseudo_v6(saddr, to, NEXTHDR_ICMP, ICMP_HLEN + data.len());
    let csum = checksum::fold(checksum::add(checksum::sum(&b, pseudo), checksum::segs(&data)));
    if let Some(room) = skb.head.push(ICMP_HLEN) {
        IcmpHeader { csum, ..header }.emit(room);
    }
    skb.transport_header = skb.head.start();
    skb.csum = Csum::Unnecessary;
    skb.frags = data;
    skb.nf = nf;
    skb.set_truesize();
    out_count(net, ns, header.kind);
    let tx = Ip6Tx {
        ns,
        saddr,
        daddr: to,
        proto: NEXTHDR_ICMP,
        tclass,
        hop_limit: None,
        whole: false,
        mc_loop: false,
        autolabel: None,
        flow,
    };
    if ip6_xmit(net, &tx, dst, skb).is_err() {
        af::discarded(net, ns, true);
    }
}

/// A message leaves.
pub fn out_count(net: &mut Net, ns: NsId, kind: u8) {
    net.inc(ns, Mib::Icmp6OutMsgs);
    let c = match kind {
        ICMPV6_DEST_UNREACH => Mib::Icmp6OutDestUnreachs,
        ICMPV6_PKT_TOOBIG => Mib::Icmp6OutPktTooBigs,
        ICMPV6_TIME_EXCEED => Mib::Icmp6OutTimeExcds,
        ICMPV6_PARAMPROB => Mib::Icmp6OutParmProblems,
        ICMPV6_ECHO_REQUEST => Mib::Icmp6OutEchos,
        ICMPV6_ECHO_REPLY => Mib::Icmp6OutEchoReplies,
        NDISC_ROUTER_SOLICITATION => Mib::Icmp6OutRouterSolicits,
        NDISC_NEIGHBOUR_SOLICITATION => Mib::Icmp6OutNeighborSolicits,
        NDISC_REDIRECT => Mib::Icmp6OutRedirects,
        NDISC_NEIGHBOUR_ADVERTISEMENT => Mib::Icmp6OutNeighborAdvertisements,
        ICMPV6_MGM_REPORT => Mib::Icmp6OutGroupMembResponses,
        ICMPV6_MGM_REDUCTION => Mib::Icmp6OutGroupMembReductions,
        ICMPV6_MLD2_REPORT => Mib::Icmp6OutMLDv2Reports,
        _ => return,
    };
    net.inc(ns, c);
}
