//! How fast and in what pieces: the pacing rate, departures spread by a timer, super-segments sized to a millisecond, and
//! small queues below TCP (Linux: `tcp_update_pacing_rate`, `tcp_pacing_check`, `tcp_tso_autosize`, TSQ).
//!
//! The timer runs only when the congestion control or SO_MAX_PACING_RATE asks; the rate is computed for all, because it
//! sizes super-segments.
use super::cong::Algo;
use super::cong::bbr::Flow;
use super::output::{self, retransmit};
use super::rate::RateSample;
use super::sock::*;
use super::state::State;
use super::track::Track;
use super::{inc, setting, sysctl};
use crate::env::{SEC, TimerKey, USEC};
use crate::ids::TcpId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::mib::Mib;

/// Bursts are what this fraction (1/1024) of a second carries (`sk_pacing_shift`).
const PACING_SHIFT: u32 = 10;
/// A device that merges sends super-segments of this size whatever the rate, on a path this short (`gso_max_size`).
const GSO_MAX_SIZE: u64 = 65_536;
/// The first flight is not paced.
const UNPACED_SEGS: u32 = 10;

/// SO_MAX_PACING_RATE, bytes a second.
pub fn max_pacing_rate(sk: &TcpSock) -> u64 {
    sk.sk.cold.as_ref().and_then(|c| c.max_pacing_rate).unwrap_or(u64::MAX)
}

/// Bytes a second: the window per round trip, twice that while slow start has far to go (tcp_pacing_ss_ratio), else 1.2
/// times (tcp_pacing_ca_ratio).
#[doc(alias = "tcp_update_pacing_rate")]
pub fn window_rate(sk: &TcpSock, net: &Net) -> u64 {
    let (ss, ca) = sysctl(net, sk).map_or((200, 120), |s| (s.tcp_pacing_ss_ratio, s.tcp_pacing_ca_ratio));
    let percent = if sk.cong.cwnd < sk.cong.ssthresh / 2 { ss } else { ca };
    let window = u64::from(sk.cong.cwnd.max(sk.snd.packets_out));
    let rate = u64::from(sk.snd.mss_cache) * window * u64::from(percent) * (1_000_000 / 100 * 8);
    (rate / u64::from(sk.rtt.srtt_us.max(1))).min(max_pacing_rate(sk))
}

/// The present rate: what was set last, or what would be set now; unlimited before the first round trip.
pub fn pacing_rate(sk: &TcpSock, net: &Net) -> u64 {
    match sk.track.as_deref() {
        Some(t) if t.pacing_rate != u64::MAX => t.pacing_rate,
        _ if sk.rtt.srtt_us == 0 => max_pacing_rate(sk),
        _ => window_rate(sk, net),
    }
}

/// After an acknowledgement: window and rate by the algorithm that sets both (`ca_ops->cong_control`).
pub fn cong_control(sk: &mut TcpSock, net: &mut Net, rs: &RateSample) {
    with_flow(sk, net, |algo, f| {
        if let Algo::Bbr(Some(b)) = algo {
            b.cong_control(f, rs);
        }
    });
}

/// Sending resumes with nothing in flight (`CA_EVENT_TX_START`).
pub fn tx_start(sk: &mut TcpSock, net: &mut Net) {
    sk.cong.tx_start(net.env.now_us(), sk.snd.last_us);
    if sk.cong.has_cong_control() {
        with_flow(sk, net, |algo, f| {
            if let Algo::Bbr(Some(b)) = algo {
                b.tx_start(f);
            }
        });
    }
}

/// A retransmission timeout (`set_state` with TCP_CA_Loss).
pub fn on_loss(sk: &mut TcpSock, net: &mut Net) {
    sk.cong.on_loss();
    if sk.cong.has_cong_control() {
        with_flow(sk, net, |algo, f| {
            if let Algo::Bbr(Some(b)) = algo {
                b.on_loss(f);
            }
        });
    }
}

/// The reduction was undone (`ca_ops->undo_cwnd`).
pub fn on_undo(sk: &mut TcpSock, net: &mut Net) {
    if sk.cong.has_cong_control() {
        with_flow(sk, net, |algo, f| {
            if let Algo::Bbr(Some(b)) = algo {
                b.undo(f);
            }
        });
    }
}

/// The connection is established or its algorithm was changed.
#[doc(alias = "tcp_init_congestion_control")]
pub fn init(sk: &mut TcpSock, net: &mut Net) {
    match sk.cong.algo {
        Algo::Bbr(_) => {
            sk.flags.pacing = true;
            with_flow(sk, net, |algo, f| {
                *algo = Algo::Bbr(Some(Box::new(super::cong::bbr::Bbr::new(f))));
            });
        }
        Algo::Cubic(ref mut c) => *c = None,
        Algo::Reno => {}
    }
}

/// Lends the connection to the algorithm, and takes over what it changed.
fn with_flow(sk: &mut TcpSock, net: &mut Net, f: impl FnOnce(&mut Algo, &mut Flow<'_>)) {
    let now = net.env.now;
    let (pacing, max) = (pacing_rate(sk, net), max_pacing_rate(sk));
    let (delivered_us, app_limited, wstamp) = match sk.track.as_deref() {
        Some(t) => (t.delivered_us, t.app_limited, t.wstamp),
        None => (net.env.now_us(), u32::MAX, 0),
    };
    let mut flow = Flow {
        cwnd: sk.cong.cwnd,
        cwnd_clamp: sk.cong.cwnd_clamp,
        ssthresh: sk.cong.ssthresh,
        pacing_rate: pacing,
        max_pacing_rate: max,
        app_limited,
        now_us: net.env.now_us(),
        edt_us: wstamp.saturating_sub(now) / USEC,
        mss: u32::from(sk.snd.mss_cache),
        delivered: sk.loss.delivered,
        delivered_us,
        lost: sk.loss.lost,
        in_flight: sk.in_flight(),
        srtt_us: sk.rtt.srtt_us,
        min_rtt_us: sk.rtt.min_us,
        ca_state: sk.loss.ca_state,
        rng: &mut net.env.rng,
    };
    f(&mut sk.cong.algo, &mut flow);
    let Flow { cwnd, ssthresh, pacing_rate, app_limited, .. } = flow;
    (sk.cong.cwnd, sk.cong.ssthresh) = (cwnd, ssthresh);
    let t = sk.track();
    (t.pacing_rate, t.app_limited) = (pacing_rate, app_limited);
}

/// The algorithm sets no rate: it follows from the window.
pub fn update_pacing_rate(sk: &mut TcpSock, net: &Net) {
    if sk.track.is_some() {
        let rate = window_rate(sk, net);
        sk.track().pacing_rate = rate;
    }
}

/// Must the next departure wait? Then the timer is set (`tcp_pacing_check`).
pub fn pacing_check(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    if !sk.flags.pacing || sk.flags.pacing_fq {
        return false;
    }
    let now = net.env.now;
    let Some(t) = sk.track.as_deref_mut().filter(|t| t.wstamp > now) else { return false };
    if t.pace_at == 0 {
        t.pace_at = t.wstamp;
        net.env.hrtimers.insert((t.pace_at, TimerKey::TcpPace(id)));
    }
    true
}

/// A piece of `len` bytes departed: the next one is due when the rate has carried it. A late departure is made up for by
/// half at most.
#[doc(alias = "tcp_update_skb_after_send")]
pub fn departed(t: &mut Track, data_segs_out: u32, now: u64, len: u32) {
    let prior = t.wstamp;
    t.wstamp = t.wstamp.max(now);
    let rate = t.pacing_rate;
    if rate == u64::MAX || rate == 0 || data_segs_out < UNPACED_SEGS {
        return;
    }
    let ns = u64::from(len) * SEC / rate;
    t.wstamp += ns - (ns / 2).min(t.wstamp - prior);
}

/// From now on fq keeps the departure times; what waited for the timer may go.
pub fn by_fq(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    (sk.flags.pacing, sk.flags.pacing_fq) = (true, true);
    if let Some(t) = sk.track.as_deref_mut().filter(|t| t.pace_at != 0) {
        cancel(net, &mut t.pace_at, TimerKey::TcpPace(id));
        tsq_write(sk, net, id);
    }
}

/// Takes a high-resolution timer off, if it is on.
pub fn cancel(net: &mut Net, at: &mut u64, key: TimerKey) {
    if *at != 0 {
        net.env.hrtimers.remove(&(*at, key));
        *at = 0;
    }
}

/// No timer of the box runs after the connection's end.
pub fn cancel_timers(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if let Some(t) = sk.track.as_deref_mut() {
        cancel(net, &mut t.pace_at, TimerKey::TcpPace(id));
        cancel(net, &mut t.comp_ack_at, TimerKey::TcpCompressedAck(id));
        t.compressed_ack = 0;
    }
}

/// The departure time came.
#[doc(alias = "tcp_pace_kick")]
pub fn pace_timer(k: &mut Kernel, id: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    match sk.track.as_deref_mut() {
        Some(t) if t.pace_at != 0 && t.pace_at <= net.env.now => t.pace_at = 0,
        _ => return,
    }
    tsq_write(sk, net, id);
}

/// What waited for a departure time or for room below goes on.
#[doc(alias = "tcp_tsq_write")]
pub fn tsq_write(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let sending = [State::Established, State::FinWait1, State::Closing, State::CloseWait, State::LastAck];
    if !sk.state.is(&sending) {
        return;
    }
    if sk.snd.lost_out > sk.snd.retrans_out && sk.cong.cwnd > sk.in_flight() {
        retransmit::xmit_retransmit_queue(sk, net, id);
    }
    output::tcp_write_xmit(sk, net, id, output::Nagle::Default, output::Push::All);
}

/// Most segments of one super-segment: a millisecond's worth, more on a short path, at least tcp_min_tso_segs.
#[doc(alias = "tcp_tso_autosize")]
pub fn tso_segs(sk: &TcpSock, net: &Net, mss: u32) -> u32 {
    if super::md5sig::own(sk).is_some() {
        // Each segment is signed by itself.
        return 1;
    }
    let rate = pacing_rate(sk, net);
    let min = match sk.cong.has_cong_control() {
        true => super::cong::bbr::Bbr::min_tso_segs(rate),
        false => setting(net, sk, |s| s.tcp_min_tso_segs),
    };
    let mut bytes = rate >> PACING_SHIFT;
    let short = sk.rtt.min_us >> setting(net, sk, |s| s.tcp_tso_rtt_log).min(31);
    if short < u32::BITS {
        bytes = bytes.saturating_add(GSO_MAX_SIZE >> short);
    }
    let most = u64::from(output::permit::GSO_MAX_PAYLOAD);
    ((bytes.min(most) / u64::from(mss.max(1))) as u32).max(min).max(1)
}

/// Do devices below hold so much of this socket that more would only make a queue? Then it waits until some is freed.
#[doc(alias = "tcp_small_queue_check")]
pub fn small_queue_check(sk: &mut TcpSock, net: &Net, truesize: u32, factor: u32) -> bool {
    let wmem = u64::from(sk.sk.wmem_alloc);
    if wmem <= 2 * u64::from(truesize) {
        return false;
    }
    let mut limit = (2 * u64::from(truesize)).max(pacing_rate(sk, net) >> PACING_SHIFT);
    if !sk.flags.pacing {
        limit = limit.min(u64::from(setting(net, sk, |s| s.tcp_limit_output_bytes as u32)));
    }
    // With one piece in flight or none nothing would come back to wake it.
    if wmem <= limit << factor || sk.snd.sent <= 1 {
        return false;
    }
    sk.track().throttled = true;
    true
}

/// Is a small last piece better kept until devices have sent the ones before it? What is written meanwhile joins it.
#[doc(alias = "tcp_should_autocork")]
pub fn autocork(sk: &mut TcpSock, net: &mut Net, goal: u32) -> bool {
    let Some(last) = sk.snd.queue.back() else { return false };
    let below = sk.sk.wmem_alloc > last.truesize;
    if !below || last.len() >= goal || last.eor || sk.snd.sent == 0 || setting(net, sk, |s| s.tcp_autocorking) == 0 {
        return false;
    }
    if !std::mem::replace(&mut sk.track().throttled, true) {
        inc(net, sk, Mib::TcpExtTCPAutoCorking);
    }
    true
}

/// A device gave memory back (`tcp_wfree`).
pub fn wfree(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if let Some(t) = sk.track.as_deref_mut()
        && std::mem::take(&mut t.throttled)
    {
        tsq_write(sk, net, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departures_keep_the_rate_and_make_up_for_half_of_a_delay() {
        let mut t = Track { pacing_rate: 1_000_000, ..Track::default() };
        departed(&mut t, 9, 1000, 1000);
        assert_eq!(t.wstamp, 1000);
        departed(&mut t, 10, 1000, 1000);
        assert_eq!(t.wstamp, 1000 + 1_000_000);
        // 200 µs late: a credit. 10 ms late: half a departure.
        departed(&mut t, 11, 1000 + 1_200_000, 1000);
        assert_eq!(t.wstamp, 1000 + 1_200_000 + 800_000);
        departed(&mut t, 12, 12_001_000, 1000);
        assert_eq!(t.wstamp, 12_001_000 + 500_000);
        t.pacing_rate = u64::MAX;
        departed(&mut t, 13, 20_000_000, 1000);
        assert_eq!(t.wstamp, 20_000_000);
    }
}
