//! Sending and receiving beyond the plain: what is held back, what is told beside the data, what is dropped.
mod common;
mod peer;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::tcp::{Flags, TcpOptions};
use common::*;
use peer::*;

/// An accepted connection from port 4000 and our next number.
fn connection() -> (Host, Fd, u32) {
    let mut h = Host::new();
    h.know_peer();
    let l = h.listener(5);
    let next = h.handshake(4000, TcpOptions { mss: Some(1000), ..TcpOptions::default() });
    let fd = h.accept(l).unwrap();
    (h, fd, next)
}

fn recv(h: &mut Host, fd: Fd, len: usize) -> (usize, Vec<Cmsg>) {
    match h.call(Call::Recv { fd, len, flags: 0 }) {
        Ok(Ret::Data(d)) => (d.segs.len(), d.cmsgs),
        r => panic!("{r:?}"),
    }
}

#[test]
fn tcp_inq_says_what_is_left_and_then_that_the_end_is_next() {
    let (mut h, fd, next) = connection();
    h.set(fd, SOL_TCP, TCP_INQ, 1).unwrap();
    h.tcp(seg(4000, Flags::ACK | Flags::FIN, ISN + 1, next).data(&[1; 900]));
    let inq = |n: i32| vec![Cmsg { level: SOL_TCP, kind: TCP_CM_INQ, data: n.to_ne_bytes().to_vec() }];
    assert_eq!(recv(&mut h, fd, 200), (200, inq(701)));
    assert_eq!(recv(&mut h, fd, 700), (700, inq(1)));
}

#[test]
fn a_bare_fin_is_acknowledged_in_the_next_tick() {
    let (mut h, _, next) = connection();
    h.tcp(seg(4000, Flags::ACK | Flags::FIN, ISN + 1, next));
    h.advance(8 * MS);
    let a = h.answers();
    assert_eq!((a.len(), a[0].ack), (1, ISN + 2));
}

#[test]
fn notsent_lowat_holds_writes_back_but_not_what_is_sent() {
    let (mut h, fd, _) = connection();
    h.set(fd, SOL_TCP, TCP_NOTSENT_LOWAT, 2000).unwrap();
    // Ten segments go at once; behind them the limit counts.
    let Ok(Ret::Int(n)) = h.send(fd, &[1; 60_000]) else { panic!() };
    let sent: usize = h.answers().iter().map(|s| s.data.len()).sum();
    assert_eq!(sent, 10_000);
    assert!(n > 10_000 && n < 60_000, "{n}");
    assert_eq!(h.send(fd, b"more"), Err(Errno::EAGAIN));
}

#[test]
fn a_signature_without_a_key_is_dropped_not_answered() {
    let (mut h, fd, next) = connection();
    let signed = TcpOptions { md5: true, ..TcpOptions::default() };
    assert_eq!(TcpOptions::parse(&[&[19, 18][..], &[0; 16], &[1, 1]].concat()), signed);
    // The helper writes no signatures: one by hand.
    let mut l4 = vec![0; 40];
    let head = belljar_wire::tcp::TcpHeader {
        src_port: 4000,
        dst_port: 80,
        seq: ISN + 1,
        ack: next,
        header_len: 40,
        flags: Flags::ACK | Flags::FIN,
        window: 60_000,
        ..Default::default()
    };
    head.emit(&mut l4);
    l4[20..22].copy_from_slice(&[19, 18]);
    l4[38..].copy_from_slice(&[1, 1]);
    let pseudo = belljar_wire::checksum::pseudo_v4(PEER, HOST, 6, 40);
    let csum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&l4, pseudo));
    belljar_wire::tcp::TcpHeader { csum, ..head }.emit(&mut l4);
    h.rx(ip(from_peer(6), &l4));
    assert_eq!(h.answers(), []);
    assert_eq!(h.counter(Mib::TcpExtTCPMD5Unexpected), 1);
    assert_eq!(h.read(fd), Err(Errno::EAGAIN));
}

#[test]
fn user_timeout_counts_probes_that_this_machine_cannot_send() {
    let (mut h, fd, _) = connection();
    h.set(fd, SOL_TCP, TCP_USER_TIMEOUT, 3000).unwrap();
    h.k.net.devs.get_mut(h.dev).unwrap().tx_queue_len = 0;
    assert_eq!(h.send(fd, &[1; 24]), Ok(Ret::Int(24)));
    h.advance(3 * SEC);
    assert_eq!(h.send(fd, &[1; 24]), Ok(Ret::Int(24)));
    h.advance(SEC);
    assert_eq!(h.send(fd, &[1; 24]), Err(Errno::ETIMEDOUT));
}
