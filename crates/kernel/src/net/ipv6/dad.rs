//! Whether an address is somebody else's is asked before it is used (RFC 4862 §5.4), with nonces (RFC 7527); or while it is used
//! already, with restraint (optimistic, RFC 4429).
use super::addrconf::{Dad, If6Addr, eui64, with_id};
use super::fib::Route6;
use super::{anycast, mcast, mld, ndisc};
use crate::env::{MSEC, Nanos, SEC};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::neigh_sysctl;
use crate::net::netlink::notify;
use crate::net::netns::NetNs;
use belljar_abi::rtnetlink::{IFA_F_OPTIMISTIC, IFA_F_STABLE_PRIVACY, RTM_NEWADDR};
use belljar_wire::ipv6::{is_linklocal, solicited_node};
use core::net::Ipv6Addr;

impl Net {
    /// Prefix route, group of those who ask for it, and duplicate detection where that makes sense. An interface that is not up has
    /// no prefixes, one that was never ready asks nobody: what need not ask is in use all the same, the rest waits.
    #[doc(alias = "addrconf_dad_begin")]
    pub(super) fn begin_address(&mut self, dev: DevId, addr: Ipv6Addr) {
        let now = self.env.now;
        let Some(d) = self.devs.get(dev) else { return };
        let (ns, loopback, noarp, conf) = (d.ns, d.is_loopback(), d.noarp(), d.inet6.conf);
        let (up, ready) = (d.up, d.inet6.ready);
        let Some(a) = d.inet6.addrs.iter().find(|a| a.addr == addr).copied() else { return };
        if up && !loopback && a.prefix < 128 && a.has_prefix_route() {
            self.prefix_route_of(ns, dev, &a, (addr, a.prefix));
        }
        if let Some(peer) = a.peer.filter(|_| up) {
            self.prefix_route_of(ns, dev, &a, (peer, 128));
        }
        if ready && !loopback {
            mcast::join_for_address(self, dev, solicited_node(addr));
        }
        let accepts = conf.accept_dad > 0 || self.ns.get(ns).is_some_and(|n| n.v6.conf_all.accept_dad > 0);
        if loopback || a.nodad || noarp || !accepts {
            let known = |n: &NetNs| n.v6.fib.local.get(addr, 128).contains(&Route6::local(dev));
            // It was in use before there was a carrier.
            return match !a.tentative() && self.ns.get(ns).is_some_and(known) {
                true => {}
                false => self.dad_completed(dev, addr),
            };
        }
        if !ready {
            if let Some(a) = self.address_mut(dev, addr) {
                a.dad = Dad::Waits(Nanos::MAX);
            }
            return;
        }
        if conf.dad_transmits <= 0 {
            return self.dad_completed(dev, addr);
        }
        let spread = u64::from(conf.router_solicitation_delay.get().max(1)) * 1000;
        // Who uses it already does not wait to ask.
        let wait = if a.optimistic() { 0 } else { u64::from(self.env.rng.below(spread as u32)) * MSEC };
        if let Some(a) = self.address_mut(dev, addr) {
            a.dad = Dad::Asking(conf.dad_transmits as u32, now + wait);
        }
        if a.optimistic() {
            self.own_route(ns, dev, addr);
            if self.uses_optimistic(ns, dev)
                && let Some(a) = self.address_mut(dev, addr).copied()
            {
                notify::addr6(self, RTM_NEWADDR, dev, &a);
            }
        }
        self.arm_addrconf(dev);
    }

    /// `optimistic_dad`, of the interface or of all.
    #[doc(alias = "ipv6_allow_optimistic_dad")]
    pub(crate) fn allows_optimistic(&self, ns: NsId, dev: DevId) -> bool {
        let all = self.ns.get(ns).is_some_and(|n| n.v6.conf_all.optimistic_dad != 0);
        all || self.devs.get(dev).is_some_and(|d| d.inet6.conf.optimistic_dad != 0)
    }

    /// The same for addresses that the host makes itself; a router makes none so.
    pub(super) fn autoconf_optimistic(&self, ns: NsId, dev: DevId) -> bool {
        self.allows_optimistic(ns, dev) && self.ns.get(ns).is_some_and(|n| n.v6.conf_all.forwarding == 0)
    }

    /// What is sent may have such a source.
    #[doc(alias = "ipv6_use_optimistic_addr")]
    pub(super) fn uses_optimistic(&self, ns: NsId, dev: DevId) -> bool {
        let all = self.ns.get(ns).is_some_and(|n| n.v6.conf_all.use_optimistic != 0);
        self.allows_optimistic(ns, dev) && (all || self.devs.get(dev).is_some_and(|d| d.inet6.conf.use_optimistic != 0))
    }

    fn own_route(&mut self, ns: NsId, dev: DevId, addr: Ipv6Addr) {
        if let Some(n) = self.ns.get_mut(ns) {
            n.v6.fib.local.insert(addr, 128, Route6::local(dev));
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    /// It is ours: packets to it are taken, and on a link with routers they are asked for.
    #[doc(alias = "addrconf_dad_completed")]
    fn dad_completed(&mut self, dev: DevId, addr: Ipv6Addr) {
        let now = self.env.now;
        let asked = self.address_mut(dev, addr).is_some_and(|a| {
            a.flags &= !IFA_F_OPTIMISTIC;
            std::mem::replace(&mut a.dad, Dad::Done) != Dad::Done
        });
        if asked {
            ndisc::notify(self, dev, addr);
        }
        let Some(d) = self.devs.get_mut(dev) else { return };
        let (ns, asks) = (d.ns, !d.noarp() && d.inet6.conf.accept_ra != 0 && d.inet6.conf.router_solicitations != 0);
        if is_linklocal(addr) && asks && d.inet6.conf.forwarding == 0 {
            d.inet6.rs = Some((now, 0, u64::from(d.inet6.conf.router_solicitation_interval) * SEC));
        }
        if is_linklocal(addr) {
            mld::say_again(self, dev);
        }
        self.own_route(ns, dev, addr);
        if let Some(a) = self.address_mut(dev, addr).copied() {
            if self.is_router6(dev) {
                anycast::subnet(self, dev, addr, a.prefix, true);
            }
            notify::addr6(self, RTM_NEWADDR, dev, &a);
        }
        self.arm_addrconf(dev);
    }

    /// Somebody else has it, or wants it at the same time: it is of no use.
    #[doc(alias = "addrconf_dad_failure")]
    #[doc(alias = "addrconf_dad_stop")]
    pub(super) fn dad_failure(&mut self, dev: DevId, addr: Ipv6Addr) {
        let Some(a) = self.address_mut(dev, addr).copied() else { return };
        let stable = a.flags & IFA_F_STABLE_PRIVACY != 0;
        if stable {
            self.stable_retry(dev, a);
        }
        if !a.permanent {
            let _ = self.del_address6(dev, addr);
            a.public.into_iter().for_each(|public| self.create_tempaddr(dev, public));
            return;
        }
        if let Some(a) = self.address_mut(dev, addr) {
            (a.dadfailed, a.dad) = (true, Dad::Asking(0, Nanos::MAX));
            a.flags &= !IFA_F_OPTIMISTIC;
            let a = *a;
            notify::addr6(self, RTM_NEWADDR, dev, &a);
        }
        if !stable {
            self.give_up_ipv6(dev, addr);
        }
    }

    /// `accept_dad` above 1: who has another's hardware address does better without IPv6.
    fn give_up_ipv6(&mut self, dev: DevId, addr: Ipv6Addr) {
        let Some(d) = self.devs.get(dev) else { return };
        let all = self.ns.get(d.ns).map_or(0, |n| n.v6.conf_all.accept_dad);
        let by_hardware = with_id(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), eui64(d.mac));
        if all.max(d.inet6.conf.accept_dad) > 1 && addr == by_hardware {
            let name = d.name.clone();
            self.kmsg_ratelimited(&format!("IPv6: {name}: IPv6 being disabled!"));
            self.set_disable_ipv6(dev, true);
        }
    }

    /// The next question, or nobody objected.
    #[doc(alias = "addrconf_dad_work")]
    pub(super) fn dad_work(&mut self, dev: DevId, a: &If6Addr) {
        let now = self.env.now;
        match a.dad {
            Dad::Waits(at) if at <= now => self.begin_address(dev, a.addr),
            Dad::Asking(0, at) if at <= now => self.dad_completed(dev, a.addr),
            Dad::Asking(left, at) if at <= now && left > 0 => {
                let wait = u64::from(neigh_sysctl::parms(self, dev, true).retrans_time_ms) * MSEC;
                let nonce = self.dad_nonce(dev);
                if let Some(a) = self.address_mut(dev, a.addr) {
                    (a.dad, a.nonce) = (Dad::Asking(left - 1, now + wait), nonce);
                }
                ndisc::send_dad(self, dev, a.addr, nonce);
            }
            _ => {}
        }
    }

    /// With `enhanced_dad`, of the interface or of all.
    fn dad_nonce(&mut self, dev: DevId) -> Option<[u8; 6]> {
        let d = self.devs.get(dev)?;
        let all = self.ns.get(d.ns).is_some_and(|n| n.v6.conf_all.enhanced_dad != 0);
        let wanted = all || d.inet6.conf.enhanced_dad != 0;
        wanted.then(|| {
            let [a, b, c, d, e, f, ..] = self.env.rng.next_u64().to_be_bytes();
            [a, b, c, d, e, f]
        })
    }
}
