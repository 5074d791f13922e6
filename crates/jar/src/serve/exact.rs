//! `--exact`: payload and polls are notified as well, and wherever the pair would say something else than the stack (no
//! connection, a full buffer, a pending error, an urgent byte), the stack answers. Bytes of an open stream are read from
//! the pair all the same, by the host kernel; they are there already.
//!
//! epoll is left out: which descriptors an instance watches belongs to the host kernel, and so do its answers.
use super::msg::{MAX_IOV, gather_some, scatter, word};
use super::{Asked, Outcome, attempt};
use crate::jar::Jar;
use crate::socks::{Flow, PAIR_MAX, Phase, SockId};
use belljar_abi::{self as abi, Errno};
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{epoll, fd, memory};
use belljar_kernel::task::call::Payload;
use std::os::fd::OwnedFd;

/// Most that one write hands over.
pub(super) const WRITE_MAX: usize = 4 << 20;
/// Descriptors of one poll that are looked at; more are left to the host kernel.
const MAX_POLL: usize = 4096;
/// What select's three sets mean (select(2), "Correspondence between select() and poll()").
const SETS: [u32; 3] = [
    abi::POLLIN | abi::POLLRDNORM | abi::POLLRDBAND | abi::POLLHUP | abi::POLLERR,
    abi::POLLOUT | abi::POLLWRNORM | abi::POLLWRBAND | abi::POLLERR,
    abi::POLLPRI,
];
const ALWAYS: u32 = abi::POLLERR | abi::POLLHUP;

pub(super) fn reads(sys: Sys) -> bool {
    matches!(sys, Sys::Read | Sys::Readv | Sys::Recvfrom)
}

pub(super) fn writes(sys: Sys) -> bool {
    matches!(sys, Sys::Write | Sys::Writev | Sys::Sendto)
}

/// Where the payload of a read or write lies, and its flags.
pub(super) fn payload(note: &Notification) -> Result<(Vec<(u64, usize)>, i32), Errno> {
    let len = usize::try_from(note.word(2)).unwrap_or(usize::MAX);
    match note.sys {
        Sys::Readv | Sys::Writev if len > MAX_IOV => Err(Errno::EINVAL),
        Sys::Readv | Sys::Writev => {
            let mut raw = vec![0u8; len * 16];
            memory::read(note.tid, note.word(1), &mut raw).map_err(|_| Errno::EFAULT)?;
            Ok((raw.chunks_exact(16).map(|c| (word(c, 0), word(c, 8) as usize)).collect(), 0))
        }
        Sys::Read | Sys::Write => Ok((vec![(note.word(1), len)], 0)),
        _ => Ok((vec![(note.word(1), len)], note.int(3))),
    }
}

/// One descriptor of a poll or select.
struct Look {
    fd: i32,
    /// Index in the program's array; for select unused.
    at: usize,
    events: u32,
    copy: OwnedFd,
    sock: Option<SockId>,
    mask: u32,
}

/// The program's memory that a poll reads and answers in.
enum Place {
    Array(Vec<u8>),
    /// Three sets with their addresses; 0 is none.
    Sets([(u64, Vec<u8>); 3]),
}

impl Jar {
    /// A read or write of a stream.
    pub(super) fn exact_stream(&mut self, a: &Asked<'_>) -> Outcome {
        let (iov, flags) = attempt!(payload(a.note));
        if writes(a.note.sys) {
            return self.send_stream(a, &iov, flags);
        }
        let Some(Flow::Stream(st)) = self.socks.get(a.id).map(|s| &s.flow) else { return Outcome::Continue };
        if (st.phase == Phase::Open && !st.read_shut) || flags & (abi::MSG_OOB | abi::MSG_ERRQUEUE) != 0 {
            return Outcome::Continue;
        }
        self.take_back(a);
        let room = iov.iter().fold(0usize, |n, (_, l)| n.saturating_add(*l)).min(PAIR_MAX);
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        match m.recv(now, kfd, room, flags & abi::MSG_PEEK) {
            Ok(got) => {
                let data = got.segs.to_vec();
                scatter(a.note.tid, &iov, &data).map(|()| data.len() as i64).into()
            }
            Err(Errno::EAGAIN) if flags & abi::MSG_DONTWAIT == 0 && !a.nonblock() => self.wait(a, abi::SO_RCVTIMEO),
            Err(e) => e.into(),
        }
    }

    /// After SHUT_RD nothing reaches the pair any more: what lies there is read from the kernel's queue, where it still is.
    fn take_back(&mut self, a: &Asked<'_>) {
        self.settle(a.id);
        let Some(s) = self.socks.get_mut(a.id) else { return };
        let Flow::Stream(st) = &mut s.flow else { return };
        if !st.read_shut || st.batches.is_empty() {
            return;
        }
        let mut thrown = vec![0; PAIR_MAX];
        while fd::recv(&a.copy, &mut thrown, false).is_ok_and(|n| n > 0) {}
        st.batches.clear();
        (st.in_pair, st.ahead) = (0, 0);
    }

    /// A write of a stream, behind what the program wrote before.
    pub(super) fn send_stream(&mut self, a: &Asked<'_>, iov: &[(u64, usize)], flags: i32) -> Outcome {
        let data = attempt!(gather_some(a.note.tid, iov, WRITE_MAX));
        self.order(a.id);
        let held = self.socks.get(a.id).is_some_and(|s| matches!(&s.flow, Flow::Stream(st) if !st.unsent.is_empty()));
        let now = self.now;
        let sent = match held {
            true => Err(Errno::EAGAIN),
            false => {
                let (m, kfd) = attempt!(self.kernel_of(a));
                m.send_to(now, kfd, Payload::Bytes(&data), flags & super::FLAGGED, None, &[])
            }
        };
        if let Ok(n) = sent
            && n < data.len()
            && flags & abi::MSG_DONTWAIT == 0
            && !a.nonblock()
            && let Some(s) = self.socks.get_mut(a.id)
            && let Flow::Stream(st) = &mut s.flow
        {
            // The rest goes as room comes, like what is written to the pair.
            st.unsent = belljar_wire::Segs::from(data.get(n..).unwrap_or(&[]).to_vec());
            return Outcome::Reply(Ok(data.len() as i64));
        }
        if sent == Err(Errno::EPIPE) && flags & abi::MSG_NOSIGNAL == 0 {
            let _ = belljar_host::task::kill(a.note.tid, belljar_host::signal::SIGPIPE);
        }
        self.send_outcome(a, flags, sent.map(|n| n as i64))
    }

    /// A read or write of a datagram socket that names no flags.
    pub(super) fn exact_dgram(&mut self, a: &Asked<'_>) -> Outcome {
        let (iov, _) = attempt!(payload(a.note));
        if writes(a.note.sys) {
            let data = attempt!(gather_some(a.note.tid, &iov, crate::pump::dgram::MAX));
            let r = self.send_one(a, &data, 0, &[], &[]);
            return self.send_outcome(a, 0, r);
        }
        let room = iov.iter().fold(0usize, |n, (_, l)| n.saturating_add(*l));
        let r = self.receive(a.id, &a.copy, room, 0).and_then(|got| {
            let data = got.segs.to_vec();
            let n = data.len().min(room);
            scatter(a.note.tid, &iov, data.get(..n).unwrap_or(&[])).map(|()| n as i64)
        });
        self.recv_outcome(a, 0, r)
    }

    /// poll, ppoll, select, pselect6. Where no socket of the stack says something else than its pair, the host kernel
    /// polls and waits.
    pub(super) fn serve_poll(&mut self, note: &Notification, again: bool) -> Outcome {
        if !again {
            self.resolved = None;
            self.turn();
        }
        let Some((place, mut looks)) = self.looks(note) else { return Outcome::Continue };
        let select = matches!(place, Place::Sets(_));
        let mut differs = None;
        for l in &mut looks {
            l.mask = epoll::poll_now(&l.copy, l.events & !ALWAYS);
            let Some(id) = l.sock else { continue };
            let native = std::mem::replace(&mut l.mask, self.mask_of(id, l.events));
            let seen = |mask: u32| if select { SETS.map(|s| mask & s & l.events != 0) } else { [false; 3] };
            if (select && seen(native) != seen(l.mask)) || (!select && native != l.mask) {
                differs = differs.or(Some(id));
            }
        }
        let Some(id) = differs else {
            // A call that waited for a difference goes on in the host kernel when there is none any more.
            return Outcome::Continue;
        };
        let (count, place) = filled(place, &looks);
        let limit = attempt!(time_limit(note));
        if count > 0 || limit == Some(0) {
            return place.store(note).map(|()| count).into();
        }
        if attempt!(has_sigmask(note)) {
            return Outcome::Continue;
        }
        if !again {
            attempt!(place.store(note));
            self.resolved = Some(id);
        }
        // Errno 0: a poll whose time is over returns 0.
        Outcome::Wait { deadline: limit.map(|ns| (self.now.saturating_add(ns), Errno(0))), sent: 0 }
    }

    /// What the stack says about a socket.
    fn mask_of(&mut self, id: SockId, events: u32) -> u32 {
        self.order(id);
        let now = self.now;
        let Some(s) = self.socks.get(id) else { return 0 };
        let (Some(kfd), Some(m)) = (s.fd, self.machines.get_mut(s.host)) else { return 0 };
        m.poll(now, kfd, events)
    }

    /// The descriptors that a call asks about; `None` when the host kernel should say what it thinks of them.
    fn looks(&mut self, note: &Notification) -> Option<(Place, Vec<Look>)> {
        let (place, wanted) = wanted(note)?;
        let mut looks = Vec::with_capacity(wanted.len());
        for (at, fd, events) in wanted {
            let copy = self.tasks.copy_fd(note.tid, fd).ok()?;
            let inode = fd::socket_inode(&copy).ok().flatten();
            let stack = |id: &SockId| {
                let flow = self.socks.get(*id).map(|s| &s.flow);
                !matches!(flow, None | Some(Flow::Tun(_)))
                    && !matches!(flow, Some(Flow::Dgram(d)) if d.netlink.is_some())
            };
            let sock = inode.and_then(|i| self.socks.by_inode(i)).filter(stack);
            looks.push(Look { fd, at, events, copy, sock, mask: 0 });
        }
        looks.iter().any(|l| l.sock.is_some()).then_some((place, looks))
    }
}

#[cfg(target_arch = "x86_64")]
fn is_select(sys: Sys) -> bool {
    matches!(sys, Sys::Select | Sys::Pselect6)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_select(sys: Sys) -> bool {
    sys == Sys::Pselect6
}

/// Index, descriptor and events of everything asked about.
#[allow(clippy::type_complexity)]
fn wanted(note: &Notification) -> Option<(Place, Vec<(usize, i32, u32)>)> {
    let mut out = Vec::new();
    if !is_select(note.sys) {
        let n = usize::try_from(note.word(1)).ok().filter(|n| *n <= MAX_POLL)?;
        let mut raw = vec![0u8; n * 8];
        memory::read(note.tid, note.word(0), &mut raw).ok()?;
        for (at, c) in raw.chunks_exact(8).enumerate() {
            let fd = c.first_chunk().map_or(-1, |b| i32::from_ne_bytes(*b));
            let events = c.get(4..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b));
            if fd >= 0 {
                out.push((at, fd, u32::from(events) | ALWAYS));
            }
        }
        return Some((Place::Array(raw), out));
    }
    let n = usize::try_from(note.int(0)).ok().filter(|n| *n <= MAX_POLL)?;
    let mut sets = [const { (0u64, Vec::new()) }; 3];
    for (i, (at, set)) in sets.iter_mut().enumerate() {
        *at = note.word(i + 1);
        *set = vec![0u8; if *at == 0 { 0 } else { n.div_ceil(64) * 8 }];
        memory::read(note.tid, *at, set).ok()?;
    }
    for fd in 0..n {
        let in_set = |s: &[u8]| s.get(fd / 8).is_some_and(|b| b >> (fd % 8) & 1 == 1);
        let events = sets.iter().zip(SETS).filter(|((_, s), _)| in_set(s)).fold(0, |e, (_, mask)| e | mask);
        if events != 0 {
            out.push((fd, fd as i32, events));
        }
    }
    Some((Place::Sets(sets), out))
}

/// The answer, and how many descriptors (for select: bits) it names.
fn filled(mut place: Place, looks: &[Look]) -> (i64, Place) {
    let mut count = 0;
    match &mut place {
        Place::Array(raw) => {
            raw.chunks_exact_mut(8).for_each(|c| c.iter_mut().skip(6).for_each(|b| *b = 0));
            for l in looks.iter().filter(|l| l.mask != 0) {
                let to = raw.get_mut(l.at * 8 + 6..l.at * 8 + 8).unwrap_or(&mut []);
                to.copy_from_slice((l.mask as u16).to_ne_bytes().get(..to.len()).unwrap_or(&[]));
                count += 1;
            }
        }
        Place::Sets(sets) => {
            for ((_, set), class) in sets.iter_mut().zip(SETS) {
                let asked = std::mem::replace(set, vec![0; set.len()]);
                for l in looks.iter().filter(|l| l.mask & class != 0) {
                    let (byte, bit) = (l.fd as usize / 8, 1 << (l.fd % 8));
                    if asked.get(byte).is_some_and(|b| b & bit != 0)
                        && let Some(b) = set.get_mut(byte)
                    {
                        *b |= bit;
                        count += 1;
                    }
                }
            }
        }
    }
    (count, place)
}

impl Place {
    fn store(&self, note: &Notification) -> Result<(), Errno> {
        match self {
            Place::Array(raw) => super::write_mem(note.tid, note.word(0), raw),
            Place::Sets(sets) => sets.iter().try_for_each(|(at, s)| super::write_mem(note.tid, *at, s)),
        }
    }
}

/// How long the call waits, in nanoseconds; `None` for ever.
fn time_limit(note: &Notification) -> Result<Option<u64>, Errno> {
    let (at, unit) = match note.sys {
        Sys::Ppoll => (note.word(2), 1),
        Sys::Pselect6 => (note.word(4), 1),
        _ if is_select(note.sys) => (note.word(4), 1000),
        _ => return Ok(u64::try_from(note.int(2)).ok().map(|ms| ms * 1_000_000)),
    };
    if at == 0 {
        return Ok(None);
    }
    let mut b = [0u8; 16];
    memory::read(note.tid, at, &mut b).map_err(|_| Errno::EFAULT)?;
    Ok(Some(word(&b, 0).saturating_mul(1_000_000_000).saturating_add(word(&b, 8).saturating_mul(unit))))
}

/// The call waits with another signal mask than the thread's, which only the host kernel can do.
fn has_sigmask(note: &Notification) -> Result<bool, Errno> {
    match note.sys {
        Sys::Ppoll => Ok(note.word(3) != 0),
        Sys::Pselect6 if note.word(5) != 0 => {
            let mut b = [0u8; 8];
            memory::read(note.tid, note.word(5), &mut b).map_err(|_| Errno::EFAULT)?;
            Ok(word(&b, 0) != 0)
        }
        _ => Ok(false),
    }
}
