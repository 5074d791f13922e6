//! TCP over IPv4: a segment finds its socket; answers without one; what ICMP errors do (Linux: `tcp_ipv4.c`).
use super::handshake::{cookie_ack, request, time_wait};
use super::input::{self, EVERYTHING};
use super::md5sig::{self, Md5Key};
use super::output::segment;
use super::seq::between;
use super::sock::*;
use super::state::State;
use super::tables::{self, EhashRef, Tuple};
use super::{inc, mem, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af::{self, Flow, Tx, addresses};
use crate::net::core::errqueue;
use crate::net::core::filter::Packet;
use crate::net::core::skb::{Sender, SkBuff, Skb, TcpCb};
use crate::net::drop::DropReason;
use crate::net::ipv4::options as ip_options;
use crate::net::ipv6::flowlabel;
use crate::net::mib::Mib;
use belljar_abi::{Errno, IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockExtendedErr};
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::{Csum, Segs, checksum};

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
        match tables::lookup(k, ns, &tuple, skb.dev) {
            Some(EhashRef::Sock(id)) => return established_rcv(k, ns, id, skb),
            Some(EhashRef::Request(req)) => {
                match admit_request(k, ns, req, skb).and_then(|skb| request::tcp_check_req(k, ns, req, skb)) {
                    // A child was made: the segment is its first.
                    Some((child, s)) => return do_rcv(k, child, s),
                    None => return,
                }
            }
            Some(EhashRef::TimeWait(tw)) => match time_wait::tcp_timewait_state_process(k, ns, tw, skb) {
                // A new SYN took the place: look again, for the listener.
                Some(s) => skb = s,
                None => return,
            },
            None => break,
        }
    }
    match tables::lookup_listener(k, ns, &tuple, &skb) {
        Some(listener) => {
            if let Some(skb) = admit(k, ns, listener, skb) {
                listen_rcv(k, listener, skb);
            }
        }
        None => no_socket(k, ns, skb),
    }
}

/// What a socket asks of every segment for it: the right signature, and that its filter lets it through.
fn admit(k: &mut Kernel, ns: NsId, id: TcpId, skb: Skb) -> Option<Skb> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id)?;
    if too_far(&sk.sk, &skb) {
        net.inc(ns, Mib::TcpExtTCPMinTTLDrop);
        net.kfree_skb(skb, DropReason::TcpMinTtl, "tcp_v4_rcv");
        return None;
    }
    if let Err(reason) = md5sig::inbound(sk, net, &skb) {
        sk.sk.drops = sk.sk.drops.wrapping_add(1);
        net.kfree_skb(skb, reason, "tcp_v4_rcv");
        return None;
    }
    if sk.sk.filter().is_some() { filter(k, ns, id, skb) } else { Some(skb) }
}

/// RFC 5082: it has passed more routers than the program allows (IP_MINTTL, IPV6_MINHOPCOUNT).
fn too_far(sk: &crate::net::core::sock::Sock, skb: &Skb) -> bool {
    let Some(cold) = sk.cold.as_deref().filter(|c| c.min_ttl | c.min_hopcount != 0) else { return false };
    match skb.ip_hdr() {
        Some(ip) => ip.ttl < cold.min_ttl,
        None => skb.head.at(skb.network_header).get(7).is_some_and(|hops| *hops < cold.min_hopcount),
    }
}

/// The socket's own filter (SO_ATTACH_FILTER): how many bytes of the segment are let through, none at all if 0.
#[doc(alias = "tcp_filter")]
fn filter(k: &mut Kernel, ns: NsId, id: TcpId, mut skb: Skb) -> Option<Skb> {
    let Some(prog) = k.socks.tcp.get(id).and_then(|s| s.sk.filter()) else { return Some(skb) };
    let secret = k.net.ns.get(ns).map_or([0, 0], |n| n.secret);
    let anc = crate::net::core::reuseport::ancillary(&k.net, &skb, secret);
    let keep = prog.run(&Packet::tcp(&skb), &anc);
    if keep == 0 {
        if let Some(s) = k.socks.tcp.get_mut(id) {
            s.sk.drops = s.sk.drops.wrapping_add(1);
        }
        k.net.kfree_skb(skb, DropReason::SocketFilter, "tcp_v4_rcv");
        return None;
    }
    // The header always stays.
    let payload = (keep as usize).saturating_sub(skb.tcp.header_len.into());
    if payload < skb.frags.len() {
        skb.tcp.end_seq = skb.tcp.end_seq.wrapping_sub((skb.frags.len() - payload) as u32);
        skb.frags.truncate(payload);
    }
    Some(skb)
}

/// The listener asks, for what completes a handshake.
fn admit_request(k: &mut Kernel, ns: NsId, req: ReqId, skb: Skb) -> Option<Skb> {
    match k.net.ns.get(ns).and_then(|n| n.tcp.reqs.get(req)).map(|r| r.listener) {
        Some(listener) if k.socks.tcp.contains(listener) => admit(k, ns, listener, skb),
        _ => Some(skb),
    }
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
        trimmed: false,
        tw_isn: 0,
    };
    Ok(skb)
}

fn checksum_ok(skb: &SkBuff) -> bool {
    let (src, dst) = addresses(skb);
    let linear = skb.head.bytes();
    let pseudo = checksum::pseudo(src, dst, 6, skb.len());
    let head = checksum::sum(linear, pseudo);
    checksum::fold(checksum::combine(head, checksum::segs(&skb.frags), linear.len())) == 0
}

/// A connection's socket is found: what it asks of every segment, then the segment.
fn established_rcv(k: &mut Kernel, ns: NsId, id: TcpId, skb: Skb) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else {
        return net.kfree_skb(skb, DropReason::NoSocket, "tcp_v4_rcv");
    };
    // Nearly always there is nothing to ask.
    if sk.rare.is_none() && sk.sk.cold.is_none() && usize::from(skb.tcp.header_len) < md5sig::SIGNED_HLEN {
        return deliver(sk, net, id, skb);
    }
    if let Some(skb) = admit(k, ns, id, skb) {
        do_rcv(k, id, skb);
    }
}

fn do_rcv(k: &mut Kernel, id: TcpId, skb: Skb) {
    let Kernel { socks, net, .. } = k;
    match socks.tcp.get_mut(id) {
        Some(sk) => deliver(sk, net, id, skb),
        None => net.kfree_skb(skb, DropReason::NoSocket, "tcp_v4_do_rcv"),
    }
}

/// Linux: `tcp_v4_do_rcv` with the socket locked.
#[doc(alias = "tcp_v4_do_rcv")]
fn deliver(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb) {
    sk.sk.incoming_cpu = net.cpu as i32;
    sk.sk.mark_rx(&skb);
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
        return match cookie_ack::cookie_check(k, listener, skb) {
            Ok((child, skb)) => do_rcv(k, child, skb),
            Err(Some(skb)) => {
                reset_for_listener(k, listener, &skb);
                k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_v4_cookie_check");
            }
            Err(None) => {}
        };
    }
    if flags.contains(Flags::ACK) {
        reset_for_listener(k, listener, &skb);
        return k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_state_process");
    }
    if flags.contains(Flags::SYN) && !flags.contains(Flags::FIN) {
        return request::tcp_conn_request(k, listener, skb);
    }
    k.net.kfree_skb(skb, DropReason::TcpFlags, "tcp_rcv_state_process");
}

fn no_socket(k: &mut Kernel, ns: NsId, skb: Skb) {
    reset_for_nobody(k, ns, &skb);
    k.net.kfree_skb(skb, DropReason::NoSocket, "tcp_v4_rcv");
}

/// Without a connection there is no key; a signed segment is not answered unless a listener has it.
pub fn reset_for_nobody(k: &mut Kernel, ns: NsId, skb: &SkBuff) {
    if let Ok(key) = md5sig::key_of_nobody(k, ns, skb) {
        send_reset(&mut k.net, skb, key.as_ref());
    }
}

/// The same for a listener's.
pub fn reset_for_listener(k: &mut Kernel, id: TcpId, skb: &SkBuff) {
    let Kernel { socks, net, .. } = k;
    let key = socks.tcp.get(id).and_then(|sk| md5sig::lookup(sk, addresses(skb).0));
    send_reset(net, skb, key);
}

/// A RST for a segment that no connection wants (RFC 9293 §3.10.7.1): never for a RST.
#[doc(alias = "tcp_v4_send_reset")]
pub fn send_reset(net: &mut Net, skb: &SkBuff, md5: Option<&Md5Key>) {
    let cb = &skb.tcp;
    if cb.flags.contains(Flags::RST) {
        return;
    }
    let Some(ns) = skb.ns else { return };
    let reply = if cb.flags.contains(Flags::ACK) {
        Reply { seq: cb.ack, ack: None, flags: Flags::RST, window: 0, ts: None, md5 }
    } else {
        let ack = Some(cb.end_seq);
        Reply { seq: 0, ack, flags: Flags::RST | Flags::ACK, window: 0, ts: None, md5 }
    };
    net.inc(ns, Mib::TcpOutRsts);
    send_reply(net, ns, skb, reply);
}

/// A segment that is sent without a socket (Linux: `ip_send_unicast_reply`).
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub seq: u32,
    pub ack: Option<u32>,
    pub flags: Flags,
    pub window: u16,
    pub ts: Option<(u32, u32)>,
    /// To sign it with.
    pub md5: Option<&'a Md5Key>,
}

/// Answers `skb` to where it came from.
pub fn send_reply(net: &mut Net, ns: NsId, skb: &SkBuff, r: Reply<'_>) {
    let (src, dst) = addresses(skb);
    let (sport, dport) = ports(skb);
    // Back by the device it came from: a transparent address has no route of its own.
    let ports = (dport, sport);
    let mark = crate::net::ipv4::icmp::reply_mark(net, ns, dst.is_ipv6(), skb.mark);
    let fl = Flow { saddr: dst, mark, ports, proto: IPPROTO_TCP, ..Flow::to(src) };
    let Ok(route) = af::route_output(net, ns, &fl) else { return };
    let o = TcpOptions { ts: r.ts, md5: r.md5.is_some(), ..TcpOptions::default() };
    let header_len = TCP_HLEN + o.len();
    let mut out = net.alloc_skb();
    (out.sender, out.mark) = (Sender::Kernel, mark);
    let header = TcpHeader {
        src_port: dport,
        dst_port: sport,
        seq: r.seq,
        ack: r.ack.unwrap_or(0),
        header_len,
        flags: r.flags,
        window: r.window,
        csum: checksum::partial(checksum::pseudo(dst, src, 6, header_len)),
        urg_ptr: 0,
    };
    if let Some(room) = out.head.push(header_len) {
        header.emit(room);
        if let Some(rest) = room.get_mut(TCP_HLEN..) {
            o.emit(rest);
        }
    }
    if let Some(key) = r.md5 {
        md5sig::sign(key, dst, src, &mut out.head, header_len, &out.frags);
    }
    out.transport_header = out.head.start();
    out.csum = Csum::Partial;
    out.hash = skb.hash;
    let optlen = match ip_options::echo(ip_options::of_skb(skb)) {
        echo if echo.is_empty() => 0,
        echo => ip_options::push(net, ns, &mut out, &echo, dst),
    };
    net.inc(ns, Mib::TcpOutSegs);
    let reset = r.flags.contains(Flags::RST);
    let reflect = net.ns.get(ns).map_or(0, |n| n.sysctl.flowlabel_reflect);
    let tx = Tx {
        ns,
        saddr: dst,
        daddr: src,
        proto: 6,
        tos: 0,
        ttl: None,
        df: true,
        mc_loop: false,
        autolabel: None,
        flow: if reset && reflect & flowlabel::REFLECT_TCP_RESET != 0 { flowlabel::of_skb(skb) } else { 0 },
        optlen,
    };
    // Of IPv4 it goes as a datagram does.
    let send = if src.is_ipv4() { af::send_skb } else { af::queue_xmit };
    let _ = send(net, &tx, &route, out);
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
        _ if tuple.laddr.is_ipv6() => return k.net.inc(ns, Mib::Icmp6InErrors),
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
            let e = errqueue::icmp_entry(&sk.sk, net, skb, ee, (tuple.raddr, tuple.rport), payload);
            errqueue::queue(&mut sk.sk, &mut net.env, SockId::Tcp(id), e);
        }
        sk.sk.err = errno.0;
        input::tcp_done(sk, net, id);
        wake(net, sk, id, EVERYTHING);
    } else if sk.sk.flags.recverr {
        sk.sk.err = errno.0;
        wake(net, sk, id, EVERYTHING);
    } else {
        sk.sk.cold().err_soft = errno.0;
    }
    mem::settle(sk, net);
}

/// Where the quoted segment begins behind its IP header.
fn quoted_header(skb: &SkBuff) -> usize {
    let b = skb.head.bytes();
    if let Some(t) = belljar_wire::ipv6::transport(b) {
        return t.at;
    }
    belljar_wire::ipv4::Ipv4Header::parse(b).map_or(0, |ip| ip.ihl_bytes)
}

/// Fragmentation needed: smaller segments from now on, what was too big goes again (`tcp_v4_mtu_reduced`).
fn mtu_reduced(sk: &mut TcpSock, net: &mut Net, id: TcpId, mtu: u32) {
    if sk.snd.pmtu <= mtu {
        return;
    }
    af::update_pmtu(net, sk.sk.ns, sk.sk.daddr, mtu);
    // The route knows it for others; this socket asked not to be told (`ip_sk_accept_pmtu`).
    let pmtudisc = i32::from(sk.sk.pmtudisc);
    if matches!(pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT) {
        return;
    }
    let Some(&dst) = segment::check_dst(sk, net) else { return };
    // What is believed counts, not what was said: below min_pmtu, or 0 with ip_no_pmtu_disc, every message would be news, also
    // those of our own IP about segments that tcp_min_snd_mss keeps too large.
    if sk.snd.pmtu <= dst.mtu {
        return;
    }
    segment::sync_mss(sk, net, dst.mtu);
    input::recovery::simple_retransmit(sk, net, id);
}
