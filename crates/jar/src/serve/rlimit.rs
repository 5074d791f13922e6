//! `setrlimit` and `prlimit64` of RLIMIT_NOFILE: the limit is the host's, the bound on it (`fs.nr_open`) the stack's.
use super::{Outcome, attempt};
use crate::jar::Jar;
use belljar_abi::Errno;
use belljar_host::memory;
use belljar_host::seccomp::{Notification, Sys};

impl Jar {
    #[doc(alias = "do_prlimit")]
    pub(super) fn sys_rlimit(&mut self, listener: u32, note: &Notification) -> Outcome {
        let at = note.word(if note.sys == Sys::Prlimit64 { 2 } else { 1 });
        let mut limit = [0; 16];
        attempt!(memory::read(note.tid, at, &mut limit).map_err(|_| Errno::EFAULT));
        let hard = limit.last_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
        let host = self.host_of(listener);
        let most = self.machines.get(host).map_or(u64::MAX, |m| u64::from(m.k.net.sysctl.nr_open));
        if hard > most { Errno::EPERM.into() } else { Outcome::Continue }
    }
}
