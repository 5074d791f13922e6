//! [`Slab`]: entries with typed generational ids. A stale id is `None`, never somebody else's entry.
//!
//! Chunked: an entry never moves and growing copies nothing, so a million sockets cost no pause. Chunks without an entry
//! are given back when most of the slots are free. Iteration is by slot number, which is deterministic. The first chunk lies
//! apart: where there are few entries (namespaces, devices, tasks), finding one takes a single step.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// Names an entry of a `Slab<T>`.
pub struct Id<T> {
    ix: u32,
    generation: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The slot number: unique among living entries, for printing and for tables indexed by slot.
    pub fn slot(self) -> u32 {
        self.ix
    }

    /// A number unique over the life of the slab.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.ix)
    }

    pub fn from_bits(bits: u64) -> Option<Id<T>> {
        Some(Id { ix: bits as u32, generation: NonZeroU32::new((bits >> 32) as u32)?, of: PhantomData })
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, o: &Self) -> bool {
        (self.ix, self.generation) == (o.ix, o.generation)
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, o: &Self) -> std::cmp::Ordering {
        (self.ix, self.generation).cmp(&(o.ix, o.generation))
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        (self.ix, self.generation).hash(h);
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.ix, self.generation)
    }
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: NonZeroU32,
    value: Option<T>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    first: Vec<Slot<T>>,
    /// From number 1 on.
    others: Vec<Vec<Slot<T>>>,
    about: Vec<About>,
    free: Vec<u32>,
    live: usize,
    /// The chunk that grows.
    filling: usize,
    /// Chunks that were given back.
    gone: Vec<u32>,
    /// Most entries there were since chunks were last given back.
    most: usize,
}

/// Of a chunk: entries in it, and the generation that its slots begin with when it is made again.
#[derive(Clone, Copy, Debug)]
struct About {
    used: u32,
    first: NonZeroU32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        let about = vec![About { used: 0, first: NonZeroU32::MIN }];
        let (free, gone) = (Vec::new(), Vec::new());
        Slab { first: Vec::new(), others: Vec::new(), about, free, live: 0, filling: 0, gone, most: 0 }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub fn insert(&mut self, value: T) -> Id<T> {
        self.live += 1;
        self.most = self.most.max(self.live);
        if let Some(ix) = self.free.pop()
            && let Some(slot) = self.slot_mut(ix)
        {
            slot.value = Some(value);
            let id = Id { ix, generation: slot.generation, of: PhantomData };
            self.about[ix as usize / Self::CHUNK].used += 1;
            return id;
        }
        let chunk = self.growing();
        let about = &mut self.about[chunk];
        about.used += 1;
        let generation = about.first;
        let slots = self.chunk_mut(chunk);
        slots.push(Slot { generation, value: Some(value) });
        Id { ix: (chunk * Self::CHUNK + slots.len() - 1) as u32, generation, of: PhantomData }
    }

    /// One that there is.
    fn chunk_mut(&mut self, chunk: usize) -> &mut Vec<Slot<T>> {
        match chunk.checked_sub(1) {
            None => &mut self.first,
            Some(other) => &mut self.others[other],
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Vec<Slot<T>>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// A chunk with room behind its last slot.
    fn growing(&mut self) -> usize {
        if self.chunk_mut(self.filling).len() == Self::CHUNK {
            self.filling = match self.gone.pop() {
                Some(chunk) => chunk as usize,
                None => {
                    self.others.push(Vec::new());
                    self.about.push(About { used: 0, first: NonZeroU32::MIN });
                    self.others.len()
                }
            };
        }
        let slots = self.chunk_mut(self.filling);
        if slots.is_empty() {
            slots.reserve_exact(Self::CHUNK);
        }
        self.filling
    }

    #[inline]
    fn slot(&self, ix: u32) -> Option<&Slot<T>> {
        match self.first.get(ix as usize) {
            None => self.other_slot(ix),
            slot => slot,
        }
    }

    #[inline]
    fn slot_mut(&mut self, ix: u32) -> Option<&mut Slot<T>> {
        if (ix as usize) < self.first.len() { self.first.get_mut(ix as usize) } else { self.other_slot_mut(ix) }
    }

    #[inline(never)]
    fn other_slot(&self, ix: u32) -> Option<&Slot<T>> {
        self.others.get((ix as usize / Self::CHUNK).checked_sub(1)?)?.get(ix as usize % Self::CHUNK)
    }

    #[inline(never)]
    fn other_slot_mut(&mut self, ix: u32) -> Option<&mut Slot<T>> {
        self.others.get_mut((ix as usize / Self::CHUNK).checked_sub(1)?)?.get_mut(ix as usize % Self::CHUNK)
    }

    #[inline]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let slot = self.slot(id.ix)?;
        if slot.generation == id.generation { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let slot = self.slot_mut(id.ix)?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    /// The entry in slot number `ix`, whoever it is: for tables that forget an entry before it ends.
    #[inline]
    pub fn at_slot(&self, ix: u32) -> Option<(Id<T>, &T)> {
        let slot = self.slot(ix)?;
        let id = Id { ix, generation: slot.generation, of: PhantomData };
        slot.value.as_ref().map(|v| (id, v))
    }

    pub fn contains(&self, id: Id<T>) -> bool {
        self.get(id).is_some()
    }

    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let slot = self.slot_mut(id.ix)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        self.vacate(id.ix);
        Some(value)
    }

    /// Ends an entry where it lies; false when it is not there any more.
    pub fn free(&mut self, id: Id<T>) -> bool {
        let Some(slot) = self.slot_mut(id.ix).filter(|s| s.generation == id.generation && s.value.is_some()) else {
            return false;
        };
        slot.value = None;
        self.vacate(id.ix);
        true
    }

    /// A slot whose generations are used up is never given out again.
    fn vacate(&mut self, ix: u32) {
        self.live -= 1;
        self.about[ix as usize / Self::CHUNK].used -= 1;
        if let Some(slot) = self.slot_mut(ix)
            && let Some(next) = slot.generation.checked_add(1)
        {
            slot.generation = next;
            self.free.push(ix);
        }
        if self.free.len() > Self::CHUNK && 2 * self.live <= self.most {
            self.shrink();
        }
    }

    /// Gives back the chunks that have no entry. Their slots go on with higher generations: old ids stay stale.
    #[cold]
    fn shrink(&mut self) {
        let chunks = std::iter::once(&mut self.first).chain(&mut self.others);
        for (c, (slots, about)) in chunks.zip(&mut self.about).enumerate() {
            let next = slots.iter().map(|s| s.generation).max();
            if let Some(next) = next.filter(|n| about.used == 0 && *n < NonZeroU32::MAX) {
                about.first = next;
                *slots = Vec::new();
                if c != self.filling {
                    self.gone.push(c as u32);
                }
            }
        }
        let there: Vec<bool> = self.chunks().map(|c| !c.is_empty()).collect();
        self.free.retain(|ix| there[*ix as usize / Self::CHUNK]);
        self.free.shrink_to_fit();
        self.most = self.live;
    }

    fn existing_mut(&mut self, chunk: usize) -> Option<&mut Vec<Slot<T>>> {
        (chunk <= self.others.len()).then(|| self.chunk_mut(chunk))
    }

    fn two_mut(&mut self, a: usize, b: usize) -> Option<[&mut Vec<Slot<T>>; 2]> {
        match (a.checked_sub(1), b.checked_sub(1)) {
            (Some(a), Some(b)) => self.others.get_disjoint_mut([a, b]).ok(),
            (None, Some(b)) => Some([&mut self.first, self.others.get_mut(b)?]),
            (Some(a), None) => Some([self.others.get_mut(a)?, &mut self.first]),
            (None, None) => None,
        }
    }

    /// Two different entries at once (listener and child).
    pub fn pair_mut(&mut self, a: Id<T>, b: Id<T>) -> Option<(&mut T, &mut T)> {
        let (ca, cb) = (a.ix as usize / Self::CHUNK, b.ix as usize / Self::CHUNK);
        let (sa, sb) = (a.ix as usize % Self::CHUNK, b.ix as usize % Self::CHUNK);
        let (x, y) = if ca == cb {
            let [x, y] = self.existing_mut(ca)?.get_disjoint_mut([sa, sb]).ok()?;
            (x, y)
        } else {
            let [p, q] = self.two_mut(ca, cb)?;
            (p.get_mut(sa)?, q.get_mut(sb)?)
        };
        if x.generation != a.generation || y.generation != b.generation {
            return None;
        }
        Some((x.value.as_mut()?, y.value.as_mut()?))
    }

    /// Entries by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.chunks().enumerate().flat_map(|(c, slots)| {
            slots.iter().enumerate().filter_map(move |(s, slot)| {
                let id = Id { ix: (c * Self::CHUNK + s) as u32, generation: slot.generation, of: PhantomData };
                slot.value.as_ref().map(|v| (id, v))
            })
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        let chunks = std::iter::once(&mut self.first).chain(&mut self.others);
        chunks.enumerate().flat_map(|(c, slots)| {
            slots.iter_mut().enumerate().filter_map(move |(s, slot)| {
                let id = Id { ix: (c * Self::CHUNK + s) as u32, generation: slot.generation, of: PhantomData };
                slot.value.as_mut().map(|v| (id, v))
            })
        })
    }

    /// Whether the next entry needs another chunk.
    #[inline]
    pub fn is_full(&self) -> bool {
        if !self.free.is_empty() {
            return false;
        }
        let filling = match self.filling.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        };
        filling.is_none_or(|c| c.is_empty() || c.len() == Self::CHUNK)
    }

    /// Bytes that chunks and lists really hold.
    pub fn bytes(&self) -> usize {
        self.slots() * size_of::<Slot<T>>() + self.list_bytes()
    }

    /// Of them what lies beside the chunks.
    pub fn list_bytes(&self) -> usize {
        let lists = (self.free.capacity() + self.gone.capacity()) * 4 + self.about.capacity() * size_of::<About>();
        lists + self.others.capacity() * size_of::<Vec<Slot<T>>>()
    }

    /// Chunks that there are.
    pub fn chunks_held(&self) -> usize {
        self.chunks().filter(|c| c.capacity() > 0).count()
    }

    /// Slots that exist, in use or not.
    pub fn slots(&self) -> usize {
        self.chunks().map(Vec::capacity).sum()
    }

    /// Bytes of one slot.
    pub const SLOT: usize = size_of::<Slot<T>>();

    /// Slots of a chunk: 256, more of small ones, so that a chunk is large enough for an allocator to give it back.
    pub const CHUNK: usize =
        if 256 * Self::SLOT >= 128 * 1024 { 256 } else { (128 * 1024 / Self::SLOT).next_power_of_two() };

    /// Pages of a chunk.
    pub const CHUNK_PAGES: u32 = (Self::CHUNK * Self::SLOT).div_ceil(4096) as u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_is_none_and_a_slot_is_reused() {
        let mut s = Slab::default();
        let a = s.insert("a");
        assert_eq!(s.remove(a), Some("a"));
        let b = s.insert("b");
        assert_eq!((s.get(a), s.get(b), a.slot() == b.slot(), s.len()), (None, Some(&"b"), true, 1));
        assert_eq!(Id::from_bits(b.to_bits()), Some(b));
        assert!(!s.free(a) && s.free(b) && !s.free(b) && s.is_empty());
    }

    #[test]
    fn memory_comes_back_and_old_ids_stay_stale() {
        let big = |n: u32| (n, [0_u8; 600]);
        let mut s = Slab::default();
        let ids: Vec<_> = (0..10_000).map(|n| s.insert(big(n))).collect();
        let most = s.bytes();
        let kept: Vec<_> = ids.iter().copied().filter(|id| id.slot() % 1000 == 0).collect();
        for id in ids.iter().filter(|id| id.slot() % 1000 != 0) {
            assert!(s.free(*id));
        }
        assert!(s.bytes() * 3 < most, "{} of {most}", s.bytes());
        assert!(kept.iter().all(|id| s.get(*id) == Some(&big(id.slot()))));
        let again: Vec<_> = (0..10_000).map(|n| s.insert(big(n))).collect();
        assert!(ids.iter().filter(|id| !kept.contains(id)).all(|id| s.get(*id).is_none()));
        let distinct: std::collections::BTreeSet<_> = again.iter().chain(&kept).collect();
        assert_eq!((distinct.len(), s.len(), s.iter().count()), (10_010, 10_010, 10_010));
        for id in distinct {
            assert!(s.free(*id));
        }
        assert!(s.bytes() * 20 < most, "{}", s.bytes());
    }

    #[test]
    fn two_entries_at_once_across_and_within_chunks() {
        let mut s = Slab::default();
        let ids: Vec<_> = (0..600).map(|n| s.insert(n)).collect();
        for (a, b) in [(0, 1), (0, 599), (299, 300)] {
            let (x, y) = s.pair_mut(ids[a], ids[b]).unwrap();
            assert_eq!((*x, *y), (a, b));
        }
        assert!(s.pair_mut(ids[3], ids[3]).is_none());
        assert_eq!(s.iter().count(), 600);
    }
}
