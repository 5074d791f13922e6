//! Softirqs of a CPU: TIMER, NET_TX, NET_RX; budgets, restarts, ksoftirqd; the backlog of devices without NAPI.
//!
//! They run at the end of the step that raised them, as at `local_bh_enable`. Time does not pass inside a step, so of
//! netdev_budget_usecs only 0 can be reached here: a pass then ends after one poll.
use crate::drivers::{ifb, nic, veth_rx};
use crate::env::Fired;
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::{dev_rx, dev_tx};
use crate::net::drop::DropReason;
use std::collections::VecDeque;

/// In the order in which they are served and `/proc/softirqs` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Softirq {
    Hi,
    Timer,
    NetTx,
    NetRx,
    Block,
    IrqPoll,
    Tasklet,
    Sched,
    Hrtimer,
    Rcu,
}

impl Softirq {
    pub const NAMES: [&str; 10] =
        ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];
}

/// After so many rounds in one go the rest is left to ksoftirqd.
const MAX_SOFTIRQ_RESTART: u32 = 10;

/// Who is on a CPU's poll list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Napi {
    /// `process_backlog`: packets of lo and other devices without NAPI.
    Backlog,
    /// A channel of a card.
    Nic(DevId, u16),
    /// An end of a veth pair with GRO.
    Veth(DevId),
}

/// Columns of `/proc/net/softnet_stat` that are not queue lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftnetStat {
    pub processed: u64,
    pub dropped: u64,
    pub time_squeeze: u64,
    pub received_rps: u64,
    pub flow_limit_count: u64,
}

/// Packet processing of one CPU (`softnet_data`) and its softirq state.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pending: u16,
    poll_list: VecDeque<Napi>,
    /// NAPIs put aside by the NET_RX pass that runs (`repoll`).
    repoll: VecDeque<Napi>,
    /// Threads of NAPIs that were woken here (where steps take no time).
    pub(crate) napi_threads: VecDeque<Napi>,
    pub input_pkt_queue: VecDeque<Skb>,
    pub process_queue: VecDeque<Skb>,
    /// Packets that were ever taken out of its backlog, and put in.
    pub input_queue_head: u32,
    input_queue_tail: u32,
    backlog_scheduled: bool,
    /// Devices whose qdisc is to be run again.
    output_queue: VecDeque<DevId>,
    /// ifbs that have packets to give back.
    pub(crate) tasklets: VecDeque<DevId>,
    pub stat: SoftnetStat,
    /// Times each softirq ran.
    pub softirqs: [u64; 10],
    /// Passes that ksoftirqd had to make.
    pub ksoftirqd_runs: u64,
    ksoftirqd: bool,
}

impl Cpu {
    pub fn raise(&mut self, which: Softirq) {
        self.pending |= 1 << which as u16;
    }

    /// Whether anything is to be done.
    pub fn is_pending(&self) -> bool {
        self.pending != 0
    }

    /// Nothing is raised, and no pass was left to ksoftirqd.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending == 0 && !self.ksoftirqd
    }

    pub(super) fn has_raised(&self, which: Softirq) -> bool {
        self.pending & 1 << which as u16 != 0
    }

    pub(super) fn take_pending(&mut self) -> u16 {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn next_napi(&mut self) -> Option<Napi> {
        self.poll_list.pop_front()
    }

    pub(super) fn is_last_napi(&self) -> bool {
        self.poll_list.is_empty()
    }

    /// It may have more: behind the others, in the next round.
    pub(super) fn put_aside(&mut self, napi: Napi) {
        self.repoll.push_back(napi);
    }

    /// A round of NET_RX ends, by itself or because budget or time are used up.
    pub(super) fn end_round(&mut self, over: bool) {
        let left = !self.poll_list.is_empty() || !self.repoll.is_empty();
        if left {
            self.stat.time_squeeze += u64::from(over);
            self.poll_list.append(&mut self.repoll);
            self.raise(Softirq::NetRx);
        }
    }

    pub fn napi_schedule(&mut self, napi: Napi) {
        self.poll_list.push_back(napi);
        self.raise(Softirq::NetRx);
    }
}

impl Net {
    /// The CPU that runs the current step.
    pub fn this_cpu(&mut self) -> Option<&mut Cpu> {
        self.cpus.get_mut(self.cpu)
    }
}

/// Into this CPU's backlog; dropped when that is longer than netdev_max_backlog.
pub fn enqueue_to_backlog(net: &mut Net, skb: Skb) {
    enqueue_to_backlog_of(net, net.cpu, skb);
}

/// The same of any CPU; another one is interrupted (IPI) when its backlog was not being looked at. Returns the tail behind
/// the packet.
pub fn enqueue_to_backlog_of(net: &mut Net, at: usize, skb: Skb) -> Option<u32> {
    let (here, max) = (net.cpu, net.sysctl.netdev_max_backlog as usize);
    let cpu = net.cpus.get_mut(at)?;
    if cpu.input_pkt_queue.len() <= max {
        cpu.input_pkt_queue.push_back(skb);
        cpu.input_queue_tail = cpu.input_queue_tail.wrapping_add(1);
        let tail = cpu.input_queue_tail;
        if !std::mem::replace(&mut cpu.backlog_scheduled, true) {
            cpu.napi_schedule(Napi::Backlog);
            if at != here {
                cpu.stat.received_rps += 1;
                if let Some(m) = &mut net.model {
                    m.hard_irq(at, net.env.now);
                }
            }
        }
        return Some(tail);
    }
    cpu.stat.dropped += 1;
    if let Some(d) = skb.dev.and_then(|d| net.devs.get_mut(d)) {
        d.stats.rx_dropped += 1;
    }
    net.kfree_skb(skb, DropReason::CpuBacklog, "enqueue_to_backlog");
    None
}

/// The qdisc of `dev` wants to run later (`__netif_schedule`).
pub fn netif_schedule(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    if std::mem::replace(&mut d.scheduled, true) {
        return;
    }
    let at = net.cpu;
    if let Some(cpu) = net.cpus.get_mut(at) {
        cpu.output_queue.push_back(dev);
        cpu.raise(Softirq::NetTx);
    }
}

/// One pass over what is pending, with due timers first. True when work is left for ksoftirqd: call again.
#[doc(alias = "__do_softirq")]
pub fn do_softirq(k: &mut Kernel) -> bool {
    k.drain_rises();
    if k.net.env.timers_due() {
        k.net.this_cpu().into_iter().for_each(|c| c.raise(Softirq::Timer));
    }
    let Some(cpu) = k.net.this_cpu() else { return false };
    if std::mem::take(&mut cpu.ksoftirqd) {
        cpu.ksoftirqd_runs += 1;
    }
    if cpu.is_pending() { serve(k) } else { false }
}

fn serve(k: &mut Kernel) -> bool {
    for _ in 0..MAX_SOFTIRQ_RESTART {
        let Some(cpu) = k.net.this_cpu() else { return false };
        let pending = std::mem::take(&mut cpu.pending);
        if pending == 0 {
            return false;
        }
        if pending != 1 << Softirq::NetRx as u16 {
            run_but_net_rx(k, pending);
        }
        run_one(k, pending, Softirq::NetRx, net_rx_action);
    }
    let Some(cpu) = k.net.this_cpu() else { return false };
    cpu.ksoftirqd = cpu.is_pending();
    cpu.ksoftirqd
}

/// Those that are served before NET_RX, and tasklets, which nothing that comes in the same round depends on.
pub(super) fn run_but_net_rx(k: &mut Kernel, pending: u16) {
    run_one(k, pending, Softirq::Timer, run_timers);
    run_one(k, pending, Softirq::NetTx, net_tx_action);
    run_one(k, pending, Softirq::Tasklet, tasklet_action);
}

fn tasklet_action(k: &mut Kernel) {
    let devs = k.net.this_cpu().map(|c| std::mem::take(&mut c.tasklets)).unwrap_or_default();
    devs.into_iter().for_each(|dev| ifb::give_back(k, dev));
}

#[inline]
fn run_one(k: &mut Kernel, pending: u16, which: Softirq, run: impl FnOnce(&mut Kernel)) {
    if pending & (1 << which as u16) == 0 {
        return;
    }
    if let Some(cpu) = k.net.this_cpu() {
        cpu.softirqs[which as usize] += 1;
    }
    run(k);
    k.drain_rises();
}

/// A poll: what it took, and whether it may have more.
#[inline]
pub(super) fn poll_one(k: &mut Kernel, napi: Napi) -> (u32, bool) {
    let quota = if napi == Napi::Backlog { k.net.sysctl.dev_weight } else { nic::NAPI_WEIGHT };
    let work = match napi {
        Napi::Backlog => process_backlog(k, quota),
        Napi::Nic(dev, queue) => nic::rx::poll(k, dev, queue, quota),
        Napi::Veth(dev) => veth_rx::poll(k, dev, quota),
    };
    (work, work >= quota)
}

/// `run_timer_softirq`: everything due, in order.
fn run_timers(k: &mut Kernel) {
    let now = k.net.env.jiffies();
    while let Some((at, key)) = k.net.env.timers.pop_due(now) {
        k.fire(key, at);
        k.drain_rises();
    }
    while let Some(key) = k.net.env.pop_hrtimer() {
        k.fire(key, Fired::NONE);
        k.drain_rises();
    }
}

fn net_tx_action(k: &mut Kernel) {
    let devs = k.net.this_cpu().map(|c| std::mem::take(&mut c.output_queue)).unwrap_or_default();
    for dev in devs {
        if let Some(d) = k.net.devs.get_mut(dev) {
            d.scheduled = false;
        }
        dev_tx::qdisc_run(&mut k.net, dev);
    }
}

/// Polls who is on the list until nobody has work, or the budget is used up: the rest is a squeeze and comes again.
fn net_rx_action(k: &mut Kernel) {
    let mut budget = i64::from(k.net.sysctl.netdev_budget);
    let out_of_time = k.net.sysctl.netdev_budget_usecs == 0;
    loop {
        let Some(cpu) = k.net.this_cpu() else { return };
        let Some(napi) = cpu.poll_list.pop_front() else {
            std::mem::swap(&mut cpu.poll_list, &mut cpu.repoll);
            if !cpu.poll_list.is_empty() {
                cpu.raise(Softirq::NetRx);
            }
            return;
        };
        let (work, again) = poll_one(k, napi);
        budget -= i64::from(work);
        let Some(cpu) = k.net.this_cpu() else { return };
        if again {
            // It may have more: to the tail, behind the others.
            cpu.repoll.push_back(napi);
        }
        if budget <= 0 || out_of_time {
            if !cpu.poll_list.is_empty() || !cpu.repoll.is_empty() {
                cpu.stat.time_squeeze += 1;
                cpu.poll_list.append(&mut cpu.repoll);
                cpu.raise(Softirq::NetRx);
            }
            return;
        }
    }
}

/// The backlog NAPI: what came in moves to the process queue in one go, then packet by packet up the stack.
fn process_backlog(k: &mut Kernel, quota: u32) -> u32 {
    let mut work = 0;
    loop {
        while work < quota {
            let Some(cpu) = k.net.this_cpu() else { return work };
            let Some(skb) = cpu.process_queue.pop_front() else { break };
            cpu.stat.processed += 1;
            cpu.input_queue_head = cpu.input_queue_head.wrapping_add(1);
            dev_rx::netif_receive_skb(k, skb);
            k.drain_rises();
            work += 1;
        }
        let Some(cpu) = k.net.this_cpu() else { return work };
        if work >= quota {
            return work;
        }
        if cpu.input_pkt_queue.is_empty() {
            cpu.backlog_scheduled = false;
            return work;
        }
        std::mem::swap(&mut cpu.input_pkt_queue, &mut cpu.process_queue);
    }
}
