//! `/dev/net/tun` inside the jar: the program's descriptor is one end of a pair, and each record in it is a packet.
//!
//! What the program wrote is in the stack before any later call of it is answered, as a write to the device would be.
use super::msg::gather_some;
use super::{Asked, Outcome, attempt, exact, write_mem};
use crate::jar::Jar;
use crate::socks::{Flow, SockId};
use belljar_abi::{self as abi, Errno};
use belljar_host::seccomp::Notification;
use belljar_host::{fd, memory};
use belljar_kernel::ids::DevId;
use belljar_kernel::kernel::Kernel;
use belljar_kernel::net::core::dev::DevKind;
use belljar_kernel::net::core::virtio_net::VIRTIO_NET_HDR_LEN;
use belljar_wire::Mac;
use std::io::{ErrorKind, IoSlice};

/// An open file of the device.
#[derive(Debug, Default)]
pub struct TunFile {
    pub dev: Option<DevId>,
    /// Four bytes of flags and protocol stand before each packet (no IFF_NO_PI).
    pi: bool,
    flags: u16,
    /// Bytes of a `virtio_net_hdr` behind that (IFF_VNET_HDR).
    vnet: usize,
    /// Whether that is little-endian, as asked for (TUNSETVNETLE); it is so anyway, as this machine is.
    le: bool,
    /// It takes no part for the time being (IFF_DETACH_QUEUE).
    detached: bool,
    /// Found no room in the pair.
    held: Option<Vec<u8>>,
}

/// What a file keeps of its flags; what it can be told (TUNGETFEATURES) is one more.
const KEPT: u16 =
    abi::IFF_TUN | abi::IFF_TAP | abi::IFF_NO_PI | abi::IFF_ONE_QUEUE | abi::IFF_VNET_HDR | abi::IFF_MULTI_QUEUE;
const FEATURES: u16 = KEPT | abi::IFF_NO_CARRIER;
const PI_LEN: usize = 4;
/// Files of one device (`MAX_TAP_QUEUES`), and bytes that a header may be longer than it is.
const MAX_QUEUES: usize = 256;
const MAX_VNET: usize = 256;
/// Packets taken at one look: more than a pair holds, so that all written before a call are in, and a writer that never
/// stops does not stop everybody else.
const BURST: usize = 1024;
/// Longest packet with its information in front.
const RECORD: usize = 65_536 + PI_LEN + MAX_VNET;

impl Jar {
    pub(crate) fn open_tun(&mut self, listener: u32, note: &Notification, flags: i32) -> Outcome {
        let host = self.host_of(listener);
        let outcome = self.plant(listener, note, host, None, abi::AF_UNSPEC, Flow::Tun(TunFile::default()), flags);
        let tuns: Vec<SockId> =
            self.socks.iter().filter(|(_, s)| matches!(s.flow, Flow::Tun(_))).map(|s| s.0).collect();
        self.tuns = tuns;
        outcome
    }

    fn tun_file(&mut self, id: SockId) -> Option<&mut TunFile> {
        match &mut self.socks.get_mut(id)?.flow {
            Flow::Tun(t) => Some(t),
            _ => None,
        }
    }

    pub(crate) fn ioctl_tun(&mut self, a: &Asked<'_>) -> Outcome {
        let (tid, at) = (a.note.tid, a.note.word(2));
        let (dev, flags) = self.tun_file(a.id).map_or((None, 0), |t| (t.dev, t.flags));
        match a.note.word(1) as u32 {
            abi::TUNSETIFF => self.tun_set_iff(a, tid, at).into(),
            abi::TUNGETFEATURES => write_mem(tid, at, &u32::from(FEATURES).to_ne_bytes()).map(|()| 0).into(),
            // Everything else is about a device.
            _ if dev.is_none() => Errno::EBADFD.into(),
            abi::TUNGETIFF => {
                let name = self.tun_name(a.id).unwrap_or_default();
                let stays = self.tun_kernel(a, persists).is_ok();
                let flags = flags | if stays { abi::IFF_PERSIST } else { 0 };
                write_mem(tid, at, &ifreq(&name, flags)).map(|()| 0).into()
            }
            // The last one has had no meaning since Linux 2.6.32.
            abi::TUNSETOWNER | abi::TUNSETGROUP | abi::TUNSETNOCSUM => Outcome::Reply(Ok(0)),
            abi::TUNSETCARRIER => self.tun_set_carrier(a, tid, at).into(),
            abi::TUNSETVNETLE => self.tun_set_le(a, tid, at).into(),
            abi::TUNGETVNETLE => {
                let le = self.tun_file(a.id).is_some_and(|t| t.le);
                write_mem(tid, at, &i32::from(le).to_ne_bytes()).map(|()| 0).into()
            }
            abi::SIOCGIFHWADDR => self.tun_get_mac(a, tid, at).into(),
            abi::SIOCSIFHWADDR => self.tun_set_mac(a, tid, at).into(),
            abi::TUNSETQUEUE => self.tun_set_queue(a, tid, at).into(),
            abi::TUNGETVNETHDRSZ => {
                let size = self.tun_file(a.id).map_or(0, |t| t.vnet_size());
                write_mem(tid, at, &(size as i32).to_ne_bytes()).map(|()| 0).into()
            }
            abi::TUNSETVNETHDRSZ => self.tun_set_vnet(a, tid, at).into(),
            abi::TUNSETOFFLOAD => self.tun_kernel(a, |k, dev| k.tun_set_offload(dev, at as u32)).into(),
            abi::TUNSETPERSIST => self.tun_kernel(a, |k, dev| persist(k, dev, at != 0)).into(),
            _ => Errno::EINVAL.into(),
        }
    }

    fn tun_set_iff(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let mut req = [0u8; abi::IFREQ_LEN];
        memory::read(tid, at, &mut req).map_err(|_| Errno::EFAULT)?;
        let flags = req.get(abi::IFNAMSIZ..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b));
        if self.tun_file(a.id).is_none_or(|t| t.dev.is_some()) {
            return Err(Errno::EEXIST);
        }
        if !self.privileged(tid) {
            return Err(Errno::EPERM);
        }
        let tap = flags & abi::IFF_TUN == 0;
        // Other flags that it does not know Linux passes over.
        if flags & (abi::IFF_TUN | abi::IFF_TAP) == 0 || flags & (abi::IFF_NAPI | abi::IFF_NAPI_FRAGS) != 0 {
            return Err(Errno::EINVAL);
        }
        let host = self.socks.get(a.id).ok_or(Errno::EBADF)?.host;
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        let (name, many) = (abi::ifreq_name(&req).ok_or(Errno::EINVAL)?.to_owned(), flags & abi::IFF_MULTI_QUEUE != 0);
        let there = m.k.net.dev_by_name(m.ns, &name).filter(|_| flags & abi::IFF_TUN_EXCL == 0);
        let dev = match there {
            Some(dev) => self.tun_again(host, dev, tap, many)?,
            None => m.k.tun_create(m.ns, &name, tap, many)?,
        };
        if let Some(m) = self.machines.get_mut(host) {
            m.k.net.set_carrier(dev, flags & abi::IFF_NO_CARRIER == 0);
        }
        if let Some(t) = self.tun_file(a.id) {
            let pi = flags & abi::IFF_NO_PI == 0;
            *t = TunFile { dev: Some(dev), pi, flags: flags & KEPT, ..TunFile::default() };
        }
        let name = self.tun_name(a.id).unwrap_or_default();
        write_mem(tid, at, &ifreq(&name, flags))?;
        Ok(0)
    }

    /// A device that exists: of the same kind, and with room for one more file.
    #[doc(alias = "tun_attach")]
    fn tun_again(&mut self, host: usize, dev: DevId, tap: bool, many: bool) -> Result<DevId, Errno> {
        let taken = self.tun_files(host, dev).len();
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        match m.k.net.devs.get(dev).map(|d| &d.kind) {
            Some(DevKind::Tun(t)) if t.tap == tap && t.multi_queue == many => {}
            _ => return Err(Errno::EINVAL),
        }
        if taken > 0 && !many {
            return Err(Errno::EBUSY);
        }
        if taken >= MAX_QUEUES {
            return Err(Errno::E2BIG);
        }
        Ok(dev)
    }

    /// The files that are attached to a device, in order.
    fn tun_files(&self, host: usize, dev: DevId) -> Vec<SockId> {
        let on = |id: &&SockId| {
            let Some(s) = self.socks.get(**id).filter(|s| s.host == host) else { return false };
            matches!(&s.flow, Flow::Tun(t) if t.dev == Some(dev) && !t.detached)
        };
        self.tuns.iter().filter(on).copied().collect()
    }

    fn tun_kernel(
        &mut self,
        a: &Asked<'_>,
        change: impl FnOnce(&mut Kernel, DevId) -> Result<(), Errno>,
    ) -> Result<i64, Errno> {
        let dev = self.tun_file(a.id).and_then(|t| t.dev).ok_or(Errno::EBADFD)?;
        let host = self.socks.get(a.id).ok_or(Errno::EBADF)?.host;
        change(&mut self.machines.get_mut(host).ok_or(Errno::EBADF)?.k, dev).map(|()| 0)
    }

    /// Attaches a file of a device with several again, or sets it aside.
    fn tun_set_queue(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let mut req = [0u8; abi::IFREQ_LEN];
        memory::read(tid, at, &mut req).map_err(|_| Errno::EFAULT)?;
        let flags = req.get(abi::IFNAMSIZ..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b));
        let t = self.tun_file(a.id).ok_or(Errno::EBADFD)?;
        let detach = flags & abi::IFF_DETACH_QUEUE != 0;
        let one = t.flags & abi::IFF_MULTI_QUEUE == 0;
        if flags & (abi::IFF_ATTACH_QUEUE | abi::IFF_DETACH_QUEUE) == 0 || one || t.detached == detach {
            return Err(Errno::EINVAL);
        }
        t.detached = detach;
        Ok(0)
    }

    fn tun_set_vnet(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let size = usize::try_from(read_int(tid, at)?).map_err(|_| Errno::EINVAL)?;
        if !(VIRTIO_NET_HDR_LEN..=MAX_VNET).contains(&size) {
            return Err(Errno::EINVAL);
        }
        self.tun_file(a.id).ok_or(Errno::EBADFD)?.vnet = size;
        Ok(0)
    }

    fn tun_set_carrier(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let on = read_int(tid, at)? != 0;
        self.tun_kernel(a, |k, dev| {
            k.net.set_carrier(dev, on);
            Ok(())
        })
    }

    fn tun_set_le(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        self.tun_file(a.id).ok_or(Errno::EBADFD)?.le = read_int(tid, at)? != 0;
        Ok(0)
    }

    /// The device's address into an `ifreq` whose name stays as it is.
    fn tun_get_mac(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let mut req = [0u8; abi::IFREQ_LEN];
        memory::read(tid, at, &mut req).map_err(|_| Errno::EFAULT)?;
        let (mut mac, mut family) = ([0; 6], abi::ARPHRD_NONE);
        self.tun_kernel(a, |k, dev| {
            let d = k.net.devs.get(dev).ok_or(Errno::EBADFD)?;
            if !d.is_pointopoint() {
                (mac, family) = (d.mac.0, abi::ARPHRD_ETHER);
            }
            Ok(())
        })?;
        let addr = family.to_ne_bytes().into_iter().chain(mac);
        req.iter_mut().skip(abi::IFNAMSIZ).zip(addr).for_each(|(to, b)| *to = b);
        write_mem(tid, at, &req).map(|()| 0)
    }

    #[doc(alias = "dev_set_mac_address_user")]
    fn tun_set_mac(&mut self, a: &Asked<'_>, tid: u32, at: u64) -> Result<i64, Errno> {
        let mut req = [0u8; abi::IFREQ_LEN];
        memory::read(tid, at, &mut req).map_err(|_| Errno::EFAULT)?;
        let [f0, f1, mac @ ..] = *req.get(abi::IFNAMSIZ..).and_then(|b| b.first_chunk::<8>()).ok_or(Errno::EINVAL)?;
        self.tun_kernel(a, |k, dev| {
            if k.net.devs.get(dev).is_some_and(|d| d.is_pointopoint()) {
                return Err(Errno::EOPNOTSUPP);
            }
            if u16::from_ne_bytes([f0, f1]) != abi::ARPHRD_ETHER {
                return Err(Errno::EINVAL);
            }
            k.net.set_mac(dev, Mac(mac))
        })
    }

    fn tun_name(&mut self, id: SockId) -> Option<String> {
        let (dev, host) = (self.tun_file(id)?.dev?, self.socks.get(id)?.host);
        Some(self.machines.get(host)?.k.net.devs.get(dev)?.name.clone())
    }

    /// What all programs wrote to their devices.
    pub(crate) fn tuns_in(&mut self) {
        for n in 0..self.tuns.len() {
            if let Some(id) = self.tuns.get(n).copied() {
                self.tun_in(id);
            }
        }
    }

    /// `--exact`: a packet that is written goes in at once, and the writer hears what became of it.
    #[doc(alias = "tun_chr_write_iter")]
    pub(super) fn exact_tun(&mut self, a: &Asked<'_>) -> Outcome {
        let (iov, _) = attempt!(exact::payload(a.note));
        let record = attempt!(gather_some(a.note.tid, &iov, RECORD));
        self.apply_settings();
        let Some(s) = self.socks.get(a.id) else { return Errno::EBADF.into() };
        let Flow::Tun(t) = &s.flow else { return Errno::EBADF.into() };
        let Some(dev) = t.dev else { return Errno::EBADFD.into() };
        let (skip, vnet, named) = (if t.pi { PI_LEN } else { 0 }, t.vnet_len(), t.pi && t.flags & abi::IFF_TUN != 0);
        let Some(m) = self.machines.get_mut(s.host) else { return Errno::EBADFD.into() };
        let Some((header, packet)) = record.split_at_checked(skip + vnet) else { return Errno::EINVAL.into() };
        let up = m.k.net.devs.get(dev).is_some_and(|d| d.up);
        // What says its protocol in front may be empty.
        if named && up && vnet == 0 && packet.is_empty() {
            return Outcome::Reply(Ok(record.len() as i64));
        }
        m.k.tun_write(self.now, dev, header.get(skip..).unwrap_or(&[]), packet).map(|_| record.len() as i64).into()
    }

    pub(crate) fn tun_in(&mut self, id: SockId) {
        // A setting written before the packet is true for it.
        self.apply_settings();
        for _ in 0..BURST {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Tun(t) = &s.flow else { return };
            // A file that is set aside gets nothing, and may send.
            let (dev, skip, vnet) = (t.dev, if t.pi { PI_LEN } else { 0 }, t.vnet_len());
            let mut buf = std::mem::take(&mut self.scratch);
            buf.clear();
            let got = fd::recv_append(&s.ours, &mut buf, RECORD);
            if let (Ok(n), Some(dev), Some(m)) = (&got, dev, self.machines.get_mut(s.host))
                && *n > skip + vnet
            {
                // What it would have answered is not known to the writer any more.
                let (header, packet) = buf.split_at(skip + vnet);
                let _ = m.k.tun_write(self.now, dev, header.get(skip..).unwrap_or(&[]), packet);
            }
            self.scratch = buf;
            match got {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What the stack sent to the devices, as far as the readers' pairs have room.
    pub(crate) fn tuns_out(&mut self) {
        for n in 0..self.tuns.len() {
            if let Some(id) = self.tuns.get(n).copied() {
                self.tun_out(id);
            }
        }
    }

    pub(crate) fn tun_out(&mut self, id: SockId) {
        let place = self.tun_place(id);
        loop {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Tun(t) = &mut s.flow else { return };
            let (Some(dev), Some(m)) = (t.dev, self.machines.get_mut(s.host)) else { return };
            let record = match t.held.take() {
                Some(r) => r,
                None => match place.and_then(|p| m.k.tun_read(dev, p, t.vnet_len())) {
                    Some((header, frame)) => [information(&frame, t.pi, t.flags), header, frame.to_vec()].concat(),
                    None => return self.watch_out(id, false),
                },
            };
            match fd::send_vectored(&s.ours, &[IoSlice::new(&record)]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    t.held = Some(record);
                    return self.watch_out(id, true);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Which of how many attached files it is.
    fn tun_place(&mut self, id: SockId) -> Option<(usize, usize)> {
        let (dev, host) = (self.tun_file(id)?.dev?, self.socks.get(id)?.host);
        let all = self.tun_files(host, dev);
        Some((all.iter().position(|f| *f == id)?, all.len()))
    }

    /// The program closed it: with its last file the device goes away, unless it is to stay.
    pub(crate) fn tun_closed(&mut self, id: SockId) {
        self.tun_in(id);
        self.tuns.retain(|t| *t != id);
        let Some(s) = self.socks.remove(id) else { return };
        if let (Flow::Tun(TunFile { dev: Some(dev), .. }), Some(m)) = (&s.flow, self.machines.get_mut(s.host)) {
            let used = self.socks.iter().any(|(_, o)| {
                o.host == s.host && matches!(&o.flow, Flow::Tun(TunFile { dev: Some(d), .. }) if d == dev)
            });
            match m.k.net.devs.get(*dev).map(|d| &d.kind) {
                _ if used => {}
                Some(DevKind::Tun(t)) if t.persist => m.k.net.set_carrier(*dev, false),
                _ => m.k.net.unregister_netdev(*dev),
            }
        }
    }
}

impl TunFile {
    /// TUNGETVNETHDRSZ: what it would be.
    fn vnet_size(&self) -> usize {
        if self.vnet == 0 { VIRTIO_NET_HDR_LEN } else { self.vnet }
    }

    /// Bytes of it before each packet.
    fn vnet_len(&self) -> usize {
        if self.flags & abi::IFF_VNET_HDR != 0 { self.vnet_size() } else { 0 }
    }
}

fn read_int(tid: u32, at: u64) -> Result<i32, Errno> {
    let mut v = [0; 4];
    memory::read(tid, at, &mut v).map_err(|_| Errno::EFAULT)?;
    Ok(i32::from_ne_bytes(v))
}

fn persists(k: &mut Kernel, dev: DevId) -> Result<(), Errno> {
    match k.net.devs.get(dev).map(|d| &d.kind) {
        Some(DevKind::Tun(t)) if t.persist => Ok(()),
        _ => Err(Errno::ENODEV),
    }
}

fn persist(k: &mut Kernel, dev: DevId, on: bool) -> Result<(), Errno> {
    match k.net.devs.get_mut(dev).map(|d| &mut d.kind) {
        Some(DevKind::Tun(t)) => t.persist = on,
        _ => return Err(Errno::EBADFD),
    }
    Ok(())
}

/// `struct tun_pi`: flags, and the protocol as an EtherType.
fn information(frame: &belljar_wire::Frame, wanted: bool, flags: u16) -> Vec<u8> {
    if !wanted {
        return Vec::new();
    }
    let head = frame.head.bytes();
    let tap = flags & abi::IFF_TAP != 0;
    let protocol = match head.first().map(|b| b >> 4) {
        _ if tap => head.get(12..14).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b)),
        Some(6) => 0x86dd,
        _ => 0x0800,
    };
    [[0, 0], protocol.to_be_bytes()].concat()
}

fn ifreq(name: &str, flags: u16) -> Vec<u8> {
    let mut req = vec![0; abi::IFNAMSIZ];
    req.iter_mut().zip(name.bytes().take(abi::IFNAMSIZ - 1)).for_each(|(t, b)| *t = b);
    req.extend_from_slice(&flags.to_ne_bytes());
    req
}
