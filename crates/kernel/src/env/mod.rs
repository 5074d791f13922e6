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
    /// Nanoseconds since boot; set once per step, never read from a clock.
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
            tick: (0, 0, 0),
        }
    }

    /// Ticks since boot, never 0 (0 means "not armed" in a [`TimerSlot`]).
    pub fn jiffies(&self) -> Jiffies {
        let (from, to, jiffies) = self.tick;
        if (from..to).contains(&self.now) { jiffies } else { time::jiffies(self.now, self.hz) }
    }

    /// Time goes on, never back.
    pub fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        if self.now >= self.tick.1 {
            let jiffies = time::jiffies(self.now, self.hz);
            self.tick = (time::tick_start(jiffies, self.hz), time::tick_start(jiffies + 1, self.hz), jiffies);
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
