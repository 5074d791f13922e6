//! The real world: clock, seccomp notify, processes, descriptors, sockets of the machine we run on.
//!
//! The only library crate of the live driver with `unsafe`: every system call that `std` does not offer stands here,
//! behind a safe function. It knows nothing of the stack; it leaves policy (what to answer, when to wait) to `jar`.
pub mod clock;
pub mod control;
pub mod dir;
pub mod doctor;
pub mod epoll;
pub mod fd;
pub mod memory;
pub mod net;
pub mod port;
pub mod process;
pub mod rundir;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod stat;
pub mod task;

use std::io;

/// What a libc call returned, or `errno` when it was negative.
fn cvt(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn cvt_long(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn cvt_size(ret: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

/// An error's words without the number that std appends.
pub fn words(e: &io::Error) -> String {
    let s = e.to_string();
    s.split(" (os error").next().unwrap_or(&s).to_owned()
}

/// The errno of an error, EIO when it has none.
pub fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::EIO)
}
