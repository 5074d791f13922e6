//! `ethtool -S`: counters by the names that drivers give them, of the device and of each channel in use.
use super::{Nic, Queue};
use crate::net::core::dev::NetDevice;

const DEVICE: [&str; 19] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "multicast",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "rx_missed_errors",
    "rx_fifo_errors",
    "tx_carrier_errors",
    // These as mlx5 calls them (the kernel's documentation of its counters).
    "rx_steer_missed_packets",
    "rx_removed_vlan_packets",
    "tx_added_vlan_packets",
    "rx_lro_packets",
    "rx_lro_bytes",
    "rx_gro_packets",
    "rx_gro_bytes",
];
const RX: [&str; 4] = ["packets", "bytes", "drops", "interrupts"];
const TX: [&str; 4] = ["packets", "bytes", "restart", "interrupts"];

/// How many there are.
pub fn len(nic: &Nic) -> usize {
    DEVICE.len() + nic.channels() * (RX.len() + TX.len())
}

pub fn names(nic: &Nic) -> Vec<String> {
    let queues = |way: &str, of: &[&str; 4]| -> Vec<String> {
        let queue = |q: usize| of.iter().map(move |n| format!("{way}_queue_{q}_{n}"));
        (0..nic.channels()).flat_map(queue).collect()
    };
    let device = DEVICE.iter().map(|n| (*n).to_owned());
    device.chain(queues("rx", &RX)).chain(queues("tx", &TX)).collect()
}

pub fn values(d: &NetDevice, nic: &Nic) -> Vec<u64> {
    let s = &d.stats;
    let sum = |of: fn(&Queue) -> u64| nic.queues.iter().map(of).sum();
    let device = [
        s.rx_packets,
        s.tx_packets,
        s.rx_bytes,
        s.tx_bytes,
        s.multicast,
        s.rx_errors,
        s.tx_errors,
        s.rx_dropped,
        s.tx_dropped,
        s.rx_missed,
        s.rx_fifo,
        s.tx_carrier,
        nic.rx_filtered,
        nic.vlan_removed,
        sum(|q| q.tx.vlan_added),
        sum(|q| q.rx.lro.0),
        sum(|q| q.rx.lro.1),
        sum(|q| q.rx.gro_hw.0),
        sum(|q| q.rx.gro_hw.1),
    ];
    let rx = |q: &Queue| [q.rx.packets, q.rx.bytes, q.rx.full, q.irq.rx_count];
    let tx = |q: &Queue| [q.tx.packets, q.tx.bytes, q.tx.stops, q.irq.tx_count];
    let used = || nic.queues.iter().take(nic.channels());
    device.into_iter().chain(used().flat_map(rx)).chain(used().flat_map(tx)).collect()
}
