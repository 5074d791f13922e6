//! Policy rules of both families: RTM_NEWRULE, RTM_DELRULE and dumps.
use super::{Caller, Done, Dump, Head, Req, octets, refuse, str_of, u32_of, v4_of, v6_of};
use crate::net::Net;
use crate::net::core::dev::{IfName, valid_name};
use crate::net::core::fib_rules::{Action, Rule, RuleDev};
use crate::net::ipv4::fib::{RT_TABLE_LOCAL, RouteType};
use belljar_abi::netlink::{Msg, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use core::net::IpAddr;

/// `struct fib_rule_hdr` is laid out as `struct rtmsg`, with the action where that has the type.
type RuleHdr = RtMsg;

const ACTIONS: [(RouteType, u8); 3] = [
    (RouteType::Blackhole, FR_ACT_BLACKHOLE),
    (RouteType::Unreachable, FR_ACT_UNREACHABLE),
    (RouteType::Prohibit, FR_ACT_PROHIBIT),
];

#[doc(alias = "fib_nl_fill_rule")]
pub(crate) fn fill((family, unresolved): (i32, bool), r: &Rule, out: &mut Vec<u8>, h: Head) {
    let (table, kind) = match r.action {
        Action::Table(id) => (id, FR_ACT_TO_TBL),
        Action::Goto(_) => (0, FR_ACT_GOTO),
        Action::Nop => (0, FR_ACT_NOP),
        Action::Refuse(kind) => (0, ACTIONS.iter().find(|a| a.0 == kind).map_or(FR_ACT_UNREACHABLE, |a| a.1)),
    };
    let detached = |d: &Option<RuleDev>| d.is_some_and(|d| d.dev.is_none());
    let bits = [
        (r.not, FIB_RULE_INVERT),
        (unresolved, FIB_RULE_UNRESOLVED),
        (detached(&r.iif), FIB_RULE_IIF_DETACHED),
        (detached(&r.oif), FIB_RULE_OIF_DETACHED),
    ];
    let hdr = RuleHdr {
        family: family as u8,
        dst_len: r.to.1,
        src_len: r.from.1,
        tos: r.tos,
        table: super::route::short_table(table),
        kind,
        flags: bits.into_iter().filter(|b| b.0).fold(0, |all, b| all | b.1),
        ..RuleHdr::default()
    };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&hdr.to_bytes())
        .attr_u32(FRA_TABLE, table)
        .attr_u32(FRA_SUPPRESS_PREFIXLEN, r.suppress.map_or(u32::MAX, u32::from));
    m.attr_u8(FRA_PROTOCOL, r.proto);
    if let Some(d) = &r.iif {
        m.attr_str(FRA_IIFNAME, d.name.as_str());
    }
    if let Some(d) = &r.oif {
        m.attr_str(FRA_OIFNAME, d.name.as_str());
    }
    if r.pref != 0 {
        m.attr_u32(FRA_PRIORITY, r.pref);
    }
    if r.mark != 0 {
        m.attr_u32(FRA_FWMARK, r.mark);
    }
    if r.mark_mask != 0 || r.mark != 0 {
        m.attr_u32(FRA_FWMASK, r.mark_mask);
    }
    if let Action::Goto(target) = r.action {
        m.attr_u32(FRA_GOTO, target);
    }
    if let Some((from, to)) = r.uids {
        m.attr(FRA_UID_RANGE, &[from.to_ne_bytes(), to.to_ne_bytes()].concat());
    }
    for (kind, range) in [(FRA_SPORT_RANGE, r.sport), (FRA_DPORT_RANGE, r.dport)] {
        if let Some((from, to)) = range {
            m.attr(kind, &[from.to_ne_bytes(), to.to_ne_bytes()].concat());
        }
    }
    if r.ip_proto != 0 {
        m.attr_u8(FRA_IP_PROTO, r.ip_proto);
    }
    if r.to.1 != 0 {
        m.attr(FRA_DST, &octets(r.to.0));
    }
    if r.from.1 != 0 {
        m.attr(FRA_SRC, &octets(r.from.0));
    }
}

/// By preference. Without a family IPv4 comes first.
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let family = i32::from(request_family(r.body));
    for f in [abi::AF_INET, abi::AF_INET6].into_iter().filter(|f| family == abi::AF_UNSPEC || family == *f) {
        for rule in net.rules(c.ns, f) {
            let h = Head::dump(RTM_NEWRULE, d);
            fill((f, net.rule_is_unresolved(c.ns, f, &rule)), &rule, d.room(), h);
        }
    }
}

/// A rule as a request has it, and which of its parts were given.
struct Spec {
    rule: Rule,
    pref: Option<u32>,
    action: Option<Action>,
    mark: Option<u32>,
}

/// `struct fib_rule_port_range`: no port is 0.
fn port_range(v: &[u8], invalid: &'static str) -> Done<Option<(u16, u16)>> {
    let &[a, b, c, d] = v.first_chunk().ok_or(Errno::EINVAL)?;
    let (from, to) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    if from == 0 || to == 0 || from > to { refuse(Errno::EINVAL, invalid) } else { Ok(Some((from, to))) }
}

/// `struct fib_rule_uid_range`; the last number is nobody.
fn uid_range(v: &[u8]) -> Done<Option<(u32, u32)>> {
    let (from, to) = (u32_of(v)?, u32_of(v.get(4..).ok_or(Errno::EINVAL)?)?);
    let valid = from != u32::MAX && to != u32::MAX && from <= to;
    if valid { Ok(Some((from, to))) } else { refuse(Errno::EINVAL, "Invalid uid range") }
}

/// Where a rule jumps: ahead.
fn goto(action: u8, target: Option<u32>, pref: u32) -> Done<Option<Action>> {
    match (action, target) {
        (FR_ACT_GOTO, None) => refuse(Errno::EINVAL, "Missing goto target for action goto"),
        (FR_ACT_GOTO, Some(to)) if to <= pref => refuse(Errno::EINVAL, "Backward goto not supported"),
        (FR_ACT_GOTO, Some(to)) => Ok(Some(Action::Goto(to))),
        (_, Some(_)) => refuse(Errno::EINVAL, "Unexpected goto"),
        _ => Ok(None),
    }
}

fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Spec> {
    let hdr = RuleHdr::parse(r.body).ok_or(Errno::EINVAL)?;
    let mut rule =
        Rule { tos: hdr.tos, not: hdr.flags & FIB_RULE_INVERT != 0, proto: 0, ..Rule::new(0, Action::Table(0)) };
    let six = family(r) == abi::AF_INET6;
    let (most, tos) = if six { (128, 0xfc) } else { (32, 0x1c) };
    if hdr.src_len > most || hdr.dst_len > most {
        return Err(Errno::EINVAL.into());
    }
    if hdr.tos & !tos != 0 {
        return refuse(Errno::EINVAL, if six { "Invalid dsfield (tos): ECN bits must be 0" } else { "Invalid tos" });
    }
    let address = |v: &[u8]| -> Done<IpAddr> { if six { Ok(v6_of(v)?.into()) } else { Ok(v4_of(v)?.into()) } };
    let (mut table, mut pref, mut mark, mut mask, mut target) = (u32::from(hdr.table), None, None, None, None);
    let named = |v: &[u8]| -> Done<RuleDev> {
        let name = str_of(v)?;
        if !valid_name(name) {
            return Err(Errno::EINVAL.into());
        }
        Ok(RuleDev { name: IfName::new(name), dev: net.dev_by_name(c.ns, name) })
    };
    for (kind, v) in r.attrs(RuleHdr::LEN) {
        match kind {
            FRA_SRC => rule.from = (address(v)?, hdr.src_len),
            FRA_DST => rule.to = (address(v)?, hdr.dst_len),
            FRA_IIFNAME => rule.iif = Some(named(v)?),
            FRA_OIFNAME => rule.oif = Some(named(v)?),
            FRA_PRIORITY => pref = Some(u32_of(v)?),
            FRA_FWMARK => mark = Some(u32_of(v)?),
            FRA_FWMASK => mask = Some(u32_of(v)?),
            FRA_TABLE => table = u32_of(v)?,
            FRA_GOTO => target = Some(u32_of(v)?),
            FRA_UID_RANGE => rule.uids = uid_range(v)?,
            FRA_IP_PROTO => rule.ip_proto = v.first().copied().unwrap_or(0),
            FRA_SPORT_RANGE => rule.sport = port_range(v, "Invalid sport range")?,
            FRA_DPORT_RANGE => rule.dport = port_range(v, "Invalid dport range")?,
            FRA_PROTOCOL => rule.proto = v.first().copied().unwrap_or(0),
            // No prefix is longer than a byte says.
            FRA_SUPPRESS_PREFIXLEN => rule.suppress = u8::try_from(u32_of(v)?).ok(),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    rule.mark = mark.unwrap_or(0);
    rule.mark_mask = mask.unwrap_or(if mark.is_some() { u32::MAX } else { 0 });
    let jump = goto(hdr.kind, target, pref.unwrap_or_else(|| net.next_pref(c.ns, family(r))))?;
    let refusing = ACTIONS.iter().find(|a| a.1 == hdr.kind);
    let action = match (hdr.kind, refusing) {
        (_, Some(a)) => Some(Action::Refuse(a.0)),
        (FR_ACT_GOTO, _) => jump,
        (FR_ACT_NOP, _) => Some(Action::Nop),
        (FR_ACT_TO_TBL, _) if table != 0 => Some(Action::Table(table)),
        (FR_ACT_TO_TBL | 0, _) => None,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    if action.is_none() && table != 0 {
        return Ok(Spec { rule, pref, action: Some(Action::Table(table)), mark });
    }
    Ok(Spec { rule, pref, action, mark })
}

/// Of requests that come this far.
fn family(r: Req<'_>) -> i32 {
    i32::from(request_family(r.body))
}

#[doc(alias = "fib_nl_newrule")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let Some(action) = s.action else { return refuse(Errno::EINVAL, "Invalid table") };
    let pref = s.pref.unwrap_or_else(|| net.next_pref(c.ns, family(r)));
    // A table of IPv6 is there from its first rule on.
    if let (abi::AF_INET6, Action::Table(id)) = (family(r), action)
        && let Some(n) = net.ns.get_mut(c.ns)
    {
        n.v6.fib.table_mut(id);
    }
    match net.add_rule(c.ns, family(r), Rule { pref, action, ..s.rule }) {
        Err(Errno::EEXIST) if !r.flag(NLM_F_EXCL) => Ok(()),
        done => Ok(done?),
    }
}

/// The first that is as the request says. The one of the local table stays.
#[doc(alias = "fib_nl_delrule")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let want = s.rule;
    let same = |r: &Rule| {
        s.pref.is_none_or(|p| p == r.pref)
            && s.action.is_none_or(|a| a == r.action || matches!((a, r.action), (Action::Goto(_), Action::Goto(_))))
            && (want.ip_proto == 0 || want.ip_proto == r.ip_proto)
            && (want.sport.is_none() || want.sport == r.sport)
            && (want.dport.is_none() || want.dport == r.dport)
            && (want.uids.is_none() || want.uids == r.uids)
            && (want.from.1 == 0 || want.from == r.from)
            && (want.to.1 == 0 || want.to == r.to)
            && (want.tos == 0 || want.tos == r.tos)
            && (want.proto == 0 || want.proto == r.proto)
            && s.mark.is_none_or(|m| (m, want.mark_mask) == (r.mark, r.mark_mask))
            && want.iif.is_none_or(|d| r.iif.is_some_and(|x| x.name == d.name))
            && want.oif.is_none_or(|d| r.oif.is_some_and(|x| x.name == d.name))
            && (want.suppress.is_none() || want.suppress == r.suppress)
            && (!want.not || r.not)
    };
    let first = net.rules(c.ns, family(r)).into_iter().find(same).ok_or(Errno::ENOENT)?;
    if family(r) == abi::AF_INET && first.pref == 0 && first.action == Action::Table(RT_TABLE_LOCAL) {
        return Err(Errno::EPERM.into());
    }
    Ok(net.del_rule(c.ns, family(r), |r| *r == first)?)
}
