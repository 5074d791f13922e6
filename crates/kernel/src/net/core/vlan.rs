//! VLAN tags (IEEE 802.1Q) of packets: taken off on arrival, put back on before a device that cannot do it itself, and whose
//! packet it is then.
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::core::skb::{PktType, SkBuff, Skb, VlanTag};
use crate::net::drop::DropReason;
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_HLEN, VLAN_HLEN, is_vlan};

/// Both addresses.
const ADDRS: usize = 12;

/// The tag in front of the payload goes to stand beside the packet, whose Ethernet header is pulled; false when it is cut short.
#[doc(alias = "skb_vlan_untag")]
pub fn untag(skb: &mut SkBuff) -> bool {
    if skb.vlan.present() {
        return true;
    }
    if !skb.may_pull(VLAN_HLEN) {
        return false;
    }
    let Some(&[t0, t1, p0, p1]) = skb.head.bytes().first_chunk() else { return false };
    skb.vlan = VlanTag { proto: skb.protocol, tci: u16::from_be_bytes([t0, t1]) };
    let eth = skb.head.at_mut(skb.mac_header);
    if eth.len() < ETH_HLEN + VLAN_HLEN {
        return false;
    }
    eth.copy_within(..ADDRS, VLAN_HLEN);
    skb.mac_header += VLAN_HLEN as u8;
    let _ = skb.head.pull(VLAN_HLEN);
    skb.protocol = u16::from_be_bytes([p0, p1]);
    skb.network_header = skb.head.start();
    true
}

/// The tag beside a packet goes into it, behind the addresses with which its head begins; false when there is no room.
#[doc(alias = "__vlan_hwaccel_push_inside")]
pub fn push_inside(skb: &mut SkBuff) -> bool {
    let tag = std::mem::take(&mut skb.vlan);
    if !tag.present() {
        return true;
    }
    if skb.head.len() < ETH_HLEN || !skb.cow_head(VLAN_HLEN) || skb.head.push(VLAN_HLEN).is_none() {
        return false;
    }
    let b = skb.head.bytes_mut();
    b.copy_within(VLAN_HLEN..VLAN_HLEN + ADDRS, 0);
    let [p0, p1] = tag.proto.to_be_bytes();
    let [t0, t1] = tag.tci.to_be_bytes();
    b[ADDRS..ADDRS + VLAN_HLEN].copy_from_slice(&[p0, p1, t0, t1]);
    skb.mac_header = skb.head.start();
    skb.protocol = tag.proto;
    true
}

/// The same for a packet whose Ethernet header may be pulled: the tag begins its payload again.
pub fn push_back_inside(skb: &mut SkBuff) {
    let pulled = skb.head.start() != skb.mac_header;
    skb.head.rewind(skb.mac_header);
    push_inside(skb);
    if pulled {
        let _ = skb.head.pull(ETH_HLEN);
        skb.network_header = skb.head.start();
    }
}

/// As [`untag`], for a packet on its way out, whose head begins with its addresses, if it has a tag of this protocol.
pub fn untag_outgoing(skb: &mut SkBuff, proto: u16) {
    if skb.vlan.present() || skb.head.bytes().get(ADDRS..ETH_HLEN) != Some(&proto.to_be_bytes()) {
        return;
    }
    skb.mac_header = skb.head.start();
    skb.protocol = proto;
    if skb.head.pull(ETH_HLEN).is_some() {
        untag(skb);
        skb.head.rewind(skb.mac_header);
    }
}

/// Whose packet it is: still that of the device which it came to, or (`Some`) that of one on top, or nobody's any more.
pub type Received = Result<Skb, Option<Skb>>;

/// To the device of its VLAN on top of `dev`.
#[doc(alias = "vlan_do_receive")]
pub fn do_receive(net: &mut Net, dev: DevId, mut skb: Skb) -> Received {
    let tag = skb.vlan;
    let Some(d) = net.devs.get(dev) else { return Ok(skb) };
    let bare = d.brport.is_none() && !d.macvlan_port;
    let Some(upper) = d.vlans.get(&(tag.proto, tag.vid())).copied() else { return Ok(skb) };
    let Some(u) = net.devs.get_mut(upper) else { return Ok(skb) };
    let DevKind::Vlan(v) = &u.kind else { return Ok(skb) };
    if !u.up {
        net.kfree_skb(skb, DropReason::NotSpecified, "vlan_do_receive");
        return Err(None);
    }
    skb.dev = Some(upper);
    // The device may have an address of its own, which the one below does not know.
    let to = skb.head.at(skb.mac_header).first_chunk().map(|b| Mac(*b));
    if skb.pkt_type == PktType::OtherHost && to == Some(u.mac) {
        skb.pkt_type = PktType::Host;
    }
    skb.priority = v.ingress[usize::from(tag.tci >> 13)];
    skb.vlan = VlanTag::NONE;
    if !v.reorders() && bare {
        put_back(&mut skb, tag);
    }
    u.stats.rx(1, skb.len() as u64);
    u.stats.multicast += u64::from(skb.pkt_type == PktType::Multicast);
    Err(Some(skb))
}

/// Without `reorder_hdr` who looks at the packet's link header sees the tag in it.
fn put_back(skb: &mut SkBuff, tag: VlanTag) {
    let (network, protocol) = (skb.head.start(), skb.protocol);
    let mac = skb.mac_header;
    skb.head.rewind(mac);
    let pulled = network - mac;
    skb.vlan = tag;
    let done = push_inside(skb);
    (skb.vlan, skb.protocol) = (VlanTag::NONE, protocol);
    let _ = skb.head.pull(usize::from(pulled) + if done { VLAN_HLEN } else { 0 });
    skb.network_header = skb.head.start();
}

/// Whoever takes the packet at last takes it without its tag; with one that names a VLAN it is nobody's here. A second tag
/// behind one that names none (priority only) is looked at: the packet then comes back.
#[doc(alias = "__netif_receive_skb_core")]
pub fn clear(net: &mut Net, dev: DevId, mut skb: Skb) -> Received {
    loop {
        if skb.vlan.vid() != 0 {
            skb.pkt_type = PktType::OtherHost;
            break;
        }
        if !is_vlan(skb.protocol) {
            break;
        }
        skb.vlan = VlanTag::NONE;
        if !untag(&mut skb) {
            net.kfree_skb(skb, DropReason::NotSpecified, "skb_vlan_untag");
            return Err(None);
        }
        match do_receive(net, dev, skb) {
            Ok(back) => skb = back,
            other => return other,
        }
    }
    skb.vlan = VlanTag::NONE;
    Ok(skb)
}
