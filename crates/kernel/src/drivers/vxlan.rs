//! VXLAN (RFC 7348): Ethernet frames in UDP datagrams to those who have the same network number. Whoever is behind which of
//! them is learned from what comes, or written down; what nobody is known for goes to the entry of the zero address.
//!
//! Over IPv4. Left out, and refused: groups as the default destination, IPv6, the extensions (GBP, GPE, remote checksum,
//! metadata of flows, VNI filters), answers for neighbours, and `df`. Super-segments are cut before they are wrapped; one to
//! this machine's own address goes by lo.
use crate::drivers::stacked;
use crate::drivers::veth::scrub;
use crate::env::Jiffies;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{DevKind, Features};
use crate::net::core::skb::Skb;
use crate::net::core::{dev_rx, dev_tx, features};
use crate::net::drop::DropReason;
use crate::net::ethernet;
use crate::net::ipv4::output::{IpTx, ip_queue_xmit};
use crate::net::ipv4::route::{Flow4, ip_route_output, rt_tos2priority};
use crate::net::mib::Mib;
use crate::net::netlink::notify;
use crate::net::sched::headers;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::{NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE, RTM_DELNEIGH, RTM_NEWNEIGH};
use belljar_wire::ethernet::{ETH_HLEN, EthHeader, VLAN_HLEN};
use belljar_wire::flow::FlowKey;
use belljar_wire::ipv4::{IPPROTO_UDP, IPV4_HLEN};
use belljar_wire::udp::{UDP_HLEN, UdpHeader};
use belljar_wire::{Csum, Encap, Mac, checksum};
use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// The port that Linux used before there was one.
pub const DEFAULT_PORT: u16 = 8472;
const VXLAN_HLEN: usize = 8;
/// What wraps a frame.
pub const HEADROOM: u32 = (IPV4_HLEN + UDP_HLEN + VXLAN_HLEN + ETH_HLEN) as u32;
/// The header says which network: the only flag there is without extensions.
const FLAG_VNI: u8 = 8;
/// Addresses of one device, and destinations of one address: who sends from more gets no more memory for it.
const MOST_ENTRIES: usize = 16_384;
const MOST_REMOTES: usize = 256;
/// Copies that tunnels in tunnels may make of one packet: bridges with several of them multiply it at each.
pub(super) const MOST_NESTED: u32 = 256;
/// Tunnels in tunnels that one packet may go through (`XMIT_RECURSION_LIMIT`).
const RECURSION_LIMIT: u32 = 8;

/// The driver's part of one.
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// The namespace whose network carries it: that in which it was made, wherever the device goes.
    pub ns: NsId,
    pub lower: Option<DevId>,
    pub vni: u32,
    pub port: u16,
    pub remote: Ipv4Addr,
    pub local: Ipv4Addr,
    /// 0: the namespace's default.
    pub ttl: u8,
    /// It is that of the packet inside.
    pub ttl_inherit: bool,
    /// 1: that of the packet inside.
    pub tos: u8,
    pub learning: bool,
    /// Seconds.
    pub ageing: u32,
    /// Source ports to choose from; zeros: the namespace's range.
    pub ports: (u16, u16),
    pub udp_csum: bool,
    /// Of packets over IPv6, which there are none of: sent without a checksum, taken so.
    pub no_csum6: (bool, bool),
    /// Addresses at most; 0: no limit of its own.
    pub addrmax: u32,
    pub fdb: BTreeMap<Mac, VxFdb>,
}

/// Where an address is (`struct vxlan_fdb`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxFdb {
    pub state: u16,
    pub used: Jiffies,
    pub updated: Jiffies,
    pub remotes: Vec<Remote>,
}

/// One who gets its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    pub ip: Ipv4Addr,
    pub port: u16,
    pub vni: u32,
    pub dev: Option<DevId>,
}

impl Vxlan {
    /// The default destination, where there is one.
    fn default_entry(&self) -> Option<Remote> {
        let r = Remote { ip: self.remote, port: self.port, vni: self.vni, dev: self.lower };
        (!self.remote.is_unspecified()).then_some(r)
    }

    pub fn is_static(state: u16) -> bool {
        state & (NUD_PERMANENT | NUD_NOARP) != 0
    }
}

/// A device's part as a VXLAN, if it is one.
pub fn of(net: &Net, dev: DevId) -> Option<&Vxlan> {
    match &net.devs.get(dev)?.kind {
        DevKind::Vxlan(v) => Some(v),
        _ => None,
    }
}

impl Net {
    /// `ip link add NAME type vxlan …`: EEXIST for a number that another one of this port has, EMLINK on too many others.
    #[doc(alias = "__vxlan_dev_create")]
    pub fn add_vxlan(&mut self, (ns, name): (NsId, &str), v: Vxlan) -> Result<DevId, Errno> {
        let same = |d: &crate::net::core::dev::NetDevice| matches!(&d.kind, DevKind::Vxlan(o) if o.ns == v.ns && o.vni == v.vni && o.port == v.port);
        if self.devs.iter().any(|(_, d)| same(d)) {
            return Err(Errno::EEXIST);
        }
        let lower = v.lower;
        let mut mtu = 1500;
        if let Some(lower) = lower {
            stacked::may_stack(self, lower)?;
            mtu = self.devs.get(lower).ok_or(Errno::ENODEV)?.mtu.saturating_sub(HEADROOM).max(68);
        }
        let (mac, entry) = (self.random_mac(), v.default_entry());
        let id = self.register_netdev(ns, name, mtu, DevKind::Vxlan(Box::new(v)))?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.features) = (mac, Features::NONE);
        }
        features::update(self, id);
        if let Some(lower) = lower {
            stacked::link(self, id, lower);
        }
        if let Some(r) = entry {
            fdb_set(self, id, Mac::ZERO, NUD_REACHABLE | NUD_PERMANENT, vec![r]);
        }
        Ok(id)
    }

    pub(crate) fn vxlan_mut(&mut self, dev: DevId) -> Option<&mut Vxlan> {
        match &mut self.devs.get_mut(dev)?.kind {
            DevKind::Vxlan(v) => Some(v),
            _ => None,
        }
    }
}

/// It comes up: EADDRINUSE when a program has its port.
#[doc(alias = "vxlan_open")]
pub fn open(net: &mut Net, dev: DevId) -> Result<(), Errno> {
    let Some((ns, port, vni)) = of(net, dev).map(|v| (v.ns, v.port, v.vni)) else { return Ok(()) };
    let n = net.ns.get_mut(ns).ok_or(Errno::ENOTCONN)?;
    if !n.udp.on_port(port).is_empty() {
        return Err(Errno::EADDRINUSE);
    }
    n.udp.encap.insert((port, vni), dev);
    Ok(())
}

/// It goes down, and what was learned is forgotten.
#[doc(alias = "vxlan_stop")]
pub fn stop(net: &mut Net, dev: DevId) {
    let Some((ns, key)) = of(net, dev).map(|v| (v.ns, (v.port, v.vni))) else { return };
    if let Some(n) = net.ns.get_mut(ns) {
        n.udp.encap.remove(&key);
    }
    flush(net, dev, |e| !Vxlan::is_static(e.state));
}

/// Entries go.
pub fn flush(net: &mut Net, dev: DevId, which: impl Fn(&VxFdb) -> bool) {
    let Some(v) = net.vxlan_mut(dev) else { return };
    let gone: Vec<Mac> = v.fdb.iter().filter(|(_, e)| which(e)).map(|(m, _)| *m).collect();
    for mac in gone {
        fdb_del(net, dev, mac);
    }
}

pub fn fdb_del(net: &mut Net, dev: DevId, mac: Mac) -> bool {
    let entry = net.vxlan_mut(dev).and_then(|v| v.fdb.remove(&mac));
    let Some(e) = entry else { return false };
    for r in &e.remotes {
        notify::vxlan_fdb(net, RTM_DELNEIGH, dev, mac, &e, r);
    }
    true
}

/// The entry of an address is this from now on.
pub fn fdb_set(net: &mut Net, dev: DevId, mac: Mac, state: u16, remotes: Vec<Remote>) {
    let now = net.env.jiffies();
    let e = VxFdb { state, used: now, updated: now, remotes };
    let Some(v) = net.vxlan_mut(dev) else { return };
    v.fdb.insert(mac, e.clone());
    for r in &e.remotes {
        notify::vxlan_fdb(net, RTM_NEWNEIGH, dev, mac, &e, r);
    }
}

/// One more destination; ENOBUFS for too many of them.
#[doc(alias = "vxlan_fdb_append")]
pub fn fdb_append(net: &mut Net, dev: DevId, mac: Mac, r: Remote) -> Result<(), Errno> {
    let Some(e) = net.vxlan_mut(dev).and_then(|v| v.fdb.get_mut(&mac)) else { return Err(Errno::ENOENT) };
    if e.remotes.contains(&r) {
        return Ok(());
    }
    if e.remotes.len() >= MOST_REMOTES {
        return Err(Errno::ENOBUFS);
    }
    e.remotes.push(r);
    let e = e.clone();
    notify::vxlan_fdb(net, RTM_NEWNEIGH, dev, mac, &e, &r);
    Ok(())
}

/// There is room for another address.
pub fn has_room(net: &Net, dev: DevId) -> bool {
    of(net, dev).is_some_and(|v| {
        v.fdb.len() < MOST_ENTRIES && (v.addrmax == 0 || v.fdb.len() < usize::try_from(v.addrmax).unwrap_or(usize::MAX))
    })
}

fn expired(net: &Net, v: &Vxlan, e: &VxFdb) -> bool {
    let age = (u64::from(v.ageing) * u64::from(net.env.hz)) as Jiffies;
    v.ageing != 0 && !Vxlan::is_static(e.state) && net.env.jiffies().wrapping_sub(e.updated) >= age
}

/// The entries that count, by address.
pub fn entries(net: &Net, dev: DevId) -> impl Iterator<Item = (Mac, &VxFdb)> {
    let v = of(net, dev);
    let all = v.into_iter().flat_map(|v| v.fdb.iter().map(move |(m, e)| (v, *m, e)));
    all.filter(|(v, _, e)| !expired(net, v, e)).map(|(_, m, e)| (m, e))
}

/// The number of destinations of an address, and one of them.
fn remote(net: &Net, dev: DevId, mac: Mac, n: usize) -> Option<(usize, Remote)> {
    let v = of(net, dev)?;
    let e = v.fdb.get(&mac).filter(|e| !expired(net, v, e))?;
    Some((e.remotes.len(), *e.remotes.get(n)?))
}

/// To everybody who is known for the address, or to those of the zero address.
#[inline(never)]
pub fn vxlan_xmit(net: &mut Net, dev: DevId, mut skb: Skb) {
    if !skb.fits_tunnel(HEADROOM as usize) {
        return dev_tx::segment(net, dev, skb);
    }
    if skb.gso.is_none() {
        dev_tx::skb_checksum_help(&mut skb);
    }
    let to = skb.head.bytes().first_chunk().map_or(Mac::ZERO, |m| Mac(*m));
    let key = if remote(net, dev, to, 0).is_some() { to } else { Mac::ZERO };
    let Some((count, first)) = remote(net, dev, key, 0) else {
        if let Some(d) = net.devs.get_mut(dev) {
            d.stats.tx_dropped += 1;
        }
        return net.kfree_skb(skb, DropReason::NoTxTarget, "vxlan_xmit");
    };
    let now = net.env.jiffies();
    if let Some(e) = net.vxlan_mut(dev).and_then(|v| v.fdb.get_mut(&key)) {
        e.used = now;
    }
    for n in 1..count {
        if let Some((_, r)) = remote(net, dev, key, n) {
            let copy = net.clone_skb(&skb);
            xmit_one(net, dev, r, copy);
        }
    }
    xmit_one(net, dev, first, skb);
}

/// It could not be sent.
fn tx_error(net: &mut Net, dev: DevId, skb: Skb, (reason, carrier): (DropReason, bool)) {
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.tx_errors += 1;
        d.stats.tx_carrier += u64::from(carrier);
    }
    net.kfree_skb(skb, reason, "vxlan_xmit_one");
}

#[doc(alias = "vxlan_xmit_one")]
fn xmit_one(net: &mut Net, dev: DevId, r: Remote, mut skb: Skb) {
    let Some(v) = of(net, dev) else { return net.kfree_skb(skb, DropReason::DevReady, "vxlan_xmit_one") };
    let (ns, local, ttl, udp_csum) =
        (v.ns, v.local, if v.ttl_inherit { headers::ttl(&skb).unwrap_or(0) } else { v.ttl }, v.udp_csum);
    let (wanted, ports) = (v.tos, v.ports);
    net.xmit_nested = if net.xmit_depth == 0 { 0 } else { net.xmit_nested + 1 };
    if net.xmit_depth >= RECURSION_LIMIT || net.xmit_nested > MOST_NESTED {
        return tx_error(net, dev, skb, (DropReason::NotSpecified, false));
    }
    let inside = headers::dsfield(&skb).unwrap_or(0);
    let tos = encapsulated(if wanted == 1 { inside & !3 } else { wanted }, inside);
    let sport = source_port(net, ns, ports, &skb);
    let fl = Flow4 { saddr: local, oif: r.dev, tos: tos & 0x1c, ports: (sport, r.port), ..Flow4::to(r.ip) };
    let dst = match ip_route_output(net, ns, &fl) {
        Ok(dst) if dst.dev != dev => dst,
        Ok(_) => return tx_error(net, dev, skb, (DropReason::NotSpecified, false)),
        Err(e) => return tx_error(net, dev, skb, (DropReason::IpOutNoRoutes, e == Errno::ENETUNREACH)),
    };
    let core::net::IpAddr::V4(src) = dst.src else { return tx_error(net, dev, skb, (DropReason::IpOutNoRoutes, true)) };
    let saddr = if local.is_unspecified() { src } else { local };
    let own_ns = net.devs.get(dev).map(|d| d.ns);
    let sent = (skb.len().saturating_sub(ETH_HLEN)) as u64;
    scrub(net, &mut skb, own_ns != Some(ns));
    // A tag more may be put on below.
    if !skb.cow_head(HEADROOM as usize + VLAN_HLEN) {
        return tx_error(net, dev, skb, (DropReason::NoMem, false));
    }
    push_headers(&mut skb, (saddr, r.ip), (sport, r.port), r.vni, udp_csum);
    skb.priority = rt_tos2priority(tos);
    let ttl = match ttl {
        0 => net.ns.get(ns).map_or(64, |n| n.sysctl.ip_default_ttl) as u8,
        ttl => ttl,
    };
    let tx = IpTx { ns, saddr, daddr: r.ip, proto: IPPROTO_UDP, tos, ttl, df: false, optlen: 0 };
    net.xmit_depth += 1;
    let done = ip_queue_xmit(net, &tx, &dst, skb);
    net.xmit_depth -= 1;
    if let Some(d) = net.devs.get_mut(dev) {
        match done {
            Ok(()) => d.stats.tx(1, sent),
            Err(_) => {
                d.stats.tx_errors += 1;
                d.stats.tx_dropped += 1;
            }
        }
    }
}

/// What the packet inside says of congestion is said outside as well (RFC 6040 §4.1, with the mark itself left inside).
#[doc(alias = "INET_ECN_encapsulate")]
fn encapsulated(tos: u8, inside: u8) -> u8 {
    tos & !3 | if inside & 3 == 3 { 2 } else { inside & 3 }
}

/// UDP and VXLAN headers in front of the frame.
fn push_headers(skb: &mut Skb, (saddr, daddr): (Ipv4Addr, Ipv4Addr), (sport, dport): (u16, u16), vni: u32, sum: bool) {
    let Some(room) = skb.head.push(UDP_HLEN + VXLAN_HLEN) else { return };
    room.fill(0);
    room[UDP_HLEN] = FLAG_VNI;
    room[UDP_HLEN + 4..].copy_from_slice(&(vni << 8).to_be_bytes());
    let len = skb.len();
    let header = UdpHeader { src_port: sport, dst_port: dport, len: len as u16, csum: 0 };
    header.emit(skb.head.bytes_mut());
    if let Some(g) = &mut skb.gso {
        // Who cuts it makes the sums.
        g.encap = if sum { Encap::UdpTnlCsum } else { Encap::UdpTnl };
        let csum = checksum::partial(checksum::pseudo_v4(saddr, daddr, IPPROTO_UDP, len));
        UdpHeader { csum: if sum { csum } else { 0 }, ..header }.emit(skb.head.bytes_mut());
        (skb.transport_header, skb.hash) = (skb.head.start(), 0);
        return;
    }
    skb.csum = Csum::None;
    if sum {
        let linear = skb.head.bytes();
        let all = checksum::combine(checksum::sum(linear, 0), checksum::segs(&skb.frags), linear.len());
        let csum = checksum::fold(checksum::add(checksum::pseudo_v4(saddr, daddr, IPPROTO_UDP, len), all));
        // RFC 768: a zero goes out as all ones.
        UdpHeader { csum: if csum == 0 { 0xffff } else { csum }, ..header }.emit(skb.head.bytes_mut());
    }
    skb.transport_header = skb.head.start();
    skb.hash = 0;
}

/// The same for all packets of a conversation, both ways.
#[doc(alias = "udp_flow_src_port")]
fn source_port(net: &Net, ns: NsId, ports: (u16, u16), skb: &Skb) -> u16 {
    let Some(n) = net.ns.get(ns) else { return ports.0 };
    let range = n.sysctl.ip_local_port_range;
    let (lo, hi) = if ports == (0, 0) { (range.lo, range.hi) } else { ports };
    let mut h = siphasher::sip::SipHasher13::new_with_keys(n.secret[0], n.secret[1]);
    let b = skb.head.bytes();
    match b.get(ETH_HLEN..).filter(|_| matches!(b.get(12..14), Some([8, 0] | [0x86, 0xdd]))).and_then(FlowKey::from_ip)
    {
        Some(k) => {
            let (a, b) = ((k.src, k.sport), (k.dst, k.dport));
            (a.min(b), a.max(b), k.proto).hash(&mut h);
        }
        None => {
            let (a, c) = (b.get(..6), b.get(6..12));
            (a.min(c), a.max(c)).hash(&mut h);
        }
    }
    let hash = h.finish() & 0xffff_ffff;
    lo + ((hash * u64::from(hi.saturating_sub(lo))) >> 32) as u16
}

/// A datagram to a port of ours, pulled to its UDP header.
#[doc(alias = "vxlan_rcv")]
pub fn rcv(net: &mut Net, ns: NsId, dport: u16, mut skb: Skb) {
    net.inc(ns, Mib::UdpInDatagrams);
    let Some(outer) = skb.ip_hdr().filter(|_| skb.may_pull(UDP_HLEN + VXLAN_HLEN + ETH_HLEN)) else {
        return net.kfree_skb(skb, DropReason::HdrTrunc, "vxlan_rcv");
    };
    let Some(&[flags, r0, r1, r2, v0, v1, v2, r3]) = skb.head.bytes().get(UDP_HLEN..).and_then(|b| b.first_chunk())
    else {
        return net.kfree_skb(skb, DropReason::HdrTrunc, "vxlan_rcv");
    };
    let found = match flags & FLAG_VNI {
        0 => return net.kfree_skb(skb, DropReason::VxlanInvalidHdr, "vxlan_rcv"),
        _ => net.ns.get(ns).and_then(|n| n.udp.encap.get(&(dport, u32::from_be_bytes([0, v0, v1, v2])))).copied(),
    };
    let Some(dev) = found else { return net.kfree_skb(skb, DropReason::VxlanVniNotFound, "vxlan_rcv") };
    if flags != FLAG_VNI || [r0, r1, r2, r3] != [0; 4] {
        return rx_error(net, dev, skb, DropReason::VxlanInvalidHdr);
    }
    let Some((own, own_ns)) = net.devs.get(dev).map(|d| (d.mac, d.ns)) else {
        return net.kfree_skb(skb, DropReason::DevReady, "vxlan_rcv");
    };
    let _ = skb.head.pull(UDP_HLEN + VXLAN_HLEN);
    let from = EthHeader::parse(skb.head.bytes()).map_or(Mac::ZERO, |e| e.src);
    scrub(net, &mut skb, own_ns != ns);
    skb.pull_offloads();
    ethernet::type_trans(&mut skb, own);
    if from == own {
        return net.kfree_skb(skb, DropReason::LocalMac, "vxlan_rcv");
    }
    if from.is_multicast() || from.is_zero() {
        return net.kfree_skb(skb, DropReason::MacInvalidSource, "vxlan_rcv");
    }
    if of(net, dev).is_some_and(|v| v.learning) && !snoop(net, dev, from, outer.src) {
        return net.kfree_skb(skb, DropReason::VxlanEntryExists, "vxlan_rcv");
    }
    // RFC 6040 §4.2: a mark outside that nobody inside understands is a lost packet.
    if outer.tos & 3 == 3 && headers::dsfield(&skb).is_some() && !headers::set_ce(&mut skb) {
        return rx_error(net, dev, skb, DropReason::IpTunnelEcn);
    }
    skb.dev = Some(dev);
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx(1, skb.len() as u64);
    }
    dev_rx::netif_rx(net, skb);
}

fn rx_error(net: &mut Net, dev: DevId, skb: Skb, reason: DropReason) {
    if let Some(d) = net.devs.get_mut(dev) {
        d.stats.rx_errors += 1;
    }
    net.kfree_skb(skb, reason, "vxlan_rcv");
}

/// The sender of a frame is behind the one who sent the datagram; false when it was written down to be elsewhere.
#[doc(alias = "vxlan_snoop")]
fn snoop(net: &mut Net, dev: DevId, mac: Mac, ip: Ipv4Addr) -> bool {
    let now = net.env.jiffies();
    let Some(v) = net.vxlan_mut(dev) else { return true };
    let new = Remote { ip, port: v.port, vni: v.vni, dev: None };
    if let Some(e) = v.fdb.get_mut(&mac) {
        if e.remotes.first().is_some_and(|r| r.ip == ip) {
            e.updated = now;
            return true;
        }
        if Vxlan::is_static(e.state) {
            return false;
        }
    } else if v.fdb.len() >= MOST_ENTRIES {
        sweep(net, dev);
        if !has_room(net, dev) {
            return true;
        }
    }
    fdb_set(net, dev, mac, NUD_REACHABLE, vec![new]);
    true
}

/// What was not heard of for long goes.
#[doc(alias = "vxlan_cleanup")]
fn sweep(net: &mut Net, dev: DevId) {
    let Some(v) = of(net, dev) else { return };
    let old: Vec<Mac> = v.fdb.iter().filter(|(_, e)| expired(net, v, e)).map(|(m, _)| *m).collect();
    for mac in old {
        fdb_del(net, dev, mac);
    }
}
