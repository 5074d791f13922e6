//! sendto, sendmsg, sendmmsg, recvfrom, recvmsg, recvmmsg on datagram sockets: payload with addresses and control
//! messages, straight between the program's memory and the kernel.
use super::{Asked, Outcome, attempt, give_addr, read_int, take_addr, write_mem};
use crate::jar::Jar;
use crate::pump::dgram::MAX;
use crate::socks::{Dgram, Flow, SockId};
use belljar_abi::{self as abi, Errno};
use belljar_host::seccomp::Sys;
use belljar_host::{fd, memory};
use belljar_kernel::task::call::{Cmsg, Received};
use std::os::fd::OwnedFd;

/// `UIO_MAXIOV`, and the most messages of one sendmmsg or recvmmsg.
pub(super) const MAX_IOV: usize = 1024;
/// Longest control area that is read.
const MAX_CONTROL: usize = 20_480;
/// `struct msghdr`, and with the length behind it `struct mmsghdr`.
const MSGHDR: usize = 56;
const MMSGHDR: u64 = 64;

/// `struct msghdr` as it lies in the program's memory.
struct MsgHdr {
    at: u64,
    name: u64,
    name_len: i32,
    iov: Vec<(u64, usize)>,
    control: u64,
    control_len: usize,
}

pub(super) fn word(b: &[u8], at: usize) -> u64 {
    b.get(at..).and_then(|b| b.first_chunk::<8>()).map_or(0, |w| u64::from_ne_bytes(*w))
}

impl MsgHdr {
    fn read(tid: u32, at: u64) -> Result<MsgHdr, Errno> {
        let mut b = [0u8; MSGHDR];
        memory::read(tid, at, &mut b).map_err(|_| Errno::EFAULT)?;
        let n = usize::try_from(word(&b, 24)).ok().filter(|n| *n <= MAX_IOV).ok_or(Errno::EMSGSIZE)?;
        let mut raw = vec![0u8; n * 16];
        memory::read(tid, word(&b, 16), &mut raw).map_err(|_| Errno::EFAULT)?;
        let iov = raw.chunks_exact(16).map(|c| (word(c, 0), word(c, 8) as usize)).collect();
        Ok(MsgHdr {
            at,
            name: word(&b, 0),
            name_len: word(&b, 8) as i32,
            iov,
            control: word(&b, 32),
            control_len: word(&b, 40) as usize,
        })
    }

    fn room(&self) -> usize {
        self.iov.iter().fold(0usize, |n, (_, l)| n.saturating_add(*l))
    }
}

/// A batch of nf_tables is one datagram; nft asks for as much room (SO_SNDBUFFORCE) as it takes.
const MAX_NETLINK: usize = 16 << 20;

fn gather(tid: u32, iov: &[(u64, usize)], max: usize) -> Result<Vec<u8>, Errno> {
    let total = iov.iter().fold(0usize, |n, (_, l)| n.saturating_add(*l));
    if total > max { Err(Errno::EMSGSIZE) } else { gather_some(tid, iov, max) }
}

/// The first `max` bytes of it.
pub(super) fn gather_some(tid: u32, iov: &[(u64, usize)], max: usize) -> Result<Vec<u8>, Errno> {
    let total = iov.iter().fold(0usize, |n, (_, l)| n.saturating_add(*l));
    let mut out = vec![0; total.min(max)];
    let mut rest = out.as_mut_slice();
    for (at, len) in iov {
        let (part, tail) = rest.split_at_mut((*len).min(rest.len()));
        memory::read(tid, *at, part).map_err(|_| Errno::EFAULT)?;
        rest = tail;
    }
    Ok(out)
}

pub(super) fn scatter(tid: u32, iov: &[(u64, usize)], mut data: &[u8]) -> Result<(), Errno> {
    for (at, len) in iov {
        let (part, tail) = data.split_at((*len).min(data.len()));
        write_mem(tid, *at, part)?;
        data = tail;
    }
    Ok(())
}

/// Control messages as they lie in memory: length, level, type, data, each aligned to 8.
fn parse_cmsgs(mut b: &[u8]) -> Result<Vec<Cmsg>, Errno> {
    let mut out = Vec::new();
    while b.len() >= 16 {
        let len = word(b, 0) as usize;
        let data = b.get(16..len).ok_or(Errno::EINVAL)?;
        let int = |at: usize| b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |w| i32::from_ne_bytes(*w));
        out.push(Cmsg { level: int(8), kind: int(12), data: data.to_vec() });
        b = b.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(out)
}

/// The bytes of `cmsgs` that fit `room`, and whether something was cut (MSG_CTRUNC).
fn emit_cmsgs(cmsgs: &[Cmsg], room: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    for c in cmsgs {
        let (left, whole) = (room.saturating_sub(out.len()), 16 + c.data.len());
        if left < 16 {
            return (out, true);
        }
        // The last one is cut to what is left.
        let len = whole.min(left);
        out.extend_from_slice(&(len as u64).to_ne_bytes());
        out.extend_from_slice(&c.level.to_ne_bytes());
        out.extend_from_slice(&c.kind.to_ne_bytes());
        out.extend_from_slice(c.data.get(..len - 16).unwrap_or(&c.data));
        if len < whole {
            return (out, true);
        }
        out.resize(out.len().next_multiple_of(8).min(room), 0);
    }
    (out, false)
}

impl Jar {
    pub(super) fn send_one(
        &mut self,
        a: &Asked<'_>,
        data: &[u8],
        flags: i32,
        to: &[u8],
        cmsgs: &[Cmsg],
    ) -> Result<i64, Errno> {
        if !a.again {
            self.ring_send_begins(a.id);
        }
        // A plain write before it goes first.
        self.dgram_out(a.id);
        let flags = if a.nonblock() { flags | abi::MSG_DONTWAIT } else { flags };
        let to = (!to.is_empty()).then_some(to);
        let sent = self.dgram_send(a.id, data, flags, to, cmsgs).map(|n| n as i64);
        self.error_told(a.id, &a.copy);
        sent
    }

    /// EAGAIN of a blocking call waits for room.
    pub(super) fn send_outcome(&mut self, a: &Asked<'_>, flags: i32, r: Result<i64, Errno>) -> Outcome {
        match r {
            // Without a port the socket does not wait for room: no port was free.
            Err(Errno::EAGAIN) if flags & abi::MSG_DONTWAIT == 0 && !a.nonblock() && self.has_port(a) => {
                self.wait(a, abi::SO_SNDTIMEO)
            }
            r => r.into(),
        }
    }

    fn has_port(&mut self, a: &Asked<'_>) -> bool {
        let now = self.now;
        let name = self.kernel_of(a).and_then(|(m, fd)| m.getsockname(now, fd));
        name.is_ok_and(|n| n.port() != Some(0))
    }

    pub(super) fn wait(&mut self, a: &Asked<'_>, limit: i32) -> Outcome {
        let now = self.now;
        let late = if limit == abi::SO_SNDTIMEO { self.late(a.id) } else { Errno::EAGAIN };
        let limit = self.kernel_of(a).ok().and_then(|(m, fd)| m.time_limit(now, fd, limit));
        Outcome::Wait { deadline: limit.map(|ns| (now + ns, late)), sent: 0 }
    }

    /// A first write that opens the connection (tcp(7), TCP Fast Open). Without a cookie it is a connect, and the data goes
    /// when that is done.
    pub(crate) fn sys_sendto_fastopen(&mut self, a: &Asked<'_>) -> Outcome {
        let len = usize::try_from(a.note.word(2)).unwrap_or(usize::MAX);
        let data = attempt!(gather(a.note.tid, &[(a.note.word(1), len)], MAX));
        let to = attempt!(take_addr(a.note.tid, a.note.word(4), a.note.int(5)));
        let now = self.now;
        self.wake_reader(a);
        let (m, kfd) = attempt!(self.kernel_of(a));
        let flags = if a.again { a.note.int(3) & !abi::MSG_FASTOPEN } else { a.note.int(3) };
        let to = (!a.again).then_some(to.as_slice());
        let result = m.send_to(now, kfd, belljar_kernel::task::call::Payload::Bytes(&data), flags, to, &[]);
        match result {
            Err(Errno::EINPROGRESS) if !a.nonblock() && a.note.int(3) & abi::MSG_DONTWAIT == 0 => {
                self.begin_connect(a);
                self.wait(a, abi::SO_SNDTIMEO)
            }
            Err(Errno::EAGAIN) if a.again => self.wait(a, abi::SO_SNDTIMEO),
            Err(Errno::EINPROGRESS) => {
                self.begin_connect(a);
                Errno::EINPROGRESS.into()
            }
            Ok(n) => {
                if a.again {
                    self.open(a.id)
                } else {
                    self.begin_connect(a)
                }
                Outcome::Reply(Ok(n as i64))
            }
            Err(e) => e.into(),
        }
    }

    pub(crate) fn sys_sendto(&mut self, a: &Asked<'_>) -> Outcome {
        let len = usize::try_from(a.note.word(2)).unwrap_or(usize::MAX);
        let data = attempt!(gather(a.note.tid, &[(a.note.word(1), len)], MAX));
        let to = attempt!(take_addr(a.note.tid, a.note.word(4), a.note.int(5)));
        let flags = a.note.int(3);
        let r = self.send_one(a, &data, flags, &to, &[]);
        self.send_outcome(a, flags, r)
    }

    fn send_hdr(&mut self, a: &Asked<'_>, at: u64, flags: i32) -> Result<i64, Errno> {
        let tid = a.note.tid;
        let h = MsgHdr::read(tid, at)?;
        let max = if self.netlink_of(a.id).is_some() { MAX_NETLINK } else { MAX };
        let data = gather(tid, &h.iov, max)?;
        let to = if h.name != 0 && h.name_len != 0 { take_addr(tid, h.name, h.name_len)? } else { Vec::new() };
        let mut control = vec![0; h.control_len.min(MAX_CONTROL)];
        memory::read(tid, h.control, &mut control).map_err(|_| Errno::EFAULT)?;
        let cmsgs = parse_cmsgs(&control)?;
        self.send_one(a, &data, flags, &to, &cmsgs)
    }

    pub(crate) fn sys_sendmsg(&mut self, a: &Asked<'_>) -> Outcome {
        let flags = a.note.int(2);
        let r = self.send_hdr(a, a.note.word(1), flags);
        self.send_outcome(a, flags, r)
    }

    pub(crate) fn sys_sendmmsg(&mut self, a: &Asked<'_>) -> Outcome {
        let (vec, n, flags) = (a.note.word(1), (a.note.word(2) as usize).min(MAX_IOV), a.note.int(3));
        for i in 0..n {
            let at = vec.wrapping_add(i as u64 * MMSGHDR);
            match self.send_hdr(a, at, flags) {
                Ok(sent) => attempt!(write_mem(a.note.tid, at + MSGHDR as u64, &(sent as u32).to_ne_bytes())),
                Err(e) if i == 0 => return self.send_outcome(a, flags, Err(e)),
                Err(_) => return Outcome::Reply(Ok(i as i64)),
            }
        }
        Outcome::Reply(Ok(n as i64))
    }

    /// sendmsg of a stream: what the pair would not carry (urgent data, a promise of more) or would refuse (an address, which
    /// Linux does not look at) goes to the stack.
    pub(crate) fn sys_sendmsg_stream(&mut self, a: &Asked<'_>) -> Outcome {
        let flags = a.note.int(2);
        let h = attempt!(MsgHdr::read(a.note.tid, a.note.word(1)));
        if flags & super::FLAGGED == 0 && h.name == 0 && !self.options.exact {
            return Outcome::Continue;
        }
        self.send_stream(a, &h.iov, flags)
    }

    /// recv(fd, NULL, n, MSG_TRUNC) of a stream: bytes are thrown away, only counted (tcp(7)).
    pub(crate) fn sys_discard(&mut self, a: &Asked<'_>) -> Outcome {
        self.order(a.id);
        self.stream_in(a.id);
        let room = usize::try_from(a.note.word(2)).unwrap_or(usize::MAX).min(crate::socks::PAIR_MAX);
        match fd::recv(&a.copy, &mut vec![0; room], a.note.int(3) & abi::MSG_PEEK != 0) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                if a.note.int(3) & abi::MSG_DONTWAIT == 0 && !a.nonblock() {
                    self.wait(a, abi::SO_RCVTIMEO)
                } else {
                    Errno::EAGAIN.into()
                }
            }
            Err(e) => Errno(belljar_host::errno(&e)).into(),
            Ok(n) => {
                self.settle(a.id);
                self.stream_in(a.id);
                Outcome::Reply(Ok(n as i64))
            }
        }
    }

    /// The program asked to be told with each message what is left (TCP_INQ).
    pub(crate) fn wants_inq(&mut self, a: &Asked<'_>) -> bool {
        self.kernel_of(a).is_ok_and(|(m, kfd)| m.wants_inq(kfd))
    }

    /// recvmsg on such a stream: bytes from the pair, and how many are behind them.
    pub(crate) fn sys_recvmsg_inq(&mut self, a: &Asked<'_>) -> Outcome {
        let (tid, flags) = (a.note.tid, a.note.int(2));
        if flags & (abi::MSG_OOB | abi::MSG_ERRQUEUE | abi::MSG_TRUNC | abi::MSG_WAITALL) != 0 {
            return Outcome::Continue;
        }
        let h = attempt!(MsgHdr::read(tid, a.note.word(1)));
        self.order(a.id);
        self.stream_in(a.id);
        let mut data = vec![0; h.room().min(crate::socks::PAIR_MAX)];
        let got = match fd::recv(&a.copy, &mut data, flags & abi::MSG_PEEK != 0) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return if flags & abi::MSG_DONTWAIT == 0 && !a.nonblock() {
                    self.wait(a, abi::SO_RCVTIMEO)
                } else {
                    Errno::EAGAIN.into()
                };
            }
            Err(e) => return Errno(belljar_host::errno(&e)).into(),
            Ok(n) => n,
        };
        data.truncate(got);
        self.settle(a.id);
        let left = attempt!(self.unread(a));
        let ended = self.kernel_of(a).is_ok_and(|(m, kfd)| m.got_fin(kfd));
        let inq = if left == 0 && ended { 1 } else { left as i32 };
        let cmsgs = [Cmsg { level: abi::SOL_TCP, kind: abi::TCP_CM_INQ, data: inq.to_ne_bytes().to_vec() }];
        let (control, cut) = emit_cmsgs(&cmsgs, if h.control == 0 { 0 } else { h.control_len });
        attempt!(scatter(tid, &h.iov, &data));
        attempt!(write_mem(tid, h.control, &control));
        if h.name != 0 {
            attempt!(write_mem(tid, h.at + 8, &0u32.to_ne_bytes()));
        }
        attempt!(write_mem(tid, h.at + 40, &(control.len() as u64).to_ne_bytes()));
        attempt!(write_mem(tid, h.at + 48, &if cut { abi::MSG_CTRUNC } else { 0 }.to_ne_bytes()));
        Outcome::Reply(Ok(got as i64))
    }

    /// Bytes of a stream that the program has not read, in the pair or not.
    pub(super) fn unread(&mut self, a: &Asked<'_>) -> Result<usize, Errno> {
        let in_pair = match self.socks.get(a.id).map(|s| &s.flow) {
            Some(Flow::Stream(st)) => st.passed(),
            _ => 0,
        };
        let (m, kfd) = self.kernel_of(a)?;
        Ok(m.readable(kfd).saturating_sub(in_pair) + fd::inq(&a.copy).unwrap_or(0))
    }

    /// The next datagram with its address and control messages.
    pub(super) fn receive(&mut self, id: SockId, copy: &OwnedFd, room: usize, flags: i32) -> Result<Received, Errno> {
        if flags & abi::MSG_ERRQUEUE != 0 && self.socks.get(id).is_some_and(|s| s.fd.is_some()) {
            let got = self.dgram_next(id, room, abi::MSG_ERRQUEUE);
            self.error_told(id, copy);
            return got;
        }
        if let Some(Flow::Dgram(Dgram { error, .. })) = self.socks.get_mut(id).map(|s| &mut s.flow)
            && *error != 0
        {
            let told = std::mem::take(error);
            if fd::recv(copy, &mut [0], false).is_ok() {
                // A plain write may have taken it from the kernel meanwhile.
                let pending = self.take_pending(id);
                return Err(Errno(if pending == 0 { told } else { pending }));
            }
            // A plain reader was faster.
            self.take_pending(id);
        }
        loop {
            self.dgram_settle(id);
            let before = self.dgrams(id);
            let got = self.dgram_next(id, room, flags)?;
            if self.dgrams(id) == before {
                return Ok(got);
            }
            if let Some(got) = self.take_copy(id, copy, got, room) {
                return Ok(got);
            }
        }
    }

    /// Takes the copy of a datagram that the kernel gave out of the pair. `None`: a plain reader had it before.
    fn take_copy(&mut self, id: SockId, copy: &OwnedFd, mut got: Received, room: usize) -> Option<Received> {
        let Some(Flow::Dgram(d)) = self.socks.get(id).map(|s| &s.flow) else { return Some(got) };
        if d.lying.is_empty() {
            return Some(got);
        }
        let mut data = Vec::new();
        let ours = fd::recv_append(copy, &mut data, MAX).is_ok();
        let mut read = self.dgram_read(id);
        // Plain readers took others at the same time: which one it was shows in its bytes.
        while ours && read > 1 && !data.starts_with(&got.segs.to_vec()) {
            got = self.dgram_next(id, room, 0).ok()?;
            read -= 1;
        }
        self.dgram_were_read(id, read.saturating_sub(1));
        ours.then_some(got)
    }

    fn read_shut(&self, a: &Asked<'_>) -> bool {
        self.socks.get(a.id).is_some_and(|s| matches!(&s.flow, Flow::Dgram(d) if d.shut & 1 != 0))
    }

    /// After a receive: the next one may lie in the pair.
    pub(super) fn recv_outcome(&mut self, a: &Asked<'_>, flags: i32, r: Result<i64, Errno>) -> Outcome {
        match r {
            r if flags & abi::MSG_ERRQUEUE != 0 => r.into(),
            Err(Errno::EAGAIN)
                if flags & abi::MSG_DONTWAIT == 0 && !fd::is_nonblocking(&a.copy) && self.read_shut(a) =>
            {
                Outcome::Reply(Ok(0))
            }
            Err(Errno::EAGAIN) if flags & abi::MSG_DONTWAIT == 0 && !a.nonblock() => self.wait(a, abi::SO_RCVTIMEO),
            r => {
                self.dgram_in(a.id);
                r.into()
            }
        }
    }

    pub(crate) fn sys_recvfrom(&mut self, a: &Asked<'_>) -> Outcome {
        let (at, flags) = (a.note.word(1), a.note.int(3));
        let room = usize::try_from(a.note.word(2)).unwrap_or(usize::MAX);
        let r = self.receive(a.id, &a.copy, room, flags).and_then(|got| {
            let data = got.segs.to_vec();
            let n = data.len().min(room);
            write_mem(a.note.tid, at, data.get(..n).unwrap_or(&[]))?;
            match got.from {
                _ if a.note.word(4) == 0 => {}
                Some(from) => give_addr(a.note, 4, 5, from)?,
                None => write_mem(a.note.tid, a.note.word(5), &0i32.to_ne_bytes())?,
            }
            Ok(if flags & abi::MSG_TRUNC != 0 { got.full_len } else { n } as i64)
        });
        self.recv_outcome(a, flags, r)
    }

    fn recv_hdr(&mut self, a: &Asked<'_>, at: u64, flags: i32) -> Result<i64, Errno> {
        let tid = a.note.tid;
        let h = MsgHdr::read(tid, at)?;
        let room = h.room();
        let got = self.receive(a.id, &a.copy, room, flags)?;
        let (data, len) = (got.segs.to_vec(), got.full_len.max(got.segs.len()));
        scatter(tid, &h.iov, &data)?;
        let mut out_flags = got.flags | if len > room { abi::MSG_TRUNC } else { 0 };
        let mut name_len = 0u32;
        if h.name != 0
            && let Some(from) = got.from
        {
            let b = from.emit();
            let n = usize::try_from(h.name_len).unwrap_or(0).min(b.len());
            write_mem(tid, h.name, b.get(..n).unwrap_or(&[]))?;
            name_len = b.len() as u32;
        }
        let (control, cut) = emit_cmsgs(&got.cmsgs, if h.control == 0 { 0 } else { h.control_len });
        if cut {
            out_flags |= abi::MSG_CTRUNC;
        }
        write_mem(tid, h.control, &control)?;
        if h.name != 0 {
            write_mem(tid, h.at + 8, &name_len.to_ne_bytes())?;
        }
        write_mem(tid, h.at + 40, &(control.len() as u64).to_ne_bytes())?;
        write_mem(tid, h.at + 48, &out_flags.to_ne_bytes())?;
        Ok(if flags & abi::MSG_TRUNC != 0 { len } else { data.len().min(room) } as i64)
    }

    pub(crate) fn sys_recvmsg(&mut self, a: &Asked<'_>) -> Outcome {
        let flags = a.note.int(2);
        let r = self.recv_hdr(a, a.note.word(1), flags);
        self.recv_outcome(a, flags, r)
    }

    /// Its timeout is looked at after each datagram only, as Linux does; so it counts only as "do not wait for more".
    pub(crate) fn sys_recvmmsg(&mut self, a: &Asked<'_>) -> Outcome {
        let (vec, n, flags) = (a.note.word(1), (a.note.word(2) as usize).min(MAX_IOV), a.note.int(3));
        for i in 0..n {
            let at = vec.wrapping_add(i as u64 * MMSGHDR);
            match self.recv_hdr(a, at, flags & !abi::MSG_WAITFORONE) {
                Ok(got) => attempt!(write_mem(a.note.tid, at + MSGHDR as u64, &(got as u32).to_ne_bytes())),
                Err(e) if i == 0 => return self.recv_outcome(a, flags, Err(e)),
                Err(_) => return self.recv_outcome(a, flags, Ok(i as i64)),
            }
        }
        self.recv_outcome(a, flags, Ok(n as i64))
    }

    /// Calls on a NETLINK_ROUTE socket: the supervisor is the kernel's side.
    pub(crate) fn serve_netlink(&mut self, a: &Asked<'_>) -> Outcome {
        let tid = a.note.tid;
        match a.note.sys {
            Sys::Sendto => self.sys_sendto(a),
            Sys::Sendmsg => self.sys_sendmsg(a),
            Sys::Sendmmsg => self.sys_sendmmsg(a),
            Sys::Recvfrom => self.sys_recvfrom(a),
            Sys::Recvmsg => self.sys_recvmsg(a),
            Sys::Recvmmsg => self.sys_recvmmsg(a),
            Sys::Bind | Sys::Connect => {
                let addr = attempt!(take_addr(tid, a.note.word(1), a.note.int(2)));
                let tgid = belljar_host::task::tgid(tid).unwrap_or(tid);
                let own = self.netlink_port(a.id, tgid);
                match (abi::SockAddr::parse(&addr), self.netlink_of(a.id)) {
                    (Ok(abi::SockAddr::Netlink { pid, groups }), Some(nl)) if a.note.sys == Sys::Bind => {
                        nl.bind(if pid == 0 { own } else { pid }, groups);
                        self.nl_listen(self.socks.get(a.id).map_or(0, |s| s.host));
                        Outcome::Reply(Ok(0))
                    }
                    (Ok(abi::SockAddr::Netlink { .. }), Some(nl)) => {
                        nl.autobind(own);
                        Outcome::Reply(Ok(0))
                    }
                    _ => Errno::EINVAL.into(),
                }
            }
            Sys::Getsockname => {
                let tgid = belljar_host::task::tgid(tid).unwrap_or(tid);
                let own = self.netlink_port(a.id, tgid);
                let Some(nl) = self.netlink_of(a.id) else { return Errno::EBADF.into() };
                nl.autobind(own);
                give_addr(a.note, 1, 2, nl.addr()).map(|()| 0).into()
            }
            Sys::Getpeername => {
                give_addr(a.note, 1, 2, abi::SockAddr::Netlink { pid: 0, groups: 0 }).map(|()| 0).into()
            }
            Sys::Getsockopt => {
                let Some(nl) = self.netlink_of(a.id) else { return Errno::EBADF.into() };
                match nl.getsockopt(a.note.int(1), a.note.int(2)) {
                    Some(v) => {
                        attempt!(read_int(tid, a.note.word(4)));
                        super::opt::give_value(a.note, &v.to_ne_bytes()).into()
                    }
                    // Buffers, time limits, credentials: the pair's own.
                    None if a.note.int(1) == abi::SOL_SOCKET => Outcome::Continue,
                    None => Errno::ENOPROTOOPT.into(),
                }
            }
            Sys::Setsockopt if a.note.int(1) == abi::SOL_SOCKET => Outcome::Continue,
            Sys::Setsockopt if a.note.int(1) == abi::SOL_NETLINK => {
                let v = attempt!(read_int(tid, a.note.word(3)));
                let Some(nl) = self.netlink_of(a.id) else { return Errno::EBADF.into() };
                attempt!(nl.setsockopt(a.note.int(2), v));
                self.nl_listen(self.socks.get(a.id).map_or(0, |s| s.host));
                Outcome::Reply(Ok(0))
            }
            Sys::Ioctl => self.sys_ioctl(a),
            Sys::Read | Sys::Readv | Sys::Write | Sys::Writev => self.exact_dgram(a),
            _ => Errno::EOPNOTSUPP.into(),
        }
    }

    fn netlink_of(&mut self, id: SockId) -> Option<&mut crate::netlink::Netlink> {
        match &mut self.socks.get_mut(id)?.flow {
            Flow::Dgram(d) => d.netlink.as_deref_mut(),
            Flow::Stream(_) | Flow::Tun(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_go_round_and_are_cut_whole() {
        let c = |n: usize| Cmsg { level: 0, kind: 8, data: vec![7; n] };
        let all = [c(12), c(4), c(1)];
        let (b, cut) = emit_cmsgs(&all, 200);
        assert!(!cut && b.len() == 32 + 24 + 24);
        assert_eq!(parse_cmsgs(&b).unwrap(), all);
        assert_eq!(emit_cmsgs(&all, 40).0.len(), 32);
        assert!(emit_cmsgs(&all, 40).1);
        assert_eq!(parse_cmsgs(&[255; 32]).unwrap_err(), Errno::EINVAL);
    }
}
