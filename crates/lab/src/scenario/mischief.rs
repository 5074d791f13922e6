//! Faults while the workloads of `random` run: links that change, go dark and come back; packets that come twice much
//! later; segments that somebody else wrote, with right checksums and wrong everything else.
use super::odd;
use crate::lab::Lab;
use crate::task::{Shared, sleep};
use belljar_kernel::env::MSEC;
use belljar_link::{Conditions, Rng};
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::{IPPROTO_TCP, Ipv4Header, set_checksum};
use belljar_wire::tcp::{Flags, TcpHeader};
use belljar_wire::{Frame, checksum};

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
    let frame = match rng.chance(0.3) {
        true => Some(frame),
        false => forge(&frame, rng),
    };
    if let Some(frame) = frame {
        w.inject(cable, end, frame);
    }
}

/// The headers of a segment, changed; without data, FIN and URG, which nobody could tell from real ones.
fn forge(frame: &Frame, rng: &mut Rng) -> Option<Frame> {
    let mut b = frame.head.bytes().to_vec();
    let ip = Ipv4Header::parse(b.get(ETH_HLEN..)?).ok()?;
    if ip.proto != IPPROTO_TCP || ip.is_fragment() {
        return None;
    }
    let at = ETH_HLEN + ip.ihl_bytes;
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
    b.get_mut(ETH_HLEN + 2..ETH_HLEN + 4)?.copy_from_slice(&total.to_be_bytes());
    set_checksum(b.get_mut(ETH_HLEN..at)?);
    let sum = checksum::sum(b.get(at..)?, checksum::pseudo_v4(ip.src, ip.dst, IPPROTO_TCP, len));
    b.get_mut(at + 16..at + 18)?.copy_from_slice(&checksum::fold(sum).to_be_bytes());
    Some(Frame::from_bytes(&b, frame.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_wire::gso;

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
        }
    }
}
