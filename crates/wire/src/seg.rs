//! Shared, reference-counted payload: [`Seg`] is a piece of an immutable buffer, [`Segs`] a list of pieces.
//!
//! A clone for retransmission, a tap or a fragment shares the buffer; bytes are copied at the user boundary only.
//! A buffer whose last piece ends can be taken back ([`Seg::reclaim`]) and used again without going to the allocator.
//!
//! Pieces and cursors are `u32`: a packet is far below 4 GiB and the idle socket stays small.
use std::collections::VecDeque;
use std::collections::vec_deque;
use std::fmt;
use std::sync::Arc;

/// Payload is copied in pieces of this size: for longer ones glibc before 2.39 takes `rep movsb`, which on AMD's Zen is ten
/// times slower when source and destination lie badly to each other's pages (its bug 30994).
const COPY: usize = 2048;

/// Appends `bytes`, as [`Segs::copy_to`] copies.
pub fn extend(buf: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() <= COPY {
        return buf.extend_from_slice(bytes);
    }
    buf.reserve(bytes.len());
    bytes.chunks(COPY).for_each(|c| buf.extend_from_slice(c));
}

/// The buffer behind a [`Seg`]; the pool of a kernel keeps these when they end.
pub type Page = Arc<Vec<u8>>;

/// A piece of a shared buffer.
#[derive(Clone, Default)]
pub struct Seg {
    page: Page,
    off: u32,
    len: u32,
}

impl Seg {
    /// The whole of `page`.
    pub fn new(page: Page) -> Seg {
        let len = page.len() as u32;
        Seg { page, off: 0, len }
    }

    pub fn from_vec(bytes: Vec<u8>) -> Seg {
        Seg::new(Arc::new(bytes))
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        let off = self.off as usize;
        &self.page[off..off + self.len as usize]
    }

    /// `len` bytes from `at` on, shared. Clamped to the piece.
    pub fn slice(&self, at: usize, len: usize) -> Seg {
        let at = at.min(self.len());
        let len = len.min(self.len() - at);
        Seg { page: self.page.clone(), off: self.off + at as u32, len: len as u32 }
    }

    /// Drops `n` bytes from the front.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len()) as u32;
        self.off += n;
        self.len -= n;
    }

    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n as u32);
    }

    /// Appends in place when nobody else holds the buffer, this piece ends where the buffer ends, and the
    /// buffer has room: how small writes share a page (Linux: `sk_page_frag`). Returns the bytes taken.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let end = (self.off + self.len) as usize;
        let Some(buf) = Arc::get_mut(&mut self.page) else { return 0 };
        if buf.len() != end {
            return 0;
        }
        let n = bytes.len().min(buf.capacity() - buf.len());
        extend(buf, &bytes[..n]);
        self.len += n as u32;
        n
    }

    /// True when `next` continues this piece in the same buffer, so that both can be one.
    pub fn joins(&self, next: &Seg) -> bool {
        Arc::ptr_eq(&self.page, &next.page) && self.off + self.len == next.off
    }

    /// The buffer, when this was its last piece.
    pub fn reclaim(mut self) -> Option<Page> {
        Arc::get_mut(&mut self.page).is_some().then_some(self.page)
    }

    /// Bytes the buffer really holds, for the books of real memory.
    pub fn capacity(&self) -> usize {
        self.page.capacity()
    }
}

impl fmt::Debug for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seg({} bytes)", self.len)
    }
}

impl PartialEq for Seg {
    fn eq(&self, other: &Seg) -> bool {
        self.as_slice() == other.as_slice()
    }
}
impl Eq for Seg {}

impl From<&[u8]> for Seg {
    fn from(bytes: &[u8]) -> Seg {
        Seg::from_vec(bytes.to_vec())
    }
}

#[derive(Clone, Default)]
enum List {
    #[default]
    Empty,
    One(Seg),
    // Boxed, so that the common empty and single lists stay small.
    #[allow(clippy::box_collection)]
    Many(Box<VecDeque<Seg>>),
}

/// A list of pieces with its length in bytes. No allocation until there are two.
#[derive(Clone, Default)]
pub struct Segs {
    list: List,
    len: u32,
}

impl Segs {
    pub const fn new() -> Segs {
        Segs { list: List::Empty, len: 0 }
    }

    /// Lets go of everything.
    #[inline]
    pub fn clear(&mut self) {
        if !matches!(self.list, List::Empty) {
            *self = Segs::new();
        }
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of pieces (Linux: `nr_frags`).
    pub fn pieces(&self) -> usize {
        match &self.list {
            List::Empty => 0,
            List::One(_) => 1,
            List::Many(v) => v.len(),
        }
    }

    pub fn push(&mut self, seg: Seg) {
        if seg.is_empty() {
            return;
        }
        self.len += seg.len;
        match &mut self.list {
            List::Empty => self.list = List::One(seg),
            List::One(last) if last.joins(&seg) => last.len += seg.len,
            List::Many(v) => match v.back_mut() {
                Some(last) if last.joins(&seg) => last.len += seg.len,
                _ => v.push_back(seg),
            },
            List::One(_) => {
                let List::One(first) = std::mem::take(&mut self.list) else { return };
                self.list = List::Many(Box::new(VecDeque::from([first, seg])));
            }
        }
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: Segs) {
        if self.is_empty() {
            *self = other;
        } else {
            other.into_iter().for_each(|s| self.push(s));
        }
    }

    /// Copies `bytes` into room at the end of the last piece; returns how many fitted. See [`Seg::append`].
    pub fn append_in_place(&mut self, bytes: &[u8]) -> usize {
        let n = match &mut self.list {
            List::Empty => 0,
            List::One(s) => s.append(bytes),
            List::Many(v) => v.back_mut().map_or(0, |s| s.append(bytes)),
        };
        self.len += n as u32;
        n
    }

    pub fn pop_front(&mut self) -> Option<Seg> {
        let seg = match &mut self.list {
            List::Empty => return None,
            List::One(_) => match std::mem::take(&mut self.list) {
                List::One(s) => s,
                _ => return None,
            },
            List::Many(v) => v.pop_front()?,
        };
        self.len -= seg.len;
        Some(seg)
    }

    /// Removes the first `n` bytes and returns them, sharing the buffers.
    pub fn split_to(&mut self, n: usize) -> Segs {
        if n >= self.len() {
            return std::mem::take(self);
        }
        let mut head = Segs::new();
        let mut left = n;
        while left > 0 {
            let Some(seg) = self.pop_front() else { break };
            if seg.len() <= left {
                left -= seg.len();
                head.push(seg);
            } else {
                head.push(seg.slice(0, left));
                self.push_front(seg.slice(left, seg.len() - left));
                left = 0;
            }
        }
        head
    }

    /// Drops the first `n` bytes.
    pub fn advance(&mut self, n: usize) {
        if let List::One(s) = &mut self.list
            && n < s.len()
        {
            s.advance(n);
            self.len -= n as u32;
            return;
        }
        drop(self.split_to(n));
    }

    /// Keeps only the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len() {
            let keep = self.split_to(n);
            *self = keep;
        }
    }

    fn push_front(&mut self, seg: Seg) {
        self.len += seg.len;
        match &mut self.list {
            List::Empty => self.list = List::One(seg),
            List::Many(v) => v.push_front(seg),
            List::One(_) => {
                let List::One(only) = std::mem::take(&mut self.list) else { return };
                self.list = List::Many(Box::new(VecDeque::from([seg, only])));
            }
        }
    }

    /// `len` bytes from `at` on, shared.
    pub fn slice(&self, at: usize, len: usize) -> Segs {
        let (mut skip, mut left, mut out) = (at, len, Segs::new());
        for seg in self.iter() {
            if left == 0 {
                break;
            }
            if skip >= seg.len() {
                skip -= seg.len();
                continue;
            }
            let part = seg.slice(skip, left);
            skip = 0;
            left -= part.len();
            out.push(part);
        }
        out
    }

    pub fn iter(&self) -> Iter<'_> {
        match &self.list {
            List::Empty => Iter { one: None, many: None },
            List::One(s) => Iter { one: Some(s), many: None },
            List::Many(v) => Iter { one: None, many: Some(v.iter()) },
        }
    }

    /// Copies into `to` from byte `at` on; returns the bytes copied.
    pub fn copy_to(&self, at: usize, to: &mut [u8]) -> usize {
        if let (List::One(s), 0) = (&self.list, at)
            && let (Some(to), true) = (to.get_mut(..s.len()), s.len() <= COPY)
        {
            to.copy_from_slice(s.as_slice());
            return s.len();
        }
        let (mut skip, mut done) = (at, 0);
        for seg in self.iter() {
            if done == to.len() {
                break;
            }
            let s = seg.as_slice();
            if skip >= s.len() {
                skip -= s.len();
                continue;
            }
            let n = (s.len() - skip).min(to.len() - done);
            let (to, from) = (&mut to[done..done + n], &s[skip..skip + n]);
            for (to, from) in to.chunks_mut(COPY).zip(from.chunks(COPY)) {
                to.copy_from_slice(from);
            }
            done += n;
            skip = 0;
        }
        done
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(self.len());
        self.iter().for_each(|s| v.extend_from_slice(s.as_slice()));
        v
    }
}

/// Pieces in order.
#[derive(Debug)]
pub struct Iter<'a> {
    one: Option<&'a Seg>,
    many: Option<vec_deque::Iter<'a, Seg>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Seg;
    fn next(&mut self) -> Option<&'a Seg> {
        self.one.take().or_else(|| self.many.as_mut()?.next())
    }
}

impl<'a> IntoIterator for &'a Segs {
    type Item = &'a Seg;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Iterator for Segs {
    type Item = Seg;
    fn next(&mut self) -> Option<Seg> {
        self.pop_front()
    }
}

impl fmt::Debug for Segs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segs({} bytes in {})", self.len, self.pieces())
    }
}

impl PartialEq for Segs {
    fn eq(&self, other: &Segs) -> bool {
        self.len == other.len && self.iter().flat_map(Seg::as_slice).eq(other.iter().flat_map(Seg::as_slice))
    }
}
impl Eq for Segs {}

impl From<Seg> for Segs {
    fn from(seg: Seg) -> Segs {
        let len = seg.len;
        Segs { list: if len == 0 { List::Empty } else { List::One(seg) }, len }
    }
}

impl From<Vec<u8>> for Segs {
    fn from(bytes: Vec<u8>) -> Segs {
        Seg::from_vec(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Segs {
        let mut s = Segs::new();
        for part in [&b"abc"[..], b"defgh", b"ij"] {
            s.push(Seg::from(part));
        }
        s
    }

    #[test]
    fn split_and_slice_share_bytes_in_order() {
        let mut s = three();
        assert_eq!((s.len(), s.pieces()), (10, 3));
        assert_eq!(s.slice(2, 4).to_vec(), b"cdef");
        assert_eq!(s.split_to(4).to_vec(), b"abcd");
        s.advance(3);
        assert_eq!(s.to_vec(), b"hij");
        s.truncate(1);
        assert_eq!(s.to_vec(), b"h");
        assert_eq!(s.split_to(9).to_vec(), b"h");
        assert!(s.is_empty() && s.pieces() == 0);
    }

    #[test]
    fn pieces_of_one_buffer_join_again() {
        let whole = Seg::from(&b"0123456789"[..]);
        let mut s = Segs::from(whole.slice(0, 4));
        s.push(whole.slice(4, 6));
        assert_eq!(s.pieces(), 1);
    }

    #[test]
    fn append_in_place_needs_the_only_reference_and_room() {
        let mut v = Vec::with_capacity(8);
        v.extend_from_slice(b"ab");
        let mut s = Segs::from(v);
        assert_eq!(s.append_in_place(b"cdefghij"), 6);
        assert_eq!(s.to_vec(), b"abcdefgh");
        let held = s.clone();
        assert_eq!(s.append_in_place(b"x"), 0);
        assert_eq!(held, s);
    }

    #[test]
    fn copy_to_crosses_pieces() {
        let mut b = [0; 5];
        assert_eq!(three().copy_to(2, &mut b), 5);
        assert_eq!(&b, b"cdefg");
        assert_eq!(three().copy_to(8, &mut b), 2);
    }
}
