//! socket, bind, listen, accept, connect, shutdown, and the names of both ends.
use super::{Caller, addr};
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::sock::Family;
use crate::net::packet;
use crate::net::switch;
use crate::net::tcp::state::State;
use crate::net::xsk;
use crate::task::call::*;
use crate::task::park::Run;
use belljar_abi::if_xdp::XdpAddr;
use belljar_abi::*;
use core::net::Ipv4Addr;

const SOCK_FLAGS: i32 = SOCK_NONBLOCK | SOCK_CLOEXEC;
/// First type number that is none (`SOCK_MAX`), first protocol number that is none (`IPPROTO_MAX`).
const SOCK_MAX: i32 = 11;
const IPPROTO_MAX: i32 = 263;

/// Checks as `__sock_create` and `inet_create` order them.
fn kind_of(k: &Kernel, who: Caller, family: i32, kind: i32, protocol: i32) -> Result<(Family, switch::Proto), Errno> {
    if !(0..AF_MAX).contains(&family) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if !(0..SOCK_MAX).contains(&kind) {
        return Err(Errno::EINVAL);
    }
    if family == AF_PACKET {
        return match kind {
            _ if !k.cred(who.process).caps.net_raw => Err(Errno::EPERM),
            // The number is one of the wire's, in its order.
            SOCK_RAW | SOCK_DGRAM => {
                let proto = u16::from_be(protocol as u16);
                Ok((Family::Inet, switch::Proto::Packet(kind == SOCK_DGRAM, proto)))
            }
            _ => Err(Errno::ESOCKTNOSUPPORT),
        };
    }
    if family == AF_XDP {
        return match (kind, protocol) {
            _ if !k.cred(who.process).caps.net_raw => Err(Errno::EPERM),
            (SOCK_RAW, 0) => Ok((Family::Inet, switch::Proto::Xsk)),
            (SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        };
    }
    let family = match family {
        AF_INET => Family::Inet,
        AF_INET6 => Family::Inet6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    if !(0..IPPROTO_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    let ping = if family == Family::Inet { IPPROTO_ICMP } else { IPPROTO_ICMPV6 };
    match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_IP | IPPROTO_TCP) => Ok((family, switch::Proto::Tcp)),
        (SOCK_DGRAM, IPPROTO_IP | IPPROTO_UDP) => Ok((family, switch::Proto::Udp)),
        (SOCK_DGRAM, p) if p == ping => Ok((family, switch::Proto::Ping)),
        (SOCK_RAW, p) if p != IPPROTO_IP && !k.cred(who.process).caps.net_raw => Err(Errno::EPERM),
        (SOCK_RAW, p) if p != IPPROTO_IP => Ok((family, switch::Proto::Raw(p as u16))),
        (SOCK_STREAM | SOCK_DGRAM | SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

#[doc(alias = "__sys_socket")]
pub(super) fn socket(k: &mut Kernel, who: Caller, family: i32, kind: i32, protocol: i32) -> SysResult {
    let (flags, kind) = (kind & !SOCK_TYPE_MASK, kind & SOCK_TYPE_MASK);
    if flags & !SOCK_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let (family, proto) = kind_of(k, who, family, kind, protocol)?;
    k.may_install(who.process)?;
    let ns = k.tasks.procs.get(who.process).map(|p| p.ns).ok_or(Errno::ESRCH)?;
    let sock = switch::create(k, ns, family, proto, k.cred(who.process))?;
    let busy_read = k.net.sysctl.busy_read;
    if let Some(sk) = k.socks.sk_mut(sock).filter(|_| busy_read > 0) {
        sk.cold().ll_usec = busy_read;
    }
    let fd = k.install(who.process, FileKind::Sock(sock), flags & SOCK_NONBLOCK != 0, flags & SOCK_CLOEXEC != 0);
    if fd.is_err() {
        k.release_quietly(sock);
    }
    fd.map(Ret::Fd)
}

pub(super) fn bind(k: &mut Kernel, who: Caller, fd: Fd, bytes: &[u8]) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    if let SockId::Packet(id) = sock {
        return packet::bind::bind(k, id, bytes).map(|()| Ret::Int(0));
    }
    if let SockId::Xsk(id) = sock {
        return bind_xsk(k, who, id, bytes).map(|()| Ret::Int(0));
    }
    let to = addr::for_bind(k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?, bytes)?;
    switch::bind(k, sock, to, k.cred(who.process)).map(|()| Ret::Int(0))
}

/// The socket whose umem is shared is named by a descriptor.
#[doc(alias = "xsk_lookup_xsk_from_fd")]
fn bind_xsk(k: &mut Kernel, who: Caller, id: XskId, bytes: &[u8]) -> Result<(), Errno> {
    let fd = XdpAddr::parse(bytes)?.shared_umem_fd;
    let other = match k.fd_sock(who.process, fd) {
        Ok((_, SockId::Xsk(other))) => Ok(other),
        Ok(_) => Err(Errno::ENOPROTOOPT),
        Err(e) => Err(e),
    };
    xsk::bind::bind(k, id, bytes, other)
}

pub(super) fn listen(k: &mut Kernel, who: Caller, fd: Fd, backlog: i32) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    switch::listen(k, sock, backlog).map(|()| Ret::Int(0))
}

pub(super) fn accept(k: &mut Kernel, who: Caller, fd: Fd, flags: i32) -> Run {
    let file = match k.fd_file(who.process, fd) {
        Ok(_) if flags & !SOCK_FLAGS != 0 => return Run::Done(Err(Errno::EINVAL)),
        Ok(file) => file,
        Err(e) => return Run::Done(Err(e)),
    };
    run_accept(k, who, file, flags, k.ctx(file, 0))
}

/// The descriptor is looked for first: without one the connection stays in the queue.
#[doc(alias = "do_accept")]
pub(super) fn run_accept(k: &mut Kernel, who: Caller, file: FileId, flags: i32, ctx: RunCtx) -> Run {
    if let Err(e) = k.may_install(who.process) {
        return Run::Done(Err(e));
    }
    let Some(sock) = k.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
    let nonblock = k.rcv_timeo(sock, ctx);
    match switch::accept(k, sock, nonblock) {
        Err(switch::NoChild::Sleep(s)) => Run::sleep(Op::Accept { file, flags }, s, k.rcv_deadline(sock)),
        Err(switch::NoChild::Fails(e)) => Run::Done(Err(e)),
        Ok(child) => {
            let (nb, cloexec) = (flags & SOCK_NONBLOCK != 0, flags & SOCK_CLOEXEC != 0);
            let fd = k.install(who.process, FileKind::Sock(child), nb, cloexec);
            Run::Done(fd.map(|fd| Ret::Accepted { fd, peer: k.name_of(child, true).unwrap_or_default() }))
        }
    }
}

pub(super) fn connect(k: &mut Kernel, who: Caller, fd: Fd, bytes: &[u8]) -> Run {
    let found = k.fd_sock(who.process, fd).and_then(|(file, sock)| {
        if let SockId::Packet(_) | SockId::Xsk(_) = sock {
            return Err(Errno::EOPNOTSUPP);
        }
        let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
        match addr::for_connect(sk, bytes, matches!(sock, SockId::Tcp(_))) {
            // A connection that stands or is on its way says so whatever the address.
            Err(_) if k.tcp_state(sock).is_some_and(|s| s != State::Close) => {
                Ok((file, SockAddr::V4(Ipv4Addr::UNSPECIFIED, 0)))
            }
            to => Ok((file, to?)),
        }
    });
    match found {
        Ok((file, to)) => {
            let later = k.file_sock(file).is_some_and(|s| k.tcp_connecting(s));
            run_connect(k, file, to, later, k.ctx(file, 0))
        }
        Err(e) => Run::Done(Err(e)),
    }
}

/// `later`: another call began the connection, this one only waits for it.
pub(super) fn run_connect(k: &mut Kernel, file: FileId, to: SockAddr, later: bool, ctx: RunCtx) -> Run {
    let Some(sock) = k.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
    let ctx = k.snd_timeo(sock, ctx);
    match switch::connect(k, sock, to, ctx) {
        Step::Done(Err(Errno::EINPROGRESS)) if later => Run::Done(Err(Errno::EALREADY)),
        Step::Done(r) => Run::Done(r),
        Step::Sleep(s) => Run::sleep(Op::Connect { file, addr: to, later }, s, k.snd_deadline(sock)),
    }
}

pub(super) fn shutdown(k: &mut Kernel, who: Caller, fd: Fd, how: i32) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    if !(SHUT_RD..=SHUT_RDWR).contains(&how) {
        return Err(Errno::EINVAL);
    }
    switch::shutdown(k, sock, how).map(|()| Ret::Int(0))
}

pub(super) fn getsockname(k: &mut Kernel, who: Caller, fd: Fd) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    if let SockId::Packet(id) = sock {
        return packet::getname(k, id).map(Ret::Addr).ok_or(Errno::EBADF);
    }
    if let SockId::Xsk(_) = sock {
        return Err(Errno::EOPNOTSUPP);
    }
    k.name_of(sock, false).map(Ret::Addr).ok_or(Errno::ENOTCONN)
}

pub(super) fn getpeername(k: &mut Kernel, who: Caller, fd: Fd) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    if let SockId::Packet(_) | SockId::Xsk(_) = sock {
        return Err(Errno::EOPNOTSUPP);
    }
    if k.tcp_state(sock).is_some_and(|s| s.is(&[State::Close, State::SynSent])) {
        return Err(Errno::ENOTCONN);
    }
    k.name_of(sock, true).map(Ret::Addr).ok_or(Errno::ENOTCONN)
}

impl Kernel {
    /// How a call on this file runs for the first time.
    pub(super) fn ctx(&self, file: FileId, flags: i32) -> RunCtx {
        let nonblock = flags & MSG_DONTWAIT != 0 || self.files.files.get(file).is_some_and(|f| f.nonblock);
        RunCtx { nonblock, ..RunCtx::default() }
    }

    pub(crate) fn file_sock(&self, file: FileId) -> Option<SockId> {
        match self.files.files.get(file)?.kind {
            FileKind::Sock(sock) => Some(sock),
            FileKind::Epoll(_) => None,
        }
    }

    pub(super) fn tcp_state(&self, sock: SockId) -> Option<State> {
        Some(self.socks.tcp.get(sock.tcp()?)?.state)
    }

    fn tcp_connecting(&self, sock: SockId) -> bool {
        sock.tcp().and_then(|id| self.socks.tcp.get(id)).is_some_and(|sk| sk.flags.connecting)
    }

    /// Name of one end, in the family of the socket; `None` for a peer that there is not.
    #[doc(alias = "inet_getname")]
    pub(super) fn name_of(&self, sock: SockId, peer: bool) -> Option<SockAddr> {
        let sk = self.socks.sk(sock)?;
        let addr = match peer {
            true if sk.dport == 0 => return None,
            true => SockAddr::ip(sk.daddr, sk.dport),
            false if sk.rcv_saddr.is_unspecified() => SockAddr::ip(sk.saddr, sk.num),
            false => SockAddr::ip(sk.rcv_saddr, sk.num),
        };
        let ifindex = sk.bound_dev.and_then(|d| self.net.devs.get(d)).map_or(0, |d| d.ifindex);
        let mut shown = addr::shown(sk.family, addr, ifindex);
        if let SockAddr::V6 { flowinfo, .. } = &mut shown
            && peer
            && sk.v6_opts().is_some_and(|o| o.flowinfo_send)
        {
            *flowinfo = sk.cold.as_ref().map_or(0, |c| c.flow_label);
        }
        Some(shown)
    }

    /// A time-out of zero (set by a negative SO_RCVTIMEO) is a call that does not wait.
    pub(super) fn rcv_timeo(&self, sock: SockId, ctx: RunCtx) -> RunCtx {
        let zero = || self.socks.sk(sock).and_then(|sk| sk.cold.as_ref()?.rcvtimeo) == Some(0);
        RunCtx { nonblock: ctx.nonblock || zero(), ..ctx }
    }

    pub(super) fn snd_timeo(&self, sock: SockId, ctx: RunCtx) -> RunCtx {
        let zero = || self.socks.sk(sock).and_then(|sk| sk.cold.as_ref()?.sndtimeo) == Some(0);
        RunCtx { nonblock: ctx.nonblock || zero(), ..ctx }
    }

    pub(super) fn rcv_deadline(&self, sock: SockId) -> Option<u64> {
        let timeo = self.socks.sk(sock)?.cold.as_ref()?.rcvtimeo?;
        Some(self.net.env.now.saturating_add(timeo))
    }

    pub(super) fn snd_deadline(&self, sock: SockId) -> Option<u64> {
        let timeo = self.socks.sk(sock)?.cold.as_ref()?.sndtimeo?;
        Some(self.net.env.now.saturating_add(timeo))
    }
}
