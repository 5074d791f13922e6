//! Filters made, changed and removed, as netlink asks for them.
use super::api::{Done, NAME, NOT_FOUND, Req, TcError, einval};
use super::cls::{self, Key, Kind, Proto, Rule};
use super::opts::Opts;
use super::{Kind as Queue, Sched, act};
use crate::ids::NsId;
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL};
use belljar_abi::pkt_sched::*;

/// Filters of one place at most.
const MAX_FILTERS: usize = 4096;
/// The first priority that is given to a filter which asks for none, counting down.
const AUTO_PRIO: u32 = 0xc000;
const AUTO_FROM: u32 = 0x8000;
const MAX_KEYS: usize = 128;

/// The actions that a request names, made before the filter is.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub list: Vec<act::ActId>,
    pub old_police: bool,
}

/// They are found by the kind of the filter, which says which attribute they are in.
#[doc(alias = "tcf_exts_validate")]
pub(super) fn actions(net: &mut Net, ns: NsId, attrs: &Opts<'_>) -> Result<Named, TcError> {
    let (list, police) = match attrs.text(TCA_KIND).unwrap_or("") {
        "matchall" => (TCA_MATCHALL_ACT, None),
        "fw" => (TCA_FW_ACT, Some(TCA_FW_POLICE)),
        "u32" => (TCA_U32_ACT, Some(TCA_U32_POLICE)),
        _ => return Ok(Named::default()),
    };
    let o = Opts::new(attrs.get(TCA_OPTIONS).unwrap_or(&[]));
    if let Some(old) = police.and_then(|p| o.get(p)) {
        return Ok(Named { list: vec![act::old_police(net, ns, old)?], old_police: true });
    }
    let list = o.get(list).map_or(Ok(Vec::new()), |l| act::init(net, ns, l, act::Maker::Filter))?;
    Ok(Named { list, old_police: false })
}

impl Sched {
    pub(super) fn new_ingress(&mut self, req: &Req<'_>) -> Done {
        let kind = req.kind().unwrap_or("");
        let clsact = match kind {
            "ingress" => false,
            "clsact" => true,
            "pfifo" | "bfifo" | "pfifo_fast" | "tbf" | "netem" | "fq" | "fq_codel" | "prio" | "htb" | "noqueue" => {
                return Err(einval());
            }
            _ => return Err(TcError::of(Errno::ENOENT, "Specified qdisc kind is unknown")),
        };
        match &self.ingress {
            Some(_) if req.has(NLM_F_EXCL) => Err(TcError::of(Errno::EEXIST, "Exclusivity flag on, cannot modify")),
            Some(i) if i.clsact != clsact => Err(NAME),
            Some(_) => Ok(None),
            None => {
                self.ingress = Some(Box::new(cls::Ingress::new(clsact)));
                Ok(None)
            }
        }
    }

    pub(super) fn del_ingress(&mut self, req: &Req<'_>) -> Done {
        let Some(i) = &self.ingress else { return Err(TcError::of(Errno::EINVAL, "Invalid handle")) };
        if req.kind().is_some_and(|k| k != i.name()) {
            return Err(NAME);
        }
        self.ingress = None;
        Ok(None)
    }

    /// Where filters of this parent are kept.
    #[doc(alias = "__tcf_qdisc_find")]
    fn filters_at(&mut self, parent: u32) -> Result<&mut cls::Filters, TcError> {
        let none = TcError::of(Errno::EINVAL, "Parent Qdisc doesn't exists");
        if parent & TC_H_MAJ_MASK == TC_H_INGRESS & TC_H_MAJ_MASK {
            return self.ingress.as_mut().ok_or(none)?.filters_at(parent).ok_or(NOT_FOUND);
        }
        let handle = if parent == 0 { self.root.handle } else { parent & TC_H_MAJ_MASK };
        let q = self.root.find_mut(handle).filter(|q| q.handle != 0).ok_or(none)?;
        let class = parent & TC_H_MIN_MASK != 0;
        match &mut q.kind {
            Queue::Htb(h) => match class {
                true => h.classes.get_mut(&parent).map(|c| &mut c.filters).ok_or(NOT_FOUND),
                false => Ok(&mut h.filters),
            },
            Queue::Prio(p) if !class => Ok(&mut p.filters),
            Queue::FqCodel(p) if !class => Ok(&mut p.filters),
            Queue::Prio(_) | Queue::FqCodel(_) => Err(TcError::plain(Errno::EOPNOTSUPP)),
            Queue::Tbf(_) | Queue::Netem(_) => Err(TcError::of(Errno::EOPNOTSUPP, "Class doesn't support blocks")),
            _ => Err(TcError::of(Errno::EINVAL, "Qdisc not classful")),
        }
    }

    #[doc(alias = "tc_new_tfilter")]
    pub(super) fn new_filter(&mut self, req: &Req<'_>) -> Done {
        let (mut prio, protocol) = (req.t.info >> 16, u16::from_be(req.t.info as u16));
        let name = req.attrs.text(TCA_KIND).unwrap_or("");
        if req.attrs.u32(TCA_CHAIN).is_some_and(|c| c != 0) {
            return Err(act::CHAINS);
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
        if old.is_none() && handle != 0 && req.flags & NLM_F_CREATE == 0 {
            let text = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter";
            return Err(TcError::of(Errno::ENOENT, text));
        }
        let mut rule = parse(kind, (handle, major), req)?;
        if let (Kind::U32(_), Some(old)) = (kind, old.and_then(|o| existing.get(o)))
            && old.flags != rule.flags
        {
            return Err(TcError::of(Errno::EINVAL, "cls_u32: Key node flags do not match passed flags"));
        }
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
            rule.handle = table | if handle & 0xfff != 0 { handle & 0xfff } else { new_kid(&p.rules) };
        }
        let sorted = matches!(p.kind, Kind::U32(_));
        match old.and_then(|o| p.rules.get_mut(o)) {
            Some(r) => {
                rule.hits = r.hits;
                *r = rule;
            }
            None if sorted => {
                let at = p.rules.partition_point(|r| r.handle <= rule.handle);
                p.rules.insert(at, rule);
            }
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
            filters.forget_tables();
            return Ok(None);
        }
        let i = filters.find(prio, protocol, req.attrs.text(TCA_KIND))?;
        if handle == 0 {
            filters.protos.remove(i);
            filters.forget_tables();
            return Ok(None);
        }
        let rules = &mut filters.protos[i].rules;
        let at = rules.iter().position(|r| r.handle == handle);
        rules.remove(at.ok_or(TcError::of(Errno::ENOENT, "Specified filter handle not found"))?);
        if rules.is_empty() {
            filters.protos.remove(i);
            filters.forget_tables();
        }
        Ok(None)
    }
}

impl cls::Filters {
    /// Which one a request to show or to remove is about.
    #[doc(alias = "tcf_chain_tp_find")]
    pub(super) fn find(&self, prio: u32, protocol: u16, kind: Option<&str>) -> Result<usize, TcError> {
        if self.protos.is_empty() {
            return Err(TcError::of(Errno::EINVAL, "Cannot find specified filter chain"));
        }
        let missing = TcError::of(Errno::ENOENT, "Filter with specified priority/protocol not found");
        let at = self.protos.iter().position(|p| u32::from(p.prio) == prio).ok_or(missing)?;
        let p = &self.protos[at];
        if protocol != 0 && p.protocol != protocol {
            return Err(TcError::of(Errno::EINVAL, "Protocol mismatch for filter with specified priority"));
        }
        if kind.is_some_and(|k| k != p.kind.name()) {
            return Err(TcError::of(Errno::EINVAL, "Specified filter kind does not match existing one"));
        }
        Ok(at)
    }
}

/// The first number from 800 on that no rule has, or the first at all.
#[doc(alias = "gen_new_kid")]
fn new_kid(rules: &[Rule]) -> u32 {
    let free = |n: &u32| !rules.iter().any(|r| r.handle & 0xfff == *n);
    (0x800..=0xfff).find(free).or_else(|| (1..0x800).find(free)).unwrap_or(0xfff)
}

/// `TCA_CLS_FLAGS_SKIP_HW` and `_SKIP_SW`, not both.
#[doc(alias = "tc_flags_valid")]
fn flags(kind: Kind, o: &Opts<'_>) -> Result<u32, TcError> {
    let flags = match kind {
        Kind::Matchall => o.u32(TCA_MATCHALL_FLAGS),
        Kind::Fw => None,
        Kind::U32(_) => o.u32(TCA_U32_FLAGS),
    };
    let flags = flags.unwrap_or(0);
    let both = TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW;
    if flags & !(both | TCA_CLS_FLAGS_VERBOSE) != 0 || flags & both == both {
        return Err(einval());
    }
    Ok(flags & both)
}

/// A rule from its attributes.
fn parse(kind: Kind, (handle, major): (u32, u32), req: &Req<'_>) -> Result<Rule, TcError> {
    let o = Opts::new(req.attrs.get(TCA_OPTIONS).unwrap_or(&[]));
    let unsupported: &[u16] = match kind {
        Kind::Matchall => &[],
        Kind::Fw => &[TCA_FW_INDEV],
        Kind::U32(_) => &[TCA_U32_HASH, TCA_U32_LINK, TCA_U32_DIVISOR, TCA_U32_INDEV, TCA_U32_MARK],
    };
    if unsupported.iter().any(|a| o.get(*a).is_some_and(|v| v.iter().any(|b| *b != 0))) {
        let text = "Marks, devices, hash tables and links of filters are not supported by belljar";
        return Err(TcError::of(Errno::EOPNOTSUPP, text));
    }
    let flags = flags(kind, &o)?;
    let software = flags & TCA_CLS_FLAGS_SKIP_SW == 0;
    let mut rule = Rule {
        flags,
        runs: software,
        handle: handle.max(1),
        classid: 0,
        keys: Vec::new(),
        terminal: true,
        mask: u32::MAX,
        hits: 0,
        acts: req.acts.list.clone(),
        old_police: req.acts.old_police,
    };
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
            rule.terminal = sel.first().is_some_and(|f| f & TC_U32_TERMINAL != 0);
            rule.runs = software && rule.terminal;
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
            let four = |at: usize| [k[at], k[at + 1], k[at + 2], k[at + 3]];
            let word = |at: usize| i32::from_ne_bytes(four(at));
            Ok(Key { mask: four(0), val: four(4), off: word(8), offmask: word(12) })
        })
        .collect()
}
