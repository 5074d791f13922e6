//! `udp_forward`: datagrams of 64 bytes from a host through a router to another host, three namespaces joined by veth on
//! one core. The calls of the sender and the receiver are part of it, on both sides.

use crate::linux::{TIME, pin};
use crate::machine::{Machine, host};
use anyhow::{Context, Result, ensure};
use belljar_abi::{SOCK_DGRAM, SockAddr};
use belljar_kernel::task::call::Call;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

/// The host kernel's router is the namespace this runs in.
pub const NETWORK: &str = "\
mount -t tmpfs tmpfs /run
n=1
for end in a b; do
    ip netns add $end
    ip link add name $end type veth peer name eth0 netns $end
    ip addr add 10.$n.0.1/24 dev $end
    ip link set $end up
    ip -n $end addr add 10.$n.0.2/24 dev eth0
    ip -n $end link set eth0 up
    ip -n $end route add default via 10.$n.0.1
    n=2
done
echo 1 > /proc/sys/net/ipv4/ip_forward";
const B: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const PORT: u16 = 9000;
/// So many are sent before the receiver looks: they fit a socket's default buffer on both sides.
const BURST: usize = 64;

/// Datagrams per second that went the whole way and were received.
pub fn belljar() -> Result<f64> {
    let mut m = Machine::new()?;
    let k = &mut m.kernel;
    let ((a, tx_task), (r, _), (b, rx_task)) = (host(k, "a")?, host(k, "r")?, host(k, "b")?);
    for (end, name, net) in [(a, "a0", 1_u8), (b, "b0", 2)] {
        let pair = k.net.add_veth((end, "eth0"), (r, name)).map_err(|e| anyhow::anyhow!("veth: {e}"))?;
        for (dev, last) in [(pair.0, 2), (pair.1, 1)] {
            let address = k.add_address(dev, Ipv4Addr::new(10, net, 0, last), 24).and_then(|()| k.set_link(dev, true));
            address.map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
        }
        k.add_route(end, Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, net, 0, 1)), None)
            .map_err(|e| anyhow::anyhow!("route: {e}"))?;
    }
    k.sysctl_set(r, "net.ipv4.ip_forward", "1").map_err(|e| anyhow::anyhow!("ip_forward: {e}"))?;

    m.task = rx_task;
    let rx = m.socket(SOCK_DGRAM)?;
    let to = SockAddr::V4(B, PORT).emit();
    m.must("bind", Call::Bind { fd: rx, addr: &to })?;
    m.task = tx_task;
    let tx = m.socket(SOCK_DGRAM)?;
    m.must("connect", Call::Connect { fd: tx, addr: &to })?;
    // Neighbours are resolved before the clock starts.
    ensure!(m.send(tx, &[7; 64])? == 64, "send");
    let (mut buf, mut n) = ([0; 128], 0_u64);
    m.task = rx_task;
    ensure!(m.recv(rx, &mut buf)? == 64, "nothing came through");
    let t0 = Instant::now();
    while t0.elapsed() < TIME {
        m.task = tx_task;
        for _ in 0..BURST {
            ensure!(m.send(tx, &[7; 64])? == 64, "send");
        }
        m.task = rx_task;
        for _ in 0..BURST {
            ensure!(m.recv(rx, &mut buf)? == 64, "recv");
        }
        n += BURST as u64;
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}

/// The same on the host kernel, by one thread on one core.
pub fn linux() -> Result<f64> {
    pin(0)?;
    let enter = |name: &str| -> Result<()> {
        let ns = File::open(format!("/run/netns/{name}")).context("this user may not make network namespaces")?;
        Ok(setns(ns, CloneFlags::CLONE_NEWNET)?)
    };
    enter("b")?;
    let rx = UdpSocket::bind((B, PORT))?;
    enter("a")?;
    let tx = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    tx.connect((B, PORT))?;
    let mut buf = [0; 128];
    tx.send(&[7; 64])?;
    ensure!(rx.recv(&mut buf)? == 64, "nothing came through");
    rx.set_nonblocking(true)?;
    let (t0, mut n) = (Instant::now(), 0_u64);
    while t0.elapsed() < TIME {
        for _ in 0..BURST {
            tx.send(&[7; 64])?;
        }
        // What a softirq of another moment still holds comes with the next burst.
        while rx.recv(&mut buf).is_ok() {
            n += 1;
        }
    }
    Ok(n as f64 / t0.elapsed().as_secs_f64())
}
