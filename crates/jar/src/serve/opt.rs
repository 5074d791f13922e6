//! getsockopt, setsockopt and the ioctls of sockets and devices.
use super::{Asked, Outcome, attempt, read_int, write_mem};
use crate::jar::Jar;
use crate::options::Refused;
use crate::socks::Flow;
use belljar_abi::{self as abi, Errno};
use belljar_host::fd;
use belljar_host::seccomp::Notification;
use belljar_kernel::net::packet::ring::header_len;

/// Longest option value that is read from a program.
pub(super) const MAX_VALUE: usize = 65_536;
/// Where a request about flow labels has the label.
const LABEL_AT: usize = 16;
/// Refused options that are remembered.
const MAX_REFUSED: usize = 32;

/// `SIOCGIF*` and its kin: about devices, whatever the socket.
pub(super) fn is_device_request(request: u32) -> bool {
    let routes = matches!(request, abi::SIOCADDRT | abi::SIOCDELRT);
    routes || (0x8910..=0x8970).contains(&request) && request != abi::SIOCOUTQNSD
}

/// Stores an option's value where getsockopt's arguments say, cut to the room there.
pub(crate) fn give_value(note: &Notification, value: &[u8]) -> Result<i64, Errno> {
    let room = usize::try_from(read_int(note.tid, note.word(4))?).map_err(|_| Errno::EINVAL)?;
    let value = value.get(..room.min(value.len())).unwrap_or(&[]);
    write_mem(note.tid, note.word(3), value)?;
    write_mem(note.tid, note.word(4), &(value.len() as i32).to_ne_bytes())?;
    Ok(0)
}

/// The room that getsockopt's caller has.
pub(super) fn room(note: &Notification) -> Result<usize, Errno> {
    let len = read_int(note.tid, note.word(4))?;
    Ok(usize::try_from(len).map_err(|_| Errno::EINVAL)?.min(MAX_VALUE))
}

/// What a `struct sock_fprog` points at.
fn instructions(tid: u32, fprog: &[u8]) -> Result<Vec<u8>, Errno> {
    let [n0, n1, _, _, _, _, _, _, at @ ..] = *<&[u8; 16]>::try_from(fprog).map_err(|_| Errno::EINVAL)?;
    let mut code = vec![0; usize::from(u16::from_ne_bytes([n0, n1])) * 8];
    if code.is_empty() || code.len() > MAX_VALUE {
        return Err(Errno::EINVAL);
    }
    belljar_host::memory::read(tid, u64::from_ne_bytes(at), &mut code).map_err(|_| Errno::EFAULT)?;
    Ok(code)
}

impl Jar {
    pub(crate) fn sys_getsockopt(&mut self, a: &Asked<'_>) -> Outcome {
        if let Some(done) = self.get_tables(a) {
            return done;
        }
        let (level, name) = (a.note.int(1), a.note.int(2));
        let len = attempt!(room(a.note));
        self.order(a.id);
        let now = self.now;
        let labels = (level, name) == (abi::SOL_IPV6, abi::IPV6_FLOWLABEL_MGR);
        let asks = labels || (level, name) == (abi::SOL_IP, abi::IP_MSFILTER);
        let mut asked = vec![0; if asks { len } else { 0 }];
        attempt!(belljar_host::memory::read(a.note.tid, a.note.word(3), &mut asked).map_err(|_| Errno::EFAULT));
        if (level, name) == (abi::SOL_PACKET, abi::PACKET_HDRLEN) && self.is_packet(a.id) {
            // The version stands where the answer goes.
            if len < 4 {
                return Errno::EINVAL.into();
            }
            let version = attempt!(read_int(a.note.tid, a.note.word(3)));
            let len = attempt!(header_len(version).ok_or(Errno::EINVAL));
            return give_value(a.note, &len.to_ne_bytes()).into();
        }
        let (m, kfd) = attempt!(self.kernel_of(a));
        let value = match asked.is_empty() {
            true => m.getsockopt(now, kfd, level, name, len),
            false if labels => m.getsockopt_flowlabel(kfd, &asked),
            false => m.getsockopt_msfilter(kfd, &asked),
        };
        let mut value = attempt!(value.inspect_err(|e| self.note_refused(a, false, level, name, *e)));
        if (level, name) == (abi::SOL_SOCKET, abi::SO_ERROR) {
            self.error_told(a.id, &a.copy);
        }
        // It moves with what is read from the pair.
        if (level, name) == (abi::SOL_SOCKET, abi::SO_PEEK_OFF)
            && let Ok(at) = fd::get_opt(&a.copy, level, name)
        {
            value = at.to_ne_bytes().to_vec();
        }
        give_value(a.note, &value).into()
    }

    /// What a call on a stream comes after: the bytes written before it, and the bytes read.
    pub(super) fn order(&mut self, id: crate::socks::SockId) {
        match self.socks.get(id).map(|s| &s.flow) {
            Some(Flow::Stream(st)) if st.phase == crate::socks::Phase::Open => {
                self.stream_out(id);
                self.settle(id);
            }
            Some(Flow::Dgram(_)) => {
                self.dgram_out(id);
                self.dgram_settle(id);
            }
            _ => {}
        }
    }

    /// Remembers an option that the stack does not have.
    fn note_refused(&mut self, a: &Asked<'_>, set: bool, level: i32, name: i32, errno: Errno) {
        // Linux has no options of IPv6 on a socket of IPv4 either.
        let foreign = level == abi::SOL_IPV6 && self.socks.get(a.id).is_some_and(|s| s.family == abi::AF_INET);
        if foreign || ![Errno::ENOPROTOOPT, Errno::EOPNOTSUPP].contains(&errno) {
            return;
        }
        let same = |r: &&mut Refused| (r.set, r.level, r.name) == (set, level, name);
        if let Some(r) = self.refused.iter_mut().find(same) {
            r.count += 1;
        } else if self.refused.len() < MAX_REFUSED {
            self.refused.push(Refused { set, level, name, errno, count: 1 });
        }
    }

    pub(crate) fn sys_setsockopt(&mut self, a: &Asked<'_>) -> Outcome {
        if let Some(done) = self.set_tables(a) {
            return done;
        }
        let (level, name) = (a.note.int(1), a.note.int(2));
        let len = attempt!(usize::try_from(a.note.int(4)).map_err(|_| Errno::EINVAL)).min(MAX_VALUE);
        let mut value = vec![0; len];
        attempt!(belljar_host::memory::read(a.note.tid, a.note.word(3), &mut value).map_err(|_| Errno::EFAULT));
        let follows = (level == abi::SOL_SOCKET
            && matches!(name, abi::SO_ATTACH_FILTER | abi::SO_ATTACH_REUSEPORT_CBPF))
            || (level, name) == (abi::SOL_PACKET, abi::PACKET_FANOUT_DATA);
        if follows {
            value = attempt!(instructions(a.note.tid, &value));
        }
        // The program's pages would be seen by the pair only, and no completion would ever be true.
        if (level, name) == (abi::SOL_SOCKET, abi::SO_ZEROCOPY) && value.iter().any(|b| *b != 0) {
            return Errno::EOPNOTSUPP.into();
        }
        self.order(a.id);
        let ring = level == abi::SOL_PACKET && matches!(name, abi::PACKET_RX_RING | abi::PACKET_TX_RING);
        if ring && self.ring_is_mapped(a.id, a.note.tid) {
            return Errno::EBUSY.into();
        }
        let now = self.now;
        let (m, kfd) = attempt!(self.kernel_of(a));
        if (level, name) == (abi::SOL_IPV6, abi::IPV6_FLOWLABEL_MGR) {
            let pid = belljar_host::task::tgid(a.note.tid).unwrap_or(a.note.tid);
            let label = attempt!(m.flowlabel(now, kfd, &value, pid));
            if value.get(LABEL_AT..LABEL_AT + 4) == Some(&[0; 4]) {
                attempt!(write_mem(a.note.tid, a.note.word(3) + LABEL_AT as u64, &label.to_be_bytes()));
            }
            return Ok(0).into();
        }
        let done = m.setsockopt(now, kfd, level, name, &value);
        attempt!(done.inspect_err(|e| self.note_refused(a, true, level, name, *e)));
        if ring {
            return self.ring_was_set(a, name).map(|()| 0).into();
        }
        // What the host kernel acts on when the program waits on the pair itself.
        if level == abi::SOL_SOCKET {
            match name {
                abi::SO_RCVTIMEO_OLD
                | abi::SO_SNDTIMEO_OLD
                | abi::SO_RCVTIMEO_NEW
                | abi::SO_SNDTIMEO_NEW
                | abi::SO_RCVLOWAT
                | abi::SO_PEEK_OFF
                | abi::SO_OOBINLINE => {
                    let _ = fd::set_opt_bytes(&a.copy, level, name, &value);
                }
                abi::SO_SNDBUF => {
                    if let Some(Flow::Stream(st)) = self.socks.get_mut(a.id).map(|s| &mut s.flow) {
                        match &mut st.sndbuf {
                            // Filled: it is for later.
                            Some(kept) => *kept = value.first_chunk().map_or(0, |v| i32::from_ne_bytes(*v)),
                            None => drop(fd::set_opt_bytes(&a.copy, level, name, &value)),
                        }
                    }
                }
                // How soon reading is told depends on it, and what is in the pair may fill a smaller buffer.
                abi::SO_RCVBUF | abi::SO_RCVBUFFORCE => self.stream_in(a.id),
                _ => {}
            }
        }
        Outcome::Reply(Ok(0))
    }

    fn is_packet(&self, id: crate::socks::SockId) -> bool {
        self.socks.get(id).is_some_and(|s| s.family == abi::AF_PACKET)
    }

    /// The kernel's socket has a ring, or none any more: so has the program. Without memory it is none after all.
    fn ring_was_set(&mut self, a: &Asked<'_>, name: i32) -> Result<(), Errno> {
        let now = self.now;
        let (m, kfd) = self.kernel_of(a)?;
        let packet = m.packet(kfd).and_then(|p| m.k.socks.packet.get(p)).ok_or(Errno::EBADF)?;
        let sending = name == abi::PACKET_TX_RING;
        let geometry = if sending { packet.tx_ring.as_ref().map(|r| r.geometry) } else { packet.ring };
        let done = self.set_ring(a.id, &a.copy, geometry, sending);
        if done.is_err() {
            let (m, kfd) = self.kernel_of(a)?;
            let _ = m.setsockopt(now, kfd, abi::SOL_PACKET, name, &[0; 28]);
        }
        done
    }

    /// When the packet that was read last had come.
    fn give_stamp(&mut self, a: &Asked<'_>, request: u32) -> Result<i64, Errno> {
        let now = self.now;
        let (m, kfd) = self.kernel_of(a)?;
        let at = m.ioctl(now, kfd, u64::from(request))?;
        let unit = if request == abi::SIOCGSTAMP { 1000 } else { 1 };
        let both = [at / 1_000_000_000, at % 1_000_000_000 / unit].map(i64::to_ne_bytes).concat();
        write_mem(a.note.tid, a.note.word(2), &both).map(|()| 0)
    }

    pub(crate) fn sys_ioctl(&mut self, a: &Asked<'_>) -> Outcome {
        let request = a.note.word(1) as u32;
        match request {
            // Owner and signals of the descriptor itself work on the pair.
            abi::FIOSETOWN | abi::SIOCSPGRP | abi::FIOGETOWN | abi::SIOCGPGRP => Outcome::Continue,
            // So is the mark, which is where the program reads.
            abi::SIOCATMARK => Outcome::Continue,
            abi::SIOCINQ | abi::SIOCOUTQ | abi::SIOCOUTQNSD => {
                let n = attempt!(self.queue_length(a, request));
                attempt!(write_mem(a.note.tid, a.note.word(2), &(n as i32).to_ne_bytes()));
                Outcome::Reply(Ok(0))
            }
            abi::SIOCGSTAMP | abi::SIOCGSTAMPNS if self.is_packet(a.id) => self.give_stamp(a, request).into(),
            request if is_device_request(request) => {
                let (host, family) = self.socks.get(a.id).map_or((0, 0), |s| (s.host, s.family));
                self.ioctl_device(host, family, a.note)
            }
            _ => Errno::ENOTTY.into(),
        }
    }

    /// Both queues as the program would see them on Linux: what lies in the pair is in them.
    fn queue_length(&mut self, a: &Asked<'_>, request: u32) -> Result<i64, Errno> {
        self.order(a.id);
        let now = self.now;
        let open =
            |s: &crate::socks::Sock| matches!(&s.flow, Flow::Stream(st) if st.phase == crate::socks::Phase::Open);
        if request == abi::SIOCINQ && self.socks.get(a.id).is_some_and(open) {
            let (unread, (m, kfd)) = (self.unread(a)?, self.kernel_of(a)?);
            let n = m.ioctl(now, kfd, u64::from(request))?;
            return Ok(n.min(unread as i64));
        }
        let s = self.socks.get(a.id).ok_or(Errno::EBADF)?;
        let held = match &s.flow {
            Flow::Stream(st) => st.unsent.len() + fd::inq(&s.ours).unwrap_or(0),
            Flow::Dgram(d) => d.unsent.as_ref().map_or(0, Vec::len),
            Flow::Tun(_) => 0,
        };
        let (m, kfd) = self.kernel_of(a)?;
        let n = m.ioctl(now, kfd, u64::from(request))?;
        Ok(if request == abi::SIOCINQ { n } else { n + held as i64 })
    }
}
