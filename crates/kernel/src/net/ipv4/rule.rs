//! Routes in tables, next hops that share a route, and what rules can ask about (`net/core/fib_rules.rs`).
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dev::mask;
use crate::net::core::fib_rules::{L4, RuleFlow};
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::*;
use crate::net::netlink::notify;
use crate::net::netns::NetNs;
use belljar_abi::Errno;
use belljar_abi::netlink::NLM_F_REPLACE;
use belljar_abi::rtnetlink::{RTM_DELROUTE, RTM_NEWROUTE};
use belljar_wire::icmp::{ICMP_HLEN, IcmpHeader};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use core::net::Ipv4Addr;
use std::hash::Hasher;

/// What a rule can ask about.
#[derive(Clone, Copy, Debug)]
pub struct FibFlow {
    pub dst: Ipv4Addr,
    /// 0.0.0.0: not chosen yet.
    pub src: Ipv4Addr,
    pub oif: Option<DevId>,
    /// Where it came in; `None` for what is sent here.
    pub iif: Option<DevId>,
    pub tos: u8,
    pub mark: u32,
    pub l4: L4,
    /// What parts flows over next hops.
    pub keys: HashKeys,
    /// Routes wider than this do not count.
    pub scope: Scope,
}

/// Tables without a route that are remembered to have been there.
const MOST_EMPTY_TABLES: usize = 4096;

/// Bits of `fib_multipath_hash_fields`. Those from 0x40 on are of a packet within another.
pub const HASH_SRC_IP: u32 = 1;
pub const HASH_DST_IP: u32 = 2;
pub const HASH_IP_PROTO: u32 = 4;
pub const HASH_FLOWLABEL: u32 = 8;
pub const HASH_SRC_PORT: u32 = 0x10;
pub const HASH_DST_PORT: u32 = 0x20;

/// Of a packet that is not ours and of one that is: by whom and for whom, and the ports where they count. For an ICMP error
/// these are those of the packet it quotes, so that it goes the way of the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKeys {
    /// `None`: the addresses of the packet.
    pub quoted: Option<(Ipv4Addr, Ipv4Addr)>,
    pub ports: (u16, u16),
    /// 0 where it does not count.
    pub proto: u8,
    /// Of the packet, for rules that ask for it.
    pub mark: u32,
    pub l4: L4,
}

impl HashKeys {
    /// Of a packet that came in, at its IP header.
    #[doc(alias = "fib_multipath_hash")]
    pub fn of(policy: (u32, u32), skb: &SkBuff, ip: &Ipv4Header) -> HashKeys {
        let l4 = skb.head.at(skb.network_header).get(ip.ihl_bytes..).unwrap_or(&[]);
        let mut keys =
            HashKeys { mark: skb.mark, proto: if policy.0 == 3 { ip.proto } else { 0 }, ..HashKeys::default() };
        match ip.proto {
            _ if ip.is_fragment() => {}
            IPPROTO_TCP | IPPROTO_UDP if matches!(policy.0, 1 | 3) => {
                if let Some(&[a, b, c, d]) = l4.first_chunk() {
                    keys.ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                }
            }
            IPPROTO_ICMP if !matches!(policy.0, 1 | 3) => {
                let error = IcmpHeader::parse(l4).is_ok_and(|h| h.is_error());
                let inner = l4.get(ICMP_HLEN..).filter(|_| error).and_then(|b| Ipv4Header::parse(b).ok());
                keys.quoted = inner.map(|i| (i.src, i.dst));
            }
            _ => {}
        }
        keys.counting(policy, (ip.src, ip.dst))
    }

    /// What `fib_multipath_hash_policy` 3 leaves of them, by `fib_multipath_hash_fields`.
    pub(super) fn counting(self, (policy, fields): (u32, u32), (src, dst): (Ipv4Addr, Ipv4Addr)) -> HashKeys {
        if policy != 3 {
            return self;
        }
        let addr = |field, a| if fields & field != 0 { a } else { Ipv4Addr::UNSPECIFIED };
        let port = |field, p| if fields & field != 0 { p } else { 0 };
        HashKeys {
            quoted: Some((addr(HASH_SRC_IP, src), addr(HASH_DST_IP, dst))),
            ports: (port(HASH_SRC_PORT, self.ports.0), port(HASH_DST_PORT, self.ports.1)),
            proto: if fields & HASH_IP_PROTO != 0 { self.proto } else { 0 },
            mark: self.mark,
            l4: self.l4,
        }
    }
}

impl FibFlow {
    pub fn to(dst: Ipv4Addr) -> FibFlow {
        FibFlow {
            dst,
            src: Ipv4Addr::UNSPECIFIED,
            oif: None,
            iif: None,
            tos: 0,
            mark: 0,
            l4: L4::default(),
            keys: HashKeys::default(),
            scope: Scope::Universe,
        }
    }

    /// As rules see it: what is sent from here comes in by `lo`.
    pub fn for_rules(&self, lo: DevId) -> RuleFlow {
        RuleFlow {
            src: Some(self.src.into()),
            dst: self.dst.into(),
            iif: self.iif.unwrap_or(lo),
            oif: self.oif,
            tos: self.tos,
            mark: self.mark,
            l4: self.l4,
        }
    }
}

/// The next hop of a flow: by a hash of its addresses, or of what `fib_multipath_hash_policy` says, in proportion to the weights.
#[doc(alias = "fib_select_multipath")]
pub fn select(net: &Net, n: &NetNs, list: &[Route], first: &Route, fl: &FibFlow) -> Route {
    let usable = |r: &&Route| {
        let up = r.dev.and_then(|d| net.devs.get(d)).is_some_and(|d| d.running());
        r.group == first.group && up && (fl.oif.is_none() || r.dev == fl.oif)
    };
    let hops = || list.iter().filter(usable);
    let sum: u64 = hops().map(|r| u64::from(r.weight)).sum();
    // A seed of one's own parts flows alike on every host that has it.
    let [a, b] = match n.sysctl.fib_multipath_hash_seed {
        0 => n.secret,
        seed => [seed.into(), 0],
    };
    let mut h = siphasher::sip::SipHasher13::new_with_keys(a, b);
    let (src, dst) = fl.keys.quoted.unwrap_or((fl.src, fl.dst));
    h.write_u32(src.to_bits());
    h.write_u32(dst.to_bits());
    h.write_u16(fl.keys.ports.0);
    h.write_u16(fl.keys.ports.1);
    h.write_u8(fl.keys.proto);
    let at = (u64::from(h.finish() as u32) * sum) >> 32;
    let asks = n.sysctl.fib_multipath_use_neigh != 0;
    let (mut upper, mut any) = (0, None);
    for r in hops() {
        upper += u64::from(r.weight);
        if asks && !good_nh(n, r) {
            continue;
        }
        if at < upper {
            return *r;
        }
        any = any.or(Some(r));
    }
    *any.unwrap_or(first)
}

/// Nothing speaks against a next hop: it is not being asked for in vain.
#[doc(alias = "fib_good_nh")]
fn good_nh(n: &NetNs, r: &Route) -> bool {
    let (Some(dev), Some(gw)) = (r.dev, r.gateway) else { return true };
    n.neigh_table.get(dev, gw.into()).and_then(|id| n.neighs.get(id)).is_none_or(|e| e.state.valid())
}

/// What a request for a route wants done (`NLM_F_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insert {
    pub create: bool,
    pub excl: bool,
    pub replace: bool,
    pub append: bool,
}

fn same_hop(a: &Route, b: &Route) -> bool {
    (a.metric, a.kind, a.dev, a.gateway, a.src, a.scope, a.proto)
        == (b.metric, b.kind, b.dev, b.gateway, b.src, b.scope, b.proto)
}

impl Net {
    /// A route into a table, by several next hops perhaps; EEXIST for the same destination and metric.
    pub fn add_route_to(
        &mut self,
        ns: NsId,
        table: u32,
        dst: Ipv4Addr,
        prefix: u8,
        hops: &mut [Route],
    ) -> Result<(), Errno> {
        self.insert_route(ns, table, (dst, prefix), hops, Insert { create: true, excl: true, ..Insert::default() })
    }

    /// The same as netlink asks for it. A route is told from others by prefix and metric: ENOENT for one that is to be
    /// changed and is not there.
    #[doc(alias = "fib_table_insert")]
    pub fn insert_route(
        &mut self,
        ns: NsId,
        table: u32,
        (dst, prefix): (Ipv4Addr, u8),
        hops: &mut [Route],
        how: Insert,
    ) -> Result<(), Errno> {
        if prefix > 32 || dst.to_bits() & !mask(prefix) != 0 || hops.is_empty() {
            return Err(Errno::EINVAL);
        }
        for route in hops.iter_mut() {
            self.check_hop(ns, route)?;
        }
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let metric = hops.first().map_or(0, |r| r.metric);
        let there = n.fib.table(table).map_or(&[][..], |t| t.get(dst, prefix));
        let old = there.iter().find(|r| r.metric == metric).copied();
        match old {
            None if !how.create => return Err(Errno::ENOENT),
            Some(_) if how.excl => return Err(Errno::EEXIST),
            Some(_) if !how.replace && there.iter().any(|r| hops.iter().any(|h| same_hop(h, r))) => {
                return Err(Errno::EEXIST);
            }
            _ => {}
        }
        if hops.len() > 1 {
            n.fib.last_group = n.fib.last_group.wrapping_add(1).max(1);
            let group = n.fib.last_group;
            hops.iter_mut().for_each(|r| r.group = group);
        }
        n.fib.custom_local |= hops.iter().any(|r| r.kind == RouteType::Local);
        let t = n.fib.table_mut(table);
        if let Some(old) = old.filter(|_| how.replace) {
            let mut one = true;
            t.remove(dst, prefix, |r| match old.group {
                0 => *r == old && std::mem::take(&mut one),
                g => r.group == g,
            });
        }
        // Before the others of its metric, unless it is to come behind them.
        t.insert_all(dst, prefix, hops, how.append);
        self.rt_cache_flush(ns);
        let flags = if how.replace { NLM_F_REPLACE } else { 0 };
        notify::route4(self, RTM_NEWROUTE, flags, ns, table, (dst, prefix), hops);
        Ok(())
    }

    /// The next hop itself has to be on a link that is up.
    #[doc(alias = "fib_check_nh")]
    fn check_hop(&self, ns: NsId, route: &mut Route) -> Result<(), Errno> {
        if let Some(gw) = route.gateway.filter(|_| !route.onlink) {
            let hop = lookup(self, ns, gw, route.dev).ok_or(Errno::ENETUNREACH)?;
            // An address of our own may be named as a router.
            if !matches!(hop.kind, RouteType::Unicast | RouteType::Local) || hop.gateway.is_some() {
                return Err(Errno::ENETUNREACH);
            }
            route.dev = route.dev.or(hop.dev);
        }
        if matches!(route.kind, RouteType::Unicast) {
            let d = route.dev.and_then(|d| self.devs.get(d)).ok_or(Errno::ENODEV)?;
            if d.ns != ns {
                return Err(Errno::ENODEV);
            }
            if !d.up {
                return Err(Errno::ENETDOWN);
            }
        }
        Ok(())
    }

    /// The first route of a prefix that fits goes, with the hops that share it; ESRCH when there is none.
    #[doc(alias = "fib_table_delete")]
    pub fn del_route_of(
        &mut self,
        ns: NsId,
        table: u32,
        dst: Ipv4Addr,
        prefix: u8,
        which: impl Fn(&Route) -> bool,
    ) -> Result<(), Errno> {
        let n = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let there = n.fib.table(table).ok_or(Errno::ESRCH)?.get(dst, prefix);
        let first = there.iter().find(|r| which(r)).copied().ok_or(Errno::ESRCH)?;
        let mut one = true;
        let mut gone = Vec::new();
        n.fib.table_mut(table).remove(dst, prefix, |r| {
            let goes = match first.group {
                0 => *r == first && std::mem::take(&mut one),
                g => r.group == g,
            };
            gone.extend(goes.then_some(*r));
            goes
        });
        // A table stays when its last route goes; of very many the empty ones do not.
        if n.fib.others.len() > MOST_EMPTY_TABLES {
            n.fib.others.retain(|_, t| !t.is_empty());
        }
        self.rt_cache_flush(ns);
        notify::route4(self, RTM_DELROUTE, 0, ns, table, (dst, prefix), &gone);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::icmp::ICMP_TIME_EXCEEDED;

    fn ip(s: &str) -> Ipv4Addr {
        s.parse().unwrap()
    }

    #[test]
    fn ports_and_quotes_are_read_where_they_count() {
        let packet = |proto, mf, l4: &[u8]| {
            let mut skb = SkBuff::default();
            let h = Ipv4Header { proto, mf, src: ip("10.0.0.1"), dst: ip("10.0.0.2"), ..Ipv4Header::default() };
            skb.head.push(l4.len()).unwrap().copy_from_slice(l4);
            h.emit(skb.head.push(20).unwrap());
            skb.network_header = skb.head.start();
            (skb, h)
        };
        let keys = |policy, (skb, h): &(SkBuff, Ipv4Header)| {
            HashKeys::of((policy, 7), skb, &Ipv4Header { ihl_bytes: 20, ..*h })
        };
        let udp = packet(IPPROTO_UDP, false, &[0, 7, 1, 0, 0, 8, 0, 0]);
        assert_eq!((keys(0, &udp), keys(1, &udp).ports), (HashKeys::default(), (7, 256)));
        assert_eq!(keys(1, &packet(IPPROTO_UDP, true, &[0, 7, 1, 0, 0, 8, 0, 0])), HashKeys::default(), "a fragment");
        let mut quote = vec![ICMP_TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0];
        let inner = Ipv4Header { total_len: 28, src: ip("10.5.0.1"), dst: ip("10.6.0.1"), ..Ipv4Header::default() };
        quote.resize(28, 0);
        inner.emit(&mut quote[8..]);
        let icmp = packet(IPPROTO_ICMP, false, &quote);
        assert_eq!(keys(0, &icmp).quoted, Some((ip("10.5.0.1"), ip("10.6.0.1"))));
        assert_eq!(keys(1, &icmp), HashKeys::default());
    }
}
