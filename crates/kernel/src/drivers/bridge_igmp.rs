//! The messages that multicast snooping lives by: reports, leaves and queries of IGMP and MLD as they pass a bridge, and the
//! queries that it sends itself.
use super::bridge_mcast::{self as mcast, BrIp, Family, GroupAddr, Seen, before};
use super::{bridge, bridge_sources};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::Skb;
use crate::net::core::{dev_rx, dev_tx};
use crate::net::ethernet;
use crate::net::ipv4::fib::Scope;
use crate::net::ipv4::output::multicast_mac as mac4;
use crate::net::ipv6::output::multicast_mac as mac6;
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP, ETH_P_IPV6, EthHeader};
use belljar_wire::icmpv6::*;
use belljar_wire::igmp::{self, IPPROTO_IGMP, IgmpHeader, RecordType};
use belljar_wire::ipv4::{IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{ALL_NODES, IPV6_HLEN, Ipv6Header, NEXTHDR_HOP};
use belljar_wire::{Mac, checksum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The router alert option of IPv4 and, with padding, of IPv6.
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
const HOP_BY_HOP: [u8; 8] = [IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const IPPROTO_ICMPV6: u8 = 58;
/// Where MLDv1 messages end.
const MLD_LEN: usize = 24;
const MLD2_QUERY_LEN: usize = 28;

/// A group's frame comes in by a port, or from this machine: what it says of groups. `Err`: it is a message that is no good.
#[doc(alias = "br_multicast_rcv")]
pub(crate) fn rcv(net: &mut Net, br: DevId, from: Option<DevId>, vid: u16, skb: &Skb) -> Result<Seen, ()> {
    if !mcast::of(net, br).is_some_and(|m| m.enabled) {
        return Ok(Seen::default());
    }
    match skb.protocol {
        ETH_P_IP => rcv4(net, br, (from, vid), skb),
        ETH_P_IPV6 => rcv6(net, br, (from, vid), skb),
        _ => Ok(Seen::default()),
    }
}

fn bytes(skb: &Skb) -> Vec<u8> {
    let mut b = skb.head.bytes().to_vec();
    skb.frags.iter().for_each(|s| b.extend_from_slice(s.as_slice()));
    b
}

type From = (Option<DevId>, u16);

#[doc(alias = "br_multicast_ipv4_rcv")]
fn rcv4(net: &mut Net, br: DevId, from: From, skb: &Skb) -> Result<Seen, ()> {
    let Some(h) = skb.peek::<IPV4_HLEN>() else { return Err(()) };
    let local = h[16..19] == [224, 0, 0];
    let other = Seen { igmp: false, routers_only: !local };
    if h[9] != IPPROTO_IGMP {
        return Ok(other);
    }
    let all = bytes(skb);
    let ip = Ipv4Header::parse(&all).map_err(|_| ())?;
    let m = all.get(ip.ihl_bytes..ip.total_len.into()).ok_or(())?;
    let h = IgmpHeader::parse(m).map_err(|_| ())?;
    if checksum::fold(checksum::sum(m, 0)) != 0 {
        return Err(());
    }
    let seen = |routers_only| Ok(Seen { igmp: true, routers_only });
    let group = entry(h.group.into(), from.1);
    match h.kind {
        igmp::IGMP_HOST_MEMBERSHIP_REPORT | igmp::IGMPV2_HOST_MEMBERSHIP_REPORT => {
            if snooped(h.group.into()) {
                mcast::join(net, br, from.0, group, true);
            }
            seen(true)
        }
        igmp::IGMP_HOST_LEAVE_MESSAGE => {
            if snooped(h.group.into()) {
                mcast::leave(net, br, from.0, group);
            }
            seen(false)
        }
        igmp::IGMPV3_HOST_MEMBERSHIP_REPORT => {
            for r in igmp::parse_report(m).map_err(|_| ())? {
                let sources: Vec<IpAddr> = r.sources.into_iter().map(IpAddr::V4).collect();
                record(net, br, from, r.group.into(), r.kind, &sources);
            }
            seen(false)
        }
        igmp::IGMP_HOST_MEMBERSHIP_QUERY => {
            if h.group.is_unspecified() && ip.dst != igmp::ALL_HOSTS {
                return Err(());
            }
            query4(net, br, from, &ip, &h, m);
            seen(false)
        }
        _ => Ok(other),
    }
}

fn query4(net: &mut Net, br: DevId, from: From, ip: &Ipv4Header, h: &IgmpHeader, m: &[u8]) {
    let tenth = net.env.hz / 10;
    let (mut group, mut delay) = (h.group, u32::from(h.code) * tenth);
    if m.len() == igmp::IGMP_HLEN {
        if h.code == 0 {
            (group, delay) = (Ipv4Addr::UNSPECIFIED, 10 * net.env.hz);
        }
    } else {
        let Ok(q) = igmp::QueryV3::parse(m) else { return };
        let suppress = m.get(8).is_some_and(|b| b & 8 != 0);
        let three = mcast::of(net, br).is_some_and(|m| m.igmp_version == 3);
        if !q.sources.is_empty() || three && !group.is_unspecified() && suppress {
            return;
        }
        delay = (igmp::decode(h.code) * tenth).max(1);
    }
    query(net, br, from, (group.into(), ip.src.into()), delay);
}

/// A member of this may be snooped on: everybody hears what goes to the link.
fn snooped(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(g) => g.octets()[..3] != [224, 0, 0],
        IpAddr::V6(g) => g != ALL_NODES,
    }
}

fn entry(group: IpAddr, vid: u16) -> BrIp {
    let group = match group {
        IpAddr::V4(g) => GroupAddr::V4(g),
        IpAddr::V6(g) => GroupAddr::V6(g),
    };
    BrIp { group, src: None, vid }
}

/// One group of a report of the newer versions.
#[doc(alias = "br_ip4_multicast_igmp3_report")]
#[doc(alias = "br_ip6_multicast_mld2_report")]
fn record(net: &mut Net, br: DevId, (from, vid): From, group: IpAddr, kind: RecordType, sources: &[IpAddr]) {
    if !snooped(group) {
        return;
    }
    let ip = entry(group, vid);
    let includes = matches!(kind, RecordType::ModeIsInclude | RecordType::ChangeToInclude) && sources.is_empty();
    let detailed = ip.family().is_some_and(|f| mcast::of(net, br).is_some_and(|m| m.has_sources(f)));
    match from.filter(|_| detailed) {
        None if includes => mcast::leave(net, br, from, ip),
        None => mcast::join(net, br, from, ip, true),
        Some(port) => {
            if !includes {
                mcast::join(net, br, from, ip, false);
            }
            bridge_sources::report(net, br, port, ip, kind, sources);
        }
    }
}

#[doc(alias = "br_multicast_ipv6_rcv")]
fn rcv6(net: &mut Net, br: DevId, from: From, skb: &Skb) -> Result<Seen, ()> {
    let Some(h) = skb.peek::<IPV6_HLEN>() else { return Err(()) };
    let all_nodes = h[24..] == ALL_NODES.octets();
    let other = Seen { igmp: false, routers_only: !all_nodes };
    if h[6] != NEXTHDR_HOP {
        return Ok(other);
    }
    let all = bytes(skb);
    let ip = Ipv6Header::parse(&all).map_err(|_| ())?;
    let hop = all.get(IPV6_HLEN..IPV6_HLEN + 2).ok_or(())?;
    let at = IPV6_HLEN + 8 + 8 * usize::from(hop[1]);
    let m = all.get(at..IPV6_HLEN + usize::from(ip.payload_len)).unwrap_or(&[]);
    let (true, Some(kind)) = (hop[0] == IPPROTO_ICMPV6, m.first().copied()) else { return Ok(other) };
    let mld = [ICMPV6_MGM_QUERY, ICMPV6_MGM_REPORT, ICMPV6_MGM_REDUCTION, ICMPV6_MLD2_REPORT].contains(&kind);
    if !mld || ip.hop_limit != 1 {
        return Ok(other);
    }
    let sum = checksum::pseudo_v6(ip.src, ip.dst, IPPROTO_ICMPV6, m.len());
    if checksum::fold(checksum::sum(m, sum)) != 0 {
        return Err(());
    }
    let seen = |routers_only| Ok(Seen { igmp: true, routers_only });
    if kind == ICMPV6_MLD2_REPORT {
        for (kind, group, sources) in mld2_records(m).ok_or(())? {
            record(net, br, from, group, kind, &sources);
        }
        return seen(false);
    }
    let group = m.get(8..MLD_LEN).and_then(|b| b.first_chunk::<16>()).map(|b| Ipv6Addr::from(*b)).ok_or(())?;
    match kind {
        ICMPV6_MGM_QUERY => query6(net, br, from, &ip, group, m)?,
        ICMPV6_MGM_REPORT if snooped(group.into()) => {
            mcast::join(net, br, from.0, entry(group.into(), from.1), true);
        }
        ICMPV6_MGM_REDUCTION if snooped(group.into()) => mcast::leave(net, br, from.0, entry(group.into(), from.1)),
        _ => {}
    }
    seen(kind == ICMPV6_MGM_REPORT)
}

fn query6(net: &mut Net, br: DevId, from: From, ip: &Ipv6Header, group: Ipv6Addr, m: &[u8]) -> Result<(), ()> {
    if ip.src.segments()[0] & 0xffc0 != 0xfe80 || group.is_unspecified() && ip.dst != ALL_NODES {
        return Err(());
    }
    let code = m.get(4..6).map_or(0, |b| u32::from(u16::from_be_bytes([b[0], b[1]])));
    let ms = match (m.len(), code) {
        (MLD_LEN, _) | (_, 0..0x8000) => code,
        _ => (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    };
    if m.len() >= MLD2_QUERY_LEN && m.get(26..28) != Some(&[0, 0]) {
        return Ok(());
    }
    let delay = (u64::from(ms) * u64::from(net.env.hz) / 1000).max(1) as u32;
    query(net, br, from, (group.into(), ip.src.into()), delay);
    Ok(())
}

/// The records of a version 2 report.
fn mld2_records(m: &[u8]) -> Option<Vec<(RecordType, IpAddr, Vec<IpAddr>)>> {
    use RecordType::*;
    const KINDS: [RecordType; 6] =
        [ModeIsInclude, ModeIsExclude, ChangeToInclude, ChangeToExclude, AllowNewSources, BlockOldSources];
    let count = m.get(6..8).map(|b| u16::from_be_bytes([b[0], b[1]]))?;
    let address = |b: &[u8]| b.first_chunk::<16>().map(|b| IpAddr::from(*b));
    let (mut rest, mut out) = (m.get(8..)?, Vec::new());
    for _ in 0..count {
        let &[kind, aux, n0, n1] = rest.first_chunk::<4>()?;
        let n = usize::from(u16::from_be_bytes([n0, n1]));
        let group = address(rest.get(4..20)?)?;
        let sources = rest.get(20..20 + 16 * n)?.chunks_exact(16).filter_map(address).collect();
        if let Some(kind) = KINDS.get(usize::from(kind).wrapping_sub(1)) {
            out.push((*kind, group, sources));
        }
        rest = rest.get(20 + 16 * n + 4 * usize::from(aux)..)?;
    }
    Some(out)
}

/// Somebody asks: about everything, which makes him the querier if nobody with a lower address is; or about one group, whose
/// members have to answer in time.
#[doc(alias = "br_multicast_query_received")]
fn query(net: &mut Net, br: DevId, (from, vid): From, (group, src): (IpAddr, IpAddr), delay: u32) {
    let f = if group.is_ipv4() { Family::V4 } else { Family::V6 };
    let now = net.env.jiffies();
    let Some(m) = mcast::of(net, br) else { return };
    if !group.is_unspecified() {
        let ip = entry(group, vid);
        let at = now.wrapping_add(delay.saturating_mul(m.last_member_count));
        let sooner = |t: &mut Option<u32>| {
            if t.is_some_and(|old| before(at, old)) {
                *t = Some(at);
            }
        };
        if let Some(e) = mcast::of_mut(net, br).and_then(|m| m.mdb.get_mut(&ip)) {
            sooner(&mut e.host);
            e.ports.iter_mut().for_each(|g| sooner(&mut g.until));
            super::bridge_timer::at(net, br, at);
        }
        return;
    }
    let q = m.families[f as usize];
    let idle = !m.querier && q.other.is_none();
    if !idle && q.address.is_some_and(|a| src > a) {
        return;
    }
    let until = mcast::later(net, br, m.querier_interval);
    if let Some(q) = mcast::of_mut(net, br).map(|m| &mut m.families[f as usize]) {
        if q.other.is_none() {
            q.delay = now.wrapping_add(delay);
        }
        (q.other, q.address) = (until, Some(src));
    }
    // Another switch that asks without an address is no router.
    if !src.is_unspecified() {
        mcast::mark_router(net, br, from, f);
    }
}

/// A query out of a port, or up to this machine; about everything, about a group, or about sources of it.
#[doc(alias = "__br_multicast_send_query")]
pub fn send_query(net: &mut Net, br: DevId, port: Option<DevId>, f: Family, about: Option<(BrIp, &[IpAddr])>) {
    let Some(mac) = net.devs.get(br).filter(|d| d.up).map(|d| d.mac) else { return };
    let built = match f {
        Family::V4 => build4(net, br, about),
        Family::V6 => build6(net, br, about),
    };
    let Some((to, protocol, packet, src)) = built else { return };
    let own = &mut mcast::of_mut(net, br).map(|m| &mut m.families[f as usize]);
    if let Some(q) = own
        && q.other.is_none()
        && about.is_none()
    {
        q.address = Some(src);
    }
    let mut skb = net.alloc_skb();
    let Some(room) = skb.head.push(ETH_HLEN) else { return net.consume_skb(skb) };
    EthHeader { dst: to, src: mac, ethertype: protocol }.emit(room);
    skb.frags = packet.into();
    skb.ns = net.devs.get(br).map(|d| d.ns);
    (skb.dev, skb.protocol, skb.mac_header) = (Some(port.unwrap_or(br)), protocol, skb.head.start());
    skb.network_header = skb.mac_header + ETH_HLEN as u8;
    skb.set_truesize();
    match port {
        Some(p) if bridge::port(net, p).is_some() => {
            let _ = dev_tx::dev_queue_xmit(net, p, skb);
        }
        Some(_) => net.consume_skb(skb),
        None => {
            ethernet::type_trans(&mut skb, mac);
            dev_rx::netif_rx(net, skb);
        }
    }
}

type Query = (Mac, u16, Vec<u8>, IpAddr);

#[doc(alias = "br_ip4_multicast_alloc_query")]
fn build4(net: &Net, br: DevId, about: Option<(BrIp, &[IpAddr])>) -> Option<Query> {
    let (m, hz) = (mcast::of(net, br)?, net.env.hz.max(1));
    let group = match about.map(|a| a.0.group) {
        Some(GroupAddr::V4(g)) => g,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let wait = if about.is_some() { m.last_member_interval } else { m.query_response_interval };
    let code = (u64::from(wait) * 10 / u64::from(hz)).min(255) as u8;
    let mut body = IgmpHeader { kind: igmp::IGMP_HOST_MEMBERSHIP_QUERY, code, group }.bytes();
    if m.igmp_version == 3 {
        let sources = about.map_or(&[][..], |a| a.1);
        let interval = (m.query_interval / hz).min(255) as u8;
        body.extend([2, interval]);
        body.extend((sources.len() as u16).to_be_bytes());
        sources.iter().for_each(|s| {
            if let IpAddr::V4(s) = s {
                body.extend(s.octets())
            }
        });
        body[2..4].fill(0);
        let sum = checksum::fold(checksum::sum(&body, 0));
        body[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let own = net.devs.get(br)?.select_addr(Ipv4Addr::UNSPECIFIED, Scope::Link);
    let src = own.filter(|_| m.query_use_ifaddr).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let len = IPV4_HLEN + ROUTER_ALERT.len();
    let header = Ipv4Header {
        ihl_bytes: len,
        tos: 0xc0,
        total_len: (len + body.len()) as u16,
        df: true,
        ttl: 1,
        proto: IPPROTO_IGMP,
        src,
        dst: igmp::ALL_HOSTS,
        ..Ipv4Header::default()
    };
    let mut packet = vec![0; len];
    packet[IPV4_HLEN..].copy_from_slice(&ROUTER_ALERT);
    header.emit(&mut packet);
    packet.extend(body);
    Some((mac4(igmp::ALL_HOSTS), ETH_P_IP, packet, src.into()))
}

/// `None` without an address to ask from.
#[doc(alias = "br_ip6_multicast_alloc_query")]
fn build6(net: &Net, br: DevId, about: Option<(BrIp, &[IpAddr])>) -> Option<Query> {
    let (m, hz) = (mcast::of(net, br)?, net.env.hz.max(1));
    let src = net.devs.get(br)?.inet6.linklocal()?;
    let group = match about.map(|a| a.0.group) {
        Some(GroupAddr::V6(g)) => g,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let wait = if about.is_some() { m.last_member_interval } else { m.query_response_interval };
    let ms = (u64::from(wait) * 1000 / u64::from(hz)).min(0x7fff) as u16;
    let mut body = vec![ICMPV6_MGM_QUERY, 0, 0, 0];
    body.extend(ms.to_be_bytes());
    body.extend([0, 0]);
    body.extend(group.octets());
    if m.mld_version == 2 {
        let sources = about.map_or(&[][..], |a| a.1);
        body.extend([2, (m.query_interval / hz).min(255) as u8]);
        body.extend((sources.len() as u16).to_be_bytes());
        sources.iter().for_each(|s| {
            if let IpAddr::V6(s) = s {
                body.extend(s.octets())
            }
        });
    }
    let sum = checksum::sum(&body, checksum::pseudo_v6(src, ALL_NODES, IPPROTO_ICMPV6, body.len()));
    body[2..4].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    let payload_len = (HOP_BY_HOP.len() + body.len()) as u16;
    let header =
        Ipv6Header { payload_len, next: NEXTHDR_HOP, hop_limit: 1, src, dst: ALL_NODES, ..Ipv6Header::default() };
    let mut packet = vec![0; IPV6_HLEN];
    header.emit(&mut packet);
    packet.extend(HOP_BY_HOP);
    packet.extend(body);
    Some((mac6(ALL_NODES), ETH_P_IPV6, packet, src.into()))
}
