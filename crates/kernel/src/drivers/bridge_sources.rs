//! Sources that members behind a port want or do not want of a group (RFC 3376 §6.4, RFC 3810 §7.4), as a router keeps them.
use super::bridge_igmp;
use super::bridge_mcast::{self as mcast, BrIp, PortGroup, before};
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use belljar_wire::igmp::RecordType;
use core::net::IpAddr;

/// Of one port and group; what comes then is taken for any source (`PG_SRC_ENT_LIMIT`).
const PG_SRC_ENT_LIMIT: usize = 32;

impl PortGroup {
    /// Nobody wants anything any more.
    pub fn is_over(&self) -> bool {
        !self.permanent && !self.exclude && self.until.is_none() && self.sources.is_empty()
    }

    fn running(&self, s: &IpAddr) -> bool {
        self.sources.get(s).is_some_and(Option::is_some)
    }

    fn set(&mut self, s: IpAddr, until: Option<Jiffies>) {
        if self.sources.contains_key(&s) || self.sources.len() < PG_SRC_ENT_LIMIT {
            self.sources.insert(s, until);
        }
    }
}

/// Times that are over; true when the group may be over with them.
pub fn expire(g: &mut PortGroup, now: Jiffies) -> bool {
    let due = |t: Option<Jiffies>| t.is_some_and(|at| !before(now, at));
    let before_len = g.sources.len();
    if g.exclude {
        g.sources.values_mut().filter(|t| due(**t)).for_each(|t| *t = None);
        let some = g.sources.values().any(Option::is_some);
        if !g.permanent && due(g.until) && some {
            // Nobody excludes any more: those with a time are what is left.
            g.sources.retain(|_, t| t.is_some());
            (g.exclude, g.until) = (false, None);
        }
    } else {
        g.sources.retain(|_, t| t.is_none() && g.permanent || t.is_some() && !due(*t));
    }
    g.sources.len() != before_len
}

/// A record of a report, about a port's group that is there already.
#[doc(alias = "br_multicast_isinc_allow")]
#[doc(alias = "br_multicast_toex")]
#[doc(alias = "br_multicast_toin")]
#[doc(alias = "br_multicast_block")]
pub fn report(net: &mut Net, br: DevId, port: DevId, ip: BrIp, kind: RecordType, list: &[IpAddr]) {
    let Some((age, last)) = mcast::of(net, br).map(|m| (m.membership_interval, m.last_member_time())) else { return };
    let (gmi, lmqt) = (mcast::later(net, br, age), mcast::later(net, br, last));
    let Some(g) = mcast::of_mut(net, br)
        .and_then(|m| m.mdb.get_mut(&ip))
        .and_then(|e| e.ports.iter_mut().find(|g| g.port == port && !g.permanent))
    else {
        return;
    };
    // Sources, and whether the group as a whole, that somebody has to be asked about.
    let (mut ask, mut ask_group) = (Vec::new(), false);
    let wanted: Vec<IpAddr> = g.sources.keys().filter(|s| g.running(s)).copied().collect();
    match kind {
        RecordType::ModeIsInclude | RecordType::AllowNewSources => list.iter().for_each(|s| g.set(*s, gmi)),
        RecordType::ChangeToInclude => {
            list.iter().for_each(|s| g.set(*s, gmi));
            ask = wanted.into_iter().filter(|s| !list.contains(s)).collect();
            ask_group = g.exclude;
        }
        RecordType::ModeIsExclude | RecordType::ChangeToExclude => {
            let fresh = match (g.exclude, kind) {
                (false, _) => None,
                (true, RecordType::ModeIsExclude) => gmi,
                (true, _) => g.until,
            };
            g.sources.retain(|s, _| list.contains(s));
            for s in list {
                if !g.sources.contains_key(s) {
                    g.set(*s, fresh);
                }
            }
            if kind == RecordType::ChangeToExclude {
                ask = list.iter().filter(|s| g.running(s)).copied().collect();
            }
            (g.exclude, g.until) = (true, gmi);
        }
        RecordType::BlockOldSources => {
            let until = g.until;
            let fresh = list.iter().filter(|s| !g.sources.contains_key(s)).copied();
            let fresh: Vec<IpAddr> = if g.exclude { fresh.collect() } else { Vec::new() };
            fresh.into_iter().for_each(|s| g.set(s, until));
            ask = list.iter().filter(|s| g.running(s)).copied().collect();
        }
    }
    let sooner = |t: &mut Option<Jiffies>| match (*t, lmqt) {
        (Some(old), Some(new)) if before(new, old) => *t = lmqt,
        _ => {}
    };
    ask.iter().filter_map(|s| g.sources.get_mut(s).map(sooner)).for_each(drop);
    if ask_group {
        sooner(&mut g.until);
    }
    let over = g.is_over();
    if over {
        return mcast::remove(net, br, &ip, |g| g.port == port && g.is_over(), false);
    }
    let Some(f) = ip.family().filter(|_| mcast::of(net, br).is_some_and(|m| m.querier)) else { return };
    if !ask.is_empty() {
        bridge_igmp::send_query(net, br, Some(port), f, Some((ip, &ask)));
    }
    if ask_group {
        bridge_igmp::send_query(net, br, Some(port), f, Some((ip, &[])));
    }
}
