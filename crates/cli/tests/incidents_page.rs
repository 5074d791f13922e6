//! The incidents of docs/incidents.md happen, are told as the page says, and go away.
use std::process::Command;

#[test]
fn the_page_about_incidents_tells_the_truth() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let works = |program: &str, arg: &str| Command::new(program).arg(arg).output().is_ok_and(|o| o.status.success());
    for (program, arg) in
        [("python3", "--version"), ("iptables", "--version"), (env!("CARGO_BIN_EXE_belljar"), "doctor")]
    {
        if !works(program, arg) {
            assert!(std::env::var_os("CI").is_none(), "{program} {arg} does not work");
            return eprintln!("SKIPPED: docs/incidents.md, {program} {arg} does not work here");
        }
    }
    let cases = trycmd::TestCases::new();
    cases.env("NO_COLOR", "1").case(format!("{root}/docs/incidents.md")).run();
}
