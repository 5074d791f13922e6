//! What is sent again takes the small pieces behind it along, as far as one segment holds them: a lost stretch of small
//! writes, and the FIN at its end, goes in as few packets as may be.
use super::segment::adjust_pcount;
use crate::net::Net;
use crate::net::tcp::sock::*;
use crate::net::tcp::{seq, setting};
use belljar_wire::tcp::Flags;

/// More than so many pieces of memory are copied into one.
const MAX_PIECES: usize = 17;

/// Joins what follows entry `ix`, which is about to be sent again, to it: at most `space` bytes together, nothing beyond
/// the peer's window.
#[doc(alias = "tcp_retrans_try_collapse")]
pub fn retrans_try_collapse(sk: &mut TcpSock, net: &mut Net, ix: usize, space: u32) {
    if setting(net, sk, |s| s.tcp_retrans_collapse) == 0 {
        return;
    }
    let end = sk.wnd_end();
    let mut joined = false;
    while ix + 1 < sk.snd.sent {
        let (Some(to), Some(from)) = (sk.snd.queue.get(ix), sk.snd.queue.get(ix + 1)) else { break };
        let fits = to.len() + from.len() <= space && !seq::after(from.end_seq, end);
        if !fits || to.flags.contains(Flags::SYN) || !can_collapse(to, from) {
            break;
        }
        collapse(sk, ix);
        joined = true;
    }
    if joined
        && let Some(seg) = sk.snd.queue.get_mut(ix)
        && seg.data.pieces() > MAX_PIECES
    {
        let bytes = seg.data.to_vec();
        seg.data = net.pool.copy_in(&bytes, bytes.len()).into();
    }
}

/// Each is one segment that has not arrived, nothing says that they be apart, and no pages are the program's own.
#[doc(alias = "tcp_can_collapse")]
#[doc(alias = "tcp_skb_can_collapse")]
fn can_collapse(to: &TxSeg, from: &TxSeg) -> bool {
    let each = |s: &TxSeg| s.pcount() == 1 && !s.is(TCPCB_SACKED_ACKED) && s.tx & TX_ZEROCOPY == 0;
    each(to) && each(from) && !to.eor
}

/// The piece behind entry `ix` becomes its end, and what was counted for it is counted no more.
#[doc(alias = "tcp_collapse_retrans")]
fn collapse(sk: &mut TcpSock, ix: usize) {
    let Some(from) = sk.snd.queue.remove(ix + 1) else { return };
    sk.snd.sent -= 1;
    adjust_pcount(sk, from.sacked, -i64::from(from.pcount()));
    let Some(to) = sk.snd.queue.get_mut(ix) else { return };
    let was = to.truesize + from.truesize;
    to.end_seq = from.end_seq;
    to.flags |= from.flags;
    to.eor = from.eor;
    to.sacked |= from.sacked & TCPCB_EVER_RETRANS;
    if from.tx != 0 {
        // Stamps are about the last byte that asked for them.
        to.tx |= from.tx;
        to.tskey = from.tskey;
    }
    to.data.append(from.data);
    to.truesize = to.charge();
    sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(was) + to.truesize;
}
