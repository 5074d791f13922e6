//! Assertions: `tcp_info(4) { cwnd == 10, state == ESTABLISHED }`, `counters { … }`, `sockets { … }`,
//! `signals { … }`.
use super::call;
use super::cursor::{Cursor, Parsed};
use crate::ast::*;
use crate::lex::Tok;
use crate::names::{asserted, nearest, nearest_asserted};
use crate::problem::Problem;
use belljar_abi::tcp_info::TcpInfo;
use belljar_kernel::net::mib::GROUPS;

/// Short names of fields that scripts mention most.
const SHORT: &[(&str, &str)] = &[("cwnd", "snd_cwnd"), ("ssthresh", "snd_ssthresh")];
/// What `sockets` can count.
pub const STATES: &[&str] = &[
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "udp",
    "all",
];

/// The one signal that files send.
const SIGNAL: &str = "SIGURG";

pub fn tcp_info(c: &mut Cursor<'_>) -> Parsed<What> {
    c.at += 1;
    c.want("(")?;
    let fd = call::expr(c)?;
    c.want(")")?;
    let mut conds = list(c)?;
    let known: Vec<&str> =
        TcpInfo::default().fields().iter().map(|f| f.0).chain(["snd_wscale", "rcv_wscale"]).collect();
    for cond in &mut conds {
        let name = cond.name.strip_prefix("tcpi_").unwrap_or(&cond.name);
        let name = SHORT.iter().find(|s| s.0 == name).map_or(name, |s| s.1).to_owned();
        if !known.contains(&name.as_str()) {
            let all = known.iter().copied().chain(SHORT.iter().map(|s| s.0));
            return Err(Problem::new(cond.span, format!("tcp_info has no field `{}`", cond.name))
                .near(nearest(&cond.name, all)));
        }
        cond.name = name;
    }
    Ok(What::TcpInfo { fd, conds })
}

pub fn conds(c: &mut Cursor<'_>, what: &str) -> Parsed<Vec<Cond>> {
    c.at += 1;
    let conds = list(c)?;
    if what == "sockets"
        && let Some(cond) = conds.iter().find(|d| !STATES.contains(&d.name.as_str()))
    {
        return Err(Problem::new(cond.span, format!("there is no state `{}`", cond.name))
            .near(nearest(&cond.name, STATES.iter().copied())));
    }
    if what == "signals"
        && let Some(cond) = conds.iter().find(|d| d.name != SIGNAL)
    {
        return Err(
            Problem::new(cond.span, format!("no signal `{}` is counted", cond.name)).hint(format!("there is {SIGNAL}"))
        );
    }
    if what == "counters" {
        conds.iter().try_for_each(counter)?;
    }
    Ok(conds)
}

/// A counter by the name that nstat has for it.
fn counter(cond: &Cond) -> Parsed<()> {
    let name = cond.name.as_str();
    let by_type = name.strip_prefix("IcmpMsg").and_then(|n| n.strip_prefix("InType").or(n.strip_prefix("OutType")));
    let all = || GROUPS.iter().flat_map(|(group, names)| names.iter().map(move |n| (*group, n.1)));
    let is_it = |(group, short): (&str, &str)| name.strip_prefix(group) == Some(short);
    if by_type.is_some_and(|n| n.parse::<u8>().is_ok()) || all().any(is_it) {
        return Ok(());
    }
    let names: Vec<String> = all().map(|(group, short)| format!("{group}{short}")).collect();
    let near = nearest(name, names.iter().map(String::as_str));
    Err(Problem::new(cond.span, format!("there is no counter `{name}`")).near(near))
}

fn list(c: &mut Cursor<'_>) -> Parsed<Vec<Cond>> {
    c.want("{")?;
    let mut all = Vec::new();
    while !c.eat("}") {
        all.push(cond(c)?);
        if !c.eat(",") && !c.eat(";") && !c.is("}") {
            return Err(c.wrong("`,` or `}`"));
        }
    }
    Ok(all)
}

fn cond(c: &mut Cursor<'_>) -> Parsed<Cond> {
    let (name, start) = c.word("the name of a value")?;
    let op = op(c)?;
    let from = c.span();
    let negative = c.eat("-");
    let (value, shown) = match c.peek() {
        Some(Tok::Word(w)) => {
            let value = asserted(w).ok_or_else(|| {
                Problem::new(c.span(), format!("`{w}` is no value that is known")).near(nearest_asserted(w))
            })?;
            c.at += 1;
            (value, w.clone())
        }
        _ => {
            let n: u32 = c.int("a number or a name")?;
            (i64::from(n), n.to_string())
        }
    };
    let shown = if negative { format!("-{shown}") } else { shown };
    let span = start.to(c.last()).to(from);
    Ok(Cond { span, name: name.to_owned(), op, value: if negative { -value } else { value }, shown })
}

fn op(c: &mut Cursor<'_>) -> Parsed<Op> {
    let all =
        [("==", Op::Eq), ("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("<", Op::Lt), (">", Op::Gt), ("&", Op::Has)];
    if c.is("=") {
        return Err(Problem::new(c.span(), "an assertion compares, and sets nothing").hint("write `==`"));
    }
    let found = all.iter().find(|o| c.is(o.0)).ok_or_else(|| c.wrong("a comparison (`==`, `<`, `&` …)"))?;
    c.at += 1;
    Ok(found.1)
}
