//! A device whose wire is a file: what the stack sends, a program reads; what the program writes, comes in (tun(4)).
//!
//! Inside the stack every packet has an Ethernet header, as on loopback; a TUN device, which has none, takes it off on
//! the way out and puts one of zeros on for whoever taps.
use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::{DevKind, Features};
use crate::net::core::dev_rx;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ethernet;
use belljar_abi::Errno;
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6};
use belljar_wire::{Frame, Mac};
use std::collections::VecDeque;

/// Packets that wait for the reader (`ip link`'s qlen of such a device).
pub const TUN_READQ_SIZE: u32 = 500;

/// The driver's part of the device.
#[derive(Clone, Debug)]
pub struct Tun {
    /// TAP: with Ethernet headers.
    pub tap: bool,
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
pub fn tun_net_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    net.skb_orphan(&mut skb);
    let Some(d) = net.devs.get_mut(dev) else { return net.consume_skb(skb) };
    let limit = d.tx_queue_len as usize;
    let DevKind::Tun(t) = &mut d.kind else { return net.consume_skb(skb) };
    if t.queue.len() >= limit {
        d.stats.tx_dropped += 1;
        return net.kfree_skb(skb, DropReason::FullRing, "tun_net_xmit");
    }
    if !t.tap {
        let _ = skb.head.pull(ETH_HLEN);
    }
    t.queue.push_back(skb);
}

impl Kernel {
    /// A new TUN or TAP device, down and without addresses (TUNSETIFF). `name` may end in `%d`. EBUSY when it is there.
    pub fn tun_create(&mut self, ns: NsId, name: &str, tap: bool) -> Result<DevId, Errno> {
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
        let kind = DevKind::Tun(Box::new(Tun { tap, queue: VecDeque::new() }));
        let id = self.net.register_netdev(ns, &name, 1500, kind)?;
        let random = self.net.env.rng.next_u64().to_le_bytes();
        if let Some(d) = self.net.devs.get_mut(id) {
            d.features = Features { orphan: true, ..Features::NONE };
            d.tx_queue_len = TUN_READQ_SIZE;
            if tap {
                // Locally administered, no group.
                d.mac = Mac([random[0] & 0xfc | 2, random[1], random[2], random[3], random[4], random[5]]);
            }
        }
        Ok(id)
    }

    /// What the file's reader gets next.
    pub fn tun_read(&mut self, dev: DevId) -> Option<Frame> {
        let d = self.net.devs.get_mut(dev)?;
        let DevKind::Tun(t) = &mut d.kind else { return None };
        let skb = t.queue.pop_front()?;
        d.stats.tx(1, skb.len() as u64);
        let frame = skb.to_frame();
        self.net.consume_skb(skb);
        Some(frame)
    }

    /// The file's writer sends a packet in: EIO while the device is down, EINVAL for what is no packet.
    pub fn tun_write(&mut self, now: Nanos, dev: DevId, bytes: &[u8]) -> Result<usize, Errno> {
        self.begin_step(now);
        let result = tun_get_user(&mut self.net, dev, bytes);
        self.end_step();
        result
    }
}

fn tun_get_user(net: &mut Net, dev: DevId, bytes: &[u8]) -> Result<usize, Errno> {
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
    d.stats.rx(1, bytes.len() as u64);
    let header = [&[0; 12][..], &protocol.to_be_bytes()].concat();
    let whole = if tap { bytes.to_vec() } else { [&header[..], bytes].concat() };
    let frame = Frame::from_bytes(&whole, id);
    let mut skb = net.alloc_skb();
    (skb.id, skb.head, skb.frags, skb.dev) = (id, frame.head, frame.payload, Some(dev));
    skb.mac_header = skb.head.start();
    skb.set_truesize();
    if ethernet::type_trans(&mut skb, own) {
        dev_rx::netif_rx(net, skb);
    } else {
        net.kfree_skb(skb, DropReason::DevHdr, "tun_get_user");
    }
    Ok(bytes.len())
}
