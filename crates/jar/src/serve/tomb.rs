//! Calls on a socket whose connection was reset. Reading and writing are the host kernel's, which says what the broken pair
//! says; everything else asks the stack's socket, which lives on until the program closes its descriptor.
use super::{Outcome, attempt, exact, give_addr, opt, write_mem};
use crate::jar::Jar;
use belljar_abi::{self as abi, Errno};
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{fd, memory, process};
use std::collections::HashSet;
use std::os::fd::OwnedFd;

impl Jar {
    pub(super) fn serve_tomb(&mut self, inode: u64, note: &Notification, copy: &OwnedFd) -> Outcome {
        let Some(tomb) = self.socks.tomb(inode) else { return Outcome::Continue };
        let now = self.now;
        let (Some(kfd), Some(m)) = (tomb.fd, self.machines.get_mut(tomb.host)) else { return Outcome::Continue };
        match note.sys {
            s if self.options.exact && (exact::reads(s) || exact::writes(s)) => {
                // The reset's own error, once, behind what came before it.
                let told = exact::reads(s) && fd::inq(copy).unwrap_or(0) > 0;
                if told || fd::take_error(copy) == 0 { Outcome::Continue } else { Errno(tomb.error).into() }
            }
            Sys::Getpeername | Sys::Shutdown => Errno::ENOTCONN.into(),
            Sys::Getsockname => give_addr(note, 1, 2, tomb.local).map(|()| 0).into(),
            Sys::Getsockopt if (note.int(1), note.int(2)) == (abi::SOL_SOCKET, abi::SO_ERROR) => {
                // The pair knows whether a read or write has told it already.
                let error = if fd::take_error(copy) == 0 { 0 } else { tomb.error };
                opt::give_value(note, &error.to_ne_bytes()).into()
            }
            Sys::Getsockopt => {
                let len = attempt!(opt::room(note));
                opt::give_value(note, &attempt!(m.getsockopt(now, kfd, note.int(1), note.int(2), len))).into()
            }
            Sys::Setsockopt => {
                let len = attempt!(usize::try_from(note.int(4)).map_err(|_| Errno::EINVAL)).min(opt::MAX_VALUE);
                let mut value = vec![0; len];
                attempt!(memory::read(note.tid, note.word(3), &mut value).map_err(|_| Errno::EFAULT));
                m.setsockopt(now, kfd, note.int(1), note.int(2), &value).map(|()| 0).into()
            }
            Sys::Ioctl if matches!(note.word(1) as u32, abi::SIOCINQ | abi::SIOCOUTQ | abi::SIOCOUTQNSD) => {
                let n = attempt!(m.ioctl(now, kfd, note.word(1)));
                write_mem(note.tid, note.word(2), &(n as i32).to_ne_bytes()).map(|()| 0).into()
            }
            Sys::Connect => Errno::ECONNABORTED.into(),
            Sys::Accept | Sys::Accept4 | Sys::Listen | Sys::Bind => Errno::EINVAL.into(),
            _ => Outcome::Continue,
        }
    }

    /// Nothing tells when a program closes a descriptor whose pair is broken: looks who still has one, and lets the
    /// stack's other sockets go.
    pub(crate) fn sweep_tombs(&mut self) {
        if self.socks.tombs() > 0 {
            let all = process::sockets(&process::descendants(std::process::id()));
            let held: HashSet<u64> = all.iter().map(|o| o.inode).collect();
            self.socks.keep_tombs(&held);
        }
        self.close_dead();
    }

    /// Closes what tombs left behind.
    pub(crate) fn close_dead(&mut self) {
        for (host, fd) in self.socks.take_dead() {
            if let Some(m) = self.machines.get_mut(host) {
                m.close(self.now, fd);
            }
        }
    }
}
