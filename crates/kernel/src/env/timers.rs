//! The timer wheel: eight bytes a timer in its owner, O(1) to arm, armed again lazily.
//!
//! The owner holds a [`TimerSlot`]: when it wants to be called, and when the wheel will look. Moving a deadline later
//! touches only the slot; the wheel finds out when it gets there. Levels of 64 slots, six bits each, as in Linux.
use crate::env::time::Jiffies;
use crate::ids::*;

/// Who is called when time is up. The owner compares with its slot and may have been removed: then nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// Retransmission, zero-window probe, tail loss probe (`tcp_write_timer`).
    TcpWrite(TcpId),
    /// `tcp_delack_timer`.
    TcpDelack(TcpId),
    /// Keepalive, and FIN_WAIT2 of a full socket (`tcp_keepalive_timer`).
    TcpKeepalive(TcpId),
    /// SYN-ACK again (`reqsk_timer_handler`).
    TcpRequest(NsId, ReqId),
    /// A TIME_WAIT entry with a time of its own (FIN_WAIT2).
    TcpTimeWait(NsId, TwId),
    /// The oldest of the TIME_WAIT entries that all live 60 seconds.
    TcpTimeWaitQueue(NsId),
    /// `neigh_timer_handler`.
    Neigh(NsId, NeighId),
    /// A datagram that never became complete (`ip_expire`).
    IpFrag(NsId, FragId),
    /// A path MTU that was learned is forgotten.
    PmtuExpire(NsId),
    /// A call that sleeps with a timeout.
    Call(CallId),
    /// A NIC whose interrupt is held back for coalescing.
    NicCoalesce(DevId),
}

/// In the owner: when the timer is due, and when the wheel will look. Both 0 when off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerSlot {
    deadline: Jiffies,
    queued: Jiffies,
}

impl TimerSlot {
    /// When it is due, if armed (`timer_pending`).
    pub fn deadline(&self) -> Option<Jiffies> {
        (self.deadline != 0).then_some(self.deadline)
    }

    pub fn is_armed(&self) -> bool {
        self.deadline != 0
    }

    pub fn cancel(&mut self) {
        self.deadline = 0;
    }
}

/// What the wheel's look at a slot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fire {
    Due,
    /// Cancelled, moved later or an old entry: nothing to do.
    NotYet,
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 5;

#[derive(Clone, Debug)]
struct Level {
    occupied: u64,
    slots: Vec<Vec<(Jiffies, TimerKey)>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Every tick up to and with this one has been looked at.
    base: Jiffies,
    levels: [Level; LEVELS],
    /// Entries whose tick came, oldest first.
    due: std::collections::VecDeque<(Jiffies, TimerKey)>,
    len: usize,
}

impl Timers {
    pub fn new(base: Jiffies) -> Timers {
        let level = || Level { occupied: 0, slots: vec![Vec::new(); SLOTS] };
        Timers { base, levels: std::array::from_fn(|_| level()), due: Default::default(), len: 0 }
    }

    /// Entries in the wheel, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms `slot` for tick `at` (in the past or now: the next tick).
    pub fn arm(&mut self, slot: &mut TimerSlot, at: Jiffies, key: TimerKey) {
        let at = at.max(self.base.wrapping_add(1)).max(1);
        slot.deadline = at;
        if slot.queued == 0 || at < slot.queued {
            slot.queued = at;
            self.insert(at, key);
        }
    }

    /// Called with the entry that came out of [`Timers::pop_due`]: decides, and queues again what moved later.
    pub fn look(&mut self, slot: &mut TimerSlot, at: Jiffies, now: Jiffies, key: TimerKey) -> Fire {
        if slot.queued != at {
            return Fire::NotYet;
        }
        slot.queued = 0;
        if slot.deadline == 0 {
            return Fire::NotYet;
        }
        if slot.deadline > now {
            slot.queued = slot.deadline;
            self.insert(slot.deadline, key);
            return Fire::NotYet;
        }
        slot.deadline = 0;
        Fire::Due
    }

    fn insert(&mut self, at: Jiffies, key: TimerKey) {
        self.len += 1;
        self.place(at, key);
    }

    fn place(&mut self, at: Jiffies, key: TimerKey) {
        let delta = at.saturating_sub(self.base);
        if delta == 0 {
            self.due.push_back((at, key));
            return;
        }
        // The level is where `at` and `base` first differ, so that a slot is reached exactly when its time begins.
        let differ = 31 - (at ^ self.base).leading_zeros();
        let level = ((differ / BITS) as usize).min(LEVELS - 1);
        let ix = if differ / BITS >= LEVELS as u32 {
            // Beyond the wheel (weeks): park in the last slot of the top level and look again there.
            (((self.base >> (BITS * (LEVELS as u32 - 1))) as usize) + SLOTS - 1) % SLOTS
        } else {
            ((at >> (BITS * level as u32)) as usize) % SLOTS
        };
        self.levels[level].occupied |= 1 << ix;
        self.levels[level].slots[ix].push((at, key));
    }

    /// The next entry whose tick is not after `now`, in order of time and arming.
    pub fn pop_due(&mut self, now: Jiffies) -> Option<(Jiffies, TimerKey)> {
        loop {
            if let Some(e) = self.due.pop_front() {
                self.len -= 1;
                return Some(e);
            }
            let next = self.next_tick()?;
            if next > now {
                // Nothing lies between: the base may move without looking at each tick.
                self.advance_base(now);
                return None;
            }
            self.advance_base(next);
        }
    }

    fn advance_base(&mut self, to: Jiffies) {
        if to <= self.base {
            return;
        }
        self.base = to;
        // Slots of higher levels that begin now come down; then the lowest level's slot is due.
        for level in (1..LEVELS).rev() {
            if to & ((1 << (BITS * level as u32)) - 1) == 0 {
                let ix = ((to >> (BITS * level as u32)) as usize) % SLOTS;
                self.cascade(level, ix);
            }
        }
        let ix = to as usize % SLOTS;
        if self.levels[0].occupied & (1 << ix) != 0 {
            self.cascade(0, ix);
        }
    }

    fn cascade(&mut self, level: usize, ix: usize) {
        let l = &mut self.levels[level];
        if l.occupied & (1 << ix) == 0 {
            return;
        }
        l.occupied &= !(1 << ix);
        let mut entries = std::mem::take(&mut l.slots[ix]);
        for (at, key) in entries.drain(..) {
            self.place(at, key);
        }
        // Keep the room of the low level, which fills again at once; give back what a burst left behind.
        if level == 0 && entries.capacity() <= 1024 {
            self.levels[level].slots[ix] = entries;
        }
    }

    /// The next tick at which something has to be looked at: an entry, or a slot that must come down a level.
    pub fn next_tick(&self) -> Option<Jiffies> {
        if !self.due.is_empty() {
            return Some(self.base);
        }
        if self.len == 0 {
            return None;
        }
        let mut best: Option<Jiffies> = None;
        for (level, l) in self.levels.iter().enumerate() {
            if l.occupied == 0 {
                continue;
            }
            let shift = BITS * level as u32;
            let here = (self.base >> shift) as usize % SLOTS;
            let turned = l.occupied.rotate_right(((here + 1) % SLOTS) as u32);
            let ahead = turned.trailing_zeros() + 1;
            let tick = ((self.base >> shift).saturating_add(ahead)) << shift;
            best = Some(best.map_or(tick, |b| b.min(tick)));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::lib::slab::Slab;

    fn key(n: &mut Slab<crate::task::call::ParkedCall>) -> TimerKey {
        let _ = n;
        TimerKey::Call(CallId::from_bits(1 << 32).unwrap())
    }

    #[test]
    fn every_entry_comes_out_in_its_tick_whatever_the_distance() {
        let mut rng = Rng::new(1);
        let mut wheel = Timers::new(1);
        let k = key(&mut Slab::default());
        let mut want: Vec<Jiffies> = (0..2000).map(|i| 2 + rng.below(1 << (i % 27))).collect();
        want.iter().for_each(|&at| wheel.insert(at, k));
        want.sort();
        let mut got = vec![];
        while let Some(t) = wheel.next_tick() {
            while let Some((at, _)) = wheel.pop_due(t) {
                assert!(at <= t, "{at} came out at {t}");
                got.push(at);
            }
        }
        assert_eq!(got, want);
    }

    #[test]
    fn a_deadline_that_moved_later_is_looked_at_once_and_fires_once() {
        let mut wheel = Timers::new(1);
        let k = key(&mut Slab::default());
        let mut slot = TimerSlot::default();
        wheel.arm(&mut slot, 10, k);
        wheel.arm(&mut slot, 50, k);
        assert_eq!(wheel.len(), 1);
        let (at, _) = wheel.pop_due(10).unwrap();
        assert_eq!(wheel.look(&mut slot, at, 10, k), Fire::NotYet);
        assert!(wheel.pop_due(49).is_none());
        let (at, _) = wheel.pop_due(50).unwrap();
        assert_eq!(wheel.look(&mut slot, at, 50, k), Fire::Due);
        assert!(!slot.is_armed() && wheel.is_empty());
    }
}
