//! One machine with lo up, driven by system calls in virtual time: what the tests of the call boundary share.
#![allow(dead_code)]
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::ids::*;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use core::net::{Ipv4Addr, Ipv6Addr};

pub const MS: u64 = 1_000_000;
pub const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub struct Host {
    pub k: Kernel,
    pub ns: NsId,
    pub process: ProcId,
    pub task: TaskId,
    pub now: u64,
}

/// An errno, or what a call returned as a number.
pub type Said = Result<i64, Errno>;

impl Host {
    pub fn new() -> Host {
        Host::with(0, Caps::ROOT, 1024)
    }

    pub fn with(uid: u32, caps: Caps, nofile: u32) -> Host {
        let mut k = Kernel::new(7);
        let ns = k.net.add_ns("host");
        let lo = k.net.ns.get(ns).unwrap().lo;
        k.net.set_link(lo, true).unwrap();
        let process = k.add_process(ns, uid, caps, nofile, "test");
        let task = k.add_task(process, 0).unwrap();
        Host { k, ns, process, task, now: 0 }
    }

    pub fn thread(&mut self) -> TaskId {
        self.k.add_task(self.process, 0).unwrap()
    }

    /// A call of the first thread, which has to end in the step in which it began.
    pub fn call(&mut self, c: Call<'_>) -> SysResult {
        let task = self.task;
        self.call_as(task, c)
    }

    pub fn call_as(&mut self, task: TaskId, c: Call<'_>) -> SysResult {
        let submitted = self.k.call(self.now, task, c);
        self.check();
        match submitted {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => {
                let at = self.k.tasks.done.iter().position(|d| d.0 == id).expect("the call sleeps");
                self.k.tasks.done.remove(at).unwrap().1
            }
        }
    }

    /// A call that goes to sleep.
    pub fn park(&mut self, task: TaskId, c: Call<'_>) -> CallId {
        let submitted = self.k.call(self.now, task, c);
        self.check();
        match submitted {
            Submitted::Parked(id) => {
                assert!(self.k.tasks.done.iter().all(|d| d.0 != id), "the call did not sleep");
                id
            }
            Submitted::Done(r) => panic!("the call did not sleep: {r:?}"),
        }
    }

    /// Calls that finished, in their order.
    pub fn done(&mut self) -> Vec<(CallId, SysResult)> {
        std::iter::from_fn(|| self.k.next_completion()).collect()
    }

    /// Lets time pass, timer by timer.
    pub fn sleep(&mut self, ns: u64) {
        let end = self.now + ns;
        while let Some(at) = self.k.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.k.tick(self.now);
        }
        self.now = end;
        self.k.tick(end);
        self.check();
    }

    pub fn check(&self) {
        if let Err(v) = self.k.check() {
            panic!("{v}");
        }
    }

    pub fn int(&mut self, c: Call<'_>) -> Said {
        Ok(match self.call(c)? {
            Ret::Int(n) => n,
            Ret::Fd(fd) => fd.into(),
            other => panic!("{other:?}"),
        })
    }

    pub fn socket(&mut self, kind: i32) -> Fd {
        self.int(Call::Socket { family: AF_INET, kind, protocol: 0 }).unwrap() as Fd
    }

    pub fn bind(&mut self, fd: Fd, addr: Ipv4Addr, port: u16) -> Said {
        self.int(Call::Bind { fd, addr: &SockAddr::V4(addr, port).emit() })
    }

    pub fn connect(&mut self, fd: Fd, port: u16) -> Said {
        self.int(Call::Connect { fd, addr: &SockAddr::V4(LO, port).emit() })
    }

    /// A UDP socket bound to a port of lo.
    pub fn udp(&mut self, port: u16) -> Fd {
        let fd = self.socket(SOCK_DGRAM);
        self.bind(fd, LO, port).unwrap();
        fd
    }

    pub fn sendto(&mut self, fd: Fd, data: &[u8], port: u16) -> Said {
        let to = SockAddr::V4(LO, port).emit();
        self.int(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs: &[] })
    }

    pub fn send(&mut self, fd: Fd, data: &[u8]) -> Said {
        self.int(Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: None, cmsgs: &[] })
    }

    /// recv with MSG_DONTWAIT.
    pub fn recv(&mut self, fd: Fd, len: usize) -> Result<Vec<u8>, Errno> {
        self.call(Call::Recv { fd, len, flags: MSG_DONTWAIT }).map(bytes)
    }

    pub fn listener(&mut self, port: u16, backlog: i32) -> Fd {
        let fd = self.socket(SOCK_STREAM);
        self.bind(fd, LO, port).unwrap();
        self.int(Call::Listen { fd, backlog }).unwrap();
        fd
    }

    /// A connection to a listener that nobody accepted yet.
    pub fn client(&mut self, port: u16) -> Fd {
        let fd = self.socket(SOCK_STREAM);
        self.connect(fd, port).unwrap();
        fd
    }

    pub fn accept(&mut self, fd: Fd) -> Result<Fd, Errno> {
        match self.call(Call::Accept { fd, flags: 0 })? {
            Ret::Accepted { fd, .. } => Ok(fd),
            other => panic!("{other:?}"),
        }
    }

    /// Both ends of a connection over lo.
    pub fn pair(&mut self, port: u16) -> (Fd, Fd) {
        let l = self.listener(port, 8);
        let c = self.client(port);
        let s = self.accept(l).unwrap();
        self.close(l);
        (c, s)
    }

    pub fn close(&mut self, fd: Fd) {
        self.int(Call::Close { fd }).unwrap();
    }

    pub fn nonblock(&mut self, fd: Fd) {
        self.int(Call::Ioctl { fd, request: FIONBIO.into(), arg: 1 }).unwrap();
    }

    pub fn epoll(&mut self) -> Fd {
        self.int(Call::EpollCreate { flags: 0 }).unwrap() as Fd
    }

    pub fn ctl(&mut self, epfd: Fd, op: i32, fd: Fd, events: u32) -> Said {
        self.int(Call::EpollCtl { epfd, op, fd, event: Some(EpollEvent { events, data: fd.into() }) })
    }

    pub fn add(&mut self, epfd: Fd, fd: Fd, events: u32) {
        self.ctl(epfd, EPOLL_CTL_ADD, fd, events).unwrap();
    }

    /// (descriptor, events) of an epoll_wait that does not wait.
    pub fn wait(&mut self, epfd: Fd, max: i32) -> Vec<(Fd, u32)> {
        match self.call(Call::EpollWait { epfd, max, timeout: Some(0) }).unwrap() {
            Ret::Events(e) => e.iter().map(|e| (e.data as Fd, e.events)).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Events of the only descriptor that is watched; 0 is none.
    pub fn one(&mut self, epfd: Fd) -> u32 {
        self.wait(epfd, 8).first().map_or(0, |e| e.1)
    }

    pub fn poll(&mut self, fd: Fd) -> u16 {
        let events = (POLLIN | POLLOUT | POLLPRI | POLLRDHUP) as u16;
        let fds = [PollFd { fd: fd as i32, events, revents: 0 }];
        match self.call(Call::Poll { fds: &fds, timeout: Some(0) }).unwrap() {
            Ret::Poll(p) => p[0].revents,
            other => panic!("{other:?}"),
        }
    }

    pub fn set(&mut self, fd: Fd, level: i32, name: i32, value: i32) -> Said {
        self.int(Call::SetSockOpt { fd, level, name, value: &value.to_ne_bytes() })
    }

    pub fn get(&mut self, fd: Fd, level: i32, name: i32) -> Result<i32, Errno> {
        match self.call(Call::GetSockOpt { fd, level, name, len: 4 })? {
            Ret::Opt(v) => Ok(i32::from_ne_bytes(v[..4].try_into().unwrap())),
            other => panic!("{other:?}"),
        }
    }

    pub fn sockname(&mut self, fd: Fd) -> SockAddr {
        match self.call(Call::GetSockName { fd }).unwrap() {
            Ret::Addr(a) => a,
            other => panic!("{other:?}"),
        }
    }
}

pub fn bytes(r: Ret) -> Vec<u8> {
    match r {
        Ret::Stream(s) => s.to_vec(),
        Ret::Data(d) => d.segs.to_vec(),
        other => panic!("{other:?}"),
    }
}

pub fn mapped(addr: Ipv4Addr, port: u16) -> SockAddrBytes {
    SockAddr::v6(addr.to_ipv6_mapped(), port).emit()
}

pub fn v6(addr: Ipv6Addr, port: u16) -> SockAddrBytes {
    SockAddr::v6(addr, port).emit()
}
