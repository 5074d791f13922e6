//! The timer of a half-open connection: SYN-ACK again, and how long that is worth it.
use super::request::{RequestSock, drop_request, route};
use super::synack::send_synack;
use crate::env::timers::Fire;
use crate::env::{Fired, MSEC, SEC, TimerKey};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::mib::Mib;
use crate::net::tcp::sock::*;
use crate::net::tcp::state::State;

/// The timeout of a request: SYN-ACK again, less patiently when the listener has many old ones, or away.
#[doc(alias = "reqsk_timer_handler")]
pub fn request_timer(k: &mut Kernel, ns: NsId, id: ReqId, at: Fired) {
    let now = k.net.env.jiffies();
    let Net { env, ns: spaces, .. } = &mut k.net;
    let Some(n) = spaces.get_mut(ns) else { return };
    let Some(req) = n.tcp.reqs.get_mut(id) else { return };
    if env.timers.look(&mut req.timer, at, now, TimerKey::TcpRequest(ns, id)) != Fire::Due {
        return;
    }
    let mut req = req.clone();
    let retries = n.sysctl.tcp_synack_retries;
    let Some(lsk) = k.socks.tcp.get(req.listener).filter(|l| l.state == State::Listen) else {
        drop_request(k, ns, id, true);
        return;
    };
    let Some(l) = &lsk.listener else { return };
    let own = lsk.tune.as_ref().map_or(0, |t| u32::from(t.syn_retries));
    let retries = patience(if own == 0 { retries } else { own }, l);
    let (expire, resend) = recalc(&req, retries, u32::from(l.defer_accept));
    k.net.inc(ns, Mib::TcpExtTCPTimeouts);
    let kept = !expire && (!resend || rtx_synack(k, ns, &mut req) || req.acked);
    if !kept {
        drop_request(k, ns, id, true);
        return;
    }
    if req.num_timeout == 0
        && let Some(l) = k.socks.tcp.get_mut(req.listener).and_then(|sk| sk.listener.as_mut())
    {
        l.young = l.young.saturating_sub(1);
    }
    req.num_timeout = req.num_timeout.saturating_add(1);
    let at = k.net.env.round_up(k.net.env.now + timeout(&k.net, ns, &req));
    let Net { env, ns: spaces, .. } = &mut k.net;
    if let Some(slot) = spaces.get_mut(ns).and_then(|n| n.tcp.reqs.get_mut(id)) {
        let timer = slot.timer;
        *slot = RequestSock { timer, ..req };
        env.timers.arm(&mut slot.timer, at, TimerKey::TcpRequest(ns, id));
    }
}

/// A listener whose queue is half full of old requests waits less for each (`reqsk_timer_handler`).
fn patience(mut retries: u32, l: &Listener) -> u32 {
    if l.qlen << 1 > l.max_ack_backlog.max(8) {
        let mut young = l.young << 1;
        while retries > 2 && l.qlen >= young {
            retries -= 1;
            young <<= 1;
        }
    }
    retries
}

/// Is its time over, and is the SYN-ACK due? While data is awaited it is not (`syn_ack_recalc`).
fn recalc(req: &RequestSock, retries: u32, defer: u32) -> (bool, bool) {
    let n = u32::from(req.num_timeout);
    if defer == 0 {
        return (n >= retries, true);
    }
    (n >= retries && (!req.acked || n >= defer), !req.acked || n >= defer - 1)
}

/// One second, doubled for each timeout, at most the RTO maximum.
pub(super) fn timeout(net: &Net, ns: NsId, req: &RequestSock) -> u64 {
    let max = net.ns.get(ns).map_or(120_000, |n| n.sysctl.tcp_rto_max_ms);
    (SEC << req.num_timeout.min(30)).min(u64::from(max) * MSEC)
}

/// `tcp_rtx_synack`; false when it could not be sent.
pub(super) fn rtx_synack(k: &mut Kernel, ns: NsId, req: &mut RequestSock) -> bool {
    let Kernel { socks, net, .. } = k;
    let Some(lsk) = socks.tcp.get_mut(req.listener) else { return false };
    let Ok(dst) = route(net, ns, lsk, &req.tuple(), req.mark) else { return false };
    if send_synack(net, ns, lsk, &dst, req, false, None).is_err() {
        return false;
    }
    net.inc(ns, Mib::TcpRetransSegs);
    net.inc(ns, Mib::TcpExtTCPSynRetrans);
    lsk.loss.total_retrans = lsk.loss.total_retrans.wrapping_add(1);
    req.num_retrans = req.num_retrans.saturating_add(1);
    true
}
