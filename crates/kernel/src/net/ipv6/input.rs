//! The receive path of IPv6: header checks, route, extension headers, local delivery.
use super::exthdrs::{self, Walk};
use super::icmp::icmpv6_send;
use super::route::{Input6, ip6_route_input};
use super::{icmp_rcv, mcast, ndisc, output, reassembly};
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::netfilter::{Hook, Pf, nf_hook, socket};
use crate::net::raw::rcv6::raw6_local_deliver;
use crate::net::switch;
use belljar_abi::Errno;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;

/// A packet with its Ethernet header pulled.
#[doc(alias = "ip6_rcv_core")]
#[inline(never)]
pub fn ipv6_rcv(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb) {
    let net = &mut k.net;
    if skb.pkt_type == PktType::OtherHost {
        return net.kfree_skb(skb, DropReason::OtherHost, "ipv6_rcv");
    }
    net.stage(&skb, "ipv6_rcv");
    net.inc(ns, Mib::Ip6InReceives);
    net.add(ns, Mib::Ip6InOctets, skb.len() as u64);
    if !net.devs.get(dev).is_some_and(|d| d.speaks_ipv6()) {
        net.inc(ns, Mib::Ip6InDiscards);
        return net.kfree_skb(skb, DropReason::Ipv6Disabled, "ipv6_rcv");
    }
    let ip = match header(net, dev, &mut skb) {
        Ok(ip) => ip,
        Err((reason, counter)) => {
            net.inc(ns, counter);
            return net.kfree_skb(skb, reason, "ipv6_rcv");
        }
    };
    let ect = [Mib::Ip6InNoECTPkts, Mib::Ip6InECT1Pkts, Mib::Ip6InECT0Pkts, Mib::Ip6InCEPkts];
    net.inc(ns, ect[usize::from(ip.tclass & 3)]);
    skb.transport_header = skb.network_header + IPV6_HLEN as u8;
    if ip.dst.is_multicast() {
        net.inc(ns, Mib::Ip6InMcastPkts);
        net.add(ns, Mib::Ip6InMcastOctets, skb.len() as u64);
    }
    if ip.next == NEXTHDR_HOP
        && let Err((reason, at)) = exthdrs::hop_by_hop(net, ns, &mut skb, &ip)
    {
        return net.kfree_skb(skb, reason, at);
    }
    let (mut skb, ip) = if net.nf_active {
        socket::look(k, ns, Pf::V6, &mut skb);
        let net = &mut k.net;
        let Ok(skb) = nf_hook(net, ns, Pf::V6, Hook::PreRouting, skb, (Some(dev), None)) else { return };
        let ip = Ipv6Header::parse(skb.head.bytes()).unwrap_or(ip);
        (skb, ip)
    } else {
        (skb, ip)
    };
    let net = &mut k.net;
    match ip6_route_input(net, ns, dev, &ip, &skb) {
        Input6::Local(dst) => {
            skb.dst = Some(dst);
            local_in(k, ns, dev, skb, ip);
        }
        Input6::Forward(dst) if ndisc::is_for_proxy(net, ns, dev, &ip, &skb) => {
            skb.dst = Some(dst);
            local_in(k, ns, dev, skb, ip);
        }
        Input6::Forward(dst) => output::ip6_forward(net, ns, &dst, &ip, skb),
        Input6::Refused(e) => refused(net, ns, skb, e),
        // A group that nobody here joined: no error, and no counter.
        Input6::NotForwarding if ip.dst.is_multicast() => {
            net.kfree_skb(skb, DropReason::NotSpecified, "ip6_mc_input");
        }
        Input6::NotForwarding => {
            net.inc(ns, Mib::Ip6InAddrErrors);
            net.kfree_skb(skb, DropReason::IpInAddrErrors, "ip6_pkt_drop");
        }
    }
}

/// Past the rules for what comes in.
fn local_in(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb, ip: Ipv6Header) {
    if !k.net.nf_active {
        return ip6_input(k, ns, dev, skb, ip);
    }
    socket::look(k, ns, Pf::V6, &mut skb);
    let Ok(skb) = nf_hook(&mut k.net, ns, Pf::V6, Hook::LocalIn, skb, (Some(dev), None)) else { return };
    let ip = Ipv6Header::parse(skb.head.bytes()).unwrap_or(ip);
    ip6_input(k, ns, dev, skb, ip);
}

/// Version, lengths, and addresses that cannot come from a link (RFC 4291 §2.5.3, §2.7); link padding is cut off.
fn header(net: &Net, dev: DevId, skb: &mut Skb) -> Result<Ipv6Header, (DropReason, Mib)> {
    const BAD: (DropReason, Mib) = (DropReason::IpInHdr, Mib::Ip6InHdrErrors);
    if !skb.may_pull(IPV6_HLEN) {
        return Err((DropReason::PktTooSmall, Mib::Ip6InHdrErrors));
    }
    let ip = Ipv6Header::parse(skb.head.bytes()).map_err(|_| BAD)?;
    let loopback = net.devs.get(dev).is_some_and(|d| d.is_loopback());
    if (ip.src.is_loopback() || ip.dst.is_loopback()) && !loopback {
        return Err(BAD);
    }
    let interface_local = ip.dst.is_multicast() && ip.dst.segments()[0] & 15 <= 1 && !loopback;
    let as_link = skb.pkt_type == PktType::Broadcast || skb.pkt_type == PktType::Multicast;
    if ip.src.is_multicast() || interface_local {
        return Err(BAD);
    }
    let refused = || net.devs.get(dev).is_some_and(|d| d.inet6.conf.drop_unicast_in_l2_multicast != 0);
    if as_link && !ip.dst.is_multicast() && refused() {
        return Err((DropReason::UnicastInL2Multicast, Mib::Ip6InHdrErrors));
    }
    let (len, want) = (skb.len(), IPV6_HLEN + usize::from(ip.payload_len));
    match ip.payload_len {
        // A super-segment says nothing about its length (BIG TCP).
        0 if skb.gso.is_some() => {}
        _ if len < want => return Err((DropReason::PktTooSmall, Mib::Ip6InTruncatedPkts)),
        _ => skb.trim(want),
    }
    Ok(ip)
}

fn refused(net: &mut Net, ns: NsId, skb: Skb, e: Errno) {
    let code = match e {
        Errno::EACCES => Some(ICMPV6_ADM_PROHIBITED),
        Errno::EINVAL => None,
        _ => Some(ICMPV6_NOROUTE),
    };
    net.inc(ns, Mib::Ip6InNoRoutes);
    if let Some(code) = code {
        icmpv6_send(net, &skb, ICMPV6_DEST_UNREACH, code, 0);
    }
    net.kfree_skb(skb, DropReason::IpInNoRoutes, "ip6_pkt_drop");
}

/// Extension headers in their order, then the protocol. A datagram that became whole comes here again.
#[doc(alias = "ip6_protocol_deliver_rcu")]
fn ip6_input(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb, mut ip: Ipv6Header) {
    let mut whole = false;
    loop {
        let t = match exthdrs::walk(&mut k.net, ns, &mut skb, &ip) {
            Walk::Drop(reason, at) => return k.net.kfree_skb(skb, reason, at),
            // Fragments of fragments are nobody's (`IP6SKB_FRAGMENTED`).
            Walk::Fragment { .. } if whole => {
                k.net.inc(ns, Mib::Ip6InHdrErrors);
                icmpv6_send(&mut k.net, &skb, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, IPV6_HLEN as u32);
                return k.net.kfree_skb(skb, DropReason::IpInHdr, "ipv6_frag_rcv");
            }
            Walk::Fragment { at, nexthdr_at, frag } => {
                match reassembly::ipv6_frag_rcv(&mut k.net, ns, skb, &ip, (at, nexthdr_at), frag) {
                    Some(datagram) => (skb, whole) = (datagram, true),
                    None => return,
                }
                match Ipv6Header::parse(skb.head.bytes()) {
                    Ok(h) => ip = h,
                    Err(_) => return k.net.kfree_skb(skb, DropReason::IpInHdr, "ipv6_frag_rcv"),
                }
                continue;
            }
            Walk::Protocol(t) => t,
        };
        return deliver(k, ns, dev, skb, &ip, t.proto, t.at, t.nexthdr_at);
    }
}

/// Whether members want what this source sends to the group; what routers and hosts say about groups is for everybody.
#[doc(alias = "ipv6_is_mld")]
fn wanted(net: &Net, dev: DevId, ip: &Ipv6Header, proto: u8, skb: &Skb) -> bool {
    let kind = skb.head.bytes().first();
    let mld = proto == NEXTHDR_ICMP
        && matches!(kind, Some(&(ICMPV6_MGM_QUERY..=ICMPV6_MGM_REDUCTION)) | Some(&ICMPV6_MLD2_REPORT));
    mld || mcast::check(net, dev, ip.dst, ip.src) || net.devs.get(dev).is_some_and(|d| d.is_loopback())
}

#[allow(clippy::too_many_arguments)]
fn deliver(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb, ip: &Ipv6Header, proto: u8, at: usize, nexthdr: usize) {
    let net = &mut k.net;
    if skb.head.pull(at).is_none() {
        return net.kfree_skb(skb, DropReason::PktTooSmall, "ip6_input");
    }
    skb.transport_header = skb.head.start();
    net.stage(&skb, "ip6_input");
    if ip.dst.is_multicast() && !wanted(net, dev, ip, proto, &skb) {
        net.inc(ns, Mib::Ip6InDiscards);
        return net.kfree_skb(skb, DropReason::IpInAddrErrors, "ip6_protocol_deliver");
    }
    let raw = net.ns.get(ns).is_some_and(|n| !n.raw.raw.is_empty()) && raw6_local_deliver(k, ns, &skb, proto, ip);
    let net = &mut k.net;
    match proto {
        NEXTHDR_TCP | NEXTHDR_UDP => {
            net.inc(ns, Mib::Ip6InDelivers);
            switch::inet_protocol(k, proto, skb);
        }
        NEXTHDR_ICMP => {
            net.inc(ns, Mib::Ip6InDelivers);
            icmp_rcv::icmpv6_rcv(k, ns, dev, skb, ip, raw);
        }
        NEXTHDR_NONE => net.consume_skb(skb),
        _ if raw => {
            net.inc(ns, Mib::Ip6InDelivers);
            net.consume_skb(skb);
        }
        _ => {
            net.inc(ns, Mib::Ip6InUnknownProtos);
            icmpv6_send(net, &skb, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, nexthdr as u32);
            net.kfree_skb(skb, DropReason::IpNoProto, "ip6_protocol_deliver");
        }
    }
}
