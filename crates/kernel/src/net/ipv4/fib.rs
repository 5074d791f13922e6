//! The routing tables: local before main, longest prefix first, then the smallest metric.
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dev::mask;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::fib_rules::{self, Action, Rule};
use crate::net::ipv4::rule::{self, FibFlow};
use crate::net::netns::NetNs;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// `RTN_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteType {
    Unicast,
    Local,
    Broadcast,
    /// Of IPv6: taken here, as by others.
    Anycast,
    /// EHOSTUNREACH, ICMP host unreachable.
    Unreachable,
    /// EINVAL, silence.
    Blackhole,
    /// EACCES, ICMP administratively prohibited.
    Prohibit,
    /// As if the table ended here: the next rule.
    Throw,
}

/// `RT_SCOPE_*`, widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Universe,
    Link,
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteType,
    pub dev: Option<DevId>,
    pub gateway: Option<Ipv4Addr>,
    /// Preferred source address.
    pub src: Option<Ipv4Addr>,
    pub metric: u32,
    pub scope: Scope,
    /// `RTPROT_*`: who made it.
    pub proto: u8,
    pub metrics: MetricsId,
    /// The gateway is taken to be on the device's link, whatever the routes say (RTNH_F_ONLINK).
    pub onlink: bool,
    /// Next hops of one route share a number and part the flows by their weights; 0 is a route with one.
    pub group: u32,
    pub weight: u16,
    /// The object that it got its next hops of; 0: none.
    pub nhid: u32,
}

impl Route {
    pub const PROTO_KERNEL: u8 = 2;
    pub const PROTO_BOOT: u8 = 3;

    pub fn unicast(gateway: Option<Ipv4Addr>, dev: Option<DevId>) -> Route {
        let scope = if gateway.is_some() { Scope::Universe } else { Scope::Link };
        Route {
            kind: RouteType::Unicast,
            dev,
            gateway,
            src: None,
            metric: 0,
            scope,
            proto: Route::PROTO_BOOT,
            metrics: MetricsId::default(),
            onlink: false,
            group: 0,
            weight: 1,
            nhid: 0,
        }
    }

    /// A route that refuses.
    pub fn refusing(kind: RouteType) -> Route {
        Route { kind, ..Route::unicast(None, None) }
    }
}

/// Length and network in one word, which a search compares at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix(u64);

impl Prefix {
    fn new(dst: Ipv4Addr, len: u8) -> Prefix {
        Prefix(u64::from(len) << 32 | u64::from(dst.to_bits() & mask(len)))
    }

    fn len(self) -> u8 {
        (self.0 >> 32) as u8
    }

    fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0 as u32)
    }
}

/// One table. Lookup tries the prefix lengths that occur, longest first.
#[derive(Clone, Debug, Default)]
pub struct Table {
    routes: BTreeMap<Prefix, Vec<Route>>,
    /// Bit n: prefixes of length n exist.
    lengths: u64,
}

impl Table {
    /// False when it is there already.
    pub fn insert(&mut self, dst: Ipv4Addr, prefix: u8, route: Route) -> bool {
        let prefix = prefix.min(32);
        let routes = self.routes.entry(Prefix::new(dst, prefix)).or_default();
        if routes.contains(&route) {
            return false;
        }
        let at = routes.partition_point(|r| r.metric <= route.metric);
        routes.insert(at, route);
        self.lengths |= 1 << prefix;
        true
    }

    /// The hops of one route before the others of its metric, or behind them.
    pub fn insert_all(&mut self, dst: Ipv4Addr, prefix: u8, hops: &[Route], behind: bool) {
        let prefix = prefix.min(32);
        let metric = hops.first().map_or(0, |r| r.metric);
        let routes = self.routes.entry(Prefix::new(dst, prefix)).or_default();
        let at = routes.partition_point(|r| r.metric < metric || (behind && r.metric == metric));
        routes.splice(at..at, hops.iter().copied());
        self.lengths |= 1 << prefix;
    }

    pub fn get(&self, dst: Ipv4Addr, prefix: u8) -> &[Route] {
        self.routes.get(&Prefix::new(dst, prefix)).map_or(&[], |r| r)
    }

    /// Removes from one prefix what `which` names; returns how many.
    pub fn remove(&mut self, dst: Ipv4Addr, prefix: u8, mut which: impl FnMut(&Route) -> bool) -> usize {
        let key = Prefix::new(dst, prefix);
        let Some(routes) = self.routes.get_mut(&key) else { return 0 };
        let before = routes.len();
        routes.retain(|r| !which(r));
        let gone = before - routes.len();
        if routes.is_empty() {
            self.routes.remove(&key);
            self.recount();
        }
        gone
    }

    pub fn remove_all(&mut self, which: impl Fn(&Route) -> bool) {
        self.routes.retain(|_, routes| {
            routes.retain(|r| !which(r));
            !routes.is_empty()
        });
        self.recount();
    }

    /// Each route's hops anew: `with` is asked by its first, and says nothing where they stay.
    pub fn rehop(&mut self, mut with: impl FnMut(&Route) -> Option<Vec<Route>>) {
        self.routes.retain(|_, routes| {
            let mut out = Vec::with_capacity(routes.len());
            for hops in routes.chunk_by(|a, b| a.group != 0 && a.group == b.group) {
                match hops.first().and_then(&mut with) {
                    Some(new) => out.extend(new),
                    None => out.extend_from_slice(hops),
                }
            }
            *routes = out;
            !routes.is_empty()
        });
        self.recount();
    }

    fn recount(&mut self) {
        self.lengths = self.routes.keys().fold(0, |bits, p| bits | 1 << p.len());
    }

    pub fn is_empty(&self) -> bool {
        self.lengths == 0
    }

    /// The longest prefix with a route that `fits`.
    pub fn lookup(&self, dst: Ipv4Addr, fits: impl Fn(&Route) -> bool) -> Option<&Route> {
        self.lookup_list(dst, fits).map(|(_, r)| r)
    }

    /// The same, with all routes of that prefix.
    #[doc(alias = "fib_table_lookup")]
    pub fn lookup_list(&self, dst: Ipv4Addr, fits: impl Fn(&Route) -> bool) -> Option<(&[Route], &Route)> {
        self.lookup_prefix(dst, fits).map(|(_, found)| found)
    }

    /// The same, with the length of the prefix.
    #[inline]
    pub fn lookup_prefix(&self, dst: Ipv4Addr, fits: impl Fn(&Route) -> bool) -> Option<(u8, (&[Route], &Route))> {
        let mut lengths = self.lengths;
        while lengths != 0 {
            let prefix = 63 - lengths.leading_zeros();
            lengths &= !(1 << prefix);
            let key = Prefix::new(dst, prefix as u8);
            if let Some(found) = self.routes.get(&key).and_then(|rs| Some((&rs[..], rs.iter().find(|r| fits(r))?))) {
                return Some((prefix as u8, found));
            }
        }
        None
    }

    /// (destination, prefix, route), longest prefix last.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, u8, &Route)> {
        self.routes.iter().flat_map(|(p, rs)| rs.iter().map(|r| (p.network(), p.len(), r)))
    }
}

pub const RT_TABLE_DEFAULT: u32 = 253;
pub const RT_TABLE_MAIN: u32 = 254;
pub const RT_TABLE_LOCAL: u32 = 255;

/// The tables of a namespace, and the rules that say which is asked when.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    pub local: Table,
    pub main: Table,
    /// Tables with other numbers.
    pub others: BTreeMap<u32, Table>,
    /// `None`: local, main, default, as a namespace begins.
    pub rules: Option<Vec<Rule>>,
    /// Somebody added a local route by hand (`fib_has_custom_local_routes`).
    pub(super) custom_local: bool,
    pub(in crate::net) last_group: u32,
}

impl Fib {
    pub fn table(&self, id: u32) -> Option<&Table> {
        match id {
            RT_TABLE_LOCAL => Some(&self.local),
            RT_TABLE_MAIN => Some(&self.main),
            id => self.others.get(&id),
        }
    }

    pub fn table_mut(&mut self, id: u32) -> &mut Table {
        match id {
            RT_TABLE_LOCAL => &mut self.local,
            RT_TABLE_MAIN => &mut self.main,
            id => self.others.entry(id).or_default(),
        }
    }

    /// Of every route.
    pub(in crate::net) fn metrics(&self) -> impl Iterator<Item = MetricsId> {
        let tables = [&self.local, &self.main].into_iter().chain(self.others.values());
        tables.flat_map(|t| t.iter().map(|(_, _, r)| r.metrics))
    }

    /// What leads through a device goes from every table.
    pub fn forget_dev(&mut self, which: impl Fn(&Route) -> bool) {
        self.main.remove_all(&which);
        self.others.values_mut().for_each(|t| t.remove_all(&which));
    }
}

/// `fib_lookup`: the route for `dst`, if `oif` is given only one through that device. A route through a device without
/// carrier counts only if `ignore_routes_with_linkdown` is 0, which it is.
pub fn lookup(net: &Net, ns: NsId, dst: Ipv4Addr, oif: Option<DevId>) -> Option<Route> {
    lookup_flow(net, ns, &FibFlow { oif, ..FibFlow::to(dst) })
}

/// `ignore_routes_with_linkdown`: without carrier a route of the device does not count.
fn linked(net: &Net, n: &NetNs, r: &Route) -> bool {
    !n.ignores_linkdown
        || !r.dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.conf.ignore_routes_with_linkdown && !d.carrier)
}

/// The same with everything that rules may ask about.
#[doc(alias = "fib_lookup")]
pub fn lookup_flow(net: &Net, ns: NsId, fl: &FibFlow) -> Option<Route> {
    let n = net.ns.get(ns)?;
    let fits = |r: &Route| (fl.oif.is_none() || r.dev == fl.oif) && r.scope >= fl.scope && linked(net, n, r);
    let chosen = |(list, r): (&[Route], &Route)| {
        let throw = r.kind == RouteType::Throw;
        (!throw).then(|| if r.group == 0 { *r } else { rule::select(net, n, list, r, fl) })
    };
    let ask = |t: &Table| chosen(t.lookup_list(fl.dst, fits)?);
    let Some(rules) = &n.fib.rules else {
        let found = ask(&n.fib.local).or_else(|| ask(&n.fib.main));
        return if found.is_some() || n.fib.others.is_empty() { found } else { ask(n.fib.table(RT_TABLE_DEFAULT)?) };
    };
    let asked = fl.for_rules(n.lo);
    fib_rules::lookup(rules, &asked, |rule| match rule.action {
        Action::Refuse(kind) => Some(Route::refusing(kind)),
        Action::Goto(_) | Action::Nop => None,
        Action::Table(id) if rule.suppress.is_none() => ask(n.fib.table(id)?),
        Action::Table(id) => {
            let (prefix, found) = n.fib.table(id)?.lookup_prefix(fl.dst, fits)?;
            chosen(found).filter(|_| rule.allows(prefix))
        }
    })
}

/// The entry of a table that a lookup ends at, with the next hops that share it.
#[derive(Clone, Debug)]
pub struct FibMatch {
    pub table: u32,
    pub prefix: u8,
    pub hops: Vec<Route>,
}

/// What [`lookup_flow`] finds, before a next hop is chosen. Without rules of one's own, local and main are one table.
pub fn match_flow(net: &Net, ns: NsId, fl: &FibFlow) -> Option<FibMatch> {
    let n = net.ns.get(ns)?;
    let fits = |r: &Route| (fl.oif.is_none() || r.dev == fl.oif) && r.scope >= fl.scope && linked(net, n, r);
    let within = |table: u32| {
        let (prefix, (list, r)) = n.fib.table(table)?.lookup_prefix(fl.dst, fits)?;
        let hops = list.iter().filter(|h| if r.group == 0 { *h == r } else { h.group == r.group });
        (r.kind != RouteType::Throw).then(|| FibMatch { table, prefix, hops: hops.copied().collect() })
    };
    let Some(rules) = &n.fib.rules else {
        let one = within(RT_TABLE_LOCAL).map(|m| FibMatch { table: RT_TABLE_MAIN, ..m });
        return one.or_else(|| within(RT_TABLE_MAIN)).or_else(|| within(RT_TABLE_DEFAULT));
    };
    fib_rules::lookup(rules, &fl.for_rules(n.lo), |rule| match rule.action {
        Action::Table(id) => within(id).filter(|m| rule.allows(m.prefix)),
        Action::Refuse(kind) => Some(FibMatch { table: 0, prefix: 0, hops: vec![Route::refusing(kind)] }),
        Action::Goto(_) | Action::Nop => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_then_metric() {
        let ip = |s: &str| s.parse::<Ipv4Addr>().unwrap();
        let mut t = Table::default();
        let via = |gw: &str, metric| Route { metric, ..Route::unicast(Some(ip(gw)), None) };
        t.insert(ip("0.0.0.0"), 0, via("10.0.0.1", 0));
        t.insert(ip("10.1.0.0"), 16, via("10.0.0.3", 20));
        t.insert(ip("10.1.0.0"), 16, via("10.0.0.2", 10));
        t.insert(ip("10.1.2.3"), 32, Route::refusing(RouteType::Unreachable));
        let gw = |a: &str| t.lookup(ip(a), |_| true).and_then(|r| r.gateway);
        assert_eq!((gw("9.9.9.9"), gw("10.1.9.9")), (Some(ip("10.0.0.1")), Some(ip("10.0.0.2"))));
        assert_eq!(t.lookup(ip("10.1.2.3"), |_| true).unwrap().kind, RouteType::Unreachable);
        t.remove(ip("10.1.0.0"), 16, |r| r.metric == 10);
        t.remove_all(|r| r.kind == RouteType::Unreachable);
        assert_eq!(t.lookup(ip("10.1.2.3"), |_| true).unwrap().gateway, Some(ip("10.0.0.3")));
    }
}
