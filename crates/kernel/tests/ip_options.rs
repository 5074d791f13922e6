//! IPv4 options of programs and on the way: record route, time stamps, router alert. Measured on Linux 6.18 with three
//! namespaces in a row, the same as here.
mod three;
use belljar_abi::*;
use belljar_kernel::task::call::*;
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::icmp::*;
use three::*;

fn set(t: &mut Three, who: usize, fd: Fd, name: i32, value: &[u8]) -> SysResult {
    t.try_call(who, Call::SetSockOpt { fd, level: SOL_IP, name, value })
}

fn get(t: &mut Three, who: usize, fd: Fd, (level, name): (i32, i32)) -> Vec<u8> {
    match t.try_call(who, Call::GetSockOpt { fd, level, name, len: 44 }) {
        Ok(Ret::Opt(b)) => b.to_vec(),
        r => panic!("{r:?}"),
    }
}

fn mss(t: &mut Three, who: usize, fd: Fd) -> i32 {
    i32::from_ne_bytes(*get(t, who, fd, (IPPROTO_TCP, TCP_MAXSEG)).first_chunk().unwrap())
}

/// An option with so many zeroes behind its head.
fn option(head: &[u8], zeros: usize) -> Vec<u8> {
    [head, &vec![0; zeros]].concat()
}

/// A datagram with options goes to the server; what they are there, and what would go back.
fn arrives(t: &mut Three, rx: Fd, options: &[u8], by_send: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    let tx = t.socket(CLIENT, SOCK_DGRAM);
    let to = SockAddr::V4(B, 9).emit();
    let mut cmsgs = vec![];
    match by_send {
        true => cmsgs.push(Cmsg { level: SOL_IP, kind: IP_RETOPTS, data: options.to_vec() }),
        false => assert!(set(t, CLIENT, tx, IP_OPTIONS, options).is_ok()),
    }
    let send = Call::Send { fd: tx, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to), cmsgs: &cmsgs };
    assert_eq!(t.try_call(CLIENT, send), Ok(Ret::Int(1)));
    let Ok(Ret::Data(d)) = t.try_call(SERVER, Call::Recv { fd: rx, len: 99, flags: MSG_DONTWAIT }) else { return None };
    let told = |kind| d.cmsgs.iter().find(|c| c.kind == kind).map_or(vec![], |c| c.data.clone());
    Some((told(IP_RECVOPTS), told(IP_RETOPTS)))
}

#[test]
fn every_host_on_the_way_records_itself() {
    let mut t = Three::new();
    let rx = t.bound(SERVER, SOCK_DGRAM, B, 9);
    for name in [IP_RECVOPTS, IP_RECVRETOPTS] {
        set(&mut t, SERVER, rx, name, &1_i32.to_ne_bytes()).unwrap();
    }
    // Half past midnight and a second.
    let wall = 1_801_000_000_000 - t.now;
    t.k.iter_mut().for_each(|k| k.net.env.wall_offset = wall);
    let ms = 1_801_000_u32.to_be_bytes();
    let (a, r2, b) = (A.octets(), R2.octets(), B.octets());
    let same = |o: Vec<u8>| Some((o.clone(), o));

    let rr = [&[7, 15, 16][..], &a, &r2, &b, &[0]].concat();
    assert_eq!(arrives(&mut t, rx, &option(&[7, 15, 4], 12), false), same(rr.clone()));
    assert_eq!(arrives(&mut t, rx, &option(&[7, 15, 4], 12), true), same(rr));
    // Room for one: the others find it full.
    assert_eq!(arrives(&mut t, rx, &option(&[7, 7, 4], 4), false), same([&[7, 7, 8][..], &a, &[0]].concat()));
    let ts = [&[68, 20, 17, 0][..], &ms, &ms, &ms, &[0; 4]].concat();
    assert_eq!(arrives(&mut t, rx, &option(&[68, 20, 5, 0], 16), false), same(ts));
    let both = [&[68, 28, 29, 1][..], &a, &ms, &r2, &ms, &b, &ms].concat();
    assert_eq!(arrives(&mut t, rx, &option(&[68, 28, 5, 1], 24), false), same(both));
    // Two that had no room counted themselves.
    let full = [&[68, 8, 9, 0x20][..], &ms].concat();
    assert_eq!(arrives(&mut t, rx, &option(&[68, 8, 5, 0], 4), false), same(full));
    let asked = [&[68, 20, 5, 3][..], &R1.octets(), &[0; 4], &b, &[0; 4]].concat();
    let told = [&[68, 20, 21, 3][..], &R1.octets(), &ms, &b, &ms].concat();
    assert_eq!(arrives(&mut t, rx, &asked, false), same(told));
    // Router alert does not go back.
    assert_eq!(arrives(&mut t, rx, &[148, 4, 0, 0], false), Some((vec![148, 4, 0, 0], vec![])));
    // A source route needs a router that accepts it, and nobody may set one.
    let tx = t.socket(CLIENT, SOCK_DGRAM);
    assert_eq!(set(&mut t, CLIENT, tx, IP_OPTIONS, &[131, 7, 4, 10, 0, 1, 1]), Err(Errno::EPERM));
}

#[test]
fn streams_make_room_and_answer_with_what_the_syn_had() {
    let mut t = Three::new();
    let listener = t.bound(SERVER, SOCK_STREAM, B, 80);
    let c = t.socket(CLIENT, SOCK_STREAM);
    set(&mut t, CLIENT, c, IP_OPTIONS, &option(&[7, 15, 4], 12)).unwrap();
    t.try_call(CLIENT, Call::Connect { fd: c, addr: &SockAddr::V4(B, 80).emit() }).unwrap();
    let (s, _) = t.accept(SERVER, listener).unwrap();
    assert_eq!((mss(&mut t, CLIENT, c), mss(&mut t, SERVER, s)), (1432, 1432));
    let way = [&[7, 15, 16][..], &A.octets(), &R2.octets(), &B.octets(), &[0]].concat();
    assert_eq!(get(&mut t, SERVER, s, (SOL_IP, IP_OPTIONS)), way);
    assert_eq!(get(&mut t, CLIENT, c, (SOL_IP, IP_OPTIONS)), option(&[7, 15, 4], 13));
    // Full segments still fit the link, in both directions.
    t.seen = [vec![], vec![]];
    let bulk = vec![5; 40_000];
    for (from, to, fd, other) in [(CLIENT, SERVER, c, s), (SERVER, CLIENT, s, c)] {
        assert_eq!(t.send(from, fd, &bulk), Ok(Ret::Int(40_000)));
        let mut got = 0;
        while let Ok((b, _)) = t.recv(to, other)
            && !b.is_empty()
        {
            got += b.len();
            t.sleep(50);
        }
        assert_eq!(got, 40_000);
    }
    let frames = t.seen.iter().flatten();
    assert!(frames.clone().all(|f| f.gso.is_some() || f.len() <= ETH_HLEN + 1500));
    assert!(frames.clone().all(|f| f.head.bytes()[14] == 0x49), "sixteen bytes of options in every packet");
    set(&mut t, CLIENT, c, IP_OPTIONS, &option(&[7, 39, 4], 36)).unwrap();
    assert_eq!(mss(&mut t, CLIENT, c), 1408);
    set(&mut t, CLIENT, c, IP_OPTIONS, b"").unwrap();
    assert_eq!(mss(&mut t, CLIENT, c), 1448);
    assert!(get(&mut t, CLIENT, c, (SOL_IP, IP_OPTIONS)).is_empty());
}

#[test]
fn answers_of_icmp_carry_the_way_there_and_back() {
    let mut t = Three::new();
    let Ok(Ret::Fd(fd)) = t.try_call(CLIENT, Call::Socket { family: AF_INET, kind: SOCK_RAW, protocol: IPPROTO_ICMP })
    else {
        panic!()
    };
    set(&mut t, CLIENT, fd, IP_OPTIONS, &option(&[7, 39, 4], 36)).unwrap();
    let mut echo = [0; ICMP_HLEN];
    IcmpHeader { kind: ICMP_ECHO, code: 0, csum: 0, rest: [0, 7, 0, 1] }.emit(&mut echo);
    let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&echo, 0));
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    t.send_to(CLIENT, fd, &echo, B, 0).unwrap();
    let (answer, _) = t.recv(CLIENT, fd).unwrap();
    let hops = [A, R2, B, B, R1, A].map(|h| h.octets()).concat();
    assert_eq!(&answer[20..23], [7, 39, 28]);
    assert_eq!(&answer[23..47], hops);
    // What did not come that far comes back with the part of the way.
    set(&mut t, CLIENT, fd, IP_TTL, &1_i32.to_ne_bytes()).unwrap();
    t.send_to(CLIENT, fd, &echo, B, 0).unwrap();
    let (error, _) = t.recv(CLIENT, fd).unwrap();
    let ihl = usize::from(error[0] & 15) * 4;
    assert_eq!((ihl, error[ihl]), (60, ICMP_TIME_EXCEEDED));
}
