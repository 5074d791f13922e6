//! Routes of IPv6: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE and dumps.
use super::route::{RTNH_LEN, ip_proto, metrics, next_hops, put_metrics, rtn, rtn_of, short_table};
use super::{Caller, Done, Dump, Head, Req, device, index, refuse, u32_of, v6_of};
use crate::env::SEC;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::af::{self, Flow};
use crate::net::core::dst_metrics::{self, DstMetrics};
use crate::net::core::fib_rules::RuleFlow;
use crate::net::ipv4::fib::{self, RouteType};
use crate::net::ipv4::route::RouteKind;
use crate::net::ipv4::rule::Insert;
use crate::net::ipv6::fib::{Found6, PRIO_USER, PROTO_KERNEL, Pref, Route6, mask};
use crate::net::ipv6::route::{self, linked};
use crate::net::nexthop;
use belljar_abi::netlink::{self as nl, Msg, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::ipv4::IPPROTO_UDP;
use belljar_wire::ipv6::NEXTHDR_ICMP;
use core::net::{IpAddr, Ipv6Addr};

/// `RTNH_F_*` of a next hop.
fn hop_flags(net: &Net, r: &Route6) -> u32 {
    let onlink = if r.onlink { RTNH_F_ONLINK } else { 0 };
    onlink
        | match r.dev.and_then(|d| net.devs.get(d)) {
            Some(d) if !d.up && r.can_ecmp() => RTNH_F_DEAD | RTNH_F_LINKDOWN,
            Some(_) if r.is_here() => 0,
            Some(d) if d.up && !d.carrier && d.inet6.conf.ignore_routes_with_linkdown != 0 => {
                RTNH_F_DEAD | RTNH_F_LINKDOWN
            }
            Some(d) if d.up && !d.carrier => RTNH_F_LINKDOWN,
            _ => 0,
        }
}

/// One route, with the next hops that share it.
#[doc(alias = "rt6_fill_node")]
pub(crate) fn fill(
    net: &Net,
    ns: NsId,
    table: u32,
    (dst, len): (Ipv6Addr, u8),
    hops: &[Route6],
    out: &mut Vec<u8>,
    h: Head,
) {
    let Some(r) = hops.first() else { return };
    let by_object = r.nhid != 0 && !nexthop::shown_in_routes(net, ns);
    let msg = RtMsg {
        family: abi::AF_INET6 as u8,
        dst_len: len,
        table: short_table(table),
        protocol: r.proto,
        // Only the groups of a link, which the kernel itself routes, are called so.
        kind: match r.kind {
            RouteType::Unicast if dst.is_multicast() && r.proto == PROTO_KERNEL => RTN_MULTICAST,
            kind => rtn(kind),
        },
        flags: if hops.len() == 1 && !by_object { hop_flags(net, r) } else { 0 },
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
    if r.nhid != 0 {
        m.attr_u32(RTA_NH_ID, r.nhid);
    }
    if by_object {
        // The object has them.
    } else if hops.len() > 1 {
        m.attr(RTA_MULTIPATH, &hops.iter().flat_map(|r| next_hop(net, r)).collect::<Vec<u8>>());
    } else {
        if let Some(gw) = r.gateway {
            m.attr(RTA_GATEWAY, &gw.octets());
        }
        // What refuses stands at lo, which every namespace has as its first device.
        m.attr_u32(RTA_OIF, if r.dev.is_some() { index(net, r.dev) } else { 1 });
    }
    let left = r.expires.map_or(0, |at| (at.saturating_sub(net.env.now) / 10_000_000) as u32);
    m.attr(RTA_CACHEINFO, &cacheinfo(left));
    m.attr_u8(RTA_PREF, pref(r.pref));
}

/// `struct rtnexthop` and its router.
fn next_hop(net: &Net, r: &Route6) -> Vec<u8> {
    let gateway =
        r.gateway.map(|g| [&[20, 0][..], &RTA_GATEWAY.to_ne_bytes(), &g.octets()].concat()).unwrap_or_default();
    let len = ((RTNH_LEN + gateway.len()) as u16).to_ne_bytes();
    let about = [hop_flags(net, r) as u8, r.weight.saturating_sub(1) as u8];
    [&len[..], &about, &index(net, r.dev).to_ne_bytes(), &gateway].concat()
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
        for (dst, routes) in t.prefixes() {
            let mut rest = routes;
            while let Some(r) = rest.first() {
                // All next hops in the place of the first; what stands between them is passed over, as Linux does.
                let hops: Vec<Route6> = routes.iter().filter(|o| o.is_sibling(r)).copied().collect();
                let last = rest.iter().rposition(|o| o.is_sibling(r)).unwrap_or(0);
                rest = rest.get(last + 1..).unwrap_or(&[]);
                if !c.strict || msg.protocol == 0 || msg.protocol == r.proto {
                    let h = Head::dump(RTM_NEWROUTE, d);
                    fill(net, c.ns, id, dst, &hops, d.room(), h);
                }
            }
        }
    }
    Ok(())
}

/// A route as a request has it.
struct Spec {
    table: u32,
    dst: Ipv6Addr,
    len: u8,
    has_type: bool,
    has_metric: bool,
    route: Route6,
    /// Next hops where it was told of several.
    hops: Vec<Route6>,
    metrics: DstMetrics,
}

fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Spec> {
    let msg = RtMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.dst_len > 128 {
        return refuse(Errno::EINVAL, "Invalid prefix length");
    }
    if msg.src_len != 0 || msg.flags & !RTNH_F_ONLINK != 0 {
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
        hops: Vec::new(),
        route: Route6 { kind: rtn_of(msg.kind)?, proto: msg.protocol, ..Route6::unicast(None, None) },
    };
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => s.dst = v6_of(v)?,
            RTA_OIF => match u32_of(v)? {
                0 => {}
                n => s.route.dev = Some(device(net, c, n)?),
            },
            RTA_GATEWAY => s.route.gateway = Some(v6_of(v)?),
            RTA_EXPIRES => s.route.expires = Some(net.env.now.saturating_add(u64::from(u32_of(v)?) * SEC)),
            RTA_PRIORITY => {
                s.route.metric = u32_of(v)?;
                s.has_metric = s.route.metric != 0;
            }
            RTA_PREFSRC => s.route.prefsrc = Some(v6_of(v)?),
            RTA_TABLE => table = u32_of(v)?,
            RTA_METRICS => s.metrics = metrics(v)?,
            RTA_MULTIPATH => s.hops = multipath(net, c, v)?,
            RTA_NH_ID => s.route.nhid = u32_of(v)?,
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
    s.route.onlink = msg.flags & RTNH_F_ONLINK != 0;
    let own = s.route.gateway.is_some() || s.route.dev.is_some() || !s.hops.is_empty();
    if s.route.nhid != 0 && own {
        return refuse(Errno::EINVAL, "Nexthop specification and nexthop id are mutually exclusive");
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

/// The next hops of a request.
fn multipath(net: &Net, c: &Caller<'_>, v: &[u8]) -> Done<Vec<Route6>> {
    let mut hops = Vec::new();
    for hop in next_hops(v) {
        let (index, flags, weight, attrs) = hop?;
        let dev = if index == 0 { None } else { Some(device(net, c, index)?) };
        let mut hop = Route6 { weight: u16::from(weight) + 1, ..Route6::unicast(None, dev) };
        hop.onlink = u32::from(flags) & RTNH_F_ONLINK != 0;
        for (kind, v) in nl::attrs(attrs) {
            match kind {
                RTA_GATEWAY => hop.gateway = Some(v6_of(v)?),
                _ => return Err(Errno::EOPNOTSUPP.into()),
            }
        }
        hops.push(hop);
    }
    if hops.is_empty() { Err(Errno::EINVAL.into()) } else { Ok(hops) }
}

#[doc(alias = "inet6_rtm_newroute")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let metrics = net.ns.get_mut(c.ns).ok_or(Errno::ENODEV)?.metrics_id(&s.metrics)?;
    let route = Route6 { metrics, ..s.route };
    let several = !s.hops.is_empty();
    let mut hops = if several { s.hops } else { vec![route] };
    if several && route.kind == RouteType::Unicast {
        let of = |h: &Route6| Route6 { gateway: h.gateway, dev: h.dev, weight: h.weight, onlink: h.onlink, ..route };
        hops.iter_mut().for_each(|h| *h = of(h));
        if hops.iter().any(|h| !h.can_ecmp()) {
            let text = "Device only routes can not be added for IPv6 using the multipath API.";
            return refuse(Errno::EINVAL, text);
        }
    } else if several {
        hops.iter_mut().for_each(|h| *h = route);
    }
    if route.nhid != 0 {
        hops = by_object(net, c, &route)?;
    }
    check(net, c.ns, &mut hops)?;
    let how = Insert {
        create: r.flag(NLM_F_CREATE),
        excl: r.flag(NLM_F_EXCL),
        replace: r.flag(NLM_F_REPLACE),
        append: r.flag(NLM_F_APPEND),
    };
    match net.insert_route6(c.ns, s.table, (s.dst, s.len), &mut hops, how) {
        Err(Errno::ENETDOWN) => refuse(Errno::ENETDOWN, "Nexthop device is not up"),
        Err(Errno::EINVAL) => refuse(Errno::EINVAL, "Gateway can not be a local address"),
        Err(Errno::ENOENT) if how.replace => refuse(Errno::ENOENT, "Can not replace route - no match found"),
        Err(Errno::ENOENT) => refuse(Errno::ENOENT, "NLM_F_CREATE should be specified when creating new route"),
        done => Ok(done?),
    }
}

/// What Linux says of next hops and sources before it asks where they lead. What refuses has no next hop, whatever was said.
#[doc(alias = "fib6_nh_init")]
fn check(net: &Net, ns: NsId, hops: &mut [Route6]) -> Done {
    for h in hops {
        if matches!(h.kind, RouteType::Unreachable | RouteType::Blackhole | RouteType::Prohibit | RouteType::Throw) {
            (h.gateway, h.dev, h.onlink) = (None, None, false);
        }
        if h.onlink && h.dev.is_none() {
            return refuse(Errno::ENODEV, "Nexthop device required for onlink");
        }
        if let Err(text) = net.validate_gw6(ns, h) {
            return refuse(Errno::EINVAL, text);
        }
        if h.prefsrc.is_some_and(|src| !route::is_local(net, ns, src)) {
            return refuse(Errno::EINVAL, "Invalid source address");
        }
    }
    Ok(())
}

/// The next hops that an object stands for.
#[doc(alias = "fib6_check_nexthop")]
fn by_object(net: &Net, c: &Caller<'_>, route: &Route6) -> Done<Vec<Route6>> {
    if !net.ns.get(c.ns).is_some_and(|n| n.nexthops.all.contains_key(&route.nhid)) {
        return refuse(Errno::EINVAL, "Nexthop id does not exist");
    }
    match nexthop::routes6(net, c.ns, route.nhid, route) {
        Some(hops) => Ok(hops),
        None => refuse(Errno::EINVAL, "IPv6 routes can not use an IPv4 nexthop"),
    }
}

/// One route with all its next hops, or each next hop that the request names.
#[doc(alias = "inet6_rtm_delroute")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    if net.ns.get(c.ns).is_some_and(|n| n.v6.fib.table(s.table).is_none()) {
        return refuse(Errno::ESRCH, "FIB table does not exist");
    }
    let hops = if s.hops.is_empty() { vec![s.route] } else { s.hops };
    for hop in &hops {
        let fits = |r: &Route6| {
            (!s.has_type || r.kind == s.route.kind)
                && (!s.has_metric || r.metric == s.route.metric)
                && (s.route.nhid == 0 || r.nhid == s.route.nhid)
                && (hop.dev.is_none() || r.dev == hop.dev)
                && (hop.gateway.is_none() || r.gateway == hop.gateway)
                && (s.route.proto == 0 || r.proto == s.route.proto)
        };
        let done = net.del_route6_of(c.ns, s.table, (s.dst, s.len), hop.gateway.is_none(), fits);
        // At the root of the tree stands what says that there is no way, which cannot be deleted.
        let root = s.len == 0 && hop.dev.is_none() && hop.gateway.is_none() && !s.has_metric;
        done.map_err(|e| if root && e == Errno::ESRCH { Errno::ENOENT } else { e })?;
    }
    Ok(())
}

/// `ip -6 route get`.
#[doc(alias = "inet6_rtm_getroute")]
pub(crate) fn get(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let msg = RtMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let mut fl = Flow { proto: IPPROTO_UDP, uid: c.uid, ..Flow::to(Ipv6Addr::UNSPECIFIED.into()) };
    let mut iif = None;
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => fl.daddr = v6_of(v)?.into(),
            RTA_SRC => fl.saddr = v6_of(v)?.into(),
            RTA_OIF => match u32_of(v)? {
                0 => {}
                n => fl.oif = Some(device(net, c, n)?),
            },
            RTA_IIF => match u32_of(v)? {
                0 => {}
                n => iif = Some(device(net, c, n)?),
            },
            RTA_MARK => fl.mark = u32_of(v)?,
            RTA_UID => fl.uid = u32_of(v)?,
            RTA_IP_PROTO => fl.proto = ip_proto(v, NEXTHDR_ICMP)?,
            RTA_SPORT | RTA_DPORT => {
                let port = v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL)?;
                if kind == RTA_SPORT { fl.ports.0 = port } else { fl.ports.1 = port }
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let (IpAddr::V6(dst), IpAddr::V6(src)) = (fl.daddr, fl.saddr) else { return Err(Errno::EINVAL.into()) };
    if let Some(dev) = iif {
        return get_input(net, (c, r), (&fl, dev), (src, dst), out);
    }
    let found = af::route_output(net, c.ns, &fl)?;
    // Shown is the source that would be taken, also by who names another.
    let taken = match src.is_unspecified() {
        true => Ok(found),
        false => af::route_output(net, c.ns, &Flow { saddr: Ipv6Addr::UNSPECIFIED.into(), ..fl }),
    };
    let now = net.env.now;
    let local = found.kind == RouteKind::Local;
    let n = net.ns.get(c.ns).ok_or(Errno::ENETUNREACH)?;
    let source = [fl.saddr, found.src].into_iter().find(|a| !a.is_unspecified());
    let (oif, tos, mark, l4) = (fl.oif, fl.tos, fl.mark, fl.l4());
    let asked = RuleFlow { src: source, dst: dst.into(), iif: n.lo, oif, tos, mark, l4 };
    let through = fl.oif.or(Some(found.dev).filter(|_| !local));
    let (table, entry) = match n.v6.fib.lookup_alive(&asked, through, now, |r| linked(net, n, r), |_| true) {
        Some(f) if msg.flags & RTM_F_FIB_MATCH != 0 => {
            fib_match(net, (c, r), dst, &f, out);
            return Ok(());
        }
        Some(f) => (f.table, Some(f.route)),
        None => (if local { fib::RT_TABLE_LOCAL } else { fib::RT_TABLE_MAIN }, None),
    };
    let kind = match found.kind {
        RouteKind::Local => RTN_LOCAL,
        RouteKind::Multicast => RTN_MULTICAST,
        _ => RTN_UNICAST,
    };
    let way = Way { table, entry, kind, dev: found.dev, gateway: found.gateway };
    let metrics = dst_metrics::of_path(net, c.ns, fl.daddr, &found);
    let prefsrc = taken.map_or(found.src, |t| t.src);
    let prefsrc = if let IpAddr::V6(a) = prefsrc { Some(a) } else { None };
    answer(net, (c, r), (src, dst), &way, (prefsrc, metrics.as_ref(), None), out);
    Ok(())
}

/// The whole route that was found, with its other next hops.
fn fib_match(net: &Net, (c, r): (&Caller<'_>, Req<'_>), dst: Ipv6Addr, f: &Found6, out: &mut Vec<u8>) {
    let at = Ipv6Addr::from_bits(dst.to_bits() & mask(f.prefix));
    let there = net.ns.get(c.ns).and_then(|n| n.v6.fib.table(f.table)).map_or(&[][..], |t| t.get(at, f.prefix));
    let hops: Vec<Route6> = there.iter().filter(|o| o.is_sibling(&f.route)).copied().collect();
    fill(net, c.ns, f.table, (at, f.prefix), &hops, out, Head::reply(RTM_NEWROUTE, c, r));
}

/// The way of a packet, as it is told.
struct Way {
    table: u32,
    entry: Option<Route6>,
    kind: u8,
    dev: DevId,
    gateway: Option<IpAddr>,
}

/// That of one which came in through a device.
fn get_input(
    net: &Net,
    (c, r): (&Caller<'_>, Req<'_>),
    (fl, iif): (&Flow, DevId),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    out: &mut Vec<u8>,
) -> Done {
    let n = net.ns.get(c.ns).ok_or(Errno::ENETUNREACH)?;
    // A group's would have to be one that multicast routing knows, of which there is none.
    if dst.is_multicast() {
        return Err(Errno::EMSGSIZE.into());
    }
    let (f, gateway) = route::input_route(net, c.ns, iif, fl, (src, dst))?;
    if RtMsg::parse(r.body).is_some_and(|m| m.flags & RTM_F_FIB_MATCH != 0) {
        fib_match(net, (c, r), dst, &f, out);
        return Ok(());
    }
    let (kind, dev) = match f.route.is_here() {
        true => (RTN_LOCAL, n.lo),
        false => (RTN_UNICAST, f.route.dev.ok_or(Errno::ENETUNREACH)?),
    };
    let way = Way { table: f.table, entry: Some(f.route), kind, dev, gateway };
    let metrics = n.metrics.get(f.route.metrics);
    answer(net, (c, r), (src, dst), &way, (f.route.prefsrc, metrics, Some(iif)), out);
    Ok(())
}

#[doc(alias = "rt6_fill_node")]
fn answer(
    net: &Net,
    (c, r): (&Caller<'_>, Req<'_>),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    way: &Way,
    (prefsrc, metrics, iif): (Option<Ipv6Addr>, Option<&DstMetrics>, Option<DevId>),
    out: &mut Vec<u8>,
) {
    let msg = RtMsg {
        family: abi::AF_INET6 as u8,
        dst_len: 128,
        src_len: 128,
        table: short_table(way.table),
        protocol: way.entry.map_or(0, |e| e.proto),
        kind: way.kind,
        ..RtMsg::default()
    };
    let h = Head::reply(RTM_NEWROUTE, c, r);
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(RTA_DST, &dst.octets()).attr(RTA_SRC, &src.octets()).attr_u32(RTA_TABLE, way.table);
    if let Some(prefsrc) = prefsrc {
        m.attr(RTA_PREFSRC, &prefsrc.octets());
    }
    m.attr_u32(RTA_PRIORITY, way.entry.map_or(0, |e| e.metric));
    if let Some(dev) = iif {
        m.attr_u32(RTA_IIF, index(net, Some(dev)));
    }
    put_metrics(metrics, &mut m);
    if let Some(IpAddr::V6(gw)) = way.gateway {
        m.attr(RTA_GATEWAY, &gw.octets());
    }
    m.attr_u32(RTA_OIF, index(net, Some(way.dev))).attr(RTA_CACHEINFO, &cacheinfo(0));
    m.attr_u8(RTA_PREF, way.entry.map_or(0, |e| pref(e.pref)));
}
