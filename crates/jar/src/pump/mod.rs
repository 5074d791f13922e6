//! Moving payload between the planted pairs and the sockets' own queues.
//!
//! What lies in a pair still counts in the kernel's queues: towards the program bytes are *peeked* and leave the receive
//! queue when the program has read them; from the program they are taken only while the send buffer accepts them.
pub mod dgram;
pub mod stream;
pub mod weight;

use crate::jar::Jar;
use crate::key::Key;
use crate::socks::{Dgram, Flow, SockId};
use belljar_host::{epoll, fd};
use std::os::fd::OwnedFd;

/// What of our end is always watched. Of a device's file as many packets are taken as one look may: the rest by level.
pub fn watch(flow: &Flow) -> u32 {
    let edge = if matches!(flow, Flow::Tun(_)) { 0 } else { epoll::ET };
    epoll::IN | epoll::RDHUP | edge
}

impl Jar {
    /// Something happened on our end of a pair.
    pub(crate) fn pair_event(&mut self, id: SockId, events: u32) {
        let Some(s) = self.socks.get(id) else { return };
        if let Flow::Tun(_) = s.flow {
            self.tun_in(id);
            // What is answered leaves with the turn, after the sockets that the packet was for.
            if events & epoll::OUT != 0 {
                self.tun_out(id);
            }
            return if events & epoll::HUP != 0 {
                self.tun_closed(id)
            };
        }
        let dgram = matches!(s.flow, Flow::Dgram(_));
        if !dgram && events & epoll::HUP != 0 && s.shut.is_none() && !s.closed {
            // Closed by everybody: what was written before is read knowing that.
            return self.program_closed(id);
        }
        if events & epoll::OUT != 0 {
            if dgram { self.dgram_in(id) } else { self.stream_in(id) }
        }
        if events & (epoll::IN | epoll::RDHUP | epoll::HUP | epoll::ERR) != 0 {
            if dgram { self.dgram_out(id) } else { self.stream_out(id) }
        }
        if events & epoll::HUP != 0 {
            self.pair_hup(id);
        }
    }

    /// The kernel's epoll says that something about the socket changed.
    pub(crate) fn sock_event(&mut self, id: SockId, events: u32) {
        let Some(s) = self.socks.get(id) else { return };
        match &s.flow {
            Flow::Dgram(d) => {
                let (ring, receives) = (d.ring.is_some(), d.ring.as_ref().is_some_and(|m| m.receives()));
                self.dgram_out(id);
                if ring {
                    self.ring_in(id);
                }
                if receives {
                    return self.retry_parked(id);
                }
                // Who waits already takes the datagram with its address; the pair is for plain reads.
                self.retry_parked(id);
                self.dgram_in(id);
            }
            Flow::Stream(_) => self.stream_event(id, events),
            Flow::Tun(_) => {}
        }
        self.retry_parked(id);
    }

    /// HUP: everybody closed the program's end, unless both halves were shut by calls.
    fn pair_hup(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        if s.closed {
            return;
        }
        if let Some((at, _)) = &mut s.shut {
            // An edge after the shutdowns may be the close; the look decides.
            *at = (*at).min(self.now + 1_000_000);
            return;
        }
        self.program_closed(id);
    }

    /// Out of descriptors: closes that have not been reported yet give theirs back now.
    pub(crate) fn reap_closed(&mut self) {
        let hup = |s: &crate::socks::Sock| !s.closed && epoll::ready_now(&s.ours, epoll::HUP);
        let gone: Vec<SockId> = self.socks.iter().filter(|(_, s)| hup(s)).map(|(id, _)| id).collect();
        for id in gone {
            self.pair_hup(id);
        }
    }

    /// The last descriptor of the program's end is gone.
    fn program_closed(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        s.closed = true;
        s.shut = None;
        match s.flow {
            Flow::Stream(_) => self.stream_closed(id),
            Flow::Tun(_) => self.tun_closed(id),
            Flow::Dgram(_) => {
                self.dgram_out(id);
                self.release(id);
            }
        }
    }

    /// Ends the kernel's socket and forgets ours.
    pub(crate) fn release(&mut self, id: SockId) {
        self.fail_parked(id, belljar_abi::Errno::EBADF);
        self.rings.retain(|r| *r != id);
        let Some(s) = self.socks.remove(id) else { return };
        if let (Flow::Dgram(Dgram { netlink: Some(nl), .. }), Some(m)) = (&s.flow, self.machines.get_mut(s.host)) {
            nl.closed(m);
        }
        if let (Some(fd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) {
            m.close(self.now, fd);
        }
    }

    /// The queues of all streams as the programs have left them, before somebody looks at them.
    pub(crate) fn settle_all(&mut self) {
        for id in self.socks.ids() {
            self.stream_out(id);
            self.settle(id);
            self.dgram_settle(id);
        }
    }

    /// Asks for EPOLLOUT of our end, or stops asking.
    pub(crate) fn watch_out(&mut self, id: SockId, on: bool) {
        let Some(s) = self.socks.get_mut(id) else { return };
        if s.watch_out != on {
            s.watch_out = on;
            let events = watch(&s.flow) | if on { epoll::OUT } else { 0 };
            let _ = self.ep.modify(&s.ours, events, Key::Sock(id).pack());
        }
    }

    /// Both halves are shut: HUP stands from now on and tells nothing. The program's end is looked for instead.
    pub(crate) fn note_shut(&mut self, id: SockId) {
        let now = self.now;
        if let Some(s) = self.socks.get_mut(id)
            && s.shut.is_none()
            && !s.closed
        {
            s.shut = Some((now + 1_000_000, 1_000_000));
            self.shut.push(id);
        }
    }

    pub(crate) fn shut_deadline(&self) -> Option<u64> {
        self.shut.iter().filter_map(|id| self.socks.get(*id)?.shut).map(|(at, _)| at).min()
    }

    /// Looks which of the wholly shut sockets were closed meanwhile.
    pub(crate) fn look_at_shut(&mut self) {
        let now = self.now;
        for id in std::mem::take(&mut self.shut) {
            let Some((at, _)) = self.socks.get(id).and_then(|s| s.shut) else { continue };
            if at > now {
                self.shut.push(id);
                continue;
            }
            let found = self.find_program_end(id).is_some();
            let Some(s) = self.socks.get_mut(id) else { continue };
            if found {
                let wait = s.shut.map_or(0, |(_, w)| (w * 4).min(2_000_000_000));
                s.shut = Some((now + wait, wait));
                self.shut.push(id);
            } else {
                self.program_closed(id);
            }
        }
    }

    /// A momentary copy of the program's end: first where it was last seen, then wherever a descendant has it.
    pub(crate) fn find_program_end(&mut self, id: SockId) -> Option<OwnedFd> {
        let s = self.socks.get(id)?;
        let (hint, inode) = (s.hint, s.inode);
        let ours = |f: &OwnedFd| fd::socket_inode(f).ok().flatten() == Some(inode);
        if let Ok(copy) = self.tasks.copy_fd(hint.tid, hint.fd)
            && ours(&copy)
        {
            return Some(copy);
        }
        let wanted = format!("socket:[{inode}]");
        for pid in belljar_host::process::descendants(std::process::id()) {
            let Ok(dir) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
            for e in dir.flatten() {
                if std::fs::read_link(e.path()).is_ok_and(|l| l.as_os_str() == wanted.as_str())
                    && let Some(n) = e.file_name().to_str().and_then(|n| n.parse().ok())
                    && let Ok(copy) = self.tasks.copy_fd(pid, n)
                    && ours(&copy)
                {
                    if let Some(s) = self.socks.get_mut(id) {
                        s.hint = crate::socks::Hint { tid: pid, fd: n };
                    }
                    return Some(copy);
                }
            }
        }
        None
    }
}
