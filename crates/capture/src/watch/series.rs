//! [`Series`]: figures over time in a fixed number of slots; when they are full, two become one and the step doubles.
use belljar_kernel::env::Nanos;

/// Slots; never more than this are held, however long it takes.
pub const SLOTS: usize = 512;
/// Listeners whose queue has a line of its own.
pub const TRACKED: usize = 6;

/// What happened in one slot: sums, and of what is a level the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub retrans: u64,
    /// SYNs and connections that a listener turned away.
    pub overflows: u64,
    /// Packets that ended out of the ordinary.
    pub drops: u64,
    /// Packets that the link took away.
    pub link: u64,
    pub opened: u64,
    pub established: u64,
    pub backlog: [u32; TRACKED],
}

impl Sample {
    fn merge(&mut self, o: &Sample) {
        for (a, b) in [
            (&mut self.rx_bytes, o.rx_bytes),
            (&mut self.tx_bytes, o.tx_bytes),
            (&mut self.retrans, o.retrans),
            (&mut self.overflows, o.overflows),
            (&mut self.drops, o.drops),
            (&mut self.link, o.link),
            (&mut self.opened, o.opened),
        ] {
            *a = a.saturating_add(b);
        }
        self.established = self.established.max(o.established);
        self.backlog.iter_mut().zip(o.backlog).for_each(|(a, b)| *a = (*a).max(b));
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Series {
    start: Nanos,
    step: Nanos,
    slots: Vec<Sample>,
}

impl Series {
    pub fn new(start: Nanos, step: Nanos) -> Series {
        Series { start, step: step.max(1), slots: Vec::new() }
    }

    pub fn start(&self) -> Nanos {
        self.start
    }

    /// Length of a slot.
    pub fn step(&self) -> Nanos {
        self.step
    }

    pub fn slots(&self) -> &[Sample] {
        &self.slots
    }

    /// The end of the slot that is being filled, or of the first one.
    pub fn next_at(&self) -> Nanos {
        let n = self.slots.len().max(1) as u64;
        self.start.saturating_add(self.step.saturating_mul(n))
    }

    /// Puts `s` into the slot of the moment before `now`. Levels of slots that nobody looked at are those of the slot before.
    pub fn add(&mut self, now: Nanos, s: &Sample) {
        let since = now.saturating_sub(self.start).saturating_sub(1);
        while since / self.step >= SLOTS as u64 {
            self.halve();
        }
        let slot = (since / self.step) as usize;
        let before = self.slots.last().map_or_else(Sample::default, |l| Sample {
            established: l.established,
            backlog: l.backlog,
            ..Sample::default()
        });
        while self.slots.len() < slot {
            self.slots.push(before);
        }
        match self.slots.get_mut(slot) {
            Some(there) => there.merge(s),
            None => self.slots.push(*s),
        }
    }

    fn halve(&mut self) {
        let pairs = self.slots.chunks(2);
        self.slots = pairs
            .map(|p| {
                let mut one = p.first().copied().unwrap_or_default();
                p.iter().skip(1).for_each(|o| one.merge(o));
                one
            })
            .collect();
        self.step = self.step.saturating_mul(2);
    }
}
