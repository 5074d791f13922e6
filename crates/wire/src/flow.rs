//! [`FlowKey`]: which conversation a frame belongs to, and where its headers lie.
use crate::ethernet::{ETH_HLEN, ETH_P_8021Q, ETH_P_IP};
use crate::ipv4::{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, Ipv4Header};
use crate::{Frame, Malformed};
use core::net::Ipv4Addr;
use std::fmt;

/// Addresses, ports and protocol of an IPv4 packet; fragments and protocols without ports have ports 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
}

impl FlowKey {
    /// From a frame with or without Ethernet header; `None` for what is not IPv4.
    #[doc(alias = "skb_flow_dissect")]
    pub fn dissect(frame: &Frame) -> Option<FlowKey> {
        FlowKey::from_ipv4(frame.head.bytes().get(net_offset(frame)?..)?)
    }

    /// From bytes that begin with an IPv4 header.
    pub fn from_ipv4(b: &[u8]) -> Option<FlowKey> {
        let ip = Ipv4Header::parse(b).ok()?;
        let mut key = FlowKey { src: ip.src, dst: ip.dst, sport: 0, dport: 0, proto: ip.proto };
        if !ip.is_fragment() && matches!(ip.proto, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE) {
            let [s0, s1, d0, d1] = *b.get(ip.ihl_bytes..)?.first_chunk::<4>()?;
            (key.sport, key.dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        }
        Some(key)
    }

    /// The other direction.
    pub fn reversed(self) -> FlowKey {
        FlowKey { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} > {}:{}", self.src, self.sport, self.dst, self.dport)
    }
}

/// Where the IPv4 header begins: behind Ethernet (and one VLAN tag), or at 0 on a device without link header.
///
/// A frame does not say which it is. Ethernet is tried first: a bare packet would need the source 8.0.69-79.x and a
/// length that fits by chance to be mistaken.
pub fn net_offset(frame: &Frame) -> Option<usize> {
    let b = frame.head.bytes();
    let fits = |at: usize| match b.get(at..).map(Ipv4Header::parse) {
        Some(Ok(ip)) => ip.total_len as usize <= frame.len() - at,
        // BIG TCP: a super-segment too long for the field has 0 there.
        Some(Err(Malformed::BadLength)) => frame.gso.is_some(),
        _ => false,
    };
    let behind = |at: usize| Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]));
    let at = match behind(12) {
        Some(ETH_P_IP) => ETH_HLEN,
        Some(ETH_P_8021Q) if behind(16) == Some(ETH_P_IP) => ETH_HLEN + 4,
        _ => 0,
    };
    [at, 0].into_iter().find(|at| fits(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ethernet::{EthHeader, Mac};
    use crate::udp::UdpHeader;

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
}
