//! A header for each segment, and down to IP (Linux: `tcp_transmit_skb`).
use super::ack;
use super::segment::{check_dst, sack_blocks_due, set_tso_segs};
use crate::env::Rise;
use crate::ids::{SockId, TcpId};
use crate::net::Net;
use crate::net::af::{self, Tx};
use crate::net::core::dst_metrics::RTAX_FEATURE_ECN;
use crate::net::core::skb::{Owner, Skb, TxMeta, tx_truesize};
use crate::net::core::sock::Sock;
use crate::net::core::zerocopy;
use crate::net::ipv4::options as ip_options;
use crate::net::ipv4::output::ip_dont_fragment;
use crate::net::mib::Mib;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::cong::Cong;
use crate::net::tcp::handshake::fastopen::client;
use crate::net::tcp::input::{ecn, recovery};
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::track::Limit;
use crate::net::tcp::{inc, md5sig, mtup, pacing, rate, urgent};
use crate::task::call::SendMsg;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTAX_FEATURES;
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{Flags, MAX_TCP_OPTION_SPACE, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::{Csum, Gso, GsoType, Segs, checksum};
use core::net::IpAddr;

/// Sends entry `ix` of the write queue (a clone: the payload is shared), for the first time or again.
pub fn transmit_queued(sk: &mut TcpSock, net: &mut Net, id: TcpId, ix: usize, mss: u32) -> Result<(), Errno> {
    let in_flight = ix < sk.snd.sent;
    let pcount = set_tso_segs(sk, ix, mss);
    let Some(len) = sk.snd.queue.get(ix).map(TxSeg::len) else { return Err(Errno::EINVAL) };
    if len != 0 && sk.track.is_none() {
        first_data(sk, net);
    }
    let Some(seg) = sk.snd.queue.get_mut(ix) else { return Err(Errno::EINVAL) };
    seg.tx_us = net.env.now_us();
    if let Some(t) = sk.track.as_deref_mut().filter(|_| sk.flags.pacing) {
        t.edt = t.wstamp.max(net.env.now);
    }
    let (seq, flags, data, end_seq) = (seg.seq, seg.flags, seg.data.clone(), seg.end_seq);
    let (tx, tskey) = (seg.tx, seg.tskey);
    if len != 0 {
        event_data_sent(sk, net);
        sk.totals.data_segs_out = sk.totals.data_segs_out.wrapping_add(pcount);
        sk.totals.bytes_sent += u64::from(len);
        if !in_flight && !len.is_multiple_of(mss) {
            sk.snd.sml = end_seq;
        }
    }
    sk.totals.segs_out = sk.totals.segs_out.wrapping_add(pcount);
    // RFC 4022: without what is sent again.
    if !in_flight {
        net.add(sk.sk.ns, Mib::TcpOutSegs, u64::from(pcount));
    }
    let flags = if flags.contains(Flags::SYN) { flags } else { flags | Flags::ACK };
    // The receiver's GRO need not wait for more behind a super-segment.
    let flags = if pcount > 1 { flags | Flags::PSH } else { flags };
    if tx & TX_ZEROCOPY != 0 {
        zerocopy_sent(sk, net, end_seq);
    }
    let data_segs_out = if len == 0 { sk.totals.data_segs_out.wrapping_add(pcount) } else { sk.totals.data_segs_out };
    send_segment(sk, net, id, (seq, flags), data, mss, (tx, tskey))?;
    // Only what left takes the time of a departure: else a timer would try again and again what cannot be sent.
    let (out, delivered) = (sk.snd.packets_out, sk.loss.delivered);
    if let (Some(t), Some(seg)) = (sk.track.as_deref_mut(), sk.snd.queue.get_mut(ix)) {
        if sk.flags.pacing {
            pacing::departed(t, data_segs_out, net.env.now, len);
        }
        rate::skb_sent(t, out == 0, delivered, seg);
    }
    Ok(())
}

/// Pages of the program's go out, and may be copied on their way.
#[cold]
pub fn zerocopy_sent(sk: &mut TcpSock, net: &mut Net, end_seq: u32) {
    if check_dst(sk, net).and_then(|d| net.devs.get(d.dev)).is_some_and(|d| d.copies()) {
        zerocopy::copied_before(&mut sk.sk, end_seq);
    }
}

/// The connection begins to move data: from now on it is watched.
#[cold]
pub fn first_data(sk: &mut TcpSock, net: &Net) {
    let rate = if sk.rtt.srtt_us == 0 { pacing::max_pacing_rate(sk) } else { pacing::window_rate(sk, net) };
    let now = net.env.now_us();
    let t = sk.track();
    (t.pacing_rate, t.delivered_us, t.first_tx_us) = (rate, now, now);
    t.chrono.start(Limit::Busy, net.env.jiffies());
}

/// `tcp_event_data_sent`: answering soon after receiving makes the connection interactive.
fn event_data_sent(sk: &mut TcpSock, net: &mut Net) {
    if sk.in_flight() == 0 {
        pacing::tx_start(sk, net);
    }
    let now = net.env.now_us();
    sk.snd.last_us = now;
    let ato = u64::from(sk.rcv.ack.ato_ms) * 1000;
    if now.saturating_sub(sk.rcv.ack.last_us) < ato {
        sk.rcv.ack.pingpong = sk.rcv.ack.pingpong.saturating_add(1);
    }
}

/// Builds one segment (or super-segment) and hands it to IP. `stamp`: the stamps it is to have, and about which byte.
#[doc(alias = "__tcp_transmit_skb")]
pub fn send_segment(
    sk: &mut TcpSock,
    net: &mut Net,
    id: TcpId,
    (seq, flags): (u32, Flags),
    data: Segs,
    mss: u32,
    stamp: (u8, u32),
) -> Result<(), Errno> {
    let Some(&dst) = check_dst(sk, net) else { return Err(Errno::EHOSTUNREACH) };
    let len = data.len();
    let mut skb = net.alloc_skb();
    skb.frags = data;
    let syn = flags.contains(Flags::SYN);
    let window = if syn { ack::syn_window(sk) } else { ack::select_window(sk, net) };
    let (ecn_flags, ect) = if syn { (Flags::NONE, 0) } else { ecn::send(sk, seq, len) };
    let flags = flags | ecn_flags;
    let header_len = push_header(sk, net, &mut skb, seq, flags, window, len);
    if len as u32 > mss && mss > 0 {
        let segs = (len as u32).div_ceil(mss) as u16;
        let kind = if sk.sk.daddr.is_ipv4() { GsoType::TcpV4 } else { GsoType::TcpV6 };
        skb.gso = Some(Gso::new(kind, mss as u16, segs));
    }
    skb.hash = sk.txhash;
    skb.priority = sk.sk.priority;
    skb.mark = sk.sk.mark;
    skb.sender = sk.sk.sender();
    if sk.flags.pacing_fq && len != 0 {
        skb.tstamp = sk.track.as_deref().map_or(0, |t| t.edt);
    }
    skb.truesize = tx_truesize(len);
    if len != 0 && net.devs.get(dst.dev).is_none_or(|d| !d.features.orphan) {
        skb.owner = Owner::Tx(SockId::Tcp(id));
        sk.sk.wmem_alloc += skb.truesize;
    }
    debug_assert!(header_len >= TCP_HLEN);
    if stamp.0 & !TX_ZEROCOPY != 0 {
        let (flags, tskey, sock) = (stamp.0 & !TX_ZEROCOPY, stamp.1, SockId::Tcp(id));
        skb.tx = Some(Box::new(TxMeta { sock, flags, tskey, zerocopy: None, copied: false }));
    }
    if flags.contains(Flags::ACK) {
        ack::event_ack_sent(sk, net, id);
    }
    let (ttl, tos) = sk.sk.hops_and_class();
    let (optlen, proto, daddr) = match &sk.sk.cold {
        Some(_) => own_headers(&sk.sk, net, &mut skb),
        None => (0, IPPROTO_TCP, sk.sk.daddr),
    };
    let tx = Tx {
        ns: sk.sk.ns,
        saddr: sk.sk.saddr,
        daddr,
        proto,
        tos: tos & !ecn::INET_ECN_MASK | ect,
        ttl,
        df: ip_dont_fragment(net, &sk.sk, sk.sk.daddr, &dst),
        mc_loop: false,
        autolabel: sk.sk.autolabel(),
        flow: sk.sk.flow_label(),
        optlen,
    };
    net.tc.congested = false;
    let sent = af::queue_xmit(net, &tx, &dst, skb);
    if sent.is_err() {
        freed_at_once(sk, net, id);
    }
    if (sent == Err(Errno::ENOBUFS) || net.tc.congested) && len != 0 {
        // The queue of our own device is full: that is congestion too.
        recovery::enter_cwr(sk, net);
    }
    sent
}

/// Options of IPv4, or extension headers, in front of TCP's: bytes of the former, what the network header says of the latter.
fn own_headers(sk: &Sock, net: &Net, skb: &mut Skb) -> (u8, u8, IpAddr) {
    if let Some(o) = sk.txopts().filter(|_| sk.daddr.is_ipv6()) {
        let (proto, daddr) = o.push(skb, IPPROTO_TCP, sk.daddr);
        return (0, proto, daddr);
    }
    let optlen = ip_options::of(sk, sk.daddr).map_or(0, |o| ip_options::push(net, sk.ns, skb, o, sk.saddr));
    (optlen, IPPROTO_TCP, sk.daddr)
}

/// A packet that did not even leave is free already: its end is nothing to wait for, and wakes nobody to send it again.
#[doc(alias = "tcp_wfree")]
#[cold]
fn freed_at_once(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let own = |r: &Rise| matches!(r, Rise::TxFree { sock, .. } if *sock == SockId::Tcp(id));
    let rises = &mut net.env.rises;
    if let Some(at) = rises.iter().rposition(own)
        && let Some(Rise::TxFree { truesize, .. }) = rises.remove(at)
    {
        sk.sk.wmem_alloc = sk.sk.wmem_alloc.saturating_sub(truesize);
    }
}

/// Header with options in front of the payload; the checksum is left partial. Returns its length.
fn push_header(sk: &mut TcpSock, net: &Net, skb: &mut Skb, seq: u32, flags: Flags, window: u16, len: usize) -> usize {
    let mut options = options(sk, net, flags);
    options.md5 = sk.rare.is_some() && md5sig::own(sk).is_some();
    let header_len = TCP_HLEN + options.len();
    let (urg, urg_ptr) = if sk.urg().is_some() { urgent::header(sk, seq) } else { (Flags::NONE, 0) };
    let pseudo = checksum::pseudo(sk.sk.saddr, sk.sk.daddr, 6, header_len + len);
    let header = TcpHeader {
        src_port: sk.sk.num,
        dst_port: sk.sk.dport,
        seq,
        ack: if flags.contains(Flags::ACK) { sk.rcv.nxt } else { 0 },
        header_len,
        flags: flags | urg,
        window,
        csum: checksum::partial(pseudo),
        urg_ptr,
    };
    if let Some(room) = skb.head.push(header_len) {
        header.emit(room);
        if let Some(rest) = room.get_mut(TCP_HLEN..) {
            options.emit(rest);
        }
    }
    if let Some(key) = md5sig::own(sk) {
        md5sig::sign(key, sk.sk.saddr, sk.sk.daddr, &mut skb.head, header_len, &skb.frags);
    }
    skb.transport_header = skb.head.start();
    skb.csum = Csum::Partial;
    header_len
}

/// What goes beside the header; SACK blocks when some are due.
#[doc(alias = "tcp_established_options")]
fn options(sk: &mut TcpSock, net: &Net, flags: Flags) -> TcpOptions {
    let mut o = TcpOptions::default();
    if sk.flags.tstamp_ok {
        o.ts = Some((net.env.now_ms().wrapping_add(sk.tsoffset), sk.rcv.ts_recent));
    }
    if flags.contains(Flags::SYN) {
        syn_options(sk, net, flags, &mut o);
        return o;
    }
    let due = sack_blocks_due(sk) as u8;
    if due > 0 {
        let blocks =
            sk.rcv.sack.dsack.take().into_iter().chain(sk.rcv.sack.blocks[..sk.rcv.sack.n as usize].iter().copied());
        for (to, block) in o.sack.iter_mut().zip(blocks) {
            *to = block;
            o.n_sack += 1;
        }
        o.n_sack = o.n_sack.min(due);
    }
    o
}

#[doc(alias = "tcp_syn_options")]
#[inline(never)]
fn syn_options(sk: &mut TcpSock, net: &Net, flags: Flags, o: &mut TcpOptions) {
    let s = crate::net::tcp::sysctl(net, sk);
    let on = |of: fn(&Sysctl) -> u32| s.is_some_and(|s| of(s) != 0);
    if flags.contains(Flags::ACK) && o.ts.is_none() && on(|s| s.tcp_timestamps) && md5sig::own(sk).is_none() {
        o.ts = Some((net.env.now_ms().wrapping_add(sk.tsoffset), 0));
    }
    // The route may have become narrower since connect().
    if let (Some(d), Some(n)) = (&sk.dst, net.ns.get(sk.sk.ns)) {
        sk.rcv.advmss = sk.rcv.advmss.min(ack::advertised_mss(sk, sk.sk.daddr, n, d));
    }
    o.mss = Some(sk.rcv.advmss);
    o.sack_ok = on(|s| s.tcp_sack);
    o.wscale = on(|s| s.tcp_window_scaling).then_some(sk.rcv.wscale);
    if let Some(t) = &mut sk.tfo
        && let Some(cookie) = t.request.and_then(|r| r.cookie)
        && o.len() + cookie.option_len() <= MAX_TCP_OPTION_SPACE
    {
        o.fastopen = Some(cookie);
        (t.syn_fastopen, t.syn_fastopen_exp) = (true, cookie.exp);
    }
}

/// Without a piece of the queue: a bare acknowledgement, a probe, a reset. `seq` is the caller's.
pub fn send_control(sk: &mut TcpSock, net: &mut Net, id: TcpId, seq: u32, flags: Flags) -> Result<(), Errno> {
    sk.totals.segs_out = sk.totals.segs_out.wrapping_add(1);
    inc(net, sk, Mib::TcpOutSegs);
    send_segment(sk, net, id, (seq, flags), Segs::new(), 0, (0, 0))
}

/// The sequence number for segments without data: SND.NXT, or the window's edge when the peer shrank it
/// (`tcp_acceptable_seq`).
pub fn acceptable_seq(sk: &TcpSock) -> u32 {
    use crate::net::tcp::seq::before;
    if before(sk.wnd_end(), sk.snd.nxt)
        && sk.flags.wscale_ok
        && sk.snd.nxt.wrapping_sub(sk.wnd_end()) < 1 << sk.snd.wscale
    {
        return sk.snd.nxt;
    }
    if before(sk.wnd_end(), sk.snd.nxt) { sk.wnd_end() } else { sk.snd.nxt }
}

/// RST for a connection that we give up (`tcp_send_active_reset`).
pub fn send_active_reset(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    inc(net, sk, Mib::TcpOutRsts);
    let seq = acceptable_seq(sk);
    let _ = send_control(sk, net, id, seq, Flags::RST | Flags::ACK);
}

/// The first SYN of `connect`: windows chosen, SYN queued and sent, timer armed.
#[doc(alias = "tcp_connect")]
pub fn connect_init(sk: &mut TcpSock, net: &mut Net, id: TcpId, first: Option<&mut SendMsg<'_>>) -> Result<(), Errno> {
    let Some(&dst) = check_dst(sk, net) else { return Err(Errno::ENETUNREACH) };
    let Some(n) = net.ns.get(sk.sk.ns) else { return Err(Errno::ENETUNREACH) };
    let s = &n.sysctl;
    let (ts, scaling, sack) = (s.tcp_timestamps != 0, s.tcp_window_scaling != 0, s.tcp_sack != 0);
    let space = ack::WindowSpace::of(sk, n, &dst);
    let metrics = n.metrics.get(dst.metrics).copied().unwrap_or_default();
    sk.rcv.advmss = ack::advertised_mss(sk, sk.sk.daddr, n, &dst);
    if let Some(name) = metrics.congestion() {
        sk.cong = Cong::new(name);
    }
    sk.flags.active = true;
    // There would be no room for SACK blocks beside both.
    sk.flags.tstamp_ok = ts && md5sig::own(sk).is_none();
    sk.flags.wscale_ok = scaling;
    sk.flags.sack_ok = sack;
    sk.snd.mss_clamp = u16::MAX;
    sk.snd.pmtu = dst.mtu;
    mtup::init(sk, net);
    sync_mss_for_syn(sk, net, dst.mtu);
    let init = ack::select_initial_window(space, u32::from(sk.rcv.advmss), scaling);
    sk.rcv.wnd = init.rcv_wnd;
    sk.rcv.window_clamp = init.window_clamp;
    sk.rcv.wscale = init.wscale;
    sk.rcv.ssthresh = init.rcv_wnd;
    sk.rcv.nxt = 0;
    sk.rcv.wup = 0;
    sk.rcv.copied_seq = 0;
    sk.loss.retransmits = 0;
    sk.rtt.rto_us = TCP_TIMEOUT_INIT_US;
    sk.snd.una = sk.snd.write_seq;
    sk.snd.sml = sk.snd.write_seq;
    sk.snd.nxt = sk.snd.write_seq;
    sk.cong.cwnd = 10;
    let ecn = net
        .ns
        .get(sk.sk.ns)
        .map_or(Flags::NONE, |n| ecn::send_syn(sk, &n.sysctl, metrics.get(RTAX_FEATURES) & RTAX_FEATURE_ECN != 0));
    let syn = TxSeg::new(sk.snd.write_seq, Segs::new(), Flags::SYN | ecn);
    sk.snd.write_seq = syn.end_seq;
    sk.snd.pushed_seq = syn.end_seq;
    sk.sk.wmem_queued += syn.truesize;
    sk.snd.queue.push_front(syn);
    sk.loss.retrans_stamp_ms = net.env.now_ms().wrapping_add(sk.tsoffset);
    let sent = if sk.tfo.as_ref().is_some_and(|t| t.request.is_some()) {
        client::send_syn_data(sk, net, id, first)
    } else {
        let mss = u32::from(sk.snd.mss_cache);
        let sent = transmit_queued(sk, net, id, 0, mss);
        super::event_new_data_sent(sk, net, id);
        sent
    };
    inc(net, sk, Mib::TcpActiveOpens);
    crate::net::tcp::reset_write_timer(net, sk, id, WriteTimer::Retrans, sk.rtt.rto_us);
    match sent {
        // A resolution that failed at once or a firewall: the SYN timer tries again.
        Err(Errno::ECONNREFUSED) => Err(Errno::ECONNREFUSED),
        _ => Ok(()),
    }
}

fn sync_mss_for_syn(sk: &mut TcpSock, net: &Net, mtu: u32) {
    super::segment::sync_mss(sk, net, mtu);
}

/// SYN-ACK of a simultaneous open: the SYN that is queued, with ACK (`tcp_send_synack`).
pub fn send_synack(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    if let Some(syn) = sk.snd.queue.front_mut() {
        // Agreed with ECE alone, or not at all.
        let ecn = if sk.flags.ecn & ecn::TCP_ECN_OK != 0 { Flags::CWR } else { Flags::CWR | Flags::ECE };
        syn.flags = syn.flags.without(ecn) | Flags::ACK;
    }
    debug_assert!(sk.state == State::SynRecv);
    let mss = u32::from(sk.snd.mss_cache);
    let _ = transmit_queued(sk, net, id, 0, mss);
}
