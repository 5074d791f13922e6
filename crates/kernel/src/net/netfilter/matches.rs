//! Whether a packet is what a rule is about.
use super::blob::physdev;
use super::conntrack::{self, CtInfo};
use super::packet::{Pkt, addr};
use super::rules::*;
use super::{Devs, Pf, ipset};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::skb::{Sender, SkBuff};
use crate::net::ipv4::route::{RouteKind, addr_type};
use crate::net::ipv6;
use belljar_wire::icmp::ICMP_HLEN;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::ipv6::NEXTHDR_ICMP;
use belljar_wire::tcp::TCP_HLEN;
use core::net::IpAddr;

/// The part of a rule that every rule has.
#[doc(alias = "ip_packet_match")]
#[inline]
pub fn ip_matches(m: &IpMatch, p: &Pkt) -> bool {
    let inv = |bit: u8| m.inv & bit != 0;
    ((p.src & m.src.mask == m.src.addr) != inv(INV_SRC))
        && ((p.dst & m.dst.mask == m.dst.addr) != inv(INV_DST))
        && (m.iin.is_any() || m.iin.matches(&p.in_name) != inv(INV_VIA_IN))
        && (m.iout.is_any() || m.iout.matches(&p.out_name) != inv(INV_VIA_OUT))
        && (m.proto == 0 || (m.proto == u16::from(p.proto)) != inv(INV_PROTO))
        && (!m.frag || p.later != inv(INV_FRAG))
}

/// `None`: headers that end too early; such packets are dropped (`hotdrop`).
pub fn match_one(net: &mut Net, m: &mut Match, ns: NsId, p: &Pkt, skb: &mut SkBuff, devs: Devs) -> Option<bool> {
    Some(match m {
        Match::Tcp { sport, dport, option, flag_mask, flag_cmp, inv } => {
            if p.later || p.proto != IPPROTO_TCP {
                return Some(false);
            }
            let b = p.transport(skb);
            let (s, d) = p.ports(skb)?;
            let flags = *b.get(13)?;
            if b.len() < TCP_HLEN {
                return None;
            }
            let inv = |bit: u8| *inv & bit != 0;
            (sport.contains(s) != inv(TCP_INV_SRCPT))
                && (dport.contains(d) != inv(TCP_INV_DSTPT))
                && ((flags & *flag_mask == *flag_cmp) != inv(TCP_INV_FLAGS))
                && (*option == 0 || has_option(b, *option)? != inv(TCP_INV_OPTION))
        }
        Match::Udp { sport, dport, inv } => {
            if p.later || p.proto != IPPROTO_UDP {
                return Some(false);
            }
            let (s, d) = p.ports(skb)?;
            (sport.contains(s) != (*inv & 1 != 0)) && (dport.contains(d) != (*inv & 2 != 0))
        }
        Match::Icmp { kind, code, inv } => {
            let proto = if p.pf == Pf::V4 { IPPROTO_ICMP } else { NEXTHDR_ICMP };
            if p.later || p.proto != proto {
                return Some(false);
            }
            let &[t, c, ..] = p.transport(skb).first_chunk::<ICMP_HLEN>()?;
            let any = *kind == 255 && p.pf == Pf::V4;
            (any || (t == *kind && (code.0..=code.1).contains(&c))) != *inv
        }
        Match::Conntrack(m) => ct_matches(net, m, p, skb),
        Match::State(states) => state_bit(skb) & *states != 0,
        Match::Comment(_) => true,
        Match::Mark { mark, mask, inv } => (skb.mark & *mask == *mark) != *inv,
        Match::Connmark { mark, mask, inv } => {
            let c = skb.nf.ct.and_then(|id| net.ct.conns.get(id));
            c.is_some_and(|c| (c.mark & *mask == *mark) != *inv)
        }
        Match::StatisticRandom { p, inv } => (net.env.rng.next_u32() & 0x7fff_ffff < *p) != *inv,
        Match::StatisticNth { every, packet, inv, count } => {
            // Counts from what `packet` leaves until the first; the stored number is one more, 0 being none yet.
            let first = every.saturating_sub(*packet);
            let old = if count.0 == 0 { first } else { (count.0 - 1) as u32 };
            let now = if old == *every { 0 } else { old.wrapping_add(1) };
            count.0 = u64::from(now) + 1;
            (now == 0) != *inv
        }
        Match::Addrtype { source, dest, flags } => addrtype(net, ns, *source, *dest, *flags, p, devs),
        Match::Multiport { which, ports, inv } => {
            if p.later || !matches!(p.proto, IPPROTO_TCP | IPPROTO_UDP | 33 | 132 | 136) {
                return Some(false);
            }
            let (s, d) = p.ports(skb)?;
            let hit = ports.iter().any(|r| match which {
                MultiportWhich::Source => r.contains(s),
                MultiportWhich::Dest => r.contains(d),
                MultiportWhich::Either => r.contains(s) || r.contains(d),
            });
            hit != *inv
        }
        Match::Limit { avg, burst, credit, prev } => limit(net, *avg, *burst, credit, prev),
        Match::Physdev(m) => physdev::matches(net, m, skb),
        Match::Set(m) => ipset::matches(net, ns, m, p, skb),
        Match::Xt(x) => return x.matches(net, ns, p, skb, devs),
        Match::Owner { uid, gid, which, inv } => owner(*uid, *gid, *which, *inv, skb),
        Match::Length { min, max, inv } => (usize::from(*min)..=usize::from(*max)).contains(&length(p)) != *inv,
    })
}

fn length(p: &Pkt) -> usize {
    p.len
}

/// Packets without a socket are nobody's; one that the kernel holds has neither user nor group.
#[doc(alias = "owner_mt")]
fn owner(uid: (u32, u32), gid: (u32, u32), which: u8, inv: u8, skb: &SkBuff) -> bool {
    let (u, g) = match skb.sender {
        Sender::None => return which ^ inv == 0,
        _ if which & inv & OWNER_SOCKET != 0 => return false,
        Sender::Kernel => return (which ^ inv) & (OWNER_UID | OWNER_GID) == 0,
        Sender::User { uid, gid } => (uid, gid),
    };
    let fits = |bit: u8, is: u32, (lo, hi): (u32, u32)| which & bit == 0 || (lo <= is && is <= hi) != (inv & bit != 0);
    fits(OWNER_UID, u, uid) && fits(OWNER_GID, g, gid)
}

fn has_option(b: &[u8], option: u8) -> Option<bool> {
    let header = usize::from(*b.get(12)? >> 4) * 4;
    let mut o = b.get(TCP_HLEN..header)?;
    while let Some(&kind) = o.first() {
        if kind == option {
            return Some(true);
        }
        let len = if kind < 2 { 1 } else { usize::from(*o.get(1).unwrap_or(&1)).max(1) };
        o = o.get(len..).unwrap_or(&[]);
    }
    Some(false)
}

/// The packet's state as the bit that `--ctstate` names.
fn state_bit(skb: &SkBuff) -> u16 {
    match skb.nf.info {
        CtInfo::None => CT_INVALID,
        CtInfo::Untracked => CT_UNTRACKED,
        CtInfo::Established | CtInfo::EstablishedReply => CT_ESTABLISHED,
        CtInfo::Related | CtInfo::RelatedReply => CT_RELATED,
        CtInfo::New => CT_NEW,
    }
}

/// `XT_CONNTRACK_STATUS` bits that count.
const STATUS: u32 =
    conntrack::IPS_EXPECTED | conntrack::IPS_SEEN_REPLY | conntrack::IPS_ASSURED | conntrack::IPS_CONFIRMED;

#[doc(alias = "conntrack_mt")]
fn ct_matches(net: &Net, m: &CtMatch, p: &Pkt, skb: &SkBuff) -> bool {
    let asks = |bit: u16| m.flags & bit != 0;
    let inv = |bit: u16| m.inv & bit != 0;
    let c = skb.nf.ct.and_then(|id| net.ct.conns.get(id));
    if asks(XT_CONNTRACK_STATE) {
        let mut bits = state_bit(skb);
        if let Some(c) = c {
            bits |= if c.status & conntrack::IPS_SRC_NAT != 0 { CT_SNAT } else { 0 };
            bits |= if c.status & conntrack::IPS_DST_NAT != 0 { CT_DNAT } else { 0 };
        }
        if (bits & m.state != 0) == inv(XT_CONNTRACK_STATE) {
            return false;
        }
    }
    let Some(c) = c else { return m.flags & XT_CONNTRACK_STATE != 0 && m.flags & !XT_CONNTRACK_STATE == 0 };
    let [o, r] = &c.tuple;
    if asks(XT_CONNTRACK_DIRECTION) && skb.nf.info.is_reply() != inv(XT_CONNTRACK_DIRECTION) {
        return false;
    }
    let addrs = [o.src, o.dst, r.src, r.dst];
    for (n, a) in addrs.into_iter().enumerate() {
        let bit = XT_CONNTRACK_ORIGSRC << n;
        if asks(bit) && ((a & m.addrs[n].mask) == m.addrs[n].addr & m.addrs[n].mask) == inv(bit) {
            return false;
        }
    }
    if asks(XT_CONNTRACK_PROTO) && (u16::from(p.proto) == m.proto) == inv(XT_CONNTRACK_PROTO) {
        return false;
    }
    let ports = [o.sport, o.dport, r.sport, r.dport];
    for (n, port) in ports.into_iter().enumerate() {
        let bit = XT_CONNTRACK_ORIGSRC_PORT << n;
        if asks(bit) && (m.ports[n].0..=m.ports[n].1).contains(&port) == inv(bit) {
            return false;
        }
    }
    if asks(XT_CONNTRACK_STATUS) {
        let status = c.status & STATUS;
        let hit = if m.status == 0 { status == 0 } else { status & u32::from(m.status) != 0 };
        if hit == inv(XT_CONNTRACK_STATUS) {
            return false;
        }
    }
    let left = if c.is_confirmed() { c.left(net) } else { c.expires / net.env.hz.max(1) };
    !asks(XT_CONNTRACK_EXPIRES) || (m.expires.0..=m.expires.1).contains(&left) != inv(XT_CONNTRACK_EXPIRES)
}

/// A bucket that gains 40 (of 10 000 for a second) in a tick and pays `avg` for a packet.
#[doc(alias = "limit_mt")]
fn limit(net: &Net, avg: u32, burst: u32, credit: &mut State, prev: &mut State) -> bool {
    let now = u64::from(net.env.jiffies());
    let full = u64::from(avg) * u64::from(burst);
    if prev.0 == 0 {
        credit.0 = full;
    } else {
        let gain = now.saturating_sub(prev.0 - 1) * 10_000 / u64::from(net.env.hz.max(1));
        credit.0 = credit.0.saturating_add(gain).min(full);
    }
    prev.0 = now + 1;
    let pays = credit.0 >= u64::from(avg);
    if pays {
        credit.0 -= u64::from(avg);
    }
    pays
}

/// The kind of an address as a bit (`1 << RTN_*`), of one device where one is named.
pub fn type_bit(net: &Net, ns: NsId, a: IpAddr, dev: Option<DevId>) -> u16 {
    let on_dev = |a: IpAddr| {
        let d = dev.and_then(|d| net.devs.get(d));
        d.is_none_or(|d| match a {
            IpAddr::V4(a) => d.addrs.iter().any(|x| x.local == a),
            IpAddr::V6(a) => d.inet6.addrs.iter().any(|x| x.addr == a),
        })
    };
    let n = match a {
        IpAddr::V4(v4) => match addr_type(net, ns, v4) {
            RouteKind::Local if on_dev(a) => 2,
            RouteKind::Local | RouteKind::Unicast => 1,
            RouteKind::Broadcast => 3,
            RouteKind::Multicast => 5,
        },
        IpAddr::V6(v6) if v6.is_unspecified() => 0,
        IpAddr::V6(v6) if v6.is_multicast() => 5,
        IpAddr::V6(v6) if ipv6::route::is_local(net, ns, v6) && on_dev(a) => 2,
        IpAddr::V6(_) => 1,
    };
    1 << n
}

fn addrtype(net: &Net, ns: NsId, source: u16, dest: u16, flags: u32, p: &Pkt, devs: Devs) -> bool {
    let dev = if flags & ADDRTYPE_LIMIT_IN != 0 {
        devs.0
    } else if flags & ADDRTYPE_LIMIT_OUT != 0 {
        devs.1
    } else {
        None
    };
    let hit = |bits: u128, mask: u16, inv: u32| {
        mask == 0 || (type_bit(net, ns, addr(p.pf, bits), dev) & mask != 0) != (flags & inv != 0)
    };
    hit(p.src, source, ADDRTYPE_INV_SRC) && hit(p.dst, dest, ADDRTYPE_INV_DST)
}
