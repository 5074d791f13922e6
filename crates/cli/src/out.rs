//! What goes to the terminal: data to stdout, talk to stderr, one sentence per error, quiet broken pipes.
use belljar_kernel::view::Value;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Why a command failed: a sentence, what may help, the exit code.
#[derive(Debug)]
pub struct Fail {
    message: String,
    hint: Option<String>,
    pub code: u8,
}

pub const USAGE: u8 = 2;
/// 128 + SIGPIPE: what a tool that the signal killed reports.
const BROKEN_PIPE: u8 = 141;

impl Fail {
    pub fn new(message: impl fmt::Display) -> Fail {
        Fail { message: message.to_string(), hint: None, code: 1 }
    }

    pub fn usage(message: impl fmt::Display) -> Fail {
        Fail { code: USAGE, ..Fail::new(message) }
    }

    pub fn hint(self, hint: impl fmt::Display) -> Fail {
        Fail { hint: Some(hint.to_string()), ..self }
    }

    pub fn code(self, code: u8) -> Fail {
        Fail { code, ..self }
    }

    /// Ends the command with this code and without a word.
    pub fn silent(code: u8) -> Fail {
        Fail { message: String::new(), hint: None, code }
    }

    pub fn report(&self, paint: Paint) {
        if self.message.is_empty() {
            return;
        }
        let mut text = format!("{} {}\n", paint.red("belljar:"), self.message);
        if let Some(h) = &self.hint {
            text.push_str(&format!("{} {h}\n", paint.cyan("hint:")));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<io::Error> for Fail {
    fn from(e: io::Error) -> Fail {
        if e.kind() == io::ErrorKind::BrokenPipe { Fail::silent(BROKEN_PIPE) } else { Fail::new(e) }
    }
}

/// The text of a file that somebody named; what is wrong with it is the command line's fault.
pub fn text_of(path: &std::path::Path) -> Result<String, Fail> {
    std::fs::read_to_string(path).map_err(|e| {
        let what = match e.kind() {
            io::ErrorKind::InvalidData => "is no text (UTF-8)".to_owned(),
            _ => belljar_host::words(&e),
        };
        Fail::usage(format!("{}: {what}", path.display()))
    })
}

/// What a command ends with: its exit code.
pub type Done = Result<u8, Fail>;

/// Writes data to stdout.
pub fn print(text: &str) -> Result<(), Fail> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line of talk to stderr.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    pub on: bool,
}

impl Paint {
    pub fn of(when: When, terminal: &impl IsTerminal) -> Paint {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let on = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => !forbidden && terminal.is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb"),
        };
        Paint { on }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// A value as JSON on one line, fields in their own order.
pub fn json(v: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, v);
    out.push('\n');
    out
}

fn write_json(out: &mut String, v: &Value) {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Uint(n) => out.push_str(&n.to_string()),
        Value::Real(r) => out.push_str(&r.to_string()),
        Value::Text(s) => quoted(out, s),
        Value::List(l) => {
            out.push('[');
            for (n, v) in l.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                write_json(out, v);
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            for (n, (k, v)) in m.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                quoted(out, k);
                out.push(':');
                write_json(out, v);
            }
            out.push('}');
        }
    }
}

fn quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A map for [`json`].
pub fn map<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(k, v)| (k.into(), v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_order_and_escapes() {
        let v = map([("z", Value::Text("a\"\n\u{1}".into())), ("a", Value::List(vec![Value::Uint(1), Value::Null]))]);
        assert_eq!(json(&v), "{\"z\":\"a\\\"\\n\\u0001\",\"a\":[1,null]}\n");
        assert_eq!(Paint { on: true }.red("x"), "\x1b[31mx\x1b[0m");
    }
}
