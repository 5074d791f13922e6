//! MLD, a host's side: version 2 (RFC 3810), and version 1 (RFC 2710) while such a querier is heard. The interface's one
//! timer of `addrconf.rs` serves it.
use super::mcast::{Filter6, Group6, Mode};
use super::output;
use crate::env::{MSEC, Nanos, SEC};
use crate::ids::*;
use crate::net::Net;
use crate::net::mib::Mib;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::*;
use core::net::Ipv6Addr;
use std::collections::{BTreeMap, BTreeSet};

const MODE_IS_INCLUDE: u8 = 1;
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALLOW_NEW_SOURCES: u8 = 5;
const BLOCK_OLD_SOURCES: u8 = 6;
/// RFC 3810 §9: until a querier says otherwise.
const QUERY_INTERVAL: Nanos = 125 * SEC;
/// A query of version 1, and the least of version 2.
const V1_LEN: usize = 24;
const V2_LEN: usize = 28;
/// Sources asked about that are remembered of one group; a query of 1500 bytes holds 89.
const MOST_ASKED: usize = 89;

/// What of a group is still to be said.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupState {
    /// How often the change of mode, and the sources allowed and blocked, are still to be told.
    mode_left: u32,
    allow: BTreeMap<Ipv6Addr, u32>,
    block: BTreeMap<Ipv6Addr, u32>,
    /// When a query about it is to be answered, and about which sources; none: all.
    due: Option<Nanos>,
    asked: BTreeSet<Ipv6Addr>,
    /// Version 1: nobody reported it after us, and reports without being asked that are still to come.
    reporter: bool,
    unsolicited: u32,
}

impl GroupState {
    fn pending(&self) -> bool {
        self.mode_left > 0 || !self.allow.is_empty() || !self.block.is_empty()
    }
}

/// The protocol's state on an interface.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mld {
    /// Changes are told next.
    pub changes: Option<Nanos>,
    /// A general query is answered.
    general: Option<Nanos>,
    /// Until when a querier of version 1 counts as present.
    v1_until: Nanos,
    /// Robustness and query interval, as queries said; 0: the defaults.
    qrv: u8,
    interval: Nanos,
}

impl Mld {
    /// What is due first, the groups' own timers left out.
    pub fn due(&self) -> impl Iterator<Item = Nanos> {
        self.changes.into_iter().chain(self.general)
    }
}

/// When a query about one of the groups is to be answered.
pub(super) fn groups_due(groups: &[Group6]) -> Option<Nanos> {
    groups.iter().filter_map(|g| g.mld.due).min()
}

/// Not told to anybody: all nodes, and what stays in the host (RFC 3810 §6).
pub(super) fn silent(group: Ipv6Addr) -> bool {
    group == ALL_NODES || group.segments()[0] & 15 <= 1
}

/// The version that is spoken: the querier's, or what force_mld_version says.
fn version(net: &Net, dev: DevId) -> u8 {
    let Some(d) = net.devs.get(dev) else { return 2 };
    match d.inet6.conf.force_mld_version {
        0 if d.inet6.mld.v1_until > net.env.now => 1,
        0 => 2,
        forced => forced as u8,
    }
}

fn robustness(net: &Net, dev: DevId) -> u32 {
    let Some(d) = net.devs.get(dev) else { return 2 };
    let own = net.ns.get(d.ns).map_or(2, |n| n.sysctl.mld_qrv);
    if d.inet6.mld.qrv != 0 { d.inet6.mld.qrv.into() } else { own }
}

/// A random part of an interval.
fn within(net: &mut Net, ms: u32) -> Nanos {
    u64::from(net.env.rng.below(ms.max(1))) * MSEC
}

/// Members of a group changed what the interface wants.
#[doc(alias = "igmp6_group_added")]
#[doc(alias = "igmp6_group_dropped")]
pub(super) fn state_change(net: &mut Net, dev: DevId, group: Ipv6Addr, was: &Filter6, is: &Filter6, joined: bool) {
    let (now, v1, qrv) = (net.env.now, version(net, dev) == 1, robustness(net, dev));
    let wait = net.devs.get(dev).map_or(0, |d| d.inet6.conf.mldv1_unsolicited_report_interval.get());
    let again = within(net, wait);
    let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
    let Some(g) = i.groups.iter_mut().find(|g| g.addr == group) else { return };
    if v1 {
        let (left, reporter) = (g.left, std::mem::take(&mut g.mld.reporter));
        if joined {
            g.mld = GroupState { reporter: true, unsolicited: 1, due: Some(now + again), ..GroupState::default() };
        }
        i.groups.retain(|g| !g.left);
        if joined {
            send_v1(net, dev, ICMPV6_MGM_REPORT, group);
        } else if left && reporter {
            send_v1(net, dev, ICMPV6_MGM_REDUCTION, group);
        }
        return net.arm_addrconf(dev);
    }
    let s = &mut g.mld;
    if was.mode != is.mode || s.mode_left > 0 {
        // That record tells the sources too.
        (s.mode_left, s.allow, s.block) = (qrv, BTreeMap::new(), BTreeMap::new());
    } else {
        let (new, gone) = (is.sources.difference(&was.sources), was.sources.difference(&is.sources));
        let (allow, block): (Vec<_>, Vec<_>) = match is.mode {
            Mode::Include => (new.copied().collect(), gone.copied().collect()),
            Mode::Exclude => (gone.copied().collect(), new.copied().collect()),
        };
        for a in allow {
            s.block.remove(&a);
            s.allow.insert(a, qrv);
        }
        for a in block {
            s.allow.remove(&a);
            s.block.insert(a, qrv);
        }
    }
    if s.pending() {
        i.mld.changes = Some(now);
    } else {
        i.groups.retain(|g| !g.left);
    }
    net.arm_addrconf(dev);
}

/// The link-local address is there: what was said without a source nobody has believed.
pub(super) fn say_again(net: &mut Net, dev: DevId) {
    let (now, qrv) = (net.env.now, robustness(net, dev));
    if version(net, dev) == 1 {
        return;
    }
    let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6).filter(|i| !i.groups.is_empty()) else { return };
    for g in i.groups.iter_mut().filter(|g| !silent(g.addr) && !g.left) {
        let f = g.filter();
        match f.mode {
            Mode::Exclude => g.mld.mode_left = qrv,
            Mode::Include => g.mld.allow = f.sources.iter().map(|s| (*s, qrv)).collect(),
        }
        i.mld.changes = Some(now);
    }
}

/// Reports that are due: changes, and answers to queries.
#[doc(alias = "mld_ifc_work")]
#[doc(alias = "mld_gq_work")]
pub(super) fn run(net: &mut Net, dev: DevId) {
    let now = net.env.now;
    let Some(d) = net.devs.get(dev) else { return };
    let (mld, interval) = (d.inet6.mld, d.inet6.conf.mldv2_unsolicited_report_interval);
    if mld.changes.is_some_and(|at| at <= now) {
        let again = now + within(net, interval.get());
        let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
        let records: Vec<Record> = i.groups.iter_mut().rev().flat_map(changes).collect();
        i.groups.retain(|g| !g.left || g.mld.pending());
        i.mld.changes = i.groups.iter().any(|g| g.mld.pending()).then_some(again);
        report(net, dev, records);
    }
    if mld.general.is_some_and(|at| at <= now) {
        let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
        i.mld.general = None;
        let all =
            i.groups.iter().rev().filter(|g| !silent(g.addr) && !g.left).filter_map(|g| current(g, None)).collect();
        report(net, dev, all);
    }
    answer_groups(net, dev);
}

/// Group, kind, sources.
type Record = (Ipv6Addr, u8, Vec<Ipv6Addr>);

/// What of a group has still to be told, once less.
#[doc(alias = "add_grec")]
fn changes(g: &mut Group6) -> Vec<Record> {
    let filter = if g.left { Filter6::default() } else { g.filter() };
    let s = &mut g.mld;
    let mut out = Vec::new();
    if s.mode_left > 0 {
        s.mode_left -= 1;
        let kind = if filter.mode == Mode::Include { CHANGE_TO_INCLUDE } else { CHANGE_TO_EXCLUDE };
        out.push((g.addr, kind, filter.sources.into_iter().collect()));
        return out;
    }
    for (kind, list) in [(ALLOW_NEW_SOURCES, &mut s.allow), (BLOCK_OLD_SOURCES, &mut s.block)] {
        if !list.is_empty() {
            out.push((g.addr, kind, list.keys().copied().collect()));
            list.retain(|_, left| {
                *left -= 1;
                *left > 0
            });
        }
    }
    out
}

/// The state of a group, or of the sources asked about (RFC 3810 §6.3); `None`: there is nothing to say.
fn current(g: &Group6, asked: Option<&BTreeSet<Ipv6Addr>>) -> Option<Record> {
    let f = g.filter();
    let (kind, sources): (u8, Vec<Ipv6Addr>) = match (asked, f.mode) {
        (None, Mode::Include) => (MODE_IS_INCLUDE, f.sources.into_iter().collect()),
        (None, Mode::Exclude) => return Some((g.addr, MODE_IS_EXCLUDE, f.sources.into_iter().collect())),
        (Some(a), Mode::Include) => (MODE_IS_INCLUDE, a.intersection(&f.sources).copied().collect()),
        (Some(a), Mode::Exclude) => (MODE_IS_INCLUDE, a.difference(&f.sources).copied().collect()),
    };
    (!sources.is_empty()).then_some((g.addr, kind, sources))
}

/// Queries about one group, and what version 1 says without being asked.
#[doc(alias = "mld_mca_work")]
fn answer_groups(net: &mut Net, dev: DevId) {
    let (now, v1) = (net.env.now, version(net, dev) == 1);
    let wait = net.devs.get(dev).map_or(0, |d| d.inet6.conf.mldv1_unsolicited_report_interval.get());
    let again = now + within(net, wait);
    let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
    let (mut records, mut old) = (Vec::new(), Vec::new());
    for g in i.groups.iter_mut().filter(|g| !g.left && g.mld.due.is_some_and(|at| at <= now)) {
        let asked = std::mem::take(&mut g.mld.asked);
        g.mld.unsolicited = g.mld.unsolicited.saturating_sub(1);
        g.mld.due = (v1 && g.mld.unsolicited > 0).then_some(again);
        if v1 {
            g.mld.reporter = true;
            old.push(g.addr);
        } else {
            records.extend(current(g, Some(&asked).filter(|a| !a.is_empty())));
        }
    }
    old.into_iter().for_each(|group| send_v1(net, dev, ICMPV6_MGM_REPORT, group));
    report(net, dev, records);
}

/// Reports with a record for each group, as many as the MTU makes necessary.
#[doc(alias = "mld_sendpack")]
fn report(net: &mut Net, dev: DevId, records: Vec<Record>) {
    let Some(d) = net.devs.get(dev).filter(|d| d.up) else { return };
    // The IPv6 header, that of the router alert, the message's own; a record without sources has 20 bytes.
    let room = (d.inet6.mtu(d.mtu) as usize).saturating_sub(IPV6_HLEN + 8 + 8);
    let most = (room.saturating_sub(20) / 16).max(1);
    let (mut body, mut count) = (Vec::new(), 0u16);
    for (group, kind, sources) in records {
        // Sources kept away are told as far as they fit, others in several records (RFC 3810 §5.2.15).
        let whole = matches!(kind, MODE_IS_EXCLUDE | CHANGE_TO_EXCLUDE) || sources.len() <= most;
        let parts: Vec<&[Ipv6Addr]> =
            if whole { vec![&sources[..sources.len().min(most)]] } else { sources.chunks(most).collect() };
        for part in parts {
            if count > 0 && body.len() + 20 + 16 * part.len() > room {
                send_v2(net, dev, &mut body, &mut count);
            }
            body.extend([kind, 0]);
            body.extend((part.len() as u16).to_be_bytes());
            body.extend(group.octets());
            part.iter().for_each(|s| body.extend(s.octets()));
            count += 1;
        }
    }
    if count > 0 {
        send_v2(net, dev, &mut body, &mut count);
    }
}

fn send_v2(net: &mut Net, dev: DevId, body: &mut Vec<u8>, count: &mut u16) {
    let mut m = vec![ICMPV6_MLD2_REPORT, 0, 0, 0, 0, 0];
    m.extend(std::mem::take(count).to_be_bytes());
    m.append(body);
    send(net, dev, MLD2_ROUTERS, m);
}

/// A report goes to its group, the end of a membership to the routers (RFC 2710 §3).
#[doc(alias = "igmp6_send")]
fn send_v1(net: &mut Net, dev: DevId, kind: u8, group: Ipv6Addr) {
    let mut m = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    m.extend(group.octets());
    send(net, dev, if kind == ICMPV6_MGM_REDUCTION { ALL_ROUTERS } else { group }, m);
}

fn send(net: &mut Net, dev: DevId, to: Ipv6Addr, message: Vec<u8>) {
    let Some(d) = net.devs.get(dev) else { return };
    let (src, ns) = (d.inet6.linklocal().unwrap_or(Ipv6Addr::UNSPECIFIED), d.ns);
    if output::send_control(net, dev, src, to, 1, true, message).is_err() {
        net.inc(ns, Mib::Ip6OutDiscards);
    }
}

/// RFC 3810 §5.1.3, §5.1.9: large values have an exponent.
fn exponential(code: u32, mantissa: u32) -> u32 {
    let top = 1 << (mantissa + 3);
    if code < top { code } else { (code & ((1 << mantissa) - 1) | 1 << mantissa) << ((code >> mantissa & 7) + 3) }
}

/// A router of this link asks who listens: an answer after a random part of the time it allows (RFC 3810 §6.2). `alert`: the
/// packet had the router alert option.
#[doc(alias = "igmp6_event_query")]
pub(super) fn query(net: &mut Net, dev: DevId, ip: &Ipv6Header, alert: bool, m: &[u8]) {
    if !is_linklocal(ip.src) || ip.hop_limit != 1 || !alert {
        return;
    }
    let (Some(code), Some(group)) = (
        m.get(4..6).and_then(|b| b.first_chunk()).map(|b| u16::from_be_bytes(*b)),
        m.get(8..V1_LEN).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b)),
    ) else {
        return;
    };
    if !group.is_unspecified() && !group.is_multicast() {
        return;
    }
    let forced = net.devs.get(dev).map_or(0, |d| d.inet6.conf.force_mld_version);
    let old = m.len() == V1_LEN || (m.len() >= V2_LEN && version(net, dev) == 1);
    let asked = match old {
        true if forced == 2 => return,
        true => {
            if m.len() == V1_LEN {
                begin_v1(net, dev, u64::from(code) * MSEC);
            }
            BTreeSet::new()
        }
        false if m.len() < V2_LEN => return,
        false => {
            let Some(sources) = sources(net, dev, m) else { return };
            sources
        }
    };
    let ms = if old { code.into() } else { exponential(code.into(), 12) };
    if group.is_unspecified() && !old {
        if asked.is_empty() {
            let at = net.env.now + within(net, ms);
            if let Some(d) = net.devs.get_mut(dev) {
                d.inet6.mld.general = Some(d.inet6.mld.general.map_or(at, |old| old.min(at)));
            }
        }
    } else {
        query_groups(net, dev, group, ms, &asked);
    }
    net.arm_addrconf(dev);
}

/// A querier of version 1: while it is there, so is its version.
#[doc(alias = "mld_set_v1_mode")]
fn begin_v1(net: &mut Net, dev: DevId, response: Nanos) {
    let (now, qrv) = (net.env.now, robustness(net, dev));
    let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
    let interval = if i.mld.interval != 0 { i.mld.interval } else { QUERY_INTERVAL };
    i.mld.v1_until = now + u64::from(qrv) * interval + response;
    (i.mld.changes, i.mld.general) = (None, None);
    i.groups.retain(|g| !g.left);
    for g in &mut i.groups {
        (g.mld.mode_left, g.mld.allow, g.mld.block) = (0, BTreeMap::new(), BTreeMap::new());
    }
}

/// What a query of version 2 says of itself, and the sources that it asks about. `None`: cut off.
#[doc(alias = "mld_process_v2")]
fn sources(net: &mut Net, dev: DevId, m: &[u8]) -> Option<BTreeSet<Ipv6Addr>> {
    let &[flags, qqic, n0, n1] = m.get(V1_LEN..V2_LEN)?.first_chunk()?;
    let n = usize::from(u16::from_be_bytes([n0, n1]));
    let list = m.get(V2_LEN..V2_LEN + 16 * n)?;
    let i = net.devs.get_mut(dev).map(|d| &mut d.inet6)?;
    i.mld.qrv = flags & 7;
    i.mld.interval = u64::from(exponential(qqic.into(), 4)) * SEC;
    Some(list.as_chunks::<16>().0.iter().map(|b| Ipv6Addr::from(*b)).collect())
}

/// One group, or each with a time of its own. What is due sooner stays.
#[doc(alias = "igmp6_group_queried")]
fn query_groups(net: &mut Net, dev: DevId, group: Ipv6Addr, ms: u32, asked: &BTreeSet<Ipv6Addr>) {
    let now = net.env.now;
    let n = net.devs.get(dev).map_or(0, |d| d.inet6.groups.len());
    for at in 0..n {
        let wait = within(net, ms);
        let Some(g) = net.devs.get_mut(dev).and_then(|d| d.inet6.groups.get_mut(at)) else { return };
        if silent(g.addr) || g.left || !(group.is_unspecified() || g.addr == group) {
            continue;
        }
        let s = &mut g.mld;
        // Asked about everything before, or about too much: about everything.
        let all = asked.is_empty() || (s.due.is_some() && s.asked.is_empty());
        s.asked = if all { BTreeSet::new() } else { s.asked.union(asked).copied().collect() };
        if s.asked.len() > MOST_ASKED {
            s.asked = BTreeSet::new();
        }
        s.due = Some(s.due.map_or(now + wait, |old| old.min(now + wait)));
        s.unsolicited = 1;
    }
}

/// Another member reported a group in version 1: one is enough (RFC 2710 §4).
#[doc(alias = "igmp6_event_report")]
pub(super) fn heard(net: &mut Net, dev: DevId, ip: &Ipv6Header, m: &[u8]) {
    let Some(group) = m.get(8..V1_LEN).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b)) else { return };
    if !is_linklocal(ip.src) && !ip.src.is_unspecified() {
        return;
    }
    let Some(i) = net.devs.get_mut(dev).map(|d| &mut d.inet6) else { return };
    if let Some(g) = i.groups.iter_mut().find(|g| g.addr == group) {
        (g.mld.due, g.mld.reporter) = (None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_with_an_exponent() {
        assert_eq!(
            (exponential(0x7fff, 12), exponential(0x8000, 12), exponential(0xffff, 12)),
            (0x7fff, 0x8000, 8_387_584)
        );
        assert_eq!((exponential(127, 4), exponential(128, 4), exponential(255, 4)), (127, 128, 31_744));
    }
}
