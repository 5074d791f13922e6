//! The program's processes as a family: adopting orphans, reaping, finding and ending descendants.
use crate::{cvt, task};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a shell reports it: the code, or 128 + signal.
    pub fn shell_code(self) -> u8 {
        match self {
            Exit::Code(c) => c as u8,
            Exit::Signal(s) => 128u8.wrapping_add(s as u8),
        }
    }

    fn of(status: libc::c_int) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }
}

/// Orphans of the program become our children instead of init's.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: plain call with integer arguments.
    cvt(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// This process dies with `sig` when its parent does.
pub fn die_with_parent(sig: i32) {
    // SAFETY: plain call with integer arguments.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, sig, 0, 0, 0) };
}

/// The name of thread or process `pid`, `?` when it is gone.
pub fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".to_owned(), |s| s.trim_end().to_owned())
}

/// How many descriptors `pid` may have (RLIMIT_NOFILE).
pub fn open_files(pid: u32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

/// Takes the exit of child `pid` if it has ended.
pub fn wait(pid: u32) -> Option<Exit> {
    let mut st = 0;
    // SAFETY: `st` is an int to fill.
    let r = unsafe { libc::waitpid(pid as libc::pid_t, &mut st, libc::WNOHANG) };
    (r > 0).then(|| Exit::of(st))
}

/// Takes the exit of any child that has ended.
pub fn wait_any() -> Option<(u32, Exit)> {
    let mut st = 0;
    // SAFETY: `st` is an int to fill.
    let r = unsafe { libc::waitpid(-1, &mut st, libc::WNOHANG) };
    (r > 0).then(|| (r as u32, Exit::of(st)))
}

/// True when no child is left, ended or not.
pub fn no_children() -> bool {
    // SAFETY: an all-zero siginfo is valid; the kernel fills it; WNOWAIT leaves the child as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &mut info, how) < 0
    }
}

/// (pid, parent) of every process that can be seen, zombies left out.
fn parents() -> Vec<(u32, u32)> {
    let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
    dir.flatten()
        .filter_map(|e| {
            let pid: u32 = e.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name may hold anything; the fields begin after the last parenthesis.
            let mut f = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = f.next()?;
            let ppid = f.next()?.parse().ok()?;
            (state != "Z" && state != "X").then_some((pid, ppid))
        })
        .collect()
}

/// Living descendants of `root`, parents before their children.
pub fn descendants(root: u32) -> Vec<u32> {
    let all = parents();
    let (mut found, mut at) = (vec![root], 0);
    while let Some(&p) = found.get(at) {
        at += 1;
        let next: Vec<u32> =
            all.iter().filter(|(pid, pp)| *pp == p && !found.contains(pid)).map(|(pid, _)| *pid).collect();
        found.extend(next);
    }
    found.remove(0);
    found
}

/// A descriptor that is a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    pub inode: u64,
    pub name: String,
    pub pid: u32,
    pub fd: u32,
}

/// The sockets that these processes have open, as `/proc/PID/fd` shows them.
pub fn sockets(pids: &[u32]) -> Vec<OpenSocket> {
    let mut out = Vec::new();
    for &pid in pids {
        let Ok(dir) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let known = out.len();
        for e in dir.flatten() {
            let Ok(link) = std::fs::read_link(e.path()) else { continue };
            let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let fd = e.file_name().to_str().and_then(|n| n.parse().ok());
            if let (Some(inode), Some(fd)) = (inode, fd) {
                out.push(OpenSocket { inode, name: String::new(), pid, fd });
            }
        }
        if out.len() > known {
            let name = name(pid);
            out.iter_mut().skip(known).for_each(|o| o.name.clone_from(&name));
        }
    }
    out
}

/// Device and inode number of everything that these processes have open.
pub fn open_identities(pids: &[u32]) -> HashSet<(u64, u64)> {
    let dirs = pids.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok());
    let files = dirs.flatten().flatten().filter_map(|e| std::fs::metadata(e.path()).ok());
    files.map(|m| (m.dev(), m.ino())).collect()
}

/// Sends `sig` to all living descendants of this process; returns how many there were.
pub fn kill_descendants(sig: i32) -> usize {
    let all = descendants(std::process::id());
    for pid in &all {
        let _ = task::kill(*pid, sig);
    }
    all.len()
}

/// The file that `program` would be found as in our own PATH.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(OsStr::new(program))).find(|p| p.is_file())
}

/// Effective user id.
pub fn euid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// True when process `pid` exists.
pub fn alive(pid: u32) -> bool {
    match task::kill(pid, 0) {
        Ok(()) => true,
        Err(e) => e.raw_os_error() == Some(libc::EPERM),
    }
}

/// Disconnects the standard output streams of this process from whoever reads them, at exit of a background jar.
pub fn ignore_sigpipe() {
    // SAFETY: sets a disposition, no handler is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Runs before everything that is not real time (SCHED_FIFO, CAP_SYS_NICE), and wakes when asked to, not some µs later.
pub fn real_time(priority: i32) -> io::Result<()> {
    let p = libc::sched_param { sched_priority: priority };
    // SAFETY: `p` is a valid parameter; 0 is the calling thread.
    crate::cvt(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const p) })?;
    // SAFETY: PR_SET_TIMERSLACK takes its arguments by value.
    crate::cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_through_generations() {
        let mut sh = std::process::Command::new("sh").args(["-c", "sleep 20 & wait"]).spawn().unwrap();
        let me = std::process::id();
        for _ in 0..200 {
            if descendants(sh.id()).len() == 1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let all = descendants(me);
        assert!(all.contains(&sh.id()) && alive(sh.id()));
        for pid in descendants(sh.id()) {
            task::kill(pid, libc::SIGKILL).unwrap();
        }
        let _ = sh.kill();
        sh.wait().unwrap();
        assert_eq!(Exit::Signal(9).shell_code(), 137);
    }
}
