//! send and receive in all their spellings: read, write, sendto, recvmsg … are these two with other arguments.
use super::{Caller, addr};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::sock::Family;
use crate::net::core::{busy_poll, rps};
use crate::net::switch;
use crate::net::udp;
use crate::task::call::*;
use crate::task::park::Run;
use crate::task::process::Caps;
use belljar_abi::{Errno, LinkAddr, MSG_FASTOPEN, SockAddr};

#[allow(clippy::too_many_arguments)]
#[doc(alias = "__sys_sendto")]
pub(super) fn send<'a>(
    k: &mut Kernel,
    who: Caller,
    fd: Fd,
    mut data: Payload<'a>,
    flags: i32,
    to: Option<&[u8]>,
    cmsgs: &'a [Cmsg],
) -> Run {
    let (file, sock, ctx) = match k.fd_for_io(who.process, fd, flags) {
        Ok(found) => found,
        Err(e) => return Run::Done(Err(e)),
    };
    if let (SockId::Udp(id), None, []) = (sock, to, cmsgs) {
        rps::record_flow(k, sock);
        if let Some(sent) = udp::plain::try_send(k, id, &mut data, flags) {
            return Run::Done(sent);
        }
    }
    let to = match to {
        None => None,
        Some(bytes) => match destination(k, sock, bytes, flags) {
            Ok(to) => to,
            Err(e) => return Run::Done(Err(e)),
        },
    };
    let caps = if cmsgs.is_empty() { Caps::NONE } else { k.cred(who.process).caps };
    run_send(k, file, sock, SendMsg { data, sent: 0, flags, to, cmsgs: cmsgs.into(), caps, zerocopy: None }, ctx)
}

/// A stream goes where it goes; the address is not even looked at unless Fast Open connects to it.
fn destination(k: &Kernel, sock: SockId, bytes: &[u8], flags: i32) -> Result<Option<SockAddr>, Errno> {
    match sock {
        SockId::Tcp(_) if flags & MSG_FASTOPEN != 0 => {
            addr::for_connect(k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?, bytes, true).map(Some)
        }
        SockId::Tcp(_) => Ok(None),
        SockId::Udp(_) | SockId::Raw(_) => addr::for_send(k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?, bytes),
        SockId::Xsk(_) => Ok(None),
        SockId::Packet(_) => LinkAddr::parse(bytes).map(|a| Some(SockAddr::Link(a))),
    }
}

pub(super) fn run_send(k: &mut Kernel, file: FileId, sock: SockId, mut msg: SendMsg<'_>, ctx: RunCtx) -> Run {
    let ctx = k.snd_timeo(sock, ctx);
    rps::record_flow(k, sock);
    match switch::sendmsg(k, sock, &mut msg, ctx) {
        Step::Done(r) => Run::Done(r),
        Step::Sleep(s) => send_sleeps(k, file, sock, msg, s),
    }
}

/// Only now is the rest copied: a call that does not sleep never holds it twice.
#[inline(never)]
fn send_sleeps(k: &mut Kernel, file: FileId, sock: SockId, msg: SendMsg<'_>, s: Sleep) -> Run {
    let SendMsg { mut data, sent, flags, to, cmsgs, caps, zerocopy } = msg;
    let rest = data.take(usize::MAX, &mut k.net.pool);
    let op = Op::Send { file, rest, sent, flags, to, cmsgs: cmsgs.into_owned(), caps, zerocopy };
    Run::sleep(op, s, k.snd_deadline(sock))
}

#[doc(alias = "__sys_recvfrom")]
pub(super) fn recv(k: &mut Kernel, who: Caller, fd: Fd, len: usize, flags: i32) -> Run {
    match k.fd_for_io(who.process, fd, flags) {
        Ok((file, sock, ctx)) => run_recv(k, file, sock, RecvMsg { len, flags, ..RecvMsg::default() }, ctx),
        Err(e) => Run::Done(Err(e)),
    }
}

pub(super) fn run_recv(k: &mut Kernel, file: FileId, sock: SockId, mut msg: RecvMsg, ctx: RunCtx) -> Run {
    let ctx = k.rcv_timeo(sock, ctx);
    rps::record_flow(k, sock);
    let mut step = switch::recvmsg(k, sock, &mut msg, ctx);
    if k.net.napi.busy && matches!(step, Step::Sleep(_) | Step::Done(Err(Errno::EAGAIN))) && busy_poll::look(k, sock) {
        step = switch::recvmsg(k, sock, &mut msg, ctx);
    }
    match step {
        Step::Done(mut r) => {
            if let Ok(Ret::Data(d)) = &mut r
                && d.from.is_some()
                && k.socks.sk(sock).is_some_and(|sk| sk.family == Family::Inet6)
            {
                d.from = d.from.map(|from| addr::shown(Family::Inet6, from, from.scope()));
            }
            Run::Done(r)
        }
        Step::Sleep(s) => Run::sleep(Op::Recv { file, msg }, s, k.rcv_deadline(sock)),
    }
}
