//! Fragments waiting for the rest (RFC 815, with Linux's rule that an overlap ends the datagram).
use crate::env::{Fired, SEC, TimerKey, TimerSlot, time, timers::Fire};
use crate::ids::{DevId, FragId, NsId};
use crate::net::Net;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp;
use crate::net::mib::Mib;
use belljar_wire::icmp::{ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED};
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::{Csum, Seg};
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FragKey {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub id: u16,
    pub proto: u8,
    pub dev: Option<DevId>,
}

/// A datagram in pieces.
#[derive(Clone, Debug)]
pub struct FragQueue {
    key: FragKey,
    /// By offset, not overlapping.
    pieces: BTreeMap<u16, Skb>,
    /// End of the datagram, once the last fragment told.
    end: Option<u32>,
    have: u32,
    bytes: u64,
    timer: TimerSlot,
    /// The peer's fragment count when one last came in here (`rid`).
    rid: u32,
    /// Largest fragment, and whether one with DF was that large.
    max_size: u16,
}

impl FragQueue {
    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.pieces.values()
    }
}

/// The index of a namespace's queues and the memory they take.
#[derive(Clone, Debug, Default)]
pub struct FragTable {
    index: BTreeMap<FragKey, FragId>,
    /// Charged by truesize; ipfrag_high_thresh bounds it.
    pub bytes: u64,
}

impl FragTable {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

/// Takes a fragment; gives the datagram back when it was the last one missing.
#[doc(alias = "ip_frag_queue")]
pub fn ip_defrag(net: &mut Net, ns: NsId, mut skb: Skb, ip: &Ipv4Header) -> Option<Skb> {
    net.inc(ns, Mib::IpReasmReqds);
    net.stage(&skb, "ip_defrag");
    let key = FragKey { src: ip.src, dst: ip.dst, id: ip.id, proto: ip.proto, dev: skb.dev };
    let Some(id) = find(net, ns, key) else {
        net.inc(ns, Mib::IpReasmFails);
        net.kfree_skb(skb, DropReason::NoMem, "ip_defrag");
        return None;
    };
    too_far(net, ns, id, ip.src);
    let (off, len) = (u32::from(ip.frag_off), ip.payload_len() as u32);
    let end = off + len;
    let q = net.ns.get_mut(ns)?.frags.get_mut(id)?;
    let bad = end > 65_535 - ip.ihl_bytes as u32
        || if ip.mf {
            len % 8 != 0 || q.end.is_some_and(|e| end > e)
        } else {
            q.end.is_some_and(|e| e != end) || q.last_end() > end
        };
    if len == 0 || bad {
        // RFC 791 §3.2: what cannot be part of the datagram; the rest keeps waiting.
        net.inc(ns, Mib::IpReasmFails);
        net.kfree_skb(skb, DropReason::IpInHdr, "ip_frag_queue");
        return None;
    }
    match q.overlap(off as u16, len) {
        Overlap::None => {}
        Overlap::Same => {
            net.kfree_skb(skb, DropReason::DupFrag, "ip_frag_queue");
            return None;
        }
        Overlap::Part => {
            net.inc(ns, Mib::IpExtReasmOverlaps);
            net.inc(ns, Mib::IpReasmFails);
            kill(net, ns, id, DropReason::DupFrag);
            net.kfree_skb(skb, DropReason::DupFrag, "ip_frag_queue");
            return None;
        }
    }
    if !ip.mf {
        q.end = Some(end);
    }
    skb.truesize = crate::net::core::skb::truesize(skb.len());
    let size = u64::from(skb.truesize);
    q.have += len;
    q.bytes += size;
    q.max_size = q.max_size.max(ip.total_len);
    q.pieces.insert(off as u16, skb);
    let complete = q.end == Some(q.have);
    if let Some(n) = net.ns.get_mut(ns) {
        n.frag_table.bytes += size;
    }
    if complete { reassemble(net, ns, id) } else { None }
}

enum Overlap {
    None,
    /// All of it is there already.
    Same,
    Part,
}

impl FragQueue {
    /// Fragments that wait for the rest.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn last_end(&self) -> u32 {
        self.pieces.last_key_value().map_or(0, |(o, s)| u32::from(*o) + payload_len(s))
    }

    fn overlap(&self, off: u16, len: u32) -> Overlap {
        let end = u32::from(off) + len;
        let before =
            self.pieces.range(..=off).next_back().map(|(o, s)| (u32::from(*o), u32::from(*o) + payload_len(s)));
        match before {
            Some((_, e)) if e >= end => return Overlap::Same,
            Some((_, e)) if e > u32::from(off) => return Overlap::Part,
            _ => {}
        }
        match self.pieces.range(off.saturating_add(1)..).next() {
            Some((o, _)) if u32::from(*o) < end => Overlap::Part,
            _ => Overlap::None,
        }
    }
}

/// Payload bytes of a fragment whose header still stands.
fn payload_len(skb: &Skb) -> u32 {
    skb.ip_hdr().map_or(0, |ip| ip.payload_len() as u32)
}

/// The queue of a datagram, made at its first fragment; none when the memory is used up (`inet_frag_find`).
fn find(net: &mut Net, ns: NsId, key: FragKey) -> Option<FragId> {
    let (now, hz) = (net.env.now, net.env.hz);
    let n = net.ns.get_mut(ns)?;
    if let Some(id) = n.frag_table.index.get(&key) {
        return Some(*id);
    }
    if n.sysctl.ipfrag_high_thresh == 0 || n.frag_table.bytes > n.sysctl.ipfrag_high_thresh {
        return None;
    }
    let q = FragQueue {
        key,
        pieces: BTreeMap::new(),
        end: None,
        have: 0,
        bytes: 0,
        timer: TimerSlot::default(),
        rid: 0,
        max_size: 0,
    };
    let id = n.frags.insert(q);
    n.frag_table.index.insert(key, id);
    let at = time::round_up(now + u64::from(n.sysctl.ipfrag_time) * SEC, hz);
    let slot = &mut n.frags.get_mut(id)?.timer;
    net.env.timers.arm(slot, at, TimerKey::IpFrag(ns, id));
    // The first fragment counts from here.
    let jiffies = net.env.jiffies();
    let n = net.ns.get_mut(ns)?;
    let rid = n.peers.get(key.src, jiffies).fragments;
    n.frags.get_mut(id)?.rid = rid;
    Some(id)
}

/// More than ipfrag_max_dist fragments of other datagrams came in between: identifications may have wrapped, begin anew.
#[doc(alias = "ip_frag_too_far")]
fn too_far(net: &mut Net, ns: NsId, id: FragId, src: Ipv4Addr) {
    let now = net.env.jiffies();
    let Some(n) = net.ns.get_mut(ns) else { return };
    let max = n.sysctl.ipfrag_max_dist;
    if max == 0 {
        return;
    }
    let peer = n.peers.get(src, now);
    peer.fragments = peer.fragments.wrapping_add(1);
    let end = peer.fragments;
    let Some(q) = n.frags.get_mut(id) else { return };
    let start = std::mem::replace(&mut q.rid, end);
    if q.pieces.is_empty() || end.wrapping_sub(start) <= max {
        return;
    }
    let (pieces, bytes) = (std::mem::take(&mut q.pieces), std::mem::take(&mut q.bytes));
    (q.have, q.end) = (0, None);
    n.frag_table.bytes -= bytes;
    net.inc(ns, Mib::IpReasmFails);
    for (_, skb) in pieces {
        net.kfree_skb(skb, DropReason::FragTooFar, "ip_frag_reinit");
    }
}

fn unlink(net: &mut Net, ns: NsId, id: FragId) -> Option<FragQueue> {
    let n = net.ns.get_mut(ns)?;
    let mut q = n.frags.remove(id)?;
    n.frag_table.index.remove(&q.key);
    n.frag_table.bytes -= q.bytes;
    q.timer.cancel();
    Some(q)
}

fn kill(net: &mut Net, ns: NsId, id: FragId, reason: DropReason) {
    let Some(q) = unlink(net, ns, id) else { return };
    for (_, skb) in q.pieces {
        net.kfree_skb(skb, reason, "inet_frag_kill");
    }
}

/// One packet from the pieces: the first one's header, everybody's payload, shared.
#[doc(alias = "ip_frag_reasm")]
fn reassemble(net: &mut Net, ns: NsId, id: FragId) -> Option<Skb> {
    let q = unlink(net, ns, id)?;
    let mut pieces = q.pieces.into_values();
    let mut first = pieces.next()?;
    let ip = first.ip_hdr()?;
    for mut skb in pieces {
        let _ = skb.head.pull(ip_len(&skb));
        let rest = skb.head.bytes();
        if !rest.is_empty() {
            first.frags.push(Seg::from(rest));
        }
        first.truesize += skb.truesize;
        first.frags.append(std::mem::take(&mut skb.frags));
        net.consume_skb(skb);
    }
    // The head may hold payload behind the header: it stays in front of the rest, where it belongs.
    let header =
        Ipv4Header { total_len: (ip.ihl_bytes as u32 + q.have) as u16, mf: false, frag_off: 0, df: false, ..ip };
    header.emit(first.head.at_mut(first.network_header));
    first.csum = Csum::None;
    first.gso = None;
    net.inc(ns, Mib::IpReasmOKs);
    let need = ip.ihl_bytes + if ip.proto == 6 { 20 } else { 8 };
    let _ = first.may_pull(need);
    Some(first)
}

fn ip_len(skb: &Skb) -> usize {
    skb.head.bytes().first().map_or(0, |b| usize::from(b & 15) * 4)
}

/// The rest never came: if the first fragment did, its sender is told.
#[doc(alias = "ip_expire")]
pub fn expire(net: &mut Net, ns: NsId, id: FragId, at: Fired) {
    let now = net.env.jiffies();
    let Some(q) = net.ns.get_mut(ns).and_then(|n| n.frags.get_mut(id)) else { return };
    if net.env.timers.look(&mut q.timer, at, now, TimerKey::IpFrag(ns, id)) == Fire::NotYet {
        return;
    }
    let Some(mut q) = unlink(net, ns, id) else { return };
    net.inc(ns, Mib::IpReasmFails);
    net.inc(ns, Mib::IpReasmTimeout);
    if let Some(first) = q.pieces.get_mut(&0) {
        first.pkt_type = PktType::Host;
        icmp::icmp_send(net, first, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0);
    }
    for (_, skb) in q.pieces {
        net.kfree_skb(skb, DropReason::FragReasmTimeout, "ip_expire");
    }
}
