//! bind, connect and the choice of a port.
use super::tables::Tuple;
use super::{UdpSock, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::{self, Flow};
use crate::net::core::ipcm;
use crate::net::core::sock::*;
use crate::net::ipv4::mcast;
use crate::net::ipv4::route::RouteKind;
use crate::net::tcp::tables::wildcard;
use belljar_abi::{Errno, SockAddr, poll};
use belljar_wire::ipv4::IPPROTO_UDP;
use core::net::IpAddr;

/// Address and port; the caller has checked that the address may be used and the port is allowed.
#[doc(alias = "__inet_bind")]
pub fn bind(k: &mut Kernel, id: UdpId, addr: IpAddr, port: u16, uid: u32) -> Result<(), Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let ns = s.sk.ns;
    if s.sk.num != 0 {
        return Err(Errno::EINVAL);
    }
    let no_port = s.sk.flags.bind_address_no_port && port == 0;
    let s = k.socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    s.sk.uid = uid;
    let everybody = addr.is_multicast() || af::addr_type(&k.net, ns, addr) == RouteKind::Broadcast;
    s.sk.rcv_saddr = addr;
    // A group or broadcast address receives but does not send.
    s.sk.saddr = if everybody { wildcard(addr) } else { addr };
    if !no_port && let Err(e) = get_port(k, id, port) {
        if let Some(s) = k.socks.udp.get_mut(id) {
            (s.sk.saddr, s.sk.rcv_saddr) = (s.sk.any(), s.sk.any());
        }
        return Err(if e == Errno::EAGAIN { Errno::EADDRINUSE } else { e });
    }
    let s = k.socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    if !addr.is_unspecified() {
        s.sk.userlocks |= SOCK_BINDADDR_LOCK;
    }
    if port != 0 {
        s.sk.userlocks |= SOCK_BINDPORT_LOCK;
    }
    s.bound_addr = s.sk.rcv_saddr;
    s.dst = None;
    Ok(())
}

/// A port for a socket that sends before it was bound; EAGAIN when none is free.
#[doc(alias = "inet_autobind")]
pub fn autobind(k: &mut Kernel, id: UdpId) -> Result<(), Errno> {
    match k.socks.udp.get(id) {
        Some(s) if s.sk.num == 0 => get_port(k, id, 0),
        _ => Ok(()),
    }
}

/// Two sockets cannot share a port when their addresses overlap, unless both allow it by the same option.
#[doc(alias = "udp_lib_lport_inuse")]
fn conflicts(a: &UdpSock, b: &UdpSock) -> bool {
    let (x, y) = (&a.sk, &b.sk);
    let devices = x.bound_dev.is_none() || y.bound_dev.is_none() || x.bound_dev == y.bound_dev;
    devices
        && rcv_saddr_equal((x.rcv_saddr, x.flags.ipv6only), (y.rcv_saddr, y.flags.ipv6only))
        && !(x.flags.reuse && y.flags.reuse)
        && !(x.flags.reuseport && y.flags.reuseport && x.uid == y.uid)
}

fn in_use(k: &Kernel, ns: NsId, id: UdpId, port: u16) -> bool {
    let (Some(n), Some(s)) = (k.net.ns.get(ns), k.socks.udp.get(id)) else { return true };
    // A device's own socket takes all addresses of IPv4.
    let device = n.udp.is_encap(port) && !s.sk.flags.ipv6only;
    device || n.udp.on_port(port).iter().any(|o| *o != id && k.socks.udp.get(*o).is_some_and(|o| conflicts(s, o)))
}

/// Takes `port`, or for 0 a random one of the range that does not conflict.
#[doc(alias = "udp_lib_get_port")]
fn get_port(k: &mut Kernel, id: UdpId, port: u16) -> Result<(), Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let ns = s.sk.ns;
    let port = if port != 0 {
        if in_use(k, ns, id, port) {
            return Err(Errno::EADDRINUSE);
        }
        port
    } else {
        choose(k, ns, id).ok_or(Errno::EAGAIN)?
    };
    let (s, n) = (k.socks.udp.get_mut(id), k.net.ns.get_mut(ns));
    let (Some(s), Some(n)) = (s, n) else { return Err(Errno::EBADF) };
    s.sk.num = port;
    s.hashed = true;
    n.udp.insert(id, s.sk.rcv_saddr, port);
    if n.udp.programs {
        k.join_reuseport(SockId::Udp(id));
    }
    Ok(())
}

fn choose(k: &mut Kernel, ns: NsId, id: UdpId) -> Option<u16> {
    let own = k.socks.udp.get(id)?.sk.cold.as_ref().and_then(|c| c.local_port_range);
    let range = k.net.ns.get(ns)?.sysctl.ip_local_port_range;
    let (mut lo, mut hi) = (range.lo, range.hi);
    if let Some((a, b)) = own {
        // A range of the socket counts inside the namespace's.
        (lo, hi) = (if a != 0 { a.clamp(lo, hi) } else { lo }, if b != 0 { b.clamp(lo, hi) } else { hi });
    }
    let count = u32::from(hi.saturating_sub(lo)) + 1;
    let start = k.net.env.rng.below(count);
    (0..count).map(|i| lo + ((start + i) % count) as u16).find(|&p| {
        let reserved = k.net.ns.get(ns).is_some_and(|n| n.sysctl.ip_local_reserved_ports.contains(p));
        !reserved && !in_use(k, ns, id, p)
    })
}

fn tuple(s: &UdpSock) -> Tuple {
    (s.sk.rcv_saddr, s.sk.num, s.sk.daddr, s.sk.dport)
}

/// Fixes the peer: filter for what comes in, default for what goes out. Unspec dissolves it.
#[doc(alias = "__ip4_datagram_connect")]
pub fn connect(k: &mut Kernel, id: UdpId, to: SockAddr) -> Result<(), Errno> {
    let Some((mut daddr, dport)) = to.to_ip() else {
        disconnect(k, id);
        return Ok(());
    };
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let (ns, broadcast) = (s.sk.ns, s.sk.flags.broadcast);
    autobind(k, id)?;
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let saddr = if s.sk.saddr.is_unspecified() { wildcard(daddr) } else { s.sk.saddr };
    let ports = (s.sk.num, dport);
    let mut fl = Flow { daddr: s.sk.first_hop(daddr), saddr, ports, ..Flow::of(&s.sk, IPPROTO_UDP) };
    if fl.oif.is_none() && daddr.is_ipv6() {
        fl.oif = ipcm::sticky(&k.net, &s.sk)?;
    }
    mcast::egress(&s.sk, daddr, &mut fl.oif, &mut fl.saddr);
    let dst = match af::route_output(&mut k.net, ns, &fl) {
        Ok(d) => d,
        Err(e) => {
            af::count_no_route(&mut k.net, ns, daddr, e);
            return Err(e);
        }
    };
    if dst.kind == RouteKind::Broadcast && !broadcast {
        return Err(Errno::EACCES);
    }
    if daddr.is_unspecified() {
        daddr = if fl.saddr.is_unspecified() { af::loopback(daddr) } else { fl.saddr };
    }
    unhash_peer(k, id);
    let (Some(s), Some(n)) = (k.socks.udp.get_mut(id), k.net.ns.get_mut(ns)) else { return Err(Errno::EBADF) };
    if s.sk.saddr.is_unspecified() {
        s.sk.saddr = dst.src;
    }
    if s.sk.rcv_saddr.is_unspecified() {
        s.sk.rcv_saddr = dst.src;
        if s.hashed {
            n.udp.rehash(id, s.sk.any(), dst.src, s.sk.num);
        }
    }
    (s.sk.daddr, s.sk.dport) = (daddr, dport);
    s.ident = k.net.env.rng.next_u64() as u16;
    s.dst = Some(dst);
    if s.hashed && dport != 0 {
        s.hashed4 = true;
        n.udp.insert_peer(id, tuple(s));
    }
    Ok(())
}

fn unhash_peer(k: &mut Kernel, id: UdpId) {
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    if std::mem::take(&mut s.hashed4)
        && let Some(n) = k.net.ns.get_mut(s.sk.ns)
    {
        n.udp.remove_peer(id, tuple(s));
    }
}

/// Unconnected again. What was chosen automatically is given back, what the program bound stays.
#[doc(alias = "__udp_disconnect")]
pub fn disconnect(k: &mut Kernel, id: UdpId) {
    unhash_peer(k, id);
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    (s.sk.daddr, s.sk.dport, s.dst) = (s.sk.any(), 0, None);
    if s.sk.userlocks & SOCK_BINDADDR_LOCK == 0 {
        let from = std::mem::replace(&mut s.sk.rcv_saddr, s.bound_addr);
        s.sk.saddr = s.bound_addr;
        if s.hashed
            && from != s.bound_addr
            && let Some(n) = k.net.ns.get_mut(s.sk.ns)
        {
            n.udp.rehash(id, from, s.bound_addr, s.sk.num);
        }
    }
    if k.socks.udp.get(id).is_some_and(|s| s.sk.userlocks & SOCK_BINDPORT_LOCK == 0) {
        unhash(k, id);
    }
    wake(k, id, poll::EPOLLOUT);
}

/// Out of the tables; the port is free.
#[doc(alias = "udp_lib_unhash")]
pub fn unhash(k: &mut Kernel, id: UdpId) {
    unhash_peer(k, id);
    let Some(s) = k.socks.udp.get_mut(id) else { return };
    if std::mem::take(&mut s.hashed)
        && let Some(n) = k.net.ns.get_mut(s.sk.ns)
    {
        n.udp.remove(id, s.sk.rcv_saddr, s.sk.num);
    }
    s.sk.num = 0;
}
