//! What the kernel's objects really take, by the names that Linux's caches have: `/proc/slabinfo`, `bench`.
//!
//! Linux's own object sizes are in what sockets are charged (`truesize`); these are the bytes that belljar holds.
use super::{CLASSES, Pool};
use crate::kernel::Kernel;
use crate::lib::slab::Slab;
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::{ColdOpts, Sock};
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::track::Track;
use crate::net::tcp::tx_seg::TxSeg;
use std::collections::VecDeque;

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub name: &'static str,
    /// In use, and there is room for.
    pub active: usize,
    pub total: usize,
    /// Bytes of one.
    pub size: usize,
    /// Bytes held, with the lists beside them.
    pub bytes: usize,
}

impl Cache {
    fn of<T>(name: &'static str, slabs: &[&Slab<T>]) -> Cache {
        let sum = |f: fn(&Slab<T>) -> usize| slabs.iter().map(|s| f(s)).sum();
        Cache { name, active: sum(Slab::len), total: sum(Slab::slots), size: Slab::<T>::SLOT, bytes: sum(Slab::bytes) }
    }

    /// Memory that is not in objects of one size.
    fn heap(name: &'static str, bytes: usize) -> Cache {
        Cache { name, active: bytes.div_ceil(64), total: bytes.div_ceil(64), size: 64, bytes }
    }
}

/// What an allocation of `n` bytes takes, with what the allocator writes before it.
fn chunk(n: usize) -> usize {
    if n == 0 { 0 } else { (n + 8).next_multiple_of(16).max(32) }
}

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
        let Kernel { tasks, files, socks, net } = self;
        let spaces: Vec<_> = net.ns.iter().map(|(_, n)| n).collect();
        let of_ns = |f: fn(&crate::net::netns::NetNs) -> usize| spaces.iter().map(|n| f(n)).sum::<usize>();
        let extras: usize = socks.tcp.iter().map(|(_, sk)| of_tcp(sk)).sum();
        let datagrams: usize = socks.udp.iter().map(|(_, s)| of_sock(&s.sk) + ring(&s.queue)).sum();
        let alive = (net.pool.skbs_born - net.pool.skbs_ended) as usize;
        let skbs = alive + net.pool.kept_skbs();
        let mut all = vec![
            Cache::of("TCP", &[&socks.tcp]),
            Cache::of("UDP", &[&socks.udp]),
            Cache::of("RAW", &[&socks.raw]),
            Cache::of("PACKET", &[&socks.packet]),
            Cache::of("request_sock_TCP", &spaces.iter().map(|n| &n.tcp.reqs).collect::<Vec<_>>()),
            Cache::of("tw_sock_TCP", &spaces.iter().map(|n| &n.tcp.tws).collect::<Vec<_>>()),
            Cache::of("filp", &[&files.files]),
            Cache::of("eventpoll", &[&files.epolls]),
            Cache::of("eventpoll_epi", &[&files.items]),
            Cache::of("eventpoll_pwq", &[&tasks.waits]),
            Cache::of("task_struct", &[&tasks.tasks]),
            Cache::of("files_cache", &[&tasks.procs]),
            Cache::of("net_namespace", &[&net.ns]),
            Cache::of("net_device", &[&net.devs]),
            Cache::of("arp_cache", &spaces.iter().map(|n| &n.neighs).collect::<Vec<_>>()),
            Cache::of("ip4-frags", &spaces.iter().map(|n| &n.frags).collect::<Vec<_>>()),
            Cache::of("nf_conntrack", &[&net.ct.conns]),
        ];
        let size = chunk(size_of::<SkBuff>());
        all.push(Cache { name: "skbuff_head_cache", active: alive, total: skbs, size, bytes: skbs * size });
        for (class, kept) in CLASSES.iter().zip(net.pool.kept_pages()) {
            let (name, size) = (Pool::class_name(*class), chunk(*class) + 48);
            all.push(Cache { name, active: 0, total: kept, size, bytes: kept * size });
        }
        all.push(Cache::heap("kmalloc-sock", extras + datagrams));
        all.push(Cache::heap("tcp_ehash", of_ns(|n| n.tcp.ehash_bytes())));
        all.push(Cache::heap("tcp_bind_bucket", of_ns(|n| n.tcp.bhash.bytes())));
        all.push(Cache::heap("timer_list", net.env.timers.bytes()));
        all.push(Cache::heap("fdtable", tasks.procs.iter().map(|(_, p)| p.fds.bytes()).sum()));
        all
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
