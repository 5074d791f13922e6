//! Raw and ping sockets: whole IPv4 packets of one protocol (SOCK_RAW), and echo requests without a privilege (SOCK_DGRAM
//! with IPPROTO_ICMP). The way in is `rcv.rs`, the way out `sendmsg.rs`.
pub mod bind;
pub mod rcv;
pub mod rcv6;
pub mod recvmsg;
pub mod sendmsg;

use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::Gfp;
use crate::net::core::errqueue;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{Family, RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK, Sock};
use crate::net::drop::DropReason;
use crate::net::ipv4::route::Dst;
use crate::net::ipv6::txopts::TxOptions;
use crate::task::wait::PollMask;
use belljar_abi::ioctl::{SIOCINQ, SIOCOUTQ};
use belljar_abi::poll::*;
use belljar_abi::*;
use belljar_wire::Segs;
use core::net::IpAddr;
use std::collections::VecDeque;

/// How it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `hdrincl`: the program writes the IP header. `filter`: ICMP types that it does not want (ICMP_FILTER).
    Raw { hdrincl: bool, filter: u32 },
    /// Echo requests; the port is their identifier.
    Ping,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct RawSock {
    pub sk: Sock,
    pub kind: Kind,
    /// Of the socket call; only its low byte is on the wire.
    pub protocol: u16,
    /// Packets from their IP header on, of a ping socket from the ICMP header on.
    pub queue: VecDeque<Skb>,
    /// Parts joined by MSG_MORE until the packet is complete.
    pub pending: Option<Box<Pending>>,
    /// ICMPv6 types that it does not want (ICMPV6_FILTER).
    pub filter6: [u32; 8],
    /// IPV6_CHECKSUM: where in a packet its sum stands, which is the kernel's to set and to look at.
    pub csum_offset: Option<i32>,
    /// In the table. A raw socket is from birth; AF_UNSPEC takes it out for good.
    pub hashed: bool,
}

/// A packet under construction.
#[derive(Clone, Debug)]
pub struct Pending {
    pub data: Segs,
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub dst: Dst,
    pub tos: u8,
    pub ttl: Option<u8>,
    /// Flow label of IPv6.
    pub flow: u32,
    pub priority: u32,
    pub mark: u32,
    /// IP_OPTIONS of the socket, or IP_RETOPTS of the send.
    pub options: Option<Box<[u8]>>,
    /// Extension headers of IPv6.
    pub ext: Option<Box<TxOptions>>,
}

/// The sockets of a namespace, in order of entry.
#[derive(Clone, Debug, Default)]
pub struct RawTables {
    pub raw: Vec<RawId>,
    pub ping: Vec<RawId>,
    /// The identifier chosen last (`ping_port_rover`).
    pub rover: u16,
}

impl RawSock {
    /// `sk_state == TCP_ESTABLISHED`.
    pub fn connected(&self) -> bool {
        !self.sk.daddr.is_unspecified()
    }

    pub fn hdrincl(&self) -> bool {
        matches!(self.kind, Kind::Raw { hdrincl: true, .. })
    }
}

/// RFC 3542 §3.1: the sum of ICMPv6 is the kernel's from the beginning.
const ICMP6_CSUM: i32 = 2;

/// EACCES for a ping socket of a group that `ping_group_range` leaves out.
#[doc(alias = "inet_create")]
pub fn create(k: &mut Kernel, ns: NsId, family: Family, protocol: u16, ping: bool, gid: u32) -> Result<RawId, Errno> {
    let n = k.net.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
    let groups = n.sysctl.ping_group_range;
    if ping && !(groups.lo..=groups.hi).contains(&gid) {
        return Err(Errno::EACCES);
    }
    if !k.net.mem.room(crate::mem::Kind::Raw, &k.socks.raw, Gfp::Kernel) {
        return Err(Errno::ENOBUFS);
    }
    let mut sk = Sock::new(ns, family);
    (sk.rcvbuf, sk.sndbuf) = (n.sysctl.rmem_default, n.sysctl.wmem_default);
    sk.flags.reuse = true;
    sk.discover_pmtu(&n.sysctl);
    let kind = if ping { Kind::Ping } else { Kind::Raw { hdrincl: i32::from(protocol) == IPPROTO_RAW, filter: 0 } };
    if !ping {
        sk.num = protocol;
    }
    let hashed = !ping;
    let icmp6 = hashed && family == Family::Inet6 && i32::from(protocol) == IPPROTO_ICMPV6;
    let id = k.socks.raw.insert(RawSock {
        sk,
        kind,
        protocol,
        queue: VecDeque::new(),
        pending: None,
        filter6: [0; 8],
        csum_offset: icmp6.then_some(ICMP6_CSUM),
        hashed,
    });
    if hashed {
        n.raw.raw.push(id);
    }
    Ok(id)
}

/// `datagram_poll`.
#[doc(alias = "datagram_poll")]
pub fn poll(s: &RawSock) -> PollMask {
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
pub(crate) fn wake(k: &mut Kernel, id: RawId, mask: PollMask) {
    if k.socks.raw.get(id).is_some_and(|s| !s.sk.wait.is_empty()) {
        k.net.env.rises.push_back(crate::env::Rise::Wake { sock: SockId::Raw(id), mask });
    }
}

#[doc(alias = "sock_wfree")]
pub fn wfree(k: &mut Kernel, id: RawId, truesize: u32) {
    let Some(s) = k.socks.raw.get_mut(id) else { return };
    s.sk.wmem_alloc = s.sk.wmem_alloc.saturating_sub(truesize);
    if s.sk.wmem_alloc * 2 <= s.sk.sndbuf {
        wake(k, id, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
}

/// It takes effect on an unconnected socket too, which is told ENOTCONN (`inet_shutdown`).
#[doc(alias = "inet_shutdown")]
pub fn shutdown(k: &mut Kernel, id: RawId, how: i32) -> Result<(), Errno> {
    let how = match how {
        SHUT_RD => RCV_SHUTDOWN,
        SHUT_WR => SEND_SHUTDOWN,
        SHUT_RDWR => SHUTDOWN_MASK,
        _ => return Err(Errno::EINVAL),
    };
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    s.sk.shutdown |= how;
    let connected = s.connected();
    wake(k, id, EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
}

/// SIOCINQ: length of the first packet; SIOCOUTQ: bytes in device queues. A ping socket knows neither.
#[doc(alias = "raw_ioctl")]
pub fn ioctl(k: &Kernel, id: RawId, request: u32) -> Result<i64, Errno> {
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    match request {
        _ if s.kind == Kind::Ping => Err(Errno::ENOTTY),
        SIOCINQ => Ok(s.queue.front().map_or(0, |skb| skb.len() as i64)),
        SIOCOUTQ => Ok(s.sk.wmem_alloc.into()),
        _ => Err(Errno::ENOTTY),
    }
}

/// The filter of a socket that may have one; ENOPROTOOPT on ping sockets, EOPNOTSUPP for other protocols.
fn icmp_filter(s: &mut RawSock, name: i32) -> Result<&mut u32, Errno> {
    match &mut s.kind {
        Kind::Raw { filter, .. } if name == ICMP_FILTER => {
            if i32::from(s.protocol) == IPPROTO_ICMP {
                Ok(filter)
            } else {
                Err(Errno::EOPNOTSUPP)
            }
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// The filter of a raw ICMPv6 socket.
fn icmp6_filter(s: &mut RawSock, name: i32) -> Result<&mut [u32; 8], Errno> {
    if !matches!(s.kind, Kind::Raw { .. }) || s.sk.family != Family::Inet6 {
        return Err(Errno::ENOPROTOOPT);
    }
    if i32::from(s.protocol) != IPPROTO_ICMPV6 {
        return Err(Errno::EOPNOTSUPP);
    }
    if name == ICMPV6_FILTER { Ok(&mut s.filter6) } else { Err(Errno::ENOPROTOOPT) }
}

/// A raw socket of IPv6, to which nothing of IPv4's is an option.
pub fn is_raw6(k: &Kernel, id: RawId) -> bool {
    k.socks.raw.get(id).is_some_and(|s| s.kind != Kind::Ping && s.sk.family == Family::Inet6)
}

/// Options of level SOL_IPV6 that raw sockets alone have.
pub fn is_own_option(name: i32) -> bool {
    matches!(name, IPV6_CHECKSUM | IPV6_HDRINCL)
}

/// Levels SOL_RAW and SOL_ICMPV6, and IPV6_CHECKSUM and IPV6_HDRINCL of level SOL_IPV6.
pub fn setsockopt(k: &mut Kernel, id: RawId, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    match level {
        SOL_ICMPV6 => set_icmp6_filter(k, id, name, value),
        _ if is_raw6(k, id) => set_raw6(k, id, level, name, value),
        SOL_RAW => set_icmp_filter(k, id, name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

pub fn getsockopt(k: &mut Kernel, id: RawId, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    let raw6 = is_raw6(k, id);
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    match level {
        SOL_ICMPV6 if !raw6 && s.sk.family == Family::Inet => Err(Errno::EOPNOTSUPP),
        SOL_ICMPV6 => icmp6_filter(s, name).map(|f| f.iter().flat_map(|w| w.to_ne_bytes()).collect()),
        SOL_IPV6 if raw6 && name == IPV6_HDRINCL => Ok(i32::from(s.hdrincl()).to_ne_bytes().to_vec()),
        _ if raw6 && name == IPV6_CHECKSUM => Ok(s.csum_offset.unwrap_or(-1).to_ne_bytes().to_vec()),
        SOL_RAW if s.kind == Kind::Ping && s.sk.family == Family::Inet => Err(Errno::EOPNOTSUPP),
        SOL_RAW if !raw6 => icmp_filter(s, name).map(|f| f.to_ne_bytes().to_vec()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Of a sum's place below 0 is none; an odd one is none of a sum's. That of ICMPv6 is not to be moved, says level SOL_IPV6.
#[doc(alias = "do_rawv6_setsockopt")]
fn set_raw6(k: &mut Kernel, id: RawId, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let at = value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)?;
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    if let (SOL_IPV6, IPV6_HDRINCL, Kind::Raw { hdrincl, .. }) = (level, name, &mut s.kind) {
        *hdrincl = at != 0;
        return Ok(());
    }
    if name != IPV6_CHECKSUM {
        return Err(Errno::ENOPROTOOPT);
    }
    if (level == SOL_IPV6 && i32::from(s.protocol) == IPPROTO_ICMPV6) || (at > 0 && at & 1 != 0) {
        return Err(Errno::EINVAL);
    }
    s.csum_offset = (at >= 0).then_some(at);
    Ok(())
}

/// SOL_ICMPV6: as many bytes of the filter as are given.
#[doc(alias = "rawv6_seticmpfilter")]
fn set_icmp6_filter(k: &mut Kernel, id: RawId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let filter = icmp6_filter(k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?, name)?;
    let mut bytes: Vec<u8> = filter.iter().flat_map(|w| w.to_ne_bytes()).collect();
    bytes.iter_mut().zip(value).for_each(|(b, v)| *b = *v);
    for (w, b) in filter.iter_mut().zip(bytes.chunks_exact(4)) {
        *w = b.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    }
    Ok(())
}

/// SOL_RAW: as many bytes of the filter as are given.
#[doc(alias = "raw_setsockopt")]
fn set_icmp_filter(k: &mut Kernel, id: RawId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let filter = icmp_filter(k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?, name)?;
    let mut bytes = filter.to_ne_bytes();
    bytes.iter_mut().zip(value).for_each(|(b, v)| *b = *v);
    *filter = u32::from_ne_bytes(bytes);
    Ok(())
}

/// The last reference is gone.
#[doc(alias = "raw_close")]
pub fn release(k: &mut Kernel, id: RawId) {
    crate::net::ipv6::mcast_opt::leave_groups(k, SockId::Raw(id));
    bind::unhash(k, id);
    let Some(s) = k.socks.raw.remove(id) else { return };
    for skb in s.queue {
        k.net.kfree_skb(skb, DropReason::SocketDestroyed, "raw_close");
    }
}
