//! The words of `ip route` for RTA_METRICS.
use crate::rtnetlink::*;

/// By number, from RTAX_MTU on, in the order in which `ip route show` prints them.
pub const RTAX_WORDS: [&str; 16] = [
    "mtu",
    "window",
    "rtt",
    "rttvar",
    "ssthresh",
    "cwnd",
    "advmss",
    "reordering",
    "hoplimit",
    "initcwnd",
    "features",
    "rto_min",
    "initrwnd",
    "quickack",
    "congctl",
    "fastopen_no_cookie",
];

/// The metric that a word names.
pub fn rtax_of(word: &str) -> Option<u16> {
    let at = RTAX_WORDS.iter().position(|w| *w == word)?;
    Some(at as u16 + RTAX_MTU)
}

pub fn rtax_word(which: u16) -> Option<&'static str> {
    RTAX_WORDS.get(usize::from(which).checked_sub(usize::from(RTAX_MTU))?).copied()
}

/// So many of its units are a millisecond: round trips are kept in eighths, their deviation in quarters.
pub fn rtax_per_ms(which: u16) -> u32 {
    match which {
        RTAX_RTT => 8,
        RTAX_RTTVAR => 4,
        _ => 1,
    }
}

/// What was given for a metric that is a number; times may have a unit, `features` is `ecn`.
pub fn rtax_value(which: u16, word: &str) -> Option<u32> {
    match which {
        RTAX_FEATURES => (word == "ecn").then_some(1),
        RTAX_RTT | RTAX_RTTVAR | RTAX_RTO_MIN => {
            let (number, ms) = match word.strip_suffix("ms").or_else(|| word.strip_suffix("msec")) {
                Some(n) => (n, 1.0),
                None => match word.strip_suffix('s').or_else(|| word.strip_suffix("sec")) {
                    Some(n) => (n, 1000.0),
                    None => return word.parse().ok(),
                },
            };
            let value = number.parse::<f64>().ok()? * ms * f64::from(rtax_per_ms(which));
            (0.0..=f64::from(u32::MAX)).contains(&value).then_some(value as u32)
        }
        _ => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_units() {
        assert_eq!((rtax_of("mtu"), rtax_of("fastopen_no_cookie")), (Some(RTAX_MTU), Some(RTAX_FASTOPEN_NO_COOKIE)));
        assert_eq!((rtax_word(RTAX_CC_ALGO), rtax_word(RTAX_LOCK)), (Some("congctl"), None));
        assert_eq!((rtax_value(RTAX_RTT, "300"), rtax_value(RTAX_RTT, "30ms")), (Some(300), Some(240)));
        assert_eq!((rtax_value(RTAX_RTO_MIN, "1.5s"), rtax_value(RTAX_RTO_MIN, "x")), (Some(1500), None));
    }
}
