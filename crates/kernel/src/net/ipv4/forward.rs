//! Passing packets on: one hop less, path MTU, redirects.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::route::Dst;
use crate::net::ipv4::{icmp, output, redirect};
use crate::net::mib::Mib;
use belljar_wire::GsoType;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{Ipv4Header, decrease_ttl};
use belljar_wire::udp::UDP_HLEN;

/// A packet for somebody else.
pub fn ip_forward(net: &mut Net, ns: NsId, from: DevId, dst: &Dst, ip: &Ipv4Header, mut skb: Skb) {
    if skb.pkt_type != PktType::Host {
        return net.kfree_skb(skb, DropReason::NotSpecified, "ip_forward");
    }
    if ip.ttl <= 1 {
        net.inc(ns, Mib::IpInHdrErrors);
        icmp::icmp_send(net, &skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
        return net.kfree_skb(skb, DropReason::IpInHdr, "ip_forward");
    }
    let long = match skb.gso {
        None => skb.len() > dst.mtu as usize,
        Some(g) => headers(&skb) + g.size as usize > dst.mtu as usize,
    };
    if long && ip.df {
        net.inc(ns, Mib::IpFragFails);
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, dst.mtu);
        return net.kfree_skb(skb, DropReason::PktTooBig, "ip_forward");
    }
    if dst.dev == from && net.devs.get(from).is_some_and(|d| d.conf.send_redirects) {
        redirect::send(net, ns, dst, ip, &skb);
    }
    decrease_ttl(skb.head.bytes_mut());
    skb.priority = crate::net::ipv4::route::rt_tos2priority(ip.tos);
    net.inc(ns, Mib::IpForwDatagrams);
    net.stage(&skb, "ip_forward");
    // An error has been counted where it happened; nobody here waits for it.
    let _ = output::ip_output(net, ns, dst, ip.dst, skb);
}

/// Bytes of network and transport header.
fn headers(skb: &Skb) -> usize {
    let ihl = skb.head.bytes().first().map_or(0, |b| usize::from(b & 15) * 4);
    if skb.gso.is_some_and(|g| g.kind == GsoType::UdpL4) {
        return ihl + UDP_HLEN;
    }
    let tcp = skb.head.bytes().get(ihl + 12).map_or(0, |b| usize::from(b >> 4) * 4);
    ihl + tcp
}
