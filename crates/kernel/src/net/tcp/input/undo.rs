//! Undo: the alarm was false, and the window goes back to what it was. Told by D-SACKs for all that was sent again, by
//! time stamps older than the first retransmission (RFC 3522, Eifel), or by F-RTO (RFC 5682).
use super::ack::*;
use super::rack;
use super::recovery::{any_retrans_done, is_reno, set_ca_state, try_keep_open};
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::seq::before;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::{inc, pacing};

/// Nothing was really lost: either no retransmission is unaccounted for, or an ACK echoes a time before the first
/// (RFC 3522, Eifel).
#[doc(alias = "tcp_may_undo")]
fn may_undo(sk: &TcpSock, a: &AckState) -> bool {
    sk.loss.undo_marker != 0 && (sk.loss.undo_retrans == 0 || packet_delayed(sk, a))
}

fn undo_cwnd_reduction(sk: &mut TcpSock, net: &mut Net, unmark: bool) {
    if unmark {
        for seg in sk.snd.queue.iter_mut().take(sk.snd.sent) {
            seg.sacked &= !TCPCB_LOST;
        }
        sk.snd.lost_out = 0;
    }
    if sk.loss.prior_ssthresh != 0 {
        pacing::on_undo(sk, net);
        sk.cong.cwnd = sk.cong.undo_cwnd(sk.loss.prior_cwnd);
        if sk.loss.prior_ssthresh > sk.cong.ssthresh {
            sk.cong.ssthresh = sk.loss.prior_ssthresh;
            sk.flags.ecn &= !super::ecn::TCP_ECN_QUEUE_CWR;
        }
    }
    sk.cong.cwnd_stamp_us = net.env.now_us();
    sk.loss.undo_marker = 0;
    sk.loss.rack_advanced = true;
}

pub fn try_undo_recovery(sk: &mut TcpSock, net: &mut Net, a: &AckState) -> bool {
    if may_undo(sk, a) {
        let loss = sk.loss.ca_state == CaState::Loss;
        undo_cwnd_reduction(sk, net, false);
        inc(net, sk, if loss { Mib::TcpExtTCPLossUndo } else { Mib::TcpExtTCPFullUndo });
    } else if let Some(t) = sk.track.as_deref_mut() {
        t.reo_wnd_persist = t.reo_wnd_persist.saturating_sub(1);
    }
    if non_sack_prevents_reopen(sk) {
        return true;
    }
    set_ca_state(sk, CaState::Open);
    (sk.loss.frto, sk.flags.sack_reneg) = (false, false);
    false
}

/// Without SACK duplicates of the old flight may still come: stay until one more is acknowledged (RFC 6582 §5).
#[doc(alias = "tcp_is_non_sack_preventing_reopen")]
fn non_sack_prevents_reopen(sk: &mut TcpSock) -> bool {
    if sk.snd.una == sk.loss.high_seq && is_reno(sk) {
        if !any_retrans_done(sk) {
            sk.loss.retrans_stamp_ms = 0;
        }
        return true;
    }
    false
}

pub(super) fn try_undo_dsack(sk: &mut TcpSock, net: &mut Net) -> bool {
    if sk.loss.undo_marker != 0 && sk.loss.undo_retrans == 0 {
        if let Some(t) = sk.track.as_deref_mut() {
            t.reo_wnd_persist = (t.reo_wnd_persist + 1).min(rack::RECOVERY_THRESH);
        }
        undo_cwnd_reduction(sk, net, false);
        inc(net, sk, Mib::TcpExtTCPDSACKUndo);
        return true;
    }
    false
}

pub(super) fn try_undo_loss(sk: &mut TcpSock, net: &mut Net, a: &AckState, frto_undo: bool) -> bool {
    if !frto_undo && !may_undo(sk, a) {
        return false;
    }
    undo_cwnd_reduction(sk, net, true);
    inc(net, sk, Mib::TcpExtTCPLossUndo);
    if frto_undo {
        inc(net, sk, Mib::TcpExtTCPSpuriousRTOs);
    }
    sk.loss.retransmits = 0;
    if non_sack_prevents_reopen(sk) {
        return true;
    }
    if frto_undo || sk.flags.sack_ok {
        set_ca_state(sk, CaState::Open);
        (sk.loss.frto, sk.flags.sack_reneg) = (false, false);
    }
    true
}

/// A partial ACK in a recovery whose first retransmission was unneeded (`tcp_try_undo_partial`).
pub(super) fn try_undo_partial(sk: &mut TcpSock, net: &mut Net, a: &AckState) -> bool {
    if sk.loss.undo_marker == 0 || !packet_delayed(sk, a) {
        return false;
    }
    let high = super::sack::highest_sacked(sk);
    super::sack::check_reordering(sk, net, a.prior_una, high, true);
    if sk.snd.retrans_out > 0 {
        return true;
    }
    if !any_retrans_done(sk) {
        sk.loss.retrans_stamp_ms = 0;
    }
    undo_cwnd_reduction(sk, net, true);
    inc(net, sk, Mib::TcpExtTCPPartialUndo);
    try_keep_open(sk);
    false
}

/// The ACK echoes a time stamp from before the first retransmission, or there was none yet (`tcp_packet_delayed`).
fn packet_delayed(sk: &TcpSock, a: &AckState) -> bool {
    if sk.loss.retrans_stamp_ms != 0 {
        return a.tsecr.is_some_and(|ecr| before(ecr, sk.loss.retrans_stamp_ms));
    }
    // The stamp is taken away early in two cases: without SACK at the end of an episode, and with the SYN.
    (before(sk.snd.una, sk.loss.high_seq) || !is_reno(sk)) && sk.state != State::SynSent
}
