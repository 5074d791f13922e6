//! May the next piece go, and how much of it: congestion window, peer's window, Nagle and cork, deferral of small
//! super-segments. No side effects but notes about what limited us.
use super::Nagle;
use crate::net::Net;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::setting;
use crate::net::tcp::sock::TcpSock;
use belljar_wire::tcp::Flags;

/// Most payload of one super-segment: the IP packet must not exceed 65,535 bytes.
pub const GSO_MAX_PAYLOAD: u32 = 65_535 - 20 - 60;

/// Bytes of the first unsent piece that may go now, or `None`.
pub fn next_piece(sk: &mut TcpSock, net: &Net, mss: u32, nagle: Nagle) -> Option<u32> {
    let quota = cwnd_quota(sk);
    let seg = sk.snd.queue.get(sk.snd.sent)?;
    if quota == 0 {
        sk.flags.cwnd_limited = true;
        return None;
    }
    if !snd_wnd_test(sk, mss) {
        return None;
    }
    let len = seg.len();
    let last = sk.snd.sent + 1 == sk.snd.queue.len();
    if len <= mss {
        let small = len < mss;
        if small && last && nagle == Nagle::Default && !nagle_test(sk, mss) {
            return None;
        }
        return Some(len);
    }
    // A super-segment: as much as both windows allow, in whole segments unless it is the end of the data.
    let window = sk.wnd_end().wrapping_sub(seg.seq);
    let most = quota.saturating_mul(mss).min(window).min(GSO_MAX_PAYLOAD / mss * mss);
    if len <= most {
        let rest = len % mss;
        // The small tail waits for its acknowledgement like any small piece.
        if rest != 0 && last && nagle == Nagle::Default && !nagle_test(sk, mss) {
            return Some(len - rest);
        }
        return Some(len);
    }
    if last_is_worth_waiting(sk, net, most, mss) {
        return None;
    }
    let whole = most / mss * mss;
    Some(if whole == 0 { most } else { whole })
}

/// Segments the congestion window has room for.
#[doc(alias = "tcp_cwnd_test")]
pub fn cwnd_quota(sk: &TcpSock) -> u32 {
    // A FIN alone is never held back by the congestion window.
    if let Some(seg) = sk.snd.queue.get(sk.snd.sent)
        && seg.flags.contains(Flags::FIN)
        && seg.is_empty()
    {
        return 1;
    }
    sk.cong.cwnd.saturating_sub(sk.in_flight())
}

/// Does the peer's window take the first segment of the next piece whole (`tcp_snd_wnd_test`)? A window smaller than
/// a segment is used when it is at least half of the largest ever seen (silly window avoidance, RFC 1122 §4.2.3.4).
pub fn snd_wnd_test(sk: &TcpSock, mss: u32) -> bool {
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return false };
    let first = seg.len().min(mss);
    let end = if seg.len() > mss { seg.seq.wrapping_add(mss) } else { seg.end_seq };
    if !after(end, sk.wnd_end()) {
        return true;
    }
    let room = sk.wnd_end().wrapping_sub(seg.seq) as i32;
    room > 0 && first > 0 && room as u32 >= (sk.snd.max_window >> 1).max(1) && sk.snd.packets_out == 0
}

/// May a piece smaller than a segment go (RFC 896 in Minshall's form: only one small segment in flight)?
#[doc(alias = "tcp_nagle_test")]
pub fn nagle_test(sk: &TcpSock, _mss: u32) -> bool {
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return true };
    if seg.flags.contains(Flags::FIN) {
        return true;
    }
    if sk.flags.cork {
        return false;
    }
    if sk.flags.nodelay {
        return true;
    }
    let small_in_flight = after(sk.snd.sml, sk.snd.una) && !after(sk.snd.sml, sk.snd.nxt);
    !(sk.snd.packets_out != 0 && small_in_flight)
}

/// Wait for more room before sending a shortened super-segment: a third of the window may come with the next
/// acknowledgement (`tcp_tso_should_defer`, without its time limits).
fn last_is_worth_waiting(sk: &TcpSock, net: &Net, most: u32, mss: u32) -> bool {
    if sk.snd.packets_out == 0 || sk.loss.ca_state >= crate::net::tcp::sock::CaState::Recovery {
        return false;
    }
    let Some(seg) = sk.snd.queue.get(sk.snd.sent) else { return false };
    // An acknowledgement is on its way; if the head was sent long ago it may be lost, so do not wait.
    let head_age = net.env.now_us().saturating_sub(sk.snd.queue.front().map_or(0, |s| s.tx_us));
    if head_age > u64::from(sk.rtt.srtt_us >> 4) && sk.rtt.srtt_us != 0 {
        return false;
    }
    let window = sk.wnd_end().wrapping_sub(seg.seq);
    let cwnd_bytes = cwnd_quota(sk).saturating_mul(mss);
    if most >= GSO_MAX_PAYLOAD / mss * mss {
        return false;
    }
    let divisor = setting(net, sk, |s| s.tcp_tso_win_divisor);
    if divisor == 0 {
        return most < 3 * mss;
    }
    let chunk = sk.snd.wnd.min(sk.cong.cwnd.saturating_mul(mss)) / divisor;
    window.min(cwnd_bytes) < chunk
}

/// Notes how much of the congestion window was used, so that an idle window does not grow (RFC 2861, RFC 7661 in spirit).
#[doc(alias = "tcp_cwnd_validate")]
pub fn cwnd_validate(sk: &mut TcpSock, net: &Net, limited: bool) {
    let now = net.env.now_us();
    let c = &mut sk.cong;
    if !before(sk.snd.una, c.cwnd_usage_seq) || limited || sk.snd.packets_out > c.max_packets_out {
        c.max_packets_out = sk.snd.packets_out;
        c.cwnd_usage_seq = sk.snd.nxt;
        c.cwnd_limited = limited;
    }
    if c.is_cwnd_limited() {
        c.cwnd_used = 0;
        c.cwnd_stamp_us = now;
    } else {
        c.cwnd_used = c.cwnd_used.max(sk.snd.packets_out);
    }
}
