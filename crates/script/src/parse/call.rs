//! A system call with its result: `+0 read(4, ..., 1000) = 1000`, `+0 accept(3, ..., ...) = -1 EAGAIN`.
use super::cursor::{Cursor, Parsed};
use crate::ast::*;
use crate::lex::Tok;
use crate::names::{constant, nearest, nearest_constant, nearest_errno};
use crate::problem::{Problem, Span};
use crate::run::CALLS;
use belljar_abi::Errno;

/// Depth to which arguments may nest.
const MAX_DEPTH: usize = 16;

pub fn line(c: &mut Cursor<'_>) -> Parsed<CallLine> {
    let (name, name_span) = c.word("a call, a packet (`<` or `>`) or an assertion")?;
    let Some((_, wanted)) = CALLS.iter().find(|k| k.0 == name) else {
        let others = ["sysctl", "tcp_info", "counters", "sockets", "signals"];
        let near = nearest(name, CALLS.iter().map(|k| k.0).chain(others));
        return Err(Problem::new(name_span, format!("there is no call `{name}`")).near(near));
    };
    c.want("(")?;
    let mut args = Vec::new();
    while !c.eat(")") {
        args.push(expr(c)?);
        if !c.eat(",") && !c.is(")") {
            return Err(c.wrong("`,` or `)`"));
        }
    }
    let span = name_span.to(c.last());
    counted(name, *wanted, &args, c.last())?;
    let from = c.span();
    let expect = if c.eat("=") { expected(c)? } else { Expected::Any };
    let expect_span = if c.last().end > from.start { from.to(c.last()) } else { span };
    Ok(CallLine { name: name.to_owned(), name_span, args, span, expect, expect_span })
}

/// As many arguments as the call takes, which for fcntl depends on what it is asked.
fn counted(name: &str, wanted: usize, args: &[Expr], end: Span) -> Parsed<()> {
    let least = match (name, args.get(1).map(|a| &a.kind)) {
        ("fcntl", Some(ExprKind::Int(cmd))) if ASKING.contains(&(*cmd as i32)) => wanted - 1,
        _ => wanted,
    };
    let takes = format!("`{name}` takes {wanted} argument{}, not {}", if wanted == 1 { "" } else { "s" }, args.len());
    match args.get(wanted).zip(args.last()) {
        Some((first, last)) => Err(Problem::new(first.span.to(last.span), takes)),
        None if args.len() < least => {
            Err(Problem::new(end, takes).hint("what the script does not care about is written `...`"))
        }
        None => Ok(()),
    }
}

/// Commands of fcntl without an argument.
const ASKING: [i32; 4] = [F_GETFD, F_GETFL, F_GETOWN, F_GETSIG];
const F_GETFD: i32 = 1;
const F_GETFL: i32 = 3;
const F_GETOWN: i32 = 9;
const F_GETSIG: i32 = 11;

fn expected(c: &mut Cursor<'_>) -> Parsed<Expected> {
    if c.eat("*") {
        return Ok(Expected::Any);
    }
    let value = int_expr(c)?;
    let Some(Tok::Word(w)) = c.peek() else { return Ok(Expected::Value(value)) };
    let span = c.span();
    let errno = Errno::from_name(w)
        .ok_or_else(|| Problem::new(span, format!("there is no error `{w}`")).near(nearest_errno(w)))?;
    if value != -1 {
        return Err(Problem::new(span, "a call that fails returns -1"));
    }
    c.at += 1;
    // The words of strerror(3) may follow, as strace writes them.
    if c.eat("(") {
        while !c.eat(")") {
            if c.bump().is_none() {
                return Err(c.wrong("`)`"));
            }
        }
    }
    Ok(Expected::Error(errno))
}

pub fn expr(c: &mut Cursor<'_>) -> Parsed<Expr> {
    deeper(c, 0)
}

fn deeper(c: &mut Cursor<'_>, depth: usize) -> Parsed<Expr> {
    let start = c.span();
    if depth > MAX_DEPTH {
        return Err(Problem::new(start, "this nests too deeply"));
    }
    let kind = match c.peek() {
        Some(Tok::Sym("...")) => {
            c.at += 1;
            ExprKind::Default
        }
        Some(Tok::Str(s)) => {
            c.at += 1;
            ExprKind::Str(s.clone())
        }
        Some(Tok::Ip(a)) => {
            c.at += 1;
            if a.is_ipv4() && c.eat(":") { ExprKind::Addr(*a, c.int("a port")?) } else { ExprKind::Ip(*a) }
        }
        Some(Tok::Sym("[")) => match (c.peek_at(1), c.peek_at(2), c.peek_at(3)) {
            (Some(Tok::Ip(a)), Some(Tok::Sym("]")), Some(Tok::Sym(":"))) => {
                c.at += 4;
                ExprKind::Addr(*a, c.int("a port")?)
            }
            _ => list(c, depth)?,
        },
        Some(Tok::Sym("{")) => structure(c, depth)?,
        Some(Tok::Word(w)) if w == "inet_addr" || w == "inet_pton" => {
            c.at += 1;
            c.want("(")?;
            if c.eat_word("AF_INET6") || c.eat_word("AF_INET") {
                c.want(",")?;
            }
            let inner = deeper(c, depth + 1)?;
            // strace writes where the address goes to.
            if c.eat(",") && c.eat("&") {
                c.word("the field")?;
            }
            c.want(")")?;
            ip(&inner)?
        }
        _ => ExprKind::Int(int_expr(c)?),
    };
    Ok(Expr { kind, span: start.to(c.last()) })
}

fn ip(inner: &Expr) -> Parsed<ExprKind> {
    match &inner.kind {
        ExprKind::Ip(a) => Ok(ExprKind::Ip(*a)),
        ExprKind::Str(s) => {
            let text = String::from_utf8_lossy(s);
            let addr = text.parse().map_err(|_| Problem::new(inner.span, "this is no address"))?;
            Ok(ExprKind::Ip(addr))
        }
        _ => Err(Problem::new(inner.span, "an address is expected here")),
    }
}

fn list(c: &mut Cursor<'_>, depth: usize) -> Parsed<ExprKind> {
    c.at += 1;
    let mut all = Vec::new();
    while !c.eat("]") {
        all.push(deeper(c, depth + 1)?);
        if !c.eat(",") && !c.is("]") {
            return Err(c.wrong("`,` or `]`"));
        }
    }
    Ok(ExprKind::List(all))
}

/// Fields by name, or by position: then their names are `0`, `1` …
fn structure(c: &mut Cursor<'_>, depth: usize) -> Parsed<ExprKind> {
    c.at += 1;
    let mut all = Vec::new();
    while !c.eat("}") {
        let strace = c.is_word("inet_pton");
        let name = field_name(c)?.unwrap_or_else(|| if strace { "sin6_addr".into() } else { all.len().to_string() });
        all.push((name, deeper(c, depth + 1)?));
        if !c.eat(",") && !c.is("}") {
            return Err(c.wrong("`,` or `}`"));
        }
    }
    Ok(ExprKind::Struct(all))
}

/// `name =` or `msg_iov(1) =`; `None` and nothing taken when a value stands here.
fn field_name(c: &mut Cursor<'_>) -> Parsed<Option<String>> {
    let Some(Tok::Word(w)) = c.peek() else { return Ok(None) };
    let from = c.at;
    c.at += 1;
    if !matches!(w.as_str(), "htons" | "htonl" | "inet_addr" | "inet_pton") && c.eat("(") {
        while !c.eat(")") {
            if c.bump().is_none() {
                return Err(c.wrong("`)`"));
            }
        }
    }
    if c.eat("=") {
        return Ok(Some(w.clone()));
    }
    c.at = from;
    Ok(None)
}

/// Numbers and names joined by `|`, with `-` in front perhaps.
fn int_expr(c: &mut Cursor<'_>) -> Parsed<i64> {
    let mut value = 0;
    loop {
        value |= one_int(c)?;
        if !c.eat("|") {
            return Ok(value);
        }
    }
}

fn one_int(c: &mut Cursor<'_>) -> Parsed<i64> {
    let negative = c.eat("-");
    let span: Span = c.span();
    let value = match c.peek() {
        Some(Tok::Word(w)) if w == "htons" || w == "htonl" => {
            c.at += 1;
            c.want("(")?;
            let number: u32 = c.int("a number")?;
            c.want(")")?;
            i64::from(number)
        }
        Some(Tok::Word(w)) => {
            c.at += 1;
            let known = constant(w).or_else(|| Errno::from_name(w).map(|e| i64::from(e.0)));
            known.ok_or_else(|| {
                Problem::new(span, format!("`{w}` is no name that is known")).near(nearest_constant(w))
            })?
        }
        _ => c.int::<i64>("an argument")?,
    };
    Ok(if negative { -value } else { value })
}
