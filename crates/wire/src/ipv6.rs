//! IPv6 (RFC 8200): the header, and the extension headers that lie between it and the transport.
use crate::Malformed;
use crate::ipv4::{IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use core::net::Ipv6Addr;

pub const IPV6_HLEN: usize = 40;
/// Every link carries at least this (RFC 8200 §5).
pub const IPV6_MIN_MTU: u32 = 1280;
/// Longest packet without a jumbo payload option.
pub const IPV6_MAXPLEN: usize = 65_535;

pub const NEXTHDR_HOP: u8 = 0;
pub const NEXTHDR_TCP: u8 = IPPROTO_TCP;
pub const NEXTHDR_UDP: u8 = IPPROTO_UDP;
pub const NEXTHDR_IPV6: u8 = 41;
pub const NEXTHDR_ROUTING: u8 = 43;
pub const NEXTHDR_FRAGMENT: u8 = 44;
pub const NEXTHDR_ESP: u8 = 50;
pub const NEXTHDR_AUTH: u8 = 51;
pub const NEXTHDR_ICMP: u8 = IPPROTO_ICMPV6;
pub const NEXTHDR_NONE: u8 = 59;
pub const NEXTHDR_DEST: u8 = 60;
pub const NEXTHDR_MOBILITY: u8 = 135;

/// Bytes of a fragment header.
pub const FRAG_HLEN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    pub tclass: u8,
    /// 20 bits.
    pub flow: u32,
    /// Bytes behind the fixed header; 0 with a jumbo payload or a super-segment beyond 64 KB.
    pub payload_len: u16,
    pub next: u8,
    pub hop_limit: u8,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
}

impl Default for Ipv6Header {
    fn default() -> Ipv6Header {
        Ipv6Header {
            tclass: 0,
            flow: 0,
            payload_len: 0,
            next: NEXTHDR_NONE,
            hop_limit: 64,
            src: Ipv6Addr::UNSPECIFIED,
            dst: Ipv6Addr::UNSPECIFIED,
        }
    }
}

fn addr(b: &[u8; IPV6_HLEN], at: usize) -> Ipv6Addr {
    b.get(at..).and_then(|a| a.first_chunk::<16>()).map_or(Ipv6Addr::UNSPECIFIED, |a| Ipv6Addr::from(*a))
}

impl Ipv6Header {
    /// Checks the version and that the fixed header is all there; whether the packet holds `payload_len` is for the
    /// caller to compare.
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Ipv6Header, Malformed> {
        let h = b.first_chunk::<IPV6_HLEN>().ok_or(Malformed::Truncated)?;
        if h[0] >> 4 != 6 {
            return Err(Malformed::BadVersion);
        }
        Ok(Ipv6Header {
            tclass: h[0] << 4 | h[1] >> 4,
            flow: u32::from_be_bytes([0, h[1] & 15, h[2], h[3]]),
            payload_len: u16::from_be_bytes([h[4], h[5]]),
            next: h[6],
            hop_limit: h[7],
            src: addr(h, 8),
            dst: addr(h, 24),
        })
    }

    /// Writes 40 bytes; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(h) = b.first_chunk_mut::<IPV6_HLEN>() else { return };
        let first = 6 << 28 | u32::from(self.tclass) << 20 | self.flow & 0xf_ffff;
        h[..4].copy_from_slice(&first.to_be_bytes());
        h[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        (h[6], h[7]) = (self.next, self.hop_limit);
        h[8..24].copy_from_slice(&self.src.octets());
        h[24..].copy_from_slice(&self.dst.octets());
    }
}

/// One hop less; false when the time is up.
pub fn decrease_hop_limit(header: &mut [u8]) -> bool {
    match header.get_mut(7) {
        Some(h) if *h > 1 => {
            *h -= 1;
            true
        }
        _ => false,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragHeader {
    pub next: u8,
    /// In bytes, a multiple of 8.
    pub offset: u16,
    pub more: bool,
    pub id: u32,
}

impl FragHeader {
    pub fn parse(b: &[u8]) -> Result<FragHeader, Malformed> {
        let &[next, _, o0, o1, i0, i1, i2, i3] = b.first_chunk::<FRAG_HLEN>().ok_or(Malformed::Truncated)?;
        let word = u16::from_be_bytes([o0, o1]);
        Ok(FragHeader { next, offset: word & 0xfff8, more: word & 1 != 0, id: u32::from_be_bytes([i0, i1, i2, i3]) })
    }

    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<FRAG_HLEN>() else { return };
        let word = (self.offset & 0xfff8) | u16::from(self.more);
        (b[0], b[1]) = (self.next, 0);
        b[2..4].copy_from_slice(&word.to_be_bytes());
        b[4..].copy_from_slice(&self.id.to_be_bytes());
    }
}

/// An extension header that this module can step over.
#[doc(alias = "ipv6_ext_hdr")]
pub fn is_extension(next: u8) -> bool {
    matches!(next, NEXTHDR_HOP | NEXTHDR_ROUTING | NEXTHDR_FRAGMENT | NEXTHDR_AUTH | NEXTHDR_DEST)
}

/// What lies behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    pub proto: u8,
    /// From the beginning of the IPv6 header.
    pub at: usize,
    pub frag: Option<FragHeader>,
}

/// Steps over the extension headers of the packet that begins at `b`, as many as Linux's parsers do. `None` when they
/// leave the bytes. In a later fragment there is no transport header: `at` is where its data begins.
#[doc(alias = "ipv6_skip_exthdr")]
pub fn transport(b: &[u8]) -> Option<Transport> {
    /// Headers in one packet beyond which nobody looks.
    const MAX: usize = 16;
    let ip = Ipv6Header::parse(b).ok()?;
    let (mut next, mut at, mut frag) = (ip.next, IPV6_HLEN, None);
    for _ in 0..MAX {
        if !is_extension(next) {
            return Some(Transport { proto: next, at, frag });
        }
        let &[n, len] = b.get(at..)?.first_chunk()?;
        let size = match next {
            NEXTHDR_FRAGMENT => {
                let f = FragHeader::parse(b.get(at..)?).ok()?;
                frag = Some(f);
                if f.offset != 0 {
                    return Some(Transport { proto: n, at: at + FRAG_HLEN, frag });
                }
                FRAG_HLEN
            }
            NEXTHDR_AUTH => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        (next, at) = (n, at + size);
    }
    None
}

/// Where a packet with a segment routing header that is still on its way will end: the first segment that it lists.
pub fn final_destination(b: &[u8]) -> Option<Ipv6Addr> {
    let (mut next, mut at) = (*b.get(6)?, IPV6_HLEN);
    while matches!(next, NEXTHDR_HOP | NEXTHDR_DEST) {
        let &[n, len] = b.get(at..)?.first_chunk()?;
        (next, at) = (n, at + (usize::from(len) + 1) * 8);
    }
    let &[_, _, 4, left, ..] = b.get(at..)? else { return None };
    let end = b.get(at + 8..)?.first_chunk::<16>()?;
    (next == NEXTHDR_ROUTING && left != 0).then_some((*end).into())
}

/// `ff02::1:ff00:0/104` with the last three bytes of the address: who asks for a neighbour asks this group (RFC 4291 §2.7.1).
pub fn solicited_node(a: Ipv6Addr) -> Ipv6Addr {
    let o = a.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), u16::from_be_bytes([o[14], o[15]]))
}

/// All nodes and all routers of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Who listens to MLDv2 reports (RFC 3810 §5.2.14).
pub const MLD2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// `fe80::/10`.
pub fn is_linklocal(a: Ipv6Addr) -> bool {
    a.segments()[0] & 0xffc0 == 0xfe80
}

/// An address that means something only together with an interface.
#[doc(alias = "__ipv6_addr_needs_scope_id")]
pub fn needs_scope(a: Ipv6Addr) -> bool {
    // Interface- and link-local groups too.
    is_linklocal(a) || (a.is_multicast() && matches!(a.segments()[0] & 15, 1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let h = Ipv6Header {
            tclass: 0xab,
            flow: 0xcdef1,
            payload_len: 1234,
            next: NEXTHDR_TCP,
            hop_limit: 3,
            src: Ipv6Addr::LOCALHOST,
            dst: "fe80::1:2".parse().unwrap(),
        };
        let mut b = [0; 40];
        h.emit(&mut b);
        assert_eq!(Ipv6Header::parse(&b), Ok(h));
        assert_eq!(&b[..4], [0x6a, 0xbc, 0xde, 0xf1]);
        assert!(decrease_hop_limit(&mut b) && decrease_hop_limit(&mut b) && !decrease_hop_limit(&mut b));
        assert_eq!(Ipv6Header::parse(&b[..39]), Err(Malformed::Truncated));
        b[0] = 0x45;
        assert_eq!(Ipv6Header::parse(&b), Err(Malformed::BadVersion));
        let f = FragHeader { next: 17, offset: 1448, more: true, id: 7 };
        let mut b = [0; 8];
        f.emit(&mut b);
        assert_eq!(FragHeader::parse(&b), Ok(f));
    }

    #[test]
    fn extension_headers_are_stepped_over() {
        let mut b = vec![0; 40];
        Ipv6Header { next: NEXTHDR_HOP, ..Default::default() }.emit(&mut b);
        b.extend([NEXTHDR_DEST, 0, 1, 4, 0, 0, 0, 0]);
        b.extend([NEXTHDR_FRAGMENT, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let frag = FragHeader { next: NEXTHDR_UDP, offset: 0, more: true, id: 9 };
        b.extend([0; 8]);
        frag.emit(&mut b[64..]);
        assert_eq!(transport(&b), Some(Transport { proto: NEXTHDR_UDP, at: 72, frag: Some(frag) }));
        assert_eq!(transport(&b[..70]), None);
        // A chain that never ends is not followed.
        let mut long = vec![0; 40];
        Ipv6Header { next: NEXTHDR_DEST, ..Default::default() }.emit(&mut long);
        (0..40).for_each(|_| long.extend([NEXTHDR_DEST, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(transport(&long), None);
        assert_eq!(solicited_node("2001:db8::1:2233:4455".parse().unwrap()).to_string(), "ff02::1:ff33:4455");
    }
}
