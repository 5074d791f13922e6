//! `random`: a small network drawn from the seed (a tree of two to four hosts that forward for each other, bad links,
//! odd settings), workloads that connect, talk, close and break off in all ways, faults while they do. After every step
//! `Kernel::check()`; at the end everything is closed, time passes, and nothing may be left.
use super::odd;
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::settings::{Known, Settings};
use belljar_abi::SockAddr;
use belljar_kernel::env::{MSEC, SEC};
use belljar_link::{Conditions, Rng};
use core::net::Ipv4Addr;
use std::cell::RefCell;
use std::rc::Rc;

pub const KNOWN: &[Known] = &[
    Known { key: "hosts", default: "0", about: "hosts, 2 to 4; 0: by the seed" },
    Known { key: "flows", default: "0", about: "clients, 1 to 100; 0: by the seed" },
    Known { key: "faults", default: "1", about: "0: clean links and default settings" },
    Known { key: "bytes", default: "200000", about: "most bytes of one connection, each way" },
    Known { key: "check", default: "1", about: "steps between checks of all invariants" },
];

/// Where clients may connect to.
pub(super) type Addrs = Rc<Vec<(usize, Ipv4Addr)>>;
pub(super) const TCP_PORT: u16 = 7000;
pub(super) const UDP_PORT: u16 = 7001;
/// The longest that workloads may go on; one operation gives up long before.
const WORK: u64 = 4 * 3600 * SEC;
/// After the end everything has to be gone within this time.
const AFTER: u64 = 3600 * SEC;

/// What happened, for the report and for expectations at the end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub complete: u64,
    pub broken: u64,
    pub refused: u64,
    pub datagrams: u64,
    pub bytes: u64,
}

pub(super) type Tallies = Rc<RefCell<Tally>>;

pub fn run(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let faults = s.count("faults")? != 0;
    let hosts = match s.count("hosts")? {
        0 => 2 + rng.below(3) as usize,
        n => n.clamp(2, 4) as usize,
    };
    let flows = match s.count("flows")? {
        0 => 1 + rng.below(6),
        n => n.min(100),
    };
    {
        let mut w = lab.world.borrow_mut();
        w.limits.check_every = s.count("check")?;
        w.limits.steps = 5_000_000;
        w.limits.until = WORK + AFTER + SEC;
    }
    let addrs = topology(lab, &mut rng, hosts, faults, seed)?;
    if faults {
        odd::settings(lab, &mut rng, hosts);
    }
    lab.apply_sysctls(s)?;
    let tallies = Tallies::default();
    let max = s.count("bytes")?.clamp(1, 1 << 30);
    for host in 0..hosts {
        super::workload::servers(lab, host, &mut rng, faults, tallies.clone())?;
    }
    for flow in 0..flows {
        let client = super::workload::Client::draw(&mut rng, flow, &addrs, max, faults, tallies.clone());
        client.spawn(lab)?;
    }
    if faults {
        super::mischief::links(lab, rng.next_u64());
        if rng.chance(0.3) {
            super::mischief::intruder(lab, rng.next_u64());
        }
    }
    lab.run();
    settle(lab);
    let (w, t) = (lab.world.borrow(), tallies.borrow());
    report.text.push(format!("{hosts} hosts, {flows} clients, {} steps, {} bytes moved", w.steps, w.moved));
    report.text.push(format!(
        "connections: {} complete, {} broken off, {} refused or timed out; {} datagrams came back",
        t.complete, t.broken, t.refused, t.datagrams
    ));
    report.figure("complete", t.complete as f64, "connections");
    report.figure("broken", t.broken as f64, "connections");
    report.figure("refused", t.refused as f64, "connections");
    report.figure("datagrams", t.datagrams as f64, "");
    report.figure("bytes", t.bytes as f64, "B");
    Ok(())
}

fn topology(lab: &mut Lab, rng: &mut Rng, hosts: usize, faults: bool, seed: u64) -> Result<Addrs, String> {
    let mut addrs: Vec<(usize, Ipv4Addr)> = Vec::new();
    // Of each subnet: parent, child. Subnet i hangs child i under a host before it.
    let mut parents = vec![0];
    (0..hosts).for_each(|h| _ = lab.host(&format!("h{h}"), seed ^ (h as u64) << 32));
    for child in 1..hosts {
        let parent = rng.below(child as u64) as usize;
        parents.push(parent);
        let (up, down) = (Ipv4Addr::new(10, 0, child as u8, 1), Ipv4Addr::new(10, 0, child as u8, 2));
        let nic = if faults { odd::nic(rng) } else { Nic::default() };
        let link = if faults {
            odd::link(rng, child == 1)
        } else {
            Conditions { delay_ns: rng.below(40) * MSEC, ..Default::default() }
        };
        lab.wire((parent, up), (child, down), 24, nic, link, rng.next_u64())?;
        addrs.extend([(parent, up), (child, down)]);
    }
    // Every host reaches every subnet: down the child whose subtree has it, else up.
    for host in 0..hosts {
        lab.world.borrow_mut().sysctl(host, "net.ipv4.ip_forward", "1").map_err(|e| e.to_string())?;
        for subnet in 1..hosts {
            if subnet == host || parents[subnet] == host {
                continue;
            }
            // The ancestor of the subnet that is a child of this host, if it lies below.
            let mut at = subnet;
            while at != 0 && parents[at] != host {
                at = parents[at];
            }
            let via = if at != 0 { Ipv4Addr::new(10, 0, at as u8, 2) } else { Ipv4Addr::new(10, 0, host as u8, 1) };
            lab.route(host, Ipv4Addr::new(10, 0, subnet as u8, 0), 24, via)?;
        }
    }
    addrs.extend((0..hosts).map(|h| (h, Ipv4Addr::LOCALHOST)));
    Ok(Rc::new(addrs))
}

/// The end: programs exit, links heal, time passes, and nothing may be left.
fn settle(lab: &mut Lab) {
    lab.stop_jobs();
    if lab.failed() {
        return;
    }
    lab.exit_all();
    let cables = lab.world.borrow().cables.len();
    (0..cables).for_each(|c| lab.world.borrow_mut().set_conditions(c, Conditions::default()));
    let until = lab.now() + AFTER;
    lab.run_until(until);
    if !lab.failed() {
        let left = lab.leftovers();
        Lab::expect(&lab.world, left.is_empty(), || format!("left behind an hour after the end: {left}"));
    }
}

pub(super) fn addr(ip: Ipv4Addr, port: u16) -> SockAddr {
    SockAddr::V4(ip, port)
}
