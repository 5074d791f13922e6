//! Ethernet II: addresses and the 14-byte header. VLAN tags are left to whoever pulls them.
use crate::Malformed;
use std::fmt;

pub const ETH_HLEN: usize = 14;
pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_ARP: u16 = 0x0806;
pub const ETH_P_8021Q: u16 = 0x8100;
/// The outer tag of a provider (IEEE 802.1ad).
pub const ETH_P_8021AD: u16 = 0x88a8;
pub const ETH_P_IPV6: u16 = 0x86dd;
/// PPPoE, once its session is there.
pub const ETH_P_PPP_SES: u16 = 0x8864;
/// Every protocol: for packet sockets, never on the wire.
pub const ETH_P_ALL: u16 = 0x0003;

/// A VLAN tag's bytes.
pub const VLAN_HLEN: usize = 4;

/// The frame begins its payload with a VLAN tag (`eth_type_vlan`).
#[inline]
pub fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD
}

/// A hardware address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const ZERO: Mac = Mac([0; 6]);
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Group bit, so also for the broadcast address.
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    pub fn is_broadcast(&self) -> bool {
        *self == Mac::BROADCAST
    }

    pub fn is_zero(&self) -> bool {
        *self == Mac::ZERO
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Mac {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Mac, Malformed> {
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for b in &mut mac {
            let p = parts.next().filter(|p| matches!(p.len(), 1 | 2)).ok_or(Malformed::BadLength)?;
            *b = u8::from_str_radix(p, 16).map_err(|_| Malformed::BadType)?;
        }
        parts.next().is_none().then_some(Mac(mac)).ok_or(Malformed::BadLength)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthHeader {
    pub dst: Mac,
    pub src: Mac,
    pub ethertype: u16,
}

impl EthHeader {
    pub fn parse(b: &[u8]) -> Result<EthHeader, Malformed> {
        let Some(&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]) = b.first_chunk::<ETH_HLEN>() else {
            return Err(Malformed::Truncated);
        };
        Ok(EthHeader {
            dst: Mac([d0, d1, d2, d3, d4, d5]),
            src: Mac([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// Writes 14 bytes; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<ETH_HLEN>() else { return };
        b[..6].copy_from_slice(&self.dst.0);
        b[6..12].copy_from_slice(&self.src.0);
        b[12..].copy_from_slice(&self.ethertype.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_addresses_go_round() {
        let h = EthHeader { dst: Mac::BROADCAST, src: Mac([2, 0, 0, 0xab, 0, 1]), ethertype: ETH_P_ARP };
        let mut b = [0; 14];
        h.emit(&mut b);
        assert_eq!(EthHeader::parse(&b), Ok(h));
        assert_eq!(EthHeader::parse(&b[..13]), Err(Malformed::Truncated));
        assert_eq!((h.src.to_string(), h.src.to_string().parse()), ("02:00:00:ab:00:01".into(), Ok(h.src)));
        assert!(h.dst.is_multicast() && !h.src.is_multicast() && "1:2:3:4:5".parse::<Mac>().is_err());
    }
}
