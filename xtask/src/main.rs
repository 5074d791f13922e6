//! Project automation, started as `cargo xtask COMMAND`.
//!
//! `test` is the one command that decides whether a change is good; the others are parts of it. What a stage does
//! stands in `stages`, how the result of one is counted in `tally`, the house rules in `tidy`, the scripts in `conformance`, and the distribution's
//! programs that end-to-end tests need in `packages`. Tests themselves live beside the code they test.
#![forbid(unsafe_code)]

mod conformance;
mod coverage;
mod goodput;
mod packages;
mod packetdrill;
mod parity;
mod stages;
mod tally;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [STAGE]...   everything, or only the stages named: packages fmt clippy tidy unit conformance
                              parity lab e2e
cargo xtask packages          install what the end-to-end tests need (as root, or through sudo without a password)
cargo xtask tidy              the house rules only
cargo xtask conformance       the scripts below conformance/, and the table docs/conformance.md
cargo xtask parity [NAME]...  the programs below parity/ on Linux and on belljar, line by line (2 minutes; what they see
                              depends on an idle machine); `parity record` writes down what this kernel says (root)
cargo xtask coverage          which counters and drop reasons the tests move: docs/coverage.md (half an hour; builds its own)
cargo xtask tools             tools of the distribution in a namespace of Linux and under belljar exec: docs/tools.md (root)
cargo xtask packetdrill DIR   upstream's packetdrill, from a checkout, drives belljar (docs/packetdrill.md)
cargo xtask goodput           what arrives over hard links: belljar in the lab, this machine's kernel (root; docs/goodput.md)

The last line of `test` is `N passed, N failed, N skipped`; the exit code is 0 only when nothing failed.
With CI=true a missing program is a failure; elsewhere its tests are skipped, each with a line that says so.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    match args.first().map(String::as_str) {
        Some("test") => stages::test(&root, args.get(1..).unwrap_or_default()),
        Some("packages") => packages::ensure().exit(),
        Some("tidy") => {
            let report = tidy::run(&root);
            report.print();
            if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("conformance") => {
            let tally = conformance::run(&root);
            println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("parity") => {
            let tally = parity::run(&root, args.get(1..).unwrap_or_default());
            println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("coverage") => {
            let tally = coverage::run(&root);
            tally.notes.iter().for_each(|n| println!("{n}"));
            println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("packetdrill") => packetdrill::run(&root, args.get(1..).unwrap_or_default()),
        Some("tools") => {
            let tally = tools::run(&root);
            println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some("goodput") => goodput::run(&root, args.get(1..).unwrap_or_default()),
        None | Some("help" | "-h" | "--help") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("xtask: there is no command `{other}`\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The workspace's root: where this crate's manifest is, one up.
fn root() -> PathBuf {
    let mut p = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    p.pop();
    p
}

/// CI=true (as every CI service sets it): nothing may be skipped for want of a program.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}
