//! An interface of this machine as the far end of a jar's link: a TAP or TUN device, whose other side is the machine's own
//! kernel, or a packet socket on any interface, whose other side is what that is connected to. All with `virtio_net_hdr`, so that
//! super-segments and unfinished checksums cross uncut in both directions.
use crate::{cvt, errno};
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::{Csum, Frame, Gso, GsoType, Mac, gso, ipv6};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct virtio_net_hdr` without the number of buffers: flags, kind, header length, size, checksum start and offset.
const VNET_HLEN: usize = 10;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Longest frame: a super-segment with its headers.
const FRAME_MAX: usize = 65_536 + 256;
/// Who sends what comes without a link layer.
const FAR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// How it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With so many queues.
    Tap {
        queues: usize,
    },
    Tun,
    Packet,
}

/// See the module.
#[derive(Debug)]
pub struct Port {
    /// One for each queue.
    files: Vec<File>,
    name: String,
    /// Frames come with what is still to be done about them; without, the machine finishes and cuts them itself.
    vnet: bool,
    /// Of a TUN device, which has no link layer: the address of the card at our end.
    bare: Option<Mac>,
    /// The queue to look at first.
    next: usize,
    buf: Vec<u8>,
}

fn ifreq(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid.
    let mut r: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= r.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, b) in r.ifr_name.iter_mut().zip(name.bytes()) {
        *to = b as libc::c_char;
    }
    Ok(r)
}

/// An ioctl about an interface on a socket of its own.
fn interface(name: &str, request: libc::Ioctl) -> Option<libc::ifreq> {
    let s = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let mut r = ifreq(name).ok()?;
    // SAFETY: `r` is an ifreq, which these requests read and fill.
    cvt(unsafe { libc::ioctl(s.as_raw_fd(), request, &raw mut r) }).ok()?;
    Some(r)
}

/// There is an interface of this name.
pub fn exists(name: &str) -> bool {
    interface(name, libc::SIOCGIFINDEX).is_some()
}

/// A descriptor of /dev/net/tun that is one queue of the interface.
fn tun_queue(name: &str, flags: libc::c_int) -> io::Result<File> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    crate::fd::set_nonblocking(&file, true)?;
    let mut r = ifreq(name)?;
    r.ifr_ifru.ifru_flags = (flags | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads the ifreq.
    cvt(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut r) })?;
    Ok(file)
}

/// What crosses it uncut.
fn set_offloads(file: &File) -> io::Result<()> {
    let size: libc::c_int = VNET_HLEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    cvt(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
    let offload = libc::c_ulong::from(libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    cvt(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offload) }).map(drop)
}

/// A packet socket that hears everything on the interface but what it sent itself.
fn packet_socket(name: &str) -> io::Result<File> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain call with integer arguments.
    let fd = cvt(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: `fd` was just made and is nobody else's.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let r = interface(name, libc::SIOCGIFINDEX).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: SIOCGIFINDEX filled the index member.
    let ifindex = unsafe { r.ifr_ifru.ifru_ifindex };
    let option = |name: libc::c_int, value: &[u8]| {
        // SAFETY: `value` is as long as said.
        cvt(unsafe {
            libc::setsockopt(fd, libc::SOL_PACKET, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
        })
        .map(drop)
    };
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    option(libc::PACKET_VNET_HDR, &1i32.to_ne_bytes())?;
    option(PACKET_IGNORE_OUTGOING, &1i32.to_ne_bytes())?;
    // Our card has an address of its own, which the interface would not take frames for (`struct packet_mreq`).
    let mut mreq = [0; 16];
    mreq[..4].copy_from_slice(&ifindex.to_ne_bytes());
    mreq[4..6].copy_from_slice(&(libc::PACKET_MR_PROMISC as u16).to_ne_bytes());
    option(libc::PACKET_ADD_MEMBERSHIP, &mreq)?;
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (at.sll_family, at.sll_protocol, at.sll_ifindex) = (libc::AF_PACKET as u16, all, ifindex);
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `at` is a sockaddr_ll of `len` bytes.
    cvt(unsafe { libc::bind(fd, (&raw const at).cast(), len) })?;
    Ok(file)
}

impl Port {
    /// Attaches to the interface; a TAP or TUN device that there is not is made (CAP_NET_ADMIN) and goes with us. `mac` is that of
    /// the card at our end.
    pub fn open(kind: Kind, name: &str, mac: Mac) -> io::Result<Port> {
        let tun = |flags: libc::c_int| {
            let file = tun_queue(name, flags | libc::IFF_VNET_HDR)?;
            set_offloads(&file).map(|()| file)
        };
        let files = match kind {
            Kind::Tap { queues: 0 | 1 } => vec![tun(libc::IFF_TAP)?],
            Kind::Tap { queues } => {
                let flags = libc::IFF_TAP | libc::IFF_MULTI_QUEUE;
                (0..queues).map(|_| tun(flags)).collect::<io::Result<_>>()?
            }
            Kind::Tun => vec![tun(libc::IFF_TUN)?],
            Kind::Packet => vec![packet_socket(name)?],
        };
        Ok(Port::of(files, name, true, (kind == Kind::Tun).then_some(mac)))
    }

    /// A TAP device without `virtio_net_hdr`: whole frames of wire size.
    pub fn open_plain(name: &str) -> io::Result<Port> {
        Ok(Port::of(vec![tun_queue(name, libc::IFF_TAP)?], name, false, None))
    }

    fn of(files: Vec<File>, name: &str, vnet: bool, bare: Option<Mac>) -> Port {
        Port { files, name: name.to_owned(), vnet, bare, next: 0, buf: vec![0; FRAME_MAX] }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to wait on.
    pub fn queues(&self) -> &[File] {
        &self.files
    }

    /// The interface's address on this machine.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let r = interface(&self.name, libc::SIOCGIFADDR)?;
        // SAFETY: SIOCGIFADDR filled the address member with a sockaddr_in, whose address lies in bytes 2 to 5 of sa_data.
        let data = unsafe { r.ifr_ifru.ifru_addr.sa_data };
        let [_, _, a, b, c, d, ..] = data.map(|x| x as u8);
        Some(Ipv4Addr::new(a, b, c, d))
    }

    /// The interface's global IPv6 address on this machine.
    pub fn address6(&self) -> Option<Ipv6Addr> {
        let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
        table.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (address, _, _, scope) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let global = scope == "00" && words.nth(1)? == self.name;
            u128::from_str_radix(address, 16).ok().filter(|_| global).map(Ipv6Addr::from_bits)
        })
    }

    /// Where this machine itself sends what goes out by the interface to elsewhere.
    pub fn router(&self) -> Option<Ipv4Addr> {
        let table = std::fs::read_to_string("/proc/thread-self/net/route").ok()?;
        table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [dev, "00000000", via, ..] = words.as_slice() else { return None };
            let via = u32::from_str_radix(via, 16).ok().filter(|v| *dev == self.name && *v != 0)?;
            Some(Ipv4Addr::from(via.to_ne_bytes()))
        })
    }

    /// IFF_UP on this machine's side: otherwise nothing crosses.
    pub fn is_up(&self) -> bool {
        // SAFETY: SIOCGIFFLAGS filled the flags member.
        interface(&self.name, libc::SIOCGIFFLAGS)
            .is_some_and(|r| unsafe { r.ifr_ifru.ifru_flags } & libc::IFF_UP as i16 != 0)
    }

    /// The next frame, if one is there: each queue in turn.
    pub fn recv(&mut self) -> io::Result<Option<Frame>> {
        for _ in 0..self.files.len() {
            let at = self.next;
            self.next = (at + 1) % self.files.len();
            if let Some(frame) = self.recv_from(at)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn recv_from(&mut self, queue: usize) -> io::Result<Option<Frame>> {
        let mut header = [0; VNET_HLEN];
        // Where the link layer is not, its header is put.
        let front = if self.bare.is_some() { ETH_HLEN } else { 0 };
        let (Some(file), Some(room)) = (self.files.get_mut(queue), self.buf.get_mut(front..)) else { return Ok(None) };
        let vnet = if self.vnet { &mut header[..] } else { &mut [] };
        let skip = vnet.len();
        let n = match file.read_vectored(&mut [IoSliceMut::new(vnet), IoSliceMut::new(room)]) {
            Ok(n) => n,
            // EINVAL: a super-segment of a kind that virtio does not name; it is gone.
            Err(e) if matches!(errno(&e), libc::EAGAIN | libc::ENETDOWN | libc::EINVAL) => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(len) = n.checked_sub(skip) else { return Ok(None) };
        if let Some(mac) = self.bare {
            let kind = if self.buf.get(ETH_HLEN).is_some_and(|b| b >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
            let ethernet = [&mac.0[..], &FAR_MAC.0[..], &kind[..]].concat();
            self.buf.iter_mut().zip(ethernet).for_each(|(to, b)| *to = b);
        }
        let bytes = self.buf.get(..front + len).unwrap_or(&[]);
        Ok(Some(if self.vnet { received(&header, bytes) } else { Frame::from_bytes(bytes, 0) }))
    }

    /// Sends a frame; false when this machine did not take it (interface down, its queue full).
    pub fn send(&mut self, frame: Frame) -> io::Result<bool> {
        match header(&frame) {
            Some(h) if self.vnet || h == [0; VNET_HLEN] => self.write(h, &frame),
            _ => {
                let mut all = true;
                for piece in gso::segment(frame) {
                    all &= self.write([0; VNET_HLEN], &piece)?;
                }
                Ok(all)
            }
        }
    }

    fn write(&mut self, mut header: [u8; VNET_HLEN], frame: &Frame) -> io::Result<bool> {
        let mut head = frame.head.bytes();
        if self.bare.is_some() {
            // Only IP has a place there: nobody is asked for addresses.
            match head.split_at_checked(ETH_HLEN) {
                Some((ethernet, rest)) if matches!(ethernet.get(12..), Some([8, 0] | [0x86, 0xdd])) => head = rest,
                _ => return Ok(true),
            }
            for at in [2, 6] {
                let offset = u16::from_ne_bytes([header[at], header[at + 1]]).saturating_sub(ETH_HLEN as u16);
                header[at..at + 2].copy_from_slice(&offset.to_ne_bytes());
            }
        }
        let header = if self.vnet { &header[..] } else { &[] };
        let mut parts = vec![IoSlice::new(header), IoSlice::new(head)];
        parts.extend(frame.payload.iter().map(|s| IoSlice::new(s.as_slice())));
        let flat;
        // More pieces than writev(2) takes: one.
        if parts.len() > 1000 {
            flat = frame.to_vec().split_off(frame.head.bytes().len() - head.len());
            parts = vec![IoSlice::new(header), IoSlice::new(&flat)];
        }
        let queue = frame.hash as usize % self.files.len().max(1);
        let Some(file) = self.files.get_mut(queue) else { return Ok(false) };
        match file.write_vectored(&parts) {
            Ok(_) => Ok(true),
            Err(e) if matches!(errno(&e), libc::EAGAIN | libc::EIO | libc::ENOBUFS | libc::ENETDOWN) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Where the transport header begins, and its protocol.
fn transport(bytes: &[u8]) -> Option<(usize, u8)> {
    if bytes.get(12..14)? == [0x86, 0xdd] {
        let t = ipv6::transport(bytes.get(ETH_HLEN..)?).filter(|t| t.frag.is_none())?;
        return Some((ETH_HLEN + t.at, t.proto));
    }
    if bytes.get(12..14)? != [8, 0] {
        return None;
    }
    let ihl = usize::from(bytes.get(ETH_HLEN)? & 15) * 4;
    Some((ETH_HLEN + ihl, *bytes.get(ETH_HLEN + 9)?))
}

/// What is still to be done about a frame, as virtio says it; `None`: cut and finished here.
fn header(frame: &Frame) -> Option<[u8; VNET_HLEN]> {
    let mut h = [0; VNET_HLEN];
    if frame.csum != Csum::Partial && frame.gso.is_none() {
        return Some(h);
    }
    let b = frame.head.bytes();
    let (l4, proto) = transport(b)?;
    let field: u16 = match proto {
        IPPROTO_TCP => 16,
        IPPROTO_UDP => 6,
        _ => return None,
    };
    if let Some(g) = frame.gso {
        if g.is_encapsulated()
            || g.kind == GsoType::UdpL4
            || frame.csum != Csum::Partial
            || frame.len() > usize::from(u16::MAX)
        {
            return None;
        }
        let hlen = l4 + usize::from(b.get(l4 + 12)? >> 4) * 4;
        h[1] = if g.kind == GsoType::TcpV6 { GSO_TCPV6 } else { GSO_TCPV4 };
        h[2..4].copy_from_slice(&(hlen as u16).to_ne_bytes());
        h[4..6].copy_from_slice(&g.size.to_ne_bytes());
    }
    h[0] = NEEDS_CSUM;
    h[6..8].copy_from_slice(&(l4 as u16).to_ne_bytes());
    h[8..10].copy_from_slice(&field.to_ne_bytes());
    Some(h)
}

fn received(h: &[u8; VNET_HLEN], bytes: &[u8]) -> Frame {
    let mut f = Frame::from_bytes(bytes, 0);
    f.csum = match h[0] {
        x if x & NEEDS_CSUM != 0 => Csum::Partial,
        x if x & DATA_VALID != 0 => Csum::Unnecessary,
        _ => Csum::None,
    };
    let size = u16::from_ne_bytes([h[4], h[5]]);
    let kind = match h[1] & 0x7f {
        GSO_TCPV4 => GsoType::TcpV4,
        GSO_TCPV6 => GsoType::TcpV6,
        GSO_UDP_L4 => GsoType::UdpL4,
        _ => return f,
    };
    let payload = transport(bytes).and_then(|(l4, proto)| match (kind, proto) {
        (GsoType::UdpL4, IPPROTO_UDP) => bytes.len().checked_sub(l4 + 8),
        (GsoType::TcpV4 | GsoType::TcpV6, IPPROTO_TCP) => {
            bytes.len().checked_sub(l4 + usize::from(bytes.get(l4 + 12)? >> 4) * 4)
        }
        _ => None,
    });
    if let Some(payload) = payload.filter(|_| size > 0) {
        f.gso = Some(Gso::new(kind, size, payload.div_ceil(usize::from(size)).max(1) as u16));
    }
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame(payload: usize) -> Vec<u8> {
        let mut b = vec![0; ETH_HLEN + 40 + payload];
        b[12] = 8;
        b[ETH_HLEN] = 0x45;
        b[ETH_HLEN + 9] = IPPROTO_TCP;
        b[ETH_HLEN + 32] = 0x50;
        b
    }

    #[test]
    fn what_is_left_to_do_survives_the_way_through_the_header() {
        let mut f = Frame::from_bytes(&tcp_frame(4000), 0);
        assert_eq!(header(&f), Some([0; VNET_HLEN]));
        f.csum = Csum::Partial;
        f.gso = Some(Gso::new(GsoType::TcpV4, 1460, 3));
        let h = header(&f).unwrap();
        let back = received(&h, &f.to_vec());
        assert_eq!((back.csum, back.gso), (f.csum, f.gso));
        // A kind that the device does not know is cut by us.
        f.gso = Some(Gso::new(GsoType::UdpL4, 1460, 3));
        assert_eq!(header(&f), None);
        assert_eq!(received(&[DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 60]).csum, Csum::Unnecessary);
    }

    #[test]
    fn a_name_that_is_too_long_is_no_interface() {
        assert_eq!(errno(&ifreq("a-name-of-sixteen").unwrap_err()), libc::EINVAL);
    }
}
