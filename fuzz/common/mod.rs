//! A kernel under the fuzzer: set-up, a script read from the input's bytes, and the loop that drives time and outputs.
#![allow(dead_code)]
use belljar_abi::*;
use belljar_capture::trace::{Context, line};
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::task::call::{Call, Ret, Submitted};
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_script::Reached;
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use belljar_wire::{Frame, gso};
use core::net::Ipv4Addr;

pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const HOST_MAC: Mac = Mac([2, 0, 0, 0, 2, 15]);
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 2, 2]);
/// The packet id of frames from outside, where the host may pass them on.
pub const FOREIGN: u64 = u64::MAX - 1;
/// Steps between two inputs; a kernel that still has work due then never comes to rest.
const MAX_STEPS: usize = 10_000;

/// The input as a script: numbers are taken from the front, zeros when it is used up.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn more(&self) -> bool {
        !self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        let Some((&b, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        b
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub fn u32(&mut self) -> u32 {
        (self.u16() as u32) << 16 | self.u16() as u32
    }

    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (a, b) = self.0.split_at(n.min(self.0.len()));
        self.0 = b;
        a
    }

    /// One of the numbers that matter, sometimes any.
    pub fn one_of(&mut self, of: &[i32]) -> i32 {
        match self.u8() {
            255 => self.u32() as i32,
            b => of[b as usize % of.len()],
        }
    }
}

/// Who talks to whom.
#[derive(Clone, Copy)]
pub struct Ends {
    pub host: Ipv4Addr,
    pub host_mac: Mac,
    /// Where frames come from.
    pub peer: Ipv4Addr,
    pub peer_mac: Mac,
}

const ENDS: Ends = Ends { host: HOST, host_mac: HOST_MAC, peer: PEER, peer_mac: PEER_MAC };

/// One host with loopback and a NIC, a task that may do everything, and the calls that sleep.
pub struct Machine {
    pub k: Kernel,
    pub now: u64,
    pub dev: DevId,
    pub task: TaskId,
    /// The addresses of both ends of the wire.
    pub ends: Ends,
    pub parked: Vec<CallId>,
    /// What the NIC sent, for whoever plays the peer.
    pub sent: Vec<Frame>,
    pub results: Vec<(CallId, Result<Ret, Errno>)>,
    /// A raw socket was there whose checksums are its program's.
    raw: bool,
    /// With BELLJAR_FUZZ_TRACE set: what goes in and out, on stderr.
    trace: Option<belljar_capture::Printer>,
}

pub fn machine() -> Machine {
    let mut k = Kernel::new(7);
    let nic = NicConfig { mac: HOST_MAC, ..NicConfig::default() };
    let (ns, dev) = k.add_host("host", &nic, (HOST, 24), Some(PEER)).expect("a host");
    let process = k.add_process(ns, 0, Caps::ROOT, 64, "fuzz");
    let task = k.add_task(process, 0).expect("a task");
    let mut m = with(k, 1, dev, task, ENDS);
    m.settle();
    m.rx(arp(&ENDS, ARPOP_REQUEST, PEER));
    m
}

/// Goes on where a script was left.
pub fn machine_from(r: Reached) -> Machine {
    let ends = Ends { host: r.local, host_mac: r.host_mac, peer: r.remote, peer_mac: r.peer_mac };
    let mut m = with(r.kernel, r.now, r.dev, r.task, ends);
    m.parked = r.sleeping;
    for ip in r.sent {
        let mut b = vec![0; 14];
        EthHeader { dst: ends.peer_mac, src: ends.host_mac, ethertype: ETH_P_IP }.emit(&mut b);
        b.extend(ip);
        m.sent.push(Frame::from_bytes(&b, 0));
    }
    m.settle();
    m
}

fn with(k: Kernel, now: u64, dev: DevId, task: TaskId, ends: Ends) -> Machine {
    let (parked, sent, results) = (Vec::new(), Vec::new(), Vec::new());
    let mut m = Machine { k, now, dev, task, ends, parked, sent, results, raw: false, trace: trace() };
    if m.trace.is_some() {
        let w = &mut m.k.net.env.trace.wanted;
        (w.taps, w.drops, w.sockets) = (true, true, true);
    }
    m
}

fn trace() -> Option<belljar_capture::Printer> {
    std::env::var_os("BELLJAR_FUZZ_TRACE").map(|_| belljar_capture::Printer::default())
}

/// `who`, at the peer's end, asks for the host or answers it.
fn arp(ends: &Ends, op: u16, who: Ipv4Addr) -> Frame {
    let mut f = Frame::default();
    let (tha, dst) = if op == ARPOP_REPLY { (ends.host_mac, ends.host_mac) } else { (Mac::ZERO, Mac::BROADCAST) };
    let arp = ArpPacket { op, sha: ends.peer_mac, spa: who, tha, tpa: ends.host };
    arp.emit(f.head.push(28).expect("room"));
    EthHeader { dst, src: ends.peer_mac, ethertype: ETH_P_ARP }.emit(f.head.push(14).expect("room"));
    f
}

impl Machine {
    /// What the kernel traced since the last time.
    fn say(&mut self) {
        let Some(p) = &mut self.trace else { return };
        let cx =
            Context { host: "", wall_offset: 0, dev_name: &|d| Some(format!("dev{}", d.slot())), ns_name: &|_| None };
        while let Some(r) = self.k.net.env.trace.pop() {
            eprintln!("{}", line(&r, &cx, p));
        }
    }

    pub fn call(&mut self, call: Call<'_>) -> Option<Result<Ret, Errno>> {
        if let Call::Socket { family, kind, protocol } = call {
            self.raw |= kind & 0xf == SOCK_RAW && (family == AF_INET || protocol != IPPROTO_ICMPV6);
        }
        let said = self.trace.is_some().then(|| format!("{call:?}"));
        let r = match self.k.call(self.now, self.task, call) {
            Submitted::Done(r) => Some(r),
            Submitted::Parked(id) => {
                self.parked.push(id);
                None
            }
        };
        if let Some(said) = said {
            eprintln!("{said:.200} = {:.200}", format!("{r:?}"));
        }
        self.settle();
        r
    }

    /// A call of the set-up, which must succeed at once.
    pub fn must(&mut self, call: Call<'_>) -> Ret {
        self.call(call).expect("does not sleep").expect("succeeds")
    }

    pub fn socket(&mut self, kind: i32) -> u32 {
        match self.must(Call::Socket { family: AF_INET, kind: kind | SOCK_NONBLOCK, protocol: 0 }) {
            Ret::Fd(fd) => fd,
            other => panic!("{other:?}"),
        }
    }

    pub fn rx(&mut self, frame: Frame) {
        self.k.rx(self.now, self.dev, frame);
        self.settle();
    }

    /// Lets the kernel work until nothing is due now, and takes what comes out.
    pub fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            self.say();
            while let Some(o) = self.k.pop_output() {
                match o {
                    Output::Frame { frame, .. } => {
                        // What leaves is whole and right, or says that a device must finish it.
                        // What is only passed on is as its sender made it.
                        let ours =
                            frame.csum != belljar_wire::Csum::Partial && frame.gso.is_none() && frame.id != FOREIGN;
                        if ours && !self.raw {
                            gso::verify(&Frame::from_bytes(&frame.to_vec(), 0)).expect("a frame with right checksums");
                        }
                        let asks = frame.head.bytes().get(14..).map(ArpPacket::parse);
                        if let Some(Ok(a)) = asks.filter(|_| frame.head.bytes()[12..14] == ETH_P_ARP.to_be_bytes())
                            && a.op == ARPOP_REQUEST
                            && a.tpa != self.ends.host
                        {
                            self.k.rx(self.now, self.dev, arp(&self.ends, ARPOP_REPLY, a.tpa));
                        } else if self.sent.len() < 256 {
                            self.sent.push(frame);
                        }
                    }
                    Output::Signal { .. } => {}
                    Output::Complete { call, result } => {
                        self.parked.retain(|c| *c != call);
                        self.results.push((call, result));
                    }
                }
            }
            if !self.k.more_work() && self.k.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.k.tick(self.now);
        }
        panic!("the kernel does not come to rest at {}", self.now);
    }

    /// Time passes; timers on the way fire at their time.
    pub fn sleep(&mut self, ns: u64) {
        let until = self.now.saturating_add(ns);
        for _ in 0..1000 {
            let Some(at) = self.k.next_deadline().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            self.k.tick(self.now);
            self.settle();
        }
        self.now = until;
        self.k.tick(self.now);
        self.settle();
    }

    pub fn check(&self) {
        if let Err(e) = self.k.check() {
            panic!("an invariant broke: {e:?}");
        }
    }
}
