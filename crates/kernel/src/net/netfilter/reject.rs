//! What the sender of a rejected packet is told.
use super::conntrack::{CtInfo, NfCt};
use super::packet::{Pkt, addr};
use super::rules::RejectWith;
use super::{Hook, Pf, is_local};
use crate::drivers::br_netfilter;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::af::{self, Flow, Tx};
use crate::net::core::skb::{PktType, SkBuff, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp::icmp_send;
use crate::net::ipv4::route::Dst;
use crate::net::ipv6::icmp::icmpv6_send;
use belljar_wire::icmp::*;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv4::{IPPROTO_TCP, IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};
use belljar_wire::{Csum, checksum};
use core::net::IpAddr;

/// The ICMP code of `--reject-with`; `None` for tcp-reset.
fn code(pf: Pf, with: RejectWith) -> Option<u8> {
    Some(match (pf, with.0) {
        (Pf::V4, 0) => ICMP_NET_UNREACH,
        (Pf::V4, 1) => ICMP_HOST_UNREACH,
        (Pf::V4, 2) => ICMP_PROT_UNREACH,
        (Pf::V4, 3) => ICMP_PORT_UNREACH,
        (Pf::V4, 5) => ICMP_NET_ANO,
        (Pf::V4, 6) => ICMP_HOST_ANO,
        (Pf::V4, 8) => ICMP_PKT_FILTERED,
        (Pf::V6, 0) => ICMPV6_NOROUTE,
        (Pf::V6, 1) => ICMPV6_ADM_PROHIBITED,
        (Pf::V6, 3) => ICMPV6_ADDR_UNREACH,
        (Pf::V6, 4) => ICMPV6_PORT_UNREACH,
        (Pf::V6, 7) => ICMPV6_POLICY_FAIL,
        (Pf::V6, 8) => ICMPV6_REJECT_ROUTE,
        _ => return None,
    })
}

pub fn send(net: &mut Net, ns: NsId, pf: Pf, hook: Hook, skb: &Skb, with: RejectWith) {
    match (pf, code(pf, with)) {
        (Pf::V4, Some(code)) => icmp_send(net, skb, ICMP_DEST_UNREACH, code, 0),
        (Pf::V6, Some(code)) => icmpv6_send(net, skb, ICMPV6_DEST_UNREACH, code, 0),
        (_, None) => reset(net, ns, pf, hook, skb),
    }
}

/// What an answer to a packet carries of that packet's connection (`nf_ct_attach`).
#[doc(alias = "nf_conntrack_attach")]
pub fn attach(skb: &SkBuff) -> NfCt {
    let info = match skb.nf.info {
        CtInfo::None | CtInfo::Untracked => return NfCt::default(),
        i if i.is_reply() => CtInfo::Related,
        _ => CtInfo::RelatedReply,
    };
    NfCt { ct: skb.nf.ct, info, zone: skb.nf.zone }
}

/// A RST as the packet's receiver would send it (RFC 9293 §3.10.7.1).
#[doc(alias = "nf_send_reset")]
fn reset(net: &mut Net, ns: NsId, pf: Pf, hook: Hook, old: &Skb) {
    let mut view = old.clone();
    let Some(p) = Pkt::read(pf, &mut view) else { return };
    let Ok(h) = TcpHeader::parse(p.transport(&view)) else { return };
    let to_many = !matches!(old.pkt_type, PktType::Host | PktType::Outgoing);
    if p.proto != IPPROTO_TCP || p.later || h.flags.contains(Flags::RST) || to_many {
        return;
    }
    let len = p.len.saturating_sub(p.at + h.header_len) as u32;
    let extra = u32::from(h.flags.contains(Flags::SYN)) + u32::from(h.flags.contains(Flags::FIN));
    let (seq, ack, flags) = if h.flags.contains(Flags::ACK) {
        (h.ack, 0, Flags::RST)
    } else {
        (0, h.seq.wrapping_add(len).wrapping_add(extra), Flags::RST.union(Flags::ACK))
    };
    let (saddr, daddr) = (addr(pf, p.dst), addr(pf, p.src));
    let from = if hook != Hook::Forward && is_local(net, ns, saddr) { saddr } else { Flow::to(daddr).saddr };
    let Ok(way) = af::route_output(net, ns, &Flow { saddr: from, ..Flow::to(daddr) }) else { return };
    let mut out = net.alloc_skb();
    let header = TcpHeader {
        src_port: h.dst_port,
        dst_port: h.src_port,
        seq,
        ack,
        header_len: TCP_HLEN,
        flags,
        window: 0,
        csum: checksum::partial(checksum::pseudo(saddr, daddr, IPPROTO_TCP, TCP_HLEN)),
        urg_ptr: 0,
    };
    if let Some(room) = out.head.push(TCP_HLEN) {
        header.emit(room);
    }
    out.transport_header = out.head.start();
    out.csum = Csum::Partial;
    out.nf = attach(old);
    out.set_truesize();
    if old.nf_bridge.is_some() {
        return bridged_reset(net, ns, (saddr, daddr), &way, old, out);
    }
    let tx = Tx {
        ns,
        saddr,
        daddr,
        proto: IPPROTO_TCP,
        tos: 0,
        ttl: None,
        df: true,
        mc_loop: false,
        autolabel: None,
        flow: 0,
        optlen: 0,
    };
    // It is counted where it ends; nobody here waits for it.
    let _ = af::queue_xmit(net, &tx, &way, out);
}

/// The same for a bridged packet: in the receiver's name on the link as well, out of the port that the packet came by.
fn bridged_reset(net: &mut Net, ns: NsId, (saddr, daddr): (IpAddr, IpAddr), way: &Dst, old: &Skb, mut out: Skb) {
    let (len, ttl) = (out.len(), af::hop_limit(net, ns, way));
    let room = match (saddr, daddr) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => out.head.push(IPV4_HLEN).map(|room| {
            let total_len = (IPV4_HLEN + len) as u16;
            Ipv4Header { total_len, df: true, ttl, proto: IPPROTO_TCP, src, dst, ..Ipv4Header::default() }.emit(room);
        }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => out.head.push(IPV6_HLEN).map(|room| {
            let (payload_len, next) = (len as u16, IPPROTO_TCP);
            Ipv6Header { tclass: 0, flow: 0, payload_len, next, hop_limit: ttl, src, dst }.emit(room);
        }),
        _ => None,
    };
    out.network_header = out.head.start();
    if room.is_none() {
        return net.kfree_skb(out, DropReason::DevHdr, "nf_send_reset");
    }
    out.nf = NfCt::default();
    br_netfilter::answer(net, old, out);
}
