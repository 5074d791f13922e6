//! Workloads as async code: a [`Task`] is a thread on a host, a [`Sock`] its socket; every method is a system call.
//!
//! One thread, no wakers: a job is polled again when its call completed or its time came, in the order in which that
//! happened.
use crate::world::World;
use belljar_abi::poll::POLLIN;
use belljar_abi::socket::*;
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::Nanos;
use belljar_kernel::ids::{CallId, TaskId};
use belljar_kernel::task::call::{Call, Fd, Payload, PollFd, Received, Ret, Submitted, SysResult};
use belljar_wire::Segs;
// The executor is the one place that shares: jobs and driver loop hold the world in turn.
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub type Shared = Rc<RefCell<World>>;

/// A thread of a process on a host.
#[derive(Clone, Debug)]
pub struct Task {
    pub(crate) world: Shared,
    pub host: usize,
    pub id: TaskId,
}

/// A call on its way: done at once, or parked in the kernel.
#[derive(Debug)]
pub struct Calling {
    task: Task,
    state: State,
    deadline: Option<Nanos>,
}

#[derive(Debug)]
enum State {
    Done(Option<SysResult>),
    Parked(CallId),
}

impl Calling {
    /// Interrupted by a signal after `ns` (EINTR, or what it did until then).
    pub fn within(mut self, ns: Nanos) -> Calling {
        if let State::Parked(_) = self.state {
            let mut w = self.task.world.borrow_mut();
            let at = w.now.saturating_add(ns);
            w.sleep_until(at);
            self.deadline = Some(at);
        }
        self
    }
}

impl Future for Calling {
    type Output = SysResult;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<SysResult> {
        let me = &mut *self;
        if me.task.world.borrow().failure.is_some() {
            // The run is over: a job that only makes calls that are done at once would never find out.
            return Poll::Pending;
        }
        let id = match &mut me.state {
            State::Done(r) => return Poll::Ready(r.take().unwrap_or(Err(Errno::EBADFD))),
            State::Parked(id) => *id,
        };
        let mut w = me.task.world.borrow_mut();
        let mut result = w.take_result(me.task.host, id);
        if result.is_none() && me.deadline.is_some_and(|at| w.now >= at) {
            result = w.cancel(me.task.host, id);
        }
        let Some(r) = result else { return Poll::Pending };
        drop(w);
        me.state = State::Done(None);
        Poll::Ready(r)
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let State::Parked(id) = self.state
            && let Ok(mut w) = self.task.world.try_borrow_mut()
        {
            w.forget(self.task.host, id);
        }
    }
}

/// Waits until a task has had its CPU time.
#[derive(Debug)]
pub struct Working(Task);

impl Future for Working {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let me = &self.0;
        if me.world.borrow_mut().has_worked(me.host, me.id) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Waits for a virtual time.
#[derive(Debug)]
pub struct SleepUntil {
    world: Shared,
    at: Nanos,
    asked: bool,
}

impl Future for SleepUntil {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut w = self.world.borrow_mut();
        if w.now >= self.at {
            return Poll::Ready(());
        }
        if !self.asked {
            w.sleep_until(self.at);
            drop(w);
            self.asked = true;
        }
        Poll::Pending
    }
}

/// Lets other jobs run until `ns` from now.
pub fn sleep(world: &Shared, ns: Nanos) -> SleepUntil {
    let at = world.borrow().now.saturating_add(ns);
    SleepUntil { world: world.clone(), at, asked: false }
}

fn unexpected<T>(_: Ret) -> Result<T, Errno> {
    Err(Errno::EPROTO)
}

impl Task {
    pub fn call(&self, call: Call<'_>) -> Calling {
        let state = match self.world.borrow_mut().call(self.host, self.id, call) {
            Submitted::Done(r) => State::Done(Some(r)),
            Submitted::Parked(id) => State::Parked(id),
        };
        Calling { task: self.clone(), state, deadline: None }
    }

    pub fn now(&self) -> Nanos {
        self.world.borrow().now
    }

    /// Computes for so long on its CPU, and pays for its calls so far; at once where nothing costs time.
    pub fn work(&self, ns: Nanos) -> Working {
        self.world.borrow_mut().work(self.host, self.id, ns);
        Working(self.clone())
    }

    /// Runs on another CPU from now on.
    pub fn on_cpu(self, cpu: usize) -> Task {
        if let Some(t) =
            self.world.borrow_mut().hosts.get_mut(self.host).and_then(|h| h.kernel.tasks.tasks.get_mut(self.id))
        {
            t.cpu = cpu;
        }
        self
    }

    pub fn sleep(&self, ns: Nanos) -> SleepUntil {
        sleep(&self.world, ns)
    }

    /// A socket of the family of an address.
    async fn socket(&self, of: &SockAddr, kind: i32) -> Result<Sock, Errno> {
        self.open(of.family(), kind, 0).await
    }

    pub async fn open(&self, family: i32, kind: i32, protocol: i32) -> Result<Sock, Errno> {
        match self.call(Call::Socket { family, kind, protocol }).await? {
            Ret::Fd(fd) => Ok(Sock { task: self.clone(), fd }),
            other => unexpected(other),
        }
    }

    pub async fn tcp(&self, of: &SockAddr) -> Result<Sock, Errno> {
        self.socket(of, SOCK_STREAM).await
    }

    pub async fn udp(&self, of: &SockAddr) -> Result<Sock, Errno> {
        self.socket(of, SOCK_DGRAM).await
    }

    /// A listening TCP socket.
    pub async fn listen(&self, addr: SockAddr, backlog: i32) -> Result<Sock, Errno> {
        self.listen_as(addr, false, backlog).await
    }

    /// The same, for IPv6 without IPv4 if `v6only`.
    pub async fn listen_as(&self, addr: SockAddr, v6only: bool, backlog: i32) -> Result<Sock, Errno> {
        let s = self.tcp(&addr).await?;
        if v6only {
            s.set_int(SOL_IPV6, IPV6_V6ONLY, 1).await?;
        }
        s.set_int(SOL_SOCKET, SO_REUSEADDR, 1).await?;
        s.bind(addr).await?;
        self.call(Call::Listen { fd: s.fd, backlog }).await?;
        Ok(s)
    }

    pub async fn connect(&self, addr: SockAddr) -> Result<Sock, Errno> {
        let s = self.tcp(&addr).await?;
        match s.connect(addr).await {
            Ok(()) => Ok(s),
            Err(e) => {
                s.close().await.ok();
                Err(e)
            }
        }
    }
}

/// A socket of a task; closed by [`Sock::close`] only, as in a program.
#[derive(Clone, Debug)]
pub struct Sock {
    pub task: Task,
    pub fd: Fd,
}

impl Sock {
    pub async fn bind(&self, addr: SockAddr) -> Result<(), Errno> {
        self.task.call(Call::Bind { fd: self.fd, addr: &addr.emit() }).await.map(drop)
    }

    pub async fn connect(&self, addr: SockAddr) -> Result<(), Errno> {
        self.connecting(addr).await.map(drop)
    }

    pub fn connecting(&self, addr: SockAddr) -> Calling {
        self.task.call(Call::Connect { fd: self.fd, addr: &addr.emit() })
    }

    pub fn accepting(&self) -> Calling {
        self.task.call(Call::Accept { fd: self.fd, flags: 0 })
    }

    /// The socket that an accept call returned, for this task.
    pub fn accepted(&self, r: SysResult) -> Result<(Sock, SockAddr), Errno> {
        match r? {
            Ret::Accepted { fd, peer } => Ok((Sock { task: self.task.clone(), fd }, peer)),
            other => unexpected(other),
        }
    }

    pub async fn accept(&self) -> Result<(Sock, SockAddr), Errno> {
        let r = self.accepting().await;
        self.accepted(r)
    }

    pub fn sending(&self, bytes: &[u8], flags: i32) -> Calling {
        self.task.call(Call::Send { fd: self.fd, data: Payload::Bytes(bytes), flags, to: None, cmsgs: &[] })
    }

    pub fn sending_to(&self, bytes: &[u8], to: SockAddr) -> Calling {
        let to = to.emit();
        self.task.call(Call::Send { fd: self.fd, data: Payload::Bytes(bytes), flags: 0, to: Some(&to), cmsgs: &[] })
    }

    pub fn receiving(&self, len: usize, flags: i32) -> Calling {
        self.task.call(Call::Recv { fd: self.fd, len, flags })
    }

    pub async fn send_all(&self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match self.sending(bytes, MSG_NOSIGNAL).await? {
                Ret::Int(n) if n > 0 => bytes = bytes.get(n as usize..).unwrap_or(&[]),
                other => return unexpected(other),
            }
        }
        Ok(())
    }

    /// Stream bytes, or a datagram with its sender.
    pub fn received(r: SysResult) -> Result<Received, Errno> {
        match r? {
            Ret::Stream(segs) => Ok(Received { full_len: segs.len(), segs, ..Received::default() }),
            Ret::Data(d) => Ok(*d),
            Ret::Int(0) => Ok(Received::default()),
            other => unexpected(other),
        }
    }

    pub async fn recv(&self, len: usize) -> Result<Segs, Errno> {
        Sock::received(self.receiving(len, 0).await).map(|r| r.segs)
    }

    pub async fn shutdown(&self, how: i32) -> Result<(), Errno> {
        self.task.call(Call::Shutdown { fd: self.fd, how }).await.map(drop)
    }

    pub async fn close(&self) -> Result<(), Errno> {
        self.task.call(Call::Close { fd: self.fd }).await.map(drop)
    }

    pub async fn set(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.task.call(Call::SetSockOpt { fd: self.fd, level, name, value }).await.map(drop)
    }

    pub async fn set_int(&self, level: i32, name: i32, value: i32) -> Result<(), Errno> {
        self.set(level, name, &value.to_ne_bytes()).await
    }

    /// Close sends RST (SO_LINGER with zero).
    pub async fn abort_on_close(&self) -> Result<(), Errno> {
        self.set(SOL_SOCKET, SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]).await
    }

    pub async fn opt(&self, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
        match self.task.call(Call::GetSockOpt { fd: self.fd, level, name, len }).await? {
            Ret::Opt(bytes) => Ok(bytes),
            other => unexpected(other),
        }
    }

    /// Waits until it can be read; the bits that are ready, 0 when the time is over.
    pub async fn readable(&self, timeout: Option<Nanos>) -> Result<u16, Errno> {
        let fds = [PollFd { fd: self.fd as i32, events: POLLIN as u16, revents: 0 }];
        match self.task.call(Call::Poll { fds: &fds, timeout }).await? {
            Ret::Poll(fds) => Ok(fds.first().map_or(0, |p| p.revents)),
            Ret::Int(_) => Ok(0),
            other => unexpected(other),
        }
    }
}
