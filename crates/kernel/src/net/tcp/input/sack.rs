//! The scoreboard: marking the write queue by SACK blocks (RFC 2018), D-SACK (RFC 2883), reordering.
use super::ack::*;
use super::rack;
use super::shift::shift;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::output::segment::{may_fragment, split};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, rate, setting};

/// Marks what the blocks cover. `a.flag` learns what was new.
#[doc(alias = "tcp_sacktag_write_queue")]
pub fn sacktag_write_queue(sk: &mut TcpSock, net: &mut Net, blocks: &[(u32, u32)], a: &mut AckState) {
    let dsack = check_dsack(sk, net, blocks, a);
    for (i, &(start, end)) in blocks.iter().enumerate() {
        let is_dsack = dsack && i == 0;
        if !is_valid(sk, is_dsack, start, end) {
            let counter = match (is_dsack, sk.loss.undo_marker) {
                (true, 0) => Mib::TcpExtTCPDSACKIgnoredNoUndo,
                (true, _) => Mib::TcpExtTCPDSACKIgnoredOld,
                _ => Mib::TcpExtTCPSACKDiscard,
            };
            inc(net, sk, counter);
            continue;
        }
        // Ignore what the cumulative ACK covers already.
        if !after(end, sk.snd.una) {
            continue;
        }
        if is_dsack {
            tag_dsack(sk, start, end);
            continue;
        }
        tag_block(sk, net, start, end, a);
    }
    if sk.loss.ca_state != CaState::Loss || sk.loss.undo_marker != 0 {
        let high = highest_sacked(sk);
        check_reordering(sk, net, a.reord, high, false);
    }
}

/// Where what follows the highest SACKed piece begins; SND.UNA when nothing was SACKed.
#[doc(alias = "tcp_highest_sack_seq")]
pub fn highest_sacked(sk: &TcpSock) -> u32 {
    if sk.snd.sacked_out == 0 {
        return sk.snd.una;
    }
    let sent = sk.snd.queue.iter().take(sk.snd.sent).rev();
    sent.filter(|s| s.is(TCPCB_SACKED_ACKED)).map(|s| s.end_seq).next().unwrap_or(sk.snd.una)
}

/// A first block below the ACK, or inside the second one, tells of a duplicate (`tcp_check_dsack`).
fn check_dsack(sk: &mut TcpSock, net: &mut Net, blocks: &[(u32, u32)], a: &mut AckState) -> bool {
    let Some(&(start, end)) = blocks.first() else { return false };
    if before(start, sk.snd.una) {
        inc(net, sk, Mib::TcpExtTCPDSACKRecv);
    } else if let Some(&(s1, e1)) = blocks.get(1)
        && !after(end, e1)
        && !before(start, s1)
    {
        inc(net, sk, Mib::TcpExtTCPDSACKOfoRecv);
    } else {
        return false;
    }
    let Some(dups) = dsack_seen(sk, start, end, a) else {
        inc(net, sk, Mib::TcpExtTCPDSACKIgnoredDubious);
        return false;
    };
    net.add(sk.sk.ns, Mib::TcpExtTCPDSACKRecvSegs, u64::from(dups));
    // What it speaks of is forgotten already: all that can be done is count.
    if sk.loss.undo_marker != 0
        && sk.loss.undo_retrans > 0
        && !after(end, a.prior_una)
        && after(end, sk.loss.undo_marker)
    {
        sk.loss.undo_retrans = (sk.loss.undo_retrans - dups as i32).max(0);
    }
    true
}

/// The segments that a D-SACK says came twice; `None` when that cannot be our doing.
#[doc(alias = "tcp_dsack_seen")]
fn dsack_seen(sk: &mut TcpSock, start: u32, end: u32, a: &mut AckState) -> Option<u32> {
    let span = end.wrapping_sub(start);
    if !before(start, end) || span > sk.snd.max_window {
        return None;
    }
    let mss = u32::from(sk.snd.mss_cache.max(1));
    let mut dups = 1;
    if span > mss {
        dups = span.div_ceil(mss);
    } else if sk.loss.tlp_high_seq != 0 && sk.loss.tlp_high_seq == end {
        a.flag |= FLAG_DSACK_TLP;
    }
    sk.totals.dsack_dups = sk.totals.dsack_dups.wrapping_add(dups);
    // More duplicates than retransmissions: the network made them.
    if sk.totals.dsack_dups > sk.loss.total_retrans {
        return None;
    }
    sk.flags.dsack_seen = true;
    // RACK widens its window for reordering, not for a probe that a timer sent.
    if sk.loss.reord_seen != 0 && a.flag & FLAG_DSACK_TLP == 0 {
        sk.loss.rack_dsack_seen = true;
    }
    a.flag |= FLAG_DSACKING_ACK;
    Some(dups)
}

/// `tcp_is_sackblock_valid`.
fn is_valid(sk: &TcpSock, is_dsack: bool, start: u32, end: u32) -> bool {
    if after(end, sk.snd.nxt) || !before(start, end) || !before(start, sk.snd.nxt) {
        return false;
    }
    if after(start, sk.snd.una) || start == sk.snd.una {
        return true;
    }
    // A duplicate of the past matters only to an undo.
    is_dsack && sk.loss.undo_marker != 0 && !before(end, sk.loss.undo_marker.wrapping_sub(sk.snd.max_window))
}

fn tag_block(sk: &mut TcpSock, net: &mut Net, start: u32, end: u32, a: &mut AckState) {
    let snd = &sk.snd;
    let mut ix = snd.queue.range(..snd.sent).position(|s| after(s.end_seq, start)).unwrap_or(snd.sent);
    while ix < sk.snd.sent {
        let Some(seg) = sk.snd.queue.get(ix) else { break };
        if !before(seg.seq, end) {
            break;
        }
        if !seg.is(TCPCB_SACKED_ACKED) {
            if let Some(next) = shift(sk, net, ix, (start, end), a) {
                ix = next;
                continue;
            }
            let Some(seg) = sk.snd.queue.get(ix) else { break };
            if before(seg.seq, start) {
                // Whole wire segments before the block stay unmarked.
                let mss = u32::from(seg.mss.max(1));
                let ahead = start.wrapping_sub(seg.seq).next_multiple_of(mss);
                if ahead >= seg.len() {
                    ix += 1;
                    continue;
                }
                if !may_fragment(sk, net, ix) {
                    break;
                }
                split(sk, ix, ahead);
                ix += 1;
                continue;
            }
            if after(seg.end_seq, end) {
                let mss = u32::from(seg.mss.max(1));
                let inside = end.wrapping_sub(seg.seq) / mss * mss;
                if inside == 0 || !may_fragment(sk, net, ix) {
                    break;
                }
                split(sk, ix, inside);
            }
            sacktag_one(sk, net, ix, a);
        }
        ix += 1;
    }
}

/// A duplicate above the ACK: retransmissions in it were unneeded.
fn tag_dsack(sk: &mut TcpSock, start: u32, end: u32) {
    let (marker, mut left) = (sk.loss.undo_marker, sk.loss.undo_retrans);
    for seg in sk.snd.queue.iter().take(sk.snd.sent) {
        let inside = !before(seg.seq, start) && !after(seg.end_seq, end);
        if inside
            && seg.is(TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS)
            && marker != 0
            && left > 0
            && after(seg.end_seq, marker)
        {
            left = (left - seg.pcount() as i32).max(0);
        }
    }
    sk.loss.undo_retrans = left;
}

/// One piece arrived out of order at the peer.
#[doc(alias = "tcp_sacktag_one")]
pub(super) fn sacktag_one(sk: &mut TcpSock, net: &mut Net, ix: usize, a: &mut AckState) {
    let high_seq = sk.loss.high_seq;
    let fack = highest_sacked(sk);
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return };
    let pcount = seg.pcount();
    if seg.is(TCPCB_SACKED_RETRANS) {
        // Both may be in the network: what is SACKED is the retransmission, if it was lost before.
        if seg.is(TCPCB_LOST) {
            seg.sacked &= !(TCPCB_LOST | TCPCB_SACKED_RETRANS);
            sk.snd.lost_out = sk.snd.lost_out.saturating_sub(pcount);
            sk.snd.retrans_out = sk.snd.retrans_out.saturating_sub(pcount);
        }
    } else {
        if !seg.is(TCPCB_EVER_RETRANS) {
            if before(seg.seq, fack) && before(seg.seq, a.reord) {
                a.reord = seg.seq;
            }
            if !after(seg.end_seq, high_seq) {
                a.flag |= FLAG_ORIG_SACK_ACKED;
            }
            if a.sack_first_us == 0 {
                a.sack_first_us = seg.tx_us.max(1);
            }
            a.sack_last_us = seg.tx_us;
        }
        if seg.is(TCPCB_LOST) {
            seg.sacked &= !TCPCB_LOST;
            sk.snd.lost_out = sk.snd.lost_out.saturating_sub(pcount);
        }
    }
    if let Some(t) = sk.track.as_deref_mut() {
        rate::skb_delivered(t, seg, &mut a.rs);
    }
    seg.sacked |= TCPCB_SACKED_ACKED;
    let copy = (seg.tx_us, seg.end_seq, seg.sacked);
    a.flag |= FLAG_DATA_SACKED;
    sk.snd.sacked_out += pcount;
    sk.loss.delivered = sk.loss.delivered.wrapping_add(pcount);
    rack::advance_to(sk, net, copy.0, copy.1, copy.2);
}

/// Something below what was SACKed before arrived without having been sent again: the network reorders
/// (`tcp_check_sack_reordering`).
pub fn check_reordering(sk: &mut TcpSock, net: &mut Net, low: u32, high: u32, by_timestamp: bool) {
    if !before(low, high) {
        return;
    }
    let mss = u32::from(sk.snd.mss_cache.max(1));
    let metric = high.wrapping_sub(low).div_ceil(mss);
    if metric > sk.loss.reordering {
        sk.loss.reordering = metric.min(setting(net, sk, |s| s.tcp_max_reordering));
    }
    sk.loss.reord_seen = sk.loss.reord_seen.saturating_add(1);
    inc(net, sk, if by_timestamp { Mib::TcpExtTCPTSReorder } else { Mib::TcpExtTCPSACKReorder });
}
