//! Descriptors: close, dup, fcntl, RLIMIT_NOFILE, and poll over many of them.
use super::Caller;
use crate::env::Nanos;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::switch;
use crate::task::call::*;
use crate::task::park::{Block, Run};
use belljar_abi::Errno;

const F_GETFD: i32 = 1;
const F_SETFD: i32 = 2;
const F_GETFL: i32 = 3;
const F_SETFL: i32 = 4;
const F_SETOWN: i32 = 8;
const F_GETOWN: i32 = 9;
const FD_CLOEXEC: i64 = 1;
const O_RDWR: i64 = 2;
const O_NONBLOCK: i64 = 0x800;

pub(super) fn close(k: &mut Kernel, who: Caller, fd: Fd) -> Run {
    let Some(file) = k.tasks.procs.get_mut(who.process).and_then(|p| p.fds.take(fd)) else {
        return Run::Done(Err(Errno::EBADF));
    };
    match k.fput(file) {
        Some(sock) => run_release(k, sock, RunCtx::default()),
        None => Run::Done(Ok(Ret::Int(0))),
    }
}

/// The last reference went. With SO_LINGER it waits, also when the descriptor was non-blocking.
pub(super) fn run_release(k: &mut Kernel, sock: SockId, ctx: RunCtx) -> Run {
    match switch::release(k, sock, ctx) {
        Step::Done(_) => Run::Done(Ok(Ret::Int(0))),
        Step::Sleep(s) => Run::sleep(Op::Linger { sock }, s, None),
    }
}

/// dup(2) and F_DUPFD.
pub(super) fn dup(k: &mut Kernel, who: Caller, fd: Fd, min: Fd, cloexec: bool) -> SysResult {
    let file = k.fd_file(who.process, fd)?;
    let p = k.tasks.procs.get_mut(who.process).ok_or(Errno::ESRCH)?;
    if min > 0 && min >= p.nofile {
        return Err(Errno::EINVAL);
    }
    let new = p.fds.alloc(min, p.nofile, file, cloexec).ok_or(Errno::EMFILE)?;
    k.files.hold(file);
    Ok(Ret::Fd(new))
}

/// dup2(2): what stood at `to` is closed without a word.
pub(super) fn dup2(k: &mut Kernel, who: Caller, fd: Fd, to: Fd, cloexec: bool) -> SysResult {
    let file = k.fd_file(who.process, fd)?;
    if k.tasks.procs.get(who.process).is_none_or(|p| to >= p.nofile) {
        return Err(Errno::EBADF);
    }
    if fd == to {
        return Ok(Ret::Fd(to));
    }
    k.files.hold(file);
    k.close_quietly(who.process, to);
    if let Some(p) = k.tasks.procs.get_mut(who.process) {
        p.fds.put(to, file, cloexec);
    }
    Ok(Ret::Fd(to))
}

pub(super) fn fcntl(k: &mut Kernel, who: Caller, fd: Fd, cmd: i32, arg: i64) -> SysResult {
    let file = k.fd_file(who.process, fd)?;
    let p = k.tasks.procs.get_mut(who.process).ok_or(Errno::ESRCH)?;
    let f = k.files.files.get_mut(file).ok_or(Errno::EBADF)?;
    let value = match cmd {
        F_GETFD => i64::from(p.fds.get(fd).is_some_and(|e| e.1)),
        F_SETFD => {
            p.fds.set_cloexec(fd, arg & FD_CLOEXEC != 0);
            0
        }
        F_GETFL => O_RDWR | if f.nonblock { O_NONBLOCK } else { 0 },
        F_SETFL => {
            f.nonblock = arg & O_NONBLOCK != 0;
            0
        }
        // Which processes there are is the driver's knowledge.
        F_SETOWN => {
            f.owner = i32::try_from(arg).map_err(|_| Errno::EINVAL)?;
            0
        }
        F_GETOWN => i64::from(f.owner),
        _ => return Err(Errno::EINVAL),
    };
    Ok(Ret::Int(value))
}

/// setrlimit(RLIMIT_NOFILE): fs.nr_open bounds it for everybody.
pub(super) fn set_nofile(k: &mut Kernel, who: Caller, soft: u32, hard: u32) -> SysResult {
    let p = k.tasks.procs.get_mut(who.process).ok_or(Errno::ESRCH)?;
    if soft > hard {
        return Err(Errno::EINVAL);
    }
    if hard > k.net.sysctl.nr_open || hard > p.nofile_hard && !p.caps.sys_admin {
        return Err(Errno::EPERM);
    }
    (p.nofile, p.nofile_hard) = (soft, hard);
    Ok(Ret::Int(0))
}

pub(super) fn poll(k: &mut Kernel, who: Caller, fds: &[PollFd], timeout: Option<Nanos>) -> Run {
    if k.tasks.procs.get(who.process).is_none_or(|p| fds.len() > p.nofile as usize) {
        return Run::Done(Err(Errno::EINVAL));
    }
    let deadline = timeout.map(|t| k.net.env.now.saturating_add(t));
    let ctx = RunCtx { nonblock: timeout == Some(0), ..RunCtx::default() };
    run_poll(k, who, fds.to_vec(), deadline, ctx)
}

pub(super) fn run_poll(k: &mut Kernel, who: Caller, mut fds: Vec<PollFd>, deadline: Option<Nanos>, ctx: RunCtx) -> Run {
    if k.do_poll(who.process, &mut fds) > 0 || ctx.nonblock || ctx.timed_out {
        return Run::Done(Ok(Ret::Poll(fds)));
    }
    let queues = k.poll_queues(who.process, &fds);
    Run::Block(Op::Poll { fds }, Block::Many(queues), deadline)
}
