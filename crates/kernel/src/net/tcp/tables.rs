//! The hash tables of a namespace: ehash (connections, requests, TIME_WAIT by 4-tuple), bhash (who holds a port), and
//! the listeners. The tuple lives once, in the object; an ehash entry is a hash and a tagged slot number, 8 bytes.
pub use super::bhash::{Bhash, BindRef, Class, Hold};
use super::handshake::request::RequestSock;
use super::handshake::time_wait::{TimeWaitSock, TwQueue};
use super::sock::TcpSock;
use super::state::State;
use crate::env::TimerSlot;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::filter::Packet;
use crate::net::core::reuseport::{self, Choice, Group};
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::{Family, SOCK_CONNECT_BIND, Sock};
use crate::net::{Net, af};
use core::hash::Hasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;

/// A connection as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub laddr: IpAddr,
    pub raddr: IpAddr,
    pub lport: u16,
    pub rport: u16,
}

impl Tuple {
    /// Of a received packet: its destination is local.
    pub fn of_packet(skb: &SkBuff) -> Tuple {
        let ((src, dst), (sport, dport)) = (af::addresses(skb), super::ipv4::ports(skb));
        Tuple { laddr: dst, raddr: src, lport: dport, rport: sport }
    }

    pub fn of(sk: &TcpSock) -> Tuple {
        Tuple { laddr: sk.sk.rcv_saddr, raddr: sk.sk.daddr, lport: sk.sk.num, rport: sk.sk.dport }
    }

    /// Keyed, so that a stranger cannot aim at one bucket, and quick: two folded multiplications (Linux: jhash).
    #[doc(alias = "inet_ehashfn")]
    pub fn hash(&self, secret: [u64; 2]) -> u32 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a) * u128::from(b);
            (wide >> 64) as u64 ^ wide as u64
        };
        let addrs = match (self.laddr, self.raddr) {
            (IpAddr::V4(l), IpAddr::V4(r)) => u64::from(l.to_bits()) << 32 | u64::from(r.to_bits()),
            (l, r) => {
                let [l, r] = [l, r].map(halves);
                fold(fold(l.0 ^ secret[0], l.1 ^ secret[1]) ^ r.0, r.1 ^ secret[0] | 1)
            }
        };
        let ports = u64::from(self.lport) << 16 | u64::from(self.rport);
        let first = fold(addrs ^ secret[0], secret[1] | 1);
        (fold(first ^ ports ^ secret[1], secret[0] | 1) >> 16) as u32
    }
}

fn halves(a: IpAddr) -> (u64, u64) {
    let bits = match a {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    };
    ((bits >> 64) as u64, bits as u64)
}

/// Two addresses as one word for [`keyed`]: IPv4 addresses as they are, others hashed.
pub fn pair(secret: [u64; 2], a: IpAddr, b: IpAddr) -> u64 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(a.to_bits()) << 32 | u64::from(b.to_bits()),
        _ => {
            let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
            keyed(secret, keyed(secret, a0, a1), keyed(secret, b0, b1))
        }
    }
}

/// One round of the keyed hash of a namespace.
pub fn keyed(secret: [u64; 2], a: u64, b: u64) -> u64 {
    let mut h = SipHasher13::new_with_keys(secret[0], secret[1]);
    h.write_u64(a);
    h.write_u64(b);
    h.finish()
}

/// What an ehash entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EhashRef {
    Sock(TcpId),
    Request(ReqId),
    TimeWait(TwId),
}

/// Kind in the two high bits, slot number below: an object leaves ehash before its slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EhashEntry {
    hash: u32,
    place: u32,
}

const SLOT_BITS: u32 = 30;

/// An ehash for so many entries is never made smaller.
const KEEP: usize = 4096;

impl EhashRef {
    fn place(self) -> u32 {
        match self {
            EhashRef::Sock(id) => id.slot(),
            EhashRef::Request(id) => 1 << SLOT_BITS | id.slot(),
            EhashRef::TimeWait(id) => 2 << SLOT_BITS | id.slot(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct TcpTables {
    pub ehash: HashTable<EhashEntry>,
    pub bhash: Bhash,
    /// Listeners of a port in order of listen().
    pub listeners: BTreeMap<u16, Vec<TcpId>>,
    pub reqs: Slab<RequestSock>,
    pub tws: Slab<TimeWaitSock>,
    /// TIME_WAIT entries that live 60 seconds.
    pub tw_queue: TwQueue,
    /// Keys of those whose connection was signed, by slot.
    pub tw_md5: BTreeMap<u32, super::md5sig::Md5Key>,
    pub tw_timer: TimerSlot,
    /// Moves connect()'s walk over the ports on, by destination (`table_perturb`).
    pub perturb: Vec<u32>,
    /// What is remembered of peers between connections.
    pub metrics: super::metrics::Metrics,
    /// When Fast Open was paused because of a black hole, and how often in a row.
    pub tfo_disabled_at: u64,
    pub tfo_disable_times: u32,
    /// Challenge ACKs: the second, and how many are left in it.
    pub challenge: (u32, u32),
    /// For the end account.
    pub account: super::account::Account,
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl TcpTables {
    pub fn insert(&mut self, hash: u32, what: EhashRef) {
        self.ehash.insert_unique(spread(hash), EhashEntry { hash, place: what.place() }, |e| spread(e.hash));
    }

    pub fn remove(&mut self, hash: u32, what: EhashRef) {
        let place = what.place();
        if let Ok(e) = self.ehash.find_entry(spread(hash), |e| e.place == place) {
            e.remove();
        }
        if self.ehash.capacity() > KEEP && self.ehash.len() < self.ehash.capacity() / 8 {
            self.ehash.shrink_to(2 * self.ehash.len(), |e| spread(e.hash));
        }
    }

    /// Takes the place of another entry with the same tuple.
    pub fn replace(&mut self, hash: u32, old: EhashRef, new: EhashRef) {
        let place = old.place();
        if let Some(e) = self.ehash.find_mut(spread(hash), |e| e.place == place) {
            e.place = new.place();
        } else {
            self.insert(hash, new);
        }
    }

    /// Bytes held by the tables themselves.
    pub fn bytes(&self) -> usize {
        self.ehash_bytes() + self.bhash.bytes() + self.tws.bytes() + self.reqs.bytes()
    }

    pub fn ehash_bytes(&self) -> usize {
        // hashbrown fills seven of eight buckets.
        self.ehash.capacity() * 8 / 7 * (size_of::<EhashEntry>() + 1)
    }

    /// Who stands for this tuple. `tuple_of` tells a socket's.
    pub fn find(&self, hash: u32, t: &Tuple, socks: &Slab<TcpSock>) -> Option<EhashRef> {
        let mut found = None;
        self.ehash.find(spread(hash), |e| {
            if e.hash != hash {
                return false;
            }
            let slot = e.place & ((1 << SLOT_BITS) - 1);
            found = match e.place >> SLOT_BITS {
                0 => socks.at_slot(slot).filter(|(_, s)| Tuple::of(s) == *t).map(|(id, _)| EhashRef::Sock(id)),
                1 => self.reqs.at_slot(slot).filter(|(_, r)| r.tuple() == *t).map(|(id, _)| EhashRef::Request(id)),
                _ => self.tws.at_slot(slot).filter(|(_, w)| w.tuple() == *t).map(|(id, _)| EhashRef::TimeWait(id)),
            };
            found.is_some()
        });
        found
    }
}

/// The connection, request or TIME_WAIT of a packet (`__inet_lookup_established`).
#[doc(alias = "__inet_lookup_established")]
pub fn lookup(k: &Kernel, ns: NsId, t: &Tuple, dev: Option<DevId>) -> Option<EhashRef> {
    let n = k.net.ns.get(ns)?;
    let found = n.tcp.find(t.hash(n.secret), t, &k.socks.tcp)?;
    if let (EhashRef::Sock(id), Some(dev)) = (found, dev)
        && let Some(bound) = k.socks.tcp.get(id)?.sk.bound_dev
        && af::inet_iif(&k.net, Some(dev), t.laddr) != Some(bound)
    {
        return None;
    }
    Some(found)
}

/// The listener for a SYN: exact address before wildcard; device and family score; a SO_REUSEPORT group shares by
/// keyed hash (`__inet_lookup_listener`).
#[doc(alias = "__inet_lookup_listener")]
pub fn lookup_listener(k: &Kernel, ns: NsId, t: &Tuple, skb: &SkBuff) -> Option<TcpId> {
    let n = k.net.ns.get(ns)?;
    if let Some((addr, port)) = skb.tproxy {
        return tproxy_listener(k, ns, t, skb, (addr, port));
    }
    let ids = n.tcp.listeners.get(&t.lport);
    let found = ids.and_then(|ids| {
        [t.laddr, wildcard(t.laddr)].into_iter().find_map(|addr| best_of(k, ids, addr, n.secret, t, skb))
    });
    found.or_else(|| transparent_listener(k, ns, t, skb.dev))
}

/// What a socket is bound to that takes every address of this family.
pub fn wildcard(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The best among the listeners of one address, the newest first; the first of a group that is better than those before
/// it stands for the whole group (`inet_lhash2_lookup`).
fn best_of(k: &Kernel, ids: &[TcpId], addr: IpAddr, secret: [u64; 2], t: &Tuple, skb: &SkBuff) -> Option<TcpId> {
    let sock = |id: &TcpId| k.socks.tcp.get(*id).map(|s| &s.sk);
    let mut best: Option<(u32, TcpId)> = None;
    for id in ids.iter().rev() {
        let Some(s) = sock(id) else { continue };
        let dev = if s.bound_dev.is_some() { af::inet_iif(&k.net, skb.dev, t.laddr) } else { skb.dev };
        let Some(score) = score(k, s, addr, dev) else { continue };
        if best.is_some_and(|(top, _)| score <= top) {
            continue;
        }
        if let Some(group) = Group::of(s) {
            let packet =
                s.reuseport_prog().map(|_| (Packet::tcp(skb).payload(), reuseport::ancillary(&k.net, skb, secret)));
            let choice = Choice { hash: t.hash([secret[1], secret[0]]), cpu: k.net.cpu, packet };
            return reuseport::select(ids, sock, group, &choice);
        }
        best = Some((score, *id));
    }
    Some(best?.1)
}

/// How well a listener fits a connection to `addr`: family, device and CPU count; `None` not at all.
#[doc(alias = "compute_score")]
fn score(k: &Kernel, s: &Sock, addr: IpAddr, dev: Option<DevId>) -> Option<u32> {
    let fits = s.is_bound_to(addr) && (s.bound_dev.is_none() || s.bound_dev == dev);
    let here = s.incoming_cpu == k.net.cpu as i32;
    let own_family = addr.is_ipv4() && s.family == Family::Inet;
    fits.then_some(1 + u32::from(s.bound_dev.is_some()) + u32::from(own_family) + u32::from(here))
}

/// A TPROXY rule said which: it has to take connections to foreign addresses (IP_TRANSPARENT).
#[doc(alias = "nf_tproxy_get_sock_v4")]
fn tproxy_listener(k: &Kernel, ns: NsId, t: &Tuple, skb: &SkBuff, (addr, port): (IpAddr, u16)) -> Option<TcpId> {
    let n = k.net.ns.get(ns)?;
    let (laddr, lport) = tproxy_to(k, t.laddr, t.lport, skb, (addr, port));
    let ids = n.tcp.listeners.get(&lport)?;
    let to = Tuple { laddr, lport, ..*t };
    let found = [laddr, wildcard(laddr)].into_iter().find_map(|a| best_of(k, ids, a, n.secret, &to, skb))?;
    k.socks.tcp.get(found).is_some_and(|s| s.sk.flags.transparent).then_some(found)
}

/// Address and port of the rule; zero is the device's first address, and the packet's own port.
pub fn tproxy_to(k: &Kernel, laddr: IpAddr, lport: u16, skb: &SkBuff, (addr, port): (IpAddr, u16)) -> (IpAddr, u16) {
    let of_dev = || {
        let d = k.net.devs.get(skb.dev?)?;
        match laddr {
            IpAddr::V4(_) => d.addrs.first().map(|a| IpAddr::V4(a.local)),
            IpAddr::V6(_) => d.inet6.addrs.iter().find(|a| !a.tentative()).map(|a| IpAddr::V6(a.addr)),
        }
    };
    let addr = if addr.is_unspecified() { of_dev().unwrap_or(laddr) } else { addr };
    (addr, if port == 0 { lport } else { port })
}

/// A gateway takes connections to any foreign address on one of its devices (IP_TRANSPARENT with TPROXY).
fn transparent_listener(k: &Kernel, ns: NsId, t: &Tuple, dev: Option<DevId>) -> Option<TcpId> {
    let rule = k.net.ns.get(ns)?.tproxy?;
    if dev != Some(rule.dev) || af::is_local(&k.net, ns, t.laddr) {
        return None;
    }
    rule.tcp.filter(|id| k.socks.tcp.get(*id).is_some_and(|s| s.state == State::Listen))
}

/// Into ehash by its tuple.
#[doc(alias = "inet_ehash_insert")]
pub fn hash(net: &mut Net, sk: &mut TcpSock, id: TcpId) {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    let h = Tuple::of(sk).hash(n.secret);
    n.tcp.insert(h, EhashRef::Sock(id));
    sk.ehash = Some(h);
    sk.txhash = h | 1;
}

/// Out of ehash, or out of the listeners.
#[doc(alias = "inet_unhash")]
pub fn unhash(net: &mut Net, sk: &mut TcpSock, id: TcpId) {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    if let Some(h) = sk.ehash.take() {
        n.tcp.remove(h, EhashRef::Sock(id));
    }
}

/// Gives the port back.
#[doc(alias = "inet_put_port")]
pub fn put_port(net: &mut Net, sk: &mut TcpSock, _id: TcpId) {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    if let Some(bind) = sk.bind.take() {
        n.tcp.bhash.release(bind);
        sk.sk.userlocks &= !SOCK_CONNECT_BIND;
    }
}

/// The options or the state of a bound socket changed: its class with them.
pub fn reclass(net: &mut Net, sk: &mut TcpSock) {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return };
    if let Some(bind) = sk.bind {
        sk.bind = Some(n.tcp.bhash.reclass(bind, Class::of(sk)));
    }
}
