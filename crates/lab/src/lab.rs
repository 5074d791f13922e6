//! [`Lab`]: hosts, links and jobs in virtual time: the driver loop.
use crate::report::Failure;
use crate::task::{Shared, Task};
use crate::trace::{Recorder, Sink};
use crate::world::World;
use belljar_kernel::env::Nanos;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

struct Job {
    name: String,
    /// `None` when it ended.
    code: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// The run does not wait for it (servers).
    daemon: bool,
}

/// See the module.
pub struct Lab {
    pub world: Shared,
    jobs: Vec<Job>,
    /// Jobs that jobs began.
    begun: Spawner,
    /// Called when time begins to pass: everything was as it should be.
    pub(crate) begins: Option<Box<dyn FnOnce()>>,
}

/// Lets a job begin others.
#[derive(Clone, Default)]
pub struct Spawner(Rc<RefCell<Vec<Job>>>);

impl Spawner {
    pub fn spawn(&self, name: impl Into<String>, code: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().push(Job { name: name.into(), code: Some(Box::pin(code)), daemon: false });
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spawner({} new jobs)", self.0.borrow().len())
    }
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lab({} jobs, {:?})", self.jobs.len(), self.world)
    }
}

impl Lab {
    pub fn new(sink: Option<Sink>) -> Lab {
        let world = Rc::new(RefCell::new(World::new(Recorder::new(sink))));
        Lab { world, jobs: Vec::new(), begun: Spawner::default(), begins: None }
    }

    fn begin(&mut self) {
        if let Some(f) = self.begins.take() {
            f();
        }
    }

    pub fn spawner(&self) -> Spawner {
        self.begun.clone()
    }

    /// A job whose end the run waits for.
    pub fn spawn(&mut self, name: impl Into<String>, code: impl Future<Output = ()> + 'static) {
        self.add(Job { name: name.into(), code: Some(Box::pin(code)), daemon: false });
    }

    /// A job that may wait for ever.
    pub fn spawn_daemon(&mut self, name: impl Into<String>, code: impl Future<Output = ()> + 'static) {
        self.add(Job { name: name.into(), code: Some(Box::pin(code)), daemon: true });
    }

    fn add(&mut self, job: Job) {
        self.world.borrow_mut().ready.push_back(self.jobs.len());
        self.jobs.push(job);
    }

    /// Until every job but the daemons ended, or something failed.
    pub fn run(&mut self) {
        self.begin();
        while !self.failed() && self.jobs.iter().any(|j| !j.daemon && j.code.is_some()) {
            if !self.advance(Nanos::MAX) {
                let waiting = self.jobs.iter().filter(|j| !j.daemon && j.code.is_some());
                let jobs = waiting.map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ");
                let mut w = self.world.borrow_mut();
                let at = w.now;
                w.fail(Failure::Stuck { jobs, at });
            }
        }
    }

    /// Lets virtual time pass up to `until`, whoever is waiting.
    pub fn run_until(&mut self, until: Nanos) {
        self.begin();
        while !self.failed() && self.advance(until) {}
        let mut w = self.world.borrow_mut();
        if w.failure.is_none() {
            w.now = w.now.max(until);
        }
    }

    /// Ends all jobs: their calls are interrupted.
    pub fn stop_jobs(&mut self) {
        self.jobs.iter_mut().for_each(|j| drop(j.code.take()));
        self.begun.0.borrow_mut().clear();
    }

    pub fn failed(&self) -> bool {
        self.world.borrow().failure.is_some()
    }

    /// Does what is due now; when nothing is, moves to the next time, if that is not after `until`. False: nothing left.
    fn advance(&mut self, until: Nanos) -> bool {
        if self.poll_ready() {
            return true;
        }
        let mut w = self.world.borrow_mut();
        if w.run_due() || !w.ready.is_empty() {
            return true;
        }
        match w.next_time().filter(|at| *at <= until) {
            Some(at) => {
                w.now = w.now.max(at);
                true
            }
            None => false,
        }
    }

    fn poll_ready(&mut self) -> bool {
        let next = self.world.borrow_mut().ready.pop_front();
        let Some(n) = next else { return self.take_begun() };
        if let Some(code) = self.jobs.get_mut(n).and_then(|j| j.code.as_mut()) {
            self.world.borrow_mut().current = n;
            if code.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
                && let Some(job) = self.jobs.get_mut(n)
            {
                job.code = None;
            }
        }
        self.take_begun();
        true
    }

    fn take_begun(&mut self) -> bool {
        let new = std::mem::take(&mut *self.begun.0.borrow_mut());
        let any = !new.is_empty();
        new.into_iter().for_each(|job| self.add(job));
        any
    }

    /// Ends the run as failed: an expectation.
    pub fn expect(world: &Shared, ok: bool, what: impl FnOnce() -> String) {
        if !ok {
            let mut w = world.borrow_mut();
            let at = w.now;
            w.fail(Failure::Expectation { what: what(), at });
        }
    }

    pub fn now(&self) -> Nanos {
        self.world.borrow().now
    }

    /// A thread with a process of its own on a host.
    pub fn task(&self, host: usize, name: &str) -> Option<Task> {
        Task::spawn(&self.world, host, name)
    }
}
