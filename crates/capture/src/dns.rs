//! DNS messages as tcpdump prints them in one line: the question, or counts and answers. Names and addresses only;
//! other records show their type.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt::Write;

/// Labels of a name; compression loops end here.
const MAX_LABELS: usize = 128;
/// Answers are left out behind so many bytes.
const MAX_LINE: usize = 2048;

fn word(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..)?.first_chunk::<2>().map(|w| u16::from_be_bytes(*w))
}

fn type_name(t: u16) -> String {
    match t {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        41 => "OPT",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        t => return format!("Type{t}"),
    }
    .to_string()
}

/// Writes the name at `at` and returns where it ends in the message.
fn name(out: &mut String, b: &[u8], mut at: usize) -> Option<usize> {
    let mut end = None;
    for n in 0..MAX_LABELS {
        let len = *b.get(at)? as usize;
        match len >> 6 {
            0 if len == 0 => {
                if n == 0 {
                    out.push('.');
                }
                return Some(end.unwrap_or(at + 1));
            }
            0 => {
                let label = b.get(at + 1..at + 1 + len)?;
                label.iter().for_each(|c| out.push(if c.is_ascii_graphic() { *c as char } else { '?' }));
                out.push('.');
                at += 1 + len;
            }
            3 => {
                end = end.or(Some(at + 2));
                at = (word(b, at)? & 0x3fff) as usize;
            }
            _ => return None,
        }
    }
    None
}

/// The text behind the addresses; `None` when the message is cut or broken.
pub fn line(b: &[u8]) -> Option<String> {
    let mut out = String::new();
    let (id, flags) = (word(b, 0)?, word(b, 2)?);
    let (qd, an, ns, ar) = (word(b, 4)?, word(b, 6)?, word(b, 8)?, word(b, 10)?);
    let op = ["", " inv_q", " stat", " op3", " notify", " update"].get((flags >> 11 & 15) as usize).unwrap_or(&" op?");
    let _ = write!(out, "{id}{}", op);
    let mark = |out: &mut String, bit: u16, s: &str| out.push_str(if flags & bit != 0 { s } else { "" });
    let mut at = 12;
    if flags & 0x8000 != 0 {
        let names = ["", " FormErr", " ServFail", " NXDomain", " NotImp", " Refused"];
        out.push_str(names.get((flags & 15) as usize).unwrap_or(&" Resp?"));
        mark(&mut out, 0x0400, "*");
        out.push_str(if flags & 0x0080 == 0 { "-" } else { "" });
        mark(&mut out, 0x0200, "|");
        mark(&mut out, 0x0020, "$");
        if qd != 1 {
            let _ = write!(out, " [{qd}q]");
        }
        let _ = write!(out, " {an}/{ns}/{ar}");
        for _ in 0..qd.min(16) {
            at = name(&mut String::new(), b, at)? + 4;
        }
        for i in 0..an {
            // Compressed names can blow a small message up.
            if out.len() > MAX_LINE {
                out.push_str(" ...");
                break;
            }
            out.push_str(if i > 0 { "," } else { "" });
            at = answer(&mut out, b, at)?;
        }
    } else {
        mark(&mut out, 0x0100, "+");
        mark(&mut out, 0x0010, "%");
        if qd != 1 {
            let _ = write!(out, " [{qd}q]");
        }
        for (n, what) in [(an, "a"), (ns, "n"), (ar, "au")].into_iter().filter(|(n, _)| *n > 0) {
            let _ = write!(out, " [{n}{what}]");
        }
        if qd > 0 {
            let mut asked = String::new();
            at = name(&mut asked, b, at)?;
            let _ = write!(out, " {}? {asked}", type_name(word(b, at)?));
        }
    }
    Some(out)
}

fn answer(out: &mut String, b: &[u8], at: usize) -> Option<usize> {
    let at = name(&mut String::new(), b, at)?;
    let (kind, len) = (word(b, at)?, word(b, at + 8)? as usize);
    let (data, end) = (at + 10, at + 10 + len);
    let bytes = b.get(data..end)?;
    let _ = write!(out, " {}", type_name(kind));
    match kind {
        1 => _ = write!(out, " {}", Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        28 => _ = write!(out, " {}", Ipv6Addr::from(*bytes.first_chunk::<16>()?)),
        2 | 5 | 12 => {
            out.push(' ');
            name(out, b, data)?;
        }
        _ => {}
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::dns_messages as messages;

    #[test]
    fn questions_and_answers() {
        let got: Vec<String> = messages().iter().map(|m| line(m).unwrap()).collect();
        assert_eq!(
            got,
            [
                "4660+ A? example.com.",
                "4661+ [1au] A? example.com.",
                "4660 1/0/0 A 93.184.216.34",
                "4660 2/0/0 CNAME www.example.com., A 93.184.216.34",
                "4660*- 1/0/0 AAAA 2001:db8::1",
                "4662 NXDomain 0/0/0",
                "4662 Refused 0/0/0",
                "4663 ServFail 0/0/1",
            ]
        );
    }

    #[test]
    fn broken_messages_give_nothing() {
        for m in messages() {
            (0..m.len()).for_each(|n| drop(line(&m[..n])));
            (0..m.len()).for_each(|at| drop(line(&[&m[..at], &[0xc0], &m[at + 1..]].concat())));
        }
        // A name that points at itself.
        assert_eq!(line(&[&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat()), None);
    }
}
