//! What a card takes of what is on the wire, by groups and VLANs, and the tags that it takes off (`rx-vlan-filter`,
//! `rx-vlan-offload`). What it does not take, nobody sees: `rx_steer_missed_packets`.
//!
//! The filters are what the devices here want at the moment. Foreign addresses of hosts are let through, as their packets' taps
//! and counters show them to be foreign.
use crate::drivers::macvlan;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::VlanTag;
use crate::net::ipv6::output::multicast_mac;
use belljar_wire::Frame;
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_8021Q, VLAN_HLEN, is_vlan};

/// Both addresses.
const ADDRS: usize = 12;

/// The card's multicast filter: frames to IPv6 groups that nobody here joined never get to the host (`ndo_set_rx_mode`).
pub(super) fn is_filtered(d: &NetDevice, frame: &Frame) -> bool {
    let Some(to) = frame.head.bytes().first_chunk::<6>().filter(|m| m[..2] == [0x33, 0x33]) else { return false };
    // What devices on top of it want, the card takes (`dev_mc_sync`).
    d.promiscuity == 0
        && d.uppers.is_empty()
        && d.allmulti == 0
        && !d.packet_groups.contains(to)
        && !d.inet6.groups.iter().any(|g| !g.left && multicast_mac(g.addr).0 == *to)
}

/// The tag in front of a frame's payload.
#[inline]
pub(super) fn tag_of(frame: &Frame) -> VlanTag {
    match frame.head.bytes().get(ADDRS..ETH_HLEN) {
        Some(&[a, b]) if is_vlan(u16::from_be_bytes([a, b])) => whole_tag(frame, u16::from_be_bytes([a, b])),
        _ => VlanTag::NONE,
    }
}

#[cold]
fn whole_tag(frame: &Frame, proto: u16) -> VlanTag {
    match frame.head.bytes().get(ETH_HLEN..ETH_HLEN + 2) {
        Some(&[a, b]) => VlanTag { proto, tci: u16::from_be_bytes([a, b]) },
        _ => VlanTag::NONE,
    }
}

/// A frame with a tag: that stands beside it, or stays in it; `None` when it is of a VLAN that nobody here has.
#[cold]
pub(super) fn tagged(net: &Net, dev: DevId, frame: &mut Frame, tag: VlanTag) -> Option<VlanTag> {
    let d = net.devs.get(dev)?;
    let filters = tag.proto != ETH_P_8021Q || d.features.vlan_filter;
    if filters && d.promiscuity == 0 && !wants(net, d, tag) {
        return None;
    }
    Some(if tag.proto == ETH_P_8021Q && d.features.vlan_rx && strip(frame) { tag } else { VlanTag::NONE })
}

/// Somebody registered the number (`vlan_vid_add`): a VLAN here or one on top of a macvlan; number 0 is everybody's.
#[doc(alias = "vlan_vid_add")]
fn wants(net: &Net, d: &NetDevice, tag: VlanTag) -> bool {
    let key = (tag.proto, tag.vid());
    let above = || d.uppers.iter().filter(|u| macvlan::of(net, **u).is_some()).filter_map(|u| net.devs.get(*u));
    key == (ETH_P_8021Q, 0) || d.vlans.contains_key(&key) || above().any(|u| u.vlans.contains_key(&key))
}

/// Takes the tag out; false when the frame ends in it.
fn strip(frame: &mut Frame) -> bool {
    let b = frame.head.bytes_mut();
    if b.len() < ETH_HLEN + VLAN_HLEN {
        return false;
    }
    b.copy_within(..ADDRS, VLAN_HLEN);
    frame.head.pull(VLAN_HLEN).is_some()
}

/// It was not taken.
#[cold]
pub(super) fn missed(net: &mut Net, dev: DevId) {
    if let Some(nic) = net.devs.get_mut(dev).and_then(NetDevice::nic_mut) {
        nic.rx_filtered += 1;
    }
}
