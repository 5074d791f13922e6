//! The scoreboard: marking the write queue by SACK blocks (RFC 2018), D-SACK (RFC 2883), reordering.
use super::ack::*;
use super::rack;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::inc;
use crate::net::tcp::output::segment::split;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;

/// Marks what the blocks cover. `a.flag` learns what was new.
#[doc(alias = "tcp_sacktag_write_queue")]
pub fn sacktag_write_queue(sk: &mut TcpSock, net: &mut Net, blocks: &[(u32, u32)], a: &mut AckState) {
    let dsack = check_dsack(sk, net, blocks, a);
    for (i, &(start, end)) in blocks.iter().enumerate() {
        let is_dsack = dsack && i == 0;
        if !is_valid(sk, is_dsack, start, end) {
            inc(net, sk, if is_dsack { Mib::TcpExtTCPDSACKIgnoredOld } else { Mib::TcpExtTCPSACKDiscard });
            continue;
        }
        // Ignore what the cumulative ACK covers already.
        if !after(end, sk.snd.una) || is_dsack {
            continue;
        }
        tag_block(sk, net, start, end, a);
    }
    if a.flag & FLAG_DATA_SACKED != 0 && before(a.reord, highest_sacked(sk)) && sk.loss.ca_state != CaState::Loss {
        let high = highest_sacked(sk);
        check_reordering(sk, net, a.reord, high);
    }
}

/// Where the highest piece that was SACKed begins; SND.UNA when none was.
pub fn highest_sacked(sk: &TcpSock) -> u32 {
    if sk.snd.sacked_out == 0 {
        return sk.snd.una;
    }
    let sent = sk.snd.queue.iter().take(sk.snd.sent).rev();
    sent.filter(|s| s.is(TCPCB_SACKED_ACKED)).map(|s| s.seq).next().unwrap_or(sk.snd.una)
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
    // Who sends D-SACK tells us that a retransmission was unneeded.
    let span = end.wrapping_sub(start);
    let mss = u32::from(sk.snd.mss_cache.max(1));
    let dups = span.div_ceil(mss).max(1);
    sk.flags.dsack_seen = true;
    sk.totals.dsack_dups = sk.totals.dsack_dups.wrapping_add(dups);
    inc(net, sk, Mib::TcpExtTCPDSACKRecvSegs);
    a.flag |= FLAG_DSACKING_ACK;
    if sk.loss.tlp_high_seq != 0 && sk.loss.tlp_retrans && end == sk.loss.tlp_high_seq {
        a.flag |= FLAG_DSACK_TLP;
    } else {
        sk.loss.rack_dsack_seen = true;
    }
    if sk.loss.undo_marker != 0 && sk.loss.undo_retrans > 0 && after(end, sk.loss.undo_marker) {
        sk.loss.undo_retrans = (sk.loss.undo_retrans - dups as i32).max(0);
    }
    true
}

/// `tcp_is_sackblock_valid`.
fn is_valid(sk: &TcpSock, is_dsack: bool, start: u32, end: u32) -> bool {
    if after(end, sk.snd.nxt) || !before(start, end) || !before(start, sk.snd.nxt) {
        return false;
    }
    if after(start, sk.snd.una) || start == sk.snd.una {
        return true;
    }
    is_dsack && (sk.loss.undo_marker == 0 || !before(end, sk.loss.undo_marker.wrapping_sub(sk.snd.max_window)))
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
            if before(seg.seq, start) {
                // Whole wire segments before the block stay unmarked.
                let mss = u32::from(seg.mss.max(1));
                let ahead = start.wrapping_sub(seg.seq).next_multiple_of(mss);
                if ahead >= seg.len() {
                    ix += 1;
                    continue;
                }
                split(sk, ix, ahead);
                ix += 1;
                continue;
            }
            if after(seg.end_seq, end) {
                let mss = u32::from(seg.mss.max(1));
                let inside = end.wrapping_sub(seg.seq) / mss * mss;
                if inside == 0 {
                    break;
                }
                split(sk, ix, inside);
            }
            sacktag_one(sk, net, ix, a);
        }
        ix += 1;
    }
}

/// One piece arrived out of order at the peer.
#[doc(alias = "tcp_sacktag_one")]
fn sacktag_one(sk: &mut TcpSock, net: &mut Net, ix: usize, a: &mut AckState) {
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
    seg.sacked |= TCPCB_SACKED_ACKED;
    let copy = (seg.tx_us, seg.end_seq, seg.sacked);
    a.flag |= FLAG_DATA_SACKED;
    sk.snd.sacked_out += pcount;
    sk.loss.delivered = sk.loss.delivered.wrapping_add(pcount);
    sk.loss.delivered_us = net.env.now_us();
    rack::advance_to(sk, net, copy.0, copy.1, copy.2);
}

/// Something below what was SACKed before arrived without having been sent again: the network reorders
/// (`tcp_check_sack_reordering`).
pub fn check_reordering(sk: &mut TcpSock, net: &mut Net, low: u32, high: u32) {
    if !before(low, high) {
        return;
    }
    let mss = u32::from(sk.snd.mss_cache.max(1));
    let metric = high.wrapping_sub(low).div_ceil(mss);
    if metric > sk.loss.reordering {
        const TCP_MAX_REORDERING: u32 = 300;
        sk.loss.reordering = metric.min(TCP_MAX_REORDERING);
    }
    sk.loss.reord_seen = sk.loss.reord_seen.saturating_add(1);
    inc(net, sk, if sk.flags.tstamp_ok { Mib::TcpExtTCPTSReorder } else { Mib::TcpExtTCPSACKReorder });
}
