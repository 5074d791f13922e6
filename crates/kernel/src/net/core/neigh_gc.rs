//! How many neighbours there may be: `gc_thresh1`, `2` and `3` of the whole machine, and who goes when there are more.
use super::neigh_sysctl::parms;
use super::neighbour::{Neighbour, destroy};
use super::nud::Nud;
use crate::env::Jiffies;
use crate::ids::*;
use crate::net::Net;
use crate::net::hits::Hits;

/// One family's counters, as `/proc/net/stat/arp_cache` and `ndisc_cache` show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighStats {
    pub allocs: u64,
    pub destroys: u64,
    pub lookups: u64,
    pub hits: u64,
    pub res_failed: u64,
    /// Solicitations received, by how they were addressed; of IPv6 alone.
    pub rcv_probes_mcast: u64,
    pub rcv_probes_ucast: u64,
    pub periodic_gc_runs: u64,
    pub forced_gc_runs: u64,
    pub unres_discards: u64,
    pub table_fulls: u64,
}

/// One family's entries of all namespaces together (Linux: `neigh_table`).
#[derive(Clone, Copy, Debug, Default)]
pub struct NeighCache {
    pub stats: NeighStats,
    pub entries: u32,
    /// Of them those that nothing collects.
    permanent: u32,
    last_flush: Jiffies,
    /// When the periodic collection was last counted.
    last_periodic: Jiffies,
    /// The addresses that found no room.
    pub full: Option<Hits>,
}

impl NeighCache {
    pub(super) fn moved(&mut self, from: Nud, to: Nud) {
        self.permanent += u32::from(to == Nud::Permanent);
        self.permanent -= u32::from(from == Nud::Permanent);
    }

    pub(super) fn destroyed(&mut self, state: Nud) {
        self.stats.destroys += 1;
        self.entries -= 1;
        self.permanent -= u32::from(state == Nud::Permanent);
    }
}

impl Net {
    pub fn neigh_stats(&mut self, six: bool) -> &mut NeighStats {
        &mut self.neigh[usize::from(six)].stats
    }
}

/// `gc_thresh1`, `2` and `3`.
fn thresholds(net: &Net, six: bool) -> [u32; 3] {
    let s = &net.sysctl;
    match six {
        false => [s.neigh_gc_thresh1, s.neigh_gc_thresh2, s.neigh_gc_thresh3],
        true => [s.neigh6_gc_thresh1, s.neigh6_gc_thresh2, s.neigh6_gc_thresh3],
    }
}

/// Entries of a family that a test is true of and no timer runs for, the oldest first.
fn select(net: &Net, six: bool, goes: impl Fn(&Neighbour) -> bool) -> Vec<(NsId, NeighId)> {
    let all = net.ns.iter().flat_map(|(ns, n)| n.neighs.iter().map(move |(id, e)| (ns, id, e)));
    let ours = all.filter(|(.., e)| e.addr.is_ipv6() == six && e.may_go() && !e.state.in_timer());
    let mut found: Vec<_> = ours.filter(|(.., e)| goes(e)).map(|(ns, id, e)| (e.nr, ns, id)).collect();
    found.sort_unstable_by_key(|(nr, ..)| *nr);
    found.into_iter().map(|(_, ns, id)| (ns, id)).collect()
}

/// Before another entry is made: what did not change for five seconds goes until `gc_thresh2` are left, at once beyond
/// `gc_thresh3`, otherwise every five seconds. Whether there is room.
#[doc(alias = "neigh_forced_gc")]
pub(super) fn forced_gc(net: &mut Net, six: bool) -> bool {
    let [_, thresh2, thresh3] = thresholds(net, six);
    let (now, five) = (net.env.jiffies(), 5 * net.env.hz);
    let cache = &mut net.neigh[usize::from(six)];
    let held = cache.entries - cache.permanent;
    let rested = now.wrapping_sub(cache.last_flush) > five;
    if held < thresh3 && (held < thresh2 || !rested) {
        return true;
    }
    cache.stats.forced_gc_runs += 1;
    cache.last_flush = now;
    let multicast = |e: &Neighbour| e.addr.is_multicast();
    let old = |e: &Neighbour| now.wrapping_sub(e.updated) > five;
    let mut dead = select(net, six, |e| matches!(e.state, Nud::Failed | Nud::NoArp) || multicast(e) || old(e));
    dead.truncate(held.saturating_sub(thresh2) as usize);
    let shrunk = !dead.is_empty();
    dead.into_iter().for_each(|(ns, id)| destroy(net, ns, id));
    if !shrunk && held >= thresh3 {
        net.neigh_stats(six).table_fulls += 1;
        let name = if six { "ndisc_cache" } else { "arp_cache" };
        net.kmsg_ratelimited(&format!("neighbour: {name}: neighbor table overflow!"));
        return false;
    }
    true
}

/// What nobody used for `gc_stale_time` goes when there are `gc_thresh1` entries.
#[doc(alias = "neigh_periodic_work")]
pub(super) fn gc(net: &mut Net, six: bool) {
    let now = net.env.jiffies();
    // It comes with the entries' own timers, which may be many at a time; what is counted is Linux's pace.
    let pace = 15 * net.env.hz;
    let cache = &mut net.neigh[usize::from(six)];
    if now.wrapping_sub(cache.last_periodic) >= pace {
        cache.last_periodic = now;
        cache.stats.periodic_gc_runs += 1;
    }
    if net.neigh[usize::from(six)].entries < thresholds(net, six)[0] {
        return;
    }
    let hz = u64::from(net.env.hz);
    let stale = |e: &Neighbour| u64::from(parms(net, e.dev, six).gc_stale_time_ms) * hz / 1000;
    let idle = |e: &Neighbour| {
        let used = if (e.used.wrapping_sub(e.confirmed) as i32) < 0 { e.confirmed } else { e.used };
        e.state == Nud::Failed || u64::from(now.wrapping_sub(used)) >= stale(e)
    };
    let dead = select(net, six, idle);
    dead.into_iter().for_each(|(ns, id)| destroy(net, ns, id));
}
