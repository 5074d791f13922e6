//! `--set K=V`: the settings of an experiment with their defaults, read with the units that people write.
use belljar_kernel::net::sysctl::{is_known, nearest, nearest_among};
use belljar_link::{parse_delay, parse_percent, parse_rate, parse_size};

use std::ops::RangeInclusive;

/// One setting that an experiment knows.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub key: &'static str,
    pub default: &'static str,
    pub about: &'static str,
}

/// The values of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    known: &'static [Known],
    given: Vec<(String, String)>,
}

impl Settings {
    /// Keys with a dot are sysctls of every host; others must be known.
    pub fn new(known: &'static [Known], given: &[(String, String)]) -> Result<Settings, String> {
        for (key, _) in given {
            if !key.contains('.') && !known.iter().any(|k| k.key == key) {
                let keys: Vec<_> = known.iter().map(|k| k.key).collect();
                let near = nearest_among(key, keys.iter().copied()).map(|n| format!(" (did you mean {n}?)"));
                let near = near.unwrap_or_default();
                return Err(format!("unknown setting {key:?}{near}: one of {}, or a sysctl", keys.join(", ")));
            }
            if key.contains('.') && !is_known(key) {
                let near = nearest(key).map_or(String::new(), |n| format!("; did you mean {n}?"));
                return Err(format!("there is no setting {key}{near}"));
            }
        }
        Ok(Settings { known, given: given.to_vec() })
    }

    pub fn text(&self, key: &str) -> &str {
        let given = self.given.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        given.or_else(|| self.known.iter().find(|k| k.key == key).map(|k| k.default)).unwrap_or("")
    }

    pub fn sysctls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().filter(|(k, _)| k.contains('.')).map(|(k, v)| (k.as_str(), v.as_str()))
    }

    pub fn count(&self, key: &str) -> Result<u64, String> {
        let text = self.text(key);
        text.parse().map_err(|_| format!("{key} {text:?} is no number"))
    }

    /// A number within a range.
    pub fn count_in(&self, key: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
        let n = self.count(key)?;
        let outside = || format!("{key} is {} to {}, not {n}", range.start(), range.end());
        if range.contains(&n) { Ok(n) } else { Err(outside()) }
    }

    /// `none`, or a number.
    pub fn maybe_count(&self, key: &str) -> Result<Option<u64>, String> {
        if self.text(key) == "none" { Ok(None) } else { self.count(key).map(Some) }
    }

    pub fn delay(&self, key: &str) -> Result<u64, String> {
        parse_delay(self.text(key)).map_err(|e| format!("{key}: {e}"))
    }

    pub fn percent(&self, key: &str) -> Result<f64, String> {
        parse_percent(self.text(key)).map_err(|e| format!("{key}: {e}"))
    }

    /// `none` is no limit.
    pub fn rate(&self, key: &str) -> Result<Option<u64>, String> {
        match self.text(key) {
            "none" => Ok(None),
            text => parse_rate(text).map(Some).map_err(|e| format!("{key}: {e}")),
        }
    }

    /// Bytes: `1GB`, `64MiB`, `5000`.
    pub fn size(&self, key: &str) -> Result<u64, String> {
        parse_size(self.text(key).trim()).map_err(|e| format!("{key}: {e}"))
    }

    /// The words that give these settings again.
    pub fn replay(&self) -> String {
        self.given.iter().map(|(k, v)| format!(" --set '{k}={v}'")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] =
        &[Known { key: "size", default: "1GB", about: "" }, Known { key: "rate", default: "none", about: "" }];

    #[test]
    fn units_defaults_and_mistakes() {
        let of = |k: &str, v: &str| Settings::new(KNOWN, &[(k.to_owned(), v.to_owned())]);
        assert_eq!(Settings::new(KNOWN, &[]).unwrap().size("size"), Ok(1_000_000_000));
        assert_eq!(of("size", "64MiB").unwrap().size("size"), Ok(64 << 20));
        assert!(of("size", "1 parsec").unwrap().size("size").unwrap_err().contains("unknown unit"));
        assert_eq!(of("rate", "8mbit").unwrap().rate("rate"), Ok(Some(8_000_000)));
        let unknown = of("sise", "1").unwrap_err();
        assert!(unknown.contains("did you mean size?") && unknown.contains("one of size, rate"), "{unknown}");
        assert!(of("net.core.somaxcon", "1").unwrap_err().contains("did you mean net.core.somaxconn?"));
        assert_eq!(of("size", "7").unwrap().count_in("size", 1..=7), Ok(7));
        assert_eq!(of("size", "8").unwrap().count_in("size", 1..=7), Err("size is 1 to 7, not 8".to_owned()));
        let s = of("net.core.somaxconn", "4").unwrap();
        assert_eq!(s.sysctls().collect::<Vec<_>>(), [("net.core.somaxconn", "4")]);
        assert_eq!(s.replay(), " --set 'net.core.somaxconn=4'");
    }
}
