//! The SYN-ACK, built without a socket (Linux: `tcp_make_synack`).
use super::request::RequestSock;
use crate::net::Net;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Dst, Flow4, ip_route_output};
use crate::net::mib::Mib;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::tables::Tuple;
use crate::net::tcp::{inc, setting};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader, TcpOptions};
use belljar_wire::{Csum, checksum};

/// The way back to the peer.
pub fn route(net: &mut Net, sk: &TcpSock, t: &Tuple) -> Option<Dst> {
    let fl = Flow4 { daddr: t.raddr, saddr: t.laddr, oif: sk.sk.bound_dev, tos: sk.sk.tos, mark: sk.sk.mark };
    ip_route_output(net, sk.sk.ns, &fl).ok()
}

/// Options of the SYN that was answered: never more than the peer offered. The window is not scaled.
#[doc(alias = "tcp_make_synack")]
pub fn send(net: &mut Net, sk: &TcpSock, req: &RequestSock, priority: u32) {
    let Some(dst) = route(net, sk, &req.tuple()) else { return };
    let now_ms = net.env.now_ms();
    let o = TcpOptions {
        mss: Some(req.advmss),
        wscale: req.wscale_ok.then_some(req.rcv_wscale),
        sack_ok: req.sack_ok,
        ts: req.tstamp_ok.then(|| (super::cookies::tsval(req, now_ms), req.ts_recent)),
        ..TcpOptions::default()
    };
    let header_len = TCP_HLEN + o.len();
    let header = TcpHeader {
        src_port: req.lport,
        dst_port: req.rport,
        seq: req.snt_isn,
        ack: req.rcv_isn.wrapping_add(1),
        header_len,
        flags: Flags::SYN | Flags::ACK,
        window: req.rcv_wnd.min(65_535) as u16,
        csum: checksum::partial(checksum::pseudo_v4(req.laddr, req.raddr, 6, header_len)),
        urg_ptr: 0,
    };
    let mut skb = net.alloc_skb();
    if let Some(room) = skb.head.push(header_len) {
        header.emit(room);
        if let Some(rest) = room.get_mut(TCP_HLEN..) {
            o.emit(rest);
        }
    }
    skb.transport_header = skb.head.start();
    skb.csum = Csum::Partial;
    skb.hash = req.hash | 1;
    skb.priority = priority;
    inc(net, sk, Mib::TcpOutSegs);
    let ttl = sk.sk.ttl.unwrap_or(setting(net, sk, |s| s.ip_default_ttl) as u8);
    let tx = IpTx { ns: sk.sk.ns, saddr: req.laddr, daddr: req.raddr, proto: 6, tos: sk.sk.tos, ttl, df: true };
    let _ = ip_queue_xmit(net, &tx, &dst, skb);
}
