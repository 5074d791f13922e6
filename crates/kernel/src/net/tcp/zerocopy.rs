//! MSG_ZEROCOPY on a stream: which pieces of the write queue carry whose bytes, and what is left of them.
use super::seq::{after, before};
use super::sock::*;
use crate::env::Env;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::sock::Sock;
use crate::net::core::zerocopy::{self, MAX_FRAGS, PAGE, Uarg};
use crate::task::call::{Payload, SendMsg, Step};
use belljar_abi::{Errno, MSG_ZEROCOPY};
use std::collections::VecDeque;

/// Before a send: a number for it if it asks for one (SO_ZEROCOPY and MSG_ZEROCOPY, and not a run after a sleep).
#[doc(alias = "msg_zerocopy_realloc")]
pub fn begin(sk: &mut TcpSock, net: &Net, m: &mut SendMsg<'_>) -> Result<(), Errno> {
    if m.flags & MSG_ZEROCOPY == 0 || m.zerocopy.is_some() || m.data.is_empty() || !sk.sk.flags.zerocopy {
        return Ok(());
    }
    let optmem = super::setting(net, sk, |s| s.optmem_max);
    let tail = sk.snd.queue.back().filter(|l| sk.has_unsent() && l.tx & TX_ZEROCOPY != 0).map(|l| l.end_seq);
    let tail = tail.and_then(|end| owner(&sk.sk, end));
    m.zerocopy = Some(zerocopy::realloc(&mut sk.sk, optmem, m.data.len(), tail, true)?);
    Ok(())
}

/// After it: done, failed, or asleep with its number.
pub fn end(sk: &mut Sock, env: &mut Env, id: TcpId, m: &mut SendMsg<'_>, step: &Step) {
    if let Step::Done(result) = step
        && let Some(zc) = m.zerocopy.take()
    {
        zerocopy::put(sk, env, SockId::Tcp(id), zc, result.is_err());
    }
}

/// Whose bytes end where a piece does.
fn owner(sk: &Sock, end: u32) -> Option<u32> {
    let attached = sk.cold.as_ref()?.zc.pending.iter().filter(|u| u.queued);
    let last = attached.reduce(|a, b| if after(b.end, a.end) { b } else { a })?;
    (!after(last.end, end)).then_some(last.handle)
}

/// Room for the pages of call `id` in the last piece: none when they would make too many, or when it has another
/// notification's.
pub fn room(sk: &TcpSock, last: &TxSeg, id: u32) -> usize {
    if last.tx & TX_ZEROCOPY != 0 && owner(&sk.sk, last.end_seq) != Some(id) {
        return 0;
    }
    MAX_FRAGS.saturating_sub(frags(last)) * PAGE
}

/// Fragments of a piece, as pages of the program's memory make them.
fn frags(seg: &TxSeg) -> usize {
    seg.data.iter().map(|s| s.len().div_ceil(PAGE)).sum()
}

/// What the next piece may take: the program's own pieces stay apart.
pub fn next_len(data: &Payload<'_>) -> usize {
    match data {
        Payload::Bytes(b) => b.len(),
        Payload::Segs(s) => s.iter().next().map_or(0, |s| s.len()),
    }
}

/// The last `n` bytes of the queue are of call `id`.
pub fn attach(sk: &mut TcpSock, id: u32, n: u32) {
    let end = sk.snd.write_seq;
    let Some(u) = zerocopy::find(&mut sk.sk, id) else { return };
    if !u.queued {
        u.start = end.wrapping_sub(n);
    }
    (u.end, u.queued) = (end, true);
    if let Some(last) = sk.snd.queue.back_mut() {
        last.tx |= TX_ZEROCOPY;
    }
}

/// Whether the write queue has a piece with bytes of `u`.
pub fn holds(queue: &VecDeque<TxSeg>, u: &Uarg) -> bool {
    let first = queue.partition_point(|s| !after(s.end_seq, u.start));
    let mine = queue.iter().skip(first).take_while(|s| before(s.seq, u.end));
    mine.into_iter().any(|s| s.tx & TX_ZEROCOPY != 0)
}

/// A piece that carried such bytes is gone, or the first part of one.
pub fn freed(sk: &mut TcpSock, env: &mut Env, id: TcpId) {
    let Some(cold) = sk.sk.cold.as_deref_mut() else { return };
    for u in cold.zc.pending.iter_mut().filter(|u| u.queued) {
        u.queued = holds(&sk.snd.queue, u);
    }
    zerocopy::complete(&mut sk.sk, env, SockId::Tcp(id));
}
