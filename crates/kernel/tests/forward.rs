//! A machine between two networks: forwarding, its errors, the reverse path check.
mod common;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::ipv4::fib::{Route, RouteType};
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::netns::Tproxy;
use belljar_wire::Mac;
use belljar_wire::arp::ARPOP_REPLY;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_UDP, Ipv4Header};
use common::*;
use std::net::Ipv4Addr;

const FAR: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);
const FAR_MAC: Mac = Mac([2, 0, 0, 0, 7, 9]);

/// eth0 as ever, eth1 with 10.7.0.1/24 and a host behind it.
fn router(mtu: u32) -> (Host, DevId) {
    let mut h = Host::new();
    h.know_peer();
    let own = Mac([2, 0, 0, 0, 7, 1]);
    let nic = NicConfig { name: "eth1".into(), mac: own, mtu, ..NicConfig::default() };
    let out = h.k.add_nic(h.ns, &nic).unwrap();
    h.k.set_link(out, true).unwrap();
    let addr = Ipv4Addr::new(10, 7, 0, 1);
    h.k.add_address(out, addr, 24).unwrap();
    h.sysctl("net.ipv4.ip_forward", "1");
    let id = belljar_kernel::net::core::neighbour::lookup_or_create(&mut h.k.net, h.ns, out, FAR.into());
    assert!(id.is_some());
    h.k.rx(h.now, out, arp(ARPOP_REPLY, FAR_MAC, FAR, own, addr, own));
    h.collect();
    h.sent();
    (h, out)
}

fn to_far(header: Ipv4Header, len: usize) -> belljar_wire::Frame {
    ip(Ipv4Header { dst: FAR, proto: IPPROTO_UDP, ..header }, &udp((PEER, 9), (FAR, 7), &vec![1; len]))
}

/// ICMP type, code and next-hop MTU of the one answer.
fn error(h: &mut Host) -> Option<(u8, u8, u16)> {
    let out = h.sent();
    let (_, ip, body) = parse(out.first()?);
    (ip.proto == IPPROTO_ICMP && ip.dst == PEER).then(|| (body[0], body[1], u16::from_be_bytes([body[6], body[7]])))
}

#[test]
fn one_hop_less_and_a_checksum_that_is_right() {
    let (mut h, _) = router(1500);
    for (ttl, left) in [(64, 63), (2, 1)] {
        h.rx(to_far(Ipv4Header { ttl, ..from_peer(0) }, 100));
        let out = h.sent();
        let (eth, ip, _) = parse(&out[0]);
        assert_eq!((eth.dst, ip.ttl, ip.src), (FAR_MAC, left, PEER));
        belljar_wire::gso::verify(&out[0]).unwrap();
    }
    h.rx(to_far(Ipv4Header { ttl: 1, ..from_peer(0) }, 100));
    assert_eq!(error(&mut h), Some((ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0)));
    assert_eq!(h.counter(Mib::IpForwDatagrams), 2);
}

#[test]
fn a_narrow_link_cuts_or_complains() {
    let (mut h, _) = router(1400);
    h.rx(to_far(Ipv4Header { df: true, ..from_peer(0) }, 1450));
    assert_eq!(error(&mut h), Some((ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 1400)));
    h.rx(to_far(from_peer(0), 1450));
    let cuts: Vec<_> = h.sent().iter().map(|f| parse(f).1).map(|i| (i.total_len, i.frag_off, i.mf)).collect();
    assert_eq!(cuts, [(1396, 0, true), (102, 1376, false)]);
    assert_eq!((h.counter(Mib::IpFragOKs), h.counter(Mib::IpFragCreates), h.counter(Mib::IpFragFails)), (1, 2, 1));
    // Also the one that did not get through (Linux 6.18).
    assert_eq!(h.counter(Mib::IpForwDatagrams), 2);
}

#[test]
fn routes_that_refuse_say_so() {
    let (mut h, _) = router(1500);
    h.k.net.del_route(h.ns, Ipv4Addr::UNSPECIFIED, 0, None).unwrap();
    for (kind, code) in [
        (RouteType::Unreachable, Some(ICMP_HOST_UNREACH)),
        (RouteType::Prohibit, Some(ICMP_PKT_FILTERED)),
        (RouteType::Blackhole, None),
    ] {
        let dst = Ipv4Addr::new(10, 99, 0, 0);
        h.k.net.add_route(h.ns, dst, 16, Route::refusing(kind)).unwrap();
        h.rx(ip(Ipv4Header { dst: Ipv4Addr::new(10, 99, 1, 1), ..from_peer(IPPROTO_UDP) }, &[0; 8]));
        assert_eq!(error(&mut h).map(|e| e.1), code);
        h.k.net.del_route(h.ns, dst, 16, None).unwrap();
        h.advance(10 * SEC);
    }
    // Without a route: two tokens each, of which there are five.
    for _ in 0..50 {
        h.rx(ip(Ipv4Header { dst: Ipv4Addr::new(9, 9, 9, 9), ..from_peer(IPPROTO_UDP) }, &[0; 8]));
    }
    assert_eq!(h.sent().len(), 2);
    h.sysctl("net.ipv4.ip_forward", "0");
    h.rx(to_far(from_peer(0), 10));
    assert_eq!((h.sent().len(), h.counter(Mib::IpInAddrErrors)), (0, 1));
}

#[test]
fn back_by_the_way_it_came_is_told_and_done() {
    let (mut h, _) = router(1500);
    let other = Ipv4Addr::new(10, 0, 2, 77);
    h.k.add_route(h.ns, Ipv4Addr::new(10, 50, 0, 0), 16, Some(other), None).unwrap();
    h.rx(ip(Ipv4Header { dst: Ipv4Addr::new(10, 50, 0, 1), ..from_peer(IPPROTO_UDP) }, &[0; 8]));
    let out = h.sent();
    let (_, ip, body) = parse(&out[0]);
    assert_eq!((ip.dst, body[0], body[1], &body[4..8]), (PEER, ICMP_REDIRECT, 1, &other.octets()[..]));
    assert_eq!(h.counter(Mib::IpForwDatagrams), 1);
}

#[test]
fn the_way_back() {
    let (mut h, out) = router(1500);
    h.k.net.del_route(h.ns, Ipv4Addr::UNSPECIFIED, 0, None).unwrap();
    let fd = h.udp_on(HOST, 7);
    // Linux 6.18 looks for no route of a source without rp_filter, so that a broadcast address passes; its own never does.
    let sources = [PEER, FAR, Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(10, 0, 2, 255), HOST];
    let wants =
        [[true, true, true, true, false], [true, false, false, false, false], [true, true, false, false, false]];
    for (rp_filter, want) in [0, 1, 2].into_iter().zip(wants) {
        h.k.net.devs.get_mut(h.dev).unwrap().conf.rp_filter = rp_filter;
        for (src, arrives) in sources.into_iter().zip(want) {
            h.rx(ip(Ipv4Header { src, ..from_peer(IPPROTO_UDP) }, &udp((src, 9), (HOST, 7), b"x")));
            assert_eq!(h.recv(fd).is_ok(), arrives, "{rp_filter} {src}");
        }
    }
    assert_eq!(h.counter(Mib::TcpExtIPReversePathFilter), 3);
    // Weak host model: an address of another device is ours as well.
    let t = Tproxy { dev: out, tcp: None, udp: None };
    h.k.net.ns.get_mut(h.ns).unwrap().tproxy = Some(t);
    let other = h.udp_on(Ipv4Addr::new(10, 7, 0, 1), 7);
    let dst = Ipv4Addr::new(10, 7, 0, 1);
    h.rx(ip(Ipv4Header { dst, ..from_peer(IPPROTO_UDP) }, &udp((PEER, 9), (dst, 7), b"x")));
    assert!(h.recv(other).is_ok());
}

/// ip-route(8): flows part over next hops by their weights, each flow keeps its own.
#[test]
fn several_next_hops_share_a_route() {
    let (mut h, _) = router(1500);
    let other = Ipv4Addr::new(10, 7, 0, 8);
    let line =
        format!("route add 172.16.0.0/16 nexthop via {FAR} dev eth1 weight 3 nexthop via {other} dev eth1 weight 1");
    h.k.ip(h.ns, &line).unwrap();
    assert!(h.k.ip(h.ns, &line).is_err());
    let mut hops = std::collections::BTreeMap::new();
    for n in 0..2000u32 {
        let to = Ipv4Addr::from_bits(0xac10_0000 | n);
        let one = |h: &mut Host| {
            let fl = belljar_kernel::net::ipv4::route::Flow4::to(to);
            belljar_kernel::net::ipv4::route::ip_route_output(&mut h.k.net, h.ns, &fl).unwrap().gateway
        };
        let first = one(&mut h);
        assert_eq!(first, one(&mut h));
        *hops.entry(first).or_insert(0u32) += 1;
    }
    let far = hops.get(&Some(FAR.into())).copied().unwrap_or(0);
    assert!(hops.len() == 2 && (1400..1600).contains(&far), "{hops:?}");
    h.k.ip(h.ns, "route del 172.16.0.0/16").unwrap();
    assert!(h.k.ip(h.ns, "route del 172.16.0.0/16").is_err());
}

/// `fib_multipath_hash_policy` 1: flows between the same hosts part too, by their ports; an ICMP error takes the way of the flow
/// that it is about where ports do not count.
#[test]
fn ports_part_flows_where_they_are_told_to() {
    let (mut h, out) = router(1500);
    let other = Ipv4Addr::new(10, 7, 0, 8);
    let id = belljar_kernel::net::core::neighbour::lookup_or_create(&mut h.k.net, h.ns, out, other.into()).unwrap();
    let how = belljar_kernel::net::core::neighbour::Update { r#override: true, admin: true, weak: false };
    let nud = belljar_kernel::net::core::neighbour::Nud::Permanent;
    belljar_kernel::net::core::neighbour::update(&mut h.k.net, h.ns, id, Mac([2, 0, 0, 0, 7, 8]), nud, how);
    h.k.ip(h.ns, &format!("route add 172.16.0.0/16 nexthop via {FAR} dev eth1 nexthop via {other} dev eth1")).unwrap();
    let to = Ipv4Addr::new(172, 16, 0, 1);
    let through = |h: &mut Host, port: u16| {
        h.rx(ip(Ipv4Header { dst: to, ..from_peer(IPPROTO_UDP) }, &udp((PEER, port), (to, 7), b"x")));
        parse(&h.sent()[0]).0.dst
    };
    let ways = |h: &mut Host| (0..50).map(|p| through(h, p)).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(ways(&mut h), 1);
    assert_eq!(h.k.sysctl_set(h.ns, "net.ipv4.fib_multipath_hash_policy", "4"), Err(belljar_abi::Errno::EINVAL));
    h.sysctl("net.ipv4.fib_multipath_hash_policy", "1");
    assert_eq!(ways(&mut h), 2);
    // The error quotes a packet to somebody behind the same hops: that one's addresses decide.
    h.sysctl("net.ipv4.fib_multipath_hash_policy", "0");
    for n in 0..20u8 {
        let (a, b) = (Ipv4Addr::new(172, 16, 9, n), Ipv4Addr::new(10, 99, 0, 1));
        h.rx(ip(Ipv4Header { src: a, dst: to, ..from_peer(IPPROTO_UDP) }, &udp((a, 9), (to, 7), b"x")));
        let flow = parse(&h.sent()[0]).0.dst;
        let quoted = ip(Ipv4Header { src: a, dst: to, ..from_peer(IPPROTO_UDP) }, &udp((a, 9), (to, 7), b"x")).to_vec();
        let mut m = vec![ICMP_TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0];
        m.extend(&quoted[14..]);
        let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&m, 0));
        m[2..4].copy_from_slice(&sum.to_be_bytes());
        h.rx(ip(Ipv4Header { src: b, dst: a, ..from_peer(IPPROTO_ICMP) }, &m));
        assert_eq!(parse(&h.sent()[0]).0.dst, flow, "{n}");
    }
}

#[test]
fn rules_about_ports_look_into_what_is_forwarded() {
    let (mut h, _) = router(1500);
    let passes = |h: &mut Host, frame| {
        h.rx(frame);
        h.sent().first().is_some_and(|f| parse(f).1.dst == FAR)
    };
    for (line, fits) in [
        ("ipproto udp dport 7 sport 9 prohibit", true),
        ("dport 1-10 prohibit", true),
        ("sport 10-20 prohibit", false),
        ("ipproto tcp prohibit", false),
        ("not ipproto tcp prohibit", true),
        // What is forwarded is root's.
        ("uidrange 0-0 prohibit", true),
        ("uidrange 1-4294967294 prohibit", false),
    ] {
        h.k.ip(h.ns, &format!("rule add pref 9 {line}")).unwrap();
        assert_eq!(passes(&mut h, to_far(from_peer(0), 10)), !fits, "{line}");
        h.k.ip(h.ns, "rule del pref 9").unwrap();
        h.advance(2 * SEC);
    }
    // A piece has no ports, but a protocol.
    h.k.ip(h.ns, "rule add pref 9 dport 7 prohibit").unwrap();
    assert!(passes(&mut h, to_far(Ipv4Header { mf: true, ..from_peer(0) }, 10)));
    // The way back of an answer is asked for with its ports the other way round.
    h.k.ip(h.ns, "rule del pref 9").unwrap();
    h.sysctl("net.ipv4.conf.eth0.rp_filter", "1");
    h.k.ip(h.ns, "rule add pref 9 dport 9 sport 7 blackhole").unwrap();
    h.rx(to_far(from_peer(0), 10));
    assert_eq!(h.sent().len(), 0);
    h.k.ip(h.ns, "rule add pref 8 dport 9 goto 10").unwrap();
    h.k.ip(h.ns, "rule add pref 10 nop").unwrap();
    assert!(passes(&mut h, to_far(from_peer(0), 10)));
}

#[test]
fn rules_see_the_protocol_ports_and_user_of_sockets() {
    use belljar_abi::*;
    use belljar_kernel::task::process::Caps;
    let mut h = Host::new();
    h.know_peer();
    h.k.ip(h.ns, "rule add pref 9 ipproto udp dport 53 prohibit").unwrap();
    h.k.ip(h.ns, "rule add pref 10 ipproto tcp sport 4000-4100 unreachable").unwrap();
    h.k.ip(h.ns, "rule add pref 11 uidrange 1000-1001 blackhole").unwrap();
    let fd = h.udp();
    assert_eq!(h.connect(fd, PEER, 53).unwrap_err(), Errno::EACCES);
    assert_eq!(h.send_to(fd, b"x", PEER, 53).unwrap_err(), Errno::EACCES);
    h.send_to(fd, b"x", PEER, 54).unwrap();
    for (port, ends) in [(4000, Errno::EHOSTUNREACH), (4101, Errno::EINPROGRESS)] {
        let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
        h.bind(fd, Ipv4Addr::UNSPECIFIED, port).unwrap();
        assert_eq!(h.connect(fd, PEER, 53).unwrap_err(), ends, "{port}");
    }
    for (uid, sends) in [(999, true), (1000, false), (1001, false), (1002, true)] {
        let p = h.k.add_process(h.ns, uid, Caps::NONE, 64, "user");
        h.task = h.k.add_task(p, 0).unwrap();
        let fd = h.udp();
        assert_eq!(h.send_to(fd, b"x", PEER, 9).is_ok(), sends, "{uid}");
    }
}

/// `ip neigh add proxy`: one address behind another device, without `proxy_arp`.
#[test]
fn a_router_answers_for_who_is_named() {
    use belljar_wire::arp::{ARPOP_REQUEST, ArpPacket};
    let (mut h, out) = router(1500);
    let ask = |h: &mut Host, who: Ipv4Addr, to: Mac| {
        h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, who, to));
        h.sent().iter().filter_map(|f| ArpPacket::parse(f.head.bytes().get(14..)?).ok()).map(|p| (p.sha, p.spa)).next()
    };
    assert_eq!(ask(&mut h, FAR, HOST_MAC), None);
    h.k.ip(h.ns, "neigh add proxy 10.7.0.9 dev eth0").unwrap();
    assert_eq!(ask(&mut h, FAR, HOST_MAC), Some((HOST_MAC, FAR)));
    assert_eq!(ask(&mut h, Ipv4Addr::new(10, 7, 0, 8), HOST_MAC), None);
    // Asked by all it lets him answer first.
    assert_eq!(ask(&mut h, FAR, Mac::BROADCAST), None);
    h.advance(SEC);
    assert_eq!(h.sent().len(), 1);
    // Not for who is on the same link.
    h.k.ip(h.ns, "neigh add proxy 10.0.2.99 dev eth0").unwrap();
    assert_eq!(ask(&mut h, Ipv4Addr::new(10, 0, 2, 99), HOST_MAC), None);
    let text = h.k.proc_text(h.ns, "/proc/net/arp").unwrap();
    assert!(text.contains("10.7.0.9         0x1         0xc         00:00:00:00:00:00     *        eth0\n"), "{text}");
    h.sysctl("net.ipv4.ip_forward", "0");
    assert_eq!(ask(&mut h, FAR, HOST_MAC), None);
    h.k.set_link(h.dev, false).unwrap();
    assert!(h.k.net.ns.get(h.ns).unwrap().pneighs.of(false).is_empty());
    let _ = out;
}
