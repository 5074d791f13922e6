//! The host kernel's side of the in-process rows: the same work with blocking sockets over its loopback.

use anyhow::{Context, Result, bail};
use rustix::event::epoll;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TIME: Duration = Duration::from_millis(700);
/// Connections go to so many addresses in turn, so that TIME_WAIT and ports are no limit of the test itself.
pub const ADDRESSES: u8 = 16;
/// A send with UDP_SEGMENT: full datagrams of an Ethernet path, as many as fit.
pub const SEGMENT: usize = 1472;
pub const SUPER: usize = 44 * SEGMENT;

pub fn sample(name: &str, one_core: bool) -> Result<f64> {
    if one_core {
        pin(0)?;
    }
    more_descriptors()?;
    match name {
        "tcp_bulk_64k" => bulk(65536).map(|bytes| bytes * 8.0 / 1e9),
        "tcp_send_64b" => bulk(64).map(|bytes| bytes / 64.0),
        "tcp_rr_1b" => round_trips(1, 0, one_core),
        "tcp_rr_64b" => round_trips(64, 0, one_core),
        "tcp_rr_1b_idle10k" => round_trips(1, 10_000, one_core),
        "tcp_crr" => connections(),
        "udp_64b" => datagrams(),
        "udp_gso_64k" => super_datagrams(),
        "epoll_add" | "epoll_mod" | "epoll_wait_empty" => epoll_row(name),
        "sock_idle_bytes" => idle_bytes(),
        "tw_bytes" => time_wait_bytes(),
        _ => bail!("no such row on this side"),
    }
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

pub fn more_descriptors() -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    let plenty = Some(200_000);
    if setrlimit(Resource::Nofile, Rlimit { current: plenty, maximum: plenty }).is_ok() {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?)
}

fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let c = TcpStream::connect(listener.local_addr()?)?;
    let (s, _) = listener.accept()?;
    Ok((c, s))
}

/// Bytes per second received, written in pieces of `size`.
fn bulk(size: usize) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (mut c, mut s) = pair(&listener)?;
    c.set_nodelay(false)?;
    let reader = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut buf, mut total) = (vec![0; 1 << 18], 0);
        loop {
            match s.read(&mut buf)? {
                0 => return Ok(total),
                n => total += n as u64,
            }
        }
    });
    let piece = vec![0x5a; size];
    let t0 = Instant::now();
    while t0.elapsed() < TIME {
        for _ in 0..if size < 1000 { 64 } else { 1 } {
            c.write_all(&piece)?;
        }
    }
    drop(c);
    let total = reader.join().ok().context("reader")??;
    Ok(total as f64 / t0.elapsed().as_secs_f64())
}

/// Microseconds per round trip of `size` bytes, with `idle` sockets (both ends counted) beside it.
fn round_trips(size: usize, idle: usize, one_core: bool) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut beside = Vec::with_capacity(idle);
    for _ in 0..idle / 2 {
        beside.push(pair(&listener)?);
    }
    let (mut c, mut s) = pair(&listener)?;
    c.set_nodelay(true)?;
    s.set_nodelay(true)?;
    let server = std::thread::spawn(move || -> Result<()> {
        if !one_core {
            pin(1)?;
        }
        let mut buf = vec![0; size];
        while s.read_exact(&mut buf).is_ok() {
            s.write_all(&buf)?;
        }
        Ok(())
    });
    if !one_core {
        pin(0)?;
    }
    let mut buf = vec![1; size];
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..16 {
            c.write_all(&buf)?;
            c.read_exact(&mut buf)?;
        }
        n += 16;
    }
    let us = t0.elapsed().as_secs_f64() * 1e6 / n as f64;
    drop(c);
    server.join().ok().context("server")??;
    Ok(us)
}

/// Connect, accept, orderly close by the client and then the server, per second; on one thread, which is the host
/// kernel's best case: the handshake runs inside connect, and nobody waits for anybody.
fn connections() -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for a in 1..=ADDRESSES {
            let c = TcpStream::connect((Ipv4Addr::new(127, 0, 0, a), port))?;
            let (mut s, _) = listener.accept()?;
            drop(c);
            anyhow::ensure!(s.read(&mut [0; 1])? == 0, "data from nowhere");
        }
        n += u64::from(ADDRESSES);
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}

/// Datagrams of 64 bytes received per second.
fn datagrams() -> Result<f64> {
    let rx = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let tx = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    tx.connect(rx.local_addr()?)?;
    rx.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let t0 = Instant::now();
    let took = std::thread::scope(|scope| -> Result<f64> {
        scope.spawn(|| {
            let mut buf = [0; 128];
            while !stop.load(Ordering::Relaxed) {
                if rx.recv(&mut buf).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while t0.elapsed() < TIME {
            for _ in 0..64 {
                tx.send(&[7; 64])?;
            }
        }
        let took = t0.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        Ok(took)
    })?;
    Ok(count.load(Ordering::Relaxed) as f64 / took)
}

/// Payload per second of sends with UDP_SEGMENT to a socket with UDP_GRO.
fn super_datagrams() -> Result<f64> {
    use nix::sys::socket::{setsockopt, sockopt};
    let rx = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let tx = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    tx.connect(rx.local_addr()?)?;
    rx.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&rx, sockopt::UdpGroSegment, &true)?;
    setsockopt(&tx, sockopt::UdpGsoSegment, &(SEGMENT as i32))?;
    let (stop, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let t0 = Instant::now();
    let took = std::thread::scope(|scope| -> Result<f64> {
        scope.spawn(|| {
            let mut buf = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok(n) = rx.recv(&mut buf) {
                    bytes.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
        });
        while t0.elapsed() < TIME {
            tx.send(&[7; SUPER])?;
        }
        let took = t0.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        Ok(took)
    })?;
    Ok((bytes.load(Ordering::Relaxed) * 8) as f64 / took / 1e9)
}

/// Nanoseconds per operation on an instance with a thousand sockets of which none is readable.
fn epoll_row(name: &str) -> Result<f64> {
    let ep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let socks: Vec<UdpSocket> =
        (0..1000).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    let add = |s: &UdpSocket| epoll::add(&ep, s.as_fd(), epoll::EventData::new_u64(1), epoll::EventFlags::IN);
    let (t0, mut spent, mut n) = (Instant::now(), Duration::ZERO, 0_u64);
    if name != "epoll_add" {
        socks.iter().try_for_each(add)?;
    }
    let mut events = Vec::with_capacity(16);
    while t0.elapsed() < TIME {
        let t = Instant::now();
        match name {
            "epoll_add" => socks.iter().try_for_each(add)?,
            "epoll_mod" => {
                for s in &socks {
                    epoll::modify(&ep, s.as_fd(), epoll::EventData::new_u64(2), epoll::EventFlags::IN)?;
                }
            }
            _ => {
                for _ in 0..1000 {
                    events.clear();
                    epoll::wait(
                        &ep,
                        rustix::buffer::spare_capacity(&mut events),
                        Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }),
                    )?;
                }
            }
        }
        spent += t.elapsed();
        n += 1000;
        if name == "epoll_add" {
            socks.iter().try_for_each(|s| epoll::delete(&ep, s.as_fd()))?;
        }
    }
    Ok(spent.as_nanos() as f64 / n as f64)
}

/// The kernel's slab memory: sockets, files, inodes and all.
fn slab_bytes() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|l| l.starts_with("Slab:")).context("no Slab in /proc/meminfo")?;
    let kb: f64 = line.split_whitespace().nth(1).context("Slab")?.parse()?;
    Ok(kb * 1024.0)
}

fn idle_bytes() -> Result<f64> {
    let max = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
    let n = ((max.saturating_sub(100)) / 2).min(20_000) as usize;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut held: Vec<(TcpStream, TcpStream)> = Vec::with_capacity(n);
    held.push(pair(&listener)?);
    let before = slab_bytes()?;
    for _ in 0..n {
        held.push(pair(&listener)?);
    }
    let grown = slab_bytes()? - before;
    Ok(grown / (2 * n) as f64)
}

/// Closed by the client first; the slab grows by TIME_WAIT sockets alone once the others are freed.
fn time_wait_bytes() -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let one = |a: u8| -> Result<()> {
        let c = TcpStream::connect(SocketAddr::from((Ipv4Addr::new(127, 0, 0, a), port)))?;
        let (mut s, _) = listener.accept()?;
        drop(c);
        let mut b = [0; 1];
        anyhow::ensure!(s.read(&mut b)? == 0, "data from nowhere");
        Ok(())
    };
    for _ in 0..200 {
        one(1)?;
    }
    let (before, tw0) = (slab_bytes()?, time_waits()?);
    for i in 0..40_000_u32 {
        one((i % u32::from(ADDRESSES)) as u8 + 1)?;
    }
    // Freed sockets go back after a grace period.
    std::thread::sleep(Duration::from_millis(300));
    let (grown, tw) = (slab_bytes()? - before, time_waits()? - tw0);
    anyhow::ensure!(tw > 10_000.0, "only {tw} TIME_WAIT sockets");
    Ok(grown / tw)
}

fn time_waits() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|l| l.starts_with("TCP:")).context("sockstat")?;
    let mut words = line.split_whitespace();
    words.find(|w| *w == "tw").context("tw")?;
    Ok(words.next().context("tw")?.parse()?)
}

/// For the sides that hold everything in this process.
pub fn resident_bytes() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    let kb: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kb * 1024.0)
}
