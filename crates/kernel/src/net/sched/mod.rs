//! Queueing disciplines: pfifo_fast for devices with a ring, none for the rest.
use crate::net::core::skb::Skb;
use std::collections::VecDeque;

/// Which band a priority goes to; band 0 is served first.
pub const PRIO2BAND: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
const BANDS: usize = 3;

/// `tc -s qdisc` counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QdiscStats {
    pub bytes: u64,
    pub packets: u64,
    pub drops: u64,
    pub requeues: u64,
    pub backlog: u64,
}

/// A device's queueing discipline.
#[derive(Clone, Debug)]
pub enum Qdisc {
    /// Straight to the driver (lo and other devices without a queue).
    Noqueue,
    PfifoFast(Box<PfifoFast>),
}

/// Three bands, strict priority, txqueuelen packets each.
#[derive(Clone, Debug, Default)]
pub struct PfifoFast {
    bands: [VecDeque<Skb>; BANDS],
    pub stats: QdiscStats,
}

impl Qdisc {
    pub fn pfifo_fast() -> Qdisc {
        Qdisc::PfifoFast(Box::default())
    }

    pub fn name(&self) -> &'static str {
        match self {
            Qdisc::Noqueue => "noqueue",
            Qdisc::PfifoFast(_) => "pfifo_fast",
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Qdisc::Noqueue => 0,
            Qdisc::PfifoFast(q) => q.bands.iter().map(VecDeque::len).sum(),
        }
    }

    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        let bands = match self {
            Qdisc::Noqueue => &[][..],
            Qdisc::PfifoFast(q) => &q.bands,
        };
        bands.iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn stats(&self) -> QdiscStats {
        match self {
            Qdisc::Noqueue => QdiscStats::default(),
            Qdisc::PfifoFast(q) => q.stats,
        }
    }

    /// Gives the packet back when its band is full.
    pub fn enqueue(&mut self, skb: Skb, limit: u32) -> Result<(), Skb> {
        let Qdisc::PfifoFast(q) = self else { return Err(skb) };
        let band = usize::from(PRIO2BAND[(skb.priority & 15) as usize]);
        if q.bands[band].len() >= limit as usize {
            q.stats.drops += 1;
            return Err(skb);
        }
        q.stats.backlog += skb.len() as u64;
        q.bands[band].push_back(skb);
        Ok(())
    }

    pub fn dequeue(&mut self) -> Option<Skb> {
        let Qdisc::PfifoFast(q) = self else { return None };
        let skb = q.bands.iter_mut().find_map(VecDeque::pop_front)?;
        q.stats.backlog -= skb.len() as u64;
        q.count(&skb);
        Some(skb)
    }

    /// A packet that went past the empty queue (TCQ_F_CAN_BYPASS).
    pub fn bypass(&mut self, skb: &Skb) {
        if let Qdisc::PfifoFast(q) = self {
            q.count(skb);
        }
    }

    /// Everything that waits, taken out.
    pub fn reset(&mut self) -> Vec<Skb> {
        let Qdisc::PfifoFast(q) = self else { return Vec::new() };
        q.stats.backlog = 0;
        q.bands.iter_mut().flat_map(|b| b.drain(..)).collect()
    }
}

impl PfifoFast {
    fn count(&mut self, skb: &Skb) {
        self.stats.packets += skb.gso.map_or(1, |g| u64::from(g.segs));
        self.stats.bytes += skb.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_by_priority_and_a_limit_each() {
        let mut q = Qdisc::pfifo_fast();
        let skb = |priority| {
            let mut s = Skb::default();
            s.priority = priority;
            s
        };
        for p in [2, 0, 6, 0] {
            q.enqueue(skb(p), 2).unwrap();
        }
        assert!(q.enqueue(skb(4), 2).is_err() && q.enqueue(skb(7), 2).is_ok());
        let order: Vec<u32> = std::iter::from_fn(|| q.dequeue()).map(|s| s.priority).collect();
        assert_eq!((order, q.stats().drops, q.stats().packets), (vec![6, 7, 0, 0, 2], 1, 5));
    }
}
