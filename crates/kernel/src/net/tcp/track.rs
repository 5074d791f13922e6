//! What a connection keeps from its first data on, one box that an idle connection does not have: delivery rate, pacing,
//! chronographs, compressed acknowledgements, counts of timeouts and of ECN marks. Data and constructors only.
use super::rtt::Sample;
use crate::env::{Jiffies, Nanos};

/// See the module.
#[derive(Clone, Debug)]
pub struct Track {
    /// When `delivered` last moved, and the start of the flight that is measured (`delivered_mstamp`,
    /// `first_tx_mstamp`), microseconds.
    pub delivered_us: u64,
    pub first_tx_us: u64,
    /// `delivered` up to which samples are bounded by the program, 0 when they are not.
    pub app_limited: u32,
    /// The last good sample: what TCP_INFO calls the delivery rate.
    pub rate_delivered: u32,
    pub rate_interval_us: u32,
    pub rate_app_limited: bool,
    /// Bytes a second (`sk_pacing_rate`); `u64::MAX` is unlimited.
    pub pacing_rate: u64,
    /// When the segment that is sent now may leave (`skb_mstamp_ns`), for fq.
    pub edt: Nanos,
    /// When the next departure is due (`tcp_wstamp_ns`).
    pub wstamp: Nanos,
    /// The high-resolution timers, 0 when off.
    pub pace_at: Nanos,
    pub comp_ack_at: Nanos,
    /// A device holds too much of this socket: go on when it gives some back (`TSQ_THROTTLED`).
    pub throttled: bool,
    /// Acknowledgements held back since the last one, and duplicates sent for the present RCV.NXT.
    pub compressed_ack: u8,
    pub dup_ack_counter: u8,
    pub compressed_ack_rcv_nxt: u32,
    pub chrono: Chrono,
    /// Since when a small piece waits for the acknowledgement of the one before (Nagle), milliseconds; 0: none does.
    pub nagle_ms: u32,
    /// Timeouts; episodes of them; when the present one began (0: none), and how long the earlier ones took.
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub timeout_rehash: u16,
    pub rto_stamp_ms: u32,
    pub total_rto_time_ms: u32,
    /// Segments known to have been marked on their way to the peer, and on their way here.
    pub delivered_ce: u32,
    pub received_ce: u32,
    /// RACK: D-SACKs widen the window for so many recoveries; `delivered` when it was widened last.
    pub reo_wnd_persist: u8,
    pub reo_last_delivered: u32,
    /// Second and third choice for the smallest round trip.
    pub min_rtt: Option<[Sample; 2]>,
}

impl Default for Track {
    fn default() -> Track {
        Track {
            delivered_us: 0,
            first_tx_us: 0,
            app_limited: u32::MAX,
            rate_delivered: 0,
            rate_interval_us: 0,
            rate_app_limited: true,
            pacing_rate: u64::MAX,
            edt: 0,
            wstamp: 0,
            pace_at: 0,
            comp_ack_at: 0,
            throttled: false,
            compressed_ack: 0,
            dup_ack_counter: 0,
            compressed_ack_rcv_nxt: 0,
            chrono: Chrono::default(),
            nagle_ms: 0,
            total_rto: 0,
            total_rto_recoveries: 0,
            timeout_rehash: 0,
            rto_stamp_ms: 0,
            total_rto_time_ms: 0,
            delivered_ce: 0,
            received_ce: 0,
            reo_wnd_persist: 0,
            reo_last_delivered: 0,
            min_rtt: None,
        }
    }
}

/// Why the connection is not faster, most telling reason last (`enum tcp_chrono`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Nothing to send.
    #[default]
    Idle,
    Busy,
    RwndLimited,
    SndbufLimited,
}

/// One stopwatch that is always on one reason (`tcp_chrono_set`); in ticks, as the kernel counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chrono {
    kind: Limit,
    start: Jiffies,
    /// Busy, receive-window limited, send-buffer limited.
    stat: [Jiffies; 3],
}

impl Chrono {
    fn set(&mut self, to: Limit, now: Jiffies) {
        if let Some(spent) = (self.kind as usize).checked_sub(1).and_then(|i| self.stat.get_mut(i)) {
            *spent = spent.wrapping_add(now.wrapping_sub(self.start));
        }
        (self.kind, self.start) = (to, now);
    }

    /// A more telling reason takes over.
    #[doc(alias = "tcp_chrono_start")]
    pub fn start(&mut self, kind: Limit, now: Jiffies) {
        if kind > self.kind {
            self.set(kind, now);
        }
    }

    /// `kind` is over: merely busy from now on, or idle when both queues are empty.
    #[doc(alias = "tcp_chrono_stop")]
    pub fn stop(&mut self, kind: Limit, empty: bool, now: Jiffies) {
        if empty {
            self.set(Limit::Idle, now);
        } else if kind == self.kind {
            self.set(Limit::Busy, now);
        }
    }

    /// Ticks busy for whatever reason, held up by the window, held up by the buffer.
    #[doc(alias = "tcp_get_info_chrono_stats")]
    pub fn read(&self, now: Jiffies) -> [u64; 3] {
        let mut at = *self;
        at.set(Limit::Idle, now);
        let [busy, rwnd, sndbuf] = at.stat.map(u64::from);
        [busy + rwnd + sndbuf, rwnd, sndbuf]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_reason_runs_and_all_count_as_busy() {
        let mut c = Chrono::default();
        c.start(Limit::Busy, 100);
        c.start(Limit::RwndLimited, 110);
        c.start(Limit::Busy, 115);
        c.stop(Limit::Busy, false, 120);
        assert_eq!(c.read(130), [30, 20, 0]);
        c.stop(Limit::RwndLimited, false, 130);
        c.start(Limit::SndbufLimited, 131);
        c.stop(Limit::SndbufLimited, true, 141);
        assert_eq!(c.read(1000), [41, 20, 10]);
    }
}
