//! Receiving ICMPv6: echo is answered, errors go to whom they concern, discovery and group membership to theirs.
use super::anycast::is_anycast;
use super::exthdrs::{OPT_PAD1, OPT_ROUTER_ALERT};
use super::icmp::echo_reply;
use super::{mld, ndisc};
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::raw::rcv6;
use crate::net::switch;
use crate::net::sysctl::Sysctl;
use belljar_abi::Errno;
use belljar_wire::icmp::{ICMP_HLEN, IcmpHeader};
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::{Csum, checksum};

/// A message, pulled to its ICMPv6 header. `raw`: a raw socket has a copy.
pub fn icmpv6_rcv(k: &mut Kernel, ns: NsId, dev: DevId, mut skb: Skb, ip: &Ipv6Header, raw: bool) {
    let net = &mut k.net;
    net.inc(ns, Mib::Icmp6InMsgs);
    net.stage(&skb, "icmpv6_rcv");
    if skb.csum == Csum::None {
        let linear = skb.head.bytes();
        let pseudo = checksum::pseudo_v6(ip.src, ip.dst, NEXTHDR_ICMP, skb.len());
        let rest = checksum::segs(&skb.frags);
        if checksum::fold(checksum::combine(checksum::sum(linear, pseudo), rest, linear.len())) != 0 {
            net.inc(ns, Mib::Icmp6InCsumErrors);
            net.inc(ns, Mib::Icmp6InErrors);
            return net.kfree_skb(skb, DropReason::IcmpCsum, "icmpv6_rcv");
        }
    }
    // MLD messages of the first version and discovery are read whole; the rest begins with eight bytes.
    let header = if skb.may_pull(ICMP_HLEN) { IcmpHeader::parse(skb.head.bytes()).ok() } else { None };
    let Some(h) = header else {
        net.inc(ns, Mib::Icmp6InErrors);
        return net.kfree_skb(skb, DropReason::InvalidIcmp, "icmpv6_rcv");
    };
    if let Some(c) = in_counter(h.kind) {
        net.inc(ns, c);
    }
    match h.kind {
        ICMPV6_ECHO_REQUEST => {
            let anycast = is_anycast(net, ns, Some(dev), ip.dst);
            let ignored = |s: &Sysctl| {
                s.icmp6_echo_ignore_all != 0
                    || s.icmp6_echo_ignore_multicast != 0 && ip.dst.is_multicast()
                    || s.icmp6_echo_ignore_anycast != 0 && anycast
            };
            if net.ns.get(ns).is_some_and(|n| ignored(&n.sysctl)) {
                return net.consume_skb(skb);
            }
            let _ = skb.head.pull(ICMP_HLEN);
            let data = skb.take_payload();
            echo_reply(net, ns, &skb, ip, h, data);
            net.consume_skb(skb);
        }
        ICMPV6_ECHO_REPLY => rcv6::ping6_rcv(k, ns, skb, &h, raw),
        ICMPV6_DEST_UNREACH | ICMPV6_PKT_TOOBIG | ICMPV6_TIME_EXCEED | ICMPV6_PARAMPROB => unreach(k, ns, skb, h),
        ICMPV6_MGM_QUERY => {
            let mut m = skb.head.bytes().to_vec();
            skb.frags.iter().for_each(|s| m.extend_from_slice(s.as_slice()));
            let alert = has_router_alert(skb.head.at(skb.network_header));
            mld::query(net, dev, ip, alert, &m);
            net.consume_skb(skb);
        }
        ICMPV6_MGM_REPORT => {
            if skb.pkt_type != PktType::Outgoing && !skb.looped {
                mld::heard(net, dev, ip, skb.head.bytes());
            }
            net.consume_skb(skb);
        }
        NDISC_ROUTER_SOLICITATION..=NDISC_REDIRECT => ndisc::ndisc_rcv(k, ns, dev, skb, ip),
        // Unknown errors are for whoever can read them; unknown messages are ignored (RFC 4443 §2.4).
        _ => net.consume_skb(skb),
    }
}

/// The option that asks routers to look at a message of MLD (RFC 2711), in a hop-by-hop header.
fn has_router_alert(packet: &[u8]) -> bool {
    let Some(hop) = packet.get(IPV6_HLEN..).filter(|_| packet.get(6) == Some(&NEXTHDR_HOP)) else { return false };
    let Some(options) = hop.get(1).and_then(|words| hop.get(2..8 + 8 * usize::from(*words))) else { return false };
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match (kind, options.get(at + 1)) {
            (&OPT_PAD1, _) => at += 1,
            (&OPT_ROUTER_ALERT, Some(2)) => return options.get(at + 2..at + 4) == Some(&[0, 0]),
            (_, Some(len)) => at += 2 + usize::from(*len),
            _ => return false,
        }
    }
    false
}

fn in_counter(kind: u8) -> Option<Mib> {
    Some(match kind {
        ICMPV6_DEST_UNREACH => Mib::Icmp6InDestUnreachs,
        ICMPV6_PKT_TOOBIG => Mib::Icmp6InPktTooBigs,
        ICMPV6_TIME_EXCEED => Mib::Icmp6InTimeExcds,
        ICMPV6_PARAMPROB => Mib::Icmp6InParmProblems,
        ICMPV6_ECHO_REQUEST => Mib::Icmp6InEchos,
        ICMPV6_ECHO_REPLY => Mib::Icmp6InEchoReplies,
        ICMPV6_MGM_QUERY => Mib::Icmp6InGroupMembQueries,
        ICMPV6_MGM_REPORT => Mib::Icmp6InGroupMembResponses,
        ICMPV6_MGM_REDUCTION => Mib::Icmp6InGroupMembReductions,
        NDISC_ROUTER_SOLICITATION => Mib::Icmp6InRouterSolicits,
        NDISC_ROUTER_ADVERTISEMENT => Mib::Icmp6InRouterAdvertisements,
        NDISC_NEIGHBOUR_SOLICITATION => Mib::Icmp6InNeighborSolicits,
        NDISC_NEIGHBOUR_ADVERTISEMENT => Mib::Icmp6InNeighborAdvertisements,
        NDISC_REDIRECT => Mib::Icmp6InRedirects,
        ICMPV6_MLD2_REPORT => Mib::Icmp6InMLDv2Reports,
        _ => return None,
    })
}

/// What an error means: errno, and whether it ends a connection attempt.
#[doc(alias = "icmpv6_err_convert")]
pub fn convert(kind: u8, code: u8) -> (Errno, bool) {
    match (kind, code) {
        (ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE) => (Errno::ENETUNREACH, false),
        (ICMPV6_DEST_UNREACH, ICMPV6_ADM_PROHIBITED | ICMPV6_POLICY_FAIL | ICMPV6_REJECT_ROUTE) => {
            (Errno::EACCES, true)
        }
        (ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH) => (Errno::ECONNREFUSED, true),
        (ICMPV6_DEST_UNREACH, _) => (Errno::EHOSTUNREACH, false),
        (ICMPV6_PKT_TOOBIG, _) => (Errno::EMSGSIZE, false),
        (ICMPV6_PARAMPROB, _) => (Errno::EPROTO, true),
        (ICMPV6_TIME_EXCEED, _) => (Errno::EHOSTUNREACH, false),
        _ => (Errno::EPROTO, false),
    }
}

/// An error quotes our packet: its protocol finds the socket.
#[doc(alias = "icmpv6_notify")]
fn unreach(k: &mut Kernel, ns: NsId, mut skb: Skb, h: IcmpHeader) {
    let _ = skb.head.pull(ICMP_HLEN);
    // As much of the quoted packet as the head can hold, so that its transport header is read.
    let room = skb.len().min(72);
    let _ = skb.may_pull(room);
    let info = u32::from_be_bytes(h.rest);
    let quoted = Ipv6Header::parse(skb.head.bytes()).ok().zip(transport(skb.head.bytes()));
    let Some((ip, t)) = quoted else {
        k.net.inc(ns, Mib::Icmp6InErrors);
        return k.net.kfree_skb(skb, DropReason::InvalidIcmp, "icmpv6_notify");
    };
    switch::inet6_protocol_err(k, ns, t.proto, &skb, (ip.src, ip.dst, t.at), h.kind, h.code, info);
    k.net.consume_skb(skb);
}
