//! Netfilter: five hooks on a packet's way, and what stands at them in the order of its priority: reassembly, the tables of
//! iptables, connection tracking, address translation.
//!
//! A namespace that never named a table has none of this, and its packets pay one branch at each hook. While a hook runs, the
//! tables are out of their namespace: nothing below can reach them, and what a rule wants sent is sent afterwards.
pub mod blob;
pub mod conntrack;
pub mod edit;
pub(crate) mod ipset;
mod log;
mod mangle;
mod matches;
pub mod nat;
pub mod nflog;
pub mod nfnetlink;
pub mod nft;
pub mod packet;
mod reject;
mod reject_with;
pub mod rules;
pub(crate) mod socket;
pub mod table;
pub mod words;
pub mod xt;

use crate::ids::*;
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::skb::Skb;
use crate::net::drop::DropReason;
use crate::net::ipv4;
use crate::net::ipv6;
use belljar_abi::Errno;
use belljar_wire::ipv4::Ipv4Header;
use packet::Pkt;
pub use reject::attach;
use rules::{RejectWith, Table, TableName};
use std::collections::VecDeque;

/// Protocol family of tables, rules and packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pf {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    PreRouting,
    LocalIn,
    Forward,
    LocalOut,
    PostRouting,
}

impl Hook {
    pub const ALL: [Hook; 5] = [Hook::PreRouting, Hook::LocalIn, Hook::Forward, Hook::LocalOut, Hook::PostRouting];

    /// The name of the built-in chain.
    pub fn chain(self) -> &'static str {
        match self {
            Hook::PreRouting => "PREROUTING",
            Hook::LocalIn => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::LocalOut => "OUTPUT",
            Hook::PostRouting => "POSTROUTING",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// The sender, if it is here, sees the errno.
    Drop(Errno),
    /// Dropped, and its sender is told.
    Reject(RejectWith),
}

/// What stands at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Table(TableName),
    Conntrack,
    Translate,
    Confirm,
}

impl Step {
    /// Chains of nf_tables with a lower one come before it, those with its own behind.
    fn priority(self, hook: Hook) -> i32 {
        match self {
            Step::Table(TableName::Raw) => -300,
            Step::Conntrack => -200,
            Step::Table(TableName::Mangle) => -150,
            Step::Translate if matches!(hook, Hook::PreRouting | Hook::LocalOut) => -100,
            Step::Table(TableName::Filter) => 0,
            Step::Table(TableName::Security) => 50,
            Step::Translate | Step::Table(TableName::Nat) => 100,
            Step::Confirm => i32::MAX,
        }
    }
}

/// In order of priority: raw -300, conntrack -200, mangle -150, nat of the destination -100, filter 0, security 50, nat of
/// the source 100, and last of all the confirmation. Reassembly (-400) comes before everything.
fn steps(hook: Hook) -> &'static [Step] {
    use Step::*;
    use TableName::*;
    match hook {
        Hook::PreRouting => &[Table(Raw), Conntrack, Table(Mangle), Translate],
        Hook::LocalIn => &[Table(Mangle), Table(Filter), Table(Security), Translate, Confirm],
        Hook::Forward => &[Table(Mangle), Table(Filter), Table(Security)],
        Hook::LocalOut => &[Table(Raw), Conntrack, Table(Mangle), Translate, Table(Filter), Table(Security)],
        Hook::PostRouting => &[Table(Mangle), Translate, Confirm],
    }
}

/// Tables of one namespace, by family and name.
#[derive(Clone, Debug, Default)]
pub struct Netfilter {
    pub tables: [[Option<Box<Table>>; 5]; 2],
    /// Tables of each family, the youngest first: in that order the kernel names them.
    pub order: [Vec<TableName>; 2],
    /// A rule of the family needs connections tracked.
    pub ct: [bool; 2],
    /// A rule of the family asks for the socket that a packet is for.
    pub sockets: [bool; 2],
    pub nft: nft::Nft,
}

impl Netfilter {
    pub fn table(&self, pf: Pf, name: TableName) -> Option<&Table> {
        self.tables[pf as usize][name as usize].as_deref()
    }

    /// After a change of rules.
    pub(super) fn changed(&mut self) {
        for pf in [Pf::V4, Pf::V6] {
            self.ct[pf as usize] = conntrack::wanted(self, pf) || self.nft.ct[pf as usize];
        }
        let mut sockets = self.nft.sockets;
        self.each_match(|pf, m| sockets[pf as usize] |= m.as_xt().is_some_and(|x| matches!(x, xt::Xt::Socket(_))));
        self.sockets = sockets;
    }

    /// Every match of every rule, those in tables of nf_tables included.
    pub(super) fn each_match<'a>(&'a self, mut f: impl FnMut(Pf, &'a rules::Match)) {
        for pf in [Pf::V4, Pf::V6] {
            let tables = self.tables[pf as usize].iter().flatten();
            tables.flat_map(|t| &t.chains).flat_map(|c| &c.rules).flat_map(|r| &r.matches).for_each(|m| f(pf, m));
        }
        self.nft.xt_matches().for_each(|(pf, m)| f(pf, m));
    }

    /// A rule says TPROXY.
    pub(super) fn says_tproxy(&self) -> bool {
        let mut rules = self.tables.iter().flatten().flatten().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
        self.nft.tproxy || rules.any(|r| matches!(r.target, rules::Target::Tproxy { .. }))
    }
}

/// A packet that a hook kept, not dropped.
pub const STOLEN: Errno = Errno(0);

/// Devices that a packet came by and leaves by.
pub type Devs = (Option<DevId>, Option<DevId>);

/// The packet as it goes on. `Err`: it ended here, and its sender sees the errno ([`STOLEN`]: nothing).
#[doc(alias = "NF_HOOK")]
#[inline]
pub fn nf_hook(net: &mut Net, ns: NsId, pf: Pf, hook: Hook, skb: Skb, devs: Devs) -> Result<Skb, Errno> {
    if !net.nf_active { Ok(skb) } else { nf_hook_slow(net, ns, pf, hook, skb, devs) }
}

#[cold]
fn nf_hook_slow(net: &mut Net, ns: NsId, pf: Pf, hook: Hook, mut skb: Skb, devs: Devs) -> Result<Skb, Errno> {
    if hook == Hook::PreRouting
        && let Some(b) = skb.nf_bridge.as_mut().filter(|b| !b.pre_routing && !b.passed)
    {
        // It met these on the bridge (`ip_sabotage_in`).
        b.passed = true;
        return Ok(skb);
    }
    let Some(mut nf) = net.ns.get_mut(ns).and_then(|n| n.nf.take()) else { return Ok(skb) };
    let gathers = matches!(hook, Hook::PreRouting | Hook::LocalOut) && nf.ct[pf as usize];
    if gathers {
        match defrag(net, ns, pf, skb) {
            Some(whole) => skb = whole,
            None => {
                put_back(net, ns, nf);
                return Err(STOLEN);
            }
        }
    }
    let verdict = run(net, &mut nf, ns, pf, hook, &mut skb, devs);
    put_back(net, ns, nf);
    if !net.nf_copies.is_empty() {
        net.nf_send_copies();
    }
    let errno = match verdict {
        Verdict::Accept => return Ok(skb),
        Verdict::Drop(e) => e,
        Verdict::Reject(with) => {
            reject::send(net, ns, pf, hook, &skb, with);
            Errno::EPERM
        }
    };
    net.kfree_skb(skb, DropReason::NetfilterDrop, "nf_hook_slow");
    Err(errno)
}

fn put_back(net: &mut Net, ns: NsId, nf: Box<Netfilter>) {
    if let Some(n) = net.ns.get_mut(ns) {
        n.nf = Some(nf);
    }
}

/// Connections have ports, which later fragments do not show: the datagram first.
#[doc(alias = "ipv4_conntrack_defrag")]
#[doc(alias = "ipv6_defrag")]
fn defrag(net: &mut Net, ns: NsId, pf: Pf, skb: Skb) -> Option<Skb> {
    if pf == Pf::V6 {
        return ipv6::reassembly::nf_ct_frag6_gather(net, ns, skb);
    }
    match Ipv4Header::parse(skb.head.bytes()) {
        Ok(ip) if ip.is_fragment() => ipv4::reassembly::ip_defrag(net, ns, skb, &ip),
        _ => Some(skb),
    }
}

fn run(net: &mut Net, nf: &mut Netfilter, ns: NsId, pf: Pf, hook: Hook, skb: &mut Skb, devs: Devs) -> Verdict {
    let Some(mut p) = read(net, pf, skb, devs) else { return Verdict::Accept };
    let (mut next, idle) = (0, nf.nft.is_idle(pf, hook));
    for step in steps(hook) {
        if !idle {
            let before = Some(step.priority(hook));
            match chains(net, nf, ns, (before, &mut next), hook, &p, skb, devs) {
                Verdict::Accept => {}
                verdict => return verdict,
            }
        }
        let verdict = match *step {
            Step::Table(name) => {
                let (mark, tos) = (skb.mark, p.tos);
                let Some(table) = nf.tables[pf as usize][name as usize].as_deref_mut() else { continue };
                let verdict = table::do_table(net, table, ns, hook, &p, skb, devs);
                if name == TableName::Mangle && is_stale(&p, skb) {
                    p = read(net, pf, skb, devs).unwrap_or(p);
                }
                let moved = mark != skb.mark || tos != p.tos;
                if verdict == Verdict::Accept && hook == Hook::LocalOut && name == TableName::Mangle && moved {
                    // The mark may lead elsewhere.
                    reroute(net, ns, &p, skb)
                } else {
                    verdict
                }
            }
            Step::Conntrack if nf.ct[pf as usize] => {
                net.stage(skb, "nf_conntrack_in");
                conntrack::nf_conntrack_in(net, ns, hook, &p, skb)
            }
            Step::Translate => {
                let legacy = nf.tables[pf as usize][TableName::Nat as usize].as_deref_mut();
                if legacy.is_none() && !nf.nft.translates[pf as usize] {
                    continue;
                }
                let mut rules = nat::Rules { legacy, nft: &mut nf.nft };
                let was = (p.src, p.dst);
                net.stage(skb, "nf_nat_fn");
                let verdict = nat::nf_nat_fn(net, &mut rules, ns, hook, &p, skb, devs);
                match read(net, pf, skb, devs) {
                    Some(now) if verdict == Verdict::Accept => p = now,
                    _ => return verdict,
                }
                match hook {
                    Hook::PreRouting if was.1 != p.dst => skb.dst = None,
                    Hook::LocalOut if was.1 != p.dst => match reroute(net, ns, &p, skb) {
                        Verdict::Accept => {}
                        lost => return lost,
                    },
                    _ => {}
                }
                verdict
            }
            Step::Confirm => conntrack::nf_conntrack_confirm(net, ns, skb),
            Step::Conntrack => continue,
        };
        if verdict != Verdict::Accept {
            return verdict;
        }
    }
    if idle { Verdict::Accept } else { chains(net, nf, ns, (None, &mut next), hook, &p, skb, devs) }
}

/// Chains of nf_tables up to a priority, from the `next` one on.
#[allow(clippy::too_many_arguments)]
fn chains(
    net: &mut Net,
    nf: &mut Netfilter,
    ns: NsId,
    (before, next): (Option<i32>, &mut usize),
    hook: Hook,
    p: &Pkt,
    skb: &mut Skb,
    devs: Devs,
) -> Verdict {
    let at = nft::At { ns, hook, devs, link: None };
    match nft::run(net, &mut nf.nft, before, next, at, p, skb) {
        (Verdict::Accept, true) => reroute(net, ns, p, skb),
        (verdict, _) => verdict,
    }
}

/// A rule wrote another type of service or hop limit.
#[inline]
fn is_stale(p: &Pkt, skb: &Skb) -> bool {
    let Some(b) = skb.head.bytes().first_chunk::<20>() else { return false };
    match p.pf {
        Pf::V4 => b[1] != p.tos || b[8] != p.ttl,
        Pf::V6 => b[0] << 4 | b[1] >> 4 != p.tos || b[7] != p.ttl,
    }
}

fn read(net: &Net, pf: Pf, skb: &mut Skb, devs: Devs) -> Option<Pkt> {
    let mut p = Pkt::read(pf, skb)?;
    p.name_devs(net, devs);
    Some(p)
}

/// A packet of ours that now goes elsewhere looks for its way again.
#[doc(alias = "ip_route_me_harder")]
fn reroute(net: &mut Net, ns: NsId, p: &Pkt, skb: &mut Skb) -> Verdict {
    let (src, dst) = (packet::addr(p.pf, p.src), packet::addr(p.pf, p.dst));
    let ours = is_local(net, ns, src);
    let ports = p.ports(skb).unwrap_or_default();
    let fl = Flow {
        tos: p.tos,
        mark: skb.mark,
        ports,
        proto: p.proto,
        saddr: if ours { src } else { Flow::to(dst).saddr },
        ..Flow::to(dst)
    };
    match af::route_output(net, ns, &fl) {
        Ok(way) => {
            skb.dst = Some(way);
            Verdict::Accept
        }
        Err(e) => Verdict::Drop(e),
    }
}

fn is_local(net: &Net, ns: NsId, a: core::net::IpAddr) -> bool {
    match a {
        core::net::IpAddr::V4(a) => ipv4::route::is_local(net, ns, a),
        core::net::IpAddr::V6(a) => ipv6::route::is_local(net, ns, a),
    }
}

/// Lines that the kernel would have written to its log.
#[derive(Clone, Debug, Default)]
pub struct Kmsg {
    lines: VecDeque<(u64, String)>,
    /// Lines of the present five seconds, and when those began.
    burst: (u32, u64),
}

/// Lines that are kept.
const KMSG_LINES: usize = 1024;
impl Kmsg {
    /// Time in nanoseconds and text, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &(u64, String)> {
        self.lines.iter()
    }

    /// As `dmesg` prints them: seconds since boot, to the microsecond.
    pub fn text(&self) -> String {
        let line = |(at, text): &(u64, String)| {
            format!("[{:5}.{:06}] {text}\n", at / 1_000_000_000, at % 1_000_000_000 / 1000)
        };
        self.lines.iter().map(line).collect()
    }
}

impl Net {
    pub fn kmsg(&mut self, line: String) {
        if self.kmsg.lines.len() >= KMSG_LINES {
            self.kmsg.lines.pop_front();
        }
        self.kmsg.lines.push_back((self.env.now, line));
    }

    /// As much as `net.core.message_burst` lines in `message_cost` seconds.
    #[doc(alias = "net_ratelimit")]
    pub(crate) fn kmsg_allowed(&mut self) -> bool {
        let (lines, secs) = (self.sysctl.message_burst.max(0) as u32, u64::from(self.sysctl.message_cost));
        let (count, since) = &mut self.kmsg.burst;
        if self.env.now.saturating_sub(*since) > secs * crate::env::SEC {
            (*count, *since) = (0, self.env.now);
        }
        *count = count.saturating_add(1);
        secs == 0 || *count <= lines
    }

    pub(crate) fn kmsg_ratelimited(&mut self, line: &str) {
        if self.kmsg_allowed() {
            self.kmsg(line.to_owned());
        }
    }
}
