//! [`Conditions`] and the units in which people write them, those of `tc`: `20ms`, `5%`, `10mbit`.
use std::fmt;

/// What a direction does to its packets. The default does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    pub delay_ns: u64,
    /// Delay varies uniformly by this much both ways; packets may overtake each other, as with netem.
    pub jitter_ns: u64,
    /// Probabilities are 0 to 1.
    pub loss: f64,
    pub duplicate: f64,
    /// One bit of the packet is flipped.
    pub corrupt: f64,
    /// The packet goes without delay; where there is no delay, it is held back behind the next few.
    pub reorder: f64,
    /// Bits a second.
    pub rate_bps: Option<u64>,
    /// Packets in the queue, those under way included.
    pub limit: usize,
    /// From so many packets in the queue on, what can carry a congestion mark gets one (RFC 3168 §5).
    pub ecn: Option<usize>,
    /// Bits a second of a policer before the queue: what comes faster than that is dropped.
    pub police_bps: Option<u64>,
    /// Bytes that the policer lets through at once after a pause.
    pub burst: u64,
}

pub const DEFAULT_LIMIT: usize = 1000;
pub const DEFAULT_BURST: u64 = 65_536;
/// Longest delay and jitter.
pub const MAX_DELAY_NS: u64 = 3600 * 1_000_000_000;

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            delay_ns: 0,
            jitter_ns: 0,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            rate_bps: None,
            limit: DEFAULT_LIMIT,
            ecn: None,
            police_bps: None,
            burst: DEFAULT_BURST,
        }
    }
}

/// Why a text is no delay, percentage, rate or condition: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUnit(String);

impl fmt::Display for BadUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUnit {}

fn bad<T>(text: String) -> Result<T, BadUnit> {
    Err(BadUnit(text))
}

/// Splits `20.5ms` into number and unit; `None` without a finite, non-negative number.
fn number(s: &str) -> Option<(f64, &str)> {
    let end = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
    let (n, unit) = s.split_at_checked(end)?;
    n.parse().ok().filter(|v: &f64| v.is_finite()).map(|v| (v, unit.trim_start()))
}

/// `20ms`, `1.5s`, `300us`, `100ns` in nanoseconds, at most an hour. Only 0 may stand without a unit.
pub fn parse_delay(s: &str) -> Result<u64, BadUnit> {
    let hint = "a delay is a number with s, ms, us or ns, as in 20ms";
    let Some((n, unit)) = number(s.trim()) else { return bad(format!("{s:?} is no delay: {hint}")) };
    let scale = match unit.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" => 1e9,
        "ms" | "msec" | "msecs" => 1e6,
        "us" | "usec" | "usecs" | "µs" => 1e3,
        "ns" | "nsec" | "nsecs" => 1.0,
        "" if n == 0.0 => 1.0,
        "" => return bad(format!("{s:?} has no unit: {hint}")),
        other => return bad(format!("{s:?} has the unknown unit {other:?}: {hint}")),
    };
    let ns = (n * scale).round();
    if ns > MAX_DELAY_NS as f64 {
        return bad(format!("{s:?} is longer than an hour"));
    }
    Ok(ns as u64)
}

/// `5%` (or `5`, as tc takes it) as a probability.
pub fn parse_percent(s: &str) -> Result<f64, BadUnit> {
    match number(s.trim()) {
        Some((n, "%" | "")) if n <= 100.0 => Ok(n / 100.0),
        Some((_, "%" | "")) => bad(format!("{s:?} is more than 100%")),
        _ => bad(format!("{s:?} is no percentage: write a number from 0 to 100 with %, as in 5%")),
    }
}

/// `10mbit`, `1gbit`, `512kibit`; bytes as `5MB/s` or tc's `5mbps`; a bare number is bits a second.
pub fn parse_rate(s: &str) -> Result<u64, BadUnit> {
    let hint = "a rate is a number with bit, kbit, mbit or gbit, or with kB/s or MB/s, as in 10mbit";
    let Some((n, unit)) = number(s.trim()) else { return bad(format!("{s:?} is no rate: {hint}")) };
    let Some(scale) = rate_unit(unit) else { return bad(format!("{s:?} has the unknown unit {unit:?}: {hint}")) };
    let bps = (n * scale).round();
    match bps {
        b if b < 1.0 => bad(format!("{s:?} lets nothing pass: leave the rate away for an unlimited one")),
        b if b > 1e15 => bad(format!("{s:?} is more than 1000 Tbit/s")),
        b => Ok(b as u64),
    }
}

fn rate_unit(unit: &str) -> Option<f64> {
    // With "/s" the case of b tells bits from bytes; without, tc's words do, where "bps" are bytes.
    let (prefix, bytes) = match unit.strip_suffix("/s") {
        Some(u) => match u.strip_suffix("bit").or_else(|| u.strip_suffix('b')) {
            Some(p) => (p.to_ascii_lowercase(), 1.0),
            None => (u.strip_suffix('B')?.to_ascii_lowercase(), 8.0),
        },
        None => {
            let u = unit.to_ascii_lowercase();
            match (u.strip_suffix("bit"), u.strip_suffix("bps")) {
                (Some(p), _) => (p.to_string(), 1.0),
                (_, Some(p)) => (p.to_string(), 8.0),
                _ if u.is_empty() => (u, 1.0),
                _ => return None,
            }
        }
    };
    let scale = match prefix.as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(scale * bytes)
}

/// Bytes: `64KiB`, `100kB`, `1500`.
pub fn parse_size(s: &str) -> Result<u64, BadUnit> {
    let (n, unit) = match s.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => s.split_at(end),
        None => (s, ""),
    };
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return bad(format!("{s:?} has an unknown unit: write bytes, KB, MB, GB, KiB, MiB or GiB")),
    };
    let Ok(n) = n.parse::<u64>() else { return bad(format!("{s:?} is no size, as in 64KiB")) };
    n.checked_mul(scale).ok_or_else(|| BadUnit(format!("{s:?} is too much")))
}

/// Every word of [`Conditions::apply`] that a value follows.
const WORDS: [&str; 11] =
    ["delay", "jitter", "loss", "duplicate", "corrupt", "reorder", "rate", "limit", "ecn", "police", "burst"];

impl Conditions {
    /// True when packets pass at once and whole.
    pub fn is_none(&self) -> bool {
        Conditions { limit: DEFAULT_LIMIT, burst: DEFAULT_BURST, ..*self } == Conditions::default()
    }

    /// Changes what the words say and keeps the rest, in tc's grammar: `delay 40ms 5ms loss 5% rate 10mbit limit 100`;
    /// `none` takes all away.
    pub fn apply<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Result<Conditions, BadUnit> {
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if word == "none" {
                self = Conditions::default();
                continue;
            }
            if !WORDS.contains(&word) {
                return bad(format!("unknown condition {word:?}: one of {}, none", WORDS.join(", ")));
            }
            let Some(value) = words.next() else { return bad(format!("{word} wants a value")) };
            match word {
                "delay" => {
                    self.delay_ns = parse_delay(value)?;
                    if let Some(jitter) = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_digit())) {
                        self.jitter_ns = parse_delay(jitter)?;
                    }
                }
                "jitter" => self.jitter_ns = parse_delay(value)?,
                "loss" => self.loss = parse_percent(value)?,
                "duplicate" => self.duplicate = parse_percent(value)?,
                "corrupt" => self.corrupt = parse_percent(value)?,
                "reorder" => self.reorder = parse_percent(value)?,
                "rate" => self.rate_bps = Some(parse_rate(value)?),
                "police" => self.police_bps = Some(parse_rate(value)?),
                "burst" => self.burst = parse_size(value)?.max(1),
                _ => match (value.parse(), word) {
                    (Ok(n), "ecn") if n > 0 => self.ecn = Some(n),
                    (Ok(n), _) if n > 0 => self.limit = n,
                    _ => return bad(format!("{word} {value:?} is no positive number of packets")),
                },
            }
        }
        Ok(self)
    }
}

fn delay(ns: u64) -> String {
    match ns {
        0 => "0ms".to_string(),
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n >= 1_000_000 => format!("{}ms", n as f64 / 1e6),
        n if n >= 1_000 => format!("{}us", n as f64 / 1e3),
        n => format!("{n}ns"),
    }
}

fn percent(p: f64) -> String {
    format!("{}%", (p * 1e8).round() / 1e6)
}

fn rate(bps: u64) -> String {
    match bps {
        b if b >= 1_000_000_000 && b % 1_000_000 == 0 => format!("{}Gbit", b as f64 / 1e9),
        b if b >= 1_000_000 && b % 1_000 == 0 => format!("{}Mbit", b as f64 / 1e6),
        b if b >= 1_000 => format!("{}Kbit", b as f64 / 1e3),
        b => format!("{b}bit"),
    }
}

/// As tc shows them; [`Conditions::apply`] reads it back.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Conditions::default() {
            return f.write_str("none");
        }
        write!(f, "limit {}", self.limit)?;
        if self.delay_ns > 0 || self.jitter_ns > 0 {
            write!(f, " delay {}", delay(self.delay_ns))?;
        }
        if self.jitter_ns > 0 {
            write!(f, " {}", delay(self.jitter_ns))?;
        }
        let chances =
            [("loss", self.loss), ("duplicate", self.duplicate), ("reorder", self.reorder), ("corrupt", self.corrupt)];
        for (name, p) in chances.into_iter().filter(|(_, p)| *p > 0.0) {
            write!(f, " {name} {}", percent(p))?;
        }
        self.rate_bps.map_or(Ok(()), |bps| write!(f, " rate {}", rate(bps)))?;
        self.ecn.map_or(Ok(()), |n| write!(f, " ecn {n}"))?;
        self.police_bps.map_or(Ok(()), |bps| write!(f, " police {}", rate(bps)))?;
        if self.burst != DEFAULT_BURST { write!(f, " burst {}", self.burst) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_as_in_tc() {
        assert_eq!(parse_delay("20ms"), Ok(20_000_000));
        assert_eq!(
            (parse_delay("1.5s"), parse_delay("300 us"), parse_delay("0")),
            (Ok(1_500_000_000), Ok(300_000), Ok(0))
        );
        assert_eq!((parse_percent("5%"), parse_percent("0.1"), parse_percent("100%")), (Ok(0.05), Ok(0.001), Ok(1.0)));
        let rates = [("10mbit", 10_000_000), ("1Gbit", 1_000_000_000), ("5MB/s", 40_000_000), ("5Mb/s", 5_000_000)];
        for (s, bps) in rates.into_iter().chain([
            ("1mbps", 8_000_000),
            ("8kibit", 8192),
            ("2.5Mbit/s", 2_500_000),
            ("64000", 64000),
        ]) {
            assert_eq!(parse_rate(s), Ok(bps), "{s}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        let say = |e: Result<u64, BadUnit>| e.unwrap_err().to_string();
        assert_eq!(say(parse_delay("20")), "\"20\" has no unit: a delay is a number with s, ms, us or ns, as in 20ms");
        assert!(say(parse_delay("fast")).contains("is no delay") && say(parse_delay("-3ms")).contains("is no delay"));
        assert!(say(parse_delay("2h")).contains("unknown unit \"h\"") && say(parse_delay("9999s")).contains("an hour"));
        assert!(
            say(parse_rate("0")).contains("lets nothing pass") && say(parse_rate("3 parsecs")).contains("unknown unit")
        );
        assert!(parse_percent("120%").unwrap_err().to_string().contains("more than 100%"));
        for s in ["", "%", "1e999", "..", "5x", "١%"] {
            assert!(parse_percent(s).is_err() && parse_rate(s).is_err() && parse_delay(s).is_err(), "{s}");
        }
    }

    #[test]
    fn words_go_round() {
        let c = Conditions::default().apply("delay 40ms 5ms loss 5% rate 10mbit".split(' ')).unwrap();
        assert_eq!((c.delay_ns, c.jitter_ns, c.loss, c.rate_bps), (40_000_000, 5_000_000, 0.05, Some(10_000_000)));
        assert_eq!(c.to_string(), "limit 1000 delay 40ms 5ms loss 5% rate 10Mbit");
        assert_eq!(Conditions::default().apply(c.to_string().split(' ')), Ok(c));
        let d = c.apply(["loss", "0%", "limit", "10", "reorder", "25%"]).unwrap();
        assert_eq!((d.delay_ns, d.loss, d.limit, d.reorder), (40_000_000, 0.0, 10, 0.25));
        assert_eq!((d.apply(["none"]), Conditions::default().to_string()), (Ok(Conditions::default()), "none".into()));
        let p = c.apply(["police", "5mbit", "burst", "64kB"]).unwrap();
        assert_eq!((p.police_bps, p.burst), (Some(5_000_000), 64_000));
        assert_eq!(p.to_string(), "limit 1000 delay 40ms 5ms loss 5% rate 10Mbit police 5Mbit burst 64000");
        assert_eq!(Conditions::default().apply(p.to_string().split(' ')), Ok(p));
        assert!(c.apply(["loss"]).is_err() && c.apply(["speed", "1"]).is_err() && c.apply(["limit", "0"]).is_err());
    }
}
