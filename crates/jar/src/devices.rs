//! Devices and addresses of a host, as the old ioctls show and change them.
use crate::jar::Jar;
use crate::serve::{Outcome, attempt, write_mem};
use belljar_abi::ethtool::{ETHTOOL_READS, SIOCETHTOOL};
use belljar_abi::rtnetlink::RTM_NEWLINK;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::seccomp::Notification;
use belljar_kernel::drivers::nic::ethtool;
use belljar_kernel::net::netlink::{compat, notify};
use belljar_wire::Mac;
use std::net::Ipv4Addr;

/// A network device.
#[derive(Clone, Debug, Default)]
pub struct Device {
    pub index: u32,
    pub name: String,
    /// The device below it or at its other end; itself where there is none.
    pub iflink: u32,
    /// `IFF_*` and `IF_OPER_*`.
    pub flags: u32,
    pub operstate: u8,
    pub alias: String,
    pub group: u32,
    pub mtu: u32,
    pub txqlen: u32,
    pub mac: [u8; 6],
    /// What kind of hardware it is (`ARPHRD_*`).
    pub hatype: u16,
    /// Of a tunnel of packets, in the place of hardware addresses.
    pub ends: Option<(Ipv4Addr, Ipv4Addr)>,
    /// In the order of `rtnl_link_stats64`: packets and bytes received and sent come first.
    pub stats: Vec<u64>,
}

/// One of its addresses of IPv4.
#[derive(Clone, Debug)]
pub struct Addr {
    pub index: u32,
    pub label: String,
    pub addr: Ipv4Addr,
    /// The other end of a point-to-point link.
    pub peer: Ipv4Addr,
    pub broadcast: Option<Ipv4Addr>,
    pub prefix: u8,
}

impl Device {
    pub fn loopback(&self) -> bool {
        self.flags & abi::IFF_LOOPBACK != 0
    }

    /// Its address, and the one for everybody or at the other end; none without a link layer.
    pub fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        match (self.hatype, self.ends) {
            (_, Some((local, remote))) => (local.octets().to_vec(), remote.octets().to_vec()),
            (abi::ARPHRD_NONE, None) => (Vec::new(), Vec::new()),
            (abi::ARPHRD_LOOPBACK, None) => (self.mac.to_vec(), vec![0; 6]),
            _ => (self.mac.to_vec(), vec![255; 6]),
        }
    }
}

fn sockaddr(addr: Ipv4Addr) -> Vec<u8> {
    SockAddr::V4(addr, 0).emit().to_vec()
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

impl Jar {
    /// The `SIOCGIF*` family, and what changes an interface.
    pub(crate) fn ioctl_device(&mut self, host: usize, family: i32, note: &Notification) -> Outcome {
        let (request, tid, at) = (note.word(1) as u32, note.tid, note.word(2));
        if let Some(len) = compat::request_len(request, family == abi::AF_INET6) {
            return self.old_request(host, family == abi::AF_INET6, note, len).into();
        }
        if CHANGES.contains(&request) && !self.privileged(tid) {
            return Errno::EPERM.into();
        }
        let Some(m) = self.machines.get_mut(host) else { return Errno::EBADF.into() };
        let (devices, addrs) = (m.devices(), m.addresses());
        if request == abi::SIOCGIFCONF {
            return ifconf(tid, at, &addrs).into();
        }
        let mut req = [0u8; abi::IFREQ_LEN];
        attempt!(belljar_host::memory::read(tid, at, &mut req).map_err(|_| Errno::EFAULT));
        let found = if request == abi::SIOCGIFNAME {
            let index = req.get(16..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
            devices.iter().find(|d| d.index == index)
        } else {
            // Behind a colon stands which of its addresses is meant.
            let name = abi::ifreq_name(&req).unwrap_or("").split(':').next().unwrap_or("");
            devices.iter().find(|d| d.name == name)
        };
        let Some(d) = found else { return Errno::ENODEV.into() };
        let label = abi::ifreq_name(&req).unwrap_or("");
        if let Some(result) = change(m, &d.name, label, request, &req) {
            return result.map(|()| 0).into();
        }
        if request == SIOCETHTOOL {
            let at = req.get(abi::IFNAMSIZ..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b));
            let name = d.name.clone();
            return self.ethtool(host, tid, &name, at).into();
        }
        let addr = named(&addrs, d.index, label, &req).ok_or(Errno::EADDRNOTAVAIL);
        let value = match request {
            abi::SIOCGIFNAME => {
                let mut name = [0u8; abi::IFNAMSIZ];
                name.iter_mut().zip(d.name.bytes().take(abi::IFNAMSIZ - 1)).for_each(|(t, b)| *t = b);
                return write_mem(tid, at, &name).map(|()| 0).into();
            }
            abi::SIOCGIFINDEX => d.index.to_ne_bytes().to_vec(),
            abi::SIOCGIFFLAGS => (d.flags as u16).to_ne_bytes().to_vec(),
            abi::SIOCGIFMTU => d.mtu.to_ne_bytes().to_vec(),
            abi::SIOCGIFMETRIC => 0u32.to_ne_bytes().to_vec(),
            abi::SIOCGIFTXQLEN => d.txqlen.to_ne_bytes().to_vec(),
            abi::SIOCGIFADDR => sockaddr(attempt!(addr).addr),
            abi::SIOCGIFDSTADDR => sockaddr(attempt!(addr).peer),
            abi::SIOCGIFNETMASK => sockaddr(mask(attempt!(addr).prefix)),
            abi::SIOCGIFBRDADDR => sockaddr(attempt!(addr).broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED)),
            // No device here has addresses of memory and ports.
            abi::SIOCGIFMAP => vec![0; IFMAP_LEN],
            abi::SIOCGIFHWADDR => {
                let mut bytes = d.hatype.to_ne_bytes().to_vec();
                bytes.extend(d.addresses().0);
                bytes.resize(16, 0);
                bytes
            }
            _ => return Errno::EOPNOTSUPP.into(),
        };
        write_mem(tid, at + abi::IFNAMSIZ as u64, &value).map(|()| 0).into()
    }
}

impl Jar {
    /// SIOCETHTOOL: the request lies where the `ifreq` points.
    fn ethtool(&mut self, host: usize, tid: u32, name: &str, at: u64) -> Result<i64, Errno> {
        let mut cmd = [0; 4];
        belljar_host::memory::read(tid, at, &mut cmd).map_err(|_| Errno::EFAULT)?;
        let cmd = u32::from_ne_bytes(cmd);
        if !ETHTOOL_READS.contains(&cmd) && !self.privileged(tid) {
            return Err(Errno::EPERM);
        }
        let mut asked = vec![0; ethtool::request_len(cmd)];
        belljar_host::memory::read(tid, at, &mut asked).map_err(|_| Errno::EFAULT)?;
        let whole = ethtool::whole_len(&asked);
        if whole > asked.len() {
            asked.resize(whole, 0);
            belljar_host::memory::read(tid, at, &mut asked).map_err(|_| Errno::EFAULT)?;
        }
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        let dev = m.k.net.dev_by_name(m.ns, name).ok_or(Errno::ENODEV)?;
        let (result, reply) = m.k.ethtool(dev, &asked)?;
        write_mem(tid, at, &reply)?;
        Ok(result)
    }
}

/// sizeof(struct ifmap).
const IFMAP_LEN: usize = 24;

/// The address that a request is about: with this label, and of several the one that stands in the request.
fn named<'a>(addrs: &'a [Addr], index: u32, label: &str, req: &[u8]) -> Option<&'a Addr> {
    let known = match SockAddr::parse(req.get(abi::IFNAMSIZ..abi::IFNAMSIZ + 16)?) {
        Ok(SockAddr::V4(ip, _)) => Some(ip),
        _ => None,
    };
    let fits = |a: &&Addr| a.index == index && a.label == label;
    addrs.iter().find(|a| fits(a) && Some(a.addr) == known).or_else(|| addrs.iter().find(fits))
}

/// Requests that set something, which takes CAP_NET_ADMIN.
const CHANGES: [u32; 9] = [
    abi::SIOCSIFADDR,
    abi::SIOCSIFNETMASK,
    abi::SIOCSIFBRDADDR,
    abi::SIOCSIFDSTADDR,
    abi::SIOCSIFFLAGS,
    abi::SIOCSIFMTU,
    abi::SIOCSIFTXQLEN,
    abi::SIOCSIFHWADDR,
    abi::SIOCSIFNAME,
];

/// Carries out one of [`CHANGES`]; `None` for all others.
fn change(
    m: &mut crate::machine::Machine,
    name: &str,
    label: &str,
    request: u32,
    req: &[u8],
) -> Option<Result<(), Errno>> {
    let value = req.get(abi::IFNAMSIZ..)?;
    let addr = || match SockAddr::parse(value.get(..16).unwrap_or(&[])) {
        Ok(SockAddr::V4(ip, _)) => Ok(ip),
        _ => Err(Errno::EINVAL),
    };
    let word = i32::from_ne_bytes(*value.first_chunk()?);
    let dev = m.k.net.dev_by_name(m.ns, name)?;
    let hatype = belljar_kernel::net::packet::link_of(m.k.net.devs.get(dev)?).1;
    let net = &mut m.k.net;
    let number = || u32::try_from(word).map_err(|_| Errno::EINVAL);
    let done = match request {
        abi::SIOCSIFADDR => return Some(addr().and_then(|a| net.set_if_addr(dev, label, a))),
        abi::SIOCSIFNETMASK => return Some(addr().and_then(|a| net.set_if_netmask(dev, label, a))),
        abi::SIOCSIFBRDADDR => return Some(addr().and_then(|a| net.set_if_broadcast(dev, label, a))),
        abi::SIOCSIFDSTADDR => return Some(addr().and_then(|a| net.set_if_peer(dev, label, a))),
        abi::SIOCSIFFLAGS if label.contains(':') => return Some(net.set_alias_flags(dev, label, word as u16)),
        abi::SIOCSIFFLAGS => return Some(net.set_if_flags(dev, word as u16)),
        abi::SIOCSIFMTU => number().and_then(|n| net.set_mtu(dev, n)),
        abi::SIOCSIFTXQLEN => number().and_then(|n| net.set_txqlen(dev, n)),
        abi::SIOCSIFHWADDR if word as u16 != hatype => Err(Errno::EINVAL),
        abi::SIOCSIFHWADDR => match value.get(2..).and_then(|v| v.first_chunk()) {
            Some(mac) => net.set_mac(dev, Mac(*mac)),
            None => Err(Errno::EFAULT),
        },
        abi::SIOCSIFNAME => abi::ifreq_name(value).ok_or(Errno::EINVAL).and_then(|to| net.rename(dev, to)),
        _ => return None,
    };
    if done.is_ok() {
        notify::link(net, RTM_NEWLINK, dev);
    }
    Some(done)
}

impl Jar {
    /// Routes, neighbours and addresses of IPv6, each a structure of its own.
    fn old_request(&mut self, host: usize, six: bool, note: &Notification, len: usize) -> Result<i64, Errno> {
        let (cmd, tid, at) = (note.word(1) as u32, note.tid, note.word(2));
        if cmd != abi::SIOCGARP && !self.privileged(tid) {
            return Err(Errno::EPERM);
        }
        let mut r = vec![0; len];
        belljar_host::memory::read(tid, at, &mut r).map_err(|_| Errno::EFAULT)?;
        let name = r.get(compat::RT_DEV_AT..).filter(|_| len == compat::RTENTRY_LEN).and_then(|b| b.first_chunk());
        let dev = match name.map_or(0, |b| u64::from_ne_bytes(*b)) {
            0 => None,
            at => Some(belljar_host::memory::read_cstr(tid, at, abi::IFNAMSIZ).map_err(|_| Errno::EFAULT)?),
        };
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        let dev = dev.as_deref().map(|b| std::str::from_utf8(b).map_err(|_| Errno::ENODEV)).transpose()?;
        let answer = m.k.old_request(self.now, m.ns, (cmd, six), &r, dev)?;
        answer.map_or(Ok(0), |b| write_mem(tid, at, &b).map(|()| 0))
    }
}

/// `struct ifconf`: length and pointer; an entry per address, or only the length when the pointer is NULL.
fn ifconf(tid: u32, at: u64, addrs: &[Addr]) -> Result<i64, Errno> {
    let mut b = [0u8; 16];
    belljar_host::memory::read(tid, at, &mut b).map_err(|_| Errno::EFAULT)?;
    let room = b.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b)).max(0) as usize;
    let buf = b.get(8..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b));
    let mut out = Vec::new();
    for a in addrs {
        let mut e = [0u8; abi::IFREQ_LEN];
        e.iter_mut().zip(a.label.bytes().take(abi::IFNAMSIZ - 1)).for_each(|(t, b)| *t = b);
        let addr = sockaddr(a.addr);
        e.iter_mut().skip(abi::IFNAMSIZ).zip(addr).for_each(|(t, b)| *t = b);
        if buf != 0 && out.len() + e.len() > room {
            break;
        }
        out.extend_from_slice(&e);
    }
    if buf != 0 {
        write_mem(tid, buf, &out)?;
    }
    write_mem(tid, at, &(out.len() as i32).to_ne_bytes())?;
    Ok(0)
}
