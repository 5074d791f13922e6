//! [`Pipe`]: one direction of a link.
use crate::{Conditions, Rng};
use belljar_wire::{Csum, Frame, Seg, Segs, ethernet, flow, gso, ipv4};
use std::collections::VecDeque;

/// A packet held back for reordering waits for at most this many others …
const HELD_BEHIND: u8 = 3;
/// … and this long.
const HELD_NS: u64 = 2_000_000;
/// Frames that an unconditioned pipe keeps if nobody takes them.
const PASS_LIMIT: usize = 1 << 16;
/// Drop records kept until they are taken; later ones are counted only.
const MAX_DROPS: usize = 256;

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The dice of `loss`.
    Loss,
    /// The queue was at its limit.
    Overlimit,
    /// It came faster than the policer allows.
    Policed,
}

impl Why {
    /// For capture comments.
    pub fn name(self) -> &'static str {
        match self {
            Why::Loss => "LINK_LOSS",
            Why::Overlimit => "LINK_OVERLIMIT",
            Why::Policed => "LINK_POLICED",
        }
    }
}

/// A packet that the link took away.
#[derive(Clone, Debug)]
pub struct Dropped {
    pub at_ns: u64,
    pub why: Why,
    pub frame: Frame,
}

/// Packets, wire-sized where conditions apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Handed over at the other end, and their bytes.
    pub sent: u64,
    pub bytes: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    pub overlimit: u64,
    /// Got a congestion mark.
    pub marked: u64,
    /// Faster than the policer allows.
    pub policed: u64,
    pub longest: Wait,
}

/// The longest that a packet waited for those before it to leave, and what the link's rate and limit were then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    pub ns: u64,
    pub rate_bps: u64,
    pub limit: usize,
}

#[derive(Clone, Debug)]
struct Held {
    frame: Frame,
    behind: u8,
    until: u64,
}

#[derive(Clone, Debug)]
pub struct Pipe {
    conditions: Conditions,
    rng: Rng,
    /// Sorted by arrival time, equal times in order of entry.
    queue: VecDeque<(u64, Frame)>,
    held: VecDeque<Held>,
    /// When the transmitter is free again (rate).
    busy_until: u64,
    bucket: Bucket,
    stats: Stats,
    drops: Vec<Dropped>,
}

/// What the policer would let through now, in bits times 10⁹, as of `at`.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    tokens: u128,
    at: u64,
}

impl Bucket {
    /// Fills with time up to the burst; true when `len` bytes may pass, which takes them out.
    #[doc(alias = "tcf_police_act")]
    fn passes(&mut self, now: u64, bps: u64, burst: u64, len: usize) -> bool {
        const BYTE: u128 = 8_000_000_000;
        let earned = u128::from(now.saturating_sub(self.at)) * u128::from(bps);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + earned).min(u128::from(burst) * BYTE);
        match self.tokens.checked_sub(len as u128 * BYTE) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

impl Pipe {
    pub fn new(seed: u64) -> Pipe {
        Pipe {
            conditions: Conditions::default(),
            rng: Rng::new(seed),
            queue: VecDeque::new(),
            held: VecDeque::new(),
            busy_until: 0,
            bucket: Bucket { tokens: u128::MAX >> 1, at: 0 },
            stats: Stats::default(),
            drops: Vec::new(),
        }
    }

    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// From now on; what is under way keeps its time of arrival, and with a rate before and after, what follows queues
    /// behind it.
    pub fn set(&mut self, conditions: Conditions) {
        if self.conditions.rate_bps.is_none() || conditions.rate_bps.is_none() {
            self.busy_until = 0;
        }
        self.conditions = conditions;
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The packets that were taken away since the last call, at most 256.
    pub fn take_drops(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.drops)
    }

    /// Packets in the pipe.
    pub fn len(&self) -> usize {
        self.queue.len() + self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A frame enters. Under any condition it is cut to wire size first and its checksums are made real.
    pub fn push(&mut self, now_ns: u64, frame: Frame) {
        if self.conditions.is_none() {
            if self.len() >= PASS_LIMIT {
                return self.drop_frame(now_ns, Why::Overlimit, frame);
            }
            // Behind what is still under way from earlier conditions.
            let at = self.queue.back().map_or(now_ns, |(at, _)| now_ns.max(*at));
            return self.arrive(now_ns, at, frame);
        }
        gso::segment(frame).for_each(|f| self.push_one(now_ns, f));
    }

    #[doc(alias = "netem_enqueue")]
    fn push_one(&mut self, now: u64, frame: Frame) {
        let c = self.conditions;
        let twice = self.rng.chance(c.duplicate);
        let lost = self.rng.chance(c.loss);
        self.stats.duplicated += twice as u64;
        self.stats.lost += lost as u64;
        match (twice, lost) {
            (false, true) => self.record(now, Why::Loss, frame),
            (true, false) => {
                self.enqueue(now, frame.clone());
                self.enqueue(now, frame);
            }
            _ => self.enqueue(now, frame),
        }
    }

    fn enqueue(&mut self, now: u64, mut frame: Frame) {
        let c = self.conditions;
        if self.rng.chance(c.corrupt) && corrupt(&mut frame, &mut self.rng) {
            self.stats.corrupted += 1;
        }
        if let Some(bps) = c.police_bps
            && !self.bucket.passes(now, bps, c.burst, frame.len())
        {
            self.stats.policed += 1;
            return self.record(now, Why::Policed, frame);
        }
        if self.len() >= c.limit {
            return self.drop_frame(now, Why::Overlimit, frame);
        }
        if c.ecn.is_some_and(|n| self.len() >= n) && mark_ce(&mut frame) {
            self.stats.marked += 1;
        }
        let depart = c.rate_bps.map_or(now, |bps| {
            let ns = (frame.len() as u128 * 8 * 1_000_000_000 / bps.max(1) as u128).min(u64::MAX as u128) as u64;
            let ns_before = self.busy_until.saturating_sub(now);
            if ns_before > self.stats.longest.ns {
                self.stats.longest = Wait { ns: ns_before, rate_bps: bps, limit: c.limit };
            }
            self.busy_until = self.busy_until.max(now).saturating_add(ns);
            self.busy_until
        });
        let reordered = self.rng.chance(c.reorder);
        if reordered && c.delay_ns == 0 {
            self.stats.reordered += 1;
            self.held.push_back(Held { frame, behind: HELD_BEHIND, until: depart.saturating_add(HELD_NS) });
            return;
        }
        let delay = if reordered {
            self.stats.reordered += 1;
            0
        } else {
            self.delay()
        };
        self.arrive(now, depart.saturating_add(delay), frame);
    }

    fn delay(&mut self) -> u64 {
        let c = self.conditions;
        if c.jitter_ns == 0 {
            return c.delay_ns;
        }
        (c.delay_ns + self.rng.below(c.jitter_ns.saturating_mul(2).saturating_add(1))).saturating_sub(c.jitter_ns)
    }

    /// Into the queue, and behind it whatever has been held back long enough.
    fn arrive(&mut self, now: u64, at: u64, frame: Frame) {
        self.insert(at, frame);
        self.held.iter_mut().for_each(|h| h.behind = h.behind.saturating_sub(1));
        self.release(|h| h.behind == 0 || h.until <= now, at);
    }

    fn release(&mut self, due: impl Fn(&Held) -> bool, at: u64) {
        while self.held.front().is_some_and(&due) {
            let Some(h) = self.held.pop_front() else { break };
            self.insert(at, h.frame);
        }
    }

    #[doc(alias = "tfifo_enqueue")]
    fn insert(&mut self, at: u64, frame: Frame) {
        match self.queue.back() {
            Some((last, _)) if *last > at => {
                let i = self.queue.partition_point(|(t, _)| *t <= at);
                self.queue.insert(i, (at, frame));
            }
            _ => self.queue.push_back((at, frame)),
        }
    }

    /// The next frame that has arrived.
    pub fn pop(&mut self, now_ns: u64) -> Option<Frame> {
        self.release(|h| h.until <= now_ns, now_ns);
        let (at, _) = self.queue.front()?;
        if *at > now_ns {
            return None;
        }
        let (_, frame) = self.queue.pop_front()?;
        self.stats.sent += 1;
        self.stats.bytes += frame.len() as u64;
        Some(frame)
    }

    /// When [`Pipe::pop`] will have something.
    pub fn next_deadline(&self) -> Option<u64> {
        let queued = self.queue.front().map(|(at, _)| *at);
        queued.into_iter().chain(self.held.front().map(|h| h.until)).min()
    }

    fn drop_frame(&mut self, now: u64, why: Why, frame: Frame) {
        self.stats.overlimit += 1;
        self.record(now, why, frame);
    }

    fn record(&mut self, at_ns: u64, why: Why, frame: Frame) {
        if self.drops.len() < MAX_DROPS {
            self.drops.push(Dropped { at_ns, why, frame });
        }
    }
}

/// Congestion experienced: both bits of the IP header, for a packet that says it understands them.
#[doc(alias = "INET_ECN_set_ce")]
fn mark_ce(frame: &mut Frame) -> bool {
    let Some(at) = flow::net_offset(frame) else { return false };
    let Some(ip) = frame.head.bytes_mut().get_mut(at..) else { return false };
    let Some(&[first, second]) = ip.first_chunk::<2>() else { return false };
    // The IPv6 traffic class begins in the middle of the first byte (RFC 8200 §3).
    let v6 = first >> 4 == 6;
    let shift = if v6 { 4 } else { 0 };
    if !matches!(second >> shift & 3, 1 | 2) {
        return false;
    }
    if let Some(byte) = ip.get_mut(1) {
        *byte |= 3 << shift;
    }
    // IPv6 has no header checksum; in its place there are addresses.
    if !v6 && let Some(header) = ip.get_mut(..usize::from(first & 15) * 4) {
        ipv4::set_checksum(header);
    }
    true
}

/// Flips one bit of the packet behind the Ethernet header. The frame's checksums are in its bytes already; now the
/// receiver must look at them.
fn corrupt(frame: &mut Frame, rng: &mut Rng) -> bool {
    let skip = flow::net_offset(frame).unwrap_or(ethernet::ETH_HLEN.min(frame.head.len()));
    let Some(room) = frame.len().checked_sub(skip).filter(|n| *n > 0) else { return false };
    let at = skip + rng.below(room as u64) as usize;
    let bit = 1u8 << rng.below(8);
    frame.csum = Csum::None;
    let in_payload = at.checked_sub(frame.head.len());
    match in_payload {
        None => frame.head.bytes_mut().get_mut(at).map(|b| *b ^= bit).is_some(),
        Some(at) => {
            // The buffer is shared with the sender's queue: only the copy on the wire may change.
            let mut rest = std::mem::take(&mut frame.payload);
            let mut out = rest.split_to(at);
            let hit: Vec<u8> = rest.split_to(1).to_vec().into_iter().map(|b| b ^ bit).collect();
            out.push(Seg::from_vec(hit));
            out.append(rest);
            frame.payload = flat(out);
            true
        }
    }
}

/// Few pieces again, so that corrupting many times does not shred a packet.
fn flat(segs: Segs) -> Segs {
    Segs::from(segs.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::ethernet::{ETH_P_IP, ETH_P_IPV6, EthHeader, Mac};
    use belljar_wire::ipv4::{IPPROTO_TCP, Ipv4Header};
    use belljar_wire::ipv6::Ipv6Header;
    use belljar_wire::tcp::{Flags, TcpHeader};
    use belljar_wire::{Gso, GsoType, checksum};
    use core::net::{Ipv4Addr, Ipv6Addr};

    const MS: u64 = 1_000_000;

    fn tcp(id: u64, len: usize) -> Frame {
        let (src, dst) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let mut f = Frame { id, csum: Csum::Partial, payload: vec![id as u8; len].into(), ..Frame::default() };
        let csum = checksum::partial(checksum::pseudo_v4(src, dst, IPPROTO_TCP, 20 + len));
        let t =
            TcpHeader { src_port: 80, dst_port: 4000, header_len: 20, flags: Flags::ACK, csum, ..Default::default() };
        t.emit(f.head.push(20).unwrap());
        let ip = Ipv4Header { total_len: 40 + len as u16, proto: IPPROTO_TCP, src, dst, ..Default::default() };
        ip.emit(f.head.push(20).unwrap());
        EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ethertype: ETH_P_IP }.emit(f.head.push(14).unwrap());
        f
    }

    fn pipe(words: &str) -> Pipe {
        let mut p = Pipe::new(1);
        p.set(Conditions::default().apply(words.split(' ')).unwrap());
        p
    }

    fn drain(p: &mut Pipe) -> Vec<(u64, Frame)> {
        let mut out = Vec::new();
        while let Some(at) = p.next_deadline() {
            out.extend(std::iter::from_fn(|| p.pop(at)).map(|f| (at, f)));
        }
        out
    }

    #[test]
    fn without_conditions_frames_pass_whole_and_at_once() {
        let mut p = Pipe::new(1);
        let mut f = tcp(1, 30_000);
        f.gso = Some(Gso::new(GsoType::TcpV4, 1460, 21));
        p.push(5, f);
        assert_eq!(p.next_deadline(), Some(5));
        let f = p.pop(5).unwrap();
        assert_eq!((f.gso.is_some(), f.csum, p.next_deadline()), (true, Csum::Partial, None));
    }

    #[test]
    fn delay_is_exact_and_super_segments_are_cut() {
        let mut p = pipe("delay 20ms");
        let mut f = tcp(1, 14_600);
        f.gso = Some(Gso::new(GsoType::TcpV4, 1460, 10));
        p.push(MS, f);
        assert!(p.pop(21 * MS - 1).is_none());
        let out = drain(&mut p);
        assert_eq!(out.len(), 10);
        for (at, f) in out {
            assert_eq!((at, f.len(), gso::verify(&Frame::from_bytes(&f.to_vec(), 0))), (21 * MS, 1514, Ok(())));
        }
    }

    #[test]
    fn loss_is_counted_recorded_and_repeats_with_the_seed() {
        let run = || {
            let mut p = pipe("loss 5%");
            (0..2000).for_each(|i| p.push(i, tcp(i, 10)));
            let ids: Vec<u64> = drain(&mut p).iter().map(|(_, f)| f.id).collect();
            (ids, p.stats(), p.take_drops().len())
        };
        let (ids, stats, drops) = run();
        assert!((60..140).contains(&stats.lost), "{stats:?}");
        assert_eq!((ids.len() as u64 + stats.lost + stats.overlimit, drops as u64), (2000, MAX_DROPS as u64));
        assert_eq!(run().0, ids);
    }

    #[test]
    fn rate_spaces_packets_and_limit_drops() {
        let mut p = pipe("rate 8mbit limit 5");
        (0..10).for_each(|i| p.push(0, tcp(i, 946)));
        let at: Vec<u64> = drain(&mut p).iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS]);
        assert_eq!(p.stats().overlimit, 5);
        assert_eq!(p.stats().longest, Wait { ns: 4 * MS, rate_bps: 8_000_000, limit: 5 });
        assert!(p.take_drops().iter().all(|d| d.why == Why::Overlimit));
    }

    #[test]
    fn a_policer_drops_what_comes_too_fast_after_a_burst() {
        let mut p = pipe("police 8mbit burst 3000");
        // 1000 bytes each: three at once, then one a millisecond.
        (0..5).for_each(|i| p.push(0, tcp(i, 946)));
        assert_eq!((drain(&mut p).len(), p.stats().policed, p.stats().overlimit), (3, 2, 0));
        (0..10).for_each(|i| p.push(MS / 2 * (i + 1), tcp(i, 946)));
        assert_eq!((drain(&mut p).len(), p.stats().policed), (5, 7));
        (0..5).for_each(|i| p.push(3_600_000 * MS, tcp(i, 946)));
        assert_eq!((drain(&mut p).len(), p.stats().policed), (3, 9));
        assert!(p.take_drops().iter().all(|d| d.why.name() == "LINK_POLICED"));
    }

    #[test]
    fn another_rate_keeps_the_order() {
        let mut p = pipe("rate 8mbit delay 1ms");
        (0..3).for_each(|i| p.push(0, tcp(i, 946)));
        p.set(Conditions { rate_bps: Some(80_000_000), ..*p.conditions() });
        (3..5).for_each(|i| p.push(0, tcp(i, 946)));
        let out: Vec<_> = drain(&mut p).iter().map(|(at, f)| (*at, f.id)).collect();
        assert_eq!(out, [(2 * MS, 0), (3 * MS, 1), (4 * MS, 2), (4_100_000, 3), (4_200_000, 4)]);
    }

    #[test]
    fn reordering_with_and_without_delay() {
        for words in ["reorder 20%", "reorder 20% delay 10ms"] {
            let mut p = pipe(words);
            let mut ids = Vec::new();
            for i in 0..200 {
                p.push(i * 1000, tcp(i, 10));
                ids.extend(std::iter::from_fn(|| p.pop(i * 1000)).map(|f| f.id));
            }
            ids.extend(drain(&mut p).iter().map(|(_, f)| f.id));
            let late = ids.iter().zip(0..).filter(|(id, i)| **id < *i).count();
            assert!(late > 15 && p.stats().reordered > 20, "{words}: {late}");
            ids.sort_unstable();
            assert!(ids.into_iter().eq(0..200), "{words}");
        }
        // Nothing follows: it still arrives, soon.
        let mut p = pipe("reorder 100%");
        p.push(0, tcp(1, 10));
        assert_eq!(drain(&mut p).first().map(|(at, _)| *at), Some(HELD_NS));
    }

    #[test]
    fn corruption_always_shows_in_a_checksum() {
        let mut p = pipe("corrupt 100%");
        let original = tcp(1, 400);
        for _ in 0..500 {
            p.push(0, original.clone());
            let f = p.pop(0).unwrap();
            assert_eq!(f.csum, Csum::None);
            assert!(gso::verify(&f).is_err() || flow::net_offset(&f).is_none());
        }
        assert_eq!((p.stats().corrupted, original.payload.to_vec()), (500, vec![1; 400]));
    }

    #[test]
    fn duplicates_and_jitter() {
        let mut p = pipe("duplicate 100% delay 10ms 4ms");
        (0..100).for_each(|i| p.push(0, tcp(i, 10)));
        let out = drain(&mut p);
        assert_eq!((out.len(), p.stats().duplicated), (200, 100));
        assert!(out.iter().all(|(at, _)| (6 * MS..=14 * MS).contains(at)) && out.windows(2).all(|w| w[0].0 <= w[1].0));
        assert!(out.iter().any(|(at, _)| *at < 8 * MS) && out.iter().any(|(at, _)| *at > 12 * MS));
    }

    #[test]
    fn order_holds_when_conditions_end() {
        let mut p = pipe("delay 50ms");
        p.push(0, tcp(1, 1));
        p.set(Conditions::default());
        p.push(MS, tcp(2, 1));
        assert_eq!(drain(&mut p).iter().map(|(at, f)| (*at, f.id)).collect::<Vec<_>>(), [(50 * MS, 1), (50 * MS, 2)]);
    }

    #[test]
    fn marking_ipv6_touches_nothing_but_the_traffic_class() {
        let src = Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 0x15);
        let header =
            Ipv6Header { flow: 0xf_ffff, next: IPPROTO_TCP, hop_limit: 64, src, dst: src, ..Default::default() };
        // With a DSCP the low half of the first byte is not zero: it must not be taken for a header length.
        for dscp in [0, 0xb8] {
            for (ecn, marked) in [(0, false), (1, true), (2, true), (3, false)] {
                let before = Ipv6Header { tclass: dscp | ecn, ..header };
                let mut f = Frame::default();
                before.emit(f.head.push(40).unwrap());
                EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ethertype: ETH_P_IPV6 }.emit(f.head.push(14).unwrap());
                assert_eq!(mark_ce(&mut f), marked, "{ecn}");
                let want = Ipv6Header { tclass: dscp | if marked { 3 } else { ecn }, ..before };
                assert_eq!(Ipv6Header::parse(&f.head.bytes()[14..]), Ok(want));
            }
        }
    }

    #[test]
    fn marking_ipv4_keeps_the_header_checksum_right() {
        let mut f = tcp(1, 0);
        assert!(!mark_ce(&mut f));
        f.head.bytes_mut()[15] = 2;
        assert!(mark_ce(&mut f));
        assert_eq!((f.head.bytes()[15], checksum::fold(checksum::sum(&f.head.bytes()[14..34], 0))), (3, 0));
    }
}
