//! The UDP header (RFC 768).
use crate::Malformed;

pub const UDP_HLEN: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpHeader {
    pub src_port: u16,
    pub dst_port: u16,
    /// Header and payload.
    pub len: u16,
    /// 0 says that there is none.
    pub csum: u16,
}

impl UdpHeader {
    /// Refuses a length below that of the header; whether the packet holds `len` bytes is for the caller to compare.
    pub fn parse(b: &[u8]) -> Result<UdpHeader, Malformed> {
        let &[s0, s1, d0, d1, l0, l1, c0, c1] = b.first_chunk::<UDP_HLEN>().ok_or(Malformed::Truncated)?;
        let h = UdpHeader {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            len: u16::from_be_bytes([l0, l1]),
            csum: u16::from_be_bytes([c0, c1]),
        };
        if (h.len as usize) < UDP_HLEN { Err(Malformed::BadLength) } else { Ok(h) }
    }

    /// Writes 8 bytes with `self.csum` as it is; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<UDP_HLEN>() else { return };
        b[..2].copy_from_slice(&self.src_port.to_be_bytes());
        b[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        b[4..6].copy_from_slice(&self.len.to_be_bytes());
        b[6..].copy_from_slice(&self.csum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let h = UdpHeader { src_port: 53, dst_port: 40000, len: 12, csum: 0x1234 };
        let mut b = [0; 8];
        h.emit(&mut b);
        assert_eq!(UdpHeader::parse(&b), Ok(h));
        b[5] = 7;
        assert_eq!(UdpHeader::parse(&b), Err(Malformed::BadLength));
        assert_eq!(UdpHeader::parse(&b[..7]), Err(Malformed::Truncated));
    }
}
