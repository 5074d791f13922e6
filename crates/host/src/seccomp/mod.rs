//! seccomp user notification: the listener through which a program's calls reach the supervisor.
//!
//! The filter itself is built in [`filter`]; installing it happens in the child, in `spawn`.
pub mod filter;

use crate::{cvt, cvt_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use filter::{Filter, Sys};

/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (6.6).
const SYNC_WAKE_UP: u64 = 1;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    pub id: u64,
    /// The *thread* that called.
    pub tid: u32,
    pub sys: Sys,
    pub args: [u64; 6],
}

impl Notification {
    /// Argument `n` as the C `int` it is.
    pub fn int(&self, n: usize) -> i32 {
        self.args.get(n).map_or(0, |a| *a as i32)
    }

    /// Argument `n` as a pointer or size.
    pub fn word(&self, n: usize) -> u64 {
        self.args.get(n).copied().unwrap_or(0)
    }
}

/// The notification descriptor of one filter. Closing it makes every notified call fail with ENOSYS.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listener {
    /// Takes the descriptor and asks for synchronous wake-ups where the kernel has them: caller and supervisor
    /// hand the CPU to each other, an answer then costs half.
    pub fn new(fd: OwnedFd) -> Listener {
        // SAFETY: the argument of this request is a value, not a pointer.
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        Listener { fd }
    }

    /// Takes the next call; `None` when there is none (any more). Ask only after the descriptor became readable: the
    /// ioctl itself would block.
    pub fn recv(&self) -> io::Result<Option<Notification>> {
        // SAFETY: an all-zero seccomp_notif is valid, and the kernel demands it zeroed.
        let mut n: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: `n` is a seccomp_notif for the kernel to fill.
        match cvt(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut n) }) {
            Ok(_) => {
                let sys = Sys::from_nr(n.data.nr as libc::c_long);
                Ok(Some(Notification { id: n.id, tid: n.pid, sys, args: n.data.args }))
            }
            // ENOENT: the caller died or was interrupted before we looked.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR | libc::EAGAIN)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn send(&self, id: u64, val: i64, error: i32, flags: u32) -> bool {
        let mut r = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: `r` is a valid response.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut r) == 0 }
    }

    /// The call returns `value`. False when nobody waits any more.
    pub fn reply(&self, id: u64, value: i64) -> bool {
        self.send(id, value, 0, 0)
    }

    /// The call fails with `errno` (positive).
    pub fn reply_errno(&self, id: u64, errno: i32) -> bool {
        self.send(id, 0, -errno, 0)
    }

    /// The host kernel executes the call as it is.
    pub fn reply_continue(&self, id: u64) -> bool {
        self.send(id, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    /// Plants a copy of `fd` at the program's lowest free number and makes that number the call's return value, in
    /// one step. ENOENT: nobody waits any more; EMFILE: the program's limit; nothing happened in both cases.
    pub fn reply_fd(&self, id: u64, fd: &impl AsFd, cloexec: bool) -> io::Result<i32> {
        let a = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: fd.as_fd().as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: `a` is a valid request.
        cvt(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &a) })
    }

    /// Puts a copy of `fd` under number `at` of the program, in the place of what was there, while its call waits.
    pub fn plant_at(&self, id: u64, fd: &impl AsFd, at: i32, cloexec: bool) -> io::Result<()> {
        let a = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: fd.as_fd().as_raw_fd() as u32,
            newfd: at as u32,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: `a` is a valid request.
        cvt(unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &a) }).map(drop)
    }

    /// True while the caller still waits for this answer.
    pub fn id_valid(&self, id: u64) -> bool {
        // SAFETY: the request reads one u64.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 }
    }
}

/// Puts `filter` on the calling thread for good and returns the number of its listener (close-on-exec). Sets
/// no_new_privs. For the child between fork and exec: allocates nothing.
///
/// `killable`: calls taken by the supervisor can then only be interrupted by fatal signals, so no answer is lost.
pub(crate) fn install(filter: &Filter, killable: bool) -> io::Result<libc::c_int> {
    // SAFETY: plain call with integer arguments.
    cvt(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let prog = filter.prog();
    let fprog = libc::sock_fprog { len: prog.len() as u16, filter: prog.as_ptr().cast_mut() };
    let mut flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if killable {
        flags |= libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    let op = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `fprog` describes a valid program that lives through the call.
    cvt_long(unsafe { libc::syscall(libc::SYS_seccomp, op, flags, &raw const fprog) }).map(|fd| fd as libc::c_int)
}
