//! Loss recovery (RFC 5681, 6675, 6937, 5682; Linux: `tcp_fastretrans_alert` and what it calls): the states Open,
//! Disorder, CWR, Recovery, Loss; proportional rate reduction; undo when the alarm was false.
use super::ack::*;
use super::{rack, undo};
use crate::ids::TcpId;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::output::segment::split;
use crate::net::tcp::output::{self, Nagle, retransmit};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::{inc, mtup, pacing, setting};

/// What is to be sent after an ACK was digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rexmit {
    None,
    /// What is marked lost.
    Lost,
    /// New data first: F-RTO's test.
    New,
}

/// `tcp_is_reno`: no SACK, duplicate ACKs stand for what arrived.
pub(super) fn is_reno(sk: &TcpSock) -> bool {
    !sk.flags.sack_ok
}

/// Marks entry `ix` lost; counts each segment of it once per loss.
#[doc(alias = "tcp_mark_skb_lost")]
pub fn mark_lost(sk: &mut TcpSock, net: &mut Net, ix: usize) {
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return };
    if seg.is(TCPCB_SACKED_ACKED) {
        return;
    }
    let pcount = seg.pcount();
    if seg.is(TCPCB_LOST) {
        if seg.is(TCPCB_SACKED_RETRANS) {
            // The retransmission was lost too.
            seg.sacked &= !TCPCB_SACKED_RETRANS;
            sk.snd.retrans_out = sk.snd.retrans_out.saturating_sub(pcount);
            sk.loss.lost = sk.loss.lost.wrapping_add(pcount);
            net.add(sk.sk.ns, Mib::TcpExtTCPLostRetransmit, u64::from(pcount));
        }
        return;
    }
    if seg.is(TCPCB_SACKED_RETRANS) {
        seg.sacked &= !TCPCB_SACKED_RETRANS;
        sk.snd.retrans_out = sk.snd.retrans_out.saturating_sub(pcount);
    }
    seg.sacked |= TCPCB_LOST;
    sk.snd.lost_out += pcount;
    sk.loss.lost = sk.loss.lost.wrapping_add(pcount);
}

/// The heart of recovery: an ACK that is a duplicate, brings SACK, or comes outside Open.
#[doc(alias = "tcp_fastretrans_alert")]
pub fn fastretrans_alert(
    sk: &mut TcpSock,
    net: &mut Net,
    id: TcpId,
    dupacks: u32,
    a: &mut AckState,
    rexmit: &mut Rexmit,
) {
    if sk.snd.packets_out == 0 {
        sk.snd.sacked_out = 0;
    }
    if a.flag & FLAG_ECE != 0 {
        // A mark is no mistake: this reduction stays.
        sk.loss.prior_ssthresh = 0;
    }
    if check_sack_reneging(sk, net, id, a) {
        return;
    }
    if sk.loss.ca_state == CaState::Open {
        sk.loss.retrans_stamp_ms = 0;
    } else if !before(sk.snd.una, sk.loss.high_seq) && leave_finished_state(sk, net, a) {
        return;
    }
    match sk.loss.ca_state {
        CaState::Recovery => {
            if a.flag & FLAG_SND_UNA_ADVANCED == 0 {
                if is_reno(sk) {
                    add_reno_sack(sk, net, dupacks);
                }
            } else if undo::try_undo_partial(sk, net, a) {
                return;
            }
            if undo::try_undo_dsack(sk, net) {
                try_to_open(sk, net, a);
            }
            identify_packet_loss(sk, net, id, a);
            if sk.loss.ca_state != CaState::Recovery {
                if !time_to_recover(sk) {
                    return;
                }
                enter_recovery(sk, net, a.flag & FLAG_ECE != 0);
            }
        }
        CaState::Loss => {
            process_loss(sk, net, a, dupacks, rexmit);
            if sk.loss.ca_state != CaState::Loss {
                end_of_timeouts(sk, net);
            }
            identify_packet_loss(sk, net, id, a);
            if !(sk.loss.ca_state == CaState::Open || a.flag & FLAG_LOST_RETRANS != 0) {
                return;
            }
            dubious_open(sk, net, id, dupacks, a, rexmit);
            return;
        }
        CaState::Open | CaState::Disorder | CaState::Cwr => {
            dubious_open(sk, net, id, dupacks, a, rexmit);
            return;
        }
    }
    *rexmit = Rexmit::Lost;
}

/// Outside a recovery: is it time for one?
fn dubious_open(sk: &mut TcpSock, net: &mut Net, id: TcpId, dupacks: u32, a: &mut AckState, rexmit: &mut Rexmit) {
    if is_reno(sk) {
        if a.flag & FLAG_SND_UNA_ADVANCED != 0 {
            sk.snd.sacked_out = 0;
        }
        add_reno_sack(sk, net, dupacks);
    }
    if sk.loss.ca_state <= CaState::Disorder {
        undo::try_undo_dsack(sk, net);
    }
    identify_packet_loss(sk, net, id, a);
    if !time_to_recover(sk) {
        try_to_open(sk, net, a);
        return;
    }
    if sk.rare.is_some() && mtup::check_failure(sk, net, id) {
        return;
    }
    enter_recovery(sk, net, a.flag & FLAG_ECE != 0);
    *rexmit = Rexmit::Lost;
}

/// Everything that was in flight when the state began is acknowledged. True when nothing more is to be done.
fn leave_finished_state(sk: &mut TcpSock, net: &mut Net, a: &AckState) -> bool {
    match sk.loss.ca_state {
        CaState::Cwr if sk.snd.una != sk.loss.high_seq => {
            end_cwnd_reduction(sk, net);
            set_ca_state(sk, CaState::Open);
        }
        CaState::Recovery => {
            if is_reno(sk) {
                sk.snd.sacked_out = 0;
            }
            if undo::try_undo_recovery(sk, net, a) {
                return true;
            }
            end_cwnd_reduction(sk, net);
        }
        _ => {}
    }
    false
}

/// RACK with SACK (bit 1 of tcp_recovery means nothing any more), the first hole without.
fn identify_packet_loss(sk: &mut TcpSock, net: &mut Net, id: TcpId, a: &mut AckState) {
    if sk.snd.sent == 0 {
        return;
    }
    if is_reno(sk) {
        newreno_mark_lost(sk, net, a.flag & FLAG_SND_UNA_ADVANCED != 0);
        return;
    }
    let prior = sk.snd.retrans_out;
    if rack::mark_lost_by_rack(sk, net, id) {
        a.flag &= !FLAG_SET_XMIT_TIMER;
    }
    if prior > sk.snd.retrans_out {
        a.flag |= FLAG_LOST_RETRANS;
    }
}

/// NewReno (RFC 6582): the first segment after three duplicates, the next hole after each partial ACK.
fn newreno_mark_lost(sk: &mut TcpSock, net: &mut Net, advanced: bool) {
    let enter = sk.loss.ca_state < CaState::Recovery && sk.snd.sacked_out >= sk.loss.reordering;
    let partial = sk.loss.ca_state == CaState::Recovery && advanced;
    if !(enter || partial) {
        return;
    }
    let Some(seg) = sk.snd.queue.front() else { return };
    if seg.is(TCPCB_LOST) {
        return;
    }
    let mss = u32::from(seg.mss.max(1));
    if seg.len() > mss {
        split(sk, 0, mss);
    }
    mark_lost(sk, net, 0);
}

/// Each duplicate ACK stands for a segment that left the network.
fn add_reno_sack(sk: &mut TcpSock, net: &mut Net, dupacks: u32) {
    if dupacks == 0 {
        return;
    }
    let before = sk.snd.sacked_out;
    sk.snd.sacked_out += dupacks;
    check_reno_reordering(sk, net, 0);
    sk.loss.delivered = sk.loss.delivered.wrapping_add(sk.snd.sacked_out.saturating_sub(before));
}

/// There is always a hole that the duplicates speak of; true when there were more of them than segments beyond it.
#[doc(alias = "tcp_limit_reno_sacked")]
fn limit_reno_sacked(sk: &mut TcpSock) -> bool {
    let most = sk.snd.packets_out - sk.snd.lost_out.max(1).min(sk.snd.packets_out);
    let more = sk.snd.sacked_out > most;
    sk.snd.sacked_out = sk.snd.sacked_out.min(most);
    more
}

/// More duplicates than there can be: the network reorders or repeats.
#[doc(alias = "tcp_check_reno_reordering")]
pub fn check_reno_reordering(sk: &mut TcpSock, net: &mut Net, acked: u32) {
    if limit_reno_sacked(sk) {
        sk.loss.reordering =
            (sk.snd.packets_out + acked).min(setting(net, sk, |s| s.tcp_max_reordering)).max(sk.loss.reordering);
        sk.loss.reord_seen = sk.loss.reord_seen.saturating_add(1);
        inc(net, sk, Mib::TcpExtTCPRenoReorder);
    }
}

fn time_to_recover(sk: &TcpSock) -> bool {
    sk.snd.lost_out > 0
}

pub(super) fn set_ca_state(sk: &mut TcpSock, to: CaState) {
    sk.loss.ca_state = to;
}

/// Something that was sent again is not acknowledged yet.
#[doc(alias = "tcp_any_retrans_done")]
pub fn any_retrans_done(sk: &TcpSock) -> bool {
    sk.snd.retrans_out > 0 || (sk.snd.sent > 0 && sk.snd.queue.front().is_some_and(|s| s.is(TCPCB_EVER_RETRANS)))
}

/// `tcp_try_keep_open`.
pub fn try_keep_open(sk: &mut TcpSock) {
    let doubtful = sk.snd.sacked_out > 0 || sk.snd.lost_out > 0 || any_retrans_done(sk);
    let state = if doubtful { CaState::Disorder } else { CaState::Open };
    if sk.loss.ca_state != state {
        set_ca_state(sk, state);
        sk.loss.high_seq = sk.snd.nxt;
    }
}

fn try_to_open(sk: &mut TcpSock, net: &mut Net, a: &AckState) {
    if !any_retrans_done(sk) {
        sk.loss.retrans_stamp_ms = 0;
    }
    super::ecn::react(sk, net, a.flag);
    if sk.loss.ca_state != CaState::Cwr {
        try_keep_open(sk);
    }
}

/// The window is to be lowered although nothing was lost: a mark, or a queue of our own that is full.
#[doc(alias = "tcp_enter_cwr")]
pub fn enter_cwr(sk: &mut TcpSock, _net: &mut Net) {
    sk.loss.prior_ssthresh = 0;
    if sk.loss.ca_state < CaState::Cwr {
        sk.loss.undo_marker = 0;
        init_cwnd_reduction(sk);
        set_ca_state(sk, CaState::Cwr);
    }
}

/// The head was SACKed and is asked for all the same: wait a little, then a timeout forgets all SACKs.
fn check_sack_reneging(sk: &mut TcpSock, net: &mut Net, id: TcpId, a: &mut AckState) -> bool {
    if a.flag & FLAG_SACK_RENEGING == 0 || a.flag & FLAG_SND_UNA_ADVANCED == 0 {
        return false;
    }
    let wait = (sk.rtt.srtt_us >> 4).max(10_000);
    crate::net::tcp::reset_write_timer(net, sk, id, WriteTimer::Retrans, wait);
    a.flag &= !FLAG_SET_XMIT_TIMER;
    true
}

/// Remembers what an undo restores (`tcp_init_undo`): retransmissions in flight, a probe among them, may come back as
/// D-SACKs.
fn init_undo(sk: &mut TcpSock) {
    sk.loss.undo_marker = sk.snd.una;
    let probe = sk.loss.tlp_high_seq != 0 && sk.loss.tlp_retrans;
    let out = sk.snd.retrans_out as i32 + i32::from(probe);
    sk.loss.undo_retrans = if out == 0 { -1 } else { out };
}

/// `tcp_init_cwnd_reduction`.
pub fn init_cwnd_reduction(sk: &mut TcpSock) {
    sk.loss.high_seq = sk.snd.nxt;
    sk.loss.tlp_high_seq = 0;
    sk.cong.cwnd_cnt = 0;
    sk.loss.prior_cwnd = sk.cong.cwnd;
    sk.loss.prr_delivered = 0;
    sk.loss.prr_out = 0;
    sk.cong.ssthresh = sk.cong.ssthresh_after_loss();
    super::ecn::queue_cwr(sk);
}

#[doc(alias = "tcp_enter_recovery")]
pub fn enter_recovery(sk: &mut TcpSock, net: &mut Net, marked: bool) {
    // The clock of the episode starts with its first retransmission.
    if !any_retrans_done(sk) {
        sk.loss.retrans_stamp_ms = 0;
    }
    inc(net, sk, if is_reno(sk) { Mib::TcpExtTCPRenoRecovery } else { Mib::TcpExtTCPSackRecovery });
    sk.loss.prior_ssthresh = 0;
    init_undo(sk);
    if !sk.loss.ca_state.in_reduction() {
        if !marked {
            sk.loss.prior_ssthresh = current_ssthresh(sk);
        }
        init_cwnd_reduction(sk);
    }
    set_ca_state(sk, CaState::Recovery);
}

/// `tcp_current_ssthresh`: in a reduction it is decided already.
fn current_ssthresh(sk: &TcpSock) -> u32 {
    if sk.loss.ca_state.in_reduction() { sk.cong.ssthresh } else { sk.cong.current_ssthresh() }
}

/// An episode of timeouts is over: how long it took.
#[doc(alias = "tcp_update_rto_time")]
pub fn end_of_timeouts(sk: &mut TcpSock, net: &Net) {
    let now = net.env.now_ms();
    if let Some(t) = sk.track.as_deref_mut().filter(|t| t.rto_stamp_ms != 0) {
        t.total_rto_time_ms = t.total_rto_time_ms.wrapping_add(now.wrapping_sub(t.rto_stamp_ms));
        t.rto_stamp_ms = 0;
    }
}

/// The retransmission timer fired: everything not SACKed counts as lost, one segment goes out (RFC 5681 §3.1).
#[doc(alias = "tcp_enter_loss")]
pub fn enter_loss(sk: &mut TcpSock, net: &mut Net) {
    let fresh = sk.loss.ca_state < CaState::Recovery;
    timeout_mark_lost(sk, net);
    if sk.loss.ca_state <= CaState::Disorder
        || !after(sk.loss.high_seq, sk.snd.una)
        || (sk.loss.ca_state == CaState::Loss && sk.loss.retransmits == 0)
    {
        sk.loss.prior_ssthresh = current_ssthresh(sk);
        sk.loss.prior_cwnd = sk.cong.cwnd;
        sk.cong.ssthresh = sk.cong.ssthresh_after_loss();
        init_undo(sk);
    }
    let in_flight_before = sk.in_flight();
    sk.cong.cwnd = in_flight_before + 1;
    sk.cong.cwnd_cnt = 0;
    sk.cong.cwnd_stamp_us = net.env.now_us();
    pacing::on_loss(sk, net);
    // Timeouts in a disordered network ask for less trust in reordering.
    let base = setting(net, sk, |s| s.tcp_reordering);
    if sk.loss.ca_state <= CaState::Disorder && sk.snd.sacked_out >= base {
        sk.loss.reordering = sk.loss.reordering.min(base);
    }
    set_ca_state(sk, CaState::Loss);
    sk.loss.high_seq = sk.snd.nxt;
    sk.loss.tlp_high_seq = 0;
    super::ecn::queue_cwr(sk);
    // RFC 5682: the test needs a timeout that no recovery preceded.
    sk.loss.frto = setting(net, sk, |s| s.tcp_frto) != 0 && (fresh || sk.loss.retransmits > 0);
}

/// Everything not SACKed is lost, but what was sent less than a round trip ago may still arrive.
#[doc(alias = "tcp_timeout_mark_lost")]
fn timeout_mark_lost(sk: &mut TcpSock, net: &mut Net) {
    let reneg = sk.snd.sent > 0 && sk.snd.queue.front().is_some_and(|s| s.is(TCPCB_SACKED_ACKED));
    if reneg {
        // The peer threw away what it had SACKed.
        inc(net, sk, Mib::TcpExtTCPSACKReneging);
        for seg in sk.snd.queue.iter_mut().take(sk.snd.sent) {
            seg.sacked &= !TCPCB_SACKED_ACKED;
        }
        sk.snd.sacked_out = 0;
        sk.flags.sack_reneg = true;
    } else if is_reno(sk) {
        sk.snd.sacked_out = 0;
    }
    let now = net.env.now_us();
    for ix in 0..sk.snd.sent {
        let sent = sk.snd.queue.get(ix).map_or(0, |s| s.tx_us);
        let recent = now.saturating_sub(sent) < u64::from(sk.loss.rack_rtt_us);
        if ix == 0 || reneg || !recent {
            mark_lost(sk, net, ix);
        }
    }
}

/// ACKs after a timeout; F-RTO asks whether it was spurious (`tcp_process_loss`).
fn process_loss(sk: &mut TcpSock, net: &mut Net, a: &AckState, dupacks: u32, rexmit: &mut Rexmit) {
    let recovered = !before(sk.snd.una, sk.loss.high_seq);
    if a.flag & FLAG_SND_UNA_ADVANCED != 0 && undo::try_undo_loss(sk, net, a, false) {
        return;
    }
    if sk.loss.frto {
        // RFC 5682 §3.1 step 3.b: what was never sent again was acknowledged: the timeout was false.
        if a.flag & FLAG_ORIG_SACK_ACKED != 0 && undo::try_undo_loss(sk, net, a, true) {
            return;
        }
        if after(sk.snd.nxt, sk.loss.high_seq) {
            if a.flag & FLAG_DATA_SACKED != 0 || dupacks > 0 {
                sk.loss.frto = false;
            }
        } else if a.flag & FLAG_SND_UNA_ADVANCED != 0 && !recovered {
            sk.loss.high_seq = sk.snd.nxt;
            // Step 2.b: send new data, if there is some and the window takes it.
            if sk.has_unsent() && after(sk.wnd_end(), sk.snd.nxt) {
                *rexmit = Rexmit::New;
                return;
            }
            sk.loss.frto = false;
        }
    }
    if recovered {
        undo::try_undo_recovery(sk, net, a);
        return;
    }
    if is_reno(sk) {
        if after(sk.snd.nxt, sk.loss.high_seq) && dupacks > 0 {
            add_reno_sack(sk, net, dupacks);
        } else if a.flag & FLAG_SND_UNA_ADVANCED != 0 {
            sk.snd.sacked_out = 0;
        }
    }
    *rexmit = Rexmit::Lost;
}

/// Proportional rate reduction (RFC 6937, with the safe slow-start bound): out goes in proportion to what came in.
#[doc(alias = "tcp_cwnd_reduction")]
pub fn cwnd_reduction(sk: &mut TcpSock, newly_acked: u32, newly_lost: u32, flag: u32) {
    if newly_acked == 0 || sk.loss.prior_cwnd == 0 {
        return;
    }
    let in_flight = sk.in_flight();
    let delta = i64::from(sk.cong.ssthresh) - i64::from(in_flight);
    sk.loss.prr_delivered += newly_acked;
    let out = i64::from(sk.loss.prr_out);
    let mut send = if delta < 0 {
        let dividend =
            u64::from(sk.cong.ssthresh) * u64::from(sk.loss.prr_delivered) + u64::from(sk.loss.prior_cwnd) - 1;
        (dividend / u64::from(sk.loss.prior_cwnd)) as i64 - out
    } else {
        let mut n = (i64::from(sk.loss.prr_delivered) - out).max(i64::from(newly_acked));
        if flag & FLAG_SND_UNA_ADVANCED != 0 && newly_lost == 0 {
            n += 1;
        }
        n.min(delta)
    };
    // The first retransmission always goes.
    send = send.max(i64::from(sk.loss.prr_out == 0));
    sk.cong.cwnd = in_flight + send.max(0) as u32;
}

/// `tcp_end_cwnd_reduction`.
pub fn end_cwnd_reduction(sk: &mut TcpSock, net: &Net) {
    const INFINITE: u32 = 0x7fff_ffff;
    if sk.cong.ssthresh < INFINITE && (sk.loss.ca_state == CaState::Cwr || sk.loss.undo_marker != 0) {
        sk.cong.cwnd = sk.cong.ssthresh;
        sk.cong.cwnd_stamp_us = net.env.now_us();
    }
}

/// What is marked lost goes again although nothing says that the path is crowded: it was too large, or refused.
#[doc(alias = "tcp_non_congestion_loss_retransmit")]
pub fn non_congestion_loss_retransmit(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if is_reno(sk) {
        limit_reno_sacked(sk);
    }
    if sk.snd.lost_out > 0 && sk.loss.ca_state != CaState::Loss {
        sk.loss.high_seq = sk.snd.nxt;
        sk.cong.ssthresh = sk.cong.current_ssthresh();
        sk.loss.prior_ssthresh = 0;
        sk.loss.undo_marker = 0;
        sk.loss.ca_state = CaState::Loss;
    }
    retransmit::xmit_retransmit_queue(sk, net, id);
}

/// Segments that are larger than the path takes now are lost, and go again at once.
#[doc(alias = "tcp_simple_retransmit")]
pub fn simple_retransmit(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let mss = output::segment::current_mss(sk, net);
    // A SYN with data stands in the queue as two pieces: all of it was too big.
    let syn_data = sk.state == State::SynSent && sk.tfo.as_ref().is_some_and(|t| t.syn_data);
    for ix in 0..sk.snd.sent {
        let len = |s: &TxSeg| s.len().min(u32::from(s.mss));
        let too_big = sk.snd.queue.get(ix).is_some_and(|s| len(s) > mss && !s.is(TCPCB_SACKED_ACKED));
        if too_big || syn_data {
            mark_lost(sk, net, ix);
        }
    }
    if sk.snd.lost_out == 0 {
        return;
    }
    if is_reno(sk) {
        check_reno_reordering(sk, net, 0);
    }
    non_congestion_loss_retransmit(sk, net, id);
}

/// Sends what the ACK asked for.
#[doc(alias = "tcp_xmit_recovery")]
pub fn xmit_recovery(sk: &mut TcpSock, net: &mut Net, id: TcpId, rexmit: Rexmit) {
    if sk.state == State::SynSent {
        // There is nothing to acknowledge with it yet: the SYN-ACK is still being taken.
        return;
    }
    match rexmit {
        Rexmit::None => return,
        Rexmit::New => {
            output::push_pending_frames(sk, net, id, Nagle::Push);
            if after(sk.snd.nxt, sk.loss.high_seq) {
                return;
            }
            sk.loss.frto = false;
        }
        Rexmit::Lost => {}
    }
    retransmit::xmit_retransmit_queue(sk, net, id);
}
