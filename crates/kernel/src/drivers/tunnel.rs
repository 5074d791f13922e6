//! Tunnels over IPv4: packets in packets. ipip (RFC 2003), gre and gretap (RFC 2784, 2890), sit (RFC 4213).
//!
//! Left out, and refused: encapsulation in UDP (fou, gue), metadata of flows (`external`), ERSPAN, MPLS, ISATAP, groups as the
//! remote, other prefixes of 6rd than 6to4's. Super-segments are cut before they are wrapped.
use crate::drivers::stacked;
use crate::drivers::veth::scrub;
use crate::drivers::vxlan::MOST_NESTED;
use crate::env::Jiffies;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{DevKind, Features};
use crate::net::core::skb::Skb;
use crate::net::core::{dev_tx, features};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp::icmp_send;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Dst, Flow4, ip_route_output, rt_tos2priority, select_ident, update_pmtu};
use crate::net::ipv6::icmp::icmpv6_send;
use crate::net::ipv6::route::update_pmtu as update_pmtu6;
use belljar_abi::Errno;
use belljar_abi::{ARPHRD_ETHER, ARPHRD_IPGRE, ARPHRD_SIT, ARPHRD_TUNNEL};
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, VLAN_HLEN};
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_HOST_UNREACH};
use belljar_wire::icmpv6::{ICMPV6_ADDR_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_PKT_TOOBIG};
use belljar_wire::ipv4::{IPPROTO_IPV6, IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{IPV6_MIN_MTU, Ipv6Header};
use belljar_wire::{Csum, Encap, checksum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

pub use super::tunnel_rx::{err, rcv};

pub const IPPROTO_IPIP: u8 = 4;
pub const IPPROTO_GRE: u8 = 47;
/// Ethernet frames in GRE.
pub const ETH_P_TEB: u16 = 0x6558;
pub const GRE_CSUM: u16 = 0x8000;
pub const GRE_ROUTING: u16 = 0x4000;
pub const GRE_KEY: u16 = 0x2000;
pub const GRE_SEQ: u16 = 0x1000;
pub const GRE_VERSION: u16 = 7;
/// The smallest and largest packet of IPv4.
const IPV4_MIN_MTU: u32 = 68;
pub const IP_MAX_MTU: u32 = 65_535;
/// Tunnels in tunnels that one packet may go through (`XMIT_RECURSION_LIMIT`).
const RECURSION_LIMIT: u32 = 8;
/// So long errors from the way are told to those who send (`IPTUNNEL_ERR_TIMEO`), in seconds.
const ERR_TIMEO: u32 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ipip,
    Sit,
    Gre,
    Gretap,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ipip => "ipip",
            Kind::Sit => "sit",
            Kind::Gre => "gre",
            Kind::Gretap => "gretap",
        }
    }

    pub fn arphrd(self) -> u16 {
        match self {
            Kind::Ipip => ARPHRD_TUNNEL,
            Kind::Sit => ARPHRD_SIT,
            Kind::Gre => ARPHRD_IPGRE,
            Kind::Gretap => ARPHRD_ETHER,
        }
    }
}

/// The driver's part of one (`struct ip_tunnel`).
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    pub kind: Kind,
    /// The namespace whose network carries it: that in which it was made, wherever the device goes.
    pub ns: NsId,
    pub lower: Option<DevId>,
    pub local: Ipv4Addr,
    pub remote: Ipv4Addr,
    /// 0: that of the packet inside.
    pub ttl: u8,
    /// 1: that of the packet inside.
    pub tos: u8,
    /// What it carries: 4, 41 or anything (0).
    pub proto: u8,
    pub pmtudisc: bool,
    pub ignore_df: bool,
    pub iflags: u16,
    pub oflags: u16,
    pub ikey: u32,
    pub okey: u32,
    pub fwmark: u32,
    pub o_seqno: u32,
    pub i_seqno: u32,
    /// Errors heard of its way lately, and when the last one was.
    pub errors: (u32, Jiffies),
}

impl Tunnel {
    /// Length of GRE's header.
    pub fn gre_hlen(flags: u16) -> usize {
        4 + [GRE_CSUM, GRE_KEY, GRE_SEQ].into_iter().filter(|f| flags & f != 0).count() * 4
    }

    /// Its packets are numbered.
    pub fn numbers(&self) -> bool {
        matches!(self.kind, Kind::Gre | Kind::Gretap) && self.oflags & GRE_SEQ != 0
    }

    /// What stands in front of a packet behind the IPv4 header.
    fn hlen(&self) -> usize {
        match self.kind {
            Kind::Ipip | Kind::Sit => 0,
            Kind::Gre | Kind::Gretap => Tunnel::gre_hlen(self.oflags),
        }
    }

    /// All that a packet is longer by.
    pub fn overhead(&self) -> u32 {
        let link = if self.kind == Kind::Gretap { ETH_HLEN } else { 0 };
        (IPV4_HLEN + self.hlen() + link) as u32
    }

    /// Protocols under which packets come.
    fn protocols(&self) -> Vec<u8> {
        match (self.kind, self.proto) {
            (Kind::Gre | Kind::Gretap, _) => vec![IPPROTO_GRE],
            (Kind::Ipip, _) => vec![IPPROTO_IPIP],
            (Kind::Sit, 0) => vec![IPPROTO_IPV6, IPPROTO_IPIP],
            (Kind::Sit, p) => vec![p],
        }
    }

    /// The end of its link-local address, made of the local one, if its kind has one.
    #[doc(alias = "addrconf_ifid_gre")]
    #[doc(alias = "add_v4_addrs")]
    pub fn interface_id(&self) -> Option<u64> {
        let local = u64::from(u32::from(self.local));
        match self.kind {
            _ if self.local.is_unspecified() => None,
            Kind::Gre => {
                let a = self.local;
                let [w, x, y, _] = a.octets();
                let kept = [(192, 0, 2), (192, 88, 99)].contains(&(w, x, y)) || (w, x & 0xfe) == (198, 18) || w == 0;
                let special = kept || a.is_private() || a.is_loopback() || a.is_link_local() || a.is_multicast();
                Some(u64::from(!special) << 57 | 0x5efe << 32 | local)
            }
            Kind::Sit if !self.remote.is_unspecified() => Some(local),
            _ => None,
        }
    }

    /// A key is wanted, and is this; or none is.
    #[doc(alias = "ip_tunnel_key_match")]
    pub(super) fn key_fits(&self, key: Option<u32>) -> bool {
        key == (self.iflags & GRE_KEY != 0).then_some(self.ikey)
    }
}

/// The tunnels of a namespace by protocol, remote and local address.
#[derive(Clone, Debug, Default)]
pub struct Table {
    by: BTreeMap<(u8, Ipv4Addr, Ipv4Addr), Vec<DevId>>,
}

impl Table {
    /// Somebody takes packets of this protocol.
    pub fn has(&self, proto: u8) -> bool {
        let all =
            (proto, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)..=(proto, Ipv4Addr::BROADCAST, Ipv4Addr::BROADCAST);
        !self.by.is_empty() && self.by.range(all).next().is_some()
    }

    pub fn at(&self, proto: u8, remote: Ipv4Addr, local: Ipv4Addr) -> &[DevId] {
        self.by.get(&(proto, remote, local)).map_or(&[], |v| v)
    }
}

/// A device's part as a tunnel, if it is one.
pub fn of(net: &Net, dev: DevId) -> Option<&Tunnel> {
    match &net.devs.get(dev)?.kind {
        DevKind::Tunnel(t) => Some(t),
        _ => None,
    }
}

impl Net {
    pub(crate) fn tunnel_mut(&mut self, dev: DevId) -> Option<&mut Tunnel> {
        match &mut self.devs.get_mut(dev)?.kind {
            DevKind::Tunnel(t) => Some(t),
            _ => None,
        }
    }

    /// `ip link add NAME type gre …`: EEXIST for what another one is already.
    #[doc(alias = "ip_tunnel_newlink")]
    pub fn add_tunnel(&mut self, (ns, name): (NsId, &str), t: Tunnel, mac: bool) -> Result<DevId, Errno> {
        if self.same_tunnel(&t, None) {
            return Err(Errno::EEXIST);
        }
        if let Some(lower) = t.lower {
            stacked::may_stack(self, lower)?;
        }
        let mtu = self.tunnel_mtu(&t);
        let mac = (t.kind == Kind::Gretap && !mac).then(|| self.random_mac());
        let id = self.register_netdev(ns, name, mtu, DevKind::Tunnel(Box::new(t)))?;
        if let Some(d) = self.devs.get_mut(id) {
            d.features = Features::NONE;
            d.mac = mac.unwrap_or(d.mac);
            (d.iff_noarp, d.no_multicast) = (t.kind != Kind::Gretap, t.kind != Kind::Gretap);
        }
        if let Some(lower) = t.lower {
            stacked::link(self, id, lower);
        }
        features::update(self, id);
        self.list_tunnel(id, true);
        Ok(id)
    }

    /// Another one has these ends, and this key (`ip_tunnel_find`).
    pub(crate) fn same_tunnel(&self, t: &Tunnel, but: Option<DevId>) -> bool {
        let ends = |o: &Tunnel| (o.kind, o.ns, o.lower, o.local, o.remote);
        let same = |o: &Tunnel| ends(o) == ends(t) && (o.iflags & GRE_KEY, o.ikey) == (t.iflags & GRE_KEY, t.ikey);
        self.devs.iter().any(|(id, d)| Some(id) != but && matches!(&d.kind, DevKind::Tunnel(o) if same(o)))
    }

    /// What the way to the remote, or the device below, has room for.
    #[doc(alias = "ip_tunnel_bind_dev")]
    pub(crate) fn tunnel_mtu(&mut self, t: &Tunnel) -> u32 {
        let fl = Flow4 { saddr: t.local, oif: t.lower, tos: t.tos & 0x1c, ..Flow4::to(t.remote) };
        let by_route = match t.remote.is_unspecified() {
            true => None,
            false => ip_route_output(self, t.ns, &fl).ok().map(|dst| dst.dev),
        };
        let lower = by_route.or(t.lower).and_then(|l| self.devs.get(l)).map_or(1500, |l| l.mtu.min(IP_MAX_MTU));
        lower.saturating_sub(t.overhead()).max(IPV4_MIN_MTU)
    }

    /// It takes packets from now on, or does not any more.
    pub(crate) fn list_tunnel(&mut self, dev: DevId, on: bool) {
        let Some(t) = of(self, dev).copied() else { return };
        let Some(n) = self.ns.get_mut(t.ns) else { return };
        for proto in t.protocols() {
            let key = (proto, t.remote, t.local);
            let list = n.tunnels.by.entry(key).or_default();
            list.retain(|d| *d != dev);
            if on {
                list.push(dev);
            }
            if list.is_empty() {
                n.tunnels.by.remove(&key);
            }
        }
    }
}

/// What the packet inside says that counts outside.
#[derive(Clone, Copy, Default)]
struct Inner {
    tos: u8,
    ttl: Option<u8>,
    df: bool,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

fn inner(skb: &Skb) -> Inner {
    let b = skb.head.at(skb.network_header);
    match b.first().map(|v| v >> 4) {
        Some(4) => Ipv4Header::parse(b).map_or(Inner::default(), |ip| Inner {
            tos: ip.tos,
            ttl: Some(ip.ttl),
            df: ip.df,
            v4: Some(ip.dst),
            v6: None,
        }),
        Some(6) => Ipv6Header::parse(b).map_or(Inner::default(), |ip| Inner {
            tos: b[0] << 4 | b.get(1).map_or(0, |c| c >> 4),
            ttl: Some(ip.hop_limit),
            df: false,
            v4: None,
            v6: Some(ip.dst),
        }),
        _ => Inner::default(),
    }
}

/// Why it could not be sent: the counter beside `tx_errors`.
enum Wrong {
    Plain,
    Carrier,
    Looped,
}

#[inline(never)]
#[doc(alias = "ip_tunnel_xmit")]
pub fn tunnel_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    let overhead = of(net, dev).map_or(0, |t| t.overhead() as usize);
    if !skb.fits_tunnel(overhead) {
        return dev_tx::segment(net, dev, skb);
    }
    if skb.gso.is_none() {
        dev_tx::skb_checksum_help(&mut skb);
    }
    let Some((t, own_ns)) = of(net, dev).copied().zip(net.devs.get(dev).map(|d| d.ns)) else {
        return net.consume_skb(skb);
    };
    skb.ns = Some(own_ns);
    if t.kind == Kind::Gretap {
        let ether = skb.head.bytes().get(12..14).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        skb.protocol = ether;
        skb.network_header = skb.head.start().saturating_add(ETH_HLEN as u8);
    } else {
        let _ = skb.head.pull(ETH_HLEN);
        skb.protocol = skb.protocol_or_ip();
        skb.network_header = skb.head.start();
    }
    let wrong = match carry(net, dev, &t, own_ns, &mut skb) {
        Ok((tx, dst)) => return send(net, dev, &t, (own_ns, tx, dst), skb),
        Err(w) => w,
    };
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.tx_errors += 1;
        d.stats.tx_carrier += u64::from(matches!(wrong, Wrong::Carrier));
        d.stats.collisions += u64::from(matches!(wrong, Wrong::Looped));
    }
    net.kfree_skb(skb, DropReason::NotSpecified, "ip_tunnel_xmit");
}

/// The header outside and the way, or what is wrong; errors are told to the sender inside.
fn carry(net: &mut Net, dev: DevId, t: &Tunnel, own_ns: NsId, skb: &mut Skb) -> Result<(IpTx, Dst), Wrong> {
    net.xmit_nested = if net.xmit_depth == 0 { 0 } else { net.xmit_nested + 1 };
    if net.xmit_depth >= RECURSION_LIMIT || net.xmit_nested > MOST_NESTED {
        return Err(Wrong::Plain);
    }
    let inside = inner(skb);
    let proto = match (t.kind, skb.protocol) {
        (Kind::Gre | Kind::Gretap, _) => IPPROTO_GRE,
        (Kind::Ipip | Kind::Sit, ETH_P_IP) if matches!(t.proto, 0 | IPPROTO_IPIP) => IPPROTO_IPIP,
        (Kind::Sit, ETH_P_IPV6) if matches!(t.proto, 0 | IPPROTO_IPV6) => IPPROTO_IPV6,
        _ => return Err(Wrong::Plain),
    };
    let daddr = if t.remote.is_unspecified() { next_hop(skb, &inside).ok_or(Wrong::Plain)? } else { t.remote };
    let tos = if t.tos & 1 != 0 { inside.tos } else { t.tos };
    let fl = Flow4 { saddr: t.local, oif: t.lower, tos: tos & 0x1c, mark: t.fwmark, ..Flow4::to(daddr) };
    let dst = ip_route_output(net, t.ns, &fl).map_err(|_| Wrong::Carrier)?;
    if dst.dev == dev {
        return Err(Wrong::Looped);
    }
    let df = t.pmtudisc || inside.df && !t.ignore_df;
    let df = fits(net, dev, t, (own_ns, &inside), (&dst, df), skb).ok_or(Wrong::Plain)?;
    tell_failure(net, dev, skb);
    let IpAddr::V4(src) = dst.src else { return Err(Wrong::Carrier) };
    let saddr = if t.local.is_unspecified() { src } else { t.local };
    let default_ttl = net.ns.get(t.ns).map_or(64, |n| n.sysctl.ip_default_ttl) as u8;
    let ttl = if t.ttl == 0 { inside.ttl.unwrap_or(default_ttl) } else { t.ttl };
    // RFC 6040 §4.1: congestion inside is told outside, its mark itself only as being able to be marked.
    let tos = tos & !3 | if inside.tos & 3 == 3 { 2 } else { inside.tos & 3 };
    Ok((IpTx { ns: t.ns, saddr, daddr, proto, tos, ttl, df, optlen: 0 }, dst))
}

/// Without a remote a packet goes to its next hop; one of IPv6 to the IPv4 address in its own (RFC 3056, 4213).
fn next_hop(skb: &Skb, inside: &Inner) -> Option<Ipv4Addr> {
    let v4 = |a: Ipv6Addr| match a.octets() {
        [0x20, 2, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    };
    match (skb.dst.and_then(|d| d.gateway), inside.v4, inside.v6) {
        (Some(IpAddr::V4(via)), Some(_), _) => Some(via),
        (_, Some(to), _) => Some(to),
        (via, None, Some(to)) => v4(to).or_else(|| match via {
            Some(IpAddr::V6(via)) => v4(via),
            _ => None,
        }),
        _ => None,
    }
}

/// Whether the packet may go as it is, with DF or without; `None`: it is too long, and its sender knows.
#[doc(alias = "tnl_update_pmtu")]
fn fits(
    net: &mut Net,
    dev: DevId,
    t: &Tunnel,
    (own_ns, inside): (NsId, &Inner),
    (dst, df): (&Dst, bool),
    skb: &Skb,
) -> Option<bool> {
    let link = if t.kind == Kind::Gretap { ETH_HLEN } else { 0 };
    let size = skb.len().saturating_sub(link) as u32;
    let way = dst.mtu.saturating_sub(t.overhead());
    if t.kind == Kind::Sit && inside.v6.is_some() {
        if !df {
            return Some(false);
        }
        // IPv6 is carried in pieces rather than told to be shorter than it may be.
        let (mtu, df) = if way < IPV6_MIN_MTU { (IPV6_MIN_MTU, false) } else { (way, true) };
        learn(net, own_ns, inside, mtu, skb);
        if size > mtu && skb.gso.is_none() {
            icmpv6_send(net, skb, ICMPV6_PKT_TOOBIG, 0, mtu);
            return None;
        }
        return Some(df);
    }
    let own = skb.dst.map_or_else(|| net.devs.get(dev).map_or(0, |d| d.mtu), |d| d.mtu);
    let mtu = if df { way } else { own };
    learn(net, own_ns, inside, mtu, skb);
    // What is cut later was made for the way.
    if skb.gso.is_some() {
        return Some(df);
    }
    if inside.v4.is_some() && inside.df && mtu < size {
        icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu);
        return None;
    }
    if inside.v6.is_some() && mtu >= IPV6_MIN_MTU && mtu < size {
        icmpv6_send(net, skb, ICMPV6_PKT_TOOBIG, 0, mtu);
        return None;
    }
    Some(df)
}

/// The route of the packet inside knows what goes through.
fn learn(net: &mut Net, ns: NsId, inside: &Inner, mtu: u32, skb: &Skb) {
    if skb.dst.is_none_or(|d| d.mtu <= mtu) {
        return;
    }
    match (inside.v4, inside.v6) {
        (Some(to), _) => update_pmtu(net, ns, to, mtu),
        (_, Some(to)) if mtu >= IPV6_MIN_MTU => update_pmtu6(net, ns, to, mtu),
        _ => {}
    }
}

/// Errors that came back from the way are told to those who send now, one each.
#[doc(alias = "dst_link_failure")]
fn tell_failure(net: &mut Net, dev: DevId, skb: &Skb) {
    let (now, hz) = (net.env.jiffies(), net.env.hz);
    let Some(t) = net.tunnel_mut(dev).filter(|t| t.errors.0 > 0) else { return };
    if now.wrapping_sub(t.errors.1) >= ERR_TIMEO * hz {
        t.errors.0 = 0;
        return;
    }
    t.errors.0 -= 1;
    match skb.protocol {
        ETH_P_IP => icmp_send(net, skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0),
        ETH_P_IPV6 => icmpv6_send(net, skb, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0),
        _ => {}
    }
}

/// Wrapped, and on its way.
#[doc(alias = "iptunnel_xmit")]
fn send(net: &mut Net, dev: DevId, t: &Tunnel, (own_ns, tx, dst): (NsId, IpTx, Dst), mut skb: Skb) {
    let link = if t.kind == Kind::Gretap { ETH_HLEN } else { 0 };
    let sent = skb.len().saturating_sub(link) as u64;
    let protocol = if t.kind == Kind::Gretap { ETH_P_TEB } else { skb.protocol };
    scrub(net, &mut skb, own_ns != t.ns);
    let room = IPV4_HLEN + t.hlen() + ETH_HLEN + VLAN_HLEN;
    let wrapped = skb.cow_head(room) && (tx.proto != IPPROTO_GRE || push_gre(net, dev, t, protocol, &mut skb));
    if !wrapped {
        if let Some(d) = net.devs.get_mut(dev) {
            d.stats.tx_dropped += 1;
        }
        return net.kfree_skb(skb, DropReason::NoMem, "ip_tunnel_xmit");
    }
    skb.transport_header = skb.head.start();
    skb.hash = 0;
    match &mut skb.gso {
        Some(g) if tx.proto != IPPROTO_GRE => g.encap = Encap::IpIp,
        Some(g) => g.encap = if t.oflags & GRE_CSUM != 0 { Encap::GreCsum } else { Encap::Gre },
        None => skb.csum = Csum::None,
    }
    let segs = skb.gso.map_or(1, |g| g.segs.into());
    skb.priority = rt_tos2priority(tx.tos);
    skb.mark = if t.fwmark != 0 { t.fwmark } else { skb.mark };
    skb.ip_id = Some(select_ident(net, t.ns, &skb, (tx.daddr, tx.saddr, tx.proto), segs));
    net.xmit_depth += 1;
    let done = ip_queue_xmit(net, &tx, &dst, skb);
    net.xmit_depth -= 1;
    if let Some(d) = net.devs.get_mut(dev) {
        match done {
            Ok(()) => d.stats.tx(1, sent),
            Err(_) => d.stats.tx_dropped += 1,
        }
    }
}

/// GRE's header in front of the packet.
#[doc(alias = "gre_build_header")]
fn push_gre(net: &mut Net, dev: DevId, t: &Tunnel, protocol: u16, skb: &mut Skb) -> bool {
    let flags = t.oflags & (GRE_CSUM | GRE_KEY | GRE_SEQ);
    let seq = net.tunnel_mut(dev).map_or(0, |t| {
        let seq = t.o_seqno;
        t.o_seqno = seq.wrapping_add(u32::from(flags & GRE_SEQ != 0));
        seq
    });
    let Some(b) = skb.head.push(Tunnel::gre_hlen(flags)) else { return false };
    b.fill(0);
    b[..2].copy_from_slice(&flags.to_be_bytes());
    b[2..4].copy_from_slice(&protocol.to_be_bytes());
    let mut at = if flags & GRE_CSUM != 0 { 8 } else { 4 };
    for (flag, v) in [(GRE_KEY, t.okey), (GRE_SEQ, seq)] {
        if flags & flag != 0 {
            b[at..at + 4].copy_from_slice(&v.to_be_bytes());
            at += 4;
        }
    }
    if flags & GRE_CSUM != 0 && skb.gso.is_none() {
        let sum = whole_sum(skb);
        skb.head.bytes_mut()[4..6].copy_from_slice(&sum.to_be_bytes());
    }
    true
}

/// The checksum over everything from the head on; 0 where it stands already and is right.
pub(super) fn whole_sum(skb: &Skb) -> u16 {
    let linear = skb.head.bytes();
    checksum::fold(checksum::combine(checksum::sum(linear, 0), checksum::segs(&skb.frags), linear.len()))
}
