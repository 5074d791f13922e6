//! htb: a tree of classes, each with a rate of its own and a ceiling up to which it may borrow from above.
//!
//! A class that has packets is *active*. Active classes below their rate stand in the row of their level and priority;
//! those that must borrow stand in the feed of their parent instead; those at their ceiling wait for a time.
use super::htb_class::{Class, Mode};
use super::{Ctx, Qdisc, Stats, Xmit, cls, pkt_len};
use crate::env::{Nanos, SEC};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use belljar_abi::pkt_sched::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const MAX_DEPTH: usize = 8;
pub const MAX_PRIO: usize = 8;
/// What a class may have saved or owe at most.
pub const MBUFFER: i64 = 60 * SEC as i64;
/// Classes whose time came that are looked at in one go.
const MAX_EVENTS: usize = 500;
/// When nothing is known to happen it looks again after that.
const IDLE: Nanos = 5 * SEC;

/// Classes in turn, by number; `next` is where the turn is.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    pub set: BTreeSet<u32>,
    next: u32,
}

impl Feed {
    fn at_turn(&self) -> Option<u32> {
        self.set.range(self.next..).next().copied()
    }
}

pub type Feeds = [Feed; MAX_PRIO];

/// See the module.
#[derive(Clone, Debug)]
pub struct Htb {
    pub classes: BTreeMap<u32, Class>,
    /// Their numbers in the order in which they were made.
    pub order: Vec<u32>,
    rows: [Feeds; MAX_DEPTH],
    wait: [BTreeSet<(Nanos, u32)>; MAX_DEPTH],
    pub defcls: u32,
    pub rate2quantum: u32,
    pub direct_qlen: u32,
    pub direct_pkts: u32,
    direct: VecDeque<Skb>,
    pub filters: cls::Filters,
}

/// Where a packet goes.
enum Target {
    Direct,
    Class(u32),
    Nowhere,
    /// A filter has it.
    Stolen,
}

impl Htb {
    pub(super) fn with(defcls: u32, rate2quantum: u32, direct_qlen: u32) -> Htb {
        Htb {
            classes: BTreeMap::new(),
            order: Vec::new(),
            rows: Default::default(),
            wait: Default::default(),
            defcls,
            rate2quantum,
            direct_qlen,
            direct_pkts: 0,
            direct: VecDeque::new(),
            filters: cls::Filters::default(),
        }
    }

    pub fn leaves(&self) -> impl Iterator<Item = &Qdisc> {
        self.classes.values().filter_map(|c| c.leaf.as_ref())
    }

    pub fn leaves_mut(&mut self) -> impl Iterator<Item = &mut Qdisc> {
        self.classes.values_mut().filter_map(|c| c.leaf.as_mut())
    }

    /// As a hash table of the kernel shows them: it grows with the classes, the newest of a chain first.
    #[doc(alias = "qdisc_class_hash_grow")]
    pub fn in_hash_order(&self) -> Vec<&Class> {
        let hash = |id: u32, size: usize| {
            let id = id ^ id >> 8;
            (id ^ id >> 4) as usize & (size - 1)
        };
        let mut chains: Vec<Vec<u32>> = vec![Vec::new(); 4];
        for (n, id) in self.order.iter().enumerate() {
            let at = hash(*id, chains.len());
            chains[at].insert(0, *id);
            if (n + 1) * 4 > chains.len() * 3 {
                let size = chains.len() * 2;
                let mut grown: Vec<Vec<u32>> = vec![Vec::new(); size];
                chains.iter().flatten().for_each(|id| grown[hash(*id, size)].insert(0, *id));
                chains = grown;
            }
        }
        chains.iter().flatten().filter_map(|id| self.classes.get(id)).collect()
    }

    #[doc(alias = "htb_classify")]
    fn classify(&mut self, handle: u32, skb: &Skb, cx: &mut Ctx<'_>) -> Target {
        if skb.priority == handle {
            return Target::Direct;
        }
        let mut filters = &mut self.filters;
        if let Some(c) = self.classes.get_mut(&skb.priority) {
            if c.level == 0 {
                return Target::Class(c.id);
            }
            filters = &mut c.filters;
        }
        // At most once through every level.
        for _ in 0..=MAX_DEPTH {
            match filters.classify(skb, cx) {
                cls::Verdict::Drop => return Target::Nowhere,
                cls::Verdict::Stolen => return Target::Stolen,
                cls::Verdict::None => break,
                cls::Verdict::Class(id) if id == handle => return Target::Direct,
                cls::Verdict::Class(id) => match self.classes.get_mut(&id) {
                    None => break,
                    Some(c) if c.level == 0 => return Target::Class(id),
                    Some(c) => filters = &mut c.filters,
                },
            }
        }
        let default = handle & TC_H_MAJ_MASK | self.defcls & TC_H_MIN_MASK;
        match self.classes.get(&default) {
            Some(c) if c.level == 0 => Target::Class(default),
            _ => Target::Direct,
        }
    }

    #[doc(alias = "htb_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, handle: u32, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let id = match self.classify(handle, &skb, cx) {
            Target::Class(id) => id,
            Target::Direct if self.direct.len() < self.direct_qlen as usize => {
                self.direct_pkts = self.direct_pkts.wrapping_add(1);
                s.hold(&skb);
                self.direct.push_back(skb);
                return Xmit::Success;
            }
            Target::Stolen => return cx.steal(skb, "htb_enqueue"),
            refused => {
                s.drops += 1;
                cx.drop(skb, DropReason::QdiscDrop, "htb_enqueue");
                return if matches!(refused, Target::Direct) { Xmit::Drop } else { Xmit::Bypass };
            }
        };
        let Some(c) = self.classes.get_mut(&id) else { return Xmit::Bypass };
        let Some(q) = &mut c.leaf else { return Xmit::Bypass };
        let was = q.stats;
        let sent = q.enqueue(skb, cx);
        s.follow(was, q.stats);
        c.stats.drops += u64::from(sent != Xmit::Success);
        let waits = q.stats.qlen > 0;
        if waits {
            self.activate(id);
        }
        sent
    }

    #[doc(alias = "htb_activate")]
    fn activate(&mut self, id: u32) {
        let Some(c) = self.classes.get_mut(&id) else { return };
        if c.activity == 0 {
            c.activity = 1 << c.prio;
            self.activate_prios(id);
        }
    }

    #[doc(alias = "htb_deactivate")]
    pub(super) fn deactivate(&mut self, id: u32) {
        if self.classes.get(&id).is_some_and(|c| c.activity != 0) {
            self.deactivate_prios(id);
            if let Some(c) = self.classes.get_mut(&id) {
                c.activity = 0;
            }
        }
    }

    /// Into the row of its level, or into the feeds above it while it must borrow.
    #[doc(alias = "htb_activate_prios")]
    fn activate_prios(&mut self, mut id: u32) {
        let Some((mut mask, mut mode, mut parent)) = self.classes.get(&id).map(|c| (c.activity, c.mode, c.parent))
        else {
            return;
        };
        while mode == Mode::MayBorrow && mask != 0 {
            let Some(up) = parent.and_then(|p| self.classes.get_mut(&p)) else { break };
            for prio in prios(mask) {
                let feed = &mut up.feeds()[prio];
                if !feed.set.is_empty() {
                    // The parent stands where it must already.
                    mask &= !(1 << prio);
                }
                feed.set.insert(id);
            }
            up.activity |= mask;
            (id, mode, parent) = (up.id, up.mode, up.parent);
        }
        if mode == Mode::CanSend && mask != 0 {
            let level = self.level(id);
            for prio in prios(mask) {
                self.rows[level][prio].set.insert(id);
            }
        }
    }

    #[doc(alias = "htb_deactivate_prios")]
    fn deactivate_prios(&mut self, mut id: u32) {
        let Some((mut mask, mut mode, mut parent)) = self.classes.get(&id).map(|c| (c.activity, c.mode, c.parent))
        else {
            return;
        };
        while mode == Mode::MayBorrow && mask != 0 {
            let Some(up) = parent.and_then(|p| self.classes.get_mut(&p)) else { break };
            let mut empty = 0;
            for prio in prios(mask) {
                let feed = &mut up.feeds()[prio];
                feed.set.remove(&id);
                if feed.set.is_empty() {
                    empty |= 1 << prio;
                }
            }
            mask = empty;
            up.activity &= !mask;
            (id, mode, parent) = (up.id, up.mode, up.parent);
        }
        if mode == Mode::CanSend && mask != 0 {
            let level = self.level(id);
            for prio in prios(mask) {
                self.rows[level][prio].set.remove(&id);
            }
        }
    }

    fn level(&self, id: u32) -> usize {
        self.classes.get(&id).map_or(0, |c| usize::from(c.level)).min(MAX_DEPTH - 1)
    }

    /// `diff` nanoseconds more than its books say: may it send? Returns how long until that changes.
    #[doc(alias = "htb_change_class_mode")]
    fn change_mode(&mut self, s: &mut Stats, id: u32, diff: i64) -> i64 {
        let Some(c) = self.classes.get_mut(&id) else { return 0 };
        let (mode, wait) = c.mode_now(diff);
        if mode == c.mode {
            return wait;
        }
        if mode == Mode::CantSend {
            c.stats.overlimits += 1;
            s.overlimits += 1;
        }
        if c.activity == 0 {
            c.mode = mode;
            return wait;
        }
        if c.mode != Mode::CantSend {
            self.deactivate_prios(id);
        }
        if let Some(c) = self.classes.get_mut(&id) {
            c.mode = mode;
        }
        if mode != Mode::CantSend {
            self.activate_prios(id);
        }
        wait
    }

    #[doc(alias = "htb_add_to_wait_tree")]
    fn add_to_wait(&mut self, id: u32, now: Nanos, delay: i64) {
        let level = self.level(id);
        let Some(c) = self.classes.get_mut(&id) else { return };
        c.wakes = now.saturating_add(delay.max(1) as u64);
        self.wait[level].insert((c.wakes, id));
    }

    pub(super) fn stop_waiting(&mut self, id: u32) {
        let level = self.level(id);
        if let Some(c) = self.classes.get_mut(&id) {
            self.wait[level].remove(&(c.wakes, id));
            c.wakes = 0;
        }
    }

    /// Classes of a level whose time came. When the next one's does.
    #[doc(alias = "htb_do_events")]
    fn do_events(&mut self, s: &mut Stats, level: usize, now: Nanos) -> Option<Nanos> {
        for _ in 0..MAX_EVENTS {
            let &(at, id) = self.wait[level].first()?;
            if at > now {
                return Some(at);
            }
            self.wait[level].remove(&(at, id));
            let Some(c) = self.classes.get_mut(&id) else { continue };
            c.wakes = 0;
            let diff = (now.saturating_sub(c.t_c) as i64).min(MBUFFER);
            let wait = self.change_mode(s, id, diff);
            if self.classes.get(&id).is_some_and(|c| c.mode != Mode::CanSend) {
                self.add_to_wait(id, now, wait);
            }
        }
        Some(now + 1)
    }

    /// The feed of a row, or of the class that the row's turn led to.
    fn feed(&mut self, place: Place, prio: usize) -> Option<&mut Feed> {
        match place {
            Place::Row(level) => self.rows.get_mut(level)?.get_mut(prio),
            Place::Class(id) => self.classes.get_mut(&id)?.feeds().get_mut(prio),
        }
    }

    /// From a row down to the leaf whose turn it is.
    #[doc(alias = "htb_lookup_leaf")]
    fn lookup_leaf(&mut self, level: usize, prio: usize) -> Option<u32> {
        let mut path = [Place::Row(level); MAX_DEPTH + 1];
        let mut depth = 0;
        // Each step goes down a level or past a class.
        for _ in 0..u16::MAX {
            let feed = self.feed(path[depth], prio)?;
            let Some(id) = feed.at_turn() else {
                // At the end: from the start again, and the one above is past this class.
                feed.next = 0;
                if depth == 0 {
                    if feed.set.is_empty() {
                        return None;
                    }
                    continue;
                }
                if feed.set.is_empty() {
                    return None;
                }
                depth -= 1;
                let up = self.feed(path[depth], prio)?;
                up.next = up.at_turn()?.saturating_add(1);
                continue;
            };
            feed.next = id;
            if self.classes.get(&id)?.level == 0 {
                return Some(id);
            }
            depth += 1;
            *path.get_mut(depth)? = Place::Class(id);
        }
        None
    }

    /// Its turn is over.
    fn turn_over(&mut self, level: usize, prio: usize, id: u32) {
        let place = match self.classes.get(&id).and_then(|c| c.parent) {
            Some(p) if level > 0 => Place::Class(p),
            _ => Place::Row(0),
        };
        if let Some(feed) = self.feed(place, prio) {
            feed.next = id.saturating_add(1);
        }
    }

    #[doc(alias = "htb_dequeue_tree")]
    fn dequeue_tree(&mut self, s: &mut Stats, level: usize, prio: usize, cx: &mut Ctx<'_>) -> Option<Skb> {
        let mut id = self.lookup_leaf(level, prio)?;
        let mut start = id;
        let (id, skb) = loop {
            let q = self.classes.get_mut(&id).and_then(|c| c.leaf.as_mut())?;
            if q.stats.qlen == 0 {
                self.deactivate(id);
                let next = self.lookup_leaf(level, prio)?;
                if id == start {
                    start = next;
                }
                id = next;
                continue;
            }
            let was = q.stats;
            let skb = q.dequeue(cx);
            s.follow(was, q.stats);
            if let Some(skb) = skb {
                break (id, skb);
            }
            // It has packets and does not want to send them yet.
            self.turn_over(level, prio, id);
            id = self.lookup_leaf(level, prio)?;
            if id == start {
                return None;
            }
        };
        let c = self.classes.get_mut(&id)?;
        c.stats.sent(&skb);
        let len = i64::from(pkt_len(&skb));
        c.deficit[level] -= len;
        let (empty, over) = (c.leaf.as_ref().is_none_or(|q| q.stats.qlen == 0), c.deficit[level] < 0);
        if over {
            c.deficit[level] += i64::from(c.quantum);
            self.turn_over(level, prio, id);
        }
        if empty {
            self.deactivate(id);
        }
        self.charge(s, id, level, &skb, cx.now);
        Some(skb)
    }

    /// The class and those that it borrows from pay.
    #[doc(alias = "htb_charge_class")]
    fn charge(&mut self, s: &mut Stats, id: u32, level: usize, skb: &Skb, now: Nanos) {
        let bytes = pkt_len(skb);
        let mut at = Some(id);
        while let Some(id) = at {
            let Some(c) = self.classes.get_mut(&id) else { return };
            let diff = (now.saturating_sub(c.t_c) as i64).min(MBUFFER);
            if usize::from(c.level) >= level {
                c.lends += u32::from(usize::from(c.level) == level);
                c.pay(bytes, diff);
            } else {
                c.borrows += 1;
                c.tokens += diff;
            }
            c.pay_ceil(bytes, diff);
            c.t_c = now;
            let (old, parent) = (c.mode, c.parent);
            if c.level > 0 {
                c.stats.sent(skb);
            }
            let wait = self.change_mode(s, id, 0);
            let mode = self.classes.get(&id).map_or(old, |c| c.mode);
            if mode != old {
                if old != Mode::CanSend {
                    self.stop_waiting(id);
                }
                if mode != Mode::CanSend {
                    self.add_to_wait(id, now, wait);
                }
            }
            at = parent;
        }
    }

    #[doc(alias = "htb_dequeue")]
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        if let Some(skb) = self.direct.pop_front() {
            s.release(&skb);
            s.sent(&skb);
            return Some(skb);
        }
        if s.qlen == 0 {
            return None;
        }
        let mut next = cx.now + IDLE;
        for level in 0..MAX_DEPTH {
            if let Some(at) = self.do_events(s, level, cx.now) {
                next = next.min(at);
            }
            for prio in 0..MAX_PRIO {
                if self.rows[level][prio].set.is_empty() {
                    continue;
                }
                if let Some(skb) = self.dequeue_tree(s, level, prio, cx) {
                    s.sent(&skb);
                    return Some(skb);
                }
            }
        }
        s.overlimits += 1;
        cx.wake_at(next);
        None
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.direct.drain(..));
        for c in self.classes.values_mut() {
            c.leaf.iter_mut().for_each(|q| q.reset(out));
            c.feeds = None;
            (c.activity, c.mode, c.wakes) = (0, Mode::CanSend, 0);
        }
        self.rows = Default::default();
        self.wait = Default::default();
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.direct.iter()
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Row(usize),
    Class(u32),
}

fn prios(mask: u8) -> impl Iterator<Item = usize> {
    (0..MAX_PRIO).filter(move |p| mask & 1 << p != 0)
}
