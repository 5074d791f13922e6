//! SACKed neighbours become one piece of the write queue: it stays short however many acknowledgements told of them.
use super::ack::AckState;
use super::sack::sacktag_one;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::inc;
use crate::net::tcp::output::segment::split;
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;

const TCP_MIN_GSO_SIZE: u32 = 8;
const TAGBITS: u8 = TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS | TCPCB_LOST;

/// Whether a piece that a block covers can join the one before it.
enum Way {
    /// It is marked by itself.
    Alone,
    /// It stays unmarked: less than a wire segment of it is covered.
    Skip,
    /// So many bytes of it.
    Joins(u32),
}

/// Marks entry `ix`, not SACKed yet, together with what is before it; which entry comes next. `None`: it is to be marked by itself,
/// as far as the block `start..end` goes.
#[doc(alias = "tcp_shift_skb_data")]
pub(super) fn shift(
    sk: &mut TcpSock,
    net: &mut Net,
    ix: usize,
    (start, end): (u32, u32),
    a: &mut AckState,
) -> Option<usize> {
    let len = match way(sk, ix, start, end) {
        Way::Alone => {
            inc(net, sk, Mib::TcpExtTCPSackShiftFallback);
            return None;
        }
        Way::Skip => return Some(ix + 1),
        Way::Joins(len) => len,
    };
    // All its data: a FIN behind them goes with them, as in Linux, although no block tells of it.
    let whole = sk.snd.queue.get(ix).is_some_and(|s| s.len() == len);
    if !whole {
        split(sk, ix, len);
    }
    sacktag_one(sk, net, ix, a);
    merge(sk, ix);
    inc(net, sk, if whole { Mib::TcpExtTCPSackMerged } else { Mib::TcpExtTCPSackShifted });
    // A hole was filled: what is behind it may join too.
    if whole && ix < sk.snd.sent && joins_next(sk, ix) {
        merge(sk, ix);
        inc(net, sk, Mib::TcpExtTCPSackMerged);
    }
    Some(ix)
}

fn way(sk: &TcpSock, ix: usize, start: u32, end: u32) -> Way {
    let (Some(seg), Some(prev)) = (sk.snd.queue.get(ix), ix.checked_sub(1).and_then(|p| sk.snd.queue.get(p))) else {
        return Way::Alone;
    };
    let again = seg.is(TCPCB_SACKED_RETRANS) && !seg.is(TCPCB_LOST);
    if again || !can_collapse(prev, seg) {
        return Way::Alone;
    }
    let whole = !after(start, seg.seq) && !before(end, seg.end_seq);
    let mss = if whole { seglen(seg) } else { u32::from(seg.mss) };
    if !whole && seg.pcount() <= 1 {
        return Way::Skip;
    }
    if !whole && after(start, seg.seq) || mss != seglen(prev) || mss == 0 {
        return Way::Alone;
    }
    let covered = end.wrapping_sub(seg.seq);
    let len = if whole { seg.len() } else { covered / mss * mss };
    if len == 0 {
        return Way::Skip;
    }
    let new = after(seg.seq.wrapping_add(len), sk.snd.una);
    let long = prev.len() + len >= 65_535 * TCP_MIN_GSO_SIZE || prev.pcount() + len.div_ceil(mss) > 65_535;
    if new && !long { Way::Joins(len) } else { Way::Alone }
}

/// Entry `ix` is SACKed as the one before it is, and of wire segments of the same length.
fn joins_next(sk: &TcpSock, ix: usize) -> bool {
    let (Some(seg), Some(prev)) = (sk.snd.queue.get(ix), ix.checked_sub(1).and_then(|p| sk.snd.queue.get(p))) else {
        return false;
    };
    let long = prev.len() + seg.len() >= 65_535 * TCP_MIN_GSO_SIZE;
    seg.sacked & TAGBITS == TCPCB_SACKED_ACKED && can_collapse(prev, seg) && seglen(prev) == seglen(seg) && !long
}

/// Bytes in a full wire segment of it.
#[doc(alias = "tcp_skb_seglen")]
fn seglen(seg: &TxSeg) -> u32 {
    if seg.pcount() == 1 { seg.len() } else { u32::from(seg.mss) }
}

/// Nothing ends between them, and the first one ends with a full wire segment.
#[doc(alias = "tcp_skb_can_collapse")]
fn can_collapse(prev: &TxSeg, seg: &TxSeg) -> bool {
    let full = seglen(prev) != 0 && prev.len().is_multiple_of(seglen(prev));
    let plain = (prev.tx | seg.tx) & TX_ZEROCOPY == 0 && !prev.eor;
    prev.sacked & TAGBITS == TCPCB_SACKED_ACKED && plain && full && !seg.is_empty()
}

/// Entry `ix` becomes part of the one before it.
#[doc(alias = "tcp_shifted_skb")]
fn merge(sk: &mut TcpSock, ix: usize) {
    let Some(seg) = sk.snd.queue.remove(ix) else { return };
    sk.snd.sent -= 1;
    let Some(prev) = ix.checked_sub(1).and_then(|p| sk.snd.queue.get_mut(p)) else { return };
    let was = prev.truesize + seg.truesize;
    prev.mss = seglen(prev) as u16;
    prev.end_seq = seg.end_seq;
    prev.flags |= seg.flags;
    prev.sacked |= seg.sacked & TCPCB_EVER_RETRANS;
    prev.eor = seg.eor;
    if seg.tx != 0 {
        prev.tx |= seg.tx;
        prev.tskey = seg.tskey;
    }
    prev.data.append(seg.data);
    prev.truesize = prev.charge();
    sk.sk.wmem_queued = (sk.sk.wmem_queued + prev.truesize).saturating_sub(was);
}
