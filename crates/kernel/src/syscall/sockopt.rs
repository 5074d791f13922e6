//! getsockopt and setsockopt: which level answers.
use super::Caller;
use crate::kernel::Kernel;
use crate::net::switch;
use crate::task::call::*;

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
