//! What a device in software takes over from the stack, and what changes when it is told not to.
mod host;

use belljar_abi::*;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::features;
use belljar_kernel::task::call::*;
use host::*;

const SG: u64 = 1;
const TX_CSUM: u64 = 1 << 3;
const GSO: u64 = 1 << 11;
const TSO: u64 = 1 << 16;
const TSO_ECN: u64 = 1 << 18;
const TSO6: u64 = 1 << 20;
const USO: u64 = 1 << 33;

/// A host with both ends of a pair.
fn pair() -> (Host, DevId, DevId) {
    let mut h = Host::new();
    let (a, b) = h.k.net.add_veth((h.ns, "v0"), (h.ns, "v1")).unwrap();
    h.k.set_link(a, true).unwrap();
    h.k.set_link(b, true).unwrap();
    (h, a, b)
}

fn set(h: &mut Host, dev: DevId, bits: u64, on: bool) {
    features::set(&mut h.k.net, dev, if on { bits } else { 0 }, bits);
}

fn active(h: &Host, dev: DevId, bits: u64) -> u64 {
    features::show(h.k.net.devs.get(dev).unwrap()).active & bits
}

#[test]
fn segmentation_needs_sums_and_pieces() {
    let (mut h, v0, _) = pair();
    let all = SG | TX_CSUM | GSO | TSO | TSO6 | TSO_ECN | USO;
    assert_eq!(active(&h, v0, all), all);
    set(&mut h, v0, SG, false);
    assert_eq!(active(&h, v0, all), TX_CSUM | USO);
    set(&mut h, v0, SG, true);
    set(&mut h, v0, TX_CSUM, false);
    assert_eq!(active(&h, v0, all), SG | GSO);
    let f = h.k.net.devs.get(v0).unwrap().features;
    assert!(!f.tso && !f.tso6 && !f.uso && !f.tx_csum && f.gso);
    set(&mut h, v0, TX_CSUM, true);
    assert_eq!(active(&h, v0, all), all);
    set(&mut h, v0, GSO, false);
    assert_eq!(active(&h, v0, all), all & !GSO);
    // Of lo sums are always left out.
    let lo = h.k.net.ns.get(h.ns).unwrap().lo;
    set(&mut h, lo, SG | TX_CSUM, false);
    assert_eq!(active(&h, lo, all), all);
    set(&mut h, lo, TSO, false);
    assert!(!h.k.net.devs.get(lo).unwrap().features.tso);
}

/// A segment of 2500 bytes of TCP with these flags, to be cut into pieces of 1000; how long are the frames that come?
fn lengths(h: &mut Host, flags: u8) -> Vec<usize> {
    let open = |h: &mut Host, proto: u16, ifindex: i32| {
        let call = Call::Socket { family: AF_PACKET, kind: SOCK_RAW | SOCK_NONBLOCK, protocol: 0 };
        let fd = h.int(call).unwrap() as Fd;
        let addr = LinkAddr { protocol: proto, ifindex, ..LinkAddr::default() }.emit();
        h.int(Call::Bind { fd, addr: &addr }).unwrap();
        fd
    };
    let index = |h: &Host, name| h.k.net.devs.get(h.k.net.dev_by_name(h.ns, name).unwrap()).unwrap().ifindex as i32;
    let (v0, v1) = (index(h, "v0"), index(h, "v1"));
    let (from, to) = (open(h, 0, v0), open(h, 0x800, v1));
    h.set(from, SOL_PACKET, PACKET_VNET_HDR, 1).unwrap();
    let mut b = vec![1, 1];
    b.extend([54u16, 1000, 34, 16].iter().flat_map(|v| v.to_ne_bytes()));
    b.extend([0xff; 12]);
    b.extend([8, 0]);
    let total = (40u16 + 2500).to_be_bytes();
    b.extend([0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    b.extend([0, 7, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    b.extend([b'z'; 2500]);
    h.send(from, &b).unwrap();
    let got = std::iter::from_fn(|| h.recv(to, 4096).ok()).map(|f| f.len()).collect();
    h.close(from);
    h.close(to);
    got
}

#[test]
fn segments_that_tell_of_congestion_are_cut_apart() {
    const ACK: u8 = 0x10;
    const CWR: u8 = 0x80;
    let (mut h, v0, _) = pair();
    assert_eq!((lengths(&mut h, ACK), lengths(&mut h, ACK | CWR)), (vec![2554], vec![2554]));
    set(&mut h, v0, TSO_ECN, false);
    assert_eq!((lengths(&mut h, ACK), lengths(&mut h, ACK | CWR)), (vec![2554], vec![1054, 1054, 554]));
    set(&mut h, v0, TSO, false);
    assert_eq!(lengths(&mut h, ACK), [1054, 1054, 554]);
}

#[test]
fn a_tag_goes_into_the_packet_where_the_device_does_not_put_it_there() {
    let (mut h, v0, _) = pair();
    let up = h.k.net.add_vlan((h.ns, "v0.5"), v0, (0x8100, 5)).unwrap();
    h.k.set_link(up, true).unwrap();
    let call = Call::Socket { family: AF_PACKET, kind: SOCK_RAW, protocol: 0 };
    let fd = h.int(call).unwrap() as Fd;
    let addr = LinkAddr { protocol: 0, ifindex: 4, ..LinkAddr::default() }.emit();
    h.int(Call::Bind { fd, addr: &addr }).unwrap();
    let bytes = |h: &mut Host| {
        let before = h.k.net.devs.get(v0).unwrap().stats.tx_bytes;
        h.send(fd, &[&[0xff; 12][..], &[0x88, 0xb5], &[0; 86]].concat()).unwrap();
        h.k.net.devs.get(v0).unwrap().stats.tx_bytes - before
    };
    assert_eq!(bytes(&mut h), 100);
    set(&mut h, v0, 1 << 7, false);
    assert_eq!(bytes(&mut h), 104);
}
