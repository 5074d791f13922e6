//! What a discipline may use of the world around it while it is lent.
use super::Xmit;
use super::act::Acts;
use crate::env::{Env, Nanos, Rise};
use crate::ids::SockId;
use crate::mem::Pool;
use crate::net::core::skb::{Owner, SkBuff, Skb};
use crate::net::drop::DropReason;

/// A packet that a discipline gave up.
pub type Dropped = (Skb, DropReason, &'static str);

/// What a discipline may use of the world around it.
#[derive(Debug)]
pub struct Ctx<'a> {
    pub now: Nanos,
    pub env: &'a mut Env,
    pub pool: &'a mut Pool,
    pub acts: &'a mut Acts,
    pub mtu: u32,
    pub tx_queue_len: u32,
    /// Transmit queues that take nothing now.
    pub xoff: u32,
    /// How many the device has, and what mq puts at each of them.
    pub tx_queues: u16,
    pub default_qdisc: &'static str,
    pub drops: Vec<Dropped>,
    /// When the tree wants to be asked again.
    pub wake: Nanos,
    /// Copies that netem made; they enter at the root.
    pub copies: Vec<Skb>,
    /// No copies of copies.
    pub copying: bool,
}

impl<'a> Ctx<'a> {
    pub fn new((env, pool, acts): (&'a mut Env, &'a mut Pool, &'a mut Acts), mtu: u32, tx_queue_len: u32) -> Ctx<'a> {
        let now = env.now;
        Ctx {
            now,
            env,
            pool,
            acts,
            mtu,
            tx_queue_len,
            xoff: 0,
            tx_queues: 1,
            default_qdisc: "pfifo_fast",
            drops: Vec::new(),
            wake: Nanos::MAX,
            copies: Vec::new(),
            copying: false,
        }
    }

    pub(super) fn wake_at(&mut self, at: Nanos) {
        self.wake = self.wake.min(at);
    }

    pub(super) fn drop(&mut self, skb: Skb, reason: DropReason, at: &'static str) {
        self.drops.push((skb, reason, at));
    }

    /// The largest frame of the device (`psched_mtu`).
    pub(super) fn psched_mtu(&self) -> u32 {
        self.mtu + 14
    }

    /// Bytes that wait for a long time count no longer as the sender's (`skb_orphan_partial`).
    pub(super) fn orphan(&mut self, skb: &mut Skb) {
        if let Some(free) = std::mem::take(&mut skb.owner).free(skb.truesize) {
            self.env.rises.push_back(free);
        }
    }

    pub(super) fn clone_skb(&mut self, skb: &SkBuff) -> Skb {
        clone_of(skb, self.env, self.pool)
    }

    /// A filter says that the packet is not its sender's any more: it goes to another device, or nowhere.
    pub(super) fn steal(&mut self, skb: Skb, at: &'static str) -> Xmit {
        if let Some(skb) = self.acts.way.take(skb) {
            self.drop(skb, DropReason::QdiscDrop, at);
        }
        Xmit::Success
    }

    /// A super-segment cut into what a wire carries; the last piece has the charge.
    pub(super) fn segment(&mut self, mut skb: Skb) -> Vec<Skb> {
        let mut out: Vec<Skb> = Vec::new();
        for frame in belljar_wire::gso::segment(skb.to_frame()) {
            let mut piece = self.pool.take_skb();
            skb.piece(&mut piece, frame);
            out.push(piece);
        }
        if let Some(last) = out.last_mut() {
            skb.hand_over(last);
        }
        self.pool.give_skb(skb);
        out
    }

    pub(super) fn pacing_by_fq(&mut self, sock: SockId) {
        self.env.rises.push_back(Rise::Pacing { sock });
    }
}

/// A copy that shares the payload and belongs to nobody.
pub(super) fn clone_of(skb: &SkBuff, env: &mut Env, pool: &mut Pool) -> Skb {
    let mut copy = pool.take_skb();
    *copy = skb.clone();
    (copy.id, copy.owner, copy.tx) = (env.packet_id(), Owner::None, None);
    copy
}
