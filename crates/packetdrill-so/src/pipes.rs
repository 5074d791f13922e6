//! pipe, splice and sendfile: real pipes and files on one side, the kernel's sockets on the other.
use crate::calls;
use belljar_abi::{Errno, MSG_MORE, SIOCATMARK};
use belljar_kernel::task::call::{Call, Payload};
use libc::{c_int, c_void, off_t};

/// What a pipe holds (pipe(7)).
const PIPE_CAPACITY: usize = 65_536;

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// A socket's bytes into a pipe.
pub fn from_socket(sock: c_int, pipe: c_int, len: usize) -> Result<i64, Errno> {
    // Urgent data stops it (`tcp_read_sock`).
    if calls::count(calls::on_fd(sock, |fd| Call::Ioctl { fd, request: SIOCATMARK.into(), arg: 0 }))? != 0 {
        return Ok(0);
    }
    let mut queued: c_int = 0;
    // SAFETY: FIONREAD stores an int.
    unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut queued) };
    let room = PIPE_CAPACITY.saturating_sub(queued.max(0) as usize).min(len);
    let (got, _) = calls::recv(sock, room, 0)?;
    let bytes = got.segs.to_vec();
    // SAFETY: memory of ours and its length.
    let n = unsafe { libc::write(pipe, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    if n < 0 { Err(last_errno()) } else { Ok(n as i64) }
}

/// A pipe's bytes into a socket.
pub fn to_socket(pipe: c_int, sock: c_int, len: usize, more: bool) -> Result<i64, Errno> {
    let mut buf = vec![0u8; len.min(PIPE_CAPACITY)];
    // SAFETY: memory of ours and its length.
    let n = unsafe { libc::read(pipe, buf.as_mut_ptr().cast::<c_void>(), buf.len()) };
    if n < 0 {
        return Err(last_errno());
    }
    let bytes = buf.get(..n as usize).unwrap_or_default();
    calls::send(sock, Payload::Bytes(bytes), if more { MSG_MORE } else { 0 }, None, &[])
}

/// sendfile(2) from a real file. `at` moves on by what was sent; without it the file's own offset does.
pub fn sendfile(sock: c_int, file: c_int, at: Option<&mut off_t>, len: usize) -> Result<i64, Errno> {
    let mut buf = vec![0u8; len.min(1 << 20)];
    let room = buf.as_mut_ptr().cast::<c_void>();
    let n = match &at {
        // SAFETY: memory of ours and its length.
        Some(at) => unsafe { libc::pread(file, room, buf.len(), **at) },
        // SAFETY: as above.
        None => unsafe { libc::read(file, room, buf.len()) },
    };
    if n < 0 {
        return Err(last_errno());
    }
    let sent = calls::send(sock, Payload::Bytes(buf.get(..n as usize).unwrap_or_default()), 0, None, &[])?;
    if let Some(at) = at {
        *at += sent;
    }
    Ok(sent)
}
