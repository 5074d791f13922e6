//! Tables of a TOML document, taken apart key by key: a key that nobody takes is an error with its line and what it may have
//! been meant to be.
use std::fmt;
use toml_edit::{Document, Item, Table, TableLike, Value};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 when it is about the whole file.
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            n => write!(f, "line {n}: {}", self.text),
        }
    }
}

impl std::error::Error for Problem {}

pub(crate) type Result<T> = core::result::Result<T, Problem>;

/// Lines of a text by the place of a byte.
pub(crate) struct Lines<'a>(pub &'a str);

impl Lines<'_> {
    pub fn at(&self, span: Option<std::ops::Range<usize>>) -> usize {
        span.map_or(0, |s| self.0.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1)
    }
}

pub(crate) fn document(text: &str) -> Result<Document<&str>> {
    Document::parse(text).map_err(|e| Problem { line: Lines(text).at(e.span()), text: e.message().to_owned() })
}

/// The word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = all.into_iter().map(|w| (distance(word, w), w)).min_by_key(|(d, _)| *d)?;
    (best.0 <= word.chars().count() / 3 + 1).then_some(best.1)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let left = next.last().copied().unwrap_or(0);
            let (corner, up) = (row.get(j).copied().unwrap_or(0), row.get(j + 1).copied().unwrap_or(0));
            next.push((corner + usize::from(ca != *cb)).min(left + 1).min(up + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// `unknown key "adress" in host.a: did you mean "address"?`
pub(crate) fn unknown(what: &str, word: &str, place: &str, known: &[&str]) -> String {
    let hint = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("there are {}", known.join(", ")),
    };
    format!("unknown {what} {word:?} in {place}: {hint}")
}

/// A table with its place in the text, and the keys that it may have.
pub(crate) struct Keys<'a> {
    table: &'a dyn TableLike,
    lines: &'a Lines<'a>,
    /// As in error messages: `host.client`.
    pub place: String,
    pub line: usize,
}

/// A value, its key and line.
#[derive(Clone)]
pub(crate) struct Found<'a> {
    pub key: &'a str,
    pub line: usize,
    item: &'a Item,
    lines: &'a Lines<'a>,
    place: String,
}

impl<'a> Keys<'a> {
    pub fn root(table: &'a Table, lines: &'a Lines<'a>) -> Keys<'a> {
        Keys { table, lines, place: "the file".to_owned(), line: 0 }
    }

    /// Fails for the first key that is none of these.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.all().find(|f| !known.contains(&f.key)) {
            Some(f) => Err(f.problem(unknown("key", f.key, &self.place, known))),
            None => Ok(()),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = Found<'a>> + use<'a, '_> {
        let (table, lines) = (self.table, self.lines);
        table.iter().map(move |(key, item)| {
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            Found { key, line: lines.at(span), item, lines, place: self.place.clone() }
        })
    }

    pub fn get(&self, key: &str) -> Option<Found<'a>> {
        self.all().find(|f| f.key == key)
    }

    pub fn need(&self, key: &str) -> Result<Found<'a>> {
        self.get(key).ok_or_else(|| Problem { line: self.line, text: format!("{} has no {key:?}", self.place) })
    }

    pub fn text(&self, key: &str) -> Result<Option<String>> {
        self.get(key).map(|f| f.text()).transpose()
    }

    pub fn flag(&self, key: &str) -> Result<bool> {
        let Some(f) = self.get(key) else { return Ok(false) };
        f.item.as_bool().ok_or_else(|| f.wrong("true or false"))
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let Some(f) = self.get(key) else { return Ok(None) };
        let n = f.item.as_integer().and_then(|n| u64::try_from(n).ok());
        n.map(Some).ok_or_else(|| f.wrong("a number that is not negative"))
    }
}

impl<'a> Found<'a> {
    pub fn problem(&self, text: impl Into<String>) -> Problem {
        Problem { line: self.line, text: text.into() }
    }

    fn wrong(&self, want: &str) -> Problem {
        self.problem(format!("{} in {} is {want}, not {}", self.key, self.place, self.item.type_name()))
    }

    pub fn text(&self) -> Result<String> {
        self.item.as_str().map(str::to_owned).ok_or_else(|| self.wrong("a text in quotes"))
    }

    /// A text, a number or a truth value, as settings and conditions have them.
    pub fn word(&self) -> Result<String> {
        match self.item.as_value() {
            Some(Value::String(s)) => Ok(s.value().clone()),
            Some(Value::Integer(n)) => Ok(n.value().to_string()),
            Some(Value::Boolean(b)) => Ok(u8::from(*b.value()).to_string()),
            _ => Err(self.wrong("a text in quotes or a number")),
        }
    }

    /// One text or a list of them, each with its line.
    pub fn texts(&self) -> Result<Vec<(String, usize)>> {
        if let Some(s) = self.item.as_str() {
            return Ok(vec![(s.to_owned(), self.line)]);
        }
        let list = self.item.as_array().ok_or_else(|| self.wrong("a text in quotes or a list of them"))?;
        let one = |v: &Value| v.as_str().map(|s| (s.to_owned(), self.lines.at(v.span())));
        list.iter().map(|v| one(v).ok_or_else(|| self.wrong("a list of texts in quotes"))).collect()
    }

    /// A list of commands, each a text or a list of words.
    pub fn commands(&self) -> Result<Vec<crate::Command>> {
        let list = self.item.as_array().ok_or_else(|| self.wrong("a list of commands"))?;
        list.iter().map(|v| self.command_of(v)).collect()
    }

    /// A text for the shell, or a list: the program and its arguments.
    pub fn command(&self) -> Result<crate::Command> {
        let value = self.item.as_value().ok_or_else(|| self.wrong("a command"))?;
        let mut c = self.command_of(value)?;
        c.line = self.line;
        Ok(c)
    }

    fn command_of(&self, v: &Value) -> Result<crate::Command> {
        let line = self.lines.at(v.span());
        let (argv, text) = match v {
            Value::String(s) => (vec!["/bin/sh".into(), "-c".into(), s.value().clone()], s.value().clone()),
            Value::Array(a) => {
                let words: Option<Vec<String>> = a.iter().map(|w| w.as_str().map(str::to_owned)).collect();
                let words = words.ok_or_else(|| self.wrong("a text or a list of texts"))?;
                let text = words.join(" ");
                (words, text)
            }
            _ => return Err(self.wrong("a text for the shell or a list of words")),
        };
        match text.trim().is_empty() {
            true => Err(Problem { line, text: format!("{} in {} is empty", self.key, self.place) }),
            false => Ok(crate::Command { argv, text, line }),
        }
    }

    /// The table behind the key.
    pub fn keys(&self) -> Result<Keys<'a>> {
        let table = self.item.as_table_like().ok_or_else(|| self.wrong("a table"))?;
        let place = if self.place == "the file" { self.key.to_owned() } else { format!("{}.{}", self.place, self.key) };
        Ok(Keys { table, lines: self.lines, place, line: self.line })
    }

    /// `[[KEY]]`, or a list of inline tables.
    pub fn tables(&self) -> Result<Vec<Keys<'a>>> {
        let place = if self.place == "the file" { self.key.to_owned() } else { format!("{}.{}", self.place, self.key) };
        let keys = |table: &'a dyn TableLike, span| Keys {
            table,
            lines: self.lines,
            place: place.clone(),
            line: self.lines.at(span),
        };
        if let Some(list) = self.item.as_array_of_tables() {
            return Ok(list.iter().map(|t| keys(t, t.span())).collect());
        }
        let list = self.item.as_array().ok_or_else(|| self.wrong("a list of tables"))?;
        let one = |v: &'a Value| v.as_inline_table().map(|t| keys(t, t.span()));
        list.iter().map(|v| one(v).ok_or_else(|| self.wrong("a list of tables"))).collect()
    }
}
