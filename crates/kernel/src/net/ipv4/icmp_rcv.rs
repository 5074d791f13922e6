//! Receiving ICMP: echo and time stamps are answered, errors go to whom they concern.
use crate::ids::NsId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp::{icmp_reply, midnight_ms};
use crate::net::ipv4::redirect;
use crate::net::ipv4::route::{RouteKind, addr_type};
use crate::net::mib::Mib;
use crate::net::raw::rcv;
use crate::net::switch;
use belljar_abi::Errno;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use belljar_wire::{Csum, Segs, checksum};
use core::net::Ipv4Addr;

/// Extended echo reply (RFC 8335): only a ping socket asks for one.
const ICMP_EXT_ECHOREPLY: u8 = 43;

/// A message, pulled to its ICMP header. `raw`: a raw socket has a copy.
pub fn icmp_rcv(k: &mut Kernel, ns: NsId, mut skb: Skb, ip: &Ipv4Header, raw: bool) {
    let net = &mut k.net;
    net.inc(ns, Mib::IcmpInMsgs);
    net.stage(&skb, "icmp_rcv");
    if skb.csum == Csum::None {
        let linear = skb.head.bytes();
        let rest = checksum::segs(&skb.frags);
        if checksum::fold(checksum::combine(checksum::sum(linear, 0), rest, linear.len())) != 0 {
            net.inc(ns, Mib::IcmpInCsumErrors);
            net.inc(ns, Mib::IcmpInErrors);
            return net.kfree_skb(skb, DropReason::IcmpCsum, "icmp_rcv");
        }
    }
    let header = if skb.may_pull(ICMP_HLEN) { IcmpHeader::parse(skb.head.bytes()).ok() } else { None };
    let Some(h) = header.filter(|h| h.kind <= NR_ICMP_TYPES || h.kind == ICMP_EXT_ECHOREPLY) else {
        net.inc(ns, Mib::IcmpInErrors);
        return net.kfree_skb(skb, DropReason::InvalidIcmp, "icmp_rcv");
    };
    if let Some(c) = in_counter(h.kind) {
        net.inc(ns, c);
    }
    skb.transport_header = skb.head.start();
    let _ = skb.head.pull(ICMP_HLEN);
    let everybody = skb.dst.is_some_and(|d| matches!(d.kind, RouteKind::Broadcast | RouteKind::Multicast));
    if everybody {
        // RFC 1122 §3.2.2.6: requests to everybody may be ignored, and are unless told otherwise.
        let ignore = net.ns.get(ns).is_none_or(|n| n.sysctl.icmp_echo_ignore_broadcasts != 0);
        if !matches!(h.kind, ICMP_ECHO | ICMP_TIMESTAMP) || ignore {
            net.inc(ns, Mib::IcmpInErrors);
            return net.kfree_skb(skb, DropReason::InvalidIcmp, "icmp_rcv");
        }
    }
    match h.kind {
        ICMP_ECHO => echo(k, ns, skb, ip, h),
        ICMP_TIMESTAMP => timestamp(k, ns, skb, ip, h),
        ICMP_DEST_UNREACH | ICMP_TIME_EXCEEDED | ICMP_PARAMETERPROB | ICMP_SOURCE_QUENCH => unreach(k, ns, skb, h),
        ICMP_ECHOREPLY | ICMP_EXT_ECHOREPLY => rcv::ping_rcv(k, ns, skb, &h, raw),
        ICMP_REDIRECT => redirected(k, ns, skb, ip, h),
        _ => net.consume_skb(skb),
    }
}

fn in_counter(kind: u8) -> Option<Mib> {
    Some(match kind {
        ICMP_ECHOREPLY => Mib::IcmpInEchoReps,
        ICMP_DEST_UNREACH => Mib::IcmpInDestUnreachs,
        ICMP_SOURCE_QUENCH => Mib::IcmpInSrcQuenchs,
        ICMP_REDIRECT => Mib::IcmpInRedirects,
        ICMP_ECHO => Mib::IcmpInEchos,
        ICMP_TIME_EXCEEDED => Mib::IcmpInTimeExcds,
        ICMP_PARAMETERPROB => Mib::IcmpInParmProbs,
        ICMP_TIMESTAMP => Mib::IcmpInTimestamps,
        ICMP_TIMESTAMPREPLY => Mib::IcmpInTimestampReps,
        ICMP_ADDRESS => Mib::IcmpInAddrMasks,
        ICMP_ADDRESSREPLY => Mib::IcmpInAddrMaskReps,
        _ => return None,
    })
}

/// The payload comes back as it was, shared.
#[doc(alias = "icmp_echo")]
fn echo(k: &mut Kernel, ns: NsId, mut skb: Skb, ip: &Ipv4Header, h: IcmpHeader) {
    if k.net.ns.get(ns).is_none_or(|n| n.sysctl.icmp_echo_ignore_all != 0) {
        return k.net.consume_skb(skb);
    }
    let data = skb.take_payload();
    icmp_reply(&mut k.net, ns, skb, ip, IcmpHeader { kind: ICMP_ECHOREPLY, csum: 0, ..h }, data);
}

fn timestamp(k: &mut Kernel, ns: NsId, skb: Skb, ip: &Ipv4Header, h: IcmpHeader) {
    let Some(originate) = skb.peek::<4>() else {
        k.net.inc(ns, Mib::IcmpInErrors);
        return k.net.kfree_skb(skb, DropReason::PktTooSmall, "icmp_timestamp");
    };
    let now = midnight_ms(&k.net).to_be_bytes();
    let data = Segs::from([originate, now, now].concat());
    icmp_reply(&mut k.net, ns, skb, ip, IcmpHeader { kind: ICMP_TIMESTAMPREPLY, csum: 0, ..h }, data);
}

/// Another router is better for a packet of ours.
#[doc(alias = "icmp_redirect")]
fn redirected(k: &mut Kernel, ns: NsId, mut skb: Skb, ip: &Ipv4Header, h: IcmpHeader) {
    let net = &mut k.net;
    let quoted = if skb.may_pull(IPV4_HLEN) { Ipv4Header::parse(skb.head.bytes()).ok() } else { None };
    let Some(inner) = quoted else {
        net.inc(ns, Mib::IcmpInErrors);
        return net.kfree_skb(skb, DropReason::PktTooSmall, "icmp_redirect");
    };
    if let Some(dev) = skb.dev.filter(|_| h.code <= 3) {
        redirect::obey(net, ns, dev, ip.src, h.rest.into(), &inner);
    }
    net.consume_skb(skb);
}

/// An error about a packet of ours: path MTU for the host, then the protocol it quotes.
#[doc(alias = "icmp_unreach")]
fn unreach(k: &mut Kernel, ns: NsId, mut skb: Skb, h: IcmpHeader) {
    let net = &mut k.net;
    let quoted = if skb.may_pull(IPV4_HLEN) { Ipv4Header::parse(skb.head.bytes()).ok() } else { None };
    let Some(inner) = quoted else {
        net.inc(ns, Mib::IcmpInErrors);
        return net.kfree_skb(skb, DropReason::HdrTrunc, "icmp_unreach");
    };
    let mut info = 0;
    if h.kind == ICMP_DEST_UNREACH && h.code == ICMP_FRAG_NEEDED {
        match net.ns.get(ns).map_or(0, |n| n.sysctl.ip_no_pmtu_disc) {
            1 => {}
            2 | 3 => return net.consume_skb(skb),
            _ => info = u32::from(h.mtu()),
        }
    }
    if h.kind == ICMP_PARAMETERPROB {
        info = u32::from(h.rest[0]);
    }
    if net.ns.get(ns).is_some_and(|n| n.sysctl.icmp_ignore_bogus_error_responses == 0)
        && addr_type(net, ns, inner.dst) == RouteKind::Broadcast
    {
        return bogus(net, skb, &h, inner.dst);
    }
    // RFC 1122 §3.2.2: at least 8 bytes behind the quoted header, to know whose it was.
    let need = inner.ihl_bytes + 8;
    if !skb.may_pull(need) {
        net.inc(ns, Mib::IcmpInErrors);
        return net.kfree_skb(skb, DropReason::PktTooSmall, "icmp_socket_deliver");
    }
    if k.net.ns.get(ns).is_some_and(|n| !n.raw.raw.is_empty()) {
        rcv::raw_icmp_error(k, ns, &skb, &inner, h.kind, h.code, info);
    }
    switch::inet_protocol_err(k, ns, inner.proto, &skb, h.kind, h.code, info);
    k.net.consume_skb(skb);
}

/// An error about what was sent to everybody (RFC 1122 §3.2.2 forbids it): with `icmp_ignore_bogus_error_responses` 0 said.
fn bogus(net: &mut Net, skb: Skb, h: &IcmpHeader, to: Ipv4Addr) {
    let name = skb.dev.and_then(|d| net.devs.get(d)).map_or_else(Default::default, |d| d.name.to_string());
    let (kind, code) = (h.kind, h.code);
    let from = skb.ip_hdr().map_or(Ipv4Addr::UNSPECIFIED, |ip| ip.src);
    let line =
        format!("icmp: {from} sent an invalid ICMP type {kind}, code {code} error to a broadcast: {to} on {name}");
    net.kmsg_ratelimited(&line);
    net.consume_skb(skb);
}

/// What an error means to a socket: its errno, and whether it is fatal to a connection.
#[doc(alias = "icmp_err_convert")]
pub fn convert(code: u8) -> Option<(Errno, bool)> {
    Some(match code {
        ICMP_NET_UNREACH => (Errno::ENETUNREACH, false),
        ICMP_HOST_UNREACH => (Errno::EHOSTUNREACH, false),
        ICMP_PROT_UNREACH => (Errno::ENOPROTOOPT, true),
        ICMP_PORT_UNREACH => (Errno::ECONNREFUSED, true),
        ICMP_FRAG_NEEDED => (Errno::EMSGSIZE, false),
        ICMP_SR_FAILED => (Errno::EOPNOTSUPP, false),
        ICMP_NET_UNKNOWN => (Errno::ENETUNREACH, true),
        ICMP_HOST_UNKNOWN => (Errno::EHOSTDOWN, true),
        ICMP_HOST_ISOLATED => (Errno::ENONET, true),
        ICMP_NET_ANO => (Errno::ENETUNREACH, true),
        ICMP_HOST_ANO => (Errno::EHOSTUNREACH, true),
        ICMP_NET_UNR_TOS => (Errno::ENETUNREACH, false),
        ICMP_HOST_UNR_TOS => (Errno::EHOSTUNREACH, false),
        ICMP_PKT_FILTERED | ICMP_PREC_VIOLATION | ICMP_PREC_CUTOFF => (Errno::EHOSTUNREACH, true),
        _ => return None,
    })
}
