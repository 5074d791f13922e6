//! The part of a card in VLANs: tags that it takes off, puts in and filters by, and what VLANs on top of it have of its offloads.
mod common;

use belljar_abi::ethtool::*;
use belljar_abi::*;
use belljar_kernel::drivers::{macvlan, nic};
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::features;
use belljar_kernel::task::call::*;
use belljar_wire::arp::ARPOP_REQUEST;
use belljar_wire::ethernet::Mac;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::{Csum, Frame, GsoType, checksum};
use common::*;
use core::net::Ipv4Addr;

const SG: u64 = 1;
const HW_CSUM: u64 = 1 << 3;
const VLAN_TX: u64 = 1 << 7;
const VLAN_RX: u64 = 1 << 8;
const VLAN_FILTER: u64 = 1 << 9;
const GRO: u64 = 1 << 14;
const TSO: u64 = 1 << 16;
const USO: u64 = 1 << 33;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 7, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 0, 7, 2);

/// A host with VLAN 7 on its card.
fn host_in_vlan() -> (Host, DevId) {
    let mut h = Host::new();
    let up = h.k.net.add_vlan((h.ns, "eth0.7"), h.dev, (0x8100, 7)).unwrap();
    h.k.set_link(up, true).unwrap();
    h.k.add_address(up, OURS, 24).unwrap();
    (h, up)
}

/// A datagram from the other machine, in a VLAN.
fn tagged(vid: u16, payload: &[u8]) -> Frame {
    let header = Ipv4Header { src: THEIRS, dst: OURS, ..from_peer(IPPROTO_UDP) };
    with_tag(vid, ip(header, &udp((THEIRS, 9), (OURS, 7), payload)))
}

fn with_tag(tci: u16, frame: Frame) -> Frame {
    let mut bytes = frame.to_vec();
    let [a, b] = tci.to_be_bytes();
    bytes.splice(12..12, [0x81, 0, a, b]);
    Frame::from_bytes(&bytes, 0)
}

fn set(h: &mut Host, dev: DevId, bits: u64, on: bool) {
    features::set(&mut h.k.net, dev, if on { bits } else { 0 }, bits);
}

/// The same of the card.
fn card(h: &mut Host, bits: u64, on: bool) {
    let dev = h.dev;
    set(h, dev, bits, on);
}

fn active(h: &Host, dev: DevId, bits: u64) -> u64 {
    features::show(h.k.net.devs.get(dev).unwrap()).active & bits
}

/// A counter of `ethtool -S`.
fn stat(h: &mut Host, name: &str) -> u64 {
    let ask = |h: &mut Host, words: &[u32]| {
        let b: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        h.k.ethtool(h.dev, &b).unwrap().1
    };
    let names = ask(h, &[ETHTOOL_GSTRINGS, ETH_SS_STATS, 0]);
    let at = names[12..].chunks(32).position(|s| s.split(|b| *b == 0).next() == Some(name.as_bytes())).unwrap();
    let values = ask(h, &[ETHTOOL_GSTATS, 0]);
    u64::from_ne_bytes(values[8 + 8 * at..16 + 8 * at].try_into().unwrap())
}

#[test]
fn a_tag_is_taken_off_by_the_card_or_by_the_stack() {
    let (mut h, _) = host_in_vlan();
    let fd = h.udp_on(OURS, 7);
    for (parse, removed, bytes) in [(true, 1, 43), (false, 1, 43 + 47), (true, 2, 43 + 47 + 43)] {
        card(&mut h, VLAN_RX, parse);
        h.rx(tagged(7, b"x"));
        assert_eq!(h.recv(fd).unwrap().0, b"x");
        assert_eq!((stat(&mut h, "rx_removed_vlan_packets"), stat(&mut h, "rx_bytes")), (removed, bytes));
    }
}

#[test]
fn taps_see_the_tag_beside_the_packet_whoever_took_it_off() {
    let (mut h, _) = host_in_vlan();
    h.udp_on(OURS, 7);
    let call = Call::Socket { family: AF_PACKET, kind: SOCK_RAW | SOCK_NONBLOCK, protocol: 0x300 };
    let Ok(Ret::Fd(fd)) = h.call(call) else { panic!() };
    h.set(fd, SOL_PACKET, PACKET_AUXDATA, 1).unwrap();
    for parse in [true, false] {
        card(&mut h, VLAN_RX, parse);
        h.rx(tagged(7 | 3 << 13, b"x"));
        let got: Vec<Vec<u8>> = std::iter::from_fn(|| h.recv(fd).ok().map(|r| r.0)).collect();
        // Once as a packet of the card, once as one of the VLAN.
        assert_eq!((got.len(), got.iter().all(|p| p.len() == 43 && p[12..14] == [8, 0])), (2, true), "{parse}");
    }
}

#[test]
fn a_vlan_that_nobody_has_stays_outside() {
    let (mut h, up) = host_in_vlan();
    let packets = |h: &Host| h.k.net.devs.get(h.dev).unwrap().stats.rx_packets;
    h.rx(tagged(8, b"x"));
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (0, 1));
    // A priority alone is everybody's; what has a provider's tag is looked at, too.
    h.rx(tagged(5 << 13, b"x"));
    let mut provider = tagged(7, b"x");
    provider.head.bytes_mut()[12..14].copy_from_slice(&[0x88, 0xa8]);
    h.rx(provider.clone());
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (1, 2));
    card(&mut h, VLAN_FILTER, false);
    h.rx(tagged(8, b"x"));
    // That filter cannot be switched off.
    h.rx(provider.clone());
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (2, 3));
    card(&mut h, VLAN_FILTER, true);
    h.k.net.devs.get_mut(h.dev).unwrap().promiscuity += 1;
    h.rx(tagged(8, b"x"));
    h.rx(provider);
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (4, 3));
    h.k.net.devs.get_mut(h.dev).unwrap().promiscuity -= 1;
    h.k.net.unregister_netdev(up);
    h.rx(tagged(7, b"x"));
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (4, 4));
    // The one that a macvlan has is the card's.
    let m = h.k.net.add_macvlan((h.ns, "m0"), h.dev, macvlan::BRIDGE).unwrap();
    h.k.net.add_vlan((h.ns, "m0.7"), m, (0x8100, 7)).unwrap();
    h.rx(tagged(7, b"x"));
    assert_eq!((packets(&h), stat(&mut h, "rx_steer_missed_packets")), (5, 4));
}

#[test]
fn switched_under_load_nothing_is_lost() {
    let (mut h, _) = host_in_vlan();
    let fd = h.udp_on(OURS, 7);
    for n in 0..120u8 {
        nic::rx_frame(&mut h.k.net, h.dev, tagged(7, &[n]));
        card(&mut h, [VLAN_RX, VLAN_TX, VLAN_FILTER, GRO][usize::from(n) % 4], n & 4 == 0);
    }
    h.k.tick(h.now);
    h.collect();
    let got: Vec<u8> = std::iter::from_fn(|| h.recv(fd).ok().map(|r| r.0[0])).collect();
    assert_eq!(got, (0..120).collect::<Vec<u8>>());
}

/// Datagrams of 1000 octets in one send, to the other machine in the VLAN; what the wire gets of it.
fn burst(h: &mut Host, fd: Fd) -> Vec<Frame> {
    h.set(fd, IPPROTO_UDP.into(), UDP_SEGMENT, 1000).unwrap();
    h.send_to(fd, &[7; 2500], THEIRS, 9).unwrap();
    h.sent()
}

#[test]
fn the_wire_gets_the_same_whatever_the_card_does() {
    let (mut h, _) = host_in_vlan();
    h.rx(with_tag(7, arp(ARPOP_REQUEST, PEER_MAC, THEIRS, Mac::ZERO, OURS, Mac::BROADCAST)));
    h.sent();
    let fd = h.udp_on(OURS, 7);
    let mut seen = Vec::new();
    for off in [0, VLAN_TX, USO, USO | VLAN_TX, HW_CSUM, HW_CSUM | SG | VLAN_TX] {
        card(&mut h, off, false);
        let frames = burst(&mut h, fd);
        let whole = frames.len() == 1;
        assert_eq!(whole, off & (USO | HW_CSUM) == 0, "{off:#x}");
        assert_eq!(frames.iter().all(|f| f.gso.is_some_and(|g| g.kind == GsoType::UdpL4)), whole);
        let bytes: Vec<Vec<u8>> = frames.into_iter().flat_map(belljar_wire::gso::segment).map(|f| f.to_vec()).collect();
        seen.push(bytes.into_iter().map(without_id).collect::<Vec<_>>());
        card(&mut h, off, true);
    }
    assert!(seen[0].len() == 3 && seen[0].iter().all(|f| f[12..16] == [0x81, 0, 0, 7]), "{:?}", seen[0]);
    assert!(seen.iter().all(|s| *s == seen[0]));
    // And the answer to the neighbour.
    assert_eq!(stat(&mut h, "tx_added_vlan_packets"), 3 * 3 + 1);
}

/// Identifications count on from send to send.
fn without_id(mut f: Vec<u8>) -> Vec<u8> {
    f[22..24].fill(0);
    f[28..30].fill(0);
    f
}

#[test]
fn a_vlan_has_what_the_card_has_for_vlans_and_segments_in_software() {
    let (mut h, up) = host_in_vlan();
    let all = SG | HW_CSUM | GRO | TSO | USO;
    assert_eq!(active(&h, up, all | VLAN_TX | VLAN_RX | VLAN_FILTER), all);
    // Without the card's segmentation it still makes super-segments, which the stack cuts in front of the card.
    card(&mut h, TSO | USO, false);
    assert_eq!(active(&h, up, all), all);
    card(&mut h, HW_CSUM, false);
    assert_eq!(active(&h, up, all), SG | GRO);
    assert!(!h.k.net.devs.get(up).unwrap().features.tx_csum);
    card(&mut h, HW_CSUM, true);
    assert_eq!(active(&h, up, all), all);
    // What was switched off on the VLAN stays off.
    set(&mut h, up, HW_CSUM, false);
    card(&mut h, SG, false);
    card(&mut h, SG, true);
    assert_eq!((active(&h, up, all), active(&h, h.dev, HW_CSUM)), (SG | GRO, HW_CSUM));
}

#[test]
fn streams_of_two_vlans_are_merged_apart() {
    let (mut h, up) = host_in_vlan();
    let other = h.k.net.add_vlan((h.ns, "eth0.8"), h.dev, (0x8100, 8)).unwrap();
    h.k.set_link(other, true).unwrap();
    let segment = |vid: u16, n: u32| {
        let header = Ipv4Header { src: THEIRS, dst: OURS, df: true, id: n as u16, ..from_peer(IPPROTO_TCP) };
        with_tag(vid, ip(header, &tcp(1 + 1000 * n, &[b'a'; 1000])))
    };
    for parse in [true, false] {
        card(&mut h, VLAN_RX, parse);
        let packets = |h: &Host| [up, other].map(|d| h.k.net.devs.get(d).unwrap().stats.rx_packets);
        let was = packets(&h);
        for (v, n) in [(7, 0), (8, 0), (7, 1), (8, 1), (7, 2)] {
            nic::rx_frame(&mut h.k.net, h.dev, segment(v, n));
        }
        h.k.tick(h.now);
        h.collect();
        let now = packets(&h);
        assert_eq!([now[0] - was[0], now[1] - was[1]], [1, 1], "{parse}");
    }
}

/// A TCP segment with a right checksum.
fn tcp(seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0u8; 20];
    b[..4].copy_from_slice(&[0, 9, 0, 7]);
    b[4..8].copy_from_slice(&seq.to_be_bytes());
    b[12..14].copy_from_slice(&[5 << 4, 0x10]);
    b.extend(payload);
    let sum = checksum::sum(&b, checksum::pseudo_v4(THEIRS, OURS, 6, b.len()));
    b[16..18].copy_from_slice(&checksum::fold(sum).to_be_bytes());
    b
}

#[test]
fn sums_of_frames_with_tags_are_looked_at_by_the_card() {
    let (mut h, _) = host_in_vlan();
    let fd = h.udp_on(OURS, 7);
    let mut bad = tagged(7, b"xy");
    assert_eq!(bad.csum, Csum::None);
    let n = bad.head.len();
    bad.head.bytes_mut()[n - 1] ^= 1;
    h.rx(bad);
    assert_eq!(h.recv(fd), Err(Errno::EAGAIN));
    h.rx(tagged(7, b"xy"));
    assert!(h.recv(fd).is_ok());
}
