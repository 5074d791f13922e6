//! Softirqs: NET_RX, NET_TX, TIMER; budget, restarts, ksoftirqd.

#[derive(Clone, Debug, Default)]
pub struct Cpu {}
