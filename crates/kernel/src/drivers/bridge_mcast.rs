//! Multicast snooping of a bridge: who is a member of which group behind which port (`bridge mdb`), where routers are, and
//! who asks. Frames of groups then go to members and routers, while somebody asks; else everywhere. The messages are read in
//! `bridge_igmp`, lists of sources in `bridge_sources`.
//!
//! Left out: contexts of single VLANs, statistics (`mcast_stats_enabled`), limits of groups of a port.
use super::bridge::{self, BrPort};
use super::{bridge_igmp, bridge_stp, bridge_timer};
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::netlink::{mdb, notify};
use crate::net::{ipv4, ipv6};
use belljar_abi::rtnetlink::{RTM_DELMDB, RTM_NEWMDB};
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_P_IP, ETH_P_IPV6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

/// Groups at most (`mcast_hash_max`): the next one turns snooping off.
const BR_MULTICAST_DEFAULT_HASH_MAX: u32 = 4096;
/// `mcast_router`.
pub const MDB_RTR_TYPE_DISABLED: u8 = 0;
pub const MDB_RTR_TYPE_TEMP_QUERY: u8 = 1;
pub const MDB_RTR_TYPE_PERM: u8 = 2;
pub const MDB_RTR_TYPE_TEMP: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupAddr {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    L2(Mac),
}

/// What an entry is about (`struct br_ip`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BrIp {
    pub group: GroupAddr,
    /// `None`: any.
    pub src: Option<IpAddr>,
    pub vid: u16,
}

impl BrIp {
    pub fn family(&self) -> Option<Family> {
        match self.group {
            GroupAddr::V4(_) => Some(Family::V4),
            GroupAddr::V6(_) => Some(Family::V6),
            GroupAddr::L2(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A group (`struct net_bridge_mdb_entry`).
#[derive(Clone, Debug, Default)]
pub struct MdbEntry {
    /// Later ones are shown first.
    pub made: u64,
    /// The machine itself is a member, until then.
    pub host: Option<Jiffies>,
    pub ports: Vec<PortGroup>,
}

/// A port with members (`struct net_bridge_port_group`).
#[derive(Clone, Debug)]
pub struct PortGroup {
    pub port: DevId,
    /// By the administrator, without age.
    pub permanent: bool,
    /// Who put it there (`RTPROT_*`).
    pub proto: u8,
    pub until: Option<Jiffies>,
    /// All sources but those that nobody wants any more; else those with a time only.
    pub exclude: bool,
    pub sources: BTreeMap<IpAddr, Option<Jiffies>>,
}

/// Who asks, of one family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Querier {
    /// Somebody else did, and counts until then; only from this time on is it believed that everybody has answered.
    pub other: Option<Jiffies>,
    pub delay: Jiffies,
    pub address: Option<IpAddr>,
    pub own: OwnQuery,
    /// This machine is a router's way until then.
    pub router: Option<Jiffies>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnQuery {
    pub at: Option<Jiffies>,
    pub startup_sent: u32,
}

/// Settings and state of a bridge. Times in ticks.
#[derive(Clone, Debug)]
pub struct BrMcast {
    pub enabled: bool,
    pub router: u8,
    pub querier: bool,
    pub query_use_ifaddr: bool,
    pub hash_max: u32,
    pub last_member_count: u32,
    pub startup_query_count: u32,
    pub last_member_interval: Jiffies,
    pub membership_interval: Jiffies,
    pub querier_interval: Jiffies,
    pub query_interval: Jiffies,
    pub query_response_interval: Jiffies,
    pub startup_query_interval: Jiffies,
    pub igmp_version: u8,
    pub mld_version: u8,
    pub mdb: BTreeMap<BrIp, MdbEntry>,
    made: u64,
    /// Its own device is in the group of all snoopers.
    heard: bool,
    pub families: [Querier; 2],
}

impl BrMcast {
    pub fn new(hz: u32) -> BrMcast {
        BrMcast {
            enabled: true,
            router: MDB_RTR_TYPE_TEMP_QUERY,
            querier: false,
            query_use_ifaddr: false,
            hash_max: BR_MULTICAST_DEFAULT_HASH_MAX,
            last_member_count: 2,
            startup_query_count: 2,
            last_member_interval: hz,
            membership_interval: 260 * hz,
            querier_interval: 255 * hz,
            query_interval: 125 * hz,
            query_response_interval: 10 * hz,
            startup_query_interval: 125 * hz / 4,
            igmp_version: 2,
            mld_version: 1,
            mdb: BTreeMap::new(),
            made: 0,
            heard: false,
            families: [Querier::default(); 2],
        }
    }

    /// Sources count (IGMPv3, MLDv2).
    pub fn has_sources(&self, f: Family) -> bool {
        match f {
            Family::V4 => self.igmp_version == 3,
            Family::V6 => self.mld_version == 2,
        }
    }

    pub fn last_member_time(&self) -> Jiffies {
        self.last_member_interval.saturating_mul(self.last_member_count)
    }

    pub fn soonest(&self) -> impl Iterator<Item = Jiffies> + '_ {
        let groups = self.mdb.values().flat_map(|e| e.host.into_iter().chain(e.ports.iter().flat_map(group_times)));
        groups.chain(self.families.iter().flat_map(|q| [q.other, q.own.at, q.router]).flatten())
    }
}

fn group_times(g: &PortGroup) -> impl Iterator<Item = Jiffies> + '_ {
    g.until.into_iter().chain(g.sources.values().copied().flatten())
}

/// What a port has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMcast {
    pub router: u8,
    pub fast_leave: bool,
    /// Queries came in there: a router is behind it until then, by family.
    pub routers: [Option<Jiffies>; 2],
    pub own: [OwnQuery; 2],
}

impl Default for PortMcast {
    fn default() -> PortMcast {
        PortMcast {
            router: MDB_RTR_TYPE_TEMP_QUERY,
            fast_leave: false,
            routers: [None; 2],
            own: [OwnQuery::default(); 2],
        }
    }
}

impl PortMcast {
    pub fn is_router(&self, f: Family) -> bool {
        self.router == MDB_RTR_TYPE_PERM || self.routers[f as usize].is_some()
    }

    pub fn soonest(&self) -> impl Iterator<Item = Jiffies> {
        self.routers.into_iter().chain(self.own.map(|o| o.at)).flatten()
    }
}

pub fn of(net: &Net, br: DevId) -> Option<&BrMcast> {
    bridge::of(net, br).map(|b| &b.mcast)
}

pub fn of_mut(net: &mut Net, br: DevId) -> Option<&mut BrMcast> {
    net.bridge_mut(br).map(|b| &mut b.mcast)
}

pub fn port_mut(net: &mut Net, dev: DevId) -> Option<&mut PortMcast> {
    net.devs.get_mut(dev)?.brport.as_deref_mut().map(|p| &mut p.mcast)
}

pub fn later(net: &mut Net, br: DevId, ticks: Jiffies) -> Option<Jiffies> {
    let at = net.env.jiffies().wrapping_add(ticks);
    bridge_timer::at(net, br, at);
    Some(at)
}

/// `a` is sooner than `b`.
pub fn before(a: Jiffies, b: Jiffies) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// What reading a frame found out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// It was a message about groups: it goes everywhere, unless it is for routers.
    pub igmp: bool,
    pub routers_only: bool,
}

/// Where a frame of a group goes, if not everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    entry: Option<BrIp>,
    src: Option<IpAddr>,
    family: Option<Family>,
}

/// The addresses of a packet of a group, its link header pulled.
pub fn packet(skb: &Skb, to: Mac, vid: u16) -> (BrIp, Option<IpAddr>) {
    let l2 = (BrIp { group: GroupAddr::L2(to), src: None, vid }, None);
    match skb.protocol {
        ETH_P_IP => skb.peek::<20>().map_or(l2, |h| {
            let four = |at: usize| Ipv4Addr::new(h[at], h[at + 1], h[at + 2], h[at + 3]);
            (BrIp { group: GroupAddr::V4(four(16)), src: None, vid }, Some(four(12).into()))
        }),
        ETH_P_IPV6 => skb.peek::<40>().map_or(l2, |h| {
            let six = |at: usize| {
                let octets = h.get(at..).and_then(|b| b.first_chunk::<16>());
                octets.map_or(Ipv6Addr::UNSPECIFIED, |o| Ipv6Addr::from(*o))
            };
            (BrIp { group: GroupAddr::V6(six(24)), src: None, vid }, Some(six(8).into()))
        }),
        _ => l2,
    }
}

/// `None`: to everybody, as nothing is known of the group or nobody asks who wants it.
#[doc(alias = "br_mdb_entry_skb_get")]
pub fn choose(net: &Net, br: DevId, skb: &Skb, (to, vid): (Mac, u16), seen: Seen) -> Option<Hit> {
    let m = of(net, br).filter(|m| m.enabled)?;
    let (ip, src) = packet(skb, to, vid);
    let with_src = BrIp { src, ..ip };
    let entry = [with_src, ip].into_iter().find(|ip| !seen.igmp && m.mdb.contains_key(ip));
    let asked = match ip.family() {
        Some(f) => querier_exists(net, br, f),
        None => entry.is_some(),
    };
    let known = entry.is_some() || seen.routers_only;
    (known && asked).then_some(Hit { entry, src, family: ip.family() })
}

/// Everybody who wants a group has had time to say so.
#[doc(alias = "br_multicast_querier_exists")]
fn querier_exists(net: &Net, br: DevId, f: Family) -> bool {
    let Some(m) = of(net, br) else { return false };
    let q = &m.families[f as usize];
    let speaks = f == Family::V4 || net.devs.get(br).is_some_and(|d| d.inet6.linklocal().is_some());
    !before(net.env.jiffies(), q.delay) && (m.querier && speaks || q.other.is_some())
}

impl Hit {
    /// A port gets it: members and routers are there.
    pub fn wants(&self, net: &Net, br: DevId, dev: DevId, p: &BrPort) -> bool {
        let router = self.family.map_or(p.mcast.router == MDB_RTR_TYPE_PERM, |f| p.mcast.is_router(f));
        let group = || of(net, br)?.mdb.get(self.entry.as_ref()?)?.ports.iter().find(|g| g.port == dev);
        router || group().is_some_and(|g| self.src.is_none_or(|s| g.takes(s)))
    }

    /// The machine itself does.
    pub fn host(&self, net: &Net, br: DevId) -> bool {
        let Some(m) = of(net, br) else { return false };
        let joined = self.entry.and_then(|e| m.mdb.get(&e)).is_some_and(|e| e.host.is_some());
        let routes = match (m.router, self.family) {
            (MDB_RTR_TYPE_PERM, _) => true,
            (MDB_RTR_TYPE_TEMP_QUERY, Some(f)) => m.families[f as usize].router.is_some(),
            _ => false,
        };
        joined || routes
    }
}

impl PortGroup {
    fn takes(&self, src: IpAddr) -> bool {
        match (self.sources.get(&src), self.exclude || self.sources.is_empty()) {
            (Some(until), _) => until.is_some(),
            (None, all) => all,
        }
    }
}

/// The entry of a group, made if it is new. `None`: there are too many, and snooping is off from now on.
#[doc(alias = "br_multicast_new_group")]
pub fn group(net: &mut Net, br: DevId, ip: BrIp) -> Option<&mut MdbEntry> {
    let m = of_mut(net, br)?;
    if !m.mdb.contains_key(&ip) && m.mdb.len() >= m.hash_max as usize {
        m.enabled = false;
        return None;
    }
    let m = of_mut(net, br)?;
    m.made += 1;
    let made = m.made;
    Some(m.mdb.entry(ip).or_insert(MdbEntry { made, ..MdbEntry::default() }))
}

/// Members of a group are behind a port, or on this machine.
#[doc(alias = "br_multicast_add_group")]
pub fn join(net: &mut Net, br: DevId, from: Option<DevId>, ip: BrIp, exclude: bool) {
    let enabled = |d: DevId| bridge::port(net, d).is_some_and(|p| p.stp.state != bridge_stp::BR_STATE_DISABLED);
    if !net.devs.get(br).is_some_and(|d| d.up) || from.is_some_and(|d| !enabled(d)) {
        return;
    }
    let Some(age) = of(net, br).map(|m| m.membership_interval) else { return };
    let until = later(net, br, age);
    let Some(e) = group(net, br, ip) else { return };
    let Some(port) = from else {
        if e.host.replace(until.unwrap_or_default()).is_none() {
            notify::mdb(net, RTM_NEWMDB, br, &ip, None);
        }
        return;
    };
    if let Some(g) = e.ports.iter_mut().find(|g| g.port == port) {
        g.exclude |= exclude;
        if exclude && !g.permanent {
            g.until = until;
        }
        return;
    }
    let until = until.filter(|_| exclude);
    let (permanent, proto, sources) = (false, mdb::RTPROT_KERNEL, BTreeMap::new());
    e.ports.insert(0, PortGroup { port, permanent, proto, until, exclude, sources });
    notify::mdb(net, RTM_NEWMDB, br, &ip, Some(port));
}

/// Members left, some perhaps not: whoever asks asks, and who does not answer in time is gone.
#[doc(alias = "br_multicast_leave_group")]
pub fn leave(net: &mut Net, br: DevId, from: Option<DevId>, ip: BrIp) {
    let Some(m) = of(net, br) else { return };
    let Some(f) = ip.family().filter(|_| m.mdb.contains_key(&ip)) else { return };
    let (time, querier, other) = (m.last_member_time(), m.querier, m.families[f as usize].other.is_some());
    let fast = from.and_then(|d| bridge::port(net, d)).is_some_and(|p| p.mcast.fast_leave);
    if fast {
        return remove(net, br, &ip, |g| Some(g.port) == from && !g.permanent, false);
    }
    if other {
        return;
    }
    if querier && let Some(port) = from {
        bridge_igmp::send_query(net, br, Some(port), f, Some((ip, &[])));
    }
    let at = later(net, br, time);
    let sooner = |old: &mut Option<Jiffies>| match (*old, at) {
        (Some(o), Some(a)) if before(a, o) => *old = at,
        _ => {}
    };
    let Some(e) = of_mut(net, br).and_then(|m| m.mdb.get_mut(&ip)) else { return };
    match from {
        None => sooner(&mut e.host),
        Some(port) => e.ports.iter_mut().filter(|g| g.port == port).for_each(|g| sooner(&mut g.until)),
    }
}

/// Takes ports out of an entry, and the machine itself; an entry without anybody goes.
pub fn remove(net: &mut Net, br: DevId, ip: &BrIp, which: impl Fn(&PortGroup) -> bool, host: bool) {
    let Some(e) = of_mut(net, br).and_then(|m| m.mdb.get_mut(ip)) else { return };
    let gone: Vec<PortGroup> = e.ports.iter().filter(|g| which(g)).cloned().collect();
    let host = host && e.host.take().is_some();
    e.ports.retain(|g| !which(g));
    let empty = e.ports.is_empty() && e.host.is_none();
    if host {
        notify::mdb(net, RTM_DELMDB, br, ip, None);
    }
    for g in gone {
        notify::mdb_group(net, RTM_DELMDB, br, ip, &g);
    }
    if empty && let Some(m) = of_mut(net, br) {
        m.mdb.remove(ip);
    }
}

/// Every entry loses what is named.
pub fn remove_all(net: &mut Net, br: DevId, which: impl Fn(&PortGroup) -> bool, host: bool) {
    let all: Vec<BrIp> = of(net, br).into_iter().flat_map(|m| m.mdb.keys().copied()).collect();
    all.iter().for_each(|ip| remove(net, br, ip, &which, host));
}

/// A port begins or ceases to work.
#[doc(alias = "br_multicast_enable_port")]
#[doc(alias = "br_multicast_disable_port")]
pub fn port_state(net: &mut Net, br: DevId, dev: DevId, state: u8) {
    if state == bridge_stp::BR_STATE_DISABLED {
        remove_all(net, br, |g| g.port == dev && !g.permanent, false);
        if let Some(p) = port_mut(net, dev) {
            (p.routers, p.own) = ([None; 2], [OwnQuery::default(); 2]);
        }
    } else if state != bridge_stp::BR_STATE_BLOCKING && of(net, br).is_some_and(|m| m.enabled) {
        start_queries(net, br, Some(dev));
    }
}

/// The bridge came up or went down.
#[doc(alias = "br_multicast_open")]
#[doc(alias = "br_multicast_stop")]
pub fn follow(net: &mut Net, br: DevId) {
    let up = net.devs.get(br).is_some_and(|d| d.up);
    let Some(m) = of_mut(net, br) else { return };
    let joins = up && m.enabled;
    if !up {
        m.families = [Querier::default(); 2];
    } else if m.enabled && m.families[0].own == OwnQuery::default() {
        start_queries(net, br, None);
    }
    hear_snoopers(net, br, joins);
}

/// All snoopers are a group (RFC 4286), which the bridge's own device is in while it is one of them.
#[doc(alias = "br_multicast_join_snoopers")]
#[doc(alias = "br_multicast_leave_snoopers")]
fn hear_snoopers(net: &mut Net, br: DevId, on: bool) {
    let Some(m) = of_mut(net, br) else { return };
    if std::mem::replace(&mut m.heard, on) == on {
        return;
    }
    let part: ipv4::mcast::Part<'_> = Some((ipv4::mcast::Mode::Exclude, &[]));
    let (old, new) = if on { (None, part) } else { (part, None) };
    ipv4::mcast::change(net, br, ALL_SNOOPERS, old, new);
    match on {
        true => ipv6::mcast::join(net, br, ALL_SNOOPERS6),
        false => ipv6::mcast::leave(net, br, ALL_SNOOPERS6),
    }
}

const ALL_SNOOPERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 106);
const ALL_SNOOPERS6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6a);

/// Asks at once, and again some times soon.
#[doc(alias = "__br_multicast_open")]
pub(super) fn start_queries(net: &mut Net, br: DevId, port: Option<DevId>) {
    let own = OwnQuery { at: later(net, br, 0), startup_sent: 0 };
    match port {
        Some(p) => port_mut(net, p).into_iter().for_each(|p| p.own = [own; 2]),
        None => of_mut(net, br).into_iter().flat_map(|m| &mut m.families).for_each(|q| q.own = own),
    }
}

/// `mcast_snooping`: without it nothing is learned; what was learned stays and is not looked at.
#[doc(alias = "br_multicast_toggle")]
pub fn set_enabled(net: &mut Net, br: DevId, on: bool) {
    let Some(m) = of_mut(net, br) else { return };
    if std::mem::replace(&mut m.enabled, on) == on {
        return;
    }
    let up = net.devs.get(br).is_some_and(|d| d.up);
    hear_snoopers(net, br, up && on);
    if up && on {
        start_queries(net, br, None);
        for p in bridge::of(net, br).map_or_else(Vec::new, |b| b.ports.clone()) {
            if bridge::port(net, p).is_some_and(|p| p.stp.state != bridge_stp::BR_STATE_DISABLED) {
                start_queries(net, br, Some(p));
            }
        }
    }
}

/// `mcast_querier`.
#[doc(alias = "br_multicast_set_querier")]
pub fn set_querier(net: &mut Net, br: DevId, on: bool) {
    let now = net.env.jiffies();
    let Some(m) = of_mut(net, br) else { return };
    if std::mem::replace(&mut m.querier, on) == on || !on {
        return;
    }
    let wait = m.query_response_interval;
    m.families.iter_mut().filter(|q| q.other.is_none()).for_each(|q| q.delay = now.wrapping_add(wait));
    start_queries(net, br, None);
    for p in bridge::of(net, br).map_or_else(Vec::new, |b| b.ports.clone()) {
        if bridge::forwards(net, p) {
            start_queries(net, br, Some(p));
        }
    }
}

/// `mcast_router` of a port.
#[doc(alias = "br_multicast_set_port_router")]
pub fn set_port_router(net: &mut Net, br: DevId, dev: DevId, how: u8) {
    let wait = of(net, br).map_or(0, |m| m.querier_interval);
    let until = if how == MDB_RTR_TYPE_TEMP { later(net, br, wait) } else { None };
    let Some(p) = port_mut(net, dev) else { return };
    if how == MDB_RTR_TYPE_TEMP || p.router != how {
        (p.router, p.routers) = (how, [until; 2]);
        notify::mdb_router(net, RTM_NEWMDB, br, dev);
    }
}

/// A query came in by a port: a router is behind it.
#[doc(alias = "br_multicast_mark_router")]
pub fn mark_router(net: &mut Net, br: DevId, from: Option<DevId>, f: Family) {
    let wait = of(net, br).map_or(0, |m| m.querier_interval);
    let until = later(net, br, wait);
    let Some(dev) = from else {
        if let Some(m) = of_mut(net, br).filter(|m| m.router == MDB_RTR_TYPE_TEMP_QUERY) {
            m.families[f as usize].router = until;
        }
        return;
    };
    let Some(p) = port_mut(net, dev) else { return };
    if !matches!(p.router, MDB_RTR_TYPE_DISABLED | MDB_RTR_TYPE_PERM) {
        let new = p.routers == [None; 2];
        p.routers[f as usize] = until;
        if new {
            notify::mdb_router(net, RTM_NEWMDB, br, dev);
        }
    }
}
