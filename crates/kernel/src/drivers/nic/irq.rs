//! The card's interrupts: raised by the hardware side, held back by coalescing, masked while NAPI has work. Each goes to the
//! CPU that its affinity names.
use super::dim::Dim;
use crate::env::{Nanos, TimerKey, USEC};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::{busy_poll, napi};
use std::collections::BTreeMap;

/// Which of a channel's two vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Input,
    Output,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::Input, Way::Output];

    /// As `/proc/interrupts` names it.
    pub fn name(self) -> &'static str {
        match self {
            Way::Input => "input",
            Way::Output => "output",
        }
    }
}

/// Where a vector's interrupts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// `smp_affinity`: CPUs that may serve it; the first of them does (`effective_affinity`).
    pub mask: u64,
    pub cpu: usize,
    /// How many of them other CPUs served before, by CPU.
    past: BTreeMap<usize, u64>,
}

/// See the module. One vector for each direction, as the counters show; one NAPI for both.
#[derive(Clone, Debug)]
pub struct Irq {
    /// The vectors are masked from an interrupt on until NAPI's poll finds nothing more, or later.
    pub masked: bool,
    /// `/proc/interrupts`: NAME-input.N, NAME-output.N.
    pub rx_count: u64,
    pub tx_count: u64,
    /// `ethtool -C`: wait so long, or for so many frames, before an interrupt; 0 and 1: none of that.
    pub rx_usecs: u32,
    pub rx_frames: u32,
    /// They are changed as it goes (`adaptive-rx`).
    pub dim: Option<Box<Dim>>,
    /// Of the vectors for receiving and for sending.
    affinity: [Affinity; 2],
    waiting_frames: u32,
    deadline: Option<Nanos>,
}

impl Default for Irq {
    fn default() -> Irq {
        let first = Affinity { mask: 1, cpu: 0, past: BTreeMap::new() };
        Irq {
            masked: false,
            rx_count: 0,
            tx_count: 0,
            rx_usecs: 0,
            rx_frames: 0,
            dim: None,
            affinity: [first.clone(), first],
            waiting_frames: 0,
            deadline: None,
        }
    }
}

impl Irq {
    pub fn affinity(&self, way: Way) -> &Affinity {
        &self.affinity[way as usize]
    }

    fn count(&self, way: Way) -> u64 {
        match way {
            Way::Input => self.rx_count,
            Way::Output => self.tx_count,
        }
    }

    /// Sends a vector to the first of these CPUs; false when none of them is there.
    #[doc(alias = "irq_set_affinity")]
    pub fn route(&mut self, way: Way, mask: u64, cpus: usize) -> bool {
        let all = u64::MAX >> 64usize.saturating_sub(cpus.clamp(1, 64));
        if mask & all == 0 {
            return false;
        }
        let cpu = (mask & all).trailing_zeros() as usize;
        let here = self.served(way, self.affinity(way).cpu);
        let a = &mut self.affinity[way as usize];
        if here > 0 && cpu != a.cpu {
            a.past.insert(a.cpu, here);
        }
        (a.mask, a.cpu) = (mask & all, cpu);
        true
    }

    /// Interrupts that a CPU served.
    pub fn served(&self, way: Way, cpu: usize) -> u64 {
        let a = self.affinity(way);
        if cpu != a.cpu {
            return a.past.get(&cpu).copied().unwrap_or(0);
        }
        let elsewhere: u64 = a.past.iter().filter(|(c, _)| **c != cpu).map(|(_, n)| n).sum();
        self.count(way).saturating_sub(elsewhere)
    }
}

/// Frames are in the ring: interrupt now, or when the coalescing limits say so.
pub fn rx_interrupt(net: &mut Net, dev: DevId, queue: u16) {
    let now = net.env.now;
    if net.napi.busy {
        busy_poll::kick(net, dev, queue);
    }
    let Some(q) = net.nic_queue(dev, queue) else { return };
    let irq = &mut q.irq;
    if irq.masked {
        return;
    }
    irq.waiting_frames += 1;
    let enough = irq.rx_frames != 0 && irq.waiting_frames >= irq.rx_frames;
    if irq.rx_usecs == 0 || enough {
        return raise(net, dev, queue, Way::Input);
    }
    if irq.deadline.is_none() {
        let at = now + u64::from(irq.rx_usecs) * USEC;
        irq.deadline = Some(at);
        net.env.hrtimers.insert((at, TimerKey::NicCoalesce(dev)));
    }
}

/// The interrupt handler: mask, put the NAPI on the list of the CPU that serves the vector, nothing else.
fn raise(net: &mut Net, dev: DevId, queue: u16, way: Way) {
    let Some(q) = net.nic_queue(dev, queue) else { return };
    match way {
        Way::Input => {
            q.irq.rx_count += 1;
            (q.irq.waiting_frames, q.irq.deadline) = (0, None);
        }
        Way::Output => q.irq.tx_count += 1,
    }
    let cpu = q.irq.affinity(way).cpu;
    if std::mem::replace(&mut q.irq.masked, true) {
        return;
    }
    if let Some(m) = &mut net.model {
        m.hard_irq(cpu, net.env.now);
    }
    napi::napi_schedule(net, dev, queue, cpu);
}

/// Interrupts of those of the card's queues that this is true of.
fn raise_where(net: &mut Net, dev: DevId, f: impl Fn(&Irq) -> bool) {
    let queues = net.devs.get(dev).and_then(|d| d.nic()).map_or(0, |n| n.queues.len());
    for queue in 0..queues as u16 {
        if net.nic_queue(dev, queue).is_some_and(|q| f(&q.irq) && !q.irq.masked) {
            raise(net, dev, queue, Way::Input);
        }
    }
}

/// The limits were changed: what waits interrupts now.
pub fn coalesce_now(net: &mut Net, dev: DevId) {
    raise_where(net, dev, |i| i.waiting_frames > 0);
}

/// The coalescing time of one of the queues is over.
pub fn coalesce_timer(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    raise_where(net, dev, |i| i.deadline.is_some_and(|at| at <= now));
}

/// The hardware is done with descriptors of the transmit ring.
pub fn tx_interrupt(net: &mut Net, dev: DevId, queue: u16) {
    if net.nic_queue(dev, queue).is_some_and(|q| !q.irq.masked) {
        raise(net, dev, queue, Way::Output);
    }
}

/// NAPI lets the card interrupt again.
pub fn unmask(net: &mut Net, dev: DevId, queue: u16) {
    if let Some(q) = net.nic_queue(dev, queue) {
        q.irq.masked = false;
        q.irq.waiting_frames = 0;
        q.irq.deadline = None;
    }
}
