//! What messages of nf_tables have in them: names, numbers, places, and the descriptions of chains and sets.
use super::expr::{Expr, Names, sets_of};
use super::fill::kind;
use super::layer2::Family;
use super::netdev::Way;
use super::set::Set;
use super::{AtDevices, Base, Chain, ChainType, Rule, Table, dynamic};
use crate::net::netfilter::Hook;
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netfilter::rules::Counters;
use crate::net::netlink::{Done, Head, Refusal, Req, refuse, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::NFGENMSG_LEN;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message with its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Msg<'a> {
    pub r: Req<'a>,
    pub family: u8,
    pub port: u32,
}

impl<'a> Msg<'a> {
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.r.attr(NFGENMSG_LEN, kind)
    }

    /// Why not, and that it is about this attribute.
    pub fn bad(self, kind: u16, errno: Errno) -> Refusal {
        Refusal::from(errno).about(self.get(kind).and_then(|v| self.r.offset_of(v)))
    }

    pub fn text(self, kind: u16) -> Done<Option<&'a str>> {
        match self.get(kind).map(str_of).transpose()? {
            Some(n) if n.len() >= NFT_NAME_MAXLEN || n.is_empty() => Err(Errno::EINVAL.into()),
            n => Ok(n),
        }
    }

    pub fn name(self, kind: u16) -> Done<&'a str> {
        Ok(self.text(kind)?.ok_or(Errno::EINVAL)?)
    }

    pub fn number(self, kind: u16) -> Done<Option<u32>> {
        self.get(kind).map(be32).transpose()
    }

    pub fn wide(self, kind: u16) -> Done<Option<u64>> {
        self.get(kind).map(be64).transpose()
    }

    pub fn userdata(self, kind: u16) -> Done<Arc<[u8]>> {
        let b = self.get(kind).unwrap_or(&[]);
        if b.len() > NFT_USERDATA_MAXLEN { Err(Errno::EINVAL.into()) } else { Ok(b.into()) }
    }

    pub fn flag(self, flag: u16) -> bool {
        self.r.flag(flag)
    }

    pub fn told(self, message: u8, flags: u16) -> Head {
        Head { kind: kind(message), flags, seq: self.r.hdr.seq, port: self.port }
    }
}

/// Hook, priority and type of a new chain.
#[doc(alias = "nft_chain_parse_hook")]
pub(super) fn base(m: Msg<'_>, hook: &[u8], policy: Option<u32>, order: u64) -> Done<Base> {
    let get = |kind| nl::attrs(hook).find(|(k, _)| *k == kind).map(|(_, v)| be32(v)).transpose();
    let number = get(NFTA_HOOK_HOOKNUM)?.ok_or(Errno::ENOENT)?;
    let priority = get(NFTA_HOOK_PRIORITY)?.ok_or(Errno::ENOENT)? as i32;
    let kind = match m.text(NFTA_CHAIN_TYPE)? {
        None => ChainType::Filter,
        Some(n) => ChainType::parse(n).ok_or_else(|| m.bad(NFTA_CHAIN_TYPE, Errno::ENOENT))?,
    };
    let at = devices(m, number, hook)?;
    let hook = match &at {
        Some(a) => a.way.hook(),
        None => match Family::of(m.family) {
            // Nothing is translated or routed anew there.
            Some(_) if kind != ChainType::Filter => return Err(m.bad(NFTA_CHAIN_TYPE, Errno::ENOENT)),
            Some(f) => f.hook(number).ok_or(Errno::EOPNOTSUPP)?,
            None => *Hook::ALL.get(number as usize).ok_or(Errno::EOPNOTSUPP)?,
        },
    };
    let allowed: &[Hook] = match kind {
        ChainType::Filter => &Hook::ALL,
        // Devices have but filters.
        _ if at.is_some() && m.family == NFPROTO_NETDEV => return Err(m.bad(NFTA_CHAIN_TYPE, Errno::ENOENT)),
        _ if at.is_some() => return Err(Errno::EOPNOTSUPP.into()),
        ChainType::Nat => &[Hook::PreRouting, Hook::LocalIn, Hook::LocalOut, Hook::PostRouting],
        ChainType::Route => &[Hook::LocalOut],
    };
    /// `NF_IP_PRI_CONNTRACK`.
    const CONNTRACK: i32 = -200;
    if !allowed.contains(&hook) || (kind == ChainType::Nat && priority <= CONNTRACK) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let counters = m.get(NFTA_CHAIN_COUNTERS).map(read_counters).transpose()?;
    Ok(Base { at, kind, hook, priority, accept: policy != Some(0), counters, order })
}

/// Devices that a chain names, where its hook is at devices. EINVAL without any, EOPNOTSUPP for those of another hook.
#[doc(alias = "nft_chain_parse_netdev")]
fn devices(m: Msg<'_>, number: u32, hook: &[u8]) -> Done<Option<AtDevices>> {
    let get = |kind| nl::attrs(hook).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let way = match (m.family, number) {
        (NFPROTO_NETDEV, NF_NETDEV_INGRESS) | (NFPROTO_INET, NF_INET_INGRESS) => Way::Ingress,
        (NFPROTO_NETDEV, NF_NETDEV_EGRESS) => Way::Egress,
        (NFPROTO_NETDEV, _) => return Err(Errno::EOPNOTSUPP.into()),
        _ if get(NFTA_HOOK_DEV).is_some() || get(NFTA_HOOK_DEVS).is_some() => return Err(Errno::EOPNOTSUPP.into()),
        _ => return Ok(None),
    };
    let list = nl::attrs(get(NFTA_HOOK_DEVS).unwrap_or(&[])).map(|(_, v)| v);
    let mut devices: Vec<Arc<str>> = Vec::new();
    for name in get(NFTA_HOOK_DEV).into_iter().chain(list) {
        let name = str_of(name)?;
        if name.is_empty() || name.len() > 15 || devices.len() >= MAX_DEVICES {
            return Err(Errno::EINVAL.into());
        }
        if !devices.iter().any(|d| **d == *name) {
            devices.push(name.into());
        }
    }
    if devices.is_empty() { Err(Errno::EINVAL.into()) } else { Ok(Some(AtDevices { way, devices })) }
}

/// Devices of one chain (`NFT_NETDEVICE_MAX`).
const MAX_DEVICES: usize = 256;

pub(super) fn read_counters(b: &[u8]) -> Done<Counters> {
    let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| be64(v)).transpose();
    let (bytes, packets) = (get(1)?.ok_or(Errno::EINVAL)?, get(2)?.ok_or(Errno::EINVAL)?);
    Ok(Counters { packets, bytes })
}

/// Policy, counters or name of a chain that is there.
#[doc(alias = "nf_tables_updchain")]
pub(super) fn update_chain(t: &mut Table, chain: usize, m: Msg<'_>, policy: Option<u32>) -> Done {
    let name = m.text(NFTA_CHAIN_NAME)?;
    if let Some(h) = m.get(NFTA_CHAIN_HOOK) {
        let asked = base(m, h, policy, 0)?;
        let same = t
            .chains
            .get(chain)
            .and_then(|c| c.base.as_ref())
            .is_some_and(|b| (b.kind, b.hook, b.priority) == (asked.kind, asked.hook, asked.priority));
        if !same {
            return Err(Errno::EEXIST.into());
        }
        let old = t.chains.get_mut(chain).and_then(|c| c.base.as_mut()).and_then(|b| b.at.as_mut());
        if let (Some(old), Some(new)) = (old, asked.at) {
            let more = new.devices.into_iter().filter(|d| !old.devices.contains(d)).collect::<Vec<_>>();
            old.devices.extend(more);
            old.devices.truncate(MAX_DEVICES);
        }
    }
    let renamed = m.get(NFTA_CHAIN_HANDLE).is_some().then_some(name).flatten();
    let taken = renamed.is_some_and(|n| t.chains.iter().enumerate().any(|(x, c)| x != chain && *c.name == *n));
    if taken {
        return Err(Errno::EEXIST.into());
    }
    let Some(c) = t.chains.get_mut(chain) else { return Err(Errno::ENOENT.into()) };
    match (&mut c.base, policy) {
        (None, Some(_)) => return Err(Errno::EOPNOTSUPP.into()),
        (Some(b), Some(p)) => b.accept = p == 1,
        _ => {}
    }
    if let (Some(b), Some(n)) = (&mut c.base, m.get(NFTA_CHAIN_COUNTERS)) {
        b.counters = Some(read_counters(n)?);
    }
    if let Some(n) = renamed {
        c.name = n.into();
    }
    Ok(())
}

pub(super) fn rule_chain(t: &Table, m: Msg<'_>, batch: u32) -> Done<Option<usize>> {
    let found = match (m.text(NFTA_RULE_CHAIN)?, m.number(NFTA_RULE_CHAIN_ID)?) {
        (Some(n), _) => t.chains.iter().position(|c| *c.name == *n),
        (None, Some(id)) => t.chains.iter().position(|c| c.txn == (batch, id)),
        (None, None) => return Ok(None),
    };
    let kind = if m.get(NFTA_RULE_CHAIN).is_some() { NFTA_RULE_CHAIN } else { NFTA_RULE_CHAIN_ID };
    Ok(Some(found.ok_or_else(|| m.bad(kind, Errno::ENOENT))?))
}

pub(super) fn read_compat(b: &[u8]) -> Done<(u32, u32)> {
    let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| be32(v)).transpose();
    let proto = get(NFTA_RULE_COMPAT_PROTO)?.ok_or(Errno::EINVAL)?;
    let flags = get(NFTA_RULE_COMPAT_FLAGS)?.ok_or(Errno::EINVAL)?;
    if flags & !3 != 0 || proto > u32::from(u16::MAX) {
        return Err(Errno::EINVAL.into());
    }
    Ok((proto, flags))
}

/// Where a rule comes to stand.
pub(super) enum Place {
    Before(usize),
    Instead(usize),
}

pub(super) fn place(t: &Table, chain: usize, m: Msg<'_>, batch: u32) -> Done<Place> {
    let Some(c) = t.chains.get(chain) else { return Err(Errno::ENOENT.into()) };
    if let Some(h) = m.wide(NFTA_RULE_HANDLE)? {
        let n = c.rules.iter().position(|r| r.handle == h).ok_or_else(|| m.bad(NFTA_RULE_HANDLE, Errno::ENOENT))?;
        return match m.flag(nl::NLM_F_REPLACE) {
            _ if m.flag(nl::NLM_F_EXCL) => refuse(Errno::EEXIST, "rule exists"),
            true => Ok(Place::Instead(n)),
            false => Err(Errno::EOPNOTSUPP.into()),
        };
    }
    if !m.flag(nl::NLM_F_CREATE) || m.flag(nl::NLM_F_REPLACE) {
        return Err(Errno::EINVAL.into());
    }
    let append = m.flag(nl::NLM_F_APPEND);
    let other = match (m.wide(NFTA_RULE_POSITION)?, m.number(NFTA_RULE_POSITION_ID)?) {
        (Some(h), _) => {
            let found = c.rules.iter().position(|r| r.handle == h);
            Some(found.ok_or_else(|| m.bad(NFTA_RULE_POSITION, Errno::ENOENT))?)
        }
        (None, Some(id)) => Some(c.rules.iter().position(|r| r.txn == (batch, id)).ok_or(Errno::ENOENT)?),
        (None, None) => None,
    };
    Ok(Place::Before(match (other, append) {
        (Some(n), true) => n + 1,
        (Some(n), false) => n,
        (None, true) => c.rules.len(),
        (None, false) => 0,
    }))
}

/// A rule or more look into the set.
pub(super) fn used(t: &Table, set: u64) -> bool {
    t.chains.iter().flat_map(|c| &c.rules).flat_map(sets_of).any(|s| s == set)
}

/// Sets and chains without a name end with the rule that had them.
#[doc(alias = "nf_tables_rule_destroy")]
pub(super) fn let_go(t: &mut Table, mut rules: Vec<Rule>) {
    while let Some(r) = rules.pop() {
        for to in r.exprs.iter().filter_map(Expr::jump) {
            if let Some(at) = t.chain_at(to).filter(|at| t.chains.get(*at).is_some_and(Chain::is_bound)) {
                rules.extend(t.chains.remove(at).rules);
            }
        }
        for s in sets_of(&r) {
            if !used(t, s) {
                t.sets.retain(|x| x.handle != s || !x.is_anonymous());
            }
        }
    }
}

#[doc(alias = "nf_tables_set_desc_parse")]
pub(super) fn read_set(names: &Names<'_>, m: Msg<'_>, now: u64) -> Done<Set> {
    let flags = m.number(NFTA_SET_FLAGS)?.unwrap_or(0);
    let known = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_CONCAT;
    let known = known | NFT_SET_TIMEOUT | NFT_SET_EVAL | NFT_SET_EXPR;
    if flags & !known != 0 || m.get(NFTA_SET_OBJ_TYPE).is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let key_len = m.number(NFTA_SET_KEY_LEN)?.ok_or(Errno::EINVAL)? as usize;
    let (data_type, data_len) = (m.number(NFTA_SET_DATA_TYPE)?, m.number(NFTA_SET_DATA_LEN)?.unwrap_or(0) as usize);
    let is_map = flags & NFT_SET_MAP != 0;
    let room = 1..=NFT_DATA_VALUE_MAXLEN;
    let value = data_type.is_some_and(|t| t != NFT_DATA_VERDICT);
    if !room.contains(&key_len) || is_map != data_type.is_some() || (value && !room.contains(&data_len)) {
        return Err(Errno::EINVAL.into());
    }
    let timeout = m.wide(NFTA_SET_TIMEOUT)?.unwrap_or(0);
    if m.get(NFTA_SET_TIMEOUT).is_some() && flags & NFT_SET_TIMEOUT == 0 {
        return Err(Errno::EINVAL.into());
    }
    let exprs = dynamic::stateful(names, m.get(NFTA_SET_EXPR), m.get(NFTA_SET_EXPRESSIONS))?;
    let desc = m.get(NFTA_SET_DESC).unwrap_or(&[]);
    let within = |kind| nl::attrs(desc).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let concat = within(NFTA_SET_DESC_CONCAT).unwrap_or(&[]);
    let ranges = flags & NFT_SET_CONCAT != 0 && flags & NFT_SET_INTERVAL != 0;
    let fields = if ranges { fields(concat, key_len)? } else { Vec::new() };
    if concat.len() > 1024 {
        return Err(Errno::EINVAL.into());
    }
    Ok(Set {
        name: "".into(),
        handle: 0,
        flags,
        key_type: m.number(NFTA_SET_KEY_TYPE)?.unwrap_or(0),
        key_len,
        data_type: data_type.unwrap_or(0),
        // Of verdicts the kernel tells the size of its own.
        data_len: if data_type == Some(NFT_DATA_VERDICT) { 16 } else { data_len },
        policy: m.number(NFTA_SET_POLICY)?.unwrap_or(0),
        size: within(NFTA_SET_DESC_SIZE).map(be32).transpose()?.unwrap_or(0),
        concat: concat.into(),
        fields: fields.into(),
        userdata: m.userdata(NFTA_SET_USERDATA)?,
        txn: (names.batch, m.number(NFTA_SET_ID)?.unwrap_or(0)),
        timeout: timeout.checked_mul(1_000_000).ok_or(Errno::ERANGE)?,
        gc_interval: m.number(NFTA_SET_GC_INTERVAL)?.unwrap_or(0),
        created: now,
        exprs,
        elements: BTreeMap::new(),
    })
}

/// Lengths of the parts of a key, each of which stands in whole registers.
#[doc(alias = "nft_set_desc_concat")]
fn fields(concat: &[u8], key_len: usize) -> Done<Vec<u8>> {
    let mut all = Vec::new();
    for (_, b) in nl::attrs(concat) {
        let len = be32(nl::attrs(b).find(|(k, _)| *k == NFTA_SET_FIELD_LEN).ok_or(Errno::EINVAL)?.1)?;
        if len == 0 || len as usize > NFT_DATA_VALUE_MAXLEN {
            return Err(Errno::EINVAL.into());
        }
        all.push(len as u8);
    }
    let whole: usize = all.iter().map(|n| usize::from(*n).next_multiple_of(4)).sum();
    if all.len() < 2 || whole != key_len.next_multiple_of(4) { Err(Errno::EINVAL.into()) } else { Ok(all) }
}

/// `__set%d`: the first number that is free.
#[doc(alias = "nf_tables_set_alloc_name")]
pub(super) fn set_name(t: &Table, name: &str) -> Done<Arc<str>> {
    let Some((before, after)) = name.split_once('%') else { return Ok(name.into()) };
    if after != "d" {
        return Err(Errno::EINVAL.into());
    }
    let mut taken: Vec<usize> = t.sets.iter().filter_map(|s| s.name.strip_prefix(before)?.parse().ok()).collect();
    taken.sort_unstable();
    taken.dedup();
    let free = taken.iter().enumerate().find(|(n, t)| n != *t).map_or(taken.len(), |(n, _)| n);
    Ok(format!("{before}{free}").into())
}
