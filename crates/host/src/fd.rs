//! Descriptors: pairs, pipes, memfds, counts of queued bytes, scatter reads and writes. Everything is close-on-exec.
use crate::{cvt, cvt_size};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a descriptor that a system call just created for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn pair(kind: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut sv = [-1; 2];
    // SAFETY: `sv` has room for two descriptors.
    cvt(unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, sv.as_mut_ptr()) })?;
    Ok((own(sv[0]), own(sv[1])))
}

/// An AF_UNIX stream pair, both ends blocking.
pub fn pair_stream() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_STREAM)
}

/// An AF_UNIX stream pair, both ends non-blocking.
pub fn pair_stream_nonblocking() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)
}

/// An AF_UNIX SEQPACKET pair: records, and HUP at the last close.
pub fn pair_seqpacket() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(libc::SOCK_SEQPACKET)
}

/// An AF_UNIX stream socket that is connected to nothing: reading and writing are refused.
pub fn loose_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain call with integer arguments.
    cvt(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) }).map(own)
}

/// A pipe: (read end, write end).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut p = [-1; 2];
    // SAFETY: `p` has room for two descriptors.
    cvt(unsafe { libc::pipe2(p.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(p[0]), own(p[1])))
}

/// An anonymous file with `contents`, positioned at its beginning.
pub fn memfd(name: &str, contents: &[u8]) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: `name` is a C string that lives through the call.
    let fd = own(cvt(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?);
    let mut at = 0;
    while let Some(rest) = contents.get(at..).filter(|r| !r.is_empty()) {
        at += write(&fd, rest)?;
    }
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) };
    Ok(fd)
}

/// Memory of a fixed length that can be mapped and shared; its length is sealed.
pub fn memfd_sealed(name: &str, len: u64) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: `name` is a C string that lives through the call.
    let made = cvt(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) })?;
    let fd = own(made);
    // SAFETY: plain calls on an open descriptor with integer arguments.
    cvt(unsafe { libc::ftruncate(fd.as_raw_fd(), len) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: as above.
    cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

fn flags(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: plain call on an open descriptor.
    cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// True when O_NONBLOCK is set on the open file.
pub fn is_nonblocking(fd: &impl AsFd) -> bool {
    flags(fd.as_fd()).is_ok_and(|f| f & libc::O_NONBLOCK != 0)
}

pub fn set_nonblocking(fd: &impl AsFd, on: bool) -> io::Result<()> {
    let old = flags(fd.as_fd())?;
    let new = if on { old | libc::O_NONBLOCK } else { old & !libc::O_NONBLOCK };
    if new == old {
        return Ok(());
    }
    // SAFETY: plain call on an open descriptor.
    cvt(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFL, new) }).map(drop)
}

/// Device and inode number of what `fd` is open on.
pub fn identity(fd: &impl AsFd) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let m = std::fs::File::from(dup(fd)?).metadata()?;
    Ok((m.dev(), m.ino()))
}

/// The inode number of what `fd` is open on.
pub fn inode(fd: &impl AsFd) -> io::Result<u64> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `st` has room for a stat; it is read only after success.
    cvt(unsafe { libc::fstat(fd.as_fd().as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded and filled it.
    Ok(unsafe { st.assume_init() }.st_ino)
}

/// The inode number when `fd` is a socket.
pub fn socket_inode(fd: &impl AsFd) -> io::Result<Option<u64>> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `st` has room for a stat; it is read only after success.
    cvt(unsafe { libc::fstat(fd.as_fd().as_raw_fd(), st.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded and filled it.
    let st = unsafe { st.assume_init() };
    Ok((st.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(st.st_ino))
}

/// A descriptor that becomes readable when somebody changes the file behind `fd` ([`changed`]).
pub fn watch_changes(fd: &impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: plain call with integer arguments.
    let watch = own(cvt(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))?;
    // SAFETY: `path` is a C string that lives through the call.
    cvt(unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) })?;
    Ok(watch)
}

/// Whether the file of [`watch_changes`] was changed since the last question.
pub fn changed(watch: &impl AsFd) -> bool {
    let (mut any, mut events) = (false, [0; 1024]);
    while read(watch, &mut events).is_ok_and(|n| n > 0) {
        any = true;
    }
    any
}

fn queue(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: both requests store one int.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), request, &mut n) })?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Unread bytes at this end (FIONREAD); for SEQPACKET the size of the first record.
pub fn inq(fd: &impl AsFd) -> io::Result<usize> {
    queue(fd.as_fd(), libc::FIONREAD)
}

/// Kernel memory of what this end of a pair sent and the other has not read: 0 means all read, other values are not payload.
///
/// The host kernel tells of room while it still holds one byte of the record that was read (`sock_wfree`). Whoever looks
/// at that moment hears of it no second time, so what is smaller than any record counts as nothing.
pub fn outq(fd: &impl AsFd) -> io::Result<usize> {
    const RECORD_MIN: usize = 64;
    Ok(unacked(fd)? / RECORD_MIN * RECORD_MIN)
}

/// Bytes of a TCP socket that the peer has not acknowledged (SIOCOUTQ).
pub fn unacked(fd: &impl AsFd) -> io::Result<usize> {
    queue(fd.as_fd(), libc::TIOCOUTQ)
}

fn set_int(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (p, len) = ((&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` is an int of the given size.
    cvt(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, p, len) }).map(drop)
}

/// SO_SNDBUF of one end of a pair.
pub fn set_sndbuf(fd: &impl AsFd, bytes: usize) -> io::Result<()> {
    set_int(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, bytes.min(i32::MAX as usize) as libc::c_int)
}

/// A socket option of type int; for the gateway's own sockets.
pub fn set_opt(fd: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_int(fd.as_fd(), level, name, value)
}

/// A socket option as bytes, for what a program set on its own end.
pub fn set_opt_bytes(fd: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (p, len) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: pointer and length describe `value`.
    cvt(unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, p, len) }).map(drop)
}

pub fn write(fd: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`.
    cvt_size(unsafe { libc::write(fd.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

pub fn read(fd: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `buf`.
    cvt_size(unsafe { libc::read(fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })
}

/// Sends without blocking and without SIGPIPE, from several pieces (at most 1024 are used).
pub fn send_vectored(fd: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    sendmsg(fd, bufs, 0)
}

/// [`send_vectored`] of what has something right behind it: the kernel may wait for that with the last packet.
pub fn send_more(fd: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    sendmsg(fd, bufs, libc::MSG_MORE)
}

fn sendmsg(fd: &impl AsFd, bufs: &[IoSlice<'_>], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is valid.
    let mut m: libc::msghdr = unsafe { std::mem::zeroed() };
    m.msg_iov = bufs.as_ptr().cast_mut().cast();
    m.msg_iovlen = bufs.len().min(1024) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | flags;
    // SAFETY: IoSlice has the layout of iovec, and the slices live through the call.
    cvt_size(unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &m, flags) })
}

/// [`send_vectored`] of one piece.
pub fn send(fd: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length describe `bytes`.
    cvt_size(unsafe { libc::send(fd.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// [`send`] of urgent bytes: the last of them is one to AF_UNIX as well (Linux 5.15, where it is configured).
pub fn send_oob(fd: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_OOB;
    // SAFETY: pointer and length describe `bytes`.
    let sent = cvt_size(unsafe { libc::send(fd.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) });
    match sent {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => send(fd, bytes),
        sent => sent,
    }
}

/// Takes the urgent byte, if there is one, or only looks at it.
pub fn recv_oob(fd: &impl AsFd, peek: bool) -> io::Result<u8> {
    let mut one = [0u8; 1];
    let flags = libc::MSG_DONTWAIT | libc::MSG_OOB | if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: pointer and length describe `one`.
    match cvt_size(unsafe { libc::recv(fd.as_fd().as_raw_fd(), one.as_mut_ptr().cast(), 1, flags) })? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(one[0]),
    }
}

/// Receives without blocking into several pieces.
pub fn recv_vectored(fd: &impl AsFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is valid.
    let mut m: libc::msghdr = unsafe { std::mem::zeroed() };
    m.msg_iov = bufs.as_mut_ptr().cast();
    m.msg_iovlen = bufs.len().min(1024) as _;
    // SAFETY: IoSliceMut has the layout of iovec, and the slices live through the call.
    cvt_size(unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &mut m, libc::MSG_DONTWAIT) })
}

/// Receives without blocking.
pub fn recv(fd: &impl AsFd, buf: &mut [u8], peek: bool) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: pointer and length describe `buf`.
    cvt_size(unsafe { libc::recv(fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) })
}

/// Appends up to `max` bytes from `fd` to `buf` without blocking and without clearing the room first.
pub fn recv_append(fd: &impl AsFd, buf: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    buf.reserve(max);
    let room = buf.spare_capacity_mut();
    let len = room.len().min(max);
    // SAFETY: `len` bytes at the pointer belong to the vector's spare room.
    let n = cvt_size(unsafe { libc::recv(fd.as_fd().as_raw_fd(), room.as_mut_ptr().cast(), len, libc::MSG_DONTWAIT) })?;
    // SAFETY: the kernel initialised `n` bytes, and `n <= len`.
    unsafe { buf.set_len(buf.len() + n.min(len)) };
    Ok(n)
}

/// Which half of a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Read,
    Write,
    Both,
}

pub fn shutdown(fd: &impl AsFd, how: Half) -> io::Result<()> {
    let how = match how {
        Half::Read => libc::SHUT_RD,
        Half::Write => libc::SHUT_WR,
        Half::Both => libc::SHUT_RDWR,
    };
    // SAFETY: plain call on an open descriptor.
    cvt(unsafe { libc::shutdown(fd.as_fd().as_raw_fd(), how) }).map(drop)
}

/// Takes the pending error of a socket (SO_ERROR), 0 when none.
pub fn take_error(fd: &impl AsFd) -> i32 {
    get_opt(fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or_else(|e| crate::errno(&e))
}

/// A socket option of type int.
pub fn get_opt(fd: &impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    let (mut v, mut len): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `v` is an int and `len` says so.
    cvt(unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), level, name, (&raw mut v).cast(), &mut len) })?;
    Ok(v)
}

/// Another descriptor of the same open file.
pub fn dup(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

/// (soft, hard) limit of open descriptors.
pub fn nofile() -> (u64, u64) {
    let mut r = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: `r` is a valid rlimit to fill.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut r) };
    (r.rlim_cur, r.rlim_max)
}

/// Raises the soft limit of open descriptors to the hard one; returns what it was.
pub fn raise_nofile() -> (u64, u64) {
    let old = nofile();
    let r = libc::rlimit { rlim_cur: old.1, rlim_max: old.1 };
    // SAFETY: `r` is a valid rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &r) };
    old
}

/// True when the descriptor is a terminal.
pub fn is_tty(fd: &impl AsFd) -> bool {
    // SAFETY: plain call on an open descriptor.
    unsafe { libc::isatty(fd.as_fd().as_raw_fd()) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_count_and_move_bytes() {
        let (a, b) = pair_stream().unwrap();
        assert_eq!(outq(&a).unwrap(), 0);
        send_vectored(&a, &[IoSlice::new(b"ab"), IoSlice::new(b"cde")]).unwrap();
        assert_eq!(inq(&b).unwrap(), 5);
        assert!(outq(&a).unwrap() > 0);
        let mut v = Vec::new();
        assert_eq!(recv_append(&b, &mut v, 100).unwrap(), 5);
        assert_eq!((v.as_slice(), outq(&a).unwrap()), (&b"abcde"[..], 0));
        assert!(socket_inode(&a).unwrap() != socket_inode(&b).unwrap());
        assert_eq!(socket_inode(&memfd("x", b"hello").unwrap()).unwrap(), None);
    }

    #[test]
    fn nonblocking_is_of_the_open_file() {
        let (a, _b) = pair_seqpacket().unwrap();
        let c = dup(&a).unwrap();
        set_nonblocking(&a, true).unwrap();
        assert!(is_nonblocking(&c));
    }

    #[test]
    fn changes_of_a_file_are_told_once() {
        let path = std::env::temp_dir().join(format!("belljar-changes-{}", std::process::id()));
        let m = std::fs::File::create(&path).unwrap();
        let watch = watch_changes(&m).unwrap();
        assert!(!changed(&watch));
        write(&m, b"2").unwrap();
        assert!(changed(&watch) && !changed(&watch));
        assert_eq!(identity(&m).unwrap().1, inode(&m).unwrap());
        std::fs::remove_file(&path).unwrap();
        let refused = read(&loose_socket().unwrap(), &mut [0; 8]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn sealed_memory_keeps_its_length() {
        let m = std::fs::File::from(memfd_sealed("t", 8192).unwrap());
        assert_eq!(m.metadata().unwrap().len(), 8192);
        assert!(m.set_len(0).is_err() && m.set_len(9000).is_err());
        assert_ne!(inode(&m).unwrap(), 0);
    }

    #[test]
    fn memfd_reads_from_its_beginning() {
        let mut b = [0; 8];
        assert_eq!(read(&memfd("t", b"hello").unwrap(), &mut b).unwrap(), 5);
        assert_eq!(&b[..5], b"hello");
    }
}
