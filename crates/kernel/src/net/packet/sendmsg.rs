//! What a program sends: a frame with its link header, or a payload for which the device makes one.
use super::{PacketSock, link_of};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev_tx;
use crate::net::core::skb::{Owner, Skb};
use crate::net::core::timestamp::sock_cmsg_send;
use crate::net::core::virtio_net::{self, VnetHdr};
use crate::net::drop::DropReason;
use crate::task::call::*;
use belljar_abi::poll::{EPOLLOUT, EPOLLWRNORM};
use belljar_abi::*;
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_8021Q};
use belljar_wire::frame::HEAD_CAPACITY;
use belljar_wire::{Mac, Segs};

/// A VLAN tag may come on top of the MTU.
const VLAN_HLEN: usize = 4;

/// Where a packet goes, as the address or the binding says.
pub(super) struct To {
    pub dev: DevId,
    pub proto: u16,
    pub addr: Option<[u8; 6]>,
}

/// What a device takes: bytes of its link header, its MTU, and whether the packet may be longer because it is cut later.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub header: usize,
    pub mtu: usize,
    pub gso: bool,
}

/// With a transmit ring a send is about that, and its memory is not here: [`Kernel::packet_tx_walk`].
#[doc(alias = "packet_snd")]
pub fn sendmsg(k: &mut Kernel, id: PacketId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    if k.socks.packet.get(id).is_some_and(|s| s.tx_ring.is_some()) {
        return Step::Done(Err(Errno::EBUSY));
    }
    match try_send(k, id, msg, ctx) {
        Ok(step) => step,
        Err(e) => Step::Done(Err(e)),
    }
}

fn try_send(k: &mut Kernel, id: PacketId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Result<Step, Errno> {
    let to = destination(k, id, msg.to)?;
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    let d = k.net.devs.get(to.dev).ok_or(Errno::ENXIO)?;
    if !d.up {
        return Err(Errno::ENETDOWN);
    }
    let sockc = sock_cmsg_send(&s.sk, msg, false)?;
    let class = (sockc.priority.unwrap_or(s.sk.priority), sockc.mark);
    let (header, mtu, cooked, hdr_len) = (link_of(d).0, d.mtu as usize, s.cooked, usize::from(s.vnet_hdr));
    let total = msg.data.len();
    let vnet = match hdr_len {
        0 => None,
        n => Some(virtio_net::parse(&peek(&msg.data, n), total.checked_sub(n).ok_or(Errno::EINVAL)?)?),
    };
    let len = total - hdr_len;
    let reserve = if cooked { 0 } else { header };
    let gso = vnet.is_some_and(|v| v.gso.is_some());
    if !gso && len > mtu + reserve + VLAN_HLEN {
        return Err(Errno::EMSGSIZE);
    }
    if let Some(step) = wait_for_room(k, id, ctx)? {
        return Ok(step);
    }
    if !cooked && (len < header || len == 0) {
        return Err(Errno::EINVAL);
    }
    let mut data = msg.data.take(usize::MAX, &mut k.net.pool);
    data.advance(hdr_len);
    let skb = build(k, id, &to, data, Sizes { header, mtu, gso }, class)?;
    let skb = match vnet {
        Some(v) => checksummed(&mut k.net, skb, &v, reserve)?,
        None => skb,
    };
    xmit(k, id, to.dev, skb)?;
    Ok(Step::Done(Ok(Ret::Int(total as i64))))
}

/// The first bytes of a payload.
pub(super) fn peek(data: &Payload<'_>, n: usize) -> Vec<u8> {
    match data {
        Payload::Bytes(b) => b.get(..n.min(b.len())).unwrap_or_default().to_vec(),
        Payload::Segs(s) => s.slice(0, n.min(s.len())).to_vec(),
    }
}

pub(super) fn destination(k: &Kernel, id: PacketId, to: Option<SockAddr>) -> Result<To, Errno> {
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    match to {
        None => Ok(To { dev: s.dev.ok_or(Errno::ENXIO)?, proto: s.proto, addr: None }),
        Some(SockAddr::Link(a)) => {
            let dev = u32::try_from(a.ifindex).ok().and_then(|n| k.net.dev_by_index(s.sk.ns, n));
            let addr = a.addr.first_chunk().copied();
            Ok(To { dev: dev.ok_or(Errno::ENXIO)?, proto: a.protocol, addr })
        }
        Some(_) => Err(Errno::EINVAL),
    }
}

#[doc(alias = "sock_alloc_send_pskb")]
fn wait_for_room(k: &mut Kernel, id: PacketId, ctx: RunCtx) -> Result<Option<Step>, Errno> {
    if room(k, id)? {
        return Ok(None);
    }
    if ctx.nonblock || ctx.timed_out {
        return Err(Errno::EAGAIN);
    }
    let mask = EPOLLOUT | EPOLLWRNORM;
    Ok(Some(Step::Sleep(Sleep { on: SockId::Packet(id), mask, exclusive: false, deadline: None })))
}

/// Whether the send buffer has room; a pending error comes first, ENOBUFS without memory for more packets.
pub(super) fn room(k: &mut Kernel, id: PacketId) -> Result<bool, Errno> {
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    match s.sk.take_err() {
        Some(e) => Err(Errno(e)),
        None if s.sk.wmem_alloc >= s.sk.sndbuf => Ok(false),
        None => {
            if k.net.mem.is_short() {
                Err(Errno::ENOBUFS)
            } else {
                Ok(true)
            }
        }
    }
}

/// The frame, with a header of its own: inside the stack devices without one have it too.
pub(super) fn build(
    k: &mut Kernel,
    id: PacketId,
    to: &To,
    mut data: Segs,
    Sizes { header, mtu, gso }: Sizes,
    class: (u32, u32),
) -> Result<Skb, Errno> {
    let Kernel { socks, net, .. } = k;
    let s = socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    let mut head = [0; HEAD_CAPACITY];
    let mut at = 0;
    if s.cooked || header == 0 {
        let own = net.devs.get(to.dev).map_or(Mac::ZERO, |d| d.mac);
        let dst = Mac(to.addr.unwrap_or_default());
        let (dst, own) = if header == 0 { (Mac::ZERO, Mac::ZERO) } else { (dst, own) };
        let eth = belljar_wire::ethernet::EthHeader { dst, src: own, ethertype: to.proto };
        if let Some(room) = head.get_mut(..ETH_HLEN) {
            eth.emit(room);
        }
        at = ETH_HLEN;
    }
    let linear = data.len().min(HEAD_CAPACITY - at);
    data.copy_to(0, &mut head[at..at + linear]);
    data.advance(linear);
    let ethertype = u16::from_be_bytes([head[12], head[13]]);
    let reserve = if s.cooked { 0 } else { header };
    let len = at + linear + data.len() - if at > 0 { ETH_HLEN } else { 0 };
    let tagged = reserve > 0 && ethertype == ETH_P_8021Q;
    if !gso && len > mtu + reserve + if tagged { VLAN_HLEN } else { 0 } {
        return Err(Errno::EMSGSIZE);
    }
    let mut skb = net.alloc_skb();
    skb.head.fill(&head[..at + linear]);
    skb.frags = data;
    // The header decides where nobody said.
    skb.protocol = if !s.cooked && header > 0 && matches!(to.proto, 0 | ETH_P_ALL) { ethertype } else { to.proto };
    if header == 0 && matches!(to.proto, 0 | ETH_P_ALL) {
        skb.protocol = ip_version(&head[ETH_HLEN..]);
    }
    charge(s, id, &mut skb, class);
    (skb.ns, skb.dev) = (Some(s.sk.ns), Some(to.dev));
    skb.mac_header = skb.head.start();
    skb.network_header = skb.mac_header + ETH_HLEN as u8;
    skb.transport_header = virtio_net::transport_offset(&skb);
    Ok(skb)
}

fn ip_version(b: &[u8]) -> u16 {
    match b.first().map(|v| v >> 4) {
        Some(6) => belljar_wire::ethernet::ETH_P_IPV6,
        _ => belljar_wire::ethernet::ETH_P_IP,
    }
}

fn charge(s: &mut PacketSock, id: PacketId, skb: &mut Skb, class: (u32, u32)) {
    skb.set_truesize();
    (skb.priority, skb.mark) = class;
    skb.owner = Owner::Tx(SockId::Packet(id));
    s.sk.wmem_alloc += skb.truesize;
}

/// What the program's `virtio_net_hdr` asks for; offsets in it count from where its bytes begin.
pub(super) fn checksummed(net: &mut Net, mut skb: Skb, v: &VnetHdr, reserve: usize) -> Result<Skb, Errno> {
    let before = if reserve == 0 { ETH_HLEN } else { 0 };
    match virtio_net::to_skb(&mut skb, v, before) {
        Ok(()) => Ok(skb),
        Err(e) => {
            net.kfree_skb(skb, DropReason::DevHdr, "packet_snd");
            Err(e)
        }
    }
}

/// Through the queueing discipline, or past it (PACKET_QDISC_BYPASS), which no tap sees.
pub(super) fn xmit(k: &mut Kernel, id: PacketId, dev: DevId, skb: Skb) -> Result<(), Errno> {
    if k.socks.packet.get(id).is_some_and(|s| s.flags.qdisc_bypass) {
        return dev_tx::dev_direct_xmit(&mut k.net, dev, skb);
    }
    dev_tx::dev_queue_xmit(&mut k.net, dev, skb)
}
