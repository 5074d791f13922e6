//! One timer for all of a bridge's times: of its tree and of its groups.
use super::bridge::{self, BrPort};
use super::bridge_mcast::*;
use super::bridge_stp::*;
use super::{bridge_igmp, bridge_sources};
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, TimerKey};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::netlink::notify;
use belljar_abi::rtnetlink::RTM_DELMDB;

/// Something is due then.
pub fn at(net: &mut Net, br: DevId, at: Jiffies) {
    let Some(mut timer) = net.bridge_mut(br).map(|b| std::mem::take(&mut b.timer)) else { return };
    if timer.deadline().is_none_or(|old| (at.wrapping_sub(old) as i32) < 0) {
        net.env.timers.arm(&mut timer, at, TimerKey::Bridge(br));
    }
    if let Some(b) = net.bridge_mut(br) {
        b.timer = timer;
    }
}

/// What is due happens, then the next is looked for.
pub fn timer(net: &mut Net, br: DevId, fired: Fired) {
    let now = net.env.jiffies();
    let Some(mut timer) = net.bridge_mut(br).map(|b| std::mem::take(&mut b.timer)) else { return };
    let look = net.env.timers.look(&mut timer, fired, now, TimerKey::Bridge(br));
    if let Some(b) = net.bridge_mut(br) {
        b.timer = timer;
    }
    if look == Fire::NotYet {
        return;
    }
    expire_tree(net, br);
    expire_snooping(net, br);
    let mcast = bridge::of(net, br).into_iter().flat_map(|b| b.mcast.soonest());
    let ports = bridge::of(net, br).into_iter().flat_map(|b| b.ports.iter());
    let queries = ports.filter_map(|p| bridge::port(net, *p)).flat_map(|p| p.mcast.soonest());
    let next = soonest(net, br).chain(mcast).chain(queries);
    if let Some(next) = next.reduce(|a, b| if (b.wrapping_sub(a) as i32) < 0 { b } else { a }) {
        at(net, br, next);
    }
}

/// The bridge goes.
pub fn forget(net: &mut Net, br: DevId) {
    let Some(mut timer) = net.bridge_mut(br).map(|b| std::mem::take(&mut b.timer)) else { return };
    net.env.timers.remove(&mut timer);
}

/// When the next of the tree's timers is due.
fn soonest(net: &Net, br: DevId) -> impl Iterator<Item = Jiffies> + '_ {
    let s = stp(net, br);
    let all = bridge::of(net, br).into_iter().flat_map(|b| b.ports.iter());
    let of_port = |p: &BrPort| [p.stp.message_age, p.stp.forward_delay, p.stp.hold];
    let ports = all.filter_map(|d| bridge::port(net, *d)).flat_map(of_port);
    [s.hello_timer, s.tcn_timer, s.change_timer].into_iter().chain(ports).flatten()
}

/// What is due of the tree.
fn expire_tree(net: &mut Net, br: DevId) {
    let now = net.env.jiffies();
    let due = |t: Option<Jiffies>| t.is_some_and(|at| now.wrapping_sub(at) as i32 >= 0);
    let s = stp(net, br);
    let up = net.devs.get(br).is_some_and(|d| d.up);
    if due(s.hello_timer) {
        with(net, br, |s| s.hello_timer = None);
        if up {
            config_generation(net, br);
        }
        if up && s.on {
            let at = after(net, br, s.times.hello_time);
            with(net, br, |s| s.hello_timer = at);
        }
    }
    if due(s.tcn_timer) {
        with(net, br, |s| s.tcn_timer = None);
        if up && !is_root(net, br) {
            transmit_tcn(net, br);
            let at = after(net, br, s.own.hello_time);
            with(net, br, |s| s.tcn_timer = at);
        }
    }
    if due(s.change_timer) {
        with(net, br, |s| (s.change_timer, s.detected, s.topology_change) = (None, false, false));
    }
    for dev in ports(net, br) {
        let Some(p) = bridge::port(net, dev).map(|p| p.stp) else { continue };
        if due(p.message_age) {
            with_port(net, dev, |p| p.message_age = None);
            message_age_expired(net, br, dev);
        }
        if due(p.forward_delay) {
            with_port(net, dev, |p| p.forward_delay = None);
            forward_delay_expired(net, br, dev);
        }
        if due(p.hold) {
            with_port(net, dev, |p| p.hold = None);
            if p.config_pending {
                transmit_config(net, br, dev);
            }
        }
    }
}

/// Nothing was heard from the designated bridge for too long.
#[doc(alias = "br_message_age_timer_expired")]
fn message_age_expired(net: &mut Net, br: DevId, dev: DevId) {
    if bridge::port(net, dev).is_none_or(|p| p.stp.state == BR_STATE_DISABLED) {
        return;
    }
    let was_root = is_root(net, br);
    become_designated(net, br, dev);
    reconsider(net, br, was_root);
}

#[doc(alias = "br_forward_delay_timer_expired")]
fn forward_delay_expired(net: &mut Net, br: DevId, dev: DevId) {
    match bridge::port(net, dev).map(|p| p.stp.state) {
        Some(BR_STATE_LISTENING) => {
            let at = after(net, br, stp(net, br).times.forward_delay);
            with_port(net, dev, |p| p.forward_delay = at);
            set_state(net, br, dev, BR_STATE_LEARNING);
        }
        Some(BR_STATE_LEARNING) => {
            set_state(net, br, dev, BR_STATE_FORWARDING);
            let id = bridge_id(net, br);
            let some = |d: DevId| bridge::port(net, d).is_some_and(|p| p.stp.designated_bridge == id);
            if enabled(net, br).into_iter().any(some) {
                topology_change_detection(net, br);
            }
            set_carrier(net, br, true);
        }
        _ => {}
    }
}

/// What is due of groups and queriers.
fn expire_snooping(net: &mut Net, br: DevId) {
    let now = net.env.jiffies();
    let due = |t: Option<Jiffies>| t.is_some_and(|at| !before(now, at));
    expire_groups(net, br, now);
    for f in FAMILIES {
        let Some(q) = of(net, br).map(|m| m.families[f as usize]) else { return };
        if due(q.router)
            && let Some(m) = of_mut(net, br)
        {
            m.families[f as usize].router = None;
        }
        if due(q.other) {
            if let Some(m) = of_mut(net, br) {
                (m.families[f as usize].other, m.families[f as usize].address) = (None, None);
            }
            // Nobody else asks any more.
            start_queries(net, br, None);
        }
        if due(q.own.at) {
            own_query(net, br, None, f, q.own);
        }
    }
    for dev in bridge::of(net, br).map_or_else(Vec::new, |b| b.ports.clone()) {
        let Some(p) = bridge::port(net, dev).map(|p| p.mcast) else { continue };
        for f in FAMILIES {
            if due(p.routers[f as usize])
                && let Some(p) = port_mut(net, dev)
            {
                p.routers[f as usize] = None;
                if p.routers == [None; 2] && p.router != MDB_RTR_TYPE_PERM {
                    p.router = if p.router == MDB_RTR_TYPE_TEMP { MDB_RTR_TYPE_TEMP_QUERY } else { p.router };
                    notify::mdb_router(net, RTM_DELMDB, br, dev);
                }
            }
            if due(p.own[f as usize].at) {
                own_query(net, br, Some(dev), f, p.own[f as usize]);
            }
        }
    }
}

/// Asks, if this bridge does that and nobody else; and when to do so again.
#[doc(alias = "br_multicast_send_query")]
fn own_query(net: &mut Net, br: DevId, port: Option<DevId>, f: Family, own: OwnQuery) {
    let Some(m) = of(net, br) else { return };
    let sent = own.startup_sent.saturating_add(1).min(m.startup_query_count);
    let wait = if sent < m.startup_query_count { m.startup_query_interval } else { m.query_interval };
    let active = m.querier && m.enabled;
    let asks = active && m.families[f as usize].other.is_none();
    if asks {
        bridge_igmp::send_query(net, br, port, f, None);
    }
    let at = if active { later(net, br, wait.max(1)) } else { None };
    let new = OwnQuery { at, startup_sent: sent.max(1) };
    match port {
        Some(p) => port_mut(net, p).into_iter().for_each(|p| p.own[f as usize] = new),
        None => of_mut(net, br).into_iter().for_each(|m| m.families[f as usize].own = new),
    }
}

#[doc(alias = "br_multicast_group_expired")]
#[doc(alias = "br_multicast_port_group_expired")]
fn expire_groups(net: &mut Net, br: DevId, now: Jiffies) {
    let due = |t: Option<Jiffies>| t.is_some_and(|at| !before(now, at));
    let Some(m) = of_mut(net, br) else { return };
    let mut touched = Vec::new();
    for (ip, e) in &mut m.mdb {
        let changed = e.ports.iter_mut().fold(false, |any, g| bridge_sources::expire(g, now) | any);
        if due(e.host) || changed || e.ports.iter().any(|g| due(g.until)) {
            touched.push((*ip, due(e.host)));
        }
    }
    for (ip, host) in touched {
        remove(net, br, &ip, |g| due(g.until) || g.is_over(), host);
    }
}
