//! The command line of `iptables`: verbs, the general options of a rule; extensions are in `options`.
use super::super::Pf;
use super::super::rules::*;
use super::options::{Building, Ext};
use super::value::{networks, protocol};
use super::{Done, Fail, Names, usage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Append,
    Insert,
    Delete,
    Check,
    Replace,
    New,
    DeleteChain,
    Rename,
    Policy,
    Flush,
    Zero,
    List,
    Rules,
}

/// How a list is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    pub verbose: bool,
    pub numeric: bool,
    pub exact: bool,
    pub line_numbers: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub verb: Verb,
    pub table: String,
    pub chain: Option<String>,
    /// Of a rule in its chain, from 1.
    pub number: Option<usize>,
    /// A chain's new name, a policy.
    pub new_name: Option<String>,
    pub show: Show,
    /// `-L -Z`.
    pub zero: bool,
    /// One for each pair of addresses.
    pub rules: Vec<Rule>,
    /// The chain that the target names, and whether by `-g`.
    pub jump: Option<(String, bool)>,
    pub counters: Option<Counters>,
    pub version: bool,
}

/// Words with a look ahead.
#[derive(Debug)]
pub struct Words<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl<'a> Words<'a> {
    pub fn next(&mut self) -> Option<&'a str> {
        let w = self.words.get(self.at).copied();
        self.at += 1;
        w
    }

    /// The value of an option.
    pub(in crate::net::netfilter) fn value(&mut self, option: &str) -> Done<&'a str> {
        match self.next() {
            Some(w) => Ok(w),
            None => usage(format!("option \"{option}\" requires an argument")),
        }
    }

    /// A value that may be left out.
    pub fn maybe(&mut self) -> Option<&'a str> {
        let w = self.words.get(self.at).copied().filter(|w| !w.starts_with('-') && *w != "!")?;
        self.at += 1;
        Some(w)
    }
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word {
        "-A" | "--append" => Verb::Append,
        "-I" | "--insert" => Verb::Insert,
        "-D" | "--delete" => Verb::Delete,
        "-C" | "--check" => Verb::Check,
        "-R" | "--replace" => Verb::Replace,
        "-N" | "--new" | "--new-chain" => Verb::New,
        "-X" | "--delete-chain" => Verb::DeleteChain,
        "-E" | "--rename-chain" => Verb::Rename,
        "-P" | "--policy" => Verb::Policy,
        "-F" | "--flush" => Verb::Flush,
        "-Z" | "--zero" => Verb::Zero,
        "-L" | "--list" => Verb::List,
        "-S" | "--list-rules" => Verb::Rules,
        _ => return None,
    })
}

fn letter(v: Verb) -> char {
    match v {
        Verb::Append => 'A',
        Verb::Insert => 'I',
        Verb::Delete => 'D',
        Verb::Check => 'C',
        Verb::Replace => 'R',
        Verb::New => 'N',
        Verb::DeleteChain => 'X',
        Verb::Rename => 'E',
        Verb::Policy => 'P',
        Verb::Flush => 'F',
        Verb::Zero => 'Z',
        Verb::List => 'L',
        Verb::Rules => 'S',
    }
}

/// Everything that is being read.
struct State<'n> {
    p: Parsed,
    verb: Option<Verb>,
    b: Building<'n>,
    src: Option<(String, bool)>,
    dst: Option<(String, bool)>,
    target: Option<String>,
}

pub fn parse(pf: Pf, args: &[&str], names: &dyn Names) -> Done<Parsed> {
    // `--option=value`, and clusters of letters as in `-nvL`.
    let words = spread(args);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut w = Words { words: &words, at: 0 };
    let p = Parsed {
        verb: Verb::List,
        table: "filter".into(),
        chain: None,
        number: None,
        new_name: None,
        show: Show::default(),
        zero: false,
        rules: Vec::new(),
        jump: None,
        counters: None,
        version: false,
    };
    let mut s = State { p, verb: None, b: Building::new(pf, names), src: None, dst: None, target: None };
    let mut inv = false;
    while let Some(word) = w.next() {
        if word == "!" {
            if inv {
                return usage("multiple consecutive ! not allowed");
            }
            inv = true;
            continue;
        }
        one(&mut s, &mut w, word, inv)?;
        inv = false;
    }
    finish(s, pf)
}

/// Letters that stand alone and may stand together.
const FLAGS: &str = "nvxLSFZ46";

fn spread(args: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for a in args {
        let cluster = a.strip_prefix('-').filter(|r| !r.starts_with('-') && r.len() > 1);
        if let (true, Some((o, v))) = (a.starts_with("--"), a.split_once('=')) {
            out.extend([o.to_owned(), v.to_owned()]);
        } else if let Some(c) = cluster {
            // What follows a letter with a value is that value (`-ptcp`, `-tnat`).
            let flags = c.chars().take_while(|l| FLAGS.contains(*l)).count();
            out.extend(c.chars().take(flags).map(|l| format!("-{l}")));
            let rest = &c[c.char_indices().nth(flags).map_or(c.len(), |(n, _)| n)..];
            if let Some(l) = rest.chars().next() {
                out.push(format!("-{l}"));
                let value = &rest[l.len_utf8()..];
                if !value.is_empty() {
                    out.push(value.to_owned());
                }
            }
        } else {
            out.push((*a).to_owned());
        }
    }
    out
}

fn one(s: &mut State<'_>, w: &mut Words<'_>, word: &str, inv: bool) -> Done {
    if let Some(v) = verb(word) {
        return command(s, w, word, v);
    }
    match word {
        "-t" | "--table" => s.p.table = w.value(word)?.to_owned(),
        "-v" | "--verbose" => s.p.show.verbose = true,
        "-n" | "--numeric" => s.p.show.numeric = true,
        "-x" | "--exact" => s.p.show.exact = true,
        "--line-numbers" | "--line" => s.p.show.line_numbers = true,
        "-w" | "--wait" | "-W" | "--wait-interval" => {
            // There is no other writer to wait for.
            let _ = w.maybe();
        }
        "-4" | "--ipv4" | "-6" | "--ipv6" => {}
        "-V" | "--version" => s.p.version = true,
        "-p" | "--protocol" | "--proto" => {
            s.b.ip.proto = protocol(w.value(word)?)?;
            s.b.ip.inv |= if inv { INV_PROTO } else { 0 };
            if s.b.ip.proto == 0 && inv {
                return usage("rule would never match protocol");
            }
        }
        "-s" | "--source" | "--src" => s.src = Some((w.value(word)?.to_owned(), inv)),
        "-d" | "--destination" | "--dst" => s.dst = Some((w.value(word)?.to_owned(), inv)),
        "-i" | "--in-interface" => {
            s.b.ip.iin = interface(w.value(word)?)?;
            s.b.ip.inv |= if inv { INV_VIA_IN } else { 0 };
        }
        "-o" | "--out-interface" => {
            s.b.ip.iout = interface(w.value(word)?)?;
            s.b.ip.inv |= if inv { INV_VIA_OUT } else { 0 };
        }
        "-f" | "--fragment" if s.b.pf == Pf::V4 => {
            s.b.ip.frag = true;
            s.b.ip.inv |= if inv { INV_FRAG } else { 0 };
        }
        "-j" | "--jump" => jump(s, w.value(word)?, false)?,
        "-g" | "--goto" => jump(s, w.value(word)?, true)?,
        "-m" | "--match" => s.b.load(w.value(word)?)?,
        "-c" | "--set-counters" => {
            let read = |w: Option<&str>| w.and_then(|n| n.parse().ok());
            let (packets, bytes) = (read(w.next()), read(w.next()));
            let Some((packets, bytes)) = packets.zip(bytes) else {
                return usage("-c requires packet and byte counter");
            };
            s.p.counters = Some(Counters { packets, bytes });
        }
        _ if word.starts_with('-') => match s.b.option(word, inv, w)? {
            Ext::Taken => {}
            Ext::Unknown => return usage(format!("unknown option \"{word}\"")),
        },
        _ => return Err(Fail::Bare(format!("Bad argument `{word}'"))),
    }
    Ok(())
}

fn command(s: &mut State<'_>, w: &mut Words<'_>, word: &str, v: Verb) -> Done {
    match s.verb {
        // -L -Z and -F -Z stand together.
        Some(Verb::List | Verb::Rules) if v == Verb::Zero => {
            s.p.zero = true;
            return Ok(());
        }
        Some(Verb::Zero) if matches!(v, Verb::List | Verb::Rules) => s.p.zero = true,
        Some(old) => return usage(format!("Cannot use -{} with -{}", letter(v), letter(old))),
        None => {}
    }
    s.verb = Some(v);
    let index = |w: &mut Words<'_>| -> Done<Option<usize>> {
        let Some(text) = w.words.get(w.at).copied().filter(|t| t.starts_with(|c: char| c.is_ascii_digit())) else {
            return Ok(None);
        };
        w.at += 1;
        match text.parse::<usize>() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => usage(format!("Invalid rule number `{text}'")),
        }
    };
    match v {
        Verb::Append | Verb::Check => s.p.chain = Some(w.value(word)?.to_owned()),
        Verb::Insert | Verb::Delete => {
            s.p.chain = Some(w.value(word)?.to_owned());
            s.p.number = index(w)?;
        }
        Verb::Replace => {
            s.p.chain = Some(w.value(word)?.to_owned());
            s.p.number = index(w)?;
            if s.p.number.is_none() {
                return usage("-R requires a rule number");
            }
        }
        Verb::New => s.p.chain = Some(new_chain_name(w.value(word)?)?),
        Verb::Rename => {
            s.p.chain = Some(w.value(word)?.to_owned());
            match w.maybe() {
                Some(n) => s.p.new_name = Some(new_chain_name(n)?),
                None => return usage("-E requires old-chain-name and new-chain-name"),
            }
        }
        Verb::Policy => {
            s.p.chain = Some(w.value(word)?.to_owned());
            match w.maybe() {
                Some(n) => s.p.new_name = Some(n.to_owned()),
                None => return usage("-P requires a chain and a policy"),
            }
        }
        Verb::List | Verb::Rules | Verb::Zero => {
            s.p.chain = w.maybe().map(str::to_owned);
            s.p.number = if s.p.chain.is_some() { index(w)? } else { None };
        }
        Verb::Flush | Verb::DeleteChain => s.p.chain = w.maybe().map(str::to_owned),
    }
    Ok(())
}

pub fn new_chain_name(name: &str) -> Done<String> {
    if name.starts_with(['-', '!']) {
        return usage(format!("chain name not allowed to start with `{}'", &name[..1]));
    }
    if name.len() > CHAIN_NAME_MAX {
        return usage(format!("chain name `{name}' too long (must be under {} chars)", CHAIN_NAME_MAX + 1));
    }
    if name.is_empty() || name.contains(char::is_whitespace) {
        return usage("Invalid chain name");
    }
    if super::target_options::is_extension(name) {
        return usage("chain name may not clash with target name");
    }
    Ok(name.to_owned())
}

fn interface(word: &str) -> Done<IfMatch> {
    match IfMatch::parse(word) {
        Some(m) => Ok(m),
        None if word.is_empty() => usage("Empty interface is likely to be undesired"),
        None => usage(format!("interface name `{word}' must be shorter than IFNAMSIZ (15)")),
    }
}

fn jump(s: &mut State<'_>, name: &str, goto: bool) -> Done {
    if s.target.is_some() {
        return usage("multiple -j flags not allowed");
    }
    if name.len() > CHAIN_NAME_MAX {
        return usage(format!("Invalid target name `{name}' ({} chars max)", CHAIN_NAME_MAX));
    }
    s.target = Some(name.to_owned());
    if goto || !s.b.target(name)? {
        s.p.jump = Some((name.to_owned(), goto));
    }
    Ok(())
}

fn finish(mut s: State<'_>, pf: Pf) -> Done<Parsed> {
    if s.p.version {
        return Ok(s.p);
    }
    let Some(v) = s.verb else { return usage("no command specified") };
    s.p.verb = v;
    let has_rule = matches!(v, Verb::Append | Verb::Insert | Verb::Delete | Verb::Check | Verb::Replace);
    if !has_rule {
        return Ok(s.p);
    }
    if let Some(c) = s.p.chain.as_deref() {
        let (any_in, any_out) = (s.b.ip.iin.is_any(), s.b.ip.iout.is_any());
        if matches!(c, "PREROUTING" | "INPUT") && !any_out {
            return Err(Fail::Extension(format!("Can't use -o with {c}")));
        }
        if matches!(c, "POSTROUTING" | "OUTPUT") && !any_in {
            return Err(Fail::Extension(format!("Can't use -i with {c}")));
        }
    }
    let (matches, target) = s.b.finish()?;
    let side = |side: &Option<(String, bool)>| -> Done<(Vec<Masked>, bool)> {
        match side {
            None => Ok((vec![Masked::default()], false)),
            Some((text, inv)) => Ok((networks(pf, text)?, *inv)),
        }
    };
    let (src, src_inv) = side(&s.src)?;
    let (dst, dst_inv) = side(&s.dst)?;
    if (src_inv && src.len() > 1) || (dst_inv && dst.len() > 1) {
        return usage("! not allowed with multiple source or destination IP addresses");
    }
    let inv = s.b.ip.inv | if src_inv { INV_SRC } else { 0 } | if dst_inv { INV_DST } else { 0 };
    for a in &src {
        for b in &dst {
            let ip = IpMatch { src: *a, dst: *b, inv, ..s.b.ip };
            let counters = s.p.counters.unwrap_or_default();
            s.p.rules.push(Rule { ip, matches: matches.clone(), target: target.clone(), counters });
        }
    }
    Ok(s.p)
}
