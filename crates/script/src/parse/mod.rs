//! The grammar: settings first, then one event a line, each beginning with its time.
mod block;
mod call;
mod cursor;
pub mod icmp;
mod nd;
mod packet;
pub mod raw;

use crate::ast::*;
use crate::lex::{Tok, Token, lex};
use crate::names::nearest;
use crate::problem::{Problem, Span};
use belljar_kernel::net::sysctl;
use cursor::{Cursor, Parsed};
pub use nd::{addr_at, is_mld, is_nd, show as show_nd};
use std::net::IpAddr;

/// Longest script time, in seconds: some years of virtual time.
const MAX_SECONDS: u64 = 100_000_000;
/// Lines in which a deviation is marked.
const MARKED_WITHIN: usize = 5;
const SETTINGS: &[&str] = &[
    "local_ip",
    "remote_ip",
    "gateway_ip",
    "netmask_ip",
    "bind_port",
    "connect_port",
    "remote_port",
    "mtu",
    "tolerance_usecs",
    "seed",
    "arp",
    "second_ip",
    "root",
    "nofile",
    "device",
    "ip_version",
];

/// Text to a script, or the first thing that cannot be read.
pub fn parse(name: &str, text: &str) -> Result<Script, Problem> {
    let tokens = lex(text)?;
    let mut script = Script {
        name: name.to_owned(),
        text: text.to_owned(),
        settings: Settings::default(),
        deviation: deviation(text),
        events: Vec::new(),
    };
    let mut last_setting = Span::default();
    for line in tokens.split_inclusive(|t| t.tok == Tok::Eol) {
        let Some((eol, line)) = line.split_last() else { continue };
        if line.is_empty() {
            continue;
        }
        let mut c = Cursor::new(line, eol.span);
        c.v6 = script.settings.version == Version::V6;
        if c.is("-") && matches!(c.peek_at(1), Some(Tok::Sym("-"))) {
            setting(&mut c, text, &mut script)?;
            last_setting = c.tokens.first().map_or(eol.span, |t| t.span.to(c.last()));
        } else {
            script.events.push(event(&mut c, text)?);
        }
    }
    if script.events.is_empty() {
        let end = Span { start: text.len(), end: text.len() };
        return Err(Problem::new(end, "nothing happens in this script").hint("+0 socket(..., SOCK_STREAM, 0) = 3"));
    }
    forwards(&script)?;
    agree(&script.settings).map_err(|what| Problem::new(last_setting, what))?;
    Ok(script)
}

/// No line is before the one above it. What the kernel sends may be early by the tolerance.
fn forwards(script: &Script) -> Parsed<()> {
    let slack = script.settings.tolerance;
    let mut earliest: Nanos = 0;
    for e in &script.events {
        let early = if matches!(e.what, What::Expect(_)) { slack } else { 0 };
        match e.when.base {
            Base::Start if e.when.at.saturating_add(slack) < earliest => {
                let (at, before) = (crate::run::seconds(e.when.at), crate::run::seconds(earliest));
                return Err(Problem::new(e.span, format!("the script goes back in time, from {before} to {at}"))
                    .hint("`+` counts from the line above"));
            }
            Base::Start => earliest = earliest.max(e.when.at.saturating_sub(early)),
            Base::Last => earliest = earliest.saturating_add(e.when.at).saturating_sub(early),
            Base::Any => {}
        }
    }
    Ok(())
}

/// Addresses of a script are of one family.
fn agree(s: &Settings) -> Result<(), String> {
    let six = s.version == Version::V6;
    match [s.local, s.remote, s.gateway].into_iter().find(|a| a.is_ipv6() != six) {
        Some(a) => Err(format!("{a} is not of the version that `--ip_version` says")),
        None => Ok(()),
    }
}

fn deviation(text: &str) -> Option<String> {
    let mut first = text.lines().take(MARKED_WITHIN);
    first.find_map(|l| l.trim_start_matches(['#', '/']).trim().strip_prefix("deviation:")).map(|r| r.trim().to_owned())
}

/// The source text from a token to the end of its line, comments not included.
fn raw<'a>(tokens: &[Token], text: &'a str) -> &'a str {
    match (tokens.first(), tokens.last()) {
        (Some(a), Some(b)) => text.get(a.span.start..b.span.end).unwrap_or(""),
        _ => "",
    }
}

fn setting(c: &mut Cursor<'_>, text: &str, script: &mut Script) -> Parsed<()> {
    c.at = 2;
    let (name, span) = c.word("the name of a setting")?;
    if !script.events.is_empty() {
        return Err(Problem::new(span, "settings come before the first event"));
    }
    c.want("=")?;
    let rest = c.tokens.get(c.at..).unwrap_or(&[]);
    let value = raw(rest, text);
    let at = rest.first().map_or(c.span(), |t| t.span.to(c.tokens.last().map_or(t.span, |l| l.span)));
    let bad = |what: &str| Problem::new(at, format!("`{name}` wants {what}"));
    let s = &mut script.settings;
    match name {
        "local_ip" => s.local = value.parse().map_err(|_| bad("an address"))?,
        "remote_ip" => s.remote = value.parse().map_err(|_| bad("an address"))?,
        "gateway_ip" => s.gateway = value.parse().map_err(|_| bad("an address"))?,
        "netmask_ip" => {
            s.prefix = match value.parse().map_err(|_| bad("a netmask"))? {
                IpAddr::V4(mask) => mask.to_bits().leading_ones() as u8,
                IpAddr::V6(mask) => mask.to_bits().leading_ones() as u8,
            };
        }
        "bind_port" => s.bind_port = value.parse().map_err(|_| bad("a port"))?,
        "connect_port" => s.connect_port = value.parse().map_err(|_| bad("a port"))?,
        "remote_port" => s.remote_port = value.parse().map_err(|_| bad("a port"))?,
        "mtu" => s.mtu = value.parse().map_err(|_| bad("a number of bytes"))?,
        "tolerance_usecs" => {
            s.tolerance = value.parse::<u32>().map_err(|_| bad("a number of microseconds"))? as u64 * 1000;
        }
        "seed" => s.seed = value.parse().map_err(|_| bad("a number"))?,
        "arp" if value == "lines" => (s.arp, s.arp_lines) = (false, true),
        "arp" => s.arp = on_off(value).ok_or_else(|| bad("`on`, `off` or `lines`"))?,
        "second_ip" => {
            let found =
                value.split_once('/').and_then(|(a, l)| a.parse().ok().zip(l.parse().ok().filter(|l| *l <= 128)));
            let found = found.filter(|(a, l): &(IpAddr, u8)| a.is_ipv6() || *l <= 32);
            s.second = Some(found.ok_or_else(|| bad("an address and the length of its prefix"))?);
        }
        "root" => s.root = on_off(value).ok_or_else(|| bad("`on` or `off`"))?,
        "device" => match value {
            "nic" => s.tun = false,
            "tun" => s.tun = true,
            _ => return Err(bad("nic or tun")),
        },
        "nofile" => s.nofile = value.parse().map_err(|_| bad("a number of descriptors"))?,
        "ip_version" => {
            s.version = match value {
                "ipv4" => Version::V4,
                "ipv6" => Version::V6,
                "ipv4-mapped-ipv6" => Version::Mapped,
                _ => return Err(bad("`ipv4`, `ipv6` or `ipv4-mapped-ipv6`")),
            };
            if s.version == Version::V6 {
                defaults6(s);
            }
        }
        _ => {
            let near = nearest(name, SETTINGS.iter().copied());
            return Err(Problem::new(span, format!("there is no setting `{name}`")).near(near));
        }
    }
    Ok(())
}

/// What was not set before becomes that of IPv6.
fn defaults6(s: &mut Settings) {
    let was = Settings::default();
    let pairs =
        [(&mut s.local, was.local, V6.0), (&mut s.remote, was.remote, V6.1), (&mut s.gateway, was.gateway, V6.2)];
    for (now, four, six) in pairs {
        if *now == four {
            *now = six.into();
        }
    }
    if s.prefix == was.prefix {
        s.prefix = 64;
    }
}

fn on_off(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn event(c: &mut Cursor<'_>, text: &str) -> Parsed<Event> {
    let start = c.span();
    let when = when(c)?;
    let what = if c.is("<") || c.is(">") { packet::line(c)? } else { action(c, text)? };
    c.done()?;
    let is_call = matches!(what, What::Call(_));
    let span = start.to(c.last());
    if when.until.is_some() && !is_call {
        return Err(Problem::new(start, "only a call has an end (`a...b`); a packet's range is `a~b`"));
    }
    let expects = matches!(what, What::Expect(_));
    if (when.base == Base::Any || when.window.is_some()) && !expects {
        return Err(Problem::new(start, "only a packet that the kernel sends may come at any time"));
    }
    Ok(Event { span, when, what })
}

/// `0.1`, `+0.1`, `*`, `+0.1~+0.2`, `0.1...0.2`.
fn when(c: &mut Cursor<'_>) -> Parsed<When> {
    if c.eat("*") {
        return Ok(When { base: Base::Any, at: 0, window: None, until: None });
    }
    let base = if c.eat("+") { Base::Last } else { Base::Start };
    let at = seconds(c, "a time (`0.1`, `+0.1` or `*`)")?;
    let mut when = When { base, at, window: None, until: None };
    if c.eat("~") {
        c.eat("+");
        when.window = Some(later(c, at)?);
    } else if c.eat("...") {
        c.eat("+");
        when.until = Some(later(c, at)?);
    }
    Ok(when)
}

fn later(c: &mut Cursor<'_>, from: Nanos) -> Parsed<Nanos> {
    let to = seconds(c, "the end of the range")?;
    if to < from {
        return Err(Problem::new(c.last(), "the range ends before it begins"));
    }
    Ok(to)
}

/// Seconds with a fraction, exactly.
fn seconds(c: &mut Cursor<'_>, what: &str) -> Parsed<Nanos> {
    let Some(Tok::Num(n)) = c.peek() else { return Err(c.wrong(what)) };
    let (whole, fraction) = n.split_once('.').unwrap_or((n, ""));
    let nanos = format!("{fraction:0<9}");
    let whole = whole.parse::<u64>().ok().filter(|s| *s <= MAX_SECONDS);
    let nanos = nanos.get(..9).and_then(|n| n.parse::<u64>().ok());
    let (Some(s), Some(n)) = (whole, nanos) else {
        return Err(Problem::new(c.span(), "this time is too long"));
    };
    c.at += 1;
    Ok(s * 1_000_000_000 + n)
}

fn action(c: &mut Cursor<'_>, text: &str) -> Parsed<What> {
    if let Some(Tok::Command(command)) = c.peek() {
        let span = c.span();
        c.at += 1;
        return command_line(command, span).map(What::Commands);
    }
    match (c.peek(), c.peek_at(1)) {
        (Some(Tok::Word(w)), Some(Tok::Word(_))) if w == "sysctl" => {
            c.at += 1;
            sysctl_line(c, text).map(|s| What::Commands(vec![s]))
        }
        (Some(Tok::Word(w)), Some(Tok::Sym("{"))) if w == "counters" => block::conds(c, w).map(What::Counters),
        (Some(Tok::Word(w)), Some(Tok::Sym("{"))) if w == "signals" => block::conds(c, w).map(What::Signals),
        (Some(Tok::Word(w)), Some(Tok::Sym("{"))) if w == "sockets" => block::conds(c, w).map(What::Sockets),
        (Some(Tok::Word(w)), Some(Tok::Sym("("))) if w == "tcp_info" => block::tcp_info(c),
        _ => call::line(c).map(What::Call),
    }
}

/// `sysctl net.ipv4.tcp_rmem = 4096 131072 6291456`: the value is the rest of the line.
fn sysctl_line(c: &mut Cursor<'_>, text: &str) -> Parsed<Command> {
    let from = c.at;
    while !c.is("=") {
        if c.bump().is_none() {
            return Err(c.wrong("`=` and the value of the setting"));
        }
    }
    let key = c.tokens.get(from..c.at).unwrap_or(&[]);
    let span = key.first().map_or(c.span(), |f| f.span.to(c.last()));
    let key = raw(key, text).trim().to_owned();
    c.want("=")?;
    let value = raw(c.tokens.get(c.at..).unwrap_or(&[]), text).trim_matches('"').to_owned();
    c.at = c.tokens.len();
    known_setting(span, &key)?;
    Ok(Command::Sysctl(span, key, value))
}

fn known_setting(span: Span, key: &str) -> Parsed<()> {
    let key = key.replace('/', ".");
    if sysctl::is_known(&key) {
        return Ok(());
    }
    Err(Problem::new(span, format!("there is no setting `{key}`")).near(sysctl::nearest(&key).as_deref()))
}

/// What packetdrill's scripts write in backticks, as far as it sets sysctls, addresses and routes.
fn command_line(command: &str, span: Span) -> Parsed<Vec<Command>> {
    let refuse = || {
        Problem::new(span, "only `sysctl [-q] [-w] KEY=VALUE...` and `ip OBJECT add|del|set ...` can be commands")
            .hint("write a line of its own: +0 sysctl net.ipv4.tcp_sack = 0")
    };
    let mut all = Vec::new();
    for part in command.split(['\n', ';']).map(str::trim).filter(|p| !p.is_empty()) {
        if let Some(line) = part.strip_prefix("ip ") {
            all.push(Command::Ip(span, line.to_owned()));
            continue;
        }
        let rest = part.strip_prefix("sysctl ").ok_or_else(refuse)?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for word in rest.split_whitespace().filter(|w| !matches!(*w, "-q" | "-w" | "-qw" | "-wq")) {
            match (word.split_once('='), pairs.last_mut()) {
                (Some((k, v)), _) => pairs.push((k.to_owned(), v.trim_matches(['"', '\'']).to_owned())),
                // The further numbers of tcp_rmem and its like.
                (None, Some((_, v))) => {
                    v.push(' ');
                    v.push_str(word.trim_matches(['"', '\'']));
                }
                (None, None) => return Err(refuse()),
            }
        }
        pairs.iter().try_for_each(|(k, _)| known_setting(span, k))?;
        all.extend(pairs.into_iter().map(|(k, v)| Command::Sysctl(span, k, v)));
    }
    if all.is_empty() { Err(refuse()) } else { Ok(all) }
}
