//! The spanning tree: two bridges with two cables between them. States and times were measured on Linux 6.18.
mod world;

use belljar_abi::rtnetlink::*;
use belljar_kernel::drivers::bridge;
use belljar_kernel::env::trace::Dir;
use world::*;

const FORWARDING: u8 = 3;
const BLOCKING: u8 = 4;

/// Bridges in namespaces 0 and 1, joined by a0-a1 and b0-b1; hosts 2 and 3, each at one of them.
fn circle() -> World {
    let mut w = World::new(4);
    for n in 0..2 {
        let mac = (IFLA_ADDRESS, vec![2, 0, 0, 0, 0, n as u8 + 1]);
        assert_eq!(w.add(n, "br0", "bridge", &[mac], &[a32(IFLA_BR_STP_STATE, 1)]).0, 0);
        w.up(n, "br0");
    }
    for cable in ["a", "b"] {
        let ends = [format!("{cable}0"), format!("{cable}1")];
        w.veth((0, &ends[0]), (1, &ends[1]));
        for (n, end) in ends.iter().enumerate() {
            w.master(n, end, "br0");
            w.up(n, end);
        }
    }
    for n in 0..2 {
        w.veth((n, "h"), (n + 2, "e"));
        w.master(n, "h", "br0");
        w.up(n, "h");
        w.up(n + 2, "e");
        w.addr(n + 2, "e", [10, 0, 0, n as u8 + 2]);
    }
    w
}

fn state(w: &World, n: usize, port: &str) -> u8 {
    bridge::port(&w.k.net, w.dev(n, port)).unwrap().stp.state
}

fn stp(w: &World, n: usize) -> belljar_kernel::drivers::bridge_stp::Stp {
    bridge::of(&w.k.net, w.dev(n, "br0")).unwrap().stp
}

#[test]
fn one_of_two_cables_blocks() {
    let mut w = circle();
    w.advance(2 * SEC);
    assert_eq!([state(&w, 0, "a0"), state(&w, 0, "b0"), state(&w, 1, "a1")], [1, 1, 1], "listening");
    assert_eq!(state(&w, 1, "b1"), BLOCKING);
    assert!(!w.reaches(2, 3, [10, 0, 0, 3]));
    w.advance(15 * SEC);
    assert_eq!([state(&w, 0, "a0"), state(&w, 1, "a1")], [2, 2], "learning");
    w.advance(15 * SEC);
    assert_eq!([state(&w, 0, "a0"), state(&w, 1, "a1")], [FORWARDING; 2]);
    assert_eq!(state(&w, 1, "b1"), BLOCKING);
    assert!(w.reaches(2, 3, [10, 0, 0, 3]));
    assert_eq!((stp(&w, 0).root_port, stp(&w, 1).root_port, stp(&w, 1).root_path_cost), (0, 1, 2));
    assert_eq!(stp(&w, 1).root, [0x80, 0, 2, 0, 0, 0, 0, 1]);
}

#[test]
fn the_other_cable_takes_over_and_addresses_are_forgotten_sooner() {
    let mut w = circle();
    w.advance(40 * SEC);
    assert!(w.reaches(2, 3, [10, 0, 0, 3]));
    w.down(0, "a0");
    assert_eq!(stp(&w, 1).root_port, 2, "at once, as the cable has no carrier");
    w.advance(31 * SEC);
    assert_eq!(state(&w, 1, "b1"), FORWARDING);
    assert!(w.reaches(2, 3, [10, 0, 0, 3]));
    assert!(stp(&w, 0).topology_change && stp(&w, 1).topology_change);
    w.advance(36 * SEC);
    assert!(!stp(&w, 0).topology_change && !stp(&w, 1).topology_change);
}

#[test]
fn priority_and_cost_decide() {
    let mut w = circle();
    w.advance(40 * SEC);
    assert_eq!(w.set_kind(1, "br0", "bridge", &[a16(IFLA_BR_PRIORITY, 4096)]).0, 0);
    w.advance(3 * SEC);
    assert_eq!(stp(&w, 0).root, [0x10, 0, 2, 0, 0, 0, 0, 2]);
    assert_eq!((stp(&w, 0).root_port, stp(&w, 1).root_port), (1, 0));
    assert_eq!(state(&w, 0, "b0"), BLOCKING);
    let (br, a0) = (w.dev(0, "br0"), w.dev(0, "a0"));
    belljar_kernel::drivers::bridge_stp::set_path_cost(&mut w.k.net, br, a0, 100).unwrap();
    assert_eq!((stp(&w, 0).root_port, stp(&w, 0).root_path_cost), (2, 2));
    assert_eq!(state(&w, 0, "a0"), BLOCKING);
}

#[test]
fn a_bridge_that_fell_silent_is_not_waited_for_longer_than_max_age() {
    let mut w = circle();
    w.advance(40 * SEC);
    // Its tree goes, not its cable: BPDUs are only not sent any more.
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a32(IFLA_BR_STP_STATE, 0)]).0, 0);
    w.advance(19 * SEC);
    assert_eq!(stp(&w, 1).root_port, 1);
    w.advance(4 * SEC);
    assert_eq!(stp(&w, 1).root_port, 0, "it takes itself for the root");
}

#[test]
fn bpdus_are_802_3_frames() {
    let mut w = circle();
    w.advance(40 * SEC);
    w.watch();
    w.advance(4 * SEC);
    let all = w.frames(0, "a0", Dir::Out);
    assert_eq!(all.len(), 2, "every hello time");
    let f = &all[0];
    assert_eq!((f.len(), &f[..6]), (52, &[1, 0x80, 0xc2, 0, 0, 0][..]));
    assert_eq!(f[12..22], [0, 38, 0x42, 0x42, 3, 0, 0, 0, 0, f[21]]);
    // Root, cost 0, bridge, port 8001, age 0, max age 20 s, hello 2 s, delay 15 s.
    assert_eq!(f[22..34], [0x80, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(f[42..52], [0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0]);
}

#[test]
fn while_it_is_off_ports_forward_at_once_and_their_state_can_be_set() {
    let mut w = World::new(2);
    w.add(0, "br0", "bridge", &[], &[]);
    w.veth((0, "p"), (1, "e"));
    w.master(0, "p", "br0");
    let set = |w: &mut World, state| {
        let head =
            IfInfoMsg { family: belljar_abi::AF_BRIDGE as u8, index: w.index(0, "p") as i32, ..Default::default() };
        w.netlink(0, RTM_SETLINK, 0, &head.to_bytes(), &[nest(IFLA_PROTINFO, &[a8(IFLA_BRPORT_STATE, state)])]).0
    };
    assert_eq!(state(&w, 0, "p"), 0);
    assert_eq!(set(&mut w, 3), belljar_abi::Errno::ENETDOWN.0);
    w.up(0, "p");
    w.up(1, "e");
    assert_eq!(state(&w, 0, "p"), 0, "the bridge is down");
    w.up(0, "br0");
    assert_eq!(state(&w, 0, "p"), FORWARDING);
    assert_eq!(set(&mut w, 5), belljar_abi::Errno::EINVAL.0);
    w.set_kind(0, "br0", "bridge", &[a32(IFLA_BR_STP_STATE, 1)]);
    assert_eq!((state(&w, 0, "p"), set(&mut w, 4)), (FORWARDING, belljar_abi::Errno::EBUSY.0));
    let range = belljar_abi::Errno::ERANGE.0;
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a32(IFLA_BR_FORWARD_DELAY, 100)]).0, range);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a32(IFLA_BR_HELLO_TIME, 2000)]).0, range);
}
