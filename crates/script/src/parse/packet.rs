//! Packet lines: `< S 0:0(0) win 1000 <mss 1460>`, `> [ect0] . 1:1(0) ack 1`, `< udp (10)`, `> icmp unreachable …`.
use super::cursor::{Cursor, Parsed};
use super::{icmp, nd, raw};
use crate::ast::*;
use crate::lex::Tok;
use crate::names::nearest;
use crate::packet::{FLAGS, Opt, emit_options};
use crate::problem::Problem;
use belljar_wire::ipv6::{NEXTHDR_DEST, NEXTHDR_HOP, NEXTHDR_ROUTING};

/// Payload of an IPv4 packet without options.
const MAX_PAYLOAD: usize = 65_495;
/// Bytes of one line: a super-segment or several segments that it stands for.
const MAX_LINE: u32 = 16_000_000;

pub fn line(c: &mut Cursor<'_>) -> Parsed<What> {
    let start = c.span();
    let inject = c.is("<");
    c.at += 1;
    if !inject && c.eat_word("none") {
        return Ok(What::Silence);
    }
    let mut packet = Packet {
        span: start,
        dev: 0,
        ends: None,
        ip: IpSpec::default(),
        body: Body::Udp(Payload { len: 0, data: None }),
    };
    if c.eat_word("eth1") {
        packet.dev = 1;
        c.eat(":");
    }
    let about = about_or_ip(c, &mut packet.ip)?;
    packet.ends = ends(c)?;
    if packet.ends.is_some() && c.is("[") {
        ip_info(c, &mut packet.ip)?;
    }
    packet.body = body(c, &mut packet.ends, &mut packet.ip, about)?;
    packet.span = start.to(c.last());
    check_inject(&packet, inject)?;
    Ok(if inject { What::Inject(packet) } else { What::Expect(packet) })
}

fn body(c: &mut Cursor<'_>, named: &mut Option<(End, End)>, ip: &mut IpSpec, about: Option<About>) -> Parsed<Body> {
    Ok(if c.eat_word("udp") {
        if named.is_none() {
            *named = ends(c)?;
        }
        Body::Udp(payload(c)?)
    } else if c.is_word("icmp") || c.is_word("icmp6") {
        // In a script with both families the addresses say which one is meant.
        let v4 = named.is_some_and(|(a, b)| a.addr.or(b.addr).is_some_and(|a| a.is_ipv4()));
        let v6 = (c.v6 && !v4) || c.is_word("icmp6");
        c.at += 1;
        let mut spec = icmp_spec(c, v6, about)?;
        if c.is("[") {
            spec.about = about_or_ip(c, ip)?;
        }
        Body::Icmp(spec)
    } else if c.eat_word("igmp") {
        Body::Igmp(raw::igmp(c)?)
    } else if c.eat_word("nd") {
        nd::nd(c)?
    } else if c.eat_word("mld") {
        nd::mld(c)?
    } else if c.eat_word("arp") {
        Body::Arp(raw::arp(c)?)
    } else if c.eat_word("frag") {
        Body::Frag(raw::frag(c, |c| body(c, named, ip, None))?)
    } else if c.eat_word("proto") {
        let proto = c.int("the number of a protocol")?;
        Body::Proto(proto, payload(c)?)
    } else {
        Body::Tcp(tcp(c)?)
    })
}

/// What can be expected of the kernel cannot always be sent to it.
fn check_inject(p: &Packet, inject: bool) -> Parsed<()> {
    let (Body::Tcp(t), true) = (&p.body, inject) else { return Ok(()) };
    let stars = |o: &Opt| matches!(o, Opt::Ts { val, ecr } if val.is_none() || ecr.is_none());
    match &t.options {
        Options::Any => return Err(Problem::new(p.span, "`<...>` is for packets that the kernel sends")),
        Options::List(l) if l.iter().any(stars) => {
            return Err(Problem::new(p.span, "`*` is for packets that the kernel sends"));
        }
        Options::List(_) => {}
    }
    if t.len as usize > MAX_PAYLOAD {
        return Err(Problem::new(p.span, format!("a packet holds at most {MAX_PAYLOAD} bytes")));
    }
    Ok(())
}

/// `[1:1001(1000)]` and `[udp (10)]` say what an ICMP message is about; anything else in brackets is of the IP header.
fn about_or_ip(c: &mut Cursor<'_>, ip: &mut IpSpec) -> Parsed<Option<About>> {
    if !c.is("[") {
        return Ok(None);
    }
    match c.peek_at(1) {
        Some(Tok::Ip(_)) => Ok(None),
        Some(Tok::Num(_)) => {
            c.at += 1;
            let (seq, _, _) = range(c)?;
            c.want("]")?;
            Ok(Some(About::Tcp { seq }))
        }
        Some(Tok::Word(w)) if w == "udp" => {
            c.at += 2;
            let len = payload(c)?.len;
            c.want("]")?;
            Ok(Some(About::Udp { len }))
        }
        _ => ip_info(c, ip).map(|()| None),
    }
}

fn ip_info(c: &mut Cursor<'_>, ip: &mut IpSpec) -> Parsed<()> {
    c.want("[")?;
    while !c.eat("]") {
        let (word, span) = c.word("ect0, ect1, ce, noecn, tos, ttl, df …")?;
        match word {
            "noecn" => ip.ecn = Some(Ecn::Bits(0)),
            "ect1" => ip.ecn = Some(Ecn::Bits(1)),
            "ect0" => ip.ecn = Some(Ecn::Bits(2)),
            "ce" => ip.ecn = Some(Ecn::Bits(3)),
            "ect01" => ip.ecn = Some(Ecn::AnyEct),
            "tos" | "tclass" => ip.tos = Some(c.int("a byte")?),
            "ttl" | "hlim" => ip.ttl = Some(c.int("a byte")?),
            "df" => ip.df = Some(true),
            "nodf" => ip.df = Some(false),
            "badsum" => ip.badsum = true,
            "id" => ip.id = Some(c.int("an identification")?),
            "opt" => ip.options = Some(cookie(c)?),
            "bcast" => ip.link_broadcast = true,
            "flow" => ip.flow = Some(c.int("a flow label")?),
            "hop" => ip.ext.push(ext(NEXTHDR_HOP, c)?),
            "dst" => ip.ext.push(ext(NEXTHDR_DEST, c)?),
            "routing" => ip.ext.push(ext(NEXTHDR_ROUTING, c)?),
            _ => {
                let all = [
                    "noecn", "ect0", "ect1", "ect01", "ce", "tos", "ttl", "df", "nodf", "badsum", "id", "opt", "bcast",
                    "hlim", "tclass", "flow", "hop", "dst", "routing",
                ];
                return Err(
                    Problem::new(span, format!("`{word}` says nothing about an IP header")).near(nearest(word, all))
                );
            }
        }
        if !c.eat(",") && !c.is("]") {
            return Err(c.wrong("`,` or `]`"));
        }
    }
    Ok(())
}

/// `40001 > 8080` or `192.0.2.7:40001 > 192.168.0.1:8080`.
fn ends(c: &mut Cursor<'_>) -> Parsed<Option<(End, End)>> {
    let here = matches!(c.peek(), Some(Tok::Ip(_)))
        || matches!((c.peek(), c.peek_at(1)), (Some(Tok::Sym("[")), Some(Tok::Ip(_))))
        || matches!((c.peek(), c.peek_at(1)), (Some(Tok::Num(_)), Some(Tok::Sym(">"))));
    if !here {
        return Ok(None);
    }
    let src = end(c)?;
    c.want(">")?;
    let dst = end(c)?;
    c.eat(":");
    Ok(Some((src, dst)))
}

fn end(c: &mut Cursor<'_>) -> Parsed<End> {
    let mut addr = None;
    if let (Some(Tok::Sym("[")), Some(Tok::Ip(a))) = (c.peek(), c.peek_at(1)) {
        c.at += 2;
        c.want("]")?;
        c.want(":")?;
        addr = Some(*a);
    } else if let Some(Tok::Ip(a)) = c.peek() {
        c.at += 1;
        addr = Some(*a);
        // Not every protocol has ports.
        if !(c.is(":") && matches!(c.peek_at(1), Some(Tok::Num(_)))) {
            return Ok(End { addr, port: 0 });
        }
        c.at += 1;
    }
    Ok(End { addr, port: c.int("a port")? })
}

/// `(10)`, a string, or `hex 3a00`: bytes.
fn payload(c: &mut Cursor<'_>) -> Parsed<Payload> {
    if let Some(Tok::Str(s)) = c.peek() {
        c.at += 1;
        return Ok(Payload { len: s.len(), data: Some(s.clone()) });
    }
    if c.eat_word("hex") {
        let data = hex(c, MAX_HEX)?;
        return Ok(Payload { len: data.len(), data: Some(data) });
    }
    c.want("(")?;
    let len: u16 = c.int("a number of bytes")?;
    c.want(")")?;
    let mut data = None;
    if let Some(Tok::Str(s)) = c.peek() {
        c.at += 1;
        data = Some(s.clone());
    }
    Ok(Payload { len: len.into(), data })
}

fn icmp_spec(c: &mut Cursor<'_>, v6: bool, about: Option<About>) -> Parsed<IcmpSpec> {
    let (name, span) = c.word("a type of message (unreachable, time_exceeded …)")?;
    let kind = icmp::kind(v6, name).ok_or_else(|| {
        Problem::new(span, format!("there is no message `{name}`")).near(nearest(name, icmp::kind_names(v6)))
    })?;
    let codes = icmp::codes(v6, kind);
    let mut code = 0;
    if !codes.is_empty() {
        let (name, span) = c.word("a code (port_unreachable, frag_needed …)")?;
        let found = codes.iter().find(|k| k.0 == name);
        code = found
            .ok_or_else(|| {
                Problem::new(span, format!("there is no code `{name}`")).near(nearest(name, codes.iter().map(|k| k.0)))
            })?
            .1;
    }
    let mut spec =
        IcmpSpec { v6, kind, code, mtu: None, echo: None, gateway: None, pointer: None, payload: None, about };
    loop {
        if c.eat_word("mtu") {
            spec.mtu = Some(c.int("an MTU")?);
        } else if c.eat_word("id") {
            let id = c.int("an identifier")?;
            if !c.eat_word("seq") {
                return Err(c.wrong("`seq` and a number"));
            }
            spec.echo = Some((id, c.int("a number")?));
        } else if c.eat_word("gw") {
            spec.gateway = Some(raw::ip(c)?);
        } else if c.eat_word("at") {
            spec.pointer = Some(c.int("an offset")?);
        } else if c.is("(") && icmp::is_echo(v6, kind) {
            spec.payload = Some(payload(c)?);
        } else {
            return Ok(spec);
        }
    }
}

fn tcp(c: &mut Cursor<'_>) -> Parsed<TcpSpec> {
    let flags = flags(c)?;
    let (seq, len, data) = range(c)?;
    let mut t =
        TcpSpec { flags, seq, len, data, ack: None, window: None, urg: None, options: Options::List(Vec::new()) };
    loop {
        if c.eat_word("ack") {
            t.ack = Some(c.int("an acknowledgement number")?);
        } else if c.eat_word("win") || c.eat_word("window") {
            t.window = Some(c.int("a window of 16 bits")?);
        } else if c.eat_word("urg") {
            t.urg = Some(c.int("an urgent pointer")?);
        } else if c.is("<") {
            t.options = options(c)?;
            break;
        } else {
            break;
        }
    }
    if flags & 0x10 != 0 && t.ack.is_none() {
        return Err(c.wrong("`ack N`: the ACK flag is set, a number"));
    }
    if flags & 0x10 == 0 && t.ack.is_some() {
        return Err(Problem::new(c.last(), "`ack` without the ACK flag").hint("the flag is written `.`: `S.`, `P.`"));
    }
    Ok(t)
}

/// `S`, `S.`, `P.`, `SEW`, `.`; `-` is none.
fn flags(c: &mut Cursor<'_>) -> Parsed<u16> {
    if c.eat("-") {
        return Ok(0);
    }
    let mut flags = 0;
    let start = c.span();
    if let Some(Tok::Word(w)) = c.peek() {
        for letter in w.chars() {
            let Some((_, bit)) = FLAGS.iter().find(|f| f.0 == letter) else {
                return Err(Problem::new(
                    start,
                    format!("`{w}`: `{letter}` is no TCP flag, and no other protocol has this name"),
                )
                .hint("flags are F S R P U E W A and `.` for ACK; other packets begin with `udp` or `icmp`"));
            };
            flags |= bit;
        }
        c.at += 1;
        if c.is(".") && c.adjoins() {
            c.at += 1;
            flags |= 0x10;
        }
        return Ok(flags);
    }
    if c.eat(".") { Ok(0x10) } else { Err(c.wrong("the flags of a segment, `udp` or `icmp`")) }
}

/// `1:1001(1000)`, with a string behind it perhaps: its bytes.
fn range(c: &mut Cursor<'_>) -> Parsed<(u32, u32, Option<Vec<u8>>)> {
    let start = c.span();
    let seq: u32 = c.int("a sequence number")?;
    c.want(":")?;
    let end: u32 = c.int("the sequence number after the data")?;
    c.want("(")?;
    let len: u32 = c.int("a number of bytes")?;
    c.want(")")?;
    if seq.wrapping_add(len) != end || len > MAX_LINE {
        let right = seq.wrapping_add(len);
        return Err(Problem::new(start.to(c.last()), "the numbers do not agree")
            .hint(format!("{seq} and {len} bytes end at {right}; SYN and FIN are not counted")));
    }
    let mut data = None;
    if let Some(Tok::Str(s)) = c.peek() {
        if s.len() != len as usize {
            return Err(Problem::new(c.span(), format!("the string has {} bytes, not {len}", s.len())));
        }
        c.at += 1;
        data = Some(s.clone());
    }
    Ok((seq, len, data))
}

fn options(c: &mut Cursor<'_>) -> Parsed<Options> {
    let start = c.span();
    c.want("<")?;
    if c.eat("...") {
        c.want(">")?;
        return Ok(Options::Any);
    }
    let mut all = Vec::new();
    while !c.eat(">") {
        all.push(option(c)?);
        if !c.eat(",") && !c.is(">") {
            return Err(c.wrong("`,` or `>`"));
        }
    }
    if emit_options(&all).is_none() {
        return Err(Problem::new(start.to(c.last()), "these options take more than 40 bytes"));
    }
    Ok(Options::List(all))
}

fn option(c: &mut Cursor<'_>) -> Parsed<Opt> {
    let (name, span) = c.word("an option")?;
    Ok(match name {
        "mss" => Opt::Mss(c.int("a segment size")?),
        "wscale" => Opt::Wscale(c.int("a shift count")?),
        "sackOK" => Opt::SackOk,
        "nop" => Opt::Nop,
        "eol" => Opt::Eol,
        "sack" => sack(c)?,
        "TS" => timestamps(c)?,
        "FO" => Opt::FastOpen(cookie(c)?),
        "FOEXP" => Opt::FastOpenExp(cookie(c)?),
        "md5" => match c.peek() {
            Some(Tok::Str(key)) => {
                c.at += 1;
                Opt::Md5Key(key.clone())
            }
            _ => Opt::Md5(vec![0; 16]),
        },
        "kind" => Opt::Other(c.int("an option number")?, cookie(c)?),
        _ => {
            let all = ["mss", "wscale", "sackOK", "nop", "eol", "sack", "TS", "FO", "FOEXP", "md5", "kind"];
            return Err(Problem::new(span, format!("there is no option `{name}`")).near(nearest(name, all)));
        }
    })
}

fn sack(c: &mut Cursor<'_>) -> Parsed<Opt> {
    let mut blocks = Vec::new();
    while let Some(Tok::Num(_)) = c.peek() {
        let left = c.int("a sequence number")?;
        c.want(":")?;
        blocks.push((left, c.int("a sequence number")?));
    }
    if blocks.is_empty() { Err(c.wrong("a block, `1001:2001`")) } else { Ok(Opt::Sack(blocks)) }
}

fn timestamps(c: &mut Cursor<'_>) -> Parsed<Opt> {
    let mut number = |name: &str| {
        if !c.eat_word(name) {
            return Err(c.wrong(&format!("`{name}` and a number")));
        }
        if c.eat("*") { Ok(None) } else { c.int("a time stamp").map(Some) }
    };
    Ok(Opt::Ts { val: number("val")?, ecr: number("ecr")? })
}

/// An extension header, padded to a multiple of eight bytes: options by PadN (RFC 8200 §4.2), a route by zeros.
fn ext(kind: u8, c: &mut Cursor<'_>) -> Parsed<Ext> {
    let mut body = hex(c, MAX_HEX)?;
    let pad = (body.len() + 2).next_multiple_of(8) - (body.len() + 2);
    match pad {
        0 => {}
        _ if kind == NEXTHDR_ROUTING => body.resize(body.len() + pad, 0),
        1 => body.push(0),
        n => {
            body.extend([1, (n - 2) as u8]);
            body.resize(body.len() + n - 2, 0);
        }
    }
    // Eight bytes are the least.
    body.resize(body.len().max(6), 0);
    Ok(Ext { kind, body })
}

/// Bytes that stand together.
const MAX_HEX: usize = 1024;

/// Digits without space between them, or `-` for none.
fn hex(c: &mut Cursor<'_>, most: usize) -> Parsed<Vec<u8>> {
    let (mut digits, start) = (String::new(), c.span());
    if c.eat("-") {
        return Ok(Vec::new());
    }
    loop {
        match c.peek() {
            Some(Tok::Num(n)) if digits.is_empty() || c.adjoins() => digits.push_str(n),
            Some(Tok::Word(w)) if digits.is_empty() || c.adjoins() => digits.push_str(w),
            _ => break,
        }
        c.at += 1;
    }
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
    let even = digits.len() % 2 == 0 && !digits.is_empty();
    bytes
        .filter(|b| even && b.len() <= most)
        .ok_or_else(|| Problem::new(start, "pairs of hexadecimal digits are expected here"))
}

/// Bytes in hexadecimal, with or without 0x; nothing is none.
fn cookie(c: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    let mut digits = String::new();
    let start = c.span();
    loop {
        match c.peek() {
            Some(Tok::Hex(n)) => digits.push_str(&format!("{n:x}")),
            Some(Tok::Num(n)) => digits.push_str(n),
            Some(Tok::Word(w)) if c.at > 0 => digits.push_str(w),
            _ => break,
        }
        c.at += 1;
    }
    let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
    let bytes: Option<Vec<u8>> =
        digits.as_bytes().chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok()).collect();
    bytes.filter(|b| b.len() <= 38).ok_or_else(|| Problem::new(start, "bytes in hexadecimal are expected here"))
}
