//! What LD_PRELOAD puts in front of libc: getsockopt and sendfile on descriptors that stand for the kernel's. All
//! others go on to the system call. For runs against the host's kernel, socket takes the congestion control that
//! BELLJAR_PACKETDRILL_CONGESTION names: the host may not let a namespace choose it.
use crate::interface::{answer, getsockopt_at};
use crate::{calls, pipes};
use libc::{c_int, c_long, c_void, off_t, size_t, socklen_t, ssize_t};

/// getsockopt(2): packetdrill asks TCP_INFO, TCP_CC_INFO and SO_MEMINFO here.
///
/// # Safety
/// As of the call in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    if calls::known(fd).is_some() {
        // SAFETY: what our caller promises.
        return answer(unsafe { getsockopt_at(fd, level, name, value, len) }) as c_int;
    }
    // SAFETY: the same call with the same arguments.
    unsafe { libc::syscall(libc::SYS_getsockopt, c_long::from(fd), level, name, value, len) as c_int }
}

/// sendfile(2).
///
/// # Safety
/// As of the call in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(out: c_int, file: c_int, at: *mut off_t, count: size_t) -> ssize_t {
    if calls::known(out).is_some() {
        // SAFETY: NULL, or an offset that the caller lets us change.
        let at = unsafe { at.as_mut() };
        return answer(pipes::sendfile(out, file, at, count)) as ssize_t;
    }
    // SAFETY: the same call with the same arguments.
    unsafe { libc::syscall(libc::SYS_sendfile, c_long::from(out), file, at, count) as ssize_t }
}

/// socket(2).
#[unsafe(no_mangle)]
pub extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the same call with the same arguments.
    let fd = unsafe { libc::syscall(libc::SYS_socket, c_long::from(family), kind, protocol) as c_int };
    let tcp = matches!(family, libc::AF_INET | libc::AF_INET6) && kind & 0xf == libc::SOCK_STREAM;
    if let Some(name) = std::env::var_os("BELLJAR_PACKETDRILL_CONGESTION").filter(|_| fd >= 0 && tcp) {
        let (at, len) = (name.as_encoded_bytes().as_ptr(), name.len() as socklen_t);
        // SAFETY: the bytes of the name and their length.
        unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, at.cast(), len) };
    }
    fd
}

/// The same where programs are built for large files.
///
/// # Safety
/// As of the call in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(out: c_int, file: c_int, at: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: what our caller promises.
    unsafe { sendfile(out, file, at, count) }
}
