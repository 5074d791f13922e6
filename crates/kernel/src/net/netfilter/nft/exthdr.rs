//! Options of TCP and extension headers of IPv6: read, and of TCP written and taken out.
use super::eval::{Regs, Then, when};
use super::expr::{Attrs, Reg, number, number_or};
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::Pf;
use crate::net::netfilter::mangle::{TCPOPT_MSS, TCPOPT_NOP, is_tcp, replace, tcp_option};
use crate::net::netfilter::packet::Pkt;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use belljar_wire::ipv6::IPV6_HLEN;

const OP_IPV6: u32 = 0;
const OP_TCPOPT: u32 = 1;
const FLAG_PRESENT: u32 = 1;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Load(Reg),
    /// Whether there is one.
    Present(Reg),
    Store(Reg),
    Strip,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Exthdr {
    op: u32,
    kind: u8,
    offset: u8,
    len: u8,
    does: Does,
}

impl Exthdr {
    #[doc(alias = "nft_exthdr_select_ops")]
    pub fn parse(a: Attrs<'_>) -> Done<Exthdr> {
        let kind = a.get(NFTA_EXTHDR_TYPE).and_then(|v| v.first().copied()).ok_or(Errno::EINVAL)?;
        let op = number_or(a, NFTA_EXTHDR_OP, OP_IPV6)?;
        if op > OP_TCPOPT {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let (dreg, sreg) = (a.get(NFTA_EXTHDR_DREG), a.get(NFTA_EXTHDR_SREG));
        if dreg.is_none() && sreg.is_none() && op == OP_TCPOPT {
            if kind < TCPOPT_MSS {
                return Err(Errno::EOPNOTSUPP.into());
            }
            return Ok(Exthdr { op, kind, offset: 0, len: 0, does: Does::Strip });
        }
        let (offset, len) = (number(a, NFTA_EXTHDR_OFFSET)?, number(a, NFTA_EXTHDR_LEN)?);
        let flags = number_or(a, NFTA_EXTHDR_FLAGS, 0)?;
        if offset > 255 || len > 255 {
            return Err(Errno::ERANGE.into());
        }
        if flags & !FLAG_PRESENT != 0 {
            return Err(Errno::EINVAL.into());
        }
        let does = match (dreg, sreg) {
            (Some(_), None) if flags & FLAG_PRESENT != 0 => Does::Present(Reg::parse(dreg, len as usize)?),
            (Some(_), None) => Does::Load(Reg::parse(dreg, len as usize)?),
            (None, Some(_)) if op == OP_TCPOPT => {
                if flags != 0 || kind < TCPOPT_MSS || !matches!(len, 2 | 4) {
                    return Err(Errno::EOPNOTSUPP.into());
                }
                Does::Store(Reg::parse(sreg, len as usize)?)
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        Ok(Exthdr { op, kind, offset: offset as u8, len: len as u8, does })
    }

    #[doc(alias = "nft_exthdr_dump_common")]
    pub fn fill(&self, m: &mut Msg<'_>) {
        fn be(m: &mut Msg<'_>, kind: u16, v: u32) {
            m.attr(kind, &v.to_be_bytes());
        }
        match self.does {
            Does::Load(r) | Does::Present(r) => be(m, NFTA_EXTHDR_DREG, r.number()),
            Does::Store(r) => be(m, NFTA_EXTHDR_SREG, r.number()),
            Does::Strip => {}
        }
        m.attr_u8(NFTA_EXTHDR_TYPE, self.kind);
        be(m, NFTA_EXTHDR_OFFSET, self.offset.into());
        be(m, NFTA_EXTHDR_LEN, self.len.into());
        be(m, NFTA_EXTHDR_FLAGS, if matches!(self.does, Does::Present(_)) { FLAG_PRESENT } else { 0 });
        be(m, NFTA_EXTHDR_OP, self.op);
    }

    pub fn eval(&self, regs: &mut Regs, p: &Pkt, skb: &mut SkBuff) -> Then {
        let found = if self.op == OP_TCPOPT { tcp_option(self.kind, p, skb) } else { ipv6_header(self.kind, p, skb) };
        match (self.does, found) {
            (Does::Present(r), f) => {
                regs.put(r, &[u8::from(f.is_some())]);
                Then::Next
            }
            (Does::Load(r), Some((at, _))) => {
                let at = at + usize::from(self.offset);
                let end = at + usize::from(self.len);
                if !skb.may_pull(end) {
                    return Then::Break;
                }
                when(skb.head.bytes().get(at..end).map(|b| regs.put(r, b)).is_some())
            }
            (Does::Load(_), None) => Then::Break,
            (Does::Store(r), Some((at, len))) => {
                if usize::from(self.offset) + usize::from(self.len) > len {
                    return Then::Break;
                }
                self.store(at + usize::from(self.offset), regs.get(r, self.len.into()), p, skb);
                Then::Next
            }
            (Does::Strip, Some((at, len))) => {
                replace(skb, p, at, &[TCPOPT_NOP; 40][..len.min(40)]);
                Then::Next
            }
            // Without the option there is nothing to write; where there is no header the rule ends.
            (Does::Store(_) | Does::Strip, None) => when(is_tcp(p)),
        }
    }

    /// A segment size only becomes smaller: a larger one can stop the connection.
    #[doc(alias = "nft_exthdr_tcp_set_eval")]
    fn store(&self, at: usize, new: &[u8], p: &Pkt, skb: &mut SkBuff) {
        let Some(old) = skb.head.bytes().get(at..at + new.len()) else { return };
        let grows = self.kind == TCPOPT_MSS && new.len() == 2 && old <= new;
        if !grows && old != new {
            replace(skb, p, at, new);
        }
    }
}

/// Where an extension header of IPv6 begins, and how long it is.
#[doc(alias = "ipv6_find_hdr")]
fn ipv6_header(kind: u8, p: &Pkt, skb: &mut SkBuff) -> Option<(usize, usize)> {
    const FRAGMENT: u8 = 44;
    const AUTH: u8 = 51;
    if p.pf != Pf::V6 {
        return None;
    }
    let mut next = *skb.head.bytes().get(6)?;
    let mut at = IPV6_HLEN;
    // Hop-by-hop, routing, fragment, destination options, mobility and authentication are followed.
    while matches!(next, 0 | 43 | FRAGMENT | 60 | 135 | AUTH) {
        if !skb.may_pull(at + 8) {
            return None;
        }
        let &[after, len] = skb.head.bytes().get(at..)?.first_chunk()?;
        let len = match next {
            FRAGMENT => 8,
            AUTH => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        if next == kind {
            return Some((at, len));
        }
        (next, at) = (after, at + len);
    }
    None
}
