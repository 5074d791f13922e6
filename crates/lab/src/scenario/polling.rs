//! `polling` and `adaptive`: who looks into the ring, and when. Datagrams into receivers that are told by interrupts, that put
//! them off, that poll by a thread, or whose reader looks itself.
use super::device::{Seen, Setup, Traffic, expect, line};
use super::rings::{CHECK, side_by_side};
use crate::lab::Lab;
use crate::report::Report;
use crate::settings::{Known, Settings};
use belljar_kernel::env::{MSEC, Nanos};

pub const POLLING: &[Known] = &[
    Known { key: "rate", default: "100000", about: "datagrams a second" },
    Known { key: "timeout", default: "20000", about: "gro_flush_timeout, in nanoseconds" },
    Known { key: "milliseconds", default: "50", about: "how long they come" },
    CHECK,
];

fn us(ns: Nanos) -> String {
    format!("{:.1} us", ns as f64 / 1e3)
}

pub fn polling(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (rate, timeout, ms) = (s.count("rate")?, s.count("timeout")?, s.count("milliseconds")?);
    if !(1000..=200_000).contains(&rate) || !(1000..=1_000_000).contains(&timeout) || !(5..=1000).contains(&ms) {
        return Err("rate is 1000 to 200000 a second, timeout 1000 to 1000000, milliseconds 5 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let plain = Setup { cpus: 2, read: true, ..Setup::PLAIN };
    let defer = (timeout as u32, 2);
    // Longer than two polls by the timer without a reader; looks are longer than the pauses between datagrams.
    let rarely = (timeout as u32 * 10, 2);
    let setups = [
        Setup { name: "interrupts", ..plain.clone() },
        Setup { name: "deferred", defer, ..plain.clone() },
        Setup { name: "threaded", threaded: true, ..plain.clone() },
        Setup { name: "busy polling", busy: (1000, false), ..plain.clone() },
        Setup { name: "preferred", busy: (1000, true), defer: rarely, ..plain },
    ];
    let t = Traffic { flows: 8, burst: 1, gap: 0, every: 1_000_000_000 / rate, until: ms * MSEC };
    let got = side_by_side(lab, seed, 0, &setups, t)?;
    line(
        report,
        format!(
            "{:<14} {:>12} {:>14} {:>14} {:>24}",
            "", "interrupts", "median wait", "by the reader", "irq, softirq, thread, task"
        ),
    );
    let part = |ns: Nanos| format!("{:.0}%", 100.0 * ns as f64 / (ms * MSEC) as f64);
    for (setup, g) in setups.iter().zip(&got) {
        let p = &g.spent;
        let spent = [p.hard_irq, p.softirq + p.ksoftirqd, p.napi, p.tasks].map(part).join(" ");
        line(
            report,
            format!("{:<14} {:>12} {:>14} {:>14} {spent:>24}", setup.name, g.interrupts, us(g.median), g.polled),
        );
    }
    for (n, (interrupts, wait)) in [
        ("interrupts plain", "wait plain"),
        ("interrupts deferred", "wait deferred"),
        ("interrupts threaded", "wait threaded"),
        ("interrupts busy", "wait busy"),
        ("interrupts preferred", "wait preferred"),
    ]
    .into_iter()
    .enumerate()
    {
        report.figure(interrupts, got[n].interrupts as f64, "");
        report.figure(wait, got[n].median as f64, "ns");
    }
    let [plain, deferred, threaded, busy, preferred] = [0, 1, 2, 3, 4].map(|n| &got[n]);
    expect(lab, deferred.interrupts < plain.interrupts / 10, || {
        format!("deferral left {} interrupts", deferred.interrupts)
    });
    expect(lab, deferred.median > plain.median && deferred.median < timeout + plain.median, || {
        format!("deferred datagrams wait {}", us(deferred.median))
    });
    expect(lab, threaded.spent.napi > 0 && threaded.spent.softirq < plain.spent.softirq / 10, || {
        "a thread did not take the softirq's work".into()
    });
    expect(lab, busy.median < plain.median && busy.polled > busy.received / 2, || {
        format!("busy polling takes {}, interrupts {}", us(busy.median), us(plain.median))
    });
    // It has its price: the CPU of the reader does nothing else.
    expect(lab, busy.spent.tasks > plain.spent.tasks * 2, || "busy polling took no time".into());
    expect(lab, preferred.interrupts < plain.interrupts / 10 && preferred.median < plain.median, || {
        format!("preferred busy polling: {} interrupts, {}", preferred.interrupts, us(preferred.median))
    });
    Ok(())
}

pub const ADAPTIVE: &[Known] = &[
    Known { key: "few", default: "5000", about: "datagrams a second of the light load" },
    Known { key: "many", default: "400000", about: "and of the heavy one" },
    Known { key: "long", default: "256", about: "rx-usecs of the receiver that always waits" },
    Known { key: "milliseconds", default: "200", about: "how long they come" },
    CHECK,
];

pub fn adaptive(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (few, many, long, ms) = (s.count("few")?, s.count("many")?, s.count("long")?, s.count("milliseconds")?);
    if !(1000..=20_000).contains(&few) || !(50_000..=500_000).contains(&many) || !(50..=1000).contains(&long) {
        return Err("few is 1000 to 20000 a second, many 50000 to 500000, long 50 to 1000".into());
    }
    if !(50..=1000).contains(&ms) {
        return Err("milliseconds are 50 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let plain = Setup { cpus: 2, read: true, ..Setup::PLAIN };
    let setups = [
        Setup { name: "rx-usecs 0", ..plain.clone() },
        Setup { name: "rx-usecs long", rx_usecs: long as u32, ..plain.clone() },
        Setup { name: "adaptive-rx", adaptive: true, ..plain },
    ];
    let mut all: Vec<Vec<Seen>> = Vec::new();
    for (n, rate) in [few, many].into_iter().enumerate() {
        let from = lab.now();
        let t = Traffic { flows: 8, burst: 1, gap: 0, every: 1_000_000_000 / rate, until: from + ms * MSEC };
        all.push(side_by_side(lab, seed, n * setups.len(), &setups, t)?);
    }
    line(report, format!("{:<16} {:>24} {:>30}", "", "light load: median wait", "heavy load: interrupts a ms"));
    let a_ms = |g: &Seen| g.interrupts as f64 / ms as f64;
    for (n, setup) in setups.iter().enumerate() {
        line(report, format!("{:<16} {:>24} {:>30.1}", setup.name, us(all[0][n].median), a_ms(&all[1][n])));
    }
    for (n, (wait, interrupts)) in
        [("wait none", "interrupts none"), ("wait long", "interrupts long"), ("wait adaptive", "interrupts adaptive")]
            .into_iter()
            .enumerate()
    {
        report.figure(wait, all[0][n].median as f64, "ns");
        report.figure(interrupts, a_ms(&all[1][n]), "a ms");
    }
    expect(lab, all[0][2].median < all[0][1].median / 2, || {
        format!("adaptive, few datagrams wait {}, and {} with {long} us", us(all[0][2].median), us(all[0][1].median))
    });
    expect(lab, a_ms(&all[1][2]) < a_ms(&all[1][0]) / 4.0, || {
        format!("adaptive, many datagrams make {:.1} interrupts a ms", a_ms(&all[1][2]))
    });
    Ok(())
}
