//! Packets below the transport: fragments, IGMP, ARP, other protocols.
use super::cursor::{Cursor, Parsed};
use crate::ast::*;
use crate::lex::Tok;
use crate::names::nearest;
use crate::problem::Problem;
use belljar_wire::igmp::{self, IgmpHeader, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr};

pub fn ip(c: &mut Cursor<'_>) -> Parsed<Ipv4Addr> {
    match c.peek() {
        Some(Tok::Ip(IpAddr::V4(a))) => {
            c.at += 1;
            Ok(*a)
        }
        _ => Err(c.wrong("an IPv4 address")),
    }
}

/// `frag 0:1480 of udp (3000)`: so many bytes of the payload of the IP packet that would be whole; `mf` or `last` where
/// that does not say whether more come. Without `of` the bytes are zeros of protocol 17.
pub fn frag(c: &mut Cursor<'_>, of: impl FnOnce(&mut Cursor<'_>) -> Parsed<Body>) -> Parsed<FragSpec> {
    let start: u32 = c.int("the first byte")?;
    c.want(":")?;
    let end: u32 = c.int("the byte after the last")?;
    if end < start || end - start > 65_535 || start > 65_535 || !start.is_multiple_of(8) {
        return Err(Problem::new(c.last(), "this is no fragment: it begins at a multiple of 8 and ends later"));
    }
    let mut spec = FragSpec { start, end, mf: None, of: None };
    if c.eat_word("of") {
        spec.of = Some(Box::new(of(c)?));
    }
    if c.eat_word("mf") {
        spec.mf = Some(true);
    } else if c.eat_word("last") {
        spec.mf = Some(false);
    }
    if spec.of.is_none() && spec.mf.is_none() {
        return Err(c.wrong("`of` and a packet, `mf` or `last`"));
    }
    Ok(spec)
}

/// `arp request 192.168.0.1 from 192.168.0.7 at 7`, `arp reply 192.168.0.1 at 1 to 192.168.0.7`: who is asked for or told
/// of, and the other side. A hardware address is the last byte of 02:00:00:00:00:xx.
pub fn arp(c: &mut Cursor<'_>) -> Parsed<ArpSpec> {
    let request = c.eat_word("request");
    if !request && !c.eat_word("reply") {
        return Err(c.wrong("`request` or `reply`"));
    }
    let first = ip(c)?;
    let mut mac = None;
    let mut other = Ipv4Addr::UNSPECIFIED;
    let mut link = None;
    loop {
        if c.eat_word("at") {
            mac = Some(c.int("the last byte of a hardware address")?);
        } else if c.eat_word("from") || c.eat_word("to") {
            other = ip(c)?;
        } else if c.eat_word("broadcast") {
            link = Some(true);
        } else if c.eat_word("unicast") {
            link = Some(false);
        } else {
            break;
        }
    }
    let (sender, target) = if request { (other, first) } else { (first, other) };
    Ok(ArpSpec { request, sender, target, mac, broadcast: link })
}

const RECORDS: &[(&str, RecordType)] = &[
    ("is_in", RecordType::ModeIsInclude),
    ("is_ex", RecordType::ModeIsExclude),
    ("to_in", RecordType::ChangeToInclude),
    ("to_ex", RecordType::ChangeToExclude),
    ("allow", RecordType::AllowNewSources),
    ("block", RecordType::BlockOldSources),
];

/// `igmp v3 query 239.1.1.1 max 10 {192.0.2.1}`, `igmp v2 report 239.1.1.1`, `igmp v2 leave 239.1.1.1`,
/// `igmp v3 report to_ex 239.1.1.1 {}`: as the bytes that it is.
pub fn igmp(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let (version, span) = c.word("v1, v2 or v3")?;
    let version = match version {
        "v1" => 1,
        "v2" => 2,
        "v3" => 3,
        _ => return Err(Problem::new(span, "IGMP has the versions v1, v2 and v3")),
    };
    let (what, span) = c.word("query, report or leave")?;
    let simple = |kind, code, group| IgmpHeader { kind, code, group }.bytes();
    Ok(match (what, version) {
        ("query", _) => query(c, version)?,
        ("report", 1) => simple(igmp::IGMP_HOST_MEMBERSHIP_REPORT, 0, ip(c)?),
        ("report", 2) => simple(igmp::IGMPV2_HOST_MEMBERSHIP_REPORT, 0, ip(c)?),
        ("report", _) => report(c)?,
        ("leave", 2) => simple(igmp::IGMP_HOST_LEAVE_MESSAGE, 0, ip(c)?),
        _ => return Err(Problem::new(span, "this version of IGMP has no such message")),
    })
}

fn sources(c: &mut Cursor<'_>) -> Parsed<Vec<Ipv4Addr>> {
    let mut all = Vec::new();
    if c.eat("{") {
        while !c.eat("}") {
            all.push(ip(c)?);
            c.eat(",");
        }
    }
    Ok(all)
}

fn query(c: &mut Cursor<'_>, version: u8) -> Parsed<Vec<u8>> {
    let group = if matches!(c.peek(), Some(Tok::Ip(_))) { ip(c)? } else { Ipv4Addr::UNSPECIFIED };
    let code: u8 = if c.eat_word("max") { c.int("tenths of a second")? } else { 100 };
    let code = if version == 1 { 0 } else { code };
    let mut b = IgmpHeader { kind: igmp::IGMP_HOST_MEMBERSHIP_QUERY, code, group }.bytes();
    if version == 3 {
        let sources = sources(c)?;
        b.extend([2, 125]);
        b.extend((sources.len() as u16).to_be_bytes());
        sources.iter().for_each(|s| b.extend(s.octets()));
        b[2..4].fill(0);
        let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&b, 0));
        b[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(b)
}

/// What a report says of a group; the numbers are the same in MLD.
pub fn record(c: &mut Cursor<'_>) -> Parsed<RecordType> {
    let (name, span) = c.word("a record: to_ex, allow …")?;
    RECORDS.iter().find(|r| r.0 == name).map(|r| r.1).ok_or_else(|| {
        let near = nearest(name, RECORDS.iter().map(|r| r.0));
        Problem::new(span, format!("there is no record `{name}`")).near(near)
    })
}

pub fn record_name(kind: u8) -> &'static str {
    RECORDS.iter().find(|r| r.1 as u8 == kind).map_or("?", |r| r.0)
}

fn report(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let mut records = Vec::new();
    loop {
        let kind = record(c)?;
        let group = ip(c)?;
        records.push(Record { kind, group, sources: sources(c)? });
        if !c.eat(",") {
            return Ok(igmp::report(&records));
        }
    }
}

/// As a script writes it.
pub fn show_igmp(b: &[u8]) -> String {
    let Ok(h) = IgmpHeader::parse(b) else { return "igmp (short)".into() };
    let list = |s: &[Ipv4Addr]| s.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(",");
    match h.kind {
        igmp::IGMP_HOST_MEMBERSHIP_QUERY => format!("igmp query {} max {}", h.group, h.code),
        igmp::IGMP_HOST_MEMBERSHIP_REPORT => format!("igmp v1 report {}", h.group),
        igmp::IGMPV2_HOST_MEMBERSHIP_REPORT => format!("igmp v2 report {}", h.group),
        igmp::IGMP_HOST_LEAVE_MESSAGE => format!("igmp v2 leave {}", h.group),
        igmp::IGMPV3_HOST_MEMBERSHIP_REPORT => {
            let name = |k| RECORDS.iter().find(|r| r.1 == k).map_or("?", |r| r.0);
            let one = |r: &Record| format!("{} {} {{{}}}", name(r.kind), r.group, list(&r.sources));
            let all = igmp::parse_report(b).unwrap_or_default();
            format!("igmp v3 report {}", all.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        k => format!("igmp type {k:#x}"),
    }
}
