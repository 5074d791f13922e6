//! Queueing disciplines on a card, from the socket to the wire; times and errors as Linux has them.
mod common;
use belljar_abi::*;
use belljar_kernel::net::drop::DropReason;
use common::*;

fn tc(h: &mut Host, line: &str) {
    h.k.tc_line(h.ns, line).unwrap_or_else(|e| panic!("{line}: {e}"));
    h.collect();
}

fn drops(h: &Host, reason: DropReason) -> u64 {
    h.k.net.pool.drops().find(|d| d.0 == reason).map_or(0, |d| d.1)
}

/// Frames that leave within this time, with the milliseconds after which they do.
fn leaving(h: &mut Host, time: u64) -> Vec<u64> {
    let (start, end) = (h.now, h.now + time);
    let mut out = vec![0; h.sent().len()];
    while let Some(at) = h.k.next_deadline().filter(|at| *at <= end) {
        h.now = at.max(h.now);
        h.k.tick(h.now);
        h.collect();
        let n = h.sent().len();
        out.resize(out.len() + n, (h.now - start) / MS);
    }
    h.now = end;
    out
}

#[test]
fn a_full_queue_is_told_only_to_who_asked() {
    let mut h = Host::new();
    h.know_peer();
    tc(&mut h, "qdisc add dev eth0 root tbf rate 1mbit burst 2000 limit 3000");
    let fd = h.udp();
    let sent: Vec<_> = (0..8).map(|_| h.send_to(fd, &[0; 958], PEER, 9).is_ok()).collect();
    // 1000 bytes of frame: two of the burst, three of the queue, three lost.
    assert_eq!((sent.iter().all(|ok| *ok), drops(&h, DropReason::QdiscDrop)), (true, 3));
    assert_eq!(h.counter(belljar_kernel::net::mib::Mib::UdpSndbufErrors), 3);
    h.set(fd, SOL_IP, IP_RECVERR, 1).unwrap();
    assert_eq!(h.send_to(fd, &[0; 958], PEER, 9).unwrap_err(), Errno::ENOBUFS);
    assert_eq!(leaving(&mut h, SEC), [0, 0, 8, 16, 24]);
    let s = h.k.net.devs.get(h.dev).unwrap().qdisc.stats();
    assert_eq!((s.packets, s.bytes, s.drops, s.qlen), (5, 5000, 4, 0));
}

#[test]
fn netem_delays_what_leaves_and_frees_the_senders_memory() {
    let mut h = Host::new();
    h.know_peer();
    tc(&mut h, "qdisc add dev eth0 root netem delay 30ms");
    let fd = h.udp();
    h.send_to(fd, b"x", PEER, 9).unwrap();
    assert_eq!((h.sent().len(), leaving(&mut h, SEC)), (0, vec![30]));
    // Away with it: what waits goes with it, and the default comes back.
    h.send_to(fd, b"x", PEER, 9).unwrap();
    tc(&mut h, "qdisc del dev eth0 root");
    assert_eq!(h.k.net.devs.get(h.dev).unwrap().qdisc.name(), "pfifo_fast");
    assert_eq!((leaving(&mut h, SEC).len(), drops(&h, DropReason::QueuePurge)), (0, 1));
}

#[test]
fn a_card_gets_the_default_of_the_day_when_it_comes_up() {
    let mut h = Host::new();
    assert_eq!(h.k.sysctl_set(h.ns, "net.core.default_qdisc", "nosuch").unwrap_err(), Errno::ENOENT);
    for (name, has) in [("fq_codel", "fq_codel"), ("tbf", "noqueue"), ("fq", "fq")] {
        h.sysctl("net.core.default_qdisc", name);
        tc(&mut h, "qdisc replace dev eth0 root pfifo");
        tc(&mut h, "qdisc del dev eth0 root");
        assert_eq!(h.k.net.devs.get(h.dev).unwrap().qdisc.name(), has);
    }
}

#[test]
fn classes_by_priority_of_the_socket() {
    let mut h = Host::new();
    h.know_peer();
    tc(&mut h, "qdisc add dev eth0 root handle 1: htb default 2");
    for (id, rate) in [(1, "80kbit"), (2, "8kbit")] {
        tc(&mut h, &format!("class add dev eth0 parent 1: classid 1:{id} htb rate {rate} burst 100 cburst 100"));
    }
    let (quick, slow) = (h.udp(), h.udp());
    h.set(quick, SOL_SOCKET, SO_PRIORITY, 0x1_0001).unwrap();
    for fd in [slow, quick] {
        (0..3).for_each(|_| drop(h.send_to(fd, &[0; 58], PEER, 9)));
    }
    // 100 bytes are 10 ms of the one and 100 ms of the other; with nothing saved and no debt the next may go.
    assert_eq!(leaving(&mut h, SEC), [0, 0, 0, 0, 10, 100]);
}

#[test]
fn a_rate_of_the_socket_is_kept_by_fq() {
    let mut h = Host::new();
    h.know_peer();
    tc(&mut h, "qdisc add dev eth0 root fq quantum 100 initial_quantum 100");
    let fd = h.udp();
    h.set(fd, SOL_SOCKET, SO_MAX_PACING_RATE, 100_000).unwrap();
    (0..4).for_each(|_| drop(h.send_to(fd, &[0; 958], PEER, 9)));
    assert_eq!(leaving(&mut h, SEC), [0, 10, 20, 30]);
}

#[test]
fn random_requests_neither_panic_nor_lose_packets() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp();
    let kinds =
        ["pfifo limit 3", "bfifo", "tbf rate 1mbit burst 2k limit 9k", "netem delay 5ms 2ms loss 5% duplicate 9%"];
    let more = ["fq", "fq_codel limit 4", "prio", "htb default 1", "netem corrupt 20% rate 1mbit", "pfifo_fast"];
    let kinds: Vec<&str> = kinds.into_iter().chain(more).collect();
    let acts = [
        "drop",
        "continue",
        "reclassify",
        "jump 1 action ok",
        "mirred egress mirror dev eth0 continue",
        "mirred ingress mirror dev lo",
        "mirred egress redirect dev ifb0",
        "mirred ingress redirect dev eth0",
        "police rate 1mbit burst 2k conform-exceed drop/pipe action mirred egress mirror dev ifb0 index 3",
        "mirred index 3",
    ];
    let ifb = h.k.net.add_ifb(h.ns, "ifb0").unwrap();
    h.k.set_link(ifb, true).unwrap();
    let mut rng = belljar_kernel::env::Rng::new(5);
    for _ in 0..3000 {
        let (a, b, kind) = (1 + rng.below(3), rng.below(4), kinds[rng.below(kinds.len() as u32) as usize]);
        let (act, dev) = (acts[rng.below(acts.len() as u32) as usize], ["eth0", "ifb0", "lo"][rng.below(3) as usize]);
        let way = ["ingress", "egress"][rng.below(2) as usize];
        let line = match rng.below(12) {
            8 => format!("qdisc add dev {dev} clsact"),
            9 => format!("filter add dev {dev} {way} prio {} matchall action {act}", 1 + rng.below(4)),
            10 => format!("filter add dev eth0 parent {a}: prio 1 matchall action {act}"),
            11 => format!("filter del dev {dev} {way}"),
            0 => format!("qdisc replace dev eth0 root handle {a}: {kind}"),
            1 => format!("qdisc replace dev eth0 parent {a}:{b} handle {}: {kind}", 1 + rng.below(3)),
            2 => format!("qdisc change dev eth0 handle {a}: {kind}"),
            3 => format!("qdisc del dev eth0 parent {a}:{b}"),
            4 => format!("class add dev eth0 parent {a}:{b} classid {a}:{} htb rate 1mbit", 1 + rng.below(3)),
            5 => format!("class del dev eth0 classid {a}:{b}"),
            6 => format!("filter add dev eth0 parent {a}: protocol all matchall classid {a}:{b}"),
            _ => "qdisc del dev eth0 root".to_owned(),
        };
        let _ = h.k.tc_line(h.ns, &line);
        for _ in 0..rng.below(4) {
            h.set(fd, SOL_SOCKET, SO_PRIORITY, (a << 16 | b) as i32).unwrap();
            let _ = h.send_to(fd, &[0; 400], PEER, 9);
        }
        let time = u64::from(rng.below(3)) * MS;
        h.advance(time);
    }
    h.advance(60 * SEC);
}
