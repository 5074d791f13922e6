//! Packets that the gateway answers by hand at the cable: RST for a refused SYN, ICMP for an unreachable place.
use belljar_wire::Frame;
use belljar_wire::checksum;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};
use belljar_wire::flow::net_offset;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_HLEN, ICMP_HOST_UNREACH, IcmpHeader};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPV4_HLEN, Ipv4Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};

fn headers(frame: &Frame) -> Option<(EthHeader, Ipv4Header, usize)> {
    let at = net_offset(frame).filter(|at| *at >= ETH_HLEN)?;
    let b = frame.head.bytes();
    Some((EthHeader::parse(b).ok()?, Ipv4Header::parse(b.get(at..)?).ok()?, at))
}

fn tcp(frame: &Frame) -> Option<(EthHeader, Ipv4Header, TcpHeader)> {
    let (eth, ip, at) = headers(frame)?;
    Some((eth, ip, TcpHeader::parse(frame.head.bytes().get(at + ip.ihl_bytes..)?).ok()?))
}

/// A SYN without ACK: the begin of a connection.
pub fn is_syn(frame: &Frame) -> bool {
    tcp(frame).is_some_and(|(_, _, t)| t.flags.contains(Flags::SYN) && !t.flags.contains(Flags::ACK))
}

fn reply(eth: EthHeader, ip: &Ipv4Header, proto: u8, body: &[u8]) -> Frame {
    let mut b = vec![0; ETH_HLEN + IPV4_HLEN];
    let (e, i) = b.split_at_mut(ETH_HLEN);
    EthHeader { dst: eth.src, src: eth.dst, ethertype: eth.ethertype }.emit(e);
    Ipv4Header {
        ihl_bytes: IPV4_HLEN,
        tos: 0,
        total_len: (IPV4_HLEN + body.len()) as u16,
        id: 0,
        df: true,
        mf: false,
        frag_off: 0,
        ttl: 64,
        proto,
        src: ip.dst,
        dst: ip.src,
        ..*ip
    }
    .emit(i);
    b.extend_from_slice(body);
    Frame::from_bytes(&b, 0)
}

/// What a closed port answers to `syn` (RFC 9293 §3.10.7.1).
pub fn reset(syn: &Frame) -> Option<Frame> {
    let (eth, ip, t) = tcp(syn)?;
    let mut b = [0u8; TCP_HLEN];
    let h = TcpHeader {
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
    h.emit(&mut b);
    let sum = checksum::sum(&b, checksum::pseudo_v4(ip.dst, ip.src, IPPROTO_TCP, b.len()));
    b[16..18].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    Some(reply(eth, &ip, IPPROTO_TCP, &b))
}

/// ICMP destination unreachable about `frame` (RFC 792): host by default.
pub fn unreachable(frame: &Frame, code: Option<u8>) -> Option<Frame> {
    let (eth, ip, at) = headers(frame)?;
    let mut b = vec![0; ICMP_HLEN];
    IcmpHeader { kind: ICMP_DEST_UNREACH, code: code.unwrap_or(ICMP_HOST_UNREACH), csum: 0, rest: [0; 4] }.emit(&mut b);
    let quoted = frame.head.bytes().get(at..)?;
    b.extend_from_slice(quoted.get(..quoted.len().min(ip.ihl_bytes + 8))?);
    let sum = checksum::fold(checksum::sum(&b, 0));
    b.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(reply(eth, &ip, IPPROTO_ICMP, &b))
}
