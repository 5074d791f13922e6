//! Linux's function-pointer tables as matches: which socket code gets the call (`struct proto`, `struct proto_ops`).
use crate::ids::*;
use crate::kernel::{Kernel, Socks};
use crate::net::core::sock::{Family, Sock};
use crate::net::core::sockopt;
use crate::task::call::*;
use crate::task::wait::PollMask;
use belljar_abi::*;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Tcp,
    Udp,
}

/// Why accept has no connection to give.
#[derive(Clone, Copy, Debug)]
pub enum NoChild {
    Sleep(Sleep),
    Fails(Errno),
}

impl Socks {
    pub fn sk(&self, id: SockId) -> Option<&Sock> {
        Some(match id {
            SockId::Tcp(id) => &self.tcp.get(id)?.sk,
            SockId::Udp(id) => &self.udp.get(id)?.sk,
        })
    }

    pub fn sk_mut(&mut self, id: SockId) -> Option<&mut Sock> {
        Some(match id {
            SockId::Tcp(id) => &mut self.tcp.get_mut(id)?.sk,
            SockId::Udp(id) => &mut self.udp.get_mut(id)?.sk,
        })
    }
}

/// A protocol that this kernel has not.
#[doc(alias = "inet_create")]
pub(crate) fn create(_: &mut Kernel, _: NsId, _: Family, _: Proto) -> Result<SockId, Errno> {
    Err(Errno::EPROTONOSUPPORT)
}

pub(crate) fn bind(_: &mut Kernel, sock: SockId, _: SockAddr, _: Cred) -> Result<(), Errno> {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Err(Errno::EOPNOTSUPP),
    }
}

pub(crate) fn listen(_: &mut Kernel, sock: SockId, _backlog: i32) -> Result<(), Errno> {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Err(Errno::EOPNOTSUPP),
    }
}

pub(crate) fn accept(_: &mut Kernel, sock: SockId, _: RunCtx) -> Result<SockId, NoChild> {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Err(NoChild::Fails(Errno::EOPNOTSUPP)),
    }
}

pub(crate) fn connect(_: &mut Kernel, sock: SockId, _: SockAddr, _: RunCtx) -> Step {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Step::Done(Err(Errno::EOPNOTSUPP)),
    }
}

pub(crate) fn sendmsg(_: &mut Kernel, sock: SockId, _: &mut SendMsg<'_>, _: RunCtx) -> Step {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Step::Done(Err(Errno::EOPNOTSUPP)),
    }
}

pub(crate) fn recvmsg(_: &mut Kernel, sock: SockId, _: &mut RecvMsg, _: RunCtx) -> Step {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Step::Done(Err(Errno::EOPNOTSUPP)),
    }
}

/// `how`: RCV_SHUTDOWN, SEND_SHUTDOWN or both.
pub(crate) fn shutdown(_: &mut Kernel, sock: SockId, _how: u8) -> Result<(), Errno> {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// The last reference went. May sleep for SO_LINGER, unless `nonblock` (a process that exits does not linger).
#[doc(alias = "inet_release")]
pub(crate) fn release(k: &mut Kernel, sock: SockId, _: RunCtx) -> Step {
    match sock {
        SockId::Tcp(id) => drop(k.socks.tcp.remove(id)),
        SockId::Udp(id) => drop(k.socks.udp.remove(id)),
    }
    Step::Done(Ok(Ret::Int(0)))
}

pub(crate) fn poll(k: &mut Kernel, sock: SockId) -> PollMask {
    match k.socks.sk(sock) {
        Some(_) => POLLOUT | POLLWRNORM,
        None => POLLHUP,
    }
}

pub(crate) fn ioctl(_: &mut Kernel, sock: SockId, _request: u32) -> Result<i64, Errno> {
    match sock {
        SockId::Tcp(_) | SockId::Udp(_) => Err(Errno::ENOTTY),
    }
}

pub(crate) fn setsockopt(
    k: &mut Kernel,
    sock: SockId,
    level: i32,
    name: i32,
    value: &[u8],
    cred: Cred,
) -> Result<(), Errno> {
    match (level, sock) {
        (SOL_SOCKET, _) => sockopt::sock_setsockopt(k, sock, name, value, cred),
        (SOL_IP, _) => sockopt::ip_setsockopt(k, sock, name, value, cred),
        (SOL_IPV6, _) => sockopt::ipv6_setsockopt(k, sock, name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

pub(crate) fn getsockopt(k: &mut Kernel, sock: SockId, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    match (level, sock) {
        (SOL_SOCKET, _) => sockopt::sock_getsockopt(k, sock, name, len),
        (SOL_IP, _) => sockopt::ip_getsockopt(k, sock, name, len),
        (SOL_IPV6, _) => sockopt::ipv6_getsockopt(k, sock, name),
        _ => Err(Errno::ENOPROTOOPT),
    }
}
