//! connect(2): which local port, when a TIME_WAIT tuple may be used again, and how success and failure are told.
mod common;
use belljar_abi::*;
use belljar_kernel::net::tcp::account::NoPort;
use belljar_kernel::task::call::*;
use common::*;
use std::net::Ipv4Addr;

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn stream(h: &mut Host) -> Fd {
    h.socket(SOCK_STREAM | SOCK_NONBLOCK)
}

fn listener(h: &mut Host, addr: Ipv4Addr, port: u16) -> Fd {
    let fd = stream(h);
    h.bind(fd, addr, port).unwrap();
    h.call(Call::Listen { fd, backlog: 1000 }).unwrap();
    fd
}

fn port(h: &mut Host, fd: Fd) -> u16 {
    match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(a)) => a.port().unwrap(),
        r => panic!("{r:?}"),
    }
}

fn close(h: &mut Host, fd: Fd) {
    h.call(Call::Close { fd }).unwrap();
    h.advance(MS);
}

fn accept(h: &mut Host, fd: Fd) -> Fd {
    match h.call(Call::Accept { fd, flags: SOCK_NONBLOCK }) {
        Ok(Ret::Accepted { fd, .. }) => fd,
        r => panic!("{r:?}"),
    }
}

/// Connects until there is no port left.
fn exhaust(h: &mut Host, to: Ipv4Addr, dport: u16, prepare: impl Fn(&mut Host, Fd)) -> (Vec<u16>, Errno) {
    let mut got = vec![];
    loop {
        let fd = stream(h);
        prepare(h, fd);
        match h.connect(fd, to, dport) {
            Err(Errno::EINPROGRESS) => got.push(port(h, fd)),
            Err(e) => return (got, e),
            r => panic!("{r:?}"),
        }
    }
}

fn sorted(v: &[u16]) -> Vec<u16> {
    let mut v = v.to_vec();
    v.sort();
    v
}

#[test]
fn ports_of_the_first_ones_parity_then_the_others_the_same_for_every_destination() {
    for first in [40000, 40001] {
        let mut h = Host::new();
        h.sysctl("net.ipv4.ip_local_port_range", &format!("{first} {}", first + 19));
        listener(&mut h, Ipv4Addr::UNSPECIFIED, 80);
        listener(&mut h, Ipv4Addr::UNSPECIFIED, 81);
        let (got, e) = exhaust(&mut h, LO, 80, |_, _| {});
        assert_eq!((got.len(), e), (20, Errno::EADDRNOTAVAIL));
        assert!(
            got[..10].iter().all(|p| p % 2 == first % 2) && got[10..].iter().all(|p| p % 2 != first % 2),
            "{got:?}"
        );
        for (to, dport) in [(LO, 81), (OTHER, 80)] {
            let (more, e) = exhaust(&mut h, to, dport, |_, _| {});
            assert_eq!((sorted(&more), e), (sorted(&got), Errno::EADDRNOTAVAIL));
        }
        // Nothing is left to bind, with or without options.
        for reuse in [0, 1] {
            let fd = stream(&mut h);
            h.set(fd, SOL_SOCKET, SO_REUSEADDR, reuse).unwrap();
            assert_eq!(h.bind(fd, Ipv4Addr::UNSPECIFIED, 0), Err(Errno::EADDRINUSE));
            assert_eq!(h.bind(fd, LO, got[0]), Err(Errno::EADDRINUSE));
        }
        // On an address of its own the port is free.
        let fd = stream(&mut h);
        h.bind(fd, Ipv4Addr::new(127, 3, 3, 3), got[0]).unwrap();
    }
}

#[test]
fn bound_and_reserved_ports_are_skipped() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.ip_local_port_range", "40000 40007");
    h.sysctl("net.ipv4.ip_local_reserved_ports", "40001-40003");
    listener(&mut h, LO, 80);
    for (p, reuse) in [(40004, 0), (40005, 1)] {
        let fd = stream(&mut h);
        h.set(fd, SOL_SOCKET, SO_REUSEADDR, reuse).unwrap();
        h.bind(fd, LO, p).unwrap();
    }
    let (got, e) = exhaust(&mut h, LO, 80, |_, _| {});
    assert_eq!((sorted(&got), e), (vec![40000, 40006, 40007], Errno::EADDRNOTAVAIL));
}

#[test]
fn bind_without_a_port_costs_nothing_and_bind_to_port_0_costs_one() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.ip_local_port_range", "40000 40009");
    listener(&mut h, LO, 80);
    listener(&mut h, LO, 81);
    let no_port = |h: &mut Host, fd| {
        h.set(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1).unwrap();
        h.bind(fd, OTHER, 0).unwrap();
        assert_eq!(port(h, fd), 0);
    };
    for dport in [80, 81] {
        let (got, e) = exhaust(&mut h, LO, dport, no_port);
        assert_eq!((got.len(), e), (10, Errno::EADDRNOTAVAIL));
    }
    for n in 0..10 {
        let fd = stream(&mut h);
        h.bind(fd, LO, 0).unwrap();
        assert_eq!(h.connect(fd, LO, 80 + n % 2), Err(Errno::EINPROGRESS));
    }
    let fd = stream(&mut h);
    assert_eq!(h.bind(fd, LO, 0), Err(Errno::EADDRINUSE));
}

#[test]
fn a_port_that_the_program_chose_serves_each_destination_once() {
    let mut h = Host::new();
    listener(&mut h, LO, 80);
    listener(&mut h, LO, 81);
    let bound = |h: &mut Host| {
        let fd = stream(h);
        h.set(fd, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        h.bind(fd, LO, 5000).unwrap();
        fd
    };
    let a = bound(&mut h);
    assert_eq!(h.connect(a, LO, 80), Err(Errno::EINPROGRESS));
    let b = bound(&mut h);
    assert_eq!(h.connect(b, LO, 81), Err(Errno::EINPROGRESS));
    let c = bound(&mut h);
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EADDRNOTAVAIL));
    // It is as before and goes elsewhere.
    let d = listener(&mut h, LO, 82);
    assert_eq!(h.connect(c, LO, 82), Err(Errno::EINPROGRESS));
    h.advance(MS);
    accept(&mut h, d);
}

/// One connection from `sport` (0: any) over lo, closed from this side first.
fn time_wait(h: &mut Host, l: Fd, sport: u16) {
    let c = stream(h);
    if sport != 0 {
        h.set(c, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        h.bind(c, LO, sport).unwrap();
    }
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EINPROGRESS));
    h.advance(MS);
    let s = accept(h, l);
    close(h, c);
    close(h, s);
}

#[test]
fn all_ports_in_time_wait_wait_as_tcp_tw_reuse_says() {
    for (mode, later) in [("0", false), ("1", true), ("2", true)] {
        let mut h = Host::new();
        h.sysctl("net.ipv4.ip_local_port_range", "40000 40003");
        h.sysctl("net.ipv4.tcp_tw_reuse", mode);
        let l = listener(&mut h, LO, 80);
        (0..4).for_each(|_| time_wait(&mut h, l, 0));
        let fd = stream(&mut h);
        assert_eq!(h.connect(fd, LO, 80), Err(Errno::EADDRNOTAVAIL), "mode {mode}");
        h.advance(1200 * MS);
        let want = if later { Errno::EINPROGRESS } else { Errno::EADDRNOTAVAIL };
        assert_eq!(h.connect(fd, LO, 80), Err(want), "mode {mode}");
        if later {
            h.advance(MS);
            accept(&mut h, l);
            assert_eq!(h.counter(belljar_kernel::net::mib::Mib::TcpExtTWRecycled), 1);
        } else {
            h.advance(60 * SEC);
            assert_eq!(h.connect(fd, LO, 80), Err(Errno::EINPROGRESS));
        }
    }
}

#[test]
fn a_chosen_tuple_in_time_wait_is_used_again_at_once_but_only_with_time_stamps() {
    for (stamps, want) in [("1", Errno::EINPROGRESS), ("0", Errno::EADDRNOTAVAIL)] {
        let mut h = Host::new();
        h.sysctl("net.ipv4.tcp_tw_reuse", "0");
        h.sysctl("net.ipv4.tcp_timestamps", stamps);
        let l = listener(&mut h, LO, 80);
        time_wait(&mut h, l, 5000);
        let c = stream(&mut h);
        h.set(c, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
        h.bind(c, LO, 5000).unwrap();
        assert_eq!(h.connect(c, LO, 80), Err(want));
    }
}

#[test]
fn the_outcome_is_told_once() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80);
    let c = stream(&mut h);
    // Refused: told by the next connect, or by SO_ERROR and then ECONNABORTED.
    assert_eq!(h.connect(c, LO, 9), Err(Errno::EINPROGRESS));
    let chosen = port(&mut h, c);
    h.advance(MS);
    assert_eq!(h.connect(c, LO, 9), Err(Errno::ECONNREFUSED));
    assert_eq!(port(&mut h, c), chosen);
    assert_eq!(h.connect(c, LO, 9), Err(Errno::EINPROGRESS));
    h.advance(MS);
    assert_eq!(h.get(c, SOL_SOCKET, SO_ERROR), Errno::ECONNREFUSED.0);
    assert_eq!(h.get(c, SOL_SOCKET, SO_ERROR), 0);
    assert_eq!(h.connect(c, LO, 9), Err(Errno::ECONNABORTED));
    // The port of the failed one is free, and the socket as new.
    let other = stream(&mut h);
    h.bind(other, LO, chosen).unwrap();
    h.set(c, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
    h.bind(c, LO, 6000).unwrap();
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EINPROGRESS));
    h.advance(MS);
    assert_eq!(h.connect(c, LO, 80), Ok(Ret::Int(0)));
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EISCONN));
    let s = accept(&mut h, l);
    assert_eq!(h.connect(s, LO, 80), Err(Errno::EISCONN));
    assert_eq!(h.connect(l, LO, 80), Err(Errno::EISCONN));
    // Ended from both sides it is still one that was connected.
    h.call(Call::Shutdown { fd: c, how: SHUT_WR }).unwrap();
    close(&mut h, s);
    h.advance(MS);
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EISCONN));
    assert_eq!(h.call(Call::Listen { fd: c, backlog: 1 }), Err(Errno::EINVAL));
    // Dissolved it may do anything again (its TIME_WAIT has SO_REUSEADDR too).
    h.call(Call::Connect { fd: c, addr: &[0; 16] }).unwrap();
    h.call(Call::Listen { fd: c, backlog: 1 }).unwrap();
    assert_eq!(port(&mut h, c), 6000);
}

#[test]
fn where_it_cannot_go() {
    let mut h = Host::new();
    for (to, e) in [(Ipv4Addr::BROADCAST, Errno::ENETUNREACH), (Ipv4Addr::new(224, 0, 0, 1), Errno::ENETUNREACH)] {
        let c = stream(&mut h);
        assert_eq!(h.connect(c, to, 80), Err(e));
        h.bind(c, LO, 7000).unwrap();
        close(&mut h, c);
    }
}

#[test]
fn to_0_0_0_0_means_this_host_and_to_itself_is_a_simultaneous_open() {
    let mut h = Host::new();
    let l = listener(&mut h, LO, 80);
    let c = stream(&mut h);
    assert_eq!(h.connect(c, Ipv4Addr::UNSPECIFIED, 80), Err(Errno::EINPROGRESS));
    h.advance(MS);
    accept(&mut h, l);
    let own = stream(&mut h);
    h.bind(own, LO, 7777).unwrap();
    assert_eq!(h.connect(own, LO, 7777), Err(Errno::EINPROGRESS));
    h.advance(MS);
    assert_eq!(h.connect(own, LO, 7777), Ok(Ret::Int(0)));
    h.send(own, b"to me").unwrap();
    h.advance(MS);
    match h.call(Call::Recv { fd: own, len: 100, flags: 0 }) {
        Ok(Ret::Stream(s)) => assert_eq!(s.to_vec(), b"to me"),
        r => panic!("{r:?}"),
    }
}

#[test]
fn the_account_says_towards_whom_no_port_was_free() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.ip_local_port_range", "40000 40009");
    h.sysctl("net.ipv4.tcp_tw_reuse", "0");
    let l = listener(&mut h, LO, 80);
    // One ends, its end here stays in TIME_WAIT.
    let c = stream(&mut h);
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EINPROGRESS));
    h.advance(MS);
    let a = accept(&mut h, l);
    close(&mut h, c);
    close(&mut h, a);
    let (got, e) = exhaust(&mut h, LO, 80, |_, _| {});
    assert_eq!((got.len(), e), (9, Errno::EADDRNOTAVAIL));
    exhaust(&mut h, LO, 80, |_, _| {});
    let account = &h.k.net.ns.get(h.ns).unwrap().tcp.account;
    assert_eq!(account.no_ports, [NoPort { to: (LO.into(), 80), range: (40000, 40009), time_wait: 1, count: 2 }]);
}
