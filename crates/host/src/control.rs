//! UNIX sockets between `belljar` commands and a supervisor: who is at the other end, and descriptors in messages.
use crate::{cvt, cvt_size};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors in one message: standard streams and a few to spare.
pub const MAX_FDS: usize = 8;

/// The process at the other end of a UNIX socket (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

pub fn peer(s: &impl AsFd) -> io::Result<Peer> {
    let mut c = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let fd = s.as_fd().as_raw_fd();
    // SAFETY: `c` is a ucred and `len` says so.
    cvt(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut c).cast(), &mut len) })?;
    Ok(Peer { pid: c.pid as u32, uid: c.uid, gid: c.gid })
}

// Room for MAX_FDS descriptors, aligned as cmsghdr wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);
const _: () = assert!(size_of::<libc::cmsghdr>() + MAX_FDS * size_of::<RawFd>() <= 64);

/// Sends `bytes` with copies of `fds`; returns the bytes taken. Respects the socket's blocking mode, no SIGPIPE.
pub fn send_fds(s: &impl AsFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let fds = fds.get(..fds.len().min(MAX_FDS)).unwrap_or(&[]);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut m: libc::msghdr = unsafe { std::mem::zeroed() };
    (m.msg_iov, m.msg_iovlen) = (&mut iov, 1);
    if !fds.is_empty() {
        let size = size_of_val(fds) as u32;
        m.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_* compute inside `control`, which has room for MAX_FDS descriptors and is aligned.
        unsafe {
            m.msg_controllen = libc::CMSG_SPACE(size) as _;
            let c = libc::CMSG_FIRSTHDR(&m);
            (*c).cmsg_level = libc::SOL_SOCKET;
            (*c).cmsg_type = libc::SCM_RIGHTS;
            (*c).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(c).cast::<RawFd>(), fds.len());
        }
    }
    // SAFETY: `m` points to `iov` and `control`, which live through the call.
    cvt_size(unsafe { libc::sendmsg(s.as_fd().as_raw_fd(), &m, libc::MSG_NOSIGNAL) })
}

/// Receives into `buf`, and descriptors (close-on-exec) into `fds`. 0 means the other end closed.
pub fn recv_fds(s: &impl AsFd, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid.
    let mut m: libc::msghdr = unsafe { std::mem::zeroed() };
    (m.msg_iov, m.msg_iovlen) = (&mut iov, 1);
    (m.msg_control, m.msg_controllen) = (control.0.as_mut_ptr().cast(), control.0.len() as _);
    // SAFETY: `m` points to `iov` and `control`, which live through the call.
    let n = cvt_size(unsafe { libc::recvmsg(s.as_fd().as_raw_fd(), &mut m, libc::MSG_CMSG_CLOEXEC) })?;
    // SAFETY: the kernel filled `control`; CMSG_* walk inside it; each descriptor is new and ours.
    unsafe {
        let mut c = libc::CMSG_FIRSTHDR(&m);
        while !c.is_null() {
            if (*c).cmsg_level == libc::SOL_SOCKET && (*c).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*c).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(c).cast::<RawFd>();
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            c = libc::CMSG_NXTHDR(&m, c);
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd;

    #[test]
    fn descriptors_travel_in_messages() {
        let (a, b) = fd::pair_stream().unwrap();
        assert_eq!(peer(&a).unwrap().pid, std::process::id());
        let m = fd::memfd("x", b"inside").unwrap();
        assert_eq!(send_fds(&a, b"hello", &[m.as_raw_fd(), m.as_raw_fd()]).unwrap(), 5);
        assert_eq!(send_fds(&a, b"!", &[]).unwrap(), 1);
        let (mut buf, mut fds) = ([0; 32], Vec::new());
        // Bytes after a message with descriptors are never merged into it.
        assert_eq!(recv_fds(&b, &mut buf, &mut fds).unwrap(), 5);
        assert_eq!(fds.len(), 2);
        assert_eq!(fd::read(&fds[1], &mut buf).unwrap(), 6);
        assert_eq!(recv_fds(&b, &mut buf, &mut fds).unwrap(), 1);
        drop(a);
        assert_eq!(recv_fds(&b, &mut buf, &mut fds).unwrap(), 0);
    }
}
