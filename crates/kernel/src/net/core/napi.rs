//! NAPI beside the softirq that polls: how a device asks for it to be done (`gro_flush_timeout`, `napi_defer_hard_irqs`,
//! `threaded`), the end of a poll, the timer that polls again, and the kernel threads that poll in the softirq's place.
//!
//! With a timeout the packets that GRO holds stay held when a poll ends, until the timer, or an interrupt before it, polls
//! again. With a deferral, too, that many polls that find nothing pass before the vectors are unmasked.
use crate::env::time::Jiffies;
use crate::env::{Nanos, TimerKey};
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::busy_poll::Busy;
use crate::net::core::dev::DevKind;
use crate::net::core::softirq::{self, Napi};
use std::collections::VecDeque;

/// Below this numbers are not of NAPIs (`MIN_NAPI_ID`: one more than there can be CPUs).
pub const MIN_NAPI_ID: u32 = 65;

/// `/sys/class/net/IF/{gro_flush_timeout,napi_defer_hard_irqs,threaded}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NapiConf {
    /// Nanoseconds.
    pub gro_flush_timeout: u64,
    pub defer_hard_irqs: u32,
    pub threaded: bool,
}

/// Of the whole machine.
#[derive(Clone, Debug)]
pub struct Global {
    next_id: u32,
    /// A device polls by threads: until then that costs one look at this.
    pub(crate) threads: bool,
    /// Somebody asked for busy polling; the same.
    pub(crate) busy: bool,
    /// Rings over which somebody loops and into which something came (where steps take no time).
    pub(crate) kicked: VecDeque<(DevId, u16)>,
}

impl Default for Global {
    fn default() -> Global {
        Global { next_id: MIN_NAPI_ID, threads: false, busy: false, kicked: VecDeque::new() }
    }
}

/// One NAPI (`struct napi_struct`).
#[derive(Clone, Debug, Default)]
pub struct NapiState {
    /// SO_INCOMING_NAPI_ID.
    pub id: u32,
    /// It waits for its poll, or is polled (`NAPI_STATE_SCHED`).
    pub scheduled: bool,
    /// The CPU that polled last, on which its timer strikes.
    pub cpu: usize,
    /// Polls without work that are still to pass.
    defer_count: u32,
    timer: Option<Nanos>,
    /// Who loops over it.
    pub busy: Option<Busy>,
    /// Polls by the timer, and polls after which the vectors stayed masked.
    pub timer_polls: u64,
    pub deferred: u64,
}

impl NapiState {
    pub fn new(id: u32) -> NapiState {
        NapiState { id, ..NapiState::default() }
    }

    pub(super) fn set_defer_count(&mut self, n: u32) {
        self.defer_count = n;
    }
}

/// What becomes of the packets that GRO holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    All,
    /// What came in this tick stays.
    Old(Jiffies),
    Nothing,
}

/// How a poll ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Poll again after so long.
    timeout: Nanos,
    /// The vectors may be unmasked.
    unmask: bool,
    pub flush: Flush,
}

impl Net {
    pub(crate) fn new_napi_id(&mut self) -> u32 {
        let id = self.napi.next_id;
        self.napi.next_id = id.wrapping_add(1).max(MIN_NAPI_ID);
        id
    }
}

/// The NAPI of a ring of a card, or of an end of a veth pair.
fn state(net: &mut Net, dev: DevId, queue: u16) -> Option<&mut NapiState> {
    state_of(&mut net.devs.get_mut(dev)?.kind, queue)
}

fn state_of(kind: &mut DevKind, queue: u16) -> Option<&mut NapiState> {
    match kind {
        DevKind::Nic(n) => n.queue_mut(queue).map(|q| &mut q.napi),
        DevKind::Veth(v) => v.rx.as_mut().map(|r| &mut r.napi),
        _ => None,
    }
}

/// Onto the poll list of a CPU, or awake its thread. Not twice.
#[doc(alias = "__napi_schedule")]
pub fn napi_schedule(net: &mut Net, dev: DevId, queue: u16, cpu: usize) {
    let threaded = net.napi.threads && net.devs.get(dev).is_some_and(|d| d.napi.threaded);
    let Some(n) = state(net, dev, queue) else { return };
    if std::mem::replace(&mut n.scheduled, true) {
        return;
    }
    n.cpu = cpu;
    if threaded {
        return wake_thread(net, dev, queue, cpu);
    }
    let nic = net.devs.get(dev).is_some_and(|d| d.nic().is_some());
    let napi = if nic { Napi::Nic(dev, queue) } else { Napi::Veth(dev) };
    if let Some(cpu) = net.cpus.get_mut(cpu) {
        cpu.napi_schedule(napi);
    }
}

/// A poll is over: what is to become of what GRO holds and of the vectors. `more` is that it took all it may.
#[doc(alias = "napi_complete_done")]
pub fn ending(net: &mut Net, dev: DevId, queue: u16, work: u32, more: bool, holds: bool) -> Ending {
    let (jiffies, fine) = (net.env.jiffies(), net.env.hz >= 1000);
    if net.napi.busy && net.nic_queue(dev, queue).is_some_and(|q| q.napi.busy.is_some()) {
        // Who loops looks again.
        return Ending { timeout: 0, unmask: false, flush: Flush::Nothing };
    }
    if more {
        // Between polls of one run only a fine clock lets packets age.
        return Ending { timeout: 0, unmask: false, flush: if fine { Flush::Old(jiffies) } else { Flush::All } };
    }
    let plain = Ending { timeout: 0, unmask: true, flush: Flush::All };
    let Some(d) = net.devs.get_mut(dev).filter(|d| d.napi.gro_flush_timeout != 0) else { return plain };
    let conf = d.napi;
    let Some(n) = state_of(&mut d.kind, queue) else { return plain };
    let mut end = plain;
    if work > 0 {
        n.defer_count = conf.defer_hard_irqs;
        if holds {
            end.timeout = conf.gro_flush_timeout;
        }
    }
    if n.defer_count > 0 {
        n.defer_count -= 1;
        n.deferred += 1;
        (end.timeout, end.unmask) = (conf.gro_flush_timeout, false);
    }
    if end.timeout != 0 {
        end.flush = Flush::Old(jiffies);
    }
    end
}

/// The NAPI rests; true when the vectors are to be unmasked. A time beyond what a signed number holds is over at once.
pub fn rest(net: &mut Net, dev: DevId, queue: u16, end: &Ending) -> bool {
    let cpu = net.cpu;
    let Some(n) = state(net, dev, queue).filter(|n| n.busy.is_none()) else { return false };
    n.scheduled = false;
    n.cpu = cpu;
    if end.timeout != 0 {
        start_timer(net, dev, queue, end.timeout);
    }
    end.unmask
}

fn start_timer(net: &mut Net, dev: DevId, queue: u16, timeout: Nanos) {
    let at = net.env.now.saturating_add(i64::try_from(timeout).unwrap_or(0) as u64);
    let Some(n) = state(net, dev, queue) else { return };
    let (before, key) = (n.timer.replace(at), TimerKey::NapiWatchdog(dev, queue));
    if let Some(before) = before {
        net.env.hrtimers.remove(&(before, key));
    }
    net.env.hrtimers.insert((at, key));
}

/// Whoever looped leaves something in the ring: the softirq goes on, or the timer.
pub(super) fn hand_over(net: &mut Net, dev: DevId, queue: u16, deferred: bool) {
    let (cpu, timeout) = (net.cpu, net.devs.get(dev).map_or(0, |d| d.napi.gro_flush_timeout));
    if let Some(n) = state(net, dev, queue) {
        n.scheduled = false;
    }
    match deferred {
        true => start_timer(net, dev, queue, timeout),
        false => napi_schedule(net, dev, queue, cpu),
    }
}

/// The timer: an interrupt of its own on the CPU that polled last, unless the NAPI is scheduled already.
#[doc(alias = "napi_watchdog")]
pub fn watchdog(net: &mut Net, dev: DevId, queue: u16) {
    let now = net.env.now;
    let Some(n) = state(net, dev, queue) else { return };
    if n.timer.is_none_or(|at| at > now) {
        return;
    }
    n.timer = None;
    if n.scheduled {
        return;
    }
    n.timer_polls += 1;
    let cpu = n.cpu;
    if let Some(m) = &mut net.model {
        m.hard_irq(cpu, now);
    }
    napi_schedule(net, dev, queue, cpu);
}

/// The device goes: its timers with it.
pub fn forget(net: &mut Net, dev: DevId) {
    net.env.hrtimers.retain(|t| !matches!(t.1, TimerKey::NapiWatchdog(d, _) | TimerKey::NapiBusy(d, _) if d == dev));
}

/// `napi/IF-N` becomes runnable.
fn wake_thread(net: &mut Net, dev: DevId, queue: u16, cpu: usize) {
    let (napi, now) = (Napi::Nic(dev, queue), net.env.now);
    match &mut net.model {
        Some(m) => m.wake_napi(napi, cpu, now),
        None => net.cpus.get_mut(cpu).into_iter().for_each(|c| c.napi_threads.push_back(napi)),
    }
}

/// Rounds of the threads in one step; what is left is for the next ([`Kernel::more_work`]).
const ROUNDS: u32 = 10;

/// Where steps take no time: the threads that were woken, each for one poll in turn, softirqs between.
#[doc(alias = "napi_threaded_poll_loop")]
pub(crate) fn run_threads(k: &mut Kernel) {
    let here = k.net.cpu;
    for _ in 0..ROUNDS {
        for cpu in 0..k.net.cpus.len() {
            let woken = k.net.cpus.get(cpu).map_or(0, |c| c.napi_threads.len());
            k.net.cpu = if woken > 0 { cpu } else { here };
            for _ in 0..woken {
                let Some(napi) = k.net.this_cpu().and_then(|c| c.napi_threads.pop_front()) else { break };
                let (_, again) = softirq::poll_one(k, napi);
                k.drain_rises();
                if again && let Some(c) = k.net.this_cpu() {
                    c.napi_threads.push_back(napi);
                }
                softirq::do_softirq(k);
            }
        }
        if k.net.cpus.iter().all(|c| c.napi_threads.is_empty()) {
            break;
        }
    }
    k.net.cpu = here;
}
