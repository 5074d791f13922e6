//! A network from a file, with the file's workloads: the same hosts and links that `belljar up` runs programs in, in virtual
//! time.
use super::transfer::{receive, send};
use crate::lab::Lab;
use crate::report::Report;
use crate::settings::Settings;
use crate::task::Task;
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::Kernel;
use belljar_kernel::env::Nanos;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::mib::Mib;
use belljar_topology::{End, Kind, Topology, Workload, build};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Largest question and answer.
const MOST_ASKED: u64 = 1 << 20;

/// What a workload found out.
#[derive(Debug, Default)]
struct Outcome {
    bytes: Rc<Cell<u64>>,
    began: Cell<Nanos>,
    ended: Cell<Nanos>,
    /// Time of each answer.
    answers: RefCell<Vec<Nanos>>,
}

/// Whether a lab can run it at all: said before the first seed.
pub fn check(t: &Topology) -> Result<(), String> {
    if let Some((link, ..)) = t.outside() {
        let name = t.links.get(link).map_or("", |l| l.name.as_str());
        return Err(format!("the link {name} leads outside, where virtual time does not reach"));
    }
    if t.workloads.is_empty() {
        return Err("there is nothing to do: write [[workload]] (programs run with belljar up)".to_owned());
    }
    let big = |w: &Workload| matches!(w.kind, Kind::Ask { bytes, .. } if bytes == 0 || bytes > MOST_ASKED);
    match t.workloads.iter().any(big) {
        true => Err(format!("a question has from 1 to {MOST_ASKED} bytes")),
        false => Ok(()),
    }
}

pub fn run(lab: &mut Lab, t: &Topology, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    check(t)?;
    hosts(lab, t, seed)?;
    lab.apply_sysctls(s)?;
    let not_run: usize = t.hosts.iter().map(|h| h.programs.len() + h.setup.len()).sum();
    if not_run > 0 {
        report.text.push(format!("{not_run} programs and set-up commands stand still: they run with belljar up"));
    }
    let mut results = Vec::new();
    for (n, w) in t.workloads.iter().enumerate() {
        results.push(start(lab, n, w, seed)?);
    }
    lab.run();
    for (n, (w, r)) in t.workloads.iter().zip(&results).enumerate() {
        let whole = match w.kind {
            Kind::Stream { bytes } => bytes == r.bytes.get(),
            Kind::Ask { count, .. } => count == r.answers.borrow().len() as u64,
        };
        Lab::expect(&lab.world, whole, || format!("workload {} is not complete", n + 1));
        report.text.push(line(t, w, r));
    }
    links(lab, t, report);
    Ok(())
}

fn hosts(lab: &mut Lab, t: &Topology, seed: u64) -> Result<(), String> {
    let mut ends: Vec<[Option<(usize, DevId)>; 2]> = vec![[None; 2]; t.links.len()];
    for (n, h) in t.hosts.iter().enumerate() {
        let mut kernel = Kernel::new(seed.wrapping_add(n as u64));
        let ns = kernel.net.add_ns(&h.name);
        for p in build::host(t, n, &mut kernel, ns)? {
            if let Some(end) = ends.get_mut(p.link).and_then(|e| e.get_mut(p.end)) {
                *end = Some((n, p.dev));
            }
        }
        lab.world.borrow_mut().add_host(&h.name, kernel, ns);
    }
    for (n, (l, ends)) in t.links.iter().zip(&ends).enumerate() {
        let [Some(a), Some(b)] = *ends else { return Err(format!("{}: an end is missing", l.name)) };
        let [there, back] = l.conditions;
        let mut w = lab.world.borrow_mut();
        let cable = w.plug(vec![a, b], seed ^ (n as u64 + 1) << 32, there);
        if let Some(c) = w.cables.get_mut(cable) {
            c.link.ba.set(back);
        }
    }
    Ok(())
}

fn start(lab: &mut Lab, n: usize, w: &Workload, seed: u64) -> Result<Rc<Outcome>, String> {
    let (server, client) = (lab.task(w.to, "server"), lab.task(w.from, "client"));
    let (Some(server), Some(client)) = (server, client) else { return Err("no process".to_owned()) };
    let any: IpAddr = if w.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let (at, to, key) = (SockAddr::ip(any, w.port), SockAddr::ip(w.address, w.port), seed.wrapping_add(n as u64));
    let (result, kind, wait) = (Rc::new(Outcome::default()), w.kind, w.at_ns);
    let (theirs, ours, number) = (Rc::clone(&result), Rc::clone(&result), n + 1);
    lab.spawn(format!("server of workload {number}"), async move {
        let world = server.world.clone();
        let end = match kind {
            Kind::Stream { .. } => receive(server, at, key, theirs.bytes.clone()).await,
            Kind::Ask { bytes, .. } => answer(server, at, bytes).await,
        };
        theirs.ended.set(theirs.ended.get().max(world.borrow().now));
        Lab::expect(&world, end.is_ok(), || format!("the server of workload {number}: {}", end.unwrap_err()));
    });
    lab.spawn(format!("client of workload {number}"), async move {
        let world = client.world.clone();
        client.sleep(wait).await;
        ours.began.set(client.now());
        let end = match kind {
            Kind::Stream { bytes } => send(client, to, key, bytes).await,
            Kind::Ask { count, bytes } => ask(client, to, count, bytes, &ours.answers).await,
        };
        Lab::expect(&world, end.is_ok(), || format!("the client of workload {number}: {}", end.unwrap_err()));
    });
    Ok(result)
}

fn say(e: Errno) -> String {
    e.to_string()
}

/// Answers every `bytes` with as many, until nobody asks any more.
async fn answer(task: Task, at: SockAddr, bytes: u64) -> Result<(), String> {
    let l = task.listen(at, 16).await.map_err(say)?;
    let (sock, _) = l.accept().await.map_err(say)?;
    let text = vec![b'a'; bytes as usize];
    let mut got = 0;
    loop {
        let segs = sock.recv(1 << 20).await.map_err(say)?;
        if segs.is_empty() {
            break;
        }
        got += segs.len() as u64;
        while got >= bytes {
            got -= bytes;
            sock.send_all(&text).await.map_err(say)?;
        }
    }
    sock.close().await.map_err(say)?;
    l.close().await.map_err(say)
}

async fn ask(task: Task, to: SockAddr, count: u64, bytes: u64, answers: &RefCell<Vec<Nanos>>) -> Result<(), String> {
    let sock = task.connect(to).await.map_err(say)?;
    let text = vec![b'q'; bytes as usize];
    for _ in 0..count {
        let asked = task.now();
        sock.send_all(&text).await.map_err(say)?;
        let mut left = bytes;
        while left > 0 {
            let segs = sock.recv(left as usize).await.map_err(say)?;
            if segs.is_empty() {
                return Err("the answer broke off".to_owned());
            }
            left -= segs.len() as u64;
        }
        answers.borrow_mut().push(task.now() - asked);
    }
    sock.close().await.map_err(say)
}

fn ms(ns: Nanos) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1000 % 1000)
}

fn line(t: &Topology, w: &Workload, r: &Outcome) -> String {
    let name = |n: usize| t.hosts.get(n).map_or("", |h| h.name.as_str());
    let way = format!("{} -> {}:{}", name(w.from), name(w.to), w.port);
    match w.kind {
        Kind::Stream { .. } => {
            let (bytes, took) = (r.bytes.get(), r.ended.get().saturating_sub(r.began.get()));
            let rate = bytes as f64 * 8e3 / took.max(1) as f64;
            format!("{way}  {bytes} bytes, all of them checked, in {}: {rate:.3} Mbit/s", ms(took))
        }
        Kind::Ask { .. } => {
            let mut all = r.answers.borrow().clone();
            all.sort_unstable();
            let at = |n: usize| all.get(n).copied().unwrap_or(0);
            let (middle, last) = (at(all.len() / 2), at(all.len().saturating_sub(1)));
            format!("{way}  {} answers, half of them within {}, the last after {}", all.len(), ms(middle), ms(last))
        }
    }
}

fn links(lab: &Lab, t: &Topology, report: &mut Report) {
    let mut took = 0;
    for (n, l) in t.links.iter().enumerate() {
        let (ab, ba) = lab.link_stats(n);
        took += ab.lost + ba.lost;
        let over = ab.overlimit + ba.overlimit + ab.policed + ba.policed;
        let ends = matches!(l.ends, [End::Device { .. }, End::Device { .. }]);
        if ends && (ab.lost + ba.lost + over) > 0 {
            report.text.push(format!("{}  {} + {} packets lost, {over} over its limits", l.name, ab.lost, ba.lost));
        }
    }
    let sum = |c: Mib| (0..t.hosts.len()).map(|h| lab.counter(h, c)).sum::<u64>() as f64;
    report.figure("segments", sum(Mib::TcpOutSegs), "segments");
    report.figure("retransmissions", sum(Mib::TcpRetransSegs), "segments");
    report.figure("timeouts", sum(Mib::TcpExtTCPTimeouts), "");
    report.figure("link_lost", took as f64, "packets");
}
