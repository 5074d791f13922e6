//! Packets and ICMPv6 errors from the network, to raw and ping sockets of IPv6.
use super::rcv::{Told, matches, ping_lookup, queue_rcv, report};
use super::{Kind, RawSock};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::{Owner, SkBuff, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv6::icmp_rcv::convert;
use crate::net::ipv6::route::update_pmtu;
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{Ipv6Header, NEXTHDR_ICMP};
use belljar_wire::{Csum, checksum};
use core::net::{IpAddr, Ipv6Addr};

/// A copy for every raw socket that fits, from the transport header on (pulled to it); whether there was one.
#[doc(alias = "ipv6_raw_deliver")]
pub fn raw6_local_deliver(k: &mut Kernel, ns: NsId, skb: &SkBuff, proto: u8, ip: &Ipv6Header) -> bool {
    let mut delivered = false;
    let nth = |k: &Kernel, n: usize| k.net.ns.get(ns).and_then(|ns| ns.raw.raw.get(n).copied());
    let mut n = 0;
    while let Some(id) = nth(k, n) {
        n += 1;
        let dev = crate::net::af::inet_iif(&k.net, skb.dev, ip.dst.into());
        let fits = |s: &&RawSock| matches(s, proto, ip.src.into(), ip.dst.into(), dev);
        let Some(s) = k.socks.raw.get(id).filter(fits) else { continue };
        delivered = true;
        if proto == NEXTHDR_ICMP && filtered(s, skb) {
            continue;
        }
        let looks = s.csum_offset.is_some() && skb.csum == Csum::None;
        let mut copy = k.net.alloc_skb();
        *copy = skb.clone();
        (copy.owner, copy.tx) = (Owner::None, None);
        if looks && !sum_is_right(skb, proto, ip) {
            if let Some(s) = k.socks.raw.get_mut(id) {
                s.sk.drops = s.sk.drops.wrapping_add(1);
            }
            k.net.kfree_skb(copy, DropReason::SkbCsum, "rawv6_rcv");
            continue;
        }
        queue_rcv(k, id, copy, "rawv6_rcv");
    }
    delivered
}

/// IPV6_CHECKSUM: what the socket gets has a sum that is right.
fn sum_is_right(skb: &SkBuff, proto: u8, ip: &Ipv6Header) -> bool {
    let (linear, pseudo) = (skb.head.bytes(), checksum::pseudo(ip.src.into(), ip.dst.into(), proto, skb.len()));
    let both = checksum::combine(checksum::sum(linear, 0), checksum::segs(&skb.frags), linear.len());
    checksum::fold(checksum::add(pseudo, both)) == 0
}

/// ICMPV6_FILTER has a bit for each type that is not wanted.
#[doc(alias = "icmpv6_filter")]
fn filtered(s: &RawSock, skb: &SkBuff) -> bool {
    let Kind::Raw { .. } = s.kind else { return false };
    match skb.peek::<1>() {
        Some([kind]) => s.filter6.get(usize::from(kind >> 5)).is_some_and(|w| w >> (kind & 31) & 1 == 1),
        None => true,
    }
}

/// An echo reply, at its ICMPv6 header. `raw`: a raw socket has a copy.
pub fn ping6_rcv(k: &mut Kernel, ns: NsId, skb: Skb, h: &IcmpHeader, raw: bool) {
    let ident = u16::from_be_bytes([h.rest[0], h.rest[1]]);
    match ping_lookup(k, ns, &skb, ident) {
        Some(id) => queue_rcv(k, id, skb, "ping_rcv"),
        None if raw => k.net.consume_skb(skb),
        None => k.net.kfree_skb(skb, DropReason::NoSocket, "ping_rcv"),
    }
}

/// `skb` is at the quoted IPv6 header, its transport header `at` bytes behind: raw sockets that could have sent it, and the
/// ping socket that did.
#[doc(alias = "rawv6_err")]
#[allow(clippy::too_many_arguments)]
pub fn raw6_err(
    k: &mut Kernel,
    ns: NsId,
    proto: u8,
    skb: &SkBuff,
    (src, dst, at): (Ipv6Addr, Ipv6Addr, usize),
    kind: u8,
    code: u8,
    info: u32,
) {
    let (errno, hard) = convert(kind, code);
    let told = Told { errno, hard, kind, code, info, from: at, to: IpAddr::V6(dst) };
    let nth = |k: &Kernel, n: usize| k.net.ns.get(ns).and_then(|ns| ns.raw.raw.get(n).copied());
    let mut n = 0;
    while let Some(id) = nth(k, n) {
        n += 1;
        let fits = |s: &&RawSock| matches(s, proto, dst.into(), src.into(), skb.dev);
        let Some(s) = k.socks.raw.get(id).filter(fits) else { continue };
        let heard = s.sk.flags.recverr || s.connected();
        if kind == ICMPV6_PKT_TOOBIG {
            update_pmtu(&mut k.net, ns, dst, info);
        }
        if heard {
            report(k, id, skb, &told);
        }
    }
    if proto != NEXTHDR_ICMP {
        return;
    }
    let Some(&[ICMPV6_ECHO_REQUEST, 0, _, _, i0, i1]) = skb.head.bytes().get(at..).and_then(|b| b.first_chunk()) else {
        return;
    };
    if kind == ICMPV6_PKT_TOOBIG {
        update_pmtu(&mut k.net, ns, dst, info);
    }
    let Some(id) = ping_lookup(k, ns, skb, u16::from_be_bytes([i0, i1])) else { return };
    if k.socks.raw.get(id).is_some_and(|s| s.sk.flags.recverr || (hard && s.connected())) {
        report(k, id, skb, &Told { hard: true, ..told });
    }
}
