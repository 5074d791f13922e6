//! The table of functions that packetdrill's C interface wants, each a thin skin over `calls`.
//!
//! The first argument of each is `userdata`, which is not needed: there is one world per process.
use crate::calls::{self, adopt, count, making, on_fd, run};
use crate::memory::{self, get, pieces, put, read, write};
use crate::pipes;
use crate::world::{self, Flags, World};
use belljar_abi::{Errno, MSG_CTRUNC, MSG_ZEROCOPY, SockAddr};
use belljar_kernel::task::call::{Call, EpollEvent, Payload, PollFd, Ret};
use belljar_wire::{Seg, Segs};
use libc::*;
use std::ffi::CStr;

type User = *mut c_void;

/// The table, field by field as the C header lays it out.
#[repr(C)]
pub struct PacketdrillInterface {
    userdata: User,
    free: unsafe extern "C" fn(User),
    socket: unsafe extern "C" fn(User, c_int, c_int, c_int) -> c_int,
    bind: unsafe extern "C" fn(User, c_int, *const c_void, socklen_t) -> c_int,
    listen: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    accept: unsafe extern "C" fn(User, c_int, *mut c_void, *mut socklen_t) -> c_int,
    connect: unsafe extern "C" fn(User, c_int, *const c_void, socklen_t) -> c_int,
    read: unsafe extern "C" fn(User, c_int, *mut c_void, size_t) -> ssize_t,
    readv: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    recv: unsafe extern "C" fn(User, c_int, *mut c_void, size_t, c_int) -> ssize_t,
    recvfrom: unsafe extern "C" fn(User, c_int, *mut c_void, size_t, c_int, *mut c_void, *mut socklen_t) -> ssize_t,
    recvmsg: unsafe extern "C" fn(User, c_int, *mut msghdr, c_int) -> ssize_t,
    write: unsafe extern "C" fn(User, c_int, *const c_void, size_t) -> ssize_t,
    writev: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    send: unsafe extern "C" fn(User, c_int, *const c_void, size_t, c_int) -> ssize_t,
    sendto: unsafe extern "C" fn(User, c_int, *const c_void, size_t, c_int, *const c_void, socklen_t) -> ssize_t,
    sendmsg: unsafe extern "C" fn(User, c_int, *const msghdr, c_int) -> ssize_t,
    /// Variadic in C; one further argument is always in its register.
    fcntl: unsafe extern "C" fn(User, c_int, c_int, c_long) -> c_int,
    ioctl: unsafe extern "C" fn(User, c_int, c_ulong, *mut c_void) -> c_int,
    close: unsafe extern "C" fn(User, c_int) -> c_int,
    shutdown: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    getsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    setsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    poll: unsafe extern "C" fn(User, *mut pollfd, nfds_t, c_int) -> c_int,
    netdev_send: unsafe extern "C" fn(User, *const c_void, size_t) -> c_int,
    netdev_receive: unsafe extern "C" fn(User, *mut c_void, *mut size_t, *mut c_longlong) -> c_int,
    usleep: unsafe extern "C" fn(User, c_uint) -> c_int,
    gettimeofday: unsafe extern "C" fn(User, *mut timeval, *mut c_void) -> c_int,
    epoll_create: unsafe extern "C" fn(User, c_int) -> c_int,
    epoll_ctl: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut epoll_event) -> c_int,
    epoll_wait: unsafe extern "C" fn(User, c_int, *mut epoll_event, c_int, c_int) -> c_int,
    pipe: unsafe extern "C" fn(User, *mut c_int) -> c_int,
    splice: unsafe extern "C" fn(User, c_int, *mut i64, c_int, *mut i64, size_t, c_uint) -> ssize_t,
}

/// The one symbol that packetdrill looks up: makes the world and fills the table.
///
/// # Safety
/// `flags` is NULL or a C string, `table` a struct of the header's layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, table: *mut PacketdrillInterface) {
    let text = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: a string that ends in NUL, as the caller promises.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    *world::lock() = World::new(Flags::parse(&text), calls::thread());
    let ours = PacketdrillInterface {
        userdata: std::ptr::null_mut(),
        free,
        socket,
        bind,
        listen,
        accept,
        connect,
        read: read_fd,
        readv,
        recv,
        recvfrom,
        recvmsg,
        write: write_fd,
        writev,
        send,
        sendto,
        sendmsg,
        fcntl,
        ioctl,
        close,
        shutdown,
        getsockopt,
        setsockopt,
        poll,
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        epoll_create,
        epoll_ctl,
        epoll_wait,
        pipe,
        splice,
    };
    // SAFETY: the struct that packetdrill hands over to be filled.
    unsafe { table.write(ours) };
}

/// C's way of answering: -1 and errno.
pub fn answer(r: Result<i64, Errno>) -> i64 {
    match r {
        Ok(n) => n,
        Err(e) => {
            // SAFETY: libc's errno of this thread.
            unsafe { *__errno_location() = e.0 };
            -1
        }
    }
}

fn short(r: Result<i64, Errno>) -> c_int {
    answer(r) as c_int
}

unsafe extern "C" fn free(_: User) {
    *world::lock() = None;
}

unsafe extern "C" fn socket(_: User, family: c_int, kind: c_int, protocol: c_int) -> c_int {
    short(making(Call::Socket { family, kind, protocol }).map(i64::from))
}

unsafe extern "C" fn bind(_: User, fd: c_int, addr: *const c_void, len: socklen_t) -> c_int {
    // SAFETY: packetdrill's sockaddr of the length that it says.
    let addr = unsafe { read(addr, len as usize) };
    short(addr.and_then(|addr| count(on_fd(fd, |fd| Call::Bind { fd, addr: &addr }))))
}

unsafe extern "C" fn listen(_: User, fd: c_int, backlog: c_int) -> c_int {
    short(count(on_fd(fd, |fd| Call::Listen { fd, backlog })))
}

unsafe extern "C" fn accept(_: User, fd: c_int, addr: *mut c_void, len: *mut socklen_t) -> c_int {
    // SAFETY: NULL or a sockaddr with its length, both packetdrill's.
    short(unsafe { accept_at(fd, addr, len) }.map(i64::from))
}

unsafe fn accept_at(fd: c_int, addr: *mut c_void, len: *mut socklen_t) -> Result<c_int, Errno> {
    let Ret::Accepted { fd, peer } = on_fd(fd, |fd| Call::Accept { fd, flags: 0 })? else { return Err(Errno::EIO) };
    // SAFETY: as our caller says.
    unsafe { put_addr(peer, addr, len) }?;
    adopt(world::lock().as_mut().ok_or(Errno::ENOSYS)?, fd)
}

/// Stores an address the way the kernel does: cut to the room, with its full length.
unsafe fn put_addr(from: SockAddr, addr: *mut c_void, len: *mut socklen_t) -> Result<(), Errno> {
    if addr.is_null() || len.is_null() {
        return Ok(());
    }
    let bytes = from.emit();
    // SAFETY: not NULL; `addr` has the room that `len` says.
    unsafe {
        let room = get(len)? as usize;
        write(addr, bytes.get(..room.min(bytes.len())).unwrap_or_default())?;
        put(len, bytes.len() as socklen_t)
    }
}

unsafe extern "C" fn connect(_: User, fd: c_int, addr: *const c_void, len: socklen_t) -> c_int {
    // SAFETY: packetdrill's sockaddr of the length that it says.
    let addr = unsafe { read(addr, len as usize) };
    short(addr.and_then(|addr| count(on_fd(fd, |fd| Call::Connect { fd, addr: &addr }))))
}

unsafe extern "C" fn read_fd(u: User, fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the same buffer.
    unsafe { recv(u, fd, buf, len, 0) }
}

unsafe extern "C" fn readv(_: User, fd: c_int, iov: *const iovec, n: c_int) -> ssize_t {
    // SAFETY: packetdrill's iovec array and what it points to.
    answer(unsafe { pieces(iov, n.max(0) as usize).and_then(|p| recv_into(fd, &p, 0)) }) as ssize_t
}

unsafe extern "C" fn recv(_: User, fd: c_int, buf: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: NULL or a buffer of `len` bytes.
    answer(unsafe { recv_into(fd, &[iovec { iov_base: buf, iov_len: len }], flags) }) as ssize_t
}

/// Bytes for a buffer that is NULL stay in the queue: they are looked at before they are taken.
unsafe fn recv_into(fd: c_int, to: &[iovec], flags: c_int) -> Result<i64, Errno> {
    let room = to.iter().map(|p| p.iov_len).sum();
    let bad = flags & MSG_TRUNC == 0 && to.iter().any(|p| p.iov_base.is_null() && p.iov_len > 0);
    let (got, n) = calls::recv(fd, room, if bad { flags | MSG_PEEK } else { flags })?;
    // SAFETY: as our caller says.
    unsafe { memory::scatter(&got.segs, to) }?;
    Ok(n)
}

unsafe extern "C" fn recvfrom(
    _: User,
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    flags: c_int,
    addr: *mut c_void,
    addrlen: *mut socklen_t,
) -> ssize_t {
    // SAFETY: NULL or a buffer of `len` bytes, NULL or a sockaddr with its length.
    answer(unsafe {
        recv_into(fd, &[iovec { iov_base: buf, iov_len: len }], flags).inspect(|_| {
            // A stream has no sender to tell: the length becomes 0.
            if !addr.is_null() {
                let _ = put(addrlen, 0);
            }
        })
    }) as ssize_t
}

unsafe extern "C" fn recvmsg(_: User, fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: packetdrill's msghdr and all that it points to.
    answer(unsafe { recvmsg_at(fd, msg, flags) }) as ssize_t
}

unsafe fn recvmsg_at(fd: c_int, msg: *mut msghdr, flags: c_int) -> Result<i64, Errno> {
    // SAFETY: as our caller says, for each pointer of the header.
    unsafe {
        let mut m = get(msg)?;
        let to = pieces(m.msg_iov, m.msg_iovlen)?;
        let (got, n) = calls::recv(fd, to.iter().map(|p| p.iov_len).sum(), flags)?;
        memory::scatter(&got.segs, &to)?;
        let (control, cut) = memory::cmsgs_out(&got.cmsgs, if m.msg_control.is_null() { 0 } else { m.msg_controllen });
        write(m.msg_control, &control)?;
        m.msg_controllen = control.len() as _;
        m.msg_flags = got.flags | if cut { MSG_CTRUNC } else { 0 };
        match got.from {
            Some(from) if !m.msg_name.is_null() => put_addr(from, m.msg_name, &raw mut m.msg_namelen)?,
            _ => m.msg_namelen = 0,
        }
        put(msg, m)?;
        Ok(n)
    }
}

unsafe extern "C" fn write_fd(u: User, fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the same buffer.
    unsafe { send(u, fd, buf, len, 0) }
}

unsafe extern "C" fn writev(_: User, fd: c_int, iov: *const iovec, n: c_int) -> ssize_t {
    // SAFETY: packetdrill's iovec array and what it points to.
    answer(unsafe { pieces(iov, n.max(0) as usize).and_then(|p| send_from(fd, &p, 0, None, &[])) }) as ssize_t
}

unsafe extern "C" fn send(_: User, fd: c_int, buf: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    let piece = iovec { iov_base: buf.cast_mut(), iov_len: len };
    // SAFETY: NULL or a buffer of `len` bytes.
    answer(unsafe { send_from(fd, &[piece], flags, None, &[]) }) as ssize_t
}

unsafe fn send_from(
    fd: c_int,
    from: &[iovec],
    flags: c_int,
    to: Option<&[u8]>,
    cmsgs: &[memory::Message],
) -> Result<i64, Errno> {
    // SAFETY: as our caller says.
    let parts = unsafe { memory::gather(from) }?;
    if flags & MSG_ZEROCOPY != 0 {
        // Pieces of the program's memory stay apart.
        let mut segs = Segs::new();
        parts.into_iter().for_each(|p| segs.push(Seg::from_vec(p)));
        return calls::send(fd, Payload::Segs(segs), flags, to, cmsgs);
    }
    calls::send(fd, Payload::Bytes(&parts.concat()), flags, to, cmsgs)
}

unsafe extern "C" fn sendto(
    _: User,
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    flags: c_int,
    addr: *const c_void,
    addrlen: socklen_t,
) -> ssize_t {
    let piece = iovec { iov_base: buf.cast_mut(), iov_len: len };
    // SAFETY: NULL or a buffer of `len` bytes; NULL or a sockaddr of its length.
    answer(unsafe {
        let to = if addr.is_null() { Ok(None) } else { read(addr, addrlen as usize).map(Some) };
        to.and_then(|to| send_from(fd, &[piece], flags, to.as_deref(), &[]))
    }) as ssize_t
}

unsafe extern "C" fn sendmsg(_: User, fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: packetdrill's msghdr and all that it points to.
    answer(unsafe { sendmsg_at(fd, msg, flags) }) as ssize_t
}

unsafe fn sendmsg_at(fd: c_int, msg: *const msghdr, flags: c_int) -> Result<i64, Errno> {
    // SAFETY: as our caller says, for each pointer of the header.
    unsafe {
        let m = get(msg)?;
        let from = pieces(m.msg_iov, m.msg_iovlen)?;
        let cmsgs = memory::cmsgs_in(&m)?;
        let to = if m.msg_name.is_null() { None } else { Some(read(m.msg_name, m.msg_namelen as usize)?) };
        send_from(fd, &from, flags, to.as_deref(), &cmsgs)
    }
}

unsafe extern "C" fn fcntl(_: User, fd: c_int, cmd: c_int, arg: c_long) -> c_int {
    short(count(on_fd(fd, |fd| Call::Fcntl { fd, cmd, arg })))
}

unsafe extern "C" fn ioctl(_: User, fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    let arg = arg.cast::<c_int>();
    // SAFETY: the requests that scripts can name take a pointer to an int.
    short(unsafe {
        let value = i64::from(get(arg).unwrap_or(0));
        on_fd(fd, |fd| Call::Ioctl { fd, request, arg: value }).and_then(|r| match r {
            Ret::Int(n) => put(arg, n as c_int).map(|()| 0),
            _ => Ok(0),
        })
    })
}

unsafe extern "C" fn close(_: User, fd: c_int) -> c_int {
    short(calls::close(fd))
}

unsafe extern "C" fn shutdown(_: User, fd: c_int, how: c_int) -> c_int {
    short(count(on_fd(fd, |fd| Call::Shutdown { fd, how })))
}

unsafe extern "C" fn getsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: packetdrill's buffer and its length.
    short(unsafe { getsockopt_at(fd, level, name, value, len) })
}

/// # Safety
/// `len` is NULL or a length, `value` NULL or writable over it.
pub unsafe fn getsockopt_at(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> Result<i64, Errno> {
    // SAFETY: as our caller says.
    let room = unsafe { get(len) }? as usize;
    let bytes = match on_fd(fd, |fd| Call::GetSockOpt { fd, level, name, len: room })? {
        Ret::Opt(v) => v,
        Ret::Int(n) => (n as i32).to_ne_bytes().to_vec(),
        _ => Vec::new(),
    };
    let n = bytes.len().min(room);
    // SAFETY: at most what `len` said.
    unsafe { write(value, bytes.get(..n).unwrap_or_default()).and_then(|()| put(len, n as socklen_t)) }?;
    Ok(0)
}

unsafe extern "C" fn setsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: packetdrill's buffer of the length that it says.
    let value = unsafe { read(value, len as usize) };
    short(value.and_then(|value| count(on_fd(fd, |fd| Call::SetSockOpt { fd, level, name, value: &value }))))
}

/// Milliseconds of C as the kernel takes them.
fn timeout(ms: c_int) -> Option<u64> {
    (ms >= 0).then(|| ms as u64 * 1_000_000)
}

unsafe extern "C" fn poll(_: User, fds: *mut pollfd, n: nfds_t, ms: c_int) -> c_int {
    // SAFETY: packetdrill's array of `n` entries.
    short(unsafe { poll_at(fds, n as usize, ms) })
}

unsafe fn poll_at(fds: *mut pollfd, n: usize, ms: c_int) -> Result<i64, Errno> {
    // SAFETY: as our caller says, entry by entry.
    let asked: Vec<pollfd> = (0..n).map(|i| unsafe { get(fds.wrapping_add(i)) }).collect::<Result<_, _>>()?;
    let ours: Vec<PollFd> = asked
        .iter()
        .map(|p| PollFd { fd: calls::known(p.fd).map_or(-1, |fd| fd as i32), events: p.events as u16, revents: 0 })
        .collect();
    let Ret::Poll(answers) = run(Call::Poll { fds: &ours, timeout: timeout(ms) })? else { return Ok(0) };
    for (i, (mut p, a)) in asked.into_iter().zip(&answers).enumerate() {
        p.revents = a.revents as c_short;
        // SAFETY: as above.
        unsafe { put(fds.wrapping_add(i), p) }?;
    }
    Ok(answers.iter().filter(|a| a.revents != 0).count() as i64)
}

unsafe extern "C" fn netdev_send(_: User, packet: *const c_void, len: size_t) -> c_int {
    // SAFETY: packetdrill's packet of `len` bytes.
    short(unsafe { read(packet, len) }.map(|packet| {
        if let Some(w) = world::lock().as_mut() {
            w.deliver(&packet);
        }
        0
    }))
}

/// Length 0 when nothing will come: the run then ends with an error, where -1 would ask again for ever.
unsafe extern "C" fn netdev_receive(_: User, buf: *mut c_void, len: *mut size_t, time: *mut c_longlong) -> c_int {
    let found = world::lock().as_mut().and_then(World::next_packet);
    if found.is_none() {
        eprintln!("belljar: no packet comes");
    }
    let (packet, at) = found.unwrap_or_default();
    // SAFETY: packetdrill's buffer with its length, and a place for the time.
    short(unsafe {
        get(len).and_then(|room| {
            let n = packet.len().min(room);
            write(buf, packet.get(..n).unwrap_or_default())?;
            put(len, n)?;
            put(time, at as c_longlong)?;
            Ok(0)
        })
    })
}

unsafe extern "C" fn usleep(_: User, usecs: c_uint) -> c_int {
    if let Some(w) = world::lock().as_mut() {
        w.advance(u64::from(usecs) * 1000);
    }
    world::settle();
    0
}

unsafe extern "C" fn gettimeofday(_: User, tv: *mut timeval, _zone: *mut c_void) -> c_int {
    let us = world::lock().as_mut().map_or(0, |w| w.gettimeofday(calls::thread()));
    let value = timeval { tv_sec: (us / 1_000_000) as time_t, tv_usec: (us % 1_000_000) as suseconds_t };
    // SAFETY: a place for a timeval.
    short(unsafe { put(tv, value) }.map(|()| 0))
}

unsafe extern "C" fn epoll_create(_: User, size: c_int) -> c_int {
    short(if size <= 0 { Err(Errno::EINVAL) } else { making(Call::EpollCreate { flags: 0 }).map(i64::from) })
}

unsafe extern "C" fn epoll_ctl(_: User, ep: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: NULL or packetdrill's event.
    let event = unsafe { get(event) }.ok().map(|e| EpollEvent { events: e.events, data: e.u64 });
    let Some(fd) = calls::known(fd) else { return short(Err(Errno::EBADF)) };
    short(count(on_fd(ep, |epfd| Call::EpollCtl { epfd, op, fd, event })))
}

unsafe extern "C" fn epoll_wait(_: User, ep: c_int, events: *mut epoll_event, max: c_int, ms: c_int) -> c_int {
    let found = on_fd(ep, |epfd| Call::EpollWait { epfd, max, timeout: timeout(ms) });
    short(found.and_then(|r| {
        let Ret::Events(found) = r else { return Ok(0) };
        for (i, e) in found.iter().enumerate() {
            // SAFETY: packetdrill's array of `max` entries; the kernel returns no more.
            unsafe { put(events.wrapping_add(i), epoll_event { events: e.events, u64: e.data }) }?;
        }
        Ok(found.len() as i64)
    }))
}

unsafe extern "C" fn pipe(_: User, fds: *mut c_int) -> c_int {
    // SAFETY: room for two descriptors, as pipe(2) wants; real ones, which libc's close ends.
    unsafe { libc::pipe(fds) }
}

/// Offsets are for files: packetdrill passes pointers to 0 where a script says NULL.
unsafe extern "C" fn splice(
    _: User,
    from: c_int,
    _off_in: *mut i64,
    to: c_int,
    _off_out: *mut i64,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    let r = match (calls::known(from).is_some(), calls::known(to).is_some()) {
        (true, false) => pipes::from_socket(from, to, len),
        (false, true) => pipes::to_socket(from, to, len, flags & SPLICE_F_MORE != 0),
        _ => Err(Errno::EINVAL),
    };
    answer(r) as ssize_t
}
