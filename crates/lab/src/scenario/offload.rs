//! `offload` and `backlog`: packets for each megabyte with GRO, LRO and TSO on and off, NET_RX against NET_TX; and what the
//! backlog of a CPU drops when a veth's receiver is steered to one that is slower than the sender.
use super::device::{coalesce, expect, features, line};
use super::rings::CHECK;
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::stream::{BLOCK, Checker, Pattern};
use crate::task::Task;
use belljar_abi::socket::{MSG_NOSIGNAL, SHUT_WR, SO_SNDBUF, SOL_SOCKET};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::MSEC;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::core::cpu_time::Costs;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::Ret;
use belljar_kernel::task::process::Caps;
use belljar_link::Conditions;
use core::net::Ipv4Addr;

pub const OFFLOAD: &[Known] = &[
    Known { key: "size", default: "8MB", about: "bytes of each stream" },
    Known { key: "rate", default: "1gbit", about: "of the cable" },
    CHECK,
];
const PORT: u16 = 5001;
/// Of the receiver's card.
const RX_USECS: u32 = 100;

/// One stream, and what it cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Packets that IP saw at the receiver, descriptors that the sender's card took.
    up: u64,
    down: u64,
    sender: u64,
    receiver: u64,
    net_rx: u64,
    net_tx: u64,
}

pub fn offload(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (size, rate) = (s.size("size")?, s.rate("rate")?);
    if !(100_000..=1_000_000_000).contains(&size) {
        return Err("size is 100kB to 1GB".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let link = Conditions { rate_bps: rate, delay_ns: MSEC / 10, ..Conditions::default() };
    let mut got = Vec::new();
    let lro = Features { lro: true, ..features(false, true) };
    for (n, f) in [features(true, true), features(false, true), features(true, false), lro].into_iter().enumerate() {
        got.push(stream(lab, seed, n as u8, f, size, link)?);
    }
    line(
        report,
        format!(
            "{:<18} {:>14} {:>14} {:>14} {:>14}",
            "per megabyte", "packets to IP", "descriptors", "receiver CPU", "sender CPU"
        ),
    );
    let per = |n: u64| n as f64 * 1e6 / size as f64;
    for (name, c) in ["GRO and TSO", "GRO off", "TSO off", "LRO, GRO off"].iter().zip(&got) {
        let (up, down, rx, tx) = (per(c.up), per(c.down), per(c.receiver) / 1e3, per(c.sender) / 1e3);
        line(report, format!("{name:<18} {up:>14.1} {down:>14.1} {rx:>11.0} us {tx:>11.0} us"));
    }
    let [all, no_gro, no_tso, lro] = [got[0], got[1], got[2], got[3]];
    line(report, format!("softirqs of the receiver: {} NET_RX, {} NET_TX", all.net_rx, all.net_tx));
    for (name, value) in [
        ("packets", all.up),
        ("packets without gro", no_gro.up),
        ("packets with lro", lro.up),
        ("descriptors", all.down),
        ("descriptors without tso", no_tso.down),
        ("net_rx", all.net_rx),
        ("net_tx", all.net_tx),
    ] {
        report.figure(name, value as f64, "");
    }
    expect(lab, no_gro.up > 2 * all.up, || format!("GRO joined {} packets to {}", no_gro.up, all.up));
    expect(lab, no_gro.up > 2 * lro.up, || format!("LRO joined {} packets to {}", no_gro.up, lro.up));
    // The card's joining costs the receiver nothing.
    expect(lab, lro.receiver < all.receiver, || "with LRO the receiver worked no less than with GRO".into());
    expect(lab, no_gro.receiver > all.receiver, || "without GRO the receiver worked no more".into());
    expect(lab, no_tso.down > 2 * all.down, || format!("TSO saved {} of {} descriptors", all.down, no_tso.down));
    expect(lab, no_tso.sender > all.sender, || "without TSO the sender worked no more".into());
    // Transmission completes in NET_RX; NET_TX is for queues that had to wait.
    expect(lab, all.net_rx > 50 * all.net_tx.max(1), || format!("{} NET_RX, {} NET_TX", all.net_rx, all.net_tx));
    Ok(())
}

fn stream(lab: &mut Lab, seed: u64, n: u8, features: Features, size: u64, link: Conditions) -> Result<Cost, String> {
    let at = move |host: u8| Ipv4Addr::new(10, 78, n, host);
    let (a, b) = (lab.host(&format!("sender{n}"), seed), lab.host(&format!("receiver{n}"), seed));
    [a, b].into_iter().for_each(|h| lab.cpus(h, 2, Costs::default()));
    let nic = Nic { features, ..Nic::default() };
    lab.wire((a, at(1)), (b, at(2)), 24, nic, link, seed)?;
    together(lab, b).map_err(|e| e.to_string())?;
    let (sender, receiver) = (lab.task(a, "sender"), lab.task(b, "receiver"));
    let (Some(sender), Some(receiver)) = (sender, receiver) else { return Err("no process".into()) };
    let (sender, receiver) = (sender.on_cpu(1), receiver.on_cpu(1));
    let world = lab.world.clone();
    lab.spawn(format!("receiver{n}"), async move {
        let end = receive(receiver, size).await;
        Lab::expect(&world, end.is_ok(), || format!("the receiver ended with {end:?}"));
    });
    let world = lab.world.clone();
    lab.spawn(format!("sender{n}"), async move {
        let end = send(sender, SockAddr::V4(at(2), PORT), size).await;
        Lab::expect(&world, end.is_ok(), || format!("the sender ended with {end:?}"));
    });
    lab.run();
    let (up, w) = (lab.counter(b, Mib::IpInReceives), lab.world.borrow());
    let (Some(a), Some(b)) = (w.hosts.get(a), w.hosts.get(b)) else { return Ok(Cost::default()) };
    let spent = |k: &belljar_kernel::Kernel| (0..2).filter_map(|c| k.cpu_spent(c)).map(|s| s.all()).sum();
    let cards = a.nics.iter().filter_map(|(dev, ..)| a.kernel.net.devs.get(*dev)?.nic());
    let softirq = |n: usize| b.kernel.net.cpus.iter().filter_map(|c| c.softirqs.get(n)).sum();
    Ok(Cost {
        up,
        down: cards.flat_map(|n| &n.queues).map(|q| q.tx.descs).sum(),
        sender: spent(&a.kernel),
        receiver: spent(&b.kernel),
        net_rx: softirq(3),
        net_tx: softirq(2),
    })
}

/// Segments reach a poll together when the interrupt waits for them: without that there is little to join at this rate.
fn together(lab: &Lab, host: usize) -> Result<(), Errno> {
    let mut w = lab.world.borrow_mut();
    let h = w.hosts.get_mut(host).ok_or(Errno::ESRCH)?;
    let dev = h.kernel.net.dev_by_name(h.ns, "eth0").ok_or(Errno::ENODEV)?;
    coalesce(&mut h.kernel, dev, RX_USECS)
}

async fn receive(task: Task, size: u64) -> Result<(), Errno> {
    let l = task.listen(SockAddr::V4(Ipv4Addr::UNSPECIFIED, PORT), 8).await?;
    let (sock, _) = l.accept().await?;
    let mut check = Checker::new(0);
    while check.pos < size {
        let segs = sock.recv(1 << 20).await?;
        task.work(0).await;
        if segs.is_empty() || check.take(&segs).is_err() {
            return Err(Errno::EPROTO);
        }
    }
    sock.close().await?;
    l.close().await
}

async fn send(task: Task, to: SockAddr, size: u64) -> Result<(), Errno> {
    let sock = task.connect(to).await?;
    let (mut pattern, mut pos) = (Pattern::new(0), 0);
    while pos < size {
        let max = (size - pos).min(BLOCK as u64) as usize;
        match sock.sending(pattern.at(pos, max), MSG_NOSIGNAL).await? {
            Ret::Int(n) => pos += n.max(0) as u64,
            _ => return Err(Errno::EPROTO),
        }
        task.work(0).await;
    }
    sock.shutdown(SHUT_WR).await?;
    sock.recv(1).await?;
    sock.close().await
}

pub const BACKLOG: &[Known] = &[
    Known { key: "count", default: "20000", about: "datagrams that are sent as fast as the sender can" },
    Known { key: "long", default: "100000", about: "netdev_max_backlog of the third machine" },
    CHECK,
];

/// A veth pair between two namespaces of one machine with two CPUs.
pub fn backlog(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (count, long) = (s.count("count")?, s.count("long")?);
    if !(1000..=1_000_000).contains(&count) || long > 1_000_000 {
        return Err("count is 1000 to 1000000, long at most 1000000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let mut dropped = Vec::new();
    for (n, (rps, max)) in [("", 1000), ("2", 1000), ("2", long)].into_iter().enumerate() {
        let host = lab.host(&format!("host{n}"), seed);
        lab.cpus(host, 2, Costs::default());
        pair(lab, host, n as u8, rps, max, count).map_err(|e| format!("host{n}: {e}"))?;
        lab.run();
        let until = lab.now() + 100 * MSEC;
        lab.run_until(until);
        dropped.push(drops(lab, host));
        let steered = if rps.is_empty() { "the sender's CPU" } else { "another CPU" };
        let d = dropped[n];
        line(report, format!("received on {steered:<17} backlog {max:<7} {:>6} dropped, {:>6} by IPI", d.0, d.1));
    }
    for (name, d) in ["here", "steered", "long"].into_iter().zip(&dropped) {
        report.figure(name, d.0 as f64, "packets");
    }
    expect(lab, dropped[0].0 == 0, || format!("{} dropped on the sender's own CPU", dropped[0].0));
    expect(lab, dropped[1].0 > count / 50, || format!("{} dropped on another CPU: too few", dropped[1].0));
    expect(lab, dropped[2].0 == 0, || format!("{} dropped from a long backlog", dropped[2].0));
    Ok(())
}

/// Packets that had no room in a backlog, and interrupts from CPU to CPU.
fn drops(lab: &Lab, host: usize) -> (u64, u64) {
    let w = lab.world.borrow();
    let cpus = w.hosts.get(host).map_or(&[][..], |h| &h.kernel.net.cpus[..]);
    cpus.iter().fold((0, 0), |a, c| (a.0 + c.stat.dropped, a.1 + c.stat.received_rps))
}

fn pair(lab: &mut Lab, host: usize, n: u8, rps: &str, max: u64, count: u64) -> Result<(), String> {
    let at = move |h: u8| Ipv4Addr::new(10, 79, n, h);
    let say = |e: Errno| e.to_string();
    let (sender, receiver) = {
        let mut w = lab.world.borrow_mut();
        let h = w.hosts.get_mut(host).ok_or("no such host")?;
        let (k, ns) = (&mut h.kernel, h.ns);
        let other: NsId = k.net.add_ns("other");
        let (a, b) = k.net.add_veth((ns, "v0"), (other, "v1")).map_err(say)?;
        for (dev, addr) in [(a, at(1)), (b, at(2))] {
            k.net.set_link(dev, true).map_err(say)?;
            k.add_address(dev, addr, 24).map_err(say)?;
        }
        if !rps.is_empty() {
            k.set_rps_cpus(b, 0, rps).map_err(say)?;
        }
        k.sysctl_set(ns, "net.core.netdev_max_backlog", &max.to_string()).map_err(say)?;
        let mut task = |ns, cpu| {
            let p = k.add_process(ns, 0, Caps::ROOT, 64, "udp");
            k.add_task(p, cpu)
        };
        (task(ns, 0).ok_or("no task")?, task(other, 1).ok_or("no task")?)
    };
    let of = |id| Task::of(&lab.world, host, id);
    let (sender, receiver) = (of(sender), of(receiver));
    lab.spawn_daemon(format!("receiver{n}"), async move {
        let here = SockAddr::V4(Ipv4Addr::UNSPECIFIED, PORT);
        let Ok(sock) = receiver.udp(&here).await else { return };
        if sock.bind(here).await.is_ok() {
            std::future::pending::<()>().await;
        }
    });
    lab.spawn(format!("sender{n}"), async move {
        sender.sleep(MSEC).await;
        let to = SockAddr::V4(at(2), PORT);
        let Ok(sock) = sender.udp(&to).await else { return };
        // What waits in the backlog counts as the sender's: with less it would have to wait for the receiver.
        let _ = sock.set_int(SOL_SOCKET, SO_SNDBUF, 4 << 20).await;
        // The neighbour is known before the rest follows.
        let _ = sock.sending_to(&[0; 8], to).await;
        sender.sleep(10 * MSEC).await;
        for _ in 0..count {
            let _ = sock.sending_to(&[0; 8], to).await;
            sender.work(0).await;
        }
        let _ = sock.close().await;
    });
    Ok(())
}
