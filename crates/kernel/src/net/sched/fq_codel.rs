//! fq_codel (RFC 8290): a queue with CoDel for each flow, served in turn, new flows first.
use super::codel::{self, Counts, DISABLED, Params, Vars};
use super::opts::Opts;
use super::{Ctx, Stats, Xmit, cls, headers, pkt_len};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::sched::api::{TcError, einval};
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;
use std::collections::VecDeque;

/// Flows that can be told apart at most.
const MAX_FLOWS: u32 = 65_536;

/// One flow's packets, each with the time at which it came.
#[derive(Clone, Debug, Default)]
struct Flow {
    queue: VecDeque<(Skb, u32)>,
    backlog: u64,
    deficit: i32,
    listed: bool,
    vars: Vars,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct FqCodel {
    flows: Vec<Flow>,
    new_flows: VecDeque<u32>,
    old_flows: VecDeque<u32>,
    pub limit: u32,
    quantum: u32,
    drop_batch: u32,
    memory_limit: u32,
    params: Params,
    counts: Counts,
    memory_usage: u32,
    drop_overlimit: u32,
    drop_overmemory: u32,
    new_flow_count: u32,
    pub filters: cls::Filters,
}

/// A flow and the disciplines' books, while CoDel looks at it.
struct Lent<'a, 'b> {
    flow: &'a mut Flow,
    stats: &'a mut Stats,
    memory: &'a mut u32,
    cx: &'a mut Ctx<'b>,
}

impl codel::Queue for Lent<'_, '_> {
    type Packet = Skb;

    fn pop(&mut self) -> Option<(Skb, u32)> {
        let (skb, came) = self.flow.queue.pop_front()?;
        self.flow.backlog = self.flow.backlog.saturating_sub(pkt_len(&skb).into());
        *self.memory = self.memory.saturating_sub(skb.truesize);
        self.stats.release(&skb);
        Some((skb, came))
    }

    fn backlog(&self) -> u64 {
        self.stats.backlog
    }

    fn len_of(p: &Skb) -> u32 {
        pkt_len(p)
    }

    fn set_ce(p: &mut Skb) -> bool {
        headers::set_ce(p)
    }

    fn selected(p: &Skb, params: &Params) -> bool {
        params.ce_mask == 0 || headers::dsfield(p).is_some_and(|ds| ds & params.ce_mask == params.ce_selector)
    }

    fn drop(&mut self, p: Skb) {
        self.stats.drops += 1;
        self.cx.drop(p, DropReason::QdiscCongested, "fq_codel_dequeue");
    }
}

impl FqCodel {
    pub(super) fn new(opts: Option<&[u8]>, cx: &Ctx<'_>) -> Result<FqCodel, TcError> {
        let mut q = FqCodel {
            flows: Vec::new(),
            new_flows: VecDeque::new(),
            old_flows: VecDeque::new(),
            limit: 10 * 1024,
            quantum: cx.psched_mtu(),
            drop_batch: 64,
            memory_limit: 32 << 20,
            params: Params {
                target: codel::from_us(5000),
                interval: codel::from_us(100_000),
                ce_threshold: DISABLED,
                mtu: cx.psched_mtu(),
                ecn: true,
                ce_selector: 0,
                ce_mask: 0,
            },
            counts: Counts { maxpacket: 256, ..Counts::default() },
            memory_usage: 0,
            drop_overlimit: 0,
            drop_overmemory: 0,
            new_flow_count: 0,
            filters: cls::Filters::default(),
        };
        if let Some(o) = opts {
            q.change(o, None)?;
        }
        if q.flows.is_empty() {
            q.flows = vec![Flow::default(); 1024];
        }
        Ok(q)
    }

    /// With statistics it is a change of a living one: packets over the new limit go.
    #[doc(alias = "fq_codel_change")]
    pub(super) fn change(&mut self, opts: &[u8], live: Option<(&mut Stats, &mut Ctx<'_>)>) -> Result<(), TcError> {
        let o = Opts::new(opts);
        if let Some(n) = o.u32(TCA_FQ_CODEL_FLOWS) {
            if !self.flows.is_empty() || n == 0 || n > MAX_FLOWS {
                return Err(einval());
            }
            self.flows = vec![Flow::default(); n as usize];
        }
        let quantum = o.u32(TCA_FQ_CODEL_QUANTUM).map(|q| q.max(256));
        if quantum.is_some_and(|q| q > 1 << 20) {
            return Err(TcError::of(belljar_abi::Errno::EINVAL, "Invalid quantum"));
        }
        let p = &mut self.params;
        p.target = o.u32(TCA_FQ_CODEL_TARGET).map_or(p.target, codel::from_us);
        p.ce_threshold = o.u32(TCA_FQ_CODEL_CE_THRESHOLD).map_or(p.ce_threshold, codel::from_us);
        p.ce_selector = o.u8(TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR).unwrap_or(p.ce_selector);
        p.ce_mask = o.u8(TCA_FQ_CODEL_CE_THRESHOLD_MASK).unwrap_or(p.ce_mask);
        p.interval = o.u32(TCA_FQ_CODEL_INTERVAL).map_or(p.interval, codel::from_us);
        p.ecn = o.u32(TCA_FQ_CODEL_ECN).map_or(p.ecn, |v| v != 0);
        self.limit = o.u32(TCA_FQ_CODEL_LIMIT).unwrap_or(self.limit);
        self.quantum = quantum.unwrap_or(self.quantum);
        self.drop_batch = o.u32(TCA_FQ_CODEL_DROP_BATCH_SIZE).map_or(self.drop_batch, |v| v.max(1));
        self.memory_limit = o.u32(TCA_FQ_CODEL_MEMORY_LIMIT).map_or(self.memory_limit, |v| v.min(1 << 31));
        if let Some((s, cx)) = live {
            while s.qlen > self.limit || self.memory_usage > self.memory_limit {
                let Some(skb) = self.dequeue(s, cx) else { break };
                // It was not sent after all.
                s.packets -= skb.gso.map_or(1, |g| u64::from(g.segs)).min(s.packets);
                s.bytes -= u64::from(pkt_len(&skb)).min(s.bytes);
                cx.drop(skb, DropReason::QdiscDrop, "fq_codel_change");
            }
        }
        Ok(())
    }

    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let p = &self.params;
        m.attr_u32(TCA_FQ_CODEL_TARGET, codel::to_us(p.target));
        m.attr_u32(TCA_FQ_CODEL_LIMIT, self.limit);
        m.attr_u32(TCA_FQ_CODEL_INTERVAL, codel::to_us(p.interval));
        m.attr_u32(TCA_FQ_CODEL_ECN, p.ecn.into());
        m.attr_u32(TCA_FQ_CODEL_QUANTUM, self.quantum);
        m.attr_u32(TCA_FQ_CODEL_FLOWS, self.flows.len() as u32);
        m.attr_u32(TCA_FQ_CODEL_DROP_BATCH_SIZE, self.drop_batch);
        m.attr_u32(TCA_FQ_CODEL_MEMORY_LIMIT, self.memory_limit);
        if p.ce_threshold != DISABLED {
            m.attr_u32(TCA_FQ_CODEL_CE_THRESHOLD, codel::to_us(p.ce_threshold));
            m.attr_u8(TCA_FQ_CODEL_CE_THRESHOLD_SELECTOR, p.ce_selector);
            m.attr_u8(TCA_FQ_CODEL_CE_THRESHOLD_MASK, p.ce_mask);
        }
    }

    /// `tc_fq_codel_xstats` of the discipline.
    pub(super) fn xstats(&self) -> Vec<u8> {
        let words = [
            0,
            self.counts.maxpacket,
            self.drop_overlimit,
            self.counts.ecn_mark,
            self.new_flow_count,
            self.new_flows.len() as u32,
            self.old_flows.len() as u32,
            self.counts.ce_mark,
            self.memory_usage,
            self.drop_overmemory,
        ];
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// Flows that wait or have a turn, as classes: number from 0, `tc_fq_codel_xstats`, books.
    #[doc(alias = "fq_codel_dump_class_stats")]
    pub(super) fn classes(&self) -> Vec<(u32, Vec<u8>, Stats)> {
        let listed = self.flows.iter().enumerate().filter(|(_, f)| f.listed);
        listed
            .map(|(i, f)| {
                let mut words = vec![1, f.deficit as u32];
                words.extend([codel::to_us(f.vars.ldelay), f.vars.count, f.vars.lastcount]);
                words.extend([u32::from(f.vars.dropping), 0]);
                let b = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
                let s = Stats { qlen: f.queue.len() as u32, backlog: f.backlog, ..Stats::default() };
                (i as u32, b, s)
            })
            .collect()
    }

    /// The packet's flow, from 1; 0 is none. `Err`: it is stolen.
    #[doc(alias = "fq_codel_classify")]
    fn classify(&mut self, handle: u32, skb: &Skb, cx: &mut Ctx<'_>) -> Result<u32, ()> {
        let n = self.flows.len() as u32;
        if skb.priority & TC_H_MAJ_MASK == handle {
            let minor = skb.priority & TC_H_MIN_MASK;
            if minor > 0 && minor <= n {
                return Ok(minor);
            }
        }
        if self.filters.is_empty() {
            return Ok(((u64::from(headers::flow_hash(skb)) * u64::from(n)) >> 32) as u32 + 1);
        }
        match self.filters.classify(skb, cx) {
            cls::Verdict::Class(id) if (1..=n).contains(&(id & TC_H_MIN_MASK)) => Ok(id & TC_H_MIN_MASK),
            cls::Verdict::Stolen => Err(()),
            _ => Ok(0),
        }
    }

    #[doc(alias = "fq_codel_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, handle: u32, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let Ok(class) = self.classify(handle, &skb, cx) else { return cx.steal(skb, "fq_codel_enqueue") };
        let Some(idx) = class.checked_sub(1) else {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, "fq_codel_enqueue");
            return Xmit::Bypass;
        };
        let Some(flow) = self.flows.get_mut(idx as usize) else { return Xmit::Bypass };
        s.hold(&skb);
        flow.backlog += u64::from(pkt_len(&skb));
        self.memory_usage = self.memory_usage.saturating_add(skb.truesize);
        flow.queue.push_back((skb, codel::time(cx.now)));
        if !std::mem::replace(&mut flow.listed, true) {
            flow.deficit = self.quantum as i32;
            self.new_flow_count += 1;
            self.new_flows.push_back(idx);
        }
        let over_memory = self.memory_usage > self.memory_limit;
        if s.qlen <= self.limit && !over_memory {
            return Xmit::Success;
        }
        let before = s.qlen;
        let hit = self.drop_fattest(s, cx);
        let dropped = before - s.qlen;
        self.drop_overlimit += dropped;
        if over_memory {
            self.drop_overmemory += dropped;
        }
        if hit == idx { Xmit::Cn } else { Xmit::Success }
    }

    /// The flow with most bytes loses half of them, at most a batch (RFC 8290 §4.1).
    #[doc(alias = "fq_codel_drop")]
    fn drop_fattest(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> u32 {
        let mut idx = 0;
        let mut most = 0;
        for (i, f) in self.flows.iter().enumerate() {
            if f.backlog > most {
                (idx, most) = (i, f.backlog);
            }
        }
        let Some(flow) = self.flows.get_mut(idx) else { return 0 };
        let (mut len, mut n) = (0, 0);
        while let Some((skb, _)) = flow.queue.pop_front() {
            let bytes = u64::from(pkt_len(&skb));
            len += bytes;
            flow.backlog = flow.backlog.saturating_sub(bytes);
            self.memory_usage = self.memory_usage.saturating_sub(skb.truesize);
            s.release(&skb);
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscOverlimit, "fq_codel_enqueue");
            n += 1;
            if n >= self.drop_batch || len >= most >> 1 {
                break;
            }
        }
        // CoDel shall be quicker with it from now on.
        flow.vars.count = flow.vars.count.wrapping_add(n);
        idx as u32
    }

    #[doc(alias = "fq_codel_dequeue")]
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        loop {
            let new = !self.new_flows.is_empty();
            let list = if new { &mut self.new_flows } else { &mut self.old_flows };
            let idx = *list.front()?;
            let flow = self.flows.get_mut(idx as usize)?;
            if flow.deficit <= 0 {
                flow.deficit = flow.deficit.saturating_add(self.quantum as i32);
                list.pop_front();
                self.old_flows.push_back(idx);
                continue;
            }
            let mut vars = flow.vars;
            let mut lent = Lent { flow, stats: s, memory: &mut self.memory_usage, cx };
            let now = lent.cx.now;
            let skb = vars.dequeue(&mut lent, &self.params, &mut self.counts, now);
            flow.vars = vars;
            let Some(skb) = skb else {
                list.pop_front();
                // A flow that was new gets no second turn before the old ones (RFC 8290 §4.2).
                if new && !self.old_flows.is_empty() {
                    self.old_flows.push_back(idx);
                } else {
                    flow.listed = false;
                }
                continue;
            };
            s.sent(&skb);
            flow.deficit = flow.deficit.saturating_sub(pkt_len(&skb) as i32);
            return Some(skb);
        }
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        for f in &mut self.flows {
            out.extend(f.queue.drain(..).map(|(skb, _)| skb));
            *f = Flow::default();
        }
        self.new_flows.clear();
        self.old_flows.clear();
        self.memory_usage = 0;
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.flows.iter().flat_map(|f| f.queue.iter().map(|(skb, _)| skb))
    }
}
