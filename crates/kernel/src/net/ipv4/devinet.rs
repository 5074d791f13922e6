//! Addresses of an interface: given, taken away, with the routes that come with them; addresses and flags as the old
//! requests set them (netdevice(7): SIOCSIFADDR and its kin).
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{IfName, mask};
use crate::net::ipv4::fib::{RT_TABLE_LOCAL, RT_TABLE_MAIN, Route, RouteType, Scope};
use crate::net::netlink::notify;
use belljar_abi::rtnetlink::{RTM_DELADDR, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWROUTE};
use belljar_abi::{
    Errno, IFF_ALLMULTI, IFF_AUTOMEDIA, IFF_DEBUG, IFF_DYNAMIC, IFF_MULTICAST, IFF_NOARP, IFF_NOTRAILERS, IFF_PORTSEL,
    IFF_PROMISC, IFF_UP,
};
use core::net::Ipv4Addr;

/// A route of a table, by destination and length.
type Told = (u32, Ipv4Addr, u8, Route);

/// An address of an interface (`struct in_ifaddr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfAddr {
    pub local: Ipv4Addr,
    /// The other end of a point-to-point link; the address itself elsewhere. The prefix is this one's.
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub broadcast: Option<Ipv4Addr>,
    pub scope: Scope,
    /// Another address of the same subnet was there before.
    pub secondary: bool,
    /// No route to its subnet comes with it (IFA_F_NOPREFIXROUTE).
    pub noprefixroute: bool,
    /// Of that route (IFA_RT_PRIORITY).
    pub metric: u32,
    /// The device's name, or that with something behind a colon.
    pub label: IfName,
}

impl IfAddr {
    /// As `ip addr add` makes it of no more than this.
    pub fn new(local: Ipv4Addr, prefix: u8) -> IfAddr {
        let scope = if local.is_loopback() { Scope::Host } else { Scope::Universe };
        let label = IfName::default();
        let (secondary, noprefixroute) = (false, false);
        IfAddr { local, address: local, prefix, broadcast: None, scope, secondary, noprefixroute, metric: 0, label }
    }

    /// The last address of its subnet, which is everybody there.
    fn subnet_broadcast(&self) -> Option<Ipv4Addr> {
        let last = self.address.to_bits() | !mask(self.prefix);
        (self.prefix < 31 && self.prefix > 0).then(|| Ipv4Addr::from_bits(last))
    }

    pub fn covers(&self, addr: Ipv4Addr) -> bool {
        (addr.to_bits() ^ self.address.to_bits()) & mask(self.prefix) == 0
    }

    /// Its subnet is on the link because of it; 0.0.0.0 is none, and groups have no subnets.
    fn has_prefix_route(&self) -> bool {
        let first = Ipv4Addr::from_bits(self.address.to_bits() & mask(self.prefix));
        let subnet =
            (self.prefix < 32 || self.address != self.local) && !first.is_unspecified() && !first.is_multicast();
        subnet && !self.secondary && !self.noprefixroute
    }

    fn same_subnet(&self, other: &IfAddr) -> bool {
        self.prefix == other.prefix && self.covers(other.address)
    }
}

/// Prefix length by the class of an address (`inet_abc_len`).
fn classful(addr: Ipv4Addr) -> Option<u8> {
    match addr.octets()[0] {
        0 => Some(0),
        1..=127 => Some(8),
        128..=191 => Some(16),
        192..=223 => Some(24),
        _ => None,
    }
}

impl Net {
    /// `ip addr add ADDR/PREFIX broadcast +`: EEXIST when it is there already.
    pub fn add_address(&mut self, dev: DevId, local: Ipv4Addr, prefix: u8) -> Result<(), Errno> {
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        if prefix > 32 || local.is_unspecified() || local.is_multicast() || local.is_broadcast() {
            return Err(Errno::EINVAL);
        }
        let mut addr = IfAddr::new(local, prefix);
        addr.broadcast = addr.subnet_broadcast().filter(|_| !d.noarp() && !d.is_loopback());
        self.insert_ifa(dev, addr)
    }

    /// An address with everything that netlink says of it. A primary one stands behind those that reach as far, a
    /// secondary one at the end.
    #[doc(alias = "__inet_insert_ifa")]
    pub fn insert_ifa(&mut self, dev: DevId, mut addr: IfAddr) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        if let Some(first) = d.addrs.iter().find(|a| a.same_subnet(&addr)) {
            if d.addrs.iter().any(|a| a.same_subnet(&addr) && a.local == addr.local) {
                return Err(Errno::EEXIST);
            }
            if first.scope != addr.scope {
                return Err(Errno::EINVAL);
            }
            addr.secondary = true;
        }
        if addr.label == IfName::default() {
            addr.label = IfName::new(&d.name);
        }
        let behind = d.addrs.iter().rposition(|a| !a.secondary && addr.scope <= a.scope).map_or(0, |n| n + 1);
        let at = if addr.secondary { d.addrs.len() } else { behind };
        d.addrs.insert(at, addr);
        let up = d.up;
        notify::addr4(self, RTM_NEWADDR, dev, &addr);
        self.fib_add_ifaddr(dev, addr, up);
        Ok(())
    }

    /// `ip addr change … metric N` of an address that is there: its subnet's route gets another metric.
    #[doc(alias = "fib_modify_prefix_metric")]
    pub(crate) fn set_ifa_metric(&mut self, dev: DevId, (local, prefix): (Ipv4Addr, u8), metric: u32) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let Some(a) = d.addrs.iter_mut().find(|a| a.local == local && a.prefix == prefix) else { return };
        let old = std::mem::replace(&mut a.metric, metric);
        let (a, ns, up, loopback) = (*a, d.ns, d.up, d.is_loopback());
        notify::addr4(self, RTM_NEWADDR, dev, &a);
        if old == metric || !a.has_prefix_route() || loopback {
            return;
        }
        self.fib_add_ifaddr(dev, a, up);
        let Some(n) = self.ns.get_mut(ns) else { return };
        let mut gone: Vec<Told> = Vec::new();
        n.fib.main.remove(a.address, prefix, |r| {
            let own = r.src == Some(local) && r.proto == Route::PROTO_KERNEL && r.dev == Some(dev);
            let goes = own && r.metric == old;
            gone.extend(goes.then_some((RT_TABLE_MAIN, a.address, prefix, *r)));
            goes
        });
        self.rt_cache_flush(ns);
        self.tell_routes(RTM_DELROUTE, ns, &gone);
    }

    /// `ip addr del`.
    pub fn del_address(&mut self, dev: DevId, local: Ipv4Addr, prefix: u8) -> Result<(), Errno> {
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let at = d.addrs.iter().position(|a| a.local == local && a.prefix == prefix).ok_or(Errno::EADDRNOTAVAIL)?;
        self.del_ifa(dev, at)
    }

    /// The address at a place of the list goes; with a primary one its secondaries, or with `promote_secondaries` the first
    /// of them takes its place.
    #[doc(alias = "__inet_del_ifa")]
    pub fn del_ifa(&mut self, dev: DevId, at: usize) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let ns = d.ns;
        if at >= d.addrs.len() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let gone = d.addrs.remove(at);
        let mut dead = Vec::new();
        let promote = d.conf.promote_secondaries && !gone.secondary;
        let heir = if promote { d.addrs.iter().position(|a| a.secondary && gone.same_subnet(a)) } else { None };
        if !gone.secondary && !promote {
            let goes = |a: &IfAddr| a.secondary && gone.same_subnet(a);
            dead.extend(d.addrs.iter().filter(|a| goes(a)));
            d.addrs.retain(|a| !goes(a));
        }
        dead.push(gone);
        for a in dead {
            self.masq_gone(dev, Some(a.local.to_bits().into()));
            notify::addr4(self, RTM_DELADDR, dev, &a);
            self.fib_del_ifaddr(dev, &a);
        }
        if let Some(at) = heir {
            self.forget_source(ns, dev, gone.local);
            self.promote(dev, at);
        }
        self.rt_cache_flush(ns);
        Ok(())
    }

    /// The routes of secondary addresses that prefer an address which is gone: they come again with another.
    fn forget_source(&mut self, ns: NsId, dev: DevId, src: Ipv4Addr) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        let goes = |r: &Route| r.dev == Some(dev) && r.src == Some(src) && r.proto == Route::PROTO_KERNEL;
        let of = |(dst, len, r): (Ipv4Addr, u8, &Route)| goes(r).then_some((RT_TABLE_LOCAL, dst, len, *r));
        let gone: Vec<Told> = n.fib.local.iter().filter_map(of).collect();
        for (table, dst, len, _) in &gone {
            n.fib.table_mut(*table).remove(*dst, *len, goes);
        }
        self.tell_routes(RTM_DELROUTE, ns, &gone);
    }

    /// A secondary address becomes the first of its subnet: behind the other primary ones, with the routes that those have.
    fn promote(&mut self, dev: DevId, at: usize) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let (up, mut heir) = (d.up, d.addrs.remove(at));
        heir.secondary = false;
        let behind = d.addrs.iter().rposition(|a| !a.secondary && heir.scope <= a.scope).map_or(0, |n| n + 1);
        d.addrs.insert(behind, heir);
        let others: Vec<IfAddr> = d.addrs.iter().filter(|a| a.secondary && heir.same_subnet(a)).copied().collect();
        notify::addr4(self, RTM_NEWADDR, dev, &heir);
        for a in std::iter::once(heir).chain(others) {
            self.fib_add_ifaddr(dev, a, up);
        }
    }

    /// The routes that came with an address go, and those that prefer it as their source.
    fn fib_del_ifaddr(&mut self, dev: DevId, a: &IfAddr) {
        let Some(ns) = self.devs.get(dev).map(|d| d.ns) else { return };
        let still =
            self.ns_devs(ns).any(|id| self.devs.get(id).is_some_and(|d| d.addrs.iter().any(|x| x.local == a.local)));
        let told: Vec<Ipv4Addr> = self.devs.get(dev).map_or_else(Vec::new, |d| {
            d.addrs.iter().flat_map(|x| x.broadcast.into_iter().chain(x.subnet_broadcast())).collect()
        });
        let mine = |r: &Route| r.dev == Some(dev);
        let mut gone: Vec<Told> = Vec::new();
        let Some(n) = self.ns.get_mut(ns) else { return };
        let mut take = |table: u32, dst: Ipv4Addr, len: u8, which: fn(&Route, &IfAddr) -> bool| {
            n.fib.table_mut(table).remove(dst, len, |r| {
                let goes = mine(r) && which(r, a);
                gone.extend(goes.then_some((table, dst, len, *r)));
                goes
            });
        };
        if !a.secondary {
            let own = |r: &Route, a: &IfAddr| r.src == Some(a.local) && r.proto == Route::PROTO_KERNEL;
            take(RT_TABLE_MAIN, a.address, a.prefix, own);
            if a.prefix < 32 {
                take(RT_TABLE_LOCAL, a.address, a.prefix, own);
            }
        }
        for b in a.broadcast.into_iter().chain(a.subnet_broadcast()).filter(|b| !told.contains(b)) {
            take(RT_TABLE_LOCAL, b, 32, |r, _| r.kind == RouteType::Broadcast);
        }
        if !still {
            take(RT_TABLE_LOCAL, a.local, 32, |r, _| r.kind == RouteType::Local);
            n.fib.forget_dev(|r| r.src == Some(a.local));
        }
        self.tell_routes(RTM_DELROUTE, ns, &gone);
    }

    fn tell_routes(&mut self, kind: u16, ns: NsId, routes: &[Told]) {
        for (table, dst, len, r) in routes {
            notify::route4(self, kind, 0, ns, *table, (Ipv4Addr::from_bits(dst.to_bits() & mask(*len)), *len), &[*r]);
        }
    }

    /// The routes that come with an address: itself in the local table; its subnet and broadcast while the device is up.
    pub(crate) fn fib_add_ifaddr(&mut self, dev: DevId, a: IfAddr, up: bool) {
        let Some((ns, loopback)) = self.devs.get(dev).map(|d| (d.ns, d.is_loopback())) else { return };
        let primary = |x: &&IfAddr| !x.secondary && a.same_subnet(x);
        let src = self.devs.get(dev).and_then(|d| d.addrs.iter().find(primary)).map_or(a.local, |p| p.local);
        let Some(n) = self.ns.get_mut(ns) else { return };
        let route = |kind, scope| Route {
            kind,
            dev: Some(dev),
            src: Some(src),
            scope,
            proto: Route::PROTO_KERNEL,
            ..Route::unicast(None, None)
        };
        let mut new: Vec<Told> = Vec::new();
        if up || !loopback {
            new.push((RT_TABLE_LOCAL, a.local, 32, route(RouteType::Local, Scope::Host)));
        }
        if up && a.has_prefix_route() {
            new.push(match loopback {
                true => (RT_TABLE_LOCAL, a.address, a.prefix, route(RouteType::Local, Scope::Host)),
                false => {
                    let subnet = Route { metric: a.metric, ..route(RouteType::Unicast, Scope::Link) };
                    (RT_TABLE_MAIN, a.address, a.prefix, subnet)
                }
            });
        }
        let all = a.subnet_broadcast().filter(|_| !a.secondary);
        for b in a.broadcast.into_iter().chain(all).filter(|b| up && !b.is_broadcast()) {
            new.push((RT_TABLE_LOCAL, b, 32, route(RouteType::Broadcast, Scope::Link)));
        }
        new.retain(|(table, dst, len, r)| n.fib.table_mut(*table).insert(*dst, *len, *r));
        self.rt_cache_flush(ns);
        self.tell_routes(RTM_NEWROUTE, ns, &new);
    }

    /// The address with a label, as the old requests name it: the first, or of several the one that they know already.
    pub fn ifa_by_label(&self, dev: DevId, label: &str, known: Option<Ipv4Addr>) -> Option<usize> {
        let d = self.devs.get(dev)?;
        let named = |a: &IfAddr| a.label.as_str() == label;
        let exact = d.addrs.iter().position(|a| named(a) && Some(a.local) == known);
        exact.or_else(|| d.addrs.iter().position(named))
    }

    /// Takes an address away and puts it back as `change` makes it.
    fn change_ifa(&mut self, dev: DevId, at: usize, change: impl FnOnce(&mut IfAddr)) -> Result<(), Errno> {
        let mut a = self.devs.get(dev).and_then(|d| d.addrs.get(at)).copied().ok_or(Errno::EADDRNOTAVAIL)?;
        let old = a;
        change(&mut a);
        if a == old {
            return Ok(());
        }
        self.del_ifa(dev, at)?;
        self.insert_ifa(dev, IfAddr { secondary: false, ..a })
    }

    /// SIOCSIFADDR: the address takes the place of the one with this label, with the prefix of its class; on a
    /// point-to-point device with 32. 0.0.0.0 takes it away.
    pub fn set_if_addr(&mut self, dev: DevId, label: &str, addr: Ipv4Addr) -> Result<(), Errno> {
        let prefix = classful(addr).ok_or(Errno::EINVAL)?;
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let (ptp, broadcasts) = (d.is_pointopoint(), !d.noarp() && !d.is_loopback());
        if let Some(at) = self.ifa_by_label(dev, label, None) {
            if self.devs.get(dev).and_then(|d| d.addrs.get(at)).is_some_and(|a| a.local == addr) {
                return Ok(());
            }
            self.del_ifa(dev, at)?;
        }
        if addr.is_unspecified() {
            return Ok(());
        }
        let mut a = IfAddr::new(addr, if ptp { 32 } else { prefix });
        a.label = IfName::new(label);
        a.broadcast = a.subnet_broadcast().filter(|_| broadcasts && !ptp);
        self.insert_ifa(dev, a)
    }

    /// SIOCSIFNETMASK: EINVAL for a mask with a hole, EADDRNOTAVAIL without an address.
    pub fn set_if_netmask(&mut self, dev: DevId, label: &str, netmask: Ipv4Addr) -> Result<(), Errno> {
        let prefix = netmask.to_bits().leading_ones() as u8;
        let at = self.ifa_by_label(dev, label, None).ok_or(Errno::EADDRNOTAVAIL)?;
        if mask(prefix) != netmask.to_bits() {
            return Err(Errno::EINVAL);
        }
        self.change_ifa(dev, at, |a| {
            let usual = a.broadcast.is_some() && a.broadcast == a.subnet_broadcast();
            a.prefix = prefix;
            if usual && prefix < 31 {
                a.broadcast = a.subnet_broadcast();
            }
        })
    }

    /// SIOCSIFBRDADDR.
    pub fn set_if_broadcast(&mut self, dev: DevId, label: &str, addr: Ipv4Addr) -> Result<(), Errno> {
        let at = self.ifa_by_label(dev, label, None).ok_or(Errno::EADDRNOTAVAIL)?;
        self.change_ifa(dev, at, |a| a.broadcast = Some(addr).filter(|b| !b.is_unspecified()))
    }

    /// SIOCSIFDSTADDR: the other end.
    pub fn set_if_peer(&mut self, dev: DevId, label: &str, addr: Ipv4Addr) -> Result<(), Errno> {
        let at = self.ifa_by_label(dev, label, None).ok_or(Errno::EADDRNOTAVAIL)?;
        classful(addr).ok_or(Errno::EINVAL)?;
        self.change_ifa(dev, at, |a| a.address = addr)
    }

    /// SIOCSIFFLAGS of a label behind a colon: down takes its address away, up is nothing new.
    pub fn set_alias_flags(&mut self, dev: DevId, label: &str, flags: u16) -> Result<(), Errno> {
        let at = self.ifa_by_label(dev, label, None).ok_or(Errno::EADDRNOTAVAIL)?;
        if u32::from(flags) & IFF_UP != 0 { Ok(()) } else { self.del_ifa(dev, at) }
    }

    /// SIOCSIFFLAGS: up or down, whether every frame is wanted or every group's, who is asked for by ARP, groups at all; some that
    /// are shown and mean nothing. The rest is not the program's.
    #[doc(alias = "__dev_change_flags")]
    pub fn set_if_flags(&mut self, dev: DevId, flags: u16) -> Result<(), Errno> {
        const SHOWN: u32 = IFF_DEBUG | IFF_NOTRAILERS | IFF_DYNAMIC | IFF_PORTSEL | IFF_AUTOMEDIA;
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let wanted = |bit: u32| u32::from(flags) & bit != 0;
        d.iff_more = u32::from(flags) & SHOWN;
        d.no_multicast = !wanted(IFF_MULTICAST);
        if !d.is_pointopoint() {
            d.iff_noarp = wanted(IFF_NOARP);
        }
        let changed = (u32::from(flags) ^ d.gflags) & (IFF_PROMISC | IFF_ALLMULTI);
        d.gflags ^= changed;
        for (bit, count) in [(IFF_PROMISC, &mut d.promiscuity), (IFF_ALLMULTI, &mut d.allmulti)] {
            match (changed & bit != 0, d.gflags & bit != 0) {
                (true, true) => *count = count.saturating_add(1),
                (true, false) => *count = count.saturating_sub(1),
                _ => {}
            }
        }
        self.set_link(dev, u32::from(flags) & IFF_UP != 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::kernel::Kernel;
    use belljar_abi::Errno;
    use core::net::Ipv4Addr;

    #[test]
    fn the_old_requests_replace_the_first_address() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        let tun = k.tun_create(ns, "tt%d", false, false).unwrap();
        let tap = k.tun_create(ns, "", true, false).unwrap();
        let (a, b) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        assert_eq!(k.net.set_if_netmask(tun, "tt0", mask), Err(Errno::EADDRNOTAVAIL));
        for (dev, name, prefix) in [(tun, "tt0", 32), (tap, "tap0", 8)] {
            k.net.set_if_addr(dev, name, a).unwrap();
            assert_eq!(k.net.devs.get(dev).unwrap().addrs[0].prefix, prefix);
            k.net.set_if_addr(dev, name, b).unwrap();
            k.net.set_if_netmask(dev, name, mask).unwrap();
            let addrs = |k: &Kernel| -> Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)> {
                k.net.devs.get(dev).unwrap().addrs.iter().map(|a| (a.local, a.prefix, a.broadcast)).collect()
            };
            let all = (prefix == 8).then_some(Ipv4Addr::new(10, 99, 0, 255));
            assert_eq!(addrs(&k), [(b, 24, all)]);
            assert_eq!(k.net.set_if_netmask(dev, name, Ipv4Addr::new(255, 0, 255, 0)), Err(Errno::EINVAL));
            // A label of its own is an address of its own.
            let alias = format!("{name}:1");
            k.net.set_if_addr(dev, &alias, a).unwrap();
            k.net.set_if_broadcast(dev, &alias, Ipv4Addr::BROADCAST).unwrap();
            assert_eq!(addrs(&k).len(), 2);
            assert_eq!(k.net.set_alias_flags(dev, &alias, 0), Ok(()));
            assert_eq!(k.net.set_alias_flags(dev, &alias, 0), Err(Errno::EADDRNOTAVAIL));
            assert_eq!(addrs(&k), [(b, 24, all)]);
            k.net.set_if_addr(dev, name, Ipv4Addr::UNSPECIFIED).unwrap();
            assert!(k.net.devs.get(dev).unwrap().addrs.is_empty());
        }
        assert_eq!(k.tun_create(ns, "tt0", false, false), Err(Errno::EBUSY));
        k.net.unregister_netdev(tun);
        assert!(k.tun_create(ns, "tt0", false, false).is_ok());
    }
}
