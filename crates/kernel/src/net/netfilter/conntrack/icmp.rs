//! ICMP in connection tracking: errors belong to the connection of the packet that they quote.
use super::{CtInfo, NfCt, Tuple, Why, checksum_good};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::{Hook, Pf};
use belljar_wire::icmp::*;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv4::IPV4_HLEN;
use belljar_wire::ipv6::{self, IPV6_HLEN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No error message: a request or an answer.
    No,
    Related,
    Invalid(Why),
}

/// The quoted packet: where its header begins, its tuple, where its transport header begins.
#[derive(Clone, Copy, Debug)]
pub struct Quoted {
    pub at: usize,
    pub tuple: Tuple,
    pub l4: usize,
}

/// Reads what an error quotes; the bytes are in the linear part afterwards.
pub fn quoted(p: &Pkt, skb: &mut SkBuff) -> Option<Quoted> {
    let at = p.at + ICMP_HLEN;
    let ip_len = if p.pf == Pf::V4 { IPV4_HLEN } else { IPV6_HLEN };
    if !skb.may_pull(at + ip_len) {
        return None;
    }
    let b = skb.head.bytes().get(at..)?;
    let (ends, proto, l4) = match p.pf {
        Pf::V4 => {
            let ihl = usize::from(b.first()? & 15) * 4;
            let (src, dst) = (b.get(12..16)?, b.get(16..20)?);
            // Fragments but the first say nothing.
            if b[0] >> 4 != 4 || ihl < IPV4_HLEN || u16::from_be_bytes([b[6], b[7]]) & 0x1fff != 0 {
                return None;
            }
            let read = |s: &[u8]| s.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
            ((read(src), read(dst)), *b.get(9)?, ihl)
        }
        Pf::V6 => {
            let ip = ipv6::Ipv6Header::parse(b).ok()?;
            let t = ipv6::transport(b).filter(|t| t.frag.is_none_or(|f| f.offset == 0))?;
            ((ip.src.to_bits(), ip.dst.to_bits()), t.proto, t.at)
        }
    };
    if !skb.may_pull(at + l4 + 8) {
        return None;
    }
    // The checksum of TCP lies further on; a quote may end before it.
    let _ = skb.len() >= at + l4 + 20 && skb.may_pull(at + l4 + 20);
    let tuple = Tuple::read(p.pf, ends, proto, skb.head.bytes().get(at + l4..)?)?;
    Some(Quoted { at, tuple, l4: at + l4 })
}

/// Whether the type is that of an error.
pub fn is_error(pf: Pf, kind: u8) -> bool {
    match pf {
        Pf::V4 => matches!(
            kind,
            ICMP_DEST_UNREACH | ICMP_SOURCE_QUENCH | ICMP_TIME_EXCEEDED | ICMP_PARAMETERPROB | ICMP_REDIRECT
        ),
        Pf::V6 => kind & ICMPV6_INFOMSG_MASK == 0,
    }
}

/// Messages of the link itself are nobody's connection (`icmpv6_new` of noct types).
fn untracked(pf: Pf, kind: u8) -> bool {
    pf == Pf::V6
        && matches!(
            kind,
            ICMPV6_MGM_QUERY..=ICMPV6_MGM_REDUCTION | NDISC_ROUTER_SOLICITATION..=NDISC_REDIRECT | ICMPV6_MLD2_REPORT
        )
}

#[doc(alias = "nf_conntrack_icmpv4_error")]
pub fn error(net: &mut Net, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff) -> Error {
    let Some(&kind) = p.transport(skb).first().filter(|_| p.transport(skb).len() >= ICMP_HLEN) else {
        return Error::Invalid(Why::Said("short packet"));
    };
    if !checksum_good(net, ns, hook, p, skb) {
        return Error::Invalid(Why::Said(if p.pf == Pf::V4 {
            "bad hw icmp checksum"
        } else {
            "ICMPv6 checksum failed"
        }));
    }
    if untracked(p.pf, kind) {
        skb.nf = NfCt { info: CtInfo::Untracked, ..NfCt::default() };
        return Error::Related;
    }
    if p.pf == Pf::V4 && kind > NR_ICMP_TYPES {
        return Error::Invalid(Why::Said("invalid icmp type"));
    }
    if !is_error(p.pf, kind) {
        return Error::No;
    }
    let Some(q) = quoted(p, skb) else { return Error::Invalid(Why::Unsaid) };
    let Some(inverse) = q.tuple.invert() else { return Error::Invalid(Why::Unsaid) };
    let Some((id, dir)) = net.ct_find_in(ns, &inverse, skb.nf.zone) else { return Error::Invalid(Why::Unsaid) };
    // An error goes to the sender of what it quotes (RFC 792).
    if p.dst != q.tuple.src {
        return Error::Invalid(Why::Unsaid);
    }
    let info = if dir == 1 { CtInfo::RelatedReply } else { CtInfo::Related };
    skb.nf = NfCt { ct: Some(id), info, zone: skb.nf.zone };
    Error::Related
}
