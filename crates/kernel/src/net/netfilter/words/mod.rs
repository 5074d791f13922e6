//! The commands `iptables`, `ip6tables`, `iptables-save` and `iptables-restore` in their own words: what they change, what
//! they print and what they say when they refuse, as version 1.8.9 (legacy) does.
mod conntrack;
mod list;
pub(super) mod options;
pub(super) mod parse;
mod physdev;
pub(super) mod print;
mod restore;
mod target_options;
pub(super) mod value;

use super::Pf;
use super::rules::*;
use crate::ids::NsId;
use crate::kernel::Kernel;
use belljar_abi::Errno;
use parse::{Parsed, Verb};

/// What a command wrote, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// Names of services and protocols, by the machine's lists.
pub trait Names {
    /// A port's name for `tcp` or `udp`.
    fn service(&self, port: u16, proto: &str) -> Option<String>;
    fn port(&self, name: &str, proto: &str) -> Option<u16>;
}

/// Numbers only.
#[derive(Clone, Copy, Debug)]
pub struct NoNames;

impl Names for NoNames {
    fn service(&self, _: u16, _: &str) -> Option<String> {
        None
    }
    fn port(&self, _: &str, _: &str) -> Option<u16> {
        None
    }
}

/// Why a command has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fail {
    /// Words that mean nothing: exit code 2 and a hint.
    Usage(String),
    /// The same, as extensions say it: with an empty line before the hint.
    Extension(String),
    /// Without the program's name before it.
    Bare(String),
    /// The kernel's, with what it means for this verb.
    Kernel(Errno),
    /// Said by the library, exit code 1.
    Message(&'static str),
    /// There is no such table.
    Table(String),
}

pub(super) type Done<T = ()> = Result<T, Fail>;

pub(super) fn usage<T>(text: impl Into<String>) -> Done<T> {
    Err(Fail::Usage(text.into()))
}

fn program(pf: Pf) -> &'static str {
    if pf == Pf::V4 { "iptables" } else { "ip6tables" }
}

impl Fail {
    fn text(&self, pf: Pf) -> (String, i32) {
        let name = program(pf);
        let hint = format!("Try `{name} -h' or '{name} --help' for more information.\n");
        match self {
            Fail::Usage(m) => (format!("{name} v1.8.9 (legacy): {m}\n{hint}"), 2),
            Fail::Extension(m) => (format!("{name} v1.8.9 (legacy): {m}\n\n{hint}"), 2),
            Fail::Bare(m) => (format!("{m}\n{hint}"), 2),
            Fail::Message(m) => (format!("{name}: {m}\n"), 1),
            Fail::Kernel(e) => (format!("{name}: {}\n", kernel_text(*e)), 1),
            Fail::Table(t) => (
                format!(
                    "{name} v1.8.9 (legacy): can't initialize {name} table `{t}': Table does not exist (do you need to \
                     insmod?)\nPerhaps {name} or your kernel needs to be upgraded.\n"
                ),
                3,
            ),
        }
    }
}

/// `iptc_strerror`.
fn kernel_text(e: Errno) -> &'static str {
    match e {
        Errno::ENOENT => "No chain/target/match by that name.",
        Errno::EEXIST => "Chain already exists.",
        Errno::EMLINK => "Too many links.",
        Errno::ENOTEMPTY => "Directory not empty.",
        Errno::ELOOP => "Too many levels of symbolic links.",
        Errno::ENOMEM => "Memory allocation problem.",
        _ => "Invalid argument. Run `dmesg' for more information.",
    }
}

/// One of the programs by its name, for whoever passes command lines on: `None` for a name that is none of them.
/// `input`: what a restore reads.
pub fn program_of(
    k: &mut Kernel,
    ns: NsId,
    name: &str,
    args: &[&str],
    input: &str,
    names: &dyn Names,
) -> Option<Output> {
    let (pf, rest) = match name.strip_prefix("ip6tables") {
        Some(rest) => (Pf::V6, rest),
        None => (Pf::V4, name.strip_prefix("iptables").unwrap_or(name)),
    };
    Some(match rest {
        "" => k.iptables(ns, pf, args, names),
        "-restore" => k.iptables_restore(ns, pf, args, input, names),
        "-save" => save_words(k, ns, pf, args),
        "conntrack" => k.conntrack(ns, args),
        _ => return None,
    })
}

/// `iptables-save [-c] [-t TABLE]`.
fn save_words(k: &mut Kernel, ns: NsId, pf: Pf, args: &[&str]) -> Output {
    let (mut table, mut counters, mut words) = (None, false, args.iter());
    while let Some(w) = words.next() {
        match *w {
            "-c" | "--counters" => counters = true,
            "-t" | "--table" => {
                let name = words.next().copied().unwrap_or("");
                table = TableName::parse(name);
                if table.is_none() {
                    let (stderr, code) = Fail::Table(name.into()).text(pf);
                    return Output { stderr, code, ..Output::default() };
                }
            }
            other => {
                let stderr = format!("{}-save: unrecognized option '{other}'\n", program(pf));
                return Output { stderr, code: 2, ..Output::default() };
            }
        }
    }
    Output { stdout: k.iptables_save(ns, pf, table, counters), ..Output::default() }
}

impl Kernel {
    /// One command line of `iptables` (`ip6tables`), without the program's name.
    pub fn iptables(&mut self, ns: NsId, pf: Pf, args: &[&str], names: &dyn Names) -> Output {
        match parse::parse(pf, args, names).and_then(|p| self.iptables_run(ns, pf, p, names)) {
            Ok(stdout) => Output { stdout, ..Output::default() },
            Err(fail) => {
                let (stderr, code) = fail.text(pf);
                Output { stdout: String::new(), stderr, code }
            }
        }
    }

    /// `iptables-save`; without a table all that exist.
    pub fn iptables_save(&mut self, ns: NsId, pf: Pf, table: Option<TableName>, counters: bool) -> String {
        if let Some(t) = table {
            let _ = self.net.nf_table(ns, pf, t);
        }
        let Some(nf) = self.net.ns.get(ns).and_then(|n| n.nf.as_ref()) else { return String::new() };
        let all = nf.order[pf as usize].iter().filter(|t| table.is_none_or(|only| only == **t));
        all.filter_map(|t| nf.table(pf, *t)).map(|t| print::save(t, pf, counters)).collect()
    }

    /// `iptables-restore` with the text of `iptables-save`.
    pub fn iptables_restore(&mut self, ns: NsId, pf: Pf, args: &[&str], text: &str, names: &dyn Names) -> Output {
        match restore::run(self, ns, pf, args, text, names) {
            Ok(stdout) => Output { stdout, ..Output::default() },
            Err((stderr, code)) => Output { stderr, code, ..Output::default() },
        }
    }

    fn iptables_run(&mut self, ns: NsId, pf: Pf, p: Parsed, names: &dyn Names) -> Done<String> {
        let Some(name) = TableName::parse(&p.table) else { return Err(Fail::Table(p.table)) };
        if p.version {
            return Ok(format!("{} v1.8.9 (legacy)\n", program(pf)));
        }
        let Some(table) = self.net.nf_table(ns, pf, name) else { return Err(Fail::Kernel(Errno::EINVAL)) };
        if p.verb.shows() {
            let text = show(table, pf, &p, names)?;
            if p.zero {
                zero(table, p.chain.as_deref(), p.number)?;
            }
            return Ok(text);
        }
        let mut new = table.clone();
        change(&mut new, pf, &p)?;
        self.commit(ns, pf, new)?;
        Ok(String::new())
    }

    /// The table takes the place of the one that was there, if the kernel accepts it.
    fn commit(&mut self, ns: NsId, pf: Pf, table: Table) -> Done {
        table.check().map_err(Fail::Kernel)?;
        table.check_targets(pf).map_err(Fail::Kernel)?;
        let table = Table::of(table.name, table.chains).map_err(Fail::Kernel)?;
        self.net.nf_set_table(ns, pf, table);
        Ok(())
    }
}

fn chain(t: &Table, p: &Parsed) -> Done<usize> {
    let name = p.chain.as_deref().unwrap_or("");
    t.find(name).ok_or(Fail::Kernel(Errno::ENOENT))
}

fn show(t: &Table, pf: Pf, p: &Parsed, names: &dyn Names) -> Done<String> {
    let only = p.chain.as_deref().map(|_| chain(t, p)).transpose()?;
    Ok(match p.verb {
        Verb::List => list::list(t, pf, only, p.number, &p.show, names),
        _ => print::rules(t, pf, only, p.number, p.show.verbose),
    })
}

fn zero(t: &mut Table, only: Option<&str>, number: Option<usize>) -> Done {
    if only.is_some_and(|c| t.find(c).is_none()) {
        return Err(Fail::Kernel(Errno::ENOENT));
    }
    for c in t.chains.iter_mut().filter(|c| only.is_none_or(|o| *c.name == *o)) {
        match number {
            Some(n) => match c.rules.get_mut(n - 1) {
                Some(r) => r.counters = Counters::default(),
                None => return Err(Fail::Kernel(Errno::EINVAL)),
            },
            None => {
                c.counters = Counters::default();
                c.rules.iter_mut().for_each(|r| r.counters = Counters::default());
            }
        }
    }
    Ok(())
}

/// The rules of a command, with jumps to chains of this table.
fn resolve(t: &Table, p: &Parsed) -> Done<Vec<Rule>> {
    let target = match &p.jump {
        Some((name, goto)) => {
            let to = t.find(name).filter(|c| t.chains[*c].base.is_none());
            let Some(to) = to else {
                return if t.find(name).is_some() {
                    Err(Fail::Kernel(Errno::EINVAL))
                } else {
                    Err(Fail::Extension(format!("Couldn't load target `{name}':No such file or directory")))
                };
            };
            Some(Target::Jump { chain: to as u32, goto: *goto })
        }
        None => None,
    };
    Ok(p.rules
        .iter()
        .map(|r| Rule { target: target.clone().unwrap_or_else(|| r.target.clone()), ..r.clone() })
        .collect())
}

const BAD_RULE: &str = "Bad rule (does a matching rule exist in that chain?).";

fn change(t: &mut Table, pf: Pf, p: &Parsed) -> Done {
    let _ = pf;
    match p.verb {
        Verb::Append => {
            let at = chain(t, p)?;
            let rules = resolve(t, p)?;
            t.chains[at].rules.extend(rules);
        }
        Verb::Insert => {
            let c = chain(t, p)?;
            let rules = resolve(t, p)?;
            let at = p.number.unwrap_or(1) - 1;
            if at > t.chains[c].rules.len() {
                return Err(Fail::Message("Index of insertion too big."));
            }
            // Several are put in one after another, so the last stands first.
            for r in rules {
                t.chains[c].rules.insert(at, r);
            }
        }
        Verb::Replace => {
            let c = chain(t, p)?;
            let mut rules = resolve(t, p)?;
            let slot = t.chains[c].rules.get_mut(p.number.unwrap_or(0).wrapping_sub(1));
            let Some(slot) = slot else { return Err(Fail::Message("Index of replacement too big.")) };
            if rules.len() != 1 {
                return usage("Replacement rule does not specify a unique address");
            }
            *slot = rules.remove(0);
        }
        Verb::Delete | Verb::Check => {
            let c = chain(t, p)?;
            if let Some(n) = p.number {
                if n > t.chains[c].rules.len() {
                    return Err(Fail::Message("Index of deletion too big."));
                }
                t.chains[c].rules.remove(n - 1);
                return Ok(());
            }
            for want in resolve(t, p)? {
                let at = t.chains[c].rules.iter().position(|r| r.same(&want));
                let Some(at) = at else { return Err(Fail::Message(BAD_RULE)) };
                if p.verb == Verb::Delete {
                    t.chains[c].rules.remove(at);
                }
            }
        }
        Verb::New => t.new_chain(p.chain.as_deref().unwrap_or("")).map_err(Fail::Kernel)?,
        Verb::DeleteChain => match &p.chain {
            Some(_) => {
                let c = chain(t, p)?;
                t.delete_chain(c).map_err(Fail::Kernel)?;
            }
            None => {
                while let Some(c) = t.chains.iter().rposition(|c| c.base.is_none()) {
                    t.delete_chain(c).map_err(Fail::Kernel)?;
                }
            }
        },
        Verb::Rename => {
            let c = chain(t, p)?;
            t.rename_chain(c, p.new_name.as_deref().unwrap_or("")).map_err(Fail::Kernel)?;
        }
        Verb::Flush => match &p.chain {
            Some(_) => {
                let c = chain(t, p)?;
                t.chains[c].rules.clear();
            }
            None => t.chains.iter_mut().for_each(|c| c.rules.clear()),
        },
        Verb::Zero => zero(t, p.chain.as_deref(), p.number)?,
        Verb::Policy => set_policy(t, p)?,
        Verb::List | Verb::Rules => {}
    }
    Ok(())
}

fn set_policy(t: &mut Table, p: &Parsed) -> Done {
    let c = chain(t, p)?;
    let policy = match p.new_name.as_deref() {
        Some("ACCEPT") => Policy::Accept,
        Some("DROP") if t.name == TableName::Nat => {
            return Err(Fail::Extension(
                "\nThe \"nat\" table is not intended for filtering, the use of DROP is therefore inhibited.\n".into(),
            ));
        }
        Some("DROP") => Policy::Drop,
        _ => return Err(Fail::Message("Bad policy name. Run `dmesg' for more information.")),
    };
    let c = &mut t.chains[c];
    let Some((_, old)) = &mut c.base else { return Err(Fail::Message("Bad built-in chain name.")) };
    *old = policy;
    if let Some(n) = p.counters {
        c.counters = n;
    }
    Ok(())
}

/// For `restore`, which goes through the same verbs on a copy.
fn apply(t: &mut Table, pf: Pf, p: &Parsed) -> Done {
    change(t, pf, p)
}

impl Verb {
    fn shows(self) -> bool {
        matches!(self, Verb::List | Verb::Rules)
    }
}
