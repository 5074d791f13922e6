//! IPv6 between two hosts of one kernel, joined by hand, and over loopback.
mod two;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::Frame;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{
    ALL_NODES, FRAG_HLEN, FragHeader, Ipv6Header, NEXTHDR_FRAGMENT, NEXTHDR_ICMP, NEXTHDR_UDP, transport,
};
use core::net::Ipv6Addr;
use two::*;

#[test]
fn datagrams_over_loopback_and_across_the_cable() {
    let mut t = Two::new();
    for (who, addr) in [(0, LO), (1, B)] {
        let server = t.socket(who, SOCK_DGRAM, 0);
        t.bind(who, server, addr, 5000).unwrap();
        let client = t.socket(0, SOCK_DGRAM, 0);
        assert_eq!(t.send(0, client, b"hello", Some((addr, 5000))), Ok(5));
        let got = t.recv(who, server).unwrap();
        assert_eq!(got.segs.to_vec(), b"hello");
        let Some(SockAddr::V6 { addr: from, scope: 0, .. }) = got.from else { panic!("{:?}", got.from) };
        assert_eq!(from, if who == 0 { LO } else { A });
    }
    assert_eq!((t.count(1, Mib::Udp6InDatagrams), t.count(0, Mib::Udp6OutDatagrams)), (1, 2));
    assert_eq!(t.count(1, Mib::UdpInDatagrams), 0);
    // A closed port.
    let client = t.socket(0, SOCK_DGRAM, 0);
    t.connect(0, client, B, 9).unwrap();
    t.send(0, client, b"x", None).unwrap();
    assert_eq!(t.send(0, client, b"x", None), Err(Errno::ECONNREFUSED));
}

#[test]
fn streams_carry_bytes_both_ways_and_end() {
    let mut t = Two::new();
    let l = t.socket(1, SOCK_STREAM, 0);
    t.bind(1, l, Ipv6Addr::UNSPECIFIED, 80).unwrap();
    t.int(1, Call::Listen { fd: l, backlog: 8 }).unwrap();
    let c = t.socket(0, SOCK_STREAM, 0);
    assert_eq!(t.connect(0, c, B, 80), Err(Errno::EINPROGRESS));
    assert_eq!(t.connect(0, c, B, 80), Ok(0));
    let Ok(Ret::Accepted { fd: s, peer }) = t.call(1, Call::Accept { fd: l, flags: SOCK_NONBLOCK }) else { panic!() };
    assert!(matches!(peer, SockAddr::V6 { addr: A, .. }), "{peer}");
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < bytes.len() {
        if let Ok(n) = t.send(0, c, &bytes[sent..], None) {
            sent += n as usize;
        }
        match t.recv(1, s) {
            Ok(d) => got.extend(d.segs.to_vec()),
            Err(Errno::EAGAIN) => t.sleep(5),
            Err(e) => panic!("{e:?}"),
        }
    }
    assert_eq!(got, bytes);
    t.int(0, Call::Close { fd: c }).unwrap();
    assert_eq!(t.recv(1, s).unwrap().segs.len(), 0);
    t.int(1, Call::Close { fd: s }).unwrap();
    let mss = t.seen.iter().filter_map(|f| f.gso).map(|g| g.size).max();
    assert_eq!(mss, Some(1428), "1500 less 40, 20 and time stamps");
}

#[test]
fn a_dual_stack_listener_takes_both_and_v6only_just_one() {
    let mut t = Two::new();
    let l = t.socket(0, SOCK_STREAM, 0);
    t.bind(0, l, Ipv6Addr::UNSPECIFIED, 80).unwrap();
    t.int(0, Call::Listen { fd: l, backlog: 8 }).unwrap();
    let c6 = t.socket(0, SOCK_STREAM, 0);
    assert_eq!(t.connect(0, c6, LO, 80), Err(Errno::EINPROGRESS));
    assert_eq!(t.connect(0, c6, LO, 80), Ok(0));
    let c4 = t.int(0, Call::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 }).unwrap() as Fd;
    let lo4 = SockAddr::V4(core::net::Ipv4Addr::LOCALHOST, 80);
    assert_eq!(t.int(0, Call::Connect { fd: c4, addr: &lo4.emit() }), Ok(0));
    let only = t.socket(0, SOCK_STREAM, 0);
    t.call(0, Call::SetSockOpt { fd: only, level: SOL_IPV6, name: IPV6_V6ONLY, value: &1i32.to_ne_bytes() }).unwrap();
    t.bind(0, only, Ipv6Addr::UNSPECIFIED, 81).unwrap();
    t.int(0, Call::Listen { fd: only, backlog: 8 }).unwrap();
    let four = t.int(0, Call::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 }).unwrap() as Fd;
    assert_eq!(
        t.int(0, Call::Connect { fd: four, addr: &SockAddr::V4([127, 0, 0, 1].into(), 81).emit() }),
        Err(Errno::ECONNREFUSED)
    );
    // And beside it the port is free for IPv4.
    assert_eq!(t.int(0, Call::Bind { fd: four, addr: &SockAddr::V4([0, 0, 0, 0].into(), 81).emit() }), Ok(0));
    let six = t.socket(0, SOCK_STREAM, 0);
    assert_eq!(t.bind(0, six, Ipv6Addr::UNSPECIFIED, 80), Err(Errno::EADDRINUSE));
    assert_eq!(t.bind(0, six, B, 90), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn link_local_addresses_come_by_themselves_after_asking_and_need_an_interface() {
    let mut t = Two::new();
    let ll: Ipv6Addr = "fe80::ff:fe00:1".parse().unwrap();
    let tentative = |t: &Two| {
        let d = t.k.net.devs.get(t.dev[0]).unwrap();
        d.inet6.addrs.iter().find(|a| a.addr == ll).unwrap().tentative()
    };
    assert!(tentative(&t));
    let fd = t.socket(0, SOCK_DGRAM, 0);
    let scoped = |addr, port| SockAddr::V6 { addr, port, flowinfo: 0, scope: 2 }.emit();
    assert_eq!(t.int(0, Call::Bind { fd, addr: &scoped(ll, 7) }), Err(Errno::EADDRNOTAVAIL));
    t.sleep(2100);
    assert!(!tentative(&t), "{:?} {}", t.k.net.devs.get(t.dev[0]).unwrap().inet6, t.k.net.env.jiffies());
    assert_eq!(t.bind(0, fd, ll, 7), Err(Errno::EINVAL), "without an interface");
    assert_eq!(t.int(0, Call::Bind { fd, addr: &scoped(ll, 7) }), Ok(0));
    // Solicitations for detection, reports of groups and questions for routers have been sent.
    let kinds: std::collections::BTreeSet<u8> = t
        .seen
        .iter()
        .filter_map(|f| {
            let b = f.to_vec();
            let ip = b.get(14..)?;
            Some(*ip.get(transport(ip)?.at)?)
        })
        .collect();
    assert!([133, 135, 143].iter().all(|k| kinds.contains(k)), "{kinds:?}");
    let peer = t.socket(1, SOCK_DGRAM, 0);
    let to = scoped(ll, 7);
    t.int(1, Call::Send { fd: peer, data: Payload::Bytes(b"link"), flags: 0, to: Some(&to), cmsgs: &[] }).unwrap();
    let got = t.recv(0, fd).unwrap();
    let Some(SockAddr::V6 { addr, scope: 2, .. }) = got.from else { panic!("{:?}", got.from) };
    assert_eq!(addr.to_string(), "fe80::ff:fe00:2");
}

#[test]
fn an_address_that_somebody_has_is_given_up() {
    let mut t = Two::new();
    t.sleep(2500);
    t.k.net.add_address6(t.dev[0], B, 64, false).unwrap();
    t.sleep(2500);
    let d = t.k.net.devs.get(t.dev[0]).unwrap();
    let a = d.inet6.addrs.iter().find(|a| a.addr == B).unwrap();
    assert!(a.dadfailed && a.tentative());
}

#[test]
fn large_datagrams_are_cut_and_joined_again() {
    let mut t = Two::new();
    let server = t.socket(1, SOCK_DGRAM, 0);
    t.bind(1, server, B, 5000).unwrap();
    let client = t.socket(0, SOCK_DGRAM, 0);
    let bytes: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
    t.send(0, client, &bytes, Some((B, 5000))).unwrap();
    assert_eq!(t.recv(1, server).unwrap().segs.to_vec(), bytes);
    assert_eq!((t.count(1, Mib::Ip6ReasmOKs), t.count(0, Mib::Ip6FragCreates)), (1, 7));
    let fragments = t.seen.iter().filter(|f| {
        let b = f.to_vec();
        Ipv6Header::parse(&b[14..]).is_ok_and(|ip| ip.next == NEXTHDR_FRAGMENT)
    });
    assert_eq!(fragments.count(), 7);
    // One is lost: after a minute the sender hears of it.
    let frames: Vec<Frame> = t.seen.iter().filter(|f| f.to_vec().get(20) == Some(&44)).cloned().collect();
    t.k.rx(t.now, t.dev[1], frames[0].clone());
    t.settle();
    t.sleep(61_000);
    assert_eq!((t.count(1, Mib::Ip6ReasmTimeout), t.count(0, Mib::Icmp6InTimeExcds)), (1, 1));
}

#[test]
fn echo_by_a_ping_socket_and_a_raw_one() {
    let mut t = Two::new();
    t.k.sysctl_set(t.ns[0], "net.ipv4.ping_group_range", "0 100").unwrap();
    let ping = t.socket(0, SOCK_DGRAM, IPPROTO_ICMPV6);
    let raw = t.socket(0, SOCK_RAW, IPPROTO_ICMPV6);
    let request = [128, 0, 0, 0, 0, 0, 0, 1, b'h', b'i'];
    assert_eq!(t.send(0, ping, &request, Some((B, 0))), Ok(10));
    let got = t.recv(0, ping).unwrap().segs.to_vec();
    assert_eq!((got[0], &got[6..]), (129, &[0, 1, b'h', b'i'][..]));
    // The raw socket saw it too, and what else concerns it.
    let seen: Vec<u8> = std::iter::from_fn(|| t.recv(0, raw).ok()).map(|d| d.segs.to_vec()[0]).collect();
    assert!(seen.contains(&129), "{seen:?}");
    assert_eq!((t.count(1, Mib::Icmp6InEchos), t.count(1, Mib::Icmp6OutEchoReplies)), (1, 1));
}

#[test]
fn without_ipv6_the_errors_are_those_of_linux() {
    let mut t = Two::new();
    let fd = t.socket(0, SOCK_STREAM, 0);
    let far: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(t.connect(0, fd, far, 80), Err(Errno::ENETUNREACH));
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.all.disable_ipv6", "1").unwrap();
    t.settle();
    assert_eq!(t.connect(0, fd, far, 80), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(t.connect(0, fd, LO, 80), Err(Errno::EADDRNOTAVAIL));
}

/// An advertisement of some prefixes for so many seconds.
fn advertisement(prefixes: impl Iterator<Item = u16>, secs: u16) -> Vec<u8> {
    let mut m = vec![NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    m.extend(secs.to_be_bytes());
    m.extend([0; 8]);
    for n in prefixes {
        m.extend([ND_OPT_PREFIX_INFO, 4, 64, 0xc0]);
        m.extend(u32::from(secs).to_be_bytes());
        m.extend(u32::from(secs).to_be_bytes());
        m.extend([0; 4]);
        m.extend(Ipv6Addr::new(0xfd01, n, 0, 0, 0, 0, 0, 0).octets());
    }
    m
}

#[test]
fn routers_make_a_bounded_number_of_addresses_and_routes_that_end() {
    let mut t = Two::new();
    t.sleep(2500);
    for n in 0..30 {
        t.rx_icmp(255, ROUTER, ALL_NODES, advertisement(n * 40..n * 40 + 40, 100));
        let other = Ipv6Addr::from_bits(ROUTER.to_bits() + u128::from(n) + 1);
        t.rx_icmp(255, other, ALL_NODES, advertisement(0..0, 100));
    }
    let (addrs, routes) = {
        let n = t.k.net.ns.get(t.ns[0]).unwrap();
        (t.k.net.devs.get(t.dev[0]).unwrap().inet6.addrs.len(), n.v6.fib.main.iter().count())
    };
    assert_eq!((addrs, routes), (16, 256), "max_addresses, and what a link may make");
    let fd = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(t.connect(0, fd, "2001:db8::1".parse().unwrap(), 9), Ok(0), "by the first default router");
    t.sleep(101_000);
    let left: Vec<(Ipv6Addr, u8)> =
        t.k.net.ns.get(t.ns[0]).unwrap().v6.fib.main.iter().map(|(d, p, _)| (d, p)).collect();
    let own = [("fd00::", 64), ("fe80::", 64)].map(|(d, p)| (d.parse().unwrap(), p));
    assert_eq!(left, own);
    let fd = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(t.connect(0, fd, "2001:db8::1".parse().unwrap(), 9), Err(Errno::ENETUNREACH));
}

#[test]
fn queries_are_believed_from_the_link_only_and_long_answers_are_several() {
    let mut t = Two::new();
    t.sleep(5000);
    for n in 0..100 {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 9, n);
        belljar_kernel::net::ipv6::mcast::join(&mut t.k.net, t.dev[0], group);
    }
    t.sleep(5000);
    t.sent(NEXTHDR_ICMP);
    let query = || [&[ICMPV6_MGM_QUERY, 0, 0, 0, 0, 100][..], &[0; 22]].concat();
    for (hop_limit, src, reports) in [(1, B, 0), (255, ROUTER, 0), (1, ROUTER, 2)] {
        t.rx_mld(hop_limit, src, ALL_NODES, query());
        t.sleep(1000);
        let mut sent = t.sent(NEXTHDR_ICMP);
        sent.retain(|p| p[transport(p).unwrap().at] == ICMPV6_MLD2_REPORT);
        assert_eq!(sent.len(), reports, "{hop_limit} {src}");
        assert!(sent.iter().all(|p| p.len() <= 1500));
    }
}

#[test]
fn fragments_that_make_no_packet() {
    let mut t = Two::new();
    let fragment = |next, offset, more, id, data: &[u8]| {
        let mut b = vec![0; FRAG_HLEN];
        FragHeader { next, offset, more, id }.emit(&mut b);
        b.extend_from_slice(data);
        b
    };
    // A fragment inside of what was put together.
    let inner = fragment(NEXTHDR_UDP, 0, true, 2, &[0; 16]);
    t.rx(64, B, A, NEXTHDR_FRAGMENT, &fragment(NEXTHDR_FRAGMENT, 0, true, 1, &inner));
    t.rx(64, B, A, NEXTHDR_FRAGMENT, &fragment(NEXTHDR_FRAGMENT, 24, false, 1, &[0; 8]));
    assert_eq!((t.count(0, Mib::Ip6ReasmOKs), t.count(0, Mib::Ip6InHdrErrors)), (1, 1));
    // The first one has a header before its own that the others have not: together they are too long.
    for at in (8..65_528u32).step_by(1200) {
        let len = (65_528 - at).min(1200) as usize;
        let data = vec![0; len];
        t.rx(64, B, A, NEXTHDR_FRAGMENT, &fragment(NEXTHDR_UDP, at as u16, at as usize + len < 65_528, 3, &data));
    }
    let first = fragment(NEXTHDR_UDP, 0, true, 3, &[0; 8]);
    t.rx(64, B, A, 60, &[&[NEXTHDR_FRAGMENT, 0, 1, 4, 0, 0, 0, 0][..], &first].concat());
    assert_eq!((t.count(0, Mib::Ip6ReasmOKs), t.count(0, Mib::Ip6ReasmFails)), (1, 1));
}

#[test]
fn options_about_flow_labels_and_cutting() {
    let mut t = Two::new();
    let fd = t.socket(0, SOCK_DGRAM, 0);
    t.connect(0, fd, B, 9).unwrap();
    let label = |t: &mut Two| {
        t.sent(NEXTHDR_UDP);
        t.send(0, fd, b"x", Some((B, 9))).unwrap();
        Ipv6Header::parse(&t.sent(NEXTHDR_UDP)[0]).unwrap().flow
    };
    // (auto_flowlabels, IPV6_AUTOFLOWLABEL, whether there is a label)
    for (mode, of_socket, labelled) in
        [("1", 1, true), ("1", 0, false), ("2", 1, true), ("2", 0, false), ("3", 0, true), ("0", 1, false)]
    {
        t.k.sysctl_set(t.ns[0], "net.ipv6.auto_flowlabels", mode).unwrap();
        t.set(0, fd, IPV6_AUTOFLOWLABEL, of_socket).unwrap();
        let _ = t.recv(0, fd);
        assert_eq!(label(&mut t) != 0, labelled, "{mode} {of_socket}");
    }
    let long = [0; 2000];
    let send = |t: &mut Two, kind: i32, whole: i32| {
        let fd = t.socket(0, kind, if kind == SOCK_RAW { 200 } else { 0 });
        let cmsgs = [Cmsg { level: SOL_IPV6, kind: IPV6_DONTFRAG, data: whole.to_ne_bytes().to_vec() }];
        let to = SockAddr::v6(B, if kind == SOCK_RAW { 0 } else { 9 }).emit();
        t.int(0, Call::Send { fd, data: Payload::Bytes(&long), flags: 0, to: Some(&to), cmsgs: &cmsgs })
    };
    for kind in [SOCK_DGRAM, SOCK_RAW] {
        assert_eq!(send(&mut t, kind, 0), Ok(2000));
        assert_eq!(send(&mut t, kind, 1), Err(Errno::EMSGSIZE));
        assert_eq!(send(&mut t, kind, 2), Err(Errno::EINVAL));
    }
    let raw = t.socket(0, SOCK_RAW, 200);
    t.set(0, raw, IPV6_DONTFRAG, 1).unwrap();
    assert_eq!(t.send(0, raw, &long, Some((B, 0))), Err(Errno::EMSGSIZE));
}
