//! Fast Open as a client: data that goes with the SYN, and what the SYN-ACK says about it.
use super::*;
use crate::ids::SockId;
use crate::net::core::dst_metrics;
use crate::net::core::skb::Skb;
use crate::net::tcp::connect;
use crate::net::tcp::input::{self, EVERYTHING, recovery};
use crate::net::tcp::output::{event_new_data_sent, segment, transmit};
use crate::net::tcp::{close, inc, setting, zerocopy};
use crate::task::call::{Ret, RunCtx, SendMsg, Sleep, Step};
use belljar_abi::rtnetlink::RTAX_FASTOPEN_NO_COOKIE;
use belljar_abi::{MSG_FASTOPEN, SockAddr};
use belljar_wire::tcp::{Flags, MAX_TCP_OPTION_SPACE, TcpOptions};

/// A send that may have to open the connection first. `None`: there is a connection, and the rest is an ordinary send.
#[doc(alias = "tcp_sendmsg_fastopen")]
pub fn sendmsg(k: &mut Kernel, id: TcpId, m: &mut SendMsg<'_>, ctx: RunCtx) -> Option<Step> {
    let sk = k.socks.tcp.get_mut(id)?;
    let waits = sk.tfo.as_ref().and_then(|t| t.request).is_some_and(|r| !ctx.again || r.sending);
    let deferred = sk.tfo.as_ref().is_some_and(|t| t.defer_connect);
    if ctx.again {
        return if waits { opened(k, id, m, ctx, Errno::EINPROGRESS) } else { None };
    }
    if m.flags & MSG_FASTOPEN == 0 && !deferred {
        return None;
    }
    let fail = |e| Some(Step::Done(Err(e)));
    if setting(&k.net, sk, |s| s.tcp_fastopen as u32) & TFO_CLIENT_ENABLE == 0 || m.to == Some(SockAddr::Unspec) {
        return fail(Errno::EOPNOTSUPP);
    }
    if waits {
        return fail(Errno::EALREADY);
    }
    sk.tfo().request = Some(FastOpenRequest { sending: true, more: true, ..FastOpenRequest::default() });
    let answer = match begin(k, id, m, deferred) {
        Ok(answer) => answer,
        Err(e) => {
            forget_request(k, id);
            return fail(e);
        }
    };
    opened(k, id, m, ctx, answer)
}

/// Sends the SYN; the error that a call gets which does not wait for the answer.
fn begin(k: &mut Kernel, id: TcpId, m: &mut SendMsg<'_>, deferred: bool) -> Result<Errno, Errno> {
    if deferred {
        let Kernel { socks, net, .. } = k;
        let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
        let sent = transmit::connect_init(sk, net, id, Some(m));
        return sent.map(|()| Errno::EINPROGRESS);
    }
    let (addr, port) = m.to.and_then(|to| to.to_ip()).ok_or(Errno::EINVAL)?;
    let sk = k.socks.tcp.get(id).ok_or(Errno::EINVAL)?;
    if sk.flags.connected || sk.sk.flags.ss_connected {
        return Err(Errno::EISCONN);
    }
    if sk.flags.connecting {
        return Ok(Errno::EALREADY);
    }
    if sk.state != State::Close {
        return Err(Errno::EISCONN);
    }
    connect::begin(k, id, addr, port, Some(m)).map(|()| Errno::EINPROGRESS)
}

fn forget_request(k: &mut Kernel, id: TcpId) {
    if let Some(t) = k.socks.tcp.get_mut(id).and_then(|sk| sk.tfo.as_mut()) {
        (t.request, t.defer_connect) = (None, false);
    }
}

/// How the opening stands: waits for it, tells how it failed, or lets the send go on.
fn opened(k: &mut Kernel, id: TcpId, m: &mut SendMsg<'_>, ctx: RunCtx, answer: Errno) -> Option<Step> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id)?;
    let copied = sk.tfo.as_ref().and_then(|t| t.request).map_or(0, |r| r.copied);
    match sk.state {
        State::SynSent | State::SynRecv if ctx.nonblock || ctx.timed_out => {
            forget_request(k, id);
            m.sent = copied as usize;
            let ok = copied > 0 && answer == Errno::EINPROGRESS;
            Some(Step::Done(if ok { Ok(Ret::Int(i64::from(copied))) } else { Err(answer) }))
        }
        State::SynSent | State::SynRecv => {
            let deadline = sk.sk.cold.as_ref().and_then(|c| c.sndtimeo).map(|t| net.env.now + t);
            Some(Step::Sleep(Sleep { on: SockId::Tcp(id), mask: EVERYTHING, exclusive: false, deadline }))
        }
        State::Close => {
            let err = sk.sk.take_err().map_or(Errno::ECONNABORTED, Errno);
            close::disconnect(sk, net, id);
            sk.sk.err = 0;
            sk.sk.flags.ss_connected = false;
            Some(Step::Done(Err(err)))
        }
        _ => {
            (sk.flags.connecting, sk.flags.connected) = (false, true);
            sk.sk.flags.ss_connected = true;
            forget_request(k, id);
            m.sent = m.sent.max(copied as usize);
            None
        }
    }
}

/// What is known of the peer: whether data may go with the SYN, for which segment size, and the cookie of the SYN.
#[doc(alias = "tcp_fastopen_cookie_check")]
fn cookie_check(sk: &mut TcpSock, net: &Net) -> (bool, u16, Option<FastOpenCookie>) {
    let Some(n) = net.ns.get(sk.sk.ns) else { return (false, 0, None) };
    let known = n.tcp.metrics.fastopen(n.secret, (sk.sk.saddr, sk.sk.daddr));
    if active_should_disable(sk, net) {
        return (false, known.mss, None);
    }
    let route = dst_metrics::metric(net, sk.sk.ns, sk.dst.as_ref(), RTAX_FASTOPEN_NO_COOKIE) != 0;
    if n.sysctl.tcp_fastopen as u32 & TFO_CLIENT_NO_COOKIE != 0 || route || sk.tfo.as_ref().is_some_and(|t| t.no_cookie)
    {
        return (true, known.mss, None);
    }
    if known.cookie.is_some() {
        return (true, known.mss, known.cookie);
    }
    sk.tfo().client_fail = TFO_COOKIE_UNAVAILABLE;
    (false, known.mss, FastOpenCookie::parse(&[], known.try_exp == 1))
}

/// connect() with TCP_FASTOPEN_CONNECT: with a cookie at hand the SYN waits for the first write, else it asks for one.
#[doc(alias = "tcp_fastopen_defer_connect")]
pub fn defer_connect(sk: &mut TcpSock, net: &Net) -> bool {
    if sk.tfo.as_ref().is_none_or(|t| !t.connect || t.request.is_some()) {
        return false;
    }
    let (known, _, cookie) = cookie_check(sk, net);
    if known {
        sk.tfo().defer_connect = true;
        let first = sk.snd.write_seq;
        (sk.snd.una, sk.snd.nxt) = (first, first);
    } else {
        sk.tfo().request = Some(FastOpenRequest { cookie, ..FastOpenRequest::default() });
    }
    known
}

/// The SYN of a Fast Open connection, first in the queue, with data behind it where that is allowed; else it only asks for
/// a cookie. The option goes with this SYN only.
#[doc(alias = "tcp_send_syn_data")]
pub fn send_syn_data(sk: &mut TcpSock, net: &mut Net, id: TcpId, m: Option<&mut SendMsg<'_>>) -> Result<(), Errno> {
    sk.snd.mss_clamp = sk.rcv.advmss;
    let (known, mss, cookie) = cookie_check(sk, net);
    if let Some(r) = &mut sk.tfo().request {
        r.cookie = cookie;
    }
    let sent = match m {
        Some(m) if known => with_data(sk, net, id, mss, m),
        _ => {
            if let Some(c) = sk.tfo().request.as_mut().and_then(|r| r.cookie.as_mut()) {
                // Asks again: data cannot go.
                c.len = 0;
            }
            let mss = u32::from(sk.snd.mss_cache);
            let sent = transmit::transmit_queued(sk, net, id, 0, mss);
            event_new_data_sent(sk, net, id);
            sent
        }
    };
    if let Some(r) = &mut sk.tfo().request {
        r.cookie = None;
    }
    sent
}

fn with_data(sk: &mut TcpSock, net: &mut Net, id: TcpId, mss: u16, m: &mut SendMsg<'_>) -> Result<(), Errno> {
    let SendMsg { data, zerocopy, .. } = m;
    if mss != 0 {
        sk.snd.mss_clamp = mss;
    }
    if sk.snd.user_mss != 0 {
        sk.snd.mss_clamp = sk.snd.mss_clamp.min(sk.snd.user_mss);
    }
    let pmtu = sk.snd.pmtu;
    segment::sync_mss(sk, net, pmtu);
    // All the room that options could take is left to them: middleboxes may add their own.
    let mss = pmtu.saturating_sub(segment::headers(sk)).min(u32::from(sk.snd.mss_clamp));
    let fits = mss.saturating_sub(MAX_TCP_OPTION_SPACE as u32);
    let segs = data.take(fits as usize, &mut net.pool);
    let copied = segs.len() as u32;
    if let Some(r) = &mut sk.tfo().request {
        (r.copied, r.more) = (copied, !data.is_empty());
    }
    sk.tfo().syn_data = copied > 0;
    let syn_seq = sk.snd.una;
    if copied > 0 {
        let seg = TxSeg::new(sk.snd.write_seq, segs.clone(), Flags::PSH);
        sk.snd.write_seq = seg.end_seq;
        sk.sk.wmem_queued += seg.truesize;
        sk.snd.queue.push_back(seg);
        if let Some(call) = *zerocopy {
            zerocopy::attach(sk, call, copied);
            transmit::zerocopy_sent(sk, net, sk.snd.write_seq);
        }
    }
    let mss = sk.snd.mss_cache;
    let now = net.env.now_us();
    for seg in &mut sk.snd.queue {
        (seg.tx_us, seg.mss) = (now, mss.max(fits as u16));
    }
    (sk.totals.segs_out, sk.totals.data_segs_out) = (1, u32::from(copied > 0));
    sk.totals.bytes_sent += u64::from(copied);
    inc(net, sk, Mib::TcpOutSegs);
    let sent = transmit::send_segment(sk, net, id, (syn_seq, Flags::SYN), segs, 0, (0, 0));
    event_new_data_sent(sk, net, id);
    if copied > 0 {
        event_new_data_sent(sk, net, id);
    }
    sent
}

/// The SYN-ACK of a Fast Open connection: its cookie is kept; data that it does not acknowledge goes again, with the ACK of
/// the handshake. True when that happened.
#[doc(alias = "tcp_rcv_fastopen_synack")]
pub fn rcv_synack(sk: &mut TcpSock, net: &mut Net, id: TcpId, skb: Skb, o: &TcpOptions) -> bool {
    let Some(t) = sk.tfo.as_ref().filter(|t| t.syn_fastopen || t.syn_data) else {
        net.consume_skb(skb);
        return false;
    };
    let (option, exp, syn_data) = (t.syn_fastopen, t.syn_fastopen_exp, t.syn_data);
    let cookie = o.fastopen.filter(|c| option && c.len > 0);
    let asked_in_vain = option && sk.loss.total_retrans == 0 && o.fastopen.is_none() && !syn_data;
    // The other form of the option next time, then back to the standard one.
    let try_exp = match (asked_in_vain, exp) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let (pair, mss, now) = ((sk.sk.saddr, sk.sk.daddr), o.mss.unwrap_or(536), net.env.now);
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        n.tcp.metrics.set_fastopen(n.secret, pair, mss, cookie, try_exp, now);
    }
    if syn_data && sk.snd.sent > 0 {
        let why = if sk.loss.total_retrans > 0 { TFO_SYN_RETRANSMITTED } else { TFO_DATA_NOT_ACKED };
        sk.tfo().client_fail = why;
        for ix in 0..sk.snd.sent {
            recovery::mark_lost(sk, net, ix);
        }
        recovery::non_congestion_loss_retransmit(sk, net, id);
        inc(net, sk, Mib::TcpExtTCPFastOpenActiveFail);
        net.consume_skb(skb);
        return true;
    }
    sk.tfo().syn_data_acked = syn_data;
    if syn_data {
        inc(net, sk, Mib::TcpExtTCPFastOpenActive);
        // SYN and data were one packet.
        if sk.loss.delivered > 1 {
            sk.loss.delivered -= 1;
        }
    }
    add_skb(sk, net, id, skb);
    false
}

/// The data (and FIN) that came with a SYN or SYN-ACK.
#[doc(alias = "tcp_fastopen_add_skb")]
pub fn add_skb(sk: &mut TcpSock, net: &mut Net, id: TcpId, mut skb: Skb) {
    if skb.tcp.end_seq == sk.rcv.nxt {
        return net.consume_skb(skb);
    }
    skb.tcp.seq = sk.rcv.nxt;
    skb.tcp.flags = skb.tcp.flags.without(Flags::SYN);
    sk.tfo().syn_data_acked = true;
    sk.totals.data_segs_in = u32::from(!skb.frags.is_empty());
    input::data::take_syn_data(sk, net, id, skb);
}
