//! connect(2): where to, from which address and port, and how its end is told (Linux: `__inet_stream_connect`,
//! `tcp_v4_connect`, `__inet_hash_connect`).
use super::bind::port_range;
use super::handshake::{fastopen, isn};
use super::input::EVERYTHING;
use super::output::transmit;

use super::state::State;
use super::tables::{self, EhashRef, Tuple, keyed, pair};
use super::{close, set_state};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::af::{self, Flow};
use crate::net::core::fib_rules;
use crate::net::core::sock::*;
use crate::net::ipv4::route::RouteKind;
use crate::net::mib::Mib;
use crate::net::sysctl::PortRange;
use crate::task::call::{Ret, RunCtx, SendMsg, Sleep, Step};
use belljar_abi::Errno;
use belljar_wire::ipv4::IPPROTO_TCP;
use core::net::IpAddr;

/// Where to: `None` dissolves (AF_UNSPEC).
pub type Target = Option<(IpAddr, u16)>;

/// One run of connect: begins, or reports how it stands.
#[doc(alias = "__inet_stream_connect")]
pub fn tcp_connect(k: &mut Kernel, id: TcpId, to: Target, ctx: RunCtx) -> Step {
    let done = |r: Result<(), Errno>| Step::Done(r.map(|()| Ret::Int(0)));
    let Some(sk) = k.socks.tcp.get_mut(id) else { return done(Err(Errno::EINVAL)) };
    if !ctx.again {
        let Some((addr, port)) = to else { return done(dissolve(k, id)) };
        let opening = sk.state.is(&[State::SynSent, State::SynRecv]);
        if sk.flags.connected || (!sk.flags.connecting && sk.state != State::Close) {
            return done(Err(Errno::EISCONN));
        }
        if sk.flags.connecting && sk.tfo.as_ref().is_some_and(|t| t.defer_connect) {
            return done(Err(Errno::EISCONN));
        }
        if sk.flags.connecting && opening && ctx.nonblock {
            return done(Err(Errno::EALREADY));
        }
        if !sk.flags.connecting {
            match begin(k, id, addr, port, None) {
                // Fast Open: the SYN goes with the first write.
                Ok(()) if k.socks.tcp.get(id).and_then(|sk| sk.tfo.as_ref()).is_some_and(|t| t.defer_connect) => {
                    return done(Ok(()));
                }
                Ok(()) if ctx.nonblock => return done(Err(Errno::EINPROGRESS)),
                Ok(()) => {}
                Err(e) => return done(Err(e)),
            }
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
            // The error once, ECONNABORTED when it was read already; then the socket is as new.
            let err = sk.sk.take_err().map_or(Errno::ECONNABORTED, Errno);
            close::disconnect(sk, net, id);
            sk.sk.err = 0;
            done(Err(err))
        }
        _ => {
            (sk.flags.connecting, sk.flags.connected) = (false, true);
            done(Ok(()))
        }
    }
}

fn dissolve(k: &mut Kernel, id: TcpId) -> Result<(), Errno> {
    if k.socks.tcp.get(id).is_some_and(|sk| sk.state == State::Listen) {
        super::handshake::child::listen_stop(k, id);
    }
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    let was = sk.state;
    close::disconnect(sk, net, id);
    if was == State::Close {
        sk.sk.err = 0;
    }
    super::wake(net, sk, id, EVERYTHING);
    Ok(())
}

/// Route, source, port, ehash, SYN; with Fast Open the beginning of `first` goes along.
#[doc(alias = "tcp_v4_connect")]
pub(super) fn begin(
    k: &mut Kernel,
    id: TcpId,
    addr: IpAddr,
    port: u16,
    first: Option<&mut SendMsg<'_>>,
) -> Result<(), Errno> {
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::EINVAL)?;
    // "This host": the address the socket is bound to, else loopback.
    let addr = match (addr.is_unspecified(), sk.sk.saddr.is_unspecified()) {
        (false, _) => addr,
        (true, false) => sk.sk.saddr,
        (true, true) => af::loopback(addr),
    };
    // A socket of the wildcard `::` goes over to the family of its peer.
    let saddr = if sk.sk.saddr.is_unspecified() { tables::wildcard(addr) } else { sk.sk.saddr };
    let ports = (sk.sk.num, port);
    let fl = Flow { daddr: sk.sk.first_hop(addr), saddr, ports, ..Flow::of(&sk.sk, IPPROTO_TCP) };
    let ns = sk.sk.ns;
    let dst = af::route_output(net, ns, &fl).inspect_err(|e| {
        if *e == Errno::ENETUNREACH {
            net.inc(ns, Mib::IpOutNoRoutes);
        }
    })?;
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
    let started = chosen.and_then(|()| {
        let t = Tuple::of(sk);
        // There may be a rule about the port that was chosen (`ip_route_newports`).
        if !fixed && fib_rules::any_wants_l4(net, ns) {
            sk.dst = Some(af::route_output(net, ns, &Flow::of(&sk.sk, IPPROTO_TCP))?);
        }
        if let Some(n) = net.ns.get(ns) {
            if sk.snd.write_seq == 0 {
                sk.snd.write_seq = isn::secure_tcp_seq(n.secret, &t, net.env.now);
            }
            sk.tsoffset = if n.sysctl.tcp_timestamps == 1 { isn::ts_offset(n.secret, t.laddr, t.raddr) } else { 0 };
        }
        set_state(net, sk, id, State::SynSent);
        sk.flags.connecting = true;
        tables::reclass(net, sk);
        if first.is_none() && fastopen::client::defer_connect(sk, net) {
            return Ok(());
        }
        transmit::connect_init(sk, net, id, first)
    });
    if let Err(e) = started {
        // As if it had not been called.
        if sk.state != State::Close {
            close::disconnect(sk, net, id);
        }
        sk.sk.err = 0;
        (sk.sk.daddr, sk.sk.dport, sk.dst) = (sk.sk.any(), 0, None);
        if sk.sk.userlocks & SOCK_BINDADDR_LOCK == 0 {
            (sk.sk.saddr, sk.sk.rcv_saddr) = (sk.sk.any(), sk.sk.any());
        }
        return Err(e);
    }
    Ok(())
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
            net.inc(ns, Mib::TcpExtTWRecycled);
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
    // In a range of its own the socket has no parity to keep to.
    let stride = if sk.sk.cold.as_ref().is_some_and(|c| c.local_port_range.is_some()) { 1 } else { 2 };
    let mut span = hi - lo;
    if span > 1 && stride == 2 {
        span &= !1;
    }
    let secret = keyed(n.secret, pair(n.secret, saddr, daddr), u64::from(dport) << 1 | 1);
    let slot = (secret >> 32) as usize % PERTURB;
    n.tcp.perturb.resize(PERTURB, 0);
    let offset = (secret as u32).wrapping_add(n.tcp.perturb[slot]) % span / stride * stride;
    for parity in 0..stride.min(span) {
        for step in 0..span.div_ceil(stride) {
            let port = (lo + (offset + stride * step) % span + parity) as u16;
            if candidate(k, ns, port) && claim(k, id, port) {
                // A small random step beyond it, so that neighbours in time are not neighbours in port.
                let jump = stride * (k.net.env.rng.below(8) + step + 1);
                if let Some(n) = k.net.ns.get_mut(ns) {
                    n.tcp.perturb[slot] = n.tcp.perturb[slot].wrapping_add(jump);
                }
                return Ok(());
            }
        }
    }
    if let Some(n) = k.net.ns.get_mut(ns) {
        let super::tables::TcpTables { account, tws, .. } = &mut n.tcp;
        let inside = |t: Tuple| (t.raddr, t.rport) == (daddr, dport) && (lo..hi).contains(&t.lport.into());
        let waiting = || tws.iter().filter(|(_, w)| inside(w.tuple())).count() as u32;
        account.no_port((daddr, dport), (lo as u16, (hi - 1) as u16), waiting);
    }
    Err(Errno::EADDRNOTAVAIL)
}

/// Free, or used only by other connect()s.
fn candidate(k: &Kernel, ns: NsId, port: u16) -> bool {
    let Some(n) = k.net.ns.get(ns) else { return false };
    !n.sysctl.ip_local_reserved_ports.contains(port) && n.tcp.bhash.only_connects(port)
}

fn claim(k: &mut Kernel, id: TcpId, port: u16) -> bool {
    let Some(sk) = k.socks.tcp.get_mut(id) else { return false };
    let old = std::mem::replace(&mut sk.sk.num, port);
    let taken = try_tuple(k, id, false);
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return false };
    if !taken {
        sk.sk.num = old;
        return false;
    }
    sk.sk.userlocks |= SOCK_CONNECT_BIND;
    if let Some(n) = net.ns.get_mut(sk.sk.ns) {
        sk.bind = Some(n.tcp.bhash.hold(port, tables::Class::of(sk)));
    }
    true
}
