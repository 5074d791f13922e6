//! Byte queue limits: how many bytes may wait in a transmit ring, found out as it goes (Linux: `lib/dynamic_queue_limits.c`).
//! Starved: the limit kept bytes back and then the ring ran empty; the limit grows by what was missing. Slack: for a hold
//! time more lay there than was needed; the limit shrinks by the least of the surplus.
use crate::env::time::Jiffies;

/// The largest limit there can be (`DQL_MAX_LIMIT`).
pub const MAX_LIMIT: u32 = u32::MAX / 2 - u32::MAX / 16;

/// Counters are of bytes since ever, and wrap.
#[derive(Clone, Debug)]
pub struct Dql {
    pub limit: u32,
    pub min_limit: u32,
    pub max_limit: u32,
    /// In ticks.
    pub hold_time: Jiffies,
    queued: u32,
    completed: u32,
    /// The limit, counted from what was completed.
    adj_limit: u32,
    last_obj: u32,
    /// As of the completion before.
    prev: Interval,
    lowest_slack: u32,
    slack_since: Jiffies,
}

#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    queued: u32,
    over_limit: u32,
    last_obj: u32,
}

/// How far `a` is ahead of `b`; 0 when it is behind.
fn ahead(a: u32, b: u32) -> u32 {
    let d = a.wrapping_sub(b);
    if (d as i32) > 0 { d } else { 0 }
}

impl Dql {
    /// A second to hold.
    pub fn new(hz: Jiffies) -> Dql {
        Dql {
            limit: 0,
            min_limit: 0,
            max_limit: MAX_LIMIT,
            hold_time: hz,
            queued: 0,
            completed: 0,
            adj_limit: 0,
            last_obj: 0,
            prev: Interval::default(),
            lowest_slack: u32::MAX,
            slack_since: 0,
        }
    }

    pub fn inflight(&self) -> u32 {
        self.queued.wrapping_sub(self.completed)
    }

    /// Something more may be queued; the last of it may go beyond the limit.
    pub fn has_room(&self) -> bool {
        self.adj_limit.wrapping_sub(self.queued) as i32 >= 0
    }

    #[doc(alias = "dql_queued")]
    pub fn queue(&mut self, bytes: u32) {
        self.last_obj = bytes;
        self.queued = self.queued.wrapping_add(bytes);
    }

    #[doc(alias = "dql_completed")]
    pub fn complete(&mut self, bytes: u32, now: Jiffies) {
        let completed = self.completed.wrapping_add(bytes);
        let mut over = ahead(self.queued.wrapping_sub(self.completed), self.limit);
        let left = self.queued.wrapping_sub(completed);
        let prev_left = self.prev.queued.wrapping_sub(self.completed);
        let prev_done = completed.wrapping_sub(self.prev.queued) as i32 >= 0;
        let mut limit = self.limit;
        if (over > 0 && left == 0) || (self.prev.over_limit > 0 && prev_done) {
            let missing = ahead(completed, self.prev.queued).wrapping_add(self.prev.over_limit);
            limit = limit.saturating_add(missing);
            self.measure_anew(now);
        } else if left > 0 && prev_left > 0 && !prev_done {
            limit = self.shrink(bytes, now);
        }
        limit = limit.clamp(self.min_limit.min(self.max_limit), self.max_limit);
        if limit != self.limit {
            (self.limit, over) = (limit, 0);
        }
        self.adj_limit = limit.wrapping_add(completed);
        self.completed = completed;
        self.prev = Interval { queued: self.queued, over_limit: over, last_obj: self.last_obj };
    }

    /// The ring was never empty: what lay there beyond two completions' worth was too much; after the hold time that counts.
    fn shrink(&mut self, bytes: u32, now: Jiffies) -> u32 {
        let enough = ahead(self.limit.wrapping_add(self.prev.over_limit), bytes.saturating_mul(2));
        // A packet that began within the limit may have gone far beyond it.
        let last = if self.prev.over_limit > 0 { ahead(self.prev.last_obj, self.prev.over_limit) } else { 0 };
        self.lowest_slack = self.lowest_slack.min(enough.max(last));
        if now.wrapping_sub(self.slack_since.wrapping_add(self.hold_time)) as i32 <= 0 {
            return self.limit;
        }
        let limit = ahead(self.limit, self.lowest_slack);
        self.measure_anew(now);
        limit
    }

    fn measure_anew(&mut self, now: Jiffies) {
        (self.slack_since, self.lowest_slack) = (now, u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring that is filled as far as it may and loses a packet each tick.
    fn run(d: &mut Dql, ticks: std::ops::Range<u32>, sent: &mut u32) {
        for now in ticks {
            while d.has_room() {
                d.queue(1500);
                *sent += 1;
            }
            d.complete(1500.min(d.inflight()), now);
        }
    }

    #[test]
    fn the_limit_is_what_keeps_the_wire_busy() {
        let (mut d, mut sent) = (Dql::new(250), 0);
        assert!(d.has_room());
        run(&mut d, 1..2000, &mut sent);
        // One under way and one behind it.
        assert!((1500..=4500).contains(&d.limit), "{d:?}");
        assert!(sent >= 1998, "{sent}");
    }

    #[test]
    fn bounds_are_kept() {
        let (mut d, mut sent) = (Dql::new(250), 0);
        d.min_limit = 30_000;
        run(&mut d, 1..2000, &mut sent);
        assert_eq!((d.limit, d.inflight() >= 28_500), (30_000, true));
        let mut d = Dql { max_limit: 100, ..Dql::new(250) };
        run(&mut d, 1..2000, &mut sent);
        assert_eq!(d.limit, 100);
    }
}
