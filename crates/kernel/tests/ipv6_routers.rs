//! Routers of an IPv6 link: which of several is taken, and what redirects do, obeyed and sent.
mod two;
use belljar_abi::*;
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_kernel::net::mib::Mib;
use belljar_wire::Mac;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use core::net::Ipv6Addr;
use two::*;

const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x98);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// An advertisement of a default router with its hardware address; `flags` hold the preference.
fn advertise(t: &mut Two, router: Ipv6Addr, flags: u8, secs: u16) {
    let mut m = vec![NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, flags];
    m.extend(secs.to_be_bytes());
    m.extend([0; 8]);
    m.extend(nd_mac_option(ND_OPT_SOURCE_LL_ADDR, mac(router.segments()[7] as u8)));
    t.rx_icmp(255, router, ALL_NODES, m);
}

fn redirect(t: &mut Two, from: Ipv6Addr, target: Ipv6Addr, dest: Ipv6Addr) {
    let mut m = vec![NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0];
    m.extend(target.octets());
    m.extend(dest.octets());
    m.extend(nd_mac_option(ND_OPT_TARGET_LL_ADDR, mac(target.segments()[7] as u8)));
    t.rx_icmp(255, from, A, m);
}

/// The last byte of the hardware address to which a datagram to `FAR` goes.
fn sent_to(t: &mut Two) -> Option<u8> {
    let fd = t.socket(0, SOCK_DGRAM, 0);
    t.seen.clear();
    t.send(0, fd, b"x", Some((FAR, 9))).unwrap();
    let frames: Vec<Vec<u8>> = std::mem::take(&mut t.seen).iter().map(|f| f.to_vec()).collect();
    frames.iter().find(|f| f[20] == NEXTHDR_UDP).map(|f| f[5])
}

fn with_router() -> Two {
    let mut t = Two::new();
    t.sleep(2500);
    advertise(&mut t, ROUTER, 0, 1800);
    t
}

#[test]
fn a_redirect_of_the_router_that_is_used_is_obeyed_for_a_while() {
    let mut t = with_router();
    assert_eq!(sent_to(&mut t), Some(0x99));
    // Not from another one, not to an address that is not of the link, not through a router.
    redirect(&mut t, OTHER, OTHER, FAR);
    redirect(&mut t, ROUTER, B, FAR);
    assert_eq!(sent_to(&mut t), Some(0x99));
    redirect(&mut t, ROUTER, OTHER, FAR);
    assert_eq!(sent_to(&mut t), Some(0x98));
    assert_eq!(t.count(0, Mib::Icmp6InRedirects), 3);
    t.sleep(61_000);
    advertise(&mut t, ROUTER, 0, 1800);
    assert_eq!(sent_to(&mut t), Some(0x99));
    // The destination itself is on the link.
    redirect(&mut t, ROUTER, FAR, FAR);
    assert_eq!(sent_to(&mut t), Some(1));
}

#[test]
fn redirects_are_not_for_routers_and_not_for_who_does_not_want_them() {
    for (key, value) in [("accept_redirects", "0"), ("forwarding", "1")] {
        let mut t = with_router();
        // Who forwards forgets default routers, unless it wants to hear of them all the same.
        t.k.sysctl_set(t.ns[0], "net.ipv6.conf.eth0.accept_ra", "2").unwrap();
        t.k.sysctl_set(t.ns[0], &format!("net.ipv6.conf.eth0.{key}"), value).unwrap();
        redirect(&mut t, ROUTER, OTHER, FAR);
        assert_eq!(sent_to(&mut t), Some(0x99), "{key}");
    }
}

#[test]
fn the_preferred_router_is_taken_while_it_answers() {
    let mut t = with_router();
    advertise(&mut t, OTHER, 0x08, 1800);
    assert_eq!(sent_to(&mut t), Some(0x98), "high before medium");
    advertise(&mut t, OTHER, 0x18, 1800);
    assert_eq!(sent_to(&mut t), Some(0x99), "medium before low");
    advertise(&mut t, OTHER, 0x10, 1800);
    assert_eq!(sent_to(&mut t), Some(0x99), "equal: the first");
    // Nobody answers for it: the packets after that go to the other one.
    t.sleep(20_000);
    let dev = t.dev[0];
    advertise(&mut t, OTHER, 0x10, 1800);
    let n = t.k.net.ns.get(t.ns[0]).unwrap();
    let state = n.neighs.get(n.neigh_table.get(dev, ROUTER.into()).unwrap()).unwrap().state;
    assert_eq!(state.name(), "FAILED");
    assert_eq!(sent_to(&mut t), Some(0x98));
    // Asked again after a minute, once.
    t.sleep(61_000);
    advertise(&mut t, OTHER, 0x10, 1800);
    let asked = |t: &mut Two| {
        t.seen.clear();
        let fd = t.socket(0, SOCK_DGRAM, 0);
        t.send(0, fd, b"x", Some((FAR, 9))).unwrap();
        let sent = t.sent(NEXTHDR_ICMP);
        sent.iter().filter(|p| p[40] == NDISC_NEIGHBOUR_SOLICITATION && p[48..64] == ROUTER.octets()).count()
    };
    assert_eq!((asked(&mut t), asked(&mut t)), (1, 0));
}

#[test]
fn who_says_that_it_is_no_router_is_none() {
    let mut t = with_router();
    let mut m = vec![NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, NA_OVERRIDE, 0, 0, 0];
    m.extend(ROUTER.octets());
    m.extend(nd_mac_option(ND_OPT_TARGET_LL_ADDR, mac(0x99)));
    t.rx_icmp(255, ROUTER, A, m);
    let fd = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(t.send(0, fd, b"x", Some((FAR, 9))), Err(Errno::ENETUNREACH));
}

#[test]
fn a_router_tells_who_could_go_there_itself() {
    let mut t = Two::new();
    t.sleep(2500);
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.all.forwarding", "1").unwrap();
    t.k.net.add_route6(t.ns[0], FAR, 128, Route6::unicast(Some(ROUTER), Some(t.dev[0]))).unwrap();
    let datagram = [0, 9, 0, 9, 0, 12, 0, 1, 1, 2, 3, 4];
    for _ in 0..20 {
        t.rx(64, B, FAR, NEXTHDR_UDP, &datagram);
    }
    let sent = t.sent(NEXTHDR_ICMP);
    let told: Vec<&Vec<u8>> = sent.iter().filter(|p| p[40] == NDISC_REDIRECT).collect();
    assert_eq!((told.len(), t.count(0, Mib::Icmp6OutRedirects)), (6, 6), "six at once, then one a second");
    let p = told[0];
    assert_eq!((p[7], &p[48..64], &p[64..80]), (255, &ROUTER.octets()[..], &FAR.octets()[..]));
    // No hardware address is known yet: the quote follows at once, in units of eight bytes.
    assert_eq!((&p[80..82], &p[88..92], p.len()), (&[4, 7][..], &[0x60, 0, 0, 0][..], 88 + 48));
    // Where the next hop is none of the link, nothing is said.
    t.sleep(60_000);
    t.k.net.add_route6(t.ns[0], OTHER, 128, Route6::unicast(None, Some(t.dev[0]))).unwrap();
    let far2 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
    t.k.net.add_route6(t.ns[0], far2, 128, Route6::unicast(Some(B), Some(t.dev[0]))).unwrap();
    t.rx(64, B, far2, NEXTHDR_UDP, &datagram);
    assert_eq!(t.count(0, Mib::Icmp6OutRedirects), 6);
}

#[test]
fn what_comes_from_a_link_local_address_stays_there() {
    let mut t = Two::new();
    t.sleep(2500);
    t.k.sysctl_set(t.ns[0], "net.ipv6.conf.all.forwarding", "1").unwrap();
    let lo = t.k.net.ns.get(t.ns[0]).unwrap().lo;
    t.k.net.add_route6(t.ns[0], FAR, 128, Route6::unicast(None, Some(lo))).unwrap();
    t.rx(64, OTHER, FAR, NEXTHDR_UDP, &[0, 9, 0, 9, 0, 8, 0, 1]);
    assert_eq!((t.count(0, Mib::Ip6InAddrErrors), t.count(0, Mib::Icmp6OutDestUnreachs)), (1, 1));
}
