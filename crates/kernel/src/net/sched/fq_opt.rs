//! fq's settings and statistics as netlink has them.
use super::fq::{BANDS, Fq, Setting};
use super::opts::Opts;
use super::{Ctx, Stats, pkt_len};
use crate::env::USEC;
use crate::net::drop::DropReason;
use crate::net::sched::api::{TcError, einval};
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;

/// Buckets are between 1 and 2^18.
const MAX_BUCKETS_LOG: u32 = 18;
const MIN_WEIGHT: i32 = 16_384;

impl Fq {
    pub(super) fn new(opts: Option<&[u8]>, cx: &mut Ctx<'_>) -> Result<Fq, TcError> {
        let mut q = Fq::with(Setting::new(cx.psched_mtu()));
        if let Some(o) = opts {
            q.change(o, &mut Stats::default(), cx)?;
        }
        Ok(q)
    }

    #[doc(alias = "fq_change")]
    pub(super) fn change(&mut self, opts: &[u8], s: &mut Stats, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let o = Opts::new(opts);
        let mut set = self.set.clone();
        if let Some(log) = o.u32(TCA_FQ_BUCKETS_LOG) {
            set.buckets_log = Some(log).filter(|l| (1..=MAX_BUCKETS_LOG).contains(l)).ok_or_else(einval)?;
        }
        set.limit = o.u32(TCA_FQ_PLIMIT).unwrap_or(set.limit);
        set.flow_limit = o.u32(TCA_FQ_FLOW_PLIMIT).unwrap_or(set.flow_limit);
        if let Some(q) = o.u32(TCA_FQ_QUANTUM) {
            let bad = || TcError::of(Errno::EINVAL, "sch_fq: invalid quantum");
            set.quantum = Some(q).filter(|q| *q > 0 && *q <= 1 << 20).ok_or_else(bad)?;
        }
        if let Some(q) = o.u32(TCA_FQ_INITIAL_QUANTUM) {
            set.initial_quantum = Some(q).filter(|q| *q <= i32::MAX as u32).ok_or_else(einval)?;
        }
        let rate = |v: u32| if v == u32::MAX { u64::MAX } else { u64::from(v) };
        set.max_rate = o.u32(TCA_FQ_FLOW_MAX_RATE).map_or(set.max_rate, rate);
        set.low_rate_threshold = o.u32(TCA_FQ_LOW_RATE_THRESHOLD).unwrap_or(set.low_rate_threshold);
        if let Some(v) = o.u32(TCA_FQ_RATE_ENABLE) {
            set.rate_enable = Some(v).filter(|v| *v <= 1).ok_or_else(einval)? == 1;
        }
        set.refill_delay = o.u32(TCA_FQ_FLOW_REFILL_DELAY).map_or(set.refill_delay, |v| u64::from(v) * USEC);
        self.bands_of(&o, &mut set)?;
        set.orphan_mask = o.u32(TCA_FQ_ORPHAN_MASK).unwrap_or(set.orphan_mask);
        set.ce_threshold = o.u32(TCA_FQ_CE_THRESHOLD).map_or(set.ce_threshold, |v| u64::from(v) * USEC);
        set.timer_slack = o.u32(TCA_FQ_TIMER_SLACK).unwrap_or(set.timer_slack);
        if let Some(h) = o.u32(TCA_FQ_HORIZON) {
            set.horizon = u64::from(h) * USEC;
        }
        if let Some(v) = o.u8(TCA_FQ_HORIZON_DROP) {
            set.horizon_drop = Some(v).filter(|v| *v <= 1).ok_or_else(einval)? == 1;
        }
        if let Some(h) = o.u32(TCA_FQ_OFFLOAD_HORIZON) {
            // No card here sends by itself at a given time.
            set.offload_horizon = Some(u64::from(h) * USEC).filter(|h| *h == 0).ok_or_else(einval)?;
        }
        self.set = set;
        // The limit is a band's; what is beyond it altogether goes, as in the kernel.
        while s.qlen > self.set.limit {
            let Some(skb) = self.dequeue(s, cx) else { break };
            s.packets -= skb.gso.map_or(1, |g| u64::from(g.segs)).min(s.packets);
            s.bytes -= u64::from(pkt_len(&skb)).min(s.bytes);
            cx.drop(skb, DropReason::QdiscDrop, "fq_change");
        }
        Ok(())
    }

    /// `tc_prio_qopt` and three weights.
    fn bands_of(&mut self, o: &Opts<'_>, set: &mut Setting) -> Result<(), TcError> {
        if let Some(map) = o.get(TCA_FQ_PRIOMAP) {
            if u32_at(map, 0) != Some(BANDS as u32) {
                return Err(TcError::of(Errno::EINVAL, "sch_fq: FQ only supports 3 bands"));
            }
            let map: [u8; 16] = *map.get(4..).and_then(|m| m.first_chunk()).ok_or_else(einval)?;
            if let Some(i) = map.iter().position(|b| usize::from(*b) >= BANDS) {
                let text = format!("sch_fq: Incorrect FQ priomap band {} {}", i, map[i]);
                return Err(TcError { errno: Errno::EINVAL, text: text.into() });
            }
            set.prio2band = map;
        }
        if let Some(w) = o.get(TCA_FQ_WEIGHTS) {
            let mut weights = [0u32; BANDS];
            for (i, to) in weights.iter_mut().enumerate() {
                let weight = u32_at(w, 4 * i).ok_or_else(einval)?;
                if (weight as i32) < MIN_WEIGHT {
                    let text = format!("sch_fq: Weight {} less that minimum allowed {MIN_WEIGHT}", weight as i32);
                    return Err(TcError { errno: Errno::EINVAL, text: text.into() });
                }
                *to = weight;
            }
            for (b, w) in self.bands.iter_mut().zip(weights) {
                b.quantum = w;
            }
        }
        Ok(())
    }

    #[doc(alias = "fq_dump")]
    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let s = &self.set;
        let us = |ns: u64| (ns / USEC).min(u32::MAX.into()) as u32;
        m.attr_u32(TCA_FQ_PLIMIT, s.limit).attr_u32(TCA_FQ_FLOW_PLIMIT, s.flow_limit);
        m.attr_u32(TCA_FQ_QUANTUM, s.quantum).attr_u32(TCA_FQ_INITIAL_QUANTUM, s.initial_quantum);
        m.attr_u32(TCA_FQ_RATE_ENABLE, s.rate_enable.into());
        m.attr_u32(TCA_FQ_FLOW_MAX_RATE, s.max_rate.min(u32::MAX.into()) as u32);
        m.attr_u32(TCA_FQ_FLOW_REFILL_DELAY, us(s.refill_delay)).attr_u32(TCA_FQ_ORPHAN_MASK, s.orphan_mask);
        m.attr_u32(TCA_FQ_LOW_RATE_THRESHOLD, s.low_rate_threshold).attr_u32(TCA_FQ_CE_THRESHOLD, us(s.ce_threshold));
        m.attr_u32(TCA_FQ_BUCKETS_LOG, s.buckets_log).attr_u32(TCA_FQ_TIMER_SLACK, s.timer_slack);
        m.attr_u32(TCA_FQ_HORIZON, us(s.horizon)).attr_u8(TCA_FQ_HORIZON_DROP, s.horizon_drop.into());
        m.attr_u32(TCA_FQ_OFFLOAD_HORIZON, us(s.offload_horizon));
        let mut map = (BANDS as u32).to_ne_bytes().to_vec();
        map.extend_from_slice(&s.prio2band);
        let weights: Vec<u8> = self.bands.iter().flat_map(|b| b.quantum.to_ne_bytes()).collect();
        m.attr(TCA_FQ_PRIOMAP, &map).attr(TCA_FQ_WEIGHTS, &weights);
    }

    /// `tc_fq_qd_stats`.
    #[doc(alias = "fq_dump_stats")]
    pub(super) fn xstats(&self, now: u64) -> Vec<u8> {
        let c = &self.counts;
        let (flows, inactive, throttled, next) = self.flow_counts();
        let next = next.map_or(u64::MAX as i64, |n| n as i64);
        let delayed = next.wrapping_sub(now as i64);
        let mut b = Vec::with_capacity(160);
        let mut long = |v: u64| b.extend_from_slice(&v.to_ne_bytes());
        [c.gc_flows, 0, 0, c.throttled, c.flows_plimit, c.pkts_too_long, 0].into_iter().for_each(&mut long);
        long(delayed as u64);
        let mut word = |v: u32| b.extend_from_slice(&v.to_ne_bytes());
        [flows, inactive, throttled].into_iter().for_each(&mut word);
        word(c.unthrottle_latency.min(u32::MAX.into()) as u32);
        let mut long = |v: u64| b.extend_from_slice(&v.to_ne_bytes());
        [c.ce_mark, c.horizon_drops, c.horizon_caps, c.fastpath_packets].into_iter().for_each(&mut long);
        c.band_drops.into_iter().for_each(&mut long);
        let mut word = |v: u32| b.extend_from_slice(&v.to_ne_bytes());
        c.band_pkt_count.into_iter().for_each(&mut word);
        word(0);
        b
    }
}
