//! Ethernet: the header that goes in front, and what it says on arrival.
use crate::net::core::skb::{PktType, SkBuff};
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};

/// Puts the header in front (`eth_header`); false when the head has no room.
pub fn push_header(skb: &mut SkBuff, dst: Mac, src: Mac, ethertype: u16) -> bool {
    let Some(room) = skb.head.push(ETH_HLEN) else { return false };
    EthHeader { dst, src, ethertype }.emit(room);
    skb.mac_header = skb.head.start();
    true
}

/// Takes the header off and finds out whom the frame is for; false for a frame that is too short.
#[doc(alias = "eth_type_trans")]
pub fn type_trans(skb: &mut SkBuff, own: Mac) -> bool {
    let Ok(eth) = EthHeader::parse(skb.head.bytes()) else { return false };
    skb.mac_header = skb.head.start();
    if skb.head.pull(ETH_HLEN).is_none() {
        return false;
    }
    skb.network_header = skb.head.start();
    skb.protocol = eth.ethertype;
    skb.pkt_type = if eth.dst == own {
        PktType::Host
    } else if eth.dst.is_broadcast() {
        PktType::Broadcast
    } else if eth.dst.is_multicast() {
        PktType::Multicast
    } else {
        PktType::OtherHost
    };
    true
}
