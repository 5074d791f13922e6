//! `string`: whether bytes stand anywhere in a packet. The algorithms are names only: all find the same.
use super::*;
use crate::net::core::filter::Packet;
use crate::net::netfilter::words::value::number;
use std::fmt::Write as _;

const INVERT: u8 = 1;
const ICASE: u8 = 2;
const ALGO_LEN: usize = 16;
const PATTERN_LEN: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Strings {
    from: u16,
    to: u16,
    algo: String,
    pattern: Vec<u8>,
    flags: u8,
}

impl Strings {
    pub fn new() -> Strings {
        Strings { from: 0, to: u16::MAX, algo: String::new(), pattern: Vec::new(), flags: 0 }
    }

    /// ENOENT for an algorithm that is not here.
    #[doc(alias = "string_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Strings, Errno> {
        let (from, to) = (r.u16()?, r.u16()?);
        let algo = r.text(ALGO_LEN)?.to_owned();
        let pattern = r.bytes(PATTERN_LEN)?;
        let (len, flags) = (usize::from(r.u8()?), r.u8()?);
        let pattern = pattern.get(..len).filter(|p| !p.is_empty()).ok_or(Errno::EINVAL)?.to_vec();
        if from > to || flags & !(INVERT | ICASE) != 0 {
            return Err(Errno::EINVAL);
        }
        if !matches!(algo.as_str(), "bm" | "kmp" | "fsm") {
            return Err(Errno::ENOENT);
        }
        Ok(Strings { from, to, algo, pattern, flags })
    }

    /// The bytes lie within the range as a whole.
    #[doc(alias = "skb_find_text")]
    pub fn matches(&self, skb: &SkBuff) -> bool {
        let (from, to) = (usize::from(self.from), usize::from(self.to).min(skb.len()));
        let mut bytes = vec![0; to.saturating_sub(from)];
        let read = bytes.is_empty() || Packet::at_head(skb).copy(from, &mut bytes).is_some();
        let same = |w: &[u8]| {
            if self.flags & ICASE != 0 { w.eq_ignore_ascii_case(&self.pattern) } else { w == self.pattern }
        };
        (read && bytes.windows(self.pattern.len()).any(same)) != (self.flags & INVERT != 0)
    }

    fn is_text(&self) -> bool {
        self.pattern.iter().all(|b| (0x20..0x7f).contains(b))
    }

    fn text(&self) -> String {
        if !self.is_text() {
            return format!("\"|{}|\"", self.pattern.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }
        let mut o = String::from("\"");
        for b in &self.pattern {
            if matches!(b, b'"' | b'\\') {
                o.push('\\');
            }
            o.push(char::from(*b));
        }
        o + "\""
    }

    /// Text with bytes in hexadecimal between bars.
    fn hex(text: &str) -> Option<Vec<u8>> {
        let (mut out, mut inside) = (Vec::new(), false);
        let mut chars = text.bytes();
        while let Some(b) = chars.next() {
            match b {
                b'|' => inside = !inside,
                b' ' if inside => {}
                _ if inside => {
                    let pair = [b, chars.next()?];
                    out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
                }
                b'\\' => out.push(chars.next()?),
                b => out.push(b),
            }
        }
        (!inside).then_some(out)
    }
}

impl Extension for Strings {
    fn write(&self, _: Pf, w: &mut Writer) {
        w.u16(self.from);
        w.u16(self.to);
        w.text(&self.algo, ALGO_LEN);
        w.0.extend(&self.pattern);
        w.zeros(PATTERN_LEN - self.pattern.len());
        w.0.extend([self.pattern.len() as u8, self.flags]);
        w.align();
        w.zeros(8);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        let (invert, icase) = (self.flags & INVERT != 0, self.flags & ICASE != 0);
        if v.list {
            write!(o, " STRING match {} {} ALGO name {}", if invert { "!" } else { "" }, self.text(), self.algo)?;
        } else {
            let kind = if self.is_text() { "string" } else { "hex-string" };
            write!(o, "{} --{kind} {} --algo {}", bang(invert), self.text(), self.algo)?;
        }
        for (name, upper, value, usual) in [("from", "FROM", self.from, 0), ("to", "TO", self.to, u16::MAX)] {
            match (value == usual, v.list) {
                (true, _) => {}
                (false, true) => write!(o, " {upper} {value}")?,
                (false, false) => write!(o, " --{name} {value}")?,
            }
        }
        o.push_str(match (icase, v.list) {
            (false, _) => "",
            (true, true) => " ICASE",
            (true, false) => " --icase",
        });
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        match word {
            "--string" | "--hex-string" => {
                let text = w.value(word)?;
                let bytes = if word == "--string" { Some(text.as_bytes().to_vec()) } else { Strings::hex(text) };
                match bytes.filter(|b| b.len() <= PATTERN_LEN) {
                    Some(b) => self.pattern = b,
                    None => return bad("string", word, text),
                }
                self.flags |= if inv { INVERT } else { 0 };
            }
            "--algo" => {
                let text = w.value(word)?;
                if text.len() >= ALGO_LEN {
                    return usage(format!("string: option \"{word}\" value too long"));
                }
                self.algo = text.to_owned();
            }
            "--from" | "--to" => {
                let text = w.value(word)?;
                let Some(n) = number(text).and_then(|n| u16::try_from(n).ok()) else {
                    return bad("string", word, text);
                };
                *(if word == "--from" { &mut self.from } else { &mut self.to }) = n;
            }
            "--icase" => self.flags |= ICASE,
            _ => return Ok(Ext::Unknown),
        }
        Ok(Ext::Taken)
    }

    fn finish(&self) -> Done {
        match (self.pattern.is_empty(), self.algo.as_str()) {
            (true, _) => usage("STRING match: You must specify `--string' or `--hex-string'"),
            (_, "") => usage("STRING match: You must specify `--algo'"),
            (_, "bm" | "kmp" | "fsm") if self.from <= self.to => Ok(()),
            (_, "bm" | "kmp" | "fsm") => Err(Fail::Kernel(Errno::EINVAL)),
            _ => Err(Fail::Kernel(Errno::ENOENT)),
        }
    }
}
