//! System calls of the script on the kernel's sockets: descriptors, sleeping, and the shapes of the answers.
use crate::world::{self, World};
use belljar_abi::Errno;
use belljar_kernel::task::call::{Call, Fd, Payload, Received, Ret, Submitted, SysResult};
use libc::c_int;

/// The thread that asks, as the kernel under us numbers it.
pub fn thread() -> c_int {
    // SAFETY: gettid has no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// The kernel's descriptor behind one of this process.
pub fn known(fd: c_int) -> Option<Fd> {
    world::lock().as_ref()?.fds.get(&fd).copied()
}

/// Runs a call on the kernel's descriptor of `fd`, sleeping as long as it does.
pub fn on_fd<'a>(fd: c_int, call: impl FnOnce(Fd) -> Call<'a>) -> SysResult {
    let fd = known(fd).ok_or(Errno::EBADF)?;
    run(call(fd))
}

/// Runs a call, sleeping as long as it does.
pub fn run(call: Call<'_>) -> SysResult {
    let mut guard = world::lock();
    let w = guard.as_mut().ok_or(Errno::ENOSYS)?;
    match w.call(call) {
        Submitted::Done(r) => r,
        // It would sleep for ever: nothing is left to happen.
        Submitted::Parked(id) => world::wait(guard, id, thread()).unwrap_or(Err(Errno::EDEADLK)),
    }
}

/// The answer as a number.
pub fn count(r: SysResult) -> Result<i64, Errno> {
    match r? {
        Ret::Int(n) => Ok(n),
        Ret::Fd(fd) => Ok(i64::from(fd)),
        _ => Ok(0),
    }
}

/// A real descriptor of this process for one of the kernel's: packetdrill ends with libc's close on what is left.
pub fn adopt(w: &mut World, fd: Fd) -> Result<c_int, Errno> {
    // SAFETY: a path that ends in NUL, and flags.
    let real = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if real < 0 {
        return Err(Errno::EMFILE);
    }
    w.fds.insert(real, fd);
    Ok(real)
}

/// A call that makes a descriptor.
pub fn making(call: Call<'_>) -> Result<c_int, Errno> {
    match run(call)? {
        Ret::Fd(fd) => adopt(world::lock().as_mut().ok_or(Errno::ENOSYS)?, fd),
        _ => Err(Errno::EIO),
    }
}

/// close: the kernel's and the one that stands for it. A lingering close keeps its number until it ends.
pub fn close(fd: c_int) -> Result<i64, Errno> {
    let r = on_fd(fd, |fd| Call::Close { fd });
    if let Some(w) = world::lock().as_mut() {
        w.fds.remove(&fd);
    }
    // SAFETY: a descriptor that `adopt` opened and nobody else closes.
    unsafe { libc::close(fd) };
    count(r)
}

pub fn send(
    fd: c_int,
    data: Payload<'_>,
    flags: c_int,
    to: Option<&[u8]>,
    cmsgs: &[crate::memory::Message],
) -> Result<i64, Errno> {
    count(on_fd(fd, |fd| Call::Send { fd, data, flags, to, cmsgs }))
}

/// What was received, and the number that the call returns (MSG_TRUNC may make it another than the bytes).
pub fn recv(fd: c_int, len: usize, flags: c_int) -> Result<(Box<Received>, i64), Errno> {
    match on_fd(fd, |fd| Call::Recv { fd, len, flags })? {
        Ret::Stream(segs) => {
            let n = segs.len();
            Ok((Box::new(Received { segs, full_len: n, ..Received::default() }), n as i64))
        }
        Ret::Data(d) => {
            let n = if flags & belljar_abi::MSG_TRUNC != 0 { d.full_len } else { d.segs.len() };
            Ok((d, n as i64))
        }
        Ret::Int(n) => Ok((Box::default(), n)),
        _ => Err(Errno::EIO),
    }
}
