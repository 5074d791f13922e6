//! Everything a socket may call down into ([`Net`]), and the layers below it.
pub mod af;
pub mod core;
pub mod drop;
pub mod ethernet;
pub mod hits;
pub mod ipv4;
pub mod ipv6;
pub mod mib;
pub mod netfilter;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod packet;
pub mod raw;
pub mod sched;
pub mod switch;
pub mod sysctl;
pub mod tcp;
pub mod udp;
pub mod xsk;

use self::core::dev::NetDevice;
use self::core::skb::{Owner, SkBuff, Skb};
use self::core::softirq::Cpu;
use self::drop::DropReason;
use self::mib::Mib;
use self::netns::NetNs;
use self::sysctl::Global;
use crate::env::trace::{Dir, RuleHit};
use crate::env::{Env, Event};
use crate::ids::*;
use crate::mem::{Memory, Pool};
use belljar_wire::Frame;
use std::collections::VecDeque;

/// The stack below the sockets: a socket is borrowed beside it (Linux: `bh_lock_sock`), transmits straight down and
/// sees the return value; what has to go up becomes a [`Rise`](crate::env::Rise).
#[derive(Clone, Debug)]
pub struct Net {
    pub env: Env,
    pub ns: Slab<NetNs>,
    pub devs: Slab<NetDevice>,
    /// Per-CPU packet processing (Linux: `softnet_data`).
    pub cpus: Vec<Cpu>,
    /// The CPU the current step runs on.
    pub cpu: usize,
    /// A receive queue steers to other CPUs: until then that costs one look at this.
    pub rps_needed: bool,
    pub rfs: core::rps::SockFlows,
    pub napi: core::napi::Global,
    /// In a lab: how long things take.
    pub model: Option<Box<core::cpu_time::Model>>,
    pub pool: Pool,
    /// The machine's pages, and who holds them.
    pub mem: Memory,
    /// Settings that are not per namespace.
    pub sysctl: Global,
    /// Pages charged to TCP and UDP sockets, orphans and sockets in use: what udp_mem and tcp_max_orphans bound.
    pub usage: Usage,
    /// Notifications of netlink that nobody has taken yet.
    pub notices: VecDeque<netlink::notify::Notice>,
    /// A namespace has tables of netfilter: until then its hooks cost one look at this.
    pub nf_active: bool,
    /// Copies of packets that rules asked for.
    pub nf_copies: netfilter::xt::copy::Copies,
    pub ct: netfilter::conntrack::Conntrack,
    pub kmsg: netfilter::Kmsg,
    /// Neighbours of IPv4, of IPv6.
    pub neigh: [core::neighbour::NeighCache; 2],
    pub neigh_default: core::neigh_sysctl::Defaults,
    pub tc: sched::Global,
    /// Tunnels that the packet on its way goes through.
    pub xmit_depth: u32,
    pub xmit_nested: u32,
    /// Frames on the wire side of NICs, taken by the driver loop.
    pub frames: VecDeque<(DevId, Frame)>,
    /// AF_XDP sockets that receive, by where they are bound; and the last number of a ring or umem.
    pub xsk: Vec<xsk::Entry>,
    pub xsk_ids: u32,
}

/// See [`Net::usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes by Linux's truesize in TCP queues of all namespaces.
    pub tcp_bytes: u64,
    pub udp_bytes: u64,
    /// When TCP came under memory pressure; 0 when it is not.
    pub tcp_pressure_since: crate::env::Nanos,
    pub tcp_orphans: u32,
}

impl Net {
    /// Moves a counter of a namespace.
    #[inline]
    pub fn inc(&mut self, ns: NsId, c: Mib) {
        if let Some(ns) = self.ns.get_mut(ns) {
            ns.mib.inc(c);
        }
    }

    pub fn add(&mut self, ns: NsId, c: Mib, n: u64) {
        if let Some(ns) = self.ns.get_mut(ns) {
            ns.mib.add(c, n);
        }
    }

    /// A new packet with an id of its own.
    pub fn alloc_skb(&mut self) -> Skb {
        let id = self.env.packet_id();
        let mut skb = self.pool.take_skb();
        skb.id = id;
        skb
    }

    /// A copy that shares the payload and belongs to nobody.
    pub fn clone_skb(&mut self, skb: &SkBuff) -> Skb {
        let mut copy = self.alloc_skb();
        *copy = skb.clone();
        (copy.owner, copy.tx) = (Owner::None, None);
        if copy.truesize == 0 {
            copy.set_truesize();
        }
        copy
    }

    /// The end of a packet that did what it was for.
    pub fn consume_skb(&mut self, skb: Skb) {
        self.skb_release(skb);
    }

    /// The end of a packet that was dropped: named, and shown to whoever watches. `at` is the function that gave up.
    #[doc(alias = "kfree_skb_reason")]
    #[cold]
    pub fn kfree_skb(&mut self, skb: Skb, reason: DropReason, at: &'static str) {
        self.pool.dropped(reason);
        if self.env.trace.wanted.drops {
            let frame = Box::new(skb.whole_frame());
            let event = Event::Drop { packet: skb.id, reason, at, dev: skb.dev, frame };
            self.env.trace.push(self.env.now, self.ns_of(&skb), event);
        }
        self.skb_release(skb);
    }

    fn skb_release(&mut self, mut skb: Skb) {
        self.skb_orphan(&mut skb);
        if skb.nf.ct.is_some() || skb.tx.is_some() {
            self.release_rest(&mut skb);
        }
        self.pool.give_skb(skb);
    }

    /// What few packets have with them.
    #[cold]
    fn release_rest(&mut self, skb: &mut Skb) {
        if skb.nf.ct.is_some() {
            self.ct_put(skb.nf);
        }
        self.zerocopy_free(skb);
    }

    /// Runs the destructor now: the owner's memory is free although the packet lives on (`skb_orphan`).
    pub fn skb_orphan(&mut self, skb: &mut Skb) {
        if let Some(free) = std::mem::take(&mut skb.owner).free(skb.truesize) {
            self.env.rises.push_back(free);
        }
    }

    /// Nothing below refers to the program's pages any more (`skb_zcopy_clear`).
    pub fn zerocopy_free(&mut self, skb: &mut Skb) {
        if let Some(tx) = skb.tx.take()
            && let Some(call) = tx.zerocopy
        {
            self.env.rises.push_back(crate::env::Rise::ZerocopyFree { sock: tx.sock, call, copied: tx.copied });
        }
    }

    /// Marks a stage on a packet's way, for `belljar trace`.
    #[inline(always)]
    pub fn stage(&mut self, skb: &Skb, stage: &'static str) {
        if self.env.trace.wanted.stages {
            self.trace_stage(skb, stage);
        }
    }

    /// Where a packet is at the moment: at its device, or on its way out of a namespace.
    fn ns_of(&self, skb: &SkBuff) -> Option<NsId> {
        skb.dev.and_then(|d| self.devs.get(d)).map(|d| d.ns).or(skb.ns)
    }

    #[cold]
    fn trace_stage(&mut self, skb: &Skb, stage: &'static str) {
        let event = Event::Stage { packet: skb.id, stage, dev: skb.dev, len: skb.len() as u32 };
        self.env.trace.push(self.env.now, self.ns_of(skb), event);
    }

    /// A rule decided about a packet: told in words only to who asks.
    #[inline]
    pub(crate) fn rule_hit(&mut self, skb: &SkBuff, hit: impl FnOnce() -> RuleHit) {
        if self.env.trace.wanted.stages {
            let event = Event::Rule { packet: skb.id, dev: skb.dev, hit: Box::new(hit()) };
            self.env.trace.push(self.env.now, self.ns_of(skb), event);
        }
    }

    /// The packet as a tap of `dev` sees it, its link header included.
    #[inline(always)]
    pub(crate) fn tap(&mut self, dev: DevId, dir: Dir, skb: &SkBuff) {
        if self.env.trace.wanted.taps {
            self.trace_tap(dev, dir, skb);
        }
    }

    #[cold]
    fn trace_tap(&mut self, dev: DevId, dir: Dir, skb: &SkBuff) {
        let mut frame = Box::new(skb.to_frame());
        if dir == Dir::In {
            frame.head.rewind(skb.mac_header);
        }
        if skb.vlan.present() {
            // As it is on the wire.
            let mut tagged = SkBuff { head: frame.head, frags: frame.payload, vlan: skb.vlan, ..SkBuff::default() };
            core::vlan::push_inside(&mut tagged);
            (frame.head, frame.payload) = (tagged.head, tagged.frags);
        }
        let ns = self.devs.get(dev).map(|d| d.ns);
        self.env.trace.push(self.env.now, ns, Event::Tap { dev, dir, frame });
    }
}
