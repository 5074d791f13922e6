//! bind(2) and listen(2): the conflict matrix, automatic ports (Linux: `inet_csk_get_port`, `inet_csk_listen_start`).
use super::sock::{Listener, TcpSock};
use super::state::State;
use super::tables::{self, Bucket, Class, Hold, TcpTables};
use super::{set_state, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::sock::*;
use crate::net::sysctl::{PortRange, Sysctl};
use belljar_abi::Errno;
use core::net::Ipv4Addr;

/// Address and port are checked by the caller (locality, privilege); this finds the port and takes it.
#[doc(alias = "inet_bind")]
pub fn tcp_bind(k: &mut Kernel, id: TcpId, addr: Ipv4Addr, port: u16) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    if sk.state != State::Close || sk.sk.num != 0 {
        return Err(Errno::EINVAL);
    }
    sk.sk.rcv_saddr = addr;
    sk.sk.saddr = addr;
    let wants_port = port != 0 || !sk.sk.flags.bind_address_no_port;
    if wants_port && let Err(e) = get_port(sk, net, port) {
        sk.sk.rcv_saddr = Ipv4Addr::UNSPECIFIED;
        sk.sk.saddr = Ipv4Addr::UNSPECIFIED;
        return Err(e);
    }
    if !addr.is_unspecified() {
        sk.sk.userlocks |= SOCK_BINDADDR_LOCK;
    }
    if port != 0 {
        sk.sk.userlocks |= SOCK_BINDPORT_LOCK;
    }
    Ok(())
}

/// Takes `port`, or a free one when it is 0. EADDRINUSE.
#[doc(alias = "inet_csk_get_port")]
pub fn get_port(sk: &mut TcpSock, net: &mut Net, port: u16) -> Result<(), Errno> {
    let Net { env, ns, .. } = net;
    let n = ns.get_mut(sk.sk.ns).ok_or(Errno::EADDRNOTAVAIL)?;
    let class = Class::of(sk);
    let port = match port {
        0 => find_open_port(sk, &n.tcp, &n.sysctl, &class, &mut env.rng).ok_or(Errno::EADDRINUSE)?,
        p if n.tcp.bhash.get(&p).is_some_and(|b| conflicts(b, &class)) => return Err(Errno::EADDRINUSE),
        p => p,
    };
    sk.bind = Some(n.tcp.hold(port, Some(class)));
    sk.sk.num = port;
    Ok(())
}

/// Whether `new` may not join the holders of a port (`inet_csk_bind_conflict`).
pub fn conflicts(bucket: &Bucket, new: &Class) -> bool {
    // A port that connect() chose is nobody's to bind.
    bucket.connected > 0 || bucket.classes().any(|old| overlap(old, new) && !compatible(old, new))
}

/// Equal addresses, or one is the wildcard; different devices keep apart, and an IPv6-only wildcard meets
/// only the other kind of `::`.
fn overlap(a: &Class, b: &Class) -> bool {
    if a.ipv6only || b.ipv6only {
        return a.v6_any && b.v6_any;
    }
    let devices = a.dev.is_none() || b.dev.is_none() || a.dev == b.dev;
    devices && (a.addr == b.addr || a.addr.is_unspecified() || b.addr.is_unspecified())
}

/// SO_REUSEADDR on both and the old one does not listen, or SO_REUSEPORT on both and the same user.
fn compatible(old: &Class, new: &Class) -> bool {
    (old.reuse && new.reuse && old.hold != Hold::Listen)
        || (old.reuseport && new.reuseport && (old.uid == new.uid || old.hold == Hold::TimeWait))
}

/// The range of automatic ports of a socket: IP_LOCAL_PORT_RANGE within the namespace's.
pub fn port_range(sk: &Sock, sysctl: &Sysctl) -> PortRange {
    let PortRange { mut lo, mut hi } = sysctl.ip_local_port_range;
    if let Some((l, h)) = sk.cold.as_ref().and_then(|c| c.local_port_range) {
        if l >= lo && l <= hi {
            lo = l;
        }
        if h >= lo && h <= hi && h != 0 {
            hi = h;
        }
    }
    PortRange { lo, hi }
}

/// Walks the range by twos from a random start: first ports of the other parity than the first port of the range, which
/// connect() prefers; with SO_REUSEADDR one random half of the range before all of it (`inet_csk_find_open_port`).
fn find_open_port(
    sk: &TcpSock,
    tables: &TcpTables,
    sysctl: &Sysctl,
    class: &Class,
    rng: &mut crate::env::Rng,
) -> Option<u16> {
    let PortRange { lo, hi } = port_range(&sk.sk, sysctl);
    let (lo, hi) = (u32::from(lo), u32::from(hi) + 1);
    let half = lo + ((hi - lo) >> 2 << 1);
    let mut tries = vec![(lo, hi)];
    if sk.sk.flags.reuse && hi - lo >= 4 {
        tries.insert(0, if rng.below(2) == 0 { (lo, half) } else { (half, hi) });
    }
    for (low, high) in tries {
        let mut span = high - low;
        if span > 1 {
            span &= !1;
        }
        let start = rng.below(span) | 1;
        for parity in [0, 1] {
            let mut offset = start.wrapping_sub(parity);
            for _ in 0..span.div_ceil(2) {
                let port = (low + offset % span.max(1)) as u16;
                offset = offset.wrapping_add(2);
                if sysctl.ip_local_reserved_ports.contains(port) {
                    continue;
                }
                if free_for(tables, port, class, sysctl.ip_autobind_reuse != 0) {
                    return Some(port);
                }
            }
        }
    }
    None
}

/// Automatic ports are not shared, unless ip_autobind_reuse says so and both sides allow it.
fn free_for(tables: &TcpTables, port: u16, class: &Class, share: bool) -> bool {
    match tables.bhash.get(&port) {
        None => true,
        Some(b) => share && class.reuse && !conflicts(b, class),
    }
}

/// listen(2): also again, to change the backlog.
#[doc(alias = "inet_listen")]
pub fn tcp_listen(k: &mut Kernel, id: TcpId, backlog: i32) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    let somaxconn = super::setting(net, sk, |s| s.somaxconn);
    let limit = (backlog as u32).min(somaxconn);
    match sk.state {
        State::Listen => {
            if let Some(l) = &mut sk.listener {
                l.max_ack_backlog = limit;
            }
            return Ok(());
        }
        State::Close => {}
        _ => return Err(Errno::EINVAL),
    }
    if sk.sk.num == 0 {
        get_port(sk, net, 0)?;
    } else if sk.bind.is_none() {
        let port = sk.sk.num;
        get_port(sk, net, port)?;
    } else {
        recheck(sk, net)?;
    }
    let defer_accept = sk.tune.as_ref().map_or(0, |t| t.defer_accept);
    sk.listener = Some(Box::new(Listener { max_ack_backlog: limit, defer_accept, ..Listener::default() }));
    sk.sk.shutdown = 0;
    set_state(net, sk, id, State::Listen);
    tables::reclass(net, sk);
    let port = sk.sk.num;
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        n.tcp.listeners.entry(port).or_default().push(id);
    }
    wake(net, sk, id, super::input::EVERYTHING);
    Ok(())
}

/// Another socket of the port may have begun to listen since the bind: the rule for listeners is stricter.
fn recheck(sk: &mut TcpSock, net: &mut Net) -> Result<(), Errno> {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return Err(Errno::EADDRINUSE) };
    let Some(bind) = sk.bind else { return Ok(()) };
    n.tcp.release(bind);
    let class = Class { hold: Hold::Listen, ..Class::of(sk) };
    let clash = n
        .tcp
        .bhash
        .get(&bind.port)
        .is_some_and(|b| b.classes().any(|old| overlap(old, &class) && !compatible(old, &class)));
    sk.bind = Some(n.tcp.hold(bind.port, Some(Class::of(sk))));
    if clash { Err(Errno::EADDRINUSE) } else { Ok(()) }
}
