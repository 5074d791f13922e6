//! [`FlowKey`]: which conversation a frame belongs to, and where its headers lie.
use crate::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, VLAN_HLEN, is_vlan};
use crate::ipv4::{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, Ipv4Header};
use crate::ipv6::{self, IPV6_HLEN, Ipv6Header};
use crate::{Frame, Malformed};
use core::net::IpAddr;
use std::fmt;

/// Addresses, ports and protocol of an IP packet; fragments and protocols without ports have ports 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
}

impl FlowKey {
    /// From a frame with or without Ethernet header; `None` for what is neither IPv4 nor IPv6.
    #[doc(alias = "skb_flow_dissect")]
    pub fn dissect(frame: &Frame) -> Option<FlowKey> {
        FlowKey::from_ip(frame.head.bytes().get(net_offset(frame)?..)?)
    }

    /// From bytes that begin with an IP header.
    pub fn from_ip(b: &[u8]) -> Option<FlowKey> {
        if b.first().is_some_and(|v| v >> 4 == 6) { FlowKey::from_ipv6(b) } else { FlowKey::from_ipv4(b) }
    }

    fn from_ipv4(b: &[u8]) -> Option<FlowKey> {
        let ip = Ipv4Header::parse(b).ok()?;
        let mut key = FlowKey { src: ip.src.into(), dst: ip.dst.into(), sport: 0, dport: 0, proto: ip.proto };
        if !ip.is_fragment() {
            key.set_ports(b.get(ip.ihl_bytes..)?)?;
        }
        Some(key)
    }

    fn from_ipv6(b: &[u8]) -> Option<FlowKey> {
        let (ip, t) = (Ipv6Header::parse(b).ok()?, ipv6::transport(b)?);
        let mut key = FlowKey { src: ip.src.into(), dst: ip.dst.into(), sport: 0, dport: 0, proto: t.proto };
        if t.frag.is_none() {
            key.set_ports(b.get(t.at..)?)?;
        }
        Some(key)
    }

    fn set_ports(&mut self, l4: &[u8]) -> Option<()> {
        if matches!(self.proto, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE) {
            let [s0, s1, d0, d1] = *l4.first_chunk::<4>()?;
            (self.sport, self.dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        }
        Some(())
    }

    /// The other direction.
    pub fn reversed(self) -> FlowKey {
        FlowKey { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, sport, dst, dport, .. } = *self;
        write!(f, "{} > {}", core::net::SocketAddr::from((src, sport)), core::net::SocketAddr::from((dst, dport)))
    }
}

/// VLAN tags that are looked behind.
const MOST_TAGS: usize = 8;

/// Where the IP header begins: behind Ethernet (and its VLAN tags), or at 0 on a device without link header.
///
/// A frame does not say which it is. Ethernet is tried first: a bare packet would need a source like 8.0.69-79.x and a
/// length that fits by chance to be mistaken.
pub fn net_offset(frame: &Frame) -> Option<usize> {
    let b = frame.head.bytes();
    let behind = |at: usize| Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]));
    let mut at = ETH_HLEN;
    while at <= ETH_HLEN + MOST_TAGS * VLAN_HLEN && behind(at - 2).is_some_and(is_vlan) {
        at += VLAN_HLEN;
    }
    let at = if matches!(behind(at - 2), Some(ETH_P_IP | ETH_P_IPV6)) { at } else { 0 };
    [at, 0].into_iter().find(|at| fits(frame, *at))
}

fn fits(frame: &Frame, at: usize) -> bool {
    let Some(b) = frame.head.bytes().get(at..) else { return false };
    if b.first().is_some_and(|v| v >> 4 == 6) {
        // BIG TCP: a super-segment too long for the field has 0 there, and so has any with only its head.
        return Ipv6Header::parse(b).is_ok_and(|ip| IPV6_HLEN + ip.payload_len as usize <= frame.len() - at);
    }
    match Ipv4Header::parse(b) {
        Ok(ip) => ip.total_len as usize <= frame.len() - at,
        Err(Malformed::BadLength) => frame.gso.is_some(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ethernet::{EthHeader, Mac};
    use crate::udp::UdpHeader;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn datagram(mf: bool) -> Vec<u8> {
        let mut b = vec![0; 28];
        let ip = Ipv4Header {
            total_len: 28,
            proto: IPPROTO_UDP,
            mf,
            src: Ipv4Addr::new(10, 0, 2, 15),
            dst: Ipv4Addr::new(10, 0, 2, 3),
            ..Default::default()
        };
        ip.emit(&mut b);
        UdpHeader { src_port: 4000, dst_port: 53, len: 8, csum: 0 }.emit(&mut b[20..]);
        b
    }

    #[test]
    fn found_with_and_without_ethernet() {
        let bare = Frame::from_bytes(&datagram(false), 1);
        let mut eth = bare.clone();
        eth.head = Default::default();
        eth.head.push(28).unwrap().copy_from_slice(&datagram(false));
        EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ethertype: ETH_P_IP }.emit(eth.head.push(14).unwrap());
        let key = FlowKey::dissect(&bare).unwrap();
        assert_eq!(key.to_string(), "10.0.2.15:4000 > 10.0.2.3:53");
        assert_eq!((FlowKey::dissect(&eth), net_offset(&eth)), (Some(key), Some(14)));
        assert_eq!(key.reversed().reversed(), key);
        let fragment = FlowKey::dissect(&Frame::from_bytes(&datagram(true), 1)).unwrap();
        assert_eq!((fragment.src, fragment.sport, fragment.dport), (key.src, 0, 0));
        assert_eq!(FlowKey::dissect(&Frame::from_bytes(&[0x45; 10], 1)), None);
        assert_eq!(FlowKey::dissect(&Frame::default()), None);
    }

    #[test]
    fn six_too() {
        let mut b = vec![0; 48];
        let ip = Ipv6Header {
            payload_len: 8,
            next: IPPROTO_UDP,
            src: Ipv6Addr::LOCALHOST,
            dst: "fd00::2".parse().unwrap(),
            ..Default::default()
        };
        ip.emit(&mut b);
        UdpHeader { src_port: 4000, dst_port: 53, len: 8, csum: 0 }.emit(&mut b[40..]);
        assert_eq!(FlowKey::dissect(&Frame::from_bytes(&b, 1)).unwrap().to_string(), "[::1]:4000 > [fd00::2]:53");
        b.splice(..0, [0; 12].into_iter().chain(ETH_P_IPV6.to_be_bytes()));
        assert_eq!(net_offset(&Frame::from_bytes(&b, 1)), Some(14));
        assert_eq!(net_offset(&Frame::from_bytes(&b[..60], 1)), None);
    }
}
