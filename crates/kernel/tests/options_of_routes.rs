//! Options and flags that say where packets may go and what is told of them: SO_DONTROUTE, MSG_PROBE, SO_RCVMARK,
//! SO_SELECT_ERR_QUEUE, SO_BUF_LOCK, SO_BUSY_POLL, levels that are none. Measured on Linux 6.18.
mod common;
use belljar_abi::*;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use common::*;
use core::net::Ipv4Addr;

const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 77);

fn send(h: &mut Host, fd: Fd, data: &[u8], flags: i32, to: Option<(Ipv4Addr, u16)>) -> SysResult {
    let to = to.map(|(a, p)| SockAddr::V4(a, p).emit());
    h.call(Call::Send { fd, data: Payload::Bytes(data), flags, to: to.as_deref(), cmsgs: &[] })
}

fn level(h: &mut Host, fd: Fd, level: i32, name: i32) -> Errno {
    h.call(Call::GetSockOpt { fd, level, name, len: 4 }).expect_err("there is such an option")
}

#[test]
fn without_routers_only_the_link_is_reached() {
    let mut h = Host::new();
    let sent = Ok(Ret::Int(1));
    let s = h.udp();
    assert_eq!(send(&mut h, s, b"x", 0, Some((FAR, 9))), sent.clone());
    assert_eq!(send(&mut h, s, b"x", MSG_DONTROUTE, Some((FAR, 9))), Err(Errno::ENETUNREACH));
    h.set(s, SOL_SOCKET, SO_DONTROUTE, 1).unwrap();
    assert_eq!(send(&mut h, s, b"x", 0, Some((FAR, 9))), Err(Errno::ENETUNREACH));
    for near in [NEAR, HOST, LO] {
        assert_eq!(send(&mut h, s, b"x", 0, Some((near, 9))), sent.clone(), "{near}");
    }
    assert_eq!(h.connect(s, FAR, 9), Err(Errno::ENETUNREACH));
    // A connected socket does not go the way that it knew.
    let c = h.udp();
    h.connect(c, FAR, 9).unwrap();
    assert_eq!(send(&mut h, c, b"x", 0, None), sent.clone());
    h.set(c, SOL_SOCKET, SO_DONTROUTE, 1).unwrap();
    assert_eq!(send(&mut h, c, b"x", 0, None), Err(Errno::ENETUNREACH));
    h.set(c, SOL_SOCKET, SO_DONTROUTE, 0).unwrap();
    assert_eq!(send(&mut h, c, b"x", MSG_DONTROUTE, None), Err(Errno::ENETUNREACH));
    assert_eq!(send(&mut h, c, b"x", 0, None), sent);
    let t = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    h.set(t, SOL_SOCKET, SO_DONTROUTE, 1).unwrap();
    assert_eq!(h.connect(t, FAR, 9), Err(Errno::ENETUNREACH));
    assert_eq!(h.connect(t, NEAR, 9), Err(Errno::EINPROGRESS));
}

#[test]
fn a_probe_sends_nothing() {
    let mut h = Host::new();
    let s = h.udp_on(LO, 5);
    let c = h.udp();
    assert_eq!(send(&mut h, c, b"x", MSG_PROBE, Some((LO, 5))), Ok(Ret::Int(1)));
    assert_eq!((h.recv(s), h.counter(Mib::UdpOutDatagrams)), (Err(Errno::EAGAIN), 0));
    assert_eq!(send(&mut h, c, &[0; 70_000], MSG_PROBE, Some((LO, 5))), Err(Errno::EMSGSIZE));
    // It ends what MSG_MORE began, and adds nothing to it.
    h.connect(c, LO, 5).unwrap();
    for (flags, data) in [(MSG_MORE, b"a"), (MSG_PROBE, b"b")] {
        assert_eq!(send(&mut h, c, data, flags, None), Ok(Ret::Int(1)));
    }
    assert_eq!(h.recv(s).unwrap().0, b"a");
    let raw =
        |h: &mut Host| match h.call(Call::Socket { family: AF_INET, kind: SOCK_RAW | SOCK_NONBLOCK, protocol: 200 }) {
            Ok(Ret::Fd(fd)) => fd,
            r => panic!("{r:?}"),
        };
    let (r, w) = (raw(&mut h), raw(&mut h));
    assert_eq!(send(&mut h, w, b"x", MSG_PROBE, Some((LO, 0))), Ok(Ret::Int(1)));
    assert_eq!(h.recv(r), Err(Errno::EAGAIN));
}

#[test]
fn mark_and_priority_are_told() {
    let mut h = Host::new();
    let (s, c) = (h.udp_on(LO, 5), h.udp());
    h.set(s, SOL_SOCKET, SO_RCVMARK, 1).unwrap();
    h.set(s, SOL_SOCKET, SO_RCVPRIORITY, 1).unwrap();
    h.set(c, SOL_SOCKET, SO_MARK, 0x1234).unwrap();
    h.set(c, SOL_SOCKET, SO_PRIORITY, 5).unwrap();
    h.send_to(c, b"x", LO, 5).unwrap();
    let told: Vec<_> = h.recv_flags(s, 9, 0).unwrap().cmsgs.iter().map(|c| (c.kind, c.data.clone())).collect();
    assert_eq!(told, [(SO_MARK, vec![0x34, 0x12, 0, 0]), (SO_PRIORITY, vec![5, 0, 0, 0])]);
}

/// Measured on Linux 6.18: what only some may say is looked at after how long it is, but for marks.
#[test]
fn mark_and_priority_of_one_send_are_for_who_may() {
    let mut h = Host::new();
    let (s, c) = (h.udp_on(LO, 5), h.udp());
    h.set(s, SOL_SOCKET, SO_RCVMARK, 1).unwrap();
    h.set(s, SOL_SOCKET, SO_RCVPRIORITY, 1).unwrap();
    let to = SockAddr::V4(LO, 5).emit();
    let send = |h: &mut Host, kind, data: &[u8]| {
        let cmsgs = [Cmsg { level: SOL_SOCKET, kind, data: data.to_vec() }];
        h.call(Call::Send { fd: c, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to), cmsgs: &cmsgs }).map(drop)
    };
    let said = |h: &mut Host| {
        [(SO_MARK, &[7, 0, 0, 0][..]), (SO_PRIORITY, &[7, 0, 0, 0]), (SO_MARK, &[7]), (SO_PRIORITY, &[7])]
            .map(|(kind, data)| send(h, kind, data).err())
    };
    assert_eq!(said(&mut h), [None, None, Some(Errno::EINVAL), Some(Errno::EINVAL)]);
    let told = |h: &mut Host| h.recv_flags(s, 9, 0).unwrap().cmsgs.iter().map(|c| c.data[0]).collect::<Vec<u8>>();
    assert_eq!((told(&mut h), told(&mut h)), (vec![7, 0], vec![0, 7]));
    let process = h.k.tasks.tasks.get(h.task).unwrap().process;
    h.k.tasks.procs.get_mut(process).unwrap().caps = Caps::NONE;
    let eperm = Some(Errno::EPERM);
    assert_eq!(said(&mut h), [eperm, eperm, eperm, Some(Errno::EINVAL)]);
}

#[test]
fn an_entry_in_the_error_queue_can_be_an_exception() {
    let mut h = Host::new();
    let c = h.udp();
    let mask = |h: &mut Host| {
        let fds = [PollFd { fd: c as i32, events: (POLLOUT | POLLPRI) as u16, revents: 0 }];
        match h.call(Call::Poll { fds: &fds, timeout: Some(0) }) {
            Ok(Ret::Poll(p)) => u32::from(p[0].revents),
            r => panic!("{r:?}"),
        }
    };
    h.set(c, SOL_IP, IP_RECVERR, 1).unwrap();
    h.send_to(c, b"x", LO, 9).unwrap();
    assert_eq!(mask(&mut h), POLLOUT | POLLERR);
    h.set(c, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1).unwrap();
    assert_eq!(mask(&mut h), POLLOUT | POLLERR | POLLPRI);
}

#[test]
fn numbers_and_their_limits() {
    let mut h = Host::new();
    let s = h.udp();
    assert_eq!(h.set(s, SOL_SOCKET, SO_BUSY_POLL, -1), Err(Errno::EINVAL));
    h.set(s, SOL_SOCKET, SO_BUSY_POLL, 7).unwrap();
    assert_eq!((h.get(s, SOL_SOCKET, SO_BUSY_POLL), h.get(s, SOL_SOCKET, SO_BUF_LOCK)), (7, 0));
    h.set(s, SOL_SOCKET, SO_RCVBUF, 5000).unwrap();
    assert_eq!(h.get(s, SOL_SOCKET, SO_BUF_LOCK), 2);
    assert_eq!(h.set(s, SOL_SOCKET, SO_BUF_LOCK, 4), Err(Errno::EINVAL));
    h.set(s, SOL_SOCKET, SO_BUF_LOCK, 1).unwrap();
    assert_eq!(h.get(s, SOL_SOCKET, SO_BUF_LOCK), 1);
    // Of a datagram socket it is the port.
    h.bind(s, LO, 77).unwrap();
    assert_eq!(h.get(s, SOL_IP, IP_PROTOCOL), 77);
    assert_eq!(h.set(s, SOL_IP, IP_NODEFRAG, 1), Err(Errno::ENOPROTOOPT));
    for (l, e) in [(SOL_TCP, Errno::EOPNOTSUPP), (77, Errno::EOPNOTSUPP), (SOL_UDP, Errno::ENOPROTOOPT)] {
        assert_eq!((level(&mut h, s, l, 99), h.set(s, l, 99, 1)), (e, Err(Errno::ENOPROTOOPT)), "{l}");
    }
}

#[test]
fn lo_has_no_broadcast_address() {
    let h = Host::new();
    let lo = h.k.net.ns.get(h.ns).unwrap().lo;
    assert_eq!(h.k.net.devs.get(lo).unwrap().addrs[0].broadcast, None);
    assert_eq!(h.k.net.devs.get(h.dev).unwrap().addrs[0].broadcast, Some(Ipv4Addr::new(10, 0, 2, 255)));
}

#[test]
fn a_port_is_shared_by_what_its_holder_says_now() {
    let mut h = Host::new();
    let on = |h: &mut Host, fd| h.set(fd, SOL_SOCKET, SO_REUSEADDR, 1).unwrap();
    let (a, b) = (h.socket(SOCK_STREAM), h.socket(SOCK_STREAM));
    h.bind(a, LO, 5).unwrap();
    on(&mut h, b);
    assert_eq!(h.bind(b, LO, 5), Err(Errno::EADDRINUSE));
    on(&mut h, a);
    h.bind(b, LO, 5).unwrap();
}

#[test]
fn a_socket_that_left_its_connection_is_writable() {
    let mut h = Host::new();
    for n in 0..8u16 {
        let (l, c) = (h.socket(SOCK_STREAM), h.socket(SOCK_STREAM | SOCK_NONBLOCK));
        h.bind(l, LO, 500 + n).unwrap();
        h.call(Call::Listen { fd: l, backlog: 1 }).unwrap();
        let _ = h.connect(c, LO, 500 + n);
        h.send(c, b"some").unwrap();
        h.call(Call::Connect { fd: c, addr: &[0; 16] }).unwrap();
        let fds = [PollFd { fd: c as i32, events: POLLOUT as u16, revents: 0 }];
        match h.call(Call::Poll { fds: &fds, timeout: Some(0) }) {
            Ok(Ret::Poll(p)) => assert_eq!(u32::from(p[0].revents), POLLOUT | POLLERR | POLLHUP),
            r => panic!("{r:?}"),
        }
        let again = h.connect(c, LO, 500 + n);
        assert!(matches!(again, Ok(_) | Err(Errno::EINPROGRESS)), "{again:?}");
    }
}

#[test]
fn a_time_below_0_is_kept() {
    let mut h = Host::new();
    h.sysctl("net.ipv4.tcp_fin_timeout", "-5");
    let s = h.socket(SOCK_STREAM);
    assert_eq!(h.get(s, SOL_TCP, TCP_LINGER2), -5);
}
