//! The call boundary: descriptors, socket(), addresses of both families, options, time-outs (`semantics` §1, §2, §10).
mod host;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use core::net::{Ipv4Addr, Ipv6Addr};
use host::*;

#[test]
fn socket_says_what_it_has_not() {
    let mut h = Host::with(1000, Caps::NONE, 1024);
    for (family, kind, protocol, want) in [
        (99, SOCK_STREAM, 0, Errno::EAFNOSUPPORT),
        (AF_INET, 12, 0, Errno::EINVAL),
        (AF_INET, 11, 0, Errno::EINVAL),
        (AF_INET, SOCK_STREAM, IPPROTO_UDP, Errno::EPROTONOSUPPORT),
        (AF_INET, SOCK_DGRAM, IPPROTO_TCP, Errno::EPROTONOSUPPORT),
        (AF_INET, SOCK_STREAM, 254, Errno::EPROTONOSUPPORT),
        (AF_INET, SOCK_RAW, 0, Errno::EPROTONOSUPPORT),
        (AF_INET, SOCK_SEQPACKET, 0, Errno::ESOCKTNOSUPPORT),
        (AF_INET, SOCK_STREAM, 263, Errno::EINVAL),
        (AF_INET, SOCK_STREAM, -1, Errno::EINVAL),
        (AF_INET, SOCK_DGRAM, IPPROTO_ICMP, Errno::EACCES),
        (AF_INET, SOCK_RAW, IPPROTO_ICMP, Errno::EPERM),
        (AF_INET, SOCK_STREAM | 0x1000, 0, Errno::EINVAL),
    ] {
        let got = h.int(Call::Socket { family, kind, protocol });
        assert_eq!(got, Err(want), "{family} {kind} {protocol}");
    }
    let kind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    let fd = h.int(Call::Socket { family: AF_INET, kind, protocol: 0 }).unwrap() as Fd;
    let fcntl = |cmd| Call::Fcntl { fd, cmd, arg: 0 };
    assert_eq!((h.int(fcntl(1)), h.int(fcntl(3))), (Ok(1), Ok(0x802)));
    let what = [SO_TYPE, SO_PROTOCOL, SO_DOMAIN].map(|o| h.get(fd, SOL_SOCKET, o).unwrap());
    assert_eq!(what, [SOCK_STREAM, IPPROTO_TCP, AF_INET]);
}

#[test]
fn descriptors_are_the_lowest_and_end_at_the_limit() {
    let mut h = Host::with(0, Caps::NONE, 4);
    let fds: Vec<Fd> = (0..4).map(|_| h.socket(SOCK_DGRAM)).collect();
    assert_eq!(fds, [0, 1, 2, 3]);
    let socket = || Call::Socket { family: AF_INET, kind: SOCK_DGRAM, protocol: 0 };
    assert_eq!(h.int(socket()), Err(Errno::EMFILE));
    assert_eq!(h.int(Call::Dup { fd: 0, min: 0, cloexec: false }), Err(Errno::EMFILE));
    assert_eq!(h.int(Call::Dup { fd: 0, min: 4, cloexec: false }), Err(Errno::EINVAL));
    assert_eq!(h.int(Call::Dup2 { fd: 0, to: 4, cloexec: false }), Err(Errno::EBADF));
    h.close(1);
    assert_eq!(h.int(Call::Close { fd: 1 }), Err(Errno::EBADF));
    assert_eq!(h.int(Call::Dup { fd: 0, min: 0, cloexec: false }), Ok(1));
    assert_eq!(h.int(Call::SetNofile { soft: 5, hard: 5 }), Err(Errno::EPERM));
    assert_eq!(h.int(Call::SetNofile { soft: 5, hard: 4 }), Err(Errno::EINVAL));
    assert_eq!(h.k.socks.udp.len(), 3, "the socket that descriptor 1 named is gone");

    let mut h = Host::with(0, Caps::NONE, 64);
    h.k.net.sysctl.file_max = 2;
    h.socket(SOCK_DGRAM);
    h.socket(SOCK_DGRAM);
    assert_eq!(h.int(socket()), Err(Errno::ENFILE));
    h.k.tasks.procs.get_mut(h.process).unwrap().caps = Caps::ROOT;
    assert_eq!(h.int(socket()), Ok(2));
    assert_eq!(h.int(Call::SetNofile { soft: 9, hard: 2_000_000 }), Err(Errno::EPERM), "fs.nr_open");
}

#[test]
fn accept_at_the_limit_leaves_the_connection_in_the_queue() {
    let mut h = Host::with(0, Caps::ROOT, 3);
    let l = h.listener(80, 8);
    let (_, spare) = (h.client(80), h.socket(SOCK_DGRAM));
    assert_eq!(h.accept(l), Err(Errno::EMFILE));
    h.close(spare);
    assert_eq!(h.accept(l), Ok(spare));
}

#[test]
fn open_files_are_shared_by_dup_and_fork_and_close_on_exec() {
    let mut h = Host::new();
    let (c, s) = h.pair(80);
    let dup = h.int(Call::Dup { fd: s, min: 10, cloexec: true }).unwrap() as Fd;
    assert_eq!(dup, 10);
    h.nonblock(dup);
    assert_eq!(h.int(Call::Fcntl { fd: s, cmd: 3, arg: 0 }), Ok(0x802), "O_NONBLOCK belongs to the open file");
    let child = h.k.fork(h.process).unwrap();
    let t = h.k.add_task(child, 0).unwrap();
    h.close(s);
    h.close(dup);
    assert_eq!(h.poll(c), POLLOUT as u16, "the child holds it");
    let from_child = h.call_as(t, Call::Send { fd: s, data: Payload::Bytes(b"hi"), flags: 0, to: None, cmsgs: &[] });
    assert_eq!(from_child, Ok(Ret::Int(2)));
    assert_eq!(h.recv(c, 9).unwrap(), b"hi");
    let now = h.now;
    h.k.exec(now, child);
    assert_eq!(h.call_as(t, Call::Close { fd: dup }), Err(Errno::EBADF));
    assert_eq!(h.call_as(t, Call::Fcntl { fd: s, cmd: 1, arg: 0 }), Ok(Ret::Int(0)));
    h.k.exit(now, child);
    assert_eq!(h.poll(c), (POLLIN | POLLOUT | POLLRDHUP) as u16, "FIN");
    assert!(h.k.tasks.procs.get(child).is_none() && h.k.tasks.tasks.get(t).is_none());
}

#[test]
fn bind_checks_length_family_locality_and_rights() {
    let mut h = Host::with(1000, Caps::NONE, 64);
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let fd = h.socket(kind);
        let good = SockAddr::V4(LO, 8080).emit();
        let raw = |h: &mut Host, addr: &[u8]| h.int(Call::Bind { fd, addr });
        assert_eq!(raw(&mut h, &good[..15]), Err(Errno::EINVAL));
        assert_eq!(raw(&mut h, &[]), Err(Errno::EINVAL));
        assert_eq!(raw(&mut h, &[0; 129]), Err(Errno::EINVAL));
        assert_eq!(raw(&mut h, &v6(Ipv6Addr::LOCALHOST, 1)), Err(Errno::EAFNOSUPPORT));
        let mut unspec = [0; 16];
        unspec[4] = 127;
        assert_eq!(raw(&mut h, &unspec), Err(Errno::EAFNOSUPPORT));
        assert_eq!(h.bind(fd, Ipv4Addr::new(8, 8, 8, 8), 1), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(h.bind(fd, LO, 80), Err(Errno::EACCES));
        assert_eq!(h.sockname(fd), SockAddr::V4(Ipv4Addr::UNSPECIFIED, 0));
        assert_eq!(h.bind(fd, Ipv4Addr::new(127, 1, 2, 3), 8080), Ok(0));
        assert_eq!(h.sockname(fd), SockAddr::V4(Ipv4Addr::new(127, 1, 2, 3), 8080));
        assert_eq!(h.bind(fd, LO, 8081), Err(Errno::EINVAL));
        let fd = h.socket(kind);
        assert_eq!(h.int(Call::Bind { fd, addr: &[0; 16] }), Ok(0), "AF_UNSPEC with 0.0.0.0 is AF_INET");
        assert_ne!(h.sockname(fd).port(), Some(0));
    }
    let ep = h.epoll();
    assert_eq!(h.bind(ep, LO, 8080), Err(Errno::ENOTSOCK));
    assert_eq!(h.bind(99, LO, 8080), Err(Errno::EBADF));
}

fn socket6(h: &mut Host, kind: i32) -> Fd {
    h.int(Call::Socket { family: AF_INET6, kind, protocol: 0 }).unwrap() as Fd
}

#[test]
fn ipv6_sockets_speak_mapped_addresses() {
    let mut h = Host::new();
    let l = socket6(&mut h, SOCK_STREAM);
    assert_eq!(h.get(l, SOL_IPV6, IPV6_V6ONLY), Ok(0));
    let bind = |h: &mut Host, fd, addr: &[u8]| h.int(Call::Bind { fd, addr });
    assert_eq!(bind(&mut h, l, &v6(Ipv6Addr::LOCALHOST, 80)), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(bind(&mut h, l, &SockAddr::V4(LO, 80).emit()), Err(Errno::EINVAL), "shorter than sockaddr_in6");
    assert_eq!(bind(&mut h, l, &v6(Ipv6Addr::UNSPECIFIED, 80)), Ok(0));
    assert_eq!(h.set(l, SOL_IPV6, IPV6_V6ONLY, 1), Err(Errno::EINVAL), "bound");
    h.int(Call::Listen { fd: l, backlog: 8 }).unwrap();
    assert_eq!(h.sockname(l), SockAddr::v6(Ipv6Addr::UNSPECIFIED, 80));
    // An IPv4 client of a dual-stack listener.
    let c4 = h.client(80);
    let s = h.accept(l).unwrap();
    let SockAddr::V4(_, port) = h.sockname(c4) else { panic!() };
    assert_eq!(&*h.sockname(s).emit(), &*mapped(LO, 80));
    let Ok(Ret::Addr(peer)) = h.call(Call::GetPeerName { fd: s }) else { panic!() };
    assert_eq!(&*peer.emit(), &*mapped(LO, port));
    // And an IPv6 socket as client.
    let c6 = socket6(&mut h, SOCK_STREAM);
    assert_eq!(h.int(Call::Connect { fd: c6, addr: &v6(Ipv6Addr::LOCALHOST, 80) }), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(h.int(Call::Connect { fd: c6, addr: &mapped(LO, 80) }), Ok(0));
    assert_eq!(h.connect(c6, 80), Err(Errno::EISCONN), "a standing connection says so whatever the address");
    assert_eq!(h.sockname(c6).to_v4().map(|a| a.0), Some(LO));
    let only = socket6(&mut h, SOCK_STREAM);
    h.set(only, SOL_IPV6, IPV6_V6ONLY, 1).unwrap();
    assert_eq!(bind(&mut h, only, &mapped(LO, 81)), Err(Errno::EINVAL));
    assert_eq!(h.int(Call::Connect { fd: only, addr: &mapped(LO, 80) }), Err(Errno::ENETUNREACH));
    assert_eq!(h.set(c4, SOL_IPV6, IPV6_V6ONLY, 1), Err(Errno::ENOPROTOOPT));
    // Datagrams: the sender's address is mapped too.
    let (u6, u4) = (socket6(&mut h, SOCK_DGRAM), h.udp(5));
    bind(&mut h, u6, &v6(Ipv6Addr::UNSPECIFIED, 6)).unwrap();
    h.sendto(u4, b"x", 6).unwrap();
    let Ok(Ret::Data(d)) = h.call(Call::Recv { fd: u6, len: 9, flags: 0 }) else { panic!() };
    assert_eq!(d.from.map(|a| a.emit()), Some(mapped(LO, 5)));
    let to = mapped(LO, 5);
    h.int(Call::Send { fd: u6, data: Payload::Bytes(b"y"), flags: 0, to: Some(&to), cmsgs: &[] }).unwrap();
    assert_eq!(h.recv(u4, 9).unwrap(), b"y");
}

#[test]
fn option_values_and_errors() {
    let mut h = Host::new();
    let (tcp, udp) = (h.socket(SOCK_STREAM), h.socket(SOCK_DGRAM));
    let both = |h: &mut Host, o| (h.get(tcp, SOL_SOCKET, o).unwrap(), h.get(udp, SOL_SOCKET, o).unwrap());
    assert_eq!(both(&mut h, SO_SNDBUF), (16384, 212_992));
    assert_eq!(both(&mut h, SO_RCVBUF), (131_072, 212_992));
    for fd in [tcp, udp] {
        for (name, v, want) in [
            (SO_SNDBUF, 20_000, 40_000),
            (SO_RCVBUF, 20_000, 40_000),
            (SO_SNDBUF, 1, 4608),
            (SO_RCVBUF, 1, 2304),
            (SO_SNDBUF, -1, 8_388_608),
            (SO_RCVBUF, i32::MAX, 8_388_608),
            (SO_RCVBUFFORCE, 10_000_000, 20_000_000),
            (SO_REUSEADDR, 7, 1),
            (SO_KEEPALIVE, -5, 1),
            (SO_PRIORITY, 6, 6),
            (SO_PEEK_OFF, 3, 3),
            (SO_PEEK_OFF, -1, -1),
            (SO_MARK, 9, 9),
        ] {
            assert_eq!(h.set(fd, SOL_SOCKET, name, v), Ok(0), "{name}");
            let shown = if name == SO_RCVBUFFORCE { SO_RCVBUF } else { name };
            assert_eq!(h.get(fd, SOL_SOCKET, shown), Ok(want), "{name} {v}");
        }
        for (level, name) in [
            (SOL_SOCKET, 9999),
            (SOL_SOCKET, SO_ERROR),
            (SOL_SOCKET, SO_TYPE),
            (SOL_SOCKET, SO_ACCEPTCONN),
            (SOL_SOCKET, SO_SNDLOWAT),
            (SOL_IP, 9999),
            (SOL_IP, IP_HDRINCL),
            (12345, 1),
        ] {
            assert_eq!(h.set(fd, level, name, 1), Err(Errno::ENOPROTOOPT), "{level} {name}");
        }
        assert_eq!(h.get(fd, SOL_SOCKET, 9999), Err(Errno::ENOPROTOOPT));
        let short = |level, name| Call::SetSockOpt { fd, level, name, value: &[1, 0, 0] };
        assert_eq!(h.int(short(SOL_SOCKET, SO_REUSEADDR)), Err(Errno::EINVAL));
        assert_eq!(h.int(short(SOL_SOCKET, 9999)), Err(Errno::EINVAL));
        assert_eq!(h.int(short(SOL_IP, IP_RECVTTL)), Ok(0), "SOL_IP takes a byte");
        for ttl in [0, 256, -2] {
            assert_eq!(h.set(fd, SOL_IP, IP_TTL, ttl), Err(Errno::EINVAL));
        }
        assert_eq!((h.set(fd, SOL_IP, IP_TTL, 33), h.get(fd, SOL_IP, IP_TTL)), (Ok(0), Ok(33)));
        assert_eq!((h.set(fd, SOL_IP, IP_TTL, -1), h.get(fd, SOL_IP, IP_TTL)), (Ok(0), Ok(64)));
        assert_eq!(h.set(fd, SOL_IP, IP_LOCAL_PORT_RANGE, 2 | 1 << 16), Err(Errno::EINVAL));
        assert_eq!((h.set(fd, SOL_IP, IP_TOS, 0x10), h.get(fd, SOL_SOCKET, SO_PRIORITY)), (Ok(0), Ok(6)));
        let device = |name| Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_BINDTODEVICE, value: name };
        assert_eq!(h.int(device(b"eth9")), Err(Errno::ENODEV));
        assert_eq!(h.int(device(b"lo")), Ok(0));
        let Ok(Ret::Opt(name)) = h.call(Call::GetSockOpt { fd, level: SOL_SOCKET, name: SO_BINDTODEVICE, len: 16 })
        else {
            panic!()
        };
        assert_eq!(name, b"lo\0");
        assert_eq!(h.get(fd, SOL_SOCKET, SO_PASSCRED), Err(Errno::EOPNOTSUPP));
        let Ok(Ret::Opt(cred)) = h.call(Call::GetSockOpt { fd, level: SOL_SOCKET, name: SO_PEERCRED, len: 12 }) else {
            panic!()
        };
        assert_eq!(cred, [0i32, -1, -1].map(i32::to_ne_bytes).concat());
    }
}

#[test]
fn options_that_need_rights() {
    let mut h = Host::with(1000, Caps::NONE, 64);
    let fd = h.socket(SOCK_STREAM);
    for (level, name, v, want) in [
        (SOL_SOCKET, SO_DEBUG, 1, Errno::EACCES),
        (SOL_SOCKET, SO_MARK, 1, Errno::EPERM),
        (SOL_SOCKET, SO_PRIORITY, 7, Errno::EPERM),
        (SOL_SOCKET, SO_SNDBUFFORCE, 1, Errno::EPERM),
        (SOL_IP, IP_TRANSPARENT, 1, Errno::EPERM),
    ] {
        assert_eq!(h.set(fd, level, name, v), Err(want), "{name}");
    }
    assert_eq!(h.set(fd, SOL_SOCKET, SO_PRIORITY, 6), Ok(0));
    let device = |name| Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_BINDTODEVICE, value: name };
    assert_eq!(h.int(device(b"lo\0")), Ok(0), "the first binding is free");
    assert_eq!(h.int(device(b"")), Err(Errno::EPERM));
}

fn timeval(sec: i64, usec: i64) -> Vec<u8> {
    [sec, usec].map(i64::to_ne_bytes).concat()
}

#[test]
fn receive_timeouts() {
    let mut h = Host::new();
    let (_c, s) = h.pair(80);
    fn set(h: &mut Host, fd: Fd, value: &[u8]) -> Said {
        h.int(Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_RCVTIMEO_OLD, value })
    }
    assert_eq!(set(&mut h, s, &timeval(0, 1_000_000)), Err(Errno::EDOM));
    assert_eq!(set(&mut h, s, &timeval(0, 1)[..8]), Err(Errno::EINVAL));
    assert_eq!(set(&mut h, s, &timeval(0, 50_001)), Ok(0));
    let got = h.call(Call::GetSockOpt { fd: s, level: SOL_SOCKET, name: SO_RCVTIMEO_OLD, len: 16 });
    assert_eq!(got, Ok(Ret::Opt(timeval(0, 52_000))), "rounded up to ticks");
    let t = h.thread();
    let call = h.park(t, Call::Recv { fd: s, len: 9, flags: 0 });
    h.sleep(51 * MS);
    assert!(h.done().is_empty());
    h.sleep(MS);
    assert_eq!(h.done(), [(call, Err(Errno::EAGAIN))]);
    set(&mut h, s, &timeval(-1, 0)).unwrap();
    assert_eq!(h.call(Call::Recv { fd: s, len: 9, flags: 0 }), Err(Errno::EAGAIN), "negative does not wait");
    set(&mut h, s, &timeval(0, 0)).unwrap();
    h.park(t, Call::Recv { fd: s, len: 9, flags: 0 });
    h.sleep(10_000 * MS);
    assert!(h.done().is_empty(), "zero waits for ever");
}

#[test]
fn poll_and_its_limits() {
    let mut h = Host::with(0, Caps::ROOT, 8);
    let u = h.udp(1);
    let fds = |fd: i32| PollFd { fd, events: (POLLIN | POLLOUT) as u16, revents: 0 };
    let Ok(Ret::Poll(p)) = h.call(Call::Poll { fds: &[fds(u as i32), fds(-1), fds(7)], timeout: Some(0) }) else {
        panic!()
    };
    assert_eq!(p.iter().map(|p| u32::from(p.revents)).collect::<Vec<_>>(), [POLLOUT, 0, POLLNVAL]);
    assert_eq!(h.call(Call::Poll { fds: &[fds(0); 9], timeout: Some(0) }), Err(Errno::EINVAL));
    let t = h.thread();
    let call = h.park(t, Call::Poll { fds: &[fds(-1)], timeout: Some(5 * MS) });
    h.sleep(5 * MS);
    assert_eq!(h.done().first().map(|d| d.0), Some(call));
}

#[test]
fn shutdown_and_names_of_what_is_not_connected() {
    let mut h = Host::new();
    let fd = h.socket(SOCK_STREAM);
    assert_eq!(h.int(Call::Shutdown { fd, how: 3 }), Err(Errno::EINVAL));
    assert_eq!(h.int(Call::Shutdown { fd, how: SHUT_WR }), Err(Errno::ENOTCONN));
    assert_eq!(h.call(Call::GetPeerName { fd }), Err(Errno::ENOTCONN));
    assert_eq!(h.recv(fd, 1), Err(Errno::ENOTCONN));
    assert_eq!(h.send(fd, b"x"), Err(Errno::EPIPE));
    let l = h.listener(80, 1);
    assert_eq!(h.connect(l, 80), Err(Errno::EISCONN));
    assert_eq!(h.get(l, SOL_SOCKET, SO_ACCEPTCONN), Ok(1));
    assert_eq!(h.int(Call::Accept { fd: l, flags: 1 }), Err(Errno::EINVAL));
    assert_eq!(h.int(Call::Accept { fd, flags: 0 }), Err(Errno::EINVAL), "not listening");
    let u = h.udp(1);
    assert_eq!(h.int(Call::Accept { fd: u, flags: 0 }), Err(Errno::EOPNOTSUPP));
    assert_eq!(h.int(Call::Listen { fd: u, backlog: 1 }), Err(Errno::EOPNOTSUPP));
    for request in [SIOCINQ, SIOCOUTQ, SIOCOUTQNSD] {
        assert_eq!(h.int(Call::Ioctl { fd: l, request: request.into(), arg: 0 }), Err(Errno::EINVAL));
    }
    assert_eq!(h.int(Call::Ioctl { fd: l, request: 0x1234, arg: 0 }), Err(Errno::ENOTTY));
}

#[test]
fn peek_offsets_move_with_peeks_and_reads() {
    let mut h = Host::new();
    let peek = |h: &mut Host, fd, len| h.call(Call::Recv { fd, len, flags: MSG_PEEK | MSG_DONTWAIT }).map(bytes);
    let (c, s) = h.pair(80);
    h.send(c, b"abc").unwrap();
    h.send(c, b"defg").unwrap();
    h.set(s, SOL_SOCKET, SO_PEEK_OFF, 1).unwrap();
    assert_eq!(peek(&mut h, s, 3).unwrap(), b"bcd");
    assert_eq!(h.get(s, SOL_SOCKET, SO_PEEK_OFF), Ok(4));
    assert_eq!(h.recv(s, 2).unwrap(), b"ab");
    assert_eq!(peek(&mut h, s, 9).unwrap(), b"efg");
    assert_eq!(peek(&mut h, s, 9), Err(Errno::EAGAIN));
    assert_eq!(h.recv(s, 9).unwrap(), b"cdefg");
    assert_eq!(h.get(s, SOL_SOCKET, SO_PEEK_OFF), Ok(0));
    let (u, from) = (h.udp(1), h.udp(2));
    h.sendto(from, b"abc", 1).unwrap();
    h.sendto(from, b"de", 1).unwrap();
    h.set(u, SOL_SOCKET, SO_PEEK_OFF, 0).unwrap();
    assert_eq!(peek(&mut h, u, 2).unwrap(), b"ab");
    assert_eq!(peek(&mut h, u, 9).unwrap(), b"c");
    assert_eq!(peek(&mut h, u, 9).unwrap(), b"de");
    assert_eq!(peek(&mut h, u, 9), Err(Errno::EAGAIN));
    assert_eq!(h.recv(u, 9).unwrap(), b"abc");
    assert_eq!(h.get(u, SOL_SOCKET, SO_PEEK_OFF), Ok(2));
}

#[test]
fn ports_are_shared_between_the_families_as_measured() {
    // Rows: the first socket; columns: 4any 4lo 6any 6map 6only. No option set.
    let kinds = ["4any", "4lo", "6any", "6map", "6only"];
    let free = [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0; 5], [0, 0, 0, 0, 1], [1, 1, 0, 1, 0]];
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let mut h = Host::new();
        let mut port = 1000;
        let bind = |h: &mut Host, what: &str, port| {
            let any = v6(Ipv6Addr::UNSPECIFIED, port);
            let (family, addr) = match what {
                "4any" => (AF_INET, SockAddr::V4(Ipv4Addr::UNSPECIFIED, port).emit()),
                "4lo" => (AF_INET, SockAddr::V4(LO, port).emit()),
                "6map" => (AF_INET6, mapped(LO, port)),
                _ => (AF_INET6, any),
            };
            let fd = h.int(Call::Socket { family, kind, protocol: 0 }).unwrap() as Fd;
            if what == "6only" {
                h.set(fd, SOL_IPV6, IPV6_V6ONLY, 1).unwrap();
            }
            h.int(Call::Bind { fd, addr: &addr })
        };
        for (first, row) in kinds.iter().zip(free) {
            for (second, ok) in kinds.iter().zip(row) {
                port += 1;
                bind(&mut h, first, port).unwrap();
                let want = if ok == 1 { Ok(0) } else { Err(Errno::EADDRINUSE) };
                assert_eq!(bind(&mut h, second, port), want, "{kind}: {first}, then {second}");
            }
        }
    }
}

#[test]
fn a_connection_that_was_reset_is_no_new_socket() {
    let mut h = Host::new();
    let l = h.listener(80, 4);
    let c = h.client(80);
    let s = h.accept(l).unwrap();
    h.send(c, b"unread").unwrap();
    let linger = [1i32, 0].map(i32::to_ne_bytes).concat();
    h.int(Call::SetSockOpt { fd: c, level: SOL_SOCKET, name: SO_LINGER, value: &linger }).unwrap();
    h.close(c);
    assert_eq!(h.connect(s, 80), Err(Errno::EISCONN));
    assert_eq!(h.int(Call::Listen { fd: s, backlog: 1 }), Err(Errno::EINVAL));
    assert_eq!(h.recv(s, 9).unwrap(), b"unread");
    assert_eq!(h.int(Call::Connect { fd: s, addr: &[0; 16] }), Ok(0), "AF_UNSPEC");
    assert_eq!(h.connect(s, 80), Ok(0));
}
