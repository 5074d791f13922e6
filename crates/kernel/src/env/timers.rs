//! The timer wheel: eight bytes a timer in its owner, O(1) to arm and to take out, armed again lazily.
//!
//! The owner holds a [`TimerSlot`]: when it wants to be called, and its entry in the wheel. Moving a deadline later touches
//! only the slot; the wheel finds out when it gets there. An owner that ends takes its entry out with [`Timers::remove`],
//! so that the wheel holds no more entries than there are timers. Levels of 64 slots, six bits each, as in Linux.
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
    /// The next departure of a paced connection (`tcp_pace_kick`).
    TcpPace(TcpId),
    /// An acknowledgement that was held back (`tcp_compressed_ack_kick`).
    TcpCompressedAck(TcpId),
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
    /// The same of IPv6.
    Pmtu6Expire(NsId),
    Ip6Frag(NsId),
    /// Duplicate detection, lifetimes, router solicitations and group reports of an interface.
    Addrconf(DevId),
    /// Questions of ARP that are answered for others, a while later (`neigh_proxy_process`).
    ArpProxy(DevId),
    /// Reports of multicast groups.
    Igmp(DevId),
    /// The spanning tree and the groups of a bridge.
    Bridge(DevId),
    /// A call that sleeps with a timeout.
    Call(CallId),
    /// A tracked connection without traffic.
    Conntrack(CtId),
    /// Packets of a group that wait for more (`nfulnl_timer`).
    Nflog(NsId, u16),
    /// A queueing discipline that sends later (`qdisc_watchdog`).
    Qdisc(DevId),
    /// A NIC whose interrupt is held back for coalescing.
    NicCoalesce(DevId),
    /// A NAPI that polls again (`napi_watchdog`).
    NapiWatchdog(DevId, u16),
    /// The last bit of a packet that a card sends.
    NicLine(DevId),
    /// A busy loop that ends.
    NapiBusy(DevId, u16),
}

impl TimerKey {
    /// It strikes as an interrupt, whatever the CPUs do.
    pub fn is_hard(self) -> bool {
        matches!(
            self,
            TimerKey::NicCoalesce(_) | TimerKey::NicLine(_) | TimerKey::NapiWatchdog(..) | TimerKey::NapiBusy(..)
        )
    }
}

/// In the owner: when the timer is due (0 when off), and its entry in the wheel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerSlot {
    deadline: Jiffies,
    entry: u32,
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

    /// Due at `at`, watched by a queue of the owner's own instead of the wheel.
    pub fn stand(&mut self, at: Jiffies) {
        *self = TimerSlot { deadline: at, entry: 0 };
    }

    /// Armed, but not in the wheel.
    pub fn stands(&self) -> bool {
        self.deadline != 0 && self.entry == 0
    }
}

/// What the wheel's look at a slot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fire {
    Due,
    /// Cancelled, moved later or an old entry: nothing to do.
    NotYet,
}

/// An entry whose tick came, as the owner's slot knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired(u32);

impl Fired {
    /// What did not come out of the wheel.
    pub const NONE: Fired = Fired(0);
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 5;
/// Heads of the rings: one for each slot of each level, and one for what is due.
const DUE: usize = SLOTS * LEVELS;
/// Entry numbers follow those of the heads, so that 0 never names an entry.
const HEADS: usize = DUE + 1;

/// So many free entries are kept in any case.
const KEEP: usize = 1024;

/// A link of a ring: the heads first, then the entries.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    prev: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Jiffies,
    /// `None` in an entry that is free.
    key: Option<TimerKey>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Every tick up to and with this one has been looked at.
    base: Jiffies,
    /// No entry and no slot that must come down is due before this tick.
    soonest: Jiffies,
    /// Slots with something in them, by level.
    occupied: [u64; LEVELS],
    links: Vec<Link>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    len: usize,
    /// Most entries there were since some were last given back.
    most: usize,
}

impl Timers {
    pub fn new(base: Jiffies) -> Timers {
        let links = (0..HEADS as u32).map(|n| Link { next: n, prev: n }).collect();
        let (entries, free) = (Vec::new(), Vec::new());
        Timers { base, soonest: Jiffies::MAX, occupied: [0; LEVELS], links, entries, free, len: 0, most: 0 }
    }

    /// Entries in the wheel, those of cancelled timers included.
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
        if slot.entry == 0 {
            slot.entry = self.insert(at, key);
        } else if let Some(e) = self.entry(slot.entry)
            && at < e.at
        {
            e.at = at;
            self.unlink(slot.entry);
            self.place(slot.entry, at);
        }
    }

    /// The owner ends: its entry goes with it.
    pub fn remove(&mut self, slot: &mut TimerSlot) {
        slot.deadline = 0;
        let n = std::mem::take(&mut slot.entry);
        if n != 0 {
            self.unlink(n);
            self.release(n);
        }
    }

    /// Called with what came out of [`Timers::pop_due`]: decides, and queues again what moved later.
    pub fn look(&mut self, slot: &mut TimerSlot, fired: Fired, now: Jiffies, key: TimerKey) -> Fire {
        if slot.entry != fired.0 {
            return Fire::NotYet;
        }
        slot.entry = 0;
        if slot.deadline == 0 {
            return Fire::NotYet;
        }
        if slot.deadline > now {
            slot.entry = self.insert(slot.deadline, key);
            return Fire::NotYet;
        }
        slot.deadline = 0;
        Fire::Due
    }

    fn entry(&mut self, n: u32) -> Option<&mut Entry> {
        self.entries.get_mut((n as usize).checked_sub(HEADS)?)
    }

    fn insert(&mut self, at: Jiffies, key: TimerKey) -> u32 {
        self.len += 1;
        self.most = self.most.max(self.len);
        let entry = Entry { at, key: Some(key) };
        let n = match self.free.pop() {
            Some(n) => n,
            None => {
                self.entries.push(entry);
                self.links.push(Link { next: 0, prev: 0 });
                (self.links.len() - 1) as u32
            }
        };
        if let Some(e) = self.entry(n) {
            *e = entry;
        }
        self.place(n, at);
        n
    }

    fn release(&mut self, n: u32) {
        self.len -= 1;
        if let Some(e) = self.entry(n) {
            e.key = None;
        }
        self.free.push(n);
        if self.free.len() > KEEP && 2 * self.len <= self.most {
            self.shrink();
        }
    }

    /// Entries behind the last one in use are given back.
    #[cold]
    fn shrink(&mut self) {
        let used = self.entries.iter().rposition(|e| e.key.is_some()).map_or(0, |n| n + 1);
        self.entries.truncate(used);
        self.links.truncate(HEADS + used);
        self.free.retain(|n| (*n as usize) < HEADS + used);
        self.entries.shrink_to_fit();
        self.links.shrink_to_fit();
        self.free.shrink_to_fit();
        self.most = self.len;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * 4
    }

    fn unlink(&mut self, n: u32) {
        let Link { next, prev } = self.links[n as usize];
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        // What is left of the ring is a head alone: nothing is in its slot.
        if next == prev && (next as usize) < DUE {
            self.occupied[next as usize / SLOTS] &= !(1 << (next as usize % SLOTS));
        }
    }

    /// At the end of the ring of slot `ix`.
    fn append(&mut self, ix: usize, n: u32) {
        let prev = self.links[ix].prev;
        self.links[n as usize] = Link { next: ix as u32, prev };
        self.links[prev as usize].next = n;
        self.links[ix].prev = n;
    }

    fn place(&mut self, n: u32, at: Jiffies) {
        if at <= self.base {
            self.soonest = self.base;
            return self.append(DUE, n);
        }
        // The level is where `at` and `base` first differ, so that a slot is reached exactly when its time begins.
        let differ = 31 - (at ^ self.base).leading_zeros();
        let level = ((differ / BITS) as usize).min(LEVELS - 1);
        let ix = if differ / BITS >= LEVELS as u32 {
            // Behind a turn of the wheel (weeks): in its slot of the top level if that comes before it, else in the last one, where
            // it is looked at again.
            let top = BITS * (LEVELS as u32 - 1);
            let ahead = ((at >> top) - (self.base >> top)).min(SLOTS as u32 - 1);
            ((self.base >> top) + ahead) as usize % SLOTS
        } else {
            ((at >> (BITS * level as u32)) as usize) % SLOTS
        };
        self.occupied[level] |= 1 << ix;
        self.append(level * SLOTS + ix, n);
        // Where the slot begins is not after `at`.
        let begins = if differ / BITS >= LEVELS as u32 { self.base } else { at & !((1 << (BITS * level as u32)) - 1) };
        self.soonest = self.soonest.min(begins.max(self.base));
    }

    /// Whether [`Timers::pop_due`] has work to do at `now`.
    pub fn is_due(&mut self, now: Jiffies) -> bool {
        if self.soonest > now {
            return false;
        }
        self.soonest = self.next_tick().unwrap_or(Jiffies::MAX);
        self.soonest <= now
    }

    /// The next entry whose tick is not after `now`, in order of time and arming.
    pub fn pop_due(&mut self, now: Jiffies) -> Option<(Fired, TimerKey)> {
        loop {
            let first = self.links[DUE].next;
            if first as usize != DUE {
                self.unlink(first);
                let key = self.entry(first).and_then(|e| e.key);
                self.release(first);
                match key {
                    Some(key) => return Some((Fired(first), key)),
                    None => continue,
                }
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
        self.cascade(0, to as usize % SLOTS);
    }

    fn cascade(&mut self, level: usize, ix: usize) {
        if self.occupied[level] & (1 << ix) == 0 {
            return;
        }
        self.occupied[level] &= !(1 << ix);
        let head = level * SLOTS + ix;
        let mut n = self.links[head].next;
        // Away with the ring first: what lies beyond the wheel comes back into the same slot.
        self.links[head] = Link { next: head as u32, prev: head as u32 };
        while n as usize != head {
            let next = self.links[n as usize].next;
            if let Some(at) = self.entry(n).map(|e| e.at) {
                self.place(n, at);
            }
            n = next;
        }
    }

    /// The next tick at which something has to be looked at: an entry, or a slot that must come down a level.
    pub fn next_tick(&self) -> Option<Jiffies> {
        if self.links[DUE].next as usize != DUE {
            return Some(self.base);
        }
        if self.len == 0 {
            return None;
        }
        let mut best: Option<Jiffies> = None;
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied == 0 {
                continue;
            }
            let shift = BITS * level as u32;
            let here = (self.base >> shift) as usize % SLOTS;
            let turned = occupied.rotate_right(((here + 1) % SLOTS) as u32);
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
    fn a_turn_of_the_wheel_delays_nobody() {
        let key = key(&mut Slab::default());
        const TURN: Jiffies = 1 << 30;
        for (base, at) in
            [(TURN - 100, TURN + 100), (TURN / 2, TURN + 9), (TURN - 1, TURN), (5, TURN + 5), (5, 3 * TURN + 7)]
        {
            let mut wheel = Timers::new(base);
            wheel.arm(&mut TimerSlot::default(), at, key);
            let mut now = base;
            while let Some(next) = wheel.next_tick() {
                assert!(next > now && next <= at, "{base} {at}: {next}");
                now = next;
                if wheel.pop_due(now).is_some() {
                    break;
                }
            }
            assert_eq!(now, at);
        }
    }

    #[test]
    fn every_entry_comes_out_in_its_tick_whatever_the_distance() {
        let mut rng = Rng::new(1);
        let mut wheel = Timers::new(1);
        let mut want: Vec<Jiffies> = (0..4000).map(|i| 2 + rng.below(1 << (i % 27))).collect();
        want.iter().for_each(|&at| {
            wheel.insert(at, TimerKey::Call(CallId::from_bits(1 << 32 | u64::from(at)).unwrap()));
        });
        want.sort();
        let (mut got, most) = (vec![], wheel.bytes());
        while let Some(t) = wheel.next_tick() {
            while let Some((_, key)) = wheel.pop_due(t) {
                let TimerKey::Call(id) = key else { panic!("{key:?}") };
                assert!(id.slot() <= t, "{} came out at {t}", id.slot());
                got.push(id.slot());
            }
        }
        assert_eq!(got, want);
        assert!(wheel.bytes() * 2 < most, "{} of {most} bytes are still there", wheel.bytes());
    }

    #[test]
    fn a_deadline_that_moved_later_is_looked_at_once_and_fires_once() {
        let mut wheel = Timers::new(1);
        let k = key(&mut Slab::default());
        let mut slot = TimerSlot::default();
        wheel.arm(&mut slot, 10, k);
        wheel.arm(&mut slot, 50, k);
        assert_eq!(wheel.len(), 1);
        let (fired, _) = wheel.pop_due(10).unwrap();
        assert_eq!(wheel.look(&mut slot, fired, 10, k), Fire::NotYet);
        assert!(wheel.pop_due(49).is_none());
        let (fired, _) = wheel.pop_due(50).unwrap();
        assert_eq!(wheel.look(&mut slot, fired, 50, k), Fire::Due);
        assert!(!slot.is_armed() && wheel.is_empty());
    }

    #[test]
    fn a_timer_that_is_taken_out_leaves_nothing_and_the_others_in_order() {
        let mut wheel = Timers::new(1);
        let k = key(&mut Slab::default());
        let mut slots = [TimerSlot::default(); 300];
        for (i, s) in slots.iter_mut().enumerate() {
            wheel.arm(s, 5 + (i as u32 % 3) * 200, k);
        }
        for s in slots.iter_mut().step_by(2) {
            wheel.remove(s);
            wheel.remove(s);
        }
        assert_eq!(wheel.len(), 150);
        // Earlier than it was: its entry moves at once.
        wheel.arm(&mut slots[1], 3, k);
        let mut order = vec![];
        for now in 0..500 {
            assert!(!wheel.is_due(now) || wheel.next_tick().is_some_and(|t| t <= now));
            while let Some((fired, _)) = wheel.pop_due(now) {
                order.push(slots.iter().position(|s| s.entry == fired.0).unwrap());
            }
        }
        let mut want: Vec<usize> = vec![1];
        for rest in 0..3 {
            want.extend((2..300).filter(|i| i % 2 == 1 && i % 3 == rest));
        }
        assert_eq!((order, wheel.len()), (want, 0));
    }
}
