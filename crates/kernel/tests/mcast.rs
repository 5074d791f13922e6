//! Groups: memberships and their errors, who hears what, what routers are told.
mod common;
use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::Mac;
use belljar_wire::igmp::{self, IPPROTO_IGMP, IgmpHeader, Record, RecordType};
use belljar_wire::ipv4::{IPPROTO_UDP, Ipv4Header};
use common::*;
use std::net::Ipv4Addr;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const G: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
const S1: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const S2: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

fn opt(h: &mut Host, fd: Fd, name: i32, value: &[u8]) -> Result<(), Errno> {
    h.call(Call::SetSockOpt { fd, level: SOL_IP, name, value }).map(|_| ())
}

fn mreq(group: Ipv4Addr, addr: Ipv4Addr, ifindex: Option<i32>) -> Vec<u8> {
    let mut b = [group.octets(), addr.octets()].concat();
    b.extend(ifindex.iter().flat_map(|i| i.to_ne_bytes()));
    b
}

fn source(group: Ipv4Addr, addr: Ipv4Addr, src: Ipv4Addr) -> Vec<u8> {
    [group.octets(), addr.octets(), src.octets()].concat()
}

fn join(h: &mut Host, fd: Fd, group: Ipv4Addr) {
    opt(h, fd, IP_ADD_MEMBERSHIP, &mreq(group, HOST, None)).unwrap();
}

/// A datagram to a group from the wire.
fn to_group(h: &mut Host, src: Ipv4Addr, group: Ipv4Addr, data: &[u8]) {
    let header = Ipv4Header { src, dst: group, ..from_peer(IPPROTO_UDP) };
    h.rx(ip(header, &udp((src, 9), (group, 5000), data)));
}

/// (group address, IGMP message) of what left since the last look.
fn igmp_sent(h: &mut Host) -> Vec<(Ipv4Addr, Vec<u8>)> {
    let all = h.sent();
    let igmp = all.iter().map(parse).filter(|(_, ip, _)| ip.proto == IPPROTO_IGMP);
    igmp.map(|(_, ip, body)| {
        assert_eq!((ip.ttl, ip.tos, ip.ihl_bytes, ip.src, ip.df), (1, 0xc0, 24, HOST, true));
        (ip.dst, body)
    })
    .collect()
}

fn records(h: &mut Host) -> Vec<Record> {
    let all = igmp_sent(h).into_iter().filter(|(to, _)| *to == igmp::ALL_REPORTS);
    all.flat_map(|(_, b)| igmp::parse_report(&b).unwrap()).collect()
}

fn record(kind: RecordType, group: Ipv4Addr, sources: &[Ipv4Addr]) -> Record {
    Record { kind, group, sources: sources.to_vec() }
}

fn query(h: &mut Host, body: Vec<u8>) {
    let header = Ipv4Header { ttl: 1, dst: igmp::ALL_HOSTS, ..from_peer(IPPROTO_IGMP) };
    h.rx(ip(header, &body));
}

fn v3_query(code: u8, group: Ipv4Addr, sources: &[Ipv4Addr]) -> Vec<u8> {
    let mut b = vec![igmp::IGMP_HOST_MEMBERSHIP_QUERY, code, 0, 0];
    b.extend(group.octets());
    b.extend([2, 125]);
    b.extend((sources.len() as u16).to_be_bytes());
    sources.iter().for_each(|s| b.extend(s.octets()));
    let c = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&b, 0));
    b[2..4].copy_from_slice(&c.to_be_bytes());
    b
}

#[test]
fn memberships_and_their_errors() {
    let mut h = Host::new();
    let fd = h.udp();
    let all = [(IP_MULTICAST_TTL, 1), (IP_MULTICAST_LOOP, 1), (IP_MULTICAST_ALL, 1)];
    all.iter().for_each(|(o, v)| assert_eq!(h.get(fd, SOL_IP, *o), *v));
    for (name, value, want) in [
        (IP_MULTICAST_TTL, 256, Err(Errno::EINVAL)),
        (IP_MULTICAST_TTL, 0, Ok(())),
        (IP_MULTICAST_TTL, -1, Ok(())),
        (IP_MULTICAST_LOOP, 7, Ok(())),
        (IP_MULTICAST_ALL, 2, Err(Errno::EINVAL)),
    ] {
        assert_eq!(h.set(fd, SOL_IP, name, value).map(|_| ()), want, "{name} {value}");
    }
    let (other, eth) = (Ipv4Addr::new(9, 9, 9, 9), 2);
    for (name, value, want) in [
        (IP_MULTICAST_IF, HOST.octets().to_vec(), Ok(())),
        (IP_MULTICAST_IF, other.octets().to_vec(), Err(Errno::EADDRNOTAVAIL)),
        (IP_MULTICAST_IF, mreq(ANY, ANY, Some(77)), Err(Errno::EADDRNOTAVAIL)),
        (IP_MULTICAST_IF, vec![1, 2, 3], Err(Errno::EINVAL)),
        (IP_ADD_MEMBERSHIP, mreq(G, HOST, None), Ok(())),
        (IP_ADD_MEMBERSHIP, mreq(G, ANY, Some(eth)), Err(Errno::EADDRINUSE)),
        (IP_ADD_MEMBERSHIP, mreq(G, ANY, Some(77)), Err(Errno::ENODEV)),
        (IP_ADD_MEMBERSHIP, mreq(G, other, None), Err(Errno::ENODEV)),
        (IP_ADD_MEMBERSHIP, mreq(HOST, HOST, None), Err(Errno::EINVAL)),
        (IP_ADD_MEMBERSHIP, vec![0; 7], Err(Errno::EINVAL)),
        (IP_BLOCK_SOURCE, source(G, HOST, S1), Ok(())),
        (IP_BLOCK_SOURCE, source(G, HOST, S1), Err(Errno::EADDRNOTAVAIL)),
        (IP_UNBLOCK_SOURCE, source(G, HOST, S2), Err(Errno::EADDRNOTAVAIL)),
        (IP_ADD_SOURCE_MEMBERSHIP, source(G, HOST, S2), Err(Errno::EINVAL)),
        (IP_UNBLOCK_SOURCE, source(G, HOST, S1), Ok(())),
        (IP_DROP_MEMBERSHIP, mreq(G, other, None), Err(Errno::EADDRNOTAVAIL)),
        (IP_DROP_MEMBERSHIP, mreq(G, HOST, None), Ok(())),
        (IP_DROP_MEMBERSHIP, mreq(G, HOST, None), Err(Errno::EADDRNOTAVAIL)),
        (IP_BLOCK_SOURCE, source(G, HOST, S1), Err(Errno::EINVAL)),
        (IP_ADD_SOURCE_MEMBERSHIP, source(G, HOST, S1), Ok(())),
        (IP_ADD_SOURCE_MEMBERSHIP, source(G, HOST, S1), Err(Errno::EADDRNOTAVAIL)),
        (IP_DROP_SOURCE_MEMBERSHIP, source(G, HOST, S2), Err(Errno::EADDRNOTAVAIL)),
        (IP_DROP_SOURCE_MEMBERSHIP, source(G, HOST, S1), Ok(())),
        // The last source was the membership.
        (IP_DROP_SOURCE_MEMBERSHIP, source(G, HOST, S1), Err(Errno::EINVAL)),
    ] {
        assert_eq!(opt(&mut h, fd, name, &value), want, "{name} {value:?}");
    }
    let tcp = h.socket(SOCK_STREAM);
    assert_eq!(opt(&mut h, tcp, IP_ADD_MEMBERSHIP, &mreq(G, HOST, None)), Err(Errno::EPROTO));
    assert_eq!(h.set(tcp, SOL_IP, IP_MULTICAST_TTL, 4), Err(Errno::EINVAL));
}

fn group_req(ifindex: u32, addrs: &[Ipv4Addr]) -> Vec<u8> {
    let mut b = [&ifindex.to_ne_bytes()[..], &[0; 4]].concat();
    for a in addrs {
        let mut sa = SockAddr::V4(*a, 0).emit().to_vec();
        sa.resize(128, 0);
        b.extend(sa);
    }
    b
}

#[test]
fn the_protocol_independent_options() {
    let mut h = Host::new();
    let fd = h.udp();
    let one = |i| group_req(i, &[G]);
    let two = |i, s| group_req(i, &[G, s]);
    for (name, value, want) in [
        (MCAST_JOIN_GROUP, one(2), Ok(())),
        (MCAST_JOIN_GROUP, one(2), Err(Errno::EADDRINUSE)),
        (MCAST_JOIN_GROUP, one(77), Err(Errno::ENODEV)),
        (MCAST_JOIN_GROUP, one(2)[..100].to_vec(), Err(Errno::EINVAL)),
        (MCAST_JOIN_GROUP, group_req(2, &[HOST]), Err(Errno::EINVAL)),
        (MCAST_BLOCK_SOURCE, two(2, S1), Ok(())),
        (MCAST_BLOCK_SOURCE, two(2, S1), Err(Errno::EADDRNOTAVAIL)),
        (MCAST_UNBLOCK_SOURCE, two(2, S1), Ok(())),
        (MCAST_LEAVE_GROUP, one(2), Ok(())),
        (MCAST_LEAVE_GROUP, one(2), Err(Errno::EADDRNOTAVAIL)),
        (MCAST_JOIN_SOURCE_GROUP, two(2, S1), Ok(())),
        (MCAST_JOIN_SOURCE_GROUP, two(2, S1), Err(Errno::EADDRNOTAVAIL)),
        (MCAST_JOIN_SOURCE_GROUP, two(2, S2), Ok(())),
        (MCAST_LEAVE_SOURCE_GROUP, two(2, S1), Ok(())),
        (MCAST_LEAVE_SOURCE_GROUP, two(2, S2), Ok(())),
        (MCAST_LEAVE_GROUP, one(2), Err(Errno::EADDRNOTAVAIL)),
    ] {
        assert_eq!(opt(&mut h, fd, name, &value), want, "{name}");
    }
}

#[test]
fn a_whole_filter_at_once_and_the_limits() {
    let mut h = Host::new();
    let fd = h.udp();
    let filter = |mode: i32, n: u32, list: &[Ipv4Addr]| {
        let mut b = [&G.octets()[..], &HOST.octets(), &mode.to_ne_bytes(), &n.to_ne_bytes()].concat();
        list.iter().for_each(|s| b.extend(s.octets()));
        b
    };
    let many: Vec<Ipv4Addr> = (1..=11).map(|n| Ipv4Addr::new(1, 1, 1, n)).collect();
    assert_eq!(opt(&mut h, fd, IP_MSFILTER, &filter(1, 1, &[S1])), Err(Errno::EINVAL));
    join(&mut h, fd, G);
    for (value, want) in [
        (filter(MCAST_INCLUDE, 2, &[S1, S2]), Ok(())),
        (filter(MCAST_EXCLUDE, 1, &[S1]), Ok(())),
        (filter(2, 0, &[]), Err(Errno::EINVAL)),
        (filter(MCAST_INCLUDE, 2, &[S1]), Err(Errno::EINVAL)),
        (filter(MCAST_INCLUDE, 11, &many), Err(Errno::ENOBUFS)),
        (filter(MCAST_INCLUDE, 10, &many[..10]), Ok(())),
        // Nothing included: that is to leave.
        (filter(MCAST_INCLUDE, 0, &[]), Ok(())),
        (filter(MCAST_EXCLUDE, 0, &[]), Err(Errno::EINVAL)),
    ] {
        assert_eq!(opt(&mut h, fd, IP_MSFILTER, &value), want);
    }
    (0..20).for_each(|n| join(&mut h, fd, Ipv4Addr::new(239, 8, n, 1)));
    assert_eq!(opt(&mut h, fd, IP_ADD_MEMBERSHIP, &mreq(G, HOST, None)), Err(Errno::ENOBUFS));
    h.sysctl("net.ipv4.igmp_max_memberships", "21");
    join(&mut h, fd, G);
    many[..10].iter().for_each(|s| opt(&mut h, fd, IP_BLOCK_SOURCE, &source(G, HOST, *s)).unwrap());
    assert_eq!(opt(&mut h, fd, IP_BLOCK_SOURCE, &source(G, HOST, many[10])), Err(Errno::ENOBUFS));
}

#[test]
fn who_hears_a_group() {
    let mut h = Host::new();
    let make = |h: &mut Host, addr| {
        let fd = h.udp();
        h.set(fd, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        h.bind(fd, addr, 5000).unwrap();
        fd
    };
    let (member, any, own, group) = (make(&mut h, ANY), make(&mut h, ANY), make(&mut h, ANY), make(&mut h, G));
    to_group(&mut h, S1, G, b"nobody");
    assert_eq!((h.recv(any), h.counter(Mib::IpInAddrErrors)), (Err(Errno::EAGAIN), 0));
    join(&mut h, member, G);
    h.set(own, SOL_IP, IP_MULTICAST_ALL, 0).unwrap();
    to_group(&mut h, S1, G, b"one");
    let heard = |h: &mut Host| [member, any, own, group].map(|fd| h.recv(fd).is_ok());
    assert_eq!(heard(&mut h), [true, true, false, true]);
    assert_eq!((h.counter(Mib::IpExtInMcastPkts), h.counter(Mib::UdpInDatagrams)), (1, 3));
    // Its own filter keeps a source from the member; with nobody else the device does.
    opt(&mut h, member, IP_BLOCK_SOURCE, &source(G, HOST, S1)).unwrap();
    to_group(&mut h, S1, G, b"blocked");
    assert_eq!(heard(&mut h), [false; 4]);
    opt(&mut h, own, IP_ADD_SOURCE_MEMBERSHIP, &source(G, HOST, S1)).unwrap();
    to_group(&mut h, S1, G, b"two");
    assert_eq!(heard(&mut h), [false, true, true, true]);
    to_group(&mut h, S2, G, b"three");
    assert_eq!(heard(&mut h), [true, true, false, true]);
    [member, own].iter().for_each(|fd| h.call(Call::Close { fd: *fd }).map(|_| ()).unwrap());
    to_group(&mut h, S1, G, b"gone");
    assert_eq!([any, group].map(|fd| h.recv(fd).is_ok()), [false; 2]);
    // A group without a listener on the port is nobody's business.
    let fd = h.udp();
    join(&mut h, fd, Ipv4Addr::new(239, 1, 1, 2));
    let before = h.counter(Mib::UdpIgnoredMulti);
    h.call(Call::Close { fd: any }).unwrap();
    h.call(Call::Close { fd: group }).unwrap();
    to_group(&mut h, S1, Ipv4Addr::new(239, 1, 1, 2), b"x");
    assert_eq!(h.counter(Mib::UdpIgnoredMulti), before + 1);
}

/// As measured on Linux 6.18.
#[test]
fn a_socket_of_ipv6_hears_of_ipv4_what_it_joined_itself() {
    let mut h = Host::new();
    let kind = SOCK_DGRAM | SOCK_NONBLOCK;
    let Ok(Ret::Fd(six)) = h.call(Call::Socket { family: AF_INET6, kind, protocol: 0 }) else { panic!() };
    let any = SockAddr::V6 { addr: std::net::Ipv6Addr::UNSPECIFIED, port: 5000, flowinfo: 0, scope: 0 };
    h.set(six, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
    h.call(Call::Bind { fd: six, addr: &any.emit() }).unwrap();
    let four = h.udp();
    join(&mut h, four, G);
    assert_eq!((h.get(four, SOL_IP, IP_MULTICAST_ALL), h.get(six, SOL_IP, IP_MULTICAST_ALL)), (1, 0));
    to_group(&mut h, S1, G, b"others");
    assert_eq!(h.recv(six).map(|_| ()), Err(Errno::EAGAIN));
    h.set(six, SOL_IP, IP_MULTICAST_ALL, 1).unwrap();
    to_group(&mut h, S1, G, b"all");
    assert!(h.recv(six).is_ok());
    h.set(six, SOL_IP, IP_MULTICAST_ALL, 0).unwrap();
    opt(&mut h, six, IP_ADD_MEMBERSHIP, &mreq(G, HOST, None)).unwrap();
    to_group(&mut h, S1, G, b"own");
    assert!(h.recv(six).is_ok());
}

#[test]
fn what_is_sent_to_a_group() {
    let mut h = Host::new();
    let (tx, rx) = (h.udp_on(HOST, 6000), h.udp_on(ANY, 5000));
    join(&mut h, rx, G);
    h.sent();
    h.set(rx, SOL_IP, IP_PKTINFO, 1).unwrap();
    h.send_to(tx, b"hear", G, 5000).unwrap();
    let out = h.sent();
    let (eth, header, _) = parse(&out[0]);
    assert_eq!((eth.dst, header.ttl, header.src), (Mac([1, 0, 0x5e, 1, 1, 1]), 1, HOST));
    let d = h.recv_flags(rx, 100, 0).unwrap();
    let info = [&2u32.to_ne_bytes()[..], &HOST.octets(), &G.octets()].concat();
    assert_eq!((d.segs.to_vec(), d.from, &d.cmsgs[0].data), (b"hear".to_vec(), Some(SockAddr::V4(HOST, 6000)), &info));
    h.set(tx, SOL_IP, IP_MULTICAST_LOOP, 0).unwrap();
    h.set(tx, SOL_IP, IP_MULTICAST_TTL, 9).unwrap();
    h.send_to(tx, b"others", G, 5000).unwrap();
    let out = h.sent();
    assert_eq!((parse(&out[0]).1.ttl, h.recv(rx)), (9, Err(Errno::EAGAIN)));
    // With 0 it stays here.
    h.set(tx, SOL_IP, IP_MULTICAST_LOOP, 1).unwrap();
    h.set(tx, SOL_IP, IP_MULTICAST_TTL, 0).unwrap();
    h.send_to(tx, b"here", G, 5000).unwrap();
    assert_eq!((h.sent().len(), h.recv(rx).map(|d| d.0)), (0, Ok(b"here".to_vec())));
    // A group of another interface is not heard.
    let far = NicConfig { name: "eth1".into(), mac: Mac([2, 0, 0, 0, 0, 9]), ..NicConfig::default() };
    let dev = h.k.add_nic(h.ns, &far).unwrap();
    h.k.set_link(dev, true).unwrap();
    h.k.add_address(dev, Ipv4Addr::new(10, 3, 0, 1), 24).unwrap();
    let via = h.udp();
    opt(&mut h, via, IP_MULTICAST_IF, &Ipv4Addr::new(10, 3, 0, 1).octets()).unwrap();
    h.send_to(via, b"there", G, 5000).unwrap();
    let out = h.sent();
    assert_eq!((parse(&out[0]).1.src, h.recv(rx)), (Ipv4Addr::new(10, 3, 0, 1), Err(Errno::EAGAIN)));
}

#[test]
fn routers_are_told_twice() {
    use RecordType::*;
    let mut h = Host::new();
    let fd = h.udp();
    let step = |h: &mut Host, name, value: Vec<u8>, want: Record| {
        opt(h, fd, name, &value).unwrap();
        h.advance(20 * MS);
        assert_eq!(records(h), std::slice::from_ref(&want), "first");
        h.advance(1010 * MS);
        assert_eq!(records(h), [want], "again");
        h.advance(5 * SEC);
        assert_eq!(records(h), []);
    };
    let ssm = Ipv4Addr::new(232, 1, 1, 1);
    step(&mut h, IP_ADD_MEMBERSHIP, mreq(G, HOST, None), record(ChangeToExclude, G, &[]));
    step(&mut h, IP_BLOCK_SOURCE, source(G, HOST, S1), record(BlockOldSources, G, &[S1]));
    step(&mut h, IP_UNBLOCK_SOURCE, source(G, HOST, S1), record(AllowNewSources, G, &[S1]));
    step(&mut h, IP_ADD_SOURCE_MEMBERSHIP, source(ssm, HOST, S1), record(AllowNewSources, ssm, &[S1]));
    step(&mut h, IP_ADD_SOURCE_MEMBERSHIP, source(ssm, HOST, S2), record(AllowNewSources, ssm, &[S2]));
    step(&mut h, IP_DROP_SOURCE_MEMBERSHIP, source(ssm, HOST, S1), record(BlockOldSources, ssm, &[S1]));
    step(&mut h, IP_DROP_SOURCE_MEMBERSHIP, source(ssm, HOST, S2), record(BlockOldSources, ssm, &[S2]));
    step(&mut h, IP_DROP_MEMBERSHIP, mreq(G, HOST, None), record(ChangeToInclude, G, &[]));
    // All hosts are never told of; groups of the link if the setting says so.
    opt(&mut h, fd, IP_ADD_MEMBERSHIP, &mreq(igmp::ALL_HOSTS, HOST, None)).unwrap();
    h.sysctl("net.ipv4.igmp_link_local_mcast_reports", "0");
    join(&mut h, fd, Ipv4Addr::new(224, 0, 0, 251));
    h.advance(5 * SEC);
    assert_eq!(records(&mut h), []);
}

#[test]
fn queries_are_answered_in_their_time() {
    use RecordType::*;
    let mut h = Host::new();
    let fd = h.udp();
    let ssm = Ipv4Addr::new(232, 1, 1, 1);
    join(&mut h, fd, G);
    opt(&mut h, fd, IP_BLOCK_SOURCE, &source(G, HOST, S1)).unwrap();
    opt(&mut h, fd, IP_ADD_SOURCE_MEMBERSHIP, &source(ssm, HOST, S2)).unwrap();
    h.advance(5 * SEC);
    records(&mut h);
    query(&mut h, v3_query(10, ANY, &[]));
    h.advance(SEC + 12 * MS);
    assert_eq!(records(&mut h), [record(ModeIsInclude, ssm, &[S2]), record(ModeIsExclude, G, &[S1])]);
    query(&mut h, v3_query(5, G, &[]));
    h.advance(520 * MS);
    assert_eq!(records(&mut h), [record(ModeIsExclude, G, &[S1])]);
    query(&mut h, v3_query(5, ssm, &[S1, S2]));
    h.advance(520 * MS);
    assert_eq!(records(&mut h), [record(ModeIsInclude, ssm, &[S2])]);
    query(&mut h, v3_query(5, ssm, &[S1]));
    query(&mut h, v3_query(5, Ipv4Addr::new(239, 9, 9, 9), &[]));
    h.advance(20 * SEC);
    assert_eq!(records(&mut h), []);
    // More sources than are remembered: the answer is about all of the group.
    for n in 0..4u8 {
        let sources: Vec<Ipv4Addr> = (0..100).map(|i| Ipv4Addr::new(10, 9, n, i)).collect();
        query(&mut h, v3_query(20, G, &sources));
    }
    h.advance(3 * SEC);
    assert_eq!(records(&mut h), [record(ModeIsExclude, G, &[S1])]);
}

#[test]
fn older_queriers_hear_their_own_language() {
    let mut h = Host::new();
    let fd = h.udp();
    join(&mut h, fd, G);
    h.advance(5 * SEC);
    igmp_sent(&mut h);
    let message = |kind, code, group| IgmpHeader { kind, code, group }.bytes();
    query(&mut h, message(igmp::IGMP_HOST_MEMBERSHIP_QUERY, 10, ANY));
    h.advance(SEC + 12 * MS);
    assert_eq!(igmp_sent(&mut h), [(G, message(igmp::IGMPV2_HOST_MEMBERSHIP_REPORT, 0, G))]);
    let g2 = Ipv4Addr::new(239, 2, 2, 2);
    join(&mut h, fd, g2);
    h.advance(20 * MS);
    let report = (g2, message(igmp::IGMPV2_HOST_MEMBERSHIP_REPORT, 0, g2));
    assert_eq!(igmp_sent(&mut h), std::slice::from_ref(&report));
    // Once more within ten seconds, unless somebody else spoke: then it says nothing when it leaves.
    h.advance(11 * SEC);
    assert_eq!(igmp_sent(&mut h), [report]);
    let leave = (igmp::ALL_ROUTERS, message(igmp::IGMP_HOST_LEAVE_MESSAGE, 0, g2));
    opt(&mut h, fd, IP_DROP_MEMBERSHIP, &mreq(g2, HOST, None)).unwrap();
    assert_eq!(igmp_sent(&mut h), [leave]);
    let header = Ipv4Header { ttl: 1, dst: G, ..from_peer(IPPROTO_IGMP) };
    let mut frame = ip(header, &message(igmp::IGMPV2_HOST_MEMBERSHIP_REPORT, 0, G));
    frame.head.bytes_mut()[..6].copy_from_slice(&[1, 0, 0x5e, 1, 1, 1]);
    h.rx(frame);
    opt(&mut h, fd, IP_DROP_MEMBERSHIP, &mreq(G, HOST, None)).unwrap();
    assert_eq!(igmp_sent(&mut h), []);
    // Version 1 knows no leaving.
    query(&mut h, message(igmp::IGMP_HOST_MEMBERSHIP_QUERY, 0, ANY));
    join(&mut h, fd, G);
    h.advance(20 * MS);
    assert_eq!(igmp_sent(&mut h), [(G, message(igmp::IGMP_HOST_MEMBERSHIP_REPORT, 0, G))]);
    opt(&mut h, fd, IP_DROP_MEMBERSHIP, &mreq(G, HOST, None)).unwrap();
    assert_eq!(igmp_sent(&mut h), []);
    // Two robust intervals and an answer later version 3 is back.
    h.advance(300 * SEC);
    join(&mut h, fd, G);
    h.advance(20 * MS);
    assert_eq!(records(&mut h), [record(RecordType::ChangeToExclude, G, &[])]);
}

#[test]
fn down_and_up_again() {
    let mut h = Host::new();
    let fd = h.udp();
    join(&mut h, fd, G);
    h.k.set_link(h.dev, false).unwrap();
    h.advance(5 * SEC);
    assert_eq!(records(&mut h), []);
    h.k.set_link(h.dev, true).unwrap();
    h.advance(20 * MS);
    assert_eq!(records(&mut h), [record(RecordType::ChangeToExclude, G, &[])]);
    h.k.net.unregister_netdev(h.dev);
    assert_eq!(opt(&mut h, fd, IP_DROP_MEMBERSHIP, &mreq(G, ANY, Some(2))), Err(Errno::EADDRNOTAVAIL));
    h.call(Call::Close { fd }).unwrap();
}
