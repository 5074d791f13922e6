//! What a program reads: datagrams with their sender and control messages, and the error queue.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::Skb;
use crate::net::core::sock::{RCV_SHUTDOWN, Sock};
use crate::net::core::timestamp;
use crate::net::ipv4::options::echo;
use crate::net::mib::Mib;
use crate::task::call::*;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_abi::*;
use belljar_wire::ipv4::IPV4_HLEN;
use belljar_wire::udp::UdpHeader;
use core::net::Ipv4Addr;

/// One datagram; cut to the buffer, the rest of it is lost.
#[doc(alias = "udp_recvmsg")]
pub fn recvmsg(k: &mut Kernel, id: UdpId, msg: &mut RecvMsg, ctx: RunCtx) -> Step {
    let Some(s) = k.socks.udp.get_mut(id) else { return Step::Done(Err(Errno::EBADF)) };
    let ns = s.sk.ns;
    if let Some(e) = s.sk.take_err() {
        return Step::Done(Err(Errno(e)));
    }
    let peek = msg.flags & MSG_PEEK != 0;
    let Some(skb) = (if peek { peeked(k, id) } else { dequeue(k, id) }) else {
        let Some(s) = k.socks.udp.get(id) else { return Step::Done(Err(Errno::EBADF)) };
        return if ctx.nonblock || ctx.timed_out {
            Step::Done(Err(Errno::EAGAIN))
        } else if s.sk.shutdown & RCV_SHUTDOWN != 0 {
            // Only who would wait is told.
            Step::Done(Ok(Ret::Data(Box::default())))
        } else {
            let mask = EPOLLIN | EPOLLRDNORM;
            Step::Sleep(Sleep { on: SockId::Udp(id), mask, exclusive: true, deadline: None })
        };
    };
    if !peek {
        k.net.inc(ns, Mib::UdpInDatagrams);
    }
    let received = take(k, id, skb, msg);
    if let Some(s) = k.socks.udp.get_mut(id) {
        if peek { s.sk.peeked(received.segs.len()) } else { s.sk.was_read(received.full_len) }
    }
    Step::Done(Ok(Ret::Data(received)))
}

/// The first datagram, out of the queue and off the books.
fn dequeue(k: &mut Kernel, id: UdpId) -> Option<Skb> {
    let s = k.socks.udp.get_mut(id)?;
    let skb = s.queue.pop_front()?;
    s.sk.rmem_alloc = s.sk.rmem_alloc.saturating_sub(skb.truesize);
    k.net.usage.udp_bytes = k.net.usage.udp_bytes.saturating_sub(u64::from(skb.truesize));
    Some(skb)
}

/// A copy that shares its payload, without what SO_PEEK_OFF passes over.
fn peeked(k: &mut Kernel, id: UdpId) -> Option<Skb> {
    let s = k.socks.udp.get(id)?;
    let mut skip = s.sk.peek_offset();
    let found = s.queue.iter().find(|skb| {
        let past = skip > 0 && skip >= skb.len();
        skip -= if past { skb.len() } else { 0 };
        !past
    })?;
    let copy_of = (**found).clone();
    let mut copy = k.net.alloc_skb();
    *copy = copy_of;
    let linear = skip.min(copy.head.len());
    let _ = copy.head.pull(linear);
    copy.frags.advance(skip - linear);
    Some(copy)
}

/// Payload, sender and control messages of a datagram, which ends here.
fn take(k: &mut Kernel, id: UdpId, mut skb: Skb, msg: &RecvMsg) -> Box<Received> {
    let mut r = Box::<Received>::default();
    r.full_len = skb.len();
    if let (Some(ip), Ok(udp)) = (skb.ip_hdr(), UdpHeader::parse(skb.head.at(skb.transport_header))) {
        r.from = Some(SockAddr::V4(ip.src, udp.src_port));
        if let Some(s) = k.socks.udp.get(id) {
            control(k, &s.sk, &skb, &ip, udp.dst_port, &mut r.cmsgs);
        }
    }
    r.segs = if skb.head.is_empty() {
        std::mem::take(&mut skb.frags)
    } else {
        let mut all = belljar_wire::Segs::new();
        all.push(k.net.pool.copy_in(skb.head.bytes(), 0));
        all.append(std::mem::take(&mut skb.frags));
        all
    };
    if r.segs.len() > msg.len {
        r.segs.truncate(msg.len);
        r.flags |= MSG_TRUNC;
    }
    k.net.consume_skb(skb);
    r
}

/// What the program asked to be told beside the payload (`ip_cmsg_recv`).
#[doc(alias = "ip_cmsg_recv_offset")]
pub(crate) fn control(
    k: &Kernel,
    sk: &Sock,
    skb: &Skb,
    ip: &belljar_wire::ipv4::Ipv4Header,
    dport: u16,
    out: &mut Vec<Cmsg>,
) {
    let f = &sk.flags;
    if f.rx_tstamp {
        timestamp::recv_timestamp(sk, &k.net.env, skb.tstamp, false, out);
    }
    let mut put = |level, kind, data: Vec<u8>| out.push(Cmsg { level, kind, data });
    if f.rxq_ovfl && sk.drops != 0 {
        put(SOL_SOCKET, SO_RXQ_OVFL, sk.drops.to_ne_bytes().to_vec());
    }
    if f.pktinfo {
        let ifindex = skb.dev.and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex);
        let mut info = ifindex.to_ne_bytes().to_vec();
        // ipi_spec_dst, then ipi_addr: our address for answers, and the destination as the header says.
        info.extend(spec_dst(skb, ip.dst).octets());
        info.extend(ip.dst.octets());
        put(SOL_IP, IP_PKTINFO, info);
    }
    if f.recvttl {
        put(SOL_IP, IP_TTL, i32::from(ip.ttl).to_ne_bytes().to_vec());
    }
    if f.recvtos {
        put(SOL_IP, IP_TOS, vec![ip.tos]);
    }
    let options = skb.head.at(skb.network_header).get(IPV4_HLEN..ip.ihl_bytes).filter(|o| !o.is_empty());
    if let Some(options) = options.filter(|_| f.recvopts) {
        put(SOL_IP, IP_RECVOPTS, options.to_vec());
    }
    if let Some(options) = options.filter(|_| f.retopts) {
        put(SOL_IP, IP_RECVRETOPTS, echo(options));
    }
    if f.recvorigdstaddr {
        put(SOL_IP, IP_ORIGDSTADDR, SockAddr::V4(ip.dst, dport).emit().to_vec());
    }
}

fn spec_dst(skb: &Skb, dst: Ipv4Addr) -> Ipv4Addr {
    match skb.dst {
        Some(d) if d.kind == crate::net::ipv4::route::RouteKind::Broadcast => Ipv4Addr::UNSPECIFIED,
        _ => dst,
    }
}
