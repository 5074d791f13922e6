//! Runs a script: events in order, each at its time; what comes out is compared with what the lines say.
mod assert;
mod calls;
mod control;
mod expect;
mod flow;
mod inject;
mod machine;
mod message;
mod reach;
mod value;

use crate::ast::*;
use crate::packet::Pkt;
use crate::problem::{Problem, Span};
use crate::report::{Outcome, Report};
use belljar_kernel::ids::{CallId, TaskId};
use belljar_kernel::task::call::SysResult;
pub use calls::CALLS;
use flow::Flows;
use machine::Machine;
pub use reach::{Reached, reach};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How long a line with the time `*` waits for its packet.
const ANY_TIME: Nanos = 600_000_000_000;

/// Runs a script on a kernel of its own.
pub fn run(script: &Script) -> Report {
    let mut report = Report::unreadable(&script.name, &script.text, Problem::new(Span::default(), "not run"));
    report.deviation = script.deviation.clone();
    let machine = match Machine::new(&script.settings) {
        Ok(m) => m,
        Err(what) => {
            report.outcome = Outcome::Unreadable(Problem::new(Span::default(), what));
            return report;
        }
    };
    let mut run = Run::new(script, machine);
    // A panic of the kernel is a finding like any other.
    let end = catch_unwind(AssertUnwindSafe(|| run.events()));
    report.events = run.at;
    report.virtual_ns = run.m.now();
    report.trace = run.trace_lines();
    report.outcome = match end {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(problem)) => Outcome::Failed(problem),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            let span = run.span();
            // Half a step may have been done: its packets would only panic again.
            std::mem::forget(run);
            Outcome::Failed(Problem::new(span, format!("the kernel panicked: {text}")))
        }
    };
    report
}

/// A call that has not returned yet.
#[derive(Debug)]
pub(crate) struct Blocked<'a> {
    id: CallId,
    task: TaskId,
    line: &'a CallLine,
    span: Span,
    /// When it has to end.
    until: Nanos,
}

/// What happened, for the trace; packets keep their wire numbers until they are shown.
#[derive(Debug)]
pub(crate) enum Happened {
    In(Pkt),
    Out(Pkt),
    Call(String),
}

pub(crate) struct Run<'a> {
    script: &'a Script,
    m: Machine,
    flows: Flows,
    /// Descriptors of the script to those of the kernel.
    fds: BTreeMap<i64, u32>,
    blocked: Vec<Blocked<'a>>,
    trace: Vec<(Nanos, Happened)>,
    /// The last packet that the kernel sent to the remote side: what an ICMP error is about.
    last_sent: Option<Pkt>,
    /// Packets of `m.out` that are in the trace already.
    traced: usize,
    /// Time that the next `+` counts from.
    base: Nanos,
    /// The event that runs.
    at: usize,
}

impl<'a> Run<'a> {
    fn new(script: &'a Script, m: Machine) -> Run<'a> {
        let flows = Flows::new(&script.settings);
        let (fds, blocked, trace) = (BTreeMap::new(), Vec::new(), Vec::new());
        Run { script, m, flows, fds, blocked, trace, last_sent: None, traced: 0, base: 0, at: 0 }
    }

    fn span(&self) -> Span {
        self.script.events.get(self.at).map_or(Span::default(), |e| e.span)
    }

    fn tolerance(&self) -> Nanos {
        self.script.settings.tolerance
    }

    fn events(&mut self) -> Result<(), Problem> {
        for (n, event) in self.script.events.iter().enumerate() {
            self.at = n;
            self.event(event)?;
            self.healthy(event.span)?;
        }
        self.at = self.script.events.len();
        self.finish()
    }

    fn event(&mut self, e: &'a Event) -> Result<(), Problem> {
        let from = match e.when.base {
            Base::Start => 0,
            Base::Last => self.base,
            Base::Any => self.m.now(),
        };
        let due = from + e.when.at;
        if let What::Expect(packet) = &e.what {
            return self.expect(e, packet, from);
        }
        if due + self.tolerance() < self.m.now() && e.when.base == Base::Start {
            let now = seconds(self.m.now());
            return Err(Problem::new(e.span, format!("the time of this line is over: it is {now} already")));
        }
        self.advance(due)?;
        self.base = due.max(from);
        match &e.what {
            What::Call(line) => self.call(e, line, e.when.until.map(|u| from + u)),
            What::Inject(packet) => self.inject(packet),
            What::Silence => self.silence(e.span),
            What::Commands(all) => self.commands(all),
            What::TcpInfo { fd, conds } => self.tcp_info(fd, conds),
            What::Counters(conds) => self.counters(conds),
            What::Sockets(conds) => self.sockets(conds),
            What::Signals(conds) => self.signals(conds),
            What::Expect(_) => Ok(()),
        }
    }

    /// Time passes; blocked calls may return meanwhile.
    fn advance(&mut self, until: Nanos) -> Result<(), Problem> {
        loop {
            let more = self.m.step(until);
            self.settle()?;
            if !more {
                return Ok(());
            }
        }
    }

    /// After every step: notes what was sent, looks at calls that returned or should have.
    fn settle(&mut self) -> Result<(), Problem> {
        self.note_sent();
        for (id, result, at) in std::mem::take(&mut self.m.done) {
            let Some(i) = self.blocked.iter().position(|b| b.id == id) else { continue };
            let b = self.blocked.remove(i);
            self.m.rest(b.task);
            self.returned(&b, result, at)?;
        }
        let (now, slack) = (self.m.now(), self.tolerance());
        match self.blocked.iter().find(|b| b.until + slack < now) {
            Some(b) => Err(Problem::new(b.span, format!("`{}` still sleeps at {}", b.line.name, seconds(now)))
                .note("expected", format!("it returns at {}", seconds(b.until)))),
            None => Ok(()),
        }
    }

    fn returned(&mut self, b: &Blocked<'a>, result: SysResult, at: Nanos) -> Result<(), Problem> {
        let shown = self.check_result(b.line, result)?;
        self.trace.push((at, Happened::Call(format!("{shown} (it slept)"))));
        if at.abs_diff(b.until) > self.tolerance() {
            return Err(Problem::new(b.span, format!("`{}` returned at the wrong time", b.line.name))
                .note("expected", seconds(b.until))
                .note("came", seconds(at)));
        }
        Ok(())
    }

    fn note_sent(&mut self) {
        for (at, p) in self.m.out.iter().skip(self.traced) {
            self.trace.push((*at, Happened::Out(p.clone())));
            self.last_sent = Some(p.clone());
        }
        self.traced = self.m.out.len();
    }

    fn healthy(&self, span: Span) -> Result<(), Problem> {
        match &self.m.broken {
            Some(what) => Err(Problem::new(span, what.clone())),
            None => Ok(()),
        }
    }

    fn silence(&mut self, span: Span) -> Result<(), Problem> {
        match self.m.out.front() {
            Some((at, p)) => Err(Problem::new(span, "the kernel sent a packet where none is expected")
                .note("expected", "none")
                .note("came", format!("{} at {}", self.flows.show(p, false), seconds(*at)))),
            None => Ok(()),
        }
    }

    /// Every call has returned, every packet was expected.
    fn finish(&mut self) -> Result<(), Problem> {
        let last = self.blocked.iter().map(|b| b.until).max().unwrap_or(0);
        if last > self.m.now() {
            self.advance(last + self.tolerance())?;
        }
        let slack = self.tolerance();
        if let Some(b) = self.blocked.first() {
            self.advance(b.until + slack + 1)?;
        }
        let Some(span) = self.script.events.last().map(|e| e.span) else { return Ok(()) };
        self.healthy(span)?;
        match self.m.out.front() {
            Some((at, p)) => Err(Problem::new(span, "the script ends, but a packet was sent that no line expects")
                .note("came", format!("{} at {}", self.flows.show(p, false), seconds(*at)))),
            None => Ok(()),
        }
    }

    fn trace_lines(&self) -> Vec<String> {
        let line = |(at, what): &(Nanos, Happened)| {
            let at = seconds(*at);
            match what {
                Happened::In(p) => format!("{at}  < {}", self.flows.show(p, true)),
                Happened::Out(p) => format!("{at}  > {}", self.flows.show(p, false)),
                Happened::Call(text) => format!("{at}    {text}"),
            }
        };
        self.trace.iter().map(line).collect()
    }
}

/// Script time as scripts write it.
pub(crate) fn seconds(at: Nanos) -> String {
    format!("{}.{:06}", at / 1_000_000_000, at / 1000 % 1_000_000)
}
