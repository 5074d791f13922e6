//! `payload` that writes: bytes of a header from registers, and the checksums over them kept right.
use super::eval::{Regs, Then};
use super::expr::{Attrs, PAYLOAD_LL, PAYLOAD_NETWORK, PAYLOAD_TRANSPORT, Reg, number, number_or};
use super::layer2;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::mangle::{change_pseudo, change_sum, transport_sum};
use crate::net::netfilter::packet::Pkt;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use belljar_wire::{Csum, checksum};

const CSUM_NONE: u32 = 0;
const CSUM_INET: u32 = 1;
/// The transport checksum covers it as well, by its pseudo header (`NFT_PAYLOAD_L4CSUM_PSEUDOHDR`).
const L4CSUM_PSEUDOHDR: u32 = 1;

/// `payload` with a source register.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    base: u32,
    offset: u8,
    len: u8,
    sreg: Reg,
    csum_type: u32,
    csum_offset: u8,
    csum_flags: u32,
}

impl Write {
    #[doc(alias = "nft_payload_set_init")]
    pub fn parse(a: Attrs<'_>) -> Done<Write> {
        let (base, offset, len) = (number(a, 2)?, number(a, 3)?, number(a, 4)?);
        let csum_type = number_or(a, NFTA_PAYLOAD_CSUM_TYPE, CSUM_NONE)?;
        let csum_offset = number_or(a, NFTA_PAYLOAD_CSUM_OFFSET, 0)?;
        let csum_flags = number_or(a, NFTA_PAYLOAD_CSUM_FLAGS, 0)?;
        if offset > 255 || csum_offset > 255 {
            return Err(Errno::ERANGE.into());
        }
        if csum_flags & !L4CSUM_PSEUDOHDR != 0 || len == 0 || len as usize > NFT_DATA_VALUE_MAXLEN {
            return Err(Errno::EINVAL.into());
        }
        if !matches!(base, PAYLOAD_LL | PAYLOAD_NETWORK | PAYLOAD_TRANSPORT) || csum_type > CSUM_INET {
            // What lies further in, SCTP.
            return Err(Errno::EOPNOTSUPP.into());
        }
        let sreg = Reg::parse(a.get(NFTA_PAYLOAD_SREG), len as usize)?;
        let (offset, len, csum_offset) = (offset as u8, len as u8, csum_offset as u8);
        Ok(Write { base, offset, len, sreg, csum_type, csum_offset, csum_flags })
    }

    #[doc(alias = "nft_payload_set_dump")]
    pub fn fill(&self, m: &mut Msg<'_>) {
        let all = [
            (NFTA_PAYLOAD_SREG, self.sreg.number()),
            (2, self.base),
            (3, self.offset.into()),
            (4, self.len.into()),
            (NFTA_PAYLOAD_CSUM_TYPE, self.csum_type),
            (NFTA_PAYLOAD_CSUM_OFFSET, self.csum_offset.into()),
            (NFTA_PAYLOAD_CSUM_FLAGS, self.csum_flags),
        ];
        for (kind, v) in all {
            m.attr(kind, &v.to_be_bytes());
        }
    }

    #[doc(alias = "nft_payload_set_eval")]
    pub fn eval(&self, regs: &Regs, p: &Pkt, skb: &mut SkBuff) -> Then {
        let transport = self.base == PAYLOAD_TRANSPORT;
        if self.base == PAYLOAD_LL {
            let written = layer2::write(skb, self.offset.into(), regs.get(self.sreg, self.len.into()));
            return if written { Then::Next } else { Then::Break };
        }
        if transport && p.later {
            return Then::Break;
        }
        let start = if transport { p.at } else { 0 };
        let (at, len) = (start + usize::from(self.offset), usize::from(self.len));
        if !skb.may_pull(at + len) {
            return Then::Break;
        }
        let Some(old) = skb.head.bytes().get(at..at + len) else { return Then::Break };
        let new = regs.get(self.sreg, len);
        let (from, to) = (checksum::sum(old, 0), checksum::sum(new, 0));
        // A transport checksum that is still to be made will cover it.
        if !(transport && skb.csum == Csum::Partial) {
            let own = (self.csum_type == CSUM_INET).then(|| start + usize::from(self.csum_offset));
            if own.is_some_and(|c| change_sum(skb, c, from, to).is_none()) {
                return Then::Break;
            }
            if self.csum_flags != 0
                && let Some(c) = transport_sum(p, skb)
            {
                let done = match skb.csum {
                    Csum::Partial => change_pseudo(skb, c, from, to),
                    _ => change_sum(skb, c, from, to),
                };
                if done.is_none() {
                    return Then::Break;
                }
            }
        }
        if let Some(b) = skb.head.bytes_mut().get_mut(at..at + len) {
            b.copy_from_slice(new);
        }
        Then::Next
    }
}
