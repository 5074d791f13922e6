//! Between rings and stack: packets into the receive ring, descriptors of the transmit ring to the device, completions.
use super::ring::Desc;
use super::{Bound, Pool, XskSock, arrived};
use crate::env::Nanos;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dev_tx;
use crate::net::core::skb::{Owner, Skb};
use crate::net::drop::DropReason;
use crate::net::packet::ring::Memory;
use crate::task::wait::PollMask;
use belljar_abi::Errno;
use belljar_abi::if_xdp::{XDP_PKT_CONTD, XDP_RING_NEED_WAKEUP};
use belljar_abi::poll::*;
use belljar_wire::Segs;
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::frame::HEAD_CAPACITY;

/// Packets of one kick (`TX_BATCH_SIZE`).
const TX_BATCH: usize = 32;
/// Descriptors of one packet (MAX_SKB_FRAGS and its head).
const MOST_PIECES: usize = 18;

/// The memory of rings and umems, by their numbers. What is not there reads as nothing and swallows what is written.
pub trait Maps {
    fn ring(&mut self, id: u32) -> impl Memory;
    fn umem(&mut self, id: u32) -> impl Memory;
}

/// A packet that a socket sent ended.
#[doc(alias = "xsk_destruct_skb")]
pub(crate) fn ended(k: &mut Kernel, id: XskId, slot: u32, truesize: u32) {
    let Some(s) = k.socks.xsk.get_mut(id) else { return };
    s.sk.wmem_alloc = s.sk.wmem_alloc.saturating_sub(truesize);
    let done = s.inflight.get_mut(slot as usize).and_then(Option::take);
    let pool = s.bound().map(|b| b.pool);
    if let (Some(done), Some(p)) = (done, pool.and_then(|p| k.socks.xsk_pools.get_mut(p))) {
        p.ended.extend(done);
    }
    super::wake(k, id, EPOLLOUT | EPOLLWRNORM);
}

impl Kernel {
    /// The socket, if it is bound to a device that is up.
    #[doc(alias = "xsk_check_common")]
    fn xsk_check(&self, id: XskId) -> Result<Bound, Errno> {
        let b = self.socks.xsk.get(id).and_then(XskSock::bound).ok_or(Errno::ENXIO)?;
        if self.net.devs.get(b.dev).is_some_and(|d| d.up) { Ok(b) } else { Err(Errno::ENETDOWN) }
    }

    /// After bind: the program is to tell when it has filled the transmit ring, as in copy mode always.
    pub fn xsk_bound(&mut self, id: XskId, m: &mut impl Maps) {
        if let Some(tx) = self.socks.xsk.get(id).and_then(|s| s.tx.as_ref()) {
            tx.set_flags(&mut m.ring(tx.id), XDP_RING_NEED_WAKEUP);
        }
    }

    /// Moves what came for the socket into its ring, and completions into that of its pool.
    pub fn xsk_rcv(&mut self, id: XskId, m: &mut impl Maps) {
        let Some(b) = self.socks.xsk.get(id).and_then(XskSock::bound) else { return };
        while let Some(skb) = self.socks.xsk.get_mut(id).and_then(|s| s.queue.pop_front()) {
            match self.xsk_put(id, b, &skb, m) {
                true => self.net.consume_skb(skb),
                false => self.net.kfree_skb(skb, DropReason::Xdp, "xsk_rcv"),
            }
        }
        self.xsk_complete(b, m);
    }

    fn xsk_complete(&mut self, b: Bound, m: &mut impl Maps) {
        let Some(p) = self.socks.xsk_pools.get_mut(b.pool) else { return };
        while let Some(addr) = p.ended.pop_front() {
            p.comp.submit(&mut m.ring(p.comp.id), Desc { addr, ..Desc::default() });
        }
    }

    /// A chunk of the fill ring, a place in the receive ring, the bytes.
    #[doc(alias = "__xsk_rcv")]
    fn xsk_put(&mut self, id: XskId, b: Bound, skb: &Skb, m: &mut impl Maps) -> bool {
        let (Some(s), Some(p)) = (self.socks.xsk.get_mut(id), self.socks.xsk_pools.get_mut(b.pool)) else {
            return false;
        };
        let Some(chunk) = alloc(p, m) else {
            s.rx_dropped += 1;
            return false;
        };
        let Some(rx) = s.rx.as_mut() else { return false };
        if !rx.reserve(&mut m.ring(rx.id)) {
            s.rx_full += 1;
            p.free.push(chunk);
            return false;
        }
        let (at, addr) = p.umem.place(chunk);
        let (head, mut to) = (skb.head.bytes(), m.umem(p.umem.id));
        to.write(at, head);
        to.write(at + head.len() as u64, &skb.frags.to_vec());
        drop(to);
        rx.submit(&mut m.ring(rx.id), Desc { addr, len: skb.len() as u32, options: 0 });
        true
    }

    /// send, sendmsg, sendto: whatever their bytes, they say that there are descriptors. Without MSG_DONTWAIT EOPNOTSUPP,
    /// EAGAIN when something is left to do, EBUSY when a packet could not be sent.
    pub fn xsk_sendmsg(&mut self, now: Nanos, id: XskId, nonblock: bool, m: &mut impl Maps) -> Result<(), Errno> {
        let b = self.xsk_check(id)?;
        if !nonblock {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.socks.xsk.get(id).is_none_or(|s| s.tx.is_none()) {
            return Err(Errno::ENOBUFS);
        }
        self.begin_step(now);
        let done = self.xsk_xmit(id, b, m);
        self.end_step();
        self.xsk_complete(b, m);
        done
    }

    /// recv and its kin: nothing is read by them.
    pub fn xsk_recvmsg(&self, id: XskId, nonblock: bool) -> Result<(), Errno> {
        self.xsk_check(id)?;
        match self.socks.xsk.get(id) {
            _ if !nonblock => Err(Errno::EOPNOTSUPP),
            Some(s) if s.rx.is_some() => Ok(()),
            _ => Err(Errno::ENOBUFS),
        }
    }

    /// poll sends as well, and says what waits.
    pub fn xsk_poll(&mut self, now: Nanos, id: XskId, m: &mut impl Maps) -> PollMask {
        let error = if self.socks.xsk.get(id).is_some_and(|s| s.sk.err != 0) { EPOLLERR } else { 0 };
        let Ok(b) = self.xsk_check(id) else { return error };
        if self.socks.xsk.get(id).is_some_and(|s| s.tx.is_some()) {
            self.begin_step(now);
            let _ = self.xsk_xmit(id, b, m);
            self.end_step();
        }
        self.xsk_rcv(id, m);
        let Some(s) = self.socks.xsk.get(id) else { return error };
        let mut mask = error;
        if s.rx.as_ref().is_some_and(|q| q.is_filled(&mut m.ring(q.id))) {
            mask |= EPOLLIN | EPOLLRDNORM;
        }
        if s.tx.as_ref().is_some_and(|q| q.waiting(&mut m.ring(q.id)) <= q.entries() / 2) {
            mask |= EPOLLOUT | EPOLLWRNORM;
        }
        mask
    }

    /// One descriptor after another to the device, past disciplines and taps.
    #[doc(alias = "__xsk_generic_xmit")]
    fn xsk_xmit(&mut self, id: XskId, b: Bound, m: &mut impl Maps) -> Result<(), Errno> {
        let mut sent = 0;
        loop {
            let Some(s) = self.socks.xsk.get_mut(id) else { return Err(Errno::ENXIO) };
            let (Some(tx), Some(p)) = (s.tx.as_mut(), self.socks.xsk_pools.get_mut(b.pool)) else { return Ok(()) };
            let Some(d) = tx.peek(&mut m.ring(tx.id)) else { return Ok(()) };
            if sent == TX_BATCH || !p.comp.reserve(&mut m.ring(p.comp.id)) {
                return Err(Errno::EAGAIN);
            }
            let Some(at) = p.umem.bytes_of(&d) else {
                // What is none ends the batch, and what it would have belonged to. The program gets it back.
                tx.invalid += 1;
                tx.release(&mut m.ring(tx.id));
                p.ended.extend(std::mem::take(&mut s.partial).1);
                p.ended.push_back(d.addr);
                return Ok(());
            };
            let stopped = self.net.devs.get(b.dev).is_none_or(|d| d.running() && d.stopped(b.queue));
            if stopped || s.sk.wmem_alloc >= s.sk.sndbuf {
                p.comp.cancel();
                return Err(Errno::EAGAIN);
            }
            let (bytes, addrs) = &mut s.partial;
            let before = bytes.len();
            bytes.resize(before + d.len as usize, 0);
            m.umem(p.umem.id).read(at, bytes.get_mut(before..).unwrap_or(&mut []));
            addrs.push(d.addr);
            tx.release(&mut m.ring(tx.id));
            if addrs.len() > MOST_PIECES {
                p.ended.extend(std::mem::take(&mut s.partial).1);
                continue;
            }
            if d.options & XDP_PKT_CONTD != 0 {
                continue;
            }
            let (bytes, addrs) = std::mem::take(&mut s.partial);
            if !self.xsk_send(id, b, &bytes, addrs) {
                return Err(Errno::EBUSY);
            }
            sent += 1;
        }
    }

    /// Whether the device took it. One that did not is gone, and complete, all the same.
    #[doc(alias = "xsk_build_skb")]
    fn xsk_send(&mut self, id: XskId, b: Bound, bytes: &[u8], addrs: Vec<u64>) -> bool {
        let mut skb = self.net.alloc_skb();
        let linear = bytes.len().min(HEAD_CAPACITY);
        let (head, rest) = bytes.split_at(linear);
        skb.head.fill(head);
        if !rest.is_empty() {
            let mut segs = Segs::new();
            segs.push(self.net.pool.copy_in(rest, 0));
            skb.frags = segs;
        }
        let Some(s) = self.socks.xsk.get_mut(id) else {
            self.net.kfree_skb(skb, DropReason::NotSpecified, "xsk_build_skb");
            return false;
        };
        skb.set_truesize();
        (skb.priority, skb.mark, skb.ns, skb.dev) = (s.sk.priority, s.sk.mark, Some(s.sk.ns), Some(b.dev));
        skb.queue_mapping = b.queue;
        skb.mac_header = skb.head.start();
        skb.network_header = skb.mac_header.saturating_add(ETH_HLEN as u8);
        skb.protocol = bytes.get(12..14).map_or(0, |p| u16::from_be_bytes([p[0], p[1]]));
        s.sk.wmem_alloc += skb.truesize;
        let slot = s.inflight.iter().position(Option::is_none).unwrap_or(s.inflight.len());
        if slot == s.inflight.len() {
            s.inflight.push(None);
        }
        if let Some(place) = s.inflight.get_mut(slot) {
            *place = Some(addrs);
        }
        skb.owner = Owner::Xsk { sock: id, slot: slot as u32 };
        let sent = if bytes.len() < ETH_HLEN {
            self.net.kfree_skb(skb, DropReason::PktTooSmall, "xsk_build_skb");
            true
        } else {
            dev_tx::dev_direct_xmit(&mut self.net, b.dev, skb).is_ok()
        };
        self.drain_rises();
        sent
    }

    /// A packet that a list at XDP sends to a socket.
    pub(crate) fn xsk_arrived(&mut self, id: XskId, skb: Skb) {
        arrived(self, id, skb);
    }
}

/// A chunk for a packet: one that was left over, or the next of the fill ring that is one.
#[doc(alias = "xp_alloc")]
fn alloc(p: &mut Pool, m: &mut impl Maps) -> Option<u64> {
    if let Some(chunk) = p.free.pop() {
        return Some(chunk);
    }
    let mut ring = m.ring(p.fill.id);
    for _ in 0..=p.fill.entries() {
        let d = p.fill.peek(&mut ring)?;
        p.fill.release(&mut ring);
        if let Some(chunk) = p.umem.chunk_of(d.addr) {
            return Some(chunk);
        }
        p.fill.invalid += 1;
    }
    None
}
