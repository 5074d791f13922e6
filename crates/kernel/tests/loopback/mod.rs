//! A machine with lo, one program, and calls that read like a script.
#![allow(dead_code, missing_debug_implementations)]
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::Kernel;
use belljar_kernel::ids::{NsId, TaskId};
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use std::net::Ipv4Addr;

pub struct World {
    pub k: Kernel,
    pub ns: NsId,
    pub t: TaskId,
    pub now: u64,
}

pub fn addr(port: u16) -> abi::SockAddrBytes {
    SockAddr::V4(Ipv4Addr::LOCALHOST, port).emit()
}

pub fn send(fd: Fd, bytes: &[u8]) -> Call<'_> {
    Call::Send { fd, data: Payload::Bytes(bytes), flags: 0, to: None, cmsgs: &[] }
}

pub fn recv(fd: Fd, len: usize) -> Call<'static> {
    Call::Recv { fd, len, flags: 0 }
}

pub fn fd(r: Ret) -> Fd {
    match r {
        Ret::Fd(fd) | Ret::Accepted { fd, .. } => fd,
        other => panic!("no descriptor: {other:?}"),
    }
}

impl World {
    pub fn new() -> World {
        let mut k = Kernel::new(7);
        let ns = k.net.add_ns("host");
        let lo = k.net.ns.get(ns).unwrap().lo;
        k.set_link(lo, true).unwrap();
        let p = k.add_process(ns, 0, Caps::ROOT, 1 << 20, "test");
        let t = k.add_task(p, 0).unwrap();
        World { k, ns, t, now: 1_000_000_000 }
    }

    pub fn try_call(&mut self, c: Call<'_>) -> SysResult {
        self.now += 1_000;
        match self.k.call(self.now, self.t, c) {
            Submitted::Done(r) => r,
            Submitted::Parked(_) => panic!("parked"),
        }
    }

    pub fn call(&mut self, c: Call<'_>) -> Ret {
        let what = format!("{c:?}");
        self.try_call(c).unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    pub fn socket(&mut self) -> Fd {
        let kind = abi::SOCK_STREAM | abi::SOCK_NONBLOCK;
        fd(self.call(Call::Socket { family: abi::AF_INET, kind, protocol: 0 }))
    }

    pub fn listen(&mut self, port: u16, backlog: i32) -> Fd {
        let l = self.socket();
        self.call(Call::Bind { fd: l, addr: &addr(port) });
        self.call(Call::Listen { fd: l, backlog });
        l
    }

    /// A client and the server's end.
    pub fn connected(&mut self, port: u16) -> (Fd, Fd) {
        let l = self.listen(port, 16);
        let c = self.socket();
        let _ = self.try_call(Call::Connect { fd: c, addr: &addr(port) });
        (c, fd(self.call(Call::Accept { fd: l, flags: abi::SOCK_NONBLOCK })))
    }

    pub fn read(&mut self, fd: Fd, len: usize) -> Vec<u8> {
        match self.call(recv(fd, len)) {
            Ret::Stream(s) => s.to_vec(),
            Ret::Data(d) => d.segs.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn sockopt(&mut self, fd: Fd, level: i32, name: i32) -> i32 {
        match self.call(Call::GetSockOpt { fd, level, name, len: 4 }) {
            Ret::Opt(v) => i32::from_ne_bytes(v[..4].try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub fn sleep_ms(&mut self, ms: u64) {
        let end = self.now + ms * 1_000_000;
        while let Some(at) = self.k.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.k.tick(self.now);
        }
        self.now = end;
        self.k.tick(end);
    }

    pub fn mib(&self, c: Mib) -> u64 {
        self.k.net.ns.get(self.ns).unwrap().mib.get(c)
    }

    pub fn check(&self) {
        if let Err(v) = self.k.check() {
            panic!("{v:?}");
        }
    }

    pub fn errno(r: SysResult) -> Errno {
        r.expect_err("should fail")
    }
}
