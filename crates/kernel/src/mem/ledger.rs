//! Who holds which pages ([`Memory`]): what a cache takes when it grows by a slab, packets' memory in larger steps, and
//! what happens when there is none.
//!
//! Objects and packets themselves never come here. A cache asks when its next object needs another slab; what goes away is
//! noticed at the end of a step in which something grew or while memory is low, and when somebody looks.
use super::cache::{Cache, Kind, SKB_BYTES};
use super::pages::{Block, Gfp, LEAST, MOST, PAGE_SIZE, Pages};
use crate::env::Jiffies;
use crate::kernel::Kernel;
use crate::lib::slab::Slab;
use crate::net::Net;
use crate::net::sysctl::Sysctl;

/// The memory of a machine that was told nothing: `tcp_mem` and its like are what Linux measured has.
pub const DEFAULT: u64 = 24_637_748 << 10;
/// Pages by which the packets' share grows and shrinks.
pub const STEP: u32 = 32;
const STEP_BYTES: u64 = STEP as u64 * PAGE_SIZE as u64;
/// What the packets' share may be too large by before it is looked at.
const SLACK: u64 = 4 * STEP_BYTES;

/// A size as `mem=` takes it: a number with K, M, G or T, between what boots and what has page numbers. `Err` says why not.
#[doc(alias = "memparse")]
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, unit)) if "kKmMgGtT".contains(unit) => {
            (&text[..at], 10 * (1 + "kmgt".find(unit.to_ascii_lowercase()).unwrap_or(0)))
        }
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    let fits = bytes.filter(|b| (LEAST..=MOST).contains(b));
    fits.ok_or_else(|| format!("{text:?} is no size of memory: 16M to 4T, as in 512M"))
}

/// A slab's pages lie behind one another, the first marked.
#[derive(Clone, Debug, Default)]
struct Held {
    blocks: Vec<Block>,
    /// Blocks of each slab.
    slabs: Vec<u16>,
}

impl Held {
    fn take(&mut self, pages: &mut Pages, each: u32, gfp: Gfp) -> bool {
        let before = self.blocks.len();
        if !pages.alloc_run(each, gfp, &mut self.blocks) {
            return false;
        }
        self.slabs.push((self.blocks.len() - before) as u16);
        true
    }

    fn give(&mut self, pages: &mut Pages) {
        let n = self.slabs.pop().map_or(0, usize::from);
        let from = self.blocks.len().saturating_sub(n);
        self.blocks.drain(from..).rev().for_each(|b| pages.free(b));
    }

    /// So many slabs; false when not all of them can be had.
    fn set(&mut self, pages: &mut Pages, (slabs, each): (usize, u32), gfp: Gfp) -> bool {
        while self.slabs.len() > slabs {
            self.give(pages);
        }
        while self.slabs.len() < slabs {
            if !self.take(pages, each, gfp) {
                return false;
            }
        }
        true
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Memory {
    pub pages: Pages,
    held: [Held; Kind::ALL.len()],
    /// Something grew, or memory is low: to be looked at when the step ends.
    woken: bool,
    /// Bytes of packets that there are pages for.
    packets: u64,
    /// There were none for more.
    short: bool,
    /// When all was counted last, and how many objects there were.
    counted: (Jiffies, usize),
    /// Of the settings of a namespace.
    limits: Option<Limits>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new(DEFAULT)
    }
}

impl Memory {
    pub fn new(bytes: u64) -> Memory {
        Memory {
            pages: Pages::new(bytes),
            held: Default::default(),
            woken: false,
            packets: 0,
            short: false,
            counted: (0, 0),
            limits: None,
        }
    }

    /// Whether there is memory for one more object; nearly always it has its place already.
    #[inline]
    pub fn room<T>(&mut self, kind: Kind, slab: &Slab<T>, gfp: Gfp) -> bool {
        !slab.is_full() || self.grow(kind, Slab::<T>::CHUNK_PAGES, gfp)
    }

    /// Another slab (`new_slab`).
    #[cold]
    fn grow(&mut self, kind: Kind, each: u32, gfp: Gfp) -> bool {
        self.woken = true;
        self.held[kind as usize].take(&mut self.pages, each, gfp)
    }

    /// No pages for more packets.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Whether the end of a step has to look: `packets` is what they are charged with.
    #[inline]
    pub fn is_due(&self, packets: u64) -> bool {
        self.woken || packets > self.packets || packets + SLACK < self.packets
    }

    /// Brings the books in line with what the caches hold.
    fn settle(&mut self, caches: &[Cache]) {
        for c in caches {
            self.held[c.kind as usize].set(&mut self.pages, (c.slabs, c.pages_each), Gfp::Held);
        }
    }

    fn settle_packets(&mut self, bytes: u64, gfp: Gfp) {
        let slabs = bytes.div_ceil(STEP_BYTES) as usize;
        let held = &mut self.held[Kind::PageFrag as usize];
        self.short = !held.set(&mut self.pages, (slabs, STEP), gfp);
        self.packets = held.slabs.len() as u64 * STEP_BYTES;
    }

    pub fn packet_pages(&self) -> usize {
        self.held[Kind::PageFrag as usize].slabs.len() * STEP as usize
    }

    /// A new namespace's settings.
    pub fn apply_limits(&self, s: &mut Sysctl) {
        if let Some(l) = &self.limits {
            l.apply(s);
        }
    }
}

/// What follows for a namespace's settings from the machine's memory.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of `tcp_wmem` and `tcp_rmem`.
    most: u64,
    /// Slots of the table of connections.
    ehash: u64,
}

impl Limits {
    #[doc(alias = "tcp_init")]
    fn new(pages: &Pages) -> Limits {
        let total: u64 = pages.zones.iter().map(|z| u64::from(z.span.end - z.span.start)).sum();
        // One for 128 KiB.
        let ehash = (total * PAGE_SIZE as u64 / (128 << 10)).next_power_of_two().min(512 << 10);
        Limits { most: pages.buffer_pages() * PAGE_SIZE as u64 / 128, ehash }
    }

    fn apply(&self, s: &mut Sysctl) {
        s.tcp_wmem[2] = self.most.clamp(64 << 10, 4 << 20);
        s.tcp_rmem[2] = self.most.min(32 << 20).max(s.tcp_rmem[1]);
        s.tcp_max_tw_buckets = (self.ehash / 2) as i32;
        s.tcp_max_syn_backlog = (self.ehash / 128).max(128) as i32;
    }
}

impl Kernel {
    /// So much memory, as `mem=` on the kernel's command line says; before there is anything to hold it. Buffers and
    /// tables are measured by it.
    pub fn set_memory(&mut self, bytes: u64) {
        let mut m = Memory::new(bytes);
        let (limits, buffers) = (Limits::new(&m.pages), m.pages.buffer_pages());
        let s = &mut self.net.sysctl;
        let shares = |n: u64| [n / 4 * 3, n, n / 4 * 3 * 2];
        s.tcp_mem = shares((buffers / 16).max(128));
        s.udp_mem = shares((buffers / 8).max(128));
        s.tcp_max_orphans = (limits.ehash / 2) as u32;
        let kb = m.pages.managed() * (PAGE_SIZE as u64 >> 10);
        s.file_max = (kb / 10).max(8192);
        s.nf_conntrack_max = match kb >> 20 {
            4.. => 262_144,
            1.. => 65_536,
            _ => ((kb << 10) / 16_384 / 8).max(1024) as u32,
        };
        m.limits = Some(limits);
        for (_, n) in self.net.ns.iter_mut() {
            limits.apply(&mut n.sysctl);
        }
        self.net.mem = m;
    }

    /// What queues are charged with, without the buffers' heads, which are a cache of their own.
    #[inline]
    fn packet_bytes(&self) -> u64 {
        let Net { usage, pool, .. } = &self.net;
        let heads = (pool.skbs_born - pool.skbs_ended) * SKB_BYTES as u64;
        (usage.tcp_bytes + usage.udp_bytes).saturating_sub(heads)
    }

    #[inline]
    pub(crate) fn is_memory_due(&self) -> bool {
        self.net.mem.is_due(self.packet_bytes())
    }

    #[inline]
    pub(crate) fn look_after_memory(&mut self) {
        if self.is_memory_due() {
            self.kswapd();
        }
    }

    /// Notices what went, takes for packets, and gives back what is only kept when memory is low. All sockets are counted
    /// when there are an eighth more objects than the last time, or once in a tick while memory is low.
    #[cold]
    fn kswapd(&mut self) {
        let (jiffies, bytes) = (self.net.env.jiffies(), self.packet_bytes());
        if self.net.mem.pages.is_low() {
            self.net.pool.shrink();
        }
        let low = self.net.mem.pages.is_low() || self.net.mem.short;
        let slabs = self.slab_caches();
        let objects: usize = slabs.iter().map(|c| c.total).sum();
        let (at, counted) = self.net.mem.counted;
        let count = (low && at != jiffies) || objects > counted + counted / 8 || objects < counted / 2;
        let heap = if count { self.heap_caches() } else { Vec::new() };
        let m = &mut self.net.mem;
        if count {
            m.counted = (jiffies, objects);
        }
        m.settle(&slabs);
        m.settle(&heap);
        m.settle_packets(bytes, Gfp::Kernel);
        m.woken = m.short || m.pages.is_low();
    }

    /// The books as they are when everything was looked at.
    pub fn memory_now(&self) -> (Memory, Vec<Cache>) {
        let (mut m, caches) = (self.net.mem.clone(), self.caches());
        m.settle(&caches);
        m.settle_packets(self.packet_bytes(), Gfp::Held);
        (m, caches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_memory_gives_the_limits_that_were_measured() {
        let (plain, mut told) = (Kernel::new(1), Kernel::new(1));
        told.set_memory(DEFAULT);
        let of = |k: &Kernel| {
            let s = &k.net.sysctl;
            (s.tcp_mem, s.udp_mem, s.tcp_max_orphans, s.nf_conntrack_max)
        };
        assert_eq!(of(&told), of(&plain));
        let ns = told.net.add_ns("host");
        let (s, fresh) = (&told.net.ns.get(ns).unwrap().sysctl, Sysctl::default());
        assert_eq!((s.tcp_wmem, s.tcp_rmem), (fresh.tcp_wmem, fresh.tcp_rmem));
        assert_eq!(s.tcp_max_tw_buckets, fresh.tcp_max_tw_buckets);
        assert_eq!(s.tcp_max_syn_backlog, fresh.tcp_max_syn_backlog);
    }

    #[test]
    fn sizes_are_read_as_the_kernel_reads_them() {
        assert_eq!(
            ["16M", "1g", "33554432", "4T"].map(parse_size),
            [Ok(16 << 20), Ok(1 << 30), Ok(32 << 20), Ok(4 << 40)]
        );
        for bad in ["", "M", "16", "5T", "1.5G", "-1G", "99999999999T", "1Gé"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_small_machine_has_small_limits() {
        let mut k = Kernel::new(1);
        k.set_memory(64 << 20);
        let s = &k.net.sysctl;
        // A sixteenth of 64 MiB for TCP, twice that for UDP.
        assert!((900..1024).contains(&s.tcp_mem[1]) && s.tcp_mem[2] == s.tcp_mem[0] * 2, "{:?}", s.tcp_mem);
        assert!(s.udp_mem[1] / 2 - s.tcp_mem[1] < 2);
        assert_eq!((s.tcp_max_orphans, s.nf_conntrack_max, s.file_max), (256, 1024, 8192));
    }
}
