//! `belljar tc` beside the distribution's tc, whose netlink the stack answers: what either sets, both print alike.
use crate::harness::{Env, Test, test};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![test("tc_prints_what_tc_prints", &["tc", "sleep"], alike), test("tc_refuses_as_tc", &["tc", "sleep"], refused)]
}

/// Disciplines at the root, one after the other.
const ROOTS: &[&str] = &[
    "pfifo limit 77",
    "bfifo limit 10k",
    "tbf rate 1mbit burst 10k latency 50ms",
    "tbf rate 1mbit burst 10k limit 20k peakrate 2mbit mtu 2000 overhead 4 mpu 64 linklayer atm",
    "tbf rate 50gbit burst 1m limit 20k",
    "netem delay 10ms 2ms 25% loss 1% 10%",
    "netem loss gemodel 1% 10% 70% 0.1%",
    "netem loss state 1% 2% 3% 4% 5%",
    "netem delay 10ms reorder 25% 50% gap 5 duplicate 1% corrupt 0.1%",
    "netem rate 1mbit 20 100 5",
    "netem loss 1% ecn",
    "fq",
    "fq limit 20000 flow_limit 200 quantum 3000 maxrate 10mbit nopacing ce_threshold 5ms horizon 2s horizon_cap",
    "fq_codel",
    "prio bands 5 priomap 0 1 2 3 4 0 0 0 0 0 0 0 0 0 0 1",
    "pfifo_fast",
];

/// A tree, set by the real tc.
const TREE: &[&str] = &[
    "qdisc replace dev eth0 root handle 1: htb default 10",
    "class add dev eth0 parent 1: classid 1:1 htb rate 10mbit",
    "class add dev eth0 parent 1:1 classid 1:10 htb rate 1mbit ceil 10mbit burst 15k cburst 20k prio 2 quantum 2000",
    "class add dev eth0 parent 1:1 classid 1:20 htb rate 100kbit",
    "class add dev eth0 parent 1: classid 1:41 htb rate 1kbit burst 1 overhead 4 mpu 64 linklayer atm",
    "qdisc add dev eth0 parent 1:10 handle 10: netem delay 100ms 10ms distribution normal",
    "qdisc add dev eth0 parent 1:20 fq_codel",
    "qdisc add dev eth0 parent 1:41 tbf rate 1mbit burst 5k latency 50ms",
    "qdisc add dev eth0 clsact",
    "filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.1/32 match ip dport 80 0xffff flowid 1:10",
    "filter add dev eth0 parent 1: protocol ip handle 6/0xff fw flowid 1:20",
    "filter add dev eth0 protocol all prio 44 matchall classid 1:20",
    "filter add dev eth0 ingress protocol ip prio 1 matchall classid 1:1",
];

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn real(env: &Env, line: &str) -> Result<String> {
    let out = env.finish(env.belljar(&[&["exec", "shaped", "--", "tc"][..], &words(line)].concat()), 20)?;
    ensure!(out.code == Some(0), "tc {line}: {out:?}");
    Ok(out.stdout)
}

fn ours(env: &Env, line: &str) -> Result<String> {
    let (options, rest): (Vec<&str>, Vec<&str>) = words(line).into_iter().partition(|w| w.starts_with('-'));
    env.ask(&[&["tc"][..], &options, &["shaped"], &rest].concat())
}

fn compare(env: &Env, line: &str) -> Result<()> {
    let (theirs, own) = (real(env, line)?, ours(env, line)?);
    ensure!(theirs == own, "tc {line} prints\n{theirs}belljar tc prints\n{own}");
    Ok(())
}

fn alike(env: &Env) -> Result<()> {
    let jar = env.run(&["--name", "shaped", "--ip6", "off"], &["sleep", "100"])?;
    ensure!(crate::harness::until(10, || ours(env, "qdisc").ok()).is_some(), "{}", jar.stderr());
    for root in ROOTS {
        ours(env, &format!("qdisc replace dev eth0 root {root}"))?;
        for show in ["-s qdisc show dev eth0", "-s -d qdisc", "-j -s qdisc show dev eth0"] {
            compare(env, show)?;
        }
    }
    for line in TREE {
        real(env, line)?;
    }
    for show in [
        "-s qdisc",
        "qdisc show dev eth0 invisible",
        "qdisc show dev eth0 root",
        "qdisc show dev eth0 parent 1:10",
        "qdisc show dev eth0 handle 10:",
        "class show dev eth0",
        "-s -d class show dev eth0",
        "class show dev eth0 classid 1:10",
        "filter show dev eth0",
        "filter show dev eth0 parent 1:",
        "-s filter show dev eth0 ingress",
        "-j filter show dev eth0 ingress",
    ] {
        compare(env, show)?;
    }
    jar.stop()?;
    Ok(())
}

fn refused(env: &Env) -> Result<()> {
    let jar = env.run(&["--name", "shaped", "--ip6", "off"], &["sleep", "100"])?;
    ensure!(crate::harness::until(10, || ours(env, "qdisc").ok()).is_some(), "{}", jar.stderr());
    real(env, "qdisc add dev eth0 root handle 1: htb")?;
    for line in [
        "qdisc change dev eth0 root htb default 20",
        "qdisc add dev eth0 parent 1:99 pfifo",
        "qdisc add dev eth0 root handle 2: pfifo",
        "qdisc replace dev eth0 root nosuch",
        "qdisc replace dev eth0 root mq",
        "qdisc del dev eth0 handle 9: root",
        "class del dev eth0 classid 1:55",
        "filter del dev eth0 parent 1: prio 99",
    ] {
        let theirs = env.finish(env.belljar(&[&["exec", "shaped", "--", "tc"][..], &words(line)].concat()), 20)?;
        let own = env.finish(env.belljar(&[&["tc", "shaped"][..], &words(line)].concat()), 20)?;
        let first = theirs.stderr.lines().next().unwrap_or_default().to_owned();
        ensure!(!first.is_empty() && own.stderr.contains(&first), "{line}: {theirs:?} {own:?}");
        ensure!((theirs.code, own.code) == (Some(2), Some(2)), "{line}: {theirs:?} {own:?}");
    }
    jar.stop()?;
    Ok(())
}
