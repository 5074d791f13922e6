//! What is asked of a whole before it is taken: no chain that leads into itself, none too deep, and no expression at a hook that
//! it is not made for.
use super::compat::Xt;
use super::expr::{Expr, NatKind};
use super::layer2::Family;
use super::{Base, ChainType, Data, Hook, Pf, Table, Transaction};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::nf_tables::*;

impl Transaction {
    #[doc(alias = "nft_table_validate")]
    pub fn check(&self) -> Done {
        self.work.tables.iter().try_for_each(check_table).map_err(Into::into)
    }
}

/// Where rules of a chain lead, those of its maps included.
pub fn leads(t: &Table, chain: usize) -> Vec<usize> {
    let Some(c) = t.chains.get(chain) else { return Vec::new() };
    let mut to = Vec::new();
    for e in c.rules.iter().flat_map(|r| &r.exprs) {
        to.extend(e.jump());
        let Expr::Lookup { set, verdict: true, .. } = e else { continue };
        let Some(s) = t.set_at(*set).and_then(|s| t.sets.get(s)) else { continue };
        to.extend(s.elements.values().filter_map(|e| match e.data {
            Some(Data::Verdict(v)) if v.chain != 0 => Some(v.chain),
            _ => None,
        }));
    }
    to.sort_unstable();
    to.dedup();
    to.into_iter().filter_map(|h| t.chain_at(h)).collect()
}

/// A rule leads to the chain.
pub fn is_led_to(t: &Table, chain: u64) -> bool {
    t.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs).any(|e| e.jump() == Some(chain))
}

/// Whether a rule of a chain, the last that came, leads back to it.
#[doc(alias = "nf_tables_check_loops")]
pub fn loops(t: &Table, chain: usize) -> bool {
    let mut seen = vec![false; t.chains.len()];
    let mut todo = leads(t, chain);
    while let Some(c) = todo.pop() {
        if c == chain {
            return true;
        }
        if seen.get(c) == Some(&false) {
            seen[c] = true;
            todo.extend(leads(t, c));
        }
    }
    false
}

/// How deep calls go below each chain, which is also how loops are found.
fn depths(t: &Table) -> Result<Vec<usize>, Errno> {
    const OPEN: usize = usize::MAX;
    let mut depth: Vec<Option<usize>> = vec![None; t.chains.len()];
    for first in 0..t.chains.len() {
        // The way is a list, not the machine's stack.
        let mut way: Vec<(usize, Vec<usize>)> = Vec::new();
        if depth[first].is_none() {
            depth[first] = Some(OPEN);
            way.push((first, leads(t, first)));
        }
        while let Some((chain, todo)) = way.last_mut() {
            match todo.last().copied() {
                None => {
                    let chain = *chain;
                    let below = leads(t, chain).into_iter().filter_map(|c| depth[c].map(|d| d + 1)).max();
                    depth[chain] = Some(below.unwrap_or(0));
                    way.pop();
                }
                Some(next) => match depth.get(next).copied().flatten() {
                    Some(OPEN) => return Err(Errno::EMLINK),
                    Some(_) => drop(todo.pop()),
                    None => {
                        depth[next] = Some(OPEN);
                        way.push((next, leads(t, next)));
                    }
                },
            }
        }
    }
    Ok(depth.into_iter().map(|d| d.unwrap_or(0)).collect())
}

fn check_table(t: &Table) -> Result<(), Errno> {
    if t.chains.iter().any(|c| c.is_bound() && !is_led_to(t, c.handle)) {
        return Err(Errno::EINVAL);
    }
    if depths(t)?.into_iter().any(|d| d >= NFT_JUMP_STACK_SIZE) {
        return Err(Errno::EMLINK);
    }
    for (n, c) in t.chains.iter().enumerate() {
        let Some(b) = &c.base else { continue };
        let mut seen = vec![false; t.chains.len()];
        let mut todo = vec![n];
        while let Some(chain) = todo.pop() {
            if std::mem::replace(&mut seen[chain], true) {
                continue;
            }
            let exprs = t.chains.get(chain).into_iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs);
            exprs.into_iter().try_for_each(|e| stands(t, b, e))?;
            todo.extend(leads(t, chain));
        }
    }
    Ok(())
}

/// Whether an expression may be where packets of a base chain come.
#[doc(alias = "nft_chain_validate")]
pub fn stands(t: &Table, b: &Base, e: &Expr) -> Result<(), Errno> {
    use Hook::*;
    let hooks: &[Hook] = match e {
        Expr::Nat { .. } if b.kind != ChainType::Nat => &[],
        Expr::Nat { kind: NatKind::Snat, .. } => &[PostRouting, LocalIn],
        Expr::Nat { kind: NatKind::Dnat | NatKind::Redirect, .. } => &[PreRouting, LocalOut],
        Expr::Nat { kind: NatKind::Masquerade, .. } => &[PostRouting],
        Expr::Reject { .. } => &[PreRouting, LocalIn, Forward, LocalOut],
        Expr::Fib(f) => return f.stands(b),
        Expr::Socket(s) => return s.stands(b),
        Expr::Tproxy(p) => return p.stands(b),
        Expr::Rt(_) if Family::of(t.family).is_some() => &[],
        Expr::MetaSet { key: NFT_META_PKTTYPE, .. } => return may_retype(t.family, b),
        Expr::Rt(r) => return r.stands(b),
        Expr::Xt(x) => return xt(t, b, x),
        _ => return Ok(()),
    };
    if b.at.is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    if hooks.contains(&b.hook) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// Whom a frame is for is settled where it comes in.
#[doc(alias = "nft_meta_set_validate")]
fn may_retype(family: u8, b: &Base) -> Result<(), Errno> {
    let here = family != NFPROTO_ARP && b.hook == Hook::PreRouting;
    if here { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// What frames have nothing of: connections, and the ways of the network layer.
pub fn of_family(family: u8, e: &Expr) -> Result<(), Errno> {
    let device = family == NFPROTO_NETDEV;
    if !device && Family::of(family).is_none() {
        return Ok(());
    }
    match e {
        Expr::Ct { .. } | Expr::CtMark { .. } | Expr::CtZone { .. } | Expr::Connlimit(_) => Err(Errno::EPROTO),
        Expr::Nat { .. } if !device => Err(Errno::EAFNOSUPPORT),
        Expr::Notrack if !device => Ok(()),
        Expr::Nat { .. } | Expr::Notrack | Expr::Reject { .. } => Err(Errno::EOPNOTSUPP),
        _ => Ok(()),
    }
}

fn xt(t: &Table, b: &Base, x: &Xt) -> Result<(), Errno> {
    let pf = if t.family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 };
    x.check(&t.name, pf, Some(b))
}
