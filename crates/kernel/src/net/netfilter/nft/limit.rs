//! Limits of packets or bytes in a time.
use super::expr::{Attrs, number_or};
use crate::net::netfilter::nfnetlink::be64;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;

#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub rate: u64,
    /// Seconds.
    pub unit: u64,
    pub burst: u32,
    pub bytes: bool,
    pub invert: bool,
    /// Nanoseconds of credit, and since when.
    pub tokens: u64,
    pub last: u64,
}

/// What a limit has saved up when nobody came for long: so many packets.
const LIMIT_BURST: u32 = 5;
const NSEC: u64 = 1_000_000_000;

impl Limit {
    /// All that it can save, in nanoseconds.
    pub fn most(&self) -> u64 {
        let whole = u128::from(self.unit) * u128::from(NSEC);
        let (rate, burst) = (u128::from(self.rate), u128::from(self.burst));
        let most = if self.bytes { whole * (rate + burst) / rate } else { whole / rate * burst };
        u64::try_from(most).unwrap_or(u64::MAX)
    }

    /// What `len` bytes, or a packet, cost.
    pub fn cost(&self, len: u64) -> u64 {
        let whole = u128::from(self.unit) * u128::from(NSEC);
        let n = if self.bytes { u128::from(len) } else { 1 };
        u64::try_from(whole * n / u128::from(self.rate)).unwrap_or(u64::MAX)
    }
}

#[doc(alias = "nft_limit_init")]
pub fn parse(a: Attrs<'_>) -> Done<Limit> {
    let rate = be64(a.get(1).ok_or(Errno::EINVAL)?)?;
    let unit = be64(a.get(2).ok_or(Errno::EINVAL)?)?;
    let (burst, kind, flags) = (number_or(a, 3, 0)?, number_or(a, 4, 0)?, number_or(a, 5, 0)?);
    if kind > 1 || flags > 1 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if rate == 0 || unit == 0 || unit.checked_mul(NSEC).is_none() {
        return Err(Errno::EINVAL.into());
    }
    let bytes = kind == 1;
    let burst = if burst == 0 && !bytes { LIMIT_BURST } else { burst };
    let mut l = Limit { rate, unit, burst, bytes, invert: flags == 1, tokens: 0, last: 0 };
    if rate.checked_add(burst.into()).is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    l.tokens = l.most();
    Ok(l)
}

/// Credit that grows with time; whether there is enough of it.
#[doc(alias = "nft_limit_eval")]
pub fn limit(l: &mut Limit, now: u64, len: u64) -> bool {
    let tokens = l.tokens.saturating_add(now.saturating_sub(l.last)).min(l.most());
    l.last = now;
    let cost = l.cost(len);
    let enough = tokens >= cost;
    l.tokens = if enough { tokens - cost } else { tokens };
    enough != l.invert
}

impl Limit {
    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(1, &self.rate.to_be_bytes()).attr(2, &self.unit.to_be_bytes()).attr(3, &self.burst.to_be_bytes());
        m.attr(4, &u32::from(self.bytes).to_be_bytes()).attr(5, &u32::from(self.invert).to_be_bytes());
    }
}
