//! Multicast groups: what sockets joined, with their source filters, and what that makes of a device (RFC 3376 §3).
//! The protocol that tells routers of it is in `igmp.rs`, the options in `mcast_opt.rs`.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::sock::{Family, Sock};
use crate::net::ipv4::igmp::{self, Igmp};
use crate::net::ipv4::route::{Flow4, ip_route_output};
use belljar_abi::Errno;
use belljar_wire::igmp::{ALL_HOSTS, IPPROTO_IGMP};
use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet};

/// Which sources a list names: the only ones wanted, or the only ones not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Include,
    Exclude,
}

/// One group that a socket is a member of (`struct ip_mc_socklist`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub group: Ipv4Addr,
    pub dev: DevId,
    pub ifindex: u32,
    /// The address that the program named the interface by.
    pub addr: Ipv4Addr,
    pub mode: Mode,
    /// `None`: there never was a list, and the mode may still change.
    pub sources: Option<Vec<Ipv4Addr>>,
}

/// What a socket says about multicast, beside its defaults.
#[derive(Clone, Debug)]
pub struct McSock {
    pub ttl: u8,
    pub r#loop: bool,
    /// IP_MULTICAST_ALL: also groups that others joined.
    pub all: bool,
    /// IP_MULTICAST_IF, and IP_UNICAST_IF for everything else.
    pub dev: Option<DevId>,
    pub addr: Ipv4Addr,
    pub unicast_dev: Option<DevId>,
    pub list: Vec<Membership>,
}

impl Default for McSock {
    fn default() -> McSock {
        let addr = Ipv4Addr::UNSPECIFIED;
        McSock { ttl: 1, r#loop: true, all: true, dev: None, addr, unicast_dev: None, list: Vec::new() }
    }
}

impl Sock {
    pub fn mcast(&self) -> Option<&McSock> {
        self.cold.as_ref()?.mcast.as_deref()
    }

    /// IP_MULTICAST_ALL as it begins: a socket of IPv6 hears of IPv4 only what it joined itself.
    fn hears_all(&self) -> bool {
        self.family == Family::Inet
    }

    /// As it is unless the program says otherwise.
    pub fn mcast_default(&self) -> McSock {
        McSock { all: self.hears_all(), ..McSock::default() }
    }

    pub fn mcast_mut(&mut self) -> &mut McSock {
        let default = self.mcast_default();
        self.cold().mcast.get_or_insert_with(|| Box::new(default))
    }
}

/// A group on a device (`struct ip_mc_list`): how many want it in which way, counted by source.
#[derive(Clone, Debug)]
pub struct Group {
    pub addr: Ipv4Addr,
    pub users: u32,
    /// Members in either mode: include, exclude.
    counts: [u32; 2],
    sources: BTreeMap<Ipv4Addr, [u32; 2]>,
    pub igmp: igmp::GroupState,
}

/// The filter that members make together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub mode: Mode,
    pub sources: BTreeSet<Ipv4Addr>,
}

/// What a device knows of groups; the newest comes first.
#[derive(Clone, Debug, Default)]
pub struct McDev {
    pub groups: Vec<Group>,
    pub igmp: Igmp,
}

impl McDev {
    pub fn group(&self, addr: Ipv4Addr) -> Option<&Group> {
        self.groups.iter().find(|g| g.addr == addr)
    }

    pub fn group_mut(&mut self, addr: Ipv4Addr) -> Option<&mut Group> {
        self.groups.iter_mut().find(|g| g.addr == addr)
    }
}

impl Group {
    fn count(&mut self, m: (Mode, &[Ipv4Addr]), add: bool) {
        let step = |n: &mut u32| *n = if add { *n + 1 } else { n.saturating_sub(1) };
        step(&mut self.counts[m.0 as usize]);
        for s in m.1 {
            let n = self.sources.entry(*s).or_default();
            step(&mut n[m.0 as usize]);
            if *n == [0, 0] {
                self.sources.remove(s);
            }
        }
    }

    /// RFC 3376 §3.2: exclude wins; a source is kept away if all who exclude name it and nobody includes it.
    pub fn filter(&self) -> Filter {
        let excluders = self.counts[1];
        let mode = if excluders > 0 { Mode::Exclude } else { Mode::Include };
        let named = |n: &[u32; 2]| if excluders > 0 { n[0] == 0 && n[1] == excluders } else { n[0] > 0 };
        let sources = self.sources.iter().filter(|(_, n)| named(n)).map(|(s, _)| *s).collect();
        Filter { mode, sources }
    }

    /// Sources with how many include and exclude each, for `/proc/net/mcfilter`.
    pub fn sources(&self) -> impl Iterator<Item = (Ipv4Addr, [u32; 2])> + '_ {
        self.sources.iter().map(|(s, n)| (*s, *n))
    }

    fn takes(&self, src: Ipv4Addr) -> bool {
        if src.is_unspecified() {
            return true;
        }
        match self.sources.get(&src) {
            Some(n) => n[0] > 0 || n[1] != self.counts[1],
            None => self.counts[1] > 0,
        }
    }
}

/// Whether a device takes packets from `src` to a group.
#[doc(alias = "ip_check_mc_rcu")]
pub fn check(net: &Net, dev: DevId, group: Ipv4Addr, src: Ipv4Addr, proto: u8) -> bool {
    let group = net.devs.get(dev).and_then(|d| d.mc.group(group));
    group.is_some_and(|g| proto == IPPROTO_IGMP || g.takes(src))
}

/// Whether a socket takes a packet that its device took.
#[doc(alias = "ip_mc_sf_allow")]
pub fn sf_allow(sk: &Sock, dev: Option<DevId>, group: IpAddr, src: IpAddr) -> bool {
    let (IpAddr::V4(group), IpAddr::V4(src)) = (group, src) else { return true };
    if !group.is_multicast() {
        return true;
    }
    let Some(mc) = sk.mcast() else { return sk.hears_all() };
    let Some(m) = mc.list.iter().find(|m| m.group == group && Some(m.dev) == dev) else { return mc.all };
    let named = m.sources.as_ref().is_some_and(|s| s.contains(&src));
    named == (m.mode == Mode::Include)
}

/// One member's part changes from `old` to `new`; without either it joins or leaves.
pub fn change(net: &mut Net, dev: DevId, group: Ipv4Addr, old: Part<'_>, new: Part<'_>) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let before = d.mc.group(group).map(Group::filter).unwrap_or_default();
    if d.mc.group(group).is_none() {
        let (sources, igmp) = (BTreeMap::new(), igmp::GroupState::default());
        d.mc.groups.insert(0, Group { addr: group, users: 0, counts: [0, 0], sources, igmp });
    }
    let Some(g) = d.mc.group_mut(group) else { return };
    if let Some(part) = old {
        g.count(part, false);
        g.users = g.users.saturating_sub(1);
    }
    if let Some(part) = new {
        g.count(part, true);
        g.users += 1;
    }
    let (after, joined) = (g.filter(), old.is_none() && g.users == 1);
    let gone = (g.users == 0).then(|| std::mem::take(&mut g.igmp));
    d.mc.groups.retain(|g| g.users > 0);
    igmp::state_change(net, dev, group, &before, &after, joined, gone.as_ref());
}

/// See [`change`].
pub type Part<'a> = Option<(Mode, &'a [Ipv4Addr])>;

impl Membership {
    pub fn part(&self) -> Part<'_> {
        Some((self.mode, self.sources.as_deref().unwrap_or(&[])))
    }
}

/// An interface as options name it: by number, by one of its addresses, or by the way to the group.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    pub ifindex: u32,
    pub addr: Ipv4Addr,
}

#[doc(alias = "ip_mc_find_dev")]
pub fn find_dev(net: &mut Net, ns: NsId, i: Interface, group: Ipv4Addr) -> Option<DevId> {
    if i.ifindex != 0 {
        return net.dev_by_index(ns, i.ifindex);
    }
    if !i.addr.is_unspecified() {
        return dev_of_addr(net, ns, i.addr);
    }
    ip_route_output(net, ns, &Flow4::to(group)).ok().map(|d| d.dev)
}

/// Where a packet leaves, and from which address, as far as IP_MULTICAST_IF and IP_UNICAST_IF say so.
#[inline]
pub fn egress(sk: &Sock, to: IpAddr, oif: &mut Option<DevId>, saddr: &mut IpAddr) {
    let Some(mc) = sk.mcast().filter(|_| to.is_ipv4()) else { return };
    if !to.is_multicast() {
        *oif = oif.or(mc.unicast_dev);
        return;
    }
    *oif = oif.or(mc.dev);
    if saddr.is_unspecified() {
        *saddr = mc.addr.into();
    }
}

/// The device with this address.
#[doc(alias = "ip_dev_find")]
pub fn dev_of_addr(net: &Net, ns: NsId, addr: Ipv4Addr) -> Option<DevId> {
    let has = |id: &DevId| net.devs.get(*id).is_some_and(|d| d.addrs.iter().any(|a| a.local == addr));
    let found = net.ns_devs(ns).find(has);
    // All of 127/8 is lo.
    found.or_else(|| net.ns.get(ns).map(|n| n.lo).filter(|_| addr.is_loopback()))
}

/// Joins; `mode` is include for a first source.
#[doc(alias = "__ip_mc_join_group")]
pub fn join(k: &mut Kernel, sock: SockId, group: Ipv4Addr, i: Interface, mode: Mode) -> Result<(), Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = find_dev(net, sk.ns, i, group).ok_or(Errno::ENODEV)?;
    let max = net.ns.get(sk.ns).map_or(0, |n| n.sysctl.igmp_max_memberships);
    let ifindex = net.devs.get(dev).map_or(0, |d| d.ifindex);
    let list = &mut sk.mcast_mut().list;
    if list.iter().any(|m| m.group == group && m.dev == dev) {
        return Err(Errno::EADDRINUSE);
    }
    if list.len() as i64 >= i64::from(max) {
        return Err(Errno::ENOBUFS);
    }
    let m = Membership { group, dev, ifindex, addr: i.addr, mode, sources: None };
    change(net, dev, group, None, m.part());
    list.insert(0, m);
    Ok(())
}

#[doc(alias = "ip_mc_leave_group")]
pub fn leave(k: &mut Kernel, sock: SockId, group: Ipv4Addr, i: Interface) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = find_dev(net, sk.ns, i, group);
    if i.ifindex == 0 && i.addr.is_unspecified() && dev.is_none() {
        return Err(Errno::ENODEV);
    }
    let by_index = i.ifindex != 0 || dev.is_some();
    let fits = |m: &Membership| {
        let here = match by_index {
            true => Some(m.dev) == dev,
            false => m.addr == i.addr,
        };
        m.group == group && here
    };
    let list = &mut sk.mcast_mut().list;
    let at = list.iter().position(fits).ok_or(Errno::EADDRNOTAVAIL)?;
    let m = list.remove(at);
    change(net, m.dev, group, m.part(), None);
    Ok(())
}

/// One source more or less in the list of a membership.
#[doc(alias = "ip_mc_source")]
pub fn source(
    k: &mut Kernel,
    sock: SockId,
    (group, src): (Ipv4Addr, Ipv4Addr),
    i: Interface,
    mode: Mode,
    add: bool,
) -> Result<(), Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = find_dev(net, sk.ns, i, group).ok_or(Errno::ENODEV)?;
    let max = net.ns.get(sk.ns).map_or(0, |n| n.sysctl.igmp_max_msf);
    let list = &mut sk.mcast_mut().list;
    let m = list.iter_mut().find(|m| m.group == group && m.dev == dev).ok_or(Errno::EINVAL)?;
    if m.mode != mode && m.sources.is_some() {
        return Err(Errno::EINVAL);
    }
    let old = m.clone();
    m.mode = mode;
    let listed = m.sources.as_ref().and_then(|s| s.iter().position(|x| *x == src));
    let outcome = match (add, listed) {
        (true, Some(_)) | (false, None) => Err(Errno::EADDRNOTAVAIL),
        (true, None) if m.sources.as_ref().map_or(0, Vec::len) as i64 >= i64::from(max) => Err(Errno::ENOBUFS),
        (true, None) => {
            m.sources.get_or_insert_default().push(src);
            Ok(())
        }
        // The last source of an include list: that is to leave.
        (false, Some(_)) if mode == Mode::Include && m.sources.as_ref().is_some_and(|s| s.len() == 1) => {
            list.retain(|m| m.group != group || m.dev != dev);
            change(net, dev, group, old.part(), None);
            return Ok(());
        }
        (false, Some(at)) => {
            m.sources.get_or_insert_default().remove(at);
            Ok(())
        }
    };
    if old != *m {
        let new = m.clone();
        change(net, dev, group, old.part(), new.part());
    }
    outcome
}

/// The whole list at once. An empty include list leaves the group.
#[doc(alias = "ip_mc_msfilter")]
pub fn msfilter(
    k: &mut Kernel,
    sock: SockId,
    group: Ipv4Addr,
    i: Interface,
    mode: Mode,
    sources: Vec<Ipv4Addr>,
) -> Result<(), Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let dev = find_dev(net, sk.ns, i, group).ok_or(Errno::ENODEV)?;
    let list = &mut sk.mcast_mut().list;
    if mode == Mode::Include && sources.is_empty() {
        if let Some(at) = list.iter().position(|m| m.group == group && m.dev == dev) {
            let m = list.remove(at);
            change(net, dev, group, m.part(), None);
        }
        return Ok(());
    }
    let m = list.iter_mut().find(|m| m.group == group && m.dev == dev).ok_or(Errno::EINVAL)?;
    let old = m.clone();
    (m.mode, m.sources) = (mode, Some(sources).filter(|s| !s.is_empty()));
    let new = m.clone();
    change(net, dev, group, old.part(), new.part());
    Ok(())
}

/// The socket goes away: it leaves everything (`ip_mc_drop_socket`).
#[doc(alias = "ip_mc_drop_socket")]
pub fn drop_socket(k: &mut Kernel, sock: SockId) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.sk_mut(sock).filter(|sk| sk.mcast().is_some()) else { return };
    for m in std::mem::take(&mut sk.mcast_mut().list) {
        change(net, m.dev, m.group, m.part(), None);
    }
}

/// The device comes up: all hosts are one group, and what was joined before is told again.
#[doc(alias = "ip_mc_up")]
pub fn up(net: &mut Net, dev: DevId) {
    if net.devs.get(dev).is_some_and(|d| d.mc.group(ALL_HOSTS).is_none()) {
        change(net, dev, ALL_HOSTS, None, Some((Mode::Exclude, &[])));
    }
    let all: Vec<(Ipv4Addr, Filter)> =
        net.devs.get(dev).map_or(Vec::new(), |d| d.mc.groups.iter().map(|g| (g.addr, g.filter())).collect());
    for (group, filter) in all {
        igmp::state_change(net, dev, group, &Filter::default(), &filter, true, None);
    }
}
