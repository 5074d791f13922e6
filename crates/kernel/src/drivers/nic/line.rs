//! A card's way to the wire when it has a speed: one packet after another leaves its rings, those of several queues in turn,
//! and each is done when its last bit is out. Without a speed a packet is gone as soon as the doorbell rings.
use super::irq;
use crate::env::{Nanos, SEC, TimerKey};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::drop::DropReason;

/// Preamble, check sequence and gap of a frame on the wire.
const FRAMING: u64 = 24;

/// See the module.
#[derive(Clone, Debug)]
pub struct Line {
    /// Mbit/s.
    pub speed: u32,
    /// Whose packet is under way.
    current: Option<u16>,
    next: u16,
}

impl Line {
    pub(super) fn new(speed: u32) -> Option<Line> {
        (speed > 0).then_some(Line { speed, current: None, next: 0 })
    }

    fn duration(&self, bytes: u64) -> Nanos {
        bytes * 8 * SEC / (u64::from(self.speed) * 1_000_000)
    }
}

/// The doorbell rang, or a packet is out: the next one begins, if there is one.
pub(super) fn fetch(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let Some(nic) = net.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
    let Some(line) = nic.line.as_mut().filter(|l| l.current.is_none()) else { return };
    let queues = nic.queues.len() as u16;
    let waits = |q: &u16| nic.queues.get(usize::from(*q)).is_some_and(|q| q.tx.to_fetch().is_some());
    let Some(queue) = (line.next..queues).chain(0..line.next).find(waits) else { return };
    let Some(skb) = nic.queues.get(usize::from(queue)).and_then(|q| q.tx.to_fetch()) else { return };
    let (segs, head) = (skb.gso.map_or(1, |g| u64::from(g.segs).max(1)), skb.head.len() as u64);
    let at = now + line.duration(skb.len() as u64 + segs * FRAMING + (segs - 1) * head);
    (line.current, line.next) = (Some(queue), (queue + 1) % queues.max(1));
    net.env.hrtimers.insert((at, TimerKey::NicLine(dev)));
}

/// The last bit is out: the descriptor is done. What a card that went down still had goes nowhere.
pub(crate) fn sent(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let running = d.running();
    let Some(nic) = d.nic_mut() else { return };
    let Some(queue) = nic.line.as_mut().and_then(|l| l.current.take()) else { return };
    let Some(q) = nic.queue_mut(queue) else { return };
    if running {
        if let Some(frame) = q.tx.to_fetch().map(|skb| skb.to_wire()) {
            net.frames.push_back((dev, frame));
        }
        q.tx.fetched();
    } else if let Some(skb) = q.tx.take_fetched() {
        d.stats.tx_carrier += 1;
        net.kfree_skb(skb, DropReason::QueuePurge, "nic_line");
    }
    irq::tx_interrupt(net, dev, queue);
    fetch(net, dev);
}
