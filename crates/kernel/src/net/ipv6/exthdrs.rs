//! Extension headers of a packet for this host (RFC 8200 §4): options that mean something, those that end the packet, and
//! where the transport header lies.
use super::icmp::icmpv6_send;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use belljar_abi::IPV6_SRCRT_TYPE_4;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;

/// What the headers say.
#[derive(Clone, Copy, Debug)]
pub enum Walk {
    Protocol(Found),
    /// The fragment header at `at`, named by the byte at `nexthdr_at`.
    Fragment {
        at: usize,
        nexthdr_at: usize,
        frag: FragHeader,
    },
    Drop(DropReason, &'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub proto: u8,
    /// From the IPv6 header.
    pub at: usize,
    /// The byte that named the protocol.
    pub nexthdr_at: usize,
}

pub(super) const OPT_PAD1: u8 = 0;
const OPT_PADN: u8 = 1;
pub(super) const OPT_ROUTER_ALERT: u8 = 5;
const OPT_JUMBO: u8 = 0xc2;
const OPT_HOME_ADDRESS: u8 = 0xc9;

/// Hop-by-hop options, which every node on the way looks at (RFC 8200 §4.3): before anybody asks where the packet goes.
#[doc(alias = "ipv6_parse_hopopts")]
pub fn hop_by_hop(net: &mut Net, ns: NsId, skb: &mut Skb, ip: &Ipv6Header) -> Result<(), (DropReason, &'static str)> {
    let len = |skb: &Skb| (usize::from(skb.head.bytes().get(IPV6_HLEN + 1).copied().unwrap_or(0)) + 1) * 8;
    if !skb.may_pull(IPV6_HLEN + 8) || !skb.may_pull(IPV6_HLEN + len(skb)) {
        net.inc(ns, Mib::Ip6InHdrErrors);
        return Err((DropReason::PktTooSmall, "ipv6_parse_hopopts"));
    }
    match options(net, ns, skb, ip, IPV6_HLEN, len(skb), true) {
        Err(Walk::Drop(reason, at)) => Err((reason, at)),
        _ => Ok(()),
    }
}

/// Steps over what it knows, telling senders of what it does not. `skb` is at its IPv6 header; hop-by-hop options have been
/// looked at.
#[doc(alias = "ipv6_destopt_rcv")]
#[doc(alias = "ipv6_rthdr_rcv")]
pub fn walk(net: &mut Net, ns: NsId, skb: &mut Skb, ip: &Ipv6Header) -> Walk {
    const SHORT: Walk = Walk::Drop(DropReason::PktTooSmall, "ipv6_parse_exthdrs");
    let (mut next, mut at, mut nexthdr_at) = (ip.next, IPV6_HLEN, 6);
    loop {
        let first = at == IPV6_HLEN;
        if !matches!(next, NEXTHDR_HOP | NEXTHDR_DEST | NEXTHDR_ROUTING | NEXTHDR_FRAGMENT) {
            // The beginning of the transport header has to be linear.
            let _ = skb.may_pull(at + if next == NEXTHDR_TCP { 20 } else { 8 });
            return Walk::Protocol(Found { proto: next, at, nexthdr_at });
        }
        if !skb.may_pull(at + 8) {
            net.inc(ns, Mib::Ip6InHdrErrors);
            return SHORT;
        }
        let b = skb.head.bytes();
        let (following, len) = (b[at], (usize::from(b[at + 1]) + 1) * 8);
        match next {
            NEXTHDR_FRAGMENT => {
                return match FragHeader::parse(&b[at..]) {
                    Ok(frag) => Walk::Fragment { at, nexthdr_at, frag },
                    Err(_) => SHORT,
                };
            }
            // RFC 8200 §4.3: only first.
            NEXTHDR_HOP if !first => {
                net.inc(ns, Mib::Ip6InUnknownProtos);
                icmpv6_send(net, skb, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, nexthdr_at as u32);
                return Walk::Drop(DropReason::IpNoProto, "ip6_protocol_deliver");
            }
            _ => {}
        }
        if !skb.may_pull(at + len) {
            net.inc(ns, Mib::Ip6InHdrErrors);
            return SHORT;
        }
        let done = match next {
            NEXTHDR_ROUTING => routing(net, ns, skb, at),
            NEXTHDR_HOP => Ok(()),
            _ => options(net, ns, skb, ip, at, len, false),
        };
        if let Err(drop) = done {
            return drop;
        }
        (next, nexthdr_at, at) = (following, at, at + len);
    }
}

/// A route that has been followed to its end is passed over, any other is refused: source routes are not accepted.
fn routing(net: &mut Net, ns: NsId, skb: &Skb, at: usize) -> Result<(), Walk> {
    let b = skb.head.bytes();
    let (kind, left) = (b[at + 2], b[at + 3]);
    if kind == IPV6_SRCRT_TYPE_4 {
        // seg6_enabled is off.
        return Err(Walk::Drop(DropReason::NotSpecified, "ipv6_srh_rcv"));
    }
    if left == 0 {
        return Ok(());
    }
    net.inc(ns, Mib::Ip6InHdrErrors);
    // RFC 5095: type 0 is as unknown as any other.
    if kind != 2 {
        icmpv6_send(net, skb, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, at as u32 + 2);
    }
    Err(Walk::Drop(DropReason::IpInHdr, "ipv6_rthdr_rcv"))
}

/// Padding, known options, and what the two high bits of an unknown one ask for (RFC 8200 §4.2).
#[doc(alias = "ip6_parse_tlv")]
fn options(net: &mut Net, ns: NsId, skb: &Skb, ip: &Ipv6Header, at: usize, len: usize, hop: bool) -> Result<(), Walk> {
    const BAD: Walk = Walk::Drop(DropReason::IpInHdr, "ip6_parse_tlv");
    let b = skb.head.bytes();
    let limits = |s: &Sysctl| match hop {
        true => (s.max_hbh_opts_number, s.max_hbh_length),
        false => (s.max_dst_opts_number, s.max_dst_opts_length),
    };
    let (most, longest) = net.ns.get(ns).map_or((8, i32::MAX), |n| limits(&n.sysctl));
    if i64::from(longest) < len as i64 {
        net.inc(ns, Mib::Ip6InHdrErrors);
        return Err(BAD);
    }
    let (mut o, end, mut count, mut padding) = (at + 2, at + len, 0i64, 0usize);
    let fail = |net: &mut Net| {
        net.inc(ns, Mib::Ip6InHdrErrors);
        Err(BAD)
    };
    while o < end {
        let kind = b[o];
        if kind == OPT_PAD1 {
            // More than seven bytes of padding is none (RFC 4942 §2.1.9.5).
            padding += 1;
            if padding > 7 {
                return fail(net);
            }
            o += 1;
            continue;
        }
        let size = match b.get(o + 1) {
            Some(l) if o + 2 + usize::from(*l) <= end => usize::from(*l) + 2,
            _ => return fail(net),
        };
        if kind == OPT_PADN {
            padding += size;
            if padding > 7 || b[o + 2..o + size].iter().any(|b| *b != 0) {
                return fail(net);
            }
            o += size;
            continue;
        }
        padding = 0;
        count += 1;
        if most >= 0 && count > most.into() {
            return fail(net);
        }
        match kind {
            OPT_ROUTER_ALERT if hop && size == 4 => {}
            OPT_HOME_ADDRESS if !hop && size == 18 => {}
            // Nobody sends jumbograms: links here are too short for them.
            OPT_JUMBO if hop => return fail(net),
            _ => match kind >> 6 {
                0 => {}
                1 => return fail(net),
                2 => {
                    icmpv6_send(net, skb, ICMPV6_PARAMPROB, ICMPV6_UNK_OPTION, o as u32);
                    return fail(net);
                }
                _ => {
                    if !ip.dst.is_multicast() {
                        icmpv6_send(net, skb, ICMPV6_PARAMPROB, ICMPV6_UNK_OPTION, o as u32);
                    }
                    return fail(net);
                }
            },
        }
        o += size;
    }
    Ok(())
}
