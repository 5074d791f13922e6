//! `ring-overflow`, `coalescing` and `budget`: datagrams into a card whose CPUs take time, side by side with cures.
use super::device::{Seen, Setup, Traffic, expect, line, machine, seen};
use crate::lab::Lab;
use crate::report::Report;
use crate::settings::{Known, Settings};
use belljar_kernel::env::{MSEC, Nanos};

pub const CHECK: Known =
    Known { key: "check", default: "5000", about: "steps between checks of all invariants, 0: never" };

pub const OVERFLOW: &[Known] = &[
    Known { key: "burst", default: "1000", about: "datagrams that come together, 67 ns apart, every 5 ms" },
    Known { key: "steady", default: "1500000", about: "datagrams a second without pause, in the second half" },
    Known { key: "milliseconds", default: "40", about: "how long they come" },
    CHECK,
];

/// Runs receivers with the same traffic, one after another in the report, at once in time.
pub fn side_by_side(lab: &mut Lab, seed: u64, first: usize, setups: &[Setup], t: Traffic) -> Result<Vec<Seen>, String> {
    let mut all = Vec::new();
    for (n, s) in setups.iter().enumerate() {
        all.push(machine(lab, seed, first + n, s, t)?);
    }
    lab.run();
    let until = lab.now() + 20 * MSEC;
    lab.run_until(until);
    Ok(all.iter().map(|m| seen(lab, m)).collect())
}

fn percent(f: f64) -> String {
    format!("{:.1}%", f * 100.0)
}

pub fn overflow(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (burst, steady, ms) = (s.count("burst")?, s.count("steady")?, s.count("milliseconds")?);
    if !(1..=100_000).contains(&burst) || !(1000..=15_000_000).contains(&steady) || !(5..=1000).contains(&ms) {
        return Err("burst is 1 to 100000, steady 1000 to 15000000 a second, milliseconds 5 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let setups = [
        Setup { name: "ring 256", ..Setup::PLAIN },
        Setup { name: "ring 4096", ring: 4096, ..Setup::PLAIN },
        Setup { name: "4 channels", cpus: 4, channels: 4, ..Setup::PLAIN },
        Setup { name: "rps_cpus f", cpus: 4, rps: "f", ..Setup::PLAIN },
    ];
    let in_bursts = Traffic { flows: 64, burst: burst as u32, gap: 67, every: 5 * MSEC, until: ms * MSEC };
    let bursts = side_by_side(lab, seed, 0, &setups, in_bursts)?;
    let (gap, from) = (1_000_000_000 / steady, lab.now());
    let without_pause = Traffic { flows: 64, burst: 1, gap: 0, every: gap, until: from + ms * MSEC };
    let steady = side_by_side(lab, seed, setups.len(), &setups, without_pause)?;
    line(report, format!("{:<12} {:>14} {:>14} {:>22}", "", "bursts: lost", "steady: lost", "busiest CPU, steady"));
    for ((setup, b), c) in setups.iter().zip(&bursts).zip(&steady) {
        let busy = c.busiest as f64 / (ms * MSEC) as f64;
        line(
            report,
            format!("{:<12} {:>14} {:>14} {:>22}", setup.name, percent(b.lost()), percent(c.lost()), percent(busy)),
        );
    }
    let [plain, longer, channels, rps] = [0, 1, 2, 3].map(|n| (bursts[n].lost(), steady[n].lost()));
    for (name, value) in [
        ("burst ring 256", plain.0),
        ("burst ring 4096", longer.0),
        ("burst channels", channels.0),
        ("burst rps", rps.0),
        ("steady ring 256", plain.1),
        ("steady ring 4096", longer.1),
        ("steady channels", channels.1),
        ("steady rps", rps.1),
    ] {
        report.figure(name, value, "");
    }
    expect(lab, plain.0 > 0.2, || format!("bursts lose {} with a short ring: too little", percent(plain.0)));
    expect(lab, longer.0 == 0.0, || format!("a long ring loses {} of the bursts", percent(longer.0)));
    expect(lab, channels.0 < plain.0 / 10.0, || format!("four channels lose {} of the bursts", percent(channels.0)));
    // The ring is emptied sooner, but still by one CPU.
    expect(lab, rps.0 < plain.0 * 0.9, || format!("RPS loses {} of the bursts", percent(rps.0)));
    expect(lab, plain.1 > 0.1, || format!("without pause a short ring loses {}: too little", percent(plain.1)));
    // A queue in front of who is too slow is no cure.
    expect(lab, longer.1 > plain.1 / 4.0, || format!("without pause a long ring loses {}", percent(longer.1)));
    expect(lab, channels.1 < 0.001 && rps.1 < 0.001, || {
        format!("without pause channels lose {}, RPS {}", percent(channels.1), percent(rps.1))
    });
    Ok(())
}

pub const COALESCING: &[Known] = &[
    Known { key: "rate", default: "100000", about: "datagrams a second" },
    Known { key: "long", default: "200", about: "rx-usecs of the last receiver" },
    Known { key: "milliseconds", default: "50", about: "how long they come" },
    CHECK,
];

pub fn coalescing(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (rate, long, ms) = (s.count("rate")?, s.count("long")?, s.count("milliseconds")?);
    if !(1000..=500_000).contains(&rate) || !(20..=1000).contains(&long) || !(5..=1000).contains(&ms) {
        return Err("rate is 1000 to 500000 a second, long 20 to 1000, milliseconds 5 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let of = |rx_usecs: u32| Setup { name: "rx-usecs", cpus: 2, rx_usecs, read: true, ..Setup::PLAIN };
    let usecs = [0, long as u32 / 4, long as u32];
    let t = Traffic { flows: 8, burst: 1, gap: 0, every: 1_000_000_000 / rate, until: ms * MSEC };
    let got = side_by_side(lab, seed, 0, &usecs.map(of), t)?;
    line(
        report,
        format!("{:<14} {:>22} {:>16} {:>22}", "", "datagrams/interrupt", "median wait", "irq + softirq/datagram"),
    );
    let us = |ns: Nanos| format!("{:.1} us", ns as f64 / 1e3);
    let cost = |g: &Seen| (g.spent.hard_irq + g.spent.softirq + g.spent.ksoftirqd) / g.received.max(1);
    for (usecs, g) in usecs.iter().zip(&got) {
        let per = g.received as f64 / g.interrupts.max(1) as f64;
        line(report, format!("rx-usecs {usecs:<5} {per:>22.1} {:>16} {:>20} ns", us(g.median), cost(g)));
    }
    for (name, g) in [("none", &got[0]), ("some", &got[1]), ("long", &got[2])] {
        report.figure(
            match name {
                "none" => "interrupts none",
                "some" => "interrupts some",
                _ => "interrupts long",
            },
            g.interrupts as f64,
            "",
        );
        report.figure(
            match name {
                "none" => "wait none",
                "some" => "wait some",
                _ => "wait long",
            },
            g.median as f64,
            "ns",
        );
        report.figure(
            match name {
                "none" => "cost none",
                "some" => "cost some",
                _ => "cost long",
            },
            cost(g) as f64,
            "ns",
        );
    }
    let falls = got.windows(2).all(|w| w[1].interrupts < w[0].interrupts && cost(&w[1]) < cost(&w[0]));
    let grows = got.windows(2).all(|w| w[1].median > w[0].median);
    expect(lab, falls, || "longer coalescing took no interrupts and no CPU time away".into());
    expect(lab, grows, || "longer coalescing made nothing wait longer".into());
    let half = long * 1000 / 2;
    expect(lab, (half / 2..half * 2).contains(&got[2].median), || {
        format!("with rx-usecs {long} half of the datagrams wait {}", us(got[2].median))
    });
    Ok(())
}

pub const BUDGET: &[Known] = &[
    Known { key: "rate", default: "1500000", about: "datagrams a second, more than the CPU can take" },
    Known { key: "milliseconds", default: "40", about: "how long they come" },
    CHECK,
];

pub fn budget(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (rate, ms) = (s.count("rate")?, s.count("milliseconds")?);
    if !(1000..=15_000_000).contains(&rate) || !(5..=1000).contains(&ms) {
        return Err("rate is 1000 to 15000000 a second, milliseconds 5 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let many = Setup { channels: 8, ring: 512, ..Setup::PLAIN };
    let setups = [
        Setup { name: "1 queue, budget 300", ..Setup::PLAIN },
        Setup { name: "1 queue, budget 32", budget: (32, 8000), ..Setup::PLAIN },
        Setup { name: "8 queues, budget 300", ..many.clone() },
        Setup { name: "8 queues, budget 600", budget: (600, 8000), ..many.clone() },
        Setup { name: "8 queues, 600, 100 us", budget: (600, 100), ..many },
    ];
    let t = Traffic { flows: 64, burst: 1, gap: 0, every: 1_000_000_000 / rate, until: ms * MSEC };
    let got = side_by_side(lab, seed, 0, &setups, t)?;
    line(
        report,
        format!(
            "{:<22} {:>10} {:>12} {:>16} {:>12} {:>8}",
            "", "NET_RX", "time_squeeze", "ksoftirqd runs", "its share", "lost"
        ),
    );
    for (setup, g) in setups.iter().zip(&got) {
        let share = g.spent.ksoftirqd as f64 / g.spent.all().max(1) as f64;
        let (rx, sq, ks) = (g.softirqs[3], g.squeezed, g.ksoftirqd);
        line(
            report,
            format!("{:<22} {rx:>10} {sq:>12} {ks:>16} {:>12} {:>8}", setup.name, percent(share), percent(g.lost())),
        );
    }
    let squeezed = |n: usize| got[n].squeezed;
    for (n, name) in ["one 300", "one 32", "eight 300", "eight 600", "eight 600 short"].into_iter().enumerate() {
        report.figure(name, squeezed(n) as f64, "time_squeeze");
    }
    // A poll takes 64 at most: one queue alone never reaches 300 in a round.
    expect(lab, squeezed(0) == 0, || format!("one queue was squeezed {} times by 300", squeezed(0)));
    expect(lab, squeezed(1) > 0, || "one queue was never squeezed by 32".into());
    expect(lab, squeezed(2) > 0, || "eight queues were never squeezed by 300".into());
    expect(lab, squeezed(3) < squeezed(2) / 4, || format!("eight queues were squeezed {} times by 600", squeezed(3)));
    expect(lab, squeezed(4) > 0, || "eight queues were never squeezed by 100 us".into());
    expect(lab, got.iter().all(|g| g.ksoftirqd > 0), || "an overloaded CPU never left work to ksoftirqd".into());
    Ok(())
}
