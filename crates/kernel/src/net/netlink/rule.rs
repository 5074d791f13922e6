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
pub(crate) fn fill(family: i32, r: &Rule, out: &mut Vec<u8>, h: Head) {
    let (table, kind) = match r.action {
        Action::Table(id) => (id, FR_ACT_TO_TBL),
        Action::Refuse(kind) => (0, ACTIONS.iter().find(|a| a.0 == kind).map_or(FR_ACT_UNREACHABLE, |a| a.1)),
    };
    let detached = |d: &Option<RuleDev>| d.is_some_and(|d| d.dev.is_none());
    let bits = [
        (r.not, FIB_RULE_INVERT),
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
            fill(f, &rule, d.room(), h);
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
    let (mut table, mut pref, mut mark, mut mask) = (u32::from(hdr.table), None, None, None);
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
            FRA_PROTOCOL => rule.proto = v.first().copied().unwrap_or(0),
            // No prefix is longer than a byte says.
            FRA_SUPPRESS_PREFIXLEN => rule.suppress = u8::try_from(u32_of(v)?).ok(),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    rule.mark = mark.unwrap_or(0);
    rule.mark_mask = mask.unwrap_or(if mark.is_some() { u32::MAX } else { 0 });
    let refusing = ACTIONS.iter().find(|a| a.1 == hdr.kind);
    let action = match (hdr.kind, refusing) {
        (_, Some(a)) => Some(Action::Refuse(a.0)),
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
            && s.action.is_none_or(|a| a == r.action)
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
