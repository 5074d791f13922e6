//! `iptables-restore`: tables as `iptables-save` writes them, each taken as a whole at its COMMIT.
use super::super::Pf;
use super::super::rules::*;
use super::parse::{Verb, parse};
use super::value::split_words;
use super::{Fail, Names, apply, program};
use crate::ids::NsId;
use crate::kernel::Kernel;

/// Standard error and exit code.
type Failed = (String, i32);

fn fail(pf: Pf, at: usize, text: &str) -> Failed {
    let name = program(pf);
    let hint = format!("Try `{name}-restore -h' or '{name}-restore --help' for more information.\n");
    (format!("{name}-restore v1.8.9 (legacy): {text}\nError occurred at line: {at}\n{hint}"), 2)
}

/// How it is to be done.
#[derive(Clone, Copy, Debug, Default)]
struct Options<'a> {
    counters: bool,
    noflush: bool,
    test: bool,
    table: Option<&'a str>,
}

fn options<'a>(pf: Pf, args: &[&'a str]) -> Result<Options<'a>, Failed> {
    let mut o = Options::default();
    let mut args = args.iter();
    while let Some(a) = args.next() {
        match *a {
            "-c" | "--counters" => o.counters = true,
            "-n" | "--noflush" => o.noflush = true,
            "-t" | "--test" => o.test = true,
            "-T" | "--table" => o.table = args.next().copied(),
            "-v" | "--verbose" => {}
            a if a.starts_with("-w") || a.starts_with("--wait") => {}
            a => {
                let name = program(pf);
                return Err((format!("{name}-restore: unrecognized option '{a}'\n"), 2));
            }
        }
    }
    Ok(o)
}

pub fn run(k: &mut Kernel, ns: NsId, pf: Pf, args: &[&str], text: &str, names: &dyn Names) -> Result<String, Failed> {
    let o = options(pf, args)?;
    let mut table: Option<Table> = None;
    let mut skip = false;
    for (n, line) in text.lines().enumerate().map(|(n, l)| (n + 1, l.trim_end())) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if skip && !line.starts_with('*') {
            continue;
        }
        match (line.as_bytes().first(), &mut table) {
            (Some(b'*'), None) => {
                let name = line[1..].trim();
                skip = o.table.is_some_and(|only| only != name);
                if skip {
                    continue;
                }
                let Some(t) = TableName::parse(name) else {
                    return Err(Fail::Table(name.into()).text(pf));
                };
                table = Some(begin(k, ns, pf, t, o.noflush));
            }
            (_, Some(_)) if line == "COMMIT" => {
                let t = table.take().unwrap_or_else(|| Table::new(TableName::Filter));
                if !o.test {
                    commit(k, ns, pf, t, n)?;
                }
            }
            (Some(b':'), Some(t)) => chain(pf, t, &line[1..], n, &o)?,
            (Some(_), Some(t)) => rule(pf, t, line, n, &o, names)?,
            _ => return Err(fail(pf, n, "no command specified")),
        }
    }
    if table.is_some() {
        let name = program(pf);
        let last = text.lines().count() + 1;
        return Err((format!("{name}-restore: COMMIT expected at line {last}\n"), 1));
    }
    Ok(String::new())
}

fn begin(k: &mut Kernel, ns: NsId, pf: Pf, name: TableName, noflush: bool) -> Table {
    let old = k.net.nf_table(ns, pf, name);
    match old {
        Some(t) if noflush => t.clone(),
        Some(t) => {
            // Policies stay until a line says otherwise.
            let mut new = Table::new(name);
            for c in &mut new.chains {
                if let Some(was) = t.chains.iter().find(|w| w.name == c.name) {
                    (c.base, c.counters) = (was.base, was.counters);
                }
            }
            new
        }
        None => Table::new(name),
    }
}

fn commit(k: &mut Kernel, ns: NsId, pf: Pf, t: Table, n: usize) -> Result<(), Failed> {
    k.commit(ns, pf, t).map_err(|e| {
        let name = program(pf);
        match e {
            Fail::Kernel(_) => (format!("{name}-restore: line {n} failed\n"), 1),
            other => other.text(pf),
        }
    })
}

fn counters(text: &str) -> Option<Counters> {
    let (p, b) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counters { packets: p.parse().ok()?, bytes: b.parse().ok()? })
}

/// `:CHAIN POLICY [PACKETS:BYTES]`.
fn chain(pf: Pf, t: &mut Table, line: &str, n: usize, o: &Options<'_>) -> Result<(), Failed> {
    let mut w = line.split_whitespace();
    let (name, policy) = (w.next().unwrap_or(""), w.next().unwrap_or(""));
    let counts = w.next().and_then(counters).filter(|_| o.counters).unwrap_or_default();
    let at = match t.find(name) {
        Some(at) => at,
        None => {
            let name = super::parse::new_chain_name(name).map_err(|e| e.text(pf))?;
            t.new_chain(&name).map_err(|_| fail(pf, n, &format!("error creating chain '{name}'")))?;
            return Ok(());
        }
    };
    let Some(c) = t.chains.get_mut(at) else { return Ok(()) };
    match (&mut c.base, policy) {
        (Some((_, p)), "ACCEPT") => *p = Policy::Accept,
        (Some((_, p)), "DROP") => *p = Policy::Drop,
        (Some(_), "-") => return Ok(()),
        (Some(_), _) => {
            return Err(fail(pf, n, &format!("Can't set policy `{policy}' on `{name}' line {n}: Bad policy name")));
        }
        (None, _) => {
            // Named again, a chain begins anew.
            c.rules.clear();
            return Ok(());
        }
    }
    c.counters = counts;
    Ok(())
}

/// A command as `iptables` takes it, counters in brackets before it.
fn rule(pf: Pf, t: &mut Table, line: &str, n: usize, o: &Options<'_>, names: &dyn Names) -> Result<(), Failed> {
    let (counts, line) = match line.strip_prefix('[').and_then(|l| l.split_once(']')) {
        Some((c, rest)) => (counters(&format!("[{c}]")), rest),
        None => (None, line),
    };
    let words = split_words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = |e: Fail| match e {
        Fail::Usage(m) | Fail::Extension(m) => fail(pf, n, &m),
        Fail::Bare(m) => (format!("{m}\nError occurred at line: {n}\n"), 2),
        Fail::Kernel(_) | Fail::Message(_) => (format!("{}-restore: line {n} failed\n", program(pf)), 1),
        other => other.text(pf),
    };
    let mut p = parse(pf, &words, names).map_err(said)?;
    if let Some(c) = counts.filter(|_| o.counters) {
        p.rules.iter_mut().for_each(|r| r.counters = c);
    }
    if matches!(p.verb, Verb::List | Verb::Rules) {
        return Ok(());
    }
    apply(t, pf, &p).map_err(said)
}
