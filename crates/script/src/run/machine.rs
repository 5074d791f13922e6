//! [`Machine`]: a kernel with one NIC, the clock, the wire as a script sees it: IP packets in, IP packets out. Who asks for
//! neighbours is answered here, and that is not shown.
use crate::ast::{ArpSpec, Nanos, Settings, V4, Version};
use crate::packet::{L4, Pkt};
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::*;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::task::call::{Call, Submitted, SysResult};
use belljar_kernel::task::process::Caps;
use belljar_kernel::{Kernel, Output};
use belljar_wire::arp::{ARPOP_REPLY, ARPOP_REQUEST, ArpPacket};
use belljar_wire::ethernet::{ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, EthHeader, Mac};
use belljar_wire::icmpv6::*;
use belljar_wire::{Frame, gso};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// Kernel time at which a script starts: a machine is up a little while before anybody uses it.
pub(super) const BOOT: Nanos = 100_000_000_000;
/// Of eth0 and eth1, and of whoever is behind each.
pub(super) const OWN_MACS: [Mac; 2] = [mac(1), mac(0x11)];
const PEER_MACS: [Mac; 2] = [mac(2), mac(0x12)];

/// Timers of a machine that comes up.
const MAX_BOOT: usize = 1000;

const fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

pub(super) const HOST_MAC: Mac = OWN_MACS[0];
pub(super) const PEER_MAC: Mac = PEER_MACS[0];
/// Steps of one script; a script that needs more is going round in circles.
const MAX_STEPS: u64 = 500_000;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    pub k: Kernel,
    pub ns: NsId,
    pub dev: DevId,
    /// eth0, and eth1 where there is one.
    devs: Vec<DevId>,
    /// ARP is shown and sent by the script.
    arp_lines: bool,
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
            mac: OWN_MACS[0],
            mtu: s.mtu,
            features: Features { orphan: s.tun, ..Features::NONE },
            ..NicConfig::default()
        };
        let (local, prefix, gateway) = match (s.local, s.gateway) {
            (IpAddr::V4(local), IpAddr::V4(gateway)) => (local, s.prefix, gateway),
            _ => (V4.0, 24, V4.2),
        };
        let made = k.add_host("host", &nic, (local, prefix), Some(gateway));
        let (ns, dev) = made.map_err(|e| format!("the host cannot be made of these settings: {e}"))?;
        let mut devs = vec![dev];
        if let Some((addr, len)) = s.second {
            let nic = NicConfig { name: "eth1".into(), mac: OWN_MACS[1], ..nic };
            let made = k.add_nic(ns, &nic).and_then(|d| k.set_link(d, true).map(|()| d));
            let made = made.and_then(|d| match addr {
                IpAddr::V4(addr) => k.add_address(d, addr, len).map(|()| d),
                IpAddr::V6(_) => Ok(d),
            });
            devs.push(made.map_err(|e| format!("eth1 cannot be made: {e}"))?);
        }
        let (uid, caps) = if s.root { (0, Caps::ROOT) } else { (1000, Caps::NONE) };
        let process = k.add_process(ns, uid, caps, s.nofile, "script");
        let task = k.add_task(process, 0).ok_or("no task")?;
        let (now, arp) = (BOOT, s.arp);
        let (out, done, idle) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut m = Machine {
            k,
            ns,
            dev,
            devs,
            arp_lines: s.arp_lines,
            process,
            task,
            idle,
            now,
            arp,
            out,
            done,
            steps: 0,
            broken: None,
            sigurg: 0,
        };
        if s.version == Version::V6 {
            m.turn_on_ipv6(s)?;
        }
        if s.arp {
            m.answer_arp(0, ARPOP_REQUEST, gateway, local);
            m.answer_arp(0, ARPOP_REPLY, gateway, local);
        }
        Ok(m)
    }

    /// What a host says by itself when it comes up is over before the script begins; duplicate detection and questions for
    /// routers are for scripts to turn on.
    fn turn_on_ipv6(&mut self, s: &Settings) -> Result<(), String> {
        let (k, ns) = (&mut self.k, self.ns);
        let mut all = vec![("eth0", s.local, s.prefix)];
        all.extend(s.second.filter(|(a, _)| a.is_ipv6()).map(|(a, len)| ("eth1", a, len)));
        let devices = ["default", "eth0"].into_iter().chain(s.second.map(|_| "eth1"));
        for (conf, key) in devices.flat_map(|d| [(d, "dad_transmits"), (d, "router_solicitations")]) {
            k.sysctl_set(ns, &format!("net.ipv6.conf.{conf}.{key}"), "0").map_err(|e| format!("{key}: {e}"))?;
        }
        k.net.enable_ipv6(ns);
        let mut lines: Vec<String> = all.iter().map(|(dev, a, len)| format!("addr add {a}/{len} dev {dev}")).collect();
        lines.push(format!("route add default via {} dev eth0", s.gateway));
        let ip = |k: &mut Kernel, l: &str| k.ip(ns, l).map_err(|e| format!("ip {l}: {e}"));
        lines.iter().try_for_each(|l| ip(k, l))?;
        for _ in 0..MAX_BOOT {
            let Some(at) = k.next_deadline().filter(|at| *at <= BOOT) else { break };
            k.tick(at);
            while k.pop_output().is_some() {}
        }
        k.tick(BOOT);
        while k.pop_output().is_some() {}
        if !s.arp {
            return Ok(());
        }
        ip(k, &format!("neigh add {} lladdr {PEER_MAC} nud reachable dev eth0", s.gateway))
    }

    /// Script time.
    pub fn now(&self) -> Nanos {
        self.now - BOOT
    }

    pub fn kernel_now(&self) -> Nanos {
        self.now
    }

    fn answer_arp(&mut self, port: u8, op: u16, who: Ipv4Addr, asker: Ipv4Addr) {
        let (own, peer) = (OWN_MACS[usize::from(port & 1)], PEER_MACS[usize::from(port & 1)]);
        self.arp_in(port, op, (peer, who), (own, asker), own);
    }

    fn arp_in(&mut self, port: u8, op: u16, (sha, spa): (Mac, Ipv4Addr), (tha, tpa): (Mac, Ipv4Addr), dst: Mac) {
        let mut b = vec![0; 42];
        EthHeader { dst, src: sha, ethertype: ETH_P_ARP }.emit(&mut b);
        if let Some(body) = b.get_mut(14..) {
            ArpPacket { op, sha, spa, tha, tpa }.emit(body);
        }
        self.frame_in(port, &b);
    }

    /// A packet of a script's own.
    pub fn arp(&mut self, port: u8, a: &ArpSpec) {
        let own = OWN_MACS[usize::from(port & 1)];
        let sha = a.mac.map_or(PEER_MACS[usize::from(port & 1)], mac);
        let to_all = a.broadcast.unwrap_or(a.request);
        let (op, tha) = if a.request { (ARPOP_REQUEST, Mac::ZERO) } else { (ARPOP_REPLY, own) };
        self.arp_in(port, op, (sha, a.sender), (tha, a.target), if to_all { Mac::BROADCAST } else { own });
    }

    fn frame_in(&mut self, port: u8, bytes: &[u8]) {
        if let Some(dev) = self.devs.get(usize::from(port)) {
            self.k.rx(self.now, *dev, Frame::from_bytes(bytes, 0));
            self.collect();
        }
    }

    /// An IP packet from the wire, to the address that goes with its destination, or to everybody on the link.
    pub fn inject(&mut self, port: u8, packet: &[u8], broadcast: bool) {
        let own = OWN_MACS[usize::from(port & 1)];
        let six = packet.first().is_some_and(|v| v >> 4 == 6);
        let dst = match (packet.get(16..20), packet.get(24..40)) {
            _ if broadcast => Mac::BROADCAST,
            (_, Some(&[0xff, .., w, x, y, z])) if six => Mac([0x33, 0x33, w, x, y, z]),
            _ if six => own,
            (Some([255, 255, 255, 255]), _) => Mac::BROADCAST,
            (Some(&[224..=239, x, y, z]), _) => Mac([1, 0, 0x5e, x & 0x7f, y, z]),
            _ => own,
        };
        let ethertype = if six { ETH_P_IPV6 } else { ETH_P_IP };
        let mut b = vec![0; 14];
        EthHeader { dst, src: PEER_MACS[usize::from(port & 1)], ethertype }.emit(&mut b);
        b.extend_from_slice(packet);
        self.frame_in(port, &b);
    }

    /// What the `ip` command is told.
    pub fn ip(&mut self, line: &str) -> Result<(), String> {
        let done = self.k.ip(self.ns, line).map_err(|e| e.to_string());
        // What it sent leaves with the next step.
        self.k.tick(self.now);
        self.collect();
        done
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
                    Output::Frame { dev, frame } => self.sent(dev, frame),
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

    fn sent(&mut self, dev: DevId, frame: Frame) {
        if let Err(e) = gso::verify(&frame) {
            self.broken.get_or_insert_with(|| format!("the kernel sent a packet that is malformed: {e:?}"));
        }
        let port = self.devs.iter().position(|d| *d == dev).unwrap_or(0) as u8;
        let b = frame.to_vec();
        let Ok(eth) = EthHeader::parse(&b) else { return };
        let body = b.get(14..).unwrap_or(&[]);
        if eth.ethertype == ETH_P_ARP {
            let Ok(a) = ArpPacket::parse(body) else { return };
            if self.arp_lines {
                let (request, broadcast) = (a.op == ARPOP_REQUEST, eth.dst.is_broadcast());
                let l4 = L4::Arp { request, mac: a.sha.0[5], broadcast };
                let (src, dst) = (a.spa.into(), a.tpa.into());
                let (options, ext) = (Vec::new(), Vec::new());
                let p = Pkt { dev: port, id: 0, options, ext, flow: 0, src, dst, tos: 0, ttl: 0, df: false, l4 };
                self.out.push_back((self.now(), p));
            } else if self.arp && a.op == ARPOP_REQUEST {
                self.answer_arp(port, ARPOP_REPLY, a.tpa, a.spa);
            }
        } else if let Some(p) = Pkt::read(body) {
            match &p.l4 {
                L4::Nd(message) if !self.arp_lines => self.answer_ns(port, p.src, message),
                _ => self.out.push_back((self.now(), Pkt { dev: port, ..p })),
            }
        }
    }

    /// A neighbour solicitation, unless it is for duplicate detection.
    fn answer_ns(&mut self, port: u8, asker: IpAddr, message: &[u8]) {
        let Some(target) = crate::parse::addr_at(message, 8) else { return };
        if !self.arp || message.first() != Some(&NDISC_NEIGHBOUR_SOLICITATION) || asker.is_unspecified() {
            return;
        }
        let mut m = vec![NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, NA_SOLICITED | NA_OVERRIDE, 0, 0, 0];
        m.extend(target.octets());
        m.extend(nd_mac_option(ND_OPT_TARGET_LL_ADDR, PEER_MACS[usize::from(port & 1)]));
        let (options, ext, l4) = (Vec::new(), Vec::new(), L4::Nd(m));
        let (id, flow, src) = (0, 0, IpAddr::V6(target));
        let p = Pkt { dev: port, id, options, ext, flow, src, dst: asker, tos: 0, ttl: 255, df: false, l4 };
        if let Some(b) = p.bytes(false) {
            self.inject(port, &b, false);
        }
    }
}
