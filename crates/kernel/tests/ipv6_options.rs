//! Options of level SOL_IPV6 about labels, sizes and hops: what they say, and what follows from them. Measured on Linux 6.18.
mod two;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::icmpv6::ICMPV6_PKT_TOOBIG;
use belljar_wire::ipv6::{Ipv6Header, NEXTHDR_FRAGMENT, NEXTHDR_TCP};
use core::net::Ipv6Addr;
use two::*;

fn get(t: &mut Two, fd: Fd, name: i32) -> Result<Vec<u8>, Errno> {
    match t.call(0, Call::GetSockOpt { fd, level: SOL_IPV6, name, len: 200 })? {
        Ret::Opt(b) => Ok(b),
        other => panic!("{other:?}"),
    }
}

fn cmsg(r: &Received, kind: i32) -> Option<Vec<u8>> {
    r.cmsgs.iter().find(|c| (c.level, c.kind) == (SOL_IPV6, kind)).map(|c| c.data.clone())
}

/// A server on host 1 that asks for everything.
fn server(t: &mut Two, options: &[i32]) -> Fd {
    let fd = t.socket(1, SOCK_DGRAM, 0);
    t.bind(1, fd, Ipv6Addr::UNSPECIFIED, 5000).unwrap();
    options.iter().for_each(|o| _ = t.set(1, fd, *o, 1).unwrap());
    fd
}

#[test]
fn a_flow_label_goes_with_the_address() {
    let mut t = Two::new();
    let s = server(&mut t, &[IPV6_FLOWINFO]);
    let c = t.socket(0, SOCK_DGRAM, 0);
    let to = |flowinfo| SockAddr::V6 { addr: B, port: 5000, flowinfo, scope: 0 }.emit();
    t.set(0, c, IPV6_FLOWINFO_SEND, 1).unwrap();
    let data = || Payload::Bytes(b"x");
    t.int(0, Call::Send { fd: c, data: data(), flags: 0, to: Some(&to(0x34567)), cmsgs: &[] }).unwrap();
    let r = t.recv(1, s).unwrap();
    assert_eq!(cmsg(&r, IPV6_FLOWINFO), Some(vec![0, 3, 0x45, 0x67]));
    t.int(0, Call::Connect { fd: c, addr: &to(0x54321) }).unwrap();
    t.send(0, c, b"x", None).unwrap();
    assert_eq!(cmsg(&t.recv(1, s).unwrap(), IPV6_FLOWINFO), Some(vec![0, 5, 0x43, 0x21]));
    let peer = |t: &mut Two| match t.call(0, Call::GetPeerName { fd: c }).unwrap() {
        Ret::Addr(SockAddr::V6 { flowinfo, .. }) => flowinfo,
        other => panic!("{other:?}"),
    };
    assert_eq!(peer(&mut t), 0x54321);
    // The label of the connection stays; nobody is told it any more.
    t.set(0, c, IPV6_FLOWINFO_SEND, 0).unwrap();
    t.send(0, c, b"x", None).unwrap();
    assert_eq!(cmsg(&t.recv(1, s).unwrap(), IPV6_FLOWINFO), Some(vec![0, 5, 0x43, 0x21]));
    assert_eq!(peer(&mut t), 0);
}

#[test]
fn pieces_tell_how_large_they_were_and_can_be_made_smaller() {
    let mut t = Two::new();
    let s = server(&mut t, &[IPV6_RECVFRAGSIZE]);
    let c = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(
        (t.set(0, c, IPV6_MTU, 1279).map(drop), t.set(0, c, IPV6_MTU, 0).map(drop)),
        (Err(Errno::EINVAL), Ok(()))
    );
    for (mtu, size, largest) in [(0, 4000, Some(1496)), (1300, 4000, Some(1296)), (1300, 1400, None)] {
        t.set(0, c, IPV6_MTU, mtu).unwrap();
        t.send(0, c, &vec![7; size], Some((B, 5000))).unwrap();
        let r = t.recv(1, s).unwrap();
        let told = cmsg(&r, IPV6_RECVFRAGSIZE).map(|b| i32::from_ne_bytes(b.try_into().unwrap()));
        assert_eq!((r.segs.len(), told), (size, largest));
    }
    // What must not be cut is bounded by it.
    t.set(0, c, IPV6_DONTFRAG, 1).unwrap();
    assert_eq!(t.send(0, c, &[7; 1400], Some((B, 5000))), Err(Errno::EMSGSIZE));
}

#[test]
fn the_longest_datagram_has_65527_bytes() {
    let mut t = Two::new();
    let s = server(&mut t, &[]);
    let c = t.socket(0, SOCK_DGRAM, 0);
    assert_eq!(t.send(0, c, &[1; 65_527], Some((B, 5000))), Ok(65_527));
    assert_eq!(t.recv(1, s).unwrap().segs.len(), 65_527);
    assert_eq!(t.send(0, c, &[1; 65_528], Some((B, 5000))), Err(Errno::EMSGSIZE));
}

#[test]
fn what_dontfrag_kept_back_says_how_much_would_fit() {
    let mut t = Two::new();
    let c = t.socket(0, SOCK_DGRAM, 0);
    for o in [IPV6_RECVPATHMTU, IPV6_DONTFRAG] {
        t.set(0, c, o, 1).unwrap();
    }
    assert_eq!(t.send(0, c, &[1; 3000], Some((B, 9))), Err(Errno::EMSGSIZE));
    let r = t.recv(0, c).unwrap();
    let info = cmsg(&r, IPV6_PATHMTU).unwrap();
    assert_eq!(
        (r.segs.len(), info.len(), &info[8..24], &info[28..]),
        (0, 32, &B.octets()[..], &1500u32.to_ne_bytes()[..])
    );
    assert_eq!(t.recv(0, c).map(drop), Err(Errno::EAGAIN), "told once");
    assert_eq!(get(&mut t, c, IPV6_PATHMTU), Err(Errno::ENOTCONN));
    t.connect(0, c, B, 9).unwrap();
    assert_eq!(get(&mut t, c, IPV6_PATHMTU).unwrap(), [&[0; 28][..], &1500u32.to_ne_bytes()].concat());
}

#[test]
fn segments_from_too_far_are_not_taken() {
    let mut t = Two::new();
    let l = t.socket(1, SOCK_STREAM, 0);
    t.bind(1, l, Ipv6Addr::UNSPECIFIED, 80).unwrap();
    t.int(1, Call::Listen { fd: l, backlog: 8 }).unwrap();
    assert_eq!(t.set(1, l, IPV6_MINHOPCOUNT, 256).map(drop), Err(Errno::EINVAL));
    t.set(1, l, IPV6_MINHOPCOUNT, 65).unwrap();
    let c = t.socket(0, SOCK_STREAM, 0);
    assert_eq!(t.connect(0, c, B, 80), Err(Errno::EINPROGRESS));
    assert_eq!((t.connect(0, c, B, 80), t.count(1, Mib::TcpExtTCPMinTTLDrop)), (Err(Errno::EALREADY), 1));
    t.set(1, l, IPV6_MINHOPCOUNT, 64).unwrap();
    t.sleep(1100);
    assert_eq!(t.connect(0, c, B, 80), Ok(0));
}

#[test]
fn an_interface_for_what_is_for_one_host() {
    let mut t = Two::new();
    let c = t.socket(0, SOCK_DGRAM, 0);
    let index = 1u32.to_be() as i32;
    assert_eq!(t.set(0, c, IPV6_UNICAST_IF, 9u32.to_be() as i32).map(drop), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(t.send(0, c, b"x", Some((B, 9))), Ok(1));
    // Loopback leads to nobody else.
    t.set(0, c, IPV6_UNICAST_IF, index).unwrap();
    assert_eq!(get(&mut t, c, IPV6_UNICAST_IF).unwrap(), index.to_ne_bytes());
    assert_eq!(t.send(0, c, b"x", Some((B, 9))), Err(Errno::ENETUNREACH));
    t.set(0, c, IPV6_UNICAST_IF, 0).unwrap();
    assert_eq!(t.send(0, c, b"x", Some((B, 9))), Ok(1));
}

#[test]
fn no_piece_is_longer_than_the_path_takes() {
    let mut t = Two::with(1280);
    let c = t.socket(0, SOCK_DGRAM, 0);
    t.set(0, c, IPV6_MTU, 9000).unwrap();
    t.seen.clear();
    t.send(0, c, &[1; 3000], Some((B, 9))).unwrap();
    let packets: Vec<Vec<u8>> = t.seen.iter().map(|f| f.to_vec().split_off(14)).collect();
    let pieces: Vec<&Vec<u8>> = packets
        .iter()
        .filter(|p| Ipv6Header::parse(p).is_ok_and(|ip| ip.src == A && ip.next == NEXTHDR_FRAGMENT))
        .collect();
    assert!(pieces.len() == 3 && pieces.iter().all(|p| p.len() <= 1280));
}

/// tcp_min_snd_mss above what the link carries: nothing arrives, and nothing spins.
#[test]
fn segments_that_cannot_go_out_do_not_keep_the_sender_busy() {
    let mut t = Two::new();
    let l = t.socket(1, SOCK_STREAM, 0);
    t.bind(1, l, Ipv6Addr::UNSPECIFIED, 80).unwrap();
    t.int(1, Call::Listen { fd: l, backlog: 8 }).unwrap();
    let c = t.socket(0, SOCK_STREAM, 0);
    t.k.net.devs.get_mut(t.dev[0]).unwrap().features.orphan = false;
    t.connect(0, c, B, 80).unwrap_err();
    for (key, value) in [("tcp_min_snd_mss", "1400"), ("tcp_limit_output_bytes", "0")] {
        t.k.sysctl_set(t.ns[0], &format!("net.ipv4.{key}"), value).unwrap();
    }
    // Nobody answers any more, and then a router says that the path is narrow.
    t.k.net.set_carrier(t.dev[1], false);
    t.sent(NEXTHDR_TCP);
    t.send(0, c, &[1; 60_000], None).unwrap();
    let quote = t.sent(NEXTHDR_TCP).remove(0);
    let m = [&[ICMPV6_PKT_TOOBIG, 0, 0, 0, 0, 0, 5, 0][..], &quote[..1000]].concat();
    t.rx_icmp(64, B, A, m);
    t.sleep(5000);
    assert!(t.count(0, Mib::Ip6FragFails) < 100);
}

#[test]
fn the_sum_of_a_raw_packet_is_the_kernels_where_it_was_told() {
    let mut t = Two::new();
    let raw = |t: &mut Two, protocol| t.socket(0, SOCK_RAW, protocol);
    let get = |t: &mut Two, fd| i32::from_ne_bytes(get(t, fd, IPV6_CHECKSUM).unwrap()[..4].try_into().unwrap());
    let (a, b, icmp) = (raw(&mut t, 200), raw(&mut t, 200), raw(&mut t, IPPROTO_ICMPV6));
    assert_eq!((get(&mut t, a), get(&mut t, icmp)), (-1, 2));
    assert_eq!(t.set(0, a, IPV6_CHECKSUM, 3), Err(Errno::EINVAL));
    assert_eq!(t.set(0, icmp, IPV6_CHECKSUM, 4), Err(Errno::EINVAL));
    t.set(0, a, IPV6_CHECKSUM, 2).unwrap();
    for (sent, got) in
        [(&[1, 2, 0xff, 0xff, 5, 6][..], &[1, 2, 0xf9, 0x27, 5, 6][..]), (&[1, 2, 3, 4], &[1, 2, 0xfe, 0x2f])]
    {
        t.send(0, a, sent, Some((LO, 0))).unwrap();
        assert_eq!(t.recv(0, b).unwrap().segs.to_vec(), got);
    }
    assert_eq!(t.send(0, a, &[1, 2, 3], Some((LO, 0))), Err(Errno::EINVAL));
    for n in 0..5 {
        let said = [Err(Errno::EFAULT), Err(Errno::EFAULT), Err(Errno::EINVAL), Err(Errno::EINVAL), Ok(4)];
        assert_eq!(t.send(0, icmp, &vec![0; n], Some((LO, 0))), said[n]);
    }
    // Who has it looks at what comes, too.
    let before = t.k.socks.raw.iter().map(|(_, s)| s.sk.drops).sum::<u32>();
    t.send(0, b, &[1, 2, 3, 4], Some((LO, 0))).unwrap();
    assert_eq!(
        (t.recv(0, a).map(drop), t.recv(0, b).unwrap().segs.to_vec()),
        (t.recv(0, a).map(drop), vec![1, 2, 3, 4])
    );
    assert_eq!(t.k.socks.raw.iter().map(|(_, s)| s.sk.drops).sum::<u32>(), before + 1);
    assert!(t.call(0, Call::GetSockOpt { fd: a, level: SOL_IP, name: IP_TTL, len: 4 }).is_err());
}

#[test]
fn datagrams_without_a_sum_are_for_those_who_do_without() {
    let mut t = Two::new();
    let s = server(&mut t, &[]);
    let c = t.socket(0, SOCK_DGRAM, 0);
    let set = |t: &mut Two, who, fd, name| {
        t.call(who, Call::SetSockOpt { fd, level: SOL_UDP, name, value: &1i32.to_ne_bytes() }).unwrap();
    };
    set(&mut t, 0, c, UDP_NO_CHECK6_TX);
    t.send(0, c, b"x", Some((B, 5000))).unwrap();
    assert_eq!(t.recv(1, s).map(drop), Err(Errno::EAGAIN));
    assert_eq!(
        (t.count(1, Mib::Udp6InCsumErrors), t.count(1, Mib::Udp6InErrors), t.count(1, Mib::Udp6NoPorts)),
        (1, 1, 0)
    );
    set(&mut t, 1, s, UDP_NO_CHECK6_RX);
    t.send(0, c, b"x", Some((B, 5000))).unwrap();
    assert_eq!(t.recv(1, s).unwrap().segs.to_vec(), b"x");
    let udp = t.sent(17);
    assert!(udp.iter().all(|p| p[46..48] == [0, 0]), "{udp:?}");
    t.call(0, Call::SetSockOpt { fd: c, level: SOL_UDP, name: UDP_SEGMENT, value: &10i32.to_ne_bytes() }).unwrap();
    assert_eq!(t.send(0, c, &[0; 100], Some((B, 5000))), Err(Errno::EINVAL));
}
