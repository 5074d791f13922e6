//! Packets in packets: ipip, gre, gretap, sit.
mod world;

use belljar_abi::Errno;
use belljar_abi::rtnetlink::*;
use belljar_kernel::drivers::tunnel::{GRE_CSUM, GRE_KEY, GRE_SEQ};
use belljar_kernel::env::trace::Dir;
use belljar_wire::ipv4::Ipv4Header;
use world::*;

/// 192.0.2.1 and 192.0.2.2 on a pair of devices.
fn world() -> World {
    let mut w = World::new(2);
    w.veth((0, "e"), (1, "e"));
    for n in 0..2 {
        w.up(n, "e");
        w.addr(n, "e", [192, 0, 2, n as u8 + 1]);
    }
    w.up(0, "e");
    assert!(w.reaches(0, 1, [192, 0, 2, 2]));
    w
}

fn is_gre(kind: &str) -> bool {
    kind.starts_with("gre")
}

/// The ends of the tunnel of namespace `n`.
fn ends(kind: &str, n: usize) -> Vec<Attr> {
    let here = vec![192, 0, 2, n as u8 + 1];
    let there = vec![192, 0, 2, 2 - n as u8];
    match is_gre(kind) {
        true => vec![(IFLA_GRE_LOCAL, here), (IFLA_GRE_REMOTE, there)],
        false => vec![(IFLA_IPTUN_LOCAL, here), (IFLA_IPTUN_REMOTE, there)],
    }
}

fn tunnel(w: &mut World, n: usize, kind: &str, more: &[Attr]) {
    let mut data = ends(kind, n);
    data.extend(more.iter().cloned());
    assert_eq!(w.add(n, "t", kind, &[], &data), (0, String::new()), "{kind}");
    w.up(n, "t");
    w.addr(n, "t", [10, 0, 0, n as u8 + 1]);
}

fn both(kind: &str, more: &[Attr]) -> World {
    let mut w = world();
    for n in 0..2 {
        tunnel(&mut w, n, kind, more);
    }
    w
}

fn flags(f: u16) -> Vec<Attr> {
    vec![(IFLA_GRE_IFLAGS, f.to_be_bytes().to_vec()), (IFLA_GRE_OFLAGS, f.to_be_bytes().to_vec())]
}

fn key(k: u32) -> Vec<Attr> {
    [(IFLA_GRE_IKEY, k.to_be_bytes().to_vec()), (IFLA_GRE_OKEY, k.to_be_bytes().to_vec())].into()
}

/// What went out by the device below, without its Ethernet header.
fn outer(w: &mut World, n: usize) -> Vec<Vec<u8>> {
    w.frames(n, "e", Dir::Out).into_iter().filter(|f| f[12..14] == [8, 0]).map(|f| f[14..].to_vec()).collect()
}

const THERE: [u8; 4] = [10, 0, 0, 2];

#[test]
fn packets_travel_in_packets_and_count_without_what_wraps_them() {
    for (kind, mtu, proto, wraps) in [("ipip", 1480, 4, 20), ("gre", 1476, 47, 24), ("gretap", 1462, 47, 38)] {
        let mut w = both(kind, &[]);
        assert_eq!(w.d(0, "t").mtu, mtu, "{kind}");
        assert!(w.reaches(0, 1, THERE), "{kind}");
        w.watch();
        let before = [w.d(0, "t").stats, w.d(1, "t").stats];
        assert!(w.reaches(0, 1, THERE));
        let sent = outer(&mut w, 0);
        // 20 + 8 + 16 bytes inside.
        assert_eq!((sent.len(), sent[0].len(), sent[0][9]), (1, 44 + wraps, proto), "{kind}");
        // Its TTL, and no fragments.
        assert_eq!((sent[0][8], sent[0][6]), (64, 0x40));
        let (a, b) = (w.d(0, "t").stats, w.d(1, "t").stats);
        assert_eq!((a.tx_packets - before[0].tx_packets, a.tx_bytes - before[0].tx_bytes), (1, 44));
        let frame = if kind == "gretap" { 14 } else { 0 };
        assert_eq!((b.rx_packets - before[1].rx_packets, b.rx_bytes - before[1].rx_bytes), (1, 44 + frame));
    }
}

#[test]
fn keys_checksums_and_numbers_of_gre() {
    let all = [flags(GRE_KEY | GRE_CSUM | GRE_SEQ), key(7)].concat();
    let mut w = both("gre", &all);
    assert_eq!(w.d(0, "t").mtu, 1500 - 20 - 16);
    assert!(w.reaches(0, 1, THERE));
    w.watch();
    assert!(w.reaches(0, 1, THERE));
    let g = &outer(&mut w, 0)[0][20..];
    assert_eq!(g[..4], [0xb0, 0, 8, 0]);
    assert_eq!((&g[8..12], &g[12..16]), (&[0, 0, 0, 7][..], &[0, 0, 0, 1][..]));
    // Another key is another tunnel, which nobody has there.
    let other = [flags(GRE_KEY | GRE_CSUM | GRE_SEQ), key(8)].concat();
    assert_eq!(w.set_kind(0, "t", "gre", &[ends("gre", 0), other].concat()).0, 0);
    w.watch();
    assert!(!w.reaches(0, 1, THERE));
    assert!(w.drops().contains(&("NOT_SPECIFIED", "gre_rcv")));
    // One that wants a checksum takes nothing without, nor what comes out of order.
    for (f, crc, fifo) in [(GRE_KEY | GRE_SEQ, 1, 0), (GRE_KEY | GRE_CSUM, 0, 1)] {
        let mut w = both("gre", &all);
        let now = [flags(f), key(7)].concat();
        assert_eq!(w.set_kind(0, "t", "gre", &[ends("gre", 0), now].concat()).0, 0);
        assert!(!w.reaches(0, 1, THERE));
        let s = w.d(1, "t").stats;
        assert_eq!((s.rx_errors, s.rx_crc, s.rx_fifo), (1, crc, fifo));
    }
}

#[test]
fn what_is_too_long_is_told_to_its_sender() {
    let mut w = both("ipip", &[]);
    let (from, to) = (w.udp(0, 0), w.udp(1, 7000));
    // The device's MTU cuts it; each piece goes in a packet of its own.
    w.watch();
    w.send(0, from, &[0; 1460], THERE, 7000).unwrap();
    assert_eq!(w.recv(1, to).unwrap().len(), 1460);
    let sent = outer(&mut w, 0);
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1496, 52]);
    // The way is narrower than the device: the sender learns it, and then cuts.
    let dev = w.dev(0, "e");
    w.k.net.set_mtu(dev, 1000).unwrap();
    let sizes: Vec<bool> =
        (0..2).map(|_| w.send(0, from, &[0; 1200], THERE, 7000).is_ok() && w.recv(1, to).is_ok()).collect();
    assert_eq!(sizes, [false, true]);
}

#[test]
fn without_path_mtu_discovery_the_packet_outside_is_cut() {
    let mut w = both("ipip", &[a8(IFLA_IPTUN_PMTUDISC, 0)]);
    let to = w.udp(1, 7000);
    let dev = w.dev(0, "e");
    w.k.net.set_mtu(dev, 1000).unwrap();
    w.watch();
    // A datagram that may be cut, without a checksum.
    let mut packet = vec![0; 28 + 1200];
    let (src, dst) = ([10, 0, 0, 1].into(), THERE.into());
    let total_len = packet.len() as u16;
    Ipv4Header { ihl_bytes: 20, total_len, ttl: 64, proto: 17, src, dst, ..Ipv4Header::default() }.emit(&mut packet);
    packet[20..26].copy_from_slice(&[0, 9, 7000u16.to_be_bytes()[0], 7000u16.to_be_bytes()[1], 4, 0xb8]);
    w.inject(0, "t", &packet);
    assert_eq!(w.recv(1, to).unwrap().len(), 1200);
    let sent = outer(&mut w, 0);
    assert_eq!(sent.iter().map(|p| (p.len(), p[6] & 0x60)).collect::<Vec<_>>(), [(996, 0x20), (272, 0)]);
}

#[test]
fn ipv6_goes_in_sit() {
    let mut w = world();
    for n in 0..2 {
        assert_eq!(w.add(n, "t", "sit", &[], &ends("sit", n)), (0, String::new()));
        let ns = w.ns(n);
        w.k.net.enable_ipv6(ns);
        w.up(n, "t");
        let dev = w.dev(n, "t");
        let addr = core::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n as u16 + 1);
        w.k.net.add_address6(dev, addr, 64, true).unwrap();
    }
    w.settle();
    assert_eq!(w.d(0, "t").mtu, 1480);
    w.watch();
    // An echo request by hand: 40 + 8 bytes.
    let mut echo = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 9]].concat();
    for n in [1, 2] {
        echo.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
    }
    let sum = {
        let words = [0xfd00u32, 1, 0xfd00, 2, 8, 58, 0x8000, 0, 1];
        let s: u32 = words.iter().sum();
        !((s & 0xffff) + (s >> 16)) as u16
    };
    echo.extend([0x80, 0]);
    echo.extend(sum.to_be_bytes());
    echo.extend([0, 0, 0, 1]);
    w.inject(0, "t", &echo[14..]);
    let there: Vec<_> = w.taps(Dir::Out).into_iter().filter(|t| t.1 == "e").collect();
    assert_eq!(there.iter().map(|t| (t.0, t.2[23], t.2.len())).collect::<Vec<_>>(), [(0, 41, 82), (1, 41, 82)]);
    // Its hop limit is the TTL outside.
    assert_eq!((there[0].2[22], there[1].2[14 + 20 + 40]), (9, 129));
}

#[test]
fn times_to_live_and_types_of_service() {
    let mut w = both("gre", &[a8(IFLA_GRE_TTL, 33), a8(IFLA_GRE_TOS, 0x10)]);
    w.watch();
    assert!(w.reaches(0, 1, THERE));
    let sent = outer(&mut w, 0);
    assert_eq!((sent[0][1], sent[0][8]), (0x10, 33));
    assert_eq!(find(&w.info(0, "t"), IFLA_GRE_TTL), [33]);
}

#[test]
fn errors_of_the_way_are_told() {
    let mut w = both("ipip", &[]);
    // Nobody takes such packets there any more.
    let dev = w.dev(1, "t");
    w.k.net.unregister_netdev(dev);
    let from = w.udp(0, 0);
    w.watch();
    w.send(0, from, b"x", THERE, 7).unwrap();
    assert!(w.drops().contains(&("IP_NOPROTO", "ip_protocol_deliver")));
    w.send(0, from, b"x", THERE, 7).unwrap();
    let to_lo = w.k.net.ns.get(w.ns(0)).unwrap().mib.get(belljar_kernel::net::mib::Mib::IcmpInDestUnreachs);
    // The error of the other end, and what the tunnel made of it for its own sender.
    assert_eq!(to_lo, 3);
}

#[test]
fn what_is_refused() {
    let mut w = world();
    assert_eq!(w.add(0, "t", "gre", &[], &ends("gre", 0)).0, 0);
    for (kind, data, errno) in [
        ("gre", ends("gre", 0), Errno::EEXIST),
        ("gre", flags(0x4000), Errno::EINVAL),
        ("gretap", vec![(IFLA_GRE_REMOTE, vec![0; 4])], Errno::EINVAL),
        ("gre", vec![(IFLA_GRE_REMOTE, vec![239, 0, 0, 1])], Errno::EOPNOTSUPP),
        ("gre", vec![a16(IFLA_GRE_ENCAP_TYPE, 1)], Errno::EOPNOTSUPP),
        ("ipip", vec![a8(IFLA_IPTUN_PROTO, 137)], Errno::EINVAL),
        ("ip6tnl", vec![], Errno::EOPNOTSUPP),
    ] {
        assert_eq!(w.add(0, "t2", kind, &[], &data).0, errno.0, "{kind}");
    }
    // The same ends for frames are another tunnel, and with a key.
    assert_eq!(w.add(0, "t3", "gretap", &[], &ends("gre", 0)).0, 0);
    assert_eq!(w.add(0, "t4", "gre", &[], &[ends("gre", 0), flags(GRE_KEY), key(1)].concat()).0, 0);
    let d = w.d(0, "t");
    assert_eq!((d.flags() & 0x90, w.d(0, "t3").flags() & 0x1092), (0x90, 0x1002));
    // A tunnel whose way leads into itself sends nothing.
    w.up(0, "t");
    w.addr(0, "t", [10, 0, 0, 1]);
    let dev = w.dev(0, "e");
    w.k.net.unregister_netdev(dev);
    let (ns, t) = (w.ns(0), w.dev(0, "t"));
    w.k.net.add_address(t, [192, 0, 2, 1].into(), 24).unwrap();
    let from = w.udp(0, 0);
    let _ = w.send(0, from, b"x", THERE, 7);
    let s = w.d(0, "t").stats;
    assert_eq!((s.tx_errors, s.collisions), (1, 1));
    assert!(w.k.net.ns.get(ns).is_some());
}

#[test]
fn tunnels_in_tunnels_end() {
    let mut w = world();
    // Each goes to the address of the one before; the last one's way leads through all others.
    for n in 0..12u8 {
        let (local, remote) = if n == 0 { ([192, 0, 2, 1], [192, 0, 2, 2]) } else { ([10, n, 0, 1], [10, n, 0, 2]) };
        let data = [(IFLA_GRE_LOCAL, local.to_vec()), (IFLA_GRE_REMOTE, remote.to_vec())];
        assert_eq!(w.add(0, &format!("g{n}"), "gre", &[], &data), (0, String::new()));
        w.up(0, &format!("g{n}"));
        w.addr(0, &format!("g{n}"), [10, n + 1, 0, 1]);
    }
    let from = w.udp(0, 0);
    w.watch();
    w.send(0, from, b"x", [10, 3, 0, 2], 7).unwrap();
    let sent = outer(&mut w, 0);
    // A header and GRE's for each of three.
    assert_eq!((sent.len(), sent[0].len()), (1, 29 + 3 * 24));
    let _ = w.send(0, from, b"x", [10, 12, 0, 2], 7);
    let all: u64 = (0..12).map(|n| w.d(0, &format!("g{n}")).stats.tx_errors).sum();
    assert_eq!(all, 1, "at the depth where it ends");
    assert!(outer(&mut w, 0).is_empty());
}

#[test]
fn rubbish_in_tunnels() {
    for kind in ["ipip", "gre", "gretap", "sit"] {
        let mut w = both(kind, &[]);
        let mut rng = belljar_kernel::env::Rng::new(3);
        let proto = if is_gre(kind) { 47 } else { [4, 41][usize::from(kind == "sit")] };
        for n in 0..600u32 {
            let len = 20 + rng.below(90) as usize;
            let mut packet: Vec<u8> = (0..len).map(|_| rng.below(256) as u8).collect();
            let (src, dst) = ([192, 0, 2, 2].into(), [192, 0, 2, 1].into());
            let total_len = len as u16;
            let tos = rng.below(256) as u8;
            Ipv4Header { ihl_bytes: 20, total_len, ttl: 9, tos, proto, src, dst, ..Ipv4Header::default() }
                .emit(&mut packet);
            if is_gre(kind) && len > 24 {
                // Mostly a header that is understood.
                let (flags, inside) = (
                    [0, 0xb0, 0x80, 0x20][rng.below(4) as usize],
                    [[8, 0], [0x65, 0x58], [0x86, 0xdd]][rng.below(3) as usize],
                );
                packet[20..24].copy_from_slice(&[flags, 0, inside[0], inside[1]]);
            }
            let mac = w.d(0, "e").mac.0;
            let frame = [&mac[..], &[2, 0, 0, 0, 0, 9, 8, 0], &packet].concat();
            w.inject(1, "e", &frame);
            // What goes in is as strange.
            if n % 3 == 0 {
                w.inject(0, "t", &packet[..20 + rng.below(len as u32 - 19) as usize]);
            }
        }
        w.advance(1_000_000_000);
        assert!(w.d(0, "t").stats.rx_errors + w.d(0, "t").stats.rx_packets > 0, "{kind}");
    }
}

#[test]
fn link_local_addresses_are_made_of_the_local_one() {
    let mut w = world();
    for (name, kind) in [("i", "ipip"), ("g", "gre"), ("s", "sit")] {
        let ns = w.ns(0);
        w.k.net.enable_ipv6(ns);
        assert_eq!(w.add(0, name, kind, &[], &ends(kind, 0)).0, 0);
        w.up(0, name);
    }
    let own = |name: &str| w.d(0, name).inet6.addrs.iter().map(|a| a.addr.to_string()).collect::<Vec<_>>();
    assert_eq!((own("i"), own("g")), (vec![], vec!["fe80::5efe:c000:201".to_owned()]));
    assert_eq!(own("s"), ["fe80::c000:201"]);
}

#[test]
fn super_segments_stay_whole_where_nobody_cuts_them() {
    for (kind, more, wraps) in [
        ("gre", vec![], 24),
        ("gre", flags(GRE_CSUM), 28),
        ("gre", [flags(GRE_KEY), key(7)].concat(), 28),
        ("gretap", flags(GRE_CSUM), 42),
        ("ipip", vec![], 20),
    ] {
        let mut w = both(kind, &more);
        assert!(w.reaches(0, 1, THERE), "{kind}");
        let (a, b) = (w.udp(0, 0), w.udp(1, 7));
        w.cut(0, a, 1000);
        w.watch();
        w.send(0, a, &[7; 4500], THERE, 7).unwrap();
        let sent: Vec<usize> = outer(&mut w, 0).iter().map(Vec::len).collect();
        assert_eq!(sent, [wraps + 28 + 4500], "{kind}");
        let got: Vec<usize> = std::iter::from_fn(|| w.recv(1, b).ok()).map(|d| d.len()).collect();
        assert_eq!(got, [1000, 1000, 1000, 1000, 500], "{kind}");
    }
    // What is numbered is cut before.
    let mut w = both("gre", &flags(GRE_SEQ));
    assert!(w.reaches(0, 1, THERE));
    let (a, b) = (w.udp(0, 0), w.udp(1, 7));
    w.cut(0, a, 1000);
    w.watch();
    w.send(0, a, &[7; 4500], THERE, 7).unwrap();
    assert_eq!(outer(&mut w, 0).len(), 5);
    assert_eq!(w.recv(1, b).unwrap().len(), 1000);
}
