//! What happened, as events: one branch when nobody watches, a bounded ring when somebody does, losses counted.
use crate::env::time::Nanos;
use crate::ids::{DevId, NsId, SockId};
use crate::net::drop::DropReason;
use belljar_wire::{Frame, PacketId};
use std::collections::VecDeque;

/// Changes when an event changes its meaning or its fields.
pub const SCHEMA_VERSION: u32 = 1;

/// Which way a packet passed a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    In,
    Out,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A packet where a packet socket would see it (`__netif_receive_skb_core`, `dev_hard_start_xmit`).
    Tap { dev: DevId, dir: Dir, frame: Box<Frame> },
    /// A packet reached a stage; the name is the kernel function's.
    Stage { packet: PacketId, stage: &'static str, dev: Option<DevId>, len: u32 },
    /// `kfree_skb`: the packet, as far as its headers still stand, where and why.
    Drop { packet: PacketId, reason: DropReason, at: &'static str, dev: Option<DevId>, frame: Box<Frame> },
    /// A rule of netfilter fits a packet, or no rule of a chain did and its policy decides.
    Rule { packet: PacketId, dev: Option<DevId>, hit: Box<RuleHit> },
    /// `tcp_set_state`.
    State { sock: SockId, old: &'static str, new: &'static str },
    /// A retransmission (`tcp_retransmit_skb`): first byte, length, why.
    Retransmit { sock: SockId, seq: u32, len: u32, why: &'static str },
}

/// Where a rule stands, and what it says in the words of iptables or nft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHit {
    pub hook: &'static str,
    pub table: String,
    pub chain: String,
    /// From 1; 0 is the policy.
    pub number: u32,
    pub says: String,
}

/// An event with its time.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: Nanos,
    /// The network namespace that it happened in.
    pub ns: Option<NsId>,
    pub event: Event,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub taps: bool,
    pub stages: bool,
    pub drops: bool,
    pub sockets: bool,
}

#[derive(Clone, Debug)]
pub struct Trace {
    pub wanted: Wanted,
    ring: VecDeque<Record>,
    limit: usize,
    /// Events that found the ring full.
    pub lost: u64,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { wanted: Wanted::default(), ring: VecDeque::new(), limit: 65_536, lost: 0 }
    }
}

impl Trace {
    pub fn set_limit(&mut self, events: usize) {
        self.limit = events.max(1);
    }

    pub fn push(&mut self, at: Nanos, ns: Option<NsId>, event: Event) {
        if self.ring.len() >= self.limit {
            self.lost += 1;
            return;
        }
        self.ring.push_back(Record { at, ns, event });
    }

    /// The oldest event, taken out.
    pub fn pop(&mut self) -> Option<Record> {
        self.ring.pop_front()
    }
}
