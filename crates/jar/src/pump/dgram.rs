//! Datagrams: copies of the first ones lie in the pair, for plain reads; all stay in the kernel's queue until they are read.
use crate::jar::Jar;
use crate::netlink::Asker;
use crate::socks::{Dgram, Flow, SockId};
use belljar_abi::Errno;
use belljar_abi::netlink::NETLINK_ROUTE;
use belljar_host::fd;
use belljar_kernel::net::netlink::link_set::netns_refs;
use belljar_kernel::task::call::{Payload, Received};
use belljar_wire::Segs;
use std::io::{ErrorKind, IoSlice};

/// Longest datagram: a frame of lo with its header.
pub const MAX: usize = 65_536 + 64;
/// Most datagrams in a pair; our end's send buffer bounds their weight.
const IN_PAIR: usize = 1024;
/// Most that one look takes: what the program's end holds when it is full, and so all that was written before a call.
const ONE_LOOK: usize = 96;

impl Jar {
    /// What plain reads took leaves the kernel's queue.
    pub(crate) fn dgram_settle(&mut self, id: SockId) {
        let read = self.dgram_read(id);
        self.dgram_were_read(id, read);
    }

    /// How many records of the pair have been read since this was last asked.
    pub(crate) fn dgram_read(&mut self, id: SockId) -> usize {
        let Some(s) = self.socks.get_mut(id) else { return 0 };
        let Flow::Dgram(d) = &mut s.flow else { return 0 };
        if d.lying.is_empty() && d.error == 0 {
            return 0;
        }
        let left = fd::outq(&s.ours).unwrap_or(0);
        if d.error != 0 {
            // A plain read that took the record of an error was told it, as well as it can be.
            if left == 0 {
                d.error = 0;
                self.take_pending(id);
            }
            return 0;
        }
        d.lying.read(left)
    }

    pub(crate) fn dgram_were_read(&mut self, id: SockId, n: usize) {
        let Some(s) = self.socks.get_mut(id).filter(|_| n > 0) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        if let Some(nl) = &mut d.netlink {
            (0..n).for_each(|_| nl.was_read());
        } else if let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) {
            m.datagrams_were_read(kfd, n);
        }
    }

    /// Puts copies of datagrams into the pair, as many as it may hold.
    pub(crate) fn dgram_in(&mut self, id: SockId) {
        self.dgram_settle(id);
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        if d.shut & 1 != 0 || d.ring.as_ref().is_some_and(|m| m.receives()) || d.error != 0 {
            return;
        }
        if d.lying.is_empty() {
            let pending = self.pending(id);
            if pending != 0 {
                return self.dgram_error(id, Errno(pending));
            }
        }
        while self.dgram_put(id) {}
        let Some(Flow::Dgram(d)) = self.socks.get(id).map(|s| &s.flow) else { return };
        let (on, quiet) = (!d.lying.is_empty(), d.lying.weight() > self.weights.told);
        self.watch_out(id, on);
        if quiet && !self.quiet.contains(&id) {
            self.quiet.push(id);
        }
    }

    /// Looks at the pairs that hold so much that the host kernel does not tell of what is read.
    pub(crate) fn look_at_quiet(&mut self) {
        for id in std::mem::take(&mut self.quiet) {
            self.dgram_in(id);
        }
    }

    /// One more, if there is one and it has room.
    fn dgram_put(&mut self, id: SockId) -> bool {
        let Some(s) = self.socks.get(id) else { return false };
        let Flow::Dgram(d) = &s.flow else { return false };
        let nth = d.lying.len();
        if nth >= IN_PAIR {
            return false;
        }
        let Some(next) = self.dgram_nth(id, nth) else { return false };
        let own = self.weights.of(next.len());
        let put = self.dgram_copy(id, &next);
        if put
            && let Some(s) = self.socks.get_mut(id)
            && let Flow::Dgram(d) = &mut s.flow
        {
            d.lying.push(own);
        }
        if let Some(m) = self.socks.get(id).and_then(|s| self.machines.get_mut(s.host)) {
            m.k.net.pool.give(next);
        }
        put
    }

    fn dgram_copy(&self, id: SockId, next: &Segs) -> bool {
        let Some(s) = self.socks.get(id) else { return false };
        let slices: Vec<IoSlice<'_>> = next.iter().take(1024).map(|p| IoSlice::new(p.as_slice())).collect();
        fd::send_vectored(&s.ours, &slices).is_ok()
    }

    /// The error that the next call on the socket is told.
    pub(crate) fn pending(&self, id: SockId) -> i32 {
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
            && d.error != 0
        {
            d.error = 0;
            let _ = fd::recv(copy, &mut [0], false);
        }
    }

    /// A pending error (an ICMP message about a datagram sent): an empty record wakes who polls, and the call that
    /// follows learns of it.
    fn dgram_error(&mut self, id: SockId, error: Errno) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(d) = &mut s.flow else { return };
        if fd::send(&s.ours, &[]).is_ok() {
            d.error = error.0;
            self.watch_out(id, true);
        }
    }

    /// Datagrams that wait in the kernel, or answers of netlink.
    pub(crate) fn dgrams(&self, id: SockId) -> usize {
        let Some(s) = self.socks.get(id) else { return 0 };
        match (&s.flow, s.fd, self.machines.get(s.host)) {
            (Flow::Dgram(Dgram { netlink: Some(nl), .. }), ..) => nl.waiting(),
            (Flow::Dgram(_), Some(kfd), Some(m)) => m.datagrams(kfd),
            _ => 0,
        }
    }

    fn dgram_nth(&mut self, id: SockId, nth: usize) -> Option<Segs> {
        let s = self.socks.get_mut(id)?;
        let Flow::Dgram(d) = &mut s.flow else { return None };
        match &d.netlink {
            Some(nl) => nl.nth(nth),
            None => self.machines.get_mut(s.host)?.datagram(s.fd?, nth),
        }
    }

    /// The next datagram of the kernel, or of any socket's error queue, with its address and control messages.
    pub(crate) fn dgram_next(&mut self, id: SockId, room: usize, flags: i32) -> Result<Received, Errno> {
        let s = self.socks.get_mut(id).ok_or(Errno::EBADF)?;
        if let Flow::Dgram(Dgram { netlink: Some(nl), .. }) = &mut s.flow {
            return nl.next(flags);
        }
        let (kfd, m) = (s.fd.ok_or(Errno::EBADF)?, self.machines.get_mut(s.host).ok_or(Errno::EBADF)?);
        m.recv(self.now, kfd, room.min(MAX), flags & !belljar_abi::MSG_TRUNC)
    }

    /// Sends what the program wrote without an address; who writes faster than we look does not keep its reader waiting.
    pub(crate) fn dgram_out(&mut self, id: SockId) {
        for _ in 0..ONE_LOOK {
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
            // Nobody waits for the frames of a ring.
            let flags = belljar_abi::MSG_DONTWAIT;
            let mut sent = self.dgram_send(id, &data, flags, None, &[]);
            if had != 0 && sent == Err(Errno(had)) {
                sent = self.dgram_send(id, &data, flags, None, &[]);
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
        self.again.push(id);
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
        if let Some(done) = self.ring_send(id, flags, to, cmsgs) {
            return done;
        }
        if self.socks.get(id).is_some_and(asks_about_sockets) {
            self.settle_all();
        }
        let is_netlink = |s: &crate::socks::Sock| matches!(&s.flow, Flow::Dgram(d) if d.netlink.is_some());
        let tid = self.socks.get(id).filter(|s| is_netlink(s)).map(|s| s.hint.tid);
        let privileged = tid.is_some_and(|tid| self.privileged(tid));
        let own = tid.map(|tid| self.netlink_port(id, belljar_host::task::tgid(tid).unwrap_or(tid)));
        let Some(s) = self.socks.get_mut(id) else { return Err(Errno::EBADF) };
        let Flow::Dgram(d) = &mut s.flow else { return Err(Errno::EBADF) };
        let Some(m) = self.machines.get_mut(s.host) else { return Err(Errno::EBADF) };
        if let Some(nl) = &mut d.netlink {
            let tid = tid.unwrap_or(0);
            let refs = if nl.protocol == NETLINK_ROUTE { netns_refs(data) } else { Vec::new() };
            let found = |by| Some((by, self.spaces.resolve(&mut self.tasks, tid, by)?));
            let netns: Vec<_> = refs.into_iter().filter_map(found).collect();
            let comm = belljar_host::task::comm(tid).unwrap_or_default();
            let who =
                Asker { privileged, pid: belljar_host::task::tgid(tid).unwrap_or(tid), comm: &comm, netns: &netns };
            nl.autobind(own.unwrap_or(0));
            nl.request(self.now, m, &who, data);
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
