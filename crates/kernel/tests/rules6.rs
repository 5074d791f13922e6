//! Policy rules of IPv6, and routes in tables. What is expected was measured on Linux 6.18.
mod world;

use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET6, Errno};
use std::net::Ipv6Addr;
use world::*;

fn ip(s: &str) -> Ipv6Addr {
    s.parse().unwrap()
}

/// A host with an address and a default route on a link.
fn host() -> World {
    let mut w = World::new(2);
    for n in 0..2 {
        let ns = w.ns(n);
        w.k.net.enable_ipv6(ns);
    }
    w.veth((0, "v0"), (1, "e0"));
    w.up(0, "v0");
    w.up(1, "e0");
    let v0 = w.dev(0, "v0");
    w.k.net.add_address6(v0, ip("fd01::1"), 64, true).unwrap();
    assert_eq!(route(&mut w, "::", 0, "fd01::2", 254, RTN_UNICAST), 0);
    w
}

fn head(kind: u8, table: u8, (dst, src): (u8, u8)) -> Vec<u8> {
    let h = RtMsg { family: AF_INET6 as u8, dst_len: dst, src_len: src, table, kind, ..RtMsg::default() };
    h.to_bytes().to_vec()
}

fn route(w: &mut World, dst: &str, len: u8, via: &str, table: u8, kind: u8) -> i32 {
    let mut all = vec![(RTA_DST, ip(dst).octets().to_vec())];
    if kind == RTN_UNICAST {
        all.push((RTA_GATEWAY, ip(via).octets().to_vec()));
        all.push(a32(RTA_OIF, w.index(0, "v0")));
    }
    w.netlink(0, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &head(kind, table, (len, 0)), &all).0
}

/// `ip -6 rule add|del`.
fn rule(w: &mut World, add: bool, action: u8, table: u8, lens: (u8, u8), attrs: &[Attr]) -> (i32, String) {
    let kind = if add { RTM_NEWRULE } else { RTM_DELRULE };
    let (errno, text, _) = w.netlink(0, kind, NLM_F_CREATE | NLM_F_EXCL, &head(action, table, lens), attrs);
    (errno, text)
}

/// (preference, table, action) of all rules.
fn rules(w: &mut World) -> Vec<(u32, u8, u8)> {
    let all = w.netlink(0, RTM_GETRULE, NLM_F_DUMP, &head(0, 0, (0, 0)), &[]).2;
    let pref =
        |b: &[u8]| find(&attrs(&b[RtMsg::LEN..]), FRA_PRIORITY).first_chunk().map_or(0, |p| u32::from_ne_bytes(*p));
    all.iter().map(|b| (pref(b), b[4], b[7])).collect()
}

/// The gateway of `ip -6 route get`, or the errno.
fn get(w: &mut World, dst: &str, more: &[Attr]) -> Result<Ipv6Addr, i32> {
    let mut all = vec![(RTA_DST, ip(dst).octets().to_vec())];
    all.extend(more.iter().cloned());
    let (errno, _, bodies) = w.netlink(0, RTM_GETROUTE, 0, &head(0, 0, (128, 0)), &all);
    match bodies.first() {
        Some(b) => {
            let gw = find(&attrs(&b[RtMsg::LEN..]), RTA_GATEWAY).to_vec();
            Ok(gw.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| Ipv6Addr::from(*b)))
        }
        None => Err(errno),
    }
}

fn addr(kind: u16, a: &str) -> Attr {
    (kind, ip(a).octets().to_vec())
}

#[test]
fn rules_are_added_shown_and_removed() {
    let mut w = host();
    assert_eq!(rules(&mut w), [(0, 255, FR_ACT_TO_TBL), (32_766, 254, FR_ACT_TO_TBL)]);
    let from = [addr(FRA_SRC, "fd00::")];
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 100, (0, 8), &from).0, 0);
    assert_eq!(rules(&mut w)[1], (32_765, 100, FR_ACT_TO_TBL));
    let again = [addr(FRA_SRC, "fd00::"), a32(FRA_PRIORITY, 32_765)];
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 100, (0, 8), &again).0, Errno::EEXIST.0);
    assert_eq!(rule(&mut w, false, FR_ACT_TO_TBL, 100, (0, 8), &from).0, 0);
    assert_eq!(rule(&mut w, false, FR_ACT_TO_TBL, 100, (0, 8), &from).0, Errno::ENOENT.0);
    assert_eq!(rules(&mut w).len(), 2);
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 0, (0, 0), &[]).1, "Invalid table");
    // IPv4's are others.
    assert!(w.k.net.ns.get(w.ns(0)).unwrap().fib.rules.is_none());
}

#[test]
fn tables_are_asked_in_order() {
    let mut w = host();
    assert_eq!(route(&mut w, "fd05::", 16, "fd01::5", 200, RTN_UNICAST), 0);
    assert_eq!(get(&mut w, "fd05::1", &[]), Ok(ip("fd01::2")));
    // By the device that it came in by: what is sent here comes from lo.
    let lo = (FRA_IIFNAME, b"lo\0".to_vec());
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 200, (0, 0), &[lo, a32(FRA_PRIORITY, 70)]).0, 0);
    assert_eq!(get(&mut w, "fd05::1", &[]), Ok(ip("fd01::5")));
    assert_eq!(get(&mut w, "fd06::1", &[]), Ok(ip("fd01::2")));
    let mark = [a32(FRA_FWMARK, 5), a32(FRA_FWMASK, 0xff), a32(FRA_PRIORITY, 60)];
    assert_eq!(rule(&mut w, true, FR_ACT_UNREACHABLE, 0, (0, 0), &mark).0, 0);
    assert_eq!(get(&mut w, "fd05::1", &[a32(RTA_MARK, 5)]), Err(Errno::ENETUNREACH.0));
    assert_eq!(get(&mut w, "fd05::1", &[a32(RTA_MARK, 6)]), Ok(ip("fd01::5")));
    let to = [addr(FRA_DST, "fd02::"), a32(FRA_PRIORITY, 50)];
    assert_eq!(rule(&mut w, true, FR_ACT_PROHIBIT, 0, (16, 0), &to).0, 0);
    assert_eq!(get(&mut w, "fd02::1", &[]), Err(Errno::EACCES.0));
    // `throw` sends to the next rule.
    assert_eq!(route(&mut w, "::", 0, "", 201, RTN_THROW), 0);
    let to = [addr(FRA_DST, "fd0b::"), a32(FRA_PRIORITY, 22)];
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 201, (16, 0), &to).0, 0);
    assert_eq!(get(&mut w, "fd0b::1", &[]), Ok(ip("fd01::2")));
}

#[test]
fn the_default_route_of_a_table_can_be_suppressed() {
    let mut w = host();
    assert_eq!(route(&mut w, "::", 0, "fd01::9", 100, RTN_UNICAST), 0);
    let all = [a32(FRA_SUPPRESS_PREFIXLEN, 0), a32(FRA_PRIORITY, 20)];
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 254, (0, 0), &all).0, 0);
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 100, (0, 0), &[a32(FRA_PRIORITY, 21)]).0, 0);
    assert_eq!(get(&mut w, "fd09::1", &[]), Ok(ip("fd01::9")));
    assert_eq!(get(&mut w, "fd01::77", &[]), Ok(Ipv6Addr::UNSPECIFIED), "the link's own route counts");
}

#[test]
fn a_rule_may_ask_for_the_source() {
    let mut w = host();
    assert_eq!(route(&mut w, "::", 0, "fd01::9", 100, RTN_UNICAST), 0);
    let from = [addr(FRA_SRC, "fd01::1"), a32(FRA_PRIORITY, 20)];
    assert_eq!(rule(&mut w, true, FR_ACT_TO_TBL, 100, (0, 128), &from).0, 0);
    assert_eq!(get(&mut w, "fd09::1", &[]), Ok(ip("fd01::2")), "it is not chosen yet");
    assert_eq!(get(&mut w, "fd09::1", &[addr(RTA_SRC, "fd01::1")]), Ok(ip("fd01::9")));
}

#[test]
fn without_rules_nothing_is_reached() {
    let mut w = host();
    for pref in [0, 32_766] {
        assert_eq!(rule(&mut w, false, 0, 0, (0, 0), &[a32(FRA_PRIORITY, pref)]).0, 0);
    }
    assert_eq!(get(&mut w, "fd01::2", &[]), Err(Errno::ENETUNREACH.0));
}
