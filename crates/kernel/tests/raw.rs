//! Raw and ping sockets. What they answer was measured on Linux 6.18.
mod common;

use belljar_abi::*;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::task::call::*;
use common::*;
use std::net::Ipv4Addr;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ECHO: &[u8] = &[8, 0, 0xf7, 0xf8, 0, 0, 0, 7];

fn open(h: &mut Host, kind: i32, protocol: i32) -> Result<Fd, Errno> {
    match h.call(Call::Socket { family: AF_INET, kind: kind | SOCK_NONBLOCK, protocol }) {
        Ok(Ret::Fd(fd)) => Ok(fd),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    }
}

fn raw(h: &mut Host, protocol: i32) -> Fd {
    open(h, SOCK_RAW, protocol).unwrap()
}

fn ping(h: &mut Host) -> Fd {
    h.k.sysctl_set(h.ns, "net.ipv4.ping_group_range", "0 0").unwrap();
    open(h, SOCK_DGRAM, IPPROTO_ICMP).unwrap()
}

fn send(h: &mut Host, fd: Fd, data: &[u8], to: Option<Ipv4Addr>) -> Result<i64, Errno> {
    let to = to.map(|a| SockAddr::V4(a, 0).emit().to_vec());
    match h.call(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: to.as_deref(), cmsgs: &[] }) {
        Ok(Ret::Int(n)) => Ok(n),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    }
}

fn recv(h: &mut Host, fd: Fd, flags: i32) -> Result<Box<Received>, Errno> {
    match h.call(Call::Recv { fd, len: 70_000, flags }) {
        Ok(Ret::Data(d)) => Ok(d),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    }
}

fn set(h: &mut Host, fd: Fd, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    h.call(Call::SetSockOpt { fd, level, name, value: &value.to_ne_bytes() }).map(|_| ())
}

fn name(h: &mut Host, fd: Fd) -> SockAddr {
    match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(a)) => a,
        r => panic!("{r:?}"),
    }
}

#[test]
fn who_may_open_what() {
    let mut h = Host::new();
    assert_eq!(open(&mut h, SOCK_RAW, IPPROTO_IP), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(open(&mut h, SOCK_DGRAM, IPPROTO_ICMP), Err(Errno::EACCES), "ping_group_range is 1 0");
    for (written, shown) in [("5 9", "5\t9"), ("9 5", "1\t0")] {
        h.k.sysctl_set(h.ns, "net.ipv4.ping_group_range", written).unwrap();
        let all = h.k.net.ns.get(h.ns).unwrap().sysctl.ping_group_range;
        assert_eq!(format!("{}\t{}", all.lo, all.hi), shown);
    }
    assert!(h.k.sysctl_set(h.ns, "net.ipv4.ping_group_range", "0 4294967295").is_err());
    ping(&mut h);
    let fd = raw(&mut h, 17);
    assert_eq!(name(&mut h, fd), SockAddr::V4(ANY, 17));
    let process = h.k.tasks.tasks.get(h.task).unwrap().process;
    h.k.tasks.procs.get_mut(process).unwrap().caps.net_raw = false;
    assert_eq!(open(&mut h, SOCK_RAW, IPPROTO_ICMP), Err(Errno::EPERM));
}

#[test]
fn every_raw_socket_that_fits_has_the_whole_packet() {
    let mut h = Host::new();
    let (a, b, other, far) =
        (raw(&mut h, IPPROTO_ICMP), raw(&mut h, IPPROTO_ICMP), raw(&mut h, IPPROTO_UDP), raw(&mut h, IPPROTO_ICMP));
    h.bind(far, HOST, 80).unwrap();
    assert_eq!(set(&mut h, b, SOL_RAW, ICMP_FILTER, 1 << 8), Ok(()));
    assert_eq!(set(&mut h, other, SOL_RAW, ICMP_FILTER, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(send(&mut h, a, ECHO, Some(LO)), Ok(8));
    // The request and its answer, of which the filter lets only the answer pass.
    for (fd, kinds) in [(a, &[8, 0][..]), (b, &[0]), (other, &[]), (far, &[])] {
        for kind in kinds {
            let r = recv(&mut h, fd, 0).unwrap();
            let bytes = r.segs.to_vec();
            assert_eq!((bytes.len(), bytes[0], bytes[9], bytes[20]), (28, 0x45, 1, *kind));
            assert_eq!(r.from, Some(SockAddr::V4(LO, 0)));
        }
        assert_eq!(recv(&mut h, fd, 0).unwrap_err(), Errno::EAGAIN);
    }
}

#[test]
fn a_protocol_that_only_a_raw_socket_knows() {
    let mut h = Host::new();
    let fd = raw(&mut h, 201);
    assert_eq!(send(&mut h, fd, b"x", Some(LO)), Ok(1));
    assert_eq!(h.call(Call::Ioctl { fd, request: ioctl::SIOCINQ.into(), arg: 0 }).unwrap(), Ret::Int(21));
    assert_eq!(recv(&mut h, fd, MSG_PEEK).unwrap().full_len, 21);
    assert_eq!(recv(&mut h, fd, 0).unwrap().full_len, 21);
    assert_eq!(send(&mut h, fd, b"x", None), Err(Errno::EDESTADDRREQ));
    assert_eq!(send(&mut h, fd, &[0; 65_515], Some(LO)), Ok(65_515));
    assert_eq!(send(&mut h, fd, &[0; 65_516], Some(LO)), Err(Errno::EMSGSIZE));
    let unspec = [0; 16];
    h.call(Call::Connect { fd, addr: &unspec }).unwrap();
    assert_eq!(name(&mut h, fd), SockAddr::V4(ANY, 0));
}

#[test]
fn the_programs_own_header() {
    let mut h = Host::new();
    let (fd, udp) = (raw(&mut h, IPPROTO_RAW), raw(&mut h, IPPROTO_UDP));
    for bad in [&[0x45; 19][..], &[0x4f; 20], &[0x41; 20]] {
        assert_eq!(send(&mut h, fd, bad, Some(LO)), Err(Errno::EINVAL));
    }
    let mut packet = vec![0x45, 0, 9, 9, 0, 0, 0, 0, 33, 17, 1, 1, 0, 0, 0, 0, 127, 0, 0, 1];
    packet.extend_from_slice(&[0, 1, 0, 2, 0, 8, 0, 0]);
    assert_eq!(send(&mut h, fd, &packet, Some(LO)), Ok(28));
    let got = recv(&mut h, udp, 0).unwrap().segs.to_vec();
    assert_eq!((&got[2..4], got[8], &got[12..16]), (&[0, 28][..], 33, &[127, 0, 0, 1][..]));
    assert!(belljar_wire::ipv4::Ipv4Header::verify_checksum(&got));
    assert_eq!(recv(&mut h, fd, 0).unwrap_err(), Errno::EAGAIN, "IPPROTO_RAW only sends");
}

#[test]
fn a_full_receive_buffer_is_a_named_drop() {
    let mut h = Host::new();
    let fd = raw(&mut h, 201);
    set(&mut h, fd, SOL_SOCKET, SO_RCVBUF, 1152).unwrap();
    for _ in 0..5 {
        send(&mut h, fd, b"x", Some(LO)).unwrap();
    }
    let dropped = h.k.net.pool.drops().find(|d| d.0 == DropReason::SocketRcvbuff).map_or(0, |d| d.1);
    assert_eq!((dropped, h.k.socks.raw.iter().next().unwrap().1.sk.drops), (2, 2));
}

#[test]
fn ping_sockets_speak_echo_under_their_own_identifier() {
    let mut h = Host::new();
    let fd = ping(&mut h);
    assert_eq!(name(&mut h, fd), SockAddr::V4(ANY, 0));
    for bad in [&ECHO[..7], &[0; 8], &[8, 1, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(send(&mut h, fd, bad, Some(LO)), Err(Errno::EINVAL));
    }
    assert_eq!(send(&mut h, fd, b"\x08\0abcd\0\x07hello", Some(LO)), Ok(13));
    let ident = name(&mut h, fd).port().unwrap();
    let r = recv(&mut h, fd, 0).unwrap();
    let bytes = r.segs.to_vec();
    assert_eq!((&bytes[..2], &bytes[4..6], &bytes[6..]), (&[0, 0][..], &ident.to_be_bytes()[..], &b"\0\x07hello"[..]));
    assert_eq!(r.from, Some(SockAddr::V4(LO, 0)));
    assert_eq!(recv(&mut h, fd, 0).unwrap_err(), Errno::EAGAIN);
    assert_eq!(h.bind(fd, LO, 9), Err(Errno::EINVAL));
    let second = ping(&mut h);
    set(&mut h, second, SOL_SOCKET, SO_REUSEADDR, 0).unwrap();
    assert_eq!(h.bind(second, LO, ident), Err(Errno::EADDRINUSE));
    assert_eq!(h.bind(second, Ipv4Addr::BROADCAST, 0), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(set(&mut h, second, SOL_IP, IP_HDRINCL, 1), Err(Errno::ENOPROTOOPT));
    assert_eq!(set(&mut h, second, SOL_RAW, ICMP_FILTER, 1), Err(Errno::ENOPROTOOPT));
}

#[test]
fn an_icmp_error_reaches_who_asked_for_errors() {
    let mut h = Host::new();
    let (fd, quiet) = (raw(&mut h, IPPROTO_UDP), raw(&mut h, IPPROTO_UDP));
    set(&mut h, fd, SOL_IP, IP_RECVERR, 1).unwrap();
    // A datagram for a port that nobody has.
    let datagram = [0, 9, 0, 8, 0, 8, 0, 0];
    send(&mut h, fd, &datagram, Some(LO)).unwrap();
    let r = recv(&mut h, fd, MSG_ERRQUEUE).unwrap();
    assert_eq!((r.segs.to_vec().as_slice(), r.from), (&datagram[..], Some(SockAddr::V4(LO, 0))));
    let told = r.cmsgs.iter().find(|c| c.kind == IP_RECVERR).unwrap();
    assert_eq!(told.data[..8], [Errno::ECONNREFUSED.0 as u8, 0, 0, 0, 2, 3, 3, 0]);
    // The entry took the pending error with it; what came in is still there.
    assert_eq!(recv(&mut h, fd, 0).unwrap().full_len, 28);
    assert_eq!(recv(&mut h, quiet, 0).unwrap().full_len, 28, "nobody tells a socket that is not connected");
}

#[test]
fn an_error_about_an_echo_request_finds_its_ping_socket() {
    let mut h = Host::new();
    let (fd, forger) = (ping(&mut h), raw(&mut h, IPPROTO_ICMP));
    set(&mut h, fd, SOL_IP, IP_RECVERR, 1).unwrap();
    h.bind(fd, ANY, 0x0102).unwrap();
    let mut message = vec![11, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 1, 1, 0, 0, 10, 0, 2, 15, 9, 9, 9, 9]);
    message.extend_from_slice(&[8, 0, 0, 0, 1, 2, 0, 7]);
    let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&message, 0));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    send(&mut h, forger, &message, Some(LO)).unwrap();
    let r = recv(&mut h, fd, MSG_ERRQUEUE).unwrap();
    assert_eq!(r.segs.to_vec(), [8, 0, 0, 0, 1, 2, 0, 7]);
    assert_eq!(r.from, Some(SockAddr::V4(Ipv4Addr::new(9, 9, 9, 9), 0)));
    assert_eq!(recv(&mut h, fd, MSG_ERRQUEUE).unwrap_err(), Errno::EAGAIN);
}

#[test]
fn a_socket_filter_sees_the_packet_from_its_ip_header() {
    let mut h = Host::new();
    let (all, some) = (raw(&mut h, IPPROTO_ICMP), raw(&mut h, IPPROTO_ICMP));
    // Echo replies (byte 20 is 0), their first 24 bytes.
    let insns: [(u16, u8, u8, u32); 4] = [(0x30, 0, 0, 20), (0x15, 0, 1, 0), (6, 0, 0, 24), (6, 0, 0, 0)];
    let one = |(code, jt, jf, k): (u16, u8, u8, u32)| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    let value = insns.map(one).concat();
    h.call(Call::SetSockOpt { fd: some, level: SOL_SOCKET, name: SO_ATTACH_FILTER, value: &value }).unwrap();
    send(&mut h, all, ECHO, Some(LO)).unwrap();
    let got = recv(&mut h, some, 0).unwrap().segs.to_vec();
    assert_eq!((got.len(), got[20]), (24, 0));
    assert_eq!(recv(&mut h, some, 0).unwrap_err(), Errno::EAGAIN);
    let dropped = h.k.net.pool.drops().find(|d| d.0 == DropReason::SocketFilter).map_or(0, |d| d.1);
    assert_eq!(dropped, 1);
}
