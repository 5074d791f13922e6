//! Options of matches.
use super::super::Pf;
use super::super::rules::*;
use super::parse::Words;
use super::physdev;
use super::target_options::TargetBuilding;
use super::value::*;
use super::{Done, Fail, Names, usage};
use crate::net::netfilter::xt;

/// What became of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext {
    Taken,
    Unknown,
}

/// A rule while its options are read.
pub struct Building<'n> {
    pub pf: Pf,
    pub names: &'n dyn Names,
    pub ip: IpMatch,
    matches: Vec<Match>,
    target: Option<TargetBuilding>,
}

/// `-m statistic` before it is known which of both it is.
const NO_MODE: Match = Match::StatisticNth { every: u32::MAX, packet: u32::MAX, inv: false, count: State(0) };

/// ICMP types by name: type, code range; the first name of a pair is the one that is shown.
pub const ICMP_TYPES: &[(&str, u8, (u8, u8))] = &[
    ("any", 255, (0, 255)),
    ("echo-reply", 0, (0, 255)),
    ("pong", 0, (0, 255)),
    ("destination-unreachable", 3, (0, 255)),
    ("network-unreachable", 3, (0, 0)),
    ("host-unreachable", 3, (1, 1)),
    ("protocol-unreachable", 3, (2, 2)),
    ("port-unreachable", 3, (3, 3)),
    ("fragmentation-needed", 3, (4, 4)),
    ("source-route-failed", 3, (5, 5)),
    ("network-unknown", 3, (6, 6)),
    ("host-unknown", 3, (7, 7)),
    ("network-prohibited", 3, (9, 9)),
    ("host-prohibited", 3, (10, 10)),
    ("TOS-network-unreachable", 3, (11, 11)),
    ("TOS-host-unreachable", 3, (12, 12)),
    ("communication-prohibited", 3, (13, 13)),
    ("host-precedence-violation", 3, (14, 14)),
    ("precedence-cutoff", 3, (15, 15)),
    ("source-quench", 4, (0, 255)),
    ("redirect", 5, (0, 255)),
    ("network-redirect", 5, (0, 0)),
    ("host-redirect", 5, (1, 1)),
    ("TOS-network-redirect", 5, (2, 2)),
    ("TOS-host-redirect", 5, (3, 3)),
    ("echo-request", 8, (0, 255)),
    ("ping", 8, (0, 255)),
    ("router-advertisement", 9, (0, 255)),
    ("router-solicitation", 10, (0, 255)),
    ("time-exceeded", 11, (0, 255)),
    ("ttl-exceeded", 11, (0, 255)),
    ("ttl-zero-during-transit", 11, (0, 0)),
    ("ttl-zero-during-reassembly", 11, (1, 1)),
    ("parameter-problem", 12, (0, 255)),
    ("ip-header-bad", 12, (0, 0)),
    ("required-option-missing", 12, (1, 1)),
    ("timestamp-request", 13, (0, 255)),
    ("timestamp-reply", 14, (0, 255)),
    ("address-mask-request", 17, (0, 255)),
    ("address-mask-reply", 18, (0, 255)),
];

pub const ICMP6_TYPES: &[(&str, u8, (u8, u8))] = &[
    ("destination-unreachable", 1, (0, 255)),
    ("no-route", 1, (0, 0)),
    ("communication-prohibited", 1, (1, 1)),
    ("beyond-scope", 1, (2, 2)),
    ("address-unreachable", 1, (3, 3)),
    ("port-unreachable", 1, (4, 4)),
    ("failed-policy", 1, (5, 5)),
    ("reject-route", 1, (6, 6)),
    ("packet-too-big", 2, (0, 255)),
    ("time-exceeded", 3, (0, 255)),
    ("ttl-exceeded", 3, (0, 255)),
    ("ttl-zero-during-transit", 3, (0, 0)),
    ("ttl-zero-during-reassembly", 3, (1, 1)),
    ("parameter-problem", 4, (0, 255)),
    ("bad-header", 4, (0, 0)),
    ("unknown-header-type", 4, (1, 1)),
    ("unknown-option", 4, (2, 2)),
    ("echo-request", 128, (0, 255)),
    ("ping", 128, (0, 255)),
    ("echo-reply", 129, (0, 255)),
    ("pong", 129, (0, 255)),
    ("router-solicitation", 133, (0, 255)),
    ("router-advertisement", 134, (0, 255)),
    ("neighbour-solicitation", 135, (0, 255)),
    ("neighbor-solicitation", 135, (0, 255)),
    ("neighbour-advertisement", 136, (0, 255)),
    ("neighbor-advertisement", 136, (0, 255)),
    ("redirect", 137, (0, 255)),
];

pub fn icmp_types(pf: Pf) -> &'static [(&'static str, u8, (u8, u8))] {
    if pf == Pf::V4 { ICMP_TYPES } else { ICMP6_TYPES }
}

fn icmp_type(pf: Pf, word: &str) -> Done<(u8, (u8, u8))> {
    let lower = word.to_ascii_lowercase();
    let named: Vec<_> = icmp_types(pf).iter().filter(|t| t.0.to_ascii_lowercase().starts_with(&lower)).collect();
    if let Some(t) = named.iter().find(|t| t.0.eq_ignore_ascii_case(&lower)).or(named.first()) {
        return Ok((t.1, t.2));
    }
    let (t, c) = word.split_once('/').map_or((word, None), |(t, c)| (t, Some(c)));
    let read = |w: &str| number(w).and_then(|n| u8::try_from(n).ok());
    match (read(t), c.map(read)) {
        (Some(t), None) => Ok((t, (0, 255))),
        (Some(t), Some(Some(c))) => Ok((t, (c, c))),
        _ => usage(format!("Invalid ICMP type `{word}'")),
    }
}

/// Names of TCP flags by bit, as they are listed.
pub const TCP_FLAGS: [(&str, u8); 6] = [("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32)];

fn tcp_flags(word: &str) -> Done<u8> {
    word.split(',').filter(|w| !w.is_empty()).try_fold(0, |all, w| match w.to_ascii_uppercase().as_str() {
        "ALL" => Ok(all | 0x3f),
        "NONE" => Ok(all),
        w => match TCP_FLAGS.iter().find(|f| f.0 == w) {
            Some(f) => Ok(all | f.1),
            None => usage(format!("Unknown TCP flag `{w}'")),
        },
    })
}

/// States that `--ctstate` and `--state` know, as they are listed.
pub const CT_STATES: [(&str, u16); 7] = [
    ("INVALID", CT_INVALID),
    ("NEW", CT_NEW),
    ("RELATED", CT_RELATED),
    ("ESTABLISHED", CT_ESTABLISHED),
    ("UNTRACKED", CT_UNTRACKED),
    ("SNAT", CT_SNAT),
    ("DNAT", CT_DNAT),
];
pub const CT_STATUS: [(&str, u16); 4] = [("EXPECTED", 1), ("SEEN_REPLY", 2), ("ASSURED", 4), ("CONFIRMED", 8)];

fn ct_states(word: &str, simple: bool, what: &str) -> Done<u16> {
    word.split(',').try_fold(0, |all, w| {
        let known = CT_STATES.iter().take(if simple { 5 } else { 7 });
        match known.into_iter().find(|s| s.0.eq_ignore_ascii_case(w)) {
            Some(s) => Ok(all | s.1),
            None => usage(format!("Bad {what} \"{w}\"")),
        }
    })
}

fn range_u32(word: &str, sep: char) -> Option<(u32, u32)> {
    let (lo, hi) = word.split_once(sep).unwrap_or((word, word));
    let read = |w: &str, empty: u32| if w.is_empty() { Some(empty) } else { number(w).and_then(|n| n.try_into().ok()) };
    Some((read(lo, 0)?, read(hi, u32::MAX)?))
}

/// `N[/UNIT]` in the kernel's units: ten thousandths of a second for one packet.
fn rate(word: &str) -> Done<u32> {
    let (n, unit) = word.split_once('/').unwrap_or((word, "second"));
    let units = [("second", 1u64), ("minute", 60), ("hour", 3600), ("day", 86_400)];
    let unit = units.iter().find(|u| !unit.is_empty() && u.0.starts_with(&unit.to_ascii_lowercase()));
    let (Ok(n), Some(unit)) = (n.parse::<u64>(), unit) else { return usage(format!("bad rate \"{word}\"'")) };
    if n == 0 {
        return usage(format!("bad rate \"{word}\"'"));
    }
    if n / unit.1 > 10_000 {
        return usage(format!("Rate too fast \"{word}\""));
    }
    Ok((10_000 * unit.1 / n) as u32)
}

impl<'n> Building<'n> {
    pub fn new(pf: Pf, names: &'n dyn Names) -> Building<'n> {
        Building { pf, names, ip: IpMatch::default(), matches: Vec::new(), target: None }
    }

    /// `-m NAME`.
    pub fn load(&mut self, name: &str) -> Done {
        let any = Ports::ANY;
        self.matches.push(match name {
            "tcp" => Match::Tcp { sport: any, dport: any, option: 0, flag_mask: 0, flag_cmp: 0, inv: 0 },
            "udp" => Match::Udp { sport: any, dport: any, inv: 0 },
            "icmp" if self.pf == Pf::V4 => Match::Icmp { kind: 255, code: (0, 255), inv: false },
            "icmp6" | "icmpv6" if self.pf == Pf::V6 => Match::Icmp { kind: 255, code: (0, 255), inv: false },
            "conntrack" => Match::Conntrack(Box::default()),
            "state" => Match::State(0),
            "comment" => Match::Comment("".into()),
            "mark" => Match::Mark { mark: 0, mask: 0, inv: false },
            "connmark" => Match::Connmark { mark: 0, mask: 0, inv: false },
            "statistic" => NO_MODE,
            "addrtype" => Match::Addrtype { source: 0, dest: 0, flags: 0 },
            "multiport" => Match::Multiport { which: MultiportWhich::Either, ports: Vec::new(), inv: false },
            "limit" => Match::Limit { avg: 10_000 * 3600 / 3, burst: 5, credit: State(0), prev: State(0) },
            "length" => Match::Length { min: 1, max: 0, inv: false },
            "physdev" => Match::Physdev(Box::default()),
            "owner" => Match::Owner { uid: (0, 0), gid: (0, 0), which: 0, inv: 0 },
            _ => match xt::load(self.pf, name) {
                Some(x) => Match::Xt(Box::new(x)),
                None => {
                    return Err(Fail::Extension(format!("Couldn't load match `{name}':No such file or directory")));
                }
            },
        });
        Ok(())
    }

    /// Whether `name` is a target that is no chain.
    pub fn target(&mut self, name: &str) -> Done<bool> {
        self.target = TargetBuilding::new(self.pf, name);
        Ok(self.target.is_some())
    }

    fn proto_name(&self) -> &'static str {
        if self.ip.proto == 17 { "udp" } else { "tcp" }
    }

    pub fn option(&mut self, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        if let Some(t) = &mut self.target
            && t.option(word, inv, w)? == Ext::Taken
        {
            return Ok(Ext::Taken);
        }
        if self.match_option(word, inv, w)? == Ext::Taken {
            return Ok(Ext::Taken);
        }
        // The protocol brings its own match, when an option of it is named.
        let own = match self.ip.proto {
            6 => "tcp",
            17 => "udp",
            1 if self.pf == Pf::V4 => "icmp",
            58 if self.pf == Pf::V6 => "icmp6",
            _ => return Ok(Ext::Unknown),
        };
        if self.ip.inv & INV_PROTO != 0 {
            return Ok(Ext::Unknown);
        }
        let loaded = self.matches.len();
        self.load(own)?;
        let done = self.match_option(word, inv, w)?;
        if done == Ext::Unknown {
            self.matches.truncate(loaded);
        }
        Ok(done)
    }

    /// The latest match that knows the option.
    fn match_option(&mut self, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let (pf, names, proto) = (self.pf, self.names, self.proto_name());
        for m in self.matches.iter_mut().rev() {
            let done = match m {
                Match::Tcp { .. } | Match::Udp { .. } => port_option(m, word, inv, w, names)?,
                Match::Multiport { .. } => multiport_option(m, word, inv, w, proto, names)?,
                Match::Conntrack(c) => conntrack_option(pf, c, word, inv, w, names)?,
                Match::Addrtype { .. } => addrtype_option(m, word, inv, w)?,
                Match::StatisticRandom { .. } | Match::StatisticNth { .. } => statistic_option(m, word, inv, w)?,
                _ => small_option(pf, m, word, inv, w)?,
            };
            if done == Ext::Taken {
                return Ok(done);
            }
        }
        Ok(Ext::Unknown)
    }

    /// What the extensions say when everything has been read.
    pub fn finish(&mut self) -> Done<(Vec<Match>, Target)> {
        for m in &mut self.matches {
            if let Match::Xt(x) = m
                && let xt::Xt::Hashlimit(h) = &mut **x
            {
                h.settle();
            }
        }
        for m in &self.matches {
            check(self, m)?;
        }
        let target = match self.target.take() {
            Some(t) => t.finish(self.pf, self.ip.proto, self.ip.inv & INV_PROTO != 0)?,
            None => Target::None,
        };
        Ok((std::mem::take(&mut self.matches), target))
    }
}

fn port_option(m: &mut Match, word: &str, inverted: bool, w: &mut Words<'_>, names: &dyn Names) -> Done<Ext> {
    let name = if matches!(m, Match::Tcp { .. }) { "tcp" } else { "udp" };
    match (m, word) {
        (Match::Tcp { sport, inv, .. } | Match::Udp { sport, inv, .. }, "--sport" | "--source-port") => {
            *sport = ports(w.value(word)?, name, names)?;
            *inv |= u8::from(inverted);
        }
        (Match::Tcp { dport, inv, .. } | Match::Udp { dport, inv, .. }, "--dport" | "--destination-port") => {
            *dport = ports(w.value(word)?, name, names)?;
            *inv |= u8::from(inverted) << 1;
        }
        (Match::Tcp { flag_mask, flag_cmp, inv, .. }, "--syn") => {
            (*flag_mask, *flag_cmp) = (0x17, 2);
            *inv |= if inverted { TCP_INV_FLAGS } else { 0 };
        }
        (Match::Tcp { flag_mask, flag_cmp, inv, .. }, "--tcp-flags") => {
            *flag_mask = tcp_flags(w.value(word)?)?;
            match w.next() {
                Some(c) => *flag_cmp = tcp_flags(c)?,
                None => return usage("--tcp-flags requires two args."),
            }
            *inv |= if inverted { TCP_INV_FLAGS } else { 0 };
        }
        (Match::Tcp { option, inv, .. }, "--tcp-option") => {
            let text = w.value(word)?;
            match number(text).filter(|n| (1..256).contains(n)) {
                Some(n) => *option = n as u8,
                None => return usage(format!("Bad TCP option \"{text}\"")),
            }
            *inv |= if inverted { TCP_INV_OPTION } else { 0 };
        }
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn multiport_option(
    m: &mut Match,
    word: &str,
    inverted: bool,
    w: &mut Words<'_>,
    proto: &str,
    names: &dyn Names,
) -> Done<Ext> {
    let Match::Multiport { which, ports: list, inv } = m else { return Ok(Ext::Unknown) };
    *which = match word {
        "--sports" | "--source-ports" => MultiportWhich::Source,
        "--dports" | "--destination-ports" => MultiportWhich::Dest,
        "--ports" => MultiportWhich::Either,
        _ => return Ok(Ext::Unknown),
    };
    *inv = inverted;
    for part in w.value(word)?.split(',') {
        list.push(ports(part, proto, names)?);
    }
    // A range takes two of the fifteen places.
    if list.iter().map(|p| if p.lo == p.hi { 1 } else { 2 }).sum::<usize>() > 15 {
        return usage("too many ports specified");
    }
    Ok(Ext::Taken)
}

fn conntrack_option(pf: Pf, c: &mut CtMatch, word: &str, inv: bool, w: &mut Words<'_>, names: &dyn Names) -> Done<Ext> {
    let sides = ["orig", "repl"];
    let mut flag = 0;
    for (n, side) in sides.iter().enumerate() {
        for (k, end) in ["src", "dst"].iter().enumerate() {
            let at = n * 2 + k;
            if word == format!("--ct{side}{end}") {
                c.addrs[at] = network(pf, w.value(word)?)?;
                flag = XT_CONNTRACK_ORIGSRC << at;
            } else if word == format!("--ct{side}{end}port") {
                let p = ports(w.value(word)?, "tcp", names)?;
                c.ports[at] = (p.lo, p.hi);
                flag = XT_CONNTRACK_ORIGSRC_PORT << at;
            }
        }
    }
    match word {
        _ if flag != 0 => {}
        "--ctstate" => {
            c.state = ct_states(w.value(word)?, false, "ctstate")?;
            flag = XT_CONNTRACK_STATE;
        }
        "--ctproto" => {
            c.proto = protocol(w.value(word)?)?;
            flag = XT_CONNTRACK_PROTO;
        }
        "--ctstatus" => {
            let mut bits = 0;
            for s in w.value(word)?.split(',') {
                match CT_STATUS.iter().find(|k| k.0.eq_ignore_ascii_case(s)) {
                    Some(k) => bits |= k.1,
                    None if s.eq_ignore_ascii_case("NONE") => {}
                    None => return usage(format!("Bad ctstatus \"{s}\"")),
                }
            }
            c.status = bits;
            flag = XT_CONNTRACK_STATUS;
        }
        "--ctexpire" => {
            let text = w.value(word)?;
            match range_u32(text, ':') {
                Some(r) => c.expires = r,
                None => return usage(format!("conntrack: bad value for option \"--ctexpire\": {text}")),
            }
            flag = XT_CONNTRACK_EXPIRES;
        }
        "--ctdir" => {
            let text = w.value(word)?;
            flag = XT_CONNTRACK_DIRECTION;
            match text {
                "ORIGINAL" => {}
                "REPLY" => c.inv |= XT_CONNTRACK_DIRECTION,
                _ => return usage(format!("conntrack: Bad value for \"--ctdir\" option: \"{text}\"")),
            }
        }
        _ => return Ok(Ext::Unknown),
    }
    c.flags |= flag;
    if inv {
        c.inv |= flag;
    }
    Ok(Ext::Taken)
}

fn addrtype_option(m: &mut Match, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
    let Match::Addrtype { source, dest, flags } = m else { return Ok(Ext::Unknown) };
    let types = |text: &str| {
        text.split(',').try_fold(0, |all, t| {
            let found = ADDRTYPES.iter().position(|n| n.eq_ignore_ascii_case(t));
            found.map_or_else(|| usage(format!("addrtype: bad type `{t}'")), |n| Ok(all | 1 << n))
        })
    };
    match word {
        "--src-type" => {
            *source = types(w.value(word)?)?;
            *flags |= if inv { ADDRTYPE_INV_SRC } else { 0 };
        }
        "--dst-type" => {
            *dest = types(w.value(word)?)?;
            *flags |= if inv { ADDRTYPE_INV_DST } else { 0 };
        }
        "--limit-iface-in" => *flags |= ADDRTYPE_LIMIT_IN,
        "--limit-iface-out" => *flags |= ADDRTYPE_LIMIT_OUT,
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn statistic_option(m: &mut Match, word: &str, inverted: bool, w: &mut Words<'_>) -> Done<Ext> {
    match (word, &mut *m) {
        ("--mode", _) => match w.value(word)? {
            "random" => *m = Match::StatisticRandom { p: u32::MAX, inv: false },
            "nth" => *m = NO_MODE,
            other => return usage(format!("Bad mode \"{other}\"")),
        },
        ("--probability", Match::StatisticRandom { p, inv }) => {
            let text = w.value(word)?;
            match text.parse::<f64>() {
                Ok(x) if (0.0..=1.0).contains(&x) => *p = (x * f64::from(1u32 << 31)).round() as u32,
                _ => return usage("--probability must be between 0 and 1"),
            }
            *inv = inverted;
        }
        ("--every", Match::StatisticNth { every, inv, .. }) => {
            let text = w.value(word)?;
            match number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0) {
                Some(n) => *every = n - 1,
                None => return usage("cannot parse --every, must be greater than 0"),
            }
            *inv = inverted;
        }
        ("--packet", Match::StatisticNth { packet, .. }) => {
            let text = w.value(word)?;
            match number(text).and_then(|n| u32::try_from(n).ok()) {
                Some(n) => *packet = n,
                None => return usage("cannot parse --packet"),
            }
        }
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn small_option(pf: Pf, m: &mut Match, word: &str, inverted: bool, w: &mut Words<'_>) -> Done<Ext> {
    match (m, word) {
        (Match::Icmp { kind, code, inv }, "--icmp-type" | "--icmpv6-type") => {
            (*kind, *code) = icmp_type(pf, w.value(word)?)?;
            *inv = inverted;
        }
        (Match::State(bits), "--state") => {
            *bits = ct_states(w.value(word)?, true, "state")?;
            if inverted {
                *bits = !*bits & (CT_INVALID | CT_ESTABLISHED | CT_RELATED | CT_NEW | CT_UNTRACKED);
            }
        }
        (Match::Comment(text), "--comment") => {
            let value = w.value(word)?;
            if value.len() > 255 {
                return usage("COMMENT must be shorter than 256 chars");
            }
            *text = value.into();
        }
        (Match::Mark { mark, mask, inv } | Match::Connmark { mark, mask, inv }, "--mark") => {
            let (value, m) = masked_number(w.value(word)?, "mark")?;
            (*mark, *mask, *inv) = (value, m.unwrap_or(u32::MAX), inverted);
        }
        (Match::Limit { avg, .. }, "--limit") => *avg = rate(w.value(word)?)?,
        (Match::Limit { burst, .. }, "--limit-burst") => {
            let text = w.value(word)?;
            match number(text).filter(|n| (0..=10_000).contains(n)) {
                Some(n) => *burst = n as u32,
                None => return usage(format!("bad --limit-burst `{text}'")),
            }
        }
        (Match::Owner { which, inv, .. }, "--socket-exists") => {
            *which |= OWNER_SOCKET;
            *inv |= if inverted { OWNER_SOCKET } else { 0 };
        }
        (Match::Owner { uid, gid, which, inv }, "--uid-owner" | "--gid-owner") => {
            let (range, bit) = if word == "--uid-owner" { (uid, OWNER_UID) } else { (gid, OWNER_GID) };
            let text = w.value(word)?;
            let text = if text == "root" { "0" } else { text };
            let Some(found) = range_u32(text, '-').filter(|r| r.0 <= r.1) else {
                return usage(format!("owner: Bad value for \"{word}\" option: \"{text}\""));
            };
            (*range, *which) = (found, *which | bit);
            *inv |= if inverted { bit } else { 0 };
        }
        (Match::Physdev(p), _) => return physdev::option(p, word, inverted, w),
        (Match::Xt(x), _) => return x.option(pf, word, inverted, w),
        (Match::Length { min, max, inv }, "--length") => {
            let text = w.value(word)?;
            let found = range_u32(text, ':').filter(|r| r.0 <= r.1);
            match found {
                Some((lo, hi)) if lo <= 65_535 => (*min, *max) = (lo as u16, hi.min(65_535) as u16),
                _ => return usage(format!("length: bad value for option \"--length\": {text}")),
            }
            *inv = inverted;
        }
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

/// Options that a match cannot be without.
fn check(b: &Building<'_>, m: &Match) -> Done {
    let must = |name: &str, option: &str| -> Done {
        Err(Fail::Extension(format!("{name}: option \"{option}\" must be specified")))
    };
    match m {
        Match::Conntrack(c) if c.flags == 0 => usage("conntrack: At least one option is required"),
        Match::State(0) => must("state", "--state"),
        Match::Comment(t) if t.is_empty() => must("comment", "--comment"),
        Match::Mark { mask: 0, mark: 0, inv: false } => must("mark", "--mark"),
        Match::Connmark { mask: 0, mark: 0, inv: false } => must("connmark", "--mark"),
        Match::StatisticRandom { p: u32::MAX, .. } | Match::StatisticNth { every: u32::MAX, packet: u32::MAX, .. } => {
            usage("--probability must be specified when using random mode")
        }
        Match::StatisticNth { packet: u32::MAX, .. } => {
            Err(Fail::Usage("statistic: option \"--every\" also requires \"--packet\".".into()))
        }
        Match::StatisticNth { every, packet, .. } if packet > every => usage("the --packet p must be 0 <= p <= n-1"),
        Match::Addrtype { source: 0, dest: 0, .. } => usage("addrtype: you must specify --src-type or --dst-type"),
        Match::Multiport { ports, .. } if ports.is_empty() => usage("multiport expection an option"),
        Match::Multiport { .. } if !matches!(b.ip.proto, 6 | 17 | 33 | 132 | 136) || b.ip.inv & INV_PROTO != 0 => {
            usage("multiport needs `-p tcp', `-p udp', `-p udplite', `-p sctp' or `-p dccp'")
        }
        Match::Length { min: 1, max: 0, .. } => must("length", "--length"),
        Match::Xt(x) => x.finish(),
        Match::Physdev(p) if p.which == 0 => usage("PHYSDEV: no physdev option specified"),
        Match::Owner { which: 0, .. } => {
            usage("owner: At least one of --uid-owner, --gid-owner or --socket-exists is required")
        }
        _ => Ok(()),
    }
}
