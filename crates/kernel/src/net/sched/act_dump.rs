//! Actions as netlink tells them: in filters, and by themselves.
use super::act::{ActId, Action, Prob, What};
use super::cls::Rule;
use crate::env::{Env, Jiffies};
use crate::net::Net;
use belljar_abi::netlink::Msg;
use belljar_abi::pkt_sched::*;

/// Parts of a second that times are told in (`USER_HZ`).
const USER_HZ: u64 = 100;

/// The actions of a rule (`tcf_exts_dump`): under `list`, or as the one policer that there was before, under `police`.
pub(super) fn of_rule(net: &Net, r: &Rule, list: u16, police: u16, m: &mut Msg<'_>) {
    let acts = || r.acts.iter().filter_map(|id| net.tc.acts.get(*id));
    if r.old_police {
        for a in acts() {
            m.nest(police, |m| options(net, a, m));
        }
    } else if !r.acts.is_empty() {
        m.nest(list, |m| {
            for (n, a) in acts().enumerate() {
                m.nest(n as u16 + 1, |m| one(net, a, m));
            }
        });
    }
}

/// Counters of the one policer, where those of disciplines are.
pub(super) fn compat_stats(net: &Net, id: ActId, m: &mut Msg<'_>) {
    if let Some(a) = net.tc.acts.get(id) {
        super::dump::stats(m, &a.stats, 0, None);
    }
}

#[doc(alias = "tcf_action_dump_1")]
pub(super) fn one(net: &Net, a: &Action, m: &mut Msg<'_>) {
    m.attr_str(TCA_ACT_KIND, a.kind().name());
    m.nest(TCA_ACT_STATS, |m| {
        let mut basic = a.stats.bytes.to_ne_bytes().to_vec();
        basic.extend_from_slice(&(a.stats.packets as u32).to_ne_bytes());
        basic.resize(16, 0);
        let queue = [0, 0, a.stats.drops as u32, 0, a.stats.overlimits as u32];
        let queue: Vec<u8> = queue.iter().flat_map(|w| w.to_ne_bytes()).collect();
        m.attr(TCA_STATS_BASIC, &basic).attr(TCA_STATS_BASIC_HW, &[0; 16]).attr(TCA_STATS_QUEUE, &queue);
    });
    if !a.cookie.is_empty() {
        m.attr(TCA_ACT_COOKIE, &a.cookie);
    }
    if a.looked_at {
        m.attr(TCA_ACT_USED_HW_STATS, &[0, 0, 0, 0, 3, 0, 0, 0]);
    }
    m.attr_u32(TCA_ACT_IN_HW_COUNT, 0);
    m.nest(TCA_ACT_OPTIONS, |m| options(net, a, m));
}

fn options(net: &Net, a: &Action, m: &mut Msg<'_>) {
    // tc_gen: index, capabilities, verdict, references.
    let words = [a.index, 0, a.control as u32, a.refs(), a.binds];
    let mut parms: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let tm = match &a.what {
        What::Gact(p) => {
            m.attr(TCA_GACT_PARMS, &parms);
            if let Some(p) = p {
                m.attr(TCA_GACT_PROB, &prob(p));
            }
            TCA_GACT_TM
        }
        What::Mirred(dev, how) => {
            let index = dev.and_then(|d| net.devs.get(d)).filter(|d| d.ns == a.ns).map_or(0, |d| d.ifindex);
            parms.extend_from_slice(&how.to_ne_bytes());
            parms.extend_from_slice(&index.to_ne_bytes());
            m.attr(TCA_MIRRED_PARMS, &parms);
            TCA_MIRRED_TM
        }
        What::Police(p) => {
            p.dump(a.control, (a.index, a.refs(), a.binds), m);
            TCA_POLICE_TM
        }
    };
    m.attr(tm, &times(&net.env, a));
}

fn prob(p: &Prob) -> Vec<u8> {
    let kind = if p.by_count { 2u16 } else { 1 };
    let mut b = kind.to_ne_bytes().to_vec();
    b.extend_from_slice(&p.value.to_ne_bytes());
    b.extend_from_slice(&p.action.to_ne_bytes());
    b
}

/// `tcf_t`: how long ago it was made, used last, and first.
fn times(env: &Env, a: &Action) -> Vec<u8> {
    let ago = |at: Jiffies| u64::from(env.jiffies().wrapping_sub(at)) * USER_HZ / u64::from(env.hz.max(1));
    let first = a.first_used.map_or(0, ago);
    [ago(a.installed), ago(a.last_used), 0, first].iter().flat_map(|t| t.to_ne_bytes()).collect()
}
