//! Fast Open as a server: a SYN with a good cookie makes a connection at once, which the program may accept, read and
//! answer while the SYN-ACK is on its way. Until that is acknowledged the connection keeps its request, SYN_RECV stays its
//! state, and its timer is the SYN-ACK's.
use super::*;
use crate::env::Rise;
use crate::ids::NsId;
use crate::net::core::skb::Skb;
use crate::net::ipv4::route::Dst;
use crate::net::tcp::account::Patience;
use crate::net::tcp::handshake::child::syn_recv_sock;
use crate::net::tcp::handshake::request::RequestSock;
use crate::net::tcp::handshake::synack::send_synack;
use crate::net::tcp::handshake::{in_window, oow_rate_limited, paws_reject};
use crate::net::tcp::input::{self, ack, recovery, undo};
use crate::net::tcp::ipv4::{self, Reply};
use crate::net::tcp::md5sig;
use crate::net::tcp::output::segment::check_dst;
use crate::net::tcp::seq::{after, between};
use crate::net::tcp::tables::EhashRef;
use crate::net::tcp::{output, reset_write_timer, setting, timer};
use belljar_abi::rtnetlink::RTAX_FASTOPEN_NO_COOKIE;
use belljar_wire::tcp::{Flags, TcpOptions};

/// Room for one more (`tcp_fastopen_queue_check`)? Those that a RST ended give way when their minute is over.
fn queue_check(k: &mut Kernel, ns: NsId, listener: TcpId) -> bool {
    let now = k.net.env.now;
    let Some(sk) = k.socks.tcp.get_mut(listener) else { return false };
    let max = sk.tfo.as_ref().map_or(0, |t| t.max_qlen);
    let Some(l) = &mut sk.listener else { return false };
    if max == 0 {
        return false;
    }
    if l.fastopen_qlen >= max {
        if l.fastopen_rst.front().is_none_or(|until| *until > now) {
            k.net.inc(ns, Mib::TcpExtTCPFastOpenListenOverflow);
            return false;
        }
        l.fastopen_rst.pop_front();
        l.fastopen_qlen -= 1;
    }
    true
}

/// Which of the keys made the cookie: 1 for the first, 2 for the backup.
fn check(keys: &FastOpenKeys, c: &FastOpenCookie, req: &RequestSock) -> Option<u8> {
    let made = |key: Option<[u32; 4]>| key.and_then(|key| cookie(key, req.raddr, req.laddr, c.exp)) == Some(*c);
    if made(keys.primary) {
        return Some(1);
    }
    made(keys.backup).then_some(2)
}

/// A SYN that Fast Open may take: the connection, or only the cookie that the SYN-ACK is to carry.
#[doc(alias = "tcp_try_fastopen")]
pub(in super::super) fn try_fastopen(
    k: &mut Kernel,
    ns: NsId,
    req: &mut RequestSock,
    skb: &mut Option<Skb>,
    dst: &Dst,
    asked: Option<FastOpenCookie>,
) -> (Option<TcpId>, Option<FastOpenCookie>) {
    let listener = req.listener;
    let Some(cb) = skb.as_ref().map(|s| s.tcp) else { return (None, None) };
    if asked.is_some_and(|c| c.len == 0) {
        k.net.inc(ns, Mib::TcpExtTCPFastOpenCookieReqd);
    }
    let syn_data = cb.end_seq != cb.seq.wrapping_add(1);
    let on = k.net.ns.get(ns).map_or(0, |n| n.sysctl.tcp_fastopen as u32);
    if on & TFO_SERVER_ENABLE == 0 || !(syn_data || asked.is_some()) || !queue_check(k, ns, listener) {
        return (None, None);
    }
    let Some((tfo, n)) = k.socks.tcp.get(listener).and_then(|l| l.tfo.as_deref()).zip(k.net.ns.get(ns)) else {
        return (None, None);
    };
    let keys = keys(Some(tfo), n);
    let (client, server) = (req.raddr, req.laddr);
    let fresh = |exp| keys.primary.and_then(|key| cookie(key, client, server, exp));
    let route = n.metrics.get(dst.metrics).is_some_and(|m| m.get(RTAX_FASTOPEN_NO_COOKIE) != 0);
    let not_reqd = on & TFO_SERVER_COOKIE_NOT_REQD != 0 || tfo.no_cookie || route;
    let which = match asked {
        _ if not_reqd => 1,
        None => return (None, None),
        Some(c) if c.len == 0 => return (None, fresh(c.exp)),
        Some(c) => match check(&keys, &c, req) {
            Some(which) => which,
            None => {
                k.net.inc(ns, Mib::TcpExtTCPFastOpenPassiveFail);
                return (None, fresh(c.exp));
            }
        },
    };
    let renewed = asked.filter(|_| which == 2).and_then(|c| fresh(c.exp));
    match create_child(k, ns, req, skb) {
        Some(child) => {
            if which == 2 {
                k.net.inc(ns, Mib::TcpExtTCPFastOpenPassiveAltKey);
            }
            k.net.inc(ns, Mib::TcpExtTCPFastOpenPassive);
            (Some(child), renewed)
        }
        None => {
            k.net.inc(ns, Mib::TcpExtTCPFastOpenPassiveFail);
            (None, asked.and_then(|c| fresh(c.exp)))
        }
    }
}

#[doc(alias = "tcp_fastopen_create_child")]
fn create_child(k: &mut Kernel, ns: NsId, req: &mut RequestSock, skb: &mut Option<Skb>) -> Option<TcpId> {
    let syn = skb.take()?;
    let Some(id) = syn_recv_sock(k, ns, req, &syn) else {
        *skb = Some(syn);
        return None;
    };
    let Kernel { socks, net, .. } = k;
    if let Some(l) = socks.tcp.get_mut(req.listener).and_then(|l| l.listener.as_mut()) {
        l.fastopen_qlen += 1;
    }
    net.ns.get_mut(ns)?.tcp.insert(req.hash, EhashRef::Sock(id));
    let c = socks.tcp.get_mut(id)?;
    // Never scaled in a SYN (RFC 7323 §2.2).
    c.snd.wnd = u32::from(syn.tcp.window);
    c.snd.max_window = c.snd.wnd;
    c.tfo().rsk = Some(Box::new(req.clone()));
    reset_write_timer(net, c, id, WriteTimer::Retrans, TCP_TIMEOUT_INIT_US);
    input::init_transfer(c, net, id);
    client::add_skb(c, net, id, syn);
    req.rcv_nxt = c.rcv.nxt;
    c.rcv.wup = c.rcv.nxt;
    Some(id)
}

/// The SYN-ACK of a new connection, which remembers when it went and what its time stamp was.
pub(in super::super) fn first_synack(
    k: &mut Kernel,
    ns: NsId,
    id: TcpId,
    mut req: RequestSock,
    cookie: Option<FastOpenCookie>,
) {
    let Kernel { socks, net, .. } = k;
    let Some(c) = socks.tcp.get_mut(id) else { return };
    let Some(&dst) = check_dst(c, net) else { return };
    let _ = send_synack(net, ns, c, &dst, &mut req, false, cookie);
    c.tfo().rsk = Some(Box::new(req));
}

/// The SYN-ACK again, from the timer or for a SYN that came again.
fn rtx_synack(sk: &mut TcpSock, net: &mut Net) -> bool {
    let Some(mut req) = sk.tfo.as_mut().and_then(|t| t.rsk.take()) else { return false };
    let sent = match check_dst(sk, net).copied() {
        Some(dst) => send_synack(net, sk.sk.ns, sk, &dst, &mut req, false, None).is_ok(),
        None => false,
    };
    if sent {
        net.inc(sk.sk.ns, Mib::TcpRetransSegs);
        net.inc(sk.sk.ns, Mib::TcpExtTCPSynRetrans);
        sk.loss.total_retrans = sk.loss.total_retrans.wrapping_add(1);
        req.num_retrans = req.num_retrans.saturating_add(1);
    }
    sk.tfo().rsk = Some(req);
    sent
}

/// The SYN-ACK was not acknowledged in time. Nothing else is sent again before that.
#[doc(alias = "tcp_fastopen_synack_timer")]
pub fn synack_timer(sk: &mut TcpSock, net: &mut Net, id: TcpId) {
    let own = sk.tune.as_ref().map_or(0, |t| u32::from(t.syn_retries));
    // One more than for others: the program may have accepted it.
    let most = 1 + if own == 0 { setting(net, sk, |s| s.tcp_synack_retries) } else { own };
    let n = sk.fastopen_rsk().map_or(0, |r| u32::from(r.num_timeout));
    net.inc(sk.sk.ns, Mib::TcpExtTCPTimeouts);
    if n >= most {
        return timer::write_err(sk, net, id, Patience::SynAck);
    }
    if sk.loss.retransmits == 1 {
        recovery::enter_loss(sk, net);
    }
    rtx_synack(sk, net);
    if let Some(r) = sk.tfo().rsk.as_mut() {
        r.num_timeout = r.num_timeout.saturating_add(1);
    }
    sk.loss.retransmits = sk.loss.retransmits.saturating_add(1);
    if sk.loss.retrans_stamp_ms == 0 {
        sk.loss.retrans_stamp_ms = net.env.now_ms().wrapping_add(sk.tsoffset).max(1);
    }
    let wide = u64::from(TCP_TIMEOUT_INIT_US) << (n + 1).min(20);
    reset_write_timer(
        net,
        sk,
        id,
        WriteTimer::Retrans,
        wide.min(u64::from(crate::net::tcp::bounds(net, sk).max_us)) as u32,
    );
}

/// A segment for a connection whose SYN-ACK is out: the checks of a half-open one. False when it was dealt with.
#[doc(alias = "tcp_check_req")]
pub fn check_req(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: &Skb, o: &TcpOptions) -> bool {
    let Some(req) = sk.fastopen_rsk().cloned() else { return true };
    let (cb, flags, ns) = (&skb.tcp, skb.tcp.flags, sk.sk.ns);
    let now_s = (net.env.now / SEC) as u32;
    let ts = o.ts.filter(|_| req.tstamp_ok);
    let waited = (u64::from(TCP_TIMEOUT_INIT_US) << req.num_timeout.min(20)) / 1_000_000;
    let stamp = now_s.saturating_sub(waited as u32);
    let paws = ts.is_some_and(|(v, _)| paws_reject(req.ts_recent, stamp, v, flags.contains(Flags::RST), now_s));
    let ecr_bad = ts.is_some_and(|(_, e)| e != 0 && !between(e, req.snt_tsval_first, req.snt_tsval_last));
    let only = flags.0 & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN).0;
    let mut last = req.last_oow_ms;
    if cb.seq == req.rcv_isn && only == Flags::SYN.0 && !paws {
        if !oow_rate_limited(net, ns, skb, &mut last, Mib::TcpExtTCPACKSkippedSynRecv) {
            rtx_synack(sk, net);
        }
        keep(sk, |r| r.last_oow_ms = last);
        return false;
    }
    if paws || ecr_bad || !in_window(cb.seq, cb.end_seq, req.rcv_nxt, req.rcv_nxt.wrapping_add(req.rcv_wnd)) {
        if !flags.contains(Flags::RST) && !oow_rate_limited(net, ns, skb, &mut last, Mib::TcpExtTCPACKSkippedSynRecv) {
            keep(sk, |r| r.last_oow_ms = last);
            let seq = sk.snd.nxt;
            let ts = req.tstamp_ok.then(|| (net.env.now_ms().wrapping_add(req.tsoffset), req.ts_recent));
            let window = (req.rcv_wnd >> req.rcv_wscale).min(65_535) as u16;
            let ack = Some(req.rcv_nxt);
            ipv4::send_reply(net, ns, skb, Reply { seq, ack, flags: Flags::ACK, window, ts, md5: md5sig::own(sk) });
        }
        match (paws, ecr_bad) {
            (true, _) => net.inc(ns, Mib::TcpExtPAWSEstab),
            (_, true) => net.inc(ns, Mib::TcpExtTSEcrRejected),
            _ => {}
        }
        return false;
    }
    if let Some((val, _)) = ts
        && !after(cb.seq, req.rcv_nxt)
    {
        keep(sk, |r| r.ts_recent = val);
    }
    let syn = flags.contains(Flags::SYN) && cb.seq != req.rcv_isn;
    if flags.contains(Flags::RST) {
        net.inc(ns, Mib::TcpAttemptFails);
        remove(sk, net, true);
        input::tcp_reset(sk, net, id);
        return false;
    }
    if syn {
        // A bad SYN is answered, but a connection that may be good is not given up for it.
        net.inc(ns, Mib::TcpAttemptFails);
        ipv4::send_reset(net, skb, md5sig::own(sk));
        return false;
    }
    flags.contains(Flags::ACK)
}

fn keep(sk: &mut TcpSock, f: impl FnOnce(&mut RequestSock)) {
    if let Some(r) = sk.tfo.as_mut().and_then(|t| t.rsk.as_mut()) {
        f(r);
    }
}

/// The request is over; its listener hears of it. `reset`: by a RST.
#[doc(alias = "reqsk_fastopen_remove")]
pub fn remove(sk: &mut TcpSock, net: &mut Net, reset: bool) {
    if let Some(req) = sk.tfo.as_mut().and_then(|t| t.rsk.take()) {
        let rst = reset && sk.parent.is_none();
        net.env.rises.push_back(Rise::FastOpenDone { listener: req.listener, rst });
    }
}

/// The SYN-ACK is acknowledged: from here on it is a connection as any other.
#[doc(alias = "tcp_rcv_synrecv_state_fastopen")]
pub fn acknowledged(sk: &mut TcpSock, net: &mut Net, id: TcpId, o: &TcpOptions) {
    if let Some(req) = sk.fastopen_rsk()
        && sk.rtt.srtt_us == 0
        && req.num_retrans == 0
        && req.snt_synack_us != 0
    {
        // The SYN-ACK's round trip (Karn: not if it was sent twice).
        let us = net.env.now_us().saturating_sub(req.snt_synack_us).clamp(1, u64::from(u32::MAX >> 4));
        ack::take_rtt(sk, net, us as u32);
    }
    if sk.loss.ca_state == CaState::Loss && sk.snd.packets_out == 0 {
        let a = ack::AckState { tsecr: o.ts.map(|t| t.1), ..ack::AckState::default() };
        undo::try_undo_recovery(sk, net, &a);
    }
    sk.loss.retrans_stamp_ms = 0;
    sk.loss.retransmits = 0;
    remove(sk, net, false);
    output::rearm_rto(sk, net, id);
}
