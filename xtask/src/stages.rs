//! `cargo xtask test`: the stages in order, each timed, each with a limit, and one line at the end.

use crate::packages::{self, Outcome};
use crate::tally::Tally;
use crate::{conformance, in_ci, parity, tidy};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const STAGES: &[&str] = &["packages", "fmt", "clippy", "tidy", "unit", "conformance", "lab", "e2e", "parity"];
/// Runs when it is named: what its programs see depends on an idle machine.
const NAMED: &str = "parity";

pub fn test(root: &Path, wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|w| !STAGES.contains(&w.as_str())) {
        eprintln!("xtask: there is no stage `{unknown}`; there are: {}", STAGES.join(" "));
        return ExitCode::from(2);
    }
    let begin = Instant::now();
    let mut all = Tally::default();
    for &stage in STAGES.iter().filter(|s| wanted.iter().any(|w| w == *s) || wanted.is_empty() && **s != NAMED) {
        println!("=== {stage}");
        let t0 = Instant::now();
        let tally = run_stage(root, stage);
        println!(
            "=== {stage}: {} passed, {} failed, {} skipped in {}",
            tally.passed,
            tally.failed,
            tally.skipped,
            seconds(t0.elapsed())
        );
        all.add(&tally);
    }
    println!("=== everything took {}", seconds(begin.elapsed()));
    for note in &all.notes {
        println!("{note}");
    }
    println!("{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped);
    if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_stage(root: &Path, stage: &str) -> Tally {
    match stage {
        "packages" => install(),
        "fmt" | "clippy" => workspaces(root, stage),
        "tidy" => {
            let report = tidy::run(root);
            report.print();
            Tally::one(report.errors.is_empty(), "tidy")
        }
        // The end-to-end program is part of the workspace; here it stands aside for its own stage.
        "unit" => {
            tests(root, "unit", 1200, &["cargo", "test", "--workspace", "--no-fail-fast"], &[("BELLJAR_E2E", "off")])
        }
        "conformance" => conformance::run(root),
        "parity" => parity::stage(root),
        "lab" => lab(root),
        "e2e" => e2e(root),
        _ => Tally::one(false, stage),
    }
}

fn install() -> Tally {
    let outcome = packages::ensure();
    let _ = outcome.exit();
    match outcome {
        Outcome::AllThere | Outcome::Installed(_) => Tally::default(),
        // In CI the tests that need them fail one by one; this line says why in one place.
        Outcome::Missing(p, why) => {
            let word = if in_ci() { "their tests FAIL" } else { "their tests are skipped" };
            Tally { notes: vec![format!("packages missing ({}): {word}: {why}", p.join(" "))], ..Tally::default() }
        }
    }
}

/// Format or lints of the workspace and of the ones beside it.
fn workspaces(root: &Path, stage: &str) -> Tally {
    let mut all = Tally::default();
    for manifest in ["Cargo.toml", "bench/Cargo.toml", "fuzz/Cargo.toml"].into_iter().filter(|m| root.join(m).exists())
    {
        let name = format!("{stage} {manifest}");
        all.add(&match stage {
            "fmt" => check(root, &name, 120, &["cargo", "fmt", "--all", "--check", "--manifest-path", manifest]),
            _ => {
                let words = ["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--manifest-path", manifest];
                check(root, &name, 900, &[&words[..], &["--", "-D", "warnings"]].concat())
            }
        });
    }
    all
}

/// Seeds of the built-in scenarios; a failing one is printed by the lab itself.
fn lab(root: &Path) -> Tally {
    let mut all = Tally::default();
    // Each seed runs twice; a gigabyte each time, the default, would take hours. Of goodput, cells in which a mistake of
    // recovery costs most, with nine tenths of what Linux reaches (docs/goodput.md).
    for (scenario, seeds, set) in [
        ("transfer", "1..20", "size=20MB"),
        ("random", "1..200", "hosts=0"),
        ("goodput", "1..4", "cell=reorder algorithm=cubic least=17mbit"),
        ("goodput", "1..4", "cell=loss-5 algorithm=reno least=1.9mbit"),
        ("goodput", "1..4", "cell=mixed algorithm=bbr least=15mbit"),
        ("goodput", "1..2", "cell=pair algorithm=cubic least=17mbit fair=95%"),
    ] {
        let mut words = vec!["cargo", "run", "--release", "--quiet", "--", "lab", "sweep", scenario, "--seeds", seeds];
        set.split(' ').for_each(|s| words.extend(["--set", s]));
        all.add(&check(root, &format!("lab {scenario} {seeds} {set}"), 600, &words));
    }
    all
}

fn e2e(root: &Path) -> Tally {
    let words = ["cargo", "test", "--release", "--package", "belljar", "--test", "e2e", "--no-fail-fast"];
    tests(root, "e2e", 1500, &words, &[("BELLJAR_E2E", "full")])
}

/// A command that passes or fails as a whole.
fn check(root: &Path, name: &str, limit_s: u64, words: &[&str]) -> Tally {
    Tally::one(stream(root, limit_s, words, &[], |_| true), name)
}

/// A command that prints `test result:` lines. One that fails without naming a failed test counts as one failure.
fn tests(root: &Path, name: &str, limit_s: u64, words: &[&str], env: &[(&str, &str)]) -> Tally {
    let mut tally = Tally::default();
    let ok = stream(root, limit_s, words, env, |line| {
        tally.line(line);
        name == "e2e" || says_something(line)
    });
    if !ok && tally.failed == 0 {
        tally.add(&Tally::one(false, &format!("{name}: the command itself")));
    }
    tally
}

/// Hundreds of `... ok` say less than the result line of their program, and an empty program says nothing.
fn says_something(line: &str) -> bool {
    let quiet =
        ["running ", "test result: ok. 0 passed; 0 failed; 0 ignored", "   Doc-tests", "     Running", "   Compiling"];
    let passed = line.starts_with("test ") && line.ends_with("... ok");
    !line.trim().is_empty() && !passed && !quiet.iter().any(|q| line.starts_with(q))
}

/// Runs a command with stderr joined to stdout, line by line; `show` says which lines to print.
pub(crate) fn stream(
    root: &Path,
    limit_s: u64,
    words: &[&str],
    env: &[(&str, &str)],
    mut show: impl FnMut(&str) -> bool,
) -> bool {
    println!("$ {}", words.join(" "));
    let Ok((reader, writer)) = std::io::pipe() else { return false };
    let Ok(writer2) = writer.try_clone() else { return false };
    // timeout(1) ends the whole process group, so that a hung program does not hang the run.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &limit_s.to_string()]).args(words).envs(env.iter().copied());
    command.current_dir(root).stdin(Stdio::null()).stdout(writer).stderr(writer2);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            println!("cannot start {}: {e}", words.join(" "));
            return false;
        }
    };
    // The command still holds the write ends: without this the reader would never see the end.
    drop(command);
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if show(&line) {
            println!("{line}");
        }
    }
    match child.wait() {
        Ok(status) if status.success() => true,
        Ok(status) if status.code() == Some(124) => {
            println!("FAILED: took longer than {limit_s} s");
            false
        }
        Ok(status) => {
            println!("FAILED: {status}");
            false
        }
        Err(e) => {
            println!("FAILED: {e}");
            false
        }
    }
}

fn seconds(d: Duration) -> String {
    let s = d.as_secs();
    if s >= 60 { format!("{} min {:02} s", s / 60, s % 60) } else { format!("{:.1} s", d.as_secs_f64()) }
}
