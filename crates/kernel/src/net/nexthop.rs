//! Next hops as objects: what routes of either family name by a number, alone or in groups with weights. A route keeps copies of its
//! hops; when an object changes, the routes that name it get them anew.
//!
//! Left out: resilient groups, objects for VXLAN (`fdb`), encapsulation, routes of IPv4 by routers of IPv6.
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::ipv4::fib::{RT_TABLE_MAIN, Route, RouteType};
use crate::net::ipv6::fib::Route6;
use crate::net::netlink::nexthop::tell;
use crate::net::netlink::notify;
use belljar_abi::netlink::NLM_F_REPLACE;
use belljar_abi::rtnetlink::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP, RTM_NEWROUTE};
use core::net::IpAddr;
use std::collections::BTreeMap;

/// Objects of one namespace.
pub const MOST: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Of IPv6, where it is of a family.
    pub six: bool,
    pub blackhole: bool,
    pub dev: Option<DevId>,
    pub gateway: Option<IpAddr>,
    pub onlink: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    One(Hop),
    /// Numbers of others, and their weights.
    Group(Vec<(u32, u16)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nexthop {
    pub id: u32,
    /// `RTPROT_*`.
    pub proto: u8,
    pub kind: Kind,
}

/// Those of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Nexthops {
    pub all: BTreeMap<u32, Nexthop>,
    last: u32,
}

impl Nexthops {
    /// The next number that is free.
    #[doc(alias = "nh_find_unused_id")]
    pub fn unused(&mut self) -> Option<u32> {
        for _ in 0..=self.all.len() {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.all.contains_key(&self.last) {
                return Some(self.last);
            }
        }
        None
    }

    /// The hops behind a number, with their weights.
    pub fn hops(&self, id: u32) -> Vec<(Hop, u16)> {
        let one = |id: u32| match self.all.get(&id).map(|n| &n.kind) {
            Some(Kind::One(h)) => Some(*h),
            _ => None,
        };
        match self.all.get(&id).map(|n| &n.kind) {
            None => Vec::new(),
            Some(Kind::One(h)) => vec![(*h, 1)],
            Some(Kind::Group(g)) => g.iter().filter_map(|(id, weight)| Some((one(*id)?, *weight))).collect(),
        }
    }

    /// Groups that an object is in.
    pub fn groups(&self, id: u32) -> Vec<u32> {
        let has = |n: &&Nexthop| matches!(&n.kind, Kind::Group(g) if g.iter().any(|m| m.0 == id));
        self.all.values().filter(has).map(|n| n.id).collect()
    }
}

/// Routes of IPv4 by an object, as `like` otherwise. Nothing when it has a router of IPv6.
pub fn routes4(net: &Net, ns: NsId, id: u32, like: &Route) -> Option<Vec<Route>> {
    let n = net.ns.get(ns)?;
    let hops = n.nexthops.hops(id);
    let one = |(h, weight): &(Hop, u16)| {
        let gateway = match h.gateway {
            Some(IpAddr::V4(g)) => Some(g),
            None => None,
            Some(IpAddr::V6(_)) => return None,
        };
        let (kind, dev) = if h.blackhole { (RouteType::Blackhole, Some(n.lo)) } else { (RouteType::Unicast, h.dev) };
        Some(Route { kind, dev, gateway, onlink: h.onlink, weight: *weight, nhid: id, group: 0, ..*like })
    };
    hops.iter().map(one).collect()
}

/// The same of IPv6.
pub fn routes6(net: &Net, ns: NsId, id: u32, like: &Route6) -> Option<Vec<Route6>> {
    let n = net.ns.get(ns)?;
    let one = |(h, weight): &(Hop, u16)| {
        let gateway = match h.gateway {
            Some(IpAddr::V6(g)) => Some(g),
            _ if !h.six => return None,
            _ => None,
        };
        let (kind, dev) = if h.blackhole { (RouteType::Blackhole, Some(n.lo)) } else { (RouteType::Unicast, h.dev) };
        Some(Route6 { kind, dev, gateway, weight: *weight, nhid: id, ..*like })
    };
    n.nexthops.hops(id).iter().map(one).collect()
}

/// `nexthop_compat_mode`: routes by objects are shown with the next hops themselves.
pub(crate) fn shown_in_routes(net: &Net, ns: NsId) -> bool {
    net.ns.get(ns).is_some_and(|n| n.sysctl.nexthop_compat_mode != 0)
}

/// The routes of a table that name one of the objects, each with all of its next hops.
fn named<A: Copy + PartialEq, R: Copy>(
    routes: impl Iterator<Item = (A, u8, R)>,
    object: impl Fn(&R) -> (u32, u32),
    ids: &[u32],
) -> Vec<((A, u8), Vec<R>)> {
    let mut out: Vec<((A, u8), Vec<R>)> = Vec::new();
    for (dst, len, r) in routes.filter(|(_, _, r)| ids.contains(&object(r).0)) {
        match out.last_mut().filter(|(at, hops)| *at == (dst, len) && hops.first().map(&object) == Some(object(&r))) {
            Some((_, hops)) => hops.push(r),
            None => out.push(((dst, len), vec![r])),
        }
    }
    out
}

impl Net {
    /// Who listens for routes hears what became of those that name an object.
    #[doc(alias = "nexthop_replace_notify")]
    pub(crate) fn tell_nexthop_routes(&mut self, ns: NsId, ids: &[u32]) {
        let Some(n) = self.ns.get(ns).filter(|n| n.sysctl.nexthop_compat_mode != 0) else { return };
        let (mut told, mut told6) = (Vec::new(), Vec::new());
        for (id, t) in [(RT_TABLE_MAIN, &n.fib.main)].into_iter().chain(n.fib.others.iter().map(|(id, t)| (*id, t))) {
            let routes = t.iter().map(|(dst, len, r)| (dst, len, *r));
            told.extend(named(routes, |r| (r.nhid, r.metric), ids).into_iter().map(|r| (id, r)));
        }
        for (id, t) in
            [(RT_TABLE_MAIN, &n.v6.fib.main)].into_iter().chain(n.v6.fib.others.iter().map(|(id, t)| (*id, t)))
        {
            let routes = t.iter().map(|(dst, len, r)| (dst, len, *r));
            told6.extend(named(routes, |r| (r.nhid, r.metric), ids).into_iter().map(|r| (id, r)));
        }
        for (table, (at, hops)) in told {
            notify::route4(self, RTM_NEWROUTE, NLM_F_REPLACE, ns, table, at, &hops);
        }
        for (table, (at, hops)) in told6 {
            notify::route6(self, (RTM_NEWROUTE, NLM_F_REPLACE), ns, table, at, &hops);
        }
    }

    /// Routes that name one of the objects are made anew; those that name none any more are gone.
    #[doc(alias = "nexthop_notify")]
    pub(crate) fn nexthops_changed(&mut self, ns: NsId, ids: &[u32]) {
        let Some(n) = self.ns.get_mut(ns) else { return };
        let (mut fib, mut fib6) = (std::mem::take(&mut n.fib), std::mem::take(&mut n.v6.fib));
        let mut group = fib.last_group;
        for t in std::iter::once(&mut fib.main).chain(fib.others.values_mut()) {
            t.rehop(|first| {
                ids.contains(&first.nhid).then(|| {
                    let mut hops = routes4(self, ns, first.nhid, first).unwrap_or_default();
                    if hops.len() > 1 {
                        group = group.wrapping_add(1).max(1);
                        hops.iter_mut().for_each(|h| h.group = group);
                    }
                    hops
                })
            });
        }
        fib.last_group = group;
        for t in std::iter::once(&mut fib6.main).chain(fib6.others.values_mut()) {
            t.edit_all(|_, routes| rehop6(self, ns, ids, routes));
        }
        if let Some(n) = self.ns.get_mut(ns) {
            (n.fib, n.v6.fib) = (fib, fib6);
        }
        self.rt_cache_flush(ns);
    }

    /// An object goes: from its groups, and with its routes. A group without members goes as well. `told`: to who listens.
    #[doc(alias = "remove_nexthop")]
    pub(crate) fn del_nexthop(&mut self, ns: NsId, id: u32, told: bool) -> bool {
        let Some(gone) = self.ns.get_mut(ns).and_then(|n| n.nexthops.all.remove(&id)) else { return false };
        let groups = self.ns.get(ns).map_or_else(Vec::new, |n| n.nexthops.groups(id));
        if told {
            tell(self, ns, RTM_DELNEXTHOP, &gone);
        }
        for g in &groups {
            let Some(all) = self.ns.get_mut(ns).map(|n| &mut n.nexthops.all) else { return false };
            let Some(Nexthop { kind: Kind::Group(members), .. }) = all.get_mut(g) else { continue };
            // One that ends is shown with its last member.
            let kind = if members.len() > 1 { RTM_NEWNEXTHOP } else { RTM_DELNEXTHOP };
            let shown = if kind == RTM_NEWNEXTHOP {
                members.retain(|m| m.0 != id);
                all.get(g).cloned()
            } else {
                all.remove(g)
            };
            if let Some(group) = shown.filter(|_| told) {
                tell(self, ns, kind, &group);
            }
        }
        self.nexthops_changed(ns, &[&[id], &groups[..]].concat());
        true
    }

    /// A device goes down or away: so do the objects that lead through it.
    pub(crate) fn nexthop_flush_dev(&mut self, ns: NsId, dev: DevId) {
        let Some(n) = self.ns.get(ns).filter(|n| !n.nexthops.all.is_empty()) else { return };
        let through = |n: &&Nexthop| matches!(n.kind, Kind::One(h) if h.dev == Some(dev));
        let ids: Vec<u32> = n.nexthops.all.values().filter(through).map(|n| n.id).collect();
        for id in ids {
            self.del_nexthop(ns, id, false);
        }
    }
}

/// Routes of one prefix.
fn rehop6(net: &Net, ns: NsId, ids: &[u32], routes: &mut Vec<Route6>) {
    let mut done = Vec::new();
    let mut out = Vec::with_capacity(routes.len());
    for r in routes.iter() {
        if !ids.contains(&r.nhid) {
            out.push(*r);
        } else if !done.contains(&(r.nhid, r.metric)) {
            done.push((r.nhid, r.metric));
            out.extend(routes6(net, ns, r.nhid, r).unwrap_or_default());
        }
    }
    *routes = out;
}
