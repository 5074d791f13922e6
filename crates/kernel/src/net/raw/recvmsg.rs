//! What a program reads: packets with their sender and control messages.
use super::RawSock;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::addresses;
use crate::net::core::skb::Skb;
use crate::net::core::sock::Family;
use crate::net::core::sock::RCV_SHUTDOWN;
use crate::net::udp::recvmsg::{control, control6, from6, rxpmtu};
use crate::task::call::*;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_abi::*;
use core::net::IpAddr;

/// One packet; cut to the buffer, the rest of it is lost.
#[doc(alias = "raw_recvmsg")]
#[doc(alias = "ping_recvmsg")]
pub fn recvmsg(k: &mut Kernel, id: RawId, msg: &mut RecvMsg, ctx: RunCtx) -> Step {
    if msg.flags & MSG_OOB != 0 {
        return Step::Done(Err(Errno::EOPNOTSUPP));
    }
    let Some(s) = k.socks.raw.get_mut(id) else { return Step::Done(Err(Errno::EBADF)) };
    if let Some(e) = s.sk.take_err() {
        return Step::Done(Err(Errno(e)));
    }
    if let Some(r) = rxpmtu(&mut s.sk) {
        return Step::Done(Ok(Ret::Data(r)));
    }
    let skb = if msg.flags & MSG_PEEK != 0 { s.queue.front().cloned() } else { dequeue(s) };
    match skb {
        Some(skb) => {
            let r = received(k, id, &skb, msg);
            if msg.flags & MSG_PEEK == 0 {
                k.net.consume_skb(skb);
            }
            Step::Done(Ok(Ret::Data(r)))
        }
        None if ctx.nonblock || ctx.timed_out => Step::Done(Err(Errno::EAGAIN)),
        None if s.sk.shutdown & RCV_SHUTDOWN != 0 => Step::Done(Ok(Ret::Data(Box::default()))),
        None => {
            let mask = EPOLLIN | EPOLLRDNORM;
            Step::Sleep(Sleep { on: SockId::Raw(id), mask, exclusive: true, deadline: None })
        }
    }
}

/// The first packet was read.
pub(crate) fn skip(k: &mut Kernel, id: RawId) {
    if let Some(skb) = k.socks.raw.get_mut(id).and_then(dequeue) {
        k.net.consume_skb(skb);
    }
}

fn dequeue(s: &mut RawSock) -> Option<Skb> {
    let skb = s.queue.pop_front()?;
    s.sk.rmem_alloc = s.sk.rmem_alloc.saturating_sub(skb.truesize);
    Some(skb)
}

fn received(k: &mut Kernel, id: RawId, skb: &Skb, msg: &RecvMsg) -> Box<Received> {
    let mut r = Box::<Received>::default();
    r.full_len = skb.len();
    let six = k.socks.raw.get(id).filter(|s| s.sk.family == Family::Inet6);
    if let (Some(s), (IpAddr::V6(src), _)) = (six, addresses(skb)) {
        r.from = Some(from6(k, skb, src, 0));
        control6(k, &s.sk, skb, 0, &mut r.cmsgs);
    } else if let (Some(ip), Some(s)) = (skb.ip_hdr(), k.socks.raw.get(id)) {
        r.from = Some(SockAddr::V4(ip.src, 0));
        // IP_ORIGDSTADDR looks where a port would be.
        let port = skb.head.at(skb.network_header).get(ip.ihl_bytes + 2..).and_then(|b| b.first_chunk());
        control(k, &s.sk, skb, port.map_or(0, |p| u16::from_be_bytes(*p)), &mut r.cmsgs);
    }
    r.segs.push(k.net.pool.copy_in(skb.head.bytes(), 0));
    r.segs.append(skb.frags.clone());
    if r.segs.len() > msg.len {
        r.segs.truncate(msg.len);
        r.flags |= MSG_TRUNC;
    }
    r
}
