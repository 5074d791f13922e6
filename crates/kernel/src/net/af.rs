//! Between the sockets and the two network layers (Linux: `inet_connection_sock_af_ops` and its like): routes, packets and
//! addresses of either family.
use crate::ids::*;
use crate::net::Net;
use crate::net::core::dst_metrics;
use crate::net::core::fib_rules::L4;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::core::sock::Sock;
use crate::net::ipv4::fib::RouteType;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{self, Dst, Flow4, RouteKind};
use crate::net::ipv6::output::{Ip6Tx, ip6_xmit};
use crate::net::ipv6::{self, route::ip6_route_output};
use crate::net::mib::Mib;
use crate::net::tcp::tables::wildcard;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::RTAX_HOPLIMIT;
use belljar_wire::ipv4::IPV4_HLEN;
use belljar_wire::ipv6::IPV6_HLEN;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The device by which a packet came, as sockets see it: what a host sends to an address of its own comes through lo, and counts
/// as come by the device that has the address.
#[inline]
pub fn inet_iif(net: &Net, dev: Option<DevId>, daddr: IpAddr) -> Option<DevId> {
    if daddr.is_loopback() { dev } else { iif_of(net, dev, daddr) }
}

#[inline(never)]
fn iif_of(net: &Net, dev: Option<DevId>, daddr: IpAddr) -> Option<DevId> {
    let d = dev.and_then(|d| net.devs.get(d))?;
    if !d.is_loopback() {
        return dev;
    }
    let n = net.ns.get(d.ns)?;
    let owner = match daddr {
        IpAddr::V4(a) => n.fib.local.get(a, 32).iter().find(|r| r.kind == RouteType::Local).and_then(|r| r.dev),
        IpAddr::V6(a) => n.v6.fib.local.get(a, 128).first().and_then(|r| r.dev),
    };
    owner.or(dev)
}

/// What a route lookup asks (Linux: `struct flowi`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub daddr: IpAddr,
    /// The wildcard: the route chooses.
    pub saddr: IpAddr,
    pub oif: Option<DevId>,
    pub tos: u8,
    pub mark: u32,
    /// Source and destination, where the protocol has them.
    pub ports: (u16, u16),
    /// Its number, 0 where no rule should ask, and whose it is.
    pub proto: u8,
    pub uid: u32,
    /// No router (SO_DONTROUTE, MSG_DONTROUTE). IPv6 does not know it.
    pub onlink: bool,
    /// IPV6_ADDR_PREFERENCES; 0: the settings'.
    pub prefs: u8,
}

impl Flow {
    /// From any address of ours.
    pub fn to(daddr: IpAddr) -> Flow {
        let (tos, mark, ports, proto, uid) = (0, 0, (0, 0), 0, 0);
        Flow { daddr, saddr: wildcard(daddr), oif: None, tos, mark, ports, proto, uid, onlink: false, prefs: 0 }
    }

    pub fn l4(&self) -> L4 {
        L4 { proto: self.proto, ports: self.ports, uid: self.uid }
    }

    /// To the peer of a socket, from its address.
    pub fn of(sk: &Sock, proto: u8) -> Flow {
        let ports = (sk.num, sk.dport);
        Flow {
            daddr: sk.first_hop(sk.daddr),
            saddr: sk.saddr,
            oif: sk.bound_dev,
            tos: sk.tos,
            mark: sk.mark,
            ports,
            proto,
            uid: sk.uid,
            onlink: sk.flags.localroute,
            prefs: sk.src_prefs(),
        }
    }
}

/// The route of a packet of ours. ENETUNREACH without one, the route type's own error otherwise.
pub fn route_output(net: &mut Net, ns: NsId, fl: &Flow) -> Result<Dst, Errno> {
    let Flow { oif, tos, mark, ports, proto, uid, onlink, .. } = *fl;
    match (fl.daddr, fl.saddr) {
        (IpAddr::V4(daddr), saddr) => {
            let fl = Flow4 { daddr, saddr: v4(saddr), oif, tos, mark, ports, proto, uid, onlink };
            route::ip_route_output(net, ns, &fl)
        }
        (IpAddr::V6(daddr), _) => ip6_route_output(net, ns, fl, daddr),
    }
}

/// What the network layer's header needs that the packet does not know.
#[derive(Clone, Copy, Debug)]
pub struct Tx {
    pub ns: NsId,
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub proto: u8,
    /// Type of service, traffic class.
    pub tos: u8,
    /// `None`: the setting's.
    pub ttl: Option<u8>,
    /// Don't fragment.
    pub df: bool,
    /// IPv6: members of the group on this host hear it too.
    pub mc_loop: bool,
    /// IPv6: IPV6_AUTOFLOWLABEL, where the socket has it.
    pub autolabel: Option<bool>,
    /// IPv6: the flow label, where the program chose it; 0: as `autolabel` says.
    pub flow: u32,
    /// IPv4: bytes of options, which the packet begins with.
    pub optlen: u8,
}

/// Adds the network header and sends.
pub fn queue_xmit(net: &mut Net, tx: &Tx, dst: &Dst, skb: Skb) -> Result<(), Errno> {
    let Tx { ns, proto, tos, df, optlen, .. } = *tx;
    match (tx.saddr, tx.daddr) {
        (IpAddr::V4(saddr), IpAddr::V4(daddr)) => {
            let ttl = tx.ttl.unwrap_or_else(|| hop_limit(net, ns, dst));
            ip_queue_xmit(net, &IpTx { ns, saddr, daddr, proto, tos, ttl, df, optlen }, dst, skb)
        }
        (IpAddr::V6(saddr), IpAddr::V6(daddr)) => {
            let tx6 = Ip6Tx {
                ns,
                saddr,
                daddr,
                proto,
                tclass: tos,
                hop_limit: tx.ttl,
                whole: df,
                mc_loop: tx.mc_loop,
                autolabel: tx.autolabel,
                flow: tx.flow,
            };
            ip6_xmit(net, &tx6, dst, skb)
        }
        _ => {
            net.kfree_skb(skb, crate::net::drop::DropReason::NotSpecified, "queue_xmit");
            Err(Errno::EAFNOSUPPORT)
        }
    }
}

/// The same for what no connection sends again: a packet that did not leave counts as the network layer's discard.
#[doc(alias = "ip_send_skb")]
#[doc(alias = "ip6_send_skb")]
pub fn send_skb(net: &mut Net, tx: &Tx, dst: &Dst, skb: Skb) -> Result<(), Errno> {
    let sent = queue_xmit(net, tx, dst, skb);
    if sent.is_err() {
        discarded(net, tx.ns, tx.daddr.is_ipv6());
    }
    sent
}

#[cold]
pub fn discarded(net: &mut Net, ns: NsId, six: bool) {
    net.inc(ns, Mib::IpOutDiscards.of(six));
}

/// The route's, or the setting's.
#[doc(alias = "ip4_dst_hoplimit")]
#[inline]
pub(crate) fn hop_limit(net: &Net, ns: NsId, dst: &Dst) -> u8 {
    match dst_metrics::metric(net, ns, Some(dst), RTAX_HOPLIMIT) {
        0 => net.ns.get(ns).map_or(64, |n| n.sysctl.ip_default_ttl as u8),
        hops => hops as u8,
    }
}

/// Bytes of the network header without options.
pub fn header_len(addr: IpAddr) -> u32 {
    if addr.is_ipv4() { IPV4_HLEN as u32 } else { IPV6_HLEN as u32 }
}

/// The prefix length of one address.
pub fn prefix_len(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// A group's or everybody's: it receives but nothing is ever sent from it.
pub fn is_for_many(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_multicast(),
    }
}

/// What kind of address this is to the host.
#[doc(alias = "inet_addr_type")]
pub fn addr_type(net: &Net, ns: NsId, addr: IpAddr) -> RouteKind {
    match addr {
        IpAddr::V4(a) => route::addr_type(net, ns, a),
        IpAddr::V6(a) if a.is_multicast() => RouteKind::Multicast,
        IpAddr::V6(a) if ipv6::route::is_local(net, ns, a) => RouteKind::Local,
        IpAddr::V6(_) => RouteKind::Unicast,
    }
}

/// A datagram that had no way to go is counted.
pub fn count_no_route(net: &mut Net, ns: NsId, daddr: IpAddr, e: Errno) {
    match daddr {
        IpAddr::V4(_) => route::count_no_route(net, ns, e),
        IpAddr::V6(_) if e == Errno::ENETUNREACH => net.inc(ns, crate::net::mib::Mib::Ip6OutNoRoutes),
        IpAddr::V6(_) => {}
    }
}

/// One of this host.
pub fn is_local(net: &Net, ns: NsId, addr: IpAddr) -> bool {
    addr_type(net, ns, addr) == RouteKind::Local
}

/// A smaller path MTU became known.
pub fn update_pmtu(net: &mut Net, ns: NsId, daddr: IpAddr, mtu: u32) {
    match daddr {
        IpAddr::V4(a) => route::update_pmtu(net, ns, a, mtu),
        IpAddr::V6(a) => ipv6::route::update_pmtu(net, ns, a, mtu),
    }
}

/// Source and destination of a packet, from its network header.
#[inline]
pub fn addresses(skb: &SkBuff) -> (IpAddr, IpAddr) {
    let h = skb.head.at(skb.network_header);
    match h.first_chunk::<IPV4_HLEN>() {
        Some(h) if h[0] >> 4 != 6 => {
            let at = |o: usize| Ipv4Addr::new(h[o], h[o + 1], h[o + 2], h[o + 3]);
            (at(12).into(), at(16).into())
        }
        _ => addresses6(h),
    }
}

#[inline(never)]
fn addresses6(h: &[u8]) -> (IpAddr, IpAddr) {
    if h.first().is_none_or(|v| v >> 4 != 6) {
        return (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into());
    }
    let at = |o: usize| h.get(o..).and_then(|b| b.first_chunk::<16>()).map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into());
    (at(8).into(), at(24).into())
}

/// The loopback address of the same family.
pub fn loopback(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// The IPv4 address, where there is one.
pub fn v4(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(a) => a,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    #[test]
    fn what_goes_to_an_own_address_came_by_its_device() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        let (a, _) = k.net.add_veth((ns, "p0"), (ns, "p1")).unwrap();
        let lo = k.net.ns.get(ns).unwrap().lo;
        for dev in [lo, a] {
            k.set_link(dev, true).unwrap();
        }
        k.net.add_address(a, Ipv4Addr::new(192, 168, 1, 1), 24).unwrap();
        let by = |dev, addr: &str| inet_iif(&k.net, Some(dev), addr.parse().unwrap());
        assert_eq!(by(lo, "192.168.1.1"), Some(a));
        assert_eq!((by(lo, "127.0.0.1"), by(lo, "10.1.1.1"), by(a, "127.0.0.1")), (Some(lo), Some(lo), Some(a)));
    }
}
