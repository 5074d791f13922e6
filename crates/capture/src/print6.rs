//! IPv6 as tcpdump prints it: extension headers in their order, then the protocol; ICMPv6 with discovery and MLD.
use crate::print::{Datagram, Printer, udp_text};
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::icmpv6::*;
use belljar_wire::ipv4::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::ipv6::*;
use std::fmt::Write;
use std::net::Ipv6Addr;

const IPPROTO_IPIP: u8 = 4;
/// Packets within packets that are followed.
const MAX_DEPTH: usize = 4;

/// What of a packet is being printed.
struct At<'a> {
    ip: Ipv6Header,
    /// From here on, and how many bytes the header says there are.
    body: &'a [u8],
    len: usize,
    /// Not the first fragment's end.
    more: bool,
    /// Behind extension headers: the addresses are printed already.
    behind: bool,
}

fn addr(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    b.get(at..)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a))
}

impl Printer {
    /// The text behind `IP6 `, for bytes that begin with the header.
    pub(crate) fn ipv6(&mut self, out: &mut String, b: &[u8], depth: usize) {
        let ip = match Ipv6Header::parse(b) {
            Ok(ip) => ip,
            Err(e) => {
                let _ = write!(out, "bad packet: {e}, length {}", b.len());
                return;
            }
        };
        let (have, said) = (b.len() - IPV6_HLEN, usize::from(ip.payload_len));
        // A super-segment says nothing about its length.
        let said = if said == 0 { have } else { said };
        if have < said {
            let _ = write!(out, "truncated-ip6 - {} bytes missing!", said - have);
        }
        let body = b.get(IPV6_HLEN..IPV6_HLEN + said.min(have)).unwrap_or(&[]);
        if !matches!(ip.next, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP) {
            let _ = write!(out, "{} > {}: ", ip.src, ip.dst);
        }
        self.headers(out, At { ip, body, len: said, more: false, behind: false }, depth);
    }

    fn headers(&mut self, out: &mut String, mut at: At<'_>, depth: usize) {
        let mut next = at.ip.next;
        // Each header takes bytes away, so this ends.
        loop {
            let size = match (next, at.body) {
                (NEXTHDR_HOP | NEXTHDR_DEST | NEXTHDR_ROUTING, &[_, len, ..]) => (usize::from(len) + 1) * 8,
                (NEXTHDR_FRAGMENT, _) => FRAG_HLEN,
                _ => break,
            };
            let Some(header) = at.body.get(..size) else { break };
            match next {
                NEXTHDR_HOP => out.push_str("HBH "),
                NEXTHDR_DEST => out.push_str("DSTOPT "),
                NEXTHDR_ROUTING => routing(out, header),
                _ => {
                    let Ok(f) = FragHeader::parse(header) else { break };
                    let len = at.len.saturating_sub(FRAG_HLEN);
                    let _ = write!(out, "frag ({}|{len})", f.offset);
                    if f.offset != 0 {
                        return;
                    }
                    out.push(' ');
                    at.more = f.more;
                }
            }
            next = header.first().copied().unwrap_or(NEXTHDR_NONE);
            (at.body, at.len) = (at.body.get(size..).unwrap_or(&[]), at.len.saturating_sub(size));
            at.behind = true;
        }
        self.protocol(out, &at, next, depth);
    }

    fn protocol(&mut self, out: &mut String, at: &At<'_>, next: u8, depth: usize) {
        match next {
            NEXTHDR_TCP => self.tcp(out, (at.ip.src.into(), at.ip.dst.into()), at.body, at.len, at.behind),
            NEXTHDR_UDP => {
                udp_text(
                    out,
                    (at.ip.src.into(), at.ip.dst.into()),
                    at.body,
                    at.len,
                    Datagram { more: at.more, behind: at.behind, quick: self.quick() },
                );
            }
            NEXTHDR_ICMP => icmp6(out, at),
            NEXTHDR_NONE => out.push_str("no next header"),
            NEXTHDR_ESP => match (at.body.first_chunk::<8>(), at.len) {
                (Some(&[a, b, c, d, e, f, g, h]), len) => {
                    let (spi, seq) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                    let _ = write!(out, "ESP(spi=0x{spi:08x},seq=0x{seq:x}), length {len}");
                }
                _ => out.push_str("[|esp]"),
            },
            NEXTHDR_IPV6 if depth < MAX_DEPTH => {
                out.push_str(if self.link() { "" } else { "IP6 " });
                self.ipv6(out, at.body, depth + 1);
            }
            IPPROTO_IPIP if depth < MAX_DEPTH => {
                out.push_str(if self.link() { "" } else { "IP " });
                self.ipv4(out, at.body);
            }
            NEXTHDR_HOP | NEXTHDR_DEST | NEXTHDR_ROUTING | NEXTHDR_FRAGMENT => out.push_str("[|ip6]"),
            p => {
                let _ = write!(out, " ip-proto-{p} {}", at.len);
            }
        }
    }
}

/// `RT6 (len=2, type=0 [Deprecated], segleft=1, [0]fd00::9) `.
fn routing(out: &mut String, b: &[u8]) {
    let &[_, len, kind, left, ..] = b else { return };
    let _ = write!(out, "RT6 (len={len}, type={kind}");
    let addresses = |out: &mut String| {
        for n in 0..usize::from(len) / 2 {
            if let Some(a) = addr(b, 8 + 16 * n) {
                let _ = write!(out, ", [{n}]{a}");
            }
        }
    };
    match kind {
        0 => {
            let _ = write!(out, " [Deprecated], segleft={left}");
            addresses(out);
        }
        2 => {
            let _ = write!(out, ", segleft={left}");
            addresses(out);
        }
        4 => {
            let (last, tag) =
                (b.get(4).copied().unwrap_or(0), b.get(6..8).map_or(0, |t| u16::from_be_bytes([t[0], t[1]])));
            let _ = write!(out, ", segleft={left}, last-entry={last}, tag={tag:x}");
            addresses(out);
        }
        _ => {
            let _ = write!(out, ", segleft={left}");
        }
    }
    out.push_str(") ");
}

/// The line of a message (`icmp6_print`).
fn icmp6(out: &mut String, at: &At<'_>) {
    out.push_str("ICMP6, ");
    let b = at.body;
    let Some(kind) = b.first().copied() else {
        out.push_str("[|icmp6]");
        return;
    };
    let done = match kind {
        ICMPV6_DEST_UNREACH => unreachable(out, b),
        ICMPV6_PKT_TOOBIG => word(b, 4).map(|mtu| _ = write!(out, "packet too big, mtu {mtu}")),
        ICMPV6_TIME_EXCEED => time_exceeded(out, b),
        ICMPV6_PARAMPROB => parameter(out, b),
        ICMPV6_ECHO_REQUEST | ICMPV6_ECHO_REPLY => {
            out.push_str(if kind == ICMPV6_ECHO_REQUEST { "echo request" } else { "echo reply" });
            IcmpHeader::parse(b).ok().map(|h| {
                let (id, seq) = h.echo();
                let _ = write!(out, ", id {id}, seq {seq}");
            })
        }
        NDISC_ROUTER_SOLICITATION => said(out, "router solicitation"),
        NDISC_ROUTER_ADVERTISEMENT => said(out, "router advertisement"),
        NDISC_NEIGHBOUR_SOLICITATION => addr(b, 8).map(|a| _ = write!(out, "neighbor solicitation, who has {a}")),
        NDISC_NEIGHBOUR_ADVERTISEMENT => addr(b, 8).map(|a| _ = write!(out, "neighbor advertisement, tgt is {a}")),
        NDISC_REDIRECT => addr(b, 8).zip(addr(b, 24)).map(|(to, dst)| _ = write!(out, "redirect, {dst} to {to}")),
        ICMPV6_MGM_QUERY | ICMPV6_MGM_REPORT | ICMPV6_MGM_REDUCTION | ICMPV6_MLD2_REPORT => mld(out, kind, at),
        _ => said(out, &format!("type-#{kind}, code {}", b.get(1).unwrap_or(&0))),
    };
    match done {
        Some(()) => _ = write!(out, ", length {}", at.len),
        None => out.push_str(" [|icmp6]"),
    }
}

fn said(out: &mut String, text: &str) -> Option<()> {
    out.push_str(text);
    Some(())
}

fn word(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk().map(|w| u32::from_be_bytes(*w))
}

/// Source and destination of the quoted packet.
fn quoted(b: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    Some((addr(b, 16)?, addr(b, 32)?))
}

fn unreachable(out: &mut String, b: &[u8]) -> Option<()> {
    out.push_str("destination unreachable, ");
    let code = *b.get(1)?;
    // tcpdump's own words, its double spaces included.
    out.push_str(match code {
        ICMPV6_NOROUTE => "unreachable route",
        ICMPV6_ADM_PROHIBITED => " unreachable prohibited",
        ICMPV6_NOT_NEIGHBOUR => "beyond scope",
        ICMPV6_ADDR_UNREACH => "unreachable address",
        ICMPV6_PORT_UNREACH => "unreachable port",
        _ => {
            let _ = write!(out, "unknown unreach code ({code})");
            return Some(());
        }
    });
    let (src, dst) = quoted(b)?;
    match code {
        ICMPV6_NOT_NEIGHBOUR => _ = write!(out, " {dst}, source address {src}"),
        ICMPV6_PORT_UNREACH => {
            let t = transport(b.get(8..)?)?;
            let port = b.get(8 + t.at + 2..8 + t.at + 4).map(|p| u16::from_be_bytes([p[0], p[1]]))?;
            let name = match t.proto {
                NEXTHDR_TCP => "tcp",
                NEXTHDR_UDP => "udp",
                _ => return None,
            };
            let _ = write!(out, ", {dst} {name} port {port}");
        }
        _ => _ = write!(out, " {dst}"),
    }
    Some(())
}

fn time_exceeded(out: &mut String, b: &[u8]) -> Option<()> {
    let (_, dst) = quoted(b)?;
    match *b.get(1)? {
        ICMPV6_EXC_HOPLIMIT => _ = write!(out, "time exceeded in-transit for {dst}"),
        ICMPV6_EXC_FRAGTIME => out.push_str("time exceeded in-transit (reassembly)"),
        code => _ = write!(out, "time exceeded in-transit, unknown code ({code})"),
    }
    Some(())
}

fn parameter(out: &mut String, b: &[u8]) -> Option<()> {
    let (code, at) = (*b.get(1)?, word(b, 4)?);
    quoted(b)?;
    let what = match code {
        ICMPV6_HDR_FIELD => "erroneous",
        ICMPV6_UNK_NEXTHDR => "next header",
        ICMPV6_UNK_OPTION => "option",
        3 => "incomplete header chain",
        _ => return said(out, &format!("parameter problem, code-#{code}")),
    };
    let _ = write!(out, "parameter problem, {what} - octet {at}");
    Some(())
}

/// Messages of both versions; a query of the second is longer.
fn mld(out: &mut String, kind: u8, at: &At<'_>) -> Option<()> {
    let b = at.body;
    if kind == ICMPV6_MLD2_REPORT {
        let n = b.get(6..8).map(|n| u16::from_be_bytes([n[0], n[1]]))?;
        return said(out, &format!("multicast listener report v2, {n} group record(s)"));
    }
    let what = match kind {
        ICMPV6_MGM_QUERY => "query",
        ICMPV6_MGM_REPORT => "report",
        _ => "done",
    };
    let _ = write!(out, "multicast listener {what}");
    let group = addr(b, 8)?;
    if kind == ICMPV6_MGM_QUERY && at.len >= 28 {
        let _ = write!(out, " v2 [gaddr {group}");
        match b.get(26..28).map(|n| u16::from_be_bytes([n[0], n[1]]))? {
            0 => {}
            n => _ = write!(out, ", {n} source(s)"),
        }
        out.push(']');
        return Some(());
    }
    let max = word(b, 4)? >> 16;
    let _ = write!(out, "max resp delay: {max} addr: {group}");
    Some(())
}
