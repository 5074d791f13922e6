//! socket, bind, listen, accept, connect, shutdown, getsockname, getpeername.
use super::{Asked, Outcome, attempt, give_addr, take_addr};
use crate::jar::Jar;
use crate::key::Key;
use crate::netlink::Netlink;
use crate::socks::{Dgram, Flow, Hint, Phase, Sock, SockId, Stream};
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::seccomp::{Notification, Sys};
use belljar_host::{errno, fd};
use belljar_kernel::task::call::Fd;
use std::os::fd::OwnedFd;

/// Send room of a datagram socket's end, which the host doubles: a record of 65507 bytes fits and a longer one is EMSGSIZE,
/// as with UDP.
const DGRAM_SNDBUF: usize = 32_770;
/// Send room of a device's file, both ways; as much as wmem_max allows.
const TUN_SNDBUF: usize = 8 << 20;
/// Send room of our end: a full pair plus what the host counts beside payload.
pub(crate) const OUR_SNDBUF: usize = 1 << 20;

/// Reading does not wait: there is no connection.
pub(crate) fn short_sleep(theirs: &impl std::os::fd::AsFd) {
    let moment = [0i64.to_ne_bytes(), 1000i64.to_ne_bytes()].concat();
    let _ = fd::set_opt_bytes(theirs, abi::SOL_SOCKET, abi::SO_RCVTIMEO, &moment);
}

impl Jar {
    pub(crate) fn sys_socket(&mut self, listener: u32, note: &Notification) -> Outcome {
        let (family, kind, protocol) = (note.int(0), note.int(1), note.int(2));
        let host = self.host_of(listener);
        let base = kind & abi::SOCK_TYPE_MASK;
        if family == abi::AF_NETLINK {
            return self.netlink_socket(listener, note, host, base, protocol);
        }
        let Some(m) = self.machines.get_mut(host) else { return Errno::EAFNOSUPPORT.into() };
        if kind & !(abi::SOCK_TYPE_MASK | abi::SOCK_NONBLOCK | abi::SOCK_CLOEXEC) != 0 {
            return Errno::EINVAL.into();
        }
        let kfd = attempt!(m.socket(self.now, family, base, protocol));
        let flow = if base == abi::SOCK_STREAM {
            Flow::Stream(Stream::new(Phase::Fresh))
        } else {
            Flow::Dgram(Dgram::default())
        };
        self.plant(listener, note, host, Some(kfd), family, flow, kind)
    }

    fn netlink_socket(&mut self, listener: u32, note: &Notification, host: usize, base: i32, protocol: i32) -> Outcome {
        if !matches!(base, abi::SOCK_RAW | abi::SOCK_DGRAM) {
            return Errno::ESOCKTNOSUPPORT.into();
        }
        use abi::netlink::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
        if !matches!(protocol, NETLINK_ROUTE | NETLINK_SOCK_DIAG | NETLINK_NETFILTER | NETLINK_GENERIC) {
            return Errno::EPROTONOSUPPORT.into();
        }
        let Some(ns) = self.machines.get(host).map(|m| m.ns) else { return Errno::EAFNOSUPPORT.into() };
        let d = Dgram { netlink: Some(Box::new(Netlink::new(base, protocol, ns))), ..Dgram::default() };
        self.plant(listener, note, host, None, abi::AF_NETLINK, Flow::Dgram(d), note.int(1))
    }

    /// Makes the pair and plants the program's end as the answer to `note`; on failure nothing remains.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn plant(
        &mut self,
        listener: u32,
        note: &Notification,
        host: usize,
        kfd: Option<Fd>,
        family: i32,
        flow: Flow,
        flags: i32,
    ) -> Outcome {
        match self.plant_pair(listener, note, flow, flags, host, kfd, family) {
            Ok(_) => Outcome::Answered,
            Err(e) => {
                if let (Some(kfd), Some(m)) = (kfd, self.machines.get_mut(host)) {
                    m.close(self.now, kfd);
                }
                self.note_starved(note.tid, SockAddr::Unspec, e);
                e.into()
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn plant_pair(
        &mut self,
        listener: u32,
        note: &Notification,
        flow: Flow,
        flags: i32,
        host: usize,
        kfd: Option<Fd>,
        family: i32,
    ) -> Result<SockId, Errno> {
        // Our own descriptors are the machine's as far as the program can tell: ENFILE, not its EMFILE.
        let enfile = |e: std::io::Error| if errno(&e) == Errno::EMFILE.0 { Errno::ENFILE } else { Errno(errno(&e)) };
        let stream = matches!(flow, Flow::Stream(_));
        let nonblock = flags & abi::SOCK_NONBLOCK != 0;
        let pair = || match stream {
            true if nonblock => fd::pair_stream_nonblocking(),
            true => fd::pair_stream(),
            false => fd::pair_seqpacket(),
        };
        let (theirs, ours) = match pair() {
            Err(e) if errno(&e) == Errno::EMFILE.0 => {
                self.reap_closed();
                pair()
            }
            made => made,
        }
        .map_err(enfile)?;
        let inode = fd::socket_inode(&theirs).ok().flatten().ok_or(Errno::EIO)?;
        match flow {
            // A socket that is not connected has nothing to wait for: ENOTCONN on Linux, EAGAIN here, but no sleep.
            Flow::Stream(ref st) if st.phase == Phase::Fresh => {
                short_sleep(&theirs);
            }
            Flow::Stream(_) => {}
            Flow::Dgram(_) => {
                let _ = fd::set_sndbuf(&ours, OUR_SNDBUF);
                let _ = fd::set_sndbuf(&theirs, DGRAM_SNDBUF);
            }
            Flow::Tun(_) => {
                let _ = fd::set_sndbuf(&ours, TUN_SNDBUF);
                let _ = fd::set_sndbuf(&theirs, TUN_SNDBUF);
            }
        }
        if !stream && nonblock {
            let _ = fd::set_nonblocking(&theirs, true);
        }
        let l = self.listener(listener).ok_or(Errno::ENOSYS)?;
        let cloexec = flags & abi::SOCK_CLOEXEC != 0;
        let planted = l.reply_fd(note.id, &theirs, cloexec).map_err(|e| Errno(errno(&e)))?;
        drop(theirs);
        self.adopt(ours, inode, Hint { tid: note.tid, fd: planted }, flow, host, kfd, family)
    }

    #[allow(clippy::too_many_arguments)]
    fn adopt(
        &mut self,
        ours: OwnedFd,
        inode: u64,
        hint: Hint,
        flow: Flow,
        host: usize,
        kfd: Option<Fd>,
        family: i32,
    ) -> Result<SockId, Errno> {
        let sock = Sock {
            host,
            fd: kfd,
            ours,
            inode,
            hint,
            family,
            flow,
            parked: Vec::new(),
            watch_out: false,
            closed: false,
            shut: None,
        };
        let id = self.socks.insert(sock);
        let key = Key::Sock(id);
        let Some(s) = self.socks.get(id) else { return Err(Errno::EIO) };
        let _ = self.ep.add(&s.ours, crate::pump::watch(&s.flow), key.pack());
        if let (Some(kfd), Some(m)) = (kfd, self.machines.get_mut(host)) {
            m.set_inode(kfd, inode);
            let _ = m.watch(self.now, kfd, key);
        }
        Ok(id)
    }

    fn kernel_fd(&self, a: &Asked<'_>) -> Result<(usize, Fd), Errno> {
        let s = self.socks.get(a.id).ok_or(Errno::EBADF)?;
        Ok((s.host, s.fd.ok_or(Errno::EOPNOTSUPP)?))
    }

    /// The machine and descriptor behind a call.
    pub(crate) fn kernel_of(&mut self, a: &Asked<'_>) -> Result<(&mut crate::machine::Machine, Fd), Errno> {
        let (host, kfd) = self.kernel_fd(a)?;
        Ok((self.machines.get_mut(host).ok_or(Errno::EBADF)?, kfd))
    }

    pub(crate) fn sys_bind(&mut self, a: &Asked<'_>) -> Outcome {
        let addr = attempt!(take_addr(a.note.tid, a.note.word(1), a.note.int(2)));
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        let call = belljar_kernel::task::call::Call::Bind { fd: kfd, addr: &addr };
        let mut first = m.call(now, call);
        if first == Err(Errno::EADDRINUSE) && self.socks.tombs() > 0 {
            // Perhaps it belongs to one that was closed after its reset.
            self.sweep_tombs();
            let (m, kfd) = attempt!(self.kernel_of(a));
            first = m.call(now, belljar_kernel::task::call::Call::Bind { fd: kfd, addr: &addr });
        }
        if let (Err(Errno::EADDRINUSE), Ok(SockAddr::V4(ip, port))) = (&first, SockAddr::parse(&addr)) {
            // Our own answer to a loopback nameserver gives way to a program that wants the place.
            if self.yield_service(ip.into(), port) {
                let (m, kfd) = attempt!(self.kernel_of(a));
                let call = belljar_kernel::task::call::Call::Bind { fd: kfd, addr: &addr };
                return m.call(now, call).map(|_| 0).into();
            }
        }
        first.map(|_| 0).into()
    }

    pub(crate) fn sys_listen(&mut self, a: &Asked<'_>) -> Outcome {
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        attempt!(m.listen(now, kfd, a.note.int(1)));
        if let Some(s) = self.socks.get(a.id)
            && let Flow::Stream(st) = &s.flow
            && !matches!(st.phase, Phase::Listening { .. })
        {
            // A listener is never writable, and a send on it is EPIPE.
            self.fill(a.id, &a.copy);
            let _ = fd::shutdown(&a.copy, fd::Half::Write);
            self.phase(a.id, |_| Phase::Listening { tokens: 0 });
        }
        Outcome::Reply(Ok(0))
    }

    /// The connection leaves the queue only after its descriptor is in the program: EMFILE leaves it queued.
    pub(crate) fn sys_accept(&mut self, a: &Asked<'_>, flags: i32) -> Outcome {
        if flags & !(abi::SOCK_NONBLOCK | abi::SOCK_CLOEXEC) != 0 {
            return Errno::EINVAL.into();
        }
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        let Some(peer) = m.accept_peer(kfd) else {
            // The kernel's own word: EINVAL when it does not listen, EAGAIN when nothing is queued.
            let word = m.accept(now, kfd);
            self.drop_tokens(a.id, &a.copy, 0);
            return match word {
                Err(Errno::EAGAIN) if !a.nonblock() => {
                    let (m, _) = attempt!(self.kernel_of(a));
                    let limit = m.time_limit(now, kfd, abi::SO_RCVTIMEO).map(|ns| (now + ns, Errno::EAGAIN));
                    Outcome::Wait { deadline: limit, sent: 0 }
                }
                Err(e) => {
                    if e == Errno::EAGAIN {
                        self.note_accept(a.id, a.note.tid, false);
                    }
                    e.into()
                }
                Ok((fd, _)) => {
                    attempt!(self.kernel_of(a)).0.close(now, fd);
                    Errno::ECONNABORTED.into()
                }
            };
        };
        if a.note.word(1) != 0 {
            attempt!(give_addr(a.note, 1, 2, peer));
        }
        let family = self.socks.get(a.id).map_or(abi::AF_INET, |s| s.family);
        let host = self.socks.get(a.id).map_or(0, |s| s.host);
        let flow = Flow::Stream(Stream::new(Phase::Open));
        // Once it has its descriptor the program looks at the listener again, which must not promise this one still.
        self.drop_tokens(a.id, &a.copy, 1);
        let child = match self.plant_pair(a.listener, a.note, flow, flags, host, None, family) {
            Ok(child) => child,
            Err(e) => {
                self.sync_tokens(a.id);
                let (m, kfd) = attempt!(self.kernel_of(a));
                let at = m.getsockname(now, kfd).unwrap_or_default();
                self.note_starved(a.note.tid, at, e);
                return e.into();
            }
        };
        let accepted = self.machines.get_mut(host).ok_or(Errno::EBADF).and_then(|m| m.accept(now, kfd));
        match accepted {
            Ok((fd, _)) => {
                if let (Some(s), Some(m)) = (self.socks.get_mut(child), self.machines.get_mut(host)) {
                    s.fd = Some(fd);
                    m.set_inode(fd, s.inode);
                    let _ = m.watch(now, fd, Key::Sock(child));
                }
                self.stream_in(child);
                self.note_accept(a.id, a.note.tid, true);
            }
            Err(e) => self.kill_pair(child, e.0),
        }
        Outcome::Answered
    }

    pub(crate) fn sys_connect_dgram(&mut self, a: &Asked<'_>) -> Outcome {
        let addr = attempt!(take_addr(a.note.tid, a.note.word(1), a.note.int(2)));
        self.dgram_out(a.id);
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        m.call(now, belljar_kernel::task::call::Call::Connect { fd: kfd, addr: &addr }).map(|_| 0).into()
    }

    pub(crate) fn sys_connect(&mut self, a: &Asked<'_>) -> Outcome {
        let addr = attempt!(take_addr(a.note.tid, a.note.word(1), a.note.int(2)));
        let now = self.now;
        self.wake_reader(a);
        let (m, kfd) = attempt!(self.kernel_of(a));
        let result = m.call(now, belljar_kernel::task::call::Call::Connect { fd: kfd, addr: &addr });
        match result {
            Ok(_) if SockAddr::parse(&addr) == Ok(SockAddr::Unspec) => {
                self.dissolved(a.id, &a.copy);
                Outcome::Reply(Ok(0))
            }
            Ok(_) => {
                self.open(a.id);
                Outcome::Reply(Ok(0))
            }
            Err(e @ (Errno::EINPROGRESS | Errno::EALREADY)) if !a.nonblock() => {
                let limit = m.time_limit(now, kfd, abi::SO_SNDTIMEO).map(|ns| (now + ns, e));
                self.connecting(a.id);
                Outcome::Wait { deadline: limit, sent: 0 }
            }
            Err(Errno::EINPROGRESS) => {
                self.begin_connect(a);
                Errno::EINPROGRESS.into()
            }
            // While it waited, the connection came about.
            Err(Errno::EISCONN) if a.again => {
                self.open(a.id);
                Outcome::Reply(Ok(0))
            }
            Err(e) => {
                if !matches!(e, Errno::EALREADY | Errno::EISCONN) {
                    self.fresh(a.id);
                }
                e.into()
            }
        }
    }

    /// Over loopback the handshake may be done already: then nothing needs to be held back.
    pub(super) fn begin_connect(&mut self, a: &Asked<'_>) {
        self.step_kernels();
        self.connecting(a.id);
        let now = self.now;
        if self.kernel_of(a).is_ok_and(|(m, kfd)| m.getpeername(now, kfd).is_ok()) {
            self.open(a.id);
        } else if !a.again {
            self.fill(a.id, &a.copy);
        }
    }

    /// Reading may wait from now on, as long as the program said.
    pub(super) fn wake_reader(&mut self, a: &Asked<'_>) {
        let fresh = |s: &Sock| matches!(&s.flow, Flow::Stream(st) if st.phase == Phase::Fresh);
        if !self.socks.get(a.id).is_some_and(fresh) {
            return;
        }
        let now = self.now;
        let Ok((m, kfd)) = self.kernel_of(a) else { return };
        if let Ok(limit) = m.getsockopt(now, kfd, abi::SOL_SOCKET, abi::SO_RCVTIMEO, 16) {
            let _ = fd::set_opt_bytes(&a.copy, abi::SOL_SOCKET, abi::SO_RCVTIMEO, &limit);
        }
    }

    fn phase(&mut self, id: SockId, f: impl FnOnce(Phase) -> Phase) {
        if let Some(s) = self.socks.get_mut(id)
            && let Flow::Stream(st) = &mut s.flow
        {
            st.phase = f(st.phase);
        }
    }

    fn connecting(&mut self, id: SockId) {
        self.phase(id, |p| if let Phase::Connecting { .. } = p { p } else { Phase::Connecting { junk: 0 } });
    }

    fn fresh(&mut self, id: SockId) {
        self.phase(id, |p| if p == (Phase::Connecting { junk: 0 }) { Phase::Fresh } else { p });
    }

    /// Connected: payload may flow.
    pub(crate) fn open(&mut self, id: SockId) {
        self.phase(id, |p| if p == Phase::Fresh { Phase::Connecting { junk: 0 } } else { p });
        self.connect_done(id);
        self.stream_in(id);
    }

    /// FIN comes after the bytes already written; the pair shows the program what its own call did.
    pub(crate) fn sys_shutdown(&mut self, a: &Asked<'_>) -> Outcome {
        let how = a.note.int(1);
        let now = self.now;
        let stream = self.socks.get(a.id).is_some_and(|s| matches!(s.flow, Flow::Stream(_)));
        if !stream || !(0..=2).contains(&how) {
            return self.shutdown_dgram(a, how);
        }
        self.stream_out(a.id);
        let Some(s) = self.socks.get_mut(a.id) else { return Errno::ENOTCONN.into() };
        let Flow::Stream(st) = &mut s.flow else { return Errno::EINVAL.into() };
        let later = how != abi::SHUT_RD && !st.unsent.is_empty() && st.phase == Phase::Open;
        st.fin_wanted = later;
        let (fin_passed, open) = (st.fin_passed, st.phase == Phase::Open);
        let (m, kfd) = attempt!(self.kernel_of(a));
        let done = match (later, how) {
            (true, abi::SHUT_RDWR) => m.shutdown(now, kfd, abi::SHUT_RD),
            (true, _) => Ok(()),
            _ => m.shutdown(now, kfd, how),
        };
        if done.is_err_and(|e| e != Errno::ENOTCONN || open) {
            return done.map(|()| 0).into();
        }
        if how != abi::SHUT_WR
            && let Some(Flow::Stream(st)) = self.socks.get_mut(a.id).map(|s| &mut s.flow)
        {
            st.read_shut = open;
        }
        if how != abi::SHUT_RD
            && let Some(s) = self.socks.get_mut(a.id)
            && let Flow::Stream(st) = &mut s.flow
        {
            if open && !st.write_shut {
                st.marked = fd::send(&a.copy, b"\0").is_ok();
            }
            st.write_shut = open;
        }
        let both = how == abi::SHUT_RDWR || (how == abi::SHUT_WR && fin_passed) || !open;
        if both {
            self.note_shut(a.id);
        }
        let half = match (open, how) {
            (false, _) | (_, abi::SHUT_RDWR) => fd::Half::Both,
            (_, abi::SHUT_RD) => fd::Half::Read,
            _ => fd::Half::Write,
        };
        let _ = fd::shutdown(&a.copy, half);
        self.retry_parked(a.id);
        done.map(|()| 0).into()
    }

    /// Takes effect on an unconnected socket too, which is told ENOTCONN; who waits in a read is woken.
    fn shutdown_dgram(&mut self, a: &Asked<'_>, how: i32) -> Outcome {
        self.dgram_out(a.id);
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        let done = m.shutdown(now, kfd, how);
        let (bits, half) = match how {
            abi::SHUT_RD => (1, fd::Half::Read),
            abi::SHUT_WR => (2, fd::Half::Write),
            abi::SHUT_RDWR => (3, fd::Half::Both),
            _ => return done.map(|()| 0).into(),
        };
        if let Some(s) = self.socks.get_mut(a.id)
            && let Flow::Dgram(d) = &mut s.flow
        {
            d.shut |= bits;
            if d.shut == 3 {
                self.note_shut(a.id);
            }
        }
        let _ = fd::shutdown(&a.copy, half);
        self.retry_parked(a.id);
        done.map(|()| 0).into()
    }

    pub(crate) fn sys_getname(&mut self, a: &Asked<'_>) -> Outcome {
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        let peer = a.note.sys == Sys::Getpeername;
        let addr = if peer { m.getpeername(now, kfd) } else { m.getsockname(now, kfd) };
        let addr = attempt!(addr);
        give_addr(a.note, 1, 2, addr).map(|()| 0).into()
    }
}
