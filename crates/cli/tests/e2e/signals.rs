//! Signal storms: every accept, connect, bind, setsockopt and send takes effect exactly once.

use crate::harness::{Env, Test, test};
use crate::http::build_go;
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("storm_1khz", &["python3"], |env| python(env, "1000", "0")),
        test("storm_1khz_restart", &["python3"], |env| python(env, "1000", "1")),
        test("storm_10khz", &["python3"], |env| python(env, "10000", "0")),
        test("storm_10khz_restart", &["python3"], |env| python(env, "10000", "1")),
        test("storm_go_1khz", &["go"], |env| go(env, "1000")).limit(240),
        test("storm_go_10khz", &["go"], |env| go(env, "10000")).limit(240),
    ]
}

/// The counters of the stack itself: as many opens as connects, no more.
fn opens(env: &Env, name: &str, active: u64, passive: u64) -> Result<()> {
    let nstat = env.ask(&["nstat", name, "-az"])?;
    for (counter, want) in [("TcpActiveOpens", active), ("TcpPassiveOpens", passive)] {
        let line = nstat.lines().find(|l| l.starts_with(counter)).with_context(|| format!("{counter}: {nstat}"))?;
        let got = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        ensure!(got == Some(want), "{counter}: {got:?} instead of {want}");
    }
    Ok(())
}

fn python(env: &Env, hz: &str, restart: &str) -> Result<()> {
    let count: u64 = if env.full { 2000 } else { 200 };
    let mut jar =
        env.run(&["--name", "storm"], &["python3", &env.program("storm.py"), hz, restart, &count.to_string()])?;
    jar.says("done", 100)?;
    let text = jar.stdout();
    let alone = if restart == "1" { "went on late" } else { "EINTR early" };
    for line in [
        format!("alone accept {alone}"),
        format!("alone recv {alone}"),
        "client was interrupted True".into(),
        "client 0 seen exactly once".into(),
        "one more EAGAIN".into(),
    ] {
        ensure!(text.lines().any(|l| l == line), "{line:?} is not in {text:?} {}", jar.stderr());
    }
    // Two more from the calls made with a single signal.
    opens(env, "storm", count + 2, count + 2)
}

fn go(env: &Env, hz: &str) -> Result<()> {
    let binary = build_go(env, "storm.go")?;
    let count: u64 = if env.full { 5000 } else { 500 };
    let mut jar = env.run(&["--name", "storm"], &[&binary, hz, &count.to_string()])?;
    jar.says("done", 100)?;
    ensure!(jar.stdout() == "bad 0 exactly once true\ndone\n", "{:?} {}", jar.stdout(), jar.stderr());
    opens(env, "storm", count, count)
}
