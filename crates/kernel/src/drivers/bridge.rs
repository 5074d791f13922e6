//! A bridge: a switch made of devices, and a device of its own machine on it. Where addresses
//! are is in `bridge_fdb`, its spanning tree in `bridge_stp`, what it
//! knows of groups in `bridge_mcast`, its VLANs in `bridge_vlan`.
//!
//! ```text
//!   port ─ netif_receive_skb ─▶ handle_frame ─▶ learn ─▶ known: that port, or up to the machine
//!                                                    ├─▶ groups: members and routers
//!                                                    └─▶ unknown: all other ports
//!   machine ─ br_dev_xmit ─▶ the same choice
//! ```
use super::br_netfilter::NfCall;
use super::bridge_fdb::{FdbEntry, FdbKey, Way, fdb_local, forget, forget_local, learn, lookup};
use super::bridge_mcast::{self, BrMcast, Hit, PortMcast, Seen};
use super::bridge_stp::{self, PortStp, Stp};
use super::bridge_vlan::{self, BrVlans};
use super::veth::{is_skb_forwardable, scrub};
use super::{br_netfilter, bridge_igmp, bridge_timer, stacked};
use crate::env::{Jiffies, TimerSlot};
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{PktType, Skb};
use crate::net::core::{dev_rx, dev_tx, features};
use crate::net::drop::DropReason;
use crate::net::netfilter::nft::layer2::{self, Part};
use crate::net::netfilter::{Devs, Hook};
use crate::net::netlink::notify;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTM_NEWLINK;
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};
use std::collections::BTreeMap;

/// Ports (`BR_MAX_PORTS`).
const MOST_PORTS: usize = 1024;

/// The driver's part of a bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub ports: Vec<DevId>,
    pub fdb: BTreeMap<FdbKey, FdbEntry>,
    pub(super) learned: usize,
    /// Entries that were ever made: later ones are shown first.
    pub(super) made: u64,
    /// When what is old was last looked for.
    pub(super) swept: Jiffies,
    /// Seconds/100, as `ip link` takes and shows it.
    pub ageing_time: u32,
    pub priority: u16,
    pub stp: Stp,
    pub mcast: BrMcast,
    pub timer: TimerSlot,
    /// The address was given, not taken from the ports; the same of the MTU.
    pub mac_set: bool,
    pub mtu_set: bool,
    pub vlans: BrVlans,
    /// Tables that see its packets whatever the namespace says.
    pub nf_call: NfCall,
}

impl Bridge {
    fn new(hz: u32) -> Bridge {
        Bridge {
            ports: Vec::new(),
            fdb: BTreeMap::new(),
            learned: 0,
            made: 0,
            swept: 0,
            ageing_time: 30_000,
            priority: 0x8000,
            stp: Stp::new(hz),
            mcast: BrMcast::new(hz),
            timer: TimerSlot::default(),
            mac_set: false,
            mtu_set: false,
            vlans: BrVlans::default(),
            nf_call: NfCall::default(),
        }
    }
}

/// Settings of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrPort {
    pub no: u16,
    pub priority: u16,
    pub cost: u32,
    pub learning: bool,
    pub flood: bool,
    pub mcast_flood: bool,
    pub bcast_flood: bool,
    pub hairpin: bool,
    pub isolated: bool,
    /// BPDUs are not for it: one of them disables the port, or does not make it the root's.
    pub guard: bool,
    pub root_block: bool,
    pub stp: PortStp,
    pub mcast: PortMcast,
}

impl BrPort {
    /// Priority and number, as BPDUs name it.
    #[doc(alias = "br_make_port_id")]
    pub fn id(&self) -> u16 {
        self.priority << 10 | self.no & 0x3ff
    }
}

impl Net {
    /// `ip link add NAME type bridge`.
    #[doc(alias = "br_dev_newlink")]
    pub fn add_bridge(&mut self, ns: NsId, name: &str) -> Result<DevId, Errno> {
        let mac = self.random_mac();
        let id = self.register_netdev(ns, name, 1500, DevKind::Bridge(Box::new(Bridge::new(self.env.hz))))?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.carrier) = (mac, false);
        }
        fdb_local(self, id, (mac, 0), None);
        bridge_vlan::init(self, id, None);
        let root = bridge_stp::bridge_id(self, id);
        if let Some(b) = self.bridge_mut(id) {
            b.stp.root = root;
        }
        Ok(id)
    }

    pub(super) fn bridge(&self, br: DevId) -> Option<&Bridge> {
        of(self, br)
    }

    pub(crate) fn bridge_mut(&mut self, br: DevId) -> Option<&mut Bridge> {
        match &mut self.devs.get_mut(br)?.kind {
            DevKind::Bridge(b) => Some(b),
            _ => None,
        }
    }
}

/// A device's part as a bridge, if it is one.
pub fn of(net: &Net, br: DevId) -> Option<&Bridge> {
    match &net.devs.get(br)?.kind {
        DevKind::Bridge(b) => Some(b),
        _ => None,
    }
}

/// Frames pass a port that forwards.
pub fn forwards(net: &Net, dev: DevId) -> bool {
    port(net, dev).is_some_and(|p| p.stp.state == bridge_stp::BR_STATE_FORWARDING)
}

/// Who sends to a port is remembered.
#[doc(alias = "nbp_state_should_learn")]
pub fn learns(net: &Net, dev: DevId) -> bool {
    let learns = |s| matches!(s, bridge_stp::BR_STATE_FORWARDING | bridge_stp::BR_STATE_LEARNING);
    port(net, dev).is_some_and(|p| learns(p.stp.state))
}

/// `ip link set DEV master BRIDGE`: EOPNOTSUPP when that is none, EINVAL for lo, ELOOP for another bridge.
#[doc(alias = "br_add_if")]
pub fn enslave(net: &mut Net, br: DevId, dev: DevId) -> Result<(), Errno> {
    let b = net.bridge(br).ok_or(Errno::EOPNOTSUPP)?;
    let d = net.devs.get(dev).ok_or(Errno::ENODEV)?;
    let same_ns = net.devs.get(br).is_some_and(|b| b.ns == d.ns);
    if d.is_loopback() || d.is_pointopoint() || !same_ns {
        return Err(Errno::EINVAL);
    }
    if matches!(d.kind, DevKind::Bridge(_)) {
        return Err(Errno::ELOOP);
    }
    if d.macvlan_port {
        return Err(Errno::EBUSY);
    }
    stacked::may_join(net, br, dev)?;
    let no = (1..=MOST_PORTS as u16).find(|n| !b.ports.iter().any(|p| port(net, *p).is_some_and(|p| p.no == *n)));
    let no = no.ok_or(Errno::EXFULL)?;
    let mac = d.mac;
    let new = BrPort {
        no,
        priority: 32,
        // What a port of 10 Gbit/s costs, which virtual devices are taken for.
        cost: 2,
        learning: true,
        flood: true,
        mcast_flood: true,
        bcast_flood: true,
        hairpin: false,
        isolated: false,
        guard: false,
        root_block: false,
        stp: PortStp::default(),
        mcast: PortMcast::default(),
    };
    if let Some(d) = net.devs.get_mut(dev) {
        (d.master, d.brport) = (Some(br), Some(Box::new(new)));
        d.promiscuity = d.promiscuity.saturating_add(1);
        d.allmulti = d.allmulti.saturating_add(1);
    }
    features::disable_lro(net, dev);
    if let Some(b) = net.bridge_mut(br) {
        b.ports.push(dev);
    }
    fdb_local(net, br, (mac, 0), Some(dev));
    bridge_vlan::init(net, br, Some(dev));
    bridge_stp::init(net, br, dev);
    adjust(net, br);
    notify::link(net, RTM_NEWLINK, dev);
    follow(net, br);
    Ok(())
}

pub fn port(net: &Net, dev: DevId) -> Option<&BrPort> {
    net.devs.get(dev)?.brport.as_deref()
}

/// A port leaves its bridge, if it is of one; what was learned through it is forgotten.
#[doc(alias = "br_del_if")]
pub fn release(net: &mut Net, dev: DevId) {
    let Some(br) = net.devs.get_mut(dev).and_then(|d| d.master.take()) else { return };
    let was_root = bridge_stp::is_root(net, br);
    bridge_mcast::remove_all(net, br, |g| g.port == dev, false);
    if let Some(d) = net.devs.get_mut(dev) {
        d.brport = None;
        d.promiscuity = d.promiscuity.saturating_sub(1);
        d.allmulti = d.allmulti.saturating_sub(1);
    }
    if let Some(b) = net.bridge_mut(br) {
        b.ports.retain(|p| *p != dev);
        b.vlans.ports.remove(&dev);
    }
    forget_local(net, br, Some(dev), |_| true);
    forget(net, br, |_, e| e.port == Some(dev));
    bridge_stp::left(net, br, was_root);
    adjust(net, br);
    notify::link(net, RTM_NEWLINK, dev);
    follow(net, br);
}

/// The bridge goes: its ports are free.
pub fn release_all(net: &mut Net, br: DevId) {
    let ports = net.bridge(br).map_or_else(Vec::new, |b| b.ports.clone());
    ports.into_iter().for_each(|p| release(net, p));
    bridge_timer::forget(net, br);
}

/// Unless they were given, the bridge's address is the least of its ports', its MTU the smallest.
#[doc(alias = "br_stp_recalculate_bridge_id")]
#[doc(alias = "br_mtu_auto_adjust")]
pub fn adjust(net: &mut Net, br: DevId) {
    let Some(b) = net.bridge(br) else { return };
    let (mac_set, mtu_set) = (b.mac_set, b.mtu_set);
    let ports = || b.ports.iter().filter_map(|p| net.devs.get(*p));
    let (mac, mtu) = (ports().map(|d| d.mac).min().unwrap_or(Mac::ZERO), ports().map(|d| d.mtu).min().unwrap_or(1500));
    if !mac_set {
        let old = net.devs.get_mut(br).map(|d| std::mem::replace(&mut d.mac, mac));
        if let Some(old) = old.filter(|old| *old != mac) {
            mac_changed(net, br, old, mac);
        }
    }
    if !mtu_set && net.devs.get(br).is_some_and(|d| d.mtu != mtu) {
        let _ = net.set_mtu(br, mtu);
    }
}

/// The entry of an address of this machine moves with it.
pub fn mac_changed(net: &mut Net, dev: DevId, old: Mac, new: Mac) {
    let (br, port) = match net.devs.get(dev) {
        Some(d) if matches!(d.kind, DevKind::Bridge(_)) => (dev, None),
        Some(d) => match d.master {
            Some(br) => (br, Some(dev)),
            None => return,
        },
        None => return,
    };
    if port.is_none() {
        bridge_stp::address_changed(net, br, old);
    }
    forget_local(net, br, port, |key| key.0 == old);
    let group = of(net, br).and_then(|b| b.vlans.group(port));
    let vids: Vec<u16> = group.map_or_else(Vec::new, |g| g.vlans.keys().copied().collect());
    for vid in std::iter::once(0).chain(vids) {
        fdb_local(net, br, (new, vid), port);
    }
}

/// Ports, or the bridge itself, came up or went down. It has a carrier while a port forwards.
pub fn follow(net: &mut Net, br: DevId) {
    bridge_mcast::follow(net, br);
    bridge_stp::follow(net, br);
}

/// A frame came in through a port, its Ethernet header pulled. Given back when the port itself is meant: addresses of the
/// link's own protocols (IEEE 802.1D §7.12.6).
#[doc(alias = "br_handle_frame")]
#[inline(never)]
pub(crate) fn handle_frame(k: &mut Kernel, br: DevId, from: DevId, mut skb: Skb) -> Option<Skb> {
    skb.head.rewind(skb.mac_header);
    let eth = EthHeader::parse(skb.head.bytes());
    let _ = skb.head.pull(ETH_HLEN);
    let eth = match eth {
        Ok(eth) if !eth.src.is_multicast() && !eth.src.is_zero() => eth,
        _ => {
            k.net.kfree_skb(skb, DropReason::NotSpecified, "br_handle_frame");
            return None;
        }
    };
    if let [0x01, 0x80, 0xc2, 0, 0, last @ 0..=15] = eth.dst.0 {
        match last {
            0 if k.net.bridge(br).is_some_and(|b| b.stp.on) => {
                if !bridge_stp::rcv(&mut k.net, br, from, &skb) {
                    return Some(skb);
                }
                k.net.consume_skb(skb);
                return None;
            }
            0 => {}
            1 => {
                k.net.kfree_skb(skb, DropReason::NotSpecified, "br_handle_frame");
                return None;
            }
            _ => return Some(skb),
        }
    }
    let state = port(&k.net, from).map_or(bridge_stp::BR_STATE_DISABLED, |p| p.stp.state);
    if !matches!(state, bridge_stp::BR_STATE_FORWARDING | bridge_stp::BR_STATE_LEARNING) {
        k.net.kfree_skb(skb, DropReason::BridgeIngressStpState, "br_handle_frame");
        return None;
    }
    k.net.stage(&skb, "br_handle_frame");
    let Some((ns, own)) = k.net.devs.get(br).map(|d| (d.ns, d.mac)) else { return Some(skb) };
    if eth.dst == own {
        skb.pkt_type = PktType::Host;
    }
    let at = (ns, Hook::PreRouting, (Some(from), None));
    let skb = chains(&mut k.net, at, Part::Before, skb)?;
    let skb = br_netfilter::pre_routing(&mut k.net, (ns, br), from, skb)?;
    let skb = chains(&mut k.net, at, Part::Behind, skb)?;
    if let Some(up) = handle_finish(&mut k.net, br, from, skb) {
        dev_rx::netif_receive_skb(k, up);
    }
    None
}

/// Chains of nf_tables' family bridge.
fn chains(net: &mut Net, (ns, hook, devs): (NsId, Hook, Devs), part: Part, skb: Skb) -> Option<Skb> {
    layer2::bridge(net, ns, hook, part, skb, devs)
}

/// The frame, or a copy of it, that goes up to this machine.
#[doc(alias = "br_handle_frame_finish")]
fn handle_finish(net: &mut Net, br: DevId, from: DevId, mut skb: Skb) -> Option<Skb> {
    // Tables may have made it another's.
    let Ok(eth) = EthHeader::parse(skb.head.at(skb.mac_header)) else {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_handle_frame");
        return None;
    };
    let Some(vid) = bridge_vlan::ingress(net, br, Some(from), &mut skb) else {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_allowed_ingress");
        return None;
    };
    let multicast = eth.dst.is_multicast() && !eth.dst.is_broadcast();
    let Ok(seen) = (if multicast { bridge_igmp::rcv(net, br, Some(from), vid, &skb) } else { Ok(Seen::default()) })
    else {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_multicast_rcv");
        return None;
    };
    if port(net, from).is_some_and(|p| p.learning) {
        learn(net, br, from, (eth.src, vid));
    }
    if !forwards(net, from) {
        net.kfree_skb(skb, DropReason::BridgeIngressStpState, "br_handle_frame_finish");
        return None;
    }
    let to = (eth.dst, vid);
    let promisc = net.devs.get(br).is_some_and(|d| d.promiscuity > 0);
    if eth.dst.is_multicast() {
        let hit = if multicast { bridge_mcast::choose(net, br, &skb, to, seen) } else { None };
        if !promisc && hit.is_some_and(|h| !h.host(net, br)) {
            flood(net, br, (Some(from), hit), eth.dst, skb);
            return None;
        }
        let copy = net.clone_skb(&skb);
        flood(net, br, (Some(from), hit), eth.dst, skb);
        return pass_up(net, br, copy, (vid, promisc));
    }
    match lookup(net, br, to) {
        Way::Here => return pass_up(net, br, skb, (vid, false)),
        _ if promisc => {
            let copy = net.clone_skb(&skb);
            send(net, br, Some(from), to, skb);
            return pass_up(net, br, copy, (vid, true));
        }
        _ => {}
    }
    send(net, br, Some(from), to, skb);
    None
}

/// To the port that is known, or to all.
fn send(net: &mut Net, br: DevId, from: Option<DevId>, to: FdbKey, skb: Skb) {
    match lookup(net, br, to) {
        Way::Port(p) if may_deliver(net, br, (from, p), &skb) => forward(net, br, p, skb),
        Way::Flood => flood(net, br, (from, None), to.0, skb),
        // Its receiver is where it came from, or behind a port that is isolated from that one, or out of service.
        _ => net.kfree_skb(skb, DropReason::NotSpecified, "br_forward"),
    }
}

#[doc(alias = "should_deliver")]
fn may_deliver(net: &Net, br: DevId, (from, to): (Option<DevId>, DevId), skb: &Skb) -> bool {
    let Some(p) = port(net, to).filter(|p| p.stp.state == bridge_stp::BR_STATE_FORWARDING) else { return false };
    let isolated = |d: DevId| port(net, d).is_some_and(|p| p.isolated);
    (p.hairpin || from != Some(to))
        && !(p.isolated && from.is_some_and(isolated))
        && bridge_vlan::egress(net, br, Some(to), skb.vlan)
}

/// A copy out of every port but the one that it came in by; of a group that is known, out of those that want it.
#[doc(alias = "br_flood")]
#[doc(alias = "br_multicast_flood")]
fn flood(net: &mut Net, br: DevId, (from, hit): (Option<DevId>, Option<Hit>), to: Mac, skb: Skb) {
    let wants = |net: &Net, dev: DevId, p: &BrPort| match to {
        _ if hit.is_some() => hit.is_some_and(|h| h.wants(net, br, dev, p)),
        // What the machine itself sends to groups is kept from no port.
        t if t.is_multicast() && from.is_none() => true,
        t if t.is_broadcast() => p.bcast_flood,
        t if t.is_multicast() => p.mcast_flood,
        _ => p.flood,
    };
    let mut last = None;
    let count = net.bridge(br).map_or(0, |b| b.ports.len());
    for n in 0..count {
        let Some(dev) = net.bridge(br).and_then(|b| b.ports.get(n).copied()) else { break };
        if !port(net, dev).is_some_and(|p| wants(net, dev, p)) || !may_deliver(net, br, (from, dev), &skb) {
            continue;
        }
        if let Some(before) = last.replace(dev) {
            let copy = net.clone_skb(&skb);
            forward(net, br, before, copy);
        }
    }
    match last {
        Some(p) => forward(net, br, p, skb),
        None => net.kfree_skb(skb, DropReason::NotSpecified, "br_flood"),
    }
}

/// Out of a port, with the Ethernet header that it had.
#[doc(alias = "__br_forward")]
fn forward(net: &mut Net, br: DevId, to: DevId, mut skb: Skb) {
    let Some(ns) = net.devs.get(to).map(|d| d.ns) else { return net.consume_skb(skb) };
    skb.head.rewind(skb.mac_header + ETH_HLEN as u8);
    skb.network_header = skb.mac_header + ETH_HLEN as u8;
    bridge_vlan::leave(net, br, Some(to), &mut skb);
    let Some(skb) = (if skb.dev == Some(br) {
        chains(net, (ns, Hook::LocalOut, (None, Some(to))), Part::All, skb)
    } else {
        forwarded(net, (ns, br), to, skb)
    }) else {
        return;
    };
    let Some(skb) = chains(net, (ns, Hook::PostRouting, (None, Some(to))), Part::All, skb) else { return };
    br_netfilter::post_routing(net, (ns, br), to, skb, push);
}

/// From another port.
fn forwarded(net: &mut Net, (ns, br): (NsId, DevId), to: DevId, skb: Skb) -> Option<Skb> {
    let at = (ns, Hook::Forward, (skb.dev, Some(to)));
    let skb = chains(net, at, Part::Before, skb)?;
    let skb = br_netfilter::forward(net, (ns, br), to, skb)?;
    chains(net, at, Part::Behind, skb)
}

#[doc(alias = "br_dev_queue_push_xmit")]
fn push(net: &mut Net, br: DevId, to: DevId, mut skb: Skb) {
    let mtu = net.devs.get(to).map_or(0, |d| d.mtu);
    skb.head.rewind(skb.mac_header);
    if !is_skb_forwardable(mtu, &skb) {
        return net.kfree_skb(skb, DropReason::PktTooBig, "br_dev_queue_push_xmit");
    }
    if skb.dev != Some(br) {
        scrub(net, &mut skb, false);
    }
    skb.pkt_type = PktType::Host;
    // An error has been counted where it happened; nobody here waits for it.
    let _ = dev_tx::dev_queue_xmit(net, to, skb);
}

/// Up to this machine, through the bridge's own device.
#[doc(alias = "br_pass_frame_up")]
fn pass_up(net: &mut Net, br: DevId, mut skb: Skb, (vid, copied): (u16, bool)) -> Option<Skb> {
    let len = skb.len() as u64;
    let promisc = net.devs.get(br).is_some_and(|d| d.promiscuity > 0);
    if !promisc && !bridge_vlan::egress(net, br, None, skb.vlan) {
        net.kfree_skb(skb, DropReason::NotSpecified, "br_pass_frame_up");
        return None;
    }
    bridge_vlan::leave(net, br, None, &mut skb);
    let Some(d) = net.devs.get_mut(br) else {
        net.consume_skb(skb);
        return None;
    };
    d.stats.rx(1, len);
    d.stats.multicast += u64::from(skb.pkt_type == PktType::Multicast);
    let (ns, own) = (d.ns, d.mac);
    let from = skb.dev;
    skb = chains(net, (ns, Hook::LocalIn, (from, None)), Part::All, skb)?;
    skb = br_netfilter::local_in(net, ns, copied, skb)?;
    skb.dev = Some(br);
    skb.head.rewind(skb.mac_header);
    // To the address of a port it is for this machine as well.
    let to = EthHeader::parse(skb.head.bytes()).map(|e| e.dst);
    if let Ok(to) = to
        && !to.is_multicast()
        && to != own
        && matches!(lookup(net, br, (to, vid)), Way::Here)
    {
        let _ = skb.head.pull(ETH_HLEN);
        skb.pkt_type = PktType::Host;
    } else if !crate::net::ethernet::type_trans(&mut skb, own) {
        net.kfree_skb(skb, DropReason::PktTooSmall, "br_pass_frame_up");
        return None;
    }
    Some(skb)
}

/// The machine itself sends through the bridge.
#[inline(never)]
pub fn br_dev_xmit(net: &mut Net, br: DevId, mut skb: Skb) {
    if skb.nf_bridge.is_some_and(|b| b.source.is_some()) {
        return resume(net, br, skb);
    }
    let to = EthHeader::parse(skb.head.bytes()).map(|e| e.dst);
    let Ok(to) = to else { return net.kfree_skb(skb, DropReason::PktTooSmall, "br_dev_xmit") };
    if let Some(d) = net.devs.get_mut(br) {
        d.stats.tx(1, skb.len() as u64);
    }
    let Some(vid) = bridge_vlan::ingress(net, br, None, &mut skb) else {
        return net.kfree_skb(skb, DropReason::NotSpecified, "br_allowed_ingress");
    };
    if to.is_broadcast() {
        return flood(net, br, (None, None), to, skb);
    }
    if to.is_multicast() {
        let (start, header) = (skb.head.start(), skb.network_header);
        let _ = skb.head.pull(ETH_HLEN);
        let seen = bridge_igmp::rcv(net, br, None, vid, &skb);
        let hit = seen.ok().and_then(|seen| bridge_mcast::choose(net, br, &skb, (to, vid), seen));
        skb.head.rewind(start);
        skb.network_header = header;
        return match seen {
            Ok(_) => flood(net, br, (None, hit), to, skb),
            Err(()) => net.kfree_skb(skb, DropReason::NotSpecified, "br_multicast_rcv"),
        };
    }
    match lookup(net, br, (to, vid)) {
        Way::Here => net.kfree_skb(skb, DropReason::NotSpecified, "br_dev_xmit"),
        _ => send(net, br, None, (to, vid), skb),
    }
}

/// A bridged packet that waited for the address of the neighbour that it was translated to.
#[cold]
fn resume(net: &mut Net, br: DevId, mut skb: Skb) {
    let Some(from) = br_netfilter::resume(&mut skb) else { return net.consume_skb(skb) };
    if let Some(up) = handle_finish(net, br, from, skb) {
        dev_rx::netif_rx(net, up);
    }
}
