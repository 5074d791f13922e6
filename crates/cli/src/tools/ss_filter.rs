//! The filters of ss: `state NAME`, `exclude NAME`, and expressions over `src`, `dst`, `sport`, `dport`, `dev`.
use crate::out::Fail;
use belljar_jar::services::Services;
use belljar_kernel::view::SockView;
use core::net::IpAddr;

/// ss's state names in the order of the kernel's numbers from 1, with the netstat name that views carry.
const STATES: [(&str, &str); 11] = [
    ("established", "ESTABLISHED"),
    ("syn-sent", "SYN_SENT"),
    ("syn-recv", "SYN_RECV"),
    ("fin-wait-1", "FIN_WAIT1"),
    ("fin-wait-2", "FIN_WAIT2"),
    ("time-wait", "TIME_WAIT"),
    ("closed", "CLOSE"),
    ("close-wait", "CLOSE_WAIT"),
    ("last-ack", "LAST_ACK"),
    ("listening", "LISTEN"),
    ("closing", "CLOSING"),
];

/// A set of states, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSet(u16);

impl StateSet {
    pub const ALL: StateSet = StateSet((1 << 11) - 1);
    /// What `-l` shows: LISTEN, and CLOSE for datagram sockets.
    pub const LISTENING: StateSet = StateSet(1 << 9 | 1 << 6);
    /// The default: everything but listeners, closed, half-open and TIME_WAIT.
    pub const CONNECTED: StateSet = StateSet(StateSet::ALL.0 & !(StateSet::LISTENING.0 | 1 << 5 | 1 << 2));

    pub fn has(self, netstat_name: &str) -> bool {
        STATES.iter().position(|(_, n)| *n == netstat_name).is_some_and(|bit| self.0 & 1 << bit != 0)
    }

    pub fn is_single(self) -> bool {
        self.0.count_ones() == 1
    }

    fn named(name: &str) -> Option<StateSet> {
        let bits = |names: &[&str]| {
            let bit = |n: &&str| STATES.iter().position(|(s, _)| s == n).map_or(0, |b| 1 << b);
            StateSet(names.iter().map(bit).sum())
        };
        let but = |names: &[&str]| StateSet(StateSet::ALL.0 & !bits(names).0);
        Some(match name {
            "all" => StateSet::ALL,
            "connected" => but(&["closed", "listening"]),
            "synchronized" => but(&["closed", "listening", "syn-sent"]),
            "bucket" => bits(&["syn-recv", "time-wait"]),
            "big" => but(&["syn-recv", "time-wait"]),
            _ => {
                let name = match name {
                    "listen" => "listening",
                    "close" | "unconnected" => "closed",
                    "established" | "estab" => "established",
                    other => other,
                };
                let name = name.replace('_', "-").replace("fin-wait1", "fin-wait-1").replace("fin-wait2", "fin-wait-2");
                Some(bits(&[name.as_str()])).filter(|s| s.0 != 0)?
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cmp {
    Eq,
    Ne,
    Ge,
    Le,
    Gt,
    Lt,
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    /// Source (or destination): address, prefix length, port; absent parts match anything.
    Addr {
        src: bool,
        cmp: Cmp,
        addr: Option<(IpAddr, u8)>,
        port: Option<u16>,
    },
    Port {
        src: bool,
        cmp: Cmp,
        port: u16,
    },
    Dev(bool, String),
}

/// What a command line asks for.
#[derive(Debug)]
pub struct SockFilter {
    pub states: StateSet,
    expr: Option<Expr>,
}

impl SockFilter {
    /// `words` as they stand on the command line after the options; `states` is what the options chose.
    pub fn parse(words: &[String], states: StateSet, services: &Services) -> Result<SockFilter, Fail> {
        let spaced = words.join(" ").replace('(', " ( ").replace(')', " ) ");
        let mut tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut chosen: Option<StateSet> = None;
        while let [word @ ("state" | "exclude"), rest @ ..] = tokens.as_slice() {
            let Some((name, rest)) = rest.split_first() else {
                return Err(Fail::usage(format!("ss: {word} wants the name of a state")));
            };
            let set = StateSet::named(name).ok_or_else(|| wrong_state(name))?;
            chosen = Some(match (*word, chosen) {
                ("state", old) => StateSet(old.map_or(0, |o| o.0) | set.0),
                (_, old) => StateSet(old.unwrap_or(StateSet::ALL).0 & !set.0),
            });
            tokens = rest.to_vec();
        }
        let mut p = Parser { tokens: &tokens, services };
        let expr = if p.tokens.is_empty() { None } else { Some(p.or()?) };
        match p.tokens.first() {
            None => Ok(SockFilter { states: chosen.unwrap_or(states), expr }),
            Some(t) => Err(Fail::usage(format!("ss: {t:?} does not belong here in the filter")).hint(FORM)),
        }
    }

    pub fn matches(&self, s: &SockView) -> bool {
        self.states.has(&s.state) && self.expr.as_ref().is_none_or(|e| e.matches(s))
    }
}

const FORM: &str = "as in: state established '( dport = :80 or sport = :443 )' dst 10.0.0.0/8";

fn wrong_state(name: &str) -> Fail {
    let names: Vec<_> = STATES.iter().map(|s| s.0).collect();
    let hint = format!("one of {}, all, connected, synchronized, bucket, big", names.join(", "));
    Fail::usage(format!("ss: wrong state name: {name}")).hint(hint)
}

impl Expr {
    fn matches(&self, s: &SockView) -> bool {
        match self {
            Expr::And(a, b) => a.matches(s) && b.matches(s),
            Expr::Or(a, b) => a.matches(s) || b.matches(s),
            Expr::Not(e) => !e.matches(s),
            Expr::Port { src, cmp, port } => {
                let of = if *src { s.lport } else { s.pport };
                match cmp {
                    Cmp::Eq => of == *port,
                    Cmp::Ne => of != *port,
                    Cmp::Ge => of >= *port,
                    Cmp::Le => of <= *port,
                    Cmp::Gt => of > *port,
                    Cmp::Lt => of < *port,
                }
            }
            Expr::Addr { src, cmp, addr, port } => {
                let (a, p) = if *src { (s.local, s.lport) } else { (s.peer, s.pport) };
                let inside = addr.is_none_or(|(net, len)| within(a, net, len));
                (inside && port.is_none_or(|want| want == p)) == (*cmp == Cmp::Eq)
            }
            Expr::Dev(same, name) => (s.device.as_deref() == Some(name)) == *same,
        }
    }
}

fn within(a: IpAddr, net: IpAddr, len: u8) -> bool {
    let (differ, bits) = match (a, net) {
        (IpAddr::V4(a), IpAddr::V4(net)) => (u128::from(a.to_bits() ^ net.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(net)) => (a.to_bits() ^ net.to_bits(), 128),
        _ => return false,
    };
    differ.checked_shr(bits - u32::from(len).min(bits)).unwrap_or(0) == 0
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    services: &'a Services,
}

impl<'a> Parser<'a> {
    fn next_if(&mut self, any: &[&str]) -> bool {
        match self.tokens.split_first() {
            Some((t, rest)) if any.contains(t) => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self, what: &str) -> Result<&'a str, Fail> {
        let (t, rest) = self
            .tokens
            .split_first()
            .ok_or_else(|| Fail::usage(format!("ss: the filter ends where {what} should follow")).hint(FORM))?;
        self.tokens = rest;
        Ok(t)
    }

    fn or(&mut self) -> Result<Expr, Fail> {
        let mut e = self.and()?;
        while self.next_if(&["or", "|", "||"]) {
            e = Expr::Or(Box::new(e), Box::new(self.and()?));
        }
        Ok(e)
    }

    /// Terms that follow each other without a word between them are joined by "and".
    fn and(&mut self) -> Result<Expr, Fail> {
        let mut e = self.term()?;
        while let Some(t) = self.tokens.first() {
            if ["or", "|", "||", ")"].contains(t) {
                break;
            }
            self.next_if(&["and", "&", "&&"]);
            e = Expr::And(Box::new(e), Box::new(self.term()?));
        }
        Ok(e)
    }

    fn term(&mut self) -> Result<Expr, Fail> {
        if self.next_if(&["not", "!"]) {
            return Ok(Expr::Not(Box::new(self.term()?)));
        }
        if self.next_if(&["("]) {
            let e = self.or()?;
            return if self.next_if(&[")"]) { Ok(e) } else { Err(Fail::usage("ss: a ) is missing in the filter")) };
        }
        match self.next("an expression")? {
            word @ ("sport" | "dport") => {
                let cmp = self.cmp();
                let text = self.next("a port")?;
                Ok(Expr::Port { src: word == "sport", cmp, port: self.port(text.trim_start_matches(':'))? })
            }
            word @ ("src" | "dst") => {
                let cmp = self.cmp();
                if !matches!(cmp, Cmp::Eq | Cmp::Ne) {
                    return Err(Fail::usage(format!("ss: {word} can be compared with = and != only")));
                }
                let text = self.next("an address")?;
                self.addr(word == "src", cmp, text)
            }
            "dev" => {
                let cmp = self.cmp();
                Ok(Expr::Dev(cmp == Cmp::Eq, self.next("a device")?.to_owned()))
            }
            other => Err(Fail::usage(format!("ss: {other:?} is no expression of a filter")).hint(FORM)),
        }
    }

    fn cmp(&mut self) -> Cmp {
        let table: [(&[&str], Cmp); 6] = [
            (&["=", "==", "eq"], Cmp::Eq),
            (&["!=", "ne", "neq"], Cmp::Ne),
            (&[">=", "ge", "geq"], Cmp::Ge),
            (&["<=", "le", "leq"], Cmp::Le),
            (&[">", "gt"], Cmp::Gt),
            (&["<", "lt"], Cmp::Lt),
        ];
        table.into_iter().find(|(words, _)| self.next_if(words)).map_or(Cmp::Eq, |(_, c)| c)
    }

    fn port(&self, text: &str) -> Result<u16, Fail> {
        self.services.port(text).ok_or_else(|| Fail::usage(format!("ss: {text:?} does not look like a port")))
    }

    fn addr(&self, src: bool, cmp: Cmp, text: &str) -> Result<Expr, Fail> {
        let bad = || Fail::usage(format!("ss: {text:?} does not look like an address"));
        let plain = text.trim_start_matches("inet:");
        let (host, port) = match plain.rsplit_once(':') {
            Some((h, p)) if !h.contains(':') || h.ends_with(']') => (h, Some(p)),
            _ => (plain, None),
        };
        let port = port.filter(|p| *p != "*").map(|p| self.port(p)).transpose()?;
        let host = host.trim_matches(['[', ']']).trim_start_matches("::ffff:");
        if host.is_empty() || host == "*" {
            return Ok(Expr::Addr { src, cmp, addr: None, port });
        }
        let (addr, len) = host.split_once('/').unwrap_or((host, "32"));
        let len = len.parse().ok().filter(|l| *l <= 32).ok_or_else(bad)?;
        Ok(Expr::Addr { src, cmp, addr: Some((addr.parse().map_err(|_| bad())?, len)), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::ss::tests::row;

    fn filter(text: &str) -> Result<SockFilter, Fail> {
        let words: Vec<String> = text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        SockFilter::parse(&words, StateSet::CONNECTED, &Services::default())
    }

    #[test]
    fn expressions() {
        let s = row("ESTABLISHED", ("10.0.2.15", 80), ("10.0.2.2", 40000));
        let l = row("LISTEN", ("0.0.0.0", 80), ("0.0.0.0", 0));
        for (text, conn, listener) in [
            ("", true, false),
            ("state all", true, true),
            ("state listening", false, true),
            ("state estab state listen sport = :80", true, true),
            ("exclude established", false, true),
            ("state all sport ge 80 and dport != :40000", false, true),
            ("state all ( dport = :40000 or not src 10.0.0.0/8 )", true, true),
            ("dst 10.0.2.2:40000", true, false),
            ("dst 10.0.2.2:1", false, false),
            ("state all ! src 10.0.2.15 sport :80", false, true),
            ("src [::ffff:10.0.2.15]", true, false),
            ("dev = lo", false, false),
            ("dport gt 39999 dport < 40001", true, false),
        ] {
            let f = filter(text).unwrap();
            assert_eq!((f.matches(&s), f.matches(&l)), (conn, listener), "{text}");
        }
    }

    #[test]
    fn errors_name_the_word() {
        for (text, part) in [
            ("state bogus", "wrong state name: bogus"),
            ("sport = :x", "\"x\" does not look like a port"),
            ("sport", "ends where a port"),
            ("dst 1.2.3", "does not look like an address"),
            ("dst 1.2.3.4/40", "does not look like an address"),
            ("( sport = :1", "a ) is missing"),
            ("sport = :1 )", "does not belong here"),
            ("color red", "no expression"),
            ("src > 1.2.3.4", "= and != only"),
        ] {
            let e = filter(text).unwrap_err();
            assert!(format!("{e:?}").contains(&part.replace('"', "\\\"")), "{text}: {e:?}");
            assert_eq!(e.code, 2);
        }
    }
}
