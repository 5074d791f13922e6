//! What the counters do not tell and an account of a run needs: towards whom no port was free, which peers were given up and
//! by which patience, which connection waited for its receiver. Not part of Linux; bounded, and off every path of packets.
use super::handshake::overflow::Overflow;
use super::sock::TcpSock;
use crate::env::Nanos;
use crate::ids::NsId;
use crate::kernel::Kernel;
use crate::net::Net;
use core::net::IpAddr;

/// Destinations remembered.
const MOST: usize = 16;
/// Shorter waits for a window are the ordinary course of things.
const HELD_MS: u64 = 250;
/// An acknowledgement that is so much later than a round trip was delayed.
const LATE_MS: u32 = 25;

type Addr = (IpAddr, u16);

/// connect() found no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPort {
    pub to: Addr,
    /// The range it looked through, both ends included.
    pub range: (u16, u16),
    /// Of these ports, how many towards this destination were in TIME_WAIT the first time.
    pub time_wait: u32,
    pub count: u64,
}

/// Whose patience ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A SYN that nobody answered (tcp_syn_retries), and a SYN-ACK (tcp_synack_retries).
    Syn,
    SynAck,
    /// Data (tcp_retries2), also behind a closed window, and of connections that no program holds (tcp_orphan_retries).
    Data,
    Orphan,
    Keepalive,
}

/// Peers that were given up for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub why: Patience,
    pub last: Addr,
    pub count: u64,
}

/// A connection that could not send because of its receiver's window; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub local: Addr,
    pub peer: Addr,
    pub busy_ms: u64,
    pub held_ms: u64,
}

/// A connection whose full segments nobody acknowledges, while smaller ones got through: so does a path behave on which a
/// link is too narrow and the ICMP that would say so is lost (RFC 2923 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub local: Addr,
    pub peer: Addr,
    /// Bytes of a full segment.
    pub mss: u16,
    /// Since the first of them was sent.
    pub waited_ms: u32,
}

/// Small writes that waited for the acknowledgement of the one before them, and it came late (RFC 896, RFC 1122 §4.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nagled {
    pub count: u64,
    pub total_ms: u64,
    /// The connection of the last one.
    pub local: Addr,
    pub peer: Addr,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Queues of listeners that overflowed.
    pub overflows: Vec<Overflow>,
    pub no_ports: Vec<NoPort>,
    pub given_up: Vec<GivenUp>,
    /// How many connections, and the one that waited longest.
    pub stuck: (u64, Option<Stuck>),
    pub nagled: Option<Nagled>,
    /// Of the connections that are over: how many were held up, and the one that was longest.
    held: (u64, Option<Held>),
}

impl Account {
    /// `time_wait` is asked the first time only: it may have to look far.
    pub(super) fn no_port(&mut self, to: Addr, range: (u16, u16), time_wait: impl FnOnce() -> u32) {
        if let Some(n) = self.no_ports.iter_mut().find(|n| n.to == to) {
            (n.count, n.range) = (n.count + 1, range);
        } else if self.no_ports.len() < MOST {
            self.no_ports.push(NoPort { to, range, time_wait: time_wait(), count: 1 });
        }
    }

    pub(super) fn gave_up(&mut self, why: Patience, last: Addr) {
        match self.given_up.iter_mut().find(|g| g.why == why) {
            Some(g) => (g.last, g.count) = (last, g.count + 1),
            None => self.given_up.push(GivenUp { why, last, count: 1 }),
        }
    }

    pub(super) fn stuck(&mut self, s: Stuck, first: bool) {
        self.stuck.0 += u64::from(first);
        if self.stuck.1.is_none_or(|o| o.waited_ms < s.waited_ms) {
            self.stuck.1 = Some(s);
        }
    }

    fn held(&mut self, h: Held) {
        self.held.0 += 1;
        if self.held.1.is_none_or(|o| o.held_ms < h.held_ms) {
            self.held.1 = Some(h);
        }
    }

    /// A connection is over.
    pub(super) fn over(&mut self, sk: &TcpSock, tick_ms: u64, now: u32) {
        if let Some(h) = held(sk, tick_ms, now) {
            self.held(h);
        }
    }
}

/// A piece that Nagle held goes. A wait of a round trip is the network's, what is beyond is the peer's, which delays its
/// acknowledgements.
#[cold]
pub(super) fn nagle_over(sk: &mut TcpSock, net: &mut Net) {
    let since = std::mem::take(&mut sk.track().nagle_ms);
    let waited = net.env.now_ms().wrapping_sub(since);
    if waited < sk.rtt.min_us / 1000 + LATE_MS {
        return;
    }
    let (local, peer) = ((sk.sk.rcv_saddr, sk.sk.num), (sk.sk.daddr, sk.sk.dport));
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    let t = n.tcp.account.nagled.get_or_insert(Nagled { count: 0, total_ms: 0, local, peer });
    (t.count, t.total_ms) = (t.count + 1, t.total_ms + u64::from(waited));
    (t.local, t.peer) = (local, peer);
}

fn held(sk: &TcpSock, tick_ms: u64, now: u32) -> Option<Held> {
    let [busy, rwnd, _] = sk.track.as_deref()?.chrono.read(now);
    let (busy_ms, held_ms) = (busy * tick_ms, rwnd * tick_ms);
    let (local, peer) = ((sk.sk.rcv_saddr, sk.sk.num), (sk.sk.daddr, sk.sk.dport));
    (held_ms >= HELD_MS).then_some(Held { local, peer, busy_ms, held_ms })
}

/// How many connections of a namespace had to wait for their receivers, and the one that had to longest; those that are
/// still there as well.
pub fn held_up(k: &Kernel, ns: NsId) -> Option<(u64, Held)> {
    let mut all = Account { held: k.net.ns.get(ns)?.tcp.account.held, ..Account::default() };
    let (tick_ms, now) = (1000 / u64::from(k.net.env.hz.max(1)), k.net.env.jiffies());
    let open = k.socks.tcp.iter().filter(|(_, sk)| sk.sk.ns == ns && sk.state != super::state::State::Close);
    open.filter_map(|(_, sk)| held(sk, tick_ms, now)).for_each(|h| all.held(h));
    all.held.1.map(|h| (all.held.0, h))
}

/// For how long something went on, in seconds.
pub fn seconds(from: Nanos, to: Nanos) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}
