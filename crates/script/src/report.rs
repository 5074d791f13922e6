//! [`Report`]: how a script ended, with its trace.
use crate::problem::Problem;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// An expectation was not met; with the trace around it.
    Failed(Problem),
    /// Not a script.
    Unreadable(Problem),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: String,
    pub text: String,
    pub outcome: Outcome,
    /// The script says that it has to fail, and why.
    pub deviation: Option<String>,
    pub events: usize,
    pub virtual_ns: u64,
    /// One line each: time, what happened.
    pub trace: Vec<String>,
}

/// Lines of the trace that a failure shows.
const AROUND: usize = 12;

impl Report {
    pub fn unreadable(name: &str, text: &str, problem: Problem) -> Report {
        Report {
            name: name.to_owned(),
            text: text.to_owned(),
            outcome: Outcome::Unreadable(problem),
            deviation: None,
            events: 0,
            virtual_ns: 0,
            trace: Vec::new(),
        }
    }

    /// A script without a mark passes when it passed; one with a mark when it failed.
    pub fn as_it_should(&self) -> bool {
        match self.outcome {
            Outcome::Passed => self.deviation.is_none(),
            Outcome::Failed(_) => self.deviation.is_some(),
            Outcome::Unreadable(_) => false,
        }
    }

    /// Why it failed, for a person; `None` when it passed.
    pub fn explain(&self) -> Option<String> {
        let (word, problem) = match &self.outcome {
            Outcome::Passed => return None,
            Outcome::Failed(p) => ("failed", p),
            Outcome::Unreadable(p) => ("error", p),
        };
        let mut out = problem.render(word, &self.name, &self.text);
        if !self.trace.is_empty() {
            let from = self.trace.len().saturating_sub(AROUND);
            out.push_str("  what happened before (times in seconds, < into the kernel, > out of it):\n");
            if from > 0 {
                out.push_str(&format!("    … {from} more\n"));
            }
            for line in self.trace.iter().skip(from) {
                out.push_str(&format!("    {line}\n"));
            }
        }
        Some(out)
    }

    /// Line and column of the failure.
    pub fn place(&self) -> Option<(usize, usize)> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(p) | Outcome::Unreadable(p) => Some(p.place(&self.text)),
        }
    }

    pub fn problem(&self) -> Option<&Problem> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(p) | Outcome::Unreadable(p) => Some(p),
        }
    }
}
