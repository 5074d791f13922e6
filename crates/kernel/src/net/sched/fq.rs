//! fq: flows in turn, in three bands, each packet at the time that TCP or the socket's pacing rate gave it.
use super::fq_flow::{Flow, FlowKey, List};
use super::{Ctx, PRIO2BAND, Stats, Xmit, headers, pkt_len};
use crate::env::{Nanos, SEC};
use crate::ids::SockId;
use crate::net::core::skb::{Owner, Skb};
use crate::net::drop::DropReason;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const BANDS: usize = 3;
/// A flow without packets is forgotten after three seconds, some at a time (`FQ_GC_AGE`, `FQ_GC_MAX`).
const GC_AGE: Nanos = 3 * SEC;
const GC_MAX: usize = 8;
/// More in the fast path's queue and flows are told apart.
const FAST_MAX: usize = 8;

/// What was set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Packets of a band, and of a flow.
    pub limit: u32,
    pub flow_limit: u32,
    pub quantum: u32,
    pub initial_quantum: u32,
    pub refill_delay: Nanos,
    pub max_rate: u64,
    pub low_rate_threshold: u32,
    pub rate_enable: bool,
    pub buckets_log: u32,
    pub orphan_mask: u32,
    pub ce_threshold: Nanos,
    pub timer_slack: u32,
    pub horizon: Nanos,
    pub horizon_drop: bool,
    pub offload_horizon: Nanos,
    pub prio2band: [u8; 16],
}

impl Setting {
    pub(super) fn new(mtu: u32) -> Setting {
        Setting {
            limit: 10_000,
            flow_limit: 100,
            quantum: 2 * mtu,
            initial_quantum: 10 * mtu,
            refill_delay: SEC / 25,
            max_rate: u64::MAX,
            low_rate_threshold: 550_000 / 8,
            rate_enable: true,
            buckets_log: 10,
            orphan_mask: 1023,
            ce_threshold: u64::from(u32::MAX) * 1000,
            timer_slack: 10_000,
            horizon: 10 * SEC,
            horizon_drop: true,
            offload_horizon: 0,
            prio2band: PRIO2BAND,
        }
    }
}

/// `tc_fq_qd_stats`, what moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub gc_flows: u64,
    pub throttled: u64,
    pub flows_plimit: u64,
    pub pkts_too_long: u64,
    pub ce_mark: u64,
    pub horizon_drops: u64,
    pub horizon_caps: u64,
    pub fastpath_packets: u64,
    pub band_drops: [u64; BANDS],
    pub band_pkt_count: [u32; BANDS],
    pub unthrottle_latency: Nanos,
}

/// Flows of one band that have their turn.
#[derive(Clone, Debug)]
pub struct Band {
    new_flows: VecDeque<u32>,
    old_flows: VecDeque<u32>,
    credit: i64,
    pub quantum: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Fq {
    pub set: Setting,
    pub counts: Counts,
    flows: Vec<Flow>,
    free: Vec<u32>,
    by_key: BTreeMap<FlowKey, u32>,
    /// Where the next search for forgotten flows begins.
    gc_at: Option<FlowKey>,
    /// Flows that wait for their time.
    delayed: BTreeSet<(Nanos, u32)>,
    pub bands: [Band; BANDS],
    band_nr: usize,
    /// Packets that need not be told apart, because nothing else waits.
    internal: VecDeque<Skb>,
    inactive: u32,
}

impl Fq {
    pub(super) fn with(set: Setting) -> Fq {
        let band = |quantum| Band { new_flows: VecDeque::new(), old_flows: VecDeque::new(), credit: 0, quantum };
        Fq {
            set,
            counts: Counts::default(),
            flows: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            gc_at: None,
            delayed: BTreeSet::new(),
            bands: [band(589_824), band(196_608), band(65_536)],
            band_nr: 0,
            internal: VecDeque::new(),
            inactive: 0,
        }
    }

    /// Flows known, without packets, waiting for their time; when the next of them is due.
    pub(super) fn flow_counts(&self) -> (u32, u32, u32, Option<Nanos>) {
        let next = self.delayed.first().map(|d| d.0);
        (self.by_key.len() as u32, self.inactive, self.delayed.len() as u32, next)
    }

    #[doc(alias = "fq_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, mut skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let band = usize::from(self.set.prio2band[(skb.priority & 15) as usize]) % BANDS;
        if self.counts.band_pkt_count[band] >= self.set.limit {
            self.counts.band_drops[band] += 1;
            return drop(s, skb, DropReason::FqBandLimit, cx);
        }
        if !matches!(skb.owner, Owner::Tx(SockId::Tcp(_))) {
            // When a forwarded packet came in is no time to leave (`skb_clear_tstamp`).
            skb.tstamp = 0;
        }
        if skb.tstamp > cx.now.saturating_add(self.set.horizon) {
            if self.set.horizon_drop {
                self.counts.horizon_drops += 1;
                return drop(s, skb, DropReason::FqHorizonLimit, cx);
            }
            self.counts.horizon_caps += 1;
            skb.tstamp = cx.now + self.set.horizon;
        }
        if self.fast_path(s, &skb, cx) {
            self.counts.fastpath_packets += 1;
            s.hold(&skb);
            self.internal.push_back(skb);
            return Xmit::Success;
        }
        let idx = self.classify(&mut skb, cx);
        let Some(f) = self.flows.get_mut(idx as usize) else { return Xmit::Bypass };
        if f.queue.len() >= self.set.flow_limit as usize {
            self.counts.flows_plimit += 1;
            return drop(s, skb, DropReason::FqFlowLimit, cx);
        }
        if f.list == List::Detached {
            f.list = List::New;
            self.bands[band].new_flows.push_back(idx);
            if cx.now > f.age + self.set.refill_delay {
                f.credit = f.credit.max(i64::from(self.set.quantum));
            }
        }
        f.band = band;
        self.counts.band_pkt_count[band] += 1;
        if f.queue.is_empty() {
            self.inactive -= 1;
        }
        s.hold(&skb);
        f.add(skb, cx.now, band);
        Xmit::Success
    }

    /// Nothing that could be sent now waits, and this packet need not wait either.
    #[doc(alias = "fq_fastpath_check")]
    fn fast_path(&self, s: &Stats, skb: &Skb, cx: &Ctx<'_>) -> bool {
        if skb.tstamp > cx.now || skb.pacing_rate != 0 || self.set.max_rate != u64::MAX {
            return false;
        }
        if s.qlen == 0 {
            return true;
        }
        let flows = self.by_key.len();
        flows == self.inactive as usize + self.delayed.len()
            && self.internal.len() < FAST_MAX
            && self.delayed.first().is_none_or(|d| d.0 > cx.now + self.set.offload_horizon)
    }

    /// The packet's flow; a socket's own one, or one of `orphan_mask` + 1 by hash.
    #[doc(alias = "fq_classify")]
    fn classify(&mut self, skb: &mut Skb, cx: &mut Ctx<'_>) -> u32 {
        let key = match skb.owner {
            Owner::Tx(SockId::Tcp(id)) => FlowKey::Sock(id),
            _ => FlowKey::Hash(headers::flow_hash(skb) & self.set.orphan_mask),
        };
        if self.by_key.len() >= 2 << self.set.buckets_log && self.inactive as usize > self.by_key.len() / 2 {
            self.gc(cx.now);
        }
        if let Some(idx) = self.by_key.get(&key) {
            return *idx;
        }
        if let (FlowKey::Sock(id), true) = (key, self.set.rate_enable) {
            cx.pacing_by_fq(SockId::Tcp(id));
        }
        let flow = Flow::new(i64::from(self.set.initial_quantum), cx.now);
        let idx = match self.free.pop() {
            Some(idx) => idx,
            None => {
                self.flows.push(Flow::new(0, 0));
                self.flows.len() as u32 - 1
            }
        };
        if let Some(f) = self.flows.get_mut(idx as usize) {
            *f = flow;
        }
        self.by_key.insert(key, idx);
        self.inactive += 1;
        idx
    }

    #[doc(alias = "fq_gc")]
    fn gc(&mut self, now: Nanos) {
        let from = self.gc_at.take();
        let start = from.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let some: Vec<(FlowKey, u32)> =
            self.by_key.range((start, std::ops::Bound::Unbounded)).take(GC_MAX).map(|(k, v)| (*k, *v)).collect();
        self.gc_at = some.last().map(|(k, _)| *k);
        for (key, idx) in some {
            let Some(f) = self.flows.get(idx as usize) else { continue };
            if f.list == List::Detached && f.queue.is_empty() && now > f.age + GC_AGE {
                self.by_key.remove(&key);
                self.free.push(idx);
                self.inactive -= 1;
                self.counts.gc_flows += 1;
            }
        }
    }

    /// Flows whose time came have their turn again.
    #[doc(alias = "fq_check_throttled")]
    fn check_throttled(&mut self, now: Nanos) {
        while let Some(&(at, idx)) = self.delayed.first().filter(|d| d.0 <= now + self.set.offload_horizon) {
            // A moving average of how late that is.
            let lag = now.saturating_sub(at);
            self.counts.unthrottle_latency -= self.counts.unthrottle_latency >> 3;
            self.counts.unthrottle_latency += lag >> 3;
            self.delayed.remove(&(at, idx));
            if let Some(f) = self.flows.get_mut(idx as usize) {
                f.list = List::Old;
                self.bands[f.band].old_flows.push_back(idx);
            }
        }
    }

    #[doc(alias = "fq_dequeue")]
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        if s.qlen == 0 {
            return None;
        }
        let skb = match self.internal.pop_front() {
            Some(skb) => skb,
            None => self.next(cx)?,
        };
        let mut skb = skb;
        skb.tstamp = 0;
        s.release(&skb);
        s.sent(&skb);
        Some(skb)
    }

    /// The first flow with credit whose packet is due.
    fn next(&mut self, cx: &mut Ctx<'_>) -> Option<Skb> {
        self.check_throttled(cx.now);
        loop {
            let new = self.turn(cx)?;
            let band = &mut self.bands[self.band_nr];
            let list = if new { &mut band.new_flows } else { &mut band.old_flows };
            let idx = *list.front()?;
            let f = self.flows.get_mut(idx as usize)?;
            if f.credit <= 0 {
                f.credit += i64::from(self.set.quantum);
                list.pop_front();
                f.list = List::Old;
                self.bands[f.band].old_flows.push_back(idx);
                continue;
            }
            let Some(due) = f.due() else {
                list.pop_front();
                // A flow that was new goes behind the old ones once, so that these do not starve.
                if new {
                    f.list = List::Old;
                    self.bands[f.band].old_flows.push_back(idx);
                } else {
                    (f.list, f.age) = (List::Detached, cx.now);
                }
                continue;
            };
            if cx.now + self.set.offload_horizon < due {
                list.pop_front();
                (f.list, f.next_packet) = (List::Throttled, due);
                self.delayed.insert((due, idx));
                self.counts.throttled += 1;
                continue;
            }
            let (mut skb, band) = f.pop()?;
            self.counts.band_pkt_count[band] -= 1;
            if f.queue.is_empty() {
                self.inactive += 1;
            }
            if cx.now.saturating_sub(due) > self.set.ce_threshold {
                headers::set_ce(&mut skb);
                self.counts.ce_mark += 1;
            }
            self.pace(&mut skb, idx, cx.now);
            return Some(skb);
        }
    }

    /// The band whose turn it is (weighted round robin); true: its new flows come first. `None`: nothing is due.
    fn turn(&mut self, cx: &mut Ctx<'_>) -> Option<bool> {
        let mut tries = 0;
        loop {
            let b = &self.bands[self.band_nr];
            if !b.new_flows.is_empty() || !b.old_flows.is_empty() {
                return Some(!b.new_flows.is_empty());
            }
            loop {
                tries += 1;
                if tries > BANDS {
                    if let Some(&(at, _)) = self.delayed.first() {
                        cx.wake_at(at);
                    }
                    return None;
                }
                self.band_nr = (self.band_nr + 1) % BANDS;
                let b = &mut self.bands[self.band_nr];
                let quantum = i64::from(b.quantum);
                b.credit = (b.credit + quantum).min(quantum);
                if b.credit > 0 {
                    break;
                }
                tries = 0;
            }
        }
    }

    /// When the flow may send again. A packet with a departure time of its own moves that only if there is a rate for all.
    fn pace(&mut self, skb: &mut Skb, idx: u32, now: Nanos) {
        let mut len = pkt_len(skb);
        let Some(f) = self.flows.get_mut(idx as usize) else { return };
        f.credit -= i64::from(len);
        let band = &mut self.bands[self.band_nr];
        band.credit -= i64::from(len);
        if !self.set.rate_enable {
            return;
        }
        let mut rate = self.set.max_rate;
        if skb.tstamp == 0 {
            if skb.pacing_rate != 0 {
                rate = rate.min(skb.pacing_rate);
            }
            if rate <= self.set.low_rate_threshold.into() {
                f.credit = 0;
            } else {
                len = len.max(self.set.quantum);
                if f.credit > 0 {
                    return;
                }
            }
        }
        if rate == u64::MAX {
            return;
        }
        let mut wait = u64::from(len) * SEC / rate.max(1);
        if wait > SEC {
            wait = SEC;
            self.counts.pkts_too_long += 1;
        }
        if f.next_packet != 0 {
            wait -= (wait / 2).min(now.saturating_sub(f.next_packet));
        }
        f.next_packet = now + wait;
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.internal.drain(..));
        for f in &mut self.flows {
            out.extend(f.queue.drain(..).map(|(_, skb, _)| skb));
        }
        self.flows.clear();
        self.free.clear();
        self.by_key.clear();
        self.delayed.clear();
        self.inactive = 0;
        self.counts.band_pkt_count = [0; BANDS];
        for b in &mut self.bands {
            b.new_flows.clear();
            b.old_flows.clear();
        }
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.internal.iter().chain(self.flows.iter().flat_map(|f| f.queue.iter().map(|(_, skb, _)| skb)))
    }
}

fn drop(s: &mut Stats, skb: Skb, reason: DropReason, cx: &mut Ctx<'_>) -> Xmit {
    s.drops += 1;
    cx.drop(skb, reason, "fq_enqueue");
    Xmit::Drop
}
