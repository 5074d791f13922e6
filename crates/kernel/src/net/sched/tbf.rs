//! tbf: a token bucket, and optionally a second one for the peak rate.
use super::opts::Opts;
use super::rate::{RateCfg, ns_to_ticks, ticks_to_ns};
use super::{Ctx, Kind, Qdisc, Stats, Xmit, fifo, pkt_len};
use crate::env::Nanos;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::drop::DropReason;
use crate::net::sched::api::{TcError, einval};
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;

/// Its settings, and how full the buckets are in nanoseconds of sending.
#[derive(Clone, Debug)]
pub struct Tbf {
    limit: u32,
    max_size: u32,
    buffer: i64,
    mtu: i64,
    rate: RateCfg,
    peak: Option<RateCfg>,
    tokens: i64,
    ptokens: i64,
    t_c: Nanos,
    pub inner: Qdisc,
}

impl Tbf {
    pub(super) fn new(handle: u32, opts: Option<&[u8]>, cx: &Ctx<'_>) -> Result<Tbf, TcError> {
        let mut t = Tbf {
            limit: 0,
            max_size: 0,
            buffer: 0,
            mtu: 0,
            rate: RateCfg::default(),
            peak: None,
            tokens: 0,
            ptokens: 0,
            t_c: cx.now,
            inner: Qdisc::of(Kind::Fifo(Box::new(fifo::Fifo::new(true, 0))), 0, handle | 1),
        };
        t.change(opts, cx)?;
        Ok(t)
    }

    #[doc(alias = "tbf_change")]
    pub(super) fn change(&mut self, opts: Option<&[u8]>, cx: &Ctx<'_>) -> Result<(), TcError> {
        let opts = Opts::new(opts.ok_or_else(einval)?);
        let parms = opts.get(TCA_TBF_PARMS).filter(|p| p.len() >= 36).ok_or_else(einval)?;
        let (rate, peak) = RateSpec::parse(parms).zip(RateSpec::parse(&parms[12..])).ok_or_else(einval)?;
        let word = |at| u32_at(parms, at).unwrap_or(0);
        let (limit, buffer, mtu) = (word(24), word(28), word(32));
        let rate = RateCfg::new(&rate, opts.u64(TCA_TBF_RATE64).unwrap_or(0));
        let (mut buffer, mut mtu) = (ticks_to_ns(buffer), ticks_to_ns(mtu));
        let mut max_size = match opts.u32(TCA_TBF_BURST) {
            Some(burst) => {
                buffer = rate.l2t_ns(burst) as u64;
                burst.into()
            }
            None => rate.t2l(buffer),
        };
        let peak = (peak.rate != 0).then(|| RateCfg::new(&peak, opts.u64(TCA_TBF_PRATE64).unwrap_or(0)));
        if let Some(p) = &peak {
            if p.rate <= rate.rate {
                // The kernel writes a warning to its log only.
                return Err(einval());
            }
            max_size = max_size.min(match opts.u32(TCA_TBF_PBURST) {
                Some(burst) => {
                    mtu = p.l2t_ns(burst) as u64;
                    burst.into()
                }
                None => p.t2l(mtu),
            });
        }
        if max_size == 0 {
            return Err(einval());
        }
        if let Kind::Fifo(f) = &mut self.inner.kind
            && f.name() == "bfifo"
        {
            f.limit = limit;
        }
        self.limit = limit;
        self.max_size = max_size.min(u32::MAX.into()) as u32;
        (self.buffer, self.mtu, self.rate, self.peak) = (buffer as i64, mtu as i64, rate, peak);
        (self.tokens, self.ptokens, self.t_c) = (self.buffer, self.mtu, cx.now);
        Ok(())
    }

    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let mut b = Vec::with_capacity(36);
        b.extend_from_slice(&self.rate.spec().to_bytes());
        b.extend_from_slice(&self.peak.map_or([0; 12], |p| p.spec().to_bytes()));
        for v in [self.limit, ns_to_ticks(self.buffer), ns_to_ticks(self.mtu)] {
            b.extend_from_slice(&v.to_ne_bytes());
        }
        m.attr(TCA_TBF_PARMS, &b);
        for (kind, v) in [(TCA_TBF_RATE64, self.rate.rate64()), (TCA_TBF_PRATE64, self.peak.and_then(|p| p.rate64()))] {
            if let Some(v) = v {
                m.attr(kind, &v.to_ne_bytes());
            }
        }
    }

    #[doc(alias = "tbf_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        if pkt_len(&skb) <= self.max_size {
            return self.hand_down(s, skb, cx);
        }
        // A super-segment whose pieces fit is cut here.
        if skb.gso.is_some() && seg_len(&skb) <= self.max_size {
            return self.segment(s, skb, cx);
        }
        s.drops += 1;
        cx.drop(skb, DropReason::QdiscDrop, "tbf_enqueue");
        Xmit::Drop
    }

    fn hand_down(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let was = self.inner.stats;
        let sent = self.inner.enqueue(skb, cx);
        s.follow(was, self.inner.stats);
        sent
    }

    #[doc(alias = "tbf_segment")]
    fn segment(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let mut any = false;
        for piece in cx.segment(skb) {
            let was = self.inner.stats;
            let sent = self.inner.enqueue(piece, cx);
            s.follow(was, self.inner.stats);
            any |= sent == Xmit::Success;
        }
        if any { Xmit::Success } else { Xmit::Drop }
    }

    #[doc(alias = "tbf_dequeue")]
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        let was = self.inner.stats;
        let next = self.inner.peek(cx);
        s.follow(was, self.inner.stats);
        let len = next?;
        let mut toks = ((cx.now - self.t_c) as i64).min(self.buffer);
        let mut ptoks = 0;
        if let Some(p) = &self.peak {
            ptoks = (toks + self.ptokens).min(self.mtu) - p.l2t_ns(len);
        }
        toks = (toks + self.tokens).min(self.buffer) - self.rate.l2t_ns(len);
        if toks < 0 || ptoks < 0 {
            cx.wake_at(cx.now + (-toks).max(-ptoks) as u64);
            s.overlimits += 1;
            return None;
        }
        let was = self.inner.stats;
        let skb = self.inner.dequeue(cx);
        s.follow(was, self.inner.stats);
        let skb = skb?;
        (self.t_c, self.tokens, self.ptokens) = (cx.now, toks, ptoks);
        s.sent(&skb);
        Some(skb)
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        self.inner.reset(out);
        (self.tokens, self.ptokens) = (self.buffer, self.mtu);
    }
}

/// Length of the longest frame that a super-segment makes.
fn seg_len(skb: &SkBuff) -> u32 {
    skb.gso.map_or(skb.len() as u32, |g| skb.gso_headers(g) + u32::from(g.size))
}
