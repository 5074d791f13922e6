//! Text to tokens, each with its place. Comments (`//`, `#`, `/* */`) are gone; a line ends at its newline unless a
//! bracket is open. `.` right before a digit begins a number only where no word or number stands before it.
use crate::problem::{Problem, Span};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use winnow::ascii::{digit1, hex_digit1};
use winnow::combinator::{alt, delimited, opt, preceded, repeat};
use winnow::prelude::*;
use winnow::token::{any, literal, none_of, take, take_till, take_until, take_while};

#[derive(Clone, Debug, PartialEq)]
pub enum Tok {
    /// Digits, perhaps with a fraction; as written.
    Num(String),
    Hex(u64),
    Word(String),
    Str(Vec<u8>),
    Ip(IpAddr),
    /// What stands between backticks.
    Command(String),
    Sym(&'static str),
    Eol,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub tok: Tok,
    pub span: Span,
}

/// Longest first.
const SYMBOLS: &[&str] = &[
    "...", "==", "!=", "<=", ">=", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":", "+", "-", "*", "~", "|", "&",
    ".", ";", "/",
];

pub fn lex(text: &str) -> Result<Vec<Token>, Problem> {
    let (mut tokens, mut at, mut depth) = (Vec::new(), 0usize, 0usize);
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let mut input = rest;
        if blank.parse_next(&mut input).is_ok() {
            at = text.len() - input.len();
            continue;
        }
        input = rest;
        let wordy = text.get(..at).and_then(|b| b.chars().next_back()).is_some_and(|c| c.is_alphanumeric());
        let tok = token(&mut input, wordy).map_err(|()| unreadable(at, rest))?;
        let end = text.len() - input.len();
        match &tok {
            Tok::Sym("(" | "[" | "{") => depth += 1,
            Tok::Sym(")" | "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if tok != Tok::Eol || depth == 0 {
            tokens.push(Token { tok, span: Span { start: at, end } });
        }
        at = end;
    }
    tokens.push(Token { tok: Tok::Eol, span: Span { start: text.len(), end: text.len() } });
    Ok(tokens)
}

fn unreadable(at: usize, rest: &str) -> Problem {
    let first = rest.chars().next().unwrap_or(' ');
    let span = Span { start: at, end: at + first.len_utf8() };
    match first {
        '"' => Problem::new(span, "this string has no end"),
        '`' => Problem::new(span, "this command has no closing backtick"),
        c => Problem::new(span, format!("a `{}` means nothing here", c.escape_default())),
    }
}

/// Space and comments.
fn blank(input: &mut &str) -> winnow::Result<()> {
    alt((
        take_while(1.., [' ', '\t', '\r']).void(),
        preceded(alt(("//", "#")), take_till(0.., '\n')).void(),
        delimited("/*", take_until(0.., "*/"), "*/").void(),
    ))
    .parse_next(input)
}

fn token(input: &mut &str, wordy: bool) -> Result<Tok, ()> {
    let leading_dot = !wordy && input.strip_prefix('.').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    let mut attempt = |mut p: fn(&mut &str) -> winnow::Result<Tok>| {
        let start = *input;
        let tok = p.parse_next(input).ok();
        if tok.is_none() {
            *input = start;
        }
        tok
    };
    attempt(newline)
        .or_else(|| if wordy { None } else { attempt(ip6) })
        .or_else(|| attempt(ip))
        .or_else(|| attempt(hex))
        .or_else(|| if leading_dot { attempt(fraction) } else { None })
        .or_else(|| attempt(number))
        .or_else(|| attempt(word))
        .or_else(|| attempt(string))
        .or_else(|| attempt(command))
        .or_else(|| attempt(symbol))
        .ok_or(())
}

fn newline(input: &mut &str) -> winnow::Result<Tok> {
    "\n".value(Tok::Eol).parse_next(input)
}

fn ip(input: &mut &str) -> winnow::Result<Tok> {
    (digit1, '.', digit1, '.', digit1, '.', digit1)
        .take()
        .try_map(|s: &str| s.parse::<Ipv4Addr>().map(|a| Tok::Ip(IpAddr::V4(a))))
        .parse_next(input)
}

/// Two colons at least; one behind the address is not its own.
fn ip6(input: &mut &str) -> winnow::Result<Tok> {
    /// `0000:…:255.255.255.255`, and the colon behind it.
    const LONGEST: usize = 46;
    let len = input.bytes().take(LONGEST).take_while(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.')).count();
    let is_addr = |n: &usize| input.get(..*n).is_some_and(|t| t.parse::<Ipv6Addr>().is_ok());
    let end = [len, len.saturating_sub(1)].into_iter().find(is_addr);
    take(end.unwrap_or(usize::MAX))
        .try_map(|s: &str| s.parse::<Ipv6Addr>().map(|a| Tok::Ip(a.into())))
        .parse_next(input)
}

fn hex(input: &mut &str) -> winnow::Result<Tok> {
    preceded(alt(("0x", "0X")), hex_digit1)
        .try_map(|s: &str| u64::from_str_radix(s, 16).map(Tok::Hex))
        .parse_next(input)
}

fn number(input: &mut &str) -> winnow::Result<Tok> {
    (digit1, opt(('.', digit1))).take().map(|s: &str| Tok::Num(s.to_owned())).parse_next(input)
}

fn fraction(input: &mut &str) -> winnow::Result<Tok> {
    ('.', digit1).take().map(|s: &str| Tok::Num(format!("0{s}"))).parse_next(input)
}

fn word(input: &mut &str) -> winnow::Result<Tok> {
    (
        take_while(1, |c: char| c.is_ascii_alphabetic() || c == '_'),
        take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_'),
    )
        .take()
        .map(|s: &str| Tok::Word(s.to_owned()))
        .parse_next(input)
}

fn string(input: &mut &str) -> winnow::Result<Tok> {
    delimited('"', repeat(0.., character).fold(Vec::new, push), '"').map(Tok::Str).parse_next(input)
}

fn push(mut all: Vec<u8>, c: char) -> Vec<u8> {
    all.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
    all
}

fn character(input: &mut &str) -> winnow::Result<char> {
    alt((
        preceded('\\', any).map(|c| match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            c => c,
        }),
        none_of(['"', '\\', '\n']),
    ))
    .parse_next(input)
}

fn command(input: &mut &str) -> winnow::Result<Tok> {
    delimited('`', take_till(0.., '`'), '`').map(|s: &str| Tok::Command(s.to_owned())).parse_next(input)
}

fn symbol(input: &mut &str) -> winnow::Result<Tok> {
    for s in SYMBOLS {
        if input.starts_with(s) {
            return literal(*s).value(Tok::Sym(s)).parse_next(input);
        }
    }
    Err(winnow::error::ContextError::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toks(text: &str) -> Vec<Tok> {
        lex(text).unwrap().into_iter().map(|t| t.tok).collect()
    }

    #[test]
    fn times_flags_and_addresses_keep_apart() {
        use Tok::*;
        let n = |s: &str| Num(s.into());
        let w = |s: &str| Word(s.into());
        assert_eq!(toks("+.1 > S. 0"), [Sym("+"), n("0.1"), Sym(">"), w("S"), Sym("."), n("0"), Eol]);
        assert_eq!(toks("0.1...0.2"), [n("0.1"), Sym("..."), n("0.2"), Eol]);
        assert_eq!(toks("P. 1:2"), [w("P"), Sym("."), n("1"), Sym(":"), n("2"), Eol]);
        assert_eq!(toks("10.0.0.1:80"), [Ip(Ipv4Addr::new(10, 0, 0, 1).into()), Sym(":"), n("80"), Eol]);
        let six = |s: &str| Ip(s.parse::<Ipv6Addr>().unwrap().into());
        assert_eq!(toks("[::1]:80"), [Sym("["), six("::1"), Sym("]"), Sym(":"), n("80"), Eol]);
        assert_eq!(toks("fe80::1 > ff02::1: x"), [six("fe80::1"), Sym(">"), six("ff02::1"), Sym(":"), w("x"), Eol]);
        assert_eq!(toks("2001:db8::/32"), [six("2001:db8::"), Sym("/"), n("32"), Eol]);
        assert_eq!(
            toks("::ffff:1.2.3.4 1:2(3)"),
            [six("::ffff:1.2.3.4"), n("1"), Sym(":"), n("2"), Sym("("), n("3"), Sym(")"), Eol]
        );
        assert_eq!(toks("1 // x\n# y\n/* z\n */2"), [n("1"), Eol, Eol, n("2"), Eol]);
        assert_eq!(toks("(1,\n2)\n"), [Sym("("), n("1"), Sym(","), n("2"), Sym(")"), Eol, Eol]);
        assert_eq!(toks("\"a\\n\" `b c` 0x1f"), [Str(b"a\n".to_vec()), Command("b c".into()), Hex(31), Eol]);
    }

    #[test]
    fn what_is_no_token_is_said_with_its_place() {
        assert_eq!(lex("1 @").unwrap_err().span, Span { start: 2, end: 3 });
        assert!(lex("\"open").unwrap_err().what.contains("no end"));
        assert!(lex("`open").is_err() && lex("999999999999.1.1.1").is_ok());
    }
}
