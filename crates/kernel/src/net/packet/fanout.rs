//! PACKET_FANOUT: sockets with the same protocol and device share what comes, one of them gets each packet.
//!
//! Left out: defragmentation before the choice (EINVAL), programs of eBPF (no program: the first member).
use super::{Hook, PacketSock, Target, bind};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::filter::{Packet, Prog};
use crate::net::core::reuseport::ancillary;
use crate::net::core::skb::SkBuff;
use crate::net::tcp::tables::keyed;
use belljar_abi::*;
use belljar_wire::FlowKey;
use std::hash::{Hash, Hasher};

/// Members of a group at most, and where none is said (`PACKET_FANOUT_MAX`, 256).
const MAX_MEMBERS: u32 = 1 << 16;
const DEFAULT_MEMBERS: u32 = 256;

/// See the module.
#[derive(Clone, Debug)]
pub struct Fanout {
    pub id: u16,
    pub kind: u8,
    pub flags: u8,
    pub proto: u16,
    pub dev: Option<DevId>,
    max: u32,
    /// Sockets in it, and of these the ones that get packets, in order.
    socks: u32,
    pub members: Vec<PacketId>,
    next: u32,
    prog: Option<Prog>,
    /// Where a full member's packets go (`rollover->sock`), and how often that was so.
    roll: usize,
    pub rolled: [u64; 3],
}

/// `struct fanout_args`: number, then type and flags, then the most members.
#[doc(alias = "fanout_add")]
pub(super) fn join(k: &mut Kernel, id: PacketId, value: &[u8]) -> Result<(), Errno> {
    let Some(&[i0, i1, kind, flags]) = value.first_chunk::<4>() else { return Err(Errno::EINVAL) };
    let max = value.get(4..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
    let mut number = u16::from_ne_bytes([i0, i1]);
    let rolls = flags & PACKET_FANOUT_FLAG_ROLLOVER != 0;
    let unique = flags & PACKET_FANOUT_FLAG_UNIQUEID != 0;
    if kind > PACKET_FANOUT_EBPF
        || kind == PACKET_FANOUT_ROLLOVER && rolls
        || flags & PACKET_FANOUT_FLAG_DEFRAG != 0
        || max > MAX_MEMBERS
    {
        return Err(Errno::EINVAL);
    }
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    if s.fanout.is_some() {
        return Err(Errno::EALREADY);
    }
    let (ns, proto, dev) = (s.sk.ns, s.proto, s.dev);
    if proto == 0 || unique && number != 0 {
        return Err(Errno::EINVAL);
    }
    let t = &mut k.net.ns.get_mut(ns).ok_or(Errno::ENODEV)?.packet;
    if unique {
        number = (0..=u16::MAX).find(|n| t.fanouts.iter().all(|f| f.id != *n)).ok_or(Errno::ENOMEM)?;
    }
    let flags = flags & !PACKET_FANOUT_FLAG_UNIQUEID;
    match t.fanouts.iter_mut().find(|f| f.id == number) {
        Some(f) => {
            if (f.flags, f.kind, f.proto, f.dev) != (flags, kind, proto, dev) || max != 0 && max != f.max {
                return Err(Errno::EINVAL);
            }
            if f.socks >= f.max {
                return Err(Errno::ENOSPC);
            }
            f.socks += 1;
        }
        None => t.fanouts.push(Fanout {
            id: number,
            kind,
            flags,
            proto,
            dev,
            max: if max == 0 { DEFAULT_MEMBERS } else { max },
            socks: 1,
            members: Vec::new(),
            next: 0,
            prog: None,
            roll: 0,
            rolled: [0; 3],
        }),
    }
    let running = k.socks.packet.get(id).is_some_and(|s| s.running);
    bind::unhook(k, id);
    if let Some(s) = k.socks.packet.get_mut(id) {
        s.fanout = Some(number);
    }
    if running {
        bind::hook(k, id);
    }
    Ok(())
}

fn group_mut(k: &mut Kernel, ns: NsId, group: u16) -> Option<&mut Fanout> {
    k.net.ns.get_mut(ns)?.packet.fanouts.iter_mut().find(|f| f.id == group)
}

/// A member begins to take part; the first of them hangs the group on its tap.
#[doc(alias = "__fanout_link")]
pub(super) fn link(k: &mut Kernel, id: PacketId, group: u16) {
    let Some(ns) = k.socks.packet.get(id).map(|s| s.sk.ns) else { return };
    let Some(f) = group_mut(k, ns, group) else { return };
    f.members.push(id);
    let ignore_outgoing = f.flags & PACKET_FANOUT_FLAG_IGNORE_OUTGOING != 0;
    let hook = Hook { proto: f.proto, dev: f.dev, ignore_outgoing, to: Target::Fanout(group) };
    if f.members.len() == 1 {
        bind::add(k, ns, hook);
    }
}

/// The last one takes its place.
#[doc(alias = "__fanout_unlink")]
pub(super) fn unlink(k: &mut Kernel, id: PacketId, group: u16) {
    let Some(ns) = k.socks.packet.get(id).map(|s| s.sk.ns) else { return };
    let Some(f) = group_mut(k, ns, group) else { return };
    if let Some(at) = f.members.iter().position(|m| *m == id) {
        f.members.swap_remove(at);
    }
    if f.members.is_empty() {
        bind::remove(k, ns, Target::Fanout(group));
    }
}

#[doc(alias = "fanout_release")]
pub(super) fn leave(k: &mut Kernel, id: PacketId) {
    let Some((ns, Some(group))) = k.socks.packet.get(id).map(|s| (s.sk.ns, s.fanout)) else { return };
    let Some(n) = k.net.ns.get_mut(ns) else { return };
    let Some(at) = n.packet.fanouts.iter().position(|f| f.id == group) else { return };
    if let Some(f) = n.packet.fanouts.get_mut(at) {
        f.socks = f.socks.saturating_sub(1);
        if f.socks == 0 {
            n.packet.fanouts.remove(at);
        }
    }
}

/// What PACKET_FANOUT reads as.
pub(super) fn shown(k: &Kernel, s: &PacketSock) -> u32 {
    group_of(k, s).map_or(0, |f| u32::from(f.id) | u32::from(f.kind) << 16 | u32::from(f.flags) << 24)
}

pub(super) fn group_of<'a>(k: &'a Kernel, s: &PacketSock) -> Option<&'a Fanout> {
    k.net.ns.get(s.sk.ns)?.packet.fanouts.iter().find(|f| Some(f.id) == s.fanout)
}

/// PACKET_FANOUT_DATA: the program of a group that chooses by one.
#[doc(alias = "fanout_set_data")]
pub(super) fn set_data(k: &mut Kernel, id: PacketId, code: &[u8]) -> Result<(), Errno> {
    let s = k.socks.packet.get(id).ok_or(Errno::EBADF)?;
    let (ns, group, locked) = (s.sk.ns, s.fanout.ok_or(Errno::EINVAL)?, s.sk.flags.filter_locked);
    let f = group_mut(k, ns, group).ok_or(Errno::EINVAL)?;
    if f.kind != PACKET_FANOUT_CBPF {
        return Err(Errno::EINVAL);
    }
    if locked {
        return Err(Errno::EPERM);
    }
    f.prog = Some(Prog::new(code)?);
    Ok(())
}

/// Both directions of a flow to the same member.
#[doc(alias = "__skb_get_hash_symmetric")]
fn flow_hash(skb: &SkBuff, secret: [u64; 2]) -> u32 {
    let Some(key) = FlowKey::from_ip(skb.head.at(skb.network_header)) else {
        return keyed(secret, u64::from(skb.protocol), 0) as u32;
    };
    let key = key.min(key.reversed());
    let mut h = siphasher::sip::SipHasher13::new_with_keys(secret[0], secret[1]);
    key.hash(&mut h);
    h.finish() as u32
}

/// Who gets the packet.
#[doc(alias = "packet_rcv_fanout")]
pub(super) fn demux(k: &mut Kernel, ns: NsId, group: u16, skb: &SkBuff) -> Option<PacketId> {
    let cpu = k.net.cpu;
    let n = k.net.ns.get(ns)?;
    let f = n.packet.fanouts.iter().find(|f| f.id == group)?;
    let count = f.members.len();
    if count == 0 {
        return None;
    }
    let scale = |hash: u32| ((u64::from(hash) * count as u64) >> 32) as usize;
    let chosen = match f.kind {
        PACKET_FANOUT_HASH => scale(flow_hash(skb, n.secret)),
        PACKET_FANOUT_LB => f.next as usize % count,
        PACKET_FANOUT_CPU => cpu % count,
        PACKET_FANOUT_RND => scale(k.net.env.rng.next_u32()),
        PACKET_FANOUT_CBPF => {
            let anc = ancillary(&k.net, skb, n.secret);
            f.prog.as_ref().map_or(0, |p| p.run(&Packet::at_head(skb), &anc) as usize % count)
        }
        // One queue; no program.
        _ => 0,
    };
    let kind = f.kind;
    if let Some(f) = group_mut(k, ns, group) {
        f.next = f.next.wrapping_add(u32::from(kind == PACKET_FANOUT_LB));
    }
    rollover(k, ns, group, chosen)
}

/// A member without room hands on to the next that has some, where the group wants that.
#[doc(alias = "fanout_demux_rollover")]
fn rollover(k: &mut Kernel, ns: NsId, group: u16, chosen: usize) -> Option<PacketId> {
    let Kernel { socks, net, .. } = k;
    let f = net.ns.get_mut(ns)?.packet.fanouts.iter_mut().find(|f| f.id == group)?;
    let only = f.kind == PACKET_FANOUT_ROLLOVER;
    let has_room = |id: &PacketId| socks.packet.get(*id).is_some_and(|s| s.sk.rmem_alloc < s.sk.rcvbuf);
    let first = *f.members.get(chosen)?;
    let may = f.flags & PACKET_FANOUT_FLAG_ROLLOVER != 0;
    if !only && (!may || has_room(&first)) {
        return Some(first);
    }
    let n = f.members.len();
    let start = f.roll.min(n - 1);
    let found =
        (0..n).map(|i| (start + i) % n).find(|i| (*i != chosen || only) && f.members.get(*i).is_some_and(has_room));
    match found {
        Some(at) => {
            if at != start {
                f.roll = at;
            }
            f.rolled[0] += 1;
            f.members.get(at).copied()
        }
        None => {
            f.rolled[2] += 1;
            Some(first)
        }
    }
}
