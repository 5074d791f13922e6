//! Matches and targets of iptables as expressions (`iptables-nft`): their bytes stay as they came, what they mean is read by the
//! same code that reads tables of `iptables-legacy`.
use super::Base;
use super::ebt::{self, Eb};
use super::expr::{Attrs, Names};
use crate::net::netfilter::Pf;
use crate::net::netfilter::blob::ext;
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netfilter::rules::*;
use crate::net::netfilter::words::print::target_words;
use crate::net::netfilter::{edit, ipset};
use crate::net::netlink::{Caller, Done, Head, Req, str_of};
use belljar_abi::Errno;
use belljar_abi::netlink::Msg;
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XtKind {
    Match,
    Target,
}

impl XtKind {
    pub fn name(self) -> &'static str {
        if self == XtKind::Match { "match" } else { "target" }
    }
}

#[derive(Clone, Debug)]
pub enum Body {
    Match(Match),
    Target(Target),
    /// Of `ebtables`.
    Eb(Eb),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Xt {
    pub kind: XtKind,
    name: Arc<str>,
    revision: u32,
    info: Arc<[u8]>,
    /// The rule's protocol, which some are made for, and whether it is any but that.
    proto: (u16, bool),
    pub body: Body,
}

/// Name, revision and data of either.
const NAME: u16 = 1;
const REVISION: u16 = 2;
const INFO: u16 = 3;
/// `NFT_RULE_COMPAT_F_INV`.
const COMPAT_INV: u32 = 2;
/// The longest data that is taken.
const MAX_INFO: usize = 4096;

impl Xt {
    #[doc(alias = "nft_match_select_ops")]
    pub fn parse(names: &Names<'_>, kind: XtKind, compat: Option<(u32, u32)>, a: Attrs<'_>) -> Done<Xt> {
        let name = str_of(a.get(NAME).ok_or(Errno::EINVAL)?)?;
        let revision = be32(a.get(REVISION).ok_or(Errno::EINVAL)?)?;
        let info = a.get(INFO).filter(|i| i.len() <= MAX_INFO).ok_or(Errno::EINVAL)?;
        let short = u8::try_from(revision).map_err(|_| Errno::ENOENT)?;
        let pf = if names.table.family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
        let body = match kind {
            _ if names.table.family == NFPROTO_BRIDGE => {
                Body::Eb(ebt::read(name, revision, info, kind == XtKind::Target)?)
            }
            _ if !matches!(names.table.family, NFPROTO_IPV4 | NFPROTO_IPV6) => return Err(Errno::ENOENT.into()),
            XtKind::Match => Body::Match(ext::read_match(pf, name, short, info)?),
            XtKind::Target => Body::Target(ext::read_target(pf, name, short, info)?),
        };
        let proto = compat.map_or((0, false), |(p, flags)| (p as u16, flags & COMPAT_INV != 0));
        Ok(Xt { kind, name: name.into(), revision, info: info.into(), proto, body })
    }

    /// EINVAL in a table, at a hook or about a protocol that it is not made for.
    #[doc(alias = "nft_target_validate")]
    pub(super) fn check(&self, table: &str, pf: Pf, base: Option<&Base>) -> Result<(), Errno> {
        let ip = IpMatch { proto: self.proto.0, inv: if self.proto.1 { INV_PROTO } else { 0 }, ..IpMatch::default() };
        let mut rule = Rule { ip, matches: Vec::new(), target: Target::None, counters: Counters::default() };
        match &self.body {
            Body::Match(m) => rule.matches.push(m.clone()),
            Body::Target(t) => rule.target = t.clone(),
            Body::Eb(_) => return Ok(()),
        }
        let wrong = base.is_some_and(|b| rule.target.translates() && b.kind != super::ChainType::Nat);
        // What belongs into one table is made for those names.
        let table = TableName::parse(table).unwrap_or(TableName::Security);
        let hooks = base.map_or(0, |b| 1 << b.hook as u8);
        if wrong || !edit::allowed(table, pf, hooks, &rule, true) { Err(Errno::EINVAL) } else { Ok(()) }
    }

    pub fn needs_conntrack(&self) -> bool {
        match &self.body {
            Body::Match(m) => m.needs_conntrack(),
            Body::Target(t) => t.needs_conntrack(),
            Body::Eb(_) => false,
        }
    }

    pub(super) fn as_match(&self) -> Option<&Match> {
        if let Body::Match(m) = &self.body { Some(m) } else { None }
    }

    pub fn is_tproxy(&self) -> bool {
        matches!(self.body, Body::Target(Target::Tproxy { .. }))
    }

    /// ENOENT for a set of `ipset` that is not there.
    pub fn resolve(&mut self, sets: &ipset::Sets) -> Result<(), Errno> {
        match &mut self.body {
            Body::Match(m) => sets.resolve_match(m),
            Body::Target(t) => sets.resolve_target(t),
            Body::Eb(_) => Ok(()),
        }
    }

    /// A target as `iptables` writes it.
    pub fn target_words(&self, pf: Pf) -> Option<String> {
        let Body::Target(t) = &self.body else { return None };
        let mut o = String::new();
        target_words(&mut o, &Table::new(TableName::Filter), pf, t);
        Some(o.trim_start().to_owned())
    }

    /// Sets of `ipset` that it names.
    pub fn ipsets(&self) -> impl Iterator<Item = u16> + use<> {
        let (m, t) = match &self.body {
            Body::Match(m) => (Some(ipset::match_sets(m)), None),
            Body::Target(t) => (None, Some(ipset::target_sets(t))),
            Body::Eb(_) => (None, None),
        };
        m.into_iter().flatten().chain(t.into_iter().flatten())
    }

    pub fn fill(&self, m: &mut Msg<'_>) {
        m.attr_str(NAME, &self.name).attr(REVISION, &self.revision.to_be_bytes()).attr(INFO, &self.info);
    }
}

/// Whether a match or target is here in a revision.
#[doc(alias = "nfnl_compat_get")]
pub(crate) fn get(c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let attr = |kind| r.attr(NFGENMSG_LEN, kind).ok_or(Errno::EINVAL);
    if r.hdr.kind as u8 != NFNL_MSG_COMPAT_GET {
        return Err(Errno::EINVAL.into());
    }
    let name = str_of(attr(NFTA_COMPAT_NAME)?)?;
    let (revision, kind) = (be32(attr(NFTA_COMPAT_REV)?)?, be32(attr(NFTA_COMPAT_TYPE)?)?);
    let family = r.body.first().copied().unwrap_or(0);
    if family == NFPROTO_BRIDGE {
        let known = if kind == 1 { ebt::TARGETS } else { ebt::MATCHES };
        if !known.contains(&name) || revision != 0 {
            return Err(Errno::ENOENT.into());
        }
    } else if !matches!(family, NFPROTO_IPV4 | NFPROTO_IPV6) {
        return Err(Errno::ENOENT.into());
    }
    let pf = if family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
    let known = if kind == 1 { ext::targets(pf) } else { ext::matches(pf) };
    if family != NFPROTO_BRIDGE && !known.iter().any(|(n, v)| *n == name && u32::from(*v) == revision) {
        let other = known.iter().any(|k| k.0 == name);
        return Err(if other { Errno::EPROTONOSUPPORT } else { Errno::ENOENT }.into());
    }
    let h = Head::reply(u16::from(NFNL_SUBSYS_NFT_COMPAT) << 8 | u16::from(NFNL_MSG_COMPAT_GET), c, r);
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&nfgenmsg(family, 0)).attr_str(NFTA_COMPAT_NAME, name);
    m.attr(NFTA_COMPAT_REV, &revision.to_be_bytes()).attr(NFTA_COMPAT_TYPE, &kind.to_be_bytes());
    Ok(())
}
