//! Expressions that keep something: quotas, and those that name objects or put elements into sets while packets pass.
use super::eval::{Regs, Then, when};
use super::expr::{Attrs, Expr, Names, Reg, be64_or, number, number_or, parse};
use super::limit::limit;
use super::object::{self, Object};
use super::set::{Element, Set};
use super::{Data, Value};
use crate::ids::CtId;
use crate::net::netfilter::conntrack::Conntrack;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};
use belljar_abi::nf_tables::*;

/// So many bytes, and whether it is about those beyond (`over`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    pub bytes: u64,
    pub over: bool,
    pub used: u64,
}

impl Quota {
    #[doc(alias = "nft_quota_do_init")]
    pub fn parse(a: Attrs<'_>) -> Done<Quota> {
        let bytes = be64_or(a, NFTA_QUOTA_BYTES, 0)?;
        let (flags, used) = (number_or(a, NFTA_QUOTA_FLAGS, 0)?, be64_or(a, NFTA_QUOTA_CONSUMED, 0)?);
        if a.get(NFTA_QUOTA_BYTES).is_none() {
            return Err(Errno::EINVAL.into());
        }
        if i64::try_from(bytes).is_err() || i64::try_from(used).is_err() {
            return Err(Errno::EOVERFLOW.into());
        }
        if flags & !NFT_QUOTA_F_INV != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        Ok(Quota { bytes, over: flags != 0, used })
    }

    /// More than there is is not told.
    pub fn fill(&self, m: &mut Msg<'_>) {
        let depleted = if self.used >= self.bytes { NFT_QUOTA_F_DEPLETED } else { 0 };
        m.attr(NFTA_QUOTA_BYTES, &self.bytes.to_be_bytes());
        m.attr(NFTA_QUOTA_CONSUMED, &self.used.min(self.bytes).to_be_bytes());
        m.attr(NFTA_QUOTA_FLAGS, &(u32::from(self.over) | depleted).to_be_bytes());
    }

    #[doc(alias = "nft_overquota")]
    pub fn holds(&mut self, len: u64) -> bool {
        self.used = self.used.saturating_add(len);
        (self.used >= self.bytes) == self.over
    }
}

/// The object that an expression names, as its handle and kind.
#[doc(alias = "nft_objref_init")]
pub fn objref(names: &Names<'_>, a: Attrs<'_>) -> Done<Expr> {
    let (Some(name), Some(_)) = (a.get(NFTA_OBJREF_IMM_NAME), a.get(NFTA_OBJREF_IMM_TYPE)) else {
        // Objects by a map.
        return Err(Errno::EOPNOTSUPP.into());
    };
    let kind = number(a, NFTA_OBJREF_IMM_TYPE)?;
    let name = crate::net::netlink::str_of(name)?;
    let found = names.table.objects.iter().find(|o| *o.name == *name && o.kind.number() == kind);
    Ok(Expr::ObjRef(found.ok_or(Errno::ENOENT)?.handle))
}

/// `add`, `update` or `delete` of an element, as a packet says it.
#[derive(Clone, Debug)]
pub struct Dynset {
    pub set: u64,
    op: u32,
    key: Reg,
    data: Option<Reg>,
    /// Nanoseconds.
    timeout: u64,
    invert: bool,
    /// What each new element begins with.
    exprs: Vec<Expr>,
}

/// `NFT_DYNSET_OP_*`.
const OP_UPDATE: u32 = 1;
const OP_DELETE: u32 = 2;
/// Elements that a set has room for when it does not say.
const DYNSET_SIZE: u32 = 0xffff;
const MSEC: u64 = 1_000_000;

/// Expressions of elements.
pub fn stateful(names: &Names<'_>, one: Option<&[u8]>, list: Option<&[u8]>) -> Done<Vec<Expr>> {
    let all = nl::attrs(list.unwrap_or(&[])).map(|(_, v)| v).chain(one);
    let mut out = Vec::new();
    for b in all {
        let e = parse(names, None, b)?;
        if !matches!(e, Expr::Counter(_) | Expr::Limit(_) | Expr::Quota(_) | Expr::Connlimit(_))
            || out.len() == NFT_SET_EXPR_MAX
        {
            return Err(Errno::EOPNOTSUPP.into());
        }
        out.push(e);
    }
    Ok(out)
}

pub fn fill_stateful(m: &mut Msg<'_>, names: &Names<'_>, (one, list): (u16, u16), exprs: &[Expr]) {
    match exprs {
        [] => {}
        [e] => {
            m.nest(one | NLA_F_NESTED, |m| e.fill_inside(m, names));
        }
        all => {
            m.nest(list | NLA_F_NESTED, |m| all.iter().for_each(|e| e.fill(m, names)));
        }
    }
}

impl Dynset {
    #[doc(alias = "nft_dynset_init")]
    pub fn parse(names: &Names<'_>, a: Attrs<'_>) -> Done<Dynset> {
        let at = names.set(a.get(NFTA_DYNSET_SET_NAME), a.get(NFTA_DYNSET_SET_ID))?;
        let Some(s) = names.table.sets.get(at) else { return Err(Errno::ENOENT.into()) };
        let (op, flags) = (number(a, NFTA_DYNSET_OP)?, number_or(a, NFTA_DYNSET_FLAGS, 0)?);
        if s.flags & NFT_SET_CONSTANT != 0 {
            return Err(Errno::EBUSY.into());
        }
        let timeout = be64_or(a, NFTA_DYNSET_TIMEOUT, 0)?;
        let unfit = op > OP_DELETE
            || (a.get(NFTA_DYNSET_TIMEOUT).is_some() && s.flags & NFT_SET_TIMEOUT == 0)
            || s.flags & NFT_SET_INTERVAL != 0
            || s.data_type == NFT_DATA_VERDICT && s.flags & NFT_SET_MAP != 0
            || flags & !(NFT_DYNSET_F_INV | NFT_DYNSET_F_EXPR) != 0;
        if unfit || (a.get(NFTA_DYNSET_SREG_DATA).is_some() && s.flags & NFT_SET_MAP == 0) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let data = match a.get(NFTA_DYNSET_SREG_DATA) {
            None if s.flags & NFT_SET_MAP != 0 && op != OP_DELETE => return Err(Errno::EINVAL.into()),
            None => None,
            v => Some(Reg::parse(v, s.data_len)?),
        };
        let mut exprs = stateful(names, a.get(NFTA_DYNSET_EXPR), a.get(NFTA_DYNSET_EXPRESSIONS))?;
        if !exprs.is_empty() && s.flags & NFT_SET_EVAL == 0 {
            return Err(Errno::EINVAL.into());
        }
        if exprs.is_empty() {
            exprs.clone_from(&s.exprs);
        }
        let timeout = timeout.checked_mul(MSEC).ok_or(Errno::ERANGE)?;
        let key = Reg::parse(a.get(NFTA_DYNSET_SREG_KEY), s.key_len)?;
        Ok(Dynset { set: s.handle, op, key, data, timeout, invert: flags & NFT_DYNSET_F_INV != 0, exprs })
    }

    pub fn fill(&self, m: &mut Msg<'_>, names: &Names<'_>) {
        let set = names.table.set_at(self.set).and_then(|s| names.table.sets.get(s));
        m.attr(NFTA_DYNSET_SREG_KEY, &self.key.number().to_be_bytes());
        if let Some(d) = self.data {
            m.attr(NFTA_DYNSET_SREG_DATA, &d.number().to_be_bytes());
        }
        m.attr(NFTA_DYNSET_OP, &self.op.to_be_bytes());
        m.attr_str(NFTA_DYNSET_SET_NAME, set.map_or("", |s| &s.name));
        if self.timeout != 0 {
            m.attr(NFTA_DYNSET_TIMEOUT, &(self.timeout / MSEC).to_be_bytes());
        }
        if set.is_none_or(|s| s.exprs.is_empty()) {
            fill_stateful(m, names, (NFTA_DYNSET_EXPR, NFTA_DYNSET_EXPRESSIONS), &self.exprs);
        }
        let flags = if self.invert { NFT_DYNSET_F_INV } else { 0 };
        m.attr(NFTA_DYNSET_FLAGS, &flags.to_be_bytes());
    }

    #[doc(alias = "nft_dynset_eval")]
    pub fn eval(&self, sets: &mut [Set], regs: &Regs, seen: &Seen<'_>) -> Then {
        let now = seen.now;
        let found = sets.binary_search_by_key(&self.set, |s| s.handle).ok().and_then(|s| sets.get_mut(s));
        let Some(s) = found else { return Then::Break };
        let Some(key) = Value::new(regs.get(self.key, s.key_len)) else { return Then::Break };
        if self.op == OP_DELETE {
            // It takes room until somebody looks for those whose time is over.
            let found = s.elements.get_mut(&(key, true)).filter(|e| !e.is_over(now));
            let is_found = found.is_some();
            found.into_iter().for_each(|e| e.expires = now.max(1));
            return when(is_found != self.invert);
        }
        let timeout = if self.timeout == 0 { s.timeout } else { self.timeout };
        let expires = if timeout == 0 { 0 } else { now.saturating_add(timeout).max(1) };
        if s.elements.get(&(key, true)).is_none_or(|e| e.is_over(now)) {
            let data = match self.data {
                Some(r) => Value::new(regs.get(r, s.data_len)).map(Data::Value),
                None => None,
            };
            let element =
                Element { data, timeout: Some(timeout), expires, exprs: self.exprs.clone(), ..Element::default() };
            if s.add(((key, true), element), false, now).is_err() {
                // No room.
                return when(self.invert);
            }
        }
        let Some(e) = s.elements.get_mut(&(key, true)) else { return Then::Break };
        if self.op == OP_UPDATE && e.expires != 0 {
            // Its own time anew, unless the rule has one.
            let life = if self.timeout == 0 { e.timeout.unwrap_or(timeout) } else { self.timeout };
            e.expires = now.saturating_add(life);
        }
        match e.eval(seen) {
            Then::Next if !self.invert => Then::Next,
            _ => Then::Break,
        }
    }
}

/// A set that packets fill has a bound.
pub fn bound(exprs: &[Expr], sets: &mut [Set]) {
    for e in exprs {
        let Expr::Dynset(d) = e else { continue };
        let found = sets.binary_search_by_key(&d.set, |s| s.handle).ok().and_then(|s| sets.get_mut(s));
        if let Some(s) = found.filter(|s| s.size == 0) {
            s.size = DYNSET_SIZE;
        }
    }
}

impl Element {
    /// Its own expressions see the packet.
    #[doc(alias = "nft_set_elem_update_expr")]
    pub fn eval(&mut self, seen: &Seen<'_>) -> Then {
        let breaks = self.exprs.iter_mut().any(|e| matches!(count(e, seen), Then::Break));
        when(!breaks)
    }
}

/// What expressions that keep something see of a packet.
#[derive(Debug)]
pub struct Seen<'a> {
    pub now: u64,
    pub len: u64,
    pub ct: &'a Conntrack,
    /// Its connection.
    pub conn: Option<CtId>,
}

/// `ct count`: connections that came here and are still there.
#[derive(Clone, Debug)]
pub struct Connlimit {
    limit: u32,
    over: bool,
    conns: Vec<CtId>,
}

impl Connlimit {
    #[doc(alias = "nft_connlimit_do_init")]
    pub fn parse(a: Attrs<'_>) -> Done<Connlimit> {
        let (limit, flags) = (number(a, NFTA_CONNLIMIT_COUNT)?, number_or(a, NFTA_CONNLIMIT_FLAGS, 0)?);
        if flags & !NFT_CONNLIMIT_F_INV != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        Ok(Connlimit { limit, over: flags != 0, conns: Vec::new() })
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr(NFTA_CONNLIMIT_COUNT, &self.limit.to_be_bytes());
        m.attr(NFTA_CONNLIMIT_FLAGS, &u32::from(self.over).to_be_bytes());
    }

    #[doc(alias = "nf_conncount_add")]
    fn holds(&mut self, seen: &Seen<'_>) -> bool {
        self.conns.retain(|c| Some(*c) == seen.conn || seen.ct.conns.get(*c).is_some_and(|c| !c.is_closed()));
        if let Some(c) = seen.conn.filter(|c| !self.conns.contains(c)) {
            self.conns.push(c);
        }
        (self.conns.len() as u64 > self.limit.into()) == self.over
    }
}

/// Expressions that need no more of a packet than that.
pub fn count(e: &mut Expr, seen: &Seen<'_>) -> Then {
    let (now, len) = (seen.now, seen.len);
    match e {
        Expr::Counter(c) => {
            c.packets += 1;
            c.bytes += len;
            Then::Next
        }
        Expr::Limit(l) => when(limit(l, now, len)),
        Expr::Quota(q) => when(q.holds(len)),
        Expr::Connlimit(c) => when(c.holds(seen)),
        _ => Then::Next,
    }
}

/// The object that a rule names sees the packet.
pub fn object(objects: &mut [Object], handle: u64, now: u64, len: u64) -> Then {
    let found = objects.binary_search_by_key(&handle, |o| o.handle).ok().and_then(|o| objects.get_mut(o));
    match found.map(|o| &mut o.kind) {
        Some(object::Kind::Counter(c)) => {
            c.packets += 1;
            c.bytes += len;
            Then::Next
        }
        Some(object::Kind::Limit(l)) => when(limit(l, now, len)),
        Some(object::Kind::Quota(q)) => when(q.holds(len)),
        None => Then::Break,
    }
}
