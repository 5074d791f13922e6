//! ARP for IPv4 over Ethernet (RFC 826): the 28 bytes behind the Ethernet header.
use crate::{Malformed, ethernet::Mac};
use core::net::Ipv4Addr;

pub const ARP_HLEN: usize = 28;
pub const ARPOP_REQUEST: u16 = 1;
pub const ARPOP_REPLY: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    pub op: u16,
    pub sha: Mac,
    pub spa: Ipv4Addr,
    pub tha: Mac,
    pub tpa: Ipv4Addr,
}

/// Hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
const ETHER_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl ArpPacket {
    pub fn parse(b: &[u8]) -> Result<ArpPacket, Malformed> {
        let b = b.first_chunk::<ARP_HLEN>().ok_or(Malformed::Truncated)?;
        if b[..6] != ETHER_IPV4 {
            return Err(Malformed::BadType);
        }
        let mac = |at: usize| Mac(std::array::from_fn(|i| b[at + i]));
        let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
        Ok(ArpPacket { op: u16::from_be_bytes([b[6], b[7]]), sha: mac(8), spa: ip(14), tha: mac(18), tpa: ip(24) })
    }

    /// Writes 28 bytes; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<ARP_HLEN>() else { return };
        b[..6].copy_from_slice(&ETHER_IPV4);
        b[6..8].copy_from_slice(&self.op.to_be_bytes());
        b[8..14].copy_from_slice(&self.sha.0);
        b[14..18].copy_from_slice(&self.spa.octets());
        b[18..24].copy_from_slice(&self.tha.0);
        b[24..].copy_from_slice(&self.tpa.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_and_refuses_other_hardware() {
        let p = ArpPacket {
            op: ARPOP_REQUEST,
            sha: Mac([2, 0, 0, 0, 0, 1]),
            spa: Ipv4Addr::new(10, 0, 2, 15),
            tha: Mac::ZERO,
            tpa: Ipv4Addr::new(10, 0, 2, 2),
        };
        let mut b = [0; 28];
        p.emit(&mut b);
        assert_eq!(b[..10], [0, 1, 8, 0, 6, 4, 0, 1, 2, 0]);
        assert_eq!(ArpPacket::parse(&b), Ok(p));
        assert_eq!(ArpPacket::parse(&b[1..]), Err(Malformed::Truncated));
        b[1] = 6;
        assert_eq!(ArpPacket::parse(&b), Err(Malformed::BadType));
    }
}
