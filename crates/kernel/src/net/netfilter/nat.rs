//! Address and port translation: which mapping a new connection gets, and packets rewritten by it.
use super::conntrack::icmp as ct_icmp;
use super::conntrack::*;
use super::packet::{Pkt, bits};
use super::rules::*;
use super::table::do_table;
use super::{Devs, Hook, Pf, Verdict, nft, packet};
use crate::ids::*;
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use crate::net::ipv4::fib::Scope;
use crate::net::ipv6;
use belljar_abi::{Errno, SockAddr};
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::{Csum, checksum};
use core::net::{IpAddr, Ipv4Addr};

/// Which end of a connection a mapping changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manip {
    Src,
    Dst,
}

fn manip(hook: Hook) -> Manip {
    if matches!(hook, Hook::PreRouting | Hook::LocalOut) { Manip::Dst } else { Manip::Src }
}

impl Manip {
    fn done(self) -> u32 {
        if self == Manip::Src { IPS_SRC_NAT_DONE } else { IPS_DST_NAT_DONE }
    }

    fn changed(self) -> u32 {
        if self == Manip::Src { IPS_SRC_NAT } else { IPS_DST_NAT }
    }
}

/// Who is asked about a new connection: the table of iptables, chains of nf_tables.
#[derive(Debug)]
pub struct Rules<'a> {
    pub legacy: Option<&'a mut Table>,
    pub nft: &'a mut nft::Nft,
}

impl Rules<'_> {
    fn ask(&mut self, net: &mut Net, ns: NsId, hook: Hook, p: &Pkt, skb: &mut SkBuff, devs: Devs) -> Verdict {
        let at = nft::At { ns, hook, devs, link: None };
        let verdict = nft::translate(net, self.nft, false, at, p, skb);
        if verdict != Verdict::Accept || decided(net, hook, skb) {
            return verdict;
        }
        if let Some(table) = &mut self.legacy {
            let verdict = do_table(net, table, ns, hook, p, skb, devs);
            if verdict != Verdict::Accept || decided(net, hook, skb) {
                return verdict;
            }
        }
        nft::translate(net, self.nft, true, at, p, skb)
    }
}

/// The packet's connection has a mapping for this end.
pub(super) fn decided(net: &Net, hook: Hook, skb: &SkBuff) -> bool {
    let c = skb.nf.ct.and_then(|id| net.ct.conns.get(id));
    c.is_none_or(|c| c.status & manip(hook).done() != 0)
}

/// The first packet asks the rules; all packets are rewritten as was decided then.
#[doc(alias = "nf_nat_inet_fn")]
pub fn nf_nat_fn(
    net: &mut Net,
    rules: &mut Rules<'_>,
    ns: NsId,
    hook: Hook,
    p: &Pkt,
    skb: &mut SkBuff,
    devs: Devs,
) -> Verdict {
    let NfCt { ct: Some(id), info, .. } = skb.nf else { return Verdict::Accept };
    let Some(c) = net.ct.conns.get(id) else { return Verdict::Accept };
    let (m, status) = (manip(hook), c.status);
    match info {
        CtInfo::Related | CtInfo::RelatedReply if ct_icmp_error(p, skb) => {
            return if icmp_reply_translation(net, id, m, p, skb) {
                Verdict::Accept
            } else {
                Verdict::Drop(Errno::EPERM)
            };
        }
        CtInfo::New | CtInfo::Related if status & m.done() == 0 => {
            let verdict = rules.ask(net, ns, hook, p, skb, devs);
            if verdict != Verdict::Accept {
                return verdict;
            }
            let decided = net.ct.conns.get(id).is_none_or(|c| c.status & m.done() != 0);
            if !decided && setup_info(net, id, &null_binding(net, id, m), m) != Verdict::Accept {
                return Verdict::Drop(Errno::EPERM);
            }
        }
        CtInfo::New | CtInfo::Established | CtInfo::EstablishedReply => {
            // Masqueraded with a device that it no longer leaves by.
            let out = devs.1;
            let stale = hook == Hook::PostRouting
                && !info.is_reply()
                && net.ct.conns.get(id).is_some_and(|c| c.masq.is_some() && out.is_some() && c.masq != out);
            if stale {
                net.ct_delete(id);
                return Verdict::Drop(Errno::EPERM);
            }
        }
        _ => {}
    }
    nat_packet(net, id, info, m, p, skb);
    Verdict::Accept
}

fn ct_icmp_error(p: &Pkt, skb: &SkBuff) -> bool {
    let icmp = p.proto == if p.pf == Pf::V4 { 1 } else { 58 };
    icmp && p.transport(skb).first().is_some_and(|k| ct_icmp::is_error(p.pf, *k))
}

/// What a packet of the direction has to look like behind this hook.
fn wanted(net: &Net, id: CtId, reply: bool, m: Manip) -> Option<Tuple> {
    let c = net.ct.conns.get(id)?;
    // In the reply direction source and destination changed places.
    let bit = match (m, reply) {
        (Manip::Src, false) | (Manip::Dst, true) => IPS_SRC_NAT,
        _ => IPS_DST_NAT,
    };
    if c.status & bit == 0 {
        return None;
    }
    c.tuple[usize::from(!reply)].invert()
}

#[doc(alias = "nf_nat_packet")]
fn nat_packet(net: &Net, id: CtId, info: CtInfo, m: Manip, p: &Pkt, skb: &mut SkBuff) {
    if let Some(t) = wanted(net, id, info.is_reply(), m) {
        manip_pkt(p, skb, &t, m);
    }
}

/// A mapping that keeps what is there.
fn null_binding(net: &Net, id: CtId, m: Manip) -> NatRange {
    let Some(c) = net.ct.conns.get(id) else { return NatRange::default() };
    let ip = if m == Manip::Src { c.tuple[1].dst } else { c.tuple[1].src };
    NatRange { flags: NAT_MAP_IPS, min: ip, max: ip, ..NatRange::default() }
}

/// Decides about one end of a connection.
#[doc(alias = "nf_nat_setup_info")]
pub fn setup_info(net: &mut Net, id: CtId, range: &NatRange, m: Manip) -> Verdict {
    let Some(c) = net.ct.conns.get(id) else { return Verdict::Accept };
    if c.is_confirmed() || c.status & m.done() != 0 {
        return Verdict::Accept;
    }
    let Some(now) = c.tuple[1].invert() else { return Verdict::Drop(Errno::EPERM) };
    let new = unique_tuple(net, id, now, range, m);
    let Some(c) = net.ct.conns.get_mut(id) else { return Verdict::Accept };
    if new != now {
        let Some(reply) = new.invert() else { return Verdict::Drop(Errno::EPERM) };
        c.tuple[1] = reply;
        c.status |= m.changed();
    }
    c.status |= m.done();
    Verdict::Accept
}

/// Another connection has packets that would look like the answers to this one.
#[doc(alias = "nf_nat_used_tuple")]
fn used(net: &Net, id: CtId, t: &Tuple) -> bool {
    let Some(ns) = net.ct.conns.get(id).map(|c| c.ns) else { return false };
    t.invert().is_some_and(|r| net.ct_find(ns, &r).is_some_and(|(other, _)| other != id))
}

fn ip_of(t: &mut Tuple, m: Manip) -> &mut u128 {
    if m == Manip::Src { &mut t.src } else { &mut t.dst }
}

/// For ICMP the identifier, whichever end is changed.
fn port_of(t: &mut Tuple, m: Manip) -> &mut u16 {
    if m == Manip::Src || t.is_icmp() { &mut t.sport } else { &mut t.dport }
}

#[doc(alias = "get_unique_tuple")]
fn unique_tuple(net: &mut Net, id: CtId, orig: Tuple, range: &NatRange, m: Manip) -> Tuple {
    let mut t = orig;
    let random = range.flags & NAT_RANDOM_ALL != 0;
    if m == Manip::Src && !random && in_range(&orig, range, m) && !used(net, id, &orig) {
        return orig;
    }
    *ip_of(&mut t, m) = best_ip(net, &orig, range, m);
    let specified = range.flags & NAT_PROTO_SPECIFIED != 0;
    if range.flags & (NAT_RANDOM_ALL | NAT_PROTO_OFFSET) == 0 {
        let port = *port_of(&mut t, m);
        let inside = !specified || (range.ports.0 <= port && port <= range.ports.1);
        let only = specified && range.ports.0 == range.ports.1;
        if inside && (only || !used(net, id, &t)) {
            return t;
        }
    }
    unique_port(net, id, t, range, m)
}

fn in_range(t: &Tuple, range: &NatRange, m: Manip) -> bool {
    let mut t = *t;
    let (ip, port) = (*ip_of(&mut t, m), *port_of(&mut t, m));
    (range.flags & NAT_MAP_IPS == 0 || (range.min <= ip && ip <= range.max))
        && (range.flags & NAT_PROTO_SPECIFIED == 0 || (range.ports.0 <= port && port <= range.ports.1))
}

/// A client always gets the same address of several: chosen by its own, and without `persistent` by whom it speaks to.
#[doc(alias = "find_best_ips_proto")]
fn best_ip(net: &Net, t: &Tuple, range: &NatRange, m: Manip) -> u128 {
    use std::hash::Hasher;
    let mut copy = *t;
    if range.flags & NAT_MAP_IPS == 0 {
        return *ip_of(&mut copy, m);
    }
    if range.min >= range.max {
        return range.min;
    }
    let secret = net.ns.iter().next().map_or([0; 2], |(_, n)| n.secret);
    let mut h = siphasher::sip::SipHasher13::new_with_keys(secret[0], secret[1]);
    h.write_u128(t.src);
    if range.flags & NAT_PERSISTENT == 0 {
        h.write_u128(t.dst);
    }
    let span = (range.max - range.min).saturating_add(1);
    range.min + u128::from(h.finish()) % span
}

/// Ports of a class stay in their class.
fn port_class(port: u16) -> (u16, u32) {
    match port {
        0..512 => (1, 511),
        512..1024 => (600, 1023 - 600 + 1),
        _ => (1024, 65_536 - 1024),
    }
}

/// Ports tried at most before the search begins elsewhere.
const MAX_ATTEMPTS: u32 = 128;

#[doc(alias = "nf_nat_l4proto_unique_tuple")]
fn unique_port(net: &mut Net, id: CtId, mut t: Tuple, range: &NatRange, m: Manip) -> Tuple {
    if !t.is_icmp() && !matches!(t.proto, IPPROTO_TCP | IPPROTO_UDP) {
        return t;
    }
    let port = *port_of(&mut t, m);
    let (min, size) = if range.flags & NAT_PROTO_SPECIFIED != 0 {
        let (lo, hi) = (range.ports.0.min(range.ports.1), range.ports.1.max(range.ports.0));
        (lo, u32::from(hi - lo) + 1)
    } else if t.is_icmp() {
        (0, 65_536)
    } else if m == Manip::Dst {
        return t;
    } else {
        port_class(port)
    };
    let mut off = if range.flags & NAT_PROTO_OFFSET != 0 {
        u32::from(port.wrapping_sub(range.base))
    } else {
        net.env.rng.next_u32() & 0xffff
    };
    let mut attempts = size.min(MAX_ATTEMPTS);
    loop {
        for _ in 0..attempts {
            *port_of(&mut t, m) = min.wrapping_add((off % size) as u16);
            off = off.wrapping_add(1);
            if !used(net, id, &t) {
                return t;
            }
        }
        if attempts >= size || attempts < 16 {
            return t;
        }
        attempts /= 2;
        off = net.env.rng.next_u32() & 0xffff;
    }
}

/// The targets of the nat table.
pub fn target(net: &mut Net, t: &Target, ns: NsId, hook: Hook, p: &Pkt, skb: &SkBuff, devs: Devs) -> Verdict {
    let Some(id) = skb.nf.ct else { return Verdict::Accept };
    match t {
        Target::Snat(r) => setup_info(net, id, r, Manip::Src),
        Target::Dnat(r) => setup_info(net, id, r, Manip::Dst),
        Target::Masquerade(r) => masquerade(net, id, r, p, skb, devs),
        Target::Redirect(r) => match redirect_to(net, ns, hook, p, devs) {
            Some(ip) => {
                setup_info(net, id, &NatRange { flags: r.flags | NAT_MAP_IPS, min: ip, max: ip, ..*r }, Manip::Dst)
            }
            None => Verdict::Drop(Errno::EPERM),
        },
        _ => Verdict::Accept,
    }
}

/// NETMAP: the host's part of an address stays.
#[doc(alias = "netmap_tg4")]
pub fn netmap(net: &mut Net, hook: Hook, r: &NatRange, p: &Pkt, skb: &SkBuff) -> Verdict {
    let Some(id) = skb.nf.ct else { return Verdict::Accept };
    let m = manip(hook);
    let host = r.min ^ r.max;
    let ip = (if m == Manip::Src { p.src } else { p.dst }) & host | r.min & !host;
    setup_info(net, id, &NatRange { flags: r.flags | NAT_MAP_IPS, min: ip, max: ip, ..*r }, m)
}

/// The address of the device that the packet leaves by.
#[doc(alias = "nf_nat_masquerade_ipv4")]
fn masquerade(net: &mut Net, id: CtId, r: &NatRange, p: &Pkt, skb: &SkBuff, (_, out): Devs) -> Verdict {
    if p.src == 0 {
        // DHCP before it has an address.
        return Verdict::Accept;
    }
    let Some(dev) = out else { return Verdict::Drop(Errno::EPERM) };
    let found = match p.pf {
        Pf::V4 => {
            let hop = skb.dst.and_then(|d| d.gateway).unwrap_or(packet::addr(p.pf, p.dst));
            let hop = if let IpAddr::V4(a) = hop { a } else { Ipv4Addr::UNSPECIFIED };
            net.devs.get(dev).and_then(|d| d.select_addr(hop, Scope::Universe)).map(IpAddr::V4)
        }
        Pf::V6 => {
            let IpAddr::V6(to) = packet::addr(p.pf, p.dst) else { return Verdict::Accept };
            let ns = skb.ns.or(net.devs.get(dev).map(|d| d.ns));
            ns.and_then(|ns| ipv6::route::get_saddr(net, ns, Some(dev), to)).map(IpAddr::V6)
        }
    };
    let Some(ip) = found.map(bits) else {
        let name = net.devs.get(dev).map_or(String::new(), |d| d.name.clone());
        net.kmsg(format!("{name} ate my IP address"));
        return Verdict::Drop(Errno::EPERM);
    };
    if let Some(c) = net.ct.conns.get_mut(id) {
        c.masq = Some(dev);
    }
    setup_info(net, id, &NatRange { flags: r.flags | NAT_MAP_IPS, min: ip, max: ip, ..*r }, Manip::Src)
}

/// This host: by the device that it came in, or itself.
#[doc(alias = "nf_nat_redirect_ipv4")]
fn redirect_to(net: &Net, _ns: NsId, hook: Hook, p: &Pkt, (iin, _): Devs) -> Option<u128> {
    if hook == Hook::LocalOut {
        return Some(if p.pf == Pf::V4 { bits(Ipv4Addr::LOCALHOST.into()) } else { 1 });
    }
    let d = net.devs.get(iin?)?;
    match p.pf {
        Pf::V4 => d.addrs.first().map(|a| bits(a.local.into())),
        Pf::V6 => d.inet6.addrs.iter().find(|a| !a.tentative()).map(|a| a.addr.to_bits()),
    }
}

impl Net {
    /// What a connection's first packet was sent to, before its destination was translated.
    pub fn original_dst(&self, ns: NsId, own: (IpAddr, u16), peer: (IpAddr, u16)) -> Option<SockAddr> {
        let pf = if own.0.is_ipv4() { Pf::V4 } else { Pf::V6 };
        let (src, dst) = (bits(own.0), bits(peer.0));
        // As we answer: the other direction.
        let t = Tuple { src, dst, sport: own.1, dport: peer.1, proto: IPPROTO_TCP, pf, zone: 0 };
        let (id, _) = self.ct_find(ns, &t)?;
        let o = self.ct.conns.get(id)?.tuple[0];
        Some(match packet::addr(pf, o.dst) {
            IpAddr::V4(a) => SockAddr::V4(a, o.dport),
            IpAddr::V6(addr) => SockAddr::V6 { addr, port: o.dport, flowinfo: 0, scope: 0 },
        })
    }
}

/// Writes a 16-bit word at `at`; what that adds to a sum over it (RFC 1624).
fn put16(b: &mut [u8], at: usize, new: u16) -> u32 {
    let Some(w) = b.get_mut(at..at + 2) else { return 0 };
    let old = u16::from_be_bytes([w[0], w[1]]);
    w.copy_from_slice(&new.to_be_bytes());
    checksum::add(u32::from(!old), u32::from(new))
}

fn put_addr(b: &mut [u8], at: usize, pf: Pf, new: u128) -> u32 {
    let words = if pf == Pf::V4 { 2 } else { 8 };
    let word = |n: usize| (new >> (16 * (words - 1 - n))) as u16;
    (0..words).fold(0, |sum, n| checksum::add(sum, put16(b, at + 2 * n, word(n))))
}

/// A checksum field after `delta` was added to what it covers; how that changed a sum over the field itself.
fn fix(b: &mut [u8], at: usize, delta: u32, udp: bool) -> u32 {
    let Some(w) = b.get(at..at + 2) else { return 0 };
    let old = u16::from_be_bytes([w[0], w[1]]);
    let new = checksum::fold(checksum::add(u32::from(!old), delta));
    put16(b, at, if udp && new == 0 { 0xffff } else { new })
}

/// Where the addresses are, and the header's own checksum.
fn ip_offsets(pf: Pf, m: Manip) -> (usize, Option<usize>) {
    match (pf, m) {
        (Pf::V4, Manip::Src) => (12, Some(10)),
        (Pf::V4, Manip::Dst) => (16, Some(10)),
        (Pf::V6, Manip::Src) => (8, None),
        (Pf::V6, Manip::Dst) => (24, None),
    }
}

/// Rewrites one end of the packet whose network header is at `ip` and transport header at `l4` of `b`. What all that adds to
/// a sum over the whole of it. `partial`: the transport checksum holds the pseudo header's sum only.
fn rewrite(b: &mut [u8], (ip, l4): (usize, usize), t: &Tuple, m: Manip, partial: bool) -> u32 {
    let (at, header_sum) = ip_offsets(t.pf, m);
    let to = if m == Manip::Src { t.src } else { t.dst };
    let addr = put_addr(b, ip + at, t.pf, to);
    let mut total = addr;
    if let Some(sum) = header_sum {
        total = checksum::add(total, fix(b, ip + sum, addr, false));
    }
    let (port, field) = match t.proto {
        IPPROTO_TCP => (Some(if m == Manip::Src { 0 } else { 2 }), 16),
        IPPROTO_UDP => (Some(if m == Manip::Src { 0 } else { 2 }), 6),
        _ if t.is_icmp() => (Some(4), 2),
        _ => (None, 0),
    };
    let Some(port) = port else { return total };
    let value = if m == Manip::Src || t.is_icmp() { t.sport } else { t.dport };
    let none = t.proto == IPPROTO_UDP && !partial && b.get(l4 + 6..l4 + 8) == Some(&[0, 0]);
    let ported = put16(b, l4 + port, value);
    total = checksum::add(total, ported);
    // IPv4's ICMP has no pseudo header.
    let pseudo = if t.is_icmp() && t.pf == Pf::V4 { 0 } else { addr };
    if partial {
        // Ports are summed later, by whoever finishes the checksum.
        let Some(w) = b.get(l4 + field..l4 + field + 2) else { return total };
        let new = checksum::partial(checksum::add(u32::from(u16::from_be_bytes([w[0], w[1]])), pseudo));
        return checksum::add(total, put16(b, l4 + field, new));
    }
    if none {
        return total;
    }
    checksum::add(total, fix(b, l4 + field, checksum::add(pseudo, ported), t.proto == IPPROTO_UDP))
}

#[doc(alias = "nf_nat_manip_pkt")]
fn manip_pkt(p: &Pkt, skb: &mut SkBuff, t: &Tuple, m: Manip) {
    let partial = skb.csum == Csum::Partial;
    rewrite(skb.head.bytes_mut(), (0, p.at), t, m, partial);
}

/// An error about a translated packet: what it quotes becomes what its sender sent, and so do the error's own addresses.
#[doc(alias = "nf_nat_icmp_reply_translation")]
fn icmp_reply_translation(net: &Net, id: CtId, m: Manip, p: &Pkt, skb: &mut SkBuff) -> bool {
    let Some(q) = ct_icmp::quoted(p, skb) else { return false };
    let reply = skb.nf.info.is_reply();
    let opposite = if m == Manip::Src { Manip::Dst } else { Manip::Src };
    let Some(outer) = wanted(net, id, reply, m) else { return true };
    // The quoted packet went the other way: at this hook its other end changes.
    if let Some(inner) = net.ct.conns.get(id).map(|c| c.tuple[usize::from(!reply)]) {
        let b = skb.head.bytes_mut();
        let delta = rewrite(b, (q.at, q.l4), &inner, opposite, false);
        fix(b, p.at + 2, delta, false);
    }
    let (at, header_sum) = ip_offsets(p.pf, m);
    let b = skb.head.bytes_mut();
    let delta = put_addr(b, at, p.pf, if m == Manip::Src { outer.src } else { outer.dst });
    match header_sum {
        Some(sum) => fix(b, sum, delta, false),
        None => fix(b, p.at + 2, delta, false),
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_ports() {
        assert_eq!(port_class(1), (1, 511));
        assert_eq!(port_class(511), (1, 511));
        assert_eq!(port_class(600), (600, 424));
        assert_eq!(port_class(40_000), (1024, 64_512));
    }

    #[test]
    fn checksums_follow() {
        let mut b = vec![0u8; 28];
        belljar_wire::ipv4::Ipv4Header {
            total_len: 28,
            ttl: 64,
            proto: 17,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            ..Default::default()
        }
        .emit(&mut b);
        b[20..28].copy_from_slice(&[0, 9, 0, 7, 0, 8, 0, 0]);
        let sum = |b: &[u8]| {
            let h = belljar_wire::ipv4::Ipv4Header::parse(b).unwrap();
            checksum::fold(checksum::sum(&b[20..], checksum::pseudo_v4(h.src, h.dst, 17, 8)))
        };
        let field = sum(&b).to_be_bytes();
        b[26..28].copy_from_slice(&field);
        let whole = |b: &[u8]| checksum::fold(checksum::sum(b, 0));
        let before = whole(&b);
        let t = Tuple { src: 0xc0a8_0101, dst: 0, sport: 40_000, dport: 0, proto: 17, pf: Pf::V4, zone: 0 };
        let delta = rewrite(&mut b, (0, 20), &t, Manip::Src, false);
        assert!(belljar_wire::ipv4::Ipv4Header::verify_checksum(&b));
        assert_eq!(sum(&b), 0);
        assert_eq!(&b[20..22], &40_000u16.to_be_bytes());
        assert_eq!(checksum::fold(checksum::add(u32::from(!before), delta)), whole(&b));
    }
}
