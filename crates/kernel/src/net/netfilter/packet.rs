//! What filters look at in a packet, read once for each hook.
use super::{Devs, Pf};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use belljar_wire::ethernet::{ETH_P_IP, ETH_P_IPV6};
use belljar_wire::icmp::ICMP_HLEN;
use belljar_wire::ipv4::*;
use belljar_wire::ipv6::{self, Ipv6Header, NEXTHDR_ICMP};
use belljar_wire::tcp::TCP_HLEN;
use belljar_wire::udp::UDP_HLEN;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of both families as one number; IPv4 in the low 32 bits.
pub fn bits(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

pub fn addr(pf: Pf, bits: u128) -> IpAddr {
    match pf {
        Pf::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Pf::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

/// See the module. Offsets are from the network header, where the packet's linear part begins.
#[derive(Clone, Copy, Debug)]
pub struct Pkt {
    pub pf: Pf,
    pub src: u128,
    pub dst: u128,
    pub proto: u8,
    /// Of the transport header.
    pub at: usize,
    /// Not the first piece of its datagram: there is no transport header.
    pub later: bool,
    pub tos: u8,
    pub ttl: u8,
    pub len: usize,
    pub in_name: [u8; 16],
    pub out_name: [u8; 16],
}

impl Pkt {
    /// `None` for what is no packet of the family.
    pub fn read(pf: Pf, skb: &mut SkBuff) -> Option<Pkt> {
        let len = skb.len();
        let mut p = match pf {
            Pf::V4 => {
                let ip = Ipv4Header::parse(skb.head.bytes()).ok().or_else(|| big4(skb))?;
                let (src, dst) = (ip.src.to_bits().into(), ip.dst.to_bits().into());
                let (at, later) = (ip.ihl_bytes, ip.frag_off != 0);
                Pkt { pf, src, dst, proto: ip.proto, at, later, tos: ip.tos, ttl: ip.ttl, len, ..Pkt::none(pf) }
            }
            Pf::V6 => {
                let ip = Ipv6Header::parse(skb.head.bytes()).ok()?;
                let t = ipv6::transport(skb.head.bytes());
                let (proto, at) = t.map_or((ip.next, ipv6::IPV6_HLEN), |t| (t.proto, t.at));
                let later = t.is_none_or(|t| t.frag.is_some_and(|f| f.offset != 0));
                let (src, dst) = (ip.src.to_bits(), ip.dst.to_bits());
                Pkt { pf, src, dst, proto, at, later, tos: ip.tclass, ttl: ip.hop_limit, len, ..Pkt::none(pf) }
            }
        };
        // Its transport header has to be at hand.
        let header = match p.proto {
            IPPROTO_TCP => TCP_HLEN,
            IPPROTO_UDP | IPPROTO_ICMP | NEXTHDR_ICMP => ICMP_HLEN,
            _ => 0,
        };
        if !p.later && header != 0 && !skb.may_pull(p.at + header) {
            p.later = header > UDP_HLEN || len < p.at + header;
        }
        Some(p)
    }

    /// A frame that is no packet of IP: nothing is known of its inside.
    pub fn of_frame(skb: &SkBuff) -> Pkt {
        Pkt { later: true, len: skb.len(), ..Pkt::none(Pf::V4) }
    }

    /// As chains at links see it, at its network header with `header` bytes of the link's before; and whether it was read as a
    /// packet of IP, where that is wanted.
    pub fn at_link(net: &Net, skb: &mut SkBuff, ip: bool, header: usize, devs: Devs) -> (Pkt, bool) {
        let pf = match skb.protocol {
            ETH_P_IP if ip => Some(Pf::V4),
            ETH_P_IPV6 if ip => Some(Pf::V6),
            _ => None,
        };
        let read = pf.and_then(|pf| Pkt::read(pf, skb));
        let is_ip = read.is_some();
        let mut p = read.unwrap_or_else(|| Pkt::of_frame(skb));
        p.len = skb.len() + header;
        p.name_devs(net, devs);
        (p, is_ip)
    }

    /// Names of the devices that it came by and leaves by.
    pub fn name_devs(&mut self, net: &Net, (iin, out): Devs) {
        for (dev, to) in [(iin, &mut self.in_name), (out, &mut self.out_name)] {
            if let Some(d) = dev.and_then(|d| net.devs.get(d)) {
                let n = d.name.len().min(15);
                to[..n].copy_from_slice(&d.name.as_bytes()[..n]);
            }
        }
    }

    fn none(pf: Pf) -> Pkt {
        Pkt {
            pf,
            src: 0,
            dst: 0,
            proto: 0,
            at: 0,
            later: false,
            tos: 0,
            ttl: 0,
            len: 0,
            in_name: [0; 16],
            out_name: [0; 16],
        }
    }

    /// The transport header, as much of it as lies in the linear part.
    pub fn transport<'a>(&self, skb: &'a SkBuff) -> &'a [u8] {
        if self.later { &[] } else { skb.head.bytes().get(self.at..).unwrap_or(&[]) }
    }

    /// Source and destination port.
    pub fn ports(&self, skb: &SkBuff) -> Option<(u16, u16)> {
        let &[a, b, c, d] = self.transport(skb).first_chunk()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }
}

/// A super-segment beyond 64 KB has no length in its header.
fn big4(skb: &SkBuff) -> Option<Ipv4Header> {
    let mut b = [0; 60];
    let n = skb.head.len().min(60);
    b[..n].copy_from_slice(&skb.head.bytes()[..n]);
    if skb.gso.is_none() || b[2..4] != [0, 0] {
        return None;
    }
    b[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    Ipv4Header::parse(&b[..n]).ok()
}
