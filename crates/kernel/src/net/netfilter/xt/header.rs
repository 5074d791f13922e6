//! Fields of headers: `ttl` and `hl`, `tos`, `dscp`, `ecn`, `tcpmss`, `esp` and `ah`.
use super::six;
use super::*;
use crate::net::core::filter::Packet;
use crate::net::netfilter::mangle::{TCPOPT_MSS, TCPOPT_NOP, is_tcp};
use crate::net::netfilter::words::value::number;
use std::fmt::Write as _;

fn small(word: &str) -> Option<u8> {
    number(word).and_then(|n| u8::try_from(n).ok())
}

/// The hop limit: equal, not, less, greater.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ttl {
    mode: u8,
    ttl: u8,
}

impl Default for Ttl {
    fn default() -> Ttl {
        Ttl { mode: u8::MAX, ttl: 0 }
    }
}

impl Ttl {
    pub fn read(r: &mut Reader<'_>) -> Result<Ttl, Errno> {
        Ok(Ttl { mode: r.u8()?, ttl: r.u8()? })
    }

    #[doc(alias = "ttl_mt")]
    #[doc(alias = "hl_mt6")]
    pub fn matches(&self, p: &Pkt) -> bool {
        match self.mode {
            0 => p.ttl == self.ttl,
            1 => p.ttl != self.ttl,
            2 => p.ttl < self.ttl,
            3 => p.ttl > self.ttl,
            _ => false,
        }
    }
}

impl Extension for Ttl {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend([self.mode, self.ttl]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let mode = usize::from(self.mode.min(3));
        let (upper, lower) = if v.pf == Pf::V4 { ("TTL", "ttl") } else { ("HL", "hl") };
        if v.list {
            return write!(o, " {upper} match {upper} {} {}", ["==", "!=", "<", ">"][mode], self.ttl);
        }
        write!(o, "{} --{lower}-{} {}", bang(mode == 1), ["eq", "eq", "lt", "gt"][mode], self.ttl)
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let name = if pf == Pf::V4 { "ttl" } else { "hl" };
        let rest = word.strip_prefix("--").and_then(|x| x.strip_prefix(name));
        let mode = match rest {
            Some("-eq") => u8::from(inv),
            Some("-lt") => 2,
            Some("-gt") => 3,
            _ => return Ok(Ext::Unknown),
        };
        let text = w.value(word)?;
        match small(text) {
            Some(ttl) => *self = Ttl { mode, ttl },
            None => return bad(name, word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.mode == u8::MAX {
            return usage("TTL match: You must specify one of `--ttl-eq', `--ttl-lt', `--ttl-gt");
        }
        Ok(())
    }
}

/// Names of types of service, as lists and rules have them.
pub const TOS_NAMES: [(&str, u8); 5] = [
    ("Minimize-Delay", 0x10),
    ("Maximize-Throughput", 8),
    ("Maximize-Reliability", 4),
    ("Minimize-Cost", 2),
    ("Normal-Service", 0),
];

/// `VALUE[/MASK]` or a name, which says nothing about the lower and upper bits.
pub fn tos_value(word: &str) -> Option<(u8, u8)> {
    if let Some(n) = TOS_NAMES.iter().find(|n| n.0.eq_ignore_ascii_case(word)) {
        return Some((n.1, 0x3f));
    }
    let (v, m) = word.split_once('/').unwrap_or((word, "0xff"));
    Some((small(v)?, small(m)?))
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tos {
    mask: u8,
    value: u8,
    invert: bool,
    given: bool,
}

impl Tos {
    pub fn read(r: &mut Reader<'_>) -> Result<Tos, Errno> {
        Ok(Tos { mask: r.u8()?, value: r.u8()?, invert: r.u8()? != 0, given: true })
    }

    #[doc(alias = "tos_mt")]
    pub fn matches(&self, p: &Pkt) -> bool {
        (p.tos & self.mask == self.value) != self.invert
    }
}

impl Extension for Tos {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend([self.mask, self.value, self.invert.into()]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let named = TOS_NAMES.iter().find(|n| self.mask == 0x3f && n.1 == self.value).filter(|_| v.list && !v.numeric);
        if v.list {
            o.push_str(" tos match");
            o.push_str(if self.invert { "!" } else { "" });
            return match named {
                Some(n) => write!(o, " {}", n.0),
                None => write!(o, "0x{:02x}/0x{:02x}", self.value, self.mask),
            };
        }
        write!(o, "{} --tos 0x{:02x}/0x{:02x}", bang(self.invert), self.value, self.mask)
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--tos" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        match tos_value(text) {
            Some((value, mask)) => *self = Tos { mask, value, invert: inv, given: true },
            None => return bad("tos", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("tos", "--tos") }
    }
}

/// `CSn`, `AFnm`, `BE`, `EF`.
pub fn dscp_class(word: &str) -> Option<u8> {
    let word = word.to_ascii_uppercase();
    let digit = |c: u8, most: u8| (c.wrapping_sub(b'0') <= most).then(|| c - b'0');
    match word.as_bytes() {
        b"BE" => Some(0),
        b"EF" => Some(46),
        [b'C', b'S', n] => Some(digit(*n, 7)? << 3),
        [b'A', b'F', n, m] => Some(digit(*n, 4).filter(|n| *n > 0)? << 3 | digit(*m, 3).filter(|m| *m > 0)? << 1),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dscp {
    dscp: u8,
    invert: bool,
}

impl Default for Dscp {
    fn default() -> Dscp {
        Dscp { dscp: u8::MAX, invert: false }
    }
}

impl Dscp {
    #[doc(alias = "dscp_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Dscp, Errno> {
        let d = Dscp { dscp: r.u8()?, invert: r.u8()? != 0 };
        if d.dscp > 63 { Err(Errno::EINVAL) } else { Ok(d) }
    }

    #[doc(alias = "dscp_mt")]
    pub fn matches(&self, p: &Pkt) -> bool {
        (p.tos >> 2 == self.dscp) != self.invert
    }
}

impl Extension for Dscp {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend([self.dscp, self.invert.into()]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if v.list {
            return write!(o, " DSCP match {}0x{:02x}", if self.invert { "!" } else { "" }, self.dscp);
        }
        write!(o, "{} --dscp 0x{:02x}", bang(self.invert), self.dscp)
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let by_name = word == "--dscp-class";
        if !by_name && word != "--dscp" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        match if by_name { dscp_class(text) } else { small(text).filter(|n| *n < 64) } {
            Some(dscp) => *self = Dscp { dscp, invert: inv },
            None if by_name => return usage(format!("Invalid DSCP value `{text}'")),
            None => return bad("dscp", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.dscp == u8::MAX { usage("DSCP match: Parameter --dscp is required") } else { Ok(()) }
    }
}

const ECN_IP: u8 = 1;
const ECN_ECE: u8 = 0x10;
const ECN_CWR: u8 = 0x20;

/// Bits of congestion in both headers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ecn {
    asked: u8,
    invert: u8,
    ect: u8,
}

impl Ecn {
    #[doc(alias = "ecn_mt_check4")]
    pub fn read(_: Pf, r: &mut Reader<'_>) -> Result<Ecn, Errno> {
        let e = Ecn { asked: r.u8()?, invert: r.u8()?, ect: r.u8()? };
        if (e.asked | e.invert) & !(ECN_IP | ECN_ECE | ECN_CWR) != 0 { Err(Errno::EINVAL) } else { Ok(e) }
    }

    pub fn asks_tcp(&self) -> bool {
        self.asked & (ECN_ECE | ECN_CWR) != 0
    }

    #[doc(alias = "ecn_mt4")]
    pub fn matches(&self, p: &Pkt, skb: &SkBuff) -> Option<bool> {
        let flags = if self.asks_tcp() {
            if !is_tcp(p) {
                return Some(false);
            }
            *p.transport(skb).get(13)?
        } else {
            0
        };
        let all = [(ECN_IP, p.tos & 3 == self.ect), (ECN_ECE, flags & 0x40 != 0), (ECN_CWR, flags & 0x80 != 0)];
        Some(all.into_iter().all(|(bit, yes)| self.asked & bit == 0 || yes != (self.invert & bit != 0)))
    }
}

impl Extension for Ecn {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend([self.asked, self.invert, self.ect, 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        o.push_str(if v.list { " ECN match" } else { "" });
        let not = |bit: u8| self.invert & bit != 0;
        for (bit, long, short) in [(ECN_ECE, "tcp-ece", "ECE"), (ECN_CWR, "tcp-cwr", "CWR")] {
            match (self.asked & bit != 0, v.list) {
                (false, _) => {}
                (true, true) => write!(o, " {}{short}", if not(bit) { "!" } else { "" })?,
                (true, false) => write!(o, "{} --ecn-{long}", bang(not(bit)))?,
            }
        }
        match (self.asked & ECN_IP != 0, v.list) {
            (false, _) => Ok(()),
            (true, true) => write!(o, " {}ECT={}", if not(ECN_IP) { "!" } else { "" }, self.ect),
            (true, false) => write!(o, "{} --ecn-ip-ect {}", bang(not(ECN_IP)), self.ect),
        }
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let bit = match word {
            "--ecn-tcp-cwr" => ECN_CWR,
            "--ecn-tcp-ece" => ECN_ECE,
            "--ecn-ip-ect" => {
                let text = w.value(word)?;
                match small(text).filter(|n| *n < 4) {
                    Some(n) => self.ect = n,
                    None => return bad("ecn", word, text),
                }
                ECN_IP
            }
            _ => return Ok(Ext::Unknown),
        };
        self.asked |= bit;
        self.invert |= if inv { bit } else { 0 };
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.asked == 0 { usage("ECN match: some option required") } else { Ok(()) }
    }
}

/// The segment size that a SYN asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TcpMss {
    lo: u16,
    hi: u16,
    invert: bool,
    given: bool,
}

impl TcpMss {
    pub fn read(r: &mut Reader<'_>) -> Result<TcpMss, Errno> {
        Ok(TcpMss { lo: r.u16()?, hi: r.u16()?, invert: r.u8()? != 0, given: true })
    }

    #[doc(alias = "tcpmss_mt")]
    pub fn matches(&self, p: &Pkt, skb: &SkBuff) -> Option<bool> {
        if !is_tcp(p) {
            return Some(false);
        }
        let header = usize::from(*p.transport(skb).get(12)? >> 4) * 4;
        let mut o = [0; 40];
        let o = o.get_mut(..header.checked_sub(20)?)?;
        Packet::at_head(skb).copy(p.at + 20, o)?;
        let mut rest = &o[..];
        while let [kind, more @ ..] = rest {
            let len = if *kind <= TCPOPT_NOP { 1 } else { usize::from(*more.first().unwrap_or(&1)).max(1) };
            if let (&TCPOPT_MSS, [4, a, b, ..]) = (kind, more) {
                return Some((self.lo..=self.hi).contains(&u16::from_be_bytes([*a, *b])) != self.invert);
            }
            rest = rest.get(len..).unwrap_or(&[]);
        }
        Some(self.invert)
    }
}

impl Extension for TcpMss {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u16(self.lo);
        w.u16(self.hi);
        w.0.extend([self.invert.into(), 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let range = if self.lo == self.hi { self.lo.to_string() } else { format!("{}:{}", self.lo, self.hi) };
        if v.list {
            return write!(o, " tcpmss match {}{range}", if self.invert { "!" } else { "" });
        }
        write!(o, "{} --mss {range}", bang(self.invert))
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word != "--mss" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let (lo, hi) = text.split_once(':').unwrap_or((text, text));
        let one = |w: &str| number(w).and_then(|n| u16::try_from(n).ok());
        match (one(lo), one(hi)) {
            (Some(lo), Some(hi)) if lo <= hi => *self = TcpMss { lo, hi, invert: inv, given: true },
            _ => return bad("tcpmss", word, text),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.given { Ok(()) } else { must("tcpmss", "--mss") }
    }
}

const IPPROTO_AH: u8 = 51;

/// Security parameters of `esp` and `ah`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spi {
    ah: bool,
    lo: u32,
    hi: u32,
    invert: bool,
    reserved: bool,
}

impl Spi {
    pub fn new(ah: bool) -> Spi {
        Spi { ah, lo: 0, hi: u32::MAX, invert: false, reserved: false }
    }

    /// Of IPv6 `ah` asks for the header's length too, which nobody does.
    pub fn read(ah: bool, pf: Pf, r: &mut Reader<'_>) -> Result<Spi, Errno> {
        let (lo, hi) = (r.u32()?, r.u32()?);
        let (mut hdrlen, mut reserved) = (0, false);
        if ah && pf == Pf::V6 {
            (hdrlen, reserved) = (r.u32()?, r.u8()? != 0);
        }
        let inv = r.u8()?;
        if inv & !1 != 0 || hdrlen != 0 {
            Err(Errno::EINVAL)
        } else {
            Ok(Spi { ah, lo, hi, invert: inv != 0, reserved })
        }
    }

    pub fn name(&self) -> &'static str {
        if self.ah { "ah" } else { "esp" }
    }

    pub fn is_ah(&self) -> bool {
        self.ah
    }

    pub fn protocol(&self) -> u16 {
        if self.ah { IPPROTO_AH.into() } else { 50 }
    }

    #[doc(alias = "esp_mt")]
    #[doc(alias = "ah_mt")]
    pub fn matches(&self, p: &Pkt, skb: &SkBuff) -> Option<bool> {
        if p.later {
            return Some(false);
        }
        let at = if self.ah && p.pf == Pf::V6 {
            match six::find(skb, IPPROTO_AH) {
                Some(at) => at,
                None => return Some(false),
            }
        } else {
            p.at
        };
        let mut b = [0; 8];
        Packet::at_head(skb).copy(at, if self.ah { &mut b } else { &mut b[..4] })?;
        let spi = if self.ah { [b[4], b[5], b[6], b[7]] } else { [b[0], b[1], b[2], b[3]] };
        let hit = (self.lo..=self.hi).contains(&u32::from_be_bytes(spi)) != self.invert;
        Some(hit && !(self.reserved && b[2..4] != [0, 0]))
    }
}

impl Extension for Spi {
    fn write(&self, pf: Pf, w: &mut Writer) {
        w.u32(self.lo);
        w.u32(self.hi);
        if self.ah && pf == Pf::V6 {
            w.u32(0);
            w.0.extend([self.reserved.into(), self.invert.into(), 0, 0]);
        } else {
            w.0.extend([self.invert.into(), 0, 0, 0]);
        }
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let any = self.lo == 0 && self.hi == u32::MAX && !self.invert;
        let range = if self.lo == self.hi { self.lo.to_string() } else { format!("{}:{}", self.lo, self.hi) };
        let name = self.name();
        if v.list {
            write!(o, " {name}")?;
            if !any {
                let s = if self.lo == self.hi { "" } else { "s" };
                write!(o, " spi{s}:{}{range}", if self.invert { "!" } else { "" })?;
            }
            return if self.reserved { write!(o, " reserved") } else { Ok(()) };
        }
        if !any {
            write!(o, "{} --{name}spi {range}", bang(self.invert))?;
        }
        if self.reserved { write!(o, " --ahres") } else { Ok(()) }
    }

    fn option(&mut self, pf: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if self.ah && pf == Pf::V6 && word == "--ahres" {
            self.reserved = true;
            return Ok(Ext::Taken);
        }
        if word.strip_prefix("--").and_then(|x| x.strip_suffix("spi")) != Some(self.name()) {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let (lo, hi) = text.split_once(':').unwrap_or((text, text));
        let one = |w: &str, none| if w.is_empty() { Some(none) } else { number(w).and_then(|n| u32::try_from(n).ok()) };
        match (one(lo, 0), one(hi, u32::MAX)) {
            (Some(lo), Some(hi)) if lo <= hi => (self.lo, self.hi, self.invert) = (lo, hi, inv),
            _ => return bad(self.name(), word, text),
        }
        Ok(Ext::Taken)
    }
}
