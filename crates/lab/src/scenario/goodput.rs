//! `goodput`: how much arrives over a hard link, for each of a table of links and each congestion control.
//!
//! The table, `goodput.cells`, is also what `cargo xtask goodput` runs between two namespaces of this machine, through
//! the same link in real time; so the NICs here are as a TAP device: segmentation by the stack, nothing merged on
//! arrival, nothing below TCP that holds a sender back. What is measured there and here: the bytes that receivers got
//! within so many seconds of the first accept.
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::stream::{BLOCK, Checker, Pattern};
use crate::task::{Shared, Sock, Task, sleep};
use belljar_abi::socket::{MSG_NOSIGNAL, SOL_TCP, TCP_CONGESTION};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::SEC;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::sysctl::nearest_among;
use belljar_link::{Conditions, Course};
use core::net::Ipv4Addr;
use std::cell::RefCell;
use std::rc::Rc;

pub const KNOWN: &[Known] = &[
    Known { key: "cell", default: "lan", about: "the link by its name in the table, or none" },
    Known { key: "algorithm", default: "cubic", about: "cubic, reno or bbr" },
    Known { key: "flows", default: "table", about: "connections at once" },
    Known { key: "seconds", default: "table", about: "how long they send" },
    Known {
        key: "link",
        default: "table",
        about: "course of the link: conditions; at TIME conditions; back conditions",
    },
    Known { key: "least", default: "none", about: "bits a second that have to arrive" },
    Known { key: "fair", default: "0%", about: "Jain's index that has to be reached" },
    Known { key: "check", default: "1000", about: "steps between checks of all invariants, 0: never" },
];

const CELLS: &str = include_str!("goodput.cells");
const PORT: u16 = 5001;
/// Fairness is judged when slow starts are over.
const FAIR_AFTER: u64 = 30 * SEC;
/// A TAP device without `virtio_net_hdr`, as its sender and its receiver see it.
const TAP: Features = Features { gro: false, orphan: true, ..Features::ALL };

/// A line of the table.
struct Cell {
    flows: u64,
    seconds: u64,
    link: String,
}

fn cell(name: &str) -> Option<Cell> {
    let line = CELLS.lines().find(|l| l.split_whitespace().next() == Some(name) && !l.starts_with('#'))?;
    let mut words = line.split_whitespace().skip(1);
    let (flows, seconds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Cell { flows, seconds, link: words.collect::<Vec<_>>().join(" ") })
}

fn names() -> impl Iterator<Item = &'static str> {
    CELLS.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_whitespace().next())
}

fn asked(s: &Settings) -> Result<Cell, String> {
    let name = s.text("cell");
    let mut c = match name {
        "none" => Cell { flows: 1, seconds: 20, link: String::new() },
        _ => cell(name).ok_or_else(|| {
            let names: Vec<_> = names().collect();
            let near = nearest_among(name, names.iter().copied()).map(|n| format!(" (did you mean {n}?)"));
            format!("cell {name:?} is not in the table{}: {} or none", near.unwrap_or_default(), names.join(", "))
        })?,
    };
    if s.text("flows") != "table" {
        c.flows = s.count("flows")?;
    }
    if s.text("seconds") != "table" {
        c.seconds = s.count("seconds")?;
    }
    if s.text("link") != "table" {
        c.link = s.text("link").to_owned();
    }
    if !(1..=1000).contains(&c.flows) || !(1..=100_000).contains(&c.seconds) {
        return Err("flows are 1 to 1000, seconds 1 to 100000".into());
    }
    Ok(c)
}

/// What one receiver got: all of it, and the part after [`FAIR_AFTER`].
#[derive(Clone, Copy, Debug, Default)]
struct Got {
    all: u64,
    late: u64,
}

type Gots = Rc<RefCell<Vec<Got>>>;

pub fn run(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (c, least, fair) = (asked(s)?, s.rate("least")?.unwrap_or(0), s.percent("fair")?);
    let course = Course::parse(&c.link).map_err(|e| format!("link: {e}"))?;
    let nic = Nic { features: TAP, ..Nic::default() };
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let (client, server) = (lab.host("client", seed), lab.host("server", seed));
    let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let cable = lab.wire((client, from), (server, to), 24, nic, Conditions::default(), seed)?;
    lab.apply_sysctls(s)?;
    follow(lab, cable, course);

    let got = Gots::default();
    let receiver = lab.task(server, "receiver").ok_or("no process")?;
    let (spawner, seconds, gots) = (lab.spawner(), c.seconds, got.clone());
    lab.spawn_daemon("receiver", async move {
        let Ok(l) = receiver.listen(SockAddr::V4(Ipv4Addr::UNSPECIFIED, PORT), 1024).await else { return };
        let mut end = None;
        while let Ok((sock, _)) = l.accept().await {
            let end = *end.get_or_insert(sock.task.now() + seconds * SEC);
            let flow = gots.borrow().len();
            gots.borrow_mut().push(Got::default());
            let Some(thread) = receiver.thread() else { return };
            let sock = Sock { task: thread, fd: sock.fd };
            spawner.spawn(format!("receiver {flow}"), receive(sock, end, flow, gots.clone()));
        }
    });
    for flow in 0..c.flows {
        let task = lab.task(client, &format!("sender{flow}")).ok_or("no process")?;
        let algorithm = s.text("algorithm").to_owned();
        lab.spawn_daemon(format!("sender {flow}"), async move {
            let world = task.world.clone();
            let sent = send(task, SockAddr::V4(to, PORT), &algorithm).await;
            Lab::expect(&world, sent.is_ok(), || format!("a sender ended with {}", sent.unwrap_err()));
        });
    }
    // The receivers are begun one by one: the run must not end before the last of them.
    let world = lab.world.clone();
    lab.spawn("time", async move { sleep(&world, seconds * SEC + SEC).await });
    lab.run();
    let (goodput, jain) = summary(lab, (client, server), cable, &c, &got.borrow(), report);
    Lab::expect(&lab.world, goodput >= least as f64, || format!("{goodput:.0} bit/s are less than {least}"));
    Lab::expect(&lab.world, jain >= fair, || format!("Jain's index is {jain:.3}, less than {fair}"));
    Ok(())
}

fn follow(lab: &mut Lab, cable: usize, mut course: Course) {
    let world: Shared = lab.world.clone();
    lab.spawn_daemon("link", async move {
        loop {
            let (now, next) = {
                let mut w = world.borrow_mut();
                let now = w.now;
                w.cables.get_mut(cable).into_iter().for_each(|c| course.follow(&mut c.link, now));
                (now, course.next_change())
            };
            let Some(at) = next else { return };
            sleep(&world, at - now).await;
        }
    });
}

/// Every byte is checked; those after the end do not count.
async fn receive(sock: Sock, end: u64, flow: usize, gots: Gots) {
    let mut check = Checker::new(0);
    let late_from = end.saturating_sub(end.min(FAIR_AFTER));
    while sock.task.now() < end {
        let left = end - sock.task.now();
        let segs = match Sock::received(sock.receiving(1 << 20, 0).within(left).await) {
            Ok(r) if !r.segs.is_empty() => r.segs,
            Err(Errno::EINTR) => break,
            other => {
                Lab::expect(&sock.task.world, false, || format!("receiver {flow} ended with {other:?}"));
                break;
            }
        };
        let right = check.take(&segs);
        Lab::expect(&sock.task.world, right.is_ok(), || format!("receiver {flow}: wrong byte at {right:?}"));
        if let Some(got) = gots.borrow_mut().get_mut(flow) {
            got.all = check.pos;
            got.late += if sock.task.now() >= late_from { segs.len() as u64 } else { 0 };
        }
    }
}

async fn send(task: Task, to: SockAddr, algorithm: &str) -> Result<(), Errno> {
    let sock = task.tcp(&to).await?;
    sock.set(SOL_TCP, TCP_CONGESTION, algorithm.as_bytes()).await?;
    sock.connect(to).await?;
    let (mut pattern, mut pos) = (Pattern::new(0), 0);
    loop {
        match sock.sending(pattern.at(pos, BLOCK), MSG_NOSIGNAL).await? {
            belljar_kernel::task::call::Ret::Int(n) => pos += n.max(0) as u64,
            _ => return Err(Errno::EPROTO),
        }
    }
}

/// Jain's index: 1 when all have the same, 1/n when one has all.
fn jain(got: &[f64]) -> f64 {
    let (sum, squares) = (got.iter().sum::<f64>(), got.iter().map(|g| g * g).sum::<f64>());
    if squares > 0.0 { sum * sum / (got.len() as f64 * squares) } else { 0.0 }
}

fn summary(
    lab: &Lab,
    (client, server): (usize, usize),
    cable: usize,
    c: &Cell,
    got: &[Got],
    report: &mut Report,
) -> (f64, f64) {
    let bytes: u64 = got.iter().map(|g| g.all).sum();
    let goodput = bytes as f64 * 8.0 / c.seconds as f64;
    let fair = if c.seconds * SEC > FAIR_AFTER { |g: &Got| g.late as f64 } else { |g: &Got| g.all as f64 };
    let jain = jain(&got.iter().map(fair).collect::<Vec<_>>());
    let (out, again) = (lab.counter(client, Mib::TcpOutSegs), lab.counter(client, Mib::TcpRetransSegs));
    let timeouts = lab.counter(client, Mib::TcpExtTCPTimeouts);
    let (ab, ba) = lab.link_stats(cable);
    report.text.push(format!("link       {}", c.link));
    report.text.push(format!("goodput    {:.3} Mbit/s, {} flows, Jain's index {jain:.3}", goodput / 1e6, got.len()));
    report.text.push(format!("segments   {out} out, {again} retransmitted, {timeouts} timeouts"));
    let lost = format!("{} + {} packets lost, {} over the limit", ab.lost, ba.lost, ab.overlimit);
    report.text.push(format!("dropped    {lost}, {} policed", ab.policed));
    report.text.push(format!("sender     {}", counters(lab, client)));
    report.text.push(format!("receiver   {}", counters(lab, server)));
    for (name, value, unit) in [
        ("goodput", goodput, "bit/s"),
        ("jain", jain, ""),
        ("segments", out as f64, "segments"),
        ("retransmissions", again as f64, "segments"),
        ("timeouts", timeouts as f64, ""),
        ("overlimit", ab.overlimit as f64, "packets"),
        ("policed", ab.policed as f64, "packets"),
        ("lost", ab.lost as f64, "packets"),
    ] {
        report.figure(name, value, unit);
    }
    (goodput, jain)
}

/// What a kernel counted of losses, recoveries and queues, under the names that nstat shows.
fn counters(lab: &Lab, host: usize) -> String {
    let all = belljar_kernel::net::mib::GROUPS
        .iter()
        .filter(|(group, _)| *group == "TcpExt")
        .flat_map(|(_, counters)| counters.iter());
    let moved = all.map(|(c, name)| (*name, lab.counter(host, *c))).filter(|(_, n)| *n > 0);
    moved.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_can_be_read() {
        let names: Vec<_> = names().collect();
        assert!((10..=13).contains(&names.len()));
        for name in names {
            let c = cell(name).unwrap();
            assert!(c.flows > 0 && c.seconds > 0 && Course::parse(&c.link).is_ok(), "{name}");
        }
        assert!((jain(&[3.0, 3.0]) - 1.0).abs() < 1e-9 && (jain(&[1.0, 0.0]) - 0.5).abs() < 1e-9);
    }
}
