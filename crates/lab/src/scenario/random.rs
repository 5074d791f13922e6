//! `random`: a small network drawn from the seed (two to four hosts that forward IPv4, IPv6 or both for each other, bad
//! links, odd settings), workloads that connect, talk, close and break off in all ways, faults while they do. After every step
//! `Kernel::check()`; at the end everything is closed, time passes, and nothing may be left.
use super::odd;
use super::topology::{self, Family};
use crate::lab::Lab;
use crate::report::Report;
use crate::settings::{Known, Settings};
use belljar_kernel::env::SEC;
use belljar_link::{Conditions, Rng};
use std::cell::RefCell;
use std::rc::Rc;

pub const KNOWN: &[Known] = &[
    Known { key: "hosts", default: "0", about: "hosts, 2 to 4; 0: by the seed" },
    Known { key: "flows", default: "0", about: "clients, 1 to 100; 0: by the seed" },
    Known { key: "family", default: "mixed", about: "4, 6, or mixed: the versions of IP" },
    Known { key: "faults", default: "1", about: "0: clean links and default settings" },
    Known { key: "bytes", default: "200000", about: "most bytes of one connection, each way" },
    Known { key: "check", default: "1", about: "steps between checks of all invariants" },
];

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
        _ => s.count_in("hosts", 2..=4)? as usize,
    };
    let flows = match s.count_in("flows", 0..=100)? {
        0 => 1 + rng.below(6),
        n => n,
    };
    {
        let mut w = lab.world.borrow_mut();
        w.limits.check_every = s.count("check")?;
        w.limits.steps = 5_000_000;
        w.limits.until = WORK + AFTER + SEC;
    }
    let family = Family::of(s)?;
    let plan = topology::build(lab, &mut rng, hosts, faults, family, seed)?;
    if faults {
        odd::settings(lab, &mut rng, hosts);
    }
    lab.apply_sysctls(s)?;
    let tallies = Tallies::default();
    let max = s.count_in("bytes", 1..=1 << 30)?;
    for host in 0..hosts {
        super::workload::servers(lab, host, &mut rng, faults, tallies.clone())?;
    }
    for flow in 0..flows {
        let client = super::workload::Client::draw(&mut rng, flow, &plan, max, faults, tallies.clone());
        client.spawn(lab)?;
    }
    if faults {
        super::mischief::links(lab, rng.next_u64());
        if rng.chance(0.5) {
            super::admin::begin(lab, plan.clone(), rng.next_u64());
        }
        if family != Family::V4 && rng.chance(0.3) {
            super::admin::advertiser(lab, &plan, rng.next_u64())?;
        }
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
