//! The error queue of a socket (`sk_error_queue`): ICMP and local errors for IP_RECVERR, completions of MSG_ZEROCOPY, time
//! stamps of what was sent. Read by recvmsg with MSG_ERRQUEUE; POLLERR while something is in it.
use crate::env::{Env, Nanos, Rise};
use crate::ids::SockId;
use crate::kernel::Kernel;
use crate::net::core::sock::Sock;
use crate::net::core::zerocopy::OMEM;
use crate::task::call::{Cmsg, Received, Ret, SysResult};
use belljar_abi::*;
use belljar_wire::Segs;
use core::net::Ipv4Addr;

/// An entry: `struct sock_extended_err` and what it is about (`struct sock_exterr_skb`).
#[derive(Clone, Debug, Default)]
pub struct SockErr {
    pub ee: SockExtendedErr,
    /// Destination of the packet that caused it.
    pub to: Option<(Ipv4Addr, u16)>,
    pub offender: Option<Ipv4Addr>,
    pub payload: Segs,
    /// When it was made, for who asked for time stamps; 0: without.
    pub tstamp: Nanos,
    /// Charged to the receive buffer; completions of MSG_ZEROCOPY are charged to option memory instead.
    pub truesize: u32,
}

impl SockErr {
    fn is_icmp(&self) -> bool {
        self.ee.origin == SO_EE_ORIGIN_ICMP
    }
}

/// What the queue holds of the receive buffer.
pub fn charged(sk: &Sock) -> u32 {
    sk.cold.as_ref().map_or(0, |c| c.errors.iter().map(|e| e.truesize).sum())
}

pub fn is_empty(sk: &Sock) -> bool {
    sk.cold.as_ref().is_none_or(|c| c.errors.is_empty())
}

/// Tells sleepers and pollers (`sk_error_report`).
pub fn report(sk: &Sock, env: &mut Env, sock: SockId) {
    if !sk.wait.is_empty() {
        env.rises.push_back(Rise::Wake { sock, mask: POLLERR });
    }
}

/// Into the queue; false and lost when the receive buffer is full.
#[doc(alias = "sock_queue_err_skb")]
pub fn queue(sk: &mut Sock, env: &mut Env, sock: SockId, e: SockErr) -> bool {
    if sk.rmem_alloc.saturating_add(e.truesize) >= sk.rcvbuf {
        return false;
    }
    sk.rmem_alloc += e.truesize;
    sk.cold().errors.push_back(e);
    if !sk.flags.dead {
        report(sk, env, sock);
    }
    true
}

/// The oldest entry. The pending error follows what ICMP said: the next entry's, or none (`sock_dequeue_err_skb`).
#[doc(alias = "sock_dequeue_err_skb")]
fn dequeue(sk: &mut Sock, env: &mut Env, sock: SockId) -> Option<SockErr> {
    let cold = sk.cold.as_deref_mut()?;
    let e = cold.errors.pop_front()?;
    if e.ee.origin == SO_EE_ORIGIN_ZEROCOPY {
        cold.omem = cold.omem.saturating_sub(OMEM);
    }
    let next = cold.errors.front().map(|n| (n.is_icmp(), n.ee.errno));
    sk.rmem_alloc = sk.rmem_alloc.saturating_sub(e.truesize);
    match next {
        Some((true, errno)) => sk.err = errno,
        _ if e.is_icmp() => sk.err = 0,
        _ => {}
    }
    if next.is_some() {
        report(sk, env, sock);
    }
    Some(e)
}

/// recvmsg with MSG_ERRQUEUE: why, who said so, about what; never sleeps.
#[doc(alias = "ip_recv_error")]
pub(crate) fn recv_error(k: &mut Kernel, sock: SockId, len: usize) -> SysResult {
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::EBADF)?;
    let e = dequeue(sk, &mut net.env, sock).ok_or(Errno::EAGAIN)?;
    let mut r = Box::<Received>::default();
    r.full_len = e.payload.len();
    r.flags = MSG_ERRQUEUE;
    r.from = e.to.map(|(addr, port)| SockAddr::V4(addr, port));
    r.cmsgs.push(Cmsg { level: SOL_IP, kind: IP_RECVERR, data: e.ee.emit(e.offender) });
    r.segs = e.payload;
    if r.segs.len() > len {
        r.segs.truncate(len);
        r.flags |= MSG_TRUNC;
    }
    Ok(Ret::Data(r))
}
