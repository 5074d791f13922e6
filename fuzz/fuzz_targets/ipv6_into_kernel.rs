//! IPv6 packets of a hostile neighbour into a host with a listener, a connection, a UDP, a raw and a ping socket: chains of
//! extension headers, fragments, neighbour and router discovery, redirects, group queries, errors that quote what the host
//! sent, packets to be passed on. The input says how much of each packet is right, and what the host is: one that listens to
//! routers, or a router.
#![no_main]
#[path = "../common/mod.rs"]
mod common;
use belljar_abi::*;
use belljar_kernel::net::core::neighbour;
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_kernel::task::call::Call;
use belljar_wire::ethernet::{ETH_P_IPV6, EthHeader};
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, Frame, checksum, gso};
use common::*;
use core::net::Ipv6Addr;
use libfuzzer_sys::fuzz_target;

const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 15);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const HOST_LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x20f);
const PEER_LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x202);

const PEER2_LL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x203);
/// Behind the peer.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// One that a socket joined.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x77);

fn source(s: &mut Script<'_>) -> Ipv6Addr {
    match s.u8() % 8 {
        0 | 1 => PEER6,
        2..=4 => PEER_LL,
        5 => Ipv6Addr::UNSPECIFIED,
        6 => [HOST6, FAR][usize::from(s.u8() & 1)],
        _ => Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(s.u16())),
    }
}

fn destination(s: &mut Script<'_>) -> Ipv6Addr {
    match s.u8() % 8 {
        0..=2 => HOST6,
        3 => HOST_LL,
        4 => ALL_NODES,
        5 => solicited_node(HOST6),
        6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, s.u8().into()),
        _ => [PEER6, FAR, FAR][s.u8() as usize % 3],
    }
}

/// Extension headers and the protocol behind them: what goes into the byte before it, and the bytes.
fn chain(s: &mut Script<'_>, proto: u8, transport: Vec<u8>) -> (u8, Vec<u8>) {
    let (mut next, mut b) = (proto, transport);
    for _ in 0..s.u8() % 4 {
        let kind = [NEXTHDR_HOP, NEXTHDR_DEST, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT][s.u8() as usize % 4];
        let words = usize::from(s.u8() % 4);
        let mut h = vec![next, words as u8];
        h.extend_from_slice(s.bytes(6 + 8 * words));
        h.resize(8 + 8 * words, 0);
        if kind == NEXTHDR_FRAGMENT {
            h.resize(FRAG_HLEN, 0);
            // Few identifications and small offsets, so that pieces meet.
            let offset = u16::from(s.u8()) * if s.u8() == 255 { 256 } else { 8 };
            FragHeader { next, offset: offset & !7, more: s.u8() & 1 != 0, id: (s.u8() & 1).into() }.emit(&mut h);
        }
        h.append(&mut b);
        (next, b) = (kind, h);
    }
    (next, b)
}

/// Type and body of an ICMPv6 message, in what the input does not make otherwise.
fn icmp(s: &mut Script<'_>, quote: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let kinds = [1, 2, 2, 3, 4, 128, 129, 130, 130, 131, 133, 134, 134, 135, 135, 136, 136, 137, 137, 143];
    let kind = kinds[s.u8() as usize % kinds.len()];
    let mut m = vec![kind, if s.u8() > 200 { s.u8() } else { 0 }, 0, 0];
    m.extend_from_slice(s.bytes(4));
    m.resize(8, 0);
    match kind {
        1..=4 => m.extend_from_slice(quote),
        NDISC_NEIGHBOUR_SOLICITATION | NDISC_NEIGHBOUR_ADVERTISEMENT => {
            let target = [HOST6, HOST_LL, PEER6, PEER_LL][s.u8() as usize % 4];
            m.extend(target.octets());
        }
        NDISC_REDIRECT => {
            for _ in 0..2 {
                m.extend([FAR, PEER_LL, PEER2_LL, HOST6][s.u8() as usize % 4].octets());
            }
        }
        ICMPV6_MGM_QUERY | ICMPV6_MGM_REPORT => {
            m.extend([Ipv6Addr::UNSPECIFIED, GROUP, solicited_node(HOST6)][s.u8() as usize % 3].octets());
            // The second version's: switches, interval, sources.
            let n = s.u8();
            m.extend_from_slice(s.bytes((n % 40).into()));
        }
        NDISC_ROUTER_ADVERTISEMENT => {
            m.extend_from_slice(s.bytes(8));
            m.resize(16, 0);
        }
        _ => {}
    }
    for _ in 0..s.u8() % 4 {
        let n = s.u8();
        let (kind, words) = (n & 7, usize::from(n >> 4 & 3) + 1);
        let words = if kind == ND_OPT_PREFIX_INFO { 4 } else { words };
        let at = m.len();
        m.extend([kind, words as u8]);
        m.extend_from_slice(s.bytes(8 * words - 2));
        m.resize(at + 8 * words, 0);
        if kind == ND_OPT_PREFIX_INFO && n & 8 == 0 {
            m[at + 2] = 64;
        }
    }
    let sum = checksum::fold(checksum::sum(&m, checksum::pseudo_v6(src, dst, NEXTHDR_ICMP, m.len())));
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    m
}

fn packet(s: &mut Script<'_>, ends: &Ends, sent: &[Vec<u8>]) -> Vec<u8> {
    let (src, dst) = (source(s), destination(s));
    let kind = s.u8() % 8;
    let hop_limit = [255, 255, 64, 1][s.u8() as usize % 4];
    let (proto, transport) = match kind {
        0 | 1 => {
            let mut t = vec![0; TCP_HLEN];
            let (ack, port) = match sent.iter().rev().find_map(|b| TcpHeader::parse(b.get(IPV6_HLEN..)?).ok()) {
                Some(t) if kind == 1 => (t.seq.wrapping_add(1), t.src_port),
                _ => (s.u32(), 80),
            };
            let flags = Flags(s.u8().into());
            let h = TcpHeader {
                src_port: if kind == 1 { 9000 } else { 40_000 },
                dst_port: port,
                seq: s.u16().into(),
                ack,
                header_len: TCP_HLEN,
                flags,
                window: s.u16(),
                csum: 0,
                urg_ptr: 0,
            };
            h.emit(&mut t);
            let n = s.u8();
            t.extend_from_slice(s.bytes(n.into()));
            (NEXTHDR_TCP, t)
        }
        2 => {
            let n = usize::from(s.u8()) * 5;
            let mut t = vec![0; UDP_HLEN];
            UdpHeader { src_port: 4000, dst_port: 53, len: (UDP_HLEN + n) as u16, csum: 0 }.emit(&mut t);
            t.resize(UDP_HLEN + n, 7);
            (NEXTHDR_UDP, t)
        }
        3..=6 => {
            let n = usize::from(s.u8());
            let quote = sent.iter().rev().nth(n % sent.len().max(1)).cloned().unwrap_or_default();
            (NEXTHDR_ICMP, icmp(s, &quote, src, dst))
        }
        _ => {
            let (proto, n) = (s.u8(), s.u8());
            (proto, s.bytes(n.into()).to_vec())
        }
    };
    let (next, rest) = chain(s, proto, transport);
    let mut b = vec![0; 14 + IPV6_HLEN];
    EthHeader { dst: ends.host_mac, src: ends.peer_mac, ethertype: ETH_P_IPV6 }.emit(&mut b);
    let wrong = if s.u8() == 0 { s.u16() } else { 0 };
    let payload_len = (rest.len() as u16).wrapping_add(wrong);
    Ipv6Header { payload_len, next, hop_limit, src, dst, ..Ipv6Header::default() }.emit(&mut b[14..]);
    b.extend(rest);
    if matches!(proto, NEXTHDR_TCP | NEXTHDR_UDP) && wrong == 0 {
        let mut f = Frame::from_bytes(&b, 0);
        f.csum = Csum::Partial;
        gso::finish_checksum(&mut f);
        b = f.to_vec();
    }
    b
}

/// The host with IPv6, its neighbour known, and its sockets.
fn start(what: u8) -> (Machine, Vec<u32>) {
    let mut m = machine();
    let ns = m.k.net.devs.get(m.dev).expect("the card").ns;
    for (bit, key, value) in [
        (1, "net.ipv6.conf.all.forwarding", "1"),
        (2, "net.ipv6.conf.default.accept_ra", "2"),
        (4, "net.ipv6.ip6frag_high_thresh", "5000"),
        (8, "net.ipv6.conf.eth0.accept_redirects", "0"),
    ] {
        if what & bit != 0 {
            let _ = m.k.sysctl_set(ns, key, value);
        }
    }
    m.k.net.enable_ipv6(ns);
    m.k.net.add_address6(m.dev, HOST6, 64, true).expect("an address");
    for peer in [PEER6, PEER_LL] {
        neighbour::set_permanent(&mut m.k.net, ns, m.dev, peer.into(), PEER_MAC).expect("a neighbour");
    }
    if what & 0x10 != 0 {
        m.k.net.add_route6(ns, FAR, 128, Route6::unicast(Some(PEER_LL), Some(m.dev))).expect("a route");
    }
    m.settle();
    let socket = |m: &mut Machine, kind: i32, protocol: i32| {
        let call = Call::Socket { family: AF_INET6, kind: kind | SOCK_NONBLOCK, protocol };
        match m.must(call) {
            belljar_kernel::task::call::Ret::Fd(fd) => fd,
            other => panic!("{other:?}"),
        }
    };
    let to = |addr, port| SockAddr::V6 { addr, port, flowinfo: 0, scope: 0 }.emit();
    let listener = socket(&mut m, SOCK_STREAM, 0);
    m.must(Call::Bind { fd: listener, addr: &to(Ipv6Addr::UNSPECIFIED, 80) });
    m.must(Call::Listen { fd: listener, backlog: 2 });
    let udp = socket(&mut m, SOCK_DGRAM, 0);
    m.must(Call::Bind { fd: udp, addr: &to(Ipv6Addr::UNSPECIFIED, 53) });
    let group = [&GROUP.octets()[..], &0u32.to_ne_bytes()].concat();
    m.must(Call::SetSockOpt { fd: udp, level: SOL_IPV6, name: IPV6_ADD_MEMBERSHIP, value: &group });
    let client = socket(&mut m, SOCK_STREAM, 0);
    let _ = m.call(Call::Connect { fd: client, addr: &to(PEER6, 9000) });
    let raw = socket(&mut m, SOCK_RAW, IPPROTO_ICMPV6);
    (m, vec![udp, client, raw, listener])
}

fuzz_target!(|data: &[u8]| {
    let mut s = Script(data);
    let (mut m, fds) = start(s.u8());
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for _ in 0..64 {
        if !s.more() {
            break;
        }
        let of_v6 =
            |f: &Frame| f.to_vec().get(14..).filter(|b| b.first().is_some_and(|v| v >> 4 == 6)).map(<[u8]>::to_vec);
        sent.extend(std::mem::take(&mut m.sent).iter().filter_map(of_v6));
        sent.drain(..sent.len().saturating_sub(16));
        let b = packet(&mut s, &m.ends, &sent);
        m.rx(Frame::from_bytes(&b, FOREIGN));
        let fd = fds[s.u8() as usize % fds.len()];
        match s.u8() % 8 {
            0 => m.sleep(1 << (s.u8() % 40)),
            1 | 2 => drop(m.call(Call::Recv { fd, len: 2000, flags: MSG_DONTWAIT })),
            3 => {
                let to = SockAddr::V6 { addr: PEER6, port: 4000, flowinfo: 0, scope: 0 }.emit();
                let data = belljar_kernel::task::call::Payload::Bytes(&[7; 3000]);
                drop(m.call(Call::Send { fd: fds[0], data, flags: MSG_DONTWAIT, to: Some(&to), cmsgs: &[] }));
            }
            _ => {}
        }
    }
    m.check();
    m.sleep(200_000_000_000);
    m.check();
});
