//! smoltcp's side: one interface, both ends on it, at its best setting: MTU 65535, 64 KB buffers, no checksums.

use crate::linux::{TIME, resident_bytes};
use anyhow::{Context, Result, bail};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::time::Instant;

pub fn sample(name: &str) -> Result<f64> {
    match name {
        "tcp_bulk_64k" => bulk(),
        "tcp_rr_1b" => round_trips(1, 0),
        "tcp_rr_64b" => round_trips(64, 0),
        "tcp_rr_1b_idle10k" => round_trips(1, 10_000),
        "tcp_crr" => connections(),
        "sock_idle_bytes" => idle_bytes(),
        _ => bail!("no such row on this side"),
    }
}

/// A queue from the interface to itself; buffers are used again.
#[derive(Default)]
struct Wire {
    queue: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

struct Rx<'a>(Vec<u8>, &'a mut Vec<Vec<u8>>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>, Option<Vec<u8>>);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let r = f(&self.0);
        self.1.push(self.0);
        r
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buf = self.1.unwrap_or_default();
        buf.resize(len, 0);
        let r = f(&mut buf);
        self.0.push_back(buf);
        r
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx<'_>, Tx<'_>)> {
        let frame = self.queue.pop_front()?;
        let spare = self.spare.pop();
        Some((Rx(frame, &mut self.spare), Tx(&mut self.queue, spare)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_>> {
        let spare = self.spare.pop();
        Some(Tx(&mut self.queue, spare))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ip;
        c.max_transmission_unit = 65535;
        c.checksum = ChecksumCapabilities::ignored();
        c
    }
}

struct Stack {
    wire: Wire,
    iface: Interface,
    socks: SocketSet<'static>,
    begin: Instant,
    next_port: u16,
}

impl Stack {
    fn new() -> Stack {
        let mut wire = Wire::default();
        let mut iface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, SmolInstant::ZERO);
        iface.update_ip_addrs(|a| {
            let _ = a.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8));
        });
        Stack { wire, iface, socks: SocketSet::new(Vec::new()), begin: Instant::now(), next_port: 10_000 }
    }

    fn poll(&mut self) {
        let now = SmolInstant::from_micros(self.begin.elapsed().as_micros() as i64);
        self.iface.poll(now, &mut self.wire, &mut self.socks);
    }

    fn socket(&mut self, buffer: usize) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut s = tcp::Socket::new(ring(), ring());
        s.set_nagle_enabled(false);
        s.set_ack_delay(None);
        self.socks.add(s)
    }

    fn tcp(&mut self, h: SocketHandle) -> &mut tcp::Socket<'static> {
        self.socks.get_mut(h)
    }

    /// A client and a server socket, connected.
    fn pair(&mut self, buffer: usize) -> Result<(SocketHandle, SocketHandle)> {
        let (c, s) = (self.socket(buffer), self.socket(buffer));
        self.join(c, s)?;
        Ok((c, s))
    }

    fn join(&mut self, c: SocketHandle, s: SocketHandle) -> Result<()> {
        self.next_port = if self.next_port == 60_000 { 10_000 } else { self.next_port + 1 };
        let port = self.next_port;
        self.tcp(s).listen(80).ok().context("listen")?;
        let context = self.iface.context();
        let client = self.socks.get_mut::<tcp::Socket<'static>>(c);
        client.connect(context, (IpAddress::v4(127, 0, 0, 1), 80), port).ok().context("connect")?;
        for _ in 0..100 {
            self.poll();
            if self.tcp(c).may_send() && self.tcp(s).may_send() {
                return Ok(());
            }
        }
        bail!("not connected: {} {}", self.tcp(c).state(), self.tcp(s).state())
    }
}

fn bulk() -> Result<f64> {
    let mut k = Stack::new();
    let (c, s) = k.pair(65535)?;
    let (piece, mut sink) = (vec![0x5a; 65536], vec![0; 65536]);
    let (t0, mut total) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..16 {
            k.tcp(c).send_slice(&piece).ok().context("send")?;
            k.poll();
            total += k.tcp(s).recv_slice(&mut sink).ok().context("recv")? as u64;
        }
    }
    Ok(total as f64 * 8.0 / 1e9 / t0.elapsed().as_secs_f64())
}

fn round_trips(size: usize, idle: usize) -> Result<f64> {
    let mut k = Stack::new();
    for _ in 0..idle / 2 {
        // Established once would need a poll over all of them each time: listening sockets cost a poll the same.
        let h = k.socket(64);
        k.tcp(h).listen(81).ok().context("listen")?;
        let h = k.socket(64);
        k.tcp(h).listen(82).ok().context("listen")?;
    }
    let (c, s) = k.pair(4096)?;
    let mut buf = vec![1; size];
    let mut pass = |k: &mut Stack, from: SocketHandle, to: SocketHandle| -> Result<()> {
        k.tcp(from).send_slice(&buf).ok().context("send")?;
        for _ in 0..100 {
            k.poll();
            if k.tcp(to).recv_slice(&mut buf).ok().context("recv")? == size {
                return Ok(());
            }
        }
        bail!("nothing came")
    };
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        pass(&mut k, c, s)?;
        pass(&mut k, s, c)?;
        n += 1;
    }
    Ok(t0.elapsed().as_secs_f64() * 1e6 / n as f64)
}

/// smoltcp has no TIME_WAIT table: the client's socket is reset and used again, which its users do as well.
fn connections() -> Result<f64> {
    let mut k = Stack::new();
    let (c, s) = (k.socket(4096), k.socket(4096));
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..16 {
            k.join(c, s)?;
            k.tcp(c).close();
            k.poll();
            k.tcp(s).close();
            for _ in 0..10 {
                k.poll();
                if !k.tcp(s).is_open() {
                    break;
                }
            }
            k.tcp(c).abort();
            k.tcp(s).abort();
            // An aborted socket in TIME_WAIT is closed at once and sends nothing.
            k.poll();
            n += 1;
        }
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}

/// With buffers of one byte: what it needs beside them (a user adds two full buffers).
fn idle_bytes() -> Result<f64> {
    let mut k = Stack::new();
    k.pair(1)?;
    let n = 1_000;
    let before = resident_bytes()?;
    for _ in 0..n {
        k.pair(1)?;
    }
    Ok((resident_bytes()? - before) / f64::from(2 * n))
}
