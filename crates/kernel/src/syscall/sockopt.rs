//! getsockopt and setsockopt: which level answers.
use super::Caller;
use crate::ids::TaskId;
use crate::kernel::Kernel;
use crate::net::ipv4::mcast_opt;
use crate::net::switch;
use crate::task::call::*;
use belljar_abi::Errno;

pub(super) fn setsockopt(k: &mut Kernel, who: Caller, fd: Fd, level: i32, name: i32, value: &[u8]) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    switch::setsockopt(k, sock, level, name, value, k.cred(who.process)).map(|()| Ret::Int(0))
}

/// The value is cut to the room that the caller has.
pub(super) fn getsockopt(k: &mut Kernel, who: Caller, fd: Fd, level: i32, name: i32, len: usize) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    let mut value = switch::getsockopt(k, sock, level, name, len)?;
    value.truncate(len);
    Ok(Ret::Opt(value))
}

impl Kernel {
    /// IP_MSFILTER asks about what stands in the program's memory: the group, and how many sources there is room for.
    pub fn getsockopt_msfilter(&mut self, task: TaskId, fd: Fd, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        mcast_opt::get_msfilter(self, sock, asked)
    }
}
