//! Faults while the workloads of `random` run: links that change, go dark and come back; packets that come twice much
//! later; segments and ICMP messages that somebody else wrote, with right checksums and wrong everything else.
use super::odd;
use crate::lab::Lab;
use crate::task::{Shared, sleep};
use belljar_kernel::env::MSEC;
use belljar_link::{Conditions, Rng};
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::icmp::{ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_REDIRECT, ICMP_TIME_EXCEEDED};
use belljar_wire::icmpv6::{ICMPV6_DEST_UNREACH, ICMPV6_PARAMPROB, ICMPV6_PKT_TOOBIG, NDISC_REDIRECT};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, Ipv4Header, set_checksum};
use belljar_wire::ipv6::{IPV6_HLEN, Ipv6Header, NEXTHDR_ICMP};
use belljar_wire::tcp::{Flags, TcpHeader};
use belljar_wire::{Frame, checksum};
use core::net::{IpAddr, Ipv6Addr};

pub(super) fn links(lab: &mut Lab, seed: u64) {
    let world = lab.world.clone();
    lab.spawn_daemon("links", async move {
        let mut rng = Rng::new(seed);
        loop {
            sleep(&world, (1 + rng.below(20_000)) * MSEC).await;
            let cables = world.borrow().cables.len() as u64;
            let cable = rng.below(cables) as usize;
            if rng.chance(0.4) {
                let before = world.borrow().cables.get(cable).map(|c| *c.link.ab.conditions());
                world.borrow_mut().set_conditions(cable, Conditions { loss: 1.0, ..Default::default() });
                sleep(&world, (1 + rng.below(10_000)) * MSEC).await;
                world.borrow_mut().set_conditions(cable, before.unwrap_or_default());
            } else {
                let conditions = odd::link(&mut rng, cable == 0);
                world.borrow_mut().set_conditions(cable, conditions);
            }
        }
    });
}

/// Old packets again, and forged ones.
pub(super) fn intruder(lab: &mut Lab, seed: u64) {
    let world = lab.world.clone();
    world.borrow_mut().spy = Some(Default::default());
    lab.spawn_daemon("intruder", async move {
        let mut rng = Rng::new(seed);
        loop {
            sleep(&world, (1 + rng.below(5000)) * MSEC).await;
            intrude(&world, &mut rng);
        }
    });
}

fn intrude(world: &Shared, rng: &mut Rng) {
    let mut w = world.borrow_mut();
    let Some(seen) = &w.spy else { return };
    let Some((cable, end, frame)) = seen.get(rng.below(seen.len() as u64) as usize).cloned() else { return };
    match rng.below(10) {
        0..3 => w.inject(cable, end, frame),
        3..5 => {
            // To whoever sent it: an end that did not hear it.
            let ends = w.cables.get(cable).map_or(0, |c| c.ends.len()).max(1);
            if let Some(f) = complaint(&frame, rng) {
                w.inject(cable, (end + 1) % ends, f);
            }
        }
        _ => {
            if let Some(f) = forge(&frame, rng) {
                w.inject(cable, end, f);
            }
        }
    }
}

/// Where TCP begins in a frame, and what its checksum begins with for so many bytes.
fn tcp_at(b: &[u8]) -> Option<(usize, impl Fn(usize) -> u32 + use<>)> {
    let l3 = b.get(ETH_HLEN..)?;
    let (at, src, dst): (usize, IpAddr, IpAddr) = match l3.first()? >> 4 {
        4 => {
            let ip = Ipv4Header::parse(l3).ok().filter(|ip| ip.proto == IPPROTO_TCP && !ip.is_fragment())?;
            (ip.ihl_bytes, ip.src.into(), ip.dst.into())
        }
        _ => {
            let ip = Ipv6Header::parse(l3).ok().filter(|ip| ip.next == IPPROTO_TCP)?;
            (IPV6_HLEN, ip.src.into(), ip.dst.into())
        }
    };
    let pseudo = move |len| match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => checksum::pseudo_v4(s, d, IPPROTO_TCP, len),
        (IpAddr::V6(s), IpAddr::V6(d)) => checksum::pseudo_v6(s, d, IPPROTO_TCP, len),
        _ => 0,
    };
    Some((ETH_HLEN + at, pseudo))
}

/// The headers of a segment, changed; without data, FIN and URG, which nobody could tell from real ones.
fn forge(frame: &Frame, rng: &mut Rng) -> Option<Frame> {
    let mut b = frame.head.bytes().to_vec();
    let (at, pseudo) = tcp_at(&b)?;
    let mut tcp = TcpHeader::parse(b.get(at..)?).ok()?;
    let len = tcp.header_len;
    b.truncate(at + len);
    let near = |x: u32, rng: &mut Rng| match rng.below(6) {
        0 | 1 => x,
        2 => x.wrapping_add(1),
        3 => x.wrapping_sub(1),
        4 => x.wrapping_add(rng.below(60_000) as u32),
        _ => rng.next_u64() as u32,
    };
    let flags = [
        Flags::RST,
        Flags::RST | Flags::ACK,
        Flags::SYN,
        Flags::SYN | Flags::ACK,
        Flags::ACK,
        Flags::ACK | Flags::PSH,
        Flags::NONE,
    ];
    tcp.flags = *flags.get(rng.below(flags.len() as u64) as usize)?;
    tcp.seq = near(tcp.seq, rng);
    tcp.ack = near(tcp.ack, rng);
    if rng.chance(0.3) {
        tcp.window = rng.next_u64() as u16;
    }
    tcp.csum = 0;
    tcp.emit(b.get_mut(at..)?);
    let total = (b.len() - ETH_HLEN) as u16;
    match b.get(ETH_HLEN)? >> 4 {
        4 => {
            b.get_mut(ETH_HLEN + 2..ETH_HLEN + 4)?.copy_from_slice(&total.to_be_bytes());
            set_checksum(b.get_mut(ETH_HLEN..at)?);
        }
        _ => b.get_mut(ETH_HLEN + 4..ETH_HLEN + 6)?.copy_from_slice(&(len as u16).to_be_bytes()),
    }
    let sum = checksum::sum(b.get(at..)?, pseudo(len));
    b.get_mut(at + 16..at + 18)?.copy_from_slice(&checksum::fold(sum).to_be_bytes());
    Some(Frame::from_bytes(&b, frame.id))
}

/// ICMP about a packet, to its sender: too big, unreachable, redirected; from the host that it was sent to, or from the
/// router that it names.
fn complaint(frame: &Frame, rng: &mut Rng) -> Option<Frame> {
    let whole = frame.to_vec();
    let l3 = whole.get(ETH_HLEN..)?;
    let mut out = whole.get(6..12)?.to_vec();
    out.extend(whole.get(..6)?);
    out.extend(whole.get(12..14)?);
    match l3.first()? >> 4 {
        4 => {
            let ip = Ipv4Header::parse(l3).ok()?;
            let (kind, code, rest) = match rng.below(4) {
                0 => {
                    (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, u32::from([0u16, 68, 552, 1000, 1400][rng.below(5) as usize]))
                }
                1 => (ICMP_DEST_UNREACH, rng.below(16) as u8, 0),
                2 => (ICMP_TIME_EXCEEDED, rng.below(2) as u8, 0),
                _ => (ICMP_REDIRECT, rng.below(4) as u8, (u32::from(ip.dst) & !0xff) | rng.below(5) as u32),
            };
            let mut m = vec![kind, code, 0, 0];
            m.extend(rest.to_be_bytes());
            m.extend(l3.get(..l3.len().min(ip.ihl_bytes + 64))?);
            let sum = checksum::fold(checksum::sum(&m, 0));
            m.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
            let total_len = (20 + m.len()) as u16;
            let h =
                Ipv4Header { total_len, ttl: 64, proto: IPPROTO_ICMP, src: ip.dst, dst: ip.src, ..Default::default() };
            let at = out.len();
            out.resize(at + 20, 0);
            h.emit(out.get_mut(at..)?);
            out.extend(m);
        }
        6 => {
            let ip = Ipv6Header::parse(l3).ok()?;
            let mut m = match rng.below(4) {
                0 => {
                    [&[ICMPV6_PKT_TOOBIG, 0, 0, 0], &[0u32, 1000, 1280, 1400][rng.below(4) as usize].to_be_bytes()[..]]
                        .concat()
                }
                1 => vec![ICMPV6_DEST_UNREACH, rng.below(8) as u8, 0, 0, 0, 0, 0, 0],
                2 => vec![ICMPV6_PARAMPROB, rng.below(3) as u8, 0, 0, 0, 0, 0, rng.below(60) as u8],
                _ => {
                    let mut m = vec![NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0];
                    m.extend([ip.dst, link_local(whole.get(..6)?)][rng.below(2) as usize].octets());
                    m.extend(ip.dst.octets());
                    m
                }
            };
            let redirect = m.first() == Some(&NDISC_REDIRECT);
            if !redirect {
                m.extend(l3.get(..l3.len().min(1200))?);
            }
            let src = if redirect { link_local(whole.get(..6)?) } else { ip.dst };
            let sum = checksum::fold(checksum::sum(&m, checksum::pseudo_v6(src, ip.src, NEXTHDR_ICMP, m.len())));
            m.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
            let payload_len = m.len() as u16;
            let h =
                Ipv6Header { payload_len, next: NEXTHDR_ICMP, hop_limit: 255, src, dst: ip.src, ..Default::default() };
            let at = out.len();
            out.resize(at + IPV6_HLEN, 0);
            h.emit(out.get_mut(at..)?);
            out.extend(m);
        }
        _ => return None,
    }
    Some(Frame::from_bytes(&out, frame.id))
}

/// What an interface makes of its hardware address (RFC 4291, appendix A).
fn link_local(mac: &[u8]) -> Ipv6Addr {
    let m: [u8; 6] = mac.first_chunk().copied().unwrap_or_default();
    let id = u64::from_be_bytes([m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::gso;

    fn v6() -> Frame {
        let mut b = vec![0u8; ETH_HLEN + IPV6_HLEN + 20 + 500];
        b[12..14].copy_from_slice(&[0x86, 0xdd]);
        let end = |n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n);
        let ip = Ipv6Header { payload_len: 520, next: IPPROTO_TCP, src: end(1), dst: end(2), ..Ipv6Header::default() };
        ip.emit(&mut b[ETH_HLEN..]);
        TcpHeader { src_port: 1, dst_port: 2, header_len: 20, flags: Flags::ACK, ..TcpHeader::default() }
            .emit(&mut b[ETH_HLEN + IPV6_HLEN..]);
        Frame::from_bytes(&b, 1)
    }

    #[test]
    fn forged_segments_and_complaints_of_ipv6_have_right_checksums() {
        let (frame, mut rng) = (v6(), Rng::new(1));
        for _ in 0..50 {
            let forged = forge(&frame, &mut rng).unwrap();
            assert_eq!((forged.len(), gso::verify(&forged)), (ETH_HLEN + IPV6_HLEN + 20, Ok(())));
            assert_eq!(gso::verify(&complaint(&frame, &mut rng).unwrap()), Ok(()));
        }
    }

    #[test]
    fn forged_segments_have_right_checksums() {
        let mut b = vec![0u8; ETH_HLEN + 20 + 32 + 500];
        b[12] = 8;
        let ip = Ipv4Header {
            total_len: 552,
            proto: IPPROTO_TCP,
            ttl: 64,
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            ..Ipv4Header::default()
        };
        ip.emit(&mut b[ETH_HLEN..]);
        TcpHeader { src_port: 1, dst_port: 2, header_len: 32, flags: Flags::ACK, ..TcpHeader::default() }
            .emit(&mut b[ETH_HLEN + 20..]);
        let frame = Frame::from_bytes(&b, 1);
        let mut rng = Rng::new(1);
        for _ in 0..50 {
            let forged = forge(&frame, &mut rng).unwrap();
            assert_eq!((forged.len(), gso::verify(&forged)), (ETH_HLEN + 52, Ok(())));
            assert_eq!(gso::verify(&complaint(&frame, &mut rng).unwrap()), Ok(()));
        }
    }
}
