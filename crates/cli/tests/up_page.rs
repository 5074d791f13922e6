//! The commands that docs/up.md shows are run, and print what it says. `TRYCMD=overwrite` writes the page anew. The network
//! itself is run by the end-to-end test `up_as_the_page_says`.
#[test]
fn the_page_about_networks_from_files_tells_the_truth() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let cases = trycmd::TestCases::new();
    cases.env("NO_COLOR", "1").case(format!("{root}/docs/up.md")).run();
}
