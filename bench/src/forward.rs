//! `udp_forward`: datagrams of 64 bytes from a host through a router to another host, three namespaces joined by veth on
//! one core. The calls of the sender and the receiver are part of it.

use crate::linux::TIME;
use crate::machine::{Machine, host};
use anyhow::{Result, ensure};
use belljar_abi::{SOCK_DGRAM, SockAddr};
use belljar_kernel::task::call::Call;
use std::net::Ipv4Addr;
use std::time::Instant;

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
