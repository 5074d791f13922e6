//! VLANs of a device: tags on the wire, whose packet it is, and what goes up from the device below.
mod world;

use belljar_abi::rtnetlink::*;
use belljar_abi::{Errno, IF_OPER_LOWERLAYERDOWN, IF_OPER_UP};
use belljar_kernel::env::trace::Dir;
use belljar_kernel::net::core::dev::NetDevice;
use world::*;

fn be(kind: u16, v: u16) -> Attr {
    (kind, v.to_be_bytes().to_vec())
}

fn vlan(w: &mut World, n: usize, lower: &str, name: &str, id: u16) {
    let link = a32(IFLA_LINK, w.index(n, lower));
    assert_eq!(w.add(n, name, "vlan", &[link], &[a16(IFLA_VLAN_ID, id)]).0, 0);
}

/// A cable between two namespaces with VLAN 10 at both ends.
fn pair() -> World {
    let mut w = World::new(2);
    w.veth((0, "v0"), (1, "v1"));
    vlan(&mut w, 0, "v0", "v0.10", 10);
    vlan(&mut w, 1, "v1", "v1.10", 10);
    for (n, name, upper) in [(0, "v0", "v0.10"), (1, "v1", "v1.10")] {
        w.up(n, name);
        w.up(n, upper);
        w.addr(n, upper, [10, 0, 10, n as u8 + 1]);
    }
    w
}

#[test]
fn what_goes_out_has_the_tag_and_what_comes_up_has_not() {
    let mut w = pair();
    w.watch();
    assert!(w.reaches(0, 1, [10, 0, 10, 2]));
    let all = w.frames(0, "v0", Dir::Out);
    assert!(!all.is_empty() && all.iter().all(|f| f[12..16] == [0x81, 0, 0, 10]), "{all:?}");
    // ARP and the datagram: 28 and 44 bytes behind the link header, which counts on the way out only.
    let (a, b) = (w.d(0, "v0.10").stats, w.d(1, "v1.10").stats);
    assert_eq!((a.tx_packets, a.tx_bytes, b.rx_packets, b.rx_bytes), (2, 42 + 58, 2, 28 + 44));
    // The pair below takes the tag along beside the frame, whose length does not count it.
    let v = w.d(0, "v0").stats;
    assert_eq!((v.tx_packets, v.tx_bytes), (2, 42 + 58));
}

#[test]
fn a_number_that_nobody_has_is_anothers_and_zero_is_ours() {
    let mut w = pair();
    vlan(&mut w, 0, "v0", "v0.20", 20);
    w.up(0, "v0.20");
    w.addr(0, "v0.20", [10, 0, 20, 1]);
    w.addr(1, "v1", [10, 0, 20, 2]);
    w.watch();
    assert!(!w.reaches(0, 1, [10, 0, 20, 2]));
    assert!(w.frames(1, "v1", Dir::Out).is_empty(), "ARP asks for the machine at the other end, its tag does not");
    // Priority alone: VLAN 0 is the device itself.
    vlan(&mut w, 0, "v0", "v0.0", 0);
    w.up(0, "v0.0");
    w.addr(0, "v0.0", [10, 0, 30, 1]);
    w.addr(1, "v1", [10, 0, 30, 2]);
    vlan(&mut w, 1, "v1", "up", 7);
    w.watch();
    w.reaches(0, 1, [10, 0, 30, 2]);
    assert_eq!(w.frames(1, "v1", Dir::Out).len(), 1, "it answers, without a tag");
}

#[test]
fn an_ip_packet_with_a_foreign_tag_is_dropped_as_otherhost() {
    let mut w = pair();
    let v1 = w.dev(1, "v1.10");
    assert!(w.reaches(0, 1, [10, 0, 10, 2]));
    w.k.net.unregister_netdev(v1);
    w.watch();
    assert!(!w.reaches(0, 1, [10, 0, 10, 2]));
    let drops = w.drops();
    assert!(drops.contains(&("OTHERHOST", "ip_rcv")), "{drops:?}");
}

#[test]
fn tags_nest_and_carry_priorities() {
    let mut w = World::new(2);
    w.veth((0, "v0"), (1, "v1"));
    for (n, v) in [(0, "v0"), (1, "v1")] {
        let link = a32(IFLA_LINK, w.index(n, v));
        let outer = [a16(IFLA_VLAN_ID, 100), be(IFLA_VLAN_PROTOCOL, 0x88a8)];
        assert_eq!(w.add(n, "s", "vlan", &[link], &outer).0, 0);
        let map =
            [(0u32, 5u32), (6, 1)].map(|(a, b)| (IFLA_VLAN_QOS_MAPPING, [a.to_ne_bytes(), b.to_ne_bytes()].concat()));
        let inner = [a16(IFLA_VLAN_ID, 7), nest(IFLA_VLAN_EGRESS_QOS, &map)];
        let link = a32(IFLA_LINK, w.index(n, "s"));
        assert_eq!(w.add(n, "c", "vlan", &[link], &inner).0, 0);
        for name in [v, "s", "c"] {
            w.up(n, name);
        }
        w.addr(n, "c", [10, 0, 7, n as u8 + 1]);
    }
    w.watch();
    assert!(w.reaches(0, 1, [10, 0, 7, 2]));
    let all = w.frames(0, "v0", Dir::Out);
    // ARP has the priority of control traffic, which is mapped to none.
    let tags = |prio: u8| [0x88, 0xa8, 0, 100, 0x81, 0, prio << 5, 7];
    assert_eq!((all.len(), &all[0][12..20], &all[1][12..20]), (2, &tags(0)[..], &tags(5)[..]));
    let info = w.info(0, "c");
    assert_eq!(find(&info, IFLA_VLAN_ID), 7u16.to_ne_bytes());
    assert_eq!(attrs(find(&info, IFLA_VLAN_EGRESS_QOS)).len(), 2);
    assert_eq!(find(&w.info(0, "s"), IFLA_VLAN_PROTOCOL), [0x88, 0xa8]);
}

#[test]
fn long_streams_are_cut_behind_their_tags() {
    let mut w = pair();
    let v0 = w.dev(0, "v0");
    w.k.net.devs.get_mut(v0).unwrap().features.set_segmentation(false);
    let (a, b) = (w.udp(0, 1), w.udp(1, 2));
    w.watch();
    w.send(0, a, &[7; 4000], [10, 0, 10, 2], 2).unwrap();
    assert_eq!(w.recv(1, b).unwrap().len(), 4000);
    assert!(w.frames(0, "v0", Dir::Out).iter().all(|f| f.len() <= 1518 && f[12..16] == [0x81, 0, 0, 10]));
}

#[test]
fn bad_requests_are_refused_with_the_kernels_words() {
    let mut w = pair();
    let (lo, v0) = (a32(IFLA_LINK, 1), a32(IFLA_LINK, w.index(0, "v0")));
    let id = |n| a16(IFLA_VLAN_ID, n);
    let flags = |f: u32| (IFLA_VLAN_FLAGS, [f.to_ne_bytes(), f.to_ne_bytes()].concat());
    for (link, data, errno, text) in [
        (vec![v0.clone()], vec![id(10)], 17, "VLAN device already exists"),
        (vec![v0.clone()], vec![id(4095)], 34, "Invalid VLAN id"),
        (vec![v0.clone()], vec![], 22, "VLAN properties not specified"),
        (vec![v0.clone()], vec![be(IFLA_VLAN_PROTOCOL, 0x8100)], 22, "VLAN id not specified"),
        (vec![v0.clone()], vec![id(9), be(IFLA_VLAN_PROTOCOL, 0x800)], 93, "Invalid VLAN protocol"),
        (vec![v0.clone()], vec![id(9), flags(2)], 22, "Invalid VLAN flags"),
        (vec![], vec![id(9)], 22, "link not specified"),
        (vec![a32(IFLA_LINK, 99)], vec![id(9)], 19, "link does not exist"),
        (vec![lo], vec![id(9)], 95, "VLANs not supported on device"),
        (vec![v0.clone(), a32(IFLA_MTU, 1501)], vec![id(9)], 22, ""),
    ] {
        assert_eq!(w.add(0, "x", "vlan", &link, &data), (errno, text.to_owned()), "{data:?}");
        assert!(!w.has(0, "x"));
    }
    assert_eq!(w.add(0, "x", "bogus", &[v0], &[]), (95, "Unknown device type".to_owned()));
    // As deep as Linux lets devices stand on one another.
    let mut below = "v0".to_owned();
    for n in 1.. {
        let (name, link) = (format!("n{n}"), a32(IFLA_LINK, w.index(0, &below)));
        match w.add(0, &name, "vlan", &[link], &[id(1)]).0 {
            0 => below = name,
            e => {
                assert_eq!((n, e), (8, 31));
                break;
            }
        }
    }
}

#[test]
fn what_happens_below_happens_above() {
    let mut w = pair();
    let state = |d: &NetDevice| (d.up, d.carrier, d.operstate());
    assert_eq!(state(w.d(0, "v0.10")), (true, true, IF_OPER_UP));
    w.down(1, "v1");
    assert_eq!(state(w.d(0, "v0.10")), (true, false, IF_OPER_LOWERLAYERDOWN));
    assert!(!w.d(1, "v1.10").up, "goes down with its device");
    let upper = w.dev(1, "v1.10");
    assert_eq!(w.k.set_link(upper, true), Err(Errno::ENETDOWN));
    w.up(1, "v1");
    assert!(w.d(1, "v1.10").up, "and comes up with it");
    assert_eq!(state(w.d(0, "v0.10")), (true, true, IF_OPER_UP));
    let v0 = w.dev(0, "v0");
    w.k.net.set_mtu(v0, 1400).unwrap();
    assert_eq!(w.d(0, "v0.10").mtu, 1400);
    let upper = w.dev(0, "v0.10");
    assert_eq!(w.k.net.set_mtu(upper, 1401), Err(Errno::ERANGE));
    let mac = belljar_wire::Mac([2, 0, 0, 0, 0, 9]);
    w.k.net.set_mac(v0, mac).unwrap();
    assert_eq!(w.d(0, "v0.10").mac, mac);
    // With loose binding it does not care.
    let loose = (IFLA_VLAN_FLAGS, [4u32.to_ne_bytes(), 4u32.to_ne_bytes()].concat());
    assert_eq!(w.set_kind(0, "v0.10", "vlan", &[loose]).0, 0);
    w.down(0, "v0");
    assert!(w.d(0, "v0.10").up);
    w.k.net.unregister_netdev(v0);
    w.settle();
    assert!(!w.has(0, "v0.10") && !w.has(1, "v1.10"), "the pair goes, and all that stands on it");
}

#[test]
fn a_vlan_moves_to_another_namespace_without_its_device() {
    let mut w = pair();
    let (dev, to) = (w.dev(0, "v0.10"), w.ns(1));
    w.k.net.move_netdev(dev, to, None).unwrap();
    w.settle();
    w.up(1, "v0.10");
    assert!(w.d(1, "v0.10").carrier);
    let text = w.k.proc_text(to, "/proc/net/vlan/config").unwrap();
    let rows: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(rows, ["v1.10          | 10  | v1", "v0.10          | 10  | v0"]);
    let one = w.k.proc_text(to, "/proc/net/vlan/v1.10").unwrap();
    assert!(one.starts_with("v1.10  VID: 10\t REORDER_HDR: 1  dev->priv_flags: "), "{one}");
    assert!(one.contains("\nINGRESS priority mappings: 0:0  1:0  2:0  3:0  4:0  5:0  6:0 7:0\n EGRESS"), "{one}");
    assert_eq!(w.k.proc_text(to, "/proc/net/vlan/nope"), None);
    let from = w.ns(0);
    let v0 = w.dev(0, "v0");
    w.k.net.unregister_netdev(v0);
    w.settle();
    assert!(!w.has(1, "v0.10") && w.k.net.ns_devs(from).count() == 1);
}
