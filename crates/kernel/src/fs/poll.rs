//! poll(2): ask every file, sleep on all of them. select(2) is the same with other masks; drivers translate it.
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::rps;
use crate::net::switch;
use crate::task::call::{PollFd, WaitOn};
use crate::task::wait::PollMask;
use belljar_abi::{POLLERR, POLLHUP, POLLNVAL};

impl Kernel {
    /// The poll mask of an open file.
    pub(crate) fn vfs_poll(&mut self, file: FileId) -> PollMask {
        match self.files.files.get(file).map(|f| f.kind) {
            Some(FileKind::Sock(sock)) => {
                rps::record_flow(self, sock);
                switch::poll(self, sock)
            }
            Some(FileKind::Epoll(ep)) => self.ep_eventpoll_poll(ep),
            None => POLLNVAL,
        }
    }

    /// Fills in `revents`; returns how many have some. Negative descriptors are passed over.
    pub(crate) fn do_poll(&mut self, process: ProcId, fds: &mut [PollFd]) -> i64 {
        let mut n = 0;
        for p in fds {
            p.revents = match u32::try_from(p.fd) {
                Err(_) => 0,
                Ok(fd) => match self.fd_file(process, fd) {
                    Err(_) => POLLNVAL as u16,
                    Ok(file) => self.vfs_poll(file) as u16 & (p.events | (POLLERR | POLLHUP) as u16),
                },
            };
            n += i64::from(p.revents != 0);
        }
        n
    }

    /// The queues in which a poll stands while it sleeps.
    pub(crate) fn poll_queues(&self, process: ProcId, fds: &[PollFd]) -> Vec<(WaitOn, FileId, PollMask)> {
        let place = |p: &PollFd| {
            let file = self.fd_file(process, u32::try_from(p.fd).ok()?).ok()?;
            Some((self.wait_on(file)?, file, PollMask::from(p.events) | POLLERR | POLLHUP))
        };
        fds.iter().filter_map(place).collect()
    }
}
