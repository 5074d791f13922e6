//! `dup` of the families ip and ip6: a copy goes by a router, as TEE's does. Chains of devices (`dup`, `fwd`) are left out.
use super::eval::{At, Regs, Then};
use super::expr::{Attrs, Reg};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::Pf;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::xt::copy::copy;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;

const SREG_ADDR: u16 = 1;
const SREG_DEV: u16 = 2;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Dup {
    addr: Reg,
    dev: Option<Reg>,
}

impl Dup {
    #[doc(alias = "nft_dup_ipv4_init")]
    pub fn parse(family: u8, a: Attrs<'_>) -> Done<Dup> {
        let len = match family {
            NFPROTO_IPV4 => 4,
            NFPROTO_IPV6 => 16,
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        let addr = Reg::parse(Some(a.get(SREG_ADDR).ok_or(Errno::EINVAL)?), len)?;
        let dev = a.get(SREG_DEV).map(|v| Reg::parse(Some(v), 4)).transpose()?;
        Ok(Dup { addr, dev })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(SREG_ADDR, &self.addr.number().to_be_bytes());
        if let Some(d) = self.dev {
            m.attr(SREG_DEV, &d.number().to_be_bytes());
        }
    }

    #[doc(alias = "nft_dup_ipv4_eval")]
    #[cold]
    pub fn eval(&self, net: &mut Net, regs: &Regs, a: At, p: &Pkt, skb: &SkBuff) -> Then {
        let gateway = regs.addr(self.addr, p.pf);
        let index = self.dev.map_or(0, |d| regs.word(d));
        let dev = if index == 0 { None } else { net.dev_by_index(a.ns, index) };
        let busy = net.nf_copies.is_busy() || (index != 0 && dev.is_none());
        if !busy && matches!(p.pf, Pf::V4 | Pf::V6) {
            copy(net, a.ns, a.hook, (p.pf, gateway), dev, skb);
        }
        Then::Next
    }
}
