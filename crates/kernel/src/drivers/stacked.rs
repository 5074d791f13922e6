//! Devices on top of others: which is above which, and what goes up when something happens below.
use crate::drivers::macvlan;
use crate::drivers::tunnel::IP_MAX_MTU;
use crate::drivers::vxlan::{self, HEADROOM};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::netlink::notify;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTM_NEWLINK;

/// Devices on top of one another (`MAX_NEST_DEV`).
const MAX_NEST_DEV: usize = 8;

fn uppers(net: &Net, dev: DevId) -> impl Iterator<Item = DevId> + '_ {
    net.devs.get(dev).into_iter().flat_map(|d| d.uppers.iter().copied().chain(d.master))
}

fn lowers(net: &Net, dev: DevId) -> Vec<DevId> {
    match net.devs.get(dev).map(|d| (&d.kind, d.lower())) {
        Some((DevKind::Bridge(b), _)) => b.ports.clone(),
        Some((_, lower)) => lower.into_iter().collect(),
        None => Vec::new(),
    }
}

/// How many levels there are from a device on upwards, and downwards: 1 when it stands alone. Nothing nests deeper than
/// [`MAX_NEST_DEV`], which ends the walk.
fn height(net: &Net, dev: DevId, left: usize) -> usize {
    let above = |left| uppers(net, dev).map(|u| height(net, u, left)).max().unwrap_or(0);
    1 + left.checked_sub(1).map_or(0, above)
}

fn depth(net: &Net, dev: DevId, left: usize) -> usize {
    let below = |left| lowers(net, dev).into_iter().map(|l| depth(net, l, left)).max().unwrap_or(0);
    1 + left.checked_sub(1).map_or(0, below)
}

fn is_above(net: &Net, dev: DevId, what: DevId, left: usize) -> bool {
    uppers(net, dev).any(|u| u == what || left > 0 && is_above(net, u, what, left - 1))
}

/// A new device may come on top of `lower`; EMLINK when it would stand too high.
pub fn may_stack(net: &Net, lower: DevId) -> Result<(), Errno> {
    if depth(net, lower, MAX_NEST_DEV) < MAX_NEST_DEV { Ok(()) } else { Err(Errno::EMLINK) }
}

/// `upper` may come on top of `dev`, which is there already: EBUSY for a circle.
#[doc(alias = "__netdev_upper_dev_link")]
pub fn may_join(net: &Net, upper: DevId, dev: DevId) -> Result<(), Errno> {
    if upper == dev || is_above(net, upper, dev, MAX_NEST_DEV) {
        return Err(Errno::EBUSY);
    }
    let levels = depth(net, dev, MAX_NEST_DEV) + height(net, upper, MAX_NEST_DEV);
    if levels <= MAX_NEST_DEV { Ok(()) } else { Err(Errno::EMLINK) }
}

/// A device is on top of another from now on.
pub fn link(net: &mut Net, upper: DevId, lower: DevId) {
    if let Some(l) = net.devs.get_mut(lower) {
        l.uppers.push(upper);
    }
    let ns = |id| net.devs.get(id).map(|d| d.ns);
    if let (Some(a), Some(b)) = (ns(upper), ns(lower)) {
        net.know_each_other(a, b);
    }
}

/// A device that goes is not on top of anything.
pub fn unlink(net: &mut Net, upper: DevId) {
    let Some(lower) = net.devs.get(upper).and_then(|d| d.lower()) else { return };
    if let Some(l) = net.devs.get_mut(lower) {
        l.uppers.retain(|u| *u != upper);
        l.vlans.retain(|_, u| *u != upper);
        let rest: Vec<DevId> = l.uppers.clone();
        let port = rest.into_iter().any(|u| macvlan::of(net, u).is_some());
        if let Some(l) = net.devs.get_mut(lower) {
            l.macvlan_port = port;
        }
    }
}

/// What stands on a device that goes goes first.
pub fn unregister_uppers(net: &mut Net, dev: DevId) {
    while let Some(upper) = net.devs.get(dev).and_then(|d| d.uppers.first().copied()) {
        net.unregister_netdev(upper);
        if let Some(d) = net.devs.get_mut(dev) {
            d.uppers.retain(|u| *u != upper);
        }
    }
}

/// A device is about to come up: ENETDOWN for a VLAN whose device below is down. It has the carrier that there is below.
#[doc(alias = "vlan_dev_open")]
pub fn open(net: &mut Net, dev: DevId) -> Result<(), Errno> {
    vxlan::open(net, dev)?;
    let Some(d) = net.devs.get(dev).filter(|d| !matches!(d.kind, DevKind::Vxlan(_) | DevKind::Tunnel(_))) else {
        return Ok(());
    };
    let Some(l) = d.lower().and_then(|l| net.devs.get(l)) else { return Ok(()) };
    let (up, carrier, mac) = (l.up, l.carrier, l.mac);
    macvlan::addr_free(net, dev, d.mac)?;
    let inherits = match &d.kind {
        DevKind::Vlan(v) if !up && !v.is_loose() => return Err(Errno::ENETDOWN),
        DevKind::Vlan(v) => !v.mac_set,
        _ => false,
    };
    if let Some(d) = net.devs.get_mut(dev) {
        d.carrier = carrier;
        d.mac = if inherits { mac } else { d.mac };
    }
    macvlan::set_promisc(net, dev, true);
    Ok(())
}

/// It went down.
#[doc(alias = "vlan_dev_stop")]
pub fn stop(net: &mut Net, dev: DevId) {
    macvlan::set_promisc(net, dev, false);
    vxlan::stop(net, dev);
    if let Some(d) = net.devs.get_mut(dev)
        && let DevKind::Vlan(v) = &d.kind
        && !v.is_loose()
    {
        d.carrier = false;
    }
}

/// The device below went up or down: its VLANs go with it, unless they are bound loosely.
#[doc(alias = "vlan_device_event")]
pub fn lower_updown(net: &mut Net, dev: DevId, up: bool) {
    let Some(d) = net.devs.get(dev).filter(|d| !d.uppers.is_empty()) else { return };
    for upper in d.uppers.clone() {
        let follows = net.devs.get(upper).is_some_and(|u| matches!(&u.kind, DevKind::Vlan(v) if !v.is_loose()));
        if follows {
            let _ = net.set_link(upper, up);
        }
    }
}

/// What is above has the carrier that there is below.
#[doc(alias = "netif_stacked_transfer_operstate")]
pub fn follow(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get(dev).filter(|d| !d.uppers.is_empty()) else { return };
    let on = d.carrier;
    for upper in d.uppers.clone() {
        match net.devs.get_mut(upper) {
            // A tunnel's link is not that of the device below.
            Some(u) if matches!(u.kind, DevKind::Vxlan(_) | DevKind::Tunnel(_)) => {}
            Some(u) if u.up && u.carrier != on => net.set_carrier(upper, on),
            // The next time it comes up it knows.
            Some(u) if matches!(u.kind, DevKind::Macvlan(_)) => u.carrier = on,
            _ => {}
        }
    }
}

/// ERANGE for more than the device below carries.
#[doc(alias = "vlan_dev_change_mtu")]
pub fn mtu_fits(net: &Net, dev: DevId, mtu: u32) -> Result<(), Errno> {
    let Some(d) = net.devs.get(dev) else { return Ok(()) };
    let below = d.lower().and_then(|l| net.devs.get(l)).map_or(u32::MAX, |l| l.mtu);
    match d.kind {
        DevKind::Vlan(_) if mtu > below => Err(Errno::ERANGE),
        DevKind::Macvlan(_) if mtu > below => Err(Errno::EINVAL),
        DevKind::Tunnel(ref t) if !(68..=IP_MAX_MTU.saturating_sub(t.overhead())).contains(&mtu) => Err(Errno::EINVAL),
        DevKind::Vxlan(_) if mtu > below.saturating_sub(HEADROOM) => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// The device below carries less than before.
pub fn mtu_changed(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get(dev).filter(|d| !d.uppers.is_empty()) else { return };
    let mtu = d.mtu;
    for upper in d.uppers.clone() {
        if net.devs.get(upper).is_some_and(|u| u.mtu > mtu && matches!(u.kind, DevKind::Vlan(_) | DevKind::Macvlan(_)))
        {
            let _ = net.set_mtu(upper, mtu);
            notify::link(net, RTM_NEWLINK, upper);
        }
    }
}

/// VLANs that have the address of the device below take its new one.
#[doc(alias = "vlan_sync_address")]
pub fn mac_changed(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get(dev).filter(|d| !d.uppers.is_empty()) else { return };
    let mac = d.mac;
    for upper in d.uppers.clone() {
        if macvlan::of(net, upper).is_some_and(|m| m.mode == macvlan::PASSTHRU) {
            let _ = net.set_mac(upper, mac);
            continue;
        }
        let inherits = |u: &&crate::net::core::dev::NetDevice| {
            u.up && u.mac != mac && matches!(&u.kind, DevKind::Vlan(v) if !v.mac_set)
        };
        if net.devs.get(upper).filter(inherits).is_some() {
            let _ = net.set_mac(upper, mac);
            notify::link(net, RTM_NEWLINK, upper);
        }
    }
}
