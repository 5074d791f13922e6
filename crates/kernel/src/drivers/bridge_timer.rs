//! One timer for all of a bridge's times: of its tree and of its groups.
use super::{bridge, bridge_mcast, bridge_stp};
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, TimerKey};
use crate::ids::DevId;
use crate::net::Net;

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
    bridge_stp::expire(net, br);
    bridge_mcast::expire(net, br);
    let mcast = bridge::of(net, br).into_iter().flat_map(|b| b.mcast.soonest());
    let ports = bridge::of(net, br).into_iter().flat_map(|b| b.ports.iter());
    let queries = ports.filter_map(|p| bridge::port(net, *p)).flat_map(|p| p.mcast.soonest());
    let next = bridge_stp::soonest(net, br).chain(mcast).chain(queries);
    if let Some(next) = next.reduce(|a, b| if (b.wrapping_sub(a) as i32) < 0 { b } else { a }) {
        at(net, br, next);
    }
}

/// The bridge goes.
pub fn remove(net: &mut Net, br: DevId) {
    let Some(mut timer) = net.bridge_mut(br).map(|b| std::mem::take(&mut b.timer)) else { return };
    net.env.timers.remove(&mut timer);
}
