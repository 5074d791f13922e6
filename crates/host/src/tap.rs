//! A TAP device of the machine: Ethernet frames to and from its own kernel, with `virtio_net_hdr`, so that super-segments
//! and unfinished checksums cross uncut in both directions.
use crate::{cvt, errno};
use belljar_wire::ethernet::ETH_HLEN;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use belljar_wire::ipv6;
use belljar_wire::{Csum, Frame, Gso, GsoType, gso};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `struct virtio_net_hdr` without the number of buffers: flags, kind, header length, size, checksum start and offset.
const VNET_HLEN: usize = 10;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Longest frame: a super-segment with its headers.
const FRAME_MAX: usize = 65_536 + 256;

/// See the module.
#[derive(Debug)]
pub struct Tap {
    file: std::fs::File,
    name: String,
    /// Frames come with what is still to be done about them; without, the machine finishes and cuts them itself.
    vnet: bool,
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

impl Tap {
    /// Attaches to the interface; without it one is made (CAP_NET_ADMIN) that goes with us.
    pub fn open(name: &str) -> io::Result<Tap> {
        let tap = Tap::attach(name, true)?;
        let size: libc::c_int = VNET_HLEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        cvt(unsafe { libc::ioctl(tap.file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
        let offload = libc::c_ulong::from(libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        cvt(unsafe { libc::ioctl(tap.file.as_raw_fd(), libc::TUNSETOFFLOAD, offload) })?;
        Ok(tap)
    }

    /// The same without `virtio_net_hdr`: whole frames of wire size.
    pub fn open_plain(name: &str) -> io::Result<Tap> {
        Tap::attach(name, false)
    }

    fn attach(name: &str, vnet: bool) -> io::Result<Tap> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        crate::fd::set_nonblocking(&file, true)?;
        let mut r = ifreq(name)?;
        let header = if vnet { libc::IFF_VNET_HDR } else { 0 };
        r.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | header) as libc::c_short;
        // SAFETY: TUNSETIFF reads the ifreq.
        cvt(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut r) })?;
        Ok(Tap { file, name: name.to_owned(), vnet, buf: vec![0; FRAME_MAX + VNET_HLEN] })
    }

    pub fn name(&self) -> &str {
        &self.name
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

    /// IFF_UP on this machine's side: otherwise nothing crosses.
    pub fn is_up(&self) -> bool {
        // SAFETY: SIOCGIFFLAGS filled the flags member.
        interface(&self.name, libc::SIOCGIFFLAGS)
            .is_some_and(|r| unsafe { r.ifr_ifru.ifru_flags } & libc::IFF_UP as i16 != 0)
    }

    /// The next frame, if one is there.
    pub fn recv(&mut self) -> io::Result<Option<Frame>> {
        let n = match self.file.read(&mut self.buf) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        };
        let b = self.buf.get(..n).unwrap_or(&[]);
        if !self.vnet {
            return Ok(Some(Frame::from_bytes(b, 0)));
        }
        Ok(b.split_first_chunk::<VNET_HLEN>().map(|(h, bytes)| received(h, bytes)))
    }

    /// Sends a frame; false when this machine did not take it (interface down, its queue full).
    pub fn send(&mut self, frame: Frame) -> io::Result<bool> {
        match header(&frame) {
            Some(h) if self.vnet || h == [0; VNET_HLEN] => self.write(&h, &frame),
            _ => {
                let mut all = true;
                for piece in gso::segment(frame) {
                    all &= self.write(&[0; VNET_HLEN], &piece)?;
                }
                Ok(all)
            }
        }
    }

    fn write(&mut self, header: &[u8; VNET_HLEN], frame: &Frame) -> io::Result<bool> {
        let header = if self.vnet { &header[..] } else { &[] };
        let mut parts = vec![IoSlice::new(header), IoSlice::new(frame.head.bytes())];
        parts.extend(frame.payload.iter().map(|s| IoSlice::new(s.as_slice())));
        let flat;
        // More pieces than writev(2) takes: one.
        if parts.len() > 1000 {
            flat = frame.to_vec();
            parts = vec![IoSlice::new(header), IoSlice::new(&flat)];
        }
        match self.file.write_vectored(&parts) {
            Ok(_) => Ok(true),
            Err(e) if matches!(errno(&e), libc::EAGAIN | libc::EIO | libc::ENOBUFS) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
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
        if g.kind == GsoType::UdpL4 || frame.csum != Csum::Partial || frame.len() > usize::from(u16::MAX) {
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
    if matches!(h[1] & 0x7f, GSO_TCPV4 | GSO_TCPV6)
        && size > 0
        && let Some((l4, IPPROTO_TCP)) = transport(bytes)
        && let Some(offset) = bytes.get(l4 + 12)
    {
        let payload = bytes.len().saturating_sub(l4 + usize::from(offset >> 4) * 4);
        let kind = if h[1] & 0x7f == GSO_TCPV6 { GsoType::TcpV6 } else { GsoType::TcpV4 };
        f.gso = Some(Gso { kind, size, segs: payload.div_ceil(usize::from(size)).max(1) as u16 });
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
        f.gso = Some(Gso { kind: GsoType::TcpV4, size: 1460, segs: 3 });
        let h = header(&f).unwrap();
        let back = received(&h, &f.to_vec());
        assert_eq!((back.csum, back.gso), (f.csum, f.gso));
        // A kind that the device does not know is cut by us.
        f.gso = Some(Gso { kind: GsoType::UdpL4, size: 1460, segs: 3 });
        assert_eq!(header(&f), None);
        assert_eq!(received(&[DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 60]).csum, Csum::Unnecessary);
    }

    #[test]
    fn a_name_that_is_too_long_is_no_interface() {
        assert_eq!(errno(&ifreq("a-name-of-sixteen").unwrap_err()), libc::EINVAL);
    }
}
