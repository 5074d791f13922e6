//! Delivery rate (draft-cheng-iccrg-delivery-rate-estimation; Linux: `tcp_rate.c`): how fast segments arrive at the peer,
//! measured between the sending of a segment and its acknowledgement, by the slower of both clocks.
use super::seq::after;
use super::sock::{TcpSock, TxSeg};
use super::track::Track;

/// What one acknowledgement says.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateSample {
    /// When and with what count delivered the sampled segment left; 0 when nothing was delivered.
    pub prior_us: u64,
    pub prior_delivered: u32,
    /// Segments delivered over `interval_us`; both negative when there is no sample.
    pub delivered: i64,
    pub interval_us: i64,
    /// Round trip of the newest segment, negative when unknown.
    pub rtt_us: i64,
    pub acked_sacked: u32,
    pub losses: u32,
    pub prior_in_flight: u32,
    pub last_end_seq: u32,
    pub is_app_limited: bool,
    /// The round trip is probably that of a delayed acknowledgement.
    pub is_ack_delayed: bool,
    /// Something was delivered that was not counted before.
    pub sampled: bool,
}

/// A piece leaves, for the first time or again: it carries what was known then.
#[doc(alias = "tcp_rate_skb_sent")]
pub fn skb_sent(t: &mut Track, nothing_out: bool, delivered: u32, seg: &mut TxSeg) {
    if nothing_out {
        // The flight begins: the time before was no delivery.
        (t.first_tx_us, t.delivered_us) = (seg.tx_us, seg.tx_us);
    }
    (seg.first_tx_us, seg.delivered_us, seg.delivered) = (t.first_tx_us, t.delivered_us, delivered);
    seg.app_limited = t.app_limited != 0;
}

/// A piece arrived at the peer: the one sent last makes the sample.
#[doc(alias = "tcp_rate_skb_delivered")]
pub fn skb_delivered(t: &mut Track, seg: &mut TxSeg, rs: &mut RateSample) {
    // Counted before, when it was SACKed.
    if seg.delivered_us == 0 {
        return;
    }
    let newer = seg.tx_us > t.first_tx_us || (seg.tx_us == t.first_tx_us && after(seg.end_seq, rs.last_end_seq));
    if !rs.sampled || newer {
        rs.sampled = true;
        (rs.prior_delivered, rs.prior_us) = (seg.delivered, seg.delivered_us);
        (rs.is_app_limited, rs.last_end_seq) = (seg.app_limited, seg.end_seq);
        t.first_tx_us = seg.tx_us;
        rs.interval_us = seg.tx_us.saturating_sub(seg.first_tx_us) as i64;
    }
    seg.delivered_us = 0;
}

/// All of an acknowledgement is known: completes the sample and keeps it if it tells something.
#[doc(alias = "tcp_rate_gen")]
pub fn generate(t: &mut Track, rs: &mut RateSample, now_us: u64, total: u32, min_rtt_us: u32, reneg: bool) {
    // The bubble that the idle program left behind has been delivered.
    if t.app_limited != 0 && after(total, t.app_limited) {
        t.app_limited = 0;
    }
    if rs.acked_sacked > 0 {
        t.delivered_us = now_us;
    }
    if rs.prior_us == 0 || reneg {
        (rs.delivered, rs.interval_us) = (-1, -1);
        return;
    }
    rs.delivered = i64::from(total.wrapping_sub(rs.prior_delivered));
    rs.interval_us = rs.interval_us.max(now_us.saturating_sub(rs.prior_us) as i64);
    // Faster than the path can be: acknowledgements of a retransmission and its original, or a lie.
    if rs.interval_us < i64::from(min_rtt_us) || min_rtt_us == u32::MAX {
        rs.interval_us = -1;
        return;
    }
    let (delivered, interval) = (rs.delivered as u64, rs.interval_us as u64);
    let better = delivered * u64::from(t.rate_interval_us) >= u64::from(t.rate_delivered) * interval;
    if !rs.is_app_limited || better {
        t.rate_delivered = delivered as u32;
        t.rate_interval_us = interval.min(u64::from(u32::MAX)) as u32;
        t.rate_app_limited = rs.is_app_limited;
    }
}

/// The program leaves room that the network would fill: samples from here on say more about it than about the path.
#[doc(alias = "tcp_rate_check_app_limited")]
pub fn check_app_limited(sk: &mut TcpSock) {
    let s = &sk.snd;
    let idle = s.write_seq.wrapping_sub(s.nxt) < u32::from(s.mss_cache)
        && sk.sk.wmem_alloc < crate::net::core::skb::truesize(1)
        && sk.in_flight() < sk.cong.cwnd
        && s.lost_out <= s.retrans_out;
    let mark = sk.loss.delivered.wrapping_add(sk.in_flight()).max(1);
    // Before the first data it is bounded anyhow.
    if let Some(t) = sk.track.as_deref_mut().filter(|_| idle) {
        t.app_limited = mark;
    }
}

/// Bytes a second (`tcp_compute_delivery_rate`).
pub fn delivery_rate(t: &Track, mss: u16) -> u64 {
    match t.rate_interval_us {
        0 => 0,
        us => u64::from(t.rate_delivered) * u64::from(mss) * 1_000_000 / u64::from(us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::tcp::Flags;

    fn piece(seq: u32, tx_us: u64) -> TxSeg {
        TxSeg { tx_us, ..TxSeg::new(seq, vec![0; 1000].into(), Flags::NONE) }
    }

    #[test]
    fn ten_segments_a_round_trip() {
        let mut t = Track { app_limited: 0, ..Track::default() };
        let mut out: Vec<TxSeg> = (0..10).map(|i| piece(i * 1000, 1_000 + u64::from(i) * 100)).collect();
        out.iter_mut().enumerate().for_each(|(i, s)| skb_sent(&mut t, i == 0, 0, s));
        // One acknowledgement for all, 10 ms after the first left: 10 segments in 10 ms.
        let mut rs = RateSample { acked_sacked: 10, ..Default::default() };
        out.iter_mut().for_each(|s| skb_delivered(&mut t, s, &mut rs));
        generate(&mut t, &mut rs, 11_000, 10, 9_000, false);
        assert_eq!((rs.delivered, rs.interval_us, t.rate_app_limited), (10, 10_000, false));
        assert_eq!(delivery_rate(&t, 1000), 1_000_000);
        assert!(t.first_tx_us == 1_900 && out.iter().all(|s| s.delivered_us == 0));
    }

    #[test]
    fn an_application_limited_sample_counts_only_when_it_is_better() {
        let mut t = Track { rate_delivered: 10, rate_interval_us: 10_000, app_limited: 5, ..Track::default() };
        let mut sample = |delivered: u32, us: u64| {
            let mut s = piece(0, 5_000);
            skb_sent(&mut t, true, 0, &mut s);
            let mut rs = RateSample { acked_sacked: 1, ..Default::default() };
            skb_delivered(&mut t, &mut s, &mut rs);
            generate(&mut t, &mut rs, 5_000 + us, delivered, 100, false);
            (t.rate_delivered, t.rate_app_limited)
        };
        assert_eq!(sample(3, 10_000), (10, true));
        assert_eq!(sample(4, 2_000), (4, true));
        // Below the path's smallest round trip it is not believed.
        assert_eq!(sample(5, 50), (4, true));
    }
}
