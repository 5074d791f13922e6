//! recv(2) on a TCP socket: from the receive queue to the caller, as shared segments (Linux: `tcp_recvmsg_locked`).
use super::input::{READABLE, window};
use super::output::ack;
use super::sock::*;
use super::state::State;
use super::urgent::{self, Meets};
use crate::env::Nanos;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::sock::RCV_SHUTDOWN;
use crate::net::core::timestamp;
use crate::task::call::{Cmsg, Received, RecvMsg, Ret, RunCtx, Sleep, Step};
use belljar_abi::{Errno, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, SOL_TCP, TCP_CM_INQ};
use belljar_wire::Segs;

/// Takes up to `len` bytes. Sleeps until SO_RCVLOWAT (all of `len` with MSG_WAITALL) are there; `got` keeps what was
/// taken over repeated runs.
#[doc(alias = "tcp_recvmsg_locked")]
pub fn tcp_recvmsg(sk: &mut TcpSock, net: &mut Net, id: TcpId, m: &mut RecvMsg, ctx: RunCtx) -> Step {
    let (len, flags) = (m.len, m.flags);
    if sk.state == State::Listen {
        return Step::Done(Err(Errno::ENOTCONN));
    }
    if flags & MSG_OOB != 0 {
        return urgent::recv_urg(sk, len, flags);
    }
    if flags & MSG_PEEK != 0 {
        return peek(sk, net, id, len, flags, ctx);
    }
    let got = &mut m.got;
    let wait_all = flags & MSG_WAITALL != 0;
    let target = if wait_all { len } else { (sk.sk.rcvlowat() as usize).clamp(1, len.max(1)) };
    let took = take(sk, net, len - got.len().min(len), got, &mut m.tstamp);
    if took > 0 {
        window::rcv_space_adjust(sk, net);
        ack::cleanup_rbuf(sk, net, id, took);
    }
    let (inq, tstamp) = (sk.flags.inq, m.tstamp);
    let done = |sk: &TcpSock, got: &mut Segs, flags: i32, net: &mut Net| {
        let segs = std::mem::take(got);
        if flags & MSG_TRUNC != 0 {
            // Thrown away, only counted (tcp(7)).
            let n = segs.len();
            net.pool.give(segs);
            return Step::Done(Ok(Ret::Int(n as i64)));
        }
        Step::Done(Ok(match inq || sk.sk.flags.rx_tstamp {
            true => with_cmsgs(sk, net, segs, tstamp),
            false => Ret::Stream(segs),
        }))
    };
    // Bytes before a mark are never read together with those behind it.
    let marked = sk.urg().is_some() && urgent::at_mark(sk) && !got.is_empty();
    if got.len() >= target || len == 0 || marked || (!got.is_empty() && (ctx.nonblock || ctx.timed_out)) {
        return done(sk, got, flags, net);
    }
    match end_of_wait(sk, !got.is_empty()) {
        Some(Ok(())) => return done(sk, got, flags, net),
        Some(Err(e)) => return Step::Done(Err(e)),
        None => {}
    }
    if ctx.nonblock || ctx.timed_out {
        return Step::Done(Err(Errno::EAGAIN));
    }
    sleep(sk, net, id)
}

/// With what the program asked to be told beside the bytes: when the last of them came, and what is left.
#[doc(alias = "tcp_recv_timestamp")]
fn with_cmsgs(sk: &TcpSock, net: &Net, segs: Segs, tstamp: Nanos) -> Ret {
    let mut cmsgs = Vec::new();
    if sk.sk.flags.rx_tstamp && tstamp != 0 {
        timestamp::recv_timestamp(&sk.sk, &net.env, tstamp, false, &mut cmsgs);
    }
    if sk.flags.inq {
        cmsgs.push(inq_hint(sk));
    }
    let full_len = segs.len();
    Ret::Data(Box::new(Received { segs, cmsgs, full_len, ..Received::default() }))
}

/// TCP_INQ: what is left to read goes along, 1 for the end of the stream when it comes next.
#[doc(alias = "tcp_inq_hint")]
fn inq_hint(sk: &TcpSock) -> Cmsg {
    let left = sk.rcv.nxt.wrapping_sub(sk.rcv.copied_seq);
    let ended = sk.sk.shutdown & RCV_SHUTDOWN != 0
        && sk.state.is(&[State::CloseWait, State::LastAck, State::Closing, State::Close]);
    let inq = if left == 0 && ended { 1 } else { left as i32 };
    Cmsg { level: SOL_TCP, kind: TCP_CM_INQ, data: inq.to_ne_bytes().to_vec() }
}

fn sleep(sk: &TcpSock, net: &Net, id: TcpId) -> Step {
    let deadline = sk.sk.cold.as_ref().and_then(|c| c.rcvtimeo).map(|t| net.env.now + t);
    let mask = READABLE | belljar_abi::POLLERR | belljar_abi::POLLHUP;
    Step::Sleep(Sleep { on: SockId::Tcp(id), mask, exclusive: false, deadline })
}

/// Nothing more in the queue: does waiting make sense? `Some(Ok)` is the end of the stream (or what there is).
fn end_of_wait(sk: &mut TcpSock, have_some: bool) -> Option<Result<(), Errno>> {
    if have_some {
        let over = sk.sk.err != 0 || sk.state == State::Close || sk.sk.shutdown & RCV_SHUTDOWN != 0;
        return over.then_some(Ok(()));
    }
    if sk.rcv.fin {
        // The FIN is consumed by the first read that meets it.
        sk.rcv.fin = false;
        sk.rcv.copied_seq = sk.rcv.copied_seq.wrapping_add(1);
        return Some(Ok(()));
    }
    if let Some(err) = sk.sk.take_err() {
        return Some(Err(Errno(err)));
    }
    if sk.sk.shutdown & RCV_SHUTDOWN != 0 {
        return Some(Ok(()));
    }
    if sk.state == State::Close {
        // Never connected.
        return Some(Err(Errno::ENOTCONN));
    }
    None
}

/// Moves up to `len` bytes from the queue to `got`; `tstamp` is when the last of them came.
fn take(sk: &mut TcpSock, net: &mut Net, len: usize, got: &mut Segs, tstamp: &mut Nanos) -> usize {
    let mut left = len;
    while left > 0 {
        let Some(first) = sk.rcv.queue.front() else { break };
        // A FIN alone: its number is no octet, urgent or not.
        if first.frags.is_empty() {
            let Some(skb) = sk.rcv.queue.pop_front() else { break };
            sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
            net.consume_skb(skb);
            continue;
        }
        let mut n = first.frags.len().min(left);
        if sk.urg().is_some() {
            match urgent::meets(sk, sk.rcv.copied_seq, n, !got.is_empty()) {
                Meets::Data(some) => n = some,
                Meets::Mark => break,
                Meets::Hole => {
                    urgent::pass(sk, net);
                    urgent::passed(sk);
                    continue;
                }
            }
        }
        let Some(first) = sk.rcv.queue.front_mut() else { break };
        *tstamp = first.tstamp;
        if n == first.frags.len() {
            let Some(mut skb) = sk.rcv.queue.pop_front() else { break };
            got.append(std::mem::take(&mut skb.frags));
            sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
            net.consume_skb(skb);
        } else {
            got.append(first.frags.split_to(n));
            first.tcp.seq = first.tcp.seq.wrapping_add(n as u32);
        }
        left -= n;
        sk.rcv.copied_seq = sk.rcv.copied_seq.wrapping_add(n as u32);
        if sk.urg().is_some() {
            urgent::passed(sk);
        }
    }
    sk.sk.was_read(len - left);
    len - left
}

/// MSG_PEEK: the same bytes again next time.
fn peek(sk: &mut TcpSock, net: &mut Net, id: TcpId, len: usize, flags: i32, ctx: RunCtx) -> Step {
    let mut out = Segs::new();
    let (mut skip, mut tstamp) = (sk.sk.peek_offset(), 0);
    let mut marked = false;
    for skb in &sk.rcv.queue {
        let mut here = skip.min(skb.frags.len());
        skip -= here;
        while out.len() < len && here < skb.frags.len() && !marked {
            let n = (skb.frags.len() - here).min(len - out.len());
            match urgent::meets(sk, skb.tcp.seq.wrapping_add(here as u32), n, !out.is_empty()) {
                Meets::Data(n) => {
                    out.append(skb.frags.slice(here, n));
                    here += n;
                }
                Meets::Mark => marked = true,
                Meets::Hole => here += 1,
            }
            tstamp = skb.tstamp;
        }
    }
    let enough = if flags & MSG_WAITALL != 0 { len } else { 1 };
    if (marked || out.len() >= enough.min(len)) && (len == 0 || !out.is_empty()) {
        sk.sk.peeked(out.len());
        return Step::Done(Ok(match sk.sk.flags.rx_tstamp {
            true => with_cmsgs(sk, net, out, tstamp),
            false => Ret::Stream(out),
        }));
    }
    let over = sk.rcv.fin || sk.sk.shutdown & RCV_SHUTDOWN != 0;
    if over || (!out.is_empty() && (ctx.nonblock || ctx.timed_out || sk.sk.err != 0)) {
        return Step::Done(Ok(Ret::Stream(out)));
    }
    if let Some(err) = sk.sk.take_err() {
        return Step::Done(Err(Errno(err)));
    }
    if sk.state == State::Close {
        return Step::Done(Err(Errno::ENOTCONN));
    }
    if ctx.nonblock || ctx.timed_out {
        return Step::Done(Err(Errno::EAGAIN));
    }
    sleep(sk, net, id)
}
