//! The send path of IPv4: header, fragmentation, down to the neighbour.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dst_metrics::mtu_locked;
use crate::net::core::skb::{PktType, Skb};
use crate::net::core::sock::Sock;
use crate::net::core::{dev_rx, dev_tx, neighbour};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::route::{Dst, RouteKind, select_ident};
use crate::net::ipv4::{fragment, mcast};
use crate::net::mib::Mib;
use crate::net::netfilter::{Hook, Pf, STOLEN, nf_hook};
use belljar_abi::Errno;
use belljar_abi::{IP_PMTUDISC_DONT, IP_PMTUDISC_WANT};
use belljar_wire::ethernet::ETH_P_IP;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use belljar_wire::{Csum, Mac};
use core::net::IpAddr;
use core::net::Ipv4Addr;

/// What the header needs that the packet does not know.
#[derive(Clone, Copy, Debug)]
pub struct IpTx {
    pub ns: NsId,
    pub saddr: Ipv4Addr,
    pub daddr: Ipv4Addr,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    /// Don't fragment: never cut, EMSGSIZE when too big.
    pub df: bool,
    /// Bytes of options, which the packet begins with.
    pub optlen: u8,
}

/// Routers must not cut what this socket sends.
pub fn ip_dont_fragment(net: &Net, sk: &Sock, daddr: IpAddr, dst: &Dst) -> bool {
    match i32::from(sk.pmtudisc) {
        IP_PMTUDISC_DONT => false,
        IP_PMTUDISC_WANT => !mtu_locked(net, sk.ns, daddr, dst),
        _ => true,
    }
}

/// Options and transport header in `skb.head`, payload in `skb.frags`: adds the IP header and sends (`ip_queue_xmit`).
#[doc(alias = "ip_send_skb")]
pub fn ip_queue_xmit(net: &mut Net, tx: &IpTx, dst: &Dst, mut skb: Skb) -> Result<(), Errno> {
    let total = skb.len() + IPV4_HLEN;
    if total > u16::MAX as usize && skb.gso.is_none() {
        net.kfree_skb(skb, DropReason::PktTooBig, "ip_queue_xmit");
        return Err(Errno::EMSGSIZE);
    }
    let segs = skb.gso.map_or(1, |g| u32::from(g.segs));
    // RFC 6864: an atomic datagram needs no identification; flows keep counting as Linux's sockets do.
    let id = match skb.ip_id {
        Some(id) => id,
        None if tx.df && skb.hash == 0 => 0,
        None => select_ident(net, tx.ns, &skb, (tx.daddr, tx.saddr, tx.proto), segs),
    };
    let ihl_bytes = IPV4_HLEN + usize::from(tx.optlen);
    let header = Ipv4Header {
        ihl_bytes,
        tos: tx.tos,
        // BIG TCP: a super-segment beyond 64 KB has no length in its header.
        total_len: if total > u16::MAX as usize { 0 } else { total as u16 },
        id,
        df: tx.df,
        ttl: tx.ttl,
        proto: tx.proto,
        src: tx.saddr,
        dst: tx.daddr,
        ..Ipv4Header::default()
    };
    if skb.head.push(IPV4_HLEN).is_none() {
        net.kfree_skb(skb, DropReason::NoMem, "ip_queue_xmit");
        return Err(Errno::ENOBUFS);
    }
    header.emit(skb.head.bytes_mut());
    skb.ns = Some(tx.ns);
    skb.network_header = skb.head.start();
    skb.protocol = ETH_P_IP;
    net.stage(&skb, "ip_local_out");
    net.inc(tx.ns, Mib::IpOutRequests);
    ip_local_out(net, tx.ns, dst, tx.daddr, skb)
}

/// A packet of ours with its header, past the rules for what leaves; they may send it elsewhere.
#[doc(alias = "__ip_local_out")]
pub fn ip_local_out(net: &mut Net, ns: NsId, dst: &Dst, daddr: Ipv4Addr, mut skb: Skb) -> Result<(), Errno> {
    if !net.nf_active {
        return ip_output(net, ns, dst, daddr, skb);
    }
    (skb.dst, skb.mac_header) = (Some(*dst), skb.network_header);
    let skb = match nf_hook(net, ns, Pf::V4, Hook::LocalOut, skb, (None, Some(dst.dev))) {
        Ok(skb) => skb,
        Err(STOLEN) => return Ok(()),
        Err(e) => return Err(e),
    };
    let (dst, daddr) = (skb.dst.unwrap_or(*dst), skb.ip_hdr().map_or(daddr, |ip| ip.dst));
    ip_output(net, ns, &dst, daddr, skb)
}

/// A packet with its IP header, towards `dst`; counts, loops broadcasts back, cuts what does not fit.
#[doc(alias = "ip_finish_output")]
pub fn ip_output(net: &mut Net, ns: NsId, dst: &Dst, daddr: Ipv4Addr, mut skb: Skb) -> Result<(), Errno> {
    skb.dev = Some(dst.dev);
    skb.pkt_type = PktType::Outgoing;
    skb.dst = Some(*dst);
    net.stage(&skb, "ip_output");
    let skb = if net.nf_active {
        match nf_hook(net, ns, Pf::V4, Hook::PostRouting, skb, (None, Some(dst.dev))) {
            Ok(skb) => skb,
            Err(STOLEN) => return Ok(()),
            Err(e) => return Err(e),
        }
    } else {
        skb
    };
    if matches!(dst.kind, RouteKind::Broadcast | RouteKind::Multicast) {
        let lo = net.devs.get(dst.dev).is_some_and(|d| d.is_loopback());
        // What is only passed on this host does not hear.
        let own = dst.kind == RouteKind::Broadcast && dst.gateway.is_none();
        if !lo && (own || mc_loops(net, dst.dev, daddr, &skb)) {
            loop_back(net, ns, &skb, dst.kind);
        }
        // RFC 1112 §6.1: with a time to live of 0 it stays in this host.
        if !lo && dst.kind == RouteKind::Multicast && skb.head.bytes().get(8) == Some(&0) {
            net.consume_skb(skb);
            return Ok(());
        }
    }
    let mtu = dst.mtu as usize;
    let too_long = match skb.gso {
        // What was put together on its way leaves in pieces again.
        None => skb.len() > mtu || skb.frag_max != 0,
        Some(g) => skb.head.len() + g.size as usize > mtu,
    };
    if too_long {
        return fragment::ip_fragment(net, ns, dst, daddr, skb);
    }
    ip_finish_output2(net, ns, dst, daddr, skb)
}

/// Whether this host is a member of the group on the device, and the sender wants it to hear.
#[inline(never)]
fn mc_loops(net: &Net, dev: DevId, group: Ipv4Addr, skb: &Skb) -> bool {
    let Ok(ip) = Ipv4Header::parse(skb.head.bytes()) else { return false };
    !skb.no_mc_loop && mcast::check(net, dev, group, ip.src, ip.proto)
}

/// Hosts hear their own broadcasts (`dev_loopback_xmit`).
#[inline(never)]
fn loop_back(net: &mut Net, ns: NsId, skb: &Skb, kind: RouteKind) {
    let mut copy = net.alloc_skb();
    copy.head = skb.head.clone();
    copy.frags = skb.frags.clone();
    copy.id = skb.id;
    copy.ns = Some(ns);
    copy.dev = skb.dev;
    copy.protocol = skb.protocol;
    copy.network_header = skb.network_header;
    copy.mac_header = skb.network_header;
    copy.transport_header = skb.transport_header;
    // Routed on its way out: on its way in its own source address is no stranger.
    copy.dst = skb.dst;
    copy.pkt_type = if kind == RouteKind::Broadcast { PktType::Broadcast } else { PktType::Multicast };
    copy.looped = true;
    copy.csum = Csum::Unnecessary;
    copy.truesize = skb.truesize;
    dev_rx::netif_rx(net, copy);
}

/// Finds out the next hop's hardware address and hands the packet to the device, or to the queue that waits for it.
pub fn ip_finish_output2(net: &mut Net, ns: NsId, dst: &Dst, daddr: Ipv4Addr, mut skb: Skb) -> Result<(), Errno> {
    let len = skb.len() as u64;
    if let Some(n) = net.ns.get_mut(ns) {
        n.mib.inc(Mib::IpOutTransmits);
        n.mib.add(Mib::IpExtOutOctets, len);
        match dst.kind {
            RouteKind::Broadcast => {
                n.mib.inc(Mib::IpExtOutBcastPkts);
                n.mib.add(Mib::IpExtOutBcastOctets, len);
            }
            RouteKind::Multicast => {
                n.mib.inc(Mib::IpExtOutMcastPkts);
                n.mib.add(Mib::IpExtOutMcastOctets, len);
            }
            _ => {}
        }
    }
    let Some((own, noarp)) = net.devs.get(dst.dev).map(|d| (d.mac, d.noarp())) else {
        net.kfree_skb(skb, DropReason::DevReady, "ip_finish_output2");
        return Err(Errno::ENODEV);
    };
    let to = if noarp {
        Mac::ZERO
    } else {
        match dst.kind {
            RouteKind::Broadcast => Mac::BROADCAST,
            RouteKind::Multicast => multicast_mac(daddr),
            _ => return neighbour::output(net, ns, dst.dev, dst.gateway.unwrap_or(daddr.into()), skb),
        }
    };
    if !ethernet::push_header(&mut skb, to, own, ETH_P_IP) {
        net.kfree_skb(skb, DropReason::DevHdr, "ip_finish_output2");
        return Err(Errno::ENOBUFS);
    }
    dev_tx::dev_queue_xmit(net, dst.dev, skb)
}

/// RFC 1112 §6.4: the low 23 bits of the group.
#[doc(alias = "ip_eth_mc_map")]
pub(crate) fn multicast_mac(group: Ipv4Addr) -> Mac {
    let [_, b, c, d] = group.octets();
    Mac([1, 0, 0x5e, b & 0x7f, c, d])
}

/// MTU of a device, for senders that ignore the path's.
pub fn dev_mtu(net: &Net, dev: DevId) -> u32 {
    net.devs.get(dev).map_or(0, |d| d.mtu)
}
