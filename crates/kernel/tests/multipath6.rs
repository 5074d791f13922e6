//! Next hops that share a route of IPv6. What is expected was measured on Linux 6.18.
mod world;

use belljar_abi::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET6, Errno};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use world::*;

const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
const APPEND: u16 = NLM_F_CREATE | NLM_F_APPEND;
const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
const DST: &str = "2001:db8:a::";

fn ip(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

/// A host on two links, `v0` and `w0`.
fn host() -> World {
    let mut w = World::new(2);
    for n in 0..2 {
        let ns = w.ns(n);
        w.k.net.enable_ipv6(ns);
    }
    for (name, peer, addr) in [("v0", "v1", "2001:db8:1::1"), ("w0", "w1", "2001:db8:2::1")] {
        w.veth((0, name), (1, peer));
        w.up(0, name);
        w.up(1, peer);
        let dev = w.dev(0, name);
        w.k.net.add_address6(dev, ip(addr), 64, true).unwrap();
    }
    w
}

fn head(len: u8) -> Vec<u8> {
    RtMsg { family: AF_INET6 as u8, dst_len: len, table: 254, protocol: 3, kind: RTN_UNICAST, ..RtMsg::default() }
        .to_bytes()
        .to_vec()
}

/// `nexthop via A weight N …` in the attribute's form.
fn hops(all: &[(&str, u8)]) -> Attr {
    let mut list = Vec::new();
    for (via, weight) in all {
        let (_, gateway) = nest(0, &[(RTA_GATEWAY, ip(via).octets().to_vec())]);
        list.extend(((8 + gateway.len()) as u16).to_ne_bytes());
        list.extend([0, weight - 1, 0, 0, 0, 0]);
        list.extend(gateway);
    }
    (RTA_MULTIPATH, list)
}

fn via(a: &str) -> Attr {
    (RTA_GATEWAY, ip(a).octets().to_vec())
}

fn ask(w: &mut World, kind: u16, flags: u16, attrs: &[Attr]) -> (i32, String) {
    let mut all = vec![(RTA_DST, ip(DST).octets().to_vec())];
    all.extend(attrs.iter().cloned());
    let (errno, text, _) = w.netlink(0, kind, flags, &head(48), &all);
    (errno, text)
}

fn add(w: &mut World, flags: u16, attrs: &[Attr]) -> i32 {
    ask(w, RTM_NEWROUTE, flags, attrs).0
}

/// What a dump says of the prefix: (gateway, weight, flags) of each next hop, a list for each route.
fn shown(w: &mut World) -> Vec<Vec<(Ipv6Addr, u8, u8)>> {
    let all = w.netlink(0, RTM_GETROUTE, NLM_F_DUMP, &head(0), &[]).2;
    let mut routes = Vec::new();
    for b in all.iter().filter(|b| find(&attrs(&b[RtMsg::LEN..]), RTA_DST) == ip(DST).octets()) {
        let a = attrs(&b[RtMsg::LEN..]);
        let gw = |v: &[u8]| v.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| Ipv6Addr::from(*b));
        let mut rest = find(&a, RTA_MULTIPATH);
        let mut hops = Vec::new();
        while let [l0, l1, flags, weight, ..] = *rest {
            let len = usize::from(u16::from_ne_bytes([l0, l1]));
            hops.push((gw(find(&attrs(&rest[8..len]), RTA_GATEWAY)), weight + 1, flags));
            rest = &rest[len..];
        }
        if hops.is_empty() {
            hops.push((gw(find(&a, RTA_GATEWAY)), 1, 0));
        }
        routes.push(hops);
    }
    routes
}

/// How often each router is taken, over many destinations.
fn taken(w: &mut World) -> BTreeMap<Ipv6Addr, u32> {
    let mut all = BTreeMap::new();
    for n in 0..2000u128 {
        let dst = Ipv6Addr::from_bits(ip(DST).to_bits() | n);
        let got = w.netlink(0, RTM_GETROUTE, 0, &head(128), &[(RTA_DST, dst.octets().to_vec())]).2;
        let gw = find(&attrs(&got[0][RtMsg::LEN..]), RTA_GATEWAY).first_chunk::<16>().copied().unwrap();
        *all.entry(gw.into()).or_insert(0) += 1;
    }
    all
}

#[test]
fn next_hops_come_one_by_one_or_together_and_go_so() {
    let mut w = host();
    let two = [hops(&[("2001:db8:1::9", 1), ("2001:db8:2::9", 3)])];
    let (a, b, c) = (ip("2001:db8:1::9"), ip("2001:db8:2::9"), ip("2001:db8:1::8"));
    assert_eq!(add(&mut w, ADD, &two), 0);
    assert_eq!(shown(&mut w), [vec![(a, 1, 0), (b, 3, 0)]]);
    assert_eq!(add(&mut w, ADD, &two), Errno::EEXIST.0);
    assert_eq!(add(&mut w, APPEND, &[via("2001:db8:1::8")]), 0);
    assert_eq!(add(&mut w, APPEND, &[via("2001:db8:1::8")]), Errno::EEXIST.0, "the same again");
    assert_eq!(shown(&mut w), [vec![(a, 1, 0), (b, 3, 0), (c, 1, 0)]]);
    // With a router it is that one, without all.
    assert_eq!(ask(&mut w, RTM_DELROUTE, 0, &[via("2001:db8:1::8")]).0, 0);
    assert_eq!(shown(&mut w)[0].len(), 2);
    assert_eq!(ask(&mut w, RTM_DELROUTE, 0, &[hops(&[("2001:db8:1::9", 1)])]).0, 0);
    assert_eq!(shown(&mut w), [vec![(b, 1, 0)]]);
    assert_eq!(add(&mut w, APPEND, &two[..]), Errno::EEXIST.0);
    assert_eq!(add(&mut w, APPEND, &[via("2001:db8:1::8")]), 0);
    assert_eq!(ask(&mut w, RTM_DELROUTE, 0, &[]).0, 0);
    assert_eq!(shown(&mut w), Vec::<Vec<_>>::new());
}

#[test]
fn a_replacement_takes_the_place_of_its_own_kind() {
    let mut w = host();
    let index = w.index(0, "w0");
    let (a, b) = (ip("2001:db8:1::5"), ip("2001:db8:2::5"));
    let none = Ipv6Addr::UNSPECIFIED;
    assert_eq!(add(&mut w, ADD, &[via("2001:db8:1::9")]), 0);
    assert_eq!(add(&mut w, APPEND, &[via("2001:db8:1::8")]), 0);
    assert_eq!(add(&mut w, APPEND, &[a32(RTA_OIF, index)]), 0, "a device alone stands beside them");
    assert_eq!(add(&mut w, REPLACE, &[hops(&[("2001:db8:1::5", 1), ("2001:db8:2::5", 1)])]), 0);
    // Linux passes over what stands between the next hops: here the device.
    assert_eq!(shown(&mut w), [vec![(a, 1, 0), (b, 1, 0)]]);
    assert_eq!(add(&mut w, REPLACE, &[via("2001:db8:2::6")]), 0);
    assert_eq!(shown(&mut w), [vec![(ip("2001:db8:2::6"), 1, 0)], vec![(none, 1, 0)]]);
    assert_eq!(ask(&mut w, RTM_DELROUTE, 0, &[via("2001:db8:2::6")]).0, 0);
    // Of the other kind only where there is none of its own.
    assert_eq!(add(&mut w, REPLACE, &[via("2001:db8:2::6")]), 0);
    assert_eq!(shown(&mut w), [vec![(ip("2001:db8:2::6"), 1, 0)]]);
}

#[test]
fn what_cannot_be_a_next_hop_is_refused_and_nothing_stays() {
    let mut w = host();
    let far = [hops(&[("2001:db8:1::9", 1), ("2001:db8:77::1", 1)])];
    assert_eq!(add(&mut w, ADD, &far), Errno::EHOSTUNREACH.0);
    let own = ask(&mut w, RTM_NEWROUTE, ADD, &[hops(&[("2001:db8:1::1", 1)])]);
    assert_eq!(own, (Errno::EINVAL.0, "Gateway can not be a local address".into()));
    let twice = [hops(&[("2001:db8:1::9", 1), ("2001:db8:1::9", 1)])];
    assert_eq!(add(&mut w, ADD, &twice), Errno::EEXIST.0);
    let mut only = vec![8, 0, 0, 0];
    only.extend(w.index(0, "v0").to_ne_bytes());
    let text = "Device only routes can not be added for IPv6 using the multipath API.";
    assert_eq!(ask(&mut w, RTM_NEWROUTE, ADD, &[(RTA_MULTIPATH, only)]), (Errno::EINVAL.0, text.into()));
    assert_eq!(add(&mut w, ADD, &[(RTA_MULTIPATH, vec![40, 0, 0, 0, 0, 0, 0, 0])]), Errno::EINVAL.0);
    assert_eq!(add(&mut w, ADD, &[(RTA_MULTIPATH, vec![8, 0, 0])]), Errno::EINVAL.0);
    let change = ask(&mut w, RTM_NEWROUTE, NLM_F_REPLACE, &[via("2001:db8:1::4")]);
    assert_eq!(change, (Errno::ENOENT.0, "Can not replace route - no match found".into()));
    assert_eq!(shown(&mut w), Vec::<Vec<_>>::new());
}

#[test]
fn flows_part_by_weights_and_keep_their_way() {
    let mut w = host();
    assert_eq!(add(&mut w, ADD, &[hops(&[("2001:db8:1::9", 3), ("2001:db8:2::9", 1)])]), 0);
    let all = taken(&mut w);
    let first = all[&ip("2001:db8:1::9")];
    assert!(all.len() == 2 && (1400..1600).contains(&first), "{all:?}");
    assert_eq!(taken(&mut w), all);
    // The destination is not in what counts: all go one way.
    let ns = w.ns(0);
    w.k.sysctl_set(ns, "net.ipv6.fib_multipath_hash_policy", "3").unwrap();
    w.k.sysctl_set(ns, "net.ipv6.fib_multipath_hash_fields", "1").unwrap();
    assert_eq!(taken(&mut w).len(), 1);
    for (setting, value) in [("policy", "4"), ("fields", "0"), ("fields", "4096")] {
        let key = format!("net.ipv6.fib_multipath_hash_{setting}");
        assert_eq!(w.k.sysctl_set(ns, &key, value), Err(Errno::EINVAL), "{setting}");
    }
}

#[test]
fn a_next_hop_is_dead_while_its_device_is_down() {
    const DEAD: u8 = (RTNH_F_DEAD | RTNH_F_LINKDOWN) as u8;
    let mut w = host();
    let (a, b) = (ip("2001:db8:1::9"), ip("2001:db8:2::9"));
    let two = [hops(&[("2001:db8:1::9", 1), ("2001:db8:2::9", 1)])];
    assert_eq!(add(&mut w, ADD, &two), 0);
    let [v0, w0] = ["v0", "w0"].map(|n| w.dev(0, n));
    w.k.set_link(w0, false).unwrap();
    assert_eq!(shown(&mut w), [vec![(a, 1, 0), (b, 1, DEAD)]]);
    assert_eq!(taken(&mut w).keys().copied().collect::<Vec<_>>(), [a]);
    w.k.set_link(w0, true).unwrap();
    assert_eq!(shown(&mut w), [vec![(a, 1, 0), (b, 1, 0)]]);
    // With the last of them the route goes.
    w.k.set_link(w0, false).unwrap();
    w.k.set_link(v0, false).unwrap();
    assert_eq!(shown(&mut w), Vec::<Vec<_>>::new());
    // A device that is gone takes its next hop along.
    for (dev, addr) in [(v0, "2001:db8:1::1"), (w0, "2001:db8:2::1")] {
        w.k.set_link(dev, true).unwrap();
        w.k.net.add_address6(dev, ip(addr), 64, true).unwrap();
    }
    assert_eq!(add(&mut w, ADD, &two), 0);
    let index = w.index(0, "w0");
    let info = IfInfoMsg { index: index as i32, ..IfInfoMsg::default() };
    assert_eq!(w.netlink(0, RTM_DELLINK, 0, &info.to_bytes(), &[]).0, 0);
    assert_eq!(shown(&mut w), [vec![(a, 1, 0)]]);
}
