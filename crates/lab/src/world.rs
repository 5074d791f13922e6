//! [`World`]: the machines, the cables between them and virtual time; what a step does and what is checked after it.
use crate::report::Failure;
use crate::trace::Recorder;
use belljar_abi::Errno;
use belljar_capture::watch::Watch;
use belljar_kernel::env::Nanos;
use belljar_kernel::ids::*;
use belljar_kernel::task::call::{Call, Ret, Submitted, SysResult};
use belljar_kernel::{Kernel, Output};
use belljar_link::{Conditions, Link, Pipe, Stats};
use belljar_wire::Frame;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A machine.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub kernel: Kernel,
    pub ns: NsId,
    /// NICs with the cable end they are plugged into: link, and 0 or 1.
    pub nics: Vec<(DevId, usize, usize)>,
    /// For a report.
    pub watch: Option<Box<Watch>>,
    more: bool,
}

/// A cable: pipes and what they are plugged into (host, device). One with more than two ends is a segment: what comes out
/// of a pipe is heard by all the others.
#[derive(Debug)]
pub struct Cable {
    /// From the first end and from the second.
    pub link: Link,
    pub ends: Vec<(usize, DevId)>,
    /// From the third end on.
    more: Vec<Pipe>,
}

impl Cable {
    /// The pipe into which this end sends.
    fn sent_by(&mut self, end: usize) -> Option<&mut Pipe> {
        match end {
            0 => Some(&mut self.link.ab),
            1 => Some(&mut self.link.ba),
            n => self.more.get_mut(n - 2),
        }
    }

    fn next_deadline(&self) -> Option<Nanos> {
        let more = self.more.iter().filter_map(Pipe::next_deadline);
        self.link.next_deadline().into_iter().chain(more).min()
    }

    /// Packets that it took away.
    fn took(&self) -> u64 {
        let two = [&self.link.ab, &self.link.ba];
        two.into_iter().chain(&self.more).map(|p| p.stats()).map(|s| s.lost + s.overlimit).sum()
    }
}

/// The first samples of a watched host are so far apart.
const FIRST_STEP: Nanos = 1_000_000;

/// A host at the end of a watched run.
#[derive(Clone, Debug)]
pub struct WatchedHost {
    pub name: String,
    pub kernel: Kernel,
    pub ns: NsId,
    pub watch: Box<Watch>,
    /// Its first cable: from it, and to it.
    pub link: (Stats, Stats),
    pub conditions: Conditions,
}

/// Limits after which a run is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps without time or bytes moving.
    pub idle_steps: u64,
    pub steps: u64,
    /// Virtual time.
    pub until: Nanos,
    /// `Kernel::check()` after every so many steps of a kernel; 0 never.
    pub check_every: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { idle_steps: 20_000, steps: u64::MAX, until: Nanos::MAX, check_every: 1 }
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub now: Nanos,
    pub hosts: Vec<Host>,
    pub cables: Vec<Cable>,
    pub recorder: Recorder,
    pub limits: Limits,
    pub steps: u64,
    pub failure: Option<Failure>,
    /// Hosts are watched, for a report.
    pub watched: bool,
    /// Bytes that calls moved.
    pub moved: u64,
    /// Frames that arrived lately, with cable and end, for who wants to repeat or forge them.
    pub(crate) spy: Option<VecDeque<(usize, usize, Frame)>>,
    idle: u64,
    idle_at: (Nanos, u64),
    /// Jobs to poll, in order; the one that is being polled.
    pub(crate) ready: VecDeque<usize>,
    pub(crate) current: usize,
    sleeps: BTreeSet<(Nanos, u64, usize)>,
    next_sleep: u64,
    waiting: BTreeMap<(usize, CallId), usize>,
    results: BTreeMap<(usize, CallId), SysResult>,
    /// Jobs that wait for CPU time of a task, and tasks that have had it.
    working: BTreeMap<(usize, TaskId), usize>,
    ran: BTreeSet<(usize, TaskId)>,
}

impl World {
    pub fn new(recorder: Recorder) -> World {
        World {
            now: 0,
            hosts: Vec::new(),
            cables: Vec::new(),
            recorder,
            limits: Limits::default(),
            steps: 0,
            failure: None,
            watched: false,
            moved: 0,
            spy: None,
            idle: 0,
            idle_at: (0, 0),
            ready: VecDeque::new(),
            current: 0,
            sleeps: BTreeSet::new(),
            next_sleep: 0,
            waiting: BTreeMap::new(),
            results: BTreeMap::new(),
            working: BTreeMap::new(),
            ran: BTreeSet::new(),
        }
    }

    pub fn add_host(&mut self, name: &str, mut kernel: Kernel, ns: NsId) -> usize {
        let watch = self.watched.then(|| {
            kernel.net.env.trace.wanted = Watch::wanted();
            Box::new(Watch::new(ns, 0, FIRST_STEP))
        });
        self.hosts.push(Host { name: name.to_owned(), kernel, ns, nics: Vec::new(), watch, more: false });
        self.hosts.len() - 1
    }

    /// Plugs a cable into NICs, two or more.
    pub fn plug(&mut self, ends: Vec<(usize, DevId)>, seed: u64, conditions: Conditions) -> usize {
        let n = self.cables.len();
        for (end, (host, dev)) in ends.iter().enumerate() {
            if let Some(h) = self.hosts.get_mut(*host) {
                h.nics.push((*dev, n, end));
            }
        }
        let more = (2..ends.len() as u64).map(|end| Pipe::new(seed.rotate_left(8 * end as u32))).collect();
        let mut cable = Cable { link: Link::new(seed), ends, more };
        cable.link.set(conditions);
        cable.more.iter_mut().for_each(|p| p.set(conditions));
        self.cables.push(cable);
        n
    }

    pub fn set_conditions(&mut self, cable: usize, conditions: Conditions) {
        if let Some(c) = self.cables.get_mut(cable) {
            c.link.set(conditions);
            c.more.iter_mut().for_each(|p| p.set(conditions));
            self.recorder.note(self.now, "", "link", format_args!("{cable} {conditions}"));
        }
    }

    pub fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A call of a task. A call that parks belongs to the job that is being polled.
    pub fn call(&mut self, host: usize, task: TaskId, call: Call<'_>) -> Submitted {
        let now = self.now;
        let Some(h) = self.hosts.get_mut(host) else { return Submitted::Done(Err(Errno::ESRCH)) };
        let submitted = h.kernel.call(now, task, call);
        match &submitted {
            Submitted::Done(r) => {
                self.moved += moved(r);
                self.recorder.note(now, &h.name, "call", format_args!("{r:?}"));
            }
            Submitted::Parked(id) => {
                self.waiting.insert((host, *id), self.current);
                self.recorder.note(now, &h.name, "park", format_args!("{id:?}"));
            }
        }
        self.after_step(host);
        submitted
    }

    /// A signal strikes a call that sleeps: what it came to, unless it had finished already.
    pub fn cancel(&mut self, host: usize, call: CallId) -> Option<SysResult> {
        let now = self.now;
        let h = self.hosts.get_mut(host)?;
        let result = h.kernel.cancel(now, call, Errno::EINTR);
        self.waiting.remove(&(host, call));
        if let Some(r) = &result {
            self.moved += moved(r);
            self.recorder.note(now, &h.name, "signal", format_args!("{call:?} {r:?}"));
        }
        self.after_step(host);
        result
    }

    /// Every process of a host ends.
    pub fn exit_all(&mut self, host: usize) {
        let now = self.now;
        let Some(h) = self.hosts.get_mut(host) else { return };
        let all: Vec<ProcId> = h.kernel.tasks.procs.iter().map(|(id, _)| id).collect();
        for id in all {
            if let Some(h) = self.hosts.get_mut(host) {
                h.kernel.exit(now, id);
            }
            self.after_step(host);
        }
    }

    pub fn take_result(&mut self, host: usize, call: CallId) -> Option<SysResult> {
        self.results.remove(&(host, call))
    }

    /// Nobody waits for this call any more.
    pub fn forget(&mut self, host: usize, call: CallId) {
        self.waiting.remove(&(host, call));
        if self.results.remove(&(host, call)).is_none() {
            self.cancel(host, call);
        }
    }

    /// A task works for so long, and for what its calls cost; the job that is being polled waits for that.
    pub fn work(&mut self, host: usize, task: TaskId, ns: Nanos) {
        self.working.insert((host, task), self.current);
        self.step(host, |k, now| k.run_on_cpu(now, task, ns));
    }

    pub fn has_worked(&mut self, host: usize, task: TaskId) -> bool {
        self.ran.remove(&(host, task))
    }

    /// Polls the current job again at `at`.
    pub fn sleep_until(&mut self, at: Nanos) {
        self.next_sleep += 1;
        self.sleeps.insert((at, self.next_sleep, self.current));
    }

    fn step(&mut self, host: usize, input: impl FnOnce(&mut Kernel, Nanos)) {
        let now = self.now;
        let Some(h) = self.hosts.get_mut(host) else { return };
        input(&mut h.kernel, now);
        self.after_step(host);
    }

    /// Moves what came out, counts, checks.
    fn after_step(&mut self, host: usize) {
        self.steps += 1;
        let now = self.now;
        let Some(h) = self.hosts.get_mut(host) else { return };
        while let Some(output) = h.kernel.pop_output() {
            match output {
                Output::Frame { dev, frame } => {
                    let Some((_, cable, end)) = h.nics.iter().find(|(d, ..)| *d == dev) else { continue };
                    self.recorder.frame(now, "tx", &h.name, &format!("{cable}.{end}"), &frame);
                    if let Some(pipe) = self.cables.get_mut(*cable).and_then(|c| c.sent_by(*end)) {
                        pipe.push(now, frame);
                    }
                }
                Output::Signal { owner, signal } => {
                    self.recorder.note(now, &h.name, "signal", format_args!("{signal} to {owner}"));
                }
                Output::Complete { call, result } => {
                    self.moved += moved(&result);
                    self.recorder.note(now, &h.name, "done", format_args!("{call:?} {result:?}"));
                    if let Some(job) = self.waiting.remove(&(host, call)) {
                        self.results.insert((host, call), result);
                        self.ready.push_back(job);
                    }
                }
            }
        }
        while let Some(task) = h.kernel.pop_ran() {
            if let Some(job) = self.working.remove(&(host, task)) {
                self.ran.insert((host, task));
                self.ready.push_back(job);
            }
        }
        if h.watch.is_some() {
            watch(h, &self.cables, now);
        }
        h.more = h.kernel.more_work();
        let checked = self.limits.check_every != 0 && self.steps.is_multiple_of(self.limits.check_every);
        if checked && let Err(v) = h.kernel.check() {
            let failure = Failure::Violation { host: h.name.clone(), what: v.to_string(), at: now };
            self.fail(failure);
        }
        self.count_progress();
    }

    fn count_progress(&mut self) {
        if self.idle_at != (self.now, self.moved) {
            self.idle_at = (self.now, self.moved);
            self.idle = 0;
        }
        self.idle += 1;
        if self.idle > self.limits.idle_steps {
            self.fail(Failure::Livelock { steps: self.idle, at: self.now });
        } else if self.steps > self.limits.steps {
            self.fail(Failure::Endless { what: format!("{} steps", self.limits.steps), at: self.now });
        } else if self.now > self.limits.until {
            self.fail(Failure::Endless { what: "the limit of virtual time".into(), at: self.now });
        }
    }

    /// Everything that is due now and no job: work left over, frames that arrived, timers. False: nothing was.
    pub(crate) fn run_due(&mut self) -> bool {
        let mut any = false;
        for cable in 0..self.cables.len() {
            for end in (0..self.cables.get(cable).map_or(0, |c| c.ends.len())).rev() {
                while let Some(frame) = self.out_of(cable, end) {
                    any = true;
                    self.arrived(cable, end, frame);
                    if self.failure.is_some() {
                        return true;
                    }
                }
            }
        }
        for host in 0..self.hosts.len() {
            let Some(h) = self.hosts.get(host) else { continue };
            if h.more || h.kernel.next_deadline().is_some_and(|at| at <= self.now) {
                any = true;
                self.step(host, |k, now| k.tick(now));
            }
        }
        while let Some(&(at, n, job)) = self.sleeps.first() {
            if at > self.now {
                break;
            }
            self.sleeps.remove(&(at, n, job));
            self.ready.push_back(job);
            any = true;
        }
        any
    }

    /// What this end sent comes out of the cable.
    fn out_of(&mut self, cable: usize, end: usize) -> Option<Frame> {
        let now = self.now;
        self.cables.get_mut(cable)?.sent_by(end)?.pop(now)
    }

    /// Every other end hears it.
    fn arrived(&mut self, cable: usize, from: usize, frame: Frame) {
        let (now, mut at) = (self.now, 0);
        while let Some((host, dev)) = self.cables.get(cable).and_then(|c| c.ends.get(at)).copied() {
            let end = at;
            at += 1;
            if end == from {
                continue;
            }
            let frame = frame.clone();
            if let Some(h) = self.hosts.get(host) {
                self.recorder.frame(now, "rx", &h.name, &format!("{cable}.{end}"), &frame);
            }
            if let Some(spy) = &mut self.spy {
                if spy.len() == 16 {
                    spy.pop_front();
                }
                spy.push_back((cable, end, frame.clone()));
            }
            self.step(host, |k, now| k.rx(now, dev, frame));
        }
    }

    /// A frame that no host sent comes out of a cable.
    pub(crate) fn inject(&mut self, cable: usize, end: usize, frame: Frame) {
        let Some((host, dev)) = self.cables.get(cable).and_then(|c| c.ends.get(end)).copied() else { return };
        let (now, name) = (self.now, format!("{cable}.{end}"));
        self.recorder.frame(now, "forged", "", &name, &frame);
        self.step(host, |k, now| k.rx(now, dev, frame));
    }

    /// Something is done to a host's kernel from outside, at the present time.
    pub(crate) fn administer(&mut self, host: usize, what: impl FnOnce(&mut Kernel, NsId)) {
        let Some(ns) = self.hosts.get(host).map(|h| h.ns) else { return };
        self.step(host, |k, now| {
            k.tick(now);
            what(k, ns);
            k.tick(now);
        });
    }

    /// When something will be due.
    pub(crate) fn next_time(&self) -> Option<Nanos> {
        let hosts = self.hosts.iter().filter_map(|h| h.kernel.next_deadline());
        let cables = self.cables.iter().filter_map(Cable::next_deadline);
        let sleeps = self.sleeps.first().map(|s| s.0);
        hosts.chain(cables).chain(sleeps).min()
    }

    /// Reads or writes a setting of a host.
    pub fn sysctl(&mut self, host: usize, key: &str, value: &str) -> Result<(), Errno> {
        let Some(h) = self.hosts.get_mut(host) else { return Err(Errno::ESRCH) };
        h.kernel.sysctl_set(h.ns, key, value)
    }
}

/// Events and, when one is due, a sample of a host for its report.
fn watch(h: &mut Host, cables: &[Cable], now: Nanos) {
    let Host { kernel, watch: Some(w), nics, .. } = h else { return };
    while let Some(r) = kernel.net.env.trace.pop() {
        w.record(kernel, &r);
    }
    if w.due() <= now {
        w.sample(now, kernel, link_took(nics, cables));
    }
}

/// Packets that the cables of a host took away.
fn link_took(nics: &[(DevId, usize, usize)], cables: &[Cable]) -> u64 {
    nics.iter().filter_map(|(_, cable, _)| cables.get(*cable)).map(Cable::took).sum()
}

impl World {
    /// The hosts as they are in the end, and what was gathered about them; the world is empty afterwards.
    pub(crate) fn take_watched(&mut self) -> Vec<WatchedHost> {
        let (now, cables) = (self.now, &self.cables);
        let all = self.hosts.drain(..).filter_map(|mut h| {
            let mut watch = h.watch.take()?;
            watch.finish(now, &h.kernel, link_took(&h.nics, cables));
            let (_, cable, end) = h.nics.first()?;
            let c = cables.get(*cable)?;
            let (out, back) = if *end == 0 { (&c.link.ab, &c.link.ba) } else { (&c.link.ba, &c.link.ab) };
            Some(WatchedHost {
                name: h.name,
                kernel: h.kernel,
                ns: h.ns,
                watch,
                link: (out.stats(), back.stats()),
                conditions: *out.conditions(),
            })
        });
        all.collect()
    }
}

/// Bytes that a result stands for.
fn moved(r: &SysResult) -> u64 {
    match r {
        Ok(Ret::Int(n)) => (*n).max(0) as u64,
        Ok(Ret::Stream(s)) => s.len() as u64,
        Ok(Ret::Data(d)) => d.segs.len() as u64,
        _ => 0,
    }
}
