//! The descriptor table of a process: lowest free number, RLIMIT_NOFILE, close-on-exec.
//!
//! Two levels of bits say what is taken, so a process with a million descriptors finds the lowest free one in a few steps.
use crate::ids::FileId;
use crate::task::call::Fd;

#[derive(Clone, Debug, Default)]
pub struct FdTable {
    slots: Vec<Option<(FileId, bool)>>,
    /// One bit per number that is taken.
    open: Vec<u64>,
    /// One bit per full word of `open`.
    full: Vec<u64>,
    len: usize,
}

/// A table of so many numbers is never made smaller.
const KEEP: usize = 1024;

fn set(bits: &mut Vec<u64>, ix: usize) -> u64 {
    let word = ix / 64;
    if word >= bits.len() {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (ix % 64);
    bits[word]
}

fn clear(bits: &mut [u64], ix: usize) {
    if let Some(w) = bits.get_mut(ix / 64) {
        *w &= !(1 << (ix % 64));
    }
}

/// The first zero at or after `from`; bits beyond the end are zero.
fn first_zero(bits: &[u64], from: usize) -> usize {
    let mut word = from / 64;
    let mut mask = !0u64 << (from % 64);
    while let Some(w) = bits.get(word) {
        let free = !w & mask;
        if free != 0 {
            return word * 64 + free.trailing_zeros() as usize;
        }
        (word, mask) = (word + 1, !0);
    }
    (word * 64).max(from)
}

impl FdTable {
    /// The file and its close-on-exec flag.
    #[inline]
    pub fn get(&self, fd: Fd) -> Option<(FileId, bool)> {
        *self.slots.get(fd as usize)?
    }

    /// Descriptors in use.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number, file, close-on-exec, in order of the number.
    pub fn iter(&self) -> impl Iterator<Item = (Fd, FileId, bool)> + '_ {
        self.slots.iter().enumerate().filter_map(|(n, s)| s.map(|(file, cloexec)| (n as Fd, file, cloexec)))
    }

    /// The lowest free number from `min` on.
    pub fn lowest_free(&self, min: Fd) -> Fd {
        let min = min as usize;
        let here = first_zero(self.open.get(..=min / 64).unwrap_or(&self.open), min);
        if here / 64 == min / 64 {
            return here as Fd;
        }
        first_zero(&self.open, first_zero(&self.full, min / 64 + 1) * 64) as Fd
    }

    /// Takes the lowest free number from `min` on; `None` when it would reach `limit`.
    #[doc(alias = "alloc_fd")]
    pub(crate) fn alloc(&mut self, min: Fd, limit: u32, file: FileId, cloexec: bool) -> Option<Fd> {
        let fd = self.lowest_free(min);
        if fd >= limit {
            return None;
        }
        self.put(fd, file, cloexec);
        Some(fd)
    }

    /// Sets a number that is free. The caller has checked it against the limit.
    pub(crate) fn put(&mut self, fd: Fd, file: FileId, cloexec: bool) {
        let ix = fd as usize;
        if ix >= self.slots.len() {
            self.slots.resize(ix + 1, None);
        }
        self.slots[ix] = Some((file, cloexec));
        self.len += 1;
        if set(&mut self.open, ix) == !0 {
            set(&mut self.full, ix / 64);
        }
    }

    /// Frees a number and returns its file.
    pub(crate) fn take(&mut self, fd: Fd) -> Option<FileId> {
        let (file, _) = self.slots.get_mut(fd as usize)?.take()?;
        self.len -= 1;
        clear(&mut self.open, fd as usize);
        clear(&mut self.full, fd as usize / 64);
        if self.slots.len() > KEEP && self.len < self.slots.len() / 4 {
            self.shrink();
        }
        Some(file)
    }

    /// Numbers above the highest in use take no memory; a table whose highest is in use costs one look.
    #[cold]
    fn shrink(&mut self) {
        let used = self.slots.iter().rposition(Option::is_some).map_or(0, |n| n + 1).max(KEEP);
        self.slots.truncate(used);
        if self.slots.capacity() >= 2 * used {
            self.slots.shrink_to_fit();
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<(FileId, bool)>>() + (self.open.capacity() + self.full.capacity()) * 8
    }

    pub(crate) fn set_cloexec(&mut self, fd: Fd, on: bool) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(fd as usize) else { return false };
        slot.1 = on;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_always_taken() {
        let file = FileId::from_bits(1 << 32).unwrap();
        let mut t = FdTable::default();
        for want in 0..10_000 {
            assert_eq!(t.alloc(0, 20_000, file, false), Some(want));
        }
        for fd in [9_000, 70, 69, 64, 63, 4095, 4096] {
            assert_eq!(t.take(fd), Some(file));
        }
        for want in [63, 64, 69, 70, 4095, 4096, 9_000, 10_000] {
            assert_eq!(t.alloc(0, 20_000, file, false), Some(want));
        }
        assert_eq!(t.alloc(0, 10_001, file, false), None);
        assert_eq!(t.alloc(15_000, 20_000, file, true), Some(15_000));
        assert_eq!(t.alloc(9_999, 20_000, file, true), Some(10_001));
        assert_eq!((t.len(), t.get(15_000), t.get(15_001)), (10_003, Some((file, true)), None));
        assert_eq!(t.take(15_001), None);
    }
}
