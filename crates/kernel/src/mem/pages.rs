//! The pages of a machine: a buddy allocator in zones, with watermarks as limits (`/proc/buddyinfo`, `mem=`).
//!
//! Pages are numbers here, nothing lies behind them: what holds memory takes as many as it holds. A block of order n is
//! 2^n pages, halved when a smaller one is wanted, joined with its buddy when both are free. Per-CPU lists and migrate
//! types are left out.
use std::collections::BTreeSet;
use std::ops::Range;

pub const PAGE_SIZE: usize = 4096;
/// Orders that there are: blocks of a page to blocks of 4 MiB.
pub const NR_PAGE_ORDERS: usize = 11;
const MAX_ORDER: u8 = NR_PAGE_ORDERS as u8 - 1;
const MAX_BLOCK: u32 = 1 << MAX_ORDER;
/// Below this a machine does not boot, above it page numbers end.
pub const LEAST: u64 = 16 << 20;
pub const MOST: u64 = 4 << 40;
/// Where DMA and DMA32 end.
const BORDERS: [u32; 2] = [(16 << 20) / PAGE_SIZE as u32, ((4_u64 << 30) / PAGE_SIZE as u64) as u32];
/// What lies below the first MiB is the firmware's.
const FIRST: u32 = 256;
/// `vm.lowmem_reserve_ratio` of the zones below Normal.
const RESERVE_RATIO: u32 = 256;
/// `vm.watermark_scale_factor`: ten thousandths of a zone between its watermarks.
const WATERMARK_SCALE: u64 = 10;

/// How much an allocation may dig into what is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gfp {
    /// For a call.
    Kernel,
    /// For a packet that cannot wait.
    Atomic,
    /// It is held already: only the end of memory says no.
    Held,
}

/// Pages in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub pfn: u32,
    pub order: u8,
}

/// Memory of one kind, from one address to another.
#[derive(Clone, Debug)]
pub struct Zone {
    pub name: &'static str,
    pub span: Range<u32>,
    pub managed: u32,
    /// `min`, `low`, `high`, `promo`.
    pub marks: [u32; 4],
    /// Kept for those who can use no other zone (`lowmem_reserve`).
    pub reserve: u32,
    pub free_pages: u32,
    /// First pages of free blocks by order.
    free: [BTreeSet<u32>; NR_PAGE_ORDERS],
    /// From here on nothing was ever taken: free blocks of the highest order, not listed.
    fresh: u32,
}

impl Zone {
    fn new(name: &'static str, span: Range<u32>) -> Zone {
        let usable = span.start.max(FIRST)..span.end;
        let managed = usable.end.saturating_sub(usable.start);
        let fresh = usable.start.next_multiple_of(MAX_BLOCK).min(usable.end);
        let free = std::array::from_fn(|_| BTreeSet::new());
        let (marks, reserve) = ([0; 4], 0);
        let mut z = Zone { name, span, managed, marks, reserve, free_pages: managed, free, fresh };
        // The ends that fill no block of the highest order.
        let end = z.end_of_fresh();
        for rest in [usable.start..fresh, end..usable.end] {
            for b in pieces(rest) {
                z.free[usize::from(b.order)].insert(b.pfn);
            }
        }
        z
    }

    fn end_of_fresh(&self) -> u32 {
        (self.span.end / MAX_BLOCK * MAX_BLOCK).max(self.fresh)
    }

    /// Free blocks of each order.
    pub fn nr_free(&self) -> [usize; NR_PAGE_ORDERS] {
        let mut n = std::array::from_fn(|order| self.free[order].len());
        n[NR_PAGE_ORDERS - 1] += ((self.end_of_fresh() - self.fresh) / MAX_BLOCK) as usize;
        n
    }

    /// The smallest block that is large enough, what is too much of it given back by halves.
    #[doc(alias = "__rmqueue_smallest")]
    fn take(&mut self, order: u8) -> Option<u32> {
        let found = (order..=MAX_ORDER).find_map(|o| self.free[usize::from(o)].pop_first().map(|pfn| (pfn, o)));
        let (pfn, mut at) = match found {
            Some(found) => found,
            None if self.fresh < self.end_of_fresh() => {
                self.fresh += MAX_BLOCK;
                (self.fresh - MAX_BLOCK, MAX_ORDER)
            }
            None => return None,
        };
        while at > order {
            at -= 1;
            self.free[usize::from(at)].insert(pfn + (1 << at));
        }
        self.free_pages -= 1 << order;
        Some(pfn)
    }

    /// Joins with the buddy, and that with its own, as long as they are free.
    #[doc(alias = "__free_one_page")]
    fn give(&mut self, block: Block) {
        let Block { mut pfn, mut order } = block;
        self.free_pages += 1 << order;
        while order < MAX_ORDER && self.free[usize::from(order)].remove(&(pfn ^ (1 << order))) {
            pfn &= !(1 << order);
            order += 1;
        }
        let list = &mut self.free[usize::from(order)];
        list.insert(pfn);
        while order == MAX_ORDER && self.fresh >= MAX_BLOCK && list.remove(&(self.fresh - MAX_BLOCK)) {
            self.fresh -= MAX_BLOCK;
        }
    }

    /// Whether so much may go (`zone_watermark_ok`).
    fn allows(&self, order: u8, mark: u32) -> bool {
        self.free_pages >= (1 << order) + mark
    }
}

/// The whole blocks that a run of pages is made of.
fn pieces(run: Range<u32>) -> impl Iterator<Item = Block> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        let left = run.end.saturating_sub(at).checked_ilog2()?;
        let order = at.trailing_zeros().min(left).min(u32::from(MAX_ORDER)) as u8;
        at += 1 << order;
        Some(Block { pfn: at - (1 << order), order })
    })
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pages {
    /// From the lowest.
    pub zones: Vec<Zone>,
}

impl Pages {
    /// The pages of a machine with so much memory.
    pub fn new(bytes: u64) -> Pages {
        let end = (bytes.clamp(LEAST, MOST) / PAGE_SIZE as u64).min(u64::from(u32::MAX - MAX_BLOCK)) as u32;
        let [dma, dma32] = BORDERS;
        let spans = [("DMA", 0..dma.min(end)), ("DMA32", dma..dma32.min(end)), ("Normal", dma32..end)];
        let spans = spans.into_iter().filter(|(_, s)| !s.is_empty());
        let mut p = Pages { zones: spans.map(|(name, span)| Zone::new(name, span)).collect() };
        p.setup_watermarks();
        p
    }

    #[doc(alias = "setup_per_zone_wmarks")]
    fn setup_watermarks(&mut self) {
        let managed = self.managed();
        let kb = managed * (PAGE_SIZE as u64 / 1024);
        let min_free = (kb * 16).isqrt().clamp(128, 262_144) * 1024 / PAGE_SIZE as u64;
        let mut above = 0;
        for z in self.zones.iter_mut().rev() {
            let min = min_free * u64::from(z.managed) / managed.max(1);
            let gap = (min / 4).max(u64::from(z.managed) * WATERMARK_SCALE / 10_000);
            z.marks = std::array::from_fn(|n| (min + n as u64 * gap) as u32);
            z.reserve = above / RESERVE_RATIO;
            above += z.managed;
        }
    }

    pub fn managed(&self) -> u64 {
        self.zones.iter().map(|z| u64::from(z.managed)).sum()
    }

    pub fn free_pages(&self) -> u64 {
        self.zones.iter().map(|z| u64::from(z.free_pages)).sum()
    }

    /// What the sizes of buffers and tables are measured by.
    #[doc(alias = "nr_free_buffer_pages")]
    pub fn buffer_pages(&self) -> u64 {
        self.zones.iter().map(|z| u64::from(z.managed.saturating_sub(z.marks[2]))).sum()
    }

    /// Every zone is below its low watermark: what can be given back should be.
    pub fn is_low(&self) -> bool {
        self.zones.iter().all(|z| z.free_pages < z.marks[1] + z.reserve)
    }

    /// A block from the highest zone that has one to spare.
    #[doc(alias = "get_page_from_freelist")]
    pub fn alloc(&mut self, order: u8, gfp: Gfp) -> Option<Block> {
        let above_low = |z: &Zone| z.marks[1] + z.reserve;
        let above_min = |z: &Zone| match gfp {
            Gfp::Kernel => z.marks[0] + z.reserve,
            // Half of it, and of that a quarter less.
            Gfp::Atomic => (z.marks[0] / 2).div_ceil(4) * 3 + z.reserve,
            Gfp::Held => 0,
        };
        self.first_with(order, above_low).or_else(|| self.first_with(order, above_min))
    }

    fn first_with(&mut self, order: u8, mark: impl Fn(&Zone) -> u32) -> Option<Block> {
        let mut zones = self.zones.iter_mut().rev();
        let pfn = zones.find_map(|z| if z.allows(order, mark(z)) { z.take(order) } else { None })?;
        Some(Block { pfn, order })
    }

    pub fn free(&mut self, block: Block) {
        if let Some(z) = self.zones.iter_mut().find(|z| z.span.contains(&block.pfn)) {
            z.give(block);
        }
    }

    /// So many pages in blocks as large as can be had, onto `to`; none at all when there are not so many.
    #[doc(alias = "alloc_pages_bulk")]
    pub fn alloc_run(&mut self, pages: u32, gfp: Gfp, to: &mut Vec<Block>) -> bool {
        let (had, mut left, mut most) = (to.len(), pages, MAX_ORDER);
        while let Some(want) = left.checked_ilog2() {
            let order = most.min(want as u8);
            match self.alloc(order, gfp) {
                Some(b) => {
                    left -= 1 << order;
                    to.push(b);
                }
                // In pieces: no block of the size is left.
                None if order > 0 => most = order - 1,
                None => {
                    to.drain(had..).for_each(|b| self.free(b));
                    return false;
                }
            }
        }
        true
    }

    /// What must hold: no free block lies in another or beside a free buddy, and all that is free is listed.
    pub fn check(&self) -> Result<(), String> {
        for z in &self.zones {
            let listed: u64 = z.nr_free().iter().enumerate().map(|(o, n)| (*n as u64) << o).sum();
            if listed != u64::from(z.free_pages) {
                return Err(format!("{}: {} free, {listed} listed", z.name, z.free_pages));
            }
            let mut all: Vec<Block> = Vec::new();
            for (order, list) in z.free.iter().enumerate() {
                all.extend(list.iter().map(|pfn| Block { pfn: *pfn, order: order as u8 }));
            }
            all.sort_by_key(|b| b.pfn);
            for two in all.windows(2) {
                let [a, b] = two else { continue };
                let buddies = a.order == b.order && a.order < MAX_ORDER && a.pfn ^ (1 << a.order) == b.pfn;
                if a.pfn + (1 << a.order) > b.pfn || buddies {
                    return Err(format!("{}: {a:?} beside {b:?}", z.name));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(p: &Pages, zone: &str) -> [usize; NR_PAGE_ORDERS] {
        p.zones.iter().find(|z| z.name == zone).unwrap().nr_free()
    }

    #[test]
    fn zones_are_laid_out_as_linux_has_them() {
        let p = Pages::new(24 << 30);
        // Measured on 6.18: DMA without the first MiB.
        assert_eq!(counts(&p, "DMA"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3]);
        assert_eq!(p.zones.iter().map(|z| z.managed).collect::<Vec<_>>(), [3840, 1_044_480, 5_242_880]);
        let small = Pages::new(16 << 20);
        assert_eq!(small.zones.len(), 1);
        // No reserve above, a watermark of 512 KiB scaled by what there is.
        assert_eq!((small.managed(), small.zones[0].marks, small.zones[0].reserve), (3840, [123, 153, 183, 213], 0));
        let odd = Pages::new((100 << 20) + 12_345);
        assert_eq!((odd.managed(), odd.free_pages()), (25_600 + 3 - 256, 25_600 + 3 - 256));
        odd.check().unwrap();
    }

    #[test]
    fn a_block_is_halved_and_joined_again() {
        let mut p = Pages::new(16 << 20);
        let whole = counts(&p, "DMA");
        let a = p.alloc(0, Gfp::Kernel).unwrap();
        assert_eq!((a.pfn, counts(&p, "DMA")), (256, [1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 3]));
        let b = p.alloc(0, Gfp::Kernel).unwrap();
        assert_eq!((b.pfn, counts(&p, "DMA")[0]), (257, 0));
        p.free(a);
        assert_eq!(counts(&p, "DMA")[..2], [1, 1]);
        p.free(b);
        assert_eq!(counts(&p, "DMA"), whole);
        p.check().unwrap();
    }

    #[test]
    fn watermarks_are_limits_by_who_asks() {
        let mut p = Pages::new(16 << 20);
        let mut held = Vec::new();
        for (gfp, left) in [(Gfp::Kernel, 123), (Gfp::Atomic, 48), (Gfp::Held, 0)] {
            while let Some(b) = p.alloc(0, gfp) {
                held.push(b);
            }
            assert_eq!(p.free_pages(), left, "{gfp:?}");
            assert!(p.is_low());
        }
        held.drain(..).for_each(|b| p.free(b));
        assert!(!p.is_low());
        assert_eq!(counts(&p, "DMA"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 3]);
    }

    #[test]
    fn a_run_is_had_in_pieces_or_not_at_all() {
        let mut p = Pages::new(16 << 20);
        let mut singles = Vec::new();
        while let Some(b) = p.alloc(0, Gfp::Held) {
            singles.push(b);
        }
        // Every other page is free: no two together.
        singles.iter().filter(|b| b.pfn % 2 == 0).for_each(|b| p.free(*b));
        let mut run = Vec::new();
        assert!(p.alloc_run(100, Gfp::Kernel, &mut run));
        assert!(run.len() == 100 && run.iter().all(|b| b.order == 0));
        let free = p.free_pages();
        assert!(!p.alloc_run(4000, Gfp::Kernel, &mut run));
        assert_eq!((p.free_pages(), run.iter().map(|b| 1 << b.order).sum::<u32>()), (free, 100));
        p.check().unwrap();
    }

    #[test]
    fn random_comings_and_goings_leave_it_whole() {
        let mut p = Pages::new(64 << 20);
        let before: Vec<_> = p.zones.iter().map(Zone::nr_free).collect();
        let (mut rng, mut held) = (crate::env::Rng::new(7), Vec::new());
        for _ in 0..20_000 {
            let n = rng.next_u32();
            if n % 5 < 3 {
                held.extend(p.alloc((n >> 8) as u8 % 11, Gfp::Kernel));
            } else if !held.is_empty() {
                let gone = held.swap_remove((n >> 8) as usize % held.len());
                p.free(gone);
            }
            if n % 64 == 0 {
                p.check().unwrap();
            }
        }
        held.drain(..).for_each(|b| p.free(b));
        assert_eq!(p.zones.iter().map(Zone::nr_free).collect::<Vec<_>>(), before);
    }
}
