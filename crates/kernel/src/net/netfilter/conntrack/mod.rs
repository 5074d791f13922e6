//! Connection tracking: which connection a packet belongs to, and how far that has come.
//!
//! Connections of all namespaces lie in one table, as in Linux; each knows its own. One is unconfirmed until the packet
//! that began it leaves the machine or reaches a socket; if that packet dies before, the connection does too.
pub mod icmp;
mod invalid;
pub mod netlink;
pub mod show;
pub mod tcp;
pub mod tuple;

use super::{Hook, Netfilter, Pf, Verdict};
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, TimerKey, TimerSlot};
use crate::ids::*;
use crate::mem::{Gfp, Kind};
use crate::net::core::skb::SkBuff;
use crate::net::hits::Hits;
use crate::net::netfilter::packet::Pkt;
use crate::net::sysctl::Sysctl;
use crate::net::{Net, af};
use belljar_abi::Errno;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use hashbrown::HashTable;
use invalid::Why;
use std::hash::{Hash, Hasher};
pub use tuple::{Tuple, Zone};

pub const IPS_EXPECTED: u32 = 1;
pub const IPS_SEEN_REPLY: u32 = 1 << 1;
pub const IPS_ASSURED: u32 = 1 << 2;
pub const IPS_CONFIRMED: u32 = 1 << 3;
pub const IPS_SRC_NAT: u32 = 1 << 4;
pub const IPS_DST_NAT: u32 = 1 << 5;
pub const IPS_SRC_NAT_DONE: u32 = 1 << 7;
pub const IPS_DST_NAT_DONE: u32 = 1 << 8;
/// Out of the table, and kept for the packet that is on its way with it.
pub const IPS_DYING: u32 = 1 << 9;

/// How a packet stands to its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CtInfo {
    /// Not looked at, or of no connection (INVALID).
    #[default]
    None,
    Established,
    Related,
    New,
    EstablishedReply,
    RelatedReply,
    Untracked,
}

impl CtInfo {
    pub fn is_reply(self) -> bool {
        matches!(self, CtInfo::EstablishedReply | CtInfo::RelatedReply)
    }

    /// Index of the direction's tuple.
    pub fn dir(self) -> usize {
        self.is_reply().into()
    }

    pub fn is_related(self) -> bool {
        matches!(self, CtInfo::Related | CtInfo::RelatedReply)
    }
}

/// What a packet carries of its connection (`skb->_nfct`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NfCt {
    pub ct: Option<CtId>,
    pub info: CtInfo,
    /// What a rule said before there was a connection (Linux: a template).
    pub zone: Zone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Tcp(tcp::Track),
    /// From when on traffic both ways is a stream.
    Udp {
        stream: Jiffies,
    },
    Icmp,
    Generic,
}

/// A connection (`struct nf_conn`).
#[derive(Clone, Debug)]
pub struct Conn {
    pub ns: NsId,
    pub tuple: [Tuple; 2],
    /// `IPS_*`.
    pub status: u32,
    /// While unconfirmed, how long it shall live.
    pub expires: Jiffies,
    timer: TimerSlot,
    pub mark: u32,
    pub zone: Zone,
    pub id: u32,
    pub proto: Proto,
    /// Masqueraded with an address of this device.
    pub masq: Option<DevId>,
    /// What has become different and is not told yet ([`netlink`]).
    events: u8,
    /// With nf_conntrack_events 0 nothing of it is told.
    silent: bool,
    /// When it began by the clock, with nf_conntrack_timestamp.
    pub began: Option<u64>,
    /// Packets and bytes of each direction, with nf_conntrack_acct.
    pub acct: Option<[(u64, u64); 2]>,
}

impl Conn {
    pub fn is_confirmed(&self) -> bool {
        self.status & IPS_CONFIRMED != 0
    }

    /// It stands in the table, and in lists.
    pub fn is_listed(&self) -> bool {
        self.status & (IPS_CONFIRMED | IPS_DYING) == IPS_CONFIRMED
    }

    /// Over, and kept for what may still come (`already_closed`).
    pub fn is_closed(&self) -> bool {
        matches!(&self.proto, Proto::Tcp(t) if matches!(t.state, tcp::State::TimeWait | tcp::State::Close))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    id: CtId,
    dir: u8,
}

/// Columns of `/proc/net/stat/nf_conntrack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtStat {
    pub clash_resolve: u32,
    pub found: u32,
    pub invalid: u32,
    pub insert: u32,
    pub insert_failed: u32,
    pub drop: u32,
    pub early_drop: u32,
    pub error: u32,
}

/// Of all namespaces together.
#[derive(Clone, Debug, Default)]
pub struct Conntrack {
    pub conns: Slab<Conn>,
    table: HashTable<Entry>,
    last_id: u32,
    /// Who deletes connections by netlink just now.
    asker: u32,
    /// Slots that were ever in use: where an early drop looks.
    slots: u32,
}

fn hash(secret: [u64; 2], ns: NsId, t: &Tuple) -> u64 {
    let mut h = siphasher::sip::SipHasher13::new_with_keys(secret[0], secret[1]);
    ns.slot().hash(&mut h);
    t.hash(&mut h);
    h.finish()
}

impl Conntrack {
    fn find_hashed(&self, ns: NsId, t: &Tuple, hash: u64) -> Option<(CtId, usize)> {
        let is = |e: &Entry| {
            let known = e.hash == hash;
            known && self.conns.get(e.id).is_some_and(|c| c.ns == ns && c.tuple.get(e.dir as usize) == Some(t))
        };
        self.table.find(hash, is).map(|e| (e.id, e.dir.into()))
    }
}

impl Net {
    fn ct_hash(&self, ns: NsId, t: &Tuple) -> u64 {
        hash(self.ns.get(ns).map_or([0; 2], |n| n.secret), ns, t)
    }

    /// The confirmed connection with this tuple, and which of its two it is.
    #[doc(alias = "nf_conntrack_find_get")]
    pub fn ct_find(&self, ns: NsId, t: &Tuple) -> Option<(CtId, usize)> {
        self.ct.find_hashed(ns, t, self.ct_hash(ns, t))
    }

    /// The same where a zone counts: each direction is looked for by what the zone is for it.
    #[cold]
    pub(super) fn ct_find_in(&self, ns: NsId, t: &Tuple, zone: Zone) -> Option<(CtId, usize)> {
        let find = |dir: usize| {
            let t = Tuple { zone: zone.of(dir), ..*t };
            self.ct_find(ns, &t).filter(|(_, found)| zone.of(*found) == t.zone)
        };
        find(0).or_else(|| find(1))
    }

    /// Out of the table: nobody finds it any more.
    fn ct_unhash(&mut self, id: CtId) {
        if self.ct.conns.get(id).is_none_or(|c| c.status & IPS_DYING != 0) {
            return;
        }
        netlink::destroyed(self, id);
        let Some(c) = self.ct.conns.get_mut(id) else { return };
        c.status |= IPS_DYING;
        let (ns, tuples, confirmed) = (c.ns, c.tuple, c.is_confirmed());
        if confirmed {
            for t in &tuples {
                let h = self.ct_hash(ns, t);
                if let Ok(e) = self.ct.table.find_entry(h, |e| e.id == id) {
                    e.remove();
                }
            }
        }
        if let Some(n) = self.ns.get_mut(ns) {
            n.sysctl.nf_conntrack_count.0 = n.sysctl.nf_conntrack_count.0.saturating_sub(1);
        }
    }

    /// Out of the table, the wheel and the slab.
    #[doc(alias = "nf_ct_delete")]
    pub fn ct_delete(&mut self, id: CtId) {
        self.ct_unhash(id);
        if let Some(mut c) = self.ct.conns.remove(id) {
            self.env.timers.remove(&mut c.timer);
        }
    }

    /// Out of the table at once, and for good when the packet that ended it is through all hooks: it still belongs to the
    /// connection, and is translated by it.
    #[doc(alias = "nf_ct_kill_acct")]
    fn ct_kill(&mut self, id: CtId) {
        self.ct_unhash(id);
        let at = self.env.jiffies().wrapping_add(1);
        if let Some(c) = self.ct.conns.get_mut(id) {
            self.env.timers.arm(&mut c.timer, at, TimerKey::Conntrack(id));
        }
    }

    /// A packet ends: what it began before anybody saw it ends with it.
    #[cold]
    pub fn ct_put(&mut self, nf: NfCt) {
        if let Some(id) = nf.ct
            && self.ct.conns.get(id).is_some_and(|c| !c.is_confirmed())
            && nf.info == CtInfo::New
        {
            self.ct_delete(id);
        }
    }

    /// Connections that `which` names end; how many.
    pub fn ct_flush(&mut self, ns: NsId, which: impl Fn(&Conn) -> bool) -> usize {
        let ids: Vec<CtId> = self.ct.conns.iter().filter(|(_, c)| c.ns == ns && which(c)).map(|(id, _)| id).collect();
        ids.iter().for_each(|id| self.ct_delete(*id));
        ids.len()
    }

    /// A device went down or lost an address: what is masqueraded with it has no way back.
    #[doc(alias = "masq_device_event")]
    pub fn masq_gone(&mut self, dev: DevId, addr: Option<u128>) {
        let Some(ns) = self.devs.get(dev).map(|d| d.ns) else { return };
        if self.ct.conns.is_empty() {
            return;
        }
        self.ct_flush(ns, |c| c.masq == Some(dev) && addr.is_none_or(|a| c.tuple[1].dst == a));
    }

    /// A connection's time comes.
    pub fn ct_timer(&mut self, id: CtId, at: Fired) {
        let now = self.env.jiffies();
        let Some(c) = self.ct.conns.get_mut(id) else { return };
        if self.env.timers.look(&mut c.timer, at, now, TimerKey::Conntrack(id)) == Fire::Due {
            self.ct_delete(id);
        }
    }

    fn ct_stat(&mut self, ns: NsId, f: impl FnOnce(&mut CtStat)) {
        if let Some(n) = self.ns.get_mut(ns) {
            f(&mut n.ct_stat);
        }
    }

    /// It lives for another `secs` seconds.
    #[doc(alias = "nf_ct_refresh_acct")]
    fn ct_refresh(&mut self, id: CtId, secs: u32) {
        let ticks = (u64::from(secs) * u64::from(self.env.hz)) as Jiffies;
        let now = self.env.jiffies();
        let Some(c) = self.ct.conns.get_mut(id) else { return };
        if !c.is_confirmed() {
            c.expires = ticks;
            return;
        }
        let at = now.wrapping_add(ticks);
        if at != c.expires {
            c.expires = at;
            self.env.timers.arm(&mut c.timer, at, TimerKey::Conntrack(id));
        }
    }

    fn ct_sysctl(&self, ns: NsId) -> Option<&Sysctl> {
        self.ns.get(ns).map(|n| &n.sysctl)
    }
}

/// Finds or begins the packet's connection. Packets of none go on as INVALID.
pub fn nf_conntrack_in(net: &mut Net, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff) -> Verdict {
    if skb.nf.ct.is_some() || skb.nf.info == CtInfo::Untracked {
        // Seen on its way out through lo, or not to be seen.
        return Verdict::Accept;
    }
    let zone = skb.nf.zone;
    for _ in 0..2 {
        skb.nf = NfCt { zone, ..NfCt::default() };
        // A finished connection begins anew: once more, without the old one.
        if let Ok(verdict) = track(net, ns, hook, p, skb) {
            return verdict;
        }
    }
    Verdict::Accept
}

struct Again;

fn track(net: &mut Net, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff) -> Result<Verdict, Again> {
    let invalid = |net: &mut Net, skb: &mut SkBuff, why: Why| {
        invalid::say(net, ns, p, skb, why);
        skb.nf = NfCt::default();
        net.ct_stat(ns, |s| s.invalid += 1);
        Ok(Verdict::Accept)
    };
    let Some(mut t) = Tuple::of(p, skb) else { return invalid(net, skb, Why::Unsaid) };
    let zone = skb.nf.zone;
    t.zone = zone.of(0);
    if t.is_icmp() {
        match icmp::error(net, ns, hook, p, skb) {
            icmp::Error::No => {}
            icmp::Error::Related => return Ok(Verdict::Accept),
            icmp::Error::Invalid(why) => {
                net.ct_stat(ns, |s| s.error += 1);
                return invalid(net, skb, why);
            }
        }
    }
    let hash = net.ct_hash(ns, &t);
    let found = match net.ct.find_hashed(ns, &t, hash) {
        found if zone.id == 0 => found,
        _ => net.ct_find_in(ns, &t, zone),
    };
    let (id, dir) = match found {
        Some(found) => found,
        None => match init_conntrack(net, ns, &t, hash, p, skb) {
            Ok(id) => (id, 0),
            Err(New::Invalid(why)) => return invalid(net, skb, why),
            Err(New::Drop(e)) => return Ok(Verdict::Drop(e)),
        },
    };
    let status = net.ct.conns.get(id).map_or(0, |c| c.status);
    let info = match dir {
        1 => CtInfo::EstablishedReply,
        _ if status & IPS_SEEN_REPLY != 0 => CtInfo::Established,
        _ if status & IPS_EXPECTED != 0 => CtInfo::Related,
        _ => CtInfo::New,
    };
    skb.nf = NfCt { ct: Some(id), info, zone };
    let before = net.ct.conns.get(id).map(Conn::told);
    let good = match t.proto {
        IPPROTO_TCP => match tcp::packet(net, ns, hook, id, dir, p, skb) {
            tcp::Seen::Good => Ok(()),
            tcp::Seen::Ignored(why) => {
                invalid::say(net, ns, p, skb, why);
                Ok(())
            }
            tcp::Seen::Invalid(why) => Err(why),
            tcp::Seen::Reopen => {
                net.ct_delete(id);
                return Err(Again);
            }
        },
        IPPROTO_UDP => udp(net, ns, hook, id, p, skb),
        _ if t.is_icmp() => {
            let secs = net.ct_sysctl(ns).map_or(30, |s| {
                if p.pf == Pf::V4 { s.nf_conntrack_icmp_timeout.get() } else { s.nf_conntrack_icmpv6_timeout.get() }
            });
            net.ct_refresh(id, secs);
            Ok(())
        }
        _ => {
            let secs = net.ct_sysctl(ns).map_or(600, |s| s.nf_conntrack_generic_timeout.get());
            net.ct_refresh(id, secs);
            Ok(())
        }
    };
    if let Err(why) = good {
        let nf = skb.nf;
        let done = invalid(net, skb, why);
        net.ct_put(nf);
        return done;
    }
    if let Some(c) = net.ct.conns.get_mut(id) {
        if info == CtInfo::EstablishedReply {
            c.status |= IPS_SEEN_REPLY;
        }
        if let Some(a) = c.acct.as_mut().and_then(|a| a.get_mut(dir)) {
            a.0 += u64::from(skb.gso.map_or(1, |g| g.segs));
            a.1 += p.len as u64;
        }
        c.note(before);
    }
    Ok(Verdict::Accept)
}

/// UDP: a stream after two seconds of traffic both ways.
#[doc(alias = "nf_conntrack_udp_packet")]
fn udp(net: &mut Net, ns: NsId, hook: Hook, id: CtId, p: &Pkt, skb: &mut SkBuff) -> Result<(), Why> {
    let body = p.len.saturating_sub(p.at);
    let len = p.transport(skb).get(4..6).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    if body < belljar_wire::udp::UDP_HLEN {
        return Err(Why::Said("short packet"));
    }
    if skb.gso.is_none() && (len > body || len < belljar_wire::udp::UDP_HLEN) {
        return Err(Why::Said("truncated/malformed packet"));
    }
    let zero = p.transport(skb).get(6..8) == Some(&[0, 0]);
    if !zero && !checksum_good(net, ns, hook, p, skb) {
        return Err(Why::Said("bad checksum"));
    }
    let now = net.env.jiffies();
    let Some(s) = net.ct_sysctl(ns) else { return Err(Why::Unsaid) };
    let (short, long) = (s.nf_conntrack_udp_timeout.get(), s.nf_conntrack_udp_timeout_stream.get());
    let Some(c) = net.ct.conns.get_mut(id) else { return Err(Why::Unsaid) };
    let Proto::Udp { stream } = c.proto else { return Err(Why::Unsaid) };
    let is_stream = c.status & IPS_SEEN_REPLY != 0 && now > stream;
    if is_stream {
        c.status |= IPS_ASSURED;
    }
    net.ct_refresh(id, if is_stream { long } else { short });
    Ok(())
}

/// Packets from outside are checked once, so that no broken one moves a state (nf_conntrack_checksum).
#[doc(alias = "nf_checksum")]
fn checksum_good(net: &Net, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff) -> bool {
    use belljar_wire::{Csum, checksum};
    let wanted = net.ct_sysctl(ns).is_some_and(|s| s.nf_conntrack_checksum != 0);
    if hook != Hook::PreRouting || skb.csum != Csum::None || !wanted || skb.gso.is_some() {
        return true;
    }
    let linear = skb.head.bytes().get(p.at..).unwrap_or(&[]);
    let (src, dst) = (super::packet::addr(p.pf, p.src), super::packet::addr(p.pf, p.dst));
    let plain = p.pf == Pf::V4 && p.proto == belljar_wire::ipv4::IPPROTO_ICMP;
    let pseudo = if plain { 0 } else { checksum::pseudo(src, dst, p.proto, p.len.saturating_sub(p.at)) };
    let sum = checksum::combine(checksum::sum(linear, pseudo), checksum::segs(&skb.frags), linear.len());
    let good = checksum::fold(sum) == 0;
    if good && !plain {
        skb.csum = Csum::Unnecessary;
    }
    good
}

/// Why a table that is full takes nothing: said at most ten times in five seconds.
const TABLE_FULL: &str = "nf_conntrack: nf_conntrack: table full, dropping packet";

/// Why a packet begins no connection.
enum New {
    Invalid(Why),
    Drop(Errno),
}

#[cold]
fn table_full(net: &mut Net, ns: NsId, skb: &SkBuff) {
    net.ct_stat(ns, |s| s.drop += 1);
    net.kmsg_ratelimited(TABLE_FULL);
    let (now, who) = (net.env.now, af::addresses(skb).0);
    if let Some(n) = net.ns.get_mut(ns) {
        Hits::note(&mut n.ct_full, now, who);
    }
}

fn init_conntrack(net: &mut Net, ns: NsId, t: &Tuple, hash: u64, p: &Pkt, skb: &SkBuff) -> Result<CtId, New> {
    const NO: New = New::Invalid(Why::Unsaid);
    let reply = Tuple { zone: skb.nf.zone.of(1), ..t.invert().ok_or(NO)? };
    let s = net.ct_sysctl(ns).ok_or(NO)?;
    let proto = match t.proto {
        IPPROTO_TCP => Proto::Tcp(tcp::new(s, p, skb).map_err(New::Invalid)?),
        IPPROTO_UDP => Proto::Udp { stream: net.env.jiffies().wrapping_add((2 * net.env.hz) as Jiffies) },
        _ if t.is_icmp() && !t.asks() => return Err(NO),
        _ if t.is_icmp() => Proto::Icmp,
        _ => Proto::Generic,
    };
    let acct = (s.nf_conntrack_acct != 0).then_some([(0, 0); 2]);
    let (silent, began) = (s.nf_conntrack_events == 0, (s.nf_conntrack_timestamp != 0).then_some(0));
    let (count, max) = (s.nf_conntrack_count.0, net.sysctl.nf_conntrack_max);
    if max != 0 && count >= max && !early_drop(net, ns, hash) {
        table_full(net, ns, skb);
        return Err(New::Drop(Errno::EPERM));
    }
    if !net.mem.room(Kind::Conntrack, &net.ct.conns, Gfp::Atomic) {
        net.ct_stat(ns, |s| s.drop += 1);
        return Err(New::Drop(Errno::ENOMEM));
    }
    net.ct.last_id = net.ct.last_id.wrapping_add(1);
    let id = net.ct.conns.insert(Conn {
        ns,
        tuple: [*t, reply],
        status: 0,
        expires: 0,
        timer: TimerSlot::default(),
        mark: 0,
        zone: skb.nf.zone,
        id: net.ct.last_id,
        proto,
        masq: None,
        events: 0,
        silent,
        began,
        acct,
    });
    net.ct.slots = net.ct.slots.max(id.slot() + 1);
    if let Some(n) = net.ns.get_mut(ns) {
        n.sysctl.nf_conntrack_count.0 += 1;
    }
    Ok(id)
}

/// Connections an early drop looks at before it gives up.
const EVICTION_RANGE: u32 = 64;

/// One that is not ASSURED makes room.
fn early_drop(net: &mut Net, ns: NsId, hash: u64) -> bool {
    let slots = net.ct.slots.max(1);
    for n in 0..EVICTION_RANGE.min(slots) {
        let at = ((hash % u64::from(slots)) as u32 + n) % slots;
        if let Some((id, c)) = net.ct.conns.at_slot(at)
            && c.ns == ns
            && c.is_listed()
            && c.status & IPS_ASSURED == 0
        {
            net.ct_delete(id);
            net.ct_stat(ns, |s| s.early_drop += 1);
            return true;
        }
    }
    false
}

/// The packet got through: its connection is known from now on. When another one took either tuple meanwhile, the packet
/// is dropped.
#[doc(alias = "__nf_conntrack_confirm")]
pub fn nf_conntrack_confirm(net: &mut Net, ns: NsId, skb: &SkBuff) -> Verdict {
    let NfCt { ct: Some(id), info, .. } = skb.nf else { return Verdict::Accept };
    let Some(c) = net.ct.conns.get(id) else { return Verdict::Accept };
    if c.is_confirmed() || info.is_reply() {
        if c.events != 0 {
            netlink::updated(net, id);
        }
        return Verdict::Accept;
    }
    let tuples = c.tuple;
    let hashes = tuples.map(|t| net.ct_hash(ns, &t));
    if tuples.iter().zip(hashes).any(|(t, h)| net.ct.find_hashed(ns, t, h).is_some()) {
        net.ct_stat(ns, |s| {
            s.insert_failed += 1;
            s.drop += 1;
        });
        return Verdict::Drop(Errno::EPERM);
    }
    for (dir, hash) in hashes.into_iter().enumerate() {
        let entry = Entry { hash, id, dir: dir as u8 };
        net.ct.table.insert_unique(hash, entry, |e| e.hash);
    }
    let now = net.env.jiffies();
    if let Some(c) = net.ct.conns.get_mut(id) {
        c.status |= IPS_CONFIRMED;
        c.expires = now.wrapping_add(c.expires);
        c.began = c.began.map(|_| net.env.now + net.env.wall_offset);
        net.env.timers.arm(&mut c.timer, c.expires, TimerKey::Conntrack(id));
    }
    netlink::begun(net, id);
    Verdict::Accept
}

/// Whether a rule of the family wants connections tracked.
pub fn wanted(nf: &Netfilter, pf: Pf) -> bool {
    let tables = nf.tables[pf as usize].iter().flatten();
    tables.flat_map(|t| &t.chains).flat_map(|c| &c.rules).any(super::rules::Rule::needs_conntrack)
}
