//! Routes of IPv4: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE and dumps.
use super::addr::{scope_number, scope_of};
use super::{Caller, Done, Dump, Head, Req, device, index, refuse, str_of, u32_of, v4_of};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dst_metrics::{self, DstMetrics};
use crate::net::ipv4::fib::{self, Route, RouteType, Table};
use crate::net::ipv4::route::{self as ip_route, Dst, Flow4, InputError, RouteKind};
use crate::net::ipv4::rule::{FibFlow, HashKeys, Insert};
use crate::net::nexthop;
use belljar_abi::netlink::{self as nl, Msg, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLMSG_HDRLEN};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use core::net::{IpAddr, Ipv4Addr};

/// `struct rtnexthop`.
pub(super) const RTNH_LEN: usize = 8;
/// Of what a lookup found (`RTCF_*`, shown as flags of the route).
const RTCF_BROADCAST: u32 = 0x1000_0000;
const RTCF_MULTICAST: u32 = 0x2000_0000;
const RTCF_LOCAL: u32 = 0x8000_0000;

pub(crate) fn rtn(kind: RouteType) -> u8 {
    match kind {
        RouteType::Unicast => RTN_UNICAST,
        RouteType::Local => RTN_LOCAL,
        RouteType::Broadcast => RTN_BROADCAST,
        RouteType::Anycast => RTN_ANYCAST,
        RouteType::Unreachable => RTN_UNREACHABLE,
        RouteType::Blackhole => RTN_BLACKHOLE,
        RouteType::Prohibit => RTN_PROHIBIT,
        RouteType::Throw => RTN_THROW,
    }
}

pub(crate) fn rtn_of(n: u8) -> Done<RouteType> {
    Ok(match n {
        RTN_UNICAST | RTN_UNSPEC => RouteType::Unicast,
        RTN_LOCAL => RouteType::Local,
        RTN_BROADCAST => RouteType::Broadcast,
        RTN_UNREACHABLE => RouteType::Unreachable,
        RTN_BLACKHOLE => RouteType::Blackhole,
        RTN_PROHIBIT => RouteType::Prohibit,
        RTN_THROW => RouteType::Throw,
        _ => return Err(Errno::EINVAL.into()),
    })
}

/// The table's number where only a byte is.
pub(crate) fn short_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RT_TABLE_COMPAT)
}

/// One route with its next hops.
#[doc(alias = "fib_dump_info")]
pub(crate) fn fill(
    net: &Net,
    ns: NsId,
    table: u32,
    (dst, len): (Ipv4Addr, u8),
    hops: &[Route],
    out: &mut Vec<u8>,
    h: Head,
) {
    let Some(first) = hops.first() else { return };
    let onlink = |r: &Route| if r.onlink { RTNH_F_ONLINK } else { 0 };
    let down = |r: &Route| match r.dev.and_then(|d| net.devs.get(d)) {
        Some(d) if d.up && !d.carrier && r.kind != RouteType::Local => match d.conf.ignore_routes_with_linkdown {
            true => RTNH_F_DEAD | RTNH_F_LINKDOWN,
            false => RTNH_F_LINKDOWN,
        },
        _ => 0,
    };
    let by_object = first.nhid != 0 && !nexthop::shown_in_routes(net, ns);
    let msg = RtMsg {
        family: abi::AF_INET as u8,
        dst_len: len,
        table: short_table(table),
        protocol: first.proto,
        scope: scope_number(first.scope),
        kind: rtn(first.kind),
        flags: if hops.len() == 1 && !by_object { onlink(first) | down(first) } else { 0 },
        ..RtMsg::default()
    };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr_u32(RTA_TABLE, table);
    if len > 0 {
        m.attr(RTA_DST, &dst.octets());
    }
    if first.metric != 0 {
        m.attr_u32(RTA_PRIORITY, first.metric);
    }
    put_metrics(net.ns.get(ns).and_then(|n| n.metrics.get(first.metrics)), &mut m);
    if let Some(src) = first.src {
        m.attr(RTA_PREFSRC, &src.octets());
    }
    if first.nhid != 0 {
        m.attr_u32(RTA_NH_ID, first.nhid);
    }
    if by_object {
        return;
    }
    if let [only] = hops {
        if let Some(gw) = only.gateway {
            m.attr(RTA_GATEWAY, &gw.octets());
        }
        if only.dev.is_some() {
            m.attr_u32(RTA_OIF, index(net, only.dev));
        }
        return;
    }
    let mut list = Vec::new();
    for r in hops {
        let gateway = r.gateway.map(|g| [&[8, 0][..], &RTA_GATEWAY.to_ne_bytes(), &g.octets()].concat());
        let rest = gateway.unwrap_or_default();
        list.extend_from_slice(&((RTNH_LEN + rest.len()) as u16).to_ne_bytes());
        list.extend_from_slice(&[(onlink(r) | down(r)) as u8, r.weight.saturating_sub(1) as u8]);
        list.extend_from_slice(&(index(net, r.dev) as i32).to_ne_bytes());
        list.extend_from_slice(&rest);
    }
    m.attr(RTA_MULTIPATH, &list);
}

#[doc(alias = "rtnetlink_put_metrics")]
pub(crate) fn put_metrics(metrics: Option<&DstMetrics>, m: &mut Msg<'_>) {
    let Some(metrics) = metrics else { return };
    m.nest(RTA_METRICS, |m| {
        for which in 1..=RTAX_FASTOPEN_NO_COOKIE {
            match (which, metrics.congestion()) {
                (RTAX_CC_ALGO, Some(name)) => _ = m.attr_str(RTAX_CC_ALGO, name.name()),
                _ if metrics.get(which) != 0 => _ = m.attr_u32(which, metrics.get(which)),
                _ => {}
            }
        }
    });
}

/// By table, then by destination, longer prefixes first; with NETLINK_GET_STRICT_CHK what the header names filters.
#[doc(alias = "inet_dump_fib")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let Some(n) = net.ns.get(c.ns) else { return Ok(()) };
    let msg = RtMsg::parse(r.body).unwrap_or_default();
    let wanted = match r.attr(RtMsg::LEN, RTA_TABLE) {
        Some(v) => u32_of(v)?,
        None => msg.table.into(),
    };
    let oif = match r.attr(RtMsg::LEN, RTA_OIF).filter(|_| c.strict) {
        Some(v) => Some(device(net, c, u32_of(v)?)?),
        None => None,
    };
    let fits = |first: &Route| {
        !c.strict
            || ((msg.protocol == 0 || msg.protocol == first.proto)
                && (msg.kind == 0 || msg.kind == rtn(first.kind))
                && (oif.is_none() || first.dev == oif))
    };
    let mut tables: Vec<(u32, &Table)> = n.fib.others.iter().map(|(id, t)| (*id, t)).collect();
    tables.extend([(fib::RT_TABLE_MAIN, &n.fib.main), (fib::RT_TABLE_LOCAL, &n.fib.local)]);
    tables.sort_by_key(|(id, _)| (id & 0xff, *id));
    for (id, t) in tables.into_iter().filter(|(id, _)| !c.strict || wanted == 0 || wanted == *id) {
        let mut rows: Vec<(Ipv4Addr, u8)> = t.iter().map(|(dst, len, _)| (dst, len)).collect();
        rows.sort_by_key(|(dst, len)| (*dst, std::cmp::Reverse(*len)));
        rows.dedup();
        for (dst, len) in rows {
            for hops in t.get(dst, len).chunk_by(|a, b| a.group != 0 && a.group == b.group) {
                if hops.first().is_some_and(fits) {
                    let h = Head::dump(RTM_NEWROUTE, d);
                    fill(net, c.ns, id, (dst, len), hops, d.room(), h);
                }
            }
        }
    }
    Ok(())
}

/// A route as a request has it.
struct Spec {
    msg: RtMsg,
    dst: Ipv4Addr,
    table: u32,
    route: Route,
    /// Next hops where there are several.
    hops: Vec<Route>,
    metrics: DstMetrics,
    has_type: bool,
}

fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Spec> {
    let msg = RtMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.dst_len > 32 {
        return refuse(Errno::EINVAL, "Invalid prefix length");
    }
    if msg.src_len != 0 || msg.tos != 0 || msg.flags & !RTNH_F_ONLINK != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut s = Spec {
        msg,
        dst: Ipv4Addr::UNSPECIFIED,
        table: msg.table.into(),
        route: Route { kind: rtn_of(msg.kind)?, proto: msg.protocol, ..Route::unicast(None, None) },
        hops: Vec::new(),
        metrics: DstMetrics::default(),
        has_type: msg.kind != RTN_UNSPEC,
    };
    s.route.onlink = msg.flags & RTNH_F_ONLINK != 0;
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => s.dst = v4_of(v)?,
            RTA_OIF => match u32_of(v)? {
                0 => {}
                n => s.route.dev = Some(device(net, c, n)?),
            },
            RTA_GATEWAY => s.route.gateway = Some(v4_of(v)?).filter(|g| !g.is_unspecified()),
            RTA_PRIORITY => s.route.metric = u32_of(v)?,
            RTA_PREFSRC => s.route.src = Some(v4_of(v)?),
            RTA_TABLE => s.table = u32_of(v)?,
            RTA_METRICS => s.metrics = metrics(v)?,
            RTA_MULTIPATH => s.hops = multipath(net, c, v)?,
            RTA_NH_ID => s.route.nhid = u32_of(v)?,
            RTA_CACHEINFO => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    if s.table == 0 {
        s.table = fib::RT_TABLE_MAIN;
    }
    let own = s.route.gateway.is_some() || s.route.dev.is_some() || !s.hops.is_empty();
    if s.route.nhid != 0 && own {
        return refuse(Errno::EINVAL, "Nexthop specification and nexthop id are mutually exclusive");
    }
    if s.dst.to_bits() & !crate::net::core::dev::mask(msg.dst_len) != 0 {
        return refuse(Errno::EINVAL, "Invalid prefix for given prefix length");
    }
    Ok(s)
}

pub(crate) fn metrics(v: &[u8]) -> Done<DstMetrics> {
    let mut metrics = DstMetrics::default();
    for (kind, v) in nl::attrs(v) {
        let set = match kind {
            RTAX_UNSPEC => Ok(()),
            RTAX_CC_ALGO => metrics.set_congestion(str_of(v)?),
            _ => metrics.set(kind, u32_of(v).or_else(|_| refuse(Errno::EINVAL, "Invalid attribute in metrics"))?),
        };
        set.or_else(|text| refuse(Errno::EINVAL, text))?;
    }
    Ok(metrics)
}

/// `struct rtnexthop`s: device, flags, weight less one, attributes.
pub(super) fn next_hops(mut v: &[u8]) -> impl Iterator<Item = Result<(u32, u8, u8, &[u8]), Errno>> {
    std::iter::from_fn(move || {
        let head: &[u8; RTNH_LEN] = match v.first_chunk() {
            Some(head) => head,
            None if v.is_empty() => return None,
            None => return Some(Err(Errno::EINVAL)),
        };
        let [l0, l1, flags, weight, i0, i1, i2, i3] = *head;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let attrs = v.get(RTNH_LEN..len);
        v = v.get(nl::align(len)..).filter(|_| attrs.is_some()).unwrap_or(&[]);
        Some(attrs.map(|a| (u32::from_ne_bytes([i0, i1, i2, i3]), flags, weight, a)).ok_or(Errno::EINVAL))
    })
}

#[doc(alias = "fib_get_nhs")]
fn multipath(net: &Net, c: &Caller<'_>, v: &[u8]) -> Done<Vec<Route>> {
    let mut hops = Vec::new();
    for hop in next_hops(v) {
        let (index, flags, weight, attrs) = hop?;
        let dev = if index == 0 { None } else { Some(device(net, c, index)?) };
        let mut hop = Route { weight: u16::from(weight) + 1, ..Route::unicast(None, dev) };
        hop.onlink = u32::from(flags) & RTNH_F_ONLINK != 0;
        for (kind, v) in nl::attrs(attrs) {
            match kind {
                RTA_GATEWAY => hop.gateway = Some(v4_of(v)?),
                _ => return Err(Errno::EOPNOTSUPP.into()),
            }
        }
        hops.push(hop);
    }
    if hops.is_empty() { Err(Errno::EINVAL.into()) } else { Ok(hops) }
}

#[doc(alias = "inet_rtm_newroute")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let mut route = s.route;
    route.metrics = net.ns.get_mut(c.ns).ok_or(Errno::ENODEV)?.metrics_id(&s.metrics)?;
    route.scope = scope_of(s.msg.scope)?;
    if let Some(src) = route.src
        && route.kind != RouteType::Local
        && !ip_route::is_local(net, c.ns, src)
    {
        return refuse(Errno::EINVAL, "Invalid prefsrc address");
    }
    let several = !s.hops.is_empty();
    let mut hops = if several { s.hops } else { vec![route] };
    for h in &mut hops {
        *h = Route { gateway: h.gateway, dev: h.dev, weight: h.weight, onlink: h.onlink, ..route };
    }
    if route.nhid != 0 {
        hops = by_object(net, c, &route)?;
    }
    if route.kind == RouteType::Unicast && hops.iter().any(|h| h.dev.is_none() && h.gateway.is_none()) {
        return refuse(Errno::ENODEV, "Nexthop device required");
    }
    let how = Insert {
        create: r.flag(NLM_F_CREATE),
        excl: r.flag(NLM_F_EXCL),
        replace: r.flag(NLM_F_REPLACE),
        append: r.flag(NLM_F_APPEND),
    };
    let gateway = hops.iter().any(|h| h.gateway.is_some());
    match net.insert_route(c.ns, s.table, (s.dst, s.msg.dst_len), &mut hops, how) {
        Err(Errno::ENETUNREACH) if gateway => refuse(Errno::ENETUNREACH, "Nexthop has invalid gateway"),
        Err(Errno::ENETDOWN) => refuse(Errno::ENETDOWN, "Device for nexthop is not up"),
        done => Ok(done?),
    }
}

/// The next hops that an object stands for.
#[doc(alias = "fib_check_nexthop")]
fn by_object(net: &Net, c: &Caller<'_>, route: &Route) -> Done<Vec<Route>> {
    if !net.ns.get(c.ns).is_some_and(|n| n.nexthops.all.contains_key(&route.nhid)) {
        return refuse(Errno::EINVAL, "Nexthop id does not exist");
    }
    // By routers of IPv6.
    Ok(nexthop::routes4(net, c.ns, route.nhid, route).ok_or(Errno::EOPNOTSUPP)?)
}

/// The first that is as the request says it is.
#[doc(alias = "inet_rtm_delroute")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(net, c, r)?;
    let want = s.route;
    let metrics = net.ns.get(c.ns).map(|n| n.metrics.clone()).unwrap_or_default();
    let scope = match s.msg.scope {
        RT_SCOPE_NOWHERE => None,
        n => Some(scope_of(n)?),
    };
    let several = r.attr(RtMsg::LEN, RTA_MULTIPATH).unwrap_or(&[]);
    let wanted = |r: &Route| {
        (!s.has_type || r.kind == want.kind)
            && scope.is_none_or(|s| r.scope == s)
            && (want.src.is_none() || r.src == want.src)
            && (want.proto == 0 || r.proto == want.proto)
            && (want.metric == 0 || r.metric == want.metric)
            && (want.dev.is_none() || r.dev == want.dev)
            && (want.nhid == 0 || r.nhid == want.nhid)
            && s.metrics.fit(metrics.get(r.metrics))
            && (want.gateway.is_none() || r.gateway == want.gateway)
    };
    let Some(table) = net.ns.get(c.ns).and_then(|n| n.fib.table(s.table)) else {
        return refuse(Errno::ESRCH, "FIB table does not exist");
    };
    let there = table.get(s.dst, s.msg.dst_len);
    let mut routes = there.chunk_by(|a, b| a.group != 0 && a.group == b.group);
    let found = routes.find(|hops| hops.first().is_some_and(&wanted) && has_next_hops(net, several, hops));
    let first = found.and_then(|hops| hops.first()).copied().ok_or(Errno::ESRCH)?;
    Ok(net.del_route_of(c.ns, s.table, s.dst, s.msg.dst_len, |r| *r == first)?)
}

/// Whether a route's next hops are those of a request, one after the other: by device and router, where it says so; it may have more.
#[doc(alias = "fib_nh_match")]
fn has_next_hops(net: &Net, asked: &[u8], hops: &[Route]) -> bool {
    let mut asked = next_hops(asked).peekable();
    asked.peek().is_none()
        || hops.iter().all(|r| {
            let Some(Ok((oif, _, _, attrs))) = asked.next() else { return false };
            let gateway = nl::attrs(attrs).find(|(kind, _)| *kind == RTA_GATEWAY).and_then(|(_, v)| v4_of(v).ok());
            (oif == 0 || oif == index(net, r.dev)) && (attrs.is_empty() || gateway == r.gateway)
        })
}

/// `ip route get`: the stack's own lookup of a packet from here, or of one that came in through `iif`.
#[doc(alias = "inet_rtm_getroute")]
pub(crate) fn get(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let msg = RtMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let (mut fl, mut iif) = (Flow4::to(Ipv4Addr::UNSPECIFIED), None);
    (fl.tos, fl.proto, fl.uid) = (msg.tos, IPPROTO_UDP, c.uid);
    for (kind, v) in r.attrs(RtMsg::LEN) {
        match kind {
            RTA_DST => fl.daddr = v4_of(v)?,
            RTA_SRC => fl.saddr = v4_of(v)?,
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
            RTA_IP_PROTO => fl.proto = ip_proto(v, IPPROTO_ICMP)?,
            RTA_SPORT | RTA_DPORT => {
                let port = v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL)?;
                if kind == RTA_SPORT { fl.ports.0 = port } else { fl.ports.1 = port }
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let found = match iif {
        None => ip_route::ip_route_output(net, c.ns, &fl)?,
        Some(dev) => {
            let keys = HashKeys { ports: fl.ports, mark: fl.mark, l4: fl.l4(), ..HashKeys::default() };
            let found = ip_route::ip_route_input(net, c.ns, dev, fl.saddr, fl.daddr, fl.proto, keys);
            found.map_err(|e| match e {
                InputError::Refused(e) => e,
                InputError::NotForwarding | InputError::NotJoined => Errno::EHOSTUNREACH,
                InputError::RpFilter => Errno::EXDEV,
                InputError::MartianSource(_) | InputError::MartianDestination(_) => Errno::EINVAL,
            })?
        }
    };
    let entry = matched(net, c.ns, &fl, iif);
    let table = match msg.flags & RTM_F_LOOKUP_TABLE {
        0 => fib::RT_TABLE_MAIN,
        _ => entry.as_ref().map_or(fib::RT_TABLE_MAIN, |m| m.table),
    };
    if msg.flags & RTM_F_FIB_MATCH != 0 {
        let m = entry.ok_or(Errno::EHOSTUNREACH)?;
        let dst = Ipv4Addr::from_bits(fl.daddr.to_bits() & crate::net::core::dev::mask(m.prefix));
        let start = out.len();
        fill(net, c.ns, table, (dst, m.prefix), &m.hops, out, Head::reply(RTM_NEWROUTE, c, r));
        // Whatever the entry says, the address is what it is.
        let kind = match found.kind {
            RouteKind::Broadcast => RTN_BROADCAST,
            RouteKind::Multicast => RTN_MULTICAST,
            _ => return Ok(()),
        };
        if let Some(at) = out.get_mut(start + NLMSG_HDRLEN + RTM_TYPE) {
            *at = kind;
        }
        return Ok(());
    }
    answer(net, c, r, &fl, iif, &found, table, out);
    Ok(())
}

/// What a way can be asked for: protocols that the lookup knows to take apart.
#[doc(alias = "rtm_getroute_parse_ip_proto")]
pub(super) fn ip_proto(v: &[u8], icmp: u8) -> Done<u8> {
    let proto = v.first().copied().ok_or(Errno::EINVAL)?;
    let known = [IPPROTO_TCP, IPPROTO_UDP, icmp].contains(&proto);
    if known { Ok(proto) } else { refuse(Errno::EOPNOTSUPP, "Unsupported ip proto") }
}

/// Where `rtm_type` lies in `struct rtmsg`.
const RTM_TYPE: usize = 7;

/// The entry that says so. A broadcast to everybody and what is bound to a device ask no table.
fn matched(net: &Net, ns: NsId, fl: &Flow4, iif: Option<DevId>) -> Option<fib::FibMatch> {
    let (src, oif, tos, mark, l4) = (fl.saddr, fl.oif, fl.tos, fl.mark, fl.l4());
    if oif.is_some() && (fl.daddr.is_broadcast() || fl.daddr.is_multicast()) {
        return None;
    }
    fib::match_flow(net, ns, &FibFlow { src, oif, iif, tos, mark, l4, ..FibFlow::to(fl.daddr) })
}

#[doc(alias = "rt_fill_info")]
#[allow(clippy::too_many_arguments)]
fn answer(
    net: &Net,
    c: &Caller<'_>,
    r: Req<'_>,
    fl: &Flow4,
    iif: Option<DevId>,
    found: &Dst,
    table: u32,
    out: &mut Vec<u8>,
) {
    let from = !fl.saddr.is_unspecified();
    let (kind, flag) = match found.kind {
        RouteKind::Unicast => (RTN_UNICAST, 0),
        RouteKind::Local => (RTN_LOCAL, RTCF_LOCAL),
        RouteKind::Broadcast => (RTN_BROADCAST, RTCF_BROADCAST),
        RouteKind::Multicast => (RTN_MULTICAST, RTCF_MULTICAST),
    };
    let msg = RtMsg {
        family: abi::AF_INET as u8,
        dst_len: 32,
        src_len: if from { 32 } else { 0 },
        tos: fl.tos,
        table: short_table(table),
        kind,
        flags: RTM_F_CLONED | flag,
        ..RtMsg::default()
    };
    let h = Head::reply(RTM_NEWROUTE, c, r);
    // 0.0.0.0 is this host.
    let dst = if fl.daddr.is_unspecified() { Ipv4Addr::LOCALHOST } else { fl.daddr };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(RTA_DST, &dst.octets()).attr_u32(RTA_TABLE, table);
    if from {
        m.attr(RTA_SRC, &fl.saddr.octets());
    }
    m.attr_u32(RTA_OIF, index(net, Some(found.dev)));
    if let IpAddr::V4(src) = found.src
        && iif.is_none()
        && !from
    {
        m.attr(RTA_PREFSRC, &src.octets());
    }
    if let Some(IpAddr::V4(gw)) = found.gateway {
        m.attr(RTA_GATEWAY, &gw.octets());
    }
    put_metrics(dst_metrics::of_path(net, c.ns, fl.daddr.into(), found).as_ref(), &mut m);
    if fl.mark != 0 {
        m.attr_u32(RTA_MARK, fl.mark);
    }
    m.attr_u32(RTA_UID, fl.uid);
    if let Some(dev) = iif {
        m.attr_u32(RTA_IIF, index(net, Some(dev)));
    }
    // `struct rta_cacheinfo`: in hundredths of a second how long what was learned of the way still counts.
    let mut info = [0u8; 32];
    let learned = net.ns.get(c.ns).and_then(|n| n.exceptions.get(fl.daddr, net.env.jiffies()));
    if let (Some(e), None) = (learned, iif) {
        let left = u64::from(e.expires.wrapping_sub(net.env.jiffies())) * 100 / u64::from(net.env.hz.max(1));
        info.iter_mut().skip(8).zip((left as u32).to_ne_bytes()).for_each(|(t, b)| *t = b);
    }
    m.attr(RTA_CACHEINFO, &info);
}
