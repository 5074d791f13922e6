//! A half-open connection (`struct tcp_request_sock`): lives in ehash, counted by its listener; from the SYN to the
//! connection in the accept queue.
use super::child::{queue_child, syn_recv_sock};
use super::overflow::Turned;
use super::request_timer::{rtx_synack, timeout};
use super::synack::send_synack;
use super::{cookie_ack, cookies, fastopen};
use super::{in_window, isn, oow_rate_limited, paws_reject, request_mark};
use crate::env::{SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::dst_metrics::RTAX_FEATURE_ECN;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::options;
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::net::ipv6::anycast::is_anycast;
use crate::net::ipv6::flowlabel;
use crate::net::mib::Mib;
use crate::net::netns::NetNs;
use crate::net::tcp::input::ecn;
use crate::net::tcp::ipv4::{self, Reply};
use crate::net::tcp::output::ack;
use crate::net::tcp::seq::between;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, EhashRef, Tuple};
use crate::net::tcp::{md5sig, metrics};
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTAX_FEATURES;
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{Flags, TcpOptions};
use core::net::IpAddr;

#[derive(Clone, Debug)]
pub struct RequestSock {
    pub listener: TcpId,
    pub laddr: IpAddr,
    pub raddr: IpAddr,
    pub lport: u16,
    pub rport: u16,
    pub rcv_isn: u32,
    pub snt_isn: u32,
    /// What the SYN-ACK acknowledges: the SYN, and with Fast Open its data.
    pub rcv_nxt: u32,
    pub ts_recent: u32,
    pub tsoffset: u32,
    /// First and last time stamp sent, between which an echo must lie.
    pub snt_tsval_first: u32,
    pub snt_tsval_last: u32,
    /// Peer's MSS (at most TCP_MAXSEG), and ours.
    pub mss: u16,
    pub advmss: u16,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub rcv_wnd: u32,
    pub window_clamp: u32,
    pub tstamp_ok: bool,
    pub sack_ok: bool,
    pub wscale_ok: bool,
    pub ecn_ok: bool,
    /// The third segment came but the accept queue was full, or data is awaited (TCP_DEFER_ACCEPT).
    pub acked: bool,
    /// SYN-ACKs sent again, and timeouts.
    pub num_retrans: u8,
    pub num_timeout: u8,
    /// When the first SYN-ACK went; 0 for a cookie.
    pub snt_synack_us: u64,
    pub timer: TimerSlot,
    pub last_oow_ms: u32,
    pub hash: u32,
    /// The headers of the SYN, for TCP_SAVED_SYN of the connection.
    pub saved_syn: Option<Box<[u8]>>,
    /// IP options of the SYN, which everything that goes back carries.
    pub ip_options: Option<Box<[u8]>>,
    /// The flow label of the SYN, where everything that goes back has it.
    pub flow_label: u32,
    /// Of the listener, or with tcp_fwmark_accept of the SYN.
    pub mark: u32,
    /// The SYN's, for tcp_reflect_tos.
    pub syn_tos: u8,
}

impl RequestSock {
    pub fn tuple(&self) -> Tuple {
        Tuple { laddr: self.laddr, raddr: self.raddr, lport: self.lport, rport: self.rport }
    }

    /// A SYN with its options, as settings and route allow them (`tcp_openreq_init`).
    pub(super) fn new(
        listener: TcpId,
        lsk: &TcpSock,
        t: &Tuple,
        skb: &Skb,
        o: &TcpOptions,
        (n, dst): (&NetNs, &Dst),
    ) -> Self {
        let s = &n.sysctl;
        let ecn_route = n.metrics.get(dst.metrics).is_some_and(|m| m.get(RTAX_FEATURES) & RTAX_FEATURE_ECN != 0);
        let ts = o.ts.filter(|_| s.tcp_timestamps != 0);
        let wscale = o.wscale.filter(|_| s.tcp_window_scaling != 0);
        let user = if lsk.snd.user_mss == 0 { u16::MAX } else { lsk.snd.user_mss };
        let mut req = RequestSock {
            listener,
            laddr: t.laddr,
            raddr: t.raddr,
            lport: t.lport,
            rport: t.rport,
            rcv_isn: skb.tcp.seq,
            snt_isn: 0,
            rcv_nxt: skb.tcp.seq.wrapping_add(1),
            ts_recent: ts.map_or(0, |t| t.0),
            tsoffset: 0,
            snt_tsval_first: 0,
            snt_tsval_last: 0,
            mss: o.mss.filter(|m| *m != 0).unwrap_or(536).min(user),
            advmss: 0,
            // RFC 7323 §2.3: more than 14 is 14.
            snd_wscale: wscale.unwrap_or(0).min(14),
            rcv_wscale: 0,
            rcv_wnd: 0,
            window_clamp: 0,
            tstamp_ok: ts.is_some(),
            sack_ok: o.sack_ok && s.tcp_sack != 0,
            wscale_ok: wscale.is_some(),
            ecn_ok: ecn::create_request(skb, s, ecn_route),
            acked: false,
            num_retrans: 0,
            num_timeout: 0,
            snt_synack_us: 0,
            timer: TimerSlot::default(),
            last_oow_ms: 0,
            hash: 0,
            saved_syn: None,
            ip_options: None,
            flow_label: 0,
            mark: request_mark(s, lsk, skb),
            syn_tos: if s.tcp_reflect_tos != 0 { ecn::ip_tos(skb) & !ecn::INET_ECN_MASK } else { 0 },
        };
        req.init_rwin(lsk, n, dst);
        req
    }

    /// MSS and window to announce on this route.
    #[doc(alias = "tcp_openreq_init_rwin")]
    fn init_rwin(&mut self, lsk: &TcpSock, n: &NetNs, dst: &Dst) {
        self.advmss = ack::advertised_mss(lsk, self.raddr, n, dst);
        let mss = u32::from(self.advmss) - if self.tstamp_ok { 12 } else { 0 };
        let w = ack::select_initial_window(ack::WindowSpace::of(lsk, n, dst), mss, self.wscale_ok);
        (self.rcv_wnd, self.window_clamp, self.rcv_wscale) = (w.rcv_wnd, w.window_clamp, w.wscale);
    }
}

impl Listener {
    /// More waiting for accept than the limit, which admits one more than it says.
    #[doc(alias = "sk_acceptq_is_full")]
    pub fn accept_full(&self) -> bool {
        self.accept.len() > self.max_ack_backlog as usize
    }

    #[doc(alias = "inet_csk_reqsk_queue_is_full")]
    pub fn requests_full(&self) -> bool {
        self.qlen > self.max_ack_backlog
    }
}

/// A packet that a listener could not take (`tcp_listendrop`).
pub(super) fn listen_drop(k: &mut Kernel, listener: TcpId, ns: NsId, skb: Skb, reason: DropReason, at: &'static str) {
    if let Some(sk) = k.socks.tcp.get_mut(listener) {
        sk.sk.drops = sk.sk.drops.wrapping_add(1);
        let now = k.net.env.now;
        if matches!(reason, DropReason::TcpListenOverflow | DropReason::TcpReqQFull)
            && let Some(n) = k.net.ns.get_mut(ns)
        {
            let what = Turned { reason, cookie: false, max_syn_backlog: n.sysctl.tcp_max_syn_backlog.max(0) as u32 };
            super::overflow::note(&mut n.tcp.account.overflows, sk, &Tuple::of_packet(&skb), what, now);
        }
    }
    k.net.inc(ns, Mib::TcpExtListenDrops);
    k.net.kfree_skb(skb, reason, at);
}

/// What becomes of a SYN before anything is stored.
enum Admit {
    Store,
    Cookie,
    Drop(DropReason),
}

/// The first three tests, in this order: requests, accept queue, what is kept for proven peers.
fn admit(net: &mut Net, ns: NsId, l: &Listener, t: &Tuple, again: bool) -> Admit {
    let Net { mem, ns: spaces, env, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return Admit::Drop(DropReason::NotSpecified) };
    let (cookies, backlog) = (n.sysctl.tcp_syncookies, n.sysctl.tcp_max_syn_backlog);
    let flood = cookies == 2 || l.requests_full();
    if flood && cookies == 0 {
        n.mib.inc(Mib::TcpExtTCPReqQFullDrop);
        return Admit::Drop(DropReason::TcpReqQFull);
    }
    if flood {
        n.mib.inc(Mib::TcpExtTCPReqQFullDoCookies);
    }
    if l.accept_full() {
        n.mib.inc(Mib::TcpExtListenOverflows);
        return Admit::Drop(DropReason::TcpListenOverflow);
    }
    match flood {
        true => Admit::Cookie,
        // Without cookies the last quarter of the backlog is for peers that are known.
        false
            if !again
                && cookies == 0
                && i64::from(backlog) - i64::from(l.qlen) < i64::from(backlog >> 2)
                && !metrics::peer_is_proven(&mut n.tcp.metrics, n.secret, (t.laddr, t.raddr), env.now) =>
        {
            Admit::Drop(DropReason::TcpReqQFull)
        }
        false if !mem.room(Kind::Request, &n.tcp.reqs, Gfp::Atomic) => Admit::Drop(DropReason::NoMem),
        false => Admit::Store,
    }
}

/// Says once for each listener that its requests are too many, unless cookies are what is wanted anyhow.
#[cold]
#[doc(alias = "tcp_syn_flood_action")]
fn warn_of_flood(net: &mut Net, ns: NsId, lsk: &mut TcpSock, skb: &Skb) {
    let cookies = net.ns.get(ns).map_or(0, |n| n.sysctl.tcp_syncookies);
    let Some(l) = lsk.listener.as_mut().filter(|_| cookies != 2) else { return };
    l.synflood_warned = true;
    let six = if matches!(Tuple::of_packet(skb).laddr, IpAddr::V6(_)) { "v6" } else { "" };
    let at = core::net::SocketAddr::new(lsk.sk.rcv_saddr, lsk.sk.num);
    let what = if cookies == 0 { "Dropping request" } else { "Sending cookies" };
    net.kmsg_ratelimited(&format!("TCP: request_sock_TCP{six}: Possible SYN flooding on port {at}. {what}."));
}

/// A SYN for a listener: stored and answered, answered with a cookie, or dropped without a word. With `skb.tcp.tw_isn`
/// it takes the place of a TIME_WAIT entry.
#[doc(alias = "tcp_v4_conn_request")]
pub fn tcp_conn_request(k: &mut Kernel, listener: TcpId, skb: Skb) {
    const AT: &str = "tcp_conn_request";
    let Kernel { socks, net, .. } = k;
    let (Some(ns), Some(lsk)) = (skb.ns, socks.tcp.get_mut(listener)) else {
        return net.kfree_skb(skb, DropReason::NoSocket, AT);
    };
    // RFC 1122 §4.2.3.10. A connection is with one host, not with any of several.
    let anycast = matches!(Tuple::of_packet(&skb).laddr, IpAddr::V6(a) if is_anycast(net, ns, skb.dev, a));
    if skb.pkt_type != PktType::Host
        || anycast
        || skb.dst.is_some_and(|d| d.kind != RouteKind::Local && d.kind != RouteKind::Unicast)
    {
        return listen_drop(k, listener, ns, skb, DropReason::IpInAddrErrors, AT);
    }
    let Some(l) = &lsk.listener else { return net.kfree_skb(skb, DropReason::TcpClose, AT) };
    if l.requests_full() && !l.synflood_warned {
        warn_of_flood(net, ns, lsk, &skb);
    }
    let Some(l) = &lsk.listener else { return net.kfree_skb(skb, DropReason::TcpClose, AT) };
    let again = skb.tcp.tw_isn != 0;
    let t = Tuple::of_packet(&skb);
    let cookie = match admit(net, ns, l, &t, again) {
        Admit::Store => false,
        Admit::Cookie => true,
        Admit::Drop(reason) => return listen_drop(k, listener, ns, skb, reason, AT),
    };
    let mut o = ipv4::options(&skb);
    if cookie && o.ts.is_none() {
        // Without time stamps there is no room for them in the cookie.
        o = TcpOptions { mss: o.mss, ..TcpOptions::default() };
    }
    let mark = net.ns.get(ns).map_or(0, |n| request_mark(&n.sysctl, lsk, &skb));
    let Ok(dst) = route(net, ns, lsk, &t, mark) else {
        return listen_drop(k, listener, ns, skb, DropReason::IpOutNoRoutes, AT);
    };
    let now = net.env.now;
    let Some(n) = net.ns.get_mut(ns) else { return };
    let mut req = RequestSock::new(listener, lsk, &t, &skb, &o, (n, &dst));
    req.hash = t.hash(n.secret);
    req.tsoffset = if n.sysctl.tcp_timestamps == 1 { isn::ts_offset(n.secret, t.laddr, t.raddr) } else { 0 };
    if cookie {
        req.ecn_ok &= o.ts.is_some();
        (req.snt_isn, req.mss) = cookies::cookie_init_sequence(n.secret, &t, req.rcv_isn, req.mss, now);
        n.mib.inc(Mib::TcpExtSyncookiesSent);
        if lsk.listener.as_ref().is_some_and(|l| l.requests_full()) {
            let what = Turned { reason: DropReason::TcpReqQFull, cookie: true, max_syn_backlog: 0 };
            super::overflow::note(&mut n.tcp.account.overflows, lsk, &t, what, now);
        }
        if let Some(l) = &mut lsk.listener {
            l.synq_overflow_us = (now / time::USEC).max(1);
        }
        let _ = send_synack(net, ns, lsk, &dst, &mut req, true, None);
        return net.consume_skb(skb);
    }
    req.saved_syn = save_syn(lsk, &skb);
    let echo = options::echo(options::of_skb(&skb));
    req.ip_options = (!echo.is_empty()).then(|| echo.into());
    if lsk.sk.v6_opts().is_some_and(|o| o.repflow) {
        req.flow_label = flowlabel::of_skb(&skb);
    }
    req.snt_isn = if again { skb.tcp.tw_isn } else { isn::secure_tcp_seq(n.secret, &t, now) };
    let mut skb = Some(skb);
    let (child, fresh) = fastopen::server::try_fastopen(k, ns, &mut req, &mut skb, &dst, o.fastopen);
    match child {
        Some(child) => {
            fastopen::server::first_synack(k, ns, child, req, fresh);
            k.tcp_settle(child);
            queue_child(k, listener, child);
        }
        None => {
            let Kernel { socks, net, .. } = k;
            let Some(lsk) = socks.tcp.get_mut(listener) else { return };
            let _ = send_synack(net, ns, lsk, &dst, &mut req, false, fresh);
            store(net, ns, lsk, req);
        }
    }
    if let Some(skb) = skb {
        k.net.consume_skb(skb);
    }
}

/// TCP_SAVE_SYN: the headers of the SYN from IP on (1), or from the link layer on (2).
#[doc(alias = "tcp_reqsk_record_syn")]
fn save_syn(lsk: &TcpSock, skb: &Skb) -> Option<Box<[u8]>> {
    let from = match lsk.rare.as_ref()?.save_syn {
        0 => return None,
        2 if skb.mac_header.checked_add(ETH_HLEN as u8) == Some(skb.network_header) => skb.mac_header,
        // Also of a device without a link layer.
        _ => skb.network_header,
    };
    let end = (usize::from(skb.tcp.header) + usize::from(skb.tcp.header_len)).checked_sub(from.into())?;
    Some(skb.head.at(from).get(..end)?.into())
}

pub(super) fn route(net: &mut Net, ns: NsId, lsk: &TcpSock, t: &Tuple, mark: u32) -> Result<Dst, Errno> {
    let ports = (t.lport, t.rport);
    let fl = Flow { daddr: lsk.sk.first_hop(t.raddr), saddr: t.laddr, ports, mark, ..Flow::of(&lsk.sk, IPPROTO_TCP) };
    af::route_output(net, ns, &fl)
}

/// Into ehash, with its timer (`inet_csk_reqsk_queue_hash_add`).
fn store(net: &mut Net, ns: NsId, lsk: &mut TcpSock, req: RequestSock) {
    let at = net.env.round_up(net.env.now + SEC);
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let hash = req.hash;
    let id = n.tcp.reqs.insert(req);
    n.tcp.insert(hash, EhashRef::Request(id));
    if let Some(req) = n.tcp.reqs.get_mut(id) {
        env.timers.arm(&mut req.timer, at, TimerKey::TcpRequest(ns, id));
    }
    if let Some(l) = &mut lsk.listener {
        l.qlen += 1;
        l.young += 1;
    }
}

/// Out of the tables and the listener's count (`inet_csk_reqsk_queue_drop`).
pub(super) fn drop_request(k: &mut Kernel, ns: NsId, id: ReqId, unhash: bool) -> Option<RequestSock> {
    let Net { env, ns: spaces, .. } = &mut k.net;
    let n = spaces.get_mut(ns)?;
    let mut req = n.tcp.reqs.remove(id)?;
    env.timers.remove(&mut req.timer);
    if unhash {
        n.tcp.remove(req.hash, EhashRef::Request(id));
    }
    if let Some(l) = k.socks.tcp.get_mut(req.listener).and_then(|sk| sk.listener.as_mut()) {
        l.qlen = l.qlen.saturating_sub(1);
        l.young = l.young.saturating_sub(u32::from(req.num_timeout == 0));
    }
    Some(req)
}

/// A segment for a half-open connection. `Some`: a child was made (or the cookie of one was found) and the segment is
/// its first.
pub fn tcp_check_req(k: &mut Kernel, ns: NsId, id: ReqId, skb: Skb) -> Option<(TcpId, Skb)> {
    let Some(req) = k.net.ns.get(ns).and_then(|n| n.tcp.reqs.get(id)).cloned() else {
        k.net.kfree_skb(skb, DropReason::NoSocket, "tcp_check_req");
        return None;
    };
    if k.socks.tcp.get(req.listener).is_none_or(|l| l.state != State::Listen) {
        // The listener is gone: the segment is for whoever listens now, or for nobody.
        drop_request(k, ns, id, true);
        return to_listener(k, ns, skb);
    }
    match judge(k, ns, id, &req, &skb) {
        Ok(()) => complete(k, ns, id, req, skb),
        Err(Refusal::Listener) => to_listener(k, ns, skb),
        Err(Refusal::Drop(reason)) => {
            k.net.kfree_skb(skb, reason, "tcp_check_req");
            None
        }
        Err(Refusal::Reset) => {
            ipv4::reset_for_listener(k, req.listener, &skb);
            embryonic_drop(k, ns, id, skb)
        }
        Err(Refusal::Remove) => embryonic_drop(k, ns, id, skb),
    }
}

/// Why a segment does not complete the handshake.
enum Refusal {
    /// The listener judges it: an acknowledgement of something that was never sent.
    Listener,
    Drop(DropReason),
    /// RST to the peer, request removed.
    Reset,
    /// Request removed.
    Remove,
}

fn embryonic_drop(k: &mut Kernel, ns: NsId, id: ReqId, skb: Skb) -> Option<(TcpId, Skb)> {
    if drop_request(k, ns, id, true).is_some() {
        k.net.inc(ns, Mib::TcpExtEmbryonicRsts);
    }
    k.net.kfree_skb(skb, DropReason::TcpReset, "tcp_check_req");
    None
}

fn put_back(net: &mut Net, ns: NsId, id: ReqId, f: impl FnOnce(&mut RequestSock)) {
    if let Some(req) = net.ns.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)) {
        f(req);
    }
}

/// The checks of RFC 9293 §3.10.7.4 for SYN-RECEIVED, in the order in which Linux makes them.
fn judge(k: &mut Kernel, ns: NsId, id: ReqId, req: &RequestSock, skb: &Skb) -> Result<(), Refusal> {
    let (cb, flags) = (&skb.tcp, skb.tcp.flags);
    let now_s = (k.net.env.now / SEC) as u32;
    let ts = ipv4::options(skb).ts.filter(|_| req.tstamp_ok);
    // The true time of the SYN's stamp is not kept; the age of the timer is near enough.
    let stamp = now_s.wrapping_sub((timeout(&k.net, ns, req) / SEC) as u32);
    let paws = ts.is_some_and(|(v, _)| paws_reject(req.ts_recent, stamp, v, flags.contains(Flags::RST), now_s));
    let ecr_bad = ts.is_some_and(|(_, e)| e != 0 && !between(e, req.snt_tsval_first, req.snt_tsval_last));
    let only = flags.0 & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN).0;
    let mut last = req.last_oow_ms;
    if cb.seq == req.rcv_isn && only == Flags::SYN.0 && !paws {
        // The same SYN again: the same SYN-ACK, and the timer counts from here.
        if !oow_rate_limited(&mut k.net, ns, skb, &mut last, Mib::TcpExtTCPACKSkippedSynRecv) {
            duplicate_syn(k, ns, id, req, last);
        }
        return Err(Refusal::Drop(DropReason::TcpInvalidSyn));
    }
    if flags.contains(Flags::ACK) && cb.ack != req.snt_isn.wrapping_add(1) {
        return Err(Refusal::Listener);
    }
    let next = req.rcv_isn.wrapping_add(1);
    if paws || ecr_bad || !in_window(cb.seq, cb.end_seq, next, next.wrapping_add(req.rcv_wnd)) {
        if !flags.contains(Flags::RST)
            && !oow_rate_limited(&mut k.net, ns, skb, &mut last, Mib::TcpExtTCPACKSkippedSynRecv)
        {
            put_back(&mut k.net, ns, id, |r| r.last_oow_ms = last);
            send_ack(k, ns, req, skb);
        }
        return Err(Refusal::Drop(match (paws, ecr_bad) {
            (true, _) => {
                k.net.inc(ns, Mib::TcpExtPAWSEstab);
                DropReason::TcpRfc7323Paws
            }
            (_, true) => {
                k.net.inc(ns, Mib::TcpExtTSEcrRejected);
                DropReason::TcpRfc7323Paws
            }
            _ => DropReason::TcpOverwindow,
        }));
    }
    if let Some((val, _)) = ts
        && !crate::net::tcp::seq::after(cb.seq, next)
    {
        put_back(&mut k.net, ns, id, |r| r.ts_recent = val);
    }
    // A SYN that repeats the first byte is cut off, another one is an error.
    let syn = flags.contains(Flags::SYN) && cb.seq != req.rcv_isn;
    if flags.contains(Flags::RST) || syn {
        k.net.inc(ns, Mib::TcpAttemptFails);
        return Err(if flags.contains(Flags::RST) { Refusal::Remove } else { Refusal::Reset });
    }
    if !flags.contains(Flags::ACK) {
        return Err(Refusal::Drop(DropReason::TcpFlags));
    }
    let defer = k.socks.tcp.get(req.listener).and_then(|l| l.listener.as_ref()).map_or(0, |l| l.defer_accept);
    if req.num_timeout < defer && cb.end_seq == next {
        put_back(&mut k.net, ns, id, |r| r.acked = true);
        k.net.inc(ns, Mib::TcpExtTCPDeferAcceptDrop);
        return Err(Refusal::Drop(DropReason::NotSpecified));
    }
    Ok(())
}

fn duplicate_syn(k: &mut Kernel, ns: NsId, id: ReqId, req: &RequestSock, last: u32) {
    let mut req = RequestSock { last_oow_ms: last, ..req.clone() };
    let sent = rtx_synack(k, ns, &mut req);
    let at = k.net.env.round_up(k.net.env.now + timeout(&k.net, ns, &req));
    let Net { env, ns: spaces, .. } = &mut k.net;
    if let Some(slot) = spaces.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)) {
        let timer = slot.timer;
        *slot = RequestSock { timer, ..req };
        if sent {
            env.timers.arm(&mut slot.timer, at, TimerKey::TcpRequest(ns, id));
        }
    }
}

/// A bare ACK in the name of the request (`tcp_v4_reqsk_send_ack`).
fn send_ack(k: &mut Kernel, ns: NsId, req: &RequestSock, skb: &Skb) {
    let Kernel { socks, net, .. } = k;
    let md5 = socks.tcp.get(req.listener).and_then(|l| md5sig::lookup(l, req.raddr));
    let ts = req.tstamp_ok.then(|| (net.env.now_ms().wrapping_add(req.tsoffset), req.ts_recent));
    let reply = Reply {
        seq: req.snt_isn.wrapping_add(1),
        ack: Some(req.rcv_isn.wrapping_add(1)),
        flags: Flags::ACK,
        window: (req.rcv_wnd >> req.rcv_wscale).min(65_535) as u16,
        ts,
        md5,
    };
    ipv4::send_reply(net, ns, skb, reply);
}

/// The segment as a listener sees it: a SYN opens, an ACK may be a cookie, otherwise RST.
fn to_listener(k: &mut Kernel, ns: NsId, skb: Skb) -> Option<(TcpId, Skb)> {
    let flags = skb.tcp.flags;
    let found = tables::lookup_listener(k, ns, &Tuple::of_packet(&skb), &skb);
    if let Some(l) = found {
        if flags.contains(Flags::SYN) && !flags.intersects(Flags::ACK | Flags::RST | Flags::FIN) {
            tcp_conn_request(k, l, skb);
            return None;
        }
        if flags.contains(Flags::ACK) && !flags.intersects(Flags::SYN | Flags::RST) {
            return match cookie_ack::cookie_check(k, l, skb) {
                Ok(child) => Some(child),
                Err(skb) => {
                    if let Some(skb) = skb {
                        ipv4::reset_for_listener(k, l, &skb);
                        k.net.kfree_skb(skb, DropReason::TcpInvalidAckSequence, "tcp_check_req");
                    }
                    None
                }
            };
        }
    }
    match found {
        Some(l) => ipv4::reset_for_listener(k, l, &skb),
        None => ipv4::reset_for_nobody(k, ns, &skb),
    }
    let reason = if found.is_some() { DropReason::TcpFlags } else { DropReason::NoSocket };
    k.net.kfree_skb(skb, reason, "tcp_check_req");
    None
}

/// The handshake is complete: a full socket in the accept queue, unless there is no room for it.
fn complete(k: &mut Kernel, ns: NsId, id: ReqId, req: RequestSock, skb: Skb) -> Option<(TcpId, Skb)> {
    let listener = req.listener;
    let full = k.socks.tcp.get(listener).and_then(|l| l.listener.as_ref()).is_none_or(|l| l.accept_full());
    if full {
        k.net.inc(ns, Mib::TcpExtListenOverflows);
        let abort = k.net.ns.get(ns).is_some_and(|n| n.sysctl.tcp_abort_on_overflow != 0);
        if !abort {
            put_back(&mut k.net, ns, id, |r| r.acked = true);
            listen_drop(k, listener, ns, skb, DropReason::TcpListenOverflow, "tcp_v4_syn_recv_sock");
            return None;
        }
        k.net.inc(ns, Mib::TcpExtListenDrops);
        ipv4::reset_for_listener(k, listener, &skb);
        return embryonic_drop(k, ns, id, skb);
    }
    let Some(child) = syn_recv_sock(k, ns, &req, &skb) else {
        listen_drop(k, listener, ns, skb, DropReason::IpOutNoRoutes, "tcp_v4_syn_recv_sock");
        return None;
    };
    if let Some(n) = k.net.ns.get_mut(ns) {
        n.tcp.replace(req.hash, EhashRef::Request(id), EhashRef::Sock(child));
    }
    drop_request(k, ns, id, false);
    queue_child(k, listener, child);
    Some((child, skb))
}

/// An ICMP error that quotes our SYN-ACK: a hard one ends the request.
#[doc(alias = "tcp_req_err")]
pub fn icmp_error(k: &mut Kernel, ns: NsId, id: ReqId, seq: u32, errno: Errno) {
    let Some(req) = k.net.ns.get(ns).and_then(|n| n.tcp.reqs.get(id)) else { return };
    if seq != req.snt_isn {
        return k.net.inc(ns, Mib::TcpExtOutOfWindowIcmps);
    }
    if matches!(errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EPROTO)
        && let Some(req) = drop_request(k, ns, id, true)
    {
        if let Some(sk) = k.socks.tcp.get_mut(req.listener) {
            sk.sk.drops = sk.sk.drops.wrapping_add(1);
        }
        k.net.inc(ns, Mib::TcpExtListenDrops);
    }
}
