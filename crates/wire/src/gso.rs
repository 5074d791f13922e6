//! Segmentation offload in software: cut a super-segment into wire-sized frames, finish and verify checksums.
//!
//! IPv4 and IPv6 with TCP and UDP, behind Ethernet or bare, also in one tunnel ([`Encap`]), of which only the sum outside is
//! looked at. Frames that are no super-segments come through with their checksum finished.
use crate::checksum;
use crate::ethernet::{ETH_HLEN, VLAN_HLEN, is_vlan};
use crate::flow::net_offset;
use crate::ipv4::{self, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, IPV4_HLEN, Ipv4Header};
use crate::ipv6::{self, IPV6_HLEN, Ipv6Header};
use crate::tcp::{Flags, TCP_HLEN, TcpHeader};
use crate::udp::{UDP_HLEN, UdpHeader};
use crate::{Csum, Encap, Frame, Gso, GsoType, Head, Malformed, Seg, Segs};

const VXLAN_HLEN: usize = 8;
const GRE_HLEN: usize = 4;
/// Frames in GRE.
const ETH_P_TEB: u16 = 0x6558;

/// Where things lie in the head of a TCP or UDP packet.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The header of a tunnel's IPv4.
    outer: Option<(usize, Encap)>,
    net: usize,
    l4: usize,
    /// End of the transport header.
    data: usize,
    kind: GsoType,
}

/// A super-segment is never a fragment and has no extension headers of its own making, but what a tap shows may.
fn layout(frame: &Frame) -> Option<Layout> {
    layout_at(frame.head.bytes(), net_offset(frame)?, frame.gso.map_or(Encap::None, |g| g.encap))
}

/// Where the transport header of a super-segment begins and ends, from the beginning of its (outer) IP header; `None` when they
/// do not all lie here.
pub fn transport(ip: &[u8], encap: Encap) -> Option<(usize, usize)> {
    layout_at(ip, 0, encap).map(|l| (l.l4, l.data))
}

/// The IP header inside a tunnel.
fn inside(b: &[u8], outer: usize, encap: Encap) -> Option<usize> {
    let l4 = outer + usize::from(b.get(outer)? & 15) * 4;
    let word = |at: usize| Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]));
    let (mut at, frames) = match encap {
        Encap::None | Encap::IpIp => return Some(l4),
        Encap::UdpTnl | Encap::UdpTnlCsum => (l4 + UDP_HLEN + VXLAN_HLEN, true),
        // Sum, key and sequence number have four octets each.
        Encap::Gre | Encap::GreCsum => {
            (l4 + GRE_HLEN + 4 * (word(l4)? & 0xb000).count_ones() as usize, word(l4 + 2)? == ETH_P_TEB)
        }
    };
    if frames {
        at += ETH_HLEN;
        while is_vlan(word(at - 2)?) {
            at += VLAN_HLEN;
        }
    }
    Some(at)
}

fn layout_at(b: &[u8], outer: usize, encap: Encap) -> Option<Layout> {
    let (outer, net) = match encap {
        Encap::None => (None, outer),
        _ => (Some((outer, encap)), inside(b, outer, encap)?),
    };
    let ip = b.get(net..)?;
    let six = is_v6(ip);
    let (len, proto) = if six {
        let t = ipv6::transport(ip)?;
        if t.frag.is_some() {
            return None;
        }
        (t.at, t.proto)
    } else {
        let len = (*ip.first()? & 15) as usize * 4;
        if len < IPV4_HLEN {
            return None;
        }
        (len, *ip.get(9)?)
    };
    let l4 = net + len;
    let (kind, hlen) = match (proto, six) {
        (IPPROTO_TCP, false) => (GsoType::TcpV4, TcpHeader::parse(b.get(l4..)?).ok()?.header_len),
        (IPPROTO_TCP, true) => (GsoType::TcpV6, TcpHeader::parse(b.get(l4..)?).ok()?.header_len),
        (IPPROTO_UDP, _) => (GsoType::UdpL4, UDP_HLEN),
        _ => return None,
    };
    (l4 + hlen <= b.len()).then_some(Layout { outer, net, l4, data: l4 + hlen, kind })
}

fn is_v6(ip: &[u8]) -> bool {
    ip.first().is_some_and(|v| v >> 4 == 6)
}

/// Cuts `frame` into frames that a wire carries. IP ids and sequence numbers count up, FIN and PSH stay on the last
/// piece, CWR on the first (RFC 3168 §6.1.2); every checksum is real afterwards. A frame without [`crate::Gso`], or one
/// that is not what its gso says, comes back as the only piece, and without it.
#[doc(alias = "skb_gso_segment")]
pub fn segment(mut frame: Frame) -> Segments {
    match plan(&mut frame) {
        Some(plan) => Segments { frame: Some(frame), plan: Some(plan) },
        None => {
            finish_checksum(&mut frame);
            // Nobody is asked to cut it again.
            frame.gso = None;
            Segments { frame: Some(frame), plan: None }
        }
    }
}

/// Cuts `frame` so that each piece but the last stands for whole segments only, which differ in nothing but what a card counts
/// on by itself: at most one super-segment, and a rest. What is that already comes back as the only piece.
#[doc(alias = "skb_segment")]
pub fn partial(mut frame: Frame) -> Segments {
    let Some(plan) = plan(&mut frame) else { return segment(frame) };
    let (len, gso) = (frame.payload.len(), frame.gso);
    let whole = len / plan.size;
    if len % plan.size == 0 {
        return Segments { frame: Some(frame), plan: None };
    }
    let keep = gso.filter(|_| whole > 1).map(|g| Gso { segs: whole as u16, ..g });
    let (size, step) = (plan.size * whole.max(1), whole.max(1) as u16);
    Segments { frame: Some(frame), plan: Some(Plan { size, step, keep, ..plan }) }
}

/// How it is to be cut, if it can be; its head has headers only afterwards.
fn plan(frame: &mut Frame) -> Option<Plan> {
    let (at, size) = frame.gso.and_then(|gso| {
        let fits = |l: &Layout| gso.size > 0 && l.data - l.net + gso.size as usize <= u16::MAX as usize;
        let at = layout(frame).filter(|l| l.kind == gso.kind && fits(l))?;
        Some((at, gso.size as usize))
    })?;
    // A head filled from outside may hold the first payload bytes.
    if frame.head.len() > at.data {
        let mut payload = Segs::from(Seg::from(&frame.head.bytes()[at.data..]));
        payload.append(std::mem::take(&mut frame.payload));
        frame.payload = payload;
        frame.head.trim(at.data);
    }
    let b = frame.head.bytes();
    let word = |i: usize| b.get(i..i + 2).map_or(0, |w| u16::from_be_bytes([w[0], w[1]]));
    let seq = (word(at.l4 + 4) as u32) << 16 | word(at.l4 + 6) as u32;
    let outer_id = at.outer.map_or(0, |(outer, _)| word(outer + 4));
    Some(Plan { at, size, id: word(at.net + 4), outer_id, seq, first: true, step: 1, keep: None })
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    at: Layout,
    size: usize,
    id: u16,
    outer_id: u16,
    seq: u32,
    first: bool,
    /// Segments in a piece, and what a piece of several is.
    step: u16,
    keep: Option<Gso>,
}

/// The pieces, cut as they are asked for.
#[derive(Clone, Debug)]
pub struct Segments {
    frame: Option<Frame>,
    plan: Option<Plan>,
}

impl Iterator for Segments {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let Some(plan) = &mut self.plan else { return self.frame.take() };
        let rest = self.frame.as_mut()?;
        let last = rest.payload.len() <= plan.size;
        let payload = rest.payload.split_to(plan.size);
        let mut piece =
            Frame { head: rest.head.clone(), payload, csum: Csum::None, gso: None, hash: rest.hash, id: rest.id };
        plan.write(&mut piece, last);
        plan.id = plan.id.wrapping_add(plan.step);
        plan.outer_id = plan.outer_id.wrapping_add(plan.step);
        plan.seq = plan.seq.wrapping_add(plan.size as u32);
        plan.first = false;
        if last {
            self.frame = None;
        }
        Some(piece)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = match (&self.plan, &self.frame) {
            (_, None) => 0,
            (None, _) => 1,
            (Some(p), Some(f)) => f.payload.len().div_ceil(p.size).max(1),
        };
        (n, Some(n))
    }
}

impl Plan {
    fn write(&self, piece: &mut Frame, last: bool) {
        let Layout { outer, net, l4, data, kind } = self.at;
        let total = data - net + piece.payload.len();
        let b = piece.head.bytes_mut();
        if is_v6(&b[net..]) {
            b[net + 4..net + 6].copy_from_slice(&((total - IPV6_HLEN) as u16).to_be_bytes());
        } else {
            b[net + 2..net + 4].copy_from_slice(&(total as u16).to_be_bytes());
            b[net + 4..net + 6].copy_from_slice(&self.id.to_be_bytes());
            ipv4::set_checksum(&mut b[net..l4]);
        }
        match kind {
            GsoType::TcpV4 | GsoType::TcpV6 => {
                b[l4 + 4..l4 + 8].copy_from_slice(&self.seq.to_be_bytes());
                let mut flags = Flags(b[l4 + 13] as u16);
                if !last {
                    flags = flags.without(Flags::FIN | Flags::PSH);
                }
                if !self.first {
                    flags = flags.without(Flags::CWR);
                }
                b[l4 + 13] = flags.0 as u8;
            }
            GsoType::UdpL4 => b[l4 + 4..l4 + 6].copy_from_slice(&((total - (l4 - net)) as u16).to_be_bytes()),
        }
        if let Some(gso) = self.keep.filter(|_| !last) {
            piece.gso = Some(gso);
            write_partial(piece, l4, kind, net);
        } else {
            write_transport_checksum(piece, l4, kind, net);
        }
        if let Some((outer, encap)) = outer {
            self.write_outer(piece, outer, encap);
        }
    }

    /// The headers of the tunnel: lengths, identification, sums.
    fn write_outer(&self, piece: &mut Frame, outer: usize, encap: Encap) {
        let total = piece.len() - outer;
        let whole = piece.gso.is_some();
        let b = piece.head.bytes_mut();
        let l4 = outer + usize::from(b.get(outer).map_or(0, |v| v & 15)) * 4;
        let Some(ip) = b.get_mut(outer..l4).filter(|ip| ip.len() >= IPV4_HLEN) else { return };
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&self.outer_id.to_be_bytes());
        ipv4::set_checksum(ip);
        let len = outer + total - l4;
        let (field, sum, zero) = match encap {
            Encap::UdpTnl | Encap::UdpTnlCsum => (l4 + 6, encap == Encap::UdpTnlCsum, 0xffff),
            Encap::Gre | Encap::GreCsum => (l4 + 4, encap == Encap::GreCsum, 0),
            Encap::None | Encap::IpIp => return,
        };
        let udp = matches!(encap, Encap::UdpTnl | Encap::UdpTnlCsum);
        if udp && let Some(f) = b.get_mut(l4 + 4..l4 + 6) {
            f.copy_from_slice(&(len as u16).to_be_bytes());
        }
        // A plain GRE header has something else there.
        if !udp && !sum || whole {
            return;
        }
        let Some(f) = b.get_mut(field..field + 2) else { return };
        f.fill(0);
        if sum {
            let init = if udp { pseudo(piece.head.bytes(), outer, IPPROTO_UDP, len) } else { 0 };
            let c = checksum::fold(checksum::add(init, transport_sum(&piece.head, &piece.payload, l4, len)));
            let c = if c == 0 { zero } else { c };
            piece.head.bytes_mut()[field..field + 2].copy_from_slice(&c.to_be_bytes());
        }
    }
}

/// Leaves the sum to whoever cuts on.
fn write_partial(piece: &mut Frame, l4: usize, kind: GsoType, net: usize) {
    let (proto, field) = sum_field(l4, kind);
    let Some(len) = transport_len(piece, net, l4) else { return };
    let sum = checksum::partial(pseudo(piece.head.bytes(), net, proto, len));
    if let Some(f) = piece.head.bytes_mut().get_mut(field..field + 2) {
        f.copy_from_slice(&sum.to_be_bytes());
    }
    piece.csum = Csum::Partial;
}

fn sum_field(l4: usize, kind: GsoType) -> (u8, usize) {
    match kind {
        GsoType::TcpV4 | GsoType::TcpV6 => (IPPROTO_TCP, l4 + 16),
        GsoType::UdpL4 => (IPPROTO_UDP, l4 + 6),
    }
}

fn pseudo(b: &[u8], net: usize, proto: u8, len: usize) -> u32 {
    let ip = b.get(net..).unwrap_or(&[]);
    // The addresses lie side by side, wherever they lie.
    let addrs = if is_v6(ip) { ip.get(8..40) } else { ip.get(12..20) };
    let rest = (proto as usize + len) as u32;
    // RFC 8200 §8.1: of a source route the end counts.
    if is_v6(ip)
        && ip.get(6) != Some(&proto)
        && let Some(end) = ipv6::final_destination(ip)
    {
        let src = checksum::sum(ip.get(8..24).unwrap_or(&[]), rest);
        return checksum::sum(&end.octets(), src);
    }
    checksum::add(checksum::sum(addrs.unwrap_or(&[]), 0), rest)
}

/// Sum of the transport bytes of the packet, trailing padding left out.
fn transport_sum(head: &Head, payload: &Segs, l4: usize, len: usize) -> u32 {
    let linear = head.bytes().get(l4..).unwrap_or(&[]);
    let linear = linear.get(..len).unwrap_or(linear);
    let rest = len - linear.len();
    let tail = if rest < payload.len() { checksum::segs(&payload.slice(0, rest)) } else { checksum::segs(payload) };
    checksum::combine(checksum::sum(linear, 0), tail, linear.len())
}

fn write_transport_checksum(frame: &mut Frame, l4: usize, kind: GsoType, net: usize) {
    let (proto, field) = sum_field(l4, kind);
    let Some(len) = transport_len(frame, net, l4) else { return };
    let init = pseudo(frame.head.bytes(), net, proto, len);
    let Some(f) = frame.head.bytes_mut().get_mut(field..field + 2) else { return };
    f.fill(0);
    let mut c = checksum::fold(checksum::add(init, transport_sum(&frame.head, &frame.payload, l4, len)));
    // RFC 768: a computed zero goes out as all ones, zero means none.
    if c == 0 && kind == GsoType::UdpL4 {
        c = 0xffff;
    }
    frame.head.bytes_mut()[field..field + 2].copy_from_slice(&c.to_be_bytes());
    frame.csum = Csum::Unnecessary;
}

/// Transport bytes by the IP header; by the frame where the header cannot say (BIG TCP).
fn transport_len(frame: &Frame, net: usize, l4: usize) -> Option<usize> {
    let b = frame.head.bytes();
    let word = |at: usize| Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]) as usize);
    let total = match is_v6(b.get(net..)?) {
        true => word(net + 4).map(|n| if n == 0 { 0 } else { n + IPV6_HLEN })?,
        false => word(net + 2)?,
    };
    let all = frame.len() - l4;
    Some(if total == 0 { all } else { total.checked_sub(l4 - net)?.min(all) })
}

/// Turns a [`Csum::Partial`] frame into one whose transport checksum is in its bytes. Super-segments are finished as one
/// packet, as a capture shows them. Other frames stay as they are.
#[doc(alias = "skb_checksum_help")]
pub fn finish_checksum(frame: &mut Frame) {
    if frame.csum != Csum::Partial {
        return;
    }
    if let Some(at) = layout(frame) {
        write_transport_checksum(frame, at.l4, at.kind, at.net);
    }
}

/// Checks the IPv4 header checksum and, unless it is known good or not yet computed, the TCP, UDP or ICMP one of an
/// unfragmented packet. What is neither IPv4 nor IPv6 passes.
pub fn verify(frame: &Frame) -> Result<(), Malformed> {
    let Some(net) = net_offset(frame) else { return Ok(()) };
    let ip = frame.head.bytes().get(net..).unwrap_or(&[]);
    let (proto, at, len) = if is_v6(ip) {
        let h = Ipv6Header::parse(ip)?;
        let Some(t) = ipv6::transport(ip).filter(|t| t.frag.is_none()) else { return Ok(()) };
        let len = (usize::from(h.payload_len) + IPV6_HLEN).checked_sub(t.at).ok_or(Malformed::BadLength)?;
        (t.proto, t.at, len)
    } else {
        if !Ipv4Header::verify_checksum(ip) {
            return Err(Malformed::BadChecksum);
        }
        let h = Ipv4Header::parse(ip)?;
        if h.is_fragment() {
            return Ok(());
        }
        (h.proto, h.ihl_bytes, h.payload_len())
    };
    if frame.csum == Csum::None { verify_transport(frame, (net, net + at), proto, len) } else { Ok(()) }
}

fn verify_transport(frame: &Frame, (net, l4): (usize, usize), proto: u8, len: usize) -> Result<(), Malformed> {
    let b = frame.head.bytes();
    let six = is_v6(b.get(net..).unwrap_or(&[]));
    let mut covered = len;
    let init = match proto {
        IPPROTO_TCP if len < TCP_HLEN => return Err(Malformed::BadLength),
        IPPROTO_UDP => {
            let udp = UdpHeader::parse(b.get(l4..).unwrap_or(&[]))?;
            // RFC 8200 §8.1: IPv6 knows no datagram without a sum.
            if udp.csum == 0 && !six {
                return Ok(());
            }
            if udp.len as usize > len {
                return Err(Malformed::BadLength);
            }
            covered = udp.len as usize;
            pseudo(b, net, proto, covered)
        }
        IPPROTO_ICMP if !six => 0,
        IPPROTO_TCP => pseudo(b, net, proto, len),
        IPPROTO_ICMPV6 if six => pseudo(b, net, proto, len),
        _ => return Ok(()),
    };
    let sum = checksum::add(init, transport_sum(&frame.head, &frame.payload, l4, covered));
    if checksum::fold(sum) == 0 { Ok(()) } else { Err(Malformed::BadChecksum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ethernet::{ETH_P_IP, EthHeader, Mac};
    use crate::tcp::TcpOptions;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn super_segment(len: usize, eth: bool) -> (Frame, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut f = Frame { id: 42, csum: Csum::Partial, ..Frame::default() };
        for part in bytes.chunks(1001) {
            f.payload.push(Seg::from(part));
        }
        let opts = TcpOptions { ts: Some((5, 6)), ..Default::default() };
        opts.emit(f.head.push(12).unwrap());
        let tcp = TcpHeader {
            src_port: 80,
            dst_port: 4000,
            seq: u32::MAX - 1000,
            ack: 9,
            header_len: 32,
            flags: Flags::ACK | Flags::PSH | Flags::FIN | Flags::CWR,
            window: 500,
            csum: checksum::partial(checksum::pseudo_v4(SRC, DST, IPPROTO_TCP, 32 + len)),
            urg_ptr: 0,
        };
        tcp.emit(f.head.push(20).unwrap());
        let ip = Ipv4Header {
            total_len: (52 + len) as u16,
            id: 0xffff,
            df: true,
            proto: IPPROTO_TCP,
            src: SRC,
            dst: DST,
            ..Default::default()
        };
        ip.emit(f.head.push(20).unwrap());
        if eth {
            EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ethertype: ETH_P_IP }.emit(f.head.push(14).unwrap());
        }
        f.gso = Some(Gso::new(GsoType::TcpV4, 1448, len.div_ceil(1448) as u16));
        (f, bytes)
    }

    fn check_pieces(f: Frame, bytes: &[u8], net: usize) {
        let n = bytes.len().div_ceil(1448);
        let iter = segment(f);
        assert_eq!(iter.size_hint().0, n);
        let pieces: Vec<Frame> = iter.collect();
        assert_eq!(pieces.len(), n);
        let mut data = Vec::new();
        for (i, p) in pieces.iter().enumerate() {
            // Through bytes, so that nothing but what a wire carries is looked at.
            let raw = p.to_vec();
            assert_eq!(verify(&Frame::from_bytes(&raw, 0)), Ok(()));
            let ip = Ipv4Header::parse(&raw[net..]).unwrap();
            let tcp = TcpHeader::parse(&raw[net + 20..]).unwrap();
            assert_eq!((ip.total_len as usize, ip.id), (raw.len() - net, 0xffffu16.wrapping_add(i as u16)));
            assert_eq!(tcp.seq, (u32::MAX - 1000).wrapping_add(i as u32 * 1448));
            assert_eq!(tcp.flags.contains(Flags::PSH | Flags::FIN), i + 1 == n);
            assert_eq!(tcp.flags.contains(Flags::CWR), i == 0);
            assert_eq!((p.id, p.csum, p.gso), (42, Csum::Unnecessary, None));
            data.extend_from_slice(&raw[net + 52..]);
        }
        assert_eq!(data, bytes);
    }

    #[test]
    fn a_super_segment_becomes_valid_frames() {
        for (len, eth) in [(1448 * 3, true), (20_000, true), (20_000, false), (60_001, true)] {
            let (f, bytes) = super_segment(len, eth);
            check_pieces(f, &bytes, if eth { 14 } else { 0 });
        }
    }

    #[test]
    fn six_is_cut_as_four_is() {
        let (mut f, bytes) = super_segment(20_000, false);
        f.head.pull(20).unwrap();
        let (src, dst) = (Ipv6Addr::LOCALHOST, "fd00::2".parse().unwrap());
        let sum = checksum::partial(checksum::pseudo_v6(src, dst, IPPROTO_TCP, 20_032));
        f.head.bytes_mut()[16..18].copy_from_slice(&sum.to_be_bytes());
        let ip = Ipv6Header { payload_len: 20_032, next: IPPROTO_TCP, src, dst, ..Default::default() };
        ip.emit(f.head.push(40).unwrap());
        f.gso = Some(Gso::new(GsoType::TcpV6, 1428, 15));
        let mut whole = f.clone();
        finish_checksum(&mut whole);
        assert_eq!(verify(&Frame::from_bytes(&whole.to_vec(), 0)), Ok(()));
        let mut data = Vec::new();
        for p in segment(f) {
            let raw = p.to_vec();
            assert_eq!(verify(&Frame::from_bytes(&raw, 0)), Ok(()));
            assert_eq!(Ipv6Header::parse(&raw).unwrap().payload_len as usize, raw.len() - 40);
            data.extend_from_slice(&raw[72..]);
        }
        assert_eq!(data, bytes);
        whole.head.bytes_mut()[50] ^= 1;
        whole.csum = Csum::None;
        assert_eq!(verify(&whole), Err(Malformed::BadChecksum));
    }

    #[test]
    fn a_head_with_payload_bytes_is_cut_alike() {
        let (f, bytes) = super_segment(5000, true);
        let mut flat = Frame::from_bytes(&f.to_vec(), 42);
        flat.gso = f.gso;
        check_pieces(flat, &bytes, 14);
    }

    #[test]
    fn partial_checksums_are_finished_and_faults_found() {
        let (mut f, _) = super_segment(60_001, true);
        f.gso = None;
        assert_eq!(verify(&Frame::from_bytes(&f.to_vec(), 0)), Err(Malformed::BadChecksum));
        assert_eq!(verify(&f), Ok(()));
        let mut f = segment(f).next().unwrap();
        assert_eq!((f.csum, verify(&Frame::from_bytes(&f.to_vec(), 0))), (Csum::Unnecessary, Ok(())));
        f.csum = Csum::None;
        f.head.bytes_mut()[50] ^= 4;
        assert_eq!(verify(&f), Err(Malformed::BadChecksum));
    }

    #[test]
    fn udp_pieces_have_their_own_lengths() {
        let mut f = Frame { csum: Csum::Partial, payload: vec![7u8; 2500].into(), ..Frame::default() };
        UdpHeader { src_port: 1, dst_port: 2, len: 2508, csum: 0 }.emit(f.head.push(8).unwrap());
        let ip = Ipv4Header { total_len: 2528, proto: IPPROTO_UDP, src: SRC, dst: DST, ..Default::default() };
        ip.emit(f.head.push(20).unwrap());
        f.gso = Some(Gso::new(GsoType::UdpL4, 1000, 3));
        let lens: Vec<u16> = segment(f)
            .map(|p| {
                let raw = p.to_vec();
                assert_eq!(verify(&Frame::from_bytes(&raw, 0)), Ok(()));
                UdpHeader::parse(&raw[20..]).unwrap().len
            })
            .collect();
        assert_eq!(lens, [1008, 1008, 508]);
    }

    /// A super-segment in GRE with a sum.
    fn wrapped(len: usize) -> Frame {
        let (mut f, _) = super_segment(len, false);
        f.head.push(8).unwrap().copy_from_slice(&[0x80, 0, 8, 0, 0, 0, 0, 0]);
        let total_len = (80 + len) as u16;
        let ip = Ipv4Header { total_len, id: 7, proto: 47, src: DST, dst: SRC, ..Default::default() };
        ip.emit(f.head.push(20).unwrap());
        f.gso = f.gso.map(|g| Gso { encap: Encap::GreCsum, ..g });
        f
    }

    #[test]
    fn pieces_in_tunnels_have_whole_headers_and_cut_in_part_they_are_the_same() {
        for len in [1448 * 3, 1448 * 3 + 1, 2000, 20_000] {
            let whole: Vec<Vec<u8>> = segment(wrapped(len)).map(|p| p.to_vec()).collect();
            for (n, p) in whole.iter().enumerate() {
                let ip = Ipv4Header::parse(p).unwrap();
                assert_eq!((ip.id, ip.total_len as usize, checksum::sum(&p[20..], 0)), (7 + n as u16, p.len(), 0xffff));
                assert_eq!(verify(&Frame::from_bytes(&p[28..], 0)), Ok(()));
            }
            let halves: Vec<Frame> = partial(wrapped(len)).collect();
            assert_eq!(halves.len(), 1 + usize::from(len % 1448 != 0));
            let again: Vec<Vec<u8>> = halves.into_iter().flat_map(segment).map(|p| p.to_vec()).collect();
            assert!(again == whole, "{len}");
        }
    }

    #[test]
    fn what_is_not_as_its_gso_says_comes_back_whole() {
        let mut f = Frame::from_bytes(&[0x45; 60], 1);
        f.gso = Some(Gso::new(GsoType::TcpV4, 0, 0));
        f.csum = Csum::Partial;
        let pieces: Vec<Frame> = segment(f).collect();
        assert!(pieces.len() == 1 && pieces[0].gso.is_none());
        assert_eq!(segment(Frame::default()).count(), 1);
    }
}
