//! close(2), shutdown(2) and what ends a connection early (Linux: `__tcp_close`, `tcp_shutdown`, `tcp_disconnect`).
use super::input::{destroy, tcp_done};
use super::output::{self, Nagle, transmit};
use super::sock::*;
use super::state::{Cause, State, next};
use super::track::Limit;
use super::{handshake, inc, mem, set_state, setting, sysctl, tables, wake};
use crate::env::SEC;
use crate::ids::{SockId, TcpId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::sock::*;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::task::call::{Ret, RunCtx, Sleep, Step};
use belljar_abi::{Errno, POLLHUP};
use belljar_wire::tcp::Flags;

/// The last descriptor is gone. Sends FIN or RST as RFC 1122 and 2525 ask, lets the connection go on as an orphan.
/// True when the caller has to sleep for SO_LINGER (see [`linger_step`]).
pub fn tcp_close(k: &mut Kernel, id: TcpId) -> bool {
    if k.socks.tcp.get(id).is_some_and(|sk| sk.state == State::Listen) {
        handshake::child::listen_stop(k, id);
    }
    crate::net::ipv6::anycast::close(k, SockId::Tcp(id));
    crate::net::ipv6::flowlabel::close(k, SockId::Tcp(id));
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return false };
    sk.sk.shutdown = SHUTDOWN_MASK;
    sk.sk.file = None;
    if sk.state == State::Close {
        release(sk, net, id);
        return false;
    }
    let unread = flush_receive_queue(sk, net);
    if unread {
        // RFC 2525 §2.17: the peer must learn that its data was lost.
        inc(net, sk, Mib::TcpExtTCPAbortOnClose);
        transmit::send_active_reset(sk, net, id);
        release(sk, net, id);
        return false;
    }
    if sk.sk.linger == Linger::On(0) {
        inc(net, sk, Mib::TcpExtTCPAbortOnData);
        disconnect(sk, net, id);
        release(sk, net, id);
        return false;
    }
    if close_state(sk, net, id) {
        send_fin(sk, net, id);
    }
    let lingers = matches!(sk.sk.linger, Linger::On(n) if n > 0)
        && sk.state.is(&[State::FinWait1, State::Closing, State::LastAck]);
    if !lingers {
        orphan(sk, net, id);
    }
    lingers
}

/// close with SO_LINGER: until the FIN is acknowledged or the time is over, then the rest as an orphan.
pub fn linger_step(sk: &mut TcpSock, net: &mut Net, id: TcpId, ctx: RunCtx) -> Step {
    let waiting = sk.state.is(&[State::FinWait1, State::Closing, State::LastAck]);
    if waiting && !ctx.timed_out {
        let Linger::On(seconds) = sk.sk.linger else { return Step::Done(Ok(Ret::Int(0))) };
        let deadline = Some(net.env.now + u64::from(seconds) * SEC);
        return Step::Sleep(Sleep { on: SockId::Tcp(id), mask: super::input::EVERYTHING, exclusive: false, deadline });
    }
    orphan(sk, net, id);
    Step::Done(Ok(Ret::Int(0)))
}

/// A socket that is closed already: away with it.
fn release(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    sk.sk.flags.dead = true;
    if sk.state == State::Close {
        tables::unhash(net, sk, id);
        destroy(sk, net, id);
    } else {
        tcp_done(sk, net, id);
    }
}

/// Nobody holds it any more: it finishes alone, within limits (`tcp_close`, second half).
fn orphan(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    sk.sk.flags.dead = true;
    if sk.state == State::Close {
        return destroy(sk, net, id);
    }
    sk.flags.orphan = true;
    net.usage.tcp_orphans += 1;
    if sk.state == State::FinWait2 {
        let linger2 = sk.tune.as_ref().map_or(0, |t| t.linger2);
        if linger2 < 0 {
            transmit::send_active_reset(sk, net, id);
            inc(net, sk, Mib::TcpExtTCPAbortOnLinger);
            return tcp_done(sk, net, id);
        }
        let seconds = fin_time(sk, net);
        if seconds > super::input::time_wait_seconds() {
            let wait = u64::from(seconds - super::input::time_wait_seconds()) * SEC;
            super::timer::reset_keepalive(sk, net, id, wait);
        } else {
            return handshake::time_wait::tcp_time_wait(sk, net, id, State::FinWait2, seconds);
        }
    }
    if sk.state != State::Close && too_many_orphans(net, 0) {
        transmit::send_active_reset(sk, net, id);
        inc(net, sk, Mib::TcpExtTCPAbortOnMemory);
        tcp_done(sk, net, id);
    }
}

/// More orphans, or more memory in TCP's queues, than the settings allow (`tcp_check_oom`).
fn too_many_orphans(net: &Net, shift: u32) -> bool {
    u64::from(net.usage.tcp_orphans) << shift > u64::from(net.sysctl.tcp_max_orphans) || mem::out_of_memory(net)
}

/// An orphan that keeps retransmitting is the first to go when there are too many: one that looks lost for good counts
/// twice. True when it went.
#[doc(alias = "tcp_out_of_resources")]
pub fn out_of_resources(sk: &mut TcpSock, net: &mut Net, id: TcpId, mut reset: bool) -> bool {
    let silent = net.env.now_us().saturating_sub(sk.snd.last_us);
    let mut shift = 0;
    if silent > 2 * u64::from(super::bounds(net, sk).max_us) || !reset {
        shift += 1;
    }
    shift += u32::from(sk.sk.err_soft() != 0);
    if !too_many_orphans(net, shift) {
        return false;
    }
    // Fresh enough that the peer still listens, or nothing in flight that a reset could overtake.
    reset |= silent <= 60_000_000 || (sk.snd.wnd == 0 && sk.snd.packets_out == 0);
    if reset {
        transmit::send_active_reset(sk, net, id);
    }
    tcp_done(sk, net, id);
    inc(net, sk, Mib::TcpExtTCPAbortOnMemory);
    true
}

/// Seconds that FIN_WAIT2 of an orphan may last (`tcp_fin_time`): at least 3.5 retransmission timeouts.
pub fn fin_time(sk: &TcpSock, net: &Net) -> u32 {
    let own = sk.tune.as_ref().map_or(0, |t| t.linger2);
    // Below 0 is no time at all.
    let seconds = if own > 0 { own as u32 } else { setting(net, sk, |s| s.tcp_fin_timeout.get()) };
    let rto = sk.rtt.rto_us;
    seconds.max(((rto << 2) - (rto >> 1)) / 1_000_000)
}

/// Moves to the state that follows our FIN; false when none is to be sent (`tcp_close_state`).
fn close_state(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    if sk.state == State::SynSent {
        tcp_done(sk, net, id);
        return false;
    }
    match next(sk.state, Cause::SendFin) {
        Some(to) => {
            set_state(net, sk, id, to);
            true
        }
        None => false,
    }
}

/// Queues the FIN on the last unsent piece, or as one of its own, and pushes everything (`tcp_send_fin`).
pub fn send_fin(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let unsent = sk.has_unsent();
    match sk.snd.queue.back_mut() {
        Some(last) if unsent => {
            last.flags |= Flags::FIN;
            last.end_seq = last.end_seq.wrapping_add(1);
            sk.snd.write_seq = sk.snd.write_seq.wrapping_add(1);
        }
        _ => {
            if sk.snd.queue.is_empty()
                && let Some(t) = sk.track.as_deref_mut()
            {
                t.chrono.start(Limit::Busy, net.env.jiffies());
            }
            let fin = TxSeg::new(sk.snd.write_seq, Default::default(), Flags::FIN);
            sk.snd.write_seq = fin.end_seq;
            sk.sk.wmem_queued += fin.truesize;
            sk.snd.queue.push_back(fin);
        }
    }
    output::push_pending_frames(sk, net, id, Nagle::Push);
}

/// shutdown(2); ENOTCONN unless connected or connecting.
#[doc(alias = "inet_shutdown")]
pub fn tcp_shutdown(k: &mut Kernel, id: TcpId, how: i32) -> Result<(), Errno> {
    let bits = match how {
        0 => RCV_SHUTDOWN,
        1 => SEND_SHUTDOWN,
        2 => SHUTDOWN_MASK,
        _ => return Err(Errno::EINVAL),
    };
    if k.socks.tcp.get(id).is_some_and(|sk| sk.state == State::Listen) {
        if bits & RCV_SHUTDOWN != 0 {
            handshake::child::listen_stop(k, id);
            let Kernel { socks, net, .. } = k;
            if let Some(sk) = socks.tcp.get_mut(id) {
                set_state(net, sk, id, State::Close);
                wake(net, sk, id, super::input::EVERYTHING);
            }
        }
        return Ok(());
    }
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return Err(Errno::ENOTCONN) };
    match sk.state {
        State::Close => {
            // Said to be an error, and done all the same (`inet_shutdown`).
            sk.sk.shutdown |= bits;
            wake(net, sk, id, super::input::EVERYTHING);
            return Err(Errno::ENOTCONN);
        }
        State::SynSent => {
            disconnect(sk, net, id);
            sk.sk.shutdown |= bits;
            wake(net, sk, id, super::input::EVERYTHING);
            return Ok(());
        }
        _ => {}
    }
    if std::mem::take(&mut sk.flags.connecting) {
        sk.flags.connected = true;
    }
    sk.sk.shutdown |= bits;
    if bits & SEND_SHUTDOWN != 0 {
        shutdown_send(sk, net, id);
    }
    wake(net, sk, id, super::input::EVERYTHING | POLLHUP);
    Ok(())
}

/// The FIN of shutdown(SHUT_WR). In SYN_RECV it waits for the handshake.
#[doc(alias = "tcp_shutdown")]
pub(super) fn shutdown_send(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.state.is(&[State::Established, State::CloseWait]) && close_state(sk, net, id) {
        // Who can still ask is told how the FIN fared; a socket that is closed is asked no more.
        if sk.track.is_none() {
            transmit::first_data(sk, net);
        }
        send_fin(sk, net, id);
    }
}

/// Back to CLOSE: RST where the peer has to know (`tcp_disconnect`). The port stays if it was bound by the program.
#[doc(alias = "tcp_disconnect")]
pub fn disconnect(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let old = sk.state;
    let needs_reset = old.is(&[State::Established, State::CloseWait, State::FinWait1, State::FinWait2, State::SynRecv])
        || (sk.snd.nxt != sk.snd.write_seq && old.is(&[State::Closing, State::LastAck]));
    if needs_reset {
        transmit::send_active_reset(sk, net, id);
        sk.sk.err = Errno::ECONNRESET.0;
    } else if old == State::SynSent {
        sk.sk.err = Errno::ECONNRESET.0;
    }
    handshake::fastopen::server::remove(sk, net, false);
    set_state(net, sk, id, State::Close);
    tables::unhash(net, sk, id);
    super::clear_write_timer(sk);
    sk.delack_timer.cancel();
    sk.keepalive_timer.cancel();
    super::pacing::cancel_timers(sk, net, id);
    purge_queues(sk, net, id);
    reset_connection_state(sk, net);
    tables::reclass(net, sk);
}

/// What the next connection of the socket must not inherit.
fn reset_connection_state(sk: &mut TcpSock, net: &Net) {
    let Some(sysctl) = sysctl(net, sk) else { return };
    let fresh = TcpSock::new(Sock::new(sk.sk.ns, sk.sk.family), sysctl);
    let user_mss = sk.snd.user_mss;
    let kept = sk.flags;
    let cong = sk.cong.name();
    // What was asked for stays, how the last one went does not.
    let tfo = sk.tfo.take().map(|t| {
        let (connect, no_cookie, keys, max_qlen) = (t.connect, t.no_cookie, t.keys, t.max_qlen);
        Box::new(Tfo { connect, no_cookie, keys, max_qlen, ..Tfo::default() })
    });
    // Beyond the old connection; a socket that never had one draws its number when it connects.
    let write_seq = match sk.snd.write_seq {
        0 => 0,
        old => old.wrapping_add(sk.snd.max_window).wrapping_add(2).max(1),
    };
    sk.snd = Snd { user_mss, write_seq, nxt: write_seq, una: write_seq, ..fresh.snd };
    sk.rcv = fresh.rcv;
    sk.rtt = fresh.rtt;
    sk.loss = fresh.loss;
    sk.cong = crate::net::tcp::cong::Cong::new(cong);
    sk.totals = fresh.totals;
    sk.track = None;
    sk.flags = TcpFlags { nodelay: kept.nodelay, cork: kept.cork, inq: kept.inq, orphan: kept.orphan, ..fresh.flags };
    sk.tfo = tfo;
    if let Some(r) = sk.rare.as_deref_mut() {
        r.urg = None;
    }
    sk.dst = None;
    sk.sk.shutdown = 0;
    sk.sk.daddr = sk.sk.any();
    sk.sk.dport = 0;
    if sk.sk.userlocks & SOCK_BINDADDR_LOCK == 0 {
        (sk.sk.saddr, sk.sk.rcv_saddr) = (sk.sk.any(), sk.sk.any());
    }
}

/// True when unread data was thrown away (a FIN alone does not count).
fn flush_receive_queue(sk: &mut TcpSock, net: &mut Net) -> bool {
    let mut unread = false;
    for skb in std::mem::take(&mut sk.rcv.queue) {
        unread |= !skb.frags.is_empty();
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
        net.consume_skb(skb);
    }
    unread
}

/// What was not sent goes first.
#[doc(alias = "tcp_write_queue_purge")]
pub fn purge_write_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let sent = sk.snd.sent.min(sk.snd.queue.len());
    for from in [sent, 0] {
        for seg in sk.snd.queue.drain(from..) {
            net.pool.give(seg.data);
        }
        super::zerocopy::freed(sk, &mut net.env, id);
    }
    sk.snd.queue = Default::default();
    let s = &mut sk.snd;
    (s.sent, s.packets_out, s.sacked_out, s.lost_out, s.retrans_out) = (0, 0, 0, 0, 0);
    sk.sk.wmem_queued = 0;
}

pub fn purge_queues(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    purge_write_queue(sk, net, id);
    for queue in [std::mem::take(&mut sk.rcv.queue), sk.rcv.ooo.take()] {
        for skb in queue {
            sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
            net.kfree_skb(skb, DropReason::SocketClose, "tcp_write_queue_purge");
        }
    }
    sk.rcv.sack.n = 0;
}
