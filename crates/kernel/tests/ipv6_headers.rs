//! Extension headers of a program's own (RFC 3542): what they do to sizes, pieces and ways. Measured on Linux 6.18; what one
//! machine says to itself is compared by `parity/ipv6_headers.py`.
mod two;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::gso::{segment, verify};
use belljar_wire::ipv6::{FragHeader, IPV6_HLEN, Ipv6Header, NEXTHDR_FRAGMENT, NEXTHDR_TCP, NEXTHDR_UDP};
use two::*;

const PAD: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
/// An option that who does not know it passes over.
const OWN: [u8; 16] = [0, 1, 0x1e, 12, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

type Options<'a> = &'a [(i32, &'a [u8])];

/// A route of segments to `B`.
fn to_b() -> Vec<u8> {
    [&[0, 2, 4, 0, 0, 0, 0, 0][..], &B.octets()].concat()
}

fn set(t: &mut Two, who: usize, fd: Fd, name: i32, value: &[u8]) -> Result<i64, Errno> {
    t.int(who, Call::SetSockOpt { fd, level: SOL_IPV6, name, value })
}

/// Headers up to the fragment header or the transport, and the fragment header.
fn chain(p: &[u8]) -> (Vec<(u8, usize)>, Option<FragHeader>, usize) {
    let (mut next, mut at, mut seen) = (Ipv6Header::parse(p).unwrap().next, IPV6_HLEN, Vec::new());
    while matches!(next, 0 | 43 | 60) {
        let len = (usize::from(p[at + 1]) + 1) * 8;
        seen.push((next, len));
        (next, at) = (p[at], at + len);
    }
    let frag = (next == NEXTHDR_FRAGMENT).then(|| FragHeader::parse(&p[at..]).unwrap());
    (seen, frag, p.len() - at - if frag.is_some() { 8 } else { 0 })
}

/// What host 0 sent on the cable, as IPv6 packets.
fn packets(t: &mut Two) -> Vec<Vec<u8>> {
    let frames = std::mem::take(&mut t.seen);
    frames
        .iter()
        .flat_map(|f| segment(f.clone()))
        .map(|f| f.to_vec().split_off(14))
        .filter(|p| p[8..24] == A.octets())
        .collect()
}

#[test]
fn headers_that_routers_look_at_are_in_every_piece() {
    type Case<'a> = (Options<'a>, &'a [(u8, usize)], [usize; 3]);
    let cases: [Case; 3] = [
        (&[(IPV6_HOPOPTS, &PAD)], &[(0, 8)], [1440, 1440, 128]),
        (&[(IPV6_DSTOPTS, &OWN)], &[(60, 16)], [1432, 1432, 144]),
        (&[(IPV6_HOPOPTS, &PAD), (IPV6_DSTOPTS, &OWN)], &[(0, 8), (60, 16)], [1424, 1424, 160]),
    ];
    for (options, headers, pieces) in cases {
        let mut t = Two::new();
        let s = t.socket(1, SOCK_DGRAM, 0);
        t.bind(1, s, B, 9).unwrap();
        let c = t.socket(0, SOCK_DGRAM, 0);
        options.iter().for_each(|(o, v)| _ = set(&mut t, 0, c, *o, v).unwrap());
        t.send(0, c, &[7; 3000], Some((B, 9))).unwrap();
        assert_eq!(t.recv(1, s).unwrap().segs.to_vec(), [7; 3000]);
        let sent = packets(&mut t);
        let udp: Vec<_> =
            sent.iter().map(|p| chain(p)).filter(|c| c.1.is_some_and(|f| f.next == NEXTHDR_UDP)).collect();
        assert_eq!(udp.iter().map(|c| c.2).collect::<Vec<_>>(), pieces);
        assert!(udp.iter().all(|c| c.0 == headers), "{udp:?}");
    }
}

#[test]
fn headers_behind_a_route_are_only_for_its_end() {
    let mut t = Two::new();
    let c = t.socket(0, SOCK_DGRAM, 0);
    for (o, v) in [(IPV6_RTHDR, &to_b()[..]), (IPV6_DSTOPTS, &OWN)] {
        set(&mut t, 0, c, o, v).unwrap();
    }
    t.send(0, c, &[7; 3000], Some((B, 9))).unwrap();
    let sent: Vec<_> = packets(&mut t).iter().map(|p| chain(p)).filter(|c| c.1.is_some()).collect();
    assert!(sent.iter().all(|c| c.0 == [(43, 24)] && c.1.unwrap().next == 60), "{sent:?}");
    // Mtu less IPv6's, the route's and the fragment's header.
    assert_eq!(sent.iter().map(|c| c.2).collect::<Vec<_>>(), [1424, 1424, 3000 + 8 + 16 - 2848]);
}

#[test]
fn they_count_where_a_datagram_is_not_cut() {
    let mut t = Two::new();
    for (sticky, message) in [(true, false), (false, true)] {
        let c = t.socket(0, SOCK_DGRAM, 0);
        t.set(0, c, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO).unwrap();
        if sticky {
            set(&mut t, 0, c, IPV6_HOPOPTS, &PAD).unwrap();
        }
        let cmsgs: Vec<Cmsg> =
            message.then(|| Cmsg { level: SOL_IPV6, kind: IPV6_HOPOPTS, data: PAD.to_vec() }).into_iter().collect();
        let to = SockAddr::v6(B, 9).emit();
        for (len, said) in [(1445, Err(Errno::EMSGSIZE)), (1444, Ok(1444))] {
            let bytes = vec![1; len];
            let call = Call::Send { fd: c, data: Payload::Bytes(&bytes), flags: 0, to: Some(&to), cmsgs: &cmsgs };
            assert_eq!(t.int(0, call), said);
        }
    }
    let c = t.socket(0, SOCK_DGRAM, 0);
    set(&mut t, 0, c, IPV6_DSTOPTS, &OWN).unwrap();
    assert_eq!(t.send(0, c, &[1; 65_512], Some((B, 9))), Err(Errno::EMSGSIZE));
    assert_eq!(t.send(0, c, &[1; 65_511], Some((B, 9))), Ok(65_511));
}

#[test]
fn segments_of_a_stream_are_shorter_by_them() {
    let cases: [(Options, Options, i32); 4] = [
        (&[], &[], 1428),
        (&[(IPV6_HOPOPTS, &PAD)], &[], 1420),
        (&[(IPV6_HOPOPTS, &PAD), (IPV6_DSTOPTS, &OWN)], &[], 1404),
        (&[], &[(IPV6_DSTOPTS, &OWN)], 1412),
    ];
    for (before, later, mss) in cases {
        let mut t = Two::new();
        let l = t.socket(1, SOCK_STREAM, 0);
        t.bind(1, l, B, 80).unwrap();
        t.int(1, Call::Listen { fd: l, backlog: 8 }).unwrap();
        let c = t.socket(0, SOCK_STREAM, 0);
        before.iter().for_each(|(o, v)| _ = set(&mut t, 0, c, *o, v).unwrap());
        let _ = t.connect(0, c, B, 80);
        later.iter().for_each(|(o, v)| _ = set(&mut t, 0, c, *o, v).unwrap());
        let said = t.call(0, Call::GetSockOpt { fd: c, level: SOL_TCP, name: TCP_MAXSEG, len: 4 }).unwrap();
        assert_eq!(said, Ret::Opt(mss.to_ne_bytes().to_vec()));
        let Ok(Ret::Accepted { fd, .. }) = t.call(1, Call::Accept { fd: l, flags: SOCK_NONBLOCK }) else { panic!() };
        t.seen.clear();
        t.send(0, c, &[3; 20_000], None).unwrap();
        t.sleep(300);
        assert_eq!(t.recv(1, fd).unwrap().segs.to_vec(), [3; 20_000]);
        let sent = packets(&mut t);
        let (longest, headers) = (sent.iter().map(Vec::len).max().unwrap(), chain(&sent[0]).0);
        assert_eq!((longest, headers.len()), (1500, before.len() + later.len()));
    }
}

#[test]
fn a_route_of_segments_is_named_and_summed_to_its_end() {
    let mut t = Two::new();
    let end = "fd77::7".parse().unwrap();
    let two = [&[0, 4, 4, 1, 1, 0, 0, 0][..], &[0; 16], &B.octets()].concat();
    for kind in [SOCK_DGRAM, SOCK_STREAM] {
        let c = t.socket(0, kind, 0);
        set(&mut t, 0, c, IPV6_RTHDR, &two).unwrap();
        t.seen.clear();
        // There is no other way to the end than by the first segment.
        let _ = t.connect(0, c, end, 9);
        let _ = t.send(0, c, b"x", None);
        let frames: Vec<_> = t.seen.drain(..).filter(|f| f.to_vec()[14 + 8..14 + 24] == A.octets()).collect();
        let frame = frames.iter().find(|f| f.to_vec()[14 + 6] == 43).expect("sent");
        let whole = segment(frame.clone()).next().unwrap();
        let p = whole.to_vec().split_off(14);
        assert_eq!((&p[24..40], &p[48..64], &p[64..80]), (&B.octets()[..], &end.octets()[..], &B.octets()[..]));
        assert!(matches!(p[40], NEXTHDR_UDP | NEXTHDR_TCP));
        let bytes = belljar_wire::Frame::from_bytes(&whole.to_vec(), 1);
        assert_eq!(verify(&bytes), Ok(()));
    }
    // Nobody follows one: seg6_enabled is off.
    let before = t.count(1, belljar_kernel::net::mib::Mib::Ip6InHdrErrors);
    let (s, c) = (t.socket(1, SOCK_DGRAM, 0), t.socket(0, SOCK_DGRAM, 0));
    t.bind(1, s, B, 9).unwrap();
    set(&mut t, 0, c, IPV6_RTHDR, &to_b()).unwrap();
    t.send(0, c, b"x", Some((B, 9))).unwrap();
    assert_eq!(t.recv(1, s).map(drop), Err(Errno::EAGAIN));
    assert_eq!(t.count(1, belljar_kernel::net::mib::Mib::Ip6InHdrErrors), before);
}

#[test]
fn options_are_for_those_who_may_and_routes_for_all() {
    let mut t = Two::new();
    let p = t.k.add_process(t.ns[0], 1000, Caps::NONE, 64, "user");
    t.task[0] = t.k.add_task(p, 0).unwrap();
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let c = t.socket(0, kind, 0);
        for o in [IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_DSTOPTS] {
            for v in [&PAD[..], &[], &[1]] {
                assert_eq!(set(&mut t, 0, c, o, v), Err(Errno::EPERM));
            }
        }
        assert_eq!(set(&mut t, 0, c, IPV6_RTHDR, &to_b()), Ok(0));
    }
    let c = t.socket(0, SOCK_DGRAM, 0);
    let to = SockAddr::v6(B, 9).emit();
    let said = [
        (IPV6_HOPOPTS, &PAD[..], Errno::EPERM),
        (IPV6_DSTOPTS, &PAD, Errno::EPERM),
        (IPV6_2292HOPOPTS, &PAD, Errno::EPERM),
        (IPV6_2292DSTOPTS, &PAD, Errno::EPERM),
        (IPV6_RTHDR, &to_b(), Errno::EINVAL),
        (IPV6_HOPOPTS, &[], Errno::EINVAL),
    ];
    for (kind, data, error) in said {
        let cmsgs = [Cmsg { level: SOL_IPV6, kind, data: data.to_vec() }];
        let call = Call::Send { fd: c, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to), cmsgs: &cmsgs };
        assert_eq!(t.int(0, call), Err(error), "{kind}");
    }
}

/// A limit of this stack: what lies in front of a transport header is in the linear part of a packet.
#[test]
fn there_is_room_for_so_many_bytes() {
    let mut t = Two::new();
    let long = |n: u8| [vec![0, n / 8 - 1, 0x1e, n - 4], vec![0; usize::from(n) - 4]].concat();
    let (c, d) = (t.socket(0, SOCK_STREAM, 0), t.socket(0, SOCK_DGRAM, 0));
    for (fd, most) in [(c, 40), (d, 88)] {
        assert_eq!(set(&mut t, 0, fd, IPV6_DSTOPTS, &long(most + 8)), Err(Errno::ENOBUFS));
        assert_eq!(set(&mut t, 0, fd, IPV6_DSTOPTS, &long(most)), Ok(0));
        assert_eq!(set(&mut t, 0, fd, IPV6_HOPOPTS, &PAD), Err(Errno::ENOBUFS));
    }
    let s = t.socket(1, SOCK_DGRAM, 0);
    t.bind(1, s, B, 9).unwrap();
    t.send(0, d, &[7; 3000], Some((B, 9))).unwrap();
    assert_eq!(t.recv(1, s).unwrap().segs.to_vec(), [7; 3000]);
    let raw = [t.socket(0, SOCK_RAW, 200), t.socket(1, SOCK_RAW, 200)];
    set(&mut t, 0, raw[0], IPV6_DSTOPTS, &long(88)).unwrap();
    t.set(1, raw[1], IPV6_RECVDSTOPTS, 1).unwrap();
    t.send(0, raw[0], &[5; 200], Some((B, 0))).unwrap();
    let r = t.recv(1, raw[1]).unwrap();
    assert_eq!((r.segs.to_vec(), r.cmsgs[0].data.len()), (vec![5; 200], 88));
}
