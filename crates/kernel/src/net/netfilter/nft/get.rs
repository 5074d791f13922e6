//! What is there, asked for one by one or all together (`nft list`).
use super::expr::Names;
use super::fill::{self, kind};
use super::{Chain, Nft, Rule, Table, object};
use crate::net::Net;
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netfilter::rules::Counters;
use crate::net::netlink::{Caller, Done, Dump, Head, Req, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink as nl;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;

fn nft<R>(net: &Net, c: &Caller<'_>, f: impl FnOnce(&Nft) -> R) -> R {
    match net.ns.get(c.ns).and_then(|n| n.nf.as_ref()) {
        Some(nf) => f(&nf.nft),
        None => f(&Nft::default()),
    }
}

fn text(r: Req<'_>, kind: u16) -> Done<Option<&str>> {
    r.attr(NFGENMSG_LEN, kind).map(str_of).transpose()
}

fn family(r: Req<'_>) -> u8 {
    r.body.first().copied().unwrap_or(0)
}

impl Nft {
    fn named<'a>(&'a self, r: Req<'_>, attr: u16) -> Done<&'a Table> {
        let name = text(r, attr)?.ok_or(Errno::EINVAL)?;
        let t = self.find(family(r), name).and_then(|t| self.tables.get(t));
        Ok(t.ok_or(Errno::ENOENT)?)
    }
}

/// Answers about one thing.
pub(crate) fn single(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let (message, now) = (r.hdr.kind as u8, net.env.now);
    nft(net, c, |nft| -> Done {
        let g = nft.genid;
        let head = |message| Head::reply(kind(message), c, r);
        match message {
            NFT_MSG_GETGEN => {
                fill::generation(out, g, (0, r.hdr.seq, c.port), c.process);
                Ok(())
            }
            NFT_MSG_GETTABLE => {
                fill::table(out, head(NFT_MSG_NEWTABLE), g, nft.named(r, NFTA_TABLE_NAME)?);
                Ok(())
            }
            NFT_MSG_GETCHAIN => {
                let t = nft.named(r, NFTA_CHAIN_TABLE)?;
                let name = text(r, NFTA_CHAIN_NAME)?.ok_or(Errno::EINVAL)?;
                let chain = t.chains.iter().find(|c| *c.name == *name).ok_or(Errno::ENOENT)?;
                fill::chain(out, head(NFT_MSG_NEWCHAIN), g, t, chain);
                Ok(())
            }
            NFT_MSG_GETRULE => {
                let t = nft.named(r, NFTA_RULE_TABLE)?;
                let name = text(r, NFTA_RULE_CHAIN)?.ok_or(Errno::EINVAL)?;
                let handle = be64(r.attr(NFGENMSG_LEN, NFTA_RULE_HANDLE).ok_or(Errno::EINVAL)?)?;
                let chain = t.chains.iter().find(|c| *c.name == *name).ok_or(Errno::ENOENT)?;
                let rule = chain.rules.iter().find(|r| r.handle == handle).ok_or(Errno::ENOENT)?;
                fill::rule(out, head(NFT_MSG_NEWRULE), g, (t, chain), rule);
                Ok(())
            }
            NFT_MSG_GETSET => {
                let t = nft.named(r, NFTA_SET_TABLE)?;
                let at = Names { table: t, batch: 0 }.set(r.attr(NFGENMSG_LEN, NFTA_SET_NAME), None)?;
                let s = t.sets.get(at).ok_or(Errno::ENOENT)?;
                fill::set(out, head(NFT_MSG_NEWSET), g, t, s);
                Ok(())
            }
            NFT_MSG_GETSETELEM => elements(nft, c, r, out, now),
            NFT_MSG_GETOBJ | NFT_MSG_GETOBJ_RESET => object::single(nft, c, r, out),
            NFT_MSG_GETFLOWTABLE => Err(Errno::ENOENT.into()),
            // Everything that changes comes in batches.
            _ => Err(Errno::EINVAL.into()),
        }
    })?;
    if message == NFT_MSG_GETOBJ_RESET { object::reset(net, c.ns, r) } else { Ok(()) }
}

/// Those elements that a request names.
#[doc(alias = "nf_tables_getsetelem")]
fn elements(nft: &Nft, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>, now: u64) -> Done {
    let t = nft.named(r, NFTA_SET_ELEM_LIST_TABLE)?;
    let names = Names { table: t, batch: 0 };
    let at = names.set(r.attr(NFGENMSG_LEN, NFTA_SET_ELEM_LIST_SET), None)?;
    let s = t.sets.get(at).ok_or(Errno::ENOENT)?;
    let list = r.attr(NFGENMSG_LEN, NFTA_SET_ELEM_LIST_ELEMENTS).ok_or(Errno::EINVAL)?;
    let mut found = Vec::new();
    for (_, b) in nl::attrs(list) {
        let key = nl::attrs(b).find(|(k, _)| *k == NFTA_SET_ELEM_KEY).ok_or(Errno::EINVAL)?.1;
        let super::Data::Value(key) = super::expr::read_data(&names, key)? else { return Err(Errno::EINVAL.into()) };
        let flags = nl::attrs(b).find(|(k, _)| *k == NFTA_SET_ELEM_FLAGS).map(|(_, v)| be32(v)).transpose()?;
        let end = flags.unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0;
        found.push(s.entry(&key, end).filter(|e| !e.1.is_over(now)).ok_or(Errno::ENOENT)?);
    }
    let head = Head::reply(kind(NFT_MSG_NEWSETELEM), c, r);
    fill::some_elements(out, head, nft.genid, (t, s, now), &mut found.into_iter().peekable());
    Ok(())
}

/// All of a kind, of the request's family or of all.
pub(crate) fn dump(net: &mut Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let (message, now) = (r.hdr.kind as u8, net.env.now);
    nft(net, c, |nft| -> Done {
        let g = nft.genid;
        let f = family(r);
        let tables = || nft.tables.iter().filter(|t| f == NFPROTO_UNSPEC || t.family == f);
        match message {
            NFT_MSG_GETTABLE => {
                for t in tables() {
                    let h = Head::dump(kind(NFT_MSG_NEWTABLE), d);
                    fill::table(d.room(), h, g, t);
                }
            }
            NFT_MSG_GETCHAIN => {
                for t in tables() {
                    for chain in &t.chains {
                        let h = Head::dump(kind(NFT_MSG_NEWCHAIN), d);
                        fill::chain(d.room(), h, g, t, chain);
                    }
                }
            }
            NFT_MSG_GETRULE | NFT_MSG_GETRULE_RESET => {
                each_rule(nft, r, |t, c, rule| {
                    let h = Head::dump(kind(NFT_MSG_NEWRULE), d);
                    fill::rule(d.room(), h, g, (t, c), rule);
                })?;
            }
            NFT_MSG_GETSET => {
                let wanted = text(r, NFTA_SET_TABLE)?;
                if wanted.is_some_and(|w| !tables().any(|t| *t.name == *w)) {
                    return Err(Errno::ENOENT.into());
                }
                for t in tables().filter(|t| wanted.is_none_or(|w| *t.name == *w)) {
                    for s in &t.sets {
                        let h = Head::dump(kind(NFT_MSG_NEWSET), d);
                        fill::set(d.room(), h, g, t, s);
                    }
                }
            }
            NFT_MSG_GETSETELEM => {
                let t = nft.named(r, NFTA_SET_ELEM_LIST_TABLE)?;
                let at = Names { table: t, batch: 0 }.set(r.attr(NFGENMSG_LEN, NFTA_SET_ELEM_LIST_SET), None)?;
                let s = t.sets.get(at).ok_or(Errno::ENOENT)?;
                let mut list = s.alive(now).peekable();
                while list.peek().is_some() {
                    let h = Head::dump(kind(NFT_MSG_NEWSETELEM), d);
                    fill::some_elements(d.room(), h, g, (t, s, now), &mut list);
                }
            }
            NFT_MSG_GETOBJ | NFT_MSG_GETOBJ_RESET => object::dump(nft, r, d)?,
            // There are none.
            NFT_MSG_GETFLOWTABLE => {}
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(())
    })?;
    match message {
        NFT_MSG_GETRULE_RESET => reset(net, c, r),
        NFT_MSG_GETOBJ_RESET => object::reset(net, c.ns, r),
        _ => Ok(()),
    }
}

/// Rules of the tables and chain that a request names.
fn each_rule(nft: &Nft, r: Req<'_>, mut f: impl FnMut(&Table, &Chain, &Rule)) -> Done {
    let (table, chain) = (text(r, NFTA_RULE_TABLE)?, text(r, NFTA_RULE_CHAIN)?);
    let family = family(r);
    for t in nft.tables.iter().filter(|t| family == NFPROTO_UNSPEC || t.family == family) {
        if table.is_some_and(|n| *t.name != *n) {
            continue;
        }
        for c in t.chains.iter().filter(|c| chain.is_none_or(|n| *c.name == *n)) {
            c.rules.iter().for_each(|rule| f(t, c, rule));
        }
    }
    Ok(())
}

/// Counters begin anew.
fn reset(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let (table, chain) = (text(r, NFTA_RULE_TABLE)?, text(r, NFTA_RULE_CHAIN)?);
    let family = family(r);
    let Some(nf) = net.ns.get_mut(c.ns).and_then(|n| n.nf.as_mut()) else { return Ok(()) };
    for t in nf.nft.tables.iter_mut().filter(|t| family == NFPROTO_UNSPEC || t.family == family) {
        if table.is_some_and(|n| *t.name != *n) {
            continue;
        }
        for c in t.chains.iter_mut().filter(|c| chain.is_none_or(|n| *c.name == *n)) {
            for e in c.rules.iter_mut().flat_map(|r| &mut r.exprs) {
                if let super::Expr::Counter(n) = e {
                    *n = Counters::default();
                }
            }
        }
    }
    Ok(())
}
