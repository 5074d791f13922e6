//! Receive packet steering: the hash of a flow chooses, among the CPUs that a receive queue names (`rps_cpus`), the one whose
//! backlog gets the packet. Receive flow steering sends it to the CPU on which the flow's reader last made a call instead,
//! once nothing of the flow waits at the CPU it went to before. Nothing of both is looked at until somebody asks for one.
use crate::ids::{DevId, NsId, SockId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::softirq;
use crate::net::core::txq::{flow_hash, reciprocal_scale};
use crate::net::tcp::state::State;
use belljar_abi::Errno;

/// What `/sys/class/net/IF/queues/rx-N` sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RxQueue {
    pub rps_cpus: u64,
    /// `rps_flow_cnt` of them.
    flows: Vec<Flow>,
}

/// Where packets of the flows with one remainder went last (`struct rps_dev_flow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    cpu: u16,
    /// The tail of that CPU's backlog behind the last of them.
    last_qtail: u32,
}

const NO_CPU: u16 = u16::MAX;
/// Low bits of an entry, which hold a CPU; the others are those of the hash.
const CPU_MASK: u32 = 63;
/// Entries that there is memory for here, in either table; Linux has as much as its machine.
const MOST_ENTRIES: u64 = 1 << 20;

/// On which CPU flows are read (`net.core.rps_sock_flow_entries`), by hash.
#[derive(Clone, Debug, Default)]
pub struct SockFlows(Vec<u32>);

impl SockFlows {
    pub fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    fn slot(&mut self, hash: u32) -> Option<&mut u32> {
        let mask = self.0.len().wrapping_sub(1);
        self.0.get_mut(hash as usize & mask)
    }
}

/// A table of a power of two.
fn entries(n: u64) -> Result<usize, Errno> {
    match n.checked_next_power_of_two() {
        _ if n == 0 => Ok(0),
        Some(n) if n <= MOST_ENTRIES => Ok(n as usize),
        _ => Err(Errno::ENOMEM),
    }
}

/// `net.core.rps_sock_flow_entries` was asked for: a new table, or the old one emptied.
#[doc(alias = "rps_sock_flow_sysctl")]
pub fn set_sock_flow_entries(net: &mut Net, n: u32) -> Result<(), Errno> {
    let n = entries(n.into())?;
    net.rfs.0 = vec![u32::from(NO_CPU); n];
    net.sysctl.rps_sock_flow_entries = n as u32;
    look_whether_needed(net);
    Ok(())
}

fn look_whether_needed(net: &mut Net) {
    net.rps_needed = net.rfs.is_on() || net.devs.iter().any(|(_, d)| d.rx_queues.iter().any(|q| q.rps_cpus != 0));
}

/// A task makes a call on a connected socket: its flow is wanted on this CPU.
#[doc(alias = "sock_rps_record_flow")]
#[inline]
pub(crate) fn record_flow(k: &mut Kernel, sock: SockId) {
    if k.net.rfs.is_on() {
        record(k, sock);
    }
}

#[cold]
fn record(k: &mut Kernel, sock: SockId) {
    let connected = match sock {
        SockId::Tcp(id) => k.socks.tcp.get(id).is_some_and(|s| s.state == State::Established),
        SockId::Udp(id) => k.socks.udp.get(id).is_some_and(|s| !s.sk.daddr.is_unspecified()),
        _ => false,
    };
    let hash = k.socks.sk(sock).filter(|_| connected).map_or(0, |sk| sk.rxhash);
    let cpu = k.net.cpu as u32 & CPU_MASK;
    if hash != 0
        && let Some(slot) = k.net.rfs.slot(hash)
    {
        *slot = hash & !CPU_MASK | cpu;
    }
}

/// The CPU for a packet that came in by this queue, and which of the queue's flows it is of; `None`: it stays where it is.
#[doc(alias = "get_rps_cpu")]
fn rps_cpu(net: &mut Net, dev: DevId, queue: u16, skb: &mut Skb) -> Option<(usize, Option<usize>)> {
    let Net { devs, rfs, cpus, .. } = net;
    let q = devs.get_mut(dev)?.rx_queues.get_mut(usize::from(queue))?;
    if q.rps_cpus == 0 && q.flows.is_empty() {
        return None;
    }
    let hash = flow_hash(skb, skb.head.start());
    if hash == 0 {
        return None;
    }
    skb.hash = hash;
    let at = hash as usize & q.flows.len().wrapping_sub(1);
    if let (Some(flow), Some(entry)) = (q.flows.get_mut(at), rfs.slot(hash))
        && (*entry ^ hash) & !CPU_MASK == 0
    {
        let wanted = (*entry & CPU_MASK) as u16;
        let head = |cpu: u16| cpus.get(usize::from(cpu)).map(|c| c.input_queue_head);
        // Elsewhere only when all that went to the old CPU has been taken out of its backlog.
        let passed = |head: u32| head.wrapping_sub(flow.last_qtail) as i32 >= 0;
        if flow.cpu != wanted && head(flow.cpu).is_none_or(passed) {
            *flow = Flow { cpu: wanted, last_qtail: head(wanted).unwrap_or(0) };
        }
        if usize::from(flow.cpu) < cpus.len() {
            return Some((flow.cpu.into(), Some(at)));
        }
    }
    let mask = q.rps_cpus;
    let nth = reciprocal_scale(hash, mask.count_ones());
    let cpu = (0..64).filter(|c| mask & 1 << c != 0).nth(nth as usize)?;
    Some((cpu, None)).filter(|c| c.0 < cpus.len())
}

/// Into the backlog of the CPU that it is for, if there is one; else it comes back.
pub fn steer(net: &mut Net, dev: DevId, queue: u16, mut skb: Skb) -> Option<Skb> {
    let Some((cpu, flow)) = rps_cpu(net, dev, queue, &mut skb) else { return Some(skb) };
    let tail = softirq::enqueue_to_backlog_of(net, cpu, skb);
    if let (Some(at), Some(tail)) = (flow, tail)
        && let Some(q) = net.devs.get_mut(dev).and_then(|d| d.rx_queues.get_mut(usize::from(queue)))
        && let Some(flow) = q.flows.get_mut(at)
    {
        flow.last_qtail = tail;
    }
    None
}

/// Of a device without NAPI: the backlog of a CPU, this one's unless the queue names others.
pub fn netif_rx(net: &mut Net, skb: Skb) {
    let Some(dev) = skb.dev else { return softirq::enqueue_to_backlog(net, skb) };
    if let Some(skb) = steer(net, dev, 0, skb) {
        softirq::enqueue_to_backlog(net, skb);
    }
}

/// One of a device's receive queues, to be changed.
fn rx_queue(net: &mut Net, dev: DevId, queue: usize) -> Result<&mut RxQueue, Errno> {
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let queues = d.nic().map_or(1, |n| n.queues.len());
    if queue >= queues {
        return Err(Errno::ENOENT);
    }
    d.rx_queues.resize(queues, RxQueue::default());
    d.rx_queues.get_mut(queue).ok_or(Errno::ENOENT)
}

/// Writes `rps_cpus`: CPUs that there are not do not count.
#[doc(alias = "store_rps_map")]
pub fn set_rps_cpus(net: &mut Net, dev: DevId, queue: usize, mask: u64) -> Result<(), Errno> {
    let all = u64::MAX >> (64 - net.cpus.len().clamp(1, 64));
    rx_queue(net, dev, queue)?.rps_cpus = mask & all;
    look_whether_needed(net);
    Ok(())
}

/// `net.core.rps_default_mask`: `rps_cpus` of devices to come. EOVERFLOW: there is no such CPU.
#[doc(alias = "rps_default_mask_sysctl")]
pub fn set_default_mask(net: &mut Net, ns: NsId, text: &str) -> Result<(), Errno> {
    let all = u64::MAX >> (64 - net.cpus.len().clamp(1, 64));
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOENT)?;
    let before = n.sysctl.rps_default_mask;
    n.sysctl.store("net.core.rps_default_mask", text)?;
    if n.sysctl.rps_default_mask.0 & !all != 0 {
        n.sysctl.rps_default_mask = before;
        return Err(Errno::EOVERFLOW);
    }
    Ok(())
}

/// What a new device's queue begins with.
#[doc(alias = "rx_queue_default_mask")]
pub fn first_queues(net: &mut Net, ns: NsId) -> Vec<RxQueue> {
    match net.ns.get(ns).map_or(0, |n| n.sysctl.rps_default_mask.0) {
        0 => Vec::new(),
        rps_cpus => {
            net.rps_needed = true;
            vec![RxQueue { rps_cpus, ..RxQueue::default() }]
        }
    }
}

/// `rps_flow_cnt`.
pub fn flow_count(net: &Net, dev: DevId, queue: usize) -> usize {
    net.devs.get(dev).and_then(|d| d.rx_queues.get(queue)).map_or(0, |q| q.flows.len())
}

/// Writes it: as many as the next power of two, all of which have gone nowhere yet.
#[doc(alias = "store_rps_dev_flow_table_cnt")]
pub fn set_flow_count(net: &mut Net, dev: DevId, queue: usize, n: u64) -> Result<(), Errno> {
    let n = entries(n)?;
    rx_queue(net, dev, queue)?.flows = vec![Flow { cpu: NO_CPU, last_qtail: 0 }; n];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::nic::NicConfig;

    /// A reader that moves takes its flow along only when nothing of it waits where it went before.
    #[test]
    fn a_flow_does_not_overtake_itself() {
        let mut k = Kernel::new(1);
        k.set_cpus(4);
        let ns = k.net.add_ns("n");
        let dev = k.add_nic(ns, &NicConfig::default()).unwrap();
        set_flow_count(&mut k.net, dev, 0, 100).unwrap();
        set_sock_flow_entries(&mut k.net, 50).unwrap();
        assert_eq!((flow_count(&k.net, dev, 0), k.net.sysctl.rps_sock_flow_entries), (128, 64));
        let hash = 0x1234_5678;
        let to = |k: &mut Kernel, reader: u32| {
            *k.net.rfs.slot(hash).unwrap() = hash & !CPU_MASK | reader;
            let mut skb = k.net.alloc_skb();
            skb.hash = hash;
            assert!(steer(&mut k.net, dev, 0, skb).is_none());
            k.net.cpus.iter().map(|c| c.input_pkt_queue.len()).collect::<Vec<_>>()
        };
        assert_eq!(to(&mut k, 2), [0, 0, 1, 0]);
        assert_eq!(to(&mut k, 3), [0, 0, 2, 0]);
        // The backlog of CPU 2 is emptied.
        let waiting = std::mem::take(&mut k.net.cpus[2].input_pkt_queue);
        k.net.cpus[2].input_queue_head += waiting.len() as u32;
        waiting.into_iter().for_each(|skb| k.net.consume_skb(skb));
        assert_eq!(to(&mut k, 3), [0, 0, 0, 1]);
        let left = std::mem::take(&mut k.net.cpus[3].input_pkt_queue);
        left.into_iter().for_each(|skb| k.net.consume_skb(skb));
    }
}
