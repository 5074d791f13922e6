//! Anycast addresses: of sockets, of a router's subnets; what is answered from where.
mod two;
use belljar_abi::*;
use belljar_kernel::task::call::{Call, Fd};
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::Ipv6Header;
use core::net::Ipv6Addr;
use two::*;

const SHARED: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa5);

fn mreq(addr: Ipv6Addr, index: u32) -> Vec<u8> {
    [&addr.octets()[..], &index.to_ne_bytes()].concat()
}

/// Addresses of host 0 with their users.
fn anycast(t: &Two) -> Vec<(String, u32)> {
    let list = &t.k.net.devs.get(t.dev[0]).unwrap().inet6.anycast.list;
    list.iter().map(|a| (a.addr.to_string(), a.users())).collect()
}

fn set(t: &mut Two, fd: Fd, name: i32, addr: Ipv6Addr, index: u32) -> Result<i64, Errno> {
    t.int(0, Call::SetSockOpt { fd, level: SOL_IPV6, name, value: &mreq(addr, index) })
}

/// As measured on Linux 6.18.
#[test]
fn sockets_join_what_lies_on_a_link_of_the_host() {
    let mut t = Two::new();
    let index = t.k.net.devs.get(t.dev[0]).unwrap().ifindex;
    let fd = t.socket(0, SOCK_DGRAM, 0);
    let elsewhere = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
    for (addr, index, said) in [
        (SHARED, index, Ok(0)),
        (SHARED, index, Ok(0)),
        (SHARED, 0, Ok(0)),
        (A, index, Err(Errno::EINVAL)),
        ("ff02::5".parse().unwrap(), index, Err(Errno::EINVAL)),
        (elsewhere, index, Err(Errno::EADDRNOTAVAIL)),
        (elsewhere, 0, Err(Errno::EADDRNOTAVAIL)),
        ("fe80::77".parse().unwrap(), index, Ok(0)),
        (Ipv6Addr::UNSPECIFIED, index, Err(Errno::EADDRNOTAVAIL)),
        (SHARED, 99, Err(Errno::ENODEV)),
    ] {
        assert_eq!(set(&mut t, fd, IPV6_JOIN_ANYCAST, addr, index), said, "{addr} {index}");
    }
    assert!(matches!(t.set(0, fd, IPV6_JOIN_ANYCAST, 1), Err(Errno::EINVAL)));
    let tcp = t.socket(0, SOCK_STREAM, 0);
    assert_eq!(set(&mut t, tcp, IPV6_JOIN_ANYCAST, SHARED, index), Ok(0));
    assert_eq!(anycast(&t), [("fe80::77".to_owned(), 1), ("fd00::a5".to_owned(), 4)]);
    let text = t.k.proc_text(t.ns[0], "/proc/net/anycast6").unwrap();
    assert!(text.contains("eth0            fd0000000000000000000000000000a5     4\n"), "{text}");
    // It is nobody's own: nothing can be bound to it.
    assert_eq!(t.bind(0, fd, SHARED, 99), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(set(&mut t, fd, IPV6_LEAVE_ANYCAST, SHARED, index), Ok(0));
    assert_eq!(set(&mut t, fd, IPV6_LEAVE_ANYCAST, elsewhere, index), Err(Errno::ENOENT));
    assert_eq!(set(&mut t, fd, IPV6_LEAVE_ANYCAST, "fe80::77".parse().unwrap(), 0), Ok(0));
    t.call(0, Call::Close { fd: tcp }).unwrap();
    assert_eq!(anycast(&t), [("fd00::a5".to_owned(), 2)]);
    t.call(0, Call::Close { fd }).unwrap();
    assert_eq!(anycast(&t), []);
    t.k.check().unwrap();
}

/// Asked by all, a host waits a while, does not say that its answer is the only one, and speaks as itself.
#[test]
fn what_comes_to_one_is_answered_from_an_address_of_ones_own() {
    let mut t = Two::new();
    let index = t.k.net.devs.get(t.dev[0]).unwrap().ifindex;
    let fd = t.socket(0, SOCK_DGRAM, 0);
    set(&mut t, fd, IPV6_JOIN_ANYCAST, SHARED, index).unwrap();
    t.settle();
    t.seen.clear();
    let peer = t.socket(1, SOCK_DGRAM, 0);
    t.send(1, peer, b"x", Some((SHARED, 9))).unwrap();
    assert!(answers(&t).is_empty());
    t.sleep(800);
    // The advertisement, and an error about the port.
    let got = answers(&t);
    assert_eq!(
        got.iter().map(|a| (a.0, a.1)).collect::<Vec<_>>(),
        [(A, NDISC_NEIGHBOUR_ADVERTISEMENT), (SHARED, ICMPV6_DEST_UNREACH)]
    );
    assert_eq!(got[0].2 & (NA_OVERRIDE | NA_SOLICITED), NA_SOLICITED);
    // No connection is made with one of several.
    let l = t.socket(0, SOCK_STREAM, 0);
    t.bind(0, l, Ipv6Addr::UNSPECIFIED, 80).unwrap();
    t.call(0, Call::Listen { fd: l, backlog: 1 }).unwrap();
    let c = t.socket(1, SOCK_STREAM, 0);
    assert_eq!(t.connect(1, c, SHARED, 80), Err(Errno::EINPROGRESS));
    t.seen.clear();
    t.sleep(100);
    assert!(t.seen.iter().all(|f| Ipv6Header::parse(&f.to_vec()[14..]).unwrap().src != A), "nobody answers");
    t.k.check().unwrap();
}

/// What host 0 sent by ICMPv6: source, type, flags of an advertisement.
fn answers(t: &Two) -> Vec<(Ipv6Addr, u8, u8)> {
    let of = |b: Vec<u8>| {
        let ip = Ipv6Header::parse(&b[14..]).ok()?;
        (ip.src != B && b[20] == 58).then(|| (ip.src, b[54], b[58]))
    };
    t.seen.iter().filter_map(|f| of(f.to_vec())).filter(|a| matches!(a.1, 1 | 136)).collect()
}

/// RFC 4291 §2.6.1, RFC 6164 §5.
#[test]
fn a_router_has_the_first_of_each_subnet() {
    let mut t = Two::new();
    // The link's own address is in use only when nobody objected.
    t.sleep(3000);
    let forwards = |t: &mut Two, on: &str| t.k.sysctl_set(t.ns[0], "net.ipv6.conf.all.forwarding", on).unwrap();
    forwards(&mut t, "1");
    let at_first = [("fe80::".to_owned(), 1), ("fd00::".to_owned(), 1)];
    assert_eq!(anycast(&t), at_first);
    for (addr, prefix) in [("fd05::1", 127), ("fd06::1", 128), ("fd07::1", 64), ("fd07::2", 64)] {
        t.k.net.add_address6(t.dev[0], addr.parse().unwrap(), prefix, true).unwrap();
    }
    assert_eq!(anycast(&t)[0], ("fd07::".to_owned(), 2));
    t.k.net.del_address6(t.dev[0], "fd07::1".parse().unwrap()).unwrap();
    assert_eq!(anycast(&t)[0], ("fd07::".to_owned(), 1));
    t.k.net.del_address6(t.dev[0], "fd07::2".parse().unwrap()).unwrap();
    assert_eq!(anycast(&t), at_first);
    t.k.check().unwrap();
    t.k.net.set_link(t.dev[0], false).unwrap();
    assert_eq!(anycast(&t), []);
    t.k.check().unwrap();
    t.k.net.set_link(t.dev[0], true).unwrap();
    t.sleep(3000);
    assert_eq!(anycast(&t), [("fe80::".to_owned(), 1)]);
    forwards(&mut t, "0");
    assert_eq!(anycast(&t), []);
    t.k.check().unwrap();
}

/// `ip neigh add proxy` with `proxy_ndp`: as measured on Linux 6.18.
#[test]
fn a_router_answers_for_who_is_named() {
    let mut t = Two::new();
    let (plain, router): (Ipv6Addr, Ipv6Addr) = ("fd00::77".parse().unwrap(), "fd00::78".parse().unwrap());
    let ns = t.ns[0];
    t.k.ip(ns, "-6 neigh add proxy fd00::77 dev eth0").unwrap();
    t.k.ip(ns, "-6 neigh add proxy fd00::78 dev eth0 router").unwrap();
    t.settle();
    let ask = |t: &mut Two, to: Ipv6Addr| {
        t.seen.clear();
        let fd = t.socket(1, SOCK_DGRAM, 0);
        t.send(1, fd, b"x", Some((to, 9))).unwrap();
        t.sleep(900);
        let said = answers(t).into_iter().find(|a| a.1 == NDISC_NEIGHBOUR_ADVERTISEMENT);
        // Until it is asked for no more.
        t.sleep(5000);
        said.map(|a| (a.0, a.2))
    };
    for (key, value) in [("all.forwarding", "0"), ("eth0.proxy_ndp", "1"), ("all.forwarding", "1")] {
        assert_eq!(ask(&mut t, plain), None);
        t.k.sysctl_set(ns, &format!("net.ipv6.conf.{key}"), value).unwrap();
    }
    assert_eq!(ask(&mut t, plain), Some((A, NA_SOLICITED)));
    assert_eq!(ask(&mut t, router), Some((A, NA_SOLICITED | NA_ROUTER)));
    assert_eq!(ask(&mut t, "fd00::79".parse().unwrap()), None);
    t.k.ip(ns, "-6 neigh del proxy fd00::78 dev eth0").unwrap();
    let groups = t.k.proc_text(ns, "/proc/net/igmp6").unwrap();
    assert!(groups.contains("ff0200000000000000000001ff000077") && !groups.contains("01ff000078"), "{groups}");
    t.k.check().unwrap();
}
