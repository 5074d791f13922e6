//! IPv4 and below: frames in, frames out.
mod common;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_wire::arp::*;
use belljar_wire::ethernet::{EthHeader, Mac};
use belljar_wire::gso;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_UDP, Ipv4Header};
use common::*;
use std::net::Ipv4Addr;

#[test]
fn a_request_for_our_address_is_answered_and_the_asker_remembered() {
    let mut h = Host::new();
    h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, HOST, Mac::BROADCAST));
    let out = h.sent();
    assert_eq!(out.len(), 1);
    let b = out[0].to_vec();
    assert_eq!(EthHeader::parse(&b).unwrap().dst, PEER_MAC);
    let reply = ArpPacket { op: ARPOP_REPLY, sha: HOST_MAC, spa: HOST, tha: PEER_MAC, tpa: PEER };
    assert_eq!(ArpPacket::parse(&b[14..]).unwrap(), reply);
    h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, PEER, Mac::BROADCAST));
    assert!(h.sent().is_empty());
}

#[test]
fn ping_comes_back_with_its_payload() {
    let mut h = Host::new();
    h.know_peer();
    let payload: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    h.rx(ip(from_peer(IPPROTO_ICMP), &echo(7, 1, &payload)));
    let out = h.sent();
    assert_eq!(out.len(), 1);
    let (eth, ip, body) = parse(&out[0]);
    assert_eq!((eth.dst, ip.src, ip.dst, ip.ttl), (PEER_MAC, HOST, PEER, 64));
    let icmp = IcmpHeader::parse(&body).unwrap();
    assert_eq!((icmp.kind, icmp.echo(), &body[8..]), (ICMP_ECHOREPLY, (7, 1), &payload[..]));
    gso::verify(&out[0]).unwrap();
    assert_eq!((h.counter(Mib::IcmpInEchos), h.counter(Mib::IcmpOutEchoReps)), (1, 1));
}

#[test]
fn a_datagram_waits_for_arp_and_then_goes_to_the_gateway() {
    let mut h = Host::new();
    let fd = h.udp();
    h.send_to(fd, b"hello", std::net::Ipv4Addr::new(8, 8, 8, 8), 53).unwrap();
    let ask = h.sent();
    assert_eq!(ArpPacket::parse(&ask[0].to_vec()[14..]).unwrap().tpa, PEER);
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    let out = h.sent();
    let (eth, ip, body) = parse(&out[0]);
    assert_eq!(
        (eth.dst, ip.proto, ip.df, ip.dst.octets()[0], &body[8..]),
        (PEER_MAC, IPPROTO_UDP, true, 8, &b"hello"[..])
    );
}

#[test]
fn nobody_answers_arp_three_questions_and_the_socket_hears_of_it() {
    let mut h = Host::new();
    let fd = h.udp();
    h.set(fd, SOL_IP, IP_RECVERR, 1).unwrap();
    h.connect(fd, PEER, 9).unwrap();
    h.send(fd, b"x").unwrap();
    h.advance(4 * SEC);
    assert_eq!(h.sent().len(), 3);
    assert_eq!(h.send(fd, b"y"), Err(Errno::EHOSTUNREACH));
    let e = h.recv_flags(fd, 100, MSG_ERRQUEUE).unwrap();
    assert_eq!((e.cmsgs[0].data[0] as i32, e.cmsgs[0].data[4]), (Errno::EHOSTUNREACH.0, 2));
}

/// (total length, fragment offset, more fragments, don't fragment) of what left.
fn cuts(h: &mut Host) -> Vec<(u16, u16, bool, bool)> {
    h.sent().iter().map(|f| parse(f).1).map(|ip| (ip.total_len, ip.frag_off, ip.mf, ip.df)).collect()
}

#[test]
fn what_fits_goes_with_df_and_what_does_not_is_cut() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp();
    h.send_to(fd, &[1; 1472], PEER, 9).unwrap();
    assert_eq!(cuts(&mut h), [(1500, 0, false, true)]);
    h.send_to(fd, &[1; 1473], PEER, 9).unwrap();
    assert_eq!(cuts(&mut h), [(1500, 0, true, false), (21, 1480, false, false)]);
    h.send_to(fd, &[1; 4000], PEER, 9).unwrap();
    let want = [(1500, 0, true, false), (1500, 1480, true, false), (1068, 2960, false, false)];
    assert_eq!(cuts(&mut h), want);
    h.send_to(fd, &[1; 65_507], PEER, 9).unwrap();
    assert_eq!(h.sent().len(), 45);
    assert_eq!(h.send_to(fd, &[1; 65_508], PEER, 9), Err(Errno::EMSGSIZE));
    h.set(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT).unwrap();
    h.send_to(fd, &[1; 100], PEER, 9).unwrap();
    assert_eq!(cuts(&mut h), [(128, 0, false, false)]);
    h.set(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO).unwrap();
    assert_eq!(h.send_to(fd, &[1; 1473], PEER, 9), Err(Errno::EMSGSIZE));
    assert!(h.sent().is_empty());
}

/// A datagram of `n` bytes from the peer to port 7, and its fragments of 8 * `units` bytes.
fn fragments(n: usize, units: usize, id: u16) -> Vec<(Ipv4Header, Vec<u8>)> {
    let payload: Vec<u8> = (0..n).map(|i| (i / 3) as u8).collect();
    let whole = udp((PEER, 9), (HOST, 7), &payload);
    let count = whole.chunks(units * 8).len();
    whole
        .chunks(units * 8)
        .enumerate()
        .map(|(i, c)| {
            let frag_off = (i * units * 8) as u16;
            (Ipv4Header { id, mf: i + 1 < count, frag_off, ..from_peer(IPPROTO_UDP) }, c.to_vec())
        })
        .collect()
}

#[test]
fn fragments_in_any_order_and_twice_make_a_datagram() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(HOST, 7);
    let parts = fragments(4000, 100, 1);
    for i in [5, 0, 3, 3, 1, 4, 2] {
        h.rx(ip(parts[i].0, &parts[i].1));
    }
    let want: Vec<u8> = (0..4000).map(|i| (i / 3) as u8).collect();
    assert_eq!(h.recv(fd).unwrap().0, want);
    assert_eq!((h.counter(Mib::IpReasmOKs), h.counter(Mib::IpReasmReqds), h.counter(Mib::IpReasmFails)), (1, 7, 0));
    assert_eq!(h.k.net.ns.get(h.ns).unwrap().frag_table.bytes, 0);
}

#[test]
fn an_overlap_ends_the_datagram() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(HOST, 7);
    let parts = fragments(400, 10, 1);
    h.rx(ip(parts[0].0, &parts[0].1));
    h.rx(ip(Ipv4Header { frag_off: 72, ..parts[1].0 }, &parts[1].1));
    parts[1..].iter().for_each(|(i, p)| h.rx(ip(*i, p)));
    assert_eq!(h.recv(fd), Err(Errno::EAGAIN));
    assert_eq!((h.counter(Mib::IpReasmFails), h.counter(Mib::IpExtReasmOverlaps)), (1, 1));
}

#[test]
fn a_hole_is_told_after_30_seconds() {
    let mut h = Host::new();
    h.know_peer();
    let parts = fragments(400, 10, 1);
    h.rx(ip(parts[0].0, &parts[0].1));
    h.rx(ip(parts[2].0, &parts[2].1));
    h.advance(29 * SEC);
    assert!(h.sent().is_empty());
    h.advance(2 * SEC);
    // The peer's address was forgotten to be fresh: a probe may stand beside it.
    let icmp: Vec<_> = h.sent().into_iter().filter(|f| f.to_vec()[12..14] == [8, 0]).collect();
    let (_, _, body) = parse(&icmp[0]);
    assert_eq!((icmp.len(), body[0], body[1]), (1, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME));
    assert_eq!(h.counter(Mib::IpReasmTimeout), 1);
}

#[test]
fn six_errors_at_once_and_one_a_second() {
    let mut h = Host::new();
    h.know_peer();
    let knock = |h: &mut Host| {
        (0..200).for_each(|_| h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"x"))));
        h.sent().len()
    };
    assert_eq!(knock(&mut h), 6);
    h.advance(SEC);
    assert_eq!(knock(&mut h), 1);
    let echoes = (0..200).map(|i| h.rx(ip(from_peer(IPPROTO_ICMP), &echo(1, i, b"")))).count();
    assert_eq!((echoes, h.sent().len()), (200, 200));
    assert!(h.counter(Mib::IcmpOutRateLimitHost) + h.counter(Mib::IcmpOutRateLimitGlobal) >= 390);
    // Among ourselves there is no limit.
    let fd = h.udp();
    for _ in 0..200 {
        h.send_to(fd, b"x", LO, 9).unwrap();
    }
    assert_eq!(h.counter(Mib::IcmpInDestUnreachs), 200);
}

#[test]
fn martians_and_what_is_not_for_us() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(Ipv4Addr::UNSPECIFIED, 7);
    let far = Ipv4Addr::new(9, 9, 9, 9);
    let mut arrives = |src: Ipv4Addr, dst: Ipv4Addr| {
        h.rx(ip(Ipv4Header { src, dst, ..from_peer(IPPROTO_UDP) }, &udp((src, 9), (dst, 7), b"x")));
        h.recv(fd).is_ok()
    };
    assert!(arrives(PEER, HOST) && arrives(far, HOST));
    for src in [HOST, LO, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 5)] {
        assert!(!arrives(src, HOST), "{src}");
    }
    assert!(!arrives(PEER, LO) && !arrives(PEER, far));
    assert!(arrives(PEER, Ipv4Addr::BROADCAST) && arrives(PEER, Ipv4Addr::new(10, 0, 2, 255)));
    assert!(arrives(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!(h.counter(Mib::IpInAddrErrors), 1);
    assert!(h.sent().is_empty());
    h.k.net.devs.get_mut(h.dev).unwrap().conf.rp_filter = 1;
    let n = h.k.net.devs.get_mut(h.dev).unwrap();
    n.conf.route_localnet = true;
    let arrived = udp((PEER, 9), (LO, 7), b"x");
    h.rx(ip(Ipv4Header { dst: LO, ..from_peer(IPPROTO_UDP) }, &arrived));
    assert!(h.recv(fd).is_ok());
}

#[test]
fn broken_headers_are_counted() {
    let mut h = Host::new();
    let good = ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"x")).to_vec();
    let mut with = |at: usize, v: u8| {
        let mut b = good.clone();
        b[at] = v;
        h.rx(belljar_wire::Frame::from_bytes(&b, 0));
    };
    with(14, 0x65); // version
    with(14, 0x44); // header length
    with(24, 0x55); // checksum
    with(17, 200); // longer than the frame, and the checksum fails first
    assert_eq!((h.counter(Mib::IpInHdrErrors), h.counter(Mib::IpExtInCsumErrors)), (4, 2));
    for n in 0..good.len() - 1 {
        h.rx(belljar_wire::Frame::from_bytes(&good[..n], 0));
    }
    assert_eq!(h.counter(Mib::UdpNoPorts), 0);
}

#[test]
fn a_narrower_path_is_remembered_by_all_sockets() {
    let mut h = Host::new();
    h.know_peer();
    let far = Ipv4Addr::new(8, 8, 8, 8);
    let fd = h.udp();
    h.connect(fd, far, 53).unwrap();
    h.send(fd, &[0; 1450]).unwrap();
    let (_, _, body) = parse(&h.sent()[0]);
    // A router beyond the peer quotes it.
    let quoted = ip(Ipv4Header { src: HOST, dst: far, df: true, ..from_peer(IPPROTO_UDP) }, &body).to_vec();
    let mut icmp = vec![ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 0, 0, 0, 0, 5, 120];
    icmp.extend_from_slice(&quoted[14..14 + 60]);
    let csum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&icmp, 0));
    icmp[2..4].copy_from_slice(&csum.to_be_bytes());
    h.rx(ip(from_peer(IPPROTO_ICMP), &icmp));
    assert_eq!(h.get(fd, SOL_IP, IP_MTU), 1400);
    assert_eq!(h.send(fd, &[0; 1450]), Err(Errno::EMSGSIZE));
    h.send(fd, &[0; 1450]).unwrap();
    assert_eq!(cuts(&mut h), [(1396, 0, true, false), (102, 1376, false, false)]);
    let other = h.udp();
    h.connect(other, far, 99).unwrap();
    assert_eq!(h.get(other, SOL_IP, IP_MTU), 1400);
    h.advance(601 * SEC);
    h.sent();
    h.send(fd, &[0; 1450]).unwrap();
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    assert!(cuts(&mut h).contains(&(1478, 0, false, true)));
    let third = h.udp();
    h.connect(third, far, 99).unwrap();
    assert_eq!(h.get(third, SOL_IP, IP_MTU), 1500);
}

#[test]
fn routes_by_kind() {
    let mut h = Host::new();
    let fd = h.udp();
    let to = |h: &mut Host, a: &str| h.connect(fd, a.parse().unwrap(), 9).map(|_| ());
    use belljar_kernel::net::ipv4::fib::{Route, RouteType};
    for (dst, kind) in [(1, RouteType::Unreachable), (2, RouteType::Blackhole), (3, RouteType::Prohibit)] {
        h.k.net.add_route(h.ns, Ipv4Addr::new(10, 9, dst, 0), 24, Route::refusing(kind)).unwrap();
    }
    assert_eq!(to(&mut h, "10.9.1.1"), Err(Errno::EHOSTUNREACH));
    assert_eq!(to(&mut h, "10.9.2.1"), Err(Errno::EINVAL));
    assert_eq!(to(&mut h, "10.9.3.1"), Err(Errno::EACCES));
    assert_eq!(to(&mut h, "255.255.255.255"), Err(Errno::EACCES));
    assert_eq!(to(&mut h, "10.0.2.255"), Err(Errno::EACCES));
    // Our own address goes through lo.
    let server = h.udp_on(HOST, 7);
    let own = h.udp();
    h.send_to(own, b"me", HOST, 7).unwrap();
    assert_eq!(h.recv(server).unwrap().0, b"me");
    assert!(h.sent().is_empty());
    h.k.net.del_route(h.ns, Ipv4Addr::UNSPECIFIED, 0, None).unwrap();
    assert_eq!(to(&mut h, "8.8.8.8"), Err(Errno::ENETUNREACH));
}

/// The state of the peer's entry.
fn nud(h: &Host) -> Option<&'static str> {
    let n = h.k.net.ns.get(h.ns)?;
    Some(n.neighs.get(n.neigh_table.get(h.dev, PEER.into())?)?.state.name())
}

#[test]
fn a_neighbour_goes_stale_is_probed_and_comes_back() {
    let mut h = Host::new();
    h.know_peer();
    assert_eq!(nud(&h), Some("REACHABLE"));
    h.advance(60 * SEC);
    assert_eq!((nud(&h), h.sent().len()), (Some("STALE"), 0));
    let fd = h.udp();
    h.send_to(fd, b"x", PEER, 9).unwrap();
    assert_eq!((nud(&h), h.sent().len()), (Some("DELAY"), 1));
    h.advance(5 * SEC + 100 * MS);
    let probes = h.sent();
    assert_eq!((nud(&h), probes.len()), (Some("PROBE"), 1));
    assert_eq!(EthHeader::parse(&probes[0].to_vec()).unwrap().dst, PEER_MAC);
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    assert_eq!(nud(&h), Some("REACHABLE"));
    h.advance(60 * SEC);
    h.sent();
    h.send_to(fd, b"x", PEER, 9).unwrap();
    h.advance(10 * SEC);
    assert_eq!((nud(&h), h.sent().len()), (Some("FAILED"), 4));
}

#[test]
fn only_so_much_waits_for_an_answer() {
    for (len, kept) in [(10, 256), (1400, 92)] {
        let mut h = Host::new();
        let fd = h.udp();
        h.set(fd, SOL_SOCKET, SO_SNDBUF, 1 << 20).unwrap();
        for _ in 0..300 {
            h.send_to(fd, &vec![0; len], PEER, 9).unwrap();
        }
        h.sent();
        h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
        assert_eq!(h.sent().len(), kept);
    }
}

#[test]
fn which_arp_packets_change_what_is_known() {
    let mut h = Host::new();
    let x = Mac([2, 0, 0, 0, 0, 0x77]);
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, PEER, Mac::BROADCAST));
    assert_eq!(nud(&h), None);
    h.know_peer();
    h.advance(1500 * MS);
    h.rx(arp(ARPOP_REQUEST, x, PEER, Mac::ZERO, PEER, Mac::BROADCAST));
    assert_eq!(nud(&h), Some("STALE"));
    let mac = |h: &Host| {
        let n = h.k.net.ns.get(h.ns).unwrap();
        n.neighs.get(n.neigh_table.get(h.dev, PEER.into()).unwrap()).unwrap().mac
    };
    assert_eq!(mac(&h), x);
    // Within a second of that, an unsolicited reply is not believed.
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    assert_eq!(mac(&h), x);
    h.advance(1500 * MS);
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    assert_eq!((mac(&h), nud(&h)), (PEER_MAC, Some("REACHABLE")));
    // A probe for our address is answered and leaves nothing behind.
    h.sent();
    h.rx(arp(ARPOP_REQUEST, x, Ipv4Addr::UNSPECIFIED, Mac::ZERO, HOST, Mac::BROADCAST));
    assert_eq!(h.sent().len(), 1);
    h.rx(arp(ARPOP_REQUEST, x, HOST, Mac::ZERO, HOST, Mac::BROADCAST));
    assert!(h.sent().is_empty());
}
