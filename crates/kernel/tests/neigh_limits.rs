//! How many neighbours there may be, what the log says of them and of packets that cannot come from there, and what is
//! forgotten when.
mod common;
use belljar_abi::*;
use belljar_kernel::net::core::neighbour::NeighStats;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::Call;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_UDP, Ipv4Header};
use common::*;
use std::net::Ipv4Addr;

fn set(h: &mut Host, key: &str, value: &str) {
    h.k.sysctl_set(h.ns, key, value).unwrap();
}

fn stats(h: &Host) -> NeighStats {
    h.k.net.neigh[0].stats
}

fn log(h: &Host) -> Vec<String> {
    h.k.net.kmsg.lines().map(|(_, line)| line.clone()).collect()
}

fn nth(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, 100 + n)
}

#[test]
fn a_full_table_says_so_and_has_room_again_when_nobody_answered() {
    let mut h = Host::new();
    for (key, value) in [("gc_thresh1", "2"), ("gc_thresh2", "4"), ("gc_thresh3", "6")] {
        set(&mut h, &format!("net.ipv4.neigh.default.{key}"), value);
    }
    let fd = h.udp();
    for n in 0..6 {
        h.send_to(fd, b"x", nth(n), 9).unwrap();
    }
    // All six are being asked for: none may go. A datagram's sender hears of it only if it asked to (IP_RECVERR).
    h.send_to(fd, b"x", nth(6), 9).unwrap();
    h.set(fd, SOL_IP, IP_RECVERR, 1).unwrap();
    assert_eq!(h.send_to(fd, b"x", nth(6), 9), Err(Errno::ENOBUFS));
    let s = stats(&h);
    assert_eq!((s.allocs, s.table_fulls, s.forced_gc_runs), (6, 2, 2));
    let hits = h.k.net.neigh[0].full.unwrap();
    assert_eq!((hits.count, hits.first, hits.last), (2, nth(6).into(), nth(6).into()));
    let counted = [Mib::UdpOutDatagrams, Mib::UdpSndbufErrors, Mib::IpOutDiscards, Mib::IpOutRequests];
    assert_eq!(counted.map(|c| h.counter(c)), [6, 2, 2, 8]);
    assert_eq!(log(&h), ["neighbour: arp_cache: neighbor table overflow!"; 2]);
    for n in 0..20 {
        let _ = h.send_to(fd, b"x", nth(20 + n), 9);
    }
    assert_eq!(log(&h).len(), 10, "net_ratelimit");
    // Nobody answered: after three questions they have failed, and so many go that gc_thresh2 are left.
    h.advance(4 * SEC);
    let fd = h.udp();
    h.send_to(fd, b"x", nth(6), 9).unwrap();
    assert_eq!(h.k.net.neigh[0].entries, 5);
}

/// Linux 6.18: 45 to 55 of two hundred, about hosts of either family; each takes 0 to 2 of 50 tokens.
#[test]
fn errors_about_many_silent_hosts_share_one_budget() {
    let mut h = Host::new();
    let fd = h.udp();
    for n in 20..220 {
        h.send_to(fd, b"x", Ipv4Addr::new(10, 0, 2, n), 9).unwrap();
    }
    h.call(Call::Close { fd }).unwrap();
    h.advance(4 * SEC);
    let [sent, kept, orphans] =
        [Mib::IcmpOutDestUnreachs, Mib::IcmpOutRateLimitGlobal, Mib::IcmpInErrors].map(|c| h.counter(c));
    assert!((30..80).contains(&sent) && kept > 100, "{sent} {kept}");
    assert_eq!(orphans, sent, "whose they are is closed");
    // Many timers at once are one run of the periodic collection.
    assert!(stats(&h).periodic_gc_runs <= 1);
}

#[test]
fn beyond_the_second_threshold_the_oldest_go_every_five_seconds() {
    let mut h = Host::new();
    set(&mut h, "net.ipv4.neigh.default.gc_thresh2", "3");
    for n in 0..5 {
        belljar_kernel::net::core::neighbour::set_permanent(&mut h.k.net, h.ns, h.dev, nth(n).into(), PEER_MAC)
            .unwrap();
    }
    let fd = h.udp();
    // What the administrator made does not count.
    h.send_to(fd, b"x", nth(10), 9).unwrap();
    assert_eq!((stats(&h).forced_gc_runs, h.k.net.neigh[0].entries), (0, 6));
}

#[test]
fn asked_again_by_everybody_only_if_told_to() {
    for (again, questions) in [("0", 3), ("2", 5)] {
        let mut h = Host::new();
        set(&mut h, "net.ipv4.neigh.default.mcast_resolicit", again);
        h.know_peer();
        h.advance(60 * SEC);
        let fd = h.udp();
        h.send_to(fd, b"x", PEER, 9).unwrap();
        h.sent();
        h.advance(15 * SEC);
        assert_eq!(h.sent().len(), questions);
    }
}

/// Measured on 6.18 with the same packets.
#[test]
fn martians_are_logged_with_their_link_header() {
    let mut h = Host::new();
    set(&mut h, "net.ipv4.conf.eth0.log_martians", "1");
    set(&mut h, "net.ipv4.icmp_ignore_bogus_error_responses", "0");
    let from = |h: &mut Host, src: [u8; 4], dst: [u8; 4]| {
        let header = Ipv4Header { src: src.into(), dst: dst.into(), ..from_peer(IPPROTO_UDP) };
        h.rx(ip(header, &[0; 8]));
    };
    let us = HOST.octets();
    from(&mut h, [127, 0, 0, 1], us);
    from(&mut h, us, us);
    from(&mut h, PEER.octets(), [127, 0, 0, 1]);
    // Since Linux 5.3 an address like any.
    from(&mut h, PEER.octets(), [0, 1, 2, 3]);
    from(&mut h, us, [224, 0, 0, 1]);
    let quoted = Ipv4Header { src: HOST, dst: Ipv4Addr::new(10, 0, 2, 255), total_len: 28, ..from_peer(IPPROTO_UDP) };
    let mut error = vec![ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0, 0, 0, 0, 0, 0];
    error.resize(36, 0);
    quoted.emit(&mut error[8..28]);
    let csum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&error, 0));
    error[2..4].copy_from_slice(&csum.to_be_bytes());
    h.rx(ip(from_peer(IPPROTO_ICMP), &error));
    let header = "ll header: 00000000: ";
    let lines: Vec<String> =
        log(&h).iter().map(|l| if l.starts_with(header) { "header".into() } else { l.clone() }).collect();
    assert_eq!(
        lines,
        [
            format!("IPv4: martian source {HOST} from 127.0.0.1, on dev eth0"),
            "header".into(),
            format!("IPv4: martian source {HOST} from {HOST}, on dev eth0"),
            "header".into(),
            format!("IPv4: martian destination 127.0.0.1 from {PEER}, dev eth0"),
            format!("icmp: {PEER} sent an invalid ICMP type 3, code 1 error to a broadcast: 10.0.2.255 on eth0"),
        ]
    );
    let bytes = log(&h)[1].strip_prefix(header).unwrap().split(' ').count();
    assert_eq!(bytes, 14);
}

#[test]
fn a_router_believes_in_a_narrow_path_only_if_told_to() {
    for (setting, mtu) in [("0", 1500), ("1", 1000)] {
        let mut h = Host::new();
        set(&mut h, "net.ipv4.ip_forward_use_pmtu", setting);
        set(&mut h, "net.ipv4.ip_forward", "1");
        let to = Ipv4Addr::new(10, 0, 2, 77);
        belljar_kernel::net::ipv4::route::update_pmtu(&mut h.k.net, h.ns, to, 1000);
        let keys = belljar_kernel::net::ipv4::rule::HashKeys::default();
        let (ns, dev) = (h.ns, h.dev);
        let way = |h: &mut Host| {
            belljar_kernel::net::ipv4::route::ip_route_input(&mut h.k.net, ns, dev, PEER, to, IPPROTO_UDP, keys)
                .unwrap()
        };
        assert_eq!(way(&mut h).mtu, mtu);
        set(&mut h, "net.ipv4.route.flush", "1");
        assert_eq!(way(&mut h).mtu, 1500);
    }
}
