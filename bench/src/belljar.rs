//! belljar's side of the in-process rows: one kernel, its loopback, every stage on, the trace off.

use crate::linux::{ADDRESSES, SEGMENT, SUPER, TIME, resident_bytes};
use crate::machine::Machine;
use anyhow::{Result, bail, ensure};
use belljar_abi::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLIN, IPPROTO_TCP, SOCK_DGRAM, SOL_UDP, SockAddr, TCP_NODELAY,
    UDP_GRO, UDP_SEGMENT,
};
use belljar_kernel::task::call::{Call, EpollEvent, Fd, Ret};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub fn sample(name: &str) -> Result<f64> {
    match name {
        "tcp_bulk_64k" => bulk(65536).map(|bytes| bytes * 8.0 / 1e9),
        "tcp_send_64b" => bulk(64).map(|bytes| bytes / 64.0),
        "tcp_rr_1b" => round_trips(1, 0),
        "tcp_rr_64b" => round_trips(64, 0),
        "tcp_rr_1b_idle10k" => round_trips(1, 10_000),
        "tcp_rr_1b_idle1m" => round_trips(1, 1_000_000),
        "tcp_crr" => connections(),
        "udp_64b" => datagrams(),
        "udp_forward" => crate::forward::belljar(),
        "udp_gso_64k" => super_datagrams(),
        "epoll_add" | "epoll_mod" | "epoll_wait_empty" => epoll_row(name),
        "sock_idle_bytes" => idle_bytes(),
        "tw_bytes" => time_wait_bytes(),
        "lab_pps" => lab_packets(),
        _ => bail!("no such row on this side"),
    }
}

/// Bytes per second received, written in pieces of `size`; the reader runs when the writer cannot.
fn bulk(size: usize) -> Result<f64> {
    let mut m = Machine::new()?;
    let listener = m.listener()?;
    let (c, s) = m.pair(listener, 1)?;
    let (piece, mut buf) = (vec![0x5a; size], vec![0; 1 << 18]);
    let (t0, mut total) = (Instant::now(), 0);
    while t0.elapsed() < TIME {
        for _ in 0..64 {
            let mut at = 0;
            while let Some(rest) = piece.get(at..).filter(|r| !r.is_empty()) {
                let n = m.send(c, rest)?;
                at += n;
                if n == 0 {
                    let got = m.recv(s, &mut buf)?;
                    ensure!(got > 0, "neither end can go on");
                    total += got;
                }
            }
            // A reader with a large buffer takes what is there once per large write, and small writes by the dozen.
            if size > 1000 {
                total += m.recv(s, &mut buf)?;
            }
        }
        total += m.recv(s, &mut buf)?;
    }
    Ok(total as f64 / t0.elapsed().as_secs_f64())
}

/// So many sockets, both ends counted, connected and idle.
fn idle_pairs(m: &mut Machine, sockets: usize) -> Result<()> {
    let listener = m.listener()?;
    for i in 0..sockets / 2 {
        // Half of the 28,231 ports per address: beyond that connect searches long, here as on Linux.
        m.pair(listener, 1 + (i / 12_000) as u8)?;
    }
    Ok(())
}

fn round_trips(size: usize, idle: usize) -> Result<f64> {
    let mut m = Machine::new()?;
    idle_pairs(&mut m, idle)?;
    let listener = m.listener()?;
    let (c, s) = m.pair(listener, 1)?;
    for fd in [c, s] {
        m.must("nodelay", Call::SetSockOpt { fd, level: IPPROTO_TCP, name: TCP_NODELAY, value: &1_i32.to_ne_bytes() })?;
    }
    let mut buf = vec![1; size];
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..16 {
            for (from, to) in [(c, s), (s, c)] {
                ensure!(m.send(from, &buf)? == size && m.recv(to, &mut buf)? == size, "not a round trip");
            }
        }
        n += 16;
    }
    Ok(t0.elapsed().as_secs_f64() * 1e6 / n as f64)
}

/// Connect, accept, orderly close by the client and then the server.
fn one_connection(m: &mut Machine, listener: (Fd, u16), host: u8) -> Result<()> {
    let (c, s) = m.pair(listener, host)?;
    m.close(c)?;
    ensure!(m.recv(s, &mut [0; 1])? == 0, "data from nowhere");
    m.close(s)
}

fn connections() -> Result<f64> {
    let mut m = Machine::new()?;
    let listener = m.listener()?;
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for a in 1..=ADDRESSES {
            one_connection(&mut m, listener, a)?;
        }
        n += u64::from(ADDRESSES);
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}

/// A datagram socket that receives, and one connected to it.
fn connected_pair(m: &mut Machine) -> Result<(u32, u32)> {
    let (rx, tx) = (m.socket(SOCK_DGRAM)?, m.socket(SOCK_DGRAM)?);
    let any = SockAddr::V4(Ipv4Addr::LOCALHOST, 0).emit();
    m.must("bind", Call::Bind { fd: rx, addr: &any })?;
    let Ret::Addr(to) = m.must("getsockname", Call::GetSockName { fd: rx })? else { bail!("getsockname") };
    m.must("connect", Call::Connect { fd: tx, addr: &to.emit() })?;
    Ok((rx, tx))
}

fn datagrams() -> Result<f64> {
    let mut m = Machine::new()?;
    let (rx, tx) = connected_pair(&mut m)?;
    let mut buf = [0; 128];
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..16 {
            ensure!(m.send(tx, &[7; 64])? == 64, "send");
        }
        for _ in 0..16 {
            ensure!(m.recv(rx, &mut buf)? == 64, "recv");
            n += 1;
        }
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}

/// Payload per second: sends that stand for many datagrams, received by a socket that takes them together.
fn super_datagrams() -> Result<f64> {
    let mut m = Machine::new()?;
    let (rx, tx) = connected_pair(&mut m)?;
    for (fd, name, v) in [(rx, UDP_GRO, 1_i32), (tx, UDP_SEGMENT, SEGMENT as i32)] {
        m.must("setsockopt", Call::SetSockOpt { fd, level: SOL_UDP, name, value: &v.to_ne_bytes() })?;
    }
    let (piece, mut buf) = ([7; SUPER], vec![0; 65_536]);
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..2 {
            ensure!(m.send(tx, &piece)? == SUPER, "send");
        }
        for _ in 0..2 {
            ensure!(m.recv(rx, &mut buf)? == SUPER, "recv");
            n += 1;
        }
    }
    Ok((n * SUPER as u64 * 8) as f64 / t0.elapsed().as_secs_f64() / 1e9)
}

/// Nanoseconds per operation on an instance with a thousand sockets of which none is readable.
fn epoll_row(name: &str) -> Result<f64> {
    let mut m = Machine::new()?;
    let epfd = m.fd("epoll_create", Call::EpollCreate { flags: 0 })?;
    let mut socks = Vec::new();
    for _ in 0..1000 {
        let fd = m.socket(SOCK_DGRAM)?;
        let any = SockAddr::V4(Ipv4Addr::LOCALHOST, 0).emit();
        m.must("bind", Call::Bind { fd, addr: &any })?;
        socks.push(fd);
    }
    let ctl = |m: &mut Machine, op| -> Result<()> {
        for &fd in &socks {
            let event = (op != EPOLL_CTL_DEL).then_some(EpollEvent { events: EPOLLIN, data: u64::from(fd) });
            m.must("epoll_ctl", Call::EpollCtl { epfd, op, fd, event })?;
        }
        Ok(())
    };
    if name != "epoll_add" {
        ctl(&mut m, EPOLL_CTL_ADD)?;
    }
    let (t0, mut spent, mut n) = (Instant::now(), Duration::ZERO, 0_u64);
    while t0.elapsed() < TIME {
        let t = Instant::now();
        match name {
            "epoll_add" => ctl(&mut m, EPOLL_CTL_ADD)?,
            "epoll_mod" => ctl(&mut m, EPOLL_CTL_MOD)?,
            _ => {
                for _ in 0..1000 {
                    m.must("epoll_wait", Call::EpollWait { epfd, max: 16, timeout: Some(0) })?;
                }
            }
        }
        spent += t.elapsed();
        n += 1000;
        if name == "epoll_add" {
            ctl(&mut m, EPOLL_CTL_DEL)?;
        }
    }
    Ok(spent.as_nanos() as f64 / n as f64)
}

/// The process's memory, divided: sockets, files, descriptor table, hash tables, everything.
fn idle_bytes() -> Result<f64> {
    let mut m = Machine::new()?;
    idle_pairs(&mut m, 2_000)?;
    let before = resident_bytes()?;
    let n = 200_000;
    idle_pairs(&mut m, n)?;
    Ok((resident_bytes()? - before) / n as f64)
}

fn time_wait_bytes() -> Result<f64> {
    let mut m = Machine::new()?;
    let listener = m.listener()?;
    for _ in 0..1000 {
        one_connection(&mut m, listener, 1)?;
    }
    let before = resident_bytes()?;
    let n = 100_000_u32;
    for i in 0..n {
        one_connection(&mut m, listener, 2 + (i / 12_000) as u8)?;
    }
    Ok((resident_bytes()? - before) / f64::from(n))
}

/// Two hosts in virtual time; every byte is checked by the experiment, the trace digested as always.
fn lab_packets() -> Result<f64> {
    let set = [("size", "200MB"), ("delay", "10ms"), ("loss", "0.1%"), ("check", "0")];
    let set = set.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    let options = belljar_lab::RunOptions { seed: 1, set, ..Default::default() };
    let t0 = Instant::now();
    let report = belljar_lab::run("transfer", options).map_err(anyhow::Error::msg)?;
    let took = t0.elapsed().as_secs_f64();
    ensure!(report.failure.is_none(), "{:?}", report.failure);
    let bytes = report.figures.iter().find(|f| f.0 == "bytes").map_or(0.0, |f| f.1);
    // 1,500 less two headers and the timestamp option.
    Ok(bytes / 1448.0 / took)
}
