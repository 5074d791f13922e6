//! Passing packets on: one hop less, path MTU, redirects.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::route::Dst;
use crate::net::ipv4::{icmp, output, redirect};
use crate::net::mib::Mib;
use crate::net::netfilter::{Hook, Pf, nf_hook};
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{Ipv4Header, decrease_ttl};

/// A packet for somebody else.
#[inline(never)]
pub fn ip_forward(net: &mut Net, ns: NsId, from: DevId, dst: &Dst, ip: &Ipv4Header, mut skb: Skb) {
    if skb.pkt_type != PktType::Host {
        return net.kfree_skb(skb, DropReason::NotSpecified, "ip_forward");
    }
    if ip.ttl <= 1 {
        net.inc(ns, Mib::IpInHdrErrors);
        icmp::icmp_send(net, &skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
        return net.kfree_skb(skb, DropReason::IpInHdr, "ip_forward");
    }
    // Before it is known whether it can be sent on (Linux 6.18).
    net.inc(ns, Mib::IpForwDatagrams);
    if ip.df && skb.network_seglen(ip.ihl_bytes) > dst.mtu as usize {
        net.inc(ns, Mib::IpFragFails);
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, dst.mtu);
        return net.kfree_skb(skb, DropReason::PktTooBig, "ip_forward");
    }
    decrease_ttl(skb.head.bytes_mut());
    if dst.dev == from && net.devs.get(from).is_some_and(|d| d.conf.send_redirects) {
        redirect::send(net, ns, dst, ip, &skb);
    }
    if net.ns.get(ns).is_some_and(|n| n.sysctl.ip_forward_update_priority != 0) {
        skb.priority = crate::net::ipv4::route::rt_tos2priority(ip.tos);
    }
    let Ok(skb) = nf_hook(net, ns, Pf::V4, Hook::Forward, skb, (Some(from), Some(dst.dev))) else { return };
    net.stage(&skb, "ip_forward");
    // An error has been counted where it happened; nobody here waits for it.
    let _ = output::ip_output(net, ns, dst, ip.dst, skb);
}
