//! Sending again: one piece, or all that is marked lost (Linux: `tcp_retransmit_skb`, `tcp_xmit_retransmit_queue`).
use super::collapse::retrans_try_collapse;
use super::segment::{current_mss, may_fragment, set_tso_segs, split};
use super::transmit::transmit_queued;
use crate::env::Event;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, md5sig, mtup, pacing, reset_write_timer, seq, setting, zerocopy};
use belljar_wire::tcp::Flags;

/// Sends up to `segs` wire segments from the front of entry `ix` again, and counts them as a retransmission in flight.
/// False when nothing left.
#[doc(alias = "tcp_retransmit_skb")]
pub fn retransmit(sk: &mut TcpSock, net: &mut Net, id: TcpId, ix: usize, segs: u32, why: &'static str) -> bool {
    let sent = resend(sk, net, id, ix, segs, why);
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return false };
    let pcount = seg.pcount();
    if sent {
        if seg.sacked & TCPCB_SACKED_RETRANS == 0 {
            sk.snd.retrans_out += pcount;
        }
        seg.sacked |= TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS;
    }
    // Also an attempt that failed starts the clock of giving up.
    if sk.loss.retrans_stamp_ms == 0 {
        sk.loss.retrans_stamp_ms = net.env.now_ms().wrapping_add(sk.tsoffset).max(1);
    }
    sk.loss.undo_retrans = sk.loss.undo_retrans.max(0) + pcount as i32;
    sent
}

/// The sending alone: what a tail loss probe does, which is no retransmission to the scoreboard.
#[doc(alias = "__tcp_retransmit_skb")]
pub fn resend(sk: &mut TcpSock, net: &mut Net, id: TcpId, ix: usize, segs: u32, why: &'static str) -> bool {
    if sk.rare.is_some() {
        mtup::inconclusive(sk);
    }
    let mss = current_mss(sk, net);
    trim_acked_front(sk, net, id, ix);
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    let mut window = sk.wnd_end().wrapping_sub(seg.seq) as i32;
    if window <= 0 {
        // The peer shrank its window below this segment: only the first may still be tried.
        if seg.seq != sk.snd.una {
            return false;
        }
        window = mss as i32;
    }
    let (len, window) = (seg.len(), window as u32);
    // A signature is for one segment.
    let segs = if sk.rare.is_some() && md5sig::own(sk).is_some() { 1 } else { segs };
    let mut most = segs.saturating_mul(mss).max(mss);
    if most > window {
        // Whole segments, unless not even one fits.
        most = if window < mss { window } else { window / mss * mss };
    }
    if len > most {
        if !may_fragment(sk, net, ix) {
            return false;
        }
        split(sk, ix, most);
    } else {
        set_tso_segs(sk, ix, mss);
        let space = window.min(mss);
        if len < space && ix + 1 < sk.snd.sent {
            retrans_try_collapse(sk, net, ix, space);
        }
    }
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    if seg.flags.contains(Flags::SYN | Flags::ECE | Flags::CWR) && setting(net, sk, |s| s.tcp_ecn_fallback) != 0 {
        clear_syn_ecn(sk, ix);
    }
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    let (first, len) = (seg.seq, seg.len());
    let pcount = len.div_ceil(mss.max(1)).max(1);
    sk.loss.total_retrans = sk.loss.total_retrans.wrapping_add(pcount);
    sk.totals.bytes_retrans += u64::from(len);
    net.add(sk.sk.ns, Mib::TcpRetransSegs, u64::from(pcount));
    if sk.state == crate::net::tcp::state::State::SynSent {
        inc(net, sk, Mib::TcpExtTCPSynRetrans);
    }
    let sent = transmit_queued(sk, net, id, ix, mss).is_ok();
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return false };
    if sent {
        seg.retrans = seg.retrans.saturating_add(1);
        seg.sacked = (seg.sacked & !TCPCB_JUDGED) | TCPCB_EVER_RETRANS;
    } else {
        net.add(sk.sk.ns, Mib::TcpExtTCPRetransFail, u64::from(pcount));
    }
    if net.env.trace.wanted.sockets {
        net.env.trace.push(
            net.env.now,
            Some(sk.sk.ns),
            Event::Retransmit { sock: SockId::Tcp(id), seq: first, len, why },
        );
    }
    sent
}

/// A SYN that was not answered may have died of its ECN bits: again without (tcp_ecn_fallback).
#[doc(alias = "tcp_ecn_clear_syn")]
fn clear_syn_ecn(sk: &mut TcpSock, ix: usize) {
    if let Some(syn) = sk.snd.queue.get_mut(ix) {
        syn.flags = syn.flags.without(Flags::ECE | Flags::CWR);
    }
}

/// An ACK may end inside the first entry: what it covers is not sent again (`tcp_trim_head`).
fn trim_acked_front(sk: &mut TcpSock, net: &mut Net, id: TcpId, ix: usize) {
    let una = sk.snd.una;
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return };
    if ix != 0 || !seq::before(seg.seq, una) || seg.is_empty() {
        return;
    }
    let old = seg.pcount();
    let n = una.wrapping_sub(seg.seq).min(seg.len());
    seg.data.advance(n as usize);
    seg.seq = seg.seq.wrapping_add(n);
    let was = seg.truesize;
    seg.truesize = seg.charge();
    let (now, new, sacked) = (seg.truesize, seg.pcount(), seg.sacked);
    let zerocopy = seg.tx & TX_ZEROCOPY != 0;
    sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(was - now.min(was));
    if sk.snd.sent > 0 {
        super::segment::adjust_pcount(sk, sacked, i64::from(new) - i64::from(old));
    }
    if zerocopy {
        zerocopy::freed(sk, &mut net.env, id);
    }
}

/// Sends what is marked lost, as far as the congestion window permits.
#[doc(alias = "tcp_xmit_retransmit_queue")]
pub fn xmit_retransmit_queue(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if sk.snd.packets_out == 0 {
        return;
    }
    let mut rearm = false;
    let mut ix = 0;
    let mss = current_mss(sk, net);
    let max_segs = pacing::tso_segs(sk, net, mss);
    while ix < sk.snd.sent {
        let room = sk.cong.cwnd.saturating_sub(sk.in_flight()).min(max_segs);
        if room == 0 || sk.snd.retrans_out >= sk.snd.lost_out || pacing::pacing_check(sk, net, id) {
            break;
        }
        let Some(seg) = sk.snd.queue.get(ix).map(|s| (s.sacked, s.truesize)) else { break };
        if seg.0 & (TCPCB_LOST | TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS) != TCPCB_LOST {
            ix += 1;
            continue;
        }
        let loss = sk.loss.ca_state == CaState::Loss;
        if pacing::small_queue_check(sk, net, seg.1, 1) {
            break;
        }
        if !retransmit(sk, net, id, ix, room, if loss { "slow start" } else { "fast" }) {
            break;
        }
        let pcount = sk.snd.queue.get(ix).map_or(0, TxSeg::pcount);
        let counter = if loss { Mib::TcpExtTCPSlowStartRetrans } else { Mib::TcpExtTCPFastRetrans };
        net.add(sk.sk.ns, counter, u64::from(pcount));
        if sk.loss.ca_state.in_reduction() {
            sk.loss.prr_out += pcount;
        }
        rearm |= ix == 0 && sk.write_timer_kind != WriteTimer::ReoTimeout;
        ix += 1;
    }
    if rearm {
        let rto = sk.rtt.backed_off(crate::net::tcp::bounds(net, sk));
        reset_write_timer(net, sk, id, WriteTimer::Retrans, rto);
    }
}
