//! Policy rules of IPv4: RTM_NEWRULE, RTM_DELRULE and dumps; of IPv6 the two that there always are.
use super::{Caller, Done, Dump, Head, Req, refuse, str_of, u32_of, v4_of};
use crate::net::Net;
use crate::net::core::dev::{IfName, valid_name};
use crate::net::ipv4::fib::{RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RouteType};
use crate::net::ipv4::rule::{Action, Rule, RuleDev};
use belljar_abi::netlink::{Msg, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};

/// `struct fib_rule_hdr` is laid out as `struct rtmsg`, with the action where that has the type.
type RuleHdr = RtMsg;

const ACTIONS: [(RouteType, u8); 3] = [
    (RouteType::Blackhole, FR_ACT_BLACKHOLE),
    (RouteType::Unreachable, FR_ACT_UNREACHABLE),
    (RouteType::Prohibit, FR_ACT_PROHIBIT),
];

#[doc(alias = "fib_nl_fill_rule")]
pub(crate) fn fill(r: &Rule, out: &mut Vec<u8>, h: Head) {
    fill_of(abi::AF_INET, r, out, h);
}

fn fill_of(family: i32, r: &Rule, out: &mut Vec<u8>, h: Head) {
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
    m.body(&hdr.to_bytes()).attr_u32(FRA_TABLE, table).attr_u32(FRA_SUPPRESS_PREFIXLEN, u32::MAX);
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
        m.attr(FRA_DST, &r.to.0.octets());
    }
    if r.from.1 != 0 {
        m.attr(FRA_SRC, &r.from.0.octets());
    }
}

/// By preference. Without a family IPv4 comes first.
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let family = i32::from(request_family(r.body));
    let rules = net.ns.get(c.ns).and_then(|n| n.fib.rules.clone()).unwrap_or_else(Rule::defaults);
    let has_default = |r: &&Rule| r.action != Action::Table(RT_TABLE_DEFAULT);
    let of = |f: i32, rules: &mut dyn Iterator<Item = &Rule>, d: &mut Dump| {
        if family == abi::AF_UNSPEC || family == f {
            for rule in rules {
                let h = Head::dump(RTM_NEWRULE, d);
                fill_of(f, rule, d.room(), h);
            }
        }
    };
    of(abi::AF_INET, &mut rules.iter(), d);
    of(abi::AF_INET6, &mut Rule::defaults().iter().filter(has_default), d);
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
    if hdr.src_len > 32 || hdr.dst_len > 32 || hdr.tos & !0x1c != 0 {
        return refuse(Errno::EINVAL, "Invalid tos");
    }
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
            FRA_SRC => rule.from = (v4_of(v)?, hdr.src_len),
            FRA_DST => rule.to = (v4_of(v)?, hdr.dst_len),
            FRA_IIFNAME => rule.iif = Some(named(v)?),
            FRA_OIFNAME => rule.oif = Some(named(v)?),
            FRA_PRIORITY => pref = Some(u32_of(v)?),
            FRA_FWMARK => mark = Some(u32_of(v)?),
            FRA_FWMASK => mask = Some(u32_of(v)?),
            FRA_TABLE => table = u32_of(v)?,
            FRA_PROTOCOL => rule.proto = v.first().copied().unwrap_or(0),
            FRA_SUPPRESS_PREFIXLEN if u32_of(v)? == u32::MAX => {}
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

#[doc(alias = "fib_nl_newrule")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let Some(action) = s.action else { return refuse(Errno::EINVAL, "Invalid table") };
    let pref = s.pref.unwrap_or_else(|| net.next_pref(c.ns));
    match net.add_rule(c.ns, Rule { pref, action, ..s.rule }) {
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
            && (!want.not || r.not)
    };
    let first = net.ns.get(c.ns).and_then(|n| n.fib.rules.clone()).unwrap_or_else(Rule::defaults);
    let first = first.into_iter().find(same).ok_or(Errno::ENOENT)?;
    if first.pref == 0 && first.action == Action::Table(RT_TABLE_LOCAL) {
        return Err(Errno::EPERM.into());
    }
    Ok(net.del_rule(c.ns, |r| *r == first)?)
}
