//! ARP (RFC 826): questions, answers, and which of them change what is known.
use crate::env::timers::Fire;
use crate::env::{Fired, MSEC, SEC, TimerKey};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use crate::net::core::dev_tx;
use crate::net::core::neigh_sysctl;
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::fib::{self, RouteType, Scope};
use crate::net::ipv4::route::{Flow4, RouteKind, addr_type, ip_route_input, ip_route_output};
use crate::net::ipv4::rule::HashKeys;
use crate::net::mib::Mib;
use crate::net::netfilter::Hook;
use crate::net::netfilter::nft::layer2;
use belljar_wire::Mac;
use belljar_wire::arp::{ARP_HLEN, ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_ARP};
use core::net::Ipv4Addr;
use std::collections::VecDeque;

/// Asks for `target`, by unicast when an old address is there to be checked.
#[doc(alias = "arp_solicit")]
pub fn solicit(net: &mut Net, ns: NsId, dev: DevId, target: Ipv4Addr, to: Option<Mac>, want: Option<Ipv4Addr>) {
    let Some(d) = net.devs.get(dev) else { return };
    let own = |a: Ipv4Addr| addr_type(net, ns, a) == RouteKind::Local;
    // arp_announce 0: the source of the packet whatever its device; 1: if on the target's subnet; 2: our best.
    let source = match d.conf.arp_announce {
        0 => want.filter(|a| own(*a)),
        1 => want.filter(|a| own(*a) && d.addrs.iter().any(|i| i.covers(target) && i.covers(*a))),
        _ => None,
    };
    let Some(source) = source.or_else(|| d.select_addr(target, Scope::Link)) else { return };
    send(net, dev, ARPOP_REQUEST, target, to.unwrap_or(Mac::BROADCAST), source, Mac::ZERO);
}

/// Builds and sends one packet (`arp_send`).
fn send(net: &mut Net, dev: DevId, op: u16, tpa: Ipv4Addr, to: Mac, spa: Ipv4Addr, tha: Mac) {
    let Some(d) = net.devs.get(dev) else { return };
    let (own, ns) = (d.mac, d.ns);
    let mut skb = net.alloc_skb();
    if let Some(room) = skb.head.push(ARP_HLEN) {
        ArpPacket { op, sha: own, spa, tha, tpa }.emit(room);
    }
    skb.ns = Some(ns);
    skb.network_header = skb.head.start();
    skb.protocol = ETH_P_ARP;
    // Control traffic does not wait behind data.
    skb.priority = 7;
    skb.set_truesize();
    if !ethernet::push_header(&mut skb, to, own, ETH_P_ARP) {
        return net.kfree_skb(skb, DropReason::DevHdr, "arp_xmit");
    }
    let Some(skb) = arp_out(net, ns, dev, skb) else { return };
    // Like any packet it may find the queue full; the timer asks again.
    let _ = dev_tx::dev_queue_xmit(net, dev, skb);
}

/// Past the rules about what ARP says.
#[doc(alias = "arp_xmit")]
fn arp_out(net: &mut Net, ns: NsId, dev: DevId, mut skb: Skb) -> Option<Skb> {
    if !net.nf_active {
        return Some(skb);
    }
    let start = skb.head.start();
    let _ = skb.head.pull(ETH_HLEN);
    skb.dev = Some(dev);
    // Its link header counts, and is not there to be looked at.
    let (mac, network) = (skb.mac_header, skb.network_header);
    skb.mac_header = network;
    let mut skb = layer2::arp(net, ns, Hook::LocalOut, skb, (None, Some(dev)), ETH_HLEN)?;
    skb.mac_header = mac;
    skb.head.rewind(start);
    Some(skb)
}

/// Gratuitous requests for the addresses of a device that came up (arp_notify).
#[doc(alias = "inetdev_send_gratuitous_arp")]
pub fn announce(net: &mut Net, dev: DevId) {
    let addrs: Vec<Ipv4Addr> = net.devs.get(dev).map_or(Vec::new(), |d| d.addrs.iter().map(|a| a.local).collect());
    for a in addrs {
        send(net, dev, ARPOP_REQUEST, a, Mac::BROADCAST, a, Mac::ZERO);
    }
}

/// `arp_rcv`, `arp_process`.
#[doc(alias = "arp_process")]
pub fn arp_rcv(net: &mut Net, ns: NsId, dev: DevId, mut skb: Skb) {
    let kind = skb.pkt_type;
    if kind == PktType::OtherHost || !skb.may_pull(ARP_HLEN) {
        return net.consume_skb(skb);
    }
    net.stage(&skb, "arp_rcv");
    let Some(skb) = layer2::arp(net, ns, Hook::LocalIn, skb, (Some(dev), None), 0) else { return };
    let parsed = ArpPacket::parse(skb.head.bytes());
    let Ok(p) = parsed else { return net.kfree_skb(skb, DropReason::NotSpecified, "arp_rcv") };
    net.consume_skb(skb);
    if !matches!(p.op, ARPOP_REQUEST | ARPOP_REPLY) || p.tpa.is_multicast() {
        return;
    }
    let Some(d) = net.devs.get(dev) else { return };
    if d.noarp() || (p.tpa.is_loopback() && !d.conf.route_localnet) {
        return;
    }
    if p.spa == p.tpa && d.conf.drop_gratuitous_arp {
        return;
    }
    let request = p.op == ARPOP_REQUEST;
    if p.spa.is_unspecified() {
        // Somebody checks whether the address is free (RFC 5227): say that it is not, remember nothing.
        if request && addr_type(net, ns, p.tpa) == RouteKind::Local && !ignored(net, dev, p.spa, p.tpa) {
            send(net, dev, ARPOP_REPLY, p.spa, p.sha, p.tpa, p.sha);
        }
        return;
    }
    if request && let Ok(dst) = ip_route_input(net, ns, dev, p.spa, p.tpa, 0, HashKeys::default()) {
        if dst.kind == RouteKind::Local {
            if !ignored(net, dev, p.spa, p.tpa) && !filtered(net, ns, dev, &p) {
                answer(net, ns, dev, &p);
            }
            return;
        }
        if dst.kind == RouteKind::Unicast && proxy(net, ns, (dev, dst.dev), p.spa, p.tpa) {
            return answer_for(net, ns, dev, p, kind);
        }
    }
    learn(net, ns, dev, &p, kind);
}

/// Tells the asker, and remembers it: it will want to talk to us.
fn answer(net: &mut Net, ns: NsId, dev: DevId, p: &ArpPacket) {
    let Some(id) = neighbour::lookup_or_create(net, ns, dev, p.spa.into()) else { return };
    neighbour::update(net, ns, id, p.sha, Nud::Stale, Update { r#override: true, admin: false, weak: false });
    send(net, dev, ARPOP_REPLY, p.spa, p.sha, p.tpa, p.sha);
}

/// The answer for somebody else: who asked everybody waits a while, so that he may answer himself (`proxy_delay`).
#[doc(alias = "pneigh_enqueue")]
fn answer_for(net: &mut Net, ns: NsId, dev: DevId, p: ArpPacket, kind: PktType) {
    let parms = neigh_sysctl::parms(net, dev, false);
    let most = parms.proxy_delay_ms;
    if kind == PktType::Host || most == 0 {
        return answer(net, ns, dev, &p);
    }
    let at = net.env.now + u64::from(net.env.rng.below(most)) * MSEC;
    let Some(d) = net.devs.get_mut(dev) else { return };
    if d.neigh.proxied.len() > parms.proxy_qlen as usize {
        return;
    }
    d.neigh.proxied.push_back((at, p));
    arm_proxy(net, dev);
}

fn arm_proxy(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    if let Some(at) = d.neigh.proxied.iter().map(|q| q.0).min() {
        let at = net.env.round_up(at);
        net.env.timers.arm(&mut d.neigh.proxy_timer, at, TimerKey::ArpProxy(dev));
    }
}

#[doc(alias = "neigh_proxy_process")]
pub fn proxy_timer(net: &mut Net, dev: DevId, fired: Fired) {
    let (now, jiffies) = (net.env.now, net.env.jiffies());
    let Some(d) = net.devs.get_mut(dev) else { return };
    if net.env.timers.look(&mut d.neigh.proxy_timer, fired, jiffies, TimerKey::ArpProxy(dev)) == Fire::NotYet {
        return;
    }
    let (ns, up) = (d.ns, d.up);
    let (due, later): (VecDeque<_>, VecDeque<_>) =
        std::mem::take(&mut d.neigh.proxied).into_iter().partition(|q| q.0 <= now);
    d.neigh.proxied = later;
    for (_, p) in due.iter().filter(|_| up) {
        answer(net, ns, dev, p);
    }
    arm_proxy(net, dev);
}

/// arp_filter: no answer where the way back to the asker leads over another device.
#[doc(alias = "arp_filter")]
fn filtered(net: &mut Net, ns: NsId, dev: DevId, p: &ArpPacket) -> bool {
    if !net.devs.get(dev).is_some_and(|d| d.conf.arp_filter) {
        return false;
    }
    let back = ip_route_output(net, ns, &Flow4 { saddr: p.tpa, ..Flow4::to(p.spa) });
    let other = back.map(|d| d.dev) != Ok(dev);
    if other && back.is_ok() {
        net.inc(ns, Mib::TcpExtArpFilter);
    }
    other
}

/// For targets behind another device: all of them (proxy_arp), or those that were named.
#[doc(alias = "arp_fwd_proxy")]
fn proxy(net: &Net, ns: NsId, (dev, out): (DevId, DevId), asker: Ipv4Addr, target: Ipv4Addr) -> bool {
    let (Some(here), Some(there)) = (net.devs.get(dev).map(|d| d.conf), net.devs.get(out).map(|d| d.conf)) else {
        return false;
    };
    if dev == out {
        // The members of a private VLAN hear each other through us only.
        return here.proxy_arp_pvlan && asker != target;
    }
    // Devices of one medium see each other's answers; -1 takes a device out.
    let media = match here.medium_id {
        0 => true,
        -1 => false,
        id => there.medium_id != id && there.medium_id != -1,
    };
    here.proxy_arp && media || net.pneigh(ns, target.into(), Some(dev)).is_some()
}

/// arp_ignore: for whom and which of our addresses no answer is given.
#[doc(alias = "arp_ignore")]
fn ignored(net: &Net, dev: DevId, asker: Ipv4Addr, target: Ipv4Addr) -> bool {
    let Some(d) = net.devs.get(dev) else { return true };
    let here = d.addrs.iter().find(|a| a.local == target);
    match d.conf.arp_ignore {
        0 => false,
        1 => here.is_none(),
        2 => !here.is_some_and(|a| a.covers(asker)),
        // Addresses of host scope are for the host alone.
        3 => !global_scope(net, d, target),
        8 => true,
        _ => false,
    }
}

fn global_scope(net: &Net, d: &NetDevice, target: Ipv4Addr) -> bool {
    let of = |d: &NetDevice| d.addrs.iter().any(|a| a.local == target && a.scope != Scope::Host);
    of(d) || net.ns_devs(d.ns).any(|id| net.devs.get(id).is_some_and(of))
}

/// Replies, and gratuitous packets about hosts we know (or arp_accept lets us get to know).
fn learn(net: &mut Net, ns: NsId, dev: DevId, p: &ArpPacket, kind: PktType) {
    let reply = p.op == ARPOP_REPLY;
    let accept = net.devs.get(dev).map_or(0, |d| d.conf.arp_accept);
    let gratuitous = p.spa == p.tpa && (!reply || p.tha == p.sha || p.tha.is_zero() || p.tha.is_broadcast());
    let known = neighbour::lookup(net, ns, dev, p.spa.into());
    let unicast = matches!(fib::lookup(net, ns, p.spa, None).map(|r| r.kind), Some(RouteType::Unicast));
    let same_net = net.devs.get(dev).is_some_and(|d| d.addrs.iter().any(|a| a.covers(p.spa)));
    let create = gratuitous && unicast && (accept == 1 || (accept == 2 && same_net));
    let id = match known {
        Some(id) => Some(id),
        None if create => neighbour::lookup_or_create(net, ns, dev, p.spa.into()),
        None => None,
    };
    let Some(id) = id else { return };
    let (now, hz) = (net.env.jiffies(), u64::from(net.env.hz));
    let locktime = neigh_sysctl::parms(net, dev, false).locktime();
    let Some(updated) = net.ns.get(ns).and_then(|n| n.neighs.get(id)).map(|n| n.updated) else { return };
    let believed = gratuitous || u64::from(now.wrapping_sub(updated)) * (SEC / hz.max(1)) > locktime;
    let state = if reply && kind == PktType::Host { Nud::Reachable } else { Nud::Stale };
    neighbour::update(net, ns, id, p.sha, state, Update { r#override: believed, admin: false, weak: false });
}
