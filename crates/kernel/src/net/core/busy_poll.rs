//! Busy polling: a call that would sleep looks for itself, on its own CPU, into the queue by which packets of its socket
//! come (SO_BUSY_POLL, `net.core.busy_read`, `net.core.busy_poll`).
//!
//! While it does, the NAPI is its own: an interrupt that still strikes schedules nothing. Where work takes time the task
//! takes its CPU for as long as it looks; elsewhere it sees what comes without taking anything. A loop ends with its time,
//! with its call, or when somebody else wants its CPU.
use crate::env::{Nanos, TimerKey, USEC};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::napi::{self, MIN_NAPI_ID};
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::Sock;
use crate::net::mib::Mib;
use crate::task::call::Op;
use belljar_abi::Errno;

/// Packets in one look, unless SO_BUSY_POLL_BUDGET says otherwise.
const BUSY_POLL_BUDGET: u16 = 8;

/// A loop under way, in the NAPI that it owns (`NAPI_STATE_IN_BUSY_POLL`).
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    pub cpu: usize,
    /// The call that loops; none: one that only looks once.
    call: Option<CallId>,
    ns: NsId,
    budget: u16,
    /// SO_PREFER_BUSY_POLL.
    prefer: bool,
    until: Nanos,
    /// Something came since the last look.
    pub kicked: bool,
}

/// What a socket asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    ns: NsId,
    napi: u32,
    usecs: u32,
    budget: u16,
    prefer: bool,
}

impl Sock {
    /// What a packet tells about the queue and the flow that it came by.
    #[inline]
    pub(crate) fn mark_rx(&mut self, skb: &SkBuff) {
        (self.napi_id, self.rxhash) = (skb.napi_id, skb.hash);
    }
}

/// SO_BUSY_POLL: anybody may, also for longer (as measured on 6.18).
pub(super) fn set_usecs(sk: &mut Sock, val: i32) -> Result<bool, Errno> {
    let us = u32::try_from(val).map_err(|_| Errno::EINVAL)?;
    if us != sk.cold.as_ref().map_or(0, |c| c.ll_usec) {
        sk.cold().ll_usec = us;
    }
    Ok(us > 0)
}

/// SO_BUSY_POLL_BUDGET: more than it was only with CAP_NET_ADMIN.
pub(super) fn set_budget(sk: &mut Sock, val: i32, net_admin: bool) -> Result<(), Errno> {
    if val > sk.cold.as_ref().map_or(0, |c| i32::from(c.busy_budget)) && !net_admin {
        return Err(Errno::EPERM);
    }
    sk.cold().busy_budget = u16::try_from(val).map_err(|_| Errno::EINVAL)?;
    Ok(())
}

fn wish(k: &Kernel, sock: SockId, usecs: Option<u32>) -> Option<Wish> {
    let sk = k.socks.sk(sock)?;
    let c = sk.cold.as_deref().filter(|c| c.ll_usec > 0 && sk.napi_id >= MIN_NAPI_ID)?;
    let budget = if c.busy_budget == 0 { BUSY_POLL_BUDGET } else { c.busy_budget };
    let usecs = usecs.unwrap_or(c.ll_usec);
    Some(Wish { ns: sk.ns, napi: sk.napi_id, usecs, budget, prefer: c.prefer_busy_poll })
}

fn by_id(net: &Net, id: u32) -> Option<(DevId, u16)> {
    net.devs.iter().find_map(|(dev, d)| {
        let at = d.nic()?.queues.iter().position(|q| q.napi.id == id)?;
        Some((dev, at as u16))
    })
}

/// Before a call finds out that there is nothing: one look. True when it should ask its socket again.
#[doc(alias = "sk_busy_loop")]
pub(crate) fn look(k: &mut Kernel, sock: SockId) -> bool {
    let Some(w) = wish(k, sock, None) else { return false };
    let Some((dev, queue)) = by_id(&k.net, w.napi) else { return false };
    if !begin(k, (dev, queue), w) {
        return false;
    }
    let work = poll(k, dev, queue);
    stop(k, dev, queue);
    work > 0
}

/// A call goes to sleep: it looks for as long as its socket says.
pub(crate) fn parked(k: &mut Kernel, call: CallId, task: TaskId) {
    let Some(at) = loop_of(k, call).and_then(|w| Some((by_id(&k.net, w.napi)?, w))) else { return };
    let ((dev, queue), w) = at;
    if !begin(k, (dev, queue), w) {
        return;
    }
    let until = k.net.env.now.saturating_add(u64::from(w.usecs) * USEC);
    if let Some(b) = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy.as_mut()) {
        (b.until, b.call) = (until, Some(call));
    }
    k.net.env.hrtimers.insert((until, TimerKey::NapiBusy(dev, queue)));
    if let Some(c) = k.tasks.calls.get_mut(call) {
        c.busy = Some((dev, queue));
    }
    let cpu = k.net.cpu;
    if let Some(m) = &mut k.net.model {
        m.spin(task, cpu, (dev, queue));
    }
    // What is there already is found by the first look.
    kick(&mut k.net, dev, queue);
}

/// Whether a sleeping call loops: a receive by its socket, a poll by the first of its sockets that would.
fn loop_of(k: &Kernel, call: CallId) -> Option<Wish> {
    let c = k.tasks.calls.get(call)?;
    match c.op.as_ref()? {
        Op::Recv { file, .. } => wish(k, k.file_sock(*file)?, None),
        Op::Poll { fds } if k.net.sysctl.busy_poll > 0 => {
            let process = k.tasks.tasks.get(c.task)?.process;
            fds.iter().find_map(|p| {
                let file = k.fd_file(process, u32::try_from(p.fd).ok()?).ok()?;
                wish(k, k.file_sock(file)?, Some(k.net.sysctl.busy_poll))
            })
        }
        _ => None,
    }
}

/// Takes the NAPI, if nobody has it.
#[doc(alias = "__napi_busy_loop")]
fn begin(k: &mut Kernel, (dev, queue): (DevId, u16), w: Wish) -> bool {
    let (cpu, now) = (k.net.cpu, k.net.env.now);
    let Some(n) = k.net.nic_queue(dev, queue).map(|q| &mut q.napi).filter(|n| !n.scheduled) else { return false };
    n.scheduled = true;
    n.busy = Some(Busy { cpu, call: None, ns: w.ns, budget: w.budget, prefer: w.prefer, until: now, kicked: false });
    true
}

/// One look; what it took.
pub(crate) fn poll(k: &mut Kernel, dev: DevId, queue: u16) -> u32 {
    let Some(b) = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy.as_mut()) else { return 0 };
    b.kicked = false;
    let (ns, budget) = (b.ns, u32::from(b.budget));
    let work = crate::drivers::nic::rx::poll(k, dev, queue, budget);
    k.drain_rises();
    k.net.add(ns, Mib::TcpExtBusyPollRxPackets, work.into());
    if work >= budget {
        kick(&mut k.net, dev, queue);
    }
    work
}

/// Something is in the ring of a NAPI that somebody loops over.
pub(crate) fn kick(net: &mut Net, dev: DevId, queue: u16) {
    let Some(b) = net.nic_queue(dev, queue).and_then(|q| q.napi.busy.as_mut()) else { return };
    if !std::mem::replace(&mut b.kicked, true) && net.model.is_none() {
        net.napi.kicked.push_back((dev, queue));
    }
}

/// A call is over, and its loop with it, if that is not over already.
pub(crate) fn leave(k: &mut Kernel, call: CallId, (dev, queue): (DevId, u16)) {
    let there = k.net.devs.contains(dev);
    let owner = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy).and_then(|b| b.call);
    if !there || owner == Some(call) {
        stop(k, dev, queue);
    }
}

/// The loop lets go: one poll more, after which interrupts are as ever; with SO_PREFER_BUSY_POLL, deferral and timeout they
/// stay masked until the timer.
#[doc(alias = "busy_poll_stop")]
pub(crate) fn stop(k: &mut Kernel, dev: DevId, queue: u16) {
    let now = k.net.env.now;
    if let Some(m) = &mut k.net.model {
        m.unspin((dev, queue), now);
    }
    let Some(d) = k.net.devs.get_mut(dev) else { return };
    let conf = d.napi;
    let Some(n) = d.nic_mut().and_then(|n| n.queue_mut(queue)).map(|q| &mut q.napi) else { return };
    let Some(b) = n.busy.take() else { return };
    let deferred = b.prefer && conf.defer_hard_irqs > 0 && conf.gro_flush_timeout > 0;
    if b.prefer {
        n.set_defer_count(conf.defer_hard_irqs);
    }
    k.net.env.hrtimers.remove(&(b.until, TimerKey::NapiBusy(dev, queue)));
    let here = std::mem::replace(&mut k.net.cpu, b.cpu);
    let budget = u32::from(b.budget);
    if crate::drivers::nic::rx::poll(k, dev, queue, budget) >= budget {
        napi::hand_over(&mut k.net, dev, queue, deferred);
    }
    k.net.cpu = here;
}

/// The time of a loop is over; the call goes on sleeping.
pub(crate) fn time_is_over(k: &mut Kernel, dev: DevId, queue: u16) {
    let now = k.net.env.now;
    let busy = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy.as_ref());
    if busy.is_some_and(|b| b.until <= now) {
        stop(k, dev, queue);
    }
}

/// Where steps take no time: everybody who loops looks at what came.
pub(crate) fn run(k: &mut Kernel) {
    let here = k.net.cpu;
    // Twice what a ring holds, in the smallest looks: more than one step can bring.
    for _ in 0..2 * crate::drivers::nic::MAX_RING {
        let Some((dev, queue)) = k.net.napi.kicked.pop_front() else { break };
        let busy = k.net.nic_queue(dev, queue).and_then(|q| q.napi.busy.as_ref());
        let Some(cpu) = busy.filter(|b| b.kicked).map(|b| b.cpu) else { continue };
        k.net.cpu = cpu;
        poll(k, dev, queue);
    }
    k.net.cpu = here;
}
