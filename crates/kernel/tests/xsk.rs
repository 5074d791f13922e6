//! AF_XDP sockets with rings as values. Every line was seen on Linux 6.18 with a program that redirects to an XSKMAP.
mod host;

use belljar_abi::if_xdp::*;
use belljar_abi::*;
use belljar_kernel::ids::{DevId, XskId};
use belljar_kernel::net::packet::ring::Memory;
use belljar_kernel::net::xsk::{self, run::Maps};
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use host::*;
use std::collections::BTreeMap;

const SIZE: u64 = 65_536;
const CHUNK: u64 = 2048;
const PROTO: u16 = 0x88b5;
const RINGS: [(i32, u64); 4] = [
    (XDP_RX_RING, XDP_PGOFF_RX_RING),
    (XDP_TX_RING, XDP_PGOFF_TX_RING),
    (XDP_UMEM_FILL_RING, XDP_UMEM_PGOFF_FILL_RING),
    (XDP_UMEM_COMPLETION_RING, XDP_UMEM_PGOFF_COMPLETION_RING),
];

/// All memory that programs share, by number.
#[derive(Default)]
struct Shared(BTreeMap<u32, Vec<u8>>);

struct Piece<'a>(&'a mut Vec<u8>);

impl Memory for Piece<'_> {
    fn read_u32(&mut self, at: u64) -> u32 {
        u32::from_ne_bytes(self.0[at as usize..at as usize + 4].try_into().unwrap())
    }
    fn read(&mut self, at: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0[at as usize..at as usize + bytes.len()]);
    }
    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }
}

impl Maps for Shared {
    fn ring(&mut self, id: u32) -> impl Memory {
        Piece(self.0.get_mut(&id).unwrap())
    }
    fn umem(&mut self, id: u32) -> impl Memory {
        Piece(self.0.get_mut(&id).unwrap())
    }
}

/// Two ends of a pair, and a packet socket on the one with which the other is sent to.
struct World {
    h: Host,
    v0: DevId,
    v1: DevId,
    raw: Fd,
    m: Shared,
}

fn index(h: &Host, dev: DevId) -> u32 {
    h.k.net.devs.get(dev).unwrap().ifindex
}

fn tap(h: &mut Host, proto: u16, dev: DevId) -> Fd {
    let fd = h.int(Call::Socket { family: AF_PACKET, kind: SOCK_RAW | SOCK_NONBLOCK, protocol: 0 }).unwrap() as Fd;
    let addr = LinkAddr { protocol: proto, ifindex: index(h, dev) as i32, ..LinkAddr::default() }.emit();
    h.int(Call::Bind { fd, addr: &addr }).unwrap();
    fd
}

fn frame(text: &[u8]) -> Vec<u8> {
    [&[0; 12], &PROTO.to_be_bytes()[..], text].concat()
}

impl World {
    fn new() -> World {
        let mut h = Host::new();
        let (v0, v1) = h.k.net.add_veth((h.ns, "v0"), (h.ns, "v1")).unwrap();
        for dev in [v0, v1] {
            h.k.net.set_mtu(dev, 9000).unwrap();
            h.k.set_link(dev, true).unwrap();
        }
        let said = h.k.xdp_words(h.ns, &["set", "dev", "v1", "generic", "xsk"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let raw = tap(&mut h, 0, v0);
        World { h, v0, v1, raw, m: Shared::default() }
    }

    fn send(&mut self, text: &[u8]) {
        let b = frame(text);
        self.h.send(self.raw, &b).unwrap();
    }
}

fn open(h: &mut Host) -> (Fd, XskId) {
    let fd = h.int(Call::Socket { family: AF_XDP, kind: SOCK_RAW, protocol: 0 }).unwrap() as Fd;
    (fd, h.k.socks.xsk.iter().map(|(id, _)| id).max().unwrap())
}

fn set(h: &mut Host, fd: Fd, name: i32, value: &[u8]) -> Result<(), Errno> {
    h.call(Call::SetSockOpt { fd, level: SOL_XDP, name, value }).map(drop)
}

fn entries(h: &mut Host, fd: Fd, name: i32, n: u32) -> Result<(), Errno> {
    set(h, fd, name, &n.to_ne_bytes())
}

fn reg(addr: u64, size: u64, chunk: u32, headroom: u32, flags: u32) -> Vec<u8> {
    let mut b = [addr, size].map(u64::to_ne_bytes).concat();
    b.extend([chunk, headroom, flags, 0].iter().flat_map(|v| v.to_ne_bytes()));
    b
}

fn bind(h: &mut Host, fd: Fd, ifindex: u32, queue: u32, flags: u16, shared: Fd) -> Result<(), Errno> {
    let addr = XdpAddr { flags, ifindex, queue, shared_umem_fd: shared }.emit();
    h.int(Call::Bind { fd, addr: &addr }).map(drop)
}

/// A bound socket and what its program knows.
struct X {
    fd: Fd,
    id: XskId,
    umem: u32,
    /// Ring numbers in the order of [`RINGS`].
    rings: [u32; 4],
}

impl X {
    fn new(w: &mut World, dev: DevId, chunk: u32, flags: u32) -> X {
        let (fd, id) = open(&mut w.h);
        set(&mut w.h, fd, XDP_UMEM_REG, &reg(4096, SIZE, chunk, 0, flags)).unwrap();
        let umem = w.h.k.socks.xsk.get(id).unwrap().umem.unwrap().id;
        w.m.0.insert(umem, vec![0; SIZE as usize]);
        for (name, _) in RINGS {
            entries(&mut w.h, fd, name, 4).unwrap();
        }
        let rings = RINGS.map(|(_, offset)| {
            let (number, bytes) = xsk::mapping(&w.h.k, id, offset).unwrap();
            w.m.0.insert(number, vec![0; bytes as usize]);
            number
        });
        let ifindex = index(&w.h, dev);
        bind(&mut w.h, fd, ifindex, 0, XDP_COPY, 0).unwrap();
        w.h.k.xsk_bound(id, &mut w.m);
        X { fd, id, umem, rings }
    }

    fn word(&self, w: &mut World, ring: usize, at: u64) -> u32 {
        w.m.ring(self.rings[ring]).read_u32(at)
    }

    /// Producer and consumer.
    fn at(&self, w: &mut World, ring: usize) -> (u32, u32) {
        (self.word(w, ring, 0), self.word(w, ring, 128))
    }

    fn put(&self, w: &mut World, ring: usize, addr: u64, len: u32, options: u32) {
        let n = self.word(w, ring, 0);
        let mut m = w.m.ring(self.rings[ring]);
        let size = if ring == 1 { 16 } else { 8 };
        let at = 320 + size * u64::from(n % 4);
        m.write(at, &addr.to_ne_bytes());
        if ring == 1 {
            m.write(at + 8, &[len, options].map(u32::to_ne_bytes).concat());
        }
        m.write(0, &n.wrapping_add(1).to_ne_bytes());
    }

    fn fill(&self, w: &mut World, addr: u64) {
        self.put(w, 2, addr, 0, 0);
    }

    fn tx(&self, w: &mut World, addr: u64, len: u32) {
        self.put(w, 1, addr, len, 0);
    }

    fn take(&self, w: &mut World, ring: usize) -> Option<(u64, u32)> {
        let (prod, cons) = self.at(w, ring);
        if prod == cons {
            return None;
        }
        let mut m = w.m.ring(self.rings[ring]);
        let at = 320 + if ring == 0 { 16 } else { 8 } * u64::from(cons % 4);
        let addr = u64::from(m.read_u32(at)) | u64::from(m.read_u32(at + 4)) << 32;
        let len = if ring == 0 { m.read_u32(at + 8) } else { 0 };
        m.write(128, &cons.wrapping_add(1).to_ne_bytes());
        Some((addr, len))
    }

    fn rcv(&self, w: &mut World) {
        w.h.k.xsk_rcv(self.id, &mut w.m);
        w.h.check();
    }

    fn kick(&self, w: &mut World) -> Result<(), Errno> {
        let done = w.h.k.xsk_sendmsg(w.h.now, self.id, true, &mut w.m);
        w.h.check();
        done
    }

    fn poll(&self, w: &mut World) -> u32 {
        w.h.k.xsk_poll(w.h.now, self.id, &mut w.m)
    }

    /// rx_dropped, tx_invalid_descs, rx_ring_full, rx_fill_ring_empty_descs.
    fn stats(&self, w: &mut World) -> [u64; 4] {
        let call = Call::GetSockOpt { fd: self.fd, level: SOL_XDP, name: XDP_STATISTICS, len: 48 };
        let Ok(Ret::Opt(v)) = w.h.call(call) else { panic!() };
        [0, 2, 3, 4].map(|n| u64::from_ne_bytes(v[n * 8..n * 8 + 8].try_into().unwrap()))
    }
}

#[test]
fn options_are_taken_and_refused() {
    let mut h = Host::new();
    for (kind, protocol, said) in [(SOCK_DGRAM, 0, Errno::ESOCKTNOSUPPORT), (SOCK_RAW, 1, Errno::EPROTONOSUPPORT)] {
        assert_eq!(h.int(Call::Socket { family: AF_XDP, kind, protocol }), Err(said));
    }
    let (fd, id) = open(&mut h);
    for (name, _) in RINGS {
        for n in [0, 3, 24, 1 << 31] {
            let e = if n == 1 << 31 { Errno::ENOMEM } else { Errno::EINVAL };
            assert_eq!(entries(&mut h, fd, name, n), Err(e));
        }
    }
    assert_eq!(set(&mut h, fd, XDP_RX_RING, &[8, 0]), Err(Errno::EINVAL));
    assert_eq!(entries(&mut h, fd, 99, 1), Err(Errno::ENOPROTOOPT));
    let ok = |r: &Result<(), Errno>| r.is_ok();
    for (value, good) in [
        (reg(8, SIZE, 2048, 0, 0), false),
        (reg(4096, SIZE, 1024, 0, 0), false),
        (reg(4096, SIZE, 3000, 0, 0), false),
        (reg(4096, SIZE, 3000, 0, 1), true),
        (reg(4096, SIZE, 8192, 0, 0), false),
        (reg(4096, SIZE + 100, 2048, 0, 0), false),
        (reg(4096, 1024, 2048, 0, 0), false),
        (reg(4096, 0, 2048, 0, 0), false),
        (reg(4096, SIZE, 2048, 1792, 0), false),
        (reg(4096, SIZE, 2048, 1791, 0), true),
        (reg(4096, SIZE, 2048, 0, 8), false),
        (reg(4096, SIZE, 2048, 0, 0)[..23].to_vec(), false),
        (reg(4096, SIZE, 2048, 0, 0)[..24].to_vec(), true),
    ] {
        let (t, _) = open(&mut h);
        assert_eq!(ok(&set(&mut h, t, XDP_UMEM_REG, &value)), good, "{value:?}");
        h.close(t);
    }
    let get = |h: &mut Host, name: i32, len: usize| match h.call(Call::GetSockOpt { fd, level: SOL_XDP, name, len }) {
        Ok(Ret::Opt(v)) => Ok(v.len()),
        Err(e) => Err(e),
        r => panic!("{r:?}"),
    };
    for (name, len, said) in [
        (XDP_STATISTICS, 48, Ok(48)),
        (XDP_STATISTICS, 24, Ok(24)),
        (XDP_STATISTICS, 16, Err(Errno::EINVAL)),
        (XDP_MMAP_OFFSETS, 200, Ok(128)),
        (XDP_MMAP_OFFSETS, 96, Ok(96)),
        (XDP_MMAP_OFFSETS, 64, Err(Errno::EINVAL)),
        (XDP_OPTIONS, 4, Ok(4)),
        (XDP_OPTIONS, 2, Err(Errno::EINVAL)),
        (99, 4, Err(Errno::EOPNOTSUPP)),
    ] {
        assert_eq!(get(&mut h, name, len), said, "{name} {len}");
    }
    assert_eq!(xsk::mapping(&h.k, id, XDP_PGOFF_RX_RING), Err(Errno::EINVAL));
    entries(&mut h, fd, XDP_RX_RING, 8).unwrap();
    assert_eq!(xsk::mapping(&h.k, id, XDP_PGOFF_RX_RING).unwrap().1, 4096);
    assert_eq!(entries(&mut h, fd, XDP_RX_RING, 8), Err(Errno::EINVAL));
    assert_eq!(h.get(fd, SOL_SOCKET, SO_DOMAIN), Ok(AF_XDP));
    assert_eq!(h.get(fd, SOL_SOCKET, SO_TYPE), Ok(SOCK_RAW));
}

#[test]
fn bind_says_what_is_missing() {
    let mut w = World::new();
    let (v0, v1) = (index(&w.h, w.v0), index(&w.h, w.v1));
    let h = &mut w.h;
    let (fd, _) = open(h);
    assert_eq!(bind(h, fd, v1, 0, 0, 0), Err(Errno::EINVAL));
    set(h, fd, XDP_UMEM_REG, &reg(4096, SIZE, 2048, 0, 0)).unwrap();
    assert_eq!(set(h, fd, XDP_UMEM_REG, &reg(4096, SIZE, 2048, 0, 0)), Err(Errno::EBUSY));
    entries(h, fd, XDP_RX_RING, 8).unwrap();
    assert_eq!(bind(h, fd, v1, 0, 0, 0), Err(Errno::EINVAL));
    for name in [XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING] {
        entries(h, fd, name, 8).unwrap();
    }
    for (ifindex, queue, flags, said) in [
        (999, 0, 0, Errno::ENODEV),
        (v1, 5, 0, Errno::EINVAL),
        (v1, 0, XDP_ZEROCOPY, Errno::EOPNOTSUPP),
        (v1, 0, XDP_COPY | XDP_ZEROCOPY, Errno::EINVAL),
        (v1, 0, 64, Errno::EINVAL),
        (v1, 0, XDP_SHARED_UMEM | XDP_COPY, Errno::EINVAL),
        (v1, 0, XDP_SHARED_UMEM, Errno::EINVAL),
    ] {
        assert_eq!(bind(h, fd, ifindex, queue, flags, 999), Err(said), "{ifindex} {queue} {flags}");
    }
    assert_eq!(h.send(fd, b""), Err(Errno::EBUSY));
    bind(h, fd, v1, 0, XDP_COPY | XDP_USE_NEED_WAKEUP, 0).unwrap();
    assert_eq!(bind(h, fd, v1, 0, 0, 0), Err(Errno::EBUSY));
    assert_eq!(entries(h, fd, XDP_TX_RING, 8), Err(Errno::EBUSY));
    // Others at the same queue share, or find it taken.
    let (own, _) = open(h);
    set(h, own, XDP_UMEM_REG, &reg(4096, SIZE, 2048, 0, 0)).unwrap();
    for name in [XDP_RX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING] {
        entries(h, own, name, 4).unwrap();
    }
    assert_eq!(bind(h, own, v1, 0, 0, 0), Err(Errno::EBUSY));
    assert_eq!(bind(h, own, v1, 0, XDP_SHARED_UMEM, fd), Err(Errno::EINVAL));
    let (with, id) = open(h);
    entries(h, with, XDP_RX_RING, 4).unwrap();
    let udp = h.socket(SOCK_DGRAM);
    assert_eq!(bind(h, with, v1, 0, XDP_SHARED_UMEM, udp), Err(Errno::ENOPROTOOPT));
    assert_eq!(bind(h, with, v1, 0, XDP_SHARED_UMEM, with), Err(Errno::EBADF));
    bind(h, with, v1, 0, XDP_SHARED_UMEM, fd).unwrap();
    assert!(xsk::mapping(&h.k, id, XDP_UMEM_PGOFF_FILL_RING).is_ok());
    let (else_, _) = open(h);
    for name in [XDP_RX_RING, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING] {
        entries(h, else_, name, 4).unwrap();
    }
    assert_eq!(bind(h, else_, v1, 0, XDP_SHARED_UMEM, fd), Err(Errno::EINVAL));
    bind(h, else_, v0, 0, XDP_SHARED_UMEM, fd).unwrap();
    for fd in [fd, with, else_, own] {
        h.close(fd);
    }
    assert_eq!((h.k.socks.xsk.iter().count(), h.k.socks.xsk_pools.iter().count()), (0, 0));
    w.h.check();
}

#[test]
fn what_comes_lies_where_the_ring_says() {
    let mut w = World::new();
    let stack = tap(&mut w.h, PROTO, w.v1);
    w.send(b"nobody");
    assert_eq!(w.h.recv(stack, 100).unwrap()[14..], *b"nobody");
    let v1 = w.v1;
    let x = X::new(&mut w, v1, 2048, 0);
    assert_eq!([1, 2].map(|ring| x.word(&mut w, ring, 196)), [XDP_RING_NEED_WAKEUP, 0]);
    w.send(b"no fill");
    x.rcv(&mut w);
    assert_eq!((x.stats(&mut w), x.take(&mut w, 0), w.h.recv(stack, 100)), ([1, 0, 0, 1], None, Err(Errno::EAGAIN)));
    for addr in [CHUNK * 3, CHUNK * 4 + 77, 1 << 40] {
        x.fill(&mut w, addr);
    }
    w.send(b"one");
    w.send(b"two");
    assert_eq!(x.poll(&mut w), EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM);
    assert_eq!([x.take(&mut w, 0), x.take(&mut w, 0)], [Some((6400, 17)), Some((8448, 17))]);
    assert_eq!(w.m.0[&x.umem][6400..6417], frame(b"one"));
    assert_eq!(x.at(&mut w, 2), (3, 2));
    // An address of nothing is passed over.
    w.send(b"three");
    x.rcv(&mut w);
    assert_eq!((x.stats(&mut w), x.at(&mut w, 2)), ([2, 0, 0, 2], (3, 3)));
    for n in 0..4 {
        x.fill(&mut w, n * CHUNK);
    }
    for n in 0..6u8 {
        w.send(&[b'0' + n]);
    }
    x.rcv(&mut w);
    assert_eq!((x.stats(&mut w), x.at(&mut w, 2).1, x.at(&mut w, 0).0), ([4, 0, 0, 4], 7, 6));
    for n in 0..4 {
        x.fill(&mut w, n * CHUNK);
    }
    w.send(b"full");
    x.rcv(&mut w);
    assert_eq!((x.stats(&mut w), x.at(&mut w, 2).1), ([4, 0, 1, 4], 8));
    assert_eq!(std::iter::from_fn(|| x.take(&mut w, 0)).count(), 4);
    // The chunk that found no place is used first.
    w.send(b"again");
    x.rcv(&mut w);
    assert_eq!((x.take(&mut w, 0), x.at(&mut w, 2).1), (Some((256, 19)), 8));
    w.send(&[b'x'; 1778]);
    w.send(&[b'x'; 1779]);
    x.rcv(&mut w);
    assert_eq!((x.take(&mut w, 0), x.take(&mut w, 0), x.stats(&mut w)), (Some((2304, 1792)), None, [5, 0, 1, 4]));
    // What waits when the socket goes, goes too; the stack has the rest.
    w.send(b"late");
    w.h.close(x.fd);
    w.send(b"back");
    assert_eq!(w.h.recv(stack, 100).unwrap()[14..], *b"back");
    let told = w.h.k.xdp_words(w.h.ns, &["show"]).stdout;
    assert!(told.contains("    xsk: "), "{told}");
}

#[test]
fn what_is_sent_is_complete_when_it_has_ended() {
    let mut w = World::new();
    let v1 = w.v1;
    let x = X::new(&mut w, v1, 2048, 0);
    let (there, here) = (tap(&mut w.h, ETH_P_ALL, w.v0), tap(&mut w.h, ETH_P_ALL, w.v1));
    assert_eq!(x.kick(&mut w), Ok(()));
    assert_eq!(w.h.k.xsk_sendmsg(0, x.id, false, &mut w.m), Err(Errno::EOPNOTSUPP));
    let at = CHUNK * 8;
    w.m.umem(x.umem).write(at, &frame(b"sent!!"));
    x.tx(&mut w, at, 20);
    assert_eq!((x.kick(&mut w), x.at(&mut w, 1), x.take(&mut w, 3)), (Ok(()), (1, 1), Some((at, 0))));
    assert_eq!(w.h.recv(there, 100).unwrap(), frame(b"sent!!"));
    assert_eq!(w.h.recv(here, 100), Err(Errno::EAGAIN));
    for (n, (addr, len, options)) in [(at, 0, 0), (at + 100, 2048, 0), (1 << 30, 20, 0), (at, 20, 4)].iter().enumerate()
    {
        x.put(&mut w, 1, *addr, *len, *options);
        assert_eq!((x.kick(&mut w), x.take(&mut w, 3)), (Ok(()), Some((*addr, 0))));
        assert_eq!(x.stats(&mut w)[1], n as u64 + 1);
    }
    // In two pieces.
    x.put(&mut w, 1, at, 20, XDP_PKT_CONTD);
    assert_eq!((x.kick(&mut w), x.take(&mut w, 3)), (Ok(()), None));
    x.tx(&mut w, at, 13);
    assert_eq!((x.kick(&mut w), x.take(&mut w, 3)), (Ok(()), Some((at, 0))));
    assert_eq!(w.h.recv(there, 100).unwrap(), [&frame(b"sent!!")[..], &[0; 12], &[0x88]].concat());
    x.tx(&mut w, at, 20);
    assert_eq!((x.poll(&mut w), x.take(&mut w, 3)), (EPOLLOUT | EPOLLWRNORM, Some((at, 0))));
    // No more goes than the completion ring has room for.
    for _ in 0..4 {
        x.tx(&mut w, at, 20);
    }
    assert_eq!((x.kick(&mut w), x.at(&mut w, 1)), (Err(Errno::EAGAIN), (12, 11)));
    x.tx(&mut w, at, 20);
    assert_eq!((x.kick(&mut w), x.at(&mut w, 1)), (Err(Errno::EAGAIN), (13, 11)));
    assert_eq!(std::iter::from_fn(|| x.take(&mut w, 3)).count(), 4);
    assert_eq!((x.kick(&mut w), x.at(&mut w, 1)), (Ok(()), (13, 13)));
    while x.take(&mut w, 3).is_some() {}
    assert_eq!(w.h.call(Call::Recv { fd: x.fd, len: 1, flags: 0 }).map(drop), Err(Errno::EOPNOTSUPP));
    assert_eq!(w.h.recv(x.fd, 10), Ok(vec![]));
    // Down, without carrier, gone.
    let (v0, v1) = (w.v0, w.v1);
    w.h.k.set_link(v1, false).unwrap();
    w.h.k.tick(w.h.now);
    assert_eq!((x.kick(&mut w), x.poll(&mut w)), (Err(Errno::ENETDOWN), 0));
    w.h.k.set_link(v1, true).unwrap();
    w.h.k.set_link(v0, false).unwrap();
    w.h.k.tick(w.h.now);
    x.tx(&mut w, at, 20);
    assert_eq!((x.kick(&mut w), x.take(&mut w, 3)), (Err(Errno::EBUSY), Some((at, 0))));
    w.h.k.net.unregister_netdev(v0);
    w.h.k.tick(w.h.now);
    assert_eq!(x.kick(&mut w), Err(Errno::ENXIO));
    assert_eq!(w.h.get(x.fd, SOL_SOCKET, SO_ERROR), Ok(Errno::ENETDOWN.0));
    assert_eq!(bind(&mut w.h, x.fd, 1, 0, XDP_COPY, 0), Err(Errno::EBUSY));
    assert_eq!(xsk::mapping(&w.h.k, x.id, XDP_PGOFF_RX_RING), Err(Errno::EBUSY));
    w.h.check();
}

#[test]
fn chunks_that_lie_anywhere() {
    let mut w = World::new();
    let v1 = w.v1;
    let x = X::new(&mut w, v1, 3000, XDP_UMEM_UNALIGNED_CHUNK_FLAG);
    for addr in [SIZE - 2999, 5001] {
        x.fill(&mut w, addr);
    }
    w.send(b"odd");
    x.rcv(&mut w);
    assert_eq!(x.take(&mut w, 0), Some((5001 | 256 << 48, 17)));
    assert_eq!(w.m.0[&x.umem][5257..5274], frame(b"odd"));
    let there = tap(&mut w.h, PROTO, w.v0);
    x.tx(&mut w, 5001 | 256 << 48, 17);
    assert_eq!(x.kick(&mut w), Ok(()));
    assert_eq!(w.h.recv(there, 100).unwrap(), frame(b"odd"));
}

#[test]
fn a_program_without_rights_gets_none() {
    let mut h = Host::with(1000, Caps::NONE, 64);
    assert_eq!(h.int(Call::Socket { family: AF_XDP, kind: SOCK_RAW, protocol: 0 }), Err(Errno::EPERM));
}
