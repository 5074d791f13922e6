//! netem: a bad network. Delay with jitter of any distribution, loss, duplication, corruption, reordering, a rate.
//!
//! Chances are drawn from the kernel's seeded generator, or from one of its own when it was given a seed.
use super::netem_dist::SCALE;
use super::{Ctx, Qdisc, Stats, Xmit, headers, pkt_len};
use crate::env::{Nanos, Rng};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use std::collections::{BTreeMap, VecDeque};

/// A chance that depends on the one before it (`crndstate`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Chance {
    last: u32,
    pub rho: u32,
}

/// How packets are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    #[default]
    Random,
    /// Four states: received in a gap, lost in a burst, received in a burst, lost in a gap.
    States { p13: u32, p31: u32, p32: u32, p14: u32, p23: u32 },
    /// Two states, each with its own probability (Gilbert and Elliot).
    Gemodel { p: u32, r: u32, h: u32, k1: u32 },
}

/// What was set.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    pub latency: i64,
    pub jitter: i64,
    pub limit: u32,
    pub loss: u32,
    pub gap: u32,
    pub duplicate: u32,
    pub reorder: u32,
    pub corrupt: u32,
    pub rate: u64,
    pub packet_overhead: i32,
    pub cell_size: u32,
    pub cell_overhead: i32,
    pub ecn: bool,
    pub model: Loss,
    pub dist: Option<Vec<i16>>,
    pub seed: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Netem {
    pub set: Setting,
    pub delay_cor: Chance,
    pub loss_cor: Chance,
    pub dup_cor: Chance,
    pub reorder_cor: Chance,
    pub corrupt_cor: Chance,
    /// State of the loss model, from 1.
    state: u8,
    counter: u32,
    own_rng: Option<Rng>,
    /// By the time to send; those of one time in the order in which they came.
    waiting: BTreeMap<(Nanos, u64), Skb>,
    arrivals: u64,
    /// What goes first: reordered packets.
    head: VecDeque<Skb>,
    pub inner: Option<Qdisc>,
}

impl Netem {
    /// A seed from a request makes draws repeatable whatever else happens.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.set.seed = seed;
        self.own_rng = Some(Rng::new(seed));
    }

    fn random(&mut self, cx: &mut Ctx<'_>) -> u32 {
        self.own_rng.as_mut().unwrap_or(&mut cx.env.rng).next_u32()
    }

    #[doc(alias = "get_crandom")]
    fn correlated(&mut self, which: fn(&mut Netem) -> &mut Chance, cx: &mut Ctx<'_>) -> u32 {
        let value = self.random(cx);
        let c = which(self);
        if c.rho == 0 {
            return value;
        }
        let rho = u64::from(c.rho) + 1;
        c.last = ((u64::from(value) * ((1 << 32) - rho) + u64::from(c.last) * rho) >> 32) as u32;
        c.last
    }

    #[doc(alias = "loss_event")]
    fn lost(&mut self, cx: &mut Ctx<'_>) -> bool {
        match self.set.model {
            Loss::Random => self.set.loss != 0 && self.set.loss >= self.correlated(|n| &mut n.loss_cor, cx),
            Loss::States { p13, p31, p32, p14, p23 } => self.lost_4state(cx, [p13, p31, p32, p14, p23]),
            Loss::Gemodel { p, r, h, k1 } => {
                let (turn, lose) = (self.random(cx), self.random(cx));
                if self.state <= 1 {
                    if turn < p {
                        self.state = 2;
                    }
                    return lose < k1;
                }
                if turn < r {
                    self.state = 1;
                }
                lose > h
            }
        }
    }

    /// 1 transmits in a gap, 2 in a burst; 3 loses in a burst, 4 in a gap.
    #[doc(alias = "loss_4state")]
    fn lost_4state(&mut self, cx: &mut Ctx<'_>, [p13, p31, p32, p14, p23]: [u32; 5]) -> bool {
        let draw = self.random(cx);
        let (next, lost) = match self.state {
            1 if draw < p14 => (4, true),
            1 if draw < p13.saturating_add(p14) => (3, true),
            1 => (1, false),
            2 if draw < p23 => (3, true),
            2 => (2, false),
            3 if draw < p32 => (2, false),
            3 if draw < p31.saturating_add(p32) => (1, false),
            3 => (3, true),
            _ => (1, false),
        };
        self.state = next;
        lost
    }

    /// Around `latency`, by the table or evenly (`tabledist`).
    fn delay(&mut self, cx: &mut Ctx<'_>) -> i64 {
        let (mu, sigma) = (self.set.latency, self.set.jitter);
        if sigma == 0 {
            return mu;
        }
        let draw = self.correlated(|n| &mut n.delay_cor, cx);
        let Some(table) = self.set.dist.as_ref().filter(|t| !t.is_empty()) else {
            let span = 2 * (sigma as u32 as i64);
            return if span == 0 { mu } else { (i64::from(draw) % span) + mu - sigma };
        };
        let t = i64::from(table[draw as usize % table.len()]);
        let x = (sigma % SCALE) * t;
        let x = if x >= 0 { x + SCALE / 2 } else { x - SCALE / 2 };
        x / SCALE + (sigma / SCALE) * t + mu
    }

    /// What `len` bytes take at the rate, cells and overhead counted (`packet_time_ns`).
    fn packet_time(&self, len: u32) -> i64 {
        let mut len = (i64::from(len) + i64::from(self.set.packet_overhead)).max(0) as u64;
        if self.set.cell_size != 0 {
            let cell = i64::from(self.set.cell_size) + i64::from(self.set.cell_overhead);
            len = len.div_ceil(self.set.cell_size.into()) * cell.max(0) as u64;
        }
        (u128::from(len) * 1_000_000_000 / u128::from(self.set.rate.max(1))).min(i64::MAX as u128) as i64
    }

    #[doc(alias = "netem_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, mut skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let twice =
            self.set.duplicate != 0 && !cx.copying && self.set.duplicate >= self.correlated(|n| &mut n.dup_cor, cx);
        if self.lost(cx) {
            let marked = self.set.ecn && headers::set_ce(&mut skb);
            s.drops += u64::from(marked || !twice);
            if !marked && !twice {
                cx.drop(skb, DropReason::QdiscDrop, "netem_enqueue");
                return Xmit::Bypass;
            }
            // Of two one is left.
            if !marked {
                return self.queue(s, skb, cx);
            }
        }
        if twice {
            let copy = cx.clone_skb(&skb);
            cx.copies.push(copy);
        }
        self.queue(s, skb, cx)
    }

    fn queue(&mut self, s: &mut Stats, mut skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        // Nobody's window may wait for a packet that waits here on purpose.
        if self.set.latency != 0 || self.set.jitter != 0 || self.set.rate != 0 {
            cx.orphan(&mut skb);
        }
        if self.set.corrupt != 0 && self.set.corrupt >= self.correlated(|n| &mut n.corrupt_cor, cx) {
            return self.corrupt(s, skb, cx);
        }
        self.delayed(s, skb, cx)
    }

    /// One bit of the linear part; a super-segment is cut first, and one of its pieces is hit.
    fn corrupt(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let mut pieces = cx.segment(skb).into_iter();
        let Some(mut first) = pieces.next() else { return Xmit::Bypass };
        crate::net::core::dev_tx::skb_checksum_help(&mut first);
        let (at, bit) = (self.random(cx), self.random(cx));
        let bytes = first.head.bytes_mut();
        let at = ((u64::from(at) * bytes.len() as u64) >> 32) as usize;
        if let Some(b) = bytes.get_mut(at) {
            *b ^= 1 << (bit >> 29);
        }
        let sent = self.delayed(s, first, cx);
        for piece in pieces {
            self.delayed(s, piece, cx);
        }
        sent
    }

    fn delayed(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        if s.qlen >= self.set.limit {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, "netem_enqueue");
            return Xmit::Drop;
        }
        s.hold(&skb);
        let in_order = self.set.gap == 0
            || self.counter < self.set.gap.saturating_sub(1)
            || self.set.reorder < self.correlated(|n| &mut n.reorder_cor, cx);
        if !in_order {
            self.counter = 0;
            self.head.push_front(skb);
            s.requeues += 1;
            return Xmit::Success;
        }
        let (mut delay, mut now) = (self.delay(cx), cx.now as i64);
        if self.set.rate != 0 {
            // The link is busy until the last one has left; its wait makes up for this one's delay.
            if let Some((&(last, _), _)) = self.waiting.last_key_value() {
                let last = last as i64;
                delay = (delay - (last - now)).max(0);
                now = last;
            }
            delay = delay.saturating_add(self.packet_time(pkt_len(&skb)));
        }
        self.counter = self.counter.wrapping_add(1);
        self.arrivals += 1;
        self.waiting.insert((now.saturating_add(delay).max(0) as u64, self.arrivals), skb);
        Xmit::Success
    }

    #[doc(alias = "netem_dequeue")]
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        if let Some(skb) = self.head.pop_front() {
            s.release(&skb);
            s.sent(&skb);
            return Some(skb);
        }
        while let Some(entry) = self.waiting.first_entry() {
            let at = entry.key().0;
            if at > cx.now {
                cx.wake_at(at);
                break;
            }
            let skb = entry.remove();
            s.release(&skb);
            let Some(inner) = &mut self.inner else {
                s.sent(&skb);
                return Some(skb);
            };
            let was = inner.stats;
            inner.enqueue(skb, cx);
            s.follow(was, inner.stats);
        }
        let inner = self.inner.as_mut()?;
        let was = inner.stats;
        let skb = inner.dequeue(cx);
        s.follow(was, inner.stats);
        let skb = skb?;
        s.sent(&skb);
        Some(skb)
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.head.drain(..));
        out.extend(std::mem::take(&mut self.waiting).into_values());
        if let Some(q) = &mut self.inner {
            q.reset(out);
        }
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.head.iter().chain(self.waiting.values())
    }

    /// A loss model begins in its good state.
    pub(super) fn restart_model(&mut self) {
        self.state = 1;
    }

    /// As new: 1000 packets, and a seed that nobody chose.
    pub(super) fn reset_model(&mut self, cx: &mut Ctx<'_>) {
        (self.state, self.set.seed) = (1, cx.env.rng.next_u64());
    }
}
