//! Reading and writing a program's memory: process_vm_readv/writev, `/proc/TID/mem` where those are refused; and what the
//! supervisor's own allocator does with large pieces.
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;

/// Large allocations come from the kernel and go back to it when they end, whatever was freed before: by itself glibc keeps
/// more and more of them (`M_MMAP_THRESHOLD` in mallopt(3)).
pub fn give_back_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain call that changes a number of the allocator; 0 on failure, and then memory is kept as before.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

fn efault() -> io::Error {
    io::Error::from_raw_os_error(libc::EFAULT)
}

/// Fills `buf` from `addr` of task `tid`; EFAULT when any byte is not readable.
pub fn read(tid: u32, addr: u64, buf: &mut [u8]) -> io::Result<()> {
    if buf.is_empty() {
        return Ok(());
    }
    if read_some(tid, addr, buf)? == buf.len() { Ok(()) } else { Err(efault()) }
}

/// Fills as much of `buf` as is readable from `addr` on; returns how much.
pub fn read_some(tid: u32, addr: u64, buf: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buf.len() };
    // SAFETY: the local vector describes `buf`; the remote one is only interpreted in the other process.
    let n = unsafe { libc::process_vm_readv(tid as libc::pid_t, &local, 1, &remote, 1, 0) };
    if n >= 0 {
        return Ok(n as usize);
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => {
            OpenOptions::new().read(true).open(format!("/proc/{tid}/mem"))?.read_at(buf, addr).map_err(|_| efault())
        }
        _ => Err(e),
    }
}

/// Stores `bytes` at `addr` of task `tid`; EFAULT when any byte is not writable.
pub fn write(tid: u32, addr: u64, bytes: &[u8]) -> io::Result<()> {
    write_both(tid, (addr, bytes), (0, &[]))
}

/// Two of [`write()`] in one call of the kernel.
pub fn write_both(tid: u32, first: (u64, &[u8]), second: (u64, &[u8])) -> io::Result<()> {
    let len = first.1.len() + second.1.len();
    if len == 0 {
        return Ok(());
    }
    let local = [first, second].map(|(_, b)| libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() });
    let remote = [first, second].map(|(at, b)| libc::iovec { iov_base: at as *mut libc::c_void, iov_len: b.len() });
    // SAFETY: the local vectors describe the two slices, which are only read; the remote ones belong to the other process.
    let n = unsafe { libc::process_vm_writev(tid as libc::pid_t, local.as_ptr(), 2, remote.as_ptr(), 2, 0) };
    if n == len as isize {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    if n < 0 && matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) {
        let f = OpenOptions::new().write(true).open(format!("/proc/{tid}/mem"))?;
        return f
            .write_all_at(first.1, first.0)
            .and_then(|()| f.write_all_at(second.1, second.0))
            .map_err(|_| efault());
    }
    Err(if n < 0 { e } else { efault() })
}

/// The C string at `addr`, at most `max` bytes; ENAMETOOLONG when it does not end there.
pub fn read_cstr(tid: u32, addr: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    while out.len() < max {
        // Never cross a page in one read: the next one may be absent.
        let at = addr.wrapping_add(out.len() as u64);
        let mut chunk = [0; 256];
        let len = (4096 - (at % 4096) as usize).min(chunk.len()).min(max - out.len());
        let chunk = chunk.get_mut(..len).ok_or_else(efault)?;
        read(tid, at, chunk)?;
        if let Some(end) = chunk.iter().position(|b| *b == 0) {
            out.extend_from_slice(&chunk[..end]);
            return Ok(out);
        }
        out.extend_from_slice(chunk);
    }
    Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_can_be_read_and_written() {
        let me = std::process::id();
        let mut there = *b"hello\0world";
        let mut b = [0; 5];
        read(me, there.as_ptr() as u64, &mut b).unwrap();
        assert_eq!(&b, b"hello");
        assert_eq!(read_cstr(me, there.as_ptr() as u64, 20).unwrap(), b"hello");
        write(me, there.as_mut_ptr() as u64, b"HE").unwrap();
        assert_eq!(&std::hint::black_box(there)[..5], b"HEllo");
        let at = there.as_mut_ptr() as u64;
        write_both(me, (at, b"J"), (at + 6, b"W")).unwrap();
        assert_eq!(&std::hint::black_box(there), b"JEllo\0World");
        assert_eq!(write_both(me, (at, b"J"), (8, b"W")).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(read(me, 8, &mut b).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(read_cstr(me, 0, 20).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }
}
