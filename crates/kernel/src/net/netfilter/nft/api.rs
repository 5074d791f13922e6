//! Messages that change something, each on the copy of its batch.
use super::expr::{Names, parse_all, sets_of};
use super::fill::{self, kind};
use super::set::Set;
use super::{Base, Chain, ChainType, MAX_TABLES, Pf, Rule, Table, Transaction, verify};
use crate::net::Net;
use crate::net::netfilter::Hook;
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netfilter::rules::{Counters, MAX_CHAINS, MAX_RULES};
use crate::net::netlink::{Caller, Done, Head, Req, refuse, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::NFGENMSG_LEN;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message with its attributes.
#[derive(Clone, Copy)]
struct Msg<'a> {
    r: Req<'a>,
    family: u8,
    port: u32,
}

impl<'a> Msg<'a> {
    fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.r.attr(NFGENMSG_LEN, kind)
    }

    fn text(self, kind: u16) -> Done<Option<&'a str>> {
        match self.get(kind).map(str_of).transpose()? {
            Some(n) if n.len() >= NFT_NAME_MAXLEN || n.is_empty() => Err(Errno::EINVAL.into()),
            n => Ok(n),
        }
    }

    fn name(self, kind: u16) -> Done<&'a str> {
        Ok(self.text(kind)?.ok_or(Errno::EINVAL)?)
    }

    fn number(self, kind: u16) -> Done<Option<u32>> {
        self.get(kind).map(be32).transpose()
    }

    fn wide(self, kind: u16) -> Done<Option<u64>> {
        self.get(kind).map(be64).transpose()
    }

    fn userdata(self, kind: u16) -> Done<Arc<[u8]>> {
        let b = self.get(kind).unwrap_or(&[]);
        if b.len() > NFT_USERDATA_MAXLEN { Err(Errno::EINVAL.into()) } else { Ok(b.into()) }
    }

    fn flag(self, flag: u16) -> bool {
        self.r.flag(flag)
    }

    fn told(self, message: u8, flags: u16) -> Head {
        Head { kind: kind(message), flags, seq: self.r.hdr.seq, port: self.port }
    }
}

impl Transaction {
    /// Carries out one message of a batch.
    pub fn message(&mut self, _: &Net, c: &Caller<'_>, r: Req<'_>) -> Done {
        let m = Msg { r, family: r.body.first().copied().unwrap_or(0), port: c.port };
        let message = r.hdr.kind as u8;
        match message {
            NFT_MSG_NEWTABLE => self.new_table(m),
            NFT_MSG_DELTABLE => self.del_table(m),
            NFT_MSG_NEWCHAIN => self.new_chain(m),
            NFT_MSG_DELCHAIN => self.del_chain(m),
            NFT_MSG_NEWRULE => self.new_rule(m),
            NFT_MSG_DELRULE => self.del_rule(m),
            NFT_MSG_NEWSET => self.new_set(m),
            NFT_MSG_DELSET => self.del_set(m),
            NFT_MSG_NEWSETELEM => self.elements(m, true),
            NFT_MSG_DELSETELEM => self.elements(m, false),
            NFT_MSG_DESTROYTABLE => destroyed(self.del_table(m)),
            NFT_MSG_DESTROYCHAIN => destroyed(self.del_chain(m)),
            NFT_MSG_DESTROYRULE => destroyed(self.del_rule(m)),
            NFT_MSG_DESTROYSET => destroyed(self.del_set(m)),
            NFT_MSG_DESTROYSETELEM => destroyed(self.elements(m, false)),
            // Objects and flow tables.
            _ => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    fn tell(&mut self, write: impl FnOnce(&super::Nft, u32, &mut Vec<u8>)) {
        let mut b = Vec::new();
        write(&self.work, self.batch(), &mut b);
        self.told.push(b);
    }

    fn table(&self, m: Msg<'_>, attr: u16) -> Done<usize> {
        Ok(self.work.find(m.family, m.name(attr)?).ok_or(Errno::ENOENT)?)
    }

    fn of(&mut self, table: usize) -> Done<&mut Table> {
        Ok(self.work.tables.get_mut(table).ok_or(Errno::ENOENT)?)
    }

    #[doc(alias = "nf_tables_newtable")]
    fn new_table(&mut self, m: Msg<'_>) -> Done {
        if !matches!(m.family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let name = m.name(NFTA_TABLE_NAME)?;
        let flags = m.number(NFTA_TABLE_FLAGS)?;
        if flags.is_some_and(|f| f & !NFT_TABLE_F_DORMANT != 0) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let at = match self.work.find(m.family, name) {
            Some(_) if m.flag(nl::NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
            Some(_) if m.flag(nl::NLM_F_REPLACE) => return Err(Errno::EOPNOTSUPP.into()),
            Some(at) => {
                if let Some(f) = flags {
                    self.of(at)?.flags = f;
                }
                at
            }
            None if self.work.tables.len() >= MAX_TABLES => return Err(Errno::ENOMEM.into()),
            None => {
                self.work.last_handle += 1;
                self.work.tables.push(Table {
                    family: m.family,
                    name: name.into(),
                    handle: self.work.last_handle,
                    flags: flags.unwrap_or(0),
                    userdata: m.userdata(NFTA_TABLE_USERDATA)?,
                    chains: Vec::new(),
                    sets: Vec::new(),
                    last_handle: 0,
                });
                self.work.tables.len() - 1
            }
        };
        self.tell(|nft, g, out| {
            if let Some(t) = nft.tables.get(at) {
                fill::table(out, m.told(NFT_MSG_NEWTABLE, 0), g, t);
            }
        });
        Ok(())
    }

    /// One table, or all of a family, or all.
    #[doc(alias = "nf_tables_deltable")]
    fn del_table(&mut self, m: Msg<'_>) -> Done {
        let (name, handle) = (m.text(NFTA_TABLE_NAME)?, m.wide(NFTA_TABLE_HANDLE)?);
        let all = m.family == NFPROTO_UNSPEC || (name.is_none() && handle.is_none());
        let goes = |t: &Table| {
            if all {
                (m.family == NFPROTO_UNSPEC || t.family == m.family) && name.is_none_or(|n| *t.name == *n)
            } else {
                t.family == m.family && handle.map_or_else(|| name.is_some_and(|n| *t.name == *n), |h| t.handle == h)
            }
        };
        if !all && !self.work.tables.iter().any(goes) {
            return Err(Errno::ENOENT.into());
        }
        let gone: Vec<usize> =
            (0..self.work.tables.len()).filter(|n| self.work.tables.get(*n).is_some_and(goes)).collect();
        for at in gone {
            self.tell(|nft, g, out| {
                if let Some(t) = nft.tables.get(at) {
                    fill::table(out, m.told(NFT_MSG_DELTABLE, 0), g, t);
                }
            });
        }
        self.work.tables.retain(|t| !goes(t));
        Ok(())
    }

    #[doc(alias = "nf_tables_newchain")]
    fn new_chain(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_CHAIN_TABLE)?;
        let batch = self.batch();
        let order = self.work.last_order + 1;
        let t = self.of(at)?;
        let (name, handle) = (m.text(NFTA_CHAIN_NAME)?, m.wide(NFTA_CHAIN_HANDLE)?);
        let policy = m.number(NFTA_CHAIN_POLICY)?;
        if policy.is_some_and(|p| p > 1) {
            return Err(Errno::EINVAL.into());
        }
        let old = match handle {
            Some(h) => Some(t.chain_at(h).ok_or(Errno::ENOENT)?),
            None => {
                let name = name.ok_or(Errno::EOPNOTSUPP)?;
                t.chains.iter().position(|c| *c.name == *name)
            }
        };
        let chain = if let Some(old) = old {
            if m.flag(nl::NLM_F_EXCL) {
                return Err(Errno::EEXIST.into());
            }
            if m.flag(nl::NLM_F_REPLACE) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            update_chain(t, old, m, policy)?;
            old
        } else {
            if t.chains.len() >= MAX_CHAINS {
                return Err(Errno::ENOMEM.into());
            }
            let flags = m.number(NFTA_CHAIN_FLAGS)?.unwrap_or(0);
            if flags & !NFT_CHAIN_BASE != 0 {
                // Offload to a card, chains without names.
                return Err(Errno::EOPNOTSUPP.into());
            }
            let base = m.get(NFTA_CHAIN_HOOK).map(|h| base(m, h, policy, order)).transpose()?;
            if base.is_none() && (policy.is_some() || flags & NFT_CHAIN_BASE != 0) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            let handle = t.handle();
            t.chains.push(Chain {
                name: name.ok_or(Errno::EINVAL)?.into(),
                handle,
                flags: if base.is_some() { NFT_CHAIN_BASE } else { 0 },
                base,
                rules: Vec::new(),
                userdata: m.userdata(NFTA_CHAIN_USERDATA)?,
                txn: (batch, m.number(NFTA_CHAIN_ID)?.unwrap_or(0)),
            });
            t.chains.len() - 1
        };
        self.work.last_order = order;
        self.tell_chain(m, at, chain, NFT_MSG_NEWCHAIN);
        Ok(())
    }

    fn tell_chain(&mut self, m: Msg<'_>, table: usize, chain: usize, message: u8) {
        self.tell(|nft, g, out| {
            if let Some((t, c)) = nft.tables.get(table).and_then(|t| Some((t, t.chains.get(chain)?))) {
                fill::chain(out, m.told(message, 0), g, t, c);
            }
        });
    }

    #[doc(alias = "nf_tables_delchain")]
    fn del_chain(&mut self, m: Msg<'_>) -> Done {
        /// `NLM_F_NONREC`.
        const NONREC: u16 = 0x100;
        let at = self.table(m, NFTA_CHAIN_TABLE)?;
        let t = self.of(at)?;
        let chain = match (m.wide(NFTA_CHAIN_HANDLE)?, m.text(NFTA_CHAIN_NAME)?) {
            (Some(h), _) => t.chain_at(h),
            (None, name) => {
                let name = name.ok_or(Errno::EINVAL)?;
                t.chains.iter().position(|c| *c.name == *name)
            }
        };
        let chain = chain.ok_or(Errno::ENOENT)?;
        let Some(c) = t.chains.get(chain) else { return Err(Errno::ENOENT.into()) };
        let uses = fill::uses(t, c) as usize;
        if uses > c.rules.len() || (m.flag(NONREC) && uses > 0) {
            return Err(Errno::EBUSY.into());
        }
        self.tell_chain(m, at, chain, NFT_MSG_DELCHAIN);
        let t = self.of(at)?;
        let sets: Vec<u64> = t.chains.get(chain).into_iter().flat_map(|c| &c.rules).flat_map(sets_of).collect();
        t.chains.remove(chain);
        unbind(t, &sets);
        Ok(())
    }

    #[doc(alias = "nf_tables_newrule")]
    fn new_rule(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_RULE_TABLE)?;
        let batch = self.batch();
        let t = self.of(at)?;
        let chain = rule_chain(t, m, batch)?.ok_or(Errno::EINVAL)?;
        let compat = m.get(NFTA_RULE_COMPAT).map(read_compat).transpose()?;
        let exprs = parse_all(&Names { table: t, batch }, compat, m.get(NFTA_RULE_EXPRESSIONS).unwrap_or(&[]))?;
        let pf = if t.family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
        let base = t.chains.get(chain).and_then(|c| c.base);
        for e in &exprs {
            if let super::Expr::Xt(x) = e {
                x.check(&t.name, pf, base.as_ref())?;
            }
            base.as_ref().map_or(Ok(()), |b| verify::stands(t, b, e))?;
        }
        let place = place(t, chain, m, batch)?;
        let rules: usize = t.chains.iter().map(|c| c.rules.len()).sum();
        if rules >= MAX_RULES {
            return Err(Errno::ENOMEM.into());
        }
        let leads = exprs.iter().any(|e| e.jump().is_some() || e.set().is_some());
        let rule = Rule {
            handle: t.handle(),
            exprs,
            userdata: m.userdata(NFTA_RULE_USERDATA)?,
            compat,
            txn: (batch, m.number(NFTA_RULE_ID)?.unwrap_or(0)),
        };
        let Some(c) = t.chains.get_mut(chain) else { return Err(Errno::ENOENT.into()) };
        let n = match place {
            Place::Before(n) => {
                c.rules.insert(n.min(c.rules.len()), rule);
                n
            }
            Place::Instead(n) => {
                let old = c.rules.get_mut(n).map(|slot| std::mem::replace(slot, rule)).ok_or(Errno::ENOENT)?;
                let sets: Vec<u64> = sets_of(&old).collect();
                unbind(t, &sets);
                n
            }
        };
        if leads && verify::loops(t, chain) {
            return Err(Errno::ELOOP.into());
        }
        let flags = if m.flag(nl::NLM_F_APPEND) { nl::NLM_F_APPEND | nl::NLM_F_CREATE } else { nl::NLM_F_CREATE };
        self.tell_rule(m, (at, chain, n), NFT_MSG_NEWRULE, flags);
        Ok(())
    }

    fn tell_rule(&mut self, m: Msg<'_>, (t, c, r): (usize, usize, usize), message: u8, flags: u16) {
        self.tell(|nft, g, out| {
            let Some(t) = nft.tables.get(t) else { return };
            if let Some((c, r)) = t.chains.get(c).and_then(|c| Some((c, c.rules.get(r)?))) {
                fill::rule(out, m.told(message, flags), g, (t, c), r);
            }
        });
    }

    /// One rule, those of a chain, or those of a table.
    #[doc(alias = "nf_tables_delrule")]
    fn del_rule(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_RULE_TABLE)?;
        let batch = self.batch();
        let t = self.of(at)?;
        let chain = rule_chain(t, m, batch)?;
        let (handle, id) = (m.wide(NFTA_RULE_HANDLE)?, m.number(NFTA_RULE_ID)?);
        let mut gone = Vec::new();
        for (c, list) in t.chains.iter().enumerate().filter(|(n, _)| chain.is_none_or(|c| c == *n)) {
            for (n, r) in list.rules.iter().enumerate() {
                let named = match (chain, handle, id) {
                    (Some(_), Some(h), _) => r.handle == h,
                    (Some(_), None, Some(id)) => r.txn == (batch, id),
                    _ => true,
                };
                if named {
                    gone.push((c, n));
                }
            }
        }
        if gone.is_empty() && chain.is_some() && (handle.is_some() || id.is_some()) {
            return Err(Errno::ENOENT.into());
        }
        for (c, n) in gone.into_iter().rev() {
            self.tell_rule(m, (at, c, n), NFT_MSG_DELRULE, 0);
            let t = self.of(at)?;
            let Some(list) = t.chains.get_mut(c).filter(|c| n < c.rules.len()) else { continue };
            let sets: Vec<u64> = sets_of(&list.rules.remove(n)).collect();
            unbind(t, &sets);
        }
        Ok(())
    }

    #[doc(alias = "nf_tables_newset")]
    fn new_set(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_SET_TABLE)?;
        let batch = self.batch();
        let name = m.name(NFTA_SET_NAME)?;
        let t = self.of(at)?;
        let mut s = read_set(m, batch)?;
        let old = t.sets.iter().position(|s| *s.name == *name);
        let n = match old {
            Some(_) if m.flag(nl::NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
            Some(_) if m.flag(nl::NLM_F_REPLACE) => return Err(Errno::EOPNOTSUPP.into()),
            Some(n) => {
                let same = t.sets.get(n).is_some_and(|o| {
                    (o.flags, o.key_len, o.data_type, o.data_len) == (s.flags, s.key_len, s.data_type, s.data_len)
                });
                if !same {
                    return Err(Errno::EEXIST.into());
                }
                n
            }
            None => {
                if !m.flag(nl::NLM_F_CREATE) {
                    return Err(Errno::ENOENT.into());
                }
                if t.sets.len() >= MAX_CHAINS {
                    return Err(Errno::ENOMEM.into());
                }
                s.name = set_name(t, name)?;
                s.handle = t.handle();
                t.sets.push(s);
                t.sets.len() - 1
            }
        };
        self.tell_set(m, at, n, NFT_MSG_NEWSET);
        Ok(())
    }

    fn tell_set(&mut self, m: Msg<'_>, table: usize, set: usize, message: u8) {
        self.tell(|nft, g, out| {
            if let Some((t, s)) = nft.tables.get(table).and_then(|t| Some((t, t.sets.get(set)?))) {
                fill::set(out, m.told(message, 0), g, t, s);
            }
        });
    }

    #[doc(alias = "nf_tables_delset")]
    fn del_set(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_SET_TABLE)?;
        let t = self.of(at)?;
        let n = match m.wide(NFTA_SET_HANDLE)? {
            Some(h) => t.set_at(h).ok_or(Errno::ENOENT)?,
            None => Names { table: t, batch: 0 }.set(m.get(NFTA_SET_NAME), None)?,
        };
        let handle = t.sets.get(n).map_or(0, |s| s.handle);
        if used(t, handle) {
            return Err(Errno::EBUSY.into());
        }
        self.tell_set(m, at, n, NFT_MSG_DELSET);
        self.of(at)?.sets.remove(n);
        Ok(())
    }

    /// Elements come, or go; without a list all of them go.
    #[doc(alias = "nf_tables_newsetelem")]
    fn elements(&mut self, m: Msg<'_>, add: bool) -> Done {
        let at = self.table(m, NFTA_SET_ELEM_LIST_TABLE)?;
        let batch = self.batch();
        let t = self.of(at)?;
        let (name, id) = (m.get(NFTA_SET_ELEM_LIST_SET), m.get(NFTA_SET_ELEM_LIST_SET_ID));
        let n = Names { table: t, batch }.set(name, id.filter(|_| add))?;
        let Some(s) = t.sets.get(n) else { return Err(Errno::ENOENT.into()) };
        let (handle, fixed) = (s.handle, s.flags & NFT_SET_CONSTANT != 0);
        if fixed && (used(t, handle) || !add) {
            return Err(Errno::EBUSY.into());
        }
        let list = m.get(NFTA_SET_ELEM_LIST_ELEMENTS);
        let mut read = Vec::new();
        for (_, b) in nl::attrs(list.unwrap_or(&[])) {
            let names = Names { table: t, batch };
            // What is deleted is named by its key; a map's value need not be said.
            let e = if add { s.read(&names, b)? } else { s.named(&names, b)? };
            read.push(e);
        }
        let Some(s) = t.sets.get_mut(n) else { return Err(Errno::ENOENT.into()) };
        match (add, list) {
            (true, None) => return Err(Errno::EINVAL.into()),
            (true, _) => {
                for e in read {
                    s.add(e, m.flag(nl::NLM_F_EXCL))?;
                }
            }
            (false, None) => s.elements.clear(),
            (false, _) => {
                for (key, _) in read {
                    if s.elements.remove(&key).is_none() {
                        return Err(Errno::ENOENT.into());
                    }
                }
            }
        }
        self.tell(|nft, g, out| {
            let Some((t, s)) = nft.tables.get(at).and_then(|t| Some((t, t.sets.get(n)?))) else { return };
            let message = if add { NFT_MSG_NEWSETELEM } else { NFT_MSG_DELSETELEM };
            fill::named_elements(out, m.told(message, 0), g, (t, s), list.unwrap_or(&[]));
        });
        Ok(())
    }
}

/// What is not there need not go.
fn destroyed(done: Done) -> Done {
    done.or_else(|e| if e.errno == Errno::ENOENT { Ok(()) } else { Err(e) })
}

/// Hook, priority and type of a new chain.
#[doc(alias = "nft_chain_parse_hook")]
fn base(m: Msg<'_>, hook: &[u8], policy: Option<u32>, order: u64) -> Done<Base> {
    let get = |kind| nl::attrs(hook).find(|(k, _)| *k == kind).map(|(_, v)| be32(v)).transpose();
    let number = get(NFTA_HOOK_HOOKNUM)?.ok_or(Errno::ENOENT)?;
    let priority = get(NFTA_HOOK_PRIORITY)?.ok_or(Errno::ENOENT)? as i32;
    let kind = match m.text(NFTA_CHAIN_TYPE)? {
        None => ChainType::Filter,
        Some(n) => ChainType::parse(n).ok_or(Errno::ENOENT)?,
    };
    let hook = *Hook::ALL.get(number as usize).ok_or(Errno::EOPNOTSUPP)?;
    let allowed: &[Hook] = match kind {
        ChainType::Filter => &Hook::ALL,
        ChainType::Nat => &[Hook::PreRouting, Hook::LocalIn, Hook::LocalOut, Hook::PostRouting],
        ChainType::Route => &[Hook::LocalOut],
    };
    /// `NF_IP_PRI_CONNTRACK`.
    const CONNTRACK: i32 = -200;
    if !allowed.contains(&hook) || (kind == ChainType::Nat && priority <= CONNTRACK) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let counters = m.get(NFTA_CHAIN_COUNTERS).map(read_counters).transpose()?;
    Ok(Base { kind, hook, priority, accept: policy != Some(0), counters, order })
}

fn read_counters(b: &[u8]) -> Done<Counters> {
    let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| be64(v)).transpose();
    let (bytes, packets) = (get(1)?.ok_or(Errno::EINVAL)?, get(2)?.ok_or(Errno::EINVAL)?);
    Ok(Counters { packets, bytes })
}

/// Policy, counters or name of a chain that is there.
#[doc(alias = "nf_tables_updchain")]
fn update_chain(t: &mut Table, chain: usize, m: Msg<'_>, policy: Option<u32>) -> Done {
    let name = m.text(NFTA_CHAIN_NAME)?;
    if let Some(h) = m.get(NFTA_CHAIN_HOOK) {
        let asked = base(m, h, policy, 0)?;
        let same = t
            .chains
            .get(chain)
            .and_then(|c| c.base)
            .is_some_and(|b| (b.kind, b.hook, b.priority) == (asked.kind, asked.hook, asked.priority));
        if !same {
            return Err(Errno::EEXIST.into());
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

fn rule_chain(t: &Table, m: Msg<'_>, batch: u32) -> Done<Option<usize>> {
    let found = match (m.text(NFTA_RULE_CHAIN)?, m.number(NFTA_RULE_CHAIN_ID)?) {
        (Some(n), _) => t.chains.iter().position(|c| *c.name == *n),
        (None, Some(id)) => t.chains.iter().position(|c| c.txn == (batch, id)),
        (None, None) => return Ok(None),
    };
    Ok(Some(found.ok_or(Errno::ENOENT)?))
}

fn read_compat(b: &[u8]) -> Done<(u32, u32)> {
    let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| be32(v)).transpose();
    let proto = get(NFTA_RULE_COMPAT_PROTO)?.ok_or(Errno::EINVAL)?;
    let flags = get(NFTA_RULE_COMPAT_FLAGS)?.ok_or(Errno::EINVAL)?;
    if flags & !3 != 0 || proto > 255 {
        return Err(Errno::EINVAL.into());
    }
    Ok((proto, flags))
}

/// Where a rule comes to stand.
enum Place {
    Before(usize),
    Instead(usize),
}

fn place(t: &Table, chain: usize, m: Msg<'_>, batch: u32) -> Done<Place> {
    let Some(c) = t.chains.get(chain) else { return Err(Errno::ENOENT.into()) };
    if let Some(h) = m.wide(NFTA_RULE_HANDLE)? {
        let n = c.rules.iter().position(|r| r.handle == h).ok_or(Errno::ENOENT)?;
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
        (Some(h), _) => Some(c.rules.iter().position(|r| r.handle == h).ok_or(Errno::ENOENT)?),
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
fn used(t: &Table, set: u64) -> bool {
    t.chains.iter().flat_map(|c| &c.rules).flat_map(sets_of).any(|s| s == set)
}

/// Sets without a name end with the rule that had them.
fn unbind(t: &mut Table, sets: &[u64]) {
    for s in sets {
        if !used(t, *s) {
            t.sets.retain(|x| x.handle != *s || !x.is_anonymous());
        }
    }
}

#[doc(alias = "nf_tables_set_desc_parse")]
fn read_set(m: Msg<'_>, batch: u32) -> Done<Set> {
    let flags = m.number(NFTA_SET_FLAGS)?.unwrap_or(0);
    let known = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_CONCAT;
    let strange = [NFTA_SET_TIMEOUT, NFTA_SET_GC_INTERVAL, NFTA_SET_OBJ_TYPE, NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS];
    let ranges = flags & NFT_SET_CONCAT != 0 && flags & NFT_SET_INTERVAL != 0;
    if flags & !known != 0 || ranges || strange.into_iter().any(|k| m.get(k).is_some()) {
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
    let desc = m.get(NFTA_SET_DESC).unwrap_or(&[]);
    let within = |kind| nl::attrs(desc).find(|(k, _)| *k == kind).map(|(_, v)| v);
    let concat = within(NFTA_SET_DESC_CONCAT).unwrap_or(&[]);
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
        userdata: m.userdata(NFTA_SET_USERDATA)?,
        txn: (batch, m.number(NFTA_SET_ID)?.unwrap_or(0)),
        elements: BTreeMap::new(),
    })
}

/// `__set%d`: the first number that is free.
#[doc(alias = "nf_tables_set_alloc_name")]
fn set_name(t: &Table, name: &str) -> Done<Arc<str>> {
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
