//! Writing HTML so that nothing reaches it unescaped, and numbers as people read them.
use std::fmt::{Display, Write};

/// A piece of a page. Markup is what the source of this program holds; everything else goes through [`Html::text`].
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Markup of our own.
    pub fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Text of whatever origin, in an element or in a quoted attribute.
    pub fn text(&mut self, t: impl Display) {
        let _ = write!(Escaping(&mut self.0), "{t}");
    }

    pub fn add(&mut self, other: Html) {
        self.0.push_str(&other.0);
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        for c in s.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // Neither shown nor allowed: their pictures instead. Overrides of the writing direction could hide text.
                c if c < ' ' => self.0.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
                '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Appends markup (string literals) and text (`{expressions}`) in turn.
macro_rules! put {
    ($h:expr;) => {};
    ($h:expr; $markup:literal $($rest:tt)*) => {{ $h.raw($markup); $crate::report::text::put!($h; $($rest)*); }};
    ($h:expr; {$text:expr} $($rest:tt)*) => {{ $h.text($text); $crate::report::text::put!($h; $($rest)*); }};
}
pub(super) use put;

/// `1 234 567`, with spaces that do not break.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(d);
    }
    out
}

/// Three digits and a decimal prefix: `1.25 M`, `999 `, with the space before the unit.
fn scaled(v: f64) -> String {
    let mut v = v.max(0.0);
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let mut at = 0;
    while v >= 999.5 && at + 1 < prefixes.len() {
        v /= 1000.0;
        at += 1;
    }
    let digits = match v {
        v if at == 0 && v.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{v:.digits$} {}", prefixes.get(at).unwrap_or(&""))
}

pub fn bytes(n: u64) -> String {
    scaled(n as f64) + "B"
}

pub fn rate(bits_per_s: f64) -> String {
    scaled(bits_per_s) + "bit/s"
}

/// A length of time, as precise as it matters.
pub fn time(ns: u64) -> String {
    let s = ns as f64 / 1e9;
    match s {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        _ => format!("{} h {:02} min {:02} s", s as u64 / 3600, s as u64 / 60 % 60, s as u64 % 60),
    }
}

/// Microseconds as milliseconds with as many digits as are worth something.
pub fn ms(us: u32) -> String {
    match us {
        0..10_000 => format!("{:.3}", f64::from(us) / 1e3),
        10_000..1_000_000 => format!("{:.1}", f64::from(us) / 1e3),
        _ => format!("{:.0}", f64::from(us) / 1e3),
    }
}

/// `2026-11-28 01:23:45 UTC`.
pub fn date(ns_since_1970: u64) -> String {
    let s = ns_since_1970 / 1_000_000_000;
    let (mut days, clock) = (s / 86_400, s % 86_400);
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (h, m, s) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year}-{month:02}-{:02} {h:02}:{m:02}:{s:02} UTC", days + 1)
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%+@^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_element() {
        let mut h = Html::default();
        put!(h; "<td title=\"" {"\"><script>alert('1')</script>"} "\">" {"a&b\u{0}\u{1b}[31m\u{202e}gpj\n"} "</td>");
        assert_eq!(
            h.into_string(),
            "<td title=\"&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\">a&amp;b\u{2400}\u{241b}[31m\u{fffd}gpj\n</td>"
        );
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1\u{202f}234\u{202f}567".into())
        );
        let all = [0, 999, 1000, 1_250_000, 99_960_000, 999_600_000_000].map(bytes);
        assert_eq!(all, ["0 B", "999 B", "1.00 kB", "1.25 MB", "100 MB", "1.00 TB"]);
        assert_eq!(rate(0.5), "0.50 bit/s");
        let times = [12_000, 1_500_000, 2_345_000_000, 125_000_000_000, 7_384_000_000_000].map(time);
        assert_eq!(times, ["12 µs", "1.5 ms", "2.35 s", "2 min 05 s", "2 h 03 min 04 s"]);
        assert_eq!([250, 20_040, 3_000_000].map(ms), ["0.250", "20.0", "3000"]);
        assert_eq!(date(951_782_400_000_000_000 + 86_399_000_000_000), "2000-02-29 23:59:59 UTC");
        assert_eq!(date(1_795_829_025_000_000_000), "2026-11-28 01:23:45 UTC");
        assert_eq!([quoted("a-b=c"), quoted("it's"), quoted("")], ["a-b=c", "'it'\\''s'", "''"]);
    }
}
