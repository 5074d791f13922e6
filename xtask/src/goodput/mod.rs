//! `cargo xtask goodput`: the same hard links under belljar's TCP in the lab and under this machine's, and how much
//! arrives with each.
//!
//! The cells stand in one file, which the lab's experiment `goodput` reads as well. belljar's side runs in virtual time;
//! the other one in real time: two namespaces with a TAP device each, between which `belljar cable` carries every frame
//! through the same link, with the same seed. What this machine measured is kept below target/, so that only belljar's
//! side is run again with `--lab-only`.
mod linux;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const CELLS: &str = "crates/lab/src/scenario/goodput.cells";
const KEPT: &str = "target/goodput-linux.json";
const ALGORITHMS: [&str; 3] = ["cubic", "reno", "bbr"];
/// What has to be true.
const MEDIAN: f64 = 0.95;
const WORST: f64 = 0.8;
const JAIN: f64 = 0.95;
/// Seconds after which two flows have to be fair.
const FAIR_AFTER: u64 = 30;

const HELP: &str = "\
cargo xtask goodput [--cells WORD[,WORD]] [--seeds N] [--lab-only] [--fresh] [-j N]

--cells WORD   only cells with WORD in LINK.ALGORITHM
--seeds N      impairment seeds 1 to N (default 3)
--lab-only     no real-time runs: compare with what was measured before, if it was
--fresh        measure this machine's kernel again, even if it was before
-j N           cells at a time in real time (default 4)";

/// A line of the table with an algorithm.
#[derive(Clone, Debug)]
struct Cell {
    name: String,
    link: String,
    algorithm: &'static str,
    flows: u64,
    seconds: u64,
}

impl Cell {
    fn title(&self) -> String {
        format!("{}.{}", self.name, self.algorithm)
    }

    /// What a kept measurement is valid for.
    fn key(&self, seed: u64) -> String {
        format!("{} {} {} {} seed {seed}", self.algorithm, self.flows, self.seconds, self.link)
    }
}

#[derive(Debug)]
struct Asked {
    words: Vec<String>,
    seeds: u64,
    lab_only: bool,
    fresh: bool,
    jobs: usize,
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut a = Asked { words: vec![String::new()], seeds: 3, lab_only: false, fresh: false, jobs: 4 };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|v| v.parse().ok()).ok_or_else(|| format!("{arg} wants a number"));
        match arg.as_str() {
            "--seeds" => a.seeds = number()?,
            "-j" => a.jobs = number()? as usize,
            "--lab-only" => a.lab_only = true,
            "--fresh" => a.fresh = true,
            "--cells" => {
                a.words = args.next().ok_or("--cells wants words")?.split(',').map(str::to_owned).collect();
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(a)
}

pub fn run(root: &Path, args: &[String]) -> ExitCode {
    let a = match asked(args) {
        Ok(a) => a,
        Err(e) => {
            eprintln!("xtask: {e}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match compare(root, &a) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: goodput: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn cells(root: &Path, words: &[String]) -> anyhow::Result<Vec<Cell>> {
    let mut out = Vec::new();
    let text = std::fs::read_to_string(root.join(CELLS))?;
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let mut w = line.split_whitespace();
        let mut next = || w.next().unwrap_or_default().to_owned();
        let (name, flows, seconds) = (next(), next().parse()?, next().parse()?);
        let link = w.collect::<Vec<_>>().join(" ");
        for algorithm in ALGORITHMS {
            let c = Cell { name: name.clone(), link: link.clone(), algorithm, flows, seconds };
            if words.iter().any(|w| c.title().contains(w.as_str())) {
                out.push(c);
            }
        }
    }
    anyhow::ensure!(!out.is_empty(), "no cell has such a name");
    Ok(out)
}

/// The belljar command, built here and now.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let words = ["build", "--release", "--quiet", "--package", "belljar"];
    let built = Command::new("cargo").args(words).current_dir(root).status()?;
    anyhow::ensure!(built.success(), "belljar does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |d| root.join(d));
    Ok(target.join("release/belljar"))
}

/// Runs `work` for each item, `jobs` at a time; results in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|s| {
        for slot in 0..jobs.clamp(1, 32) {
            let (next, done, work) = (&next, &done, &work);
            s.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(n) else { return };
                    let r = work(slot, item);
                    done.lock().unwrap_or_else(|e| e.into_inner()).push((n, r));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|d| d.0);
    done.into_iter().map(|d| d.1).collect()
}

/// True when everything that has to be true is.
fn compare(root: &Path, a: &Asked) -> anyhow::Result<bool> {
    let cells = cells(root, &a.words)?;
    let belljar = build(root)?;
    let runs: Vec<(Cell, u64)> = cells.iter().flat_map(|c| (1..=a.seeds).map(|s| (c.clone(), s))).collect();
    let linux = reference(root, a, &belljar, &runs)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let lab = in_parallel(&runs, cpus, |_, (c, seed)| lab_run(&belljar, c, *seed));
    let lab = lab.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let per = a.seeds as usize;
    let rows = cells.iter().zip(lab.chunks(per).zip(linux.chunks(per)));
    Ok(report(&rows.map(|(c, (ours, theirs))| Row::new(c, ours, theirs)).collect::<Vec<_>>()))
}

/// One run in the lab: its figures.
fn lab_run(belljar: &Path, c: &Cell, seed: u64) -> anyhow::Result<Value> {
    let set = [
        "cell=none".to_owned(),
        format!("algorithm={}", c.algorithm),
        format!("flows={}", c.flows),
        format!("seconds={}", c.seconds),
        format!("link={}", c.link),
    ];
    let words = ["lab", "run", "goodput", "--once", "--json", "--seed"];
    let mut command = Command::new(belljar);
    command.args(words).arg(seed.to_string());
    set.iter().for_each(|s| _ = command.args(["--set", s]));
    let out = command.output()?;
    let v: Value = serde_json::from_slice(&out.stdout)?;
    anyhow::ensure!(v["ok"] == true, "{} seed {seed}: {}", c.title(), v["failure"]);
    let figure = |name: &str| v["figures"][name]["value"].clone();
    let names = ["goodput", "jain", "segments", "retransmissions", "timeouts"];
    Ok(Value::Object(names.into_iter().map(|n| (n.to_owned(), figure(n))).collect()))
}

/// This machine's figures: kept ones, and the missing ones measured unless that was forbidden.
fn reference(root: &Path, a: &Asked, belljar: &Path, runs: &[(Cell, u64)]) -> anyhow::Result<Vec<Value>> {
    let path = root.join(KEPT);
    let kept = std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let kept = Mutex::new(kept.unwrap_or_else(|| json!({})));
    let has = |c: &Cell, seed: u64| kept.lock().is_ok_and(|k| k.get(c.key(seed)).is_some());
    let missing: Vec<_> = runs.iter().filter(|(c, s)| !a.lab_only && (a.fresh || !has(c, *s))).cloned().collect();
    if !missing.is_empty() {
        eprintln!("{} runs in real time, {} at a time", missing.len(), a.jobs);
    }
    let ends = in_parallel(&missing, a.jobs, |slot, (c, seed)| {
        let v = linux::run(belljar, slot, c, *seed)?;
        eprintln!("{} seed {seed}: {v}", c.title());
        let mut k = kept.lock().unwrap_or_else(|e| e.into_inner());
        k[c.key(*seed)] = v;
        std::fs::write(&path, k.to_string())?;
        anyhow::Ok(())
    });
    ends.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    let kept = kept.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(runs.iter().map(|(c, s)| kept[c.key(*s)].clone()).collect())
}

/// A line of the result: means over the seeds.
#[derive(Debug)]
struct Row {
    title: String,
    algorithm: &'static str,
    fair: bool,
    ours: [f64; 4],
    theirs: [f64; 4],
    worst_late_us: f64,
}

fn means(of: &[Value]) -> [f64; 4] {
    ["goodput", "jain", "retransmissions", "timeouts"].map(|name| {
        let values: Vec<f64> = of.iter().filter_map(|v| v[name].as_f64()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    })
}

impl Row {
    fn new(c: &Cell, ours: &[Value], theirs: &[Value]) -> Row {
        let late = theirs.iter().filter_map(|v| v["worst_late_us"].as_f64());
        Row {
            title: c.title(),
            algorithm: c.algorithm,
            fair: c.flows == 2 && c.seconds > FAIR_AFTER,
            ours: means(ours),
            theirs: means(theirs),
            worst_late_us: late.fold(0.0, f64::max),
        }
    }

    fn ratio(&self) -> f64 {
        self.ours[0] / self.theirs[0]
    }
}

/// Prints the table and says whether it is as it has to be.
fn report(rows: &[Row]) -> bool {
    println!("| cell | belljar Mbit/s | Linux Mbit/s | ratio | Jain | retransmitted | timeouts | late ms |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let pair = |a: f64, b: f64, places: usize| format!("{a:.places$} / {b:.places$}");
    for r in rows {
        let jain = pair(r.ours[1], r.theirs[1], 3);
        let (again, timeouts) = (pair(r.ours[2], r.theirs[2], 0), pair(r.ours[3], r.theirs[3], 0));
        let (ours, theirs) = (r.ours[0] / 1e6, r.theirs[0] / 1e6);
        let late = r.worst_late_us / 1e3;
        println!(
            "| {} | {ours:.2} | {theirs:.2} | {:.2} | {jain} | {again} | {timeouts} | {late:.1} |",
            r.title,
            r.ratio()
        );
    }
    println!();
    let mut all = true;
    for algorithm in ALGORITHMS {
        let mut ratios: Vec<f64> = rows.iter().filter(|r| r.algorithm == algorithm).map(Row::ratio).collect();
        ratios.retain(|r| r.is_finite());
        ratios.sort_by(f64::total_cmp);
        let (Some(worst), Some(last)) = (ratios.first(), ratios.last()) else { continue };
        let median = (ratios[(ratios.len() - 1) / 2] + ratios[ratios.len() / 2]) / 2.0;
        let ok = median >= MEDIAN && *worst >= WORST;
        all &= ok;
        let word = if ok { "ok" } else { "FAILED" };
        println!("{algorithm}: median {median:.2}, worst {worst:.2}, best {last:.2} of {} cells: {word}", ratios.len());
    }
    for r in rows.iter().filter(|r| r.fair) {
        let ok = r.ours[1] >= JAIN;
        all &= ok;
        println!(
            "{}: Jain's index {:.3} after {FAIR_AFTER} s: {}",
            r.title,
            r.ours[1],
            if ok { "ok" } else { "FAILED" }
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_the_table() {
        let of = |s: &str| asked(&s.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let a = of("--cells loss,lan --seeds 2 --lab-only -j 3").unwrap();
        assert_eq!((a.words.len(), a.seeds, a.lab_only, a.jobs), (2, 2, true, 3));
        assert!(of("--sedes 2").is_err() && of("-j many").is_err());
        let all = cells(&crate::root(), &[String::new()]).unwrap();
        assert!(all.len() <= 40 && all.iter().all(|c| c.flows > 0 && c.link.contains("back delay")));
    }

    #[test]
    fn work_in_parallel_keeps_the_order() {
        assert_eq!(in_parallel(&[1, 2, 3, 4, 5], 3, |_, n| n * 2), [2, 4, 6, 8, 10]);
    }
}
