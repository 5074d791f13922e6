//! Tests of what a report is told from.
use super::*;
use belljar_kernel::drivers::nic::NicConfig;
use core::net::Ipv4Addr;

fn bytes(n: u64) -> Sample {
    Sample { rx_bytes: n, ..Sample::default() }
}

#[test]
fn a_full_series_halves_its_resolution_and_loses_nothing() {
    let mut s = Series::new(1000, 10);
    let mut level = Sample::default();
    for i in 0..5000u64 {
        level.backlog[0] = u32::from(i == 777) * 9;
        s.add(1000 + (i + 1) * 10, &Sample { rx_bytes: 1, ..level });
        assert!(s.slots().len() <= 512 && s.next_at() >= 1000 + (i + 1) * 10);
    }
    assert_eq!((s.step(), s.slots().len()), (160, 313));
    assert_eq!(s.slots().iter().map(|s| s.rx_bytes).sum::<u64>(), 5000);
    let deep: Vec<_> = s.slots().iter().enumerate().filter(|(_, s)| s.backlog[0] > 0).collect();
    assert_eq!(deep.iter().map(|(n, s)| (*n, s.backlog[0])).collect::<Vec<_>>(), [(777 / 16, 9)]);
}

#[test]
fn long_silence_costs_no_more_than_the_slots_and_keeps_levels() {
    let mut s = Series::new(0, 1);
    let mut first = bytes(5);
    (first.established, first.backlog[2]) = (3, 4);
    s.add(1, &first);
    s.add(1 << 40, &bytes(7));
    assert!(s.slots().len() <= 512 && s.step() == 1 << 31, "{} {}", s.slots().len(), s.step());
    let (before, last) = (s.slots()[100], s.slots().last().unwrap());
    assert_eq!((before.rx_bytes, before.established, before.backlog[2], last.rx_bytes), (0, 3, 4, 7));
    s.add(u64::MAX, &bytes(1));
    assert!(s.slots().len() <= 512);
    // Time that stands still or goes back stays in the first slot or the present one.
    s.add(0, &bytes(1));
    assert_eq!(s.slots().iter().map(|s| s.rx_bytes).sum::<u64>(), 14);
}

#[test]
fn the_same_again_is_counted_and_the_middle_of_too_much_is_skipped() {
    let mut s = Story::default();
    let (a, b) = ((Ipv4Addr::LOCALHOST.into(), 1), (Ipv4Addr::LOCALHOST.into(), 2));
    for t in 0..50 {
        s.retransmitted(t * 1_000_000_000, a, b, "RTO");
    }
    s.retransmitted(60_000_000_000, a, b, "RTO");
    let (head, _) = s.entries();
    let lines: Vec<_> = head.map(|e| (e.count, e.first_at, e.text.as_str())).collect();
    let text = "127.0.0.1:1 retransmits to 127.0.0.1:2 (RTO)";
    assert_eq!(lines, [(50, 0, text), (1, 60_000_000_000, text)]);
    for n in 0..1000 {
        s.note(n, format!("note {n}"));
    }
    let (head, tail) = s.entries();
    assert_eq!((head.count(), tail.last().unwrap().text.as_str()), (150, "note 999"));
    assert_eq!(s.skipped, 702);
}

#[test]
fn a_kernel_is_watched() {
    let mut k = Kernel::new(1);
    let (ns, _) = k.add_host("host", &NicConfig::default(), (Ipv4Addr::new(10, 0, 2, 15), 24), None).unwrap();
    let mut w = Watch::new(ns, 0, 10);
    k.net.add(ns, Mib::IpExtInOctets, 100);
    w.sample(5, &k, 0);
    k.net.add(ns, Mib::IpExtInOctets, 11);
    w.sample(15, &k, 2);
    let all: Vec<_> = w.series.slots().iter().map(|s| (s.rx_bytes, s.link)).collect();
    assert_eq!((all, w.due()), (vec![(100, 0), (11, 2)], 20));
}
