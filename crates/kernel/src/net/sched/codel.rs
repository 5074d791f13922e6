//! CoDel (RFC 8289): packets are dropped or marked when all of them have waited longer than `target` for an `interval`.
//!
//! Time runs in units of 1024 nanoseconds and wraps, as the kernel's does.
use crate::env::Nanos;

const SHIFT: u32 = 10;
/// "Never" of the ECN threshold.
pub const DISABLED: u32 = i32::MAX as u32;

pub fn time(ns: Nanos) -> u32 {
    (ns >> SHIFT) as u32
}

pub fn from_us(us: u32) -> u32 {
    ((u64::from(us) * 1000) >> SHIFT) as u32
}

pub fn to_us(t: u32) -> u32 {
    ((u64::from(t) << SHIFT) / 1000) as u32
}

fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// What was set.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    pub target: u32,
    pub interval: u32,
    pub ce_threshold: u32,
    pub mtu: u32,
    pub ecn: bool,
    /// Bits of the traffic class that choose who the threshold is for.
    pub ce_selector: u8,
    pub ce_mask: u8,
}

/// A queue's state (`codel_vars`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Vars {
    pub count: u32,
    pub lastcount: u32,
    pub dropping: bool,
    rec_inv_sqrt: u16,
    first_above: u32,
    pub drop_next: u32,
    pub ldelay: u32,
}

/// What is counted (`codel_stats`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub maxpacket: u32,
    pub ecn_mark: u32,
    pub ce_mark: u32,
}

/// The queue that CoDel looks at: its packets with the times at which they came, and what happens to them.
pub trait Queue {
    type Packet;
    /// The next packet and when it came.
    fn pop(&mut self) -> Option<(Self::Packet, u32)>;
    /// Bytes that still wait.
    fn backlog(&self) -> u64;
    fn len_of(p: &Self::Packet) -> u32;
    fn set_ce(p: &mut Self::Packet) -> bool;
    /// Whether the ECN threshold is for this packet.
    fn selected(p: &Self::Packet, params: &Params) -> bool;
    fn drop(&mut self, p: Self::Packet);
}

/// One step of Newton's method towards 1/sqrt(count), in 16 bits of fraction.
fn newton(v: &mut Vars) {
    const BITS: u32 = 16;
    let inv = u32::from(v.rec_inv_sqrt) << BITS;
    let square = ((u64::from(inv) * u64::from(inv)) >> 32) as u32;
    let mut val = (3u64 << 32) - u64::from(v.count) * u64::from(square);
    // One bit less, so that the product fits.
    val >>= 2;
    val = (val * u64::from(inv)) >> (32 - 2 + 1);
    v.rec_inv_sqrt = (val >> BITS) as u16;
}

fn control_law(t: u32, interval: u32, rec_inv_sqrt: u16) -> u32 {
    let factor = u64::from(rec_inv_sqrt) << 16;
    t.wrapping_add(((u64::from(interval) * factor) >> 32) as u32)
}

impl Vars {
    /// Has every packet waited too long for an interval (RFC 8289 §5.5)?
    fn should_drop<Q: Queue>(
        &mut self,
        p: Option<(&Q::Packet, u32)>,
        q: &Q,
        params: &Params,
        counts: &mut Counts,
        now: u32,
    ) -> bool {
        let Some((packet, came)) = p else {
            self.first_above = 0;
            return false;
        };
        self.ldelay = now.wrapping_sub(came);
        counts.maxpacket = counts.maxpacket.max(Q::len_of(packet));
        let below = (self.ldelay as i32) < params.target as i32;
        if below || q.backlog() <= params.mtu.into() {
            self.first_above = 0;
            return false;
        }
        if self.first_above == 0 {
            self.first_above = now.wrapping_add(params.interval);
            return false;
        }
        after(now, self.first_above)
    }

    /// The next packet to send; what CoDel drops on the way goes to the queue's `drop`.
    #[doc(alias = "codel_dequeue")]
    pub fn dequeue<Q: Queue>(
        &mut self,
        q: &mut Q,
        params: &Params,
        counts: &mut Counts,
        now: Nanos,
    ) -> Option<Q::Packet> {
        let now = time(now);
        let Some(mut next) = q.pop() else {
            self.dropping = false;
            return None;
        };
        let drop = self.should_drop(Some((&next.0, next.1)), q, params, counts, now);
        let mut marked = false;
        if self.dropping {
            if !drop {
                self.dropping = false;
            } else {
                (next, marked) = self.dropping_state(q, params, counts, now, next)?;
            }
        } else if drop {
            if params.ecn && Q::set_ce(&mut next.0) {
                counts.ecn_mark += 1;
                marked = true;
            } else {
                q.drop(next.0);
                let another = q.pop();
                self.should_drop(another.as_ref().map(|(p, t)| (p, *t)), q, params, counts, now);
                self.enter(params, now);
                next = another?;
                return self.finish::<Q>(next, params, counts, false);
            }
            self.enter(params, now);
        }
        self.finish::<Q>(next, params, counts, marked)
    }

    /// In the dropping state: one packet for each time that has come.
    #[allow(clippy::type_complexity)]
    fn dropping_state<Q: Queue>(
        &mut self,
        q: &mut Q,
        params: &Params,
        counts: &mut Counts,
        now: u32,
        mut next: (Q::Packet, u32),
    ) -> Option<((Q::Packet, u32), bool)> {
        while self.dropping && !after(self.drop_next, now) {
            self.count = self.count.wrapping_add(1);
            newton(self);
            if params.ecn && Q::set_ce(&mut next.0) {
                counts.ecn_mark += 1;
                self.drop_next = control_law(self.drop_next, params.interval, self.rec_inv_sqrt);
                return Some((next, true));
            }
            q.drop(next.0);
            let another = q.pop();
            if !self.should_drop(another.as_ref().map(|(p, t)| (p, *t)), q, params, counts, now) {
                self.dropping = false;
            } else {
                self.drop_next = control_law(self.drop_next, params.interval, self.rec_inv_sqrt);
            }
            next = another?;
        }
        Some((next, false))
    }

    /// Into the dropping state; at once at the old pace when it was left not long ago.
    fn enter(&mut self, params: &Params, now: u32) {
        self.dropping = true;
        let delta = self.count.wrapping_sub(self.lastcount);
        let recent = (now.wrapping_sub(self.drop_next) as i32) < (16 * u64::from(params.interval)) as i32;
        if delta > 1 && recent {
            self.count = delta;
            newton(self);
        } else {
            (self.count, self.rec_inv_sqrt) = (1, u16::MAX);
        }
        self.lastcount = self.count;
        self.drop_next = control_law(now, params.interval, self.rec_inv_sqrt);
    }

    fn finish<Q: Queue>(
        &mut self,
        (mut p, _): (Q::Packet, u32),
        params: &Params,
        counts: &mut Counts,
        marked: bool,
    ) -> Option<Q::Packet> {
        let late = params.ce_threshold != DISABLED && after(self.ldelay, params.ce_threshold);
        if !marked && late && Q::selected(&p, params) && Q::set_ce(&mut p) {
            counts.ce_mark += 1;
        }
        Some(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Line(VecDeque<u32>, Vec<u32>);

    impl Queue for Line {
        type Packet = u32;
        fn pop(&mut self) -> Option<(u32, u32)> {
            self.0.pop_front().map(|t| (t, t))
        }
        fn backlog(&self) -> u64 {
            self.0.len() as u64 * 1000
        }
        fn len_of(_: &u32) -> u32 {
            1000
        }
        fn set_ce(_: &mut u32) -> bool {
            false
        }
        fn selected(_: &u32, _: &Params) -> bool {
            true
        }
        fn drop(&mut self, p: u32) {
            self.1.push(p);
        }
    }

    /// A queue that stays long loses its first packet after an interval, the next ones after 1/sqrt(n) of it each; of the
    /// root there is one step of an approximation for each drop, as in the kernel.
    #[test]
    fn drops_come_closer() {
        let params = Params {
            target: from_us(5000),
            interval: from_us(100_000),
            ce_threshold: DISABLED,
            mtu: 1514,
            ecn: false,
            ce_selector: 0,
            ce_mask: 0,
        };
        let (mut v, mut counts) = (Vars::default(), Counts::default());
        let mut q = Line((0..10_000).collect(), vec![]);
        let (mut when, mut seen) = (vec![], 0);
        // One packet a millisecond, each of them 100 ms old.
        for ms in 100u64..1000 {
            let now = ms * 1_000_000;
            q.0.iter_mut().take(3).for_each(|t| *t = time(now - 100_000_000));
            v.dequeue(&mut q, &params, &mut counts, now).unwrap();
            if q.1.len() > seen {
                when.push(ms);
                seen = q.1.len();
            }
        }
        assert_eq!(when[..5], [201, 301, 351, 408, 457]);
        // Short again: no more drops.
        q.0.truncate(1);
        v.dequeue(&mut q, &params, &mut counts, 1_000_000_000).unwrap();
        assert!(!v.dropping && v.dequeue(&mut q, &params, &mut counts, 1_000_000_001).is_none());
    }
}
