//! What a program sends: a payload behind our IP header, a packet with its own (IP_HDRINCL), or an echo request.
use super::rcv::truesize;
use super::{Kind, Pending, RawSock, bind};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::{self, Flow, Tx};
use crate::net::core::dst_metrics::mtu_locked;
use crate::net::core::errqueue::{self, SockErr};
use crate::net::core::ipcm::{Ipcm, for_v6, ip_cmsg_send, leased};
use crate::net::core::skb::{Owner, Skb};
use crate::net::core::sock::{Family, SEND_SHUTDOWN};
use crate::net::core::timestamp;
use crate::net::ipv4::icmp::icmp_out_count;
use crate::net::ipv4::output::{dev_mtu, ip_local_out};
use crate::net::ipv4::route::*;
use crate::net::ipv4::{mcast, options};
use crate::net::ipv6::txopts;
use crate::net::mib::Mib;
use crate::net::udp::sendmsg::{discover, frag_mtu, frag_size, local_rxpmtu};
use crate::task::call::*;
use belljar_abi::poll::{EPOLLOUT, EPOLLWRNORM};
use belljar_abi::*;
use belljar_wire::ethernet::ETH_P_IP;
use belljar_wire::icmp::{ICMP_ECHO, ICMP_HLEN};
use belljar_wire::icmpv6::ICMPV6_ECHO_REQUEST;
use belljar_wire::ipv4::IPV4_HLEN;
use belljar_wire::{Seg, Segs, checksum};
use core::net::{IpAddr, Ipv4Addr};

/// Extended echo (RFC 8335): a request that ping sockets may send too.
const ICMP_EXT_ECHO: u8 = 42;
/// Longest header with options, of IP and of TCP.
const IP_MAX_HLEN: usize = 60;
/// Bytes behind the IP header that are made linear: with both headers and Ethernet's they fit the head.
const LINEAR: usize = 60;

#[doc(alias = "raw_sendmsg")]
#[doc(alias = "ping_v4_sendmsg")]
pub fn sendmsg(k: &mut Kernel, id: RawId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    match try_send(k, id, msg, ctx) {
        Ok(step) => step,
        Err(e) => Step::Done(Err(e)),
    }
}

fn try_send(k: &mut Kernel, id: RawId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Result<Step, Errno> {
    bind::autobind(k, id)?;
    let len = msg.data.len();
    if len > 0xffff {
        return Err(Errno::EMSGSIZE);
    }
    if msg.flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let (ping, hdrincl, six) = (s.kind == Kind::Ping, s.hdrincl(), s.sk.family == Family::Inet6);
    if ping {
        let mut head = [0; ICMP_HLEN];
        if peek(&msg.data, &mut head) < ICMP_HLEN
            || head[1] != 0
            || !matches!((six, head[0]), (false, ICMP_ECHO | ICMP_EXT_ECHO) | (true, ICMPV6_ECHO_REQUEST))
        {
            return Err(Errno::EINVAL);
        }
    }
    let c = cookie(k, id, msg)?;
    let types = if six { IPPROTO_ICMPV6 } else { IPPROTO_ICMP };
    if !ping && !hdrincl && i32::from(s_protocol(k, id)) == types && len < 2 {
        // The route depends on type and code, which are read from the program before anything is checked.
        return Err(Errno::EFAULT);
    }
    let (dst, daddr) = route(k, id, &c, ping)?;
    if (ping || hdrincl)
        && let Some(step) = wait_for_room(k, id, ctx)?
    {
        return Ok(step);
    }
    let probe = msg.flags & MSG_PROBE != 0;
    if hdrincl && !probe {
        send_hdrinc(k, id, msg, &c, &dst, daddr)?;
    } else if !hdrincl {
        if !probe {
            append(k, id, msg, &c, dst, daddr)?;
        }
        if msg.flags & MSG_MORE == 0 {
            push_pending(k, id)?;
        }
    }
    Ok(Step::Done(Ok(Ret::Int(len as i64))))
}

fn s_protocol(k: &Kernel, id: RawId) -> u16 {
    k.socks.raw.get(id).map_or(0, |s| s.protocol)
}

/// The first bytes of a payload.
fn peek(data: &Payload<'_>, out: &mut [u8]) -> usize {
    match data {
        Payload::Bytes(b) => {
            let n = b.len().min(out.len());
            out[..n].copy_from_slice(&b[..n]);
            n
        }
        Payload::Segs(s) => s.copy_to(0, out),
    }
}

/// Destination and control messages; EDESTADDRREQ without either an address or a peer.
fn cookie(k: &Kernel, id: RawId, msg: &SendMsg<'_>) -> Result<Ipcm, Errno> {
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let (daddr, dport) = match msg.to {
        Some(to) => to.to_ip().ok_or(Errno::EAFNOSUPPORT)?,
        None if s.connected() => (s.sk.daddr, s.sk.dport),
        None => return Err(Errno::EDESTADDRREQ),
    };
    let connected = msg.to.is_none();
    let mut c = Ipcm {
        daddr,
        dport,
        saddr: s.sk.saddr,
        oif: s.sk.bound_dev,
        tos: s.sk.tos,
        ttl: s.sk.ttl,
        tos_given: false,
        connected,
        dontfrag: None,
        flowinfo: 0,
        sockc: timestamp::sock_cmsg_send(&s.sk, msg, false)?,
        onlink: s.sk.flags.localroute || msg.flags & MSG_DONTROUTE != 0,
        options: None,
        ext: None,
    };
    if c.daddr.is_ipv6() {
        (c.ttl, c.tos) = s.sk.hops_and_class_for(c.daddr);
        for_v6(k, &s.sk, msg, &mut c)?;
    }
    ip_cmsg_send(k, s.sk.ns, msg, &mut c)?;
    if c.flowinfo != 0 {
        leased(k, &s.sk, msg, &mut c)?;
    }
    mcast::egress(&s.sk, daddr, &mut c.oif, &mut c.saddr);
    Ok(c)
}

/// EACCES for broadcasts without SO_BROADCAST.
fn route(k: &mut Kernel, id: RawId, c: &Ipcm, ping: bool) -> Result<(Dst, IpAddr), Errno> {
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let (ns, broadcast) = (s.sk.ns, s.sk.flags.broadcast);
    let (mark, onlink) = (c.sockc.mark, c.onlink);
    let (prefs, uid, proto, daddr) = (s.sk.src_prefs(), s.sk.uid, s.protocol as u8, c.first_hop());
    let (oif, tos, ports) = (c.oif, c.tos, (0, 0));
    let fl = Flow { daddr, saddr: c.saddr, oif, tos, mark, ports, proto, uid, onlink, prefs };
    let dst = af::route_output(&mut k.net, ns, &fl).inspect_err(|e| {
        if ping {
            af::count_no_route(&mut k.net, ns, c.daddr, *e);
        }
    })?;
    if dst.kind == RouteKind::Broadcast && !broadcast {
        return Err(Errno::EACCES);
    }
    let this_host = if c.saddr.is_unspecified() { af::loopback(c.daddr) } else { c.saddr };
    Ok((dst, if c.daddr.is_unspecified() { this_host } else { c.daddr }))
}

/// A pending error and a shut half are told here, and a full send buffer sleeps. A raw socket without IP_HDRINCL knows
/// nothing of all that.
#[doc(alias = "sock_alloc_send_pskb")]
fn wait_for_room(k: &mut Kernel, id: RawId, ctx: RunCtx) -> Result<Option<Step>, Errno> {
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    if let Some(e) = s.sk.take_err() {
        return Err(Errno(e));
    }
    if s.sk.shutdown & SEND_SHUTDOWN != 0 {
        return Err(Errno::EPIPE);
    }
    if s.sk.wmem_alloc < s.sk.sndbuf {
        return if k.net.mem.is_short() { Err(Errno::ENOBUFS) } else { Ok(None) };
    }
    if ctx.nonblock || ctx.timed_out {
        return Err(Errno::EAGAIN);
    }
    let mask = EPOLLOUT | EPOLLWRNORM;
    Ok(Some(Step::Sleep(Sleep { on: SockId::Raw(id), mask, exclusive: false, deadline: None })))
}

/// With IP_RECVERR the error queue says how much would fit.
#[doc(alias = "ip_local_error")]
fn too_big(k: &mut Kernel, id: RawId, to: (IpAddr, u16), mtu: u32) -> Errno {
    let Kernel { socks, net, .. } = k;
    if let Some(s) = socks.raw.get_mut(id).filter(|s| s.sk.flags.recverr) {
        let ee =
            SockExtendedErr { errno: Errno::EMSGSIZE.0, origin: SO_EE_ORIGIN_LOCAL, info: mtu, ..Default::default() };
        let entry = SockErr { ee, to: Some(to), truesize: truesize(0), ..SockErr::default() };
        errqueue::queue(&mut s.sk, &mut net.env, SockId::Raw(id), entry);
    }
    Errno::EMSGSIZE
}

/// A packet, or one more part of it. It is bounded by 64 KB, and by the path MTU for sockets that must not fragment.
#[doc(alias = "ip_append_data")]
fn append(k: &mut Kernel, id: RawId, msg: &mut SendMsg<'_>, c: &Ipcm, dst: Dst, daddr: IpAddr) -> Result<(), Errno> {
    let s = k.socks.raw.get(id).ok_or(Errno::EBADF)?;
    let dst = s.pending.as_ref().map_or(dst, |p| p.dst);
    let max = match discover(&s.sk, daddr.is_ipv6(), c.dontfrag) {
        IP_PMTUDISC_DO => frag_mtu(&s.sk, &dst),
        IP_PMTUDISC_PROBE | IP_PMTUDISC_INTERFACE => dev_mtu(&k.net, dst.dev),
        _ => 0xffff,
    };
    let len = s.pending.as_ref().map_or(0, |p| p.data.len()) + msg.data.len();
    if len + af::header_len(daddr) as usize + c.ext_len() > max.min(0xffff) as usize {
        let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
        s.pending = None;
        let mtu = frag_mtu(&s.sk, &dst);
        local_rxpmtu(&mut s.sk, daddr, mtu, c.dontfrag);
        return Err(too_big(k, id, (daddr, c.dport), dst.mtu));
    }
    if s.kind != Kind::Ping && s.sk.wmem_alloc > s.sk.sndbuf.saturating_mul(2) {
        return Err(Errno::ENOBUFS);
    }
    let mc_ttl = s.sk.mcast().map_or(1, |m| m.ttl);
    let ttl = c.ttl.or((dst.kind == RouteKind::Multicast).then_some(mc_ttl));
    let saddr = if c.saddr.is_unspecified() { dst.src } else { c.saddr };
    let own = if c.tos_given { rt_tos2priority(c.tos) } else { s.sk.priority };
    let priority = c.sockc.priority.unwrap_or(own);
    let data = msg.data.take(usize::MAX, &mut k.net.pool);
    let s = k.socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    let flow = c.flowinfo & 0xf_ffff;
    let options = c.options.clone().or_else(|| options::of(&s.sk, daddr).map(Box::from));
    let (ext, tos, mark) = (c.ext.clone(), c.tos, c.sockc.mark);
    let new =
        || Box::new(Pending { data: Segs::new(), saddr, daddr, dst, tos, ttl, flow, priority, mark, options, ext });
    s.pending.get_or_insert_with(new).data.append(data);
    Ok(())
}

/// A packet in the socket's name, charged to it.
fn new_skb(
    s: &mut RawSock,
    net: &mut crate::net::Net,
    id: RawId,
    mut data: Segs,
    (priority, mark): (u32, u32),
    ext: usize,
) -> Skb {
    let mut skb = net.alloc_skb();
    skb.truesize = truesize(data.len() + IPV4_HLEN);
    // Whoever receives it looks for the header of the next protocol in the linear part.
    let linear = data.len().min(LINEAR.min(LINEAR + txopts::MAX_STREAM - ext));
    if let Some(room) = skb.head.push(linear) {
        data.copy_to(0, room);
        data.advance(linear);
    }
    skb.transport_header = skb.head.start();
    skb.frags = data;
    skb.priority = priority;
    skb.mark = mark;
    skb.no_mc_loop = s.sk.mcast().is_some_and(|m| !m.r#loop);
    (skb.owner, skb.sender) = (Owner::Tx(SockId::Raw(id)), s.sk.sender());
    s.sk.wmem_alloc += skb.truesize;
    skb
}

/// The packet is complete. An echo request gets the socket's identifier and its sum; raw payload goes as it is.
#[doc(alias = "ip_push_pending_frames")]
fn push_pending(k: &mut Kernel, id: RawId) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let s = socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    let Some(mut p) = s.pending.take() else { return Ok(()) };
    let (ns, ping, recverr) = (s.sk.ns, s.kind == Kind::Ping, s.sk.flags.recverr);
    let headers = af::header_len(p.daddr) as usize + p.options.as_deref().map_or(0, <[u8]>::len);
    let ext = p.ext.take();
    let ext_len = ext.as_ref().map_or(0, |e| e.len());
    let fits = p.data.len() + headers <= p.dst.mtu as usize;
    // RFC 1191: what fits goes with DF while the path MTU is being discovered.
    let df = match i32::from(s.sk.pmtudisc) {
        _ if p.daddr.is_ipv6() => false,
        IP_PMTUDISC_DO | IP_PMTUDISC_PROBE => true,
        IP_PMTUDISC_WANT => fits && !mtu_locked(net, ns, p.daddr, &p.dst),
        _ => false,
    };
    if let (IpAddr::V6(_), Some(at)) = (p.daddr, s.csum_offset) {
        set_sum(&mut p, s.protocol as u8, at as usize)?;
    }
    let mut head = [0; ICMP_HLEN];
    let have = p.data.copy_to(0, &mut head);
    if ping {
        let pseudo = match p.daddr {
            IpAddr::V4(_) => 0,
            IpAddr::V6(_) => checksum::pseudo(p.saddr, p.daddr, IPPROTO_ICMPV6 as u8, p.data.len()),
        };
        head[2..4].fill(0);
        head[4..6].copy_from_slice(&s.sk.num.to_be_bytes());
        p.data.advance(ICMP_HLEN);
        let sum = checksum::fold(checksum::add(checksum::sum(&head, pseudo), checksum::segs(&p.data)));
        head[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let mut skb = new_skb(s, net, id, p.data, (p.priority, p.mark), ext_len);
    if ping {
        if let Some(room) = skb.head.push(ICMP_HLEN) {
            room.copy_from_slice(&head);
        }
        skb.transport_header = skb.head.start();
        skb.truesize += ICMP_HLEN as u32;
        s.sk.wmem_alloc += ICMP_HLEN as u32;
    }
    if i32::from(s.protocol) == IPPROTO_ICMP && have > 0 {
        icmp_out_count(net, ns, head[0]);
    }
    if i32::from(s.protocol) == IPPROTO_ICMPV6 && have > 0 {
        crate::net::ipv6::icmp::out_count(net, ns, head[0]);
    }
    skb.frag_max = if p.daddr.is_ipv6() { frag_size(&s.sk) } else { 0 };
    let mc_loop = s.sk.v6_opts().is_none_or(|o| o.mcast_loop);
    let Pending { saddr, daddr, tos, ttl, flow, .. } = *p;
    let optlen = p.options.as_deref().map_or(0, |o| options::push(net, ns, &mut skb, o, saddr));
    let autolabel = s.sk.autolabel();
    let proto = s.protocol as u8;
    let (proto, daddr) = ext.map_or((proto, daddr), |e| e.push(&mut skb, proto, daddr));
    let tx = Tx { ns, saddr, daddr, proto, tos, ttl, df, mc_loop, autolabel, flow, optlen };
    let six = p.daddr.is_ipv6();
    match af::send_skb(net, &tx, &p.dst, skb) {
        // A full device queue is success unless the program asked for errors; of IPv6 raw sockets always hear of it,
        // and what asks for an echo never.
        Err(Errno::ENOBUFS) if !six && !ping && !recverr => Ok(()),
        Err(_) if six && ping => Ok(()),
        r => r,
    }
}

/// The sum over the packet and its addresses, where IPV6_CHECKSUM says (RFC 3542 §3.1). EINVAL when the packet ends before.
#[doc(alias = "rawv6_push_pending_frames")]
fn set_sum(p: &mut Pending, proto: u8, at: usize) -> Result<(), Errno> {
    let len = p.data.len();
    if at + 2 > len {
        return Err(Errno::EINVAL);
    }
    let mut data = p.data.split_to(at);
    p.data.advance(2);
    let pseudo = checksum::pseudo(p.saddr, p.daddr, proto, len);
    let sum = checksum::add(checksum::segs(&data), checksum::segs(&p.data));
    let sum = match checksum::fold(checksum::add(pseudo, sum)) {
        0 if i32::from(proto) == IPPROTO_UDP => 0xffff,
        sum => sum,
    };
    data.push(Seg::from(&sum.to_be_bytes()[..]));
    data.append(std::mem::take(&mut p.data));
    p.data = data;
    Ok(())
}

/// The program's own header; zero fields of it are filled in, its length and sum in any case (raw(7)).
#[doc(alias = "raw_send_hdrinc")]
fn send_hdrinc(
    k: &mut Kernel,
    id: RawId,
    msg: &mut SendMsg<'_>,
    c: &Ipcm,
    dst: &Dst,
    daddr: IpAddr,
) -> Result<(), Errno> {
    let len = msg.data.len();
    let mtu = dev_mtu(&k.net, dst.dev);
    if let IpAddr::V6(daddr) = daddr {
        return send_hdrinc6(k, id, msg, c, dst, daddr);
    }
    if len > mtu as usize {
        return Err(too_big(k, id, (daddr, c.dport), mtu));
    }
    let mut head = [0; IP_MAX_HLEN];
    peek(&msg.data, &mut head);
    let ihl = usize::from(head[0] & 15) * 4;
    if len < IPV4_HLEN || ihl > len || ihl < IPV4_HLEN {
        return Err(Errno::EINVAL);
    }
    let mut data = msg.data.take(usize::MAX, &mut k.net.pool);
    data.advance(ihl);
    let Kernel { socks, net, .. } = k;
    let s = socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    let (ns, recverr) = (s.sk.ns, s.sk.flags.recverr);
    let mut kind = [0];
    let kind = (data.len() >= ICMP_HLEN && data.copy_to(0, &mut kind) == 1).then_some(kind[0]);
    let mut skb = new_skb(s, net, id, data, (c.sockc.priority.unwrap_or(s.sk.priority), c.sockc.mark), 0);
    let head = &mut head[..ihl];
    if head[12..16] == [0; 4] {
        let saddr = if c.saddr.is_unspecified() { dst.src } else { c.saddr };
        head[12..16].copy_from_slice(&af::v4(saddr).octets());
    }
    head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    if head[4..6] == [0; 2] {
        let at = |n: usize| Ipv4Addr::new(head[n], head[n + 1], head[n + 2], head[n + 3]);
        let ident = select_ident(net, ns, &skb, (at(16), at(12), head[9]), 1);
        head[4..6].copy_from_slice(&ident.to_be_bytes());
    }
    head[10..12].fill(0);
    let sum = checksum::fold(checksum::sum(head, 0));
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    match skb.head.push(ihl) {
        Some(room) => room.copy_from_slice(head),
        None => {
            net.kfree_skb(skb, crate::net::drop::DropReason::NoMem, "raw_send_hdrinc");
            return Err(Errno::ENOBUFS);
        }
    }
    skb.ns = Some(ns);
    skb.network_header = skb.head.start();
    skb.protocol = ETH_P_IP;
    if i32::from(head[9]) == IPPROTO_ICMP
        && let Some(kind) = kind
    {
        icmp_out_count(net, ns, kind);
    }
    match ip_local_out(net, ns, dst, af::v4(daddr), skb) {
        Err(e) => {
            af::discarded(net, ns, false);
            if e == Errno::ENOBUFS && !recverr { Ok(()) } else { Err(e) }
        }
        Ok(()) => Ok(()),
    }
}

/// The program's own IPv6 header, as it is (IPPROTO_RAW).
#[doc(alias = "rawv6_send_hdrinc")]
fn send_hdrinc6(
    k: &mut Kernel,
    id: RawId,
    msg: &mut SendMsg<'_>,
    c: &Ipcm,
    dst: &Dst,
    daddr: core::net::Ipv6Addr,
) -> Result<(), Errno> {
    if msg.data.len() > dst.mtu as usize {
        return Err(too_big(k, id, (daddr.into(), c.dport), dst.mtu));
    }
    if msg.data.len() < belljar_wire::ipv6::IPV6_HLEN {
        return Err(Errno::EINVAL);
    }
    let mut data = msg.data.take(usize::MAX, &mut k.net.pool);
    let Kernel { socks, net, .. } = k;
    let s = socks.raw.get_mut(id).ok_or(Errno::EBADF)?;
    let (ns, recverr, priority) = (s.sk.ns, s.sk.flags.recverr, c.sockc.priority.unwrap_or(s.sk.priority));
    let mut header = [0; belljar_wire::ipv6::IPV6_HLEN];
    data.copy_to(0, &mut header);
    data.advance(header.len());
    let mut skb = new_skb(s, net, id, data, (priority, c.sockc.mark), 0);
    if let Some(room) = skb.head.push(header.len()) {
        room.copy_from_slice(&header);
    }
    skb.ns = Some(ns);
    skb.network_header = skb.head.start();
    skb.protocol = belljar_wire::ethernet::ETH_P_IPV6;
    net.inc(ns, Mib::Ip6OutRequests);
    match crate::net::ipv6::output::ip6_local_out(net, ns, dst, (daddr, true), skb) {
        Err(e) => {
            af::discarded(net, ns, true);
            if e == Errno::ENOBUFS && !recverr { Ok(()) } else { Err(e) }
        }
        Ok(()) => Ok(()),
    }
}
