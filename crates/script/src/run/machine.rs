//! [`Machine`]: a kernel with one NIC, the clock, the wire as a script sees it: IP packets in, IP packets out. ARP is
//! answered here and never shown.
use crate::ast::{Nanos, Settings};
use crate::packet::Pkt;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::task::call::{Call, Submitted, SysResult};
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use belljar_wire::{Frame, gso};
use std::collections::VecDeque;

/// Kernel time at which a script starts: a machine is up a little while before anybody uses it.
pub(super) const BOOT: Nanos = 100_000_000_000;
pub(super) const HOST_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Steps of one script; a script that needs more is going round in circles.
const MAX_STEPS: u64 = 500_000;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    pub k: Kernel,
    pub ns: NsId,
    pub dev: DevId,
    process: ProcId,
    /// The thread that does what does not block.
    pub task: TaskId,
    /// Threads that are free for blocking calls.
    idle: Vec<TaskId>,
    now: Nanos,
    arp: bool,
    /// Packets that the kernel sent and no line has taken, with the script time of each.
    pub out: VecDeque<(Nanos, Pkt)>,
    pub done: Vec<(CallId, SysResult, Nanos)>,
    steps: u64,
    /// What no script may see: a broken invariant, a wrong checksum, too many steps.
    pub broken: Option<String>,
    /// Signals that came out; there is one kind.
    pub sigurg: i64,
}

impl Machine {
    pub fn new(s: &Settings) -> Result<Machine, String> {
        let mut k = Kernel::new(s.seed);
        let nic = NicConfig {
            mac: HOST_MAC,
            mtu: s.mtu,
            features: Features { orphan: s.tun, ..Features::NONE },
            ..NicConfig::default()
        };
        let made = k.add_host("host", &nic, (s.local, s.prefix), Some(s.gateway));
        let (ns, dev) = made.map_err(|e| format!("the host cannot be made of these settings: {e}"))?;
        let (uid, caps) = if s.root { (0, Caps::ROOT) } else { (1000, Caps::NONE) };
        let process = k.add_process(ns, uid, caps, s.nofile, "script");
        let task = k.add_task(process, 0).ok_or("no task")?;
        let (now, arp) = (BOOT, s.arp);
        let (out, done, idle) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut m = Machine { k, ns, dev, process, task, idle, now, arp, out, done, steps: 0, broken: None, sigurg: 0 };
        if s.arp {
            m.answer_arp(ARPOP_REQUEST, s.gateway, s.local);
            m.answer_arp(ARPOP_REPLY, s.gateway, s.local);
        }
        Ok(m)
    }

    /// Script time.
    pub fn now(&self) -> Nanos {
        self.now - BOOT
    }

    pub fn kernel_now(&self) -> Nanos {
        self.now
    }

    fn answer_arp(&mut self, op: u16, who: std::net::Ipv4Addr, asker: std::net::Ipv4Addr) {
        let mut b = vec![0; 42];
        EthHeader { dst: HOST_MAC, src: PEER_MAC, ethertype: ETH_P_ARP }.emit(&mut b);
        if let Some(body) = b.get_mut(14..) {
            ArpPacket { op, sha: PEER_MAC, spa: who, tha: HOST_MAC, tpa: asker }.emit(body);
        }
        self.k.rx(self.now, self.dev, Frame::from_bytes(&b, 0));
        self.collect();
    }

    /// An IP packet from the wire.
    pub fn inject(&mut self, packet: &[u8]) {
        let mut b = vec![0; 14];
        EthHeader { dst: HOST_MAC, src: PEER_MAC, ethertype: ETH_P_IP }.emit(&mut b);
        b.extend_from_slice(packet);
        self.k.rx(self.now, self.dev, Frame::from_bytes(&b, 0));
        self.collect();
    }

    pub fn call(&mut self, task: TaskId, call: Call<'_>) -> Submitted {
        let submitted = self.k.call(self.now, task, call);
        self.collect();
        submitted
    }

    /// A thread for a call that may block.
    pub fn thread(&mut self) -> Option<TaskId> {
        self.idle.pop().or_else(|| self.k.add_task(self.process, 0))
    }

    pub fn rest(&mut self, task: TaskId) {
        self.idle.push(task);
    }

    pub fn cancel(&mut self, call: CallId) {
        self.k.cancel(self.now, call, belljar_abi::Errno::EINTR);
        self.collect();
    }

    /// One timer, if any is due up to `until`; else the clock moves there and the answer is false.
    pub fn step(&mut self, until: Nanos) -> bool {
        let end = BOOT.saturating_add(until);
        if self.broken.is_some() {
            return false;
        }
        let next = self.k.next_deadline().filter(|at| *at <= end);
        self.now = self.now.max(next.unwrap_or(end));
        self.k.tick(self.now);
        self.collect();
        next.is_some()
    }

    /// Nothing will ever happen by itself.
    pub fn is_quiet(&self) -> bool {
        self.k.next_deadline().is_none()
    }

    fn collect(&mut self) {
        loop {
            self.steps += 1;
            while let Some(o) = self.k.pop_output() {
                match o {
                    Output::Frame { frame, .. } => self.sent(frame),
                    Output::Signal { .. } => self.sigurg += 1,
                    Output::Complete { call, result } => self.done.push((call, result, self.now())),
                }
            }
            if self.steps > MAX_STEPS {
                self.broken.get_or_insert_with(|| format!("more than {MAX_STEPS} steps"));
            }
            if !self.k.more_work() || self.broken.is_some() {
                break;
            }
            self.k.tick(self.now);
        }
        if let Err(v) = self.k.check() {
            self.broken.get_or_insert_with(|| format!("an invariant of the kernel does not hold: {v}"));
        }
    }

    fn sent(&mut self, frame: Frame) {
        if let Err(e) = gso::verify(&frame) {
            self.broken.get_or_insert_with(|| format!("the kernel sent a packet that is malformed: {e:?}"));
        }
        let b = frame.to_vec();
        let Ok(eth) = EthHeader::parse(&b) else { return };
        let body = b.get(14..).unwrap_or(&[]);
        if eth.ethertype == ETH_P_ARP {
            let asked = ArpPacket::parse(body).ok().filter(|a| self.arp && a.op == ARPOP_REQUEST);
            if let Some(a) = asked {
                self.answer_arp(ARPOP_REPLY, a.tpa, a.spa);
            }
        } else if let Some(p) = Pkt::read(body) {
            self.out.push_back((self.now(), p));
        }
    }
}
