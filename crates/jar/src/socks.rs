//! The programs' sockets as the supervisor knows them: our end of the pair, the kernel's descriptor, what waits.
use crate::park::ParkId;
use belljar_abi::SockAddr;
use belljar_kernel::ids::{Id, Slab};
use belljar_kernel::task::call::Fd;
use belljar_wire::Segs;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

pub type SockId = Id<Sock>;

/// Where the program's end was last seen: thread or process, and descriptor number. Only a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    pub tid: u32,
    pub fd: i32,
}

/// See the module.
#[derive(Debug)]
pub struct Sock {
    /// Index of the machine whose socket it is.
    pub host: usize,
    /// The socket in that machine's kernel; none for netlink, which the supervisor answers itself.
    pub fd: Option<Fd>,
    pub ours: OwnedFd,
    /// Inode of the program's end: how calls find it.
    pub inode: u64,
    pub hint: Hint,
    pub family: i32,
    pub flow: Flow,
    pub parked: Vec<ParkId>,
    /// EPOLLOUT of our end is asked for.
    pub watch_out: bool,
    /// Nobody has the program's end any more.
    pub closed: bool,
    /// Both halves are shut, so HUP does not mean "closed": look for the program's end at this time, with this patience.
    pub shut: Option<(u64, u64)>,
}

#[derive(Debug)]
pub enum Flow {
    Stream(Stream),
    Dgram(Dgram),
    /// An open `/dev/net/tun`.
    Tun(crate::serve::tun::TunFile),
}

/// How far a stream socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Fresh,
    /// Token bytes in the pair, one per queued connection.
    Listening {
        tokens: usize,
    },
    /// Bytes of filling that keep the program's end from being writable.
    Connecting {
        junk: usize,
    },
    Open,
}

/// Bytes moved into the pair in one go, and the memory they took there (never over-estimated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub bytes: usize,
    pub mem: usize,
}

#[derive(Debug)]
pub struct Stream {
    pub phase: Phase,
    /// In the pair towards the program and still in the kernel's receive queue: they leave it when they are read.
    pub batches: VecDeque<Batch>,
    pub in_pair: usize,
    /// Of these, what the kernel has thrown out by itself: an urgent byte that was followed by another one.
    pub ahead: usize,
    /// Where the kernel's reader stands.
    pub copied_seq: Option<u32>,
    /// Size of the next batch.
    pub batch: usize,
    /// Our end has send room for a full pair.
    pub roomy: bool,
    /// The peer's FIN was passed on.
    pub fin_passed: bool,
    /// Read from the pair, not yet taken by the kernel's send buffer.
    pub unsent: Segs,
    /// shutdown(SHUT_WR) waits for `unsent`.
    pub fin_wanted: bool,
    /// What the program's end had as send room before it was filled to keep it from being writable.
    pub sndbuf: Option<i32>,
    /// The program has shut its reading half.
    pub read_shut: bool,
    /// The program has shut its writing half.
    pub write_shut: bool,
    /// Behind its last byte lies one of ours, so that a reset can still be shown: a pair closes as one when something in
    /// it is unread.
    pub marked: bool,
}

pub const BATCH_MIN: usize = 16 * 1024;
pub const BATCH_MAX: usize = 64 * 1024;
/// Most that lies in a pair.
pub const PAIR_MAX: usize = 256 * 1024;

impl Stream {
    pub fn new(phase: Phase) -> Stream {
        Stream {
            phase,
            batches: VecDeque::new(),
            in_pair: 0,
            ahead: 0,
            copied_seq: None,
            batch: BATCH_MIN,
            roomy: false,
            fin_passed: false,
            unsent: Segs::new(),
            fin_wanted: false,
            sndbuf: None,
            read_shut: false,
            write_shut: false,
            marked: false,
        }
    }

    /// What of the kernel's queue is in the pair.
    pub fn passed(&self) -> usize {
        self.in_pair.saturating_sub(self.ahead)
    }

    /// What of the pair has been read when `outq` of its memory is left; those bytes may leave the kernel's queue. Memory
    /// is freed in order, so a batch is read when the ones after it account for all that is left.
    pub fn settle(&mut self, outq: usize) -> usize {
        let mut done = 0;
        while let Some(first) = self.batches.front().copied() {
            let rest: usize = self.batches.iter().skip(1).map(|b| b.mem).sum();
            if outq > rest {
                break;
            }
            self.batches.pop_front();
            done += first.bytes;
        }
        self.in_pair -= done;
        done
    }
}

#[derive(Debug, Default)]
pub struct Dgram {
    /// Weights of the records in the pair: copies of the first datagrams of the kernel's queue.
    pub lying: crate::pump::weight::Lying,
    /// In the pair lies nothing but an empty record, which wakes the reader for this pending error.
    pub error: i32,
    /// From the program, refused by the full send buffer so far.
    pub unsent: Option<Vec<u8>>,
    /// Halves of the pair that the program has shut: 1 reading, 2 writing.
    pub shut: u8,
    pub netlink: Option<Box<crate::netlink::Netlink>>,
    /// Of a packet socket: its packets go there, not into the pair.
    pub ring: Option<Box<crate::ring::Mapped>>,
}

/// A socket whose pair is gone, because only so a program sees ECONNRESET: its calls still reach the kernel's socket.
#[derive(Clone, Copy, Debug)]
pub struct Tomb {
    pub error: i32,
    pub local: SockAddr,
    pub host: usize,
    pub fd: Option<Fd>,
}

const MAX_TOMBS: usize = 4096;

/// All of them, found by id and by inode.
#[derive(Debug, Default)]
pub struct Socks {
    slab: Slab<Sock>,
    by_inode: HashMap<u64, SockId>,
    tombs: HashMap<u64, Tomb>,
    tomb_order: VecDeque<u64>,
    /// The kernels' sockets of tombs that went, to be closed.
    dead: Vec<(usize, Fd)>,
}

impl Socks {
    pub fn insert(&mut self, s: Sock) -> SockId {
        let inode = s.inode;
        let id = self.slab.insert(s);
        self.by_inode.insert(inode, id);
        self.open_tomb(inode);
        id
    }

    pub fn get(&self, id: SockId) -> Option<&Sock> {
        self.slab.get(id)
    }

    pub fn get_mut(&mut self, id: SockId) -> Option<&mut Sock> {
        self.slab.get_mut(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SockId, &Sock)> {
        self.slab.iter()
    }

    pub fn by_inode(&self, inode: u64) -> Option<SockId> {
        self.by_inode.get(&inode).copied()
    }

    pub fn tomb(&self, inode: u64) -> Option<Tomb> {
        self.tombs.get(&inode).copied()
    }

    pub fn remove(&mut self, id: SockId) -> Option<Sock> {
        let s = self.slab.remove(id)?;
        if self.by_inode.get(&s.inode) == Some(&id) {
            self.by_inode.remove(&s.inode);
        }
        Some(s)
    }

    /// Remembers what a removed socket's remaining descriptors will be told.
    pub fn bury(&mut self, inode: u64, tomb: Tomb) {
        if self.tombs.insert(inode, tomb).is_none() {
            self.tomb_order.push_back(inode);
        }
        while self.tomb_order.len() > MAX_TOMBS {
            if let Some(old) = self.tomb_order.pop_front() {
                self.open_tomb(old);
            }
        }
    }

    fn open_tomb(&mut self, inode: u64) {
        if let Some(t) = self.tombs.remove(&inode) {
            self.dead.extend(t.fd.map(|fd| (t.host, fd)));
        }
    }

    /// Keeps the tombs of sockets that a program still has.
    pub fn keep_tombs(&mut self, held: &std::collections::HashSet<u64>) {
        let gone: Vec<u64> = self.tombs.keys().filter(|i| !held.contains(i)).copied().collect();
        gone.into_iter().for_each(|i| self.open_tomb(i));
        self.tomb_order.retain(|i| held.contains(i));
    }

    pub fn tombs(&self) -> usize {
        self.tombs.len()
    }

    pub fn take_dead(&mut self) -> Vec<(usize, Fd)> {
        std::mem::take(&mut self.dead)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn ids(&self) -> Vec<SockId> {
        self.slab.iter().map(|(id, _)| id).collect()
    }
}
