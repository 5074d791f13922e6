//! Transmitting: the driver fills descriptors and rings the doorbell, the hardware puts frames on the wire, and the
//! completion interrupt (handled in NET_RX, not NET_TX) frees what was sent.
use super::dql::Dql;
use super::{Queue, irq, line};
use crate::env::time::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
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
    /// Where the hardware fetches next, and how many wait for that.
    next_to_fetch: usize,
    waiting: usize,
    /// Byte queue limits, of a card with a speed, and whether they stop the queue (`__QUEUE_STATE_STACK_XOFF`).
    pub dql: Dql,
    pub stack_off: bool,
    /// Times the ring was full and the queue was stopped.
    pub stops: u64,
    /// What the driver put in.
    pub packets: u64,
    pub bytes: u64,
    /// Tags that were put in on the way.
    pub vlan_added: u64,
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
            next_to_fetch: 0,
            waiting: 0,
            dql: Dql::new(250),
            stack_off: false,
            stops: 0,
            packets: 0,
            bytes: 0,
            vlan_added: 0,
            descs: 0,
            xps_cpus: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.desc.len()
    }

    /// A ring of another size with what the hardware has not sent yet, if there is room for that.
    pub(super) fn resize(&mut self, size: u32) -> bool {
        if self.used > size as usize {
            return false;
        }
        let mut next = TxRing { stops: self.stops, xps_cpus: self.xps_cpus, ..TxRing::new(size) };
        (next.packets, next.bytes, next.descs) = (self.packets, self.bytes, self.descs);
        next.vlan_added = self.vlan_added;
        (next.dql, next.stack_off) = (self.dql.clone(), self.stack_off);
        (next.used, next.waiting, next.next_to_use) = (self.used, self.waiting, self.used % size.max(1) as usize);
        next.next_to_fetch = (self.used - self.waiting) % size.max(1) as usize;
        for n in 0..self.used {
            let from = (self.next_to_clean + n) % self.desc.len();
            (next.desc[n], next.buffer[n]) = (self.desc[from], self.buffer[from].take());
        }
        *self = next;
        true
    }

    /// The packet that the hardware sends next, or is sending.
    pub(super) fn to_fetch(&self) -> Option<&Skb> {
        self.buffer.get(self.next_to_fetch).filter(|_| self.waiting > 0)?.as_ref()
    }

    /// It is out.
    pub(super) fn fetched(&mut self) {
        let at = self.next_to_fetch;
        if let Some(d) = self.desc.get_mut(at).filter(|_| self.waiting > 0) {
            d.dd = true;
            self.next_to_fetch = (at + 1) % self.desc.len();
            self.waiting -= 1;
        }
    }

    /// It goes nowhere.
    pub(super) fn take_fetched(&mut self) -> Option<Skb> {
        let skb = self.buffer.get_mut(self.next_to_fetch).filter(|_| self.waiting > 0)?.take();
        self.fetched();
        skb
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
    let slow = d.nic().is_some_and(|n| n.line.is_some());
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
    let frame = if slow { None } else { Some(skb.to_wire()) };
    let segs = skb.gso.map_or(1, |g| u64::from(g.segs));
    if skb.vlan.present() {
        ring.vlan_added += segs;
    }
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
    let Some(frame) = frame else {
        ring.waiting += 1;
        ring.dql.queue(len as u32);
        ring.stack_off = !ring.dql.has_room();
        d.xoff |= u32::from(full || ring.stack_off) << (queue & 31);
        d.stats.tx(segs, len as u64);
        return line::fetch(net, dev);
    };
    ring.desc[at].dd = true;
    d.xoff |= u32::from(full) << (queue & 31);
    d.stats.tx(segs, len as u64);
    net.frames.push_back((dev, frame));
    irq::tx_interrupt(net, dev, queue);
}

/// Frees what the hardware is done with and lets a stopped queue go on.
pub fn clean(net: &mut Net, dev: DevId, queue: u16) {
    let mut bytes = 0;
    loop {
        let Some(ring) = net.nic_queue(dev, queue).map(|q| &mut q.tx) else { return };
        let at = ring.next_to_clean;
        if ring.used == 0 || !std::mem::take(&mut ring.desc[at].dd) {
            break;
        }
        let skb = ring.buffer[at].take();
        bytes += ring.desc[at].len;
        ring.next_to_clean = (at + 1) % ring.desc.len();
        ring.used -= 1;
        if let Some(skb) = skb {
            net.consume_skb(skb);
        }
    }
    let jiffies = net.env.jiffies();
    let Some(d) = net.devs.get_mut(dev) else { return };
    if bytes > 0 && d.nic().is_some_and(|n| n.line.is_some()) {
        completed(d, queue, bytes, jiffies);
    }
    let may = |q: &mut Queue| q.tx.used < q.tx.desc.len() && !q.tx.stack_off;
    if d.stopped(queue) && d.nic_mut().and_then(|n| n.queue_mut(queue)).is_some_and(may) {
        d.xoff &= !(1 << (queue & 31));
        softirq::netif_schedule(net, dev);
    }
}

#[doc(alias = "netdev_tx_completed_queue")]
fn completed(d: &mut NetDevice, queue: u16, bytes: u32, now: Jiffies) {
    if let Some(ring) = d.nic_mut().and_then(|n| n.queue_mut(queue)).map(|q| &mut q.tx) {
        ring.dql.complete(bytes, now);
        ring.stack_off &= !ring.dql.has_room();
    }
}
