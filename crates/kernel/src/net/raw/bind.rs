//! bind, connect, and the identifiers of ping sockets.
use super::{Kind, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::{self, Flow};
use crate::net::core::ipcm;
use crate::net::core::sock::*;
use crate::net::ipv4::mcast;
use crate::net::ipv4::route::RouteKind;
use crate::net::tcp::tables::wildcard;
use belljar_abi::{Errno, SockAddr, poll};
use core::net::IpAddr;

/// The caller has checked that the address may be used. A raw socket may be bound again and again.
#[doc(alias = "raw_bind")]
#[doc(alias = "ping_bind")]
pub fn bind(k: &mut Kernel, id: RawId, addr: IpAddr, port: u16, uid: u32) -> Result<(), Errno> {
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let (ns, ping) = (s.sk.ns, s.kind == Kind::Ping);
    let broadcast = !addr.is_unspecified() && af::addr_type(&k.net, ns, addr) == RouteKind::Broadcast;
    let everybody = addr.is_multicast() || broadcast;
    match ping {
        true if everybody => return Err(Errno::EADDRNOTAVAIL),
        true if s.sk.num != 0 => return Err(Errno::EINVAL),
        false if s.connected() => return Err(Errno::EINVAL),
        _ => {}
    }
    if ping && !get_port(k, id, port) {
        return Err(Errno::EADDRINUSE);
    }
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    s.sk.rcv_saddr = addr;
    // A group or broadcast address receives but does not send.
    s.sk.saddr = if everybody { wildcard(addr) } else { addr };
    if ping {
        s.sk.uid = uid;
        s.sk.userlocks |= if addr.is_unspecified() { 0 } else { SOCK_BINDADDR_LOCK };
        s.sk.userlocks |= if port == 0 { 0 } else { SOCK_BINDPORT_LOCK };
    }
    Ok(())
}

/// An identifier for a ping socket that sends before it was bound; EAGAIN when none is free.
#[doc(alias = "inet_autobind")]
pub fn autobind(k: &mut Kernel, id: RawId) -> Result<(), Errno> {
    let unbound = k.socks.raw.get(id).is_some_and(|s| s.kind == Kind::Ping && s.sk.num == 0);
    if unbound && !get_port(k, id, 0) { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// Takes `ident`, or for 0 the next that nobody has. One that is asked for may be shared when all allow it
/// (SO_REUSEADDR, which ping sockets are born with).
#[doc(alias = "ping_get_port")]
fn get_port(k: &mut Kernel, id: RawId, ident: u16) -> bool {
    let Some(s) = k.socks.raw.get(id) else { return false };
    let (ns, reuse) = (s.sk.ns, s.sk.flags.reuse);
    let Some(n) = k.net.ns.get_mut(ns) else { return false };
    let socks = &k.socks.raw;
    let ident = if ident == 0 {
        let taken: std::collections::BTreeSet<u16> =
            n.raw.ping.iter().filter_map(|o| socks.get(*o)).map(|o| o.sk.num).collect();
        let from = n.raw.rover;
        let free = (1..=u16::MAX).map(|i| from.wrapping_add(i)).find(|p| *p != 0 && !taken.contains(p));
        let Some(free) = free else { return false };
        n.raw.rover = free;
        free
    } else {
        let clash = |o: &RawId| socks.get(*o).is_some_and(|o| o.sk.num == ident && !(reuse && o.sk.flags.reuse));
        if n.raw.ping.iter().any(clash) {
            return false;
        }
        ident
    };
    n.raw.ping.push(id);
    if let Some(s) = k.socks.raw.get_mut(id) {
        (s.sk.num, s.hashed) = (ident, true);
    }
    true
}

/// Fixes the peer: filter of a raw socket for what comes in, default for what goes out. Unspec dissolves it.
#[doc(alias = "__ip4_datagram_connect")]
pub fn connect(k: &mut Kernel, id: RawId, to: SockAddr) -> Result<(), Errno> {
    let Some((mut daddr, dport)) = to.to_ip() else {
        disconnect(k, id);
        return Ok(());
    };
    autobind(k, id)?;
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let (ns, broadcast) = (s.sk.ns, s.sk.flags.broadcast);
    let mut fl = Flow { daddr: s.sk.first_hop(daddr), ..Flow::of(&s.sk, s.protocol as u8) };
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
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    for a in [&mut s.sk.saddr, &mut s.sk.rcv_saddr] {
        if a.is_unspecified() {
            *a = dst.src;
        }
    }
    (s.sk.daddr, s.sk.dport) = (daddr, dport);
    Ok(())
}

/// Unconnected again; what the program did not bind is given back, a raw socket's place in the table with it.
#[doc(alias = "__udp_disconnect")]
fn disconnect(k: &mut Kernel, id: RawId) {
    let Some(s) = k.socks.raw.get_mut(id) else { return };
    (s.sk.daddr, s.sk.dport) = (s.sk.any(), 0);
    if s.sk.userlocks & SOCK_BINDADDR_LOCK == 0 {
        (s.sk.rcv_saddr, s.sk.saddr) = (s.sk.any(), s.sk.any());
    }
    if s.sk.userlocks & SOCK_BINDPORT_LOCK == 0 {
        unhash(k, id);
    }
    wake(k, id, poll::EPOLLOUT);
}

/// Out of the table.
#[doc(alias = "raw_unhash_sk")]
pub fn unhash(k: &mut Kernel, id: RawId) {
    let Some(s) = k.socks.raw.get_mut(id) else { return };
    s.sk.num = 0;
    if std::mem::take(&mut s.hashed)
        && let Some(n) = k.net.ns.get_mut(s.sk.ns)
    {
        n.raw.raw.retain(|x| *x != id);
        n.raw.ping.retain(|x| *x != id);
    }
}
