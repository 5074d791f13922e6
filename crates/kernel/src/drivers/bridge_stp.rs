//! The spanning tree of a bridge (802.1D-1998 §8), as the kernel itself keeps it: which ports forward, so that no frame goes
//! round in a circle. While it is off every port that is up forwards.
//!
//! ```text
//!   up ─▶ BLOCKING ─ root or designated ─▶ LISTENING ─ forward delay ─▶ LEARNING ─ forward delay ─▶ FORWARDING
//! ```
use super::bridge::{self, BrPort};
use super::bridge_bpdu::{BPDU_CONFIG, BPDU_TCN, Config, LLC, STP_HZ, TCN_LEN, send};
use super::{bridge_fdb, bridge_timer};
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::netlink::notify;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTM_NEWLINK;
use belljar_wire::Mac;

pub const BR_STATE_DISABLED: u8 = 0;
pub const BR_STATE_LISTENING: u8 = 1;
pub const BR_STATE_LEARNING: u8 = 2;
pub const BR_STATE_FORWARDING: u8 = 3;
pub const BR_STATE_BLOCKING: u8 = 4;

/// Where BPDUs go (`br_group_address`).
pub const GROUP_ADDRESS: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0]);

/// Priority and address: the lower, the better.
pub type BridgeId = [u8; 8];

/// What the bridge knows of the tree. Times are ticks: those that count, which are the root's, and its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stp {
    pub on: bool,
    pub root: BridgeId,
    pub root_path_cost: u32,
    /// Number of the port that leads to the root; 0: this is the root.
    pub root_port: u16,
    pub times: Times,
    pub own: Times,
    pub topology_change: bool,
    pub detected: bool,
    pub hello_timer: Option<Jiffies>,
    pub tcn_timer: Option<Jiffies>,
    pub change_timer: Option<Jiffies>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub max_age: Jiffies,
    pub hello_time: Jiffies,
    pub forward_delay: Jiffies,
}

impl Stp {
    pub fn new(hz: u32) -> Stp {
        let own = Times { max_age: 20 * hz, hello_time: 2 * hz, forward_delay: 15 * hz };
        Stp { own, times: own, ..Stp::default() }
    }
}

/// A port in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStp {
    pub state: u8,
    pub designated_root: BridgeId,
    pub designated_cost: u32,
    pub designated_bridge: BridgeId,
    pub designated_port: u16,
    pub change_ack: bool,
    pub config_pending: bool,
    pub message_age: Option<Jiffies>,
    pub forward_delay: Option<Jiffies>,
    pub hold: Option<Jiffies>,
}

pub fn bridge_id(net: &Net, br: DevId) -> BridgeId {
    let mac = net.devs.get(br).map_or(Mac::ZERO, |d| d.mac);
    let [a, b] = bridge::of(net, br).map_or(0, |b| b.priority).to_be_bytes();
    let [c, d, e, f, g, h] = mac.0;
    [a, b, c, d, e, f, g, h]
}

pub fn is_root(net: &Net, br: DevId) -> bool {
    bridge::of(net, br).is_some_and(|b| b.stp.root == bridge_id(net, br))
}

pub(super) fn stp(net: &Net, br: DevId) -> Stp {
    bridge::of(net, br).map(|b| b.stp).unwrap_or_default()
}

pub(super) fn with(net: &mut Net, br: DevId, change: impl FnOnce(&mut Stp)) {
    if let Some(b) = net.bridge_mut(br) {
        change(&mut b.stp);
    }
}

pub(super) fn with_port(net: &mut Net, dev: DevId, change: impl FnOnce(&mut PortStp)) {
    if let Some(p) = net.devs.get_mut(dev).and_then(|d| d.brport.as_deref_mut()) {
        change(&mut p.stp);
    }
}

/// The ports, which a change of one may look at all of.
pub(super) fn ports(net: &Net, br: DevId) -> Vec<DevId> {
    bridge::of(net, br).map_or_else(Vec::new, |b| b.ports.clone())
}

pub(super) fn enabled(net: &Net, br: DevId) -> Vec<DevId> {
    let on = |p: &DevId| bridge::port(net, *p).is_some_and(|p| p.stp.state != BR_STATE_DISABLED);
    ports(net, br).into_iter().filter(on).collect()
}

pub(super) fn after(net: &mut Net, br: DevId, ticks: Jiffies) -> Option<Jiffies> {
    let at = net.env.jiffies().wrapping_add(ticks);
    bridge_timer::at(net, br, at);
    Some(at)
}

#[doc(alias = "br_is_designated_port")]
pub(super) fn is_designated(p: &BrPort, id: BridgeId) -> bool {
    p.stp.designated_bridge == id && p.stp.designated_port == p.id()
}

#[doc(alias = "br_become_designated_port")]
pub(super) fn become_designated(net: &mut Net, br: DevId, dev: DevId) {
    let (s, id) = (stp(net, br), bridge_id(net, br));
    let Some(port) = bridge::port(net, dev).map(BrPort::id) else { return };
    with_port(net, dev, |p| {
        (p.designated_root, p.designated_cost) = (s.root, s.root_path_cost);
        (p.designated_bridge, p.designated_port) = (id, port);
    });
}

#[doc(alias = "br_root_selection")]
fn root_selection(net: &mut Net, br: DevId) {
    let id = bridge_id(net, br);
    let rank = |p: &BrPort| {
        let s = &p.stp;
        (s.designated_root, s.designated_cost.saturating_add(p.cost), s.designated_bridge, s.designated_port, p.id())
    };
    let candidates = enabled(net, br)
        .into_iter()
        .filter_map(|d| bridge::port(net, d))
        .filter(|p| !is_designated(p, id) && p.stp.designated_root < id && !p.root_block);
    let best = candidates.map(|p| (rank(p), p.no)).min();
    with(net, br, |s| match best {
        Some(((root, cost, ..), no)) => (s.root, s.root_path_cost, s.root_port) = (root, cost, no),
        None => (s.root, s.root_path_cost, s.root_port) = (id, 0, 0),
    });
}

#[doc(alias = "br_designated_port_selection")]
fn designated_port_selection(net: &mut Net, br: DevId) {
    let (s, id) = (stp(net, br), bridge_id(net, br));
    for dev in enabled(net, br) {
        let Some(p) = bridge::port(net, dev) else { continue };
        let q = &p.stp;
        let ours = (s.root_path_cost, id, p.id()) < (q.designated_cost, q.designated_bridge, q.designated_port);
        if is_designated(p, id) || q.designated_root != s.root || ours {
            become_designated(net, br, dev);
        }
    }
}

#[doc(alias = "br_configuration_update")]
fn configuration_update(net: &mut Net, br: DevId) {
    root_selection(net, br);
    designated_port_selection(net, br);
}

/// Root and designated ports forward, the others block; the bridge has a carrier while one forwards.
#[doc(alias = "br_port_state_selection")]
fn port_state_selection(net: &mut Net, br: DevId) {
    let (s, id) = (stp(net, br), bridge_id(net, br));
    let mut live = false;
    for dev in enabled(net, br) {
        let Some(p) = bridge::port(net, dev).copied() else { continue };
        if p.no == s.root_port || !is_designated(&p, id) {
            with_port(net, dev, |p| (p.config_pending, p.change_ack) = (false, false));
        } else {
            with_port(net, dev, |p| p.message_age = None);
        }
        match p.no == s.root_port || is_designated(&p, id) {
            true => make_forwarding(net, br, dev),
            false => make_blocking(net, br, dev),
        }
        live |= bridge::forwards(net, dev);
    }
    set_carrier(net, br, live);
}

pub(super) fn set_carrier(net: &mut Net, br: DevId, on: bool) {
    if net.devs.get(br).is_some_and(|d| d.carrier != on) {
        net.set_carrier(br, on);
    }
}

#[doc(alias = "br_set_state")]
pub(super) fn set_state(net: &mut Net, br: DevId, dev: DevId, state: u8) {
    with_port(net, dev, |p| p.state = state);
    super::bridge_mcast::port_state(net, br, dev, state);
    notify::link(net, RTM_NEWLINK, dev);
}

#[doc(alias = "br_make_forwarding")]
fn make_forwarding(net: &mut Net, br: DevId, dev: DevId) {
    if bridge::port(net, dev).is_none_or(|p| p.stp.state != BR_STATE_BLOCKING) {
        return;
    }
    let s = stp(net, br);
    let delay = s.times.forward_delay;
    if !s.on || delay == 0 {
        with_port(net, dev, |p| p.forward_delay = None);
        set_state(net, br, dev, BR_STATE_FORWARDING);
        topology_change_detection(net, br);
    } else {
        set_state(net, br, dev, BR_STATE_LISTENING);
    }
    if delay != 0 {
        let at = after(net, br, delay);
        with_port(net, dev, |p| p.forward_delay = at);
    }
}

#[doc(alias = "br_make_blocking")]
fn make_blocking(net: &mut Net, br: DevId, dev: DevId) {
    let state = bridge::port(net, dev).map_or(BR_STATE_DISABLED, |p| p.stp.state);
    if matches!(state, BR_STATE_DISABLED | BR_STATE_BLOCKING) {
        return;
    }
    if matches!(state, BR_STATE_FORWARDING | BR_STATE_LEARNING) {
        topology_change_detection(net, br);
    }
    with_port(net, dev, |p| p.forward_delay = None);
    set_state(net, br, dev, BR_STATE_BLOCKING);
}

/// Addresses may be elsewhere now: the root tells everybody, others tell the root.
#[doc(alias = "br_topology_change_detection")]
pub(super) fn topology_change_detection(net: &mut Net, br: DevId) {
    let s = stp(net, br);
    if !s.on {
        return;
    }
    if is_root(net, br) {
        let at = after(net, br, s.own.forward_delay.wrapping_add(s.own.max_age));
        with(net, br, |s| (s.topology_change, s.change_timer) = (true, at));
    } else if !s.detected {
        transmit_tcn(net, br);
        let at = after(net, br, s.own.hello_time);
        with(net, br, |s| s.tcn_timer = at);
    }
    with(net, br, |s| s.detected = true);
}

#[doc(alias = "br_become_root_bridge")]
fn become_root(net: &mut Net, br: DevId) {
    with(net, br, |s| (s.times, s.tcn_timer) = (s.own, None));
    topology_change_detection(net, br);
    with(net, br, |s| s.tcn_timer = None);
    if net.devs.get(br).is_some_and(|d| d.up) {
        config_generation(net, br);
        let at = after(net, br, stp(net, br).times.hello_time);
        with(net, br, |s| s.hello_timer = at);
    }
}

/// The tree again, after something changed here.
pub(super) fn reconsider(net: &mut Net, br: DevId, was_root: bool) {
    configuration_update(net, br);
    port_state_selection(net, br);
    if is_root(net, br) && !was_root {
        become_root(net, br);
    }
}

#[doc(alias = "br_config_bpdu_generation")]
pub(super) fn config_generation(net: &mut Net, br: DevId) {
    let id = bridge_id(net, br);
    for dev in enabled(net, br) {
        if bridge::port(net, dev).is_some_and(|p| is_designated(p, id)) {
            transmit_config(net, br, dev);
        }
    }
}

#[doc(alias = "br_transmit_config")]
pub(super) fn transmit_config(net: &mut Net, br: DevId, dev: DevId) {
    let Some(p) = bridge::port(net, dev).copied() else { return };
    if p.stp.hold.is_some() {
        return with_port(net, dev, |p| p.config_pending = true);
    }
    let (s, now, hz) = (stp(net, br), net.env.jiffies(), net.env.hz);
    let root = enabled(net, br).into_iter().filter_map(|d| bridge::port(net, d)).find(|p| p.no == s.root_port);
    let message_age = match root {
        _ if is_root(net, br) => 0,
        Some(root) => {
            let left = root.stp.message_age.map_or(0, |at| at.wrapping_sub(now));
            s.times.max_age.saturating_sub(left) + (hz / STP_HZ as u32).max(1)
        }
        None => return,
    };
    if message_age >= s.times.max_age {
        return;
    }
    let (change, bridge) = (s.topology_change, bridge_id(net, br));
    let (root, cost, port, change_ack) = (s.root, s.root_path_cost, p.id(), p.stp.change_ack);
    let c = Config { change, change_ack, root, cost, bridge, port, message_age, times: s.times };
    send(net, dev, &c.bytes(hz));
    let at = if s.on { after(net, br, hz) } else { None };
    with_port(net, dev, |p| (p.change_ack, p.config_pending, p.hold) = (false, false, at));
}

#[doc(alias = "br_transmit_tcn")]
pub(super) fn transmit_tcn(net: &mut Net, br: DevId) {
    let no = stp(net, br).root_port;
    let root = ports(net, br).into_iter().find(|d| bridge::port(net, *d).is_some_and(|p| p.no == no));
    if let Some(root) = root {
        send(net, root, &[0, 0, 0, BPDU_TCN]);
    }
}

/// A frame to the group address came in, its Ethernet header pulled: what it says of the tree. False: it is none of the
/// tree's.
#[doc(alias = "br_stp_rcv")]
pub fn rcv(net: &mut Net, br: DevId, dev: DevId, skb: &Skb) -> bool {
    let mut b = skb.head.bytes().to_vec();
    skb.frags.iter().for_each(|s| b.extend_from_slice(s.as_slice()));
    let Some(b) = b.strip_prefix(&LLC) else { return false };
    let up = net.devs.get(br).is_some_and(|d| d.up);
    match bridge::port(net, dev).filter(|p| up && p.stp.state != BR_STATE_DISABLED).map(|p| p.guard) {
        Some(true) => disable_port(net, br, dev),
        Some(false) => bpdu(net, br, dev, b),
        None => {}
    }
    true
}

fn bpdu(net: &mut Net, br: DevId, dev: DevId, b: &[u8]) {
    match b.first_chunk::<TCN_LEN>() {
        Some([0, 0, 0, BPDU_CONFIG]) => match Config::parse(b, net.env.hz) {
            Some(c) if c.message_age <= c.times.max_age => received_config(net, br, dev, &c),
            _ => {}
        },
        Some([0, 0, 0, BPDU_TCN]) => received_tcn(net, br, dev),
        _ => {}
    }
}

#[doc(alias = "br_supersedes_port_info")]
fn supersedes(p: &BrPort, own: BridgeId, c: &Config) -> bool {
    let q = &p.stp;
    let (told, known) = ((c.root, c.cost, c.bridge), (q.designated_root, q.designated_cost, q.designated_bridge));
    told < known || told == known && (c.bridge != own || c.port <= q.designated_port)
}

#[doc(alias = "br_received_config_bpdu")]
fn received_config(net: &mut Net, br: DevId, dev: DevId, c: &Config) {
    let (was_root, id) = (is_root(net, br), bridge_id(net, br));
    let Some(p) = bridge::port(net, dev).copied() else { return };
    if !supersedes(&p, id, c) {
        if is_designated(&p, id) {
            transmit_config(net, br, dev);
        }
        return;
    }
    let at = after(net, br, c.times.max_age.wrapping_sub(c.message_age));
    with_port(net, dev, |q| {
        (q.designated_root, q.designated_cost) = (c.root, c.cost);
        (q.designated_bridge, q.designated_port, q.message_age) = (c.bridge, c.port, at);
    });
    configuration_update(net, br);
    port_state_selection(net, br);
    if was_root && !is_root(net, br) {
        with(net, br, |s| s.hello_timer = None);
        if stp(net, br).detected {
            transmit_tcn(net, br);
            let at = after(net, br, stp(net, br).own.hello_time);
            with(net, br, |s| (s.change_timer, s.tcn_timer) = (None, at));
        }
    }
    if p.no == stp(net, br).root_port {
        with(net, br, |s| (s.times, s.topology_change) = (c.times, c.change));
        config_generation(net, br);
        if c.change_ack {
            with(net, br, |s| (s.detected, s.tcn_timer) = (false, None));
        }
    }
}

#[doc(alias = "br_received_tcn_bpdu")]
fn received_tcn(net: &mut Net, br: DevId, dev: DevId) {
    let id = bridge_id(net, br);
    if bridge::port(net, dev).is_some_and(|p| is_designated(p, id)) {
        topology_change_detection(net, br);
        with_port(net, dev, |p| p.change_ack = true);
        transmit_config(net, br, dev);
    }
}

/// A port is up and connected, and its bridge is up.
#[doc(alias = "br_stp_enable_port")]
fn enable_port(net: &mut Net, br: DevId, dev: DevId) {
    become_designated(net, br, dev);
    with_port(net, dev, |p| (p.state, p.change_ack, p.config_pending) = (BR_STATE_BLOCKING, false, false));
    port_state_selection(net, br);
}

/// It is not any more; what was learned there is forgotten.
#[doc(alias = "br_stp_disable_port")]
fn disable_port(net: &mut Net, br: DevId, dev: DevId) {
    let was_root = is_root(net, br);
    become_designated(net, br, dev);
    with_port(net, dev, |p| {
        *p = PortStp {
            state: BR_STATE_DISABLED,
            change_ack: false,
            config_pending: false,
            message_age: None,
            forward_delay: None,
            hold: None,
            ..*p
        };
    });
    set_state(net, br, dev, BR_STATE_DISABLED);
    bridge_fdb::forget(net, br, |_, e| e.port == Some(dev) && e.kind == bridge_fdb::FdbKind::Learned);
    reconsider(net, br, was_root);
}

/// A new port, before it is enabled: as if it were the designated one.
#[doc(alias = "br_init_port")]
pub fn init(net: &mut Net, br: DevId, dev: DevId) {
    if bridge::of(net, br).is_some_and(|b| b.stp.root == BridgeId::default()) {
        root_selection(net, br);
    }
    become_designated(net, br, dev);
}

/// Ports, or the bridge itself, came up or went down.
#[doc(alias = "br_port_carrier_check")]
#[doc(alias = "br_stp_enable_bridge")]
#[doc(alias = "br_stp_disable_bridge")]
pub fn follow(net: &mut Net, br: DevId) {
    let up = net.devs.get(br).is_some_and(|d| d.up);
    if !up {
        with(net, br, |s| {
            (s.topology_change, s.detected) = (false, false);
            (s.hello_timer, s.tcn_timer, s.change_timer) = (None, None, None);
        });
    } else if stp(net, br).on && stp(net, br).hello_timer.is_none() && is_root(net, br) {
        let at = after(net, br, stp(net, br).times.hello_time);
        with(net, br, |s| s.hello_timer = at);
        config_generation(net, br);
    }
    for dev in ports(net, br) {
        let wanted = up && net.devs.get(dev).is_some_and(|d| d.running());
        match bridge::port(net, dev).map(|p| p.stp.state != BR_STATE_DISABLED) {
            Some(false) if wanted => enable_port(net, br, dev),
            Some(true) if !wanted => disable_port(net, br, dev),
            _ => {}
        }
    }
    if up && enabled(net, br).is_empty() {
        set_carrier(net, br, false);
    }
}

/// A port left, forwarding or not.
#[doc(alias = "del_nbp")]
pub fn left(net: &mut Net, br: DevId, was_root: bool) {
    reconsider(net, br, was_root);
}

/// `stp_state`.
#[doc(alias = "br_stp_set_enabled")]
pub fn set_enabled(net: &mut Net, br: DevId, on: bool) {
    let s = stp(net, br);
    if s.on == on {
        return;
    }
    let (hz, up) = (net.env.hz, net.devs.get(br).is_some_and(|d| d.up));
    if on {
        let delay = s.own.forward_delay.clamp(2 * hz, 30 * hz);
        let hello = if up { after(net, br, s.times.hello_time) } else { None };
        let root = is_root(net, br);
        with(net, br, |s| {
            (s.on, s.own.forward_delay, s.hello_timer) = (true, delay, hello);
            s.times.forward_delay = if root { delay } else { s.times.forward_delay };
        });
    } else {
        with(net, br, |s| s.on = false);
    }
    port_state_selection(net, br);
}

/// The bridge has another address than `mac`.
#[doc(alias = "br_stp_change_bridge_id")]
pub fn address_changed(net: &mut Net, br: DevId, mac: Mac) {
    let (mut old, [a, b, c, d, e, f]) = (bridge_id(net, br), mac.0);
    old[2..].copy_from_slice(&[a, b, c, d, e, f]);
    id_changed(net, br, old);
}

/// `priority`, or another address: the bridge's identity changes from `old`.
#[doc(alias = "br_stp_set_bridge_priority")]
pub fn id_changed(net: &mut Net, br: DevId, old: BridgeId) {
    let (id, was_root) = (bridge_id(net, br), stp(net, br).root == old);
    for dev in ports(net, br) {
        with_port(net, dev, |p| {
            p.designated_bridge = if p.designated_bridge == old { id } else { p.designated_bridge };
            p.designated_root = if p.designated_root == old { id } else { p.designated_root };
        });
    }
    reconsider(net, br, was_root);
}

/// The administrator's state of a port: EBUSY while the tree decides, ENETDOWN for one without a carrier.
#[doc(alias = "br_set_port_state")]
pub fn set_port_state(net: &mut Net, br: DevId, dev: DevId, state: u8) -> Result<(), Errno> {
    let running = net.devs.get(dev).is_some_and(|d| d.running());
    match state {
        _ if stp(net, br).on => Err(Errno::EBUSY),
        BR_STATE_BLOCKING.. if state > BR_STATE_BLOCKING => Err(Errno::EINVAL),
        BR_STATE_DISABLED if net.devs.get(dev).is_some_and(|d| d.up) => {
            set_state(net, br, dev, state);
            Ok(())
        }
        _ if !running => Err(Errno::ENETDOWN),
        _ => {
            set_state(net, br, dev, state);
            port_state_selection(net, br);
            Ok(())
        }
    }
}

/// `cost` of a port, 1 to 65,535; `priority`, 0 to 63.
#[doc(alias = "br_stp_set_path_cost")]
pub fn set_path_cost(net: &mut Net, br: DevId, dev: DevId, cost: u32) -> Result<(), Errno> {
    let p = net.devs.get_mut(dev).and_then(|d| d.brport.as_deref_mut()).ok_or(Errno::EINVAL)?;
    p.cost = Some(cost).filter(|c| (1..=65_535).contains(c)).ok_or(Errno::ERANGE)?;
    let was_root = is_root(net, br);
    reconsider(net, br, was_root);
    Ok(())
}

#[doc(alias = "br_stp_set_port_priority")]
pub fn set_port_priority(net: &mut Net, br: DevId, dev: DevId, priority: u16) -> Result<(), Errno> {
    let id = bridge_id(net, br);
    let p = net.devs.get_mut(dev).and_then(|d| d.brport.as_deref_mut()).ok_or(Errno::EINVAL)?;
    let designated = is_designated(p, id);
    p.priority = Some(priority).filter(|n| *n <= 63).ok_or(Errno::ERANGE)?;
    if designated {
        p.stp.designated_port = p.id();
    }
    if p.stp.designated_bridge == id && p.id() < p.stp.designated_port {
        become_designated(net, br, dev);
        port_state_selection(net, br);
    }
    Ok(())
}
