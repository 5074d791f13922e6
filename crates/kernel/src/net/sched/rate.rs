//! Rates: how long bytes take (`psched_ratecfg`).
use crate::env::Nanos;
use belljar_abi::pkt_sched::{PSCHED_SHIFT, RateSpec};

/// Bytes in cells of 53, 48 of them payload (AAL5): TC_LINKLAYER_ATM.
const LINKLAYER_ATM: u8 = 2;

/// Bytes a second and what the link adds to each packet, with the factor that turns bytes into time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateCfg {
    pub rate: u64,
    mult: u32,
    shift: u32,
    pub overhead: u16,
    pub mpu: u16,
    pub linklayer: u8,
}

impl RateCfg {
    /// `rate64` counts when it is above what the specification can say.
    #[doc(alias = "psched_ratecfg_precompute")]
    pub fn new(r: &RateSpec, rate64: u64) -> RateCfg {
        let rate = rate64.max(r.rate.into());
        let mut c = RateCfg { rate, mult: 1, shift: 0, overhead: r.overhead, mpu: r.mpu, linklayer: r.linklayer & 15 };
        if rate == 0 {
            return c;
        }
        // As exact as 32 bits allow.
        let mut factor: u64 = 1_000_000_000;
        loop {
            c.mult = (factor / rate) as u32;
            if c.mult & 1 << 31 != 0 || factor & 1 << 63 != 0 {
                return c;
            }
            factor <<= 1;
            c.shift += 1;
        }
    }

    /// How long `len` bytes take (`psched_l2t_ns`).
    pub fn l2t_ns(&self, len: u32) -> i64 {
        let mut len = u64::from(len) + u64::from(self.overhead);
        len = len.max(self.mpu.into());
        if self.linklayer == LINKLAYER_ATM {
            len = len.div_ceil(48) * 53;
        }
        ((u128::from(len) * u128::from(self.mult)) >> self.shift).min(i64::MAX as u128) as i64
    }

    /// How many bytes go in this time, at least for one (`psched_ns_t2l`).
    pub fn t2l(&self, time: u64) -> u64 {
        let mut len = (u128::from(time) * u128::from(self.rate) / 1_000_000_000).min(u64::MAX.into()) as u64;
        if self.linklayer == LINKLAYER_ATM {
            len = len / 53 * 48;
        }
        match len > u64::from(self.overhead) {
            true => len - u64::from(self.overhead),
            false => 0,
        }
    }

    /// As it is shown.
    pub fn spec(&self) -> RateSpec {
        RateSpec {
            rate: u32::try_from(self.rate).unwrap_or(u32::MAX),
            overhead: self.overhead,
            mpu: self.mpu,
            linklayer: self.linklayer & 15,
            ..RateSpec::default()
        }
    }

    /// More than 32 bits say: the attribute beside the specification.
    pub fn rate64(&self) -> Option<u64> {
        (self.rate > u32::MAX.into()).then_some(self.rate)
    }
}

/// Scheduler ticks as netlink has them.
pub fn ticks_to_ns(ticks: u32) -> Nanos {
    u64::from(ticks) << PSCHED_SHIFT
}

pub fn ns_to_ticks(ns: i64) -> u32 {
    (ns >> PSCHED_SHIFT).clamp(0, u32::MAX.into()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_time() {
        let of = |rate| RateCfg::new(&RateSpec { rate, ..RateSpec::default() }, 0);
        assert_eq!(of(125_000).l2t_ns(1250), 10_000_000);
        assert_eq!((of(125_000).t2l(10_000_000), of(0).t2l(1)), (1250, 0));
        assert_eq!(RateCfg::new(&RateSpec { rate: u32::MAX, ..RateSpec::default() }, 12_500_000_000).l2t_ns(1500), 119);
        let cells = RateSpec { rate: 5300, linklayer: 2, overhead: 8, ..RateSpec::default() };
        assert_eq!(RateCfg::new(&cells, 0).l2t_ns(48 - 8), 9_999_999);
        assert_eq!(RateCfg::new(&cells, 0).l2t_ns(41), 19_999_999);
    }
}
