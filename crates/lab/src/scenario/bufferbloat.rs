//! `bufferbloat`: a stream fills the queue in front of a slow link, and a small question has to wait behind it. Twice side
//! by side: a router whose queue is a long pfifo, and one that has fq_codel there instead.
use super::device::features;
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::stream::{BLOCK, Checker, Pattern};
use crate::task::{Sock, Task, sleep};
use belljar_abi::socket::MSG_NOSIGNAL;
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::{MSEC, SEC};
use belljar_link::Conditions;
use core::net::Ipv4Addr;
use std::cell::RefCell;
use std::rc::Rc;

pub const KNOWN: &[Known] = &[
    Known { key: "rate", default: "10mbit", about: "what the router's way out carries" },
    Known { key: "delay", default: "10ms", about: "one way" },
    Known { key: "bad", default: "pfifo limit 1000", about: "the discipline of the first router" },
    Known { key: "good", default: "fq_codel", about: "the discipline of the second one" },
    Known { key: "seconds", default: "20", about: "how long the stream is sent" },
    Known { key: "times", default: "5", about: "at least so many times longer are the first router's answers" },
    Known { key: "least", default: "90%", about: "of the rate, what still has to get through the second one" },
    Known { key: "check", default: "1000", about: "steps between checks of all invariants, 0: never" },
];

const STREAM: u16 = 5001;
const ECHO: u16 = 7;
/// Slow start is over when questions are first counted.
const WARM: u64 = 2 * SEC;
const EVERY: u64 = 100 * MSEC;

/// What one of the two networks showed.
#[derive(Clone, Debug, Default)]
struct Seen {
    bytes: u64,
    /// How long each answer took.
    answers: Vec<u64>,
}

type Both = Rc<RefCell<[Seen; 2]>>;

pub fn run(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (rate, delay) = (s.rate("rate")?.ok_or("rate: there must be one")?, s.delay("delay")?);
    let (seconds, times, least) = (s.count("seconds")?, s.count("times")?, s.percent("least")?);
    if !(4..=1000).contains(&seconds) {
        return Err("seconds are 4 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let seen = Both::default();
    let mut routers = Vec::new();
    for (i, name) in ["bad", "good"].into_iter().enumerate() {
        routers.push(network(lab, seed, i, (rate, delay), s.text(name), seconds, &seen)?);
    }
    lab.apply_sysctls(s)?;
    let world = lab.world.clone();
    lab.spawn("time", async move { sleep(&world, seconds * SEC + SEC).await });
    lab.run();
    let [bad, good] = &*seen.borrow();
    let (slow, fast) = (
        tell(lab, s.text("bad"), bad, (routers[0], seconds), report),
        tell(lab, s.text("good"), good, (routers[1], seconds), report),
    );
    report.figure("slow answer", slow.0, "ms");
    report.figure("fast answer", fast.0, "ms");
    report.figure("goodput", fast.1, "bit/s");
    Lab::expect(&lab.world, slow.0 >= times as f64 * fast.0, || {
        format!("answers take {:.1} ms and {:.1} ms: less than {times} times as long", slow.0, fast.0)
    });
    Lab::expect(&lab.world, fast.1 >= least * rate as f64, || format!("{:.0} bit/s get through, too little", fast.1));
    Ok(())
}

pub const BQL: &[Known] = &[
    Known { key: "speed", default: "10", about: "of the card at the router's way out, in Mbit/s" },
    Known { key: "delay", default: "10ms", about: "one way" },
    Known { key: "qdisc", default: "fq_codel", about: "the discipline of both routers" },
    Known { key: "seconds", default: "20", about: "how long the stream is sent" },
    Known { key: "times", default: "5", about: "at least so many times longer are answers without the limits" },
    Known { key: "least", default: "90%", about: "of the speed, what still has to get through with them" },
    Known { key: "check", default: "1000", about: "steps between checks of all invariants, 0: never" },
];

/// Two routers with the same discipline in front of the same slow card: one whose ring takes what it has room for
/// (`limit_min` is as large as can be), one that lets byte queue limits work.
pub fn bql(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (speed, delay, qdisc) = (s.count("speed")?, s.delay("delay")?, s.text("qdisc"));
    let (seconds, times, least) = (s.count("seconds")?, s.count("times")?, s.percent("least")?);
    if !(4..=1000).contains(&seconds) || !(1..=1000).contains(&speed) {
        return Err("seconds are 4 to 1000, speed 1 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let seen = Both::default();
    let mut routers = Vec::new();
    for i in 0..2 {
        let router = path(lab, seed, i, delay, speed as u32)?;
        let mut w = lab.world.borrow_mut();
        let h = w.hosts.get_mut(router.1).ok_or("no such host")?;
        let line = format!("qdisc add dev eth1 root {qdisc}");
        h.kernel.tc_line(h.ns, &line).map_err(|e| format!("{line}: {e}"))?;
        let dev = h.kernel.net.dev_by_name(h.ns, "eth1").ok_or("no card")?;
        if i == 0 {
            h.kernel.set_bql_attr(dev, 0, "limit_min", "max").map_err(|e| e.to_string())?;
        }
        drop(w);
        routers.push((router.1, dev));
        traffic(lab, (router.0, router.2), server_of(i), i, seconds, &seen).ok_or("no process")?;
    }
    let world = lab.world.clone();
    lab.spawn("time", async move { sleep(&world, seconds * SEC + SEC).await });
    lab.run();
    let [without, with] = &*seen.borrow();
    let (slow, fast) = (
        tell(lab, "without limits", without, (routers[0].0, seconds), report),
        tell(lab, "byte queue limits", with, (routers[1].0, seconds), report),
    );
    let limit = {
        let w = lab.world.borrow();
        let limit = w.hosts.get(routers[1].0).and_then(|h| h.kernel.bql_attr(routers[1].1, 0, "limit"));
        limit.and_then(|l| l.parse().ok()).unwrap_or(0.0)
    };
    report.text.push(format!("the limit in the end: {limit} bytes"));
    report.figure("slow answer", slow.0, "ms");
    report.figure("fast answer", fast.0, "ms");
    report.figure("goodput", fast.1, "bit/s");
    report.figure("limit", limit, "bytes");
    Lab::expect(&lab.world, slow.0 >= times as f64 * fast.0, || {
        format!("answers take {:.1} ms and {:.1} ms: less than {times} times as long", slow.0, fast.0)
    });
    let rate = speed as f64 * 1e6;
    Lab::expect(&lab.world, fast.1 >= least * rate, || format!("{:.0} bit/s get through, too little", fast.1));
    Ok(())
}

fn server_of(i: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, i as u8 + 1, 1, 2)
}

/// Client, router, server; the router shapes what it sends to the server. Returns the router.
fn network(
    lab: &mut Lab,
    seed: u64,
    i: usize,
    (rate, delay): (u64, u64),
    discipline: &str,
    seconds: u64,
    seen: &Both,
) -> Result<usize, String> {
    let (client, router, server) = path(lab, seed, i, delay, 0)?;
    {
        let mut w = lab.world.borrow_mut();
        let h = w.hosts.get_mut(router).ok_or("no such host")?;
        for line in [
            "qdisc add dev eth1 root handle 1: htb default 1".to_owned(),
            format!("class add dev eth1 parent 1: classid 1:1 htb rate {rate}bit burst 3000 cburst 3000"),
            format!("qdisc add dev eth1 parent 1:1 handle 10: {discipline}"),
        ] {
            h.kernel.tc_line(h.ns, &line).map_err(|e| format!("{line}: {e}"))?;
        }
    }
    traffic(lab, (client, server), server_of(i), i, seconds, seen).ok_or("no process")?;
    Ok(router)
}

/// The machines and their cables; the cards between router and server may have a speed.
fn path(lab: &mut Lab, seed: u64, i: usize, delay: u64, speed: u32) -> Result<(usize, usize, usize), String> {
    let at = |net: u8, n: u8| Ipv4Addr::new(10, i as u8 + 1, net, n);
    let [client, router, server] = ["client", "router", "server"].map(|n| lab.host(&format!("{n}{i}"), seed));
    let slow = Conditions { delay_ns: delay, ..Conditions::default() };
    // A ring is counted in packets: those of a slow card are of the wire's size.
    let plain = if speed > 0 { Nic { features: features(false, false), ..Nic::default() } } else { Nic::default() };
    lab.wire((client, at(0, 1)), (router, at(0, 2)), 24, plain, Conditions::default(), seed)?;
    lab.wire((router, at(1, 1)), (server, at(1, 2)), 24, Nic { speed, ..plain }, slow, seed)?;
    lab.route(client, at(1, 0).into(), 24, at(0, 2).into())?;
    lab.route(server, at(0, 0).into(), 24, at(1, 1).into())?;
    lab.world.borrow_mut().sysctl(router, "net.ipv4.ip_forward", "1").map_err(|e| e.to_string())?;
    Ok((client, router, server))
}

/// The stream, and questions beside it.
fn traffic(
    lab: &mut Lab,
    (client, server): (usize, usize),
    to: Ipv4Addr,
    i: usize,
    seconds: u64,
    seen: &Both,
) -> Option<()> {
    let (receiver, echo) = (lab.task(server, "receiver")?, lab.task(server, "echo")?);
    let (sender, asker) = (lab.task(client, "sender")?, lab.task(client, "asker")?);
    let got = seen.clone();
    lab.spawn_daemon(format!("receiver{i}"), async move {
        let done = receive(receiver, seconds, i, &got).await;
        // The end of the run takes the stream away.
        let _ = done;
    });
    lab.spawn_daemon(format!("echo{i}"), async move {
        let _ = answer(echo).await;
    });
    lab.spawn_daemon(format!("sender{i}"), async move {
        let _ = send(sender, SockAddr::V4(to, STREAM)).await;
    });
    let got = seen.clone();
    lab.spawn_daemon(format!("asker{i}"), async move {
        let _ = ask(asker, SockAddr::V4(to, ECHO), seconds, i, &got).await;
    });
    Some(())
}

async fn receive(task: Task, seconds: u64, i: usize, seen: &Both) -> Result<(), Errno> {
    let l = task.listen(SockAddr::V4(Ipv4Addr::UNSPECIFIED, STREAM), 8).await?;
    let (sock, _) = l.accept().await?;
    let mut check = Checker::new(0);
    loop {
        let segs = sock.recv(1 << 20).await?;
        if segs.is_empty() {
            return Ok(());
        }
        let right = check.take(&segs);
        Lab::expect(&sock.task.world, right.is_ok(), || format!("receiver {i}: wrong byte at {right:?}"));
        let now = sock.task.now();
        if (WARM..seconds * SEC).contains(&now) {
            seen.borrow_mut()[i].bytes += segs.len() as u64;
        }
    }
}

async fn send(task: Task, to: SockAddr) -> Result<(), Errno> {
    let sock = task.tcp(&to).await?;
    sock.connect(to).await?;
    let (mut pattern, mut pos) = (Pattern::new(0), 0);
    loop {
        match sock.sending(pattern.at(pos, BLOCK), MSG_NOSIGNAL).await? {
            belljar_kernel::task::call::Ret::Int(n) => pos += n.max(0) as u64,
            _ => return Err(Errno::EPROTO),
        }
    }
}

async fn answer(task: Task) -> Result<(), Errno> {
    let here = SockAddr::V4(Ipv4Addr::UNSPECIFIED, ECHO);
    let sock = task.udp(&here).await?;
    sock.bind(here).await?;
    loop {
        let r = Sock::received(sock.receiving(100, 0).await)?;
        if let Some(from) = r.from {
            sock.sending_to(&r.segs.to_vec(), from).await?;
        }
    }
}

/// A question every tenth of a second; what is lost is asked again.
async fn ask(task: Task, to: SockAddr, seconds: u64, i: usize, seen: &Both) -> Result<(), Errno> {
    let sock = task.udp(&to).await?;
    sock.connect(to).await?;
    task.sleep(WARM).await;
    let mut n = 0u32;
    while task.now() < seconds * SEC {
        let began = task.now();
        n += 1;
        sock.sending(&n.to_be_bytes(), 0).await?;
        loop {
            match Sock::received(sock.receiving(100, 0).within(3 * SEC).await) {
                Ok(r) if r.segs.to_vec() != n.to_be_bytes() => continue,
                Ok(_) => seen.borrow_mut()[i].answers.push(task.now() - began),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
            break;
        }
        task.sleep(EVERY).await;
    }
    Ok(())
}

/// Median of the answers in milliseconds, bits a second of the stream.
fn tell(lab: &Lab, name: &str, seen: &Seen, (router, seconds): (usize, u64), report: &mut Report) -> (f64, f64) {
    let mut sorted = seen.answers.clone();
    sorted.sort_unstable();
    let part = |n: usize, of: usize| sorted.get(sorted.len() * n / of).map_or(f64::MAX, |t| *t as f64 / MSEC as f64);
    let goodput = seen.bytes as f64 * 8.0 / (seconds - WARM / SEC) as f64;
    let w = lab.world.borrow();
    let stats = w.hosts.get(router).and_then(|h| {
        let dev = h.kernel.net.dev_by_name(h.ns, "eth1")?;
        Some(h.kernel.net.devs.get(dev)?.qdisc.stats())
    });
    let drops = stats.map_or(0, |s| s.drops);
    report.text.push(format!(
        "{:<20} answers {:.1} ms, nine of ten within {:.1} ms; {:.2} Mbit/s, {drops} packets dropped",
        name,
        part(1, 2),
        part(9, 10),
        goodput / 1e6,
    ));
    (part(1, 2), goodput)
}
