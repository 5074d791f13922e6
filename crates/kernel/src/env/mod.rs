//! What the stack needs of its surroundings, as data: time, timers, randomness, what rises, what is traced.
pub mod rise;
pub mod rng;
pub mod time;
pub mod timers;
pub mod trace;

pub use rise::Rise;
pub use rng::Rng;
use std::collections::{BTreeSet, VecDeque};
pub use time::{Jiffies, MSEC, Nanos, SEC, USEC};
pub use timers::{Fired, TimerKey, TimerSlot, Timers};
pub use trace::{Event, Trace};

/// See the module.
#[derive(Clone, Debug)]
pub struct Env {
    /// Nanoseconds since boot; set once per step by [`Env::advance`], never read from a clock.
    pub now: Nanos,
    /// Wall clock minus boot time, for time stamps that programs and captures show.
    pub wall_offset: u64,
    /// Timer interrupt frequency; wheel timers round up to its ticks.
    pub hz: u32,
    pub timers: Timers,
    /// Timers that do not round to ticks: time-outs of poll and epoll_wait, pacing, compressed ACKs.
    pub hrtimers: BTreeSet<(Nanos, TimerKey)>,
    pub rng: Rng,
    /// Values on their way up, drained in FIFO order before the next packet, timer or call.
    pub rises: VecDeque<Rise>,
    pub trace: Trace,
    next_packet: u64,
    /// The tick that `now` lies in: from, to, number.
    tick: (Nanos, Nanos, Jiffies),
}

fn tick_of(now: Nanos, hz: u32) -> (Nanos, Nanos, Jiffies) {
    let jiffies = time::jiffies(now, hz);
    (time::tick_start(jiffies, hz), time::tick_start(jiffies + 1, hz), jiffies)
}

impl Env {
    pub fn new(now: Nanos, wall_offset: u64, hz: u32, seed: u64) -> Env {
        Env {
            now,
            wall_offset,
            hz,
            timers: Timers::new(time::jiffies(now, hz)),
            hrtimers: BTreeSet::new(),
            rng: Rng::new(seed),
            rises: VecDeque::new(),
            trace: Trace::default(),
            next_packet: 1,
            tick: tick_of(now, hz),
        }
    }

    /// Ticks since boot, never 0 (0 means "not armed" in a [`TimerSlot`]).
    #[inline]
    pub fn jiffies(&self) -> Jiffies {
        self.tick.2
    }

    /// The first tick that begins at or after `at`. Counted from the present one: the quotient is small, the division quick.
    pub fn round_up(&self, at: Nanos) -> Jiffies {
        let (from, to, jiffies) = self.tick;
        match (u32::try_from(at.wrapping_sub(from)), u32::try_from(to - from)) {
            (Ok(ahead), Ok(tick)) => jiffies + ahead.div_ceil(tick),
            _ => self.round_far(at),
        }
    }

    #[cold]
    fn round_far(&self, at: Nanos) -> Jiffies {
        time::round_up(at, self.hz)
    }

    /// Time goes on, never back.
    pub fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        if self.now >= self.tick.1 {
            self.tick = tick_of(self.now, self.hz);
        }
    }

    /// Whether a timer of either kind is due.
    pub fn timers_due(&mut self) -> bool {
        let now = self.jiffies();
        self.timers.is_due(now) || self.hrtimers.first().is_some_and(|t| t.0 <= self.now)
    }

    /// The next high-resolution timer that is due, taken out.
    pub fn pop_hrtimer(&mut self) -> Option<TimerKey> {
        let first = *self.hrtimers.first().filter(|t| t.0 <= self.now)?;
        self.hrtimers.remove(&first);
        Some(first.1)
    }

    /// `now` in microseconds: TCP's RTT clock.
    pub fn now_us(&self) -> u64 {
        self.now / USEC
    }

    /// `now` in milliseconds, wrapping: TCP's time stamp clock (before the offset of the connection).
    pub fn now_ms(&self) -> u32 {
        (self.now / MSEC) as u32
    }

    pub fn packet_id(&mut self) -> u64 {
        self.next_packet += 1;
        self.next_packet - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_from_the_present_tick_is_rounding() {
        for hz in [100, 250, 1000] {
            let mut env = Env::new(0, 0, hz, 1);
            for now in [0, 1, 3_999_999, 4_000_000, 10 * SEC + 7] {
                env.advance(now);
                for ahead in [0, 1, 999_999, MSEC, 4 * MSEC, 4 * MSEC + 1, 200 * MSEC, 5 * SEC, 90_000 * SEC] {
                    assert_eq!(env.round_up(now + ahead), time::round_up(now + ahead, hz), "{hz} {now} {ahead}");
                }
            }
        }
    }
}
