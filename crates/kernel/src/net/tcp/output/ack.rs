//! Acknowledgements: when to send one, and the window that goes with it.
use super::transmit::{acceptable_seq, send_control};
use crate::env::{MSEC, TimerKey};
use crate::ids::TcpId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af;
use crate::net::core::dst_metrics;
use crate::net::core::sock::{RCV_SHUTDOWN, SOCK_RCVBUF_LOCK};
use crate::net::ipv4::route::Dst;
use crate::net::mib::Mib;
use crate::net::netns::NetNs;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::{mem, pacing, setting};
use belljar_abi::rtnetlink::{RTAX_ADVMSS, RTAX_INITRWND, RTAX_QUICKACK, RTAX_WINDOW};
use belljar_wire::tcp::{Flags, TCP_HLEN};
use core::net::IpAddr;

/// Part of `space` that may be offered as window (`tcp_win_from_space`): the rest is overhead of the packets in it.
pub fn win_from_space(scaling_ratio: u8, space: u32) -> u32 {
    ((u64::from(space) * u64::from(scaling_ratio)) >> 8) as u32
}

/// Buffer needed for a window (`tcp_space_from_win`).
pub fn space_from_win(scaling_ratio: u8, win: u64) -> u64 {
    (win << 8) / u64::from(scaling_ratio.max(1))
}

/// Free receive space as window (`tcp_space`).
pub fn tcp_space(sk: &TcpSock) -> u32 {
    win_from_space(sk.rcv.scaling_ratio, sk.sk.rcvbuf.saturating_sub(sk.sk.rmem_alloc))
}

pub fn tcp_full_space(sk: &TcpSock) -> u32 {
    win_from_space(sk.rcv.scaling_ratio, sk.sk.rcvbuf)
}

/// What the first window is chosen from.
#[derive(Clone, Copy, Debug)]
pub struct WindowSpace {
    /// Receive buffer as window.
    pub space: u32,
    /// Most the buffer may grow to, for the scale.
    pub most: u32,
    pub clamp: u32,
    /// No more segments than this, if not 0 (`initrwnd` of the route).
    pub segments: u32,
    /// The largest window field (`tcp_workaround_signed_windows`).
    pub field: u32,
}

impl WindowSpace {
    pub fn of(sk: &TcpSock, n: &NetNs, dst: &Dst) -> WindowSpace {
        let metrics = n.metrics.get(dst.metrics);
        let metric = |which| metrics.map_or(0, |m| m.get(which));
        let locked = sk.sk.userlocks & SOCK_RCVBUF_LOCK != 0;
        let clamp = sk.tune.as_ref().map(|t| t.window_clamp).filter(|c| *c != 0);
        WindowSpace {
            space: tcp_full_space(sk),
            most: if locked { tcp_full_space(sk) } else { (n.sysctl.tcp_rmem[2] as u32).max(n.sysctl.rmem_max) },
            clamp: clamp.unwrap_or_else(|| metric(RTAX_WINDOW)),
            segments: metric(RTAX_INITRWND),
            field: if n.sysctl.tcp_workaround_signed_windows != 0 { MAX_TCP_WINDOW } else { 65_535 },
        }
    }
}

/// The largest window field that a signed number holds.
const MAX_TCP_WINDOW: u32 = 32_767;

/// The first window of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialWindow {
    pub rcv_wnd: u32,
    pub window_clamp: u32,
    pub wscale: u8,
}

/// `tcp_select_initial_window`: the window field of a SYN is never scaled, and below its limit the window is a multiple of
/// the MSS.
pub fn select_initial_window(from: WindowSpace, mss: u32, wscale_ok: bool) -> InitialWindow {
    let mut space = from.space;
    let mut clamp = if from.clamp == 0 { 65_535 << 14 } else { from.clamp };
    space = space.min(clamp);
    if space > mss && mss > 0 {
        space = space / mss * mss;
    }
    let mut rcv_wnd = space.min(from.field);
    if from.segments != 0 {
        rcv_wnd = rcv_wnd.min(from.segments.saturating_mul(mss));
    }
    let mut wscale = 0;
    if wscale_ok {
        let reach = space.max(from.most).min(clamp);
        // ilog2(reach) - 15, at most 14 (RFC 7323 §2.3).
        wscale = (32 - reach.leading_zeros()).saturating_sub(16).min(14) as u8;
    }
    clamp = clamp.min(65_535 << wscale);
    InitialWindow { rcv_wnd, window_clamp: clamp, wscale }
}

/// MSS to announce to `peer`: the route's own or by its MTU; TCP_MAXSEG lowers it.
#[doc(alias = "ip6_default_advmss")]
pub fn advertised_mss(sk: &TcpSock, peer: IpAddr, n: &NetNs, dst: &Dst) -> u16 {
    /// Of IPv6: beyond it, only a path MTU says more (RFC 2675 §5.1).
    const MOST6: u32 = 65_515;
    let advmss = n.metrics.get(dst.metrics).map_or(0, |m| m.get(RTAX_ADVMSS));
    let mss = dst.mtu.saturating_sub(af::header_len(peer) + TCP_HLEN as u32);
    let mss = match peer {
        _ if advmss != 0 => advmss as u16,
        IpAddr::V4(_) => mss.max(n.sysctl.min_adv_mss.max(0) as u32).min(65_495) as u16,
        IpAddr::V6(_) if mss > MOST6 => u16::MAX,
        IpAddr::V6(_) => mss.max(n.sysctl.min_adv_mss6.max(0) as u32).min(65_535) as u16,
    };
    if sk.snd.user_mss != 0 { mss.min(sk.snd.user_mss) } else { mss }
}

pub fn syn_window(sk: &TcpSock) -> u16 {
    sk.rcv.wnd.min(65_535) as u16
}

/// The window field: what can be offered now, never taking back what was offered (RFC 9293 §3.8.6), scaled.
#[doc(alias = "tcp_select_window")]
pub fn select_window(sk: &mut TcpSock, net: &mut Net) -> u16 {
    if sk.rcv.ack.pending & ICSK_ACK_NOMEM != 0 {
        // What was dropped must not come again before there is room; here a window may shrink.
        (sk.rcv.wnd, sk.rcv.wup) = (0, sk.rcv.nxt);
        return 0;
    }
    let old = sk.rcv.wnd;
    let current = sk.receive_window();
    let mut new = window_to_offer(sk, net);
    let grain = 1u32 << sk.rcv.wscale;
    let shrink = setting(net, sk, |s| s.tcp_shrink_window) != 0 && sk.rcv.wscale != 0;
    if new < current && !shrink {
        if new == 0 {
            crate::net::tcp::inc(net, sk, crate::net::mib::Mib::TcpExtTCPWantZeroWindowAdv);
        }
        new = current.next_multiple_of(grain);
    }
    sk.rcv.wnd = new;
    sk.rcv.wup = sk.rcv.nxt;
    // Stacks that take the field for a signed number.
    let signed = sk.rcv.wscale == 0 && setting(net, sk, |s| s.tcp_workaround_signed_windows) != 0;
    let limit = if signed { MAX_TCP_WINDOW } else { 65_535u32 << sk.rcv.wscale };
    let field = new.min(limit) >> sk.rcv.wscale;
    if field == 0 && old != 0 {
        crate::net::tcp::inc(net, sk, crate::net::mib::Mib::TcpExtTCPToZeroWindowAdv);
    } else if field != 0 && old == 0 {
        crate::net::tcp::inc(net, sk, crate::net::mib::Mib::TcpExtTCPFromZeroWindowAdv);
    }
    field as u16
}

/// `__tcp_select_window`: free space, in whole segments; nothing when it is less than one (receiver's silly-window
/// avoidance, RFC 1122 §4.2.3.3).
pub fn window_to_offer(sk: &mut TcpSock, net: &Net) -> u32 {
    let allowed = tcp_full_space(sk);
    let mut free = tcp_space(sk);
    let full = sk.rcv.window_clamp.min(allowed);
    let mss = u32::from(sk.rcv.mss).min(full);
    if mss == 0 {
        return 0;
    }
    let grain = 1u32 << sk.rcv.wscale;
    if sk.rcv.wscale != 0 && setting(net, sk, |s| s.tcp_shrink_window) != 0 {
        return window_that_shrinks(sk, free, full, allowed, mss);
    }
    if free < full >> 1 {
        sk.rcv.ack.quick = 0;
        if mem::under_pressure(net) {
            crate::net::tcp::input::window::adjust_rcv_ssthresh(sk);
        }
        free = free / grain * grain;
        if free < allowed >> 4 || free < mss {
            return 0;
        }
    }
    free = free.min(sk.rcv.ssthresh);
    if sk.rcv.wscale != 0 {
        return free.next_multiple_of(grain);
    }
    let window = sk.rcv.wnd;
    if window + mss <= free || window > free {
        free / mss * mss
    } else if mss == full && free > window + (full >> 1) {
        free
    } else {
        window
    }
}

/// tcp_shrink_window: never more than there is room for, even if more was offered before.
#[cold]
fn window_that_shrinks(sk: &TcpSock, free: u32, full: u32, allowed: u32, mss: u32) -> u32 {
    let grain = 1u32 << sk.rcv.wscale;
    let free = free / grain * grain;
    // Until the buffer is half empty a little is as good as nothing.
    if free < full >> 1 && (free < allowed >> 4 || free < mss || free < grain) {
        return 0;
    }
    if free > sk.rcv.ssthresh { sk.rcv.ssthresh.next_multiple_of(grain) } else { free }
}

/// Sends a bare acknowledgement now.
#[doc(alias = "tcp_send_ack")]
pub fn send_ack(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.state == State::Close {
        return;
    }
    let seq = acceptable_seq(sk);
    // A failure to send is as good as a loss: the peer or a timer asks again.
    let _ = send_control(sk, net, id, seq, Flags::ACK);
}

/// Something that carried an ACK left (`tcp_event_ack_sent`).
pub fn event_ack_sent(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.track.as_deref().is_some_and(|t| t.compressed_ack > 0) {
        end_compression(sk, net, id);
    }
    let a = &mut sk.rcv.ack;
    if a.quick > 0 {
        a.quick -= 1;
        if a.quick == 0 {
            // Leaving quick-ack mode: the next delay starts short.
            a.ato_ms = TCP_DELACK_MIN_MS as u16;
        }
    }
    a.pending = 0;
    sk.delack_timer.cancel();
}

pub fn in_quickack_mode(sk: &TcpSock, net: &Net) -> bool {
    let route = || dst_metrics::metric(net, sk.sk.ns, sk.dst.as_ref(), RTAX_QUICKACK) != 0;
    (sk.rcv.ack.quick > 0 && !in_pingpong_mode(sk, net)) || route()
}

pub fn in_pingpong_mode(sk: &TcpSock, net: &Net) -> bool {
    u32::from(sk.rcv.ack.pingpong) >= setting(net, sk, |s| s.tcp_pingpong_thresh).max(1)
}

/// `tcp_enter_quickack_mode`.
pub fn enter_quickack_mode(sk: &mut TcpSock, most: u8) {
    incr_quickack(sk, most);
    sk.rcv.ack.pingpong = 0;
    sk.rcv.ack.ato_ms = TCP_DELACK_MIN_MS as u16;
}

pub fn incr_quickack(sk: &mut TcpSock, most: u8) {
    let mut quick = sk.rcv.wnd / (2 * u32::from(sk.rcv.mss.max(1)));
    if quick == 0 {
        quick = 2;
    }
    sk.rcv.ack.quick = sk.rcv.ack.quick.max(quick.min(u32::from(most)) as u8);
}

/// After data was queued: acknowledge now, or soon.
#[doc(alias = "__tcp_ack_snd_check")]
pub fn ack_snd_check(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.rcv.ack.pending & ICSK_ACK_SCHED == 0 {
        return;
    }
    let unacked = sk.rcv.nxt.wrapping_sub(sk.rcv.wup);
    // More than one full segment, and the reader keeps the window open or has not enough yet.
    let two_segments =
        unacked > u32::from(sk.rcv.mss) && (sk.readable() < sk.sk.rcvlowat() || window_to_offer(sk, net) >= sk.rcv.wnd);
    let now = sk.rcv.ack.pending & ICSK_ACK_NOW != 0;
    if two_segments || now || in_quickack_mode(sk, net) {
        send_ack(sk, net, id);
    } else if sk.rcv.ooo.is_empty() {
        send_delayed_ack(sk, net, id);
    } else {
        compress_ack(sk, net, id);
    }
}

/// Data waits behind a hole: the first duplicates go at once, they start a recovery; of the rest a few a round trip say
/// as much as one for each segment (tcp_comp_sack_nr, tcp_comp_sack_delay_ns).
#[inline(never)]
fn compress_ack(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    const TCP_FASTRETRANS_THRESH: u8 = 3;
    let most = setting(net, sk, |s| s.tcp_comp_sack_nr);
    let (sack_ok, nxt) = (sk.flags.sack_ok, sk.rcv.nxt);
    let (rcv_rtt, srtt, now) = (sk.rcv.rtt_us, sk.rtt.srtt_us, net.env.now);
    let delay = crate::net::tcp::sysctl(net, sk).map_or(0, |s| s.tcp_comp_sack_delay_ns);
    let t = sk.track();
    if !sack_ok || u32::from(t.compressed_ack) >= most {
        return send_ack(sk, net, id);
    }
    if t.compressed_ack_rcv_nxt != nxt {
        (t.compressed_ack_rcv_nxt, t.dup_ack_counter) = (nxt, 0);
    }
    if t.dup_ack_counter < TCP_FASTRETRANS_THRESH {
        t.dup_ack_counter += 1;
        return send_ack(sk, net, id);
    }
    t.compressed_ack = t.compressed_ack.saturating_add(1);
    if t.comp_ack_at != 0 {
        return;
    }
    // A twentieth of the round trip, at most the setting. Both estimates are eightfold.
    let rtt = if srtt != 0 && srtt < rcv_rtt { srtt } else { rcv_rtt };
    let wait = delay.min(u64::from(rtt) * (1000 >> 3) / 20);
    t.comp_ack_at = now + wait.max(1);
    net.env.hrtimers.insert((t.comp_ack_at, TimerKey::TcpCompressedAck(id)));
}

/// An acknowledgement left that stands for those held back.
fn end_compression(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let Some(t) = sk.track.as_deref_mut() else { return };
    let n = std::mem::take(&mut t.compressed_ack);
    pacing::cancel(net, &mut t.comp_ack_at, TimerKey::TcpCompressedAck(id));
    net.add(sk.sk.ns, Mib::TcpExtTCPAckCompressed, u64::from(n));
}

/// What is about to be forgotten must be told first: a fifth hole, a block that moved.
#[doc(alias = "tcp_sack_compress_send_ack")]
pub fn flush_compressed(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let Some(t) = sk.track.as_deref_mut().filter(|t| t.compressed_ack > 0) else { return };
    // The one that goes now was not saved.
    t.compressed_ack -= 1;
    send_ack(sk, net, id);
    end_compression(sk, net, id);
}

/// The time of holding back is over.
#[doc(alias = "tcp_compressed_ack_kick")]
pub fn compressed_ack_timer(k: &mut Kernel, id: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    match sk.track.as_deref_mut() {
        Some(t) if t.comp_ack_at != 0 && t.comp_ack_at <= net.env.now => t.comp_ack_at = 0,
        _ => return,
    }
    flush_compressed(sk, net, id);
}

/// Arms the delayed acknowledgement by the estimate of the gaps between segments (`tcp_send_delayed_ack`).
pub fn send_delayed_ack(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let mut ato = u32::from(sk.rcv.ack.ato_ms);
    if ato > TCP_DELACK_MIN_MS {
        let interactive = in_pingpong_mode(sk, net) || sk.rcv.ack.pending & ICSK_ACK_PUSHED != 0;
        let mut most = if interactive { TCP_DELACK_MAX_MS } else { 500 };
        if sk.rtt.srtt_us != 0 {
            most = most.min(((sk.rtt.srtt_us >> 3) / 1000).max(TCP_DELACK_MIN_MS));
        }
        ato = ato.min(most);
    }
    let own = sk.tune.as_ref().map_or(0, |t| t.delack_max_us / 1000);
    ato = ato.min(if own == 0 { TCP_DELACK_MAX_MS } else { own });
    let jiffies = net.env.jiffies();
    let mut at = net.env.round_up(net.env.now + u64::from(ato) * MSEC);
    if sk.rcv.ack.pending & ICSK_ACK_TIMER != 0
        && let Some(due) = sk.delack_timer.deadline()
    {
        // About to fire anyway: now.
        if due <= jiffies + (at - jiffies) / 4 {
            send_ack(sk, net, id);
            return;
        }
        at = at.min(due);
    }
    sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_TIMER;
    net.env.timers.arm(&mut sk.delack_timer, at, TimerKey::TcpDelack(id));
}

/// The program read: is an acknowledgement or a window update due?
#[doc(alias = "tcp_cleanup_rbuf")]
pub fn cleanup_rbuf(sk: &mut TcpSock, net: &mut Net, id: TcpId, copied: usize) {
    if matches!(sk.state, State::Close | State::Listen | State::SynSent) {
        return;
    }
    let mut due = false;
    if sk.rcv.ack.pending & ICSK_ACK_SCHED != 0 {
        let a = &sk.rcv.ack;
        let pushed =
            a.pending & ICSK_ACK_PUSHED2 != 0 || (a.pending & ICSK_ACK_PUSHED != 0 && !in_pingpong_mode(sk, net));
        due = sk.rcv.nxt.wrapping_sub(sk.rcv.wup) > u32::from(sk.rcv.mss)
            || (copied > 0 && pushed && sk.sk.rmem_alloc == 0);
    }
    if copied > 0 && !due && sk.sk.shutdown & RCV_SHUTDOWN == 0 {
        // The window could at least double: tell.
        let now = sk.receive_window();
        if 2 * u64::from(now) <= u64::from(sk.rcv.window_clamp) {
            let new = window_to_offer(sk, net);
            due = new != 0 && u64::from(new) >= 2 * u64::from(now);
        }
    }
    if due {
        send_ack(sk, net, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_and_scale_are_those_of_linux() {
        let of = |rmem: u32, most: u32| WindowSpace { space: rmem / 2, most, clamp: 0, segments: 0, field: 65_535 };
        let mss = 1460;
        // Measured on 6.18: tcp_rmem[1] of 131072, 87380 and 16384; tcp_rmem[2] of 32 MB and 6 MB.
        assert_eq!(select_initial_window(of(131_072, 33_554_432), mss, true).rcv_wnd, 64_240);
        assert_eq!(select_initial_window(of(87_380, 33_554_432), mss, true).rcv_wnd, 42_340);
        assert_eq!(select_initial_window(of(16_384, 33_554_432), mss, true).rcv_wnd, 7_300);
        assert_eq!(select_initial_window(of(540_000, 33_554_432), mss, true).rcv_wnd, 65_535);
        assert_eq!(select_initial_window(of(131_072, 33_554_432), mss, true).wscale, 10);
        assert_eq!(select_initial_window(of(131_072, 6_291_456), mss, true).wscale, 7);
        assert_eq!(select_initial_window(of(131_072, 33_554_432), mss, false).wscale, 0);
    }
}
