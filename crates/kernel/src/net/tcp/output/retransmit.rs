//! Sending again: one piece, or all that is marked lost (Linux: `tcp_retransmit_skb`, `tcp_xmit_retransmit_queue`).
use super::segment::{current_mss, split};
use super::transmit::transmit_queued;
use crate::env::Event;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, reset_write_timer, seq};
use belljar_wire::tcp::Flags;

/// Sends up to `segs` wire segments from the front of entry `ix` again. False when nothing left.
#[doc(alias = "tcp_retransmit_skb")]
pub fn retransmit(sk: &mut TcpSock, net: &mut Net, id: TcpId, ix: usize, segs: u32, why: &'static str) -> bool {
    let mss = current_mss(sk, net);
    trim_acked_front(sk, ix);
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    // The peer shrank its window below this segment: only the first may still be tried.
    if seq::after(seg.seq.wrapping_add(1), sk.wnd_end()) && seg.seq != sk.snd.una && !seg.flags.contains(Flags::SYN) {
        return false;
    }
    let most = segs.saturating_mul(mss).max(mss);
    if seg.len() > most {
        split(sk, ix, most);
    }
    let Some(seg) = sk.snd.queue.get(ix) else { return false };
    let (first, len) = (seg.seq, seg.len());
    let sent = transmit_queued(sk, net, id, ix, mss).is_ok();
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return false };
    let pcount = seg.pcount();
    seg.retrans = seg.retrans.saturating_add(1);
    if seg.sacked & TCPCB_SACKED_RETRANS == 0 {
        sk.snd.retrans_out += pcount;
    }
    seg.sacked |= TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS;
    if sk.loss.retrans_stamp_ms == 0 {
        sk.loss.retrans_stamp_ms = net.env.now_ms().wrapping_add(sk.tsoffset).max(1);
    }
    sk.loss.undo_retrans = sk.loss.undo_retrans.max(0) + pcount as i32;
    sk.loss.total_retrans = sk.loss.total_retrans.wrapping_add(pcount);
    sk.totals.bytes_retrans += u64::from(len);
    net.add(sk.sk.ns, Mib::TcpRetransSegs, u64::from(pcount));
    if sk.state == crate::net::tcp::state::State::SynSent {
        inc(net, sk, Mib::TcpExtTCPSynRetrans);
    }
    if !sent {
        inc(net, sk, Mib::TcpExtTCPRetransFail);
    }
    if net.env.trace.wanted.sockets {
        net.env.trace.push(net.env.now, Event::Retransmit { sock: SockId::Tcp(id), seq: first, len, why });
    }
    sent
}

/// An ACK may end inside the first entry: what it covers is not sent again (`tcp_trim_head`).
fn trim_acked_front(sk: &mut TcpSock, ix: usize) {
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
    seg.truesize = crate::net::core::skb::tx_truesize(seg.data.len());
    let (now, new, sacked) = (seg.truesize, seg.pcount(), seg.sacked);
    sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(was - now.min(was));
    if sk.snd.sent > 0 {
        super::segment::adjust_pcount(&mut sk.snd, sacked, i64::from(new) - i64::from(old));
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
    while ix < sk.snd.sent {
        let room = sk.cong.cwnd.saturating_sub(sk.in_flight());
        if room == 0 || sk.snd.retrans_out >= sk.snd.lost_out {
            break;
        }
        let Some(seg) = sk.snd.queue.get(ix) else { break };
        if seg.sacked & (TCPCB_LOST | TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS) != TCPCB_LOST {
            ix += 1;
            continue;
        }
        let loss = sk.loss.ca_state == CaState::Loss;
        if !retransmit(sk, net, id, ix, room, if loss { "slow start" } else { "fast" }) {
            break;
        }
        inc(net, sk, if loss { Mib::TcpExtTCPSlowStartRetrans } else { Mib::TcpExtTCPFastRetrans });
        if sk.loss.ca_state.in_reduction() {
            sk.loss.prr_out += sk.snd.queue.get(ix).map_or(0, TxSeg::pcount);
        }
        rearm |= ix == 0 && sk.write_timer_kind != WriteTimer::ReoTimeout;
        ix += 1;
    }
    if rearm {
        let rto = sk.rtt.backed_off(crate::net::tcp::bounds(net, sk));
        reset_write_timer(net, sk, id, WriteTimer::Retrans, rto);
    }
}
