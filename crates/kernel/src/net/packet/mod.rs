//! Packet sockets (packet(7)): whole frames of a device, on their way in and out. The way up is `rcv.rs`, the way down
//! `sendmsg.rs`; groups of sockets that share packets are `fanout.rs`, rings in shared memory `ring.rs` and `tx_ring.rs`.
//!
//! Left out: SOCK_PACKET (its type does not exist), time stamps of what is sent.
pub mod bind;
pub mod fanout;
pub mod mclist;
pub mod rcv;
pub mod recvmsg;
pub mod ring;
pub mod sendmsg;
pub mod sockopt;
pub mod tx_ring;

use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::errqueue;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{Family, Sock};
use crate::net::drop::DropReason;
use crate::task::wait::PollMask;
use belljar_abi::ioctl::{SIOCGSTAMP, SIOCGSTAMPNS, SIOCINQ, SIOCOUTQ};
use belljar_abi::poll::*;
use belljar_abi::*;
use std::collections::VecDeque;

/// A packet that waits for its reader.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub skb: Skb,
    pub from: LinkAddr,
    /// Before a filter cut it.
    pub orig_len: u32,
}

/// `struct tpacket_stats`: counted since they were last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub packets: u32,
    pub drops: u32,
}

/// One-bit options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub auxdata: bool,
    pub origdev: bool,
    pub loss: bool,
    pub tx_has_off: bool,
    pub qdisc_bypass: bool,
    pub ignore_outgoing: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PacketSock {
    pub sk: Sock,
    /// SOCK_DGRAM: without link headers.
    pub cooked: bool,
    /// Of bind or the socket call; 0 receives nothing.
    pub proto: u16,
    /// Number of the device it is bound to, 0: all. It stays when the device is down, and is -1 when that is gone.
    pub ifindex: i32,
    pub dev: Option<DevId>,
    /// It is among the taps.
    pub running: bool,
    pub queue: VecDeque<Waiting>,
    pub stats: Stats,
    pub flags: Flags,
    pub copy_thresh: i32,
    pub timestamp: i32,
    /// Bytes of a `virtio_net_hdr` before each packet: 0, 10 or 12.
    pub vnet_hdr: u8,
    pub version: i32,
    pub reserve: u32,
    pub ring: Option<ring::Geometry>,
    pub tx_ring: Option<Box<tx_ring::TxRing>>,
    pub members: Vec<mclist::Member>,
    /// Its group.
    pub fanout: Option<u16>,
    /// When the packet that was read last had come (`sk_stamp`).
    pub stamp: Option<crate::env::Nanos>,
}

/// Who gets a tap's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Sock(PacketId),
    Fanout(u16),
}

/// A place where packets are watched (Linux: `struct packet_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub proto: u16,
    pub dev: Option<DevId>,
    pub ignore_outgoing: bool,
    pub to: Target,
}

/// The taps of a namespace, in order of entry.
#[derive(Clone, Debug, Default)]
pub struct PacketTables {
    /// ETH_P_ALL: these see what goes out as well (`ptype_all`).
    pub all: Vec<Hook>,
    /// One protocol each (`ptype_base`).
    pub base: Vec<Hook>,
    pub fanouts: Vec<fanout::Fanout>,
    /// Sockets there are, running or not.
    pub sockets: u32,
}

#[doc(alias = "packet_create")]
pub fn create(k: &mut Kernel, ns: NsId, cooked: bool, proto: u16) -> Result<PacketId, Errno> {
    if !k.net.mem.room(Kind::Packet, &k.socks.packet, Gfp::Kernel) {
        return Err(Errno::ENOBUFS);
    }
    let n = k.net.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
    let mut sk = Sock::new(ns, Family::Inet);
    (sk.rcvbuf, sk.sndbuf) = (n.sysctl.rmem_default, n.sysctl.wmem_default);
    n.packet.sockets += 1;
    let id = k.socks.packet.insert(PacketSock {
        sk,
        cooked,
        proto,
        ifindex: 0,
        dev: None,
        running: false,
        queue: VecDeque::new(),
        stats: Stats::default(),
        flags: Flags::default(),
        copy_thresh: 0,
        timestamp: 0,
        vnet_hdr: 0,
        version: TPACKET_V1,
        reserve: 0,
        ring: None,
        tx_ring: None,
        members: Vec::new(),
        fanout: None,
        stamp: None,
    });
    if proto != 0 {
        bind::hook(k, id);
    }
    Ok(id)
}

/// Bytes of a device's link header, and what kind of hardware it is (`ARPHRD_*`).
pub fn link_of(d: &NetDevice) -> (usize, u16) {
    match &d.kind {
        DevKind::Loopback => (belljar_wire::ethernet::ETH_HLEN, ARPHRD_LOOPBACK),
        DevKind::Tun(t) if !t.tap => (0, ARPHRD_NONE),
        DevKind::Tunnel(t) if d.is_pointopoint() => (0, t.kind.arphrd()),
        _ => (belljar_wire::ethernet::ETH_HLEN, ARPHRD_ETHER),
    }
}

/// `datagram_poll`; of a ring its owner knows more.
#[doc(alias = "packet_poll")]
pub fn poll(s: &PacketSock) -> PollMask {
    let mut mask = 0;
    if s.sk.err != 0 || !errqueue::is_empty(&s.sk) {
        mask |= EPOLLERR;
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
pub(crate) fn wake(k: &mut Kernel, id: PacketId, mask: PollMask) {
    if k.socks.packet.get(id).is_some_and(|s| !s.sk.wait.is_empty()) {
        k.net.env.rises.push_back(crate::env::Rise::Wake { sock: SockId::Packet(id), mask });
    }
}

#[doc(alias = "sock_wfree")]
pub fn wfree(k: &mut Kernel, id: PacketId, truesize: u32) {
    let Some(s) = k.socks.packet.get_mut(id) else { return };
    s.sk.wmem_alloc = s.sk.wmem_alloc.saturating_sub(truesize);
    if s.sk.wmem_alloc * 2 <= s.sk.sndbuf {
        wake(k, id, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
}

/// SIOCINQ: length of the first packet; SIOCOUTQ: bytes in device queues; SIOCGSTAMP: nanoseconds since 1970, which the
/// driver of the kernel puts into the layout asked for; ENOENT before anything was read.
#[doc(alias = "packet_ioctl")]
pub fn ioctl(k: &Kernel, id: PacketId, request: u32) -> Result<i64, Errno> {
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    match request {
        SIOCINQ => Ok(s.queue.front().map_or(0, |w| w.skb.len() as i64)),
        SIOCOUTQ => Ok(s.sk.wmem_alloc.into()),
        SIOCGSTAMP | SIOCGSTAMPNS => Ok(s.stamp.ok_or(Errno::ENOENT)?.saturating_add(k.net.env.wall_offset) as i64),
        _ => Err(Errno::ENOTTY),
    }
}

/// The name of the socket: protocol and device, and what kind of hardware that is.
#[doc(alias = "packet_getname")]
pub fn getname(k: &Kernel, id: PacketId) -> Option<SockAddr> {
    let s = k.socks.packet.get(id)?;
    let dev = s.dev.and_then(|d| k.net.devs.get(d));
    let mut a = LinkAddr { protocol: s.proto, ifindex: s.ifindex, short: true, ..LinkAddr::default() };
    if let Some(d) = dev {
        let (header, hatype) = link_of(d);
        a.hatype = hatype;
        if header > 0 {
            a.halen = 6;
            a.addr[..6].copy_from_slice(&d.mac.0);
        }
    }
    Some(SockAddr::Link(a))
}

/// The last reference is gone.
#[doc(alias = "packet_release")]
pub fn release(k: &mut Kernel, id: PacketId) {
    bind::unhook(k, id);
    fanout::leave(k, id);
    mclist::flush(k, id);
    let Some(s) = k.socks.packet.remove(id) else { return };
    if let Some(n) = k.net.ns.get_mut(s.sk.ns) {
        n.packet.sockets = n.packet.sockets.saturating_sub(1);
    }
    for w in s.queue {
        k.net.kfree_skb(w.skb, DropReason::QueuePurge, "packet_release");
    }
}
