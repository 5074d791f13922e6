//! What the kernel's objects really take, by the names that Linux's caches have: `/proc/slabinfo`, `bench`.
//!
//! Linux's own object sizes are in what sockets are charged (`truesize`); these are the bytes that belljar holds.
use super::CLASSES;
use super::pages::PAGE_SIZE;
use crate::kernel::Kernel;
use crate::lib::slab::Slab;
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::{ColdOpts, Sock};
use crate::net::netns::NetNs;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::track::Track;
use crate::net::tcp::tx_seg::TxSeg;
use std::collections::VecDeque;

macro_rules! kinds {
    ($($variant:ident = $name:literal,)*) => {
        /// What memory is held for, by the names of Linux's caches.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($variant,)* }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    Tcp = "TCP",
    Udp = "UDP",
    Raw = "RAW",
    Packet = "PACKET",
    Request = "request_sock_TCP",
    TimeWait = "tw_sock_TCP",
    Filp = "filp",
    EventPoll = "eventpoll",
    EpItem = "eventpoll_epi",
    EpWait = "eventpoll_pwq",
    Task = "task_struct",
    Files = "files_cache",
    NetNs = "net_namespace",
    NetDevice = "net_device",
    Neigh = "arp_cache",
    Frags = "ip4-frags",
    Conntrack = "nf_conntrack",
    Lists = "kmem_cache_node",
    Skb = "skbuff_head_cache",
    Page2k = "kmalloc-2k",
    Page16k = "kmalloc-16k",
    Page64k = "kmalloc-64k",
    Page256k = "kmalloc-256k",
    Sock = "kmalloc-sock",
    Ehash = "tcp_ehash",
    Bhash = "tcp_bind_bucket",
    Timers = "timer_list",
    FdTable = "fdtable",
    PageFrag = "page_frag",
}

const PAGES: [Kind; CLASSES.len()] = [Kind::Page2k, Kind::Page16k, Kind::Page64k, Kind::Page256k];
/// Pages of a slab of what is not a [`Slab`] here.
const OTHER: u32 = 8;

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub kind: Kind,
    /// In use, and there is room for.
    pub active: usize,
    pub total: usize,
    /// Bytes of one.
    pub size: usize,
    /// Bytes held.
    pub bytes: usize,
    /// What the objects lie in: how many, of how many objects and pages each.
    pub slabs: usize,
    pub each: usize,
    pub pages_each: u32,
}

impl Cache {
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn of<T>(kind: Kind, slabs: &[&Slab<T>]) -> Cache {
        let sum = |f: fn(&Slab<T>) -> usize| slabs.iter().map(|s| f(s)).sum();
        let (total, size) = (sum(Slab::slots), Slab::<T>::SLOT);
        let (each, pages_each) = (Slab::<T>::CHUNK, Slab::<T>::CHUNK_PAGES);
        let active = sum(Slab::len);
        Cache { kind, active, total, size, bytes: total * size, slabs: sum(Slab::chunks_held), each, pages_each }
    }

    /// Objects that are made one by one.
    fn single(kind: Kind, active: usize, total: usize, size: usize) -> Cache {
        let each = (OTHER as usize * PAGE_SIZE / size.max(1)).max(1);
        let (slabs, pages_each) = (total.div_ceil(each), (each * size).div_ceil(PAGE_SIZE) as u32);
        Cache { kind, active, total, size, bytes: total * size, slabs, each, pages_each }
    }

    /// Memory that is not in objects of one size.
    fn heap(kind: Kind, bytes: usize) -> Cache {
        Cache { bytes, ..Cache::single(kind, bytes.div_ceil(64), bytes.div_ceil(64), 64) }
    }

    /// What is kept to be used again goes back when memory is low.
    pub fn reclaimable(&self) -> bool {
        PAGES.contains(&self.kind)
    }
}

/// What an allocation of `n` bytes takes, with what the allocator writes before it.
const fn chunk(n: usize) -> usize {
    match (n + 8).next_multiple_of(16) {
        _ if n == 0 => 0,
        16 => 32,
        whole => whole,
    }
}

/// What a packet buffer takes, its bytes apart.
pub(super) const SKB_BYTES: usize = chunk(size_of::<SkBuff>());

fn ring<T>(q: &VecDeque<T>) -> usize {
    chunk(q.capacity() * size_of::<T>())
}

/// Behind the pointers of what all sockets have.
fn of_sock(sk: &Sock) -> usize {
    sk.cold.as_ref().map_or(0, |c| chunk(size_of::<ColdOpts>()) + ring(&c.errors))
}

fn of_tcp(sk: &TcpSock) -> usize {
    fn boxed<T>(b: &Option<Box<T>>) -> usize {
        b.as_ref().map_or(0, |_| chunk(size_of::<T>()))
    }
    let options = boxed(&sk.tune) + boxed(&sk.listener) + boxed(&sk.tfo) + boxed(&sk.rare);
    let track = sk.track.as_ref().map_or(0, |_| chunk(size_of::<Track>()));
    let queues = chunk(sk.snd.queue.capacity() * size_of::<TxSeg>()) + ring(&sk.rcv.queue);
    of_sock(&sk.sk) + options + track + queues
}

impl Kernel {
    /// Every kind of object of the machine.
    pub fn caches(&self) -> Vec<Cache> {
        let mut all = self.slab_caches();
        all.extend(self.heap_caches());
        all
    }

    /// What lies in slabs of its own: counted at once.
    pub(super) fn slab_caches(&self) -> Vec<Cache> {
        let Kernel { tasks, files, socks, net } = self;
        let spaces: Vec<_> = net.ns.iter().map(|(_, n)| n).collect();
        vec![
            Cache::of(Kind::Tcp, &[&socks.tcp]),
            Cache::of(Kind::Udp, &[&socks.udp]),
            Cache::of(Kind::Raw, &[&socks.raw]),
            Cache::of(Kind::Packet, &[&socks.packet]),
            Cache::of(Kind::Request, &spaces.iter().map(|n| &n.tcp.reqs).collect::<Vec<_>>()),
            Cache::of(Kind::TimeWait, &spaces.iter().map(|n| &n.tcp.tws).collect::<Vec<_>>()),
            Cache::of(Kind::Filp, &[&files.files]),
            Cache::of(Kind::EventPoll, &[&files.epolls]),
            Cache::of(Kind::EpItem, &[&files.items]),
            Cache::of(Kind::EpWait, &[&tasks.waits]),
            Cache::of(Kind::Task, &[&tasks.tasks]),
            Cache::of(Kind::Files, &[&tasks.procs]),
            Cache::of(Kind::NetNs, &[&net.ns]),
            Cache::of(Kind::NetDevice, &[&net.devs]),
            Cache::of(Kind::Neigh, &spaces.iter().map(|n| &n.neighs).collect::<Vec<_>>()),
            Cache::of(Kind::Frags, &spaces.iter().map(|n| &n.frags).collect::<Vec<_>>()),
            Cache::of(Kind::Conntrack, &[&net.ct.conns]),
        ]
    }

    /// All else: every socket is asked.
    pub(super) fn heap_caches(&self) -> Vec<Cache> {
        let Kernel { tasks, socks, net, .. } = self;
        let of_ns = |f: fn(&NetNs) -> usize| net.ns.iter().map(|(_, n)| f(n)).sum::<usize>();
        let extras: usize = socks.tcp.iter().map(|(_, sk)| of_tcp(sk)).sum();
        let datagrams: usize = socks.udp.iter().map(|(_, s)| of_sock(&s.sk) + ring(&s.queue)).sum();
        let alive = (net.pool.skbs_born - net.pool.skbs_ended) as usize;
        let skbs = alive + net.pool.kept_skbs();
        let mut all =
            vec![Cache::heap(Kind::Lists, self.list_bytes()), Cache::single(Kind::Skb, alive, skbs, SKB_BYTES)];
        for ((class, kept), kind) in CLASSES.iter().zip(net.pool.kept_pages()).zip(PAGES) {
            all.push(Cache::single(kind, 0, kept, chunk(*class) + 48));
        }
        all.push(Cache::heap(Kind::Sock, extras + datagrams));
        all.push(Cache::heap(Kind::Ehash, of_ns(|n| n.tcp.ehash_bytes())));
        all.push(Cache::heap(Kind::Bhash, of_ns(|n| n.tcp.bhash.bytes())));
        all.push(Cache::heap(Kind::Timers, net.env.timers.bytes()));
        all.push(Cache::heap(Kind::FdTable, tasks.procs.iter().map(|(_, p)| p.fds.bytes()).sum()));
        all
    }

    /// What slabs keep beside their objects.
    fn list_bytes(&self) -> usize {
        let Kernel { tasks, files, socks, net } = self;
        let socks =
            socks.tcp.list_bytes() + socks.udp.list_bytes() + socks.raw.list_bytes() + socks.packet.list_bytes();
        let files = files.files.list_bytes() + files.epolls.list_bytes() + files.items.list_bytes();
        let tasks = tasks.waits.list_bytes() + tasks.tasks.list_bytes() + tasks.procs.list_bytes();
        let of_ns =
            |n: &NetNs| n.tcp.reqs.list_bytes() + n.tcp.tws.list_bytes() + n.neighs.list_bytes() + n.frags.list_bytes();
        let nets = net.ns.list_bytes() + net.devs.list_bytes() + net.ct.conns.list_bytes();
        socks + files + tasks + nets + net.ns.iter().map(|(_, n)| of_ns(n)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_takes_its_header_and_a_multiple_of_sixteen() {
        assert_eq!([0, 1, 24, 25, 100].map(chunk), [0, 32, 32, 48, 112]);
    }
}
