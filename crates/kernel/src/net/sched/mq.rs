//! mq: one discipline for each transmit queue of the device; it has no queue of its own.
use super::{Ctx, Qdisc, Stats, Xmit};
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::drop::DropReason;

/// See the module.
#[derive(Clone, Debug)]
pub struct Mq {
    pub queues: Vec<Qdisc>,
    /// Whose turn it is.
    next: usize,
}

impl Mq {
    pub(super) fn new(queues: Vec<Qdisc>) -> Mq {
        Mq { queues, next: 0 }
    }

    pub(super) fn can_bypass(&self, cx: (u32, u32)) -> bool {
        self.queues.first().is_some_and(|q| q.can_bypass(cx))
    }

    /// What goes past the queues is counted where it would have waited.
    pub(super) fn bypassed(&mut self, skb: &SkBuff) {
        if let Some(q) = self.queues.get_mut(usize::from(skb.queue_mapping)) {
            q.stats.sent(skb);
        }
    }

    pub(super) fn enqueue(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let Some(q) = self.queues.get_mut(usize::from(skb.queue_mapping)) else {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, "mq_select_queue");
            return Xmit::Drop;
        };
        let was = q.stats;
        let sent = q.enqueue(skb, cx);
        s.follow(was, q.stats);
        sent
    }

    /// The next packet of a queue whose ring has room.
    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        let n = self.queues.len();
        for turn in 0..n {
            let at = (self.next + turn) % n;
            if cx.xoff & 1 << (at & 31) != 0 {
                continue;
            }
            let Some(q) = self.queues.get_mut(at) else { continue };
            let was = q.stats;
            let skb = q.dequeue(cx);
            s.follow(was, q.stats);
            if let Some(skb) = skb {
                self.next = (at + 1) % n;
                s.sent(&skb);
                return Some(skb);
            }
        }
        None
    }

    /// The queues from number `n` on are in use no longer.
    pub(super) fn reset_beyond(&mut self, n: usize, s: &mut Stats, out: &mut Vec<Skb>) {
        for q in self.queues.iter_mut().skip(n) {
            let was = q.stats;
            q.reset(out);
            s.follow(was, q.stats);
        }
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        self.queues.iter_mut().for_each(|q| q.reset(out));
    }
}
