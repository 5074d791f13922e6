//! `cargo xtask conformance`: every script below `conformance/`, and the table of `docs/conformance.md`.
//!
//! The scripts are run by `belljar script -j`; one object a line comes back. A script that is marked as a deviation has
//! to fail: one that passes is a failure here, so that the mark goes when the difference does.
use crate::tally::Tally;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const TABLE: &str = "docs/conformance.md";
const HEAD: &str = "\
# Conformance

What the scripts below `conformance/` say, by topic; written by `cargo xtask conformance`, checked by `cargo xtask test`.
Each script is a few lines in the language of [script.md](script.md) and names what it proves: a clause of an RFC, or
behaviour of Linux 6.18.

";

#[derive(Debug, Default)]
struct Topic {
    passed: usize,
    failed: usize,
    /// Name and reason.
    known: Vec<(String, String)>,
}

/// Runs them and writes the table.
pub fn run(root: &Path) -> Tally {
    let begin = Instant::now();
    let mut tally = Tally::default();
    let results = match scripts(root) {
        Ok(r) => r,
        Err(why) => return Tally::one(false, &format!("conformance: {why}")),
    };
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    for r in &results {
        let text = |key: &str| r.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").trim_start_matches("conformance/").to_owned();
        let topic = topics.entry(name.split('/').next().unwrap_or_default().to_owned()).or_default();
        let ok = r.get("ok").and_then(Value::as_bool).unwrap_or(false);
        match (ok, text("deviation")) {
            (true, "") => topic.passed += 1,
            (true, why) => topic.known.push((name.clone(), why.to_owned())),
            (false, why) => {
                topic.failed += 1;
                println!("FAILED {name}\n{}", text("explanation"));
                if !why.is_empty() && text("outcome") == "passed" {
                    println!("it passes, but is marked as a deviation: {why}");
                }
            }
        }
        tally.add(&Tally::one(ok, &format!("conformance {name}")));
    }
    let table = table(&topics);
    let path = root.join(TABLE);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&table)
        && let Err(e) = std::fs::write(&path, &table)
    {
        tally.add(&Tally::one(false, &format!("conformance: {TABLE}: {e}")));
    }
    let known: usize = topics.values().map(|t| t.known.len()).sum();
    println!(
        "conformance: {} as they should, {known} of them known deviations, {} failed, in {:.1} s",
        tally.passed,
        tally.failed,
        begin.elapsed().as_secs_f64()
    );
    tally
}

/// One value per script, in order of their names.
fn scripts(root: &Path) -> Result<Vec<Value>, String> {
    let words = ["run", "--quiet", "--package", "belljar", "--", "script", "--json", "conformance"];
    let mut command = Command::new("cargo");
    command.args(words).current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
    let out = command.output().map_err(|e| format!("cannot start cargo: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let all: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    if all.is_empty() { Err("belljar script printed no result".into()) } else { Ok(all) }
}

fn table(topics: &BTreeMap<String, Topic>) -> String {
    let mut out = String::from(HEAD);
    out.push_str("| topic | pass | fail | known deviation |\n|---|---:|---:|---:|\n");
    let mut sum = (0, 0, 0);
    for (name, t) in topics {
        let _ = writeln!(out, "| {name} | {} | {} | {} |", t.passed, t.failed, t.known.len());
        sum = (sum.0 + t.passed, sum.1 + t.failed, sum.2 + t.known.len());
    }
    let _ = writeln!(out, "| **all** | {} | {} | {} |", sum.0, sum.1, sum.2);
    if sum.2 > 0 {
        out.push_str(
            "\n## Known deviations\n\nWhat Linux does, and these scripts say, and belljar does not do yet.\n\n",
        );
        out.push_str("| script | what belljar does instead |\n|---|---|\n");
        for (name, why) in topics.values().flat_map(|t| &t.known) {
            let _ = writeln!(out, "| `conformance/{name}` | {why} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_and_names_deviations() {
        let known = vec![("ack/b.pkt".to_owned(), "says nothing".to_owned())];
        let topics = BTreeMap::from([("ack".to_owned(), Topic { passed: 2, failed: 1, known })]);
        let t = table(&topics);
        assert!(t.contains("| ack | 2 | 1 | 1 |\n| **all** | 2 | 1 | 1 |\n"), "{t}");
        assert!(t.contains("| `conformance/ack/b.pkt` | says nothing |"), "{t}");
    }
}
