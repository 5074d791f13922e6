//! VLANs of a bridge (`vlan_filtering`): which a port takes and sends, and which of them without a tag. Every port and the
//! bridge itself, which is a port of its machine, has its list; it counts while filtering is on.
//!
//! Left out: statistics of single VLANs, their states (MST), multicast contexts, tunnels.
use super::bridge::{self, Bridge};
use super::bridge_fdb;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::{Skb, VlanTag};
use crate::net::core::vlan;
use belljar_abi::Errno;
use belljar_wire::ethernet::{ETH_P_8021Q, is_vlan};
use std::collections::BTreeMap;

/// The highest number but one that a tag has room for; that one is no VLAN.
pub const VLAN_VID_MASK: u16 = 0xfff;

/// What a port has to do with VLANs (`struct net_bridge_vlan_group`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanGroup {
    /// Of frames that come without a tag; 0: they are not taken.
    pub pvid: u16,
    /// The VLANs, and whether their frames leave without a tag.
    pub vlans: BTreeMap<u16, bool>,
}

impl VlanGroup {
    /// `vid` is what the default made it: first choice and without a tag.
    fn is_default(&self, vid: u16) -> bool {
        self.pvid == vid && self.vlans.get(&vid) == Some(&true)
    }
}

/// Settings of the whole bridge, and the lists.
#[derive(Clone, Debug)]
pub struct BrVlans {
    pub filtering: bool,
    pub proto: u16,
    /// What a new port begins with; 0: nothing.
    pub default_pvid: u16,
    pub own: VlanGroup,
    pub ports: BTreeMap<DevId, VlanGroup>,
}

impl Default for BrVlans {
    fn default() -> BrVlans {
        let (own, ports) = (VlanGroup::default(), BTreeMap::new());
        BrVlans { filtering: false, proto: ETH_P_8021Q, default_pvid: 1, own, ports }
    }
}

impl BrVlans {
    /// Of a port, or of the bridge itself.
    pub fn group(&self, port: Option<DevId>) -> Option<&VlanGroup> {
        match port {
            Some(p) => self.ports.get(&p),
            None => Some(&self.own),
        }
    }

    fn group_mut(&mut self, port: Option<DevId>) -> &mut VlanGroup {
        match port {
            Some(p) => self.ports.entry(p).or_default(),
            None => &mut self.own,
        }
    }
}

fn vlans(net: &Net, br: DevId) -> Option<&BrVlans> {
    bridge::of(net, br).map(|b: &Bridge| &b.vlans)
}

/// A port takes part in a VLAN, or the bridge itself does: with or without tags, as the first choice or not.
#[doc(alias = "nbp_vlan_add")]
#[doc(alias = "br_vlan_add")]
pub fn add(net: &mut Net, br: DevId, port: Option<DevId>, vid: u16, (pvid, untagged): (bool, bool)) {
    let Some(b) = net.bridge_mut(br) else { return };
    let g = b.vlans.group_mut(port);
    let new = g.vlans.insert(vid, untagged).is_none();
    match pvid {
        true => g.pvid = vid,
        false if g.pvid == vid => g.pvid = 0,
        false => {}
    }
    let at = port.unwrap_or(br);
    if new && let Some(mac) = net.devs.get(at).map(|d| d.mac) {
        bridge_fdb::fdb_local(net, br, (mac, vid), port);
    }
}

/// It leaves it, and what was learned there is forgotten; ENOENT when it was not in it.
#[doc(alias = "nbp_vlan_delete")]
#[doc(alias = "br_vlan_delete")]
pub fn del(net: &mut Net, br: DevId, port: Option<DevId>, vid: u16) -> Result<(), Errno> {
    let b = net.bridge_mut(br).ok_or(Errno::ENOENT)?;
    let g = b.vlans.group_mut(port);
    g.vlans.remove(&vid).ok_or(Errno::ENOENT)?;
    if g.pvid == vid {
        g.pvid = 0;
    }
    bridge_fdb::forget_local(net, br, port, |key| key.1 == vid);
    bridge_fdb::forget(net, br, |key, e| key.1 == vid && e.port == port);
    Ok(())
}

/// A new port, or a new bridge, begins with the default.
#[doc(alias = "nbp_vlan_init")]
pub fn init(net: &mut Net, br: DevId, port: Option<DevId>) {
    match vlans(net, br).map_or(0, |v| v.default_pvid) {
        0 => {}
        vid => add(net, br, port, vid, (true, true)),
    }
}

/// `vlan_default_pvid`: whoever has the old default, and nothing of his own there, gets the new one.
#[doc(alias = "br_vlan_set_default_pvid")]
pub fn set_default_pvid(net: &mut Net, br: DevId, vid: u16) -> Result<(), Errno> {
    let v = vlans(net, br).ok_or(Errno::EOPNOTSUPP)?;
    let old = v.default_pvid;
    match vid {
        VLAN_VID_MASK.. => return Err(Errno::EINVAL),
        _ if vid == old => return Ok(()),
        _ => {}
    }
    let all: Vec<Option<DevId>> = std::iter::once(None).chain(v.ports.keys().copied().map(Some)).collect();
    for port in all {
        let Some(g) = vlans(net, br).and_then(|v| v.group(port)) else { continue };
        if old != 0 && !g.is_default(old) || vid != 0 && g.vlans.contains_key(&vid) {
            continue;
        }
        if vid != 0 {
            add(net, br, port, vid, (true, true));
        }
        if old != 0 {
            let _ = del(net, br, port, old);
        }
    }
    if let Some(b) = net.bridge_mut(br) {
        b.vlans.default_pvid = vid;
    }
    Ok(())
}

/// `vlan_protocol`: EPROTONOSUPPORT for what is none.
#[doc(alias = "br_vlan_set_proto")]
pub fn set_proto(net: &mut Net, br: DevId, proto: u16) -> Result<(), Errno> {
    let b = net.bridge_mut(br).ok_or(Errno::EOPNOTSUPP)?;
    if !is_vlan(proto) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    b.vlans.proto = proto;
    Ok(())
}

/// The VLAN that a frame from a port, or from the machine itself, belongs to, with its tag from now on; 0 while nobody asks.
/// `None`: it is not taken.
#[doc(alias = "br_allowed_ingress")]
pub fn ingress(net: &Net, br: DevId, port: Option<DevId>, skb: &mut Skb) -> Option<u16> {
    let v = vlans(net, br)?;
    if !v.filtering {
        return Some(0);
    }
    let g = v.group(port)?;
    if port.is_none() {
        vlan::untag_outgoing(skb, v.proto);
    }
    if skb.vlan.present() && skb.vlan.proto != v.proto {
        // Another protocol's tag is payload here.
        vlan::push_back_inside(skb);
    }
    match skb.vlan.vid() {
        0 if g.pvid == 0 => None,
        0 => {
            // Without a tag, or with one that has a priority only.
            skb.vlan = VlanTag { proto: v.proto, tci: skb.vlan.tci & 0xf000 | g.pvid };
            Some(g.pvid)
        }
        vid => g.vlans.contains_key(&vid).then_some(vid),
    }
}

/// A frame of its VLAN may leave by a port, or go up to the machine.
#[doc(alias = "br_allowed_egress")]
pub fn egress(net: &Net, br: DevId, port: Option<DevId>, tag: VlanTag) -> bool {
    let Some(v) = vlans(net, br) else { return false };
    !v.filtering || v.group(port).is_some_and(|g| g.vlans.contains_key(&tag.vid()))
}

/// What leaves without a tag loses it.
#[doc(alias = "br_handle_vlan")]
pub fn leave(net: &Net, br: DevId, port: Option<DevId>, skb: &mut Skb) {
    let Some(v) = vlans(net, br).filter(|v| v.filtering) else { return };
    if v.group(port).and_then(|g| g.vlans.get(&skb.vlan.vid())) == Some(&true) {
        skb.vlan = VlanTag::NONE;
    }
}
