//! Groups of IPv6: what sockets take from which sources, and what routers are told, in both versions of MLD.
mod two;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use core::net::Ipv6Addr;
use two::*;

const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x77);

fn source(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, n)
}

fn storage(a: Ipv6Addr) -> Vec<u8> {
    let mut b = SockAddr::v6(a, 0).emit().to_vec();
    b.resize(128, 0);
    b
}

/// An option of `struct group_req` or `struct group_source_req` on host 0.
fn option(t: &mut Two, fd: Fd, name: i32, group: Ipv6Addr, source: Option<Ipv6Addr>) -> Result<(), Errno> {
    let mut value = [&2u32.to_ne_bytes()[..], &[0; 4], &storage(group)].concat();
    value.extend(source.map(storage).unwrap_or_default());
    t.call(0, Call::SetSockOpt { fd, level: SOL_IPV6, name, value: &value }).map(drop)
}

/// Multicast address records of the reports since the last time: kind, group, sources.
fn told(t: &mut Two) -> Vec<(u8, Vec<Ipv6Addr>)> {
    let mut out = Vec::new();
    let addr = |b: &[u8]| Ipv6Addr::from(*b.first_chunk::<16>().unwrap());
    for p in t.sent(NEXTHDR_ICMP) {
        let m = &p[transport(&p).unwrap().at..];
        if m[0] != ICMPV6_MLD2_REPORT {
            continue;
        }
        let mut rest = &m[8..];
        for _ in 0..u16::from_be_bytes([m[6], m[7]]) {
            let n = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let sources = (0..n).map(|i| addr(&rest[20 + 16 * i..])).collect();
            if addr(&rest[4..]) == GROUP {
                out.push((rest[0], sources));
            }
            rest = &rest[20 + 16 * n..];
        }
    }
    out
}

/// Version 1 messages about the group: type and destination.
fn told_v1(t: &mut Two) -> Vec<(u8, Ipv6Addr)> {
    let sent = t.sent(NEXTHDR_ICMP);
    let about = sent.iter().filter(|p| {
        let m = &p[transport(p).unwrap().at..];
        matches!(m[0], ICMPV6_MGM_REPORT | ICMPV6_MGM_REDUCTION) && m[8..24] == GROUP.octets()
    });
    about.map(|p| (p[transport(p).unwrap().at], Ipv6Header::parse(p).unwrap().dst)).collect()
}

fn ready() -> (Two, Fd) {
    let mut t = Two::new();
    t.sleep(6000);
    let fd = t.socket(0, SOCK_DGRAM, 0);
    t.bind(0, fd, Ipv6Addr::UNSPECIFIED, 5000).unwrap();
    told(&mut t);
    (t, fd)
}

/// Whether a datagram from a source to the group arrives.
fn hears(t: &mut Two, fd: Fd, from: Ipv6Addr) -> bool {
    let mut d = vec![0, 9, 0x13, 0x88, 0, 9, 0, 0, b'x'];
    let pseudo = checksum::pseudo_v6(from, GROUP, NEXTHDR_UDP, d.len());
    let sum = checksum::fold(checksum::sum(&d, pseudo));
    d[6..8].copy_from_slice(&sum.to_be_bytes());
    t.rx_to([0x33, 0x33, 0, 0, 0, 0x77], 64, from, GROUP, NEXTHDR_UDP, &d);
    t.recv(0, fd).is_ok()
}

use belljar_wire::checksum;

#[test]
fn a_list_of_sources_wanted_and_of_sources_not_wanted() {
    let (mut t, fd) = ready();
    option(&mut t, fd, MCAST_JOIN_SOURCE_GROUP, GROUP, Some(source(1))).unwrap();
    assert!(hears(&mut t, fd, source(1)) && !hears(&mut t, fd, source(2)));
    t.sleep(3000);
    assert_eq!(told(&mut t), [(5, vec![source(1)]), (5, vec![source(1)])], "ALLOW_NEW_SOURCES, as often as robust");
    option(&mut t, fd, MCAST_JOIN_SOURCE_GROUP, GROUP, Some(source(2))).unwrap();
    assert!(hears(&mut t, fd, source(2)));
    assert_eq!(option(&mut t, fd, MCAST_JOIN_SOURCE_GROUP, GROUP, Some(source(2))), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(option(&mut t, fd, MCAST_BLOCK_SOURCE, GROUP, Some(source(2))), Err(Errno::EINVAL), "another mode");
    option(&mut t, fd, MCAST_LEAVE_SOURCE_GROUP, GROUP, Some(source(1))).unwrap();
    t.sleep(3000);
    assert_eq!(told(&mut t).last(), Some(&(6, vec![source(1)])), "BLOCK_OLD_SOURCES");
    // The last source is the group itself.
    option(&mut t, fd, MCAST_LEAVE_SOURCE_GROUP, GROUP, Some(source(2))).unwrap();
    assert_eq!(option(&mut t, fd, MCAST_LEAVE_GROUP, GROUP, None), Err(Errno::EADDRNOTAVAIL));
    t.sleep(3000);
    told(&mut t);
    option(&mut t, fd, MCAST_JOIN_GROUP, GROUP, None).unwrap();
    option(&mut t, fd, MCAST_BLOCK_SOURCE, GROUP, Some(source(1))).unwrap();
    assert!(!hears(&mut t, fd, source(1)) && hears(&mut t, fd, source(2)));
    t.sleep(3000);
    assert_eq!(told(&mut t).last(), Some(&(4, vec![source(1)])), "CHANGE_TO_EXCLUDE tells the list as it is");
    option(&mut t, fd, MCAST_UNBLOCK_SOURCE, GROUP, Some(source(1))).unwrap();
    assert!(hears(&mut t, fd, source(1)));
    t.sleep(3000);
    assert_eq!(told(&mut t).last(), Some(&(5, vec![source(1)])));
    t.int(0, Call::Close { fd }).unwrap();
    t.sleep(3000);
    assert_eq!(told(&mut t).last(), Some(&(3, vec![])), "CHANGE_TO_INCLUDE nobody");
}

#[test]
fn the_whole_list_at_once_and_its_bound() {
    let (mut t, fd) = ready();
    let filter = |t: &mut Two, mode: i32, n: u16| {
        let mut value = [&2u32.to_ne_bytes()[..], &[0; 4], &storage(GROUP)].concat();
        value.extend(mode.to_ne_bytes());
        value.extend(u32::from(n).to_ne_bytes());
        (0..n).for_each(|n| value.extend(storage(source(n))));
        t.call(0, Call::SetSockOpt { fd, level: SOL_IPV6, name: MCAST_MSFILTER, value: &value }).map(drop)
    };
    assert_eq!(filter(&mut t, MCAST_INCLUDE, 1), Err(Errno::EINVAL), "not a member");
    option(&mut t, fd, MCAST_JOIN_GROUP, GROUP, None).unwrap();
    filter(&mut t, MCAST_INCLUDE, 3).unwrap();
    assert!(hears(&mut t, fd, source(2)) && !hears(&mut t, fd, source(3)));
    filter(&mut t, MCAST_EXCLUDE, 1).unwrap();
    assert!(!hears(&mut t, fd, source(0)) && hears(&mut t, fd, source(3)));
    assert_eq!(filter(&mut t, MCAST_INCLUDE, 65), Err(Errno::ENOBUFS), "mld_max_msf");
    filter(&mut t, MCAST_INCLUDE, 0).unwrap();
    assert_eq!(option(&mut t, fd, MCAST_LEAVE_GROUP, GROUP, None), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn a_query_about_a_group_or_its_sources_is_answered_about_those() {
    let (mut t, fd) = ready();
    option(&mut t, fd, MCAST_JOIN_SOURCE_GROUP, GROUP, Some(source(1))).unwrap();
    option(&mut t, fd, MCAST_JOIN_SOURCE_GROUP, GROUP, Some(source(2))).unwrap();
    t.sleep(5000);
    told(&mut t);
    let query = |group: Ipv6Addr, sources: &[Ipv6Addr]| {
        let mut m = vec![ICMPV6_MGM_QUERY, 0, 0, 0, 0, 100, 0, 0];
        m.extend(group.octets());
        m.extend([2, 125, 0, sources.len() as u8]);
        sources.iter().for_each(|s| m.extend(s.octets()));
        m
    };
    for (group, asked, answer) in [
        (GROUP, vec![], vec![(1, vec![source(1), source(2)])]),
        (GROUP, vec![source(2), source(3)], vec![(1, vec![source(2)])]),
        (GROUP, vec![source(3)], vec![]),
        (source(1), vec![], vec![]),
    ] {
        t.rx_mld(1, ROUTER, GROUP, query(group, &asked));
        t.sleep(200);
        assert_eq!(told(&mut t), answer, "{group} {asked:?}");
    }
    // Without the router alert option it is none (RFC 3810 §6.2).
    t.rx_icmp(1, ROUTER, ALL_NODES, query(Ipv6Addr::UNSPECIFIED, &[]));
    t.sleep(200);
    assert_eq!(told(&mut t), []);
    t.rx_mld(1, ROUTER, ALL_NODES, query(Ipv6Addr::UNSPECIFIED, &[]));
    t.sleep(200);
    assert_eq!(told(&mut t), [(1, vec![source(1), source(2)])]);
}

#[test]
fn a_router_of_version_1_is_answered_in_its_version() {
    let (mut t, fd) = ready();
    let query = [&[ICMPV6_MGM_QUERY, 0, 0, 0, 0, 100][..], &[0; 18]].concat();
    t.rx_mld(1, ROUTER, ALL_NODES, query.clone());
    t.sleep(200);
    told(&mut t);
    option(&mut t, fd, MCAST_JOIN_GROUP, GROUP, None).unwrap();
    assert_eq!(told_v1(&mut t), [(ICMPV6_MGM_REPORT, GROUP)]);
    t.sleep(11_000);
    assert_eq!(told_v1(&mut t), [(ICMPV6_MGM_REPORT, GROUP)], "once more");
    // Somebody else answers first.
    t.rx_mld(1, ROUTER, ALL_NODES, query.clone());
    let mut report = vec![ICMPV6_MGM_REPORT, 0, 0, 0, 0, 0, 0, 0];
    report.extend(GROUP.octets());
    t.rx_mld(1, "fe80::5".parse().unwrap(), ALL_NODES, report);
    t.sleep(300);
    assert_eq!(told_v1(&mut t), []);
    assert_eq!(t.count(0, Mib::Icmp6InGroupMembResponses), 1);
    // So it is not for us to say that nobody is left.
    option(&mut t, fd, MCAST_LEAVE_GROUP, GROUP, None).unwrap();
    t.sleep(300);
    assert_eq!(told_v1(&mut t), []);
    option(&mut t, fd, MCAST_JOIN_GROUP, GROUP, None).unwrap();
    option(&mut t, fd, MCAST_LEAVE_GROUP, GROUP, None).unwrap();
    assert_eq!(told_v1(&mut t), [(ICMPV6_MGM_REPORT, GROUP), (ICMPV6_MGM_REDUCTION, ALL_ROUTERS)]);
    // It fell silent: version 2 again.
    t.sleep(260_000);
    option(&mut t, fd, MCAST_JOIN_GROUP, GROUP, None).unwrap();
    t.sleep(10);
    assert_eq!(told(&mut t), [(4, vec![])]);
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.eth0.force_mld_version", "2").unwrap();
    t.rx_mld(1, ROUTER, ALL_NODES, query);
    t.sleep(300);
    assert_eq!(told_v1(&mut t), []);
}

#[test]
fn a_router_hears_what_is_for_routers() {
    let mut t = Two::new();
    t.sleep(3000);
    let has = |t: &Two| t.k.net.devs.get(t.dev[0]).unwrap().inet6.has_group(ALL_ROUTERS);
    assert!(!has(&t));
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.eth0.forwarding", "1").unwrap();
    t.settle();
    assert!(has(&t));
    t.k.net.set_link(t.dev[0], false).unwrap();
    t.k.net.set_link(t.dev[0], true).unwrap();
    t.settle();
    assert!(has(&t));
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.eth0.forwarding", "0").unwrap();
    t.sleep(5000);
    assert!(!has(&t));
}
