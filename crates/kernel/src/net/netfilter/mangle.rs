//! Writing into packets: the options of TCP, and the checksums that cover what changes.
use super::Pf;
use super::packet::{Pkt, addr};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::skb::SkBuff;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPV4_HLEN};
use belljar_wire::ipv6::{IPV6_HLEN, NEXTHDR_ICMP};
use belljar_wire::tcp::TCP_HLEN;
use belljar_wire::{Csum, checksum};

/// TCP options: the end, nothing, the largest segment.
const TCPOPT_EOL: u8 = 0;
pub const TCPOPT_NOP: u8 = 1;
pub const TCPOPT_MSS: u8 = 2;
const TCPOLEN_MSS: usize = 4;

/// The largest segment that the ways of both directions take; `None`: headers alone are longer.
#[doc(alias = "tcpmss_reverse_mtu")]
#[doc(alias = "get_tcpmss")]
pub fn path_mss(net: &mut Net, ns: NsId, p: &Pkt, skb: &SkBuff) -> Option<u16> {
    let headers = TCP_HLEN + if p.pf == Pf::V4 { IPV4_HLEN } else { IPV6_HLEN };
    let there = skb.dst.map_or(u32::MAX, |d| d.mtu);
    let back = af::route_output(net, ns, &Flow::to(addr(p.pf, p.src))).map_or(u32::MAX, |d| d.mtu);
    let mtu = there.min(back).min(u16::MAX.into());
    mtu.checked_sub(headers as u32).filter(|m| *m > 0).map(|m| m as u16)
}

/// A smaller segment size for the peer than a SYN asks for; a larger one could stop the connection.
#[doc(alias = "tcpmss_mangle_packet")]
pub fn lower_mss(skb: &mut SkBuff, p: &Pkt, mss: u16) {
    let Some((at, TCPOLEN_MSS)) = tcp_option(TCPOPT_MSS, p, skb) else { return };
    let now = skb.head.bytes().get(at + 2..at + 4).map(|b| u16::from_be_bytes([b[0], b[1]]));
    if now.is_some_and(|now| now > mss) {
        replace(skb, p, at + 2, &mss.to_be_bytes());
    }
}

pub fn is_tcp(p: &Pkt) -> bool {
    p.proto == IPPROTO_TCP && !p.later
}

/// Where in the linear part an option of TCP begins, and how long it is.
pub fn tcp_option(kind: u8, p: &Pkt, skb: &mut SkBuff) -> Option<(usize, usize)> {
    if !is_tcp(p) {
        return None;
    }
    let header = usize::from(*p.transport(skb).get(12)? >> 4) * 4;
    if header < TCP_HLEN || !skb.may_pull(p.at + header) {
        return None;
    }
    let b = skb.head.bytes().get(p.at..p.at + header)?;
    let mut at = TCP_HLEN;
    while at + 1 < header {
        let len = if b[at] <= TCPOPT_NOP { 1 } else { usize::from(b[at + 1]).max(1) };
        if b[at] == kind {
            return (at + len <= header).then_some((p.at + at, len));
        }
        if b[at] == TCPOPT_EOL {
            return None;
        }
        at += len;
    }
    None
}

/// Where the checksum lies that covers addresses of the network header; none for UDP without one.
#[doc(alias = "nft_payload_l4csum_offset")]
pub fn transport_sum(p: &Pkt, skb: &mut SkBuff) -> Option<usize> {
    if p.later {
        return None;
    }
    let offset = match p.proto {
        IPPROTO_TCP => 16,
        IPPROTO_UDP | IPPROTO_UDPLITE => 6,
        NEXTHDR_ICMP if p.pf == Pf::V6 => 2,
        _ => return None,
    };
    if !skb.may_pull(p.at + offset + 2) {
        return None;
    }
    let none = p.proto == IPPROTO_UDP && skb.head.bytes().get(p.at + 6..p.at + 8) == Some(&[0, 0]);
    (!none).then_some(p.at + offset)
}

pub fn change_sum(skb: &mut SkBuff, at: usize, from: u32, to: u32) -> Option<()> {
    skb.may_pull(at + 2).then_some(())?;
    let b = skb.head.bytes_mut().get_mut(at..at + 2)?;
    let old = u16::from_be_bytes([b[0], b[1]]);
    // RFC 1624, equation 3.
    let sum = checksum::fold(checksum::add(checksum::add((!old).into(), !from), to));
    b.copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    Some(())
}

/// Of a header that holds the sum of its pseudo header only.
pub fn change_pseudo(skb: &mut SkBuff, at: usize, from: u32, to: u32) -> Option<()> {
    let b = skb.head.bytes_mut().get_mut(at..at + 2)?;
    let old = u16::from_be_bytes([b[0], b[1]]);
    let sum = checksum::partial(checksum::add(checksum::add(old.into(), !from), to));
    b.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Other bytes in a transport header whose checksum covers them.
pub fn replace(skb: &mut SkBuff, p: &Pkt, at: usize, new: &[u8]) {
    let end = at + new.len();
    // Whole words, so that a sum over them is one over the header's.
    let (even, past) = (at - (at - p.at) % 2, end + (end - p.at) % 2);
    let mut b = [0; 64];
    let Some(old) = skb.head.bytes().get(even..past).filter(|o| o.len() <= b.len()) else { return };
    let b = &mut b[..old.len()];
    b.copy_from_slice(old);
    let from = checksum::sum(b, 0);
    b[at - even..end - even].copy_from_slice(new);
    let to = checksum::sum(b, 0);
    if skb.csum != Csum::Partial
        && let Some(c) = transport_sum(p, skb)
    {
        change_sum(skb, c, from, to);
    }
    if let Some(t) = skb.head.bytes_mut().get_mut(at..end) {
        t.copy_from_slice(new);
    }
}
