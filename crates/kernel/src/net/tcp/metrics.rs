//! What is remembered of a peer from one connection to the next (Linux: `tcp_metrics.c`): round trip, threshold, window,
//! reordering, and what Fast Open needs. A connection that ends leaves it, one that begins takes it.
//! What a route says is where they begin, and what it locks stays.
use super::cong::TCP_INFINITE_SSTHRESH;
use super::sock::{CaState, TcpSock};
use super::tables::Tuple;
use super::{bounds, sysctl};
use crate::env::{Nanos, SEC};
use crate::net::Net;
use crate::net::core::dst_metrics::{self, DstMetrics};
use belljar_abi::rtnetlink::*;
use belljar_wire::tcp::FastOpenCookie;
use core::net::IpAddr;

/// Local and remote address.
pub type Pair = (IpAddr, IpAddr);

const BUCKETS: usize = 256;
/// Peers of one bucket; the oldest makes room (TCP_METRICS_RECLAIM_DEPTH and the one that is added).
const DEPTH: usize = 6;
/// Numbers older than this are worth nothing (TCP_METRICS_TIMEOUT).
const TIMEOUT: Nanos = 3600 * SEC;
/// TCP_TIMEOUT_FALLBACK: nothing is known of a path whose SYN had to be sent again (RFC 6298 §5.7).
const TIMEOUT_FALLBACK_US: u32 = 3_000_000;

/// `struct tcp_fastopen_metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastOpenMetrics {
    pub mss: u16,
    pub cookie: Option<FastOpenCookie>,
    /// Whether the experimental option comes next: 1 says yes, 2 that it was tried.
    pub try_exp: u8,
}

/// `struct tcp_metrics_block`; 0 is "not known".
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub pair: Pair,
    /// When a connection last left something here.
    pub stamp: Nanos,
    /// Microseconds, eight times the round trip and four times its deviation, as the estimator keeps them.
    pub rtt_us: u32,
    pub rttvar_us: u32,
    pub ssthresh: u32,
    pub cwnd: u32,
    pub reordering: u32,
    /// `RTAX_*` of those that the route locks, as bits.
    pub lock: u32,
    pub tfo: FastOpenMetrics,
}

impl Metric {
    /// As the route has it.
    #[doc(alias = "tcpm_suck_dst")]
    fn new(pair: Pair, now: Nanos, route: &DstMetrics) -> Metric {
        Metric {
            pair,
            stamp: now,
            rtt_us: route.get(RTAX_RTT).saturating_mul(1000),
            rttvar_us: route.get(RTAX_RTTVAR).saturating_mul(1000),
            ssthresh: route.get(RTAX_SSTHRESH),
            cwnd: route.get(RTAX_CWND),
            reordering: route.get(RTAX_REORDERING),
            lock: route.get(RTAX_LOCK),
            tfo: FastOpenMetrics::default(),
        }
    }

    fn locked(&self, which: u16) -> bool {
        self.lock & 1 << which != 0
    }

    /// Old numbers go, the cookie stays (`tcpm_check_stamp`).
    fn check_stamp(&mut self, now: Nanos, route: &DstMetrics) {
        if now.saturating_sub(self.stamp) > TIMEOUT {
            *self = Metric { tfo: self.tfo, ..Metric::new(self.pair, now, route) };
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    buckets: Vec<Vec<Metric>>,
}

fn bucket_of(secret: [u64; 2], pair: Pair) -> usize {
    Tuple { laddr: pair.0, raddr: pair.1, lport: 0, rport: 0 }.hash(secret) as usize % BUCKETS
}

impl Metrics {
    /// What is known of a peer.
    #[doc(alias = "tcp_get_metrics")]
    pub fn get(&mut self, secret: [u64; 2], pair: Pair, now: Nanos, route: &DstMetrics) -> Option<&mut Metric> {
        let m = self.buckets.get_mut(bucket_of(secret, pair))?.iter_mut().find(|m| m.pair == pair)?;
        m.check_stamp(now, route);
        Some(m)
    }

    /// A place for a peer, which may be another's.
    #[doc(alias = "tcpm_new")]
    fn create(&mut self, secret: [u64; 2], pair: Pair, now: Nanos, route: &DstMetrics) -> Option<&mut Metric> {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, Vec::new());
        }
        let bucket = self.buckets.get_mut(bucket_of(secret, pair))?;
        let at = match bucket.iter().position(|m| m.pair == pair) {
            Some(at) => at,
            None if bucket.len() < DEPTH => {
                bucket.push(Metric::new(pair, now, route));
                bucket.len() - 1
            }
            None => {
                let oldest = (0..bucket.len()).min_by_key(|i| bucket.get(*i).map(|m| m.stamp))?;
                *bucket.get_mut(oldest)? = Metric::new(pair, now, route);
                oldest
            }
        };
        let m = bucket.get_mut(at)?;
        m.check_stamp(now, route);
        Some(m)
    }

    #[doc(alias = "tcp_fastopen_cache_get")]
    pub fn fastopen(&self, secret: [u64; 2], pair: Pair) -> FastOpenMetrics {
        let bucket = self.buckets.get(bucket_of(secret, pair));
        bucket.and_then(|b| b.iter().find(|m| m.pair == pair)).map(|m| m.tfo).unwrap_or_default()
    }

    /// A cookie replaces the old one; without one the other form of the option may be tried next.
    #[doc(alias = "tcp_fastopen_cache_set")]
    pub fn set_fastopen(
        &mut self,
        secret: [u64; 2],
        pair: Pair,
        mss: u16,
        cookie: Option<FastOpenCookie>,
        try_exp: u8,
        now: Nanos,
    ) {
        let Some(m) = self.create(secret, pair, now, &DstMetrics::default()) else { return };
        if mss != 0 {
            m.tfo.mss = mss;
        }
        if cookie.is_some_and(|c| c.len > 0) {
            m.tfo.cookie = cookie;
        } else if try_exp > m.tfo.try_exp && m.tfo.cookie.is_none() {
            m.tfo.try_exp = try_exp;
        }
    }

    /// All of them, by bucket.
    pub fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.buckets.iter().flatten()
    }

    /// `ip tcp_metrics flush`.
    pub fn flush(&mut self) {
        self.buckets.clear();
    }
}

/// Someone with this address has completed a connection and its round trip is known.
#[doc(alias = "tcp_peer_is_proven")]
pub fn peer_is_proven(m: &mut Metrics, secret: [u64; 2], pair: Pair, now: Nanos) -> bool {
    m.get(secret, pair, now, &DstMetrics::default()).is_some_and(|m| m.rtt_us != 0)
}

/// A connection begins: threshold and reordering of the last one, and a first timeout that fits its round trip.
#[doc(alias = "tcp_init_metrics")]
pub fn init_metrics(sk: &mut TcpSock, net: &mut Net) {
    sk.cong.ssthresh = TCP_INFINITE_SSTHRESH;
    let (pair, now, hz) = ((sk.sk.saddr, sk.sk.daddr), net.env.now, u64::from(net.env.hz.max(1)));
    let route = dst_metrics::of(net, sk.sk.ns, sk.dst.as_ref()).copied().unwrap_or_default();
    let known = sk.dst.and_then(|_| net.ns.get_mut(sk.sk.ns)).and_then(|n| {
        let ssthresh = n.sysctl.tcp_no_ssthresh_metrics_save == 0;
        n.tcp.metrics.get(n.secret, pair, now, &route).map(|m| (*m, ssthresh))
    });
    let mut crtt = 0;
    if let Some((m, ssthresh)) = known {
        if m.locked(RTAX_CWND) {
            sk.cong.cwnd_clamp = m.cwnd;
        }
        if ssthresh && m.ssthresh != 0 {
            sk.cong.ssthresh = m.ssthresh.min(sk.cong.cwnd_clamp);
        }
        if m.reordering != 0 {
            sk.loss.reordering = m.reordering;
        }
        crtt = m.rtt_us;
    }
    if crtt > sk.rtt.srtt_us {
        // Only the first timeout: the estimator begins with what the handshake measured.
        let tick_us = 1_000_000 / hz;
        let ticks = u64::from(crtt) / (8 * tick_us);
        let min = u64::from(bounds(net, sk).min_us).div_ceil(tick_us);
        sk.rtt.rto_us = ((ticks + (2 * ticks).max(min)) * tick_us).min(u64::from(u32::MAX)) as u32;
    } else if sk.rtt.srtt_us == 0 {
        let r = &mut sk.rtt;
        (r.rttvar_us, r.mdev_us, r.mdev_max_us) = (TIMEOUT_FALLBACK_US, TIMEOUT_FALLBACK_US, TIMEOUT_FALLBACK_US);
        r.rto_us = TIMEOUT_FALLBACK_US;
    }
}

/// A connection ends well: what it learnt is kept, carefully.
#[doc(alias = "tcp_update_metrics")]
pub fn update_metrics(sk: &TcpSock, net: &mut Net) {
    if sk.dst.is_none() || sysctl(net, sk).is_none_or(|s| s.tcp_no_metrics_save != 0) {
        return;
    }
    let (pair, now) = ((sk.sk.saddr, sk.sk.daddr), net.env.now);
    let route = dst_metrics::of(net, sk.sk.ns, sk.dst.as_ref()).copied().unwrap_or_default();
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    if sk.rtt.backoff != 0 || sk.rtt.srtt_us == 0 {
        // It could not measure: perhaps the path is not what it was.
        if let Some(m) = n.tcp.metrics.get(n.secret, pair, now, &route).filter(|m| !m.locked(RTAX_RTT)) {
            m.rtt_us = 0;
        }
        return;
    }
    let save_ssthresh = n.sysctl.tcp_no_ssthresh_metrics_save == 0;
    let default_reordering = n.sysctl.tcp_reordering;
    let Some(m) = n.tcp.metrics.create(n.secret, pair, now, &route) else { return };
    save_rtt(m, sk);
    save_window(m, sk, save_ssthresh, default_reordering);
    m.stamp = now;
}

/// A longer round trip counts at once, a shorter one by an eighth: too long a timeout hurts less than too short a one.
fn save_rtt(m: &mut Metric, sk: &TcpSock) {
    let behind = i64::from(m.rtt_us) - i64::from(sk.rtt.srtt_us);
    if !m.locked(RTAX_RTT) {
        m.rtt_us = if behind <= 0 { sk.rtt.srtt_us } else { m.rtt_us - (behind >> 3) as u32 };
    }
    if m.locked(RTAX_RTTVAR) {
        return;
    }
    let deviation = (behind.unsigned_abs() >> 1).max(u64::from(sk.rtt.mdev_us)).min(u64::from(u32::MAX)) as u32;
    m.rttvar_us = match deviation >= m.rttvar_us {
        true => deviation,
        false => m.rttvar_us - ((m.rttvar_us - deviation) >> 2),
    };
}

fn save_window(m: &mut Metric, sk: &TcpSock, save_ssthresh: bool, default_reordering: u32) {
    let (cwnd, ssthresh) = (sk.cong.cwnd, sk.cong.ssthresh);
    let save_ssthresh = save_ssthresh && !m.locked(RTAX_SSTHRESH);
    let before = m.cwnd;
    if ssthresh >= TCP_INFINITE_SSTHRESH {
        // Still in the first slow start: the window has been at least this.
        if save_ssthresh && m.ssthresh != 0 && cwnd >> 1 > m.ssthresh {
            m.ssthresh = cwnd >> 1;
        }
        m.cwnd = m.cwnd.max(cwnd);
    } else if cwnd >= ssthresh && sk.loss.ca_state == CaState::Open {
        if save_ssthresh {
            m.ssthresh = (cwnd >> 1).max(ssthresh);
        }
        m.cwnd = m.cwnd.saturating_add(cwnd) >> 1;
    } else {
        // A slow start that did not end, or trouble: the window says nothing.
        m.cwnd = m.cwnd.saturating_add(ssthresh) >> 1;
        if save_ssthresh && m.ssthresh != 0 && ssthresh > m.ssthresh {
            m.ssthresh = ssthresh;
        }
        if !m.locked(RTAX_REORDERING) && m.reordering < sk.loss.reordering && sk.loss.reordering != default_reordering {
            m.reordering = sk.loss.reordering;
        }
    }
    if m.locked(RTAX_CWND) {
        m.cwnd = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_six_and_the_oldest_goes() {
        let (mut all, key, none) = (Metrics::default(), [7, 9], DstMetrics::default());
        let peer = |n: u32| (IpAddr::from([127, 0, 0, 1]), IpAddr::from(n.to_be_bytes()));
        for n in 0..100_000u32 {
            if let Some(m) = all.create(key, peer(n), u64::from(n), &none) {
                m.rtt_us = n + 1;
            }
        }
        assert!(all.iter().count() <= BUCKETS * DEPTH);
        assert!(
            peer_is_proven(&mut all, key, peer(99_999), 100_000) && !peer_is_proven(&mut all, key, peer(0), 100_000)
        );
        all.set_fastopen(key, peer(99_999), 1460, None, 1, 100_000);
        // An hour later only what Fast Open keeps is left.
        let later = all.get(key, peer(99_999), TIMEOUT + 200_000, &none).map(|m| (m.rtt_us, m.tfo.mss, m.tfo.try_exp));
        assert_eq!(later, Some((0, 1460, 1)));
        all.flush();
        assert_eq!(all.iter().count(), 0);
    }
}
