//! Receiving: the hardware writes frames into free descriptors, NAPI takes them out.
use super::lro::{self, How, Session};
use super::{dim, filter, irq, tx};
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use crate::net::core::skb::{SkBuff, Skb, VlanTag};
use crate::net::core::xdp::{self, Action};
use crate::net::core::{dev_rx, gro, napi, rps, vlan as tags};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::hits::Hits;
use crate::net::udp;
use belljar_wire::ethernet::{ETH_HLEN, is_vlan};
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::ipv6::Ipv6Header;
use belljar_wire::{Csum, Frame, gso};
use core::net::{IpAddr, Ipv4Addr};

/// What is no longer is copied out of its buffer: it needs no page of its own.
const COPYBREAK: u64 = 256;

/// A descriptor, as the hardware sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxDesc {
    /// Descriptor done: the buffer holds a frame.
    pub dd: bool,
    pub len: u32,
    /// The tag that the frame had.
    pub vlan: VlanTag,
    /// By whom, and of how many, the card made it.
    pub merged: Option<(How, u16)>,
}

/// The two arrays of a ring: descriptors, which the hardware reads and writes, and the driver's buffers behind them.
#[derive(Clone, Debug)]
pub struct RxRing {
    desc: Box<[RxDesc]>,
    buffer: Box<[Option<Frame>]>,
    /// Streams whose segments the card joins.
    pub(super) sessions: Vec<Session>,
    /// Where the hardware writes next, and where the driver reads next.
    next_to_use: usize,
    next_to_clean: usize,
    /// Frames that found no free descriptor.
    pub full: u64,
    /// What the driver took out.
    pub packets: u64,
    pub bytes: u64,
    /// Segments that the card joined to others, and the length of what came of them.
    pub lro: (u64, u64),
    pub gro_hw: (u64, u64),
    /// What GRO holds, and room for it.
    gro: (gro::Held, udp::gro::Held, Vec<Skb>),
}

impl RxRing {
    pub fn new(size: u32) -> RxRing {
        RxRing {
            desc: vec![RxDesc::default(); size as usize].into(),
            buffer: vec![None; size as usize].into(),
            sessions: Vec::new(),
            next_to_use: 0,
            next_to_clean: 0,
            full: 0,
            packets: 0,
            bytes: 0,
            lro: (0, 0),
            gro_hw: (0, 0),
            gro: Default::default(),
        }
    }

    pub fn size(&self) -> usize {
        self.desc.len()
    }

    /// Frames that wait for NAPI.
    pub fn used(&self) -> usize {
        self.desc.iter().filter(|d| d.dd).count()
    }

    /// DMA into the next free descriptor; the frame comes back when there is none.
    #[allow(clippy::result_large_err)] // handed back by value only when the ring is full
    fn dma(&mut self, frame: Frame, (vlan, merged): (VlanTag, Option<(How, u16)>)) -> Result<(), Frame> {
        let at = self.next_to_use;
        let (Some(desc), Some(buffer)) = (self.desc.get_mut(at), self.buffer.get_mut(at)) else { return Err(frame) };
        if desc.dd {
            return Err(frame);
        }
        *desc = RxDesc { dd: true, len: frame.len() as u32, vlan, merged };
        *buffer = Some(frame);
        self.next_to_use = (at + 1) % self.desc.len();
        Ok(())
    }

    /// A ring of another size with what waits in it; what has no room there comes back.
    pub(super) fn resize(&mut self, size: u32) -> Vec<Frame> {
        let mut next = RxRing { full: self.full, gro: std::mem::take(&mut self.gro), ..RxRing::new(size) };
        (next.packets, next.bytes) = (self.packets, self.bytes);
        (next.lro, next.gro_hw) = (self.lro, self.gro_hw);
        let mut lost = Vec::new();
        while let Some((frame, desc)) = self.clean() {
            lost.extend(next.dma(frame, (desc.vlan, desc.merged)).err());
        }
        *self = next;
        lost
    }

    /// What GRO holds.
    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        gro::skbs(&self.gro.0).chain(udp::gro::skbs(&self.gro.1))
    }

    pub(super) fn into_skbs(self) -> impl Iterator<Item = Skb> {
        gro::into_skbs(self.gro.0).chain(udp::gro::into_skbs(self.gro.1))
    }

    fn clean(&mut self) -> Option<(Frame, RxDesc)> {
        let at = self.next_to_clean;
        let frame = self.buffer.get_mut(at)?.take()?;
        let desc = self.desc.get_mut(at)?;
        desc.dd = false;
        let desc = *desc;
        if !self.sessions.is_empty() {
            lro::close(&mut self.sessions, at);
        }
        self.next_to_clean = (at + 1) % self.desc.len();
        Some((frame, desc))
    }

    /// The descriptor that the next frame goes into, if it is free.
    pub(super) fn free(&self) -> Option<usize> {
        self.desc.get(self.next_to_use).is_some_and(|d| !d.dd).then_some(self.next_to_use)
    }

    /// A descriptor that waits for the driver, and its frame.
    pub(super) fn waiting(&mut self, at: usize) -> Option<(&mut RxDesc, &mut Frame)> {
        self.desc.get_mut(at).filter(|d| d.dd).zip(self.buffer.get_mut(at)?.as_mut())
    }

    /// Counts what the card joined.
    #[cold]
    fn count(&mut self, (how, segs): (How, u16), bytes: u64) {
        let of = match how {
            How::Lro => &mut self.lro,
            How::GroHw => &mut self.gro_hw,
        };
        *of = (of.0 + u64::from(segs.saturating_sub(1)), of.1 + bytes);
    }
}

/// A frame from the wire. Without a free descriptor the card drops it and counts; the stack never sees it.
pub fn rx_frame(net: &mut Net, dev: DevId, frame: Frame) {
    let Some(d) = net.devs.get(dev) else { return };
    if !d.running() {
        return;
    }
    if frame.gso.is_some_and(|g| !d.features.gro || d.xdp.is_some() || g.is_encapsulated()) {
        // The receiver, or its program, takes no super-segments, and none does in tunnels: it gets what a wire would have carried.
        return gso::segment(frame).for_each(|f| rx_one(net, dev, f));
    }
    rx_one(net, dev, frame);
}

fn rx_one(net: &mut Net, dev: DevId, mut frame: Frame) {
    if frame.id == 0 {
        frame.id = net.env.packet_id();
    }
    let Some(d) = net.devs.get(dev) else { return };
    if filter::is_filtered(d, &frame) {
        return filter::missed(net, dev);
    }
    let tag = filter::tag_of(&frame);
    let mut vlan = VlanTag::NONE;
    if tag.present() {
        let Some(beside) = filter::tagged(net, dev, &mut frame, tag) else { return filter::missed(net, dev) };
        vlan = beside;
    }
    let Some(d) = net.devs.get_mut(dev) else { return };
    let joins = d.features.hw_merge();
    let Some(nic) = d.nic_mut() else { return };
    let queue = if nic.active > 1 { nic.rss.steer(&mut frame) } else { 0 };
    let Some(q) = nic.queue_mut(queue) else { return };
    if let Some(how) = joins {
        let Some(alone) = lro::receive(&mut q.rx, frame, vlan, how) else { return };
        frame = alone;
    }
    let Err(frame) = q.rx.dma(frame, (vlan, None)) else { return irq::rx_interrupt(net, dev, queue) };
    q.rx.full += 1;
    drop_full(net, dev, frame);
}

/// No descriptor for it.
pub(super) fn drop_full(net: &mut Net, dev: DevId, frame: Frame) {
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx_missed += 1;
        d.stats.rx_fifo += 1;
    }
    let skb = build_skb(net, dev, frame);
    let (now, who) = (net.env.now, sender(&skb));
    if let Some(nic) = net.devs.get_mut(dev).and_then(NetDevice::nic_mut) {
        Hits::note(&mut nic.rx_full, now, who);
    }
    net.kfree_skb(skb, DropReason::FullRing, "nic_rx");
}

/// The source address of an IP packet in its Ethernet frame; otherwise the unspecified one.
fn sender(skb: &SkBuff) -> IpAddr {
    let ip = skb.head.bytes().get(ETH_HLEN..).unwrap_or(&[]);
    match (Ipv4Header::parse(ip), Ipv6Header::parse(ip)) {
        (Ok(h), _) => h.src.into(),
        (_, Ok(h)) => h.src.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// A tag came beside the frame.
#[cold]
fn removed(net: &mut Net, dev: DevId, segs: u64) {
    if let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) {
        nic.vlan_removed += segs;
    }
}

/// No page for its bytes.
#[cold]
fn no_memory(net: &mut Net, dev: DevId, frame: Frame) {
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx_dropped += 1;
    }
    let skb = build_skb(net, dev, frame);
    net.kfree_skb(skb, DropReason::NoMem, "nic_poll");
}

/// The packet buffer around a frame; headers move, payload is shared.
fn build_skb(net: &mut Net, dev: DevId, frame: Frame) -> Skb {
    let mut skb = net.pool.take_skb();
    skb.id = frame.id;
    skb.head = frame.head;
    skb.frags = frame.payload;
    skb.csum = frame.csum;
    skb.gso = frame.gso;
    skb.hash = frame.hash;
    skb.dev = Some(dev);
    skb.mac_header = skb.head.start();
    skb.set_truesize();
    skb
}

/// NAPI: transmit completions first (they cost no budget), then up to `budget` frames through GRO.
#[doc(alias = "napi_poll")]
#[inline(never)]
pub fn poll(k: &mut Kernel, dev: DevId, queue: u16, budget: u32) -> u32 {
    tx::clean(&mut k.net, dev, queue);
    let Some(q) = k.net.nic_queue(dev, queue) else { return 0 };
    let napi_id = q.napi.id;
    let (mut held, mut datagrams, mut up) = std::mem::take(&mut q.rx.gro);
    let mut work = 0;
    while work < budget {
        let Some(d) = k.net.devs.get_mut(dev) else { return 0 };
        let (own, features) = (d.mac, d.features);
        let Some(ring) = d.nic_mut().and_then(|n| n.queue_mut(queue)).map(|q| &mut q.rx) else { break };
        let Some((frame, desc)) = ring.clean() else { break };
        work += 1;
        let (segs, len) = (frame.gso.map_or(1, |g| u64::from(g.segs)), frame.len() as u64);
        ring.packets += segs;
        ring.bytes += len;
        if let Some(merged) = desc.merged {
            ring.count(merged, len);
        }
        d.stats.rx(segs, len);
        if k.net.mem.is_short() && len > COPYBREAK {
            no_memory(&mut k.net, dev, frame);
            continue;
        }
        if d.xdp.is_some() {
            let verdict = xdp::verdict(&mut k.net, dev, queue, true, &frame);
            if verdict != Action::Pass {
                let skb = build_skb(&mut k.net, dev, frame);
                xdp::act(&mut k.net, dev, queue, skb, verdict);
                continue;
            }
        }
        let Some(mut skb) = receive(k, dev, frame, own, features.rx_csum) else { continue };
        skb.napi_id = napi_id;
        if desc.vlan.present() {
            skb.vlan = desc.vlan;
            removed(&mut k.net, dev, segs);
        } else if is_vlan(skb.protocol) {
            // What is cut short is named where packets are received.
            tags::untag(&mut skb);
        }
        if !features.gro {
            up.push(skb);
        } else if let Some(skb) = udp::gro::gro_receive(k, dev, &mut datagrams, skb, &mut up) {
            gro::gro_receive(&mut k.net, &mut held, skb, &mut up);
        }
        deliver(k, dev, queue, &mut up);
    }
    let holds = !held.is_empty() || !datagrams.is_empty();
    let end = napi::ending(&mut k.net, dev, queue, work, work >= budget, holds);
    gro::gro_flush(&mut held, &mut up, end.flush);
    udp::gro::gro_flush(&mut datagrams, &mut up, end.flush);
    deliver(k, dev, queue, &mut up);
    if let Some(q) = k.net.nic_queue(dev, queue) {
        q.rx.gro = (held, datagrams, up);
    }
    // Completions may have come while the stack answered.
    tx::clean(&mut k.net, dev, queue);
    if work < budget {
        if napi::rest(&mut k.net, dev, queue, &end) {
            irq::unmask(&mut k.net, dev, queue);
        }
        let now = k.net.env.now;
        if let Some(q) = k.net.nic_queue(dev, queue).filter(|q| q.irq.dim.is_some()) {
            dim::polled(q, now);
        }
    }
    work
}

fn deliver(k: &mut Kernel, dev: DevId, queue: u16, up: &mut Vec<Skb>) {
    for skb in up.drain(..) {
        let skb = if !k.net.rps_needed { Some(skb) } else { rps::steer(&mut k.net, dev, queue, skb) };
        let Some(skb) = skb else { continue };
        if let Some(m) = &mut k.net.model {
            m.up += 1;
        }
        dev_rx::netif_receive_skb(k, skb);
        k.drain_rises();
    }
}

/// A frame as a packet, with what the card knows about its checksum; `None` when it was too short to be one.
fn receive(k: &mut Kernel, dev: DevId, mut frame: Frame, own: belljar_wire::Mac, rx_csum: bool) -> Option<Skb> {
    if let Some(c) = k.net.this_cpu() {
        c.stat.processed += 1;
    }
    match (rx_csum, frame.csum) {
        // The card looks; what it cannot vouch for the stack checks again.
        (true, Csum::None) if gso::verify(&frame).is_ok() && checkable(&frame) => frame.csum = Csum::Unnecessary,
        (false, _) => {
            gso::finish_checksum(&mut frame);
            frame.csum = Csum::None;
        }
        _ => {}
    }
    let mut skb = build_skb(&mut k.net, dev, frame);
    skb.tstamp = k.net.env.now;
    if skb.may_pull(belljar_wire::ethernet::ETH_HLEN) && ethernet::type_trans(&mut skb, own) {
        return Some(skb);
    }
    if let Some(d) = k.net.devs.get_mut(dev) {
        d.stats.rx_errors += 1;
    }
    k.net.kfree_skb(skb, DropReason::DevHdr, "eth_type_trans");
    None
}

/// TCP and UDP in whole packets are what cards check.
fn checkable(frame: &Frame) -> bool {
    belljar_wire::FlowKey::dissect(frame).is_some_and(|f| f.sport != 0 || f.dport != 0)
}
