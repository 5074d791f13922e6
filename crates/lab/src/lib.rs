//! Virtual time: hosts, links, workloads, invariants.
//!
//! [`list`] names the experiments, [`run`] runs one from a seed, twice when asked, and compares; [`run_file`] does it with a
//! network from a file. The same seed and
//! settings give the same [`Report`], fingerprint included. No clock, no threads, no files: a caller that wants many
//! seeds at once calls [`run`] from as many threads; a run shares nothing.
#![forbid(unsafe_code)]

mod lab;
mod net;
mod report;
mod scenario;
mod settings;
mod stream;
mod task;
mod trace;
mod world;

pub use lab::{Lab, Spawner};
pub use net::{End, Nic};
pub use report::{Failure, Report};
pub use scenario::Experiment;
pub use scenario::file::check as check_file;
pub use settings::{Known, Settings};
pub use stream::{Checker, Pattern};
pub use task::{Calling, Shared, Sock, Task};
pub use trace::{Digest, Fingerprint, Recorder, Sink};
pub use world::{Limits, WatchedHost, World};

use belljar_topology::Topology;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run may be told.
#[derive(Default)]
pub struct RunOptions {
    pub seed: u64,
    /// `--set K=V`: the experiment's settings; keys with a dot are sysctls of every host.
    pub set: Vec<(String, String)>,
    /// Run it a second time and compare the fingerprints.
    pub twice: bool,
    /// Takes the trace as JSON lines, of the first run.
    pub trace: Option<Sink>,
    /// Watch the hosts of the first run: [`Report::hosts`].
    pub watch: bool,
    /// Called when the settings turned out to fit, before time passes.
    pub begins: Option<Box<dyn FnOnce()>>,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunOptions(seed {}, {:?}, twice {})", self.seed, self.set, self.twice)
    }
}

/// The built-in experiments.
pub fn list() -> &'static [Experiment] {
    scenario::ALL
}

/// The command that runs exactly this again.
pub fn replay(name: &str, seed: u64, set: &[(String, String)]) -> String {
    let set: String = set.iter().map(|(k, v)| format!(" --set '{k}={v}'")).collect();
    format!("belljar lab run {name} --seed {seed}{set}")
}

/// Runs an experiment. `Err` when there is none of this name.
pub fn run(name: &str, options: RunOptions) -> Result<Report, String> {
    let Some(experiment) = list().iter().find(|e| e.name == name) else {
        let names: Vec<_> = list().iter().map(|e| e.name).collect();
        return Err(format!("no experiment {name:?}: there are {}", names.join(", ")));
    };
    let go = |lab: &mut Lab, seed, s: &Settings, report: &mut Report| (experiment.run)(lab, seed, s, report);
    Ok(compared(name, experiment.settings, &go, options))
}

/// Runs the workloads of a file. `Err` when the file has none, or something that virtual time cannot have.
pub fn run_file(name: &str, topology: &Topology, options: RunOptions) -> Result<Report, String> {
    scenario::file::check(topology)?;
    Settings::new(&[], &options.set)?;
    let go =
        |lab: &mut Lab, seed, s: &Settings, report: &mut Report| scenario::file::run(lab, topology, seed, s, report);
    Ok(compared(name, &[], &go, options))
}

type Go<'a> = &'a dyn Fn(&mut Lab, u64, &Settings, &mut Report) -> Result<(), String>;

fn compared(name: &str, known: &'static [Known], go: Go<'_>, options: RunOptions) -> Report {
    let RunOptions { seed, set, twice, trace, watch, begins } = options;
    let first = First { trace, watch, begins };
    let mut report = once(name, known, go, seed, &set, first);
    if twice && report.failure.is_none() {
        let again = once(name, known, go, seed, &set, First::default());
        if let Some(same_until) = report.fingerprint.same_until(&again.fingerprint) {
            report.failure = Some(Failure::Differs { same_until });
        }
    }
    report
}

/// What only the first run of a seed does.
#[derive(Default)]
struct First {
    trace: Option<Sink>,
    watch: bool,
    begins: Option<Box<dyn FnOnce()>>,
}

fn once(name: &str, known: &'static [Known], go: Go<'_>, seed: u64, set: &[(String, String)], first: First) -> Report {
    let mut report = Report { name: name.into(), seed, ..Report::default() };
    report.replay = replay(name, seed, set);
    let settings = match Settings::new(known, set) {
        Ok(s) => s,
        Err(what) => {
            report.failure = Some(Failure::BadSetting { what });
            return report;
        }
    };
    let mut lab = Lab::new(first.trace);
    lab.begins = first.begins;
    lab.world.borrow_mut().watched = first.watch;
    // A panic of a kernel is a finding like any other, with its seed.
    let end = catch_unwind(AssertUnwindSafe(|| go(&mut lab, seed, &settings, &mut report)));
    let end = end.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
        Failure::Panic { what: text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default() }
    });
    let world = lab.world.clone();
    let whole = end.is_ok();
    match end {
        Err(panic) => {
            report.failure = Some(panic);
            // Half a step may have been done: its drops would only panic again.
            std::mem::forget(lab);
        }
        Ok(Err(what)) => report.failure = Some(Failure::BadSetting { what }),
        Ok(Ok(())) => {}
    }
    if let Ok(mut w) = world.try_borrow_mut() {
        report.virtual_ns = w.now;
        report.steps = w.steps;
        report.fingerprint = w.recorder.fingerprint();
        report.failure = report.failure.or_else(|| w.failure.clone());
        if whole {
            report.hosts = w.take_watched();
        }
    }
    report
}

/// The seeds of one shard of a sweep: shard `of` counts from 1.
pub fn shard(seeds: std::ops::Range<u64>, index: u64, of: u64) -> impl Iterator<Item = u64> {
    let of = of.max(1);
    seeds.filter(move |s| s % of == index % of)
}
