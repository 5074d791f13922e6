//! The distribution's ping and traceroute: raw and ping sockets, with binaries that have file capabilities.
use crate::harness::{Env, Test, test};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("ping_answers", &["ping"], ping_answers),
        test("ping_by_a_raw_socket", &["ping"], ping_by_a_raw_socket),
        test("traceroute_by_echo", &["traceroute"], traceroute_by_echo),
    ]
}

fn pings(env: &Env, options: &[&str], to: &str) -> Result<()> {
    let mut words = vec!["run"];
    words.extend(options);
    words.extend(["--", "ping", "-n", "-c3", "-i0.2", to]);
    let out = env.finish(env.belljar(&words), 20)?;
    ensure!(out.code == Some(0), "{out:?}");
    for n in 1..=3 {
        let line = format!("64 bytes from {to}: icmp_seq={n} ttl=64 time=");
        ensure!(out.stdout.contains(&line), "{line:?} is not in {out:?}");
    }
    ensure!(out.stdout.contains("3 packets transmitted, 3 received, 0% packet loss"), "{out:?}");
    ensure!(!out.stderr.to_lowercase().contains("warning") && !out.stderr.contains("refused"), "{}", out.stderr);
    Ok(())
}

fn ping_answers(env: &Env) -> Result<()> {
    pings(env, &[], "10.0.2.2")?;
    pings(env, &[], "127.0.0.1")
}

fn ping_by_a_raw_socket(env: &Env) -> Result<()> {
    pings(env, &["--sysctl", "net.ipv4.ping_group_range=1 0"], "10.0.2.2")
}

fn traceroute_by_echo(env: &Env) -> Result<()> {
    let out = env.finish(env.belljar(&["run", "--", "traceroute", "-n", "-I", "10.0.2.2"]), 20)?;
    ensure!(out.code == Some(0), "{out:?}");
    ensure!(out.stdout.lines().any(|l| l.starts_with(" 1  10.0.2.2  ") && l.ends_with(" ms")), "{out:?}");
    Ok(())
}
