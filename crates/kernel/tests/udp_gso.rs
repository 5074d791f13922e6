//! UDP_SEGMENT and UDP_GRO: what goes down whole, where it is cut, what comes up together.
mod common;
use belljar_abi::*;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::ipv4::{IPPROTO_UDP, Ipv4Header};
use common::*;

fn pair(h: &mut Host) -> (Fd, Fd) {
    let r = h.udp_on(LO, 5000);
    let s = h.udp();
    h.connect(s, LO, 5000).unwrap();
    (s, r)
}

/// Lengths of all datagrams that wait.
fn lengths(h: &mut Host, fd: Fd) -> Vec<usize> {
    std::iter::from_fn(|| h.recv(fd).ok()).map(|d| d.0.len()).collect()
}

fn send_cmsg(h: &mut Host, fd: Fd, n: usize, cmsg: &[u8]) -> SysResult {
    let cmsgs = [Cmsg { level: SOL_UDP, kind: UDP_SEGMENT, data: cmsg.to_vec() }];
    h.call(Call::Send { fd, data: Payload::Bytes(&vec![7; n]), flags: 0, to: None, cmsgs: &cmsgs })
}

#[test]
fn options_and_limits_as_measured() {
    let mut h = Host::new();
    let (s, r) = pair(&mut h);
    for (v, want) in [(-1, None), (65_536, None), (65_535, Some(65_535)), (500, Some(500))] {
        assert_eq!(h.set(s, SOL_UDP, UDP_SEGMENT, v).ok().map(|_| v), want);
    }
    assert_eq!(h.get(s, SOL_UDP, UDP_SEGMENT), 500);
    h.set(s, SOL_UDP, UDP_GRO, 7).unwrap();
    assert_eq!(h.get(s, SOL_UDP, UDP_GRO), 1);
    h.set(s, SOL_UDP, UDP_SEGMENT, 0).unwrap();
    let sizes = |n: u16| n.to_ne_bytes();
    for (size, n, want) in [
        (100, 350, Ok(vec![100, 100, 100, 50])),
        (100, 100, Ok(vec![100])),
        (100, 0, Ok(vec![0])),
        (0, 350, Ok(vec![350])),
        (1, 128, Ok(vec![1; 128])),
        (1, 129, Err(Errno::EINVAL)),
        (100, 12_801, Err(Errno::EINVAL)),
        (65_507, 65_507, Ok(vec![65_507])),
        (1000, 65_508, Err(Errno::EMSGSIZE)),
        (65_535, 1000, Ok(vec![1000])),
    ] {
        let came = send_cmsg(&mut h, s, n, &sizes(size)).map(|_| lengths(&mut h, r));
        assert_eq!(came, want, "{n} bytes by {size}");
    }
    for bad in [&[1u8][..], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(send_cmsg(&mut h, s, 350, bad), Err(Errno::EINVAL));
    }
    h.set(s, SOL_UDP, UDP_SEGMENT, 100).unwrap();
    h.set(s, SOL_SOCKET, SO_NO_CHECK, 1).unwrap();
    assert_eq!(h.send(s, &[0; 250]), Err(Errno::EINVAL));
}

#[test]
fn corked_parts_are_cut_by_the_size_of_the_first() {
    let mut h = Host::new();
    let (s, r) = pair(&mut h);
    h.set(s, SOL_UDP, UDP_SEGMENT, 100).unwrap();
    let more = |h: &mut Host, n| {
        h.call(Call::Send { fd: s, data: Payload::Bytes(&vec![1; n]), flags: MSG_MORE, to: None, cmsgs: &[] }).unwrap()
    };
    more(&mut h, 150);
    h.set(s, SOL_UDP, UDP_SEGMENT, 200).unwrap();
    h.send(s, &[2; 150]).unwrap();
    assert_eq!(lengths(&mut h, r), [100, 100, 100]);
    h.set(s, SOL_UDP, UDP_SEGMENT, 1).unwrap();
    more(&mut h, 100);
    assert_eq!(h.send(s, &[2; 150]), Err(Errno::EINVAL));
    assert_eq!((lengths(&mut h, r), h.send(s, &[2; 15])), (vec![], Ok(Ret::Int(15))));
    assert_eq!(lengths(&mut h, r), [1; 15]);
}

#[test]
fn a_socket_with_gro_takes_the_whole_and_hears_the_size() {
    let mut h = Host::new();
    let (s, r) = pair(&mut h);
    h.set(s, SOL_UDP, UDP_SEGMENT, 100).unwrap();
    h.set(r, SOL_UDP, UDP_GRO, 1).unwrap();
    h.send(s, &[3; 350]).unwrap();
    h.send(s, &[3; 100]).unwrap();
    for flags in [MSG_PEEK, 0] {
        let d = h.recv_flags(r, 1000, flags).unwrap();
        let size = Cmsg { level: SOL_UDP, kind: UDP_GRO, data: 100i32.to_ne_bytes().to_vec() };
        assert_eq!((d.segs.to_vec(), d.cmsgs), (vec![3; 350], vec![size]));
    }
    // One datagram is nothing special.
    assert!(h.recv_flags(r, 1000, 0).unwrap().cmsgs.is_empty());
    assert_eq!((h.counter(Mib::UdpInDatagrams), h.counter(Mib::UdpOutDatagrams)), (2, 2));
}

/// (identification, DF, length) of what left.
fn wire(h: &mut Host) -> Vec<(u16, bool, usize)> {
    let frames = h.sent();
    frames.iter().map(parse).map(|(_, ip, body)| (ip.id, ip.df, body.len() - 8)).collect()
}

#[test]
fn a_device_without_the_offload_gets_datagrams() {
    let mut h = Host::new();
    h.know_peer();
    h.k.net.devs.get_mut(h.dev).unwrap().features = Features::NONE;
    let s = h.udp();
    h.set(s, SOL_UDP, UDP_SEGMENT, 1000).unwrap();
    h.send_to(s, &[9; 2500], PEER, 7).unwrap();
    let out = wire(&mut h);
    assert_eq!(out.iter().map(|p| p.2).collect::<Vec<_>>(), [1000, 1000, 500]);
    // The whole is longer than the path takes: no DF; identifications count up.
    assert!(out.windows(2).all(|w| w[1].0 == w[0].0.wrapping_add(1) && !w[0].1));
    h.set(s, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO).unwrap();
    h.send_to(s, &[9; 2500], PEER, 7).unwrap();
    assert_eq!(wire(&mut h), [(0, true, 1000), (1, true, 1000), (2, true, 500)]);
    h.set(s, SOL_UDP, UDP_SEGMENT, 1473).unwrap();
    assert_eq!(h.send_to(s, &[9; 2500], PEER, 7), Err(Errno::EMSGSIZE));
}

#[test]
fn a_device_with_it_gets_the_whole() {
    let mut h = Host::new();
    h.know_peer();
    let s = h.udp();
    h.set(s, SOL_UDP, UDP_SEGMENT, 1000).unwrap();
    h.send_to(s, &[9; 2500], PEER, 7).unwrap();
    let f = h.sent();
    assert_eq!((f.len(), f[0].gso.map(|g| (g.size, g.segs))), (1, Some((1000, 3))));
}

/// Datagrams of so many bytes from the peer, in one poll; what a socket reads, with the size that it hears of.
fn merged(gro: bool, lens: &[usize]) -> Vec<(usize, Option<i32>)> {
    let mut h = Host::new();
    h.know_peer();
    let r = h.udp_on(HOST, 7);
    h.set(r, SOL_UDP, UDP_GRO, gro.into()).unwrap();
    for (i, n) in lens.iter().enumerate() {
        let header = Ipv4Header { id: 100 + i as u16, ..from_peer(IPPROTO_UDP) };
        let frame = ip(header, &udp((PEER, 9), (HOST, 7), &vec![i as u8; *n]));
        belljar_kernel::drivers::nic::rx_frame(&mut h.k.net, h.dev, frame);
    }
    h.k.tick(h.now);
    h.collect();
    let size = |d: &Received| d.cmsgs.first().map(|c| i32::from_ne_bytes(c.data[..].try_into().unwrap()));
    std::iter::from_fn(|| h.recv_flags(r, 65_536, 0).ok()).map(|d| (d.segs.len(), size(&d))).collect()
}

#[test]
fn a_card_merges_for_who_asked() {
    assert_eq!(merged(false, &[100, 100]), [(100, None), (100, None)]);
    assert_eq!(merged(true, &[100, 100, 100, 40]), [(340, Some(100))]);
    // A shorter one ends the train, a longer one begins another.
    assert_eq!(merged(true, &[100, 40, 100, 100]), [(140, Some(100)), (200, Some(100))]);
    assert_eq!(merged(true, &[40, 100, 100]), [(40, None), (200, Some(100))]);
    assert_eq!(merged(true, &[7; 63]), [(441, Some(7))]);
    // No more than 64 in one.
    assert_eq!(merged(true, &[1; 64]), [(64, Some(1))]);
    // An empty datagram is no part of a train, and goes up before what is held; a gap in the identifications ends one.
    assert_eq!(merged(true, &[100, 0, 100]), [(0, None), (100, None), (100, None)]);
}
