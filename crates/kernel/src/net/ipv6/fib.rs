//! The routing tables of IPv6: local before main, longest prefix first, then the smallest metric.
use crate::env::Nanos;
use crate::ids::*;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::fib_rules::{self, Action, Rule, RuleFlow};
use crate::net::ipv4::fib::{RT_TABLE_LOCAL, RT_TABLE_MAIN, RouteType};
use core::net::{IpAddr, Ipv6Addr};
use std::cmp::Reverse;
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
    /// Its share, 1 to 256, where several lead to the same (see `multipath.rs`).
    pub weight: u16,
    /// The object that it got its next hops of; 0: none.
    pub nhid: u32,
    /// RTNH_F_ONLINK: its router is on the link whatever other routes say.
    pub onlink: bool,
}

/// A route that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found6 {
    pub table: u32,
    pub prefix: u8,
    pub route: Route6,
    /// A rule said so, not a route.
    pub by_rule: bool,
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
            weight: 1,
            nhid: 0,
            onlink: false,
        }
    }

    /// It can be one of the next hops of a route.
    #[doc(alias = "rt6_qualify_for_ecmp")]
    pub fn can_ecmp(&self) -> bool {
        self.gateway.is_some() && self.kind == RouteType::Unicast && self.proto != PROTO_RA
    }

    /// It is the same route as `other`, perhaps by another next hop; both have the same prefix.
    pub fn is_sibling(&self, other: &Route6) -> bool {
        let several = self.metric == other.metric && self.can_ecmp() && other.can_ecmp();
        self == other || (several && self.nhid == other.nhid)
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

/// Where a prefix stands in the tree, by the last address in it and the length: what is below a prefix comes before it.
type Place = (u128, Reverse<u8>);

fn place(dst: Ipv6Addr, prefix: u8) -> Place {
    (dst.to_bits() | !mask(prefix), Reverse(prefix))
}

fn prefix_at(&(last, Reverse(len)): &Place) -> (Ipv6Addr, u8) {
    (Ipv6Addr::from_bits(last & mask(len)), len)
}

/// One table.
#[derive(Clone, Debug, Default)]
pub struct Table6 {
    routes: BTreeMap<Place, Vec<Route6>>,
    /// Prefix lengths that occur, longest first.
    lengths: Vec<u8>,
}

impl Table6 {
    pub fn insert(&mut self, dst: Ipv6Addr, prefix: u8, route: Route6) {
        let prefix = prefix.min(128);
        let routes = self.routes.entry(place(dst, prefix)).or_default();
        if routes.contains(&route) {
            return;
        }
        let at = routes.partition_point(|r| r.metric <= route.metric);
        routes.insert(at, route);
        self.recount();
    }

    pub fn get(&self, dst: Ipv6Addr, prefix: u8) -> &[Route6] {
        self.routes.get(&place(dst, prefix)).map_or(&[], |r| r)
    }

    /// Changes one prefix's routes; empty ones go.
    pub fn edit(&mut self, dst: Ipv6Addr, prefix: u8, change: impl FnOnce(&mut Vec<Route6>)) {
        if let Some(routes) = self.routes.get_mut(&place(dst, prefix)) {
            change(routes);
            self.routes.retain(|_, r| !r.is_empty());
            self.recount();
        }
    }

    /// The same of every prefix.
    pub fn edit_all(&mut self, mut change: impl FnMut((Ipv6Addr, u8), &mut Vec<Route6>)) {
        self.routes.retain(|at, routes| {
            change(prefix_at(at), routes);
            !routes.is_empty()
        });
        self.recount();
    }

    pub fn remove_all(&mut self, mut which: impl FnMut(&Route6) -> bool) {
        self.edit_all(|_, routes| routes.retain(|r| !which(r)));
    }

    fn recount(&mut self) {
        self.lengths.clear();
        self.lengths.extend(self.routes.keys().map(|(_, Reverse(len))| *len));
        self.lengths.sort_unstable_by_key(|len| Reverse(*len));
        self.lengths.dedup();
    }

    /// The longest prefix with a route that `fits`.
    #[doc(alias = "fib6_table_lookup")]
    pub fn lookup(&self, dst: Ipv6Addr, fits: impl Fn(&Route6) -> bool) -> Option<&Route6> {
        self.lengths.iter().find_map(|p| {
            let routes = self.routes.get(&place(dst, *p))?;
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
            let routes = self.routes.get(&place(dst, *p))?;
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

    /// (destination, prefix, route), in the order of the tree.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, u8, &Route6)> {
        self.prefixes().flat_map(|((dst, len), routes)| routes.iter().map(move |r| (dst, len, r)))
    }

    /// The routes of each prefix.
    pub fn prefixes(&self) -> impl Iterator<Item = ((Ipv6Addr, u8), &[Route6])> {
        self.routes.iter().map(|(at, routes)| (prefix_at(at), &routes[..]))
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

    /// The table and the route for `fl`, past gateways that are not `alive`; if that leaves none, any will do that is `linked`.
    #[doc(alias = "rt6_select")]
    pub fn lookup_alive(
        &self,
        fl: &RuleFlow,
        oif: Option<DevId>,
        now: Nanos,
        linked: impl Fn(&Route6) -> bool,
        alive: impl Fn(&Route6) -> bool,
    ) -> Option<Found6> {
        let IpAddr::V6(dst) = fl.dst else { return None };
        let fits = |r: &Route6| (oif.is_none() || r.dev == oif) && r.expires.is_none_or(|e| e > now) && linked(r);
        let found = |table, (prefix, r): (u8, &Route6)| Found6 { table, prefix, route: *r, by_rule: false };
        let local = || {
            let here = self.local.lookup_alive(dst, |r| r.is_here() || fits(r), |_| true);
            here.map(|r| found(RT_TABLE_LOCAL, r))
        };
        let other = |id, t: &Table6| {
            let there = t.lookup_alive(dst, fits, &alive).or_else(|| t.lookup_alive(dst, fits, |_| true));
            there.filter(|(_, r)| r.kind != RouteType::Throw).map(|r| found(id, r))
        };
        let Some(rules) = &self.rules else {
            return local().or_else(|| other(RT_TABLE_MAIN, &self.main));
        };
        fib_rules::lookup(rules, fl, |rule| match rule.action {
            Action::Goto(_) | Action::Nop => None,
            Action::Refuse(kind) => {
                let route = Route6 { kind, ..Route6::unicast(None, None) };
                Some(Found6 { table: 0, prefix: 0, route, by_rule: true })
            }
            Action::Table(id) => {
                let here = if id == RT_TABLE_LOCAL { local() } else { None };
                let there = here.or_else(|| other(id, self.table(id).filter(|_| id != RT_TABLE_LOCAL)?));
                there.filter(|f| rule.allows(f.prefix))
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

    /// With their numbers, in the order of dumps.
    pub fn tables_mut(&mut self) -> impl Iterator<Item = (u32, &mut Table6)> {
        let own = [(RT_TABLE_MAIN, &mut self.main), (RT_TABLE_LOCAL, &mut self.local)];
        self.others.iter_mut().map(|(id, t)| (*id, t)).chain(own)
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
