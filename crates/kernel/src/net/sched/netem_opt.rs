//! netem's settings as netlink has them.
use super::netem::{Loss, Netem};
use super::opts::Opts;
use super::rate::{ns_to_ticks, ticks_to_ns};
use crate::net::sched::api::{TcError, einval};
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;

/// NETEM_DIST_MAX.
const MAX_DIST: usize = 16_384;
const OPT_LEN: usize = 24;

fn words<const N: usize>(b: &[u8]) -> Option<[u32; N]> {
    let mut out = [0; N];
    for (i, o) in out.iter_mut().enumerate() {
        *o = u32_at(b, 4 * i)?;
    }
    Some(out)
}

impl Netem {
    #[doc(alias = "netem_change")]
    pub(super) fn change(&mut self, opts: Option<&[u8]>) -> Result<(), TcError> {
        let bytes = opts.ok_or_else(einval)?;
        let [latency, limit, loss, gap, duplicate, jitter] = words(bytes).ok_or_else(einval)?;
        let a = Opts::new(bytes.get(OPT_LEN..).unwrap_or(&[]));
        if a.get(TCA_NETEM_SLOT).is_some() || a.get(TCA_NETEM_SLOT_DIST).is_some() {
            return Err(TcError::of(Errno::EOPNOTSUPP, "netem slots are not supported by belljar."));
        }
        // All is read before anything changes: a bad request leaves it as it was.
        let model = match a.get(TCA_NETEM_LOSS) {
            Some(l) => Some(loss_model(l)?),
            None => None,
        };
        let dist = match a.get(TCA_NETEM_DELAY_DIST) {
            Some(d) if d.len() / 2 > MAX_DIST => return Err(einval()),
            Some(d) => Some(d.chunks_exact(2).map(|b| i16::from_ne_bytes([b[0], b[1]])).collect()),
            None => None,
        };
        let s = &mut self.set;
        s.latency = ticks_to_ns(latency) as i64;
        s.jitter = ticks_to_ns(jitter) as i64;
        (s.limit, s.gap, s.loss, s.duplicate) = (limit, gap, loss, duplicate);
        // Without a probability every packet that may be reordered is.
        if gap != 0 {
            s.reorder = u32::MAX;
        }
        if dist.is_some() {
            s.dist = dist;
        }
        if let Some([delay, loss, dup]) = a.get(TCA_NETEM_CORR).and_then(words) {
            (self.delay_cor.rho, self.loss_cor.rho, self.dup_cor.rho) = (delay, loss, dup);
        }
        if let Some([p, c]) = a.get(TCA_NETEM_REORDER).and_then(words) {
            (self.set.reorder, self.reorder_cor.rho) = (p, c);
        }
        if let Some([p, c]) = a.get(TCA_NETEM_CORRUPT).and_then(words) {
            (self.set.corrupt, self.corrupt_cor.rho) = (p, c);
        }
        let s = &mut self.set;
        if let Some([rate, packet, cell, cell_overhead]) = a.get(TCA_NETEM_RATE).and_then(words) {
            s.rate = rate.into();
            (s.packet_overhead, s.cell_size, s.cell_overhead) = (packet as i32, cell, cell_overhead as i32);
        }
        if let Some(rate) = a.u64(TCA_NETEM_RATE64) {
            s.rate = s.rate.max(rate);
        }
        if let Some(v) = a.u64(TCA_NETEM_LATENCY64) {
            s.latency = v as i64;
        }
        if let Some(v) = a.u64(TCA_NETEM_JITTER64) {
            s.jitter = v as i64;
        }
        if let Some(v) = a.u32(TCA_NETEM_ECN) {
            s.ecn = v != 0;
        }
        // Latency and jitter beyond three centuries are none (they are signed).
        s.latency = s.latency.max(0);
        s.jitter = s.jitter.clamp(0, i64::from(i32::MAX));
        s.model = model.unwrap_or_default();
        if model.is_some() {
            self.restart_model();
        }
        if let Some(seed) = a.u64(TCA_NETEM_PRNG_SEED) {
            self.reseed(seed);
        }
        Ok(())
    }

    #[doc(alias = "netem_dump")]
    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let s = &self.set;
        let put = |v: &[u32]| -> Vec<u8> { v.iter().flat_map(|w| w.to_ne_bytes()).collect() };
        m.body(&put(&[ns_to_ticks(s.latency), s.limit, s.loss, s.gap, s.duplicate, ns_to_ticks(s.jitter)]));
        m.attr(TCA_NETEM_LATENCY64, &s.latency.to_ne_bytes());
        m.attr(TCA_NETEM_JITTER64, &s.jitter.to_ne_bytes());
        m.attr(TCA_NETEM_CORR, &put(&[self.delay_cor.rho, self.loss_cor.rho, self.dup_cor.rho]));
        m.attr(TCA_NETEM_REORDER, &put(&[s.reorder, self.reorder_cor.rho]));
        m.attr(TCA_NETEM_CORRUPT, &put(&[s.corrupt, self.corrupt_cor.rho]));
        if s.rate > u32::MAX.into() {
            m.attr(TCA_NETEM_RATE64, &s.rate.to_ne_bytes());
        }
        let rate = u32::try_from(s.rate).unwrap_or(u32::MAX);
        m.attr(TCA_NETEM_RATE, &put(&[rate, s.packet_overhead as u32, s.cell_size, s.cell_overhead as u32]));
        if s.ecn {
            m.attr_u32(TCA_NETEM_ECN, 1);
        }
        match s.model {
            Loss::Random => {}
            Loss::States { p13, p31, p32, p14, p23 } => {
                m.nest(TCA_NETEM_LOSS, |m| {
                    m.attr(NETEM_LOSS_GI, &put(&[p13, p31, p32, p14, p23]));
                });
            }
            Loss::Gemodel { p, r, h, k1 } => {
                m.nest(TCA_NETEM_LOSS, |m| {
                    m.attr(NETEM_LOSS_GE, &put(&[p, r, h, k1]));
                });
            }
        }
        m.attr(TCA_NETEM_PRNG_SEED, &s.seed.to_ne_bytes());
    }
}

fn loss_model(b: &[u8]) -> Result<Loss, TcError> {
    let a = Opts::new(b);
    if let Some([p13, p31, p32, p14, p23]) = a.get(NETEM_LOSS_GI).and_then(words) {
        return Ok(Loss::States { p13, p31, p32, p14, p23 });
    }
    let [p, r, h, k1] = a.get(NETEM_LOSS_GE).and_then(words).ok_or_else(einval)?;
    Ok(Loss::Gemodel { p, r, h, k1 })
}
