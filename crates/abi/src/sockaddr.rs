//! [`SockAddr`]: `sockaddr_in`, `sockaddr_in6`, `sockaddr_nl` and `sockaddr_ll` as values, with the kernel's checks of length
//! and family.
//!
//! AF_UNIX addresses are not here.
use crate::Errno;
use crate::packet::LinkAddr;
use crate::socket::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNSPEC};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

pub const SOCKADDR_IN_LEN: usize = 16;
pub const SOCKADDR_IN6_LEN: usize = 28;
/// Without `sin6_scope_id`: still accepted (RFC 2133).
pub const SIN6_LEN_RFC2133: usize = 24;
pub const SOCKADDR_NL_LEN: usize = 12;
/// sizeof(struct sockaddr_storage): longer addresses are EINVAL everywhere.
pub const SOCKADDR_STORAGE_LEN: usize = 128;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SockAddr {
    /// AF_UNSPEC: in connect(2), dissolves the association.
    #[default]
    Unspec,
    V4(Ipv4Addr, u16),
    V6 {
        addr: Ipv6Addr,
        port: u16,
        /// In the order of the bytes on the wire.
        flowinfo: u32,
        scope: u32,
    },
    Netlink {
        pid: u32,
        groups: u32,
    },
    Link(LinkAddr),
}

/// An address as the bytes that a program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockAddrBytes {
    buf: [u8; SOCKADDR_IN6_LEN],
    len: u8,
}

impl std::ops::Deref for SockAddrBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[..self.len as usize]
    }
}

fn part<const N: usize>(b: &[u8], at: usize) -> Result<[u8; N], Errno> {
    b.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or(Errno::EINVAL)
}

impl SockAddr {
    /// EINVAL for a length that cannot be, EAFNOSUPPORT for a family that is not ours.
    pub fn parse(b: &[u8]) -> Result<SockAddr, Errno> {
        if b.len() > SOCKADDR_STORAGE_LEN {
            return Err(Errno::EINVAL);
        }
        match u16::from_ne_bytes(part(b, 0)?) as i32 {
            AF_UNSPEC => Ok(SockAddr::Unspec),
            AF_INET if b.len() < SOCKADDR_IN_LEN => Err(Errno::EINVAL),
            AF_INET => Ok(SockAddr::V4(Ipv4Addr::from(part::<4>(b, 4)?), u16::from_be_bytes(part(b, 2)?))),
            AF_INET6 if b.len() < SIN6_LEN_RFC2133 => Err(Errno::EINVAL),
            AF_INET6 => Ok(SockAddr::V6 {
                addr: Ipv6Addr::from(part::<16>(b, 8)?),
                port: u16::from_be_bytes(part(b, 2)?),
                flowinfo: u32::from_be_bytes(part(b, 4)?),
                scope: part(b, 24).map_or(0, u32::from_ne_bytes),
            }),
            AF_NETLINK if b.len() < SOCKADDR_NL_LEN => Err(Errno::EINVAL),
            AF_NETLINK => {
                Ok(SockAddr::Netlink { pid: u32::from_ne_bytes(part(b, 4)?), groups: u32::from_ne_bytes(part(b, 8)?) })
            }
            AF_PACKET => LinkAddr::parse(b).map(SockAddr::Link),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// As bind(2) on an IPv4 socket reads it: AF_UNSPEC with the address 0.0.0.0 counts as AF_INET (programs rely on
    /// it), with another address it is EAFNOSUPPORT.
    pub fn parse_for_bind4(b: &[u8]) -> Result<SockAddr, Errno> {
        let family = i32::from(u16::from_ne_bytes(part(b, 0)?));
        if family != AF_INET && family != AF_UNSPEC {
            return Err(Errno::EAFNOSUPPORT);
        }
        match SockAddr::parse(b)? {
            SockAddr::Unspec if b.len() < SOCKADDR_IN_LEN => Err(Errno::EINVAL),
            SockAddr::Unspec if part::<4>(b, 4)? == [0; 4] => {
                Ok(SockAddr::V4(Ipv4Addr::UNSPECIFIED, u16::from_be_bytes(part(b, 2)?)))
            }
            SockAddr::Unspec => Err(Errno::EAFNOSUPPORT),
            other => Ok(other),
        }
    }

    pub fn emit(&self) -> SockAddrBytes {
        let mut buf = [0; SOCKADDR_IN6_LEN];
        buf[..2].copy_from_slice(&(self.family() as u16).to_ne_bytes());
        let len = match self {
            SockAddr::Unspec => SOCKADDR_IN_LEN,
            SockAddr::V4(addr, port) => {
                buf[2..4].copy_from_slice(&port.to_be_bytes());
                buf[4..8].copy_from_slice(&addr.octets());
                SOCKADDR_IN_LEN
            }
            SockAddr::V6 { addr, port, flowinfo, scope } => {
                buf[2..4].copy_from_slice(&port.to_be_bytes());
                buf[4..8].copy_from_slice(&flowinfo.to_be_bytes());
                buf[8..24].copy_from_slice(&addr.octets());
                buf[24..].copy_from_slice(&scope.to_ne_bytes());
                SOCKADDR_IN6_LEN
            }
            SockAddr::Netlink { pid, groups } => {
                buf[4..8].copy_from_slice(&pid.to_ne_bytes());
                buf[8..12].copy_from_slice(&groups.to_ne_bytes());
                SOCKADDR_NL_LEN
            }
            SockAddr::Link(a) => {
                buf[..crate::packet::SOCKADDR_LL_LEN].copy_from_slice(&a.emit());
                a.shown()
            }
        };
        SockAddrBytes { buf, len: len as u8 }
    }

    /// The IPv6 address without flow label and scope.
    pub fn v6(addr: Ipv6Addr, port: u16) -> SockAddr {
        SockAddr::V6 { addr, port, flowinfo: 0, scope: 0 }
    }

    /// An address of either family, without flow label and scope.
    pub fn ip(addr: IpAddr, port: u16) -> SockAddr {
        match addr {
            IpAddr::V4(a) => SockAddr::V4(a, port),
            IpAddr::V6(a) => SockAddr::v6(a, port),
        }
    }

    /// Address and port; `::ffff:a.b.c.d` is the IPv4 address.
    pub fn to_ip(&self) -> Option<(IpAddr, u16)> {
        match self {
            SockAddr::V4(addr, port) => Some(((*addr).into(), *port)),
            SockAddr::V6 { addr, port, .. } => {
                Some((addr.to_ipv4_mapped().map_or(IpAddr::V6(*addr), IpAddr::V4), *port))
            }
            _ => None,
        }
    }

    /// The interface that a link-local address is on, 0 when none is named.
    pub fn scope(&self) -> u32 {
        if let SockAddr::V6 { scope, .. } = self { *scope } else { 0 }
    }

    pub fn family(&self) -> i32 {
        match self {
            SockAddr::Unspec => AF_UNSPEC,
            SockAddr::V4(..) => AF_INET,
            SockAddr::V6 { .. } => AF_INET6,
            SockAddr::Netlink { .. } => AF_NETLINK,
            SockAddr::Link(_) => AF_PACKET,
        }
    }

    pub fn port(&self) -> Option<u16> {
        match self {
            SockAddr::V4(_, port) | SockAddr::V6 { port, .. } => Some(*port),
            _ => None,
        }
    }

    /// IPv4 address and port, also of `::ffff:a.b.c.d`.
    pub fn to_v4(&self) -> Option<(Ipv4Addr, u16)> {
        match self {
            SockAddr::V4(addr, port) => Some((*addr, *port)),
            SockAddr::V6 { addr, port, .. } => Some((addr.to_ipv4_mapped()?, *port)),
            _ => None,
        }
    }

    /// What an AF_INET6 socket shows for an IPv4 address: `::ffff:a.b.c.d`, and `::` for 0.0.0.0.
    pub fn to_mapped(self) -> SockAddr {
        match self {
            SockAddr::V4(Ipv4Addr::UNSPECIFIED, port) => SockAddr::v6(Ipv6Addr::UNSPECIFIED, port),
            SockAddr::V4(addr, port) => SockAddr::v6(addr.to_ipv6_mapped(), port),
            other => other,
        }
    }
}

impl fmt::Display for SockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SockAddr::Unspec => f.write_str("unspec"),
            SockAddr::V4(addr, port) => write!(f, "{addr}:{port}"),
            SockAddr::V6 { addr, port, scope: 0, .. } => write!(f, "[{addr}]:{port}"),
            SockAddr::V6 { addr, port, scope, .. } => write!(f, "[{addr}%{scope}]:{port}"),
            SockAddr::Netlink { pid, groups } => write!(f, "netlink:{pid}/{groups:#x}"),
            SockAddr::Link(a) => write!(f, "packet:{:#06x}%{}", a.protocol, a.ifindex),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round() {
        let v4 = SockAddr::V4(Ipv4Addr::new(10, 0, 2, 15), 8080);
        let v6 = SockAddr::V6 { addr: Ipv6Addr::LOCALHOST, port: 80, flowinfo: 0x12345, scope: 3 };
        let link =
            LinkAddr { protocol: 0x800, ifindex: 2, hatype: 1, pkttype: 4, halen: 6, addr: [7; 8], short: false };
        for a in [SockAddr::Unspec, v4, v6, SockAddr::Netlink { pid: 7, groups: 0x11 }, SockAddr::Link(link)] {
            assert_eq!(SockAddr::parse(&a.emit()), Ok(a), "{a}");
        }
        // Thirteen bytes of hardware address, of which eight are kept.
        let mut long = [SockAddr::Link(link).emit().to_vec(), vec![7; 5]].concat();
        long[11] = 13;
        assert_eq!(SockAddr::parse(&long), Ok(SockAddr::Link(LinkAddr { halen: 8, ..link })));
        assert_eq!(SockAddr::Link(LinkAddr { short: true, ..link }).emit().len(), 18);
        assert_eq!(v4.emit()[2..8], [0x1f, 0x90, 10, 0, 2, 15]);
        assert_eq!((v4.to_string(), v6.to_string()), ("10.0.2.15:8080".into(), "[::1%3]:80".into()));
        assert_eq!(v4.to_mapped().to_v4(), Some((Ipv4Addr::new(10, 0, 2, 15), 8080)));
        assert_eq!(v4.to_mapped().to_string(), "[::ffff:10.0.2.15]:8080");
    }

    #[test]
    fn lengths_and_families_are_checked_as_linux_does() {
        let v4 = SockAddr::V4(Ipv4Addr::LOCALHOST, 1).emit();
        assert_eq!(SockAddr::parse(&v4[..15]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::parse(&[]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::parse(&[0; 129]), Err(Errno::EINVAL));
        assert_eq!(SockAddr::parse(&SockAddr::v6(Ipv6Addr::LOCALHOST, 1).emit()[..23]), Err(Errno::EINVAL));
        assert!(SockAddr::parse(&SockAddr::v6(Ipv6Addr::LOCALHOST, 1).emit()[..24]).is_ok());
        assert_eq!(SockAddr::parse(&[1, 0, b'/', 0]), Err(Errno::EAFNOSUPPORT));
        let mut b = [0u8; 16];
        b[3] = 80;
        assert_eq!(SockAddr::parse_for_bind4(&b), Ok(SockAddr::V4(Ipv4Addr::UNSPECIFIED, 80)));
        let mut six = b;
        six[0] = AF_INET6 as u8;
        assert_eq!(SockAddr::parse_for_bind4(&six), Err(Errno::EAFNOSUPPORT));
        b[4] = 127;
        assert_eq!(SockAddr::parse_for_bind4(&b), Err(Errno::EAFNOSUPPORT));
    }
}
