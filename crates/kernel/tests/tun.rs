//! TUN and TAP devices: headers of virtio before packets, offloads, several readers.
mod host;

use belljar_abi::*;
use belljar_kernel::ids::DevId;
use belljar_kernel::task::call::*;
use belljar_wire::checksum;
use belljar_wire::tcp::{Flags, TcpHeader};
use core::net::Ipv4Addr;
use host::*;

fn tun(h: &mut Host, many: bool) -> DevId {
    let dev = h.k.tun_create(h.ns, "t0", false, many).unwrap();
    h.k.set_link(dev, true).unwrap();
    h.k.net.add_address(dev, Ipv4Addr::new(10, 0, 0, 1), 24).unwrap();
    h.k.tick(0);
    dev
}

fn send(h: &mut Host, fd: Fd, data: &[u8], cmsgs: &[Cmsg]) {
    let to = SockAddr::V4(Ipv4Addr::new(10, 0, 0, 2), 9).emit();
    h.int(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs }).unwrap();
}

#[test]
fn readers_take_what_they_said() {
    let mut h = Host::new();
    let dev = tun(&mut h, false);
    for (bits, said) in [
        (TUN_F_TSO4, Err(Errno::EINVAL)),
        (TUN_F_CSUM | TUN_F_USO4, Err(Errno::EINVAL)),
        (TUN_F_CSUM | 0x80, Err(Errno::EINVAL)),
        (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO, Ok(())),
        (0, Ok(())),
    ] {
        assert_eq!(h.k.tun_set_offload(dev, bits), said, "{bits:#x}");
    }
    let fd = h.socket(SOCK_DGRAM);
    let gso = [Cmsg { level: SOL_UDP, kind: UDP_SEGMENT, data: 1000u16.to_ne_bytes().to_vec() }];
    let data = [7; 2500];
    let lens = |h: &mut Host| -> Vec<(Vec<u8>, usize)> {
        std::iter::from_fn(|| h.k.tun_read(dev, (0, 1), 10)).map(|(v, f)| (v, f.len())).collect()
    };
    // Nothing unfinished: cut and summed.
    send(&mut h, fd, &data, &gso);
    let got = lens(&mut h);
    assert_eq!(got.iter().map(|g| g.1).collect::<Vec<_>>(), [1028, 1028, 528]);
    assert!(got.iter().all(|g| g.0[0] & 1 == 0 && g.0[1] == 0), "{got:?}");
    // Sums are the reader's, and then pieces as well.
    h.k.tun_set_offload(dev, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6).unwrap();
    send(&mut h, fd, &data, &gso);
    // Who cuts makes the sums of the pieces; that of a whole one is left.
    assert_eq!(lens(&mut h).iter().map(|g| g.1).collect::<Vec<_>>(), [1028, 1028, 528]);
    send(&mut h, fd, b"x", &[]);
    assert_eq!(lens(&mut h), [(vec![1, 0, 0, 0, 0, 0, 20, 0, 6, 0], 29)]);
    h.k.tun_set_offload(dev, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6).unwrap();
    send(&mut h, fd, &data, &gso);
    // UDP_L4, 28 bytes of headers, pieces of 1000.
    assert_eq!(lens(&mut h), [(vec![1, 5, 28, 0, 0xe8, 3, 20, 0, 6, 0], 2528)]);
    h.check();
}

#[test]
fn writers_leave_sums_and_pieces_to_us() {
    let mut h = Host::new();
    let dev = tun(&mut h, false);
    let fd = h.socket(SOCK_DGRAM);
    h.bind(fd, Ipv4Addr::new(10, 0, 0, 1), 9).unwrap();
    let packet = |n: usize| {
        let (total, udp) = ((28 + n as u16).to_be_bytes(), (8 + n as u16).to_be_bytes());
        let mut b = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        let sum = belljar_wire::checksum::fold(belljar_wire::checksum::sum(&b, 0)).to_be_bytes();
        b[10..12].copy_from_slice(&sum);
        let pseudo = belljar_wire::checksum::pseudo_v4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 17, 8 + n);
        let partial = belljar_wire::checksum::partial(pseudo).to_be_bytes();
        b.extend([0, 7, 0, 9, udp[0], udp[1], partial[0], partial[1]]);
        b.extend(vec![5; n]);
        b
    };
    let head = |flags: u8, kind: u8, size: u16| {
        let mut v = vec![flags, kind];
        v.extend([28u16, size, 20, 6].iter().flat_map(|w| w.to_ne_bytes()));
        v
    };
    let recv = |h: &mut Host| match h.call(Call::Recv { fd, len: 9000, flags: MSG_DONTWAIT }) {
        Ok(Ret::Data(d)) => Some(d.segs.len()),
        _ => None,
    };
    assert_eq!(h.k.tun_write(0, dev, &head(1, 0, 0), &packet(100)), Ok(128));
    assert_eq!(recv(&mut h), Some(100));
    // Without the word the sum is wrong.
    assert_eq!(h.k.tun_write(0, dev, &head(0, 0, 0), &packet(100)), Ok(128));
    assert_eq!(recv(&mut h), None);
    assert_eq!(h.k.tun_write(0, dev, &head(1, 5, 1000), &packet(2500)), Ok(2528));
    let got: Vec<usize> = std::iter::from_fn(|| recv(&mut h)).collect();
    assert_eq!(got, [1000, 1000, 500]);
    for (v, n) in [(head(1, 9, 10), 100), (head(1, 5, 0), 100), (head(1, 0, 0), 0)] {
        let p = packet(n);
        let cut = if n == 0 { &p[..21] } else { &p[..] };
        assert_eq!(h.k.tun_write(0, dev, &v, cut), Err(Errno::EINVAL), "{v:?}");
    }
    h.check();
}

#[test]
fn flows_stay_with_their_reader() {
    let mut h = Host::new();
    let dev = tun(&mut h, true);
    let fds: Vec<Fd> = (0..8).map(|_| h.socket(SOCK_DGRAM)).collect();
    for fd in fds.iter().chain(&fds) {
        send(&mut h, *fd, b"x", &[]);
    }
    let read = |h: &mut Host, n| -> Vec<Vec<u8>> {
        std::iter::from_fn(|| h.k.tun_read(dev, (n, 2), 0)).map(|(_, f)| f.to_vec()[20..22].to_vec()).collect()
    };
    let (a, b) = (read(&mut h, 0), read(&mut h, 1));
    assert_eq!(a.len() + b.len(), 16);
    assert!(!a.is_empty() && !b.is_empty() && a.iter().all(|p| !b.contains(p)), "{a:?} {b:?}");
}

/// A TCP segment of 10.0.0.2:7 to 10.0.0.1:80 with a window of 65535.
fn segment(flags: Flags, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    let total = (40 + data.len() as u16).to_be_bytes();
    let mut b = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
    belljar_wire::ipv4::set_checksum(&mut b);
    let (csum, urg_ptr) = (0, 0);
    let mut h = TcpHeader { src_port: 7, dst_port: 80, seq, ack, header_len: 20, flags, window: 65_535, csum, urg_ptr };
    let mut t = [&[0; 20], data].concat();
    h.emit(&mut t);
    let pseudo = checksum::pseudo_v4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 6, t.len());
    h.csum = checksum::fold(checksum::sum(&t, pseudo));
    h.emit(&mut t);
    [b, t].concat()
}

/// The last segment that left the device.
fn answer(h: &mut Host, dev: DevId) -> Option<TcpHeader> {
    let frames = std::iter::from_fn(|| h.k.tun_read(dev, (0, 1), 0));
    frames.last().map(|(_, f)| TcpHeader::parse(&f.to_vec()[20..]).unwrap())
}

/// A packet of a TUN device is one buffer, which is never joined to the one before it: on Linux 6.18 the receive buffer of
/// 131072 bytes is full with 56 segments of 1400, and the window closed; joined, 74 would fit.
#[test]
fn what_a_writer_sends_takes_a_buffer_each() {
    let mut h = Host::new();
    let dev = tun(&mut h, false);
    let fd = h.socket(SOCK_STREAM);
    h.bind(fd, Ipv4Addr::new(10, 0, 0, 1), 80).unwrap();
    h.int(Call::Listen { fd, backlog: 1 }).unwrap();
    h.k.tun_write(0, dev, &[], &segment(Flags::SYN, 99, 0, &[])).unwrap();
    let next = answer(&mut h, dev).unwrap().seq.wrapping_add(1);
    h.k.tun_write(0, dev, &[], &segment(Flags::ACK, 100, next, &[])).unwrap();
    let mut last = None;
    for n in 0..80 {
        h.now += 100_000;
        let s = segment(Flags::ACK | Flags::PSH, 100 + 1400 * n, next, &[b'z'; 1400]);
        h.k.tun_write(h.now, dev, &[], &s).unwrap();
        last = answer(&mut h, dev).or(last);
    }
    let last = last.unwrap();
    let segments = (last.ack - 100) / 1400;
    assert!(last.window == 0 && (56..=58).contains(&segments), "{} {segments}", last.window);
    h.check();
}

/// IP_CHECKSUM as measured on Linux 6.18: what is short, or cut by its reader, was summed; what came over lo never was.
#[test]
fn sums_of_payloads_are_told_where_they_were_made() {
    let mut h = Host::new();
    let dev = tun(&mut h, false);
    let fd = h.socket(SOCK_DGRAM);
    h.bind(fd, Ipv4Addr::new(10, 0, 0, 1), 9).unwrap();
    h.int(Call::SetSockOpt { fd, level: SOL_IP, name: IP_CHECKSUM, value: &5i32.to_ne_bytes() }).unwrap();
    let said = h.call(Call::GetSockOpt { fd, level: SOL_IP, name: IP_CHECKSUM, len: 4 });
    assert!(matches!(said, Ok(Ret::Opt(b)) if b == 1i32.to_ne_bytes()));
    let packet = |data: &[u8], summed: bool| {
        let (total, udp) = ((28 + data.len() as u16).to_be_bytes(), 8 + data.len() as u16);
        let mut b = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        belljar_wire::ipv4::set_checksum(&mut b);
        let mut u = [&[0, 7, 0, 9][..], &udp.to_be_bytes(), &[0, 0], data].concat();
        let pseudo = checksum::pseudo_v4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 17, u.len());
        let sum = checksum::fold(checksum::sum(&u, pseudo)).to_be_bytes();
        u[6..8].copy_from_slice(if summed { &sum } else { &[0, 0] });
        [b, u].concat()
    };
    for (data, summed, room, told) in [
        (&b"hello"[..], true, 100, Some(0x6c6c_65d7)),
        (b"ab", true, 100, Some(0x6261)),
        (&[b'x'; 101], true, 200, None),
        (b"hello", false, 100, None),
        (b"", true, 100, Some(u32::MAX)),
        (b"hello", true, 3, Some(0x6c6c_65d7)),
        (&[1; 100], true, 99, Some(0x1919_1919)),
    ] {
        h.k.tun_write(0, dev, &[], &packet(data, summed)).unwrap();
        let Ok(Ret::Data(d)) = h.call(Call::Recv { fd, len: room, flags: MSG_DONTWAIT }) else { panic!() };
        let sum = d.cmsgs.iter().map(|c| (c.kind, u32::from_le_bytes(*c.data.first_chunk().unwrap()))).next();
        assert_eq!(sum, told.map(|s| (IP_CHECKSUM, s)), "{} {summed} {room}", data.len());
    }
    h.k.net.add_address(dev, Ipv4Addr::new(10, 0, 0, 3), 24).unwrap();
    let own = h.socket(SOCK_DGRAM);
    let to = SockAddr::V4(Ipv4Addr::new(10, 0, 0, 1), 9).emit();
    h.int(Call::Send { fd: own, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to), cmsgs: &[] }).unwrap();
    let Ok(Ret::Data(d)) = h.call(Call::Recv { fd, len: 9, flags: MSG_DONTWAIT }) else { panic!() };
    assert!(d.cmsgs.is_empty());
    h.check();
}
