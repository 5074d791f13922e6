//! `belljar tc` beside the distribution's tc, whose netlink the stack answers: what either sets, both print alike.
use crate::harness::{Env, Test, test};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("tc_prints_what_tc_prints", &["tc", "sleep"], alike),
        test("tc_actions_as_tc", &["tc", "ip", "ping", "sleep"], actions),
        test("tc_refuses_as_tc", &["tc", "sleep"], refused),
    ]
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

/// Filters with actions, on the way in.
const ACTIONS: &[&str] = &[
    "protocol all prio 1 matchall action drop",
    "prio 2 matchall action pass random determ drop 5",
    "prio 3 matchall action police rate 1mbit burst 10k conform-exceed drop/pipe action mirred ingress redirect dev ifb0 cookie 0aff",
    "protocol ip prio 4 handle 6/0xff fw flowid 1:20 action continue",
    "protocol ip prio 5 u32 match u32 0 0 police rate 1mbit burst 10k drop flowid 1:1",
    "protocol ip prio 6 u32 match u32 0 0 action jump 2 action police pkts_rate 100 pkts_burst 5 action reclassify",
    "protocol ip prio 7 handle 9 fw police rate 50gbit burst 10k mtu 2k overhead 4 linklayer atm",
    "protocol ip prio 8 u32 match u32 0 0",
    "prio 9 matchall action mirred egress mirror dev ifb0 continue index 33",
    "prio 10 matchall action mirred index 33",
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

/// How long ago something was used is another number a moment later.
fn timeless(text: &str) -> String {
    let mut out = text.to_owned();
    for word in [" installed ", " used ", " firstused "] {
        while let Some(at) = out.find(word) {
            let end = out[at..].find(" sec").map_or(out.len(), |n| at + n + 4);
            out.replace_range(at..end, "");
        }
    }
    out
}

fn actions(env: &Env) -> Result<()> {
    let jar = env.run(&["--name", "shaped", "--ip6", "off"], &["sleep", "100"])?;
    ensure!(crate::harness::until(10, || ours(env, "qdisc").ok()).is_some(), "{}", jar.stderr());
    for line in ["link add ifb0 type ifb", "link set ifb0 up"] {
        let out = env.finish(env.belljar(&[&["exec", "shaped", "--", "ip"][..], &words(line)].concat()), 20)?;
        ensure!(out.code == Some(0), "{out:?}");
    }
    real(env, "qdisc add dev eth0 ingress")?;
    // What comes in waits as it would on its way out.
    real(
        env,
        "filter add dev eth0 ingress protocol ip prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb0",
    )?;
    ours(env, "qdisc add dev ifb0 root netem delay 60ms")?;
    let ping =
        env.finish(env.belljar(&["exec", "shaped", "--", "ping", "-n", "-c", "1", "-W", "5", "10.0.2.2"]), 20)?;
    let time = ping.stdout.split("time=").nth(1).and_then(|t| t.split(' ').next()).and_then(|t| t.parse::<f64>().ok());
    ensure!(time.is_some_and(|ms| ms >= 60.0), "{ping:?}");
    let shown = real(env, "-s filter show dev eth0 ingress")?;
    ensure!(shown.contains("\tSent 84 bytes 1 pkt (dropped 0, overlimits 0 requeues 0)"), "{shown}");
    let mut first = String::new();
    for by_tc in [true, false] {
        real(env, "filter del dev eth0 ingress")?;
        for line in ACTIONS {
            let line = format!("filter add dev eth0 ingress {line}");
            if by_tc {
                real(env, &line)?
            } else {
                ours(env, &line)?
            };
        }
        for show in ["-s filter show dev eth0 ingress", "-d filter show dev eth0 ingress"] {
            let (theirs, own) = (timeless(&real(env, show)?), timeless(&ours(env, show)?));
            ensure!(theirs == own, "tc {show} prints\n{theirs}belljar tc prints\n{own}");
            first = if by_tc { theirs } else { first };
            ensure!(by_tc || show.starts_with("-s") || first == own, "by tc\n{first}by belljar tc\n{own}");
        }
    }
    for prio in [4, 5, 7] {
        real(env, &format!("filter del dev eth0 ingress prio {prio}"))?;
    }
    // JSON of fw and of the old policers is broken in tc.
    compare(env, "-j filter show dev eth0 ingress")?;
    let listed = real(env, "actions ls action mirred")?;
    ensure!(listed.contains("index 33 ref 2 bind 2\n\tnot_in_hw\n\tused_hw_stats disabled\n"), "{listed}");
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
        "filter add dev eth0 parent 1: matchall action mirred index 7",
        "filter add dev eth0 parent 1: matchall action mirred egress redirect dev nosuch",
        "filter add dev eth0 parent 1: matchall action police rate 1mbit",
    ] {
        let theirs = env.finish(env.belljar(&[&["exec", "shaped", "--", "tc"][..], &words(line)].concat()), 20)?;
        let own = env.finish(env.belljar(&[&["tc", "shaped"][..], &words(line)].concat()), 20)?;
        let first = theirs.stderr.lines().next().unwrap_or_default().to_owned();
        ensure!(!first.is_empty() && own.stderr.contains(&first), "{line}: {theirs:?} {own:?}");
        // What tc does not understand has another code there.
        ensure!(theirs.code != Some(0) && own.code == Some(2), "{line}: {theirs:?} {own:?}");
    }
    jar.stop()?;
    Ok(())
}
