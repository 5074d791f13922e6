//! Matches and targets of `ebtables` as expressions (`ebtables-nft`), by the layouts of `linux/netfilter_bridge`.
//!
//! Left out: stp, among's own match (ebtables-nft writes a set), 802_3, nflog.
use super::eval::{At, Then, when};
use super::{Say, layer2};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::{PktType, SkBuff};
use crate::net::netfilter::blob::ext::Reader;
use crate::net::netfilter::packet::{Pkt, addr};
use crate::net::netfilter::{Hook, Pf, Verdict, log};
use belljar_abi::Errno;
use belljar_abi::nf_tables::{NF_ACCEPT, NF_DROP, NFT_CONTINUE, NFT_RETURN};
use belljar_wire::Mac;
use belljar_wire::arp::{ARP_HLEN, ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_P_ARP, EthHeader};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt::Write;
use std::sync::Arc;

/// What is here, all of revision 0.
pub const MATCHES: &[&str] = &["ip", "ip6", "arp", "vlan", "mark_m", "pkttype"];
pub const TARGETS: &[&str] = &["dnat", "snat", "redirect", "mark", "arpreply", "log"];

/// What a match looks at and what of it is turned round: bits of its own.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    which: u8,
    inv: u8,
}

impl Asked {
    /// Whether what is asked by a bit is as it shall be.
    fn ok(self, bit: u8, yes: bool) -> bool {
        self.which & bit == 0 || yes != (self.inv & bit != 0)
    }
}

/// A range of ports, or of types.
type Range = (u16, u16);

#[derive(Clone, Debug)]
pub struct IpMatch {
    pf: Pf,
    src: (u128, u128),
    dst: (u128, u128),
    tos: u8,
    proto: u8,
    sport: Range,
    dport: Range,
    types: (Range, Range),
    asked: Asked,
}

#[derive(Clone, Debug)]
pub struct ArpMatch {
    htype: u16,
    ptype: u16,
    op: u16,
    src: (u32, u32),
    dst: (u32, u32),
    smac: ([u8; 6], [u8; 6]),
    dmac: ([u8; 6], [u8; 6]),
    asked: Asked,
}

#[derive(Clone, Debug)]
pub enum Eb {
    Ip(Box<IpMatch>),
    Arp(Box<ArpMatch>),
    Vlan { id: u16, prio: u8, encap: u16, asked: Asked },
    Mark { mark: u64, mask: u64, inv: bool, any: bool },
    PktType { kind: u8, inv: bool },
    Nat { mac: Mac, source: bool, arp: bool, then: i32 },
    Redirect { then: i32 },
    SetMark { mark: u32, action: u32, then: i32 },
    ArpReply { mac: Mac, then: i32 },
    Log { prefix: Arc<str>, what: u32 },
}

/// `EBT_ACCEPT` and its kin, in the low bits of a target's word.
fn verdict(word: u32) -> Result<i32, Errno> {
    match (word | 0xffff_fff0) as i32 {
        v @ -4..=-1 => Ok(v),
        _ => Err(Errno::EINVAL),
    }
}

fn then(v: i32) -> Then {
    let code = match v {
        -1 => NF_ACCEPT,
        -2 => NF_DROP,
        -4 => NFT_RETURN,
        _ => NFT_CONTINUE,
    };
    if code == NFT_CONTINUE { Then::Next } else { Then::Say(Say { code, chain: 0 }) }
}

fn mac(r: &mut Reader<'_>) -> Result<[u8; 6], Errno> {
    r.bytes(6)?.try_into().map_err(|_| Errno::EINVAL)
}

fn be16(r: &mut Reader<'_>) -> Result<u16, Errno> {
    r.u16().map(u16::from_be)
}

fn be32(r: &mut Reader<'_>) -> Result<u32, Errno> {
    r.u32().map(u32::from_be)
}

/// ENOENT for one that is not here.
pub fn read(name: &str, revision: u32, info: &[u8], target: bool) -> Result<Eb, Errno> {
    let known = if target { TARGETS } else { MATCHES };
    if revision != 0 || !known.contains(&name) {
        return Err(Errno::ENOENT);
    }
    let r = &mut Reader(info);
    Ok(match name {
        "ip" | "ip6" => Eb::Ip(Box::new(read_ip(if name == "ip" { Pf::V4 } else { Pf::V6 }, r)?)),
        "arp" => Eb::Arp(Box::new(read_arp(r)?)),
        "vlan" => {
            let (id, prio) = (r.u16()?, r.u8()?);
            r.bytes(1)?;
            let (encap, which, inv) = (be16(r)?, r.u8()?, r.u8()?);
            if which & !7 != 0 || inv & !7 != 0 || (which & 1 != 0 && id > 4094) || (which & 2 != 0 && prio > 7) {
                return Err(Errno::EINVAL);
            }
            Eb::Vlan { id, prio, encap, asked: Asked { which, inv } }
        }
        "mark_m" => {
            let (mark, mask, inv, how) = (r.u64()?, r.u64()?, r.u8()? != 0, r.u8()?);
            if how == 0 || how & !3 != 0 || how == 3 {
                return Err(Errno::EINVAL);
            }
            Eb::Mark { mark, mask, inv, any: how == 2 }
        }
        "pkttype" => Eb::PktType { kind: r.u8()?, inv: r.u8()? & 1 != 0 },
        "dnat" | "snat" => {
            let m = Mac(mac(r)?);
            r.bytes(2)?;
            let word = r.u32()?;
            // `NAT_ARP_BIT`.
            let arp = name == "snat" && !word & 0x10 != 0;
            Eb::Nat { mac: m, source: name == "snat", arp, then: verdict(word)? }
        }
        "redirect" => Eb::Redirect { then: verdict(r.u32()?)? },
        "mark" => {
            let (mark, word) = (r.u64()?, r.u32()?);
            let action = word & 0xffff_fff0;
            if !(0xffff_ffc0..=0xffff_fff0).contains(&action) {
                return Err(Errno::EINVAL);
            }
            Eb::SetMark { mark: mark as u32, action, then: verdict(word)? }
        }
        "arpreply" => {
            let m = Mac(mac(r)?);
            r.bytes(2)?;
            Eb::ArpReply { mac: m, then: verdict(r.u32()?)? }
        }
        _ => {
            let level = r.u8()?;
            let prefix = r.text(30)?;
            r.bytes(1)?;
            let what = r.u32()?;
            if level >= 8 || what & !15 != 0 {
                return Err(Errno::EINVAL);
            }
            Eb::Log { prefix: prefix.into(), what }
        }
    })
}

fn read_ip(pf: Pf, r: &mut Reader<'_>) -> Result<IpMatch, Errno> {
    let (src, dst) = (r.addr(pf)?, r.addr(pf)?);
    let (smask, dmask) = (r.addr(pf)?, r.addr(pf)?);
    let (tos, proto, which, inv) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
    let first = r.bytes(4)?;
    let word = |at: usize| u16::from_ne_bytes([first[at], first[at + 1]]);
    let types = ((first[0].into(), first[1].into()), (first[2].into(), first[3].into()));
    let dport = (r.u16()?, r.u16()?);
    Ok(IpMatch {
        pf,
        src: (src & smask, smask),
        dst: (dst & dmask, dmask),
        tos,
        proto,
        sport: (word(0), word(2)),
        dport,
        types,
        asked: Asked { which, inv },
    })
}

fn read_arp(r: &mut Reader<'_>) -> Result<ArpMatch, Errno> {
    let (htype, ptype, op) = (be16(r)?, be16(r)?, be16(r)?);
    r.bytes(2)?;
    let (src, smask, dst, dmask) = (be32(r)?, be32(r)?, be32(r)?, be32(r)?);
    let (smac, dmac) = ((mac(r)?, mac(r)?), (mac(r)?, mac(r)?));
    let asked = Asked { which: r.u8()?, inv: r.u8()? };
    Ok(ArpMatch { htype, ptype, op, src: (src & smask, smask), dst: (dst & dmask, dmask), smac, dmac, asked })
}

fn masked(is: &Mac, (want, mask): ([u8; 6], [u8; 6])) -> bool {
    is.0.iter().zip(want).zip(mask).all(|((b, w), m)| (b ^ w) & m == 0)
}

impl IpMatch {
    fn meets(&self, p: &Pkt, skb: &SkBuff, is_ip: bool) -> bool {
        let a = self.asked;
        let within = |v: u16, (lo, hi): Range| lo <= v && v <= hi;
        if !is_ip || p.pf != self.pf {
            return false;
        }
        if !a.ok(1, p.src & self.src.1 == self.src.0)
            || !a.ok(2, p.dst & self.dst.1 == self.dst.0)
            || !a.ok(4, p.tos == self.tos)
            || !a.ok(8, p.proto == self.proto)
        {
            return false;
        }
        if a.which & 0xf0 == 0 {
            return true;
        }
        if a.which & 0x30 != 0 {
            let Some((s, d)) = p.ports(skb) else { return false };
            return a.ok(0x10, within(s, self.sport)) && a.ok(0x20, within(d, self.dport));
        }
        let &[kind, code, ..] = p.transport(skb) else { return false };
        let hit = within(kind.into(), self.types.0) && within(code.into(), self.types.1);
        a.ok(0x40, hit) && a.ok(0x80, within(kind.into(), self.types.0))
    }
}

impl ArpMatch {
    fn meets(&self, skb: &SkBuff) -> bool {
        let (a, b) = (self.asked, skb.head.bytes());
        let Some(h) = b.first_chunk::<8>() else { return false };
        let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        if !a.ok(1, word(6) == self.op) || !a.ok(2, word(0) == self.htype) || !a.ok(4, word(2) == self.ptype) {
            return false;
        }
        if a.which & 0xf8 == 0 {
            return true;
        }
        let Ok(p) = ArpPacket::parse(b) else { return false };
        let of = |v: Ipv4Addr, (want, mask): (u32, u32)| v.to_bits() & mask == want;
        a.ok(8, of(p.spa, self.src))
            && a.ok(0x10, of(p.tpa, self.dst))
            && a.ok(0x20, masked(&p.sha, self.smac))
            && a.ok(0x40, masked(&p.tha, self.dmac))
            && a.ok(0x80, p.spa == p.tpa)
    }
}

pub fn eval(net: &mut Net, e: &Eb, at: At, p: &Pkt, skb: &mut SkBuff) -> Then {
    let is_ip = at.link.is_some_and(|l| l.is_ip);
    match e {
        Eb::Ip(m) => when(m.meets(p, skb, is_ip)),
        Eb::Arp(m) => when(m.meets(skb)),
        Eb::Vlan { id, prio, encap, asked: a } => {
            let tag = skb.vlan;
            when(
                tag.present()
                    && a.ok(1, tag.vid() == *id)
                    && a.ok(2, tag.tci >> 13 == u16::from(*prio))
                    && a.ok(4, skb.protocol == *encap),
            )
        }
        Eb::Mark { mark, mask, inv, any } => {
            let is = u64::from(skb.mark) & mask;
            when((if *any { is != 0 } else { is == *mark }) != *inv)
        }
        Eb::PktType { kind, inv } => when((kind_of(skb.pkt_type) == *kind) != *inv),
        Eb::Nat { mac, source, arp, then: v } => nat(skb, *mac, *source, *arp, *v),
        Eb::Redirect { then: v } => {
            let own = |d: Option<DevId>| d.and_then(|d| net.devs.get(d)).map(|d| d.mac);
            // On its way in it is the bridge that is meant.
            let over = at.devs.0.and_then(|d| net.devs.get(d)?.master);
            let to = if at.hook == Hook::PreRouting { own(over) } else { own(at.devs.0) };
            skb.pkt_type = PktType::Host;
            when_written(to.is_some_and(|m| layer2::write(skb, 0, &m.0)), *v)
        }
        Eb::SetMark { mark, action, then: v } => {
            match action {
                0xffff_fff0 => skb.mark = *mark,
                0xffff_ffe0 => skb.mark |= *mark,
                0xffff_ffd0 => skb.mark &= *mark,
                _ => skb.mark ^= *mark,
            }
            then(*v)
        }
        Eb::ArpReply { mac, then: v } => reply(net, *mac, *v, at, skb),
        Eb::Log { prefix, what } => {
            let line = match what & LOG_NFLOG {
                0 => line(net, prefix, *what, at, p, skb),
                _ => log::line(net, prefix, 0, (p, !is_ip), skb, at.devs),
            };
            net.kmsg(line);
            Then::Next
        }
    }
}

const LOG_IP: u32 = 1;
const LOG_ARP: u32 = 2;
/// The line is that of the network layer's rules.
const LOG_NFLOG: u32 = 4;
const LOG_IP6: u32 = 8;

#[doc(alias = "ebt_log_packet")]
fn line(net: &Net, prefix: &str, what: u32, at: At, p: &Pkt, skb: &SkBuff) -> String {
    let name = |d: Option<DevId>| d.and_then(|d| net.devs.get(d)).map_or("", |d| d.name.as_str());
    let mut o = format!("{prefix} IN={} OUT={}", name(at.devs.0), name(at.devs.1));
    let Ok(eth) = EthHeader::parse(skb.head.at(skb.mac_header)) else { return o };
    let _ = write!(o, " MAC source = {} MAC dest = {} proto = 0x{:04x}", eth.src, eth.dst, eth.ethertype);
    let is_ip = at.link.is_some_and(|l| l.is_ip);
    match p.pf {
        Pf::V4 if is_ip && what & LOG_IP != 0 => {
            let (src, dst) = (addr(p.pf, p.src), addr(p.pf, p.dst));
            let _ = write!(o, " IP SRC={src} IP DST={dst}, IP tos=0x{:02X}, IP proto={}", p.tos, p.proto);
            ports(&mut o, p, skb);
        }
        Pf::V6 if is_ip && what & LOG_IP6 != 0 => {
            let whole = |a: u128| Ipv6Addr::from_bits(a).segments().map(|s| format!("{s:04x}")).join(":");
            let (src, dst) = (whole(p.src), whole(p.dst));
            let (priority, next) = (p.tos >> 4, skb.head.bytes().get(6).copied().unwrap_or(0));
            let _ = write!(o, " IPv6 SRC={src} IPv6 DST={dst}, IPv6 priority=0x{priority:01X}, Next Header={next}");
            ports(&mut o, p, skb);
        }
        _ if what & LOG_ARP != 0 && skb.protocol == ETH_P_ARP => arp_words(&mut o, skb.head.bytes()),
        _ => {}
    }
    o
}

fn ports(o: &mut String, p: &Pkt, skb: &SkBuff) {
    if let (6 | 17 | 33 | 132 | 136, Some((s, d))) = (p.proto, p.ports(skb)) {
        let _ = write!(o, " SPT={s} DPT={d}");
    }
}

fn arp_words(o: &mut String, b: &[u8]) {
    let Some(h) = b.first_chunk::<8>() else { return o.push_str(" INCOMPLETE ARP header") };
    let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    let _ = write!(o, " ARP HTYPE={}, PTYPE=0x{:04x}, OPCODE={}", word(0), word(2), word(6));
    if let (1, 6, 4, Ok(a)) = (word(0), h[4], h[5], ArpPacket::parse(b)) {
        let (s, d) = ((a.sha, a.spa), (a.tha, a.tpa));
        let _ = write!(o, " ARP MAC SRC={} ARP IP SRC={} ARP MAC DST={} ARP IP DST={}", s.0, s.1, d.0, d.1);
    }
}

fn when_written(done: bool, v: i32) -> Then {
    if done { then(v) } else { Then::End(Verdict::Drop(Errno::EPERM)) }
}

fn kind_of(t: PktType) -> u8 {
    match t {
        PktType::Host => 0,
        PktType::Broadcast => 1,
        PktType::Multicast => 2,
        PktType::OtherHost => 3,
        PktType::Outgoing => 4,
    }
}

#[doc(alias = "ebt_dnat_tg")]
#[doc(alias = "ebt_snat_tg")]
fn nat(skb: &mut SkBuff, mac: Mac, source: bool, arp: bool, v: i32) -> Then {
    if !layer2::write(skb, if source { 6 } else { 0 }, &mac.0) {
        return Then::End(Verdict::Drop(Errno::EPERM));
    }
    if arp && skb.protocol == ETH_P_ARP && skb.head.len() >= ARP_HLEN {
        // The sender's address within.
        if let Some(to) = skb.head.bytes_mut().get_mut(8..14) {
            to.copy_from_slice(&mac.0);
        }
    }
    if !source {
        skb.pkt_type = match mac {
            m if m.is_broadcast() => PktType::Broadcast,
            m if m.is_multicast() => PktType::Multicast,
            _ => skb.pkt_type,
        };
    }
    then(v)
}

/// Who asks is answered, out of the port that the question came by.
#[doc(alias = "ebt_arpreply_tg")]
fn reply(net: &mut Net, mac: Mac, v: i32, at: At, skb: &SkBuff) -> Then {
    if skb.protocol != ETH_P_ARP {
        return Then::End(Verdict::Drop(Errno::EPERM));
    }
    let (Ok(p), Some(dev)) = (ArpPacket::parse(skb.head.bytes()), at.devs.0) else { return Then::Next };
    if p.op != ARPOP_REQUEST {
        return Then::Next;
    }
    let mut out = net.alloc_skb();
    if let Some(room) = out.head.push(ARP_HLEN) {
        ArpPacket { op: ARPOP_REPLY, sha: mac, spa: p.tpa, tha: p.sha, tpa: p.spa }.emit(room);
    }
    (out.ns, out.network_header, out.protocol) = (Some(at.ns), out.head.start(), ETH_P_ARP);
    out.set_truesize();
    if crate::net::ethernet::push_header(&mut out, p.sha, mac, ETH_P_ARP) {
        let _ = crate::net::core::dev_tx::dev_queue_xmit(net, dev, out);
    } else {
        net.consume_skb(out);
    }
    then(v)
}
