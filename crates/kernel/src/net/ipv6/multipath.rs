//! Next hops that share a route of IPv6. There is no list of them: routes through routers to the same prefix with the same metric
//! are one route, and a flow takes one of them by a hash.
use super::fib::{Found6, Route6, Table6, mask};
use super::route::chk_addr;
use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::af::Flow;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::RouteType;
use crate::net::ipv4::rule::{HASH_DST_IP, HASH_DST_PORT, HASH_FLOWLABEL, HASH_IP_PROTO, HASH_SRC_IP, HASH_SRC_PORT};
use crate::net::netlink::notify;
use belljar_abi::rtnetlink::RTM_DELROUTE;
use belljar_wire::icmp::ICMP_HLEN;
use belljar_wire::icmpv6::ICMPV6_INFOMSG_MASK;
use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header, NEXTHDR_ICMP, NEXTHDR_TCP, NEXTHDR_UDP, is_linklocal};
use core::net::{IpAddr, Ipv6Addr};
use std::hash::Hasher;

/// What parts flows: the addresses and, by `fib_multipath_hash_policy`, flow label or ports, or what
/// `fib_multipath_hash_fields` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKeys6 {
    src: Ipv6Addr,
    dst: Ipv6Addr,
    label: u32,
    proto: u8,
    ports: (u16, u16),
}

impl HashKeys6 {
    /// Of a packet that came in. For an ICMPv6 error these are those of the packet that it quotes, so that it goes the way of
    /// the flow.
    #[doc(alias = "rt6_multipath_hash")]
    pub(super) fn of((policy, fields): (u32, u32), skb: &SkBuff, ip: &Ipv6Header) -> HashKeys6 {
        let whole =
            |ip: &Ipv6Header, label| HashKeys6 { src: ip.src, dst: ip.dst, label, proto: ip.next, ports: (0, 0) };
        let l4 = skb.head.at(skb.network_header).get(IPV6_HLEN..).unwrap_or(&[]);
        match ip.next {
            NEXTHDR_TCP | NEXTHDR_UDP if matches!(policy, 1 | 3) => {
                let b: [u8; 4] = l4.first_chunk().copied().unwrap_or_default();
                let ports = (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]]));
                let keys = HashKeys6 { ports, ..whole(ip, ip.flow) };
                if policy == 3 { keys.only(fields) } else { HashKeys6 { label: 0, ..keys } }
            }
            _ if policy == 1 => whole(ip, 0),
            _ if policy == 3 => whole(ip, ip.flow).only(fields),
            NEXTHDR_ICMP if l4.first().is_some_and(|kind| kind & ICMPV6_INFOMSG_MASK == 0) => {
                let quoted = l4.get(ICMP_HLEN..).and_then(|b| Ipv6Header::parse(b).ok()).unwrap_or(*ip);
                whole(&quoted, quoted.flow)
            }
            _ => whole(ip, ip.flow),
        }
    }

    /// Of what is sent here, to `dst` from what is known of the source so far.
    pub(super) fn of_flow((policy, fields): (u32, u32), fl: &Flow, src: Option<Ipv6Addr>, dst: Ipv6Addr) -> HashKeys6 {
        let ports = if matches!(policy, 1 | 3) { fl.ports } else { (0, 0) };
        let keys = HashKeys6 { src: src.unwrap_or(Ipv6Addr::UNSPECIFIED), dst, label: 0, proto: 0, ports };
        if policy == 3 { keys.only(fields) } else { keys }
    }

    /// What `FIB_MULTIPATH_HASH_FIELD_*` name.
    fn only(self, fields: u32) -> HashKeys6 {
        let has = |field: u32| fields & field != 0;
        let addr = |named, a| if named { a } else { Ipv6Addr::UNSPECIFIED };
        let num = |named, n| if named { n } else { 0 };
        HashKeys6 {
            src: addr(has(HASH_SRC_IP), self.src),
            dst: addr(has(HASH_DST_IP), self.dst),
            label: if has(HASH_FLOWLABEL) { self.label } else { 0 },
            proto: if has(HASH_IP_PROTO) { self.proto } else { 0 },
            ports: (num(has(HASH_SRC_PORT), self.ports.0), num(has(HASH_DST_PORT), self.ports.1)),
        }
    }

    fn hash(&self, [k0, k1]: [u64; 2]) -> u32 {
        let mut h = siphasher::sip::SipHasher13::new_with_keys(k0, k1);
        h.write_u128(self.src.to_bits());
        h.write_u128(self.dst.to_bits());
        h.write_u32(self.label);
        h.write_u32(u32::from(self.ports.0) << 16 | u32::from(self.ports.1));
        h.write_u8(self.proto);
        h.finish() as u32
    }
}

/// The next hop of a flow among those that share the route which was found, in proportion to their weights. One whose router does
/// not answer is passed over for the one found.
#[doc(alias = "fib6_select_path")]
pub(super) fn select_path(
    net: &Net,
    ns: NsId,
    found: &Found6,
    dst: IpAddr,
    keys: &HashKeys6,
    alive: impl Fn(&Route6) -> bool,
) -> Route6 {
    let (IpAddr::V6(dst), Some(n)) = (dst, net.ns.get(ns)) else { return found.route };
    let Some(t) = n.v6.fib.table(found.table) else { return found.route };
    let up = |r: &&Route6| r.dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.up);
    let hops = || t.get(dst, found.prefix).iter().filter(|r| r.is_sibling(&found.route)).filter(up);
    let sum: u64 = hops().map(|r| u64::from(r.weight)).sum();
    let mut at = (u64::from(keys.hash(n.secret)) * sum) >> 32;
    for r in hops() {
        match at.checked_sub(r.weight.into()) {
            Some(left) => at = left,
            None if alive(r) => return *r,
            None => break,
        }
    }
    found.route
}

/// Routes say of an address, a default route aside, that it is not on the link of this device.
#[doc(alias = "ip6_route_check_nh_onlink")]
fn is_elsewhere(main: &Table6, gw: Ipv6Addr, dev: Option<DevId>, now: Nanos) -> bool {
    let Some(prefix) = main.prefix_of(gw, now).filter(|p| *p > 0) else { return false };
    let there = main.get(Ipv6Addr::from_bits(gw.to_bits() & mask(prefix)), prefix);
    !there.iter().any(|r| r.dev == dev && r.kind == RouteType::Unicast)
}

impl Net {
    /// Why a next hop cannot be one: its router is no address of this host's, one host, and told
    /// with its device where that is a part of what it means.
    #[doc(alias = "ip6_validate_gw")]
    pub(in crate::net) fn validate_gw6(&self, ns: NsId, r: &Route6) -> Result<(), &'static str> {
        let Some(gw) = r.gateway else { return Ok(()) };
        if chk_addr(self, ns, gw, r.dev.filter(|_| is_linklocal(gw))) && (r.dev.is_some() || !is_linklocal(gw)) {
            return Err("Gateway can not be a local address");
        }
        if gw.is_multicast() || gw.is_unspecified() {
            return Err("Invalid gateway address");
        }
        if is_linklocal(gw) && r.dev.is_none() {
            return Err("Egress device not specified");
        }
        if r.onlink && self.ns.get(ns).is_some_and(|n| is_elsewhere(&n.v6.fib.main, gw, r.dev, self.env.now)) {
            return Err("Nexthop has invalid gateway or device mismatch");
        }
        let loopback = r.dev.and_then(|d| self.devs.get(d)).is_some_and(|d| d.is_loopback());
        if loopback && (r.onlink || is_linklocal(gw)) {
            return Err("Egress device can not be loopback device for this route");
        }
        Ok(())
    }

    /// A device went down: what leads through it goes. A next hop of several stays, dead, while another lives, unless its device is
    /// gone for good.
    #[doc(alias = "rt6_sync_down_dev")]
    pub(in crate::net) fn rt6_sync_down(&mut self, ns: NsId, dev: DevId, gone: bool) {
        let Net { ns: spaces, devs, .. } = self;
        let Some(n) = spaces.get_mut(ns) else { return };
        let dead = |r: &Route6| r.dev == Some(dev) || r.dev.and_then(|d| devs.get(d)).is_none_or(|d| !d.up);
        let mut told = Vec::new();
        for (id, table) in n.v6.fib.tables_mut() {
            table.edit_all(|dst, routes| {
                let all = routes.clone();
                routes.retain(|r| {
                    let mut hops = all.iter().filter(|o| o.is_sibling(r));
                    let through = |r: &Route6| r.dev == Some(dev);
                    let goes = match gone {
                        true => through(r),
                        false => hops.clone().any(through) && hops.all(dead),
                    };
                    if goes {
                        told.push((id, dst, *r));
                    }
                    !goes
                });
            });
        }
        n.v6.redirects.retain(|_, d, _| d != dev);
        n.rt_genid = n.rt_genid.wrapping_add(1);
        if self.ns.get(ns).is_some_and(|n| n.sysctl.skip_notify_on_dev_down != 0) {
            return;
        }
        for (table, dst, route) in told {
            notify::route6(self, (RTM_DELROUTE, 0), ns, table, dst, &[route]);
        }
    }
}
