//! Taking an acknowledgement (Linux: `tcp_ack`): window update, SACK, what it frees, what it says about round trip and
//! congestion; then recovery decides what is lost, and the congestion window what may follow.
use super::recovery::Rexmit;
use super::{ecn, rack, recovery, sack};
use crate::env::SEC;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::errqueue;
use crate::net::core::skb::{SKBTX_ACK_TSTAMP, Skb};
use crate::net::core::timestamp::{self, TxStamp};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::cong::HystartExit;
use crate::net::tcp::output::{self, probe};
use crate::net::tcp::rate::RateSample;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::track::Limit;
use crate::net::tcp::{
    State, bounds, clear_write_timer, inc, info, mtup, pacing, rate, reset_write_timer, rtt, setting, urgent, zerocopy,
};
use belljar_abi::SCM_TSTAMP_ACK;
use belljar_wire::tcp::{Flags, TcpOptions};

pub const FLAG_DATA: u32 = 0x01;
pub const FLAG_WIN_UPDATE: u32 = 0x02;
pub const FLAG_DATA_ACKED: u32 = 0x04;
pub const FLAG_RETRANS_DATA_ACKED: u32 = 0x08;
pub const FLAG_SYN_ACKED: u32 = 0x10;
pub const FLAG_DATA_SACKED: u32 = 0x20;
pub const FLAG_ECE: u32 = 0x40;
pub const FLAG_LOST_RETRANS: u32 = 0x80;
pub const FLAG_SLOWPATH: u32 = 0x100;
pub const FLAG_ORIG_SACK_ACKED: u32 = 0x200;
pub const FLAG_SND_UNA_ADVANCED: u32 = 0x400;
pub const FLAG_DSACKING_ACK: u32 = 0x800;
pub const FLAG_SET_XMIT_TIMER: u32 = 0x1000;
/// The peer threw away what it had SACKed.
pub const FLAG_SACK_RENEGING: u32 = 0x2000;
pub const FLAG_UPDATE_TS_RECENT: u32 = 0x4000;
pub const FLAG_NO_CHALLENGE_ACK: u32 = 0x8000;
pub const FLAG_ACK_MAYBE_DELAYED: u32 = 0x10000;
pub const FLAG_DSACK_TLP: u32 = 0x20000;
const FLAG_ACKED: u32 = FLAG_DATA_ACKED | FLAG_SYN_ACKED;
/// The ACK is no duplicate.
pub const FLAG_NOT_DUP: u32 = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED;
pub const FLAG_CA_ALERT: u32 = FLAG_DATA_SACKED | FLAG_ECE | FLAG_DSACKING_ACK;
pub const FLAG_FORWARD_PROGRESS: u32 = FLAG_ACKED | FLAG_DATA_SACKED;

/// What one ACK told, gathered on its way through the parts.
#[derive(Debug, Default)]
pub struct AckState {
    pub flag: u32,
    pub prior_una: u32,
    /// Highest SACKed sequence before it, SND.UNA when there was none.
    pub prior_fack: u32,
    /// `delivered` and `lost` before it.
    pub prior_delivered: u32,
    pub prior_lost: u32,
    /// Round trips by SACK and by cumulative ACK, -1 when there was none.
    pub sack_rtt_us: i64,
    pub seq_rtt_us: i64,
    /// First send time of what was newly SACKed, for `sack_rtt_us`.
    pub sack_first_us: u64,
    pub sack_last_us: u64,
    /// Lowest never-retransmitted sequence SACKed below the highest: reordering.
    pub reord: u32,
    /// The peer's echoed time stamp.
    pub tsecr: Option<u32>,
    /// Hops that the acknowledgement had left.
    pub ttl: u8,
    pub rs: RateSample,
}

impl AckState {
    fn new(sk: &TcpSock, flag: u32, o: &TcpOptions) -> AckState {
        AckState {
            flag,
            prior_una: sk.snd.una,
            prior_fack: sack::highest_sacked(sk),
            prior_delivered: sk.loss.delivered,
            prior_lost: sk.loss.lost,
            sack_rtt_us: -1,
            seq_rtt_us: -1,
            reord: sk.snd.nxt,
            tsecr: o.ts.map(|t| t.1).filter(|t| *t != 0 && sk.flags.tstamp_ok),
            rs: RateSample { rtt_us: -1, prior_in_flight: sk.in_flight(), ..RateSample::default() },
            ..AckState::default()
        }
    }
}

/// Handles the ACK field of `skb`. `Err`: it is unacceptable, with the reason; the caller ends the packet.
pub fn tcp_ack(
    sk: &mut TcpSock,
    net: &mut Net,
    id: TcpId,
    skb: &Skb,
    o: &TcpOptions,
    flag: u32,
) -> Result<(), DropReason> {
    let (ack, ack_seq) = (skb.tcp.ack, skb.tcp.seq);
    let una = sk.snd.una;
    if before(ack, una) {
        return old_ack(sk, net, id, ack, o, flag);
    }
    if after(ack, sk.snd.nxt) {
        if flag & FLAG_NO_CHALLENGE_ACK == 0 {
            super::validate::send_challenge_ack(sk, net, id);
        }
        return Err(DropReason::TcpAckUnsentData);
    }
    let mut a = AckState::new(sk, flag, o);
    if sk.sk.flags.tx_tstamp {
        a.ttl = skb.ip_hdr().map_or(0, |ip| ip.ttl);
    }
    if after(ack, una) {
        a.flag |= FLAG_SND_UNA_ADVANCED;
        sk.loss.retransmits = 0;
    }
    if flag & FLAG_UPDATE_TS_RECENT != 0 {
        replace_ts_recent(sk, net, ack_seq, o);
    }
    if skb.tcp.end_seq != ack_seq {
        a.flag |= FLAG_DATA;
    } else if flag & FLAG_SLOWPATH != 0 {
        inc(net, sk, Mib::TcpExtTCPPureAcks);
    } else if a.flag & FLAG_SND_UNA_ADVANCED != 0 {
        inc(net, sk, Mib::TcpExtTCPHPAcks);
    }
    update_window(sk, net, skb, &mut a);
    if o.n_sack > 0 && sk.flags.sack_ok {
        sack::sacktag_write_queue(sk, net, o.sack_blocks(), &mut a);
    }
    if ecn::rcv_ecn_echo(sk, skb.tcp.flags) {
        a.flag |= FLAG_ECE;
    }
    // Any ACK shows that the peer lives, whatever ICMP said.
    sk.sk.take_err_soft();
    super::super::timer::probes_answered(sk);
    sk.rcv.ack.heard_us = net.env.now_us();
    if sk.snd.packets_out == 0 {
        no_queue(sk, net, id, &mut a, ack);
        return Ok(());
    }
    if sk.urg().is_some() {
        urgent::acked(sk, una);
    }
    clean_rtx_queue(sk, net, id, &mut a);
    rack::update_reo_wnd(sk, net, &a);
    if sk.loss.tlp_high_seq != 0 {
        process_tlp_ack(sk, net, ack, &mut a);
    }
    let mut rexmit = Rexmit::None;
    if is_dubious(sk, a.flag) {
        let num_dupack = num_dupack(skb, a.flag);
        recovery::fastretrans_alert(sk, net, id, num_dupack, &mut a, &mut rexmit);
    }
    if a.flag & FLAG_SET_XMIT_TIMER != 0 && !probe::schedule_loss_probe(sk, net, id) {
        output::rearm_rto(sk, net, id);
    }
    if a.flag & FLAG_FORWARD_PROGRESS != 0
        && let Some(dst) = sk.dst
    {
        crate::net::core::neighbour::confirm(net, sk.sk.ns, &dst, sk.sk.daddr);
    }
    cong_control(sk, net, &mut a);
    recovery::xmit_recovery(sk, net, id, rexmit);
    Ok(())
}

/// Nothing was in flight: probes answered, Reno's guesses void, the window may be open again.
fn no_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId, a: &mut AckState, ack: u32) {
    if a.flag & FLAG_DSACKING_ACK != 0 {
        let mut rexmit = Rexmit::None;
        recovery::fastretrans_alert(sk, net, id, 0, a, &mut rexmit);
    }
    ack_probe(sk, net, id);
    if sk.loss.tlp_high_seq != 0 {
        process_tlp_ack(sk, net, ack, a);
    }
}

/// Duplicates of the past: nothing to take but SACK, and a blind injection is answered (RFC 5961 §5.2).
fn old_ack(sk: &mut TcpSock, net: &mut Net, id: TcpId, ack: u32, o: &TcpOptions, flag: u32) -> Result<(), DropReason> {
    let max_window = sk.snd.max_window.min(sk.totals.bytes_acked.min(u64::from(u32::MAX)) as u32);
    if before(ack, sk.snd.una.wrapping_sub(max_window)) {
        if flag & FLAG_NO_CHALLENGE_ACK == 0 {
            super::validate::send_challenge_ack(sk, net, id);
        }
        return Err(DropReason::TcpTooOldAck);
    }
    if o.n_sack > 0 && sk.flags.sack_ok && sk.snd.packets_out > 0 {
        let mut a = AckState::new(sk, flag, o);
        sack::sacktag_write_queue(sk, net, o.sack_blocks(), &mut a);
        let mut rexmit = Rexmit::None;
        recovery::fastretrans_alert(sk, net, id, 0, &mut a, &mut rexmit);
        newly_delivered(sk, net, &a);
        recovery::xmit_recovery(sk, net, id, rexmit);
    }
    Ok(())
}

/// The time stamp of a segment that reaches our acknowledgement becomes the one we echo (RFC 7323 §4.3).
fn replace_ts_recent(sk: &mut TcpSock, net: &Net, seq: u32, o: &TcpOptions) {
    let (true, Some((val, _))) = (sk.flags.tstamp_ok, o.ts) else { return };
    if !after(seq, sk.rcv.wup) && (val.wrapping_sub(sk.rcv.ts_recent) as i32 >= 0 || sk.rcv.ts_recent_stamp == 0) {
        sk.rcv.ts_recent = val;
        sk.rcv.ts_recent_stamp = ((net.env.now / SEC) as u32).max(1);
    }
}

/// SND.WND from a segment that is not older than the one it came from (RFC 9293 §3.10.7.4).
#[doc(alias = "tcp_ack_update_window")]
fn update_window(sk: &mut TcpSock, net: &Net, skb: &Skb, a: &mut AckState) {
    let (ack, seq) = (skb.tcp.ack, skb.tcp.seq);
    let scale = if skb.tcp.flags.contains(Flags::SYN) { 0 } else { sk.snd.wscale };
    let wnd = u32::from(skb.tcp.window) << scale;
    let newer =
        after(ack, sk.snd.una) || after(seq, sk.snd.wl1) || (seq == sk.snd.wl1 && (wnd > sk.snd.wnd || wnd == 0));
    if newer {
        // Also when it says the same: a first segment after the handshake is no duplicate.
        a.flag |= FLAG_WIN_UPDATE;
        sk.snd.wl1 = seq;
        if sk.snd.wnd != wnd {
            sk.snd.wnd = wnd;
            if sk.has_unsent() {
                output::slow_start_after_idle_check(sk, net);
            }
            if wnd > sk.snd.max_window {
                sk.snd.max_window = wnd;
                let pmtu = sk.snd.pmtu;
                output::segment::sync_mss(sk, net, pmtu);
            }
        }
    }
    if after(ack, sk.snd.una) {
        sk.totals.bytes_acked += u64::from(ack.wrapping_sub(sk.snd.una));
        sk.snd.una = ack;
    }
}

/// Removes what is covered, samples the round trip, tells RACK what was delivered.
#[doc(alias = "tcp_clean_rtx_queue")]
fn clean_rtx_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId, a: &mut AckState) {
    let now = net.env.now_us();
    let una = sk.snd.una;
    let (mut pkts_acked, mut first_us, mut last_us) = (0u32, 0u64, 0u64);
    // The lowest piece that was neither SACKed nor sent again: filling a hole by itself is reordering.
    let mut reord = sk.snd.nxt;
    let (prior_sacked, mut whole) = (sk.snd.sacked_out, true);
    while sk.snd.sent > 0 {
        let Some(seg) = sk.snd.queue.front() else { break };
        if seg.tx & SKBTX_ACK_TSTAMP != 0 {
            ack_tstamp(sk, net, id, a);
        }
        let Some(seg) = sk.snd.queue.front() else { break };
        if after(seg.end_seq, una) {
            if !after(una, seg.seq) {
                break;
            }
            // Part of a super-segment: whole wire segments of it may go.
            let mss = u32::from(seg.mss.max(1));
            let covered = una.wrapping_sub(seg.seq);
            whole = false;
            if seg.len() <= mss || covered < mss {
                break;
            }
            output::segment::split(sk, 0, covered);
            continue;
        }
        let Some(mut seg) = sk.snd.queue.pop_front() else { break };
        sk.snd.sent -= 1;
        let pcount = seg.pcount();
        if seg.is(TCPCB_EVER_RETRANS) {
            if seg.is(TCPCB_SACKED_RETRANS) {
                sk.snd.retrans_out = sk.snd.retrans_out.saturating_sub(pcount);
            }
            a.flag |= FLAG_RETRANS_DATA_ACKED;
        } else if !seg.is(TCPCB_SACKED_ACKED) {
            if first_us == 0 {
                first_us = seg.tx_us.max(1);
            }
            last_us = seg.tx_us;
            if before(seg.seq, reord) {
                reord = seg.seq;
            }
            if !after(seg.end_seq, sk.loss.high_seq) {
                a.flag |= FLAG_ORIG_SACK_ACKED;
            }
        }
        if seg.is(TCPCB_SACKED_ACKED) {
            sk.snd.sacked_out = sk.snd.sacked_out.saturating_sub(pcount);
        } else if sk.flags.sack_ok {
            sk.loss.delivered = sk.loss.delivered.wrapping_add(pcount);
            if !spurious_retrans(sk, a, &seg) {
                rack::advance(sk, net, &seg);
            }
        }
        if seg.is(TCPCB_LOST) {
            sk.snd.lost_out = sk.snd.lost_out.saturating_sub(pcount);
        }
        sk.snd.packets_out = sk.snd.packets_out.saturating_sub(pcount);
        pkts_acked += pcount;
        if let Some(t) = sk.track.as_deref_mut() {
            rate::skb_delivered(t, &mut seg, &mut a.rs);
        }
        if seg.flags.contains(Flags::SYN) {
            a.flag |= FLAG_SYN_ACKED;
            sk.loss.retrans_stamp_ms = 0;
        } else {
            a.flag |= FLAG_DATA_ACKED;
        }
        sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(seg.truesize);
        if seg.tx & TX_ZEROCOPY != 0 {
            zerocopy::freed(sk, &mut net.env, id);
        }
        net.pool.give(seg.data);
    }
    if sk.snd.sent > 0 && sk.snd.queue.front().is_some_and(|s| s.is(TCPCB_SACKED_ACKED)) {
        a.flag |= FLAG_SACK_RENEGING;
    }
    if sk.snd.queue.is_empty()
        && let Some(t) = sk.track.as_deref_mut()
    {
        t.chrono.stop(Limit::Busy, true, net.env.jiffies());
    }
    let mut ca_rtt = -1;
    if first_us != 0 && a.flag & FLAG_RETRANS_DATA_ACKED == 0 {
        a.seq_rtt_us = now.saturating_sub(first_us) as i64;
        ca_rtt = now.saturating_sub(last_us) as i64;
        let lone = pkts_acked == 1 && whole && prior_sacked == 0;
        let runt = sk.snd.una.wrapping_sub(a.prior_una) < u32::from(sk.snd.mss_cache);
        if lone
            && runt
            && a.rs.prior_delivered.wrapping_add(1) == sk.loss.delivered
            && a.flag & (FLAG_CA_ALERT | FLAG_SYN_ACKED) == 0
        {
            // One small segment alone: its acknowledgement may have waited for company.
            a.flag |= FLAG_ACK_MAYBE_DELAYED;
        }
    }
    if a.sack_first_us != 0 {
        a.sack_rtt_us = now.saturating_sub(a.sack_first_us) as i64;
        ca_rtt = now.saturating_sub(a.sack_last_us) as i64;
    }
    ack_update_rtt(sk, net, a, ca_rtt);
    if pkts_acked > 0 {
        a.flag |= FLAG_SET_XMIT_TIMER;
        if sk.rare.is_some() {
            mtup::check_success(sk, net);
        }
        if !sk.flags.sack_ok {
            reno_delivered(sk, net, pkts_acked, a);
        } else if before(reord, a.prior_fack) {
            sack::check_reordering(sk, net, reord, a.prior_fack, false);
        }
    } else if sacked_what_left_before_the_head(sk, a, now) {
        a.flag |= FLAG_SET_XMIT_TIMER;
    }
    // A handshake's round trip does not count (`tcp_init_congestion_control` comes after it), and behind an acknowledged FIN
    // there is nothing left to control. One that SACK measured does, without anything acknowledged.
    let controls = sk.state.is(&[State::Established, State::CloseWait]) || !sk.snd.queue.is_empty();
    if a.rs.rtt_us >= 0 && a.flag & FLAG_SYN_ACKED == 0 && controls {
        let ca_rtt = a.rs.rtt_us.min(i64::from(u32::MAX)) as u32;
        let exit = sk.cong.pkts_acked(pkts_acked, ca_rtt, now, sk.snd.una, sk.snd.nxt);
        if let Some((count, cwnd)) = exit.map(HystartExit::counters) {
            inc(net, sk, count);
            net.add(sk.sk.ns, cwnd, u64::from(sk.cong.cwnd));
        }
    }
}

/// The echoed time stamp is older than the retransmission: the original arrived, and tells RACK nothing about when.
#[doc(alias = "tcp_skb_spurious_retrans")]
fn spurious_retrans(sk: &TcpSock, a: &AckState, seg: &TxSeg) -> bool {
    let sent = ((seg.tx_us / 1000) as u32).wrapping_add(sk.tsoffset);
    seg.is(TCPCB_EVER_RETRANS) && a.tsecr.is_some_and(|ecr| before(ecr, sent))
}

/// The timer of a head that was just sent again starts over when data from before that arrives: it is the older one that
/// told how long a round trip takes. SACKs of later data must not put it off for ever.
fn sacked_what_left_before_the_head(sk: &TcpSock, a: &AckState, now: u64) -> bool {
    let head = sk.snd.queue.front().filter(|_| sk.snd.sent > 0);
    head.is_some_and(|h| a.sack_rtt_us >= 0 && a.sack_rtt_us > now.saturating_sub(h.tx_us) as i64)
}

/// The last byte of a send is acknowledged, and its program wants to know when.
#[doc(alias = "tcp_ack_tstamp")]
fn ack_tstamp(sk: &mut TcpSock, net: &mut Net, id: TcpId, a: &AckState) {
    let Some(seg) = sk.snd.queue.front_mut() else { return };
    if before(seg.tskey, a.prior_una) || !before(seg.tskey, sk.snd.una) {
        return;
    }
    seg.tx &= !SKBTX_ACK_TSTAMP;
    let (tskey, packet, truesize) = (seg.tskey, seg.data.clone(), seg.truesize);
    let stamp = TxStamp { kind: SCM_TSTAMP_ACK, tskey, packet, truesize, ifindex: 0 };
    let stats = info::opt_stats_wanted(sk).then(|| info::opt_stats(sk, net, Some(a.ttl)));
    let e = timestamp::entry(&sk.sk, &net.env, stamp, stats, true);
    errqueue::queue(&mut sk.sk, &mut net.env, SockId::Tcp(id), e);
}

fn reno_delivered(sk: &mut TcpSock, net: &mut Net, pkts_acked: u32, a: &AckState) {
    // Without SACK: duplicate ACKs already counted as delivered one segment each.
    let fresh = pkts_acked.saturating_sub(sk.snd.sacked_out).max(1);
    sk.loss.delivered = sk.loss.delivered.wrapping_add(fresh);
    if a.flag & FLAG_SND_UNA_ADVANCED != 0 {
        sk.snd.sacked_out = sk.snd.sacked_out.saturating_sub(pkts_acked.saturating_sub(1));
        recovery::check_reno_reordering(sk, net, pkts_acked);
    }
}

/// Karn's rule, SACK, then time stamps (RFC 7323 §4.1): the best sample there is.
#[doc(alias = "tcp_ack_update_rtt")]
fn ack_update_rtt(sk: &mut TcpSock, net: &mut Net, a: &mut AckState, mut ca_rtt: i64) {
    let mut us = if a.seq_rtt_us >= 0 { a.seq_rtt_us } else { a.sack_rtt_us };
    if us < 0
        && let (true, Some(ecr)) = (a.flag & FLAG_ACKED != 0, a.tsecr)
    {
        let ms = net.env.now_ms().wrapping_add(sk.tsoffset).wrapping_sub(ecr);
        if ms < 1 << 22 {
            us = i64::from(ms.max(1)) * 1000;
            ca_rtt = us;
        }
    }
    a.rs.rtt_us = ca_rtt;
    if us < 0 {
        return;
    }
    let most = i64::from(u32::MAX >> 4);
    let ca_rtt = ca_rtt.clamp(0, most) as u32;
    // What a delayed acknowledgement measures is no smallest round trip.
    if a.flag & FLAG_ACK_MAYBE_DELAYED == 0 || ca_rtt <= sk.rtt.min_us {
        update_min_rtt(sk, net, ca_rtt);
    }
    sample_rtt(sk, net, us.clamp(0, most) as u32);
}

fn sample_rtt(sk: &mut TcpSock, net: &Net, us: u32) {
    let b = bounds(net, sk);
    sk.rtt.sample(us.max(1), sk.snd.una, sk.snd.nxt, b);
    sk.rtt.backoff = 0;
}

fn update_min_rtt(sk: &mut TcpSock, net: &Net, us: u32) {
    let window = setting(net, sk, |s| s.tcp_min_rtt_wlen).saturating_mul(net.env.hz);
    rtt::update_min(sk, net.env.jiffies(), us, window);
}

pub(crate) fn take_rtt(sk: &mut TcpSock, net: &Net, us: u32) {
    update_min_rtt(sk, net, us);
    sample_rtt(sk, net, us);
}

/// Handshake round trip of a passive open, from the echoed time stamp of our SYN-ACK.
pub fn synack_rtt_from_ts(sk: &mut TcpSock, net: &Net, ecr: u32) {
    let ms = net.env.now_ms().wrapping_add(sk.tsoffset).wrapping_sub(ecr);
    if ms < 1 << 22 {
        take_rtt(sk, net, ms * 1000);
    }
}

fn is_dubious(sk: &TcpSock, flag: u32) -> bool {
    flag & FLAG_NOT_DUP == 0 || flag & FLAG_CA_ALERT != 0 || sk.loss.ca_state != CaState::Open
}

/// Duplicate ACKs this one stands for (`num_dupack`), when it is one.
fn num_dupack(skb: &Skb, flag: u32) -> u32 {
    if flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK) != 0 {
        return 0;
    }
    skb.gso.map_or(1, |g| u32::from(g.segs).max(1))
}

/// A probe was in flight: was the tail lost after all (RFC 8985 §7.4)?
#[doc(alias = "tcp_process_tlp_ack")]
fn process_tlp_ack(sk: &mut TcpSock, net: &mut Net, ack: u32, a: &mut AckState) {
    if before(ack, sk.loss.tlp_high_seq) {
        return;
    }
    if !sk.loss.tlp_retrans || a.flag & FLAG_DSACK_TLP != 0 {
        sk.loss.tlp_high_seq = 0;
    } else if after(ack, sk.loss.tlp_high_seq) {
        // The probe repaired a loss: that is congestion.
        recovery::init_cwnd_reduction(sk);
        sk.loss.ca_state = CaState::Cwr;
        recovery::end_cwnd_reduction(sk, net);
        recovery::try_keep_open(sk);
        inc(net, sk, Mib::TcpExtTCPLossProbeRecovery);
        sk.loss.tlp_high_seq = 0;
    } else if a.flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED) == 0 {
        // A pure duplicate: the original had arrived.
        sk.loss.tlp_high_seq = 0;
    }
}

/// The window opened, or not: stop or continue probing (`tcp_ack_probe`).
fn ack_probe(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if !sk.has_unsent() {
        return;
    }
    let Some(head) = sk.snd.queue.get(sk.snd.sent) else { return };
    let first = head.seq.wrapping_add(head.len().min(u32::from(sk.snd.mss_cache)));
    if !after(first, sk.wnd_end()) {
        sk.rtt.backoff = 0;
        sk.snd.probes_out = 0;
        if sk.write_timer_kind == WriteTimer::Probe0 {
            clear_write_timer(sk);
        }
    } else if sk.write_timer_kind == WriteTimer::Probe0 || sk.write_timer_kind == WriteTimer::None {
        let wide = u64::from(probe::probe0_base(sk, net)) << sk.rtt.backoff.min(31);
        let most = bounds(net, sk).max_us;
        reset_write_timer(net, sk, id, WriteTimer::Probe0, wide.min(u64::from(most)) as u32);
    }
}

/// Counts what this ACK found delivered, and how much of it with a congestion mark.
#[doc(alias = "tcp_newly_delivered")]
fn newly_delivered(sk: &mut TcpSock, net: &mut Net, a: &AckState) -> u32 {
    let delivered = sk.loss.delivered.wrapping_sub(a.prior_delivered);
    net.add(sk.sk.ns, Mib::TcpExtTCPDelivered, u64::from(delivered));
    if a.flag & FLAG_ECE != 0 {
        net.add(sk.sk.ns, Mib::TcpExtTCPDeliveredCE, u64::from(delivered));
        let t = sk.track();
        t.delivered_ce = t.delivered_ce.wrapping_add(delivered);
    }
    delivered
}

/// After the dust: the rate sample; then reduce in a recovery, grow otherwise (`tcp_cong_control`).
fn cong_control(sk: &mut TcpSock, net: &mut Net, a: &mut AckState) {
    let delivered = newly_delivered(sk, net, a);
    let (now, min_rtt, total) = (net.env.now_us(), sk.rtt.min_us, sk.loss.delivered);
    a.rs.acked_sacked = delivered;
    a.rs.losses = sk.loss.lost.wrapping_sub(a.prior_lost);
    a.rs.is_ack_delayed = a.flag & FLAG_ACK_MAYBE_DELAYED != 0;
    if let Some(t) = sk.track.as_deref_mut() {
        rate::generate(t, &mut a.rs, now, total, min_rtt, sk.flags.sack_reneg);
    }
    if sk.cong.has_cong_control() {
        return pacing::cong_control(sk, net, &a.rs);
    }
    if sk.loss.ca_state.in_reduction() {
        recovery::cwnd_reduction(sk, delivered, a.rs.losses, a.flag);
    } else if may_raise_cwnd(sk, net, a.flag) {
        let limited = sk.cong.is_cwnd_limited();
        sk.cong.cong_avoid(sk.snd.una, delivered, limited, now);
        sk.cong.cwnd_stamp_us = now;
    }
    pacing::update_pacing_rate(sk, net);
}

fn may_raise_cwnd(sk: &TcpSock, net: &Net, flag: u32) -> bool {
    if sk.loss.reordering > setting(net, sk, |s| s.tcp_reordering) {
        return flag & FLAG_FORWARD_PROGRESS != 0;
    }
    flag & FLAG_DATA_ACKED != 0
}
