//! Neighbour discovery (RFC 4861) and MLD (RFC 3810, RFC 2710) as the bytes of their messages, without the checksum; and
//! those bytes as a script writes them.
use super::cursor::{Cursor, Parsed};
use super::raw;
use crate::ast::Body;
use crate::lex::Tok;
use crate::names::nearest;
use crate::problem::Problem;
use belljar_wire::Mac;
use belljar_wire::icmpv6::*;
use std::fmt::Write;
use std::net::Ipv6Addr;

pub fn ip6(c: &mut Cursor<'_>) -> Parsed<Ipv6Addr> {
    match c.peek() {
        Some(Tok::Ip(std::net::IpAddr::V6(a))) => {
            c.at += 1;
            Ok(*a)
        }
        _ => Err(c.wrong("an IPv6 address")),
    }
}

fn mac_option(kind: u8, last: u8) -> [u8; 8] {
    nd_mac_option(kind, Mac([2, 0, 0, 0, 0, last]))
}

/// `nd ns fd00::7 at 1`, `nd na fd00::7 at 7 solicited override`, `nd rs`, `nd ra life 1800 prefix 2001:db8:1::/64 auto`,
/// `nd redirect fe80::9 to 2001:db8::1`.
pub fn nd(c: &mut Cursor<'_>) -> Parsed<Body> {
    let (what, span) = c.word("ns, na, rs, ra or redirect")?;
    Ok(Body::Nd(match what {
        "ns" => ns(c)?,
        "na" => na(c)?,
        "rs" => {
            let mut b = vec![NDISC_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            if c.eat_word("at") {
                b.extend(mac_option(ND_OPT_SOURCE_LL_ADDR, c.int("the last byte of a hardware address")?));
            }
            b
        }
        "ra" => ra(c)?,
        "redirect" => {
            let target = ip6(c)?;
            if !c.eat_word("to") {
                return Err(c.wrong("`to` and a destination"));
            }
            [&[NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..], &ip6(c)?.octets()].concat()
        }
        _ => {
            let near = nearest(what, ["ns", "na", "rs", "ra", "redirect"]);
            return Err(Problem::new(span, format!("discovery has no message `{what}`")).near(near));
        }
    }))
}

fn ns(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let mut b = vec![NDISC_NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    b.extend(ip6(c)?.octets());
    if c.eat_word("at") {
        b.extend(mac_option(ND_OPT_SOURCE_LL_ADDR, c.int("the last byte of a hardware address")?));
    }
    if c.eat_word("nonce") {
        b.extend([ND_OPT_NONCE, 1, 0, 0, 0, 0, 0, 0]);
    }
    Ok(b)
}

fn na(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let target = ip6(c)?;
    let (mut flags, mut option) = (0, None);
    loop {
        if c.eat_word("at") {
            option = Some(mac_option(ND_OPT_TARGET_LL_ADDR, c.int("the last byte of a hardware address")?));
        } else if c.eat_word("router") {
            flags |= NA_ROUTER;
        } else if c.eat_word("solicited") {
            flags |= NA_SOLICITED;
        } else if c.eat_word("override") {
            flags |= NA_OVERRIDE;
        } else {
            break;
        }
    }
    let mut b = vec![NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    b.extend(target.octets());
    b.extend(option.into_iter().flatten());
    Ok(b)
}

fn ra(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let (mut hops, mut flags, mut life, mut reachable, mut retrans) = (64u8, 0u8, 0u16, 0u32, 0u32);
    let mut options = Vec::new();
    loop {
        if c.eat_word("hops") {
            hops = c.int("a hop limit")?;
        } else if c.eat_word("managed") {
            flags |= 0x80;
        } else if c.eat_word("other") {
            flags |= 0x40;
        } else if c.eat_word("life") {
            life = c.int("seconds, up to 65535")?;
        } else if c.eat_word("reachable") {
            reachable = c.int("milliseconds")?;
        } else if c.eat_word("retrans") {
            retrans = c.int("milliseconds")?;
        } else if c.eat_word("at") {
            options.extend(mac_option(ND_OPT_SOURCE_LL_ADDR, c.int("the last byte of a hardware address")?));
        } else if c.eat_word("mtu") {
            options.extend([ND_OPT_MTU, 1, 0, 0]);
            options.extend(c.int::<u32>("an MTU")?.to_be_bytes());
        } else if c.eat_word("prefix") {
            prefix(c, &mut options)?;
        } else {
            break;
        }
    }
    let mut b = vec![NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, hops, flags];
    b.extend(life.to_be_bytes());
    b.extend(reachable.to_be_bytes());
    b.extend(retrans.to_be_bytes());
    b.extend(options);
    Ok(b)
}

/// `2001:db8:1::/64 valid 7200 preferred 3600 onlink auto`; without times for ever.
fn prefix(c: &mut Cursor<'_>, out: &mut Vec<u8>) -> Parsed<()> {
    let prefix = ip6(c)?;
    c.want("/")?;
    let len: u8 = c.int("the length of a prefix")?;
    let (mut flags, mut valid, mut preferred) = (0, u32::MAX, u32::MAX);
    loop {
        if c.eat_word("valid") {
            valid = c.int("seconds")?;
            preferred = preferred.min(valid);
        } else if c.eat_word("preferred") {
            preferred = c.int("seconds")?;
        } else if c.eat_word("onlink") {
            flags |= 0x80;
        } else if c.eat_word("auto") {
            flags |= 0x40;
        } else {
            break;
        }
    }
    out.extend([ND_OPT_PREFIX_INFO, 4, len, flags]);
    out.extend(valid.to_be_bytes());
    out.extend(preferred.to_be_bytes());
    out.extend([0; 4]);
    out.extend(prefix.octets());
    Ok(())
}

/// `mld query ff15::1 max 1000 {}`, `mld report to_ex ff15::1 {}, is_ex ff02::1 {}`; of the first version `mld v1 query`,
/// `mld v1 report ff15::1`, `mld v1 done ff15::1`.
pub fn mld(c: &mut Cursor<'_>) -> Parsed<Body> {
    let first = c.eat_word("v1");
    let (what, span) = c.word("query, report or done")?;
    let header = |kind: u8, max: u16| [[kind, 0, 0, 0], [(max >> 8) as u8, max as u8, 0, 0]].concat();
    Ok(Body::Nd(match (what, first) {
        ("query", _) => {
            let group = if matches!(c.peek(), Some(Tok::Ip(_))) { ip6(c)? } else { Ipv6Addr::UNSPECIFIED };
            let max = if c.eat_word("max") { c.int("milliseconds")? } else { 10_000 };
            let mut b = header(ICMPV6_MGM_QUERY, max);
            b.extend(group.octets());
            if !first {
                let sources = sources(c)?;
                b.extend([2, 125]);
                b.extend((sources.len() as u16).to_be_bytes());
                sources.iter().for_each(|s| b.extend(s.octets()));
            }
            b
        }
        ("report", true) => [header(ICMPV6_MGM_REPORT, 0), ip6(c)?.octets().to_vec()].concat(),
        ("done", _) => [header(ICMPV6_MGM_REDUCTION, 0), ip6(c)?.octets().to_vec()].concat(),
        ("report", false) => report(c)?,
        _ => return Err(Problem::new(span, "MLD has the messages query, report and done")),
    }))
}

fn report(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let (mut count, mut records) = (0u16, Vec::new());
    loop {
        let kind = raw::record(c)? as u8;
        let group = ip6(c)?;
        let sources = sources(c)?;
        records.extend([kind, 0]);
        records.extend((sources.len() as u16).to_be_bytes());
        records.extend(group.octets());
        sources.iter().for_each(|s| records.extend(s.octets()));
        count = count.saturating_add(1);
        if !c.eat(",") {
            break;
        }
    }
    Ok([&[ICMPV6_MLD2_REPORT, 0, 0, 0, 0, 0][..], &count.to_be_bytes(), &records].concat())
}

fn sources(c: &mut Cursor<'_>) -> Parsed<Vec<Ipv6Addr>> {
    let mut all = Vec::new();
    if c.eat("{") {
        while !c.eat("}") {
            all.push(ip6(c)?);
            c.eat(",");
        }
    }
    Ok(all)
}

/// An address at an offset.
pub fn addr_at(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    b.get(at..)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a))
}

fn word(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |w| u32::from_be_bytes(*w))
}

/// As a script writes it.
pub fn show(b: &[u8]) -> String {
    let target = |at| addr_at(b, at).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let (kind, flags) = (b.first().copied().unwrap_or(0), b.get(4).copied().unwrap_or(0));
    match kind {
        NDISC_NEIGHBOUR_SOLICITATION => format!("nd ns {}{}", target(8), options(b, 24)),
        NDISC_NEIGHBOUR_ADVERTISEMENT => {
            let mut s = format!("nd na {}{}", target(8), options(b, 24));
            let names = [(NA_ROUTER, " router"), (NA_SOLICITED, " solicited"), (NA_OVERRIDE, " override")];
            names.iter().filter(|n| flags & n.0 != 0).for_each(|n| s += n.1);
            s
        }
        NDISC_ROUTER_SOLICITATION => format!("nd rs{}", options(b, 8)),
        NDISC_ROUTER_ADVERTISEMENT => format!("nd ra hops {flags} life {}{}", word(b, 4) & 0xffff, options(b, 16)),
        NDISC_REDIRECT => format!("nd redirect {} to {}", target(8), target(24)),
        ICMPV6_MGM_QUERY => format!("mld query {} max {}", target(8), word(b, 4) >> 16),
        ICMPV6_MGM_REPORT => format!("mld v1 report {}", target(8)),
        ICMPV6_MGM_REDUCTION => format!("mld v1 done {}", target(8)),
        _ => show_report(b),
    }
}

fn options(b: &[u8], at: usize) -> String {
    let mut s = String::new();
    for (kind, body) in nd_options(b.get(at..).unwrap_or(&[])).flatten() {
        let _ = match kind {
            ND_OPT_SOURCE_LL_ADDR | ND_OPT_TARGET_LL_ADDR => write!(s, " at {}", body.get(5).unwrap_or(&0)),
            ND_OPT_MTU => write!(s, " mtu {}", word(body, 2)),
            ND_OPT_PREFIX_INFO => {
                let prefix = addr_at(body, 14).unwrap_or(Ipv6Addr::UNSPECIFIED);
                write!(s, " prefix {prefix}/{}", body.first().unwrap_or(&0))
            }
            ND_OPT_NONCE => write!(s, " nonce"),
            kind => write!(s, " option {kind}"),
        };
    }
    s
}

fn show_report(b: &[u8]) -> String {
    let (mut s, mut at) = (String::from("mld report"), 8);
    while let (Some(kind), Some(group)) = (b.get(at), addr_at(b, at + 4)) {
        let n = (word(b, at) & 0xffff) as usize;
        let list: Vec<String> = (0..n).filter_map(|i| addr_at(b, at + 20 + 16 * i)).map(|a| a.to_string()).collect();
        let comma = if at == 8 { "" } else { "," };
        let _ = write!(s, "{comma} {} {group} {{{}}}", raw::record_name(*kind), list.join(","));
        at += 20 + 16 * n;
    }
    s
}

/// A message of those that this module knows.
pub fn is_nd(kind: u8) -> bool {
    matches!(kind, ICMPV6_MGM_QUERY..=NDISC_REDIRECT | ICMPV6_MLD2_REPORT)
}

/// Of group membership, not of neighbours.
pub fn is_mld(kind: u8) -> bool {
    matches!(kind, ICMPV6_MGM_QUERY..=ICMPV6_MGM_REDUCTION | ICMPV6_MLD2_REPORT)
}
