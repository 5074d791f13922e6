//! IP sets (`ipset`): named sets of addresses, networks, ports and what is made of them, which rules look packets up in.
//!
//! A set has a number that rules hold; its name and what it holds may change under that. Elements are kept in order, not hashed:
//! what the program says about hashing is remembered and told back.
mod adt;
mod api;
mod list;
mod packet;

use crate::net::Net;
use crate::net::netfilter::Netfilter;
use crate::net::netfilter::rules::{Match, SetRef, Target};
pub(crate) use api::{is_dump, request};
use belljar_abi::Errno;
use belljar_abi::ipset::*;
use belljar_abi::nf_tables::{NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_UNSPEC};
pub(crate) use list::dump;
pub(super) use packet::{matches, target};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sets of a namespace, and elements of one set, whatever `maxelem` says.
const MAX_SETS: usize = 4096;
const MAX_ELEMENTS: usize = 1 << 20;
/// Elements that one message may name by a range.
const MAX_RANGE: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    HashIp,
    HashNet,
    HashIpPort,
    HashNetPort,
    HashIpPortIp,
    HashIpPortNet,
    HashMac,
    BitmapIp,
    BitmapPort,
    ListSet,
}

impl Type {
    const ALL: [Type; 10] = [
        Type::HashIp,
        Type::HashNet,
        Type::HashIpPort,
        Type::HashNetPort,
        Type::HashIpPortIp,
        Type::HashIpPortNet,
        Type::HashMac,
        Type::BitmapIp,
        Type::BitmapPort,
        Type::ListSet,
    ];

    fn parse(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|t| t.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Type::HashIp => "hash:ip",
            Type::HashNet => "hash:net",
            Type::HashIpPort => "hash:ip,port",
            Type::HashNetPort => "hash:net,port",
            Type::HashIpPortIp => "hash:ip,port,ip",
            Type::HashIpPortNet => "hash:ip,port,net",
            Type::HashMac => "hash:mac",
            Type::BitmapIp => "bitmap:ip",
            Type::BitmapPort => "bitmap:port",
            Type::ListSet => "list:set",
        }
    }

    /// The newest revision; the oldest is 0.
    fn revision(self) -> u8 {
        match self {
            Type::HashIp | Type::HashIpPortIp => 6,
            Type::HashNet | Type::HashIpPort => 7,
            Type::HashNetPort | Type::HashIpPortNet => 8,
            Type::HashMac => 1,
            Type::BitmapIp | Type::BitmapPort | Type::ListSet => 3,
        }
    }

    /// Whether it can be of a family.
    fn takes(self, family: u8) -> bool {
        match self {
            Type::HashMac | Type::BitmapPort | Type::ListSet => true,
            Type::BitmapIp => family == NFPROTO_IPV4,
            _ => matches!(family, NFPROTO_UNSPEC | NFPROTO_IPV4 | NFPROTO_IPV6),
        }
    }

    /// Parts of an element: so many directions a rule has to name.
    fn dimension(self) -> u8 {
        match self {
            Type::HashIpPort | Type::HashNetPort => 2,
            Type::HashIpPortIp | Type::HashIpPortNet => 3,
            _ => 1,
        }
    }

    fn is_hash(self) -> bool {
        !matches!(self, Type::BitmapIp | Type::BitmapPort | Type::ListSet)
    }

    fn has_port(self) -> bool {
        self.dimension() > 1
    }

    fn has_ip2(self) -> bool {
        self.dimension() == 3
    }

    /// Elements are networks, found by any address in them.
    fn has_net(self) -> bool {
        matches!(self, Type::HashNet | Type::HashNetPort | Type::HashIpPortNet)
    }

    /// What two sets must have in common to be swapped.
    fn features(self) -> (bool, bool, bool, bool) {
        let mac = matches!(self, Type::HashMac);
        (self.has_port() || self == Type::BitmapPort, self.has_ip2(), self.has_net(), mac || self == Type::ListSet)
    }
}

/// An element; parts that its type has not are nought. Addresses of hardware are in `ip`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    ip: u128,
    ip2: u128,
    port: u16,
    proto: u8,
    /// Bits of the network, in the one address that is one.
    cidr: u8,
}

/// What an element has beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extra {
    /// In nanoseconds; 0: never.
    expires: u64,
    packets: u64,
    bytes: u64,
    comment: Option<Arc<str>>,
    nomatch: bool,
}

impl Extra {
    fn is_over(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

/// What `create` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    hashsize: u32,
    maxelem: u32,
    netmask: u8,
    bucketsize: u8,
    initval: u32,
    /// Of a bitmap, addresses or ports; of a list, its size.
    range: (u32, u32),
    timeout: Option<u32>,
    /// `IPSET_FLAG_WITH_*`.
    flags: u32,
}

#[derive(Clone, Debug)]
struct Set {
    name: Arc<str>,
    kind: Type,
    family: u8,
    revision: u8,
    options: Options,
    elements: BTreeMap<Key, Extra>,
    /// Sizes of networks that are there, the smallest network first, and how many have each.
    nets: Vec<(u8, u32)>,
    /// Of a list.
    members: Vec<(u16, Extra)>,
}

/// Whether an element is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    No,
    Yes,
    /// A network that is there to say no.
    NoMatch,
}

/// All bits above the lowest `host` of an address.
fn mask(family: u8, cidr: u8) -> u128 {
    let bits = if family == NFPROTO_IPV6 { 128 } else { 32 };
    let full = u128::MAX >> (128 - bits);
    full & full.checked_shl(bits - u32::from(cidr)).unwrap_or(0)
}

fn host(family: u8) -> u8 {
    if family == NFPROTO_IPV6 { 128 } else { 32 }
}

impl Set {
    fn with(&self, flag: u32) -> bool {
        self.options.flags & flag != 0
    }

    /// The address of a key that is a network.
    fn net_of<'a>(&self, key: &'a mut Key) -> &'a mut u128 {
        if self.kind == Type::HashIpPortNet { &mut key.ip2 } else { &mut key.ip }
    }

    /// The element that is meant: of networks that hold an address the smallest.
    #[doc(alias = "mtype_test_cidrs")]
    fn find(&self, key: &Key, now: u64) -> Option<Key> {
        let here = |key: &Key| self.elements.get(key).is_some_and(|e| !e.is_over(now)).then_some(*key);
        if !self.kind.has_net() || key.cidr != host(self.family) {
            return here(key);
        }
        self.nets.iter().find_map(|(cidr, _)| {
            let mut net = Key { cidr: *cidr, ..*key };
            *self.net_of(&mut net) &= mask(self.family, *cidr);
            here(&net)
        })
    }

    fn test(&self, key: &Key, now: u64) -> Found {
        match self.find(key, now).and_then(|k| self.elements.get(&k)) {
            None => Found::No,
            Some(e) if e.nomatch => Found::NoMatch,
            Some(_) => Found::Yes,
        }
    }

    /// EXIST for one that is there already, unless `exist` says that it may be; HASH_FULL for one too many.
    #[doc(alias = "mtype_add")]
    fn add(&mut self, key: Key, extra: Extra, exist: bool, now: u64) -> Result<(), Errno> {
        if let Some(old) = self.elements.get_mut(&key) {
            if !old.is_over(now) && !exist {
                return Err(Errno(IPSET_ERR_EXIST));
            }
            *old = extra;
            return Ok(());
        }
        let most = if self.kind.is_hash() { (self.options.maxelem as usize).min(MAX_ELEMENTS) } else { MAX_ELEMENTS };
        if self.elements.len() >= most {
            self.purge(now);
        }
        if self.elements.len() >= most {
            let any = self.elements.keys().next().copied().filter(|_| self.with(IPSET_FLAG_WITH_FORCEADD));
            self.del(&any.ok_or(Errno(IPSET_ERR_HASH_FULL))?, now)?;
        }
        if self.kind.has_net() {
            let at = self.nets.partition_point(|n| n.0 > key.cidr);
            match self.nets.get_mut(at).filter(|n| n.0 == key.cidr) {
                Some(n) => n.1 += 1,
                None => self.nets.insert(at, (key.cidr, 1)),
            }
        }
        self.elements.insert(key, extra);
        Ok(())
    }

    /// EXIST for one that is not there.
    #[doc(alias = "mtype_del")]
    fn del(&mut self, key: &Key, now: u64) -> Result<(), Errno> {
        let gone = self.elements.remove(key).ok_or(Errno(IPSET_ERR_EXIST))?;
        if self.kind.has_net() {
            self.nets.iter_mut().filter(|n| n.0 == key.cidr).for_each(|n| n.1 = n.1.saturating_sub(1));
            self.nets.retain(|n| n.1 > 0);
        }
        if gone.is_over(now) { Err(Errno(IPSET_ERR_EXIST)) } else { Ok(()) }
    }

    /// Elements whose time is over go.
    fn purge(&mut self, now: u64) {
        let over: Vec<Key> = self.elements.iter().filter(|(_, e)| e.is_over(now)).map(|(k, _)| *k).collect();
        for key in over {
            let _ = self.del(&key, now);
        }
        self.members.retain(|(_, e)| !e.is_over(now));
    }

    fn flush(&mut self) {
        self.elements.clear();
        self.nets.clear();
        self.members.clear();
    }
}

/// Sets of one namespace by number.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    by_index: Vec<Option<Set>>,
}

impl Sets {
    fn get(&self, index: u16) -> Option<&Set> {
        self.by_index.get(usize::from(index))?.as_ref()
    }

    fn get_mut(&mut self, index: u16) -> Option<&mut Set> {
        self.by_index.get_mut(usize::from(index))?.as_mut()
    }

    fn iter(&self) -> impl Iterator<Item = (u16, &Set)> {
        self.by_index.iter().enumerate().filter_map(|(n, s)| Some((n as u16, s.as_ref()?)))
    }

    fn find(&self, name: &str) -> Option<u16> {
        self.iter().find(|(_, s)| *s.name == *name).map(|(n, _)| n)
    }

    pub(crate) fn name(&self, index: u16) -> Option<Arc<str>> {
        self.get(index).map(|s| s.name.clone())
    }

    /// How many lists a set is in.
    fn listed(&self, index: u16) -> usize {
        self.iter().flat_map(|(_, s)| &s.members).filter(|m| m.0 == index).count()
    }
}

/// How many rules name a set.
fn ruled(nf: Option<&Netfilter>, index: u16) -> usize {
    let Some(nf) = nf else { return 0 };
    let rules = nf.tables.iter().flatten().flatten().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
    let named = rules.map(|r| {
        let matches = r.matches.iter().filter(|m| match_sets(m).any(|s| s == index)).count();
        matches + target_sets(&r.target).filter(|s| *s == index).count()
    });
    named.sum::<usize>() + nf.nft.ipsets().filter(|s| *s == index).count()
}

/// Sets that a match names.
pub(crate) fn match_sets(m: &Match) -> impl Iterator<Item = u16> + use<> {
    if let Match::Set(s) = m { Some(s.set.index) } else { None }.into_iter()
}

/// Sets that a target names.
pub(crate) fn target_sets(t: &Target) -> impl Iterator<Item = u16> + use<> {
    let both = if let Target::Set(s) = t { [s.add.index, s.del.index] } else { [IPSET_INVALID_ID; 2] };
    both.into_iter().filter(|i| *i != IPSET_INVALID_ID)
}

impl Sets {
    /// Gives what a rule names its name, with which it is listed. ENOENT for a set that is not there, ERANGE for too many
    /// directions.
    #[doc(alias = "ip_set_nfnl_get_byindex")]
    fn resolve(&self, s: &mut SetRef) -> Result<(), Errno> {
        s.name = self.name(s.index).ok_or(Errno::ENOENT)?;
        if s.dim > IPSET_DIM_MAX { Err(Errno::ERANGE) } else { Ok(()) }
    }

    pub(crate) fn resolve_match(&self, m: &mut Match) -> Result<(), Errno> {
        if let Match::Set(m) = m { self.resolve(&mut m.set) } else { Ok(()) }
    }

    pub(crate) fn resolve_target(&self, t: &mut Target) -> Result<(), Errno> {
        let Target::Set(t) = t else { return Ok(()) };
        let named = [&mut t.add, &mut t.del].into_iter().filter(|s| s.index != IPSET_INVALID_ID);
        named.into_iter().try_for_each(|s| self.resolve(s))
    }
}

impl Net {
    /// SO_IP_SET: the number or the name of a set, in the program's own structure.
    #[doc(alias = "ip_set_sockfn_get")]
    pub(super) fn ipset_getsockopt(&self, ns: crate::ids::NsId, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let word = |at: usize| asked.get(at..at + 4).and_then(|b| b.first_chunk()).map(|b| u32::from_ne_bytes(*b));
        let op = word(0).ok_or(Errno::EINVAL)?;
        if op < IP_SET_OP_VERSION && word(4).ok_or(Errno::EINVAL)? < IPSET_PROTOCOL_MIN.into() {
            return Err(Errno::EPROTO);
        }
        let sets = self.ns.get(ns).and_then(|n| n.ipset.as_deref());
        let mut out = asked.to_vec();
        // Where the name is, or the number.
        let (at, len) = match op {
            IP_SET_OP_VERSION => (4, 8),
            IP_SET_OP_GET_BYNAME | IP_SET_OP_GET_BYINDEX => (8, 40),
            IP_SET_OP_GET_FNAME => (12, 44),
            _ => return Err(Errno::EBADMSG),
        };
        if asked.len() != len {
            return Err(Errno::EINVAL);
        }
        let field = out.get_mut(at..).ok_or(Errno::EINVAL)?;
        if op == IP_SET_OP_VERSION {
            field.copy_from_slice(&u32::from(IPSET_PROTOCOL).to_ne_bytes());
            return Ok(out);
        }
        if op == IP_SET_OP_GET_BYINDEX {
            let index = field.first_chunk().map_or(IPSET_INVALID_ID, |b| u16::from_ne_bytes(*b));
            let name = sets.and_then(|s| s.name(index)).unwrap_or_default();
            field.fill(0);
            field.iter_mut().zip(name.bytes()).for_each(|(to, b)| *to = b);
            return Ok(out);
        }
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        let name = std::str::from_utf8(field.get(..end).unwrap_or(&[])).map_err(|_| Errno::EINVAL)?;
        let index = sets.and_then(|s| s.find(name));
        let family = sets.zip(index).and_then(|(s, i)| s.get(i)).map_or(0, |s| s.family);
        if let Some(to) = field.first_chunk_mut() {
            *to = index.unwrap_or(IPSET_INVALID_ID).to_ne_bytes();
        }
        if let Some(to) = out.get_mut(8..12).filter(|_| op == IP_SET_OP_GET_FNAME && index.is_some()) {
            to.copy_from_slice(&u32::from(family).to_ne_bytes());
        }
        Ok(out)
    }
}
