//! Counting what a stage's output says: the `test result:` lines of cargo's test harness (ours prints the same line).

/// Results of one stage or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Names of failed tests, and lines about skipped ones, for the end.
    pub notes: Vec<String>,
}

impl Tally {
    pub fn one(ok: bool, name: &str) -> Tally {
        match ok {
            true => Tally { passed: 1, ..Tally::default() },
            false => Tally { failed: 1, notes: vec![format!("FAILED {name}")], ..Tally::default() },
        }
    }

    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes.iter().cloned());
    }

    /// Takes one line of a test program's output.
    pub fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.passed += before(rest, " passed");
            self.failed += before(rest, " failed");
            self.skipped += before(rest, " ignored");
        } else if let Some(rest) = line.strip_prefix("test ") {
            if rest.ends_with("... FAILED") || rest.contains("... FAILED ") {
                self.notes.push(format!("FAILED {}", rest.split(" ... ").next().unwrap_or(rest)));
            } else if rest.contains("... ignored") || rest.contains("... skipped") {
                self.notes.push(format!("skipped {}", rest.replacen(" ... ", ": ", 1)));
            }
        }
    }
}

/// The number that stands right before `word`.
fn before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let head = text.get(..end).unwrap_or_default();
    head.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn counts_what_cargo_prints() {
        let mut t = Tally::default();
        t.line("test a::b ... ok");
        t.line("test a::c ... FAILED");
        t.line("test a::d ... ignored, needs nginx");
        t.line("test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.01s");
        assert_eq!((t.passed, t.failed, t.skipped), (12, 1, 3));
        assert_eq!(t.notes, ["FAILED a::c", "skipped a::d: ignored, needs nginx"]);
    }

    #[test]
    fn an_ignored_test_is_never_a_passed_one() {
        let mut t = Tally::default();
        t.line("test result: ok. 0 passed; 0 failed; 7 ignored; 0 measured; 0 filtered out");
        assert_eq!((t.passed, t.failed, t.skipped), (0, 0, 7));
    }
}
