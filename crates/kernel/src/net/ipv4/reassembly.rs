//! Fragments waiting for the rest (RFC 791 §3.2), `ipfrag_time` seconds at most.
use crate::env::{Fired, SEC, TimerKey, TimerSlot, time, timers::Fire};
use crate::ids::{DevId, FragId, NsId};
use crate::mem::{Gfp, Kind};
use crate::net::Net;
use crate::net::core::frag::{Pieces, Place};
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
    /// Each with its header.
    pub pieces: Pieces,
    timer: TimerSlot,
    /// The peer's fragment count when one last came in here (`rid`).
    rid: u32,
    /// Largest fragment, and whether one with DF was that large.
    max_size: u16,
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
#[inline(never)]
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
    let ihl = ip.ihl_bytes as u32;
    let (offset, mut end) = (u32::from(ip.frag_off), u32::from(ip.frag_off) + ip.payload_len() as u32);
    if ip.mf && end % 8 != 0 {
        // RFC 791 §3.2 has all but the last in units of eight bytes: what is over is cut off.
        end &= !7;
        skb.trim((ihl + end.saturating_sub(offset)) as usize);
    }
    let q = net.ns.get_mut(ns)?.frags.get_mut(id)?;
    let place = q.pieces.place(offset, end, ip.mf);
    if place != Place::Fits {
        refused(net, ns, id, place);
        let reason = if place == Place::Corrupt { DropReason::IpInHdr } else { DropReason::DupFrag };
        net.kfree_skb(skb, reason, "ip_frag_queue");
        return None;
    }
    skb.truesize = crate::net::core::skb::truesize(skb.len());
    let size = u64::from(skb.truesize);
    q.max_size = q.max_size.max(ip.total_len);
    let complete = q.pieces.add(offset, end, ip.tos, skb);
    if let Some(n) = net.ns.get_mut(ns) {
        n.frag_table.bytes += size;
    }
    if complete { reassemble(net, ns, id) } else { None }
}

/// A piece that has no place: one that is there already leaves the rest waiting, all else ends it.
fn refused(net: &mut Net, ns: NsId, id: FragId, place: Place) {
    if place == Place::Duplicate {
        return;
    }
    if place == Place::Overlap {
        net.inc(ns, Mib::IpExtReasmOverlaps);
    }
    net.inc(ns, Mib::IpReasmFails);
    kill(net, ns, id, DropReason::DupFrag);
}

/// The queue of a datagram, made at its first fragment; none when the memory is used up (`inet_frag_find`).
fn find(net: &mut Net, ns: NsId, key: FragKey) -> Option<FragId> {
    let (now, hz) = (net.env.now, net.env.hz);
    let Net { mem, ns: spaces, .. } = net;
    let n = spaces.get_mut(ns)?;
    if let Some(id) = n.frag_table.index.get(&key) {
        return Some(*id);
    }
    if !mem.room(Kind::Frags, &n.frags, Gfp::Atomic) {
        return None;
    }
    if n.sysctl.ipfrag_high_thresh == 0 || n.frag_table.bytes > n.sysctl.ipfrag_high_thresh {
        return None;
    }
    let q = FragQueue { key, pieces: Pieces::default(), timer: TimerSlot::default(), rid: 0, max_size: 0 };
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
    let pieces = std::mem::take(&mut q.pieces);
    n.frag_table.bytes -= pieces.bytes;
    net.inc(ns, Mib::IpReasmFails);
    for skb in pieces.into_skbs() {
        net.kfree_skb(skb, DropReason::FragTooFar, "ip_frag_reinit");
    }
}

fn unlink(net: &mut Net, ns: NsId, id: FragId) -> Option<FragQueue> {
    let n = net.ns.get_mut(ns)?;
    let mut q = n.frags.remove(id)?;
    n.frag_table.index.remove(&q.key);
    n.frag_table.bytes -= q.pieces.bytes;
    q.timer.cancel();
    Some(q)
}

/// The namespace goes, with every datagram that is not whole.
pub(crate) fn flush(net: &mut Net, ns: NsId) {
    let ids: Vec<FragId> = net.ns.get(ns).map_or_else(Vec::new, |n| n.frags.iter().map(|f| f.0).collect());
    ids.into_iter().for_each(|id| kill(net, ns, id, DropReason::NotSpecified));
}

fn kill(net: &mut Net, ns: NsId, id: FragId, reason: DropReason) {
    let Some(q) = unlink(net, ns, id) else { return };
    for skb in q.pieces.into_skbs() {
        net.kfree_skb(skb, reason, "inet_frag_kill");
    }
}

/// One packet from the pieces: the first one's header, everybody's payload, shared.
#[doc(alias = "ip_frag_reasm")]
fn reassemble(net: &mut Net, ns: NsId, id: FragId) -> Option<Skb> {
    let q = net.ns.get_mut(ns)?.frags.get_mut(id)?;
    let (len, ecn) = (q.pieces.len, q.pieces.ecn());
    let ip = q.pieces.first_mut()?.ip_hdr()?;
    let total = u16::try_from(ip.ihl_bytes as u32 + len).ok();
    let (Some(total_len), Some(ecn)) = (total, ecn) else {
        net.inc(ns, Mib::IpReasmFails);
        kill(net, ns, id, if total.is_none() { DropReason::PktTooBig } else { DropReason::IpInHdr });
        return None;
    };
    let FragQueue { pieces, max_size, .. } = unlink(net, ns, id)?;
    let mut pieces = pieces.into_skbs();
    let mut first = pieces.next()?;
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
    let header = Ipv4Header { total_len, tos: ip.tos | ecn, mf: false, frag_off: 0, df: false, ..ip };
    header.emit(first.head.at_mut(first.network_header));
    first.csum = Csum::None;
    (first.gso, first.frag_max) = (None, max_size);
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
    if let Some(first) = q.pieces.first_mut() {
        first.pkt_type = PktType::Host;
        icmp::icmp_send(net, first, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0);
    }
    for skb in q.pieces.into_skbs() {
        net.kfree_skb(skb, DropReason::FragReasmTimeout, "ip_expire");
    }
}
