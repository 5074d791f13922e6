//! Filters: which class a packet belongs to. u32 (bytes at fixed places), fw (the packet's mark), matchall.
//!
//! No actions, no hash tables of u32 but the one that each of its priorities begins with.
use super::api::{Done, Req, TcError, einval};
use super::opts::Opts;
use super::{Sched, Stats};
use crate::net::core::skb::{SkBuff, Skb};
use belljar_abi::Errno;
use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL, u32_at};
use belljar_abi::pkt_sched::*;

/// Filters of one place at most.
const MAX_FILTERS: usize = 4096;
const ETH_P_ALL: u16 = 3;
/// The first priority that is given to a filter which asks for none, counting down.
const AUTO_PRIO: u32 = 0xc000;
const AUTO_FROM: u32 = 0x8000;
const MAX_KEYS: usize = 128;
pub const TCA_CLS_FLAGS_NOT_IN_HW: u32 = 8;

/// What the filters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    None,
    Class(u32),
    Drop,
}

/// `tc_u32_key`: these bytes behind the network header, under a mask, are that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub mask: [u8; 4],
    pub val: [u8; 4],
    pub off: i32,
}

/// One rule of a priority.
#[derive(Clone, Debug)]
pub struct Rule {
    pub handle: u32,
    pub classid: u32,
    pub keys: Vec<Key>,
    /// Of fw: bits of the mark that count.
    pub mask: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Matchall,
    Fw,
    /// With the number of its hash table.
    U32(u32),
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Matchall => "matchall",
            Kind::Fw => "fw",
            Kind::U32(_) => "u32",
        }
    }
}

/// Rules of one priority and protocol (`tcf_proto`).
#[derive(Clone, Debug)]
pub struct Proto {
    pub prio: u16,
    pub protocol: u16,
    pub kind: Kind,
    pub rules: Vec<Rule>,
}

/// The filters of a discipline or class, by priority.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    pub protos: Vec<Proto>,
    /// Numbers of hash tables given so far.
    tables: u32,
}

impl Filters {
    pub fn is_empty(&self) -> bool {
        self.protos.is_empty()
    }

    /// Whether some rule leads to the class.
    pub fn leads_to(&self, class: u32) -> bool {
        self.protos.iter().flat_map(|p| &p.rules).any(|r| r.classid == class)
    }

    /// The first rule that matches (`tcf_classify`).
    pub fn classify(&self, skb: &Skb) -> Verdict {
        if self.protos.is_empty() {
            return Verdict::None;
        }
        let protocol = skb.protocol_or_ip();
        let found = self
            .protos
            .iter()
            .filter(|p| p.protocol == ETH_P_ALL || p.protocol == protocol)
            .find_map(|p| p.rules.iter().find(|r| r.matches(p.kind, skb)));
        found.map_or(Verdict::None, |r| Verdict::Class(r.classid))
    }

    /// A number for a new table of u32: 800, 801, …
    fn table(&mut self) -> u32 {
        self.tables += 1;
        (0x800 | (self.tables - 1) & 0x7ff) << 20
    }
}

impl Rule {
    fn matches(&self, kind: Kind, skb: &SkBuff) -> bool {
        match kind {
            Kind::Matchall => true,
            // Without options of its own fw takes the mark itself for a class.
            Kind::Fw => self.handle == skb.mark & self.mask,
            Kind::U32(_) => self.keys.iter().all(|k| k.matches(skb)),
        }
    }
}

impl Key {
    fn matches(&self, skb: &SkBuff) -> bool {
        let from = i64::from(skb.network_header) - i64::from(skb.head.start()) + i64::from(self.off);
        let Ok(from) = usize::try_from(from) else { return false };
        let mut word = [0; 4];
        let linear = skb.head.bytes().get(from..).unwrap_or(&[]);
        let n = linear.len().min(4);
        word[..n].copy_from_slice(&linear[..n]);
        if n < 4 {
            let behind = from.saturating_sub(skb.head.len());
            if skb.frags.copy_to(behind, &mut word[n..]) < 4 - n {
                return false;
            }
        }
        (0..4).all(|i| word[i] & self.mask[i] == self.val[i])
    }
}

/// `ingress` and `clsact`: places for filters on the way in, and with clsact on the way out.
#[derive(Clone, Debug)]
pub struct Ingress {
    pub clsact: bool,
    pub stats: Stats,
    filters: Filters,
    egress: Filters,
}

impl Ingress {
    pub(super) fn new(clsact: bool) -> Ingress {
        Ingress { clsact, stats: Stats::default(), filters: Filters::default(), egress: Filters::default() }
    }

    pub fn name(&self) -> &'static str {
        if self.clsact { "clsact" } else { "ingress" }
    }

    pub(super) fn filters_at(&mut self, parent: u32) -> Option<&mut Filters> {
        match parent & TC_H_MIN_MASK {
            TC_H_MIN_EGRESS if self.clsact => Some(&mut self.egress),
            TC_H_MIN_INGRESS if self.clsact => Some(&mut self.filters),
            _ if !self.clsact => Some(&mut self.filters),
            _ => None,
        }
    }

    pub(super) fn filters(&self, parent: u32) -> Option<&Filters> {
        match parent & TC_H_MIN_MASK {
            TC_H_MIN_EGRESS if self.clsact => Some(&self.egress),
            TC_H_MIN_INGRESS if self.clsact => Some(&self.filters),
            _ if !self.clsact => Some(&self.filters),
            _ => None,
        }
    }

    /// A packet came in; it is counted where filters look at it (`sch_handle_ingress`).
    pub fn receive(&mut self, skb: &SkBuff) {
        if !self.filters.is_empty() {
            self.stats.packets += skb.gso.map_or(1, |g| u64::from(g.segs));
            self.stats.bytes += skb.len() as u64 + 14;
        }
    }
}

impl Sched {
    #[doc(alias = "tc_new_tfilter")]
    pub(super) fn new_filter(&mut self, req: &Req<'_>) -> Done {
        let (mut prio, protocol) = (req.t.info >> 16, u16::from_be(req.t.info as u16));
        let name = req.attrs.text(TCA_KIND).unwrap_or("");
        if req.attrs.u32(TCA_CHAIN).is_some_and(|c| c != 0) {
            return Err(TcError::of(Errno::EOPNOTSUPP, "Chains other than 0 are not supported by belljar"));
        }
        let parent = req.t.parent;
        let major = if parent == 0 { self.root.handle } else { parent & TC_H_MAJ_MASK };
        let filters = self.filters_at(parent)?;
        if prio == 0 {
            if req.flags & NLM_F_CREATE == 0 {
                return Err(TcError::of(Errno::ENOENT, "Filter command requires a priority"));
            }
            // Before the first of those that were given a priority (`tcf_auto_prio`).
            let given = filters.protos.iter().find(|p| u32::from(p.prio) >= AUTO_FROM);
            prio = given.map_or(AUTO_PRIO, |p| u32::from(p.prio) - 1);
        }
        let at = filters.protos.iter().position(|p| u32::from(p.prio) == prio);
        let fits = |p: &Proto| p.protocol == protocol || protocol == 0;
        if let Some(i) = at {
            let p = &filters.protos[i];
            if !fits(p) {
                return Err(TcError::of(Errno::EINVAL, "Protocol mismatch for filter with specified priority"));
            }
            if !name.is_empty() && name != p.kind.name() {
                return Err(TcError::of(Errno::EINVAL, "Specified filter kind does not match existing one"));
            }
        } else if name.is_empty() || protocol == 0 {
            let text = "Filter kind and protocol must be specified";
            return Err(TcError::of(Errno::EINVAL, text));
        }
        if filters.protos.iter().map(|p| p.rules.len()).sum::<usize>() >= MAX_FILTERS {
            return Err(TcError::plain(Errno::ENOMEM));
        }
        let kind = match name {
            "matchall" => Kind::Matchall,
            "fw" => Kind::Fw,
            "u32" => Kind::U32(0),
            _ => match at {
                Some(i) if name.is_empty() => filters.protos[i].kind,
                _ => return Err(TcError::of(Errno::ENOENT, "TC classifier not found")),
            },
        };
        let existing = at.map(|i| filters.protos[i].rules.clone()).unwrap_or_default();
        let handle = req.t.handle;
        let old = existing.iter().position(|r| r.handle == handle && handle != 0);
        if old.is_some() && req.flags & NLM_F_EXCL != 0 {
            return Err(TcError::of(Errno::EEXIST, "Filter already exists"));
        }
        let mut rule = parse(kind, handle, major, &req.attrs)?;
        if kind == Kind::Matchall && old.is_none() && !existing.is_empty() {
            return Err(TcError::plain(Errno::EEXIST));
        }
        let i = match at {
            Some(i) => i,
            None => {
                let kind = if let Kind::U32(_) = kind { Kind::U32(filters.table()) } else { kind };
                let i = filters.protos.partition_point(|p| u32::from(p.prio) < prio);
                filters.protos.insert(i, Proto { prio: prio as u16, protocol, kind, rules: Vec::new() });
                i
            }
        };
        let p = &mut filters.protos[i];
        if let (Kind::U32(table), true) = (p.kind, old.is_none()) {
            let next = p.rules.iter().map(|r| r.handle & 0xfff).max().map_or(0x800, |n| n + 1);
            rule.handle = if handle & 0xfff != 0 { table | handle & 0xfff } else { table | next.min(0xfff) };
        }
        match old.and_then(|o| p.rules.get_mut(o)) {
            Some(r) => *r = rule,
            None => p.rules.push(rule),
        }
        Ok(None)
    }

    #[doc(alias = "tc_del_tfilter")]
    pub(super) fn del_filter(&mut self, req: &Req<'_>) -> Done {
        let (prio, protocol) = (req.t.info >> 16, u16::from_be(req.t.info as u16));
        let handle = req.t.handle;
        let filters = self.filters_at(req.t.parent)?;
        if prio == 0 {
            if protocol != 0 || handle != 0 || req.attrs.get(TCA_KIND).is_some() {
                let text = "Cannot flush filters with protocol, handle or kind set";
                return Err(TcError::of(Errno::ENOENT, text));
            }
            filters.protos.clear();
            return Ok(None);
        }
        let missing = TcError::of(Errno::ENOENT, "Filter with specified priority/protocol not found");
        let fits = |p: &Proto| u32::from(p.prio) == prio && (protocol == 0 || p.protocol == protocol);
        let i = filters.protos.iter().position(fits).ok_or(missing)?;
        if req.attrs.text(TCA_KIND).is_some_and(|k| k != filters.protos[i].kind.name()) {
            return Err(TcError::of(Errno::EINVAL, "Specified filter kind does not match existing one"));
        }
        if handle == 0 {
            filters.protos.remove(i);
            return Ok(None);
        }
        let rules = &mut filters.protos[i].rules;
        let at = rules.iter().position(|r| r.handle == handle);
        rules.remove(at.ok_or(TcError::of(Errno::ENOENT, "Specified filter handle not found"))?);
        if rules.is_empty() {
            filters.protos.remove(i);
        }
        Ok(None)
    }
}

/// A rule from its attributes.
fn parse(kind: Kind, handle: u32, major: u32, attrs: &Opts<'_>) -> Result<Rule, TcError> {
    let o = Opts::new(attrs.get(TCA_OPTIONS).unwrap_or(&[]));
    // Numbers of actions, device names and policers of the three kinds.
    let unsupported: &[u16] = match kind {
        Kind::Matchall => &[TCA_MATCHALL_ACT],
        Kind::Fw => &[2, 3, 4],
        Kind::U32(_) => &[TCA_U32_HASH, TCA_U32_LINK, TCA_U32_DIVISOR, 6, 7, 8, TCA_U32_MARK],
    };
    if unsupported.iter().any(|a| o.get(*a).is_some_and(|v| v.iter().any(|b| *b != 0))) {
        let text = "Actions, marks, hash tables and links of filters are not supported by belljar";
        return Err(TcError::of(Errno::EOPNOTSUPP, text));
    }
    let mut rule = Rule { handle: handle.max(1), classid: 0, keys: Vec::new(), mask: u32::MAX };
    match kind {
        Kind::Matchall => rule.classid = o.u32(TCA_MATCHALL_CLASSID).unwrap_or(0),
        Kind::Fw if handle == 0 => return Err(einval()),
        Kind::Fw => {
            rule.classid = o.u32(TCA_FW_CLASSID).unwrap_or(0);
            rule.mask = o.u32(TCA_FW_MASK).unwrap_or(u32::MAX);
        }
        Kind::U32(_) => {
            rule.classid = o.u32(TCA_U32_CLASSID).unwrap_or(0);
            let sel = o.get(TCA_U32_SEL).ok_or(TcError::of(Errno::EINVAL, "Selector not specified"))?;
            rule.keys = keys(sel)?;
        }
    }
    if rule.classid != 0 && rule.classid & TC_H_MAJ_MASK == 0 {
        rule.classid |= major;
    }
    Ok(rule)
}

/// `tc_u32_sel` with its keys.
fn keys(sel: &[u8]) -> Result<Vec<Key>, TcError> {
    let n = usize::from(*sel.get(2).ok_or_else(einval)?);
    let words = sel.get(16..16 + 16 * n).filter(|_| n <= MAX_KEYS).ok_or_else(einval)?;
    words
        .chunks_exact(16)
        .map(|k| {
            if u32_at(k, 12) != Some(0) {
                let text = "Keys at variable offsets are not supported by belljar";
                return Err(TcError::of(Errno::EOPNOTSUPP, text));
            }
            let four = |at: usize| [k[at], k[at + 1], k[at + 2], k[at + 3]];
            Ok(Key { mask: four(0), val: four(4), off: i32::from_ne_bytes(four(8)) })
        })
        .collect()
}
