//! Datagrams: one at a time in the pair, its address and control messages kept here.
use crate::jar::Jar;
use crate::netlink::Asker;
use crate::socks::{Dgram, Flow, Meta, SockId};
use belljar_abi::Errno;
use belljar_host::fd;
use belljar_kernel::task::call::{Payload, Received};
use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice};

/// Longest datagram: a frame of lo with its header.
pub const MAX: usize = 65_536 + 64;

impl Jar {
    /// EPOLLOUT of our end: a plain read took the datagram.
    pub(crate) fn dgram_taken(&mut self, id: SockId) {
        self.dgram_in(id);
    }

    /// Puts the next datagram into the empty pair.
    pub(crate) fn dgram_in(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        if d.shut & 1 != 0 || d.ring.is_some() {
            return;
        }
        if d.current.is_some() {
            if fd::outq(&s.ours).unwrap_or(0) != 0 {
                return;
            }
            // A plain read that took the record of an error was told it, as well as it can be.
            if d.current.take().is_some_and(|m| m.error != 0) {
                self.take_pending(id);
            }
        }
        let pending = self.pending(id);
        if pending != 0 {
            return self.dgram_error(id, Errno(pending));
        }
        let next = match self.next_datagram(id) {
            Ok(next) => next,
            Err(Errno::EAGAIN) => return self.watch_out(id, false),
            Err(e) => return self.dgram_error(id, e),
        };
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        let slices: Vec<IoSlice<'_>> = next.segs.iter().take(1024).map(|p| IoSlice::new(p.as_slice())).collect();
        if fd::send_vectored(&s.ours, &slices).is_ok() {
            d.current =
                Some(Meta { from: next.from, cmsgs: next.cmsgs, flags: next.flags, len: next.full_len, error: 0 });
            self.watch_out(id, true);
        }
    }

    /// The error that the next call on the socket is told.
    fn pending(&self, id: SockId) -> i32 {
        let Some(s) = self.socks.get(id) else { return 0 };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get(s.host)) else { return 0 };
        m.pending_error(kfd)
    }

    pub(crate) fn take_pending(&mut self, id: SockId) -> i32 {
        let Some(s) = self.socks.get(id) else { return 0 };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return 0 };
        m.take_error(self.now, kfd)
    }

    /// A call was told the pending error: nobody needs to be woken for it any more.
    pub(crate) fn error_told(&mut self, id: SockId, copy: &impl std::os::fd::AsFd) {
        if self.pending(id) != 0 {
            return;
        }
        if let Some(Flow::Dgram(d)) = self.socks.get_mut(id).map(|s| &mut s.flow)
            && d.current.as_ref().is_some_and(|m| m.error != 0)
        {
            d.current = None;
            let _ = fd::recv(copy, &mut [0], false);
        }
    }

    /// A pending error (an ICMP message about a datagram sent): an empty record wakes who polls, and the call that
    /// follows learns of it.
    fn dgram_error(&mut self, id: SockId, error: Errno) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        if fd::send(&s.ours, &[]).is_ok() {
            d.current = Some(Meta { error: error.0, ..Meta::default() });
            self.watch_out(id, true);
        }
    }

    /// Takes the next datagram that is not in the pair.
    fn next_datagram(&mut self, id: SockId) -> Result<Received, Errno> {
        let s = self.socks.get_mut(id).ok_or(Errno::EAGAIN)?;
        let Flow::Dgram(d) = &mut s.flow else { return Err(Errno::EAGAIN) };
        if let Some(nl) = &mut d.netlink {
            return nl.next(0);
        }
        let kfd = s.fd.ok_or(Errno::EAGAIN)?;
        self.machines.get_mut(s.host).ok_or(Errno::EAGAIN)?.recv(self.now, kfd, MAX, 0)
    }

    /// Sends what the program wrote without an address.
    pub(crate) fn dgram_out(&mut self, id: SockId) {
        loop {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Dgram(d) = &mut s.flow else { return };
            let data = match d.unsent.take() {
                Some(data) => data,
                None if d.shut & 2 != 0 => return,
                None => {
                    let mut buf = vec![0; 0];
                    match fd::recv_append(&s.ours, &mut buf, MAX) {
                        // A record of length 0 and the end look alike; HUP follows the latter.
                        Ok(0)
                            if s.closed
                                || belljar_host::epoll::poll_now(&s.ours, 1) & belljar_host::epoll::HUP != 0 =>
                        {
                            return;
                        }
                        Ok(_) => buf,
                        Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => return,
                    }
                }
            };
            // A pending error is told to a call that hears it; the program believes this one sent.
            let had = self.pending(id);
            let mut sent = self.dgram_send(id, &data, 0, None, &[]);
            if had != 0 && sent == Err(Errno(had)) {
                sent = self.dgram_send(id, &data, 0, None, &[]);
            }
            if let Err(Errno::EAGAIN) = sent {
                if let Some(s) = self.socks.get_mut(id)
                    && let Flow::Dgram(Dgram { unsent, .. }) = &mut s.flow
                {
                    *unsent = Some(data);
                }
                return;
            }
        }
    }

    /// Hands a datagram to the kernel, or a request to netlink.
    pub(crate) fn dgram_send(
        &mut self,
        id: SockId,
        data: &[u8],
        flags: i32,
        to: Option<&[u8]>,
        cmsgs: &[belljar_kernel::task::call::Cmsg],
    ) -> Result<usize, Errno> {
        if self.socks.get(id).is_some_and(asks_about_sockets) {
            self.settle_all();
        }
        let is_netlink = |s: &crate::socks::Sock| matches!(&s.flow, Flow::Dgram(d) if d.netlink.is_some());
        let tid = self.socks.get(id).filter(|s| is_netlink(s)).map(|s| s.hint.tid);
        let privileged = tid.is_some_and(|tid| self.privileged(tid));
        let Some(s) = self.socks.get_mut(id) else { return Err(Errno::EBADF) };
        let Flow::Dgram(d) = &mut s.flow else { return Err(Errno::EBADF) };
        let Some(m) = self.machines.get_mut(s.host) else { return Err(Errno::EBADF) };
        if let Some(nl) = &mut d.netlink {
            let (tasks, spaces, tid) = (RefCell::new(&mut self.tasks), &self.spaces, tid.unwrap_or(0));
            let netns = |by| spaces.resolve(&mut tasks.borrow_mut(), tid, by);
            nl.request(self.now, m, &Asker { privileged, netns: &netns }, data);
            self.tell_notices();
            // Who waits already takes the answer; it lies in the pair only for a plain read.
            self.retry_parked(id);
            self.dgram_in(id);
            return Ok(data.len());
        }
        let kfd = s.fd.ok_or(Errno::EBADF)?;
        m.send_to(self.now, kfd, Payload::Bytes(data), flags, to, cmsgs)
    }
}

fn asks_about_sockets(s: &crate::socks::Sock) -> bool {
    matches!(&s.flow, Flow::Dgram(Dgram { netlink: Some(nl), .. }) if nl.is_sock_diag())
}
