//! Reno (RFC 5681): one segment per round trip, half the window after a loss.

/// Half of what was in flight, at least two segments.
#[doc(alias = "tcp_reno_ssthresh")]
pub fn ssthresh(cwnd: u32) -> u32 {
    (cwnd >> 1).max(2)
}
