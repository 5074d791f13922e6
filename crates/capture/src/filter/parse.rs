//! Text to expression: a tokenizer and recursive descent with bounded depth.
use super::{BadFilter, Dir, Expr, Num, Op, Proto, addr, mask, mask6};
use crate::services;
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};
use belljar_wire::ipv4::*;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Parentheses and `not` in each other.
const MAX_DEPTH: usize = 64;
/// Tokens of an expression; a chain of `or` is as deep as it is long.
const MAX_TOKENS: usize = 2048;

const SYMBOLS: [&str; 23] = [
    "&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "(", ")", "[", "]", "!", "=", "<", ">", "+", "-", "*", "/", "%",
    "&", "|",
];

fn bad<T>(text: impl Into<String>) -> Result<T, BadFilter> {
    Err(BadFilter(text.into()))
}

fn tokens(text: &str) -> Result<Vec<&str>, BadFilter> {
    let (mut out, mut rest) = (Vec::new(), text.trim_start());
    while let Some(c) = rest.chars().next() {
        // A hyphen or colon inside a word belongs to it: tcp-syn, 80-90, 0:2, MAC addresses.
        let word = |c: char| c.is_ascii_alphanumeric() || "._:\\".contains(c);
        let len = if word(c) {
            rest.char_indices()
                .find(|(i, c)| !(word(*c) || *c == '-' && joins(rest, *i)))
                .map_or(rest.len(), |(i, _)| i)
        } else if c == '^' {
            1
        } else {
            match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(s) => s.len(),
                None => return bad(format!("{c:?} does not belong in a filter")),
            }
        };
        let (token, tail) = rest.split_at(len);
        out.push(token);
        if out.len() > MAX_TOKENS {
            return bad(format!("the filter has more than {MAX_TOKENS} words"));
        }
        rest = tail.trim_start();
    }
    Ok(out)
}

/// Is the hyphen at `at` part of a name (`tcp-syn`) or a range of ports (`80-90`), not a minus?
fn joins(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    let next = after.chars().nth(1);
    before.starts_with(|c: char| c.is_ascii_alphabetic()) && next.is_some_and(|c| c.is_ascii_alphabetic())
        || before.chars().all(|c| c.is_ascii_digit()) && next.is_some_and(|c| c.is_ascii_digit())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// What stands before a value; the next bare value inherits it.
#[derive(Clone, Copy)]
struct Qualifiers {
    proto: Option<Proto>,
    dir: Dir,
    kind: Option<Kind>,
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    depth: usize,
    last: Option<Qualifiers>,
}

pub fn parse(text: &str) -> Result<Option<Expr>, BadFilter> {
    let mut p = Parser { tokens: tokens(text)?, at: 0, depth: 0, last: None };
    if p.tokens.is_empty() {
        return Ok(None);
    }
    let e = p.expression()?;
    match p.peek() {
        None => Ok(Some(e)),
        Some(t) => bad(format!("{t:?} is not expected there")),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Result<&'a str, BadFilter> {
        let t = self.peek().map_or_else(|| bad("the filter ends too early"), Ok)?;
        self.at += 1;
        Ok(t)
    }

    fn take(&mut self, any: &[&str]) -> Option<&'a str> {
        let t = self.peek().filter(|t| any.contains(t))?;
        self.at += 1;
        Some(t)
    }

    fn expect(&mut self, t: &str) -> Result<(), BadFilter> {
        match self.take(&[t]) {
            Some(_) => Ok(()),
            None => bad(format!("{t:?} is missing{}", self.peek().map_or(String::new(), |p| format!(" before {p:?}")))),
        }
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, BadFilter>) -> Result<T, BadFilter> {
        if self.depth >= MAX_DEPTH {
            return bad(format!("the filter is nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let r = f(self);
        self.depth -= 1;
        r
    }

    fn expression(&mut self) -> Result<Expr, BadFilter> {
        let mut left = self.term()?;
        let mut chain = 0;
        while let Some(op) = self.take(&["and", "&&", "or", "||"]) {
            chain += 1;
            if chain > MAX_TOKENS / 4 {
                return bad("the filter is too long");
            }
            let right = Box::new(self.term()?);
            left = match op {
                "and" | "&&" => Expr::And(Box::new(left), right),
                _ => Expr::Or(Box::new(left), right),
            };
        }
        Ok(left)
    }

    fn term(&mut self) -> Result<Expr, BadFilter> {
        if self.take(&["not", "!"]).is_some() {
            return Ok(Expr::Not(Box::new(self.deeper(Self::term)?)));
        }
        if self.peek() == Some("(") {
            // Either a parenthesised expression or a number that is compared.
            let (at, last) = (self.at, self.last);
            if let Ok(e) = self.deeper(Self::comparison) {
                return Ok(e);
            }
            (self.at, self.last) = (at + 1, last);
            let e = self.deeper(Self::expression)?;
            self.expect(")")?;
            return Ok(e);
        }
        if self.begins_number() { self.comparison() } else { self.primitive() }
    }

    /// `10`, `len`, `tcp-syn`, `tcp[`; not `10.0.0.1` and not a number that inherits qualifiers.
    fn begins_number(&self) -> bool {
        let Some(t) = self.peek() else { return false };
        let next = self.tokens.get(self.at + 1).copied();
        let indexed = next == Some("[");
        let relates = next.is_some_and(|n| matches!(n, "=" | "==" | "!=" | "<" | ">" | "<=" | ">=") || is_operator(n));
        indexed || t == "-" || (t == "len" || constant(t).is_some() || number(t).is_some()) && relates
    }

    fn comparison(&mut self) -> Result<Expr, BadFilter> {
        let a = self.number(0)?;
        let op = match self.next()? {
            "=" | "==" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            ">" => Op::Gt,
            "<=" => Op::Le,
            ">=" => Op::Ge,
            t => return bad(format!("a comparison is missing before {t:?}")),
        };
        Ok(Expr::Compare(a, op, self.number(0)?))
    }

    /// Arithmetic by precedence climbing, C's order.
    fn number(&mut self, least: u8) -> Result<Num, BadFilter> {
        let mut left = self.deeper(Self::operand)?;
        while let Some(op) = self.peek() {
            let Some(p) = precedence(op).filter(|p| *p >= least) else { break };
            self.at += 1;
            let right = self.deeper(|s| s.number(p + 1))?;
            if matches!((op, &right), ("/" | "%", Num::Value(0))) {
                return bad("division by zero");
            }
            let sign = op.chars().next().unwrap_or('+');
            left = Num::Calc(Box::new(left), sign, Box::new(right));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Num, BadFilter> {
        match self.next()? {
            "(" => {
                let n = self.deeper(|s| s.number(0))?;
                self.expect(")")?;
                Ok(n)
            }
            "-" => Ok(Num::Neg(Box::new(self.deeper(Self::operand)?))),
            "len" | "length" => Ok(Num::Len),
            t if self.peek() == Some("[") => self.load(t),
            t => match number(t).or_else(|| constant(t)) {
                Some(v) => Ok(Num::Value(v)),
                None => bad(format!("{t:?} is no number")),
            },
        }
    }

    /// `tcp[13]`, `ip[2:2]`, `tcp[tcpflags]`.
    fn load(&mut self, name: &str) -> Result<Num, BadFilter> {
        let Some(proto) = protocol(name) else { return bad(format!("{name:?} is no protocol")) };
        self.expect("[")?;
        // "0:2" is one word to the tokenizer.
        let (at, size) = match self.peek().and_then(|t| t.split_once(':')) {
            Some((at, size)) => {
                self.at += 1;
                match number(at).or_else(|| constant(at)) {
                    Some(v) => (Num::Value(v), Some(size)),
                    None => return bad(format!("{at:?} is no offset")),
                }
            }
            None => {
                let at = self.deeper(|s| s.number(0))?;
                (at, self.peek().and_then(|t| t.strip_prefix(':')).inspect(|_| self.at += 1))
            }
        };
        let size = match size {
            None => 1,
            Some("1") => 1,
            Some("2") => 2,
            Some("4") => 4,
            Some(s) => return bad(format!("a field has 1, 2 or 4 bytes, not {s:?}")),
        };
        self.expect("]")?;
        Ok(Num::Load(proto, Box::new(at), size))
    }

    fn primitive(&mut self) -> Result<Expr, BadFilter> {
        let mut q = Qualifiers { proto: None, dir: Dir::Either, kind: None };
        let mut directed = false;
        let start = self.at;
        if let Some(t) = self.take(&["less", "greater"]) {
            let n = self.next()?;
            let Some(n) = number(n) else { return bad(format!("{n:?} is no length")) };
            return Ok(Expr::Compare(Num::Len, if t == "less" { Op::Le } else { Op::Ge }, Num::Value(n)));
        }
        if let Some(p) = self.peek().and_then(protocol) {
            self.at += 1;
            q.proto = Some(p);
            if let Some(e) = self.cast(p) {
                return Ok(e);
            }
        } else if let Some(t) = self.take(&["broadcast", "multicast"]) {
            return Ok(if t == "broadcast" { Expr::Broadcast } else { Expr::Multicast });
        }
        if let Some(d) = self.take(&["src", "dst"]) {
            directed = true;
            q.dir = self.direction(d)?;
        }
        q.kind = self.take(&["host", "net", "port", "portrange", "proto"]).map(|t| match t {
            "host" => Kind::Host,
            "net" => Kind::Net,
            "port" => Kind::Port,
            "portrange" => Kind::PortRange,
            _ => Kind::Proto,
        });
        if let (Some(p), None, false) = (q.proto, q.kind, directed) {
            return Ok(Expr::Proto(p));
        }
        if self.at == start {
            match self.last {
                _ if self.peek().is_none() => return bad("the filter ends too early"),
                Some(last) => q = last,
                None if self.peek().is_some_and(|t| address(t).is_some() || t.parse::<Ipv6Addr>().is_ok()) => {
                    return bad(format!("write \"host {}\"", self.peek().unwrap_or("")));
                }
                None => return bad(format!("{:?} is no filter word", self.peek().unwrap_or(""))),
            }
        }
        self.value(q)
    }

    fn direction(&mut self, first: &str) -> Result<Dir, BadFilter> {
        let ahead = (self.peek(), self.tokens.get(self.at + 1).copied());
        let dir = match (first, ahead) {
            (_, (Some("or"), Some("src" | "dst"))) => Dir::Either,
            (_, (Some("and"), Some("src" | "dst"))) => Dir::Both,
            ("src", _) => return Ok(Dir::Src),
            _ => return Ok(Dir::Dst),
        };
        self.at += 2;
        Ok(dir)
    }

    /// `ether broadcast`, `ether multicast` and `ip6 multicast`.
    fn cast(&mut self, p: Proto) -> Option<Expr> {
        if p == Proto::Ip6 {
            return self.take(&["multicast"]).map(|_| Expr::Multicast6);
        }
        match self.take(&["broadcast", "multicast"]).filter(|_| p == Proto::Ether)? {
            "broadcast" => Some(Expr::Broadcast),
            _ => Some(Expr::Multicast),
        }
    }

    fn value(&mut self, mut q: Qualifiers) -> Result<Expr, BadFilter> {
        let kind = q.kind.unwrap_or(Kind::Host);
        let word = match kind {
            Kind::Host => "host",
            Kind::Net => "net",
            Kind::Port => "port",
            Kind::PortRange => "portrange",
            Kind::Proto => "proto",
        };
        let Some(t) = self.peek().filter(|t| !matches!(*t, ")" | "and" | "or" | "&&" | "||")) else {
            return bad(format!(
                "{word:?} wants a {} after it",
                if word.starts_with("port") { "number or name" } else { "value" }
            ));
        };
        self.at += 1;
        q.kind = Some(kind);
        let e = match kind {
            Kind::Host if q.proto == Some(Proto::Ether) => match t.parse() {
                Ok(mac) => Expr::Mac(q.dir, mac),
                Err(_) => return bad(format!("{t:?} is no hardware address")),
            },
            Kind::Host if t.parse::<Ipv6Addr>().is_ok() => {
                if self.peek() == Some("/") {
                    return bad(format!("write \"net {t}/…\": a host has no prefix length"));
                }
                self.net6(q, t.parse().unwrap_or(Ipv6Addr::UNSPECIFIED), 128)?
            }
            Kind::Host if q.proto == Some(Proto::Ip6) => return bad(format!("{t:?} is no IPv6 address")),
            Kind::Host => match address(t) {
                Some(a) => Expr::Net(q.proto, q.dir, addr(a), u32::MAX),
                None if self.last.is_some()
                    && q.proto.is_none()
                    && self.tokens.get(self.at.wrapping_sub(2)).is_some_and(|p| !is_qualifier(p)) =>
                {
                    return bad(format!("{t:?} is no filter word"));
                }
                None => return bad(format!("{t:?} is no address; host names are not looked up")),
            },
            Kind::Net => self.net(q, t)?,
            Kind::Port => match services::port(t) {
                Some(p) => Expr::Port(q.proto, q.dir, p, p),
                None => return bad(format!("{t:?} is no port")),
            },
            Kind::PortRange => match t.split_once('-').map(|(a, b)| (a.parse(), b.parse())) {
                Some((Ok(a), Ok(b))) => Expr::Port(q.proto, q.dir, a, b),
                _ => return bad(format!("{t:?} is no range of ports, such as 8000-8080")),
            },
            Kind::Proto => self.proto_number(q, t)?,
        };
        self.last = Some(q);
        Ok(e)
    }

    /// `10.0.0.0/8`, `10.0.2` and `10.0.0.0 mask 255.0.0.0`.
    fn net(&mut self, q: Qualifiers, t: &str) -> Result<Expr, BadFilter> {
        if let Ok(a) = t.parse::<Ipv6Addr>() {
            let mut bits = 128;
            if self.take(&["/"]).is_some() {
                let n = self.next()?;
                bits = match n.parse() {
                    Ok(n @ 0..=128) => n,
                    _ => return bad(format!("{n:?} is no prefix length")),
                };
            }
            return self.net6(q, a, bits);
        }
        if q.proto == Some(Proto::Ip6) {
            return bad(format!("{t:?} is no IPv6 net"));
        }
        let parts: Option<Vec<u8>> = t.split('.').map(|p| p.parse().ok()).collect();
        let Some(parts) = parts.filter(|p| (1..=4).contains(&p.len())) else {
            return bad(format!("{t:?} is no IPv4 net"));
        };
        let value = parts.iter().enumerate().fold(0u32, |v, (i, p)| v | (*p as u32) << (24 - 8 * i));
        let mut bits = mask(8 * parts.len() as u32);
        if self.take(&["/"]).is_some() {
            let n = self.next()?;
            bits = match n.parse() {
                Ok(n @ 0..=32) => mask(n),
                _ => return bad(format!("{n:?} is no prefix length")),
            };
        } else if self.take(&["mask"]).is_some() {
            let m = self.next()?;
            bits = address(m).map_or_else(|| bad(format!("{m:?} is no mask")), |m| Ok(addr(m)))?;
        }
        if value & !bits != 0 {
            return bad(format!("{t} has bits behind its prefix"));
        }
        Ok(Expr::Net(q.proto, q.dir, value, bits))
    }

    fn net6(&self, q: Qualifiers, a: Ipv6Addr, bits: u32) -> Result<Expr, BadFilter> {
        if !matches!(q.proto, None | Some(Proto::Ip6)) {
            return bad(format!("{a} is an IPv6 address: only \"ip6\" goes with it"));
        }
        if a.to_bits() & !mask6(bits) != 0 {
            return bad(format!("{a} has bits behind its prefix"));
        }
        Ok(Expr::Net6(q.dir, a.to_bits(), mask6(bits)))
    }

    fn proto_number(&self, q: Qualifiers, t: &str) -> Result<Expr, BadFilter> {
        let name = t.trim_start_matches('\\');
        if q.proto == Some(Proto::Ether) {
            let t = match name {
                "ip" => Some(ETH_P_IP as u32),
                "arp" => Some(ETH_P_ARP as u32),
                "ip6" => Some(ETH_P_IPV6 as u32),
                n => number(n),
            };
            return t
                .and_then(|t| u16::try_from(t).ok())
                .map_or_else(|| bad(format!("{name:?} is no Ethernet protocol")), |t| Ok(Expr::EtherType(t)));
        }
        let number = match (protocol(name), number(name)) {
            (Some(Proto::Over(n) | Proto::Over4(n) | Proto::Over6(n)), _) => n,
            (_, Some(n @ 0..=255)) => n as u8,
            _ => return bad(format!("{name:?} is no IP protocol")),
        };
        Ok(Expr::Proto(match q.proto {
            Some(Proto::Ip) => Proto::Over4(number),
            Some(Proto::Ip6) => Proto::Over6(number),
            _ => Proto::Over(number),
        }))
    }
}

fn is_qualifier(t: &str) -> bool {
    matches!(t, "host" | "net" | "port" | "portrange" | "proto" | "src" | "dst") || protocol(t).is_some()
}

fn address(t: &str) -> Option<Ipv4Addr> {
    t.parse().ok()
}

fn number(t: &str) -> Option<u32> {
    match t.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => t.parse().ok().filter(|_| t.starts_with(|c: char| c.is_ascii_digit())),
    }
}

fn protocol(t: &str) -> Option<Proto> {
    Some(match t {
        "ether" => Proto::Ether,
        "ip" => Proto::Ip,
        "arp" => Proto::Arp,
        "ip6" => Proto::Ip6,
        "tcp" => Proto::Over(IPPROTO_TCP),
        "udp" => Proto::Over(IPPROTO_UDP),
        "icmp" => Proto::Over4(IPPROTO_ICMP),
        "igmp" => Proto::Over4(IPPROTO_IGMP),
        "icmp6" => Proto::Over6(IPPROTO_ICMPV6),
        "sctp" => Proto::Over(IPPROTO_SCTP),
        _ => return None,
    })
}

fn is_operator(t: &str) -> bool {
    precedence(t).is_some()
}

fn precedence(op: &str) -> Option<u8> {
    Some(match op {
        "|" => 1,
        "^" => 2,
        "&" => 3,
        "<<" | ">>" => 4,
        "+" | "-" => 5,
        "*" | "/" | "%" => 6,
        _ => return None,
    })
}

/// libpcap's names for offsets, flags and ICMP types.
fn constant(t: &str) -> Option<u32> {
    Some(match t {
        "tcpflags" => 13,
        "icmp6type" => 0,
        "icmp6code" => 1,
        "icmp6-destinationrunreach" => 1,
        "icmp6-packettoobig" => 2,
        "icmp6-timeexceeded" => 3,
        "icmp6-parameterproblem" => 4,
        "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-multicastlistenerquery" => 130,
        "icmp6-multicastlistenerreportv1" => 131,
        "icmp6-multicastlistenerdone" => 132,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        "icmp6-redirect" => 137,
        "icmp6-multicastlistenerreportv2" => 143,
        "icmptype" => 0,
        "icmpcode" => 1,
        "tcp-fin" => 1,
        "tcp-syn" => 2,
        "tcp-rst" => 4,
        "tcp-push" => 8,
        "tcp-ack" => 16,
        "tcp-urg" => 32,
        "tcp-ece" => 64,
        "tcp-cwr" => 128,
        "icmp-echoreply" => 0,
        "icmp-unreach" => 3,
        "icmp-sourcequench" => 4,
        "icmp-redirect" => 5,
        "icmp-echo" => 8,
        "icmp-timxceed" => 11,
        "icmp-paramprob" => 12,
        "icmp-tstamp" => 13,
        "icmp-tstampreply" => 14,
        _ => return None,
    })
}
