//! The IPv4 header (RFC 791). Options are a slice for whoever understands them.
use crate::{Malformed, checksum};
use core::net::Ipv4Addr;

/// Header bytes without options.
pub const IPV4_HLEN: usize = 20;

pub const IPPROTO_IP: u8 = 0;
pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_IGMP: u8 = 2;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_IPV6: u8 = 41;
pub const IPPROTO_ICMPV6: u8 = 58;
pub const IPPROTO_DCCP: u8 = 33;
pub const IPPROTO_SCTP: u8 = 132;
pub const IPPROTO_UDPLITE: u8 = 136;
pub const IPPROTO_RAW: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// 20 to 60.
    pub ihl_bytes: usize,
    pub tos: u8,
    pub total_len: u16,
    pub id: u16,
    pub df: bool,
    pub mf: bool,
    /// Fragment offset in bytes, a multiple of 8.
    pub frag_off: u16,
    pub ttl: u8,
    pub proto: u8,
    pub csum: u16,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
}

impl Default for Ipv4Header {
    fn default() -> Ipv4Header {
        Ipv4Header {
            ihl_bytes: IPV4_HLEN,
            tos: 0,
            total_len: IPV4_HLEN as u16,
            id: 0,
            df: false,
            mf: false,
            frag_off: 0,
            ttl: 64,
            proto: 0,
            csum: 0,
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Ipv4Header {
    /// A header without options, as nearly all are, whose length and checksum are right. `None` says nothing: see
    /// [`Ipv4Header::parse`].
    #[inline]
    pub fn plain(b: &[u8]) -> Option<Ipv4Header> {
        let h = b.first_chunk::<IPV4_HLEN>()?;
        let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let words = [word(0), word(4), word(8), word(12), word(16)];
        let [first, second, third, src, dst] = words;
        let total_len = first as u16;
        if first >> 24 != 0x45 || usize::from(total_len) < IPV4_HLEN || checksum::fold(words_sum(words)) != 0 {
            return None;
        }
        Some(Ipv4Header {
            ihl_bytes: IPV4_HLEN,
            tos: (first >> 16) as u8,
            total_len,
            id: (second >> 16) as u16,
            df: second & 0x4000 != 0,
            mf: second & 0x2000 != 0,
            frag_off: (second as u16 & 0x1fff) << 3,
            ttl: (third >> 24) as u8,
            proto: (third >> 16) as u8,
            csum: third as u16,
            src: Ipv4Addr::from_bits(src),
            dst: Ipv4Addr::from_bits(dst),
        })
    }

    /// Checks version, header length (all of it must be in `b`) and that the packet holds its header; not the checksum.
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Ipv4Header, Malformed> {
        let h = b.first_chunk::<IPV4_HLEN>().ok_or(Malformed::Truncated)?;
        if h[0] >> 4 != 4 {
            return Err(Malformed::BadVersion);
        }
        let ihl_bytes = (h[0] & 15) as usize * 4;
        if ihl_bytes < IPV4_HLEN {
            return Err(Malformed::BadHeaderLength);
        }
        if ihl_bytes > b.len() {
            return Err(Malformed::Truncated);
        }
        let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let total_len = word(2);
        if (total_len as usize) < ihl_bytes {
            return Err(Malformed::BadLength);
        }
        let frag = word(6);
        Ok(Ipv4Header {
            ihl_bytes,
            tos: h[1],
            total_len,
            id: word(4),
            df: frag & 0x4000 != 0,
            mf: frag & 0x2000 != 0,
            frag_off: (frag & 0x1fff) << 3,
            ttl: h[8],
            proto: h[9],
            csum: word(10),
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    /// True when the header at the front of `b` sums up, options included.
    #[doc(alias = "ip_fast_csum")]
    pub fn verify_checksum(b: &[u8]) -> bool {
        let ihl = b.first().map_or(0, |v| (v & 15) as usize * 4);
        ihl >= IPV4_HLEN && b.get(..ihl).is_some_and(|h| checksum::fold(header_sum(h)) == 0)
    }

    /// The option bytes behind the header that was parsed from `b`.
    pub fn options<'a>(&self, b: &'a [u8]) -> &'a [u8] {
        b.get(IPV4_HLEN..self.ihl_bytes).unwrap_or(&[])
    }

    /// Part of a fragmented packet.
    #[doc(alias = "ip_is_fragment")]
    pub fn is_fragment(&self) -> bool {
        self.mf || self.frag_off != 0
    }

    pub fn payload_len(&self) -> usize {
        (self.total_len as usize).saturating_sub(self.ihl_bytes)
    }

    /// Writes the header and its checksum (`self.csum` is not looked at). Options must already be in `b`,
    /// which holds at least `ihl_bytes`; otherwise nothing is written.
    #[inline]
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.get_mut(..self.ihl_bytes) else { return };
        let Some(h) = b.first_chunk_mut::<IPV4_HLEN>() else { return };
        let frag = u32::from(self.df) << 14 | u32::from(self.mf) << 13 | u32::from(self.frag_off >> 3);
        let first = 0x40 | (self.ihl_bytes as u32 / 4);
        let mut words = [
            first << 24 | u32::from(self.tos) << 16 | u32::from(self.total_len),
            u32::from(self.id) << 16 | frag,
            u32::from(self.ttl) << 24 | u32::from(self.proto) << 16,
            self.src.to_bits(),
            self.dst.to_bits(),
        ];
        let bare = self.ihl_bytes == IPV4_HLEN;
        if bare {
            words[2] |= u32::from(checksum::fold(words_sum(words)));
        }
        for (to, word) in h.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        if !bare {
            set_checksum(b);
        }
    }
}

/// Computes the checksum of the header that fills `header`.
pub fn set_checksum(header: &mut [u8]) {
    if let Some(c) = header.get_mut(10..12) {
        c.fill(0);
        let c = checksum::fold(header_sum(header));
        header[10..12].copy_from_slice(&c.to_be_bytes());
    }
}

/// The sum over a header; one without options, as nearly all are, word by word.
#[inline]
fn header_sum(header: &[u8]) -> u32 {
    let Ok(h) = <&[u8; IPV4_HLEN]>::try_from(header) else { return checksum::sum(header, 0) };
    let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    words_sum([word(0), word(4), word(8), word(12), word(16)])
}

#[inline]
fn words_sum(words: [u32; IPV4_HLEN / 4]) -> u32 {
    let sum: u64 = words.iter().map(|w| u64::from(*w)).sum();
    checksum::add(sum as u32, (sum >> 32) as u32)
}

/// One hop less, with the checksum kept right; false when the time is up.
#[doc(alias = "ip_decrease_ttl")]
pub fn decrease_ttl(header: &mut [u8]) -> bool {
    let Some(h) = header.first_chunk_mut::<IPV4_HLEN>() else { return false };
    if h[8] <= 1 {
        return false;
    }
    let old = u16::from_be_bytes([h[8], h[9]]);
    h[8] -= 1;
    let c = checksum::replace2(u16::from_be_bytes([h[10], h[11]]), old, u16::from_be_bytes([h[8], h[9]]));
    h[10..12].copy_from_slice(&c.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    // The header with checksum b861 that textbooks use.
    const KNOWN: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
        0x00, 0xc7,
    ];

    #[test]
    fn known_header_goes_round() {
        let h = Ipv4Header::parse(&KNOWN).unwrap();
        assert_eq!((h.total_len, h.df, h.proto, h.csum, h.ttl), (0x73, true, IPPROTO_UDP, 0xb861, 64));
        assert!(Ipv4Header::verify_checksum(&KNOWN));
        let mut b = [0xff; 20];
        h.emit(&mut b);
        assert_eq!(b, KNOWN);
        assert!(decrease_ttl(&mut b) && Ipv4Header::verify_checksum(&b) && b[8] == 63);
    }

    #[test]
    fn a_plain_header_is_what_parses_and_sums_up() {
        let same = |b: &[u8]| {
            let slow = Ipv4Header::parse(b).ok().filter(|h| h.ihl_bytes == IPV4_HLEN && Ipv4Header::verify_checksum(b));
            assert_eq!(Ipv4Header::plain(b), slow, "{b:02x?}");
        };
        same(&KNOWN);
        same(&KNOWN[..19]);
        for at in 0..IPV4_HLEN {
            for v in 0..=u8::MAX {
                let mut b = KNOWN;
                b[at] = v;
                same(&b);
                set_checksum(&mut b);
                same(&b);
            }
        }
    }

    #[test]
    fn refusals_have_names() {
        let with = |at: usize, v: u8| {
            let mut b = KNOWN;
            b[at] = v;
            Ipv4Header::parse(&b)
        };
        assert_eq!(with(0, 0x65), Err(Malformed::BadVersion));
        assert_eq!(with(0, 0x44), Err(Malformed::BadHeaderLength));
        assert_eq!(with(0, 0x46), Err(Malformed::Truncated));
        assert_eq!(with(3, 19), Err(Malformed::BadLength));
        assert_eq!(Ipv4Header::parse(&KNOWN[..19]), Err(Malformed::Truncated));
        assert!(!Ipv4Header::verify_checksum(&[]) && !Ipv4Header::verify_checksum(&[0x4f; 20]));
    }

    #[test]
    fn fragments_and_options() {
        let mut b = [1u8; 24];
        let h = Ipv4Header { ihl_bytes: 24, total_len: 1500, mf: true, frag_off: 1480, ..Ipv4Header::default() };
        h.emit(&mut b);
        let back = Ipv4Header::parse(&b).unwrap();
        assert_eq!((back.frag_off, back.mf, back.is_fragment(), back.options(&b)), (1480, true, true, &[1u8; 4][..]));
        assert!(Ipv4Header::verify_checksum(&b));
    }
}
