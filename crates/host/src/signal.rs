//! Signals as readable events (signalfd), and the mask that a program started by us gets back.
use crate::cvt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub const SIGINT: i32 = libc::SIGINT;
pub const SIGTERM: i32 = libc::SIGTERM;
pub const SIGHUP: i32 = libc::SIGHUP;
pub const SIGQUIT: i32 = libc::SIGQUIT;
pub const SIGKILL: i32 = libc::SIGKILL;
pub const SIGCHLD: i32 = libc::SIGCHLD;
pub const SIGSYS: i32 = libc::SIGSYS;
pub const SIGUSR1: i32 = libc::SIGUSR1;
pub const SIGUSR2: i32 = libc::SIGUSR2;
pub const SIGWINCH: i32 = libc::SIGWINCH;
pub const SIGPIPE: i32 = libc::SIGPIPE;
pub const SIGCONT: i32 = libc::SIGCONT;

/// A signal mask.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: the set is emptied before use; sigaddset only fails for numbers that are no signals.
    unsafe {
        let mut s = std::mem::zeroed();
        libc::sigemptyset(&mut s);
        for sig in signals {
            libc::sigaddset(&mut s, *sig);
        }
        s
    }
}

impl Mask {
    /// The mask of the calling thread.
    pub fn current() -> Mask {
        let mut old = set_of(&[]);
        // SAFETY: a null set only reads.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut old) };
        Mask(old)
    }

    /// Makes it the mask of the calling thread. Async-signal-safe.
    pub fn restore(&self) {
        // SAFETY: the set is valid.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// A signal that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub signal: i32,
    /// Sent by the terminal (Ctrl-C): the whole foreground group, our programs included, has it already.
    pub from_terminal: bool,
    pub sender: u32,
}

/// Blocks `signals` for the calling thread and turns them into events.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
    before: Mask,
}

impl SignalFd {
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        let set = set_of(signals);
        let before = Mask::current();
        // SAFETY: the set is valid.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        // SAFETY: the set is valid; the result is checked.
        let fd = cvt(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: `fd` was just created for us.
        Ok(SignalFd { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before })
    }

    /// The mask from before: what a program started by us must get.
    pub fn before(&self) -> &Mask {
        &self.before
    }

    /// Takes the next signal, if one came.
    pub fn take(&self) -> Option<Taken> {
        // SAFETY: an all-zero signalfd_siginfo is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has `size` bytes of room and any bytes are valid for it.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size) };
        (n == size as isize).then_some(Taken {
            signal: info.ssi_signo as i32,
            from_terminal: info.ssi_code == libc::SI_KERNEL,
            sender: info.ssi_pid,
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        self.before.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_become_events() {
        let s = SignalFd::new(&[SIGUSR1]).unwrap();
        assert_eq!(s.take(), None);
        // SAFETY: sends a signal to this thread, which has it blocked.
        unsafe { libc::pthread_kill(libc::pthread_self(), SIGUSR1) };
        let t = s.take().unwrap();
        assert_eq!((t.signal, t.from_terminal, t.sender), (SIGUSR1, false, std::process::id()));
    }
}
