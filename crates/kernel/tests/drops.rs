//! A dropped packet is shown whole: a capture can name it, whatever layer gave it up.
mod common;
use belljar_abi::*;
use belljar_kernel::env::Event;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::task::call::*;
use belljar_wire::ipv4::{IPPROTO_TCP, Ipv4Header};
use belljar_wire::tcp::{Flags, TcpHeader, TcpOptions};
use belljar_wire::{Csum, FlowKey, Frame, gso};
use common::*;

fn tcp(flags: Flags, seq: u32, ack: u32, options: TcpOptions, data: &[u8]) -> Frame {
    let t = TcpHeader { src_port: 40_000, dst_port: 80, seq, ack, flags, window: 60_000, ..Default::default() };
    let mut l4 = vec![0; 20 + options.len()];
    TcpHeader { header_len: l4.len(), ..t }.emit(&mut l4);
    options.emit(&mut l4[20..]);
    l4.extend_from_slice(data);
    let mut f = ip(from_peer(IPPROTO_TCP), &l4);
    f.csum = Csum::Partial;
    gso::finish_checksum(&mut f);
    Frame { csum: Csum::None, ..f }
}

/// The drops since the last time.
fn drops(h: &mut Host) -> Vec<(DropReason, Frame)> {
    std::iter::from_fn(|| h.k.net.env.trace.pop())
        .filter_map(|r| match r.event {
            Event::Drop { reason, frame, .. } => Some((reason, *frame)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_drop_in_any_layer_shows_the_frame_as_it_came() {
    let mut h = Host::new();
    h.know_peer();
    h.k.net.env.trace.wanted.drops = true;
    let none = TcpOptions::default();
    // No socket: TCP gave it up, with its header and the ones before already pulled.
    let f = tcp(Flags::SYN, 7, 0, TcpOptions { mss: Some(1460), ..none }, b"");
    h.rx(f.clone());
    let got = drops(&mut h);
    assert_eq!(got.iter().map(|d| d.0).collect::<Vec<_>>(), [DropReason::NoSocket]);
    assert_eq!(got[0].1.to_vec(), f.to_vec());
    assert_eq!(FlowKey::dissect(&got[0].1), FlowKey::dissect(&f));
    // A bad header checksum: IP gave it up.
    let mut bad = f.clone();
    bad.head.bytes_mut()[30] ^= 1;
    h.rx(bad.clone());
    assert_eq!(
        drops(&mut h).iter().map(|d| (d.0, d.1.to_vec())).collect::<Vec<_>>(),
        [(DropReason::IpCsum, bad.to_vec())]
    );
}

#[test]
fn data_that_was_taken_apart_is_shown_once() {
    let mut h = Host::new();
    h.know_peer();
    h.k.net.env.trace.wanted.drops = true;
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    h.bind(fd, HOST, 80).unwrap();
    h.call(Call::Listen { fd, backlog: 5 }).unwrap();
    let none = TcpOptions::default();
    h.rx(tcp(Flags::SYN, 7, 0, none, b""));
    let syn_ack = h.sent().pop().unwrap().to_vec();
    let iss = TcpHeader::parse(&syn_ack[34..]).unwrap().seq.wrapping_add(1);
    h.rx(tcp(Flags::ACK, 8, iss, none, b""));
    let mut seq = 8;
    // In the linear part, and partly beyond it.
    for data in [&b"hello"[..], &[b'x'; 700]] {
        let f = tcp(Flags::ACK | Flags::PSH, seq, iss, none, data);
        h.rx(f.clone());
        drops(&mut h);
        // The same again is old.
        h.rx(f.clone());
        let got = drops(&mut h);
        assert_eq!(got.iter().map(|d| (d.0, d.1.to_vec())).collect::<Vec<_>>(), [(DropReason::TcpOldData, f.to_vec())]);
        seq += data.len() as u32;
    }
}

/// Names as Linux 6.18's tracepoint `kfree_skb` prints them for the same packets.
#[test]
fn martians_are_named() {
    let reason = |rp: bool, src: [u8; 4], dst: [u8; 4]| {
        let mut h = Host::new();
        h.know_peer();
        h.sysctl("net.ipv4.conf.all.rp_filter", if rp { "1" } else { "0" });
        h.k.net.env.trace.wanted.drops = true;
        h.rx(ip(Ipv4Header { src: src.into(), dst: dst.into(), ..from_peer(200) }, b"x"));
        let got = drops(&mut h);
        assert_eq!(got.len(), 1, "{src:?} to {dst:?}: {got:?}");
        got[0].0.name()
    };
    let (here, peer) = (HOST.octets(), PEER.octets());
    for rp in [false, true] {
        assert_eq!(reason(rp, here, here), "IP_LOCAL_SOURCE");
        assert_eq!(reason(rp, here, [224, 0, 0, 1]), "IP_LOCAL_SOURCE");
        assert_eq!(reason(rp, here, [255; 4]), "IP_LOCAL_SOURCE");
        assert_eq!(reason(rp, [127, 0, 0, 1], here), "IP_LOCALNET");
        assert_eq!(reason(rp, peer, [127, 0, 0, 1]), "IP_LOCALNET");
        assert_eq!(reason(rp, [127, 0, 0, 1], [224, 0, 0, 1]), "IP_LOCALNET");
        assert_eq!(reason(rp, [224, 0, 0, 5], here), "IP_INVALID_SOURCE");
        assert_eq!(reason(rp, [255; 4], here), "IP_INVALID_SOURCE");
        assert_eq!(reason(rp, peer, [0; 4]), "IP_INVALID_DEST");
        assert_eq!(reason(rp, peer, [172, 16, 5, 5]), "IP_INADDRERRORS");
        assert_eq!(reason(rp, peer, [224, 1, 1, 1]), "NOT_SPECIFIED");
        assert_eq!(reason(rp, peer, here), "IP_NOPROTO");
    }
}
