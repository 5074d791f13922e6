//! The line that the LOG target writes.
use super::packet::{Pkt, addr};
use super::rules::*;
use super::{Devs, Pf};
use crate::net::Net;
use crate::net::core::skb::SkBuff;
use belljar_wire::arp::ArpPacket;
use belljar_wire::ethernet::{ETH_P_ARP, EthHeader};
use belljar_wire::ipv4::*;
use belljar_wire::tcp::{Flags, TcpHeader};
use std::fmt::Write;

/// `[prefix]IN=… OUT=… SRC=… …`, a space at its end as the kernel has it.
#[doc(alias = "nf_log_ip_packet")]
pub fn line(net: &Net, prefix: &str, flags: u8, (p, frame): (&Pkt, bool), skb: &SkBuff, devs: Devs) -> String {
    let (iin, out) = devs;
    let name = |d: Option<crate::ids::DevId>| d.and_then(|d| net.devs.get(d)).map_or("", |d| d.name.as_str());
    let mut o = format!("{prefix}IN={} OUT={} ", name(iin), name(out));
    if let Some(b) = skb.nf_bridge {
        for (label, d, seen) in [("PHYSIN", Some(b.physin), iin), ("PHYSOUT", b.physout, out)] {
            if d.is_some() && d != seen {
                let _ = write!(o, "{label}={} ", name(d));
            }
        }
    }
    if frame {
        return no_ip(o, net, flags, skb, iin);
    }
    mac(&mut o, net, flags, skb, iin);
    let _ = write!(o, "SRC={} DST={} ", addr(p.pf, p.src), addr(p.pf, p.dst));
    match p.pf {
        Pf::V4 => v4(&mut o, p, skb),
        Pf::V6 => {
            let b = skb.head.bytes();
            let label = b.get(1..4).map_or(0, |b| u32::from(b[0] & 15) << 16 | u32::from(b[1]) << 8 | u32::from(b[2]));
            let _ = write!(o, "LEN={} TC={} HOPLIMIT={} FLOWLBL={label} ", p.len, p.tos, p.ttl);
        }
    }
    transport(&mut o, flags, p, skb);
    if skb.mark != 0 {
        let _ = write!(o, "MARK=0x{:x} ", skb.mark);
    }
    o
}

#[doc(alias = "nf_log_dump_vlan")]
fn vlan(o: &mut String, skb: &SkBuff) {
    if skb.vlan.present() {
        let _ = write!(o, "VPROTO={:04x} VID={} ", skb.vlan.proto, skb.vlan.tci);
    }
}

/// Frames of other protocols; of ARP what it asks.
#[doc(alias = "nf_log_arp_packet")]
#[doc(alias = "nf_log_unknown_packet")]
fn no_ip(mut o: String, net: &Net, flags: u8, skb: &SkBuff, iin: Option<crate::ids::DevId>) -> String {
    if skb.protocol != ETH_P_ARP {
        mac(&mut o, net, flags, skb, iin);
        return o;
    }
    vlan(&mut o, skb);
    let Some(h) = skb.head.bytes().first_chunk::<8>() else { return o + "TRUNCATED" };
    let word = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    let _ = write!(o, "ARP HTYPE={} PTYPE=0x{:04x} OPCODE={}", word(0), word(2), word(6));
    // Of Ethernet and IPv4 only is known what follows.
    if let (1, 6, 4, Ok(a)) = (word(0), h[4], h[5], ArpPacket::parse(skb.head.bytes())) {
        let _ = write!(o, " MACSRC={} IPSRC={} MACDST={} IPDST={}", a.sha, a.spa, a.tha, a.tpa);
    }
    o
}

/// The link header, where the packet came in with one.
#[doc(alias = "dump_mac_header")]
fn mac(o: &mut String, net: &Net, flags: u8, skb: &SkBuff, iin: Option<crate::ids::DevId>) {
    let Some(d) = iin.and_then(|d| net.devs.get(d)) else { return };
    if flags & LOG_MACDECODE != 0
        && let (false, Ok(eth)) = (d.noarp(), EthHeader::parse(skb.head.at(skb.mac_header)))
    {
        vlan(o, skb);
        let _ = write!(o, "MACSRC={} MACDST={} MACPROTO={:04x} ", eth.src, eth.dst, eth.ethertype);
        return;
    }
    o.push_str("MAC=");
    let len = usize::from(skb.network_header.saturating_sub(skb.mac_header));
    if !d.noarp() || d.is_loopback() {
        let bytes = skb.head.at(skb.mac_header);
        let hex: Vec<_> = bytes.iter().take(len).map(|b| format!("{b:02x}")).collect();
        o.push_str(&hex.join(":"));
    }
    o.push(' ');
}

fn v4(o: &mut String, p: &Pkt, skb: &SkBuff) {
    let Ok(ip) = Ipv4Header::parse(skb.head.bytes()) else { return };
    let (tos, prec) = (p.tos & 0x1e, p.tos & 0xe0);
    let _ = write!(o, "LEN={} TOS=0x{tos:02X} PREC=0x{prec:02X} TTL={} ID={} ", p.len, p.ttl, ip.id);
    if ip.df {
        o.push_str("DF ");
    }
    if ip.mf {
        o.push_str("MF ");
    }
    if ip.frag_off != 0 {
        let _ = write!(o, "FRAG:{} ", ip.frag_off / 8);
    }
}

fn transport(o: &mut String, flags: u8, p: &Pkt, skb: &SkBuff) {
    let b = p.transport(skb);
    match p.proto {
        IPPROTO_TCP => {
            o.push_str("PROTO=TCP ");
            let Ok(h) = TcpHeader::parse(b) else { return };
            let _ = write!(o, "SPT={} DPT={} ", h.src_port, h.dst_port);
            if flags & LOG_TCPSEQ != 0 {
                let _ = write!(o, "SEQ={} ACK={} ", h.seq, h.ack);
            }
            let reserved = b.get(12).map_or(0, |b| (b & 15) << 2);
            let _ = write!(o, "WINDOW={} RES=0x{reserved:02x} ", h.window);
            let names = [
                (Flags::CWR, "CWR "),
                (Flags::ECE, "ECE "),
                (Flags::URG, "URG "),
                (Flags::ACK, "ACK "),
                (Flags::PSH, "PSH "),
                (Flags::RST, "RST "),
                (Flags::SYN, "SYN "),
                (Flags::FIN, "FIN "),
            ];
            names.iter().filter(|(f, _)| h.flags.contains(*f)).for_each(|(_, n)| o.push_str(n));
            let _ = write!(o, "URGP={} ", h.urg_ptr);
            if flags & LOG_TCPOPT != 0 && h.header_len > 20 {
                let hex: String = h.options(b).iter().map(|b| format!("{b:02X}")).collect();
                let _ = write!(o, "OPT ({hex}) ");
            }
        }
        IPPROTO_UDP => {
            o.push_str("PROTO=UDP ");
            if let (Some((s, d)), Some(len)) = (p.ports(skb), b.get(4..6)) {
                let _ = write!(o, "SPT={s} DPT={d} LEN={} ", u16::from_be_bytes([len[0], len[1]]));
            }
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            o.push_str(if p.pf == Pf::V4 { "PROTO=ICMP " } else { "PROTO=ICMPv6 " });
            if let Some(&[t, c, _, _, i0, i1, s0, s1]) = b.first_chunk() {
                let _ = write!(o, "TYPE={t} CODE={c} ");
                if matches!((p.pf, t), (Pf::V4, 0 | 8) | (Pf::V6, 128 | 129)) {
                    let (id, seq) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
                    let _ = write!(o, "ID={id} SEQ={seq} ");
                }
            }
        }
        other => {
            let _ = write!(o, "PROTO={other} ");
        }
    }
}
