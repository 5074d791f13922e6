//! Making a machine: namespace, devices, addresses, settings; frames and time in, frames out.
use super::{Machine, MachineConfig};
use belljar_abi as abi;
use belljar_kernel::drivers::nic::{MAX_CHANNELS, MAX_RING, MIN_RING, NicConfig, rx_frame};
use belljar_kernel::ids::{DevId, NsId};
use belljar_kernel::kernel::{Kernel, Output};
use belljar_kernel::net::ipv6::fib::Route6;
use belljar_kernel::net::sysctl;
use belljar_kernel::task::call::{Call, Fd, Ret, Submitted};
use belljar_kernel::task::process::Caps;
use belljar_wire::{Frame, Mac};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Descriptors the jar's process may have in a kernel: the programs' own limits are the host's business.
const NOFILE: u32 = 1 << 20;

/// What programs may do: they are root as in a user namespace, where limits of the machine (`fs.file-max`) are theirs too.
const IN_A_JAR: Caps = Caps { sys_admin: false, ..Caps::ROOT };

impl Machine {
    /// `Err` is one sentence about a setting.
    pub fn new(c: &MachineConfig) -> Result<Machine, String> {
        let mut k = Kernel::new(c.seed);
        k.set_cpus(c.cpus);
        if let Some(bytes) = c.mem {
            k.set_memory(bytes);
        }
        k.net.env.advance(c.now);
        k.net.env.wall_offset = c.wall.saturating_sub(c.now);
        let mut nic =
            NicConfig { mtu: c.mtu, mac: mac(c.addr.map_or(Ipv4Addr::UNSPECIFIED, |a| a.0)), ..NicConfig::default() };
        nic_settings(&mut nic, &c.nic)?;
        let (ns, dev) = match c.addr {
            Some(addr) => {
                let (ns, dev) = k
                    .add_host(&c.name, &nic, addr, c.via)
                    .map_err(|e| format!("cannot set up the network of '{}': {e}", c.name))?;
                (ns, Some(dev))
            }
            None => {
                let ns = k.net.add_ns(&c.name);
                if let Some(lo) = k.net.ns.get(ns).map(|n| n.lo) {
                    k.set_link(lo, true).map_err(|e| format!("lo: {e}"))?;
                }
                (ns, None)
            }
        };
        if c.ipv6 {
            ipv6(&mut k, ns, dev, c)?;
        }
        // As in a rootless container: ping without a privilege for the group that is root in there.
        set(&mut k, ns, "net.ipv4.ping_group_range", "0 0")?;
        for (key, value) in &c.sysctls {
            set(&mut k, ns, key, value)?;
        }
        let caps = if c.drop_caps { Caps::NONE } else { IN_A_JAR };
        let uid = if c.drop_caps { 1000 } else { 0 };
        let process = k.add_process(ns, uid, caps, NOFILE, &c.name);
        let task = k.add_task(process, 0).ok_or("no task")?;
        let epfd = match k.call(c.now, task, Call::EpollCreate { flags: 0 }) {
            Submitted::Done(Ok(Ret::Fd(fd))) => fd,
            other => return Err(format!("epoll: {other:?}")),
        };
        let nic = dev;
        Ok(Machine {
            name: c.name.clone(),
            k,
            ns,
            home: ns,
            names: BTreeMap::new(),
            task,
            nic,
            plugs: Vec::new(),
            booted: c.now,
            epfd,
            fed: true,
        })
    }

    /// What its card is connected to has no hardware addresses.
    pub fn ask_nobody(&mut self) {
        if let Some(d) = self.nic.and_then(|nic| self.k.net.devs.get_mut(nic)) {
            d.iff_noarp = true;
        }
    }

    /// Whose rights the next calls have.
    pub fn assume(&mut self, uid: u32, gid: u32, privileged: bool) {
        let process = self.k.tasks.tasks.get(self.task).map(|t| t.process);
        if let Some(p) = process.and_then(|p| self.k.tasks.procs.get_mut(p)) {
            (p.uid, p.gid, p.caps) = (uid, gid, if privileged { IN_A_JAR } else { Caps::NONE });
        }
    }

    pub fn empty_kernel() -> Kernel {
        Kernel::new(0)
    }

    pub fn sysctl_set(&mut self, key: &str, value: &str) -> Result<(), String> {
        set(&mut self.k, self.ns, key, value)
    }

    /// A second address of the NIC.
    pub fn add_nic_address(&mut self, addr: Ipv4Addr, prefix: u8) {
        if let Some(nic) = self.nic {
            let _ = self.k.add_address(nic, addr, prefix);
        }
    }

    /// The same of IPv6.
    pub fn add_nic_address6(&mut self, addr: Ipv6Addr, prefix: u8) {
        if let Some(nic) = self.nic {
            let _ = self.k.net.add_address6(nic, addr, prefix, true);
        }
    }

    /// An address of lo, so that what is sent to it is accepted.
    pub fn add_address(&mut self, addr: IpAddr) {
        let Some(lo) = self.k.net.ns.get(self.ns).map(|n| n.lo) else { return };
        let _ = match addr {
            IpAddr::V4(addr) => self.k.add_address(lo, addr, 32),
            IpAddr::V6(addr) => self.k.net.add_address6(lo, addr, 128, true),
        };
    }

    /// A frame arrives at the NIC; [`Machine::step`] lets the kernel see to it.
    pub fn frame_in(&mut self, now: u64, frame: Frame) {
        if let Some(nic) = self.nic {
            self.frame_in_at(now, nic, frame);
        }
    }

    /// The same at another card.
    pub fn frame_in_at(&mut self, now: u64, nic: DevId, frame: Frame) {
        self.k.net.env.advance(now);
        rx_frame(&mut self.k.net, nic, frame);
        self.fed = true;
    }

    /// Lets time pass in the kernel where something is due or arrived.
    pub fn step(&mut self, now: u64) {
        if std::mem::take(&mut self.fed) || self.k.next_deadline().is_some_and(|d| d <= now) {
            self.k.tick(now);
        }
    }

    /// The next frame that leaves a NIC, and which.
    pub fn frame_out(&mut self) -> Option<(DevId, Frame)> {
        loop {
            match self.k.pop_output()? {
                Output::Frame { dev, frame } => return Some((dev, frame)),
                // The pair's owner is the host's to signal.
                Output::Signal { .. } => {}
                // Only closes with SO_LINGER were parked, and nobody waits for those.
                Output::Complete { .. } => {}
            }
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        self.k.next_deadline()
    }

    /// Closes with RST.
    pub fn abort(&mut self, now: u64, fd: Fd) {
        let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
        let _ = self.setsockopt(now, fd, abi::SOL_SOCKET, abi::SO_LINGER, &linger);
        self.close(now, fd);
    }
}

fn set(k: &mut Kernel, ns: belljar_kernel::ids::NsId, key: &str, value: &str) -> Result<(), String> {
    k.sysctl_set(ns, key, value).map_err(|e| match (e, sysctl::nearest(key), sysctl::device_of(key)) {
        (abi::Errno::ENOENT, _, Some(dev)) => format!("no device '{dev}' for the setting '{key}'"),
        (abi::Errno::ENOENT, Some(near), _) => format!("no setting '{key}'; the nearest is '{near}'"),
        (abi::Errno::ENOENT, None, _) => format!("no setting '{key}'"),
        _ => format!("'{value}' is not allowed for {key}: {e}"),
    })
}

/// IPv6 on all interfaces. Who is on the link is known: nobody has our address, and there is no router to ask for one.
fn ipv6(k: &mut Kernel, ns: NsId, dev: Option<DevId>, c: &MachineConfig) -> Result<(), String> {
    let name = dev.and_then(|d| k.net.devs.get(d)).map(|d| d.name.clone());
    if let Some(name) = name {
        set(k, ns, &format!("net.ipv6.conf.{name}.dad_transmits"), "0")?;
        set(k, ns, &format!("net.ipv6.conf.{name}.accept_ra"), "0")?;
    }
    k.net.enable_ipv6(ns);
    let (Some(dev), Some((addr, prefix))) = (dev, c.addr6) else { return Ok(()) };
    // A link too narrow for IPv6 has none (RFC 8200 §5).
    if c.mtu < belljar_wire::ipv6::IPV6_MIN_MTU {
        return Ok(());
    }
    k.net.add_address6(dev, addr, prefix, true).map_err(|e| format!("{addr}/{prefix}: {e}"))?;
    if let Some(via) = c.via6 {
        let route = Route6::unicast(Some(via), Some(dev));
        k.net.add_route6(ns, Ipv6Addr::UNSPECIFIED, 0, route).map_err(|e| format!("default via {via}: {e}"))?;
    }
    Ok(())
}

/// A locally administered address that shows the IPv4 one.
pub(crate) fn mac(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    Mac([0x52, 0x55, a, b, c, d])
}

fn nic_settings(nic: &mut NicConfig, settings: &[(String, String)]) -> Result<(), String> {
    for (key, value) in settings {
        let number = || value.parse::<u32>().map_err(|_| format!("--nic {key}: '{value}' is not a number"));
        let switch = || match value.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(format!("--nic {key}: '{value}' is neither on nor off")),
        };
        let within = |least, most| match number()? {
            n if (least..=most).contains(&n) => Ok(n),
            n => Err(format!("--nic {key}: {n} is not in {least}..={most}")),
        };
        match key.as_str() {
            "rx" | "rx-ring" => nic.rx_ring = within(MIN_RING, MAX_RING)?,
            "tx" | "tx-ring" => nic.tx_ring = within(MIN_RING, MAX_RING)?,
            "channels" => nic.channels = within(1, MAX_CHANNELS)?,
            "speed" => nic.speed = number()?,
            "tso" => nic.features.set_segmentation(switch()?),
            "tx-checksumming" => nic.features.tx_csum = switch()?,
            "rx-checksumming" => nic.features.rx_csum = switch()?,
            "gro" => nic.features.gro = switch()?,
            _ => {
                return Err(format!(
                    "no NIC setting '{key}'; there are: rx, tx, channels, speed, tso, tx-checksumming, rx-checksumming, gro"
                ));
            }
        }
    }
    Ok(())
}
