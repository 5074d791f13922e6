//! From a driver to the protocols: the backlog, taps, and whose packet it is.
use crate::drivers::bridge;
use crate::env::trace::Dir;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::rps;
use crate::net::core::skb::{Owner, Skb};
use crate::net::core::{softirq, xdp};
use crate::net::drop::DropReason;
use crate::net::ipv4::{arp, input};
use crate::net::ipv6;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};

/// For devices without NAPI: the packet, with its Ethernet header pulled, waits for the softirq.
#[doc(alias = "netif_rx_internal")]
pub fn netif_rx(net: &mut Net, skb: Skb) {
    net.stage(&skb, "netif_rx");
    if net.rps_needed {
        return rps::netif_rx(net, skb);
    }
    softirq::enqueue_to_backlog(net, skb);
}

/// Taps, then the protocol's handler.
#[doc(alias = "__netif_receive_skb_core")]
pub fn netif_receive_skb(k: &mut Kernel, mut skb: Skb) {
    let Some(dev) = skb.dev else { return k.net.kfree_skb(skb, DropReason::DevReady, "netif_receive_skb") };
    let Some(d) = k.net.devs.get(dev).filter(|d| d.up) else {
        return k.net.kfree_skb(skb, DropReason::DevReady, "netif_receive_skb");
    };
    let (ns, master, ingress) = (d.ns, d.master, d.qdisc.ingress.is_some());
    if d.xdp.as_ref().is_some_and(|x| !x.native) {
        match xdp::generic(&mut k.net, dev, skb) {
            Some(passed) => skb = passed,
            None => return,
        }
    }
    skb.ns = Some(ns);
    skb.network_header = skb.head.start();
    k.net.tap(dev, Dir::In, &skb);
    k.net.stage(&skb, "netif_receive_skb");
    let watched = crate::net::packet::rcv::incoming(k, ns, dev, &skb);
    if ingress && let Some(ingress) = k.net.devs.get_mut(dev).and_then(|d| d.qdisc.ingress.as_mut()) {
        ingress.receive(&skb);
    }
    if let Some(br) = master {
        match bridge::handle_frame(k, br, dev, skb) {
            Some(back) => skb = back,
            None => return,
        }
    }
    if skb.owner != Owner::None {
        // A sender's memory is free once its packet is here (`ip_rcv_core`, `skb_orphan`).
        k.net.skb_orphan(&mut skb);
    }
    match skb.protocol {
        ETH_P_IP => input::ip_rcv(k, ns, dev, skb),
        ETH_P_IPV6 => ipv6::input::ipv6_rcv(k, ns, dev, skb),
        ETH_P_ARP => arp::arp_rcv(&mut k.net, ns, dev, skb),
        // A tap was there to take it.
        _ if watched => k.net.consume_skb(skb),
        _ => {
            if let Some(d) = k.net.devs.get_mut(dev) {
                d.stats.rx_dropped += 1;
            }
            k.net.kfree_skb(skb, DropReason::UnhandledProto, "__netif_receive_skb_core");
        }
    }
}
