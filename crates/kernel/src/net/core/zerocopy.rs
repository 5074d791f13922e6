//! MSG_ZEROCOPY: each call has a number; when nothing refers to its bytes any more a completion says so on the error queue,
//! consecutive ones as one range. Payload is shared with the packets below in any case; what is modelled is who could have
//! sent the program's own pages, and what the program hears of it.
//!
//! Pages that are pinned count against no RLIMIT_MEMLOCK here.
use crate::env::Env;
use crate::ids::SockId;
use crate::net::core::errqueue::{self, SockErr};
use crate::net::core::sock::Sock;
use belljar_abi::*;
use std::collections::VecDeque;

/// Option memory that a notification holds until it is read (an empty packet), and what has to be free for one more
/// (`SKB_TRUESIZE(0)`).
pub const OMEM: u32 = 832;
const OMEM_WANTED: u32 = 576;
/// Calls whose data lies in one packet share a notification up to so many bytes, a few super-segments.
const BYTE_LIMIT: u32 = 1 << 19;
/// Pieces that a packet can have (`MAX_SKB_FRAGS`), and the pages that the program's memory is made of.
pub const MAX_FRAGS: usize = 17;
pub const PAGE: usize = 4096;

/// The notification of one call or of consecutive ones (`struct ubuf_info_msgzc`).
#[derive(Clone, Debug)]
pub struct Uarg {
    /// Not the number of a call: those come again when one fails.
    pub handle: u32,
    /// The first call's number, and how many there are.
    pub id: u32,
    pub len: u16,
    bytelen: u32,
    /// Nothing was copied so far.
    zerocopy: bool,
    /// Calls that still run.
    open: u32,
    /// TCP: the range of sequence numbers, and whether the write queue still has some of it.
    pub start: u32,
    pub end: u32,
    pub queued: bool,
    /// UDP: packets that carry it.
    pub packets: u32,
}

/// A socket's notifications on their way, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Zerocopy {
    /// The number of the next call (`sk_zckey`).
    key: u32,
    handles: u32,
    pub pending: VecDeque<Uarg>,
}

pub fn find(sk: &mut Sock, handle: u32) -> Option<&mut Uarg> {
    sk.cold.as_mut()?.zc.pending.iter_mut().find(|u| u.handle == handle)
}

/// A number for a call of `size` bytes, and the handle of its notification: joined to the notification `tail`, whose data its own follows in one packet, or
/// with a new one. ENOBUFS when option memory is used up.
#[doc(alias = "msg_zerocopy_realloc")]
pub fn realloc(sk: &mut Sock, optmem_max: u32, size: usize, tail: Option<u32>, stream: bool) -> Result<u32, Errno> {
    let size = size.min(u32::MAX as usize) as u32;
    let next = sk.cold().zc.key;
    if let Some(u) = tail.and_then(|id| find(sk, id)) {
        let bytelen = u.bytelen.saturating_add(size);
        if u.len == u16::MAX - 1 || bytelen > BYTE_LIMIT {
            if !stream {
                return Err(Errno::ENOBUFS);
            }
        } else if u.id.wrapping_add(u32::from(u.len)) == next {
            (u.len, u.bytelen) = (u.len + 1, bytelen);
            u.open += 1;
            let handle = u.handle;
            sk.cold().zc.key = next.wrapping_add(1);
            return Ok(handle);
        }
    }
    let cold = sk.cold();
    if cold.omem + OMEM_WANTED > optmem_max {
        return Err(Errno::ENOBUFS);
    }
    cold.omem += OMEM;
    (cold.zc.key, cold.zc.handles) = (next.wrapping_add(1), cold.zc.handles.wrapping_add(1));
    let handle = cold.zc.handles;
    let u = Uarg {
        handle,
        id: next,
        len: 1,
        bytelen: size,
        zerocopy: true,
        open: 1,
        start: 0,
        end: 0,
        queued: false,
        packets: 0,
    };
    cold.zc.pending.push_back(u);
    Ok(handle)
}

/// A call of notification `id` is over (`net_zcopy_put`); one that moved nothing gives its number back
/// (`net_zcopy_put_abort`).
pub fn put(sk: &mut Sock, env: &mut Env, sock: SockId, id: u32, aborted: bool) {
    let Some(u) = find(sk, id) else { return };
    u.open = u.open.saturating_sub(1);
    if aborted {
        u.len = u.len.saturating_sub(1);
        let zc = &mut sk.cold().zc;
        zc.key = zc.key.wrapping_sub(1);
    }
    complete(sk, env, sock);
}

/// UDP: call `id` put its bytes into a packet, copied if the device could not have taken the pages. The call is over.
pub fn hand_over(sk: &mut Sock, id: u32, copied: bool) {
    if let Some(u) = find(sk, id) {
        u.zerocopy &= !copied;
        u.packets = 1;
        u.open = u.open.saturating_sub(1);
    }
}

/// UDP: that packet ended.
pub fn packet_freed(sk: &mut Sock, env: &mut Env, sock: SockId, id: u32, copied: bool) {
    if let Some(u) = find(sk, id) {
        u.zerocopy &= !copied;
        u.packets = u.packets.saturating_sub(1);
        complete(sk, env, sock);
    }
}

/// TCP: what was sent so far went where it is copied.
pub fn copied_before(sk: &mut Sock, seq: u32) {
    let Some(cold) = sk.cold.as_deref_mut() else { return };
    let sent = |u: &&mut Uarg| u.start != u.end && crate::net::tcp::seq::before(u.start, seq);
    cold.zc.pending.iter_mut().filter(sent).for_each(|u| u.zerocopy = false);
}

/// Hands out what nothing refers to any more.
#[doc(alias = "__msg_zerocopy_callback")]
pub fn complete(sk: &mut Sock, env: &mut Env, sock: SockId) {
    let dead = sk.flags.dead;
    let Some(cold) = sk.cold.as_deref_mut() else { return };
    let mut told = false;
    let mut at = 0;
    while let Some(u) = cold.zc.pending.get(at) {
        if u.open > 0 || u.queued || u.packets > 0 {
            at += 1;
            continue;
        }
        let Some(u) = cold.zc.pending.remove(at) else { break };
        if u.len == 0 || dead || extend(&mut cold.errors, &u) {
            cold.omem = cold.omem.saturating_sub(OMEM);
        } else {
            cold.errors.push_back(notification(&u));
        }
        told |= u.len > 0 && !dead;
    }
    if told {
        errqueue::report(sk, env, sock);
    }
}

fn notification(u: &Uarg) -> SockErr {
    let code = if u.zerocopy { 0 } else { SO_EE_CODE_ZEROCOPY_COPIED };
    let last = u.id.wrapping_add(u32::from(u.len) - 1);
    let ee = SockExtendedErr { origin: SO_EE_ORIGIN_ZEROCOPY, code, info: u.id, data: last, ..Default::default() };
    SockErr { ee, ..SockErr::default() }
}

/// The last entry of the queue takes the calls that follow its own, whether copied or not.
#[doc(alias = "skb_zerocopy_notify_extend")]
fn extend(errors: &mut VecDeque<SockErr>, u: &Uarg) -> bool {
    let Some(last) = errors.back_mut().filter(|e| e.ee.origin == SO_EE_ORIGIN_ZEROCOPY) else { return false };
    if u.id != last.ee.data.wrapping_add(1) {
        return false;
    }
    last.ee.data = last.ee.data.wrapping_add(u32::from(u.len));
    true
}
