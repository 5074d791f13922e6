//! Packet sockets. What they answer was measured on Linux 6.18.
mod host;

use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::{DevId, SockId};
use belljar_kernel::kernel::Output;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::task::call::*;
use belljar_wire::Frame;
use host::*;

const ALL: u16 = ETH_P_ALL;
const IP: u16 = 0x800;
const ARP: u16 = 0x806;
const SOL: i32 = SOL_PACKET;

fn open(h: &mut Host, kind: i32, proto: u16) -> Result<Fd, Errno> {
    let protocol = i32::from(proto.to_be());
    match h.call(Call::Socket { family: AF_PACKET, kind: kind | SOCK_NONBLOCK, protocol }) {
        Ok(Ret::Fd(fd)) => Ok(fd),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    }
}

fn raw(h: &mut Host, proto: u16) -> Fd {
    open(h, SOCK_RAW, proto).unwrap()
}

fn ll(proto: u16, ifindex: i32) -> Vec<u8> {
    LinkAddr { protocol: proto, ifindex, ..LinkAddr::default() }.emit().to_vec()
}

fn bind(h: &mut Host, fd: Fd, addr: &[u8]) -> Said {
    h.int(Call::Bind { fd, addr })
}

fn send(h: &mut Host, fd: Fd, data: &[u8], to: Option<&[u8]>) -> Said {
    h.int(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to, cmsgs: &[] })
}

fn recv(h: &mut Host, fd: Fd, len: usize) -> Result<Box<Received>, Errno> {
    match h.call(Call::Recv { fd, len, flags: 0 }) {
        Ok(Ret::Data(d)) => Ok(d),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    }
}

fn set(h: &mut Host, fd: Fd, name: i32, value: &[u8]) -> Result<(), Errno> {
    h.call(Call::SetSockOpt { fd, level: SOL, name, value }).map(|_| ())
}

fn set_int(h: &mut Host, fd: Fd, name: i32, value: i32) -> Result<(), Errno> {
    set(h, fd, name, &value.to_ne_bytes())
}

fn words(h: &mut Host, fd: Fd, name: i32) -> Result<Vec<u32>, Errno> {
    match h.call(Call::GetSockOpt { fd, level: SOL, name, len: 64 })? {
        Ret::Opt(v) => Ok(v.chunks_exact(4).map(|c| u32::from_ne_bytes(c.try_into().unwrap())).collect()),
        r => panic!("{r:?}"),
    }
}

fn from(r: &Received) -> LinkAddr {
    match r.from {
        Some(SockAddr::Link(a)) => a,
        other => panic!("{other:?}"),
    }
}

/// A host with a card as well, whose number is 2.
fn with_nic() -> (Host, DevId) {
    let mut h = Host::new();
    let dev = h.k.add_nic(h.ns, &NicConfig::default()).unwrap();
    h.k.set_link(dev, true).unwrap();
    h.k.tick(0);
    while h.k.pop_output().is_some() {}
    (h, dev)
}

fn frame(dst: [u8; 6], ethertype: u16, payload: &[u8]) -> Frame {
    let bytes = [&dst[..], &[2, 0, 0, 0, 0, 9], &ethertype.to_be_bytes(), payload].concat();
    Frame::from_bytes(&bytes, 0)
}

fn hello(h: &mut Host) {
    let fd = h.socket(SOCK_DGRAM);
    let to = SockAddr::V4(LO, 9).emit();
    h.int(Call::Send { fd, data: Payload::Bytes(b"hello"), flags: 0, to: Some(&to), cmsgs: &[] }).unwrap();
    h.int(Call::Close { fd }).unwrap();
}

#[test]
fn who_may_open_what_and_what_it_is_called() {
    let mut h = Host::new();
    for (kind, said) in [(1, Err(Errno::ESOCKTNOSUPPORT)), (2, Ok(())), (3, Ok(())), (5, Err(Errno::ESOCKTNOSUPPORT))] {
        assert_eq!(open(&mut h, kind, 0).map(drop), said);
    }
    let fd = raw(&mut h, 0);
    let name = |h: &mut Host| match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(a)) => a.emit().to_vec(),
        r => panic!("{r:?}"),
    };
    assert_eq!(name(&mut h), [17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(h.call(Call::GetPeerName { fd }), Err(Errno::EOPNOTSUPP));
    assert_eq!(bind(&mut h, fd, &ll(ALL, 1)[..19]), Err(Errno::EINVAL));
    assert_eq!(bind(&mut h, fd, &[&[2, 0], &ll(ALL, 1)[2..]].concat()), Err(Errno::EINVAL));
    assert_eq!(bind(&mut h, fd, &ll(ALL, 99)), Err(Errno::ENODEV));
    assert_eq!(bind(&mut h, fd, &ll(ALL, 1)), Ok(0));
    assert_eq!(name(&mut h), [17, 0, 0, 3, 1, 0, 0, 0, 4, 3, 0, 6, 0, 0, 0, 0, 0, 0]);
    for call in
        [Call::Listen { fd, backlog: 1 }, Call::Connect { fd, addr: &ll(ALL, 1) }, Call::Shutdown { fd, how: 2 }]
    {
        assert_eq!(h.int(call), Err(Errno::EOPNOTSUPP));
    }
    for (name, want) in [(SO_DOMAIN, AF_PACKET), (SO_TYPE, SOCK_RAW), (SO_PROTOCOL, 0), (SO_BPF_EXTENSIONS, 64)] {
        let got = h.call(Call::GetSockOpt { fd, level: SOL_SOCKET, name, len: 4 });
        assert_eq!(got, Ok(Ret::Opt(want.to_ne_bytes().to_vec())));
    }
    assert_eq!(h.int(Call::SetSockOpt { fd, level: SOL_IP, name: IP_TOS, value: &[1; 4] }), Err(Errno::ENOPROTOOPT));
    let text = h.k.proc_text(h.ns, "/proc/net/packet").unwrap();
    let lines: Vec<_> =
        text.lines().map(|l| l.split_whitespace().skip(1).take(5).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "RefCnt Type Proto Iface R");
    assert_eq!(&lines[1..], ["2 2 0000 0 0", "2 3 0000 0 0", "3 3 0003 1 1"]);
    let mut user = Host::with(1000, belljar_kernel::task::process::Caps::NONE, 64);
    assert_eq!(open(&mut user, SOCK_RAW, ALL), Err(Errno::EPERM));
}

#[test]
fn both_ways_are_seen_with_and_without_link_header() {
    let mut h = Host::new();
    let (all, ip, cooked) = (raw(&mut h, ALL), raw(&mut h, IP), open(&mut h, SOCK_DGRAM, ALL).unwrap());
    let quiet = raw(&mut h, ALL);
    set_int(&mut h, quiet, PACKET_IGNORE_OUTGOING, 1).unwrap();
    assert_eq!(set_int(&mut h, quiet, PACKET_IGNORE_OUTGOING, 2), Err(Errno::EINVAL));
    hello(&mut h);
    // The datagram out and in, the refusal out and in.
    let kinds = |h: &mut Host, fd| -> Vec<(u8, usize)> {
        std::iter::from_fn(|| recv(h, fd, 2000).ok().map(|r| (from(&r).pkttype, r.segs.len()))).collect()
    };
    assert_eq!(kinds(&mut h, all), [(4, 47), (0, 47), (4, 75), (0, 75)]);
    assert_eq!(kinds(&mut h, ip), [(0, 47), (0, 75)]);
    assert_eq!(kinds(&mut h, quiet), [(0, 47), (0, 75)]);
    let r = recv(&mut h, cooked, 20).unwrap();
    let want = LinkAddr { protocol: IP, ifindex: 1, hatype: 772, pkttype: 4, halen: 6, ..LinkAddr::default() };
    assert_eq!((from(&r), r.segs.len(), r.full_len, r.flags), (want, 20, 33, MSG_TRUNC));
    assert_eq!(words(&mut h, all, PACKET_STATISTICS), Ok(vec![4, 0]));
    assert_eq!(words(&mut h, all, PACKET_STATISTICS), Ok(vec![0, 0]));
}

#[test]
fn what_is_told_beside_a_packet() {
    let mut h = Host::new();
    let fd = raw(&mut h, ALL);
    assert_eq!(h.int(Call::Ioctl { fd, request: SIOCGSTAMP.into(), arg: 0 }), Err(Errno::ENOENT));
    set_int(&mut h, fd, PACKET_AUXDATA, 1).unwrap();
    h.int(Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_TIMESTAMPNS_OLD, value: &1i32.to_ne_bytes() }).unwrap();
    h.sleep(5 * MS);
    hello(&mut h);
    let r = recv(&mut h, fd, 2000).unwrap();
    let aux = r.cmsgs.iter().find(|c| c.level == SOL_PACKET).unwrap();
    // TP_STATUS_USER and TP_STATUS_CSUMNOTREADY, twice the length, the network header at 14.
    assert_eq!(aux.data, [9, 0, 0, 0, 47, 0, 0, 0, 47, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 0]);
    assert!(r.cmsgs.iter().any(|c| c.kind == SO_TIMESTAMPNS_OLD));
    assert_eq!(h.int(Call::Ioctl { fd, request: SIOCGSTAMP.into(), arg: 0 }), Ok(5 * MS as i64));
    assert_eq!(h.int(Call::Ioctl { fd, request: SIOCINQ.into(), arg: 0 }), Ok(47));
    // The one that came in over lo has a time of its own, too.
    h.sleep(MS);
    recv(&mut h, fd, 2000).unwrap();
    assert_eq!(h.int(Call::Ioctl { fd, request: SIOCGSTAMPNS.into(), arg: 0 }), Ok(5 * MS as i64));
    for flag in [MSG_OOB, 0x100, MSG_NOSIGNAL | 0x8000] {
        assert_eq!(h.call(Call::Recv { fd, len: 10, flags: flag }), Err(Errno::EINVAL));
    }
    let v = raw(&mut h, ALL);
    set_int(&mut h, v, PACKET_VNET_HDR, 1).unwrap();
    hello(&mut h);
    let r = recv(&mut h, v, 2000).unwrap();
    assert_eq!((r.segs.len(), &r.segs.to_vec()[..10]), (57, &[1, 0, 0, 0, 0, 0, 0x22, 0, 6, 0][..]));
    assert_eq!(recv(&mut h, v, 5).map(drop), Err(Errno::EINVAL));
    let d = open(&mut h, SOCK_DGRAM, ALL).unwrap();
    assert_eq!(set_int(&mut h, d, PACKET_VNET_HDR, 1), Err(Errno::EINVAL));
}

#[test]
fn what_can_be_sent() {
    let (mut h, dev) = with_nic();
    let (fd, cooked) = (raw(&mut h, 0), open(&mut h, SOCK_DGRAM, 0).unwrap());
    let lo = ll(IP, 1);
    let x = |n: usize| vec![b'x'; n];
    assert_eq!(send(&mut h, fd, &x(60), None), Err(Errno::ENXIO));
    assert_eq!(send(&mut h, fd, &x(60), Some(&lo[..18])), Err(Errno::EINVAL));
    let nine = LinkAddr { protocol: IP, ifindex: 1, halen: 9, ..LinkAddr::default() }.emit();
    assert_eq!(send(&mut h, fd, &x(60), Some(&nine)), Err(Errno::EINVAL));
    for index in [0, 99] {
        assert_eq!(send(&mut h, fd, &x(60), Some(&ll(IP, index))), Err(Errno::ENXIO));
    }
    for (n, said) in [(0, Err(Errno::EINVAL)), (13, Err(Errno::EINVAL)), (14, Ok(14)), (65_550, Ok(65_550))] {
        assert_eq!(send(&mut h, fd, &x(n), Some(&lo)), said, "{n}");
    }
    assert_eq!(send(&mut h, fd, &x(65_551), Some(&lo)), Err(Errno::EMSGSIZE));
    assert_eq!(send(&mut h, fd, &x(60), Some(&[&[2, 0], &lo[2..]].concat())), Ok(60));
    for (n, said) in [(0, Ok(0)), (1, Ok(1)), (65_536, Ok(65_536)), (65_537, Err(Errno::EMSGSIZE))] {
        assert_eq!(send(&mut h, cooked, &x(n), Some(&lo)), said, "{n}");
    }
    // A VLAN tag may come on top of the MTU.
    let tagged = |n: usize| [&[2; 12][..], &[0x81, 0], &vec![0; n - 14]].concat();
    assert_eq!(send(&mut h, fd, &tagged(1518), Some(&ll(IP, 2))), Ok(1518));
    assert_eq!(send(&mut h, fd, &x(1518), Some(&ll(IP, 2))), Err(Errno::EMSGSIZE));
    while h.k.pop_output().is_some() {}
    // The device makes the header of a cooked one.
    let to = LinkAddr { protocol: ARP, ifindex: 2, halen: 6, addr: [1, 2, 3, 4, 5, 6, 0, 0], ..LinkAddr::default() };
    send(&mut h, cooked, b"who-has", Some(&to.emit())).unwrap();
    match h.k.pop_output() {
        Some(Output::Frame { dev: d, frame }) => {
            assert_eq!(d, dev);
            assert_eq!(frame.to_vec(), [&[1, 2, 3, 4, 5, 6, 2, 0, 0, 0, 0, 1, 8, 6][..], b"who-has"].concat());
        }
        o => panic!("{o:?}"),
    }
    h.k.set_link(dev, false).unwrap();
    h.k.tick(0);
    assert_eq!(send(&mut h, fd, &x(60), Some(&ll(IP, 2))), Err(Errno::ENETDOWN));
}

#[test]
fn a_sender_does_not_hear_itself_and_may_pass_the_others_by() {
    let mut h = Host::new();
    let (own, other) = (raw(&mut h, ALL), raw(&mut h, ALL));
    bind(&mut h, own, &ll(ALL, 1)).unwrap();
    let frame = [&[0; 12][..], &[8, 0], &[b'y'; 46]].concat();
    send(&mut h, own, &frame, None).unwrap();
    assert_eq!(from(&recv(&mut h, own, 100).unwrap()).pkttype, PACKET_HOST);
    assert_eq!(recv(&mut h, own, 100).map(drop), Err(Errno::EAGAIN));
    let kinds: Vec<_> = std::iter::from_fn(|| recv(&mut h, other, 100).ok()).map(|r| from(&r).pkttype).collect();
    assert_eq!(kinds, [4, 0]);
    set_int(&mut h, own, PACKET_QDISC_BYPASS, 1).unwrap();
    send(&mut h, own, &frame, None).unwrap();
    let kinds: Vec<_> = std::iter::from_fn(|| recv(&mut h, other, 100).ok()).map(|r| from(&r).pkttype).collect();
    assert_eq!(kinds, [0]);
    // Not for the address of lo: nobody's.
    let stray = [&[8; 6][..], &frame[6..]].concat();
    send(&mut h, own, &stray, None).unwrap();
    assert_eq!(from(&recv(&mut h, other, 100).unwrap()).pkttype, PACKET_OTHERHOST);
}

#[test]
fn a_socket_follows_its_device() {
    let (mut h, dev) = with_nic();
    let fd = raw(&mut h, ALL);
    bind(&mut h, fd, &ll(ALL, 2)).unwrap();
    h.k.rx(0, dev, frame([0xff; 6], 0x88b5, b"one"));
    let r = recv(&mut h, fd, 100).unwrap();
    assert_eq!((from(&r).pkttype, from(&r).protocol, from(&r).hatype), (PACKET_BROADCAST, 0x88b5, 1));
    assert_eq!(from(&r).addr, [2, 0, 0, 0, 0, 9, 0, 0]);
    // Of no protocol that is spoken here, but it was taken: no drop.
    assert_eq!(h.k.view_drops(), []);
    h.k.set_link(dev, false).unwrap();
    h.k.tick(0);
    let poll = |h: &mut Host| match h
        .call(Call::Poll { fds: &[PollFd { fd: fd as i32, events: 0xff, revents: 0 }], timeout: Some(0) })
    {
        Ok(Ret::Poll(p)) => p[0].revents,
        r => panic!("{r:?}"),
    };
    assert_eq!(poll(&mut h), 12);
    assert_eq!(recv(&mut h, fd, 100).map(drop), Err(Errno::ENETDOWN));
    assert_eq!(recv(&mut h, fd, 100).map(drop), Err(Errno::EAGAIN));
    h.k.set_link(dev, true).unwrap();
    h.k.rx(0, dev, frame([0xff; 6], 0x88b5, b"two"));
    assert_eq!(recv(&mut h, fd, 100).unwrap().segs.len(), 17);
    h.k.net.unregister_netdev(dev);
    h.k.tick(0);
    assert_eq!(recv(&mut h, fd, 100).map(drop), Err(Errno::ENETDOWN));
    match h.call(Call::GetSockName { fd }) {
        Ok(Ret::Addr(SockAddr::Link(a))) => assert_eq!((a.ifindex, a.hatype), (-1, 0)),
        r => panic!("{r:?}"),
    }
    assert_eq!(bind(&mut h, fd, &ll(ALL, 2)), Err(Errno::ENODEV));
}

#[test]
fn a_full_buffer_drops_and_counts() {
    let mut h = Host::new();
    let fd = raw(&mut h, ALL);
    h.int(Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_RCVBUF, value: &1i32.to_ne_bytes() }).unwrap();
    for _ in 0..10 {
        hello(&mut h);
    }
    let s = words(&mut h, fd, PACKET_STATISTICS).unwrap();
    assert_eq!((s[0], s[1] > 30), (40, true));
    let named = h.k.view_drops().into_iter().find(|d| d.reason == DropReason::PacketSockError.name());
    assert_eq!(named.unwrap().packets, u64::from(s[1]));
    let n = std::iter::from_fn(|| recv(&mut h, fd, 2000).ok()).count() as u32;
    assert_eq!(n + s[1], 40);
    h.int(Call::Close { fd }).unwrap();
}

#[test]
fn a_filter_chooses_and_cuts() {
    let mut h = Host::new();
    let fd = raw(&mut h, ALL);
    let insn = |code: u16, jt: u8, jf: u8, k: u32| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    // UDP only (the byte at 23 is 17), 30 bytes of it.
    let code = [insn(0x30, 0, 0, 23), insn(0x15, 0, 1, 17), insn(6, 0, 0, 30), insn(6, 0, 0, 0)].concat();
    h.int(Call::SetSockOpt { fd, level: SOL_SOCKET, name: SO_ATTACH_FILTER, value: &code }).unwrap();
    hello(&mut h);
    for _ in 0..2 {
        let r = recv(&mut h, fd, 2000).unwrap();
        assert_eq!((r.segs.len(), r.flags), (30, 0));
    }
    assert_eq!(recv(&mut h, fd, 2000).map(drop), Err(Errno::EAGAIN));
    assert_eq!(words(&mut h, fd, PACKET_STATISTICS), Ok(vec![2, 0]));
}

#[test]
fn memberships_are_counted_by_the_device() {
    let (mut h, dev) = with_nic();
    let fd = raw(&mut h, 0);
    let mreq = |index: i32, kind: u16, alen: u16| {
        [&index.to_ne_bytes()[..], &kind.to_ne_bytes(), &alen.to_ne_bytes(), &[0x33, 0x33, 0, 0, 0, 9, 0, 0]].concat()
    };
    for (m, said) in [
        (mreq(99, 1, 0), Err(Errno::ENODEV)),
        (mreq(2, 0, 7), Err(Errno::EINVAL)),
        (mreq(2, 0, 5), Err(Errno::EINVAL)),
        (mreq(2, 3, 5), Err(Errno::EINVAL)),
        (mreq(2, 9, 0), Ok(())),
        (mreq(2, 3, 6), Ok(())),
    ] {
        assert_eq!(set(&mut h, fd, PACKET_ADD_MEMBERSHIP, &m), said, "{m:?}");
    }
    assert_eq!(set(&mut h, fd, PACKET_ADD_MEMBERSHIP, &mreq(2, 1, 0)[..15]), Err(Errno::EINVAL));
    let promisc = |h: &Host| h.k.net.devs.get(dev).unwrap().promiscuity;
    for _ in 0..2 {
        set(&mut h, fd, PACKET_ADD_MEMBERSHIP, &mreq(2, 1, 0)).unwrap();
    }
    assert_eq!(promisc(&h), 1);
    set(&mut h, fd, PACKET_DROP_MEMBERSHIP, &mreq(2, 1, 0)).unwrap();
    assert_eq!(promisc(&h), 1);
    set(&mut h, fd, PACKET_DROP_MEMBERSHIP, &mreq(2, 1, 0)).unwrap();
    assert_eq!((promisc(&h), set(&mut h, fd, PACKET_DROP_MEMBERSHIP, &mreq(2, 1, 0))), (0, Ok(())));
    // A group that nobody joined is filtered by the card, until a packet socket wants it.
    let all = raw(&mut h, ALL);
    h.k.rx(0, dev, frame([0x33, 0x33, 0, 0, 0, 9], 0x88b5, b"x"));
    assert_eq!(recv(&mut h, all, 100).map(drop), Err(Errno::EAGAIN));
    set(&mut h, fd, PACKET_ADD_MEMBERSHIP, &mreq(2, 0, 6)).unwrap();
    h.k.rx(0, dev, frame([0x33, 0x33, 0, 0, 0, 9], 0x88b5, b"x"));
    assert_eq!(from(&recv(&mut h, all, 100).unwrap()).pkttype, PACKET_MULTICAST);
    set(&mut h, fd, PACKET_ADD_MEMBERSHIP, &mreq(2, 1, 0)).unwrap();
    h.int(Call::Close { fd }).unwrap();
    assert_eq!((promisc(&h), h.k.net.devs.get(dev).unwrap().packet_groups.len()), (0, 0));
}

fn fanout(h: &mut Host, fd: Fd, id: u16, kind: u8, flags: u8) -> Result<(), Errno> {
    set(h, fd, PACKET_FANOUT, &[&id.to_ne_bytes()[..], &[kind, flags]].concat())
}

#[test]
fn groups_are_joined_by_equals() {
    let mut h = Host::new();
    let a = raw(&mut h, ALL);
    assert_eq!(fanout(&mut h, a, 1, 8, 0), Err(Errno::EINVAL));
    assert_eq!(fanout(&mut h, a, 1, PACKET_FANOUT_ROLLOVER, PACKET_FANOUT_FLAG_ROLLOVER), Err(Errno::EINVAL));
    assert_eq!(set(&mut h, a, PACKET_FANOUT, &[1, 0]), Err(Errno::EINVAL));
    assert_eq!(fanout(&mut h, a, 200, 0, 0), Ok(()));
    assert_eq!(fanout(&mut h, a, 200, 0, 0), Err(Errno::EALREADY));
    assert_eq!(bind(&mut h, a, &ll(ALL, 1)), Err(Errno::EINVAL));
    assert_eq!(words(&mut h, a, PACKET_FANOUT), Ok(vec![200]));
    assert_eq!(words(&mut h, a, PACKET_ROLLOVER_STATS), Err(Errno::EINVAL));
    let unbound = raw(&mut h, 0);
    assert_eq!(fanout(&mut h, unbound, 100, 0, 0), Err(Errno::EINVAL));
    let arp = raw(&mut h, ARP);
    assert_eq!(fanout(&mut h, arp, 200, 0, 0), Err(Errno::EINVAL));
    let b = raw(&mut h, ALL);
    assert_eq!(fanout(&mut h, b, 200, 1, 0), Err(Errno::EINVAL));
    assert_eq!(fanout(&mut h, b, 200, 0, PACKET_FANOUT_FLAG_IGNORE_OUTGOING), Err(Errno::EINVAL));
    assert_eq!(fanout(&mut h, b, 200, 0, PACKET_FANOUT_FLAG_UNIQUEID), Err(Errno::EINVAL));
    assert_eq!(fanout(&mut h, b, 0, 0, PACKET_FANOUT_FLAG_UNIQUEID), Ok(()));
    assert_eq!(words(&mut h, b, PACKET_FANOUT), Ok(vec![0]));
    let c = raw(&mut h, ALL);
    assert_eq!(fanout(&mut h, c, 301, PACKET_FANOUT_LB, PACKET_FANOUT_FLAG_ROLLOVER), Ok(()));
    assert_eq!(words(&mut h, c, PACKET_FANOUT), Ok(vec![0x1001_012d]));
    assert_eq!(words(&mut h, c, PACKET_ROLLOVER_STATS), Ok(vec![0; 6]));
}

#[test]
fn a_group_shares_what_comes() {
    for (kind, flags) in
        [(PACKET_FANOUT_LB, 0), (PACKET_FANOUT_HASH, 0), (PACKET_FANOUT_RND, 0), (PACKET_FANOUT_CPU, 0)]
    {
        let (mut h, dev) = with_nic();
        let fds: Vec<Fd> = (0..3).map(|_| raw(&mut h, ALL)).collect();
        for fd in &fds {
            fanout(&mut h, *fd, 7, kind, flags).unwrap();
        }
        for _ in 0..9 {
            h.k.rx(0, dev, frame([0xff; 6], 0x88b5, b"same"));
        }
        let got: Vec<usize> = fds.iter().map(|fd| std::iter::from_fn(|| recv(&mut h, *fd, 100).ok()).count()).collect();
        assert_eq!(got.iter().sum::<usize>(), 9);
        match kind {
            PACKET_FANOUT_LB => assert_eq!(got, [3, 3, 3]),
            PACKET_FANOUT_HASH | PACKET_FANOUT_CPU => assert!(got.contains(&9)),
            _ => assert!(!got.contains(&9)),
        }
        // Who leaves leaves it to the others.
        h.int(Call::Close { fd: fds[0] }).unwrap();
        h.k.rx(0, dev, frame([0xff; 6], 0x88b5, b"same"));
        let got: usize = fds[1..].iter().map(|fd| std::iter::from_fn(|| recv(&mut h, *fd, 100).ok()).count()).sum();
        assert_eq!(got, 1);
    }
}

#[test]
fn a_full_member_rolls_over() {
    let (mut h, dev) = with_nic();
    let fds: Vec<Fd> = (0..2).map(|_| raw(&mut h, ALL)).collect();
    for fd in &fds {
        let small = 1i32.to_ne_bytes();
        h.int(Call::SetSockOpt { fd: *fd, level: SOL_SOCKET, name: SO_RCVBUF, value: &small }).unwrap();
        fanout(&mut h, *fd, 7, PACKET_FANOUT_ROLLOVER, 0).unwrap();
    }
    for _ in 0..10 {
        h.k.rx(0, dev, frame([0xff; 6], 0x88b5, b"same"));
    }
    let got: Vec<usize> = fds.iter().map(|fd| std::iter::from_fn(|| recv(&mut h, *fd, 100).ok()).count()).collect();
    assert!(got[0] == got[1] && got[0] > 1 && got[0] < 5, "{got:?}");
}

#[test]
fn a_super_segment_of_a_program_is_cut() {
    let (mut h, _) = with_nic();
    let fd = raw(&mut h, 0);
    set_int(&mut h, fd, PACKET_VNET_HDR, 1).unwrap();
    // UDP from 10.0.0.1 to 10.0.0.2, 2500 bytes in pieces of 1000.
    let mut packet = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0];
    let total = (20u16 + 8 + 2500).to_be_bytes();
    packet.extend([0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let udp = (8u16 + 2500).to_be_bytes();
    packet.extend([0, 7, 0, 9, udp[0], udp[1], 0, 0]);
    packet.extend([b'z'; 2500]);
    let hdr = |flags: u8, kind: u8, size: u16| {
        let mut b = vec![flags, kind];
        b.extend([42u16, size, 34, 6].iter().flat_map(|v| v.to_ne_bytes()));
        b
    };
    let to = ll(IP, 2);
    for (b, said) in [
        (hdr(1, 9, 1000), Errno::EINVAL),
        (hdr(1, 5, 0), Errno::EINVAL),
        (hdr(1, 1, 1000), Errno::EINVAL),
        (hdr(0, 0, 0), Errno::EMSGSIZE),
    ] {
        assert_eq!(send(&mut h, fd, &[b, packet.clone()].concat(), Some(&to)), Err(said));
    }
    let sent = [hdr(1, 5, 1000), packet].concat();
    assert_eq!(send(&mut h, fd, &sent, Some(&to)), Ok(sent.len() as i64));
    let Some(Output::Frame { frame, .. }) = h.k.pop_output() else { panic!() };
    let pieces: Vec<_> = belljar_wire::gso::segment(frame).collect();
    assert_eq!(pieces.iter().map(Frame::len).collect::<Vec<_>>(), [1042, 1042, 542]);
    for p in &pieces {
        let mut p = p.clone();
        belljar_wire::gso::finish_checksum(&mut p);
        assert!(belljar_wire::gso::verify(&p).is_ok());
    }
    // A sum alone is made at once.
    let small = [&hdr(1, 0, 0)[..], &sent[10..10 + 42 + 5]].concat();
    send(&mut h, fd, &small, Some(&to)).unwrap();
    let Some(Output::Frame { frame, .. }) = h.k.pop_output() else { panic!() };
    assert_ne!(frame.to_vec()[40..42], [0, 0]);
}

/// IPv6 with a fragment header that cuts nothing, and TCP behind it, as one super-segment: nobody can cut it, and it goes
/// nowhere, also where a tunnel is in the way. A TCP header of eight bytes is none.
#[test]
fn a_super_segment_that_cannot_be_cut_goes_nowhere() {
    let (mut h, _) = with_nic();
    let fd = raw(&mut h, 0);
    set_int(&mut h, fd, PACKET_VNET_HDR, 1).unwrap();
    let payload = 3000u16;
    let mut packet = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
    let len = (8 + 20 + payload).to_be_bytes();
    packet.extend([0x60, 0, 0, 0, len[0], len[1], 44, 64]);
    packet.extend([0xfd; 32]);
    packet.extend([6, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend(vec![b'z'; payload.into()]);
    let hdr = |start: u16| {
        let mut b = vec![1, 4];
        b.extend([start + 20, 1000, start, 16].iter().flat_map(|v| v.to_ne_bytes()));
        b
    };
    let to = ll(0x86dd, 2);
    let _ = send(&mut h, fd, &[hdr(62), packet.clone()].concat(), Some(&to));
    packet[62 + 12] = 0x20;
    assert_eq!(send(&mut h, fd, &[hdr(62), packet].concat(), Some(&to)), Err(Errno::EINVAL));
}

#[test]
fn packets_for_a_ring_are_its_drivers() {
    let mut h = Host::new();
    let fd = raw(&mut h, ALL);
    let req: Vec<u8> = [4096u32, 1, 2048, 2].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let off = [0u8; 16];
    set(&mut h, fd, PACKET_RX_RING, &req).unwrap();
    assert_eq!(set(&mut h, fd, PACKET_RX_RING, &req), Err(Errno::EBUSY));
    for name in [PACKET_VERSION, PACKET_RESERVE, PACKET_VNET_HDR] {
        assert_eq!(set_int(&mut h, fd, name, 1), Err(Errno::EBUSY));
    }
    hello(&mut h);
    assert_eq!(recv(&mut h, fd, 100).map(drop), Err(Errno::EAGAIN));
    let id = h.k.socks.packet.iter().next().unwrap().0;
    let first = h.k.packet_ring_pop(id).unwrap();
    assert_eq!((first.orig_len, first.from.pkttype), (47, 4));
    h.k.packet_ring_done(id, first, true);
    let second = h.k.packet_ring_pop(id).unwrap();
    h.k.packet_ring_done(id, second, false);
    h.check();
    assert_eq!(words(&mut h, fd, PACKET_STATISTICS), Ok(vec![4, 1]));
    set(&mut h, fd, PACKET_RX_RING, &off).unwrap();
    assert_eq!(h.k.socks.sk(SockId::Packet(id)).unwrap().rmem_alloc, 0);
    for v in [-1, 3] {
        assert_eq!(set_int(&mut h, fd, PACKET_VERSION, v), Err(Errno::EINVAL));
    }
    assert_eq!(set_int(&mut h, fd, PACKET_TX_RING, 1), Err(Errno::EINVAL));
}
