//! Text and JSON at once, as iproute2 prints them, and its ways to write rates, sizes and times.
use belljar_kernel::view::Value;
use std::borrow::Cow;

type Fields = Vec<(Cow<'static, str>, Value)>;

/// What was printed so far, both ways.
#[derive(Debug, Default)]
pub struct Out {
    pub text: String,
    fields: Fields,
    outer: Vec<(&'static str, Fields)>,
}

impl Out {
    pub fn put(&mut self, name: &'static str, v: Value, text: impl AsRef<str>) {
        self.fields.push((name.into(), v));
        self.text.push_str(text.as_ref());
    }

    pub fn uint(&mut self, name: &'static str, v: u64, text: impl AsRef<str>) {
        self.put(name, Value::Uint(v), text);
    }

    pub fn string(&mut self, name: &'static str, v: &str, text: impl AsRef<str>) {
        self.put(name, Value::Text(v.to_owned()), text);
    }

    pub fn flag(&mut self, name: &'static str, text: &str) {
        self.put(name, Value::Bool(true), text);
    }

    pub fn real(&mut self, name: &'static str, v: f64, text: impl AsRef<str>) {
        // As many digits as `%g` has.
        self.put(name, Value::Real(g(v, 6).parse().unwrap_or(v)), text);
    }

    /// Text only.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub fn open(&mut self, name: &'static str) {
        self.outer.push((name, std::mem::take(&mut self.fields)));
    }

    pub fn close(&mut self) {
        if let Some((name, outer)) = self.outer.pop() {
            let inner = std::mem::replace(&mut self.fields, outer);
            self.fields.push((name.into(), Value::Map(inner)));
        }
    }

    /// A list of what `f` makes of each.
    pub fn list<T>(&mut self, name: &'static str, all: impl Iterator<Item = T>, mut f: impl FnMut(T, &mut Out)) {
        let outer = std::mem::take(&mut self.fields);
        let mut rows = Vec::new();
        for one in all {
            f(one, self);
            rows.push(Value::Map(std::mem::take(&mut self.fields)));
        }
        self.fields = outer;
        self.fields.push((name.into(), Value::List(rows)));
    }

    pub fn into_fields(self) -> Fields {
        self.fields
    }
}

/// C's `%g` with this many digits.
pub fn g(v: f64, digits: usize) -> String {
    if v == 0.0 || !v.is_finite() {
        return format!("{v}");
    }
    let text = format!("{v:.*e}", digits.saturating_sub(1));
    let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    let trimmed = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s.to_owned(),
    };
    if exp < -4 || exp >= digits as i32 {
        let sign = if exp < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exp.abs());
    }
    trimmed(&format!("{v:.*}", (digits as i32 - 1 - exp).max(0) as usize))
}

/// Bytes: whole kilobytes and megabytes as such.
pub fn size(v: u32) -> String {
    let x = f64::from(v);
    let (kilo, mega) = (1024.0, 1024.0 * 1024.0);
    let rint = |v: f64| v.round_ties_even();
    if x >= mega && (mega * rint(x / mega) - x).abs() < 1024.0 {
        format!("{}Mb", g(rint(x / mega), 6))
    } else if x >= kilo && (kilo * rint(x / kilo) - x).abs() < 16.0 {
        format!("{}Kb", g(rint(x / kilo), 6))
    } else {
        format!("{v}b")
    }
}

/// Bytes a second as bits.
pub fn rate(bytes: u64) -> String {
    let mut v = u128::from(bytes) * 8;
    let units = ["", "K", "M", "G", "T"];
    let mut i = 0;
    while i + 1 < units.len() && v >= 1000 && (v.is_multiple_of(1000) || v >= 1_000_000) {
        v /= 1000;
        i += 1;
    }
    format!("{v}{}bit", units[i])
}

/// Microseconds.
pub fn time(us: u32) -> String {
    match us {
        1_000_000.. => format!("{}s", g(f64::from(us) / 1e6, 3)),
        1000.. => format!("{}ms", g(f64::from(us) / 1e3, 3)),
        _ => format!("{us}us"),
    }
}

/// Nanoseconds.
pub fn time64(ns: i64) -> String {
    let x = ns as f64;
    match ns {
        1_000_000_000.. => format!("{}s", g(x / 1e9, 3)),
        1_000_000.. => format!("{}ms", g(x / 1e6, 3)),
        1000.. => format!("{}us", g(x / 1e3, 3)),
        _ => format!("{ns}ns"),
    }
}

/// A share of 32 bits as a percentage.
pub fn percent(v: u32) -> String {
    format!("{}%", g(100.0 * share(v), 6))
}

pub fn share(v: u32) -> f64 {
    f64::from(v) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_iproute2_writes_them() {
        assert_eq!(
            [0.01, 100.0, 0.3, 1234567.0, 0.00001].map(|v| g(v, 6)),
            ["0.01", "100", "0.3", "1.23457e+06", "1e-05"]
        );
        assert_eq!(
            [0, 1599, 10_240, 2000, 33_554_432, 1_047_500].map(size),
            ["0b", "1599b", "10Kb", "2000b", "32Mb", "1047500b"]
        );
        let rates = [125_000, 1_250_000_000, 68_750, 187_500, 0, 128].map(rate);
        assert_eq!(rates, ["1Mbit", "10Gbit", "550Kbit", "1500Kbit", "0bit", "1024bit"]);
        assert_eq!([4999, 99_999, 2_000_000, 10].map(time), ["5ms", "100ms", "2s", "10us"]);
        assert_eq!([10_000_000, 99_968, 5].map(time64), ["10ms", "100us", "5ns"]);
        assert_eq!([42_949_673, 0x4000_0000, 12_884_902].map(percent), ["1%", "25%", "0.3%"]);
    }
}
