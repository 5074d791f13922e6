//! One belljar kernel under the real clock, as a program would use it: blocking calls by stepping until they complete.

use anyhow::{Context, Result, bail};
use belljar_abi::{AF_INET, Errno, MSG_DONTWAIT, SOCK_STREAM, SockAddr};
use belljar_kernel::ids::{CallId, NsId, TaskId};
use belljar_kernel::task::call::{Call, Fd, Payload, Ret, Submitted, SysResult};
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::net::Ipv4Addr;

/// A kernel with its loopback, one process, and the clock, read once per step.
pub struct Machine {
    pub kernel: Kernel,
    /// Who calls.
    pub task: TaskId,
    begin: Timespec,
}

/// A namespace with lo up and one process of root's.
pub fn host(kernel: &mut Kernel, name: &str) -> Result<(NsId, TaskId)> {
    let ns = kernel.net.add_ns(name);
    let lo = kernel.net.ns.get(ns).map(|n| n.lo).context("lo")?;
    kernel.set_link(lo, true).map_err(|e| anyhow::anyhow!("lo: {e}"))?;
    let process = kernel.add_process(ns, 0, Caps::ROOT, 1 << 20, name);
    Ok((ns, kernel.add_task(process, 0).context("task")?))
}

impl Machine {
    /// A machine with lo up and one process of root's.
    pub fn new() -> Result<Machine> {
        let mut kernel = Kernel::new(1);
        let (_, task) = host(&mut kernel, "bench")?;
        Ok(Machine { kernel, task, begin: clock_gettime(ClockId::Monotonic) })
    }

    /// Until a sleeping call is completed, by time alone: there is nobody else.
    fn wait(&mut self, id: CallId) -> SysResult {
        loop {
            while let Some(output) = self.kernel.pop_output() {
                if let Output::Complete { call, result } = output
                    && call == id
                {
                    return result;
                }
            }
            self.kernel.tick(self.now());
        }
    }

    pub fn now(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        ((now.tv_sec - self.begin.tv_sec) * 1_000_000_000 + (now.tv_nsec - self.begin.tv_nsec)) as u64
    }

    pub fn call(&mut self, call: Call<'_>) -> SysResult {
        match self.kernel.call(self.now(), self.task, call) {
            Submitted::Done(result) => result,
            Submitted::Parked(id) => self.wait(id),
        }
    }

    /// A call that must succeed.
    pub fn must(&mut self, what: &str, call: Call<'_>) -> Result<Ret> {
        self.call(call).map_err(|e| anyhow::anyhow!("{what}: {e}"))
    }

    pub fn fd(&mut self, what: &str, call: Call<'_>) -> Result<Fd> {
        match self.must(what, call)? {
            Ret::Fd(fd) | Ret::Accepted { fd, .. } => Ok(fd),
            other => bail!("{what}: {other:?}"),
        }
    }

    pub fn socket(&mut self, kind: i32) -> Result<Fd> {
        self.fd("socket", Call::Socket { family: AF_INET, kind, protocol: 0 })
    }

    pub fn listener(&mut self) -> Result<(Fd, u16)> {
        let fd = self.socket(SOCK_STREAM)?;
        let any = SockAddr::V4(Ipv4Addr::UNSPECIFIED, 0).emit();
        self.must("bind", Call::Bind { fd, addr: &any })?;
        self.must("listen", Call::Listen { fd, backlog: 128 })?;
        let Ret::Addr(addr) = self.must("getsockname", Call::GetSockName { fd })? else { bail!("getsockname") };
        Ok((fd, addr.port().context("port")?))
    }

    /// A connected pair over loopback to 127.0.0.`host`.
    pub fn pair(&mut self, listener: (Fd, u16), host: u8) -> Result<(Fd, Fd)> {
        let c = self.socket(SOCK_STREAM)?;
        let to = SockAddr::V4(Ipv4Addr::new(127, 0, 0, host), listener.1).emit();
        self.must("connect", Call::Connect { fd: c, addr: &to })?;
        let s = self.fd("accept", Call::Accept { fd: listener.0, flags: 0 })?;
        Ok((c, s))
    }

    /// How many bytes went in without blocking.
    pub fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize> {
        let call = Call::Send { fd, data: Payload::Bytes(bytes), flags: MSG_DONTWAIT, to: None, cmsgs: &[] };
        match self.call(call) {
            Ok(Ret::Int(n)) => Ok(n as usize),
            Err(Errno::EAGAIN) => Ok(0),
            other => bail!("send: {other:?}"),
        }
    }

    /// What is there, copied out as a program's recv would: zero when there is nothing.
    pub fn recv(&mut self, fd: Fd, to: &mut [u8]) -> Result<usize> {
        let ret = match self.call(Call::Recv { fd, len: to.len(), flags: MSG_DONTWAIT }) {
            Ok(ret) => ret,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(e) => bail!("recv: {e}"),
        };
        let n = match &ret {
            Ret::Stream(segs) => segs.copy_to(0, to),
            Ret::Data(data) => data.segs.copy_to(0, to),
            other => bail!("recv: {other:?}"),
        };
        self.kernel.give_back(ret);
        Ok(n)
    }

    pub fn close(&mut self, fd: Fd) -> Result<()> {
        self.must("close", Call::Close { fd }).map(|_| ())
    }
}
