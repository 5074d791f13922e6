//! listen(2) and accept(2): limits, order, what a connection inherits, how a listener ends, who gets a connection.
mod common;
use belljar_abi::*;
use belljar_kernel::ids::TaskId;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use common::*;
use std::net::Ipv4Addr;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn stream(h: &mut Host) -> Fd {
    h.socket(SOCK_STREAM | SOCK_NONBLOCK)
}

fn listen(h: &mut Host, fd: Fd, backlog: i32) -> SysResult {
    h.call(Call::Listen { fd, backlog })
}

fn listener(h: &mut Host, addr: Ipv4Addr, port: u16, backlog: i32) -> Fd {
    let fd = stream(h);
    h.bind(fd, addr, port).unwrap();
    listen(h, fd, backlog).unwrap();
    fd
}

fn client(h: &mut Host, to: Ipv4Addr, port: u16) -> Fd {
    let fd = stream(h);
    assert_eq!(h.connect(fd, to, port), Err(Errno::EINPROGRESS));
    h.advance(MS);
    fd
}

fn accept(h: &mut Host, fd: Fd) -> Result<Fd, Errno> {
    match h.call(Call::Accept { fd, flags: 0 })? {
        Ret::Accepted { fd, .. } => Ok(fd),
        r => panic!("{r:?}"),
    }
}

fn info(h: &mut Host, fd: Fd) -> TcpInfo {
    match h.call(Call::GetSockOpt { fd, level: SOL_TCP, name: TCP_INFO, len: 280 }) {
        Ok(Ret::Opt(b)) => TcpInfo::parse(&b),
        r => panic!("{r:?}"),
    }
}

#[test]
fn the_queue_takes_one_more_than_its_limit_and_the_limit_is_bounded() {
    for (backlog, limit) in [(0, 0), (1, 1), (5, 5), (100, 8), (-1, 8)] {
        let mut h = Host::new();
        h.sysctl("net.core.somaxconn", "8");
        let l = listener(&mut h, LO, 80, backlog);
        (0..20).for_each(|_| _ = client(&mut h, LO, 80));
        let i = info(&mut h, l);
        assert_eq!((i.state, i.unacked, i.sacked), (TCP_LISTEN, limit + 1, limit));
        assert!(h.counter(Mib::TcpExtListenOverflows) > 0);
        assert_eq!(h.counter(Mib::TcpExtListenOverflows), h.counter(Mib::TcpExtListenDrops));
        // A lower setting does not touch it, a new listen() does.
        h.sysctl("net.core.somaxconn", "2");
        assert_eq!(info(&mut h, l).sacked, limit);
        listen(&mut h, l, 100).unwrap();
        assert_eq!((info(&mut h, l).sacked, info(&mut h, l).unacked), (2, limit + 1));
    }
}

#[test]
fn accept_is_fifo_and_knows_who_came_with_what() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80, 8);
    assert_eq!(accept(&mut h, l), Err(Errno::EAGAIN));
    let clients: Vec<Fd> = (0..3).map(|_| client(&mut h, LO, 80)).collect();
    h.send(clients[0], b"early").unwrap();
    h.advance(MS);
    for c in clients {
        let mine = match h.call(Call::GetSockName { fd: c }) {
            Ok(Ret::Addr(a)) => a,
            r => panic!("{r:?}"),
        };
        match h.call(Call::Accept { fd: l, flags: 0 }) {
            Ok(Ret::Accepted { fd, peer }) => {
                assert_eq!(peer, mine);
                assert_eq!(h.get(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
            }
            r => panic!("{r:?}"),
        }
    }
    assert_eq!(h.get(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
}

#[test]
fn a_connection_inherits_the_listeners_options() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80, 8);
    for (level, name, v) in [
        (SOL_SOCKET, SO_KEEPALIVE, 1),
        (SOL_SOCKET, SO_REUSEADDR, 1),
        (SOL_TCP, TCP_NODELAY, 1),
        (SOL_TCP, TCP_KEEPIDLE, 33),
        (SOL_TCP, TCP_USER_TIMEOUT, 1234),
        (SOL_IP, IP_TTL, 9),
    ] {
        h.set(l, level, name, v).unwrap();
    }
    h.set(l, SOL_SOCKET, SO_RCVBUF, 40_000).unwrap();
    h.call(Call::SetSockOpt { fd: l, level: SOL_TCP, name: TCP_CONGESTION, value: b"reno" }).unwrap();
    client(&mut h, LO, 80);
    let s = accept(&mut h, l).unwrap();
    assert_eq!(h.get(s, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_eq!(h.get(s, SOL_SOCKET, SO_REUSEADDR), 1);
    assert_eq!(h.get(s, SOL_SOCKET, SO_RCVBUF), 80_000);
    assert_eq!(h.get(s, SOL_TCP, TCP_NODELAY), 1);
    assert_eq!(h.get(s, SOL_TCP, TCP_KEEPIDLE), 33);
    assert_eq!(h.get(s, SOL_TCP, TCP_USER_TIMEOUT), 1234);
    assert_eq!(h.get(s, SOL_IP, IP_TTL), 9);
    assert_eq!(h.get(s, SOL_TCP, TCP_CONGESTION), i32::from_ne_bytes(*b"reno"));
}

#[test]
fn what_listen_refuses_and_what_a_listener_refuses() {
    let mut h = Host::new();
    let udp = h.udp();
    assert_eq!(listen(&mut h, udp, 1), Err(Errno::EOPNOTSUPP));
    let l = stream(&mut h);
    listen(&mut h, l, 1).unwrap();
    match h.call(Call::GetSockName { fd: l }) {
        Ok(Ret::Addr(SockAddr::V4(a, p))) => assert!(a.is_unspecified() && p >= 32768),
        r => panic!("{r:?}"),
    }
    assert_eq!(h.bind(l, LO, 99), Err(Errno::EINVAL));
    assert_eq!(h.send(l, b"x"), Err(Errno::EPIPE));
    assert_eq!(h.recv_flags(l, 1, 0).map(|_| ()), Err(Errno::ENOTCONN));
    assert_eq!(h.call(Call::GetPeerName { fd: l }), Err(Errno::ENOTCONN));
    let l80 = listener(&mut h, LO, 80, 1);
    let c = client(&mut h, LO, 80);
    assert_eq!(listen(&mut h, c, 1), Err(Errno::EINVAL));
    let lost = client(&mut h, PEER, 80);
    assert_eq!(listen(&mut h, lost, 1), Err(Errno::EINVAL));
    assert_eq!(accept(&mut h, c), Err(Errno::EINVAL));
    let s = accept(&mut h, l80).unwrap();
    assert_eq!(listen(&mut h, s, 1), Err(Errno::EINVAL));
}

#[test]
fn shutdown_takes_a_listener_back_to_close_and_listen_again_works() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80, 8);
    let c = client(&mut h, LO, 80);
    h.call(Call::Shutdown { fd: l, how: SHUT_WR }).unwrap();
    assert_eq!(info(&mut h, l).unacked, 1);
    h.call(Call::Shutdown { fd: l, how: SHUT_RD }).unwrap();
    h.advance(MS);
    assert_eq!(accept(&mut h, l), Err(Errno::EINVAL));
    assert_eq!(h.recv_flags(c, 1, 0).map(|_| ()), Err(Errno::ECONNRESET));
    let other = stream(&mut h);
    assert_eq!(h.bind(other, LO, 80), Err(Errno::EADDRINUSE));
    listen(&mut h, l, 8).unwrap();
    client(&mut h, LO, 80);
    accept(&mut h, l).unwrap();
}

#[test]
fn closing_a_listener_resets_who_waits_and_keeps_who_was_accepted() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80, 8);
    let (a, b) = (client(&mut h, LO, 80), client(&mut h, LO, 80));
    let s = accept(&mut h, l).unwrap();
    h.call(Call::Close { fd: l }).unwrap();
    h.advance(MS);
    assert_eq!(h.recv_flags(b, 1, 0).map(|_| ()), Err(Errno::ECONNRESET));
    h.send(a, b"still here").unwrap();
    h.advance(MS);
    assert!(
        matches!(h.call(Call::Recv { fd: s, len: 99, flags: 0 }), Ok(Ret::Stream(d)) if d.to_vec() == b"still here")
    );
}

#[test]
fn the_exact_address_wins_over_the_wildcard_whatever_came_first() {
    for specific_first in [true, false] {
        let mut h = Host::new();
        let order = if specific_first { [LO, ANY] } else { [ANY, LO] };
        let l = order.map(|a| {
            let fd = stream(&mut h);
            h.set(fd, SOL_SOCKET, SO_REUSEPORT, 1).unwrap();
            h.bind(fd, a, 80).unwrap();
            listen(&mut h, fd, 4).unwrap();
            fd
        });
        let (exact, any) = if specific_first { (l[0], l[1]) } else { (l[1], l[0]) };
        client(&mut h, LO, 80);
        assert_eq!((info(&mut h, exact).unacked, info(&mut h, any).unacked), (1, 0));
        client(&mut h, Ipv4Addr::new(127, 0, 0, 9), 80);
        assert_eq!((info(&mut h, exact).unacked, info(&mut h, any).unacked), (1, 1));
    }
}

#[test]
fn a_reuseport_group_shares_by_hash_and_a_full_member_sends_nobody_to_the_others() {
    let mut h = Host::new();
    let group: Vec<Fd> = (0..4)
        .map(|_| {
            let fd = stream(&mut h);
            h.set(fd, SOL_SOCKET, SO_REUSEPORT, 1).unwrap();
            h.bind(fd, LO, 80).unwrap();
            listen(&mut h, fd, 1000).unwrap();
            fd
        })
        .collect();
    let counts = |h: &mut Host| group.iter().map(|l| info(h, *l).unacked).collect::<Vec<_>>();
    (0..200).for_each(|_| _ = client(&mut h, LO, 80));
    let share = counts(&mut h);
    assert_eq!(share.iter().sum::<u32>(), 200);
    assert!(share.iter().all(|n| (25..=80).contains(n)), "{share:?}");
    // The same four-tuple goes to the same member.
    let again = |h: &mut Host, port: u16| {
        let before = counts(h);
        let fd = stream(h);
        h.set(fd, SOL_SOCKET, SO_LINGER, 0).unwrap_err();
        h.call(Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_LINGER, value: &[1, 0, 0, 0, 0, 0, 0, 0] }).unwrap();
        h.bind(fd, LO, port).unwrap();
        assert_eq!(h.connect(fd, LO, 80), Err(Errno::EINPROGRESS));
        h.advance(MS);
        let after = counts(h);
        h.call(Call::Close { fd }).unwrap();
        before.iter().zip(&after).position(|(b, a)| a > b).unwrap()
    };
    for p in [5001, 5002, 5003] {
        let first = again(&mut h, p);
        assert_eq!(again(&mut h, p), first);
    }
    let limit = counts(&mut h)[0] as i32;
    listen(&mut h, group[0], limit - 1).unwrap();
    let overflows = h.counter(Mib::TcpExtListenOverflows);
    (0..40).for_each(|_| _ = client(&mut h, LO, 80));
    assert!(h.counter(Mib::TcpExtListenOverflows) > overflows);
    assert_eq!(counts(&mut h)[0], limit as u32);
}

#[test]
fn each_connection_wakes_one_of_the_sleepers() {
    let mut h = Host::new();
    let fd = h.socket(SOCK_STREAM);
    h.bind(fd, LO, 80).unwrap();
    listen(&mut h, fd, 8).unwrap();
    let process = h.k.tasks.tasks.get(h.task).unwrap().process;
    let tasks: Vec<TaskId> = (0..3).map(|_| h.k.add_task(process, 0).unwrap()).collect();
    for t in &tasks {
        assert!(matches!(h.k.call(h.now, *t, Call::Accept { fd, flags: 0 }), Submitted::Parked(_)));
    }
    client(&mut h, LO, 80);
    assert_eq!(h.completions.len(), 1);
    h.call(Call::Shutdown { fd, how: SHUT_RD }).unwrap();
    let rest: Vec<_> = h.completions[1..].iter().map(|c| c.1.clone()).collect();
    assert_eq!(rest, [Err(Errno::EINVAL), Err(Errno::EINVAL)]);
}
