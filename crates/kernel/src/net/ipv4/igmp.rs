//! IGMP: a host's side of versions 3 (RFC 3376), 2 (RFC 2236) and 1 (RFC 1112), the last two while such a querier is heard.
//! One timer a device, for the soonest of what is to be said.
use crate::env::{Fired, Jiffies, SEC, TimerKey, TimerSlot, timers::Fire};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::skb::{PktType, Skb};
use crate::net::drop::DropReason;
use crate::net::ipv4::fib::Scope;
use crate::net::ipv4::mcast::{Filter, Mode};
use crate::net::ipv4::output::ip_local_out;
use crate::net::ipv4::route::{Dst, RouteKind};
use crate::net::mib::Mib;
use belljar_wire::ethernet::ETH_P_IP;
use belljar_wire::igmp::*;
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use belljar_wire::{Csum, checksum};
use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

/// Header with the router alert option (RFC 2113).
const HEADER: usize = IPV4_HLEN + 4;
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
/// RFC 3376 §8: until a querier says otherwise, in seconds; and how long a version 1 querier waits for answers.
const QUERY_INTERVAL: u32 = 125;
const QUERY_RESPONSE_INTERVAL: u32 = 10;
/// Sources asked about that are remembered of one group; a query of 1500 bytes holds 366.
const MOST_ASKED: usize = 366;

/// A group's own timer and what is to be answered with it.
#[derive(Clone, Debug, Default)]
pub struct GroupState {
    pub due: Option<Jiffies>,
    /// We were the last to report it, so we say when we leave.
    pub reporter: bool,
    /// Reports without being asked that are still to come.
    unsolicited: u8,
    /// Sources that a query asked about; `None`: all.
    asked: Option<BTreeSet<Ipv4Addr>>,
}

/// Changes that routers have not been told often enough (RFC 3376 §5.1).
#[derive(Clone, Debug, Default)]
struct Change {
    mode: u8,
    allow: BTreeMap<Ipv4Addr, u8>,
    block: BTreeMap<Ipv4Addr, u8>,
}

/// The protocol's state on a device.
#[derive(Clone, Debug, Default)]
pub struct Igmp {
    /// Until when queriers of version 1 and 2 count as present.
    v1_seen: Jiffies,
    v2_seen: Jiffies,
    /// Robustness, query interval, response interval in ticks, as queries said; 0: the defaults.
    qrv: u8,
    qi: Jiffies,
    qri: Jiffies,
    changes: BTreeMap<Ipv4Addr, Change>,
    /// Times that changes are still to be told, when next; when a general query is to be answered.
    change_count: u8,
    change_due: Option<Jiffies>,
    general_due: Option<Jiffies>,
    timer: TimerSlot,
}

impl Igmp {
    pub fn timer_mut(&mut self) -> &mut TimerSlot {
        &mut self.timer
    }
}

fn before(a: Jiffies, b: Jiffies) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Version spoken: the oldest querier's, or what force_igmp_version says.
pub fn version(net: &Net, dev: DevId) -> u8 {
    let Some(d) = net.devs.get(dev) else { return 3 };
    let now = net.env.jiffies();
    let (forced, i) = (d.conf.force_igmp_version, &d.mc.igmp);
    let seen = |until: Jiffies| until != 0 && before(now, until);
    match forced {
        1..=3 => forced as u8,
        _ if seen(i.v1_seen) => 1,
        _ if seen(i.v2_seen) => 2,
        _ => 3,
    }
}

fn robustness(net: &Net, dev: DevId) -> u8 {
    let Some(d) = net.devs.get(dev) else { return 2 };
    let own = net.ns.get(d.ns).map_or(2, |n| n.sysctl.igmp_qrv) as u8;
    if d.mc.igmp.qrv != 0 { d.mc.igmp.qrv } else { own }
}

fn ticks_of_ms(net: &Net, ms: u32) -> Jiffies {
    (u64::from(ms) * u64::from(net.env.hz)).div_ceil(1000) as Jiffies
}

fn unsolicited_interval(net: &Net, dev: DevId) -> Jiffies {
    let conf = net.devs.get(dev).map(|d| d.conf).unwrap_or_default();
    let ms = if version(net, dev) < 3 { conf.igmpv2_unsolicited_ms } else { conf.igmpv3_unsolicited_ms };
    ticks_of_ms(net, ms).max(1)
}

/// Groups that are never reported, or only if the setting says so.
fn silent(net: &Net, dev: DevId, group: Ipv4Addr) -> bool {
    let reports =
        net.devs.get(dev).and_then(|d| net.ns.get(d.ns)).is_some_and(|n| n.sysctl.igmp_link_local_mcast_reports != 0);
    group == ALL_HOSTS || (!reports && group.octets()[..3] == [224, 0, 0])
}

/// A random time up to `max` ticks, and the two that the wheel needs.
fn delay(net: &mut Net, max: Jiffies) -> Jiffies {
    let now = net.env.jiffies();
    now.wrapping_add(net.env.rng.below(max.max(1))).wrapping_add(2)
}

/// Members of a group changed what the device wants. `gone`: nobody is left.
#[doc(alias = "igmp_group_added")]
#[doc(alias = "igmp_group_dropped")]
pub fn state_change(
    net: &mut Net,
    dev: DevId,
    group: Ipv4Addr,
    was: &Filter,
    is: &Filter,
    joined: bool,
    gone: Option<&GroupState>,
) {
    if silent(net, dev, group) || !net.devs.get(dev).is_some_and(|d| d.up) || (was == is && !joined && gone.is_none()) {
        return;
    }
    let (version, qrv) = (version(net, dev), robustness(net, dev));
    if version < 3 {
        if let Some(state) = gone {
            if version == 2 && state.reporter {
                send_old(net, dev, IGMP_HOST_LEAVE_MESSAGE, group);
            }
        } else if joined {
            let at = delay(net, 1);
            if let Some(g) = net.devs.get_mut(dev).and_then(|d| d.mc.group_mut(group)) {
                (g.igmp.due, g.igmp.unsolicited, g.igmp.asked) = (Some(at), qrv, None);
            }
            arm(net, dev);
        }
        return;
    }
    if was == is {
        return;
    }
    let at = delay(net, 1);
    let Some(d) = net.devs.get_mut(dev) else { return };
    let c = d.mc.igmp.changes.entry(group).or_default();
    if was.mode != is.mode {
        *c = Change { mode: qrv, ..Change::default() };
    } else {
        // What an exclude list gains is blocked, what it loses is allowed.
        let (gained, lost) = (is.sources.difference(&was.sources), was.sources.difference(&is.sources));
        let excludes = is.mode == Mode::Exclude;
        for (s, allowed) in gained.map(|s| (s, !excludes)).chain(lost.map(|s| (s, excludes))) {
            let (to, from) = if allowed { (&mut c.allow, &mut c.block) } else { (&mut c.block, &mut c.allow) };
            to.insert(*s, qrv);
            from.remove(s);
        }
    }
    (d.mc.igmp.change_count, d.mc.igmp.change_due) = (qrv, Some(at));
    arm(net, dev);
}

/// Sets the device's timer to the soonest of what it waits for.
fn arm(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let i = &d.mc.igmp;
    let groups = d.mc.groups.iter().filter_map(|g| g.igmp.due);
    let soonest = groups.chain(i.change_due).chain(i.general_due).reduce(|a, b| if before(b, a) { b } else { a });
    match soonest {
        Some(at) => net.env.timers.arm(&mut d.mc.igmp.timer, at, TimerKey::Igmp(dev)),
        None => d.mc.igmp.timer.cancel(),
    }
}

/// The device went down: nothing is left to say.
#[doc(alias = "ip_mc_down")]
pub fn down(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let timer = std::mem::take(&mut d.mc.igmp.timer);
    d.mc.igmp = Igmp { timer, ..Igmp::default() };
    d.mc.groups.iter_mut().for_each(|g| g.igmp = GroupState::default());
    net.env.timers.remove(&mut d.mc.igmp.timer);
}

#[doc(alias = "igmp_timer_expire")]
#[doc(alias = "igmp_ifc_timer_expire")]
#[doc(alias = "igmp_gq_timer_expire")]
pub fn timer(net: &mut Net, dev: DevId, fired: Fired) {
    let now = net.env.jiffies();
    let Some(d) = net.devs.get_mut(dev) else { return };
    if net.env.timers.look(&mut d.mc.igmp.timer, fired, now, TimerKey::Igmp(dev)) == Fire::NotYet {
        return;
    }
    let is_due = |at: Option<Jiffies>| at.is_some_and(|at| !before(now, at));
    if is_due(d.mc.igmp.change_due) {
        tell_changes(net, dev);
    }
    let Some(d) = net.devs.get_mut(dev) else { return };
    if is_due(d.mc.igmp.general_due) {
        d.mc.igmp.general_due = None;
        let groups: Vec<Ipv4Addr> = d.mc.groups.iter().map(|g| g.addr).collect();
        let records = groups.into_iter().filter_map(|g| current_state(net, dev, g, None)).collect();
        send_reports(net, dev, records);
    }
    let Some(d) = net.devs.get(dev) else { return };
    let due: Vec<Ipv4Addr> = d.mc.groups.iter().filter(|g| is_due(g.igmp.due)).map(|g| g.addr).collect();
    due.into_iter().for_each(|g| group_timer(net, dev, g));
    arm(net, dev);
}

fn group_timer(net: &mut Net, dev: DevId, group: Ipv4Addr) {
    let (version, next) = (version(net, dev), unsolicited_interval(net, dev));
    let Some(g) = net.devs.get_mut(dev).and_then(|d| d.mc.group_mut(group)) else { return };
    let (asked, again) = (g.igmp.asked.take(), g.igmp.unsolicited > 1);
    g.igmp.unsolicited = g.igmp.unsolicited.saturating_sub(1);
    (g.igmp.due, g.igmp.reporter) = (None, true);
    if again {
        let at = delay(net, next);
        if let Some(g) = net.devs.get_mut(dev).and_then(|d| d.mc.group_mut(group)) {
            g.igmp.due = Some(at);
        }
    }
    match version {
        1 => send_old(net, dev, IGMP_HOST_MEMBERSHIP_REPORT, group),
        2 => send_old(net, dev, IGMPV2_HOST_MEMBERSHIP_REPORT, group),
        _ => {
            let record = current_state(net, dev, group, asked.as_ref());
            send_reports(net, dev, record.into_iter().collect());
        }
    }
}

/// The answer about one group; of the sources that were asked about those that are wanted (RFC 3376 §5.2).
fn current_state(net: &Net, dev: DevId, group: Ipv4Addr, asked: Option<&BTreeSet<Ipv4Addr>>) -> Option<Record> {
    if silent(net, dev, group) {
        return None;
    }
    let f = net.devs.get(dev)?.mc.group(group)?.filter();
    let include = f.mode == Mode::Include;
    if let Some(asked) = asked {
        let sources: Vec<Ipv4Addr> = asked.iter().filter(|s| include && f.sources.contains(s)).copied().collect();
        return (!sources.is_empty()).then_some(Record { kind: RecordType::ModeIsInclude, group, sources });
    }
    let kind = if include { RecordType::ModeIsInclude } else { RecordType::ModeIsExclude };
    (!include || !f.sources.is_empty()).then(|| Record { kind, group, sources: f.sources.into_iter().collect() })
}

/// What changed, as often as robustness wants it.
fn tell_changes(net: &mut Net, dev: DevId) {
    let again = unsolicited_interval(net, dev);
    let at = delay(net, again);
    let Some(d) = net.devs.get_mut(dev) else { return };
    let mut changes = std::mem::take(&mut d.mc.igmp.changes);
    let mut records = Vec::new();
    let once = |list: &mut BTreeMap<Ipv4Addr, u8>| {
        let sources: Vec<Ipv4Addr> = list.keys().copied().collect();
        list.retain(|_, n| {
            *n -= 1;
            *n > 0
        });
        sources
    };
    for (group, c) in changes.iter_mut() {
        let group = *group;
        if c.mode > 0 {
            c.mode -= 1;
            let f = d.mc.group(group).map(|g| g.filter()).unwrap_or_default();
            let include = f.mode == Mode::Include;
            let kind = if include { RecordType::ChangeToInclude } else { RecordType::ChangeToExclude };
            records.push(Record { kind, group, sources: f.sources.into_iter().collect() });
            continue;
        }
        for (kind, list) in [(RecordType::AllowNewSources, &mut c.allow), (RecordType::BlockOldSources, &mut c.block)] {
            let sources = once(list);
            if !sources.is_empty() {
                records.push(Record { kind, group, sources });
            }
        }
    }
    changes.retain(|_, c| c.mode > 0 || !c.allow.is_empty() || !c.block.is_empty());
    let i = &mut d.mc.igmp;
    i.changes = changes;
    i.change_count = i.change_count.saturating_sub(1);
    i.change_due = (i.change_count > 0 && !i.changes.is_empty()).then_some(at);
    send_reports(net, dev, records);
}

/// As many packets as the MTU makes necessary; long lists are cut, but for an exclude list, which says less then
/// (RFC 3376 §4.2.16).
fn send_reports(net: &mut Net, dev: DevId, records: Vec<Record>) {
    let room = net.devs.get(dev).map_or(576, |d| d.mtu as usize).saturating_sub(HEADER + IGMP_HLEN).max(16);
    let (mut batch, mut used) = (Vec::new(), 0);
    for mut r in records {
        loop {
            let most = (room - 8) / 4;
            let excludes = matches!(r.kind, RecordType::ModeIsExclude | RecordType::ChangeToExclude);
            let rest = if r.sources.len() > most { r.sources.split_off(most) } else { Vec::new() };
            let next = (!rest.is_empty() && !excludes).then(|| Record { sources: rest, ..r.clone() });
            if used + r.len() > room {
                send(net, dev, ALL_REPORTS, &report(&std::mem::take(&mut batch)));
                used = 0;
            }
            used += r.len();
            batch.push(r);
            match next {
                Some(n) => r = n,
                None => break,
            }
        }
    }
    if !batch.is_empty() {
        send(net, dev, ALL_REPORTS, &report(&batch));
    }
}

/// Versions 1 and 2: to the group itself, leaving to the routers.
fn send_old(net: &mut Net, dev: DevId, kind: u8, group: Ipv4Addr) {
    let to = if kind == IGMP_HOST_LEAVE_MESSAGE { ALL_ROUTERS } else { group };
    send(net, dev, to, &IgmpHeader { kind, code: 0, group }.bytes());
}

#[doc(alias = "igmp_send_report")]
fn send(net: &mut Net, dev: DevId, to: Ipv4Addr, message: &[u8]) {
    let Some(d) = net.devs.get(dev).filter(|d| d.up) else { return };
    let (ns, src, mtu) = (d.ns, d.select_addr(Ipv4Addr::UNSPECIFIED, Scope::Link), d.mtu);
    let src = src.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let genid = net.ns.get(ns).map_or(0, |n| n.rt_genid);
    let mut skb = net.alloc_skb();
    let Some(room) = skb.head.push(HEADER) else { return net.consume_skb(skb) };
    room[IPV4_HLEN..].copy_from_slice(&ROUTER_ALERT);
    let header = Ipv4Header {
        ihl_bytes: HEADER,
        tos: 0xc0,
        total_len: (HEADER + message.len()) as u16,
        df: true,
        ttl: 1,
        proto: IPPROTO_IGMP,
        src,
        dst: to,
        ..Ipv4Header::default()
    };
    header.emit(room);
    skb.frags = message.to_vec().into();
    (skb.ns, skb.protocol, skb.csum, skb.priority) = (Some(ns), ETH_P_IP, Csum::Unnecessary, 7);
    skb.network_header = skb.head.start();
    skb.transport_header = skb.network_header + HEADER as u8;
    skb.no_mc_loop = true;
    skb.set_truesize();
    net.inc(ns, Mib::IpOutRequests);
    let dst = Dst {
        kind: RouteKind::Multicast,
        dev,
        gateway: None,
        src: src.into(),
        mtu,
        genid,
        metrics: MetricsId::default(),
    };
    let _ = ip_local_out(net, ns, &dst, to, skb);
}

/// A message, pulled to its header.
pub fn igmp_rcv(net: &mut Net, skb: Skb) {
    let Some(dev) = skb.dev else { return net.kfree_skb(skb, DropReason::NotSpecified, "igmp_rcv") };
    let mut b = skb.head.bytes().to_vec();
    skb.frags.iter().for_each(|s| b.extend_from_slice(s.as_slice()));
    let good = skb.csum != Csum::None || checksum::fold(checksum::sum(&b, 0)) == 0;
    let Ok(h) = IgmpHeader::parse(&b) else { return net.kfree_skb(skb, DropReason::PktTooSmall, "igmp_rcv") };
    if !good {
        return net.kfree_skb(skb, DropReason::IpCsum, "igmp_rcv");
    }
    match h.kind {
        IGMP_HOST_MEMBERSHIP_QUERY => heard_query(net, dev, &h, &b),
        IGMP_HOST_MEMBERSHIP_REPORT | IGMPV2_HOST_MEMBERSHIP_REPORT
            if matches!(skb.pkt_type, PktType::Multicast | PktType::Broadcast) && !skb.looped =>
        {
            heard_report(net, dev, h.group);
        }
        _ => {}
    }
    net.consume_skb(skb);
}

/// Somebody else spoke for the group: once is enough (RFC 2236 §3).
#[doc(alias = "igmp_heard_report")]
fn heard_report(net: &mut Net, dev: DevId, group: Ipv4Addr) {
    if silent(net, dev, group) {
        return;
    }
    if let Some(g) = net.devs.get_mut(dev).and_then(|d| d.mc.group_mut(group)) {
        g.igmp = GroupState::default();
        arm(net, dev);
    }
}

#[doc(alias = "igmp_heard_query")]
fn heard_query(net: &mut Net, dev: DevId, h: &IgmpHeader, b: &[u8]) {
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let speaks = version(net, dev);
    let tenths = |n: u32| (u64::from(n) * u64::from(hz)).div_ceil(10) as Jiffies;
    let (mut group, mut asked) = (h.group, None);
    let max_delay;
    let Some(d) = net.devs.get_mut(dev) else { return };
    let (forced, i) = (d.conf.force_igmp_version, &mut d.mc.igmp);
    if b.len() == IGMP_HLEN {
        // RFC 3376 §8.12: as long as such a querier may be there its version is spoken.
        let present = {
            let (qi, qri) = (i.qi.max(1), i.qri.max(1));
            let qi = if i.qi == 0 { QUERY_INTERVAL * hz } else { qi };
            let qri = if i.qri == 0 { QUERY_RESPONSE_INTERVAL * hz } else { qri };
            let robust = if i.qrv == 0 { 2 } else { u32::from(i.qrv) };
            now.wrapping_add(robust * qi + qri)
        };
        if h.code == 0 {
            max_delay = QUERY_RESPONSE_INTERVAL * hz;
            i.v1_seen = present;
            group = Ipv4Addr::UNSPECIFIED;
        } else {
            max_delay = tenths(h.code.into());
            i.v2_seen = present;
        }
        // What version 3 had to say falls silent.
        (i.change_due, i.change_count) = (None, 0);
        i.changes.clear();
    } else if b.len() < QUERY_HLEN || forced == 1 {
        return;
    } else if speaks == 1 {
        (max_delay, group) = (QUERY_RESPONSE_INTERVAL * hz, Ipv4Addr::UNSPECIFIED);
    } else if speaks == 2 {
        max_delay = tenths(decode(h.code)).max(1);
    } else {
        let Ok(q) = QueryV3::parse(b) else { return };
        max_delay = tenths(decode(h.code)).max(1);
        (i.qrv, i.qri) = (q.qrv, max_delay);
        i.qi = if q.qqic == 0 { 0 } else { (u64::from(q.qqic) * u64::from(hz)).min(u32::MAX.into()) as Jiffies };
        if group.is_unspecified() {
            if q.sources.is_empty() {
                let at = delay(net, max_delay);
                if let Some(d) = net.devs.get_mut(dev) {
                    d.mc.igmp.general_due = Some(at);
                }
                arm(net, dev);
            }
            return;
        }
        asked = Some(q.sources).filter(|s| !s.is_empty());
    }
    schedule_answers(net, dev, group, max_delay, asked);
}

/// Each group that was asked about is reported within the time that was given.
fn schedule_answers(net: &mut Net, dev: DevId, group: Ipv4Addr, max_delay: Jiffies, asked: Option<Vec<Ipv4Addr>>) {
    let Some(d) = net.devs.get(dev) else { return };
    let about = |g: &Ipv4Addr| (group.is_unspecified() || *g == group) && !silent(net, dev, *g);
    let groups: Vec<Ipv4Addr> = d.mc.groups.iter().map(|g| g.addr).filter(about).collect();
    let now = net.env.jiffies();
    for addr in groups {
        let at = delay(net, max_delay);
        let Some(g) = net.devs.get_mut(dev).and_then(|d| d.mc.group_mut(addr)) else { continue };
        let f = g.filter();
        let running = g.igmp.due.is_some();
        let mark = match &asked {
            // Who excludes some answers with all of its state, unless nothing is asked about but what it excludes.
            Some(list) if f.mode == Mode::Exclude => match list.iter().all(|s| f.sources.contains(s)) {
                true => continue,
                false => None,
            },
            // Sources join those that an earlier query asked about; a query about all of the group takes them in.
            Some(list) if !running || g.igmp.asked.is_some() => {
                let mut set = g.igmp.asked.take().filter(|_| running).unwrap_or_default();
                set.extend(list.iter().filter(|s| f.sources.contains(s)));
                if set.is_empty() {
                    continue;
                }
                // More than one query can name: an answer about all of the group says it too.
                Some(set).filter(|s| s.len() <= MOST_ASKED)
            }
            _ => None,
        };
        (g.igmp.asked, g.igmp.unsolicited) = (mark, 0);
        // An answer that is due sooner stays where it is.
        if g.igmp.due.is_none_or(|old| before(now.wrapping_add(max_delay), old)) {
            g.igmp.due = Some(at);
        }
    }
    arm(net, dev);
}

/// When a group's own report is due, in ticks of user space (`/proc/net/igmp`).
pub fn due_in(net: &Net, state: &GroupState) -> Option<u64> {
    let left = state.due?.saturating_sub(net.env.jiffies());
    Some(u64::from(left) * (SEC / u64::from(net.env.hz.max(1))) / (SEC / 100))
}
