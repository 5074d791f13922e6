//! House rules that neither rustc nor clippy can check: who may import whom, headers, file length, hash order, unsafe
//! code where it may not be, machine paths. All by reading text: each rule is a heuristic that errs on the side of
//! saying so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each crate may depend on (ARCHITECTURE.md).
const IMPORTS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("coverage", &[]),
    ("wire", &["abi"]),
    ("kernel", &["wire", "abi", "coverage"]),
    ("link", &["wire"]),
    ("capture", &["kernel", "wire", "abi"]),
    ("topology", &["kernel", "link", "wire", "abi"]),
    ("lab", &["topology", "kernel", "capture", "link", "wire", "abi"]),
    ("script", &["lab", "kernel", "wire", "abi"]),
    ("packetdrill-so", &["script", "lab", "kernel", "wire", "abi"]),
    ("host", &["kernel", "wire", "abi"]),
    ("jar", &["topology", "host", "kernel", "link", "capture", "wire", "abi"]),
    ("cli", &["abi", "wire", "kernel", "link", "capture", "topology", "lab", "script", "host", "jar"]),
];
/// Where unsafe code may be: what faces the host's kernel, and what faces C.
const UNSAFE: &[&str] = &["host", "packetdrill-so"];
/// No clock, threads or hash order here; the three with a clippy.toml, and the four that live in virtual time with them.
const CORE: &[&str] = &["abi", "wire", "kernel", "link", "topology", "lab", "script"];
const WARN_LINES: usize = 600;
const MAX_LINES: usize = 1000;
/// Files that are tables: long because the thing they list is long.
const TABLES: &[&str] = &["crates/abi/src/", "crates/kernel/src/net/mib.rs", "crates/kernel/src/net/sysctl.rs"];

#[derive(Debug, Default)]
pub struct Report {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    files: usize,
}

impl Report {
    pub fn print(&self) {
        for w in &self.warnings {
            println!("tidy: warning: {w}");
        }
        for e in &self.errors {
            println!("tidy: error: {e}");
        }
        println!("tidy: {} files, {} errors, {} warnings", self.files, self.errors.len(), self.warnings.len());
    }
}

pub fn run(root: &Path) -> Report {
    let mut report = Report::default();
    let mut sources: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for path in tracked(root) {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        report.files += 1;
        machine_paths(&path, &text, &mut report);
        if path.ends_with(".rs") {
            header(&path, &text, &mut report);
            length(&path, &text, &mut report);
            no_unsafe(&path, &text, &mut report);
            if let Some(name) = crate_of(&path) {
                sources.entry(name.to_owned()).or_default().push((path, text));
            }
        } else if path.ends_with(".md") {
            named_files(root, &path, &text, &mut report);
        } else if path.ends_with("Cargo.toml") {
            imports(&path, &text, &mut report);
        }
    }
    for (name, files) in sources.iter().filter(|(n, _)| CORE.contains(&n.as_str())) {
        hash_order(name, files, &mut report);
    }
    same_clippy(root, &mut report);
    report
}

/// What git tracks or would track; without git, nothing is checked and that is an error.
fn tracked(root: &Path) -> Vec<String> {
    let out =
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root).output();
    match out {
        Ok(o) if o.status.success() => String::from_utf8_lossy(&o.stdout).lines().map(str::to_owned).collect(),
        _ => walk(root, root),
    }
}

/// For a tree without git, such as an unpacked release.
fn walk(root: &Path, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(root, &path));
        } else if let Ok(rel) = path.strip_prefix(root) {
            found.push(rel.to_string_lossy().into_owned());
        }
    }
    found
}

fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

fn imports(path: &str, text: &str, report: &mut Report) {
    let Some(name) = crate_of(path) else { return };
    let Some((_, allowed)) = IMPORTS.iter().find(|(n, _)| *n == name) else {
        report.errors.push(format!("{path}: crate `{name}` has no line in the import table of xtask/src/tidy.rs"));
        return;
    };
    let mut in_dependencies = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]" || line.ends_with(".dependencies]");
        } else if let Some(rest) = line.strip_prefix("belljar-").filter(|_| in_dependencies) {
            let to: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            if !allowed.contains(&to.as_str()) {
                report
                    .errors
                    .push(format!("{path}: `{name}` may not import `{to}`: a crate imports only crates above it"));
            }
        }
    }
}

fn header(path: &str, text: &str, report: &mut Report) {
    // A `#!` line may come first (scripts and inner attributes), nothing else.
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with("#!"));
    if !first.is_some_and(|l| l.starts_with("//! ") && l.len() > 12) {
        report.errors.push(format!("{path}: has no `//!` header that says what it is for"));
    }
}

fn length(path: &str, text: &str, report: &mut Report) {
    if is_test(path) || TABLES.iter().any(|t| path.starts_with(t)) {
        return;
    }
    let lines = code_lines(text);
    if lines > MAX_LINES {
        report.errors.push(format!("{path}: {lines} lines without its tests; cut it (limit {MAX_LINES})"));
    } else if lines > WARN_LINES {
        report.warnings.push(format!("{path}: {lines} lines without its tests; files should end before {WARN_LINES}"));
    }
}

/// Lines up to the file's own test module.
fn code_lines(text: &str) -> usize {
    text.lines().take_while(|l| *l != "#[cfg(test)]").count()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn no_unsafe(path: &str, text: &str, report: &mut Report) {
    let Some(name) = crate_of(path).or_else(|| path.starts_with("xtask/").then_some("xtask")) else { return };
    if UNSAFE.contains(&name) {
        return;
    }
    let root_file = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    if root_file && !text.contains("#![forbid(unsafe_code)]") {
        report.errors.push(format!(
            "{path}: wants `#![forbid(unsafe_code)]`: unsafe lives in crates/host and packetdrill-so only"
        ));
    }
    for (n, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| code.contains(w));
        if found && !code.contains('"') {
            report.errors.push(format!("{path}:{}: unsafe outside crates/host and packetdrill-so", n + 1));
        }
    }
}

fn machine_paths(path: &str, text: &str, report: &mut Report) {
    // Written in halves, so that this file does not find itself.
    let marks = [
        concat!("/wo", "rk/"),
        concat!("/tmp", "/bj"),
        concat!("/ro", "ot/"),
        concat!("/home", "/"),
        concat!("/Us", "ers/"),
    ];
    for (n, line) in text.lines().enumerate() {
        if let Some(mark) = marks.iter().find(|m| names_place(line, m)) {
            report.errors.push(format!("{path}:{}: names a place on somebody's machine (`{mark}`)", n + 1));
        }
    }
}

/// A path that begins with `mark`: not one that merely contains it, as `some/wo…rk/` does.
fn names_place(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || "._-}~/".contains(c))
    })
}

/// A document that names a file of ours in backticks names one that is there.
fn named_files(root: &Path, path: &str, text: &str, report: &mut Report) {
    for (n, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let ours = ["crates/", "xtask/", "bench/", "fuzz/"].iter().any(|p| word.starts_with(p));
            if ours && !word.contains([' ', '*', '{', '…']) && !root.join(word).exists() {
                report.errors.push(format!("{path}:{}: names `{word}`, which is not there", n + 1));
            }
        }
    }
}

/// `for … in` over something declared as a hash table in the same crate. Clippy sees the methods, not the loop.
fn hash_order(name: &str, files: &[(String, String)], report: &mut Report) {
    let mut tables = BTreeSet::new();
    for (_, text) in files {
        for line in text.lines().map(|l| l.split("//").next().unwrap_or_default()) {
            let kinds = ["HashMap<", "HashSet<", "HashTable<"];
            let Some(at) = kinds.iter().filter_map(|k| line.find(k)).min() else { continue };
            let Some(head) = line.get(..at).and_then(|h| h.trim_end().strip_suffix(':')) else { continue };
            tables.extend(head.rsplit(|c: char| !is_word(c)).next().filter(|w| !w.is_empty()).map(str::to_owned));
        }
    }
    for (path, text) in files {
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().trim();
            let Some((_, over)) = code.strip_prefix("for ").and_then(|c| c.split_once(" in ")) else { continue };
            let over = over.trim_end_matches('{').trim().trim_start_matches("&mut ").trim_start_matches('&');
            let last = over.rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
            if tables.contains(last) {
                report.errors.push(format!("{path}:{}: crate `{name}` loops over `{last}` in hash order", n + 1));
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The three lists are one list; a rule added to one and not to the others would go unnoticed.
fn same_clippy(root: &Path, report: &mut Report) {
    let read = |c: &str| std::fs::read_to_string(root.join("crates").join(c).join("clippy.toml")).unwrap_or_default();
    let kernel = read("kernel");
    for other in ["abi", "wire"] {
        if read(other) != kernel || kernel.is_empty() {
            report.errors.push(format!("crates/{other}/clippy.toml differs from crates/kernel/clippy.toml"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(check: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut r = Report::default();
        check(&mut r);
        r.errors
    }

    #[test]
    fn a_crate_imports_only_crates_above_it() {
        let toml = "[dependencies]\nbelljar-jar.workspace = true\nbelljar-wire.workspace = true\n[dev-dependencies]\nbelljar-lab.workspace = true\n";
        let e = errors(|r| imports("crates/kernel/Cargo.toml", toml, r));
        assert_eq!(e.len(), 1, "{e:?}");
        assert!(e.iter().all(|e| e.contains("may not import `jar`")));
        assert_eq!(errors(|r| imports("crates/novel/Cargo.toml", "", r)).len(), 1);
    }

    #[test]
    fn every_file_says_what_it_is_for() {
        assert!(errors(|r| header("a.rs", "//! What this is for.\n", r)).is_empty());
        assert!(errors(|r| header("a.rs", "#![forbid(unsafe_code)]\n//! What this is for.\n", r)).is_empty());
        assert_eq!(errors(|r| header("a.rs", "use x;\n//! What this is for.\n", r)).len(), 1);
    }

    #[test]
    fn tests_do_not_make_a_file_long() {
        let long = format!("{}#[cfg(test)]\n{}", "x\n".repeat(10), "x\n".repeat(2000));
        assert_eq!(code_lines(&long), 10);
        assert_eq!(errors(|r| length("crates/x/src/a.rs", &"x\n".repeat(1001), r)).len(), 1);
        assert!(errors(|r| length("crates/x/tests/a.rs", &"x\n".repeat(1001), r)).is_empty());
    }

    #[test]
    fn loops_in_hash_order_are_found() {
        let text = "struct A {\n    pub socks: HashMap<u32, u32>,\n    list: Vec<u32>,\n}\nfn f(a: &A) {\n    for s in &a.socks {\n    for s in &a.list {\n";
        let files = [("crates/kernel/src/a.rs".to_owned(), text.to_owned())];
        let e = errors(|r| hash_order("kernel", &files, r));
        assert_eq!(e.len(), 1, "{e:?}");
        assert!(e.iter().all(|e| e.contains("a.rs:6")));
    }

    #[test]
    fn unsafe_is_found_outside_host_only() {
        let text = "fn f() { unsafe { g() } }\n// unsafe { in a comment }\n";
        assert_eq!(errors(|r| no_unsafe("crates/jar/src/a.rs", text, r)).len(), 1);
        assert!(errors(|r| no_unsafe("crates/host/src/a.rs", text, r)).is_empty());
    }

    #[test]
    fn machine_paths_are_found_and_lookalikes_are_not() {
        let own = concat!("see /wo", "rk/x and more");
        assert_eq!(errors(|r| machine_paths("a.md", own, r)).len(), 1);
        assert!(errors(|r| machine_paths("a.md", concat!("net", "/wo", "rk/x"), r)).is_empty());
    }
}
