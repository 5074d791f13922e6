//! pfifo, bfifo and pfifo_fast: first in, first out.
use super::{Ctx, PRIO2BAND, Stats, Xmit, pkt_len};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::sched::api::{TcError, einval};
use belljar_abi::netlink::u32_at;
use std::collections::VecDeque;

/// Three bands, strict priority, txqueuelen packets each.
#[derive(Clone, Debug, Default)]
pub struct PfifoFast {
    bands: [VecDeque<Skb>; 3],
}

impl PfifoFast {
    #[doc(alias = "pfifo_fast_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let band = &mut self.bands[usize::from(PRIO2BAND[(skb.priority & 15) as usize]) % 3];
        if band.len() >= cx.tx_queue_len as usize {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, "pfifo_fast_enqueue");
            return Xmit::Drop;
        }
        s.hold(&skb);
        band.push_back(skb);
        Xmit::Success
    }

    pub(super) fn dequeue(&mut self, s: &mut Stats) -> Option<Skb> {
        let skb = self.bands.iter_mut().find_map(VecDeque::pop_front)?;
        s.release(&skb);
        s.sent(&skb);
        Some(skb)
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.bands.iter_mut().flat_map(|b| b.drain(..)));
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.bands.iter().flatten()
    }
}

/// One queue, limited in packets or in bytes.
#[derive(Clone, Debug)]
pub struct Fifo {
    bytes: bool,
    pub limit: u32,
    queue: VecDeque<Skb>,
}

impl Fifo {
    pub(super) fn new(bytes: bool, limit: u32) -> Fifo {
        Fifo { bytes, limit, queue: VecDeque::new() }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.bytes { "bfifo" } else { "pfifo" }
    }

    pub(super) fn can_bypass(&self, mtu: u32) -> bool {
        self.limit >= if self.bytes { mtu + 14 } else { 1 }
    }

    /// `tc_fifo_qopt`; without it the device's txqueuelen.
    #[doc(alias = "fifo_init")]
    pub(super) fn change(&mut self, opts: Option<&[u8]>, cx: &Ctx<'_>) -> Result<(), TcError> {
        self.limit = match opts {
            None if self.bytes => cx.tx_queue_len.saturating_mul(cx.psched_mtu()),
            None => cx.tx_queue_len,
            Some(o) => u32_at(o, 0).ok_or_else(einval)?,
        };
        Ok(())
    }

    #[doc(alias = "pfifo_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let room = match self.bytes {
            true => s.backlog + u64::from(pkt_len(&skb)) <= u64::from(self.limit),
            false => s.qlen < self.limit,
        };
        if !room {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, if self.bytes { "bfifo_enqueue" } else { "pfifo_enqueue" });
            return Xmit::Drop;
        }
        s.hold(&skb);
        self.queue.push_back(skb);
        Xmit::Success
    }

    pub(super) fn dequeue(&mut self, s: &mut Stats) -> Option<Skb> {
        let skb = self.queue.pop_front()?;
        s.release(&skb);
        s.sent(&skb);
        Some(skb)
    }

    pub(super) fn front(&self) -> Option<&crate::net::core::skb::SkBuff> {
        self.queue.front().map(|s| &**s)
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        out.extend(self.queue.drain(..));
    }

    pub(super) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queue.iter()
    }
}
