//! send and receive in all their spellings: read, write, sendto, recvmsg … are these two with other arguments.
use super::{Caller, addr};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::switch;
use crate::task::call::*;
use crate::task::park::Run;
use belljar_abi::{Errno, LinkAddr, MSG_FASTOPEN, SockAddr};

#[allow(clippy::too_many_arguments)]
#[doc(alias = "__sys_sendto")]
pub(super) fn send<'a>(
    k: &mut Kernel,
    who: Caller,
    fd: Fd,
    data: Payload<'a>,
    flags: i32,
    to: Option<&[u8]>,
    cmsgs: &'a [Cmsg],
) -> Run {
    let found = k.fd_sock(who.process, fd).and_then(|(file, sock)| Ok((file, destination(k, sock, to, flags)?)));
    match found {
        Ok((file, to)) => run_send(
            k,
            file,
            SendMsg { data, sent: 0, flags, to, cmsgs: cmsgs.into(), zerocopy: None },
            k.ctx(file, flags),
        ),
        Err(e) => Run::Done(Err(e)),
    }
}

/// A stream goes where it goes; the address is not even looked at unless Fast Open connects to it.
fn destination(k: &Kernel, sock: SockId, to: Option<&[u8]>, flags: i32) -> Result<Option<SockAddr>, Errno> {
    match (sock, to) {
        (SockId::Tcp(_), Some(bytes)) if flags & MSG_FASTOPEN != 0 => {
            addr::for_connect(k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?, bytes, true).map(Some)
        }
        (SockId::Udp(_) | SockId::Raw(_), Some(bytes)) => {
            addr::for_send(k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?, bytes)
        }
        (SockId::Packet(_), Some(bytes)) => LinkAddr::parse(bytes).map(|a| Some(SockAddr::Link(a))),
        _ => Ok(None),
    }
}

pub(super) fn run_send(k: &mut Kernel, file: FileId, mut msg: SendMsg<'_>, ctx: RunCtx) -> Run {
    let Some(sock) = k.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
    let ctx = k.snd_timeo(sock, ctx);
    match switch::sendmsg(k, sock, &mut msg, ctx) {
        Step::Done(r) => Run::Done(r),
        Step::Sleep(s) => {
            // Only now is the rest copied: a call that does not sleep never holds it twice.
            let SendMsg { mut data, sent, flags, to, cmsgs, zerocopy } = msg;
            let rest = data.take(usize::MAX, &mut k.net.pool);
            let op = Op::Send { file, rest, sent, flags, to, cmsgs: cmsgs.into_owned(), zerocopy };
            Run::sleep(op, s, k.snd_deadline(sock))
        }
    }
}

#[doc(alias = "__sys_recvfrom")]
pub(super) fn recv(k: &mut Kernel, who: Caller, fd: Fd, len: usize, flags: i32) -> Run {
    match k.fd_sock(who.process, fd) {
        Ok((file, _)) => run_recv(k, file, RecvMsg { len, flags, ..RecvMsg::default() }, k.ctx(file, flags)),
        Err(e) => Run::Done(Err(e)),
    }
}

pub(super) fn run_recv(k: &mut Kernel, file: FileId, mut msg: RecvMsg, ctx: RunCtx) -> Run {
    let Some(sock) = k.file_sock(file) else { return Run::Done(Err(Errno::ENOTSOCK)) };
    let ctx = k.rcv_timeo(sock, ctx);
    match switch::recvmsg(k, sock, &mut msg, ctx) {
        Step::Done(mut r) => {
            if let Ok(Ret::Data(d)) = &mut r
                && let (Some(from), Some(sk)) = (d.from, k.socks.sk(sock))
            {
                d.from = Some(addr::shown(sk.family, from, from.scope()));
            }
            Run::Done(r)
        }
        Step::Sleep(s) => Run::sleep(Op::Recv { file, msg }, s, k.rcv_deadline(sock)),
    }
}
