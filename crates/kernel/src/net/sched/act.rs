//! Actions of filters: gact (a verdict), mirred (to another device), police (a verdict by rate).
//!
//! They live in a table of their own, by kind and index, and filters refer to them: several may share one. Chains to go to,
//! offload and estimators are refused.
use super::api::{TcError, einval};
use super::opts::Opts;
use super::police::Police;
use super::{Stats, mirred};
use crate::env::{Env, Jiffies};
use crate::ids::{DevId, Id, NsId, Slab};
use crate::mem::Pool;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use belljar_abi::Errno;
use belljar_abi::netlink::{attrs, u32_at};
use belljar_abi::pkt_sched::*;
use std::collections::BTreeMap;

pub type ActId = Id<Action>;

/// Actions of a machine at most: what a program makes takes memory of it.
const MOST_ACTIONS: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Gact,
    Mirred,
    Police,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Gact => "gact",
            Kind::Mirred => "mirred",
            Kind::Police => "police",
        }
    }

    pub fn by_name(name: &str) -> Option<Kind> {
        [Kind::Gact, Kind::Mirred, Kind::Police].into_iter().find(|k| k.name() == name)
    }
}

/// Another verdict instead, one time in so many: by chance, or every so-manieth packet (`tc_gact_p`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prob {
    pub by_count: bool,
    pub value: u16,
    pub action: i32,
    pub packets: u32,
}

/// What an action does; its verdict is beside it.
#[derive(Clone, Debug)]
pub enum What {
    Gact(Option<Prob>),
    /// To whom, and how (`TCA_EGRESS_REDIR` and its like).
    Mirred(Option<DevId>, u32),
    Police(Box<Police>),
}

/// One action (`struct tc_action`).
#[derive(Clone, Debug)]
pub struct Action {
    pub ns: NsId,
    pub index: u32,
    /// What it says of a packet; a policer says so of those that exceed.
    pub control: i32,
    pub what: What,
    pub stats: Stats,
    pub cookie: Vec<u8>,
    pub installed: Jiffies,
    pub last_used: Jiffies,
    pub first_used: Option<Jiffies>,
    /// It was made by itself (`tc actions add`), not with a filter.
    pub own: bool,
    /// Filters that refer to it.
    pub binds: u32,
    /// Somebody looked at it by itself, which asks the hardware that there is not (`used_hw_stats_valid`).
    pub looked_at: bool,
}

impl Action {
    pub fn kind(&self) -> Kind {
        match self.what {
            What::Gact(_) => Kind::Gact,
            What::Mirred(..) => Kind::Mirred,
            What::Police(_) => Kind::Police,
        }
    }

    pub fn refs(&self) -> u32 {
        self.binds + u32::from(self.own)
    }
}

/// The table of actions, and packets that mirred sends elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Acts {
    all: Slab<Action>,
    by_index: BTreeMap<(NsId, Kind, u32), ActId>,
    pub way: mirred::Way,
}

impl Acts {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, id: ActId) -> Option<&Action> {
        self.all.get(id)
    }

    pub fn get_mut(&mut self, id: ActId) -> Option<&mut Action> {
        self.all.get_mut(id)
    }

    pub fn find(&self, ns: NsId, kind: Kind, index: u32) -> Option<ActId> {
        self.by_index.get(&(ns, kind, index)).copied()
    }

    /// Those of a kind, by index.
    pub fn of(&self, ns: NsId, kind: Kind) -> impl Iterator<Item = ActId> + '_ {
        self.by_index.range((ns, kind, 0)..=(ns, kind, u32::MAX)).map(|(_, id)| *id)
    }

    /// The lowest number that is free.
    fn free_index(&self, ns: NsId, kind: Kind) -> u32 {
        let taken = self.by_index.range((ns, kind, 0)..=(ns, kind, u32::MAX)).map(|((_, _, i), _)| *i);
        taken.zip(1..).find(|(is, would)| is != would).map_or(self.of(ns, kind).count() as u32 + 1, |(_, would)| would)
    }

    fn insert(&mut self, a: Action) -> Result<ActId, TcError> {
        if self.all.len() >= MOST_ACTIONS {
            return Err(TcError::plain(Errno::ENOSPC));
        }
        let key = (a.ns, a.kind(), a.index);
        let id = self.all.insert(a);
        self.by_index.insert(key, id);
        Ok(id)
    }

    pub fn remove(&mut self, id: ActId) {
        if let Some(a) = self.all.remove(id) {
            self.by_index.remove(&(a.ns, a.kind(), a.index));
        }
    }

    /// Who is referred to by this many filters is; who is referred to by none and is nobody's own goes.
    fn settle(&mut self, binds: &BTreeMap<ActId, u32>) {
        let mut gone = Vec::new();
        for (id, a) in self.all.iter_mut() {
            a.binds = binds.get(&id).copied().unwrap_or(0);
            if a.refs() == 0 {
                gone.push(id);
            }
        }
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// The list of a filter, one after another as each says (`tcf_action_exec`).
    pub fn exec(&mut self, list: &[ActId], skb: &SkBuff, at: &mut At<'_>) -> i32 {
        let (mut n, mut jumps) = (0, TCA_ACT_MAX_PRIO);
        let mut ret = TC_ACT_OK;
        while let Some(id) = list.get(n) {
            n += 1;
            ret = self.run(*id, skb, at);
            if ret == TC_ACT_REPEAT {
                // It would say so again and again: Linux tries 32 times and gives up.
                (1..32).for_each(|_| _ = self.run(*id, skb, at));
                return TC_ACT_OK;
            }
            if is_ext(ret, TC_ACT_JUMP) {
                // So many from the first on are passed over.
                n = (ret & 0x1ff) as usize;
                jumps -= 1;
                if n == 0 || n > list.len() || jumps == 0 {
                    return TC_ACT_OK;
                }
                continue;
            }
            if ret != TC_ACT_PIPE {
                break;
            }
        }
        ret
    }

    fn run(&mut self, id: ActId, skb: &SkBuff, at: &mut At<'_>) -> i32 {
        let Some(a) = self.all.get_mut(id) else { return TC_ACT_OK };
        if let What::Mirred(..) = a.what
            && self.way.is_too_deep(skb)
        {
            return TC_ACT_SHOT;
        }
        let jiffies = at.env.jiffies();
        a.last_used = jiffies;
        a.first_used.get_or_insert(jiffies);
        a.stats.sent_of(skb, at.len);
        let said = match &mut a.what {
            What::Gact(None) => a.control,
            What::Gact(Some(p)) => p.decide(a.control, at.env),
            What::Police(p) => p.decide(a.control, &mut a.stats, skb, (at.env.now, at.len, at.ingress)),
            What::Mirred(None, _) => {
                a.stats.overlimits += 1;
                a.control
            }
            What::Mirred(Some(dev), how) => {
                let to = mirred::To { dev: *dev, how: *how, at_ingress: at.ingress };
                self.way.send((id, to), a.control, skb, at)
            }
        };
        if said == TC_ACT_SHOT && !matches!(a.what, What::Mirred(..)) {
            a.stats.drops += 1;
        }
        said
    }
}

/// Where filters look at a packet: on its way in or out, how long it is there.
#[derive(Debug)]
pub struct At<'a> {
    pub env: &'a mut Env,
    pub pool: &'a mut Pool,
    pub len: u32,
    pub ingress: bool,
}

impl Prob {
    fn decide(&mut self, control: i32, env: &mut Env) -> i32 {
        self.packets = self.packets.wrapping_add(1);
        let usual = match self.by_count {
            true => !self.packets.is_multiple_of(self.value.into()),
            false => env.rng.below(self.value.into()) != 0,
        };
        if usual { control } else { self.action }
    }
}

pub fn is_ext(code: i32, what: i32) -> bool {
    code & !TC_ACT_EXT_VAL_MASK == what
}

/// A verdict that there is; those that go to other chains are not here.
#[doc(alias = "tcf_action_check_ctrlact")]
fn check_control(code: i32) -> Result<i32, TcError> {
    match code {
        TC_ACT_UNSPEC..=TC_ACT_TRAP => Ok(code),
        _ if is_ext(code, TC_ACT_JUMP) => Ok(code),
        _ if is_ext(code, TC_ACT_GOTO_CHAIN) => Err(CHAINS),
        _ => Err(TcError::of(Errno::EINVAL, "invalid control action")),
    }
}

pub(super) const CHAINS: TcError = TcError::of(Errno::EOPNOTSUPP, "Chains other than 0 are not supported by belljar");
const UNKNOWN: TcError = TcError::of(Errno::ENOENT, "Failed to load TC action module");

/// Who makes actions: for a filter, or by themselves, perhaps in place of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Filter,
    Itself,
    Replacing,
}

/// Actions by their description, in order of their numbers. On an error those that were made are gone again with the next
/// look at who is referred to.
#[doc(alias = "tcf_action_init")]
pub fn init(net: &mut Net, ns: NsId, nest: &[u8], by: Maker) -> Result<Vec<ActId>, TcError> {
    let list: BTreeMap<u16, &[u8]> = attrs(nest).collect();
    let list: Vec<Opts<'_>> = (1..=TCA_ACT_MAX_PRIO as u16).map_while(|n| list.get(&n)).map(|b| Opts::new(b)).collect();
    for o in &list {
        kind_of(o)?;
    }
    list.iter().map(|o| init_1(net, ns, o, by)).collect()
}

fn kind_of(o: &Opts<'_>) -> Result<Kind, TcError> {
    let name = o.text(TCA_ACT_KIND).ok_or(TcError::of(Errno::EINVAL, "TC action kind must be specified"))?;
    Kind::by_name(name).ok_or(UNKNOWN)
}

#[doc(alias = "tcf_action_init_1")]
fn init_1(net: &mut Net, ns: NsId, o: &Opts<'_>, by: Maker) -> Result<ActId, TcError> {
    let cookie = o.get(TCA_ACT_COOKIE).unwrap_or(&[]);
    if cookie.len() > TC_COOKIE_MAX_SIZE {
        return Err(einval());
    }
    for kind in [TCA_ACT_FLAGS, TCA_ACT_HW_STATS] {
        if o.get(kind).is_some() {
            return Err(TcError::of(Errno::EOPNOTSUPP, "Offload flags of actions are not supported by belljar"));
        }
    }
    let id = one(net, ns, kind_of(o)?, o.get(TCA_ACT_OPTIONS), by)?;
    if let Some(a) = net.tc.acts.get_mut(id).filter(|_| !cookie.is_empty()) {
        a.cookie = cookie.to_vec();
    }
    Ok(id)
}

/// A policer as filters had them before there were actions.
pub fn old_police(net: &mut Net, ns: NsId, opts: &[u8]) -> Result<ActId, TcError> {
    one(net, ns, Kind::Police, Some(opts), Maker::Filter)
}

/// Verdict, what it does and index, out of an action's options.
fn read(net: &Net, ns: NsId, kind: Kind, o: &Opts<'_>) -> Result<(i32, What), TcError> {
    match kind {
        Kind::Gact => {
            let p = o.get(TCA_GACT_PARMS).ok_or_else(einval)?;
            let control = check_control(u32_at(p, 8).ok_or_else(einval)? as i32)?;
            Ok((control, What::Gact(o.get(TCA_GACT_PROB).map(prob).transpose()?.flatten())))
        }
        Kind::Mirred => {
            let p = o.get(TCA_MIRRED_PARMS).ok_or_else(einval)?;
            let (how, ifindex) = u32_at(p, 20).zip(u32_at(p, 24)).ok_or_else(einval)?;
            if !(TCA_EGRESS_REDIR..=TCA_INGRESS_MIRROR).contains(&how) {
                return Err(TcError::of(Errno::EINVAL, "act_mirred: Unknown mirred option"));
            }
            if ifindex == 0 {
                return Err(TcError::of(Errno::EINVAL, "act_mirred: Must specify device or block"));
            }
            let control = check_control(u32_at(p, 8).unwrap_or(0) as i32)?;
            let dev = net.dev_by_index(ns, ifindex).ok_or(TcError::plain(Errno::ENODEV))?;
            Ok((control, What::Mirred(Some(dev), how)))
        }
        Kind::Police => {
            let p = o.get(TCA_POLICE_TBF).ok_or_else(einval)?;
            let control = check_control(u32_at(p, 4).ok_or_else(einval)? as i32)?;
            Ok((control, What::Police(Box::new(Police::new(p, o, net.env.now)?))))
        }
    }
}

/// `tc_gact_p`.
fn prob(b: &[u8]) -> Result<Option<Prob>, TcError> {
    let Some(&[k0, k1, v0, v1, a @ ..]) = b.first_chunk::<8>() else { return Err(einval()) };
    let action = i32::from_ne_bytes(a);
    if is_ext(action, TC_ACT_GOTO_CHAIN) {
        return Err(TcError::of(Errno::EINVAL, "goto chain not allowed on fallback"));
    }
    let by_count = match u16::from_ne_bytes([k0, k1]) {
        0 => return Ok(None),
        1 => false,
        2 => true,
        _ => return Err(einval()),
    };
    Ok(Some(Prob { by_count, value: u16::from_ne_bytes([v0, v1]).max(1), action, packets: 0 }))
}

fn one(net: &mut Net, ns: NsId, kind: Kind, opts: Option<&[u8]>, by: Maker) -> Result<ActId, TcError> {
    let missing = match kind {
        Kind::Mirred => "act_mirred: Mirred requires attributes to be passed",
        _ => "",
    };
    let o = Opts::new(opts.ok_or(TcError::of(Errno::EINVAL, missing))?);
    let parms = match kind {
        Kind::Gact => TCA_GACT_PARMS,
        Kind::Mirred => TCA_MIRRED_PARMS,
        Kind::Police => TCA_POLICE_TBF,
    };
    let missing = match kind {
        Kind::Mirred => "act_mirred: Missing required mirred parameters",
        _ => "",
    };
    let p = o.get(parms).ok_or(TcError::of(Errno::EINVAL, missing))?;
    let index = u32_at(p, 0).ok_or_else(einval)?;
    let there = net.tc.acts.find(ns, kind, index).filter(|_| index != 0);
    match (there, by) {
        (Some(id), Maker::Filter) => return Ok(id),
        (Some(_), Maker::Itself) => return Err(TcError::plain(Errno::EEXIST)),
        _ => {}
    }
    let (control, what) = read(net, ns, kind, &o)?;
    let now = net.env.jiffies();
    let acts = &mut net.tc.acts;
    if let Some(a) = there.and_then(|id| acts.get_mut(id)) {
        (a.control, a.what) = (control, what);
        return there.ok_or_else(einval);
    }
    let index = if index == 0 { acts.free_index(ns, kind) } else { index };
    acts.insert(Action {
        ns,
        index,
        control,
        what,
        stats: Stats::default(),
        cookie: Vec::new(),
        installed: now,
        last_used: now,
        first_used: None,
        own: by != Maker::Filter,
        binds: 0,
        looked_at: false,
    })
}

impl Net {
    /// Filters came or went: actions that nobody refers to go.
    pub(crate) fn settle_actions(&mut self) {
        if self.tc.acts.is_empty() {
            return;
        }
        let mut binds = BTreeMap::new();
        for (_, d) in self.devs.iter() {
            d.qdisc.each_rule(&mut |r| r.acts.iter().for_each(|id| *binds.entry(*id).or_insert(0) += 1));
        }
        self.tc.acts.settle(&binds);
    }

    /// A device goes: who sent to it sends nowhere (`mirred_device_event`).
    pub(crate) fn mirred_gone(&mut self, dev: DevId) {
        for (_, a) in self.tc.acts.all.iter_mut() {
            if let What::Mirred(to, _) = &mut a.what
                && *to == Some(dev)
            {
                *to = None;
            }
        }
    }
}
