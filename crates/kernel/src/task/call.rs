//! The call boundary: one [`Call`] enum, one operation each, that can be run again from the top.
use crate::env::Nanos;
use crate::ids::*;
use crate::mem::Pool;
use crate::task::process::Caps;
use crate::task::wait::PollMask;
use belljar_abi::{Errno, SockAddr};
use belljar_wire::Segs;
use std::borrow::Cow;

pub type Fd = u32;
pub type SysResult = Result<Ret, Errno>;

/// Payload of a send: borrowed bytes (copied once into pooled pages) or segments that are ready.
#[derive(Debug)]
pub enum Payload<'a> {
    Bytes(&'a [u8]),
    Segs(Segs),
}

impl Payload<'_> {
    pub fn len(&self) -> usize {
        match self {
            Payload::Bytes(b) => b.len(),
            Payload::Segs(s) => s.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up to `n` bytes off the front: borrowed ones are copied into pooled pages, segments are shared.
    pub fn take(&mut self, n: usize, pool: &mut Pool) -> Segs {
        match self {
            Payload::Bytes(b) => {
                let (head, rest) = b.split_at(n.min(b.len()));
                *b = rest;
                if head.len() <= COPY_CHUNK {
                    return Segs::from(pool.copy_in(head, 0));
                }
                let mut segs = Segs::new();
                head.chunks(COPY_CHUNK).for_each(|c| segs.push(pool.copy_in(c, 0)));
                segs
            }
            Payload::Segs(s) => s.split_to(n),
        }
    }
}

/// Borrowed bytes are copied in pieces of this size: the largest pooled page.
const COPY_CHUNK: usize = 262_144;

/// A send while it runs: what is not yet taken, and what was.
#[derive(Debug)]
pub struct SendMsg<'a> {
    /// Shrinks as the socket takes bytes (`Payload::take`).
    pub data: Payload<'a>,
    /// Bytes taken so far, over all runs.
    pub sent: usize,
    pub flags: i32,
    pub to: Option<SockAddr>,
    pub cmsgs: Cow<'a, [Cmsg]>,
    /// What the caller may ask for by control messages.
    pub caps: Caps,
    /// The handle of its notification by MSG_ZEROCOPY.
    pub zerocopy: Option<u32>,
}

/// A receive while it runs.
#[derive(Clone, Debug, Default)]
pub struct RecvMsg {
    /// Room the caller has.
    pub len: usize,
    pub flags: i32,
    /// Gathered so far (MSG_WAITALL, SO_RCVLOWAT), and when the last of it came.
    pub got: Segs,
    pub tstamp: Nanos,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub caps: Caps,
}

/// A control message: level, type, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmsg {
    pub level: i32,
    pub kind: i32,
    pub data: Vec<u8>,
}

/// One entry of `poll(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollFd {
    pub fd: i32,
    pub events: u16,
    pub revents: u16,
}

/// `struct epoll_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollEvent {
    pub events: u32,
    pub data: u64,
}

/// A system call of a task. Section 2 manual pages describe each.
#[derive(Debug)]
pub enum Call<'a> {
    Socket {
        family: i32,
        kind: i32,
        protocol: i32,
    },
    Bind {
        fd: Fd,
        addr: &'a [u8],
    },
    Listen {
        fd: Fd,
        backlog: i32,
    },
    /// `accept4`: flags are SOCK_NONBLOCK and SOCK_CLOEXEC.
    Accept {
        fd: Fd,
        flags: i32,
    },
    Connect {
        fd: Fd,
        addr: &'a [u8],
    },
    Send {
        fd: Fd,
        data: Payload<'a>,
        flags: i32,
        to: Option<&'a [u8]>,
        cmsgs: &'a [Cmsg],
    },
    Recv {
        fd: Fd,
        len: usize,
        flags: i32,
    },
    Shutdown {
        fd: Fd,
        how: i32,
    },
    Close {
        fd: Fd,
    },
    GetSockName {
        fd: Fd,
    },
    GetPeerName {
        fd: Fd,
    },
    GetSockOpt {
        fd: Fd,
        level: i32,
        name: i32,
        len: usize,
    },
    SetSockOpt {
        fd: Fd,
        level: i32,
        name: i32,
        value: &'a [u8],
    },
    /// Requests that return an int or take one (SIOCINQ, SIOCOUTQ, FIONBIO …).
    Ioctl {
        fd: Fd,
        request: u64,
        arg: i64,
    },
    Dup {
        fd: Fd,
        min: Fd,
        cloexec: bool,
    },
    Dup2 {
        fd: Fd,
        to: Fd,
        cloexec: bool,
    },
    /// F_GETFL, F_SETFL, F_GETFD, F_SETFD.
    Fcntl {
        fd: Fd,
        cmd: i32,
        arg: i64,
    },
    /// Timeout in nanoseconds; `None` waits for ever.
    Poll {
        fds: &'a [PollFd],
        timeout: Option<Nanos>,
    },
    EpollCreate {
        flags: i32,
    },
    EpollCtl {
        epfd: Fd,
        op: i32,
        fd: Fd,
        event: Option<EpollEvent>,
    },
    EpollWait {
        epfd: Fd,
        max: i32,
        timeout: Option<Nanos>,
    },
    SetNofile {
        soft: u32,
        hard: u32,
    },
}

/// What a call returns when it succeeds.
#[derive(Clone, Debug, PartialEq)]
pub enum Ret {
    /// Zero, a count, a flag word.
    Int(i64),
    Fd(Fd),
    Accepted {
        fd: Fd,
        peer: SockAddr,
    },
    Data(Box<Received>),
    /// Stream data without anything beside it.
    Stream(Segs),
    Addr(SockAddr),
    Opt(Vec<u8>),
    Poll(Vec<PollFd>),
    Events(Vec<EpollEvent>),
}

/// What `recvmsg` found beside plain stream bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    pub segs: Segs,
    pub from: Option<SockAddr>,
    /// MSG_TRUNC, MSG_CTRUNC, MSG_OOB, MSG_ERRQUEUE as they come out in `msg_flags`.
    pub flags: i32,
    pub cmsgs: Vec<Cmsg>,
    /// Length of the datagram before it was cut to the buffer (MSG_TRUNC returns it).
    pub full_len: usize,
}

/// What an operation says when it ran.
#[derive(Debug)]
pub enum Step {
    Done(SysResult),
    Sleep(Sleep),
}

/// Where to sleep until the operation is run again.
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    pub on: SockId,
    pub mask: PollMask,
    /// One sleeper per event (`prepare_to_wait_exclusive`: accept, UDP receive).
    pub exclusive: bool,
    /// Give up at this time. `None`: the socket's SO_RCVTIMEO or SO_SNDTIMEO, whichever goes with the call. What the
    /// first sleep of a call said holds for all of them.
    pub deadline: Option<Nanos>,
}

/// How a socket operation is being run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunCtx {
    /// O_NONBLOCK or MSG_DONTWAIT.
    pub nonblock: bool,
    /// It slept and its deadline came.
    pub timed_out: bool,
    /// It runs again after a sleep (so: a wake-up that finds nothing was useless).
    pub again: bool,
}

/// Answer to [`Kernel::call`](crate::kernel::Kernel::call).
#[derive(Debug)]
pub enum Submitted {
    Done(SysResult),
    /// It sleeps; [`Output::Complete`](crate::kernel::Output) will carry this id.
    Parked(CallId),
}

/// A call that sleeps: the operation with its progress, what it waits on, its timeout.
#[derive(Clone, Debug)]
pub struct ParkedCall {
    pub task: TaskId,
    /// `None` while it runs.
    pub op: Option<Op>,
    pub waits: Waits,
    /// Of its high-resolution timer.
    pub deadline: Option<Nanos>,
    pub timed_out: bool,
    /// Already in `Tasks::runnable`.
    pub queued: bool,
    /// The queue that it looks into while it waits.
    pub busy: Option<(DevId, u16)>,
}

/// Places in wait queues: one for a call on one object, many for poll, which keeps every file open while it waits.
#[derive(Clone, Debug, Default)]
pub enum Waits {
    #[default]
    None,
    One(WaitOn, WaitId),
    Many(Vec<(WaitOn, WaitId, FileId)>),
}

/// The object whose wait queue holds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOn {
    Sock(SockId),
    /// Waiters of `epoll_wait`.
    Epoll(EpollId),
    /// Who polls the epoll instance itself (nesting).
    EpollPoll(EpollId),
}

/// The blocking calls, owning what they need to run again. A parked call holds its file open (`fget`).
#[derive(Clone, Debug)]
pub enum Op {
    Accept {
        file: FileId,
        flags: i32,
    },
    Connect {
        file: FileId,
        addr: SockAddr,
        /// Another call began it.
        later: bool,
    },
    Send {
        file: FileId,
        rest: Segs,
        sent: usize,
        flags: i32,
        to: Option<SockAddr>,
        cmsgs: Vec<Cmsg>,
        caps: Caps,
        zerocopy: Option<u32>,
    },
    Recv {
        file: FileId,
        msg: RecvMsg,
    },
    Poll {
        fds: Vec<PollFd>,
    },
    EpollWait {
        file: FileId,
        ep: EpollId,
        max: usize,
    },
    /// close with SO_LINGER.
    Linger {
        sock: SockId,
    },
}

impl Op {
    /// The file that the operation keeps open.
    pub fn file(&self) -> Option<FileId> {
        match self {
            Op::Accept { file, .. }
            | Op::Connect { file, .. }
            | Op::Send { file, .. }
            | Op::Recv { file, .. }
            | Op::EpollWait { file, .. } => Some(*file),
            Op::Poll { .. } | Op::Linger { .. } => None,
        }
    }
}
