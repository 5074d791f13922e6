//! The ICMP header (RFC 792) and Linux's names for types and codes.
use crate::Malformed;

pub const ICMP_HLEN: usize = 8;

pub const ICMP_ECHOREPLY: u8 = 0;
pub const ICMP_DEST_UNREACH: u8 = 3;
pub const ICMP_SOURCE_QUENCH: u8 = 4;
pub const ICMP_REDIRECT: u8 = 5;
pub const ICMP_ECHO: u8 = 8;
pub const ICMP_TIME_EXCEEDED: u8 = 11;
pub const ICMP_PARAMETERPROB: u8 = 12;
pub const ICMP_TIMESTAMP: u8 = 13;
pub const ICMP_TIMESTAMPREPLY: u8 = 14;
pub const ICMP_INFO_REQUEST: u8 = 15;
pub const ICMP_INFO_REPLY: u8 = 16;
pub const ICMP_ADDRESS: u8 = 17;
pub const ICMP_ADDRESSREPLY: u8 = 18;
/// Types above are unknown to the kernel's table.
pub const NR_ICMP_TYPES: u8 = 18;

pub const ICMP_NET_UNREACH: u8 = 0;
pub const ICMP_HOST_UNREACH: u8 = 1;
pub const ICMP_PROT_UNREACH: u8 = 2;
pub const ICMP_PORT_UNREACH: u8 = 3;
pub const ICMP_FRAG_NEEDED: u8 = 4;
pub const ICMP_SR_FAILED: u8 = 5;
pub const ICMP_NET_UNKNOWN: u8 = 6;
pub const ICMP_HOST_UNKNOWN: u8 = 7;
pub const ICMP_HOST_ISOLATED: u8 = 8;
pub const ICMP_NET_ANO: u8 = 9;
pub const ICMP_HOST_ANO: u8 = 10;
pub const ICMP_NET_UNR_TOS: u8 = 11;
pub const ICMP_HOST_UNR_TOS: u8 = 12;
pub const ICMP_PKT_FILTERED: u8 = 13;
pub const ICMP_PREC_VIOLATION: u8 = 14;
pub const ICMP_PREC_CUTOFF: u8 = 15;

/// Codes of [`ICMP_TIME_EXCEEDED`].
pub const ICMP_EXC_TTL: u8 = 0;
pub const ICMP_EXC_FRAGTIME: u8 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcmpHeader {
    pub kind: u8,
    pub code: u8,
    pub csum: u16,
    /// Identifier and sequence, next-hop MTU, gateway or pointer, as the type says.
    pub rest: [u8; 4],
}

impl IcmpHeader {
    pub fn parse(b: &[u8]) -> Result<IcmpHeader, Malformed> {
        let &[kind, code, c0, c1, r0, r1, r2, r3] = b.first_chunk::<ICMP_HLEN>().ok_or(Malformed::Truncated)?;
        Ok(IcmpHeader { kind, code, csum: u16::from_be_bytes([c0, c1]), rest: [r0, r1, r2, r3] })
    }

    /// Writes 8 bytes with `self.csum` as it is; nothing when there is no room.
    pub fn emit(&self, b: &mut [u8]) {
        let Some(b) = b.first_chunk_mut::<ICMP_HLEN>() else { return };
        let ([c0, c1], [r0, r1, r2, r3]) = (self.csum.to_be_bytes(), self.rest);
        *b = [self.kind, self.code, c0, c1, r0, r1, r2, r3];
    }

    /// Identifier and sequence number of an echo.
    pub fn echo(&self) -> (u16, u16) {
        let [a, b, c, d] = self.rest;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// `rest` of an echo.
    pub fn echo_rest(id: u16, seq: u16) -> [u8; 4] {
        let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
        [a, b, c, d]
    }

    /// Next-hop MTU of "fragmentation needed" (RFC 1191 §4).
    pub fn mtu(&self) -> u16 {
        u16::from_be_bytes([self.rest[2], self.rest[3]])
    }

    /// True for messages about another packet, which they quote.
    #[doc(alias = "icmp_is_err")]
    pub fn is_error(&self) -> bool {
        matches!(
            self.kind,
            ICMP_DEST_UNREACH | ICMP_SOURCE_QUENCH | ICMP_REDIRECT | ICMP_TIME_EXCEEDED | ICMP_PARAMETERPROB
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let h = IcmpHeader { kind: ICMP_ECHO, code: 0, csum: 0xbeef, rest: IcmpHeader::echo_rest(7, 0x102) };
        let mut b = [0; 8];
        h.emit(&mut b);
        assert_eq!((b, IcmpHeader::parse(&b), h.echo()), ([8, 0, 0xbe, 0xef, 0, 7, 1, 2], Ok(h), (7, 0x102)));
        assert_eq!(IcmpHeader::parse(&b[1..]), Err(Malformed::Truncated));
        let e = IcmpHeader { kind: ICMP_DEST_UNREACH, code: ICMP_FRAG_NEEDED, csum: 0, rest: [0, 0, 5, 0xdc] };
        assert!(e.is_error() && e.mtu() == 1500 && !h.is_error());
    }
}
