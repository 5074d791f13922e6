//! [`Story`]: what happened when, a bounded number of lines. The same thing again soon after is counted on its line.
use belljar_kernel::env::Nanos;
use belljar_kernel::net::drop::DropReason;
use belljar_wire::FlowKey;
use core::net::IpAddr;
use std::collections::VecDeque;

/// Lines kept from the beginning, and as many from the end.
pub const HALF: usize = 150;
/// Lines back that are looked at for the same thing.
const BACK: usize = 24;
/// Later than this after the last time it is a new line.
const GAP: Nanos = 10_000_000_000;

type Addr = (IpAddr, u16);

/// What makes two things the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Note,
    Retransmit(Addr, Addr, &'static str),
    Drop(DropReason, &'static str, Option<(IpAddr, u16, u8)>),
}

/// A line.
#[derive(Clone, Debug)]
pub struct Entry {
    pub first_at: Nanos,
    pub last_at: Nanos,
    pub count: u64,
    pub text: String,
    /// Something was lost or repeated.
    pub bad: bool,
    kind: Kind,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Story {
    head: Vec<Entry>,
    tail: VecDeque<Entry>,
    /// Lines between the two that are gone.
    pub skipped: u64,
}

impl Story {
    /// Something that happens once.
    pub fn note(&mut self, at: Nanos, text: impl Into<String>) {
        self.push(at, Kind::Note, false, || text.into());
    }

    pub(super) fn retransmitted(&mut self, at: Nanos, local: Addr, peer: Addr, why: &'static str) {
        let text = || format!("{}:{} retransmits to {}:{} ({why})", local.0, local.1, peer.0, peer.1);
        self.push(at, Kind::Retransmit(local, peer, why), true, text);
    }

    /// By destination: a queue that overflows turns many clients away.
    pub(super) fn dropped(&mut self, at: Nanos, reason: DropReason, place: &'static str, flow: Option<FlowKey>) {
        let text = || match flow {
            Some(f) => format!("dropped {f}: {} in {place}", reason.name()),
            None => format!("dropped a packet: {} in {place}", reason.name()),
        };
        self.push(at, Kind::Drop(reason, place, flow.map(|f| (f.dst, f.dport, f.proto))), true, text);
    }

    fn push(&mut self, at: Nanos, kind: Kind, bad: bool, text: impl FnOnce() -> String) {
        let same = |e: &&mut Entry| e.kind == kind && at.saturating_sub(e.last_at) < GAP;
        let recent = self.head.iter_mut().chain(self.tail.iter_mut()).rev().take(BACK);
        if kind != Kind::Note
            && let Some(e) = { recent }.find(same)
        {
            (e.last_at, e.count) = (at, e.count + 1);
            return;
        }
        let e = Entry { first_at: at, last_at: at, count: 1, text: text(), bad, kind };
        if self.head.len() < HALF {
            self.head.push(e);
            return;
        }
        if self.tail.len() == HALF {
            self.tail.pop_front();
            self.skipped += 1;
        }
        self.tail.push_back(e);
    }

    /// Lines of the beginning and of the end.
    pub fn entries(&self) -> (impl Iterator<Item = &Entry>, impl Iterator<Item = &Entry>) {
        (self.head.iter(), self.tail.iter())
    }
}
