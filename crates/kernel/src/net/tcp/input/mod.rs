//! A segment arrives for a connection (Linux: `tcp_input.c`): checked, its acknowledgement taken, its data queued, an
//! answer decided. Read it top to bottom: `rcv_established` is the usual way, `rcv_state_process` all other states.
pub mod ack;
pub mod data;
pub mod ecn;
mod memory;
pub mod rack;
pub mod recovery;
pub mod sack;
mod shift;
pub mod undo;
pub mod validate;
pub mod window;

use super::handshake::fastopen::{client, server};
use super::output::{self, ack as out_ack, transmit};
use super::seq::{after, before};
use super::sock::*;
use super::state::State;
use super::{close, inc, set_state, setting, urgent, wake};
use crate::env::{Rise, SEC};
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::dst_metrics;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK, SOCK_BINDPORT_LOCK};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::cong::TCP_INIT_CWND;
use crate::net::tcp::mem;
use belljar_abi::rtnetlink::RTAX_INITCWND;
use belljar_abi::{Errno, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRNORM};
use belljar_wire::tcp::{Flags, TcpOptions};

pub(crate) const READABLE: u32 = POLLIN | POLLRDNORM;
pub(crate) const WRITABLE: u32 = POLLOUT | POLLWRNORM;
/// `sk_state_change` and `sk_error_report` wake everybody.
pub(crate) const EVERYTHING: u32 = READABLE | WRITABLE | POLLERR | POLLHUP | POLLRDHUP;

/// ESTABLISHED: validate, acknowledge, queue, answer.
#[doc(alias = "tcp_rcv_established")]
pub fn rcv_established(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) {
    let Some(skb) = validate::validate_incoming(sk, net, id, skb, o) else { return };
    if !skb.tcp.flags.contains(Flags::ACK) {
        return net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_established");
    }
    let path = if predicted(sk, &skb, o) { 0 } else { ack::FLAG_SLOWPATH };
    if let Err(reason) = ack::tcp_ack(sk, net, id, &skb, o, path | ack::FLAG_UPDATE_TS_RECENT) {
        return net.kfree_skb(skb, reason, "tcp_ack");
    }
    if path == 0 && !skb.frags.is_empty() {
        inc(net, sk, Mib::TcpExtTCPHPHits);
    }
    window::rcv_rtt_measure_ts(sk, net, &skb, o);
    if path != 0 {
        urgent::rcv(sk, net, id, &skb);
    }
    data::data_queue(sk, net, id, skb, path == 0);
    output::data_snd_check(sk, net, id);
    out_ack::ack_snd_check(sk, net, id);
}

/// What Linux's header prediction would have taken: in order, nothing special, the window unchanged. Only counted here:
/// there is one path.
fn predicted(sk: &TcpSock, skb: &Skb, o: &TcpOptions) -> bool {
    let cb = &skb.tcp;
    cb.flags.without(Flags::PSH) == Flags::ACK
        && urgent::mark(sk).is_none()
        && cb.seq == sk.rcv.nxt
        && !after(cb.ack, sk.snd.nxt)
        && u32::from(cb.window) << sk.snd.wscale == sk.snd.wnd
        && o.n_sack == 0
        && sk.rcv.ooo.is_empty()
        && sk.rcv.wnd != 0
        && o.ts.is_none_or(|(val, _)| val.wrapping_sub(sk.rcv.ts_recent) as i32 >= 0)
        && (skb.frags.is_empty() || skb.truesize <= mem::forward_alloc(sk))
}

/// SYN_SENT, SYN_RECV, and the states after a FIN (RFC 9293 §3.10.7). CLOSE and LISTEN never come here.
#[doc(alias = "tcp_rcv_state_process")]
#[inline(never)]
pub fn rcv_state_process(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) {
    if sk.state == State::SynSent {
        return rcv_synsent(sk, net, id, skb, o);
    }
    if !server::check_req(sk, net, id, &skb, o) {
        return net.kfree_skb(skb, DropReason::TcpFastopen, "tcp_check_req");
    }
    let Some(skb) = validate::validate_incoming(sk, net, id, skb, o) else { return };
    let flags = skb.tcp.flags;
    if !flags.intersects(Flags::ACK | Flags::RST | Flags::SYN) {
        return net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_state_process");
    }
    let flag = ack::FLAG_SLOWPATH | ack::FLAG_UPDATE_TS_RECENT | ack::FLAG_NO_CHALLENGE_ACK;
    match ack::tcp_ack(sk, net, id, &skb, o, flag) {
        Ok(()) => {}
        Err(_) if sk.state == State::SynRecv => {
            // An ACK that does not acknowledge our SYN: RST with its number (RFC 9293 §3.10.7.4).
            super::ipv4::send_reset(net, &skb, super::md5sig::own(sk));
            return net.kfree_skb(skb, DropReason::TcpInvalidAckSequence, "tcp_rcv_state_process");
        }
        Err(reason) => {
            validate::send_challenge_ack(sk, net, id);
            return net.kfree_skb(skb, reason, "tcp_rcv_state_process");
        }
    }
    match sk.state {
        State::SynRecv => syn_recv_acked(sk, net, id, &skb, o),
        State::FinWait1 => {
            if sk.fastopen_rsk().is_some() {
                server::acknowledged(sk, net, id, o);
            }
            if let Some(done) = fin_wait1(sk, net, id, &skb) {
                return match done {
                    Some(reason) => net.kfree_skb(skb, reason, "tcp_rcv_state_process"),
                    None => net.consume_skb(skb),
                };
            }
        }
        State::Closing if sk.snd.una == sk.snd.write_seq => {
            super::handshake::time_wait::tcp_time_wait(sk, net, id, State::TimeWait, 0);
            return net.consume_skb(skb);
        }
        State::LastAck if sk.snd.una == sk.snd.write_seq => {
            super::metrics::update_metrics(sk, net);
            tcp_done(sk, net, id);
            return net.consume_skb(skb);
        }
        _ => {}
    }
    receive_text(sk, net, id, skb, o);
}

/// The data of a segment in the states that may still receive.
fn receive_text(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) {
    match sk.state {
        State::CloseWait | State::Closing | State::LastAck if !before(skb.tcp.seq, sk.rcv.nxt) => {
            // Data behind the FIN cannot be; its acknowledgement counted, and may let us send more.
            match skb.tcp.seq == skb.tcp.end_seq {
                true => net.consume_skb(skb),
                false => net.kfree_skb(skb, DropReason::TcpInvalidSequence, "tcp_rcv_state_process"),
            }
            output::data_snd_check(sk, net, id);
            return out_ack::ack_snd_check(sk, net, id);
        }
        State::CloseWait | State::Closing | State::LastAck | State::FinWait1 | State::FinWait2 => {
            let fin = skb.tcp.flags.contains(Flags::FIN);
            // Data after shutdown(RDWR), close or the peer's own FIN: nobody will read it (RFC 1122 §4.2.2.13).
            if sk.sk.shutdown & RCV_SHUTDOWN != 0
                && skb.tcp.end_seq != skb.tcp.seq
                && after(skb.tcp.end_seq.wrapping_sub(u32::from(fin)), sk.rcv.nxt)
            {
                inc(net, sk, Mib::TcpExtTCPAbortOnData);
                super::ipv4::send_reset(net, &skb, super::md5sig::own(sk));
                tcp_reset(sk, net, id);
                return net.kfree_skb(skb, DropReason::TcpAbortOnData, "tcp_rcv_state_process");
            }
        }
        State::Established | State::SynRecv => {}
        _ => return net.consume_skb(skb),
    }
    window::rcv_rtt_measure_ts(sk, net, &skb, o);
    urgent::rcv(sk, net, id, &skb);
    data::data_queue(sk, net, id, skb, false);
    if sk.state != State::Close {
        output::data_snd_check(sk, net, id);
        out_ack::ack_snd_check(sk, net, id);
    }
}

/// The third segment (or the last of a simultaneous open) came: ESTABLISHED.
fn syn_recv_acked(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb, o: &TcpOptions) {
    // The SYN-ACK, which is in no queue.
    sk.loss.delivered = sk.loss.delivered.wrapping_add(1);
    let (active, early) = (sk.flags.active, sk.fastopen_rsk().is_some());
    if early {
        server::acknowledged(sk, net, id, o);
    }
    sk.snd.una = skb.tcp.ack;
    set_state(net, sk, id, State::Established);
    sk.snd.wnd = u32::from(skb.tcp.window) << sk.snd.wscale;
    sk.snd.wl1 = skb.tcp.seq;
    sk.snd.max_window = sk.snd.max_window.max(sk.snd.wnd);
    if let (true, Some((val, ecr))) = (sk.flags.tstamp_ok, o.ts) {
        let _ = val;
        if sk.rtt.srtt_us == 0 {
            ack::synack_rtt_from_ts(sk, net, ecr);
        }
    }
    advmss_for_data(sk);
    if early {
        // It has been one since its SYN.
        sk.snd.last_us = net.env.now_us();
        init_rcv_mss(sk);
    } else {
        init_transfer(sk, net, id);
    }
    if active || early {
        wake(net, sk, id, EVERYTHING);
    }
    if sk.sk.shutdown & SEND_SHUTDOWN != 0 {
        // shutdown() came before the handshake was over.
        close::shutdown_send(sk, net, id);
    }
}

/// From now on what a segment of the peer can carry: time stamps take their part of each.
fn advmss_for_data(sk: &mut TcpSock) {
    if sk.flags.tstamp_ok {
        sk.rcv.advmss = sk.rcv.advmss.saturating_sub(belljar_wire::tcp::TCPOLEN_TSTAMP_ALIGNED as u16);
    }
}

/// Fresh connection: buffers, window, congestion control (`tcp_init_transfer`).
pub fn init_transfer(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let now = net.env.now_us();
    if let Some(mtu) = output::segment::check_dst(sk, net).map(|d| d.mtu) {
        output::segment::sync_mss(sk, net, mtu);
    }
    super::mtup::init(sk, net);
    super::metrics::init_metrics(sk, net);
    init_rcv_mss(sk);
    sk.cong.cwnd_stamp_us = now;
    if sk.loss.total_retrans > 1 && sk.loss.undo_marker == 0 && sk.loss.retransmits > 0 {
        // The SYN was lost: begin with one segment (RFC 5681 §3.1).
        sk.cong.cwnd = 1;
    } else {
        let route = dst_metrics::metric(net, sk.sk.ns, sk.dst.as_ref(), RTAX_INITCWND);
        let init = if route == 0 { TCP_INIT_CWND } else { route };
        sk.cong.cwnd = init.min(sk.cong.cwnd_clamp);
    }
    sk.snd.last_us = now;
    (sk.rcv.ack.last_us, sk.rcv.ack.heard_us) = (now, now);
    sk.rcv.space_us = now;
    sk.rcv.space_seq = sk.rcv.copied_seq;
    window::init_buffer_space(sk, super::setting(net, sk, |s| s.tcp_app_win));
    sk.rcv.space = sk.rcv.ssthresh.min(sk.rcv.wnd).min(10 * u32::from(sk.rcv.advmss));
    output::sndbuf_expand(sk, net);
    super::pacing::init(sk, net);
    if sk.snd.queue.is_empty() {
        // An idle connection holds no buffers, not even the SYN's place.
        sk.snd.queue = Default::default();
    }
    if sk.sk.flags.keepalive {
        let idle = super::timer::keepalive_time(sk, net);
        super::timer::reset_keepalive(sk, net, id, u64::from(idle) * SEC);
    }
}

/// `tcp_initialize_rcv_mss`.
fn init_rcv_mss(sk: &mut TcpSock) {
    let hint = u32::from(sk.rcv.advmss.min(sk.snd.mss_cache)).min(sk.rcv.wnd / 2).min(536);
    sk.rcv.mss = hint.max(u32::from(TCP_MIN_MSS)) as u16;
}

/// FIN_WAIT1 with our FIN acknowledged: FIN_WAIT2, or away. `Some` when the segment is finished with, with the reason
/// if it is a drop.
#[allow(clippy::option_option)]
fn fin_wait1(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb) -> Option<Option<DropReason>> {
    if sk.snd.una != sk.snd.write_seq {
        return None;
    }
    set_state(net, sk, id, State::FinWait2);
    sk.sk.shutdown |= SEND_SHUTDOWN;
    if !sk.sk.flags.dead {
        wake(net, sk, id, EVERYTHING);
        return None;
    }
    let linger2 = sk.tune.as_ref().map_or(0, |t| t.linger2);
    let fin = u32::from(skb.tcp.flags.contains(Flags::FIN));
    let has_data = skb.tcp.end_seq != skb.tcp.seq && after(skb.tcp.end_seq.wrapping_sub(fin), sk.rcv.nxt);
    if linger2 < 0 || has_data {
        inc(net, sk, Mib::TcpExtTCPAbortOnData);
        super::ipv4::send_reset(net, skb, super::md5sig::own(sk));
        tcp_done(sk, net, id);
        return Some(Some(DropReason::TcpAbortOnData));
    }
    let seconds = close::fin_time(sk, net);
    if seconds > time_wait_seconds() {
        super::timer::reset_keepalive(sk, net, id, u64::from(seconds - time_wait_seconds()) * SEC);
        return None;
    }
    if fin == 1 {
        // The FIN comes with the acknowledgement: the usual way takes it from here.
        return None;
    }
    super::handshake::time_wait::tcp_time_wait(sk, net, id, State::FinWait2, seconds);
    Some(None)
}

/// TCP_TIMEWAIT_LEN.
pub fn time_wait_seconds() -> u32 {
    60
}

/// SYN_SENT: a SYN-ACK, a SYN (simultaneous open) or a RST (RFC 9293 §3.10.7.3).
#[doc(alias = "tcp_rcv_synsent_state_process")]
fn rcv_synsent(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) {
    let flags = skb.tcp.flags;
    if flags.contains(Flags::ACK) {
        // Before una or beyond what was sent: RST with its number, the SYN goes on.
        if !after(skb.tcp.ack, sk.snd.una) || after(skb.tcp.ack, sk.snd.nxt) {
            if sk.loss.retransmits == 0 {
                super::reset_write_timer(net, sk, id, WriteTimer::Retrans, 1);
            }
            if !flags.contains(Flags::RST) {
                super::ipv4::send_reset(net, &skb, super::md5sig::own(sk));
            }
            return net.kfree_skb(skb, DropReason::TcpInvalidAckSequence, "tcp_rcv_synsent_state_process");
        }
        let ours = net.env.now_ms().wrapping_add(sk.tsoffset);
        if let (true, Some((_, ecr))) = (sk.flags.tstamp_ok, o.ts)
            && ecr != 0
            && !super::seq::between(ecr, sk.loss.retrans_stamp_ms, ours)
        {
            inc(net, sk, Mib::TcpExtPAWSActive);
            super::ipv4::send_reset(net, &skb, super::md5sig::own(sk));
            return net.kfree_skb(skb, DropReason::TcpRfc7323Paws, "tcp_rcv_synsent_state_process");
        }
        if flags.contains(Flags::RST) {
            tcp_reset(sk, net, id);
            return net.kfree_skb(skb, DropReason::TcpReset, "tcp_rcv_synsent_state_process");
        }
        if !flags.contains(Flags::SYN) {
            return net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_synsent_state_process");
        }
        return synsent_synack(sk, net, id, skb, o);
    }
    if flags.contains(Flags::RST) {
        return net.kfree_skb(skb, DropReason::TcpReset, "tcp_rcv_synsent_state_process");
    }
    if !flags.contains(Flags::SYN) {
        return net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_synsent_state_process");
    }
    // Simultaneous open: our SYN again, now with an ACK (RFC 9293 figure 7).
    let (wscale, clamp) = (sk.rcv.wscale, sk.rcv.window_clamp);
    take_peer_options(sk, net, &skb, o);
    // What our SYN offered is said again, whether the peer has it or not.
    (sk.rcv.wscale, sk.rcv.window_clamp) = (wscale, clamp);
    ecn::rcv_syn(sk, skb.tcp.flags);
    set_state(net, sk, id, State::SynRecv);
    sk.snd.wnd = u32::from(skb.tcp.window);
    sk.snd.wl1 = skb.tcp.seq;
    sk.snd.max_window = sk.snd.wnd;
    transmit::send_synack(sk, net, id);
    net.consume_skb(skb);
}

fn synsent_synack(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) {
    take_peer_options(sk, net, &skb, o);
    ecn::rcv_synack(sk, skb.tcp.flags);
    sk.snd.wl1 = skb.tcp.seq;
    let _ = ack::tcp_ack(sk, net, id, &skb, o, ack::FLAG_SLOWPATH | ack::FLAG_NO_CHALLENGE_ACK);
    sk.snd.wnd = u32::from(skb.tcp.window);
    sk.snd.max_window = sk.snd.wnd;
    set_state(net, sk, id, State::Established);
    advmss_for_data(sk);
    init_transfer(sk, net, id);
    sk.loss.retransmits = 0;
    sk.loss.retrans_stamp_ms = 0;
    let more = sk.tfo.as_ref().and_then(|t| t.request).is_some_and(|r| r.more);
    let again = client::rcv_synack(sk, net, id, skb, o);
    wake(net, sk, id, EVERYTHING);
    if again || sk.state == State::Close {
        return;
    }
    // Data to send at once or soon: the acknowledgement may ride on it.
    let soon = sk.flags.write_pending || sk.flags.quickack_off || sk.tune.as_ref().is_some_and(|t| t.defer_accept != 0);
    if more || sk.has_unsent() || soon {
        sk.rcv.ack.pending |= ICSK_ACK_SCHED;
        sk.rcv.ack.last_us = net.env.now_us();
        out_ack::enter_quickack_mode(sk, 16);
        out_ack::send_delayed_ack(sk, net, id);
        output::push_pending_frames(sk, net, id, output::Nagle::Default);
    } else {
        out_ack::send_ack(sk, net, id);
    }
}

/// What the peer's SYN or SYN-ACK says about options, windows and where its sequence begins.
fn take_peer_options(sk: &mut TcpSock, net: &mut Net, skb: &Skb, o: &TcpOptions) {
    sk.rcv.nxt = skb.tcp.seq.wrapping_add(1);
    sk.rcv.wup = sk.rcv.nxt;
    sk.rcv.copied_seq = sk.rcv.nxt;
    sk.rcv.space_seq = sk.rcv.nxt;
    sk.flags.wscale_ok &= o.wscale.is_some();
    if sk.flags.wscale_ok {
        sk.snd.wscale = o.wscale.unwrap_or(0).min(14);
    } else {
        sk.snd.wscale = 0;
        sk.rcv.wscale = 0;
        sk.rcv.window_clamp = sk.rcv.window_clamp.min(65_535);
    }
    sk.flags.tstamp_ok &= o.ts.is_some();
    if let (true, Some((val, _))) = (sk.flags.tstamp_ok, o.ts) {
        sk.rcv.ts_recent = val;
        sk.rcv.ts_recent_stamp = ((net.env.now / SEC) as u32).max(1);
    }
    sk.flags.sack_ok &= o.sack_ok;
    sk.snd.mss_clamp = o.mss.unwrap_or(536);
    let mtu = sk.dst.map_or(1500, |d| d.mtu);
    super::mtup::init(sk, net);
    output::segment::sync_mss(sk, net, mtu);
}

/// A RST that counts: the error of the state, everything dropped, the socket closed.
pub fn tcp_reset(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let errno = match sk.state {
        State::SynSent => Errno::ECONNREFUSED,
        State::CloseWait => Errno::EPIPE,
        State::Close => return,
        _ => Errno::ECONNRESET,
    };
    sk.sk.err = errno.0;
    close::purge_write_queue(sk, net, id);
    tcp_done(sk, net, id);
    wake(net, sk, id, EVERYTHING);
}

/// Ends the connection: CLOSE, out of the tables, timers off; an orphan is taken away.
pub fn tcp_done(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    server::remove(sk, net, false);
    if matches!(sk.state, State::SynSent | State::SynRecv) {
        inc(net, sk, Mib::TcpAttemptFails);
    }
    set_state(net, sk, id, State::Close);
    let (tick_ms, now) = (1000 / u64::from(net.env.hz.max(1)), net.env.jiffies());
    if sk.track.is_some()
        && let Some(n) = net.ns.get_mut(sk.sk.ns)
    {
        n.tcp.account.over(sk, tick_ms, now);
    }
    super::tables::unhash(net, sk, id);
    if sk.sk.userlocks & SOCK_BINDPORT_LOCK == 0 {
        super::tables::put_port(net, sk, id);
    }
    super::clear_write_timer(sk);
    sk.delack_timer.cancel();
    sk.keepalive_timer.cancel();
    super::pacing::cancel_timers(sk, net, id);
    sk.sk.shutdown = SHUTDOWN_MASK;
    if sk.sk.flags.dead {
        destroy(sk, net, id);
    } else {
        wake(net, sk, id, EVERYTHING);
    }
}

/// The last of an orphan: queues emptied, port given back, slot freed by the reaper.
#[doc(alias = "inet_csk_destroy_sock")]
pub fn destroy(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    super::handshake::fastopen::active_disable_ofo_check(sk, net);
    server::remove(sk, net, false);
    close::purge_queues(sk, net, id);
    super::tables::put_port(net, sk, id);
    if std::mem::take(&mut sk.flags.orphan) {
        net.usage.tcp_orphans = net.usage.tcp_orphans.saturating_sub(1);
    }
    net.env.rises.push_back(Rise::Reap { sock: SockId::Tcp(id) });
}

/// FIN arrived in order (`tcp_fin`).
pub(super) fn tcp_fin(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    sk.rcv.ack.pending |= ICSK_ACK_SCHED;
    sk.sk.shutdown |= RCV_SHUTDOWN;
    if std::mem::replace(&mut sk.rcv.fin, true) {
        // A second one behind the first is acknowledged and means nothing: what can be read stays what it was.
        sk.rcv.copied_seq = sk.rcv.copied_seq.wrapping_add(1);
        for skb in &mut sk.rcv.queue {
            let bare = skb.frags.is_empty();
            skb.tcp.seq = if bare { sk.rcv.nxt.wrapping_sub(1) } else { skb.tcp.seq.wrapping_add(1) };
        }
    }
    match sk.state {
        State::SynRecv | State::Established => {
            set_state(net, sk, id, State::CloseWait);
            // From now on we answer: delayed acknowledgements.
            sk.rcv.ack.pingpong = setting(net, sk, |s| s.tcp_pingpong_thresh).min(255) as u8;
        }
        State::FinWait1 => {
            out_ack::send_ack(sk, net, id);
            set_state(net, sk, id, State::Closing);
        }
        State::FinWait2 => {
            out_ack::send_ack(sk, net, id);
            super::handshake::time_wait::tcp_time_wait(sk, net, id, State::TimeWait, 0);
        }
        _ => {}
    }
    let ooo = sk.rcv.ooo.take();
    for skb in ooo {
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
        net.kfree_skb(skb, DropReason::TcpOfoQueuePrune, "tcp_fin");
    }
    sk.rcv.sack.n = 0;
    if !sk.sk.flags.dead {
        wake(net, sk, id, EVERYTHING);
    }
}
