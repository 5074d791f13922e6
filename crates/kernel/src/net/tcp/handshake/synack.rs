//! The SYN-ACK of a request: built from the request alone, sent at once, again by its timer, or once with a cookie.
use super::cookies;
use super::request::RequestSock;
use crate::ids::*;
use crate::net::Net;
use crate::net::af::{self, Tx};
use crate::net::ipv4::options as ip_options;
use crate::net::ipv4::output::ip_dont_fragment;
use crate::net::ipv4::route::Dst;
use crate::net::mib::Mib;
use crate::net::tcp::md5sig;
use crate::net::tcp::sock::TcpSock;
use belljar_abi::Errno;
use belljar_wire::ipv4::IPPROTO_TCP;
use belljar_wire::tcp::{FastOpenCookie, Flags, MAX_TCP_OPTION_SPACE, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::{Csum, checksum};

/// Options of a SYN-ACK: only what the SYN offered (`tcp_synack_options`).
fn options(net: &Net, req: &RequestSock, cookie: bool) -> TcpOptions {
    let now = net.env.now_ms();
    let wscale = req.wscale_ok.then_some(req.snd_wscale);
    let clock = if cookie { cookies::timestamp_encode(wscale, req.sack_ok, req.ecn_ok, now) } else { now };
    TcpOptions {
        mss: Some(req.advmss),
        wscale: req.wscale_ok.then_some(req.rcv_wscale),
        sack_ok: req.sack_ok,
        ts: req.tstamp_ok.then(|| (clock.wrapping_add(req.tsoffset), req.ts_recent)),
        ..TcpOptions::default()
    }
}

/// Builds it and hands it to IP.
#[doc(alias = "tcp_v4_send_synack")]
pub fn send_synack(
    net: &mut Net,
    ns: NsId,
    listener: &TcpSock,
    dst: &Dst,
    req: &mut RequestSock,
    cookie: bool,
    fastopen: Option<FastOpenCookie>,
) -> Result<(), Errno> {
    let key = md5sig::lookup(listener, req.raddr);
    if key.is_some() && !cookie {
        // SACK blocks would not fit beside time stamps and signature.
        req.tstamp_ok &= !req.sack_ok;
    }
    let mut o = options(net, req, cookie);
    o.md5 = key.is_some();
    o.fastopen = fastopen.filter(|c| o.len() + c.option_len() <= MAX_TCP_OPTION_SPACE);
    if let Some((val, _)) = o.ts {
        if req.snt_synack_us == 0 {
            req.snt_tsval_first = val;
        }
        req.snt_tsval_last = val;
    }
    if req.snt_synack_us == 0 && !cookie {
        req.snt_synack_us = net.env.now_us().max(1);
    }
    let header_len = TCP_HLEN + o.len();
    let header = TcpHeader {
        src_port: req.lport,
        dst_port: req.rport,
        seq: req.snt_isn,
        ack: req.rcv_nxt,
        header_len,
        flags: Flags::SYN | Flags::ACK | if req.ecn_ok { Flags::ECE } else { Flags::NONE },
        // Never scaled in a SYN (RFC 7323 §2.2).
        window: req.rcv_wnd.min(65_535) as u16,
        csum: checksum::partial(checksum::pseudo(req.laddr, req.raddr, 6, header_len)),
        urg_ptr: 0,
    };
    let mut skb = net.alloc_skb();
    if let Some(room) = skb.head.push(header_len) {
        header.emit(room);
        if let Some(rest) = room.get_mut(TCP_HLEN..) {
            o.emit(rest);
        }
    }
    if let Some(key) = key {
        md5sig::sign(key, req.laddr, req.raddr, &mut skb.head, header_len, &skb.frags);
    }
    skb.transport_header = skb.head.start();
    skb.csum = Csum::Partial;
    skb.hash = req.hash | 1;
    skb.priority = listener.sk.priority;
    skb.mark = req.mark;
    skb.sender = listener.sk.sender();
    net.inc(ns, Mib::TcpOutSegs);
    let (ttl, own_tos) = listener.sk.hops_and_class_for(req.raddr);
    let tos = if req.syn_tos != 0 { req.syn_tos } else { own_tos };
    let optlen = req.ip_options.as_deref().map_or(0, |o| ip_options::push(net, ns, &mut skb, o, req.laddr));
    let (proto, daddr) = match listener.sk.txopts() {
        Some(o) if req.raddr.is_ipv6() => o.push(&mut skb, IPPROTO_TCP, req.raddr),
        _ => (IPPROTO_TCP, req.raddr),
    };
    let tx = Tx {
        ns,
        saddr: req.laddr,
        daddr,
        proto,
        tos: tos & !crate::net::tcp::input::ecn::INET_ECN_MASK,
        ttl,
        df: ip_dont_fragment(net, &listener.sk, req.raddr, dst),
        mc_loop: false,
        autolabel: listener.sk.autolabel(),
        flow: req.flow_label,
        optlen,
    };
    af::queue_xmit(net, &tx, dst, skb)
}
