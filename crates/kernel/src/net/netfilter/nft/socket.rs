//! `socket`: what is known of the socket that a packet is for; and `tproxy`, which says which socket that is.
use super::Base;
use super::eval::{At, Regs, Then};
use super::expr::{Attrs, Reg, number, number_or};
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::packet::{Pkt, addr};
use crate::net::netfilter::{Hook, Pf};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    key: u32,
    dreg: Reg,
}

impl Socket {
    #[doc(alias = "nft_socket_init")]
    pub fn parse(family: u8, a: Attrs<'_>) -> Done<Socket> {
        if !matches!(family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let key = number(a, NFTA_SOCKET_KEY)?;
        let len = match key {
            NFT_SOCKET_TRANSPARENT | NFT_SOCKET_WILDCARD => 1,
            NFT_SOCKET_MARK => 4,
            // Control groups are the host's.
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        Ok(Socket { key, dreg: Reg::parse(a.get(NFTA_SOCKET_DREG), len)? })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(NFTA_SOCKET_KEY, &self.key.to_be_bytes()).attr(NFTA_SOCKET_DREG, &self.dreg.number().to_be_bytes());
    }

    /// Of what leaves the socket is not kept.
    #[doc(alias = "nft_socket_validate")]
    pub fn stands(&self, b: &Base) -> Result<(), Errno> {
        let here = matches!(b.hook, Hook::PreRouting | Hook::LocalIn) && b.at.is_none();
        if here { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    #[doc(alias = "nft_socket_eval")]
    pub fn eval(&self, regs: &mut Regs, skb: &SkBuff) -> Then {
        let Some(s) = skb.seen_sock else { return Then::Break };
        match (self.key, s.whole) {
            (NFT_SOCKET_TRANSPARENT, _) => regs.put(self.dreg, &[s.transparent.into()]),
            (NFT_SOCKET_MARK, Some((mark, _))) => regs.put(self.dreg, &mark.to_ne_bytes()),
            (_, Some((_, wildcard))) => regs.put(self.dreg, &[wildcard.into()]),
            (_, None) => return Then::Break,
        }
        Then::Next
    }
}

/// Where to: an address, a port, or both.
#[derive(Clone, Copy, Debug)]
pub struct Tproxy {
    family: u8,
    addr: Option<Reg>,
    port: Option<Reg>,
}

impl Tproxy {
    #[doc(alias = "nft_tproxy_init")]
    pub fn parse(table: u8, a: Attrs<'_>) -> Done<Tproxy> {
        let family = number_or(a, NFTA_TPROXY_FAMILY, u32::MAX)?;
        let (addr, port) = (a.get(NFTA_TPROXY_REG_ADDR), a.get(NFTA_TPROXY_REG_PORT));
        if family == u32::MAX || (addr.is_none() && port.is_none()) {
            return Err(Errno::EINVAL.into());
        }
        let of = u8::try_from(family).map_err(|_| Errno::EOPNOTSUPP)?;
        match table {
            NFPROTO_INET => {}
            NFPROTO_IPV4 | NFPROTO_IPV6 if of == table => {}
            NFPROTO_IPV4 | NFPROTO_IPV6 => return Err(Errno::EINVAL.into()),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
        let len = match of {
            NFPROTO_UNSPEC if addr.is_some() => return Err(Errno::EINVAL.into()),
            NFPROTO_UNSPEC | NFPROTO_IPV4 => 4,
            NFPROTO_IPV6 => 16,
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        let addr = addr.map(|v| Reg::parse(Some(v), len)).transpose()?;
        let port = port.map(|v| Reg::parse(Some(v), 2)).transpose()?;
        Ok(Tproxy { family: of, addr, port })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(NFTA_TPROXY_FAMILY, &u32::from(self.family).to_be_bytes());
        for (kind, reg) in [(NFTA_TPROXY_REG_ADDR, self.addr), (NFTA_TPROXY_REG_PORT, self.port)] {
            if let Some(r) = reg {
                m.attr(kind, &r.number().to_be_bytes());
            }
        }
    }

    #[doc(alias = "nft_tproxy_validate")]
    pub fn stands(&self, b: &Base) -> Result<(), Errno> {
        let here = b.hook == Hook::PreRouting && b.at.is_none();
        if here { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    /// The way up knows the socket; whether it is one that takes foreign addresses is asked there.
    #[doc(alias = "nft_tproxy_eval")]
    pub fn eval(&self, regs: &Regs, a: At, p: &Pkt, skb: &mut SkBuff) -> Then {
        let mine = match self.family {
            NFPROTO_IPV4 => p.pf == Pf::V4,
            NFPROTO_IPV6 => p.pf == Pf::V6,
            _ => true,
        };
        if !mine || p.later || a.link.is_some() || !matches!(p.proto, IPPROTO_TCP | IPPROTO_UDP) {
            return Then::Break;
        }
        let to = self.addr.map_or(0, |r| regs.addr(r, p.pf));
        skb.tproxy = Some((addr(p.pf, to), self.port.map_or(0, |r| regs.port(r))));
        Then::Next
    }
}
