//! Which socket a datagram is for: tables by port, by address and port, and by the whole 4-tuple of connected sockets.
use crate::ids::*;
use crate::lib::slab::Slab;
use crate::net::core::filter::{Ancillary, Packet};
use crate::net::core::reuseport::{self, Choice, Group};
use crate::net::ipv4::peer::Hash;
use crate::net::tcp::tables::{pair, wildcard};
use crate::net::udp::UdpSock;
use core::net::{IpAddr, Ipv4Addr};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hash::Hasher;

/// Local address and port, peer's address and port.
pub type Tuple = (IpAddr, u16, IpAddr, u16);

/// See the module. Lists are in order of entry: the newest comes last.
#[derive(Clone, Debug, Default)]
pub struct UdpTables {
    by_port: HashMap<u16, Vec<UdpId>, Hash>,
    by_addr: HashMap<End, Slot, Hash>,
    by_peer: HashMap<(End, End), Vec<UdpId>, Hash>,
    /// Devices that take datagrams to a port, by it and their network's number (`encap_rcv`).
    pub encap: BTreeMap<(u16, u32), DevId>,
    /// A program was attached to a group of this namespace, ever.
    pub programs: bool,
    /// A socket of this namespace asked for UDP_GRO, ever.
    pub gro: bool,
    /// Sockets whose receive queue had no room, for an account of the run.
    pub full: Vec<Full>,
}

/// Sockets remembered in [`UdpTables::full`].
const MOST_FULL: usize = 16;

/// A socket whose receive queue had no room, by its address. Not part of Linux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    pub local: (IpAddr, u16),
    /// Its limit, as SO_RCVBUF shows it.
    pub rcvbuf: u32,
    pub count: u64,
    /// Who sent the last one that was dropped.
    pub last: (IpAddr, u16),
}

impl UdpTables {
    /// A datagram from `last` was dropped; a socket beyond the bound is not remembered.
    #[cold]
    pub(super) fn was_full(&mut self, local: (IpAddr, u16), rcvbuf: u32, last: (IpAddr, u16)) {
        if let Some(f) = self.full.iter_mut().find(|f| f.local == local) {
            (f.count, f.rcvbuf, f.last) = (f.count + 1, rcvbuf, last);
        } else if self.full.len() < MOST_FULL {
            self.full.push(Full { local, rcvbuf, count: 1, last });
        }
    }
}

/// Sockets with one local address and port.
#[derive(Clone, Debug, Default)]
struct Slot {
    ids: Vec<UdpId>,
    /// How many of them are connected: without one there is no 4-tuple to look for (`hash4_cnt`).
    connected: u32,
}

fn take<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<UdpId>, Hash>, key: &K, id: UdpId) {
    if let Some(list) = map.get_mut(key) {
        list.retain(|x| *x != id);
        if list.is_empty() {
            map.remove(key);
        }
    }
}

/// Address and port as a key that hashes in few steps. IPv4 as mapped: no socket holds a mapped address otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    high: u64,
    low: u64,
    port: u16,
}

impl std::hash::Hash for End {
    fn hash<H: Hasher>(&self, h: &mut H) {
        h.write_u64(self.low ^ u64::from(self.port) << 48);
        if self.high != 0 {
            h.write_u64(self.high);
        }
    }
}

fn end(addr: IpAddr, port: u16) -> End {
    match addr {
        IpAddr::V4(a) => End { high: 0, low: 0xffff_0000_0000 | u64::from(a.to_bits()), port },
        IpAddr::V6(a) => End { high: (a.to_bits() >> 64) as u64, low: a.to_bits() as u64, port },
    }
}

/// `::` stands beside 0.0.0.0 in one list, in order of entry: it may take IPv4 too.
fn local(addr: IpAddr, port: u16) -> End {
    end(if addr.is_unspecified() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { addr }, port)
}

fn both((laddr, lport, raddr, rport): Tuple) -> (End, End) {
    (end(laddr, lport), end(raddr, rport))
}

impl UdpTables {
    pub fn insert(&mut self, id: UdpId, addr: IpAddr, port: u16) {
        self.by_port.entry(port).or_default().push(id);
        self.by_addr.entry(local(addr, port)).or_default().ids.push(id);
    }

    pub fn remove(&mut self, id: UdpId, addr: IpAddr, port: u16) {
        take(&mut self.by_port, &port, id);
        self.leave_addr(&local(addr, port), id);
    }

    fn leave_addr(&mut self, at: &End, id: UdpId) {
        if let Some(slot) = self.by_addr.get_mut(at) {
            slot.ids.retain(|x| *x != id);
            if slot.ids.is_empty() {
                self.by_addr.remove(at);
            }
        }
    }

    /// The local address changed (`udp_lib_rehash`).
    pub fn rehash(&mut self, id: UdpId, from: IpAddr, to: IpAddr, port: u16) {
        self.leave_addr(&local(from, port), id);
        self.by_addr.entry(local(to, port)).or_default().ids.push(id);
    }

    /// A socket that is in the tables by its local address was connected; `remove_peer` comes before that address changes.
    pub fn insert_peer(&mut self, id: UdpId, tuple: Tuple) {
        if let Some(slot) = self.by_addr.get_mut(&local(tuple.0, tuple.1)) {
            slot.connected += 1;
        }
        self.by_peer.entry(both(tuple)).or_default().push(id);
    }

    pub fn remove_peer(&mut self, id: UdpId, tuple: Tuple) {
        take(&mut self.by_peer, &both(tuple), id);
        if let Some(slot) = self.by_addr.get_mut(&local(tuple.0, tuple.1)) {
            slot.connected = slot.connected.saturating_sub(1);
        }
    }

    /// Sockets on a port, oldest first.
    pub fn on_port(&self, port: u16) -> &[UdpId] {
        self.by_port.get(&port).map_or(&[], |l| l)
    }

    /// A device takes what comes to the port.
    pub fn is_encap(&self, port: u16) -> bool {
        !self.encap.is_empty() && self.encap.range((port, 0)..=(port, u32::MAX)).next().is_some()
    }

    /// Sockets in the tables, for `check()`.
    pub fn len(&self) -> usize {
        let mut n = 0;
        (0..=u16::MAX).for_each(|p| n += self.on_port(p).len());
        n
    }

    pub fn is_empty(&self) -> bool {
        self.by_port.is_empty()
    }
}

/// The datagram that looks for a socket: destination first, as the tables are keyed.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    pub daddr: IpAddr,
    pub dport: u16,
    pub saddr: IpAddr,
    pub sport: u16,
    pub dev: Option<DevId>,
    pub secret: [u64; 2],
    pub cpu: usize,
    /// For a program that chooses within a group.
    pub packet: Option<(Packet<'a>, Ancillary)>,
}

impl Lookup<'_> {
    /// `udp_ehashfn`: the same 4-tuple always gives the same member of a group.
    fn hash(&self) -> u32 {
        let mut h = siphasher::sip::SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        match (self.daddr, self.saddr) {
            (IpAddr::V4(d), IpAddr::V4(s)) => {
                h.write_u32(d.to_bits());
                h.write_u32(s.to_bits());
            }
            (d, s) => h.write_u64(pair(self.secret, d, s)),
        }
        h.write_u32(u32::from(self.dport) << 16 | u32::from(self.sport));
        h.finish() as u32
    }

    /// How well a socket fits; `None` not at all. Family, peer, device and CPU count as in Linux.
    #[doc(alias = "compute_score")]
    #[inline]
    fn score(&self, s: &UdpSock) -> Option<u32> {
        let sk = &s.sk;
        if !sk.is_reached_by(self.daddr) {
            return None;
        }
        let own_family = self.daddr.is_ipv4() && sk.family == crate::net::core::sock::Family::Inet;
        let mut score = 1 + u32::from(own_family);
        for (set, same) in [
            (!sk.daddr.is_unspecified(), sk.daddr == self.saddr),
            (sk.dport != 0, sk.dport == self.sport),
            (sk.bound_dev.is_some(), sk.bound_dev == self.dev),
        ] {
            match (set, same) {
                (true, false) => return None,
                (true, true) => score += 4,
                _ => {}
            }
        }
        Some(score + u32::from(sk.incoming_cpu == self.cpu as i32))
    }
}

/// Connected to the sender, else bound to the address, else to the wildcard; among equals the newest ("overshadowing"),
/// in an SO_REUSEPORT group the hash decides.
#[doc(alias = "__udp4_lib_lookup")]
pub fn lookup(t: &UdpTables, socks: &Slab<UdpSock>, l: &Lookup<'_>) -> Option<UdpId> {
    let here = t.by_addr.get(&local(l.daddr, l.dport));
    if here.is_some_and(|slot| slot.connected > 0)
        && let Some(list) = t.by_peer.get(&both((l.daddr, l.dport, l.saddr, l.sport)))
        && let Some(id) = list.iter().rev().find(|id| socks.get(**id).is_some_and(|s| l.score(s).is_some()))
    {
        return Some(*id);
    }
    let bound = |slot: &Slot| match slot.ids.as_slice() {
        // Whatever a group or its program says, it is this one or none.
        [id] => socks.get(*id).is_some_and(|s| !s.hashed4 && l.score(s).is_some()).then_some(*id),
        ids => among(ids, socks, l),
    };
    here.and_then(bound).or_else(|| t.by_addr.get(&local(wildcard(l.daddr), l.dport)).and_then(bound))
}

#[doc(alias = "udp4_lib_lookup2")]
fn among(list: &[UdpId], socks: &Slab<UdpSock>, l: &Lookup<'_>) -> Option<UdpId> {
    let mut best: Option<(u32, UdpId)> = None;
    for id in list.iter().rev() {
        let Some(s) = socks.get(*id).filter(|s| !s.hashed4) else { continue };
        let Some(score) = l.score(s) else { continue };
        if best.is_none_or(|(b, _)| score > b) {
            best = Some((score, *id));
        }
    }
    let (_, id) = best?;
    let Some(group) = Group::of(&socks.get(id)?.sk) else { return Some(id) };
    let sock = |id: &UdpId| socks.get(*id).filter(|s| !s.hashed4).map(|s| &s.sk);
    reuseport::select(list, sock, group, &Choice { hash: l.hash(), cpu: l.cpu, packet: l.packet })
}
