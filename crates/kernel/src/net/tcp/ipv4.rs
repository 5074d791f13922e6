//! TCP over IPv4: a segment finds its socket; answers without one; what ICMP errors do (Linux: `tcp_ipv4.c`).
use super::handshake::{request, time_wait};
use super::input::{self, EVERYTHING};
use super::output::segment;
use super::seq::between;
use super::sock::*;
use super::state::State;
use super::tables::{self, EhashRef, Tuple};
use super::{inc, mem, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::errqueue;
use crate::net::core::skb::{SkBuff, Skb, TcpCb, truesize};
use crate::net::drop::DropReason;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Flow4, ip_route_output};
use crate::net::mib::Mib;
use belljar_abi::{Errno, IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockExtendedErr};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::{Csum, Segs, checksum};
use core::net::Ipv4Addr;

/// Source and destination of the packet, from its IP header.
pub fn addresses(skb: &SkBuff) -> (Ipv4Addr, Ipv4Addr) {
    let h = skb.head.at(skb.network_header);
    let at =
        |o: usize| h.get(o..).and_then(|b| b.first_chunk::<4>()).map_or(Ipv4Addr::UNSPECIFIED, |b| Ipv4Addr::from(*b));
    (at(12), at(16))
}

fn header_bytes(skb: &SkBuff) -> &[u8] {
    skb.head.at(skb.tcp.header)
}

/// Options of the segment; none when the header is bare.
pub fn options(skb: &SkBuff) -> TcpOptions {
    match header_bytes(skb).get(TCP_HLEN..skb.tcp.header_len as usize) {
        Some(b) if !b.is_empty() => TcpOptions::parse(b),
        _ => TcpOptions::default(),
    }
}

pub fn ports(skb: &SkBuff) -> (u16, u16) {
    match header_bytes(skb) {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

/// The head is pulled to the TCP header. Connection, request, TIME_WAIT, listener, or nobody.
pub fn tcp_v4_rcv(k: &mut Kernel, skb: Skb) {
    k.net.stage(&skb, "tcp_v4_rcv");
    let Some(ns) = skb.ns else { return k.net.kfree_skb(skb, DropReason::NotSpecified, "tcp_v4_rcv") };
    k.net.inc(ns, Mib::TcpInSegs);
    let mut skb = match fill_cb(skb) {
        Ok(skb) => skb,
        Err((skb, reason)) => {
            k.net.inc(ns, if reason == DropReason::TcpCsum { Mib::TcpInCsumErrors } else { Mib::TcpInErrs });
            if reason == DropReason::TcpCsum {
                k.net.inc(ns, Mib::TcpInErrs);
            }
            return k.net.kfree_skb(skb, reason, "tcp_v4_rcv");
        }
    };
    let tuple = Tuple::of_packet(&skb);
    loop {
        let found = tables::lookup(k, ns, &tuple, skb.dev);
        if matches!(found, Some(EhashRef::Sock(_) | EhashRef::Request(_))) && md5_unexpected(&skb) {
            return drop_md5(k, ns, skb);
        }
        match found {
            Some(EhashRef::Sock(id)) => return do_rcv(k, id, skb),
            Some(EhashRef::Request(req)) => match request::tcp_check_req(k, ns, req, skb) {
                // A child was made: the segment is its first.
                Some((child, s)) => return do_rcv(k, child, s),
                None => return,
            },
            Some(EhashRef::TimeWait(tw)) => match time_wait::tcp_timewait_state_process(k, ns, tw, skb) {
                // A new SYN took the place: look again, for the listener.
                Some(s) => skb = s,
                None => return,
            },
            None => break,
        }
    }
    match tables::lookup_listener(k, ns, &tuple, skb.dev) {
        Some(_) if md5_unexpected(&skb) => drop_md5(k, ns, skb),
        Some(listener) => listen_rcv(k, listener, skb),
        None => no_socket(k, ns, skb),
    }
}

/// Signed, and no socket here has a key (`tcp_inbound_md5_hash`).
fn md5_unexpected(skb: &SkBuff) -> bool {
    // Only a header with other options than aligned time stamps can hold a signature.
    skb.tcp.header_len as usize >= TCP_HLEN + 18 && options(skb).md5
}

fn drop_md5(k: &mut Kernel, ns: NsId, skb: Skb) {
    k.net.inc(ns, Mib::TcpExtTCPMD5Unexpected);
    k.net.kfree_skb(skb, DropReason::TcpMd5Unexpected, "tcp_v4_rcv");
}

/// Parses the header and checks the sum; the payload ends up in the fragments.
#[allow(clippy::result_large_err)]
fn fill_cb(mut skb: Skb) -> Result<Skb, (Skb, DropReason)> {
    let at = skb.head.start();
    let Ok(h) = TcpHeader::parse(skb.head.bytes()) else { return Err((skb, DropReason::PktTooSmall)) };
    if skb.csum == Csum::None && !checksum_ok(&skb) {
        return Err((skb, DropReason::TcpCsum));
    }
    if skb.head.pull(h.header_len).is_none() {
        return Err((skb, DropReason::PktTooSmall));
    }
    skb.transport_header = at;
    if !skb.head.is_empty() {
        skb.frags = skb.take_payload();
    }
    let len = skb.frags.len() as u32;
    let ctl = u32::from(h.flags.contains(Flags::SYN)) + u32::from(h.flags.contains(Flags::FIN));
    skb.tcp = TcpCb {
        seq: h.seq,
        end_seq: h.seq.wrapping_add(len + ctl),
        ack: h.ack,
        window: h.window,
        flags: h.flags,
        urg_ptr: h.urg_ptr,
        header: at,
        header_len: h.header_len as u8,
        saw_tstamp: false,
        tw_isn: 0,
    };
    skb.truesize = truesize(len as usize);
    Ok(skb)
}

fn checksum_ok(skb: &SkBuff) -> bool {
    let (src, dst) = addresses(skb);
    let linear = skb.head.bytes();
    let pseudo = checksum::pseudo_v4(src, dst, 6, skb.len());
    let head = checksum::sum(linear, pseudo);
    checksum::fold(checksum::combine(head, checksum::segs(&skb.frags), linear.len())) == 0
}

/// A connection's socket is found (Linux: `tcp_v4_do_rcv` with the socket locked).
#[doc(alias = "tcp_v4_do_rcv")]
fn do_rcv(k: &mut Kernel, id: TcpId, skb: Skb) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else {
        return net.kfree_skb(skb, DropReason::NoSocket, "tcp_v4_do_rcv");
    };
    let segs = skb.gso.map_or(1, |g| u32::from(g.segs).max(1));
    sk.totals.segs_in = sk.totals.segs_in.wrapping_add(segs);
    if !skb.frags.is_empty() {
        sk.totals.data_segs_in = sk.totals.data_segs_in.wrapping_add(segs);
    }
    let o = options(&skb);
    match sk.state {
        State::Established => input::rcv_established(sk, net, id, skb, &o),
        State::Close => net.kfree_skb(skb, DropReason::TcpClose, "tcp_v4_do_rcv"),
        _ => input::rcv_state_process(sk, net, id, skb, &o),
    }
    mem::settle(sk, net);
}

/// LISTEN: a SYN opens, an ACK may carry a cookie, anything else is answered or ignored (RFC 9293 §3.10.7.2).
fn listen_rcv(k: &mut Kernel, listener: TcpId, skb: Skb) {
    let flags = skb.tcp.flags;
    if flags.contains(Flags::RST) {
        return k.net.kfree_skb(skb, DropReason::TcpReset, "tcp_rcv_state_process");
    }
    if flags.contains(Flags::ACK) && !flags.contains(Flags::SYN) {
        return match request::cookie_check(k, listener, skb) {
            Ok((child, skb)) => do_rcv(k, child, skb),
            Err(Some(skb)) => {
                send_reset(&mut k.net, &skb, None);
                k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_v4_cookie_check");
            }
            Err(None) => {}
        };
    }
    if flags.contains(Flags::ACK) {
        send_reset(&mut k.net, &skb, None);
        return k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_state_process");
    }
    if flags.contains(Flags::SYN) && !flags.contains(Flags::FIN) {
        return request::tcp_conn_request(k, listener, skb);
    }
    k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_state_process");
}

fn no_socket(k: &mut Kernel, ns: NsId, skb: Skb) {
    let _ = ns;
    send_reset(&mut k.net, &skb, None);
    k.net.kfree_skb(skb, DropReason::NoSocket, "tcp_v4_rcv");
}

/// A RST for a segment that no connection wants (RFC 9293 §3.10.7.1): never for a RST.
#[doc(alias = "tcp_v4_send_reset")]
pub fn send_reset(net: &mut Net, skb: &SkBuff, ts: Option<(u32, u32)>) {
    let cb = &skb.tcp;
    if cb.flags.contains(Flags::RST) {
        return;
    }
    let Some(ns) = skb.ns else { return };
    let reply = if cb.flags.contains(Flags::ACK) {
        Reply { seq: cb.ack, ack: None, flags: Flags::RST, window: 0, ts }
    } else {
        let ack = Some(cb.end_seq);
        Reply { seq: 0, ack, flags: Flags::RST | Flags::ACK, window: 0, ts }
    };
    net.inc(ns, Mib::TcpOutRsts);
    send_reply(net, ns, skb, reply);
}

/// A segment that is sent without a socket (Linux: `ip_send_unicast_reply`).
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    pub seq: u32,
    pub ack: Option<u32>,
    pub flags: Flags,
    pub window: u16,
    pub ts: Option<(u32, u32)>,
}

/// Answers `skb` to where it came from.
pub fn send_reply(net: &mut Net, ns: NsId, skb: &SkBuff, r: Reply) {
    let (src, dst) = addresses(skb);
    let (sport, dport) = ports(skb);
    // Back by the device it came from: a transparent address has no route of its own.
    let fl = Flow4 { daddr: src, saddr: dst, oif: None, tos: 0, mark: skb.mark };
    let Ok(route) = ip_route_output(net, ns, &fl) else { return };
    let o = TcpOptions { ts: r.ts, ..TcpOptions::default() };
    let header_len = TCP_HLEN + o.len();
    let mut out = net.alloc_skb();
    let header = TcpHeader {
        src_port: dport,
        dst_port: sport,
        seq: r.seq,
        ack: r.ack.unwrap_or(0),
        header_len,
        flags: r.flags,
        window: r.window,
        csum: checksum::partial(checksum::pseudo_v4(dst, src, 6, header_len)),
        urg_ptr: 0,
    };
    if let Some(room) = out.head.push(header_len) {
        header.emit(room);
        if let Some(rest) = room.get_mut(TCP_HLEN..) {
            o.emit(rest);
        }
    }
    out.transport_header = out.head.start();
    out.csum = Csum::Partial;
    out.hash = skb.hash;
    net.inc(ns, Mib::TcpOutSegs);
    let ttl = net.ns.get(ns).map_or(64, |n| n.sysctl.ip_default_ttl) as u8;
    let tx = IpTx { ns, saddr: dst, daddr: src, proto: 6, tos: 0, ttl, df: true };
    let _ = ip_queue_xmit(net, &tx, &route, out);
}

/// What an ICMP error says: why, about which sequence number, and the MTU where a packet was too large.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    pub ee: SockExtendedErr,
    pub seq: u32,
    pub frag_mtu: Option<u32>,
}

/// An ICMP error about a segment of ours: `tuple` is ours (local first), `seq` the quoted number.
/// Hard while connecting, soft afterwards (RFC 1122 §4.2.3.9, RFC 5927).
pub fn tcp_v4_err(k: &mut Kernel, ns: NsId, tuple: &Tuple, what: &IcmpError, skb: &SkBuff) {
    let IcmpError { ee, seq, frag_mtu } = *what;
    let errno = Errno(ee.errno);
    let id = match tables::lookup(k, ns, tuple, None) {
        Some(EhashRef::Sock(id)) => id,
        Some(EhashRef::Request(req)) => {
            return request::icmp_error(k, ns, req, seq, if frag_mtu.is_some() { Errno::EMSGSIZE } else { errno });
        }
        _ => return k.net.inc(ns, Mib::IcmpInErrors),
    };
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    if sk.state == State::Close {
        return;
    }
    // The SYN-ACK of a Fast Open connection lies before what the socket counts.
    let una = sk.fastopen_rsk().map_or(sk.snd.una, |r| r.snt_isn);
    if !between(seq, una, sk.snd.nxt) && sk.state != State::Listen {
        return inc(net, sk, Mib::TcpExtOutOfWindowIcmps);
    }
    if let Some(mtu) = frag_mtu {
        mtu_reduced(sk, net, id, mtu);
        return mem::settle(sk, net);
    }
    // A Fast Open connection that was accepted is a connection.
    let accepted = sk.fastopen_rsk().is_some() && sk.parent.is_none();
    if sk.state.is(&[State::SynSent, State::SynRecv]) && !accepted {
        if sk.sk.flags.recverr {
            let mut payload = Segs::from(skb.head.bytes().get(quoted_header(skb)..).unwrap_or(&[]).to_vec());
            payload.append(skb.frags.clone());
            let e = errqueue::icmp_entry(net, skb, ee, (tuple.raddr, tuple.rport), payload);
            errqueue::queue(&mut sk.sk, &mut net.env, SockId::Tcp(id), e);
        }
        sk.sk.err = errno.0;
        input::tcp_done(sk, net, id);
        wake(net, sk, id, EVERYTHING);
    } else if sk.sk.flags.recverr {
        sk.sk.err = errno.0;
        wake(net, sk, id, EVERYTHING);
    } else {
        sk.sk.err_soft = errno.0;
    }
    mem::settle(sk, net);
}

/// Where the quoted segment begins behind its IP header.
fn quoted_header(skb: &SkBuff) -> usize {
    belljar_wire::ipv4::Ipv4Header::parse(skb.head.bytes()).map_or(0, |ip| ip.ihl_bytes)
}

/// Fragmentation needed: smaller segments from now on, what was too big goes again (`tcp_v4_mtu_reduced`).
fn mtu_reduced(sk: &mut TcpSock, net: &mut Net, id: TcpId, mtu: u32) {
    if sk.snd.pmtu <= mtu {
        return;
    }
    crate::net::ipv4::route::update_pmtu(net, sk.sk.ns, sk.sk.daddr, mtu);
    // The route knows it for others; this socket asked not to be told (`ip_sk_accept_pmtu`).
    let pmtudisc = i32::from(sk.sk.pmtudisc);
    if matches!(pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT) {
        return;
    }
    let Some(dst) = segment::check_dst(sk, net) else { return };
    segment::sync_mss(sk, net, dst.mtu);
    let mss = u32::from(sk.snd.mss_cache);
    // A SYN with data stands in the queue as two pieces: all of it was too big.
    let syn_data = sk.state == State::SynSent && sk.tfo.as_ref().is_some_and(|t| t.syn_data);
    for ix in 0..sk.snd.sent {
        let len = |s: &TxSeg| (s.data.len() as u32).min(u32::from(s.mss));
        let too_big = sk.snd.queue.get(ix).is_some_and(|s| len(s) > mss && !s.is(TCPCB_SACKED_ACKED));
        if too_big || syn_data {
            input::recovery::mark_lost(sk, net, ix);
        }
    }
    if sk.snd.lost_out > 0 {
        input::recovery::non_congestion_loss_retransmit(sk, net, id);
    }
}
