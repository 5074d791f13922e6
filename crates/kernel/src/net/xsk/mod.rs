//! AF_XDP sockets: frames between a list at XDP and rings in memory that the program shares, past the whole stack. As copy
//! mode has it; zero copy is refused as by drivers without it.
//!
//! The memory is the driver's of the kernel. What a list sends to a socket waits here until its driver moves it
//! ([`Kernel::xsk_rcv`](crate::kernel::Kernel::xsk_rcv)); what the program wants to send is read when it says so (`run.rs`).
//!
//! Left out: XDP_USE_SG for packets longer than a chunk (they are dropped, as without it), sums and metadata of what is
//! sent, XDP sockets in `sock_diag`.
pub mod bind;
pub mod ring;
pub mod run;
pub mod umem;

use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{Family, Sock};
use crate::net::drop::DropReason;
use crate::task::wait::PollMask;
use belljar_abi::Errno;
use belljar_abi::if_xdp::*;
use belljar_abi::poll::{EPOLLERR, EPOLLIN, EPOLLRDNORM};
use ring::Queue;
use std::collections::VecDeque;
use umem::Umem;

/// Packets between two visits of the socket's driver.
const MOST_WAITING: usize = 4096;

/// What sockets of one device and queue share (`struct xsk_buff_pool`).
#[derive(Clone, Debug)]
pub struct Pool {
    pub umem: Umem,
    pub fill: Queue,
    pub comp: Queue,
    /// Chunks of the fill ring that found no place in a receive ring.
    free: Vec<u64>,
    /// Addresses of packets that have ended, for the completion ring, where they have a place.
    ended: VecDeque<u64>,
    users: u32,
}

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub dev: DevId,
    pub ifindex: u32,
    pub queue: u16,
    pub pool: XskPoolId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Ready,
    Bound(Bound),
    /// Its device is gone.
    Unbound,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct XskSock {
    pub sk: Sock,
    pub state: State,
    pub rx: Option<Queue>,
    pub tx: Option<Queue>,
    /// Until it is bound: then they are the pool's.
    pub fill: Option<Queue>,
    pub comp: Option<Queue>,
    pub umem: Option<Umem>,
    pub queue: VecDeque<Skb>,
    pub rx_dropped: u64,
    pub rx_full: u64,
    /// Descriptors of each packet that is below, by number.
    inflight: Vec<Option<Vec<u64>>>,
    /// A packet that goes on in the next descriptor.
    partial: (Vec<u8>, Vec<u64>),
}

/// Which socket takes what comes in by a device and queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub dev: DevId,
    pub queue: u16,
    pub sock: XskId,
}

#[doc(alias = "xsk_create")]
pub fn create(k: &mut Kernel, ns: NsId) -> Result<XskId, Errno> {
    let n = k.net.ns.get(ns).ok_or(Errno::ENODEV)?;
    let mut sk = Sock::new(ns, Family::Inet);
    (sk.rcvbuf, sk.sndbuf) = (n.sysctl.rmem_default, n.sysctl.wmem_default);
    Ok(k.socks.xsk.insert(XskSock {
        sk,
        state: State::Ready,
        rx: None,
        tx: None,
        fill: None,
        comp: None,
        umem: None,
        queue: VecDeque::new(),
        rx_dropped: 0,
        rx_full: 0,
        inflight: Vec::new(),
        partial: Default::default(),
    }))
}

impl XskSock {
    pub fn bound(&self) -> Option<Bound> {
        match self.state {
            State::Bound(b) => Some(b),
            _ => None,
        }
    }
}

/// Rings may be made and a umem named until the socket is bound.
#[doc(alias = "xsk_setsockopt")]
pub fn setsockopt(k: &mut Kernel, id: XskId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let s = k.socks.xsk.get_mut(id).ok_or(Errno::EBADF)?;
    let ready = if s.state == State::Ready { Ok(()) } else { Err(Errno::EBUSY) };
    let number = k.net.xsk_ids.wrapping_add(1);
    match name {
        XDP_RX_RING | XDP_TX_RING | XDP_UMEM_FILL_RING | XDP_UMEM_COMPLETION_RING => {
            let entries = value.first_chunk().map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)?;
            ready?;
            let (ring, descs) = match name {
                XDP_RX_RING => (&mut s.rx, true),
                XDP_TX_RING => (&mut s.tx, true),
                XDP_UMEM_FILL_RING => (&mut s.fill, false),
                _ => (&mut s.comp, false),
            };
            if ring.is_some() {
                return Err(Errno::EINVAL);
            }
            *ring = Some(Queue::new(number, entries, descs)?);
        }
        XDP_UMEM_REG => {
            if value.len() < 24 {
                return Err(Errno::EINVAL);
            }
            ready?;
            if s.umem.is_some() {
                return Err(Errno::EBUSY);
            }
            s.umem = Some(Umem::parse(value, number)?);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    k.net.xsk_ids = number;
    Ok(())
}

#[doc(alias = "xsk_getsockopt")]
pub fn getsockopt(k: &Kernel, id: XskId, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    let s = k.socks.xsk.get(id).ok_or(Errno::EBADF)?;
    let longs = |w: &[u64]| -> Vec<u8> { w.iter().flat_map(|v| v.to_ne_bytes()).collect() };
    match name {
        XDP_STATISTICS if len < 24 => Err(Errno::EINVAL),
        XDP_STATISTICS => {
            let pool = s.bound().and_then(|b| k.socks.xsk_pools.get(b.pool));
            let empty = pool.map(|p| &p.fill).or(s.fill.as_ref()).map_or(0, |q| q.empty);
            let (invalid, no_tx) = s.tx.as_ref().map_or((0, 0), |q| (q.invalid, q.empty));
            let all = longs(&[s.rx_dropped, 0, invalid, s.rx_full, empty, no_tx]);
            Ok(all.get(..if len < all.len() { 24 } else { all.len() }).unwrap_or(&[]).to_vec())
        }
        XDP_MMAP_OFFSETS => {
            // Without flags, as it was at first.
            let words = match len {
                0..96 => return Err(Errno::EINVAL),
                96..128 => 3,
                _ => 4,
            };
            let one = ring::OFFSETS.get(..words).unwrap_or(&[]);
            Ok(longs(&[one, one, one, one].concat()))
        }
        XDP_OPTIONS if len < 4 => Err(Errno::EINVAL),
        XDP_OPTIONS => Ok(0u32.to_ne_bytes().to_vec()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The ring that is mapped at an offset: number and bytes of its memory. EBUSY when the device is gone.
#[doc(alias = "xsk_mmap")]
pub fn mapping(k: &Kernel, id: XskId, offset: u64) -> Result<(u32, u64), Errno> {
    let s = k.socks.xsk.get(id).ok_or(Errno::EBADF)?;
    let pool = match s.state {
        State::Unbound => return Err(Errno::EBUSY),
        State::Bound(b) => k.socks.xsk_pools.get(b.pool),
        State::Ready => None,
    };
    let ring = match offset {
        XDP_PGOFF_RX_RING => s.rx.as_ref(),
        XDP_PGOFF_TX_RING => s.tx.as_ref(),
        XDP_UMEM_PGOFF_FILL_RING => pool.map(|p| &p.fill).or(s.fill.as_ref()),
        XDP_UMEM_PGOFF_COMPLETION_RING => pool.map(|p| &p.comp).or(s.comp.as_ref()),
        _ => None,
    };
    ring.map(|q| (q.id, q.bytes())).ok_or(Errno::EINVAL)
}

/// What is known without the memory; [`Kernel::xsk_poll`](crate::kernel::Kernel::xsk_poll) knows it all.
pub fn poll(s: &XskSock) -> PollMask {
    let error = if s.sk.err != 0 { EPOLLERR } else { 0 };
    if s.bound().is_some() && !s.queue.is_empty() { error | EPOLLIN | EPOLLRDNORM } else { error }
}

pub(crate) fn wake(k: &mut Kernel, id: XskId, mask: PollMask) {
    if k.socks.xsk.get(id).is_some_and(|s| !s.sk.wait.is_empty()) {
        k.net.env.rises.push_back(crate::env::Rise::Wake { sock: SockId::Xsk(id), mask });
    }
}

/// A list at XDP gave the socket a packet, its head at the Ethernet header.
#[doc(alias = "xsk_generic_rcv")]
pub(crate) fn arrived(k: &mut Kernel, id: XskId, mut skb: Skb) {
    // It is copied at once on Linux.
    k.net.skb_orphan(&mut skb);
    let frame_size = |s: &XskSock| s.bound().and_then(|b| k.socks.xsk_pools.get(b.pool)).map(|p| p.umem.frame_size());
    let fits = match k.socks.xsk.get(id) {
        Some(s) => frame_size(s).is_some_and(|most| skb.len() <= most as usize) && s.queue.len() < MOST_WAITING,
        None => false,
    };
    let Some(s) = k.socks.xsk.get_mut(id).filter(|_| fits) else {
        if let Some(s) = k.socks.xsk.get_mut(id) {
            s.rx_dropped += 1;
        }
        return k.net.kfree_skb(skb, DropReason::Xdp, "xsk_rcv_check");
    };
    s.queue.push_back(skb);
    wake(k, id, EPOLLIN | EPOLLRDNORM);
}

/// The last reference is gone.
#[doc(alias = "xsk_release")]
pub fn release(k: &mut Kernel, id: XskId) {
    bind::unbind(k, id);
    let Some(s) = k.socks.xsk.remove(id) else { return };
    for skb in s.queue {
        k.net.kfree_skb(skb, DropReason::QueuePurge, "xsk_release");
    }
}
