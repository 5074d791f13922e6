//! One kernel of the jar, and the process in it that stands for all programs of that host.
//!
//! Every socket is non-blocking there and watched by one epoll instance of the kernel's own, edge-triggered: the
//! supervisor is a program of the stack like any other.
pub(crate) mod attributes;
mod inspect;
pub(crate) mod setup;
mod spaces;
use crate::key::Key;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::fd;
use belljar_kernel::ids::{DevId, NsId, TaskId};
use belljar_kernel::kernel::Kernel;
use belljar_kernel::net::netfilter::Pf;
use belljar_kernel::net::netfilter::blob::OldCounters;
use belljar_kernel::task::call::{Call, Cmsg, EpollEvent, Fd, Payload, PollFd, Received, Ret, Submitted, SysResult};
use belljar_wire::{Seg, Segs};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    pub name: String,
    pub k: Kernel,
    /// The namespace that calls are about at the moment: its own, but for the time of a call from another one.
    pub ns: NsId,
    pub home: NsId,
    /// The other namespaces by their names (`ip netns`).
    pub names: BTreeMap<String, NsId>,
    pub task: TaskId,
    pub nic: Option<DevId>,
    /// Devices at a cable of the jar (`belljar up`): its number and which end.
    pub plugs: Vec<(DevId, usize, usize)>,
    pub booted: u64,
    epfd: Fd,
    /// Something arrived that the kernel has not seen to.
    fed: bool,
}

/// Payload begins in its page where copies by `rep movsb` are quick: on AMD's Zen they take three times as long when the
/// target begins less than 64 bytes behind the source, counted in a 4 KiB page, and the host kernel's pages begin at 0.
const ALIGN: usize = 64;
/// One read from a descriptor of the host.
pub const READ: usize = 64 * 1024 - ALIGN;

const EVENTS: u32 = abi::EPOLLIN | abi::EPOLLOUT | abi::EPOLLRDHUP | abi::EPOLLERR | abi::EPOLLHUP | abi::EPOLLET;

impl Machine {
    /// A call of the host's programs. All descriptors are non-blocking; what would sleep all the same is EAGAIN.
    pub fn call(&mut self, now: u64, call: Call<'_>) -> SysResult {
        self.place(&call);
        match self.k.call(now, self.task, call) {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => {
                self.k.cancel(now, id, Errno::EAGAIN);
                Err(Errno::EAGAIN)
            }
        }
    }

    /// With several processors a socket's payload is sent and received on one that its descriptor says.
    fn place(&mut self, call: &Call<'_>) {
        let cpus = self.k.net.cpus.len();
        if cpus > 1
            && let Call::Send { fd, .. } | Call::Recv { fd, .. } = call
            && let Some(t) = self.k.tasks.tasks.get_mut(self.task)
        {
            t.cpu = *fd as usize % cpus;
        }
    }

    pub fn socket(&mut self, now: u64, family: i32, kind: i32, protocol: i32) -> Result<Fd, Errno> {
        let kind = (kind & abi::SOCK_TYPE_MASK) | abi::SOCK_NONBLOCK | abi::SOCK_CLOEXEC;
        match self.call(now, Call::Socket { family, kind, protocol })? {
            Ret::Fd(fd) => Ok(fd),
            _ => Err(Errno::EIO),
        }
    }

    /// The program's end of the pair has this number, by which `ss -p` finds the program. Linux' have 32 bits.
    pub fn set_inode(&mut self, fd: Fd, inode: u64) {
        if let Some(process) = self.k.tasks.tasks.get(self.task).map(|t| t.process) {
            self.k.set_inode(process, fd, inode as u32);
        }
    }

    /// From now on `key` is reported when something about `fd` changes.
    pub fn watch(&mut self, now: u64, fd: Fd, key: Key) -> Result<(), Errno> {
        let event = Some(EpollEvent { events: EVENTS, data: key.pack() });
        self.call(now, Call::EpollCtl { epfd: self.epfd, op: abi::EPOLL_CTL_ADD, fd, event }).map(drop)
    }

    /// What changed, at most 128 entries.
    pub fn ready(&mut self, now: u64) -> Vec<EpollEvent> {
        match self.call(now, Call::EpollWait { epfd: self.epfd, max: 128, timeout: Some(0) }) {
            Ok(Ret::Events(e)) => e,
            _ => Vec::new(),
        }
    }

    /// Closes; with SO_LINGER the kernel finishes in its own time.
    pub fn close(&mut self, now: u64, fd: Fd) {
        let _ = self.k.call(now, self.task, Call::Close { fd });
    }

    pub fn bind(&mut self, now: u64, fd: Fd, addr: SockAddr) -> Result<(), Errno> {
        self.call(now, Call::Bind { fd, addr: &addr.emit() }).map(drop)
    }

    pub fn connect(&mut self, now: u64, fd: Fd, addr: SockAddr) -> Result<(), Errno> {
        self.call(now, Call::Connect { fd, addr: &addr.emit() }).map(drop)
    }

    pub fn listen(&mut self, now: u64, fd: Fd, backlog: i32) -> Result<(), Errno> {
        self.call(now, Call::Listen { fd, backlog }).map(drop)
    }

    pub fn accept(&mut self, now: u64, fd: Fd) -> Result<(Fd, SockAddr), Errno> {
        match self.call(now, Call::Accept { fd, flags: abi::SOCK_NONBLOCK | abi::SOCK_CLOEXEC })? {
            Ret::Accepted { fd, peer } => Ok((fd, peer)),
            _ => Err(Errno::EIO),
        }
    }

    /// Sends what fits; returns how much.
    pub fn send(&mut self, now: u64, fd: Fd, data: Payload<'_>) -> Result<usize, Errno> {
        self.send_to(now, fd, data, 0, None, &[])
    }

    pub fn send_to(
        &mut self,
        now: u64,
        fd: Fd,
        data: Payload<'_>,
        flags: i32,
        to: Option<&[u8]>,
        cmsgs: &[Cmsg],
    ) -> Result<usize, Errno> {
        let flags = flags | abi::MSG_DONTWAIT | abi::MSG_NOSIGNAL;
        match self.call(now, Call::Send { fd, data, flags, to, cmsgs })? {
            Ret::Int(n) => Ok(usize::try_from(n).unwrap_or(0)),
            _ => Err(Errno::EIO),
        }
    }

    /// Receives what is there.
    pub fn recv(&mut self, now: u64, fd: Fd, len: usize, flags: i32) -> Result<Received, Errno> {
        match self.call(now, Call::Recv { fd, len, flags: flags | abi::MSG_DONTWAIT })? {
            Ret::Data(r) => Ok(*r),
            Ret::Stream(segs) => Ok(Received { full_len: segs.len(), segs, ..Received::default() }),
            Ret::Int(_) => Ok(Received::default()),
            _ => Err(Errno::EIO),
        }
    }

    /// Takes `n` bytes that the program has read out of the receive queue.
    pub fn consume(&mut self, now: u64, fd: Fd, n: usize) {
        let marked = self.marked(fd);
        let inline = marked && self.set_inline(fd, true);
        self.take(now, fd, n);
        if marked {
            self.set_inline(fd, inline);
        }
    }

    fn take(&mut self, now: u64, fd: Fd, mut n: usize) {
        while n > 0 {
            match self.recv(now, fd, n, 0) {
                Ok(r) if !r.segs.is_empty() => {
                    n = n.saturating_sub(r.segs.len());
                    self.k.net.pool.give(r.segs);
                }
                _ => return,
            }
        }
    }

    /// Reads what a descriptor of the host has into a page of the kernel's pool: up to [`READ`] bytes.
    pub fn read_page(&mut self, from: &impl AsFd, max: usize) -> io::Result<Seg> {
        let mut page = self.k.net.pool.page(READ + ALIGN);
        let Some(buf) = Arc::get_mut(&mut page) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let skip = buf.as_ptr().align_offset(ALIGN).min(ALIGN);
        buf.resize(skip, 0);
        let got = fd::recv_append(from, buf, max.min(READ));
        let mut seg = Seg::new(page);
        if got.as_ref().is_ok_and(|n| *n > 0) {
            seg.advance(skip);
            return Ok(seg);
        }
        self.k.net.pool.give_seg(seg);
        got.map(|_| Seg::default())
    }

    /// Takes what has been passed on out of `segs`.
    pub fn passed(&mut self, segs: &mut Segs, n: usize) {
        self.k.net.pool.give(segs.split_to(n));
    }

    pub fn shutdown(&mut self, now: u64, fd: Fd, how: i32) -> Result<(), Errno> {
        self.call(now, Call::Shutdown { fd, how }).map(drop)
    }

    pub fn getsockname(&mut self, now: u64, fd: Fd) -> Result<SockAddr, Errno> {
        self.addr(now, Call::GetSockName { fd })
    }

    pub fn getpeername(&mut self, now: u64, fd: Fd) -> Result<SockAddr, Errno> {
        self.addr(now, Call::GetPeerName { fd })
    }

    fn addr(&mut self, now: u64, call: Call<'_>) -> Result<SockAddr, Errno> {
        match self.call(now, call)? {
            Ret::Addr(a) => Ok(a),
            _ => Err(Errno::EIO),
        }
    }

    pub fn getsockopt(&mut self, now: u64, fd: Fd, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
        match self.call(now, Call::GetSockOpt { fd, level, name, len })? {
            Ret::Opt(v) => Ok(v),
            Ret::Int(n) => Ok((n as i32).to_ne_bytes().to_vec()),
            _ => Err(Errno::EIO),
        }
    }

    /// IP_MSFILTER, which reads the program's memory before it writes there.
    pub fn getsockopt_msfilter(&mut self, fd: Fd, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        self.k.getsockopt_msfilter(self.task, fd, asked)
    }

    /// IPV6_FLOWLABEL_MGR of process `pid`.
    pub fn flowlabel(&mut self, now: u64, fd: Fd, value: &[u8], pid: u32) -> Result<u32, Errno> {
        self.k.ipv6_flowlabel(now, self.task, fd, value, pid)
    }

    pub fn getsockopt_flowlabel(&mut self, fd: Fd, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        self.k.getsockopt_flowlabel(self.task, fd, asked)
    }

    pub fn xt_getsockopt(&mut self, fd: Fd, pf: Pf, name: i32, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        self.k.xt_getsockopt(self.task, fd, pf, name, asked)
    }

    pub fn xt_setsockopt(&mut self, fd: Fd, pf: Pf, name: i32, value: &[u8]) -> Result<OldCounters, Errno> {
        self.k.xt_setsockopt(self.task, fd, pf, name, value)
    }

    pub fn original_dst(&self, fd: Fd) -> Result<abi::SockAddr, Errno> {
        self.k.original_dst(self.task, fd)
    }

    pub fn setsockopt(&mut self, now: u64, fd: Fd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.call(now, Call::SetSockOpt { fd, level, name, value }).map(drop)
    }

    /// The events among `events` (and the errors) that stand now.
    pub fn poll(&mut self, now: u64, fd: Fd, events: u32) -> u32 {
        let fds = [PollFd { fd: fd as i32, events: events as u16, revents: 0 }];
        match self.call(now, Call::Poll { fds: &fds, timeout: Some(0) }) {
            Ok(Ret::Poll(fds)) => fds.first().map_or(0, |p| u32::from(p.revents)),
            _ => 0,
        }
    }

    /// A value written to `/proc/sys`.
    pub fn sysctl_write(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        if key.starts_with('/') {
            return self.tree_write(key, value);
        }
        self.k.sysctl_set(self.ns, key, value)
    }

    pub fn set_flag(&mut self, now: u64, fd: Fd, level: i32, name: i32) -> Result<(), Errno> {
        self.setsockopt(now, fd, level, name, &1i32.to_ne_bytes())
    }

    pub fn ioctl(&mut self, now: u64, fd: Fd, request: u64) -> Result<i64, Errno> {
        match self.call(now, Call::Ioctl { fd, request, arg: 0 })? {
            Ret::Int(n) => Ok(n),
            _ => Err(Errno::EIO),
        }
    }

    /// Takes the pending error (SO_ERROR).
    pub fn take_error(&mut self, now: u64, fd: Fd) -> i32 {
        let v = self.getsockopt(now, fd, abi::SOL_SOCKET, abi::SO_ERROR, 4).unwrap_or_default();
        v.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b))
    }

    /// The text of a `/proc` file of the stack.
    pub fn proc_text(&mut self, path: &str) -> Option<String> {
        let ns = self.ns;
        if let Some(key) = path.strip_prefix("/proc/sys/") {
            return self.k.sysctl_get(ns, &key.replace('/', ".")).map(|value| value + "\n");
        }
        self.k.proc_text(ns, path)
    }

    /// A time limit option (SO_RCVTIMEO, SO_SNDTIMEO) in nanoseconds, `None` for ever.
    pub fn time_limit(&mut self, now: u64, fd: Fd, name: i32) -> Option<u64> {
        let v = self.getsockopt(now, fd, abi::SOL_SOCKET, name, 16).ok()?;
        let (s, us) = (i64::from_ne_bytes(*v.first_chunk()?), i64::from_ne_bytes(*v.get(8..)?.first_chunk()?));
        let ns = (s as u64).checked_mul(1_000_000_000)?.checked_add((us as u64).checked_mul(1000)?)?;
        (ns > 0).then_some(ns)
    }
}

/// How a machine is made.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    pub name: String,
    pub now: u64,
    pub wall: u64,
    pub seed: u64,
    pub addr: Option<(std::net::Ipv4Addr, u8)>,
    pub via: Option<std::net::Ipv4Addr>,
    /// Without an address of its own for the card, IPv6 is off.
    pub addr6: Option<(std::net::Ipv6Addr, u8)>,
    pub via6: Option<std::net::Ipv6Addr>,
    pub ipv6: bool,
    pub mtu: u32,
    pub nic: Vec<(String, String)>,
    pub cpus: u32,
    /// Bytes of memory, when they are said.
    pub mem: Option<u64>,
    pub sysctls: Vec<(String, String)>,
    pub drop_caps: bool,
}
