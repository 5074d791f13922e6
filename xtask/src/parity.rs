//! `cargo xtask parity`: the programs below `parity/` on this machine's kernel and under `belljar run`, line by line.
//!
//! Linux is what `parity/linux/` holds, recorded on 6.18 (`cargo xtask parity record`). Where the machine's kernel can be
//! asked (root, or user namespaces) it is asked as well: a line that it has otherwise than the record is named, and is
//! the record's fault if the kernel is of the same series. Known differences stand in `parity/deviations.txt`; one that
//! does not occur any more is a failure, so that the list stays true; where it is a matter of who comes first, the list
//! says so, and the line may be either way.
use crate::tally::Tally;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SERIES: &str = "6.18";
/// Options of the jar beside `--net none --with-proc`, by the name that the list of deviations uses.
const WAYS: [(&str, &[&str]); 2] = [("run", &[]), ("exact", &["--exact"])];
/// A namespace is born with ICMP echo sockets for nobody; a jar with them for everybody.
const SETTINGS: [&str; 2] = ["--sysctl", "net.ipv4.ping_group_range=1 0"];
const LIMIT_S: &str = "90";

/// Case and line of each observation.
type Lines = BTreeMap<String, String>;

/// As a stage of `cargo xtask test`: root, who may ask this machine's kernel. What depends on who comes first is not as
/// the list says on a busy machine: a program that differs is asked up to three times.
pub fn stage(root: &Path) -> Tally {
    let may = Command::new("unshare").args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !root_here() || !may {
        let note = "skipped parity: it needs root and network namespaces".to_owned();
        return Tally { skipped: 1, notes: vec![note], ..Tally::default() };
    }
    all(root, &[], 3)
}

pub fn run(root: &Path, words: &[String]) -> Tally {
    all(root, words, 1)
}

fn all(root: &Path, words: &[String], tries: usize) -> Tally {
    let (record, words) = match words.split_first() {
        Some((first, rest)) if first == "record" => (true, rest),
        _ => (false, words),
    };
    if !has("python3") {
        return Tally { skipped: 1, notes: vec!["skipped parity: no python3".to_owned()], ..Tally::default() };
    }
    let programs = match programs(root, words) {
        Ok(p) if !p.is_empty() => p,
        Ok(_) => return Tally::one(false, "parity: no such program"),
        Err(e) => return Tally::one(false, &format!("parity: {e}")),
    };
    if record {
        return record_all(root, &programs);
    }
    let belljar = match belljar(root) {
        Ok(b) => b,
        Err(e) => return Tally::one(false, &format!("parity: {e}")),
    };
    let known = match Known::read(&root.join("parity/deviations.txt")) {
        Ok(k) => k,
        Err(e) => return Tally::one(false, &format!("parity/deviations.txt: {e}")),
    };
    let mut tally = Tally::default();
    let mut total = [(0, 0); WAYS.len()];
    for program in &programs {
        let (mut one, mut counts) = compare(root, &belljar, program, &known);
        for _ in 1..tries {
            if one.failed > 0 {
                println!("parity {program}: once more");
                (one, counts) = compare(root, &belljar, program, &known);
            }
        }
        tally.add(&one);
        for (t, c) in total.iter_mut().zip(counts) {
            *t = (t.0 + c.0, t.1 + c.1);
        }
    }
    let said: Vec<String> =
        WAYS.iter().zip(total).map(|((way, _), (same, all))| format!("{way} {same} of {all}")).collect();
    println!("parity: lines as Linux has them: {}", said.join(", "));
    tally
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn programs(root: &Path, words: &[String]) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(root.join("parity"))?
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".py").map(str::to_owned))
        .filter(|n| !matches!(n.as_str(), "observe" | "tunnel") && (words.is_empty() || words.contains(n)))
        .collect();
    names.sort();
    Ok(names)
}

/// The command, built as it is tested everywhere else.
fn belljar(root: &Path) -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("BELLJAR_BIN") {
        return Ok(PathBuf::from(given));
    }
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--package", "belljar"])
        .current_dir(root)
        .status();
    match built {
        Ok(s) if s.success() => Ok(root.join("target/release/belljar")),
        _ => Err("belljar does not build".to_owned()),
    }
}

/// Runs `words … python3 PROGRAM` and takes its lines; `Err` when it did not end well.
fn observe(root: &Path, words: &[&str], program: &str) -> Result<Lines, String> {
    let path = root.join("parity").join(format!("{program}.py"));
    let mut c = Command::new("timeout");
    c.args(["--kill-after=5", LIMIT_S]).args(words).arg("python3").arg("-B").arg(&path).stdin(Stdio::null());
    let out = c.output().map_err(|e| e.to_string())?;
    let lines = lines(&String::from_utf8_lossy(&out.stdout));
    match out.status.code() {
        Some(0) => Ok(lines),
        Some(124) => Err(format!("still running after {LIMIT_S} s, {} lines", lines.len())),
        code => Err(format!("{code:?}, {} lines; {}", lines.len(), String::from_utf8_lossy(&out.stderr).trim())),
    }
}

fn lines(text: &str) -> Lines {
    let case = |l: &str| Some(serde_json::from_str::<Value>(l).ok()?.get("case")?.as_str()?.to_owned());
    text.lines().filter_map(|l| Some((case(l)?, l.to_owned()))).collect()
}

/// In a network namespace of its own; `None` where that may not be made.
fn on_linux(root: &Path, program: &str) -> Option<Result<Lines, String>> {
    let user = ["unshare", "-Urn"];
    let words = if root_here() { &["unshare", "-n"] } else { &user };
    let may =
        Command::new(words[0]).arg(words[1]).arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    may.then(|| observe(root, words, program))
}

fn root_here() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn same_series() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.strip_prefix(SERIES).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn recorded(root: &Path, program: &str) -> PathBuf {
    root.join("parity/linux").join(format!("{program}.jsonl"))
}

/// Writes what this kernel says: of three runs, the lines that are the same each time.
fn record_all(root: &Path, programs: &[String]) -> Tally {
    let mut tally = Tally::default();
    for program in programs {
        let runs: Option<Vec<Lines>> = (0..3).map(|_| on_linux(root, program)?.ok()).collect();
        let Some([first, rest @ ..]) = runs.as_deref() else {
            tally.add(&Tally::one(false, &format!("parity {program}: it does not run on this kernel")));
            continue;
        };
        let mut text = String::new();
        for (case, line) in first {
            match rest.iter().all(|r| r.get(case) == Some(line)) {
                true => text += &format!("{line}\n"),
                false => println!("{program}: not the same each time: {line}"),
            }
        }
        let written = std::fs::write(recorded(root, program), text);
        tally.add(&Tally::one(written.is_ok(), &format!("parity {program}: cannot write the record")));
    }
    tally
}

/// One program every way. A line of its figures; passed when every difference is known and every known one is there.
fn compare(root: &Path, belljar: &Path, program: &str, known: &Known) -> (Tally, [(usize, usize); WAYS.len()]) {
    let mut wrong: Vec<String> = Vec::new();
    let linux = std::fs::read_to_string(recorded(root, program)).map(|t| lines(&t)).unwrap_or_default();
    if linux.is_empty() {
        wrong.push("nothing is recorded of it".to_owned());
    }
    if same_series() {
        match on_linux(root, program) {
            Some(Ok(now)) => wrong.extend(linux.iter().filter(|(c, l)| now.get(*c) != Some(*l)).map(|(c, l)| {
                format!("this kernel has it otherwise than the record\n  recorded {l}\n  now      {}", shown(&now, c))
            })),
            Some(Err(e)) => wrong.push(format!("on this kernel: {e}")),
            None => {}
        }
    }
    let belljar = belljar.to_string_lossy();
    let mut counts = [(0, 0); WAYS.len()];
    for ((way, options), count) in WAYS.iter().zip(&mut counts) {
        let words = [&[&*belljar, "run", "--net", "none", "--with-proc"][..], &SETTINGS, options, &["--"]].concat();
        let (got, failed) = match observe(root, &words, program) {
            Ok(l) => (l, false),
            Err(e) => {
                wrong.push(format!("{way}: {e}"));
                (Lines::new(), true)
            }
        };
        for (case, line) in &linux {
            let (same, expected) = (got.get(case) == Some(line), known.get(program, case, way));
            *count = (count.0 + usize::from(same), count.1 + 1);
            match (same, expected) {
                (true, Some(Differs::Always)) => {
                    wrong.push(format!("{way}: listed as a deviation, but as Linux has it: {case}"));
                }
                (false, None) if !failed => {
                    wrong.push(format!("{way}:\n  Linux   {line}\n  belljar {}", shown(&got, case)));
                }
                _ => {}
            }
        }
    }
    wrong.extend(
        known.cases(program).filter(|c| !linux.contains_key(*c)).map(|c| format!("listed, but no such case: {c}")),
    );
    let figures: Vec<String> = WAYS.iter().zip(counts).map(|((w, _), (s, n))| format!("{w} {s}/{n}")).collect();
    println!("parity {program:<14} {}", figures.join("  "));
    wrong.iter().for_each(|w| println!("  {}", w.replace('\n', "\n  ")));
    (Tally::one(wrong.is_empty(), &format!("parity {program}")), counts)
}

fn shown<'a>(lines: &'a Lines, case: &str) -> &'a str {
    lines.get(case).map_or("-", String::as_str)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    Always,
    /// It depends on who is faster.
    Sometimes,
}

/// `parity/deviations.txt`: lines `PROGRAM | WAY | CASE | reason`, WAY one of `run`, `exact`, `both`, with a `?` where it is
/// so only sometimes.
#[derive(Debug, Default)]
struct Known(BTreeMap<(String, String, String), Differs>);

impl Known {
    fn read(path: &Path) -> Result<Known, String> {
        Known::parse(&std::fs::read_to_string(path).map_err(|e| e.to_string())?)
    }

    fn parse(text: &str) -> Result<Known, String> {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let bad = || Err(format!("not PROGRAM | run, exact or both | CASE | reason: {line}"));
            let [program, way, case, why] = parts.as_slice() else { return bad() };
            let (way, how) = match way.strip_suffix('?') {
                Some(way) => (way, Differs::Sometimes),
                None => (*way, Differs::Always),
            };
            let ways = match way {
                "both" => &["run", "exact"][..],
                "run" => &["run"],
                "exact" => &["exact"],
                _ => return bad(),
            };
            if why.is_empty() {
                return bad();
            }
            all.extend(ways.iter().map(|w| (((*program).to_owned(), (*w).to_owned(), (*case).to_owned()), how)));
        }
        Ok(Known(all))
    }

    fn get(&self, program: &str, case: &str, way: &str) -> Option<Differs> {
        self.0.get(&(program.to_owned(), way.to_owned(), case.to_owned())).copied()
    }

    fn cases<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter(move |(p, _, _)| p == program).map(|(_, _, c)| c.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_have_a_way_and_a_reason() {
        let k = Known::parse("# x\n\nudp | run | fresh | a plain send\nudp | both? | full | memory\n").unwrap();
        let found = [("fresh", "run"), ("fresh", "exact"), ("full", "exact")].map(|(c, w)| k.get("udp", c, w));
        assert_eq!(found, [Some(Differs::Always), None, Some(Differs::Sometimes)]);
        assert_eq!(k.cases("udp").collect::<Vec<_>>(), ["full", "fresh", "full"]);
        assert!(Known::parse("udp | run | fresh").is_err() && Known::parse("udp | maybe | fresh | x").is_err());
    }

    #[test]
    fn lines_are_found_by_their_case() {
        let l = lines("{\"case\": \"a\", \"r\": 1}\nnoise\n{\"case\": \"b\"}\n");
        assert_eq!(l.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(shown(&l, "c"), "-");
    }
}
