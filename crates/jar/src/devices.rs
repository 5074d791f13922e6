//! Devices and addresses of a host, as the old ioctls show and change them.
use crate::jar::Jar;
use crate::serve::{Outcome, attempt, write_mem};
use belljar_abi::ethtool::{ETHTOOL_READS, SIOCETHTOOL};
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_host::seccomp::Notification;
use belljar_kernel::drivers::nic::ethtool;
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

    /// What kind of hardware it is (`ARPHRD_*`).
    pub fn hatype(&self) -> u16 {
        match self.flags {
            f if f & abi::IFF_LOOPBACK != 0 => abi::ARPHRD_LOOPBACK,
            f if f & abi::IFF_POINTOPOINT != 0 => abi::ARPHRD_NONE,
            _ => abi::ARPHRD_ETHER,
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
    pub(crate) fn ioctl_device(&mut self, host: usize, note: &Notification) -> Outcome {
        let (request, tid, at) = (note.word(1) as u32, note.tid, note.word(2));
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
            let name = abi::ifreq_name(&req).unwrap_or("");
            devices.iter().find(|d| d.name == name)
        };
        let Some(d) = found else { return Errno::ENODEV.into() };
        if let Some(result) = change(m, &d.name, request, &req) {
            return result.map(|()| 0).into();
        }
        if request == SIOCETHTOOL {
            let at = req.get(abi::IFNAMSIZ..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_ne_bytes(*b));
            let name = d.name.clone();
            return self.ethtool(host, tid, &name, at).into();
        }
        let addr = addrs.iter().find(|a| a.index == d.index).ok_or(Errno::EADDRNOTAVAIL);
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
            abi::SIOCGIFHWADDR => [&d.hatype().to_ne_bytes()[..], &d.mac, &[0; 8]].concat(),
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

/// Requests that set something, which takes CAP_NET_ADMIN.
const CHANGES: [u32; 5] =
    [abi::SIOCSIFADDR, abi::SIOCSIFNETMASK, abi::SIOCSIFFLAGS, abi::SIOCSIFMTU, abi::SIOCSIFTXQLEN];

/// Carries out one of [`CHANGES`]; `None` for all others.
fn change(m: &mut crate::machine::Machine, name: &str, request: u32, req: &[u8]) -> Option<Result<(), Errno>> {
    let value = req.get(abi::IFNAMSIZ..)?;
    let addr = || match SockAddr::parse(value.get(..16).unwrap_or(&[])) {
        Ok(SockAddr::V4(ip, _)) => Ok(ip),
        _ => Err(Errno::EINVAL),
    };
    let word = i32::from_ne_bytes(*value.first_chunk()?);
    let dev = m.k.net.dev_by_name(m.ns, name)?;
    let net = &mut m.k.net;
    Some(match request {
        abi::SIOCSIFADDR => addr().and_then(|a| net.set_if_addr(dev, a)),
        abi::SIOCSIFNETMASK => addr().and_then(|a| net.set_if_netmask(dev, a)),
        abi::SIOCSIFFLAGS => net.set_if_flags(dev, word as u16),
        abi::SIOCSIFMTU => u32::try_from(word).map_err(|_| Errno::EINVAL).and_then(|n| net.set_mtu(dev, n)),
        abi::SIOCSIFTXQLEN => u32::try_from(word).map_err(|_| Errno::EINVAL).and_then(|n| net.set_txqlen(dev, n)),
        _ => return None,
    })
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
