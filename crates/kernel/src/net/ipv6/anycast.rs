//! Addresses that several hosts share (RFC 4291 §2.6): those that sockets join (IPV6_JOIN_ANYCAST), and of routers the
//! first of each of their subnets. Packets to one are taken; nothing is sent from it but ICMPv6 errors about what came to it.
use super::fib::{Route6, mask};
use super::{mcast, ndisc, route};
use crate::env::{MSEC, Nanos};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::neigh_sysctl;
use crate::net::ipv4::fib::RouteType;
use crate::task::call::Cred;
use belljar_abi::{Errno, IPV6_JOIN_ANYCAST};
use belljar_wire::ipv6::{is_linklocal, solicited_node};
use core::net::Ipv6Addr;
use std::collections::VecDeque;

/// Memberships of one socket (`optmem_max` bounds them on Linux).
const MOST_JOINED: usize = 1024;

/// `struct ifacaddr6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anycast6 {
    pub addr: Ipv6Addr,
    /// Sockets that joined, and addresses of ours whose subnet it stands for.
    pub sockets: u32,
    pub subnets: u32,
}

impl Anycast6 {
    pub fn users(&self) -> u32 {
        self.sockets + self.subnets
    }
}

/// What an interface has of them: the newest first, and questions whose answer is due later.
#[derive(Clone, Debug, Default)]
pub struct Anycasts {
    pub list: Vec<Anycast6>,
    pub(super) asked: VecDeque<(Nanos, ndisc::Question)>,
}

impl Anycasts {
    pub fn has(&self, addr: Ipv6Addr) -> bool {
        self.list.iter().any(|a| a.addr == addr)
    }

    /// The interface went down: its own addresses are gone, and so is the one of each of their subnets.
    pub(super) fn down(&mut self) {
        self.list.iter_mut().for_each(|a| a.subnets = 0);
        self.list.retain(|a| a.sockets > 0);
        self.asked.clear();
    }

    pub(super) fn due(&self) -> impl Iterator<Item = Nanos> {
        self.asked.iter().map(|q| q.0)
    }
}

/// Whether packets to `addr` are taken as of several hosts: a link-local one on its device, others on any.
#[doc(alias = "ipv6_chk_acast_addr_src")]
pub fn is_anycast(net: &Net, ns: NsId, dev: Option<DevId>, addr: Ipv6Addr) -> bool {
    let on = |id: DevId| net.devs.get(id).is_some_and(|d| d.inet6.anycast.has(addr));
    match dev.filter(|_| is_linklocal(addr)) {
        Some(dev) => on(dev),
        None => net.ns_devs(ns).any(on),
    }
}

/// The first address of a subnet (RFC 4291 §2.6.1); links of two have none (RFC 6164 §5).
fn subnet_router(addr: Ipv6Addr, prefix: u8) -> Option<Ipv6Addr> {
    let first = Ipv6Addr::from_bits(addr.to_bits() & mask(prefix));
    (prefix < 127 && !first.is_unspecified()).then_some(first)
}

/// An address of a router came or went, and with it that of its subnet.
#[doc(alias = "addrconf_join_anycast")]
#[doc(alias = "addrconf_leave_anycast")]
pub(super) fn subnet(net: &mut Net, dev: DevId, addr: Ipv6Addr, prefix: u8, on: bool) {
    let Some(first) = subnet_router(addr, prefix) else { return };
    change(net, dev, first, on, |a| &mut a.subnets);
}

/// The interface became a router's, or ceased to be one.
#[doc(alias = "dev_forward_change")]
pub(super) fn router(net: &mut Net, dev: DevId, on: bool) {
    let Some(d) = net.devs.get(dev).filter(|d| d.up && d.speaks_ipv6()) else { return };
    let addrs: Vec<_> = d.inet6.addrs.iter().filter(|a| !a.tentative()).map(|a| (a.addr, a.prefix)).collect();
    // In the order in which they came.
    addrs.into_iter().for_each(|(addr, prefix)| subnet(net, dev, addr, prefix, on));
}

/// One user more or less.
#[doc(alias = "__ipv6_dev_ac_inc")]
#[doc(alias = "__ipv6_dev_ac_dec")]
fn change(net: &mut Net, dev: DevId, addr: Ipv6Addr, on: bool, of: impl Fn(&mut Anycast6) -> &mut u32) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let (ns, list) = (d.ns, &mut d.inet6.anycast.list);
    let at = match list.iter().position(|a| a.addr == addr) {
        Some(at) => at,
        None if !on => return,
        None => {
            list.insert(0, Anycast6 { addr, sockets: 0, subnets: 0 });
            0
        }
    };
    let Some(a) = list.get_mut(at) else { return };
    let before = a.users();
    let n = of(a);
    *n = if on { n.saturating_add(1) } else { n.saturating_sub(1) };
    let after = a.users();
    if after == 0 {
        list.remove(at);
    }
    if (before == 0) == (after == 0) {
        return;
    }
    match on {
        true => mcast::join_for_address(net, dev, solicited_node(addr)),
        false => mcast::leave(net, dev, solicited_node(addr)),
    }
    let Some(n) = net.ns.get_mut(ns) else { return };
    let route = Route6 { kind: RouteType::Anycast, ..Route6::local(dev) };
    match on {
        true => n.v6.fib.local.insert(addr, 128, route),
        false => n.v6.fib.local.edit(addr, 128, |routes| routes.retain(|r| *r != route)),
    }
    n.rt_genid = n.rt_genid.wrapping_add(1);
}

/// Keeps a question for later; with too many of them it gets no answer.
#[doc(alias = "pneigh_enqueue")]
pub(super) fn ask_later(net: &mut Net, dev: DevId, q: ndisc::Question) {
    let Some(ns) = net.devs.get(dev).map(|d| d.ns) else { return };
    let parms = neigh_sysctl::parms(net, dev, true);
    let most = parms.proxy_delay_ms;
    if most == 0 {
        return ndisc::answer(net, ns, dev, &q);
    }
    let at = net.env.now + u64::from(net.env.rng.below(most)) * MSEC;
    if let Some(d) = net.devs.get_mut(dev)
        && d.inet6.anycast.asked.len() <= parms.proxy_qlen as usize
    {
        d.inet6.anycast.asked.push_back((at, q));
        net.arm_addrconf(dev);
    }
}

/// Answers what is due.
#[doc(alias = "neigh_proxy_process")]
pub(super) fn run(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let Some(d) = net.devs.get_mut(dev) else { return };
    let ns = d.ns;
    let (due, later) = std::mem::take(&mut d.inet6.anycast.asked).into_iter().partition(|q| q.0 <= now);
    d.inet6.anycast.asked = later;
    let due: VecDeque<(Nanos, ndisc::Question)> = due;
    for (_, q) in due {
        ndisc::answer(net, ns, dev, &q);
    }
}

/// `struct ipv6_mreq`: address and interface.
pub(crate) fn set(k: &mut Kernel, sock: SockId, name: i32, value: &[u8], cred: Cred) -> Result<(), Errno> {
    let value: &[u8; 20] = value.first_chunk().ok_or(Errno::EINVAL)?;
    let addr = value.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into());
    let index = value.last_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
    match name {
        IPV6_JOIN_ANYCAST => join(k, sock, addr, index, cred),
        _ => leave(k, sock, addr, index),
    }
}

#[doc(alias = "ipv6_sock_ac_join")]
fn join(k: &mut Kernel, sock: SockId, addr: Ipv6Addr, index: u32, cred: Cred) -> Result<(), Errno> {
    if !cred.caps.net_admin {
        return Err(Errno::EPERM);
    }
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let named = if index == 0 { None } else { k.net.dev_by_index(ns, index) };
    if addr.is_multicast() || route::chk_addr(&k.net, ns, addr, named) {
        return Err(Errno::EINVAL);
    }
    let dev = match index {
        0 => on_the_way(&k.net, ns, addr)?,
        _ => named.ok_or(Errno::ENODEV)?,
    };
    let d = k.net.devs.get(dev).filter(|d| d.speaks_ipv6());
    let d = d.ok_or(if index == 0 { Errno::EADDRNOTAVAIL } else { Errno::ENODEV })?;
    // A host has those of its own links only; a router tells others the way.
    let on_link = |p: u8, a: Ipv6Addr| (a.to_bits() ^ addr.to_bits()) & mask(p) == 0;
    if d.inet6.conf.forwarding == 0 && !d.inet6.addrs.iter().any(|a| on_link(a.prefix, a.addr)) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let opts = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut();
    if opts.anycast.len() >= MOST_JOINED {
        return Err(Errno::ENOMEM);
    }
    opts.anycast.push((addr, dev));
    change(&mut k.net, dev, addr, true, |a| &mut a.sockets);
    Ok(())
}

/// The device of the route; without one a host has nowhere to be, and a router takes any.
fn on_the_way(net: &Net, ns: NsId, addr: Ipv6Addr) -> Result<DevId, Errno> {
    let n = net.ns.get(ns).ok_or(Errno::ENODEV)?;
    if let Some(dev) = n.v6.fib.lookup(addr, None, net.env.now).and_then(|r| r.dev) {
        return Ok(dev);
    }
    if n.v6.conf_all.forwarding == 0 {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let fits = |id: &DevId| net.devs.get(*id).is_some_and(|d| d.up && !d.is_loopback());
    net.ns_devs(ns).find(fits).ok_or(Errno::ENODEV)
}

#[doc(alias = "ipv6_sock_ac_drop")]
fn leave(k: &mut Kernel, sock: SockId, addr: Ipv6Addr, index: u32) -> Result<(), Errno> {
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let named = if index == 0 { None } else { k.net.dev_by_index(ns, index) };
    let opts = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.v6_opts_mut();
    // The last that came is the first that is found.
    let fits = |m: &(Ipv6Addr, DevId)| m.0 == addr && (index == 0 || named == Some(m.1));
    let at = opts.anycast.iter().rposition(fits).ok_or(Errno::ENOENT)?;
    let (_, dev) = opts.anycast.remove(at);
    change(&mut k.net, dev, addr, false, |a| &mut a.sockets);
    Ok(())
}

/// The last reference to the socket is gone.
#[doc(alias = "ipv6_sock_ac_close")]
pub(crate) fn close(k: &mut Kernel, sock: SockId) {
    let Some(o) = k.socks.sk_mut(sock).and_then(|sk| sk.cold.as_mut()).and_then(|c| c.v6.as_mut()) else { return };
    for (addr, dev) in std::mem::take(&mut o.anycast) {
        change(&mut k.net, dev, addr, false, |a| &mut a.sockets);
    }
}
