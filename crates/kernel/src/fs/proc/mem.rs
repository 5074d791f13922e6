//! The machine's memory as text: `/proc/slabinfo`, `buddyinfo`, `zoneinfo`, `meminfo`.
//!
//! They add up: what is not free is `Slab`, whose caches are in slabinfo, and the pages of packets in sockets' queues. A
//! slab of a cache that belljar keeps in chunks is one chunk; what it keeps otherwise is cut into slabs of 32 KiB.
use crate::kernel::Kernel;
use crate::mem::cache::Cache;
use crate::mem::ledger::Memory;
use crate::mem::pages::{PAGE_SIZE, Zone};
use std::fmt::Write;

const KB_OF_PAGE: u64 = PAGE_SIZE as u64 / 1024;

fn slab_pages(caches: &[Cache], reclaimable: bool) -> u64 {
    let of = caches.iter().filter(|c| c.reclaimable() == reclaimable);
    of.map(|c| c.slabs as u64 * u64::from(c.pages_each)).sum()
}

/// What every zone keeps back from those who could use a lower one, from the lowest zone asked for.
fn protection(zones: &[Zone], at: usize) -> String {
    let above = |asked: usize| zones.get(at + 1..=asked).map_or(0, |z| z.iter().map(|z| z.managed).sum::<u32>());
    let ratio = |asked: usize| if asked > at { above(asked.min(zones.len() - 1)) / 256 } else { 0 };
    (0..5).map(|asked| ratio(asked).to_string()).collect::<Vec<_>>().join(", ")
}

/// What a new program could have without anybody being short (`si_mem_available`).
fn available(m: &Memory, reclaimable: u64) -> u64 {
    let zones = &m.pages.zones;
    let kept: u64 = zones.iter().map(|z| u64::from((z.reserve + z.marks[2]).min(z.managed))).sum();
    let low: u64 = zones.iter().map(|z| u64::from(z.marks[1])).sum();
    m.pages.free_pages().saturating_sub(kept) + reclaimable - (reclaimable / 2).min(low)
}

impl Kernel {
    /// Bytes really held by each kind of object, in the columns of slabinfo.
    pub(super) fn slabinfo(&self) -> String {
        let mut out = String::from(
            "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
             : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n",
        );
        for c in self.caches() {
            let (name, active, size, slabs) = (c.name(), c.active, c.size, c.slabs);
            let (each, pages) = (c.each, c.pages_each);
            let objects = slabs * each;
            let _ = writeln!(
                out,
                "{name:<17} {active:6} {objects:6} {size:6} {each:4} {pages:4} : tunables    0    0    0 : slabdata \
                 {slabs:6} {slabs:6}      0",
            );
        }
        out
    }

    #[doc(alias = "frag_show_print")]
    pub(super) fn buddyinfo(&self) -> String {
        let mut out = String::new();
        for z in &self.memory_now().0.pages.zones {
            let free: String = z.nr_free().iter().map(|n| format!("{n:6} ")).collect();
            let _ = writeln!(out, "Node 0, zone {:>8} {free}", z.name);
        }
        out
    }

    #[doc(alias = "meminfo_proc_show")]
    pub(super) fn meminfo(&self) -> String {
        let (m, caches) = self.memory_now();
        let [fixed, reclaimable] = [false, true].map(|r| slab_pages(&caches, r));
        let rows = [
            ("MemTotal", m.pages.managed()),
            ("MemFree", m.pages.free_pages()),
            ("MemAvailable", available(&m, reclaimable)),
            ("Buffers", 0),
            ("Cached", 0),
            ("SwapCached", 0),
            ("SwapTotal", 0),
            ("SwapFree", 0),
            ("KReclaimable", reclaimable),
            ("Slab", fixed + reclaimable),
            ("SReclaimable", reclaimable),
            ("SUnreclaim", fixed),
        ];
        rows.iter().map(|(name, pages)| format!("{:<16}{:8} kB\n", format!("{name}:"), pages * KB_OF_PAGE)).collect()
    }

    #[doc(alias = "zoneinfo_show_print")]
    pub(super) fn zoneinfo(&self) -> String {
        let (m, caches) = self.memory_now();
        let zones = &m.pages.zones;
        let mut out = String::new();
        for (n, z) in zones.iter().enumerate() {
            let _ = writeln!(out, "Node 0, zone {:>8}", z.name);
            if n == 0 {
                let (r, u) = (slab_pages(&caches, true), slab_pages(&caches, false));
                let _ =
                    writeln!(out, "  per-node stats\n      nr_slab_reclaimable {r}\n      nr_slab_unreclaimable {u}");
            }
            let _ = writeln!(out, "  pages free     {}\n        boost    0", z.free_pages);
            for (name, mark) in ["min", "low", "high", "promo"].iter().zip(z.marks) {
                let _ = writeln!(out, "        {name:<8} {mark}");
            }
            let span = z.span.end - z.span.start;
            let _ = writeln!(
                out,
                "        spanned  {span}\n        present  {span}\n        managed  {}\n        cma      0\n        \
                 protection: ({})\n      nr_free_pages {}",
                z.managed,
                protection(zones, n),
                z.free_pages
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number behind a name at the beginning of a line.
    fn value(text: &str, name: &str) -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_not_free_is_in_slabs() {
        let mut k = Kernel::new(1);
        k.set_memory(1 << 30);
        k.net.add_ns("host");
        let (meminfo, slabs) = (k.meminfo(), k.slabinfo());
        let pages = |line: &str| {
            let words: Vec<u64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            // Of what the name left: pages of a slab and slabs.
            words[4] * words[9]
        };
        let sum: u64 = slabs.lines().skip(2).map(pages).sum();
        assert_eq!(value(&meminfo, "Slab:"), sum * 4);
        assert_eq!(value(&meminfo, "MemTotal:") - value(&meminfo, "MemFree:"), sum * 4);
        let free = |line: &str| {
            let counts = line.split_whitespace().skip(4).map(|w| w.parse::<u64>().unwrap());
            counts.enumerate().map(|(order, n)| n << order).sum::<u64>()
        };
        assert_eq!(k.buddyinfo().lines().map(free).sum::<u64>() * 4, value(&meminfo, "MemFree:"));
        assert_eq!(value(&meminfo, "MemTotal:"), (1 << 20) - 1024);
    }

    #[test]
    fn zones_as_linux_prints_them() {
        let mut k = Kernel::new(1);
        k.set_memory(8 << 30);
        let text = k.zoneinfo();
        let dma: Vec<&str> = text.lines().take(16).collect();
        assert_eq!(dma[0], "Node 0, zone      DMA");
        assert_eq!(dma[4..6], ["  pages free     3840", "        boost    0"]);
        assert!(dma.contains(&"        managed  3840"), "{dma:?}");
        // 4 GiB in each of the two above.
        assert!(text.contains("        protection: (0, 4080, 8176, 8176, 8176)\n"), "{text}");
        assert!(k.buddyinfo().starts_with("Node 0, zone      DMA      0      0 "), "{}", k.buddyinfo());
    }
}
