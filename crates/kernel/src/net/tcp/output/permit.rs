//! May the next piece go, and how much of it: congestion window, peer's window, Nagle and cork, deferral of small
//! super-segments. No side effects but notes about what limited us.
use super::{Nagle, Push};
use crate::net::Net;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::setting;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::state::State;
use crate::net::tcp::track::Limit;
use crate::net::tcp::urgent;
use belljar_wire::tcp::Flags;

/// Most payload of one super-segment: the IP packet must not exceed 65,535 bytes.
pub const GSO_MAX_PAYLOAD: u32 = 65_535 - 20 - 60;

/// Bytes of the first unsent piece that may go now, or `None`; at most `quota` segments of it.
pub fn next_piece(
    sk: &mut TcpSock,
    net: &Net,
    mss: u32,
    nagle: Nagle,
    quota: u32,
    max_segs: u32,
    push: Push,
) -> Option<u32> {
    if !snd_wnd_test(sk, mss) {
        sk.flags.rwnd_limited = true;
        return None;
    }
    let seg = sk.snd.queue.get(sk.snd.sent)?;
    let (len, seq) = (seg.len(), seg.seq);
    let last = sk.snd.sent + 1 == sk.snd.queue.len();
    let held = last && nagle == Nagle::Default && !nagle_test(sk, mss);
    if len <= mss {
        if len != mss && held {
            note_nagle(sk, net);
            return None;
        }
        return Some(len);
    }
    if urgent::snd_up(sk).is_some() {
        // One by one, each with a pointer of its own.
        return Some(mss);
    }
    if push == Push::All && tso_should_defer(sk, net, mss, max_segs) {
        return None;
    }
    // As much as both windows allow, in whole segments unless it is the end of the data (`tcp_mss_split_point`).
    let window = sk.wnd_end().wrapping_sub(seq);
    let most = quota.saturating_mul(mss).min(GSO_MAX_PAYLOAD / mss * mss).max(mss);
    if most <= len.min(window) {
        return Some(most);
    }
    let needed = len.min(window);
    let partial = needed % mss;
    // The small tail waits for its acknowledgement like any small piece.
    let wait = partial != 0 && (held || (needed < len && nagle == Nagle::Default && small_waits(sk)));
    Some(if wait && needed > partial { needed - partial } else { needed })
}

/// For the account: when the wait began. A cork is the program's own wish.
fn note_nagle(sk: &mut TcpSock, net: &Net) {
    if sk.flags.cork {
        return;
    }
    let now = net.env.now_ms().max(1);
    if let Some(t) = sk.track.as_deref_mut().filter(|t| t.nagle_ms == 0) {
        t.nagle_ms = now;
    }
}

/// Segments the congestion window has room for, at most half of it at once: the other half goes when this was
/// acknowledged.
#[doc(alias = "tcp_cwnd_test")]
pub fn cwnd_test(sk: &TcpSock) -> u32 {
    sk.cong.cwnd.saturating_sub(sk.in_flight()).min((sk.cong.cwnd >> 1).max(1))
}

/// Does the peer's window take the first segment of the next piece whole (`tcp_snd_wnd_test`)? What does not fit waits for
/// more window, or for the probe, which takes what there is (RFC 1122 §4.2.3.4).
pub fn snd_wnd_test(sk: &TcpSock, mss: u32) -> bool {
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return false };
    let end = if seg.len() > mss { seg.seq.wrapping_add(mss) } else { seg.end_seq };
    !after(end, sk.wnd_end())
}

/// May a piece smaller than a segment go (RFC 896 in Minshall's form: only one small segment in flight)?
#[doc(alias = "tcp_nagle_test")]
pub fn nagle_test(sk: &TcpSock, _mss: u32) -> bool {
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return true };
    if seg.flags.contains(Flags::FIN) || urgent::snd_up(sk).is_some() {
        return true;
    }
    if sk.flags.cork {
        return false;
    }
    if sk.flags.nodelay {
        return true;
    }
    !small_waits(sk)
}

/// Nagle without NODELAY or cork: something small is in flight already (`tcp_minshall_check`).
fn small_waits(sk: &TcpSock) -> bool {
    let small_in_flight = after(sk.snd.sml, sk.snd.una) && !after(sk.snd.sml, sk.snd.nxt);
    !sk.flags.nodelay && sk.snd.packets_out != 0 && small_in_flight
}

/// Wait for more room before sending a shortened super-segment: soon an acknowledgement will make it.
#[doc(alias = "tcp_tso_should_defer")]
fn tso_should_defer(sk: &mut TcpSock, net: &Net, mss: u32, max_segs: u32) -> bool {
    const MS_US: u64 = 1000;
    if sk.loss.ca_state >= crate::net::tcp::sock::CaState::Recovery {
        return false;
    }
    let now = net.env.now_us();
    // Only what was written right after something was sent: an idle connection sends at once.
    if now > sk.snd.last_us + MS_US {
        return false;
    }
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return false };
    let (len, fin_or_eor) = (seg.len(), seg.flags.contains(Flags::FIN) || seg.eor);
    let send_win = sk.wnd_end().wrapping_sub(seg.seq);
    let cong_win = sk.cong.cwnd.saturating_sub(sk.in_flight()).saturating_mul(mss);
    let limit = send_win.min(cong_win);
    let last = sk.snd.sent + 1 == sk.snd.queue.len();
    if limit >= max_segs.saturating_mul(mss) || (!last && limit >= len) {
        return false;
    }
    let divisor = setting(net, sk, |s| s.tcp_tso_win_divisor);
    let enough = match divisor {
        0 => limit > 3 * mss,
        d => limit >= sk.snd.wnd.min(sk.cong.cwnd.saturating_mul(mss)) / d,
    };
    if enough {
        return false;
    }
    let Some(head) = sk.snd.queue.front().filter(|_| sk.snd.sent > 0) else { return false };
    // An acknowledgement that is far away is not waited for.
    let srtt = u64::from(sk.rtt.srtt_us >> 3);
    if (head.tx_us + srtt).saturating_sub(now) > (srtt >> 1).min(MS_US) {
        return false;
    }
    if cong_win < send_win && cong_win <= len {
        sk.flags.cwnd_limited = true;
        return true;
    }
    if cong_win >= send_win && send_win <= len {
        sk.flags.rwnd_limited = true;
        return true;
    }
    !fin_or_eor
}

/// Notes how much of the congestion window was used, so that an idle window does not grow (RFC 2861, RFC 7661 in spirit).
#[doc(alias = "tcp_cwnd_validate")]
pub fn cwnd_validate(sk: &mut TcpSock, net: &Net, limited: bool) {
    let now = net.env.now_us();
    let c = &mut sk.cong;
    if !before(sk.snd.una, c.cwnd_usage_seq) || limited || (!c.cwnd_limited && sk.snd.packets_out > c.max_packets_out) {
        c.max_packets_out = sk.snd.packets_out;
        c.cwnd_usage_seq = sk.snd.nxt;
        c.cwnd_limited = limited;
    }
    if c.is_cwnd_limited() {
        c.cwnd_used = 0;
        c.cwnd_stamp_us = now;
        return;
    }
    c.cwnd_used = c.cwnd_used.max(sk.snd.packets_out);
    let stale = now.saturating_sub(c.cwnd_stamp_us) >= u64::from(sk.rtt.rto_us);
    if stale && !c.has_cong_control() && setting(net, sk, |s| s.tcp_slow_start_after_idle) != 0 {
        application_limited(sk, now);
    }
    // All is sent and the window is open: what is missing is room for the program to write.
    if !sk.has_unsent() && sk.snd.nospace && sk.state.is(&[State::Established, State::CloseWait]) {
        let now = net.env.jiffies();
        sk.track().chrono.start(Limit::SndbufLimited, now);
    }
}

/// A round-trip timeout went by without the window being used: half-way down to what was (RFC 2861).
#[doc(alias = "tcp_cwnd_application_limited")]
fn application_limited(sk: &mut TcpSock, now_us: u64) {
    if sk.loss.ca_state == crate::net::tcp::sock::CaState::Open && !sk.snd.nospace {
        let used = sk.cong.cwnd_used.max(crate::net::tcp::cong::TCP_INIT_CWND);
        if used < sk.cong.cwnd {
            sk.cong.ssthresh = sk.cong.current_ssthresh();
            sk.cong.cwnd = (sk.cong.cwnd + used) >> 1;
        }
        sk.cong.cwnd_used = 0;
    }
    sk.cong.cwnd_stamp_us = now_us;
}
