//! Packets as a script sees them: IP with TCP, UDP or ICMP, every TCP option in its order. Read from bytes, made into
//! bytes, written in the script's own notation. A connection's offsets are applied by whoever has them.
use crate::ast::Ext;
use crate::parse::show_nd;
use belljar_wire::checksum;
use belljar_wire::icmp::IcmpHeader;
use belljar_wire::icmpv6::{ICMPV6_PARAMPROB, ICMPV6_PKT_TOOBIG};
use belljar_wire::igmp::IPPROTO_IGMP;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::md5::Md5;
use belljar_wire::tcp::{MAX_TCP_OPTION_SPACE, TcpHeader};
use belljar_wire::udp::UdpHeader;
use std::fmt::Write;
use std::net::IpAddr;

/// A TCP option. `None` in a time stamp is `*`: anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opt {
    Nop,
    Eol,
    Mss(u16),
    Wscale(u8),
    SackOk,
    Sack(Vec<(u32, u32)>),
    Ts {
        val: Option<u32>,
        ecr: Option<u32>,
    },
    /// Kind 34.
    FastOpen(Vec<u8>),
    /// Kind 254 with the magic number of the experiment.
    FastOpenExp(Vec<u8>),
    Md5(Vec<u8>),
    /// To be signed with this key.
    Md5Key(Vec<u8>),
    Other(u8, Vec<u8>),
}

const FASTOPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

impl Opt {
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, body: &[u8]| {
            out.extend([kind, (body.len() + 2).min(255) as u8]);
            out.extend_from_slice(body);
        };
        match self {
            Opt::Nop => out.push(1),
            Opt::Eol => out.push(0),
            Opt::Mss(v) => put(2, &v.to_be_bytes()),
            Opt::Wscale(v) => put(3, &[*v]),
            Opt::SackOk => put(4, &[]),
            Opt::Sack(blocks) => {
                let body: Vec<u8> =
                    blocks.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect();
                put(5, &body);
            }
            Opt::Ts { val, ecr } => {
                put(8, &[val.unwrap_or(0).to_be_bytes(), ecr.unwrap_or(0).to_be_bytes()].concat());
            }
            Opt::FastOpen(c) => put(34, c),
            Opt::FastOpenExp(c) => put(254, &[&FASTOPEN_MAGIC[..], c].concat()),
            Opt::Md5(d) => put(19, d),
            Opt::Md5Key(_) => put(19, &[0; 16]),
            Opt::Other(kind, body) => put(*kind, body),
        }
    }

    fn read(kind: u8, body: &[u8]) -> Opt {
        match (kind, body) {
            (2, [a, b]) => Opt::Mss(u16::from_be_bytes([*a, *b])),
            (3, [v]) => Opt::Wscale(*v),
            (4, []) => Opt::SackOk,
            (5, b) if b.len() % 8 == 0 => Opt::Sack(b.chunks_exact(8).map(|c| (be32(c, 0), be32(c, 4))).collect()),
            (8, b) if b.len() == 8 => Opt::Ts { val: Some(be32(b, 0)), ecr: Some(be32(b, 4)) },
            (19, b) => Opt::Md5(b.to_vec()),
            (34, b) => Opt::FastOpen(b.to_vec()),
            (254, [0xf9, 0x89, rest @ ..]) => Opt::FastOpenExp(rest.to_vec()),
            (k, b) => Opt::Other(k, b.to_vec()),
        }
    }

    pub fn show(&self) -> String {
        let star = |v: &Option<u32>| v.map_or("*".to_owned(), |v| v.to_string());
        match self {
            Opt::Nop => "nop".into(),
            Opt::Eol => "eol".into(),
            Opt::Mss(v) => format!("mss {v}"),
            Opt::Wscale(v) => format!("wscale {v}"),
            Opt::SackOk => "sackOK".into(),
            Opt::Sack(blocks) => blocks.iter().fold("sack".to_owned(), |s, (a, b)| format!("{s} {a}:{b}")),
            Opt::Ts { val, ecr } => format!("TS val {} ecr {}", star(val), star(ecr)),
            Opt::FastOpen(c) if c.is_empty() => "FO".into(),
            Opt::FastOpen(c) => format!("FO {}", hex(c)),
            Opt::FastOpenExp(c) => format!("FOEXP {}", hex(c)).trim_end().to_owned(),
            Opt::Md5(_) | Opt::Md5Key(_) => "md5".into(),
            Opt::Other(kind, body) => format!("kind {kind} 0x{}", hex(body)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn be32(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_be_bytes(*b))
}

/// The options of a header, in their order; a malformed end is given as one unknown option.
pub fn read_options(mut b: &[u8]) -> Vec<Opt> {
    let mut all = Vec::new();
    while let [kind, rest @ ..] = b {
        match (*kind, rest) {
            (0, _) => {
                all.push(Opt::Eol);
                b = rest;
            }
            (1, _) => {
                all.push(Opt::Nop);
                b = rest;
            }
            (k, [len, ..]) if *len >= 2 && usize::from(*len) <= b.len() => {
                let (one, after) = b.split_at(usize::from(*len));
                all.push(Opt::read(k, one.get(2..).unwrap_or(&[])));
                b = after;
            }
            (k, rest) => {
                all.push(Opt::Other(k, rest.to_vec()));
                b = &[];
            }
        }
    }
    all
}

/// Option bytes, padded to a multiple of four as RFC 9293 §3.1 wants; `None` when they are more than 40.
pub fn emit_options(options: &[Opt]) -> Option<Vec<u8>> {
    let mut b = Vec::new();
    options.iter().for_each(|o| o.emit(&mut b));
    b.resize(b.len().next_multiple_of(4), 0);
    (b.len() <= MAX_TCP_OPTION_SPACE).then_some(b)
}

/// An IP packet, or what ARP says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkt {
    /// The interface that it left or came by.
    pub dev: u8,
    /// Of IPv6: of the fragment header.
    pub id: u32,
    /// Option bytes of the IPv4 header.
    pub options: Vec<u8>,
    /// Extension headers of IPv6 in front of the payload, or of the fragment header, and the flow label.
    pub ext: Vec<Ext>,
    pub flow: u32,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    pub df: bool,
    pub l4: L4,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    Tcp(Tcp),
    Udp {
        sport: u16,
        dport: u16,
        data: Vec<u8>,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        data: Vec<u8>,
    },
    /// A piece of a packet: where in it, whether more come, its bytes.
    Frag {
        proto: u8,
        start: u32,
        mf: bool,
        data: Vec<u8>,
    },
    Igmp(Vec<u8>),
    /// A message of discovery or MLD, its checksum zero.
    Nd(Vec<u8>),
    Arp {
        request: bool,
        /// Last byte of the sender's hardware address.
        mac: u8,
        broadcast: bool,
    },
    /// Anything else.
    Other {
        proto: u8,
        data: Vec<u8>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u16,
    pub window: u16,
    pub urg: u16,
    pub options: Vec<Opt>,
    pub data: Vec<u8>,
}

impl Pkt {
    /// From the bytes of a packet; `None` when its header cannot be read.
    pub fn read(b: &[u8]) -> Option<Pkt> {
        if b.first().is_some_and(|v| v >> 4 == 6) {
            return Pkt::read6(b);
        }
        let ip = Ipv4Header::parse(b).ok()?;
        let body = b.get(ip.ihl_bytes..usize::from(ip.total_len).min(b.len()))?;
        let l4 = match ip.proto {
            proto if ip.is_fragment() => L4::Frag { proto, start: ip.frag_off.into(), mf: ip.mf, data: body.to_vec() },
            IPPROTO_IGMP => L4::Igmp(body.to_vec()),
            proto => L4::read(proto, body),
        };
        let options = ip.options(b).to_vec();
        let (id, src, dst) = (ip.id.into(), ip.src.into(), ip.dst.into());
        Some(Pkt { dev: 0, id, options, ext: Vec::new(), flow: 0, src, dst, tos: ip.tos, ttl: ip.ttl, df: ip.df, l4 })
    }

    /// The packet's bytes; `badsum` spoils the transport checksum. `None`: more than a packet can hold.
    pub fn bytes(&self, badsum: bool) -> Option<Vec<u8>> {
        let (proto, mut l4, at) = match &self.l4 {
            L4::Tcp(t) => (IPPROTO_TCP, t.signed(self.src, self.dst)?, 16),
            L4::Udp { sport, dport, data } => {
                let len = u16::try_from(data.len() + 8).ok()?;
                let mut b = vec![0; 8];
                UdpHeader { src_port: *sport, dst_port: *dport, len, csum: 0 }.emit(&mut b);
                b.extend_from_slice(data);
                (IPPROTO_UDP, b, 6)
            }
            L4::Icmp { kind, code, rest, data } => {
                let mut b = vec![0; 8];
                IcmpHeader { kind: *kind, code: *code, csum: 0, rest: *rest }.emit(&mut b);
                b.extend_from_slice(data);
                (if self.is_v6() { IPPROTO_ICMPV6 } else { IPPROTO_ICMP }, b, 2)
            }
            L4::Nd(b) => (IPPROTO_ICMPV6, b.clone(), 2),
            L4::Igmp(b) => return self.with_header(IPPROTO_IGMP, 0, false, b),
            L4::Frag { proto, start, mf, data } => return self.with_header(*proto, *start, *mf, data),
            L4::Other { proto, data } => return self.with_header(*proto, 0, false, data),
            L4::Arp { .. } => return None,
        };
        let init = if proto == IPPROTO_ICMP { 0 } else { checksum::pseudo(self.src, self.dst, proto, l4.len()) };
        let sum = checksum::fold(checksum::sum(&l4, init)) ^ u16::from(badsum);
        l4.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
        self.with_header(proto, 0, false, &l4)
    }

    /// The IP header in front of a payload that lies at `start` of the whole.
    fn with_header(&self, proto: u8, start: u32, mf: bool, payload: &[u8]) -> Option<Vec<u8>> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (self.src, self.dst) else {
            let frag = matches!(self.l4, L4::Frag { .. }).then_some((start, mf));
            return self.with_header6(proto, frag, payload);
        };
        let ihl_bytes = 20 + self.options.len().next_multiple_of(4);
        let total_len = u16::try_from(payload.len() + ihl_bytes).ok()?;
        let mut b = vec![0; ihl_bytes];
        b.get_mut(20..20 + self.options.len())?.copy_from_slice(&self.options);
        let (tos, ttl, df, id) = (self.tos, self.ttl, self.df, self.id as u16);
        let frag_off = u16::try_from(start).ok()?;
        Ipv4Header { ihl_bytes, total_len, tos, ttl, df, id, mf, frag_off, proto, src, dst, csum: 0 }.emit(&mut b);
        b.extend_from_slice(payload);
        Some(b)
    }

    pub fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Source and destination ports; 0 without any.
    pub fn ports(&self) -> (u16, u16) {
        match &self.l4 {
            L4::Tcp(t) => (t.sport, t.dport),
            L4::Udp { sport, dport, .. } => (*sport, *dport),
            _ => (0, 0),
        }
    }

    /// As a script writes it.
    pub fn show(&self) -> String {
        match &self.l4 {
            L4::Tcp(t) => t.show(),
            L4::Udp { data, .. } => format!("udp ({})", data.len()),
            L4::Icmp { kind, code, rest, .. } => {
                let v6 = self.is_v6();
                let mut s = crate::parse::icmp::show(v6, *kind, *code);
                if (v6, *kind, *code) == (false, 3, 4) {
                    let _ = write!(s, " mtu {}", u16::from_be_bytes([rest[2], rest[3]]));
                }
                if v6 && *kind == ICMPV6_PKT_TOOBIG {
                    let _ = write!(s, " mtu {}", u32::from_be_bytes(*rest));
                }
                if v6 && *kind == ICMPV6_PARAMPROB {
                    let _ = write!(s, " at {}", u32::from_be_bytes(*rest));
                }
                s
            }
            L4::Frag { start, mf, data, .. } => {
                format!("frag {start}:{} {}", *start as usize + data.len(), if *mf { "mf" } else { "last" })
            }
            L4::Igmp(b) => crate::parse::raw::show_igmp(b),
            L4::Nd(b) => show_nd(b),
            L4::Arp { request, mac, broadcast } => {
                let link = if *broadcast { "broadcast" } else { "unicast" };
                match request {
                    true => format!("arp request {} from {} at {mac} {link}", self.dst, self.src),
                    false => format!("arp reply {} at {mac} to {} {link}", self.src, self.dst),
                }
            }
            L4::Other { proto, data } => format!("proto {proto} ({})", data.len()),
        }
    }
}

impl L4 {
    /// What begins with the transport header of `proto`.
    pub fn read(proto: u8, body: &[u8]) -> L4 {
        let other = || L4::Other { proto, data: body.to_vec() };
        match proto {
            IPPROTO_TCP => read_tcp(body).map_or_else(other, L4::Tcp),
            IPPROTO_UDP => UdpHeader::parse(body).map_or_else(
                |_| other(),
                |h| {
                    let data = body.get(8..usize::from(h.len).min(body.len())).unwrap_or(&[]).to_vec();
                    L4::Udp { sport: h.src_port, dport: h.dst_port, data }
                },
            ),
            IPPROTO_ICMP | IPPROTO_ICMPV6 => IcmpHeader::parse(body).map_or_else(
                |_| other(),
                |h| {
                    let data = body.get(8..).unwrap_or(&[]).to_vec();
                    L4::Icmp { kind: h.kind, code: h.code, rest: h.rest, data }
                },
            ),
            _ => other(),
        }
    }
}

fn read_tcp(b: &[u8]) -> Option<Tcp> {
    let h = TcpHeader::parse(b).ok()?;
    Some(Tcp {
        sport: h.src_port,
        dport: h.dst_port,
        seq: h.seq,
        ack: h.ack,
        flags: h.flags.0,
        window: h.window,
        urg: h.urg_ptr,
        options: read_options(h.options(b)),
        data: b.get(h.header_len..)?.to_vec(),
    })
}

/// Letters of the flags, in the order in which scripts write them; `.` is ACK.
pub const FLAGS: &[(char, u16)] = &[
    ('F', 0x01),
    ('S', 0x02),
    ('R', 0x04),
    ('P', 0x08),
    ('U', 0x20),
    ('E', 0x40),
    ('W', 0x80),
    ('A', 0x100),
    ('.', 0x10),
];

pub fn show_flags(flags: u16) -> String {
    let s: String = FLAGS.iter().filter(|f| flags & f.1 != 0).map(|f| f.0).collect();
    if s.is_empty() { "-".into() } else { s }
}

impl Tcp {
    /// With the signature of RFC 2385 where a line names the key.
    fn signed(&self, src: IpAddr, dst: IpAddr) -> Option<Vec<u8>> {
        let mut b = self.bytes()?;
        let Some(ix) = self.options.iter().position(|o| matches!(o, Opt::Md5Key(_))) else { return Some(b) };
        let (before, Opt::Md5Key(key)) = (self.options.get(..ix)?, self.options.get(ix)?) else { return Some(b) };
        let mut m = Md5::default();
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                m.update(&[src.octets(), dst.octets()].concat());
                m.update(&[0, IPPROTO_TCP]);
                m.update(&u16::try_from(b.len()).ok()?.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                m.update(&[src.octets(), dst.octets()].concat());
                m.update(&u32::try_from(b.len()).ok()?.to_be_bytes());
                m.update(&[0, 0, 0, IPPROTO_TCP]);
            }
            _ => return None,
        }
        m.update(b.get(..20)?);
        m.update(&self.data);
        m.update(key);
        let mut options = Vec::new();
        before.iter().for_each(|o| o.emit(&mut options));
        let at = 20 + options.len() + 2;
        b.get_mut(at..at + 16)?.copy_from_slice(&m.finish());
        Some(b)
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let options = emit_options(&self.options)?;
        let header_len = 20 + options.len();
        let mut b = vec![0; 20];
        TcpHeader {
            src_port: self.sport,
            dst_port: self.dport,
            seq: self.seq,
            ack: self.ack,
            header_len,
            flags: belljar_wire::tcp::Flags(self.flags),
            window: self.window,
            csum: 0,
            urg_ptr: self.urg,
        }
        .emit(&mut b);
        b.extend_from_slice(&options);
        b.extend_from_slice(&self.data);
        Some(b)
    }

    fn show(&self) -> String {
        let (flags, len) = (show_flags(self.flags), self.data.len() as u32);
        let mut s = format!("{flags} {}:{}({len})", self.seq, self.seq.wrapping_add(len));
        if self.flags & 0x10 != 0 {
            let _ = write!(s, " ack {}", self.ack);
        }
        let _ = write!(s, " win {}", self.window);
        if self.flags & 0x20 != 0 {
            let _ = write!(s, " urg {}", self.urg);
        }
        if !self.options.is_empty() {
            let _ = write!(s, " <{}>", self.options.iter().map(Opt::show).collect::<Vec<_>>().join(","));
        }
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::{V4, V6};

    #[test]
    fn options_go_round_in_their_order() {
        let all = vec![
            Opt::Mss(1460),
            Opt::Nop,
            Opt::Wscale(7),
            Opt::SackOk,
            Opt::Ts { val: Some(1), ecr: Some(2) },
            Opt::FastOpen(vec![1, 2, 3, 4]),
            Opt::Eol,
        ];
        let b = emit_options(&all).unwrap();
        assert_eq!((b.len() % 4, read_options(&b).starts_with(&all)), (0, true));
        assert_eq!(emit_options(&vec![Opt::Ts { val: None, ecr: None }; 5]), None);
        assert_eq!(read_options(&[8, 10, 0]), [Opt::Other(8, vec![10, 0])]);
        assert_eq!(read_options(&[254, 4, 0xf9, 0x89]), [Opt::FastOpenExp(vec![])]);
    }

    #[test]
    fn a_packet_goes_round() {
        let (src, dst) = (V4.0.into(), V4.1.into());
        let tcp = Tcp { sport: 1, dport: 2, seq: 3, flags: 0x12, window: 5, options: vec![Opt::Nop], ..Tcp::default() };
        let (dev, id, options, ext, flow) = (0, 7, vec![], vec![], 0);
        let p = Pkt {
            dev,
            id,
            options,
            ext,
            flow,
            src,
            dst,
            tos: 1,
            ttl: 64,
            df: true,
            l4: L4::Tcp(Tcp { data: vec![7; 3], ..tcp }),
        };
        let back = Pkt::read(&p.bytes(false).unwrap()).unwrap();
        assert_eq!(back.show(), "S. 3:6(3) ack 0 win 5 <nop,eol,eol,eol>");
        let udp = L4::Udp { sport: 5, dport: 6, data: vec![1] };
        let p = Pkt { l4: udp, ..p };
        assert_eq!(Pkt::read(&p.bytes(false).unwrap()), Some(p.clone()));
        let ext = vec![Ext { kind: 0, body: vec![5, 2, 0, 0, 1, 0] }, Ext { kind: 60, body: vec![0; 14] }];
        let (src, dst) = (V6.0.into(), V6.1.into());
        let p = Pkt { src, dst, ext, flow: 0x12345, id: 0, df: false, ..p };
        assert_eq!(Pkt::read(&p.bytes(false).unwrap()), Some(p.clone()));
        let piece = L4::Frag { proto: 17, start: 1448, mf: true, data: vec![9; 8] };
        let p = Pkt { l4: piece, id: 77_777, ..p };
        assert_eq!(Pkt::read(&p.bytes(false).unwrap()), Some(p));
    }
}
