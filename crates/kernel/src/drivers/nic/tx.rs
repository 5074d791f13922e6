//! Transmitting: the driver fills descriptors and rings the doorbell, the hardware puts frames on the wire, and the
//! completion interrupt (handled in NET_RX, not NET_TX) frees what was sent.
use super::{Queue, irq};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::softirq;
use crate::net::drop::DropReason;

/// A descriptor, as the hardware sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxDesc {
    /// Descriptor done: on the wire, the driver may free the buffer.
    pub dd: bool,
    pub len: u32,
}

/// Descriptors and the driver's packets behind them.
#[derive(Clone, Debug)]
pub struct TxRing {
    desc: Box<[TxDesc]>,
    buffer: Box<[Option<Skb>]>,
    next_to_use: usize,
    next_to_clean: usize,
    used: usize,
    /// Times the ring was full and the queue was stopped.
    pub stops: u64,
    /// What the driver put in.
    pub packets: u64,
    pub bytes: u64,
    /// Descriptors that took: one for a super-segment.
    pub descs: u64,
    /// CPUs that send by this queue (XPS); none: any does, by hash.
    pub xps_cpus: u64,
}

impl TxRing {
    pub fn new(size: u32) -> TxRing {
        TxRing {
            desc: vec![TxDesc::default(); size as usize].into(),
            buffer: (0..size).map(|_| None).collect(),
            next_to_use: 0,
            next_to_clean: 0,
            used: 0,
            stops: 0,
            packets: 0,
            bytes: 0,
            descs: 0,
            xps_cpus: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.desc.len()
    }

    /// A ring of another size with what has not been freed yet, which is never more than its room: the hardware is done
    /// with a packet as soon as it has it.
    pub(super) fn resize(&mut self, size: u32) {
        if self.used == 0 {
            let mut next = TxRing { stops: self.stops, xps_cpus: self.xps_cpus, ..TxRing::new(size) };
            (next.packets, next.bytes, next.descs) = (self.packets, self.bytes, self.descs);
            *self = next;
        }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn into_skbs(self) -> impl Iterator<Item = Skb> {
        self.buffer.into_iter().flatten()
    }

    /// Packets that the driver has not freed yet.
    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.buffer.iter().flatten()
    }
}

/// `ndo_start_xmit`. The queue is stopped before it can overflow; a packet that comes all the same is dropped.
#[doc(alias = "ndo_start_xmit")]
pub fn start_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    let Some(d) = net.devs.get_mut(dev) else { return net.consume_skb(skb) };
    let (carrier, copies, queue) = (d.carrier, d.copies(), skb.queue_mapping);
    let room = |q: &&mut Queue| q.tx.used < q.tx.desc.len() && carrier;
    let Some(q) = d.nic_mut().and_then(|n| n.queue_mut(queue)).filter(room) else {
        d.stats.tx_dropped += 1;
        return net.kfree_skb(skb, DropReason::FullRing, "ndo_start_xmit");
    };
    if let Some(tx) = &mut skb.tx {
        tx.copied |= copies;
    }
    let (ring, len) = (&mut q.tx, skb.len());
    let at = ring.next_to_use;
    let frame = skb.to_frame();
    let segs = skb.gso.map_or(1, |g| u64::from(g.segs));
    ring.desc[at].len = len as u32;
    ring.buffer[at] = Some(skb);
    ring.next_to_use = (at + 1) % ring.desc.len();
    ring.used += 1;
    ring.packets += segs;
    ring.bytes += len as u64;
    ring.descs += 1;
    let full = ring.used == ring.desc.len();
    if full {
        ring.stops += 1;
    }
    // The doorbell: the hardware fetches the descriptor, the wire takes the frame.
    ring.desc[at].dd = true;
    d.xoff |= u32::from(full) << (queue & 31);
    d.stats.tx(segs, len as u64);
    net.frames.push_back((dev, frame));
    irq::tx_interrupt(net, dev, queue);
}

/// Frees what the hardware is done with and lets a stopped queue go on.
pub fn clean(net: &mut Net, dev: DevId, queue: u16) {
    loop {
        let Some(ring) = net.nic_queue(dev, queue).map(|q| &mut q.tx) else { return };
        let at = ring.next_to_clean;
        if ring.used == 0 || !std::mem::take(&mut ring.desc[at].dd) {
            break;
        }
        let skb = ring.buffer[at].take();
        ring.next_to_clean = (at + 1) % ring.desc.len();
        ring.used -= 1;
        if let Some(skb) = skb {
            net.consume_skb(skb);
        }
    }
    let Some(d) = net.devs.get_mut(dev) else { return };
    if d.stopped(queue) {
        d.xoff &= !(1 << (queue & 31));
        softirq::netif_schedule(net, dev);
    }
}
