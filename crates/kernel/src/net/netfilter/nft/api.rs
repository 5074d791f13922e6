//! Messages that change something, each on the copy of its batch.
use super::expr::{Names, parse_all};
use super::fill;
use super::parts::*;
use super::{Chain, MAX_TABLES, Pf, Rule, Table, Transaction, dynamic, verify};
use crate::net::Net;
use crate::net::netfilter::ipset;
use crate::net::netfilter::rules::{MAX_CHAINS, MAX_RULES};
use crate::net::netlink::{Caller, Done, Refusal, Req};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;

impl Transaction {
    /// Carries out one message of a batch.
    pub fn message(&mut self, net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done {
        let m = Msg { r, family: r.body.first().copied().unwrap_or(0), port: c.port };
        let message = r.hdr.kind as u8;
        match message {
            NFT_MSG_NEWTABLE => self.new_table(m),
            NFT_MSG_DELTABLE => self.del_table(m),
            NFT_MSG_NEWCHAIN => self.new_chain(m),
            NFT_MSG_DELCHAIN => self.del_chain(m),
            NFT_MSG_NEWRULE => self.new_rule(net, m),
            NFT_MSG_DELRULE => self.del_rule(m),
            NFT_MSG_NEWSET => self.new_set(net, m),
            NFT_MSG_DELSET => self.del_set(m),
            NFT_MSG_NEWSETELEM => self.elements(net, m, true),
            NFT_MSG_DELSETELEM => self.elements(net, m, false),
            NFT_MSG_NEWOBJ => self.new_object(m),
            NFT_MSG_DELOBJ => self.del_object(m),
            NFT_MSG_DESTROYOBJ => destroyed(self.del_object(m)),
            NFT_MSG_DESTROYTABLE => destroyed(self.del_table(m)),
            NFT_MSG_DESTROYCHAIN => destroyed(self.del_chain(m)),
            NFT_MSG_DESTROYRULE => destroyed(self.del_rule(m)),
            NFT_MSG_DESTROYSET => destroyed(self.del_set(m)),
            NFT_MSG_DESTROYSETELEM => destroyed(self.elements(net, m, false)),
            // Flow tables.
            _ => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    pub(super) fn tell(&mut self, write: impl FnOnce(&super::Nft, u32, &mut Vec<u8>)) {
        let mut b = Vec::new();
        write(&self.work, self.batch(), &mut b);
        self.told.push(b);
    }

    pub(super) fn table(&self, m: Msg<'_>, attr: u16) -> Done<usize> {
        self.work.find(m.family, m.name(attr)?).ok_or_else(|| m.bad(attr, Errno::ENOENT))
    }

    pub(super) fn of(&mut self, table: usize) -> Done<&mut Table> {
        Ok(self.work.tables.get_mut(table).ok_or(Errno::ENOENT)?)
    }

    #[doc(alias = "nf_tables_newtable")]
    fn new_table(&mut self, m: Msg<'_>) -> Done {
        let layer2 = matches!(m.family, NFPROTO_NETDEV | NFPROTO_BRIDGE | NFPROTO_ARP);
        if !layer2 && !matches!(m.family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let name = m.name(NFTA_TABLE_NAME)?;
        let flags = m.number(NFTA_TABLE_FLAGS)?;
        if flags.is_some_and(|f| f & !NFT_TABLE_F_DORMANT != 0) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let at = match self.work.find(m.family, name) {
            Some(_) if m.flag(nl::NLM_F_EXCL) => return Err(m.bad(NFTA_TABLE_NAME, Errno::EEXIST)),
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
                    objects: Vec::new(),
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
            let kind = if handle.is_some() { NFTA_TABLE_HANDLE } else { NFTA_TABLE_NAME };
            return Err(m.bad(kind, Errno::ENOENT));
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
        let old = match (handle, name) {
            (Some(h), _) => Some(t.chain_at(h).ok_or_else(|| m.bad(NFTA_CHAIN_HANDLE, Errno::ENOENT))?),
            (None, Some(name)) => t.chains.iter().position(|c| *c.name == *name),
            // One of a rule: known by its number in the batch.
            (None, None) if m.get(NFTA_CHAIN_ID).is_some() => None,
            (None, None) => return Err(Errno::EINVAL.into()),
        };
        let chain = if let Some(old) = old {
            if m.flag(nl::NLM_F_EXCL) {
                let kind = if handle.is_some() { NFTA_CHAIN_HANDLE } else { NFTA_CHAIN_NAME };
                return Err(m.bad(kind, Errno::EEXIST));
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
            if flags & !(NFT_CHAIN_BASE | NFT_CHAIN_BINDING) != 0 {
                // Offload to a card.
                return Err(Errno::EOPNOTSUPP.into());
            }
            let base = m.get(NFTA_CHAIN_HOOK).map(|h| base(m, h, policy, order)).transpose()?;
            if base.is_none() && (policy.is_some() || flags & NFT_CHAIN_BASE != 0) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            let bound = flags & NFT_CHAIN_BINDING;
            if bound != 0 && base.is_some() {
                return Err(Errno::EOPNOTSUPP.into());
            }
            let handle = t.handle();
            let name = match name {
                Some(n) => n.into(),
                None if bound != 0 => format!("__chain{handle}").into(),
                None => return Err(Errno::EINVAL.into()),
            };
            t.chains.push(Chain {
                name,
                handle,
                flags: bound | if base.is_some() { NFT_CHAIN_BASE } else { 0 },
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
        let kind = if m.get(NFTA_CHAIN_HANDLE).is_some() { NFTA_CHAIN_HANDLE } else { NFTA_CHAIN_NAME };
        let chain = chain.ok_or_else(|| m.bad(kind, Errno::ENOENT))?;
        let Some(c) = t.chains.get(chain) else { return Err(Errno::ENOENT.into()) };
        if c.is_bound() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let uses = fill::uses(t, c) as usize;
        if uses > c.rules.len() || (m.flag(NONREC) && uses > 0) {
            return Err(m.bad(kind, Errno::EBUSY));
        }
        self.tell_chain(m, at, chain, NFT_MSG_DELCHAIN);
        let t = self.of(at)?;
        let gone = t.chains.remove(chain);
        let_go(t, gone.rules);
        Ok(())
    }

    #[doc(alias = "nf_tables_newrule")]
    fn new_rule(&mut self, net: &Net, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_RULE_TABLE)?;
        let (batch, none) = (self.batch(), ipset::Sets::default());
        let ipsets = net.ns.get(self.ns).and_then(|n| n.ipset.as_deref()).unwrap_or(&none);
        let t = self.of(at)?;
        let chain = rule_chain(t, m, batch)?.ok_or(Errno::EINVAL)?;
        if t.chains.get(chain).is_some_and(|c| c.is_bound() && verify::is_led_to(t, c.handle)) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let compat = m.get(NFTA_RULE_COMPAT).map(read_compat).transpose()?;
        let list = m.get(NFTA_RULE_EXPRESSIONS).unwrap_or(&[]);
        let mut exprs = parse_all(&Names { table: t, batch }, compat, m.r, list)?;
        let pf = if t.family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
        let base = t.chains.get(chain).and_then(|c| c.base.clone());
        for (e, (_, b)) in exprs.iter_mut().zip(nl::attrs(list)) {
            let checked = match &mut *e {
                super::Expr::Xt(x) => x.resolve(ipsets).and_then(|()| x.check(&t.name, pf, base.as_ref())),
                e => verify::of_family(t.family, e),
            };
            checked.map_err(|errno| Refusal::from(errno).about(m.r.offset_of(b)))?;
            base.as_ref().map_or(Ok(()), |b| verify::stands(t, b, e))?;
        }
        let place = place(t, chain, m, batch)?;
        let rules: usize = t.chains.iter().map(|c| c.rules.len()).sum();
        if rules >= MAX_RULES {
            return Err(Errno::ENOMEM.into());
        }
        dynamic::bound(&exprs, &mut t.sets);
        let leads = exprs.iter().any(|e| e.jump().is_some() || e.set().is_some());
        let rule = Rule {
            handle: t.handle(),
            exprs,
            userdata: m.userdata(NFTA_RULE_USERDATA)?,
            compat,
            txn: (batch, m.number(NFTA_RULE_ID)?.unwrap_or(0)),
        };
        let Some(c) = t.chains.get_mut(chain) else { return Err(Errno::ENOENT.into()) };
        let mut instead_of = Vec::new();
        let n = match place {
            Place::Before(n) => {
                c.rules.insert(n.min(c.rules.len()), rule);
                n
            }
            Place::Instead(n) => {
                let old = c.rules.get_mut(n).map(|slot| std::mem::replace(slot, rule)).ok_or(Errno::ENOENT)?;
                instead_of.push(old);
                n
            }
        };
        if leads && verify::loops(t, chain) {
            return Err(Errno::EMLINK.into());
        }
        let flags = if m.flag(nl::NLM_F_APPEND) { nl::NLM_F_APPEND | nl::NLM_F_CREATE } else { nl::NLM_F_CREATE };
        self.tell_rule(m, (at, chain, n), NFT_MSG_NEWRULE, flags);
        let_go(self.of(at)?, instead_of);
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
            let kind = if handle.is_some() { NFTA_RULE_HANDLE } else { NFTA_RULE_ID };
            return Err(m.bad(kind, Errno::ENOENT));
        }
        let mut removed = Vec::new();
        for (c, n) in gone.into_iter().rev() {
            self.tell_rule(m, (at, c, n), NFT_MSG_DELRULE, 0);
            let t = self.of(at)?;
            let Some(list) = t.chains.get_mut(c).filter(|c| n < c.rules.len()) else { continue };
            removed.push(list.rules.remove(n));
        }
        // Only now: chains that go with them would give the others new numbers.
        let_go(self.of(at)?, removed);
        Ok(())
    }

    #[doc(alias = "nf_tables_newset")]
    fn new_set(&mut self, net: &Net, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_SET_TABLE)?;
        let batch = self.batch();
        let name = m.name(NFTA_SET_NAME)?;
        let t = self.of(at)?;
        let mut s = read_set(&Names { table: t, batch }, m, net.env.now)?;
        let old = t.sets.iter().position(|s| *s.name == *name);
        let n = match old {
            Some(_) if m.flag(nl::NLM_F_EXCL) => return Err(m.bad(NFTA_SET_NAME, Errno::EEXIST)),
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
            Some(h) => t.set_at(h).ok_or_else(|| m.bad(NFTA_SET_HANDLE, Errno::ENOENT))?,
            None => {
                let named = Names { table: t, batch: 0 }.set(m.get(NFTA_SET_NAME), None);
                named.map_err(|e| m.bad(NFTA_SET_NAME, e.errno))?
            }
        };
        let handle = t.sets.get(n).map_or(0, |s| s.handle);
        if used(t, handle) {
            let kind = if m.get(NFTA_SET_HANDLE).is_some() { NFTA_SET_HANDLE } else { NFTA_SET_NAME };
            return Err(m.bad(kind, Errno::EBUSY));
        }
        self.tell_set(m, at, n, NFT_MSG_DELSET);
        self.of(at)?.sets.remove(n);
        Ok(())
    }

    /// Elements come, or go; without a list all of them go.
    #[doc(alias = "nf_tables_newsetelem")]
    fn elements(&mut self, net: &Net, m: Msg<'_>, add: bool) -> Done {
        let at = self.table(m, NFTA_SET_ELEM_LIST_TABLE)?;
        let batch = self.batch();
        let t = self.of(at)?;
        let (name, id) = (m.get(NFTA_SET_ELEM_LIST_SET), m.get(NFTA_SET_ELEM_LIST_SET_ID));
        let found = Names { table: t, batch }.set(name, id.filter(|_| add));
        let n = found.map_err(|e| m.bad(NFTA_SET_ELEM_LIST_SET, e.errno))?;
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
            let e = if add { s.read(&names, b, net.env.now) } else { s.named(&names, b) };
            let at = m.r.offset_of(b);
            read.push((e.map_err(|e| e.about(at))?, at));
        }
        let Some(s) = t.sets.get_mut(n) else { return Err(Errno::ENOENT.into()) };
        match (add, list) {
            (true, None) => return Err(Errno::EINVAL.into()),
            (true, _) => {
                for (e, at) in read {
                    s.add(e, m.flag(nl::NLM_F_EXCL), net.env.now).map_err(|e| e.about(at))?;
                }
            }
            (false, None) => s.elements.clear(),
            (false, _) => {
                for ((key, _), at) in read {
                    if s.elements.remove(&key).is_none() {
                        return Err(Refusal::from(Errno::ENOENT).about(at));
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
