//! Memory that is used again: pages for payload, packet buffers, and the books about both.
pub mod cache;
pub mod ledger;
pub mod pages;

pub use cache::Kind;
pub use ledger::Memory;
pub use pages::Gfp;

use crate::kernel::Kernel;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::task::call::{Received, Ret};
use belljar_wire::seg::Page;
use belljar_wire::{Seg, Segs};
use std::sync::Arc;

/// Page sizes kept for reuse: small writes, a few segments, a super-segment.
const CLASSES: [usize; 4] = [2048, 16_384, 65_536, 262_144];
/// Pages of one class kept at most.
const KEEP_PAGES: usize = 64;
const KEEP_SKBS: usize = 1024;
const KEEP_RECEIVED: usize = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct Pool {
    pages: [Vec<Page>; CLASSES.len()],
    skbs: Vec<Skb>,
    // Boxed, because that is how they go out.
    #[allow(clippy::vec_box)]
    received: Vec<Box<Received>>,
    /// Packets born and ended: `check()` compares the difference with what all queues hold.
    pub skbs_born: u64,
    pub skbs_ended: u64,
    drops: Vec<u64>,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            pages: std::array::from_fn(|_| Vec::new()),
            skbs: Vec::new(),
            received: Vec::new(),
            skbs_born: 0,
            skbs_ended: 0,
            drops: vec![0; DropReason::ALL.len()],
        }
    }
}

impl Pool {
    /// Copies `bytes` into a pooled page of at least `room` bytes: the one copy at the user boundary.
    pub fn copy_in(&mut self, bytes: &[u8], room: usize) -> Seg {
        let mut page = self.kept(bytes.len().max(room));
        match Arc::get_mut(&mut page) {
            Some(buf) => {
                buf.clear();
                belljar_wire::seg::extend(buf, bytes);
                Seg::new(page)
            }
            None => Seg::from_vec(bytes.to_vec()),
        }
    }

    /// An empty page with room for `want` bytes, held by nobody else.
    pub fn page(&mut self, want: usize) -> Page {
        let mut page = self.kept(want);
        if let Some(buf) = Arc::get_mut(&mut page) {
            buf.clear();
        }
        page
    }

    /// A page of the right class with what was in it before, or a new one.
    fn kept(&mut self, want: usize) -> Page {
        let Some(class) = CLASSES.iter().position(|&c| c >= want) else {
            return Arc::new(Vec::with_capacity(want));
        };
        self.pages[class].pop().unwrap_or_else(|| Arc::new(Vec::with_capacity(CLASSES[class])))
    }

    /// Takes payload that nobody needs any more; its pages are used again when this was their last piece.
    pub fn give(&mut self, segs: Segs) {
        for seg in segs {
            self.give_seg(seg);
        }
    }

    pub fn give_seg(&mut self, seg: Seg) {
        if let Some(class) = CLASSES.iter().position(|&c| c == seg.capacity())
            && self.pages[class].len() < KEEP_PAGES
            && let Some(page) = seg.reclaim()
        {
            self.pages[class].push(page);
        }
    }

    pub(crate) fn take_skb(&mut self) -> Skb {
        self.skbs_born += 1;
        self.skbs.pop().unwrap_or_default()
    }

    pub(crate) fn give_skb(&mut self, mut skb: Skb) {
        self.skbs_ended += 1;
        while let Some(seg) = skb.frags.pop_front() {
            self.give_seg(seg);
        }
        if self.skbs.len() < KEEP_SKBS {
            skb.reset();
            self.skbs.push(skb);
        }
    }

    /// Room for what a receive returns.
    pub(crate) fn take_received(&mut self) -> Box<Received> {
        self.received.pop().unwrap_or_default()
    }

    pub(crate) fn dropped(&mut self, reason: DropReason) {
        #[cfg(feature = "coverage")]
        belljar_coverage::REASONS.note(reason as usize, || reason.name().to_owned());
        if let Some(n) = self.drops.get_mut(reason as usize) {
            *n += 1;
        }
    }

    /// How often each reason ended a packet, reasons that did.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.drops[r as usize])).filter(|&(_, n)| n > 0)
    }

    /// Packet buffers, and pages of each class, that wait to be used again.
    pub(crate) fn kept_skbs(&self) -> usize {
        self.skbs.len()
    }

    pub(crate) fn kept_pages(&self) -> [usize; CLASSES.len()] {
        std::array::from_fn(|n| self.pages[n].len())
    }

    /// Gives back what is only kept (`shrink_slab`).
    pub(crate) fn shrink(&mut self) {
        self.pages = Default::default();
        (self.skbs, self.received) = (Vec::new(), Vec::new());
    }
}

impl Kernel {
    /// Takes back what a call returned, when the driver has copied its bytes to where they belong: pages and boxes are used
    /// again. Who does not give back pays the allocator for each receive, nothing else.
    pub fn give_back(&mut self, ret: Ret) {
        let pool = &mut self.net.pool;
        match ret {
            Ret::Stream(segs) => pool.give(segs),
            Ret::Data(mut r) => {
                pool.give(std::mem::take(&mut r.segs));
                if pool.received.len() < KEEP_RECEIVED {
                    (r.from, r.flags, r.full_len) = (None, 0, 0);
                    r.cmsgs.clear();
                    pool.received.push(r);
                }
            }
            _ => {}
        }
    }
}
