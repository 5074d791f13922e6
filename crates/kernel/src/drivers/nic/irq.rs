//! The card's interrupt: raised by the hardware side, held back by coalescing, masked while NAPI has work.
use crate::env::{Nanos, TimerKey, USEC};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::softirq::Napi;

/// See the module. One vector for each direction, as the counters show; one NAPI for both.
#[derive(Clone, Debug, Default)]
pub struct Irq {
    /// NAPI is scheduled: the vectors are masked until its poll finds nothing more.
    pub masked: bool,
    /// `/proc/interrupts`: NAME-input.0, NAME-output.0.
    pub rx_count: u64,
    pub tx_count: u64,
    /// `ethtool -C`: wait so long, or for so many frames, before an interrupt; 0 and 1: none of that.
    pub rx_usecs: u32,
    pub rx_frames: u32,
    waiting_frames: u32,
    deadline: Option<Nanos>,
}

/// Frames are in the ring: interrupt now, or when the coalescing limits say so.
pub fn rx_interrupt(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
    let irq = &mut nic.irq;
    if irq.masked {
        return;
    }
    irq.waiting_frames += 1;
    let enough = irq.rx_frames != 0 && irq.waiting_frames >= irq.rx_frames;
    if irq.rx_usecs == 0 || enough {
        return raise_rx(net, dev);
    }
    if irq.deadline.is_none() {
        let at = now + u64::from(irq.rx_usecs) * USEC;
        irq.deadline = Some(at);
        net.env.hrtimers.insert((at, TimerKey::NicCoalesce(dev)));
    }
}

fn raise_rx(net: &mut Net, dev: DevId) {
    let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
    nic.irq.rx_count += 1;
    nic.irq.waiting_frames = 0;
    nic.irq.deadline = None;
    napi_schedule(net, dev);
}

/// The limits were changed: what waits interrupts now.
pub fn coalesce_now(net: &mut Net, dev: DevId) {
    let waits = |n: &Irq| n.waiting_frames > 0 && !n.masked;
    if net.devs.get(dev).and_then(|d| d.nic()).is_some_and(|n| waits(&n.irq)) {
        raise_rx(net, dev);
    }
}

/// The coalescing time is over.
pub fn coalesce_timer(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let due = |n: &Irq| n.deadline.is_some_and(|at| at <= now);
    let Some(nic) = net.devs.get(dev).and_then(|d| d.nic()) else { return };
    if due(&nic.irq) && !nic.irq.masked {
        raise_rx(net, dev);
    }
}

/// The hardware is done with descriptors of the transmit ring.
pub fn tx_interrupt(net: &mut Net, dev: DevId) {
    let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
    if nic.irq.masked {
        return;
    }
    nic.irq.tx_count += 1;
    napi_schedule(net, dev);
}

/// The interrupt handler: mask, put the NAPI on this CPU's list, nothing else.
fn napi_schedule(net: &mut Net, dev: DevId) {
    let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
    if std::mem::replace(&mut nic.irq.masked, true) {
        return;
    }
    if let Some(cpu) = net.this_cpu() {
        cpu.napi_schedule(Napi::Nic(dev));
    }
}

/// The poll found less than its weight: unmask (`napi_complete_done`).
pub fn napi_complete(net: &mut Net, dev: DevId) {
    if let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) {
        nic.irq.masked = false;
        nic.irq.waiting_frames = 0;
        nic.irq.deadline = None;
    }
}
