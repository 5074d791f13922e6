//! nf_tables and connection tracking with the distribution's `nft`, `iptables-nft` and `conntrack`.
use crate::harness::{Env, Test, test};
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("nft_as_linux", &["nft", "iptables-nft", "conntrack", "ping", "python3"], nft_as_linux),
        test("conntrack_hears_of_connections", &["conntrack", "iptables-legacy", "python3"], conntrack_hears),
        test("nft_sets_as_linux", &["nft", "python3"], nft_sets_as_linux),
        test("nft_more_as_linux", &["nft", "iptables-nft", "iptables-legacy", "python3"], nft_more_as_linux),
        test("ipset_as_linux", &["ipset", "iptables-nft", "iptables-legacy", "python3"], ipset_as_linux),
        test("nflog_as_linux", &["nft", "iptables-nft", "iptables-legacy", "python3"], nflog_as_linux),
        test(
            "bridged_as_linux",
            &["ip", "iptables-legacy", "ip6tables-legacy", "nft", "nstat", "ping", "python3"],
            bridged_as_linux,
        ),
        test("bridge_and_arp_as_linux", &["ip", "nft", "ebtables-nft", "ping", "python3"], bridge_and_arp_as_linux),
        test("nft_sockets_as_linux", &["ip", "nft", "python3"], nft_sockets_as_linux),
        test("xt_rules_as_linux", &["nft", "iptables-nft", "iptables-legacy", "ip6tables-legacy"], xt_rules_as_linux),
        test(
            "xt_traffic_as_linux",
            &["ip", "iptables-legacy", "ip6tables-legacy", "nft", "xtables-monitor", "conntrack", "ping", "python3"],
            xt_traffic_as_linux,
        ),
        test(
            "rule_sets_as_linux",
            &["ip", "iptables-legacy", "ip6tables-legacy", "ipset", "nft", "conntrack", "ping", "python3"],
            rule_sets_as_linux,
        ),
        test("dmesg_has_lines_of_log_rules", &["ping"], dmesg),
    ]
}

/// The same lines as in a network namespace of the host's.
fn nft_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "nft.sh")
}

fn nft_sets_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "nft_sets.sh")
}

fn nft_more_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "nft_more.sh")
}

fn ipset_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "ipset.sh")
}

fn nflog_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "python3", "nflog.py")
}

/// A service's address from one pod to another on its bridge, DNAT that stays there, pieces, `physdev`: what br_netfilter does.
fn bridged_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "bridge_nf.sh")
}

/// The families bridge and arp of nf_tables, and `ebtables`.
fn bridge_and_arp_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "bridge_nft.sh")
}

/// A transparent proxy by `socket` and `tproxy`, what connections carried, groups of devices.
fn nft_sockets_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "nft_socket.sh")
}

/// Matches and targets beyond the everyday ones in the tools' words.
fn xt_rules_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "xt_rules.sh")
}

/// The same with traffic: counters, files of `/proc`, packets that arrive changed.
fn xt_traffic_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "xt_traffic.sh")
}

/// Rule sets as firewalls, clusters and proxies write them.
fn rule_sets_as_linux(env: &Env) -> Result<()> {
    as_linux(env, "sh", "rule_sets.sh")
}

/// A script that says the same in a network namespace of the host's and in a jar.
fn as_linux(env: &Env, program: &str, script: &str) -> Result<()> {
    let script = env.program(script);
    let mut c = env.in_own_network_with(program, &script, &[]);
    c.stderr(std::process::Stdio::null());
    let host = env.finish(c, 180)?;
    ensure!(host.stdout.ends_with("done\n"), "on the host itself: {host:?}");
    let jar = env.run(&["--net", "none", "--with-proc"], &[program, &script])?.wait(180)?;
    for (there, here) in host.stdout.lines().zip(jar.stdout.lines().chain(std::iter::repeat("nothing"))) {
        ensure!(there == here, "Linux   {there}\nbelljar {here}\n{}{}", jar.stdout, jar.stderr);
    }
    Ok(())
}

fn conntrack_hears(env: &Env) -> Result<()> {
    let script = "iptables-legacy -A INPUT -m conntrack --ctstate NEW
        conntrack -E > heard & P=$!
        until grep -q DESTROY heard; do
            python3 -c \"
import socket
a, b = socket.socket(2, 2), socket.socket(2, 2)
a.bind(('127.0.0.1', 0)); b.bind(('127.0.0.1', 0))
a.sendto(b'x', b.getsockname()); b.recv(9); b.sendto(b'y', a.getsockname()); a.recv(9)\"
            conntrack -D -p udp > deleted 2>&1
        done
        kill $P; cat heard";
    let mut c = env.belljar(&["run", "--net", "none", "--", "sh", "-c", script]);
    c.current_dir(&env.dir);
    let out = env.finish(c, 60)?;
    for wanted in [
        "    [NEW] udp      17 30 src=127.0.0.1 dst=127.0.0.1",
        " [UPDATE] udp      17 30 src=",
        "[DESTROY] udp      17 ",
    ] {
        ensure!(out.stdout.lines().any(|l| l.starts_with(wanted)), "{wanted:?}: {out:?}");
    }
    Ok(())
}

fn dmesg(env: &Env) -> Result<()> {
    let jar = env.run(&["--name", "logs", "--net", "none"], &["sleep", "100"])?;
    crate::harness::until(30, || env.ask(&["ps"]).ok().filter(|t| t.contains("logs"))).context("no jar")?;
    env.ask(&["iptables", "logs", "-A", "INPUT", "-p", "icmp", "-j", "LOG", "--log-prefix", "seen: "])?;
    env.finish(env.belljar(&["exec", "logs", "--", "ping", "-c", "1", "127.0.0.1"]), 20)?;
    let text = env.ask(&["dmesg", "logs"])?;
    ensure!(
        text.starts_with('[') && text.contains("] seen: IN=lo OUT= ") && text.contains("PROTO=ICMP TYPE=8"),
        "{text}"
    );
    jar.stop().map(drop)
}
