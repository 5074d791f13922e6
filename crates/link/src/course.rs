//! [`Course`]: what happens to a link over time, as one text: clauses of conditions, divided by semicolons.
//!
//! `rate 20mbit delay 10ms; back delay 10ms; at 5s rate 5mbit`: the first clause holds from the beginning, one with `back`
//! for the other direction, one with `at TIME` changes the first direction then.
use crate::Link;
use crate::conditions::{BadUnit, Conditions, parse_delay};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Times in rising order, the first is 0.
    forth: Vec<(u64, Conditions)>,
    back: Conditions,
    next: usize,
}

impl Course {
    pub fn parse(text: &str) -> Result<Course, BadUnit> {
        let mut c = Course::default();
        let mut now = (0, Conditions::default());
        for clause in text.split(';') {
            let mut words = clause.split_whitespace().peekable();
            match words.peek().copied() {
                Some("back") => c.back = c.back.apply(words.skip(1))?,
                Some("at") => {
                    words.next();
                    let at = parse_delay(words.next().unwrap_or(""))?;
                    c.forth.push(now);
                    // What comes too late in the text happens at once.
                    now = (at.max(now.0), now.1.apply(words)?);
                }
                _ => now.1 = now.1.apply(words)?,
            }
        }
        c.forth.push(now);
        Ok(c)
    }

    /// Sets what holds at `now_ns` since the beginning.
    pub fn follow(&mut self, link: &mut Link, now_ns: u64) {
        if self.next == 0 {
            link.ba.set(self.back);
        }
        while let Some((_, conditions)) = self.forth.get(self.next).filter(|(at, _)| *at <= now_ns) {
            link.ab.set(*conditions);
            self.next += 1;
        }
    }

    /// When something changes next.
    pub fn next_change(&self) -> Option<u64> {
        self.forth.get(self.next).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_the_clock() {
        let text = "rate 20mbit delay 10ms; at 5s rate 5mbit; at 10s rate 20mbit loss 1%; back delay 10ms";
        let (mut c, mut link) = (Course::parse(text).unwrap(), Link::new(1));
        let rate = |l: &Link| l.ab.conditions().rate_bps;
        c.follow(&mut link, 0);
        assert_eq!((rate(&link), link.ba.conditions().to_string()), (Some(20_000_000), "limit 1000 delay 10ms".into()));
        assert_eq!(c.next_change(), Some(5_000_000_000));
        c.follow(&mut link, 4_999_999_999);
        assert_eq!(rate(&link), Some(20_000_000));
        c.follow(&mut link, 5_000_000_000);
        assert_eq!((rate(&link), link.ab.conditions().delay_ns), (Some(5_000_000), 10_000_000));
        c.follow(&mut link, 60_000_000_000);
        assert_eq!((link.ab.conditions().loss, c.next_change()), (0.01, None));
        assert!(Course::parse("at noon rate 5mbit").is_err() && Course::parse("rate").is_err());
    }
}
