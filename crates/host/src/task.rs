//! The program's threads as the supervisor needs them: copies of their descriptors, and which signals wait for them.
//!
//! A notification carries a *thread* id. Where the kernel has PIDFD_THREAD (6.9) the pidfd is of the thread itself, so a
//! cached one can only go stale, never mean somebody else; before that the group leader is looked up every time.
use crate::{cvt, cvt_long};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// At most so many threads are remembered; then the memory starts anew.
const MAX_CACHED: usize = 1024;

fn pidfd_open(pid: u32, flags: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain call with integer arguments.
    let fd = cvt_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })?;
    // SAFETY: `fd` was just created for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A descriptor for the process `pid`; readable when it ends.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    pidfd_open(pid, 0)
}

/// Takes a copy of descriptor `fd` of the process behind `pidfd`.
pub fn getfd(pidfd: &OwnedFd, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain call with integer arguments.
    let got = cvt_long(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    // SAFETY: `got` was just created for us (close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(got as i32) })
}

/// The process (thread group) of a thread, from `/proc/TID/status`.
pub fn tgid(tid: u32) -> Option<u32> {
    field(&std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?, "Tgid:")?.parse().ok()
}

/// Whether the process of a thread has the file with this inode, which is not on a disk, in its memory.
pub fn maps(tid: u32, inode: u64) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{tid}/maps")).unwrap_or_default();
    maps.lines().any(|l| l.split_whitespace().nth(4).and_then(|i| i.parse().ok()) == Some(inode))
}

/// Whether a descriptor of a thread is closed by exec, from `/proc/TID/fdinfo`.
pub fn is_cloexec(tid: u32, fd: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = field(&info, "flags:").and_then(|f| i32::from_str_radix(f, 8).ok());
    flags.is_some_and(|f| f & libc::O_CLOEXEC != 0)
}

/// The effective user of a thread, from `/proc/TID/status`.
pub fn euid(tid: u32) -> Option<u32> {
    effective(tid, "Uid:")
}

/// Its effective group.
pub fn egid(tid: u32) -> Option<u32> {
    effective(tid, "Gid:")
}

/// PIDFD_GET_INFO (Linux 6.13): what it is asked for and answers, as far as it is needed here.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
const PIDFD_INFO_CREDS: u64 = 2;

/// Effective user and group of the thread behind `pidfd`, where the kernel can tell.
fn creds(pidfd: &OwnedFd) -> Option<(u32, u32)> {
    let mut i = PidfdInfo { mask: PIDFD_INFO_CREDS, ..PidfdInfo::default() };
    // SAFETY: the request carries the size of `i`, which the kernel fills.
    let r = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut i) };
    (r == 0 && i.mask & PIDFD_INFO_CREDS != 0).then_some((i.euid, i.egid))
}

fn effective(tid: u32, of: &str) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    field(&status, of)?.split_whitespace().nth(1)?.parse().ok()
}

/// Threads seen, with their pidfds.
#[derive(Debug, Default)]
pub struct Tasks {
    cache: HashMap<u32, OwnedFd>,
    no_thread_pidfd: bool,
}

impl Tasks {
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// A momentary copy of `fd` of thread `tid`. Keep it no longer than the call that asked: it hides the last close.
    /// EBADF as the program itself would get; EPERM when the process does not let itself be traced.
    pub fn copy_fd(&mut self, tid: u32, fd: i32) -> io::Result<OwnedFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if let Some(p) = self.cache.get(&tid) {
            match getfd(p, fd) {
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => drop(self.cache.remove(&tid)),
                other => return other,
            }
        }
        if !self.no_thread_pidfd {
            let got = self.remember(tid).map(|p| getfd(p, fd));
            if !self.no_thread_pidfd {
                return got?;
            }
        }
        let leader = tgid(tid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        getfd(&pidfd_open(leader, 0)?, fd)
    }

    fn remember(&mut self, tid: u32) -> io::Result<&OwnedFd> {
        let p = pidfd_open(tid, libc::PIDFD_THREAD)
            .inspect_err(|e| self.no_thread_pidfd |= e.raw_os_error() == Some(libc::EINVAL))?;
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        Ok(self.cache.entry(tid).insert_entry(p).into_mut())
    }

    /// Effective user and group of a thread. A remembered pidfd of the thread itself answers twenty times as fast as
    /// `/proc/TID/status`.
    pub fn effective_ids(&mut self, tid: u32) -> Option<(u32, u32)> {
        if !self.no_thread_pidfd && !self.cache.contains_key(&tid) {
            let _ = self.remember(tid);
        }
        let known = self.cache.get(&tid).and_then(creds);
        known.or_else(|| Some((euid(tid)?, egid(tid)?)))
    }

    /// Forgets the threads that ended, so that their descriptors do not pile up.
    pub fn sweep(&mut self) {
        self.cache.retain(|_, p| !crate::epoll::ready_now(p, crate::epoll::IN));
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim)
}

fn mask(status: &str, name: &str) -> u64 {
    field(status, name).and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0)
}

/// Signals of a thread, as bit masks (bit 0 is signal 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Pending for this thread alone.
    pub thread: u64,
    /// Pending for the whole process: any thread may take them.
    pub process: u64,
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
    /// Threads in the process.
    pub threads: u32,
}

impl Signals {
    /// Reads them; `None` when the thread is gone.
    pub fn of(tid: u32) -> Option<Signals> {
        let s = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
        Some(Signals {
            thread: mask(&s, "SigPnd:"),
            process: mask(&s, "ShdPnd:"),
            blocked: mask(&s, "SigBlk:"),
            ignored: mask(&s, "SigIgn:"),
            caught: mask(&s, "SigCgt:"),
            threads: field(&s, "Threads:").and_then(|v| v.parse().ok()).unwrap_or(1),
        })
    }

    /// True when a signal is pending that this thread would act on: a call parked for it must return now.
    pub fn deliverable_to_thread(&self) -> bool {
        let own = self.thread | if self.threads == 1 { self.process } else { 0 };
        own & !self.blocked & !self.ignored != 0
    }

    /// True when one is pending for the process that this thread or a sibling may take.
    pub fn deliverable_to_process(&self) -> bool {
        self.process & !self.blocked & !self.ignored != 0
    }
}

/// The command name of a thread or process (`/proc/PID/comm`).
pub fn comm(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|s| s.trim_end().to_owned())
}

/// Sends signal `sig` to process `pid`.
pub fn kill(pid: u32, sig: i32) -> io::Result<()> {
    // SAFETY: plain call with integer arguments.
    cvt(unsafe { libc::kill(pid as libc::pid_t, sig) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd;

    #[test]
    fn copies_descriptors_of_a_thread() {
        let me = std::process::id();
        let (a, _b) = fd::pair_stream().unwrap();
        let mut t = Tasks::new();
        for _ in 0..2 {
            let c = t.copy_fd(me, a.as_raw_fd()).unwrap();
            assert_eq!(fd::socket_inode(&c).unwrap(), fd::socket_inode(&a).unwrap());
        }
        assert_eq!(t.copy_fd(me, 99_999).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(t.copy_fd(me, -1).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(tgid(me), Some(me));
        t.sweep();
    }

    #[test]
    fn rights_are_those_of_the_thread_now() {
        let of = |tid| (euid(tid).unwrap(), egid(tid).unwrap());
        let me = std::process::id();
        let mut t = Tasks::new();
        assert_eq!(t.effective_ids(me), Some(of(me)));
        if of(me).0 != 0 {
            return;
        }
        // A thread of root's becomes somebody else after it was seen.
        std::thread::spawn(move || {
            // SAFETY: plain calls with integer arguments; only this thread's own user changes.
            let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
            assert_eq!(t.effective_ids(tid), Some(of(tid)));
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_setresuid, -1, 12_345, -1) };
            assert_eq!((t.effective_ids(tid), of(tid).0), (Some(of(tid)), 12_345));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn signal_masks_are_read() {
        let s = Signals::of(std::process::id()).unwrap();
        assert!(s.threads >= 1 && !s.deliverable_to_process());
        let s = Signals { thread: 0b100, blocked: 0b010, threads: 3, ..Signals::default() };
        assert!(s.deliverable_to_thread());
        assert!(!Signals { blocked: 0b110, ..s }.deliverable_to_thread());
        assert!(Signals::of(u32::MAX >> 2).is_none());
    }
}
