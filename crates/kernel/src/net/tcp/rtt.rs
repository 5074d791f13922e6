//! Round-trip time and the retransmission timeout (RFC 6298, with Linux's bounds and variance rule).
use crate::env::Jiffies;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::seq::after;
use crate::net::tcp::sock::{Rtt, TcpSock, TcpTune};

/// The bounds of a socket: TCP_RTO_MIN_US and TCP_RTO_MAX_MS, else the settings.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min_us: u32,
    pub max_us: u32,
}

impl Bounds {
    #[inline]
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
}

/// The best of a part of the window, and when it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub at: Jiffies,
    pub us: u32,
}

/// The smallest round trip of the last `win` ticks (tcp_min_rtt_wlen): the best, the best after it, the best after that, so
/// that one is at hand when the first becomes too old.
#[doc(alias = "minmax_running_min")]
pub fn running_min(s: &mut [Sample; 3], win: Jiffies, new: Sample) {
    let since = |old: Sample| new.at.wrapping_sub(old.at);
    if new.us <= s[0].us || since(s[2]) > win {
        *s = [new; 3];
        return;
    }
    if new.us <= s[1].us {
        (s[1], s[2]) = (new, new);
    } else if new.us <= s[2].us {
        s[2] = new;
    }
    let age = since(s[0]);
    if age > win {
        *s = [s[1], s[2], new];
        if since(s[0]) > win {
            *s = [s[1], s[2], new];
        }
    } else if s[1].at == s[0].at && age > win / 4 {
        // A quarter of the window without a second choice: this is one.
        (s[1], s[2]) = (new, new);
    } else if s[2].at == s[1].at && age > win / 2 {
        s[2] = new;
    }
}

/// Takes a sample into the smallest round trip of the connection. The second and third choice stand where an idle
/// connection does not pay for them; before they do, all three are one.
#[doc(alias = "tcp_update_rtt_min")]
pub fn update_min(sk: &mut TcpSock, now: Jiffies, us: u32, win: Jiffies) {
    let first = Sample { at: sk.rtt.min_at, us: sk.rtt.min_us };
    let [second, third] = sk.track.as_deref().and_then(|t| t.min_rtt).unwrap_or([first; 2]);
    let mut all = [first, second, third];
    running_min(&mut all, win, Sample { at: now, us: us.max(1) });
    let [best, others @ ..] = all;
    (sk.rtt.min_at, sk.rtt.min_us) = (best.at, best.us);
    if let Some(t) = sk.track.as_deref_mut() {
        t.min_rtt = Some(others);
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

    #[test]
    fn an_old_minimum_gives_way_to_the_best_since() {
        let mut s = [Sample { at: 0, us: u32::MAX }; 3];
        let mut see = |at, us| {
            running_min(&mut s, 100, Sample { at, us });
            s[0].us
        };
        assert_eq!([see(0, 50), see(10, 90), see(30, 70), see(60, 80)], [50; 4]);
        // The second choice is from the second quarter, the third from the second half.
        assert_eq!((see(101, 95), see(131, 95)), (70, 80));
        assert_eq!((see(140, 60), see(400, 99)), (60, 99));
    }
}
