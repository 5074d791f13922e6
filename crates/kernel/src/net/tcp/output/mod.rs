//! The send path of an established socket: what is queued goes out as far as windows and Nagle permit.
//!
//! `tcp_write_xmit` asks `permit.rs` for each piece, `segment.rs` cuts it, `transmit.rs` gives it a header and sends it
//! down; `retransmit.rs`, `probe.rs` and `ack.rs` are the other reasons to send.
pub mod ack;
pub mod collapse;
pub mod permit;
pub mod probe;
pub mod retransmit;
pub mod segment;
pub mod transmit;

use super::sock::{CaState, TcpSock, TxSeg, WriteTimer};
use super::track::Limit;
use super::{account, bounds, mem, mtup, pacing, reset_write_timer, setting};
use crate::ids::TcpId;
use crate::net::Net;

/// How a push treats a last small piece (`TCP_NAGLE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nagle {
    /// As the socket's options say.
    Default,
    /// Send it: TCP_NODELAY was just set, the socket is uncorked or closed.
    Push,
}

/// How much a run of [`tcp_write_xmit`] may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    All,
    /// One piece (`tcp_push_one`).
    One,
    /// One piece, even beyond the congestion window: a tail loss probe.
    Probe,
}

/// Sends as much as is permitted. True when there is unsent data and nothing in flight that could trigger more:
/// then the caller arms the zero-window probe.
pub fn tcp_write_xmit(sk: &mut TcpSock, net: &mut Net, id: TcpId, nagle: Nagle, push: Push) -> bool {
    let mss = segment::current_mss(sk, net);
    let max_segs = pacing::tso_segs(sk, net, mss);
    let mut sent = 0;
    if push == Push::All && sk.rare.is_some() {
        match mtup::probe(sk, net, id) {
            Some(true) => sent = 1,
            Some(false) => return false,
            None => {}
        }
    }
    (sk.flags.cwnd_limited, sk.flags.rwnd_limited) = (false, false);
    while sk.has_unsent() && !pacing::pacing_check(sk, net, id) {
        let quota = match (permit::cwnd_test(sk), push) {
            (0, Push::Probe) => 1,
            (0, _) => break,
            (n, _) => n.min(max_segs),
        };
        segment::grow(sk, quota.saturating_mul(mss));
        let Some(len) = permit::next_piece(sk, net, mss, nagle, quota, max_segs, push) else { break };
        let ix = sk.snd.sent;
        let Some(seg) = sk.snd.queue.get(ix) else { break };
        if len < seg.len() {
            segment::split(sk, ix, len);
        }
        let truesize = sk.snd.queue.get(ix).map_or(0, |s| s.truesize);
        if pacing::small_queue_check(sk, net, truesize, 0) || transmit::transmit_queued(sk, net, id, ix, mss).is_err() {
            break;
        }
        sent += sk.snd.queue.get(ix).map_or(1, TxSeg::pcount);
        event_new_data_sent(sk, net, id);
        if push != Push::All {
            break;
        }
    }
    chrono_rwnd(sk, net);
    let limited = sk.flags.cwnd_limited || sk.in_flight() >= sk.cong.cwnd;
    if sent > 0 || limited {
        permit::cwnd_validate(sk, net, limited);
    }
    if sent > 0 {
        if sk.loss.ca_state.in_reduction() {
            sk.loss.prr_out += sent;
        }
        if push != Push::Probe && sk.write_timer_kind != WriteTimer::ReoTimeout {
            probe::schedule_loss_probe(sk, net, id);
        }
        return false;
    }
    sk.snd.packets_out == 0 && sk.has_unsent()
}

/// The peer's window held something back, or no longer does.
fn chrono_rwnd(sk: &mut TcpSock, net: &Net) {
    let now = net.env.jiffies();
    let (limited, empty) = (sk.flags.rwnd_limited, sk.snd.queue.is_empty());
    match sk.track.as_deref_mut() {
        Some(t) if limited => t.chrono.start(Limit::RwndLimited, now),
        Some(t) => t.chrono.stop(Limit::RwndLimited, empty, now),
        None if limited => sk.track().chrono.start(Limit::RwndLimited, now),
        None => {}
    }
}

impl CaState {
    /// Congestion window reduction is under way (CWR or Recovery): PRR decides what goes out.
    pub fn in_reduction(self) -> bool {
        matches!(self, CaState::Cwr | CaState::Recovery)
    }
}

/// Books a piece that left for the first time.
#[doc(alias = "tcp_event_new_data_sent")]
pub(crate) fn event_new_data_sent(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let prior = sk.snd.packets_out;
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return };
    let (pcount, syn) = (seg.pcount(), seg.flags.contains(belljar_wire::tcp::Flags::SYN));
    sk.snd.nxt = seg.end_seq;
    sk.snd.sent += 1;
    sk.snd.packets_out += pcount;
    if sk.track.as_ref().is_some_and(|t| t.nagle_ms != 0) {
        account::nagle_over(sk, net);
    }
    // A SYN is no data.
    if !syn {
        net.add(sk.sk.ns, crate::net::mib::Mib::TcpExtTCPOrigDataSent, u64::from(pcount));
    }
    if prior == 0 || sk.write_timer_kind == WriteTimer::LossProbe {
        rearm_rto(sk, net, id);
    }
}

/// Restarts the retransmission timer from now, or for what is left of it after a probe; stops it when nothing is in flight
/// (RFC 6298 §5.1 to 5.3).
#[doc(alias = "tcp_rearm_rto")]
pub fn rearm_rto(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.fastopen_rsk().is_some() {
        // The timer stands for the SYN-ACK.
        return;
    }
    if sk.snd.packets_out == 0 {
        super::clear_write_timer(sk);
        return;
    }
    let mut rto = sk.rtt.backed_off(bounds(net, sk));
    if matches!(sk.write_timer_kind, WriteTimer::LossProbe | WriteTimer::ReoTimeout) {
        // The probe took part of the time: count from when the head was sent.
        let head = sk.snd.queue.front().map_or(0, |s| s.tx_us);
        let left = (head + u64::from(rto)).saturating_sub(net.env.now_us());
        rto = left.clamp(1, u64::from(rto)) as u32;
    }
    reset_write_timer(net, sk, id, WriteTimer::Retrans, rto);
}

/// Sends what may go, and arms the probe of a closed window when nothing could.
#[doc(alias = "__tcp_push_pending_frames")]
pub fn push_pending_frames(sk: &mut TcpSock, net: &mut Net, id: TcpId, nagle: Nagle) {
    if !sk.has_unsent() || sk.state == super::state::State::Close {
        return;
    }
    if tcp_write_xmit(sk, net, id, nagle, Push::All) {
        check_probe_timer(sk, net, id);
    }
}

/// The first unsent piece, if it may go.
#[doc(alias = "tcp_push_one")]
pub fn push_one(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    tcp_write_xmit(sk, net, id, Nagle::Push, Push::One);
}

/// `tcp_check_probe_timer`: data waits, nothing is in flight, no timer runs: probe the window.
pub fn check_probe_timer(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.snd.packets_out == 0 && sk.write_timer_kind == WriteTimer::None {
        let when = probe::probe0_base(sk, net);
        reset_write_timer(net, sk, id, WriteTimer::Probe0, when);
    }
}

/// After an ACK: new room may permit more.
#[doc(alias = "tcp_data_snd_check")]
pub fn data_snd_check(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.has_unsent() {
        push_pending_frames(sk, net, id, Nagle::Default);
    }
    check_space(sk, net, id);
}

/// Tells a writer that hit the full buffer when a third of it is free again.
#[doc(alias = "tcp_check_space")]
pub fn check_space(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.snd.nospace {
        if mem::plenty(net) && sk.in_flight() < sk.cong.cwnd {
            sndbuf_expand(sk, net);
            sk.cong.cwnd_stamp_us = net.env.now_us();
        }
        if super::poll::is_writeable(sk, net) {
            sk.snd.nospace = false;
            let (empty, now) = (sk.snd.queue.is_empty(), net.env.jiffies());
            if let Some(t) = sk.track.as_deref_mut() {
                t.chrono.stop(Limit::SndbufLimited, empty, now);
            }
            super::wake(net, sk, id, belljar_abi::POLLOUT | belljar_abi::POLLWRNORM);
        }
    }
}

/// Grows the send buffer with the window, unless the program fixed it.
#[doc(alias = "tcp_sndbuf_expand")]
pub fn sndbuf_expand(sk: &mut TcpSock, net: &Net) {
    use crate::net::core::skb::{SHARED_INFO, SKB_HEAD};
    use crate::net::core::sock::SOCK_SNDBUF_LOCK;
    /// Room for all headers (6.18, whose small heads are of 576 octets; kernels with wireless or tunnel devices keep 320).
    const MAX_TCP_HEADER: u32 = 256;
    if sk.sk.userlocks & SOCK_SNDBUF_LOCK != 0 {
        return;
    }
    let max = super::sysctl(net, sk).map_or(0, |s| s.tcp_wmem[2]) as u32;
    // The headers, skb_shared_info and sk_buff around the data, in the buffer that kmalloc would give.
    let mss = u32::from(sk.snd.mss_cache.max(sk.snd.mss_clamp));
    let per_mss = (mss + MAX_TCP_HEADER + SHARED_INFO as u32).next_power_of_two() + SKB_HEAD;
    let segs = sk.cong.cwnd.max(10).max(sk.loss.reordering + 1);
    // Fast recovery needs twice the window: what is in flight and what is sent meanwhile. BBR keeps a window more.
    let windows = if sk.cong.has_cong_control() { 3 } else { 2 };
    let want = u64::from(per_mss) * u64::from(segs) * windows;
    if want > u64::from(sk.sk.sndbuf) {
        sk.sk.sndbuf = want.min(u64::from(max)) as u32;
    }
}

/// Slow start after idle: the window decays by half for each timeout that passed (RFC 2861), not below the initial one.
#[doc(alias = "tcp_slow_start_after_idle_check")]
pub fn slow_start_after_idle_check(sk: &mut TcpSock, net: &Net) {
    let off = setting(net, sk, |s| s.tcp_slow_start_after_idle) == 0;
    if off || sk.snd.packets_out != 0 || sk.cong.has_cong_control() {
        return;
    }
    let idle = net.env.now_us().saturating_sub(sk.snd.last_us);
    if sk.snd.last_us == 0 || idle <= u64::from(sk.rtt.rto_us) {
        return;
    }
    let restart = 10u32.min(sk.cong.cwnd);
    let mut cwnd = sk.cong.cwnd;
    sk.cong.ssthresh = sk.cong.current_ssthresh();
    let mut left = idle;
    while left > u64::from(sk.rtt.rto_us) && cwnd > restart {
        left -= u64::from(sk.rtt.rto_us.max(1));
        cwnd >>= 1;
    }
    sk.cong.cwnd = cwnd.max(restart);
    sk.cong.cwnd_stamp_us = net.env.now_us();
    sk.cong.cwnd_used = 0;
}
