//! The ACK that answers a SYN cookie: a connection out of what it brings back.
use super::child::{queue_child, syn_recv_sock};
use super::request::{RequestSock, listen_drop, route};
use super::request_mark;
use super::{cookies, isn};
use crate::env::time;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use crate::net::tcp::ipv4;
use crate::net::tcp::tables::{EhashRef, Tuple};
use belljar_wire::tcp::TcpOptions;

/// An ACK that no request knows: is it the answer to a cookie? `Ok`: the child it made. `Err(Some)`: it is not, the
/// caller resets. `Err(None)`: dropped here.
#[doc(alias = "cookie_v4_check")]
pub fn cookie_check(k: &mut Kernel, listener: TcpId, skb: Skb) -> Result<(TcpId, Skb), Option<Skb>> {
    let Kernel { socks, net, .. } = k;
    let (Some(ns), Some(lsk)) = (skb.ns, socks.tcp.get(listener)) else { return Err(Some(skb)) };
    let (Some(n), Some(l)) = (net.ns.get_mut(ns), &lsk.listener) else { return Err(Some(skb)) };
    let now_us = net.env.now / time::USEC;
    let recent = l.synq_overflow_us != 0 && now_us.saturating_sub(l.synq_overflow_us) < cookies::TCP_SYNCOOKIE_VALID_US;
    if n.sysctl.tcp_syncookies == 0 || (n.sysctl.tcp_syncookies != 2 && !recent) {
        return Err(Some(skb));
    }
    let t = Tuple::of_packet(&skb);
    let (isn, cookie) = (skb.tcp.seq.wrapping_sub(1), skb.tcp.ack.wrapping_sub(1));
    let Some(mss) = cookies::cookie_check(n.secret, &t, isn, cookie, net.env.now) else {
        n.mib.inc(Mib::TcpExtSyncookiesFailed);
        return Err(Some(skb));
    };
    n.mib.inc(Mib::TcpExtSyncookiesRecv);
    let o = ipv4::options(&skb);
    let tsoffset = if n.sysctl.tcp_timestamps == 1 { isn::ts_offset(n.secret, t.laddr, t.raddr) } else { 0 };
    let ecr = o.ts.map_or(0, |(_, e)| e.wrapping_sub(tsoffset));
    let Some((wscale, sack_ok)) = cookies::timestamp_decode(&o, ecr, &n.sysctl) else { return Err(Some(skb)) };
    let ecn_ok = cookies::ecn_decode(&o, ecr, &n.sysctl);
    let hash = t.hash(n.secret);
    if n.tcp.find(hash, &t, &socks.tcp).is_some() {
        // A later SYN of the same connection was stored: one tuple, one entry. Its own SYN-ACK will be answered.
        net.kfree_skb(skb, DropReason::NoSocket, "cookie_v4_check");
        return Err(None);
    }
    let mark = net.ns.get(ns).map_or(0, |n| request_mark(&n.sysctl, lsk, &skb));
    let Ok(dst) = route(net, ns, lsk, &t, mark) else {
        net.kfree_skb(skb, DropReason::IpOutNoRoutes, "cookie_v4_check");
        return Err(None);
    };
    let Some(n) = net.ns.get(ns) else { return Err(Some(skb)) };
    let syn = TcpOptions { mss: Some(mss), wscale, sack_ok, ts: o.ts, ..TcpOptions::default() };
    let mut req = RequestSock::new(listener, lsk, &t, &skb, &syn, (n, &dst));
    (req.rcv_isn, req.snt_isn, req.tsoffset, req.hash) = (isn, cookie, tsoffset, hash);
    req.rcv_nxt = isn.wrapping_add(1);
    req.ecn_ok = ecn_ok;
    let full = l.accept_full();
    if full {
        net.inc(ns, Mib::TcpExtListenOverflows);
    }
    match if full { None } else { syn_recv_sock(k, ns, &req, &skb) } {
        Some(child) => {
            if let Some(n) = k.net.ns.get_mut(ns) {
                n.tcp.insert(hash, EhashRef::Sock(child));
            }
            if let Some(c) = k.socks.tcp.get_mut(child) {
                c.flags.from_cookie = true;
            }
            queue_child(k, listener, child);
            Ok((child, skb))
        }
        None => {
            listen_drop(k, listener, ns, skb, DropReason::TcpListenOverflow, "cookie_v4_check");
            Err(None)
        }
    }
}
