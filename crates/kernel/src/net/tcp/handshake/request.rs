//! A half-open connection (`struct tcp_request_sock`): lives in ehash, counted by its listener. A SYN makes one, the third
//! segment turns it into a child in the accept queue.
use super::{cookies, isn, synack};
use crate::env::timers::Fire;
use crate::env::{Jiffies, MSEC, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::SOCK_BINDPORT_LOCK;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::input::{READABLE, destroy};
use crate::net::tcp::ipv4::{self, options, send_reset};
use crate::net::tcp::output::{ack, transmit};
use crate::net::tcp::seq::{after, before};
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, EhashRef, Tuple};
use crate::net::tcp::{inc, set_state, setting, wake};
use crate::task::wait::WaitHead;
use belljar_wire::tcp::{Flags, TcpOptions};
use core::net::Ipv4Addr;

#[derive(Clone, Debug)]
pub struct RequestSock {
    pub listener: TcpId,
    pub laddr: Ipv4Addr,
    pub raddr: Ipv4Addr,
    pub lport: u16,
    pub rport: u16,
    pub rcv_isn: u32,
    pub snt_isn: u32,
    pub ts_recent: u32,
    pub tsoffset: u32,
    /// What the peer announced.
    pub mss: u16,
    pub advmss: u16,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub rcv_wnd: u32,
    pub window_clamp: u32,
    pub tstamp_ok: bool,
    pub sack_ok: bool,
    pub wscale_ok: bool,
    /// The third segment came but the accept queue was full, or data is awaited.
    pub acked: bool,
    pub num_retrans: u8,
    pub num_timeout: u8,
    pub snt_synack_us: u64,
    pub timer: TimerSlot,
    pub last_oow_ms: u32,
    pub hash: u32,
}

impl RequestSock {
    pub fn tuple(&self) -> Tuple {
        Tuple { laddr: self.laddr, raddr: self.raddr, lport: self.lport, rport: self.rport }
    }
}

/// `tcp_listendrop`: whatever a listener had to drop.
fn listen_drop(net: &mut Net, sk: &mut TcpSock) {
    sk.sk.drops = sk.sk.drops.wrapping_add(1);
    inc(net, sk, Mib::TcpExtListenDrops);
}

/// A SYN for a listener. The order of the tests is Linux's: request queue, accept queue, backlog reserve.
pub fn tcp_conn_request(k: &mut Kernel, listener: TcpId, skb: Skb) {
    const AT: &str = "tcp_conn_request";
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(listener) else { return net.kfree_skb(skb, DropReason::NoSocket, AT) };
    let cookies_mode = setting(net, sk, |s| s.tcp_syncookies);
    let Some(l) = sk.listener.as_deref() else { return net.kfree_skb(skb, DropReason::NoSocket, AT) };
    let (limit, qlen, waiting) = (l.max_ack_backlog, l.qlen, l.accept.len() as u32);
    let mut want_cookie = cookies_mode == 2;
    if qlen > limit || cookies_mode == 2 {
        if cookies_mode == 0 {
            inc(net, sk, Mib::TcpExtTCPReqQFullDrop);
            listen_drop(net, sk);
            return net.kfree_skb(skb, DropReason::TcpReqQFull, AT);
        }
        want_cookie = true;
        inc(net, sk, Mib::TcpExtTCPReqQFullDoCookies);
    }
    if waiting > limit {
        inc(net, sk, Mib::TcpExtListenOverflows);
        listen_drop(net, sk);
        return net.kfree_skb(skb, DropReason::TcpListenOverflow, AT);
    }
    // Without cookies the last quarter of tcp_max_syn_backlog is for peers that proved to be alive.
    let backlog = setting(net, sk, |s| s.tcp_max_syn_backlog);
    if cookies_mode == 0 && !want_cookie && i64::from(backlog) - i64::from(qlen) < i64::from(backlog >> 2) {
        listen_drop(net, sk);
        return net.kfree_skb(skb, DropReason::TcpReqQFull, AT);
    }
    let o = options(&skb);
    let Some(mut req) = new_request(sk, net, listener, &skb, &o) else {
        listen_drop(net, sk);
        return net.kfree_skb(skb, DropReason::IpOutNoRoutes, AT);
    };
    if want_cookie {
        cookies::prepare(&mut req, &skb, net, sk.sk.ns);
        if let Some(l) = &mut sk.listener {
            l.synq_overflow_us = net.env.now_us().max(1);
        }
        inc(net, sk, Mib::TcpExtSyncookiesSent);
        synack::send(net, sk, &req, skb.priority);
        return net.consume_skb(skb);
    }
    synack::send(net, sk, &req, skb.priority);
    store(net, sk, req);
    net.consume_skb(skb);
}

/// What the SYN says, and what we answer. `None` without a route back.
fn new_request(sk: &TcpSock, net: &mut Net, listener: TcpId, skb: &Skb, o: &TcpOptions) -> Option<RequestSock> {
    let t = Tuple::of_packet(skb);
    let dst = synack::route(net, sk, &t)?;
    let now = net.env.now;
    let n = net.ns.get(sk.sk.ns)?;
    let s = &n.sysctl;
    let tstamp_ok = s.tcp_timestamps != 0 && o.ts.is_some();
    let wscale_ok = s.tcp_window_scaling != 0 && o.wscale.is_some();
    let advmss = ack::advertised_mss(sk, dst.mtu);
    let space = ack::WindowSpace::of(sk, s);
    let payload = u32::from(advmss) - if tstamp_ok { 12 } else { 0 };
    let win = ack::select_initial_window(space, payload, wscale_ok);
    Some(RequestSock {
        listener,
        laddr: t.laddr,
        raddr: t.raddr,
        lport: t.lport,
        rport: t.rport,
        rcv_isn: skb.tcp.seq,
        snt_isn: isn::secure_tcp_seq(n.secret, &t, now),
        ts_recent: o.ts.map_or(0, |ts| ts.0),
        tsoffset: if s.tcp_timestamps == 1 { isn::ts_offset(n.secret, t.laddr, t.raddr) } else { 0 },
        mss: o.mss.unwrap_or(536),
        advmss,
        snd_wscale: o.wscale.unwrap_or(0).min(14),
        rcv_wscale: win.wscale,
        rcv_wnd: win.rcv_wnd,
        window_clamp: win.window_clamp,
        tstamp_ok,
        sack_ok: s.tcp_sack != 0 && o.sack_ok,
        wscale_ok,
        acked: false,
        num_retrans: 0,
        num_timeout: 0,
        snt_synack_us: now / 1000,
        timer: TimerSlot::default(),
        last_oow_ms: 0,
        hash: t.hash(n.secret),
    })
}

/// Into ehash, counted, with its timer (`inet_csk_reqsk_queue_hash_add`).
fn store(net: &mut Net, sk: &mut TcpSock, req: RequestSock) {
    let Net { env, ns, .. } = net;
    let Some(n) = ns.get_mut(sk.sk.ns) else { return };
    let hash = req.hash;
    let id = n.tcp.reqs.insert(req);
    n.tcp.insert(hash, EhashRef::Request(id));
    if let Some(l) = &mut sk.listener {
        l.qlen += 1;
        l.young += 1;
    }
    if let Some(req) = n.tcp.reqs.get_mut(id) {
        let at = time::round_up(env.now + SEC, env.hz);
        env.timers.arm(&mut req.timer, at, TimerKey::TcpRequest(sk.sk.ns, id));
    }
}

/// Takes a request out of everything.
fn drop_request(k: &mut Kernel, ns: NsId, id: ReqId) -> Option<RequestSock> {
    let Kernel { socks, net, .. } = k;
    let n = net.ns.get_mut(ns)?;
    let req = n.tcp.reqs.remove(id)?;
    n.tcp.remove(req.hash, EhashRef::Request(id));
    if let Some(l) = socks.tcp.get_mut(req.listener).and_then(|s| s.listener.as_deref_mut()) {
        l.qlen = l.qlen.saturating_sub(1);
        if req.num_timeout == 0 {
            l.young = l.young.saturating_sub(1);
        }
    }
    Some(req)
}

/// No third segment yet: SYN-ACK again, or the end (`reqsk_timer_handler`).
#[doc(alias = "reqsk_timer_handler")]
pub fn request_timer(k: &mut Kernel, ns: NsId, id: ReqId, at: Jiffies) {
    let Kernel { socks, net, .. } = k;
    let now = net.env.jiffies();
    let Net { env, ns: spaces, .. } = net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let Some(req) = n.tcp.reqs.get_mut(id) else { return };
    if env.timers.look(&mut req.timer, at, now, TimerKey::TcpRequest(ns, id)) != Fire::Due {
        return;
    }
    let req = req.clone();
    let Some(sk) = socks.tcp.get_mut(req.listener) else {
        drop_request(k, ns, id);
        return;
    };
    let Some(l) = sk.listener.as_deref() else { return };
    let own = sk.tune.as_ref().map_or(0, |t| u32::from(t.syn_retries));
    let mut most = if own != 0 { own } else { setting(net, sk, |s| s.tcp_synack_retries) };
    // A crowded queue gives old requests up sooner.
    if l.qlen << 1 > l.max_ack_backlog.max(8) {
        let mut young = l.young << 1;
        while most > 2 && l.qlen >= young {
            most -= 1;
            young <<= 1;
        }
    }
    let (n_out, defer) = (u32::from(req.num_timeout), u32::from(l.defer_accept));
    let expire = if defer == 0 { n_out >= most } else { n_out >= most && (!req.acked || n_out >= defer) };
    let resend = defer == 0 || !req.acked || n_out + 1 >= defer;
    if expire {
        drop_request(k, ns, id);
        return;
    }
    if resend {
        synack::send(net, sk, &req, 0);
        inc(net, sk, Mib::TcpRetransSegs);
        inc(net, sk, Mib::TcpExtTCPSynRetrans);
    }
    if req.num_timeout == 0
        && let Some(l) = &mut sk.listener
    {
        l.young = l.young.saturating_sub(1);
    }
    let rto_max = u64::from(setting(net, sk, |s| s.tcp_rto_max_ms)) * MSEC;
    let Net { env, ns: spaces, .. } = net;
    if let Some(req) = spaces.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)) {
        req.num_timeout = req.num_timeout.saturating_add(1);
        req.num_retrans = req.num_retrans.saturating_add(u8::from(resend));
        let wait = (SEC << req.num_timeout.min(20)).min(rto_max);
        let at = time::round_up(env.now + wait, env.hz);
        env.timers.arm(&mut req.timer, at, TimerKey::TcpRequest(ns, id));
    }
}

/// A segment for a request. The child and the segment when the handshake is complete (`tcp_check_req`).
pub fn tcp_check_req(k: &mut Kernel, ns: NsId, id: ReqId, skb: Skb) -> Option<(TcpId, Skb)> {
    const AT: &str = "tcp_check_req";
    let req = k.net.ns.get(ns)?.tcp.reqs.get(id)?.clone();
    let (flags, cb, o) = (skb.tcp.flags, skb.tcp, options(&skb));
    let paws = req.tstamp_ok && o.ts.is_some_and(|(val, _)| before(val, req.ts_recent));
    let plain_syn = flags & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN) == Flags::SYN;
    if cb.seq == req.rcv_isn && plain_syn && !paws {
        // The SYN again: our answer was lost.
        if !rate_limited(k, ns, id) {
            answer_again(k, &req);
        }
        k.net.consume_skb(skb);
        return None;
    }
    if flags.contains(Flags::ACK) && cb.ack != req.snt_isn.wrapping_add(1) {
        send_reset(&mut k.net, &skb, None);
        k.net.kfree_skb(skb, DropReason::TcpInvalidAckSequence, AT);
        return None;
    }
    let first = req.rcv_isn.wrapping_add(1);
    if paws || !in_window(cb.seq, cb.end_seq, first, first.wrapping_add(req.rcv_wnd)) {
        // RFC 9293 §3.10.7.4: acknowledge what does not fit, unless it is a RST.
        if !flags.contains(Flags::RST) && !rate_limited(k, ns, id) {
            send_request_ack(k, ns, &req, &skb);
        }
        if paws {
            k.net.inc(ns, Mib::TcpExtPAWSEstab);
        }
        k.net.kfree_skb(skb, if paws { DropReason::TcpRfc7323Paws } else { DropReason::TcpInvalidSequence }, AT);
        return None;
    }
    if let (Some((val, _)), Some(r)) = (o.ts, k.net.ns.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)))
        && !after(cb.seq, first)
    {
        r.ts_recent = val;
    }
    let syn = flags.contains(Flags::SYN) && cb.seq != req.rcv_isn;
    if flags.contains(Flags::RST) || syn {
        if syn {
            send_reset(&mut k.net, &skb, None);
        }
        k.net.inc(ns, Mib::TcpAttemptFails);
        k.net.inc(ns, Mib::TcpExtEmbryonicRsts);
        drop_request(k, ns, id);
        k.net.kfree_skb(skb, DropReason::TcpReset, AT);
        return None;
    }
    if !flags.contains(Flags::ACK) {
        k.net.kfree_skb(skb, DropReason::TcpFlags, AT);
        return None;
    }
    if awaits_data(k, &req, cb.end_seq == first) {
        k.net.inc(ns, Mib::TcpExtTCPDeferAcceptDrop);
        mark_acked(k, ns, id);
        k.net.kfree_skb(skb, DropReason::NotSpecified, AT);
        return None;
    }
    complete(k, ns, id, req, skb)
}

/// The accept queue takes it, or not (`tcp_v4_syn_recv_sock`).
fn complete(k: &mut Kernel, ns: NsId, id: ReqId, req: RequestSock, skb: Skb) -> Option<(TcpId, Skb)> {
    if accept_queue_full(k, req.listener) {
        overflow(k, req.listener);
        if k.net.ns.get(ns).is_some_and(|n| n.sysctl.tcp_abort_on_overflow != 0) {
            send_reset(&mut k.net, &skb, None);
            k.net.inc(ns, Mib::TcpExtEmbryonicRsts);
            drop_request(k, ns, id);
        } else {
            mark_acked(k, ns, id);
        }
        k.net.kfree_skb(skb, DropReason::TcpListenOverflow, "tcp_v4_syn_recv_sock");
        return None;
    }
    let mut req = drop_request(k, ns, id).unwrap_or(req);
    if let Some((val, _)) = options(&skb).ts {
        req.ts_recent = val;
    }
    let child = create_child(k, &req)?;
    Some((child, skb))
}

pub(super) fn accept_queue_full(k: &Kernel, listener: TcpId) -> bool {
    let l = k.socks.tcp.get(listener).and_then(|s| s.listener.as_deref());
    l.is_none_or(|l| l.accept.len() as u32 > l.max_ack_backlog)
}

pub(super) fn overflow(k: &mut Kernel, listener: TcpId) {
    let Kernel { socks, net, .. } = k;
    if let Some(sk) = socks.tcp.get_mut(listener) {
        inc(net, sk, Mib::TcpExtListenOverflows);
        listen_drop(net, sk);
    }
}

fn awaits_data(k: &Kernel, req: &RequestSock, bare: bool) -> bool {
    let l = k.socks.tcp.get(req.listener).and_then(|s| s.listener.as_deref());
    bare && l.is_some_and(|l| req.num_timeout < l.defer_accept)
}

fn mark_acked(k: &mut Kernel, ns: NsId, id: ReqId) {
    if let Some(r) = k.net.ns.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)) {
        r.acked = true;
    }
}

fn in_window(seq: u32, end: u32, low: u32, high: u32) -> bool {
    seq == low || (after(end, low) && before(seq, high)) || (seq == high && seq == end)
}

fn rate_limited(k: &mut Kernel, ns: NsId, id: ReqId) -> bool {
    let now = k.net.env.now_ms().max(1);
    let Some(n) = k.net.ns.get_mut(ns) else { return true };
    let limit = n.sysctl.tcp_invalid_ratelimit;
    let Some(r) = n.tcp.reqs.get_mut(id) else { return true };
    if r.last_oow_ms != 0 && now.wrapping_sub(r.last_oow_ms) < limit {
        n.mib.inc(Mib::TcpExtTCPACKSkippedSynRecv);
        return true;
    }
    r.last_oow_ms = now;
    false
}

fn answer_again(k: &mut Kernel, req: &RequestSock) {
    let Kernel { socks, net, .. } = k;
    if let Some(sk) = socks.tcp.get_mut(req.listener) {
        synack::send(net, sk, req, 0);
        inc(net, sk, Mib::TcpRetransSegs);
        inc(net, sk, Mib::TcpExtTCPSynRetrans);
    }
}

fn send_request_ack(k: &mut Kernel, ns: NsId, req: &RequestSock, skb: &Skb) {
    let ts = req.tstamp_ok.then(|| (k.net.env.now_ms().wrapping_add(req.tsoffset), req.ts_recent));
    let reply = ipv4::Reply {
        seq: req.snt_isn.wrapping_add(1),
        ack: Some(req.rcv_isn.wrapping_add(1)),
        flags: Flags::ACK,
        window: (req.rcv_wnd >> req.rcv_wscale).min(65_535) as u16,
        ts,
    };
    ipv4::send_reply(&mut k.net, ns, skb, reply);
}

/// A full socket from the request, in SYN_RECV, at the end of the accept queue (`tcp_create_openreq_child`).
#[doc(alias = "tcp_create_openreq_child")]
pub(super) fn create_child(k: &mut Kernel, req: &RequestSock) -> Option<TcpId> {
    let Kernel { socks, net, .. } = k;
    let parent = socks.tcp.get(req.listener)?;
    let ns = parent.sk.ns;
    let mut sk = TcpSock::new(parent.sk.clone(), &net.ns.get(ns)?.sysctl);
    sk.sk.rcvbuf = parent.sk.rcvbuf;
    sk.sk.sndbuf = parent.sk.sndbuf;
    (sk.sk.wait, sk.sk.file, sk.sk.inode, sk.sk.err, sk.sk.drops) = (WaitHead::default(), None, 0, 0, 0);
    sk.sk.userlocks &= !SOCK_BINDPORT_LOCK;
    (sk.sk.rcv_saddr, sk.sk.saddr, sk.sk.daddr, sk.sk.dport) = (req.laddr, req.laddr, req.raddr, req.rport);
    sk.flags = TcpFlags {
        tstamp_ok: req.tstamp_ok,
        wscale_ok: req.wscale_ok,
        sack_ok: req.sack_ok,
        nodelay: parent.flags.nodelay,
        cork: parent.flags.cork,
        inq: parent.flags.inq,
        ..TcpFlags::default()
    };
    sk.tune = parent.tune.clone();
    sk.cong = crate::net::tcp::cong::Cong::new(parent.cong.name());
    sk.snd.user_mss = parent.snd.user_mss;
    sk.parent = Some(req.listener);
    let first = req.rcv_isn.wrapping_add(1);
    (sk.rcv.nxt, sk.rcv.wup, sk.rcv.copied_seq, sk.rcv.space_seq) = (first, first, first, first);
    sk.rcv.wnd = req.rcv_wnd;
    sk.rcv.ssthresh = req.rcv_wnd;
    sk.rcv.window_clamp = req.window_clamp;
    sk.rcv.advmss = req.advmss;
    if req.wscale_ok {
        (sk.rcv.wscale, sk.snd.wscale) = (req.rcv_wscale, req.snd_wscale);
    } else {
        sk.rcv.window_clamp = sk.rcv.window_clamp.min(65_535);
    }
    if req.tstamp_ok {
        sk.rcv.ts_recent = req.ts_recent;
        sk.rcv.ts_recent_stamp = ((net.env.now / SEC) as u32).max(1);
        sk.tsoffset = req.tsoffset;
    }
    let ours = req.snt_isn.wrapping_add(1);
    (sk.snd.una, sk.snd.nxt, sk.snd.sml) = (ours, ours, ours);
    (sk.snd.write_seq, sk.snd.pushed_seq) = (ours, ours);
    sk.snd.mss_clamp = req.mss;
    sk.loss.total_retrans = u32::from(req.num_retrans);
    sk.loss.retransmits = req.num_retrans;
    sk.state = State::SynRecv;
    if req.num_retrans == 0 && req.snt_synack_us != 0 {
        let us = net.env.now_us().saturating_sub(req.snt_synack_us);
        crate::net::tcp::input::ack::take_rtt(&mut sk, net, us.min(u64::from(u32::MAX >> 4)) as u32);
    }
    inc(net, &sk, Mib::TcpPassiveOpens);
    let id = socks.tcp.insert(sk);
    let sk = socks.tcp.get_mut(id)?;
    if let Some(n) = net.ns.get_mut(ns) {
        sk.bind = Some(n.tcp.hold(req.lport, Some(tables::Class::of(sk))));
    }
    tables::hash(net, sk, id);
    let parent = socks.tcp.get_mut(req.listener)?;
    if let Some(l) = &mut parent.listener {
        l.accept.push_back(id);
    }
    wake(net, parent, req.listener, READABLE);
    Some(id)
}

/// The ACK may carry a cookie (`tcp_v4_cookie_check`). `Err(Some)`: answer with RST.
pub fn cookie_check(k: &mut Kernel, listener: TcpId, skb: Skb) -> Result<(TcpId, Skb), Option<Skb>> {
    cookies::cookie_v4_check(k, listener, skb)
}

/// An ICMP error about a SYN-ACK of ours: the request is over (`tcp_req_err`).
pub fn icmp_error(k: &mut Kernel, ns: NsId, id: ReqId, seq: u32) {
    let Some(req) = k.net.ns.get(ns).and_then(|n| n.tcp.reqs.get(id)) else { return };
    if seq != req.snt_isn {
        return k.net.inc(ns, Mib::TcpExtOutOfWindowIcmps);
    }
    if let Some(req) = drop_request(k, ns, id) {
        let Kernel { socks, net, .. } = k;
        if let Some(sk) = socks.tcp.get_mut(req.listener) {
            listen_drop(net, sk);
        }
    }
}

/// The oldest established connection, taken out of the queue (`inet_csk_accept`).
#[doc(alias = "inet_csk_accept")]
pub fn accept(k: &mut Kernel, listener: TcpId) -> Option<TcpId> {
    let id = k.socks.tcp.get_mut(listener)?.listener.as_mut()?.accept.pop_front()?;
    if let Some(child) = k.socks.tcp.get_mut(id) {
        child.parent = None;
    }
    Some(id)
}

/// Puts a connection back to the front: its descriptor could not be made.
pub fn unaccept(k: &mut Kernel, listener: TcpId, child: TcpId) {
    if let Some(sk) = k.socks.tcp.get_mut(child) {
        sk.parent = Some(listener);
    }
    if let Some(l) = k.socks.tcp.get_mut(listener).and_then(|s| s.listener.as_mut()) {
        l.accept.push_front(child);
    }
}

/// The listener closes: half-open ones vanish, established ones are reset (`inet_csk_listen_stop`).
#[doc(alias = "inet_csk_listen_stop")]
pub fn listen_stop(k: &mut Kernel, listener: TcpId) {
    let Some(sk) = k.socks.tcp.get_mut(listener) else { return };
    let (ns, port) = (sk.sk.ns, sk.sk.num);
    let queue = sk.listener.take().map(|l| l.accept).unwrap_or_default();
    if let Some(n) = k.net.ns.get_mut(ns) {
        if let Some(ids) = n.tcp.listeners.get_mut(&port) {
            ids.retain(|l| *l != listener);
            if ids.is_empty() {
                n.tcp.listeners.remove(&port);
            }
        }
        let mine: Vec<ReqId> = n.tcp.reqs.iter().filter(|(_, r)| r.listener == listener).map(|(id, _)| id).collect();
        for id in mine {
            drop_request(k, ns, id);
        }
    }
    let Kernel { socks, net, .. } = k;
    for child in queue {
        let Some(sk) = socks.tcp.get_mut(child) else { continue };
        sk.parent = None;
        sk.sk.flags.dead = true;
        if sk.state == State::Close {
            destroy(sk, net, child);
            continue;
        }
        transmit::send_active_reset(sk, net, child);
        crate::net::tcp::input::tcp_done(sk, net, child);
    }
    if let Some(sk) = socks.tcp.get_mut(listener) {
        set_state(net, sk, listener, State::Close);
        tables::reclass(net, sk);
    }
}
