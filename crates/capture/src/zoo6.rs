//! One IPv6 packet of each kind that is printed, for the tests here and for those against tcpdump.
#![allow(dead_code)]
use belljar_wire::ethernet::*;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::tcp::{Flags, TcpHeader};
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Frame, Mac, checksum};
use core::net::Ipv6Addr;

const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15);
const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1);
const ALERT: [u8; 8] = [NEXTHDR_ICMP, 0, 5, 2, 0, 0, 1, 0];

fn bare(src: Ipv6Addr, dst: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut b = vec![0; IPV6_HLEN];
    Ipv6Header { payload_len: body.len() as u16, next, hop_limit: 255, src, dst, ..Default::default() }.emit(&mut b);
    b.extend_from_slice(body);
    b
}

/// Behind Ethernet.
pub fn packet(src: Ipv6Addr, dst: Ipv6Addr, next: u8, body: &[u8]) -> Frame {
    let mut b = vec![0; ETH_HLEN];
    let (to, from) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    EthHeader { dst: to, src: from, ethertype: ETH_P_IPV6 }.emit(&mut b);
    b.extend(bare(src, dst, next, body));
    Frame::from_bytes(&b, 0)
}

fn summed(src: Ipv6Addr, dst: Ipv6Addr, next: u8, at: usize, mut body: Vec<u8>) -> Vec<u8> {
    body[at..at + 2].fill(0);
    let sum = checksum::fold(checksum::sum(&body, checksum::pseudo_v6(src, dst, next, body.len())));
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    body
}

fn udp(sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let mut b = vec![0; 8];
    UdpHeader { src_port: sport, dst_port: dport, len: 8 + data.len() as u16, csum: 0 }.emit(&mut b);
    b.extend_from_slice(data);
    summed(B, A, NEXTHDR_UDP, 6, b)
}

fn tcp(flags: Flags, seq: u32, data: &[u8]) -> Vec<u8> {
    let mut b = vec![0; 20];
    let t = TcpHeader {
        src_port: 4000,
        dst_port: 80,
        seq,
        ack: 77,
        flags,
        window: 500,
        header_len: 20,
        ..Default::default()
    };
    t.emit(&mut b);
    b.extend_from_slice(data);
    summed(B, A, NEXTHDR_TCP, 16, b)
}

fn icmp(src: Ipv6Addr, dst: Ipv6Addr, head: [u8; 8], rest: &[u8]) -> Frame {
    packet(src, dst, NEXTHDR_ICMP, &summed(src, dst, NEXTHDR_ICMP, 2, [&head[..], rest].concat()))
}

/// With the router alert of MLD.
fn mld(dst: Ipv6Addr, head: [u8; 8], rest: &[u8]) -> Frame {
    let message = summed(LINK, dst, NEXTHDR_ICMP, 2, [&head[..], rest].concat());
    packet(LINK, dst, NEXTHDR_HOP, &[&ALERT[..], &message].concat())
}

fn errors(all: &mut Vec<Frame>) {
    let quoted = bare(A, B, NEXTHDR_UDP, &udp(4000, 53, &[7; 12]));
    let of_tcp = bare(A, B, NEXTHDR_TCP, &tcp(Flags::ACK, 1, &[]));
    let behind = bare(A, B, NEXTHDR_DEST, &[&[NEXTHDR_UDP, 0, 1, 4, 0, 0, 0, 0][..], &udp(1, 2, &[])].concat());
    let mut error = |kind, code, info: u8, q: &[u8]| all.push(icmp(B, A, [kind, code, 0, 0, 0, 0, info, 40], q));
    (0..=4).for_each(|code| error(ICMPV6_DEST_UNREACH, code, 0, &quoted));
    error(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0, &of_tcp);
    error(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0, &behind);
    error(ICMPV6_DEST_UNREACH, ICMPV6_ADM_PROHIBITED, 0, &[]);
    error(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0, &bare(A, B, 99, &[1; 20]));
    error(ICMPV6_PKT_TOOBIG, 0, 5, &quoted);
    (0..=2).for_each(|code| error(ICMPV6_TIME_EXCEED, code, 0, &quoted));
    (0..=3).for_each(|code| error(ICMPV6_PARAMPROB, code, 0, &quoted));
}

fn discovery(all: &mut Vec<Frame>) {
    let target = B.octets();
    let own = nd_mac_option(ND_OPT_SOURCE_LL_ADDR, Mac([2, 0, 0, 0, 0, 2]));
    let group = solicited_node(B);
    let ns = |src, rest: &[u8]| icmp(src, group, [NDISC_NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], rest);
    all.push(ns(LINK, &[&target[..], &own].concat()));
    all.push(ns(Ipv6Addr::UNSPECIFIED, &target));
    for flags in [0, NA_ROUTER, NA_SOLICITED | NA_OVERRIDE] {
        let head = [NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
        all.push(icmp(B, A, head, &[&target[..], &nd_mac_option(ND_OPT_TARGET_LL_ADDR, Mac([2; 6]))].concat()));
    }
    all.push(icmp(LINK, ALL_ROUTERS, [NDISC_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], &own));
    let mut ra = vec![0, 0, 0, 0, 0, 0, 0, 0, ND_OPT_PREFIX_INFO, 4, 64, 0xc0, 0, 0, 28, 32, 0, 0, 14, 16, 0, 0, 0, 0];
    ra.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets());
    all.push(icmp(LINK, ALL_NODES, [NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 7, 8], &ra));
    all.push(icmp(LINK, A, [NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0], &[LINK.octets(), target].concat()));
}

fn groups(all: &mut Vec<Frame>) {
    let record = |kind: u8, n: u8| [&[kind, 0, 0, n][..], &GROUP.octets(), &A.octets()[..16 * usize::from(n)]].concat();
    all.push(mld(MLD2_ROUTERS, [ICMPV6_MLD2_REPORT, 0, 0, 0, 0, 0, 0, 1], &record(4, 0)));
    all.push(mld(MLD2_ROUTERS, [ICMPV6_MLD2_REPORT, 0, 0, 0, 0, 0, 0, 2], &[record(4, 0), record(2, 1)].concat()));
    let max = [ICMPV6_MGM_QUERY, 0, 0, 0, 0x27, 0x10, 0, 0];
    all.push(mld(ALL_NODES, max, &[&Ipv6Addr::UNSPECIFIED.octets()[..], &[2, 125, 0, 0]].concat()));
    all.push(mld(GROUP, max, &[&GROUP.octets()[..], &[2, 125, 0, 1], &A.octets()].concat()));
    all.push(mld(ALL_NODES, max, &Ipv6Addr::UNSPECIFIED.octets()));
    all.push(mld(GROUP, [ICMPV6_MGM_REPORT, 0, 0, 0, 0, 0, 0, 0], &GROUP.octets()));
    all.push(mld(ALL_ROUTERS, [ICMPV6_MGM_REDUCTION, 0, 0, 0, 0, 0, 0, 0], &GROUP.octets()));
}

fn fragment(next: u8, offset: u16, more: bool, data: &[u8]) -> Frame {
    let mut b = vec![0; FRAG_HLEN];
    FragHeader { next, offset, more, id: 7 }.emit(&mut b);
    b.extend_from_slice(data);
    packet(B, A, NEXTHDR_FRAGMENT, &b)
}

fn headers(all: &mut Vec<Frame>) {
    let datagram = udp(4000, 5533, &[5; 4]);
    let mut first = udp(4000, 5533, &[0; 1440]);
    first[4..6].copy_from_slice(&2008u16.to_be_bytes());
    all.push(fragment(NEXTHDR_UDP, 0, true, &first));
    all.push(fragment(NEXTHDR_UDP, 1448, false, &[0; 560]));
    all.push(fragment(NEXTHDR_TCP, 0, true, &tcp(Flags::SYN, 9, &[1; 60])));
    all.push(fragment(NEXTHDR_ICMP, 0, true, &[&[ICMPV6_ECHO_REQUEST, 0, 0, 0, 0, 3, 0, 1][..], &[1; 64]].concat()));
    all.push(fragment(NEXTHDR_UDP, 0, false, &datagram));
    let pad = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    all.push(packet(B, A, NEXTHDR_DEST, &[&pad(NEXTHDR_UDP)[..], &datagram].concat()));
    all.push(packet(B, A, NEXTHDR_DEST, &[&pad(NEXTHDR_TCP)[..], &tcp(Flags::SYN, 5, &[])].concat()));
    all.push(packet(B, A, NEXTHDR_HOP, &[&pad(NEXTHDR_DEST)[..], &pad(NEXTHDR_UDP), &datagram].concat()));
    for kind in [0, 2, 4] {
        let route = [&[NEXTHDR_UDP, 2, kind, 1, 0, 0, 0, 0][..], &LINK.octets(), &datagram].concat();
        all.push(packet(B, A, NEXTHDR_ROUTING, &route));
    }
    all.push(packet(B, A, NEXTHDR_NONE, &[]));
    all.push(packet(B, A, 99, &[1; 20]));
    all.push(packet(B, A, NEXTHDR_ESP, &[0x78; 20]));
    all.push(packet(B, A, NEXTHDR_IPV6, &bare(B, A, NEXTHDR_UDP, &datagram)));
}

/// One packet of each kind that is printed.
pub fn zoo6() -> Vec<Frame> {
    let query = b"\x00\x05\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x1c\x00\x01";
    let mut all = vec![
        packet(B, A, NEXTHDR_TCP, &tcp(Flags::SYN, 999, &[])),
        packet(B, A, NEXTHDR_TCP, &tcp(Flags::ACK | Flags::PSH, 1000, b"GET / HTTP/1.1\r\n")),
        packet(B, A, NEXTHDR_TCP, &tcp(Flags::ACK | Flags::FIN, 1016, &[])),
        packet(B, A, NEXTHDR_UDP, &udp(4000, 5533, &[0; 12])),
        packet(B, A, NEXTHDR_UDP, &udp(4000, 53, query)),
        icmp(B, A, [ICMPV6_ECHO_REQUEST, 0, 0, 0, 0, 3, 0, 1], &[0; 56]),
        icmp(A, B, [ICMPV6_ECHO_REPLY, 0, 0, 0, 0, 3, 0, 1], &[0; 56]),
    ];
    errors(&mut all);
    discovery(&mut all);
    groups(&mut all);
    headers(&mut all);
    all
}
