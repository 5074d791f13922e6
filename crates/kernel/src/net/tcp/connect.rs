//! connect(2): where to, from which address and port, and how its end is told (Linux: `__inet_stream_connect`,
//! `tcp_v4_connect`, `__inet_hash_connect`).
use super::bind::port_range;
use super::handshake::isn;
use super::input::EVERYTHING;
use super::output::transmit;
use super::sock::*;
use super::state::State;
use super::tables::{self, EhashRef, Tuple, keyed};
use super::{close, set_state};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::sock::*;
use crate::net::ipv4::route::{Flow4, RouteKind, ip_route_output};
use crate::net::sysctl::PortRange;
use crate::task::call::{Ret, RunCtx, Sleep, Step};
use belljar_abi::Errno;
use core::net::Ipv4Addr;

/// Where to: `None` dissolves (AF_UNSPEC).
pub type Target = Option<(Ipv4Addr, u16)>;

/// One run of connect: begins, or reports how it stands.
#[doc(alias = "__inet_stream_connect")]
pub fn tcp_connect(k: &mut Kernel, id: TcpId, to: Target, ctx: RunCtx) -> Step {
    let done = |r: Result<(), Errno>| Step::Done(r.map(|()| Ret::Int(0)));
    let Some(sk) = k.socks.tcp.get_mut(id) else { return done(Err(Errno::EINVAL)) };
    if !ctx.again {
        let Some((addr, port)) = to else { return done(dissolve(k, id)) };
        match sk.state {
            State::Listen => return done(Err(Errno::EISCONN)),
            State::SynSent | State::SynRecv => {
                if ctx.nonblock {
                    return done(Err(Errno::EALREADY));
                }
            }
            State::Close => match begin(k, id, addr, port) {
                Ok(()) if ctx.nonblock => return done(Err(Errno::EINPROGRESS)),
                Ok(()) => {}
                Err(e) => return done(Err(e)),
            },
            // The first call after it was established says so once.
            _ if std::mem::take(&mut sk.flags.connecting) => return done(Ok(())),
            _ => return done(Err(Errno::EISCONN)),
        }
    }
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return done(Err(Errno::EINVAL)) };
    match sk.state {
        State::SynSent | State::SynRecv => {
            if ctx.timed_out {
                // SO_SNDTIMEO passed: it goes on in the background.
                return done(Err(Errno::EINPROGRESS));
            }
            let deadline = sk.sk.cold.as_ref().and_then(|c| c.sndtimeo).map(|t| net.env.now + t);
            Step::Sleep(Sleep { on: SockId::Tcp(id), mask: EVERYTHING, exclusive: false, deadline })
        }
        State::Close => {
            // The error once, ECONNABORTED when it was read already.
            sk.flags.connecting = false;
            let err = sk.sk.take_err().map_or(Errno::ECONNABORTED, Errno);
            close::disconnect(sk, net, id);
            sk.sk.err = 0;
            give_back_port(sk, net, id);
            done(Err(err))
        }
        _ => {
            sk.flags.connecting = false;
            done(Ok(()))
        }
    }
}

fn dissolve(k: &mut Kernel, id: TcpId) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    if sk.state == State::Listen {
        super::handshake::request::listen_stop(k, id);
        let Kernel { socks, net, .. } = k;
        let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
        set_state(net, sk, id, State::Close);
        return Ok(());
    }
    let was = sk.state;
    close::disconnect(sk, net, id);
    if was == State::Close {
        sk.sk.err = 0;
    }
    sk.flags.connecting = false;
    give_back_port(sk, net, id);
    super::wake(net, sk, id, EVERYTHING);
    Ok(())
}

/// A port that connect() or bind(0) chose is free at once; the number stays readable until the next bind or connect.
fn give_back_port(sk: &mut TcpSock, net: &mut crate::net::Net, id: TcpId) {
    if sk.sk.userlocks & SOCK_BINDPORT_LOCK == 0 {
        tables::put_port(net, sk, id);
        sk.sk.userlocks &= !SOCK_CONNECT_BIND;
    }
}

/// Route, source, port, ehash, SYN.
#[doc(alias = "tcp_v4_connect")]
fn begin(k: &mut Kernel, id: TcpId, addr: Ipv4Addr, port: u16) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    if std::mem::take(&mut sk.flags.connecting) && sk.sk.err == 0 {
        // It failed, and the error was read with SO_ERROR.
        sk.sk.shutdown = 0;
        return Err(Errno::ECONNABORTED);
    }
    if let Some(err) = sk.sk.take_err() {
        return Err(Errno(err));
    }
    let addr = if addr.is_unspecified() { Ipv4Addr::LOCALHOST } else { addr };
    let fl = Flow4 { daddr: addr, saddr: sk.sk.saddr, oif: sk.sk.bound_dev, tos: sk.sk.tos, mark: sk.sk.mark };
    let dst = ip_route_output(net, sk.sk.ns, &fl)?;
    if matches!(dst.kind, RouteKind::Broadcast | RouteKind::Multicast) {
        return Err(Errno::ENETUNREACH);
    }
    if sk.sk.saddr.is_unspecified() {
        sk.sk.saddr = dst.src;
    }
    sk.sk.rcv_saddr = sk.sk.saddr;
    sk.sk.daddr = addr;
    sk.sk.dport = port;
    sk.sk.shutdown = 0;
    sk.dst = Some(dst);
    let fixed = sk.bind.is_some();
    let chosen = if fixed { take_bound_port(k, id) } else { choose_port(k, id) };
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    if let Err(e) = chosen {
        sk.sk.daddr = Ipv4Addr::UNSPECIFIED;
        sk.sk.dport = 0;
        if sk.sk.userlocks & SOCK_BINDADDR_LOCK == 0 {
            sk.sk.saddr = Ipv4Addr::UNSPECIFIED;
            sk.sk.rcv_saddr = Ipv4Addr::UNSPECIFIED;
        }
        return Err(e);
    }
    let t = Tuple::of(sk);
    if let Some(n) = net.ns.get(sk.sk.ns) {
        if sk.snd.write_seq == 0 {
            sk.snd.write_seq = isn::secure_tcp_seq(n.secret, &t, net.env.now);
        }
        sk.tsoffset = if n.sysctl.tcp_timestamps == 1 { isn::ts_offset(n.secret, t.laddr, t.raddr) } else { 0 };
    }
    set_state(net, sk, id, State::SynSent);
    sk.flags.connecting = true;
    tables::reclass(net, sk);
    transmit::connect_init(sk, net, id)
}

/// The program bound the port: only the 4-tuple must be free (a TIME_WAIT with time stamps may go).
fn take_bound_port(k: &mut Kernel, id: TcpId) -> Result<(), Errno> {
    match try_tuple(k, id, true) {
        true => Ok(()),
        false => Err(Errno::EADDRNOTAVAIL),
    }
}

/// Is the socket's tuple free? Then it is taken. A TIME_WAIT entry gives way under `tcp_twsk_unique`'s conditions.
fn try_tuple(k: &mut Kernel, id: TcpId, bound: bool) -> bool {
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get(id) else { return false };
    let t = Tuple::of(sk);
    let Some(n) = net.ns.get(sk.sk.ns) else { return false };
    let (hash, ns) = (t.hash(n.secret), sk.sk.ns);
    match n.tcp.find(hash, &t, &socks.tcp) {
        None => {}
        Some(EhashRef::TimeWait(tw)) => {
            let Some(w) = n.tcp.tws.get(tw) else { return false };
            if !w.may_be_reused(&n.sysctl, net.env.now, bound) {
                return false;
            }
            let (write_seq, ts_recent, stamp) = w.reuse_state();
            super::handshake::time_wait::kill(net, ns, tw);
            if let Some(sk) = socks.tcp.get_mut(id) {
                sk.snd.write_seq = write_seq;
                sk.rcv.ts_recent = ts_recent;
                sk.rcv.ts_recent_stamp = stamp;
            }
            net.inc(ns, crate::net::mib::Mib::TcpExtTWRecycled);
        }
        Some(_) => return false,
    }
    if let Some(sk) = socks.tcp.get_mut(id) {
        tables::hash(net, sk, id);
    }
    true
}

/// Walks the range from a secret offset by twos, ports of the parity of its first one before the others
/// (`__inet_hash_connect`). EADDRNOTAVAIL.
#[doc(alias = "__inet_hash_connect")]
fn choose_port(k: &mut Kernel, id: TcpId) -> Result<(), Errno> {
    const PERTURB: usize = 256;
    let sk = k.socks.tcp.get(id).ok_or(Errno::EINVAL)?;
    let (ns, saddr, daddr, dport) = (sk.sk.ns, sk.sk.saddr, sk.sk.daddr, sk.sk.dport);
    let n = k.net.ns.get_mut(ns).ok_or(Errno::EADDRNOTAVAIL)?;
    let PortRange { lo, hi } = port_range(&sk.sk, &n.sysctl);
    let (lo, hi) = (u32::from(lo), u32::from(hi) + 1);
    let mut span = hi - lo;
    if span > 1 {
        span &= !1;
    }
    let secret =
        keyed(n.secret, u64::from(u32::from(saddr)) << 32 | u64::from(u32::from(daddr)), u64::from(dport) << 1 | 1);
    let slot = (secret >> 32) as usize % PERTURB;
    n.tcp.perturb.resize(PERTURB, 0);
    let offset = ((secret as u32).wrapping_add(n.tcp.perturb[slot]) % span) & !1;
    for parity in [0, 1] {
        for step in 0..span.div_ceil(2) {
            let port = (lo + (offset + 2 * step) % span + parity).min(hi - 1) as u16;
            if candidate(k, ns, port) && claim(k, id, port) {
                // A small random even step, so that neighbours in time are not neighbours in port.
                let jump = (k.net.env.rng.below(8) * 2 + 2).wrapping_add(2 * step);
                if let Some(n) = k.net.ns.get_mut(ns) {
                    n.tcp.perturb[slot] = n.tcp.perturb[slot].wrapping_add(jump);
                }
                return Ok(());
            }
            if span == 1 {
                break;
            }
        }
    }
    Err(Errno::EADDRNOTAVAIL)
}

/// Free, or used only by other connect()s.
fn candidate(k: &Kernel, ns: NsId, port: u16) -> bool {
    let Some(n) = k.net.ns.get(ns) else { return false };
    !n.sysctl.ip_local_reserved_ports.contains(port)
        && n.tcp.bhash.get(&port).is_none_or(|b| b.classes().next().is_none())
}

fn claim(k: &mut Kernel, id: TcpId, port: u16) -> bool {
    if let Some(sk) = k.socks.tcp.get_mut(id) {
        sk.sk.num = port;
    }
    if !try_tuple(k, id, false) {
        if let Some(sk) = k.socks.tcp.get_mut(id) {
            sk.sk.num = 0;
        }
        return false;
    }
    let Kernel { socks, net, .. } = k;
    if let Some(sk) = socks.tcp.get_mut(id)
        && let Some(n) = net.ns.get_mut(sk.sk.ns)
    {
        sk.bind = Some(n.tcp.hold(port, None));
        sk.sk.userlocks |= SOCK_CONNECT_BIND;
    }
    true
}
