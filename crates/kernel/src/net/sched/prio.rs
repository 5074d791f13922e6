//! prio: bands with strict priority, each with a discipline of its own.
use super::{Ctx, Qdisc, Stats, Xmit, cls};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::sched::api::{TcError, einval};
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;

const MAX_BANDS: u32 = 16;
const MIN_BANDS: u32 = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct Prio {
    pub bands: Vec<Qdisc>,
    prio2band: [u8; 16],
    pub filters: cls::Filters,
}

impl Prio {
    pub(super) fn new(handle: u32, opts: Option<&[u8]>, cx: &mut Ctx<'_>) -> Result<Prio, TcError> {
        let mut q = Prio { bands: Vec::new(), prio2band: [0; 16], filters: cls::Filters::default() };
        q.change(handle, opts, cx)?;
        Ok(q)
    }

    /// `tc_prio_qopt`. Bands that go take their packets with them.
    #[doc(alias = "prio_tune")]
    pub(super) fn change(&mut self, handle: u32, opts: Option<&[u8]>, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let o = opts.filter(|o| o.len() >= 20).ok_or_else(einval)?;
        let bands = u32_at(o, 0).filter(|n| (MIN_BANDS..=MAX_BANDS).contains(n)).ok_or_else(einval)?;
        let map: [u8; 16] = *o[4..].first_chunk().ok_or_else(einval)?;
        if map.iter().any(|b| u32::from(*b) >= bands) {
            return Err(einval());
        }
        let mut gone = Vec::new();
        while self.bands.len() as u32 > bands {
            self.bands.pop().into_iter().for_each(|mut q| q.reset(&mut gone));
        }
        for skb in gone {
            cx.drop(skb, DropReason::QdiscDrop, "prio_tune");
        }
        while (self.bands.len() as u32) < bands {
            let class = handle | (self.bands.len() as u32 + 1);
            self.bands.push(Qdisc::pfifo(class, cx.tx_queue_len));
        }
        self.prio2band = map;
        Ok(())
    }

    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let mut b = (self.bands.len() as u32).to_ne_bytes().to_vec();
        b.extend_from_slice(&self.prio2band);
        m.body(&b);
    }

    /// The band, from 0; otherwise what the filters said.
    #[doc(alias = "prio_classify")]
    fn classify(&mut self, handle: u32, skb: &Skb, cx: &mut Ctx<'_>) -> Result<usize, cls::Verdict> {
        let n = self.bands.len();
        let by_map = |prio: u32| usize::from(self.prio2band[(prio & 15) as usize]);
        let mut band = skb.priority;
        if skb.priority & TC_H_MAJ_MASK != handle {
            match self.filters.classify(skb, cx) {
                cls::Verdict::Class(id) => band = id,
                cls::Verdict::None => return Ok(by_map(if band & TC_H_MAJ_MASK != 0 { 0 } else { band })),
                other => return Err(other),
            }
        }
        let at = (band & TC_H_MIN_MASK).wrapping_sub(1) as usize;
        Ok(if at < n { at } else { usize::from(self.prio2band[0]) })
    }

    #[doc(alias = "prio_enqueue")]
    pub(super) fn enqueue(&mut self, s: &mut Stats, handle: u32, skb: Skb, cx: &mut Ctx<'_>) -> Xmit {
        let band = match self.classify(handle, &skb, cx) {
            Err(cls::Verdict::Stolen) => return cx.steal(skb, "prio_enqueue"),
            band => band.ok(),
        };
        let Some(q) = band.and_then(|b| self.bands.get_mut(b)) else {
            s.drops += 1;
            cx.drop(skb, DropReason::QdiscDrop, "prio_enqueue");
            return Xmit::Bypass;
        };
        let was = q.stats;
        let sent = q.enqueue(skb, cx);
        s.follow(was, q.stats);
        sent
    }

    pub(super) fn dequeue(&mut self, s: &mut Stats, cx: &mut Ctx<'_>) -> Option<Skb> {
        for q in &mut self.bands {
            let was = q.stats;
            let skb = q.dequeue(cx);
            s.follow(was, q.stats);
            if let Some(skb) = skb {
                s.sent(&skb);
                return Some(skb);
            }
        }
        None
    }

    pub(super) fn reset(&mut self, out: &mut Vec<Skb>) {
        self.bands.iter_mut().for_each(|q| q.reset(out));
    }
}
