//! What messages say about a set's making and about elements: add, delete, test.
use super::api::fail;
use super::*;
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netlink::{Done, str_of};
use belljar_abi::netlink as nl;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adt {
    Add,
    Del,
}

const DEFAULT_HASHSIZE: u32 = 1024;
const MIN_HASHSIZE: u32 = 64;
const DEFAULT_MAXELEM: u32 = 65536;
/// Elements of one place in a hash, as 6.18 reckons.
const BUCKETSIZE: u8 = 12;
/// Addresses or ports of a bitmap (`IPSET_BITMAP_MAX_RANGE` and one).
const BITMAP_MAX: u64 = 0x1_0000;
const DEFAULT_LIST_SIZE: u32 = 8;
const MIN_LIST_SIZE: u32 = 4;

/// Attributes of a set or an element.
#[derive(Clone, Copy)]
struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn get(self, kind: u16) -> Option<&'a [u8]> {
        nl::attrs(self.0).find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    fn has(self, kind: u16) -> bool {
        self.get(kind).is_some()
    }

    fn byte(self, kind: u16) -> Option<u8> {
        self.get(kind).and_then(|v| v.first().copied())
    }

    fn word(self, kind: u16) -> Done<Option<u32>> {
        self.get(kind).map(be32).transpose().or(fail(IPSET_ERR_PROTOCOL))
    }

    fn port(self, kind: u16) -> Option<u16> {
        self.get(kind).and_then(|v| v.first_chunk()).map(|b| u16::from_be_bytes(*b))
    }

    /// An address of the set's family.
    fn addr(self, kind: u16, family: u8) -> Done<Option<u128>> {
        let Some(v) = self.get(kind) else { return Ok(None) };
        let inside = |kind| nl::attrs(v).find(|(k, _)| *k == kind).map(|(_, v)| v);
        let found = if family == NFPROTO_IPV6 {
            inside(IPSET_ATTR_IPADDR_IPV6).and_then(|v| v.first_chunk()).map(|b| u128::from_be_bytes(*b))
        } else {
            inside(IPSET_ATTR_IPADDR_IPV4).and_then(|v| v.first_chunk()).map(|b| u32::from_be_bytes(*b).into())
        };
        match found {
            None if family == NFPROTO_IPV6 => fail(IPSET_ERR_IPADDR_IPV6),
            None => fail(IPSET_ERR_IPADDR_IPV4),
            found => Ok(found),
        }
    }

    fn must(self, kind: u16, family: u8) -> Done<u128> {
        self.addr(kind, family)?.map_or_else(|| fail(IPSET_ERR_PROTOCOL), Ok)
    }

    fn cidr(self, kind: u16, family: u8) -> Done<Option<u8>> {
        match self.byte(kind) {
            Some(0) => fail(IPSET_ERR_INVALID_CIDR),
            Some(n) if n > host(family) => fail(IPSET_ERR_INVALID_CIDR),
            n => Ok(n),
        }
    }
}

/// What `create` says of a set.
pub(super) fn options(kind: Type, family: u8, seed: u32, data: &[u8]) -> Done<Options> {
    let d = Data(data);
    let flags = d.word(IPSET_ATTR_CADT_FLAGS)?.unwrap_or(0);
    let known = IPSET_FLAG_WITH_COUNTERS | IPSET_FLAG_WITH_COMMENT;
    let known = known | if kind.is_hash() { IPSET_FLAG_WITH_FORCEADD } else { 0 };
    if flags & !known != 0 {
        // Marks and priorities for packets, names of devices.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut o = Options { flags, timeout: d.word(IPSET_ATTR_TIMEOUT)?, ..Options::default() };
    let netmask = d.byte(IPSET_ATTR_NETMASK);
    if kind.is_hash() {
        if !matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6) && kind != Type::HashMac {
            return fail(IPSET_ERR_INVALID_FAMILY);
        }
        if netmask.is_some_and(|n| n == 0 || n > host(family)) {
            return fail(IPSET_ERR_INVALID_NETMASK);
        }
        o.netmask = netmask.filter(|_| kind == Type::HashIp).unwrap_or(host(family));
        let hashsize = d.word(IPSET_ATTR_HASHSIZE)?.unwrap_or(DEFAULT_HASHSIZE).max(MIN_HASHSIZE);
        o.hashsize = hashsize.checked_next_power_of_two().unwrap_or(1 << 31);
        o.maxelem = d.word(IPSET_ATTR_MAXELEM)?.unwrap_or(DEFAULT_MAXELEM);
        o.bucketsize = d.byte(IPSET_ATTR_BUCKETSIZE).map_or(BUCKETSIZE, |n| n.clamp(2, 64) & !1);
        o.initval = d.word(IPSET_ATTR_INITVAL)?.unwrap_or(seed);
    } else if kind == Type::ListSet {
        o.range.1 = d.word(IPSET_ATTR_SIZE)?.unwrap_or(DEFAULT_LIST_SIZE).max(MIN_LIST_SIZE);
    } else {
        bitmap_range(kind, d, netmask, &mut o)?;
    }
    Ok(o)
}

#[doc(alias = "bitmap_ip_create")]
fn bitmap_range(kind: Type, d: Data<'_>, netmask: Option<u8>, o: &mut Options) -> Done {
    if kind == Type::BitmapPort {
        let (Some(a), Some(b)) = (d.port(IPSET_ATTR_PORT), d.port(IPSET_ATTR_PORT_TO)) else {
            return fail(IPSET_ERR_PROTOCOL);
        };
        o.range = (a.min(b).into(), a.max(b).into());
        return Ok(());
    }
    let first = d.must(IPSET_ATTR_IP, NFPROTO_IPV4)?;
    let (mut first, mut last) = match (d.addr(IPSET_ATTR_IP_TO, NFPROTO_IPV4)?, d.byte(IPSET_ATTR_CIDR)) {
        (Some(to), _) => (first.min(to), first.max(to)),
        (None, Some(n)) if n >= 32 => return fail(IPSET_ERR_INVALID_CIDR),
        (None, Some(n)) => (first & mask(NFPROTO_IPV4, n), first | !mask(NFPROTO_IPV4, n) & 0xffff_ffff),
        (None, None) => return fail(IPSET_ERR_PROTOCOL),
    };
    o.netmask = netmask.unwrap_or(32);
    if !(1..=32).contains(&o.netmask) {
        return fail(IPSET_ERR_INVALID_NETMASK);
    }
    let m = mask(NFPROTO_IPV4, o.netmask);
    if o.netmask != 32 {
        (first, last) = (first & m, last | !m & 0xffff_ffff);
    }
    if ((last - first) as u64 >> (32 - o.netmask)) + 1 > BITMAP_MAX {
        return fail(IPSET_ERR_BITMAP_RANGE_SIZE);
    }
    o.range = (first as u32, last as u32);
    Ok(())
}

/// The extras that an element is given; what the set has not is refused.
#[doc(alias = "ip_set_get_extensions")]
fn extra(s: &Set, d: Data<'_>, now: u64) -> Done<Extra> {
    let timeout = d.word(IPSET_ATTR_TIMEOUT)?;
    if timeout.is_some() && s.options.timeout.is_none() {
        return fail(IPSET_ERR_TIMEOUT);
    }
    let counters = d.has(IPSET_ATTR_BYTES) || d.has(IPSET_ATTR_PACKETS);
    if counters && !s.with(IPSET_FLAG_WITH_COUNTERS) {
        return fail(IPSET_ERR_COUNTER);
    }
    if d.has(IPSET_ATTR_COMMENT) && !s.with(IPSET_FLAG_WITH_COMMENT) {
        return fail(IPSET_ERR_COMMENT);
    }
    if (IPSET_ATTR_SKBMARK..=IPSET_ATTR_SKBQUEUE).any(|k| d.has(k)) {
        return fail(IPSET_ERR_SKBINFO);
    }
    let count = |kind| d.get(kind).map(be64).transpose().map(Option::unwrap_or_default);
    let comment = d.get(IPSET_ATTR_COMMENT).map(str_of).transpose()?.filter(|c| !c.is_empty());
    if comment.is_some_and(|c| c.len() > IPSET_MAX_COMMENT_SIZE) {
        return fail(IPSET_ERR_PROTOCOL);
    }
    let nomatch = d.word(IPSET_ATTR_CADT_FLAGS)?.unwrap_or(0) & IPSET_FLAG_NOMATCH != 0 && s.kind.has_net();
    Ok(Extra {
        expires: expiry(timeout.or(s.options.timeout).unwrap_or(0), now),
        packets: count(IPSET_ATTR_PACKETS)?,
        bytes: count(IPSET_ATTR_BYTES)?,
        comment: comment.map(Arc::from),
        nomatch,
    })
}

/// When an element ends that lives for so many seconds, 0 being for ever.
pub(super) fn expiry(seconds: u32, now: u64) -> u64 {
    if seconds == 0 { 0 } else { now.saturating_add(u64::from(seconds) * 1_000_000_000).max(1) }
}

/// Ports of protocols that have them; of ICMP type and code stand there.
fn has_ports(proto: u8) -> bool {
    matches!(proto, 6 | 17 | 132 | 136)
}

/// The element that stands first in a request, and whether it is all there is to it.
fn first(s: &Set, d: Data<'_>) -> Done<Key> {
    let family = s.family;
    let mut key = Key::default();
    match s.kind {
        Type::BitmapPort => {
            key.port = d.port(IPSET_ATTR_PORT).map_or_else(|| fail(IPSET_ERR_PROTOCOL), Ok)?;
            return Ok(key);
        }
        Type::HashMac => {
            let mac = d.get(IPSET_ATTR_ETHER).filter(|v| v.len() >= 6);
            let Some(mac) = mac.and_then(|v| v.get(..6)) else { return fail(IPSET_ERR_PROTOCOL) };
            key.ip = mac.iter().fold(0, |n, b| n << 8 | u128::from(*b));
            return if key.ip == 0 { fail(IPSET_ERR_HASH_ELEM) } else { Ok(key) };
        }
        _ => {}
    }
    key.ip = d.must(IPSET_ATTR_IP, family)?;
    if s.kind.has_port() {
        key.port = d.port(IPSET_ATTR_PORT).map_or_else(|| fail(IPSET_ERR_PROTOCOL), Ok)?;
        key.proto = match d.byte(IPSET_ATTR_PROTO) {
            None => return fail(IPSET_ERR_MISSING_PROTO),
            Some(0) => return fail(IPSET_ERR_INVALID_PROTO),
            Some(p) => p,
        };
        let icmp = if family == NFPROTO_IPV6 { 58 } else { 1 };
        if !has_ports(key.proto) && key.proto != icmp {
            key.port = 0;
        }
    }
    if s.kind.has_ip2() {
        key.ip2 = d.must(IPSET_ATTR_IP2, family)?;
    }
    if s.kind.has_net() {
        let kind = if s.kind == Type::HashIpPortNet { IPSET_ATTR_CIDR2 } else { IPSET_ATTR_CIDR };
        key.cidr = d.cidr(kind, family)?.unwrap_or(host(family));
        let bits = mask(family, key.cidr);
        *s.net_of(&mut key) &= bits;
    } else if matches!(s.kind, Type::HashIp | Type::BitmapIp) {
        key.ip &= mask(family, s.options.netmask);
    }
    Ok(key)
}

/// The first and the last address of a range that a request names.
fn addresses(s: &Set, d: Data<'_>, (from, to): (u16, u16), cidr: Option<u16>) -> Done<(u128, u128)> {
    let first = d.must(from, s.family)?;
    let bits = cidr.map(|k| d.cidr(k, s.family)).transpose()?.flatten();
    if s.family == NFPROTO_IPV6 {
        return match (d.has(to), bits) {
            (true, _) => fail(IPSET_ERR_HASH_RANGE_UNSUPPORTED),
            (false, Some(n)) if n != 128 => fail(IPSET_ERR_INVALID_CIDR),
            _ => Ok((first, first)),
        };
    }
    Ok(match (d.addr(to, s.family)?, bits) {
        (Some(last), _) => (first.min(last), first.max(last)),
        (None, Some(n)) => (first & mask(s.family, n), first | !mask(s.family, n) & 0xffff_ffff),
        (None, None) => (first, first),
    })
}

/// The smallest list of networks that are a range together, of IPv4.
#[doc(alias = "ip_set_range_to_cidr")]
fn networks(mut from: u64, to: u64) -> impl Iterator<Item = (u128, u8)> {
    std::iter::from_fn(move || {
        if from > to {
            return None;
        }
        let aligned = if from == 0 { 32 } else { from.trailing_zeros().min(32) };
        let fits = (to - from + 1).ilog2();
        let bits = aligned.min(fits).min(31);
        let net = (u128::from(from), (32 - bits) as u8);
        from += 1 << bits;
        Some(net)
    })
}

/// All elements that a request names.
fn keys(s: &Set, d: Data<'_>) -> Done<Vec<Key>> {
    let key = first(s, d)?;
    let ports = match (s.kind, d.port(IPSET_ATTR_PORT_TO)) {
        (Type::BitmapPort, Some(to)) => (key.port.min(to), key.port.max(to)),
        (_, Some(to)) if s.kind.has_port() && has_ports(key.proto) => (key.port.min(to), key.port.max(to)),
        _ => (key.port, key.port),
    };
    let mut all = Vec::new();
    let mut put = |key: Key| -> Done {
        for port in ports.0..=ports.1 {
            if all.len() as u64 >= MAX_RANGE {
                return Err(Errno::ERANGE.into());
            }
            all.push(Key { port, ..key });
        }
        Ok(())
    };
    let net = if s.kind == Type::HashIpPortNet {
        (IPSET_ATTR_IP2, IPSET_ATTR_IP2_TO)
    } else {
        (IPSET_ATTR_IP, IPSET_ATTR_IP_TO)
    };
    let nets = match d.has(net.1) {
        true if s.kind.has_net() => Some(addresses(s, d, net, None)?),
        _ => None,
    };
    if nets == Some((0, 0xffff_ffff)) {
        return fail(IPSET_ERR_HASH_RANGE);
    }
    match s.kind {
        Type::HashMac | Type::BitmapPort => put(key)?,
        Type::HashNet | Type::HashNetPort => each_net(s, nets, key, &mut put)?,
        _ => {
            let (from, to) = addresses(s, d, (IPSET_ATTR_IP, IPSET_ATTR_IP_TO), Some(IPSET_ATTR_CIDR))?;
            let m = if matches!(s.kind, Type::HashIp | Type::BitmapIp) { s.options.netmask } else { host(s.family) };
            let step = 1u128 << (host(s.family) - m);
            if (to - from) / step >= u128::from(MAX_RANGE) {
                return Err(Errno::ERANGE.into());
            }
            let mut ip = from & mask(s.family, m);
            while ip <= to {
                each_net(s, nets, Key { ip, ..key }, &mut put)?;
                let Some(next) = ip.checked_add(step) else { break };
                ip = next;
            }
        }
    }
    Ok(all)
}

/// Networks that make a range, or the one that is named.
fn each_net(s: &Set, nets: Option<(u128, u128)>, key: Key, mut put: impl FnMut(Key) -> Done) -> Done {
    let Some((from, to)) = nets else { return put(key) };
    networks(from as u64, to as u64).try_for_each(|(ip, cidr)| {
        let mut key = Key { cidr, ..key };
        *s.net_of(&mut key) = ip;
        put(key)
    })
}

/// Elements must be within a bitmap; nought is no element of a hash of addresses.
fn fits(s: &Set, key: &Key) -> Done {
    let (lo, hi) = s.options.range;
    match s.kind {
        Type::BitmapIp if !(u128::from(lo)..=u128::from(hi)).contains(&key.ip) => fail(IPSET_ERR_BITMAP_RANGE),
        Type::BitmapPort if !(lo..=hi).contains(&key.port.into()) => fail(IPSET_ERR_BITMAP_RANGE),
        Type::HashIp if key.ip == 0 => fail(IPSET_ERR_HASH_ELEM),
        _ => Ok(()),
    }
}

/// Adds or deletes what a request names.
pub(super) fn change(sets: &mut Sets, index: u16, adt: Adt, data: &[u8], exist: bool, now: u64) -> Done {
    let d = Data(data);
    let s = sets.get(index).ok_or(Errno::ENOENT)?;
    if s.kind == Type::ListSet {
        return member(sets, index, adt, d, exist, now);
    }
    let (all, extra) = (keys(s, d)?, extra(s, d, now)?);
    all.iter().try_for_each(|k| fits(s, k))?;
    let Some(s) = sets.get_mut(index) else { return Ok(()) };
    for key in all {
        let done = match adt {
            Adt::Add => s.add(key, extra.clone(), exist, now),
            Adt::Del => s.del(&key, now),
        };
        match done {
            Err(e) if e.0 == IPSET_ERR_EXIST && exist => {}
            done => done?,
        }
    }
    Ok(())
}

/// Whether an element is there.
pub(super) fn test(sets: &Sets, index: u16, data: &[u8], now: u64) -> Done<bool> {
    let d = Data(data);
    let s = sets.get(index).ok_or(Errno::ENOENT)?;
    if s.kind == Type::ListSet {
        let (id, place) = place(sets, s, d)?;
        let alive: Vec<u16> = s.members.iter().filter(|m| !m.1.is_over(now)).map(|m| m.0).collect();
        let Some(at) = alive.iter().position(|m| *m == id) else { return Ok(false) };
        return Ok(match place {
            None => true,
            Some((true, other)) => alive.get(at + 1) == Some(&other),
            Some((false, other)) => at.checked_sub(1).and_then(|n| alive.get(n)) == Some(&other),
        });
    }
    let key = first(s, d)?;
    fits(s, &key)?;
    let wants_nomatch = d.word(IPSET_ATTR_CADT_FLAGS)?.unwrap_or(0) & IPSET_FLAG_NOMATCH != 0;
    Ok(match s.test(&key, now) {
        Found::No => false,
        Found::Yes => !wants_nomatch,
        Found::NoMatch => wants_nomatch,
    })
}

/// A member of a list: its number, and before (`true`) or behind which other one it stands.
#[doc(alias = "list_set_uadt")]
fn place(sets: &Sets, s: &Set, d: Data<'_>) -> Done<(u16, Option<(bool, u16)>)> {
    let named = |kind, none| -> Done<u16> {
        let name = d.get(kind).map(str_of).transpose()?;
        name.and_then(|n| sets.find(n)).map_or_else(|| fail(none), Ok)
    };
    if !d.has(IPSET_ATTR_NAME) || s.kind != Type::ListSet {
        return fail(IPSET_ERR_PROTOCOL);
    }
    let id = named(IPSET_ATTR_NAME, IPSET_ERR_NAME)?;
    if sets.get(id).is_some_and(|s| s.kind == Type::ListSet) {
        return fail(IPSET_ERR_LOOP);
    }
    let before = d.word(IPSET_ATTR_CADT_FLAGS)?.unwrap_or(0) & IPSET_FLAG_BEFORE != 0;
    match d.has(IPSET_ATTR_NAMEREF) {
        false if before => fail(IPSET_ERR_BEFORE),
        false => Ok((id, None)),
        true => Ok((id, Some((before, named(IPSET_ATTR_NAMEREF, IPSET_ERR_NAMEREF)?)))),
    }
}

#[doc(alias = "list_set_uadd")]
fn member(sets: &mut Sets, index: u16, adt: Adt, d: Data<'_>, exist: bool, now: u64) -> Done {
    let s = sets.get(index).ok_or(Errno::ENOENT)?;
    let ((id, place), extra) = (place(sets, s, d)?, extra(s, d, now)?);
    let Some(s) = sets.get_mut(index) else { return Ok(()) };
    s.purge(now);
    let here = s.members.iter().position(|m| m.0 == id);
    let other = place.map(|(before, other)| (before, s.members.iter().position(|m| m.0 == other)));
    if matches!(other, Some((_, None))) {
        return fail(IPSET_ERR_REF_EXIST);
    }
    match (adt, here) {
        (Adt::Add, Some(n)) if exist => s.members.get_mut(n).into_iter().for_each(|m| m.1 = extra.clone()),
        (Adt::Add, Some(_)) => return fail(IPSET_ERR_EXIST),
        (Adt::Add, None) if s.members.len() >= MAX_SETS => return fail(IPSET_ERR_LIST_FULL),
        (Adt::Add, None) => {
            let at = match other {
                Some((before, Some(n))) => n + usize::from(!before),
                _ => s.members.len(),
            };
            s.members.insert(at, (id, extra));
        }
        (Adt::Del, Some(n)) => {
            let next = match other {
                Some((true, m)) => m == Some(n + 1),
                Some((false, m)) => m.map(|m| m + 1) == Some(n),
                None => true,
            };
            if !next {
                return fail(IPSET_ERR_REF_EXIST);
            }
            s.members.remove(n);
        }
        (Adt::Del, None) if exist => {}
        (Adt::Del, None) => return fail(IPSET_ERR_EXIST),
    }
    Ok(())
}
