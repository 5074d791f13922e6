//! What most sends of a connected socket are: one IPv4 datagram that fits its path, with nothing asked for beside it. The same
//! packet as `sendmsg.rs` would send, without what there is nothing of to look at.
use super::{UdpSock, truesize};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af;
use crate::net::core::dst_metrics::mtu_locked;
use crate::net::core::skb::Owner;
use crate::net::core::sock::SEND_SHUTDOWN;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::task::call::{Payload, Ret, SysResult};
use belljar_abi::*;
use belljar_wire::ipv4::{IPPROTO_UDP, IPV4_HLEN};
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, checksum};
use core::net::{IpAddr, Ipv4Addr};

/// Flags that say nothing about the packet.
const PLAIN_FLAGS: i32 = MSG_DONTWAIT | MSG_NOSIGNAL;

/// Sends what is one: neither with an address nor with control messages. `None`: it is something else, or would wait or fail
/// before the packet is made; nothing has happened.
#[inline]
#[doc(alias = "udp_sendmsg")]
pub(crate) fn try_send(k: &mut Kernel, id: UdpId, data: &mut Payload<'_>, flags: i32) -> Option<SysResult> {
    let Kernel { socks, net, .. } = k;
    let s = socks.udp.get_mut(id)?;
    let len = data.len();
    let (daddr, saddr, dst) = path(s, net, len, flags)?;
    Some(send(s, net, id, data, (daddr, saddr, &dst)).map(|()| Ret::Int(len as i64)))
}

/// Destination, source and route.
#[inline]
fn path(s: &UdpSock, net: &Net, len: usize, flags: i32) -> Option<(Ipv4Addr, Ipv4Addr, Dst)> {
    let sk = &s.sk;
    let begun = s.cork.is_some() || s.corked || s.gso_size != 0 || sk.flags.localroute;
    if flags & !PLAIN_FLAGS != 0
        || begun
        || net.mem.is_short()
        || sk.cold.is_some()
        || sk.err != 0
        || sk.shutdown & SEND_SHUTDOWN != 0
    {
        return None;
    }
    let (IpAddr::V4(daddr), IpAddr::V4(saddr), Some(dst)) = (sk.daddr, sk.saddr, s.dst) else { return None };
    let known = net.ns.get(sk.ns).is_some_and(|n| n.rt_genid == dst.genid)
        && matches!(dst.kind, RouteKind::Local | RouteKind::Unicast)
        && !saddr.is_unspecified();
    let fits = len + UDP_HLEN + IPV4_HLEN <= dst.mtu as usize && sk.wmem_alloc < sk.sndbuf;
    (known && fits).then_some((daddr, saddr, dst))
}

#[inline]
fn send(
    s: &mut UdpSock,
    net: &mut Net,
    id: UdpId,
    data: &mut Payload<'_>,
    (daddr, saddr, dst): (Ipv4Addr, Ipv4Addr, &Dst),
) -> Result<(), Errno> {
    let (ns, total) = (s.sk.ns, data.len() + UDP_HLEN);
    let df = match i32::from(s.sk.pmtudisc) {
        IP_PMTUDISC_DO | IP_PMTUDISC_PROBE => true,
        // RFC 1191: while the path MTU is being discovered.
        IP_PMTUDISC_WANT => !mtu_locked(net, ns, daddr.into(), dst),
        _ => false,
    };
    let mut skb = net.alloc_skb();
    skb.frags.append(data.take(usize::MAX, &mut net.pool));
    let pseudo =
        if s.sk.flags.no_check_tx { None } else { Some(checksum::pseudo_v4(saddr, daddr, IPPROTO_UDP, total)) };
    skb.csum = if pseudo.is_some() { Csum::Partial } else { Csum::None };
    let csum = pseudo.map_or(0, checksum::partial);
    if let Some(room) = skb.head.push(UDP_HLEN) {
        UdpHeader { src_port: s.sk.num, dst_port: s.sk.dport, len: total as u16, csum }.emit(room);
    }
    skb.transport_header = skb.head.start();
    (skb.priority, skb.mark) = (s.sk.priority, s.sk.mark);
    skb.truesize = truesize(total - UDP_HLEN);
    (skb.owner, skb.sender) = (Owner::Tx(SockId::Udp(id)), s.sk.sender());
    s.sk.wmem_alloc += skb.truesize;
    s.ident = s.ident.wrapping_add(1);
    skb.ip_id = Some(s.ident);
    let ttl = s.sk.ttl.unwrap_or_else(|| af::hop_limit(net, ns, dst));
    let tx = IpTx { ns, saddr, daddr, proto: IPPROTO_UDP, tos: s.sk.tos, ttl, df, optlen: 0 };
    let sent = ip_queue_xmit(net, &tx, dst, skb);
    if sent.is_err() {
        af::discarded(net, ns, false);
    }
    super::sendmsg::count_sent(net, ns, sent, false, s.sk.flags.recverr)
}
