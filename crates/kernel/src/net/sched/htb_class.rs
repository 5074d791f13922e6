//! Classes of htb: their settings, their tokens, how they are made, changed and taken away.
use super::htb::{Feeds, Htb, MAX_DEPTH, MBUFFER};
use super::opts::Opts;
use super::rate::{RateCfg, ns_to_ticks, ticks_to_ns};
use super::{Ctx, Qdisc, Stats, cls};
use crate::env::Nanos;
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::sched::api::{Done, TcError, einval};
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, u32_at};
use belljar_abi::pkt_sched::*;

/// Below its rate, below its ceiling, at its ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    CanSend,
    MayBorrow,
    CantSend,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Class {
    pub id: u32,
    pub parent: Option<u32>,
    pub level: u8,
    pub prio: u8,
    pub quantum: u32,
    pub rate: RateCfg,
    pub ceil: RateCfg,
    pub buffer: i64,
    pub cbuffer: i64,
    pub tokens: i64,
    pub ctokens: i64,
    /// When its tokens were last counted.
    pub t_c: Nanos,
    pub mode: Mode,
    /// Priorities in which it has packets itself or below it.
    pub activity: u8,
    pub deficit: [i64; MAX_DEPTH],
    /// When it stops waiting; 0 when it does not wait.
    pub wakes: Nanos,
    pub leaf: Option<Qdisc>,
    /// Of a class with classes below: those that borrow from it.
    pub feeds: Option<Box<Feeds>>,
    pub filters: cls::Filters,
    pub stats: Stats,
    pub lends: u32,
    pub borrows: u32,
}

impl Class {
    pub fn feeds(&mut self) -> &mut Feeds {
        self.feeds.get_or_insert_default()
    }

    /// What it may do `diff` nanoseconds after its books, and for how long not more.
    #[doc(alias = "htb_class_mode")]
    pub fn mode_now(&self, diff: i64) -> (Mode, i64) {
        let ceil = self.ctokens + diff;
        if ceil < 0 {
            return (Mode::CantSend, -ceil);
        }
        let own = self.tokens + diff;
        if own >= 0 { (Mode::CanSend, diff) } else { (Mode::MayBorrow, -own) }
    }

    #[doc(alias = "htb_accnt_tokens")]
    pub fn pay(&mut self, bytes: u32, diff: i64) {
        self.tokens = settle(self.tokens + diff, self.buffer, self.rate.l2t_ns(bytes));
    }

    #[doc(alias = "htb_accnt_ctokens")]
    pub fn pay_ceil(&mut self, bytes: u32, diff: i64) {
        self.ctokens = settle(self.ctokens + diff, self.cbuffer, self.ceil.l2t_ns(bytes));
    }

    #[doc(alias = "htb_dump_class")]
    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let mut b = Vec::with_capacity(44);
        b.extend_from_slice(&self.rate.spec().to_bytes());
        b.extend_from_slice(&self.ceil.spec().to_bytes());
        let words = [
            ns_to_ticks(self.buffer),
            ns_to_ticks(self.cbuffer),
            self.quantum,
            u32::from(self.level),
            u32::from(self.prio),
        ];
        words.iter().for_each(|w| b.extend_from_slice(&w.to_ne_bytes()));
        m.attr(TCA_HTB_PARMS, &b);
        for (kind, v) in [(TCA_HTB_RATE64, self.rate.rate64()), (TCA_HTB_CEIL64, self.ceil.rate64())] {
            if let Some(v) = v {
                m.attr(kind, &v.to_ne_bytes());
            }
        }
    }

    /// `tc_htb_xstats`.
    pub(super) fn xstats(&self) -> Vec<u8> {
        let ticks = |t: i64| (t >> PSCHED_SHIFT).clamp(i32::MIN.into(), i32::MAX.into()) as u32;
        let words = [self.lends, self.borrows, 0, ticks(self.tokens), ticks(self.ctokens)];
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }
}

fn settle(tokens: i64, most: i64, price: i64) -> i64 {
    let left = tokens.min(most) - price;
    if left <= -MBUFFER { 1 - MBUFFER } else { left }
}

/// What a request says of a class.
struct Wanted {
    rate: RateCfg,
    ceil: RateCfg,
    buffer: i64,
    cbuffer: i64,
    quantum: u32,
    prio: u8,
}

impl Htb {
    #[doc(alias = "htb_init")]
    pub(super) fn new(opts: Option<&[u8]>, cx: &Ctx<'_>) -> Result<Htb, TcError> {
        let o = Opts::new(opts.ok_or_else(einval)?);
        let glob = o.get(TCA_HTB_INIT).filter(|g| g.len() >= 20).ok_or_else(einval)?;
        let word = |at| u32_at(glob, at).unwrap_or(0);
        if word(0) != 3 {
            return Err(einval());
        }
        if o.get(TCA_HTB_OFFLOAD).is_some() {
            return Err(TcError::of(Errno::EOPNOTSUPP, "hw-tc-offload ethtool feature flag must be on"));
        }
        let direct = o.u32(TCA_HTB_DIRECT_QLEN).unwrap_or(cx.tx_queue_len);
        Ok(Htb::with(word(8), word(4).max(1), direct))
    }

    #[doc(alias = "htb_dump")]
    pub(super) fn dump(&self, m: &mut Msg<'_>) {
        let words = [3u32 << 16 | 17, self.rate2quantum, self.defcls, 0, self.direct_pkts];
        let b: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        m.attr(TCA_HTB_INIT, &b).attr_u32(TCA_HTB_DIRECT_QLEN, self.direct_qlen);
    }

    /// A class is made or changed.
    #[doc(alias = "htb_change_class")]
    pub(super) fn change_class(
        &mut self,
        handle: u32,
        id: u32,
        parent: u32,
        opts: Option<&[u8]>,
        cx: &mut Ctx<'_>,
    ) -> Done {
        let o = Opts::new(opts.ok_or_else(einval)?);
        let parms = o.get(TCA_HTB_PARMS).filter(|p| p.len() >= 44).ok_or_else(einval)?;
        let (rate, ceil) = RateSpec::parse(parms).zip(RateSpec::parse(&parms[12..])).ok_or_else(einval)?;
        let word = |at| u32_at(parms, at).unwrap_or(0);
        if rate.rate == 0 || ceil.rate == 0 {
            return Err(einval());
        }
        let parent = (parent != TC_H_ROOT).then_some(parent).filter(|p| self.classes.contains_key(p));
        let exists = self.classes.contains_key(&id);
        if !exists && (id & TC_H_MIN_MASK == 0 || id & TC_H_MAJ_MASK != handle) {
            return Err(einval());
        }
        let rate = RateCfg::new(&rate, o.u64(TCA_HTB_RATE64).unwrap_or(0));
        let ceil = RateCfg::new(&ceil, o.u64(TCA_HTB_CEIL64).unwrap_or(0));
        let wanted = Wanted {
            rate,
            ceil,
            buffer: ticks_to_ns(word(24)) as i64,
            cbuffer: ticks_to_ns(word(28)) as i64,
            quantum: word(32),
            prio: word(40).min(7) as u8,
        };
        if !exists {
            self.add_class(id, parent, cx)?;
        }
        let r2q = u64::from(self.rate2quantum);
        let mut warning = None;
        let Some(c) = self.classes.get_mut(&id) else { return Err(einval()) };
        if c.level == 0 {
            let by_rate = wanted.rate.rate / r2q;
            let quantum = by_rate.clamp(1000, 200_000);
            if wanted.quantum == 0 && quantum != by_rate {
                let size = if by_rate < quantum { "small" } else { "big" };
                warning = Some(format!("sch_htb: quantum of class {id:X} is {size}. Consider r2q change."));
            }
            c.quantum = if wanted.quantum != 0 { wanted.quantum } else { quantum as u32 };
            c.prio = wanted.prio;
        }
        (c.rate, c.ceil, c.buffer, c.cbuffer) = (wanted.rate, wanted.ceil, wanted.buffer, wanted.cbuffer);
        if !exists {
            (c.tokens, c.ctokens) = (c.buffer, c.cbuffer);
        }
        Ok(warning)
    }

    fn add_class(&mut self, id: u32, parent: Option<u32>, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let grandparent = parent.and_then(|p| self.classes.get(&p)?.parent).and_then(|g| self.classes.get(&g));
        if grandparent.is_some_and(|g| g.level < 2) {
            return Err(TcError::of(Errno::EINVAL, "sch_htb: tree is too deep"));
        }
        if let Some(p) = parent {
            self.parent_to_inner(p, cx);
        }
        let c = Class {
            id,
            parent,
            level: 0,
            prio: 0,
            quantum: 0,
            rate: RateCfg::default(),
            ceil: RateCfg::default(),
            buffer: 0,
            cbuffer: 0,
            tokens: 0,
            ctokens: 0,
            t_c: cx.now,
            mode: Mode::CanSend,
            activity: 0,
            deficit: [0; MAX_DEPTH],
            wakes: 0,
            leaf: Some(Qdisc::pfifo(id, cx.tx_queue_len)),
            feeds: None,
            filters: cls::Filters::default(),
            stats: Stats::default(),
            lends: 0,
            borrows: 0,
        };
        self.classes.insert(id, c);
        self.order.push(id);
        Ok(())
    }

    /// A class with classes below has no queue of its own any more.
    fn parent_to_inner(&mut self, id: u32, cx: &mut Ctx<'_>) {
        if self.classes.get(&id).is_none_or(|c| c.leaf.is_none()) {
            return;
        }
        self.deactivate(id);
        self.stop_waiting(id);
        let above = self.classes.get(&id).and_then(|c| c.parent).and_then(|p| self.classes.get(&p));
        let level = above.map_or(MAX_DEPTH as u8, |p| p.level).saturating_sub(1);
        let Some(c) = self.classes.get_mut(&id) else { return };
        (c.level, c.mode) = (level, Mode::CanSend);
        let mut gone = Vec::new();
        c.leaf.take().into_iter().for_each(|mut q| q.reset(&mut gone));
        purge(gone, cx);
    }

    #[doc(alias = "htb_delete")]
    pub(super) fn delete_class(&mut self, id: u32, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let has_children = self.classes.values().any(|c| c.parent == Some(id));
        let filters = std::iter::once(&self.filters).chain(self.classes.values().map(|c| &c.filters));
        if has_children || filters.into_iter().any(|f| f.leads_to(id)) {
            return Err(TcError::of(Errno::EBUSY, "HTB class in use"));
        }
        self.deactivate(id);
        self.stop_waiting(id);
        self.order.retain(|o| *o != id);
        let Some(c) = self.classes.remove(&id) else { return Err(TcError::plain(Errno::ENOENT)) };
        let mut gone = Vec::new();
        c.leaf.into_iter().for_each(|mut q| q.reset(&mut gone));
        purge(gone, cx);
        let Some(parent) = c.parent.filter(|p| !self.classes.values().any(|c| c.parent == Some(*p))) else {
            return Ok(());
        };
        // The last child is gone: its parent sends by itself again.
        self.stop_waiting(parent);
        if let Some(p) = self.classes.get_mut(&parent) {
            (p.level, p.mode, p.t_c) = (0, Mode::CanSend, cx.now);
            (p.tokens, p.ctokens) = (p.buffer, p.cbuffer);
            (p.leaf, p.feeds) = (Some(Qdisc::pfifo(parent, cx.tx_queue_len)), None);
        }
        Ok(())
    }
}

fn purge(gone: Vec<Skb>, cx: &mut Ctx<'_>) {
    for skb in gone {
        cx.drop(skb, DropReason::QueuePurge, "qdisc_reset");
    }
}
