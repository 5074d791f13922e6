//! What an account of a run is told from beside the counters: patience that ended, windows that kept a sender waiting, and the
//! lines that Linux logs about full tables.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::tcp::account::{GivenUp, Patience, held_up};
use belljar_kernel::net::udp::tables::Full;
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

/// An accepted connection, and our next number.
fn connection(h: &mut Host, prepare: impl Fn(&mut Host, Fd)) -> (Fd, u32) {
    h.know_peer();
    let l = h.listener(5);
    prepare(h, l);
    let next = h.handshake(2000, TcpOptions { mss: Some(1460), ..TcpOptions::default() });
    (h.accept(l).unwrap(), next)
}

fn given_up(h: &Host) -> Vec<GivenUp> {
    h.k.net.ns.get(h.ns).unwrap().tcp.account.given_up.clone()
}

fn wait(h: &mut Host, seconds: u64) {
    for _ in 0..seconds * 4 {
        h.advance(SEC / 4);
        h.sent();
    }
}

#[test]
fn each_patience_has_its_setting() {
    let mut h = Host::new();
    let (_fd, _) = connection(&mut h, |h, l| {
        h.set(l, SOL_SOCKET, SO_KEEPALIVE, 1).unwrap();
        for name in [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT] {
            h.set(l, SOL_TCP, name, 2).unwrap();
        }
    });
    wait(&mut h, 8);
    let gone = |why, last| GivenUp { why, last, count: 1 };
    assert_eq!(given_up(&h), [gone(Patience::Keepalive, (PEER.into(), 2000))]);

    let mut h = Host::new();
    let (fd, _) = connection(&mut h, |_, _| {});
    h.sysctl("net.ipv4.tcp_retries2", "3");
    h.send(fd, b"x").unwrap();
    wait(&mut h, 10);
    assert_eq!(given_up(&h), [gone(Patience::Data, (PEER.into(), 2000))]);

    let mut h = Host::new();
    h.sysctl("net.ipv4.tcp_syn_retries", "1");
    h.sysctl("net.ipv4.tcp_syn_linear_timeouts", "0");
    h.know_peer();
    let fd = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    assert_eq!(h.connect(fd, PEER, 81), Err(Errno::EINPROGRESS));
    wait(&mut h, 5);
    assert_eq!(given_up(&h), [gone(Patience::Syn, (PEER.into(), 81))]);
}

#[test]
fn who_waited_for_a_window_and_how_long() {
    let mut h = Host::new();
    let (fd, next) = connection(&mut h, |_, _| {});
    assert_eq!(held_up(&h.k, h.ns), None);
    // Two segments fit; they are acknowledged, and the window closes for three seconds.
    h.tcp(seg(2000, Flags::ACK, ISN + 1, next).data(b"x"));
    h.tcp(Seg { window: 2920, ..seg(2000, Flags::ACK, ISN + 2, next) });
    h.send(fd, &[0; 10_000]).unwrap();
    assert_eq!(h.answers().iter().map(|s| s.data.len()).sum::<usize>(), 2920);
    h.tcp(Seg { window: 0, ..seg(2000, Flags::ACK, ISN + 2, next.wrapping_add(2920)) });
    wait(&mut h, 3);
    let (count, held) = held_up(&h.k, h.ns).unwrap();
    assert_eq!((count, held.peer), (1, (PEER.into(), 2000)));
    assert!((2900..3100).contains(&held.held_ms) && held.held_ms <= held.busy_ms, "{held:?}");
    // Over, and not forgotten.
    h.tcp(seg(2000, Flags::RST, ISN + 2, 0));
    assert_eq!(held_up(&h.k, h.ns).map(|(n, o)| (n, o.held_ms)), Some((1, held.held_ms)));
}

/// A path that lets pass what is small: told from a peer that is gone, from a single timeout, and from a path that was wide.
#[test]
fn full_segments_that_nobody_acknowledges() {
    let stuck = |h: &Host| h.k.net.ns.get(h.ns).unwrap().tcp.account.stuck;
    for (acked, sent, expected) in [(100, 5000, 1), (100, 200, 0), (3000, 5000, 0)] {
        let mut h = Host::new();
        let (fd, next) = connection(&mut h, |_, _| {});
        h.send(fd, &vec![0; acked]).unwrap();
        h.tcp(seg(2000, Flags::ACK, ISN + 1, next.wrapping_add(acked as u32)));
        h.send(fd, &vec![0; sent]).unwrap();
        wait(&mut h, 1);
        assert_eq!(stuck(&h).0, 0);
        wait(&mut h, 9);
        assert_eq!(stuck(&h).0, expected, "{acked} {sent}");
        if let (1, s) = stuck(&h) {
            let s = s.unwrap();
            assert!(s.mss == 1460 && s.peer == (PEER.into(), 2000) && (5000..10_000).contains(&s.waited_ms), "{s:?}");
        }
    }
}

/// A second small piece waits for the first one's acknowledgement: forty milliseconds for a peer that delays it, and not longer
/// than the way for one that does not.
#[test]
fn small_writes_that_wait() {
    for (late_ms, told) in [(40, 1), (1, 0)] {
        let mut h = Host::new();
        let (fd, next) = connection(&mut h, |_, _| {});
        // The way there and back takes a millisecond.
        h.send(fd, b".").unwrap();
        h.advance(SEC / 1000);
        h.tcp(seg(2000, Flags::ACK, ISN + 1, next.wrapping_add(1)));
        h.answers();
        h.send(fd, b"head").unwrap();
        h.send(fd, b"body").unwrap();
        assert_eq!(h.answers().len(), 1, "Nagle holds the second");
        h.advance(late_ms * SEC / 1000);
        let body = h.tcp(seg(2000, Flags::ACK, ISN + 1, next.wrapping_add(5)));
        assert_eq!(body.len(), 1);
        let n = h.k.net.ns.get(h.ns).unwrap().tcp.account.nagled;
        assert_eq!(n.map_or(0, |n| n.count), told, "{n:?}");
        assert!(n.is_none_or(|n| (39..=41).contains(&n.total_ms) && n.peer == (PEER.into(), 2000)), "{n:?}");
    }
}

#[test]
fn which_socket_had_no_room_for_a_datagram_and_from_whom() {
    let mut h = Host::new();
    let s = h.udp_on(LO, 9000);
    h.set(s, SOL_SOCKET, SO_RCVBUF, 2048).unwrap();
    let c = h.udp_on(LO, 9001);
    for _ in 0..40 {
        h.send_to(c, &[0; 500], LO, 9000).unwrap();
    }
    let dropped = h.counter(Mib::UdpRcvbufErrors);
    assert!(dropped > 30);
    let full = &h.k.net.ns.get(h.ns).unwrap().udp.full;
    assert_eq!(*full, [Full { local: (LO.into(), 9000), rcvbuf: 4096, count: dropped, last: (LO.into(), 9001) }]);
}
