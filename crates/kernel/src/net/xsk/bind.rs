//! bind: a socket and its pool come to a queue of a device, alone or beside others that share their umem.
use super::{Bound, Entry, Pool, State, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::packet::bind::NetdevEvent;
use belljar_abi::Errno;
use belljar_abi::if_xdp::*;
use belljar_abi::poll::EPOLLERR;
use std::collections::VecDeque;

const KNOWN: u16 = XDP_SHARED_UMEM | XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP;

/// `other`: the socket that the address names, which its driver has looked up.
#[doc(alias = "xsk_bind")]
pub fn bind(k: &mut Kernel, id: XskId, bytes: &[u8], other: Result<XskId, Errno>) -> Result<(), Errno> {
    let a = XdpAddr::parse(bytes)?;
    if a.flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let s = k.socks.xsk.get(id).ok_or(Errno::EBADF)?;
    if s.state != State::Ready {
        return Err(Errno::EBUSY);
    }
    let dev = k.net.dev_by_index(s.sk.ns, a.ifindex).ok_or(Errno::ENODEV)?;
    if s.rx.is_none() && s.tx.is_none() {
        return Err(Errno::EINVAL);
    }
    let pool = if a.flags & XDP_SHARED_UMEM != 0 { shared(k, id, &a, dev, other)? } else { own(k, id, &a, dev)? };
    if let Some(p) = k.socks.xsk_pools.get_mut(pool) {
        p.users += 1;
    }
    let queue = a.queue as u16;
    let s = k.socks.xsk.get_mut(id).ok_or(Errno::EBADF)?;
    (s.fill, s.comp) = (None, None);
    s.state = State::Bound(Bound { dev, ifindex: a.ifindex, queue, pool });
    if s.rx.is_some() {
        k.net.xsk.push(Entry { dev, queue, sock: id });
    }
    Ok(())
}

fn pool_at(k: &Kernel, dev: DevId, queue: u16) -> bool {
    k.socks.xsk.iter().filter_map(|(_, s)| s.bound()).any(|b| b.dev == dev && b.queue == queue)
}

/// A new pool at a queue that has none.
#[doc(alias = "xp_assign_dev")]
fn make(k: &mut Kernel, id: XskId, a: &XdpAddr, dev: DevId, umem: super::Umem) -> Result<XskPoolId, Errno> {
    let s = k.socks.xsk.get(id).ok_or(Errno::EBADF)?;
    let (Some(fill), Some(comp)) = (s.fill.clone(), s.comp.clone()) else { return Err(Errno::EINVAL) };
    if a.flags & XDP_COPY != 0 && a.flags & XDP_ZEROCOPY != 0 {
        return Err(Errno::EINVAL);
    }
    if pool_at(k, dev, a.queue as u16) {
        return Err(Errno::EBUSY);
    }
    let d = k.net.devs.get(dev).ok_or(Errno::ENODEV)?;
    if a.queue >= u32::from(d.num_tx_queues()) {
        return Err(Errno::EINVAL);
    }
    if a.flags & XDP_ZEROCOPY != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let (free, ended) = (Vec::new(), VecDeque::new());
    Ok(k.socks.xsk_pools.insert(Pool { umem, fill, comp, free, ended, users: 0 }))
}

fn own(k: &mut Kernel, id: XskId, a: &XdpAddr, dev: DevId) -> Result<XskPoolId, Errno> {
    let umem = k.socks.xsk.get(id).and_then(|s| s.umem).ok_or(Errno::EINVAL)?;
    make(k, id, a, dev, umem)
}

/// The umem of another socket: with its rings at the same queue, with rings of one's own elsewhere.
fn shared(k: &mut Kernel, id: XskId, a: &XdpAddr, dev: DevId, other: Result<XskId, Errno>) -> Result<XskPoolId, Errno> {
    let s = k.socks.xsk.get(id).ok_or(Errno::EBADF)?;
    if a.flags != XDP_SHARED_UMEM || s.umem.is_some() {
        return Err(Errno::EINVAL);
    }
    let other = k.socks.xsk.get(other?).ok_or(Errno::EBADF)?;
    let there = other.bound().ok_or(Errno::EBADF)?;
    let umem = other.umem;
    let pool = if (there.dev, u32::from(there.queue)) == (dev, a.queue) {
        if s.fill.is_some() || s.comp.is_some() {
            return Err(Errno::EINVAL);
        }
        there.pool
    } else {
        make(k, id, a, dev, umem.ok_or(Errno::EBADF)?)?
    };
    if let Some(s) = k.socks.xsk.get_mut(id) {
        s.umem = umem;
    }
    Ok(pool)
}

/// It receives and sends nothing more. What is still below counts as ended: its completions are the pool's.
#[doc(alias = "xsk_unbind_dev")]
pub(super) fn unbind(k: &mut Kernel, id: XskId) {
    let Some(s) = k.socks.xsk.get_mut(id) else { return };
    let Some(b) = s.bound() else { return };
    s.state = State::Unbound;
    let below = std::mem::take(&mut s.inflight);
    k.net.xsk.retain(|e| e.sock != id);
    let Some(p) = k.socks.xsk_pools.get_mut(b.pool) else { return };
    p.ended.extend(below.into_iter().flatten().flatten());
    p.users -= 1;
    if p.users == 0 {
        k.socks.xsk_pools.remove(b.pool);
    }
}

/// Sockets of a device that goes away are told once.
#[doc(alias = "xsk_notifier")]
pub(crate) fn notifier(k: &mut Kernel, ns: NsId, ifindex: u32, event: NetdevEvent) {
    if event != NetdevEvent::Unregister {
        return;
    }
    let of = |s: &super::XskSock| s.sk.ns == ns && s.bound().is_some_and(|b| b.ifindex == ifindex);
    let ids: Vec<XskId> = k.socks.xsk.iter().filter(|(_, s)| of(s)).map(|(id, _)| id).collect();
    for id in ids {
        unbind(k, id);
        if let Some(s) = k.socks.xsk.get_mut(id) {
            s.sk.err = Errno::ENETDOWN.0;
        }
        wake(k, id, EPOLLERR);
    }
}
