//! `tap_bulk`: one connection into the host's kernel through a TAP device, writes of 64 KB, a thread with blocking reads on
//! the other side. The host kernel's own side goes from namespace to namespace through veth, with every offload it has.

use crate::linux::TIME;
use crate::machine::{Machine, host};
use anyhow::{Context, Result, bail, ensure};
use belljar_abi::{Errno, SOCK_NONBLOCK, SOCK_STREAM, SockAddr};
use belljar_host::port::{Kind, Port};
use belljar_kernel::Output;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::DevId;
use belljar_kernel::task::call::{Call, Fd};
use belljar_wire::Mac;
use nix::sched::{CloneFlags, setns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Medium, TunTapInterface};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Run in a network namespace of its own: the TAP device and, for the host kernel's side, another namespace.
pub const NETWORK: &str = "\
mount -t tmpfs tmpfs /run
ip tuntap add tap0 mode tap
ip addr add 10.3.0.1/24 dev tap0
ip link set tap0 up
ip netns add far
ip link add near type veth peer name eth0 netns far
ip addr add 10.4.0.1/24 dev near
ip link set near up
ip -n far addr add 10.4.0.2/24 dev eth0
ip -n far link set eth0 up";
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 2);
const PORT: u16 = 5001;
const PIECE: usize = 65_536;

/// Gigabits per second that the reader got.
pub fn sample(side: &str) -> Result<f64> {
    match side {
        "belljar" => belljar(),
        "linux" => linux(),
        _ => smoltcp(),
    }
}

/// A reader of one connection to that address: how many bytes, and in what time, until its end.
fn sink(addr: Ipv4Addr) -> Result<JoinHandle<Result<f64>>> {
    let listener = TcpListener::bind((addr, PORT)).context("this user may not make network namespaces")?;
    Ok(std::thread::spawn(move || {
        let (mut s, _) = listener.accept()?;
        let (mut buf, mut total, t0) = (vec![0; 1 << 18], 0, Instant::now());
        loop {
            match s.read(&mut buf)? {
                0 => return Ok((total * 8) as f64 / t0.elapsed().as_secs_f64() / 1e9),
                n => total += n,
            }
        }
    }))
}

fn result(reader: JoinHandle<Result<f64>>) -> Result<f64> {
    reader.join().ok().context("reader")?
}

fn linux() -> Result<f64> {
    let reader = sink(Ipv4Addr::new(10, 4, 0, 1))?;
    setns(File::open("/run/netns/far")?, CloneFlags::CLONE_NEWNET)?;
    let mut s = TcpStream::connect((Ipv4Addr::new(10, 4, 0, 1), PORT))?;
    let (piece, t0) = (vec![0x5a; PIECE], Instant::now());
    while t0.elapsed() < TIME {
        s.write_all(&piece)?;
    }
    drop(s);
    result(reader)
}

/// A kernel whose card is the TAP device.
struct Wired {
    m: Machine,
    dev: DevId,
    tap: Port,
}

impl Wired {
    fn new() -> Result<Wired> {
        let mut m = Machine::new()?;
        let (ns, task) = host(&mut m.kernel, "tap")?;
        m.task = task;
        let nic = NicConfig::default();
        let err = |e: Errno| anyhow::anyhow!("eth0: {e}");
        let dev = m.kernel.add_nic(ns, &nic).map_err(err)?;
        m.kernel.set_link(dev, true).and_then(|()| m.kernel.add_address(dev, OURS, 24)).map_err(err)?;
        Ok(Wired { m, dev, tap: Port::open(Kind::Tap { queues: 1 }, "tap0", Mac::ZERO)? })
    }

    /// What is to go out and what came, until nothing moves any more.
    fn exchange(&mut self) -> Result<()> {
        loop {
            let mut moved = false;
            while let Some(output) = self.m.kernel.pop_output() {
                if let Output::Frame { frame, .. } = output {
                    self.tap.send(frame)?;
                    moved = true;
                }
            }
            while let Some(frame) = self.tap.recv()? {
                self.m.kernel.rx(self.m.now(), self.dev, frame);
                moved = true;
            }
            if !moved && !self.m.kernel.more_work() {
                return Ok(());
            }
            self.m.kernel.tick(self.m.now());
        }
    }

    /// Sleeps until a frame or the kernel's own next time.
    fn wait(&mut self) -> Result<()> {
        let due = self.m.kernel.next_deadline().map_or(u64::MAX, |at| at.saturating_sub(self.m.now()));
        let due = due.min(100_000_000);
        let limit = Timespec { tv_sec: 0, tv_nsec: due as i64 };
        poll(&mut [PollFd::new(&self.tap.queues()[0], PollFlags::IN)], Some(&limit))?;
        self.m.kernel.tick(self.m.now());
        self.exchange()
    }

    fn connect(&mut self) -> Result<Fd> {
        let fd = self.m.socket(SOCK_STREAM | SOCK_NONBLOCK)?;
        let to = SockAddr::V4(NEAR, PORT).emit();
        let mut call = self.m.call(Call::Connect { fd, addr: &to });
        for _ in 0..1000 {
            match call {
                Ok(_) | Err(Errno::EISCONN) => return Ok(fd),
                Err(Errno::EINPROGRESS | Errno::EALREADY) => {
                    self.exchange()?;
                    self.wait()?;
                    call = self.m.call(Call::Connect { fd, addr: &to });
                }
                Err(e) => bail!("connect: {e}"),
            }
        }
        bail!("no connection through the TAP device")
    }
}

fn belljar() -> Result<f64> {
    let reader = sink(NEAR)?;
    let mut w = Wired::new()?;
    let fd = w.connect()?;
    let piece = vec![0x5a; PIECE];
    let (t0, mut at) = (Instant::now(), 0);
    while t0.elapsed() < TIME {
        let n = w.m.send(fd, &piece[at..])?;
        at = (at + n) % PIECE;
        w.exchange()?;
        if n == 0 {
            w.wait()?;
        }
    }
    w.m.close(fd)?;
    let end = Instant::now();
    while !reader.is_finished() {
        ensure!(end.elapsed() < Duration::from_secs(5), "the reader never saw the end");
        w.exchange()?;
        w.wait()?;
    }
    result(reader)
}

/// smoltcp over the same device: it cuts its own segments and sums its own checksums, because a TAP device without
/// `virtio_net_hdr` knows no other way.
fn smoltcp() -> Result<f64> {
    let reader = sink(NEAR)?;
    let mut device = TunTapInterface::new("tap0", Medium::Ethernet)?;
    let begin = Instant::now();
    let clock = || SmolInstant::from_micros(begin.elapsed().as_micros() as i64);
    let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 2]));
    let mut iface = Interface::new(Config::new(mac), &mut device, clock());
    iface.update_ip_addrs(|a| {
        let _ = a.push(IpCidr::new(IpAddress::v4(10, 3, 0, 2), 24));
    });
    let mut socks = SocketSet::new(Vec::new());
    let ring = || tcp::SocketBuffer::new(vec![0; 1 << 19]);
    let mut s = tcp::Socket::new(ring(), ring());
    s.connect(iface.context(), (IpAddress::v4(10, 3, 0, 1), PORT), 40_000).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let h = socks.add(s);
    let (piece, mut t0) = (vec![0x5a; PIECE], Instant::now());
    let fd = device.as_raw_fd();
    let mut closed = false;
    while !reader.is_finished() {
        ensure!(begin.elapsed() < Duration::from_secs(10), "the reader never saw the end");
        iface.poll(clock(), &mut device, &mut socks);
        let s = socks.get_mut::<tcp::Socket<'_>>(h);
        if !s.may_send() && !closed {
            t0 = Instant::now();
        }
        let mut sent = 0;
        if s.can_send() && t0.elapsed() < TIME {
            sent = s.send_slice(&piece).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        } else if t0.elapsed() >= TIME && !closed {
            s.close();
            closed = true;
        }
        if sent == 0 {
            smoltcp::phy::wait(
                fd,
                iface.poll_delay(clock(), &socks).or(Some(smoltcp::time::Duration::from_millis(1))),
            )?;
        }
    }
    result(reader)
}
