//! UDP: its socket, and what a program does with it. The way in is `rcv.rs`, the way out `sendmsg.rs`.
pub mod bind;
pub mod err;
pub mod gro;
pub mod gso;
pub(crate) mod plain;
pub mod rcv;
pub mod recvmsg;
pub mod sendmsg;
pub mod tables;

use crate::ids::{NsId, SockId, UdpId};
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::core::errqueue;
use crate::net::core::skb::{SKB_HEAD, SKB_OVERHEAD, Skb, linear_buffer};
use crate::net::core::sock::{Family, RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK, Sock};
use crate::net::ipv4::route::Dst;
use crate::net::ipv6::txopts::TxOptions;
use crate::task::wait::PollMask;
use belljar_abi::ioctl::{SIOCINQ, SIOCOUTQ};
use belljar_abi::poll::*;
use belljar_abi::*;
use belljar_wire::Segs;
use core::net::IpAddr;
use std::collections::VecDeque;

/// A datagram socket.
#[derive(Clone, Debug)]
pub struct UdpSock {
    pub sk: Sock,
    /// Datagrams, IP and UDP header still reachable.
    pub queue: VecDeque<Skb>,
    /// The route to the peer of a connected socket.
    pub dst: Option<Dst>,
    /// Parts joined by MSG_MORE or UDP_CORK until the datagram is complete.
    pub cork: Option<Box<Cork>>,
    pub corked: bool,
    /// UDP_SEGMENT: a longer payload is so many datagrams of this size.
    pub gso_size: u16,
    /// UDP_NO_CHECK6_TX and UDP_NO_CHECK6_RX: sends, and takes, IPv6 datagrams without a checksum (RFC 6935).
    pub no_check6_tx: bool,
    pub no_check6_rx: bool,
    /// UDP_GRO: takes them together.
    pub gro: bool,
    /// Identification of the last packet to the peer (`inet_id`).
    pub ident: u16,
    /// Address it was bound to, when `connect` moved it to a more special one and disconnecting moves it back.
    pub bound_addr: IpAddr,
    /// In the tables under this port.
    pub hashed: bool,
    /// The peer's 4-tuple is in the table of connected sockets.
    pub hashed4: bool,
}

/// A datagram under construction.
#[derive(Clone, Debug)]
pub struct Cork {
    pub data: Segs,
    pub daddr: IpAddr,
    pub dport: u16,
    pub saddr: IpAddr,
    pub dst: Dst,
    pub tos: u8,
    pub ttl: Option<u8>,
    /// Flow label of IPv6.
    pub flow: u32,
    pub mark: u32,
    /// A call of MSG_ZEROCOPY that put bytes into it.
    pub zerocopy: Option<u32>,
    /// Stamps that the first call asked for, and the number that they carry.
    pub stamp: (u8, u32),
    /// UDP_SEGMENT when it was begun, 0 for one datagram.
    pub gso: u16,
    /// IP_RETOPTS of the send, instead of the socket's options.
    pub options: Option<Box<[u8]>>,
    /// Extension headers of IPv6.
    pub ext: Option<Box<TxOptions>>,
}

impl UdpSock {
    pub fn new(mut sk: Sock, rmem: u32, wmem: u32) -> UdpSock {
        (sk.rcvbuf, sk.sndbuf) = (rmem, wmem);
        let bound_addr = sk.any();
        UdpSock {
            sk,
            queue: VecDeque::new(),
            dst: None,
            cork: None,
            corked: false,
            gso_size: 0,
            no_check6_tx: false,
            no_check6_rx: false,
            gro: false,
            ident: 0,
            bound_addr,
            hashed: false,
            hashed4: false,
        }
    }

    /// `sk_state == TCP_ESTABLISHED`, as `ss` prints it too.
    pub fn connected(&self) -> bool {
        self.sk.dport != 0 || !self.sk.daddr.is_unspecified()
    }

    /// What it sends there goes without a checksum.
    pub fn no_check(&self, daddr: IpAddr) -> bool {
        if daddr.is_ipv4() { self.sk.flags.no_check_tx } else { self.no_check6_tx }
    }
}

/// What Linux charges for a datagram of `len` payload bytes: a small head with its shared info, or the next power of two
/// (`__alloc_skb`); what is beyond 16 KB lies in page fragments.
pub fn truesize(len: usize) -> u32 {
    // IP and UDP header, link header room, alignment.
    match linear_buffer(len + 28 + 16 + 15) {
        buffer @ 0..=16_384 => SKB_HEAD + buffer as u32,
        _ => SKB_OVERHEAD + len as u32,
    }
}

/// A socket that is not bound.
#[doc(alias = "udp_init_sock")]
pub fn create(k: &mut Kernel, ns: NsId, family: Family) -> Result<UdpId, Errno> {
    let s = &k.net.ns.get(ns).ok_or(Errno::ENODEV)?.sysctl;
    let mut sk = Sock::new(ns, family);
    sk.discover_pmtu(s);
    let sock = UdpSock::new(sk, s.rmem_default, s.wmem_default);
    if !k.net.mem.room(Kind::Udp, &k.socks.udp, Gfp::Kernel) {
        return Err(Errno::ENOBUFS);
    }
    Ok(k.socks.udp.insert(sock))
}

/// Readiness (`udp_poll`, `datagram_poll`).
#[doc(alias = "udp_poll")]
pub fn poll(s: &UdpSock) -> PollMask {
    let mut mask = 0;
    if s.sk.err != 0 || !errqueue::is_empty(&s.sk) {
        mask |= EPOLLERR | if s.sk.rare(|c| c.select_err_queue) { EPOLLPRI } else { 0 };
    }
    if s.sk.shutdown & RCV_SHUTDOWN != 0 {
        mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
    }
    if s.sk.shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK {
        mask |= EPOLLHUP;
    }
    if !s.queue.is_empty() {
        mask |= EPOLLIN | EPOLLRDNORM;
    }
    if s.sk.wmem_alloc * 2 <= s.sk.sndbuf {
        mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
    }
    mask
}

/// Wakes sleepers of the socket.
pub(crate) fn wake(k: &mut Kernel, id: UdpId, mask: PollMask) {
    if k.socks.udp.get(id).is_some_and(|s| !s.sk.wait.is_empty()) {
        k.net.env.rises.push_back(crate::env::Rise::Wake { sock: SockId::Udp(id), mask });
    }
}

/// A device or receiver is done with bytes of this socket (`sock_wfree`): the writer may go on once half is free.
#[doc(alias = "sock_wfree")]
pub fn wfree(k: &mut Kernel, id: UdpId, truesize: u32) {
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    s.sk.wmem_alloc = s.sk.wmem_alloc.saturating_sub(truesize);
    if s.sk.wmem_alloc * 2 <= s.sk.sndbuf && !s.sk.wait.is_empty() {
        wake(k, id, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
}

/// It takes effect on an unconnected socket too, which is told ENOTCONN. `how` as in shutdown(2).
pub fn shutdown(k: &mut Kernel, id: UdpId, how: i32) -> Result<(), Errno> {
    let how = match how {
        SHUT_RD => RCV_SHUTDOWN,
        SHUT_WR => SEND_SHUTDOWN,
        SHUT_RDWR => SHUTDOWN_MASK,
        _ => return Err(Errno::EINVAL),
    };
    let s = k.socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    s.sk.shutdown |= how;
    let connected = s.connected();
    wake(k, id, EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
}

/// SIOCINQ: length of the first datagram; SIOCOUTQ: bytes in device queues.
pub fn ioctl(k: &Kernel, id: UdpId, request: u32) -> Result<i64, Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    match request {
        SIOCINQ => Ok(s.queue.front().map_or(0, |skb| skb.len() as i64)),
        SIOCOUTQ => Ok(s.sk.wmem_alloc.into()),
        _ => Err(Errno::ENOTTY),
    }
}

/// SOL_UDP. Tunnels are not there: as on a kernel without them.
pub fn setsockopt(k: &mut Kernel, id: UdpId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let v = value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)?;
    let s = k.socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    match name {
        UDP_SEGMENT => {
            s.gso_size = u16::try_from(v).map_err(|_| Errno::EINVAL)?;
            Ok(())
        }
        UDP_NO_CHECK6_TX => {
            s.no_check6_tx = v != 0;
            Ok(())
        }
        UDP_NO_CHECK6_RX => {
            s.no_check6_rx = v != 0;
            Ok(())
        }
        UDP_GRO => {
            s.gro = v != 0;
            if let Some(n) = k.net.ns.get_mut(s.sk.ns).filter(|_| v != 0) {
                n.udp.gro = true;
            }
            Ok(())
        }
        UDP_CORK => {
            s.corked = v != 0;
            if s.corked || s.cork.is_none() { Ok(()) } else { sendmsg::push_pending(k, id) }
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

pub fn getsockopt(k: &Kernel, id: UdpId, name: i32) -> Result<Vec<u8>, Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    match name {
        UDP_CORK => Ok(i32::from(s.corked).to_ne_bytes().to_vec()),
        UDP_SEGMENT => Ok(i32::from(s.gso_size).to_ne_bytes().to_vec()),
        UDP_GRO => Ok(i32::from(s.gro).to_ne_bytes().to_vec()),
        UDP_NO_CHECK6_TX => Ok(i32::from(s.no_check6_tx).to_ne_bytes().to_vec()),
        UDP_NO_CHECK6_RX => Ok(i32::from(s.no_check6_rx).to_ne_bytes().to_vec()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// The last reference is gone: port free, queue thrown away.
#[doc(alias = "udp_destroy_sock")]
pub fn release(k: &mut Kernel, id: UdpId) {
    crate::net::ipv6::mcast_opt::leave_groups(k, SockId::Udp(id));
    bind::unhash(k, id);
    let Some(s) = k.socks.udp.remove(id) else { return };
    let datagrams = s.sk.rmem_alloc.saturating_sub(errqueue::charged(&s.sk));
    k.net.usage.udp_bytes = k.net.usage.udp_bytes.saturating_sub(datagrams.into());
    for skb in s.queue {
        k.net.kfree_skb(skb, crate::net::drop::DropReason::SocketDestroyed, "udp_destruct");
    }
}
