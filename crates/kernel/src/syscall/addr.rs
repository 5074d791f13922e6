//! Addresses as programs give and see them. An AF_INET6 socket reaches IPv4 through mapped addresses, which below are IPv4
//! addresses.
use crate::net::core::sock::{Family, Sock};
use belljar_abi::sockaddr::{SIN6_LEN_RFC2133, SOCKADDR_IN_LEN, SOCKADDR_STORAGE_LEN};
use belljar_abi::{AF_INET, AF_INET6, AF_UNSPEC, Errno, SockAddr};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn family(bytes: &[u8]) -> Result<i32, Errno> {
    let b: [u8; 2] = bytes.first_chunk().copied().ok_or(Errno::EINVAL)?;
    Ok(i32::from(u16::from_ne_bytes(b)))
}

fn too_long(bytes: &[u8]) -> Result<(), Errno> {
    if bytes.len() > SOCKADDR_STORAGE_LEN { Err(Errno::EINVAL) } else { Ok(()) }
}

/// A mapped address on a socket that is IPv6 only.
fn foreign(sk: &Sock, to: &SockAddr) -> bool {
    sk.flags.ipv6only && to.to_v4().is_some()
}

/// The address of bind(2), of the socket's family.
pub(super) fn for_bind(sk: &Sock, bytes: &[u8]) -> Result<SockAddr, Errno> {
    too_long(bytes)?;
    match sk.family {
        Family::Inet if bytes.len() < SOCKADDR_IN_LEN => Err(Errno::EINVAL),
        Family::Inet => match SockAddr::parse_for_bind4(bytes)? {
            a @ SockAddr::V4(..) => Ok(a),
            _ => Err(Errno::EAFNOSUPPORT),
        },
        Family::Inet6 if bytes.len() < SIN6_LEN_RFC2133 => Err(Errno::EINVAL),
        Family::Inet6 => match SockAddr::parse(bytes)? {
            a @ SockAddr::V6 { .. } if foreign(sk, &a) => Err(Errno::EINVAL),
            a @ SockAddr::V6 { .. } => Ok(a),
            _ => Err(Errno::EAFNOSUPPORT),
        },
    }
}

/// The address of connect(2), or `Unspec` to dissolve the association.
pub(super) fn for_connect(sk: &Sock, bytes: &[u8], stream: bool) -> Result<SockAddr, Errno> {
    too_long(bytes)?;
    match (sk.family, family(bytes)?) {
        (_, AF_UNSPEC) => Ok(SockAddr::Unspec),
        (Family::Inet, _) if bytes.len() < SOCKADDR_IN_LEN => Err(Errno::EINVAL),
        (Family::Inet, AF_INET) => SockAddr::parse(bytes),
        // A datagram socket takes plain IPv4 addresses too.
        (Family::Inet6, AF_INET) if !stream && !sk.flags.ipv6only => SockAddr::parse(bytes),
        (Family::Inet6, _) if bytes.len() < SIN6_LEN_RFC2133 => Err(Errno::EINVAL),
        (Family::Inet6, AF_INET6) => match SockAddr::parse(bytes)? {
            // `::` is this host: the loopback address of the family that the socket is bound in.
            SockAddr::V6 { addr: Ipv6Addr::UNSPECIFIED, port, .. } => Ok(this_host(sk, port)),
            a @ SockAddr::V6 { .. } if foreign(sk, &a) => Err(Errno::ENETUNREACH),
            a @ SockAddr::V6 { .. } => Ok(a),
            _ => Err(Errno::EAFNOSUPPORT),
        },
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Bound to a mapped address, the socket speaks IPv4.
fn this_host(sk: &Sock, port: u16) -> SockAddr {
    match sk.rcv_saddr {
        IpAddr::V4(_) => SockAddr::V4(Ipv4Addr::LOCALHOST, port),
        IpAddr::V6(_) => SockAddr::v6(Ipv6Addr::LOCALHOST, port),
    }
}

/// The address of a datagram; `None` is the connected peer.
pub(super) fn for_send(sk: &Sock, bytes: &[u8]) -> Result<Option<SockAddr>, Errno> {
    too_long(bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match (sk.family, family(bytes)?) {
        (Family::Inet, _) if bytes.len() < SOCKADDR_IN_LEN => Err(Errno::EINVAL),
        (Family::Inet, AF_INET | AF_UNSPEC) => v4(bytes).map(Some),
        (Family::Inet, _) => Err(Errno::EAFNOSUPPORT),
        (Family::Inet6, AF_UNSPEC) => Ok(None),
        (Family::Inet6, AF_INET) if sk.flags.ipv6only => Err(Errno::ENETUNREACH),
        (Family::Inet6, AF_INET) => v4(bytes).map(Some),
        (Family::Inet6, AF_INET6) => match SockAddr::parse(bytes)? {
            SockAddr::V6 { addr: Ipv6Addr::UNSPECIFIED, port, .. } => Ok(Some(this_host(sk, port))),
            a @ SockAddr::V6 { .. } if foreign(sk, &a) => Err(Errno::ENETUNREACH),
            a @ SockAddr::V6 { .. } => Ok(Some(a)),
            _ => Err(Errno::EINVAL),
        },
        (Family::Inet6, _) => Err(Errno::EINVAL),
    }
}

/// Reads the IPv4 fields whatever the family says: a datagram's AF_UNSPEC means AF_INET.
fn v4(bytes: &[u8]) -> Result<SockAddr, Errno> {
    let b: &[u8; 8] = bytes.get(..SOCKADDR_IN_LEN).and_then(|b| b.first_chunk()).ok_or(Errno::EINVAL)?;
    let [_, _, p0, p1, a0, a1, a2, a3] = *b;
    Ok(SockAddr::V4(Ipv4Addr::new(a0, a1, a2, a3), u16::from_be_bytes([p0, p1])))
}

/// An address of the stack as the program of this socket sees it; `ifindex` goes with a link-local one.
pub(super) fn shown(family: Family, addr: SockAddr, ifindex: u32) -> SockAddr {
    match (family, addr) {
        (Family::Inet, _) => addr,
        (Family::Inet6, SockAddr::V6 { addr, port, flowinfo, .. }) => {
            let scope = if belljar_wire::ipv6::needs_scope(addr) { ifindex } else { 0 };
            SockAddr::V6 { addr, port, flowinfo, scope }
        }
        (Family::Inet6, _) => addr.to_mapped(),
    }
}
