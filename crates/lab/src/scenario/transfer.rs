//! `transfer`: one TCP stream over one bad link. Every byte is checked at the other end.
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::stream::{BLOCK, Checker, Pattern};
use crate::task::{Sock, Task};
use belljar_abi::socket::{MSG_NOSIGNAL, SHUT_WR};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::Ret;
use belljar_link::Conditions;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::cell::Cell;
use std::rc::Rc;

pub const KNOWN: &[Known] = &[
    Known { key: "size", default: "1GB", about: "bytes to send" },
    Known { key: "delay", default: "100ms", about: "delay of the link, each way" },
    Known { key: "jitter", default: "0ms", about: "variation of the delay" },
    Known { key: "loss", default: "1%", about: "packets lost, each way" },
    Known { key: "reorder", default: "0%", about: "packets that overtake others" },
    Known { key: "duplicate", default: "0%", about: "packets that arrive twice" },
    Known { key: "corrupt", default: "0%", about: "packets with a flipped bit" },
    Known { key: "rate", default: "none", about: "bits a second" },
    Known { key: "limit", default: "1000", about: "packets that the link holds" },
    Known { key: "ecn", default: "none", about: "packets in the link from which it marks" },
    Known { key: "police", default: "none", about: "bits a second that a policer lets through" },
    Known { key: "burst", default: "64KiB", about: "bytes it lets through at once" },
    Known { key: "mtu", default: "1500", about: "of both NICs" },
    Known { key: "family", default: "4", about: "4 or 6: the version of IP" },
    Known { key: "check", default: "1000", about: "steps between checks of all invariants, 0: never" },
];

const PORT: u16 = 5001;

fn conditions(s: &Settings) -> Result<Conditions, String> {
    Ok(Conditions {
        delay_ns: s.delay("delay")?,
        jitter_ns: s.delay("jitter")?,
        loss: s.percent("loss")?,
        duplicate: s.percent("duplicate")?,
        corrupt: s.percent("corrupt")?,
        reorder: s.percent("reorder")?,
        rate_bps: s.rate("rate")?,
        limit: s.count_in("limit", 1..=1 << 24)? as usize,
        ecn: s.maybe_count("ecn")?.map(|_| s.count_in("ecn", 1..=1 << 24)).transpose()?.map(|n| n as usize),
        police_bps: s.rate("police")?,
        burst: Some(s.size("burst")?).filter(|n| *n > 0).ok_or("burst is at least 1, not 0")?,
    })
}

/// The addresses of sender and receiver, and that of nobody.
fn ends(s: &Settings) -> Result<(IpAddr, IpAddr, IpAddr), String> {
    match s.text("family") {
        "4" => {
            let of = |n| Ipv4Addr::new(10, 0, 0, n).into();
            Ok((of(1), of(2), Ipv4Addr::UNSPECIFIED.into()))
        }
        "6" => {
            let of = |n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into();
            Ok((of(1), of(2), Ipv6Addr::UNSPECIFIED.into()))
        }
        other => Err(format!("family {other:?} is neither 4 nor 6")),
    }
}

pub fn run(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (size, link) = (s.size("size")?, conditions(s)?);
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let (client, server) = (lab.host("client", seed), lab.host("server", seed));
    let (from, to, any) = ends(s)?;
    let least = if any.is_ipv6() { 1280 } else { 576 };
    let nic = Nic { mtu: s.count_in("mtu", least..=65_535)? as u32, ..Nic::default() };
    if any.is_ipv6() {
        [client, server].into_iter().for_each(|h| lab.enable_ipv6(h));
    }
    lab.wire((client, from), (server, to), 24, nic, link, seed)?;
    lab.apply_sysctls(s)?;

    let (sender, receiver) = (lab.task(client, "sender"), lab.task(server, "receiver"));
    let got = Rc::new(Cell::new(0));
    let (Some(sender), Some(receiver)) = (sender, receiver) else { return Err("no process".into()) };
    let listener = Rc::clone(&got);
    lab.spawn("receiver", async move {
        let world = receiver.world.clone();
        let end = receive(receiver, SockAddr::ip(any, PORT), seed, listener).await;
        Lab::expect(&world, end.is_ok(), || format!("the receiver ended with {}", end.unwrap_err()));
    });
    lab.spawn("sender", async move {
        let world = sender.world.clone();
        let end = send(sender, SockAddr::ip(to, PORT), seed, size).await;
        Lab::expect(&world, end.is_ok(), || format!("the sender ended with {}", end.unwrap_err()));
    });
    lab.run();
    let arrived = got.get();
    Lab::expect(&lab.world, arrived == size, || format!("{arrived} of {size} bytes arrived"));
    summary(lab, client, server, arrived, report);
    Ok(())
}

pub(super) async fn receive(task: Task, at: SockAddr, key: u64, got: Rc<Cell<u64>>) -> Result<(), String> {
    let say = |e: Errno| e.to_string();
    let l = task.listen(at, 16).await.map_err(say)?;
    let (sock, _) = l.accept().await.map_err(say)?;
    let mut check = Checker::new(key);
    loop {
        let segs = sock.recv(1 << 20).await.map_err(say)?;
        if segs.is_empty() {
            break;
        }
        check.take(&segs).map_err(|at| format!("wrong byte at {at}"))?;
        got.set(check.pos);
    }
    sock.close().await.map_err(say)?;
    l.close().await.map_err(say)
}

pub(super) async fn send(task: Task, to: SockAddr, key: u64, size: u64) -> Result<(), String> {
    let say = |e: Errno| e.to_string();
    let sock = task.connect(to).await.map_err(say)?;
    let mut pattern = Pattern::new(key);
    let mut pos = 0;
    while pos < size {
        let max = (size - pos).min(BLOCK as u64) as usize;
        pos += write(&sock, pattern.at(pos, max)).await.map_err(say)?;
    }
    sock.shutdown(SHUT_WR).await.map_err(say)?;
    let rest = sock.recv(1).await.map_err(say)?;
    if !rest.is_empty() {
        return Err("bytes came back that nobody sent".into());
    }
    sock.close().await.map_err(say)
}

async fn write(sock: &Sock, bytes: &[u8]) -> Result<u64, Errno> {
    match sock.sending(bytes, MSG_NOSIGNAL).await? {
        Ret::Int(n) => Ok(n.max(0) as u64),
        _ => Err(Errno::EPROTO),
    }
}

fn summary(lab: &Lab, client: usize, server: usize, arrived: u64, report: &mut Report) {
    let now = lab.now();
    let seconds = now as f64 / 1e9;
    let goodput = arrived as f64 * 8.0 / seconds.max(1e-9);
    let (out, again) = (lab.counter(client, Mib::TcpOutSegs), lab.counter(client, Mib::TcpRetransSegs));
    let (timeouts, lost) = (lab.counter(client, Mib::TcpExtTCPTimeouts), lab.link_stats(0));
    let acks = lab.counter(server, Mib::TcpOutSegs);
    report.text.push(format!("sent       {arrived} bytes, all of them checked"));
    report.text.push(format!("goodput    {:.3} Mbit/s", goodput / 1e6));
    report.text.push(format!("segments   {out} out, {again} retransmitted, {timeouts} timeouts, {acks} back"));
    let (ab, ba) = lost;
    report.text.push(format!("link       {} + {} packets lost, {} over the limit", ab.lost, ba.lost, ab.overlimit));
    if ab.marked > 0 {
        report.text.push(format!("marked     {} packets", ab.marked));
    }
    report.figure("marked", ab.marked as f64, "packets");
    report.figure("bytes", arrived as f64, "B");
    report.figure("goodput", goodput, "bit/s");
    report.figure("retransmissions", again as f64, "segments");
    report.figure("timeouts", timeouts as f64, "");
    report.figure("link_lost", (ab.lost + ba.lost) as f64, "packets");
}
