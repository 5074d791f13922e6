//! Rings of packet sockets (PACKET_RX_RING, PACKET_TX_RING) whose memory the program maps, that for receiving first.
//!
//! The program's descriptor is one end of a pair, which can be polled but not mapped; memory can be mapped, but is always
//! readable. So the program gets memory under that number for the moment of its mmap, and the pair again with its next
//! call that we see: before it waits for packets it binds, or asks for statistics. A byte in the pair says that there is
//! something to read; nobody tells us when the program has given its frames back, so that is looked at soon after.
use crate::jar::Jar;
use crate::serve::{Outcome, attempt};
use crate::socks::{Dgram, Flow, SockId};
use belljar_abi::Errno;
use belljar_abi::SockAddr;
use belljar_host::seccomp::Notification;
use belljar_host::{errno, fd, task};
use belljar_kernel::net::packet::ring::{Geometry, Memory, Put, Record, Ring};
use belljar_kernel::net::packet::tx_ring::Walk;
use belljar_kernel::task::call::{Cmsg, Payload, SendMsg};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Between looks whether the program has read: soon at first, then more and more rarely.
const FIRST_LOOK: u64 = 200_000;
const LAST_LOOK: u64 = 10_000_000;

/// The program's descriptor while memory stands in its place.
#[derive(Debug)]
struct Swapped {
    theirs: OwnedFd,
    process: u32,
    number: i32,
    cloexec: bool,
}

/// The rings of a socket and their memory.
#[derive(Debug)]
pub struct Mapped {
    rx: Option<Ring>,
    tx: Option<Geometry>,
    memory: Shared,
    inode: u64,
    swapped: Option<Swapped>,
    /// The byte lies in the pair; when to look next, and how long after that again.
    look: Option<(u64, u64)>,
    /// What a send that waits for its packets has sent, and what it is told when its time is over.
    walked: usize,
    late: Errno,
}

impl Mapped {
    fn new(rx: Option<Ring>, tx: Option<Geometry>) -> Result<Mapped, Errno> {
        let bytes = rx.as_ref().map_or(0, |r| r.geometry().bytes()) + tx.map_or(0, |g| g.bytes());
        let memory = fd::memfd_sealed("belljar-ring", bytes).map_err(|e| Errno(errno(&e)))?;
        let inode = fd::inode(&memory).map_err(|e| Errno(errno(&e)))?;
        let memory = Shared(File::from(memory));
        Ok(Mapped { rx, tx, memory, inode, swapped: None, look: None, walked: 0, late: Errno::EAGAIN })
    }

    /// Packets go to a ring, not into the pair.
    pub fn receives(&self) -> bool {
        self.rx.is_some()
    }

    fn rx_bytes(&self) -> u64 {
        self.rx.as_ref().map_or(0, |r| r.geometry().bytes())
    }

    fn bytes(&self) -> u64 {
        self.rx_bytes() + self.tx.map_or(0, |g| g.bytes())
    }
}

#[derive(Debug)]
struct Shared(File);

impl Shared {
    /// The ring that begins so far behind the beginning.
    fn from(&mut self, base: u64) -> Part<'_> {
        Part { file: &mut self.0, base }
    }

    /// Takes over what a ring had in other memory.
    fn copy_from(&self, at: u64, old: &Shared, from: u64, len: u64) {
        let mut page = [0; 4096];
        for n in (0..len).step_by(page.len()) {
            if old.0.read_exact_at(&mut page, from + n).is_ok() && page.iter().any(|b| *b != 0) {
                let _ = self.0.write_all_at(&page, at + n);
            }
        }
    }
}

struct Part<'a> {
    file: &'a mut File,
    base: u64,
}

impl Memory for Part<'_> {
    /// A program that took the memory away has frames for ever.
    fn read_u32(&mut self, at: u64) -> u32 {
        let mut b = [0; 4];
        self.file.read_exact_at(&mut b, self.base + at).map_or(u32::MAX, |()| u32::from_ne_bytes(b))
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) {
        let _ = self.file.read_exact_at(bytes, self.base + at);
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        // It is sealed at its length, so that this cannot fail but for want of memory: then the frame has old bytes.
        let _ = self.file.write_all_at(bytes, self.base + at);
    }
}

impl Jar {
    fn ring_of(&mut self, id: SockId) -> Option<&mut Mapped> {
        match &mut self.socks.get_mut(id)?.flow {
            Flow::Dgram(Dgram { ring, .. }) => ring.as_deref_mut(),
            _ => None,
        }
    }

    /// Whether the program of this thread has the socket's rings in its memory.
    pub(crate) fn ring_is_mapped(&mut self, id: SockId, tid: u32) -> bool {
        self.ring_of(id).is_some_and(|m| task::maps(tid, m.inode))
    }

    /// After PACKET_RX_RING or, with `sending`, PACKET_TX_RING: the socket has a ring of this form, or none any more. The
    /// other one stays as it is.
    pub(crate) fn set_ring(
        &mut self,
        id: SockId,
        copy: &OwnedFd,
        geometry: Option<Geometry>,
        sending: bool,
    ) -> Result<(), Errno> {
        let Some(Flow::Dgram(d)) = self.socks.get_mut(id).map(|s| &mut s.flow) else { return Err(Errno::EBADF) };
        let (rx, tx) = match (sending, &d.ring) {
            (true, old) => (old.as_ref().and_then(|m| m.rx.clone()), geometry),
            (false, old) => (geometry.map(Ring::new), old.as_ref().and_then(|m| m.tx)),
        };
        let mapped = if rx.is_some() || tx.is_some() { Some(Box::new(Mapped::new(rx, tx)?)) } else { None };
        if let (Some(old), Some(new)) = (&d.ring, &mapped) {
            match sending {
                true => new.memory.copy_from(0, &old.memory, 0, old.rx_bytes()),
                false => {
                    new.memory.copy_from(new.rx_bytes(), &old.memory, old.rx_bytes(), old.bytes() - old.rx_bytes());
                }
            }
        }
        if !sending {
            // What lay in the pair went the way of what lay in the queue.
            while fd::recv(copy, &mut [0; 1], false).is_ok_and(|n| n > 0) {}
            (d.lying, d.error) = Default::default();
        }
        let there = mapped.is_some();
        d.ring = mapped;
        self.rings.retain(|r| *r != id);
        if there {
            self.rings.push(id);
        }
        Ok(())
    }

    /// A send of the program begins. Writes before it that we have not seen had nothing to send but what it will.
    pub(crate) fn ring_send_begins(&mut self, id: SockId) {
        let Some(s) = self.socks.get_mut(id) else { return };
        let Flow::Dgram(Dgram { ring: Some(m), unsent, .. }) = &mut s.flow else { return };
        m.walked = 0;
        if m.tx.is_some() {
            *unsent = None;
            while fd::recv(&s.ours, &mut [0; 1], false).is_ok_and(|n| n > 0) {}
        }
    }

    /// What a send that waits for room is told when its time is over.
    pub(crate) fn late(&mut self, id: SockId) -> Errno {
        self.ring_of(id).map_or(Errno::EAGAIN, |m| m.late)
    }

    /// A send on a socket with a transmit ring, whatever its bytes: what the ring asks for. EAGAIN while it has to wait.
    pub(crate) fn ring_send(
        &mut self,
        id: SockId,
        flags: i32,
        to: Option<&[u8]>,
        cmsgs: &[Cmsg],
    ) -> Option<Result<usize, Errno>> {
        let now = self.now;
        let s = self.socks.get_mut(id)?;
        let Flow::Dgram(Dgram { ring: Some(m), .. }) = &mut s.flow else { return None };
        m.tx?;
        let machine = self.machines.get_mut(s.host)?;
        let packet = machine.packet(s.fd?)?;
        let to = match to.map(belljar_abi::LinkAddr::parse).transpose() {
            Ok(to) => to.map(SockAddr::Link),
            Err(e) => return Some(Err(e)),
        };
        let caps = machine.caps();
        let (data, sent) = (Payload::Bytes(&[]), m.walked);
        let mut msg = SendMsg { data, sent, flags, to, cmsgs: cmsgs.into(), caps, zerocopy: None };
        let base = m.rx_bytes();
        let wait = flags & belljar_abi::MSG_DONTWAIT == 0;
        let done = machine.k.packet_tx_walk(now, packet, &mut m.memory.from(base), &mut msg, wait);
        Some(match done {
            Ok(Walk::Done) => Ok(msg.sent),
            Ok(Walk::Wait(late)) => {
                (m.walked, m.late) = (msg.sent, late);
                Err(Errno::EAGAIN)
            }
            Err(e) => Err(e),
        })
    }

    /// mmap of a descriptor that may be a packet socket of ours.
    pub(crate) fn sys_mmap(&mut self, listener: u32, note: &Notification) -> Outcome {
        let number = note.int(4);
        let Ok(copy) = self.tasks.copy_fd(note.tid, number) else { return Outcome::Continue };
        let Some(id) = fd::socket_inode(&copy).ok().flatten().and_then(|i| self.socks.by_inode(i)) else {
            return Outcome::Continue;
        };
        if self.socks.get(id).is_none_or(|s| s.family != belljar_abi::AF_PACKET) {
            return Outcome::Continue;
        }
        let (length, offset) = (note.word(1), note.word(5));
        let Some(m) = self.ring_of(id) else { return Errno::EINVAL.into() };
        if offset != 0 || length.next_multiple_of(4096) != m.bytes() {
            return Errno::EINVAL.into();
        }
        let memory = attempt!(m.memory.0.try_clone().map_err(|e| Errno(errno(&e))));
        let cloexec = task::is_cloexec(note.tid, number);
        let Some(l) = self.listener(listener) else { return Outcome::Continue };
        attempt!(l.plant_at(note.id, &memory, number, cloexec).map_err(|e| Errno(errno(&e))));
        let process = task::tgid(note.tid).unwrap_or(note.tid);
        if let Some(m) = self.ring_of(id) {
            m.swapped = Some(Swapped { theirs: copy, process, number, cloexec });
        }
        Outcome::Continue
    }

    /// Puts the pairs back that a process of the caller's has lent.
    pub(crate) fn swap_back(&mut self, listener: u32, note: &Notification) {
        for n in 0..self.rings.len() {
            let Some(id) = self.rings.get(n).copied() else { return };
            let Some(Swapped { process, number, cloexec, .. }) = self.ring_of(id).and_then(|m| m.swapped.as_ref())
            else {
                continue;
            };
            let (process, number, cloexec) = (*process, *number, *cloexec);
            if task::tgid(note.tid) != Some(process) {
                continue;
            }
            let there = self.tasks.copy_fd(note.tid, number).ok().and_then(|c| fd::inode(&c).ok());
            let Some(m) = self.ring_of(id) else { continue };
            let ours = there == Some(m.inode);
            // Closed or replaced meanwhile: then nothing is to be put back.
            if let Some(s) = m.swapped.take().filter(|_| ours)
                && let Some(l) = self.listener(listener)
            {
                let _ = l.plant_at(note.id, &s.theirs, number, cloexec);
            }
        }
    }

    pub(crate) fn has_swapped(&self) -> bool {
        let lent = |id: &SockId| {
            let flow = self.socks.get(*id).map(|s| &s.flow);
            matches!(flow, Some(Flow::Dgram(Dgram { ring: Some(m), .. })) if m.swapped.is_some())
        };
        self.rings.iter().any(lent)
    }

    /// Whose process has ended without another call gives the pair back here.
    pub(crate) fn sweep_swapped(&mut self) {
        for id in self.rings.clone() {
            if let Some(m) = self.ring_of(id)
                && m.swapped.as_ref().is_some_and(|s| task::tgid(s.process).is_none())
            {
                m.swapped = None;
            }
        }
    }

    /// Moves what came into the ring, gives back what was sent from the other, and tells the program if there is something to read.
    pub(crate) fn ring_in(&mut self, id: SockId) {
        let now = self.now;
        let Some(s) = self.socks.get_mut(id) else { return };
        let (host, kfd) = (s.host, s.fd);
        let Flow::Dgram(Dgram { ring: Some(m), .. }) = &mut s.flow else { return };
        let (Some(kfd), Some(machine)) = (kfd, self.machines.get_mut(host)) else { return };
        let Some(packet) = machine.packet(kfd) else { return };
        let wall = machine.k.net.env.wall_offset;
        if m.tx.is_some() {
            let base = m.rx_bytes();
            machine.k.packet_tx_ended(packet, &mut m.memory.from(base));
        }
        let Some(rx) = &mut m.rx else { return };
        let memory = &mut m.memory.from(0);
        while let Some(w) = machine.k.packet_ring_pop(packet) {
            let Some(sock) = machine.k.socks.packet.get(packet) else { return };
            let record = Record::new(sock, &w, wall);
            let put = rx.put(memory, &record, now);
            machine.k.packet_ring_done(packet, w, put == Put::Done);
        }
        rx.retire(memory, now);
        if m.look.is_none() && rx.readable(memory) && fd::send(&s.ours, b"\0").is_ok() {
            m.look = Some((now + FIRST_LOOK, FIRST_LOOK));
        }
    }

    pub(crate) fn ring_deadline(&self) -> Option<u64> {
        let due = |id: &SockId| match self.socks.get(*id).map(|s| &s.flow) {
            Some(Flow::Dgram(Dgram { ring: Some(m), .. })) => {
                m.rx.as_ref()?.deadline().into_iter().chain(m.look.map(|l| l.0)).min()
            }
            _ => None,
        };
        self.rings.iter().filter_map(due).min()
    }

    /// Blocks that are due, and bytes in pairs whose rings were read.
    pub(crate) fn rings_due(&mut self) {
        let now = self.now;
        for n in 0..self.rings.len() {
            let Some(id) = self.rings.get(n).copied() else { return };
            self.ring_in(id);
            let Some(m) = self.ring_of(id) else { continue };
            let (Some((at, wait)), Some(rx)) = (m.look.filter(|l| l.0 <= now), &m.rx) else { continue };
            if rx.readable(&mut m.memory.from(0)) {
                let wait = (wait * 2).min(LAST_LOOK);
                m.look = Some((at.max(now) + wait, wait));
                continue;
            }
            m.look = None;
            if let Some(end) = self.find_program_end(id) {
                let _ = fd::recv(&end, &mut [0; 1], false);
            }
        }
    }
}
