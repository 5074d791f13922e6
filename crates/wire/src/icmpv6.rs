//! ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and MLDv2 (RFC 3810): numbers, and the options of discovery.
//!
//! The common header is that of ICMP: [`IcmpHeader`](crate::icmp::IcmpHeader).
use crate::Mac;

pub const ICMPV6_DEST_UNREACH: u8 = 1;
pub const ICMPV6_PKT_TOOBIG: u8 = 2;
pub const ICMPV6_TIME_EXCEED: u8 = 3;
pub const ICMPV6_PARAMPROB: u8 = 4;
pub const ICMPV6_ECHO_REQUEST: u8 = 128;
pub const ICMPV6_ECHO_REPLY: u8 = 129;
pub const ICMPV6_MGM_QUERY: u8 = 130;
pub const ICMPV6_MGM_REPORT: u8 = 131;
pub const ICMPV6_MGM_REDUCTION: u8 = 132;
pub const NDISC_ROUTER_SOLICITATION: u8 = 133;
pub const NDISC_ROUTER_ADVERTISEMENT: u8 = 134;
pub const NDISC_NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NDISC_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
pub const NDISC_REDIRECT: u8 = 137;
pub const ICMPV6_MLD2_REPORT: u8 = 143;

/// Types below are errors.
pub const ICMPV6_INFOMSG_MASK: u8 = 0x80;

/// Codes of [`ICMPV6_DEST_UNREACH`].
pub const ICMPV6_NOROUTE: u8 = 0;
pub const ICMPV6_ADM_PROHIBITED: u8 = 1;
pub const ICMPV6_NOT_NEIGHBOUR: u8 = 2;
pub const ICMPV6_ADDR_UNREACH: u8 = 3;
pub const ICMPV6_PORT_UNREACH: u8 = 4;
pub const ICMPV6_POLICY_FAIL: u8 = 5;
pub const ICMPV6_REJECT_ROUTE: u8 = 6;

/// Codes of [`ICMPV6_TIME_EXCEED`].
pub const ICMPV6_EXC_HOPLIMIT: u8 = 0;
pub const ICMPV6_EXC_FRAGTIME: u8 = 1;

/// Codes of [`ICMPV6_PARAMPROB`].
pub const ICMPV6_HDR_FIELD: u8 = 0;
pub const ICMPV6_UNK_NEXTHDR: u8 = 1;
pub const ICMPV6_UNK_OPTION: u8 = 2;

/// Flags in the first byte behind the common four of a neighbour advertisement.
pub const NA_ROUTER: u8 = 0x80;
pub const NA_SOLICITED: u8 = 0x40;
pub const NA_OVERRIDE: u8 = 0x20;

pub const ND_OPT_SOURCE_LL_ADDR: u8 = 1;
pub const ND_OPT_TARGET_LL_ADDR: u8 = 2;
pub const ND_OPT_PREFIX_INFO: u8 = 3;
pub const ND_OPT_REDIRECT_HDR: u8 = 4;
pub const ND_OPT_MTU: u8 = 5;
pub const ND_OPT_NONCE: u8 = 14;
pub const ND_OPT_ROUTE_INFO: u8 = 24;
pub const ND_OPT_RDNSS: u8 = 25;

/// The options of a discovery message: type and body (without type and length). `None` ends it early: a length of zero, or
/// one beyond the message, makes all of it invalid (RFC 4861 §4.6).
pub fn nd_options(mut b: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    let mut bad = false;
    std::iter::from_fn(move || {
        if b.is_empty() || bad {
            return None;
        }
        let len = b.get(1).map_or(0, |l| usize::from(*l) * 8);
        match b.get(2..len) {
            Some(body) if len != 0 => {
                let kind = b[0];
                b = &b[len..];
                Some(Some((kind, body)))
            }
            _ => {
                bad = true;
                Some(None)
            }
        }
    })
}

/// The Ethernet address in a link-layer address option.
pub fn nd_mac(body: &[u8]) -> Option<Mac> {
    body.first_chunk::<6>().map(|m| Mac(*m))
}

/// A link-layer address option for Ethernet: 8 bytes.
pub fn nd_mac_option(kind: u8, mac: Mac) -> [u8; 8] {
    let m = mac.0;
    [kind, 1, m[0], m[1], m[2], m[3], m[4], m[5]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_discovery() {
        let mut b = nd_mac_option(ND_OPT_SOURCE_LL_ADDR, Mac([2, 0, 0, 0, 0, 9])).to_vec();
        b.extend([ND_OPT_MTU, 1, 0, 0, 0, 0, 5, 220]);
        let all: Vec<_> = nd_options(&b).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(nd_mac(all[0].unwrap().1), Some(Mac([2, 0, 0, 0, 0, 9])));
        assert_eq!(all[1], Some((ND_OPT_MTU, &[0, 0, 0, 0, 5, 220][..])));
        b[9] = 0;
        assert_eq!(nd_options(&b).last(), Some(None));
        b[9] = 2;
        assert_eq!(nd_options(&b).last(), Some(None));
        assert_eq!(nd_options(&[]).count(), 0);
    }
}
