//! Segments of one stream that wait in a receive ring become one frame there, before the driver sees them: large receive offload
//! (`lro`) and its stricter sibling (`rx-gro-hw`), whose frames could be cut again into the very packets that came.
//!
//! A session is open while its descriptor waits for the driver, until a segment comes that ends it (PSH) or does not go on
//! where it stopped. What `lro` joins may have different windows, acknowledgments and time stamps; those of the last count. As
//! hardware does it, where drivers differ with the rules of the kernel's former software LRO: no IP options, no fragments, no
//! marks of congestion, of TCP's options only time stamps.
use super::rx::{RxDesc, RxRing};
use crate::net::core::gro::{MAX_LEN, ip_continues};
use crate::net::core::skb::VlanTag;
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::{self, IPPROTO_TCP, IPV4_HLEN, Ipv4Header};
use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};
use belljar_wire::{Csum, FlowKey, Frame, Gso, GsoType, Seg, Segs, checksum, gso};
use core::net::IpAddr;

/// Sessions that are open at a time; one more closes the oldest.
const MAX_SESSIONS: usize = 32;
/// Time stamps, as TCP aligns them.
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMPED: usize = TCP_HLEN + 12;

/// Who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Lro,
    GroHw,
}

/// A stream, and the descriptor that takes its next segment.
#[derive(Clone, Debug)]
pub struct Session {
    at: usize,
    flow: FlowKey,
    vlan: VlanTag,
    /// Headers of the first segment and payload of all.
    first: Headers,
    len: usize,
    count: u16,
    fixed_id: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
struct Headers {
    /// Of IPv6 the same fields, its flow label in place of the identification's.
    ip: Ipv4Header,
    label: u32,
    /// Where TCP begins and ends.
    l4: usize,
    data: usize,
    tcp: TcpHeader,
    /// Time stamps, nought without.
    ts: (u32, u32),
    len: usize,
}

/// A frame goes into the descriptor of its session, or comes back for one of its own, which may open a session.
#[cold]
pub fn receive(ring: &mut RxRing, mut frame: Frame, vlan: VlanTag, how: How) -> Option<Frame> {
    let Some(flow) = FlowKey::dissect(&frame).filter(|f| f.proto == IPPROTO_TCP) else { return Some(frame) };
    let headers = headers(&frame);
    if headers.is_some() && frame.csum == Csum::None {
        frame.csum = Csum::Unnecessary;
    }
    let pushed = headers.is_some_and(|h| h.tcp.flags.contains(Flags::PSH));
    if let Some(n) = ring.sessions.iter().position(|s| s.flow == flow && s.vlan == vlan) {
        let mut s = ring.sessions.remove(n);
        let fits = headers.filter(|h| s.continues(&frame, h, how));
        if let Some((h, (desc, into))) = fits.zip(ring.waiting(s.at)) {
            s.join(desc, into, (frame, h), how);
            if !pushed && (how == How::Lro || h.len == s.first.len) {
                ring.sessions.insert(n, s);
            }
            return None;
        }
    }
    if let Some(first) = headers.filter(|_| !pushed && frame.gso.is_none())
        && let Some(at) = ring.free()
    {
        if ring.sessions.len() >= MAX_SESSIONS {
            ring.sessions.remove(0);
        }
        ring.sessions.push(Session { at, flow, vlan, first, len: first.len, count: 1, fixed_id: false });
    }
    Some(frame)
}

/// The driver took that descriptor.
pub fn close(sessions: &mut Vec<Session>, at: usize) {
    sessions.retain(|s| s.at != at);
}

/// A segment that may be joined to others: whole, its sums right, with data, and with nothing that has to be seen.
fn headers(frame: &Frame) -> Option<Headers> {
    let net = belljar_wire::flow::net_offset(frame).filter(|n| *n >= ETH_HLEN)?;
    let b = frame.head.bytes().get(net..)?;
    let (ip, label, l4) = match b.first()? >> 4 {
        6 => {
            let h = Ipv6Header::parse(b).ok().filter(|h| h.next == IPPROTO_TCP)?;
            let word = u32::from_be_bytes(*b.first_chunk()?);
            let total_len = u16::try_from(usize::from(h.payload_len) + IPV6_HLEN).ok()?;
            let tos = (word >> 20) as u8;
            (Ipv4Header { total_len, tos, ttl: h.hop_limit, df: true, ..Ipv4Header::default() }, word, net + IPV6_HLEN)
        }
        _ => {
            let h = Ipv4Header::parse(b).ok().filter(|h| h.proto == IPPROTO_TCP && h.ihl_bytes == IPV4_HLEN)?;
            (h, 0, net + IPV4_HLEN)
        }
    };
    let bytes = frame.head.bytes().get(l4..)?;
    let tcp = TcpHeader::parse(bytes).ok()?;
    let long = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let ts = match tcp.header_len {
        TCP_HLEN => (0, 0),
        TIMESTAMPED if bytes.get(TCP_HLEN..TCP_HLEN + 4)? == TIMESTAMPS => (long(TCP_HLEN + 4)?, long(TCP_HLEN + 8)?),
        _ => return None,
    };
    let data = l4 + tcp.header_len;
    // What Ethernet padded is as short as that.
    let whole = net + usize::from(ip.total_len) == frame.len() && data <= frame.head.len();
    let plain = tcp.flags.without(Flags::ACK | Flags::PSH).0 == 0 && ip.tos & 3 != 3 && !ip.is_fragment();
    let h = Headers { ip, label, l4, data, tcp, ts, len: frame.len().checked_sub(data)? };
    (whole && plain && h.len > 0 && gso::verify(frame).is_ok()).then_some(h)
}

/// Payload alone; the head keeps the headers.
fn payload(frame: &mut Frame, headers: usize) -> Segs {
    let linear = frame.head.bytes().get(headers..).unwrap_or(&[]);
    if linear.is_empty() {
        return std::mem::take(&mut frame.payload);
    }
    let mut all = Segs::from(Seg::from(linear));
    all.append(std::mem::take(&mut frame.payload));
    frame.head.trim(headers);
    all
}

impl Session {
    fn continues(&self, frame: &Frame, h: &Headers, how: How) -> bool {
        let f = &self.first;
        let ahead = |new: u32, old: u32| (new.wrapping_sub(old) as i32) >= 0;
        let same = match how {
            How::Lro => ahead(h.tcp.ack, f.tcp.ack) && ahead(h.ts.0, f.ts.0),
            How::GroHw => {
                let id = h.label != 0 || ip_continues(&f.ip, self.count, self.fixed_id, &h.ip);
                id && (h.label, h.ip.ttl, h.ip.tos) == (f.label, f.ip.ttl, f.ip.tos)
                    && (h.tcp.ack, h.tcp.window, h.ts) == (f.tcp.ack, f.tcp.window, f.ts)
                    && h.len <= f.len
            }
        };
        let total = usize::from(f.ip.total_len) - f.len + self.len + h.len;
        same && frame.gso.is_none()
            && h.tcp.seq == f.tcp.seq.wrapping_add(self.len as u32)
            && (h.tcp.header_len, h.data) == (f.tcp.header_len, f.data)
            && total <= MAX_LEN
    }

    /// Puts a segment behind those that are there.
    fn join(&mut self, desc: &mut RxDesc, into: &mut Frame, (mut frame, h): (Frame, Headers), how: How) {
        self.fixed_id |= self.count == 1 && h.ip.id == self.first.ip.id;
        self.len += h.len;
        self.count = self.count.saturating_add(1);
        let f = &mut self.first;
        (f.tcp.ack, f.tcp.window, f.ts) = (h.tcp.ack, h.tcp.window, h.ts);
        f.tcp.flags |= h.tcp.flags;
        into.payload = payload(into, f.data);
        into.payload.append(payload(&mut frame, h.data));
        self.write(into.head.bytes_mut());
        let (kind, size) = match (self.flow.src, how) {
            (IpAddr::V4(_), How::Lro) => (GsoType::TcpV4, self.len.div_ceil(self.count.into())),
            (IpAddr::V4(_), How::GroHw) => (GsoType::TcpV4, self.first.len),
            (IpAddr::V6(_), How::Lro) => (GsoType::TcpV6, self.len.div_ceil(self.count.into())),
            (IpAddr::V6(_), How::GroHw) => (GsoType::TcpV6, self.first.len),
        };
        into.csum = Csum::Partial;
        into.gso = Some(Gso::new(kind, size as u16, self.count));
        (desc.len, desc.merged) = (into.len() as u32, Some((how, self.count)));
    }

    /// Length, what the last segment said, and a sum that says no more than the addresses.
    fn write(&self, b: &mut [u8]) {
        let f = &self.first;
        let six = f.label != 0;
        let net = f.l4 - if six { IPV6_HLEN } else { IPV4_HLEN };
        let tcp_len = f.tcp.header_len + self.len;
        let mut put = |at: usize, bytes: &[u8]| b.iter_mut().skip(at).zip(bytes).for_each(|(o, b)| *o = *b);
        if six {
            put(net + 4, &(tcp_len as u16).to_be_bytes());
        } else {
            put(net + 2, &((IPV4_HLEN + tcp_len) as u16).to_be_bytes());
        }
        put(f.l4 + 8, &f.tcp.ack.to_be_bytes());
        put(f.l4 + 13, &[f.tcp.flags.0 as u8]);
        put(f.l4 + 14, &f.tcp.window.to_be_bytes());
        let sum = checksum::partial(checksum::pseudo(self.flow.src, self.flow.dst, IPPROTO_TCP, tcp_len));
        put(f.l4 + 16, &sum.to_be_bytes());
        if f.tcp.header_len > TCP_HLEN {
            put(f.l4 + TCP_HLEN + 4, &f.ts.0.to_be_bytes());
            put(f.l4 + TCP_HLEN + 8, &f.ts.1.to_be_bytes());
        }
        if !six && let Some(ip) = b.get_mut(net..f.l4) {
            ipv4::set_checksum(ip);
        }
    }
}
