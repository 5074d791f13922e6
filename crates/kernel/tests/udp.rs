//! UDP sockets through system calls.
mod common;
use belljar_abi::ioctl::{SIOCINQ, SIOCOUTQ};
use belljar_abi::*;
use belljar_kernel::net::mib::{GROUPS, Mib};
use belljar_kernel::task::call::*;
use belljar_wire::icmp::*;
use belljar_wire::ipv4::{IPPROTO_UDP, Ipv4Header};
use common::*;
use std::net::Ipv4Addr;

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

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn the_most_special_socket_wins_and_among_equals_the_newest() {
    let mut h = Host::new();
    let share = |h: &mut Host, addr, option| {
        let fd = h.udp();
        h.set(fd, SOL_SOCKET, option, 1).unwrap();
        h.bind(fd, addr, 5000).unwrap();
        fd
    };
    let from = h.udp_on(LO, 6000);
    let any = share(&mut h, ANY, SO_REUSEADDR);
    let who = |h: &mut Host, fds: &[Fd]| {
        h.send_to(from, b"x", LO, 5000).unwrap();
        let mut got = fds.iter().filter(|fd| h.recv(**fd).is_ok()).copied().collect::<Vec<_>>();
        assert_eq!(got.len(), 1);
        got.remove(0)
    };
    assert_eq!(who(&mut h, &[any]), any);
    let exact = share(&mut h, LO, SO_REUSEADDR);
    let newest = share(&mut h, LO, SO_REUSEADDR);
    let older_any = share(&mut h, ANY, SO_REUSEADDR);
    let all = [any, exact, newest, older_any];
    assert_eq!(who(&mut h, &all), newest);
    h.call(Call::Close { fd: newest }).unwrap();
    assert_eq!(who(&mut h, &[any, exact, older_any]), exact);
    h.connect(any, LO, 6000).unwrap();
    assert_eq!(who(&mut h, &[any, exact, older_any]), any);
    // A broadcast goes to all that are not connected elsewhere.
    let caster = h.udp();
    h.set(caster, SOL_SOCKET, SO_BROADCAST, 1).unwrap();
    let (a, b) = (h.udp(), h.udp());
    for fd in [a, b] {
        h.set(fd, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        h.bind(fd, ANY, 5001).unwrap();
    }
    h.send_to(caster, b"all", Ipv4Addr::new(10, 0, 2, 255), 5001).unwrap();
    assert_eq!((h.recv(a).is_ok(), h.recv(b).is_ok()), (true, true));
}

#[test]
fn a_group_shares_by_hash() {
    let mut h = Host::new();
    let group: Vec<Fd> = (0..4)
        .map(|_| {
            let fd = h.udp();
            h.set(fd, SOL_SOCKET, SO_REUSEPORT, 1).unwrap();
            h.bind(fd, LO, 5000).unwrap();
            fd
        })
        .collect();
    let mut counts = [0; 4];
    for _ in 0..200 {
        let c = h.udp();
        h.connect(c, LO, 5000).unwrap();
        let mut seen = vec![];
        for _ in 0..3 {
            h.send(c, b"x").unwrap();
            let i = group.iter().position(|fd| h.recv(*fd).is_ok()).unwrap();
            counts[i] += 1;
            seen.push(i);
        }
        assert!(seen.iter().all(|i| *i == seen[0]));
        h.call(Call::Close { fd: c }).unwrap();
    }
    assert!(counts.iter().all(|n| *n > 80), "{counts:?}");
}

/// bind() of a second socket: (address, reuse, reuseport) against the first.
#[test]
fn who_may_share_a_port() {
    let other = Ipv4Addr::new(127, 0, 0, 2);
    for (a, b, overlap) in [(LO, LO, true), (LO, other, false), (ANY, LO, true), (LO, ANY, true), (ANY, ANY, true)] {
        for bits in 0..16 {
            let [ra1, rp1, ra2, rp2] = [1, 2, 4, 8].map(|b| i32::from(bits & b != 0));
            let mut h = Host::new();
            let (x, y) = (h.udp(), h.udp());
            for (fd, ra, rp) in [(x, ra1, rp1), (y, ra2, rp2)] {
                h.set(fd, SOL_SOCKET, SO_REUSEADDR, ra).unwrap();
                h.set(fd, SOL_SOCKET, SO_REUSEPORT, rp).unwrap();
            }
            h.bind(x, a, 5000).unwrap();
            let want = !overlap || ra1 + ra2 == 2 || rp1 + rp2 == 2;
            assert_eq!(h.bind(y, b, 5000).is_ok(), want, "{a} {b} {bits}");
        }
    }
}

#[test]
fn names_ports_and_errors() {
    let mut h = Host::new();
    let fd = h.udp();
    assert_eq!(h.send(fd, b"x"), Err(Errno::EDESTADDRREQ));
    assert_eq!(h.send_to(fd, b"x", LO, 0), Err(Errno::EINVAL));
    let name = |h: &mut Host, fd| match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(SockAddr::V4(a, p))) => (a, p),
        r => panic!("{r:?}"),
    };
    assert_eq!(name(&mut h, fd), (ANY, 0));
    h.send_to(fd, b"x", LO, 9).unwrap();
    let (a, p) = name(&mut h, fd);
    assert!(a == ANY && (32_768..=60_999).contains(&p));
    assert_eq!(h.bind(fd, LO, 5000), Err(Errno::EINVAL));
    h.connect(fd, LO, 9).unwrap();
    assert_eq!(name(&mut h, fd), (LO, p));
    h.call(Call::Connect { fd, addr: &SockAddr::Unspec.emit() }).unwrap();
    assert_eq!(name(&mut h, fd), (ANY, 0));
    let fixed = h.udp_on(HOST, 5000);
    h.connect(fixed, PEER, 9).unwrap();
    h.call(Call::Connect { fd: fixed, addr: &SockAddr::Unspec.emit() }).unwrap();
    assert_eq!(name(&mut h, fixed), (HOST, 5000));
    let x = h.udp();
    assert_eq!(h.bind(x, PEER, 5000), Err(Errno::EADDRNOTAVAIL));
    h.set(x, SOL_IP, IP_FREEBIND, 1).unwrap();
    h.bind(x, PEER, 5000).unwrap();
    let y = h.udp();
    assert_eq!(h.call(Call::Shutdown { fd: y, how: SHUT_RD }), Err(Errno::ENOTCONN));
    h.connect(y, LO, 9).unwrap();
    h.call(Call::Shutdown { fd: y, how: SHUT_WR }).unwrap();
    assert_eq!(h.send(y, b"x"), Err(Errno::EPIPE));
    assert_eq!(h.set(y, SOL_UDP, UDP_ENCAP, 1), Err(Errno::ENOPROTOOPT));
}

#[test]
fn used_up_ports() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.ip_local_port_range", "40000 40001");
    h.sysctl("net.ipv4.ip_local_reserved_ports", "40001");
    let fd = h.udp();
    h.bind(fd, ANY, 0).unwrap();
    let (x, y) = (h.udp(), h.udp());
    assert_eq!(h.bind(x, ANY, 0), Err(Errno::EADDRINUSE));
    assert_eq!(h.connect(y, LO, 9), Err(Errno::EAGAIN));
    assert_eq!(h.send_to(y, b"x", LO, 9), Err(Errno::EAGAIN));
}

#[test]
fn peek_truncate_and_what_comes_beside() {
    let mut h = Host::new();
    let a = h.udp_on(ANY, 5000);
    let b = h.udp_on(LO, 6000);
    for name in [IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR] {
        h.set(a, SOL_IP, name, 1).unwrap();
    }
    h.set(b, SOL_IP, IP_TTL, 9).unwrap();
    h.set(b, SOL_IP, IP_TOS, 0x10).unwrap();
    h.send_to(b, b"hello", LO, 5000).unwrap();
    let d = h.recv_flags(a, 2, MSG_PEEK).unwrap();
    assert_eq!((d.segs.to_vec(), d.flags, d.full_len), (b"he".to_vec(), MSG_TRUNC, 5));
    assert!(matches!(h.call(Call::Ioctl { fd: a, request: SIOCINQ.into(), arg: 0 }), Ok(Ret::Int(5))));
    let d = h.recv_flags(a, 100, 0).unwrap();
    let kinds: Vec<_> = d.cmsgs.iter().map(|c| (c.kind, c.data.clone())).collect();
    let dst = SockAddr::V4(LO, 5000).emit().to_vec();
    let pktinfo = [1, 0, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1].to_vec();
    let want = [(IP_PKTINFO, pktinfo), (IP_TTL, vec![9, 0, 0, 0]), (IP_TOS, vec![0x10]), (IP_ORIGDSTADDR, dst)];
    assert_eq!(kinds, want);
    // Parts joined by MSG_MORE are one datagram.
    let to = SockAddr::V4(LO, 5000).emit();
    for (part, flags) in [(&b"one "[..], MSG_MORE), (b"two", 0)] {
        h.call(Call::Send { fd: b, data: Payload::Bytes(part), flags, to: Some(&to), cmsgs: &[] }).unwrap();
    }
    assert_eq!(h.recv(a).unwrap().0, b"one two");
}

#[test]
fn wrong_checksums_and_lengths_die() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(HOST, 7);
    let good = udp((PEER, 9), (HOST, 7), b"data");
    let mut with = |f: fn(&mut Vec<u8>)| {
        let mut b = good.clone();
        f(&mut b);
        h.rx(ip(from_peer(IPPROTO_UDP), &b));
        h.recv(fd).is_ok()
    };
    assert!(!with(|b| b[8] ^= 1));
    assert!(with(|b| b[6..8].fill(0)));
    assert!(!with(|b| b[5] = 7));
    assert!(!with(|b| b[5] = 200));
    assert_eq!((h.counter(Mib::UdpInCsumErrors), h.counter(Mib::UdpInErrors)), (1, 3));
}

/// A gateway takes what is meant for anybody, and answers from the address that was asked.
#[test]
fn a_transparent_socket_stands_for_everybody() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(ANY, 9999);
    h.set(fd, SOL_IP, IP_RECVORIGDSTADDR, 1).unwrap();
    let far = Ipv4Addr::new(8, 8, 8, 8);
    let udp_id = h.k.socks.udp.iter().next().unwrap().0;
    let t = belljar_kernel::net::netns::Tproxy { dev: h.dev, tcp: None, udp: Some(udp_id) };
    h.k.net.ns.get_mut(h.ns).unwrap().tproxy = Some(t);
    h.rx(ip(Ipv4Header { dst: far, ..from_peer(IPPROTO_UDP) }, &udp((PEER, 4000), (far, 53), b"query")));
    let d = h.recv_flags(fd, 100, 0).unwrap();
    assert_eq!((d.segs.to_vec(), d.from), (b"query".to_vec(), Some(SockAddr::V4(PEER, 4000))));
    assert_eq!(d.cmsgs[0].data, SockAddr::V4(far, 53).emit().to_vec());
    let back = h.udp();
    h.set(back, SOL_IP, IP_TRANSPARENT, 1).unwrap();
    h.bind(back, far, 53).unwrap();
    h.send_to(back, b"answer", PEER, 4000).unwrap();
    let (_, ip, body) = parse(&h.sent()[0]);
    assert_eq!((ip.src, ip.dst, &body[..2], &body[8..]), (far, PEER, &[0, 53][..], &b"answer"[..]));
}

/// Between the first and the third value of udp_mem only sockets with less than udp_rmem_min get memory.
#[test]
fn under_pressure_everybody_has_a_little() {
    let mut h = Host::new();
    let (a, b, c) = (h.udp_on(LO, 5000), h.udp_on(LO, 5001), h.udp());
    h.k.sysctl_set(h.ns, "net.ipv4.udp_mem", "0 100 1000").unwrap();
    for port in [5000, 5001] {
        (0..10).for_each(|_| _ = h.send_to(c, b"x", LO, port));
    }
    let mut all = |fd| std::iter::from_fn(|| h.recv(fd).ok()).count();
    // Each takes 832 bytes.
    assert_eq!((all(a), all(b)), (4, 4));
    assert_eq!(h.counter(Mib::UdpMemErrors), 12);
}

#[test]
fn new_sockets_do_not_discover_where_they_are_told_not_to() {
    let mut h = Host::new();
    h.know_peer();
    for (value, df) in [("0", true), ("1", false)] {
        h.sysctl("net.ipv4.ip_no_pmtu_disc", value);
        let fd = h.udp();
        h.send_to(fd, b"x", PEER, 9).unwrap();
        assert_eq!(parse(&h.sent()[0]).1.df, df);
        assert_eq!(h.get(fd, SOL_IP, IP_MTU_DISCOVER), i32::from(df));
        let tcp = h.socket(SOCK_STREAM);
        assert_eq!(h.get(tcp, SOL_IP, IP_MTU_DISCOVER), i32::from(df));
    }
}

/// What most sends are has a way of its own: the same packets, counters and memory as by the long one, which MSG_CONFIRM asks
/// for.
#[test]
fn a_plain_send_is_the_send_that_it_shortens() {
    let options: &[&[(i32, i32, i32)]] = &[
        &[],
        &[(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)],
        &[(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)],
        &[(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)],
        &[(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_INTERFACE)],
        &[(SOL_IP, IP_TOS, 0x88), (SOL_IP, IP_TTL, 3), (SOL_SOCKET, SO_PRIORITY, 5), (SOL_SOCKET, SO_MARK, 9)],
        &[(SOL_SOCKET, SO_NO_CHECK, 1), (SOL_IP, IP_RECVERR, 1)],
        &[(SOL_SOCKET, SO_DONTROUTE, 1), (SOL_UDP, UDP_SEGMENT, 100)],
    ];
    for set in options {
        let [plain, long] = [0, MSG_CONFIRM].map(|flag| {
            let mut h = Host::new();
            h.know_peer();
            let fd = h.udp_on(ANY, 5000);
            for &(level, name, v) in *set {
                h.set(fd, level, name, v).unwrap();
            }
            h.connect(fd, PEER, 7).unwrap();
            let mut results = Vec::new();
            for n in [0, 1, 64, 1471, 1472, 1473, 3000] {
                let data = vec![n as u8; n];
                let flags = MSG_DONTWAIT | flag;
                let call = Call::Send { fd, data: Payload::Bytes(&data), flags, to: None, cmsgs: &[] };
                results.push((h.call(call), h.call(Call::Ioctl { fd, request: SIOCOUTQ.into(), arg: 0 })));
            }
            let frames: Vec<_> = h.sent().iter().map(|f| (f.to_vec(), f.csum, f.gso)).collect();
            let all = GROUPS.iter().flat_map(|(_, group)| group.iter());
            let mib: Vec<u64> = all.map(|(m, _)| h.counter(*m)).collect();
            (results, frames, mib)
        });
        assert!(plain.1.len() > 4);
        assert_eq!(plain, long, "{set:?}");
    }
}
