//! Counters, quotas and limits with names of their own, which several rules share.
use super::dynamic::Quota;
use super::expr::{self, Attrs};
use super::limit::{self, Limit};
use super::parts::Msg;
use super::{Nft, Table, Transaction, fill};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netfilter::rules::{Counters, MAX_CHAINS};
use crate::net::netlink::{Caller, Done, Dump, Head, Req, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::NFGENMSG_LEN;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Kind {
    Counter(Counters),
    Quota(Quota),
    Limit(Limit),
}

impl Kind {
    pub fn number(&self) -> u32 {
        match self {
            Kind::Counter(_) => NFT_OBJECT_COUNTER,
            Kind::Quota(_) => NFT_OBJECT_QUOTA,
            Kind::Limit(_) => NFT_OBJECT_LIMIT,
        }
    }

    /// EOPNOTSUPP for what is not here.
    fn parse(number: u32, data: &[u8]) -> Done<Kind> {
        let a = Attrs(data);
        Ok(match number {
            NFT_OBJECT_COUNTER => Kind::Counter(expr::counter(a)?),
            NFT_OBJECT_QUOTA => Kind::Quota(Quota::parse(a)?),
            NFT_OBJECT_LIMIT => Kind::Limit(limit::parse(a)?),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        })
    }

    /// What it has counted begins anew.
    fn reset(&mut self) {
        match self {
            Kind::Counter(c) => *c = Counters::default(),
            Kind::Quota(q) => q.used = 0,
            Kind::Limit(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
pub struct Object {
    pub name: Arc<str>,
    pub handle: u64,
    pub kind: Kind,
    pub userdata: Arc<[u8]>,
}

impl Table {
    fn object(&self, name: &str, kind: u32) -> Option<usize> {
        self.objects.iter().position(|o| *o.name == *name && o.kind.number() == kind)
    }

    /// How many expressions name it.
    pub fn object_uses(&self, handle: u64) -> usize {
        let exprs = self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs);
        exprs.filter(|e| matches!(e, expr::Expr::ObjRef(h) if *h == handle)).count()
    }
}

impl Transaction {
    #[doc(alias = "nf_tables_newobj")]
    pub(super) fn new_object(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_OBJ_TABLE)?;
        let (name, number) = (m.name(NFTA_OBJ_NAME)?, m.number(NFTA_OBJ_TYPE)?.ok_or(Errno::EINVAL)?);
        let kind = Kind::parse(number, m.get(NFTA_OBJ_DATA).unwrap_or(&[]))?;
        let t = self.of(at)?;
        let n = match t.object(name, number) {
            Some(_) if m.flag(nl::NLM_F_EXCL) => return Err(m.bad(NFTA_OBJ_NAME, Errno::EEXIST)),
            Some(_) if m.flag(nl::NLM_F_REPLACE) => return Err(Errno::EOPNOTSUPP.into()),
            Some(n) => {
                // A quota may become another one; what was used stays.
                if let (Some(Object { kind: Kind::Quota(old), .. }), Kind::Quota(new)) = (t.objects.get_mut(n), kind) {
                    (old.bytes, old.over) = (new.bytes, new.over);
                }
                n
            }
            None if t.objects.len() >= MAX_CHAINS => return Err(Errno::ENOMEM.into()),
            None => {
                let object =
                    Object { name: name.into(), handle: t.handle(), kind, userdata: m.userdata(NFTA_OBJ_USERDATA)? };
                t.objects.push(object);
                t.objects.len() - 1
            }
        };
        self.tell_object(m, at, n, NFT_MSG_NEWOBJ);
        Ok(())
    }

    fn tell_object(&mut self, m: Msg<'_>, table: usize, object: usize, message: u8) {
        self.tell(|nft, g, out| {
            if let Some((t, o)) = nft.tables.get(table).and_then(|t| Some((t, t.objects.get(object)?))) {
                fill::object(out, m.told(message, 0), g, t, o);
            }
        });
    }

    #[doc(alias = "nf_tables_delobj")]
    pub(super) fn del_object(&mut self, m: Msg<'_>) -> Done {
        let at = self.table(m, NFTA_OBJ_TABLE)?;
        let number = m.number(NFTA_OBJ_TYPE)?.ok_or(Errno::EINVAL)?;
        let t = self.of(at)?;
        let (kind, found) = match m.wide(NFTA_OBJ_HANDLE)? {
            Some(h) => (NFTA_OBJ_HANDLE, t.objects.binary_search_by_key(&h, |o| o.handle).ok()),
            None => (NFTA_OBJ_NAME, t.object(m.name(NFTA_OBJ_NAME)?, number)),
        };
        let n = found.ok_or_else(|| m.bad(kind, Errno::ENOENT))?;
        if t.objects.get(n).is_some_and(|o| t.object_uses(o.handle) > 0) {
            return Err(m.bad(kind, Errno::EBUSY));
        }
        self.tell_object(m, at, n, NFT_MSG_DELOBJ);
        self.of(at)?.objects.remove(n);
        Ok(())
    }
}

/// Objects that a request asks for: of a family, a table, a kind, with a name.
fn asked(r: Req<'_>) -> Done<impl Fn(&Table, &Object) -> bool> {
    let text = |kind| r.attr(NFGENMSG_LEN, kind).map(str_of).transpose();
    let (table, name) = (text(NFTA_OBJ_TABLE)?, text(NFTA_OBJ_NAME)?);
    let kind = r.attr(NFGENMSG_LEN, NFTA_OBJ_TYPE).map(be32).transpose()?.filter(|k| *k != 0);
    let family = r.body.first().copied().unwrap_or(0);
    Ok(move |t: &Table, o: &Object| {
        (family == NFPROTO_UNSPEC || t.family == family)
            && table.is_none_or(|n| *t.name == *n)
            && name.is_none_or(|n| *o.name == *n)
            && kind.is_none_or(|k| o.kind.number() == k)
    })
}

pub(super) fn dump(nft: &Nft, r: Req<'_>, d: &mut Dump) -> Done {
    let wanted = asked(r)?;
    for t in &nft.tables {
        for o in t.objects.iter().filter(|o| wanted(t, o)) {
            let h = Head::dump(fill::kind(NFT_MSG_NEWOBJ), d);
            fill::object(d.room(), h, nft.genid, t, o);
        }
    }
    Ok(())
}

pub(super) fn single(nft: &Nft, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let wanted = asked(r)?;
    let found = nft.tables.iter().find_map(|t| Some((t, t.objects.iter().find(|o| wanted(t, o))?)));
    let (t, o) = found.ok_or(Errno::ENOENT)?;
    fill::object(out, Head::reply(fill::kind(NFT_MSG_NEWOBJ), c, r), nft.genid, t, o);
    Ok(())
}

/// What was told of begins anew.
pub(super) fn reset(net: &mut Net, ns: NsId, r: Req<'_>) -> Done {
    let wanted = asked(r)?;
    let Some(nf) = net.ns.get_mut(ns).and_then(|n| n.nf.as_mut()) else { return Ok(()) };
    for t in &mut nf.nft.tables {
        let handles: Vec<u64> = t.objects.iter().filter(|o| wanted(t, o)).map(|o| o.handle).collect();
        t.objects.iter_mut().filter(|o| handles.contains(&o.handle)).for_each(|o| o.kind.reset());
    }
    Ok(())
}
