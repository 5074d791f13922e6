//! Headers of IPv6 between the fixed one and the transport: `rt`, `frag`, `hbh` and `dst`, `ipv6header`, `eui64`.
//!
//! Left out: which addresses a routing header names, which options the others have; rules that ask are refused (EINVAL).
use super::*;
use crate::net::core::filter::Packet;
use crate::net::netfilter::words::value::number;
use std::fmt::Write as _;

const HOPOPTS: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTH: u8 = 51;
const NONE: u8 = 59;
const DEST: u8 = 60;
/// As many headers as are looked at.
const MOST: usize = 64;

/// Headers one after another, each with its place; the last one is what lies above.
fn walk(skb: &SkBuff) -> Vec<(u8, usize)> {
    let packet = Packet::at_head(skb);
    let read = |at: usize| {
        let mut b = [0; 2];
        packet.copy(at, &mut b).map(|()| b)
    };
    let (mut out, mut at) = (Vec::new(), 40);
    let Some([mut next, _]) = read(6) else { return out };
    while out.len() < MOST {
        out.push((next, at));
        if !matches!(next, HOPOPTS | ROUTING | FRAGMENT | AUTH | DEST) {
            break;
        }
        let Some([after, len]) = read(at) else { break };
        at += match next {
            FRAGMENT => 8,
            AUTH => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        next = after;
    }
    out
}

pub fn find(skb: &SkBuff, kind: u8) -> Option<usize> {
    walk(skb).into_iter().find(|h| h.0 == kind).map(|h| h.1)
}

fn head(skb: &SkBuff, kind: u8) -> Option<[u8; 8]> {
    let mut b = [0; 8];
    Packet::at_head(skb).copy(find(skb, kind)?, &mut b)?;
    Some(b)
}

fn range(word: &str) -> Option<(u32, u32)> {
    let (lo, hi) = word.split_once(':').unwrap_or((word, word));
    let one = |w: &str, none| if w.is_empty() { Some(none) } else { number(w).and_then(|n| u32::try_from(n).ok()) };
    one(lo, 0).zip(one(hi, u32::MAX)).filter(|(lo, hi)| lo <= hi)
}

fn range_text((lo, hi): (u32, u32)) -> String {
    if lo == hi { lo.to_string() } else { format!("{lo}:{hi}") }
}

fn not(inv: bool) -> &'static str {
    if inv { "!" } else { "" }
}

const RT_TYP: u8 = 1;
const RT_SGS: u8 = 2;
const RT_LEN: u8 = 4;

/// A routing header.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rt {
    kind: u32,
    segs: (u32, u32),
    len: u32,
    asked: u8,
    inv: u8,
}

impl Rt {
    pub fn read(r: &mut Reader<'_>) -> Result<Rt, Errno> {
        let t = Rt { kind: r.u32()?, segs: (r.u32()?, r.u32()?), len: r.u32()?, asked: r.u8()?, inv: r.u8()? };
        let all = RT_TYP | RT_SGS | RT_LEN;
        if t.asked & !all != 0 || t.inv & !all != 0 { Err(Errno::EINVAL) } else { Ok(t) }
    }

    #[doc(alias = "rt_mt6")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        let Some([_, len, kind, left, ..]) = head(skb, ROUTING) else { return false };
        let all = [
            (RT_TYP, self.kind == u32::from(kind)),
            (RT_SGS, (self.segs.0..=self.segs.1).contains(&left.into())),
            (RT_LEN, self.len == (u32::from(len) + 1) * 8),
        ];
        all.into_iter().all(|(bit, yes)| self.asked & bit == 0 || yes != (self.inv & bit != 0))
    }
}

impl Extension for Rt {
    fn write(&self, _: Pf, w: &mut Writer) {
        [self.kind, self.segs.0, self.segs.1, self.len].into_iter().for_each(|v| w.u32(v));
        w.0.extend([self.asked, self.inv, 0, 0]);
        // Addresses and their number.
        w.zeros(16 * 16 + 4);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let s = if self.segs.0 == self.segs.1 { "" } else { "s" };
        let all = [
            (RT_TYP, "type", "type".to_owned(), self.kind.to_string()),
            (RT_SGS, "segsleft", format!("segsleft{s}"), range_text(self.segs)),
            (RT_LEN, "len", "length".to_owned(), self.len.to_string()),
        ];
        o.push_str(if v.list { " rt" } else { "" });
        for (bit, option, word, value) in all.into_iter().filter(|a| self.asked & a.0 != 0) {
            let inv = self.inv & bit != 0;
            if v.list {
                write!(o, " {word}:{}{value}", not(inv))?;
            } else {
                write!(o, "{} --rt-{option} {value}", bang(inv))?;
            }
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let bit = match word {
            "--rt-type" => RT_TYP,
            "--rt-segsleft" => RT_SGS,
            "--rt-len" => RT_LEN,
            _ => return Ok(Ext::Unknown),
        };
        let text = w.value(word)?;
        let Some((lo, hi)) = range(text).filter(|(lo, hi)| bit == RT_SGS || lo == hi) else {
            return bad("rt", word, text);
        };
        match bit {
            RT_TYP => self.kind = lo,
            RT_SGS => self.segs = (lo, hi),
            _ => self.len = lo,
        }
        self.asked |= bit;
        self.inv |= if inv { bit } else { 0 };
        Ok(Ext::Taken)
    }
}

const FRAG_IDS: u8 = 1;
const FRAG_LEN: u8 = 2;
const FRAG_RES: u8 = 4;
const FRAG_FST: u8 = 8;
const FRAG_MF: u8 = 16;
const FRAG_NMF: u8 = 32;
const FRAG_WORDS: [(u8, &str, &str); 4] = [
    (FRAG_RES, "fragres", "reserved"),
    (FRAG_FST, "fragfirst", "first"),
    (FRAG_MF, "fragmore", "more"),
    (FRAG_NMF, "fraglast", "last"),
];

/// A fragment header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frag {
    ids: (u32, u32),
    asked: u8,
    inv: u8,
}

impl Default for Frag {
    fn default() -> Frag {
        Frag { ids: (0, u32::MAX), asked: 0, inv: 0 }
    }
}

impl Frag {
    pub fn read(r: &mut Reader<'_>) -> Result<Frag, Errno> {
        let ids = (r.u32()?, r.u32()?);
        r.u32()?;
        let f = Frag { ids, asked: r.u8()?, inv: r.u8()? };
        if f.asked & (FRAG_LEN | 0xc0) != 0 || f.inv & !FRAG_IDS != 0 { Err(Errno::EINVAL) } else { Ok(f) }
    }

    #[doc(alias = "frag_mt6")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        let Some([_, reserved, a, b, i @ ..]) = head(skb, FRAGMENT) else { return false };
        let offset = u16::from_be_bytes([a, b]);
        let id = (self.ids.0..=self.ids.1).contains(&u32::from_be_bytes(i)) != (self.inv & FRAG_IDS != 0);
        let asks = |bit: u8, not: bool| self.asked & bit != 0 && not;
        id && !asks(FRAG_RES, reserved != 0 || offset & 6 != 0)
            && !asks(FRAG_FST, offset & !7 != 0)
            && !asks(FRAG_MF, offset & 1 == 0)
            && !asks(FRAG_NMF, offset & 1 != 0)
    }
}

impl Extension for Frag {
    fn write(&self, _: Pf, w: &mut Writer) {
        [self.ids.0, self.ids.1, 0].into_iter().for_each(|v| w.u32(v));
        w.0.extend([self.asked, self.inv, 0, 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let inv = self.inv & FRAG_IDS != 0;
        let any = self.ids == (0, u32::MAX) && !inv;
        if v.list {
            o.push_str(" frag ");
            if !any {
                let s = if self.ids.0 == self.ids.1 { "" } else { "s" };
                write!(o, "id{s}:{}{}", not(inv), range_text(self.ids))?;
            }
        } else if !any {
            write!(o, "{} --fragid {}", bang(inv), range_text(self.ids))?;
        }
        for (_, option, word) in FRAG_WORDS.iter().filter(|f| self.asked & f.0 != 0) {
            if v.list {
                write!(o, " {word}")?;
            } else {
                write!(o, " --{option}")?;
            }
        }
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if let Some(f) = FRAG_WORDS.iter().find(|f| word.strip_prefix("--") == Some(f.1)) {
            self.asked |= f.0;
            return Ok(Ext::Taken);
        }
        if word != "--fragid" {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let Some(ids) = range(text) else { return bad("frag", word, text) };
        (self.ids, self.asked, self.inv) = (ids, self.asked | FRAG_IDS, if inv { FRAG_IDS } else { 0 });
        Ok(Ext::Taken)
    }
}

/// A header of options, hop by hop or for the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opts {
    hop: bool,
    len: Option<u32>,
    inv: bool,
}

impl Opts {
    pub fn new(hop: bool) -> Opts {
        Opts { hop, len: None, inv: false }
    }

    pub fn read(hop: bool, r: &mut Reader<'_>) -> Result<Opts, Errno> {
        let (len, asked, inv) = (r.u32()?, r.u8()?, r.u8()?);
        if asked & !1 != 0 || inv & !1 != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Opts { hop, len: (asked != 0).then_some(len), inv: inv != 0 })
    }

    pub fn name(&self) -> &'static str {
        if self.hop { "hbh" } else { "dst" }
    }

    #[doc(alias = "hbh_mt6")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        let Some([_, len, ..]) = head(skb, if self.hop { HOPOPTS } else { DEST }) else { return false };
        self.len.is_none_or(|l| l == (u32::from(len) + 1) * 8) != (self.len.is_some() && self.inv)
    }
}

impl Extension for Opts {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u32(self.len.unwrap_or(0));
        w.0.extend([u8::from(self.len.is_some()), self.inv.into()]);
        w.zeros(16 * 2 + 2);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let name = self.name();
        if v.list {
            write!(o, " {name}")?;
        }
        match (self.len, v.list) {
            (None, _) => Ok(()),
            (Some(l), true) => write!(o, " length:{}{l}", not(self.inv)),
            (Some(l), false) => write!(o, "{} --{name}-len {l}", bang(self.inv)),
        }
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if word.strip_prefix("--").and_then(|x| x.strip_suffix("-len")) != Some(self.name()) {
            return Ok(Ext::Unknown);
        }
        let text = w.value(word)?;
        let Some(n) = number(text).and_then(|n| u32::try_from(n).ok()) else { return bad(self.name(), word, text) };
        (self.len, self.inv) = (Some(n), inv);
        Ok(Ext::Taken)
    }
}

/// Bit, the word of both, a shorter one.
const HEADERS: [(u8, &str, &str); 8] = [
    (128, "hop-by-hop", "hop"),
    (64, "ipv6-opts", "dst"),
    (32, "ipv6-route", "route"),
    (16, "ipv6-frag", "frag"),
    (8, "ah", "auth"),
    (4, "esp", "esp"),
    (2, "ipv6-nonxt", "none"),
    (1, "protocol", "prot"),
];

/// Which headers there are: these and no others, or these among others (`--soft`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ipv6Headers {
    bits: u8,
    inv: u8,
    soft: bool,
}

impl Ipv6Headers {
    #[doc(alias = "ipv6header_mt6_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Ipv6Headers, Errno> {
        let h = Ipv6Headers { bits: r.u8()?, inv: r.u8()?, soft: r.u8()? != 0 };
        if !h.soft && !matches!(h.inv, 0 | 0xff) { Err(Errno::EINVAL) } else { Ok(h) }
    }

    #[doc(alias = "ipv6header_mt6")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        let there = walk(skb).into_iter().fold(0, |bits, (kind, _)| {
            bits | match kind {
                HOPOPTS => 128,
                DEST => 64,
                ROUTING => 32,
                FRAGMENT => 16,
                AUTH => 8,
                ESP => 4,
                NONE => 2,
                _ => 1,
            }
        });
        if self.soft {
            return (there ^ self.bits ^ self.inv) & self.bits == 0;
        }
        (there == self.bits) != (self.inv != 0)
    }
}

impl Extension for Ipv6Headers {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.0.extend([self.bits, self.inv, if self.soft { 0xff } else { 0 }]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let names: Vec<_> = HEADERS.iter().filter(|h| self.bits & h.0 != 0).map(|h| h.1).collect();
        let inv = self.inv != 0;
        if v.list {
            let what = if v.numeric { format!("0x{:02X}", self.bits) } else { names.join(",") };
            write!(o, " ipv6header flags:{}{what}{}", not(inv), if self.soft { " soft" } else { "" })
        } else {
            write!(o, "{} --header {}{}", bang(inv), names.join(","), if self.soft { " --soft" } else { "" })
        }
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        match word {
            "--soft" => self.soft = true,
            "--header" => {
                let text = w.value(word)?;
                for name in text.split(',') {
                    match HEADERS.iter().find(|h| h.1 == name || h.2 == name) {
                        Some(h) => self.bits |= h.0,
                        None => return usage("ip6t_ipv6header: cannot parse header names"),
                    }
                }
                self.inv = if inv { 0xff } else { 0 };
            }
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        if self.bits == 0 { must("ipv6header", "--header") } else { Ok(()) }
    }
}

/// The lower half of the address is made of the sender's on the link.
#[doc(alias = "eui64_mt6")]
pub fn eui64(p: &Pkt, skb: &SkBuff) -> bool {
    let here = usize::from(skb.network_header.saturating_sub(skb.mac_header)) >= 14;
    let mac = skb.head.at(skb.mac_header).get(6..12).filter(|_| here);
    let Some(&[a, b, c, d, e, f]) = mac else { return false };
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]) == p.src as u64
}
