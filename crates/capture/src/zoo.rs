//! One packet of each kind that is printed, for the tests here and for those against tcpdump.
#![allow(dead_code)]
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::*;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::*;
use belljar_wire::tcp::*;
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Csum, Frame, Seg, checksum, gso};
use core::net::Ipv4Addr;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn eth(f: &mut Frame, ip: Ipv4Header) {
    ip.emit(f.head.push(20).unwrap());
    EthHeader { dst: Mac([2, 0, 0, 0, 0, 1]), src: Mac([2, 0, 0, 0, 0, 2]), ethertype: ETH_P_IP }
        .emit(f.head.push(14).unwrap());
}

fn segment(src: Ipv4Addr, dst: Ipv4Addr, mut t: TcpHeader, o: TcpOptions, len: usize) -> Frame {
    let mut f = Frame { id: 7, csum: Csum::Partial, ..Frame::default() };
    f.payload.push(Seg::from_vec(vec![b'x'; len]));
    o.emit(f.head.push(o.len()).unwrap());
    t.header_len = 20 + o.len();
    t.csum = checksum::partial(checksum::pseudo_v4(src, dst, IPPROTO_TCP, t.header_len + len));
    t.emit(f.head.push(20).unwrap());
    let total_len = (20 + t.header_len + len) as u16;
    eth(&mut f, Ipv4Header { total_len, proto: IPPROTO_TCP, df: true, src, dst, ..Default::default() });
    f
}

/// From 10.0.2.2:40000 to 10.0.2.15:80.
pub fn tcp(seq: u32, len: usize) -> Frame {
    let flags = Flags::PSH | Flags::ACK;
    let t = TcpHeader { src_port: 40000, dst_port: 80, seq, ack: 1, flags, window: 502, ..Default::default() };
    segment(A, B, t, TcpOptions::default(), len)
}

pub fn syn() -> Frame {
    let t =
        TcpHeader { src_port: 40000, dst_port: 80, seq: 999, flags: Flags::SYN, window: 64240, ..Default::default() };
    let o = TcpOptions { mss: Some(1460), wscale: Some(10), sack_ok: true, ts: Some((1, 0)), ..Default::default() };
    segment(A, B, t, o, 0)
}

pub fn udp(src_port: u16, dst_port: u16, len: usize) -> Frame {
    udp_with(src_port, dst_port, &vec![0; len])
}

pub fn udp_with(src_port: u16, dst_port: u16, data: &[u8]) -> Frame {
    let len = data.len();
    let mut f = Frame { csum: Csum::Partial, payload: data.to_vec().into(), ..Frame::default() };
    UdpHeader { src_port, dst_port, len: 8 + len as u16, csum: 0 }.emit(f.head.push(8).unwrap());
    eth(&mut f, Ipv4Header { total_len: 28 + len as u16, proto: IPPROTO_UDP, src: B, dst: A, ..Default::default() });
    gso::finish_checksum(&mut f);
    f
}

pub fn icmp_frame(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Frame {
    let mut f = Frame { payload: body.to_vec().into(), ..Frame::default() };
    let mut h = IcmpHeader { kind, code, csum: 0, rest };
    let mut b = [0; 8];
    h.emit(&mut b);
    h.csum = checksum::fold(checksum::add(checksum::sum(&b, 0), checksum::sum(body, 0)));
    h.emit(f.head.push(8).unwrap());
    let total_len = 28 + body.len() as u16;
    eth(&mut f, Ipv4Header { total_len, proto: IPPROTO_ICMP, src: B, dst: A, ..Default::default() });
    f
}

pub fn arp_frame(op: u16) -> Frame {
    let mut f = Frame::default();
    let a = ArpPacket { op, sha: Mac([2, 0, 0, 0, 0, 2]), spa: B, tha: Mac::ZERO, tpa: A };
    a.emit(f.head.push(28).unwrap());
    EthHeader { dst: Mac::BROADCAST, src: a.sha, ethertype: ETH_P_ARP }.emit(f.head.push(14).unwrap());
    f
}

/// One packet of each kind that is printed.
pub fn zoo() -> Vec<Frame> {
    let syn_ack = TcpHeader {
        src_port: 80,
        dst_port: 40000,
        seq: 5000,
        ack: 1000,
        flags: Flags::SYN | Flags::ACK,
        window: 65160,
        ..Default::default()
    };
    let full = TcpOptions { mss: Some(1460), wscale: Some(7), sack_ok: true, ts: Some((9, 1)), ..Default::default() };
    let ack = TcpHeader { seq: 5001, ack: 1006, flags: Flags::ACK, window: 509, ..syn_ack };
    let sack =
        TcpOptions { ts: Some((10, 2)), sack: [(2454, 3902), (0, 0), (0, 0), (0, 0)], n_sack: 1, ..Default::default() };
    let quoted = &udp(4000, 53, 20).to_vec()[14..42].to_vec();
    let mut data = tcp(1000, 5);
    let mut t = TcpHeader::parse(&data.head.bytes()[34..]).unwrap();
    t.ack = 5001;
    t.emit(&mut data.head.bytes_mut()[34..]);
    data.csum = Csum::Partial;
    let fin = TcpHeader { flags: Flags::FIN | Flags::ACK, ..ack };
    let rst = TcpHeader { flags: Flags::RST, seq: 77, ..ack };
    vec![
        arp_frame(ARPOP_REQUEST),
        arp_frame(ARPOP_REPLY),
        syn(),
        segment(B, A, syn_ack, full, 0),
        data,
        segment(B, A, ack, sack, 0),
        segment(B, A, ack, TcpOptions::default(), 1448),
        segment(B, A, fin, TcpOptions::default(), 0),
        segment(B, A, rst, TcpOptions::default(), 0),
        udp(4000, 5533, 12),
        icmp_frame(ICMP_ECHO, 0, IcmpHeader::echo_rest(3, 1), &[0; 56]),
        icmp_frame(ICMP_ECHOREPLY, 0, IcmpHeader::echo_rest(3, 1), &[0; 56]),
        icmp_frame(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, [0; 4], quoted),
        icmp_frame(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, [0; 4], quoted),
        icmp_frame(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, [0, 0, 5, 120], quoted),
        icmp_frame(ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, [0; 4], quoted),
    ]
}

const QUESTION: &[u8] = b"\x07example\x03com\x00\x00\x01\x00\x01";

/// Header words, the question, then what follows.
fn message(head: [u16; 6], rest: &[u8]) -> Vec<u8> {
    [&head.map(u16::to_be_bytes).concat(), QUESTION, rest].concat()
}

pub fn dns_messages() -> Vec<Vec<u8>> {
    let a = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x5d\xb8\xd8\x22";
    let cname = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03www\xc0\x0c";
    let aaaa = b"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    vec![
        message([4660, 0x0100, 1, 0, 0, 0], &[]),
        message([4661, 0x0120, 1, 0, 0, 1], opt),
        message([4660, 0x8180, 1, 1, 0, 0], a),
        message([4660, 0x8180, 1, 2, 0, 0], &[&cname[..], a].concat()),
        message([4660, 0x8400, 1, 1, 0, 0], aaaa),
        message([4662, 0x8183, 1, 0, 0, 0], &[]),
        message([4662, 0x8185, 1, 0, 0, 0], &[]),
        message([4663, 0x8182, 1, 0, 0, 1], opt),
    ]
}
