//! The receive path of IPv4: header checks, route, local delivery.
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af::v4;
use crate::net::core::fib_rules::{self, L4};
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::fib::Scope;
use crate::net::ipv4::route::{InputError, RouteKind, addr_type, ip_route_input, valid};
use crate::net::ipv4::rule::HashKeys;
use crate::net::ipv4::{forward, icmp, icmp_rcv, igmp, options, reassembly};
use crate::net::mib::Mib;
use crate::net::netfilter::{Hook, Pf, nf_hook, socket};
use crate::net::raw::rcv::raw_local_deliver;
use crate::net::switch;
use belljar_abi::Errno;
use belljar_wire::Malformed;
use belljar_wire::icmp::*;
use belljar_wire::igmp::IPPROTO_IGMP;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPV4_HLEN, Ipv4Header};
use core::net::Ipv4Addr;

/// A packet with its Ethernet header pulled.
#[doc(alias = "ip_rcv_core")]
pub fn ip_rcv(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb) {
    let net = &mut k.net;
    if skb.pkt_type == PktType::OtherHost {
        return net.kfree_skb(skb, DropReason::OtherHost, "ip_rcv");
    }
    net.stage(&skb, "ip_rcv");
    let octets = skb.len() as u64;
    let header = header(&mut skb);
    let Some(n) = net.ns.get_mut(ns) else { return net.kfree_skb(skb, DropReason::NotSpecified, "ip_rcv") };
    n.mib.inc(Mib::IpInReceives);
    n.mib.add(Mib::IpExtInOctets, octets);
    let mut ip = match header {
        Ok(ip) => ip,
        Err((reason, counter)) => {
            n.mib.inc(counter);
            if counter == Mib::IpExtInCsumErrors {
                n.mib.inc(Mib::IpInHdrErrors);
            }
            return net.kfree_skb(skb, reason, "ip_rcv");
        }
    };
    let ect = [Mib::IpExtInNoECTPkts, Mib::IpExtInECT1Pkts, Mib::IpExtInECT0Pkts, Mib::IpExtInCEPkts];
    n.mib.inc(ect[(ip.tos & 3) as usize]);
    skb.transport_header = skb.network_header + ip.ihl_bytes as u8;
    if net.nf_active {
        socket::look(k, ns, Pf::V4, &mut skb);
    }
    let net = &mut k.net;
    let Ok(skb) = nf_hook(net, ns, Pf::V4, Hook::PreRouting, skb, (Some(dev), None)) else { return };
    // Rules may have rewritten it.
    if net.nf_active {
        ip = rewritten(&skb, ip);
    }
    ip_rcv_finish(k, ns, dev, skb, &ip);
}

/// The header as it is now.
fn rewritten(skb: &Skb, was: Ipv4Header) -> Ipv4Header {
    skb.ip_hdr().unwrap_or(was)
}

/// The checks of RFC 1122 §3.2.1: version, lengths, checksum; link padding is cut off.
#[inline(always)]
pub(crate) fn header(skb: &mut Skb) -> Result<Ipv4Header, (DropReason, Mib)> {
    if !skb.may_pull(IPV4_HLEN) {
        return Err((DropReason::PktTooSmall, Mib::IpInHdrErrors));
    }
    let mut ip = match Ipv4Header::plain(skb.head.bytes()) {
        Some(ip) => ip,
        None => unusual(skb)?,
    };
    let len = skb.len();
    if ip.total_len == 0 {
        ip.total_len = u16::MAX;
    } else if len < ip.total_len as usize {
        return Err((DropReason::PktTooSmall, Mib::IpExtInTruncatedPkts));
    } else {
        skb.trim(ip.total_len as usize);
    }
    Ok(ip)
}

/// A header with options, without a length, or a bad one.
#[cold]
fn unusual(skb: &mut Skb) -> Result<Ipv4Header, (DropReason, Mib)> {
    const BAD: (DropReason, Mib) = (DropReason::IpInHdr, Mib::IpInHdrErrors);
    let ihl = usize::from(skb.head.bytes()[0] & 15) * 4;
    if !skb.may_pull(ihl.max(IPV4_HLEN)) {
        return Err(BAD);
    }
    let ip = match Ipv4Header::parse(skb.head.bytes()) {
        Ok(ip) => ip,
        // A super-segment beyond 64 KB says nothing about its length (BIG TCP).
        Err(Malformed::BadLength) if skb.gso.is_some() && skb.head.bytes()[2..4] == [0, 0] => big(skb).ok_or(BAD)?,
        Err(_) => return Err(BAD),
    };
    if !Ipv4Header::verify_checksum(skb.head.bytes()) {
        return Err((DropReason::IpCsum, Mib::IpExtInCsumErrors));
    }
    Ok(ip)
}

fn big(skb: &Skb) -> Option<Ipv4Header> {
    let mut b = [0; 60];
    let n = skb.head.len().min(60);
    b[..n].copy_from_slice(&skb.head.bytes()[..n]);
    b[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    Some(Ipv4Header { total_len: 0, ..Ipv4Header::parse(&b[..n]).ok()? })
}

/// Route (a packet of lo brings its own), options, then up or on.
fn ip_rcv_finish(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb, ip: &Ipv4Header) {
    let net = &mut k.net;
    let own =
        valid(net, ns, &skb.dst).filter(|d| matches!(d.kind, RouteKind::Local | RouteKind::Broadcast) || skb.looped);
    let kind = match own {
        Some(d) => d.kind,
        None => match routed(net, ns, dev, &mut skb, ip) {
            Ok(kind) => kind,
            Err(e) => return ip_error(net, ns, skb, e),
        },
    };
    if ip.ihl_bytes > IPV4_HLEN && !rcv_options(net, ns, dev, &mut skb, ip) {
        return net.kfree_skb(skb, DropReason::IpInHdr, "ip_rcv_options");
    }
    match kind {
        RouteKind::Broadcast => {
            net.inc(ns, Mib::IpExtInBcastPkts);
            net.add(ns, Mib::IpExtInBcastOctets, skb.len() as u64);
        }
        RouteKind::Multicast => {
            net.inc(ns, Mib::IpExtInMcastPkts);
            net.add(ns, Mib::IpExtInMcastOctets, skb.len() as u64);
        }
        // RFC 1122 §3.3.6: a link's broadcast carries no packet for one host.
        _ if matches!(skb.pkt_type, PktType::Broadcast | PktType::Multicast)
            && net.devs.get(dev).is_some_and(|d| d.conf.drop_unicast_in_l2_multicast) =>
        {
            return net.kfree_skb(skb, DropReason::UnicastInL2Multicast, "ip_rcv_finish");
        }
        _ => {}
    }
    match (kind, skb.dst) {
        // `bc_forwarding`: a network's broadcast from elsewhere.
        (RouteKind::Broadcast, Some(dst)) if dst.gateway.is_some() => forward::ip_forward(net, ns, dev, &dst, ip, skb),
        (RouteKind::Unicast, Some(dst)) => forward::ip_forward(net, ns, dev, &dst, ip, skb),
        _ => ip_local_deliver(k, ns, skb, ip),
    }
}

/// Looks up where a packet goes that did not bring its route.
#[doc(alias = "ip_route_input_noref")]
#[inline(never)]
pub(crate) fn routed(
    net: &mut Net,
    ns: NsId,
    dev: DevId,
    skb: &mut Skb,
    ip: &Ipv4Header,
) -> Result<RouteKind, InputError> {
    let Some(n) = net.ns.get(ns) else { return Err(InputError::NotForwarding) };
    let mut keys = HashKeys::of(n.sysctl.multipath_hash(), skb, ip);
    if n.fib.rules.is_some() && fib_rules::wants_l4(&n.fib.rules) {
        let l4 = skb.head.at(skb.network_header).get(ip.ihl_bytes..);
        keys.l4 = L4::dissect(ip.proto, l4.filter(|_| !ip.is_fragment()));
    }
    let dst = ip_route_input(net, ns, dev, ip.src, ip.dst, ip.proto, keys)?;
    skb.dst = Some(dst);
    Ok(dst.kind)
}

/// False when the options end the packet: malformed, or a source route that is not accepted. This host records itself where
/// it is asked to: by its address there, or when the packet goes on, by the one of the way out.
#[doc(alias = "ip_rcv_options")]
#[cold]
fn rcv_options(net: &mut Net, ns: NsId, dev: DevId, skb: &mut Skb, ip: &Ipv4Header) -> bool {
    let bytes = skb.head.bytes();
    let found = match options::compile(bytes.get(..ip.ihl_bytes).unwrap_or(bytes)) {
        Ok(found) => found,
        Err(at) => {
            net.inc(ns, Mib::IpInHdrErrors);
            icmp::icmp_send(net, skb, ICMP_PARAMETERPROB, 0, u32::from(at) << 24);
            return false;
        }
    };
    if found.source_route && !net.devs.get(dev).is_some_and(|d| d.conf.accept_source_route) {
        return false;
    }
    let on = skb.dst.filter(|d| d.kind == RouteKind::Unicast).map(|d| (d.dev, d.gateway.map_or(ip.dst, v4)));
    let here = match on {
        Some((out, hop)) => net.devs.get(out).and_then(|d| d.select_addr(hop, Scope::Universe)),
        None if addr_type(net, ns, ip.dst) == RouteKind::Local => Some(ip.dst),
        None => net.devs.get(dev).and_then(|d| d.select_addr(ip.src, Scope::Universe)),
    };
    options::record(net, ns, skb, ip, &found, here.unwrap_or(Ipv4Addr::UNSPECIFIED));
    true
}

/// No way on: counted, dropped, and where the host forwards, answered.
#[cold]
fn ip_error(net: &mut Net, ns: NsId, skb: Skb, e: InputError) {
    // What hosts tell routers is for them alone; a card would not even have taken it.
    if e == InputError::NotJoined && skb.ip_hdr().is_some_and(|ip| ip.proto == IPPROTO_IGMP) {
        return net.consume_skb(skb);
    }
    let counter = match e {
        InputError::RpFilter => Some(Mib::TcpExtIPReversePathFilter),
        InputError::NotForwarding => Some(Mib::IpInAddrErrors),
        InputError::Refused(Errno::ENETUNREACH) => Some(Mib::IpExtInNoRoutes),
        _ => None,
    };
    if let Some(c) = counter {
        net.inc(ns, c);
    }
    log_martian(net, &skb, e);
    let code = match e {
        InputError::Refused(Errno::EHOSTUNREACH) => Some(ICMP_HOST_UNREACH),
        InputError::Refused(Errno::ENETUNREACH) => Some(ICMP_NET_UNREACH),
        InputError::Refused(Errno::EACCES) => Some(ICMP_PKT_FILTERED),
        _ => None,
    };
    if let Some(code) = code
        && let Some(ip) = skb.ip_hdr()
        && let (now, hz) = (net.env.jiffies(), net.env.hz)
        && net.ns.get_mut(ns).is_some_and(|n| n.peers.get(ip.src, now).route_error_allow(hz, now))
    {
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, code, 0);
    }
    net.kfree_skb(skb, e.reason(), "ip_error");
}

/// `log_martians`: a line for packets that cannot come from there, with the link's header where it was their source.
#[doc(alias = "ip_handle_martian_source")]
fn log_martian(net: &mut Net, skb: &Skb, e: InputError) {
    let Some(d) = skb.dev.and_then(|d| net.devs.get(d)).filter(|d| d.conf.log_martians) else { return };
    let Some(ip) = skb.ip_hdr().filter(|ip| !ip.dst.is_multicast()) else { return };
    let name = d.name.clone();
    match e {
        InputError::MartianSource(_) | InputError::RpFilter if net.kmsg_allowed() => {
            net.kmsg(format!("IPv4: martian source {} from {}, on dev {name}", ip.dst, ip.src));
            let len = usize::from(skb.network_header.saturating_sub(skb.mac_header));
            if let Some(header) = skb.head.at(skb.mac_header).get(..len).filter(|h| !h.is_empty()) {
                let bytes: Vec<String> = header.iter().map(|b| format!("{b:02x}")).collect();
                net.kmsg(format!("ll header: 00000000: {}", bytes.join(" ")));
            }
        }
        InputError::MartianDestination(_) => {
            net.kmsg_ratelimited(&format!("IPv4: martian destination {} from {}, dev {name}", ip.dst, ip.src));
        }
        _ => {}
    }
}

/// Fragments wait until the datagram is whole; then the protocol.
fn ip_local_deliver(k: &mut Kernel, ns: NsId, skb: Skb, ip: &Ipv4Header) {
    if !ip.is_fragment() {
        return local_in(k, ns, skb, ip);
    }
    let Some(whole) = reassembly::ip_defrag(&mut k.net, ns, skb, ip) else { return };
    let Some(ip) = whole.ip_hdr() else { return k.net.kfree_skb(whole, DropReason::IpInHdr, "ip_defrag") };
    local_in(k, ns, whole, &ip);
}

/// A whole datagram for this host, past its rules.
fn local_in(k: &mut Kernel, ns: NsId, mut skb: Skb, ip: &Ipv4Header) {
    if !k.net.nf_active {
        return ip_local_deliver_finish(k, ns, skb, ip);
    }
    let iin = skb.dev;
    socket::look(k, ns, Pf::V4, &mut skb);
    let Ok(skb) = nf_hook(&mut k.net, ns, Pf::V4, Hook::LocalIn, skb, (iin, None)) else { return };
    let ip = rewritten(&skb, *ip);
    ip_local_deliver_finish(k, ns, skb, &ip);
}

#[doc(alias = "ip_protocol_deliver_rcu")]
fn ip_local_deliver_finish(k: &mut Kernel, ns: NsId, mut skb: Skb, ip: &Ipv4Header) {
    let net = &mut k.net;
    if skb.head.pull(ip.ihl_bytes).is_none() {
        return net.kfree_skb(skb, DropReason::IpInHdr, "ip_local_deliver_finish");
    }
    net.stage(&skb, "ip_local_deliver");
    let Some(n) = net.ns.get_mut(ns) else { return net.kfree_skb(skb, DropReason::NotSpecified, "ip_local_deliver") };
    let known = matches!(ip.proto, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_IGMP) || n.tunnels.has(ip.proto);
    if known {
        n.mib.inc(Mib::IpInDelivers);
    }
    // Almost always there is no raw socket to look for.
    let raw = !n.raw.raw.is_empty() && raw_local_deliver(k, ns, &skb, ip);
    if !known {
        let net = &mut k.net;
        if raw {
            net.inc(ns, Mib::IpInDelivers);
            return net.consume_skb(skb);
        }
        net.inc(ns, Mib::IpInUnknownProtos);
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0);
        return net.kfree_skb(skb, DropReason::IpNoProto, "ip_protocol_deliver");
    }
    match ip.proto {
        IPPROTO_ICMP => icmp_rcv::icmp_rcv(k, ns, skb, ip, raw),
        IPPROTO_IGMP => igmp::igmp_rcv(&mut k.net, skb),
        proto => switch::inet_protocol(k, proto, skb),
    }
}
