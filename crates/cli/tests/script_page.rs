//! The commands that docs/script.md shows are run, and print what it says. `TRYCMD=overwrite` writes the page anew.
#[test]
fn the_page_about_scripts_tells_the_truth() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let cases = trycmd::TestCases::new();
    cases.env("NO_COLOR", "1").case(format!("{root}/docs/script.md")).run();
}
