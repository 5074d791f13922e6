//! What a program sends: destination, route, one datagram or a part of one.
use super::{Cork, UdpSock, bind, gso, truesize};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af::{self, Flow, Tx};
use crate::net::core::dst_metrics::mtu_locked;
use crate::net::core::errqueue::{self, SockErr};
use crate::net::core::ipcm::{Ipcm, for_v6, ip_cmsg_send, leased};
use crate::net::core::skb::{Owner, TxMeta};
use crate::net::core::sock::{SEND_SHUTDOWN, Sock};
use crate::net::core::timestamp::{self, Sockcm};
use crate::net::core::zerocopy;
use crate::net::ipv4::mcast;
use crate::net::ipv4::options;
use crate::net::ipv4::output::dev_mtu;
use crate::net::ipv4::route::{Dst, RouteKind, rt_tos2priority, select_ident};
use crate::net::mib::Mib;
use crate::net::tcp::tables::wildcard;
use crate::task::call::*;
use belljar_abi::poll::{EPOLLOUT, EPOLLWRNORM};
use belljar_abi::*;
use belljar_wire::ipv4::IPPROTO_UDP as PROTO;
use belljar_wire::ipv6::IPV6_HLEN;
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, checksum};
use core::net::IpAddr;

/// Most bytes of a datagram, by the lengths that headers can tell.
fn max_payload(six: bool) -> usize {
    if six { 65_527 } else { 65_507 }
}

#[doc(alias = "udp_sendmsg")]
pub fn sendmsg(k: &mut Kernel, id: UdpId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    match try_send(k, id, msg, ctx) {
        Ok(step) => step,
        Err(e) => Step::Done(Err(e)),
    }
}

fn try_send(k: &mut Kernel, id: UdpId, msg: &mut SendMsg<'_>, ctx: RunCtx) -> Result<Step, Errno> {
    let len = msg.data.len();
    if len > 0xffff {
        return Err(Errno::EMSGSIZE);
    }
    if msg.flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let s = k.socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    if let Some(e) = s.sk.take_err() {
        return Err(Errno(e));
    }
    if s.sk.shutdown & SEND_SHUTDOWN != 0 {
        return Err(Errno::EPIPE);
    }
    let more = s.corked || msg.flags & MSG_MORE != 0;
    if s.cork.is_none() {
        let gso = gso::udp_cmsg_send(s.gso_size, &msg.cmsgs)?;
        let ipc = cookie(k, id, msg)?;
        bind::autobind(k, id)?;
        let (dst, daddr) = route(k, id, &ipc)?;
        if msg.flags & MSG_PROBE != 0 {
            // The way was looked for, and that is all.
            return Ok(Step::Done(Ok(Ret::Int(len as i64))));
        }
        let Kernel { socks, net, .. } = k;
        let s = socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
        return transmit(s, net, id, msg, ctx, &ipc, dst, daddr, more, gso);
    }
    if msg.flags & MSG_PROBE == 0 {
        append(k, id, msg)?;
    }
    if !more {
        push_pending(k, id)?;
    }
    Ok(Step::Done(Ok(Ret::Int(len as i64))))
}

/// Destination and control messages; EDESTADDRREQ without either an address or a peer.
fn cookie(k: &Kernel, id: UdpId, msg: &SendMsg<'_>) -> Result<Ipcm, Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let (daddr, dport, connected) = match msg.to {
        Some(to) => match to.to_ip().ok_or(Errno::EAFNOSUPPORT)? {
            (_, 0) => return Err(Errno::EINVAL),
            (a, p) => (a, p, false),
        },
        None if s.connected() => (s.sk.daddr, s.sk.dport, true),
        None => return Err(Errno::EDESTADDRREQ),
    };
    let (saddr, sockc) = (s.sk.saddr, timestamp::sock_cmsg_send(&s.sk, msg, false)?);
    let mut c = Ipcm {
        daddr,
        dport,
        saddr,
        oif: s.sk.bound_dev,
        tos: s.sk.tos,
        ttl: s.sk.ttl,
        tos_given: false,
        connected,
        dontfrag: None,
        flowinfo: 0,
        sockc,
        onlink: s.sk.flags.localroute || msg.flags & MSG_DONTROUTE != 0,
        options: None,
        ext: None,
    };
    if c.daddr.is_ipv6() {
        let (hops, class) = s.sk.hops_and_class_for(c.daddr);
        (c.ttl, c.tos) = (hops, class);
        for_v6(k, &s.sk, msg, &mut c)?;
    }
    if !msg.cmsgs.is_empty() {
        ip_cmsg_send(k, s.sk.ns, msg, &mut c)?;
    }
    if c.flowinfo != 0 {
        leased(k, &s.sk, msg, &mut c)?;
    }
    mcast::egress(&s.sk, daddr, &mut c.oif, &mut c.saddr);
    c.connected &= !daddr.is_multicast();
    Ok(c)
}

/// The socket's own route while it is valid, a lookup otherwise; EACCES for broadcasts without SO_BROADCAST.
fn route(k: &mut Kernel, id: UdpId, c: &Ipcm) -> Result<(Dst, IpAddr), Errno> {
    let s = k.socks.udp.get(id).ok_or(Errno::EBADF)?;
    let (prefs, uid) = (s.sk.src_prefs(), s.sk.uid);
    let (ns, broadcast, mark, num) = (s.sk.ns, s.sk.flags.broadcast, c.sockc.mark, s.sk.num);
    let genid = k.net.ns.get(ns).map_or(0, |n| n.rt_genid);
    let own = c.connected && !(c.onlink && c.daddr.is_ipv4());
    if own && let Some(d) = s.dst.filter(|d| d.genid == genid) {
        return Ok((d, c.daddr));
    }
    let saddr = if c.saddr.is_unspecified() { wildcard(c.daddr) } else { c.saddr };
    let fl = Flow {
        daddr: c.first_hop(),
        saddr,
        oif: c.oif,
        tos: c.tos,
        mark,
        ports: (num, c.dport),
        proto: PROTO,
        uid,
        onlink: c.onlink,
        prefs,
    };
    let dst = match af::route_output(&mut k.net, ns, &fl) {
        Ok(d) => d,
        Err(e) => {
            af::count_no_route(&mut k.net, ns, c.daddr, e);
            return Err(e);
        }
    };
    if dst.kind == RouteKind::Broadcast && !broadcast {
        return Err(Errno::EACCES);
    }
    let mut daddr = c.daddr;
    if daddr.is_unspecified() {
        daddr = if c.saddr.is_unspecified() { af::loopback(daddr) } else { c.saddr };
    }
    if own && let Some(s) = k.socks.udp.get_mut(id) {
        s.dst = Some(dst);
    }
    Ok((dst, daddr))
}

/// What a packet that must not be cut may take: the path's MTU, or less where IPV6_MTU says so.
pub(crate) fn frag_mtu(sk: &Sock, dst: &Dst) -> u32 {
    match frag_size(sk) {
        0 => dst.mtu,
        _ if dst.src.is_ipv4() => dst.mtu,
        set => dst.mtu.min(set.into()),
    }
}

/// IPV6_MTU: the most bytes of a piece; 0 leaves it to the path.
pub(crate) fn frag_size(sk: &Sock) -> u16 {
    sk.v6_opts().map_or(0, |o| o.frag_size.min(0xffff) as u16)
}

/// What IPV6_DONTFRAG kept from being sent, for IPV6_RECVPATHMTU.
#[doc(alias = "ipv6_local_rxpmtu")]
pub(crate) fn local_rxpmtu(sk: &mut Sock, daddr: IpAddr, mtu: u32, dontfrag: Option<bool>) {
    let IpAddr::V6(daddr) = daddr else { return };
    let Some(o) = sk.cold.as_mut().and_then(|c| c.v6.as_mut()) else { return };
    if o.pathmtu && dontfrag.unwrap_or(o.dontfrag) {
        o.mtu_info = Some((daddr, mtu));
    }
}

#[allow(clippy::too_many_arguments)]
fn transmit(
    s: &mut UdpSock,
    net: &mut Net,
    id: UdpId,
    msg: &mut SendMsg<'_>,
    ctx: RunCtx,
    c: &Ipcm,
    dst: Dst,
    daddr: IpAddr,
    more: bool,
    gso: u16,
) -> Result<Step, Errno> {
    let len = msg.data.len();
    if let Err(e) = check_size(net, s, &dst, (len, c.ext_len()), gso, c.dontfrag) {
        let mtu = frag_mtu(&s.sk, &dst);
        local_rxpmtu(&mut s.sk, daddr, mtu, c.dontfrag);
        too_big(s, net, id, daddr, c.dport, &dst, e);
        return Err(e);
    }
    if gso != 0 && !more {
        gso::check(net, s, &dst, (daddr, c.ext_len()), len, gso)?;
    }
    if net.mem.is_short() {
        return Err(Errno::ENOBUFS);
    }
    if s.sk.wmem_alloc >= s.sk.sndbuf {
        if ctx.nonblock || ctx.timed_out {
            return Err(Errno::EAGAIN);
        }
        let mask = EPOLLOUT | EPOLLWRNORM;
        return Ok(Step::Sleep(Sleep { on: SockId::Udp(id), mask, exclusive: false, deadline: None }));
    }
    let mc_ttl = || s.sk.mcast().map_or(1, |m| m.ttl);
    let ttl = c.ttl.or_else(|| (dst.kind == RouteKind::Multicast).then(mc_ttl));
    let saddr = if c.saddr.is_unspecified() { dst.src } else { c.saddr };
    let zerocopy = zerocopy_call(s, net, msg, len, None)?;
    let data = msg.data.take(usize::MAX, &mut net.pool);
    if let Some(call) = zerocopy {
        // The device has to take pages, and to sum them up on its way.
        let takes = net.devs.get(dst.dev).is_some_and(|d| d.features.tx_csum);
        let copied = !takes || more || len + 28 > dst.mtu as usize;
        zerocopy::hand_over(&mut s.sk, call, copied);
    }
    let stamp = tx_timestamp(s, &c.sockc);
    let flow = c.flowinfo & 0xf_ffff;
    let (options, ext) = (c.options.clone(), c.ext.clone());
    let (dport, tos, mark) = (c.dport, c.tos, c.sockc.mark);
    let cork = Cork { data, daddr, dport, saddr, dst, tos, ttl, flow, mark, zerocopy, stamp, gso, options, ext };
    if more {
        s.cork = Some(Box::new(cork));
    } else {
        let given = c.tos_given.then(|| rt_tos2priority(c.tos));
        send_skb(s, net, id, cork, c.sockc.priority.or(given))?;
    }
    Ok(Step::Done(Ok(Ret::Int(len as i64))))
}

/// IP_MTU_DISCOVER or IPV6_MTU_DISCOVER; IPV6_DONTFRAG, of the send or of the socket, never cuts either.
pub(crate) fn discover(sk: &Sock, six: bool, dontfrag: Option<bool>) -> i32 {
    let whole = || dontfrag.unwrap_or_else(|| sk.v6_opts().is_some_and(|o| o.dontfrag));
    match sk.v6_opts() {
        _ if six && whole() => IP_PMTUDISC_DO,
        Some(o) if six => o.mtu_discover,
        None if six => IPV6_PMTUDISC_WANT,
        _ => sk.pmtudisc.into(),
    }
}

/// EMSGSIZE beyond 64 KB, and beyond the path MTU for sockets that must not fragment.
fn check_size(
    net: &Net,
    s: &UdpSock,
    dst: &Dst,
    (len, ext): (usize, usize),
    gso: u16,
    dontfrag: Option<bool>,
) -> Result<(), Errno> {
    let six = dst.src.is_ipv6();
    let headers = if six { IPV6_HLEN + UDP_HLEN + ext } else { 28 };
    let most = max_payload(six) - ext;
    let max = match discover(&s.sk, six, dontfrag) {
        // What is to be cut is as long as a packet can be.
        _ if gso != 0 => return if len > most { Err(Errno::EMSGSIZE) } else { Ok(()) },
        IP_PMTUDISC_DO => frag_mtu(&s.sk, dst),
        IP_PMTUDISC_PROBE | IP_PMTUDISC_INTERFACE => dev_mtu(net, dst.dev),
        _ => return if len > most { Err(Errno::EMSGSIZE) } else { Ok(()) },
    };
    if len > most || len + headers > max as usize { Err(Errno::EMSGSIZE) } else { Ok(()) }
}

/// With IP_RECVERR the error queue says how much would fit (`ip_local_error`).
#[cold]
fn too_big(s: &mut UdpSock, net: &mut Net, id: UdpId, daddr: IpAddr, dport: u16, dst: &Dst, e: Errno) {
    if !s.sk.flags.recverr {
        return;
    }
    let ee = SockExtendedErr { errno: e.0, origin: SO_EE_ORIGIN_LOCAL, info: dst.mtu, ..Default::default() };
    let entry = SockErr { ee, to: Some((daddr, dport)), truesize: truesize(0), ..SockErr::default() };
    errqueue::queue(&mut s.sk, &mut net.env, SockId::Udp(id), entry);
}

/// More of a datagram under construction.
#[doc(alias = "ip_append_data")]
#[inline(never)]
fn append(k: &mut Kernel, id: UdpId, msg: &mut SendMsg<'_>) -> Result<(), Errno> {
    let len = msg.data.len();
    let Kernel { socks, net, .. } = k;
    let s = socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    let Some(cork) = &s.cork else { return Err(Errno::EINVAL) };
    let ext = cork.ext.as_ref().map_or(0, |e| e.len());
    check_size(net, s, &cork.dst, (cork.data.len() + len, ext), cork.gso, None)?;
    let tail = cork.zerocopy;
    let zerocopy = zerocopy_call(s, net, msg, len, tail)?;
    let data = msg.data.take(usize::MAX, &mut net.pool);
    if let Some(call) = zerocopy {
        zerocopy::hand_over(&mut s.sk, call, true);
    }
    if let Some(cork) = &mut s.cork {
        cork.data.append(data);
        cork.zerocopy = cork.zerocopy.or(zerocopy);
    }
    Ok(())
}

/// Stamps of the datagram, and its number for OPT_ID.
fn tx_timestamp(s: &mut UdpSock, c: &Sockcm) -> (u8, u32) {
    if c.tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK == 0 {
        return (0, 0);
    }
    if c.tsflags & SOF_TIMESTAMPING_OPT_ID == 0 || c.ts_opt_id.is_some() {
        return (c.tx_flags(), c.ts_opt_id.unwrap_or(0));
    }
    let key = &mut s.sk.cold().tskey;
    *key = key.wrapping_add(1);
    (c.tx_flags(), key.wrapping_sub(1))
}

/// The number of a call that asks for MSG_ZEROCOPY, joined to that of the datagram that it goes on with. An empty
/// datagram has one too, an empty part of one has none.
fn zerocopy_call(
    s: &mut UdpSock,
    net: &Net,
    msg: &SendMsg<'_>,
    len: usize,
    tail: Option<u32>,
) -> Result<Option<u32>, Errno> {
    if msg.flags & MSG_ZEROCOPY == 0 {
        return Ok(None);
    }
    let size = if s.cork.is_some() { len } else { len + UDP_HLEN };
    if !s.sk.flags.zerocopy || size == 0 {
        return Ok(None);
    }
    let optmem = net.ns.get(s.sk.ns).map_or(0, |n| n.sysctl.optmem_max);
    zerocopy::realloc(&mut s.sk, optmem, size, tail, false).map(Some)
}

/// The datagram is complete (`udp_push_pending_frames`).
#[doc(alias = "udp_push_pending_frames")]
pub fn push_pending(k: &mut Kernel, id: UdpId) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let s = socks.udp.get_mut(id).ok_or(Errno::EBADF)?;
    let Some(c) = s.cork.take() else { return Ok(()) };
    if c.gso != 0
        && let Err(e) =
            gso::check(net, s, &c.dst, (c.daddr, c.ext.as_ref().map_or(0, |e| e.len())), c.data.len(), c.gso)
    {
        gso::give_up(k, id, c.zerocopy);
        return Err(e);
    }
    send_skb(s, net, id, *c, None)
}

/// Header and checksum, and down to IP.
#[doc(alias = "udp_send_skb")]
fn send_skb(s: &mut UdpSock, net: &mut Net, id: UdpId, c: Cork, priority: Option<u32>) -> Result<(), Errno> {
    let Cork {
        data,
        daddr,
        dport,
        saddr,
        ref dst,
        tos,
        ttl,
        flow,
        mark,
        zerocopy,
        stamp: (flags, tskey),
        gso,
        options,
        ext,
    } = c;
    let (ns, recverr, total) = (s.sk.ns, s.sk.flags.recverr, data.len() + UDP_HLEN);
    let options = options.as_deref().or_else(|| options::of(&s.sk, daddr));
    let ext_len = ext.as_ref().map_or(0, |e| e.len());
    let headers = af::header_len(daddr) as usize + options.map_or(0, <[u8]>::len) + ext_len;
    // RFC 1191: what fits goes with DF while the path MTU is being discovered; what does not is cut here.
    let fits = total + headers <= dst.mtu as usize;
    let six = daddr.is_ipv6();
    let gso = gso::of(data.len(), gso);
    let df = match i32::from(s.sk.pmtudisc) {
        // Routers never cut IPv6: whether we do is decided already.
        _ if six => false,
        IP_PMTUDISC_DO | IP_PMTUDISC_PROBE => true,
        IP_PMTUDISC_WANT => fits && !mtu_locked(net, ns, daddr, dst),
        _ => false,
    };
    let mut skb = net.alloc_skb();
    skb.pacing_rate = s.sk.cold.as_ref().and_then(|c| c.max_pacing_rate).unwrap_or(0);
    let pseudo = checksum::pseudo(saddr, daddr, PROTO, total);
    let mut header =
        UdpHeader { src_port: s.sk.num, dst_port: dport, len: total as u16, csum: checksum::partial(pseudo) };
    skb.csum = Csum::Partial;
    if s.no_check(daddr) {
        (header.csum, skb.csum) = (0, Csum::None);
    } else if !fits && gso.is_none() {
        // Fragments leave separately: the sum over all of them is computed before.
        let mut b = [0; UDP_HLEN];
        UdpHeader { csum: 0, ..header }.emit(&mut b);
        let sum = checksum::fold(checksum::add(checksum::sum(&b, pseudo), checksum::segs(&data)));
        header.csum = if sum == 0 { 0xffff } else { sum };
        skb.csum = Csum::Unnecessary;
    }
    if let Some(room) = skb.head.push(UDP_HLEN) {
        header.emit(room);
    }
    skb.transport_header = skb.head.start();
    let optlen = options.map_or(0, |o| options::push(net, ns, &mut skb, o, saddr));
    let (proto, to) = ext.map_or((PROTO, daddr), |e| e.push(&mut skb, PROTO, daddr));
    skb.truesize = truesize(data.len());
    (skb.frags, skb.gso) = (data, gso);
    skb.priority = priority.unwrap_or(s.sk.priority);
    skb.mark = mark;
    skb.frag_max = if six { frag_size(&s.sk) } else { 0 };
    skb.no_mc_loop = s.sk.mcast().is_some_and(|m| !m.r#loop);
    skb.owner = Owner::Tx(SockId::Udp(id));
    skb.sender = s.sk.sender();
    s.sk.wmem_alloc += skb.truesize;
    if zerocopy.is_some() || flags != 0 {
        let sock = SockId::Udp(id);
        skb.tx = Some(Box::new(TxMeta { sock, flags, tskey, zerocopy, copied: false }));
    }
    let atomic = matches!(i32::from(s.sk.pmtudisc), IP_PMTUDISC_DO | IP_PMTUDISC_PROBE);
    if s.connected() {
        s.ident = s.ident.wrapping_add(1);
        skb.ip_id = Some(s.ident);
    } else if df
        && !atomic
        && let (IpAddr::V4(daddr), IpAddr::V4(saddr)) = (daddr, saddr)
    {
        // DF may still be taken off on the way.
        let segs = gso.map_or(1, |g| g.segs.into());
        skb.ip_id = Some(select_ident(net, ns, &skb, (daddr, saddr, PROTO), segs));
    }
    let mc_loop = s.sk.v6_opts().is_none_or(|o| o.mcast_loop);
    let autolabel = s.sk.autolabel();
    let tx = Tx { ns, saddr, daddr: to, proto, tos, ttl, df, mc_loop, autolabel, flow, optlen };
    let sent = af::send_skb(net, &tx, dst, skb);
    count_sent(net, ns, sent, six, recverr)
}

/// A full device queue is success unless the program asked for errors.
pub(super) fn count_sent(
    net: &mut Net,
    ns: NsId,
    sent: Result<(), Errno>,
    six: bool,
    recverr: bool,
) -> Result<(), Errno> {
    match sent {
        Err(Errno::ENOBUFS) => {
            net.inc(ns, Mib::UdpSndbufErrors.of(six));
            if recverr { Err(Errno::ENOBUFS) } else { Ok(()) }
        }
        Ok(()) => {
            net.inc(ns, Mib::UdpOutDatagrams.of(six));
            Ok(())
        }
        Err(e) => Err(e),
    }
}
