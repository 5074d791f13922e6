//! A VLAN of another device (IEEE 802.1Q, or a provider's outer tag, 802.1ad): what it sends gets the tag and goes out there,
//! what arrives there with the tag is its own.
//!
//! Left out, and refused: registration by GVRP and MVRP, and a link that follows a bridge's ports (`bridge_binding`).
use crate::drivers::stacked;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{Skb, VlanTag};
use crate::net::core::{dev_tx, features};
use crate::net::drop::DropReason;
use belljar_abi::Errno;
use std::collections::BTreeMap;

pub const VLAN_FLAG_REORDER_HDR: u32 = 1;
pub const VLAN_FLAG_LOOSE_BINDING: u32 = 4;
/// Priorities that can be mapped to a tag's: what a program writes there takes memory of the machine.
const MOST_MAPPINGS: usize = 1024;

/// The driver's part of a VLAN.
#[derive(Clone, Debug)]
pub struct Vlan {
    pub lower: DevId,
    /// ETH_P_8021Q or ETH_P_8021AD.
    pub proto: u16,
    pub vid: u16,
    pub flags: u32,
    /// A tag's priority to the packet's, and the other way round.
    pub ingress: [u32; 8],
    pub egress: BTreeMap<u32, u8>,
    /// What the device below can do for VLANs, and does at the moment (`ethtool -k`).
    pub vlan_features: u64,
    pub below: u64,
    /// The address was given, not taken from the device below.
    pub mac_set: bool,
}

impl Vlan {
    /// Its packets show no tag (`reorder_hdr`).
    pub fn reorders(&self) -> bool {
        self.flags & VLAN_FLAG_REORDER_HDR != 0
    }

    /// It may be up while the device below is down.
    pub fn is_loose(&self) -> bool {
        self.flags & VLAN_FLAG_LOOSE_BINDING != 0
    }

    /// `egress-qos-map FROM:TO`.
    #[doc(alias = "vlan_dev_set_egress_priority")]
    pub fn map_egress(&mut self, from: u32, to: u8) -> Result<(), Errno> {
        if self.egress.len() >= MOST_MAPPINGS && !self.egress.contains_key(&from) {
            return Err(Errno::ENOBUFS);
        }
        self.egress.insert(from, to & 7);
        Ok(())
    }

    fn tag(&self, priority: u32) -> VlanTag {
        let qos = u16::from(self.egress.get(&priority).copied().unwrap_or(0)) << 13;
        VlanTag { proto: self.proto, tci: self.vid | qos }
    }
}

impl Net {
    /// `ip link add link LOWER name NAME type vlan [protocol P] id N`: EOPNOTSUPP for lo, EEXIST when there is one, EINVAL
    /// for an MTU beyond that below.
    #[doc(alias = "register_vlan_dev")]
    pub fn add_vlan(
        &mut self,
        (ns, name): (NsId, &str),
        lower: DevId,
        (proto, vid): (u16, u16),
    ) -> Result<DevId, Errno> {
        let l = self.devs.get(lower).ok_or(Errno::ENODEV)?;
        if l.is_loopback() || l.is_pointopoint() {
            return Err(Errno::EOPNOTSUPP);
        }
        if l.vlans.contains_key(&(proto, vid)) {
            return Err(Errno::EEXIST);
        }
        stacked::may_stack(self, lower)?;
        let (mtu, mac, noarp, no_multicast) = (l.mtu, l.mac, l.iff_noarp, l.no_multicast);
        let vlan_features = features::vlan_features(l);
        let v = Vlan {
            lower,
            proto,
            vid,
            flags: VLAN_FLAG_REORDER_HDR,
            ingress: [0; 8],
            egress: BTreeMap::new(),
            vlan_features,
            below: 0,
            mac_set: false,
        };
        let id = self.register_netdev(ns, name, mtu, DevKind::Vlan(Box::new(v)))?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.carrier, d.iff_noarp, d.no_multicast) = (mac, false, noarp, no_multicast);
        }
        if let Some(l) = self.devs.get_mut(lower) {
            l.vlans.insert((proto, vid), id);
        }
        stacked::link(self, id, lower);
        features::update(self, lower);
        Ok(id)
    }

    pub(crate) fn vlan_mut(&mut self, dev: DevId) -> Option<&mut Vlan> {
        match &mut self.devs.get_mut(dev)?.kind {
            DevKind::Vlan(v) => Some(v),
            _ => None,
        }
    }
}

/// The tag beside the packet, and out through the device below.
#[doc(alias = "vlan_dev_hard_start_xmit")]
#[inline(never)]
pub fn vlan_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    let len = skb.len() as u64;
    let Some(DevKind::Vlan(v)) = net.devs.get(dev).map(|d| &d.kind) else {
        return net.kfree_skb(skb, DropReason::DevReady, "vlan_dev_hard_start_xmit");
    };
    let lower = v.lower;
    let tagged = skb.head.bytes().get(12..14) == Some(&v.proto.to_be_bytes());
    if v.reorders() || !tagged {
        skb.vlan = v.tag(skb.priority);
    }
    let sent = dev_tx::dev_queue_xmit(net, lower, skb);
    if let Some(d) = net.devs.get_mut(dev) {
        match sent {
            Ok(()) => d.stats.tx(1, len),
            Err(_) => d.stats.tx_dropped += 1,
        }
    }
}
