//! A device whose wire is a file: what the stack sends, a program reads; what the program writes, comes in (tun(4)).
//!
//! Inside the stack every packet has an Ethernet header, as on loopback; a TUN device, which has none, takes it off on
//! the way out and puts one of zeros on for whoever taps.
use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::mem::pages::PAGE_SIZE;
use crate::net::Net;
use crate::net::core::dev::{DevKind, Features};
use crate::net::core::skb::{NET_SKB_PAD, SHARED_INFO, SKB_HEAD, Skb, linear_buffer};
use crate::net::core::{dev_rx, features, virtio_net};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use belljar_abi::{Errno, TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_UFO, TUN_F_USO4, TUN_F_USO6};
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6};
use belljar_wire::{FlowKey, Frame, GsoType, Mac, gso};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Packets that wait for the reader of a TUN (`ip link`'s qlen); a TAP has what Ethernet devices have.
pub const TUN_READQ_SIZE: u32 = 500;

/// The driver's part of the device.
#[derive(Clone, Debug)]
pub struct Tun {
    /// TAP: with Ethernet headers.
    pub tap: bool,
    /// It outlives its files (TUNSETPERSIST).
    pub persist: bool,
    /// Several files at once (IFF_MULTI_QUEUE).
    pub multi_queue: bool,
    /// What readers take unfinished (`TUN_F_*`).
    pub offload: u32,
    queue: VecDeque<Skb>,
}

impl Tun {
    pub(crate) fn into_skbs(self) -> impl Iterator<Item = Skb> {
        self.queue.into_iter()
    }

    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queue.iter()
    }
}

/// Into the reader's queue; full, it is dropped here, for the qdisc is never stopped.
#[inline(never)]
pub fn tun_net_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    net.skb_orphan(&mut skb);
    let Some(d) = net.devs.get_mut(dev) else { return net.consume_skb(skb) };
    let limit = d.tx_queue_len as usize;
    let DevKind::Tun(t) = &mut d.kind else { return net.consume_skb(skb) };
    if t.queue.len() >= limit {
        d.stats.tx_dropped += 1;
        return net.kfree_skb(skb, DropReason::FullRing, "tun_net_xmit");
    }
    let kind = match skb.gso.map(|g| g.kind) {
        Some(GsoType::TcpV4) => TUN_F_TSO4,
        Some(GsoType::TcpV6) => TUN_F_TSO6,
        Some(GsoType::UdpL4) => TUN_F_USO4,
        None => 0,
    };
    if t.offload & kind != kind {
        return cut_for_reader(net, dev, skb);
    }
    if !t.tap {
        let _ = skb.head.pull(ETH_HLEN);
    }
    t.queue.push_back(skb);
}

/// What its buffers take: one for less than a page, else a page of it and further pages for the rest, by the largest
/// order that is not too large (`tun_alloc_skb`, `alloc_skb_with_frags`).
fn charge(skb: &mut Skb, len: usize) {
    const COSTLY: usize = PAGE_SIZE << 3;
    if NET_SKB_PAD + len < PAGE_SIZE {
        let buffer = linear_buffer(NET_SKB_PAD + len);
        skb.head_locked = true;
        skb.tailroom = (buffer - SHARED_INFO - NET_SKB_PAD - len) as u16;
        skb.truesize = SKB_HEAD + buffer as u32;
        return;
    }
    let mut left = NET_SKB_PAD + len - (PAGE_SIZE - SHARED_INFO);
    skb.truesize = SKB_HEAD + PAGE_SIZE as u32;
    while left > 0 {
        let piece = (left.next_multiple_of(PAGE_SIZE) + 1).next_power_of_two() / 2;
        skb.truesize += piece.min(COSTLY) as u32;
        left = left.saturating_sub(piece.min(COSTLY));
    }
}

/// A super-segment of a kind that the reader does not take.
fn cut_for_reader(net: &mut Net, dev: DevId, skb: Skb) {
    let (network, transport) =
        (skb.network_header - skb.mac_header, skb.transport_header.saturating_sub(skb.mac_header));
    for frame in gso::segment(skb.to_frame()) {
        let mut s = net.alloc_skb();
        (s.ns, s.dev, s.protocol, s.id) = (skb.ns, skb.dev, skb.protocol, frame.id);
        (s.head, s.frags, s.csum, s.hash) = (frame.head, frame.payload, frame.csum, frame.hash);
        s.mac_header = s.head.start();
        (s.network_header, s.transport_header) = (s.mac_header + network, s.mac_header + transport);
        s.set_truesize();
        tun_net_xmit(net, dev, s);
    }
    net.consume_skb(skb);
}

/// Which of several readers a packet is for: a flow stays with one.
fn queue_of(skb: &Skb, queues: usize) -> usize {
    let Some(key) = FlowKey::from_ip(skb.head.at(skb.network_header)) else { return 0 };
    let mut h = siphasher::sip::SipHasher13::new();
    key.min(key.reversed()).hash(&mut h);
    (h.finish() % queues.max(1) as u64) as usize
}

impl Kernel {
    /// A new TUN or TAP device, down and without addresses (TUNSETIFF). `name` may end in `%d`. EBUSY when it is there.
    pub fn tun_create(&mut self, ns: NsId, name: &str, tap: bool, multi_queue: bool) -> Result<DevId, Errno> {
        let template = match name {
            "" if tap => "tap%d",
            "" => "tun%d",
            n => n,
        };
        let name = match template.split_once("%d") {
            None => template.to_owned(),
            Some((a, b)) => (0..)
                .map(|n| format!("{a}{n}{b}"))
                .find(|n| self.net.dev_by_name(ns, n).is_none())
                .ok_or(Errno::ENFILE)?,
        };
        if self.net.dev_by_name(ns, &name).is_some() {
            return Err(Errno::EBUSY);
        }
        let kind = DevKind::Tun(Box::new(Tun { tap, persist: false, multi_queue, offload: 0, queue: VecDeque::new() }));
        let id = self.net.register_netdev(ns, &name, 1500, kind)?;
        let random = self.net.env.rng.next_u64().to_le_bytes();
        if let Some(d) = self.net.devs.get_mut(id) {
            d.features = Features { orphan: true, ..Features::NONE };
            if !tap {
                d.tx_queue_len = TUN_READQ_SIZE;
            }
            if tap {
                // Locally administered, no group.
                d.mac = Mac([random[0] & 0xfc | 2, random[1], random[2], random[3], random[4], random[5]]);
            }
        }
        Ok(id)
    }

    /// What the reader of the `nth` of so many files gets next, behind `vnet` bytes of a `virtio_net_hdr`.
    pub fn tun_read(&mut self, dev: DevId, (nth, queues): (usize, usize), vnet: usize) -> Option<(Vec<u8>, Frame)> {
        let d = self.net.devs.get_mut(dev)?;
        let DevKind::Tun(t) = &mut d.kind else { return None };
        let at = if queues > 1 { t.queue.iter().position(|s| queue_of(s, queues) == nth)? } else { 0 };
        let skb = t.queue.remove(at)?;
        d.stats.tx(1, skb.len() as u64);
        let mut header = if vnet > 0 { virtio_net::from_skb(&skb, vnet) } else { Vec::new() };
        header.resize(vnet, 0);
        let frame = skb.to_frame();
        self.net.consume_skb(skb);
        Some((header, frame))
    }

    /// TUNSETOFFLOAD: EINVAL for what does not go together.
    #[doc(alias = "set_offload")]
    pub fn tun_set_offload(&mut self, dev: DevId, bits: u32) -> Result<(), Errno> {
        let mut left = bits;
        if bits & TUN_F_CSUM != 0 {
            left &= !(TUN_F_CSUM | TUN_F_UFO);
            if bits & (TUN_F_TSO4 | TUN_F_TSO6) != 0 {
                left &= !(TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
            }
            if bits & TUN_F_USO4 != 0 && bits & TUN_F_USO6 != 0 {
                left &= !(TUN_F_USO4 | TUN_F_USO6);
            }
        }
        if left != 0 {
            return Err(Errno::EINVAL);
        }
        let d = self.net.devs.get_mut(dev).ok_or(Errno::EBADFD)?;
        let DevKind::Tun(t) = &mut d.kind else { return Err(Errno::EBADFD) };
        t.offload = bits;
        d.features.tx_csum = bits & TUN_F_CSUM != 0;
        d.features.tso = bits & TUN_F_TSO4 != 0;
        d.features.tso6 = bits & TUN_F_TSO6 != 0;
        d.features.uso = bits & TUN_F_USO4 != 0;
        features::update(&mut self.net, dev);
        Ok(())
    }

    /// The file's writer sends a packet in, with what a `virtio_net_hdr` said of it: EIO while the device is down, EINVAL for
    /// what is no packet.
    pub fn tun_write(&mut self, now: Nanos, dev: DevId, vnet: &[u8], bytes: &[u8]) -> Result<usize, Errno> {
        self.begin_step(now);
        let result = tun_get_user(&mut self.net, dev, vnet, bytes);
        self.end_step();
        result
    }
}

fn tun_get_user(net: &mut Net, dev: DevId, vnet: &[u8], bytes: &[u8]) -> Result<usize, Errno> {
    let id = net.env.packet_id();
    let d = net.devs.get_mut(dev).ok_or(Errno::EBADFD)?;
    let DevKind::Tun(t) = &d.kind else { return Err(Errno::EBADFD) };
    let (tap, own) = (t.tap, d.mac);
    if !d.up {
        return Err(Errno::EIO);
    }
    let protocol = match bytes.first().map(|b| b >> 4) {
        _ if tap => 0,
        Some(4) => ETH_P_IP,
        Some(6) => ETH_P_IPV6,
        _ => {
            d.stats.rx_dropped += 1;
            return Err(Errno::EINVAL);
        }
    };
    if tap && bytes.len() < ETH_HLEN {
        return Err(Errno::EINVAL);
    }
    let vnet = if vnet.is_empty() { None } else { Some(virtio_net::parse(vnet, bytes.len())?) };
    d.stats.rx(1, bytes.len() as u64);
    let header = [&[0; 12][..], &protocol.to_be_bytes()].concat();
    let whole = if tap { bytes.to_vec() } else { [&header[..], bytes].concat() };
    let frame = Frame::from_bytes(&whole, id);
    let mut skb = net.alloc_skb();
    (skb.id, skb.head, skb.frags, skb.dev) = (id, frame.head, frame.payload, Some(dev));
    skb.mac_header = skb.head.start();
    charge(&mut skb, bytes.len());
    // With a header of virtio only the packet's headers lie in the first one.
    skb.head_locked |= vnet.is_none();
    if !ethernet::type_trans(&mut skb, own) {
        net.kfree_skb(skb, DropReason::DevHdr, "tun_get_user");
        return Ok(bytes.len());
    }
    if let Some(v) = vnet
        && let Err(e) = virtio_net::to_skb(&mut skb, &v, if tap { 0 } else { ETH_HLEN })
    {
        if let Some(d) = net.devs.get_mut(dev) {
            d.stats.rx_errors += 1;
        }
        net.kfree_skb(skb, DropReason::DevHdr, "tun_get_user");
        return Err(e);
    }
    dev_rx::netif_rx(net, skb);
    Ok(bytes.len())
}
