//! What disciplines and filters read and write in a packet's headers: its flow, its ECN field, its addresses and ports.
use crate::net::core::skb::SkBuff;
use belljar_wire::flow::FlowKey;
use belljar_wire::ipv4;
use core::net::IpAddr;

/// A number for the packet's flow: the sender's, or made of its addresses and ports (`skb_get_hash`).
pub fn flow_hash(skb: &SkBuff) -> u32 {
    if skb.hash != 0 {
        return skb.hash;
    }
    let Some(key) = FlowKey::from_ip(skb.head.at(skb.network_header)) else { return 0 };
    let mut h = u64::from(key.proto) << 32 | u64::from(key.sport) << 16 | u64::from(key.dport);
    for addr in [key.src, key.dst] {
        let (hi, lo) = match addr {
            IpAddr::V4(a) => (0, u64::from(u32::from(a))),
            IpAddr::V6(a) => ((u128::from(a) >> 64) as u64, u128::from(a) as u64),
        };
        h = mix(mix(h ^ hi) ^ lo);
    }
    ((h >> 32) as u32).max(1)
}

/// The finalizer of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The traffic class or type of service.
pub fn dsfield(skb: &SkBuff) -> Option<u8> {
    let ip = skb.head.at(skb.network_header);
    match ip.first()? >> 4 {
        4 => ip.get(1).copied(),
        6 => Some(ip[0] << 4 | ip.get(1)? >> 4),
        _ => None,
    }
}

/// How many routers it may still pass, where it says so.
#[doc(alias = "ip_tunnel_get_ttl")]
pub fn ttl(skb: &SkBuff) -> Option<u8> {
    let ip = skb.head.at(skb.network_header);
    match ip.first()? >> 4 {
        4 => ip.get(8).copied(),
        6 => ip.get(7).copied(),
        _ => None,
    }
}

/// Says that the way is congested, if the sender understands that (RFC 3168 §5); false when it does not.
#[doc(alias = "INET_ECN_set_ce")]
pub fn set_ce(skb: &mut SkBuff) -> bool {
    let Some(ds) = dsfield(skb).filter(|ds| ds & 3 != 0) else { return false };
    if ds & 3 == 3 {
        return true;
    }
    let at = usize::from(skb.network_header.saturating_sub(skb.head.start()));
    let Some(ip) = skb.head.bytes_mut().get_mut(at..) else { return false };
    if ip[0] >> 4 == 6 {
        ip[1] |= 0x30;
        return true;
    }
    let len = usize::from(ip[0] & 15) * 4;
    ip[1] |= 3;
    if let Some(header) = ip.get_mut(..len) {
        ipv4::set_checksum(header);
    }
    true
}
