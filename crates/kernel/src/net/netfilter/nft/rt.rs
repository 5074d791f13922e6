//! `rt`: what the way says on which a packet leaves.
use super::Base;
use super::eval::{At, Regs, Then, when};
use super::expr::{Attrs, Reg, number};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::mangle::path_mss;
use crate::net::netfilter::packet::{Pkt, addr};
use crate::net::netfilter::{Hook, Pf};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use core::net::IpAddr;

/// What Linux takes for a segment where the way says nothing that could be one (`TCP_MSS_DEFAULT`).
const TCP_MSS_DEFAULT: u16 = 536;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Rt {
    key: u32,
    dreg: Reg,
}

impl Rt {
    #[doc(alias = "nft_rt_get_init")]
    pub fn parse(a: Attrs<'_>) -> Done<Rt> {
        let key = number(a, NFTA_RT_KEY)?;
        let len = match key {
            NFT_RT_NEXTHOP4 => 4,
            NFT_RT_NEXTHOP6 => 16,
            NFT_RT_TCPMSS => 2,
            // Realms of routes, IPsec.
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        Ok(Rt { key, dreg: Reg::parse(a.get(NFTA_RT_DREG), len)? })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(NFTA_RT_KEY, &self.key.to_be_bytes()).attr(NFTA_RT_DREG, &self.dreg.number().to_be_bytes());
    }

    #[doc(alias = "nft_rt_validate")]
    pub fn stands(&self, b: &Base) -> Result<(), Errno> {
        let leaves = matches!(b.hook, Hook::Forward | Hook::LocalOut | Hook::PostRouting) && b.at.is_none();
        if leaves || self.key != NFT_RT_TCPMSS { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    #[doc(alias = "nft_rt_get_eval")]
    pub fn eval(&self, net: &mut Net, regs: &mut Regs, a: At, p: &Pkt, skb: &SkBuff) -> Then {
        let Some(dst) = skb.dst else { return Then::Break };
        if self.key == NFT_RT_TCPMSS {
            let mss = path_mss(net, a.ns, p, skb).unwrap_or(TCP_MSS_DEFAULT);
            regs.put(self.dreg, &mss.to_ne_bytes());
            return Then::Next;
        }
        match (self.key, p.pf, dst.gateway.unwrap_or(addr(p.pf, p.dst))) {
            (NFT_RT_NEXTHOP4, Pf::V4, IpAddr::V4(hop)) => regs.put(self.dreg, &hop.octets()),
            (NFT_RT_NEXTHOP6, Pf::V6, IpAddr::V6(hop)) => regs.put(self.dreg, &hop.octets()),
            _ => return when(false),
        }
        Then::Next
    }
}
