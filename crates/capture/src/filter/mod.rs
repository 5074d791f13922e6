//! pcap-filter expressions, the part that people type: `host`, `net`, `port`, `portrange` with `src`/`dst`, protocols,
//! `ether host`, bytes of headers (`tcp[tcpflags] & (tcp-syn|tcp-ack) != 0`, `ip[8] < 5`), `len`, `less`,
//! `greater`, and `and`/`or`/`not` with parentheses.
//!
//! As in libpcap, `and` and `or` bind equally and from the left, and a bare value takes the qualifiers of the one before
//! it (`port 80 or 443`). Of IPv6 packets ports are found right behind the fixed header only, and `tcp[…]` is of IPv4. `gateway`, `vlan`, `mpls` and host names are refused.
mod eval;
mod parse;

use belljar_wire::{Frame, Mac};
use core::net::Ipv4Addr;
use std::fmt;

/// Why an expression is refused: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFilter(pub(crate) String);

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFilter {}

/// A compiled expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `None` takes everything.
    expr: Option<Expr>,
}

impl Filter {
    /// An empty text takes every packet.
    pub fn compile(text: &str) -> Result<Filter, BadFilter> {
        Ok(Filter { expr: parse::parse(text)? })
    }

    /// Does the filter take this frame?
    pub fn matches(&self, frame: &Frame) -> bool {
        self.expr.as_ref().is_none_or(|e| eval::Packet::new(frame).matches(e))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dir {
    Src,
    Dst,
    Either,
    Both,
}

/// What a primitive is limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proto {
    Ether,
    Ip,
    Arp,
    Ip6,
    /// A protocol number in packets of either family, of one.
    Over(u8),
    Over4(u8),
    Over6(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Proto(Proto),
    /// Addresses as (value, mask); in ARP also, unless limited.
    Net(Option<Proto>, Dir, u32, u32),
    Net6(Dir, u128, u128),
    Port(Option<Proto>, Dir, u16, u16),
    Mac(Dir, Mac),
    EtherType(u16),
    Multicast,
    Multicast6,
    Broadcast,
    Compare(Num, Op, Num),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Num {
    Value(u32),
    Len,
    /// Bytes of a protocol's header: offset and size 1, 2 or 4.
    Load(Proto, Box<Num>, u8),
    Calc(Box<Num>, char, Box<Num>),
    Neg(Box<Num>),
}

fn mask(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0)
}

fn mask6(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0)
}

fn addr(a: Ipv4Addr) -> u32 {
    a.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::*;

    /// Which packets of the zoo pass, by number.
    fn pass(text: &str) -> Vec<usize> {
        let f = Filter::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        zoo().iter().enumerate().filter(|(_, p)| f.matches(p)).map(|(i, _)| i).collect()
    }

    #[test]
    fn protocols_and_ports() {
        assert_eq!(pass("").len(), 16);
        assert_eq!(pass("arp"), [0, 1]);
        assert_eq!(pass("tcp"), (2..9).collect::<Vec<_>>());
        assert_eq!(pass("udp or arp"), [0, 1, 9]);
        assert_eq!(pass("icmp"), (10..16).collect::<Vec<_>>());
        assert_eq!(pass("ip and not tcp and not icmp"), [9]);
        assert_eq!(pass("port 80").len(), 7);
        assert_eq!(pass("tcp port http"), pass("port 80"));
        assert_eq!(pass("udp port 80").len(), 0);
        assert_eq!(pass("port 5533 or 80").len(), 8);
        assert_eq!(pass("src port 80"), [3, 5, 6, 7, 8]);
        assert_eq!(pass("dst portrange 5000-6000"), [9]);
        assert_eq!(pass("ip proto 17"), [9]);
        assert_eq!(pass("ip proto \\icmp"), pass("icmp"));
    }

    #[test]
    fn hosts_and_nets() {
        assert_eq!(pass("host 10.0.2.15").len(), 16);
        assert_eq!(pass("ip host 10.0.2.15").len(), 14);
        assert_eq!(pass("arp host 10.0.2.15"), [0, 1]);
        assert_eq!(pass("src host 10.0.2.2"), [2, 4]);
        assert_eq!(pass("src 10.0.2.2"), [2, 4]);
        assert_eq!(pass("tcp and dst host 10.0.2.2 and src port 80"), [3, 5, 6, 7, 8]);
        assert_eq!(pass("net 10.0.0.0/8").len(), 16);
        assert_eq!(pass("net 10.0.2").len(), 16);
        assert_eq!(pass("dst net 192.168.0.0 mask 255.255.0.0").len(), 0);
        assert_eq!(pass("ether host 02:00:00:00:00:01").len(), 14);
        assert_eq!(pass("ether broadcast"), [0, 1]);
        assert_eq!(pass("broadcast"), [0, 1]);
        assert_eq!(pass("src and dst host 10.0.2.2").len(), 0);
    }

    #[test]
    fn bytes_and_lengths() {
        assert_eq!(pass("tcp[tcpflags] & (tcp-syn|tcp-ack) != 0").len(), 6);
        assert_eq!(pass("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"), [2]);
        assert_eq!(pass("tcp[13] == 0x12"), [3]);
        assert_eq!(pass("tcp[tcpflags] & (tcp-rst|tcp-fin) != 0"), [7, 8]);
        assert_eq!(pass("icmp[icmptype] = icmp-echo"), [10]);
        assert_eq!(pass("icmp[0] == 3 and icmp[1] == 3"), [12]);
        assert_eq!(pass("greater 1000"), [6]);
        assert_eq!(pass("len >= 1000"), [6]);
        assert_eq!(pass("less 42 and arp"), [0, 1]);
        assert_eq!(pass("tcp and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)"), [4, 6]);
        assert_eq!(pass("ether[12:2] == 0x806"), [0, 1]);
        assert_eq!(pass("udp[4:2] = 20"), [9]);
    }

    #[test]
    fn precedence_is_libpcaps() {
        // Left to right: (arp or tcp) and src host …
        assert_eq!(pass("arp or tcp and src host 10.0.2.2"), [2, 4]);
        assert_eq!(pass("arp or (tcp and src host 10.0.2.2)"), [0, 1, 2, 4]);
        assert_eq!(pass("not tcp and ! icmp"), [0, 1, 9]);
        assert_eq!(pass("tcp && port 80 || arp").len(), 9);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let say = |t: &str| Filter::compile(t).unwrap_err().to_string();
        assert_eq!(say("port"), "\"port\" wants a number or name after it");
        assert_eq!(say("host nginx"), "\"nginx\" is no address; host names are not looked up");
        assert_eq!(say("10.0.2.2"), "write \"host 10.0.2.2\"");
        assert_eq!(say("port 99999"), "\"99999\" is no port");
        assert!(say("tcp and").contains("ends too early"), "{}", say("tcp and"));
        assert!(say("(tcp").contains("\")\""), "{}", say("(tcp"));
        assert!(say("tcp port 80 foo").contains("\"foo\""), "{}", say("tcp port 80 foo"));
        assert!(say("tcp[0:3] = 1").contains("1, 2 or 4"), "{}", say("tcp[0:3] = 1"));
        for t in [
            "net 10.0.0.0/33",
            "net 300.1",
            "tcp[",
            "tcp[1",
            "tcp[1]",
            "1",
            "len >",
            "ether host 1:2",
            "vlan 3",
            "@",
            "1 / 0 = 1",
        ] {
            assert!(Filter::compile(t).is_err(), "{t}");
        }
        assert!(Filter::compile(&"(".repeat(100_000)).is_err());
        assert!(Filter::compile(&"not ".repeat(100_000)).is_err());
        assert!(Filter::compile(&"tcp or ".repeat(100_000)).is_err());
    }
}
