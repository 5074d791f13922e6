//! Sending ICMP: errors with their rate limits, echo replies.
use crate::env::{Jiffies, SEC};
use crate::ids::NsId;
use crate::net::core::skb::{PktType, Sender, SkBuff, Skb};
use crate::net::ipv4::fib::Scope;
use crate::net::ipv4::options;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Dst, Flow4, RouteKind, addr_type, ip_route_output};
use crate::net::mib::Mib;
use crate::net::netfilter::attach;
use crate::net::netfilter::conntrack::NfCt;
use crate::net::netns::NetNs;
use crate::net::{Net, af};
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, Ipv4Header};
use belljar_wire::{Seg, Segs, checksum};
use core::net::Ipv4Addr;

/// Tokens for the whole namespace (`icmp_msgs_per_sec`, `icmp_msgs_burst`).
#[derive(Clone, Copy, Debug, Default)]
pub struct IcmpLimits {
    credit: i64,
    stamp: Jiffies,
}

/// Packets quoted are cut so that the message fits what every host takes (RFC 1812 §4.3.2.3).
const QUOTE_MAX: usize = 576;

/// Whether a type is limited at all: icmp_ratemask, and never "fragmentation needed".
fn limited(net: &Net, ns: NsId, kind: u8, code: u8) -> bool {
    let pmtu = kind == ICMP_DEST_UNREACH && code == ICMP_FRAG_NEEDED;
    let mask = net.ns.get(ns).map_or(0, |n| n.sysctl.icmp_ratemask);
    kind <= NR_ICMP_TYPES && !pmtu && mask & 1 << kind != 0
}

/// A token of the destination's own bucket, which this host does not need, and of the namespace's.
#[doc(alias = "icmpv4_xrlim_allow")]
fn xrlim_allow(net: &mut Net, ns: NsId, dst: &Dst, to: Ipv4Addr) -> bool {
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let to_lo = net.devs.get(dst.dev).is_some_and(|d| d.is_loopback());
    let Some(n) = net.ns.get_mut(ns) else { return false };
    let timeout = (u64::from(n.sysctl.icmp_ratelimit) * u64::from(hz) / 1000) as u32;
    if !to_lo && !n.peers.get(to, now).xrlim_allow(timeout, now) {
        net.inc(ns, Mib::IcmpOutRateLimitHost);
        return false;
    }
    global_consume(net, ns);
    true
}

#[doc(alias = "icmp_global_allow")]
pub fn global_allow(net: &mut Net, ns: NsId) -> bool {
    let (now, hz) = (net.env.jiffies(), i64::from(net.env.hz));
    let Some(n) = net.ns.get_mut(ns) else { return false };
    if n.icmp.credit > 0 {
        return true;
    }
    let first = n.icmp.stamp == 0;
    let delta = if first { hz } else { i64::from(now.wrapping_sub(n.icmp.stamp)).min(hz) };
    if delta < hz / 50 {
        return false;
    }
    let more = i64::from(n.sysctl.icmp_msgs_per_sec) * delta / hz.max(1);
    if more <= 0 {
        return false;
    }
    n.icmp.stamp = now;
    n.icmp.credit = (n.icmp.credit + more).min(i64::from(n.sysctl.icmp_msgs_burst));
    n.icmp.credit > 0
}

/// Takes 0 to 2 credits, so that the counter tells an outsider nothing (`icmp_global_consume`).
pub fn global_consume(net: &mut Net, ns: NsId) {
    let n = i64::from(net.env.rng.below(3));
    if let Some(ns) = net.ns.get_mut(ns) {
        ns.icmp.credit -= n;
    }
}

/// Tells the sender of `offending` (its network header still reachable) about an error. `info` is the last word of the
/// header: MTU, gateway or pointer.
#[doc(alias = "__icmp_send")]
pub fn icmp_send(net: &mut Net, offending: &SkBuff, kind: u8, code: u8, info: u32) {
    let Some(ns) = offending.ns else { return };
    let Some(ip) = offending.ip_hdr() else { return };
    // RFC 1122 §3.2.2: never about broadcasts, fragments but the first, or other ICMP errors.
    if !matches!(offending.pkt_type, PktType::Host | PktType::Outgoing) || ip.frag_off != 0 {
        return;
    }
    if offending.dst.is_some_and(|d| matches!(d.kind, RouteKind::Broadcast | RouteKind::Multicast)) {
        return;
    }
    let inner = offending.head.at(offending.network_header).get(ip.ihl_bytes).copied();
    let inner = inner.or_else(|| offending.frags.iter().next().and_then(|s| s.as_slice().first().copied()));
    if ip.proto == IPPROTO_ICMP
        && inner.is_none_or(|t| t > NR_ICMP_TYPES || IcmpHeader { kind: t, ..Default::default() }.is_error())
    {
        return;
    }
    let is_limited = limited(net, ns, kind, code);
    let from_lo = offending.dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.is_loopback());
    if is_limited && !from_lo && !global_allow(net, ns) {
        return net.inc(ns, Mib::IcmpOutRateLimitGlobal);
    }
    // Our own address as the source if the packet was for us; the route's choice otherwise.
    let saddr = match addr_type(net, ns, ip.dst) {
        RouteKind::Local => ip.dst,
        _ => inbound_addr(net, ns, offending, ip.src).unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    let (tos, mark) = (ip.tos & 0x1e | 0xc0, reply_mark(net, ns, false, offending.mark));
    let fl = Flow4 { saddr, tos, mark, proto: IPPROTO_ICMP, ..Flow4::to(ip.src) };
    let Ok(dst) = ip_route_output(net, ns, &fl) else {
        return;
    };
    if is_limited && !from_lo && !xrlim_allow(net, ns, &dst, ip.src) {
        return;
    }
    let options = options::echo(options::of_skb(offending));
    let quote = quote(offending, &ip, (dst.mtu as usize).min(QUOTE_MAX).saturating_sub(28 + options.len()));
    let header = IcmpHeader { kind, code, csum: 0, rest: info.to_be_bytes() };
    let nf = attach(offending);
    push_reply(
        net,
        ns,
        (nf, mark),
        &dst,
        if saddr.is_unspecified() { af::v4(dst.src) } else { saddr },
        ip.src,
        tos,
        &options,
        header,
        quote,
    );
}

/// `icmp_errors_use_inbound_ifaddr`: the source is an address of the device that the packet came by.
fn inbound_addr(net: &Net, ns: NsId, skb: &SkBuff, to: Ipv4Addr) -> Option<Ipv4Addr> {
    let asked = net.ns.get(ns).is_some_and(|n| n.sysctl.icmp_errors_use_inbound_ifaddr != 0);
    let dev = skb.dev.filter(|_| asked && skb.pkt_type == PktType::Host)?;
    net.devs.get(dev)?.select_addr(to, Scope::Link)
}

/// The mark of what the kernel answers by itself: with `fwmark_reflect` the packet's.
#[doc(alias = "IP4_REPLY_MARK")]
#[doc(alias = "IP6_REPLY_MARK")]
pub fn reply_mark(net: &Net, ns: NsId, six: bool, mark: u32) -> u32 {
    let reflects = |n: &NetNs| if six { n.sysctl.fwmark_reflect6 } else { n.sysctl.fwmark_reflect } != 0;
    if net.ns.get(ns).is_some_and(reflects) { mark } else { 0 }
}

/// The beginning of the offending packet, from its IP header on.
fn quote(skb: &SkBuff, ip: &Ipv4Header, room: usize) -> Segs {
    let linear = skb.head.at(skb.network_header);
    let room = room.min((ip.total_len as usize).max(ip.ihl_bytes));
    let mut out = Segs::from(Seg::from(&linear[..linear.len().min(room)]));
    out.append(skb.frags.slice(0, room.saturating_sub(linear.len())));
    out
}

/// Counts, checksums and sends one message (`icmp_push_reply`).
#[allow(clippy::too_many_arguments)]
fn push_reply(
    net: &mut Net,
    ns: NsId,
    (nf, mark): (NfCt, u32),
    dst: &Dst,
    saddr: Ipv4Addr,
    daddr: Ipv4Addr,
    tos: u8,
    options: &[u8],
    header: IcmpHeader,
    data: Segs,
) {
    let mut skb = net.alloc_skb();
    skb.sender = Sender::Kernel;
    let mut bytes = [0; ICMP_HLEN];
    header.emit(&mut bytes);
    let csum = checksum::fold(checksum::add(checksum::sum(&bytes, 0), checksum::segs(&data)));
    if let Some(room) = skb.head.push(ICMP_HLEN) {
        IcmpHeader { csum, ..header }.emit(room);
    }
    skb.transport_header = skb.head.start();
    skb.frags = data;
    (skb.nf, skb.mark) = (nf, mark);
    skb.set_truesize();
    let optlen = if options.is_empty() { 0 } else { options::push(net, ns, &mut skb, options, saddr.into()) };
    icmp_out_count(net, ns, header.kind);
    let ttl = net.ns.get(ns).map_or(64, |n| n.sysctl.ip_default_ttl) as u8;
    let tx = IpTx { ns, saddr, daddr, proto: IPPROTO_ICMP, tos, ttl, df: false, optlen };
    if ip_queue_xmit(net, &tx, dst, skb).is_err() {
        af::discarded(net, ns, false);
    }
}

/// A message leaves.
pub fn icmp_out_count(net: &mut Net, ns: NsId, kind: u8) {
    net.inc(ns, Mib::IcmpOutMsgs);
    if let Some(c) = out_counter(kind) {
        net.inc(ns, c);
    }
}

fn out_counter(kind: u8) -> Option<Mib> {
    Some(match kind {
        ICMP_ECHOREPLY => Mib::IcmpOutEchoReps,
        ICMP_DEST_UNREACH => Mib::IcmpOutDestUnreachs,
        ICMP_REDIRECT => Mib::IcmpOutRedirects,
        ICMP_ECHO => Mib::IcmpOutEchos,
        ICMP_TIME_EXCEEDED => Mib::IcmpOutTimeExcds,
        ICMP_PARAMETERPROB => Mib::IcmpOutParmProbs,
        ICMP_TIMESTAMPREPLY => Mib::IcmpOutTimestampReps,
        _ => return None,
    })
}

/// Answers a request (ICMP header pulled) with `kind`, the same identifier, and `data`.
pub fn icmp_reply(net: &mut Net, ns: NsId, request: Skb, ip: &Ipv4Header, header: IcmpHeader, data: Segs) {
    let local = addr_type(net, ns, ip.dst) == RouteKind::Local;
    let options = options::echo(options::of_skb(&request));
    let mark = reply_mark(net, ns, false, request.mark);
    net.consume_skb(request);
    let is_limited = limited(net, ns, header.kind, 0);
    if is_limited && !global_allow(net, ns) {
        return net.inc(ns, Mib::IcmpOutRateLimitGlobal);
    }
    let saddr = if local { ip.dst } else { Ipv4Addr::UNSPECIFIED };
    let fl = Flow4 { saddr, tos: ip.tos, mark, proto: IPPROTO_ICMP, ..Flow4::to(ip.src) };
    let Ok(dst) = ip_route_output(net, ns, &fl) else { return };
    if is_limited && !xrlim_allow(net, ns, &dst, ip.src) {
        return;
    }
    let saddr = if local { saddr } else { af::v4(dst.src) };
    push_reply(net, ns, (NfCt::default(), mark), &dst, saddr, ip.src, ip.tos, &options, header, data);
}

/// Milliseconds since midnight, for time stamp replies.
pub fn midnight_ms(net: &Net) -> u32 {
    ((net.env.now + net.env.wall_offset) % (86_400 * SEC) / 1_000_000) as u32
}
