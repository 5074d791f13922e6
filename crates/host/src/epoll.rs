//! epoll with nanosecond timeouts, and eventfd. The interest list carries a `u64` of the caller's choice.
use crate::{cvt, cvt_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub const IN: u32 = libc::EPOLLIN as u32;
pub const OUT: u32 = libc::EPOLLOUT as u32;
pub const ERR: u32 = libc::EPOLLERR as u32;
pub const HUP: u32 = libc::EPOLLHUP as u32;
pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub const ET: u32 = libc::EPOLLET as u32;

/// Most reports of one wait.
pub const BATCH: usize = 128;

/// One readiness report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub key: u64,
    pub events: u32,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    no_pwait2: bool,
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: plain call; the result is checked.
        let fd = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just created and nobody else owns it.
        Ok(Epoll { fd: unsafe { OwnedFd::from_raw_fd(fd) }, no_pwait2: false })
    }

    fn ctl(&self, op: libc::c_int, fd: &impl AsFd, events: u32, key: u64) -> io::Result<()> {
        let mut ev = libc::epoll_event { events, u64: key };
        // SAFETY: both descriptors live through the call and `ev` is a valid event.
        cvt(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd.as_fd().as_raw_fd(), &mut ev) }).map(drop)
    }

    pub fn add(&self, fd: &impl AsFd, events: u32, key: u64) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd, events, key)
    }

    pub fn modify(&self, fd: &impl AsFd, events: u32, key: u64) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd, events, key)
    }

    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits at most `timeout_ns` (for ever when `None`) and replaces the contents of `out`. An interrupting signal
    /// is an empty report.
    pub fn wait(&mut self, timeout_ns: Option<u64>, out: &mut Vec<Ready>) -> io::Result<()> {
        let mut evs = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        out.clear();
        let n = match self.wait_raw(timeout_ns, &mut evs) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => 0,
            other => other?,
        };
        out.extend(evs.iter().take(n).map(|e| Ready { key: e.u64, events: e.events }));
        Ok(())
    }

    fn wait_raw(&mut self, timeout_ns: Option<u64>, evs: &mut [libc::epoll_event; BATCH]) -> io::Result<usize> {
        let (fd, max) = (self.fd.as_raw_fd(), evs.len() as libc::c_int);
        if timeout_ns.is_some_and(|t| t > 0) && !self.no_pwait2 {
            let t = timeout_ns.unwrap_or(0);
            let ts = libc::timespec { tv_sec: (t / 1_000_000_000) as libc::time_t, tv_nsec: (t % 1_000_000_000) as _ };
            let (none, no_size) = (std::ptr::null::<libc::sigset_t>(), 0usize);
            // SAFETY: `evs` has room for `max` events, `ts` is valid, no signal mask is given.
            let r = cvt_long(unsafe {
                libc::syscall(libc::SYS_epoll_pwait2, fd, evs.as_mut_ptr(), max, &raw const ts, none, no_size)
            });
            match r {
                Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => self.no_pwait2 = true,
                other => return other.map(|n| n as usize),
            }
        }
        let ms = timeout_ns.map_or(-1, |t| t.div_ceil(1_000_000).min(i32::MAX as u64) as libc::c_int);
        // SAFETY: `evs` has room for `max` events.
        cvt(unsafe { libc::epoll_wait(fd, evs.as_mut_ptr(), max, ms) }).map(|n| n as usize)
    }
}

/// True when `fd` reports any of `events` (POLL* bits equal the EPOLL* ones) right now.
pub fn ready_now(fd: &impl AsFd, events: u32) -> bool {
    poll_now(fd, events) & (events | ERR | HUP) != 0
}

/// The events of `fd` among `events` (and ERR, HUP) right now.
pub fn poll_now(fd: &impl AsFd, events: u32) -> u32 {
    let mut p = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: events as i16, revents: 0 };
    // SAFETY: one valid pollfd, zero timeout.
    let n = unsafe { libc::poll(&mut p, 1, 0) };
    if n > 0 { u32::from(p.revents as u16) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd;

    #[test]
    fn reports_keys_and_times_out_in_nanoseconds() {
        let (a, b) = fd::pair_stream().unwrap();
        let mut ep = Epoll::new().unwrap();
        let mut out = Vec::new();
        ep.add(&a, IN | RDHUP, 42).unwrap();
        let t = crate::clock::monotonic_ns();
        ep.wait(Some(300_000), &mut out).unwrap();
        assert!(out.is_empty() && crate::clock::monotonic_ns() - t >= 300_000);
        fd::write(&b, b"x").unwrap();
        ep.wait(None, &mut out).unwrap();
        assert_eq!(out, [Ready { key: 42, events: IN }]);
        drop(b);
        // A child that another test is just starting may hold the descriptor until it executes its program.
        for _ in 0..500 {
            ep.wait(Some(0), &mut out).unwrap();
            if out[0].events & HUP != 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(out[0].events & HUP != 0);
        ep.remove(&a).unwrap();
        ep.wait(Some(0), &mut out).unwrap();
        assert!(out.is_empty());
    }
}
