//! veth with GRO: a ring and a NAPI of its own. What is merged was measured on Linux 6.18.
mod world;

use belljar_kernel::drivers::veth_rx;
use belljar_kernel::env::trace::Dir;
use belljar_wire::checksum;
use belljar_wire::ipv4::Ipv4Header;
use world::*;

/// A pair whose receiving end has GRO and whose sender cuts.
fn pair() -> World {
    let mut w = World::new(2);
    w.veth((0, "a"), (1, "b"));
    for (n, name) in [(0, "a"), (1, "b")] {
        w.up(n, name);
        w.addr(n, name, [10, 0, 0, n as u8 + 1]);
    }
    let (a, b) = (w.dev(0, "a"), w.dev(1, "b"));
    veth_rx::set_gro(&mut w.k.net, b, true);
    w.k.net.devs.get_mut(a).unwrap().features.set_segmentation(false);
    w
}

/// Segment `i` of a stream, 100 bytes long.
fn segment(w: &World, i: u32) -> Vec<u8> {
    let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut tcp = vec![3, 232, 0, 80];
    tcp.extend((1000 + 100 * i).to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0x50, 16, 3, 232, 0, 0, 0, 0]);
    tcp.extend([b'd'; 100]);
    let sum = checksum::pseudo_v4(src.into(), dst.into(), 6, tcp.len());
    let sum = checksum::fold(checksum::sum(&tcp, sum)).to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    let (total_len, id) = (20 + tcp.len() as u16, 100 + i as u16);
    let ip = Ipv4Header {
        total_len,
        id,
        df: true,
        ttl: 64,
        proto: 6,
        src: src.into(),
        dst: dst.into(),
        ..Ipv4Header::default()
    };
    let mut head = [0; 20];
    ip.emit(&mut head);
    [&w.d(1, "b").mac.0[..], &w.d(0, "a").mac.0, &[8, 0], &head, &tcp].concat()
}

/// Lengths of what goes up at the receiving end.
fn up(w: &mut World) -> Vec<usize> {
    w.frames(1, "b", Dir::In).iter().filter(|f| f[12..14] == [8, 0]).map(|f| f.len() - 54).collect()
}

fn hold(w: &mut World) {
    let b = w.dev(1, "b");
    w.k.set_napi_attr(b, "gro_flush_timeout", "100000000").unwrap();
    w.k.set_napi_attr(b, "napi_defer_hard_irqs", "10").unwrap();
}

#[test]
fn segments_that_meet_in_the_ring_become_one() {
    let mut w = pair();
    hold(&mut w);
    w.watch();
    for i in 0..4 {
        let f = segment(&w, i);
        w.inject(0, "a", &f);
    }
    assert!(up(&mut w).is_empty(), "the timer has not struck");
    w.advance(SEC / 4);
    assert_eq!(up(&mut w), [400]);
    // Without a timeout every poll ends what it held.
    let b = w.dev(1, "b");
    w.k.set_napi_attr(b, "gro_flush_timeout", "0").unwrap();
    w.advance(2 * SEC);
    w.watch();
    for i in 0..2 {
        let f = segment(&w, i);
        w.inject(0, "a", &f);
    }
    assert_eq!(up(&mut w), [100, 100]);
}

#[test]
fn a_full_ring_drops_and_counts() {
    let mut w = pair();
    hold(&mut w);
    // One poll, after which packets wait for the timer.
    for i in 0..300 {
        let f = segment(&w, i);
        w.inject(0, "a", &f);
    }
    assert_eq!((w.d(0, "a").stats.tx_packets, w.d(0, "a").stats.tx_dropped), (257, 43));
    assert_eq!((w.d(1, "b").stats.rx_packets, w.d(1, "b").stats.rx_dropped), (257, 43));
}

#[test]
fn a_sender_with_segmentation_goes_past_the_ring() {
    let mut w = pair();
    hold(&mut w);
    let a = w.dev(0, "a");
    w.k.net.devs.get_mut(a).unwrap().features.set_segmentation(true);
    w.watch();
    let f = segment(&w, 0);
    w.inject(0, "a", &f);
    assert_eq!(up(&mut w), [100]);
}

#[test]
fn off_again_and_gone_while_packets_wait() {
    let mut w = pair();
    hold(&mut w);
    for i in 0..3 {
        let f = segment(&w, i);
        w.inject(0, "a", &f);
    }
    let b = w.dev(1, "b");
    veth_rx::set_gro(&mut w.k.net, b, false);
    w.settle();
    w.watch();
    let f = segment(&w, 3);
    w.inject(0, "a", &f);
    assert_eq!(up(&mut w), [100]);
    veth_rx::set_gro(&mut w.k.net, b, true);
    for i in 0..3 {
        let f = segment(&w, i);
        w.inject(0, "a", &f);
    }
    w.k.net.unregister_netdev(b);
    w.settle();
    w.advance(SEC);
}
