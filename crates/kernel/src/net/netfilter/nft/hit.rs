//! A rule that decided, as `belljar trace` tells it.
use super::Table;
use super::eval::{At, Then};
use super::expr::{Expr, NatKind};
use crate::env::trace::RuleHit;
use crate::net::netfilter::{Pf, Verdict};
use belljar_abi::nf_tables::*;

/// The `number`th rule of a chain, 0 its policy.
#[cold]
pub fn hit(t: &Table, a: At, chain: usize, number: usize, then: &Then) -> RuleHit {
    let name = |at: usize| t.chains.get(at).map_or_else(String::new, |c| c.name.to_string());
    let rule = number.checked_sub(1).and_then(|n| t.chains.get(chain)?.rules.get(n));
    let act = rule.and_then(|r| r.exprs.last()).and_then(|e| acts(t, e));
    let says = match (then, act) {
        (Then::Next | Then::End(_), Some(act)) => act,
        (Then::Next | Then::Break, _) => "continue".to_owned(),
        (Then::End(Verdict::Accept), _) => "accept".to_owned(),
        (Then::End(Verdict::Drop(_)), _) => "drop".to_owned(),
        (Then::End(Verdict::Reject(_)), _) => "reject".to_owned(),
        (Then::Say(s), _) => match s.code {
            NF_ACCEPT => "accept".to_owned(),
            NFT_CONTINUE | NFT_BREAK => "continue".to_owned(),
            NFT_RETURN => "return".to_owned(),
            NFT_JUMP | NFT_GOTO => {
                let to = t.chain_at(s.chain).map(name).unwrap_or_default();
                format!("{} {to}", if s.code == NFT_JUMP { "jump" } else { "goto" })
            }
            _ => "drop".to_owned(),
        },
    };
    RuleHit { hook: a.name(), table: t.name.to_string(), chain: name(chain), number: number as u32, says }
}

/// What a rule does at its end, where that is more than a verdict: a target of iptables in its words, a translation.
fn acts(t: &Table, e: &Expr) -> Option<String> {
    let pf = if t.family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
    match e {
        Expr::Xt(x) => x.target_words(pf),
        Expr::Nat { kind, .. } => Some(
            match kind {
                NatKind::Snat => "snat",
                NatKind::Dnat => "dnat",
                NatKind::Masquerade => "masquerade",
                NatKind::Redirect => "redirect",
            }
            .to_owned(),
        ),
        _ => None,
    }
}
