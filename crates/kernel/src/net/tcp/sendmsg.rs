//! send(2) on a TCP socket: bytes into the write queue, pushed as they become worth sending (Linux: `tcp_sendmsg_locked`).
use super::input::WRITABLE;
use super::output::permit::GSO_MAX_PAYLOAD;
use super::output::{self, Nagle, segment};
use super::poll::memory_free;
use super::sock::*;
use super::state::State;
use super::track::Limit;
use super::{mem, pacing, rate, urgent, zerocopy};
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::skb::SKB_OVERHEAD;
use crate::net::core::sock::SEND_SHUTDOWN;
use crate::net::core::timestamp::{self, Sockcm};
use crate::net::core::zerocopy::{MAX_FRAGS, PAGE};
use crate::task::call::{Payload, Ret, RunCtx, SendMsg, Sleep, Step};
use belljar_abi::{Errno, MSG_EOR, MSG_MORE, MSG_OOB, SOF_TIMESTAMPING_TX_RECORD_MASK};
use belljar_wire::Segs;
use belljar_wire::tcp::Flags;

/// Takes what fits of `data` (which is advanced) and sends what may go. `sent` counts over repeated runs: a blocking
/// call returns when all was taken, or with what was taken when it is disturbed.
#[doc(alias = "tcp_sendmsg_locked")]
pub fn tcp_sendmsg(sk: &mut TcpSock, net: &mut Net, id: TcpId, m: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    let (zc, flags) = (m.zerocopy, m.flags);
    let mut stamp = None;
    if sk.sk.flags.tx_tstamp || !m.cmsgs.is_empty() {
        match timestamp::sock_cmsg_send(&sk.sk, m, true) {
            Ok(c) => stamp = Some(c),
            Err(e) => return Step::Done(Err(e)),
        }
    }
    let SendMsg { data, sent, .. } = m;
    let done = |sent: usize, err: Errno| match sent {
        0 => Step::Done(Err(err)),
        n => Step::Done(Ok(Ret::Int(n as i64))),
    };
    sk.flags.write_pending = false;
    let early = sk.state == State::SynRecv && sk.fastopen_rsk().is_some();
    if !early && sk.state.is(&[State::SynSent, State::SynRecv]) && sk.sk.err == 0 && sk.sk.shutdown & SEND_SHUTDOWN == 0
    {
        // sk_stream_wait_connect
        if ctx.nonblock || ctx.timed_out {
            return done(*sent, Errno::EAGAIN);
        }
        sk.flags.write_pending = true;
        return sleep(sk, net, id);
    }
    if sk.sk.err != 0 || sk.sk.shutdown & SEND_SHUTDOWN != 0 || !(early || can_send(sk.state)) {
        if *sent > 0 {
            return done(*sent, Errno::EPIPE);
        }
        // sk_stream_error: the pending error once, then EPIPE; the driver raises SIGPIPE with it.
        let err = sk.sk.take_err().map_or(Errno::EPIPE, Errno);
        return Step::Done(Err(err));
    }
    rate::check_app_limited(sk);
    let mss = segment::current_mss(sk, net);
    let oob = flags & MSG_OOB != 0;
    let goal = if oob { mss } else { size_goal(sk, mss) };
    loop {
        if data.is_empty() {
            break;
        }
        let size = goal.min(data.len() as u32);
        let full = |sk: &mut TcpSock, net: &Net| !memory_free(sk, net) || !mem::may_send(sk, net, size);
        if full(sk, net) && joinable(sk, goal, zc) == 0 {
            if *sent > 0 {
                push(sk, net, id, flags & !MSG_MORE, Nagle::Push, goal);
            }
            if full(sk, net) {
                sk.snd.nospace = true;
                if ctx.nonblock || ctx.timed_out {
                    tx_timestamp(sk, stamp, *sent);
                    return done(*sent, Errno::EAGAIN);
                }
                return sleep(sk, net, id);
            }
        }
        let first = *sent == 0;
        *sent += take_some(sk, net, data, goal, zc, first);
        if data.is_empty() || oob || sk.snd.queue.back().is_some_and(|l| open(sk, l, goal)) {
            continue;
        }
        if forced_push(sk) {
            mark_push(sk);
            output::push_pending_frames(sk, net, id, Nagle::Push);
        } else if sk.snd.queue.len() - sk.snd.sent == 1 {
            // The first full piece goes at once, while the rest is still being written.
            output::push_one(sk, net, id);
        }
    }
    if *sent > 0 {
        if flags & MSG_EOR != 0
            && let Some(last) = sk.snd.queue.back_mut()
        {
            last.eor = true;
        }
        tx_timestamp(sk, stamp, *sent);
        push(sk, net, id, flags, Nagle::Default, goal);
    }
    Step::Done(Ok(Ret::Int(*sent as i64)))
}

/// The stamps that the call asked for are about its last byte.
#[doc(alias = "tcp_tx_timestamp")]
fn tx_timestamp(sk: &mut TcpSock, stamp: Option<Sockcm>, sent: usize) {
    let Some(stamp) = stamp.filter(|s| s.tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK != 0 && sent > 0) else { return };
    if let Some(last) = sk.snd.queue.back_mut() {
        last.tx |= stamp.tx_flags();
        last.tskey = last.seq.wrapping_add(last.len()).wrapping_sub(1);
    }
}

fn can_send(state: State) -> bool {
    matches!(state, State::Established | State::CloseWait)
}

fn sleep(sk: &TcpSock, net: &Net, id: TcpId) -> Step {
    let deadline = sk.sk.cold.as_ref().and_then(|c| c.sndtimeo).map(|t| net.env.now + t);
    Step::Sleep(Sleep { on: SockId::Tcp(id), mask: WRITABLE, exclusive: false, deadline })
}

/// Payload of one queue entry: a super-segment of whole segments, at most half the largest window (`tcp_send_mss`).
fn size_goal(sk: &TcpSock, mss: u32) -> u32 {
    if super::md5sig::own(sk).is_some() {
        return mss;
    }
    let most = GSO_MAX_PAYLOAD.min(segment::bound_to_half_wnd(sk.snd.max_window, GSO_MAX_PAYLOAD, 20));
    (most / mss * mss).max(mss)
}

/// More than half of the largest window is unpushed (`forced_push`).
fn forced_push(sk: &TcpSock) -> bool {
    let half = sk.snd.max_window >> 1;
    super::seq::after(sk.snd.write_seq, sk.snd.pushed_seq.wrapping_add(half))
}

fn mark_push(sk: &mut TcpSock) {
    if sk.has_unsent()
        && let Some(last) = sk.snd.queue.back_mut()
    {
        last.flags |= Flags::PSH;
    }
    sk.snd.pushed_seq = sk.snd.write_seq;
}

/// The end of a write: its last segment carries PSH, and goes if Nagle and cork let it (`tcp_push`).
#[doc(alias = "tcp_push")]
fn push(sk: &mut TcpSock, net: &mut Net, id: TcpId, flags: i32, nagle: Nagle, goal: u32) {
    if !sk.has_unsent() {
        return;
    }
    let more = flags & MSG_MORE != 0;
    if !more || forced_push(sk) {
        mark_push(sk);
    }
    if flags & MSG_OOB != 0 {
        urgent::mark_urg(sk);
    }
    if pacing::autocork(sk, net, goal) {
        return;
    }
    if more {
        let corked = std::mem::replace(&mut sk.flags.cork, true);
        output::push_pending_frames(sk, net, id, Nagle::Default);
        sk.flags.cork = corked;
    } else {
        output::push_pending_frames(sk, net, id, nagle);
    }
}

/// The last piece, unsent, is not full.
fn open(sk: &TcpSock, last: &TxSeg, goal: u32) -> bool {
    sk.has_unsent() && last.len() < goal && !last.eor && !last.flags.intersects(Flags::FIN | Flags::SYN)
}

/// How many bytes may be written into the last piece.
fn joinable(sk: &TcpSock, goal: u32, zc: Option<u32>) -> usize {
    let Some(last) = sk.snd.queue.back().filter(|l| open(sk, l, goal)) else { return 0 };
    let room = (goal - last.len()) as usize;
    zc.map_or(room, |id| room.min(zerocopy::room(sk, last, id)))
}

/// Moves one entry's worth from `data` to the tail of the queue; returns the bytes. The `first` of a call take PSH from
/// what they are joined to: the earlier write does not end there any more.
fn take_some(
    sk: &mut TcpSock,
    net: &mut Net,
    data: &mut Payload<'_>,
    goal: u32,
    zc: Option<u32>,
    first: bool,
) -> usize {
    let joinable = joinable(sk, goal, zc);
    if joinable > 0
        && first
        && let Some(last) = sk.snd.queue.back_mut()
    {
        last.flags = last.flags.without(Flags::PSH);
    }
    if let Some(id) = zc {
        return take_pages(sk, net, data, goal, id);
    }
    let room = if joinable > 0 { joinable } else { goal as usize };
    let n = room.min(data.len());
    let last = if joinable > 0 { sk.snd.queue.back_mut() } else { None };
    match data {
        Payload::Bytes(bytes) => {
            let Some((now, rest)) = bytes.split_at_checked(n) else { return 0 };
            *bytes = rest;
            match last {
                Some(last) => {
                    let fitted = last.data.append_in_place(now);
                    if let Some(more) = now.get(fitted..).filter(|m| !m.is_empty()) {
                        last.data.push(net.pool.copy_in(more, more.len()));
                    }
                    grew(sk, n as u32);
                }
                None => {
                    let seg = net.pool.copy_in(now, page_room(n, sk.snd.packets_out));
                    enqueue(sk, net, seg.into());
                }
            }
        }
        Payload::Segs(segs) => {
            let now = segs.split_to(n);
            match last {
                Some(last) => {
                    last.data.append(now);
                    grew(sk, n as u32);
                }
                None => enqueue(sk, net, now),
            }
        }
    }
    n
}

/// The same for the program's own pages: pieces that are not joined, and a piece that takes no more is pushed.
#[doc(alias = "skb_zerocopy_iter_stream")]
fn take_pages(sk: &mut TcpSock, net: &mut Net, data: &mut Payload<'_>, goal: u32, id: u32) -> usize {
    let joinable = joinable(sk, goal, Some(id));
    if joinable == 0 && sk.snd.queue.back().is_some_and(|l| open(sk, l, goal)) {
        mark_push(sk);
    }
    let room = if joinable > 0 { joinable } else { (goal as usize).min(MAX_FRAGS * PAGE) };
    let pages = data.take(room.min(zerocopy::next_len(data)), &mut net.pool);
    let n = pages.len();
    match sk.snd.queue.back_mut() {
        Some(last) if joinable > 0 => {
            last.tx |= TX_ZEROCOPY;
            last.data.append(pages);
            grew(sk, n as u32);
        }
        _ => {
            enqueue(sk, net, pages);
            if let Some(last) = sk.snd.queue.back_mut() {
                last.tx |= TX_ZEROCOPY;
            }
            grew(sk, 0);
        }
    }
    zerocopy::attach(sk, id, n as u32);
    n
}

/// Room to copy into: what is written, or a page when small writes are likely to be merged behind it.
fn page_room(n: usize, in_flight: u32) -> usize {
    if in_flight > 0 && n < 2048 { 16_384 } else { n }
}

fn enqueue(sk: &mut TcpSock, net: &Net, data: Segs) {
    output::slow_start_after_idle_check(sk, net);
    if sk.snd.queue.is_empty()
        && let Some(t) = sk.track.as_deref_mut()
    {
        t.chrono.start(Limit::Busy, net.env.jiffies());
    }
    let seg = TxSeg::new(sk.snd.write_seq, data, Flags::NONE);
    sk.snd.write_seq = seg.end_seq;
    sk.sk.wmem_queued += seg.truesize;
    sk.snd.queue.push_back(seg);
}

/// The last entry got `n` bytes more.
fn grew(sk: &mut TcpSock, n: u32) {
    let Some(last) = sk.snd.queue.back_mut() else { return };
    last.end_seq = last.end_seq.wrapping_add(n);
    let charge = last.charge();
    let old = std::mem::replace(&mut last.truesize, charge);
    debug_assert!(last.truesize >= SKB_OVERHEAD);
    sk.snd.write_seq = sk.snd.write_seq.wrapping_add(n);
    sk.sk.wmem_queued = sk.sk.wmem_queued - old.min(sk.sk.wmem_queued) + last.truesize;
}
