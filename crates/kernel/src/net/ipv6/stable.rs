//! Identifiers of addresses that say nothing about the hardware and stay the same on a link (RFC 7217): `stable_secret`, and
//! `addr_gen_mode` 2 and 3.
use super::addrconf::{Dad, If6Addr, Inet6Dev, eui64, with_id};
use super::slaac::is_reserved;
use crate::env::SEC;
use crate::ids::DevId;
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::IFA_F_STABLE_PRIVACY;
use core::net::Ipv6Addr;

/// `enum in6_addr_gen_mode`.
pub const GEN_MODE_NONE: u32 = 1;
pub const GEN_MODE_STABLE_PRIVACY: u32 = 2;
pub const GEN_MODE_RANDOM: u32 = 3;

/// SHA-1's compression of one block, from its first state.
#[doc(alias = "sha1_transform")]
fn sha1_block(block: &[u8; 64]) -> [u32; 5] {
    const FIRST: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut w = [0u32; 80];
    for (w, b) in w.iter_mut().zip(block.as_chunks::<4>().0) {
        *w = u32::from_be_bytes(*b);
    }
    for i in 16..80 {
        w[i] = (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = FIRST;
    for (i, w) in w.into_iter().enumerate() {
        let (f, k) = match i {
            0..20 => ((b & c) | (!b & d), 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(w);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    let last = [a, b, c, d, e];
    std::array::from_fn(|i| FIRST[i].wrapping_add(last[i]))
}

/// F of RFC 7217 §5 as Linux has it on a little-endian machine: secret, prefix, the card's own address, how many collisions.
fn identifier(secret: Ipv6Addr, prefix: Ipv6Addr, hardware: &[u8], dad_count: u8) -> u64 {
    let mut block = [0; 64];
    let (secret, prefix) = (secret.octets(), prefix.octets());
    let words = secret.iter().chain(&prefix[..8]).chain(hardware.iter().take(32));
    block.iter_mut().zip(words).for_each(|(b, w)| *b = *w);
    block[56] = dad_count;
    let [high, low, ..] = sha1_block(&block);
    u64::from(high.swap_bytes()) << 32 | u64::from(low.swap_bytes())
}

impl Inet6Dev {
    pub(super) fn is_stable(&self) -> bool {
        matches!(self.conf.addr_gen_mode, GEN_MODE_STABLE_PRIVACY | GEN_MODE_RANDOM)
    }
}

impl Net {
    /// The identifier for a prefix after so many collisions. `None`: there is no secret, or none of what comes of it may be used.
    #[doc(alias = "ipv6_generate_stable_address")]
    pub(super) fn stable_address(&self, dev: DevId, prefix: Ipv6Addr, mut dad_count: u8) -> Option<Ipv6Addr> {
        let d = self.devs.get(dev)?;
        let n = self.ns.get(d.ns)?;
        let secret = d.inet6.conf.stable_secret.0.or(n.v6.conf_default.stable_secret.0)?;
        // Only cards keep an address of their own.
        let hardware = if d.nic().is_some() { d.mac.0 } else { [0; 6] };
        loop {
            let id = identifier(secret, prefix, &hardware, dad_count);
            if !is_reserved(id) {
                return Some(with_id(prefix, id));
            }
            dad_count = dad_count.checked_add(1)?;
            if i32::from(dad_count) > n.sysctl.idgen_retries {
                return None;
            }
        }
    }

    /// What a prefix that a router announced gets behind it, and the flag of such an address.
    pub(super) fn autoconf_address(&self, dev: DevId, prefix: Ipv6Addr) -> Option<(Ipv6Addr, u32)> {
        let d = self.devs.get(dev)?;
        if d.inet6.is_stable()
            && let Some(addr) = self.stable_address(dev, prefix, 0)
        {
            return Some((addr, IFA_F_STABLE_PRIVACY));
        }
        Some((with_id(prefix, eui64(d.mac)), 0))
    }

    /// A secret by chance, where there is none yet.
    #[doc(alias = "ipv6_gen_mode_random_init")]
    pub(super) fn random_secret(&mut self, dev: DevId) {
        let secret = (u128::from(self.env.rng.next_u64()) << 64) | u128::from(self.env.rng.next_u64());
        if let Some(d) = self.devs.get_mut(dev) {
            d.inet6.conf.stable_secret.0.get_or_insert(Ipv6Addr::from_bits(secret));
        }
    }

    /// EINVAL: identifiers by a secret, and there is none.
    #[doc(alias = "check_stable_privacy")]
    pub(crate) fn check_gen_mode(&self, dev: DevId, mode: u32) -> Result<(), Errno> {
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let default = self.ns.get(d.ns).and_then(|n| n.v6.conf_default.stable_secret.0);
        let none = default.is_none() && d.inet6.conf.stable_secret.0.is_none();
        if mode > GEN_MODE_RANDOM || (mode == GEN_MODE_STABLE_PRIVACY && none) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Somebody else has the address: the next one is tried after `idgen_delay`, `idgen_retries` times. `false`: no more.
    pub(super) fn stable_retry(&mut self, dev: DevId, failed: If6Addr) -> bool {
        let Some((ns, name, most)) = self.devs.get(dev).map(|d| (d.ns, d.name.clone(), d.inet6.conf.max_addresses))
        else {
            return false;
        };
        let (retries, count) =
            (failed.retries.saturating_add(1), self.devs.get(dev).map_or(0, |d| d.inet6.addrs.len()));
        let Some((allowed, delay)) = self.ns.get(ns).map(|n| (n.sysctl.idgen_retries, n.sysctl.idgen_delay)) else {
            return false;
        };
        if i32::from(retries) > allowed {
            self.kmsg_ratelimited(&format!(
                "IPv6: {name}: privacy stable address generation failed because of DAD conflicts!"
            ));
            return false;
        }
        let Some(addr) = self.stable_address(dev, failed.addr, retries) else { return false };
        if most != 0 && count >= most as usize {
            return false;
        }
        self.kmsg_ratelimited(&format!("IPv6: {name}: generating new stable privacy address because of DAD conflict"));
        let after = self.env.now + u64::from(delay) * SEC;
        let next = If6Addr { addr, retries, nonce: None, dad: Dad::Waits(after), ..failed };
        self.insert_address6(dev, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_measured_on_linux() {
        // FIPS 180: "abc", padded.
        let mut abc = [0; 64];
        abc[..4].copy_from_slice(b"abc\x80");
        abc[63] = 24;
        assert_eq!(sha1_block(&abc), [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c, 0x9cd0_d89d]);
        // Of 6.18: a veth, whose own address is none.
        let id = identifier("2001:db8::9".parse().unwrap(), "fe80::".parse().unwrap(), &[0; 6], 0);
        assert_eq!(id, 0x1d64_73c1_c2b2_9f48);
    }
}
