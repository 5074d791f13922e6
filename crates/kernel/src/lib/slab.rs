//! [`Slab`]: entries with typed generational ids. A stale id is `None`, never somebody else's entry.
//!
//! Chunked: an entry never moves and growing copies nothing, so a million sockets cost no pause. Iteration is by
//! slot number, which is deterministic.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

const CHUNK: usize = 256;

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
    chunks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    live: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), live: 0 }
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
        if let Some(ix) = self.free.pop()
            && let Some(slot) = self.slot_mut(ix)
        {
            slot.value = Some(value);
            return Id { ix, generation: slot.generation, of: PhantomData };
        }
        if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let slots = &mut self.chunks[chunk];
        slots.push(Slot { generation: NonZeroU32::MIN, value: Some(value) });
        Id { ix: (chunk * CHUNK + slots.len() - 1) as u32, generation: NonZeroU32::MIN, of: PhantomData }
    }

    fn slot_mut(&mut self, ix: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(ix as usize / CHUNK)?.get_mut(ix as usize % CHUNK)
    }

    #[inline]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let slot = self.chunks.get(id.ix as usize / CHUNK)?.get(id.ix as usize % CHUNK)?;
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
        let slot = self.chunks.get(ix as usize / CHUNK)?.get(ix as usize % CHUNK)?;
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
        if let Some(slot) = self.slot_mut(ix)
            && let Some(next) = slot.generation.checked_add(1)
        {
            slot.generation = next;
            self.free.push(ix);
        }
    }

    /// Two different entries at once (listener and child).
    pub fn pair_mut(&mut self, a: Id<T>, b: Id<T>) -> Option<(&mut T, &mut T)> {
        let (ca, cb) = (a.ix as usize / CHUNK, b.ix as usize / CHUNK);
        let (sa, sb) = (a.ix as usize % CHUNK, b.ix as usize % CHUNK);
        let (x, y) = if ca == cb {
            let [x, y] = self.chunks.get_mut(ca)?.get_disjoint_mut([sa, sb]).ok()?;
            (x, y)
        } else {
            let [p, q] = self.chunks.get_disjoint_mut([ca, cb]).ok()?;
            (p.get_mut(sa)?, q.get_mut(sb)?)
        };
        if x.generation != a.generation || y.generation != b.generation {
            return None;
        }
        Some((x.value.as_mut()?, y.value.as_mut()?))
    }

    /// Entries by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.chunks.iter().enumerate().flat_map(|(c, slots)| {
            slots.iter().enumerate().filter_map(move |(s, slot)| {
                let id = Id { ix: (c * CHUNK + s) as u32, generation: slot.generation, of: PhantomData };
                slot.value.as_ref().map(|v| (id, v))
            })
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        self.chunks.iter_mut().enumerate().flat_map(|(c, slots)| {
            slots.iter_mut().enumerate().filter_map(move |(s, slot)| {
                let id = Id { ix: (c * CHUNK + s) as u32, generation: slot.generation, of: PhantomData };
                slot.value.as_mut().map(|v| (id, v))
            })
        })
    }

    /// Bytes the chunks and the free list really hold (`slabinfo`, bench).
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot<T>>() + self.free.capacity() * 4 + self.chunks.capacity() * 24
    }
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
