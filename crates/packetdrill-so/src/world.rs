//! One kernel with a network card, its clock and the wire of the card; no C in here.
//!
//! Time moves in four ways only: a microsecond per look at the clock (packetdrill busy-waits on it), in a sleep, while a
//! packet is awaited, and while the main thread itself sleeps in a call. A call that sleeps on the other thread is given
//! the time at which it ended for its next look at the clock, because nothing stops the clock while that thread wakes.
use crate::commands::Commands;
use crate::sysctls::Sysctls;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::env::Env;
use belljar_kernel::ids::{CallId, DevId, NsId, TaskId};
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::task::call::{Call, Fd, Submitted, SysResult};
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_wire::Frame;
use belljar_wire::arp::{ARP_HLEN, ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_HLEN, ETH_P_ARP, ETH_P_IP, EthHeader, Mac};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const USEC: u64 = 1_000;
const SEC: u64 = 1_000_000_000;
/// The machine has been up a while, as one that runs scripts has.
const BOOTED_FOR: u64 = 1_000 * SEC;
/// Wall clock at boot. Any fixed day does, so that runs are alike.
const BOOT_WALL: u64 = 1_700_000_000 * SEC;
/// HZ of the kernels that the scripts were written for.
const HZ: u32 = 1000;
/// Nothing that a script waits for takes longer: then the wire is silent.
const PATIENCE: u64 = 24 * 3600 * SEC;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// See the module.
pub struct World {
    pub k: Kernel,
    pub ns: NsId,
    pub dev: DevId,
    pub now: u64,
    task: TaskId,
    /// Packets on the wire with the time at which they came there.
    sent: VecDeque<(Vec<u8>, u64)>,
    /// Calls that slept and ended.
    done: HashMap<CallId, (SysResult, u64)>,
    /// Descriptors of this process that stand for one of the kernel's.
    pub fds: BTreeMap<i32, Fd>,
    /// When the call that a thread slept in ended.
    stamps: HashMap<i32, u64>,
    main_thread: i32,
    sysctls: Sysctls,
    commands: Commands,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);
static ENDED: Condvar = Condvar::new();

/// The world, whoever held it before: a panic ends the process anyway.
pub fn lock() -> MutexGuard<'static, Option<World>> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a call that sleeps has ended. The main thread, which runs the clock, lets time pass itself.
pub fn wait(mut guard: MutexGuard<'static, Option<World>>, id: CallId, thread: i32) -> Option<SysResult> {
    loop {
        let w = guard.as_mut()?;
        if let Some((result, at)) = w.done.remove(&id) {
            if thread != w.main_thread {
                w.stamps.insert(thread, at);
            }
            return Some(result);
        }
        if thread == w.main_thread {
            w.step_to_next(w.now.saturating_add(PATIENCE)).then_some(())?;
        } else {
            guard = ENDED.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Gives a thread whose call ended the time to tell packetdrill, as it has on a machine where time passes by itself.
/// At most `SETTLE_MS` for each of the two steps: then packetdrill waits itself.
pub fn settle() {
    const SETTLE_MS: u32 = 200;
    let mut was_unsettled = false;
    for _ in 0..SETTLE_MS * 10 {
        match lock().as_ref().map(World::unsettled) {
            Some(true) => was_unsettled = true,
            _ => break,
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    if was_unsettled {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `--so_flags` says: `local_ip=A,remote_ip=B,mtu=N`.
#[derive(Clone, Copy)]
pub struct Flags {
    pub local: Ipv4Addr,
    pub mtu: u32,
}

impl Flags {
    pub fn parse(text: &str) -> Flags {
        let mut f = Flags { local: Ipv4Addr::new(192, 168, 0, 1), mtu: 1500 };
        for (key, value) in text.split(',').filter_map(|p| p.split_once('=')) {
            match key {
                "local_ip" => f.local = value.parse().unwrap_or(f.local),
                "mtu" => f.mtu = value.parse().unwrap_or(f.mtu),
                _ => {}
            }
        }
        f
    }
}

impl World {
    pub fn new(flags: Flags, main_thread: i32) -> Option<World> {
        let mut k = Kernel::new(1);
        k.net.env = Env::new(BOOTED_FOR, BOOT_WALL, HZ, 1);
        // As a TUN device without offloads: what goes out is what the wire carries.
        let features = Features { orphan: true, ..Features::NONE };
        let nic = NicConfig { name: "tun0".to_owned(), mac: MAC, mtu: flags.mtu, features, ..NicConfig::default() };
        let (ns, dev) = k.add_host("packetdrill", &nic, (flags.local, 16), None).ok()?;
        k.add_route(ns, Ipv4Addr::UNSPECIFIED, 0, None, Some(dev)).ok()?;
        let process = k.add_process(ns, 0, Caps::ROOT, 1024, "packetdrill");
        let task = k.add_task(process, 0)?;
        Some(World {
            k,
            ns,
            dev,
            now: BOOTED_FOR,
            task,
            sent: VecDeque::new(),
            done: HashMap::new(),
            fds: BTreeMap::new(),
            stamps: HashMap::new(),
            main_thread,
            sysctls: Sysctls::default(),
            commands: Commands::from_env(),
        })
    }

    /// A system call, after what the script's commands changed meanwhile.
    pub fn call(&mut self, call: Call<'_>) -> Submitted {
        self.sysctls.copy(&mut self.k, self.ns);
        Commands::run_new(self);
        let r = self.k.call(self.now, self.task, call);
        self.collect();
        Commands::show(self);
        r
    }

    pub fn commands(&mut self) -> &mut Commands {
        &mut self.commands
    }

    /// Microseconds since the epoch. `thread` may be told when its last call ended instead.
    pub fn gettimeofday(&mut self, thread: i32) -> u64 {
        if let Some(at) = self.stamps.remove(&thread) {
            return wall_us(at);
        }
        self.advance(USEC);
        wall_us(self.now)
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&mut self, nanos: u64) {
        let end = self.now.saturating_add(nanos);
        while self.step_to_next(end) {}
        self.now = end;
    }

    /// To the next timer, if there is one before `end`.
    fn step_to_next(&mut self, end: u64) -> bool {
        let Some(at) = self.k.next_deadline().filter(|at| *at <= end) else { return false };
        self.now = at.max(self.now);
        self.k.tick(self.now);
        self.collect();
        true
    }

    /// An IP packet comes in.
    pub fn deliver(&mut self, packet: &[u8]) {
        Commands::run_new(self);
        let mut b = vec![0; ETH_HLEN];
        EthHeader { dst: MAC, src: PEER_MAC, ethertype: ETH_P_IP }.emit(&mut b);
        b.extend_from_slice(packet);
        self.rx(&b);
        self.collect();
        Commands::show(self);
    }

    /// A call ended and its thread did not look at the clock yet.
    pub fn unsettled(&self) -> bool {
        !self.done.is_empty() || !self.stamps.is_empty()
    }

    /// The next packet on the wire and its time, waiting for it; `None` when none will come.
    pub fn next_packet(&mut self) -> Option<(Vec<u8>, u64)> {
        let end = self.now.saturating_add(PATIENCE);
        while self.sent.is_empty() {
            if !self.step_to_next(end) {
                return None;
            }
        }
        self.sent.pop_front().map(|(packet, at)| (packet, wall_us(at)))
    }

    fn rx(&mut self, frame: &[u8]) {
        self.k.rx(self.now, self.dev, Frame::from_bytes(frame, 0));
    }

    fn collect(&mut self) {
        loop {
            while let Some(o) = self.k.pop_output() {
                match o {
                    Output::Frame { frame, .. } => self.on_wire(&frame.to_vec()),
                    Output::Signal { .. } => {}
                    Output::Complete { call, result } => {
                        self.done.insert(call, (result, self.now));
                        ENDED.notify_all();
                    }
                }
            }
            if !self.k.more_work() {
                return;
            }
            self.k.tick(self.now);
        }
    }

    /// Takes a frame off the card: IP packets are for the script, and everybody lives at one address of the link.
    fn on_wire(&mut self, frame: &[u8]) {
        let Ok(eth) = EthHeader::parse(frame) else { return };
        let packet = frame.get(ETH_HLEN..).unwrap_or_default();
        if eth.ethertype == ETH_P_IP {
            self.sent.push_back((packet.to_vec(), self.now));
        } else if eth.ethertype == ETH_P_ARP
            && let Ok(ask) = ArpPacket::parse(packet)
            && ask.op == ARPOP_REQUEST
        {
            let mut b = vec![0; ETH_HLEN + ARP_HLEN];
            EthHeader { dst: MAC, src: PEER_MAC, ethertype: ETH_P_ARP }.emit(&mut b);
            let answer = ArpPacket { op: ARPOP_REPLY, sha: PEER_MAC, spa: ask.tpa, tha: MAC, tpa: ask.spa };
            if let Some(room) = b.get_mut(ETH_HLEN..) {
                answer.emit(room);
            }
            self.rx(&b);
        }
    }
}

fn wall_us(at: u64) -> u64 {
    (BOOT_WALL + at) / USEC
}
