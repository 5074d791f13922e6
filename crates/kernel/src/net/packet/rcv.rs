//! The taps: a copy of a packet for every socket that watches its device and protocol.
use super::{Hook, Target, Waiting, fanout, link_of, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::filter::Packet;
use crate::net::core::reuseport::ancillary;
use crate::net::core::skb::{PktType, SkBuff, Skb};
use crate::net::drop::DropReason;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_abi::{ETH_P_ALL, LinkAddr};

/// A packet goes to a driver: whoever watches everything gets a copy once it is on its way, but not its own sender.
#[doc(alias = "dev_queue_xmit_nit")]
#[inline(always)]
pub fn queue_xmit_nit(net: &mut Net, ns: NsId, dev: DevId, skb: &SkBuff) {
    if net.ns.get(ns).is_some_and(|n| !n.packet.all.is_empty()) {
        send_up(net, ns, dev, skb);
    }
}

#[inline(never)]
fn send_up(net: &mut Net, ns: NsId, dev: DevId, skb: &SkBuff) {
    let Some(d) = net.devs.get(dev) else { return };
    let watches = |h: &Hook| h.dev.is_none_or(|d| d == dev) && !h.ignore_outgoing;
    if !net.ns.get(ns).is_some_and(|n| n.packet.all.iter().any(watches)) {
        return;
    }
    let header = link_of(d).0;
    let sender = match skb.owner.sock() {
        Some(SockId::Packet(id)) => Some(id),
        _ => None,
    };
    let mut copy = net.clone_skb(skb);
    (copy.ns, copy.dev, copy.pkt_type, copy.tstamp) = (Some(ns), Some(dev), PktType::Outgoing, net.env.now);
    copy.mac_header = copy.head.start();
    copy.network_header = copy.mac_header.saturating_add(belljar_wire::ethernet::ETH_HLEN as u8);
    if header == 0 {
        // Inside the stack it has a header all the same.
        let _ = copy.head.pull(belljar_wire::ethernet::ETH_HLEN);
    }
    net.env.rises.push_back(crate::env::Rise::Tap { skb: copy, sender });
}

/// What [`queue_xmit_nit`] sent up.
pub(crate) fn outgoing(k: &mut Kernel, skb: Skb, sender: Option<PacketId>) {
    let (Some(ns), Some(dev)) = (skb.ns, skb.dev) else { return k.net.consume_skb(skb) };
    let group = sender.and_then(|id| k.socks.packet.get(id)).and_then(|s| s.fanout);
    let own = |to: Target| match to {
        Target::Sock(id) => Some(id) == sender,
        Target::Fanout(g) => Some(g) == group,
    };
    let mut n = 0;
    while let Some(h) = k.net.ns.get(ns).and_then(|ns| ns.packet.all.get(n).copied()) {
        n += 1;
        if h.dev.is_none_or(|d| d == dev) && !h.ignore_outgoing && !own(h.to) {
            deliver(k, ns, h.to, &skb);
        }
    }
    k.net.consume_skb(skb);
}

/// A packet came in, pulled to its network header: those that watch everything, then those of its protocol. Whether there
/// was one.
#[inline]
pub fn incoming(k: &mut Kernel, ns: NsId, dev: DevId, skb: &SkBuff) -> bool {
    let Some(n) = k.net.ns.get(ns) else { return false };
    if n.packet.all.is_empty() && n.packet.base.is_empty() { false } else { deliver_incoming(k, ns, dev, skb) }
}

#[inline(never)]
fn deliver_incoming(k: &mut Kernel, ns: NsId, dev: DevId, skb: &SkBuff) -> bool {
    let mut seen = false;
    for everything in [true, false] {
        let mut n = 0;
        while let Some(h) = k.net.ns.get(ns).and_then(|ns| {
            let list = if everything { &ns.packet.all } else { &ns.packet.base };
            list.get(n).copied()
        }) {
            n += 1;
            if h.dev.is_none_or(|d| d == dev) && (h.proto == ETH_P_ALL || h.proto == skb.protocol) {
                seen = true;
                deliver(k, ns, h.to, skb);
            }
        }
    }
    seen
}

fn deliver(k: &mut Kernel, ns: NsId, to: Target, skb: &SkBuff) {
    let id = match to {
        Target::Sock(id) => id,
        Target::Fanout(group) => match fanout::demux(k, ns, group, skb) {
            Some(id) => id,
            None => return,
        },
    };
    let copy = k.net.clone_skb(skb);
    packet_rcv(k, ns, id, copy);
}

/// `sll_*` of the packet.
fn link_addr(net: &Net, skb: &SkBuff) -> LinkAddr {
    let Some(d) = skb.dev.and_then(|d| net.devs.get(d)) else { return LinkAddr::default() };
    let (header, hatype) = link_of(d);
    let mut a = LinkAddr {
        protocol: skb.protocol_or_ip(),
        ifindex: d.ifindex as i32,
        hatype,
        pkttype: skb.pkt_type as u8,
        ..LinkAddr::default()
    };
    if header > 0
        && let Some(source) = skb.head.at(skb.mac_header).get(6..12)
    {
        a.halen = 6;
        a.addr[..6].copy_from_slice(source);
    }
    a
}

/// Filter, room, queue. What the filter does not want was never the socket's.
#[doc(alias = "tpacket_rcv")]
fn packet_rcv(k: &mut Kernel, ns: NsId, id: PacketId, mut skb: Skb) {
    let Some(s) = k.socks.packet.get(id) else { return k.net.consume_skb(skb) };
    let header = skb.dev.and_then(|d| k.net.devs.get(d)).map_or(0, |d| link_of(d).0);
    skb.head.rewind(if s.cooked || header == 0 { skb.network_header } else { skb.mac_header });
    let secret = k.net.ns.get(ns).map_or([0, 0], |n| n.secret);
    let whole = skb.len();
    let mut keep = whole;
    if let Some(prog) = s.sk.filter() {
        keep = prog.run(&Packet::at_head(&skb), &ancillary(&k.net, &skb, secret)) as usize;
        if keep == 0 {
            return k.net.consume_skb(skb);
        }
    }
    let from = link_addr(&k.net, &skb);
    let Some(s) = k.socks.packet.get_mut(id) else { return k.net.consume_skb(skb) };
    if s.sk.rmem_alloc >= s.sk.rcvbuf {
        return drop_n_acct(k, id, skb);
    }
    skb.trim(keep.min(whole));
    s.sk.rmem_alloc += skb.truesize;
    s.stats.packets = s.stats.packets.wrapping_add(1);
    if skb.tstamp == 0 {
        skb.tstamp = k.net.env.now;
    }
    (skb.dst, skb.gso) = (None, skb.gso.filter(|_| keep >= whole));
    s.queue.push_back(Waiting { skb, from, orig_len: whole as u32 });
    wake(k, id, EPOLLIN | EPOLLRDNORM);
}

/// There was no room for it.
fn drop_n_acct(k: &mut Kernel, id: PacketId, skb: Skb) {
    if let Some(s) = k.socks.packet.get_mut(id) {
        s.stats.drops = s.stats.drops.wrapping_add(1);
        s.sk.drops = s.sk.drops.wrapping_add(1);
    }
    k.net.kfree_skb(skb, DropReason::PacketSockError, "packet_rcv");
}

impl Kernel {
    /// The next packet for a ring, whose memory the driver of the kernel has. Until it is taken it counts against the
    /// receive buffer.
    pub fn packet_ring_pop(&mut self, id: PacketId) -> Option<Waiting> {
        let s = self.socks.packet.get_mut(id).filter(|s| s.ring.is_some())?;
        let w = s.queue.pop_front()?;
        s.sk.rmem_alloc = s.sk.rmem_alloc.saturating_sub(w.skb.truesize);
        Some(w)
    }

    /// It is in the ring, or found no room there.
    pub fn packet_ring_done(&mut self, id: PacketId, w: Waiting, fits: bool) {
        if fits {
            return self.net.consume_skb(w.skb);
        }
        if let Some(s) = self.socks.packet.get_mut(id) {
            s.stats.packets = s.stats.packets.wrapping_sub(1);
        }
        drop_n_acct(self, id, w.skb);
    }
}
