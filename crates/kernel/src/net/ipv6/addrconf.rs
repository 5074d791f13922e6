//! The addresses of an interface: link-local at once, others by the administrator or by what routers advertise (SLAAC, RFC
//! 4862); duplicate address detection; lifetimes; asking for routers.
use super::fib::{PRIO_ADDRCONF, PROTO_KERNEL, PROTO_RA, Route6};
use super::mcast::{self, Group6};
use super::stable::{GEN_MODE_NONE, GEN_MODE_RANDOM};
use super::{anycast, mld, ndisc};
use crate::env::timers::Fire;
use crate::env::{Fired, Nanos, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::ipv4::fib::RouteType;
use crate::net::netlink::notify;
use crate::net::sysctl::Conf6;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::{
    IFA_F_NOPREFIXROUTE, IFA_F_OPTIMISTIC, IFA_F_STABLE_PRIVACY, IFA_F_TEMPORARY, RTM_DELADDR,
};
use belljar_wire::Mac;
use belljar_wire::ipv6::{ALL_NODES, IPV6_MIN_MTU, is_linklocal, solicited_node};
use core::net::Ipv6Addr;

/// Routes that routers of a link make: addresses' prefixes, and themselves. Nobody has so many; who sends more gets no more
/// memory for it.
const MOST_LINK_ROUTES: usize = 256;

/// How far an address reaches; the numbers are those of groups (RFC 4291 §2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope6 {
    Interface = 1,
    Link = 2,
    Site = 5,
    Org = 8,
    Global = 14,
}

impl Scope6 {
    #[doc(alias = "ipv6_addr_src_scope")]
    pub fn of(a: Ipv6Addr) -> Scope6 {
        let first = a.segments()[0];
        if a.is_multicast() {
            return match first & 15 {
                0..=1 => Scope6::Interface,
                2 => Scope6::Link,
                3..=5 => Scope6::Site,
                6..=8 => Scope6::Org,
                _ => Scope6::Global,
            };
        }
        match first {
            _ if a.is_loopback() || is_linklocal(a) => Scope6::Link,
            x if x & 0xffc0 == 0xfec0 => Scope6::Site,
            _ => Scope6::Global,
        }
    }
}

/// Where duplicate address detection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dad {
    Done,
    /// It begins then.
    Waits(Nanos),
    /// So many questions are still to be asked, the next at this time; with none left, nobody objected until then.
    Asking(u32, Nanos),
}

/// `struct inet6_ifaddr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct If6Addr {
    pub addr: Ipv6Addr,
    pub prefix: u8,
    pub dad: Dad,
    /// Somebody else has it.
    pub dadfailed: bool,
    /// Nobody is asked whether it is free (IFA_F_NODAD), now and whenever the interface comes up.
    pub nodad: bool,
    /// In the last question about it.
    pub nonce: Option<[u8; 6]>,
    /// Not from a router's prefix.
    pub permanent: bool,
    /// `None`: for ever.
    pub valid: Option<Nanos>,
    pub preferred: Option<Nanos>,
    /// The other end of the link, with whose prefix it has to do.
    pub peer: Option<Ipv6Addr>,
    /// IFA_F_NOPREFIXROUTE, IFA_F_MANAGETEMPADDR, IFA_F_HOMEADDRESS, IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_STABLE_PRIVACY.
    pub flags: u32,
    /// Of a temporary one: the address that it stands for, and when it was made.
    pub public: Option<Ipv6Addr>,
    pub created: Nanos,
    /// How often a temporary one was made in vain; of a temporary one, whether its successor was made.
    pub regen: u32,
    /// Of one by a secret: how many before it were somebody else's.
    pub retries: u8,
    /// IFA_RT_PRIORITY: the metric of its prefix's route; 0: as ever.
    pub rt_priority: u32,
}

impl If6Addr {
    /// For ever.
    pub fn new(addr: Ipv6Addr, prefix: u8) -> If6Addr {
        If6Addr {
            addr,
            prefix,
            dad: Dad::Done,
            dadfailed: false,
            nodad: false,
            nonce: None,
            permanent: true,
            valid: None,
            preferred: None,
            peer: None,
            flags: 0,
            public: None,
            created: 0,
            regen: 0,
            retries: 0,
            rt_priority: 0,
        }
    }

    pub fn temporary(&self) -> bool {
        self.flags & IFA_F_TEMPORARY != 0
    }

    fn metric(&self) -> u32 {
        if self.rt_priority == 0 { PRIO_ADDRCONF } else { self.rt_priority }
    }

    /// Its prefix is on the link because of it.
    pub(super) fn has_prefix_route(&self) -> bool {
        self.flags & (IFA_F_NOPREFIXROUTE | IFA_F_TEMPORARY) == 0
    }

    pub fn tentative(&self) -> bool {
        self.dad != Dad::Done
    }

    /// It is in use while others are still asked whether it is theirs (RFC 4429).
    pub fn optimistic(&self) -> bool {
        self.flags & IFA_F_OPTIMISTIC != 0
    }

    /// Packets to it are taken.
    pub fn usable(&self) -> bool {
        !self.tentative() || self.optimistic()
    }

    pub fn deprecated(&self, now: Nanos) -> bool {
        self.preferred.is_some_and(|at| at <= now)
    }
}

/// `struct inet6_dev`.
#[derive(Clone, Debug, Default)]
pub struct Inet6Dev {
    pub conf: Conf6,
    /// IF_READY: since it came up it had a carrier, and what IPv6 does with a link has begun.
    pub ready: bool,
    pub addrs: Vec<If6Addr>,
    pub groups: Vec<Group6>,
    pub anycast: anycast::Anycasts,
    /// The next question for routers, when, how many were sent, and the wait after it.
    pub(super) rs: Option<(Nanos, u32, Nanos)>,
    pub(super) mld: mld::Mld,
    /// Seconds that temporary addresses are preferred for less, so that not all hosts change at once; `None`: not drawn yet.
    pub(super) desync: Option<u32>,
    timer: TimerSlot,
}

impl Inet6Dev {
    /// `private`: there can be temporary addresses.
    pub fn new(mut conf: Conf6, private: bool) -> Inet6Dev {
        if !private {
            conf.use_tempaddr = -1;
        }
        conf.mtu = 0;
        Inet6Dev { conf: conf.of_device(), ..Inet6Dev::default() }
    }

    pub fn enabled(&self) -> bool {
        self.conf.disable_ipv6 == 0
    }

    pub fn has_group(&self, group: Ipv6Addr) -> bool {
        self.groups.iter().any(|g| g.addr == group && !g.left)
    }

    /// What IPv6 packets may take on a device.
    #[doc(alias = "ip6_mtu_from_fib6")]
    pub fn mtu(&self, dev_mtu: u32) -> u32 {
        if self.conf.mtu == 0 { dev_mtu } else { self.conf.mtu.min(dev_mtu) }
    }

    pub fn hop_limit(&self) -> u8 {
        self.conf.hop_limit as u8
    }

    /// The link-local address that is in use.
    pub fn linklocal(&self) -> Option<Ipv6Addr> {
        self.addrs.iter().find(|a| is_linklocal(a.addr) && !a.tentative() && !a.dadfailed).map(|a| a.addr)
    }
}

/// Modified EUI-64 (RFC 4291, appendix A).
#[doc(alias = "addrconf_ifid_eui48")]
pub(super) fn eui64(mac: Mac) -> u64 {
    let m = mac.0;
    u64::from_be_bytes([m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]])
}

/// `prefix` with the interface's own identifier behind it.
pub(super) fn with_id(prefix: Ipv6Addr, id: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() & !u128::from(u64::MAX) | u128::from(id))
}

impl Net {
    /// IPv6 on every interface of a namespace, present and to come, as a Linux namespace has it from the beginning.
    pub fn enable_ipv6(&mut self, ns: NsId) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        (n.v6.conf_all.disable_ipv6, n.v6.conf_default.disable_ipv6) = (0, 0);
        let devs: Vec<DevId> = self.ns_devs(ns).collect();
        devs.into_iter().for_each(|dev| self.set_disable_ipv6(dev, false));
    }

    /// `net.ipv6.conf.IF.disable_ipv6`.
    #[doc(alias = "dev_disable_change")]
    pub fn set_disable_ipv6(&mut self, dev: DevId, off: bool) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        if d.inet6.enabled() != off {
            return;
        }
        d.inet6.conf.disable_ipv6 = off.into();
        let up = d.up;
        match off {
            true => self.addrconf_down(dev, true),
            false if up => self.addrconf_open(dev),
            false => {}
        }
    }

    /// The interface came up, or IPv6 was turned on for it. Without a carrier the prefixes of its addresses are on the link all the
    /// same; everything else waits.
    #[doc(alias = "addrconf_permanent_addr")]
    pub(crate) fn addrconf_open(&mut self, dev: DevId) {
        let Some(d) = self.devs.get(dev).filter(|d| d.speaks_ipv6()) else { return };
        let was = d.inet6.mtu(d.mtu);
        self.rt6_mtu_change(dev, was, 0);
        let Some(d) = self.devs.get(dev) else { return };
        if d.carrier {
            return self.addrconf_up(dev);
        }
        let kept: Vec<Ipv6Addr> = d.inet6.addrs.iter().filter(|a| a.permanent).map(|a| a.addr).collect();
        kept.into_iter().for_each(|a| self.begin_address(dev, a));
    }

    /// The interface that is up has a carrier.
    #[doc(alias = "addrconf_dev_config")]
    pub(crate) fn addrconf_up(&mut self, dev: DevId) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        if !d.speaks_ipv6() || d.inet6.ready {
            return;
        }
        d.inet6.ready = true;
        let (ns, loopback) = (d.ns, d.is_loopback());
        let forwards = d.inet6.conf.forwarding != 0;
        mcast::join(self, dev, ALL_NODES);
        if forwards {
            mcast::router(self, dev, true);
        }
        if loopback {
            let _ = self.add_address6(dev, Ipv6Addr::LOCALHOST, 128, false);
            return;
        }
        self.add_mroute(ns, dev);
        // What stayed (keep_addr_on_down) or was given before begins now.
        let waiting: Vec<If6Addr> = self.devs.get(dev).map_or_else(Vec::new, |d| d.inet6.addrs.clone());
        waiting.into_iter().for_each(|a| self.begin_address(dev, a.addr));
        self.add_linklocal(dev);
    }

    #[doc(alias = "addrconf_add_mroute")]
    fn add_mroute(&mut self, ns: NsId, dev: DevId) {
        if let Some(n) = self.ns.get_mut(ns) {
            let group = Route6 { metric: PRIO_ADDRCONF, proto: PROTO_KERNEL, ..Route6::unicast(None, Some(dev)) };
            n.v6.fib.local.insert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, group);
        }
    }

    /// The link-local address of an interface that came up.
    #[doc(alias = "addrconf_addr_gen")]
    fn add_linklocal(&mut self, dev: DevId) {
        const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        let Some(d) = self.devs.get(dev) else { return };
        let ns = d.ns;
        if d.inet6.conf.addr_gen_mode == GEN_MODE_RANDOM {
            self.random_secret(dev);
        }
        let Some(d) = self.devs.get(dev) else { return };
        let (addr, stable) = match (&d.kind, d.is_pointopoint()) {
            _ if d.inet6.conf.addr_gen_mode == GEN_MODE_NONE => return,
            _ if d.inet6.is_stable() => (self.stable_address(dev, PREFIX, 0), IFA_F_STABLE_PRIVACY),
            (DevKind::Tunnel(t), true) => (t.interface_id().map(|id| with_id(PREFIX, id)), 0),
            // Without a hardware address: an identifier by chance.
            (_, true) => (Some(with_id(PREFIX, self.env.rng.next_u64() & !(2 << 56))), 0),
            _ => (Some(with_id(PREFIX, eui64(d.mac))), 0),
        };
        let Some(addr) = addr else { return };
        let flags = stable | if self.autoconf_optimistic(ns, dev) { IFA_F_OPTIMISTIC } else { 0 };
        let _ = self.insert_address6(dev, If6Addr { flags, ..If6Addr::new(addr, 64) });
    }

    /// `net.ipv6.conf.IF.addr_gen_mode`: 0 by the hardware address (EUI-64), 1 none, 2 by a secret, 3 by a secret of chance. An
    /// address that is there stays.
    pub(super) fn set_addr_gen_mode(&mut self, dev: DevId, mode: u32) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let was = std::mem::replace(&mut d.inet6.conf.addr_gen_mode, mode);
        if was != mode && d.up && !d.is_loopback() && d.inet6.enabled() && d.mtu >= IPV6_MIN_MTU {
            self.add_linklocal(dev);
        }
    }

    /// The interface went down: addresses go unless keep_addr_on_down says otherwise, and all that came with them.
    #[doc(alias = "addrconf_ifdown")]
    pub(crate) fn addrconf_down(&mut self, dev: DevId, disabled: bool) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let (ns, i) = (d.ns, &mut d.inet6);
        let keep = i.conf.keep_addr_on_down > 0 && !disabled;
        let stays = |a: &If6Addr| keep && a.permanent && !is_linklocal(a.addr);
        let (kept, gone): (Vec<If6Addr>, Vec<If6Addr>) = i.addrs.drain(..).partition(stays);
        i.addrs = kept;
        i.addrs.iter_mut().filter(|a| !a.nodad).for_each(|a| a.dad = Dad::Waits(Nanos::MAX));
        i.ready = false;
        i.groups.clear();
        i.anycast.down();
        (i.rs, i.mld) = (None, mld::Mld::default());
        i.timer.cancel();
        self.rt6_sync_down(ns, dev, false);
        for temporary in [true, false] {
            let gone = gone.iter().filter(|a| a.temporary() == temporary);
            gone.for_each(|a| notify::addr6(self, RTM_DELADDR, dev, a));
        }
    }

    /// Who passes packets on does not ask others for the way out.
    #[doc(alias = "rt6_purge_dflt_routers")]
    pub(super) fn purge_default_routers(&mut self, dev: DevId) {
        let Some(d) = self.devs.get(dev).filter(|d| d.inet6.conf.accept_ra < 2) else { return };
        if let Some(n) = self.ns.get_mut(d.ns) {
            n.v6.fib.main.remove_all(|r| r.proto == PROTO_RA && r.gateway.is_some() && r.dev == Some(dev));
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    /// `ip -6 addr add`: EACCES where IPv6 is off, EEXIST when it is there already.
    #[doc(alias = "ipv6_add_addr")]
    pub fn add_address6(&mut self, dev: DevId, addr: Ipv6Addr, prefix: u8, nodad: bool) -> Result<(), Errno> {
        self.insert_address6(dev, If6Addr { nodad, ..If6Addr::new(addr, prefix) })
    }

    pub(super) fn insert_address6(&mut self, dev: DevId, a: If6Addr) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let lo_only = a.addr.is_loopback() && !d.is_loopback();
        if a.prefix > 128 || a.addr.is_unspecified() || a.addr.is_multicast() || lo_only {
            return Err(if lo_only || a.addr.is_multicast() { Errno::EADDRNOTAVAIL } else { Errno::EINVAL });
        }
        if d.mtu < IPV6_MIN_MTU {
            return Err(Errno::EINVAL);
        }
        if !d.inet6.enabled() {
            return Err(Errno::EACCES);
        }
        if d.inet6.addrs.iter().any(|x| x.addr == a.addr) {
            return Err(Errno::EEXIST);
        }
        let (ns, up, loopback) = (d.ns, d.up, d.is_loopback());
        // In the order of scope, widest first; the newest first among equals.
        let scope = Scope6::of(a.addr);
        let at = d.inet6.addrs.partition_point(|x| Scope6::of(x.addr) > scope);
        d.inet6.addrs.insert(at, a);
        if up && !loopback {
            self.add_mroute(ns, dev);
        }
        match a.dad {
            Dad::Waits(_) => self.arm_addrconf(dev),
            _ => self.begin_address(dev, a.addr),
        }
        Ok(())
    }

    /// What an address says of its own prefix, or of that of its peer.
    pub(super) fn prefix_route_of(&mut self, ns: NsId, dev: DevId, a: &If6Addr, (to, len): (Ipv6Addr, u8)) {
        let expires = if to == a.addr { a.valid } else { None };
        self.prefix_route(ns, dev, (to, len), expires, a.metric());
    }

    pub(super) fn prefix_route(
        &mut self,
        ns: NsId,
        dev: DevId,
        (addr, prefix): (Ipv6Addr, u8),
        expires: Option<Nanos>,
        metric: u32,
    ) {
        let route = Route6 { metric, proto: PROTO_KERNEL, expires, ..Route6::unicast(None, Some(dev)) };
        if let Some(n) = self.ns.get_mut(ns) {
            let same = |r: &Route6| r.dev == Some(dev) && r.metric == metric && r.gateway.is_none();
            n.v6.fib.main.edit(addr, prefix, |routes| routes.retain(|r| !same(r)));
            n.v6.fib.main.insert(addr, prefix, route);
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    pub(super) fn del_prefix_route(&mut self, dev: DevId, addr: Ipv6Addr, prefix: u8) {
        let Some(n) = self.devs.get(dev).and_then(|d| self.ns.get_mut(d.ns)) else { return };
        n.v6.fib.main.edit(addr, prefix, |r| r.retain(|r| r.dev != Some(dev) || r.proto != PROTO_KERNEL));
        n.rt_genid = n.rt_genid.wrapping_add(1);
    }

    pub(super) fn address_mut(&mut self, dev: DevId, addr: Ipv6Addr) -> Option<&mut If6Addr> {
        self.devs.get_mut(dev)?.inet6.addrs.iter_mut().find(|a| a.addr == addr)
    }

    pub(super) fn is_router6(&self, dev: DevId) -> bool {
        self.devs.get(dev).is_some_and(|d| d.inet6.conf.forwarding != 0)
    }

    /// `ip -6 addr del`; its prefix stays on the link while another address has it.
    #[doc(alias = "ipv6_del_addr")]
    pub fn del_address6(&mut self, dev: DevId, addr: Ipv6Addr) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let at = d.inet6.addrs.iter().position(|a| a.addr == addr).ok_or(Errno::EADDRNOTAVAIL)?;
        let gone = d.inet6.addrs.remove(at);
        let ns = d.ns;
        notify::addr6(self, RTM_DELADDR, dev, &gone);
        if self.is_router6(dev) && !gone.tentative() {
            anycast::subnet(self, dev, addr, gone.prefix, false);
        }
        let Some(d) = self.devs.get(dev) else { return Ok(()) };
        let mask = super::fib::mask(gone.prefix);
        let shared = |a: &If6Addr| {
            a.prefix == gone.prefix && a.has_prefix_route() && (a.addr.to_bits() ^ addr.to_bits()) & mask == 0
        };
        // One for a time leaves the route to end by itself.
        let still = !gone.permanent || !gone.has_prefix_route() || d.inet6.addrs.iter().any(shared);
        self.delete_tempaddrs(dev, addr);
        mcast::leave(self, dev, solicited_node(addr));
        if let Some(n) = self.ns.get_mut(ns) {
            n.v6.fib.local.edit(addr, 128, |r| r.retain(|r| r.dev != Some(dev)));
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
        if let Some(peer) = gone.peer {
            self.del_prefix_route(dev, peer, 128);
        }
        if !still {
            self.del_prefix_route(dev, addr, gone.prefix);
        }
        Ok(())
    }

    /// Wakes for what is due first on the device.
    pub(super) fn arm_addrconf(&mut self, dev: DevId) {
        let hz = self.env.hz;
        let Some(d) = self.devs.get_mut(dev) else { return };
        let i = &d.inet6;
        let dad = i.addrs.iter().filter_map(|a| match a.dad {
            Dad::Asking(_, at) | Dad::Waits(at) if at != Nanos::MAX => Some(at),
            _ => None,
        });
        let ends = i.addrs.iter().filter_map(|a| a.valid).chain(i.regen_due());
        let routes = self.ns.get(d.ns).and_then(|n| n.v6.fib.main.next_expiry());
        let groups = i.mld.due().chain(mld::groups_due(&i.groups)).chain(i.anycast.due());
        let due = dad.chain(ends).chain(routes).chain(i.rs.map(|r| r.0)).chain(groups);
        let Some(first) = due.min() else { return };
        let tick = time::round_up(first.max(self.env.now), hz).max(self.env.jiffies() + 1);
        let Some(d) = self.devs.get_mut(dev) else { return };
        self.env.timers.arm(&mut d.inet6.timer, tick, TimerKey::Addrconf(dev));
    }

    /// Something of an interface's addresses is due.
    #[doc(alias = "addrconf_verify_work")]
    #[doc(alias = "addrconf_rs_timer")]
    pub(crate) fn addrconf_timer(&mut self, dev: DevId, at: Fired) {
        let (jiffies, now) = (self.env.jiffies(), self.env.now);
        let Some(d) = self.devs.get_mut(dev) else { return };
        if self.env.timers.look(&mut d.inet6.timer, at, jiffies, TimerKey::Addrconf(dev)) == Fire::NotYet {
            return;
        }
        let addrs = d.inet6.addrs.clone();
        for a in addrs {
            if a.valid.is_some_and(|v| v <= now) {
                let _ = self.del_address6(dev, a.addr);
                continue;
            }
            self.dad_work(dev, &a);
        }
        self.regen_tempaddrs(dev);
        self.forget_routes(dev);
        self.solicit_routers(dev);
        mld::run(self, dev);
        anycast::run(self, dev);
        self.arm_addrconf(dev);
    }

    /// Router solicitations with their back-off (RFC 7559).
    fn solicit_routers(&mut self, dev: DevId) {
        let now = self.env.now;
        let Some(d) = self.devs.get_mut(dev) else { return };
        let conf = d.inet6.conf;
        let Some((_, sent, wait)) = d.inet6.rs.filter(|r| r.0 <= now) else { return };
        let most = conf.router_solicitations;
        if most >= 0 && sent as i32 >= most {
            d.inet6.rs = None;
            return;
        }
        let longest = u64::from(conf.router_solicitation_max_interval) * SEC;
        d.inet6.rs = Some((now + wait, sent + 1, (wait * 2).min(longest)));
        ndisc::send_rs(self, dev);
    }

    /// Whether routers may add a route through a device.
    pub(super) fn has_room_for_route(&self, ns: NsId, dev: DevId) -> bool {
        let of_link = |r: &Route6| r.dev == Some(dev) && matches!(r.proto, PROTO_KERNEL | PROTO_RA);
        self.ns.get(ns).is_some_and(|n| n.v6.fib.main.iter().filter(|(_, _, r)| of_link(r)).count() < MOST_LINK_ROUTES)
    }

    /// What routers advertised ends unless they say it again.
    #[doc(alias = "fib6_run_gc")]
    fn forget_routes(&mut self, dev: DevId) {
        let now = self.env.now;
        let Some(n) = self.devs.get(dev).and_then(|d| self.ns.get_mut(d.ns)) else { return };
        if n.v6.fib.main.next_expiry().is_some_and(|at| at <= now) {
            n.v6.fib.main.remove_all(|r| r.expires.is_some_and(|at| at <= now));
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }
}

/// Every route of a device that leads to one of its own addresses, for `check()`.
pub(crate) fn is_consistent(net: &Net, ns: NsId) -> bool {
    let Some(n) = net.ns.get(ns) else { return true };
    let own = |r: &Route6| matches!(r.kind, RouteType::Local | RouteType::Anycast);
    n.v6.fib.local.iter().filter(|(_, _, r)| own(r)).all(|(dst, _, r)| {
        let d = r.dev.and_then(|d| net.devs.get(d));
        d.is_some_and(|d| match r.kind {
            RouteType::Anycast => d.inet6.anycast.has(dst),
            // One that was used too early and is somebody else's keeps its route, as on Linux.
            _ => d.inet6.addrs.iter().any(|a| a.addr == dst && (!a.tentative() || a.optimistic() || a.dadfailed)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_scopes() {
        let a = with_id("fe80::".parse().unwrap(), eui64(Mac([0x52, 0x55, 10, 0, 2, 15])));
        assert_eq!(a.to_string(), "fe80::5055:aff:fe00:20f");
        let of = |a: &str| Scope6::of(a.parse().unwrap());
        assert_eq!((of("::1"), of("fe80::1"), of("fd00::1")), (Scope6::Link, Scope6::Link, Scope6::Global));
        assert_eq!(
            (of("ff01::1"), of("ff02::1"), of("ff05::1"), of("ff0e::1")),
            (Scope6::Interface, Scope6::Link, Scope6::Site, Scope6::Global)
        );
    }
}
