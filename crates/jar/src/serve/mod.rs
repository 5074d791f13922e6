//! Answering the program's calls: find the socket, run the kernel's call, reply.
//!
//! Every call resolves its descriptor anew, through a momentary copy and the inode behind it; a descriptor that is not
//! ours is continued by the host. Calls that must wait are parked (`park.rs`) and come back through `serve_again`.
mod exact;
pub(crate) mod herd;
mod msg;
pub(crate) mod netns;
mod open;
mod opt;
mod path;
pub(crate) mod planted;
pub(crate) mod replay;
mod rlimit;
pub(crate) mod setting;
pub(crate) mod socket;
mod starved;
mod tables;
mod tomb;
pub(crate) mod tun;

use crate::jar::Jar;
use crate::park::Parked;
use crate::socks::{Flow, Hint, SockId};
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::seccomp::{Listener, Notification, Sys};
use belljar_host::{fd, memory};
use std::os::fd::OwnedFd;

/// How a call stands after it ran.
pub(crate) enum Outcome {
    Reply(Result<i64, Errno>),
    /// Already answered (a descriptor was planted).
    Answered,
    /// The host's own kernel does it.
    Continue,
    /// Cannot be finished now. With SO_RCVTIMEO and its kin: until when, and what it returns then.
    Wait {
        deadline: Option<(u64, Errno)>,
        sent: usize,
    },
}

impl From<Result<i64, Errno>> for Outcome {
    fn from(r: Result<i64, Errno>) -> Outcome {
        Outcome::Reply(r)
    }
}

impl From<Errno> for Outcome {
    fn from(e: Errno) -> Outcome {
        Outcome::Reply(Err(e))
    }
}

/// Shorthand inside the calls: an error ends the call with that errno.
macro_rules! attempt {
    ($e:expr) => {
        match $e {
            Ok(v) => v,
            Err(e) => return crate::serve::Outcome::from(e),
        }
    };
}
pub(crate) use attempt;

/// A call with everything found out about it.
pub(crate) struct Asked<'a> {
    pub note: &'a Notification,
    pub listener: u32,
    pub id: SockId,
    /// The momentary copy of the program's end.
    pub copy: OwnedFd,
    /// It waited already.
    pub again: bool,
}

impl Asked<'_> {
    /// The program does not wait for this call. One that waited already goes on waiting.
    pub(crate) fn nonblock(&self) -> bool {
        !self.again && fd::is_nonblocking(&self.copy)
    }
}

impl Jar {
    pub(crate) fn listener(&self, n: u32) -> Option<&Listener> {
        self.listeners.get(n as usize)?.as_ref().map(|w| &w.listener)
    }

    pub(crate) fn reply(&self, listener: u32, note: &Notification, result: Result<i64, Errno>) {
        let Some(l) = self.listener(listener) else { return };
        match result {
            Ok(v) => l.reply(note.id, v),
            Err(e) => l.reply_errno(note.id, e.0),
        };
    }

    /// Serves a call that just arrived, in the namespace of its caller.
    pub(crate) fn serve(&mut self, listener: u32, note: Notification) {
        let host = self.host_of(listener);
        let Some(ns) = self.ns_of(listener, note.tid) else { return self.serve_here(listener, note) };
        if let Some(m) = self.machines.get_mut(host) {
            m.enter(ns);
        }
        self.serve_here(listener, note);
        if let Some(m) = self.machines.get_mut(host) {
            m.leave();
        }
    }

    fn serve_here(&mut self, listener: u32, note: Notification) {
        self.notified += 1;
        // Nothing that a call sets off is older than the call: a program compares time stamps with its own clock.
        self.tick();
        let loses = self.listeners.get(listener as usize).and_then(Option::as_ref).is_some_and(|w| !w.killable);
        if loses && let Some(result) = self.replay.again(&note, self.now) {
            return self.reply(listener, &note, result);
        }
        if !self.rings.is_empty() && self.has_swapped() {
            self.swap_back(listener, &note);
        }
        if matches!(note.sys, Sys::Socket | Sys::Bind | Sys::Setsockopt) {
            self.assume(listener, &note);
        }
        if matches!(note.sys, Sys::Bind | Sys::Listen | Sys::Connect | Sys::Sendto | Sys::Sendmsg | Sys::Sendmmsg) {
            self.catch_up();
        }
        // Writes to a device or a setting are done when they return.
        if !self.tuns.is_empty() {
            self.tuns_in();
            self.step_kernels();
        }
        if !self.settings.is_empty() {
            self.apply_settings();
        }
        let outcome = match note.sys {
            Sys::Socket => self.sys_socket(listener, &note),
            Sys::Mmap => self.sys_mmap(listener, &note),
            s if s.is_rlimit() => self.sys_rlimit(listener, &note),
            s if s.is_open() => self.with_path(listener, &note, Jar::sys_open),
            s if s.is_poll() => self.serve_poll(&note, false),
            s if s.is_netns() => self.sys_netns(listener, &note),
            s if s.is_path() => self.with_path(listener, &note, Jar::sys_path),
            // They matter on a setting alone.
            Sys::Lseek | Sys::Pwrite64 if self.settings.is_empty() => Outcome::Continue,
            _ => self.serve_on_socket(listener, &note),
        };
        let id = match outcome {
            Outcome::Wait { deadline, sent } => {
                if let Some(id) = self.resolved {
                    self.park(listener, note, id, deadline, sent);
                }
                return;
            }
            Outcome::Reply(r) => {
                // A datagram to this host is with its reader when the call returns.
                let dgram = |s: &crate::socks::Sock| matches!(s.flow, Flow::Dgram(_));
                if r.is_ok()
                    && (exact::writes(note.sys) || matches!(note.sys, Sys::Sendmsg | Sys::Sendmmsg))
                    && self.resolved.and_then(|id| self.socks.get(id)).is_some_and(dgram)
                {
                    self.turn();
                }
                if loses {
                    self.replay.answered(&note, r, self.now);
                }
                return self.reply(listener, &note, r);
            }
            Outcome::Answered => return,
            Outcome::Continue => note.id,
        };
        if let Some(l) = self.listener(listener) {
            l.reply_continue(id);
        }
    }

    /// The caller's rights: those of root in its host, unless it has become another user than the supervisor. Only a
    /// supervisor that is root has programs that can.
    fn assume(&mut self, listener: u32, note: &Notification) {
        let host = self.host_of(listener);
        if self.uid != 0 {
            return;
        }
        let (uid, gid) = self.tasks.effective_ids(note.tid).unwrap_or((0, 0));
        let privileged = !self.options.drop_caps && uid == 0;
        let (uid, gid) = if privileged { (0, 0) } else { (uid, gid) };
        if let Some(m) = self.machines.get_mut(host) {
            m.assume(uid, gid, privileged);
        }
    }

    /// Whether a program may set things up in its host.
    pub(crate) fn privileged(&mut self, tid: u32) -> bool {
        !self.options.drop_caps && (self.uid != 0 || self.tasks.effective_ids(tid).is_none_or(|(uid, _)| uid == 0))
    }

    /// Runs a parked call again; true when it must go on waiting.
    pub(crate) fn serve_again(&mut self, p: &Parked) -> bool {
        let outcome = if p.note.sys.is_poll() {
            self.serve_poll(&p.note, true)
        } else {
            let Ok(copy) = self.tasks.copy_fd(p.note.tid, p.note.int(0)) else {
                self.reply(p.listener, &p.note, Err(Errno::EBADF));
                return false;
            };
            self.run(&Asked { note: &p.note, listener: p.listener, id: p.sock, copy, again: true })
        };
        match outcome {
            Outcome::Wait { .. } => return true,
            Outcome::Reply(r) => self.reply(p.listener, &p.note, r),
            Outcome::Answered => {}
            Outcome::Continue => {
                if let Some(l) = self.listener(p.listener) {
                    l.reply_continue(p.note.id);
                }
            }
        }
        false
    }

    fn serve_on_socket(&mut self, listener: u32, note: &Notification) -> Outcome {
        self.resolved = None;
        // EBADF is the host kernel's to say, and so is everything about descriptors we may not look at.
        let Ok(copy) = self.tasks.copy_fd(note.tid, note.int(0)) else { return Outcome::Continue };
        let Ok(Some(inode)) = fd::socket_inode(&copy) else { return self.on_setting(&copy, note) };
        let Some(id) = self.socks.by_inode(inode) else {
            // Any socket will do to ask about devices; glibc takes one of AF_UNIX, which is the host's.
            if note.sys == Sys::Ioctl && opt::is_device_request(note.word(1) as u32) {
                return self.ioctl_device(self.host_of(listener), abi::AF_UNIX, note);
            }
            return match self.on_setting(&copy, note) {
                Outcome::Continue => self.serve_tomb(inode, note, &copy),
                done => done,
            };
        };
        self.resolved = Some(id);
        if let Some(s) = self.socks.get_mut(id) {
            s.hint = Hint { tid: note.tid, fd: note.int(0) };
        }
        self.run(&Asked { note, listener, id, copy, again: false })
    }

    fn run(&mut self, a: &Asked<'_>) -> Outcome {
        let Some(s) = self.socks.get(a.id) else { return Errno::EBADF.into() };
        let dgram = matches!(s.flow, Flow::Dgram(_));
        if matches!(&s.flow, Flow::Dgram(d) if d.netlink.is_some()) {
            return self.serve_netlink(a);
        }
        if let Flow::Tun(_) = s.flow {
            return match a.note.sys {
                Sys::Ioctl => self.ioctl_tun(a),
                Sys::Write | Sys::Writev if self.options.exact => self.exact_tun(a),
                // Packets cross the pair.
                Sys::Read | Sys::Readv | Sys::Write | Sys::Writev => Outcome::Continue,
                _ => Errno::ENOTSOCK.into(),
            };
        }
        match a.note.sys {
            Sys::Bind => self.sys_bind(a),
            Sys::Listen => self.sys_listen(a),
            Sys::Accept => self.sys_accept(a, 0),
            Sys::Accept4 => self.sys_accept(a, a.note.int(3)),
            Sys::Connect if dgram => self.sys_connect_dgram(a),
            Sys::Connect => self.sys_connect(a),
            Sys::Shutdown => self.sys_shutdown(a),
            Sys::Getsockname | Sys::Getpeername => self.sys_getname(a),
            Sys::Getsockopt => self.sys_getsockopt(a),
            Sys::Setsockopt => self.sys_setsockopt(a),
            Sys::Ioctl => self.sys_ioctl(a),
            Sys::Sendto if !dgram && a.note.int(3) & abi::MSG_FASTOPEN != 0 => self.sys_sendto_fastopen(a),
            Sys::Recvmsg if !dgram && a.note.int(2) & belljar_abi::MSG_ERRQUEUE != 0 => self.sys_recvmsg(a),
            Sys::Recvfrom if !dgram && a.note.word(1) == 0 && a.note.int(3) & abi::MSG_TRUNC != 0 => {
                self.sys_discard(a)
            }
            Sys::Recvfrom if !dgram && a.note.int(3) & abi::MSG_OOB != 0 => recv_urgent(a),
            Sys::Recvmsg if !dgram && self.wants_inq(a) => self.sys_recvmsg_inq(a),
            // A connected stream has no other address to send to: Linux does not look at it.
            Sys::Sendto if !dgram && (a.note.int(3) & FLAGGED != 0 || a.note.word(4) != 0) => self.exact_stream(a),
            Sys::Sendmsg if !dgram => self.sys_sendmsg_stream(a),
            s if !dgram && self.options.exact && (exact::reads(s) || exact::writes(s)) => self.exact_stream(a),
            // A stream's bytes are in the pair already, or go there: the host kernel does these, waiting included.
            _ if !dgram => Outcome::Continue,
            Sys::Sendto => self.sys_sendto(a),
            Sys::Sendmsg => self.sys_sendmsg(a),
            Sys::Sendmmsg => self.sys_sendmmsg(a),
            Sys::Recvfrom => self.sys_recvfrom(a),
            Sys::Recvmsg => self.sys_recvmsg(a),
            Sys::Recvmmsg => self.sys_recvmmsg(a),
            s if exact::reads(s) || exact::writes(s) => self.exact_dgram(a),
            _ => Outcome::Continue,
        }
    }
}

/// What the pair would not carry over from a stream's send.
const FLAGGED: i32 = abi::MSG_OOB | abi::MSG_MORE;

/// The urgent byte is the pair's. What AF_UNIX leaves in its place is nothing to read, and would show as something: a read
/// of no bytes takes it away, if it is next.
fn recv_urgent(a: &Asked<'_>) -> Outcome {
    let (room, peek) = (a.note.word(2), a.note.int(3) & abi::MSG_PEEK != 0);
    if room == 0 || a.note.word(4) != 0 {
        return Outcome::Continue;
    }
    // Why there is none, the host's kernel says itself.
    let Ok(byte) = fd::recv_oob(&a.copy, peek) else { return Outcome::Continue };
    if !peek {
        let _ = fd::recv(&a.copy, &mut [], false);
    }
    write_mem(a.note.tid, a.note.word(1), &[byte]).map(|()| 1).into()
}

/// Reads a socket address argument.
pub(crate) fn take_addr(tid: u32, addr: u64, len: i32) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len).ok().filter(|l| *l <= 128).ok_or(Errno::EINVAL)?;
    let mut b = vec![0; len];
    memory::read(tid, addr, &mut b).map_err(|_| Errno::EFAULT)?;
    Ok(b)
}

pub(crate) fn read_int(tid: u32, at: u64) -> Result<i32, Errno> {
    let mut b = [0; 4];
    memory::read(tid, at, &mut b).map_err(|_| Errno::EFAULT)?;
    Ok(i32::from_ne_bytes(b))
}

pub(crate) fn write_mem(tid: u32, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    memory::write(tid, at, bytes).map_err(|_| Errno::EFAULT)
}

/// Stores an address where arguments `addr` (pointer) and `len` (pointer to the room, then the true length) say.
pub(crate) fn give_addr(note: &Notification, addr: usize, len: usize, value: SockAddr) -> Result<(), Errno> {
    let (at, len_at) = (note.word(addr), note.word(len));
    let room = read_int(note.tid, len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = value.emit();
    let shown = bytes.get(..room.min(bytes.len())).unwrap_or(&[]);
    let len = (bytes.len() as i32).to_ne_bytes();
    memory::write_both(note.tid, (at, shown), (len_at, &len)).map_err(|_| Errno::EFAULT)
}
