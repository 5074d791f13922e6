//! What a receive queue may hold by true size: packets that share a buffer, and what happens when there is no room for one more.
use crate::mem::pages::PAGE_SIZE;
use crate::net::Net;
use crate::net::core::skb::{SHARED_INFO, SKB_HEAD, SKB_OVERHEAD, SkBuff, Skb, linear_buffer};
use crate::net::core::sock::SOCK_RCVBUF_LOCK;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::input::window;
use crate::net::tcp::output::ack::win_from_space;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, mem};
use belljar_wire::tcp::Flags;
use std::collections::VecDeque;
use std::ops::Range;

/// Pieces that a packet may have (`MAX_SKB_FRAGS`, and its head).
const MAX_PIECES: usize = 16;
/// Octets in one page with what lies at the end of each buffer (`SKB_MAX_ORDER(0, 0)`).
const PAGE_OF_DATA: usize = PAGE_SIZE - SHARED_INFO;

/// Moves RCV.NXT over an accepted segment and puts it into the queue, joined to the last one when that saves a buffer.
#[doc(alias = "tcp_queue_rcv")]
pub(super) fn push_received(sk: &mut TcpSock, net: &mut Net, mut skb: Skb) {
    let end = skb.tcp.end_seq;
    sk.totals.bytes_received += u64::from(end.wrapping_sub(sk.rcv.nxt));
    sk.rcv.nxt = end;
    if sk.sk.flags.rx_tstamp && skb.tstamp == 0 {
        skb.tstamp = net.env.now;
    }
    // A FIN waits for its reader; an orphan has none.
    if sk.sk.flags.dead && skb.frags.is_empty() {
        return net.consume_skb(skb);
    }
    if let Some(last) = sk.rcv.queue.back_mut()
        && let Some(more) = try_coalesce(last, &mut skb)
    {
        sk.sk.rmem_alloc += more;
        inc(net, sk, Mib::TcpExtTCPRcvCoalesce);
        return net.consume_skb(skb);
    }
    sk.sk.rmem_alloc += skb.truesize;
    sk.rcv.queue.push_back(skb);
}

/// Takes the octets of the packet behind into this one, when they fit into its buffer or lie in pages; by how much the charge
/// grows.
#[doc(alias = "tcp_try_coalesce")]
#[doc(alias = "skb_try_coalesce")]
pub(super) fn try_coalesce(to: &mut SkBuff, from: &mut SkBuff) -> Option<u32> {
    // What is partly old keeps the buffer that it came in. What touches a FIN from behind is joined too, and read (6.18).
    if to.tcp.end_seq != from.tcp.seq || from.tcp.trimmed {
        return None;
    }
    let len = from.frags.len();
    let more = if len <= usize::from(to.tailroom) {
        to.tailroom -= len as u16;
        0
    } else if from.head_locked || to.frags.pieces() >= MAX_PIECES {
        return None;
    } else {
        to.tailroom = 0;
        // The head of the absorbed packet is gone, its bytes stay charged.
        from.truesize.saturating_sub(SKB_OVERHEAD)
    };
    to.frags.append(std::mem::take(&mut from.frags));
    to.tcp.end_seq = from.tcp.end_seq;
    to.tcp.flags |= from.tcp.flags;
    to.tstamp = from.tstamp;
    to.truesize += more;
    Some(more)
}

/// Full by what is held, not by what comes: a small buffer takes one full segment all the same.
#[doc(alias = "tcp_can_ingest")]
fn can_ingest(sk: &TcpSock) -> bool {
    sk.sk.rmem_alloc <= sk.sk.rcvbuf
}

/// Is there room by truesize? Makes some by collapsing and pruning.
#[doc(alias = "tcp_try_rmem_schedule")]
#[doc(alias = "tcp_prune_queue")]
pub(super) fn rmem_schedule(sk: &mut TcpSock, net: &mut Net, skb: &Skb) -> bool {
    let scheduled = |sk: &TcpSock, net: &Net| mem::may_receive(sk, net, skb.truesize);
    if can_ingest(sk) && scheduled(sk, net) {
        return true;
    }
    inc(net, sk, Mib::TcpExtPruneCalled);
    if sk.sk.rmem_alloc >= sk.sk.rcvbuf {
        clamp_window(sk, net);
    } else if mem::under_pressure(net) {
        window::adjust_rcv_ssthresh(sk);
    }
    if !can_ingest(sk) {
        collapse_ofo_queue(sk, net);
        collapse_receive_queue(sk, net);
    }
    if !can_ingest(sk) {
        prune_ofo_queue(sk, net, skb);
    }
    if !can_ingest(sk) {
        // Massively beyond: the window was offered against what is used now.
        inc(net, sk, Mib::TcpExtRcvPruned);
        return false;
    }
    while !scheduled(sk, net) {
        if !prune_ofo_queue(sk, net, skb) {
            return false;
        }
    }
    true
}

/// The buffer is full although the window was kept: it grows while the machine has plenty; else offer almost nothing.
#[doc(alias = "tcp_clamp_window")]
fn clamp_window(sk: &mut TcpSock, net: &Net) {
    sk.rcv.ack.quick = 0;
    let most = crate::net::tcp::sysctl(net, sk).map_or(0, |s| s.tcp_rmem[2]) as u32;
    if sk.sk.rcvbuf < most && sk.sk.userlocks & SOCK_RCVBUF_LOCK == 0 && mem::plenty(net) {
        sk.sk.rcvbuf = sk.sk.rmem_alloc.min(most);
    }
    if sk.sk.rmem_alloc > sk.sk.rcvbuf {
        sk.rcv.ssthresh = sk.rcv.window_clamp.min(2 * u32::from(sk.rcv.advmss));
    }
}

/// SYN and FIN stay where they are.
fn is_end(skb: &SkBuff) -> bool {
    skb.tcp.flags.intersects(Flags::SYN | Flags::FIN)
}

fn collapse_receive_queue(sk: &mut TcpSock, net: &mut Net) {
    let mut queue = std::mem::take(&mut sk.rcv.queue);
    let all = queue.len();
    collapse(sk, net, &mut queue, 0..all, (sk.rcv.copied_seq, sk.rcv.nxt));
    sk.rcv.queue = queue;
}

/// Each row of neighbours by itself, if it is worth it.
#[doc(alias = "tcp_collapse_ofo_queue")]
fn collapse_ofo_queue(sk: &mut TcpSock, net: &mut Net) {
    let mut queue = sk.rcv.ooo.take();
    let (mut head, mut tiny) = (0, 0);
    while let Some(first) = queue.get(head) {
        let (start, mut end, mut held) = (first.tcp.seq, first.tcp.end_seq, first.truesize);
        let alone = first.truesize;
        let mut tail = head + 1;
        while let Some(next) = queue.get(tail).filter(|n| !after(n.tcp.seq, end)) {
            (end, held) = (next.tcp.end_seq, held + next.truesize);
            tail += 1;
        }
        if held != alone || end.wrapping_sub(start) as usize >= PAGE_OF_DATA {
            let before = queue.len();
            collapse(sk, net, &mut queue, head..tail, (start, end));
            tail = tail + queue.len() - before;
        } else {
            tiny += held;
            if tiny > sk.sk.rcvbuf >> 3 {
                break;
            }
        }
        head = tail;
    }
    sk.rcv.ooo.put(queue);
}

/// Copies the octets of `part` of the queue, from the first packet on that takes more than it is worth, into buffers of a page.
#[doc(alias = "tcp_collapse")]
fn collapse(sk: &mut TcpSock, net: &mut Net, queue: &mut VecDeque<Skb>, part: Range<usize>, (start, end): (u32, u32)) {
    let ratio = sk.rcv.scaling_ratio;
    let bloated = |s: &Skb| {
        let read = before(s.tcp.seq, start);
        !is_end(s) && (win_from_space(ratio, s.truesize) > s.frags.len() as u32 || read)
    };
    let Some(from) = part.clone().find(|&at| queue.get(at).is_some_and(bloated)) else { return };
    let to = (from..part.end).find(|&at| queue.get(at).is_some_and(|s| is_end(s))).unwrap_or(part.end);
    let mut old: VecDeque<Skb> = queue.drain(from..to).collect();
    let mut at = from;
    while let Some(first) = old.front() {
        let mut cb = first.tcp;
        cb.end_seq = cb.seq;
        let room = (end.wrapping_sub(cb.seq) as usize).clamp(1, PAGE_OF_DATA);
        let mut skb = net.alloc_skb();
        (skb.id, skb.ns, skb.dev, skb.protocol, skb.tstamp) =
            (first.id, first.ns, first.dev, first.protocol, first.tstamp);
        let mut bytes = Vec::with_capacity(room);
        while bytes.len() < room
            && let Some(next) = old.front_mut()
        {
            let n = next.frags.len().min(room - bytes.len());
            next.frags.split_to(n).iter().for_each(|s| bytes.extend_from_slice(s.as_slice()));
            next.tcp.seq = next.tcp.seq.wrapping_add(n as u32);
            if next.frags.is_empty()
                && let Some(done) = old.pop_front()
            {
                sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(done.truesize);
                inc(net, sk, Mib::TcpExtTCPRcvCollapsed);
                net.consume_skb(done);
            }
        }
        cb.end_seq = cb.seq.wrapping_add(bytes.len() as u32);
        let buffer = linear_buffer(room);
        skb.truesize = SKB_HEAD + buffer as u32;
        skb.tailroom = (buffer - SHARED_INFO - bytes.len()) as u16;
        skb.head_locked = true;
        (skb.tcp, skb.frags) = (cb, bytes.into());
        sk.sk.rmem_alloc += skb.truesize;
        queue.insert(at, skb);
        at += 1;
    }
}

/// Out-of-order data is the first to go, an eighth of the buffer at a time; true when some went.
#[doc(alias = "tcp_prune_ofo_queue")]
fn prune_ofo_queue(sk: &mut TcpSock, net: &mut Net, skb: &Skb) -> bool {
    let step = i64::from(sk.sk.rcvbuf >> 3);
    let (mut goal, mut pruned) = (step, false);
    // What would lie behind all of it makes no room for itself.
    while sk.rcv.ooo.back().is_some_and(|last| !after(skb.tcp.seq, last.tcp.seq)) {
        let Some(last) = sk.rcv.ooo.pop_back() else { break };
        goal -= i64::from(last.truesize);
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(last.truesize);
        net.kfree_skb(last, DropReason::TcpOfoQueuePrune, "tcp_prune_ofo_queue");
        pruned = true;
        if sk.rcv.ooo.is_empty() || goal <= 0 {
            if can_ingest(sk) && !mem::under_pressure(net) {
                break;
            }
            goal = step;
        }
    }
    if pruned {
        inc(net, sk, Mib::TcpExtOfoPruned);
        // Renege on SACK: what was told may be gone.
        sk.rcv.sack.n = 0;
    }
    pruned
}
