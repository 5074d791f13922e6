//! bind(2) and listen(2): the conflict matrix, automatic ports (Linux: `inet_csk_get_port`, `inet_csk_listen_start`).
use super::sock::{Listener, TcpSock};
use super::state::State;
use super::tables::{self, Class, Hold, TcpTables, wildcard};
use super::{set_state, wake};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::af::is_for_many;
use crate::net::core::sock::*;
use crate::net::sysctl::{PortRange, Sysctl};
use belljar_abi::Errno;
use core::net::IpAddr;

/// Address and port are checked by the caller (locality, privilege); this finds the port and takes it.
#[doc(alias = "inet_bind")]
pub fn tcp_bind(k: &mut Kernel, id: TcpId, addr: IpAddr, port: u16) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    if sk.state != State::Close || sk.bind.is_some() {
        return Err(Errno::EINVAL);
    }
    sk.sk.rcv_saddr = addr;
    // Nothing is ever sent from a group's or a broadcast address.
    sk.sk.saddr = if is_for_many(addr) { wildcard(addr) } else { addr };
    let wants_port = port != 0 || !sk.sk.flags.bind_address_no_port;
    if wants_port && let Err(e) = get_port(sk, net, port) {
        (sk.sk.rcv_saddr, sk.sk.saddr) = (sk.sk.any(), sk.sk.any());
        return Err(e);
    }
    if !addr.is_unspecified() {
        sk.sk.userlocks |= SOCK_BINDADDR_LOCK;
    }
    if port != 0 {
        sk.sk.userlocks |= SOCK_BINDPORT_LOCK;
    } else if !wants_port {
        sk.sk.num = 0;
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
        p if conflicts(&n.tcp, p, &class) => return Err(Errno::EADDRINUSE),
        p => p,
    };
    sk.bind = Some(n.tcp.bhash.hold(port, class));
    sk.sk.num = port;
    Ok(())
}

/// Whether `new` may not join the holders of a port (`inet_csk_bind_conflict`).
fn conflicts(tables: &TcpTables, port: u16, new: &Class) -> bool {
    tables.bhash.classes(port).any(|old| overlap(&old, new) && !compatible(&old, new))
}

/// Addresses meet, and no two devices keep them apart.
fn overlap(a: &Class, b: &Class) -> bool {
    let devices = a.dev.is_none() || b.dev.is_none() || a.dev == b.dev;
    devices && rcv_saddr_equal((a.addr, a.ipv6only), (b.addr, b.ipv6only))
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

/// A port that nobody holds on an overlapping address, whatever the options; failing that, with ip_autobind_reuse, one
/// that SO_REUSEADDR sockets share (`inet_csk_find_open_port`). With SO_REUSEADDR one half of the range, by chance, is
/// tried before all of it.
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
    let halves = sk.sk.flags.reuse && hi - lo >= 4;
    let first = if rng.below(2) == 0 { (lo, half) } else { (half, hi) };
    let unused = |port| !tables.bhash.classes(port).any(|old| overlap(&old, class));
    let shared = |port| {
        let ok = |old: Class| !overlap(&old, class) || (old.reuse && class.reuse && old.hold != Hold::Listen);
        tables.bhash.classes(port).all(ok)
    };
    let reserved = |port| sysctl.ip_local_reserved_ports.contains(port);
    let mut search = |(low, high), may_share| {
        walk(low, high, rng, |port| !reserved(port) && if may_share { shared(port) } else { unused(port) })
    };
    halves
        .then(|| search(first, false))
        .flatten()
        .or_else(|| search((lo, hi), false))
        .or_else(|| if sysctl.ip_autobind_reuse != 0 { search((lo, hi), true) } else { None })
}

/// By twos from a random start: first the ports of the other parity than the first of the range, which connect()
/// prefers, then the rest.
fn walk(low: u32, high: u32, rng: &mut crate::env::Rng, mut take: impl FnMut(u16) -> bool) -> Option<u16> {
    let mut span = high.saturating_sub(low);
    if span > 1 {
        span &= !1;
    }
    let start = rng.below(span) | 1;
    [start, start.wrapping_sub(1)].into_iter().find_map(|start| {
        let ports = (0..span.div_ceil(2)).map(|i| (low + (start + 2 * i) % span) as u16);
        ports.into_iter().find(|port| take(*port))
    })
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
                (l.max_ack_backlog, l.backlog) = (limit, backlog as u32);
            }
            return Ok(());
        }
        // A connection that ended, or one whose failure connect() has yet to tell, is not unconnected.
        State::Close if !sk.flags.connecting && !sk.flags.connected => {}
        _ => return Err(Errno::EINVAL),
    }
    match sk.bind {
        None => get_port(sk, net, 0)?,
        Some(_) => recheck(sk, net)?,
    }
    let defer_accept = sk.tune.as_ref().map_or(0, |t| t.defer_accept);
    sk.listener = Some(Box::new(Listener {
        max_ack_backlog: limit,
        backlog: backlog as u32,
        defer_accept,
        ..Listener::default()
    }));
    sk.sk.shutdown = 0;
    super::handshake::fastopen::listen(sk, net, backlog);
    set_state(net, sk, id, State::Listen);
    tables::reclass(net, sk);
    let port = sk.sk.num;
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        n.tcp.listeners.entry(port).or_default().push(id);
    }
    wake(net, sk, id, super::input::EVERYTHING);
    k.join_reuseport(SockId::Tcp(id));
    Ok(())
}

/// Another socket of the port may have begun to listen since the bind: the rule for listeners is stricter.
fn recheck(sk: &mut TcpSock, net: &mut Net) -> Result<(), Errno> {
    let Some(n) = net.ns.get_mut(sk.sk.ns) else { return Err(Errno::EADDRINUSE) };
    let Some(bind) = sk.bind else { return Ok(()) };
    n.tcp.bhash.release(bind);
    let class = Class { hold: Hold::Listen, ..Class::of(sk) };
    let clash = conflicts(&n.tcp, bind.port, &class);
    sk.bind = Some(n.tcp.bhash.hold(bind.port, Class::of(sk)));
    if clash { Err(Errno::EADDRINUSE) } else { Ok(()) }
}
