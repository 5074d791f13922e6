//! A policer: packets that come faster than its rate get another verdict than those that do not.
use super::Stats;
use super::api::{TcError, einval};
use super::opts::Opts;
use super::rate::{RateCfg, ns_to_ticks, ticks_to_ns};
use crate::env::Nanos;
use crate::net::core::skb::SkBuff;
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;
use belljar_wire::ethernet::ETH_HLEN;

/// `tc_police` up to its counters, which only answers have.
const PARMS: usize = 44;

/// See the module.
#[derive(Clone, Debug)]
pub struct Police {
    /// What it says of packets that conform.
    pub result: i32,
    mtu: u32,
    /// Nanoseconds that may be saved, of bytes and of packets.
    burst: i64,
    pkt_burst: i64,
    rate: Option<RateCfg>,
    peak: Option<RateCfg>,
    packets: Option<RateCfg>,
    /// What the peak rate may save: one packet of the largest size.
    peak_burst: i64,
    tokens: i64,
    peak_tokens: i64,
    pkt_tokens: i64,
    t_c: Nanos,
}

impl Police {
    #[doc(alias = "tcf_police_init")]
    pub(super) fn new(p: &[u8], o: &Opts<'_>, now: Nanos) -> Result<Police, TcError> {
        if p.len() < PARMS {
            return Err(einval());
        }
        let word = |at: usize| u32_at(p, at).unwrap_or(0);
        let (rate, peak) = RateSpec::parse(&p[20..]).zip(RateSpec::parse(&p[32..])).ok_or_else(einval)?;
        // There are no estimators that it could be measured with.
        if o.get(TCA_POLICE_AVRATE).is_some() {
            return Err(einval());
        }
        let result = o.u32(TCA_POLICE_RESULT).unwrap_or(0) as i32;
        if super::act::is_ext(result, TC_ACT_GOTO_CHAIN) {
            return Err(TcError::of(Errno::EINVAL, "goto chain not allowed on fallback"));
        }
        let pps = match (o.u64(TCA_POLICE_PKTRATE64), o.u64(TCA_POLICE_PKTBURST64)) {
            (Some(0), _) | (_, Some(0)) => return Err(einval()),
            (Some(r), Some(b)) => Some((r, b)),
            (None, None) => None,
            _ => {
                let text = "Both or neither packet-per-second burst and rate must be provided";
                return Err(TcError::of(Errno::EINVAL, text));
            }
        };
        let limited = rate.rate != 0;
        if pps.is_some() && limited {
            let text = "packet-per-second and byte-per-second rate limits not allowed in same action";
            return Err(TcError::of(Errno::EINVAL, text));
        }
        let mtu = match word(16) {
            0 if limited => 255u32.checked_shl(rate.cell_log.into()).unwrap_or(u32::MAX),
            0 => u32::MAX,
            mtu => mtu,
        };
        let peak = (limited && peak.rate != 0).then(|| RateCfg::new(&peak, o.u64(TCA_POLICE_PEAKRATE64).unwrap_or(0)));
        let burst = ticks_to_ns(word(12)) as i64;
        let pkt_burst = pps.map_or(0, |(_, b)| (b.min(u64::MAX >> (PSCHED_SHIFT + 1)) << PSCHED_SHIFT) as i64);
        let peak_burst = peak.map_or(0, |p| p.l2t_ns(mtu));
        Ok(Police {
            result,
            mtu,
            burst,
            pkt_burst,
            rate: limited.then(|| RateCfg::new(&rate, o.u64(TCA_POLICE_RATE64).unwrap_or(0))),
            peak,
            packets: pps.map(|(r, _)| RateCfg::new(&RateSpec::default(), r)),
            peak_burst,
            tokens: burst,
            peak_tokens: peak_burst,
            pkt_tokens: 0,
            t_c: now,
        })
    }

    fn fits(&self, skb: &SkBuff, len: u32, ingress: bool) -> bool {
        let mac = if ingress { ETH_HLEN as u32 } else { 0 };
        let len = match skb.gso {
            Some(g) => u32::from(g.size) + len.saturating_sub(skb.frags.len() as u32).min(256) + mac,
            None => len + mac,
        };
        len <= self.mtu
    }

    /// `exceeds` is what it says of packets above the rate.
    #[doc(alias = "tcf_police_act")]
    pub(super) fn decide(
        &mut self,
        exceeds: i32,
        s: &mut Stats,
        skb: &SkBuff,
        (now, len, ingress): (Nanos, u32, bool),
    ) -> i32 {
        if self.fits(skb, len, ingress) && self.conforms(now, len) {
            return self.result;
        }
        s.overlimits += 1;
        exceeds
    }

    fn conforms(&mut self, now: Nanos, len: u32) -> bool {
        let since = now.saturating_sub(self.t_c).min(i64::MAX as u64) as i64;
        let passed = since.min(self.burst);
        let (mut tokens, mut peak, mut packets) = (passed, 0, 0);
        if let Some(p) = &self.peak {
            peak = (passed + self.peak_tokens).min(self.peak_burst) - p.l2t_ns(len);
        }
        match (&self.rate, &self.packets) {
            (Some(r), _) => tokens = (passed + self.tokens).min(self.burst).saturating_sub(r.l2t_ns(len)),
            (None, Some(r)) => {
                let saved = since.min(self.pkt_burst).saturating_add(self.pkt_tokens);
                packets = saved.min(self.pkt_burst) - r.l2t_ns(1);
            }
            (None, None) => return true,
        }
        let conforms = tokens >= 0 && peak >= 0 && packets >= 0;
        if conforms {
            (self.t_c, self.tokens, self.peak_tokens, self.pkt_tokens) = (now, tokens, peak, packets);
        }
        conforms
    }

    #[doc(alias = "tcf_police_dump")]
    pub(super) fn dump(&self, control: i32, (index, refs, binds): (u32, u32, u32), m: &mut Msg<'_>) {
        let wide = [
            (TCA_POLICE_RATE64, self.rate.and_then(|r| r.rate64())),
            (TCA_POLICE_PEAKRATE64, self.peak.and_then(|r| r.rate64())),
            (TCA_POLICE_PKTRATE64, self.packets.map(|r| r.rate)),
            (TCA_POLICE_PKTBURST64, self.packets.map(|_| (self.pkt_burst >> PSCHED_SHIFT) as u64)),
        ];
        for (kind, v) in wide {
            if let Some(v) = v {
                m.attr(kind, &v.to_ne_bytes());
            }
        }
        let mut b = Vec::with_capacity(56);
        for v in [index, control as u32, 0, ns_to_ticks(self.burst), self.mtu] {
            b.extend_from_slice(&v.to_ne_bytes());
        }
        for r in [self.rate, self.peak] {
            b.extend_from_slice(&r.map_or([0; RateSpec::LEN], |r| r.spec().to_bytes()));
        }
        for v in [refs, binds, 0] {
            b.extend_from_slice(&v.to_ne_bytes());
        }
        m.attr(TCA_POLICE_TBF, &b);
        if self.result != 0 {
            m.attr_u32(TCA_POLICE_RESULT, self.result as u32);
        }
    }
}
