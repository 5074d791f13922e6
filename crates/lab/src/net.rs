//! Building a lab: hosts, NICs, cables, addresses, routes; and what a lab reads at the end.
use crate::lab::Lab;
use crate::settings::Settings;
use crate::task::{Shared, Task};
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::process::Caps;
use belljar_link::{Conditions, Stats};
use belljar_wire::Mac;
use core::net::Ipv4Addr;
use std::fmt::Write;

/// What both NICs of a cable are like.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    pub mtu: u32,
    /// Descriptors of each ring.
    pub ring: u32,
    pub features: Features,
}

impl Default for Nic {
    fn default() -> Nic {
        Nic { mtu: 1500, ring: 256, features: Features::ALL }
    }
}

/// Descriptors of a process.
const NOFILE: u32 = 1024;

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

    /// A cable between two hosts, with a NIC of the given address at each end.
    pub fn wire(
        &mut self,
        a: (usize, Ipv4Addr),
        b: (usize, Ipv4Addr),
        prefix: u8,
        nic: Nic,
        conditions: Conditions,
        seed: u64,
    ) -> Result<usize, String> {
        let mut w = self.world.borrow_mut();
        let mut ends = Vec::new();
        for (host, addr) in [a, b] {
            let h = w.hosts.get_mut(host).ok_or("no such host")?;
            let [_, x, y, z] = addr.octets();
            let config = NicConfig {
                name: format!("eth{}", h.nics.len() + ends.iter().filter(|e: &&(usize, _)| e.0 == host).count()),
                mac: Mac([2, 0, 10, x, y, z]),
                mtu: nic.mtu,
                rx_ring: nic.ring,
                tx_ring: nic.ring,
                features: nic.features,
            };
            let dev = h.kernel.add_nic(h.ns, &config).map_err(|e| e.to_string())?;
            h.kernel.net.set_link(dev, true).map_err(|e| e.to_string())?;
            h.kernel.add_address(dev, addr, prefix).map_err(|e| e.to_string())?;
            ends.push((host, dev));
        }
        match ends[..] {
            [a, b] => Ok(w.plug(a, b, seed, conditions)),
            _ => Err("two ends".into()),
        }
    }

    pub fn route(&mut self, host: usize, to: Ipv4Addr, prefix: u8, via: Ipv4Addr) -> Result<(), String> {
        let mut w = self.world.borrow_mut();
        let h = w.hosts.get_mut(host).ok_or("no such host")?;
        let name = h.name.clone();
        h.kernel.add_route(h.ns, to, prefix, Some(via), None).map_err(|e| format!("{name}: route via {via}: {e}"))
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
                ("fragment queues", ns.frags.len() as u64),
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

impl Task {
    /// A thread with a process of its own.
    pub(crate) fn spawn(world: &Shared, host: usize, name: &str) -> Option<Task> {
        let mut w = world.borrow_mut();
        let h = w.hosts.get_mut(host)?;
        let process = h.kernel.add_process(h.ns, 0, Caps::ROOT, NOFILE, name);
        let id = h.kernel.add_task(process, 0)?;
        Some(Task { world: world.clone(), host, id })
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
