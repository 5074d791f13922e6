//! System calls: from a [`Call`] to the operation of a socket, file or epoll instance.
//!
//! One call is one step: the operation, the softirq pass that Linux makes when the task lets go of the socket, and the
//! calls which that woke. What finished at once is returned; what sleeps gets a [`CallId`] and is completed later.
//! Order of checks and errors: `semantics` §1, §2, §5, §10.
mod addr;
mod epoll;
mod fd;
mod ioctl;
mod message;
mod socket;
mod sockopt;

use crate::env::Nanos;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::task::call::*;
use crate::task::park::Run;
use belljar_abi::Errno;

/// Whose descriptors and rights count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub process: ProcId,
}

impl Kernel {
    /// A system call of `task` at `now`. Wake-ups of other calls end up in [`Kernel::next_completion`].
    pub fn call(&mut self, now: Nanos, task: TaskId, call: Call<'_>) -> Submitted {
        self.begin_step(now);
        let frames = self.net.frames.len();
        let run = match self.tasks.tasks.get(task) {
            Some(t) => {
                self.net.cpu = t.cpu;
                let who = Caller { process: t.process };
                self.dispatch(who, call)
            }
            None => Run::Done(Err(Errno::ESRCH)),
        };
        let submitted = match run {
            Run::Done(result) => Submitted::Done(result),
            Run::Block(op, block, deadline) => Submitted::Parked(self.park(task, op, block, deadline)),
        };
        if self.net.model.is_some() {
            self.charge_call(task, frames, &submitted);
        }
        self.end_step();
        submitted
    }

    fn dispatch(&mut self, who: Caller, call: Call<'_>) -> Run {
        let k = self;
        Run::Done(match call {
            Call::Send { fd, data, flags, to, cmsgs } => return message::send(k, who, fd, data, flags, to, cmsgs),
            Call::Recv { fd, len, flags } => return message::recv(k, who, fd, len, flags),
            Call::Accept { fd, flags } => return socket::accept(k, who, fd, flags),
            Call::Connect { fd, addr } => return socket::connect(k, who, fd, addr),
            Call::Close { fd } => return fd::close(k, who, fd),
            Call::Poll { fds, timeout } => return fd::poll(k, who, fds, timeout),
            Call::EpollWait { epfd, max, timeout } => return epoll::wait(k, who, epfd, max, timeout),
            Call::Socket { family, kind, protocol } => socket::socket(k, who, family, kind, protocol),
            Call::Bind { fd, addr } => socket::bind(k, who, fd, addr),
            Call::Listen { fd, backlog } => socket::listen(k, who, fd, backlog),
            Call::Shutdown { fd, how } => socket::shutdown(k, who, fd, how),
            Call::GetSockName { fd } => socket::getsockname(k, who, fd),
            Call::GetPeerName { fd } => socket::getpeername(k, who, fd),
            Call::GetSockOpt { fd, level, name, len } => sockopt::getsockopt(k, who, fd, level, name, len),
            Call::SetSockOpt { fd, level, name, value } => sockopt::setsockopt(k, who, fd, level, name, value),
            Call::Ioctl { fd, request, arg } => ioctl::ioctl(k, who, fd, request, arg),
            Call::Dup { fd, min, cloexec } => fd::dup(k, who, fd, min, cloexec),
            Call::Dup2 { fd, to, cloexec } => fd::dup2(k, who, fd, to, cloexec),
            Call::Fcntl { fd, cmd, arg } => fd::fcntl(k, who, fd, cmd, arg),
            Call::EpollCreate { flags } => epoll::create(k, who, flags),
            Call::EpollCtl { epfd, op, fd, event } => epoll::ctl(k, who, epfd, op, fd, event),
            Call::SetNofile { soft, hard } => fd::set_nofile(k, who, soft, hard),
        })
    }

    /// Runs a parked operation again.
    pub(crate) fn run_op(&mut self, task: TaskId, op: Op, ctx: RunCtx, deadline: Option<Nanos>) -> Run {
        let Some(process) = self.tasks.tasks.get(task).map(|t| t.process) else { return Run::Done(Err(Errno::EINTR)) };
        let who = Caller { process };
        match op {
            Op::Accept { file, flags } => socket::run_accept(self, who, file, flags, ctx),
            Op::Connect { file, addr, later } => socket::run_connect(self, file, addr, later, ctx),
            Op::Send { file, rest, sent, flags, to, cmsgs, caps, zerocopy } => {
                let msg = SendMsg { data: Payload::Segs(rest), sent, flags, to, cmsgs: cmsgs.into(), caps, zerocopy };
                let Some(sock) = self.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
                message::run_send(self, file, sock, msg, ctx)
            }
            Op::Recv { file, msg } => {
                let Some(sock) = self.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
                message::run_recv(self, file, sock, msg, ctx)
            }
            Op::Poll { fds } => fd::run_poll(self, who, fds, deadline, ctx),
            Op::EpollWait { file, ep, max } => epoll::run_wait(self, file, ep, max, deadline, ctx),
            Op::Linger { sock } => fd::run_release(self, sock, ctx),
        }
    }
}
