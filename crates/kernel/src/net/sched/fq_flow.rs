//! A flow of fq: its packets by departure time, its credit, and which list it is on.
use crate::env::Nanos;
use crate::ids::TcpId;
use crate::net::core::skb::Skb;
use std::collections::VecDeque;

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowKey {
    Sock(TcpId),
    Hash(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Detached,
    New,
    Old,
    Throttled,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Flow {
    /// When a packet wants to leave, the packet, the band that counts it.
    pub queue: VecDeque<(Nanos, Skb, usize)>,
    pub credit: i64,
    pub next_packet: Nanos,
    /// When its queue became empty.
    pub age: Nanos,
    pub band: usize,
    pub list: List,
}

impl Flow {
    pub fn new(credit: i64, now: Nanos) -> Flow {
        Flow { queue: VecDeque::new(), credit, next_packet: 0, age: now, band: 0, list: List::Detached }
    }

    /// By its departure time, behind those of the same.
    pub fn add(&mut self, skb: Skb, now: Nanos, band: usize) {
        let at = if skb.tstamp == 0 { now } else { skb.tstamp };
        if self.queue.back().is_none_or(|b| b.0 <= at) {
            return self.queue.push_back((at, skb, band));
        }
        let i = self.queue.partition_point(|e| e.0 <= at);
        self.queue.insert(i, (at, skb, band));
    }

    /// When the first packet may leave.
    pub fn due(&self) -> Option<Nanos> {
        self.queue.front().map(|e| e.0.max(self.next_packet))
    }

    pub fn pop(&mut self) -> Option<(Skb, usize)> {
        self.queue.pop_front().map(|(_, skb, band)| (skb, band))
    }
}
