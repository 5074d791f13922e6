//! Neighbours: who on the link has which address, and what waits until that is known.
//!
//! States and timers of RFC 4861 §7.3 as Linux runs them for ARP. Only Ethernet devices have entries; lo needs none.
pub use super::neigh_gc::{NeighCache, NeighStats};
use super::neigh_gc::{forced_gc, gc};
use super::neigh_sysctl::{Own, Parms, parms};
pub use super::nud::Nud;
use crate::env::{Fired, Jiffies, MSEC, Nanos, SEC, TimerKey, TimerSlot, timers::Fire};
use crate::ids::*;
use crate::mem::{Gfp, Kind};
use crate::net::core::dev_tx;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::hits::Hits;
use crate::net::ipv4::route::Dst;
use crate::net::ipv4::{arp, icmp};
use crate::net::ipv6::ndisc;
use crate::net::netlink::notify;
use crate::net::{Net, af};
use belljar_abi::Errno;
use belljar_abi::rtnetlink::{NTF_EXT_LEARNED, RTM_GETNEIGH, RTM_NEWNEIGH};
use belljar_wire::Mac;
use belljar_wire::arp::ArpPacket;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_HOST_UNREACH};
use core::net::IpAddr;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
pub struct Neighbour {
    pub dev: DevId,
    pub addr: IpAddr,
    pub mac: Mac,
    pub state: Nud,
    pub probes: u32,
    /// NTF_ROUTER, NTF_EXT_LEARNED (somebody looks after it: it is not collected).
    pub flags: u8,
    /// Who made it (NDA_PROTOCOL).
    pub proto: u8,
    /// Ticks of the last change, the last proof that it is there, the last use.
    pub updated: Jiffies,
    pub confirmed: Jiffies,
    pub used: Jiffies,
    queue: VecDeque<Skb>,
    queue_bytes: u32,
    timer: TimerSlot,
    /// Which of all entries it was made as: forced collection begins with the oldest.
    pub(super) nr: u64,
}

impl Neighbour {
    /// It may be collected.
    pub(super) fn may_go(&self) -> bool {
        self.state != Nud::Permanent && self.flags & NTF_EXT_LEARNED == 0
    }

    /// Packets that wait for the address.
    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queue.iter()
    }
}

/// The index of a namespace's entries.
#[derive(Clone, Debug, Default)]
pub struct NeighTable {
    index: BTreeMap<(DevId, IpAddr), NeighId>,
}

/// What a device has for its neighbours.
#[derive(Clone, Debug, Default)]
pub struct NeighDev {
    pub own: Own,
    /// Of IPv4 and of IPv6: (base it was drawn from, when, ticks).
    reachable: [(u32, Jiffies, Jiffies); 2],
    /// Questions that are answered for others, and when.
    pub(crate) proxied: VecDeque<(Nanos, ArpPacket)>,
    pub(crate) proxy_timer: TimerSlot,
}

impl Neighbour {
    /// Packets that wait until the address is known.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

impl NeighTable {
    /// Entries by device and address.
    pub fn iter(&self) -> impl Iterator<Item = NeighId> + '_ {
        self.index.values().copied()
    }

    pub fn get(&self, dev: DevId, addr: IpAddr) -> Option<NeighId> {
        self.index.get(&(dev, addr)).copied()
    }
}

/// As [`NeighTable::get`], for packets of the protocol itself, which count.
#[doc(alias = "neigh_lookup")]
pub fn lookup(net: &mut Net, ns: NsId, dev: DevId, addr: IpAddr) -> Option<NeighId> {
    let found = net.ns.get(ns)?.neigh_table.get(dev, addr);
    let stats = net.neigh_stats(addr.is_ipv6());
    stats.lookups += 1;
    stats.hits += u64::from(found.is_some());
    found
}

/// What a neigh_update may overwrite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub r#override: bool,
    /// By the administrator: also over PERMANENT.
    pub admin: bool,
    /// Another address that may not be taken makes the one that is known doubtful (NEIGH_UPDATE_F_WEAK_OVERRIDE).
    pub weak: bool,
}

/// The settings that count for an entry.
fn parms_of(net: &Net, ns: NsId, id: NeighId) -> Parms {
    let e = net.ns.get(ns).and_then(|n| n.neighs.get(id));
    e.map_or_else(Parms::default, |e| parms(net, e.dev, e.addr.is_ipv6()))
}

fn is_v6(net: &Net, ns: NsId, id: NeighId) -> bool {
    net.ns.get(ns).and_then(|n| n.neighs.get(id)).is_some_and(|e| e.addr.is_ipv6())
}

fn ticks(net: &Net, nanos: u64) -> Jiffies {
    (nanos.div_ceil(SEC / u64::from(net.env.hz.max(1)))) as Jiffies
}

fn retrans_ticks(net: &Net, p: &Parms) -> Jiffies {
    ticks(net, u64::from(p.retrans_time_ms.max(10)) * MSEC)
}

fn delay_ticks(net: &Net, p: &Parms) -> Jiffies {
    ticks(net, u64::from(p.delay_first_probe_time_ms) * MSEC)
}

/// 0.5 to 1.5 times the base, drawn anew every five minutes and when the base changes.
#[doc(alias = "neigh_rand_reach_time")]
fn reachable_ticks(net: &mut Net, dev: DevId, six: bool, base: u32) -> Jiffies {
    let (now, redraw) = (net.env.jiffies(), ticks(net, 300 * SEC));
    let Some((old_base, at, value)) = net.devs.get(dev).map(|d| d.neigh.reachable[usize::from(six)]) else {
        return 0;
    };
    if old_base == base && at != 0 && now.wrapping_sub(at) < redraw {
        return value;
    }
    let ms = net.env.rng.below(base.max(1)) + base / 2;
    let value = ticks(net, u64::from(ms) * MSEC);
    if let Some(d) = net.devs.get_mut(dev) {
        d.neigh.reachable[usize::from(six)] = (base, now, value);
    }
    value
}

fn after_eq(a: Jiffies, b: Jiffies) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Sends `skb` (at its network header) to `hop`: at once when the address is known, later when it has to be asked for.
#[doc(alias = "neigh_output")]
pub fn output(net: &mut Net, ns: NsId, dev: DevId, hop: IpAddr, skb: Skb) -> Result<(), Errno> {
    let Some(id) = lookup_or_create(net, ns, dev, hop) else {
        net.kfree_skb(skb, DropReason::NeighCreateFail, "ip_finish_output2");
        return Err(Errno::ENOBUFS);
    };
    let Some(n) = net.ns.get(ns).and_then(|n| n.neighs.get(id)) else { return Err(Errno::ENOBUFS) };
    let (state, mac) = (n.state, n.mac);
    if state.connected() {
        return transmit(net, dev, mac, skb);
    }
    event_send(net, ns, id, skb)
}

fn transmit(net: &mut Net, dev: DevId, to: Mac, mut skb: Skb) -> Result<(), Errno> {
    let own = net.devs.get(dev).map_or(Mac::ZERO, |d| d.mac);
    let protocol = skb.protocol_or_ip();
    if !ethernet::push_header(&mut skb, to, own, protocol) {
        net.kfree_skb(skb, DropReason::NeighHhFillFail, "neigh_output");
        return Err(Errno::ENOBUFS);
    }
    dev_tx::dev_queue_xmit(net, dev, skb)
}

/// The unconfirmed states (`neigh_resolve_output`, `__neigh_event_send`).
fn event_send(net: &mut Net, ns: NsId, id: NeighId, skb: Skb) -> Result<(), Errno> {
    let six = is_v6(net, ns, id);
    let now = net.env.jiffies();
    let p = parms_of(net, ns, id);
    let (ucast, limit) = (p.ucast_solicit, p.unres_qlen_bytes);
    let (retrans, delay) = (retrans_ticks(net, &p), delay_ticks(net, &p));
    let probing = p.app_solicit.saturating_add(p.mcast_solicit) != 0;
    let Some(n) = net.ns.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) else { return Err(Errno::ENOBUFS) };
    n.used = now;
    let dev = n.dev;
    match n.state {
        Nud::Stale => {
            n.state = Nud::Delay;
            n.updated = now;
            let mac = n.mac;
            arm(net, ns, id, now.wrapping_add(delay));
            return transmit(net, dev, mac, skb);
        }
        Nud::Failed if !probing => {
            net.kfree_skb(skb, DropReason::NeighFailed, "neigh_resolve_output");
            return Ok(());
        }
        state if state.valid() => {
            let mac = n.mac;
            return transmit(net, dev, mac, skb);
        }
        _ => {}
    }
    let begin = n.state == Nud::Failed;
    if begin {
        n.probes = ucast;
        n.state = Nud::Incomplete;
        n.updated = now;
    }
    n.queue_bytes = n.queue_bytes.saturating_add(skb.truesize);
    n.queue.push_back(skb);
    let mut dropped = Vec::new();
    while n.queue_bytes > limit
        && n.queue.len() > 1
        && let Some(old) = n.queue.pop_front()
    {
        n.queue_bytes -= old.truesize.min(n.queue_bytes);
        dropped.push(old);
    }
    for old in dropped {
        net.neigh_stats(six).unres_discards += 1;
        net.kfree_skb(old, DropReason::NeighQueueFull, "neigh_resolve_output");
    }
    if begin {
        arm(net, ns, id, now.wrapping_add(retrans));
        probe(net, ns, id);
    }
    Ok(())
}

fn arm(net: &mut Net, ns: NsId, id: NeighId, at: Jiffies) {
    if let Some(n) = net.ns.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) {
        net.env.timers.arm(&mut n.timer, at, TimerKey::Neigh(ns, id));
    }
}

/// One question: unicast while the old address may still hold, then of a program (`app_solicit`), then broadcast.
#[doc(alias = "neigh_probe")]
fn probe(net: &mut Net, ns: NsId, id: NeighId) {
    let p = parms_of(net, ns, id);
    let Some(n) = net.ns.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) else { return };
    n.probes += 1;
    if n.probes > p.ucast_solicit && n.probes - p.ucast_solicit <= p.app_solicit {
        return notify::neigh(net, RTM_GETNEIGH, ns, id);
    }
    let to = (n.probes <= p.ucast_solicit && !n.mac.is_zero()).then_some(n.mac);
    let (dev, addr) = (n.dev, n.addr);
    // The source of the packet that waits, so that the answer's cache on the other side is the right one.
    let want = n.queue.front().map(|s| af::addresses(s).0);
    match addr {
        IpAddr::V4(addr) => arp::solicit(net, ns, dev, addr, to, want.map(af::v4)),
        IpAddr::V6(addr) => {
            let want = want.and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None });
            ndisc::send_ns(net, dev, addr, to, want);
        }
    }
}

/// Finds the entry or makes one. Beyond gc_thresh2 unused entries go first; when there are gc_thresh3 all the same, the
/// packet cannot be sent.
#[doc(alias = "__neigh_create")]
pub fn lookup_or_create(net: &mut Net, ns: NsId, dev: DevId, addr: IpAddr) -> Option<NeighId> {
    let now = net.env.jiffies();
    if let Some(id) = net.ns.get(ns)?.neigh_table.get(dev, addr) {
        return Some(id);
    }
    let six = addr.is_ipv6();
    if !forced_gc(net, six) {
        let now = net.env.now;
        Hits::note(&mut net.neigh[usize::from(six)].full, now, addr);
        return None;
    }
    let Net { mem, ns: spaces, neigh, .. } = net;
    let n = spaces.get_mut(ns)?;
    let cache = &mut neigh[usize::from(six)];
    cache.stats.allocs += 1;
    if !mem.room(Kind::Neigh, &n.neighs, Gfp::Atomic) {
        return None;
    }
    cache.entries += 1;
    let id = n.neighs.insert(Neighbour {
        dev,
        addr,
        mac: Mac::ZERO,
        // Nothing known and nothing asked: the first packet begins as after a failure.
        state: Nud::Failed,
        probes: 0,
        flags: 0,
        proto: 0,
        updated: now,
        confirmed: now,
        used: now,
        queue: VecDeque::new(),
        queue_bytes: 0,
        timer: TimerSlot::default(),
        nr: cache.stats.allocs,
    });
    n.neigh_table.index.insert((dev, addr), id);
    Some(id)
}

/// Nothing is known of it any more, and it is not asked for.
pub(crate) fn fail(net: &mut Net, ns: NsId, id: NeighId) {
    let Net { ns: spaces, neigh, .. } = net;
    if let Some(e) = spaces.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) {
        neigh[usize::from(e.addr.is_ipv6())].moved(e.state, Nud::Failed);
        e.state = Nud::Failed;
        e.timer.cancel();
    }
}

pub fn destroy(net: &mut Net, ns: NsId, id: NeighId) {
    let Net { ns: spaces, neigh, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let Some(mut e) = n.neighs.remove(id) else { return };
    n.neigh_table.index.remove(&(e.dev, e.addr));
    neigh[usize::from(e.addr.is_ipv6())].destroyed(e.state);
    e.timer.cancel();
    for skb in e.queue {
        net.kfree_skb(skb, DropReason::NeighDead, "neigh_destroy");
    }
}

/// The device went down: everything about it is forgotten.
#[doc(alias = "neigh_ifdown")]
pub fn ifdown(net: &mut Net, ns: NsId, dev: DevId) {
    let Some(n) = net.ns.get(ns) else { return };
    let dead: Vec<NeighId> = n.neigh_table.index.iter().filter(|((d, _), _)| *d == dev).map(|(_, id)| *id).collect();
    dead.into_iter().for_each(|id| destroy(net, ns, id));
}

/// The device's own address changed, or its carrier is gone: who its neighbours are has to be found out again, all but
/// what is permanent.
#[doc(alias = "neigh_changeaddr")]
#[doc(alias = "neigh_carrier_down")]
pub fn forget(net: &mut Net, ns: NsId, dev: DevId, families: &[bool]) {
    let Some(n) = net.ns.get(ns) else { return };
    let of = |e: &Neighbour| e.dev == dev && e.state != Nud::Permanent && families.contains(&e.addr.is_ipv6());
    let goes = |id: &NeighId| n.neighs.get(*id).is_some_and(of);
    let dead: Vec<NeighId> = n.neigh_table.iter().filter(goes).collect();
    dead.into_iter().for_each(|id| destroy(net, ns, id));
}

/// What was learned: from ARP, or from the administrator.
#[doc(alias = "__neigh_update")]
pub fn update(net: &mut Net, ns: NsId, id: NeighId, mut mac: Mac, mut to: Nud, how: Update) {
    let six = is_v6(net, ns, id);
    let now = net.env.jiffies();
    let base_ms = parms_of(net, ns, id).base_reachable_time_ms;
    let base = ticks(net, u64::from(base_ms) * MSEC);
    let Some(dev) = net.ns.get(ns).and_then(|n| n.neighs.get(id)).map(|e| e.dev) else { return };
    let reach = reachable_ticks(net, dev, six, base_ms);
    let Net { ns: spaces, neigh, .. } = net;
    let Some(n) = spaces.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) else { return };
    let (old, mut changed) = (n.state, n.mac != mac);
    if matches!(old, Nud::Permanent | Nud::NoArp) && !how.admin {
        return;
    }
    if to.connected() {
        n.confirmed = now;
    }
    if old.valid() {
        if changed && !how.r#override && !how.admin {
            if !(how.weak && old.connected()) {
                return;
            }
            (mac, to, changed) = (n.mac, Nud::Stale, false);
        } else if !changed && to == Nud::Stale && !how.admin {
            to = old;
        }
    }
    if to != old || changed {
        n.updated = now;
    }
    if changed {
        n.mac = mac;
        if !to.connected() {
            n.confirmed = now.wrapping_sub(base << 1);
        }
    }
    if to == old {
        if changed {
            notify::neigh(net, RTM_NEWNEIGH, ns, id);
        }
        return;
    }
    neigh[usize::from(six)].moved(old, to);
    n.state = to;
    n.timer.cancel();
    let waiting = if old.valid() { VecDeque::new() } else { std::mem::take(&mut n.queue) };
    n.queue_bytes = if old.valid() { n.queue_bytes } else { 0 };
    if to == Nud::Reachable {
        arm(net, ns, id, now.wrapping_add(reach));
    }
    if !how.admin {
        notify::neigh(net, RTM_NEWNEIGH, ns, id);
    }
    for skb in waiting {
        // The path there is what the packets waited for; a failure now is one of the device.
        let _ = transmit(net, dev, mac, skb);
    }
}

/// What an advertisement or a request says of an entry: these flags are so from now on.
#[doc(alias = "neigh_update_flags")]
pub(crate) fn update_flags(net: &mut Net, ns: NsId, id: NeighId, which: u8, flags: u8) {
    if let Some(e) = net.ns.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) {
        e.flags = e.flags & !which | flags & which;
    }
}

/// Progress of a connection proves that the next hop is there (`dst_confirm_neigh`).
#[doc(alias = "sock_confirm_neigh")]
pub fn confirm(net: &mut Net, ns: NsId, dst: &Dst, daddr: IpAddr) {
    let now = net.env.jiffies();
    let Some(n) = net.ns.get_mut(ns) else { return };
    if let Some(id) = n.neigh_table.get(dst.dev, dst.gateway.unwrap_or(daddr))
        && let Some(e) = n.neighs.get_mut(id)
    {
        e.confirmed = now;
    }
}

/// The wheel looked at an entry.
#[doc(alias = "neigh_timer_handler")]
pub fn timer(net: &mut Net, ns: NsId, id: NeighId, at: Fired) {
    let six = is_v6(net, ns, id);
    let now = net.env.jiffies();
    let p = parms_of(net, ns, id);
    let (delay, retrans) = (delay_ticks(net, &p), retrans_ticks(net, &p));
    let Some(dev) = net.ns.get(ns).and_then(|n| n.neighs.get(id)).map(|e| e.dev) else { return };
    let reach = reachable_ticks(net, dev, six, p.base_reachable_time_ms);
    let Some(n) = net.ns.get_mut(ns).and_then(|n| n.neighs.get_mut(id)) else { return };
    if net.env.timers.look(&mut n.timer, at, now, TimerKey::Neigh(ns, id)) == Fire::NotYet || !n.state.in_timer() {
        return;
    }
    let mut next = now.wrapping_add(retrans);
    match n.state {
        Nud::Reachable if after_eq(n.confirmed.wrapping_add(reach), now.wrapping_add(1)) => {
            next = n.confirmed.wrapping_add(reach);
        }
        Nud::Reachable if after_eq(n.used.wrapping_add(delay), now) => {
            n.state = Nud::Delay;
            n.updated = now;
            next = now.wrapping_add(delay);
        }
        Nud::Reachable => {
            n.state = Nud::Stale;
            n.updated = now;
        }
        Nud::Delay if after_eq(n.confirmed.wrapping_add(delay), now) => {
            n.state = Nud::Reachable;
            n.updated = now;
            next = n.confirmed.wrapping_add(reach);
        }
        Nud::Delay => {
            n.state = Nud::Probe;
            n.updated = now;
            n.probes = 0;
        }
        _ => {}
    }
    let mcast = if n.state == Nud::Probe { p.mcast_resolicit } else { p.mcast_solicit };
    let max = p.ucast_solicit.saturating_add(p.app_solicit).saturating_add(mcast);
    if matches!(n.state, Nud::Incomplete | Nud::Probe) && n.probes >= max {
        n.state = Nud::Failed;
        n.updated = now;
        notify::neigh(net, RTM_NEWNEIGH, ns, id);
        return invalidate(net, ns, id);
    }
    let state = n.state;
    if state.in_timer() {
        arm(net, ns, id, next);
    }
    if matches!(state, Nud::Incomplete | Nud::Probe) {
        probe(net, ns, id);
    }
    gc(net, six);
}

/// Nobody answered: whoever waits hears "host unreachable".
#[doc(alias = "neigh_invalidate")]
fn invalidate(net: &mut Net, ns: NsId, id: NeighId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    let Some(e) = n.neighs.get_mut(id) else { return };
    e.queue_bytes = 0;
    let six = e.addr.is_ipv6();
    let waiting = std::mem::take(&mut e.queue);
    net.neigh_stats(six).res_failed += 1;
    for skb in waiting {
        if six {
            ndisc::error_report(net, skb);
            continue;
        }
        icmp::icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0);
        net.kfree_skb(skb, DropReason::NeighFailed, "arp_error_report");
    }
}

/// `ip neigh replace`: an entry that ARP does not change.
pub fn set_permanent(net: &mut Net, ns: NsId, dev: DevId, addr: IpAddr, mac: Mac) -> Result<(), Errno> {
    let id = lookup_or_create(net, ns, dev, addr).ok_or(Errno::ENOBUFS)?;
    update(net, ns, id, mac, Nud::Permanent, Update { r#override: true, admin: true, weak: false });
    Ok(())
}
