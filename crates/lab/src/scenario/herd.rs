//! `herd`: several workers wait for connections to one port; how many does one connection wake, and for nothing? Every way
//! in which servers share a port, on machines that are alike, with the same clients.
use super::device::{expect, line};
use super::rings::CHECK;
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::task::{Sock, Task, sleep};
use belljar_abi::poll::{EPOLL_CTL_ADD, EPOLLET, EPOLLEXCLUSIVE, EPOLLIN};
use belljar_abi::socket::{SO_REUSEPORT, SOCK_NONBLOCK, SOL_SOCKET};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::{MSEC, Nanos};
use belljar_kernel::net::core::cpu_time::Costs;
use belljar_kernel::task::call::{Call, EpollEvent, Fd, Ret};
use belljar_link::Conditions;
use core::net::Ipv4Addr;
use std::cell::RefCell;
use std::rc::Rc;

pub const HERD: &[Known] = &[
    Known { key: "workers", default: "4", about: "processes that wait, each on a CPU of its own" },
    Known { key: "connections", default: "200", about: "made one after another" },
    Known { key: "rate", default: "2000", about: "of them a second" },
    Known { key: "work", default: "50us", about: "CPU time that each takes its worker" },
    CHECK,
];

const PORT: u16 = 80;
const BACKLOG: i32 = 511;
const F_SETFL: i32 = 4;
/// Everybody sleeps by then.
const START: Nanos = 10 * MSEC;

/// Wake-ups of each way, as figures.
const FIGURES: [&str; 8] = [
    "woken accept",
    "woken poll",
    "woken epoll",
    "woken epoll et",
    "woken epoll exclusive",
    "woken one epoll",
    "woken one epoll et",
    "woken reuseport",
];

/// How workers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Accept,
    Poll,
    /// An instance of epoll each, with these bits beside EPOLLIN.
    Own(u32),
    /// One that all wait at.
    Shared(u32),
    /// A listener each.
    ReusePort,
}

const WAYS: &[(&str, Way)] = &[
    ("accept()", Way::Accept),
    ("poll()", Way::Poll),
    ("epoll each", Way::Own(0)),
    ("epoll each, EPOLLET", Way::Own(EPOLLET)),
    ("epoll each, EPOLLEXCLUSIVE", Way::Own(EPOLLEXCLUSIVE)),
    ("one epoll", Way::Shared(0)),
    ("one epoll, EPOLLET", Way::Shared(EPOLLET)),
    ("SO_REUSEPORT", Way::ReusePort),
];

/// What the workers of a machine counted, and what they share.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// The listener, and the instance of epoll where there is one for all.
    shared: Option<(Fd, Option<Fd>)>,
    /// Waits that came back.
    woken: u64,
    /// Of these, those that found the connection taken.
    vain: u64,
    /// Connections of each worker.
    taken: Vec<u64>,
}

type Shared = Rc<RefCell<Tally>>;

#[derive(Clone, Copy, Debug)]
struct Load {
    workers: usize,
    connections: u64,
    every: Nanos,
    work: Nanos,
}

/// What a way came to, for one connection.
struct Came {
    woken: f64,
    vain: f64,
    /// CPU time of the workers beside their work.
    cost: Nanos,
    /// The share of who took most.
    most: f64,
}

pub fn herd(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let load = Load {
        workers: s.count_in("workers", 2..=16)? as usize,
        connections: s.count_in("connections", 20..=10_000)?,
        every: 1_000_000_000 / s.count_in("rate", 100..=20_000)?,
        work: s.delay("work")?,
    };
    if load.work > MSEC {
        return Err("work is at most 1ms".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let mut all: Vec<(usize, Shared)> = Vec::new();
    for (n, (_, way)) in WAYS.iter().enumerate() {
        all.push(machine(lab, seed, n, *way, load)?);
    }
    lab.run();
    let came: Vec<Came> = all.iter().map(|(host, tally)| came(lab, *host, &tally.borrow(), load)).collect();
    tell(report, &came);
    judge(lab, load, &came);
    Ok(())
}

/// A server with its workers, and its clients.
fn machine(lab: &mut Lab, seed: u64, n: usize, way: Way, load: Load) -> Result<(usize, Shared), String> {
    let at = move |host: u8| Ipv4Addr::new(10, 78, n as u8, host);
    let (far, host) = (lab.host(&format!("clients{n}"), seed), lab.host(&format!("server{n}"), seed));
    // Interrupts and softirqs have the first CPU for themselves.
    lab.cpus(host, load.workers as u32 + 1, Costs::default());
    lab.wire((far, at(1)), (host, at(2)), 24, Nic::default(), Conditions::default(), seed)?;
    let tally: Shared = Rc::new(RefCell::new(Tally { taken: vec![0; load.workers], ..Tally::default() }));
    let to = SockAddr::V4(at(2), PORT);
    let (master, t) = (lab.task(host, "master").ok_or("no process")?, tally.clone());
    let workers: Option<Vec<Task>> = (1..=load.workers).map(|cpu| master.thread().map(|t| t.on_cpu(cpu))).collect();
    lab.spawn_daemon(format!("master{n}"), async move {
        let shared = open(&master, to, way).await.ok();
        t.borrow_mut().shared = shared;
    });
    for (w, task) in workers.ok_or("no thread")?.into_iter().enumerate() {
        let t = tally.clone();
        lab.spawn_daemon(format!("worker{n}.{w}"), async move {
            // One after another, as they would be forked.
            task.sleep(MSEC * (w as Nanos + 1) / 4).await;
            let _ = work(task, to, way, w, load.work, t).await;
        });
    }
    let (client, world) = (lab.task(far, "client").ok_or("no process")?, lab.world.clone());
    lab.spawn(format!("clients{n}"), async move {
        sleep(&world, START).await;
        for k in 1..=load.connections {
            let done = ask(&client, to).await;
            Lab::expect(&world, done.is_ok(), || format!("a client of {}: {done:?}", WAYS[n].0));
            sleep(&world, (START + k * load.every).saturating_sub(client.now())).await;
        }
    });
    Ok((host, tally))
}

async fn ask(client: &Task, to: SockAddr) -> Result<(), Errno> {
    let s = client.connect(to).await?;
    while !s.recv(16).await?.is_empty() {}
    s.close().await
}

async fn open(master: &Task, to: SockAddr, way: Way) -> Result<(Fd, Option<Fd>), Errno> {
    let l = listener(master, to, way).await?;
    match way {
        Way::Shared(bits) => Ok((l.fd, Some(watch(master, l.fd, bits).await?))),
        _ => Ok((l.fd, None)),
    }
}

async fn listener(task: &Task, to: SockAddr, way: Way) -> Result<Sock, Errno> {
    let l = task.tcp(&to).await?;
    l.set_int(SOL_SOCKET, SO_REUSEPORT, 1).await?;
    l.bind(to).await?;
    // Of a group only the workers' listeners listen.
    if way != Way::ReusePort {
        task.call(Call::Listen { fd: l.fd, backlog: BACKLOG }).await?;
    }
    if !matches!(way, Way::Accept | Way::ReusePort) {
        task.call(Call::Fcntl { fd: l.fd, cmd: F_SETFL, arg: SOCK_NONBLOCK.into() }).await?;
    }
    Ok(l)
}

/// An instance of epoll with one listener in it.
async fn watch(task: &Task, listener: Fd, bits: u32) -> Result<Fd, Errno> {
    let Ret::Fd(epfd) = task.call(Call::EpollCreate { flags: 0 }).await? else { return Err(Errno::EPROTO) };
    let event = Some(EpollEvent { events: EPOLLIN | bits, data: 0 });
    task.call(Call::EpollCtl { epfd, op: EPOLL_CTL_ADD, fd: listener, event }).await?;
    Ok(epfd)
}

async fn work(task: Task, to: SockAddr, way: Way, n: usize, work: Nanos, tally: Shared) -> Result<(), Errno> {
    let (fd, one) = tally.borrow().shared.ok_or(Errno::ESRCH)?;
    let (mut l, mut epfd) = (Sock { task: task.clone(), fd }, one);
    match way {
        Way::ReusePort => {
            l = listener(&task, to, way).await?;
            task.call(Call::Listen { fd: l.fd, backlog: BACKLOG }).await?;
        }
        Way::Own(bits) => epfd = Some(watch(&task, fd, bits).await?),
        _ => {}
    }
    loop {
        match epfd {
            Some(epfd) => drop(task.call(Call::EpollWait { epfd, max: 16, timeout: None }).await?),
            None if way == Way::Poll => drop(l.readable(None).await?),
            None => {}
        }
        if epfd.is_some() || way == Way::Poll {
            tally.borrow_mut().woken += 1;
            // Its CPU has to get to it first.
            task.work(0).await;
        }
        match l.accept().await {
            Ok((s, _)) => {
                tally.borrow_mut().taken[n] += 1;
                task.work(work).await;
                s.send_all(b"hello").await?;
                s.close().await?;
            }
            Err(Errno::EAGAIN) => tally.borrow_mut().vain += 1,
            Err(e) => return Err(e),
        }
    }
}

fn came(lab: &Lab, host: usize, t: &Tally, load: Load) -> Came {
    let each = |n: u64| n as f64 / load.connections as f64;
    let taken: u64 = t.taken.iter().sum();
    let spent =
        |cpu| lab.world.borrow().hosts.get(host).and_then(|h| h.kernel.cpu_spent(cpu)).unwrap_or_default().tasks;
    let spent: Nanos = (1..=load.workers).map(spent).sum();
    Came {
        // Who sleeps in accept() comes back with a connection, or not at all.
        woken: each(if t.woken == 0 { taken } else { t.woken }),
        vain: each(t.vain),
        cost: spent.saturating_sub(taken * load.work) / load.connections,
        most: t.taken.iter().max().map_or(0.0, |m| *m as f64 / taken.max(1) as f64),
    }
}

fn tell(report: &mut Report, came: &[Came]) {
    line(
        report,
        format!(
            "{:<28} {:>8} {:>12} {:>16} {:>14}",
            "for one connection", "woken", "for nothing", "CPU beside work", "most by one"
        ),
    );
    for ((name, _), c) in WAYS.iter().zip(came) {
        let (cost, most) = (format!("{:.1} us", c.cost as f64 / 1e3), format!("{:.0}%", 100.0 * c.most));
        line(report, format!("{name:<28} {:>8.2} {:>12.2} {cost:>16} {most:>14}", c.woken, c.vain));
    }
    for (name, c) in FIGURES.iter().zip(came) {
        report.figure(name, c.woken, "");
    }
}

/// What is known of Linux: who wakes all, and who one (docs/devices.md).
fn judge(lab: &Lab, load: Load, came: &[Came]) {
    let all = load.workers as f64;
    for ((name, way), c) in WAYS.iter().zip(came) {
        let herd = matches!(way, Way::Poll | Way::Own(0 | EPOLLET) | Way::Shared(0));
        match herd {
            true => expect(lab, c.woken > all * 0.9 && c.vain > all * 0.9 - 1.0, || {
                format!("{name}: one connection woke {:.2} of {all}", c.woken)
            }),
            false => expect(lab, c.woken < 1.1 && c.vain < 0.1, || {
                format!("{name}: one connection woke {:.2}, {:.2} for nothing", c.woken, c.vain)
            }),
        }
    }
    let [exclusive, own] = [4, 2].map(|n| came.get(n).map_or(0, |c| c.cost));
    expect(lab, own > exclusive, || format!("a herd costs {own} ns, one that wakes {exclusive} ns"));
}
