//! `ct`: what connections say of a packet, and what rules say to them.
use super::expr::{Attrs, Expr, Reg, number};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::nf_tables::*;

/// Bytes of what `ct` loads, and whether it asks for a direction.
fn ct_len(key: u32, ipv6: bool) -> Option<(usize, bool)> {
    Some(match key {
        NFT_CT_STATE | NFT_CT_STATUS | NFT_CT_MARK | NFT_CT_EXPIRATION | NFT_CT_ID => (4, false),
        NFT_CT_DIRECTION => (1, false),
        NFT_CT_L3PROTOCOL | NFT_CT_PROTOCOL => (1, false),
        NFT_CT_SRC | NFT_CT_DST => (if ipv6 { 16 } else { 4 }, true),
        NFT_CT_SRC_IP | NFT_CT_DST_IP => (4, true),
        NFT_CT_SRC_IP6 | NFT_CT_DST_IP6 => (16, true),
        NFT_CT_PROTO_SRC | NFT_CT_PROTO_DST => (2, true),
        // Of both directions together, or of one.
        NFT_CT_PKTS | NFT_CT_BYTES | NFT_CT_AVGPKT => (8, false),
        NFT_CT_ZONE => (2, false),
        _ => return None,
    })
}

pub fn parse(a: Attrs<'_>) -> Done<Expr> {
    let key = number(a, 2)?;
    match (a.get(1), a.get(4)) {
        (Some(_), Some(_)) | (None, None) => Err(Errno::EINVAL.into()),
        (None, Some(_)) if key == NFT_CT_MARK => Ok(Expr::CtMark { sreg: Reg::parse(a.get(4), 4)? }),
        (None, Some(_)) if key == NFT_CT_ZONE => {
            let dir = a.get(3).and_then(|v| v.first().copied());
            if dir.is_some_and(|d| d > 1) {
                return Err(Errno::EINVAL.into());
            }
            Ok(Expr::CtZone { sreg: Reg::parse(a.get(4), 2)?, dir })
        }
        (None, Some(_)) => Err(Errno::EOPNOTSUPP.into()),
        (Some(_), None) => {
            let dir = a.get(3).and_then(|v| v.first().copied());
            let (len, directed) = ct_len(key, true).ok_or(Errno::EOPNOTSUPP)?;
            if dir.is_some_and(|d| d > 1)
                || (directed && dir.is_none())
                || (!directed && dir.is_some() && len != 8 && key != NFT_CT_ZONE)
            {
                return Err(Errno::EINVAL.into());
            }
            // An address of either family has to find room.
            Ok(Expr::Ct { key, dir, dreg: Reg::parse(a.get(1), len)? })
        }
    }
}
