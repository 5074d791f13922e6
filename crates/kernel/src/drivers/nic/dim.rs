//! Adaptive moderation of receive interrupts (`ethtool -C IF adaptive-rx on`), of which Linux has a library that drivers
//! share (`net_dim`): the same five profiles, the same search. Every 64 interrupts bytes, packets and interrupts a
//! millisecond are compared with those before; a step to a neighbouring profile is kept while it makes things better.
//! Where drivers apply a profile a little later, from a work queue, here it counts at once.
use super::Queue;
use crate::env::{MSEC, Nanos};

/// `rx-usecs` and `rx-frames`, from the shortest wait to the longest (`NET_DIM_RX_EQE_PROFILES`).
pub const PROFILES: [(u32, u32); 5] = [(1, 256), (8, 256), (64, 256), (128, 256), (256, 256)];
const FIRST: usize = 1;
/// Interrupts between two looks (`DIM_NEVENTS`).
const EVENTS: u64 = 64;
/// After so many steps without coming to rest the search pauses for as many looks.
const MOST_STEPS: u32 = 2 * PROFILES.len() as u32;

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Nanos,
    events: u64,
    packets: u64,
    bytes: u64,
}

/// A millisecond's worth.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    bytes: u64,
    packets: u64,
    events: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tune {
    OnTop,
    Tired,
    /// To longer waits, and to shorter ones.
    #[default]
    Right,
    Left,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Dim {
    pub profile: usize,
    state: Tune,
    /// Steps each way since the direction changed last, and in all.
    right: u32,
    left: u32,
    tired: u32,
    since: Option<Sample>,
    before: Rates,
}

impl Default for Dim {
    fn default() -> Dim {
        Dim {
            profile: FIRST,
            state: Tune::default(),
            right: 0,
            left: 0,
            tired: 0,
            since: None,
            before: Rates::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Worse,
    Same,
    Better,
}

/// More than a tenth apart.
fn differs(a: u64, b: u64) -> bool {
    a.abs_diff(b) * 100 > b * 10
}

/// Bytes count first, then packets, then how few interrupts it took.
#[doc(alias = "net_dim_stats_compare")]
fn compare(now: Rates, before: Rates) -> Verdict {
    let more = |yes: bool| if yes { Verdict::Better } else { Verdict::Worse };
    for (a, b) in [(now.bytes, before.bytes), (now.packets, before.packets)] {
        if b == 0 {
            return if a > 0 { Verdict::Better } else { Verdict::Same };
        }
        if differs(a, b) {
            return more(a > b);
        }
    }
    match before.events != 0 && differs(now.events, before.events) {
        true => more(now.events < before.events),
        false => Verdict::Same,
    }
}

impl Dim {
    /// A poll has emptied the ring: true when another profile is in force from now on.
    #[doc(alias = "net_dim")]
    fn look(&mut self, now: Sample) -> bool {
        let Some(since) = self.since else {
            self.since = Some(now);
            return false;
        };
        let us = (now.at - since.at) / 1000;
        if now.events.wrapping_sub(since.events) < EVENTS || us == 0 {
            return false;
        }
        self.since = Some(now);
        let rate = |n: u64| (n * (MSEC / 1000)).div_ceil(us);
        let rates = Rates {
            bytes: rate(now.bytes - since.bytes),
            packets: rate(now.packets - since.packets),
            events: rate(EVENTS),
        };
        let profile = self.profile;
        self.decide(rates);
        self.profile != profile
    }

    #[doc(alias = "net_dim_decision")]
    fn decide(&mut self, now: Rates) {
        let rested = self.state == Tune::OnTop;
        match self.state {
            Tune::OnTop if compare(now, self.before) != Verdict::Same => self.set_out(),
            Tune::OnTop => {}
            Tune::Tired => {
                self.tired = self.tired.saturating_sub(1);
                if self.tired == 0 {
                    self.set_out();
                }
            }
            Tune::Right | Tune::Left => self.go_on(now),
        }
        if !rested || self.state != Tune::OnTop {
            self.before = now;
        }
    }

    /// Under way: back when the last step made nothing better, to rest when both neighbours were tried.
    fn go_on(&mut self, now: Rates) {
        if compare(now, self.before) != Verdict::Better {
            self.turn();
        }
        let tried = match self.state {
            Tune::Right => self.left > 1 && self.right == 1,
            _ => self.right > 1 && self.left == 1,
        };
        if tried {
            return self.rest(Tune::OnTop);
        }
        match self.step() {
            Some(true) => {}
            Some(false) => self.rest(Tune::OnTop),
            None => self.rest(Tune::Tired),
        }
    }

    fn turn(&mut self) {
        if self.state == Tune::Right {
            (self.state, self.left) = (Tune::Left, 0);
        } else {
            (self.state, self.right) = (Tune::Right, 0);
        }
    }

    fn rest(&mut self, state: Tune) {
        (self.state, self.right, self.left) = (state, 0, 0);
        if state == Tune::OnTop {
            self.tired = 0;
        }
    }

    fn set_out(&mut self) {
        self.state = if self.profile == 0 { Tune::Right } else { Tune::Left };
        self.step();
    }

    /// To the next profile; false at the end of them, `None` when there were too many steps.
    fn step(&mut self) -> Option<bool> {
        if self.tired == MOST_STEPS {
            return None;
        }
        match self.state {
            Tune::Right if self.profile + 1 < PROFILES.len() => {
                (self.profile, self.right) = (self.profile + 1, self.right + 1)
            }
            Tune::Left if self.profile > 0 => (self.profile, self.left) = (self.profile - 1, self.left + 1),
            _ => return Some(false),
        }
        self.tired += 1;
        Some(true)
    }
}

/// Moderates a queue from now on, beginning with the same profile as ever.
pub(super) fn start(q: &mut Queue) {
    q.irq.dim = Some(Box::default());
    apply(q);
}

fn apply(q: &mut Queue) {
    if let Some(&profile) = q.irq.dim.as_ref().and_then(|d| PROFILES.get(d.profile)) {
        (q.irq.rx_usecs, q.irq.rx_frames) = profile;
    }
}

/// A poll of the queue has emptied its ring.
pub(super) fn polled(q: &mut Queue, now: Nanos) {
    let sample = Sample { at: now, events: q.irq.rx_count, packets: q.rx.packets, bytes: q.rx.bytes };
    if q.irq.dim.as_mut().is_some_and(|d| d.look(sample)) {
        apply(q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a queue would show with a profile: at more than one wait's worth of packets, all come; interrupts as many as waits.
    fn run(d: &mut Dim, packets_a_ms: u64, looks: u32) -> Vec<usize> {
        let (mut s, mut out) = (Sample { at: 1, ..Sample::default() }, Vec::new());
        d.look(s);
        for _ in 0..looks {
            let (usecs, _) = PROFILES[d.profile];
            // Interrupts a millisecond: one for each wait, and never more than packets.
            let each = (1_000_000 / packets_a_ms).max(u64::from(usecs) * 1000);
            s.at += EVENTS * each;
            s.events += EVENTS;
            s.packets += EVENTS * each * packets_a_ms / 1_000_000;
            s.bytes = s.packets * 1000;
            d.look(s);
            out.push(d.profile);
        }
        out
    }

    #[test]
    fn a_steady_load_gets_the_longest_wait() {
        let mut d = Dim::default();
        let way = run(&mut d, 500, 20);
        assert_eq!((way[0], way[1], way[2]), (2, 3, 4));
        assert_eq!(way[19], 4);
    }

    #[test]
    fn nothing_is_gained_where_waits_gather_nothing() {
        // A packet each ten milliseconds: no wait joins two.
        let mut d = Dim::default();
        let way = run(&mut d, 1, 40);
        assert!(way.windows(2).all(|w| w[0].abs_diff(w[1]) <= 1), "{way:?}");
        assert!(way.iter().filter(|p| **p == 4).count() < 20, "{way:?}");
    }
}
