//! `belljar exec`: another program in a host of a running jar. It gets our standard streams, directory, environment and
//! limits; signals that we get are passed on.
use crate::out::{Done, Fail};
use crate::session::{Session, Target};
use belljar_host::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SignalFd};
use belljar_host::{epoll, fd};
use belljar_jar::control::{ExecRequest, Reply, Request};
use clap::Args;
use std::ffi::OsString;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples: belljar exec web -- curl -s http://127.0.0.1/
          belljar exec web -- sh -c 'cat /proc/net/tcp'
          belljar exec web/gw -- python3 client.py 10.0.2.15
          belljar exec --netns blue web -- ip addr")]
pub struct ExecCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Run it in a network namespace of the host, made with `belljar ip JAR netns add NAME`
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Set a variable in the environment of the program
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = crate::parse::pair)]
    pub env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<OsString>,
}

const RELAYED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
/// What docker and env use for a failure of their own.
const OWN_FAILURE: u8 = 125;

pub fn run(c: &ExecCommand) -> Done {
    let text = |s: &OsString| {
        let bad = || Fail::new(format!("{s:?} is not UTF-8, which the control socket cannot carry")).code(OWN_FAILURE);
        s.to_str().map(str::to_owned).ok_or_else(bad)
    };
    let argv = c.program.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let mut env: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    for (k, v) in &c.env {
        env.retain(|(name, _)| name != k);
        env.push((k.clone(), v.clone()));
    }
    let mut target = c.target.clone();
    if let Some(netns) = &c.netns {
        target.enter(netns).map_err(|e| Fail::usage(e).code(OWN_FAILURE))?;
    }
    let request = ExecRequest {
        host: target.host.clone(),
        argv,
        env,
        cwd: std::env::current_dir().ok().and_then(|d| d.to_str().map(str::to_owned)),
        umask: umask(),
        nofile: Some(fd::nofile()),
    };
    let mut session = Session::open(&c.target).map_err(|f| f.code(OWN_FAILURE))?;
    let signals = SignalFd::new(&RELAYED)?;
    match session.client.request(&Request::Exec(request), &[0, 1, 2])? {
        Reply::Started { .. } => {}
        other => return Err(Fail::new(format!("unexpected answer {other:?}")).code(OWN_FAILURE)),
    }
    wait(&mut session, &signals)
}

/// Ours, which can be read nowhere else without changing it.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let octal = status.lines().find_map(|l| l.strip_prefix("Umask:"))?;
    u32::from_str_radix(octal.trim(), 8).ok()
}

/// Passes signals on until the program ends.
fn wait(session: &mut Session, signals: &SignalFd) -> Done {
    let mut ep = epoll::Epoll::new()?;
    ep.add(session.client.socket(), epoll::IN, 0)?;
    ep.add(signals, epoll::IN, 1)?;
    let (mut ready, mut readable) = (Vec::new(), false);
    loop {
        let reply = if readable { Some(session.client.receive()?) } else { session.client.arrived()? };
        match reply {
            Some(Reply::Exited { code }) => return Ok(code),
            Some(other) => return Err(Fail::new(format!("unexpected answer {other:?}")).code(OWN_FAILURE)),
            None => {}
        }
        ep.wait(None, &mut ready)?;
        while let Some(s) = signals.take() {
            session.client.send(&Request::Signal { signal: s.signal }, &[])?;
        }
        readable = ready.iter().any(|r| r.key == 0);
    }
}
