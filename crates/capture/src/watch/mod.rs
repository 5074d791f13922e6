//! [`Watch`]: what a report at the end of a run is told from, gathered while the kernel runs, in bounded memory: figures
//! over time, listeners with the deepest their queues were seen, the connections that moved or repeated most, and a line
//! for everything out of the ordinary.
//!
//! The driver loop calls [`Watch::sample`] when [`Watch::due`] says so and hands every event to [`Watch::record`]; events
//! of drops and sockets are enough. Nothing here changes the kernel or reads a clock.
mod conns;
mod series;
mod story;

pub use conns::{Conn, Conns};
pub use series::{Sample, Series, TRACKED};
pub use story::{Entry, Story};

use belljar_kernel::Kernel;
use belljar_kernel::env::Nanos;
use belljar_kernel::env::trace::{Event, Record, Wanted};
use belljar_kernel::ids::{NsId, SockId, TcpId};
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::Mib;
use belljar_wire::FlowKey;
use core::net::IpAddr;

/// Listeners kept, and looked at in one sample.
const LISTENERS: usize = 64;

/// Ends of packets that are the ordinary course of things.
pub fn ordinary(r: DropReason) -> bool {
    use DropReason::*;
    matches!(
        r,
        NotSpecified
            | NoSocket
            | OtherHost
            | TcpClose
            | TcpReset
            | TcpOldData
            | TcpOldSequence
            | TcpOfomerge
            | TcpFlags
            | TcpAbortOnData
            | SocketClose
            | SocketDestroyed
            | QueuePurge
            | UnhandledProto
            | IpNoProto
    )
}

/// A listener as the samples saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSeen {
    pub addr: IpAddr,
    pub port: u16,
    /// Limit of the accept queue; one more is admitted.
    pub limit: u32,
    /// The most connections that waited for accept, and the most half-open ones.
    pub peak_accept: u32,
    pub peak_syn: u32,
    /// Its place in [`Sample::backlog`]; only listeners with something in their queue have one.
    pub track: Option<usize>,
    pub open: bool,
}

/// Counters at the last sample.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    rx_bytes: u64,
    tx_bytes: u64,
    retrans: u64,
    overflows: u64,
    drops: u64,
    link: u64,
    opened: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watch {
    ns: NsId,
    pub series: Series,
    pub listeners: Vec<ListenerSeen>,
    pub conns: Conns,
    pub story: Story,
    last: Last,
    tracks: usize,
}

impl Watch {
    /// From `start` on; the first samples are `step` apart.
    pub fn new(ns: NsId, start: Nanos, step: Nanos) -> Watch {
        Watch {
            ns,
            series: Series::new(start, step),
            listeners: Vec::new(),
            conns: Conns::default(),
            story: Story::default(),
            last: Last::default(),
            tracks: 0,
        }
    }

    /// The events that it needs.
    pub fn wanted() -> Wanted {
        Wanted { drops: true, sockets: true, ..Wanted::default() }
    }

    /// When the next sample is due.
    pub fn due(&self) -> Nanos {
        self.series.next_at()
    }

    /// Adds what happened since the last sample. `link`: packets that the link took away so far.
    pub fn sample(&mut self, now: Nanos, k: &Kernel, link: u64) {
        let Some(n) = k.net.ns.get(self.ns) else { return };
        let get = |m| n.mib.get(m);
        let told = |r: DropReason| !ordinary(r) && !matches!(r, DropReason::LinkLoss | DropReason::LinkLimit);
        let is = Last {
            rx_bytes: get(Mib::IpExtInOctets),
            tx_bytes: get(Mib::IpExtOutOctets),
            retrans: get(Mib::TcpRetransSegs),
            overflows: get(Mib::TcpExtListenDrops),
            drops: k.net.pool.drops().filter(|(r, _)| told(*r)).map(|(_, n)| n).sum(),
            link,
            opened: get(Mib::TcpActiveOpens) + get(Mib::TcpPassiveOpens),
        };
        let (was, mut backlog) = (std::mem::replace(&mut self.last, is), [0; TRACKED]);
        self.queues(k, &mut backlog);
        self.series.add(
            now,
            &Sample {
                rx_bytes: is.rx_bytes.saturating_sub(was.rx_bytes),
                tx_bytes: is.tx_bytes.saturating_sub(was.tx_bytes),
                retrans: is.retrans.saturating_sub(was.retrans),
                overflows: is.overflows.saturating_sub(was.overflows),
                drops: is.drops.saturating_sub(was.drops),
                link: is.link.saturating_sub(was.link),
                opened: is.opened.saturating_sub(was.opened),
                established: get(Mib::TcpCurrEstab),
                backlog,
            },
        );
    }

    fn queues(&mut self, k: &Kernel, backlog: &mut [u32; TRACKED]) {
        let Some(n) = k.net.ns.get(self.ns) else { return };
        self.listeners.iter_mut().for_each(|l| l.open = false);
        for id in n.tcp.listeners.values().flatten().take(LISTENERS) {
            let Some(sk) = k.socks.tcp.get(*id) else { continue };
            let Some(l) = sk.listener.as_deref() else { continue };
            let (accept, syn) = (l.accept.len() as u32, l.qlen);
            let Some(seen) = self.listener(sk.sk.rcv_saddr, sk.sk.num).and_then(|at| self.listeners.get_mut(at)) else {
                continue;
            };
            (seen.open, seen.limit) = (true, l.max_ack_backlog);
            (seen.peak_accept, seen.peak_syn) = (seen.peak_accept.max(accept), seen.peak_syn.max(syn));
            if seen.track.is_none() && accept > 0 && self.tracks < TRACKED {
                seen.track = Some(self.tracks);
                self.tracks += 1;
            }
            if let Some(b) = seen.track.and_then(|t| backlog.get_mut(t)) {
                *b = (*b).max(accept);
            }
        }
    }

    /// The listener of an address; a new one while there is room.
    fn listener(&mut self, addr: IpAddr, port: u16) -> Option<usize> {
        let at = self.listeners.iter().position(|l| (l.addr, l.port) == (addr, port));
        if at.is_some() || self.listeners.len() >= LISTENERS {
            return at;
        }
        let new = ListenerSeen { addr, port, limit: 0, peak_accept: 0, peak_syn: 0, track: None, open: true };
        self.listeners.push(new);
        Some(self.listeners.len() - 1)
    }

    /// An event of this kernel, soon after it happened.
    pub fn record(&mut self, k: &Kernel, r: &Record) {
        match &r.event {
            Event::State { sock: SockId::Tcp(id), old, new } => self.state(k, r.at, *id, old, new),
            Event::Retransmit { sock: SockId::Tcp(id), why, .. } => {
                if let Some(sk) = k.socks.tcp.get(*id) {
                    let (local, peer) = ((sk.sk.rcv_saddr, sk.sk.num), (sk.sk.daddr, sk.sk.dport));
                    self.story.retransmitted(r.at, local, peer, why);
                    // A connection that never comes about ends without a trace.
                    self.conns.offer(*id, sk, &k.net, sk.state.name());
                }
            }
            Event::Drop { reason, at, frame, .. } if !ordinary(*reason) => {
                self.story.dropped(r.at, *reason, at, FlowKey::dissect(frame));
            }
            _ => {}
        }
    }

    fn state(&mut self, k: &Kernel, at: Nanos, id: TcpId, old: &'static str, new: &'static str) {
        let Some(sk) = k.socks.tcp.get(id).filter(|sk| sk.sk.ns == self.ns) else { return };
        if new == "LISTEN" {
            let limit = sk.listener.as_ref().map_or(0, |l| l.max_ack_backlog);
            let (addr, port) = (sk.sk.rcv_saddr, sk.sk.num);
            if let Some(l) = self.listener(addr, port).and_then(|at| self.listeners.get_mut(at)) {
                (l.limit, l.open) = (limit, true);
            }
            self.story
                .note(at, format!("listens on {addr}:{port}, at most {limit} + 1 connections may wait for accept"));
        } else if old != "LISTEN" && new != "SYN_SENT" && new != "ESTABLISHED" {
            // What it has moved by now; once the socket is gone nobody knows.
            self.conns.offer(id, sk, &k.net, if new == "CLOSE" { old } else { new });
        }
    }

    /// The connections that are still there.
    pub fn finish(&mut self, now: Nanos, k: &Kernel, link: u64) {
        self.sample(now, k, link);
        for (id, sk) in k.socks.tcp.iter().filter(|(_, sk)| sk.sk.ns == self.ns && sk.listener.is_none()) {
            self.conns.offer(id, sk, &k.net, sk.state.name());
        }
    }
}

#[cfg(test)]
mod tests;
