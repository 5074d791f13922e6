//! Numbers below a bound: one after another or at random (`numgen`), or by a hash of registers or of the packet (`jhash`,
//! `symhash`).
use super::eval::Regs;
use super::expr::{Attrs, Reg, number, number_or};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::core::txq::reciprocal_scale;
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netfilter::packet::Pkt;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use std::hash::Hasher;

/// So many numbers from an offset on. ERANGE for none, EOVERFLOW beyond what a word holds.
#[derive(Clone, Copy, Debug)]
struct Within {
    modulus: u32,
    offset: u32,
}

impl Within {
    fn parse(modulus: u32, offset: u32) -> Done<Within> {
        if modulus == 0 {
            return Err(Errno::ERANGE.into());
        }
        if offset.checked_add(modulus - 1).is_none() {
            return Err(Errno::EOVERFLOW.into());
        }
        Ok(Within { modulus, offset })
    }

    fn scale(self, hash: u32) -> u32 {
        self.offset.wrapping_add(reciprocal_scale(hash, self.modulus))
    }
}

/// `numgen`.
#[derive(Clone, Copy, Debug)]
pub struct Numgen {
    dreg: Reg,
    of: Within,
    random: bool,
    /// The last number that was given.
    last: u32,
}

impl Numgen {
    #[doc(alias = "nft_ng_select_ops")]
    pub fn parse(a: Attrs<'_>) -> Done<Numgen> {
        let random = match number(a, NFTA_NG_TYPE)? {
            NFT_NG_INCREMENTAL => false,
            NFT_NG_RANDOM => true,
            _ => return Err(Errno::EINVAL.into()),
        };
        let modulus = number(a, NFTA_NG_MODULUS)?;
        let of = Within::parse(modulus, number_or(a, NFTA_NG_OFFSET, 0)?)?;
        Ok(Numgen { dreg: Reg::parse(a.get(NFTA_NG_DREG), 4)?, of, random, last: modulus - 1 })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        let kind = if self.random { NFT_NG_RANDOM } else { NFT_NG_INCREMENTAL };
        let all = [
            (NFTA_NG_DREG, self.dreg.number()),
            (NFTA_NG_MODULUS, self.of.modulus),
            (NFTA_NG_TYPE, kind),
            (NFTA_NG_OFFSET, self.of.offset),
        ];
        for (kind, v) in all {
            m.attr(kind, &v.to_be_bytes());
        }
    }

    #[doc(alias = "nft_ng_inc_eval")]
    #[doc(alias = "nft_ng_random_eval")]
    pub fn eval(&mut self, net: &mut Net, regs: &mut Regs) {
        let n = if self.random {
            self.of.scale(net.env.rng.next_u32())
        } else {
            self.last = if self.last + 1 < self.of.modulus { self.last + 1 } else { 0 };
            self.of.offset.wrapping_add(self.last)
        };
        regs.put(self.dreg, &n.to_ne_bytes());
    }
}

/// `jhash` of registers with a seed, which is the namespace's own unless it is said; `symhash` of both ends of the packet.
#[derive(Clone, Copy, Debug)]
pub struct Hash {
    dreg: Reg,
    of: Within,
    jenkins: Option<(Reg, u8)>,
    seed: Option<u32>,
}

impl Hash {
    #[doc(alias = "nft_hash_select_ops")]
    pub fn parse(a: Attrs<'_>) -> Done<Hash> {
        let of = Within::parse(number(a, NFTA_HASH_MODULUS)?, number_or(a, NFTA_HASH_OFFSET, 0)?)?;
        let dreg = Reg::parse(a.get(NFTA_HASH_DREG), 4)?;
        let jenkins = match number_or(a, NFTA_HASH_TYPE, NFT_HASH_JENKINS)? {
            NFT_HASH_SYM => None,
            NFT_HASH_JENKINS => {
                let len = number(a, NFTA_HASH_LEN)?;
                if len > 255 {
                    return Err(Errno::ERANGE.into());
                }
                Some((Reg::parse(a.get(NFTA_HASH_SREG), len as usize)?, len as u8))
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        let seed = a.get(NFTA_HASH_SEED).map(be32).transpose()?;
        Ok(Hash { dreg, of, jenkins, seed })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        let mut be = |kind: u16, v: u32| {
            m.attr(kind, &v.to_be_bytes());
        };
        if let Some((sreg, len)) = self.jenkins {
            be(NFTA_HASH_SREG, sreg.number());
            be(NFTA_HASH_DREG, self.dreg.number());
            be(NFTA_HASH_LEN, len.into());
        } else {
            be(NFTA_HASH_DREG, self.dreg.number());
        }
        be(NFTA_HASH_MODULUS, self.of.modulus);
        if let (Some(seed), true) = (self.seed, self.jenkins.is_some()) {
            be(NFTA_HASH_SEED, seed);
        }
        if self.of.offset != 0 {
            be(NFTA_HASH_OFFSET, self.of.offset);
        }
        be(NFTA_HASH_TYPE, if self.jenkins.is_some() { NFT_HASH_JENKINS } else { NFT_HASH_SYM });
    }

    #[doc(alias = "nft_jhash_eval")]
    #[doc(alias = "nft_symhash_eval")]
    pub fn eval(&self, secret: [u64; 2], regs: &mut Regs, p: &Pkt, skb: &SkBuff) {
        let hash = match self.jenkins {
            Some((sreg, len)) => {
                let seed = self.seed.unwrap_or(secret[0] as u32);
                jhash(regs.get(sreg, len.into()), seed)
            }
            None => symmetric(secret, p, skb),
        };
        regs.put(self.dreg, &self.of.scale(hash).to_ne_bytes());
    }
}

/// The same for both directions of a flow (`__skb_get_hash_symmetric`).
fn symmetric(secret: [u64; 2], p: &Pkt, skb: &SkBuff) -> u32 {
    let (s, d) = p.ports(skb).unwrap_or((0, 0));
    let (low, high) = if (p.src, s) <= (p.dst, d) { ((p.src, s), (p.dst, d)) } else { ((p.dst, d), (p.src, s)) };
    let mut h = siphasher::sip::SipHasher13::new_with_keys(secret[0], secret[1]);
    for (addr, port) in [low, high] {
        h.write_u128(addr);
        h.write_u16(port);
    }
    h.write_u8(p.proto);
    h.finish() as u32
}

/// Bob Jenkins' hash (lookup3) as the kernel has it, over words in the machine's order.
fn jhash(mut key: &[u8], seed: u32) -> u32 {
    let begin = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(seed);
    let (mut a, mut b, mut c) = (begin, begin, begin);
    let word = |k: &[u8], at: usize| {
        let mut w = [0; 4];
        w.iter_mut().zip(k.iter().skip(at)).for_each(|(t, f)| *t = *f);
        u32::from_le_bytes(w)
    };
    while key.len() > 12 {
        a = a.wrapping_add(word(key, 0));
        b = b.wrapping_add(word(key, 4));
        c = c.wrapping_add(word(key, 8));
        (a, b, c) = mix(a, b, c);
        key = key.get(12..).unwrap_or(&[]);
    }
    if key.is_empty() {
        return c;
    }
    a = a.wrapping_add(word(key, 0));
    b = b.wrapping_add(word(key, 4));
    c = c.wrapping_add(word(key, 8));
    last(a, b, c)
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for turn in [[4, 6, 8], [16, 19, 4]] {
        a = a.wrapping_sub(c) ^ c.rotate_left(turn[0]);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(turn[1]);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(turn[2]);
        b = b.wrapping_add(a);
    }
    (a, b, c)
}

fn last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::jhash;

    /// What lookup3's author gives for these, with his seed in place of the kernel's beginning.
    #[test]
    fn the_hash_is_the_published_one() {
        let text = b"Four score and seven years ago";
        assert_eq!(jhash(text, 0), 0x1777_0551);
        assert_eq!(jhash(text, 1), 0xcd62_8161);
        assert_eq!(jhash(b"", 0), 0xdead_beef);
    }
}
