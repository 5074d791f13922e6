//! Routing: local table, then main; the result is a [`Dst`].
use crate::env::timers::Fire;
use crate::env::{Fired, Jiffies, SEC, TimerKey, TimerSlot, time};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dst_metrics::MetricsId;
use crate::net::core::fib_rules::L4;
use crate::net::core::skb::SkBuff;
use crate::net::drop::DropReason;
use crate::net::ipv4::fib::{self, RouteType, Scope};
use crate::net::ipv4::mcast;
use crate::net::ipv4::rule::{FibFlow, HashKeys};
use crate::net::mib::Mib;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTAX_MTU;
use belljar_wire::igmp::IPPROTO_IGMP;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

/// What the lookup asks (Linux: `struct flowi4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow4 {
    pub daddr: Ipv4Addr,
    /// 0.0.0.0: the route chooses.
    pub saddr: Ipv4Addr,
    pub oif: Option<DevId>,
    pub tos: u8,
    pub mark: u32,
    /// Source and destination, where the protocol has them.
    pub ports: (u16, u16),
    pub proto: u8,
    pub uid: u32,
    /// No router.
    pub onlink: bool,
}

impl Flow4 {
    pub fn to(daddr: Ipv4Addr) -> Flow4 {
        let (tos, mark, ports, proto, uid) = (0, 0, (0, 0), 0, 0);
        Flow4 { daddr, saddr: Ipv4Addr::UNSPECIFIED, oif: None, tos, mark, ports, proto, uid, onlink: false }
    }

    pub fn l4(&self) -> L4 {
        L4 { proto: self.proto, ports: self.ports, uid: self.uid }
    }
}

/// Route types that a lookup can end in successfully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Broadcast,
    Multicast,
}

/// Where a packet goes next (Linux: `struct rtable`); small and copied into sockets and packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dst {
    pub kind: RouteKind,
    pub dev: DevId,
    /// Next hop, when it is not the destination itself.
    pub gateway: Option<IpAddr>,
    /// Source address the route prefers.
    pub src: IpAddr,
    /// Path MTU: the device's, or less after an ICMP fragmentation needed.
    pub mtu: u32,
    /// Generation of the tables; when the namespace's moved on, look up again.
    pub genid: u32,
    /// What the route says of its paths.
    pub metrics: MetricsId,
}

/// Path MTUs learned, kept for mtu_expires (600 s). Bounded: the oldest goes first.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    by_dst: BTreeMap<Ipv4Addr, Exception>,
    timer: TimerSlot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// 0: nothing is known of it.
    pub mtu: u32,
    /// A better router, as a redirect said.
    pub gateway: Option<Ipv4Addr>,
    /// The path is narrower than min_pmtu: packets go without DF.
    pub locked: bool,
    pub expires: Jiffies,
}

const MAX_EXCEPTIONS: usize = 10_240;

impl Exceptions {
    pub fn get(&self, dst: Ipv4Addr, now: Jiffies) -> Option<Exception> {
        self.by_dst.get(&dst).filter(|e| e.expires > now).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.by_dst.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, Exception)> + '_ {
        self.by_dst.iter().map(|(d, e)| (*d, *e))
    }

    fn insert(&mut self, dst: Ipv4Addr, e: Exception) {
        if self.by_dst.len() >= MAX_EXCEPTIONS
            && let Some((&oldest, _)) = self.by_dst.iter().min_by_key(|(_, e)| e.expires)
        {
            self.by_dst.remove(&oldest);
        }
        self.by_dst.insert(dst, e);
    }
}

/// Of 0.0.0.0/8 the first alone: the others have been addresses like any since Linux 5.3.
#[doc(alias = "ipv4_is_zeronet")]
fn zeronet(a: Ipv4Addr) -> bool {
    a.is_unspecified()
}

/// `ip_route_output_key`. ENETUNREACH without a route, the route type's own error otherwise.
#[doc(alias = "ip_route_output_key_hash")]
pub fn ip_route_output(net: &mut Net, ns: NsId, fl: &Flow4) -> Result<Dst, Errno> {
    let n = net.ns.get(ns).ok_or(Errno::ENETUNREACH)?;
    let (lo, genid) = (n.lo, n.rt_genid);
    let (mut daddr, saddr, any) = (fl.daddr, fl.saddr, fl.saddr.is_unspecified());
    if !any {
        // A source has to be ours; where packets for everybody are taken in, answers leave from their addresses too.
        let ours = n.tproxy.is_some() || n.nf_tproxy || n.sysctl.ip_nonlocal_bind != 0 || is_local(net, ns, saddr);
        if saddr.is_multicast() || saddr.is_broadcast() || zeronet(saddr) {
            return Err(Errno::EINVAL);
        }
        if !ours {
            return Err(Errno::ENETUNREACH);
        }
    }
    let mut oif = fl.oif;
    if let Some(id) = oif {
        let d = net.devs.get(id).filter(|d| d.ns == ns).ok_or(Errno::ENODEV)?;
        if !d.up {
            return Err(Errno::ENETUNREACH);
        }
    } else if !any && (daddr.is_multicast() || daddr.is_broadcast()) {
        oif = dev_of_addr(net, ns, saddr);
    }
    if daddr.is_unspecified() {
        daddr = if any { Ipv4Addr::LOCALHOST } else { saddr };
    }
    let pick = |net: &Net, dev: DevId, scope| {
        let chosen = net.devs.get(dev).and_then(|d| d.select_addr(daddr, scope));
        if any { chosen.or_else(|| any_addr(net, ns, scope)).unwrap_or(Ipv4Addr::UNSPECIFIED) } else { saddr }
    };
    if let Some(dev) = oif
        && (daddr.is_broadcast() || daddr.is_multicast())
    {
        let kind = if daddr.is_multicast() { RouteKind::Multicast } else { RouteKind::Broadcast };
        return Ok(Dst {
            kind,
            dev,
            gateway: None,
            src: pick(net, dev, Scope::Link).into(),
            mtu: mtu(net, dev),
            genid,
            metrics: MetricsId::default(),
        });
    }
    let policy = net.ns.get(ns).map_or((0, 0), |n| n.sysctl.multipath_hash());
    let ports = if matches!(policy.0, 1 | 3) { fl.ports } else { (0, 0) };
    let keys = HashKeys { ports, ..HashKeys::default() }.counting(policy, (saddr, daddr));
    let scope = if fl.onlink { Scope::Link } else { Scope::Universe };
    let flow = FibFlow { dst: daddr, src: saddr, oif, iif: None, tos: fl.tos, mark: fl.mark, l4: fl.l4(), keys, scope };
    let Some(r) = fib::lookup_flow(net, ns, &flow) else {
        // Bound to a device: what no route knows is taken to be on its link.
        let dev = oif.ok_or(Errno::ENETUNREACH)?;
        let src = pick(net, dev, Scope::Link);
        return finish(
            net,
            ns,
            daddr,
            Dst {
                kind: RouteKind::Unicast,
                dev,
                gateway: None,
                src: src.into(),
                mtu: 0,
                genid,
                metrics: MetricsId::default(),
            },
        );
    };
    let kind = match r.kind {
        RouteType::Local => {
            let src = if any { r.src.unwrap_or(daddr) } else { saddr };
            let up = net.devs.get(lo).is_some_and(|d| d.up);
            let dst = Dst {
                kind: RouteKind::Local,
                dev: lo,
                gateway: None,
                src: src.into(),
                mtu: route_mtu(net, ns, lo, r.metrics),
                genid,
                metrics: r.metrics,
            };
            return if up { Ok(dst) } else { Err(Errno::ENETUNREACH) };
        }
        RouteType::Throw => return Err(Errno::ENETUNREACH),
        RouteType::Unreachable => return Err(Errno::EHOSTUNREACH),
        RouteType::Blackhole => return Err(Errno::EINVAL),
        RouteType::Prohibit => return Err(Errno::EACCES),
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Unicast,
        RouteType::Unicast if daddr.is_broadcast() => RouteKind::Broadcast,
        RouteType::Unicast if daddr.is_multicast() => RouteKind::Multicast,
        RouteType::Unicast => RouteKind::Unicast,
    };
    let dev = r.dev.ok_or(Errno::ENETUNREACH)?;
    if saddr.is_loopback() && !any && !net.devs.get(dev).is_some_and(|d| d.is_loopback() || d.conf.route_localnet) {
        return Err(Errno::EINVAL);
    }
    let src = match r.src {
        Some(s) if any => s,
        _ => pick_via(net, ns, dev, r.gateway.unwrap_or(daddr), saddr),
    };
    let gateway = r.gateway.filter(|_| kind == RouteKind::Unicast).map(IpAddr::V4);
    finish(net, ns, daddr, Dst { kind, dev, gateway, src: src.into(), mtu: 0, genid, metrics: r.metrics })
}

/// The source for a next hop: the caller's, or the device's address on the hop's subnet.
fn pick_via(net: &Net, ns: NsId, dev: DevId, hop: Ipv4Addr, saddr: Ipv4Addr) -> Ipv4Addr {
    if !saddr.is_unspecified() {
        return saddr;
    }
    let chosen = net.devs.get(dev).and_then(|d| d.select_addr(hop, Scope::Universe));
    chosen.or_else(|| any_addr(net, ns, Scope::Universe)).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// Some address of the host, when the device has none of its own.
fn any_addr(net: &Net, ns: NsId, scope: Scope) -> Option<Ipv4Addr> {
    net.ns_devs(ns).find_map(|id| net.devs.get(id)?.addrs.iter().find(|a| a.scope <= scope).map(|a| a.local))
}

/// Device MTU and what was learned about the path.
fn finish(net: &Net, ns: NsId, daddr: Ipv4Addr, mut dst: Dst) -> Result<Dst, Errno> {
    dst.mtu = route_mtu(net, ns, dst.dev, dst.metrics);
    if let Some(e) = net.ns.get(ns).and_then(|n| n.exceptions.get(daddr, net.env.jiffies())) {
        if e.mtu != 0 {
            dst.mtu = dst.mtu.min(e.mtu);
        }
        if e.gateway.is_some() && dst.kind == RouteKind::Unicast {
            dst.gateway = e.gateway.map(IpAddr::V4);
        }
    }
    Ok(dst)
}

/// The route's, but never more than the device takes.
#[doc(alias = "ip_dst_mtu_maybe_forward")]
fn route_mtu(net: &Net, ns: NsId, dev: DevId, metrics: MetricsId) -> u32 {
    let own = mtu(net, dev);
    match net.ns.get(ns).and_then(|n| n.metrics.get(metrics)).map_or(0, |m| m.get(RTAX_MTU)) {
        0 => own,
        mtu => mtu.min(own),
    }
}

/// No IPv4 packet is longer (`IP_MAX_MTU`), whatever the device takes.
fn mtu(net: &Net, dev: DevId) -> u32 {
    net.devs.get(dev).map_or(0, |d| d.mtu.min(65_535))
}

fn dev_of_addr(net: &Net, ns: NsId, addr: Ipv4Addr) -> Option<DevId> {
    net.ns_devs(ns).find(|id| net.devs.get(*id).is_some_and(|d| d.addrs.iter().any(|a| a.local == addr)))
}

/// Whether `addr` is one of this host (local table; `inet_addr_type` = RTN_LOCAL).
pub fn is_local(net: &Net, ns: NsId, addr: Ipv4Addr) -> bool {
    addr_type(net, ns, addr) == RouteKind::Local
}

/// What kind of address this is to the host. In a namespace whose local table is still empty (lo was never up)
/// everything counts as broadcast, which bind accepts.
#[doc(alias = "inet_addr_type")]
pub fn addr_type(net: &Net, ns: NsId, addr: Ipv4Addr) -> RouteKind {
    if addr.is_unspecified() || addr.is_broadcast() {
        return RouteKind::Broadcast;
    }
    if addr.is_multicast() {
        return RouteKind::Multicast;
    }
    let Some(n) = net.ns.get(ns) else { return RouteKind::Unicast };
    if n.fib.local.is_empty() {
        return RouteKind::Broadcast;
    }
    match n.fib.local.lookup(addr, |_| true).map(|r| r.kind) {
        Some(RouteType::Local) => RouteKind::Local,
        Some(RouteType::Broadcast) => RouteKind::Broadcast,
        _ => RouteKind::Unicast,
    }
}

/// Why a received packet has no way on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputError {
    /// Source or destination that cannot come from there (`ip_handle_martian_source`, martian destination).
    MartianSource(DropReason),
    MartianDestination(DropReason),
    /// Strict or loose reverse path check.
    RpFilter,
    /// To a group of which nobody here is a member, or not from this source: silence.
    NotJoined,
    /// Not for us and not to be passed on: counted, silent.
    NotForwarding,
    /// The routing layer answers with an ICMP error for this errno.
    Refused(Errno),
}

impl InputError {
    pub fn reason(self) -> DropReason {
        match self {
            InputError::RpFilter => DropReason::IpRpFilter,
            InputError::MartianSource(reason) | InputError::MartianDestination(reason) => reason,
            InputError::NotJoined => DropReason::NotSpecified,
            InputError::NotForwarding => DropReason::IpInAddrErrors,
            InputError::Refused(Errno::ENETUNREACH) => DropReason::IpInNoRoutes,
            InputError::Refused(_) => DropReason::NotSpecified,
        }
    }
}

/// `ip_route_input_slow`: local delivery, forwarding, or why not.
#[doc(alias = "ip_route_input_noref")]
pub fn ip_route_input(
    net: &mut Net,
    ns: NsId,
    dev: DevId,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    proto: u8,
    keys: HashKeys,
) -> Result<Dst, InputError> {
    let Some(n) = net.ns.get(ns) else { return Err(InputError::NotForwarding) };
    let (lo, genid) = (n.lo, n.rt_genid);
    let Some(d) = net.devs.get(dev) else { return Err(InputError::NotForwarding) };
    let (conf, loopback_dev) = (d.conf, d.is_loopback());
    let to =
        |kind, dev, mtu| Dst { kind, dev, gateway: None, src: dst.into(), mtu, genid, metrics: MetricsId::default() };
    if src.is_multicast() || src.is_broadcast() {
        return Err(InputError::MartianSource(DropReason::IpInvalidSource));
    }
    if dst.is_multicast() {
        mc_validate(net, ns, dev, src, dst, proto)?;
        return Ok(to(RouteKind::Multicast, dev, mtu(net, dev)));
    }
    if dst.is_broadcast() || (src.is_unspecified() && dst.is_unspecified()) {
        if !src.is_unspecified() {
            validate_source(net, ns, dev, src, (keys.mark, keys.l4))?;
        }
        return Ok(to(RouteKind::Broadcast, dev, mtu(net, dev)));
    }
    if zeronet(src) {
        return Err(InputError::MartianSource(DropReason::IpInvalidSource));
    }
    if zeronet(dst) {
        return Err(InputError::MartianDestination(DropReason::IpInvalidDest));
    }
    let localnet = conf.route_localnet || loopback_dev;
    if dst.is_loopback() && !localnet {
        return Err(InputError::MartianDestination(DropReason::IpLocalnet));
    }
    if src.is_loopback() && !localnet {
        return Err(InputError::MartianSource(DropReason::IpLocalnet));
    }
    let flow = FibFlow { src, iif: Some(dev), mark: keys.mark, l4: keys.l4, keys, ..FibFlow::to(dst) };
    let found = fib::lookup_flow(net, ns, &flow);
    let Some(n) = net.ns.get(ns) else { return Err(InputError::NotForwarding) };
    let foreign = !matches!(found.map(|r| r.kind), Some(RouteType::Local | RouteType::Broadcast));
    if foreign && let Some(t) = n.tproxy.filter(|t| t.dev == dev) {
        let taken = (proto == IPPROTO_TCP && t.tcp.is_some()) || (proto == IPPROTO_UDP && t.udp.is_some());
        if taken {
            return Ok(to(RouteKind::Local, dev, mtu(net, dev)));
        }
    }
    let forwarding = conf.forwarding;
    let Some(r) = found else {
        return Err(if forwarding { InputError::Refused(Errno::ENETUNREACH) } else { InputError::NotForwarding });
    };
    match r.kind {
        RouteType::Local | RouteType::Broadcast => {
            validate_source(net, ns, dev, src, (keys.mark, keys.l4))?;
            let local = r.kind == RouteType::Local;
            if !local && conf.bc_forwarding {
                // Its gateway is the network itself: no broadcast of this host's has one.
                let out = r.dev.ok_or(InputError::NotForwarding)?;
                let way = to(RouteKind::Broadcast, out, mtu(net, out));
                return Ok(Dst { gateway: Some(dst.into()), ..way });
            }
            let kind = if local { RouteKind::Local } else { RouteKind::Broadcast };
            Ok(to(kind, if local { lo } else { dev }, mtu(net, dev)))
        }
        _ if !forwarding => Err(InputError::NotForwarding),
        RouteType::Throw => Err(InputError::Refused(Errno::ENETUNREACH)),
        RouteType::Unreachable => Err(InputError::Refused(Errno::EHOSTUNREACH)),
        RouteType::Blackhole => Err(InputError::Refused(Errno::EINVAL)),
        RouteType::Prohibit => Err(InputError::Refused(Errno::EACCES)),
        RouteType::Unicast | RouteType::Anycast => {
            validate_source(net, ns, dev, src, (keys.mark, keys.l4))?;
            let out = r.dev.ok_or(InputError::NotForwarding)?;
            let hop = Dst {
                kind: RouteKind::Unicast,
                dev: out,
                gateway: r.gateway.map(IpAddr::V4),
                src: dst.into(),
                mtu: 0,
                genid,
                metrics: r.metrics,
            };
            let hop = finish(net, ns, dst, hop).map_err(InputError::Refused)?;
            // What somebody said of the path to a host is not believed for others' packets, unless asked to.
            let locked = n.exceptions.get(dst, net.env.jiffies()).is_some_and(|e| e.locked);
            let mtu = match n.sysctl.ip_forward_use_pmtu != 0 || locked {
                true => hop.mtu,
                false => route_mtu(net, ns, out, r.metrics),
            };
            Ok(Dst { mtu, ..hop })
        }
    }
}

/// Only groups that somebody joined are taken, from sources that can be.
#[doc(alias = "ip_mc_validate_source")]
fn mc_validate(net: &Net, ns: NsId, dev: DevId, src: Ipv4Addr, dst: Ipv4Addr, proto: u8) -> Result<(), InputError> {
    if !mcast::check(net, dev, dst, src, proto) {
        return Err(InputError::NotJoined);
    }
    let d = net.devs.get(dev).ok_or(InputError::MartianSource(DropReason::IpInvalidSource))?;
    if src.is_loopback() && !d.conf.route_localnet && !d.is_loopback() {
        return Err(InputError::MartianSource(DropReason::IpLocalnet));
    }
    if zeronet(src) {
        let here = dst.octets()[..3] == [224, 0, 0] || proto == IPPROTO_IGMP;
        return if here { Ok(()) } else { Err(InputError::MartianSource(DropReason::IpInvalidSource)) };
    }
    validate_source(net, ns, dev, src, (0, L4::default()))
}

/// `fib_validate_source`: a source of ours is refused unless accept_local; rp_filter 1 wants the way back through the
/// same device, 2 any way back. The effective rp_filter is the larger of all and the interface's.
#[doc(alias = "__fib_validate_source")]
fn validate_source(net: &Net, ns: NsId, dev: DevId, src: Ipv4Addr, (mark, l4): (u32, L4)) -> Result<(), InputError> {
    let Some(d) = net.devs.get(dev) else { return Err(InputError::MartianSource(DropReason::IpInvalidSource)) };
    if d.is_loopback() {
        return Ok(());
    }
    let rp = d.conf.rp_filter;
    let Some(n) = net.ns.get(ns) else { return Err(InputError::MartianSource(DropReason::IpInvalidSource)) };
    if rp == 0 && n.fib.rules.is_none() && !n.fib.custom_local {
        // No route is asked for: only an address of this host's is refused, and a broadcast address is none.
        let ours = !d.conf.accept_local && n.fib.local.get(src, 32).iter().any(|r| r.kind == RouteType::Local);
        return if ours { Err(InputError::MartianSource(DropReason::IpLocalSource)) } else { Ok(()) };
    }
    let mark = if d.conf.src_valid_mark { mark } else { 0 };
    let back = fib::lookup_flow(net, ns, &FibFlow { l4: l4.reversed(), mark, ..FibFlow::to(src) });
    match back.map(|r| r.kind) {
        Some(RouteType::Local) if d.conf.accept_local && rp == 0 => return Ok(()),
        Some(RouteType::Local) => return Err(InputError::MartianSource(DropReason::IpLocalSource)),
        Some(RouteType::Broadcast) => return Err(InputError::MartianSource(DropReason::IpInvalidSource)),
        _ if rp == 0 => return Ok(()),
        Some(RouteType::Unicast) => {}
        _ => return Err(InputError::RpFilter),
    }
    let same = back.and_then(|r| r.dev) == Some(dev);
    if same || rp == 2 { Ok(()) } else { Err(InputError::RpFilter) }
}

/// A smaller path MTU became known (`ip_rt_update_pmtu`): remembered for every socket of the namespace.
#[doc(alias = "__ip_rt_update_pmtu")]
pub fn update_pmtu(net: &mut Net, ns: NsId, daddr: Ipv4Addr, mtu: u32) {
    let now = net.env.jiffies();
    let (hz, at) = (net.env.hz, net.env.now);
    let Some(n) = net.ns.get(ns) else { return };
    if fib::lookup(net, ns, daddr, None).is_some_and(|r| n.metrics.get(r.metrics).is_some_and(|m| m.locked(RTAX_MTU))) {
        return;
    }
    let Some(n) = net.ns.get_mut(ns) else { return };
    let floor = n.sysctl.min_pmtu;
    let locked = mtu < floor;
    let mtu = mtu.max(floor);
    let known = n.exceptions.get(daddr, now);
    if known.is_some_and(|e| e.mtu != 0 && e.mtu < mtu) {
        return;
    }
    let expires = time::round_up(at + u64::from(n.sysctl.mtu_expires) * SEC, hz);
    n.exceptions.insert(daddr, Exception { mtu, gateway: known.and_then(|e| e.gateway), locked, expires });
    n.rt_genid = n.rt_genid.wrapping_add(1);
    arm_expiry(net, ns);
}

/// A redirect that is believed: packets to this host go there for a while (`route.gc_timeout`).
#[doc(alias = "update_or_create_fnhe")]
pub fn learn_gateway(net: &mut Net, ns: NsId, daddr: Ipv4Addr, gateway: Ipv4Addr) {
    let (now, hz, at) = (net.env.jiffies(), net.env.hz, net.env.now);
    let Some(n) = net.ns.get_mut(ns) else { return };
    let expires = time::round_up(at + u64::from(n.sysctl.rt_gc_timeout) * SEC, hz);
    let known = n.exceptions.get(daddr, now).unwrap_or(Exception { mtu: 0, gateway: None, locked: false, expires });
    n.exceptions.insert(daddr, Exception { gateway: Some(gateway), expires, ..known });
    n.rt_genid = n.rt_genid.wrapping_add(1);
    arm_expiry(net, ns);
}

fn arm_expiry(net: &mut Net, ns: NsId) {
    let Some(n) = net.ns.get_mut(ns) else { return };
    if let Some(first) = n.exceptions.by_dst.values().map(|e| e.expires).min() {
        net.env.timers.arm(&mut n.exceptions.timer, first, TimerKey::PmtuExpire(ns));
    }
}

/// Learned path MTUs are old: routes that sockets hold are looked up again and find the device's.
#[doc(alias = "rt_bind_exception")]
pub fn expire_pmtu(net: &mut Net, ns: NsId, at: Fired) {
    let now = net.env.jiffies();
    let Some(n) = net.ns.get_mut(ns) else { return };
    if net.env.timers.look(&mut n.exceptions.timer, at, now, TimerKey::PmtuExpire(ns)) == Fire::NotYet {
        return;
    }
    n.exceptions.by_dst.retain(|_, e| e.expires > now);
    n.rt_genid = n.rt_genid.wrapping_add(1);
    arm_expiry(net, ns);
}

/// `route.flush`: what was learned of paths is forgotten, and every route looked up again.
#[doc(alias = "ipv4_sysctl_rtcache_flush")]
pub fn flush(net: &mut Net, ns: NsId) {
    if let Some(n) = net.ns.get_mut(ns) {
        n.exceptions.by_dst.clear();
    }
    net.rt_cache_flush(ns);
}

/// The route of a packet that has one of this generation; `None` asks for a lookup.
pub fn valid<'a>(net: &Net, ns: NsId, dst: &'a Option<Dst>) -> Option<&'a Dst> {
    let d = dst.as_ref()?;
    net.ns.get(ns).is_some_and(|n| n.rt_genid == d.genid).then_some(d)
}

/// The priority that a type of service stands for; pfifo_fast's band follows from it.
pub fn rt_tos2priority(tos: u8) -> u32 {
    const IP_TOS2PRIO: [u8; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
    u32::from(IP_TOS2PRIO[(tos >> 1 & 15) as usize])
}

/// An identification for packets that may be cut on their way; `segs` numbers are used up.
#[doc(alias = "__ip_select_ident")]
pub fn select_ident(net: &mut Net, ns: NsId, skb: &SkBuff, key: (Ipv4Addr, Ipv4Addr, u8), segs: u32) -> u16 {
    use std::hash::Hasher;
    let Some(n) = net.ns.get_mut(ns) else { return 0 };
    let bucket = if skb.hash != 0 {
        // A flow with a hash of its own counts alone, as a connected socket does (`inet_id`).
        u64::from(skb.hash)
    } else {
        let mut h = siphasher::sip::SipHasher13::new_with_keys(n.secret[0], n.secret[1]);
        h.write_u32(key.0.to_bits());
        h.write_u32(key.1.to_bits());
        h.write_u8(key.2);
        h.finish()
    };
    let len = n.idents.len().max(1) as u64;
    let Some(id) = n.idents.get_mut((bucket % len) as usize) else { return 0 };
    *id = id.wrapping_add(segs);
    id.wrapping_sub(segs) as u16
}

/// Counts what a lookup error means on the send path.
pub fn count_no_route(net: &mut Net, ns: NsId, e: Errno) {
    if e == Errno::ENETUNREACH {
        net.inc(ns, Mib::IpOutNoRoutes);
    }
}
