//! macvlan: several devices with addresses of their own on one. Which of them hear each other, and how, is the mode's.
//!
//! Left out, and refused: the mode `source`, and settings of the queue in which Linux keeps broadcasts for later; here every
//! device has them at once.
use crate::drivers::stacked;
use crate::drivers::veth::{is_skb_forwardable, scrub};
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::skb::{PktType, Skb};
use crate::net::core::vlan::Received;
use crate::net::core::{dev_rx, dev_tx};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use belljar_abi::Errno;
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};

/// `MACVLAN_MODE_*`.
pub const PRIVATE: u32 = 1;
pub const VEPA: u32 = 2;
pub const BRIDGE: u32 = 4;
pub const PASSTHRU: u32 = 8;
/// A passthru device does not make the one below take all frames.
pub const FLAG_NOPROMISC: u16 = 1;

/// The driver's part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macvlan {
    pub lower: DevId,
    pub mode: u32,
    pub flags: u16,
    /// What the device below can do.
    pub mtus: (u32, u32),
    /// It asked the device below for every frame.
    pub promisc: bool,
}

impl Net {
    /// `ip link add link LOWER name NAME type macvlan mode M`: EINVAL for a device that has no Ethernet or somebody else in
    /// passthru mode, EBUSY for a port of a bridge.
    #[doc(alias = "macvlan_common_newlink")]
    pub fn add_macvlan(&mut self, (ns, name): (NsId, &str), on: DevId, mode: u32) -> Result<DevId, Errno> {
        // On top of another one: beside it.
        let lower = of(self, on).map_or(on, |m| m.lower);
        let l = self.devs.get(lower).ok_or(Errno::ENODEV)?;
        if l.is_loopback() || l.is_pointopoint() {
            return Err(Errno::EINVAL);
        }
        if l.master.is_some() {
            return Err(Errno::EBUSY);
        }
        let mut others = l.uppers.iter().filter_map(|u| of(self, *u));
        if others.any(|o| mode == PASSTHRU || o.mode == PASSTHRU) {
            return Err(Errno::EINVAL);
        }
        stacked::may_stack(self, lower)?;
        let (mtu, mtus, below, carrier) = (l.mtu, l.mtu_range(), l.mac, l.carrier);
        let mac = if mode == PASSTHRU { below } else { self.random_mac() };
        let m = Macvlan { lower, mode, flags: 0, mtus, promisc: false };
        let id = self.register_netdev(ns, name, mtu, DevKind::Macvlan(m))?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.carrier) = (mac, carrier);
        }
        if let Some(l) = self.devs.get_mut(lower) {
            l.macvlan_port = true;
        }
        stacked::link(self, id, lower);
        Ok(id)
    }

    pub(crate) fn macvlan_mut(&mut self, dev: DevId) -> Option<&mut Macvlan> {
        match &mut self.devs.get_mut(dev)?.kind {
            DevKind::Macvlan(m) => Some(m),
            _ => None,
        }
    }
}

/// The driver's part of a device, if it is one.
pub fn of(net: &Net, dev: DevId) -> Option<Macvlan> {
    match net.devs.get(dev)?.kind {
        DevKind::Macvlan(m) => Some(m),
        _ => None,
    }
}

/// Those that are up on a device.
fn running<'a>(net: &'a Net, lower: DevId) -> impl Iterator<Item = (DevId, &'a NetDevice, Macvlan)> + 'a {
    let all = net.devs.get(lower).into_iter().flat_map(|d| d.uppers.iter().copied());
    all.filter_map(|u| Some((u, net.devs.get(u).filter(|d| d.up)?, of(net, u)?)))
}

#[doc(alias = "macvlan_hash_lookup")]
fn lookup(net: &Net, lower: DevId, mac: Mac) -> Option<(DevId, Macvlan)> {
    running(net, lower).find(|(_, d, _)| d.mac == mac).map(|(id, _, m)| (id, m))
}

/// EADDRINUSE for an address that the device below or another one on it has.
#[doc(alias = "macvlan_addr_busy")]
pub fn addr_free(net: &Net, dev: DevId, mac: Mac) -> Result<(), Errno> {
    let Some(m) = of(net, dev).filter(|m| m.mode != PASSTHRU) else { return Ok(()) };
    let below = net.devs.get(m.lower).is_some_and(|l| l.mac == mac);
    let beside = lookup(net, m.lower, mac).is_some_and(|(id, _)| id != dev);
    if below || beside { Err(Errno::EADDRINUSE) } else { Ok(()) }
}

/// A passthru device has the address of the one below, whichever is changed.
pub fn address(net: &mut Net, dev: DevId, mac: Mac) {
    if let Some(m) = of(net, dev).filter(|m| m.mode == PASSTHRU)
        && net.devs.get(m.lower).is_some_and(|l| l.mac != mac)
    {
        let _ = net.set_mac(m.lower, mac);
    }
}

/// While a passthru device is up the one below takes every frame, unless it is told not to.
#[doc(alias = "macvlan_open")]
pub fn set_promisc(net: &mut Net, dev: DevId, up: bool) {
    let Some(m) = of(net, dev) else { return };
    let wants = up && m.mode == PASSTHRU && m.flags & FLAG_NOPROMISC == 0;
    if wants == m.promisc {
        return;
    }
    if let Some(l) = net.devs.get_mut(m.lower) {
        l.promiscuity = if wants { l.promiscuity.saturating_add(1) } else { l.promiscuity.saturating_sub(1) };
    }
    if let Some(m) = net.macvlan_mut(dev) {
        m.promisc = wants;
    }
}

/// A device hears of frames to a group.
fn wants_group(net: &Net, dev: DevId, d: &NetDevice, to: Mac) -> bool {
    to.is_broadcast() || d.promiscuity > 0 || d.allmulti > 0 || net.mc_addresses(dev).contains(&to)
}

/// A copy of a frame whose Ethernet header is pulled, for every device of these modes but the sender's.
#[doc(alias = "macvlan_broadcast")]
fn broadcast(net: &mut Net, lower: DevId, skb: &Skb, to: Mac, (src, modes): (Option<DevId>, u32), local: bool) {
    let wants = |(id, d, m): &(DevId, &NetDevice, Macvlan)| {
        Some(*id) != src && m.mode & modes != 0 && wants_group(net, *id, d, to)
    };
    let all: Vec<(DevId, Macvlan)> = running(net, lower).filter(wants).map(|(id, _, m)| (id, m)).collect();
    for (id, _) in all {
        let mut copy = net.clone_skb(skb);
        if local {
            scrub(net, &mut copy, true);
        }
        copy.dev = Some(id);
        copy.pkt_type = if to.is_broadcast() { PktType::Broadcast } else { PktType::Multicast };
        count_rx(net, id, &copy);
        dev_rx::netif_rx(net, copy);
    }
}

#[doc(alias = "macvlan_count_rx")]
fn count_rx(net: &mut Net, dev: DevId, skb: &Skb) {
    let group = matches!(skb.pkt_type, PktType::Broadcast | PktType::Multicast);
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx(1, (skb.len() + ETH_HLEN) as u64);
        d.stats.multicast += u64::from(group);
    }
}

/// A frame came in by the device below, its Ethernet header pulled.
#[doc(alias = "macvlan_handle_frame")]
#[inline(never)]
pub fn handle_frame(k: &mut Kernel, lower: DevId, mut skb: Skb) -> Received {
    let net = &mut k.net;
    let Ok(eth) = EthHeader::parse(skb.head.at(skb.mac_header)) else { return Ok(skb) };
    let passthru = running(net, lower).find(|(_, _, m)| m.mode == PASSTHRU).map(|(id, _, m)| (id, m));
    if eth.dst.is_multicast() {
        let src = lookup(net, lower, eth.src);
        match src {
            Some((id, m)) if m.mode != VEPA && m.mode != BRIDGE => {
                // Its own frame came back: nobody else's.
                skb.dev = Some(id);
                count_rx(net, id, &skb);
                dev_rx::netif_rx(net, skb);
                return Err(None);
            }
            // What a bridge's device sent the others have seen as it went out.
            Some((id, m)) if m.mode == BRIDGE => broadcast(net, lower, &skb, eth.dst, (Some(id), VEPA), false),
            Some((id, _)) => broadcast(net, lower, &skb, eth.dst, (Some(id), VEPA | BRIDGE), false),
            None => broadcast(net, lower, &skb, eth.dst, (None, PRIVATE | VEPA | PASSTHRU | BRIDGE), false),
        }
        return Ok(skb);
    }
    let there = if passthru.is_some() { passthru } else { lookup(net, lower, eth.dst) };
    let Some((id, _)) = there else { return Ok(skb) };
    (skb.dev, skb.pkt_type) = (Some(id), PktType::Host);
    count_rx(net, id, &skb);
    Err(Some(skb))
}

/// In the mode `bridge` the others on the same device get it at once; all else goes out below.
#[doc(alias = "macvlan_start_xmit")]
#[inline(never)]
pub fn macvlan_xmit(net: &mut Net, dev: DevId, skb: Skb) {
    let len = skb.len() as u64;
    let sent = match of(net, dev) {
        Some(m) => queue_xmit(net, dev, m, skb),
        None => {
            net.kfree_skb(skb, DropReason::DevReady, "macvlan_start_xmit");
            return;
        }
    };
    if let Some(d) = net.devs.get_mut(dev) {
        match sent {
            Ok(()) => d.stats.tx(1, len),
            Err(_) => d.stats.tx_dropped += 1,
        }
    }
}

#[doc(alias = "macvlan_queue_xmit")]
fn queue_xmit(net: &mut Net, dev: DevId, m: Macvlan, skb: Skb) -> Result<(), Errno> {
    let to = EthHeader::parse(skb.head.bytes()).map(|e| e.dst);
    if let Ok(to) = to
        && m.mode == BRIDGE
    {
        if to.is_multicast() {
            let mut copy = net.clone_skb(&skb);
            if ethernet::type_trans(&mut copy, Mac::ZERO) {
                broadcast(net, m.lower, &copy, to, (Some(dev), BRIDGE), true);
            }
            net.consume_skb(copy);
        } else if lookup(net, m.lower, to).is_some_and(|(_, m)| m.mode == BRIDGE) {
            // Through the device below, as if it had come in there: its taps see it.
            forward(net, m.lower, skb);
            return Ok(());
        }
    }
    dev_tx::dev_queue_xmit(net, m.lower, skb)
}

#[doc(alias = "dev_forward_skb")]
fn forward(net: &mut Net, lower: DevId, mut skb: Skb) {
    let Some((own, fits)) = net.devs.get(lower).map(|l| (l.mac, l.up && is_skb_forwardable(l.mtu, &skb))) else {
        return net.kfree_skb(skb, DropReason::DevReady, "dev_forward_skb");
    };
    if !fits {
        if let Some(l) = net.devs.get_mut(lower) {
            l.stats.rx_dropped += 1;
        }
        return net.kfree_skb(skb, DropReason::NotSpecified, "dev_forward_skb");
    }
    scrub(net, &mut skb, true);
    skb.dev = Some(lower);
    if !ethernet::type_trans(&mut skb, own) {
        return net.kfree_skb(skb, DropReason::PktTooSmall, "dev_forward_skb");
    }
    dev_rx::netif_rx(net, skb);
}
