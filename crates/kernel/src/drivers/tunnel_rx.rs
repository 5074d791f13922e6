//! Packets that come out of tunnels, and errors about what was sent into them.
use super::tunnel::*;
use crate::drivers::veth::scrub;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev_rx;
use crate::net::core::skb::{PktType, SkBuff, Skb};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::icmp::icmp_send;
use crate::net::ipv4::route::update_pmtu;
use crate::net::sched::headers;
use belljar_wire::Mac;
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6};
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_IPV6, Ipv4Header};
use core::net::Ipv4Addr;

/// GRE's header as it was read (`tnl_ptk_info`).
#[derive(Clone, Copy, Debug, Default)]
struct Gre {
    flags: u16,
    protocol: u16,
    key: Option<u32>,
    seq: u32,
    len: usize,
}

#[doc(alias = "gre_parse_header")]
fn gre_header(b: &[u8]) -> Option<Gre> {
    let half = |at: usize| b.get(at..at + 2).map(|h| u16::from_be_bytes([h[0], h[1]]));
    let word = |at: usize| b.get(at..).and_then(|w| w.first_chunk()).map(|w| u32::from_be_bytes(*w));
    let flags = half(0)?;
    if flags & (GRE_VERSION | GRE_ROUTING) != 0 {
        return None;
    }
    let mut g = Gre { flags, protocol: half(2)?, len: Tunnel::gre_hlen(flags), ..Gre::default() };
    let mut at = if flags & GRE_CSUM != 0 { 8 } else { 4 };
    if flags & GRE_KEY != 0 {
        g.key = Some(word(at)?);
        at += 4;
    }
    if flags & GRE_SEQ != 0 {
        g.seq = word(at)?;
    }
    Some(g)
}

/// The one with both ends, with the remote, with the local one, with neither; of several that over the device it came by.
#[doc(alias = "ip_tunnel_lookup")]
fn lookup(
    net: &Net,
    ns: NsId,
    p: (u8, Option<u16>),
    ends: (Ipv4Addr, Ipv4Addr),
    key: Option<u32>,
    by: Option<DevId>,
) -> Option<DevId> {
    let (remote, local) = ends;
    let any = Ipv4Addr::UNSPECIFIED;
    let table = &net.ns.get(ns)?.tunnels;
    let frames = p.1 == Some(ETH_P_TEB);
    let fits = |id: &DevId| {
        let up = net.devs.get(*id).is_some_and(|d| d.up);
        up && of(net, *id).is_some_and(|t| t.key_fits(key) && (t.kind == Kind::Gretap) == frames)
    };
    for (remote, local) in [(remote, local), (remote, any), (any, local), (any, any)] {
        let all = table.at(p.0, remote, local);
        let over = |id: &&DevId| of(net, **id).is_some_and(|t| t.lower.is_some() && t.lower == by);
        let found = all.iter().filter(|id| fits(id)).find(over).or_else(|| all.iter().find(|id| fits(id)));
        if found.is_some() {
            return found.copied();
        }
    }
    None
}

/// Why a packet does not come out: counters beside `rx_errors`.
enum Bad {
    Csum,
    Order,
    Frame,
}

/// A packet for this host of a protocol that tunnels have, pulled to its transport header.
#[doc(alias = "ip_tunnel_rcv")]
pub fn rcv(net: &mut Net, proto: u8, mut skb: Skb) {
    let at = if proto == IPPROTO_GRE { "gre_rcv" } else { "tunnel4_rcv" };
    let (Some(ns), Some(outer)) = (skb.ns, skb.ip_hdr()) else {
        return net.kfree_skb(skb, DropReason::NotSpecified, at);
    };
    let gre = match proto {
        IPPROTO_GRE => skb.peek::<4>().map(|b| Tunnel::gre_hlen(u16::from_be_bytes([b[0], b[1]]))),
        _ => Some(0),
    };
    let pulled = gre.is_some_and(|n| skb.may_pull(n));
    let g = match proto {
        IPPROTO_GRE => gre_header(skb.head.bytes()).filter(|_| pulled),
        IPPROTO_IPV6 => Some(Gre { protocol: ETH_P_IPV6, ..Gre::default() }),
        _ => Some(Gre { protocol: ETH_P_IP, ..Gre::default() }),
    };
    let Some(g) = g else { return net.kfree_skb(skb, DropReason::NotSpecified, at) };
    let whole = skb.gso.is_some_and(|g| g.is_encapsulated());
    if g.flags & GRE_CSUM != 0 && !whole && whole_sum(&skb) != 0 {
        return net.kfree_skb(skb, DropReason::NotSpecified, at);
    }
    let what = (proto, Some(g.protocol));
    let Some(dev) = lookup(net, ns, what, (outer.src, outer.dst), g.key, skb.dev) else {
        icmp_send(net, &skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0);
        return net.kfree_skb(skb, DropReason::NotSpecified, at);
    };
    let _ = skb.head.pull(g.len);
    if let Err(bad) = accept(net, dev, &g, &outer, &mut skb) {
        if let Some(d) = net.devs.get_mut(dev) {
            d.stats.rx_errors += 1;
            d.stats.rx_crc += u64::from(matches!(bad, Bad::Csum));
            d.stats.rx_fifo += u64::from(matches!(bad, Bad::Order));
            d.stats.rx_frame += u64::from(matches!(bad, Bad::Frame));
        }
        let reason = if matches!(bad, Bad::Frame) { DropReason::IpTunnelEcn } else { DropReason::NotSpecified };
        return net.kfree_skb(skb, reason, "ip_tunnel_rcv");
    }
    let len = skb.len() as u64;
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx(1, len);
    }
    deliver(net, (ns, dev), g.protocol, skb);
}

/// Checksum and order as agreed on; a mark of congestion outside comes inside, or the packet is lost (RFC 6040 §4.2).
fn accept(net: &mut Net, dev: DevId, g: &Gre, outer: &Ipv4Header, skb: &mut Skb) -> Result<(), Bad> {
    let t = net.tunnel_mut(dev).ok_or(Bad::Frame)?;
    if (t.iflags ^ g.flags) & GRE_CSUM != 0 {
        return Err(Bad::Csum);
    }
    if t.iflags & GRE_SEQ != 0 {
        let old = t.i_seqno != 0 && (g.seq.wrapping_sub(t.i_seqno) as i32) < 0;
        if g.flags & GRE_SEQ == 0 || old {
            return Err(Bad::Order);
        }
        t.i_seqno = g.seq.wrapping_add(1);
    }
    let link = if t.kind == Kind::Gretap { ETH_HLEN } else { 0 };
    if !skb.may_pull(link + 1) {
        return Err(Bad::Frame);
    }
    skb.network_header = skb.head.start().saturating_add(link as u8);
    skb.may_pull(link + 20);
    if outer.tos & 3 == 3 && headers::dsfield(skb).is_some() && !headers::set_ce(skb) {
        return Err(Bad::Frame);
    }
    Ok(())
}

/// It is a packet of the device's now.
fn deliver(net: &mut Net, (ns, dev): (NsId, DevId), protocol: u16, mut skb: Skb) {
    let Some((own, own_ns, frames)) =
        net.devs.get(dev).map(|d| (d.mac, d.ns, of(net, dev).is_some_and(|t| t.kind == Kind::Gretap)))
    else {
        return net.kfree_skb(skb, DropReason::DevReady, "ip_tunnel_rcv");
    };
    scrub(net, &mut skb, own_ns != ns);
    skb.pull_offloads();
    skb.dev = Some(dev);
    // Packets without a link header have an empty one here, as those of a TUN device.
    let headed = frames || skb.cow_head(ETH_HLEN) && ethernet::push_header(&mut skb, Mac::ZERO, Mac::ZERO, protocol);
    if !headed {
        return net.kfree_skb(skb, DropReason::NoMem, "ip_tunnel_rcv");
    }
    if !ethernet::type_trans(&mut skb, own) {
        return net.kfree_skb(skb, DropReason::PktTooSmall, "ip_tunnel_rcv");
    }
    if !frames {
        skb.pkt_type = PktType::Host;
    }
    dev_rx::netif_rx(net, skb);
}

/// An ICMP error about what a tunnel sent; `skb` is pulled to the quoted IP header. What goes in next is told.
#[doc(alias = "ipip_err")]
#[doc(alias = "gre_err")]
pub fn err(net: &mut Net, ns: NsId, proto: u8, skb: &SkBuff, (kind, code, info): (u8, u8, u32)) {
    let Ok(ip) = Ipv4Header::parse(skb.head.bytes()) else { return };
    let g = match proto {
        IPPROTO_GRE => skb.head.bytes().get(ip.ihl_bytes..).and_then(gre_header).unwrap_or_default(),
        _ => Gre::default(),
    };
    let what = (proto, (proto == IPPROTO_GRE).then_some(g.protocol));
    let Some(dev) = lookup(net, ns, what, (ip.dst, ip.src), g.key, skb.dev) else { return };
    match (kind, code) {
        (ICMP_DEST_UNREACH, ICMP_SR_FAILED) => return,
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED) => return update_pmtu(net, ns, ip.dst, info),
        (ICMP_DEST_UNREACH, _) => {}
        (ICMP_TIME_EXCEEDED, ICMP_EXC_TTL) => {}
        _ => return,
    }
    let (now, recent) = (net.env.jiffies(), 30 * net.env.hz);
    let Some(t) = net.tunnel_mut(dev).filter(|t| !t.remote.is_unspecified()) else { return };
    if t.ttl == 0 && kind == ICMP_TIME_EXCEEDED {
        return;
    }
    let count = if now.wrapping_sub(t.errors.1) < recent { t.errors.0 + 1 } else { 1 };
    t.errors = (count, now);
}
