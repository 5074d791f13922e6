//! `xdp`: datagrams that nobody wants, dropped in the card's poll, before taps, and by netfilter; what each costs.
use super::device::{Seen, Setup, Traffic, expect, line};
use super::rings::{CHECK, side_by_side};
use crate::lab::Lab;
use crate::report::Report;
use crate::settings::{Known, Settings};
use belljar_kernel::env::MSEC;

pub const XDP: &[Known] = &[
    Known { key: "burst", default: "200", about: "datagrams that come together, 67 ns apart, every millisecond" },
    Known { key: "flood", default: "1500000", about: "datagrams a second without pause, in the second half" },
    Known { key: "milliseconds", default: "20", about: "how long they come" },
    CHECK,
];

/// CPU time for each datagram, in nanoseconds.
fn each(g: &Seen) -> f64 {
    g.spent.all() as f64 / g.sent.max(1) as f64
}

pub fn xdp(lab: &mut Lab, seed: u64, s: &Settings, report: &mut Report) -> Result<(), String> {
    let (burst, flood, ms) = (s.count("burst")?, s.count("flood")?, s.count("milliseconds")?);
    if !(50..=250).contains(&burst) || !(1_200_000..=5_000_000).contains(&flood) || !(5..=1000).contains(&ms) {
        return Err("burst is 50 to 250, flood 1200000 to 5000000 a second, milliseconds 5 to 1000".into());
    }
    lab.world.borrow_mut().limits.check_every = s.count("check")?;
    let rule = |name, deny: &'static [&'static str]| Setup { name, deny, ..Setup::PLAIN };
    let setups = [
        rule("INPUT", &["iptables", "-A", "INPUT", "-p", "udp", "--dport", "7", "-j", "DROP"]),
        rule("raw", &["iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "7", "-j", "DROP"]),
        rule("xdpgeneric", &["xdp", "set", "dev", "eth0", "generic", "drop", "proto", "udp", "dport", "7"]),
        rule("xdp", &["xdp", "set", "dev", "eth0", "native", "drop", "proto", "udp", "dport", "7"]),
    ];
    let from = lab.now();
    let in_bursts = Traffic { flows: 64, burst: burst as u32, gap: 67, every: MSEC, until: from + ms * MSEC };
    let bursts = side_by_side(lab, seed, 0, &setups, in_bursts)?;
    let from = lab.now();
    let without_pause = Traffic { flows: 64, burst: 1, gap: 0, every: 1_000_000_000 / flood, until: from + ms * MSEC };
    let floods = side_by_side(lab, seed, setups.len(), &setups, without_pause)?;
    line(report, format!("{:<12} {:>26} {:>22}", "dropped by", "CPU time for a datagram", "flood: ring full for"));
    for ((setup, b), f) in setups.iter().zip(&bursts).zip(&floods) {
        let lost = format!("{:.1}%", 100.0 * f.lost());
        line(report, format!("{:<12} {:>23.0} ns {lost:>22}", setup.name, each(b)));
        report.figure(setup.name, each(b), "ns");
        expect(lab, b.denied == b.sent && f.denied + f.missed == f.sent, || {
            format!("{}: {} of {} dropped, {} of {}", setup.name, b.denied, b.sent, f.denied, f.sent)
        });
    }
    let [input, raw, generic, native] = [0, 1, 2, 3].map(|n| (each(&bursts[n]), floods[n].lost()));
    expect(lab, native.0 < input.0 / 3.0, || {
        format!("a drop takes {:.0} ns by XDP, {:.0} ns by netfilter", native.0, input.0)
    });
    // Once there is a packet buffer, who drops it matters little.
    expect(lab, generic.0 > input.0 / 2.0 && raw.0 > input.0 / 2.0, || {
        format!("{:.0} ns by generic XDP, {:.0} ns in the table raw", generic.0, raw.0)
    });
    expect(lab, input.1 > 0.1 && native.1 == 0.0, || {
        format!("of a flood the ring loses {:.2} before netfilter, {:.2} before XDP", input.1, native.1)
    });
    Ok(())
}
