//! VLANs of a bridge: which ports see a frame, with a tag or without, and what `bridge vlan` shows of it.
mod world;

use belljar_abi::AF_BRIDGE;
use belljar_abi::rtnetlink::*;
use belljar_kernel::drivers::bridge_fdb;
use belljar_kernel::env::trace::Dir;
use world::*;

/// Three hosts on a bridge in a namespace of its own (0), which filters.
fn switch() -> World {
    let mut w = World::new(4);
    assert_eq!(w.add(0, "br0", "bridge", &[], &[a8(IFLA_BR_VLAN_FILTERING, 1)]).0, 0);
    w.up(0, "br0");
    for n in 1..=3 {
        let port = format!("p{n}");
        w.veth((0, &port), (n, "e"));
        w.master(0, &port, "br0");
        w.up(0, &port);
        w.up(n, "e");
        w.addr(n, "e", [10, 0, 0, n as u8]);
    }
    w
}

fn info(vid: u16, flags: u16) -> Attr {
    (IFLA_BRIDGE_VLAN_INFO, [flags.to_ne_bytes(), vid.to_ne_bytes()].concat())
}

/// `bridge vlan add|del dev PORT vid …`.
fn vlan(w: &mut World, add: bool, port: &str, spec: &[Attr]) -> (i32, String) {
    let head = IfInfoMsg { family: AF_BRIDGE as u8, index: w.index(0, port) as i32, ..IfInfoMsg::default() };
    let kind = if add { RTM_SETLINK } else { RTM_DELLINK };
    let (errno, text, _) = w.netlink(0, kind, 0, &head.to_bytes(), &[nest(IFLA_AF_SPEC, spec)]);
    (errno, text)
}

/// What is shown of one device: (number, flags).
fn shown(w: &mut World, name: &str, mask: u32) -> Vec<(u16, u16)> {
    let head = IfInfoMsg { family: AF_BRIDGE as u8, ..IfInfoMsg::default() };
    let index = w.index(0, name) as i32;
    let dump = belljar_abi::netlink::NLM_F_DUMP;
    let (_, _, all) = w.netlink(0, RTM_GETLINK, dump, &head.to_bytes(), &[a32(IFLA_EXT_MASK, mask)]);
    let mine = all.iter().find(|b| IfInfoMsg::parse(b).unwrap().index == index);
    let Some(mine) = mine else { return Vec::new() };
    let spec = attrs(find(&attrs(&mine[IfInfoMsg::LEN..]), IFLA_AF_SPEC));
    let word = |v: &[u8], at: usize| u16::from_ne_bytes([v[at], v[at + 1]]);
    spec.iter().map(|(_, v)| (word(v, 2), word(v, 0))).collect()
}

const FIRST: u16 = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED;

#[test]
fn ports_of_different_vlans_do_not_hear_each_other() {
    let mut w = switch();
    assert!(w.reaches(1, 2, [10, 0, 0, 2]), "all are in VLAN 1 at first");
    for port in ["p1", "p3"] {
        assert_eq!(vlan(&mut w, true, port, &[info(10, FIRST)]).0, 0);
        assert_eq!(vlan(&mut w, false, port, &[info(1, 0)]).0, 0);
    }
    assert!(!w.reaches(1, 2, [10, 0, 0, 2]));
    assert!(w.reaches(1, 3, [10, 0, 0, 3]));
    // What is known of an address is known in its VLAN.
    let (br, mac) = (w.dev(0, "br0"), w.d(1, "e").mac);
    assert!(bridge_fdb::entry(&w.k.net, br, (mac, 10)).is_some());
    assert!(bridge_fdb::entry(&w.k.net, br, (mac, 1)).is_none() && bridge_fdb::entry(&w.k.net, br, (mac, 0)).is_none());
    // Without filtering all are one again.
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_VLAN_FILTERING, 0)]).0, 0);
    assert!(w.reaches(1, 2, [10, 0, 0, 2]));
}

#[test]
fn a_trunk_has_tags_and_an_access_port_has_none() {
    let mut w = switch();
    assert_eq!(vlan(&mut w, true, "p1", &[info(10, FIRST)]).0, 0);
    assert_eq!(vlan(&mut w, true, "p2", &[info(10, 0)]).0, 0);
    let link = a32(IFLA_LINK, w.index(2, "e"));
    assert_eq!(w.add(2, "e.10", "vlan", &[link], &[a16(IFLA_VLAN_ID, 10)]).0, 0);
    w.up(2, "e.10");
    w.addr(2, "e.10", [10, 0, 0, 12]);
    let e = w.dev(2, "e");
    w.k.net.del_ifa(e, 0).unwrap();
    w.watch();
    assert!(w.reaches(1, 2, [10, 0, 0, 12]));
    let out = w.frames(0, "p2", Dir::Out);
    assert!(!out.is_empty() && out.iter().all(|f| f[12..16] == [0x81, 0, 0, 10]));
    w.watch();
    assert!(w.reaches(2, 1, [10, 0, 0, 1]));
    let out = w.frames(0, "p1", Dir::Out);
    assert!(!out.is_empty() && out.iter().all(|f| f[12..14] == [8, 0]), "{out:?}");
}

#[test]
fn without_a_first_choice_frames_without_a_tag_are_dropped() {
    let mut w = switch();
    assert_eq!(vlan(&mut w, true, "p1", &[info(1, BRIDGE_VLAN_INFO_UNTAGGED)]).0, 0);
    w.watch();
    assert!(!w.reaches(1, 2, [10, 0, 0, 2]));
    assert_eq!(w.drops().first(), Some(&("NOT_SPECIFIED", "br_allowed_ingress")));
}

#[test]
fn the_machine_itself_is_a_port() {
    let mut w = switch();
    w.addr(0, "br0", [10, 0, 0, 9]);
    assert!(w.reaches(1, 0, [10, 0, 0, 9]));
    assert_eq!(vlan(&mut w, false, "br0", &[a16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF), info(1, 0)]).0, 0);
    assert!(!w.reaches(1, 0, [10, 0, 0, 9]) && !w.reaches(0, 1, [10, 0, 0, 1]));
    // By a VLAN of the bridge's own, whose tag the bridge does not take off.
    for (port, flags) in [("br0", BRIDGE_FLAGS_SELF), ("p1", BRIDGE_FLAGS_MASTER)] {
        let how = if port == "p1" { FIRST } else { 0 };
        assert_eq!(vlan(&mut w, true, port, &[a16(IFLA_BRIDGE_FLAGS, flags), info(20, how)]).0, 0);
    }
    let link = a32(IFLA_LINK, w.index(0, "br0"));
    assert_eq!(w.add(0, "br0.20", "vlan", &[link], &[a16(IFLA_VLAN_ID, 20)]).0, 0);
    w.up(0, "br0.20");
    let br = w.dev(0, "br0");
    w.k.net.del_ifa(br, 0).unwrap();
    w.addr(0, "br0.20", [10, 0, 0, 9]);
    assert!(w.reaches(1, 0, [10, 0, 0, 9]) && w.reaches(0, 1, [10, 0, 0, 1]));
    assert!(!w.reaches(2, 0, [10, 0, 0, 9]));
}

#[test]
fn lists_are_shown_singly_and_as_ranges() {
    let mut w = switch();
    assert_eq!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN), [(1, FIRST)]);
    assert_eq!(shown(&mut w, "br0", RTEXT_FILTER_BRVLAN), [(1, FIRST)]);
    let range = [info(100, BRIDGE_VLAN_INFO_RANGE_BEGIN), info(103, BRIDGE_VLAN_INFO_RANGE_END)];
    assert_eq!(vlan(&mut w, true, "p1", &range).0, 0);
    assert_eq!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN).len(), 5);
    let ranges = [(1, FIRST), (100, BRIDGE_VLAN_INFO_RANGE_BEGIN), (103, BRIDGE_VLAN_INFO_RANGE_END)];
    assert_eq!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN_COMPRESSED), ranges);
    assert_eq!(vlan(&mut w, true, "p1", &[info(101, FIRST)]).0, 0);
    assert_eq!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN)[..3], [(1, 4), (100, 0), (101, FIRST)]);
    assert!(shown(&mut w, "br0", 0).is_empty());
}

#[test]
fn requests_without_sense_are_refused() {
    let mut w = switch();
    let (begin, end) = (BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END);
    for (port, spec, errno) in [
        ("p1", vec![info(0, 0)], 22),
        ("p1", vec![info(4095, 0)], 22),
        ("p1", vec![info(9, begin), info(5, end)], 22),
        ("p1", vec![info(5, begin), info(9, end | BRIDGE_VLAN_INFO_PVID)], 22),
        ("br0", vec![info(5, 0)], 95),
        ("p1", vec![a16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF), info(5, 0)], 95),
        ("p1", vec![a16(IFLA_BRIDGE_MODE, 1)], 95),
    ] {
        assert_eq!(vlan(&mut w, true, port, &spec).0, errno, "{port} {spec:?}");
    }
    assert_eq!(vlan(&mut w, false, "p1", &[info(77, 0)]).0, 0, "not there, as wanted");
    assert_eq!(w.set_kind(0, "br0", "bridge", &[(IFLA_BR_VLAN_PROTOCOL, vec![8, 0])]).0, 93);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a16(IFLA_BR_VLAN_DEFAULT_PVID, 4095)]).0, 22);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_VLAN_STATS_ENABLED, 1)]).0, 95);
}

#[test]
fn a_new_default_takes_the_place_of_the_old_where_nobody_chose() {
    let mut w = switch();
    assert_eq!(vlan(&mut w, true, "p2", &[info(5, FIRST)]).0, 0);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a16(IFLA_BR_VLAN_DEFAULT_PVID, 7)]).0, 0);
    assert_eq!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN), [(7, FIRST)]);
    assert_eq!(shown(&mut w, "br0", RTEXT_FILTER_BRVLAN), [(7, FIRST)]);
    assert_eq!(shown(&mut w, "p2", RTEXT_FILTER_BRVLAN), [(1, 4), (5, FIRST)]);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a16(IFLA_BR_VLAN_DEFAULT_PVID, 0)]).0, 0);
    assert!(shown(&mut w, "p1", RTEXT_FILTER_BRVLAN).is_empty());
}

#[test]
fn addresses_are_entered_for_a_vlan_or_for_all() {
    let mut w = switch();
    let (head, mac) = (
        |w: &World| NdMsg {
            family: AF_BRIDGE as u8,
            ifindex: w.index(0, "p1") as i32,
            state: 0x40,
            flags: NTF_MASTER,
            kind: 0,
        },
        vec![2, 0, 0, 0, 0, 0x77],
    );
    let create = belljar_abi::netlink::NLM_F_CREATE | belljar_abi::netlink::NLM_F_EXCL;
    let lladdr = (NDA_LLADDR, mac.clone());
    let body = head(&w).to_bytes();
    assert_eq!(
        w.netlink(0, RTM_NEWNEIGH, create, &body, &[lladdr.clone(), a16(NDA_VLAN, 10)]).0,
        22,
        "no such VLAN here"
    );
    assert_eq!(w.netlink(0, RTM_NEWNEIGH, create, &body, &[lladdr.clone(), a16(NDA_VLAN, 4095)]).1, "invalid vlan id");
    assert_eq!(w.netlink(0, RTM_NEWNEIGH, create, &body, std::slice::from_ref(&lladdr)).0, 0);
    let (br, key) = (w.dev(0, "br0"), belljar_wire::Mac([2, 0, 0, 0, 0, 0x77]));
    let vids = |w: &World| -> Vec<u16> {
        bridge_fdb::entries(&w.k.net, br).filter(|(k, _)| k.0 == key).map(|(k, _)| k.1).collect()
    };
    assert_eq!(vids(&w), [0, 1]);
    assert_eq!(w.netlink(0, RTM_DELNEIGH, 0, &body, &[lladdr.clone(), a16(NDA_VLAN, 1)]).0, 0);
    assert_eq!(vids(&w), [0]);
    assert_eq!(w.netlink(0, RTM_DELNEIGH, 0, &body, &[lladdr]).0, 0);
    assert!(vids(&w).is_empty());
}
