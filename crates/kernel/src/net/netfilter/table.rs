//! Evaluation: one loop over rules, with a stack as deep as there are chains.
use super::mangle;
use super::matches::{ip_matches, match_one};
use super::packet::Pkt;
use super::rules::*;
use super::words::print;
use super::{Devs, Hook, Pf, Verdict, conntrack::CtInfo, conntrack::NfCt, ipset, log, nat, nflog};
use crate::env::trace::RuleHit;
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::netfilter::STOLEN;
use belljar_abi::Errno;

const DROP: Verdict = Verdict::Drop(Errno::EPERM);

/// What a rule says about a packet that fits it.
pub(super) enum Said {
    GoOn,
    Verdict(Verdict),
    Return,
    Jump(u32, bool),
}

/// The verdict of a table at a hook.
#[doc(alias = "ipt_do_table")]
pub fn do_table(
    net: &mut Net,
    table: &mut Table,
    ns: NsId,
    hook: Hook,
    p: &Pkt,
    skb: &mut SkBuff,
    devs: Devs,
) -> Verdict {
    let Some(base) = table.entry[hook as usize] else { return Verdict::Accept };
    let (mut chain, mut at) = (base, 0u32);
    table.stack.clear();
    let deepest = table.chains.len();
    let size = (1, p.len as u64);
    // What rules read, when one of them wrote into the header.
    let (mut now, read) = (None, p);
    loop {
        let p = now.as_ref().unwrap_or(read);
        let Some(c) = table.chains.get_mut(chain as usize) else { return DROP };
        let Some(rule) = c.rules.get_mut(at as usize) else {
            // The end of a chain: back to who called, at last to the policy.
            if let Some((_, policy)) = c.base {
                c.counters.packets += size.0;
                c.counters.bytes += size.1;
                if skb.nf_trace {
                    trace(net, table, hook, (chain, at.saturating_add(1)), p, skb, devs);
                }
                net.rule_hit(skb, || hit(table, hook, p.pf, chain, 0));
                return if policy == Policy::Accept { Verdict::Accept } else { DROP };
            }
            // Who left it by RETURN has said so.
            if skb.nf_trace && at != u32::MAX {
                trace(net, table, hook, (chain, at + 1), p, skb, devs);
            }
            (chain, at) = table.stack.pop().unwrap_or((base, u32::MAX));
            continue;
        };
        at = at.saturating_add(1);
        match fits(net, rule, ns, p, skb, devs) {
            Some(true) => {}
            Some(false) => continue,
            None => return DROP,
        }
        rule.counters.packets += size.0;
        rule.counters.bytes += size.1;
        if skb.nf_trace {
            trace(net, table, hook, (chain, at), p, skb, devs);
        }
        let Some(rule) = table.chains.get(chain as usize).and_then(|c| c.rules.get(at as usize - 1)) else {
            return DROP;
        };
        let said = act(net, &rule.target, ns, hook, p, skb, devs);
        if let Target::Xt(t) = &rule.target
            && t.rewrites()
        {
            let fresh = reread(p, skb);
            now = Some(fresh);
        }
        net.rule_hit(skb, || hit(table, hook, read.pf, chain, at));
        match said {
            Said::GoOn => {}
            Said::Verdict(v) => return v,
            Said::Return => at = u32::MAX,
            Said::Jump(to, goto) => {
                if !goto {
                    // Chains without loops never come here twice; a table that has them is not taken.
                    if table.stack.len() >= deepest {
                        return DROP;
                    }
                    table.stack.push((chain, at));
                }
                (chain, at) = (to, 0);
            }
        }
    }
}

/// The packet as it is now; of its devices nothing has changed.
#[cold]
fn reread(p: &Pkt, skb: &mut SkBuff) -> Pkt {
    let (in_name, out_name) = (p.in_name, p.out_name);
    Pkt::read(p.pf, skb).map_or(*p, |read| Pkt { in_name, out_name, ..read })
}

/// A rule that fits a packet that is traced, the `number`th of its chain, or the chain's end.
#[doc(alias = "trace_packet")]
#[cold]
fn trace(net: &mut Net, t: &Table, hook: Hook, (chain, number): (u32, u32), p: &Pkt, skb: &SkBuff, devs: Devs) {
    let Some(c) = t.chains.get(chain as usize) else { return };
    let verdict = |r: &Rule| matches!(r.target, Target::Accept | Target::Drop | Target::Queue | Target::Return);
    let plain = |r: &Rule| verdict(r) && r.matches.is_empty() && r.ip == IpMatch::default();
    let rule = c.rules.get((number as usize).wrapping_sub(1));
    let what = match rule {
        Some(r) if !plain(r) => "rule",
        _ if *c.name == *hook.chain() => "policy",
        _ => "return",
    };
    let number = number.min(c.rules.len() as u32 + 1);
    let prefix = format!("TRACE: {}:{}:{what}:{number} ", t.name.name(), c.name);
    let all = LOG_TCPSEQ | LOG_TCPOPT | LOG_IPOPT | LOG_UID | LOG_MACDECODE;
    let line = log::line(net, &prefix, all, (p, false), skb, devs);
    net.kmsg(line);
}

/// A rule as it is told, the `number`th of its chain; 0: the chain's policy.
#[cold]
fn hit(t: &Table, hook: Hook, pf: Pf, chain: u32, number: u32) -> RuleHit {
    let mut says = String::new();
    let c = t.chains.get(chain as usize);
    match c.and_then(|c| c.rules.get((number as usize).wrapping_sub(1))) {
        Some(rule) => print::target_words(&mut says, t, pf, &rule.target),
        None => says += c.and_then(|c| c.base).map_or("", |b| b.1.name()),
    }
    let chain = c.map_or_else(String::new, |c| c.name.to_string());
    RuleHit { hook: hook.chain(), table: t.name.name().to_owned(), chain, number, says: says.trim_start().to_owned() }
}

/// Whether the rule is about this packet; `None`: no rule can say anything about it.
fn fits(net: &mut Net, rule: &mut Rule, ns: NsId, p: &Pkt, skb: &mut SkBuff, devs: Devs) -> Option<bool> {
    if !ip_matches(&rule.ip, p) {
        return Some(false);
    }
    for m in &mut rule.matches {
        if !match_one(net, m, ns, p, skb, devs)? {
            return Some(false);
        }
    }
    Some(true)
}

pub(super) fn act(net: &mut Net, t: &Target, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff, devs: Devs) -> Said {
    match t {
        Target::None => Said::GoOn,
        Target::Accept => Said::Verdict(Verdict::Accept),
        Target::Drop => Said::Verdict(DROP),
        // Nobody listens on a queue here: it is lost, and who sent it is not told (`nf_queue`).
        Target::Queue => Said::Verdict(Verdict::Drop(STOLEN)),
        Target::Return => Said::Return,
        Target::Jump { chain, goto } => Said::Jump(*chain, *goto),
        Target::Reject(with) => Said::Verdict(Verdict::Reject(*with)),
        Target::Snat(_) | Target::Dnat(_) | Target::Masquerade(_) | Target::Redirect(_) => {
            Said::Verdict(nat::target(net, t, ns, hook, p, skb, devs))
        }
        Target::Mark { value, mask } => {
            skb.mark = (skb.mark & !mask) ^ value;
            Said::GoOn
        }
        Target::Tcpmss(mss) => {
            let mss = if *mss == TCPMSS_CLAMP { mangle::path_mss(net, ns, p, skb) } else { Some(*mss) };
            let Some(mss) = mss else { return Said::Verdict(DROP) };
            mangle::lower_mss(skb, p, mss);
            Said::GoOn
        }
        Target::Connmark { mode, ctmark, ctmask, nfmask } => {
            let Some(c) = skb.nf.ct.and_then(|id| net.ct.conns.get_mut(id)) else { return Said::GoOn };
            match mode {
                ConnmarkMode::Set => c.set_mark((c.mark & !ctmask) ^ ctmark),
                ConnmarkMode::Save => c.set_mark((c.mark & !ctmask) ^ (skb.mark & nfmask)),
                ConnmarkMode::Restore => skb.mark = (skb.mark & !nfmask) ^ (c.mark & ctmask),
            }
            Said::GoOn
        }
        Target::Log { level, flags, prefix } => {
            let line = log::line(net, prefix, *flags, (p, false), skb, devs);
            let _ = level;
            net.kmsg(line);
            Said::GoOn
        }
        Target::Nflog(l) => {
            nflog::log(net, ns, l, (hook, None), p, skb, devs);
            Said::GoOn
        }
        Target::Set(t) => {
            ipset::target(net, ns, t, p, skb);
            Said::GoOn
        }
        Target::Notrack { .. } => {
            if skb.nf.ct.is_none() {
                skb.nf = NfCt { info: CtInfo::Untracked, ..NfCt::default() };
            }
            Said::GoOn
        }
        Target::Xt(t) => t.act(net, ns, hook, p, skb),
        Target::Tproxy { addr, port, mark, mask } => {
            skb.tproxy = Some((super::packet::addr(p.pf, *addr), *port));
            skb.mark = (skb.mark & !mask) ^ mark;
            Said::Verdict(Verdict::Accept)
        }
    }
}
