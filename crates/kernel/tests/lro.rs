//! Segments that a card joins before anybody sees them (`lro`, `rx-gro-hw`): which, what they become, and who forbids it.
mod common;
mod peer;

use belljar_abi::ethtool::*;
use belljar_kernel::drivers::{macvlan, nic};
use belljar_kernel::env::trace::{Dir, Event, Wanted};
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::features;
use belljar_wire::ipv4::{IPPROTO_TCP, Ipv4Header};
use belljar_wire::tcp::{Flags, TcpOptions};
use belljar_wire::{Frame, Gso, GsoType, checksum, gso};
use common::*;
use peer::*;

const GRO: u64 = 1 << 14;
const LRO: u64 = 1 << 15;
const RXCSUM: u64 = 1 << 40;
const GRO_HW: u64 = 1 << 55;

fn set(h: &mut Host, bits: u64, on: bool) {
    features::set(&mut h.k.net, h.dev, if on { bits } else { 0 }, bits);
}

fn active(h: &Host, bits: u64) -> u64 {
    features::show(h.k.net.devs.get(h.dev).unwrap()).active & bits
}

/// A segment of the peer.
#[derive(Clone, Copy)]
struct S {
    seq: u32,
    len: usize,
    flags: u8,
    ack: u32,
    window: u16,
    tos: u8,
    id: u16,
    port: u16,
    ts: Option<u32>,
}

const ACK: u8 = 0x10;
const PSH: u8 = 8;
const FIN: u8 = 1;

fn s(n: u32) -> S {
    S { seq: 1000 * n, len: 1000, flags: ACK, ack: 5, window: 100, tos: 0, id: n as u16, port: 9, ts: None }
}

fn frame(s: S) -> Frame {
    let head = if s.ts.is_some() { 32 } else { 20 };
    let mut b = vec![0u8; head];
    b[..2].copy_from_slice(&s.port.to_be_bytes());
    b[2..4].copy_from_slice(&[0, 7]);
    b[4..8].copy_from_slice(&s.seq.to_be_bytes());
    b[8..12].copy_from_slice(&s.ack.to_be_bytes());
    b[12..14].copy_from_slice(&[(head as u8 / 4) << 4, s.flags]);
    b[14..16].copy_from_slice(&s.window.to_be_bytes());
    if let Some(ts) = s.ts {
        b[20..24].copy_from_slice(&[1, 1, 8, 10]);
        b[24..28].copy_from_slice(&ts.to_be_bytes());
    }
    b.extend((0..s.len).map(|i| (s.seq as usize + i) as u8));
    let sum = checksum::sum(&b, checksum::pseudo_v4(PEER, HOST, IPPROTO_TCP, b.len()));
    b[16..18].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    ip(Ipv4Header { df: true, id: s.id, tos: s.tos, ..from_peer(IPPROTO_TCP) }, &b)
}

/// What the stack gets of segments that come while the driver does not look.
fn received(h: &mut Host, segments: &[S]) -> Vec<Frame> {
    h.k.net.env.trace.wanted = Wanted { taps: true, ..Wanted::default() };
    for s in segments {
        nic::rx_frame(&mut h.k.net, h.dev, frame(*s));
    }
    h.k.tick(h.now);
    h.collect();
    h.sent();
    std::iter::from_fn(|| h.k.net.env.trace.pop())
        .filter_map(|e| match e.event {
            Event::Tap { dir: Dir::In, frame, .. } => Some(*frame),
            _ => None,
        })
        .collect()
}

fn lengths(h: &mut Host, segments: &[S]) -> Vec<usize> {
    received(h, segments).iter().map(|f| f.len() - 54).collect()
}

/// A host whose card joins by `bits` and whose stack does not.
fn host(bits: u64) -> Host {
    let mut h = Host::new();
    h.know_peer();
    set(&mut h, GRO, false);
    set(&mut h, bits, true);
    h
}

#[test]
fn cards_join_when_they_are_told_to() {
    let four = [s(0), s(1), s(2), s(3)];
    let mut h = host(0);
    assert_eq!(lengths(&mut h, &four), [1000; 4]);
    for bits in [LRO, GRO_HW] {
        let mut h = host(bits);
        let got = received(&mut h, &four);
        assert_eq!(got.iter().map(Frame::len).collect::<Vec<_>>(), [4054]);
        assert_eq!(got[0].gso, Some(Gso::new(GsoType::TcpV4, 1000, 4)));
        let again: Vec<Vec<u8>> = gso::segment(got[0].clone()).map(|f| f.to_vec()).collect();
        assert!(again == four.map(|s| frame(s).to_vec()), "cut again it is what came");
        let d = h.k.net.devs.get(h.dev).unwrap();
        let q = &d.nic().unwrap().queues[0].rx;
        let merged = if bits == LRO { q.lro } else { q.gro_hw };
        assert_eq!((merged, q.lro.0 + q.gro_hw.0, q.used()), ((3, 4054), 3, 0));
        // The driver looked: what comes now is another frame.
        assert_eq!(lengths(&mut h, &[s(4)]), [1000]);
    }
}

#[test]
fn what_does_not_go_on_is_another_frame() {
    for (how, expected) in [
        (LRO, [vec![2000, 2000], vec![4000], vec![4000], vec![2000, 1000, 1000], vec![2500, 1000], vec![4000]]),
        (
            GRO_HW,
            [
                vec![2000, 2000],
                vec![1000, 3000],
                vec![4000],
                vec![2000, 1000, 1000],
                vec![1500, 2000],
                vec![1000, 1000, 2000],
            ],
        ),
    ] {
        let mut h = host(how);
        let four = [s(0), s(1), s(2), s(3)];
        let mut with = |at: usize, f: fn(&mut S)| {
            let mut v = four;
            f(&mut v[at]);
            lengths(&mut h, &v)
        };
        let got = [
            with(1, |s| s.flags |= PSH),
            with(0, |s| (s.ack, s.window) = (4, 50)),
            with(3, |s| s.flags |= PSH),
            with(2, |s| s.tos = 3),
            with(1, |s| s.len = 500),
            with(1, |s| s.id = 77),
        ];
        for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
            // A short one: what follows is not in sequence any more.
            let expected = if n == 4 { &vec![1500, 2000] } else { expected };
            assert_eq!(got, expected, "{n} {how:#x}");
        }
        assert_eq!(lengths(&mut h, &[s(0), S { flags: ACK | FIN, ..s(1) }, s(2)]), [1000; 3]);
        assert_eq!(lengths(&mut h, &[s(0), S { len: 0, ..s(1) }, s(1)]), [1000, 0, 1000]);
        assert_eq!(lengths(&mut h, &[s(1), s(0), s(1)]), [1000, 2000]);
        let other = |n| S { port: 10, ..s(n) };
        assert_eq!(lengths(&mut h, &[s(0), other(0), s(1), other(1)]), [2000, 2000]);
        let mut bad = frame(s(1));
        let end = bad.head.len() - 1;
        bad.head.bytes_mut()[end] ^= 1;
        nic::rx_frame(&mut h.k.net, h.dev, frame(s(0)));
        nic::rx_frame(&mut h.k.net, h.dev, bad);
        let rest = lengths(&mut h, &[s(1)]);
        assert_eq!(rest, [1000, 1000, 1000]);
        let many: Vec<S> = (0..70).map(s).collect();
        assert_eq!(lengths(&mut h, &many), [65_000, 5000]);
    }
}

#[test]
fn the_last_says_what_counts() {
    let mut h = host(LRO);
    let (a, b) = (S { ts: Some(7), ..s(0) }, S { ts: Some(9), ack: 6, window: 90, flags: ACK | PSH, ..s(1) });
    let got = received(&mut h, &[a, b]);
    let bytes = got[0].to_vec();
    assert_eq!((got.len(), bytes.len()), (1, 66 + 2000));
    assert_eq!((&bytes[42..46], bytes[47], &bytes[48..50]), (&[0, 0, 0, 6][..], ACK | PSH, &[0, 90][..]));
    assert_eq!(bytes[58..62], [0, 0, 0, 9]);
    assert_eq!(gso::verify(&got[0]), Ok(()));
    // Time does not go back.
    assert_eq!(received(&mut h, &[b, S { seq: 2000, ..a }]).len(), 2);
    // The stricter way joins what says the same.
    set(&mut h, GRO_HW, true);
    assert_eq!(received(&mut h, &[a, b]).len(), 2);
    assert_eq!(received(&mut h, &[a, S { ts: a.ts, ..s(1) }]).len(), 1);
}

#[test]
fn offloads_of_reception_that_go_together() {
    let mut h = Host::new();
    let both = LRO | GRO_HW;
    assert_eq!(active(&h, both), 0, "off by default");
    set(&mut h, LRO, true);
    assert_eq!(active(&h, both), LRO);
    set(&mut h, GRO_HW, true);
    assert_eq!(active(&h, both), GRO_HW);
    set(&mut h, GRO_HW, false);
    assert_eq!(active(&h, both), LRO);
    set(&mut h, RXCSUM, false);
    assert_eq!(active(&h, both), 0);
    set(&mut h, GRO_HW, true);
    assert_eq!(active(&h, both), 0);
    set(&mut h, RXCSUM, true);
    assert_eq!(active(&h, both), GRO_HW);
    let ask: Vec<u8> =
        [ETHTOOL_SFEATURES, 2, LRO as u32, LRO as u32, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    assert_eq!(h.k.ethtool(h.dev, &ask), Ok((ETHTOOL_F_WISH, Vec::new())));
}

#[test]
fn who_sends_packets_on_forbids_it() {
    type Way = fn(&mut Host);
    let ways: [(&str, Way); 6] = [
        ("forwarding", |h| h.sysctl("net.ipv4.ip_forward", "1")),
        ("forwarding of one device", |h| h.sysctl("net.ipv4.conf.eth0.forwarding", "1")),
        ("forwarding of IPv6", |h| h.sysctl("net.ipv6.conf.all.forwarding", "1")),
        ("a bridge", |h| {
            let br = h.k.net.add_bridge(h.ns, "br0").unwrap();
            belljar_kernel::drivers::bridge::enslave(&mut h.k.net, br, h.dev).unwrap();
        }),
        ("a list at XDP", |h| {
            h.k.xdp_words(h.ns, &["set", "dev", "eth0", "native", "pass"]);
        }),
        ("a VLAN that forwards", |h| {
            h.k.net.add_vlan((h.ns, "v7"), h.dev, (0x8100, 7)).unwrap();
            h.sysctl("net.ipv4.conf.v7.forwarding", "1");
        }),
    ];
    for (what, how) in ways {
        let mut h = Host::new();
        set(&mut h, LRO, true);
        how(&mut h);
        assert_eq!(active(&h, LRO), 0, "{what}");
    }
    // A macvlan alone does not, and one in a namespace that forwards does.
    let mut h = Host::new();
    set(&mut h, LRO, true);
    let m: DevId = h.k.net.add_macvlan((h.ns, "m0"), h.dev, macvlan::BRIDGE).unwrap();
    assert_eq!(active(&h, LRO), LRO);
    let router = h.k.net.add_ns("router");
    h.k.sysctl_set(router, "net.ipv4.ip_forward", "1").unwrap();
    h.k.net.move_netdev(m, router, None).unwrap();
    assert_eq!(active(&h, LRO), 0);
    // Who wants it all the same has it.
    set(&mut h, LRO, true);
    assert_eq!(active(&h, LRO), LRO);
}

/// A stream that comes in bursts between two looks of the driver, with the offload switched in the middle of each.
#[test]
fn switched_under_load_nothing_is_lost() {
    let mut h = host(LRO);
    let l = h.listener(5);
    let next = h.handshake(40, TcpOptions::default());
    let fd = h.accept(l).unwrap();
    let (mut all, mut got) = (Vec::new(), Vec::new());
    for burst in 0..60u32 {
        let of = [LRO, GRO_HW, GRO][burst as usize % 3];
        for n in 0..8 {
            let data: Vec<u8> = (0..100).map(|i| (burst * 31 + n * 7 + i) as u8).collect();
            let segment = seg(40, Flags::ACK, ISN + 1 + all.len() as u32, next).data(&data);
            all.extend(data);
            nic::rx_frame(&mut h.k.net, h.dev, ip(Ipv4Header { df: true, ..from_peer(IPPROTO_TCP) }, &segment.bytes()));
            if n == 3 {
                set(&mut h, of, burst % 2 == 0);
            }
        }
        h.k.tick(h.now);
        h.collect();
        h.sent();
        got.extend(h.read(fd).unwrap());
    }
    assert!(got == all, "{} of {}", got.len(), all.len());
    let q = &h.k.net.devs.get(h.dev).unwrap().nic().unwrap().queues[0].rx;
    assert!(q.lro.0 > 20 && q.gro_hw.0 > 20, "{:?} {:?}", q.lro, q.gro_hw);
}
