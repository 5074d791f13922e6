//! `struct virtio_net_hdr` before a packet: how a program and a device tell each other of checksums that are still to be
//! made and of super-segments that are still to be cut (PACKET_VNET_HDR, IFF_VNET_HDR).
use crate::net::core::skb::{SkBuff, Skb};
use belljar_abi::Errno;
use belljar_wire::ethernet::{ETH_P_IP, ETH_P_IPV6};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::tcp::TCP_HLEN;
use belljar_wire::{Csum, FlowKey, Gso, GsoType, checksum};

pub const VIRTIO_NET_HDR_LEN: usize = 10;
/// With the number of buffers behind it.
pub const VIRTIO_NET_HDR_MRG_LEN: usize = 12;
const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// A TCP segment with congestion marks: it is cut like any other here.
const GSO_ECN: u8 = 0x80;

/// What a program says of the packet behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VnetHdr {
    /// Where the sum begins and where in that it goes.
    pub csum: Option<(u16, u16)>,
    pub gso: Option<(GsoType, u16)>,
}

/// EINVAL for what no packet of `len` bytes can be.
#[doc(alias = "virtio_net_hdr_to_skb")]
pub fn parse(b: &[u8], len: usize) -> Result<VnetHdr, Errno> {
    let Some(&[flags, kind, h0, h1, g0, g1, s0, s1, o0, o1]) = b.first_chunk::<VIRTIO_NET_HDR_LEN>() else {
        return Err(Errno::EINVAL);
    };
    let (start, offset) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([o0, o1]));
    let csum = (flags & F_NEEDS_CSUM != 0).then_some((start, offset));
    // Headers that are longer than the packet.
    let most = csum.map_or(0, |(start, offset)| usize::from(start) + usize::from(offset) + 2);
    if most.max(u16::from_ne_bytes([h0, h1]).into()) > len {
        return Err(Errno::EINVAL);
    }
    let size = u16::from_ne_bytes([g0, g1]);
    let gso = match kind & !GSO_ECN {
        GSO_NONE if kind == GSO_NONE => None,
        GSO_TCPV4 => Some((GsoType::TcpV4, size)),
        GSO_TCPV6 => Some((GsoType::TcpV6, size)),
        GSO_UDP_L4 if kind & GSO_ECN == 0 => Some((GsoType::UdpL4, size)),
        _ => return Err(Errno::EINVAL),
    };
    if gso.is_some_and(|g| g.1 == 0) {
        return Err(Errno::EINVAL);
    }
    Ok(VnetHdr { csum, gso })
}

/// Offset of the transport header in the head, behind the network header; the network header itself when that is no IP.
pub fn transport_offset(skb: &SkBuff) -> u8 {
    let b = skb.head.at(skb.network_header);
    let at = match b.first().map(|v| v >> 4) {
        Some(4) => b.first().map_or(0, |v| usize::from(v & 15) * 4),
        Some(6) => belljar_wire::ipv6::transport(b).map_or(0, |t| t.at),
        _ => 0,
    };
    if at > b.len() { skb.network_header } else { skb.network_header + at as u8 }
}

/// Carries out what the header says. Its offsets count from where the program's bytes begin, which is `before` bytes after
/// the link header that the packet has here.
#[doc(alias = "virtio_net_hdr_to_skb")]
pub fn to_skb(skb: &mut Skb, v: &VnetHdr, before: usize) -> Result<(), Errno> {
    if let Some((kind, size)) = v.gso {
        return super_segment(skb, kind, size);
    }
    let Some((start, offset)) = v.csum else { return Ok(()) };
    let (from, at) = (before + usize::from(start), before + usize::from(start) + usize::from(offset));
    let base = skb.mac_header;
    let linear = skb.head.at(base);
    // The field lies among the headers, or there is no header that it could belong to.
    if at + 2 > linear.len() || from > linear.len() {
        return Err(Errno::EINVAL);
    }
    let near = linear.get(from..).unwrap_or(&[]);
    let far = checksum::segs(&skb.frags);
    let sum = checksum::fold(checksum::combine(checksum::sum(near, 0), far, near.len()));
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(field) = skb.head.at_mut(base).get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

/// The headers must be those of the kind that is named.
fn super_segment(skb: &mut Skb, kind: GsoType, size: u16) -> Result<(), Errno> {
    let b = skb.head.at(skb.network_header);
    let key = FlowKey::from_ip(b).ok_or(Errno::EINVAL)?;
    let (proto, fits) = match kind {
        GsoType::TcpV4 => (IPPROTO_TCP, key.src.is_ipv4() && skb.protocol_or_ip() == ETH_P_IP),
        GsoType::TcpV6 => (IPPROTO_TCP, key.src.is_ipv6() && skb.protocol == ETH_P_IPV6),
        GsoType::UdpL4 => (IPPROTO_UDP, true),
    };
    let transport = transport_offset(skb);
    let header = match kind {
        GsoType::UdpL4 => 8,
        _ => skb.head.at(transport).get(12).map_or(0, |b| usize::from(b >> 4) * 4),
    };
    let headers = usize::from(transport - skb.mac_header) + header;
    let linear = skb.head.at(skb.mac_header).len();
    let least = if kind == GsoType::UdpL4 { 8 } else { TCP_HLEN };
    if !fits || key.proto != proto || header < least || headers > linear {
        return Err(Errno::EINVAL);
    }
    let payload = linear + skb.frags.len() - headers;
    if payload <= usize::from(size) {
        // One piece of it: nothing to cut, the sum is still to be made.
        skb.csum = Csum::Partial;
        return Ok(());
    }
    let segs = u16::try_from(payload.div_ceil(usize::from(size))).map_err(|_| Errno::EINVAL)?;
    (skb.gso, skb.csum) = (Some(Gso::new(kind, size, segs)), Csum::Partial);
    // What is cut later has nothing but headers in its linear part.
    let extra = linear - headers;
    if extra > 0 {
        let at = skb.head.at(skb.mac_header);
        let mut all = belljar_wire::Segs::from(at.get(headers..).unwrap_or(&[]).to_vec());
        all.append(std::mem::take(&mut skb.frags));
        skb.frags = all;
        let shown = skb.head.len() - extra;
        skb.head.trim(shown);
    }
    Ok(())
}

/// The header of a packet for a program, `len` bytes of it.
#[doc(alias = "virtio_net_hdr_from_skb")]
pub fn from_skb(skb: &SkBuff, len: usize) -> Vec<u8> {
    let begin = skb.head.start();
    let transport = transport_offset(skb);
    let (mut flags, mut kind, mut header, mut size) = (0u8, GSO_NONE, 0u16, 0u16);
    let (mut start, mut offset) = (0u16, 0u16);
    if let Some(g) = skb.gso {
        kind = match g.kind {
            GsoType::TcpV4 => GSO_TCPV4,
            GsoType::TcpV6 => GSO_TCPV6,
            GsoType::UdpL4 => GSO_UDP_L4,
        };
        let own = if g.kind == GsoType::UdpL4 {
            8
        } else {
            skb.head.at(transport).get(12).map_or(0, |b| u16::from(b >> 4) * 4)
        };
        (header, size) = (u16::from(transport.saturating_sub(begin)) + own, g.size);
    }
    if skb.csum == Csum::Partial {
        flags = F_NEEDS_CSUM;
        start = transport.saturating_sub(begin).into();
        let udp = FlowKey::from_ip(skb.head.at(skb.network_header)).is_some_and(|k| k.proto == IPPROTO_UDP);
        offset = if udp { 6 } else { 16 };
    } else if skb.csum == Csum::Unnecessary {
        flags = F_DATA_VALID;
    }
    let mut out = vec![flags, kind];
    out.extend([header, size, start, offset].iter().flat_map(|v| v.to_ne_bytes()));
    if len >= VIRTIO_NET_HDR_MRG_LEN {
        out.extend(0u16.to_ne_bytes());
    }
    out
}
