//! ioctl(2) with an int in or out. Requests with structures (SIOCGIF…) are the driver's, who has the memory.
use super::Caller;
use crate::fs::file::FileKind;
use crate::kernel::Kernel;
use crate::net::switch;
use crate::task::call::*;
use belljar_abi::*;

pub(super) fn ioctl(k: &mut Kernel, who: Caller, fd: Fd, request: u64, arg: i64) -> SysResult {
    let file = k.fd_file(who.process, fd)?;
    let f = k.files.files.get_mut(file).ok_or(Errno::EBADF)?;
    let request = u32::try_from(request).map_err(|_| Errno::ENOTTY)?;
    match (request, f.kind) {
        (FIONBIO, _) => f.nonblock = arg != 0,
        (FIOCLEX | FIONCLEX, _) => {
            if let Some(p) = k.tasks.procs.get_mut(who.process) {
                p.fds.set_cloexec(fd, request == FIOCLEX);
            }
        }
        (FIOSETOWN | SIOCSPGRP, FileKind::Sock(_)) => f.owner = arg as i32,
        (FIOGETOWN | SIOCGPGRP, FileKind::Sock(_)) => return Ok(Ret::Int(f.owner.into())),
        (_, FileKind::Sock(sock)) => return switch::ioctl(k, sock, request).map(Ret::Int),
        (_, FileKind::Epoll(_)) => return Err(Errno::ENOTTY),
    }
    Ok(Ret::Int(0))
}
