//! Packets and ICMP errors from the network, to raw and ping sockets.
use super::{Kind, RawSock, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af;
use crate::net::core::filter::Packet;
use crate::net::core::skb::{Owner, PktType, SkBuff, Skb};
use crate::net::core::sock::Family;
use crate::net::core::{errqueue, reuseport};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp_rcv::convert;
use crate::net::ipv4::mcast;
use crate::net::ipv4::route::update_pmtu;
use belljar_abi::poll::{EPOLLERR, EPOLLIN, EPOLLRDNORM};
use belljar_abi::{Errno, IP_PMTUDISC_DONT, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, SockExtendedErr};
use belljar_wire::Segs;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, Ipv4Header};
use core::net::IpAddr;

/// What Linux charges for a whole packet of `len` bytes with its IP header.
pub(super) fn truesize(len: usize) -> u32 {
    crate::net::udp::truesize(len.saturating_sub(28))
}

/// The protocol, both addresses as far as the socket has fixed them, and the device.
#[doc(alias = "raw_v4_match")]
pub(super) fn matches(s: &RawSock, proto: u8, raddr: IpAddr, laddr: IpAddr, dev: Option<DevId>) -> bool {
    let sk = &s.sk;
    s.protocol == u16::from(proto)
        && (sk.family == Family::Inet) == raddr.is_ipv4()
        && (sk.daddr.is_unspecified() || sk.daddr == raddr)
        && (sk.rcv_saddr.is_unspecified() || sk.rcv_saddr == laddr)
        && (sk.bound_dev.is_none() || sk.bound_dev == dev)
        && mcast::sf_allow(sk, dev, laddr, raddr)
}

/// A copy for every raw socket that fits, before the protocol itself gets the packet (pulled to its transport header);
/// whether there was one.
pub fn raw_local_deliver(k: &mut Kernel, ns: NsId, skb: &SkBuff, ip: &Ipv4Header) -> bool {
    let mut delivered = false;
    let nth = |k: &Kernel, n: usize| k.net.ns.get(ns).and_then(|ns| ns.raw.raw.get(n).copied());
    let mut n = 0;
    while let Some(id) = nth(k, n) {
        n += 1;
        let dev = af::inet_iif(&k.net, skb.dev, ip.dst.into());
        let Some(s) = k.socks.raw.get(id).filter(|s| matches(s, ip.proto, ip.src.into(), ip.dst.into(), dev)) else {
            continue;
        };
        delivered = true;
        if ip.proto == IPPROTO_ICMP && filtered(s, skb) {
            continue;
        }
        let mut copy = k.net.alloc_skb();
        *copy = skb.clone();
        (copy.owner, copy.tx) = (Owner::None, None);
        copy.head.rewind(copy.network_header);
        queue_rcv(k, id, copy, "raw_rcv");
    }
    delivered
}

/// ICMP_FILTER has a bit for each of the first 32 types; a message without a type is kept away.
#[doc(alias = "icmp_filter")]
fn filtered(s: &RawSock, skb: &SkBuff) -> bool {
    let Kind::Raw { filter, .. } = s.kind else { return false };
    match skb.peek::<ICMP_HLEN>() {
        Some([kind, ..]) => kind < 32 && filter & 1 << kind != 0,
        None => true,
    }
}

/// Into the receive queue, while it is not full.
#[doc(alias = "sock_queue_rcv_skb_reason")]
pub(super) fn queue_rcv(k: &mut Kernel, id: RawId, mut skb: Skb, at: &'static str) {
    let Some(s) = k.socks.raw.get_mut(id) else { return k.net.kfree_skb(skb, DropReason::NoSocket, at) };
    if let Some(prog) = s.sk.filter() {
        let secret = k.net.ns.get(s.sk.ns).map_or([0, 0], |n| n.secret);
        let keep = prog.run(&Packet::at_head(&skb), &reuseport::ancillary(&k.net, &skb, secret)) as usize;
        if keep == 0 {
            s.sk.drops = s.sk.drops.wrapping_add(1);
            return k.net.kfree_skb(skb, DropReason::SocketFilter, at);
        }
        skb.trim(keep.min(skb.len()));
    }
    if s.sk.rmem_alloc >= s.sk.rcvbuf {
        s.sk.drops = s.sk.drops.wrapping_add(1);
        return k.net.kfree_skb(skb, DropReason::SocketRcvbuff, at);
    }
    let header = skb.head.start().saturating_sub(skb.network_header);
    skb.truesize = truesize(skb.len() + usize::from(header));
    s.sk.rmem_alloc = s.sk.rmem_alloc.saturating_add(skb.truesize);
    if skb.tstamp == 0 {
        skb.tstamp = k.net.env.now;
    }
    skb.pkt_type = if skb.pkt_type == PktType::Outgoing { PktType::Host } else { skb.pkt_type };
    s.queue.push_back(skb);
    wake(k, id, EPOLLIN | EPOLLRDNORM);
}

/// The newest ping socket with this identifier that the address and the device fit.
pub(super) fn ping_lookup(k: &Kernel, ns: NsId, skb: &SkBuff, ident: u16) -> Option<RawId> {
    let to = af::addresses(skb).1;
    let dev = af::inet_iif(&k.net, skb.dev, to);
    let fits = |s: &RawSock| {
        s.sk.num == ident
            && (s.sk.family == Family::Inet) == to.is_ipv4()
            && (s.sk.rcv_saddr.is_unspecified() || s.sk.rcv_saddr == to)
            && (s.sk.bound_dev.is_none() || s.sk.bound_dev == dev)
    };
    let mut newest = k.net.ns.get(ns)?.raw.ping.iter().rev();
    newest.find(|id| k.socks.raw.get(**id).is_some_and(fits)).copied()
}

/// An echo reply, its ICMP header pulled. `raw`: a raw socket has a copy.
pub fn ping_rcv(k: &mut Kernel, ns: NsId, mut skb: Skb, h: &IcmpHeader, raw: bool) {
    let ident = u16::from_be_bytes([h.rest[0], h.rest[1]]);
    match ping_lookup(k, ns, &skb, ident) {
        Some(id) => {
            skb.head.rewind(skb.transport_header);
            queue_rcv(k, id, skb, "ping_rcv");
        }
        None if raw => k.net.consume_skb(skb),
        None => k.net.kfree_skb(skb, DropReason::NoSocket, "ping_rcv"),
    }
}

/// What an ICMP error says: the errno, and whether it is told to a connected socket that did not ask for errors.
fn meaning(kind: u8, code: u8, pmtudisc: u8) -> (Errno, bool) {
    match kind {
        ICMP_PARAMETERPROB => (Errno::EPROTO, true),
        ICMP_DEST_UNREACH if code == ICMP_FRAG_NEEDED => (Errno::EMSGSIZE, i32::from(pmtudisc) != IP_PMTUDISC_DONT),
        ICMP_DEST_UNREACH => convert(code).unwrap_or((Errno::EHOSTUNREACH, false)),
        _ => (Errno::EHOSTUNREACH, false),
    }
}

/// `skb` is pulled to the quoted IP header: to every raw socket that could have sent that packet.
pub fn raw_icmp_error(k: &mut Kernel, ns: NsId, skb: &SkBuff, ip: &Ipv4Header, kind: u8, code: u8, info: u32) {
    let nth = |k: &Kernel, n: usize| k.net.ns.get(ns).and_then(|ns| ns.raw.raw.get(n).copied());
    let mut n = 0;
    while let Some(id) = nth(k, n) {
        n += 1;
        let Some(s) = k.socks.raw.get(id).filter(|s| matches(s, ip.proto, ip.dst.into(), ip.src.into(), skb.dev))
        else {
            continue;
        };
        let (pmtudisc, recverr, connected, hdrincl) = (s.sk.pmtudisc, s.sk.flags.recverr, s.connected(), s.hdrincl());
        if kind == ICMP_DEST_UNREACH && code == ICMP_FRAG_NEEDED {
            update_pmtu(&mut k.net, ns, ip.dst, info);
        }
        if kind == ICMP_SOURCE_QUENCH || (!recverr && !connected) {
            continue;
        }
        let (errno, hard) = meaning(kind, code, pmtudisc);
        let from = if hdrincl { 0 } else { ip.ihl_bytes };
        report(k, id, skb, &Told { errno, hard, kind, code, info, from, to: ip.dst.into() });
    }
}

/// The same about an echo request of a ping socket.
pub fn ping_err(k: &mut Kernel, ns: NsId, skb: &SkBuff, kind: u8, code: u8, info: u32) {
    let b = skb.head.bytes();
    let Ok(ip) = Ipv4Header::parse(b) else { return };
    let Some(&[ICMP_ECHO, 0, _, _, i0, i1]) = b.get(ip.ihl_bytes..).and_then(|t| t.first_chunk()) else { return };
    let frag = kind == ICMP_DEST_UNREACH && code == ICMP_FRAG_NEEDED;
    if frag {
        update_pmtu(&mut k.net, ns, ip.dst, info);
    }
    let Some(id) = ping_lookup(k, ns, skb, u16::from_be_bytes([i0, i1])) else { return };
    let Some(s) = k.socks.raw.get(id) else { return };
    let (errno, hard) = match kind {
        // Not an error, but a program that pings wants to see it.
        ICMP_SOURCE_QUENCH => (Errno::EREMOTEIO, false),
        _ => meaning(kind, code, s.sk.pmtudisc),
    };
    if (frag && !hard) || !(s.sk.flags.recverr || hard && s.connected()) {
        return;
    }
    let to = ip.dst.into();
    report(k, id, skb, &Told { errno, hard: true, kind, code, info, from: ip.ihl_bytes, to });
}

/// An error for one socket; `from`: where in the quoted packet its entry begins.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub errno: Errno,
    pub hard: bool,
    pub kind: u8,
    pub code: u8,
    pub info: u32,
    pub from: usize,
    pub to: IpAddr,
}

/// With IP_RECVERR into the error queue, and in any case pending.
pub(super) fn report(k: &mut Kernel, id: RawId, skb: &SkBuff, t: &Told) {
    let Kernel { socks, net, .. } = k;
    let Some(s) = socks.raw.get_mut(id) else { return };
    if s.sk.flags.recverr {
        let mut payload = Segs::from(skb.head.bytes().get(t.from..).unwrap_or(&[]).to_vec());
        payload.append(skb.frags.clone());
        let ee = SockExtendedErr {
            errno: t.errno.0,
            origin: if t.to.is_ipv4() { SO_EE_ORIGIN_ICMP } else { SO_EE_ORIGIN_ICMP6 },
            kind: t.kind,
            code: t.code,
            info: t.info,
            ..Default::default()
        };
        let entry = errqueue::icmp_entry(&s.sk, net, skb, ee, (t.to, 0), payload);
        errqueue::queue(&mut s.sk, &mut net.env, SockId::Raw(id), entry);
    } else if !t.hard {
        return;
    }
    s.sk.err = t.errno.0;
    wake(k, id, EPOLLERR);
}
