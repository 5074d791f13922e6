//! IPv4 and below: frames in, frames out.
mod common;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_wire::arp::*;
use belljar_wire::ethernet::{EthHeader, Mac};
use belljar_wire::gso;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_UDP};
use common::*;

#[test]
fn a_request_for_our_address_is_answered_and_the_asker_remembered() {
    let mut h = Host::new();
    h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, HOST, Mac::BROADCAST));
    let out = h.sent();
    assert_eq!(out.len(), 1);
    let b = out[0].to_vec();
    assert_eq!(EthHeader::parse(&b).unwrap().dst, PEER_MAC);
    let reply = ArpPacket { op: ARPOP_REPLY, sha: HOST_MAC, spa: HOST, tha: PEER_MAC, tpa: PEER };
    assert_eq!(ArpPacket::parse(&b[14..]).unwrap(), reply);
    h.rx(arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, PEER, Mac::BROADCAST));
    assert!(h.sent().is_empty());
}

#[test]
fn ping_comes_back_with_its_payload() {
    let mut h = Host::new();
    h.know_peer();
    let payload: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    h.rx(ip(from_peer(IPPROTO_ICMP), &echo(7, 1, &payload)));
    let out = h.sent();
    assert_eq!(out.len(), 1);
    let (eth, ip, body) = parse(&out[0]);
    assert_eq!((eth.dst, ip.src, ip.dst, ip.ttl), (PEER_MAC, HOST, PEER, 64));
    let icmp = IcmpHeader::parse(&body).unwrap();
    assert_eq!((icmp.kind, icmp.echo(), &body[8..]), (ICMP_ECHOREPLY, (7, 1), &payload[..]));
    gso::verify(&out[0]).unwrap();
    assert_eq!((h.counter(Mib::IcmpInEchos), h.counter(Mib::IcmpOutEchoReps)), (1, 1));
}

#[test]
fn a_datagram_waits_for_arp_and_then_goes_to_the_gateway() {
    let mut h = Host::new();
    let fd = h.udp();
    h.send_to(fd, b"hello", std::net::Ipv4Addr::new(8, 8, 8, 8), 53).unwrap();
    let ask = h.sent();
    assert_eq!(ArpPacket::parse(&ask[0].to_vec()[14..]).unwrap().tpa, PEER);
    h.rx(arp(ARPOP_REPLY, PEER_MAC, PEER, HOST_MAC, HOST, HOST_MAC));
    let out = h.sent();
    let (eth, ip, body) = parse(&out[0]);
    assert_eq!(
        (eth.dst, ip.proto, ip.df, ip.dst.octets()[0], &body[8..]),
        (PEER_MAC, IPPROTO_UDP, true, 8, &b"hello"[..])
    );
}

#[test]
fn nobody_answers_arp_three_questions_and_the_socket_hears_of_it() {
    let mut h = Host::new();
    let fd = h.udp();
    h.set(fd, SOL_IP, IP_RECVERR, 1).unwrap();
    h.connect(fd, PEER, 9).unwrap();
    h.send(fd, b"x").unwrap();
    h.advance(4 * SEC);
    assert_eq!(h.sent().len(), 3);
    assert_eq!(h.send(fd, b"y"), Err(Errno::EHOSTUNREACH));
    let e = h.recv_flags(fd, 100, MSG_ERRQUEUE).unwrap();
    assert_eq!((e.cmsgs[0].data[0] as i32, e.cmsgs[0].data[4]), (Errno::EHOSTUNREACH.0, 2));
}
