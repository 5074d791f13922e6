//! Congestion control: the algorithm sees events and a clock, never the socket.

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
    pub max_packets_out: u32,
    pub cwnd_usage_seq: u32,
    pub algo: Algo,
}

#[derive(Clone, Debug)]
pub enum Algo {
    Reno,
}
