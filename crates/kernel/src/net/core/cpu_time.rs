//! How long things take: a model of processors for virtual time. Without it a step takes no time and everything that is
//! pending runs at once; with it each CPU does one thing after another, hard interrupts before softirqs before tasks, and
//! what comes meanwhile waits where it would wait on a machine: in rings, backlogs and poll lists.
//!
//! The unit of softirq work is one poll of one NAPI: its packets go up the stack when it begins, and the CPU is taken until
//! all of them are paid for. Calls are answered at once, too; what they cost is owed, and paid for by the next burst that
//! their task asks for ([`Kernel::run_on_cpu`]).
use crate::env::{Fired, MSEC, Nanos, time};
use crate::ids::{DevId, TaskId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::busy_poll;
use crate::net::core::softirq::{self, Napi, Softirq};
use crate::task::call::{Ret, Submitted};
use std::collections::{BTreeMap, VecDeque};

/// Nanoseconds of a CPU of a few GHz; docs/devices.md has the table with what each stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    pub hard_irq: Nanos,
    pub softirq: Nanos,
    pub poll: Nanos,
    pub rx_desc: Nanos,
    pub backlog: Nanos,
    pub stack_rx: Nanos,
    pub xmit: Nanos,
    pub syscall: Nanos,
    pub switch: Nanos,
    /// Of a copied kilobyte.
    pub copy_kb: Nanos,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs {
            hard_irq: 1500,
            softirq: 400,
            poll: 200,
            rx_desc: 150,
            backlog: 100,
            stack_rx: 700,
            xmit: 300,
            syscall: 400,
            switch: 1200,
            copy_kb: 60,
        }
    }
}

/// What a CPU spent its time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub hard_irq: Nanos,
    pub softirq: Nanos,
    pub ksoftirqd: Nanos,
    pub tasks: Nanos,
    /// Threads of NAPIs.
    pub napi: Nanos,
}

impl Spent {
    pub fn all(&self) -> Nanos {
        self.hard_irq + self.softirq + self.ksoftirqd + self.tasks + self.napi
    }
}

/// `net_rx_action` under way.
#[derive(Clone, Copy, Debug)]
struct Round {
    budget: i64,
    until: Nanos,
}

/// Who runs when no interrupt and no softirq does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Task(TaskId),
    /// The thread of a NAPI.
    Napi(Napi),
}

/// CPU time that somebody wants; of a NAPI's thread, until its next poll.
#[derive(Clone, Copy, Debug)]
struct Burst {
    who: Who,
    left: Nanos,
    /// It wants all that it can get, to look into this queue.
    spin: Option<(DevId, u16)>,
}

/// One CPU.
#[derive(Clone, Debug, Default)]
struct Time {
    /// Interrupts and softirqs have it until then.
    busy_until: Nanos,
    round: Option<Round>,
    /// `__do_softirq` under way: since when, and how often it began again.
    serving: Option<(Nanos, u32)>,
    /// The rest was left to ksoftirqd, which takes turns with the tasks.
    ksoftirqd: bool,
    its_turn: bool,
    turn_until: Nanos,
    tasks: VecDeque<Burst>,
    /// Since when the first of them runs.
    running: Option<Nanos>,
    last: Option<Who>,
    spent: Spent,
}

impl Time {
    /// The task that runs is interrupted.
    fn pause(&mut self, now: Nanos) {
        if let (Some(since), Some(b)) = (self.running.take(), self.tasks.front_mut()) {
            let ran = now.saturating_sub(since).min(b.left);
            b.left -= ran;
            match b.who {
                Who::Task(_) => self.spent.tasks += ran,
                Who::Napi(_) => self.spent.napi += ran,
            }
        }
    }

    /// Behind those who want it already.
    fn enqueue(&mut self, who: Who, ns: Nanos, switch: Nanos) {
        let switch = if self.last.replace(who) == Some(who) { 0 } else { switch };
        self.tasks.push_back(Burst { who, left: ns + switch, spin: None });
    }

    fn is_idle(&self, now: Nanos) -> bool {
        self.tasks.is_empty() && self.busy_until <= now
    }

    /// Who else waits runs now.
    fn next_turn(&mut self, now: Nanos) {
        if now >= self.turn_until {
            self.turn_until = now + SLICE;
            self.its_turn = !self.its_turn;
            self.pause(now);
            self.tasks.rotate_left(usize::from(self.tasks.len() > 1));
        }
    }
}

/// A scheduler's slice.
const SLICE: Nanos = 3 * MSEC;
/// `MAX_SOFTIRQ_TIME`, `MAX_SOFTIRQ_RESTART`.
const MAX_SOFTIRQ_TIME: Nanos = 2 * MSEC;
const MAX_SOFTIRQ_RESTART: u32 = 10;

/// See the module.
#[derive(Clone, Debug)]
pub struct Model {
    pub costs: Costs,
    cpus: Vec<Time>,
    /// What tasks have to pay for.
    owed: BTreeMap<TaskId, Nanos>,
    finished: VecDeque<TaskId>,
    /// Packets that went up the stack.
    pub(crate) up: u64,
}

impl Model {
    fn new(costs: Costs, cpus: usize) -> Model {
        Model { costs, cpus: vec![Time::default(); cpus], owed: BTreeMap::new(), finished: VecDeque::new(), up: 0 }
    }

    /// An interrupt strikes a CPU, whatever it does.
    pub(crate) fn hard_irq(&mut self, cpu: usize, now: Nanos) {
        let cost = self.costs.hard_irq;
        if let Some(t) = self.cpus.get_mut(cpu) {
            t.pause(now);
            t.busy_until = t.busy_until.max(now) + cost;
            t.spent.hard_irq += cost;
        }
    }

    /// A task looks into a queue from now on.
    pub(crate) fn spin(&mut self, task: TaskId, cpu: usize, at: (DevId, u16)) {
        if let Some(t) = self.cpus.get_mut(cpu) {
            t.last = Some(Who::Task(task));
            t.tasks.push_back(Burst { who: Who::Task(task), left: Nanos::MAX, spin: Some(at) });
        }
    }

    /// It does so no more.
    pub(crate) fn unspin(&mut self, at: (DevId, u16), now: Nanos) {
        for t in &mut self.cpus {
            if t.tasks.front().is_some_and(|b| b.spin == Some(at)) {
                t.pause(now);
            }
            t.tasks.retain(|b| b.spin != Some(at));
        }
    }

    /// The thread of a NAPI wakes: where it was interrupted, or on the first CPU that has nothing to do.
    #[doc(alias = "select_idle_sibling")]
    pub(crate) fn wake_napi(&mut self, napi: Napi, cpu: usize, now: Nanos) {
        let (who, switch) = (Who::Napi(napi), self.costs.switch);
        let here = self.cpus.get(cpu).is_some_and(|t| t.tasks.is_empty());
        let idle = self.cpus.iter().position(|t| t.is_idle(now)).filter(|_| !here);
        if let Some(t) = self.cpus.get_mut(idle.unwrap_or(cpu)) {
            t.enqueue(who, 0, switch);
        }
    }
}

/// What is counted to know what a piece of work cost.
struct Meter {
    up: u64,
    frames: usize,
}

impl Meter {
    fn read(net: &Net) -> Meter {
        Meter { up: net.model.as_ref().map_or(0, |m| m.up), frames: net.frames.len() }
    }

    /// Packets that went up since, and those that a card took.
    fn since(&self, net: &Net, c: &Costs) -> Nanos {
        let now = Meter::read(net);
        let (up, out) = (now.up - self.up, now.frames.saturating_sub(self.frames) as u64);
        up * c.stack_rx + out * c.xmit
    }
}

impl Kernel {
    /// From now on work takes time.
    pub fn model_cpus(&mut self, costs: Costs) {
        self.net.model = Some(Box::new(Model::new(costs, self.net.cpus.len())));
    }

    /// What a CPU spent, while there is a model.
    pub fn cpu_spent(&self, cpu: usize) -> Option<Spent> {
        self.net.model.as_ref()?.cpus.get(cpu).map(|t| t.spent)
    }

    /// A task wants its CPU for so long, and for what its calls cost. [`Kernel::pop_ran`] tells when it has had it.
    pub fn run_on_cpu(&mut self, now: Nanos, task: TaskId, ns: Nanos) {
        self.begin_step(now);
        let cpu = self.tasks.tasks.get(task).map_or(0, |t| t.cpu);
        match self.net.model.as_mut() {
            Some(m) => {
                let left = ns + m.owed.remove(&task).unwrap_or(0);
                let switch = m.costs.switch;
                if let Some(t) = m.cpus.get_mut(cpu) {
                    t.enqueue(Who::Task(task), left, switch);
                }
            }
            None => self.tasks.ran.push_back(task),
        }
        self.end_step();
    }

    /// Tasks that have had the CPU time that they asked for.
    pub fn pop_ran(&mut self) -> Option<TaskId> {
        self.tasks.ran.pop_front().or_else(|| self.net.model.as_mut()?.finished.pop_front())
    }

    /// What a call cost its task: itself, what it copied and what it handed to a card.
    pub(crate) fn charge_call(&mut self, task: TaskId, frames: usize, done: &Submitted) {
        let out = self.net.frames.len().saturating_sub(frames) as u64;
        let bytes = match done {
            Submitted::Done(Ok(Ret::Int(n))) => (*n).max(0) as u64,
            Submitted::Done(Ok(Ret::Stream(s))) => s.len() as u64,
            Submitted::Done(Ok(Ret::Data(d))) => d.segs.len() as u64,
            _ => 0,
        };
        if let Some(m) = self.net.model.as_mut() {
            let cost = m.costs.syscall + out * m.costs.xmit + bytes * m.costs.copy_kb / 1024;
            *m.owed.entry(task).or_default() += cost;
        }
    }
}

/// The pass at the end of a step: what each CPU can do now.
pub(crate) fn pass(k: &mut Kernel) {
    k.drain_rises();
    hard_timers(k);
    if k.net.env.timers_due()
        && let Some(cpu) = k.net.cpus.first_mut()
    {
        cpu.raise(Softirq::Timer);
    }
    let here = k.net.cpu;
    let cpus = k.net.model.as_ref().map_or(0, |m| m.cpus.len());
    // Every round takes a CPU's time or ends a burst: there are not many at one moment.
    while (0..cpus).fold(false, |any, cpu| advance(k, cpu) | any) {}
    k.net.cpu = here;
    k.drain_rises();
}

/// A card's own clock does not wait for a CPU, nor do timers that are interrupts.
fn hard_timers(k: &mut Kernel) {
    let now = k.net.env.now;
    let due = |k: &Kernel| {
        let mut due = k.net.env.hrtimers.iter().take_while(|t| t.0 <= now);
        due.find(|t| t.1.is_hard()).copied()
    };
    while let Some(timer) = due(k) {
        k.net.env.hrtimers.remove(&timer);
        k.fire(timer.1, Fired::NONE);
    }
}

/// Does one thing on a CPU; false when it is taken, or idle.
fn advance(k: &mut Kernel, cpu: usize) -> bool {
    let now = k.net.env.now;
    let Net { model: Some(m), cpus, .. } = &mut k.net else { return false };
    let (Some(t), Some(c)) = (m.cpus.get_mut(cpu), cpus.get(cpu)) else { return false };
    if t.busy_until > now {
        return false;
    }
    if t.tasks.len() > 1
        && let Some(at) = t.tasks.iter().find_map(|b| b.spin)
    {
        return spin(k, cpu, at, true);
    }
    if c.is_pending() || t.round.is_some() {
        if t.ksoftirqd && !t.tasks.is_empty() {
            t.next_turn(now);
        }
        if !t.ksoftirqd || t.tasks.is_empty() || t.its_turn {
            t.pause(now);
            softirq_unit(k, cpu);
            return true;
        }
    } else if t.tasks.len() > 1 {
        t.next_turn(now);
    }
    let Some(b) = t.tasks.front() else { return false };
    let since = *t.running.get_or_insert(now);
    if let Some(at) = b.spin {
        return spin(k, cpu, at, false);
    }
    if since + b.left > now {
        return false;
    }
    t.pause(now);
    match t.tasks.front().map(|b| b.who) {
        Some(Who::Napi(napi)) => thread_unit(k, cpu, napi),
        Some(Who::Task(task)) => {
            t.tasks.pop_front();
            m.finished.push_back(task);
        }
        None => {}
    }
    true
}

/// A task that looks into a queue: it sees what came, and makes way for who wants to work (`need_resched`).
fn spin(k: &mut Kernel, cpu: usize, (dev, queue): (DevId, u16), wanted: bool) -> bool {
    let kicked = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy).is_some_and(|b| b.kicked);
    if !kicked && !wanted {
        return false;
    }
    k.net.cpu = cpu;
    let (now, before) = (k.net.env.now, Meter::read(&k.net));
    let work = if kicked { busy_poll::poll(k, dev, queue) } else { 0 };
    if wanted {
        busy_poll::stop(k, dev, queue);
    }
    let Some(costs) = k.net.model.as_ref().map(|m| m.costs) else { return false };
    let cost = costs.poll + u64::from(work) * costs.rx_desc + before.since(&k.net, &costs);
    if let Some(t) = k.net.model.as_mut().and_then(|m| m.cpus.get_mut(cpu)) {
        t.pause(now);
        t.spent.tasks += cost;
        t.busy_until = now.max(t.busy_until) + cost;
    }
    true
}

/// One poll of a NAPI by its thread, for which no softirq runs here (`napi_threaded_poll_loop`).
fn thread_unit(k: &mut Kernel, cpu: usize, napi: Napi) {
    k.net.cpu = cpu;
    let (now, before) = (k.net.env.now, Meter::read(&k.net));
    let Some((costs, mut t)) = take(&mut k.net, cpu) else { return };
    t.tasks.pop_front();
    let (work, again) = softirq::poll_one(k, napi);
    k.drain_rises();
    let cost = costs.poll + u64::from(work) * costs.rx_desc + before.since(&k.net, &costs);
    if again {
        t.enqueue(Who::Napi(napi), 0, costs.switch);
    }
    t.spent.napi += cost;
    t.busy_until = now.max(t.busy_until) + cost.max(1);
    give_back(&mut k.net, cpu, t);
}

/// The softirqs that are pending, of NET_RX one poll.
fn softirq_unit(k: &mut Kernel, cpu: usize) {
    k.net.cpu = cpu;
    let (now, before) = (k.net.env.now, Meter::read(&k.net));
    let Some((costs, mut t)) = take(&mut k.net, cpu) else { return };
    let mut cost = 0;
    if t.serving.is_none() {
        t.serving = Some((now, 0));
        cost += costs.softirq;
        if let Some(c) = k.net.this_cpu().filter(|_| t.ksoftirqd) {
            c.ksoftirqd_runs += 1;
        }
    }
    let rx = match t.round.take() {
        Some(round) => Some(round),
        None => begin(k, now),
    };
    if let Some(round) = rx {
        let (packets, next) = rx_poll(k, round, now, &before, &costs);
        cost += packets;
        t.round = next;
    }
    k.drain_rises();
    cost += before.since(&k.net, &costs);
    let cost = cost.max(1);
    if t.round.is_none() {
        let more = k.net.this_cpu().is_some_and(|c| c.is_pending());
        let (since, restarts) = t.serving.unwrap_or((now, 0));
        let tired = restarts + 1 >= MAX_SOFTIRQ_RESTART || now + cost - since >= MAX_SOFTIRQ_TIME;
        t.serving = Some((since, restarts + 1)).filter(|_| more && !tired);
        let was = t.ksoftirqd;
        t.ksoftirqd = more && (was || tired);
        if t.ksoftirqd && !was {
            (t.its_turn, t.turn_until) = (true, now + SLICE);
        }
    }
    let to = if t.ksoftirqd { &mut t.spent.ksoftirqd } else { &mut t.spent.softirq };
    *to += cost;
    // Interrupts that struck while the packets were handed up, from another CPU's work, come on top.
    t.busy_until = now.max(t.busy_until) + cost;
    give_back(&mut k.net, cpu, t);
}

fn take(net: &mut Net, cpu: usize) -> Option<(Costs, Time)> {
    let m = net.model.as_mut()?;
    Some((m.costs, std::mem::take(m.cpus.get_mut(cpu)?)))
}

/// With the interrupts that struck it meanwhile, and whom they woke.
fn give_back(net: &mut Net, cpu: usize, mut t: Time) {
    if let Some(place) = net.model.as_mut().and_then(|m| m.cpus.get_mut(cpu)) {
        t.busy_until += place.spent.hard_irq;
        t.spent.hard_irq += place.spent.hard_irq;
        if !place.tasks.is_empty() {
            t.last = place.last;
            t.tasks.append(&mut place.tasks);
        }
        *place = t;
    }
}

/// A round of softirqs begins: those before NET_RX are over at once; that one when it is among them.
fn begin(k: &mut Kernel, now: Nanos) -> Option<Round> {
    let budget = i64::from(k.net.sysctl.netdev_budget);
    let until = now + u64::from(k.net.sysctl.netdev_budget_usecs) * 1000;
    let pending = k.net.this_cpu().map_or(0, |c| c.take_pending());
    softirq::run_but_net_rx(k, pending);
    let rx = pending & 1 << Softirq::NetRx as u16 != 0;
    if let Some(c) = k.net.this_cpu().filter(|_| rx) {
        c.softirqs[Softirq::NetRx as usize] += 1;
    }
    rx.then_some(Round { budget, until })
}

/// One NAPI of the round; what it took, and the round if it goes on.
fn rx_poll(k: &mut Kernel, mut r: Round, now: Nanos, before: &Meter, costs: &Costs) -> (Nanos, Option<Round>) {
    let Some(napi) = k.net.this_cpu().and_then(|c| c.next_napi()) else {
        k.net.this_cpu().into_iter().for_each(|c| c.end_round(false));
        return (0, None);
    };
    let (work, again) = softirq::poll_one(k, napi);
    let each = if napi == Napi::Backlog { costs.backlog + costs.stack_rx } else { costs.rx_desc };
    let cost = costs.poll + u64::from(work) * each;
    r.budget -= i64::from(work);
    let over = r.budget <= 0 || now + cost + before.since(&k.net, costs) >= r.until;
    let Some(c) = k.net.this_cpu() else { return (cost, None) };
    if again {
        c.put_aside(napi);
    }
    if over || c.is_last_napi() {
        c.end_round(over);
        return (cost, None);
    }
    (cost, Some(r))
}

/// When something will be due on the CPUs or by a timer.
pub(crate) fn next_deadline(k: &Kernel) -> Option<Nanos> {
    let env = &k.net.env;
    let m = k.net.model.as_ref()?;
    let of = |(t, c): (&Time, &softirq::Cpu)| {
        let work = c.is_pending() || t.round.is_some();
        if !work && t.tasks.is_empty() {
            return None;
        }
        if t.busy_until > env.now {
            return Some(t.busy_until);
        }
        let end = t.running.zip(t.tasks.front().filter(|b| b.spin.is_none())).map(|(since, b)| since + b.left);
        let turn = Some(t.turn_until).filter(|_| work || t.tasks.len() > 1);
        end.into_iter().chain(turn).min()
    };
    let cpus = m.cpus.iter().zip(&k.net.cpus).filter_map(of);
    let card = env.hrtimers.iter().find(|t| t.1.is_hard()).map(|t| t.0);
    // Timers that are due already wait for the first CPU.
    let waiting = k.net.cpus.first().is_some_and(|c| c.has_raised(Softirq::Timer));
    let wheel = env.timers.next_tick().map(|j| time::tick_start(j, env.hz));
    let timers = wheel.into_iter().chain(env.hrtimers.first().map(|t| t.0)).filter(|_| !waiting);
    cpus.chain(card).chain(timers).min()
}
