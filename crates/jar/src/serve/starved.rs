//! Programs that ran out of descriptors: the stack has the connection and nobody can take it, so the account says why.
use crate::jar::Jar;
use crate::options::Starved;
use belljar_abi::{Errno, SockAddr};
use belljar_host::process;

/// Programs and places remembered.
const MOST: usize = 16;

impl Jar {
    /// A call of thread `tid` found no descriptor: an accept on `at`, or `socket`.
    pub(super) fn note_starved(&mut self, tid: u32, at: SockAddr, errno: Errno) {
        if !matches!(errno, Errno::EMFILE | Errno::ENFILE) {
            return;
        }
        let at = at.to_ip();
        let program = process::name(tid);
        if let Some(s) = self.starved.iter_mut().find(|s| s.program == program && (s.at, s.errno) == (at, errno)) {
            s.count += 1;
        } else if self.starved.len() < MOST {
            let limit = process::open_files(tid);
            self.starved.push(Starved { program, at, errno, limit, count: 1 });
        }
    }
}
