//! Multicast snooping of a bridge: who gets a group's frames, and what `bridge mdb` shows and refuses. What is expected was
//! measured on Linux 6.18.
mod world;

use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_BRIDGE, Errno};
use belljar_kernel::env::trace::Dir;
use belljar_wire::Mac;
use world::*;

/// Three hosts on a bridge in a namespace of its own (0).
fn switch(settings: &[Attr]) -> World {
    let mut w = World::new(4);
    assert_eq!(w.add(0, "br0", "bridge", &[], settings).0, 0);
    w.up(0, "br0");
    for n in 1..=3 {
        let port = format!("p{n}");
        w.veth((0, &port), (n, "e"));
        w.master(0, &port, "br0");
        w.up(0, &port);
        w.up(n, "e");
        w.addr(n, "e", [10, 0, 0, n as u8]);
    }
    let (ns, e) = (w.ns(1), w.dev(1, "e"));
    w.k.add_route(ns, [224, 0, 0, 0].into(), 4, None, Some(e)).unwrap();
    w
}

/// `bridge mdb`: (device, source or empty, group, permanent).
fn mdb(w: &mut World) -> Vec<(u32, Vec<u8>, bool)> {
    let mut out = Vec::new();
    for b in w.netlink(0, RTM_GETMDB, NLM_F_DUMP, &[AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0], &[]).2 {
        for (_, e) in attrs(find(&attrs(&b[8..]), MDBA_MDB)) {
            for (_, i) in attrs(&e) {
                let index = u32::from_ne_bytes(*i.first_chunk().unwrap());
                if i[24..26] == [8, 0] {
                    out.push((index, i[8..12].to_vec(), i[4] == MDB_PERMANENT));
                }
            }
        }
    }
    out
}

fn routers(w: &mut World) -> Vec<u32> {
    let all = w.netlink(0, RTM_GETMDB, NLM_F_DUMP, &[AF_BRIDGE as u8, 0, 0, 0, 0, 0, 0, 0], &[]).2;
    let of = |b: &Vec<u8>| attrs(find(&attrs(&b[8..]), MDBA_ROUTER));
    all.iter().flat_map(of).map(|(_, p)| u32::from_ne_bytes(*p.first_chunk().unwrap())).collect()
}

fn set(w: &mut World, add: bool, port: &str, group: [u8; 4], state: u8) -> (i32, String) {
    let mut msg = [0; 8];
    msg[0] = AF_BRIDGE as u8;
    msg[4..].copy_from_slice(&w.index(0, "br0").to_ne_bytes());
    let mut e = w.index(0, port).to_ne_bytes().to_vec();
    e.extend([state, 0, 0, 0]);
    e.extend(group);
    e.extend([0; 12]);
    e.extend([8, 0, 0, 0]);
    let kind = if add { RTM_NEWMDB } else { RTM_DELMDB };
    let (errno, text, _) = w.netlink(0, kind, NLM_F_CREATE | NLM_F_EXCL, &msg, &[(MDBA_SET_ENTRY, e)]);
    (errno, text)
}

fn igmp(kind: u8, code: u8, group: [u8; 4], src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    use belljar_wire::igmp::IgmpHeader;
    use belljar_wire::ipv4::Ipv4Header;
    let body = IgmpHeader { kind, code, group: group.into() }.bytes();
    let ip = Ipv4Header { total_len: 28, ttl: 1, proto: 2, src: src.into(), dst: dst.into(), ..Ipv4Header::default() };
    let mut f = vec![1, 0, 0x5e, dst[1] & 0x7f, dst[2], dst[3], 2, 0, 0, 0, 9, 9, 8, 0];
    let mut b = [0; 20];
    ip.emit(&mut b);
    f.extend(b);
    f.extend(body);
    f
}

/// A frame comes in by a port, as its other end sent it.
fn inject(w: &mut World, n: usize, frame: &[u8]) {
    w.inject(n, "e", frame);
    w.settle();
}

/// The devices of the other hosts that a datagram to a group from host 1 reaches.
fn hear(w: &mut World, group: [u8; 4]) -> Vec<usize> {
    let fd = w.udp(1, 0);
    w.watch();
    w.send(1, fd, b"to the group", group, 7000).unwrap();
    let end = Mac([1, 0, 0x5e, group[1] & 0x7f, group[2], group[3]]);
    let mut seen: Vec<usize> = Vec::new();
    for (n, dev, frame) in w.taps(Dir::In) {
        if n > 1 && dev == "e" && frame[..6] == end.0 && frame[23] == 17 {
            seen.push(n);
        }
    }
    seen
}

const GROUP: [u8; 4] = [239, 1, 1, 1];
const REPORT: u8 = 0x16;
const LEAVE: u8 = 0x17;
const QUERY: u8 = 0x11;

fn join(w: &mut World, n: usize) {
    inject(w, n, &igmp(REPORT, 0, GROUP, [10, 0, 0, n as u8], GROUP));
}

/// Host 3 asks, as a router would.
fn query(w: &mut World) {
    inject(w, 3, &igmp(QUERY, 10, [0; 4], [10, 0, 0, 3], [224, 0, 0, 1]));
    w.advance(2 * SEC);
}

#[test]
fn without_a_querier_groups_are_flooded_with_one_they_are_not() {
    let mut w = switch(&[]);
    join(&mut w, 2);
    assert_eq!(mdb(&mut w), [(w.index(0, "p2"), GROUP.to_vec(), false)]);
    assert_eq!(hear(&mut w, GROUP), [2, 3]);
    query(&mut w);
    assert_eq!(routers(&mut w), [w.index(0, "p3")]);
    assert_eq!(hear(&mut w, GROUP), [2, 3], "a member and a router");
    assert_eq!(hear(&mut w, [239, 9, 9, 9]), [3], "the router hears what nobody joined");
    // 224.0.0.x is everybody's.
    assert_eq!(hear(&mut w, [224, 0, 0, 77]), [2, 3]);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_MCAST_SNOOPING, 0)]).0, 0);
    assert_eq!(hear(&mut w, [239, 9, 9, 9]), [2, 3]);
}

#[test]
fn memberships_end() {
    let mut w = switch(&[]);
    join(&mut w, 2);
    w.advance(250 * SEC);
    assert_eq!(mdb(&mut w).len(), 1);
    w.advance(11 * SEC);
    assert_eq!(mdb(&mut w).len(), 0, "membership interval");
    join(&mut w, 2);
    inject(&mut w, 2, &igmp(LEAVE, 0, GROUP, [10, 0, 0, 2], [224, 0, 0, 2]));
    assert_eq!(mdb(&mut w).len(), 1);
    w.advance(2100 * SEC / 1000);
    assert_eq!(mdb(&mut w).len(), 0, "last member count times interval");
    let p2 = w.dev(0, "p2");
    join(&mut w, 2);
    let fast = |w: &mut World| {
        let head = IfInfoMsg { family: AF_BRIDGE as u8, index: w.index(0, "p2") as i32, ..IfInfoMsg::default() };
        w.netlink(0, RTM_SETLINK, 0, &head.to_bytes(), &[nest(IFLA_PROTINFO, &[a8(IFLA_BRPORT_FAST_LEAVE, 1)])]).0
    };
    assert_eq!(fast(&mut w), 0);
    inject(&mut w, 2, &igmp(LEAVE, 0, GROUP, [10, 0, 0, 2], [224, 0, 0, 2]));
    assert_eq!(mdb(&mut w).len(), 0, "fast leave");
    join(&mut w, 2);
    w.k.set_link(p2, false).unwrap();
    w.settle();
    assert_eq!(mdb(&mut w).len(), 0, "the port went down");
}

#[test]
fn a_querier_asks_from_its_ports() {
    let mut w = switch(&[a8(IFLA_BR_MCAST_QUERIER, 1)]);
    w.watch();
    w.advance(126 * SEC);
    let out: Vec<Vec<u8>> = w.frames(0, "p1", Dir::Out).into_iter().filter(|f| f[23] == 2 && f[38] == QUERY).collect();
    assert_eq!(out.len(), 2, "soon again, then every query interval");
    // No address, code 100 (10 s), to all hosts.
    assert_eq!((&out[0][26..34], out[0][39]), (&[0, 0, 0, 0, 224, 0, 0, 1][..], 100));
    assert_eq!(out[0][..6], [1, 0, 0x5e, 0, 0, 1]);
    // A group's last member leaves: it is asked for.
    join(&mut w, 2);
    w.watch();
    inject(&mut w, 2, &igmp(LEAVE, 0, GROUP, [10, 0, 0, 2], [224, 0, 0, 2]));
    let out = w.frames(0, "p2", Dir::Out);
    let asked: Vec<_> = out.iter().filter(|f| f[23] == 2 && f[38] == QUERY).collect();
    assert_eq!((asked.len(), &asked[0][42..46], asked[0][39]), (1, &GROUP[..], 10));
}

#[test]
fn sources_count_in_version_3() {
    let mut w = switch(&[a8(IFLA_BR_MCAST_IGMP_VERSION, 3)]);
    use belljar_wire::igmp::{Record, RecordType, report};
    let v3 = |kind, sources: &[[u8; 4]]| {
        let sources = sources.iter().map(|s| (*s).into()).collect();
        let body = report(&[Record { kind, group: GROUP.into(), sources }]);
        let mut f = igmp(0x22, 0, GROUP, [10, 0, 0, 2], [224, 0, 0, 22]);
        f.truncate(34);
        f.extend(&body);
        let len = (20 + body.len()) as u16;
        f[16..18].copy_from_slice(&len.to_be_bytes());
        f[24..26].copy_from_slice(&[0, 0]);
        let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&f[14..34], 0));
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f
    };
    query(&mut w);
    inject(&mut w, 2, &v3(RecordType::AllowNewSources, &[[10, 0, 0, 1]]));
    assert_eq!(mdb(&mut w).len(), 2, "the group, and its source as an entry");
    assert_eq!(hear(&mut w, GROUP), [2, 3]);
    inject(&mut w, 2, &v3(RecordType::ChangeToExclude, &[[10, 0, 0, 1]]));
    inject(&mut w, 2, &v3(RecordType::ModeIsExclude, &[[10, 0, 0, 1]]));
    w.advance(3 * SEC);
    assert_eq!(hear(&mut w, GROUP), [3], "that source is not wanted");
    inject(&mut w, 2, &v3(RecordType::ChangeToInclude, &[]));
    w.advance(3 * SEC);
    assert_eq!(mdb(&mut w).len(), 0);
}

#[test]
fn entries_by_hand_and_what_is_refused() {
    let mut w = switch(&[]);
    let no = Errno::EINVAL.0;
    let refused = |text: &str| (no, text.to_owned());
    assert_eq!(set(&mut w, true, "p1", GROUP, 0).0, 0);
    let again = (Errno::EEXIST.0, "bridge: (*, G) group is already joined by port".to_owned());
    assert_eq!(set(&mut w, true, "p1", GROUP, 0), again);
    assert_eq!(set(&mut w, true, "p1", [239, 1, 1, 2], 1).0, 0);
    assert_eq!(set(&mut w, true, "br0", [239, 1, 1, 3], 0).0, 0);
    assert_eq!(set(&mut w, true, "br0", [239, 1, 1, 4], 1), refused("bridge: Flags are not allowed for host groups"));
    assert_eq!(set(&mut w, true, "p1", [224, 0, 0, 5], 1), refused("IPv4 entry group address is local multicast"));
    let text = "IPv4 entry group address is not multicast or 0.0.0.0";
    assert_eq!(set(&mut w, true, "p1", [10, 1, 1, 1], 1), refused(text));
    assert_eq!(set(&mut w, true, "lo", GROUP, 0), refused("bridge: Net device is not a bridge port"));
    assert_eq!(set(&mut w, false, "p2", GROUP, 0).0, no);
    let (p1, br) = (w.index(0, "p1"), w.index(0, "br0"));
    let shown = [(br, vec![239, 1, 1, 3], false), (p1, vec![239, 1, 1, 2], true), (p1, GROUP.to_vec(), false)];
    assert_eq!(mdb(&mut w), shown, "the newest first");
    w.down(0, "p1");
    let text = "bridge: Port is in disabled state and entry is not permanent";
    assert_eq!(set(&mut w, true, "p1", GROUP, 0), refused(text));
    w.down(0, "br0");
    assert_eq!(set(&mut w, true, "p2", GROUP, 0), refused("bridge: Bridge device is not running"));
    assert_eq!(set(&mut w, false, "p1", [239, 1, 1, 2], 1).0, 0);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_MCAST_ROUTER, 3)]).0, no);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_MCAST_IGMP_VERSION, 4)]).0, no);
}
