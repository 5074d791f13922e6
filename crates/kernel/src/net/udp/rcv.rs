//! Datagrams from the network: checks, lookup, receive queue.
use super::tables::{Lookup, lookup};
use super::{UdpSock, gso, truesize, wake};
use crate::drivers::vxlan;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af;
use crate::net::core::filter::Packet;
use crate::net::core::reuseport;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp::icmp_send;
use crate::net::ipv4::mcast;
use crate::net::ipv4::route::RouteKind;
use crate::net::ipv6::icmp::icmpv6_send;
use crate::net::ipv6::mcast_opt::takes_group;
use crate::net::mib::Mib;
use crate::net::tcp::tables::tproxy_to;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_wire::ethernet::ETH_P_IPV6;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_PORT_UNREACH};
use belljar_wire::icmpv6::{ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH};
use belljar_wire::ipv4::IPPROTO_UDP;
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, checksum};
use core::net::IpAddr;

/// A datagram, pulled to its UDP header.
#[doc(alias = "__udp4_lib_rcv")]
pub fn udp_rcv(k: &mut Kernel, mut skb: Skb) {
    let Some(ns) = skb.ns else {
        return k.net.kfree_skb(skb, DropReason::NotSpecified, "udp_rcv");
    };
    let ends = af::addresses(&skb);
    let (src, dst) = ends;
    let six = dst.is_ipv6();
    k.net.stage(&skb, "udp_rcv");
    let header = if skb.may_pull(UDP_HLEN) { UdpHeader::parse(skb.head.bytes()).ok() } else { None };
    let Some(h) = header.filter(|h| h.len as usize <= skb.len()) else {
        k.net.inc(ns, Mib::UdpInErrors.of(six));
        return k.net.kfree_skb(skb, DropReason::PktTooSmall, "udp_rcv");
    };
    skb.trim(h.len as usize);
    if !checksum_good(&skb, &h, ends) {
        return bad_checksum(k, ns, skb, six);
    }
    skb.transport_header = skb.head.start();
    if !six && k.net.ns.get(ns).is_some_and(|n| n.udp.is_encap(h.dst_port)) {
        return vxlan::rcv(&mut k.net, ns, h.dst_port, skb);
    }
    let everybody = skb.dst.is_some_and(|d| matches!(d.kind, RouteKind::Broadcast | RouteKind::Multicast));
    if everybody {
        return deliver_to_all(k, ns, skb, &h, ends);
    }
    let Some(n) = k.net.ns.get(ns) else { return k.net.kfree_skb(skb, DropReason::NoSocket, "udp_rcv") };
    // A TPROXY rule said which socket.
    let (daddr, dport) = match skb.tproxy {
        Some(to) => tproxy_to(k, dst, h.dst_port, &skb, to),
        None => (dst, h.dst_port),
    };
    let l = Lookup {
        daddr,
        dport,
        saddr: src,
        sport: h.src_port,
        dev: af::inet_iif(&k.net, skb.dev, dst),
        secret: n.secret,
        cpu: k.net.cpu,
        packet: n.udp.programs.then(|| (Packet::udp(&skb).payload(), reuseport::ancillary(&k.net, &skb, n.secret))),
    };
    let found = lookup(&n.udp, &k.socks.udp, &l).or_else(|| {
        let taken = n.tproxy.filter(|t| Some(t.dev) == skb.dev).and_then(|t| t.udp);
        // Only what is addressed to somebody else; our own closed ports answer as ever.
        taken.filter(|_| af::addr_type(&k.net, ns, dst) == RouteKind::Unicast)
    });
    // RFC 8200 §8.1: in IPv6 there is always one, except to those who do without (RFC 6935).
    if six && h.csum == 0 && !found.and_then(|id| k.socks.udp.get(id)).is_some_and(|s| s.no_check6_rx) {
        return bad_checksum(k, ns, skb, six);
    }
    match found {
        Some(id) if skb.gso.is_some() => gso::queue_rcv(k, ns, id, skb),
        Some(id) => queue_rcv(k, ns, id, skb),
        None => {
            k.net.inc(ns, Mib::UdpNoPorts.of(six));
            match six {
                true => icmpv6_send(&mut k.net, &skb, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0),
                false => icmp_send(&mut k.net, &skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0),
            }
            k.net.kfree_skb(skb, DropReason::NoSocket, "udp_rcv");
        }
    }
}

#[cold]
fn bad_checksum(k: &mut Kernel, ns: NsId, skb: Skb, six: bool) {
    k.net.inc(ns, Mib::UdpInCsumErrors.of(six));
    k.net.inc(ns, Mib::UdpInErrors.of(six));
    k.net.kfree_skb(skb, DropReason::UdpCsum, "udp_rcv");
}

/// RFC 768: zero says that there is none.
fn checksum_good(skb: &Skb, h: &UdpHeader, (src, dst): (IpAddr, IpAddr)) -> bool {
    if skb.csum != Csum::None || h.csum == 0 {
        return true;
    }
    let linear = skb.head.bytes();
    let rest = checksum::segs(&skb.frags);
    let init = checksum::pseudo(src, dst, IPPROTO_UDP, h.len as usize);
    checksum::fold(checksum::add(init, checksum::combine(checksum::sum(linear, 0), rest, linear.len()))) == 0
}

/// A broadcast goes to every socket that fits; nobody is told when there is none.
#[doc(alias = "__udp4_lib_mcast_deliver")]
#[inline(never)]
fn deliver_to_all(k: &mut Kernel, ns: NsId, skb: Skb, h: &UdpHeader, (src, dst): (IpAddr, IpAddr)) {
    let Some(n) = k.net.ns.get(ns) else { return k.net.kfree_skb(skb, DropReason::NoSocket, "udp_rcv") };
    let group = if let IpAddr::V6(g) = dst { Some(g) } else { None };
    let fits = |s: &UdpSock| {
        let sk = &s.sk;
        (sk.daddr.is_unspecified() || sk.daddr == src)
            && (sk.dport == 0 || sk.dport == h.src_port)
            && sk.is_reached_by(dst)
            && (sk.bound_dev.is_none() || sk.bound_dev == skb.dev)
            && group.is_none_or(|g| takes_group(sk, g, src, skb.dev) && (h.csum != 0 || s.no_check6_rx))
            && mcast::sf_allow(sk, skb.dev, dst, src)
    };
    let on_port = n.udp.on_port(h.dst_port);
    let to: Vec<UdpId> = on_port.iter().filter(|id| k.socks.udp.get(**id).is_some_and(fits)).copied().collect();
    let Some((last, others)) = to.split_last() else {
        k.net.inc(ns, Mib::UdpIgnoredMulti.of(dst.is_ipv6()));
        return k.net.consume_skb(skb);
    };
    for id in others {
        let mut copy = k.net.alloc_skb();
        *copy = (*skb).clone();
        gso::queue_rcv(k, ns, *id, copy);
    }
    gso::queue_rcv(k, ns, *last, skb);
}

/// Into the receive queue if there is room by truesize; one datagram always has some.
#[doc(alias = "__udp_enqueue_schedule_skb")]
pub(super) fn queue_rcv(k: &mut Kernel, ns: NsId, id: UdpId, mut skb: Skb) {
    let [free, _, most] = k.net.sysctl.udp_mem.map(|pages| pages * 4096);
    let (least, secret) = k.net.ns.get(ns).map_or((0, [0, 0]), |n| (n.sysctl.udp_rmem_min, n.secret));
    let Some(s) = k.socks.udp.get_mut(id) else { return k.net.kfree_skb(skb, DropReason::NoSocket, "udp_rcv") };
    if !s.sk.daddr.is_unspecified() {
        s.sk.incoming_cpu = k.net.cpu as i32;
        s.sk.mark_rx(&skb);
    } else if s.sk.napi_id == 0 {
        s.sk.napi_id = skb.napi_id;
    }
    if let Some(prog) = s.sk.filter() {
        let keep = prog.run(&Packet::udp(&skb), &reuseport::ancillary(&k.net, &skb, secret)) as usize;
        if keep == 0 {
            s.sk.drops = s.sk.drops.wrapping_add(1);
            k.net.inc(ns, Mib::UdpInErrors.of(skb.protocol == ETH_P_IPV6));
            return k.net.kfree_skb(skb, DropReason::SocketFilter, "udp_queue_rcv_one_skb");
        }
        skb.trim(keep.max(UDP_HLEN).min(skb.len()));
    }
    let _ = skb.head.pull(UDP_HLEN);
    let size = truesize(skb.len());
    skb.truesize = size;
    let rmem = s.sk.rmem_alloc;
    let full = rmem.saturating_add(size) > s.sk.rcvbuf && (rmem > s.sk.rcvbuf || s.sk.rcvbuf > i32::MAX as u32 / 2);
    if full {
        return is_full(&mut k.net, s, ns, skb);
    }
    // Below the first value everybody has what they want, up to the third only who has next to nothing.
    let total = k.net.usage.udp_bytes + u64::from(size);
    if total > most || (total > free && rmem + size >= least) {
        return dropped(&mut k.net, s, ns, skb, Mib::UdpMemErrors, DropReason::ProtoMem);
    }
    s.sk.rmem_alloc += size;
    k.net.usage.udp_bytes += u64::from(size);
    if skb.tstamp == 0 {
        skb.tstamp = k.net.env.now;
    }
    skb.pkt_type = if skb.pkt_type == PktType::Outgoing { PktType::Host } else { skb.pkt_type };
    s.queue.push_back(skb);
    if !s.sk.wait.is_empty() {
        wake(k, id, EPOLLIN | EPOLLRDNORM);
    }
}

/// No room in its receive queue: remembered with its sender, for an account of the run.
#[cold]
fn is_full(net: &mut Net, s: &mut UdpSock, ns: NsId, skb: Skb) {
    let port = skb.head.at(skb.transport_header).first_chunk().map_or(0, |b| u16::from_be_bytes(*b));
    if let Some(n) = net.ns.get_mut(ns) {
        n.udp.was_full((s.sk.rcv_saddr, s.sk.num), s.sk.rcvbuf, (af::addresses(&skb).0, port));
    }
    dropped(net, s, ns, skb, Mib::UdpRcvbufErrors, DropReason::SocketRcvbuff);
}

#[cold]
fn dropped(net: &mut Net, s: &mut UdpSock, ns: NsId, skb: Skb, counter: Mib, reason: DropReason) {
    let six = skb.protocol == ETH_P_IPV6;
    s.sk.drops = s.sk.drops.wrapping_add(1);
    net.inc(ns, counter.of(six));
    net.inc(ns, Mib::UdpInErrors.of(six));
    net.kfree_skb(skb, reason, "udp_queue_rcv_skb");
}
