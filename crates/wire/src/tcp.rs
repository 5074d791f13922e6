//! The TCP header (RFC 9293), its flags and options in the order in which Linux writes them.
//!
//! Read and written: MSS, window scale, SACK-permitted, SACK, timestamps, Fast Open, the place of a signature. Others are skipped.
use crate::Malformed;
use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// Header bytes without options.
pub const TCP_HLEN: usize = 20;
/// Most option bytes a header can hold.
pub const MAX_TCP_OPTION_SPACE: usize = 40;

pub const TCPOPT_EOL: u8 = 0;
pub const TCPOPT_NOP: u8 = 1;
pub const TCPOPT_MSS: u8 = 2;
pub const TCPOPT_WINDOW: u8 = 3;
pub const TCPOPT_SACK_PERM: u8 = 4;
pub const TCPOPT_SACK: u8 = 5;
pub const TCPOPT_TIMESTAMP: u8 = 8;
pub const TCPOPT_MD5SIG: u8 = 19;
pub const TCPOPT_FASTOPEN: u8 = 34;
/// Experiments, told apart by a number of their own (RFC 6994).
pub const TCPOPT_EXP: u8 = 254;
pub const TCPOPT_FASTOPEN_MAGIC: [u8; 2] = [0xf9, 0x89];
/// Longest Fast Open cookie.
pub const TCP_FASTOPEN_COOKIE_MAX: usize = 16;

pub const TCPOLEN_TSTAMP_ALIGNED: usize = 12;
pub const TCPOLEN_MD5SIG_ALIGNED: usize = 20;
pub const TCPOLEN_SACK_BASE_ALIGNED: usize = 4;
pub const TCPOLEN_SACK_PERBLOCK: usize = 8;

/// The nine control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const FIN: Flags = Flags(0x01);
    pub const SYN: Flags = Flags(0x02);
    pub const RST: Flags = Flags(0x04);
    pub const PSH: Flags = Flags(0x08);
    pub const ACK: Flags = Flags(0x10);
    pub const URG: Flags = Flags(0x20);
    pub const ECE: Flags = Flags(0x40);
    pub const CWR: Flags = Flags(0x80);
    pub const AE: Flags = Flags(0x100);

    /// All bits of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Any bit of `other` is set.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        self.union(other)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl BitAnd for Flags {
    type Output = Flags;
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Flags;
    fn not(self) -> Flags {
        Flags(!self.0 & 0x1ff)
    }
}

/// As tcpdump writes them: `[S.]`, `[P.]`, `[none]`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & 0x1ff == 0 {
            return f.write_str("[none]");
        }
        f.write_str("[")?;
        for (_, c) in "FSRP.UEWe".chars().enumerate().filter(|(i, _)| self.0 >> i & 1 == 1) {
            write!(f, "{c}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpHeader {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    /// 20 to 60.
    pub header_len: usize,
    pub flags: Flags,
    pub window: u16,
    pub csum: u16,
    pub urg_ptr: u16,
}

impl TcpHeader {
    /// Checks the data offset; the whole header must be in `b`.
    #[inline]
    pub fn parse(b: &[u8]) -> Result<TcpHeader, Malformed> {
        let h = b.first_chunk::<TCP_HLEN>().ok_or(Malformed::Truncated)?;
        let header_len = (h[12] >> 4) as usize * 4;
        if header_len < TCP_HLEN {
            return Err(Malformed::BadHeaderLength);
        }
        if header_len > b.len() {
            return Err(Malformed::Truncated);
        }
        let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Ok(TcpHeader {
            src_port: word(0),
            dst_port: word(2),
            seq: long(4),
            ack: long(8),
            header_len,
            flags: Flags(word(12) & 0x1ff),
            window: word(14),
            csum: word(16),
            urg_ptr: word(18),
        })
    }

    /// The option bytes behind the header that was parsed from `b`.
    pub fn options<'a>(&self, b: &'a [u8]) -> &'a [u8] {
        b.get(TCP_HLEN..self.header_len).unwrap_or(&[])
    }

    /// Writes 20 bytes with `self.csum` as it is; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<TCP_HLEN>() else { return };
        let offset_flags = ((self.header_len / 4) as u16) << 12 | self.flags.0 & 0x1ff;
        b[..2].copy_from_slice(&self.src_port.to_be_bytes());
        b[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        b[4..8].copy_from_slice(&self.seq.to_be_bytes());
        b[8..12].copy_from_slice(&self.ack.to_be_bytes());
        b[12..14].copy_from_slice(&offset_flags.to_be_bytes());
        b[14..16].copy_from_slice(&self.window.to_be_bytes());
        b[16..18].copy_from_slice(&self.csum.to_be_bytes());
        b[18..20].copy_from_slice(&self.urg_ptr.to_be_bytes());
    }
}

/// A Fast Open cookie as an option carries it (RFC 7413 §4.1.1); empty, it asks for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpenCookie {
    /// In the experimental option (RFC 6994) that came before kind 34.
    pub exp: bool,
    pub len: u8,
    pub val: [u8; TCP_FASTOPEN_COOKIE_MAX],
}

impl FastOpenCookie {
    /// `None` for a length that no cookie has: odd, or not 0 and outside 4 to 16.
    #[doc(alias = "tcp_parse_fastopen_option")]
    pub fn parse(body: &[u8], exp: bool) -> Option<FastOpenCookie> {
        let fits = body.is_empty() || (4..=TCP_FASTOPEN_COOKIE_MAX).contains(&body.len());
        if !fits || !body.len().is_multiple_of(2) {
            return None;
        }
        let mut c = FastOpenCookie { exp, len: body.len() as u8, ..FastOpenCookie::default() };
        c.val.iter_mut().zip(body).for_each(|(to, b)| *to = *b);
        Some(c)
    }

    pub fn bytes(&self) -> &[u8] {
        self.val.get(..self.len as usize).unwrap_or(&self.val)
    }

    /// Bytes in the header, padded to whole words.
    pub fn option_len(&self) -> usize {
        (if self.exp { 4 } else { 2 } + self.bytes().len()).next_multiple_of(4)
    }
}

/// What the options say. MSS, window scale and SACK-permitted mean something in a SYN only; that is the caller's to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    pub mss: Option<u16>,
    /// As on the wire: may be above 14.
    pub wscale: Option<u8>,
    pub sack_ok: bool,
    /// TSval, TSecr.
    pub ts: Option<(u32, u32)>,
    /// Left and right edges; the first `n_sack` count.
    pub sack: [(u32, u32); 4],
    pub n_sack: u8,
    pub fastopen: Option<FastOpenCookie>,
    /// Signed as RFC 2385 says; the signature itself is written and read by who has the key.
    pub md5: bool,
}

fn be32(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_be_bytes(*b))
}

impl TcpOptions {
    /// Reads option bytes as leniently as Linux: an option that cannot be ends the list, an unknown one is skipped,
    /// one with a wrong length is ignored.
    #[doc(alias = "tcp_parse_options")]
    #[inline]
    pub fn parse(b: &[u8]) -> TcpOptions {
        // Nearly every segment of an established connection: NOP NOP TS and nothing else.
        match Self::parse_aligned_timestamp(b) {
            None if !b.is_empty() => Self::parse_list(b),
            ts => TcpOptions { ts, ..TcpOptions::default() },
        }
    }

    fn parse_list(b: &[u8]) -> TcpOptions {
        let mut o = TcpOptions::default();
        let mut rest = b;
        while let [kind, tail @ ..] = rest {
            match *kind {
                TCPOPT_EOL => break,
                TCPOPT_NOP => {
                    rest = tail;
                    continue;
                }
                _ => {}
            }
            let Some(&len) = tail.first() else { break };
            let Some(body) = rest.get(2..len as usize) else { break };
            o.read_one(*kind, body);
            rest = rest.get(len as usize..).unwrap_or(&[]);
        }
        o
    }

    /// The fast path (`tcp_parse_aligned_timestamp`): exactly NOP NOP TS.
    #[inline]
    pub fn parse_aligned_timestamp(b: &[u8]) -> Option<(u32, u32)> {
        let [TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, 10, v0, v1, v2, v3, e0, e1, e2, e3] = *b else { return None };
        Some((u32::from_be_bytes([v0, v1, v2, v3]), u32::from_be_bytes([e0, e1, e2, e3])))
    }

    fn read_one(&mut self, kind: u8, body: &[u8]) {
        match (kind, body.len()) {
            (TCPOPT_MSS, 2) => self.mss = Some(u16::from_be_bytes([body[0], body[1]])),
            (TCPOPT_WINDOW, 1) => self.wscale = Some(body[0]),
            (TCPOPT_SACK_PERM, 0) => self.sack_ok = true,
            (TCPOPT_TIMESTAMP, 8) => self.ts = Some((be32(body, 0), be32(body, 4))),
            (TCPOPT_MD5SIG, 16) => self.md5 = true,
            (TCPOPT_FASTOPEN, _) => self.fastopen = FastOpenCookie::parse(body, false),
            (TCPOPT_EXP, n) if n >= 2 && body[..2] == TCPOPT_FASTOPEN_MAGIC => {
                self.fastopen = FastOpenCookie::parse(&body[2..], true);
            }
            (TCPOPT_SACK, n) if n >= 8 && n % 8 == 0 => {
                self.n_sack = (n / 8).min(4) as u8;
                for (block, b) in self.sack.iter_mut().zip(body.chunks_exact(8)) {
                    *block = (be32(b, 0), be32(b, 4));
                }
            }
            _ => {}
        }
    }

    pub fn sack_blocks(&self) -> &[(u32, u32)] {
        self.sack.get(..self.n_sack as usize).unwrap_or(&self.sack)
    }

    /// Bytes that [`TcpOptions::emit`] writes, a multiple of 4.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        let before = self.fixed_len() + self.cookie_that_fits().map_or(0, |c| c.option_len());
        before + self.blocks_that_fit(before).map_or(0, |n| TCPOLEN_SACK_BASE_ALIGNED + TCPOLEN_SACK_PERBLOCK * n)
    }

    /// The cookie, if there is room for it beside the options of a SYN; SACK blocks give way to it.
    fn cookie_that_fits(&self) -> Option<&FastOpenCookie> {
        self.fastopen.as_ref().filter(|c| self.fixed_len() + c.option_len() <= MAX_TCP_OPTION_SPACE)
    }

    fn fixed_len(&self) -> usize {
        let sack_perm = if self.sack_ok && self.ts.is_none() { 4 } else { 0 };
        let ts = self.ts.map_or(0, |_| TCPOLEN_TSTAMP_ALIGNED);
        let md5 = if self.md5 { TCPOLEN_MD5SIG_ALIGNED } else { 0 };
        md5 + self.mss.map_or(0, |_| 4) + sack_perm + ts + self.wscale.map_or(0, |_| 4)
    }

    fn blocks_that_fit(&self, fixed: usize) -> Option<usize> {
        let room =
            MAX_TCP_OPTION_SPACE.saturating_sub(fixed).checked_sub(TCPOLEN_SACK_BASE_ALIGNED)? / TCPOLEN_SACK_PERBLOCK;
        Some(self.sack_blocks().len().min(room)).filter(|n| *n > 0)
    }

    /// Writes the options in Linux's order and returns their length; SACK blocks without room are left out.
    /// Nothing (and 0) when `b` is shorter than [`TcpOptions::len`].
    #[doc(alias = "tcp_options_write")]
    pub fn emit(&self, b: &mut [u8]) -> usize {
        let len = self.len();
        let Some(b) = b.get_mut(..len) else { return 0 };
        // Nearly every segment: time stamps and nothing else.
        if let (Some((val, ecr)), false, Some(b)) =
            (self.ts, self.sack_ok, b.first_chunk_mut::<TCPOLEN_TSTAMP_ALIGNED>())
            && len == TCPOLEN_TSTAMP_ALIGNED
        {
            b[..4].copy_from_slice(&[TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, 10]);
            b[4..8].copy_from_slice(&val.to_be_bytes());
            b[8..].copy_from_slice(&ecr.to_be_bytes());
            return len;
        }
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(to) = b.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        if self.md5 {
            put(&[TCPOPT_NOP, TCPOPT_NOP, TCPOPT_MD5SIG, 18]);
            put(&[0; 16]);
        }
        if let Some(mss) = self.mss {
            let [hi, lo] = mss.to_be_bytes();
            put(&[TCPOPT_MSS, 4, hi, lo]);
        }
        // SACK-permitted takes the place of the padding before the timestamps.
        match (self.sack_ok, self.ts) {
            (true, Some(_)) => put(&[TCPOPT_SACK_PERM, 2, TCPOPT_TIMESTAMP, 10]),
            (false, Some(_)) => put(&[TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, 10]),
            (true, None) => put(&[TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK_PERM, 2]),
            (false, None) => {}
        }
        if let Some((val, ecr)) = self.ts {
            put(&val.to_be_bytes());
            put(&ecr.to_be_bytes());
        }
        if let Some(shift) = self.wscale {
            put(&[TCPOPT_NOP, TCPOPT_WINDOW, 3, shift]);
        }
        let before = self.fixed_len() + self.cookie_that_fits().map_or(0, |c| c.option_len());
        if let Some(n) = self.blocks_that_fit(before) {
            put(&[TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK, 2 + 8 * n as u8]);
            for (left, right) in self.sack_blocks().iter().take(n) {
                put(&left.to_be_bytes());
                put(&right.to_be_bytes());
            }
        }
        if let Some(cookie) = self.cookie_that_fits() {
            let len = cookie.len;
            match cookie.exp {
                true => put(&[TCPOPT_EXP, 4 + len, TCPOPT_FASTOPEN_MAGIC[0], TCPOPT_FASTOPEN_MAGIC[1]]),
                false => put(&[TCPOPT_FASTOPEN, 2 + len]),
            }
            put(cookie.bytes());
            put(&[TCPOPT_NOP; 2][..cookie.option_len() - cookie.bytes().len() - if cookie.exp { 4 } else { 2 }]);
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(o: TcpOptions) -> Vec<u8> {
        let mut b = [0xee; 40];
        let n = o.emit(&mut b);
        assert_eq!(n, o.len());
        assert_eq!(TcpOptions::parse(&b[..n]), o);
        b[..n].to_vec()
    }

    #[test]
    fn syn_options_come_in_linux_order() {
        let full =
            TcpOptions { mss: Some(1460), wscale: Some(10), sack_ok: true, ts: Some((1, 0)), ..Default::default() };
        assert_eq!(emitted(full), [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 10]);
        assert_eq!(emitted(TcpOptions { ts: None, ..full }), [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 10]);
        let no_sack = TcpOptions { sack_ok: false, ..full };
        assert_eq!(emitted(no_sack), [2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 10]);
    }

    #[test]
    fn a_signature_comes_first() {
        let o = TcpOptions { mss: Some(1460), sack_ok: true, wscale: Some(7), md5: true, ..Default::default() };
        let b = emitted(o);
        assert_eq!((b.len(), &b[..4], &b[20..22]), (32, &[1, 1, 19, 18][..], &[2, 4][..]));
    }

    #[test]
    fn sack_blocks_fit_beside_timestamps() {
        let mut o = TcpOptions { sack: [(1, 2), (3, 4), (5, 6), (7, 8)], n_sack: 4, ..Default::default() };
        assert_eq!(emitted(o).len(), 36);
        o.ts = Some((9, 8));
        assert_eq!(o.len(), 12 + 4 + 24);
        let mut b = [0; 40];
        assert_eq!(o.emit(&mut b), 40);
        assert_eq!(TcpOptions::parse(&b).sack_blocks(), &o.sack[..3]);
        assert_eq!(o.emit(&mut b[..39]), 0);
    }

    #[test]
    fn fast_open_cookies_come_last_in_both_kinds_of_option() {
        let cookie = |exp| FastOpenCookie::parse(&[0xab, 0xcd, 0x12, 0x34], exp);
        let o = TcpOptions { mss: Some(1460), fastopen: cookie(false), ..Default::default() };
        assert_eq!(emitted(o), [2, 4, 5, 180, 34, 6, 0xab, 0xcd, 0x12, 0x34, 1, 1]);
        let o = TcpOptions { fastopen: cookie(true), ..o };
        assert_eq!(emitted(o), [2, 4, 5, 180, 254, 8, 0xf9, 0x89, 0xab, 0xcd, 0x12, 0x34]);
        // More than there is room for: SACK blocks are left out.
        let full = TcpOptions { ts: Some((1, 2)), wscale: Some(7), sack: [(1, 2); 4], n_sack: 4, ..o };
        let mut room = [0; 40];
        assert_eq!((full.len(), full.emit(&mut room)), (40, 40));
        let back = TcpOptions::parse(&room);
        assert_eq!((back.n_sack, back.fastopen), (1, cookie(true)));
        let ask = TcpOptions { fastopen: FastOpenCookie::parse(&[], false), ..Default::default() };
        assert_eq!(emitted(ask), [34, 2, 1, 1]);
        assert_eq!([2, 5, 18].map(|n| FastOpenCookie::parse(&vec![0; n], false)), [None; 3]);
    }

    #[test]
    fn parsing_is_lenient_and_stops_at_what_cannot_be() {
        // An unknown option is skipped, a wrong length ignored, a length of 1 ends it.
        let o = TcpOptions::parse(&[30, 4, 9, 9, 2, 3, 5, 3, 3, 7, 99, 1, 4, 2]);
        assert_eq!(o, TcpOptions { wscale: Some(7), ..Default::default() });
        assert_eq!(TcpOptions::parse(&[1, 4]), TcpOptions::default());
        assert_eq!(TcpOptions::parse(&[0, 4, 2]), TcpOptions::default());
        assert_eq!(TcpOptions::parse(&[8, 10, 0, 0]), TcpOptions::default());
    }

    #[test]
    fn header_goes_round() {
        let h = TcpHeader {
            src_port: 80,
            dst_port: 40000,
            seq: 0xdeadbeef,
            ack: 1,
            header_len: 32,
            flags: Flags::PSH | Flags::ACK | Flags::AE,
            window: 64240,
            csum: 0x1234,
            urg_ptr: 5,
        };
        let mut b = [1; 32];
        h.emit(&mut b);
        assert_eq!(TcpHeader::parse(&b), Ok(h));
        assert_eq!(h.options(&b), &[1; 12]);
        assert_eq!(TcpHeader::parse(&b[..31]), Err(Malformed::Truncated));
        b[12] = 0x40;
        assert_eq!(TcpHeader::parse(&b), Err(Malformed::BadHeaderLength));
    }

    #[test]
    fn flags_look_as_in_tcpdump() {
        assert_eq!((Flags::SYN | Flags::ACK).to_string(), "[S.]");
        assert_eq!((Flags::PSH | Flags::ACK).to_string(), "[P.]");
        assert_eq!((Flags::NONE.to_string(), (!Flags::NONE).to_string()), ("[none]".into(), "[FSRP.UEWe]".into()));
    }
}
