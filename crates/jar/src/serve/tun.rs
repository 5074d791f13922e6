//! `/dev/net/tun` inside the jar: the program's descriptor is one end of a pair, and each record in it is a packet.
//!
//! What the program wrote is in the stack before any later call of it is answered, as a write to the device would be.
use super::{Asked, Outcome, write_mem};
use crate::jar::Jar;
use crate::socks::{Flow, SockId};
use belljar_abi::{self as abi, Errno};
use belljar_host::seccomp::Notification;
use belljar_host::{fd, memory};
use belljar_kernel::ids::DevId;
use std::io::{ErrorKind, IoSlice};

/// An open file of the device.
#[derive(Debug, Default)]
pub struct TunFile {
    pub dev: Option<DevId>,
    /// Four bytes of flags and protocol stand before each packet (no IFF_NO_PI).
    pi: bool,
    flags: u16,
    /// Found no room in the pair.
    held: Option<Vec<u8>>,
}

const FEATURES: u16 = abi::IFF_TUN | abi::IFF_TAP | abi::IFF_NO_PI | abi::IFF_ONE_QUEUE;
const PI_LEN: usize = 4;
/// Packets taken at one look: more than a pair holds, so that all written before a call are in, and a writer that never
/// stops does not stop everybody else.
const BURST: usize = 1024;
/// Longest packet with its information in front.
const RECORD: usize = 65_536 + PI_LEN;

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
                write_mem(tid, at, &ifreq(&name, flags)).map(|()| 0).into()
            }
            abi::TUNSETOWNER | abi::TUNSETGROUP => Outcome::Reply(Ok(0)),
            // No offload is on; switching all off is no change.
            abi::TUNSETOFFLOAD if at == 0 => Outcome::Reply(Ok(0)),
            abi::TUNSETPERSIST if at == 0 => Outcome::Reply(Ok(0)),
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
        if flags & (abi::IFF_TUN | abi::IFF_TAP) == 0 || flags & !(FEATURES | abi::IFF_TUN_EXCL) != 0 {
            return Err(Errno::EINVAL);
        }
        let host = self.socks.get(a.id).ok_or(Errno::EBADF)?.host;
        let m = self.machines.get_mut(host).ok_or(Errno::EBADF)?;
        let dev = m.k.tun_create(m.ns, abi::ifreq_name(&req).ok_or(Errno::EINVAL)?, tap)?;
        if let Some(t) = self.tun_file(a.id) {
            *t = TunFile { dev: Some(dev), pi: flags & abi::IFF_NO_PI == 0, flags: flags & FEATURES, held: None };
        }
        let name = self.tun_name(a.id).unwrap_or_default();
        write_mem(tid, at, &ifreq(&name, flags))?;
        Ok(0)
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

    pub(crate) fn tun_in(&mut self, id: SockId) {
        // A setting written before the packet is true for it.
        self.apply_settings();
        for _ in 0..BURST {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Tun(t) = &s.flow else { return };
            let (dev, skip) = (t.dev, if t.pi { PI_LEN } else { 0 });
            let mut buf = std::mem::take(&mut self.scratch);
            buf.clear();
            let got = fd::recv_append(&s.ours, &mut buf, RECORD);
            if let (Ok(n), Some(dev), Some(m)) = (&got, dev, self.machines.get_mut(s.host))
                && *n > skip
            {
                // What it would have answered is not known to the writer any more.
                let _ = m.k.tun_write(self.now, dev, buf.get(skip..).unwrap_or(&[]));
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
        loop {
            let Some(s) = self.socks.get_mut(id) else { return };
            let Flow::Tun(t) = &mut s.flow else { return };
            let (Some(dev), Some(m)) = (t.dev, self.machines.get_mut(s.host)) else { return };
            let record = match t.held.take() {
                Some(r) => r,
                None => match m.k.tun_read(dev) {
                    Some(frame) => [information(&frame, t.pi, t.flags), frame.to_vec()].concat(),
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

    /// The program closed it: the device goes away.
    pub(crate) fn tun_closed(&mut self, id: SockId) {
        self.tun_in(id);
        self.tuns.retain(|t| *t != id);
        let Some(s) = self.socks.remove(id) else { return };
        if let (Flow::Tun(TunFile { dev: Some(dev), .. }), Some(m)) = (&s.flow, self.machines.get_mut(s.host)) {
            m.k.net.unregister_netdev(*dev);
        }
    }
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
