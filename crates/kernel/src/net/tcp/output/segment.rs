//! Cutting the write queue: the segment size of the moment, splitting an entry, joining data to its tail.
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::skb::SKB_OVERHEAD;
use crate::net::ipv4::options as ip_options;
use crate::net::ipv4::route::Dst;
use crate::net::ipv6::txopts;
use crate::net::mib::Mib;
use crate::net::tcp::sock::*;
use crate::net::tcp::{inc, md5sig, mtup};
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{
    Flags, MAX_TCP_OPTION_SPACE, TCP_HLEN, TCPOLEN_MD5SIG_ALIGNED, TCPOLEN_SACK_BASE_ALIGNED, TCPOLEN_SACK_PERBLOCK,
    TCPOLEN_TSTAMP_ALIGNED,
};

/// Bytes of options in each data segment of this connection, SACK blocks that are due included.
pub fn option_len(sk: &TcpSock) -> usize {
    let blocks = sack_blocks_due(sk);
    fixed_len(sk) + if blocks > 0 { TCPOLEN_SACK_BASE_ALIGNED + TCPOLEN_SACK_PERBLOCK * blocks } else { 0 }
}

/// Time stamps and signature.
fn fixed_len(sk: &TcpSock) -> usize {
    let ts = if sk.flags.tstamp_ok { TCPOLEN_TSTAMP_ALIGNED } else { 0 };
    ts + if md5sig::own(sk).is_some() { TCPOLEN_MD5SIG_ALIGNED } else { 0 }
}

pub fn sack_blocks_due(sk: &TcpSock) -> usize {
    let due = sk.rcv.sack.n as usize + usize::from(sk.rcv.sack.dsack.is_some());
    if due == 0 {
        return 0;
    }
    let room = MAX_TCP_OPTION_SPACE.saturating_sub(fixed_len(sk) + TCPOLEN_SACK_BASE_ALIGNED);
    due.min(room / TCPOLEN_SACK_PERBLOCK)
}

/// The payload a wire segment takes now: the cached MSS, less what SACK blocks cost.
#[doc(alias = "tcp_current_mss")]
pub fn current_mss(sk: &mut TcpSock, net: &Net) -> u32 {
    // The route as the last packet found it: the next one looks whether it still holds.
    if let Some(mtu) = sk.dst.map(|d| d.mtu)
        && mtu != sk.snd.pmtu
    {
        sync_mss(sk, net, mtu);
    }
    let extra = (option_len(sk) as u32).saturating_sub(constant_options(sk));
    (u32::from(sk.snd.mss_cache)).saturating_sub(extra).max(8)
}

/// The cached route, looked up again when tables or path MTU changed (`__sk_dst_check`).
#[inline]
pub fn check_dst<'a>(sk: &'a mut TcpSock, net: &mut Net) -> Option<&'a Dst> {
    let genid = net.ns.get(sk.sk.ns)?.rt_genid;
    if sk.dst.as_ref().is_none_or(|d| d.genid != genid) {
        sk.dst = af::route_output(net, sk.sk.ns, &Flow::of(&sk.sk, IPPROTO_TCP)).ok();
    }
    sk.dst.as_ref()
}

/// IP header with the socket's options or extension headers, and TCP's bare one.
pub fn headers(sk: &TcpSock) -> u32 {
    let options = match sk.sk.cold {
        Some(_) => ip_options::len_of(&sk.sk, sk.sk.daddr) + txopts::len_of(&sk.sk, sk.sk.daddr),
        None => 0,
    };
    af::header_len(sk.sk.daddr) + options + TCP_HLEN as u32
}

/// Bytes of options that every segment carries (`tcp_header_len` beyond the bare header).
pub fn constant_options(sk: &TcpSock) -> u32 {
    let md5 = sk.rare.as_ref().is_some_and(|r| r.md5_in_header);
    let len =
        if sk.flags.tstamp_ok { TCPOLEN_TSTAMP_ALIGNED } else { 0 } + if md5 { TCPOLEN_MD5SIG_ALIGNED } else { 0 };
    len as u32
}

/// Recomputes the segment size for a path MTU (`tcp_sync_mss`): headers and constant options off, bounded by what the
/// peer announced, by half the largest window it ever offered, and by tcp_min_snd_mss.
#[doc(alias = "tcp_sync_mss")]
pub fn sync_mss(sk: &mut TcpSock, net: &Net, pmtu: u32) {
    sk.snd.pmtu = pmtu;
    let floor = crate::net::tcp::setting(net, sk, |s| s.tcp_min_snd_mss);
    let options = constant_options(sk);
    let headers = headers(sk);
    let mut mss = pmtu.saturating_sub(headers).min(u32::from(sk.snd.mss_clamp));
    if sk.snd.user_mss != 0 {
        mss = mss.min(u32::from(sk.snd.user_mss));
    }
    mss = mss.max(floor).saturating_sub(options);
    mss = bound_to_half_wnd(sk.snd.max_window, mss, TCP_HLEN as u32 + options);
    if sk.rare.is_some() {
        mss = mtup::limit(sk, net, pmtu).map_or(mss, |limit| mss.min(limit));
    }
    sk.snd.mss_cache = mss.clamp(8, u32::from(u16::MAX)) as u16;
}

/// Never more than half of the peer's largest window: there must be two segments in it (`tcp_bound_to_half_wnd`).
pub fn bound_to_half_wnd(max_window: u32, mss: u32, header_len: u32) -> u32 {
    // A tiny window is used whole.
    let cut = if max_window > 536 { max_window >> 1 } else { max_window };
    if cut != 0 && mss > cut { cut.max(68 - header_len) } else { mss }
}

/// Fills the first unsent entry up to `want` bytes from the one behind it, so that pieces are as large as they may be.
#[doc(alias = "tcp_grow_skb")]
pub fn grow(sk: &mut TcpSock, want: u32) {
    const MAX_PIECES: usize = 17;
    let ix = sk.snd.sent;
    let (Some(seg), Some(next)) = (sk.snd.queue.get(ix), sk.snd.queue.get(ix + 1)) else { return };
    let n = want.saturating_sub(seg.len()).min(next.len());
    let apart = seg.tx != 0 || next.tx & TX_ZEROCOPY != 0;
    if n == 0 || seg.eor || apart || seg.is_empty() || seg.data.pieces() + next.data.pieces() > MAX_PIECES {
        return;
    }
    let Some(next) = sk.snd.queue.get_mut(ix + 1) else { return };
    let mut was = next.truesize;
    let moved = next.data.split_to(n as usize);
    next.seq = next.seq.wrapping_add(n);
    next.truesize = next.charge();
    let mut now = next.truesize;
    let whole = next.data.is_empty().then_some((next.end_seq, next.flags, next.eor, (next.tx, next.tskey)));
    if whole.is_some() {
        now = 0;
        sk.snd.queue.remove(ix + 1);
    }
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return };
    was += seg.truesize;
    seg.data.append(moved);
    seg.end_seq = seg.end_seq.wrapping_add(n);
    if let Some((end, flags, eor, stamp)) = whole {
        // With what ended it: a FIN has a number of its own.
        (seg.end_seq, seg.eor) = (end, eor);
        (seg.tx, seg.tskey) = stamp;
        seg.flags |= flags;
    }
    seg.truesize = seg.charge();
    now += seg.truesize;
    sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(was) + now;
}

/// Whether a piece in flight may be split: pieces beyond all that was ever to be sent are somebody's attack by SACK
/// (CVE-2019-11478).
pub fn may_fragment(sk: &TcpSock, net: &mut Net, ix: usize) -> bool {
    const GSO_LEGACY_MAX_SIZE: u32 = 65_536;
    let limit = sk.sk.sndbuf.saturating_add(2 * (GSO_LEGACY_MAX_SIZE + SKB_OVERHEAD));
    let inside = ix != 0 && ix + 1 < sk.snd.sent;
    if !inside || sk.sk.wmem_queued >> 1 <= limit {
        return true;
    }
    inc(net, sk, Mib::TcpExtTCPWqueueTooBig);
    false
}

/// Splits entry `ix` after `len` bytes; both halves keep what is known about them, FIN and PSH go to the second.
#[doc(alias = "tcp_fragment")]
pub fn split(sk: &mut TcpSock, ix: usize, len: u32) {
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return };
    // After the last byte only a FIN can be split off.
    if len == 0 || len > seg.len() || len == seg.len() && !seg.flags.contains(Flags::FIN) {
        return;
    }
    let old = seg.pcount();
    let (sacked, was) = (seg.sacked, seg.truesize);
    let head_data = seg.data.split_to(len as usize);
    let tail_data = std::mem::replace(&mut seg.data, head_data);
    let mut tail = seg.clone();
    tail.data = tail_data;
    tail.seq = seg.seq.wrapping_add(len);
    tail.truesize = tail.charge();
    seg.end_seq = tail.seq;
    seg.flags = seg.flags.without(Flags::FIN | Flags::PSH);
    seg.eor = false;
    seg.truesize = seg.charge();
    fragment_tstamp(seg, &mut tail);
    let new = seg.pcount() + tail.pcount();
    // Two heads now where one was.
    sk.sk.wmem_queued = sk.sk.wmem_queued.saturating_sub(was) + seg.truesize + tail.truesize;
    sk.snd.queue.insert(ix + 1, tail);
    if ix < sk.snd.sent {
        sk.snd.sent += 1;
        adjust_pcount(sk, sacked, i64::from(new) - i64::from(old));
    }
}

/// A time stamp stays with the byte that it is about.
#[doc(alias = "tcp_fragment_tstamp")]
fn fragment_tstamp(head: &mut TxSeg, tail: &mut TxSeg) {
    let later = !crate::net::tcp::seq::before(head.tskey, tail.seq);
    if later {
        head.tx &= TX_ZEROCOPY;
    } else {
        tail.tx &= TX_ZEROCOPY;
    }
}

/// Entry `ix` is sent in segments of `mss`; returns how many.
#[doc(alias = "tcp_set_skb_tso_segs")]
pub fn set_tso_segs(sk: &mut TcpSock, ix: usize, mss: u32) -> u32 {
    let in_flight = ix < sk.snd.sent;
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return 0 };
    let (old, sacked) = (seg.pcount(), seg.sacked);
    seg.mss = mss as u16;
    let new = seg.pcount();
    if in_flight && new != old {
        adjust_pcount(sk, sacked, i64::from(new) - i64::from(old));
    }
    new
}

/// A piece in flight now stands for `by` more (or fewer) wire segments.
#[doc(alias = "tcp_adjust_pcount")]
pub fn adjust_pcount(sk: &mut TcpSock, sacked: u8, by: i64) {
    let snd = &mut sk.snd;
    let shift = |n: &mut u32| *n = (i64::from(*n) + by).max(0) as u32;
    shift(&mut snd.packets_out);
    if sacked & TCPCB_SACKED_ACKED != 0 {
        shift(&mut snd.sacked_out);
    }
    if sacked & TCPCB_SACKED_RETRANS != 0 {
        shift(&mut snd.retrans_out);
    }
    if sacked & TCPCB_LOST != 0 {
        shift(&mut snd.lost_out);
    }
    if !sk.flags.sack_ok && by < 0 {
        // Duplicate ACKs stood for segments that are fewer now.
        shift(&mut snd.sacked_out);
    }
}
