//! macvlan: who hears whom in which mode, addresses, and what goes up from the device below.
mod world;

use belljar_abi::IF_OPER_LOWERLAYERDOWN;
use belljar_abi::rtnetlink::*;
use belljar_kernel::env::trace::Dir;
use belljar_wire::Mac;
use world::*;

const PRIVATE: u32 = 1;
const VEPA: u32 = 2;
const BRIDGE: u32 = 4;
const PASSTHRU: u32 = 8;

/// Two devices of a mode on `v0`, one in namespace 1 (10.0.0.1) and one in 2 (10.0.0.2); at the other end of the cable is
/// namespace 3 (10.0.0.3).
fn world(mode: u32) -> World {
    let mut w = World::new(4);
    w.veth((0, "v0"), (3, "v1"));
    w.up(0, "v0");
    w.up(3, "v1");
    w.addr(3, "v1", [10, 0, 0, 3]);
    for n in 1..=2 {
        let link = a32(IFLA_LINK, w.index(0, "v0"));
        let name = format!("m{n}");
        assert_eq!(w.add(0, &name, "macvlan", &[link], &[a32(IFLA_MACVLAN_MODE, mode)]), (0, String::new()));
        let (dev, to) = (w.dev(0, &name), w.ns(n));
        w.k.net.move_netdev(dev, to, None).unwrap();
        w.up(n, &name);
        w.addr(n, &name, [10, 0, 0, n as u8]);
    }
    w
}

#[test]
fn all_reach_the_outside_and_only_a_bridge_its_neighbours() {
    for (mode, neighbours) in [(BRIDGE, true), (VEPA, false), (PRIVATE, false)] {
        let mut w = world(mode);
        assert!(w.reaches(1, 3, [10, 0, 0, 3]) && w.reaches(3, 2, [10, 0, 0, 2]), "mode {mode}");
        assert_eq!(w.reaches(1, 2, [10, 0, 0, 2]), neighbours, "mode {mode}");
    }
}

#[test]
fn frames_between_two_of_a_bridge_never_leave() {
    let mut w = world(BRIDGE);
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    w.watch();
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    assert!(w.frames(0, "v0", Dir::Out).is_empty());
    // The same frame was seen as one that came in below.
    w.watch();
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
    assert_eq!(w.frames(0, "v0", Dir::In).len(), 1);
    let s = w.d(2, "m2").stats;
    // The question by ARP, broadcast; then three datagrams of 58 bytes.
    assert_eq!((s.rx_packets, s.rx_bytes, s.multicast), (4, 42 + 3 * 58, 1));
}

#[test]
fn a_switch_that_turns_frames_round_joins_those_of_vepa() {
    let mut w = world(VEPA);
    let switch = w.ns(3);
    let br = w.k.net.add_bridge(switch, "br0").unwrap();
    let port = w.dev(3, "v1");
    w.k.net.del_ifa(port, 0).unwrap();
    w.k.net.set_master(port, Some(br)).unwrap();
    w.up(3, "br0");
    assert!(!w.reaches(1, 2, [10, 0, 0, 2]));
    w.advance(5 * SEC);
    w.k.net.devs.get_mut(port).unwrap().brport.as_mut().unwrap().hairpin = true;
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
}

#[test]
fn requests_are_refused_as_linux_does() {
    let mut w = world(BRIDGE);
    let v0 = a32(IFLA_LINK, w.index(0, "v0"));
    let mode = |m| vec![a32(IFLA_MACVLAN_MODE, m)];
    for (link, data, errno) in [
        (vec![v0.clone()], mode(PASSTHRU), 22),
        (vec![v0.clone()], mode(3), 22),
        (vec![v0.clone()], mode(16), 95),
        (vec![v0.clone()], vec![a16(IFLA_MACVLAN_FLAGS, 4)], 22),
        (vec![v0.clone()], vec![a32(IFLA_MACVLAN_BC_QUEUE_LEN, 7)], 95),
        (vec![v0.clone(), a32(IFLA_MTU, 1501)], mode(BRIDGE), 22),
        (vec![], mode(BRIDGE), 22),
        (vec![a32(IFLA_LINK, 99)], mode(BRIDGE), 19),
        (vec![a32(IFLA_LINK, 1)], mode(BRIDGE), 22),
    ] {
        assert_eq!(w.add(0, "x", "macvlan", &link, &data).0, errno, "{link:?} {data:?}");
    }
    assert_eq!(w.set_kind(1, "m1", "macvlan", &mode(PASSTHRU)).0, 22);
    assert_eq!(w.set_kind(1, "m1", "macvlan", &mode(PRIVATE)).0, 0);
    assert_eq!(find(&w.info(1, "m1"), IFLA_MACVLAN_MODE), PRIVATE.to_ne_bytes());
    // A port of a bridge cannot have them, nor can what has them become one.
    let ns = w.ns(0);
    let br = w.k.net.add_bridge(ns, "br0").unwrap();
    let v0 = w.dev(0, "v0");
    assert_eq!(w.k.net.set_master(v0, Some(br)), Err(belljar_abi::Errno::EBUSY));
}

#[test]
fn addresses_are_not_shared() {
    let mut w = world(BRIDGE);
    let (m1, m2) = (w.dev(1, "m1"), w.d(2, "m2").mac);
    let below = w.d(0, "v0").mac;
    for taken in [m2, below] {
        assert_eq!(w.k.net.set_mac(m1, taken), Err(belljar_abi::Errno::EADDRINUSE));
    }
    w.down(2, "m2");
    w.k.net.set_mac(m1, m2).unwrap();
    let m2 = w.dev(2, "m2");
    assert_eq!(w.k.set_link(m2, true), Err(belljar_abi::Errno::EADDRINUSE));
}

#[test]
fn passthru_is_the_device_itself() {
    let mut w = World::new(2);
    w.veth((0, "v0"), (1, "v1"));
    let link = a32(IFLA_LINK, w.index(0, "v0"));
    assert_eq!(w.add(0, "p", "macvlan", std::slice::from_ref(&link), &[a32(IFLA_MACVLAN_MODE, PASSTHRU)]).0, 0);
    assert_eq!(w.add(0, "q", "macvlan", &[link], &[a32(IFLA_MACVLAN_MODE, BRIDGE)]).0, 22);
    for (n, name) in [(0, "v0"), (0, "p"), (1, "v1")] {
        w.up(n, name);
    }
    assert_eq!((w.d(0, "p").mac, w.d(0, "v0").promiscuity), (w.d(0, "v0").mac, 1));
    w.addr(0, "p", [10, 0, 0, 1]);
    w.addr(1, "v1", [10, 0, 0, 2]);
    assert!(w.reaches(1, 0, [10, 0, 0, 1]));
    let (p, mac) = (w.dev(0, "p"), Mac([2, 0, 0, 0, 0, 7]));
    w.k.net.set_mac(p, mac).unwrap();
    assert_eq!(w.d(0, "v0").mac, mac);
    w.down(0, "p");
    assert_eq!(w.d(0, "v0").promiscuity, 0);
}

#[test]
fn what_happens_below_happens_above() {
    let mut w = world(BRIDGE);
    w.down(3, "v1");
    let d = w.d(1, "m1");
    assert_eq!((d.up, d.carrier, d.operstate()), (true, false, IF_OPER_LOWERLAYERDOWN));
    w.up(3, "v1");
    assert!(w.d(1, "m1").carrier);
    let v0 = w.dev(0, "v0");
    w.k.net.set_mtu(v0, 1400).unwrap();
    let m1 = w.dev(1, "m1");
    assert_eq!((w.d(1, "m1").mtu, w.k.net.set_mtu(m1, 1500)), (1400, Err(belljar_abi::Errno::EINVAL)));
    // One on another is beside it.
    let link = a32(IFLA_LINK, w.index(1, "m1"));
    assert_eq!(w.add(1, "mm", "macvlan", &[link], &[]).0, 0);
    assert_eq!(w.d(1, "mm").lower(), Some(v0));
    w.k.net.unregister_netdev(v0);
    w.settle();
    assert!(!w.has(1, "m1") && !w.has(1, "mm") && !w.has(2, "m2"));
}
