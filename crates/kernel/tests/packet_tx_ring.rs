//! Transmit rings of packet sockets. What becomes of each frame was measured on Linux 6.18 (`parity/tx_ring.py`).
mod host;

use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::PacketId;
use belljar_kernel::kernel::Output;
use belljar_kernel::net::packet::ring::Memory;
use belljar_kernel::net::packet::tx_ring::Walk;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use host::*;

const PROTO: u16 = 0x88b5;
const FRAME: usize = 2048;

/// The memory that a program would share.
struct Mem(Vec<u8>);

impl Memory for Mem {
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

/// A socket with a ring.
struct Sender {
    fd: Fd,
    id: PacketId,
    m: Mem,
    version: i32,
    sent: usize,
}

fn socket(h: &mut Host, kind: i32, proto: u16, ifindex: i32) -> (Fd, PacketId) {
    let protocol = i32::from(proto.to_be());
    let fd = h.int(Call::Socket { family: AF_PACKET, kind: kind | SOCK_NONBLOCK, protocol }).unwrap() as Fd;
    let addr = LinkAddr { protocol: proto, ifindex, ..LinkAddr::default() }.emit();
    h.int(Call::Bind { fd, addr: &addr }).unwrap();
    (fd, h.k.socks.packet.iter().map(|(id, _)| id).max().unwrap())
}

fn ring(h: &mut Host, fd: Fd, frames: u32, version: i32) -> Result<(), Errno> {
    let words = [frames * FRAME as u32, 1, FRAME as u32, frames, 0, 0, 0];
    let value: Vec<u8> = words[..if frames > 0 { 7 } else { 0 }].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let value = if frames > 0 { value } else { vec![0; 28] };
    let name = PACKET_VERSION;
    h.set(fd, SOL_PACKET, name, version).map(drop).or_else(|e| if e == Errno::EBUSY { Ok(()) } else { Err(e) })?;
    h.call(Call::SetSockOpt { fd, level: SOL_PACKET, name: PACKET_TX_RING, value: &value }).map(drop)
}

impl Sender {
    fn new(h: &mut Host, ifindex: i32, frames: u32, version: i32) -> Sender {
        let (fd, id) = socket(h, SOCK_RAW, 0, ifindex);
        ring(h, fd, frames, version).unwrap();
        Sender { fd, id, m: Mem(vec![0; frames as usize * FRAME]), version, sent: 0 }
    }

    fn put(&mut self, n: usize, text: &[u8]) {
        let (status, len, at) = [(0, 8, 32), (0, 4, 32), (20, 16, 48)][self.version as usize];
        let data = [&[0; 12], &PROTO.to_be_bytes()[..], text].concat();
        let base = n * FRAME;
        self.m.0[base + at..][..data.len()].copy_from_slice(&data);
        self.m.0[base + len..][..4].copy_from_slice(&(data.len() as u32).to_ne_bytes());
        self.m.0[base + status..][..4].copy_from_slice(&TP_STATUS_SEND_REQUEST.to_ne_bytes());
    }

    fn len(&mut self, n: usize, len: u32) {
        let at = n * FRAME + [8, 4, 16][self.version as usize];
        self.m.0[at..][..4].copy_from_slice(&len.to_ne_bytes());
    }

    fn status(&mut self, n: usize) -> u32 {
        self.m.read_u32((n * FRAME + if self.version == 2 { 20 } else { 0 }) as u64)
    }

    fn kick(&mut self, h: &mut Host, wait: bool) -> Result<(Walk, usize), Errno> {
        let mut msg = SendMsg {
            data: Payload::Bytes(&[]),
            sent: self.sent,
            flags: 0,
            to: None,
            cmsgs: (&[][..]).into(),
            caps: Caps::NONE,
            zerocopy: None,
        };
        let done = h.k.packet_tx_walk(h.now, self.id, &mut self.m, &mut msg, wait);
        h.check();
        let done = done?;
        self.sent = if done == Walk::Done { 0 } else { msg.sent };
        Ok((done, msg.sent))
    }
}

fn heard(h: &mut Host, fd: Fd) -> Vec<String> {
    std::iter::from_fn(|| h.recv(fd, 4096).ok()).map(|b| String::from_utf8_lossy(&b[14..]).into_owned()).collect()
}

fn with_nic() -> Host {
    let mut h = Host::new();
    let dev = h.k.add_nic(h.ns, &NicConfig::default()).unwrap();
    h.k.set_link(dev, true).unwrap();
    h.k.tick(0);
    while h.k.pop_output().is_some() {}
    h
}

fn out(h: &mut Host) -> usize {
    std::iter::from_fn(|| h.k.pop_output()).filter(|o| matches!(o, Output::Frame { .. })).count()
}

fn tc(h: &mut Host, line: &str) {
    h.k.tc_line(h.ns, line).unwrap_or_else(|e| panic!("{line}: {e}"));
}

#[test]
fn all_that_is_asked_for_goes_in_order() {
    for version in [TPACKET_V1, TPACKET_V2, TPACKET_V3] {
        let mut h = Host::new();
        let (seen, _) = socket(&mut h, SOCK_RAW, PROTO, 1);
        let mut s = Sender::new(&mut h, 1, 2, version);
        assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 0)));
        s.put(0, b"first");
        s.put(1, b"second!");
        assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 40)));
        assert_eq!((s.status(0), s.status(1)), (TP_STATUS_AVAILABLE, TP_STATUS_AVAILABLE));
        assert_eq!(heard(&mut h, seen), ["first", "second!"]);
        s.put(1, b"not its turn");
        assert_eq!((s.kick(&mut h, true), s.status(1)), (Ok((Walk::Done, 0)), TP_STATUS_SEND_REQUEST));
        s.put(0, b"its turn");
        assert_eq!(s.kick(&mut h, false), Ok((Walk::Done, 48)));
        assert_eq!(heard(&mut h, seen), ["its turn", "not its turn"]);
        // A send that knows nothing of the memory cannot send.
        assert_eq!(h.send(s.fd, b"x"), Err(Errno::EBUSY));
    }
}

#[test]
fn what_is_wrong_is_marked_or_passed_over() {
    for version in [TPACKET_V1, TPACKET_V2, TPACKET_V3] {
        let mut h = Host::new();
        let (seen, _) = socket(&mut h, SOCK_RAW, PROTO, 1);
        let mut s = Sender::new(&mut h, 1, 2, version);
        for (len, e) in [(13, Errno::EINVAL), (0, Errno::EINVAL), (2049, Errno::EMSGSIZE), (1 << 31, Errno::EMSGSIZE)] {
            s.put(0, b"wrong");
            s.len(0, len);
            assert_eq!((s.kick(&mut h, true), s.status(0)), (Err(e), TP_STATUS_WRONG_FORMAT));
        }
        s.put(0, b"right");
        assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 19)));
        let (fd, id) = socket(&mut h, SOCK_RAW, 0, 1);
        h.set(fd, SOL_PACKET, PACKET_LOSS, 1).unwrap();
        ring(&mut h, fd, 2, version).unwrap();
        let mut s = Sender { fd, id, m: Mem(vec![0; 2 * FRAME]), version, sent: 0 };
        s.put(0, b"wrong");
        s.len(0, 5);
        s.put(1, b"good");
        assert_eq!((s.kick(&mut h, true), s.status(0)), (Ok((Walk::Done, 18)), TP_STATUS_AVAILABLE));
        assert_eq!(heard(&mut h, seen), ["right", "good"]);
    }
}

#[test]
fn a_frame_is_the_programs_again_when_its_packet_ended() {
    let mut h = with_nic();
    tc(&mut h, "qdisc add dev eth0 root tbf rate 1mbit burst 2000 limit 9000");
    let mut s = Sender::new(&mut h, 2, 4, TPACKET_V2);
    for n in 0..4 {
        s.put(n, &[b'x'; 1000]);
    }
    // The bucket has room for one.
    assert_eq!(s.kick(&mut h, false), Ok((Walk::Done, 4056)));
    assert_eq!([0, 1, 2, 3].map(|n| s.status(n)), [0, 2, 2, 2]);
    assert_eq!(ring(&mut h, s.fd, 0, TPACKET_V2), Err(Errno::EBUSY));
    assert_eq!(s.kick(&mut h, true), Ok((Walk::Wait(Errno::ETIMEDOUT), 0)));
    h.sleep(100 * MS);
    assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 0)));
    assert_eq!(([0, 1, 2, 3].map(|n| s.status(n)), out(&mut h)), ([0; 4], 4));
    // With three of them one call waits until the last is gone.
    for n in 0..3 {
        s.put(n, &[b'y'; 1000]);
    }
    assert_eq!(s.kick(&mut h, true), Ok((Walk::Wait(Errno::ETIMEDOUT), 3042)));
    h.sleep(100 * MS);
    assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 3042)));
    // One that its queue has no room for dies at once and stays asked for.
    tc(&mut h, "qdisc replace dev eth0 root tbf rate 1mbit burst 1500 limit 1500");
    for n in [3, 0, 1] {
        s.put(n, &[b'z'; 1000]);
    }
    assert_eq!(s.kick(&mut h, false), Err(Errno::ENOBUFS));
    assert_eq!([3, 0, 1].map(|n| s.status(n)), [0, 2, 1]);
    h.close(s.fd);
    h.sleep(100 * MS);
    assert_eq!(ring(&mut h, s.fd, 0, TPACKET_V2), Err(Errno::EBADF));
}

#[test]
fn a_full_send_buffer_waits_and_says_so() {
    let mut h = with_nic();
    tc(&mut h, "qdisc add dev eth0 root tbf rate 1mbit burst 2000 limit 900000");
    let mut s = Sender::new(&mut h, 2, 16, TPACKET_V3);
    h.set(s.fd, SOL_SOCKET, SO_SNDBUF, 4000).unwrap();
    for n in 0..16 {
        s.put(n, &[b'x'; 1000]);
    }
    let mut some = 0;
    while let Ok((Walk::Done, more)) = s.kick(&mut h, false) {
        some += more;
    }
    assert!((1014..16 * 1014).contains(&some), "{some}");
    assert_eq!(s.kick(&mut h, false), Err(Errno::EAGAIN));
    let mut calls = 0;
    let sum = loop {
        match s.kick(&mut h, true) {
            Ok((Walk::Done, sum)) => break sum,
            Ok((Walk::Wait(_), _)) => h.sleep(10 * MS),
            Err(e) => panic!("{e:?}"),
        }
        calls += 1;
        assert!(calls < 100);
    };
    assert_eq!((some + sum, out(&mut h)), (16 * 1014, 16));
    assert!((0..16).all(|n| s.status(n) == TP_STATUS_AVAILABLE));
}

#[test]
fn a_device_that_is_down_or_not_there() {
    let mut h = with_nic();
    let mut s = Sender::new(&mut h, 2, 2, TPACKET_V2);
    s.put(0, b"stays");
    let dev = h.k.net.dev_by_index(h.ns, 2).unwrap();
    h.k.set_link(dev, false).unwrap();
    assert_eq!((s.kick(&mut h, true), s.status(0)), (Err(Errno::ENETDOWN), TP_STATUS_SEND_REQUEST));
    h.k.set_link(dev, true).unwrap();
    assert_eq!(s.kick(&mut h, true), Ok((Walk::Done, 19)));
    let (fd, id) = socket(&mut h, SOCK_RAW, 0, 0);
    ring(&mut h, fd, 2, TPACKET_V2).unwrap();
    let mut s = Sender { fd, id, m: Mem(vec![0; 2 * FRAME]), version: TPACKET_V2, sent: 0 };
    assert_eq!(s.kick(&mut h, true), Err(Errno::ENXIO));
}
