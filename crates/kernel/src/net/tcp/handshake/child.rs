//! The connection that a request becomes: what it inherits and what was agreed, the queue where it waits for accept, and
//! what happens there when the listener stops.
use super::request::{RequestSock, route};
use crate::env::SEC;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::Net;
use crate::net::core::reuseport::{self, Choice, Group};
use crate::net::core::skb::Skb;
use crate::net::core::sock::SOCK_BINDPORT_LOCK;
use crate::net::ipv4::options;
use crate::net::mib::Mib;
use crate::net::tcp::cong::Cong;
use crate::net::tcp::input::{READABLE, destroy};
use crate::net::tcp::output::segment;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;
use crate::net::tcp::tables::{self, Class, EhashRef};
use crate::net::tcp::{close, md5sig, set_state, setting, wake};

/// A child with what it inherits from its listener and what the handshake agreed on; not in ehash yet.
#[doc(alias = "tcp_v4_syn_recv_sock")]
#[doc(alias = "tcp_create_openreq_child")]
pub(super) fn syn_recv_sock(k: &mut Kernel, ns: NsId, req: &RequestSock, skb: &Skb) -> Option<TcpId> {
    let Kernel { socks, net, .. } = k;
    let lsk = socks.tcp.get(req.listener)?;
    if !net.mem.room(Kind::Tcp, &socks.tcp, Gfp::Atomic) {
        return None;
    }
    let dst = route(net, ns, lsk, &req.tuple(), req.mark).ok()?;
    let mut child = inherit(lsk, &net.ns.get(ns)?.sysctl);
    child.sk.rcv_saddr = req.laddr;
    child.sk.saddr = req.laddr;
    child.sk.daddr = req.raddr;
    child.sk.mark = req.mark;
    if net.ns.get(ns)?.sysctl.tcp_reflect_tos != 0 {
        child.sk.reflect_class(req.raddr, req.syn_tos);
    }
    child.sk.num = req.lport;
    child.sk.dport = req.rport;
    child.parent = Some(req.listener);
    child.dst = Some(dst);
    child.ehash = Some(req.hash);
    md5sig::inherit(&mut child, lsk);
    child.txhash = req.hash | 1;
    agree(&mut child, req, skb, net);
    if let Some(rare) = lsk.rare.as_ref().filter(|r| r.save_syn != 0) {
        child.rare().save_syn = rare.save_syn;
        child.rare().saved_syn = req.saved_syn.clone();
    }
    if req.ip_options.is_some() || options::len_of(&child.sk, req.raddr) != 0 {
        child.sk.cold().ip_options = req.ip_options.clone();
    }
    if req.flow_label != 0 || child.sk.cold.is_some() {
        child.sk.cold().flow_label = req.flow_label;
    }
    if let Some(name) = net.ns.get(ns)?.metrics.get(dst.metrics).and_then(|m| m.congestion()) {
        child.cong = Cong::new(name);
    }
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
    (sk.err, sk.drops) = (0, 0);
    sk.take_err_soft();
    (sk.rmem_alloc, sk.wmem_alloc, sk.wmem_queued) = (0, 0, 0);
    sk.flags.dead = false;
    if let Some(c) = &mut sk.cold {
        (c.errors, c.omem, c.zc) = Default::default();
        c.v6.iter_mut().for_each(|o| (o.labels, o.anycast) = Default::default());
    }
    sk.userlocks &= !SOCK_BINDPORT_LOCK;
    if let Some(c) = &mut sk.cold {
        c.reuseport_prog = None;
    }
    let (rcvbuf, sndbuf) = (sk.rcvbuf, sk.sndbuf);
    let mut child = TcpSock::new(sk, sysctl);
    (child.sk.rcvbuf, child.sk.sndbuf) = (rcvbuf, sndbuf);
    child.state = State::SynRecv;
    child.tune = lsk.tune.clone();
    child.cong = Cong::new(lsk.cong.name());
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
    c.sk.mark_rx(skb);
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

/// The listener stops (close, shutdown, AF_UNSPEC): nobody finds it any more. Half-open requests and what waited for accept
/// go to another of its SO_REUSEPORT group where tcp_migrate_req says so; else the former vanish, the latter are reset.
#[doc(alias = "inet_csk_listen_stop")]
pub fn listen_stop(k: &mut Kernel, id: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return };
    let (ns, port) = (sk.sk.ns, sk.sk.num);
    let waiting = sk.listener.take().map(|l| l.accept).unwrap_or_default();
    let group = Group::of(&sk.sk).filter(|_| setting(net, sk, |s| s.tcp_migrate_req) != 0);
    leave_listeners(socks, net, ns, port, id);
    if let Some(sk) = socks.tcp.get_mut(id) {
        set_state(net, sk, id, State::Close);
        tables::reclass(net, sk);
    }
    let Some(n) = k.net.ns.get(ns) else { return };
    let mine: Vec<(ReqId, u32)> =
        n.tcp.reqs.iter().filter(|(_, r)| r.listener == id).map(|(id, r)| (id, r.hash)).collect();
    for (req, hash) in mine {
        match group.and_then(|g| migrate_to(k, ns, port, g, hash)) {
            Some(new) => move_request(k, ns, req, new),
            None => remove_request(k, ns, req),
        }
    }
    for child in waiting {
        let hash = k.socks.tcp.get(child).filter(|c| c.tfo.is_none()).and_then(|c| c.ehash);
        match group.zip(hash).and_then(|(g, hash)| migrate_to(k, ns, port, g, hash)) {
            Some(new) => {
                if let Some(c) = k.socks.tcp.get_mut(child) {
                    c.parent = Some(new);
                }
                k.net.inc(ns, Mib::TcpExtTCPMigrateReqSuccess);
                queue_child(k, new, child);
            }
            None => reset_child(k, child),
        }
    }
}

/// Out of the list of its port; the last of its group takes its place, as in the kernel's array.
fn leave_listeners(socks: &crate::kernel::Socks, net: &mut Net, ns: NsId, port: u16, id: TcpId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    let Some(ids) = n.tcp.listeners.get_mut(&port) else { return };
    let group = |id: &TcpId| socks.tcp.get(*id).and_then(|s| Group::of(&s.sk));
    let mine = group(&id);
    if let Some(at) = ids.iter().position(|l| *l == id) {
        let last = ids.iter().rposition(|l| mine.is_some() && group(l) == mine).unwrap_or(at);
        ids.swap(at, last);
        ids.remove(last);
    }
    if ids.is_empty() {
        n.tcp.listeners.remove(&port);
    }
}

/// Who of the group takes over what has this hash; counts a failure when there is nobody.
#[doc(alias = "reuseport_migrate_sock")]
fn migrate_to(k: &mut Kernel, ns: NsId, port: u16, group: Group, hash: u32) -> Option<TcpId> {
    let sock = |id: &TcpId| k.socks.tcp.get(*id).map(|s| &s.sk);
    let ids = k.net.ns.get(ns)?.tcp.listeners.get(&port).map_or(&[][..], |l| l);
    let choice = Choice { hash, cpu: k.net.cpu, packet: None };
    let found = reuseport::select(ids, sock, group, &choice);
    if found.is_none() {
        k.net.inc(ns, Mib::TcpExtTCPMigrateReqFailure);
    }
    found
}

fn move_request(k: &mut Kernel, ns: NsId, req: ReqId, new: TcpId) {
    let Some(r) = k.net.ns.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(req)) else { return };
    r.listener = new;
    let young = u32::from(r.num_timeout == 0);
    if let Some(l) = k.socks.tcp.get_mut(new).and_then(|s| s.listener.as_mut()) {
        (l.qlen, l.young) = (l.qlen + 1, l.young + young);
    }
    k.net.inc(ns, Mib::TcpExtTCPMigrateReqSuccess);
}

fn remove_request(k: &mut Kernel, ns: NsId, req: ReqId) {
    let Net { env, ns: spaces, .. } = &mut k.net;
    let Some(n) = spaces.get_mut(ns) else { return };
    if let Some(mut r) = n.tcp.reqs.remove(req) {
        env.timers.remove(&mut r.timer);
        n.tcp.remove(r.hash, EhashRef::Request(req));
    }
}

fn reset_child(k: &mut Kernel, child: TcpId) {
    let Kernel { socks, net, .. } = k;
    let Some(c) = socks.tcp.get_mut(child) else { return };
    c.parent = None;
    c.tfo = None;
    c.sk.flags.dead = true;
    close::disconnect(c, net, child);
    destroy(c, net, child);
}
