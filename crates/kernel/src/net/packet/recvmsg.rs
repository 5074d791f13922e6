//! What a program reads: packets with the address they came from and what it asked to be told beside.
use super::{PacketSock, Waiting};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::{timestamp, virtio_net};
use crate::task::call::*;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_abi::*;
use belljar_wire::{Csum, GsoType, Segs};

const MSG_KNOWN: i32 = MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_COMPAT | MSG_ERRQUEUE;
const MSG_CMSG_COMPAT: i32 = i32::MIN;

/// One packet; cut to the buffer, the rest of it is lost.
#[doc(alias = "packet_recvmsg")]
pub fn recvmsg(k: &mut Kernel, id: PacketId, msg: &mut RecvMsg, ctx: RunCtx) -> Step {
    if msg.flags & !(MSG_KNOWN | MSG_NOSIGNAL) != 0 {
        return Step::Done(Err(Errno::EINVAL));
    }
    let peek = msg.flags & MSG_PEEK != 0;
    let Some(s) = k.socks.packet.get_mut(id) else { return Step::Done(Err(Errno::EBADF)) };
    if let Some(e) = s.sk.take_err() {
        return Step::Done(Err(Errno(e)));
    }
    let waiting = match s.ring.is_some() {
        // It went to the ring.
        true => None,
        false if peek => s.queue.front().cloned(),
        false => dequeue(s),
    };
    let Some(w) = waiting else {
        if ctx.nonblock || ctx.timed_out {
            return Step::Done(Err(Errno::EAGAIN));
        }
        let mask = EPOLLIN | EPOLLRDNORM;
        return Step::Sleep(Sleep { on: SockId::Packet(id), mask, exclusive: true, deadline: None });
    };
    let r = received(k, id, &w, msg);
    if !peek {
        k.net.consume_skb(w.skb);
    }
    Step::Done(r.map(Ret::Data))
}

/// The first packet was read.
pub(crate) fn skip(k: &mut Kernel, id: PacketId) {
    if let Some(w) = k.socks.packet.get_mut(id).and_then(dequeue) {
        k.net.consume_skb(w.skb);
    }
}

fn dequeue(s: &mut PacketSock) -> Option<Waiting> {
    let w = s.queue.pop_front()?;
    s.sk.rmem_alloc = s.sk.rmem_alloc.saturating_sub(w.skb.truesize);
    Some(w)
}

fn received(k: &mut Kernel, id: PacketId, w: &Waiting, msg: &RecvMsg) -> Result<Box<Received>, Errno> {
    let mut r = k.net.pool.take_received();
    let s = k.socks.packet.get_mut(id).ok_or(Errno::EBADF)?;
    s.stamp = Some(w.skb.tstamp);
    let hdr = usize::from(s.vnet_hdr);
    let room = msg.len.checked_sub(hdr).ok_or(Errno::EINVAL)?;
    if hdr > 0 {
        r.segs = Segs::from(virtio_net::from_skb(&w.skb, hdr));
    }
    let mut body = Segs::new();
    body.push(k.net.pool.copy_in(w.skb.head.bytes(), 0));
    body.append(w.skb.frags.clone());
    if body.len() > room {
        body.truncate(room);
        r.flags |= MSG_TRUNC;
    }
    r.segs.append(body);
    r.full_len = hdr + w.skb.len();
    r.from = Some(SockAddr::Link(w.from));
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    if s.sk.flags.rx_tstamp {
        timestamp::recv_timestamp(&s.sk, &k.net.env, w.skb.tstamp, false, &mut r.cmsgs);
    }
    if s.sk.flags.rxq_ovfl && s.sk.drops != 0 {
        r.cmsgs.push(Cmsg { level: SOL_SOCKET, kind: SO_RXQ_OVFL, data: s.sk.drops.to_ne_bytes().to_vec() });
    }
    if s.flags.auxdata {
        r.cmsgs.push(Cmsg { level: SOL_PACKET, kind: PACKET_AUXDATA, data: auxdata(w) });
    }
    Ok(r)
}

/// What is known of the checksum and of segmentation, as bits of `tp_status`.
pub fn status(w: &Waiting) -> u32 {
    let mut status = match w.skb.csum {
        Csum::Partial => TP_STATUS_CSUMNOTREADY,
        Csum::Unnecessary if w.from.pkttype != PACKET_OUTGOING => TP_STATUS_CSUM_VALID,
        _ => 0,
    };
    if w.skb.gso.is_some_and(|g| matches!(g.kind, GsoType::TcpV4 | GsoType::TcpV6)) {
        status |= TP_STATUS_GSO_TCP;
    }
    if w.skb.vlan.present() {
        status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
    }
    status
}

/// `struct tpacket_auxdata`.
fn auxdata(w: &Waiting) -> Vec<u8> {
    let net = u16::from(w.skb.network_header.saturating_sub(w.skb.head.start()));
    let words = [TP_STATUS_USER | status(w), w.orig_len, w.skb.len() as u32];
    let mut out: Vec<u8> = words.iter().flat_map(|v| v.to_ne_bytes()).collect();
    // Where the link header begins, the network header, and a VLAN tag that was taken off.
    out.extend([0, net, w.skb.vlan.tci, w.skb.vlan.proto].iter().flat_map(|v: &u16| v.to_ne_bytes()));
    out
}
