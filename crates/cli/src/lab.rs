//! `belljar lab`: experiments in virtual time, one seed or many.
use crate::out::{self, Done, Fail, Paint, map};
use crate::tools::up;
use crate::{parse, report};
use belljar_kernel::net::sysctl::nearest_among;
use belljar_kernel::view::Value;
use belljar_lab::{Failure, Report, RunOptions};
use belljar_topology::Topology;
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 fine, 1 an expectation or invariant failed, 3 a rerun of the same seed went another
            way, 2 usage.

Examples: belljar lab list
          belljar lab run transfer --seed 7 --set delay=100ms --set loss=1%
          belljar lab sweep random --seeds 0..1000
          belljar lab run office.toml   the workloads of a network from a file (docs/up.md)")]
pub struct LabCommand {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Subcommand, Debug)]
pub enum Action {
    /// List the experiments and their settings
    List {
        /// JSON
        #[arg(short, long)]
        json: bool,
    },
    /// Run an experiment from one seed
    Run(RunArgs),
    /// Run an experiment from many seeds; what fails is printed with the command that does it again
    Sweep(SweepArgs),
}

#[derive(Args, Debug)]
pub struct Common {
    /// The experiment, by its name in belljar lab list, or a file that describes a network with workloads
    #[arg(value_name = "EXPERIMENT|FILE.toml")]
    pub experiment: String,
    /// A setting of the experiment, or a sysctl of every host
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair)]
    pub set: Vec<(String, String)>,
    /// Do not run each seed a second time to compare
    #[arg(long)]
    pub once: bool,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub common: Common,
    /// Seed of all randomness (default: a new one, which is printed first)
    #[arg(long, value_name = "N", value_parser = parse::seed, env = "BELLJAR_SEED")]
    pub seed: Option<u64>,
    /// Write the trace of the run to this file, as JSON lines
    #[arg(long, value_name = "FILE.jsonl")]
    pub trace: Option<PathBuf>,
    /// Write a report of the run to this file: a page with the path of the packets and figures over virtual time
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct SweepArgs {
    #[command(flatten)]
    pub common: Common,
    /// The seeds, the last one not included: 0..1000
    #[arg(long, value_name = "A..B", value_parser = parse::seeds)]
    pub seeds: Range<u64>,
    /// Only this part of the seeds, for several machines: 1/4
    #[arg(long, value_name = "I/N", value_parser = parse::shard, default_value = "1/1")]
    pub shard: (u64, u64),
    /// Seeds at a time (default: the machine's CPUs)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
}

pub fn run(c: &LabCommand, paint: Paint) -> Done {
    match &c.action {
        Action::List { json } => {
            out::print(&list(*json))?;
            Ok(0)
        }
        Action::Run(a) => one(a, paint),
        Action::Sweep(a) => sweep(a, paint),
    }
}

fn list(json: bool) -> String {
    let all = belljar_lab::list();
    let text = |s: &str| Value::Text(s.to_owned());
    if json {
        let setting = |k: &belljar_lab::Known| {
            map([("key", text(k.key)), ("default", text(k.default)), ("about", text(k.about))])
        };
        let one = |e: &belljar_lab::Experiment| {
            let settings = Value::List(e.settings.iter().map(setting).collect());
            map([("name", text(e.name)), ("about", text(e.about)), ("settings", settings)])
        };
        return out::json(&Value::List(all.iter().map(one).collect()));
    }
    let mut lines = String::new();
    for e in all {
        lines.push_str(&format!("{:<12}  {}\n", e.name, e.about));
        for k in e.settings {
            let set = format!("{}={}", k.key, k.default);
            lines.push_str(&format!("{:<12}    --set {set:<20}  {}\n", "", k.about));
        }
    }
    lines
}

/// A built-in experiment, or a network from a file.
enum What {
    Known,
    File(Box<Topology>),
}

impl What {
    fn run(&self, c: &Common, options: RunOptions) -> Result<Report, String> {
        match self {
            What::Known => belljar_lab::run(&c.experiment, options),
            What::File(t) => belljar_lab::run_file(&c.experiment, t, options),
        }
    }
}

/// The experiment or file must exist and know the settings: said before the first seed.
fn known(c: &Common) -> Result<What, Fail> {
    let name = c.experiment.as_str();
    if name.ends_with(".toml") {
        let t = up::topology(Path::new(name))?;
        belljar_lab::check_file(&t).map_err(Fail::usage)?;
        belljar_lab::Settings::new(&[], &c.set).map_err(Fail::usage)?;
        return Ok(What::File(Box::new(t)));
    }
    if let Some(e) = belljar_lab::list().iter().find(|e| e.name == name) {
        return belljar_lab::Settings::new(e.settings, &c.set).map(|_| What::Known).map_err(Fail::usage);
    }
    let names: Vec<_> = belljar_lab::list().iter().map(|e| e.name).collect();
    let near = nearest_among(name, names.iter().copied()).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
    Err(Fail::usage(format!("there is no experiment {name:?}{near}")).hint(format!("there are {}", names.join(", "))))
}

fn one(a: &RunArgs, paint: Paint) -> Done {
    let c = &a.common;
    let what = known(c)?;
    let own = if let What::File(t) = &what { t.seed } else { None };
    let seed = a.seed.or(own).unwrap_or_else(belljar_host::clock::seed);
    let target = a.report.as_deref().map(report::Target::check).transpose()?;
    let mut options =
        RunOptions { seed, set: c.set.clone(), twice: !c.once, watch: target.is_some(), ..RunOptions::default() };
    if !c.json {
        // A broken pipe ends the run at its report.
        options.begins = Some(Box::new(move || _ = out::print(&format!("seed {seed}\n"))));
    }
    if let Some(path) = &a.trace {
        let file = File::create(path).map_err(|e| Fail::new(format!("{}: {e}", path.display())).code(125))?;
        let mut file = BufWriter::new(file);
        // A full disk ends the trace, not the run.
        options.trace = Some(Box::new(move |line| _ = writeln!(file, "{line}")));
    }
    let report = what.run(c, options).map_err(Fail::usage)?;
    if let Some(Failure::BadSetting { what }) = &report.failure {
        return Err(Fail::usage(what));
    }
    out::print(&if c.json { out::json(&value(&report)) } else { text(&report, paint) })?;
    if let Some(target) = target {
        target.write(&report::of_lab(&report))?;
    }
    Ok(report.exit_code())
}

fn text(r: &Report, paint: Paint) -> String {
    let mut out: String = r.text.iter().map(|l| format!("{l}\n")).collect();
    out.push_str(&format!(
        "{}.{:06} s of virtual time, {} steps, {} records, digest {}\n",
        r.virtual_ns / 1_000_000_000,
        r.virtual_ns / 1_000 % 1_000_000,
        r.steps,
        r.fingerprint.records,
        r.fingerprint.digest
    ));
    out.push_str(&failure(r, paint));
    out
}

/// Why it failed and how to see it again; nothing for a run that was fine.
fn failure(r: &Report, paint: Paint) -> String {
    let Some(f) = &r.failure else { return String::new() };
    format!("{} seed {}: {f}\n     again: {}\n", paint.red("FAIL"), r.seed, r.replay)
}

fn value(r: &Report) -> Value {
    let text = |s: String| Value::Text(s);
    let figures = r
        .figures
        .iter()
        .map(|(k, v, unit)| ((*k).into(), map([("value", Value::Real(*v)), ("unit", text((*unit).to_owned()))])));
    map([
        ("name", text(r.name.clone())),
        ("seed", Value::Uint(r.seed)),
        ("ok", Value::Bool(r.failure.is_none())),
        ("failure", r.failure.as_ref().map_or(Value::Null, |f| text(f.to_string()))),
        ("virtual_ns", Value::Uint(r.virtual_ns)),
        ("steps", Value::Uint(r.steps)),
        ("digest", text(r.fingerprint.digest.to_string())),
        ("figures", Value::Map(figures.collect())),
        ("text", Value::List(r.text.iter().map(|l| text(l.clone())).collect())),
        ("replay", text(r.replay.clone())),
    ])
}

/// What a sweep has found so far.
#[derive(Default)]
struct Found {
    done: u64,
    failed: u64,
    code: u8,
    steps: u64,
    /// A setting that does not fit, and fits no other seed either.
    bad: Option<String>,
}

fn sweep(a: &SweepArgs, paint: Paint) -> Done {
    let c = &a.common;
    let what = known(c)?;
    let seeds: Vec<u64> = belljar_lab::shard(a.seeds.clone(), a.shard.0, a.shard.1).collect();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = a.jobs.map_or(cpus, usize::from).min(seeds.len()).max(1);
    let head = {
        let part = if a.shard.1 > 1 { format!(", part {} of {}", a.shard.0, a.shard.1) } else { String::new() };
        format!("{}: seeds {}..{}{part}\n", c.experiment, a.seeds.start, a.seeds.end)
    };
    // What does not fit is said without it.
    let begun = Arc::new(Once::new());
    let (next, found) = (AtomicU64::new(0), Mutex::new(Found::default()));
    let work = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let mut options = RunOptions { seed, set: c.set.clone(), twice: !c.once, ..RunOptions::default() };
            if !c.json {
                let (begun, head) = (Arc::clone(&begun), head.clone());
                options.begins = Some(Box::new(move || begun.call_once(|| _ = out::print(&head))));
            }
            let report = what.run(c, options);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            let stop = match report {
                Ok(Report { failure: Some(Failure::BadSetting { what }), .. }) => {
                    found.bad = Some(what);
                    true
                }
                Ok(r) => note(&mut found, &r, c.json, paint),
                // Checked above; and then every seed would say the same.
                Err(_) => true,
            };
            if stop {
                next.store(u64::MAX / 2, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|s| (0..jobs).for_each(|_| drop(s.spawn(work))));
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(what) = &found.bad {
        return Err(Fail::usage(what));
    }
    if !c.json {
        let Found { done, failed, steps, .. } = &found;
        out::print(&format!("{} passed, {failed} failed; {steps} steps\n", done - failed))?;
    }
    Ok(found.code)
}

/// Counts a report and prints it if it failed (with `--json` always); true when the sweep should end.
fn note(found: &mut Found, r: &Report, json: bool, paint: Paint) -> bool {
    found.done += 1;
    found.steps += r.steps;
    if r.failure.is_some() {
        found.failed += 1;
        // The gravest code: a rerun that differs casts doubt on all others.
        found.code = found.code.max(r.exit_code());
    }
    let line = if json { out::json(&value(r)) } else { failure(r, paint) };
    // Nobody reads on after a broken pipe.
    !line.is_empty() && out::print(&line).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_printed_with_the_way_back() {
        let r = Report {
            name: "random".into(),
            seed: 7,
            failure: Some(Failure::Differs { same_until: 1_500_000_000 }),
            replay: "belljar lab run random --seed 7".into(),
            ..Report::default()
        };
        let line = failure(&r, Paint::default());
        assert_eq!(
            line,
            "FAIL seed 7: the second run differs after 1.500000 s\n     again: belljar lab run random --seed 7\n"
        );
        let mut f = Found::default();
        assert!(!note(&mut f, &r, false, Paint::default()));
        assert_eq!((f.done, f.failed, f.code), (1, 1, 3));
        assert!(list(false).contains("transfer") && list(true).starts_with("[{\"name\":\"transfer\""));
    }
}
