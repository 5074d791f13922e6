//! CUBIC (RFC 9438) in the shape and with the constants of Linux: times in units of 1/1024 s, the window in segments,
//! HyStart (RFC 9406's ancestor) with both detections on.
//!
//! The cubic curve `C(t-K)^3 + Wmax` is never stepped directly: it decides how many acknowledged segments the next
//! segment of window costs, and `Cong::cong_avoid_ai` pays.
use super::HystartExit;
use crate::net::tcp::seq::after;

/// Window after a loss: 717/1024 of it.
const BETA: u64 = 717;
const BETA_SCALE: u64 = 1024;
/// Bits of a second's fraction in the curve's time.
const HZ_BITS: u32 = 10;
/// C = 410/1024 ≈ 0.4 (RFC 9438 §5), in the curve's fixed point.
const CUBE_RTT_SCALE: u64 = 410;
const CUBE_FACTOR: u64 = (1 << (10 + 3 * HZ_BITS)) / CUBE_RTT_SCALE;
/// Eighths of the window per segment that Reno with this BETA would gain: 3(1-β)/(1+β) inverted.
const RENO_SCALE: u64 = 8 * (BETA_SCALE + BETA) / 3 / (BETA_SCALE - BETA);

/// HyStart looks at windows from here on.
const HYSTART_LOW_WINDOW: u32 = 16;
/// Round trips sampled before the delay of a flight is judged.
const HYSTART_MIN_SAMPLES: u8 = 8;
/// Acknowledgements closer than this belong to one train.
const HYSTART_ACK_DELTA_US: u32 = 2_000;
const HYSTART_DELAY_MIN_US: u32 = 4_000;
const HYSTART_DELAY_MAX_US: u32 = 16_000;

/// See the module. Times wrap; milliseconds or microseconds as named. A new one begins its first HyStart round with the
/// first acknowledgement.
#[derive(Clone, Debug, Default)]
pub struct Cubic {
    /// Acknowledged segments per segment of growth, as last computed.
    cnt: u32,
    last_max_cwnd: u32,
    last_cwnd: u32,
    last_ms: u32,
    /// Window at the plateau of the curve, and when it is reached after the start of the epoch.
    origin: u32,
    k: u32,
    delay_min_us: u32,
    /// Start of the epoch; `None` until the first acknowledgement after a loss.
    epoch_ms: Option<u32>,
    acked: u32,
    /// The window Reno would have.
    reno_cwnd: u32,
    hystart: Hystart,
}

#[derive(Clone, Debug, Default)]
struct Hystart {
    /// Slow start is over.
    found: bool,
    /// A round is under way; without, one begins with the next acknowledgement.
    begun: bool,
    samples: u8,
    round_start_us: u32,
    last_ack_us: u32,
    end_seq: u32,
    curr_rtt_us: u32,
}

impl Hystart {
    fn new_round(&mut self, now_us: u32, snd_nxt: u32) {
        *self = Hystart {
            found: self.found,
            begun: true,
            round_start_us: now_us,
            last_ack_us: now_us,
            end_seq: snd_nxt,
            curr_rtt_us: u32::MAX,
            ..Hystart::default()
        };
    }
}

/// Integer cube root.
fn cubic_root(a: u64) -> u32 {
    let (mut lo, mut hi) = (0u64, 2_642_245u64);
    while lo < hi {
        let mid = (lo + hi).div_ceil(2);
        if mid * mid * mid <= a { lo = mid } else { hi = mid - 1 }
    }
    lo as u32
}

impl Cubic {
    pub(super) fn on_loss(&mut self) {
        *self = Cubic::default();
    }

    /// Remembers the window as the plateau to come back to; a second loss below it means that somebody else wants
    /// room: fast convergence (RFC 9438 §4.7).
    pub(super) fn ssthresh_after_loss(&mut self, cwnd: u32) -> u32 {
        self.epoch_ms = None;
        let w = u64::from(cwnd);
        self.last_max_cwnd =
            if cwnd < self.last_max_cwnd { (w * (BETA_SCALE + BETA) / (2 * BETA_SCALE)) as u32 } else { cwnd };
        ((w * BETA / BETA_SCALE) as u32).max(2)
    }

    /// Idle time does not count as time on the curve.
    pub(super) fn tx_start(&mut self, now_us: u64, last_sent_us: u64) {
        let (now, idle) = ((now_us / 1000) as u32, (now_us.saturating_sub(last_sent_us) / 1000) as u32);
        if let Some(epoch) = &mut self.epoch_ms {
            *epoch = epoch.wrapping_add(idle);
            if after(*epoch, now) {
                *epoch = now;
            }
        }
    }

    /// How many acknowledged segments one more segment of window costs now.
    #[doc(alias = "bictcp_update")]
    pub(super) fn acks_per_segment(&mut self, cwnd: u32, acked: u32, now_us: u64) -> u32 {
        let now = (now_us / 1000) as u32;
        self.acked = self.acked.saturating_add(acked);
        if self.last_cwnd == cwnd && now.wrapping_sub(self.last_ms) <= 1000 / 32 {
            return self.cnt.max(2);
        }
        if self.epoch_ms.is_none() || now != self.last_ms {
            self.follow_curve(cwnd, acked, now);
        }
        self.keep_up_with_reno(cwnd);
        self.cnt = self.cnt.max(2);
        self.cnt
    }

    fn follow_curve(&mut self, cwnd: u32, acked: u32, now: u32) {
        self.last_cwnd = cwnd;
        self.last_ms = now;
        let epoch = *self.epoch_ms.get_or_insert_with(|| {
            self.acked = acked;
            self.reno_cwnd = cwnd;
            (self.k, self.origin) = if self.last_max_cwnd <= cwnd {
                (0, cwnd)
            } else {
                (cubic_root(CUBE_FACTOR * u64::from(self.last_max_cwnd - cwnd)), self.last_max_cwnd)
            };
            now
        });
        // One round trip ahead: the growth decided now is seen then.
        let t = (u64::from(now.wrapping_sub(epoch)) + u64::from(self.delay_min_us / 1000)) << HZ_BITS;
        let t = t / 1000;
        let k = u64::from(self.k);
        // Farther away the curve is beyond any window.
        let offs = t.abs_diff(k).min(1 << 18);
        let delta = ((CUBE_RTT_SCALE * offs * offs * offs) >> (10 + 3 * HZ_BITS)).min(u64::from(u32::MAX)) as u32;
        let target = if t < k { self.origin.saturating_sub(delta) } else { self.origin.saturating_add(delta) };
        self.cnt = if target > cwnd { cwnd / (target - cwnd) } else { cwnd.saturating_mul(100) };
        // Nothing was lost yet, so the plateau is a guess: at least 5 % a round trip.
        if self.last_max_cwnd == 0 {
            self.cnt = self.cnt.min(20);
        }
    }

    /// Reno-friendly region (RFC 9438 §4.3).
    fn keep_up_with_reno(&mut self, cwnd: u32) {
        let per = ((u64::from(cwnd) * RENO_SCALE) >> 3).max(1) as u32;
        if self.acked > per {
            // As many whole steps as leave at least one acknowledgement over.
            let steps = (self.acked - 1) / per;
            self.reno_cwnd = self.reno_cwnd.saturating_add(steps);
            self.acked -= steps * per;
        }
        if self.reno_cwnd > cwnd {
            self.cnt = self.cnt.min(cwnd / (self.reno_cwnd - cwnd));
        }
    }

    #[doc(alias = "cubictcp_acked")]
    pub(super) fn acked(
        &mut self,
        cwnd: u32,
        slow_start: bool,
        rtt_us: u32,
        now_us: u64,
        snd_una: u32,
        snd_nxt: u32,
    ) -> Option<HystartExit> {
        // The first second of an epoch still sees the queue that the loss left behind.
        if self.epoch_ms.is_some_and(|e| ((now_us / 1000) as u32).wrapping_sub(e) < 1000) {
            return None;
        }
        let rtt = rtt_us.max(1);
        if self.delay_min_us == 0 || rtt < self.delay_min_us {
            self.delay_min_us = rtt;
        }
        if self.hystart.found || !slow_start {
            return None;
        }
        self.hystart_update(cwnd, rtt, now_us as u32, snd_una, snd_nxt)
    }

    fn hystart_update(&mut self, cwnd: u32, rtt: u32, now: u32, una: u32, nxt: u32) -> Option<HystartExit> {
        let h = &mut self.hystart;
        if !h.begun || after(una, h.end_seq) {
            h.new_round(now, nxt);
        }
        if cwnd < HYSTART_LOW_WINDOW {
            return None;
        }
        let mut exit = None;
        if now.wrapping_sub(h.last_ack_us) <= HYSTART_ACK_DELTA_US {
            h.last_ack_us = now;
            // A super-segment comes back as a burst of acknowledgements: at most a millisecond, less on a fast path.
            let burst = (u64::from(rtt) * 90 / u64::from(cwnd)).min(1000) as u32;
            if now.wrapping_sub(h.round_start_us) > (self.delay_min_us.saturating_add(burst)) >> 1 {
                exit = Some(HystartExit::Train);
            }
        }
        h.curr_rtt_us = h.curr_rtt_us.min(rtt);
        if h.samples < HYSTART_MIN_SAMPLES {
            h.samples += 1;
        } else if exit.is_none() {
            let thresh = (self.delay_min_us >> 3).clamp(HYSTART_DELAY_MIN_US, HYSTART_DELAY_MAX_US);
            if h.curr_rtt_us > self.delay_min_us.saturating_add(thresh) {
                exit = Some(HystartExit::Delay);
            }
        }
        h.found = exit.is_some();
        exit
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    #[test]
    fn cube_roots() {
        for n in [0u64, 1, 7, 8, 26, 27, 1000, 1 << 40, u64::MAX] {
            let r = u64::from(cubic_root(n));
            assert!(r.pow(3) <= n && (r + 1).checked_pow(3).is_none_or(|c| c > n), "{n}");
        }
        assert_eq!(RENO_SCALE, 15);
    }

    /// Acknowledges a window per round trip, starting after a loss at `wmax`; returns the window after each second.
    fn run(wmax: u32, rtt_ms: u64, seconds: u64) -> Vec<u32> {
        let mut c = Cong::new(CongName::Cubic);
        c.cwnd = wmax;
        c.ssthresh = c.ssthresh_after_loss();
        c.cwnd = c.ssthresh;
        let mut out = vec![];
        for ms in (0..seconds * 1000).step_by(rtt_ms as usize) {
            c.pkts_acked(1, rtt_ms as u32 * 1000, ms * 1000, 0, 0);
            let w = c.cwnd;
            (0..w).for_each(|i| c.cong_avoid(0, 1, true, (ms * 1000) + u64::from(i) * rtt_ms * 1000 / u64::from(w)));
            if (ms + rtt_ms) % 1000 < rtt_ms {
                out.push(c.cwnd);
            }
        }
        out
    }

    #[test]
    fn a_window_that_stands_still_for_an_hour_may_double_at_once() {
        let mut c = Cubic { last_max_cwnd: 10, ..Cubic::default() };
        assert_eq!(c.acks_per_segment(10, 1, 1_000_000), 1000);
        assert_eq!(c.acks_per_segment(10, 1, 3_600_000_000), 2);
    }

    #[test]
    fn the_curve_comes_back_to_the_plateau_at_k_and_goes_on_beyond() {
        // W(t) = 0.4 (t - K)^3 + Wmax with K = cbrt(0.3 Wmax / 0.4) = 9.07 s for Wmax = 1000.
        let w = run(1000, 100, 14);
        for (t, got) in w.iter().enumerate() {
            let d = t as f64 + 1.0 - 9.07;
            let want = 0.4 * d * d * d + 1000.0;
            assert!((f64::from(*got) - want).abs() < 0.03 * want, "second {}: {got}, curve {want}", t + 1);
        }
    }

    #[test]
    fn on_a_short_path_it_is_as_fast_as_reno() {
        // Wmax 20, RTT 10 ms: the Reno region rules, 3(1-β)/(1+β) = 0.53 segments a round trip.
        let w = run(20, 10, 1);
        assert!((55..=75).contains(&w[0]), "{w:?}");
    }

    #[test]
    fn a_second_loss_below_the_plateau_gives_room() {
        let mut c = Cubic::default();
        assert_eq!(c.ssthresh_after_loss(100), 70);
        assert_eq!(c.last_max_cwnd, 100);
        assert_eq!(c.ssthresh_after_loss(80), 56);
        assert_eq!(c.last_max_cwnd, 68);
    }

    #[test]
    fn slow_start_ends_when_round_trips_grow() {
        let mut c = Cong::new(CongName::Cubic);
        c.cwnd = 40;
        let rtt = |c: &mut Cong, us: u32, at: u64| c.pkts_acked(1, us, at, 0, 100);
        // The acknowledgements are 3 ms apart, so they are no train; the first sets the path's minimum.
        assert_eq!(rtt(&mut c, 40_000, 40_000), None);
        c.set_algo(CongName::Cubic);
        assert_eq!(rtt(&mut c, 40_000, 80_000), None);
        assert!((1..9).all(|i| c.pkts_acked(1, 50_000, 80_000 + i * 3000, 101, 200).is_none()));
        assert_eq!(c.pkts_acked(1, 50_000, 110_000, 150, 200), Some(HystartExit::Delay));
        assert_eq!((c.ssthresh, c.in_slow_start()), (40, false));
    }

    #[test]
    fn slow_start_ends_when_a_train_takes_half_a_round_trip() {
        let mut c = Cong::new(CongName::Cubic);
        c.cwnd = 200;
        let mut at = 100_000;
        assert_eq!(c.pkts_acked(1, 100_000, at, 1, 1000), None);
        loop {
            at += 1000;
            match c.pkts_acked(1, 100_000, at, 500, 1000) {
                None => assert!(at < 160_000),
                Some(e) => break assert_eq!(e, HystartExit::Train),
            }
        }
        assert_eq!(at, 151_000);
    }

    #[test]
    fn a_timeout_forgets_the_path() {
        let mut c = Cubic::default();
        c.ssthresh_after_loss(100);
        c.delay_min_us = 5;
        c.on_loss();
        assert_eq!((c.last_max_cwnd, c.delay_min_us), (0, 0));
    }
}
