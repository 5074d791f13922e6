//! Fragments wait here until the datagram is whole (RFC 8200 §4.5), or for `ip6frag_time` seconds. Overlaps end it all
//! (RFC 5722).
use super::icmp::icmpv6_send;
use crate::env::timers::Fire;
use crate::env::{Fired, Nanos, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::{Csum, Seg};
use core::net::Ipv6Addr;
use std::collections::BTreeMap;

type Key = (Ipv6Addr, Ipv6Addr, u32, Option<DevId>);

/// One datagram.
#[derive(Clone, Debug)]
pub struct Queue6 {
    /// By offset; each begins with the data behind its fragment header, the first one's headers still reachable.
    pieces: BTreeMap<u16, Skb>,
    end: Option<u32>,
    have: u32,
    bytes: u64,
    expires: Nanos,
    /// Where the fragment header stood in the first fragment, and what followed it.
    first: Option<(usize, usize, u8)>,
}

/// The queues of a namespace.
#[derive(Clone, Debug, Default)]
pub struct FragTable6 {
    queues: BTreeMap<Key, Queue6>,
    /// Charged by truesize; ip6frag_high_thresh bounds it.
    pub bytes: u64,
    timer: TimerSlot,
}

impl FragTable6 {
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queues.values().flat_map(|q| q.pieces.values())
    }
}

/// Takes a fragment, at its IPv6 header; `at` is the place of its fragment header and of the byte that named it. Gives the
/// datagram back, at its IPv6 header, when it was the last one missing.
#[doc(alias = "ip6_frag_queue")]
pub fn ipv6_frag_rcv(
    net: &mut Net,
    ns: NsId,
    mut skb: Skb,
    ip: &Ipv6Header,
    (at, nexthdr_at): (usize, usize),
    frag: FragHeader,
) -> Option<Skb> {
    const AT: &str = "ipv6_frag_rcv";
    net.inc(ns, Mib::Ip6ReasmReqds);
    net.stage(&skb, AT);
    if frag.offset == 0 && !frag.more {
        // RFC 6946: an atomic fragment is a datagram of its own.
        return cut_header(net, ns, skb, at, nexthdr_at, frag.next);
    }
    let len = (skb.len() - at - FRAG_HLEN) as u32;
    let (off, end) = (u32::from(frag.offset), u32::from(frag.offset) + len);
    if end as usize + at - IPV6_HLEN > IPV6_MAXPLEN || (frag.more && !len.is_multiple_of(8)) {
        // RFC 8200 §4.5: told by a pointer to the offset, or to the payload length.
        let field = if !len.is_multiple_of(8) { 4 } else { at as u32 + 2 };
        net.inc(ns, Mib::Ip6InHdrErrors);
        net.inc(ns, Mib::Ip6ReasmFails);
        icmpv6_send(net, &skb, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, field);
        net.kfree_skb(skb, DropReason::IpInHdr, AT);
        return None;
    }
    let key = (ip.src, ip.dst, frag.id, skb.dev.filter(|_| needs_scope(ip.dst)));
    let (now, hz) = (net.env.now, net.env.hz);
    let n = net.ns.get_mut(ns)?;
    let limit = n.sysctl.ip6frag_high_thresh;
    if !n.v6.frags.queues.contains_key(&key) && (limit == 0 || n.v6.frags.bytes > limit) {
        net.inc(ns, Mib::Ip6ReasmFails);
        net.kfree_skb(skb, DropReason::NoMem, AT);
        return None;
    }
    let expires = now + u64::from(n.sysctl.ip6frag_time) * SEC;
    let new = || Queue6 { pieces: BTreeMap::new(), end: None, have: 0, bytes: 0, expires, first: None };
    let q = n.v6.frags.queues.entry(key).or_insert_with(new);
    let bad =
        if frag.more { q.end.is_some_and(|e| end > e) } else { q.end.is_some_and(|e| e != end) || q.last() > end };
    let verdict = if bad || len == 0 { Fits::Never } else { q.fits(off, end) };
    match verdict {
        Fits::Same => {
            net.kfree_skb(skb, DropReason::DupFrag, AT);
            return None;
        }
        Fits::Never => {
            net.inc(ns, Mib::Ip6ReasmFails);
            kill(net, ns, &key, DropReason::DupFrag);
            net.kfree_skb(skb, if bad { DropReason::IpInHdr } else { DropReason::DupFrag }, AT);
            return None;
        }
        Fits::Yes => {}
    }
    if !frag.more {
        q.end = Some(end);
    }
    if off == 0 {
        q.first = Some((at, nexthdr_at, frag.next));
    }
    let _ = skb.head.pull(at + FRAG_HLEN);
    skb.truesize = crate::net::core::skb::truesize(skb.len());
    let size = u64::from(skb.truesize);
    q.have += len;
    q.bytes += size;
    q.pieces.insert(frag.offset, skb);
    let complete = q.end == Some(q.have);
    n.v6.frags.bytes += size;
    if complete {
        return reassemble(net, ns, &key);
    }
    let tick = time::round_up(expires, hz);
    if !n.v6.frags.timer.is_armed() {
        net.env.timers.arm(&mut n.v6.frags.timer, tick, TimerKey::Ip6Frag(ns));
    }
    None
}

enum Fits {
    Yes,
    Same,
    Never,
}

impl Queue6 {
    fn last(&self) -> u32 {
        self.pieces.last_key_value().map_or(0, |(o, s)| u32::from(*o) + s.len() as u32)
    }

    fn fits(&self, off: u32, end: u32) -> Fits {
        let before = self.pieces.range(..=off as u16).next_back().map(|(o, s)| (u32::from(*o), s.len() as u32));
        if let Some((o, l)) = before
            && o + l > off
        {
            return if o == off && o + l == end { Fits::Same } else { Fits::Never };
        }
        match self.pieces.range(off as u16..).next() {
            Some((o, _)) if u32::from(*o) < end => Fits::Never,
            _ => Fits::Yes,
        }
    }
}

/// A datagram from the headers of `skb` up to its fragment header, with that cut out.
fn cut_header(net: &mut Net, ns: NsId, mut skb: Skb, at: usize, nexthdr_at: usize, next: u8) -> Option<Skb> {
    let mut headers = [0u8; 128];
    let b = skb.head.at(skb.network_header);
    let Some(to) = headers.get_mut(..at).filter(|_| at <= b.len()) else {
        net.inc(ns, Mib::Ip6ReasmFails);
        net.kfree_skb(skb, DropReason::IpInHdr, "ip6_frag_reasm");
        return None;
    };
    to.copy_from_slice(&b[..at]);
    if skb.head.start() == skb.network_header {
        let _ = skb.head.pull(at + FRAG_HLEN);
    }
    if let Some(b) = headers.get_mut(nexthdr_at) {
        *b = next;
    }
    let total = skb.len() + at - IPV6_HLEN;
    if total > IPV6_MAXPLEN {
        // The first fragment has more headers than the others had.
        net.inc(ns, Mib::Ip6ReasmFails);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip6_frag_reasm");
        return None;
    }
    net.inc(ns, Mib::Ip6ReasmOKs);
    headers[4..6].copy_from_slice(&(total as u16).to_be_bytes());
    let Some(room) = skb.head.push(at) else {
        net.kfree_skb(skb, DropReason::NoMem, "ip6_frag_reasm");
        return None;
    };
    room.copy_from_slice(&headers[..at]);
    skb.network_header = skb.head.start();
    skb.mac_header = skb.network_header;
    Some(skb)
}

/// One packet from the pieces: the first one's headers, everybody's payload, shared.
#[doc(alias = "ip6_frag_reasm")]
fn reassemble(net: &mut Net, ns: NsId, key: &Key) -> Option<Skb> {
    let q = unlink(net, ns, key)?;
    let (at, nexthdr_at, next) = q.first?;
    let mut pieces = q.pieces.into_values();
    let mut first = pieces.next()?;
    for mut skb in pieces {
        let rest = skb.head.bytes();
        if !rest.is_empty() {
            first.frags.push(Seg::from(rest));
        }
        first.truesize += skb.truesize;
        first.frags.append(std::mem::take(&mut skb.frags));
        net.consume_skb(skb);
    }
    first.csum = Csum::None;
    first.gso = None;
    cut_header(net, ns, first, at, nexthdr_at, next)
}

fn unlink(net: &mut Net, ns: NsId, key: &Key) -> Option<Queue6> {
    let n = net.ns.get_mut(ns)?;
    let q = n.v6.frags.queues.remove(key)?;
    n.v6.frags.bytes -= q.bytes;
    Some(q)
}

fn kill(net: &mut Net, ns: NsId, key: &Key, reason: DropReason) {
    let Some(q) = unlink(net, ns, key) else { return };
    for (_, skb) in q.pieces {
        net.kfree_skb(skb, reason, "inet_frag_kill");
    }
}

/// The rest never came: if the first fragment did, its sender is told.
#[doc(alias = "ip6frag_expire_frag_queue")]
pub fn expire(net: &mut Net, ns: NsId, at: Fired) {
    let (jiffies, now, hz) = (net.env.jiffies(), net.env.now, net.env.hz);
    let Some(n) = net.ns.get_mut(ns) else { return };
    if net.env.timers.look(&mut n.v6.frags.timer, at, jiffies, TimerKey::Ip6Frag(ns)) == Fire::NotYet {
        return;
    }
    let old: Vec<Key> = n.v6.frags.queues.iter().filter(|(_, q)| q.expires <= now).map(|(k, _)| *k).collect();
    for key in old {
        let Some(mut q) = unlink(net, ns, &key) else { continue };
        net.inc(ns, Mib::Ip6ReasmFails);
        net.inc(ns, Mib::Ip6ReasmTimeout);
        if let Some(first) = q.pieces.get_mut(&0) {
            first.pkt_type = PktType::Host;
            icmpv6_send(net, first, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME, 0);
        }
        for (_, skb) in q.pieces {
            net.kfree_skb(skb, DropReason::FragReasmTimeout, "ip6_frag_expire");
        }
    }
    let Some(n) = net.ns.get_mut(ns) else { return };
    if let Some(next) = n.v6.frags.queues.values().map(|q| q.expires).min() {
        net.env.timers.arm(&mut n.v6.frags.timer, time::round_up(next, hz), TimerKey::Ip6Frag(ns));
    }
}
