//! Urgent data (RFC 9293 §3.8.5, RFC 6093, tcp(7)): one byte that the pointer names, which the reader meets as a mark, and as
//! a byte beside the stream unless SO_OOBINLINE leaves it there.
use super::seq::{after, before, between};
use super::sock::*;
use super::state::State;
use super::{setting, wake};
use crate::env::Rise;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::RCV_SHUTDOWN;
use crate::task::call::{Received, Ret, Step};
use belljar_abi::{Errno, MSG_OOB, MSG_PEEK, MSG_TRUNC, POLLIN, POLLPRI, POLLRDNORM};
use belljar_wire::Segs;
use belljar_wire::tcp::Flags;

/// What few connections have: a mark in what came, a mark in what goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Urg {
    pub data: UrgData,
    /// Sequence number of the urgent byte that was announced last.
    pub seq: u32,
    /// Behind the last urgent byte that was sent, until it is acknowledged (`snd_up`).
    pub snd_up: Option<u32>,
}

/// The urgent byte (`urg_data`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrgData {
    #[default]
    None,
    /// Announced, and not there yet.
    NotYet,
    Valid(u8),
    /// Read; the mark stays until the reader passes it.
    Read,
}

/// What a reader meets at a place of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    /// So many bytes of what it asked for, up to the mark.
    Data(usize),
    /// The mark, behind bytes that it has: it stops.
    Mark,
    /// The urgent byte, which is not part of the stream.
    Hole,
}

/// Where the mark is, as long as there is one.
pub fn mark(sk: &TcpSock) -> Option<u32> {
    sk.urg().filter(|u| u.data != UrgData::None).map(|u| u.seq)
}

pub fn at_mark(sk: &TcpSock) -> bool {
    mark(sk) == Some(sk.rcv.copied_seq)
}

pub fn is_valid(sk: &TcpSock) -> bool {
    sk.urg().is_some_and(|u| matches!(u.data, UrgData::Valid(_)))
}

/// Behind the last urgent byte, while it is on its way (`tcp_urg_mode`).
pub fn snd_up(sk: &TcpSock) -> Option<u32> {
    sk.urg()?.snd_up
}

/// The flag and pointer of a segment that begins at `seq`. In urgent mode segments are sent one by one, so that each has its
/// own.
#[cold]
pub fn header(sk: &TcpSock, seq: u32) -> (Flags, u16) {
    let Some(up) = snd_up(sk).filter(|up| before(seq, *up)) else { return (Flags::NONE, 0) };
    if before(up, seq.wrapping_add(0x1_0000)) {
        (Flags::URG, up.wrapping_sub(seq) as u16)
    } else if after(seq.wrapping_add(0xffff), sk.snd.nxt) {
        (Flags::URG, 0xffff)
    } else {
        (Flags::NONE, 0)
    }
}

/// What was written so far ends with an urgent byte.
#[doc(alias = "tcp_mark_urg")]
#[cold]
pub fn mark_urg(sk: &mut TcpSock) {
    let end = sk.snd.write_seq;
    sk.rare().urg.get_or_insert_default().snd_up = Some(end);
}

/// An acknowledgement moved SND.UNA on from `prior`.
pub fn acked(sk: &mut TcpSock, prior: u32) {
    let una = sk.snd.una;
    if let Some(u) = sk.urg_mut()
        && u.snd_up.is_some_and(|up| between(up, prior, una))
    {
        u.snd_up = None;
    }
}

/// A segment's pointer, and the byte that one named.
#[doc(alias = "tcp_urg")]
pub fn rcv(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb) {
    if skb.tcp.flags.contains(Flags::URG) {
        check_urg(sk, net, id, skb);
    }
    let Some(u) = sk.urg_mut().filter(|u| u.data == UrgData::NotYet) else { return };
    let at = u.seq.wrapping_sub(skb.tcp.seq) as usize;
    let mut byte = [0];
    if at < skb.frags.len() && skb.frags.copy_to(at, &mut byte) == 1 {
        u.data = UrgData::Valid(byte[0]);
        if !sk.sk.flags.dead {
            wake(net, sk, id, POLLIN | POLLPRI | POLLRDNORM);
        }
    }
}

/// Is the pointer news? Then its owner gets SIGURG, and the mark moves there.
#[doc(alias = "tcp_check_urg")]
fn check_urg(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb) {
    // RFC 6093 §3.1: nearly everybody's pointer stands behind the byte, whatever RFC 1122 said.
    let std = setting(net, sk, |s| s.tcp_stdurg) != 0;
    let ptr = u32::from(skb.tcp.urg_ptr);
    let seq = skb.tcp.seq.wrapping_add(if std { ptr } else { ptr.saturating_sub(1) });
    if after(sk.rcv.copied_seq, seq) || before(seq, sk.rcv.nxt) {
        return;
    }
    let old = mark(sk);
    if old.is_some_and(|old| !after(seq, old)) {
        return;
    }
    net.env.rises.push_back(Rise::Urgent { sock: SockId::Tcp(id) });
    // The reader stands at the old mark, whose byte it will not read: it is passed over now.
    if old == Some(sk.rcv.copied_seq) && !sk.sk.flags.oobinline && sk.readable() > 0 {
        pass(sk, net);
    }
    let u = sk.rare().urg.get_or_insert_default();
    (u.data, u.seq) = (UrgData::NotYet, seq);
}

/// The first unread byte is not part of the stream.
pub fn pass(sk: &mut TcpSock, net: &mut Net) {
    sk.rcv.copied_seq = sk.rcv.copied_seq.wrapping_add(1);
    let Some(first) = sk.rcv.queue.front_mut() else { return };
    first.frags.advance(1);
    first.tcp.seq = first.tcp.seq.wrapping_add(1);
    if first.frags.is_empty()
        && let Some(skb) = sk.rcv.queue.pop_front()
    {
        sk.sk.rmem_alloc = sk.sk.rmem_alloc.saturating_sub(skb.truesize);
        net.consume_skb(skb);
    }
}

/// The next `n` bytes of the stream from `seq` on, for a reader who has some already or not.
pub fn meets(sk: &TcpSock, seq: u32, n: usize, has_some: bool) -> Meets {
    let Some(mark) = mark(sk) else { return Meets::Data(n) };
    let to = mark.wrapping_sub(seq) as usize;
    match to {
        0 if has_some => Meets::Mark,
        0 if !sk.sk.flags.oobinline => Meets::Hole,
        0 => Meets::Data(n),
        _ => Meets::Data(n.min(to)),
    }
}

/// The reader moved on: a mark that lies behind it is over.
pub fn passed(sk: &mut TcpSock) {
    let at = sk.rcv.copied_seq;
    if let Some(u) = sk.urg_mut()
        && u.data != UrgData::None
        && after(at, u.seq)
    {
        u.data = UrgData::None;
    }
}

/// recv with MSG_OOB: the urgent byte, once; never sleeps.
#[doc(alias = "tcp_recv_urg")]
#[cold]
pub fn recv_urg(sk: &mut TcpSock, len: usize, flags: i32) -> Step {
    let data = sk.urg().map_or(UrgData::None, |u| u.data);
    if sk.sk.flags.oobinline || matches!(data, UrgData::None | UrgData::Read) {
        return Step::Done(Err(Errno::EINVAL));
    }
    let UrgData::Valid(byte) = data else {
        let over = sk.state == State::Close || sk.sk.shutdown & RCV_SHUTDOWN != 0;
        return Step::Done(if over { Ok(Ret::Stream(Segs::new())) } else { Err(Errno::EAGAIN) });
    };
    if flags & MSG_PEEK == 0
        && let Some(u) = sk.urg_mut()
    {
        u.data = UrgData::Read;
    }
    let mut r = Box::new(Received { flags: MSG_OOB, full_len: 1, ..Received::default() });
    if len == 0 {
        (r.flags, r.full_len) = (MSG_OOB | MSG_TRUNC, 0);
    } else if flags & MSG_TRUNC == 0 {
        r.segs = vec![byte].into();
    }
    Step::Done(Ok(Ret::Data(r)))
}

/// SIOCINQ: up to the mark, if it lies in what came.
#[doc(alias = "tcp_inq")]
pub fn inq(sk: &TcpSock) -> u32 {
    match mark(sk) {
        Some(m) if !sk.sk.flags.oobinline && !before(m, sk.rcv.copied_seq) && before(m, sk.rcv.nxt) => {
            m.wrapping_sub(sk.rcv.copied_seq)
        }
        _ => sk.readable(),
    }
}
