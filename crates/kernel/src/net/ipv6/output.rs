//! The send path of IPv6: header, fragmentation, down to the neighbour.
use super::{flowlabel, icmp, redirect, txopts};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dst_metrics::{self, MetricsId};
use crate::net::core::skb::{PktType, Skb};
use crate::net::core::{dev_rx, dev_tx, neighbour};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::net::mib::Mib;
use crate::net::netfilter::{Hook, Pf, STOLEN, nf_hook};
use crate::net::tcp::tables::{keyed, pair};
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTAX_HOPLIMIT;
use belljar_wire::ethernet::ETH_P_IPV6;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::{Csum, Mac, Seg, Segs, checksum};
use core::net::{IpAddr, Ipv6Addr};

/// What the header needs that the packet does not know.
#[derive(Clone, Copy, Debug)]
pub struct Ip6Tx {
    pub ns: NsId,
    pub saddr: Ipv6Addr,
    pub daddr: Ipv6Addr,
    pub proto: u8,
    pub tclass: u8,
    /// `None`: the device's.
    pub hop_limit: Option<u8>,
    /// Never cut: EMSGSIZE when too big.
    pub whole: bool,
    /// Members of a group on this host hear it too (IPV6_MULTICAST_LOOP).
    pub mc_loop: bool,
    /// IPV6_AUTOFLOWLABEL; `None`: as `auto_flowlabels` says.
    pub autolabel: Option<bool>,
    /// The flow label, where the program chose it.
    pub flow: u32,
}

/// Transport header in `skb.head`, payload in `skb.frags`: adds the IPv6 header and sends.
#[doc(alias = "ip6_send_skb")]
#[inline(never)]
pub fn ip6_xmit(net: &mut Net, tx: &Ip6Tx, dst: &Dst, mut skb: Skb) -> Result<(), Errno> {
    let len = skb.len();
    if len > IPV6_MAXPLEN && skb.gso.is_none() {
        net.kfree_skb(skb, DropReason::PktTooBig, "ip6_xmit");
        return Err(Errno::EMSGSIZE);
    }
    let usual = match dst_metrics::metric(net, tx.ns, Some(dst), RTAX_HOPLIMIT) {
        _ if dst.kind == RouteKind::Multicast => 1,
        0 => net.devs.get(dst.dev).map_or(64, |d| d.inet6.hop_limit()),
        hops => hops as u8,
    };
    let header = Ipv6Header {
        tclass: tx.tclass,
        flow: if tx.flow != 0 { tx.flow } else { auto_flowlabel(net, tx, skb.hash) },
        // BIG TCP: a super-segment beyond 64 KB has no length in its header.
        payload_len: if len > IPV6_MAXPLEN { 0 } else { len as u16 },
        next: tx.proto,
        hop_limit: tx.hop_limit.unwrap_or(usual),
        src: tx.saddr,
        dst: tx.daddr,
    };
    let Some(room) = skb.head.push(IPV6_HLEN) else {
        net.kfree_skb(skb, DropReason::NoMem, "ip6_xmit");
        return Err(Errno::ENOBUFS);
    };
    header.emit(room);
    skb.ns = Some(tx.ns);
    skb.network_header = skb.head.start();
    skb.protocol = ETH_P_IPV6;
    net.stage(&skb, "ip6_local_out");
    net.inc(tx.ns, Mib::Ip6OutRequests);
    let too_long = skb.gso.is_none() && skb.len() > dst.mtu as usize;
    if too_long && tx.whole {
        net.inc(tx.ns, Mib::Ip6FragFails);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip6_xmit");
        return Err(Errno::EMSGSIZE);
    }
    ip6_local_out(net, tx.ns, dst, (tx.daddr, tx.mc_loop), skb)
}

/// A packet of ours with its header, past the rules for what leaves; they may send it elsewhere.
pub fn ip6_local_out(net: &mut Net, ns: NsId, dst: &Dst, to: (Ipv6Addr, bool), mut skb: Skb) -> Result<(), Errno> {
    if !net.nf_active {
        return ip6_output(net, ns, dst, to, skb);
    }
    (skb.dst, skb.mac_header) = (Some(*dst), skb.network_header);
    let skb = match nf_hook(net, ns, Pf::V6, Hook::LocalOut, skb, (None, Some(dst.dev))) {
        Ok(skb) => skb,
        Err(STOLEN) => return Ok(()),
        Err(e) => return Err(e),
    };
    let daddr = Ipv6Header::parse(skb.head.bytes()).map_or(to.0, |ip| ip.dst);
    ip6_output(net, ns, &skb.dst.unwrap_or(*dst), (daddr, to.1), skb)
}

/// Past the rules for what leaves a device.
fn post_routing(net: &mut Net, ns: NsId, dev: DevId, skb: Skb) -> Result<Option<Skb>, Errno> {
    if !net.nf_active {
        return Ok(Some(skb));
    }
    match nf_hook(net, ns, Pf::V6, Hook::PostRouting, skb, (None, Some(dev))) {
        Ok(skb) => Ok(Some(skb)),
        Err(STOLEN) => Ok(None),
        Err(e) => Err(e),
    }
}

/// RFC 6437: the same for all packets of a flow.
#[doc(alias = "ip6_make_flowlabel")]
fn auto_flowlabel(net: &Net, tx: &Ip6Tx, hash: u32) -> u32 {
    let Some(n) = net.ns.get(tx.ns) else { return 0 };
    let wanted = match n.sysctl.auto_flowlabels {
        0 => false,
        3 => true,
        by_default => tx.autolabel.unwrap_or(by_default == 1),
    };
    if !wanted {
        return 0;
    }
    let ends = || keyed(n.secret, pair(n.secret, tx.saddr.into(), tx.daddr.into()), tx.proto.into()) as u32;
    let hash = if hash == 0 { ends() } else { hash };
    let label = hash.rotate_left(16) & flowlabel::MASK;
    if n.sysctl.flowlabel_state_ranges != 0 { label | flowlabel::STATELESS } else { label }
}

/// A packet with its header, towards `dst`: cut if it does not fit.
#[doc(alias = "ip6_finish_output")]
pub fn ip6_output(net: &mut Net, ns: NsId, dst: &Dst, to: (Ipv6Addr, bool), mut skb: Skb) -> Result<(), Errno> {
    skb.dev = Some(dst.dev);
    skb.pkt_type = PktType::Outgoing;
    skb.dst = Some(*dst);
    net.stage(&skb, "ip6_output");
    let cap = std::mem::take(&mut skb.frag_max);
    if !net.devs.get(dst.dev).is_some_and(|d| d.speaks_ipv6()) {
        net.inc(ns, Mib::Ip6OutDiscards);
        net.kfree_skb(skb, DropReason::Ipv6Disabled, "ip6_output");
        return Ok(());
    }
    let Some(skb) = post_routing(net, ns, dst.dev, skb)? else { return Ok(()) };
    if skb.gso.is_none() && skb.len() > dst.mtu as usize {
        return ip6_fragment(net, ns, dst, to, skb, cap);
    }
    ip6_finish_output2(net, ns, dst, to, skb)
}

/// `to`: the destination, and whether this host hears what it sends to its own groups.
///
/// Finds out the next hop's hardware address and hands the packet to the device, or to the queue that waits for it.
fn ip6_finish_output2(
    net: &mut Net,
    ns: NsId,
    dst: &Dst,
    (daddr, mc_loop): (Ipv6Addr, bool),
    mut skb: Skb,
) -> Result<(), Errno> {
    let len = skb.len() as u64;
    if let Some(n) = net.ns.get_mut(ns) {
        n.mib.inc(Mib::Ip6OutTransmits);
        n.mib.add(Mib::Ip6OutOctets, len);
        if daddr.is_multicast() {
            n.mib.inc(Mib::Ip6OutMcastPkts);
            n.mib.add(Mib::Ip6OutMcastOctets, len);
        }
    }
    let Some(d) = net.devs.get(dst.dev) else {
        net.kfree_skb(skb, DropReason::DevReady, "ip6_finish_output2");
        return Err(Errno::ENODEV);
    };
    let (own, noarp, loopback) = (d.mac, d.noarp(), d.is_loopback());
    let to = if noarp {
        Mac::ZERO
    } else if daddr.is_multicast() {
        if mc_loop && !loopback && d.inet6.has_group(daddr) {
            loop_back(net, ns, &skb);
        }
        multicast_mac(daddr)
    } else {
        return neighbour::output(net, ns, dst.dev, dst.gateway.unwrap_or(IpAddr::V6(daddr)), skb);
    };
    if !ethernet::push_header(&mut skb, to, own, ETH_P_IPV6) {
        net.kfree_skb(skb, DropReason::DevHdr, "ip6_finish_output2");
        return Err(Errno::ENOBUFS);
    }
    dev_tx::dev_queue_xmit(net, dst.dev, skb)
}

/// Members hear their own packets (`dev_loopback_xmit`).
fn loop_back(net: &mut Net, ns: NsId, skb: &Skb) {
    let mut copy = net.alloc_skb();
    (copy.head, copy.frags, copy.id) = (skb.head.clone(), skb.frags.clone(), skb.id);
    (copy.ns, copy.dev, copy.protocol) = (Some(ns), skb.dev, skb.protocol);
    copy.network_header = skb.network_header;
    copy.mac_header = skb.network_header;
    copy.transport_header = skb.transport_header;
    copy.pkt_type = PktType::Multicast;
    copy.csum = Csum::Unnecessary;
    copy.truesize = skb.truesize;
    dev_rx::netif_rx(net, copy);
}

/// RFC 2464 §7: the low 32 bits of the group.
#[doc(alias = "ipv6_eth_mc_map")]
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let o = group.octets();
    Mac([0x33, 0x33, o[12], o[13], o[14], o[15]])
}

/// Cuts a packet of ours into fragments (RFC 8200 §4.5); routers never do but to what they put together.
/// `cap`: IPV6_MTU, or the largest piece that it came in; 0 without.
fn ip6_fragment(net: &mut Net, ns: NsId, dst: &Dst, to: (Ipv6Addr, bool), mut skb: Skb, cap: u16) -> Result<(), Errno> {
    let Ok(ip) = Ipv6Header::parse(skb.head.bytes()) else {
        net.kfree_skb(skb, DropReason::IpInHdr, "ip6_fragment");
        return Err(Errno::EINVAL);
    };
    let mtu = if cap == 0 { dst.mtu } else { dst.mtu.min(cap.into()) };
    let (hlen, named) = txopts::unfragmentable(skb.head.bytes());
    let piece = (mtu as usize).saturating_sub(hlen + FRAG_HLEN) & !7;
    if piece == 0 {
        net.inc(ns, Mib::Ip6FragFails);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip6_fragment");
        return Err(Errno::EMSGSIZE);
    }
    dev_tx::skb_checksum_help(&mut skb);
    let (first, rest) = skb.head.bytes().split_at(hlen);
    let next = first[named];
    let mut payload = Segs::from(Seg::from(rest));
    payload.append(std::mem::take(&mut skb.frags));
    let id = net.env.rng.next_u32().max(1);
    let (mut at, mut sent) = (0usize, Ok(()));
    while !payload.is_empty() && sent.is_ok() {
        let data = payload.split_to(piece);
        let len = data.len();
        let mut f = net.alloc_skb();
        let Some(room) = f.head.push(hlen + FRAG_HLEN) else { break };
        let (header, frag) = room.split_at_mut(hlen);
        header.copy_from_slice(&skb.head.bytes()[..hlen]);
        Ipv6Header { payload_len: (hlen - IPV6_HLEN + FRAG_HLEN + len) as u16, ..ip }.emit(header);
        header[named] = NEXTHDR_FRAGMENT;
        FragHeader { next, offset: at as u16, more: !payload.is_empty(), id }.emit(frag);
        f.copy_metadata(&skb);
        f.network_header = f.head.start();
        f.transport_header = f.network_header + (hlen + FRAG_HLEN) as u8;
        f.csum = Csum::Unnecessary;
        f.frags = data;
        f.set_truesize();
        f.tx = skb.tx.take();
        at += len;
        net.inc(ns, Mib::Ip6FragCreates);
        sent = ip6_finish_output2(net, ns, dst, to, f);
    }
    net.inc(ns, if sent.is_ok() { Mib::Ip6FragOKs } else { Mib::Ip6FragFails });
    net.consume_skb(skb);
    sent
}

/// Passes a packet on (`ip6_forward`): one hop less, told to its sender where it does not fit.
pub fn ip6_forward(net: &mut Net, ns: NsId, dst: &Dst, ip: &Ipv6Header, mut skb: Skb) {
    if skb.pkt_type != PktType::Host {
        net.inc(ns, Mib::Ip6InDiscards);
        return net.kfree_skb(skb, DropReason::NotSpecified, "ip6_forward");
    }
    if ip.hop_limit <= 1 {
        icmp::icmpv6_send(net, &skb, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT, 0);
        net.inc(ns, Mib::Ip6InHdrErrors);
        return net.kfree_skb(skb, DropReason::IpInHdr, "ip6_forward");
    }
    if skb.dev == Some(dst.dev) {
        redirect::send(net, ns, dst, ip, &skb);
    } else if ip.src.is_unspecified() || ip.src.is_multicast() || ip.src.is_loopback() || is_linklocal(ip.src) {
        if is_linklocal(ip.src) {
            icmp::icmpv6_send(net, &skb, ICMPV6_DEST_UNREACH, ICMPV6_NOT_NEIGHBOUR, 0);
        }
        net.inc(ns, Mib::Ip6InAddrErrors);
        return net.kfree_skb(skb, DropReason::IpInvalidSource, "ip6_forward");
    }
    net.inc(ns, Mib::Ip6OutForwDatagrams);
    let mtu = (dst.mtu).max(IPV6_MIN_MTU);
    let headers = transport(skb.head.bytes()).map_or(IPV6_HLEN, |t| t.at);
    // What was gathered for its connection leaves in pieces as it came.
    let gathered = skb.frag_max != 0 && u32::from(skb.frag_max) <= mtu;
    if skb.network_seglen(headers) > mtu as usize && !gathered {
        icmp::icmpv6_send(net, &skb, ICMPV6_PKT_TOOBIG, 0, mtu);
        net.inc(ns, Mib::Ip6InTooBigErrors);
        net.inc(ns, Mib::Ip6FragFails);
        return net.kfree_skb(skb, DropReason::PktTooBig, "ip6_forward");
    }
    decrease_hop_limit(skb.head.bytes_mut());
    let from = skb.dev;
    let Ok(mut skb) = nf_hook(net, ns, Pf::V6, Hook::Forward, skb, (from, Some(dst.dev))) else { return };
    skb.dev = Some(dst.dev);
    skb.dst = Some(*dst);
    net.stage(&skb, "ip6_forward");
    let cap = std::mem::take(&mut skb.frag_max);
    let Ok(Some(skb)) = post_routing(net, ns, dst.dev, skb) else { return };
    if cap != 0 && skb.gso.is_none() && skb.len() > cap.into() {
        let _ = ip6_fragment(net, ns, dst, (ip.dst, false), skb, cap);
        return;
    }
    let _ = ip6_finish_output2(net, ns, dst, (ip.dst, false), skb);
}

/// A message of discovery or group membership: straight to the link, past the routes.
pub(super) fn send_control(
    net: &mut Net,
    dev: DevId,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    router_alert: bool,
    message: Vec<u8>,
) -> Result<(), Errno> {
    let Some((ns, skb)) = control_skb(net, dev, src, dst, hop_limit, router_alert, message) else {
        return Err(Errno::ENOBUFS);
    };
    let genid = net.ns.get(ns).map_or(0, |n| n.rt_genid);
    let kind = if dst.is_multicast() { RouteKind::Multicast } else { RouteKind::Unicast };
    let way = Dst { kind, dev, gateway: None, src: src.into(), mtu: u32::MAX, genid, metrics: MetricsId::default() };
    if !net.nf_active {
        return ip6_finish_output2(net, ns, &way, (dst, false), skb);
    }
    ip6_local_out(net, ns, &way, (dst, false), skb)
}

/// The same to a neighbour whose hardware address may not hold any more.
pub(super) fn send_control_to(
    net: &mut Net,
    dev: DevId,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    message: Vec<u8>,
    to: Mac,
) -> Result<(), Errno> {
    let Some((ns, mut skb)) = control_skb(net, dev, src, dst, hop_limit, false, message) else {
        return Err(Errno::ENOBUFS);
    };
    net.inc(ns, Mib::Ip6OutTransmits);
    net.add(ns, Mib::Ip6OutOctets, skb.len() as u64);
    let own = net.devs.get(dev).map_or(Mac::ZERO, |d| d.mac);
    if !ethernet::push_header(&mut skb, to, own, ETH_P_IPV6) {
        net.kfree_skb(skb, DropReason::DevHdr, "ndisc_send_skb");
        return Err(Errno::ENOBUFS);
    }
    dev_tx::dev_queue_xmit(net, dev, skb)
}

/// RFC 2711: routers shall look at it, though it is not for them.
const ROUTER_ALERT: [u8; 8] = [NEXTHDR_ICMP, 0, 5, 2, 0, 0, 1, 0];

fn control_skb(
    net: &mut Net,
    dev: DevId,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    router_alert: bool,
    mut message: Vec<u8>,
) -> Option<(NsId, Skb)> {
    let d = net.devs.get(dev).filter(|d| d.speaks_ipv6())?;
    let discovery = message.first().is_some_and(|kind| (NDISC_ROUTER_SOLICITATION..=NDISC_REDIRECT).contains(kind));
    let (ns, tclass) = (d.ns, if discovery { d.inet6.conf.ndisc_tclass as u8 } else { 0 });
    let sum = checksum::fold(checksum::sum(&message, checksum::pseudo_v6(src, dst, NEXTHDR_ICMP, message.len())));
    message.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    let kind = *message.first()?;
    let mut skb = net.alloc_skb();
    let mut payload = Segs::from(message);
    // Whoever receives it looks for the beginning in the linear part.
    let linear = payload.len().min(72);
    payload.copy_to(0, skb.head.push(linear)?);
    payload.advance(linear);
    skb.transport_header = skb.head.start();
    if router_alert {
        skb.head.push(ROUTER_ALERT.len())?.copy_from_slice(&ROUTER_ALERT);
    }
    skb.frags = payload;
    let next = if router_alert { NEXTHDR_HOP } else { NEXTHDR_ICMP };
    let header =
        Ipv6Header { tclass, payload_len: skb.len() as u16, next, hop_limit, src, dst, ..Ipv6Header::default() };
    header.emit(skb.head.push(IPV6_HLEN)?);
    skb.network_header = skb.head.start();
    (skb.ns, skb.dev, skb.protocol, skb.pkt_type) = (Some(ns), Some(dev), ETH_P_IPV6, PktType::Outgoing);
    skb.csum = Csum::Unnecessary;
    skb.set_truesize();
    // As Linux's pktsched sees them: control packets.
    skb.priority = 7;
    net.inc(ns, Mib::Ip6OutRequests);
    icmp::out_count(net, ns, kind);
    Some((ns, skb))
}
