//! Building a lab: hosts, NICs, cables, addresses, routes; and what a lab reads at the end.
use crate::lab::Lab;
use crate::settings::Settings;
use crate::task::{Shared, Task};
use crate::world::Host;
use belljar_abi::Errno;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::{DevId, TaskId};
use belljar_kernel::net::core::cpu_time::Costs;
use belljar_kernel::net::core::dev::{Features, NetDevice};
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::process::Caps;
use belljar_link::{Conditions, Stats};
use belljar_wire::Mac;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt::Write;

/// What both NICs of a cable are like.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    pub mtu: u32,
    /// Descriptors of each ring.
    pub ring: u32,
    pub channels: u32,
    /// Mbit/s of the card itself; 0: as fast as the cable.
    pub speed: u32,
    pub features: Features,
}

impl Default for Nic {
    fn default() -> Nic {
        Nic { mtu: 1500, ring: 256, channels: 1, speed: 0, features: Features::ALL }
    }
}

/// Descriptors of a process.
const NOFILE: u32 = 1024;

/// The prefix of IPv6 addresses on cables.
pub const PREFIX6: u8 = 64;

/// One end of a cable: a host, and the addresses of its NIC there.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub host: usize,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

impl From<(usize, Ipv4Addr)> for End {
    fn from((host, addr): (usize, Ipv4Addr)) -> End {
        End { host, v4: Some(addr), v6: None }
    }
}

impl From<(usize, Ipv6Addr)> for End {
    fn from((host, addr): (usize, Ipv6Addr)) -> End {
        End { host, v4: None, v6: Some(addr) }
    }
}

impl From<(usize, IpAddr)> for End {
    fn from((host, addr): (usize, IpAddr)) -> End {
        match addr {
            IpAddr::V4(a) => (host, a).into(),
            IpAddr::V6(a) => (host, a).into(),
        }
    }
}

impl End {
    /// Made from the last bytes of an address, so that a trace can be read.
    fn mac(&self) -> Mac {
        let id = match (self.v4, self.v6) {
            (Some(a), _) => a.octets(),
            (_, Some(a)) => (a.to_bits() as u32 | (a.segments()[1] as u32) << 8).to_be_bytes(),
            _ => [0; 4],
        };
        Mac([2, 0, 10, id[1], id[2], id[3]])
    }
}

impl Lab {
    /// A machine with lo up and nothing else.
    pub fn host(&mut self, name: &str, seed: u64) -> usize {
        let mut kernel = Kernel::new(seed);
        let ns = kernel.net.add_ns(name);
        if let Some(lo) = kernel.net.ns.get(ns).map(|n| n.lo) {
            let _ = kernel.net.set_link(lo, true);
        }
        self.world.borrow_mut().add_host(name, kernel, ns)
    }

    /// Gives a machine so many CPUs, whose work takes time; before there are cables.
    pub fn cpus(&mut self, host: usize, cpus: u32, costs: Costs) {
        if let Some(h) = self.world.borrow_mut().hosts.get_mut(host) {
            h.kernel.set_cpus(cpus);
            h.kernel.model_cpus(costs);
        }
    }

    /// Turns IPv6 on, as a Linux host has it from the beginning; before there are cables.
    pub fn enable_ipv6(&mut self, host: usize) {
        if let Some(h) = self.world.borrow_mut().hosts.get_mut(host) {
            h.kernel.net.enable_ipv6(h.ns);
        }
    }

    /// A cable between two hosts, with a NIC of the given addresses at each end; `prefix` is that of IPv4.
    pub fn wire(
        &mut self,
        a: impl Into<End>,
        b: impl Into<End>,
        prefix: u8,
        nic: Nic,
        conditions: Conditions,
        seed: u64,
    ) -> Result<usize, String> {
        self.segment(&[a.into(), b.into()], prefix, nic, conditions, seed)
    }

    /// A cable with as many ends as it may be: everybody hears everybody.
    pub fn segment(
        &mut self,
        ends: &[End],
        prefix: u8,
        nic: Nic,
        conditions: Conditions,
        seed: u64,
    ) -> Result<usize, String> {
        let mut w = self.world.borrow_mut();
        let mut plugs: Vec<(usize, DevId)> = Vec::new();
        for end in ends {
            let h = w.hosts.get_mut(end.host).ok_or("no such host")?;
            let config = NicConfig {
                name: format!("eth{}", h.nics.len() + plugs.iter().filter(|e| e.0 == end.host).count()),
                mac: end.mac(),
                mtu: nic.mtu,
                rx_ring: nic.ring,
                tx_ring: nic.ring,
                channels: nic.channels,
                speed: nic.speed,
                features: nic.features,
            };
            let dev = h.kernel.add_nic(h.ns, &config).map_err(|e| e.to_string())?;
            h.kernel.net.set_link(dev, true).map_err(|e| e.to_string())?;
            if let Some(a) = end.v4 {
                h.kernel.add_address(dev, a, prefix).map_err(|e| e.to_string())?;
            }
            if let Some(a) = end.v6 {
                h.kernel.net.add_address6(dev, a, PREFIX6, true).map_err(|e| format!("{a}: {e}"))?;
            }
            plugs.push((end.host, dev));
        }
        Ok(w.plug(plugs, seed, conditions))
    }

    /// Makes a host a switch: its NICs without addresses become ports of a bridge, `br0`, which is up. For hosts that are to
    /// share a network without sharing a cable.
    pub fn bridge(&mut self, host: usize) -> Result<DevId, String> {
        let mut w = self.world.borrow_mut();
        let h = w.hosts.get_mut(host).ok_or("no such host")?;
        let net = &mut h.kernel.net;
        let br = match net.dev_by_name(h.ns, "br0") {
            Some(br) => br,
            None => net.add_bridge(h.ns, "br0").map_err(|e| e.to_string())?,
        };
        let bare =
            |d: &NetDevice| d.nic().is_some() && d.master.is_none() && d.addrs.is_empty() && d.inet6.addrs.is_empty();
        let ports: Vec<DevId> = net.ns_devs(h.ns).filter(|id| net.devs.get(*id).is_some_and(bare)).collect();
        for (n, port) in ports.into_iter().enumerate() {
            // Without an address a NIC has none to make its own of.
            let mac = Mac([2, 0, 11, host as u8, (n >> 8) as u8, n as u8]);
            net.set_mac(port, mac).and_then(|()| net.set_master(port, Some(br))).map_err(|e| format!("br0: {e}"))?;
        }
        net.set_link(br, true).map_err(|e| e.to_string())?;
        Ok(br)
    }

    /// A route through a neighbour.
    pub fn route(&mut self, host: usize, to: IpAddr, prefix: u8, via: IpAddr) -> Result<(), String> {
        let mut w = self.world.borrow_mut();
        let h = w.hosts.get_mut(host).ok_or("no such host")?;
        h.add_route(to, prefix, via).map_err(|e| format!("{}: route via {via}: {e}", h.name))
    }

    /// The sysctls among the settings, on every host.
    pub fn apply_sysctls(&mut self, s: &Settings) -> Result<(), String> {
        let mut w = self.world.borrow_mut();
        for (key, value) in s.sysctls() {
            for host in 0..w.hosts.len() {
                w.sysctl(host, key, value).map_err(|e| format!("sysctl {key}={value}: {e}"))?;
            }
        }
        Ok(())
    }

    pub fn counter(&self, host: usize, counter: Mib) -> u64 {
        let w = self.world.borrow();
        w.hosts.get(host).and_then(|h| h.kernel.net.ns.get(h.ns)).map_or(0, |ns| ns.mib.get(counter))
    }

    /// What a cable did to its packets, both ways.
    pub fn link_stats(&self, cable: usize) -> (Stats, Stats) {
        let w = self.world.borrow();
        w.cables.get(cable).map_or_else(Default::default, |c| (c.link.ab.stats(), c.link.ba.stats()))
    }

    /// Every process ends, as by SIGKILL.
    pub fn exit_all(&mut self) {
        let hosts = self.world.borrow().hosts.len();
        for host in 0..hosts {
            self.world.borrow_mut().exit_all(host);
        }
    }

    /// What kernels still hold of sockets, packets and calls; empty when all of it is gone.
    pub fn leftovers(&self) -> String {
        let w = self.world.borrow();
        let mut out = String::new();
        for h in &w.hosts {
            let k = &h.kernel;
            let Some(ns) = k.net.ns.get(h.ns) else { continue };
            let held = k.net.pool.skbs_born - k.net.pool.skbs_ended;
            for (what, n) in [
                ("tcp sockets", k.socks.tcp.len() as u64),
                ("udp sockets", k.socks.udp.len() as u64),
                ("requests", ns.tcp.reqs.len() as u64),
                ("TIME_WAIT", ns.tcp.tws.len() as u64),
                ("raw sockets", k.socks.raw.len() as u64),
                ("fragment queues", (ns.frags.len() + ns.v6.frags.len()) as u64),
                ("files", k.files.files.len() as u64),
                ("calls", k.tasks.calls.len() as u64),
                ("wait entries", k.tasks.waits.len() as u64),
                ("packets", held),
                ("tcp memory", k.net.usage.tcp_bytes),
                ("udp memory", k.net.usage.udp_bytes),
                ("orphans", u64::from(k.net.usage.tcp_orphans)),
            ] {
                if n != 0 {
                    let _ = write!(out, " {}: {n} {what};", h.name);
                }
            }
            for (id, sk) in k.socks.tcp.iter() {
                let (timer, at) = (sk.write_timer_kind, sk.write_timer.deadline());
                let _ = write!(out, " {id:?} {} {}-{}", sk.state.name(), sk.sk.num, sk.sk.dport);
                let _ = write!(out, " unacked {} {timer:?} {at:?}", sk.snd.write_seq.wrapping_sub(sk.snd.una));
                let _ = write!(out, " keepalive {:?};", sk.keepalive_timer.deadline());
            }
        }
        out.trim_start().trim_end_matches(';').to_owned()
    }
}

impl Host {
    pub(crate) fn add_route(&mut self, to: IpAddr, prefix: u8, via: IpAddr) -> Result<(), Errno> {
        match (to, via) {
            (IpAddr::V4(to), IpAddr::V4(via)) => self.kernel.add_route(self.ns, to, prefix, Some(via), None),
            (IpAddr::V6(to), IpAddr::V6(via)) => {
                self.kernel.net.add_route6(self.ns, to, prefix, Route6::unicast(Some(via), None))
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }
}

impl Task {
    /// A thread with a process of its own.
    pub(crate) fn spawn(world: &Shared, host: usize, name: &str) -> Option<Task> {
        let mut w = world.borrow_mut();
        let h = w.hosts.get_mut(host)?;
        let process = h.kernel.add_process(h.ns, 0, Caps::ROOT, NOFILE, name);
        let id = h.kernel.add_task(process, 0)?;
        Some(Task { world: world.clone(), host, id })
    }

    pub(crate) fn of(world: &Shared, host: usize, id: TaskId) -> Task {
        Task { world: world.clone(), host, id }
    }

    /// Another thread of the same process.
    pub fn thread(&self) -> Option<Task> {
        let mut w = self.world.borrow_mut();
        let k = &mut w.hosts.get_mut(self.host)?.kernel;
        let process = k.tasks.tasks.get(self.id)?.process;
        let id = k.add_task(process, 0)?;
        Some(Task { world: self.world.clone(), host: self.host, id })
    }
}
