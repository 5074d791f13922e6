//! [`Cursor`]: the tokens of one line, taken one by one.
use crate::lex::{Tok, Token};
use crate::problem::{Problem, Span};

pub type Parsed<T> = Result<T, Problem>;

/// See the module.
#[derive(Debug)]
pub struct Cursor<'a> {
    pub tokens: &'a [Token],
    pub at: usize,
    /// What `icmp` means.
    pub v6: bool,
    /// Where the line ends.
    end: Span,
}

impl<'a> Cursor<'a> {
    pub fn new(tokens: &'a [Token], end: Span) -> Cursor<'a> {
        Cursor { tokens, at: 0, v6: false, end: Span { start: end.start, end: end.start + 1 } }
    }

    pub fn peek(&self) -> Option<&'a Tok> {
        self.tokens.get(self.at).map(|t| &t.tok)
    }

    pub fn peek_at(&self, ahead: usize) -> Option<&'a Tok> {
        self.tokens.get(self.at + ahead).map(|t| &t.tok)
    }

    /// Place of the next token, or of the end of the line.
    pub fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(self.end, |t| t.span)
    }

    /// Place of the token before.
    pub fn last(&self) -> Span {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(self.end, |t| t.span)
    }

    pub fn bump(&mut self) -> Option<&'a Token> {
        let t = self.tokens.get(self.at)?;
        self.at += 1;
        Some(t)
    }

    pub fn is(&self, sym: &str) -> bool {
        matches!(self.peek(), Some(Tok::Sym(s)) if *s == sym)
    }

    pub fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Tok::Word(w)) if w == word)
    }

    pub fn eat(&mut self, sym: &str) -> bool {
        let is = self.is(sym);
        self.at += usize::from(is);
        is
    }

    pub fn eat_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    pub fn want(&mut self, sym: &str) -> Parsed<()> {
        if self.eat(sym) { Ok(()) } else { Err(self.wrong(&format!("`{sym}`"))) }
    }

    pub fn word(&mut self, what: &str) -> Parsed<(&'a str, Span)> {
        match self.tokens.get(self.at) {
            Some(Token { tok: Tok::Word(w), span }) => {
                self.at += 1;
                Ok((w, *span))
            }
            _ => Err(self.wrong(what)),
        }
    }

    /// A whole number that fits `T`.
    pub fn int<T: TryFrom<u64>>(&mut self, what: &str) -> Parsed<T> {
        let value = match self.peek() {
            Some(Tok::Num(n)) => n.parse::<u64>().ok(),
            Some(Tok::Hex(n)) => Some(*n),
            _ => return Err(self.wrong(what)),
        };
        let fits = value.and_then(|v| T::try_from(v).ok());
        let Some(v) = fits else {
            return Err(Problem::new(self.span(), format!("this number does not fit: {what} is expected")));
        };
        self.at += 1;
        Ok(v)
    }

    /// Whether the next token stands right behind the one before, without space.
    pub fn adjoins(&self) -> bool {
        self.at > 0 && self.last().end == self.span().start
    }

    pub fn done(&self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end of the line")),
        }
    }

    pub fn wrong(&self, expected: &str) -> Problem {
        let came = match self.peek() {
            None | Some(Tok::Eol) => "the line ends".to_owned(),
            Some(Tok::Num(n)) => format!("`{n}`"),
            Some(Tok::Hex(n)) => format!("`{n:#x}`"),
            Some(Tok::Word(w)) => format!("`{w}`"),
            Some(Tok::Str(_)) => "a string".into(),
            Some(Tok::Ip(a)) => format!("`{a}`"),
            Some(Tok::Command(_)) => "a command".into(),
            Some(Tok::Sym(s)) => format!("`{s}`"),
        };
        Problem::new(self.span(), format!("{expected} is expected here")).note("came", came)
    }
}
