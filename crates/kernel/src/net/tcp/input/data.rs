//! Data of a segment: in order to the receive queue, out of order to its own queue with SACK blocks, old or beyond the
//! window dropped by name.
use super::memory::{self, push_received, rmem_schedule};
use super::{READABLE, tcp_fin, window};
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::output::ack::{self, enter_quickack_mode};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, setting, wake};
use belljar_wire::tcp::Flags;

/// Takes the segment's data (or only its FIN). What was `predicted` has memory already.
#[doc(alias = "tcp_data_queue")]
pub fn data_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId, mut skb: Skb, predicted: bool) {
    const AT: &str = "tcp_data_queue";
    let (seq, end) = (skb.tcp.seq, skb.tcp.end_seq);
    if seq == end {
        return net.consume_skb(skb);
    }
    sk.rcv.sack.dsack = None;
    super::ecn::accept_cwr(sk, &skb);
    if seq == sk.rcv.nxt {
        // Some stacks send a bare FIN into a closed window until it is taken (and 6.18 does).
        let bare_fin = skb.frags.is_empty() && skb.tcp.flags.contains(Flags::FIN);
        if sk.receive_window() == 0 && !bare_fin {
            // A probe of our closed window, or data that ignores it: answered at once.
            inc(net, sk, Mib::TcpExtTCPZeroWindowDrop);
            sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW;
            enter_quickack_mode(sk, 16);
            return net.kfree_skb(skb, DropReason::TcpZeroWindow, AT);
        }
        return queue_in_order(sk, net, id, skb, predicted);
    }
    if !after(end, sk.rcv.nxt) {
        // All of it is old: a retransmission whose ACK was lost.
        inc(net, sk, Mib::TcpExtDelayedACKLost);
        dsack_set(sk, net, seq, end);
        enter_quickack_mode(sk, 16);
        sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW;
        return net.kfree_skb(skb, DropReason::TcpOldData, AT);
    }
    if !before(seq, sk.rcv.nxt.wrapping_add(sk.receive_window())) {
        enter_quickack_mode(sk, 16);
        sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW;
        return net.kfree_skb(skb, DropReason::TcpOverwindow, AT);
    }
    if before(seq, sk.rcv.nxt) {
        // Partly old: tell, and keep the new part.
        dsack_set(sk, net, seq, sk.rcv.nxt);
        if sk.receive_window() == 0 {
            sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW;
            return net.kfree_skb(skb, DropReason::TcpZeroWindow, AT);
        }
        let old = sk.rcv.nxt.wrapping_sub(seq);
        skb.frags.advance(old as usize);
        (skb.tcp.seq, skb.tcp.trimmed) = (sk.rcv.nxt, true);
        return queue_in_order(sk, net, id, skb, false);
    }
    data_queue_ofo(sk, net, id, skb);
}

/// Charged and queued where the reader finds it; then what waited behind it.
fn queue_in_order(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, predicted: bool) {
    if !predicted && !rmem_schedule(sk, net, &skb) {
        sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW | ICSK_ACK_NOMEM;
        wake(net, sk, id, READABLE);
        // A reader with nothing to read would never make room: one packet is always taken.
        if !sk.rcv.queue.is_empty() && !skb.frags.is_empty() {
            inc(net, sk, Mib::TcpExtTCPRcvQDrop);
            return net.kfree_skb(skb, DropReason::ProtoMem, "tcp_data_queue");
        }
    }
    let fin = skb.tcp.flags.contains(Flags::FIN);
    let has_data = !skb.frags.is_empty();
    if has_data {
        // A bare FIN leaves the delay as it is: before any data there is none.
        window::event_data_recv(sk, net, &skb);
    }
    push_received(sk, net, skb);
    if fin {
        tcp_fin(sk, net, id);
    }
    if !sk.rcv.ooo.is_empty() {
        ofo_queue(sk, net, id);
        // RFC 5681 §4.2: an immediate ACK when a hole was filled.
        if sk.rcv.ooo.is_empty() {
            sk.rcv.ack.pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW;
        }
    }
    if sk.rcv.sack.n > 0 {
        sack_remove(sk);
    }
    if has_data && !sk.sk.flags.dead {
        data_ready(sk, net, id);
    }
}

/// Wakes readers when there is enough for them (`tcp_data_ready`).
fn data_ready(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let avail = sk.readable();
    if avail >= sk.sk.rcvlowat() || sk.rcv.fin || 2 * sk.receive_window() < sk.rcv.window_clamp.min(65_535) {
        wake(net, sk, id, READABLE);
    }
}

/// Data that came with a SYN: charged whatever there is, for the window was offered by our SYN (`tcp_fastopen_add_skb`).
pub fn take_syn_data(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb) {
    let fin = skb.tcp.flags.contains(Flags::FIN);
    push_received(sk, net, skb);
    if fin {
        tcp_fin(sk, net, id);
    }
}

/// Puts a segment that came too early into its place; trims or drops what is there already.
#[doc(alias = "tcp_data_queue_ofo")]
fn data_queue_ofo(sk: &mut TcpSock, net: &mut Net, id: TcpId, mut skb: Skb) {
    const AT: &str = "tcp_data_queue_ofo";
    super::ecn::data_check(sk, &skb);
    sk.rcv.ack.pending |= ICSK_ACK_SCHED;
    if !rmem_schedule(sk, net, &skb) {
        inc(net, sk, Mib::TcpExtTCPOFODrop);
        return net.kfree_skb(skb, DropReason::ProtoMem, AT);
    }
    window::measure_rcv_mss(sk, &skb);
    inc(net, sk, Mib::TcpExtTCPOFOQueue);
    sk.totals.rcv_ooopack = sk.totals.rcv_ooopack.wrapping_add(1);
    let (mut seq, mut end) = (skb.tcp.seq, skb.tcp.end_seq);
    // Most arrive behind all others; else search from the end.
    let mut at = sk.rcv.ooo.len();
    while at > 0 && sk.rcv.ooo.get(at - 1).is_some_and(|p| after(p.tcp.seq, seq)) {
        at -= 1;
    }
    if at > 0
        && let Some(prev) = sk.rcv.ooo.get(at - 1)
        && before(seq, prev.tcp.end_seq)
    {
        let have = prev.tcp.end_seq;
        if !after(end, have) {
            inc(net, sk, Mib::TcpExtTCPOFOMerge);
            dsack_set(sk, net, seq, end);
            net.kfree_skb(skb, DropReason::TcpOfomerge, AT);
            // Its block is the one to be told of first all the same.
            return sack_new_ofo(sk, net, id, seq, end);
        }
        dsack_set(sk, net, seq, have);
        skb.frags.advance(have.wrapping_sub(seq) as usize);
        (skb.tcp.seq, skb.tcp.trimmed) = (have, true);
        seq = have;
    }
    while let Some(next) = sk.rcv.ooo.get(at) {
        if !after(end, next.tcp.seq) {
            break;
        }
        if before(end, next.tcp.end_seq) {
            // Its tail is there already.
            let keep = next.tcp.seq.wrapping_sub(seq);
            dsack_set(sk, net, next.tcp.seq, end);
            skb.frags.truncate(keep as usize);
            end = seq.wrapping_add(keep);
            skb.tcp.end_seq = end;
            skb.tcp.flags = skb.tcp.flags.without(Flags::FIN);
            break;
        }
        let Some(covered) = sk.rcv.ooo.remove(at) else { break };
        dsack_set(sk, net, covered.tcp.seq, covered.tcp.end_seq);
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(covered.truesize);
        inc(net, sk, Mib::TcpExtTCPOFOMerge);
        net.kfree_skb(covered, DropReason::TcpOfomerge, AT);
    }
    if seq == end {
        return net.kfree_skb(skb, DropReason::TcpOfomerge, AT);
    }
    if skb.frags.len() >= 128 {
        window::grow_window(sk, net, &skb);
    }
    if at > 0
        && let Some(prev) = sk.rcv.ooo.get_mut(at - 1)
        && let Some(more) = memory::try_coalesce(prev, &mut skb)
    {
        sk.sk.rmem_alloc += more;
        inc(net, sk, Mib::TcpExtTCPRcvCoalesce);
        net.consume_skb(skb);
    } else {
        sk.sk.rmem_alloc += skb.truesize;
        sk.rcv.ooo.insert(at, skb);
    }
    sack_new_ofo(sk, net, id, seq, end);
}

/// The hole is filled: what follows moves to the receive queue.
#[doc(alias = "tcp_ofo_queue")]
fn ofo_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let high = sk.rcv.nxt;
    while let Some(first) = sk.rcv.ooo.front() {
        if after(first.tcp.seq, sk.rcv.nxt) {
            break;
        }
        let Some(mut skb) = sk.rcv.ooo.pop_front() else { break };
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
        if before(skb.tcp.seq, high) {
            let twice = if before(skb.tcp.end_seq, high) { skb.tcp.end_seq } else { high };
            dsack_extend(sk, net, skb.tcp.seq, twice);
        }
        if !after(skb.tcp.end_seq, sk.rcv.nxt) {
            net.kfree_skb(skb, DropReason::TcpOfoDrop, "tcp_ofo_queue");
            continue;
        }
        if before(skb.tcp.seq, sk.rcv.nxt) {
            let old = sk.rcv.nxt.wrapping_sub(skb.tcp.seq);
            skb.frags.advance(old as usize);
            (skb.tcp.seq, skb.tcp.trimmed) = (sk.rcv.nxt, true);
        }
        let fin = skb.tcp.flags.contains(Flags::FIN);
        push_received(sk, net, skb);
        if fin {
            // Nothing lies behind a FIN.
            tcp_fin(sk, net, id);
            break;
        }
    }
}

/// The block that grew comes first (RFC 2018 §4); blocks that touch become one.
#[doc(alias = "tcp_sack_new_ofo_skb")]
fn sack_new_ofo(sk: &mut TcpSock, net: &mut Net, id: TcpId, seq: u32, end: u32) {
    /// As many blocks as a sender with time stamps can be sure to hear of twice.
    const TCP_SACK_BLOCKS_EXPECTED: usize = 2;
    if !sk.flags.sack_ok {
        return;
    }
    // Acknowledgements held back know of a block that now moves from behind, or falls out.
    let n = usize::from(sk.rcv.sack.n);
    let touched = sk.rcv.sack.blocks.iter().take(n).position(|&(l, r)| !after(l, end) && !before(r, seq));
    if touched.map_or(n == 4, |at| at >= TCP_SACK_BLOCKS_EXPECTED) {
        ack::flush_compressed(sk, net, id);
    }
    let s = &mut sk.rcv.sack;
    let (mut lo, mut hi) = (seq, end);
    let mut kept = [(0, 0); 4];
    let mut n = 0;
    for &(l, r) in s.blocks.iter().take(s.n as usize) {
        if after(l, hi) || before(r, lo) {
            if n < 3 {
                kept[n] = (l, r);
                n += 1;
            }
        } else {
            lo = crate::net::tcp::seq::min(lo, l);
            hi = crate::net::tcp::seq::max(hi, r);
        }
    }
    s.blocks[0] = (lo, hi);
    s.blocks[1..].copy_from_slice(&kept[..3]);
    s.n = n as u8 + 1;
}

/// Blocks that RCV.NXT passed are over (`tcp_sack_remove`).
fn sack_remove(sk: &mut TcpSock) {
    if sk.rcv.ooo.is_empty() {
        sk.rcv.sack.n = 0;
        return;
    }
    let nxt = sk.rcv.nxt;
    let s = &mut sk.rcv.sack;
    let mut n = 0;
    for i in 0..s.n as usize {
        if after(s.blocks[i].1, nxt) && !before(s.blocks[i].0, nxt) {
            s.blocks[n] = s.blocks[i];
            n += 1;
        }
    }
    s.n = n as u8;
}

/// More of a duplicate that the next ACK tells of; of one that lies apart it says nothing.
#[doc(alias = "tcp_dsack_extend")]
fn dsack_extend(sk: &mut TcpSock, net: &mut Net, start: u32, end: u32) {
    match &mut sk.rcv.sack.dsack {
        Some((l, r)) if !after(start, *r) && !before(end, *l) => {
            (*l, *r) = (crate::net::tcp::seq::min(*l, start), crate::net::tcp::seq::max(*r, end));
        }
        Some(_) => {}
        None => dsack_set(sk, net, start, end),
    }
}

/// Tell of a duplicate in the next ACK (RFC 2883).
pub fn dsack_set(sk: &mut TcpSock, net: &mut Net, start: u32, end: u32) {
    if !sk.flags.sack_ok || setting(net, sk, |s| s.tcp_dsack) == 0 {
        return;
    }
    let old = before(start, sk.rcv.nxt);
    inc(net, sk, if old { Mib::TcpExtTCPDSACKOldSent } else { Mib::TcpExtTCPDSACKOfoSent });
    sk.rcv.sack.dsack = Some(match sk.rcv.sack.dsack {
        Some((l, r)) if !after(start, r) && !before(end, l) => {
            (crate::net::tcp::seq::min(l, start), crate::net::tcp::seq::max(r, end))
        }
        Some(d) => d,
        None => (start, end),
    });
}
