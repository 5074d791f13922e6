//! [`Kernel`]: the state machine of one machine, as a value. Time, frames and calls go in; frames, completions and the
//! next deadline come out; same seed and same inputs, same outputs.
use crate::env::{Env, Fired, Nanos, Rise, TimerKey, time};
use crate::fs::eventpoll::{EpItem, EventPoll};
use crate::fs::file::File;
use crate::ids::*;
use crate::mem::{Memory, Pool};
use crate::net::core::softirq::Cpu;
use crate::net::core::{busy_poll, cpu_time, errqueue, napi, timestamp, zerocopy};
use crate::net::packet;
use crate::net::sysctl::Global;
use crate::net::tcp;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::state::State;
use crate::net::udp::UdpSock;
use crate::net::xsk;
use crate::net::{Net, Usage};
use crate::task::Tasks;
use crate::task::call::SysResult;
use belljar_wire::Frame;
use std::collections::VecDeque;

/// Sockets, one slab per kind.
#[derive(Clone, Debug, Default)]
pub struct Socks {
    pub tcp: Slab<TcpSock>,
    pub udp: Slab<UdpSock>,
    pub raw: Slab<crate::net::raw::RawSock>,
    pub packet: Slab<crate::net::packet::PacketSock>,
    pub xsk: Slab<crate::net::xsk::XskSock>,
    pub xsk_pools: Slab<crate::net::xsk::Pool>,
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
    /// A signal for the owner of a file (F_SETOWN): a process, or with a minus sign a group.
    Signal { owner: i32, signal: i32 },
}

impl Kernel {
    /// A machine with one CPU, no namespace and no device, at time 0: HZ 250, everything random from `seed`.
    pub fn new(seed: u64) -> Kernel {
        Kernel {
            tasks: Tasks::default(),
            files: Files::default(),
            socks: Socks::default(),
            net: Net {
                env: Env::new(0, 0, 250, seed),
                ns: Slab::default(),
                devs: Slab::default(),
                cpus: vec![Cpu::default()],
                cpu: 0,
                rps_needed: false,
                rfs: Default::default(),
                napi: Default::default(),
                model: None,
                pool: Pool::default(),
                mem: Memory::default(),
                sysctl: Global::default(),
                usage: Usage::default(),
                notices: VecDeque::new(),
                nf_active: false,
                nf_copies: Default::default(),
                ct: Default::default(),
                kmsg: Default::default(),
                neigh: Default::default(),
                neigh_default: Default::default(),
                tc: Default::default(),
                xmit_depth: 0,
                xmit_nested: 0,
                frames: VecDeque::new(),
                xsk: Vec::new(),
                xsk_ids: 0,
            },
        }
    }

    /// So many processors, 64 at most; before there are cards, which spread their vectors over them.
    pub fn set_cpus(&mut self, n: u32) {
        self.net.cpus.resize(n.clamp(1, 64) as usize, Cpu::default());
    }

    /// A frame came to a NIC from its wire.
    pub fn rx(&mut self, now: Nanos, dev: DevId, frame: Frame) {
        self.begin_step(now);
        crate::drivers::nic::rx_frame(&mut self.net, dev, frame);
        self.end_step();
    }

    /// Softirqs were left to ksoftirqd: call [`Kernel::tick`] without waiting.
    pub fn more_work(&self) -> bool {
        let waits = !self.net.napi.kicked.is_empty();
        self.net.model.is_none()
            && (waits || self.net.cpus.iter().any(|c| c.is_pending() || !c.napi_threads.is_empty()))
    }

    /// Time passed: due timers, and what the last step left to do.
    pub fn tick(&mut self, now: Nanos) {
        self.begin_step(now);
        self.end_step();
    }

    /// What the steps so far put out: frames, signals, completions, each oldest first.
    pub fn pop_output(&mut self) -> Option<Output> {
        if let Some((dev, frame)) = self.net.frames.pop_front() {
            return Some(Output::Frame { dev, frame });
        }
        if let Some((owner, signal)) = self.tasks.signals.pop_front() {
            return Some(Output::Signal { owner, signal });
        }
        self.next_completion().map(|(call, result)| Output::Complete { call, result })
    }

    /// When [`Kernel::tick`] is next needed if nothing comes in.
    pub fn next_deadline(&self) -> Option<Nanos> {
        if self.net.model.is_some() {
            return cpu_time::next_deadline(self);
        }
        let env = self.env();
        let wheel = env.timers.next_tick().map(|j| time::tick_start(j, env.hz));
        let high = env.hrtimers.first().map(|t| t.0);
        wheel.into_iter().chain(high).min()
    }

    /// Drains what rose, in FIFO order: before the next packet, timer or call.
    #[inline(always)]
    pub(crate) fn drain_rises(&mut self) {
        if !self.net.env.rises.is_empty() {
            self.run_rises();
        }
    }

    #[inline(never)]
    fn run_rises(&mut self) {
        while let Some(rise) = self.net.env.rises.pop_front() {
            match rise {
                Rise::Wake { sock, mask } => self.wake_sock(sock, mask),
                Rise::TxFree { sock, truesize } => self.tx_free(sock, truesize),
                Rise::RingFree { sock, frame, truesize } => packet::tx_ring::ended(self, sock, frame, truesize),
                Rise::ZerocopyFree { sock, call, copied } => self.zerocopy_free(sock, call, copied),
                Rise::TxStamp { sock, stamp } => timestamp::tx_stamp(self, sock, *stamp),
                Rise::Tap { skb, sender } => packet::rcv::outgoing(self, skb, sender),
                Rise::Netdev { ns, ifindex, event } => {
                    packet::bind::notifier(self, ns, ifindex, event);
                    xsk::bind::notifier(self, ns, ifindex, event);
                }
                Rise::Xsk { sock, skb } => self.xsk_arrived(sock, skb),
                Rise::XskFree { sock, slot, truesize } => xsk::run::ended(self, sock, slot, truesize),
                Rise::Urgent { sock } => self.send_sigurg(sock),
                Rise::Pacing { sock } => self.paced_by_fq(sock),
                Rise::Reap { sock } => self.reap(sock),
                Rise::FastOpenDone { listener, rst } => tcp::handshake::fastopen::done(self, listener, rst),
            }
        }
    }

    /// A device is done with a packet of the socket (`sock_wfree`).
    fn tx_free(&mut self, sock: SockId, truesize: u32) {
        match sock {
            SockId::Tcp(id) => {
                if let Some(sk) = self.socks.tcp.get_mut(id) {
                    sk.sk.wmem_alloc = sk.sk.wmem_alloc.saturating_sub(truesize);
                    tcp::pacing::wfree(sk, &mut self.net, id);
                    tcp::mem::settle(sk, &mut self.net);
                }
            }
            SockId::Udp(id) => crate::net::udp::wfree(self, id, truesize),
            SockId::Raw(id) => crate::net::raw::wfree(self, id, truesize),
            SockId::Packet(id) => crate::net::packet::wfree(self, id, truesize),
            // Theirs say more than that.
            SockId::Xsk(_) => {}
        }
    }

    fn zerocopy_free(&mut self, sock: SockId, call: u32, copied: bool) {
        if let Some(sk) = self.socks.sk_mut(sock) {
            zerocopy::packet_freed(sk, &mut self.net.env, sock, call, copied);
        }
    }

    fn paced_by_fq(&mut self, sock: SockId) {
        if let SockId::Tcp(id) = sock
            && let Some(sk) = self.socks.tcp.get_mut(id)
        {
            tcp::pacing::by_fq(sk, &mut self.net, id);
        }
    }

    fn send_sigurg(&mut self, sock: SockId) {
        let file = self.socks.sk(sock).and_then(|sk| sk.file);
        let owner = file.and_then(|f| self.files.files.get(f)).map_or(0, |f| f.owner);
        // One that is not taken yet says it all.
        let signal = (owner, belljar_abi::SIGURG);
        if owner != 0 && !self.tasks.signals.contains(&signal) {
            self.tasks.signals.push_back(signal);
        }
    }

    /// An orphan ended: its slot is free again.
    fn reap(&mut self, sock: SockId) {
        let Kernel { socks, net, .. } = self;
        if let SockId::Tcp(id) = sock
            && let Some(sk) = socks.tcp.get_mut(id).filter(|sk| sk.sk.flags.dead && sk.state == State::Close)
        {
            for timer in [&mut sk.write_timer, &mut sk.delack_timer, &mut sk.keepalive_timer] {
                net.env.timers.remove(timer);
            }
            errqueue::destruct(&mut sk.sk);
            tcp::mem::settle(sk, net);
            socks.tcp.free(id);
        }
    }

    /// A timer's tick came: its owner looks whether it is due.
    pub(crate) fn fire(&mut self, key: TimerKey, at: Fired) {
        match key {
            TimerKey::TcpWrite(id)
            | TimerKey::TcpDelack(id)
            | TimerKey::TcpKeepalive(id)
            | TimerKey::TcpPace(id)
            | TimerKey::TcpCompressedAck(id) => {
                self.fire_tcp(key, id, at);
                self.tcp_settle(id);
            }
            TimerKey::TcpRequest(ns, id) => tcp::handshake::request_timer::request_timer(self, ns, id, at),
            TimerKey::TcpTimeWait(ns, id) => tcp::handshake::time_wait::entry_timer(self, ns, id, at),
            TimerKey::TcpTimeWaitQueue(ns) => tcp::handshake::time_wait::queue_timer(self, ns, at),
            TimerKey::Call(id) => self.call_timer(id),
            TimerKey::Neigh(ns, id) => crate::net::core::neighbour::timer(&mut self.net, ns, id, at),
            TimerKey::IpFrag(ns, id) => crate::net::ipv4::reassembly::expire(&mut self.net, ns, id, at),
            TimerKey::PmtuExpire(ns) => crate::net::ipv4::route::expire_pmtu(&mut self.net, ns, at),
            TimerKey::Pmtu6Expire(ns) => crate::net::ipv6::route::expire_pmtu(&mut self.net, ns, at),
            TimerKey::Ip6Frag(ns) => crate::net::ipv6::reassembly::expire(&mut self.net, ns, at),
            TimerKey::Addrconf(dev) => self.net.addrconf_timer(dev, at),
            TimerKey::ArpProxy(dev) => crate::net::ipv4::arp::proxy_timer(&mut self.net, dev, at),
            TimerKey::Igmp(dev) => crate::net::ipv4::igmp::timer(&mut self.net, dev, at),
            TimerKey::Bridge(dev) => crate::drivers::bridge_timer::timer(&mut self.net, dev, at),
            TimerKey::Conntrack(id) => self.net.ct_timer(id, at),
            TimerKey::Nflog(ns, group) => self.net.nflog_timer(ns, group, at),
            TimerKey::Qdisc(dev) => crate::net::core::dev_tx::qdisc_watchdog(&mut self.net, dev),
            TimerKey::NicCoalesce(dev) => crate::drivers::nic::irq::coalesce_timer(&mut self.net, dev),
            TimerKey::NicLine(dev) => crate::drivers::nic::line::sent(&mut self.net, dev),
            TimerKey::NapiWatchdog(dev, queue) => napi::watchdog(&mut self.net, dev, queue),
            TimerKey::NapiBusy(dev, queue) => busy_poll::time_is_over(self, dev, queue),
        }
    }

    fn fire_tcp(&mut self, key: TimerKey, id: TcpId, at: Fired) {
        match key {
            TimerKey::TcpWrite(_) => tcp::timer::tcp_write_timer(self, id, at),
            TimerKey::TcpDelack(_) => tcp::timer::tcp_delack_timer(self, id, at),
            TimerKey::TcpKeepalive(_) => tcp::timer::tcp_keepalive_timer(self, id, at),
            TimerKey::TcpPace(_) => tcp::pacing::pace_timer(self, id),
            _ => tcp::output::ack::compressed_ack_timer(self, id),
        }
    }

    pub fn now(&self) -> Nanos {
        self.env().now
    }

    fn env(&self) -> &Env {
        &self.net.env
    }
}
