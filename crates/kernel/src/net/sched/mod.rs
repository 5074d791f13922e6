//! Queueing disciplines: what a device's packets wait in before they are sent.
//!
//! [`Sched`] is a device's: the root of a tree of [`Qdisc`]s, packets that the driver gave back, the watchdog. A discipline
//! that sends later says when in [`Ctx::wake`]; a packet that it drops goes to [`Ctx::drops`] and dies, named, when the tree
//! is no longer borrowed. Disciplines that hold others count what is below them as well: `Stats::follow`.
pub mod act;
mod act_api;
mod act_dump;
pub mod api;
pub mod cls;
mod cls_api;
mod codel;
mod ctx;
mod dump;
mod fifo;
mod fq;
mod fq_codel;
mod fq_flow;
mod fq_opt;
pub(crate) mod headers;
mod hook;
mod htb;
mod htb_class;
pub mod mirred;
mod mq;
mod netem;
mod netem_dist;
mod netem_opt;
mod notify;
mod opts;
mod police;
mod prio;
mod rate;
mod tbf;
pub mod words;

pub use api::TcError;

use crate::env::Nanos;
use crate::ids::DevId;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::drop::DropReason;
use act::Acts;
use belljar_abi::pkt_sched::{TC_H_MAJ_MASK, TC_H_ROOT};
use ctx::clone_of;
pub use ctx::{Ctx, Dropped};
use std::collections::VecDeque;

/// Which band a priority goes to; band 0 is served first.
pub const PRIO2BAND: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// Disciplines below each other at most (`check_loop`).
pub const MAX_DEPTH: u32 = 7;

/// `tc -s qdisc` counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub bytes: u64,
    pub packets: u64,
    pub drops: u64,
    pub overlimits: u64,
    pub requeues: u64,
    pub backlog: u64,
    pub qlen: u32,
}

impl Stats {
    /// A packet leaves on its way to the driver (`qdisc_bstats_update`).
    pub fn sent(&mut self, skb: &SkBuff) {
        self.sent_of(skb, pkt_len(skb));
    }

    /// The same of one that is this long (`bstats_update`).
    fn sent_of(&mut self, skb: &SkBuff, len: u32) {
        self.packets += skb.gso.map_or(1, |g| u64::from(g.segs));
        self.bytes += u64::from(len);
    }

    fn hold(&mut self, skb: &SkBuff) {
        self.qlen += 1;
        self.backlog += u64::from(pkt_len(skb));
    }

    fn release(&mut self, skb: &SkBuff) {
        self.qlen = self.qlen.saturating_sub(1);
        self.backlog = self.backlog.saturating_sub(u64::from(pkt_len(skb)));
    }

    /// What is below went from `was` to `is`: so did the whole, and what was dropped there was dropped here
    /// (`qdisc_tree_reduce_backlog`).
    fn follow(&mut self, was: Stats, is: Stats) {
        self.drops += is.drops.saturating_sub(was.drops);
        self.qlen = (self.qlen + is.qlen).saturating_sub(was.qlen);
        self.backlog = (self.backlog + is.backlog).saturating_sub(was.backlog);
    }
}

/// Bytes as a wire sees them: each segment of a super-segment has headers of its own.
#[doc(alias = "qdisc_pkt_len_segs_init")]
pub fn pkt_len(skb: &SkBuff) -> u32 {
    let len = skb.len() as u32;
    let Some(g) = skb.gso else { return len };
    len + u32::from(g.segs).saturating_sub(1) * skb.gso_headers(g)
}

/// How a packet fared (`NET_XMIT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xmit {
    Success,
    Drop,
    /// It is in, but something of its flow was dropped: the sender should slow down.
    Cn,
    /// Gone and counted, and the sender is not told (`__NET_XMIT_BYPASS`).
    Bypass,
}

/// A discipline with its place in the tree.
#[derive(Clone, Debug)]
pub struct Qdisc {
    pub handle: u32,
    pub parent: u32,
    pub stats: Stats,
    /// The next packet, when somebody looked at it first (`qdisc_peek_dequeued`).
    peeked: Option<Skb>,
    pub kind: Kind,
}

/// The kinds; what they hold is boxed, so that a device without is small.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The device was never up: nothing goes.
    Noop,
    /// Straight to the driver (lo and other devices without a queue).
    Noqueue,
    PfifoFast(Box<fifo::PfifoFast>),
    Fifo(Box<fifo::Fifo>),
    Tbf(Box<tbf::Tbf>),
    Netem(Box<netem::Netem>),
    Fq(Box<fq::Fq>),
    FqCodel(Box<fq_codel::FqCodel>),
    Prio(Box<prio::Prio>),
    Htb(Box<htb::Htb>),
    Mq(Box<mq::Mq>),
}

impl Qdisc {
    fn of(kind: Kind, handle: u32, parent: u32) -> Qdisc {
        Qdisc { handle, parent, stats: Stats::default(), peeked: None, kind }
    }

    /// What lo has.
    pub fn noqueue() -> Qdisc {
        Qdisc::of(Kind::Noqueue, 0, TC_H_ROOT)
    }

    pub fn noop() -> Qdisc {
        Qdisc::of(Kind::Noop, 0, TC_H_ROOT)
    }

    pub fn pfifo_fast() -> Qdisc {
        Qdisc::of(Kind::PfifoFast(Box::default()), 0, TC_H_ROOT)
    }

    /// A class's or a shaper's own queue until it is given another.
    fn pfifo(parent: u32, limit: u32) -> Qdisc {
        Qdisc::of(Kind::Fifo(Box::new(fifo::Fifo::new(false, limit))), 0, parent)
    }

    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Noop => "noop",
            Kind::Noqueue => "noqueue",
            Kind::PfifoFast(_) => "pfifo_fast",
            Kind::Fifo(f) => f.name(),
            Kind::Tbf(_) => "tbf",
            Kind::Netem(_) => "netem",
            Kind::Fq(_) => "fq",
            Kind::FqCodel(_) => "fq_codel",
            Kind::Prio(_) => "prio",
            Kind::Htb(_) => "htb",
            Kind::Mq(_) => "mq",
        }
    }

    /// TCQ_F_CAN_BYPASS: what comes while it is empty goes straight to the driver.
    fn can_bypass(&self, cx: (u32, u32)) -> bool {
        match &self.kind {
            Kind::PfifoFast(_) => cx.1 > 0,
            Kind::Fifo(f) => f.can_bypass(cx.0),
            Kind::FqCodel(f) => f.limit >= 1,
            Kind::Mq(q) => q.can_bypass(cx),
            _ => false,
        }
    }

    /// The packet is queued, or dropped (`qdisc_enqueue`).
    pub fn enqueue(&mut self, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let s = &mut self.stats;
        match &mut self.kind {
            Kind::PfifoFast(q) => q.enqueue(s, skb, cx),
            Kind::Fifo(q) => q.enqueue(s, skb, cx),
            Kind::Tbf(q) => q.enqueue(s, skb, cx),
            Kind::Netem(q) => q.enqueue(s, skb, cx),
            Kind::Fq(q) => q.enqueue(s, skb, cx),
            Kind::FqCodel(q) => q.enqueue(s, self.handle, skb, cx),
            Kind::Prio(q) => q.enqueue(s, self.handle, skb, cx),
            Kind::Htb(q) => q.enqueue(s, self.handle, skb, cx),
            Kind::Mq(q) => q.enqueue(s, skb, cx),
            Kind::Noop | Kind::Noqueue => {
                s.drops += 1;
                cx.drop(skb, DropReason::QdiscDrop, "noop_enqueue");
                Xmit::Drop
            }
        }
    }

    /// What may be sent now (`qdisc_dequeue_peeked`).
    pub fn dequeue(&mut self, cx: &mut Ctx<'_>) -> Option<Skb> {
        if let Some(skb) = self.peeked.take() {
            self.stats.release(&skb);
            return Some(skb);
        }
        let s = &mut self.stats;
        match &mut self.kind {
            Kind::PfifoFast(q) => q.dequeue(s),
            Kind::Fifo(q) => q.dequeue(s),
            Kind::Tbf(q) => q.dequeue(s, cx),
            Kind::Netem(q) => q.dequeue(s, cx),
            Kind::Fq(q) => q.dequeue(s, cx),
            Kind::FqCodel(q) => q.dequeue(s, cx),
            Kind::Prio(q) => q.dequeue(s, cx),
            Kind::Htb(q) => q.dequeue(s, cx),
            Kind::Mq(q) => q.dequeue(s, cx),
            Kind::Noop | Kind::Noqueue => None,
        }
    }

    /// Length of the packet that would be next.
    fn peek(&mut self, cx: &mut Ctx<'_>) -> Option<u32> {
        if let Kind::Fifo(f) = &self.kind {
            return f.front().map(pkt_len);
        }
        if self.peeked.is_none() {
            let skb = self.dequeue(cx)?;
            self.stats.hold(&skb);
            self.peeked = Some(skb);
        }
        self.peeked.as_deref().map(pkt_len)
    }

    /// Everything that waits, taken out; what it was set to stays.
    pub fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.peeked.take());
        match &mut self.kind {
            Kind::Noop | Kind::Noqueue => {}
            Kind::PfifoFast(q) => q.reset(out),
            Kind::Fifo(q) => q.reset(out),
            Kind::Tbf(q) => q.reset(out),
            Kind::Netem(q) => q.reset(out),
            Kind::Fq(q) => q.reset(out),
            Kind::FqCodel(q) => q.reset(out),
            Kind::Prio(q) => q.reset(out),
            Kind::Htb(q) => q.reset(out),
            Kind::Mq(q) => q.reset(out),
        }
        (self.stats.qlen, self.stats.backlog) = (0, 0);
    }

    /// Packets held, for `check()`.
    fn visit<'a>(&'a self, out: &mut Vec<&'a Skb>) {
        out.extend(&self.peeked);
        match &self.kind {
            Kind::Noop | Kind::Noqueue => {}
            Kind::PfifoFast(q) => out.extend(q.skbs()),
            Kind::Fifo(q) => out.extend(q.skbs()),
            Kind::Netem(q) => out.extend(q.skbs()),
            Kind::Fq(q) => out.extend(q.skbs()),
            Kind::FqCodel(q) => out.extend(q.skbs()),
            Kind::Htb(q) => out.extend(q.skbs()),
            Kind::Tbf(_) | Kind::Prio(_) | Kind::Mq(_) => {}
        }
        self.children().for_each(|c| c.visit(out));
    }

    /// Disciplines directly below.
    pub fn children(&self) -> Box<dyn Iterator<Item = &Qdisc> + '_> {
        match &self.kind {
            Kind::Tbf(q) => Box::new(std::iter::once(&q.inner)),
            Kind::Netem(q) => Box::new(q.inner.iter()),
            Kind::Prio(q) => Box::new(q.bands.iter()),
            Kind::Htb(q) => Box::new(q.leaves()),
            Kind::Mq(q) => Box::new(q.queues.iter()),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn children_mut(&mut self) -> Box<dyn Iterator<Item = &mut Qdisc> + '_> {
        match &mut self.kind {
            Kind::Tbf(q) => Box::new(std::iter::once(&mut q.inner)),
            Kind::Netem(q) => Box::new(q.inner.iter_mut()),
            Kind::Prio(q) => Box::new(q.bands.iter_mut()),
            Kind::Htb(q) => Box::new(q.leaves_mut()),
            Kind::Mq(q) => Box::new(q.queues.iter_mut()),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The discipline with this handle, here or below.
    pub fn find(&self, handle: u32) -> Option<&Qdisc> {
        if self.handle == handle && handle != 0 {
            return Some(self);
        }
        self.children().find_map(|c| c.find(handle))
    }

    fn find_mut(&mut self, handle: u32) -> Option<&mut Qdisc> {
        if self.handle == handle && handle != 0 {
            return Some(self);
        }
        self.children_mut().find_map(|c| c.find_mut(handle))
    }

    fn each_filters(&self, f: &mut impl FnMut(&cls::Filters)) {
        match &self.kind {
            Kind::Htb(h) => std::iter::once(&h.filters).chain(h.classes.values().map(|c| &c.filters)).for_each(&mut *f),
            Kind::Prio(p) => f(&p.filters),
            Kind::FqCodel(q) => f(&q.filters),
            _ => {}
        }
        self.children().for_each(|c| c.each_filters(f));
    }

    fn any(&self, f: &impl Fn(&Qdisc) -> bool) -> bool {
        f(self) || self.children().any(|c| c.any(f))
    }
}

/// What a device's packets wait in.
#[derive(Clone, Debug)]
pub struct Sched {
    pub root: Qdisc,
    /// Taken out of the tree when the driver had no room for them (`gso_skb`).
    gso_skb: VecDeque<Skb>,
    /// When the watchdog rings; 0 when it is off.
    wake_at: Nanos,
    /// `ingress` or `clsact`: a place for filters, no queue.
    pub ingress: Option<Box<cls::Ingress>>,
}

impl Sched {
    pub fn new(root: Qdisc) -> Sched {
        Sched { root, gso_skb: VecDeque::new(), wake_at: 0, ingress: None }
    }

    pub fn name(&self) -> &'static str {
        self.root.name()
    }

    pub fn len(&self) -> usize {
        self.root.stats.qlen as usize
    }

    pub fn is_empty(&self) -> bool {
        self.root.stats.qlen == 0
    }

    pub fn stats(&self) -> Stats {
        self.root.stats
    }

    pub fn is_noqueue(&self) -> bool {
        matches!(self.root.kind, Kind::Noqueue)
    }

    /// Nothing waits and nothing is set: the packet may go past the queue, and is counted.
    #[inline]
    pub fn bypass(&mut self, skb: &SkBuff, mtu: u32, tx_queue_len: u32) -> bool {
        let past = self.is_empty() && self.root.can_bypass((mtu, tx_queue_len));
        if past {
            self.root.stats.sent(skb);
            if let Kind::Mq(q) = &mut self.root.kind {
                q.bypassed(skb);
            }
        }
        past
    }

    /// Into the tree, copies that are made on the way included.
    pub fn enqueue(&mut self, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let sent = self.root.enqueue(skb, cx);
        cx.copying = true;
        while let Some(copy) = cx.copies.pop() {
            self.root.enqueue(copy, cx);
        }
        sent
    }

    pub fn dequeue(&mut self, cx: &mut Ctx<'_>) -> Option<Skb> {
        match self.gso_skb.pop_front() {
            Some(skb) => {
                self.root.stats.release(&skb);
                Some(skb)
            }
            None => self.root.dequeue(cx),
        }
    }

    /// The next packet that a transmit queue has room for. One that has to wait for its ring keeps those behind it waiting,
    /// unless each queue has a discipline of its own (mq).
    pub fn dequeue_for(&mut self, xoff: u32, cx: &mut Ctx<'_>) -> Option<Skb> {
        let blocked = |skb: &Skb| xoff & 1 << (skb.queue_mapping & 31) != 0;
        if xoff != 0 && self.gso_skb.front().is_some_and(blocked) {
            return None;
        }
        cx.xoff = xoff;
        let skb = self.dequeue(cx)?;
        if xoff != 0 && blocked(&skb) {
            self.requeue(skb);
            return None;
        }
        Some(skb)
    }

    /// The driver's ring is full: back to the head of the queue (`dev_requeue_skb`).
    pub fn requeue(&mut self, skb: Skb) {
        self.root.stats.requeues += 1;
        self.root.stats.hold(&skb);
        self.gso_skb.push_back(skb);
    }

    pub fn reset(&mut self) -> Vec<Skb> {
        let mut out: Vec<Skb> = self.gso_skb.drain(..).collect();
        self.root.reset(&mut out);
        out
    }

    /// What waits for transmit queues from number `n` on, taken out.
    pub fn reset_beyond(&mut self, n: usize) -> Vec<Skb> {
        let mut out = Vec::new();
        let waiting = std::mem::take(&mut self.gso_skb);
        for skb in waiting {
            if usize::from(skb.queue_mapping) >= n {
                self.root.stats.release(&skb);
                out.push(skb);
            } else {
                self.gso_skb.push_back(skb);
            }
        }
        if let Kind::Mq(m) = &mut self.root.kind {
            m.reset_beyond(n, &mut self.root.stats, &mut out);
        }
        out
    }

    pub(crate) fn skbs(&self) -> Vec<&Skb> {
        let mut out: Vec<&Skb> = self.gso_skb.iter().collect();
        self.root.visit(&mut out);
        out
    }

    /// The watchdog rings at the earliest time that was asked for. What is to be armed.
    pub fn watchdog(&mut self, wake: Nanos) -> Option<(Nanos, Nanos)> {
        if wake == Nanos::MAX || self.wake_at != 0 && self.wake_at <= wake {
            return None;
        }
        Some((std::mem::replace(&mut self.wake_at, wake), wake))
    }

    /// It rang; true when it was not an old one.
    pub fn rang(&mut self, now: Nanos) -> bool {
        let due = self.wake_at != 0 && self.wake_at <= now;
        if due {
            self.wake_at = 0;
        }
        due
    }

    /// Every rule of every filter.
    pub(super) fn each_rule(&self, f: &mut impl FnMut(&cls::Rule)) {
        self.root.each_filters(&mut |filters: &cls::Filters| filters.rules().for_each(&mut *f));
        self.ingress.iter().flat_map(|i| i.rules()).for_each(f);
    }

    /// The discipline with this major number.
    pub fn find(&self, handle: u32) -> Option<&Qdisc> {
        self.root.find(handle & TC_H_MAJ_MASK)
    }
}

/// State of the whole machine's traffic control.
#[derive(Clone, Debug)]
pub struct Global {
    /// The last handle that was given without being asked for.
    pub autohandle: u32,
    /// The last packet into a queue made it drop another of its flow (NET_XMIT_CN); who cares takes it.
    pub congested: bool,
    pub acts: Acts,
}

impl Default for Global {
    fn default() -> Global {
        Global { autohandle: 0x8000_0000, congested: false, acts: Acts::default() }
    }
}

/// Watchdog's key.
pub fn timer(dev: DevId) -> crate::env::TimerKey {
    crate::env::TimerKey::Qdisc(dev)
}

#[cfg(test)]
mod tests;
