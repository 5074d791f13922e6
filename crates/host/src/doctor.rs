//! What works on this machine and what is missing, as data: every probe is really tried, nothing is guessed from a version.
use crate::seccomp::Filter;
use crate::signal::Mask;
use crate::spawn::{self, Command, SpawnError};
use crate::{cvt, epoll, fd, memory, process, rundir, task, words};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub name: &'static str,
    pub ok: bool,
    /// `belljar run` does not work without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// What follows from it, in one sentence.
    pub follows: &'static str,
}

fn probe(
    name: &'static str,
    required: bool,
    found: Result<String, String>,
    yes: &'static str,
    no: &'static str,
) -> Probe {
    let ok = found.is_ok();
    Probe { name, ok, required, found: found.unwrap_or_else(|e| e), follows: if ok { yes } else { no } }
}

/// (major, minor) and the whole text of the kernel's release.
pub fn kernel_release() -> (u32, u32, String) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mut n = text.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (n.next().unwrap_or(0), n.next().unwrap_or(0), text)
}

/// Runs every probe.
pub fn probes() -> Vec<Probe> {
    let (major, minor, release) = kernel_release();
    let version = if (major, minor) >= (5, 14) { Ok(release) } else { Err(release) };
    let mut out = vec![probe(
        "kernel",
        true,
        version,
        "new enough (5.14)",
        "belljar run needs Linux 5.14 for descriptors planted in one step",
    )];
    out.extend(interception());
    out.push(yama());
    out.push(user_namespaces());
    out.extend(devices());
    let (soft, hard) = fd::nofile();
    let room =
        if hard >= 4096 { Ok(format!("{soft} soft, {hard} hard")) } else { Err(format!("{soft} soft, {hard} hard")) };
    out.push(probe(
        "descriptors",
        false,
        room,
        "a connection of a program costs the supervisor one",
        "few connections: raise the hard limit of RLIMIT_NOFILE",
    ));
    out.push(probe(
        "runtime directory",
        true,
        rundir::dir().map(|d| d.display().to_string()).map_err(|e| words(&e)),
        "exec, ps and the viewing commands find jars there",
        "set XDG_RUNTIME_DIR to a directory of your own",
    ));
    out
}

/// Starts a program under the filter and tries every step that `run` takes with it.
fn interception() -> Vec<Probe> {
    let command =
        Command { program: "/bin/sleep".into(), args: vec!["10".into()], env: Vec::new(), ..Command::default() };
    let started = spawn::spawn(&command, &Filter::new(false, false), &Mask::current());
    let mut out = Vec::new();
    let (notify, no) = match &started {
        Ok(_) => (Ok("listener installed".to_owned()), ""),
        Err(e @ SpawnError::ListenerPresent) => (Err(e.to_string()), "belljar run cannot work inside that sandbox"),
        Err(e) => (Err(e.to_string()), "belljar run cannot work: the kernel or a container profile refuses seccomp(2)"),
    };
    out.push(probe("seccomp notify", true, notify, "programs can be followed", no));
    let Ok(s) = started else { return out };
    let (a, _b) = match fd::pair_stream() {
        Ok(p) => p,
        Err(_) => return out,
    };
    // Nobody waits under id 0: ENOENT means that the request is understood.
    let send = match s.listener.reply_fd(0, &a, true) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok("ADDFD with SEND".to_owned()),
        Err(e) => Err(words(&e)),
        Ok(_) => Ok("ADDFD with SEND".to_owned()),
    };
    out.push(probe("planting descriptors", true, send, "sockets are real descriptors", "needs Linux 5.14"));
    out.push(probe(
        "killable waits",
        false,
        if s.killable { Ok("WAIT_KILLABLE_RECV".to_owned()) } else { Err("missing (Linux 5.19)".to_owned()) },
        "no answer is lost to a signal",
        "answers lost to signals are repeated by hand, which costs a little",
    ));
    let copy = task::getfd(&s.pidfd, 0).map(|f| format!("pidfd_getfd gives {}", f.as_raw_fd()));
    out.push(probe(
        "copying descriptors",
        true,
        copy.map(|_| "pidfd_getfd".to_owned()).map_err(|e| words(&e)),
        "calls find their socket",
        "the supervisor may not look at its own child: check Yama and container profiles (ptrace)",
    ));
    let mut b = [0u8; 1];
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", s.pid)).unwrap_or_default();
    let at = maps.split('-').next().and_then(|a| u64::from_str_radix(a, 16).ok()).unwrap_or(0);
    out.push(probe(
        "reading memory",
        true,
        memory::read(s.pid, at, &mut b).map(|()| "process_vm_readv".to_owned()).map_err(|e| words(&e)),
        "addresses and options can be read",
        "the supervisor may not read its own child's memory (ptrace)",
    ));
    let mut ep = Vec::new();
    let fine = epoll::Epoll::new().and_then(|mut e| e.wait(Some(1), &mut ep));
    out.push(probe(
        "epoll",
        true,
        fine.map(|()| "epoll_pwait2".to_owned()).map_err(|e| words(&e)),
        "timers are exact",
        "no epoll",
    ));
    let _ = task::kill(s.pid, libc::SIGKILL);
    while process::wait(s.pid).is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    out
}

fn yama() -> Probe {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").map(|s| s.trim().to_owned());
    let found = match scope.as_deref() {
        Err(_) => Ok("no Yama".to_owned()),
        Ok(s @ ("0" | "1")) => Ok(format!("ptrace_scope {s}")),
        Ok(s) if process::euid() == 0 => Ok(format!("ptrace_scope {s}, but we are root")),
        Ok(s) => Err(format!("ptrace_scope {s}")),
    };
    probe("Yama", true, found, "descendants may be inspected", "set kernel.yama.ptrace_scope to 0 or 1")
}

/// What `--net` can attach to besides the gateway.
fn devices() -> [Probe; 3] {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let raw = |family, what: &str| {
        // SAFETY: plain call with integer arguments.
        let fd = cvt(unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: `fd` was just made and is nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(what.to_owned())
    };
    let text = |r: io::Result<String>| r.map_err(|e| words(&e));
    [
        probe(
            "TAP and TUN",
            false,
            text(tun.map(|_| "/dev/net/tun".to_owned())),
            "--net tap=IF and tun=IF; making an interface takes CAP_NET_ADMIN, one that is handed over does not",
            "no --net tap=IF and tun=IF: /dev/net/tun has to be there and open to you",
        ),
        probe(
            "packet sockets",
            false,
            text(raw(libc::AF_PACKET, "AF_PACKET")),
            "--net packet=IF",
            "no --net packet=IF: it takes root (CAP_NET_RAW)",
        ),
        probe(
            "AF_XDP",
            false,
            text(raw(libc::AF_XDP, "AF_XDP")),
            "the kernel has it; --net does not use it, packet=IF is the way to a card",
            "not used: packet=IF is the way to a card",
        ),
    ]
}

fn user_namespaces() -> Probe {
    let r = std::process::Command::new("unshare").args(["-Urn", "true"]).output();
    let found = match r {
        Ok(o) if o.status.success() => Ok("open".to_owned()),
        Ok(o) => Err(String::from_utf8_lossy(&o.stderr).trim().to_owned()),
        Err(e) => Err(format!("unshare: {}", words(&e))),
    };
    probe(
        "user namespaces",
        false,
        found,
        "comparisons with the host's own stack can run",
        "only comparisons with the host's own stack need them; run does not",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_says_what_follows() {
        let all = probes();
        assert!(all.len() >= 5 && all.iter().all(|p| !p.follows.is_empty() && !p.found.is_empty()), "{all:?}");
        assert!(kernel_release().0 >= 4);
    }
}
