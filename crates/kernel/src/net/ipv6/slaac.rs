//! Addresses for a time: from the prefixes that routers announce (RFC 4862 §5.5.3), temporary ones beside them (RFC 8981), and
//! lifetimes by hand.
use super::addrconf::{If6Addr, Inet6Dev, with_id};
use super::fib::{PRIO_ADDRCONF, PROTO_RA, Route6};
use crate::env::{Nanos, SEC};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dst_metrics::DstMetrics;
use crate::net::ipv4::fib::RT_TABLE_MAIN;
use crate::net::netlink::notify;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::{
    IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_OPTIMISTIC, IFA_F_STABLE_PRIVACY, IFA_F_TEMPORARY, RTAX_HOPLIMIT,
    RTAX_MTU, RTM_NEWADDR,
};
use belljar_wire::ipv6::{IPV6_MIN_MTU, is_linklocal};
use core::net::Ipv6Addr;

/// Temporary addresses of an interface: one a day for as long as any is valid is far less.
const MOST_TEMPORARY: usize = 256;

/// The earlier of two ends, of which `None` never comes.
fn earlier(a: Option<Nanos>, b: Nanos) -> Nanos {
    a.map_or(b, |a| a.min(b))
}

impl Inet6Dev {
    /// How long before the end of one temporary address the next is made: the time to ask for all that may be taken.
    #[doc(alias = "ipv6_get_regen_advance")]
    fn regen_advance(&self) -> Nanos {
        // Questions are a second apart; a setting that says otherwise moves this by less than `regen_min_advance`.
        let asking =
            u64::from(self.conf.regen_max_retry.max(0) as u32) * u64::from(self.conf.dad_transmits.max(0) as u32);
        (u64::from(self.conf.regen_min_advance.max(0) as u32) + asking) * SEC
    }

    /// When temporary addresses are to be followed by new ones.
    pub(super) fn regen_due(&self) -> impl Iterator<Item = Nanos> {
        let advance = self.regen_advance();
        let waits = |a: &&If6Addr| a.temporary() && !a.tentative() && a.regen == 0;
        self.addrs.iter().filter(waits).filter_map(move |a| Some(a.preferred?.saturating_sub(advance)))
    }

    /// Until when a temporary address made at `from` is valid and preferred at most.
    fn temp_ends(&self, from: Nanos) -> (Nanos, Nanos) {
        let preferred = u64::from((self.conf.temp_prefered_lft.max(0) as u32).saturating_sub(self.desync.unwrap_or(0)));
        (from + u64::from(self.conf.temp_valid_lft.max(0) as u32) * SEC, from + preferred * SEC)
    }
}

/// Identifiers that mean something (RFC 5453).
#[doc(alias = "ipv6_reserved_interfaceid")]
pub(super) fn is_reserved(id: u64) -> bool {
    let isatap = matches!(id >> 32, 0x0000_5efe | 0x0200_5efe);
    let anycast = id & !0x7f == 0xfdff_ffff_ffff_ff80;
    id == 0 || isatap || anycast
}

/// What `ip -6 addr add` and `change` say.
#[derive(Clone, Copy, Debug)]
pub struct Cfg6 {
    pub addr: Ipv6Addr,
    pub prefix: u8,
    pub peer: Option<Ipv6Addr>,
    /// IFA_F_NODAD and the flags that an address keeps.
    pub flags: u32,
    pub nodad: bool,
    /// Seconds; all ones is for ever.
    pub valid: u32,
    pub preferred: u32,
    /// IFA_RT_PRIORITY.
    pub rt_priority: u32,
}

impl Cfg6 {
    fn apply(&self, a: &mut If6Addr, now: Nanos) {
        let until = |secs: u32| (secs != u32::MAX).then(|| now + u64::from(secs) * SEC);
        (a.peer, a.flags, a.nodad, a.rt_priority) = (self.peer, self.flags, self.nodad, self.rt_priority);
        (a.valid, a.preferred) = (until(self.valid), until(self.preferred));
        a.permanent = a.valid.is_none();
    }
}

impl Net {
    /// A prefix that a router announced: on the link, and good for an address of our own (RFC 4862 §5.5.3).
    #[doc(alias = "addrconf_prefix_rcv")]
    pub(super) fn prefix_rcv(&mut self, dev: DevId, b: &[u8], sllao: bool) {
        const ONLINK: u8 = 0x80;
        const AUTONOMOUS: u8 = 0x40;
        const PREFERS_PD: u8 = 0x10;
        let Some(&[len, flags, v0, v1, v2, v3, p0, p1, p2, p3]) = b.first_chunk() else { return };
        let Some(prefix) = b.get(14..30).and_then(|p| p.first_chunk::<16>()).map(|p| Ipv6Addr::from(*p)) else {
            return;
        };
        let (valid, preferred) = (u32::from_be_bytes([v0, v1, v2, v3]), u32::from_be_bytes([p0, p1, p2, p3]));
        let now = self.env.now;
        let Some((ns, conf)) = self.devs.get(dev).map(|d| (d.ns, d.inet6.conf)) else { return };
        let short = valid != 0 && i64::from(conf.accept_ra_min_lft) > valid.into();
        if prefix.is_multicast() || is_linklocal(prefix) || preferred > valid || len > 128 || short {
            return;
        }
        let until = |secs: u32| (secs != u32::MAX).then(|| now + u64::from(secs) * SEC);
        if flags & ONLINK != 0 {
            if valid == 0 {
                if let Some(n) = self.ns.get_mut(ns) {
                    n.v6.fib.main.edit(prefix, len, |r| r.retain(|r| r.dev != Some(dev) || r.expires.is_none()));
                }
            } else if self.ns.get(ns).is_some_and(|n| !n.v6.fib.main.get(prefix, len).is_empty())
                || self.has_room_for_route(ns, dev)
            {
                self.prefix_route(ns, dev, (prefix, len), until(valid), PRIO_ADDRCONF);
            }
        }
        // Who takes a prefix of its own from DHCP makes no address of this one (RFC 9762).
        let own_prefix = conf.ra_honor_pio_pflag != 0 && flags & PREFERS_PD != 0;
        if flags & AUTONOMOUS == 0 || conf.autoconf == 0 || own_prefix || len != 64 {
            return;
        }
        let Some((addr, stable)) = self.autoconf_address(dev, prefix) else { return };
        let optimistic = sllao && self.autoconf_optimistic(ns, dev);
        let flags = IFA_F_MANAGETEMPADDR | stable | if optimistic { IFA_F_OPTIMISTIC } else { 0 };
        let new = self.address_mut(dev, addr).is_none();
        if let Some(a) = self.address_mut(dev, addr) {
            // RFC 4862 §5.5.3 e: less than two hours is not believed unless it is more than what is left.
            let left = a.valid.map_or(u64::MAX, |v| v.saturating_sub(now));
            let told = u64::from(valid) * SEC;
            if told > 7200 * SEC || told > left || conf.ra_honor_pio_life != 0 {
                a.valid = until(valid);
            } else if left > 7200 * SEC {
                a.valid = Some(now + 7200 * SEC);
            }
            a.preferred = until(preferred);
        } else if valid != 0 && self.has_room_for_address(dev) {
            let (valid, preferred) = (until(valid), until(preferred));
            let a = If6Addr { permanent: false, valid, preferred, flags, ..If6Addr::new(addr, len) };
            let _ = self.insert_address6(dev, a);
        }
        self.manage_tempaddrs(dev, addr, new);
        self.arm_addrconf(dev);
    }

    /// The hop limit that a router advertises is the interface's from then on, and that of its way out.
    pub(super) fn ra_hop_limit(&mut self, dev: DevId, router: Ipv6Addr, hops: u8) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        d.inet6.conf.hop_limit = hops.into();
        self.ra_metric(dev, router, RTAX_HOPLIMIT, hops.into());
    }

    /// The same of an MTU that IPv6 can do with and the device can carry.
    pub(super) fn ra_mtu(&mut self, dev: DevId, router: Ipv6Addr, mtu: u32) {
        let Some(d) = self.devs.get(dev) else { return };
        let was = d.inet6.mtu(d.mtu);
        if (IPV6_MIN_MTU..=d.mtu).contains(&mtu) && was != mtu {
            self.ra_metric(dev, router, RTAX_MTU, mtu);
            self.rt6_mtu_change(dev, was, mtu);
        }
    }

    fn ra_metric(&mut self, dev: DevId, router: Ipv6Addr, which: u16, value: u32) {
        let of_router = |r: &Route6| r.dev == Some(dev) && r.gateway == Some(router) && r.proto == PROTO_RA;
        let Some(ns) = self.devs.get(dev).map(|d| d.ns) else { return };
        self.change_metrics6(ns, |table, len, r, m| {
            (table == RT_TABLE_MAIN && len == 0 && of_router(r)).then(|| m.set(which, value))
        });
    }

    /// The MTU of an interface's IPv6 is another than it `was`, for 0 the device's; routes through it follow whose own is wider, or
    /// was as wide.
    pub(crate) fn rt6_mtu_change(&mut self, dev: DevId, was: u32, mtu: u32) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        d.inet6.conf.mtu = mtu;
        let (ns, now) = (d.ns, d.inet6.mtu(d.mtu));
        self.change_metrics6(ns, |_, _, r, m| {
            let old = m.get(RTAX_MTU);
            let follows = r.dev == Some(dev) && old != 0 && !m.locked(RTAX_MTU) && (old >= now || old == was);
            (follows && old != now).then(|| m.set(RTAX_MTU, now))
        });
    }

    /// `change` says of each route, by table and length, whether it gave it other metrics.
    fn change_metrics6(
        &mut self,
        ns: NsId,
        change: impl Fn(u32, u8, &Route6, &mut DstMetrics) -> Option<Result<(), &'static str>>,
    ) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        let mut changed = Vec::new();
        for (table, t) in n.v6.fib.tables_mut() {
            for (dst, len, r) in t.iter() {
                let mut m = n.metrics.get(r.metrics).copied().unwrap_or_default();
                if change(table, len, r, &mut m).is_some_and(|done| done.is_ok()) {
                    changed.push((table, dst, len, *r, m));
                }
            }
        }
        for (table, dst, len, old, m) in changed {
            // When the namespace has too many already, what was there stays.
            let Ok(metrics) = n.metrics_id(&m) else { continue };
            n.v6.fib.table_mut(table).edit(dst, len, |routes| {
                routes.iter_mut().filter(|r| **r == old).for_each(|r| r.metrics = metrics);
            });
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    /// Routers get no more addresses out of a host than `max_addresses`; 0: as many as they like.
    #[doc(alias = "ipv6_count_addresses")]
    fn has_room_for_address(&self, dev: DevId) -> bool {
        self.devs.get(dev).is_some_and(|d| match d.inet6.conf.max_addresses {
            0 => true,
            most => d.inet6.addrs.len() < most as usize,
        })
    }

    /// A new address by hand.
    #[doc(alias = "inet6_addr_add")]
    pub(crate) fn addr6_add(&mut self, dev: DevId, cfg: &Cfg6) -> Result<(), Errno> {
        let mut a = If6Addr::new(cfg.addr, cfg.prefix);
        cfg.apply(&mut a, self.env.now);
        self.insert_address6(dev, a)?;
        if a.flags & IFA_F_MANAGETEMPADDR != 0 {
            self.manage_tempaddrs(dev, cfg.addr, true);
        }
        self.arm_addrconf(dev);
        Ok(())
    }

    /// One that is there, otherwise.
    #[doc(alias = "inet6_addr_modify")]
    pub(crate) fn addr6_modify(&mut self, dev: DevId, cfg: &Cfg6) -> Result<(), Errno> {
        let now = self.env.now;
        let ns = self.devs.get(dev).ok_or(Errno::ENODEV)?.ns;
        let a = self.address_mut(dev, cfg.addr).ok_or(Errno::EADDRNOTAVAIL)?;
        if cfg.flags & IFA_F_MANAGETEMPADDR != 0 && (a.temporary() || a.prefix != 64) {
            return Err(Errno::EINVAL);
        }
        let was = *a;
        cfg.apply(a, now);
        a.flags |= was.flags & (IFA_F_TEMPORARY | IFA_F_OPTIMISTIC | IFA_F_STABLE_PRIVACY);
        let a = *a;
        if !a.tentative() {
            notify::addr6(self, RTM_NEWADDR, dev, &a);
        }
        if was.rt_priority != a.rt_priority && was.has_prefix_route() {
            self.del_prefix_route(dev, a.addr, a.prefix);
        }
        if a.has_prefix_route() && a.prefix < 128 {
            self.prefix_route_of(ns, dev, &a, (a.addr, a.prefix));
        } else if was.permanent && was.has_prefix_route() && a.flags & IFA_F_NOPREFIXROUTE != 0 {
            self.del_prefix_route(dev, a.addr, a.prefix);
        }
        if let Some(peer) = a.peer.filter(|_| a.peer != was.peer && a.has_prefix_route()) {
            self.prefix_route_of(ns, dev, &a, (peer, a.prefix));
        }
        let managed = |a: &If6Addr| a.flags & IFA_F_MANAGETEMPADDR != 0;
        match (managed(&was), managed(&a)) {
            (true, false) => self.delete_tempaddrs(dev, a.addr),
            (before, true) => self.manage_tempaddrs(dev, a.addr, !before),
            _ => {}
        }
        self.arm_addrconf(dev);
        Ok(())
    }

    /// The public address got its lifetimes anew: temporary ones follow, as far as their own times let them.
    fn manage_tempaddrs(&mut self, dev: DevId, public: Ipv6Addr, create: bool) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let Some(of) = d.inet6.addrs.iter().find(|a| a.addr == public).copied() else { return };
        let i = &mut d.inet6;
        let none = !i.addrs.iter().any(If6Addr::temporary);
        let ends: Vec<_> = i.addrs.iter().map(|a| i.temp_ends(a.created)).collect();
        let mut told = Vec::new();
        for (a, (valid, preferred)) in i.addrs.iter_mut().zip(ends).filter(|(a, _)| a.public == Some(public)) {
            (a.valid, a.preferred) = (Some(earlier(of.valid, valid)), Some(earlier(of.preferred, preferred)));
            told.push(*a);
        }
        let wanted = i.conf.use_tempaddr > 0;
        told.iter().filter(|a| !a.tentative()).for_each(|a| notify::addr6(self, RTM_NEWADDR, dev, a));
        if wanted && (create || none) {
            self.create_tempaddr(dev, public);
        }
    }

    /// A temporary address beside a public one (RFC 8981 §3.4): an identifier by chance, preferred for less long.
    #[doc(alias = "ipv6_create_tempaddr")]
    pub(super) fn create_tempaddr(&mut self, dev: DevId, public: Ipv6Addr) {
        let now = self.env.now;
        let Some(d) = self.devs.get_mut(dev).filter(|d| d.inet6.conf.use_tempaddr > 0) else { return };
        let i = &mut d.inet6;
        let most = i.conf.regen_max_retry;
        let Some(of) = i.addrs.iter_mut().find(|a| a.addr == public) else { return };
        of.regen += 1;
        if of.regen > most as u32 {
            // The network does not want it.
            i.conf.use_tempaddr = -1;
            return;
        }
        let (of, advance) = (*of, i.regen_advance());
        if i.addrs.iter().filter(|a| a.temporary()).count() >= MOST_TEMPORARY {
            return;
        }
        let preferred_lft = u64::from(i.conf.temp_prefered_lft.max(0) as u32).saturating_sub(advance / SEC);
        let spread = (i.conf.max_desync_factor.max(0) as u32).min(preferred_lft as u32);
        if i.desync.is_none_or(|d| d > spread) {
            i.desync = Some(if spread > 0 { self.env.rng.below(spread) } else { 0 });
        }
        let (valid, preferred) = i.temp_ends(now);
        let (valid, mut preferred) = (earlier(of.valid, valid), earlier(of.preferred, preferred));
        if preferred <= now + advance {
            preferred = now + advance + SEC;
            if preferred > earlier(of.preferred, valid) {
                return;
            }
        }
        let addr = with_id(public, self.random_iid());
        let a = If6Addr {
            permanent: false,
            valid: Some(valid),
            preferred: Some(preferred),
            flags: IFA_F_TEMPORARY | of.flags & IFA_F_OPTIMISTIC,
            public: Some(public),
            created: now,
            ..If6Addr::new(addr, of.prefix)
        };
        let _ = self.insert_address6(dev, a);
    }

    #[doc(alias = "ipv6_gen_rnd_iid")]
    fn random_iid(&mut self) -> u64 {
        loop {
            let id = self.env.rng.next_u64();
            if !is_reserved(id) {
                return id;
            }
        }
    }

    /// Who is soon not preferred any more has a successor now.
    #[doc(alias = "addrconf_verify_rtnl")]
    pub(super) fn regen_tempaddrs(&mut self, dev: DevId) {
        let now = self.env.now;
        let Some(d) = self.devs.get_mut(dev) else { return };
        let advance = d.inet6.regen_advance();
        let due = |a: &&mut If6Addr| {
            let ends = a.preferred.is_some_and(|p| p.saturating_sub(advance) <= now);
            a.temporary() && !a.tentative() && a.regen == 0 && ends
        };
        let mut publics = Vec::new();
        for a in d.inet6.addrs.iter_mut().filter(due) {
            a.regen = 1;
            publics.extend(a.public);
        }
        for public in publics {
            if let Some(of) = self.address_mut(dev, public) {
                of.regen = 0;
                self.create_tempaddr(dev, public);
            }
        }
    }

    /// They go with what they stand for.
    pub(super) fn delete_tempaddrs(&mut self, dev: DevId, public: Ipv6Addr) {
        let Some(d) = self.devs.get(dev) else { return };
        let gone: Vec<Ipv6Addr> = d.inet6.addrs.iter().filter(|a| a.public == Some(public)).map(|a| a.addr).collect();
        gone.into_iter().for_each(|a| _ = self.del_address6(dev, a));
    }
}
