//! One direction of a connection as a key, read from a packet.
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::Pf;
use crate::net::netfilter::packet::Pkt;
use belljar_wire::icmp::*;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::ipv6::NEXTHDR_ICMP;

/// Addresses as numbers, IPv4 in the low bits. For ICMP `sport` is the identifier, `dport` type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub src: u128,
    pub dst: u128,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
    pub pf: Pf,
    /// Of this direction ([`super::Zone`]).
    pub zone: u16,
}

/// Connections of the same addresses that are told apart: a number that counts for one direction's tuple, or for both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    pub id: u16,
    pub dirs: u8,
}

impl Zone {
    pub const ORIG: u8 = 1;
    pub const REPL: u8 = 2;
    pub const BOTH: u8 = 3;

    #[doc(alias = "nf_ct_zone_id")]
    pub fn of(self, dir: usize) -> u16 {
        if self.dirs & 1 << dir != 0 { self.id } else { 0 }
    }
}

/// The type that answers an ICMP request (`invmap`), and whether this one asks.
fn partner(pf: Pf, kind: u8) -> Option<(u8, bool)> {
    Some(match (pf, kind) {
        (Pf::V4, ICMP_ECHO) => (ICMP_ECHOREPLY, true),
        (Pf::V4, ICMP_ECHOREPLY) => (ICMP_ECHO, false),
        (Pf::V4, ICMP_TIMESTAMP) => (ICMP_TIMESTAMPREPLY, true),
        (Pf::V4, ICMP_TIMESTAMPREPLY) => (ICMP_TIMESTAMP, false),
        (Pf::V4, ICMP_INFO_REQUEST) => (ICMP_INFO_REPLY, true),
        (Pf::V4, ICMP_INFO_REPLY) => (ICMP_INFO_REQUEST, false),
        (Pf::V4, ICMP_ADDRESS) => (ICMP_ADDRESSREPLY, true),
        (Pf::V4, ICMP_ADDRESSREPLY) => (ICMP_ADDRESS, false),
        (Pf::V6, ICMPV6_ECHO_REQUEST) => (ICMPV6_ECHO_REPLY, true),
        (Pf::V6, ICMPV6_ECHO_REPLY) => (ICMPV6_ECHO_REQUEST, false),
        _ => return None,
    })
}

impl Tuple {
    /// The packet's own direction.
    #[doc(alias = "nf_ct_get_tuple")]
    pub fn of(p: &Pkt, skb: &SkBuff) -> Option<Tuple> {
        if p.later {
            return None;
        }
        Tuple::read(p.pf, (p.src, p.dst), p.proto, p.transport(skb))
    }

    /// From a transport header, of which eight bytes are enough.
    pub fn read(pf: Pf, (src, dst): (u128, u128), proto: u8, b: &[u8]) -> Option<Tuple> {
        let (sport, dport) = match proto {
            IPPROTO_TCP | IPPROTO_UDP => {
                let &[a, b, c, d] = b.first_chunk()?;
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            IPPROTO_ICMP | NEXTHDR_ICMP if (proto == IPPROTO_ICMP) == (pf == Pf::V4) => {
                let &[kind, code, _, _, i, d, _, _] = b.first_chunk()?;
                (u16::from_be_bytes([i, d]), u16::from_be_bytes([kind, code]))
            }
            _ => (0, 0),
        };
        Some(Tuple { src, dst, sport, dport, proto, pf, zone: 0 })
    }

    pub fn is_icmp(&self) -> bool {
        self.proto == if self.pf == Pf::V4 { IPPROTO_ICMP } else { NEXTHDR_ICMP }
    }

    /// An ICMP message that begins something.
    pub fn asks(&self) -> bool {
        partner(self.pf, (self.dport >> 8) as u8).is_some_and(|p| p.1)
    }

    /// What the answer looks like; `None` for ICMP that is never answered.
    #[doc(alias = "nf_ct_invert_tuple")]
    pub fn invert(&self) -> Option<Tuple> {
        let (src, dst) = (self.dst, self.src);
        if self.is_icmp() {
            let (kind, _) = partner(self.pf, (self.dport >> 8) as u8)?;
            return Some(Tuple { src, dst, dport: u16::from(kind) << 8 | self.dport & 0xff, ..*self });
        }
        Some(Tuple { src, dst, sport: self.dport, dport: self.sport, ..*self })
    }
}
