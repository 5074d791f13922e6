//! Redirects of IPv6: obeyed as a host, sent as a router (RFC 4861 §8).
use super::ndisc::HOP_LIMIT;
use super::output;
use super::route::{self, device_mtu};
use crate::env::Jiffies;
use crate::env::{SEC, time};
use crate::ids::{DevId, NsId};
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::route::Dst;
use crate::net::{Net, af::Flow};
use belljar_wire::icmpv6::*;
use belljar_wire::ipv6::{IPV6_HLEN, IPV6_MIN_MTU, Ipv6Header, is_linklocal};
use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;

/// Target and destination end here, options begin.
const HEADER: usize = 40;
/// Of the option that quotes the packet.
const QUOTE_HLEN: usize = 8;

/// Better ways that routers told, for a while (`route.gc_timeout`). Bounded: the oldest goes first.
#[derive(Clone, Debug, Default)]
pub struct Redirects {
    by_dst: BTreeMap<Ipv6Addr, (Ipv6Addr, DevId, Jiffies)>,
}

const MOST: usize = 4096;

impl Redirects {
    /// The next hop to a destination on a device, which may be the destination itself.
    pub fn get(&self, dst: Ipv6Addr, dev: DevId, now: Jiffies) -> Option<Ipv6Addr> {
        self.by_dst.get(&dst).filter(|(_, d, end)| *d == dev && *end > now).map(|(to, ..)| *to)
    }

    /// Destination, next hop, device, tick of its end.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, Ipv6Addr, DevId, Jiffies)> + '_ {
        self.by_dst.iter().map(|(dst, (to, dev, end))| (*dst, *to, *dev, *end))
    }

    pub(super) fn first_end(&self) -> Option<Jiffies> {
        self.by_dst.values().map(|r| r.2).min()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(Ipv6Addr, DevId, Jiffies) -> bool) {
        self.by_dst.retain(|_, (to, dev, end)| keep(*to, *dev, *end));
    }
}

/// `m` is a message whose checksum is good, from this link. `None`: malformed.
#[doc(alias = "rt6_do_redirect")]
pub(super) fn rcv(net: &mut Net, ns: NsId, dev: DevId, ip: &Ipv6Header, m: &[u8]) -> Option<()> {
    let target = Ipv6Addr::from(*m.get(8..24)?.first_chunk::<16>()?);
    let dest = Ipv6Addr::from(*m.get(24..HEADER)?.first_chunk::<16>()?);
    let mac = super::ndisc::mac_option(m.get(HEADER..)?, ND_OPT_TARGET_LL_ADDR)?;
    let on_link = target == dest;
    // RFC 4861 §8.1.
    if !is_linklocal(ip.src) || dest.is_multicast() || !(on_link || is_linklocal(target)) {
        return None;
    }
    let conf = net.devs.get(dev)?.inet6.conf;
    if conf.forwarding != 0 || conf.accept_redirects == 0 {
        return Some(());
    }
    // Only the router that we use for it may name a better one.
    let fl = Flow { oif: Some(dev), ..Flow::to(dest.into()) };
    let now = route::ip6_route_output(net, ns, &fl, dest).ok().filter(|d| d.dev == dev)?;
    if now.gateway != Some(IpAddr::V6(ip.src)) {
        return Some(());
    }
    if let Some(mac) = mac
        && let Some(id) = neighbour::lookup_or_create(net, ns, dev, target.into())
    {
        neighbour::update(net, ns, id, mac, Nud::Stale, Update { r#override: true, admin: false, weak: false });
    }
    learn(net, ns, dev, dest, target);
    Some(())
}

fn learn(net: &mut Net, ns: NsId, dev: DevId, dest: Ipv6Addr, target: Ipv6Addr) {
    let (hz, at) = (net.env.hz, net.env.now);
    let Some(n) = net.ns.get_mut(ns) else { return };
    let end = time::round_up(at + u64::from(n.sysctl.rt6_gc_timeout) * SEC, hz);
    let all = &mut n.v6.redirects.by_dst;
    if all.len() >= MOST
        && let Some(oldest) = all.iter().min_by_key(|(_, r)| r.2).map(|(d, _)| *d)
    {
        all.remove(&oldest);
    }
    all.insert(dest, (target, dev, end));
    n.rt_genid = n.rt_genid.wrapping_add(1);
    route::arm_expiry(net, ns);
}

/// A packet goes out where it came in: its sender is told the next hop, once a second for each destination and each sender
/// (and a few more after a silence).
#[doc(alias = "ndisc_send_redirect")]
pub(super) fn send(net: &mut Net, ns: NsId, dst: &Dst, ip: &Ipv6Header, skb: &SkBuff) {
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let target = match dst.gateway {
        Some(IpAddr::V6(g)) => g,
        _ => ip.dst,
    };
    let allowed = |net: &mut Net, who: Ipv6Addr| {
        net.ns.get_mut(ns).is_some_and(|n| n.peers.get(IpAddr::V6(who), now).xrlim_allow(hz, now))
    };
    if !allowed(net, ip.dst) {
        return;
    }
    let Some(own) = net.devs.get(dst.dev).and_then(|d| d.inet6.linklocal()) else { return };
    // RFC 4861 §8.2: routers are named by their addresses on the link.
    if target != ip.dst && !is_linklocal(target) {
        return;
    }
    let fl = Flow { saddr: own.into(), oif: Some(dst.dev), ..Flow::to(ip.src.into()) };
    let Ok(back) = route::ip6_route_output(net, ns, &fl, ip.src) else { return };
    if back.gateway.is_some() || back.dev != dst.dev || !allowed(net, ip.src) {
        return;
    }
    let mut m = vec![NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0];
    m.extend(target.octets());
    m.extend(ip.dst.octets());
    let known = net.ns.get(ns).and_then(|n| n.neighs.get(n.neigh_table.get(dst.dev, target.into())?));
    if let Some(n) = known.filter(|n| n.state.valid()) {
        m.extend(nd_mac_option(ND_OPT_TARGET_LL_ADDR, n.mac));
    }
    quote(skb, &mut m, (IPV6_MIN_MTU.min(device_mtu(net, dst.dev)) as usize).saturating_sub(IPV6_HLEN));
    let _ = output::send_control(net, dst.dev, own, ip.src, HOP_LIMIT, false, m);
}

/// As much of the packet as there is room for, in units of eight bytes.
fn quote(skb: &SkBuff, m: &mut Vec<u8>, most: usize) {
    let linear = skb.head.at(skb.network_header);
    let room = most.saturating_sub(m.len() + QUOTE_HLEN).min(linear.len() + skb.frags.len()) & !7;
    m.extend([ND_OPT_REDIRECT_HDR, ((QUOTE_HLEN + room) / 8) as u8, 0, 0, 0, 0, 0, 0]);
    let end = m.len() + room;
    m.extend_from_slice(&linear[..linear.len().min(room)]);
    for seg in &skb.frags {
        m.extend_from_slice(&seg.as_slice()[..seg.len().min(end - m.len())]);
    }
}
