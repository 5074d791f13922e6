//! Packets as tcpdump prints them, one line each: ARP, IPv4 with ICMP, UDP and TCP; IPv6 in `print6.rs`. Of payloads only the first line of
//! HTTP and the questions and answers of DNS are shown.
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::*;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::*;
use belljar_wire::tcp::*;
use belljar_wire::{FlowKey, Mac, udp::UdpHeader};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::IpAddr;

/// How lines look; the default is `tcpdump -n` with the clock in UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Seconds east of Greenwich.
    pub utc_offset: i32,
    /// Without the time (`-t`).
    pub no_time: bool,
    /// Nanoseconds instead of microseconds (`--nano`).
    pub nano: bool,
    /// Link-level header (`-e`).
    pub link: bool,
    /// Sequence numbers as they are (`-S`).
    pub absolute_seq: bool,
    /// Less of each protocol (`-q`).
    pub quick: bool,
}

/// Conversations whose first sequence numbers are remembered; the oldest is forgotten.
const MAX_CONVERSATIONS: usize = 4096;

/// Prints packets of one capture: it remembers first sequence numbers to print relative ones.
#[derive(Clone, Debug, Default)]
pub struct Printer {
    style: Style,
    /// First numbers of the canonical direction and of the other.
    conversations: BTreeMap<FlowKey, (u32, u32)>,
    age: VecDeque<FlowKey>,
}

/// `HH:MM:SS.frac` of nanoseconds since 1970.
pub fn time_of_day(ts_ns: u64, utc_offset: i32, nano: bool) -> String {
    let (s, ns) = (ts_ns / 1_000_000_000, ts_ns % 1_000_000_000);
    let day = (s as i64 + utc_offset as i64).rem_euclid(86_400);
    let (h, m, s) = (day / 3600, day / 60 % 60, day % 60);
    if nano { format!("{h:02}:{m:02}:{s:02}.{ns:09}") } else { format!("{h:02}:{m:02}:{s:02}.{:06}", ns / 1000) }
}

fn ethertype_name(t: u16) -> &'static str {
    match t {
        ETH_P_IP => "IPv4",
        ETH_P_ARP => "ARP",
        ETH_P_IPV6 => "IPv6",
        ETH_P_8021Q => "802.1Q",
        _ => "Unknown",
    }
}

pub(crate) fn proto_name(p: u8) -> Option<&'static str> {
    Some(match p {
        IPPROTO_ICMP => "icmp",
        IPPROTO_IGMP => "igmp",
        IPPROTO_TCP => "tcp",
        IPPROTO_UDP => "udp",
        IPPROTO_SCTP => "sctp",
        IPPROTO_ICMPV6 => "ipv6-icmp",
        IPPROTO_UDPLITE => "udplite",
        _ => return None,
    })
}

pub(crate) fn proto_text(p: u8) -> String {
    proto_name(p).map_or_else(|| format!("ip-proto-{p}"), str::to_string)
}

impl Printer {
    pub fn new(style: Style) -> Printer {
        Printer { style, ..Printer::default() }
    }

    pub(crate) fn quick(&self) -> bool {
        self.style.quick
    }

    /// A packet inside another is named by its header then.
    pub(crate) fn link(&self) -> bool {
        self.style.link
    }

    /// One line, without its end, for bytes that begin with an Ethernet header.
    pub fn line(&mut self, ts_ns: u64, packet: &[u8]) -> String {
        self.time(ts_ns) + &self.packet(packet)
    }

    /// The time as the style wants it, with a space behind it; empty when it wants none.
    pub fn time(&self, ts_ns: u64) -> String {
        if self.style.no_time {
            return String::new();
        }
        time_of_day(ts_ns, self.style.utc_offset, self.style.nano) + " "
    }

    /// The line without its time.
    pub fn packet(&mut self, packet: &[u8]) -> String {
        let mut out = String::with_capacity(160);
        self.ethernet(&mut out, packet);
        out
    }

    fn ethernet(&mut self, out: &mut String, b: &[u8]) {
        let Ok(mut eth) = EthHeader::parse(b) else {
            out.push_str("[|ether]");
            return;
        };
        let mut body = b.get(ETH_HLEN..).unwrap_or(&[]);
        if self.style.link {
            let (t, len) = (eth.ethertype, b.len());
            let _ =
                write!(out, "{} > {}, ethertype {} (0x{t:04x}), length {len}: ", eth.src, eth.dst, ethertype_name(t));
        }
        if eth.ethertype == ETH_P_8021Q
            && let Some(&[t0, t1, p0, p1]) = body.first_chunk::<4>()
        {
            eth.ethertype = u16::from_be_bytes([p0, p1]);
            let tci = u16::from_be_bytes([t0, t1]);
            if self.style.link {
                let _ =
                    write!(out, "vlan {}, p {}, ethertype {}, ", tci & 0xfff, tci >> 13, ethertype_name(eth.ethertype));
            }
            body = body.get(4..).unwrap_or(&[]);
        }
        match eth.ethertype {
            ETH_P_IP => {
                out.push_str(if self.style.link { "" } else { "IP " });
                self.ipv4(out, body);
            }
            ETH_P_ARP => arp(out, body, self.style.link),
            ETH_P_IPV6 => {
                out.push_str(if self.style.link { "" } else { "IP6 " });
                self.ipv6(out, body, 0);
            }
            t => {
                let _ = write!(out, "{} > {}, ethertype 0x{t:04x}, length {}", eth.src, eth.dst, b.len());
            }
        }
    }

    pub(crate) fn ipv4(&mut self, out: &mut String, b: &[u8]) {
        let ip = match Ipv4Header::parse(b) {
            Ok(ip) => ip,
            Err(e) => {
                let _ = write!(out, "bad packet: {e}, length {}", b.len());
                return;
            }
        };
        let body = b.get(ip.ihl_bytes..(ip.total_len as usize).min(b.len())).unwrap_or(&[]);
        let (src, dst, len) = (ip.src, ip.dst, ip.payload_len());
        let addresses = |out: &mut String| _ = write!(out, "{src} > {dst}: ");
        match ip.proto {
            p if ip.frag_off > 0 => {
                addresses(out);
                out.push_str(&proto_text(p));
            }
            IPPROTO_TCP => self.tcp(out, (src.into(), dst.into()), body, len, false),
            IPPROTO_UDP => udp_text(
                out,
                (src.into(), dst.into()),
                body,
                len,
                Datagram { more: ip.mf, behind: false, quick: self.quick() },
            ),
            IPPROTO_ICMP => {
                addresses(out);
                icmp(out, body, len);
            }
            p => {
                addresses(out);
                out.push_str(&proto_text(p));
                let _ = write!(out, " {len}");
            }
        }
    }

    /// The line of a TCP segment (`tcp_print`).
    /// `len` is what IP says it has; behind extension headers the addresses are printed already.
    pub(crate) fn tcp(&mut self, out: &mut String, ends: Ends, b: &[u8], len: usize, behind: bool) {
        let (src, dst) = ends;
        let t = match TcpHeader::parse(b) {
            Ok(t) => t,
            Err(e) => {
                let _ = write!(out, "{src} > {dst}: [|tcp] {e}");
                return;
            }
        };
        ports(out, ends, (t.src_port, t.dst_port), behind);
        let len = len.saturating_sub(t.header_len);
        if self.style.quick {
            let _ = write!(out, "tcp {len}");
            return;
        }
        let _ = write!(out, "Flags {}", t.flags);
        let (seq0, ack0, sack0) = self.first_numbers(ends, &t);
        let seq = t.seq.wrapping_sub(seq0);
        if len > 0 || t.flags.intersects(Flags::SYN | Flags::FIN | Flags::RST) {
            let _ = write!(out, ", seq {seq}");
            if len > 0 {
                let _ = write!(out, ":{}", seq.wrapping_add(len as u32));
            }
        }
        if t.flags.contains(Flags::ACK) {
            let _ = write!(out, ", ack {}", t.ack.wrapping_sub(ack0));
        }
        let _ = write!(out, ", win {}", t.window);
        if t.flags.contains(Flags::URG) {
            let _ = write!(out, ", urg {}", t.urg_ptr);
        }
        tcp_options(out, t.options(b), sack0);
        let _ = write!(out, ", length {len}");
        if len > 0 && [t.src_port, t.dst_port].iter().any(|p| matches!(p, 80 | 8080)) {
            out.push_str(": HTTP");
            http(out, b.get(t.header_len..).unwrap_or(&[]));
        }
    }

    /// What to take off the sequence number, the acknowledgement number and SACK edges.
    /// Numbers are relative from the second acknowledging segment of a conversation on.
    fn first_numbers(&mut self, (src, dst): Ends, t: &TcpHeader) -> (u32, u32, u32) {
        if self.style.absolute_seq || !t.flags.contains(Flags::ACK) {
            return (0, 0, 0);
        }
        let key = FlowKey { src, dst, sport: t.src_port, dport: t.dst_port, proto: IPPROTO_TCP };
        let canonical = key.min(key.reversed());
        let reverse = canonical != key;
        if let Some((a, b)) = self.conversations.get(&canonical).copied()
            && !t.flags.contains(Flags::SYN)
        {
            let (seq, ack) = if reverse { (b, a) } else { (a, b) };
            return (seq, ack, ack);
        }
        let (seq, ack) = (t.seq, t.ack.wrapping_sub(1));
        let pair = if reverse { (ack, seq) } else { (seq, ack) };
        if self.conversations.insert(canonical, pair).is_none() {
            self.age.push_back(canonical);
            if self.age.len() > MAX_CONVERSATIONS
                && let Some(oldest) = self.age.pop_front()
            {
                self.conversations.remove(&oldest);
            }
        }
        (0, 0, ack)
    }
}

/// Source and destination.
pub(crate) type Ends = (IpAddr, IpAddr);

fn ports(out: &mut String, (src, dst): Ends, (sport, dport): (u16, u16), behind: bool) {
    let _ = match behind {
        true => write!(out, "{sport} > {dport}: "),
        false => write!(out, "{src}.{sport} > {dst}.{dport}: "),
    };
}

/// How a datagram came: fragments of it follow, behind other headers, and what is to be told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Datagram {
    pub more: bool,
    pub behind: bool,
    pub quick: bool,
}

/// The line of a datagram (`udp_print`).
pub(crate) fn udp_text(out: &mut String, ends: Ends, b: &[u8], have: usize, how: Datagram) {
    let Datagram { more, behind, quick } = how;
    let u = match UdpHeader::parse(b) {
        Ok(u) => u,
        Err(e) => {
            let _ = write!(out, "{} > {}: [|udp] {e}", ends.0, ends.1);
            return;
        }
    };
    ports(out, ends, (u.src_port, u.dst_port), behind);
    let len = u.len - 8;
    if (have < u.len as usize) && !more {
        let _ = write!(out, "UDP, bad length {len} > {}", have.saturating_sub(8));
        return;
    }
    let dns = if !quick && (u.src_port == 53 || u.dst_port == 53) {
        crate::dns::line(b.get(8..).unwrap_or(&[]))
    } else {
        None
    };
    let _ = match dns {
        Some(text) => write!(out, "{text} ({len})"),
        None => write!(out, "UDP, length {len}"),
    };
}

/// The request or status line, when the segment begins with one.
fn http(out: &mut String, b: &[u8]) {
    const BEGIN: [&[u8]; 10] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"TRACE ", b"CONNECT ", b"PATCH ", b"HTTP/"];
    if !BEGIN.iter().any(|w| b.get(..w.len()).is_some_and(|b| b.eq_ignore_ascii_case(w))) {
        return;
    }
    out.push_str(": ");
    let end = b.iter().position(|c| matches!(c, b'\r' | b'\n'));
    let line = b.get(..end.unwrap_or(b.len())).unwrap_or(b);
    line.iter().take(512).for_each(|c| out.push(if matches!(c, b' '..=b'~') { *c as char } else { '.' }));
    if end.is_none() {
        out.push_str(" [|http]");
    }
}

fn tcp_options(out: &mut String, b: &[u8], sack_base: u32) {
    if b.is_empty() {
        return;
    }
    out.push_str(", options [");
    let (mut rest, mut comma) = (b, "");
    while let [kind, tail @ ..] = rest {
        out.push_str(comma);
        comma = ",";
        match *kind {
            TCPOPT_EOL => {
                out.push_str("eol");
                break;
            }
            TCPOPT_NOP => {
                out.push_str("nop");
                rest = tail;
                continue;
            }
            _ => {}
        }
        let Some((len, body)) = tail.first().and_then(|l| Some((*l as usize, rest.get(2..*l as usize)?))) else {
            out.push_str("[bad opt]");
            break;
        };
        tcp_option(out, *kind, body, sack_base);
        rest = rest.get(len..).unwrap_or(&[]);
    }
    out.push(']');
}

fn tcp_option(out: &mut String, kind: u8, body: &[u8], sack_base: u32) {
    let word = |at: usize| body.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let _ = match (kind, body) {
        (TCPOPT_MSS, [a, b]) => write!(out, "mss {}", u16::from_be_bytes([*a, *b])),
        (TCPOPT_WINDOW, [s]) => write!(out, "wscale {s}"),
        (TCPOPT_SACK_PERM, []) => write!(out, "sackOK"),
        (TCPOPT_TIMESTAMP, [_, _, _, _, _, _, _, _]) => write!(out, "TS val {} ecr {}", word(0), word(4)),
        (TCPOPT_SACK, b) if b.len() % 8 == 0 => {
            let _ = write!(out, "sack {} ", b.len() / 8);
            (0..b.len()).step_by(8).try_for_each(|at| {
                write!(out, "{{{}:{}}}", word(at).wrapping_sub(sack_base), word(at + 4).wrapping_sub(sack_base))
            })
        }
        (k, b) => {
            let _ = write!(out, "unknown-{k}{}", if b.is_empty() { "" } else { " 0x" });
            b.iter().try_for_each(|v| write!(out, "{v:02x}"))
        }
    };
}

fn arp(out: &mut String, b: &[u8], link: bool) {
    out.push_str(if link { "" } else { "ARP, " });
    let len = b.len();
    let _ = match ArpPacket::parse(b) {
        Ok(a) if a.op == ARPOP_REQUEST && (a.tha.is_zero() || a.tha == Mac::BROADCAST) => {
            write!(out, "Request who-has {} tell {}, length {len}", a.tpa, a.spa)
        }
        Ok(a) if a.op == ARPOP_REQUEST => {
            write!(out, "Request who-has {} ({}) tell {}, length {len}", a.tpa, a.tha, a.spa)
        }
        Ok(a) if a.op == ARPOP_REPLY => write!(out, "Reply {} is-at {}, length {len}", a.spa, a.sha),
        Ok(a) => write!(out, "Unknown ({}), length {len}", a.op),
        Err(e) => write!(out, "[|arp] {e}, length {len}"),
    };
}

/// The line of an ICMP message (`icmp_print`); errors name what they quote.
fn icmp(out: &mut String, b: &[u8], len: usize) {
    let Ok(h) = IcmpHeader::parse(b) else {
        out.push_str("[|icmp]");
        return;
    };
    out.push_str("ICMP ");
    let quoted = b.get(ICMP_HLEN..).unwrap_or(&[]);
    let ip = Ipv4Header::parse(quoted).ok();
    let (id, seq) = h.echo();
    let dst = ip.map_or_else(|| "?".to_string(), |ip| ip.dst.to_string());
    let _ = match (h.kind, h.code) {
        (ICMP_ECHO, _) => write!(out, "echo request, id {id}, seq {seq}"),
        (ICMP_ECHOREPLY, _) => write!(out, "echo reply, id {id}, seq {seq}"),
        (ICMP_DEST_UNREACH, code) => unreachable_text(out, code, &h, ip, quoted, &dst),
        (ICMP_REDIRECT, code) => {
            let what = ["net", "host", "tos net", "tos host"].get(code as usize).unwrap_or(&"unknown");
            let [a, b, c, d] = h.rest;
            write!(out, "redirect {dst} to {what} {a}.{b}.{c}.{d}")
        }
        (ICMP_TIME_EXCEEDED, ICMP_EXC_TTL) => write!(out, "time exceeded in-transit"),
        (ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME) => write!(out, "ip reassembly time exceeded"),
        (ICMP_PARAMETERPROB, 0) => write!(out, "parameter problem - octet {}", h.rest[0]),
        (ICMP_SOURCE_QUENCH, _) => write!(out, "source quench"),
        (ICMP_TIMESTAMP, _) => write!(out, "time stamp query id {id} seq {seq}"),
        (ICMP_TIMESTAMPREPLY, _) => write!(out, "time stamp reply id {id} seq {seq}"),
        (kind, code) => write!(out, "type-#{kind} code {code}"),
    };
    let _ = write!(out, ", length {len}");
}

fn unreachable_text(
    out: &mut String,
    code: u8,
    h: &IcmpHeader,
    ip: Option<Ipv4Header>,
    quoted: &[u8],
    dst: &str,
) -> std::fmt::Result {
    match code {
        ICMP_NET_UNREACH => write!(out, "net {dst} unreachable"),
        ICMP_HOST_UNREACH => write!(out, "host {dst} unreachable"),
        ICMP_PROT_UNREACH => write!(out, "{dst} protocol {} unreachable", ip.map_or(0, |ip| ip.proto)),
        ICMP_PORT_UNREACH => {
            let at = ip.map_or(0, |ip| ip.ihl_bytes) + 2;
            let port = quoted.get(at..at + 2).map_or(0, |p| u16::from_be_bytes([p[0], p[1]]));
            match ip.and_then(|ip| proto_name(ip.proto)) {
                Some(name) => write!(out, "{dst} {name} port {port} unreachable"),
                None => write!(out, "{dst} protocol {} port {port} unreachable", ip.map_or(0, |ip| ip.proto)),
            }
        }
        ICMP_FRAG_NEEDED if h.mtu() != 0 => write!(out, "{dst} unreachable - need to frag (mtu {})", h.mtu()),
        ICMP_FRAG_NEEDED => write!(out, "{dst} unreachable - need to frag"),
        ICMP_SR_FAILED => write!(out, "{dst} unreachable - source route failed"),
        ICMP_NET_ANO => write!(out, "net {dst} unreachable - admin prohibited"),
        ICMP_HOST_ANO => write!(out, "host {dst} unreachable - admin prohibited"),
        ICMP_PKT_FILTERED => write!(out, "host {dst} unreachable - admin prohibited filter"),
        code => write!(out, "{dst} unreachable - #{code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::*;

    #[test]
    fn lines_are_tcpdumps() {
        let mut p = Printer::new(Style { no_time: true, ..Style::default() });
        let got: Vec<String> = zoo().iter().map(|f| p.line(0, &crate::to_wire(f))).collect();
        assert_eq!(
            got,
            [
                "ARP, Request who-has 10.0.2.2 tell 10.0.2.15, length 28",
                "ARP, Reply 10.0.2.15 is-at 02:00:00:00:00:02, length 28",
                "IP 10.0.2.2.40000 > 10.0.2.15.80: Flags [S], seq 999, win 64240, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 10], length 0",
                "IP 10.0.2.15.80 > 10.0.2.2.40000: Flags [S.], seq 5000, ack 1000, win 65160, options [mss 1460,sackOK,TS val 9 ecr 1,nop,wscale 7], length 0",
                "IP 10.0.2.2.40000 > 10.0.2.15.80: Flags [P.], seq 1:6, ack 1, win 502, length 5: HTTP",
                "IP 10.0.2.15.80 > 10.0.2.2.40000: Flags [.], ack 7, win 509, options [nop,nop,TS val 10 ecr 2,nop,nop,sack 1 {1455:2903}], length 0",
                "IP 10.0.2.15.80 > 10.0.2.2.40000: Flags [.], seq 1:1449, ack 7, win 509, length 1448: HTTP",
                "IP 10.0.2.15.80 > 10.0.2.2.40000: Flags [F.], seq 1, ack 7, win 509, length 0",
                "IP 10.0.2.15.80 > 10.0.2.2.40000: Flags [R], seq 77, win 509, length 0",
                "IP 10.0.2.15.4000 > 10.0.2.2.5533: UDP, length 12",
                "IP 10.0.2.15 > 10.0.2.2: ICMP echo request, id 3, seq 1, length 64",
                "IP 10.0.2.15 > 10.0.2.2: ICMP echo reply, id 3, seq 1, length 64",
                "IP 10.0.2.15 > 10.0.2.2: ICMP 10.0.2.2 udp port 53 unreachable, length 36",
                "IP 10.0.2.15 > 10.0.2.2: ICMP host 10.0.2.2 unreachable, length 36",
                "IP 10.0.2.15 > 10.0.2.2: ICMP 10.0.2.2 unreachable - need to frag (mtu 1400), length 36",
                "IP 10.0.2.15 > 10.0.2.2: ICMP time exceeded in-transit, length 36",
            ]
        );
    }

    #[test]
    fn times_and_link_headers() {
        assert_eq!(time_of_day(1_700_000_000_123_456_789, 0, false), "22:13:20.123456");
        assert_eq!(time_of_day(1_700_000_000_123_456_789, 3600 * 2, true), "00:13:20.123456789");
        let mut p = Printer::new(Style { link: true, no_time: true, ..Style::default() });
        assert_eq!(
            p.line(0, &crate::to_wire(&udp(1, 2, 3))),
            "02:00:00:00:00:02 > 02:00:00:00:00:01, ethertype IPv4 (0x0800), length 45: 10.0.2.15.1 > 10.0.2.2.2: UDP, length 3"
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut p = Printer::default();
        for f in zoo().into_iter().chain(crate::zoo6::zoo6()) {
            let b = crate::to_wire(&f);
            for n in 0..b.len() {
                p.line(0, &b[..n]);
            }
            for at in 12..b.len().min(120) {
                for v in [0, 1, 0x40, 0xff] {
                    let mut bad = b.clone();
                    bad[at] = v;
                    p.line(0, &bad);
                }
            }
        }
    }
}
