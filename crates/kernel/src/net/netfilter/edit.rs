//! Changing tables: what `iptables` does to chains and rules, and the check that no chain leads back into itself.
use super::blob::physdev;
use super::rules::*;
use super::{Hook, Netfilter, Pf};
use crate::ids::NsId;
use crate::net::Net;
use belljar_abi::Errno;
use std::sync::Arc;

/// Rules of a chain that packets can get to: those behind one that ends it for all are none, with their numbers.
#[doc(alias = "mark_source_chains")]
fn walked(rules: &[Rule]) -> impl Iterator<Item = (usize, &Rule)> {
    let ends = |r: &Rule| {
        let verdict = matches!(r.target, Target::Accept | Target::Drop | Target::Queue | Target::Return);
        verdict && r.matches.is_empty() && r.ip == IpMatch::default()
    };
    let last = rules.iter().position(ends).map_or(rules.len(), |n| n + 1);
    rules.iter().enumerate().take(last)
}

impl Table {
    /// Built-in chains only, all of them ACCEPT.
    pub fn new(name: TableName) -> Table {
        let mut t = Table { name, chains: Vec::new(), entry: [None; 5], stack: Vec::new() };
        for hook in name.hooks() {
            t.entry[*hook as usize] = Some(t.chains.len() as u32);
            let base = Some((*hook, Policy::Accept));
            t.chains.push(Chain { base, ..Chain::user(hook.chain()) });
        }
        t.finish();
        t
    }

    /// From chains, the built-in ones among them.
    pub fn of(name: TableName, chains: Vec<Chain>) -> Result<Table, Errno> {
        let mut t = Table { name, chains, entry: [None; 5], stack: Vec::new() };
        t.renumber();
        if name.hooks().iter().any(|h| t.entry[*h as usize].is_none()) {
            return Err(Errno::EINVAL);
        }
        t.check()?;
        t.finish();
        Ok(t)
    }

    fn renumber(&mut self) {
        self.entry = [None; 5];
        for (n, c) in self.chains.iter().enumerate() {
            if let Some((hook, _)) = c.base {
                self.entry[hook as usize] = Some(n as u32);
            }
        }
    }

    /// Room for the deepest calls, so that none is made while packets pass.
    fn finish(&mut self) {
        self.stack = Vec::with_capacity(self.chains.len());
    }

    pub fn find(&self, chain: &str) -> Option<usize> {
        self.chains.iter().position(|c| *c.name == *chain)
    }

    pub fn matches(&self) -> impl Iterator<Item = &Match> {
        self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.matches)
    }

    pub fn rules(&self) -> usize {
        self.chains.iter().map(|c| c.rules.len()).sum()
    }

    /// ELOOP when a chain that packets can get to leads back into itself; EINVAL for a jump to nowhere or into a built-in chain.
    #[doc(alias = "mark_source_chains")]
    pub fn check(&self) -> Result<(), Errno> {
        if self.rules() > MAX_RULES || self.chains.len() > MAX_CHAINS {
            return Err(Errno::ENOMEM);
        }
        let bad = |to: u32| self.chains.get(to as usize).is_none_or(|c| c.base.is_some());
        if self
            .chains
            .iter()
            .flat_map(|c| &c.rules)
            .any(|r| matches!(r.target, Target::Jump { chain, .. } if bad(chain)))
        {
            return Err(Errno::EINVAL);
        }
        // 0: not seen, 1: on the way here, 2: done. The way is a list, not the machine's stack.
        let mut seen = vec![0u8; self.chains.len()];
        for first in self.entry.iter().flatten().map(|c| *c as usize) {
            let mut way: Vec<(usize, usize)> = vec![(first, 0)];
            if seen.get(first).is_none_or(|s| *s != 0) {
                continue;
            }
            seen[first] = 1;
            while let Some((chain, at)) = way.last_mut() {
                let rules = &self.chains[*chain].rules;
                let next = walked(rules).skip(*at).find_map(|(n, r)| match r.target {
                    Target::Jump { chain, .. } => Some((n, chain as usize)),
                    _ => None,
                });
                let Some((n, to)) = next else {
                    seen[*chain] = 2;
                    way.pop();
                    continue;
                };
                *at = n + 1;
                match seen.get(to) {
                    Some(1) => return Err(Errno::ELOOP),
                    Some(0) => {
                        seen[to] = 1;
                        way.push((to, 0));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The hooks that lead to each chain, as bits.
    fn reached(&self) -> Vec<u8> {
        let mut hooks = vec![0u8; self.chains.len()];
        for h in Hook::ALL {
            let bit = 1 << h as u8;
            let mut todo: Vec<usize> = self.entry[h as usize].into_iter().map(|c| c as usize).collect();
            while let Some(c) = todo.pop() {
                if hooks.get(c).is_none_or(|seen| seen & bit != 0) {
                    continue;
                }
                hooks[c] |= bit;
                let jumps = walked(&self.chains[c].rules).filter_map(|(_, r)| match r.target {
                    Target::Jump { chain, .. } => Some(chain as usize),
                    _ => None,
                });
                todo.extend(jumps);
            }
        }
        hooks
    }

    /// EINVAL for a target or match in a table, at a hook or about a protocol that it is not made for.
    #[doc(alias = "xt_check_target")]
    pub fn check_targets(&self, pf: Pf) -> Result<(), Errno> {
        let reached = self.reached();
        for (c, hooks) in self.chains.iter().zip(reached) {
            if c.rules.iter().any(|r| !allowed(self.name, pf, hooks, r, false)) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(())
    }

    /// How many rules lead to a chain.
    pub fn references(&self, chain: usize) -> usize {
        let leads = |r: &&Rule| matches!(r.target, Target::Jump { chain: c, .. } if c as usize == chain);
        self.chains.iter().flat_map(|c| &c.rules).filter(leads).count()
    }

    pub fn new_chain(&mut self, name: &str) -> Result<(), Errno> {
        if self.find(name).is_some() {
            return Err(Errno::EEXIST);
        }
        if self.chains.len() >= MAX_CHAINS {
            return Err(Errno::ENOMEM);
        }
        // User chains are kept in the order of their names, as libiptc shows them.
        let builtin = self.chains.iter().filter(|c| c.base.is_some()).count();
        let at = builtin + self.chains[builtin..].partition_point(|c| *c.name < *name);
        self.chains.insert(at, Chain::user(name));
        self.renamed(|n| if n >= at { n + 1 } else { n });
        self.finish();
        Ok(())
    }

    /// ENOTEMPTY with rules, EMLINK while rules lead there.
    pub fn delete_chain(&mut self, chain: usize) -> Result<(), Errno> {
        let c = self.chains.get(chain).ok_or(Errno::ENOENT)?;
        if c.base.is_some() {
            return Err(Errno::EINVAL);
        }
        if self.references(chain) > 0 {
            return Err(Errno::EMLINK);
        }
        if !c.rules.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.chains.remove(chain);
        self.renamed(|n| if n > chain { n - 1 } else { n });
        Ok(())
    }

    pub fn rename_chain(&mut self, chain: usize, to: &str) -> Result<(), Errno> {
        if self.find(to).is_some() {
            return Err(Errno::EEXIST);
        }
        let c = self.chains.get_mut(chain).ok_or(Errno::ENOENT)?;
        if c.base.is_some() {
            return Err(Errno::ENOENT);
        }
        c.name = Arc::from(to);
        let builtin = self.chains.iter().filter(|c| c.base.is_some()).count();
        let rest = &self.chains[builtin..];
        let mut order: Vec<usize> = (0..rest.len()).collect();
        order.sort_by(|a, b| rest[*a].name.cmp(&rest[*b].name));
        let moved: Vec<Chain> = order.iter().map(|n| rest[*n].clone()).collect();
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(now, old)| place[*old] = now);
        self.chains.truncate(builtin);
        self.chains.extend(moved);
        self.renamed(|n| if n < builtin { n } else { builtin + place[n - builtin] });
        Ok(())
    }

    /// Chains have other numbers from now on.
    fn renamed(&mut self, to: impl Fn(usize) -> usize) {
        for r in self.chains.iter_mut().flat_map(|c| &mut c.rules) {
            if let Target::Jump { chain, .. } = &mut r.target {
                *chain = to(*chain as usize) as u32;
            }
        }
        self.renumber();
    }
}

/// Whether a rule may be in a table and where packets of these hooks come.
pub(super) fn allowed(table: TableName, pf: Pf, hooks: u8, r: &Rule, nft: bool) -> bool {
    use Hook::*;
    let only = |names: &[TableName], at: &[Hook]| {
        let mask = at.iter().fold(0u8, |m, h| m | 1 << *h as u8);
        names.contains(&table) && hooks & !mask == 0
    };
    let proto = |wanted: &[u16]| wanted.contains(&r.ip.proto) && r.ip.inv & INV_PROTO == 0;
    let target = match &r.target {
        Target::Reject(w) => {
            w.is_valid(pf)
                && only(&[TableName::Filter], &[LocalIn, Forward, LocalOut])
                && (!w.is_reset(pf) || proto(&[6]))
        }
        Target::Snat(_) => only(&[TableName::Nat], &[PostRouting, LocalIn]),
        Target::Dnat(_) | Target::Redirect(_) => only(&[TableName::Nat], &[PreRouting, LocalOut]),
        Target::Masquerade(_) => only(&[TableName::Nat], &[PostRouting]),
        Target::Tproxy { .. } => only(&[TableName::Mangle], &[PreRouting]) && proto(&[6, 17]),
        Target::Notrack { .. } => table == TableName::Raw,
        Target::Xt(t) => t.allowed(table, hooks),
        Target::Tcpmss(mss) => {
            // Where the way out is known; and it is about connections that begin.
            let out = *mss != TCPMSS_CLAMP || hooks & (1 << PreRouting as u8 | 1 << LocalIn as u8) == 0;
            let syn = |m: &Match| matches!(m, Match::Tcp { flag_cmp, inv, .. } if flag_cmp & 2 != 0 && inv & TCP_INV_FLAGS == 0);
            out && proto(&[6]) && (nft || r.matches.iter().any(syn))
        }
        _ => true,
    };
    let match_ok = |m: &Match| match m {
        Match::Tcp { .. } => proto(&[6]),
        Match::Udp { .. } => proto(&[17]),
        Match::Icmp { .. } => proto(&[if pf == Pf::V4 { 1 } else { 58 }]),
        Match::Multiport { .. } => proto(&[6, 17, 33, 132, 136]),
        // IPv6 has no broadcast, and no routes that refuse by these types.
        Match::Addrtype { source, dest, .. } if pf == Pf::V6 && (source | dest) & !0b110_0111 != 0 => false,
        Match::Owner { .. } => hooks & (1 << PreRouting as u8 | 1 << LocalIn as u8 | 1 << Forward as u8) == 0,
        Match::Physdev(p) => physdev::allowed(p, hooks),
        Match::Xt(x) => x.allowed(table, pf, hooks, proto),
        Match::Addrtype { flags, .. } => {
            let (no_in, no_out) =
                (1 << LocalOut as u8 | 1 << PostRouting as u8, 1 << PreRouting as u8 | 1 << LocalIn as u8);
            (flags & ADDRTYPE_LIMIT_IN == 0 || hooks & no_in == 0)
                && (flags & ADDRTYPE_LIMIT_OUT == 0 || hooks & no_out == 0)
        }
        _ => true,
    };
    target && r.matches.iter().all(match_ok)
}

impl Net {
    /// The table, made when it is named first: from then on packets pass it, empty or not.
    pub fn nf_table(&mut self, ns: NsId, pf: Pf, name: TableName) -> Option<&mut Table> {
        self.nf_active = true;
        let nf = self.ns.get_mut(ns)?.nf.get_or_insert_with(Box::default);
        if nf.table(pf, name).is_none() {
            nf.order[pf as usize].insert(0, name);
        }
        Some(nf.tables[pf as usize][name as usize].get_or_insert_with(|| Box::new(Table::new(name))))
    }

    /// `/proc/net/ip_tables_names`.
    pub fn proc_tables_names(&self, ns: NsId, pf: Pf) -> String {
        let nf = self.ns.get(ns).and_then(|n| n.nf.as_ref());
        nf.map_or(String::new(), |nf| nf.order[pf as usize].iter().map(|t| format!("{}\n", t.name())).collect())
    }

    /// Another table takes its place.
    pub fn nf_set_table(&mut self, ns: NsId, pf: Pf, table: Table) {
        self.nf_active = true;
        self.xt_prepare(ns, pf, table.matches());
        if let Some(n) = self.ns.get_mut(ns) {
            let nf: &mut Netfilter = n.nf.get_or_insert_with(Box::default);
            if nf.table(pf, table.name).is_none() {
                nf.order[pf as usize].insert(0, table.name);
            }
            let slot = &mut nf.tables[pf as usize][table.name as usize];
            *slot = Some(Box::new(table));
            nf.changed();
            n.nf_tproxy = nf.says_tproxy();
        }
        self.xt_sweep(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(t: &mut Table, from: &str, to: &str) {
        let (from, to) = (t.find(from).unwrap(), t.find(to).unwrap());
        let target = Target::Jump { chain: to as u32, goto: false };
        let ip = IpMatch::default();
        t.chains[from].rules.push(Rule { ip, matches: vec![], target, counters: Counters::default() });
    }

    #[test]
    fn chains_keep_their_callers_and_never_call_themselves() {
        let mut t = Table::new(TableName::Filter);
        for name in ["b", "a", "c"] {
            t.new_chain(name).unwrap();
        }
        jump(&mut t, "INPUT", "b");
        jump(&mut t, "b", "c");
        jump(&mut t, "INPUT", "c");
        assert_eq!(t.check(), Ok(()));
        assert_eq!((t.references(t.find("c").unwrap()), t.references(t.find("a").unwrap())), (2, 0));
        assert_eq!(t.delete_chain(t.find("c").unwrap()), Err(Errno::EMLINK));
        assert_eq!(t.delete_chain(t.find("a").unwrap()), Ok(()));
        t.rename_chain(t.find("b").unwrap(), "z").unwrap();
        assert_eq!(t.references(t.find("z").unwrap()), 1);
        assert_eq!(t.new_chain("z"), Err(Errno::EEXIST));
        jump(&mut t, "c", "z");
        assert_eq!(t.check(), Err(Errno::ELOOP));
        // What no packet gets to may go round (Linux 6.18).
        let accept =
            Rule { ip: IpMatch::default(), matches: vec![], target: Target::Accept, counters: Counters::default() };
        let input = t.find("INPUT").unwrap();
        t.chains[input].rules.insert(0, accept.clone());
        assert_eq!(t.check(), Ok(()));
        t.chains[input].rules[0].ip.proto = 6;
        assert_eq!(t.check(), Err(Errno::ELOOP));
        t.chains[input].rules.clear();
        assert_eq!(t.check(), Ok(()));
        let z = t.find("z").unwrap();
        t.chains[z].rules.insert(0, Rule { target: Target::Return, ..accept });
        jump(&mut t, "INPUT", "z");
        assert_eq!(t.check(), Ok(()));
        let mut t = Table::new(TableName::Filter);
        jump(&mut t, "INPUT", "FORWARD");
        assert_eq!(t.check(), Err(Errno::EINVAL));
    }
}
