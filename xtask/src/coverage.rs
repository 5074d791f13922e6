//! `cargo xtask coverage`: which counters and drop reasons the tests move, and who does: docs/coverage.md.
//!
//! The kernel is built with its feature `coverage`, which writes each name down once per process; the tests of the
//! workspace, the scripts and the lab run with it. A counter that nothing moved and that does not stand as `never("why")`
//! in `mib.rs` counts as failed.
use crate::stages::stream;
use crate::tally::Tally;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const TABLE: &str = "docs/coverage.md";
const HEAD: &str = "\
# What the tests move

Every counter of the kernel and every reason for which it drops a packet, and who moved it in one run of the tests; written by
`cargo xtask coverage`. *kernel*: the tests of the crates; *scripts*: `conformance/`; *lab*: random networks in virtual time;
*programs*: real programs in jars. A counter that stands still says why.

";

/// Columns of the table, in order.
const WHO: [&str; 4] = ["kernel", "scripts", "lab", "programs"];

/// Who moved what: name to columns.
type Moved = BTreeMap<(String, String), BTreeSet<usize>>;

pub fn run(root: &Path) -> Tally {
    let notes = std::env::temp_dir().join(format!("belljar-coverage-{}", std::process::id()));
    let done = measure(root, &notes);
    let text = std::fs::read_to_string(&notes).unwrap_or_default();
    let _ = std::fs::remove_file(&notes);
    let mut tally = match done {
        Ok(tally) => tally,
        Err(e) => return Tally::one(false, &format!("coverage: {e}")),
    };
    let read = |p: &str| std::fs::read_to_string(root.join(p)).unwrap_or_default();
    let (mib, drop) = (read("crates/kernel/src/net/mib.rs"), read("crates/kernel/src/net/drop.rs"));
    let (page, still) = page(&counters(&mib), &reasons(&drop), &moved(&text));
    tally.add(&Tally::one(std::fs::write(root.join(TABLE), page).is_ok(), TABLE));
    still.iter().for_each(|name| tally.add(&Tally::one(false, &format!("coverage: nothing moves {name}"))));
    tally
}

/// Runs everything with the recorder on.
fn measure(root: &Path, notes: &Path) -> std::io::Result<Tally> {
    std::fs::write(notes, "")?;
    // Tests run programs as an ordinary user.
    std::fs::set_permissions(notes, std::fs::Permissions::from_mode(0o666))?;
    let path = notes.to_string_lossy().into_owned();
    let env = [("BELLJAR_COVERAGE", path.as_str())];
    let built = ["--features", "belljar-kernel/coverage", "--target-dir", "target/coverage"];
    let mut tally = Tally::default();
    let mut step = |name: &str, limit_s, words: &[&str]| {
        let words: Vec<&str> = words.iter().chain(&built).copied().collect();
        let mut tests = Tally::default();
        let ok = stream(root, limit_s, &words, &env, |line| {
            tests.line(line);
            line.ends_with("... FAILED")
        });
        tally.add(&tests);
        tally.add(&Tally::one(ok, &format!("coverage: {name}")));
    };
    step("tests", 3600, &["cargo", "test", "--workspace", "--no-fail-fast"]);
    step("the command", 1200, &["cargo", "build", "--package", "belljar"]);
    let mut run = |name: &str, words: &[&str]| {
        let words: Vec<&str> = std::iter::once("target/coverage/debug/belljar").chain(words.iter().copied()).collect();
        tally.add(&Tally::one(stream(root, 1200, &words, &env, |_| false), &format!("coverage: {name}")));
    };
    run("scripts", &["script", "conformance"]);
    run("lab", &["lab", "sweep", "random", "--seeds", "0..100"]);
    Ok(tally)
}

/// Lines `program [command] kind name`.
fn moved(text: &str) -> Moved {
    let mut all = Moved::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (who, kind, name) = match words.as_slice() {
            ["belljar", command, kind, name] => (of_command(command), kind, name),
            [_, kind, name] => (0, kind, name),
            _ => continue,
        };
        all.entry(((*kind).to_owned(), (*name).to_owned())).or_default().insert(who);
    }
    all
}

fn of_command(command: &str) -> usize {
    match command {
        "script" => 1,
        "lab" => 2,
        _ => 3,
    }
}

/// Name, and why it stands still, of every counter, with its group.
fn counters(mib: &str) -> Vec<(String, String, Option<String>)> {
    let body = mib.split("\nmibs! {").nth(1).and_then(|b| b.split("\n}\n").next()).unwrap_or_default();
    let (mut group, mut all) = (String::new(), Vec::new());
    for line in body.lines() {
        let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        match quoted.as_slice() {
            [name] if line.trim_end().ends_with('{') => group = (*name).to_owned(),
            [name] => all.push((group.clone(), format!("{group}{name}"), None)),
            [name, why] => all.push((group.clone(), format!("{group}{name}"), Some((*why).to_owned()))),
            _ => {}
        }
    }
    all
}

fn reasons(drop: &str) -> Vec<String> {
    let body = drop.split("\nreasons! {").nth(1).and_then(|b| b.split("\n}\n").next()).unwrap_or_default();
    body.lines().filter_map(|l| Some(l.split_once(" = \"")?.1.split_once('"')?.0.to_owned())).collect()
}

/// The page, and what nothing moved although it could be.
fn page(counters: &[(String, String, Option<String>)], reasons: &[String], moved: &Moved) -> (String, Vec<String>) {
    let who = |kind: &str, name: &str| moved.get(&(kind.to_owned(), name.to_owned())).filter(|w| !w.is_empty());
    let columns = |w: &BTreeSet<usize>| -> String {
        (0..WHO.len()).map(|n| if w.contains(&n) { " ● |" } else { " |" }).collect()
    };
    let (mut out, mut still, mut group) = (String::from(HEAD), Vec::new(), "");
    let count = counters.iter().filter(|(_, name, _)| who("counter", name).is_some()).count();
    let dropped = reasons.iter().filter(|r| who("reason", r).is_some()).count();
    let _ = writeln!(out, "{count} of {} counters, {dropped} of {} reasons.", counters.len(), reasons.len());
    let head = |out: &mut String, title: &str| {
        let _ = writeln!(out, "\n## {title}\n\n| | {} |\n|---|{}", WHO.join(" | "), ":-:|".repeat(WHO.len()));
    };
    for (g, name, why) in counters {
        if g != group {
            head(&mut out, g);
            group = g;
        }
        match (who("counter", name), why) {
            (Some(w), _) => {
                let _ = writeln!(out, "| {name} |{}", columns(w));
            }
            (None, Some(why)) => {
                let _ = writeln!(out, "| {name}: never, {why} | | | | |");
            }
            (None, None) => {
                let _ = writeln!(out, "| {name}: **not moved** | | | | |");
                still.push(name.clone());
            }
        }
    }
    head(&mut out, "Drop reasons");
    for name in reasons {
        match who("reason", name) {
            Some(w) => {
                let _ = writeln!(out, "| {name} |{}", columns(w));
            }
            None => {
                let _ = writeln!(out, "| {name}: **not moved** | | | | |");
                still.push(name.clone());
            }
        }
    }
    (out, still)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_reasons_and_notes_are_read() {
        let mib = "x\nmibs! {\n    \"Ip\" {\n        IpA = \"A\",\n        IpB = \"B\" never(\"no B\"),\n    }\n}\n";
        let all = counters(mib);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], ("Ip".into(), "IpB".into(), Some("no B".into())));
        let names = reasons("\nreasons! {\n    /// Gone.\n    A = \"A_B\",\n}\n");
        assert_eq!(names, ["A_B"]);
        let moved = moved("tests-1 counter IpA\nbelljar lab counter IpA\nbelljar run reason A_B\nrubbish\n");
        let (page, still) = page(&all, &names, &moved);
        assert!(still.is_empty(), "{still:?}");
        assert!(page.contains("1 of 2 counters, 1 of 1 reasons."), "{page}");
        assert!(page.contains("| IpA | ● | | ● | |\n| IpB: never, no B | | | | |"), "{page}");
    }
}
