//! Tables in the kernel's own layout: what `iptables-legacy` reads it may write back, and nothing a program writes does harm.
mod three;
use belljar_abi::Errno;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::blob::{SO_GET_ENTRIES, SO_GET_INFO, SO_SET_ADD_COUNTERS, SO_SET_REPLACE};
use belljar_kernel::net::netfilter::words::NoNames;
use three::*;

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(*b[at..].first_chunk().unwrap())
}

fn named(table: &str, len: usize) -> Vec<u8> {
    let mut b = table.as_bytes().to_vec();
    b.resize(len, 0);
    b
}

/// What a program has to write to put the table back as it is.
fn replacement(t: &mut Three, pf: Pf, table: &str) -> Vec<u8> {
    let ns = t.ns[ROUTER];
    let net = &mut t.k[ROUTER].net;
    let info = net.xt_getsockopt(ns, pf, SO_GET_INFO, &named(table, 84)).unwrap();
    let size = word(&info, 80) as usize;
    let mut ask = named(table, 40 + size);
    ask[32..36].copy_from_slice(&(size as u32).to_ne_bytes());
    let entries = net.xt_getsockopt(ns, pf, SO_GET_ENTRIES, &ask).unwrap();
    let mut b = named(table, 32);
    b.extend(&info[32..36]);
    b.extend(&info[76..84]);
    b.extend(&info[36..76]);
    b.extend(&info[76..80]);
    b.extend(0u64.to_ne_bytes());
    b.extend(&entries[40..]);
    b
}

fn saved(t: &mut Three, pf: Pf) -> String {
    let ns = t.ns[ROUTER];
    let text = t.k[ROUTER].iptables_save(ns, pf, None, false);
    // Policies without their counters.
    text.lines().map(|l| l.split(" [").next().unwrap_or(l).to_owned() + "\n").collect()
}

fn fill(t: &mut Three, pf: Pf, rules: &str) {
    for line in rules.lines().filter(|l| !l.contains('"')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ns = t.ns[ROUTER];
        t.k[ROUTER].iptables(ns, pf, &words, &NoNames);
    }
}

#[test]
fn what_is_read_may_be_written() {
    for (pf, rules) in [(Pf::V4, include_str!("iptables/rules4.txt")), (Pf::V6, include_str!("iptables/rules6.txt"))] {
        let mut t = Three::new();
        fill(&mut t, pf, rules);
        let before = saved(&mut t, pf);
        assert!(before.lines().count() > 80);
        let ns = t.ns[ROUTER];
        for table in ["filter", "nat", "mangle", "raw"] {
            let b = replacement(&mut t, pf, table);
            let count = word(&b, 36) as usize;
            let old = t.k[ROUTER].net.xt_setsockopt(ns, pf, SO_SET_REPLACE, &b).unwrap();
            assert_eq!(old.bytes.len(), count * 16);
            let mut counters = named(table, 40);
            counters[32..36].copy_from_slice(&(count as u32).to_ne_bytes());
            counters.extend([5u64, 500].iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<_>>().repeat(count));
            t.k[ROUTER].net.xt_setsockopt(ns, pf, SO_SET_ADD_COUNTERS, &counters).unwrap();
        }
        assert_eq!(saved(&mut t, pf), before);
        assert_eq!(t.counts_of(ROUTER, pf, "FORWARD")[0], (5, 500));
    }
}

#[test]
fn a_broken_table_is_refused_and_changes_nothing() {
    let mut t = Three::new();
    fill(&mut t, Pf::V4, include_str!("iptables/rules4.txt"));
    let ns = t.ns[ROUTER];
    let good = replacement(&mut t, Pf::V4, "filter");
    let before = saved(&mut t, Pf::V4);
    let mut seed = 7u64;
    let mut refused = 0;
    for _ in 0..2_000 {
        let mut b = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % b.len();
            b[at] = (seed >> 20) as u8;
        }
        if seed & 1 << 60 != 0 {
            b.truncate((seed >> 33) as usize % b.len());
        }
        let net = &mut t.k[ROUTER].net;
        match net.xt_setsockopt(ns, Pf::V4, SO_SET_REPLACE, &b) {
            Err(_) => refused += 1,
            // Another rule, but a table: put the first one back.
            Ok(_) => {
                let mut back = good.clone();
                let info = net.xt_getsockopt(ns, Pf::V4, SO_GET_INFO, &named("filter", 84)).unwrap();
                back[84..88].copy_from_slice(&info[76..80]);
                net.xt_setsockopt(ns, Pf::V4, SO_SET_REPLACE, &back).unwrap();
            }
        }
    }
    assert!(refused > 100, "{refused}");
    assert_eq!(saved(&mut t, Pf::V4), before);
    let mut short = named("filter", 84);
    assert_eq!(t.k[ROUTER].net.xt_getsockopt(ns, Pf::V4, SO_GET_ENTRIES, &short), Err(Errno::EAGAIN));
    short.truncate(20);
    assert_eq!(t.k[ROUTER].net.xt_getsockopt(ns, Pf::V4, SO_GET_INFO, &short), Err(Errno::EINVAL));
}

/// A thousand services with three back ends each, as kube-proxy writes them.
fn services(n: usize) -> String {
    let mut o = String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n");
    for i in 0..n {
        o += &format!(":KUBE-SVC-{i:016} - [0:0]\n");
        (0..3).for_each(|j| o += &format!(":KUBE-SEP-{i:014}{j:02} - [0:0]\n"));
    }
    o += "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n";
    o += "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n";
    o += "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully\n";
    for i in 0..n {
        let ip = format!("10.96.{}.{}", i / 250, i % 250 + 1);
        o += &format!(
            "-A KUBE-SERVICES -d {ip}/32 -p udp -m comment --comment \"ns/svc-{i}:dns\" -m udp --dport 53 -j KUBE-SVC-{i:016}\n"
        );
        for j in 0..3 {
            let random = match j {
                2 => String::new(),
                j => format!("-m statistic --mode random --probability {:.11} ", 1.0 / f64::from(3 - j)),
            };
            o += &format!("-A KUBE-SVC-{i:016} {random}-j KUBE-SEP-{i:014}{j:02}\n");
            o += &format!("-A KUBE-SEP-{i:014}{j:02} -s 10.0.2.{}/32 -j KUBE-MARK-MASQ\n", j + 2);
            o += &format!("-A KUBE-SEP-{i:014}{j:02} -p udp -m udp -j DNAT --to-destination 10.0.2.{}:5353\n", j + 2);
        }
    }
    o + "COMMIT\n"
}

#[test]
fn a_thousand_services_balance() {
    use belljar_abi::*;
    use core::net::Ipv4Addr;
    let mut t = Three::new();
    let ns = t.ns[ROUTER];
    let o = t.k[ROUTER].iptables_restore(ns, Pf::V4, &[], &services(1000), &NoNames);
    assert_eq!((o.code, o.stderr.as_str()), (0, ""));
    let b = replacement(&mut t, Pf::V4, "nat");
    t.k[ROUTER].net.xt_setsockopt(ns, Pf::V4, SO_SET_REPLACE, &b).unwrap();
    let ends: Vec<_> = (2..5)
        .map(|n| {
            let addr = Ipv4Addr::new(10, 0, 2, n);
            if n > 2 {
                t.k[SERVER].add_address(t.dev[3], addr, 24).unwrap();
            }
            t.bound(SERVER, SOCK_DGRAM | SOCK_NONBLOCK, addr, 5353)
        })
        .collect();
    for n in 0..150 {
        let c = t.bound(CLIENT, SOCK_DGRAM | SOCK_NONBLOCK, A, 10_000 + n);
        t.send_to(CLIENT, c, b"q", Ipv4Addr::new(10, 96, 3, 250), 53).unwrap();
    }
    let got: Vec<usize> = ends.iter().map(|e| (0..).take_while(|_| t.recv(SERVER, *e).is_ok()).count()).collect();
    assert_eq!(got.iter().sum::<usize>(), 150);
    assert!(got.iter().all(|n| (30..70).contains(n)), "{got:?}");
}
