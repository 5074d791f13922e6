//! Round-trip time and the retransmission timeout (RFC 6298, with Linux's bounds and variance rule).
use crate::net::sysctl::Sysctl;
use crate::net::tcp::seq::after;
use crate::net::tcp::sock::{Rtt, TcpTune};

/// The bounds of a socket: TCP_RTO_MIN_US and TCP_RTO_MAX_MS, else the settings.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min_us: u32,
    pub max_us: u32,
}

impl Bounds {
    pub fn of(tune: Option<&TcpTune>, sysctl: &Sysctl) -> Bounds {
        let own = |v: Option<u32>| v.filter(|v| *v != 0);
        Bounds {
            min_us: own(tune.map(|t| t.rto_min_us)).unwrap_or(sysctl.tcp_rto_min_us),
            max_us: own(tune.map(|t| t.rto_max_ms)).unwrap_or(sysctl.tcp_rto_max_ms).saturating_mul(1000),
        }
    }
}

impl Rtt {
    /// Takes a sample. The variance shrinks at most once a round trip, and a falling RTT raises it only by an eighth.
    #[doc(alias = "tcp_rtt_estimator")]
    pub fn sample(&mut self, rtt_us: u32, una: u32, nxt: u32, bounds: Bounds) {
        let mut m = i64::from(rtt_us);
        let mut srtt = i64::from(self.srtt_us);
        if srtt == 0 {
            self.srtt_us = (rtt_us.max(1)).saturating_mul(8);
            self.mdev_us = rtt_us.saturating_mul(2);
            self.rttvar_us = self.mdev_us.max(bounds.min_us);
            self.mdev_max_us = self.rttvar_us;
            self.rtt_seq = nxt;
        } else {
            m -= srtt >> 3;
            srtt += m;
            let mdev = i64::from(self.mdev_us);
            if m < 0 {
                m = -m - (mdev >> 2);
                if m > 0 {
                    m >>= 3;
                }
            } else {
                m -= mdev >> 2;
            }
            self.mdev_us = (mdev + m).max(0) as u32;
            if self.mdev_us > self.mdev_max_us {
                self.mdev_max_us = self.mdev_us;
                self.rttvar_us = self.rttvar_us.max(self.mdev_max_us);
            }
            if after(una, self.rtt_seq) {
                if self.mdev_max_us < self.rttvar_us {
                    self.rttvar_us -= (self.rttvar_us - self.mdev_max_us) >> 2;
                }
                self.rtt_seq = nxt;
                self.mdev_max_us = bounds.min_us;
            }
            self.srtt_us = srtt.clamp(1, i64::from(u32::MAX)) as u32;
        }
        self.set_rto(bounds);
    }

    /// RTO := SRTT + RTTVAR (which is four deviations, at least the minimum), at most the maximum (RFC 6298 §2.3).
    #[doc(alias = "tcp_set_rto")]
    pub fn set_rto(&mut self, bounds: Bounds) {
        self.rto_us = ((self.srtt_us >> 3).saturating_add(self.rttvar_us)).min(bounds.max_us);
    }

    /// The timeout with its back-off.
    pub fn backed_off(&self, bounds: Bounds) -> u32 {
        let wide = u64::from(self.rto_us) << self.backoff.min(31);
        wide.min(u64::from(bounds.max_us)) as u32
    }

    /// Keeps the minimum over `window_s` seconds, tcp_min_rtt_wlen (`tcp_update_rtt_min`).
    pub fn update_min(&mut self, rtt_us: u32, now_us: u64, window_s: u32) {
        let rtt_us = rtt_us.max(1);
        if rtt_us <= self.min_us || now_us.saturating_sub(self.min_stamp_us) > u64::from(window_s) * 1_000_000 {
            self.min_us = rtt_us;
            self.min_stamp_us = now_us;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Bounds = Bounds { min_us: 200_000, max_us: 120_000_000 };

    #[test]
    fn the_first_sample_gives_rtt_plus_the_minimum() {
        let mut r = Rtt::default();
        r.sample(10_000, 1, 2, B);
        assert_eq!((r.srtt_us >> 3, r.rto_us), (10_000, 210_000));
    }

    #[test]
    fn steady_samples_keep_the_minimum_and_a_jump_raises_the_timeout() {
        let mut r = Rtt::default();
        (0..100).for_each(|i| r.sample(50_000, i * 10, i * 10 + 10, B));
        assert_eq!(r.rto_us, 250_000);
        r.sample(900_000, 1001, 1010, B);
        assert!(r.rto_us > 1_000_000 - 200_000, "{}", r.rto_us);
        r.backoff = 40;
        assert_eq!(r.backed_off(B), 120_000_000);
    }
}
