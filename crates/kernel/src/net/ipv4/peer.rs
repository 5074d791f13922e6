//! What is remembered about other hosts: tokens for ICMP errors to them, fragments seen from them (`inet_peer`).
use crate::env::Jiffies;
use core::net::IpAddr;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Peers kept at most (`inet_peer_threshold`); the oldest goes first.
const LIMIT: usize = 65_664;
/// Errors that may go out at once after a silence.
const XRLIM_BURST_FACTOR: u32 = 6;

#[derive(Clone, Copy, Debug)]
pub struct Peer {
    tokens: u32,
    last: Jiffies,
    /// Fragments received from it, counted to tell how far apart two are.
    pub fragments: u32,
    /// Redirects sent to it in a row, and when the last one was due.
    pub redirects: u32,
    pub redirected: Jiffies,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    map: HashMap<IpAddr, Peer, Hash>,
    order: VecDeque<IpAddr>,
}

/// Addresses are spread by a multiplication; the number of peers is bounded, so is what a flood of collisions costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hash;

#[derive(Debug)]
pub struct Mix(u64);

impl std::hash::BuildHasher for Hash {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix(0x9e37_79b9_7f4a_7c15)
    }
}

impl std::hash::Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(b.into());
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.0 ^= self.0 >> 32;
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

impl Peers {
    pub fn get(&mut self, addr: impl Into<IpAddr>, now: Jiffies) -> &mut Peer {
        let addr = addr.into();
        if !self.map.contains_key(&addr) {
            if self.order.len() >= LIMIT
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(addr);
        }
        // A new peer has been silent for as long as it takes to fill its bucket.
        self.map.entry(addr).or_insert(Peer {
            tokens: u32::MAX,
            last: now,
            fragments: 0,
            redirects: 0,
            redirected: now,
        })
    }
}

impl Peer {
    /// One token every `timeout` ticks, six at most in the bucket; 0 means no limit.
    #[doc(alias = "inet_peer_xrlim_allow")]
    pub fn xrlim_allow(&mut self, timeout: u32, now: Jiffies) -> bool {
        timeout == 0 || self.take(timeout, timeout.saturating_mul(XRLIM_BURST_FACTOR), now)
    }

    /// The routing layer's own check, before the general one: one a second, five at once (`route.error_cost`,
    /// `route.error_burst`), out of the same bucket.
    #[doc(alias = "ip_error")]
    pub fn route_error_allow(&mut self, hz: u32, now: Jiffies) -> bool {
        self.take(hz, 5 * hz, now)
    }

    fn take(&mut self, cost: u32, most: u32, now: Jiffies) -> bool {
        let filled = self.tokens.saturating_add(now.wrapping_sub(self.last));
        (self.tokens, self.last) = (filled.min(most), now);
        let allowed = self.tokens >= cost;
        if allowed {
            self.tokens -= cost;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_at_once_then_one_a_second() {
        let mut peers = Peers::default();
        let p = peers.get(IpAddr::from([10, 0, 0, 1]), 1000);
        assert_eq!((0..200).filter(|_| p.xrlim_allow(250, 1000)).count(), 6);
        assert!(!p.xrlim_allow(250, 1249) && p.xrlim_allow(250, 1250) && !p.xrlim_allow(250, 1251));
        assert_eq!((0..200).filter(|_| p.xrlim_allow(250, 100_000)).count(), 6);
    }
}
