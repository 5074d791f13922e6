//! What happens between two NICs: delay, jitter, loss, duplication, corruption, reordering, rate and a limited queue,
//! as a value that is fed with time and frames.
//!
//! The words and most of the behaviour are those of `tc netem`. Correlated loss, slots and distribution tables are left
//! out. Same seed and same calls give the same frames, byte for byte.
#![forbid(unsafe_code)]

pub mod conditions;
mod course;
mod pipe;
mod rng;

pub use conditions::{BadUnit, Conditions, parse_delay, parse_percent, parse_rate, parse_size};
pub use course::Course;
pub use pipe::{Dropped, Pipe, Stats, Wait, Why};
pub use rng::Rng;

/// Both directions of a cable; each has its own conditions, queue and random numbers.
#[derive(Clone, Debug)]
pub struct Link {
    pub ab: Pipe,
    pub ba: Pipe,
}

impl Link {
    pub fn new(seed: u64) -> Link {
        Link { ab: Pipe::new(seed), ba: Pipe::new(seed ^ 0x6261_6262_6162_6261) }
    }

    /// The same conditions each way.
    pub fn set(&mut self, conditions: Conditions) {
        self.ab.set(conditions);
        self.ba.set(conditions);
    }

    pub fn next_deadline(&self) -> Option<u64> {
        [self.ab.next_deadline(), self.ba.next_deadline()].into_iter().flatten().min()
    }
}
