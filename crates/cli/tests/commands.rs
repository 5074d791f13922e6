//! The command line without a jar: help, and one clear sentence for every mistake. `TRYCMD=overwrite` writes the texts anew.
#[test]
fn help_and_errors() {
    trycmd::TestCases::new().env("NO_COLOR", "1").env("COLUMNS", "100").case("tests/cmd/*.trycmd").run();
}
