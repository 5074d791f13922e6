//! Congestion control: the algorithm sees events and a clock, never the socket.
//!
//! The window, its growth by acknowledgements and what the loss-based algorithms share live here; [`cubic`] and [`reno`]
//! hold the rules in which they differ. [`bbr`] replaces all of it: after each acknowledgement it sets window and pacing
//! rate itself. Loss recovery (PRR, undo, F-RTO) is `input/recovery.rs`'s.
pub mod bbr;
pub mod cubic;
pub mod reno;

use crate::net::mib::Mib;
use crate::net::sysctl::CongName;
use bbr::Bbr;
use cubic::Cubic;

/// RFC 6928.
pub const TCP_INIT_CWND: u32 = 10;
/// No threshold known yet: slow start until something is lost.
pub const TCP_INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// The window and what the algorithm of the socket keeps beside it.
#[derive(Clone, Debug)]
pub struct Cong {
    /// Congestion window and slow-start threshold, in segments.
    pub cwnd: u32,
    pub ssthresh: u32,
    /// Acknowledged segments that did not grow the window yet.
    pub cwnd_cnt: u32,
    pub cwnd_clamp: u32,
    /// Most that was used since the last check, for slow start after idle (`snd_cwnd_used`).
    pub cwnd_used: u32,
    pub cwnd_stamp_us: u64,
    /// Most in flight in the last round, and the end of that round.
    pub max_packets_out: u32,
    pub cwnd_usage_seq: u32,
    /// The window, not the program or the receiver, bounded the last flight.
    pub cwnd_limited: bool,
    pub algo: Algo,
}

#[derive(Clone, Debug)]
pub enum Algo {
    Reno,
    /// `None` until something was acknowledged or lost: an idle connection does not pay for it.
    Cubic(Option<Box<Cubic>>),
    /// `None` until the connection is established (`pacing::init`).
    Bbr(Option<Box<Bbr>>),
}

/// Slow start ended before a loss, because round trips grew (HyStart): what the counters want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HystartExit {
    /// The acknowledgements of one flight were spread over more than half a round trip.
    Train,
    /// The smallest round trip of a flight exceeded the path's by an eighth.
    Delay,
}

impl HystartExit {
    /// How often, and at which windows in sum.
    pub fn counters(self) -> (Mib, Mib) {
        match self {
            HystartExit::Train => (Mib::TcpExtTCPHystartTrainDetect, Mib::TcpExtTCPHystartTrainCwnd),
            HystartExit::Delay => (Mib::TcpExtTCPHystartDelayDetect, Mib::TcpExtTCPHystartDelayCwnd),
        }
    }
}

impl Cong {
    pub fn new(name: CongName) -> Cong {
        Cong {
            cwnd: TCP_INIT_CWND,
            ssthresh: TCP_INFINITE_SSTHRESH,
            cwnd_cnt: 0,
            cwnd_clamp: u32::MAX,
            cwnd_used: 0,
            cwnd_stamp_us: 0,
            max_packets_out: 0,
            cwnd_usage_seq: 0,
            cwnd_limited: false,
            algo: Algo::new(name),
        }
    }

    pub fn name(&self) -> CongName {
        match self.algo {
            Algo::Reno => CongName::Reno,
            Algo::Cubic(_) => CongName::Cubic,
            Algo::Bbr(_) => CongName::Bbr,
        }
    }

    /// The algorithm sets window and pacing rate itself (`ca_ops->cong_control`).
    pub fn has_cong_control(&self) -> bool {
        matches!(self.algo, Algo::Bbr(_))
    }

    /// TCP_CONGESTION on a living connection: the window stays, the algorithm starts over (`pacing::init`).
    pub fn set_algo(&mut self, name: CongName) {
        self.algo = Algo::new(name);
    }

    #[doc(alias = "tcp_in_slow_start")]
    pub fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Only a window that was used may grow; in slow start up to twice what was in flight counts as used (RFC 7661).
    #[doc(alias = "tcp_is_cwnd_limited")]
    pub fn is_cwnd_limited(&self) -> bool {
        self.cwnd_limited || (self.in_slow_start() && self.cwnd < 2 * self.max_packets_out)
    }

    /// `acked` segments were delivered outside of recovery: the window may grow.
    pub fn cong_avoid(&mut self, _snd_una: u32, acked: u32, limited: bool, now_us: u64) {
        if !limited || acked == 0 {
            return;
        }
        let mut acked = acked;
        if self.in_slow_start() {
            acked = self.slow_start(acked);
            if acked == 0 {
                return;
            }
        }
        let per = match &mut self.algo {
            Algo::Reno => self.cwnd,
            Algo::Cubic(c) => c.get_or_insert_default().acks_per_segment(self.cwnd, acked, now_us),
            Algo::Bbr(_) => return,
        };
        self.cong_avoid_ai(per, acked);
    }

    /// One segment more for each acknowledged one, up to the threshold (RFC 5681 §3.1 with appropriate byte counting);
    /// returns what is left for congestion avoidance.
    #[doc(alias = "tcp_slow_start")]
    pub fn slow_start(&mut self, acked: u32) -> u32 {
        let grown = self.cwnd.saturating_add(acked).min(self.ssthresh);
        let left = acked - (grown - self.cwnd);
        self.cwnd = grown.min(self.cwnd_clamp);
        left
    }

    /// One segment more for `per` acknowledged ones.
    #[doc(alias = "tcp_cong_avoid_ai")]
    pub fn cong_avoid_ai(&mut self, per: u32, acked: u32) {
        let per = per.max(1);
        // A rate that just became higher must not pay out what was saved at the lower one all at once.
        if self.cwnd_cnt >= per {
            self.cwnd_cnt = 0;
            self.cwnd += 1;
        }
        self.cwnd_cnt = self.cwnd_cnt.saturating_add(acked);
        if self.cwnd_cnt >= per {
            self.cwnd = self.cwnd.saturating_add(self.cwnd_cnt / per);
            self.cwnd_cnt %= per;
        }
        self.cwnd = self.cwnd.min(self.cwnd_clamp);
    }

    /// The threshold after a loss, counted as one congestion event (`ca_ops->ssthresh`).
    pub fn ssthresh_after_loss(&mut self) -> u32 {
        match &mut self.algo {
            Algo::Reno => reno::ssthresh(self.cwnd),
            Algo::Cubic(c) => c.get_or_insert_default().ssthresh_after_loss(self.cwnd),
            Algo::Bbr(b) => {
                b.iter_mut().for_each(|b| b.ssthresh(self.cwnd));
                self.ssthresh
            }
        }
    }

    /// What an idle or interrupted connection remembers of its window (`tcp_current_ssthresh` outside of a reduction).
    pub fn current_ssthresh(&self) -> u32 {
        self.ssthresh.max((self.cwnd >> 1) + (self.cwnd >> 2))
    }

    /// A retransmission timeout: what was learnt about the path is void (`set_state` with TCP_CA_Loss).
    pub fn on_loss(&mut self) {
        if let Algo::Cubic(c) = &mut self.algo {
            c.get_or_insert_default().on_loss();
        }
    }

    /// The loss was none: back to the window before it.
    pub fn undo_cwnd(&self, prior_cwnd: u32) -> u32 {
        if self.has_cong_control() { self.cwnd } else { self.cwnd.max(prior_cwnd) }
    }

    /// Segments were acknowledged with a usable round trip; tells when HyStart ends slow start (and sets the threshold).
    pub fn pkts_acked(
        &mut self,
        _pkts: u32,
        rtt_us: u32,
        now_us: u64,
        snd_una: u32,
        snd_nxt: u32,
    ) -> Option<HystartExit> {
        let slow_start = self.in_slow_start();
        let Algo::Cubic(c) = &mut self.algo else { return None };
        let exit = c.get_or_insert_default().acked(self.cwnd, slow_start, rtt_us, now_us, snd_una, snd_nxt)?;
        self.ssthresh = self.cwnd;
        Some(exit)
    }

    /// Sending resumes after `idle_us` without anything in flight (`CA_EVENT_TX_START`).
    pub fn tx_start(&mut self, now_us: u64, last_sent_us: u64) {
        if let Algo::Cubic(Some(c)) = &mut self.algo {
            c.tx_start(now_us, last_sent_us);
        }
    }
}

impl Algo {
    fn new(name: CongName) -> Algo {
        match name {
            CongName::Reno => Algo::Reno,
            CongName::Cubic => Algo::Cubic(None),
            CongName::Bbr => Algo::Bbr(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_doubles_and_stops_at_the_threshold() {
        let mut c = Cong::new(CongName::Reno);
        c.ssthresh = 24;
        c.cong_avoid(0, 10, true, 0);
        assert_eq!(c.cwnd, 20);
        // Four up to the threshold, the other six count for the additive increase.
        c.cong_avoid(0, 10, true, 0);
        assert_eq!((c.cwnd, c.cwnd_cnt), (24, 6));
        c.cong_avoid(0, 18, true, 0);
        assert_eq!((c.cwnd, c.cwnd_cnt), (25, 0));
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut c = Cong::new(CongName::Cubic);
        c.cong_avoid(0, 10, false, 0);
        assert_eq!(c.cwnd, 10);
        c.max_packets_out = 6;
        assert!(c.is_cwnd_limited());
        c.max_packets_out = 5;
        assert!(!c.is_cwnd_limited());
        c.cwnd_limited = true;
        assert!(c.is_cwnd_limited());
    }

    #[test]
    fn a_lower_rate_pays_out_one_segment_first() {
        let mut c = Cong::new(CongName::Reno);
        (c.cwnd, c.ssthresh, c.cwnd_cnt) = (50, 10, 40);
        c.cong_avoid_ai(20, 1);
        assert_eq!((c.cwnd, c.cwnd_cnt), (51, 1));
        c.cwnd_clamp = 51;
        c.cong_avoid_ai(1, 30);
        assert_eq!(c.cwnd, 51);
    }

    #[test]
    fn thresholds_after_a_loss() {
        let mut r = Cong::new(CongName::Reno);
        assert_eq!(r.ssthresh_after_loss(), 5);
        r.cwnd = 1;
        assert_eq!(r.ssthresh_after_loss(), 2);
        let mut c = Cong::new(CongName::Cubic);
        assert_eq!(c.ssthresh_after_loss(), 7);
        assert_eq!(c.undo_cwnd(30), 30);
    }
}
