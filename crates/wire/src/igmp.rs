//! IGMP (RFC 1112, RFC 2236, RFC 3376): queries and reports of all three versions.
use crate::{Malformed, checksum};
use core::net::Ipv4Addr;

pub const IPPROTO_IGMP: u8 = 2;
/// Shortest message, and the fixed part of a version 3 query.
pub const IGMP_HLEN: usize = 8;
pub const QUERY_HLEN: usize = 12;

pub const IGMP_HOST_MEMBERSHIP_QUERY: u8 = 0x11;
pub const IGMP_HOST_MEMBERSHIP_REPORT: u8 = 0x12;
pub const IGMPV2_HOST_MEMBERSHIP_REPORT: u8 = 0x16;
pub const IGMP_HOST_LEAVE_MESSAGE: u8 = 0x17;
pub const IGMPV3_HOST_MEMBERSHIP_REPORT: u8 = 0x22;

/// 224.0.0.1, which every host is a member of; 224.0.0.2; 224.0.0.22, where version 3 reports go.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
pub const ALL_REPORTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// Types of a record in a version 3 report (RFC 3376 §4.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordType {
    ModeIsInclude = 1,
    ModeIsExclude,
    ChangeToInclude,
    ChangeToExclude,
    AllowNewSources,
    BlockOldSources,
}

/// One group in a version 3 report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordType,
    pub group: Ipv4Addr,
    pub sources: Vec<Ipv4Addr>,
}

impl Record {
    pub fn len(&self) -> usize {
        8 + 4 * self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The fixed part of every message: type, maximum response code, group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgmpHeader {
    pub kind: u8,
    pub code: u8,
    pub group: Ipv4Addr,
}

impl IgmpHeader {
    pub fn parse(b: &[u8]) -> Result<IgmpHeader, Malformed> {
        let &[kind, code, _, _, g0, g1, g2, g3] = b.first_chunk::<IGMP_HLEN>().ok_or(Malformed::Truncated)?;
        Ok(IgmpHeader { kind, code, group: Ipv4Addr::new(g0, g1, g2, g3) })
    }

    /// The message with its checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let mut b = vec![self.kind, self.code, 0, 0];
        b.extend(self.group.octets());
        sum(b)
    }
}

/// What a version 3 query says beyond the fixed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryV3 {
    /// Robustness and query interval in seconds, 0 when not told.
    pub qrv: u8,
    pub qqic: u32,
    pub sources: Vec<Ipv4Addr>,
}

impl QueryV3 {
    pub fn parse(b: &[u8]) -> Result<QueryV3, Malformed> {
        let h = b.get(IGMP_HLEN..QUERY_HLEN).ok_or(Malformed::Truncated)?;
        let n = usize::from(u16::from_be_bytes([h[2], h[3]]));
        let list = b.get(QUERY_HLEN..QUERY_HLEN + 4 * n).ok_or(Malformed::Truncated)?;
        let sources = list.chunks_exact(4).map(|c| Ipv4Addr::new(c[0], c[1], c[2], c[3])).collect();
        Ok(QueryV3 { qrv: h[0] & 7, qqic: decode(h[1]), sources })
    }
}

/// A code of 128 and more is a floating point number (RFC 3376 §4.1.1).
pub fn decode(code: u8) -> u32 {
    match code {
        0..=127 => code.into(),
        _ => (u32::from(code & 15) | 16) << ((code >> 4 & 7) + 3),
    }
}

/// A version 3 report with its checksum.
pub fn report(records: &[Record]) -> Vec<u8> {
    let mut b = vec![IGMPV3_HOST_MEMBERSHIP_REPORT, 0, 0, 0, 0, 0];
    b.extend((records.len() as u16).to_be_bytes());
    for r in records {
        b.extend([r.kind as u8, 0]);
        b.extend((r.sources.len() as u16).to_be_bytes());
        b.extend(r.group.octets());
        r.sources.iter().for_each(|s| b.extend(s.octets()));
    }
    sum(b)
}

/// The records of a version 3 report.
pub fn parse_report(b: &[u8]) -> Result<Vec<Record>, Malformed> {
    let count = b.get(6..8).map(|n| u16::from_be_bytes([n[0], n[1]])).ok_or(Malformed::Truncated)?;
    let mut rest = b.get(8..).unwrap_or(&[]);
    let mut out = Vec::new();
    for _ in 0..count {
        let &[kind, aux, n0, n1, g0, g1, g2, g3] = rest.first_chunk::<8>().ok_or(Malformed::Truncated)?;
        let n = usize::from(u16::from_be_bytes([n0, n1]));
        let list = rest.get(8..8 + 4 * n).ok_or(Malformed::Truncated)?;
        use RecordType::*;
        let all = [ModeIsInclude, ModeIsExclude, ChangeToInclude, ChangeToExclude, AllowNewSources, BlockOldSources];
        let kind = *all.get(usize::from(kind).wrapping_sub(1)).ok_or(Malformed::BadType)?;
        let sources = list.chunks_exact(4).map(|c| Ipv4Addr::new(c[0], c[1], c[2], c[3])).collect();
        out.push(Record { kind, group: Ipv4Addr::new(g0, g1, g2, g3), sources });
        rest = rest.get(8 + 4 * n + 4 * usize::from(aux)..).ok_or(Malformed::Truncated)?;
    }
    Ok(out)
}

fn sum(mut b: Vec<u8>) -> Vec<u8> {
    let c = checksum::fold(checksum::sum(&b, 0));
    b[2..4].copy_from_slice(&c.to_be_bytes());
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_go_round() {
        let group = Ipv4Addr::new(239, 1, 1, 1);
        let all = vec![
            Record { kind: RecordType::ChangeToExclude, group, sources: vec![] },
            Record { kind: RecordType::BlockOldSources, group, sources: vec![Ipv4Addr::new(1, 1, 1, 1)] },
        ];
        let b = report(&all);
        assert_eq!((b.len(), checksum::fold(checksum::sum(&b, 0))), (8 + 8 + 12, 0));
        assert_eq!(parse_report(&b), Ok(all));
        assert_eq!(parse_report(&b[..20]), Err(Malformed::Truncated));
        // As Linux sends it for a join.
        let join = report(&[Record { kind: RecordType::ChangeToExclude, group, sources: vec![] }]);
        assert_eq!(join, [0x22, 0, 0xe9, 0xfb, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 1, 1]);
    }

    #[test]
    fn queries() {
        let h = IgmpHeader { kind: IGMP_HOST_MEMBERSHIP_QUERY, code: 100, group: Ipv4Addr::UNSPECIFIED };
        assert_eq!((IgmpHeader::parse(&h.bytes()), IgmpHeader::parse(&[0; 7])), (Ok(h), Err(Malformed::Truncated)));
        let mut b = h.bytes();
        b.extend([2, 125, 0, 1, 1, 2, 3, 4]);
        let q = QueryV3 { qrv: 2, qqic: 125, sources: vec![Ipv4Addr::new(1, 2, 3, 4)] };
        assert_eq!((QueryV3::parse(&b), QueryV3::parse(&b[..15])), (Ok(q), Err(Malformed::Truncated)));
        assert_eq!((decode(127), decode(128), decode(0xff)), (127, 128, 31 << 10));
    }
}
