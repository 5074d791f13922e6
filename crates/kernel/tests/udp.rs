//! UDP sockets through system calls.
mod common;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::IPPROTO_UDP;
use common::*;

#[test]
fn over_loopback_with_the_senders_name() {
    let mut h = Host::new();
    let a = h.udp_on(LO, 5000);
    let b = h.udp_on(LO, 6000);
    h.send_to(b, b"ping", LO, 5000).unwrap();
    h.send_to(b, b"", LO, 5000).unwrap();
    assert_eq!(h.recv(a), Ok((b"ping".to_vec(), SockAddr::V4(LO, 6000))));
    assert_eq!(h.recv(a).unwrap().0, b"");
    assert_eq!(h.recv(a), Err(Errno::EAGAIN));
    assert!(h.sent().is_empty());
    assert_eq!((h.counter(Mib::UdpInDatagrams), h.counter(Mib::UdpOutDatagrams)), (2, 2));
}

#[test]
fn a_closed_port_answers_and_the_connected_sender_hears_once() {
    let mut h = Host::new();
    h.know_peer();
    h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"x")));
    let out = h.sent();
    let (_, _, body) = parse(&out[0]);
    assert_eq!((body[0], body[1]), (ICMP_DEST_UNREACH, ICMP_PORT_UNREACH));
    let fd = h.udp();
    h.connect(fd, LO, 9).unwrap();
    h.send(fd, b"x").unwrap();
    assert_eq!(h.send(fd, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(h.recv(fd), Err(Errno::EAGAIN));
}

#[test]
fn a_blocking_receive_is_woken() {
    let mut h = Host::new();
    let a = h.socket(SOCK_DGRAM);
    h.bind(a, LO, 5000).unwrap();
    let Submitted::Parked(id) = h.try_call(Call::Recv { fd: a, len: 10, flags: 0 }) else { panic!() };
    let b = h.udp();
    h.send_to(b, b"wake", LO, 5000).unwrap();
    let (call, result) = h.completions.remove(0);
    let Ok(Ret::Data(d)) = result else { panic!() };
    assert_eq!((call, d.segs.to_vec()), (id, b"wake".to_vec()));
}
