//! What a program reads: datagrams with their sender and control messages, and the error queue.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::{addresses, inet_iif};
use crate::net::core::skb::Skb;
use crate::net::core::sock::{Family, RCV_SHUTDOWN, Sock};
use crate::net::core::sockopt6::{self, V6Opts};
use crate::net::core::timestamp;
use crate::net::ipv4::fib::{self, Scope};
use crate::net::ipv4::options::echo;
use crate::net::ipv4::route::RouteKind;
use crate::net::ipv6::txopts;
use crate::net::mib::Mib;
use crate::task::call::*;
use belljar_abi::poll::{EPOLLIN, EPOLLRDNORM};
use belljar_abi::*;
use belljar_wire::Csum;
use belljar_wire::ethernet::ETH_P_IPV6;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{Ipv6Header, needs_scope};
use belljar_wire::udp::UdpHeader;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One datagram; cut to the buffer, the rest of it is lost.
#[doc(alias = "udp_recvmsg")]
pub fn recvmsg(k: &mut Kernel, id: UdpId, msg: &mut RecvMsg, ctx: RunCtx) -> Step {
    let Some(s) = k.socks.udp.get_mut(id) else { return Step::Done(Err(Errno::EBADF)) };
    let ns = s.sk.ns;
    if let Some(e) = s.sk.take_err() {
        return Step::Done(Err(Errno(e)));
    }
    if s.sk.cold.is_some()
        && let Some(r) = rxpmtu(&mut s.sk)
    {
        return Step::Done(Ok(Ret::Data(r)));
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
        k.net.inc(ns, Mib::UdpInDatagrams.of(skb.protocol == ETH_P_IPV6));
    }
    let received = take(k, id, skb, msg);
    if let Some(s) = k.socks.udp.get_mut(id) {
        if peek { s.sk.peeked(received.segs.len()) } else { s.sk.was_read(received.full_len) }
    }
    Step::Done(Ok(Ret::Data(received)))
}

/// An empty message with IPV6_PATHMTU, about what IPV6_DONTFRAG kept from being sent.
#[doc(alias = "ipv6_recv_rxpmtu")]
pub(crate) fn rxpmtu(sk: &mut Sock) -> Option<Box<Received>> {
    let o = sk.cold.as_mut()?.v6.as_mut().filter(|o| o.pathmtu)?;
    let (addr, mtu) = o.mtu_info.take()?;
    let from = SockAddr::v6(addr, 0);
    let cmsgs = vec![Cmsg { level: SOL_IPV6, kind: IPV6_PATHMTU, data: sockopt6::mtuinfo(from, mtu) }];
    Some(Box::new(Received { from: Some(from), cmsgs, ..Received::default() }))
}

/// The first datagram was read.
pub(crate) fn skip(k: &mut Kernel, id: UdpId) {
    let Some(skb) = dequeue(k, id) else { return };
    if let Some(s) = k.socks.udp.get_mut(id) {
        s.sk.was_read(skb.len());
        k.net.inc(s.sk.ns, Mib::UdpInDatagrams.of(skb.protocol == ETH_P_IPV6));
    }
    k.net.consume_skb(skb);
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
    let mut r = k.net.pool.take_received();
    r.full_len = skb.len();
    let ports = skb.head.at(skb.transport_header).first_chunk();
    let (sport, dport) = ports.map_or((0, 0), |&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    let (src, _) = addresses(&skb);
    r.from = Some(match src {
        IpAddr::V4(src) => SockAddr::V4(src, sport),
        IpAddr::V6(src) => from6(k, &skb, src, sport),
    });
    let mut summed = false;
    if let Some(s) = k.socks.udp.get(id) {
        summed = s.sk.rare(|c| c.checksum);
        if let Some(gso) = skb.gso.filter(|_| s.gro) {
            let data = i32::from(gso.size).to_ne_bytes().to_vec();
            r.cmsgs.push(Cmsg { level: SOL_UDP, kind: UDP_GRO, data });
        }
        match s.sk.family {
            Family::Inet6 => control6(k, &s.sk, &skb, dport, &mut r.cmsgs),
            Family::Inet => control(k, &s.sk, &skb, dport, &mut r.cmsgs),
        }
    }
    if summed && let Some(sum) = payload_sum(&skb, msg.len) {
        let later = |c: &Cmsg| (c.level, c.kind) == (SOL_IP, IP_RECVFRAGSIZE);
        let at = r.cmsgs.iter().position(later).unwrap_or(r.cmsgs.len());
        r.cmsgs.insert(at, Cmsg { level: SOL_IP, kind: IP_CHECKSUM, data: sum.to_ne_bytes().to_vec() });
    }
    if skb.head.is_empty() {
        // The box has none yet.
        std::mem::swap(&mut r.segs, &mut skb.frags);
    } else {
        r.segs.push(k.net.pool.copy_in(skb.head.bytes(), 0));
        r.segs.append(std::mem::take(&mut skb.frags));
    }
    if r.segs.len() > msg.len {
        r.segs.truncate(msg.len);
        r.flags |= MSG_TRUNC;
    }
    k.net.consume_skb(skb);
    r
}

/// IP_CHECKSUM: the sum over an IPv4 datagram's payload, where one was made before the reader came: by the device, on
/// arrival if it is short (`CHECKSUM_BREAK`), or for a reader who takes only part of it.
#[doc(alias = "ip_cmsg_recv_checksum")]
#[cold]
fn payload_sum(skb: &Skb, room: usize) -> Option<u32> {
    const CHECKSUM_BREAK: u16 = 76;
    skb.ip_hdr()?;
    let udp = UdpHeader::parse(skb.head.at(skb.transport_header)).ok()?;
    let made = match skb.csum {
        Csum::Partial => false,
        Csum::Unnecessary => true,
        Csum::None => udp.len <= CHECKSUM_BREAK || room < skb.len(),
    };
    if !made || udp.csum == 0 || skb.gso.is_some() {
        return None;
    }
    let mut data = skb.head.bytes().to_vec();
    data.extend_from_slice(&skb.frags.to_vec());
    let word = |w: &[u8]| {
        let mut b = [0; 4];
        b.iter_mut().zip(w).for_each(|(to, from)| *to = *from);
        u64::from(u32::from_ne_bytes(b))
    };
    let sum: u64 = data.chunks(4).map(word).sum();
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    // What is left of a sum when the headers' is taken away is never the positive zero.
    Some(((sum & 0xffff_ffff) + (sum >> 32)) as u32).map(|s| if s == 0 { u32::MAX } else { s })
}

/// What the program asked to be told beside the payload (`ip_cmsg_recv`).
#[doc(alias = "ip_cmsg_recv_offset")]
pub(crate) fn control(k: &Kernel, sk: &Sock, skb: &Skb, dport: u16, out: &mut Vec<Cmsg>) {
    let f = &sk.flags;
    if f.rx_tstamp {
        timestamp::recv_timestamp(sk, &k.net.env, skb.tstamp, false, out);
    }
    of_every_kind(sk, skb, out);
    let of_ip = f.pktinfo | f.recvttl | f.recvtos | f.recvopts | f.retopts | f.recvorigdstaddr | f.recvfragsize;
    if of_ip && let Some(ip) = skb.ip_hdr() {
        ip_control(k, sk, skb, &ip, dport, out);
    }
}

#[inline(never)]
fn ip_control(k: &Kernel, sk: &Sock, skb: &Skb, ip: &Ipv4Header, dport: u16, out: &mut Vec<Cmsg>) {
    let f = &sk.flags;
    let mut put = |level, kind, data: Vec<u8>| out.push(Cmsg { level, kind, data });
    if f.pktinfo {
        let ifindex = inet_iif(&k.net, skb.dev, ip.dst.into()).and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex);
        let mut info = ifindex.to_ne_bytes().to_vec();
        // ipi_spec_dst, then ipi_addr: our address for answers, and the destination as the header says.
        info.extend(spec_dst(k, sk.ns, skb, ip).octets());
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
    if f.recvfragsize && skb.frag_max != 0 {
        put(SOL_IP, IP_RECVFRAGSIZE, i32::from(skb.frag_max).to_ne_bytes().to_vec());
    }
}

/// SO_RXQ_OVFL, SO_RCVMARK, SO_RCVPRIORITY.
#[doc(alias = "__sock_recv_cmsgs")]
fn of_every_kind(sk: &Sock, skb: &Skb, out: &mut Vec<Cmsg>) {
    let mut put = |kind, v: u32| out.push(Cmsg { level: SOL_SOCKET, kind, data: v.to_ne_bytes().to_vec() });
    if sk.flags.rxq_ovfl && sk.drops != 0 {
        put(SO_RXQ_OVFL, sk.drops);
    }
    if sk.rare(|c| c.rcvmark) {
        put(SO_MARK, skb.mark);
    }
    if sk.rare(|c| c.rcvpriority) {
        put(SO_PRIORITY, skb.priority);
    }
}

/// The sender as the program sees it: a link-local address with its interface.
pub(crate) fn from6(k: &Kernel, skb: &Skb, src: Ipv6Addr, port: u16) -> SockAddr {
    let ifindex = skb.dev.and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex);
    let scope = if needs_scope(src) { ifindex } else { 0 };
    SockAddr::V6 { addr: src, port, flowinfo: 0, scope }
}

/// What an AF_INET6 socket asked to be told; of IPv4 packets in the form of IPv6 where there is one.
#[doc(alias = "ip6_datagram_recv_ctl")]
#[inline(never)]
pub(crate) fn control6(k: &Kernel, sk: &Sock, skb: &Skb, dport: u16, out: &mut Vec<Cmsg>) {
    if sk.flags.rx_tstamp {
        timestamp::recv_timestamp(sk, &k.net.env, skb.tstamp, false, out);
    }
    of_every_kind(sk, skb, out);
    let mut put = |level, kind, data: Vec<u8>| out.push(Cmsg { level, kind, data });
    let default = V6Opts::default();
    let o = sk.v6_opts().unwrap_or(&default);
    let (_, dst) = addresses(skb);
    let to = match dst {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    };
    if o.pktinfo {
        let ifindex = inet_iif(&k.net, skb.dev, dst).and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex);
        let mut data = to.octets().to_vec();
        data.extend(ifindex.to_ne_bytes());
        put(SOL_IPV6, IPV6_PKTINFO, data);
    }
    if let Ok(ip) = Ipv6Header::parse(skb.head.at(skb.network_header)) {
        if o.hoplimit {
            put(SOL_IPV6, IPV6_HOPLIMIT, i32::from(ip.hop_limit).to_ne_bytes().to_vec());
        }
        if o.tclass {
            put(SOL_IPV6, IPV6_TCLASS, i32::from(ip.tclass).to_ne_bytes().to_vec());
        }
        let info = u32::from(ip.tclass) << 20 | ip.flow;
        if o.flowinfo && info != 0 {
            put(SOL_IPV6, IPV6_FLOWINFO, info.to_be_bytes().to_vec());
        }
    } else if let Some(ip) = skb.ip_hdr() {
        if sk.flags.recvttl {
            put(SOL_IP, IP_TTL, i32::from(ip.ttl).to_ne_bytes().to_vec());
        }
        if sk.flags.recvtos {
            put(SOL_IP, IP_TOS, vec![ip.tos]);
        }
    }
    if o.rx != 0 {
        let ifindex = inet_iif(&k.net, skb.dev, dst).and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex);
        let pktinfo = [&to.octets()[..], &ifindex.to_ne_bytes()].concat();
        txopts::recv(o, skb.head.at(skb.network_header), &pktinfo, out);
    }
    let mut put = |level, kind, data: Vec<u8>| out.push(Cmsg { level, kind, data });
    if o.origdstaddr {
        put(SOL_IPV6, IPV6_ORIGDSTADDR, SockAddr::v6(to, dport).emit().to_vec());
    }
    if o.fragsize && skb.frag_max != 0 && dst.is_ipv6() {
        put(SOL_IPV6, IPV6_RECVFRAGSIZE, i32::from(skb.frag_max).to_ne_bytes().to_vec());
    }
}

/// The address that an answer comes from: the one that was asked, or for a group the one on the way back.
#[doc(alias = "fib_compute_spec_dst")]
fn spec_dst(k: &Kernel, ns: NsId, skb: &Skb, ip: &Ipv4Header) -> Ipv4Addr {
    if !skb.dst.is_some_and(|d| matches!(d.kind, RouteKind::Broadcast | RouteKind::Multicast)) {
        return ip.dst;
    }
    let dev = |dev: Option<DevId>| dev.and_then(|d| k.net.devs.get(d));
    let back = fib::lookup(&k.net, ns, ip.src, None).filter(|_| ip.src.octets()[0] != 0);
    let Some(r) = back else {
        return dev(skb.dev).and_then(|d| d.select_addr(ip.src, Scope::Link)).unwrap_or(Ipv4Addr::UNSPECIFIED);
    };
    let hop = r.gateway.unwrap_or(ip.src);
    r.src.or_else(|| dev(r.dev)?.select_addr(hop, Scope::Universe)).unwrap_or(Ipv4Addr::UNSPECIFIED)
}
