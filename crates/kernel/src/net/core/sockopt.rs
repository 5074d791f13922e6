//! Options that sockets of every kind have: SOL_SOCKET, SOL_IP, SOL_IPV6. An option either works or is refused as a
//! kernel refuses that was built without it (ENOPROTOOPT).
use crate::env::{SEC, USEC};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::filter::Prog;
use crate::net::core::sock::*;
use crate::net::core::{busy_poll, errqueue, napi, timestamp};
use crate::net::ipv4::{mcast_opt, options};
use crate::net::raw;
use crate::net::tcp::state::State;
use crate::net::tcp::{mem, tables, timer};
use crate::task::call::Cred;
use crate::task::wait::PollMask;
use belljar_abi::ioctl::IFNAMSIZ;
use belljar_abi::sock_diag::SK_MEMINFO_FWD_ALLOC;
use belljar_abi::*;

/// Least sizes after doubling: a packet with its overhead.
pub const SOCK_MIN_SNDBUF: u32 = 4608;
pub const SOCK_MIN_RCVBUF: u32 = 2304;
/// Default priority by TOS (`rt_tos2priority`): best effort, bulk, interactive, interactive bulk.
const TOS_PRIORITY: [u32; 4] = [0, 2, 6, 4];

fn int(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

fn bytes(v: i32) -> Result<Vec<u8>, Errno> {
    Ok(v.to_ne_bytes().to_vec())
}

/// Pushes a wake-up when somebody waits.
fn wake(k: &mut Kernel, sock: SockId, mask: PollMask) {
    if k.socks.sk(sock).is_some_and(|sk| !sk.wait.is_empty()) {
        k.net.env.rises.push_back(crate::env::Rise::Wake { sock, mask });
    }
}

#[doc(alias = "sk_setsockopt")]
pub(crate) fn sock_setsockopt(k: &mut Kernel, sock: SockId, name: i32, value: &[u8], cred: Cred) -> Result<(), Errno> {
    match name {
        SO_BINDTODEVICE => return bind_to_device(k, sock, value, cred),
        SO_ATTACH_FILTER | SO_ATTACH_REUSEPORT_CBPF => return attach(k, sock, name, value),
        SO_DETACH_REUSEPORT_BPF => return k.set_reuseport_prog(sock, None),
        _ => {}
    }
    let val = int(value)?;
    let on = val != 0;
    let net_privileged = cred.caps.net_admin || cred.caps.net_raw;
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let (wmem_max, rmem_max) = k.net.ns.get(ns).map_or((0, 0), |n| (n.sysctl.wmem_max, n.sysctl.rmem_max));
    let txrehash = k.net.ns.get(ns).map_or(1, |n| n.sysctl.txrehash);
    let hz = k.net.env.hz;
    let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    match name {
        SO_DEBUG if on && !cred.caps.net_admin => return Err(Errno::EACCES),
        SO_DEBUG => sk.flags.debug = on,
        SO_REUSEADDR | SO_REUSEPORT => {
            *(if name == SO_REUSEADDR { &mut sk.flags.reuse } else { &mut sk.flags.reuseport }) = on;
            // Who wants the port asks what its holders say now.
            if let Some(tcp) = sock.tcp().and_then(|id| k.socks.tcp.get_mut(id)) {
                tables::reclass(&mut k.net, tcp);
            }
        }
        SO_BROADCAST => sk.flags.broadcast = on,
        SO_OOBINLINE => sk.flags.oobinline = on,
        SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW => {
            timestamp::set_timestamp(sk, name, on);
        }
        SO_TIMESTAMPING_OLD | SO_TIMESTAMPING_NEW => {
            let tcp = sock.tcp().and_then(|id| k.socks.tcp.get(id));
            let tcp = tcp.map(|t| (t.state, t.snd.write_seq, t.snd.una));
            let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
            return timestamp::set_timestamping(sk, name, val as u32, tcp);
        }
        SO_RXQ_OVFL => sk.flags.rxq_ovfl = on,
        SO_INCOMING_CPU => sk.incoming_cpu = val,
        SO_LOCK_FILTER if sk.flags.filter_locked && !on => return Err(Errno::EPERM),
        SO_LOCK_FILTER => sk.flags.filter_locked = on,
        SO_DETACH_FILTER if sk.flags.filter_locked => return Err(Errno::EPERM),
        SO_DETACH_FILTER if sk.filter().is_none() => return Err(Errno::ENOENT),
        SO_DETACH_FILTER => sk.cold().filter = None,
        SO_KEEPALIVE => set_keepalive(k, sock, on),
        // A negative size is huge, and bounded like one.
        SO_SNDBUF => set_sndbuf(k, sock, (val as u32).min(wmem_max)),
        SO_RCVBUF => set_rcvbuf(sk, (val as u32).min(rmem_max)),
        SO_SNDBUFFORCE | SO_RCVBUFFORCE if !cred.caps.net_admin => return Err(Errno::EPERM),
        SO_SNDBUFFORCE => set_sndbuf(k, sock, val.max(0) as u32),
        SO_RCVBUFFORCE => set_rcvbuf(sk, val.max(0) as u32),
        SO_PRIORITY if (0..=6).contains(&val) || net_privileged => sk.priority = val as u32,
        SO_MARK if net_privileged => sk.mark = val as u32,
        SO_PRIORITY | SO_MARK => return Err(Errno::EPERM),
        SO_LINGER => {
            let seconds = int(value.get(4..).unwrap_or_default())?;
            sk.linger = if on { Linger::On(seconds as u32) } else { Linger::Off };
        }
        SO_RCVLOWAT => set_rcvlowat(k, sock, val),
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => {
            let t = timeout(value, hz)?;
            if t.is_some() || sk.cold.is_some() {
                sk.cold().rcvtimeo = t;
            }
        }
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => {
            let t = timeout(value, hz)?;
            if t.is_some() || sk.cold.is_some() {
                sk.cold().sndtimeo = t;
            }
        }
        SO_PEEK_OFF if matches!(sock, SockId::Raw(_) | SockId::Packet(_)) => return Err(Errno::EOPNOTSUPP),
        SO_PEEK_OFF => sk.cold().peek_off = u32::try_from(val).ok(),
        SO_BINDTOIFINDEX => {
            let dev = if val == 0 { None } else { Some(dev_by_index(k, ns, val)?) };
            return set_bound_dev(k, sock, dev, cred);
        }
        // Only local sockets have credentials to pass (since 6.16).
        SO_PASSCRED | SO_PASSSEC | SO_PASSPIDFD | SO_PASSRIGHTS => return Err(Errno::EOPNOTSUPP),
        SO_TXREHASH if sock.tcp().is_none() => return Err(Errno::EOPNOTSUPP),
        SO_TXREHASH if val == -1 => sk.flags.no_txrehash = txrehash == 0,
        SO_TXREHASH if !(0..=1).contains(&val) => return Err(Errno::EINVAL),
        SO_TXREHASH => sk.flags.no_txrehash = val == 0,
        SO_BSDCOMPAT => {}
        // Off is what they are; on is what this kernel has not.
        SO_ZEROCOPY => sk.flags.zerocopy = u8::try_from(val).ok().filter(|v| *v <= 1).ok_or(Errno::EINVAL)? == 1,
        SO_NO_CHECK => sk.flags.no_check_tx = on,
        SO_DONTROUTE => {
            sk.flags.localroute = on;
            // A connection looks for its way again.
            if let Some(tcp) = sock.tcp().and_then(|id| k.socks.tcp.get_mut(id)) {
                tcp.dst = None;
            }
        }
        SO_NOFCS => sk.cold().nofcs = on,
        SO_SELECT_ERR_QUEUE => sk.cold().select_err_queue = on,
        SO_RCVMARK if !net_privileged => return Err(Errno::EPERM),
        SO_RCVMARK => sk.cold().rcvmark = on,
        SO_RCVPRIORITY => sk.cold().rcvpriority = on,
        SO_BUSY_POLL => {
            let on = busy_poll::set_usecs(sk, val)?;
            k.net.napi.busy |= on;
        }
        SO_PREFER_BUSY_POLL if on && !cred.caps.net_admin => return Err(Errno::EPERM),
        SO_PREFER_BUSY_POLL => sk.cold().prefer_busy_poll = on,
        SO_BUSY_POLL_BUDGET => return busy_poll::set_budget(sk, val, cred.caps.net_admin),
        SO_BUF_LOCK if val & !i32::from(SOCK_BUF_LOCK_MASK) != 0 => return Err(Errno::EINVAL),
        SO_BUF_LOCK => sk.userlocks = val as u8 | sk.userlocks & !SOCK_BUF_LOCK_MASK,
        SO_MAX_PACING_RATE => set_max_pacing_rate(k, sock, value, val),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// `value` is what `struct sock_fprog` points at: the driver of the kernel has followed the pointer.
#[doc(alias = "sk_attach_filter")]
#[doc(alias = "sk_reuseport_attach_filter")]
fn attach(k: &mut Kernel, sock: SockId, name: i32, value: &[u8]) -> Result<(), Errno> {
    let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    if sk.flags.filter_locked {
        return Err(Errno::EPERM);
    }
    let prog = Prog::new(value)?;
    if name == SO_ATTACH_REUSEPORT_CBPF {
        return k.set_reuseport_prog(sock, Some(prog));
    }
    sk.cold().filter = Some(prog);
    Ok(())
}

fn set_sndbuf(k: &mut Kernel, sock: SockId, val: u32) {
    if let Some(sk) = k.socks.sk_mut(sock) {
        sk.userlocks |= SOCK_SNDBUF_LOCK;
        sk.sndbuf = (val.min(i32::MAX as u32 / 2) * 2).max(SOCK_MIN_SNDBUF);
        wake(k, sock, POLLOUT | POLLWRNORM | POLLWRBAND);
    }
}

fn set_rcvbuf(sk: &mut Sock, val: u32) {
    sk.userlocks |= SOCK_RCVBUF_LOCK;
    sk.rcvbuf = (val.min(i32::MAX as u32 / 2) * 2).max(SOCK_MIN_RCVBUF);
}

/// Bytes a second, four or eight bytes of them; all ones is no limit. It bounds what the congestion control chose already.
#[doc(alias = "sk_max_pacing_rate")]
fn set_max_pacing_rate(k: &mut Kernel, sock: SockId, value: &[u8], val: i32) {
    let rate = match value.first_chunk() {
        Some(b) => u64::from_ne_bytes(*b),
        None if val == -1 => u64::MAX,
        None => u64::from(val as u32),
    };
    if let Some(sk) = k.socks.sk_mut(sock)
        && (rate != u64::MAX || sk.cold.is_some())
    {
        sk.cold().max_pacing_rate = (rate != u64::MAX).then_some(rate);
    }
    let Some(tcp) = sock.tcp().and_then(|id| k.socks.tcp.get_mut(id)) else { return };
    // Once asked for, pacing stays on.
    tcp.flags.pacing |= rate != u64::MAX;
    if let Some(t) = tcp.track.as_deref_mut() {
        t.pacing_rate = t.pacing_rate.min(rate);
    }
}

/// The timer of a connection starts or stops at once; other sockets only remember the wish.
#[doc(alias = "tcp_set_keepalive")]
fn set_keepalive(k: &mut Kernel, sock: SockId, on: bool) {
    let Kernel { socks, net, .. } = k;
    if let Some((id, tcp)) = sock.tcp().and_then(|id| Some((id, socks.tcp.get_mut(id)?))) {
        timer::set_keepalive(tcp, net, id, on);
    }
    if let Some(sk) = socks.sk_mut(sock) {
        sk.flags.keepalive = on;
    }
}

/// Negative is as much as there can be; TCP bounds it by half of the largest buffer, and grows the buffer to fit.
#[doc(alias = "tcp_set_rcvlowat")]
fn set_rcvlowat(k: &mut Kernel, sock: SockId, val: i32) {
    let mut val = if val < 0 { i32::MAX as u32 } else { val as u32 };
    let Some(sk) = k.socks.sk(sock) else { return };
    let max = k.net.ns.get(sk.ns).map_or(0, |n| n.sysctl.tcp_rmem[2] as u32);
    let Some(sk) = k.socks.sk_mut(sock) else { return };
    if matches!(sock, SockId::Tcp(_)) {
        let locked = sk.userlocks & SOCK_RCVBUF_LOCK != 0;
        val = val.min(if locked { sk.rcvbuf / 2 } else { max / 2 });
        if !locked {
            sk.rcvbuf = sk.rcvbuf.max(val.saturating_mul(2));
        }
    }
    sk.cold().rcvlowat = val.max(1);
    wake(k, sock, POLLIN | POLLRDNORM);
}

/// A `struct timeval` as nanoseconds, rounded up to ticks. Zero waits for ever; negative does not wait at all.
fn timeout(value: &[u8], hz: u32) -> Result<Option<u64>, Errno> {
    let word = |at: usize| value.get(at..).and_then(|b| b.first_chunk()).map(|b| i64::from_ne_bytes(*b));
    let (sec, usec) = word(0).zip(word(8)).ok_or(Errno::EINVAL)?;
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        return Ok(Some(0));
    }
    let tick = SEC / u64::from(hz.max(1));
    let ns = (sec as u64).saturating_mul(SEC).saturating_add(usec as u64 * USEC);
    Ok((ns > 0 && ns < i64::MAX as u64).then(|| ns.div_ceil(tick) * tick))
}

fn timeval(t: Option<u64>) -> Vec<u8> {
    let t = t.unwrap_or(0);
    [(t / SEC) as i64, (t % SEC / USEC) as i64].iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn dev_by_index(k: &Kernel, ns: NsId, ifindex: i32) -> Result<DevId, Errno> {
    let devs = &k.net.ns.get(ns).ok_or(Errno::ENODEV)?.devs;
    let is = |d: &&DevId| k.net.devs.get(**d).is_some_and(|d| d.ifindex as i32 == ifindex);
    devs.iter().find(is).copied().ok_or(Errno::ENODEV)
}

/// By name; the empty name takes the binding away.
#[doc(alias = "sock_setbindtodevice")]
fn bind_to_device(k: &mut Kernel, sock: SockId, value: &[u8], cred: Cred) -> Result<(), Errno> {
    let value = value.get(..IFNAMSIZ - 1).unwrap_or(value);
    let name = value.split(|b| *b == 0).next().unwrap_or_default();
    let ns = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?.ns;
    let mut dev = None;
    if !name.is_empty() {
        let devs = &k.net.ns.get(ns).ok_or(Errno::ENODEV)?.devs;
        let is = |d: &&DevId| k.net.devs.get(**d).is_some_and(|d| d.name.as_bytes() == name);
        dev = Some(devs.iter().find(is).copied().ok_or(Errno::ENODEV)?);
    }
    set_bound_dev(k, sock, dev, cred)
}

/// The first binding is free to everybody; only CAP_NET_RAW may change one.
fn set_bound_dev(k: &mut Kernel, sock: SockId, dev: Option<DevId>, cred: Cred) -> Result<(), Errno> {
    let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    if sk.bound_dev.is_some() && !cred.caps.net_raw {
        return Err(Errno::EPERM);
    }
    sk.bound_dev = dev;
    Ok(())
}

#[doc(alias = "sk_getsockopt")]
pub(crate) fn sock_getsockopt(k: &mut Kernel, sock: SockId, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    let listening = sock.tcp().and_then(|id| k.socks.tcp.get(id)).is_some_and(|t| t.state == State::Listen);
    let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let cold = sk.cold.as_deref();
    let f = &sk.flags;
    bytes(match name {
        SO_DEBUG => f.debug.into(),
        SO_REUSEADDR => f.reuse.into(),
        SO_REUSEPORT => f.reuseport.into(),
        SO_KEEPALIVE => f.keepalive.into(),
        SO_BROADCAST => f.broadcast.into(),
        SO_OOBINLINE => f.oobinline.into(),
        SO_RXQ_OVFL => f.rxq_ovfl.into(),
        SO_LOCK_FILTER => f.filter_locked.into(),
        SO_INCOMING_CPU => sk.incoming_cpu,
        SO_ACCEPTCONN => listening.into(),
        SO_TYPE => type_of(k, sock),
        SO_PROTOCOL => protocol_of(k, sock),
        SO_DOMAIN if matches!(sock, SockId::Packet(_)) => AF_PACKET,
        SO_DOMAIN if matches!(sock, SockId::Xsk(_)) => AF_XDP,
        SO_DOMAIN if sk.family == Family::Inet => AF_INET,
        SO_DOMAIN => AF_INET6,
        SO_SNDBUF => sk.sndbuf as i32,
        SO_RCVBUF => sk.rcvbuf as i32,
        SO_PRIORITY => sk.priority as i32,
        SO_MARK => sk.mark as i32,
        SO_RCVLOWAT => sk.rcvlowat() as i32,
        SO_SNDLOWAT => 1,
        SO_PEEK_OFF => cold.and_then(|c| c.peek_off).map_or(-1, |v| v as i32),
        SO_NO_CHECK => f.no_check_tx.into(),
        // Ancillary loads of classic programs that there are (`SKF_AD_MAX`).
        SO_BPF_EXTENSIONS => 64,
        SO_INCOMING_NAPI_ID if sk.napi_id < napi::MIN_NAPI_ID => 0,
        SO_INCOMING_NAPI_ID => sk.napi_id as i32,
        SO_BSDCOMPAT => 0,
        SO_DONTROUTE => f.localroute.into(),
        SO_NOFCS => sk.rare(|c| c.nofcs).into(),
        SO_SELECT_ERR_QUEUE => sk.rare(|c| c.select_err_queue).into(),
        SO_RCVMARK => sk.rare(|c| c.rcvmark).into(),
        SO_RCVPRIORITY => sk.rare(|c| c.rcvpriority).into(),
        SO_PREFER_BUSY_POLL => sk.rare(|c| c.prefer_busy_poll).into(),
        SO_BUSY_POLL => cold.map_or(0, |c| c.ll_usec as i32),
        SO_BUF_LOCK => (sk.userlocks & SOCK_BUF_LOCK_MASK).into(),
        SO_ZEROCOPY => f.zerocopy.into(),
        SO_TXREHASH if sock.tcp().is_none() => return Err(Errno::EOPNOTSUPP),
        SO_TXREHASH => (!f.no_txrehash).into(),
        // The pending error, then a soft one; telling clears it.
        SO_ERROR => sk.take_err().unwrap_or_else(|| sk.take_err_soft()),
        SO_LINGER => {
            let (on, seconds) = match sk.linger {
                Linger::Off => (0, 0),
                Linger::On(s) => (1, s),
            };
            return Ok([on, seconds].iter().flat_map(|v: &u32| v.to_ne_bytes()).collect());
        }
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => return Ok(timeval(cold.and_then(|c| c.rcvtimeo))),
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => return Ok(timeval(cold.and_then(|c| c.sndtimeo))),
        // Nobody's: pid 0, uid and gid -1.
        SO_PEERCRED => return Ok([0, -1, -1].iter().flat_map(|v: &i32| v.to_ne_bytes()).collect()),
        SO_PEERGROUPS => return Err(Errno::ENODATA),
        SO_PASSCRED | SO_PASSSEC | SO_PASSPIDFD | SO_PASSRIGHTS => return Err(Errno::EOPNOTSUPP),
        SO_PEERNAME => return peer_name(k, sock, len),
        SO_MAX_PACING_RATE => {
            let rate = cold.and_then(|c| c.max_pacing_rate).unwrap_or(u64::MAX);
            if len >= 8 {
                return Ok(rate.to_ne_bytes().to_vec());
            }
            rate.min(u64::from(u32::MAX)) as u32 as i32
        }
        SO_COOKIE if len < 8 => return Err(Errno::EINVAL),
        SO_COOKIE => return Ok(cookie(sock).to_ne_bytes().to_vec()),
        SO_MEMINFO => {
            let omem = cold.map_or(0, |c| c.omem);
            let mut s = [sk.rmem_alloc, sk.rcvbuf, sk.wmem_alloc, sk.sndbuf, 0, sk.wmem_queued, omem, 0, sk.drops];
            s[SK_MEMINFO_FWD_ALLOC] = sock.tcp().and_then(|id| k.socks.tcp.get(id)).map_or(0, mem::forward_alloc);
            return Ok(s.iter().flat_map(|v| v.to_ne_bytes()).collect());
        }
        SO_BINDTOIFINDEX => {
            let dev = sk.bound_dev;
            dev.and_then(|d| k.net.devs.get(d)).map_or(0, |d| d.ifindex as i32)
        }
        SO_BINDTODEVICE => {
            let Some(dev) = sk.bound_dev.and_then(|d| k.net.devs.get(d)) else { return Ok(Vec::new()) };
            if len < IFNAMSIZ {
                return Err(Errno::EINVAL);
            }
            return Ok(dev.name.bytes().chain([0]).collect());
        }
        _ => return timestamp::get(sk, name).ok_or(Errno::ENOPROTOOPT),
    })
}

fn peer_name(k: &Kernel, sock: SockId, len: usize) -> Result<Vec<u8>, Errno> {
    let sk = k.socks.sk(sock).filter(|sk| sk.dport != 0).ok_or(Errno::ENOTCONN)?;
    let peer = SockAddr::ip(sk.daddr, sk.dport);
    let name = if sk.family == Family::Inet6 { peer.to_mapped() } else { peer }.emit();
    if name.len() < len { Err(Errno::EINVAL) } else { Ok(name.to_vec()) }
}

/// Unique over all kinds and all time.
pub fn cookie(sock: SockId) -> u64 {
    match sock {
        SockId::Tcp(id) => id.to_bits() << 1,
        SockId::Udp(id) => id.to_bits() << 1 | 1,
        // The generation stands in the high half: no other kind gets there.
        SockId::Raw(id) => id.to_bits() << 1 | 1 << 63,
        SockId::Packet(id) => id.to_bits() << 1 | 1 << 63 | 1,
        SockId::Xsk(id) => id.to_bits() << 1 | 1 << 62,
    }
}

fn type_of(k: &Kernel, sock: SockId) -> i32 {
    match sock {
        SockId::Tcp(_) => SOCK_STREAM,
        SockId::Raw(id) if k.socks.raw.get(id).is_some_and(|s| s.kind != raw::Kind::Ping) => SOCK_RAW,
        SockId::Packet(id) if k.socks.packet.get(id).is_some_and(|s| !s.cooked) => SOCK_RAW,
        SockId::Xsk(_) => SOCK_RAW,
        SockId::Udp(_) | SockId::Raw(_) | SockId::Packet(_) => SOCK_DGRAM,
    }
}

fn protocol_of(k: &Kernel, sock: SockId) -> i32 {
    match sock {
        SockId::Tcp(_) => IPPROTO_TCP,
        SockId::Udp(_) => IPPROTO_UDP,
        SockId::Raw(id) => k.socks.raw.get(id).map_or(0, |s| s.protocol.into()),
        SockId::Packet(_) | SockId::Xsk(_) => 0,
    }
}

/// Raw sockets only.
fn set_hdrincl(k: &mut Kernel, sock: SockId, on: bool) -> Result<(), Errno> {
    match sock.raw().and_then(|id| k.socks.raw.get_mut(id)).map(|s| &mut s.kind) {
        Some(raw::Kind::Raw { hdrincl, .. }) => *hdrincl = on,
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// An int, or one byte of it; nothing is 0.
fn short_int(value: &[u8]) -> i32 {
    int(value).unwrap_or_else(|_| value.first().map_or(0, |b| i32::from(*b)))
}

#[doc(alias = "do_ip_setsockopt")]
pub(crate) fn ip_setsockopt(k: &mut Kernel, sock: SockId, name: i32, value: &[u8], cred: Cred) -> Result<(), Errno> {
    let sk = k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let val = short_int(value);
    let on = val != 0;
    match name {
        IP_TOS => set_tos(sk, val as u8, matches!(sock, SockId::Tcp(_))),
        IP_TTL if value.is_empty() => return Err(Errno::EINVAL),
        IP_TTL if val == -1 => sk.ttl = None,
        IP_TTL => sk.ttl = Some(u8::try_from(val).ok().filter(|v| *v > 0).ok_or(Errno::EINVAL)?),
        IP_MTU_DISCOVER if (IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT).contains(&val) => sk.pmtudisc = val as u8,
        IP_MTU_DISCOVER => return Err(Errno::EINVAL),
        IP_RECVERR => {
            sk.flags.recverr = on;
            if !on {
                errqueue::purge(sk);
            }
        }
        IP_PKTINFO => sk.flags.pktinfo = on,
        IP_RECVTOS => sk.flags.recvtos = on,
        IP_RECVTTL => sk.flags.recvttl = on,
        IP_RECVORIGDSTADDR => sk.flags.recvorigdstaddr = on,
        IP_RECVOPTS => sk.flags.recvopts = on,
        IP_RECVRETOPTS => sk.flags.retopts = on,
        IP_RECVFRAGSIZE if matches!(sock, SockId::Tcp(_)) => return Err(Errno::EINVAL),
        IP_RECVFRAGSIZE => sk.flags.recvfragsize = on,
        IP_MINTTL if value.is_empty() => return Err(Errno::EINVAL),
        IP_MINTTL => sk.cold().min_ttl = u8::try_from(val).map_err(|_| Errno::EINVAL)?,
        IP_FREEBIND if value.is_empty() => return Err(Errno::EINVAL),
        IP_FREEBIND => sk.flags.freebind = on,
        IP_BIND_ADDRESS_NO_PORT => sk.flags.bind_address_no_port = on,
        IP_TRANSPARENT if on && !cred.caps.net_admin && !cred.caps.net_raw => return Err(Errno::EPERM),
        IP_TRANSPARENT if value.is_empty() => return Err(Errno::EINVAL),
        IP_TRANSPARENT => sk.flags.transparent = on,
        IP_LOCAL_PORT_RANGE => {
            let v = int(value).ok().filter(|_| value.len() == 4).ok_or(Errno::EINVAL)? as u32;
            let (lo, hi) = (v as u16, (v >> 16) as u16);
            if lo != 0 && hi != 0 && lo > hi {
                return Err(Errno::EINVAL);
            }
            sk.cold().local_port_range = (v != 0).then_some((lo, hi));
        }
        IP_HDRINCL => return set_hdrincl(k, sock, on),
        IP_RECVERR_RFC4884 if !(0..=1).contains(&val) => return Err(Errno::EINVAL),
        IP_RECVERR_RFC4884 => sk.cold().recverr_rfc4884 = on,
        IP_PASSSEC => sk.cold().passsec = on,
        IP_CHECKSUM => sk.cold().checksum = on,
        IP_NODEFRAG if type_of(k, sock) != SOCK_RAW => return Err(Errno::ENOPROTOOPT),
        IP_NODEFRAG => k.socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?.cold().nodefrag = on,
        IP_OPTIONS => return set_options(k, sock, value, cred.caps.net_raw),
        _ => return mcast_opt::set(k, sock, name, value).unwrap_or(Err(Errno::ENOPROTOOPT)),
    }
    Ok(())
}

/// Options of every packet from now on; a stream's segments become shorter by as much.
fn set_options(k: &mut Kernel, sock: SockId, value: &[u8], net_raw: bool) -> Result<(), Errno> {
    let bytes = options::from_program(value, net_raw)?;
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    sk.cold().ip_options = (!bytes.is_empty()).then_some(bytes);
    if let SockId::Tcp(id) = sock
        && let Some(sk) = socks.tcp.get_mut(id)
        && sk.sk.dport != 0
    {
        let pmtu = sk.snd.pmtu;
        crate::net::tcp::output::segment::sync_mss(sk, net, pmtu);
    }
    Ok(())
}

/// A stream keeps the ECN bits that TCP set.
#[doc(alias = "__ip_sock_set_tos")]
fn set_tos(sk: &mut Sock, tos: u8, stream: bool) {
    let tos = if stream { tos & !3 | sk.tos & 3 } else { tos };
    if sk.tos != tos {
        sk.tos = tos;
        sk.priority = TOS_PRIORITY[usize::from(tos & 0x1e) >> 3];
    }
}

#[doc(alias = "do_ip_getsockopt")]
pub(crate) fn ip_getsockopt(k: &mut Kernel, sock: SockId, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let default_ttl = k.net.ns.get(sk.ns).map_or(64, |n| n.sysctl.ip_default_ttl);
    let f = &sk.flags;
    let v = match name {
        IP_TOS => sk.tos.into(),
        IP_TTL => sk.ttl.map_or(default_ttl as i32, i32::from),
        IP_MTU_DISCOVER => sk.pmtudisc.into(),
        IP_RECVERR => f.recverr.into(),
        IP_PKTINFO => f.pktinfo.into(),
        IP_RECVTOS => f.recvtos.into(),
        IP_RECVTTL => f.recvttl.into(),
        IP_RECVORIGDSTADDR => f.recvorigdstaddr.into(),
        IP_RECVOPTS => f.recvopts.into(),
        IP_RECVRETOPTS => f.retopts.into(),
        IP_RECVFRAGSIZE => f.recvfragsize.into(),
        IP_MINTTL => sk.cold.as_ref().map_or(0, |c| c.min_ttl.into()),
        IP_FREEBIND => f.freebind.into(),
        IP_BIND_ADDRESS_NO_PORT => f.bind_address_no_port.into(),
        IP_TRANSPARENT => f.transparent.into(),
        // The port, which of a raw socket is its protocol.
        IP_PROTOCOL => sk.num.into(),
        IP_RECVERR_RFC4884 => sk.rare(|c| c.recverr_rfc4884).into(),
        IP_PASSSEC => sk.rare(|c| c.passsec).into(),
        IP_CHECKSUM => sk.rare(|c| c.checksum).into(),
        IP_NODEFRAG => sk.rare(|c| c.nodefrag).into(),
        IP_HDRINCL => sock.raw().and_then(|id| k.socks.raw.get(id)).is_some_and(|s| s.hdrincl()).into(),
        IP_MTU => path_mtu(k, sock)? as i32,
        IP_OPTIONS => {
            let set = sk.cold.as_ref().and_then(|c| c.ip_options.as_deref()).unwrap_or(&[]);
            return Ok(set.get(..len).unwrap_or(set).to_vec());
        }
        IP_LOCAL_PORT_RANGE => {
            let (lo, hi) = sk.cold.as_ref().and_then(|c| c.local_port_range).unwrap_or((0, 0));
            (u32::from(hi) << 16 | u32::from(lo)) as i32
        }
        IP_MULTICAST_IF | IP_UNICAST_IF => return mcast_opt::get(k, sock, name).unwrap_or(Err(Errno::ENOPROTOOPT)),
        _ => mcast_opt::get(k, sock, name).unwrap_or(Err(Errno::ENOPROTOOPT)).and_then(|b| int(&b))?,
    };
    // A program that asks for less than an int gets a byte.
    match u8::try_from(v) {
        Ok(byte) if (1..4).contains(&len) => Ok(vec![byte]),
        _ => bytes(v),
    }
}

/// The MTU of the way to the peer; ENOTCONN without one.
fn path_mtu(k: &mut Kernel, sock: SockId) -> Result<u32, Errno> {
    let sk = k.socks.sk(sock).filter(|sk| sk.dport != 0).ok_or(Errno::ENOTCONN)?;
    let (ns, flow) = (sk.ns, crate::net::af::Flow::of(sk, 0));
    crate::net::af::route_output(&mut k.net, ns, &flow).map(|d| d.mtu).map_err(|_| Errno::ENOTCONN)
}
