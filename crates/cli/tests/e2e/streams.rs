//! What a stream is told beside its bytes, as the host's kernel has it: shutdown, MSG_OOB, MSG_MORE, addresses, AF_UNSPEC.
use crate::harness::{Env, Test, test};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("streams_as_the_host_has_them", &["python3"], streams_as_the_host_has_them),
        test("nobody_waits_behind_a_reset", &["python3"], nobody_waits_behind_a_reset),
        test("a_closed_listener_refuses", &["python3"], a_closed_listener_refuses),
    ]
}

fn streams_as_the_host_has_them(env: &Env) -> Result<()> {
    let program = env.program("streams.py");
    let mut host = env.user("python3");
    host.arg(&program);
    let host = env.finish(host, 30)?;
    ensure!(host.code == Some(0) && host.stdout.lines().count() == 10, "{host:?}");
    for options in [&["--net", "none"][..], &["--net", "none", "--exact"]] {
        let out = env.finish(env.belljar(&[&["run"], options, &["--", "python3", &program]].concat()), 30)?;
        ensure!(out.code == Some(0) && out.stdout == host.stdout, "{options:?}: {out:?}\nhost: {}", host.stdout);
    }
    Ok(())
}

/// The close comes before the connect, in whatever order the supervisor hears of them.
fn a_closed_listener_refuses(env: &Env) -> Result<()> {
    let program = env.program("closed_listener.py");
    for options in [&["--net", "none"][..], &["--net", "none", "--exact"]] {
        let out = env.finish(env.belljar(&[&["run"], options, &["--", "python3", &program]].concat()), 120)?;
        let refused = out.stdout == "{'ConnectionRefusedError': 1500}\n";
        ensure!(out.code == Some(0) && refused, "{options:?}: {out:?}");
    }
    Ok(())
}

/// A write that the stack refuses with the reset takes its error: the reader behind it still hears of it.
fn nobody_waits_behind_a_reset(env: &Env) -> Result<()> {
    let program = env.program("resets.py");
    for options in [&["--net", "none"][..], &["--net", "none", "--exact"]] {
        let out = env.finish(env.belljar(&[&["run"], options, &["--", "python3", &program]].concat()), 120)?;
        ensure!(out.code == Some(0) && out.stdout == "reset\n", "{options:?}: {out:?}");
    }
    Ok(())
}
