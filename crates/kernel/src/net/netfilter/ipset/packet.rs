//! Packets and sets: whether a packet is in one, and rules that put packets in and take them out.
use super::adt::expiry;
use super::*;
use crate::ids::NsId;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::Pf;
use crate::net::netfilter::packet::Pkt;
use crate::net::netfilter::rules::{SetMatch, SetTarget};

/// What a rule adds to the question: flags, and the time that an element is to live.
#[derive(Clone, Copy)]
struct Ask<'a> {
    set: &'a SetRef,
    flags: u32,
    timeout: Option<u32>,
    now: u64,
}

/// What of a packet a set is asked about; `None` where it has no such thing.
#[doc(alias = "hash_ipportip4_kadt")]
fn key(s: &Set, r: &SetRef, p: &Pkt, skb: &SkBuff) -> Option<Key> {
    let from = |bit: u8| r.flags & bit != 0;
    let ip = if from(IPSET_DIM_ONE_SRC) { p.src } else { p.dst };
    let mut key = Key::default();
    match s.kind {
        Type::HashMac => {
            let at = if from(IPSET_DIM_ONE_SRC) { 6 } else { 0 };
            let here = usize::from(skb.network_header.saturating_sub(skb.mac_header)) >= 14;
            let mac = skb.head.at(skb.mac_header).get(at..at + 6).filter(|_| here)?;
            key.ip = mac.iter().fold(0, |n, b| n << 8 | u128::from(*b));
            return (key.ip != 0).then_some(key);
        }
        Type::BitmapPort => {
            key.port = ports(p, skb, from(IPSET_DIM_ONE_SRC)).filter(|_| matches!(p.proto, 6 | 17))?;
            return Some(key);
        }
        Type::ListSet => return None,
        _ => key.ip = ip,
    }
    if matches!(s.kind, Type::HashIp | Type::BitmapIp) {
        key.ip &= mask(s.family, s.options.netmask);
        let (lo, hi) = s.options.range;
        let inside = s.kind == Type::HashIp || (u128::from(lo)..=u128::from(hi)).contains(&key.ip);
        return (inside && key.ip != 0).then_some(key);
    }
    if s.kind.has_port() {
        (key.port, key.proto) = (ports(p, skb, from(IPSET_DIM_TWO_SRC))?, p.proto);
    }
    if s.kind.has_ip2() {
        key.ip2 = if from(IPSET_DIM_THREE_SRC) { p.src } else { p.dst };
    }
    if s.kind.has_net() {
        key.cidr = host(s.family);
    }
    Some(key)
}

/// A port; of ICMP type and code; of what has none 0. `None` where the header is not there.
#[doc(alias = "ip_set_get_ip4_port")]
fn ports(p: &Pkt, skb: &SkBuff, source: bool) -> Option<u16> {
    match p.proto {
        6 | 17 | 132 | 136 => p.ports(skb).map(|(s, d)| if source { s } else { d }),
        1 | 58 => p.transport(skb).first_chunk().map(|b| u16::from_be_bytes(*b)),
        _ => Some(0),
    }
}

impl Sets {
    /// Sets of a list, or the set itself.
    fn reach(&self, index: u16, now: u64, nth: usize) -> Option<u16> {
        let s = self.get(index)?;
        if s.kind != Type::ListSet {
            return (nth == 0).then_some(index);
        }
        s.members.iter().filter(|m| !m.1.is_over(now)).nth(nth).map(|m| m.0)
    }

    /// The set is one that the rule's directions are enough for, of the packet's family.
    fn suits(s: &Set, r: &SetRef, p: &Pkt) -> bool {
        let family = if p.pf == Pf::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        r.dim >= s.kind.dimension() && (s.family == family || s.family == NFPROTO_UNSPEC)
    }

    #[doc(alias = "ip_set_test")]
    fn test(&mut self, a: Ask<'_>, m: Option<&SetMatch>, p: &Pkt, skb: &SkBuff) -> bool {
        let mut nth = 0;
        while let Some(index) = self.reach(a.set.index, a.now, nth) {
            nth += 1;
            let is_listed = index != a.set.index;
            let quiet = if is_listed { IPSET_FLAG_SKIP_SUBCOUNTER_UPDATE } else { IPSET_FLAG_SKIP_COUNTER_UPDATE };
            let Some(s) = self.get_mut(index).filter(|s| Sets::suits(s, a.set, p)) else { continue };
            let found = key(s, a.set, p, skb).and_then(|k| s.find(&k, a.now));
            let counts = s.with(IPSET_FLAG_WITH_COUNTERS);
            let Some(e) = found.and_then(|k| s.elements.get_mut(&k)) else { continue };
            if counts && a.flags & quiet == 0 {
                e.packets += 1;
                e.bytes += p.len as u64;
            }
            let enough = m.is_none_or(|m| {
                !counts
                    || a.flags & IPSET_FLAG_MATCH_COUNTERS == 0
                    || m.packets.holds(e.packets) && m.bytes.holds(e.bytes)
            });
            let wanted = a.flags & IPSET_FLAG_RETURN_NOMATCH != 0;
            if enough && e.nomatch == wanted {
                if is_listed {
                    self.count_member(a, index, p);
                }
                return true;
            }
        }
        false
    }

    /// A list's own element counts as well.
    fn count_member(&mut self, a: Ask<'_>, member: u16, p: &Pkt) {
        let Some(s) = self.get_mut(a.set.index) else { return };
        if s.with(IPSET_FLAG_WITH_COUNTERS)
            && a.flags & IPSET_FLAG_SKIP_COUNTER_UPDATE == 0
            && let Some((_, e)) = s.members.iter_mut().find(|m| m.0 == member)
        {
            e.packets += 1;
            e.bytes += p.len as u64;
        }
    }

    #[doc(alias = "ip_set_add")]
    fn change(&mut self, a: Ask<'_>, add: bool, p: &Pkt, skb: &SkBuff) {
        let mut nth = 0;
        while let Some(index) = self.reach(a.set.index, a.now, nth) {
            nth += 1;
            let Some(s) = self.get_mut(index).filter(|s| Sets::suits(s, a.set, p)) else { continue };
            let Some(mut key) = key(s, a.set, p, skb) else { continue };
            if s.kind.has_net() {
                // As large as the smallest network that is there.
                key.cidr = s.nets.first().map_or(key.cidr, |n| n.0);
                *s.net_of(&mut key) &= mask(s.family, key.cidr);
            }
            let (lo, hi) = s.options.range;
            if s.kind == Type::BitmapPort && !(lo..=hi).contains(&key.port.into()) {
                continue;
            }
            let life = s.options.timeout.map_or(0, |t| a.timeout.unwrap_or(t));
            let (packets, bytes) = if s.with(IPSET_FLAG_WITH_COUNTERS) { (1, p.len as u64) } else { (0, 0) };
            let extra = Extra { expires: expiry(life, a.now), packets, bytes, ..Extra::default() };
            let done = match add {
                true => s.add(key, extra, a.flags & IPSET_FLAG_EXIST != 0, a.now),
                false => s.del(&key, a.now),
            };
            if done.is_ok() {
                return;
            }
        }
    }
}

/// `-m set`.
#[doc(alias = "set_match_v4")]
pub(in crate::net::netfilter) fn matches(net: &mut Net, ns: NsId, m: &SetMatch, p: &Pkt, skb: &SkBuff) -> bool {
    let now = net.env.now;
    let Some(sets) = net.ns.get_mut(ns).and_then(|n| n.ipset.as_deref_mut()) else { return false };
    let counters = if m.packets.op != 0 || m.bytes.op != 0 { IPSET_FLAG_MATCH_COUNTERS } else { 0 };
    let a = Ask { set: &m.set, flags: m.flags | counters, timeout: None, now };
    sets.test(a, Some(m), p, skb) != (m.set.flags & IPSET_INV_MATCH != 0)
}

/// `-j SET`.
#[doc(alias = "set_target_v2")]
pub(in crate::net::netfilter) fn target(net: &mut Net, ns: NsId, t: &SetTarget, p: &Pkt, skb: &SkBuff) {
    let now = net.env.now;
    let Some(sets) = net.ns.get_mut(ns).and_then(|n| n.ipset.as_deref_mut()) else { return };
    for (set, add) in [(&t.add, true), (&t.del, false)] {
        if set.index != IPSET_INVALID_ID {
            sets.change(Ask { set, flags: t.flags, timeout: t.timeout, now }, add, p, skb);
        }
    }
}
