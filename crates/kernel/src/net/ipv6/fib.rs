//! The routing tables of IPv6: local before main, longest prefix first, then the smallest metric.
use crate::env::Nanos;
use crate::ids::*;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::fib_rules::{Action, Rule, RuleFlow};
use crate::net::ipv4::fib::{RT_TABLE_LOCAL, RT_TABLE_MAIN, RouteType};
use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;

/// `IP6_RT_PRIO_USER` and `IP6_RT_PRIO_ADDRCONF`.
pub const PRIO_USER: u32 = 1024;
pub const PRIO_ADDRCONF: u32 = 256;
/// `RTPROT_RA`.
pub const PROTO_RA: u8 = 9;
pub const PROTO_KERNEL: u8 = 2;
pub const PROTO_BOOT: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route6 {
    /// Broadcast never stands here; groups are `Multicast` by their address.
    pub kind: RouteType,
    pub dev: Option<DevId>,
    pub gateway: Option<Ipv6Addr>,
    pub prefsrc: Option<Ipv6Addr>,
    pub metric: u32,
    pub proto: u8,
    pub metrics: MetricsId,
    /// When it ends, for what a router advertised.
    pub expires: Option<Nanos>,
    /// How a router ranks itself among others (RFC 4191).
    pub pref: Pref,
}

/// Router preference; reserved values are medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pref {
    Low,
    #[default]
    Medium,
    High,
}

impl Pref {
    /// From the flags of an advertisement.
    pub fn of(flags: u8) -> Pref {
        match flags >> 3 & 3 {
            1 => Pref::High,
            3 => Pref::Low,
            _ => Pref::Medium,
        }
    }
}

impl Route6 {
    pub fn unicast(gateway: Option<Ipv6Addr>, dev: Option<DevId>) -> Route6 {
        Route6 {
            kind: RouteType::Unicast,
            dev,
            gateway,
            prefsrc: None,
            metric: PRIO_USER,
            proto: PROTO_BOOT,
            metrics: MetricsId::default(),
            expires: None,
            pref: Pref::Medium,
        }
    }

    /// Packets that it leads are taken by this host.
    pub fn is_here(&self) -> bool {
        matches!(self.kind, RouteType::Local | RouteType::Anycast)
    }

    pub fn local(dev: DevId) -> Route6 {
        Route6 { kind: RouteType::Local, metric: 0, proto: PROTO_KERNEL, ..Route6::unicast(None, Some(dev)) }
    }
}

/// The network mask of a prefix length.
pub fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

/// One table.
#[derive(Clone, Debug, Default)]
pub struct Table6 {
    routes: BTreeMap<(u8, u128), Vec<Route6>>,
    /// Prefix lengths that occur, longest first.
    lengths: Vec<u8>,
}

impl Table6 {
    pub fn insert(&mut self, dst: Ipv6Addr, prefix: u8, route: Route6) {
        let prefix = prefix.min(128);
        let routes = self.routes.entry((prefix, dst.to_bits() & mask(prefix))).or_default();
        if routes.contains(&route) {
            return;
        }
        let at = routes.partition_point(|r| r.metric <= route.metric);
        routes.insert(at, route);
        self.recount();
    }

    pub fn get(&self, dst: Ipv6Addr, prefix: u8) -> &[Route6] {
        self.routes.get(&(prefix, dst.to_bits() & mask(prefix))).map_or(&[], |r| r)
    }

    /// Changes one prefix's routes; empty ones go.
    pub fn edit(&mut self, dst: Ipv6Addr, prefix: u8, change: impl FnOnce(&mut Vec<Route6>)) {
        let key = (prefix, dst.to_bits() & mask(prefix));
        if let Some(routes) = self.routes.get_mut(&key) {
            change(routes);
            self.routes.retain(|_, r| !r.is_empty());
            self.recount();
        }
    }

    pub fn remove_all(&mut self, mut which: impl FnMut(&Route6) -> bool) {
        self.routes.retain(|_, routes| {
            routes.retain(|r| !which(r));
            !routes.is_empty()
        });
        self.recount();
    }

    fn recount(&mut self) {
        self.lengths.clear();
        for (prefix, _) in self.routes.keys().rev() {
            if self.lengths.last() != Some(prefix) {
                self.lengths.push(*prefix);
            }
        }
    }

    /// The longest prefix with a route that `fits`.
    #[doc(alias = "fib6_table_lookup")]
    pub fn lookup(&self, dst: Ipv6Addr, fits: impl Fn(&Route6) -> bool) -> Option<&Route6> {
        self.lengths.iter().find_map(|p| {
            let routes = self.routes.get(&(*p, dst.to_bits() & mask(*p)))?;
            routes.iter().find(|r| fits(r))
        })
    }

    /// The longest prefix with a route that is `alive`: the best of those with its metric.
    #[doc(alias = "find_rr_leaf")]
    fn lookup_alive(
        &self,
        dst: Ipv6Addr,
        fits: impl Fn(&Route6) -> bool,
        alive: impl Fn(&Route6) -> bool,
    ) -> Option<(u8, &Route6)> {
        self.lengths.iter().find_map(|p| {
            let routes = self.routes.get(&(*p, dst.to_bits() & mask(*p)))?;
            let mut good = routes.iter().filter(|r| fits(r) && alive(r));
            let first = good.next()?;
            let equals = good.take_while(|r| r.metric == first.metric);
            Some((*p, equals.fold(first, |best, r| if r.pref > best.pref { r } else { best })))
        })
    }

    /// How wide the route to `dst` is.
    pub fn prefix_of(&self, dst: Ipv6Addr, now: Nanos) -> Option<u8> {
        let live = |r: &Route6| r.expires.is_none_or(|e| e > now);
        let of = |p: &&u8| self.get(dst, **p).iter().any(live);
        self.lengths.iter().find(of).copied()
    }

    /// (destination, prefix, route), longest prefix last.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, u8, &Route6)> {
        self.routes.iter().flat_map(|(&(p, d), rs)| rs.iter().map(move |r| (Ipv6Addr::from_bits(d), p, r)))
    }

    /// The first moment at which a route ends.
    pub fn next_expiry(&self) -> Option<Nanos> {
        self.routes.values().flatten().filter_map(|r| r.expires).min()
    }
}

/// The tables of a namespace, and the rules that say which is asked when.
#[derive(Clone, Debug, Default)]
pub struct Fib6 {
    pub local: Table6,
    pub main: Table6,
    /// Tables with other numbers.
    pub others: BTreeMap<u32, Table6>,
    /// `None`: local, main, as a namespace begins.
    pub rules: Option<Vec<Rule>>,
}

impl Fib6 {
    /// Of every route.
    pub(in crate::net) fn metrics(&self) -> impl Iterator<Item = MetricsId> {
        let tables = [&self.local, &self.main].into_iter().chain(self.others.values());
        tables.flat_map(|t| t.iter().map(|(_, _, r)| r.metrics))
    }

    /// The route for `dst`; `oif`: only one through that device.
    #[doc(alias = "fib6_rule_lookup")]
    pub fn lookup(&self, dst: Ipv6Addr, oif: Option<DevId>, now: Nanos) -> Option<Route6> {
        let fits = |r: &Route6| (oif.is_none() || r.dev == oif) && r.expires.is_none_or(|e| e > now);
        // A local address is here whatever the device.
        let here = self.local.lookup(dst, |r| r.is_here() || fits(r));
        here.or_else(|| self.main.lookup(dst, fits)).copied()
    }

    /// The table and the route for `fl`, past gateways that are not `alive`; if that leaves none, any will do.
    #[doc(alias = "rt6_select")]
    pub fn lookup_alive(
        &self,
        fl: &RuleFlow,
        oif: Option<DevId>,
        now: Nanos,
        alive: impl Fn(&Route6) -> bool,
    ) -> Option<(u32, Route6)> {
        let IpAddr::V6(dst) = fl.dst else { return None };
        let fits = |r: &Route6| (oif.is_none() || r.dev == oif) && r.expires.is_none_or(|e| e > now);
        let local = || self.local.lookup_alive(dst, |r| r.is_here() || fits(r), |_| true);
        let other = |t: &'_ Table6| {
            let found = t.lookup_alive(dst, fits, &alive).or_else(|| t.lookup_alive(dst, fits, |_| true));
            found.map(|(p, r)| (p, *r)).filter(|(_, r)| r.kind != RouteType::Throw)
        };
        let Some(rules) = &self.rules else {
            let here = local().map(|(_, r)| (RT_TABLE_LOCAL, *r));
            return here.or_else(|| other(&self.main).map(|(_, r)| (RT_TABLE_MAIN, r)));
        };
        rules.iter().filter(|r| r.matches(fl)).find_map(|rule| match rule.action {
            Action::Refuse(kind) => Some((0, Route6 { kind, metric: u32::MAX, ..Route6::unicast(None, None) })),
            Action::Table(id) => {
                let local = if id == RT_TABLE_LOCAL { local().map(|(p, r)| (p, *r)) } else { None };
                let found = local.or_else(|| other(self.table(id).filter(|_| id != RT_TABLE_LOCAL)?));
                found.filter(|(p, _)| rule.allows(*p)).map(|(_, r)| (id, r))
            }
        })
    }

    pub fn table(&self, id: u32) -> Option<&Table6> {
        match id {
            RT_TABLE_LOCAL => Some(&self.local),
            RT_TABLE_MAIN => Some(&self.main),
            id => self.others.get(&id),
        }
    }

    pub fn table_mut(&mut self, id: u32) -> &mut Table6 {
        match id {
            RT_TABLE_LOCAL => &mut self.local,
            RT_TABLE_MAIN => &mut self.main,
            id => self.others.entry(id).or_default(),
        }
    }

    pub fn tables_mut(&mut self) -> impl Iterator<Item = &mut Table6> {
        [&mut self.local, &mut self.main].into_iter().chain(self.others.values_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_then_metric_then_time() {
        let ip = |s: &str| s.parse::<Ipv6Addr>().unwrap();
        let via = |gw: &str, metric| Route6 { metric, ..Route6::unicast(Some(ip(gw)), None) };
        let mut f = Fib6::default();
        f.main.insert(ip("::"), 0, via("fe80::1", 1024));
        f.main.insert(ip("2001:db8::"), 32, via("fe80::3", 20));
        f.main.insert(ip("2001:db8::"), 32, Route6 { expires: Some(50), ..via("fe80::2", 10) });
        let gw = |a: &str, now| f.lookup(ip(a), None, now).and_then(|r| r.gateway);
        assert_eq!(gw("2001:db8::5", 0), Some(ip("fe80::2")));
        assert_eq!(gw("2001:db8::5", 50), Some(ip("fe80::3")));
        assert_eq!(gw("2002::1", 0), Some(ip("fe80::1")));
        f.main.remove_all(|r| r.metric == 1024);
        assert_eq!(f.lookup(ip("2002::1"), None, 0), None);
        assert_eq!((mask(0), mask(128), mask(64)), (0, u128::MAX, !0 << 64));
    }
}
