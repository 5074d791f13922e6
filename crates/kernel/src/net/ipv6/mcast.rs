//! Groups of an interface: who wants them, from which sources, and what that makes of the interface (RFC 3810 §4). The
//! protocol that tells routers of it is in `mld.rs`.
use super::mld;
use crate::ids::*;
use crate::net::Net;
pub use crate::net::ipv4::mcast::Mode;
use belljar_wire::ipv6::ALL_ROUTERS;
use core::net::Ipv6Addr;
use std::collections::{BTreeMap, BTreeSet};

/// What one member wants: only these sources, or all but these.
pub type Part6<'a> = Option<(Mode, &'a [Ipv6Addr])>;

/// A member without a list: a socket that joined, or an address of ours.
pub const ALL_SOURCES: Part6<'static> = Some((Mode::Exclude, &[]));

/// `struct ifmcaddr6`.
#[derive(Clone, Debug)]
pub struct Group6 {
    pub addr: Ipv6Addr,
    /// Who wants it: sockets, and our own addresses.
    pub users: u32,
    /// Members in either mode: include, exclude.
    counts: [u32; 2],
    sources: BTreeMap<Ipv6Addr, [u32; 2]>,
    /// Nobody wants it any more; it stays until that was told.
    pub left: bool,
    pub(super) mld: mld::GroupState,
}

/// The filter that members make together; a group that is not there includes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter6 {
    pub mode: Mode,
    pub sources: BTreeSet<Ipv6Addr>,
}

impl Group6 {
    fn new(addr: Ipv6Addr) -> Group6 {
        let (sources, mld) = (BTreeMap::new(), mld::GroupState::default());
        Group6 { addr, users: 0, counts: [0, 0], sources, left: false, mld }
    }

    fn count(&mut self, (mode, sources): (Mode, &[Ipv6Addr]), add: bool) {
        let step = |n: &mut u32| *n = if add { *n + 1 } else { n.saturating_sub(1) };
        step(&mut self.counts[mode as usize]);
        step(&mut self.users);
        for s in sources {
            let n = self.sources.entry(*s).or_default();
            step(&mut n[mode as usize]);
            if *n == [0, 0] {
                self.sources.remove(s);
            }
        }
    }

    /// RFC 3810 §4.2: exclude wins; a source is kept away if all who exclude name it and nobody includes it.
    pub fn filter(&self) -> Filter6 {
        let excluders = self.counts[1];
        let mode = if excluders > 0 { Mode::Exclude } else { Mode::Include };
        let named = |n: &[u32; 2]| if excluders > 0 { n[0] == 0 && n[1] == excluders } else { n[0] > 0 };
        let sources = self.sources.iter().filter(|(_, n)| named(n)).map(|(s, _)| *s).collect();
        Filter6 { mode, sources }
    }

    fn takes(&self, src: Ipv6Addr) -> bool {
        match self.sources.get(&src) {
            Some(n) => n[0] > 0 || n[1] != self.counts[1],
            None => self.counts[1] > 0,
        }
    }
}

/// One more who wants to hear the group.
#[doc(alias = "__ipv6_dev_mc_inc")]
pub fn join(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    change(net, dev, group, None, ALL_SOURCES);
}

/// The group of those who ask for a new address: when it is new too, routers are told of all groups again.
#[doc(alias = "addrconf_join_solict")]
pub(super) fn join_for_address(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    let new = net.devs.get(dev).is_some_and(|d| !d.inet6.has_group(group));
    join(net, dev, group);
    if new {
        mld::say_again(net, dev);
    }
}

/// Groups of routers, which an interface that forwards hears (`dev_forward_change`).
const ROUTER_GROUPS: [Ipv6Addr; 3] =
    [ALL_ROUTERS, Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 2)];

/// The interface became a router's, or ceased to be one.
pub(super) fn router(net: &mut Net, dev: DevId, on: bool) {
    if net.devs.get(dev).is_some_and(|d| d.up && d.speaks_ipv6() && !d.is_loopback()) {
        ROUTER_GROUPS.into_iter().for_each(|g| if on { join(net, dev, g) } else { leave(net, dev, g) });
    }
}

/// One less.
#[doc(alias = "__ipv6_dev_mc_dec")]
pub fn leave(net: &mut Net, dev: DevId, group: Ipv6Addr) {
    change(net, dev, group, ALL_SOURCES, None);
}

/// One member's part changes from `old` to `new`; without either it joins or leaves.
#[doc(alias = "ip6_mc_add_src")]
#[doc(alias = "ip6_mc_del_src")]
pub fn change(net: &mut Net, dev: DevId, group: Ipv6Addr, old: Part6<'_>, new: Part6<'_>) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let told = !mld::silent(group) && !d.is_loopback();
    let (up, i) = (d.up, &mut d.inet6);
    let at = match i.groups.iter().position(|g| g.addr == group) {
        Some(at) => at,
        // The interface went down in between: its groups went with it.
        None if old.is_some() => return,
        None => {
            i.groups.push(Group6::new(group));
            i.groups.len() - 1
        }
    };
    let Some(g) = i.groups.get_mut(at) else { return };
    if g.left && old.is_some() {
        return;
    }
    let before = g.filter();
    if let Some(part) = old {
        g.count(part, false);
    }
    if let Some(part) = new {
        g.count(part, true);
    }
    let (after, joined) = (g.filter(), g.users > 0 && (g.left || old.is_none() && g.users == 1));
    g.left = g.users == 0;
    if g.left && !(told && up) {
        i.groups.remove(at);
    } else if told && up {
        mld::state_change(net, dev, group, &before, &after, joined);
    }
}

/// Whether an interface takes packets from `src` to a group.
#[doc(alias = "ipv6_chk_mcast_addr")]
pub fn check(net: &Net, dev: DevId, group: Ipv6Addr, src: Ipv6Addr) -> bool {
    let Some(d) = net.devs.get(dev) else { return false };
    d.inet6.groups.iter().any(|g| g.addr == group && !g.left && g.takes(src))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_make_one_filter() {
        let ip = |n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n);
        let mut g = Group6::new(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 1));
        g.count((Mode::Include, &[ip(1), ip(2)]), true);
        assert_eq!(g.filter(), Filter6 { mode: Mode::Include, sources: [ip(1), ip(2)].into() });
        assert!(g.takes(ip(1)) && !g.takes(ip(3)));
        // Exclude wins, but for what somebody includes.
        g.count((Mode::Exclude, &[ip(2), ip(3)]), true);
        assert_eq!(g.filter(), Filter6 { mode: Mode::Exclude, sources: [ip(3)].into() });
        assert!(g.takes(ip(2)) && !g.takes(ip(3)) && g.takes(ip(9)));
        g.count((Mode::Exclude, &[]), true);
        assert_eq!(g.filter().sources, BTreeSet::new());
        g.count((Mode::Exclude, &[]), false);
        g.count((Mode::Exclude, &[ip(2), ip(3)]), false);
        g.count((Mode::Include, &[ip(1), ip(2)]), false);
        assert_eq!((g.users, g.filter(), g.sources.len()), (0, Filter6::default(), 0));
    }
}
