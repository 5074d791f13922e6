//! Generic receive offload: segments of one stream that arrive in one NAPI poll go up as one packet.
//!
//! TCP over IPv4 without IP options. What was merged could be cut again into the very packets that came; whatever would
//! make that impossible ends a train. From one poll to the next something is held only for a device's `gro_flush_timeout`.
use crate::env::time::Jiffies;
use crate::net::Net;
use crate::net::core::napi::Flush;
use crate::net::core::skb::{PktType, Skb};
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_IP};
use belljar_wire::ipv4::{IPPROTO_TCP, IPV4_HLEN, Ipv4Header};
use belljar_wire::tcp::{Flags, TCP_HLEN, TcpHeader};
use belljar_wire::{Csum, Gso, GsoType, Seg, Segs, checksum};

/// Flows held at once; one more flushes the oldest (`MAX_GRO_SKBS`).
pub const MAX_HELD: usize = 8;
/// Longest IP packet that merging may make (`gro_max_size` 65536).
pub const MAX_LEN: usize = 65_535;

/// What is held in a poll, oldest first.
pub type Held = Vec<Train>;

/// Segments merged so far.
#[derive(Clone, Debug)]
pub struct Train {
    skb: Skb,
    ip: Ipv4Header,
    tcp: TcpHeader,
    /// Payload bytes of the first segment, and of all.
    mss: usize,
    len: usize,
    count: u16,
    /// All have one IP identification; only with DF.
    fixed_id: bool,
    /// When the first came.
    age: Jiffies,
}

/// Headers of a segment that may be merged.
struct Segment {
    ip: Ipv4Header,
    tcp: TcpHeader,
    len: usize,
}

/// A packet, Ethernet header pulled. What goes up now is put into `out`, in order.
#[doc(alias = "dev_gro_receive")]
pub fn gro_receive(net: &mut Net, held: &mut Held, mut skb: Skb, out: &mut Vec<Skb>) {
    let Some(seg) = segment(&mut skb) else {
        return out.push(skb);
    };
    let same = |t: &Train| {
        flow(&t.ip, &t.tcp) == flow(&seg.ip, &seg.tcp) && (eth(&t.skb), t.skb.vlan) == (eth(&skb), skb.vlan)
    };
    let at = held.iter().position(same);
    let ends = Flags::URG | Flags::PSH | Flags::RST | Flags::SYN | Flags::FIN;
    let last = seg.tcp.flags.intersects(ends);
    if let Some(i) = at {
        if continues(&held[i], &skb, &seg) {
            let train = &mut held[i];
            net.stage(&skb, "skb_gro_receive");
            let short = seg.len < train.mss;
            append(train, &mut skb, &seg);
            net.consume_skb(skb);
            if short || last {
                out.push(complete(held.remove(i)));
            }
            return;
        }
        out.push(complete(held.remove(i)));
    }
    if seg.len == 0 || last || skb.gso.is_some() {
        return out.push(skb);
    }
    if held.len() >= MAX_HELD {
        out.push(complete(held.remove(0)));
    }
    held.push(start(skb, seg, net.env.jiffies()));
}

/// The poll ends: everything goes up, or what is older than this tick, or nothing.
#[doc(alias = "napi_gro_flush")]
pub fn gro_flush(held: &mut Held, out: &mut Vec<Skb>, which: Flush) {
    flush(held, out, which, |t| t.age, complete);
}

/// The same for trains of either protocol.
pub fn flush<T>(held: &mut Vec<T>, out: &mut Vec<Skb>, which: Flush, age: fn(&T) -> Jiffies, complete: fn(T) -> Skb) {
    match which {
        Flush::All => out.extend(held.drain(..).map(complete)),
        Flush::Old(now) => out.extend(held.extract_if(.., |t| age(t) != now).map(complete)),
        Flush::Nothing => {}
    }
}

/// What is held, for who counts packets.
pub fn skbs(held: &Held) -> impl Iterator<Item = &Skb> {
    held.iter().map(|t| &t.skb)
}

pub fn into_skbs(held: Held) -> impl Iterator<Item = Skb> {
    held.into_iter().map(|t| t.skb)
}

/// IPv4 with TCP, whole, its checksum known to be good.
fn segment(skb: &mut Skb) -> Option<Segment> {
    if skb.protocol != ETH_P_IP || skb.pkt_type != PktType::Host || skb.csum == Csum::None {
        return None;
    }
    if !skb.may_pull(IPV4_HLEN + TCP_HLEN) {
        return None;
    }
    let ip = Ipv4Header::parse(skb.head.bytes()).ok()?;
    let whole = ip.ihl_bytes == IPV4_HLEN && ip.proto == IPPROTO_TCP && !ip.is_fragment();
    if !whole || (ip.total_len as usize) > skb.len() || !Ipv4Header::verify_checksum(skb.head.bytes()) {
        return None;
    }
    let words = skb.head.bytes().get(IPV4_HLEN + 12).map_or(0, |b| usize::from(b >> 4) * 4);
    if !skb.may_pull(IPV4_HLEN + words) {
        return None;
    }
    skb.network_header = skb.head.start();
    let tcp = TcpHeader::parse(skb.head.bytes().get(IPV4_HLEN..)?).ok()?;
    // Ethernet pads short packets.
    skb.trim(ip.total_len as usize);
    let len = skb.len().checked_sub(IPV4_HLEN + tcp.header_len)?;
    Some(Segment { ip, tcp, len })
}

fn flow(ip: &Ipv4Header, tcp: &TcpHeader) -> (core::net::Ipv4Addr, core::net::Ipv4Addr, u16, u16) {
    (ip.src, ip.dst, tcp.src_port, tcp.dst_port)
}

/// The Ethernet header.
pub fn eth(skb: &Skb) -> &[u8] {
    skb.head.at(skb.mac_header).get(..ETH_HLEN).unwrap_or(&[])
}

/// TCP options, which have to be the same to the byte.
fn options<'a>(skb: &'a Skb, tcp: &TcpHeader) -> &'a [u8] {
    let b = skb.head.at(skb.network_header);
    b.get(IPV4_HLEN + TCP_HLEN..IPV4_HLEN + tcp.header_len).unwrap_or(&[])
}

/// Whether a segment can follow the train (`tcp_gro_receive`).
#[doc(alias = "tcp_gro_receive")]
fn continues(t: &Train, skb: &Skb, s: &Segment) -> bool {
    let differ = Flags(s.tcp.flags.0 ^ t.tcp.flags.0).without(Flags::CWR | Flags::FIN | Flags::PSH);
    !s.tcp.flags.contains(Flags::CWR)
        && differ.0 == 0
        && (s.tcp.ack, s.tcp.window) == (t.tcp.ack, t.tcp.window)
        && ip_continues(&t.ip, t.count, t.fixed_id, &s.ip)
        && options(skb, &s.tcp) == options(&t.skb, &t.tcp)
        && skb.gso.is_none()
        && s.len != 0
        && s.len <= t.mss
        && s.tcp.seq == t.tcp.seq.wrapping_add(t.len as u32)
        && IPV4_HLEN + t.tcp.header_len + t.len + s.len <= MAX_LEN
}

fn start(mut skb: Skb, s: Segment, age: Jiffies) -> Train {
    skb.frags = payload(&mut skb, IPV4_HLEN + s.tcp.header_len);
    Train { skb, ip: s.ip, tcp: s.tcp, mss: s.len, len: s.len, count: 1, fixed_id: false, age }
}

/// Whether the IPv4 header of a packet is that of the next one in a train of `count`: identifications count on, or are all
/// the same with DF.
#[doc(alias = "inet_gro_flush")]
pub fn ip_continues(first: &Ipv4Header, count: u16, fixed_id: bool, ip: &Ipv4Header) -> bool {
    let step = ip.id.wrapping_sub(first.id);
    let id = if count == 1 { step == 1 || (step == 0 && ip.df) } else { step == if fixed_id { 0 } else { count } };
    id && (ip.ttl, ip.tos, ip.df) == (first.ttl, first.tos, first.df)
}

/// Payload alone; the head keeps the headers.
pub fn payload(skb: &mut Skb, headers: usize) -> Segs {
    let linear = skb.head.bytes().get(headers..).unwrap_or(&[]);
    if linear.is_empty() {
        return std::mem::take(&mut skb.frags);
    }
    let mut all = Segs::from(Seg::from(linear));
    all.append(std::mem::take(&mut skb.frags));
    skb.head.trim(headers);
    all
}

#[doc(alias = "skb_gro_receive")]
fn append(t: &mut Train, skb: &mut Skb, s: &Segment) {
    t.fixed_id = t.count == 1 && s.ip.id == t.ip.id || t.fixed_id;
    t.skb.frags.append(payload(skb, IPV4_HLEN + s.tcp.header_len));
    t.skb.truesize += skb.truesize;
    t.tcp.flags |= Flags(s.tcp.flags.0 & (Flags::FIN | Flags::PSH).0);
    t.len += s.len;
    t.count += 1;
}

/// Headers of the whole: length, flags of the last segment, a checksum to be finished by whoever sends it on.
#[doc(alias = "tcp_gro_complete")]
fn complete(t: Train) -> Skb {
    let Train { mut skb, ip, tcp, mss, len, count, .. } = t;
    if count == 1 {
        return skb;
    }
    let total = IPV4_HLEN + tcp.header_len + len;
    let pseudo = checksum::pseudo_v4(ip.src, ip.dst, IPPROTO_TCP, tcp.header_len + len);
    let b = skb.head.bytes_mut();
    Ipv4Header { total_len: total as u16, ..ip }.emit(b);
    if let Some(f) = b.get_mut(IPV4_HLEN + 13) {
        *f = tcp.flags.0 as u8;
    }
    if let Some(c) = b.get_mut(IPV4_HLEN + 16..IPV4_HLEN + 18) {
        c.copy_from_slice(&checksum::partial(pseudo).to_be_bytes());
    }
    skb.csum = Csum::Partial;
    skb.gso = Some(Gso::new(GsoType::TcpV4, mss as u16, count));
    skb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use belljar_wire::Head;
    use core::net::Ipv4Addr;

    /// (sequence number, length, flags beside ACK, what else is changed)
    #[derive(Clone, Copy)]
    struct P {
        seq: u32,
        len: usize,
        flags: Flags,
        ack: u32,
        ttl: u8,
        id: u16,
        df: bool,
        port: u16,
    }

    const NONE: Flags = Flags(0);

    fn p(n: u32) -> P {
        P { seq: n * 100, len: 100, flags: NONE, ack: 5, ttl: 64, id: n as u16, df: true, port: 80 }
    }

    fn skb(net: &mut Net, p: P) -> Skb {
        let mut skb = net.alloc_skb();
        let total = IPV4_HLEN + TCP_HLEN + p.len;
        let mut b = vec![0; ETH_HLEN + total];
        b[12..14].copy_from_slice(&ETH_P_IP.to_be_bytes());
        let ip = Ipv4Header {
            total_len: total as u16,
            id: p.id,
            df: p.df,
            ttl: p.ttl,
            proto: IPPROTO_TCP,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            ..Ipv4Header::default()
        };
        ip.emit(&mut b[ETH_HLEN..]);
        let tcp = TcpHeader {
            src_port: p.port,
            dst_port: 4000,
            seq: p.seq,
            ack: p.ack,
            header_len: TCP_HLEN,
            flags: Flags::ACK | p.flags,
            window: 100,
            csum: 0,
            urg_ptr: 0,
        };
        tcp.emit(&mut b[ETH_HLEN + IPV4_HLEN..]);
        skb.head = Head::new();
        let n = skb.head.fill(&b);
        skb.frags = Segs::from(b[n..].to_vec());
        skb.head.pull(ETH_HLEN).unwrap();
        (skb.protocol, skb.csum) = (ETH_P_IP, Csum::Unnecessary);
        skb
    }

    /// Payload lengths of what goes up.
    fn merged(packets: &[P]) -> Vec<usize> {
        let mut k = Kernel::new(1);
        let (mut held, mut out) = (Held::new(), Vec::new());
        for p in packets {
            let s = skb(&mut k.net, *p);
            gro_receive(&mut k.net, &mut held, s, &mut out);
        }
        gro_flush(&mut held, &mut out, Flush::All);
        out.iter().map(|s| s.len() - IPV4_HLEN - TCP_HLEN).collect()
    }

    #[test]
    fn as_measured() {
        let four: Vec<P> = (0..4).map(p).collect();
        let with = |at: usize, f: fn(&mut P)| {
            let mut v = four.clone();
            f(&mut v[at]);
            merged(&v)
        };
        assert_eq!(merged(&four), [400]);
        assert_eq!(with(2, |p| p.flags = Flags::PSH), [300, 100]);
        assert_eq!(with(3, |p| p.flags = Flags::FIN), [400]);
        assert_eq!(with(2, |p| p.flags = Flags::URG), [200, 100, 100]);
        assert_eq!(with(2, |p| p.len = 40), [240, 100]);
        assert_eq!(with(1, |p| p.ack = 6), [100, 100, 200]);
        assert_eq!(with(1, |p| p.ttl = 63), [100, 100, 200]);
        // CWR stands on the first of a train only.
        assert_eq!(with(1, |p| p.flags = Flags::CWR), [100, 300]);
        assert_eq!(with(1, |p| p.len = 0), [100, 0, 200]);
        assert_eq!(merged(&[p(0), p(2), p(1), p(3)]), [100, 100, 100, 100]);
        assert_eq!(merged(&[p(0), P { len: 150, ..p(1) }, P { seq: 250, ..p(2) }]), [100, 250]);
        let other = |n| P { port: 81, ..p(n) };
        assert_eq!(merged(&[p(0), other(0), p(1), other(1)]), [200, 200]);
    }

    #[test]
    fn identifications() {
        let ids = |ids: [u16; 3], df| merged(&std::array::from_fn::<_, 3, _>(|i| P { id: ids[i], df, ..p(i as u32) }));
        assert_eq!(ids([7, 8, 9], true), [300]);
        assert_eq!(ids([7, 7, 7], true), [300]);
        assert_eq!(ids([7, 8, 9], false), [300]);
        assert_eq!(ids([7, 99, 3], true), [100, 100, 100]);
        assert_eq!(ids([7, 99, 3], false), [100, 100, 100]);
    }

    #[test]
    fn never_longer_than_an_ip_packet_and_cut_again_the_same() {
        let many: Vec<P> = (0..60).map(|n| P { seq: n * 1400, len: 1400, id: n as u16, ..p(0) }).collect();
        assert_eq!(merged(&many), [64_400, 19_600]);
    }
}
