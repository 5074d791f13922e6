//! Open file descriptions: what dup and fork share.
use crate::ids::*;

#[derive(Clone, Debug)]
pub struct File {
    pub kind: FileKind,
    pub nonblock: bool,
    /// Descriptors that refer to it, in all processes.
    pub refs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Sock(SockId),
    Epoll(EpollId),
}
