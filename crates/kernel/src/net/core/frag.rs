//! The pieces of one datagram, of either family: what fits, what is there already, what ends it all.
//!
//! The pieces lie in runs, as Linux has them: a piece joins a run only where it goes on with the last one of all. One
//! that lies wholly within a run is there already; any other that touches one is an overlap, and an overlap ends the datagram
//! (RFC 5722 §3, for IPv4 as well since Linux 4.18).
use crate::net::core::skb::Skb;
use std::collections::BTreeMap;

/// What becomes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It belongs here: [`Pieces::add`] it.
    Fits,
    Duplicate,
    Overlap,
    /// No part of this datagram: behind its end, another end, or empty. Nothing more can come of it.
    Corrupt,
}

/// See the module.
#[derive(Clone, Debug, Default)]
#[doc(alias = "inet_frag_queue")]
pub struct Pieces {
    skbs: BTreeMap<u32, Skb>,
    /// Begin and end of each run.
    runs: BTreeMap<u32, u32>,
    /// Where the last piece of all ends.
    tail: u32,
    /// The end of the datagram as far as it is known.
    pub len: u32,
    last_in: bool,
    meat: u32,
    /// Charged for the pieces.
    pub bytes: u64,
    ecn: u8,
}

impl Pieces {
    /// Where the piece from `offset` to `end` goes.
    #[doc(alias = "inet_frag_queue_insert")]
    pub fn place(&mut self, offset: u32, end: u32, more: bool) -> Place {
        if more {
            if end > self.len && self.last_in {
                return Place::Corrupt;
            }
            self.len = self.len.max(end);
        } else {
            if end < self.len || (self.last_in && end != self.len) {
                return Place::Corrupt;
            }
            (self.last_in, self.len) = (true, end);
        }
        if end <= offset { Place::Corrupt } else { self.insert(offset, end) }
    }

    fn insert(&mut self, offset: u32, end: u32) -> Place {
        if self.skbs.is_empty() || self.tail < end {
            match self.runs.last_entry() {
                Some(_) if offset < self.tail => return Place::Overlap,
                Some(mut run) if offset == self.tail => *run.get_mut() = end,
                _ => drop(self.runs.insert(offset, end)),
            }
            self.tail = end;
            return Place::Fits;
        }
        // The last run that begins before this piece ends is the only one that it can touch without being an overlap.
        match self.runs.range(..end).next_back() {
            Some((begin, until)) if *until > offset => {
                if *begin <= offset && end <= *until {
                    Place::Duplicate
                } else {
                    Place::Overlap
                }
            }
            _ => {
                self.runs.insert(offset, end);
                Place::Fits
            }
        }
    }

    /// A piece that [`Pieces::place`] found to fit, with the traffic class of its header. True when it was the last one missing.
    pub fn add(&mut self, offset: u32, end: u32, tos: u8, skb: Skb) -> bool {
        self.meat += end - offset;
        self.bytes += u64::from(skb.truesize);
        self.ecn |= 1 << (tos & 3);
        self.skbs.insert(offset, skb);
        self.last_in && self.meat == self.len && self.skbs.contains_key(&0)
    }

    /// What the pieces' ECN fields come to, to be or'ed to that of the first; none where they are not of one datagram: some
    /// ECN-capable and some not (RFC 3168 §5.3).
    #[doc(alias = "ip_frag_ecn_table")]
    pub fn ecn(&self) -> Option<u8> {
        const NOT_ECT: u8 = 1;
        const CE: u8 = 1 << 3;
        match self.ecn {
            e if e & NOT_ECT != 0 && e != NOT_ECT => None,
            e if e & CE != 0 => Some(3),
            _ => Some(0),
        }
    }

    pub fn first_mut(&mut self) -> Option<&mut Skb> {
        self.skbs.get_mut(&0)
    }

    pub fn len(&self) -> usize {
        self.skbs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.skbs.is_empty()
    }

    pub fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.skbs.values()
    }

    pub fn into_skbs(self) -> impl Iterator<Item = Skb> {
        self.skbs.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(offset, end, more)` of each piece, and what becomes of it.
    fn places(pieces: &[(u32, u32, bool)]) -> Vec<Place> {
        let mut p = Pieces::default();
        let put = |&(offset, end, more)| {
            let place = p.place(offset, end, more);
            if place == Place::Fits {
                p.add(offset, end, 0, Skb::default());
            }
            place
        };
        pieces.iter().map(put).collect()
    }

    #[test]
    fn contained_in_a_run_is_a_duplicate_and_touching_one_an_overlap() {
        use Place::*;
        assert_eq!(
            places(&[(0, 16, true), (16, 32, true), (8, 24, true), (8, 40, true)]),
            [Fits, Fits, Duplicate, Overlap]
        );
        // Two runs, although they meet: the earlier one came later.
        assert_eq!(places(&[(16, 32, true), (0, 16, true), (8, 24, true)]), [Fits, Fits, Overlap]);
        assert_eq!(places(&[(8, 32, false), (8, 16, true), (0, 16, true)]), [Fits, Duplicate, Overlap]);
    }

    #[test]
    fn an_end_that_is_none_spoils_it() {
        use Place::*;
        assert_eq!(places(&[(48, 104, false), (56, 96, false)]), [Fits, Corrupt]);
        assert_eq!(places(&[(48, 88, false), (48, 104, true)]), [Fits, Corrupt]);
        assert_eq!(places(&[(65_504, 65_520, true), (0, 48, true), (48, 104, false)]), [Fits, Fits, Corrupt]);
        assert_eq!(places(&[(0, 48, true), (48, 48, true)]), [Fits, Corrupt]);
    }

    #[test]
    fn ecn_of_all_pieces() {
        let of = |all: &[u8]| {
            let mut p = Pieces::default();
            for (i, tos) in all.iter().enumerate() {
                p.add(i as u32 * 8, i as u32 * 8 + 8, *tos, Skb::default());
            }
            p.ecn()
        };
        assert_eq!(
            [of(&[0, 0]), of(&[1, 2]), of(&[2, 3]), of(&[0, 2]), of(&[3, 0])],
            [Some(0), Some(0), Some(3), None, None]
        );
    }
}
