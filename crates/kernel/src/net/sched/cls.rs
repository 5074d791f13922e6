//! Filters: which class a packet belongs to, and what else happens to it. u32 (bytes at fixed places), fw (the packet's
//! mark), matchall.
//!
//! No hash tables of u32 but the one that each of its priorities begins with.
use super::act::{ActId, Acts, At};
use super::{Ctx, Stats};
use crate::net::core::skb::{Redirect, SkBuff};
use belljar_abi::pkt_sched::*;

const ETH_P_ALL: u16 = 3;
/// Rounds that a packet is sent through by those who say that it is to be looked at again (`max_reclassify_loop`).
const MAX_RECLASSIFY: u32 = 16;

/// What the filters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    None,
    /// A match, perhaps with a class (0: with none).
    Class(u32),
    Drop,
    /// It is not to be seen any more: an action has it.
    Stolen,
}

/// `tc_u32_key`: these bytes behind the network header, under a mask, are that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub mask: [u8; 4],
    pub val: [u8; 4],
    pub off: i32,
    /// How much of the offset of the table's own counts, which is nothing in the first table.
    pub offmask: i32,
}

/// One rule of a priority.
#[derive(Clone, Debug)]
pub struct Rule {
    pub handle: u32,
    pub classid: u32,
    pub keys: Vec<Key>,
    /// Of u32: a match ends the search.
    pub terminal: bool,
    /// `TCA_CLS_FLAGS_*` that it was made with.
    pub flags: u32,
    /// Packets are held to it: it is no u32 without an end, and not for hardware alone, of which there is none.
    pub runs: bool,
    /// Of fw: bits of the mark that count.
    pub mask: u32,
    /// Of matchall: packets that it saw (`tc_matchall_pcnt`).
    pub hits: u64,
    pub acts: Vec<ActId>,
    /// Its one action is a policer, as filters had them before there were others.
    pub old_police: bool,
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
    pub(super) tables: u32,
}

impl Filters {
    pub fn is_empty(&self) -> bool {
        self.protos.is_empty()
    }

    /// Whether some rule leads to the class.
    pub fn leads_to(&self, class: u32) -> bool {
        self.protos.iter().flat_map(|p| &p.rules).any(|r| r.classid == class)
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.protos.iter().flat_map(|p| &p.rules)
    }

    /// What discipline `cx` is lent to is told of a packet.
    #[inline]
    pub fn classify(&mut self, skb: &SkBuff, cx: &mut Ctx<'_>) -> Verdict {
        if self.protos.is_empty() {
            return Verdict::None;
        }
        let len = super::pkt_len(skb);
        self.decide(skb, cx, (len, false))
    }

    /// The first rule that matches and whose actions do not say `continue` (`tcf_classify`). `len`: what is counted,
    /// `ingress`: it is on its way in.
    #[doc(alias = "__tcf_classify")]
    fn decide(&mut self, skb: &SkBuff, cx: &mut Ctx<'_>, (len, ingress): (u32, bool)) -> Verdict {
        let protocol = skb.protocol_or_ip();
        let Ctx { env, pool, acts, .. } = cx;
        let mut at = At { env, pool, len, ingress };
        for _ in 0..MAX_RECLASSIFY {
            let mut fitting = self.protos.iter_mut().filter(|p| p.protocol == ETH_P_ALL || p.protocol == protocol);
            let found = fitting.find_map(|p| p.classify(skb, acts, &mut at));
            let Some((code, classid)) = found else { return Verdict::None };
            match code {
                TC_ACT_RECLASSIFY => {}
                TC_ACT_SHOT => return Verdict::Drop,
                TC_ACT_STOLEN | TC_ACT_QUEUED | TC_ACT_TRAP => return Verdict::Stolen,
                _ => return Verdict::Class(classid),
            }
        }
        Verdict::Drop
    }

    /// With the last table of u32 the counting of them ends (`tc_u_common`).
    pub(super) fn forget_tables(&mut self) {
        if !self.protos.iter().any(|p| matches!(p.kind, Kind::U32(_))) {
            self.tables = 0;
        }
    }

    /// A number for a new table of u32: 800, 801, …
    pub(super) fn table(&mut self) -> u32 {
        self.tables += 1;
        (0x800 | (self.tables - 1) & 0x7ff) << 20
    }
}

impl Proto {
    /// What its first rule that has something to say says, and the class that it leads to.
    fn classify(&mut self, skb: &SkBuff, acts: &mut Acts, at: &mut At<'_>) -> Option<(i32, u32)> {
        let kind = self.kind;
        self.rules.iter_mut().filter(|r| r.runs).find_map(|r| {
            if !r.matches(kind, skb) {
                return None;
            }
            r.hits += 1;
            // What an ifb gives back is not to go there again.
            let skipped = skb.redirect == Redirect::Skip || r.acts.is_empty();
            let code = if skipped { TC_ACT_OK } else { acts.exec(&r.acts, skb, at) };
            (code >= 0).then_some((code, r.classid))
        })
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
    pub(super) filters: Filters,
    pub(super) egress: Filters,
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

    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.filters.rules().chain(self.egress.rules())
    }

    pub fn has_egress(&self) -> bool {
        !self.egress.is_empty()
    }

    /// What filters say of a packet that came in, or is to go out, and is this long; it is counted where they look at it.
    #[doc(alias = "tc_run")]
    pub(super) fn run(&mut self, skb: &SkBuff, cx: &mut Ctx<'_>, (len, ingress): (u32, bool)) -> Verdict {
        let filters = if ingress { &mut self.filters } else { &mut self.egress };
        if filters.is_empty() {
            return Verdict::None;
        }
        self.stats.sent_of(skb, len);
        let said = filters.decide(skb, cx, (len, ingress));
        self.stats.drops += u64::from(said == Verdict::Drop);
        said
    }
}
