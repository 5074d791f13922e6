//! Routes of IPv6: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE and dumps.
use super::route::{metrics, put_metrics, rtn, rtn_of, short_table};
use super::{Caller, Done, Dump, Head, Req, device, index, refuse, u32_of, v6_of};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::dst_metrics::{self, DstMetrics};
use crate::net::core::fib_rules::RuleFlow;
use crate::net::ipv4::fib::{self, RouteType};
use crate::net::ipv4::route::RouteKind;
use crate::net::ipv6::fib::{PRIO_USER, Pref, Route6, Table6, mask};
use belljar_abi::netlink::{Msg, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use core::net::{IpAddr, Ipv6Addr};

/// One route.
#[doc(alias = "rt6_fill_node")]
pub(crate) fn fill(
    net: &Net,
    ns: NsId,
    table: u32,
    (dst, len): (Ipv6Addr, u8),
    r: &Route6,
    out: &mut Vec<u8>,
    h: Head,
) {
    let down = r.dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.up && !d.carrier);
    let msg = RtMsg {
        family: abi::AF_INET6 as u8,
        dst_len: len,
        table: short_table(table),
        protocol: r.proto,
        kind: if dst.is_multicast() && r.kind == RouteType::Unicast { RTN_MULTICAST } else { rtn(r.kind) },
        flags: if down { RTNH_F_LINKDOWN } else { 0 },
        ..RtMsg::default()
    };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr_u32(RTA_TABLE, table);
    if len > 0 {
        m.attr(RTA_DST, &dst.octets());
    }
    if let Some(src) = r.prefsrc {
        m.attr(RTA_PREFSRC, &src.octets());
    }
    m.attr_u32(RTA_PRIORITY, r.metric);
    put_metrics(net.ns.get(ns).and_then(|n| n.metrics.get(r.metrics)), &mut m);
    if let Some(gw) = r.gateway {
        m.attr(RTA_GATEWAY, &gw.octets());
    }
    // What refuses stands at lo, which every namespace has as its first device.
    m.attr_u32(RTA_OIF, if r.dev.is_some() { index(net, r.dev) } else { 1 });
    let left = r.expires.map_or(0, |at| (at.saturating_sub(net.env.now) / 10_000_000) as u32);
    m.attr(RTA_CACHEINFO, &cacheinfo(left));
    m.attr_u8(RTA_PREF, pref(r.pref));
}

/// `ICMPV6_ROUTER_PREF_*`.
fn pref(p: Pref) -> u8 {
    match p {
        Pref::Low => 3,
        Pref::Medium => 0,
        Pref::High => 1,
    }
}

/// `struct rta_cacheinfo`: only when it ends, in hundredths of a second.
fn cacheinfo(expires: u32) -> [u8; 32] {
    let mut b = [0; 32];
    b[8..12].copy_from_slice(&expires.to_ne_bytes());
    b
}

/// Others, main, then local; in the order of the tree: what is below a prefix stands before it.
#[doc(alias = "inet6_dump_fib")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let Some(n) = net.ns.get(c.ns) else { return Ok(()) };
    let msg = RtMsg::parse(r.body).unwrap_or_default();
    let wanted = match r.attr(RtMsg::LEN, RTA_TABLE) {
        Some(v) => u32_of(v)?,
        None => msg.table.into(),
    };
    let others = n.v6.fib.others.iter().map(|(id, t)| (*id, t));
    for (id, t) in others.chain([(fib::RT_TABLE_MAIN, &n.v6.fib.main), (fib::RT_TABLE_LOCAL, &n.v6.fib.local)]) {
        if c.strict && wanted != 0 && wanted != id {
            continue;
        }
        for (dst, len, r) in in_order(t) {
            if c.strict && msg.protocol != 0 && msg.protocol != r.proto {
                continue;
            }
            let h = Head::dump(RTM_NEWROUTE, d);
            fill(net, c.ns, id, (dst, len), r, d.room(), h);
        }
    }
    Ok(())
}

fn in_order(t: &Table6) -> Vec<(Ipv6Addr, u8, &Route6)> {
    let mut rows: Vec<_> = t.iter().collect();
    rows.sort_by_key(|(dst, len, _)| (dst.to_bits() | !mask(*len), std::cmp::Reverse(*len)));
    rows
}

/// A route as a request has it.
struct Spec {
    table: u32,
    dst: Ipv6Addr,
    len: u8,
    has_type: bool,
    has_metric: bool,
    route: Route6,
    metrics: DstMetrics,
}

fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Spec> {
    let msg = RtMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.dst_len > 128 {
        return refuse(Errno::EINVAL, "Invalid prefix length");
    }
    if msg.src_len != 0 || msg.flags != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut table = u32::from(msg.table);
    let mut s = Spec {
        table: 0,
        dst: Ipv6Addr::UNSPECIFIED,
        len: msg.dst_len,
        has_type: msg.kind != RTN_UNSPEC,
        has_metric: false,
        metrics: DstMetrics::default(),
        route: Route6 { kind: rtn_of(msg.kind)?, proto: msg.protocol, ..Route6::unicast(None, None) },
    };
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => s.dst = v6_of(v)?,
            RTA_OIF => match u32_of(v)? {
                0 => {}
                n => s.route.dev = Some(device(net, c, n)?),
            },
            RTA_GATEWAY => s.route.gateway = Some(v6_of(v)?).filter(|g| !g.is_unspecified()),
            RTA_PRIORITY => {
                s.route.metric = u32_of(v)?;
                s.has_metric = s.route.metric != 0;
            }
            RTA_PREFSRC => s.route.prefsrc = Some(v6_of(v)?),
            RTA_TABLE => table = u32_of(v)?,
            RTA_METRICS => s.metrics = metrics(v)?,
            RTA_PREF => {
                s.route.pref = match v.first() {
                    Some(1) => Pref::High,
                    Some(3) => Pref::Low,
                    _ => Pref::Medium,
                }
            }
            RTA_CACHEINFO => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    // What is local here comes and goes with addresses.
    if table == fib::RT_TABLE_LOCAL {
        return Err(Errno::EOPNOTSUPP.into());
    }
    s.table = if table == 0 { fib::RT_TABLE_MAIN } else { table };
    if !s.has_metric {
        s.route.metric = PRIO_USER;
    }
    // What is beyond the length does not count.
    s.dst = Ipv6Addr::from_bits(s.dst.to_bits() & mask(s.len));
    Ok(s)
}

#[doc(alias = "inet6_rtm_newroute")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let table = net.ns.get(c.ns).and_then(|n| n.v6.fib.table(s.table));
    let there = table.is_some_and(|t| t.get(s.dst, s.len).iter().any(|r| r.metric == s.route.metric));
    if there && r.flag(NLM_F_EXCL) {
        return Err(Errno::EEXIST.into());
    }
    if !there && !r.flag(NLM_F_CREATE) {
        return if r.flag(NLM_F_REPLACE) {
            Err(Errno::ENOENT.into())
        } else {
            refuse(Errno::ENOENT, "NLM_F_CREATE should be specified when creating new route")
        };
    }
    if there && !r.flag(NLM_F_REPLACE) {
        // A second next hop of the same route.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let old = match there {
        true => net.take_route6(c.ns, s.table, (s.dst, s.len), s.route.metric),
        false => None,
    };
    let metrics = net.ns.get_mut(c.ns).ok_or(Errno::ENODEV)?.metrics_id(&s.metrics);
    let done =
        metrics.and_then(|metrics| net.add_route6_to(c.ns, s.table, (s.dst, s.len), Route6 { metrics, ..s.route }));
    if let (Err(_), Some(old), Some(n)) = (done, old, net.ns.get_mut(c.ns)) {
        n.v6.fib.table_mut(s.table).insert(s.dst, s.len, old);
    }
    match done {
        Err(Errno::ENETDOWN) => refuse(Errno::ENETDOWN, "Nexthop device is not up"),
        Err(Errno::EINVAL) => refuse(Errno::EINVAL, "Gateway can not be a local address"),
        done => Ok(done?),
    }
}

#[doc(alias = "inet6_rtm_delroute")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let fits = |r: &Route6| {
        (!s.has_type || r.kind == s.route.kind)
            && (!s.has_metric || r.metric == s.route.metric)
            && (s.route.dev.is_none() || r.dev == s.route.dev)
            && (s.route.gateway.is_none() || r.gateway == s.route.gateway)
            && (s.route.proto == 0 || r.proto == s.route.proto)
    };
    Ok(net.del_route6_of(c.ns, s.table, (s.dst, s.len), fits)?)
}

/// `ip -6 route get`.
#[doc(alias = "inet6_rtm_getroute")]
pub(crate) fn get(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let mut fl = Flow::to(Ipv6Addr::UNSPECIFIED.into());
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => fl.daddr = v6_of(v)?.into(),
            RTA_SRC => fl.saddr = v6_of(v)?.into(),
            RTA_OIF => match u32_of(v)? {
                0 => {}
                n => fl.oif = Some(device(net, c, n)?),
            },
            RTA_MARK => fl.mark = u32_of(v)?,
            RTA_UID => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let (IpAddr::V6(dst), IpAddr::V6(src)) = (fl.daddr, fl.saddr) else { return Err(Errno::EINVAL.into()) };
    let found = af::route_output(net, c.ns, &fl)?;
    let now = net.env.now;
    let local = found.kind == RouteKind::Local;
    let n = net.ns.get(c.ns).ok_or(Errno::ENETUNREACH)?;
    let source = [fl.saddr, found.src].into_iter().find(|a| !a.is_unspecified());
    let asked = RuleFlow { src: source, dst: dst.into(), iif: n.lo, oif: fl.oif, tos: fl.tos, mark: fl.mark };
    let through = fl.oif.or(Some(found.dev).filter(|_| !local));
    let (table, entry) = match n.v6.fib.lookup_alive(&asked, through, now, |_| true) {
        Some((table, r)) => (table, Some(r)),
        None => (if local { fib::RT_TABLE_LOCAL } else { fib::RT_TABLE_MAIN }, None),
    };
    let kind = match found.kind {
        RouteKind::Local => RTN_LOCAL,
        RouteKind::Multicast => RTN_MULTICAST,
        _ => RTN_UNICAST,
    };
    let msg = RtMsg {
        family: abi::AF_INET6 as u8,
        dst_len: 128,
        src_len: 128,
        table: short_table(table),
        protocol: entry.map_or(0, |e| e.proto),
        kind,
        ..RtMsg::default()
    };
    let h = Head::reply(RTM_NEWROUTE, c, r);
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(RTA_DST, &dst.octets()).attr(RTA_SRC, &src.octets()).attr_u32(RTA_TABLE, table);
    if let IpAddr::V6(prefsrc) = found.src {
        m.attr(RTA_PREFSRC, &prefsrc.octets());
    }
    m.attr_u32(RTA_PRIORITY, entry.map_or(0, |e| e.metric));
    put_metrics(dst_metrics::of_path(net, c.ns, fl.daddr, &found).as_ref(), &mut m);
    if let Some(IpAddr::V6(gw)) = found.gateway {
        m.attr(RTA_GATEWAY, &gw.octets());
    }
    let dev = if local { entry.and_then(|e| e.dev).or(Some(found.dev)) } else { Some(found.dev) };
    m.attr_u32(RTA_OIF, index(net, dev)).attr(RTA_CACHEINFO, &cacheinfo(0));
    m.attr_u8(RTA_PREF, entry.map_or(0, |e| pref(e.pref)));
    Ok(())
}
