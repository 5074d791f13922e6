//! Receive side scaling: the card hashes the addresses and ports of a packet (Toeplitz), and a table says which queue gets
//! that hash.
use belljar_wire::{FlowKey, Frame};
use core::net::IpAddr;

/// Bytes of the key: enough for both addresses and both ports of IPv6.
pub const KEY_LEN: usize = 40;
/// Entries of the indirection table.
pub const INDIR_LEN: usize = 128;

/// The key of Microsoft's specification, which its examples of hashes are for: a card that nobody gave another one has it.
const KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    pub key: [u8; KEY_LEN],
    pub indir: [u8; INDIR_LEN],
    /// Somebody wrote the table: another number of channels leaves it alone (`netif_is_rxfh_configured`).
    pub configured: bool,
}

impl Rss {
    pub fn new(queues: usize) -> Rss {
        let mut rss = Rss { key: KEY, indir: [0; INDIR_LEN], configured: false };
        rss.spread(queues);
        rss
    }

    /// Every queue in turn (`ethtool_rxfh_indir_default`).
    pub fn spread(&mut self, queues: usize) {
        let queues = queues.max(1);
        self.indir.iter_mut().enumerate().for_each(|(n, e)| *e = (n % queues) as u8);
        self.configured = false;
    }

    /// The queue of a frame, whose hash is noted in it. What has no hash goes to the first.
    pub fn steer(&self, frame: &mut Frame) -> u16 {
        let Some(flow) = FlowKey::dissect(frame) else { return 0 };
        frame.hash = self.hash(&flow);
        self.indir.get(frame.hash as usize % INDIR_LEN).map_or(0, |q| u16::from(*q))
    }

    /// Toeplitz over addresses and, of a packet that shows them, ports.
    pub fn hash(&self, flow: &FlowKey) -> u32 {
        let mut input = [0; 36];
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            input.iter_mut().skip(len).zip(bytes).for_each(|(i, b)| *i = *b);
            len += bytes.len();
        };
        for addr in [flow.src, flow.dst] {
            match addr {
                IpAddr::V4(a) => put(&a.octets()),
                IpAddr::V6(a) => put(&a.octets()),
            }
        }
        if flow.sport != 0 || flow.dport != 0 {
            put(&flow.sport.to_be_bytes());
            put(&flow.dport.to_be_bytes());
        }
        toeplitz(&self.key, input.get(..len).unwrap_or(&[]))
    }
}

/// Each bit of the input that is set adds the 32 bits of the key that begin where it stands.
pub fn toeplitz(key: &[u8; KEY_LEN], input: &[u8]) -> u32 {
    let byte = |n: usize| u64::from(key.get(n).copied().unwrap_or(0));
    let mut window = (0..8).fold(0u64, |w, n| w << 8 | byte(n));
    let mut hash = 0u32;
    for (n, b) in input.iter().enumerate() {
        for bit in 0..8 {
            if b & 0x80 >> bit != 0 {
                hash ^= (window << bit >> 32) as u32;
            }
        }
        window = window << 8 | byte(n + 8);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn flow(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> FlowKey {
        FlowKey { src, dst, sport, dport, proto: 6 }
    }

    /// The verification suite of the specification.
    #[test]
    fn hashes_are_those_of_the_specification() {
        let v4 = |a: [u8; 4]| IpAddr::V4(Ipv4Addr::from(a));
        let rss = Rss::new(4);
        for (src, sport, dst, dport, addresses, all) in [
            ([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x323e_8fc2, 0x51cc_c178),
            ([199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xd718_262a, 0xc626_b0ea),
            ([24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ] {
            assert_eq!(rss.hash(&flow(v4(src), 0, v4(dst), 0)), addresses);
            assert_eq!(rss.hash(&flow(v4(src), sport, v4(dst), dport)), all);
        }
        let v6 = |a: &str| IpAddr::V6(a.parse::<Ipv6Addr>().unwrap());
        let (src, dst) = (v6("3ffe:2501:200:1fff::7"), v6("3ffe:2501:200:3::1"));
        assert_eq!(rss.hash(&flow(src, 0, dst, 0)), 0x2cc1_8cd5);
        assert_eq!(rss.hash(&flow(src, 2794, dst, 1766)), 0x4020_7d3d);
    }

    #[test]
    fn the_table_goes_round() {
        let rss = Rss::new(3);
        assert_eq!(rss.indir[..7], [0, 1, 2, 0, 1, 2, 0]);
    }
}
