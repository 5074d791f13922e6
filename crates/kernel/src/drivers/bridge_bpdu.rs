//! What bridges of a spanning tree tell each other (802.1D-1998 §9): BPDUs in frames of 802.3.
use super::bridge_stp::{BridgeId, GROUP_ADDRESS, Times};
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev_tx;
use belljar_wire::ethernet::{ETH_HLEN, EthHeader};

/// LLC: both service access points that of the spanning tree, unnumbered information.
pub(super) const LLC: [u8; 3] = [0x42, 0x42, 3];
pub(super) const BPDU_CONFIG: u8 = 0;
pub(super) const BPDU_TCN: u8 = 0x80;
pub(super) const TCN_LEN: usize = 4;
const CONFIG_LEN: usize = 35;
/// Times in BPDUs count parts of a second.
pub(super) const STP_HZ: u64 = 256;

/// A configuration message (802.1D §9.3.1); times in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub change: bool,
    pub change_ack: bool,
    pub root: BridgeId,
    pub cost: u32,
    pub bridge: BridgeId,
    pub port: u16,
    pub message_age: Jiffies,
    pub times: Times,
}

#[doc(alias = "br_send_bpdu")]
pub(super) fn send(net: &mut Net, dev: DevId, bpdu: &[u8]) {
    let Some((ns, mac)) = net.devs.get(dev).filter(|d| d.up).map(|d| (d.ns, d.mac)) else { return };
    let mut skb = net.alloc_skb();
    let Some(room) = skb.head.push(ETH_HLEN + LLC.len()) else { return net.consume_skb(skb) };
    let len = (LLC.len() + bpdu.len()) as u16;
    EthHeader { dst: GROUP_ADDRESS, src: mac, ethertype: len }.emit(room);
    room[ETH_HLEN..].copy_from_slice(&LLC);
    skb.frags = bpdu.to_vec().into();
    (skb.ns, skb.dev, skb.protocol, skb.priority) = (Some(ns), Some(dev), len, TC_PRIO_CONTROL);
    skb.mac_header = skb.head.start();
    skb.network_header = skb.mac_header + ETH_HLEN as u8;
    skb.set_truesize();
    // Nobody waits for an error.
    let _ = dev_tx::dev_queue_xmit(net, dev, skb);
}

const TC_PRIO_CONTROL: u32 = 7;

impl Config {
    pub fn bytes(&self, hz: u32) -> Vec<u8> {
        let ticks = |j: Jiffies| ((u64::from(j) * STP_HZ / u64::from(hz.max(1))) as u16).to_be_bytes();
        let mut b = vec![0, 0, 0, BPDU_CONFIG, u8::from(self.change) | u8::from(self.change_ack) << 7];
        b.extend(self.root);
        b.extend(self.cost.to_be_bytes());
        b.extend(self.bridge);
        b.extend(self.port.to_be_bytes());
        let t = &self.times;
        [self.message_age, t.max_age, t.hello_time, t.forward_delay].into_iter().for_each(|j| b.extend(ticks(j)));
        b
    }

    pub fn parse(b: &[u8], hz: u32) -> Option<Config> {
        let b: &[u8; CONFIG_LEN] = b.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        let ticks = |at: usize| (u64::from(word(at)) * u64::from(hz)).div_ceil(STP_HZ) as Jiffies;
        let id = |at: usize| b.get(at..).and_then(|b| b.first_chunk::<8>()).copied();
        Some(Config {
            change: b[4] & 1 != 0,
            change_ack: b[4] & 0x80 != 0,
            root: id(5)?,
            cost: u32::from_be_bytes([b[13], b[14], b[15], b[16]]),
            bridge: id(17)?,
            port: word(25),
            message_age: ticks(27),
            times: Times { max_age: ticks(29), hello_time: ticks(31), forward_delay: ticks(33) },
        })
    }
}
