//! From a driver to the protocols: the backlog, taps, and whose packet it is.
use crate::drivers::bridge;
use crate::drivers::macvlan;
use crate::env::trace::Dir;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::rps;
use crate::net::core::skb::{Owner, Sender, Skb};
use crate::net::core::{softirq, vlan, xdp};
use crate::net::drop::DropReason;
use crate::net::ipv4::{arp, input};
use crate::net::ipv6;
use crate::net::netfilter::nft::netdev;
use crate::net::sched::mirred;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, is_vlan};

/// For devices without NAPI: the packet, with its Ethernet header pulled, waits for the softirq.
#[doc(alias = "netif_rx_internal")]
pub fn netif_rx(net: &mut Net, skb: Skb) {
    net.stage(&skb, "netif_rx");
    if net.rps_needed {
        return rps::netif_rx(net, skb);
    }
    softirq::enqueue_to_backlog(net, skb);
}

/// Taps, devices on top, then the protocol's handler.
pub fn netif_receive_skb(k: &mut Kernel, skb: Skb) {
    let mut next = skb;
    while let Err(Some(again)) = receive_core(k, next) {
        next = again;
    }
}

/// `Err`: it is a packet of another device now, on top of this one, or nobody's any more.
#[doc(alias = "__netif_receive_skb_core")]
#[inline(always)]
fn receive_core(k: &mut Kernel, mut skb: Skb) -> Result<(), Option<Skb>> {
    let Some((dev, d)) = skb.dev.and_then(|dev| Some((dev, k.net.devs.get(dev).filter(|d| d.up)?))) else {
        k.net.kfree_skb(skb, DropReason::DevReady, "netif_receive_skb");
        return Err(None);
    };
    let (ns, master, ingress) = (d.ns, d.master, d.qdisc.ingress.is_some() | d.nf_netdev);
    let port = d.macvlan_port;
    if d.xdp.as_ref().is_some_and(|x| !x.native) {
        skb = xdp::generic(&mut k.net, dev, skb).ok_or(None)?;
    }
    (skb.ns, skb.sender) = (Some(ns), Sender::None);
    skb.network_header = skb.head.start();
    if is_vlan(skb.protocol) && !vlan::untag(&mut skb) {
        k.net.kfree_skb(skb, DropReason::NotSpecified, "skb_vlan_untag");
        return Err(None);
    }
    k.net.tap(dev, Dir::In, &skb);
    k.net.stage(&skb, "netif_receive_skb");
    let watched = crate::net::packet::rcv::incoming(k, ns, dev, &skb);
    if ingress {
        skb = filters(k, ns, dev, skb).ok_or(None)?;
    }
    past_filters(k, (ns, dev), (master, port), watched, skb)
}

/// To whom it belongs: a device on top, a bridge, the network layer. `watched`: a tap has it already.
#[inline(always)]
fn past_filters(
    k: &mut Kernel,
    (ns, dev): (NsId, DevId),
    (master, port): (Option<DevId>, bool),
    watched: bool,
    mut skb: Skb,
) -> Result<(), Option<Skb>> {
    let tagged = skb.vlan.present();
    if tagged {
        skb = vlan::do_receive(&mut k.net, dev, skb)?;
    }
    if master.is_some() || port {
        skb = match master {
            Some(br) => bridge::handle_frame(k, br, dev, skb).ok_or(None)?,
            None => macvlan::handle_frame(k, dev, skb)?,
        };
    }
    if tagged {
        skb = vlan::clear(&mut k.net, dev, skb)?;
    }
    deliver(k, ns, dev, watched, skb);
    Ok(())
}

/// Filters of traffic control, then chains of nf_tables.
#[cold]
fn filters(k: &mut Kernel, ns: NsId, dev: DevId, skb: Skb) -> Option<Skb> {
    let d = k.net.devs.get(dev)?;
    let nf = d.nf_netdev;
    let said = k.net.tc_run(dev, skb, true);
    if !k.net.tc.acts.way.is_idle() {
        mirred::forward_in(k);
    }
    let skb = said.ok()?;
    if nf { netdev::ingress(&mut k.net, ns, dev, skb) } else { Some(skb) }
}

/// A packet that was taken away by a filter comes back from an ifb: no tap and no filter sees it again.
#[cold]
pub(crate) fn receive_again(k: &mut Kernel, mut skb: Skb) {
    let Some((dev, d)) = skb.dev.and_then(|dev| Some((dev, k.net.devs.get(dev).filter(|d| d.up)?))) else {
        return k.net.kfree_skb(skb, DropReason::DevReady, "netif_receive_skb");
    };
    let (ns, master, port) = (d.ns, d.master, d.macvlan_port);
    skb.ns = Some(ns);
    if let Err(Some(upper)) = past_filters(k, (ns, dev), (master, port), false, skb) {
        netif_receive_skb(k, upper);
    }
}

/// To the network layer; `watched`: a tap has it already.
#[inline(always)]
fn deliver(k: &mut Kernel, ns: NsId, dev: DevId, watched: bool, mut skb: Skb) {
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
