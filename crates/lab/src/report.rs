//! What a run says at its end: text, figures, the fingerprint, and why it failed.
use crate::trace::Fingerprint;
use crate::world::WatchedHost;
use belljar_kernel::env::Nanos;
use std::fmt;

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An invariant of `Kernel::check()`.
    Violation {
        host: String,
        what: String,
        at: Nanos,
    },
    /// Many steps without time or bytes moving.
    Livelock {
        steps: u64,
        at: Nanos,
    },
    /// It did not come to its end.
    Endless {
        what: String,
        at: Nanos,
    },
    /// Workloads wait and nothing will ever happen.
    Stuck {
        jobs: String,
        at: Nanos,
    },
    /// The experiment expected something else.
    Expectation {
        what: String,
        at: Nanos,
    },
    Panic {
        what: String,
    },
    /// The second run of the same seed went another way.
    Differs {
        same_until: Nanos,
    },
    /// The experiment could not be set up as asked: a usage error.
    BadSetting {
        what: String,
    },
}

fn at(ns: Nanos) -> String {
    format!("{}.{:06} s", ns / 1_000_000_000, ns / 1_000 % 1_000_000)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Violation { host, what, at: t } => write!(f, "{}: invariant of {host} violated: {what}", at(*t)),
            Failure::Livelock { steps, at: t } => write!(f, "{}: {steps} steps without time or bytes moving", at(*t)),
            Failure::Endless { what, at: t } => write!(f, "{}: no end after {what}", at(*t)),
            Failure::Stuck { jobs, at: t } => write!(f, "{}: nothing will happen any more, waiting: {jobs}", at(*t)),
            Failure::Expectation { what, at: t } => write!(f, "{}: {what}", at(*t)),
            Failure::Panic { what } => write!(f, "panic: {what}"),
            Failure::Differs { same_until } => write!(f, "the second run differs after {}", at(*same_until)),
            Failure::BadSetting { what } => f.write_str(what),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub name: String,
    pub seed: u64,
    /// What `lab run` prints, line by line.
    pub text: Vec<String>,
    /// Figures with their units, for JSON.
    pub figures: Vec<(&'static str, f64, &'static str)>,
    pub virtual_ns: Nanos,
    pub steps: u64,
    pub fingerprint: Fingerprint,
    pub failure: Option<Failure>,
    /// The command that does exactly this again.
    pub replay: String,
    /// The hosts, when they were watched.
    pub hosts: Vec<WatchedHost>,
}

impl Report {
    /// As the command contract has it: 1 an expectation failed, 3 a rerun differs, 2 usage.
    pub fn exit_code(&self) -> u8 {
        match self.failure {
            None => 0,
            Some(Failure::Differs { .. }) => 3,
            Some(Failure::BadSetting { .. }) => 2,
            Some(_) => 1,
        }
    }

    pub fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push((name, value, unit));
    }
}
