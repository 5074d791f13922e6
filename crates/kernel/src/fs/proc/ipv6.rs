//! The files of IPv6: addresses, routes, groups, counters.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::ipv4::fib::RouteType;
use crate::net::ipv6::addrconf::Scope6;
use crate::net::ipv6::fib::{PROTO_RA, Pref, Route6};
use crate::view::CounterView;
use core::net::Ipv6Addr;
use std::fmt::Write;

const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;

fn hex(a: Ipv6Addr) -> String {
    format!("{:032x}", a.to_bits())
}

impl Kernel {
    /// Address, interface, prefix length, scope, flags, name.
    pub(super) fn if_inet6(&self, ns: NsId) -> String {
        let mut out = String::new();
        for d in self.net.ns_devs(ns).filter_map(|id| self.net.devs.get(id)) {
            for a in &d.inet6.addrs {
                // IPV6_ADDR_LOOPBACK, LINKLOCAL, SITELOCAL; 0 is global.
                let scope = match Scope6::of(a.addr) {
                    _ if a.addr.is_loopback() => 0x10,
                    Scope6::Link => 0x20,
                    Scope6::Site => 0x40,
                    _ => 0,
                };
                let bits = [
                    (a.permanent, IFA_F_PERMANENT),
                    (a.nodad, IFA_F_NODAD),
                    (a.tentative(), IFA_F_TENTATIVE),
                    (a.dadfailed, IFA_F_DADFAILED),
                    (a.deprecated(self.net.env.now), IFA_F_DEPRECATED),
                ];
                let flags: u32 = bits.iter().filter(|b| b.0).map(|b| b.1).sum::<u32>() | a.flags & 0xff;
                let (addr, index) = (hex(a.addr), d.ifindex);
                let _ = writeln!(out, "{addr} {index:02x} {:02x} {scope:02x} {flags:02x} {:>8}", a.prefix, d.name);
            }
        }
        out
    }

    /// Destination, source, next hop, metric, references, uses, flags, device; of each of the tables main and local, and what
    /// says that there is no way.
    pub(super) fn ipv6_route(&self, ns: NsId) -> String {
        let Some(n) = self.net.ns.get(ns) else { return String::new() };
        let mut out = String::new();
        let lo = self.net.devs.get(n.lo).map_or("lo", |d| &d.name);
        let none = "0".repeat(32);
        for t in [&n.v6.fib.main, &n.v6.fib.local] {
            for (dst, len, r) in t.iter() {
                let dev = r.dev.and_then(|d| self.net.devs.get(d)).map_or(lo, |d| &d.name);
                line(&mut out, dst, len, r, dev);
            }
            if t.get(Ipv6Addr::UNSPECIFIED, 0).is_empty() {
                let _ = writeln!(out, "{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200 {lo:>8}");
            }
        }
        out
    }

    /// Interface, address, users.
    pub(super) fn anycast6(&self, ns: NsId) -> String {
        let mut out = String::new();
        for d in self.net.ns_devs(ns).filter_map(|id| self.net.devs.get(id)) {
            for a in &d.inet6.anycast.list {
                let _ = writeln!(out, "{:<4} {:<15} {} {:>5}", d.ifindex, d.name, hex(a.addr), a.users());
            }
        }
        out
    }
}

/// `RTF_*`.
fn flags(len: u8, r: &Route6) -> u32 {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    const HOST: u32 = 4;
    const REJECT: u32 = 0x200;
    const DEFAULT: u32 = 0x10000;
    const ADDRCONF: u32 = 0x40000;
    const EXPIRES: u32 = 0x400000;
    const NONEXTHOP: u32 = 0x200000;
    const LOCAL: u32 = 0x8000_0000;
    let refuses = matches!(r.kind, RouteType::Unreachable | RouteType::Prohibit | RouteType::Blackhole);
    const ANYCAST: u32 = 0x10_0000;
    let (local, anycast) = (r.kind == RouteType::Local, r.kind == RouteType::Anycast);
    let bits = [
        (!refuses, UP),
        (r.gateway.is_some(), GATEWAY),
        (len == 128 && !r.is_here(), HOST),
        (refuses, REJECT | NONEXTHOP),
        (r.proto == PROTO_RA, ADDRCONF),
        (r.proto == PROTO_RA && r.gateway.is_some() && len == 0, DEFAULT),
        (r.pref == Pref::High, 1 << 27),
        (r.pref == Pref::Low, 3 << 27),
        (r.expires.is_some(), EXPIRES),
        (local, LOCAL | NONEXTHOP),
        (anycast, ANYCAST | NONEXTHOP),
    ];
    bits.iter().filter(|b| b.0).map(|b| b.1).fold(0, |a, b| a | b)
}

fn line(out: &mut String, dst: Ipv6Addr, len: u8, r: &Route6, dev: &str) {
    let any = Ipv6Addr::UNSPECIFIED;
    let _ = writeln!(
        out,
        "{} {len:02x} {} 00 {} {:08x} 00000001 00000000 {:08x} {dev:>8}",
        hex(dst),
        hex(any),
        hex(r.gateway.unwrap_or(any)),
        r.metric,
        flags(len, r)
    );
}

/// Kinds of messages that are counted by name.
const ICMPV6_TYPES: [(&str, u8); 15] = [
    ("DestUnreachs", 1),
    ("PktTooBigs", 2),
    ("TimeExcds", 3),
    ("ParmProblems", 4),
    ("Echos", 128),
    ("EchoReplies", 129),
    ("GroupMembQueries", 130),
    ("GroupMembResponses", 131),
    ("GroupMembReductions", 132),
    ("RouterSolicits", 133),
    ("RouterAdvertisements", 134),
    ("NeighborSolicits", 135),
    ("NeighborAdvertisements", 136),
    ("Redirects", 137),
    ("MLDv2Reports", 143),
];

/// Those that there were, once more by their numbers.
fn by_number(out: &mut String, counters: &[CounterView], way: &str) {
    for (name, number) in ICMPV6_TYPES {
        let is_it = |c: &&CounterView| c.group == "Icmp6" && c.name.strip_prefix(way) == Some(name);
        if let Some(c) = counters.iter().find(is_it).filter(|c| c.value > 0) {
            let _ = writeln!(out, "{:<32}\t{}", format!("Icmp6{way}Type{number}"), c.value);
        }
    }
}

/// A counter a line.
pub(super) fn snmp6(counters: &[CounterView]) -> String {
    let mut out = String::new();
    for group in ["Ip6", "Icmp6", "Udp6"] {
        for c in counters.iter().filter(|c| c.group == group) {
            let _ = writeln!(out, "{:<32}\t{}", format!("{group}{}", c.name), c.value);
        }
        if group == "Icmp6" {
            by_number(&mut out, counters, "In");
            by_number(&mut out, counters, "Out");
        }
    }
    // UDP-Lite is refused: its counters stand still.
    for name in [
        "InDatagrams",
        "NoPorts",
        "InErrors",
        "OutDatagrams",
        "RcvbufErrors",
        "SndbufErrors",
        "InCsumErrors",
        "MemErrors",
    ] {
        let _ = writeln!(out, "{:<32}\t0", format!("UdpLite6{name}"));
    }
    out
}
