//! The built-in experiments, small: they pass, repeat themselves, and say no to what they do not know.
use belljar_lab::{Failure, Report, RunOptions, list, run, shard};

const LIST: [&str; 15] = [
    "transfer",
    "goodput",
    "bufferbloat",
    "ring-overflow",
    "coalescing",
    "budget",
    "polling",
    "adaptive",
    "bql",
    "offload",
    "backlog",
    "fragments",
    "herd",
    "xdp",
    "random",
];

fn go(name: &str, seed: u64, set: &[(&str, &str)]) -> Report {
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    run(name, RunOptions { seed, set, twice: true, ..RunOptions::default() }).unwrap()
}

fn figure(r: &Report, name: &str) -> f64 {
    r.figures.iter().find(|f| f.0 == name).map(|f| f.1).unwrap()
}

/// As far as time: everything that an experiment can be told is right as it stands in the list.
#[test]
fn every_experiment_begins_with_its_defaults() {
    for e in list() {
        let begins: Box<dyn FnOnce()> = Box::new(|| std::panic::resume_unwind(Box::new("it begins")));
        let r = run(e.name, RunOptions { seed: 1, begins: Some(begins), ..RunOptions::default() }).unwrap();
        assert_eq!(r.failure, Some(Failure::Panic { what: "it begins".into() }), "{}", e.name);
    }
}

#[test]
fn what_is_out_of_range_is_refused_not_bent() {
    for (name, key, value, part) in [
        ("transfer", "mtu", "5", "mtu is 576 to 65535, not 5"),
        ("transfer", "limit", "0", "limit is 1 to"),
        ("transfer", "loss", "500%", "loss: "),
        ("random", "hosts", "99", "hosts is 2 to 4, not 99"),
        ("random", "flows", "101", "flows is 0 to 100, not 101"),
        ("goodput", "cell", "lann", "did you mean lan?"),
    ] {
        let r = go(name, 1, &[(key, value)]);
        let what = match r.failure {
            Some(Failure::BadSetting { what }) => what,
            other => panic!("{name} {key}={value}: {other:?}"),
        };
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn a_transfer_over_a_clean_link_loses_nothing() {
    let r = go("transfer", 1, &[("size", "3MB"), ("loss", "0%"), ("delay", "10ms"), ("check", "1")]);
    assert_eq!(r.failure, None, "{}", r.replay);
    assert_eq!((figure(&r, "bytes"), figure(&r, "retransmissions")), (3e6, 0.0));
}

#[test]
fn a_transfer_over_a_bad_link_arrives_whole() {
    for (seed, set) in [
        (1, [("loss", "1%"), ("delay", "100ms"), ("reorder", "0%")]),
        (2, [("loss", "5%"), ("delay", "20ms"), ("reorder", "10%")]),
        (3, [("corrupt", "2%"), ("duplicate", "5%"), ("delay", "1ms")]),
    ] {
        let set: Vec<_> = set.into_iter().chain([("size", "1MB"), ("check", "1")]).collect();
        let r = go("transfer", seed, &set);
        assert_eq!(r.failure, None, "{}", r.replay);
        assert!(figure(&r, "retransmissions") > 0.0, "{:?}", r.text);
    }
}

/// A rate of 10 Mbit/s for ten seconds, 40 ms there and back.
fn through_a_bottleneck(more: &[(&str, &str)]) -> Report {
    let base = [("size", "8MB"), ("delay", "20ms"), ("rate", "10mbit"), ("loss", "0%"), ("check", "50")];
    let r = go("transfer", 3, &[&base, more].concat());
    assert_eq!(r.failure, None, "{}", r.replay);
    r
}

#[test]
fn bbr_fills_a_lossy_path_that_cubic_does_not() {
    let loss = ("loss", "1%");
    let bbr = through_a_bottleneck(&[loss, ("net.ipv4.tcp_congestion_control", "bbr")]);
    let cubic = through_a_bottleneck(&[loss]);
    let (b, c) = (figure(&bbr, "goodput"), figure(&cubic, "goodput"));
    assert!(b > 8e6 && b > 1.5 * c, "bbr {b}, cubic {c}");
}

#[test]
fn bbr_keeps_the_queue_short() {
    let cubic = through_a_bottleneck(&[("limit", "100")]);
    let bbr = through_a_bottleneck(&[("limit", "100"), ("net.ipv4.tcp_congestion_control", "bbr")]);
    let dropped = |r: &Report| figure(r, "retransmissions");
    assert!(dropped(&bbr) < dropped(&cubic) && figure(&bbr, "goodput") > 8e6, "{:?} {:?}", bbr.text, cubic.text);
}

#[test]
fn marks_replace_losses() {
    let r = through_a_bottleneck(&[("limit", "400"), ("ecn", "40"), ("net.ipv4.tcp_ecn", "1")]);
    assert!(figure(&r, "marked") > 0.0 && figure(&r, "retransmissions") == 0.0, "{:?}", r.text);
    assert!(figure(&r, "goodput") > 8e6, "{:?}", r.text);
    // Who does not speak ECN is not marked.
    assert_eq!(figure(&through_a_bottleneck(&[("ecn", "40"), ("net.ipv4.tcp_ecn", "0")]), "marked"), 0.0);
}

#[test]
fn random_networks_hold_their_invariants() {
    for seed in 0..40 {
        let r = go("random", seed, &[("bytes", "20000")]);
        assert_eq!(r.failure, None, "{}", r.replay);
    }
}

#[test]
fn a_transfer_goes_over_ipv6_too() {
    let r = go("transfer", 1, &[("family", "6"), ("size", "2MB"), ("loss", "1%"), ("delay", "10ms"), ("check", "1")]);
    assert_eq!(r.failure, None, "{}", r.replay);
    assert_eq!(figure(&r, "bytes"), 2e6);
    assert_eq!(go("transfer", 1, &[("family", "5")]).exit_code(), 2);
}

/// A packet too big for a path that tcp_min_snd_mss does not bow to: the sender once spun for ever.
#[test]
fn segments_that_never_fit_end_a_connection_and_not_the_run() {
    let r = go("random", 791, &[]);
    assert_eq!(r.failure, None, "{}", r.replay);
}

#[test]
fn networks_of_one_version() {
    for (seed, family) in (0..10).flat_map(|s| [(s, "4"), (s, "6")]) {
        let r = go("random", seed, &[("bytes", "20000"), ("family", family)]);
        assert_eq!(r.failure, None, "{}", r.replay);
    }
}

#[test]
fn without_faults_every_connection_is_complete() {
    for seed in 0..10 {
        let r = go("random", seed, &[("faults", "0"), ("bytes", "50000")]);
        assert_eq!(r.failure, None, "{}", r.replay);
        assert_eq!((figure(&r, "broken"), figure(&r, "refused")), (0.0, 0.0), "{}", r.replay);
    }
}

#[test]
fn mistakes_are_told() {
    assert!(run("tranfser", RunOptions::default()).unwrap_err().contains("transfer"));
    let r = go("transfer", 1, &[("sise", "1GB")]);
    assert!(matches!(&r.failure, Some(Failure::BadSetting { what }) if what.contains("size")));
    assert_eq!(r.exit_code(), 2);
    let r = go("transfer", 1, &[("net.ipv4.tcp_sakc", "0")]);
    assert_eq!(r.exit_code(), 2);
    assert_eq!(list().iter().map(|e| e.name).collect::<Vec<_>>(), LIST);
}

/// Seed 4132: a paced retransmission without a route took the time of a departure again and again.
#[test]
fn a_seed_that_had_no_end() {
    let r = go("random", 4132, &[]);
    assert!(r.failure.is_none(), "{:?}", r.failure);
}

#[test]
fn shards_cover_every_seed_once() {
    let mut all: Vec<u64> = (1..=3).flat_map(|i| shard(10..30, i, 3)).collect();
    all.sort();
    assert_eq!(all, (10..30).collect::<Vec<_>>());
}

/// Ten megabits, 1000 packets of queue: answers wait behind more than half a second of stream. With fq_codel they do not,
/// and the stream loses little.
#[test]
fn bufferbloat_and_its_cure() {
    let r = go("bufferbloat", 1, &[("seconds", "12")]);
    assert_eq!(r.failure, None, "{:?}", r.text);
    let (slow, fast) = (figure(&r, "slow answer"), figure(&r, "fast answer"));
    assert!(slow > 200.0 && fast < 40.0, "{:?}", r.text);
    // A short pfifo is no cure for a stream that needs it; and the scenario says so.
    let r = go("bufferbloat", 1, &[("seconds", "12"), ("good", "pfifo limit 1000")]);
    assert!(r.failure.is_some());
}

/// A burst wants room, a load wants CPUs; and an experiment whose cure is none says so.
#[test]
fn a_ring_overflows_and_is_cured() {
    let r = go("ring-overflow", 1, &[("milliseconds", "20")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "burst ring 256") > 0.4 && figure(&r, "burst ring 4096") == 0.0, "{:#?}", r.text);
    assert!(figure(&r, "steady ring 4096") > 0.05 && figure(&r, "steady rps") == 0.0, "{:#?}", r.text);
    let r = go("ring-overflow", 1, &[("milliseconds", "10"), ("steady", "100000")]);
    assert!(r.failure.is_some(), "{:#?}", r.text);
}

#[test]
fn coalescing_saves_time_and_costs_time() {
    let r = go("coalescing", 1, &[("milliseconds", "20")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "interrupts none") > 5.0 * figure(&r, "interrupts long"), "{:#?}", r.text);
    assert!(figure(&r, "wait long") > 20_000.0 && figure(&r, "wait none") < 10_000.0, "{:#?}", r.text);
}

#[test]
fn who_polls_decides_what_waits() {
    let r = go("polling", 1, &[("milliseconds", "20")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(
        figure(&r, "interrupts deferred") < 5.0 && figure(&r, "wait busy") < figure(&r, "wait plain"),
        "{:#?}",
        r.text
    );
}

#[test]
fn what_is_dropped_early_costs_little() {
    let r = go("xdp", 1, &[("milliseconds", "10")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "xdp") < figure(&r, "INPUT") / 3.0, "{:#?}", r.text);
}

#[test]
fn adaptive_moderation_follows_the_load() {
    let r = go("adaptive", 1, &[("milliseconds", "60")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
}

#[test]
fn byte_queue_limits_leave_the_queue_to_the_discipline() {
    let r = go("bql", 1, &[("seconds", "8")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "slow answer") > 100.0 && figure(&r, "limit") < 10_000.0, "{:#?}", r.text);
}

#[test]
fn budgets_squeeze_and_ksoftirqd_takes_over() {
    let r = go("budget", 1, &[("milliseconds", "20")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
}

#[test]
fn offloads_save_packets_and_time() {
    let r = go("offload", 1, &[("size", "1MB")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "packets without gro") > 600.0 && figure(&r, "net_tx") < 5.0, "{:#?}", r.text);
}

#[test]
fn a_fragment_that_is_lost_loses_its_datagram() {
    let r = go("fragments", 1, &[("count", "400"), ("loss", "3%")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "whole 60000") < 0.4 && figure(&r, "whole often") < 0.2, "{:#?}", r.text);
}

#[test]
fn a_herd_is_woken_by_epoll_and_poll_and_by_nothing_else() {
    let r = go("herd", 1, &[("workers", "3"), ("connections", "40")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    for (name, woken) in
        [("woken epoll", 3.0), ("woken epoll exclusive", 1.0), ("woken one epoll", 3.0), ("woken accept", 1.0)]
    {
        assert_eq!(figure(&r, name), woken, "{name}: {:#?}", r.text);
    }
}

#[test]
fn a_backlog_overflows_on_a_slower_cpu() {
    let r = go("backlog", 1, &[("count", "4000")]);
    assert_eq!(r.failure, None, "{:#?}", r.text);
    assert!(figure(&r, "steered") > 100.0, "{:#?}", r.text);
}
