//! What the experiments about cards, interrupts and softirqs share: a receiver whose CPUs take time, at the end of a cable
//! out of which datagrams come as a card's wire would bring them; and what it shows afterwards.
use crate::lab::Lab;
use crate::net::Nic;
use crate::report::Report;
use crate::task::{Shared, Sock, Task, sleep};
use belljar_abi::socket::{SO_BUSY_POLL, SO_PREFER_BUSY_POLL, SOL_SOCKET};
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::Queue;
use belljar_kernel::env::Nanos;
use belljar_kernel::ids::DevId;
use belljar_kernel::net::core::cpu_time::{Costs, Spent};
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::netfilter::words::{NoNames, program_of};
use belljar_link::Conditions;
use belljar_wire::ethernet::{ETH_P_IP, EthHeader};
use belljar_wire::ipv4::{IPPROTO_UDP, Ipv4Header};
use belljar_wire::udp::UdpHeader;
use belljar_wire::{Frame, Mac};
use core::net::Ipv4Addr;
use std::cell::RefCell;
use std::rc::Rc;

/// Where the datagrams go.
const PORT: u16 = 7;
const HEADERS: usize = 42;

/// What a receiver is like.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: &'static str,
    pub cpus: u32,
    pub channels: u32,
    pub ring: u32,
    /// `rps_cpus` of every receive queue.
    pub rps: &'static str,
    pub rx_usecs: u32,
    /// `ethtool -C eth0 adaptive-rx on`.
    pub adaptive: bool,
    /// `gro_flush_timeout` and `napi_defer_hard_irqs`; `threaded`.
    pub defer: (u32, u32),
    pub threaded: bool,
    /// SO_BUSY_POLL of the reader, and SO_PREFER_BUSY_POLL with it.
    pub busy: (i32, bool),
    /// `net.core.netdev_budget` and `_usecs`.
    pub budget: (u32, u32),
    /// The datagrams are read, by a task on the last CPU.
    pub read: bool,
    /// A command about the datagrams: `xdp …` or `iptables …`.
    pub deny: &'static [&'static str],
}

impl Setup {
    pub const PLAIN: Setup = Setup {
        name: "",
        cpus: 1,
        channels: 1,
        ring: 256,
        rps: "",
        rx_usecs: 0,
        adaptive: false,
        defer: (0, 0),
        threaded: false,
        busy: (0, false),
        budget: (300, 8000),
        read: false,
        deny: &[],
    };
}

/// What comes: `burst` datagrams `gap` apart, every `every`, until `until`.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub flows: u16,
    pub burst: u32,
    pub gap: Nanos,
    pub every: Nanos,
    pub until: Nanos,
}

/// A receiver on its way.
#[derive(Clone, Debug)]
pub struct Machine {
    pub host: usize,
    dev: DevId,
    cable: usize,
    sent: Rc<RefCell<u64>>,
    waits: Rc<RefCell<Vec<Nanos>>>,
}

/// What it showed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub sent: u64,
    /// Datagrams that reached the stack, and those that the full ring had no descriptor for.
    pub received: u64,
    pub missed: u64,
    /// Dropped by XDP or by a rule of netfilter.
    pub denied: u64,
    pub interrupts: u64,
    pub squeezed: u64,
    pub ksoftirqd: u64,
    pub softirqs: [u64; 10],
    pub spent: Spent,
    /// BusyPollRxPackets.
    pub polled: u64,
    /// The busiest CPU's time.
    pub busiest: Nanos,
    /// Half of the datagrams were read within this.
    pub median: Nanos,
}

impl Seen {
    pub fn lost(&self) -> f64 {
        self.missed as f64 / self.sent.max(1) as f64
    }
}

/// A receiver, its traffic, and who reads it.
pub fn machine(lab: &mut Lab, seed: u64, n: usize, s: &Setup, t: Traffic) -> Result<Machine, String> {
    let at = move |n2: u8| Ipv4Addr::new(10, 77, n as u8, n2);
    let (far, host) = (lab.host(&format!("wire{n}"), seed), lab.host(&format!("{}{n}", s.name), seed));
    lab.cpus(host, s.cpus, Costs::default());
    let nic = Nic { ring: s.ring, channels: s.channels, ..Nic::default() };
    let cable = lab.wire((far, at(1)), (host, at(2)), 24, nic, Conditions::default(), seed)?;
    let dev = set_up(lab, host, s).map_err(|e| format!("{}: {e}", s.name))?;
    let m = Machine { host, dev, cable, sent: Rc::default(), waits: Rc::default() };
    let world = lab.world.clone();
    let mac = world.borrow().hosts.get(host).and_then(|h| h.kernel.net.devs.get(dev)).map_or(Mac::ZERO, |d| d.mac);
    let reader = lab.task(host, "reader").ok_or("no process")?.on_cpu(s.cpus as usize - 1);
    let waits = m.waits.clone();
    let (read, busy) = (s.read, s.busy);
    lab.spawn_daemon(format!("reader{n}"), async move {
        let _ = receive(reader, read, busy, &waits).await;
    });
    let sent = m.sent.clone();
    lab.spawn(format!("wire{n}"), async move {
        // Whoever reads is there first.
        sleep(&world, 1_000_000).await;
        arrive(&world, cable, (mac, at(1), at(2)), t, &sent).await;
    });
    Ok(m)
}

fn set_up(lab: &Lab, host: usize, s: &Setup) -> Result<DevId, Errno> {
    let mut w = lab.world.borrow_mut();
    let h = w.hosts.get_mut(host).ok_or(Errno::ESRCH)?;
    let dev = h.kernel.net.dev_by_name(h.ns, "eth0").ok_or(Errno::ENODEV)?;
    coalesce(&mut h.kernel, dev, s.rx_usecs)?;
    if s.adaptive {
        adapt(&mut h.kernel, dev, s.rx_usecs)?;
    }
    h.kernel.set_napi_attr(dev, "gro_flush_timeout", &s.defer.0.to_string())?;
    h.kernel.set_napi_attr(dev, "napi_defer_hard_irqs", &s.defer.1.to_string())?;
    h.kernel.set_napi_attr(dev, "threaded", if s.threaded { "1" } else { "0" })?;
    for queue in (0..s.channels as usize).filter(|_| !s.rps.is_empty()) {
        h.kernel.set_rps_cpus(dev, queue, s.rps)?;
    }
    let done = match s.deny {
        ["xdp", words @ ..] => Some(h.kernel.xdp_words(h.ns, words)),
        [program, args @ ..] => program_of(&mut h.kernel, h.ns, program, args, "", &NoNames),
        [] => None,
    };
    if done.is_some_and(|o| o.code != 0) {
        return Err(Errno::EINVAL);
    }
    h.kernel.sysctl_set(h.ns, "net.core.netdev_budget", &s.budget.0.to_string())?;
    h.kernel.sysctl_set(h.ns, "net.core.netdev_budget_usecs", &s.budget.1.to_string())?;
    Ok(dev)
}

/// As `ethtool -C eth0 rx-usecs N` does.
pub fn coalesce(k: &mut Kernel, dev: DevId, usecs: u32) -> Result<(), Errno> {
    let mut words = [0u32; 23];
    (words[0], words[1]) = (belljar_abi::ethtool::ETHTOOL_SCOALESCE, usecs);
    let request: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    k.ethtool(dev, &request).map(drop)
}

/// As `ethtool -C eth0 adaptive-rx on` does.
fn adapt(k: &mut Kernel, dev: DevId, usecs: u32) -> Result<(), Errno> {
    let mut words = [0u32; 23];
    (words[0], words[1], words[10]) = (belljar_abi::ethtool::ETHTOOL_SCOALESCE, usecs, 1);
    let request: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    k.ethtool(dev, &request).map(drop)
}

async fn arrive(world: &Shared, cable: usize, to: (Mac, Ipv4Addr, Ipv4Addr), t: Traffic, sent: &Rc<RefCell<u64>>) {
    let mut n = 0u64;
    let mut next = world.borrow().now;
    while next < t.until {
        for k in 0..u64::from(t.burst) {
            if k > 0 && t.gap > 0 {
                sleep(world, t.gap).await;
            }
            let mut w = world.borrow_mut();
            let frame = datagram(to, 1024 + (n % u64::from(t.flows)) as u16, w.now);
            w.inject(cable, 1, frame);
            n += 1;
        }
        *sent.borrow_mut() = n;
        next += t.every;
        let now = world.borrow().now;
        sleep(world, next.saturating_sub(now)).await;
    }
}

/// It carries the time at which it came.
fn datagram((mac, from, to): (Mac, Ipv4Addr, Ipv4Addr), port: u16, now: Nanos) -> Frame {
    let payload = now.to_be_bytes();
    let mut b = [0; HEADERS + 8];
    let len = 8 + payload.len();
    EthHeader { dst: mac, src: Mac([2, 0, 10, 77, 0, 1]), ethertype: ETH_P_IP }.emit(&mut b);
    let ip =
        Ipv4Header { total_len: (20 + len) as u16, src: from, dst: to, proto: IPPROTO_UDP, ..Ipv4Header::default() };
    ip.emit(&mut b[14..]);
    UdpHeader { src_port: port, dst_port: PORT, len: len as u16, csum: 0 }.emit(&mut b[34..]);
    b[HEADERS..].copy_from_slice(&payload);
    Frame::from_bytes(&b, 0)
}

async fn receive(
    task: Task,
    read: bool,
    (busy, prefer): (i32, bool),
    waits: &Rc<RefCell<Vec<Nanos>>>,
) -> Result<(), Errno> {
    let here = SockAddr::V4(Ipv4Addr::UNSPECIFIED, PORT);
    let sock = task.udp(&here).await?;
    sock.bind(here).await?;
    if busy > 0 {
        sock.set_int(SOL_SOCKET, SO_BUSY_POLL, busy).await?;
        sock.set_int(SOL_SOCKET, SO_PREFER_BUSY_POLL, prefer.into()).await?;
    }
    if !read {
        return std::future::pending().await;
    }
    loop {
        let r = Sock::received(sock.receiving(100, 0).await)?;
        task.work(0).await;
        if let Some(then) = r.segs.to_vec().first_chunk::<8>() {
            waits.borrow_mut().push(task.now().saturating_sub(Nanos::from_be_bytes(*then)));
        }
    }
}

/// What a receiver shows in the end.
pub fn seen(lab: &Lab, m: &Machine) -> Seen {
    let w = lab.world.borrow();
    let mut out = Seen { sent: *m.sent.borrow(), ..Seen::default() };
    let Some(k) = w.hosts.get(m.host).map(|h| &h.kernel) else { return out };
    let Some(d) = k.net.devs.get(m.dev) else { return out };
    let by = |r: &(DropReason, u64)| matches!(r.0, DropReason::Xdp | DropReason::NetfilterDrop);
    out.denied = k.net.pool.drops().filter(by).map(|r| r.1).sum();
    out.polled = k.net.ns.get(d.ns).map_or(0, |n| n.mib.get(Mib::TcpExtBusyPollRxPackets));
    (out.received, out.missed) = (d.stats.rx_packets, d.stats.rx_missed);
    let queues: &[Queue] = d.nic().map_or(&[], |n| &n.queues);
    out.interrupts = queues.iter().map(|q| q.irq.rx_count).sum();
    for (n, c) in k.net.cpus.iter().enumerate() {
        out.squeezed += c.stat.time_squeeze;
        out.ksoftirqd += c.ksoftirqd_runs;
        out.softirqs.iter_mut().zip(c.softirqs).for_each(|(a, b)| *a += b);
        let spent = k.cpu_spent(n).unwrap_or_default();
        out.spent.hard_irq += spent.hard_irq;
        out.spent.softirq += spent.softirq;
        out.spent.ksoftirqd += spent.ksoftirqd;
        out.spent.tasks += spent.tasks;
        out.spent.napi += spent.napi;
        out.busiest = out.busiest.max(spent.all());
    }
    let mut waits = m.waits.borrow_mut();
    waits.sort_unstable();
    out.median = waits.get(waits.len() / 2).copied().unwrap_or(0);
    drop(w);
    let _ = m.cable;
    out
}

/// An expectation with its figures.
pub fn expect(lab: &Lab, ok: bool, what: impl FnOnce() -> String) {
    Lab::expect(&lab.world, ok, what);
}

pub fn line(report: &mut Report, text: String) {
    report.text.push(text);
}

/// Offloads with one switch turned.
pub fn features(gro: bool, tso: bool) -> Features {
    let mut f = Features { gro, ..Features::ALL };
    f.set_segmentation(tso);
    f
}
