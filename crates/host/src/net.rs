//! Sockets of the machine itself, for the gateway: what outside clients and servers talk to. Non-blocking, close-on-exec.
//!
//! `std` does the rest; here stands what it cannot do: a connect that does not wait, a long listen queue, a close by RST.
use crate::{cvt, fd};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Listen queue of published ports: longer than anything the stack inside is likely to have, capped by somaxconn.
const BACKLOG: libc::c_int = 4096;

fn sockaddr4(a: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: an all-zero sockaddr_in is valid.
    let mut s: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    s.sin_family = libc::AF_INET as libc::sa_family_t;
    s.sin_port = a.port().to_be();
    s.sin_addr.s_addr = u32::from_ne_bytes(a.ip().octets());
    s
}

fn sockaddr6(a: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: an all-zero sockaddr_in6 is valid.
    let mut s: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    s.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    s.sin6_port = a.port().to_be();
    s.sin6_addr.s6_addr = a.ip().octets();
    s.sin6_scope_id = a.scope_id();
    s
}

/// Begins a TCP connection without Nagle's delay. The result comes with EPOLLOUT and [`connect_result`]; an error that is
/// known at once (unreachable, refused by a local server) comes here.
pub fn tcp_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain call with integer arguments.
    let raw = cvt(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: `raw` was just created for us.
    let s = unsafe { OwnedFd::from_raw_fd(raw) };
    fd::set_opt(&s, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    let connected = match to {
        SocketAddr::V4(to) => {
            let (sa, len) = (sockaddr4(to), size_of::<libc::sockaddr_in>() as libc::socklen_t);
            // SAFETY: `sa` is a sockaddr_in of `len` bytes.
            unsafe { libc::connect(raw, (&raw const sa).cast(), len) }
        }
        SocketAddr::V6(to) => {
            let (sa, len) = (sockaddr6(to), size_of::<libc::sockaddr_in6>() as libc::socklen_t);
            // SAFETY: `sa` is a sockaddr_in6 of `len` bytes.
            unsafe { libc::connect(raw, (&raw const sa).cast(), len) }
        }
    };
    match cvt(connected) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from(s)),
    }
}

/// Whether this machine has a way to the IPv6 internet. Nothing is sent.
pub fn has_ipv6() -> bool {
    let probe = SocketAddr::from((std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1), 9));
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    UdpSocket::bind(any).and_then(|s| s.connect(probe)).is_ok()
}

/// After EPOLLOUT: the outcome of [`tcp_connect`].
pub fn connect_result(s: &TcpStream) -> io::Result<()> {
    match fd::take_error(s) {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

/// Listens for a published TCP port.
pub fn tcp_listen(at: SocketAddr) -> io::Result<TcpListener> {
    let l = TcpListener::bind(at)?;
    // SAFETY: listen(2) again only changes the length of the queue.
    cvt(unsafe { libc::listen(l.as_raw_fd(), BACKLOG) })?;
    l.set_nonblocking(true)?;
    // Clients inherit it (tcp(7)).
    fd::set_opt(&l, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(l)
}

/// The next client of [`tcp_listen`], non-blocking; its address is not asked for.
pub fn accept(l: &TcpListener) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: without room for an address the kernel stores none.
    let fd = cvt(unsafe { libc::accept4(l.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) })?;
    // SAFETY: accept4 just made this descriptor for us.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A UDP socket bound to `at`.
pub fn udp_bind(at: SocketAddr) -> io::Result<UdpSocket> {
    let s = UdpSocket::bind(at)?;
    s.set_nonblocking(true)?;
    Ok(s)
}

/// The next close of `s` sends RST (SO_LINGER with 0 seconds).
pub fn reset_on_close(s: &TcpStream) {
    let l = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: `l` is a linger of `len` bytes.
    unsafe { libc::setsockopt(s.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const l).cast(), len) };
}

/// Bytes sent and not yet acknowledged by the peer (SIOCOUTQ).
pub fn unsent(s: &impl AsFd) -> usize {
    fd::unacked(s).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoll;

    #[test]
    fn connects_without_waiting() {
        // An address where no other test listens, when this one does not any more.
        let l = tcp_listen("127.66.0.1:0".parse().unwrap()).unwrap();
        let at = l.local_addr().unwrap();
        let c = tcp_connect(at).unwrap();
        assert!(epoll::ready_now(&c, epoll::OUT));
        connect_result(&c).unwrap();
        let (s, _) = l.accept().unwrap();
        reset_on_close(&s);
        drop(s);
        assert_eq!(fd::take_error(&c), libc::ECONNRESET);
        drop(l);
        let refused = tcp_connect(at).and_then(|c| connect_result(&c));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }
}
