//! RACK (RFC 8985): what was sent before something that arrived, and is overdue by a reordering window, is lost.
use super::ack::*;
use super::recovery::mark_lost;
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::{reset_write_timer, setting};

/// Recoveries for which a D-SACK keeps the window wide.
pub const RECOVERY_THRESH: u8 = 16;

/// `tcp_rack_sent_after`.
fn sent_after(t1: u64, seq1: u32, t2: u64, seq2: u32) -> bool {
    t1 > t2 || (t1 == t2 && after(seq1, seq2))
}

/// A piece was delivered (`tcp_rack_advance`).
pub fn advance(sk: &mut TcpSock, net: &Net, seg: &TxSeg) {
    advance_to(sk, net, seg.tx_us, seg.end_seq, seg.sacked);
}

pub fn advance_to(sk: &mut TcpSock, net: &Net, tx_us: u64, end_seq: u32, sacked: u8) {
    let rtt = net.env.now_us().saturating_sub(tx_us).min(u64::from(u32::MAX)) as u32;
    if rtt < sk.rtt.min_us && sacked & TCPCB_EVER_RETRANS != 0 {
        // Too fast for the retransmission: it was the original that arrived.
        return;
    }
    sk.loss.rack_advanced = true;
    sk.loss.rack_rtt_us = rtt;
    if sent_after(tx_us, end_seq, sk.loss.rack_us, sk.loss.rack_end_seq) {
        sk.loss.rack_us = tx_us;
        sk.loss.rack_end_seq = end_seq;
    }
}

/// How late is too late: nothing without reordering seen, else a part of the round trip that grows with D-SACKs.
fn reo_wnd(sk: &TcpSock, net: &Net) -> u64 {
    const NO_DUPTHRESH: u32 = 4;
    if sk.loss.reord_seen == 0 {
        let by_dupthresh = setting(net, sk, |s| s.tcp_recovery) & NO_DUPTHRESH == 0;
        if sk.loss.ca_state >= CaState::Recovery || (by_dupthresh && sk.snd.sacked_out >= sk.loss.reordering) {
            return 0;
        }
    }
    let min = if sk.rtt.min_us == u32::MAX { 0 } else { sk.rtt.min_us };
    u64::from((min >> 2).saturating_mul(u32::from(sk.loss.rack_reo_wnd_steps)).min(sk.rtt.srtt_us >> 3))
}

/// Marks what is lost by now; returns microseconds until the next look, 0 for none.
fn detect_loss(sk: &mut TcpSock, net: &mut Net) -> u64 {
    let reo = reo_wnd(sk, net);
    let (now, rack_us, rack_end) = (net.env.now_us(), sk.loss.rack_us, sk.loss.rack_end_seq);
    let limit = u64::from(sk.loss.rack_rtt_us) + reo;
    let mut timeout = 0;
    for ix in 0..sk.snd.sent {
        let Some(seg) = sk.snd.queue.get(ix) else { break };
        if seg.is(TCPCB_SACKED_ACKED | TCPCB_JUDGED) || (seg.is(TCPCB_LOST) && !seg.is(TCPCB_SACKED_RETRANS)) {
            continue;
        }
        if !sent_after(rack_us, rack_end, seg.tx_us, seg.end_seq) {
            if !seg.is(TCPCB_EVER_RETRANS) {
                // Later pieces were sent later, those sent again later still.
                break;
            }
            continue;
        }
        let age = now.saturating_sub(seg.tx_us);
        if age >= limit {
            mark_lost(sk, net, ix);
            sk.snd.queue.get_mut(ix).into_iter().for_each(|s| s.sacked |= TCPCB_JUDGED);
        } else {
            timeout = timeout.max(limit - age);
        }
    }
    timeout
}

/// On an ACK that delivered something (`tcp_rack_mark_lost`). True when the reordering timer took over the write timer.
pub fn mark_lost_by_rack(sk: &mut TcpSock, net: &mut Net, id: TcpId) -> bool {
    if !sk.loss.rack_advanced {
        return false;
    }
    sk.loss.rack_advanced = false;
    let timeout = detect_loss(sk, net);
    if timeout == 0 {
        return false;
    }
    reset_write_timer(net, sk, id, WriteTimer::ReoTimeout, (timeout + 2000).min(u64::from(u32::MAX)) as u32);
    true
}

/// The reordering timer fired (`tcp_rack_reo_timeout`).
pub fn reo_timeout(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let prior = sk.in_flight();
    let prior_lost = sk.loss.lost;
    let _ = detect_loss(sk, net);
    if prior != sk.in_flight() {
        if sk.loss.ca_state != CaState::Recovery {
            super::recovery::enter_recovery(sk, net, false);
            if !sk.cong.has_cong_control() {
                let lost = sk.loss.lost.wrapping_sub(prior_lost);
                super::recovery::cwnd_reduction(sk, 1, lost, 0);
            }
        }
        crate::net::tcp::output::retransmit::xmit_retransmit_queue(sk, net, id);
    }
    if sk.write_timer_kind != WriteTimer::Retrans {
        sk.write_timer_kind = WriteTimer::ReoTimeout;
        crate::net::tcp::output::rearm_rto(sk, net, id);
    }
}

/// D-SACKs widen the window, sixteen recoveries without one narrow it again (RFC 8985 §6.2 step 4).
pub fn update_reo_wnd(sk: &mut TcpSock, net: &Net, a: &AckState) {
    const STATIC_REO_WND: u32 = 2;
    let mode = setting(net, sk, |s| s.tcp_recovery);
    if mode & STATIC_REO_WND != 0 {
        return;
    }
    if a.rs.prior_us == 0 {
        return;
    }
    let delivered = sk.loss.delivered;
    let Some(t) = sk.track.as_deref_mut() else { return };
    // Once a round trip at most.
    if before(a.rs.prior_delivered, t.reo_last_delivered) {
        sk.loss.rack_dsack_seen = false;
    }
    if std::mem::take(&mut sk.loss.rack_dsack_seen) {
        sk.loss.rack_reo_wnd_steps = sk.loss.rack_reo_wnd_steps.saturating_add(1);
        (t.reo_last_delivered, t.reo_wnd_persist) = (delivered, RECOVERY_THRESH);
    } else if t.reo_wnd_persist == 0 {
        sk.loss.rack_reo_wnd_steps = 1;
    }
}
