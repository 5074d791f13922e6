//! The time base: nanoseconds since boot, and the ticks that wheel timers round to.

/// Nanoseconds since the boot of this kernel.
pub type Nanos = u64;
/// Ticks of the timer interrupt since boot, starting at 1.
pub type Jiffies = u32;

pub const USEC: Nanos = 1_000;
pub const MSEC: Nanos = 1_000_000;
pub const SEC: Nanos = 1_000_000_000;

/// The tick in which `now` lies.
pub fn jiffies(now: Nanos, hz: u32) -> Jiffies {
    (now / (SEC / u64::from(hz.max(1)))) as Jiffies + 1
}

/// When tick `j` begins.
pub fn tick_start(j: Jiffies, hz: u32) -> Nanos {
    u64::from(j.saturating_sub(1)) * (SEC / u64::from(hz.max(1)))
}

/// The first tick that begins at or after `at`.
pub fn round_up(at: Nanos, hz: u32) -> Jiffies {
    let tick = SEC / u64::from(hz.max(1));
    at.div_ceil(tick) as Jiffies + 1
}
