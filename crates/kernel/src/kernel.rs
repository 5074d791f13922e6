//! [`Kernel`]: the state machine of one machine, as a value. Time, frames and calls go in; frames, completions and the
//! next deadline come out; same seed and same inputs, same outputs.
use crate::env::{Env, Nanos, Rise};
use crate::fs::eventpoll::{EpItem, EventPoll};
use crate::fs::file::File;
use crate::ids::*;
use crate::net::Net;
use crate::net::tcp::sock::TcpSock;
use crate::net::udp::UdpSock;
use crate::task::Tasks;
use crate::task::call::SysResult;
use belljar_wire::Frame;

/// Sockets, one slab per kind.
#[derive(Clone, Debug, Default)]
pub struct Socks {
    pub tcp: Slab<TcpSock>,
    pub udp: Slab<UdpSock>,
}

/// Open files and epoll instances.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub files: Slab<File>,
    pub epolls: Slab<EventPoll>,
    pub items: Slab<EpItem>,
    /// The last inode number given out.
    pub(crate) inodes: u32,
    /// Walks through nested epoll instances so far.
    pub(crate) walks: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub tasks: Tasks,
    pub files: Files,
    pub socks: Socks,
    pub net: Net,
}

/// What comes out of a step.
#[derive(Debug)]
pub enum Output {
    /// A frame left a NIC.
    Frame { dev: DevId, frame: Frame },
    /// A parked call finished.
    Complete { call: CallId, result: SysResult },
}

impl Kernel {
    /// Drains what rose, in FIFO order: before the next packet, timer or call.
    pub(crate) fn drain_rises(&mut self) {
        while let Some(rise) = self.net.env.rises.pop_front() {
            match rise {
                Rise::Wake { sock, mask } => self.wake_sock(sock, mask),
                Rise::TxFree { .. } | Rise::Reap { .. } => {}
            }
        }
    }

    pub fn now(&self) -> Nanos {
        self.env().now
    }

    fn env(&self) -> &Env {
        &self.net.env
    }
}
