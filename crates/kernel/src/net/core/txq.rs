//! Which transmit queue of a device a packet goes out by: the queue of the CPU that sends (XPS), or one by the hash of the
//! flow. Where packets of a flow wait does not change while the sender stays on its CPU, so they keep their order.
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::SkBuff;
use belljar_wire::FlowKey;

/// `n` equal parts of all hashes: which of them this one is in.
pub fn reciprocal_scale(hash: u32, n: u32) -> u32 {
    ((u64::from(hash) * u64::from(n)) >> 32) as u32
}

/// A hash of the flow: that of its socket, or of what the IP header at `network` and the one behind it say; 0: there are none.
#[doc(alias = "skb_get_hash")]
pub fn flow_hash(skb: &SkBuff, network: u8) -> u32 {
    if skb.hash != 0 {
        return skb.hash;
    }
    let Some(f) = FlowKey::from_ip(skb.head.at(network)) else { return 0 };
    let mut h = u64::from(f.proto) << 32 | u64::from(f.sport) << 16 | u64::from(f.dport);
    for addr in [f.src, f.dst] {
        let bits = match addr {
            core::net::IpAddr::V4(a) => u128::from(a.to_bits()),
            core::net::IpAddr::V6(a) => a.to_bits(),
        };
        // Rounds of splitmix64: every bit of the input moves every bit of the hash.
        for half in [bits as u64, (bits >> 64) as u64] {
            h = (h ^ half).wrapping_add(0x9e37_79b9_7f4a_7c15);
            h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            h ^= h >> 31;
        }
    }
    (h >> 32) as u32 | 1
}

/// A queue of those in use.
#[doc(alias = "netdev_core_pick_tx")]
pub fn pick_tx(d: &NetDevice, cpu: usize, skb: &SkBuff) -> u16 {
    let n = u32::from(d.tx_queues.max(1));
    let queues = d.nic().map_or(&[][..], |nic| nic.queues.get(..n as usize).unwrap_or(&[]));
    let mine = |q: &crate::drivers::nic::Queue| q.tx.xps_cpus & 1 << (cpu & 63) != 0;
    let count = queues.iter().filter(|q| mine(q)).count() as u32;
    if count == 0 {
        return reciprocal_scale(flow_hash(skb, skb.network_header), n) as u16;
    }
    let nth = if count == 1 { 0 } else { reciprocal_scale(flow_hash(skb, skb.network_header), count) };
    let found = queues.iter().enumerate().filter(|(_, q)| mine(q)).nth(nth as usize);
    found.map_or(0, |(n, _)| n as u16)
}
