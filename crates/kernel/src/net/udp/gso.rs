//! UDP_SEGMENT: one payload that stands for many datagrams. It goes down whole and is cut where a device or a receiver
//! wants datagrams.
use super::{UdpSock, rcv};
use crate::ids::{NsId, SockId, UdpId};
use crate::kernel::Kernel;
use crate::net::core::skb::Skb;
use crate::net::core::zerocopy;
use crate::net::ipv4::output::dev_mtu;
use crate::net::ipv4::route::Dst;
use crate::net::{Net, af};
use crate::task::call::Cmsg;
use belljar_abi::{Errno, IP_PMTUDISC_PROBE, SOL_UDP, UDP_SEGMENT};
use belljar_wire::gso::segment;
use belljar_wire::ipv6::IPV6_HLEN;
use belljar_wire::udp::UDP_HLEN;
use belljar_wire::{Csum, Gso, GsoType};
use core::net::IpAddr;

/// Datagrams of one send at most (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 128;

/// UDP_SEGMENT of one send: its own control message's, else the socket's.
pub fn udp_cmsg_send(of_socket: u16, cmsgs: &[Cmsg]) -> Result<u16, Errno> {
    let mut size = of_socket;
    for m in cmsgs.iter().filter(|m| m.level == SOL_UDP) {
        size = match (m.kind, &m.data[..]) {
            (UDP_SEGMENT, &[a, b]) => u16::from_ne_bytes([a, b]),
            _ => return Err(Errno::EINVAL),
        };
    }
    Ok(size)
}

/// `ext`: bytes of extension headers.
///
/// EMSGSIZE for datagrams that the path does not take whole, EINVAL for too many of them.
pub fn check(
    net: &Net,
    s: &UdpSock,
    dst: &Dst,
    (daddr, ext): (IpAddr, usize),
    len: usize,
    size: u16,
) -> Result<(), Errno> {
    let path = i32::from(s.sk.pmtudisc) < IP_PMTUDISC_PROBE;
    let mtu = if path { dst.mtu } else { dev_mtu(net, dst.dev) } as usize;
    if af::header_len(daddr) as usize + ext + UDP_HLEN + len.min(size.into()) > mtu {
        return Err(Errno::EMSGSIZE);
    }
    if len > usize::from(size) * MAX_SEGMENTS || s.no_check(daddr) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// How a payload is to be cut; not at all when it is one datagram.
pub fn of(len: usize, size: u16) -> Option<Gso> {
    let one = usize::from(size);
    (one != 0 && len > one).then(|| Gso::new(GsoType::UdpL4, size, len.div_ceil(one) as u16))
}

/// A datagram under construction ends without having been sent.
pub fn give_up(k: &mut Kernel, id: UdpId, call: Option<u32>) {
    if let (Some(call), Some(s)) = (call, k.socks.udp.get_mut(id)) {
        zerocopy::packet_freed(&mut s.sk, &mut k.net.env, SockId::Udp(id), call, true);
    }
}

/// A program reads the datagrams of a tunnel: each as it would have been on a wire.
#[cold]
fn queue_rcv_tunnel(k: &mut Kernel, ns: NsId, id: UdpId, mut skb: Skb) {
    let header = usize::from(skb.transport_header - skb.network_header);
    skb.head.rewind(skb.network_header);
    for frame in segment(skb.to_frame()) {
        let mut s = k.net.alloc_skb();
        skb.piece(&mut s, frame);
        (s.dst, s.mac_header) = (skb.dst, s.head.start());
        (s.network_header, s.transport_header) = (s.head.start(), s.head.start() + header as u8);
        let _ = s.head.pull(header);
        rcv::queue_rcv(k, ns, id, s);
    }
    k.net.consume_skb(skb);
}

/// For a socket that takes no super-packets: each datagram on its own, with headers that say so (`udp_rcv_segment`).
#[doc(alias = "udp_rcv_segment")]
pub fn queue_rcv(k: &mut Kernel, ns: NsId, id: UdpId, mut skb: Skb) {
    let takes = k.socks.udp.get(id).is_none_or(|s| s.gro);
    let Some(gso) = skb.gso.filter(|g| g.size != 0 && (!takes || g.is_encapsulated())) else {
        return rcv::queue_rcv(k, ns, id, skb);
    };
    if gso.is_encapsulated() {
        return queue_rcv_tunnel(k, ns, id, skb);
    }
    let header = skb.transport_header - skb.network_header;
    let _ = skb.head.pull(UDP_HLEN);
    let mut data = skb.take_payload();
    while !data.is_empty() {
        let payload = data.split_to(gso.size.into());
        let mut s = k.net.alloc_skb();
        (s.head, s.id, s.ns, s.dev) = (skb.head.clone(), skb.id, skb.ns, skb.dev);
        (s.protocol, s.pkt_type, s.dst, s.hash) = (skb.protocol, skb.pkt_type, skb.dst, skb.hash);
        (s.mac_header, s.network_header) = (skb.mac_header, skb.network_header);
        (s.transport_header, s.tstamp) = (skb.transport_header, skb.tstamp);
        (s.mark, s.csum) = (skb.mark, Csum::Unnecessary);
        s.head.rewind(skb.transport_header);
        s.head.trim(UDP_HLEN);
        let len = UDP_HLEN + payload.len();
        // IPv4 counts its header, IPv6 only the extension headers.
        let v6 = s.head.at(skb.network_header).first().is_some_and(|v| v >> 4 == 6);
        let (at, total) = if v6 { (4, len + usize::from(header) - IPV6_HLEN) } else { (2, len + usize::from(header)) };
        let words = [(skb.network_header + at, total), (skb.transport_header + 4, len)];
        for (at, word) in words {
            if let Some(b) = s.head.at_mut(at).get_mut(..2) {
                b.copy_from_slice(&(word as u16).to_be_bytes());
            }
        }
        s.frags = payload;
        rcv::queue_rcv(k, ns, id, s);
    }
    k.net.consume_skb(skb);
}
