//! [`Problem`]: what is wrong, where in the text, and how that is shown: file, line, caret, notes, hint.
use std::fmt::Write;

/// Bytes of the source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// One thing that is wrong with a script, or with what the kernel did with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub span: Span,
    pub what: String,
    /// Label and text: `expected`, `came`.
    pub notes: Vec<(&'static str, String)>,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(span: Span, what: impl Into<String>) -> Problem {
        Problem { span, what: what.into(), notes: Vec::new(), hint: None }
    }

    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Problem {
        self.notes.push((label, text.into()));
        self
    }

    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// `hint` when there is something near.
    pub fn near(self, nearest: Option<&str>) -> Problem {
        match nearest {
            Some(n) => self.hint(format!("is it `{n}`?")),
            None => self,
        }
    }

    /// Line and column, both from 1.
    pub fn place(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }

    /// The text that a person reads; `word` is `error` or `failed`.
    pub fn render(&self, word: &str, name: &str, text: &str) -> String {
        let (line, column) = self.place(text);
        let whole = text.lines().nth(line - 1).unwrap_or("");
        let (source, column_shown) = clip(whole, column - 1);
        let number = line.to_string();
        let pad = " ".repeat(number.len());
        // A tab is as wide as in the line above.
        let lead: String = source.chars().take(column_shown).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = source.chars().count().saturating_sub(column_shown).max(1);
        let width = text.get(self.span.start..self.span.end).map_or(1, |s| s.chars().count()).clamp(1, room);
        let mut out = format!("{word}: {}\n", short(&self.what));
        let _ = writeln!(out, "{pad}--> {name}:{line}:{column}");
        let _ = writeln!(out, "{pad} |\n{number} | {source}\n{pad} | {lead}{}", "^".repeat(width));
        let widest = self.notes.iter().map(|n| n.0.len()).max().unwrap_or(0);
        for (label, note) in &self.notes {
            let _ = writeln!(out, "{pad} = {label}:{} {}", " ".repeat(widest - label.len()), short(note));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{pad} = hint: {hint}");
        }
        out
    }
}

/// Columns of a source line that are shown, and how many of them stand before the caret at most.
const WIDEST: usize = 200;
const BEFORE: usize = 120;

/// The part of a long line around the column, and where the column is in it.
fn clip(line: &str, column: usize) -> (String, usize) {
    if line.chars().count() <= WIDEST {
        return (line.to_owned(), column);
    }
    let skip = column.saturating_sub(BEFORE);
    (line.chars().skip(skip).take(WIDEST).collect(), column - skip)
}

/// A message that quotes a monster ends before its end.
fn short(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_word() {
        let text = "// x\n+0 acept(3) = 4\n";
        let p = Problem::new(Span { start: 8, end: 13 }, "there is no call `acept`").near(Some("accept"));
        assert_eq!(
            p.render("error", "a.pkt", text),
            "error: there is no call `acept`\n --> a.pkt:2:4\n  |\n2 | +0 acept(3) = 4\n  |    ^^^^^\n  = hint: is it `accept`?\n"
        );
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = format!("{}@{}", "x".repeat(5000), "y".repeat(5000));
        let said = Problem::new(Span { start: 5000, end: 5001 }, "z".repeat(9000)).render("error", "a", &text);
        assert!(said.len() < 1500 && said.contains("a:1:5001"), "{}", said.len());
        let caret = said.lines().last().and_then(|l| l.find('^')).unwrap();
        assert_eq!(said.lines().nth(3).and_then(|l| l.chars().nth(caret)), Some('@'));
    }

    #[test]
    fn a_span_outside_the_text_is_no_panic() {
        let p = Problem::new(Span { start: 90, end: 95 }, "x");
        assert!(p.render("error", "a", "").contains("a:1:1"));
    }
}
