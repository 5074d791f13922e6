//! Values as `iptables` reads and writes them: addresses, ports, protocols, numbers.
use super::super::Pf;
use super::super::packet::{addr, bits};
use super::super::rules::*;
use super::{Done, Fail, Names, usage};
use core::net::{IpAddr, Ipv4Addr};

/// Protocols that have a name without asking the machine.
const PROTOCOLS: [(&str, u16); 16] = [
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("icmp", 1),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("esp", 50),
    ("ah", 51),
    ("sctp", 132),
    ("ipv6-mh", 135),
    ("mh", 135),
    ("gre", 47),
    ("igmp", 2),
    ("dccp", 33),
    ("ipv6", 41),
    ("all", 0),
];

pub fn protocol(word: &str) -> Done<u16> {
    let word = word.to_ascii_lowercase();
    if let Some(n) = number(&word).filter(|n| *n < 256) {
        return Ok(n as u16);
    }
    let named = PROTOCOLS.iter().find(|p| p.0 == word).map(|p| p.1);
    named.map_or_else(|| usage(format!("unknown protocol \"{word}\" specified")), Ok)
}

/// The name that a protocol has in what is printed.
pub fn protocol_name(proto: u16) -> Option<&'static str> {
    PROTOCOLS.iter().find(|p| p.1 == proto && p.0 != "icmpv6").map(|p| p.0)
}

/// Decimal, hexadecimal with 0x, octal with 0.
pub fn number(word: &str) -> Option<u64> {
    if let Some(h) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return u64::from_str_radix(h, 16).ok();
    }
    if word.len() > 1 && word.starts_with('0') {
        return u64::from_str_radix(&word[1..], 8).ok();
    }
    word.parse().ok().filter(|_| !word.starts_with('+'))
}

/// `VALUE[/MASK]` of 32 bits each.
pub fn masked_number(word: &str, what: &str) -> Done<(u32, Option<u32>)> {
    let bad = || Fail::Usage(format!("{what}: Bad value for \"--{}\" option: \"{word}\"", "mark"));
    let (v, m) = word.split_once('/').map_or((word, None), |(v, m)| (v, Some(m)));
    let one = |w: &str| number(w).and_then(|n| u32::try_from(n).ok()).ok_or_else(bad);
    Ok((one(v)?, m.map(one).transpose()?))
}

pub fn full(pf: Pf) -> u128 {
    if pf == Pf::V4 { u32::MAX.into() } else { u128::MAX }
}

fn width(pf: Pf) -> u32 {
    if pf == Pf::V4 { 32 } else { 128 }
}

fn prefix_mask(pf: Pf, len: u32) -> u128 {
    let w = width(pf);
    if len == 0 { 0 } else { full(pf) & (full(pf) << (w - len.min(w))) }
}

/// `Some` when the mask is that of a prefix.
fn prefix_len(pf: Pf, mask: u128) -> Option<u32> {
    let len = mask.count_ones();
    (prefix_mask(pf, len) == mask).then_some(len)
}

pub fn address(pf: Pf, word: &str) -> Option<u128> {
    match pf {
        Pf::V4 => {
            // Fewer than four numbers are the first of them.
            let mut parts: Vec<u8> = Vec::new();
            for p in word.split('.') {
                parts.push(p.parse().ok().filter(|_| !p.starts_with('+'))?);
            }
            if parts.is_empty() || parts.len() > 4 {
                return None;
            }
            parts.resize(4, 0);
            let o = [parts[0], parts[1], parts[2], parts[3]];
            Some(bits(IpAddr::V4(Ipv4Addr::from(o))))
        }
        Pf::V6 => word.parse().ok().map(|a: core::net::Ipv6Addr| a.to_bits()),
    }
}

/// `ADDRESS[/MASK]`, a list of them separated by commas.
pub fn networks(pf: Pf, words: &str) -> Done<Vec<Masked>> {
    words.split(',').map(|w| network(pf, w.trim())).collect()
}

pub fn network(pf: Pf, word: &str) -> Done<Masked> {
    let (a, m) = word.split_once('/').map_or((word, None), |(a, m)| (a, Some(m)));
    let Some(a) = address(pf, a) else { return usage(format!("host/network `{a}' not found")) };
    let mask = match m {
        None => full(pf),
        Some(m) => match number(m).filter(|n| *n <= u64::from(width(pf))) {
            Some(len) => prefix_mask(pf, len as u32),
            None if pf == Pf::V4 => match m.parse::<Ipv4Addr>() {
                Ok(mask) => mask.to_bits().into(),
                Err(_) => return usage(format!("invalid mask `{m}' specified")),
            },
            None => match address(pf, m) {
                Some(mask) => mask,
                None => return usage(format!("invalid mask `{m}' specified")),
            },
        },
    };
    Ok(Masked { addr: a & mask, mask })
}

/// As a rule has it: always with its mask.
pub fn network_text(pf: Pf, m: &Masked) -> String {
    let a = addr(pf, m.addr);
    match prefix_len(pf, m.mask) {
        Some(len) => format!("{a}/{len}"),
        None => format!("{a}/{}", addr(pf, m.mask)),
    }
}

/// As a list has it: no mask for one address.
pub fn network_short(pf: Pf, m: &Masked) -> String {
    if m.mask == full(pf) { addr(pf, m.addr).to_string() } else { network_text(pf, m) }
}

pub fn port(word: &str, proto: &str, names: &dyn Names) -> Done<u16> {
    let found = match number(word) {
        Some(n) => u16::try_from(n).ok(),
        None => names.port(word, proto),
    };
    found.map_or_else(|| usage(format!("invalid port/service `{word}' specified")), Ok)
}

/// `PORT`, `LOW:HIGH`, `:HIGH`, `LOW:`.
pub fn ports(word: &str, proto: &str, names: &dyn Names) -> Done<Ports> {
    let Some((lo, hi)) = word.split_once(':') else {
        let p = port(word, proto, names)?;
        return Ok(Ports { lo: p, hi: p });
    };
    let lo = if lo.is_empty() { 0 } else { port(lo, proto, names)? };
    let hi = if hi.is_empty() { u16::MAX } else { port(hi, proto, names)? };
    if lo > hi {
        return usage("invalid portrange (min > max)");
    }
    Ok(Ports { lo, hi })
}

/// `LOW-HIGH` of ports.
pub fn port_range(word: &str) -> Option<(u16, u16)> {
    let (lo, hi) = word.split_once('-').unwrap_or((word, word));
    let one = |w: &str| number(w).and_then(|n| u16::try_from(n).ok());
    one(lo).zip(one(hi))
}

/// A word as `iptables-save` writes it: in quotes where a shell needs them.
pub fn quoted(s: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !s.is_empty() && s.chars().all(plain) {
        return s.to_owned();
    }
    let mut o = String::from("\"");
    for c in s.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            o.push('\\');
        }
        o.push(c);
    }
    o + "\""
}

/// A line's words as a shell takes them apart: quotes and backslashes, nothing else.
pub fn split_words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut any, mut quote, mut escaped) = (Vec::new(), String::new(), false, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quote => escaped = true,
            '"' => (quote, any) = (!quote, true),
            c if c.is_whitespace() && !quote => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}
