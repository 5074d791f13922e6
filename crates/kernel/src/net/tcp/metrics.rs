//! What is remembered of a peer from one connection to the next (Linux: `tcp_metrics.c`): the segment size and the cookie
//! of Fast Open. Round-trip times, thresholds and reordering are not kept.
use crate::env::Nanos;
use belljar_wire::tcp::FastOpenCookie;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// Peers remembered; the one unused for longest makes room.
pub const METRICS_MAX: usize = 1024;

/// `struct tcp_fastopen_metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastOpenMetrics {
    pub mss: u16,
    pub cookie: Option<FastOpenCookie>,
    /// Whether the experimental option comes next: 1 says yes, 2 that it was tried.
    pub try_exp: u8,
    used: Nanos,
}

/// By local and remote address.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    peers: BTreeMap<(Ipv4Addr, Ipv4Addr), FastOpenMetrics>,
}

impl Metrics {
    #[doc(alias = "tcp_fastopen_cache_get")]
    pub fn get(&self, local: Ipv4Addr, remote: Ipv4Addr) -> FastOpenMetrics {
        self.peers.get(&(local, remote)).copied().unwrap_or_default()
    }

    /// A cookie replaces the old one; without one the other form of the option may be tried next.
    #[doc(alias = "tcp_fastopen_cache_set")]
    pub fn set(
        &mut self,
        pair: (Ipv4Addr, Ipv4Addr),
        mss: u16,
        cookie: Option<FastOpenCookie>,
        try_exp: u8,
        now: Nanos,
    ) {
        if !self.peers.contains_key(&pair) && self.peers.len() >= METRICS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, m)| m.used).map(|(pair, _)| *pair);
            oldest.and_then(|pair| self.peers.remove(&pair));
        }
        let m = self.peers.entry(pair).or_default();
        m.used = now;
        if mss != 0 {
            m.mss = mss;
        }
        if cookie.is_some_and(|c| c.len > 0) {
            m.cookie = cookie;
        } else if try_exp > m.try_exp && m.cookie.is_none() {
            m.try_exp = try_exp;
        }
    }

    /// `ip tcp_metrics flush`.
    pub fn flush(&mut self) {
        self.peers.clear();
    }
}
