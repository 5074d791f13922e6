//! Fragments wait here until the datagram is whole (RFC 8200 §4.5), or for `ip6frag_time` seconds. Overlaps end it all
//! (RFC 5722). What connections are tracked by is gathered before the tables see it, within limits of its own
//! (`nf_conntrack_frag6_*`), and counted only when the rest does not come.
use super::icmp::icmpv6_send;
use crate::env::timers::Fire;
use crate::env::{Fired, Nanos, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::frag::{Pieces, Place};
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::mib::Mib;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use belljar_wire::{Csum, Seg};
use core::net::Ipv6Addr;
use std::collections::BTreeMap;

/// For whom a datagram becomes whole (`IP6_DEFRAG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum User {
    Deliver,
    Conntrack,
}

type Key = (User, Ipv6Addr, Ipv6Addr, u32, Option<DevId>);

/// One datagram.
#[derive(Clone, Debug)]
pub struct Queue6 {
    /// Each begins with the data behind its fragment header, the first one's headers still reachable.
    pieces: Pieces,
    expires: Nanos,
    /// The largest of them, with its headers.
    max_size: u16,
    /// Where the fragment header stood in the first fragment, and what followed it.
    first: Option<(usize, usize, u8)>,
}

/// The queues of a namespace.
#[derive(Clone, Debug, Default)]
pub struct FragTable6 {
    queues: BTreeMap<Key, Queue6>,
    /// Charged by truesize; ip6frag_high_thresh bounds it.
    pub bytes: u64,
    /// The same of connections' and nf_conntrack_frag6_high_thresh.
    ct_bytes: u64,
    timer: TimerSlot,
    /// When it fires.
    due: Nanos,
}

impl FragTable6 {
    pub fn len(&self) -> usize {
        self.queues.keys().filter(|k| k.0 == User::Deliver).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn charged(&mut self, user: User) -> &mut u64 {
        match user {
            User::Deliver => &mut self.bytes,
            User::Conntrack => &mut self.ct_bytes,
        }
    }

    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.queues.values().flat_map(|q| q.pieces.skbs())
    }
}

impl User {
    fn count(self, net: &mut Net, ns: NsId, mib: Mib) {
        if self == User::Deliver {
            net.inc(ns, mib);
        }
    }
}

/// The fragment header of a packet: where it is, the byte that named it, what it says.
#[doc(alias = "find_prev_fhdr")]
fn fragment_header(b: &[u8]) -> Option<(usize, usize, FragHeader)> {
    let (mut named, mut at) = (6, IPV6_HLEN);
    for _ in 0..16 {
        let next = *b.get(named)?;
        if next == NEXTHDR_FRAGMENT {
            return Some((at, named, FragHeader::parse(b.get(at..)?).ok()?));
        }
        let len = usize::from(*b.get(at + 1)?);
        let size = match next {
            NEXTHDR_AUTH => (len + 2) * 4,
            NEXTHDR_HOP | NEXTHDR_ROUTING | NEXTHDR_DEST => (len + 1) * 8,
            _ => return None,
        };
        (named, at) = (at, at + size);
    }
    None
}

/// What connections are tracked by: the packet itself, the datagram that it completed, or nothing yet.
#[doc(alias = "ipv6_defrag")]
#[cold]
pub fn nf_ct_frag6_gather(net: &mut Net, ns: NsId, skb: Skb) -> Option<Skb> {
    let Ok(ip) = Ipv6Header::parse(skb.head.bytes()) else { return Some(skb) };
    match fragment_header(skb.head.bytes()) {
        Some((at, named, frag)) => gather(net, ns, User::Conntrack, skb, &ip, (at, named), frag),
        None => Some(skb),
    }
}

/// Takes a fragment, at its IPv6 header; `at` is the place of its fragment header and of the byte that named it. Gives the
/// datagram back, at its IPv6 header, when it was the last one missing.
#[doc(alias = "ip6_frag_queue")]
pub fn ipv6_frag_rcv(
    net: &mut Net,
    ns: NsId,
    skb: Skb,
    ip: &Ipv6Header,
    at: (usize, usize),
    frag: FragHeader,
) -> Option<Skb> {
    gather(net, ns, User::Deliver, skb, ip, at, frag)
}

fn gather(
    net: &mut Net,
    ns: NsId,
    user: User,
    mut skb: Skb,
    ip: &Ipv6Header,
    (at, nexthdr_at): (usize, usize),
    frag: FragHeader,
) -> Option<Skb> {
    const AT: &str = "ipv6_frag_rcv";
    user.count(net, ns, Mib::Ip6ReasmReqds);
    net.stage(&skb, AT);
    if frag.offset == 0 && !frag.more {
        // RFC 6946: an atomic fragment is a datagram of its own.
        skb.frag_max = skb.len().min(0xffff) as u16;
        return cut_header(net, ns, user, skb, (at, nexthdr_at), frag.next);
    }
    let len = (skb.len() - at - FRAG_HLEN) as u32;
    let (off, end) = (u32::from(frag.offset), u32::from(frag.offset) + len);
    if end as usize + at - IPV6_HLEN > IPV6_MAXPLEN || (frag.more && !len.is_multiple_of(8)) {
        // RFC 8200 §4.5: told by a pointer to the offset, or to the payload length.
        let field = if !len.is_multiple_of(8) { 4 } else { at as u32 + 2 };
        user.count(net, ns, Mib::Ip6InHdrErrors);
        if user == User::Deliver {
            icmpv6_send(net, &skb, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, field);
        }
        net.kfree_skb(skb, DropReason::IpInHdr, AT);
        return None;
    }
    let key = (user, ip.src, ip.dst, frag.id, skb.dev.filter(|_| needs_scope(ip.dst)));
    let (now, hz) = (net.env.now, net.env.hz);
    let n = net.ns.get_mut(ns)?;
    let (limit, secs) = match user {
        User::Deliver => (n.sysctl.ip6frag_high_thresh, n.sysctl.ip6frag_time),
        User::Conntrack => (n.sysctl.nf_conntrack_frag6_high_thresh, n.sysctl.nf_conntrack_frag6_timeout),
    };
    if limit == 0 || *n.v6.frags.charged(user) > limit {
        user.count(net, ns, Mib::Ip6ReasmFails);
        net.kfree_skb(skb, DropReason::NoMem, AT);
        return None;
    }
    let expires = now + u64::from(secs) * SEC;
    let new = || Queue6 { pieces: Pieces::default(), expires, max_size: 0, first: None };
    let q = n.v6.frags.queues.entry(key).or_insert_with(new);
    let place = q.pieces.place(off, end, frag.more);
    if place != Place::Fits {
        if place != Place::Duplicate {
            user.count(net, ns, Mib::Ip6ReasmFails);
            kill(net, ns, &key, DropReason::DupFrag);
        }
        net.kfree_skb(skb, if place == Place::Corrupt { DropReason::IpInHdr } else { DropReason::DupFrag }, AT);
        return None;
    }
    if off == 0 {
        q.first = Some((at, nexthdr_at, frag.next));
    }
    q.max_size = q.max_size.max(skb.len().min(0xffff) as u16);
    let _ = skb.head.pull(at + FRAG_HLEN);
    skb.truesize = crate::net::core::skb::truesize(skb.len());
    let size = u64::from(skb.truesize);
    let whole = q.pieces.add(off, end, ip.tclass, skb);
    *n.v6.frags.charged(user) += size;
    if whole {
        return reassemble(net, ns, &key);
    }
    let frags = &mut n.v6.frags;
    if !frags.timer.is_armed() || expires < frags.due {
        frags.due = expires;
        net.env.timers.arm(&mut frags.timer, time::round_up(expires, hz), TimerKey::Ip6Frag(ns));
    }
    None
}

/// A datagram from the headers of `skb` up to its fragment header, with that cut out.
fn cut_header(
    net: &mut Net,
    ns: NsId,
    user: User,
    mut skb: Skb,
    (at, nexthdr_at): (usize, usize),
    next: u8,
) -> Option<Skb> {
    let mut headers = [0u8; 128];
    let b = skb.head.at(skb.network_header);
    let Some(to) = headers.get_mut(..at).filter(|_| at <= b.len()) else {
        user.count(net, ns, Mib::Ip6ReasmFails);
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
        user.count(net, ns, Mib::Ip6ReasmFails);
        net.kfree_skb(skb, DropReason::PktTooBig, "ip6_frag_reasm");
        return None;
    }
    user.count(net, ns, Mib::Ip6ReasmOKs);
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
    let q = net.ns.get_mut(ns)?.v6.frags.queues.get(key)?;
    let (Some(ecn), Some((at, nexthdr_at, next))) = (q.pieces.ecn(), q.first) else {
        key.0.count(net, ns, Mib::Ip6ReasmFails);
        kill(net, ns, key, DropReason::IpInHdr);
        return None;
    };
    let Queue6 { pieces, max_size, .. } = unlink(net, ns, key)?;
    let mut pieces = pieces.into_skbs();
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
    (first.gso, first.frag_max) = (None, max_size);
    let mut whole = cut_header(net, ns, key.0, first, (at, nexthdr_at), next)?;
    // The two low bits of the traffic class lie in the upper half of the second byte.
    if let Some(b) = whole.head.at_mut(whole.network_header).get_mut(1) {
        *b |= ecn << 4;
    }
    Some(whole)
}

fn unlink(net: &mut Net, ns: NsId, key: &Key) -> Option<Queue6> {
    let n = net.ns.get_mut(ns)?;
    let q = n.v6.frags.queues.remove(key)?;
    *n.v6.frags.charged(key.0) -= q.pieces.bytes;
    Some(q)
}

/// The namespace goes, with every datagram that is not whole.
pub(crate) fn flush(net: &mut Net, ns: NsId) {
    while let Some(key) = net.ns.get(ns).and_then(|n| n.v6.frags.queues.keys().next().copied()) {
        kill(net, ns, &key, DropReason::NotSpecified);
    }
}

fn kill(net: &mut Net, ns: NsId, key: &Key, reason: DropReason) {
    let Some(q) = unlink(net, ns, key) else { return };
    for skb in q.pieces.into_skbs() {
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
        // Here Linux makes no difference.
        net.inc(ns, Mib::Ip6ReasmFails);
        net.inc(ns, Mib::Ip6ReasmTimeout);
        if let Some(first) = q.pieces.first_mut() {
            first.pkt_type = PktType::Host;
            icmpv6_send(net, first, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME, 0);
        }
        for skb in q.pieces.into_skbs() {
            net.kfree_skb(skb, DropReason::FragReasmTimeout, "ip6_frag_expire");
        }
    }
    let Some(n) = net.ns.get_mut(ns) else { return };
    if let Some(next) = n.v6.frags.queues.values().map(|q| q.expires).min() {
        n.v6.frags.due = next;
        net.env.timers.arm(&mut n.v6.frags.timer, time::round_up(next, hz), TimerKey::Ip6Frag(ns));
    }
}
