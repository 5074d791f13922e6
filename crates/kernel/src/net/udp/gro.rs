//! UDP_GRO on the way in: datagrams of one flow that a card hands up in one poll become one packet, if the socket that
//! will get them asked for it. Held from one poll to the next as those of TCP are.
use super::tables::{Lookup, lookup};
use crate::env::time::Jiffies;
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::core::gro::{self, MAX_HELD, MAX_LEN, eth, ip_continues, payload};
use crate::net::core::napi::Flush;
use crate::net::core::skb::{PktType, Skb};
use belljar_wire::ethernet::ETH_P_IP;
use belljar_wire::ipv4::{IPPROTO_UDP, IPV4_HLEN, Ipv4Header};
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, Gso, GsoType, checksum};

const HEADERS: usize = IPV4_HLEN + UDP_HLEN;
/// Datagrams in one packet (`UDP_GRO_CNT_MAX`).
const CNT_MAX: u16 = 64;

/// What is held in a poll, oldest first.
pub type Held = Vec<Train>;

/// Datagrams merged so far.
#[derive(Clone, Debug)]
pub struct Train {
    skb: Skb,
    ip: Ipv4Header,
    udp: UdpHeader,
    len: usize,
    count: u16,
    /// All have one IP identification; only with DF.
    fixed_id: bool,
    /// When the first came.
    age: Jiffies,
}

/// A packet, Ethernet header pulled; given back when it is nothing for a train here. What goes up now is put into `out`.
#[doc(alias = "udp4_gro_receive")]
pub fn gro_receive(k: &mut Kernel, dev: DevId, held: &mut Held, mut skb: Skb, out: &mut Vec<Skb>) -> Option<Skb> {
    let ns = k.net.devs.get(dev)?.ns;
    if skb.protocol != ETH_P_IP || !k.net.ns.get(ns).is_some_and(|n| n.udp.gro) {
        return Some(skb);
    }
    let Some((ip, udp)) = headers(&mut skb) else { return Some(skb) };
    let same = |t: &Train| (t.ip.src, t.ip.dst) == (ip.src, ip.dst) && ports(&t.udp) == ports(&udp);
    let at = held.iter().position(same);
    if at.is_none() && !wanted(k, dev, &ip, &udp) {
        return Some(skb);
    }
    if let Some(i) = at {
        if let Some(train) = held.get_mut(i).filter(|t| continues(t, &skb, &ip, &udp)) {
            k.net.stage(&skb, "skb_gro_receive");
            append(train, &mut skb, &ip);
            // A shorter datagram ends the train.
            let full = udp.len != train.udp.len || train.count >= CNT_MAX;
            k.net.consume_skb(skb);
            if full {
                out.push(complete(held.remove(i)));
            }
            return None;
        }
        out.push(complete(held.remove(i)));
    }
    if skb.gso.is_some() || udp.csum == 0 {
        out.push(skb);
        return None;
    }
    if held.len() >= MAX_HELD {
        out.push(complete(held.remove(0)));
    }
    skb.frags = payload(&mut skb, HEADERS);
    let age = k.net.env.jiffies();
    held.push(Train { skb, ip, udp, len: usize::from(udp.len) - UDP_HLEN, count: 1, fixed_id: false, age });
    None
}

/// The poll ends: everything goes up, or what is older than this tick, or nothing.
pub fn gro_flush(held: &mut Held, out: &mut Vec<Skb>, which: Flush) {
    gro::flush(held, out, which, |t| t.age, complete);
}

/// What is held, for who counts packets.
pub fn skbs(held: &Held) -> impl Iterator<Item = &Skb> {
    held.iter().map(|t| &t.skb)
}

pub fn into_skbs(held: Held) -> impl Iterator<Item = Skb> {
    held.into_iter().map(|t| t.skb)
}

fn ports(h: &UdpHeader) -> (u16, u16) {
    (h.src_port, h.dst_port)
}

/// A whole datagram with a payload, its checksum known to be good.
fn headers(skb: &mut Skb) -> Option<(Ipv4Header, UdpHeader)> {
    if skb.pkt_type != PktType::Host || skb.csum == Csum::None || !skb.may_pull(HEADERS) {
        return None;
    }
    let b = skb.head.bytes();
    let ip = Ipv4Header::parse(b).ok()?;
    if ip.ihl_bytes != IPV4_HLEN || ip.proto != IPPROTO_UDP || ip.is_fragment() || !Ipv4Header::verify_checksum(b) {
        return None;
    }
    let udp = UdpHeader::parse(b.get(IPV4_HLEN..)?).ok()?;
    let fits = ip.payload_len() == usize::from(udp.len) && usize::from(ip.total_len) <= skb.len();
    if !fits || usize::from(udp.len) == UDP_HLEN {
        return None;
    }
    skb.network_header = skb.head.start();
    skb.trim(ip.total_len.into());
    Some((ip, udp))
}

/// Whether the socket that the datagram is for takes several at once.
fn wanted(k: &Kernel, dev: DevId, ip: &Ipv4Header, udp: &UdpHeader) -> bool {
    let Some(n) = k.net.devs.get(dev).and_then(|d| k.net.ns.get(d.ns)) else { return false };
    let l = Lookup {
        daddr: ip.dst.into(),
        dport: udp.dst_port,
        saddr: ip.src.into(),
        sport: udp.src_port,
        dev: Some(dev),
        secret: n.secret,
        cpu: k.net.cpu,
        packet: None,
    };
    lookup(&n.udp, &k.socks.udp, &l).and_then(|id| k.socks.udp.get(id)).is_some_and(|s| s.gro)
}

#[doc(alias = "udp_gro_receive_segment")]
fn continues(t: &Train, skb: &Skb, ip: &Ipv4Header, udp: &UdpHeader) -> bool {
    ip_continues(&t.ip, t.count, t.fixed_id, ip)
        && skb.gso.is_none()
        && udp.csum != 0
        && udp.len <= t.udp.len
        && (eth(skb), skb.vlan) == (eth(&t.skb), t.skb.vlan)
        && HEADERS + t.len + usize::from(udp.len) - UDP_HLEN <= MAX_LEN
}

fn append(t: &mut Train, skb: &mut Skb, ip: &Ipv4Header) {
    t.fixed_id |= t.count == 1 && ip.id == t.ip.id;
    let data = payload(skb, HEADERS);
    t.len += data.len();
    t.skb.frags.append(data);
    t.skb.truesize += skb.truesize;
    t.count += 1;
}

/// Lengths of the whole, and a checksum to be finished by whoever sends it on.
#[doc(alias = "udp_gro_complete")]
fn complete(t: Train) -> Skb {
    let Train { mut skb, ip, udp, len, count, .. } = t;
    if count == 1 {
        return skb;
    }
    let total = UDP_HLEN + len;
    let pseudo = checksum::pseudo_v4(ip.src, ip.dst, IPPROTO_UDP, total);
    let b = skb.head.bytes_mut();
    Ipv4Header { total_len: (IPV4_HLEN + total) as u16, ..ip }.emit(b);
    if let Some(b) = b.get_mut(IPV4_HLEN..) {
        UdpHeader { len: total as u16, csum: checksum::partial(pseudo), ..udp }.emit(b);
    }
    skb.csum = Csum::Partial;
    skb.gso = Some(Gso::new(GsoType::UdpL4, udp.len - UDP_HLEN as u16, count));
    skb
}
