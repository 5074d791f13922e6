//! VXLAN: frames in datagrams, who is behind whom, and what is refused.
mod world;

use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_BRIDGE, Errno, netlink as nl};
use belljar_kernel::drivers::vxlan;
use belljar_kernel::env::trace::Dir;
use belljar_kernel::net::core::features;
use belljar_wire::Mac;
use world::*;

fn ip(kind: u16, a: [u8; 4]) -> Attr {
    (kind, a.to_vec())
}

fn port(p: u16) -> Attr {
    (IFLA_VXLAN_PORT, p.to_be_bytes().to_vec())
}

/// Namespaces 1 to `hosts` on a bridge in 0 (192.0.2.1, …), each with network 5 over it (10.0.0.1, …); the first has all
/// others in the entry of the zero address.
fn world(hosts: usize) -> World {
    let mut w = World::new(hosts + 1);
    assert_eq!(w.add(0, "br0", "bridge", &[], &[]).0, 0);
    w.up(0, "br0");
    for n in 1..=hosts {
        let port_name = format!("p{n}");
        w.veth((0, &port_name), (n, "e"));
        w.master(0, &port_name, "br0");
        w.up(0, &port_name);
        w.up(n, "e");
        w.addr(n, "e", [192, 0, 2, n as u8]);
        let to = [192, 0, 2, if n == 1 { 2 } else { 1 }];
        let data = [a32(IFLA_VXLAN_ID, 5), port(4789), ip(IFLA_VXLAN_GROUP, to), a32(IFLA_VXLAN_LINK, w.index(n, "e"))];
        assert_eq!(w.add(n, "vx", "vxlan", &[], &data), (0, String::new()));
        w.up(n, "vx");
        w.addr(n, "vx", [10, 0, 0, n as u8]);
    }
    for n in 3..=hosts {
        assert_eq!(fdb(&mut w, true, nl::NLM_F_CREATE | nl::NLM_F_APPEND, [0; 6], Some([192, 0, 2, n as u8])).0, 0);
    }
    w
}

/// `bridge fdb add|append|del MAC dev vx [dst IP]` in namespace 1.
fn fdb(w: &mut World, add: bool, flags: u16, mac: [u8; 6], dst: Option<[u8; 4]>) -> (i32, String) {
    let ifindex = w.index(1, "vx") as i32;
    let head = NdMsg { family: AF_BRIDGE as u8, ifindex, state: NUD_PERMANENT, flags: NTF_SELF, kind: 0 };
    let mut all = vec![(NDA_LLADDR, mac.to_vec())];
    all.extend(dst.map(|d| ip(NDA_DST, d)));
    let kind = if add { RTM_NEWNEIGH } else { RTM_DELNEIGH };
    let (errno, text, _) = w.netlink(1, kind, flags, &head.to_bytes(), &all);
    (errno, text)
}

fn table(w: &World, n: usize) -> Vec<(Mac, Vec<u8>)> {
    let dev = w.dev(n, "vx");
    vxlan::entries(&w.k.net, dev).map(|(m, e)| (m, e.remotes.iter().map(|r| r.ip.octets()[3]).collect())).collect()
}

#[test]
fn frames_travel_in_datagrams_and_count_without_what_wraps_them() {
    let mut w = world(2);
    w.watch();
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    let out = w.frames(1, "e", Dir::Out);
    // ARP for the other end of the network below comes first.
    let ours: Vec<_> = out.iter().filter(|f| f[12..14] == [8, 0] && f[23] == 17).collect();
    assert_eq!(ours.len(), 2, "a question by ARP and a datagram");
    for f in &ours {
        assert_eq!((&f[36..38], &f[42..50]), (&4789u16.to_be_bytes()[..], &[8, 0, 0, 0, 0, 0, 5, 0][..]));
        assert_ne!(f[40..42], [0, 0], "a checksum");
    }
    // 28 bytes of ARP and 44 of the datagram, each way without the link header.
    let (a, b) = (w.d(1, "vx").stats, w.d(2, "vx").stats);
    assert_eq!((a.tx_packets, a.tx_bytes, b.rx_packets, b.rx_bytes), (2, 28 + 44, 2, 28 + 44));
    let (mac_1, mac_2) = (w.d(1, "vx").mac, w.d(2, "vx").mac);
    assert!(table(&w, 1).contains(&(mac_2, vec![2])) && table(&w, 2).contains(&(mac_1, vec![1])));
    // What was learned is forgotten when it goes down, and after a while.
    w.advance(301 * SEC);
    assert_eq!(table(&w, 1), [(Mac::ZERO, vec![2])]);
}

#[test]
fn what_nobody_is_known_for_goes_to_all() {
    let mut w = world(3);
    assert_eq!(table(&w, 1), [(Mac::ZERO, vec![2, 3])]);
    assert!(w.reaches(1, 2, [10, 0, 0, 2]) && w.reaches(1, 3, [10, 0, 0, 3]));
    let rx = w.d(3, "vx").stats.rx_packets;
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    assert_eq!(w.d(3, "vx").stats.rx_packets, rx, "known by now: to it alone");
    assert_eq!(fdb(&mut w, false, 0, [0; 6], Some([192, 0, 2, 3])).0, 0);
    assert_eq!(fdb(&mut w, false, 0, [0; 6], Some([192, 0, 2, 3])).0, 0, "not there, as wanted");
    // By the device named at its birth: another destination than this one.
    assert_eq!(fdb(&mut w, false, 0, [0; 6], Some([192, 0, 2, 2])).0, 0);
    assert_eq!(table(&w, 1)[0], (Mac::ZERO, vec![2]));
    assert_eq!(fdb(&mut w, false, 0, [2, 0, 0, 0, 0, 7], None).0, 2);
    assert_eq!(fdb(&mut w, false, 0, [0; 6], None).0, 0);
    w.watch();
    let a = w.udp(1, 0);
    let _ = w.send(1, a, b"x", [10, 0, 0, 77], 1);
    assert!(w.drops().contains(&("NO_TX_TARGET", "vxlan_xmit")));
    assert_eq!(w.d(1, "vx").stats.tx_dropped, 1);
}

#[test]
fn what_is_written_down_is_not_learned_otherwise() {
    let mut w = world(3);
    let mac = w.d(2, "vx").mac.0;
    let (create, append, excl) = (nl::NLM_F_CREATE, nl::NLM_F_APPEND, nl::NLM_F_EXCL);
    assert_eq!(fdb(&mut w, true, create | excl, mac, Some([192, 0, 2, 3])).0, 0);
    assert_eq!(fdb(&mut w, true, create | excl, mac, Some([192, 0, 2, 2])).0, 17);
    assert_eq!(fdb(&mut w, true, create | append, mac, Some([192, 0, 2, 2])).0, 0, "taken, and changes nothing");
    assert_eq!(fdb(&mut w, true, create | excl, [2, 0, 0, 0, 0, 7], None).0, 22);
    assert_eq!(fdb(&mut w, true, 0, [2, 0, 0, 0, 0, 7], Some([192, 0, 2, 2])).0, 2);
    w.watch();
    assert!(!w.reaches(1, 2, [10, 0, 0, 2]));
    assert!(w.drops().contains(&("VXLAN_ENTRY_EXISTS", "vxlan_rcv")));
    assert_eq!(fdb(&mut w, true, create | nl::NLM_F_REPLACE, mac, Some([192, 0, 2, 2])).0, 0);
    w.advance(5 * SEC);
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
}

#[test]
fn datagrams_that_are_none_of_it_are_dropped_by_name() {
    let mut w = world(2);
    let other = w.udp(1, 0);
    let frame = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0, 1, 2, 3, 4];
    for (head, reason) in [
        (&[0, 0, 0, 0, 0, 0, 5, 0][..], "VXLAN_INVALID_HDR"),
        (&[8, 0, 0, 1, 0, 0, 5, 0][..], "VXLAN_INVALID_HDR"),
        (&[8, 0, 0, 0, 0, 0, 6, 0][..], "VXLAN_VNI_NOT_FOUND"),
        (&[8, 0, 0][..], "HDR_TRUNC"),
    ] {
        w.watch();
        let bytes = if head.len() == 8 { [head, &frame].concat() } else { head.to_vec() };
        w.send(1, other, &bytes, [192, 0, 2, 2], 4789).unwrap();
        assert!(w.drops().contains(&(reason, "vxlan_rcv")), "{head:?}");
    }
    let mut own = [&[8, 0, 0, 0, 0, 0, 5, 0], &frame[..]].concat();
    own[14..20].copy_from_slice(&w.d(2, "vx").mac.0);
    let mut group = own.clone();
    group[14] = 3;
    for (bytes, reason) in [(own, "LOCAL_MAC"), (group, "MAC_INVALID_SOURCE")] {
        w.watch();
        w.send(1, other, &bytes, [192, 0, 2, 2], 4789).unwrap();
        assert!(w.drops().contains(&(reason, "vxlan_rcv")), "{reason}");
    }
    assert_eq!(w.d(2, "vx").stats.rx_errors, 1);
}

#[test]
fn long_packets_are_cut_and_long_heads_fit() {
    let mut w = world(2);
    let (a, b) = (w.udp(1, 0), w.udp(2, 2));
    for len in [1, 60, 100, 500, 1400, 1422, 5000] {
        w.send(1, a, &vec![7; len], [10, 0, 0, 2], 2).unwrap();
        assert_eq!(w.recv(2, b).unwrap().len(), len);
    }
    // Over a device that cannot take it whole the outer packet is cut.
    let e = w.dev(1, "e");
    w.k.net.set_mtu(e, 1000).unwrap();
    w.send(1, a, &[7; 1400], [10, 0, 0, 2], 2).unwrap();
    assert_eq!(w.recv(2, b).unwrap().len(), 1400);
}

#[test]
fn the_port_is_the_devices_while_it_is_up() {
    let mut w = world(2);
    assert_eq!(w.bind(1, 4789), Err(Errno::EADDRINUSE));
    w.down(1, "vx");
    assert_eq!(w.bind(1, 4789), Ok(()));
    let dev = w.dev(1, "vx");
    assert_eq!(w.k.set_link(dev, true), Err(Errno::EADDRINUSE));
}

#[test]
fn it_sends_where_it_was_made_wherever_it_is() {
    let mut w = World::new(4);
    w.veth((0, "a"), (1, "b"));
    for (n, dev, own, to) in [(0, "a", 1, 2), (1, "b", 2, 1)] {
        w.up(n, dev);
        w.addr(n, dev, [192, 0, 2, own]);
        let data = [a32(IFLA_VXLAN_ID, 9), ip(IFLA_VXLAN_GROUP, [192, 0, 2, to])];
        assert_eq!(w.add(n, "vx", "vxlan", &[], &data).0, 0);
        let (vx, ns) = (w.dev(n, "vx"), w.ns(n + 2));
        w.k.net.move_netdev(vx, ns, None).unwrap();
        w.up(n + 2, "vx");
        w.addr(n + 2, "vx", [10, 0, 0, own]);
    }
    assert!(w.reaches(2, 3, [10, 0, 0, 2]));
    assert_eq!(w.bind(0, 8472), Err(Errno::EADDRINUSE));
    // With the network that carries it the device goes.
    let a = w.dev(0, "a");
    w.k.net.unregister_netdev(a);
    assert!(w.has(2, "vx"), "it is on no device");
}

#[test]
fn a_tunnel_into_itself_ends() {
    let mut w = world(2);
    let data = [a32(IFLA_VXLAN_ID, 6), port(4790), ip(IFLA_VXLAN_GROUP, [10, 77, 0, 9])];
    assert_eq!(w.add(1, "loop", "vxlan", &[], &data).0, 0);
    w.up(1, "loop");
    w.addr(1, "loop", [10, 77, 0, 1]);
    let a = w.udp(1, 0);
    let _ = w.send(1, a, b"x", [10, 77, 0, 5], 1);
    let s = w.d(1, "loop").stats;
    assert!(s.tx_errors > 0 && s.tx_packets == 0);
    // Two that lead into each other.
    for (name, vni, own, to) in [("l1", 21, 1, [10, 82, 0, 9]), ("l2", 22, 2, [10, 81, 0, 9])] {
        let data = [a32(IFLA_VXLAN_ID, vni), port(4791), ip(IFLA_VXLAN_GROUP, to)];
        assert_eq!(w.add(1, name, "vxlan", &[], &data).0, 0);
        w.up(1, name);
        w.addr(1, name, [10, 80 + own, 0, 1]);
    }
    let _ = w.send(1, a, b"x", [10, 81, 0, 5], 1);
    w.advance(10 * SEC);
}

#[test]
fn super_segments_stay_whole_where_nobody_cuts_them() {
    const UDP_TNL_BOTH: u64 = 3 << 26;
    let mut w = world(2);
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    let (a, b) = (w.udp(1, 0), w.udp(2, 7));
    w.cut(1, a, 1000);
    let got =
        |w: &mut World, fd| -> Vec<usize> { std::iter::from_fn(|| w.recv(2, fd).ok()).map(|d| d.len()).collect() };
    let sent = |w: &mut World| {
        w.watch();
        w.send(1, a, &[7; 4500], [10, 0, 0, 2], 7).unwrap();
        w.frames(1, "e", Dir::Out).iter().map(Vec::len).collect::<Vec<_>>()
    };
    // Of a pair both the wrapping and the frame inside come whole.
    assert_eq!(sent(&mut w), [14 + 50 + 28 + 4500]);
    assert_eq!(got(&mut w, b), [1000, 1000, 1000, 1000, 500]);
    let e = w.dev(1, "e");
    features::set(&mut w.k.net, e, 0, UDP_TNL_BOTH);
    assert_eq!(sent(&mut w), [1092, 1092, 1092, 1092, 592]);
    assert_eq!(got(&mut w, b), [1000, 1000, 1000, 1000, 500]);
    // A program that has the port reads datagrams.
    let vx = w.dev(2, "vx");
    w.k.net.unregister_netdev(vx);
    let reader = w.udp(2, 4789);
    features::set(&mut w.k.net, e, UDP_TNL_BOTH, UDP_TNL_BOTH);
    assert_eq!(sent(&mut w).len(), 1);
    assert_eq!(got(&mut w, reader), [1050, 1050, 1050, 1050, 550]);
}

#[test]
fn requests_are_refused_with_the_kernels_words() {
    let mut w = world(2);
    let id = |n| a32(IFLA_VXLAN_ID, n);
    for (data, errno, text) in [
        (vec![id(5), port(4789)], 17, "A VXLAN device with the specified VNI already exists"),
        (vec![id(1 << 24)], 34, ""),
        (vec![], 22, "Required attributes not provided to perform the operation"),
        (vec![id(7), a32(IFLA_VXLAN_LINK, 99)], 19, "Invalid local interface, device not found"),
        (vec![id(7), ip(IFLA_VXLAN_LOCAL, [239, 0, 0, 1])], 22, "Local address cannot be multicast"),
        (vec![id(7), a8(IFLA_VXLAN_PROXY, 1)], 95, ""),
        (vec![id(7), (IFLA_VXLAN_GROUP6, vec![0; 16])], 95, ""),
    ] {
        assert_eq!(w.add(1, "x", "vxlan", &[], &data), (errno, text.to_owned()), "{data:?}");
    }
    assert_eq!(w.set_kind(1, "vx", "vxlan", &[id(6)]), (95, "Cannot change VNI".into()));
    assert_eq!(w.set_kind(1, "vx", "vxlan", &[port(9)]), (95, "Cannot change port".into()));
    assert_eq!(w.set_kind(1, "vx", "vxlan", &[a8(IFLA_VXLAN_TTL, 5), a32(IFLA_VXLAN_AGEING, 7)]).0, 0);
    assert_eq!(w.set_kind(1, "vx", "vxlan", &[ip(IFLA_VXLAN_GROUP, [192, 0, 2, 9])]).0, 0);
    assert_eq!(table(&w, 1), [(Mac::ZERO, vec![9])]);
    let info = w.info(1, "vx");
    assert_eq!((find(&info, IFLA_VXLAN_TTL), find(&info, IFLA_VXLAN_GROUP)), (&[5][..], &[192, 0, 2, 9][..]));
    let (vx, e) = (w.dev(1, "vx"), w.dev(1, "e"));
    assert_eq!((w.d(1, "vx").mtu, w.k.net.set_mtu(vx, 1451)), (1450, Err(Errno::EINVAL)));
    w.k.net.unregister_netdev(e);
    w.settle();
    assert!(!w.has(1, "vx"));
}
