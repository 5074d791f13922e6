//! Next hop objects by netlink: what is refused and in which words, groups, and routes that follow them.
mod world;

use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET, AF_INET6, Errno};
use belljar_kernel::net::ipv4::fib::{self, RouteType};
use world::*;

fn world() -> World {
    let mut w = World::new(2);
    for n in 0..2 {
        let (a, b) = (format!("d{n}"), format!("e{n}"));
        w.veth((0, &a), (1, &b));
        w.up(0, &a);
        w.up(1, &b);
        w.addr(0, &a, [10, n as u8 + 1, 0, 1]);
        w.addr(1, &b, [10, n as u8 + 1, 0, 2]);
    }
    w
}

fn put(w: &mut World, family: i32, flags: u16, attrs: &[Attr]) -> (i32, String) {
    let (errno, text, _) = w.netlink(0, RTM_NEWNEXTHOP, flags, &[family as u8, 0, 0, 0, 0, 0, 0, 0], attrs);
    (errno, text)
}

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn one(w: &mut World, flags: u16, id: u32, gateway: [u8; 4], dev: &str) -> (i32, String) {
    let oif = w.index(0, dev);
    put(w, AF_INET, flags, &[a32(NHA_ID, id), a32(NHA_OIF, oif), (NHA_GATEWAY, gateway.to_vec())])
}

fn group(w: &mut World, flags: u16, id: u32, members: &[(u32, u8)]) -> (i32, String) {
    let list = members.iter().flat_map(|(id, weight)| [&id.to_ne_bytes()[..], &[weight - 1, 0, 0, 0]].concat());
    put(w, 0, flags, &[a32(NHA_ID, id), (NHA_GROUP, list.collect())])
}

fn route(w: &mut World, net: u8, id: u32) -> (i32, String) {
    let msg = RtMsg { family: AF_INET as u8, dst_len: 16, table: 254, protocol: 3, kind: 1, ..RtMsg::default() };
    let attrs = [(RTA_DST, vec![10, net, 0, 0]), a32(RTA_NH_ID, id)];
    let (errno, text, _) = w.netlink(0, RTM_NEWROUTE, NEW, &msg.to_bytes(), &attrs);
    (errno, text)
}

/// The routers of a prefix, with their weights.
fn hops(w: &World, net: u8) -> Vec<([u8; 4], u16)> {
    let n = w.k.net.ns.get(w.ns(0)).unwrap();
    let routes = n.fib.main.get([10, net, 0, 0].into(), 16);
    routes.iter().map(|r| (r.gateway.map_or([0; 4], |g| g.octets()), r.weight)).collect()
}

const OK: (i32, String) = (0, String::new());

#[test]
fn routes_follow_their_objects() {
    let mut w = world();
    assert_eq!(one(&mut w, NEW, 1, [10, 1, 0, 2], "d0"), OK);
    assert_eq!(one(&mut w, NEW, 2, [10, 2, 0, 2], "d1"), OK);
    assert_eq!(one(&mut w, NEW, 1, [10, 1, 0, 2], "d0").0, Errno::EEXIST.0);
    assert_eq!(group(&mut w, NEW, 10, &[(1, 3), (2, 7)]), OK);
    assert_eq!(route(&mut w, 50, 1), OK);
    assert_eq!(route(&mut w, 51, 10), OK);
    assert_eq!(hops(&w, 51), [([10, 1, 0, 2], 3), ([10, 2, 0, 2], 7)]);
    assert_eq!(one(&mut w, NLM_F_CREATE | NLM_F_REPLACE, 1, [10, 1, 0, 7], "d0"), OK);
    assert_eq!((hops(&w, 50), hops(&w, 51)[0]), (vec![([10, 1, 0, 7], 1)], ([10, 1, 0, 7], 3)));
    // Away with its device, out of its group as well.
    w.down(0, "d0");
    assert_eq!((hops(&w, 50), hops(&w, 51)), (vec![], vec![([10, 2, 0, 2], 7)]));
    w.down(1, "e1");
    assert_eq!(hops(&w, 51), []);
    assert!(w.k.net.ns.get(w.ns(0)).unwrap().nexthops.all.is_empty());
}

#[test]
fn a_blackhole_is_what_its_routes_are() {
    let mut w = world();
    assert_eq!(put(&mut w, AF_INET, NEW, &[a32(NHA_ID, 4), (NHA_BLACKHOLE, vec![])]), OK);
    assert_eq!(route(&mut w, 52, 4), OK);
    let found = fib::lookup(&w.k.net, w.ns(0), [10, 52, 0, 1].into(), None).unwrap();
    assert_eq!((found.kind, found.nhid), (RouteType::Blackhole, 4));
    let text = w.k.proc_text(w.ns(0), "/proc/net/route").unwrap();
    assert!(text.contains("lo\t0000340A\t00000000\t0001\t"), "{text}");
    let (errno, ..) = w.netlink(0, RTM_DELNEXTHOP, 0, &[0; 8], &[a32(NHA_ID, 4)]);
    assert_eq!((errno, hops(&w, 52)), (0, vec![]));
}

#[test]
fn what_is_refused_is_told() {
    let mut w = world();
    let oif = w.index(0, "d0");
    assert_eq!(one(&mut w, NEW, 1, [10, 1, 0, 2], "d0"), OK);
    assert_eq!(put(&mut w, AF_INET, NEW, &[a32(NHA_ID, 4), (NHA_BLACKHOLE, vec![])]), OK);
    assert_eq!(group(&mut w, NEW, 10, &[(1, 1)]), OK);
    let said = |answer: (i32, String), errno: Errno, text: &str| {
        assert_eq!(answer, (errno.0, text.to_owned()));
    };
    said(one(&mut w, NEW, 9, [10, 9, 0, 2], "d0"), Errno::ENETUNREACH, "Nexthop has invalid gateway");
    said(group(&mut w, NEW, 9, &[(99, 1)]), Errno::EINVAL, "Invalid nexthop id");
    said(group(&mut w, NEW, 9, &[(1, 1), (1, 2)]), Errno::EINVAL, "Nexthop id can not be used twice in a group");
    let text = "Blackhole nexthop can not be used in a group with more than 1 path";
    said(group(&mut w, NEW, 9, &[(1, 1), (4, 1)]), Errno::EINVAL, text);
    let text = "Hash-threshold group can not be a nexthop within a group";
    said(group(&mut w, NEW, 9, &[(10, 1)]), Errno::EINVAL, text);
    let text = "Device attribute required for non-blackhole and non-fdb nexthops";
    let gateway = (NHA_GATEWAY, vec![10, 1, 0, 3]);
    said(put(&mut w, AF_INET, NEW, &[a32(NHA_ID, 9), gateway]), Errno::EINVAL, text);
    said(put(&mut w, 0, NEW, &[a32(NHA_ID, 9), a32(NHA_OIF, oif)]), Errno::EINVAL, "Invalid address family");
    let over = NLM_F_CREATE | NLM_F_REPLACE;
    let text = "Can not replace a nexthop with a nexthop group.";
    said(group(&mut w, over, 1, &[(4, 1)]), Errno::EINVAL, text);
    let text = "Replace specified without create and no entry exists";
    said(group(&mut w, NLM_F_REPLACE, 9, &[(1, 1)]), Errno::ENOENT, text);
    said(route(&mut w, 53, 99), Errno::EINVAL, "Nexthop id does not exist");
    let six = RtMsg { family: AF_INET6 as u8, dst_len: 64, table: 254, protocol: 3, kind: 1, ..RtMsg::default() };
    let dst = (RTA_DST, [&[0xfd][..], &[0; 15]].concat());
    let (errno, text, _) = w.netlink(0, RTM_NEWROUTE, NEW, &six.to_bytes(), &[dst, a32(RTA_NH_ID, 1)]);
    assert_eq!((errno, text.as_str()), (Errno::EINVAL.0, "IPv6 routes can not use an IPv4 nexthop"));
    // Encapsulation, and numbers that are none.
    assert_eq!(put(&mut w, AF_INET, NEW, &[a32(NHA_ID, 9), a32(NHA_OIF, oif), a16(7, 1)]).0, Errno::EOPNOTSUPP.0);
    assert_eq!(w.netlink(0, RTM_GETNEXTHOP, 0, &[0; 8], &[a32(NHA_ID, 99)]).0, Errno::ENOENT.0);
    assert_eq!(w.netlink(0, RTM_DELNEXTHOP, 0, &[0; 8], &[]).1, "Nexthop id is missing");
}
