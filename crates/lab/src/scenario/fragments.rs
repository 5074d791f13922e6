//! `fragments`: a fragment that is lost loses its datagram, and what came of it lies in memory until its time is over.
use super::device::{expect, line};
use super::rings::CHECK;
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use crate::task::{Sock, Task};
use belljar_abi::socket::{SO_RCVBUF, SOL_SOCKET};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::{MSEC, Nanos, SEC};
use belljar_kernel::net::mib::Mib;
use belljar_link::Conditions;
use core::net::Ipv4Addr;
use std::cell::Cell;
use std::rc::Rc;

pub const FRAGMENTS: &[Known] = &[
    Known { key: "loss", default: "2%", about: "packets that the link loses" },
    Known { key: "count", default: "1000", about: "datagrams of each size" },
    CHECK,
];

const PORT: u16 = 9;
/// What a frame of 1500 bytes carries of a datagram that is cut.
const PIECE: usize = 1480;

/// Datagrams of one size.
#[derive(Clone, Copy, Debug)]
struct Setup {
    name: &'static str,
    figure: &'static str,
    payload: usize,
    every: Nanos,
    /// `net.ipv4.ipfrag_time` of the receiver, in seconds.
    time: u32,
}

impl Setup {
    /// Packets that a datagram makes, its header of 8 bytes counted.
    fn pieces(&self) -> usize {
        (self.payload + 8).div_ceil(PIECE)
    }
}

const SETUPS: [Setup; 6] = [
    Setup { name: "1400 bytes", figure: "whole 1400", payload: 1400, every: SEC, time: 30 },
    Setup { name: "2800 bytes", figure: "whole 2800", payload: 2800, every: SEC, time: 30 },
    Setup { name: "11800 bytes", figure: "whole 11800", payload: 11_800, every: SEC, time: 30 },
    Setup { name: "60000 bytes", figure: "whole 60000", payload: 60_000, every: SEC, time: 30 },
    Setup { name: "60000 bytes, 50 a second", figure: "whole often", payload: 60_000, every: 20 * MSEC, time: 30 },
    Setup { name: "so, and ipfrag_time 1", figure: "whole soon", payload: 60_000, every: 20 * MSEC, time: 1 },
];

/// What came of a setup's datagrams.
struct Came {
    whole: f64,
    /// Of how many came a part only.
    failed: u64,
    timed_out: u64,
    /// Share that arrives when every packet has the same luck.
    luck: f64,
}

pub fn fragments(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (loss, count) = (s.percent("loss")?, s.count_in("count", 100..=100_000)?);
    if !(0.001..=0.1).contains(&loss) {
        return Err("loss is 0.1% to 10%".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let mut all = Vec::new();
    for (n, setup) in SETUPS.iter().enumerate() {
        all.push(pair(lab, seed, n, setup, loss, count)?);
    }
    lab.run();
    // The last ones' time is over, too.
    let until = lab.now() + 31 * SEC;
    lab.run_until(until);
    let came: Vec<Came> = SETUPS
        .iter()
        .zip(&all)
        .map(|(s, (host, whole))| Came {
            whole: whole.get() as f64 / count as f64,
            failed: lab.counter(*host, Mib::IpReasmFails),
            timed_out: lab.counter(*host, Mib::IpReasmTimeout),
            luck: (1.0 - loss).powi(s.pieces() as i32),
        })
        .collect();
    tell(report, &came);
    judge(lab, count, &came);
    Ok(())
}

/// A sender, its receiver, and how many of its datagrams arrived whole.
fn pair(
    lab: &mut Lab,
    seed: u64,
    n: usize,
    s: &Setup,
    loss: f64,
    count: u64,
) -> Result<(usize, Rc<Cell<u64>>), String> {
    let at = move |host: u8| Ipv4Addr::new(10, 79, n as u8, host);
    let (from, to) = (lab.host(&format!("sender{n}"), seed), lab.host(&format!("receiver{n}"), seed));
    let link = Conditions { loss, limit: 10_000, ..Conditions::default() };
    lab.wire((from, at(1)), (to, at(2)), 24, Nic::default(), link, seed.wrapping_add(n as u64))?;
    if let Some(h) = lab.world.borrow_mut().hosts.get_mut(to) {
        h.kernel.sysctl_set(h.ns, "net.ipv4.ipfrag_time", &s.time.to_string()).map_err(|e| e.to_string())?;
    }
    let whole = Rc::new(Cell::new(0));
    let (sender, reader) = (lab.task(from, "sender").ok_or("no process")?, lab.task(to, "reader").ok_or("no process")?);
    let (got, payload, every) = (whole.clone(), s.payload, s.every);
    lab.spawn_daemon(format!("reader{n}"), async move {
        let _ = read(reader, payload, &got).await;
    });
    let (world, dst) = (lab.world.clone(), SockAddr::V4(at(2), PORT));
    lab.spawn(format!("sender{n}"), async move {
        let done = send(&sender, dst, payload, every, count).await;
        Lab::expect(&world, done.is_ok(), || format!("a sender ended with {}", done.unwrap_err()));
    });
    Ok((to, whole))
}

fn byte(n: u64, at: usize) -> u8 {
    (n as u8).wrapping_mul(31).wrapping_add(at as u8)
}

async fn send(task: &Task, to: SockAddr, payload: usize, every: Nanos, count: u64) -> Result<(), Errno> {
    let s = task.udp(&to).await?;
    for n in 0..count {
        let bytes: Vec<u8> = n.to_be_bytes().into_iter().chain((8..payload).map(|at| byte(n, at))).collect();
        match s.sending_to(&bytes, to).await {
            // A neighbour that an ARP request was lost for.
            Ok(_) | Err(Errno::EHOSTUNREACH) => {}
            Err(e) => return Err(e),
        }
        task.sleep(every).await;
    }
    Ok(())
}

async fn read(task: Task, payload: usize, whole: &Cell<u64>) -> Result<(), Errno> {
    let here = SockAddr::V4(Ipv4Addr::UNSPECIFIED, PORT);
    let s = task.udp(&here).await?;
    s.set_int(SOL_SOCKET, SO_RCVBUF, 1 << 20).await?;
    s.bind(here).await?;
    loop {
        let got = Sock::received(s.receiving(1 << 16, 0).await)?.segs.to_vec();
        let n = got.first_chunk::<8>().map_or(0, |n| u64::from_be_bytes(*n));
        let intact = got.len() == payload && got.iter().enumerate().skip(8).all(|(at, b)| *b == byte(n, at));
        Lab::expect(&task.world, intact, || format!("datagram {n} arrived with other bytes"));
        whole.set(whole.get() + 1);
    }
}

fn tell(report: &mut Report, came: &[Came]) {
    let percent = |f: f64| format!("{:.1}%", 100.0 * f);
    line(
        report,
        format!(
            "{:<28} {:>8} {:>14} {:>10} {:>12} {:>10}",
            "", "packets", "all arrive", "whole", "ReasmFails", "timed out"
        ),
    );
    for (s, c) in SETUPS.iter().zip(came) {
        line(
            report,
            format!(
                "{:<28} {:>8} {:>14} {:>10} {:>12} {:>10}",
                s.name,
                s.pieces(),
                percent(c.luck),
                percent(c.whole),
                c.failed,
                c.timed_out
            ),
        );
        report.figure(s.figure, c.whole, "");
    }
}

fn judge(lab: &Lab, count: u64, came: &[Came]) {
    for (s, c) in SETUPS.iter().zip(came) {
        // Four standard deviations of so many throws, and the first ones, which may wait for ARP in vain.
        let room = 4.0 * (c.luck * (1.0 - c.luck) / count as f64).sqrt() + 5.0 / count as f64;
        // Parts that lie there at once; some 44 fill the 4 MB of ipfrag_high_thresh.
        let parts = (1.0 - c.luck) * (SEC / s.every) as f64 * f64::from(s.time);
        if parts < 44.0 {
            expect(lab, (c.whole - c.luck).abs() < room, || {
                format!("{}: {:.3} arrive whole, {:.3} should", s.name, c.whole, c.luck)
            });
        } else if parts > 200.0 && c.luck > 0.1 {
            expect(lab, c.whole < c.luck - room, || {
                format!("{}: {:.3} arrive whole, though memory should be full of parts", s.name, c.whole)
            });
        }
        expect(lab, s.pieces() > 1 || c.failed == 0, || format!("{} datagrams in one piece failed", c.failed));
    }
}
