//! Receive packet steering: the hash of a flow chooses, among the CPUs that a receive queue names (`rps_cpus`), the one whose
//! backlog gets the packet. Nothing of it is looked at until somebody names a CPU.
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::Skb;
use crate::net::core::softirq;
use crate::net::core::txq::{flow_hash, reciprocal_scale};
use belljar_abi::Errno;

/// What `/sys/class/net/IF/queues/rx-N` sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxQueue {
    pub rps_cpus: u64,
}

/// The CPU for a packet that came in by this queue; `None`: it stays where it is.
#[doc(alias = "get_rps_cpu")]
fn rps_cpu(d: &NetDevice, queue: u16, skb: &Skb) -> Option<usize> {
    let mask = d.rx_queues.get(usize::from(queue))?.rps_cpus;
    let n = mask.count_ones();
    if n == 0 {
        return None;
    }
    let nth = match flow_hash(skb, skb.head.start()) {
        0 => return None,
        hash => reciprocal_scale(hash, n),
    };
    (0..64).filter(|c| mask & 1 << c != 0).nth(nth as usize)
}

/// Into the backlog of the CPU that it is for, if there is one; else it comes back.
pub fn steer(net: &mut Net, dev: DevId, queue: u16, skb: Skb) -> Option<Skb> {
    let Some(cpu) = net.devs.get(dev).and_then(|d| rps_cpu(d, queue, &skb)).filter(|c| *c < net.cpus.len()) else {
        return Some(skb);
    };
    softirq::enqueue_to_backlog_of(net, cpu, skb);
    None
}

/// Of a device without NAPI: the backlog of a CPU, this one's unless the queue names others.
pub fn netif_rx(net: &mut Net, skb: Skb) {
    let Some(dev) = skb.dev else { return softirq::enqueue_to_backlog(net, skb) };
    if let Some(skb) = steer(net, dev, 0, skb) {
        softirq::enqueue_to_backlog(net, skb);
    }
}

/// Writes `rps_cpus`: CPUs that there are not do not count.
#[doc(alias = "store_rps_map")]
pub fn set_rps_cpus(net: &mut Net, dev: DevId, queue: usize, mask: u64) -> Result<(), Errno> {
    let all = u64::MAX >> (64 - net.cpus.len().clamp(1, 64));
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let queues = d.nic().map_or(1, |n| n.queues.len());
    if queue >= queues {
        return Err(Errno::ENOENT);
    }
    d.rx_queues.resize(queues, RxQueue::default());
    if let Some(q) = d.rx_queues.get_mut(queue) {
        q.rps_cpus = mask & all;
    }
    net.rps_needed = net.devs.iter().any(|(_, d)| d.rx_queues.iter().any(|q| q.rps_cpus != 0));
    Ok(())
}
