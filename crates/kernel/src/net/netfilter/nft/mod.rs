//! nf_tables: tables of chains, sets and rules that programs compose themselves. A rule is a list of expressions that load,
//! compare and act on registers; chains stand at hooks by priority, among the tables of iptables.
//!
//! Messages change a copy of the whole (`Transaction`), which takes the place of the old one when all of a batch are good. What
//! is not here (flow tables, …) is refused with the error of a kernel without that module.
mod api;
pub mod compat;
mod ct;
mod dup;
mod dynamic;
mod ebt;
mod eval;
mod expr;
mod exthdr;
mod fib;
mod fill;
pub mod get;
mod hit;
pub mod layer2;
mod limit;
mod meta;
pub mod netdev;
mod numgen;
mod object;
mod parts;
mod rt;
mod set;
mod socket;
mod tell;
mod trace;
mod verify;
mod write;

use super::rules::{Counters, Match};
use super::{Hook, Pf};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::netlink::{Caller, notify};
use belljar_abi::nf_tables::*;
use belljar_abi::nfnetlink::*;
pub(super) use eval::{At, Link, run, translate};
use expr::Expr;
use set::Set;
use std::sync::Arc;

/// What bounds the memory that a program can make us hold.
const MAX_TABLES: usize = 4096;
const MAX_ELEMENTS: usize = 1 << 20;

/// Bytes of a register or of an element's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    bytes: [u8; NFT_DATA_VALUE_MAXLEN],
    len: u8,
}

impl Value {
    fn new(b: &[u8]) -> Option<Value> {
        let mut v = Value { bytes: [0; NFT_DATA_VALUE_MAXLEN], len: b.len() as u8 };
        v.bytes.get_mut(..b.len())?.copy_from_slice(b);
        (!b.is_empty()).then_some(v)
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.get())
    }
}

/// A verdict as rules say it; jumps name their chain by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Say {
    code: i32,
    chain: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Value(Value),
    Verdict(Say),
}

#[derive(Clone, Debug)]
struct Rule {
    handle: u64,
    exprs: Vec<Expr>,
    userdata: Arc<[u8]>,
    /// `NFTA_RULE_COMPAT`: protocol and flags.
    compat: Option<(u32, u32)>,
    /// In which batch it came, and by which number that calls it.
    txn: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChainType {
    Filter,
    Nat,
    Route,
}

impl ChainType {
    fn name(self) -> &'static str {
        match self {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        }
    }

    fn parse(s: &str) -> Option<ChainType> {
        [ChainType::Filter, ChainType::Nat, ChainType::Route].into_iter().find(|t| t.name() == s)
    }
}

/// Devices that a chain stands at, and on which of their ways.
#[derive(Clone, Debug)]
struct AtDevices {
    way: netdev::Way,
    devices: Vec<Arc<str>>,
}

/// What makes a chain stand at a hook.
#[derive(Clone, Debug)]
struct Base {
    /// Not in the network layer.
    at: Option<AtDevices>,
    kind: ChainType,
    hook: Hook,
    priority: i32,
    accept: bool,
    counters: Option<Counters>,
    /// Of those with one priority, the younger goes first.
    order: u64,
}

#[derive(Clone, Debug)]
struct Chain {
    name: Arc<str>,
    handle: u64,
    base: Option<Base>,
    flags: u32,
    rules: Vec<Rule>,
    userdata: Arc<[u8]>,
    txn: (u32, u32),
}

impl Chain {
    /// It has no name and belongs to the rule that leads to it (`NFT_CHAIN_BINDING`).
    fn is_bound(&self) -> bool {
        self.flags & NFT_CHAIN_BINDING != 0
    }
}

#[derive(Clone, Debug)]
struct Table {
    family: u8,
    name: Arc<str>,
    handle: u64,
    flags: u32,
    userdata: Arc<[u8]>,
    /// In order of handle, as sets are.
    chains: Vec<Chain>,
    sets: Vec<Set>,
    objects: Vec<object::Object>,
    /// Of chains, rules and sets together.
    last_handle: u64,
}

impl Table {
    fn handle(&mut self) -> u64 {
        self.last_handle += 1;
        self.last_handle
    }

    fn chain_at(&self, handle: u64) -> Option<usize> {
        self.chains.binary_search_by_key(&handle, |c| c.handle).ok()
    }

    fn set_at(&self, handle: u64) -> Option<usize> {
        self.sets.binary_search_by_key(&handle, |s| s.handle).ok()
    }

    /// Base chains that packets come by.
    fn stands(&self, table: usize) -> impl Iterator<Item = (&Base, Stand)> {
        let awake = self.flags & NFT_TABLE_F_DORMANT == 0;
        let based = self.chains.iter().enumerate().filter_map(|(n, c)| Some((n, c.base.as_ref()?)));
        based
            .filter(move |_| awake)
            .map(move |(chain, b)| (b, Stand { priority: b.priority, order: b.order, table, chain }))
    }

    fn covers(&self, pf: Pf) -> bool {
        match self.family {
            NFPROTO_INET => true,
            NFPROTO_IPV4 => pf == Pf::V4,
            NFPROTO_NETDEV | NFPROTO_BRIDGE | NFPROTO_ARP => false,
            _ => pf == Pf::V6,
        }
    }
}

/// A base chain by where it is.
#[derive(Clone, Copy, Debug)]
struct Stand {
    priority: i32,
    order: u64,
    table: usize,
    chain: usize,
}

/// Tables of one namespace.
#[derive(Clone, Debug)]
pub struct Nft {
    tables: Vec<Table>,
    genid: u32,
    last_handle: u64,
    last_order: u64,
    /// Chains of each family and hook by priority: filters, and those that are asked about new connections.
    filter: [[Vec<Stand>; 5]; 2],
    nat: [[Vec<Stand>; 5]; 2],
    /// Chains at devices, of frames that come and of those that go.
    netdev: [Vec<Stand>; 2],
    /// Chains of the families bridge and arp by hook.
    layer2: [[Vec<Stand>; 5]; 2],
    /// A family's packets are translated.
    pub(super) translates: [bool; 2],
    /// A family's rules need connections.
    pub(super) ct: [bool; 2],
    /// A rule says TPROXY.
    pub(super) tproxy: bool,
    /// A family's rules ask for the socket that packets are for.
    pub(super) sockets: [bool; 2],
    /// A rule asks how much connections carried.
    acct: bool,
}

impl Default for Nft {
    fn default() -> Nft {
        Nft {
            tables: Vec::new(),
            genid: 1,
            last_handle: 0,
            last_order: 0,
            filter: Default::default(),
            nat: Default::default(),
            netdev: Default::default(),
            layer2: Default::default(),
            translates: [false; 2],
            ct: [false; 2],
            tproxy: false,
            sockets: [false; 2],
            acct: false,
        }
    }
}

impl Nft {
    fn find(&self, family: u8, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.family == family && *t.name == *name)
    }

    /// Nobody has changed anything yet, and nothing stands at a hook.
    pub(super) fn is_idle(&self, pf: Pf, hook: Hook) -> bool {
        self.filter[pf as usize][hook as usize].is_empty()
    }

    /// Sets of `ipset` that rules name, each as often as it is named.
    pub(super) fn ipsets(&self) -> impl Iterator<Item = u16> {
        let rules = self.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
        rules.flat_map(|r| &r.exprs).filter_map(|e| if let Expr::Xt(x) = e { Some(x.ipsets()) } else { None }).flatten()
    }

    /// Matches of iptables that rules have.
    pub(super) fn xt_matches(&self) -> impl Iterator<Item = (Pf, &Match)> {
        let rules = self.tables.iter().flat_map(|t| t.chains.iter().flat_map(|c| &c.rules).map(|r| (t.family, r)));
        let all = rules.flat_map(|(family, r)| r.exprs.iter().map(move |e| (family, e)));
        all.filter_map(|(family, e)| match e {
            Expr::Xt(x) => Some((if family == NFPROTO_IPV6 { Pf::V6 } else { Pf::V4 }, x.as_match()?)),
            _ => None,
        })
    }

    /// Where chains stand, after a change.
    fn index(&mut self) {
        (self.filter, self.nat, self.netdev, self.layer2) = Default::default();
        (self.translates, self.ct, self.sockets) = ([false; 2], [false; 2], [false; 2]);
        (self.tproxy, self.acct) = (false, false);
        for (table, t) in self.tables.iter().enumerate() {
            for pf in [Pf::V4, Pf::V6].into_iter().filter(|pf| t.covers(*pf)) {
                let exprs = || t.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs);
                self.ct[pf as usize] |= exprs().any(Expr::needs_conntrack);
                self.tproxy |= exprs().any(Expr::is_tproxy);
                self.sockets[pf as usize] |= exprs().any(|e| matches!(e, Expr::Socket(_)));
                self.acct |= exprs().any(Expr::needs_acct);
                for (b, stand) in t.stands(table).filter(|(b, _)| b.at.is_none()) {
                    let all = if b.kind == ChainType::Nat { &mut self.nat } else { &mut self.filter };
                    all[pf as usize][b.hook as usize].push(stand);
                    self.translates[pf as usize] |= b.kind == ChainType::Nat;
                }
            }
            for (b, stand) in t.stands(table) {
                match (&b.at, layer2::Family::of(t.family)) {
                    (Some(a), _) => self.netdev[a.way as usize].push(stand),
                    (None, Some(f)) => self.layer2[f as usize][b.hook as usize].push(stand),
                    (None, None) => {}
                }
            }
        }
        let hooks = self.filter.iter_mut().chain(&mut self.nat).chain(&mut self.layer2);
        for list in hooks.flatten().chain(&mut self.netdev) {
            // A hook comes before those of its priority that are there (`nf_hook_entries_grow`).
            list.sort_by_key(|s| (s.priority, std::cmp::Reverse(s.order)));
        }
    }
}

/// A batch that is being carried out on a copy.
#[derive(Debug)]
pub(super) struct Transaction {
    ns: NsId,
    work: Nft,
    /// What listeners hear when it is done.
    told: Vec<Vec<u8>>,
}

impl Transaction {
    pub fn begin(net: &Net, ns: NsId) -> Transaction {
        let work = net.ns.get(ns).and_then(|n| n.nf.as_ref()).map_or_else(Nft::default, |nf| nf.nft.clone());
        Transaction { ns, work, told: Vec::new() }
    }

    pub fn genid(&self) -> u32 {
        self.work.genid
    }

    /// Which batch this is, for the numbers that its messages call each other by.
    fn batch(&self) -> u32 {
        self.work.genid.wrapping_add(1)
    }

    #[doc(alias = "nf_tables_commit")]
    pub fn commit(mut self, net: &mut Net, c: &Caller<'_>) {
        self.work.genid = self.work.genid.wrapping_add(1).max(1);
        self.work.index();
        let genid = self.work.genid;
        net.nf_active = true;
        for pf in [Pf::V4, Pf::V6] {
            let all = self.work.xt_matches().filter(|(of, _)| *of == pf).map(|(_, m)| m);
            net.xt_prepare(self.ns, pf, all);
        }
        let ns = self.ns;
        if let Some(n) = net.ns.get_mut(self.ns) {
            let nf = n.nf.get_or_insert_with(Box::default);
            nf.nft = self.work;
            nf.changed();
            n.nf_tproxy = nf.says_tproxy();
            if nf.nft.acct {
                n.sysctl.nf_conntrack_acct = 1;
            }
        }
        net.xt_sweep(ns);
        for dev in net.ns.get(self.ns).map_or_else(Vec::new, |n| n.devs.clone()) {
            netdev::watch(net, self.ns, dev);
        }
        for bytes in self.told {
            notify::nfnetlink(net, self.ns, NFNLGRP_NFTABLES, |_, out| out.extend(bytes));
        }
        notify::nfnetlink(net, self.ns, NFNLGRP_NFTABLES, |_, out| {
            fill::generation(out, genid, (0, 0, c.port), c.process);
        });
    }
}
