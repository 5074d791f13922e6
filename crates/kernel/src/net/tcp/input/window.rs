//! How much we offer: the peer's segment size and round trip as seen from here, and a receive buffer that grows with what
//! the program reads per round trip (Linux: dynamic right-sizing).
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::SOCK_RCVBUF_LOCK;
use crate::net::tcp::output::ack::{incr_quickack, space_from_win, tcp_full_space, tcp_space, win_from_space};
use crate::net::tcp::output::segment::constant_options;
use crate::net::tcp::seq::before;
use crate::net::tcp::sock::*;
use crate::net::tcp::{mem, setting, sysctl};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpOptions};

/// Half of the smallest receive buffer.
const MIN_WINDOW_CLAMP: u32 = 1152;
/// What every host takes (RFC 9293 §3.7.1).
const TCP_MSS_DEFAULT: u32 = 536;

/// Segment size the peer uses, and whether this segment asks for quick attention (`tcp_measure_rcv_mss`).
pub fn measure_rcv_mss(sk: &mut TcpSock, skb: &Skb) {
    let len = skb.gso.map_or(skb.frags.len() as u32, |g| u32::from(g.size));
    let last = std::mem::take(&mut sk.rcv.ack.last_seg_size);
    if len >= u32::from(sk.rcv.mss) {
        // The share of payload in what is charged decides how much window a buffer is worth.
        if len != u32::from(sk.rcv.mss) {
            let ratio = (u64::from(skb.frags.len() as u32) << 8) / u64::from(skb.truesize.max(1));
            let ratio = ratio.clamp(1, 255) as u8;
            if std::mem::replace(&mut sk.rcv.scaling_ratio, ratio) != ratio {
                set_window_clamp(sk, tcp_full_space(sk));
                sk.rcv.space = sk.rcv.space.min(sk.rcv.window_clamp);
            }
        }
        sk.rcv.mss = len.min(u32::from(sk.rcv.advmss.max(TCP_MIN_MSS))) as u16;
        if skb.tcp.flags.contains(Flags::PSH) && len < u32::from(sk.rcv.mss) + 1 {
            sk.rcv.ack.pending |= ICSK_ACK_PUSHED;
        }
    } else {
        // Two of one size in a row that do not end a write: the peer's segments are small (links of little MTU).
        let header = u32::from(skb.tcp.header_len);
        let remnant = skb.tcp.flags.intersects(Flags::FIN | Flags::URG | Flags::SYN | Flags::PSH);
        if len + header >= TCP_MSS_DEFAULT + TCP_HLEN as u32
            || (len + header >= u32::from(TCP_MIN_MSS) + TCP_HLEN as u32 && !remnant)
        {
            let len = (len + header - TCP_HLEN as u32).saturating_sub(constant_options(sk)) as u16;
            sk.rcv.ack.last_seg_size = len;
            if len == last {
                sk.rcv.mss = len;
                return;
            }
        }
        // A short one: the end of a write, or an interactive peer.
        if sk.rcv.ack.pending & ICSK_ACK_PUSHED != 0 {
            sk.rcv.ack.pending |= ICSK_ACK_PUSHED2;
        }
        sk.rcv.ack.pending |= ICSK_ACK_PUSHED;
    }
}

/// Smaller: no window beyond it. Larger: what was offered already may be offered again.
#[doc(alias = "tcp_set_window_clamp")]
pub fn set_window_clamp(sk: &mut TcpSock, clamp: u32) {
    let r = &mut sk.rcv;
    let new = clamp.max(MIN_WINDOW_CLAMP);
    let old = std::mem::replace(&mut r.window_clamp, new);
    if new < old {
        r.ssthresh = r.ssthresh.min(new);
    } else if new > old {
        r.ssthresh = r.ssthresh.max(r.wnd.min(new));
    }
}

/// Data came: acknowledgement due, estimates moved (`tcp_event_data_recv`).
#[doc(alias = "tcp_event_data_recv")]
pub fn event_data_recv(sk: &mut TcpSock, net: &mut Net, skb: &Skb) {
    sk.rcv.ack.pending |= ICSK_ACK_SCHED;
    measure_rcv_mss(sk, skb);
    rcv_rtt_measure(sk, net);
    let now = net.env.now_us();
    let min = TCP_DELACK_MIN_MS;
    let ato = u32::from(sk.rcv.ack.ato_ms);
    if ato == 0 {
        // The first data: its sender is in slow start and wants to hear of every segment.
        incr_quickack(sk, 16);
        sk.rcv.ack.ato_ms = min as u16;
    } else {
        let gap = now.saturating_sub(sk.rcv.ack.last_us);
        let gap_ms = (gap / 1000).min(60_000) as u32;
        if gap_ms <= min / 2 {
            sk.rcv.ack.ato_ms = ((ato >> 1) + min / 2) as u16;
        } else if gap_ms < ato {
            let next = (ato >> 1) + gap_ms;
            sk.rcv.ack.ato_ms = next.min(sk.rtt.rto_us / 1000).max(1) as u16;
        } else if gap > u64::from(sk.rtt.rto_us) {
            // A long silence: the peer restarts slowly, do not hold it up.
            incr_quickack(sk, 16);
        }
    }
    sk.rcv.ack.last_us = now;
    super::ecn::data_check(sk, skb);
    if skb.frags.len() >= 128 {
        grow_window(sk, net, skb);
    }
}

/// The offered window opens with the data, as far as the buffer is well filled (`tcp_grow_window`).
pub fn grow_window(sk: &mut TcpSock, net: &Net, skb: &Skb) {
    let room = i64::from(sk.rcv.window_clamp.min(tcp_space(sk))) - i64::from(sk.rcv.ssthresh);
    if room <= 0 || mem::under_pressure(net) {
        return;
    }
    let len = skb.frags.len() as u32;
    let fits = win_from_space(sk.rcv.scaling_ratio, skb.truesize) <= len;
    let step = if fits { 2 * u32::from(sk.rcv.advmss) } else { window_step(sk, skb.truesize, len) };
    if step > 0 {
        let step = step.max(2 * len);
        sk.rcv.ssthresh += step.min(room as u32);
        sk.rcv.ack.quick |= 1;
    }
}

/// A packet that carries little for its size may still be afforded while the buffer is far from full.
fn window_step(sk: &TcpSock, truesize: u32, len: u32) -> u32 {
    let mut truesize = win_from_space(sk.rcv.scaling_ratio, truesize) >> 1;
    let mut window = sk.sk.rcvbuf >> 1;
    while sk.rcv.ssthresh <= window {
        if truesize <= len {
            return 2 * u32::from(sk.rcv.mss);
        }
        truesize >>= 1;
        window >>= 1;
    }
    0
}

/// Memory is short: a window of four segments is enough for everybody.
#[doc(alias = "tcp_adjust_rcv_ssthresh")]
pub fn adjust_rcv_ssthresh(sk: &mut TcpSock) {
    sk.rcv.ssthresh = sk.rcv.ssthresh.min(4 * u32::from(sk.rcv.advmss));
}

/// `tcp_init_buffer_space`.
pub fn init_buffer_space(sk: &mut TcpSock, app_win: u32) {
    let (full, advmss) = (tcp_full_space(sk), u32::from(sk.rcv.advmss));
    if sk.rcv.window_clamp >= full {
        sk.rcv.window_clamp = full;
        if app_win > 0 && full > 4 * advmss {
            sk.rcv.window_clamp = (full - full.checked_shr(app_win).unwrap_or(0)).max(4 * advmss);
        }
    }
    // One segment is kept back for what overhead the estimate missed.
    let clamp = sk.rcv.window_clamp;
    if app_win > 0 && clamp > 2 * advmss && clamp.saturating_add(advmss) > full {
        sk.rcv.window_clamp = full.saturating_sub(advmss).max(2 * advmss);
    }
    sk.rcv.ssthresh = sk.rcv.ssthresh.min(sk.rcv.window_clamp);
}

/// Round trip seen from here without time stamps: how long a window of data takes.
fn rcv_rtt_measure(sk: &mut TcpSock, net: &Net) {
    let now = net.env.now_us();
    if sk.rcv.rtt_start_us != 0 {
        if before(sk.rcv.nxt, sk.rcv.rtt_seq) {
            return;
        }
        let us = now.saturating_sub(sk.rcv.rtt_start_us).max(1);
        rcv_rtt_update(sk, us as u32, true);
    }
    sk.rcv.rtt_seq = sk.rcv.nxt.wrapping_add(sk.rcv.wnd);
    sk.rcv.rtt_start_us = now;
}

/// With time stamps: the echo of what we sent (`tcp_rcv_rtt_measure_ts`).
pub fn rcv_rtt_measure_ts(sk: &mut TcpSock, net: &Net, skb: &Skb, o: &TcpOptions) {
    let Some((_, ecr)) = o.ts else { return };
    if !sk.flags.tstamp_ok || ecr == 0 || ecr == sk.rcv.rtt_tsecr {
        return;
    }
    sk.rcv.rtt_tsecr = ecr;
    if skb.tcp.end_seq.wrapping_sub(skb.tcp.seq) < u32::from(sk.rcv.mss) {
        return;
    }
    let ms = net.env.now_ms().wrapping_add(sk.tsoffset).wrapping_sub(ecr);
    if ms < 1 << 20 {
        rcv_rtt_update(sk, ms.max(1) * 1000, false);
    }
}

/// Keeps an eighth-weighted mean; a window measurement only ever lowers it (`tcp_rcv_rtt_update`).
fn rcv_rtt_update(sk: &mut TcpSock, us: u32, by_window: bool) {
    let old = sk.rcv.rtt_us;
    sk.rcv.rtt_us = if old == 0 {
        us << 3
    } else if by_window {
        old.min(us << 3)
    } else {
        (i64::from(old) + i64::from(us) - i64::from(old >> 3)).max(1) as u32
    };
}

/// Once a round trip: if the program reads more than before, so may be in flight (`tcp_rcv_space_adjust`).
#[doc(alias = "tcp_rcv_space_adjust")]
pub fn rcv_space_adjust(sk: &mut TcpSock, net: &Net) {
    let now = net.env.now_us();
    let elapsed = now.saturating_sub(sk.rcv.space_us);
    if sk.rcv.rtt_us == 0 || elapsed < u64::from(sk.rcv.rtt_us >> 3) {
        return;
    }
    let copied = sk.rcv.copied_seq.wrapping_sub(sk.rcv.space_seq);
    if copied > sk.rcv.space {
        let tuned = setting(net, sk, |s| s.tcp_moderate_rcvbuf) != 0 && sk.sk.userlocks & SOCK_RCVBUF_LOCK == 0;
        if tuned {
            // Twice what one round trip brought, plus what its growth adds, plus 16 segments of slack.
            let base = (u64::from(copied) << 1) + 16 * u64::from(sk.rcv.advmss);
            let grow = base * u64::from(copied - sk.rcv.space) / u64::from(sk.rcv.space.max(1));
            let win = base.saturating_add(grow << 1);
            let most = sysctl(net, sk).map_or(0, |s| s.tcp_rmem[2]);
            let rcvbuf = space_from_win(sk.rcv.scaling_ratio, win).min(most) as u32;
            if rcvbuf > sk.sk.rcvbuf {
                sk.sk.rcvbuf = rcvbuf;
                sk.rcv.window_clamp = win_from_space(sk.rcv.scaling_ratio, rcvbuf);
            }
        }
        sk.rcv.space = copied;
    }
    sk.rcv.space_seq = sk.rcv.copied_seq;
    sk.rcv.space_us = now;
}
