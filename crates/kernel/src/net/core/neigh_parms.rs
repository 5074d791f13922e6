//! The settings of the neighbour tables, one family's after the other's, as times and limits.
use crate::env::{Jiffies, MSEC, SEC};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::sysctl::Sysctl;

/// The settings of one family (`net.ipv4.neigh.default`, `net.ipv6.neigh.default`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parms {
    pub base_reachable_time_ms: u32,
    pub delay_first_probe_time: u32,
    pub gc_stale_time: u32,
    pub gc_thresh1: u32,
    pub gc_thresh3: u32,
    pub mcast_solicit: u32,
    pub retrans_time_ms: u32,
    pub ucast_solicit: u32,
    pub unres_qlen_bytes: u32,
}

pub(super) fn parms(net: &Net, ns: NsId, six: bool) -> Parms {
    let Some(s) = net.ns.get(ns).map(|n| &n.sysctl) else { return Parms::default() };
    if six { v6_parms(s) } else { v4_parms(s) }
}

fn v4_parms(s: &Sysctl) -> Parms {
    Parms {
        base_reachable_time_ms: s.neigh_base_reachable_time_ms,
        delay_first_probe_time: s.neigh_delay_first_probe_time,
        gc_stale_time: s.neigh_gc_stale_time,
        gc_thresh1: s.neigh_gc_thresh1,
        gc_thresh3: s.neigh_gc_thresh3,
        mcast_solicit: s.neigh_mcast_solicit,
        retrans_time_ms: s.neigh_retrans_time_ms,
        ucast_solicit: s.neigh_ucast_solicit,
        unres_qlen_bytes: s.neigh_unres_qlen_bytes,
    }
}

fn v6_parms(s: &Sysctl) -> Parms {
    Parms {
        base_reachable_time_ms: s.neigh6_base_reachable_time_ms,
        delay_first_probe_time: s.neigh6_delay_first_probe_time,
        gc_stale_time: s.neigh6_gc_stale_time,
        gc_thresh1: s.neigh6_gc_thresh1,
        gc_thresh3: s.neigh6_gc_thresh3,
        mcast_solicit: s.neigh6_mcast_solicit,
        retrans_time_ms: s.neigh6_retrans_time_ms,
        ucast_solicit: s.neigh6_ucast_solicit,
        unres_qlen_bytes: s.neigh6_unres_qlen_bytes,
    }
}

pub(super) fn ticks(net: &Net, nanos: u64) -> Jiffies {
    (nanos.div_ceil(SEC / u64::from(net.env.hz.max(1)))) as Jiffies
}

pub(super) fn retrans_ticks(net: &Net, ns: NsId, six: bool) -> Jiffies {
    let ms = parms(net, ns, six).retrans_time_ms.max(10);
    ticks(net, u64::from(ms) * MSEC)
}

pub(super) fn delay_ticks(net: &Net, ns: NsId, six: bool) -> Jiffies {
    ticks(net, u64::from(parms(net, ns, six).delay_first_probe_time) * SEC)
}

#[doc(alias = "neigh_rand_reach_time")]
pub(super) fn reachable_ticks(net: &mut Net, ns: NsId, six: bool) -> Jiffies {
    let base = parms(net, ns, six).base_reachable_time_ms;
    let (now, redraw) = (net.env.jiffies(), ticks(net, 300 * SEC));
    let Some((old_base, at, value)) = net.ns.get(ns).map(|n| n.neigh_table.reachable[usize::from(six)]) else {
        return 0;
    };
    if old_base == base && at != 0 && now.wrapping_sub(at) < redraw {
        return value;
    }
    let ms = net.env.rng.below(base.max(1)) + base / 2;
    let value = ticks(net, u64::from(ms) * MSEC);
    if let Some(n) = net.ns.get_mut(ns) {
        n.neigh_table.reachable[usize::from(six)] = (base, now, value);
    }
    value
}
