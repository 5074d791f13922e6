//! Packets that the gateway answers by hand at the cable: RST for a refused SYN, ICMP for an unreachable place.
use belljar_wire::Frame;
use belljar_wire::checksum;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};
use belljar_wire::flow::net_offset;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_HLEN, ICMP_HOST_UNREACH, ICMP_NET_UNREACH, IcmpHeader};
use belljar_wire::icmpv6::{ICMPV6_ADDR_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{self, IPV6_HLEN, IPV6_MIN_MTU, Ipv6Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};
use std::net::IpAddr;

/// What an answer needs to know of a packet.
struct Headers {
    eth: EthHeader,
    src: IpAddr,
    dst: IpAddr,
    /// Where the network and the transport header begin.
    net: usize,
    l4: usize,
}

fn headers(frame: &Frame) -> Option<Headers> {
    let net = net_offset(frame).filter(|at| *at >= ETH_HLEN)?;
    let (b, eth) = (frame.head.bytes(), EthHeader::parse(frame.head.bytes()).ok()?);
    let ip = b.get(net..)?;
    if let Ok(h) = Ipv6Header::parse(ip) {
        return Some(Headers { eth, src: h.src.into(), dst: h.dst.into(), net, l4: net + ipv6::transport(ip)?.at });
    }
    let h = Ipv4Header::parse(ip).ok()?;
    Some(Headers { eth, src: h.src.into(), dst: h.dst.into(), net, l4: net + h.ihl_bytes })
}

fn tcp(frame: &Frame) -> Option<(Headers, TcpHeader)> {
    let h = headers(frame)?;
    let t = TcpHeader::parse(frame.head.bytes().get(h.l4..)?).ok()?;
    Some((h, t))
}

/// A SYN without ACK: the begin of a connection.
pub fn is_syn(frame: &Frame) -> bool {
    tcp(frame).is_some_and(|(_, t)| t.flags.contains(Flags::SYN) && !t.flags.contains(Flags::ACK))
}

/// `body` back to where the packet came from.
fn reply(h: &Headers, proto: u8, body: &[u8]) -> Frame {
    let mut b = vec![0; ETH_HLEN];
    EthHeader { dst: h.eth.src, src: h.eth.dst, ethertype: h.eth.ethertype }.emit(&mut b);
    match (h.src, h.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total_len = (IPV4_HLEN + body.len()) as u16;
            let ip = Ipv4Header { total_len, df: true, proto, src: dst, dst: src, ..Ipv4Header::default() };
            b.resize(ETH_HLEN + IPV4_HLEN, 0);
            ip.emit(b.get_mut(ETH_HLEN..).unwrap_or(&mut []));
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let payload_len = body.len() as u16;
            let ip = Ipv6Header { payload_len, next: proto, src: dst, dst: src, ..Ipv6Header::default() };
            b.resize(ETH_HLEN + IPV6_HLEN, 0);
            ip.emit(b.get_mut(ETH_HLEN..).unwrap_or(&mut []));
        }
        _ => {}
    }
    b.extend_from_slice(body);
    Frame::from_bytes(&b, 0)
}

/// What a closed port answers to `syn` (RFC 9293 §3.10.7.1).
pub fn reset(syn: &Frame) -> Option<Frame> {
    let (h, t) = tcp(syn)?;
    let mut b = [0u8; TCP_HLEN];
    let header = TcpHeader {
        src_port: t.dst_port,
        dst_port: t.src_port,
        seq: 0,
        ack: t.seq.wrapping_add(1),
        header_len: TCP_HLEN,
        flags: Flags::RST | Flags::ACK,
        window: 0,
        csum: 0,
        urg_ptr: 0,
    };
    header.emit(&mut b);
    let sum = checksum::sum(&b, checksum::pseudo(h.dst, h.src, IPPROTO_TCP, b.len()));
    b[16..18].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    Some(reply(&h, IPPROTO_TCP, &b))
}

/// Destination unreachable about `frame` (RFC 792, RFC 4443): its net, or its host.
pub fn unreachable(frame: &Frame, net: bool) -> Option<Frame> {
    let h = headers(frame)?;
    let quoted = frame.head.bytes().get(h.net..)?;
    let six = h.src.is_ipv6();
    let (kind, code, room) = match (six, net) {
        (false, true) => (ICMP_DEST_UNREACH, ICMP_NET_UNREACH, h.l4 - h.net + 8),
        (false, false) => (ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, h.l4 - h.net + 8),
        (true, true) => (ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE, IPV6_MIN_MTU as usize - IPV6_HLEN - ICMP_HLEN),
        (true, false) => (ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, IPV6_MIN_MTU as usize - IPV6_HLEN - ICMP_HLEN),
    };
    let mut b = vec![0; ICMP_HLEN];
    IcmpHeader { kind, code, csum: 0, rest: [0; 4] }.emit(&mut b);
    b.extend_from_slice(quoted.get(..quoted.len().min(room))?);
    let proto = if six { IPPROTO_ICMPV6 } else { IPPROTO_ICMP };
    let pseudo = if six { checksum::pseudo(h.dst, h.src, proto, b.len()) } else { 0 };
    let sum = checksum::fold(checksum::sum(&b, pseudo));
    b.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(reply(&h, proto, &b))
}
