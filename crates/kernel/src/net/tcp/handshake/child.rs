//! The connection that a request becomes: what it inherits and what was agreed, the queue where it waits for accept, and
//! what happens there when the listener stops.
use super::request::{RequestSock, route};
use crate::env::SEC;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::sock::SOCK_BINDPORT_LOCK;
use crate::net::mib::Mib;
use crate::net::tcp::input::{READABLE, destroy};
use crate::net::tcp::output::segment;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, Class, EhashRef};
use crate::net::tcp::{close, set_state, wake};

/// A child with what it inherits from its listener and what the handshake agreed on; not in ehash yet.
#[doc(alias = "tcp_v4_syn_recv_sock")]
#[doc(alias = "tcp_create_openreq_child")]
pub(super) fn syn_recv_sock(k: &mut Kernel, ns: NsId, req: &RequestSock, skb: &Skb) -> Option<TcpId> {
    let Kernel { socks, net, .. } = k;
    let lsk = socks.tcp.get(req.listener)?;
    let dst = route(net, ns, lsk, &req.tuple()).ok()?;
    let mut child = inherit(lsk, &net.ns.get(ns)?.sysctl);
    child.sk.rcv_saddr = req.laddr;
    child.sk.saddr = req.laddr;
    child.sk.daddr = req.raddr;
    child.sk.num = req.lport;
    child.sk.dport = req.rport;
    child.parent = Some(req.listener);
    child.dst = Some(dst);
    child.ehash = Some(req.hash);
    child.txhash = req.hash | 1;
    agree(&mut child, req, skb, net);
    segment::sync_mss(&mut child, net, dst.mtu);
    if req.snt_synack_us != 0 && req.num_retrans == 0 {
        // The SYN-ACK's round trip (Karn: not if it was sent twice).
        let us = net.env.now_us().saturating_sub(req.snt_synack_us).clamp(1, u64::from(u32::MAX >> 4));
        crate::net::tcp::input::ack::take_rtt(&mut child, net, us as u32);
    }
    let n = net.ns.get_mut(ns)?;
    child.bind = Some(n.tcp.bhash.hold(req.lport, Class::of(&child)));
    n.mib.inc(Mib::TcpPassiveOpens);
    Some(socks.tcp.insert(child))
}

/// `sk_clone`: options go over, queues, errors and the place in tables do not.
fn inherit(lsk: &TcpSock, sysctl: &crate::net::sysctl::Sysctl) -> TcpSock {
    let mut sk = lsk.sk.clone();
    sk.wait = Default::default();
    sk.file = None;
    sk.inode = 0;
    sk.shutdown = 0;
    (sk.err, sk.err_soft, sk.drops) = (0, 0, 0);
    (sk.rmem_alloc, sk.wmem_alloc, sk.wmem_queued) = (0, 0, 0);
    sk.flags.dead = false;
    if let Some(c) = &mut sk.cold {
        (c.errors, c.omem, c.zc) = Default::default();
    }
    sk.userlocks &= !SOCK_BINDPORT_LOCK;
    let (rcvbuf, sndbuf) = (sk.rcvbuf, sk.sndbuf);
    let mut child = TcpSock::new(sk, sysctl);
    (child.sk.rcvbuf, child.sk.sndbuf) = (rcvbuf, sndbuf);
    child.state = State::SynRecv;
    child.tune = lsk.tune.clone();
    child.cong = super::super::cong::Cong::new(lsk.cong.name());
    child.snd.user_mss = lsk.snd.user_mss;
    let f = &lsk.flags;
    child.flags.nodelay = f.nodelay;
    child.flags.pacing = f.pacing;
    child.flags.cork = f.cork;
    child.flags.inq = f.inq;
    child.flags.quickack_off = f.quickack_off;
    child
}

/// Numbers, windows and options of the handshake.
fn agree(c: &mut TcpSock, req: &RequestSock, skb: &Skb, net: &Net) {
    c.flags.tstamp_ok = req.tstamp_ok;
    c.flags.sack_ok = req.sack_ok;
    c.flags.wscale_ok = req.wscale_ok;
    c.flags.ecn = if req.ecn_ok { crate::net::tcp::input::ecn::TCP_ECN_OK } else { 0 };
    let (snd, rcv) = (req.snt_isn.wrapping_add(1), req.rcv_isn.wrapping_add(1));
    let s = &mut c.snd;
    (s.una, s.nxt, s.write_seq, s.sml, s.pushed_seq) = (snd, snd, snd, snd, snd);
    s.wl1 = req.rcv_isn;
    s.wscale = req.snd_wscale;
    s.mss_clamp = req.mss;
    s.wnd = u32::from(skb.tcp.window) << req.snd_wscale;
    s.max_window = s.wnd;
    let r = &mut c.rcv;
    (r.nxt, r.wup, r.copied_seq, r.space_seq) = (rcv, rcv, rcv, rcv);
    r.wnd = req.rcv_wnd;
    r.ssthresh = req.rcv_wnd;
    r.window_clamp = if req.wscale_ok { req.window_clamp } else { req.window_clamp.min(65_535) };
    r.wscale = req.rcv_wscale;
    r.advmss = req.advmss;
    if req.tstamp_ok {
        r.ts_recent = req.ts_recent;
        r.ts_recent_stamp = ((net.env.now / SEC) as u32).max(1);
        c.tsoffset = req.tsoffset;
    }
    c.loss.total_retrans = u32::from(req.num_retrans);
    c.loss.retransmits = req.num_timeout;
    c.totals.segs_in = 1;
}

/// To the end of the accept queue; one sleeper wakes (`inet_csk_reqsk_queue_add`).
pub(super) fn queue_child(k: &mut Kernel, listener: TcpId, child: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(lsk) = socks.tcp.get_mut(listener) else { return };
    if let Some(l) = &mut lsk.listener {
        l.accept.push_back(child);
    }
    wake(net, lsk, listener, READABLE);
}

/// The oldest connection that waits for accept.
#[doc(alias = "inet_csk_accept")]
pub fn accept(k: &mut Kernel, listener: TcpId) -> Option<TcpId> {
    loop {
        let child = k.socks.tcp.get_mut(listener)?.listener.as_mut()?.accept.pop_front()?;
        if let Some(sk) = k.socks.tcp.get_mut(child) {
            (sk.parent, sk.flags.connected) = (None, true);
            return Some(child);
        }
    }
}

/// Puts a connection back to the front: its descriptor could not be made.
pub fn unaccept(k: &mut Kernel, listener: TcpId, child: TcpId) {
    if let Some(sk) = k.socks.tcp.get_mut(child) {
        (sk.parent, sk.flags.connected) = (Some(listener), false);
    }
    if let Some(l) = k.socks.tcp.get_mut(listener).and_then(|s| s.listener.as_mut()) {
        l.accept.push_front(child);
    }
}

/// The listener stops (close, shutdown, AF_UNSPEC): nobody finds it any more, half-open requests vanish, what waited for
/// accept is reset.
#[doc(alias = "inet_csk_listen_stop")]
pub fn listen_stop(k: &mut Kernel, id: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    let (ns, port) = (sk.sk.ns, sk.sk.num);
    let waiting = sk.listener.take().map(|l| l.accept).unwrap_or_default();
    let Net { env, ns: spaces, .. } = net;
    if let Some(n) = spaces.get_mut(ns) {
        if let Some(ids) = n.tcp.listeners.get_mut(&port) {
            ids.retain(|l| *l != id);
            if ids.is_empty() {
                n.tcp.listeners.remove(&port);
            }
        }
        let mine: Vec<ReqId> = n.tcp.reqs.iter().filter(|(_, r)| r.listener == id).map(|(id, _)| id).collect();
        for req in mine {
            if let Some(mut r) = n.tcp.reqs.remove(req) {
                env.timers.remove(&mut r.timer);
                n.tcp.remove(r.hash, EhashRef::Request(req));
            }
        }
    }
    set_state(net, sk, id, State::Close);
    tables::reclass(net, sk);
    for child in waiting {
        let Some(c) = socks.tcp.get_mut(child) else { continue };
        c.parent = None;
        c.tfo = None;
        c.sk.flags.dead = true;
        close::disconnect(c, net, child);
        destroy(c, net, child);
    }
}
