//! `meta`: what is known of a packet beside its bytes.
use super::eval::{At, Regs};
use super::expr::{Attrs, Expr, Reg, number};
use crate::env::SEC;
use crate::net::Net;
use crate::net::core::skb::{PktType, Sender, SkBuff};
use crate::net::netfilter::Pf;
use crate::net::netfilter::packet::Pkt;
use crate::net::netlink::Done;
use crate::net::packet::link_of;
use belljar_abi::Errno;
use belljar_abi::nf_tables::*;

const DAY: u64 = 86_400 * SEC;

/// Bytes of what it loads.
fn len(key: u32) -> Option<usize> {
    Some(match key {
        NFT_META_TIME_NS => 8,
        NFT_META_LEN | NFT_META_MARK | NFT_META_IIF | NFT_META_OIF | NFT_META_CPU | NFT_META_PRANDOM => 4,
        NFT_META_IIFGROUP | NFT_META_OIFGROUP | NFT_META_RTCLASSID => 4,
        NFT_META_PRIORITY | NFT_META_TIME_HOUR | NFT_META_SDIF | NFT_META_SKUID | NFT_META_SKGID => 4,
        NFT_META_IIFNAME | NFT_META_OIFNAME | NFT_META_IIFKIND | NFT_META_OIFKIND | NFT_META_SDIFNAME => 16,
        NFT_META_PROTOCOL | NFT_META_IIFTYPE | NFT_META_OIFTYPE => 2,
        NFT_META_NFPROTO | NFT_META_L4PROTO | NFT_META_PKTTYPE | NFT_META_TIME_DAY => 1,
        _ => return None,
    })
}

pub fn parse(a: Attrs<'_>) -> Done<Expr> {
    let key = number(a, 2)?;
    match (a.get(1), a.get(3)) {
        (Some(_), Some(_)) | (None, None) => Err(Errno::EINVAL.into()),
        (None, Some(_)) => {
            let len = match key {
                NFT_META_MARK | NFT_META_PRIORITY => 4,
                NFT_META_NFTRACE | NFT_META_PKTTYPE => 1,
                _ => return Err(Errno::EOPNOTSUPP.into()),
            };
            Ok(Expr::MetaSet { key, sreg: Reg::parse(a.get(3), len)? })
        }
        (Some(_), None) => {
            let len = len(key).ok_or(Errno::EOPNOTSUPP)?;
            Ok(Expr::Meta { key, dreg: Reg::parse(a.get(1), len)? })
        }
    }
}

#[doc(alias = "nft_meta_set_eval")]
pub fn store(skb: &mut SkBuff, key: u32, regs: &Regs, sreg: Reg) {
    match key {
        NFT_META_PRIORITY => skb.priority = regs.word(sreg),
        NFT_META_NFTRACE => skb.nf_trace = regs.get(sreg, 1) != [0],
        NFT_META_PKTTYPE => {
            const TYPES: [PktType; 4] = [PktType::Host, PktType::Broadcast, PktType::Multicast, PktType::OtherHost];
            let wanted = regs.get(sreg, 1).first().and_then(|t| TYPES.get(usize::from(*t)));
            if let Some(t) = wanted.filter(|_| TYPES.contains(&skb.pkt_type)) {
                skb.pkt_type = *t;
            }
        }
        _ => skb.mark = regs.word(sreg),
    }
}

fn wall(net: &Net) -> u64 {
    net.env.now + net.env.wall_offset
}

#[doc(alias = "nft_meta_get_eval")]
pub fn load(net: &mut Net, regs: &mut Regs, key: u32, dreg: Reg, a: At, p: &Pkt, skb: &SkBuff) -> bool {
    let index = |d: Option<crate::ids::DevId>| d.and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex);
    let word = match key {
        NFT_META_LEN => p.len as u32,
        NFT_META_MARK => skb.mark,
        NFT_META_PRIORITY => skb.priority,
        NFT_META_SKUID | NFT_META_SKGID => match skb.sender {
            Sender::User { uid, .. } if key == NFT_META_SKUID => uid,
            Sender::User { gid, .. } => gid,
            _ => return false,
        },
        NFT_META_IIFGROUP | NFT_META_OIFGROUP => {
            let dev = if key == NFT_META_IIFGROUP { a.devs.0 } else { a.devs.1 };
            let Some(d) = dev.and_then(|d| net.devs.get(d)) else { return false };
            d.group
        }
        // Routes have no realms here.
        NFT_META_RTCLASSID if skb.dst.is_none() => return false,
        NFT_META_RTCLASSID => 0,
        // No device is enslaved to a VRF here.
        NFT_META_SDIF => 0,
        NFT_META_IIF => index(a.devs.0),
        NFT_META_OIF => index(a.devs.1),
        NFT_META_CPU => net.cpu as u32,
        NFT_META_PRANDOM => net.env.rng.next_u32(),
        NFT_META_IIFTYPE | NFT_META_OIFTYPE => {
            let dev = if key == NFT_META_IIFTYPE { a.devs.0 } else { a.devs.1 };
            let Some(d) = dev.and_then(|d| net.devs.get(d)) else { return false };
            regs.put(dreg, &link_of(d).1.to_ne_bytes());
            return true;
        }
        NFT_META_TIME_NS => {
            regs.put(dreg, &wall(net).to_ne_bytes());
            return true;
        }
        // The first day of 1970 was a Thursday.
        NFT_META_TIME_DAY => {
            regs.put(dreg, &[((wall(net) / DAY + 4) % 7) as u8]);
            return true;
        }
        NFT_META_TIME_HOUR => (wall(net) % DAY / SEC) as u32,
        NFT_META_SDIFNAME => {
            regs.put(dreg, &[0; 16]);
            return true;
        }
        NFT_META_IIFKIND | NFT_META_OIFKIND => {
            let dev = if key == NFT_META_IIFKIND { a.devs.0 } else { a.devs.1 };
            let Some(d) = dev.and_then(|d| net.devs.get(d)) else { return false };
            let mut kind = [0; 16];
            kind.iter_mut().zip(d.info_kind().unwrap_or("").bytes().take(15)).for_each(|(t, b)| *t = b);
            regs.put(dreg, &kind);
            return true;
        }
        NFT_META_IIFNAME => {
            regs.put(dreg, &p.in_name);
            return true;
        }
        NFT_META_OIFNAME => {
            regs.put(dreg, &p.out_name);
            return true;
        }
        NFT_META_PROTOCOL => {
            let of = if p.pf == Pf::V4 { 0x0800u16 } else { 0x86dd };
            regs.put(dreg, &a.link.map_or(of, |l| l.protocol).to_be_bytes());
            return true;
        }
        NFT_META_NFPROTO if a.link.is_some() => {
            regs.put(dreg, &[a.link.map_or(NFPROTO_NETDEV, |l| l.family)]);
            return true;
        }
        NFT_META_L4PROTO if a.link.is_some_and(|l| !l.is_ip) => return false,
        NFT_META_NFPROTO => {
            regs.put(dreg, &[if p.pf == Pf::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }]);
            return true;
        }
        NFT_META_L4PROTO => {
            regs.put(dreg, &[p.proto]);
            return true;
        }
        NFT_META_PKTTYPE => {
            regs.put(
                dreg,
                &[match skb.pkt_type {
                    PktType::Host => 0,
                    PktType::Broadcast => 1,
                    PktType::Multicast => 2,
                    PktType::OtherHost => 3,
                    PktType::Outgoing => 4,
                }],
            );
            return true;
        }
        _ => return false,
    };
    regs.put(dreg, &word.to_ne_bytes());
    true
}
