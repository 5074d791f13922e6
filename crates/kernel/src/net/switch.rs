//! Linux's function-pointer tables as matches: which socket code gets the call (`struct proto`, `struct proto_ops`), which
//! protocol gets the packet (`inet_protos`).
use crate::drivers::tunnel::{self, IPPROTO_GRE, IPPROTO_IPIP};
use crate::ids::*;
use crate::kernel::{Kernel, Socks};
use crate::mem::{Gfp, Kind};
use crate::net::af;
use crate::net::core::skb::{SkBuff, Skb};
use crate::net::core::sock::{Family, Sock};
use crate::net::core::{errqueue, sockopt, sockopt6};
use crate::net::drop::DropReason;
use crate::net::ipv4::icmp_rcv::convert;
use crate::net::ipv4::{mcast, route};
use crate::net::ipv6::flowlabel;
use crate::net::ipv6::icmp_rcv::convert as convert6;
use crate::net::packet;
use crate::net::raw;
use crate::net::tcp;
use crate::net::tcp::sock::TcpSock;
use crate::net::tcp::state::State;
use crate::net::udp;
use crate::net::xsk;
use crate::task::call::*;
use crate::task::wait::PollMask;
use belljar_abi::if_xdp::SOL_XDP;
use belljar_abi::*;
use belljar_wire::{icmp, icmpv6, ipv4};
use core::net::{IpAddr, Ipv6Addr};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    Tcp,
    Udp,
    /// The protocol is part of the packet.
    Raw(u16),
    Ping,
    /// Without link headers, or with; which packets (0: none yet).
    Packet(bool, u16),
    Xsk,
}

/// Why accept has no connection to give.
#[derive(Clone, Copy, Debug)]
pub enum NoChild {
    Sleep(Sleep),
    Fails(Errno),
}

impl Socks {
    pub fn sk(&self, id: SockId) -> Option<&Sock> {
        Some(match id {
            SockId::Tcp(id) => &self.tcp.get(id)?.sk,
            SockId::Udp(id) => &self.udp.get(id)?.sk,
            SockId::Raw(id) => &self.raw.get(id)?.sk,
            SockId::Packet(id) => &self.packet.get(id)?.sk,
            SockId::Xsk(id) => &self.xsk.get(id)?.sk,
        })
    }

    pub fn sk_mut(&mut self, id: SockId) -> Option<&mut Sock> {
        Some(match id {
            SockId::Tcp(id) => &mut self.tcp.get_mut(id)?.sk,
            SockId::Udp(id) => &mut self.udp.get_mut(id)?.sk,
            SockId::Raw(id) => &mut self.raw.get_mut(id)?.sk,
            SockId::Packet(id) => &mut self.packet.get_mut(id)?.sk,
            SockId::Xsk(id) => &mut self.xsk.get_mut(id)?.sk,
        })
    }
}

/// EPROTONOSUPPORT for a protocol that this kernel has not.
#[doc(alias = "inet_create")]
pub(crate) fn create(k: &mut Kernel, ns: NsId, family: Family, proto: Proto, cred: Cred) -> Result<SockId, Errno> {
    let sysctl = &k.net.ns.get(ns).ok_or(Errno::EAFNOSUPPORT)?.sysctl;
    match proto {
        Proto::Tcp => {
            let mut sk = TcpSock::new(Sock::new(ns, family), sysctl);
            sk.sk.discover_pmtu(sysctl);
            sk.sk.flags.no_txrehash = sysctl.txrehash == 0;
            if family == Family::Inet6 && sysctl.flowlabel_reflect & flowlabel::REFLECT_ESTABLISHED != 0 {
                sk.sk.v6_opts_mut().repflow = true;
            }
            if !k.net.mem.room(Kind::Tcp, &k.socks.tcp, Gfp::Kernel) {
                return Err(Errno::ENOBUFS);
            }
            Ok(SockId::Tcp(k.socks.tcp.insert(sk)))
        }
        Proto::Udp => udp::create(k, ns, family).map(SockId::Udp),
        Proto::Raw(p) => raw::create(k, ns, family, p, false, cred.gid).map(SockId::Raw),
        Proto::Packet(cooked, proto) => packet::create(k, ns, cooked, proto).map(SockId::Packet),
        Proto::Xsk => xsk::create(k, ns).map(SockId::Xsk),
        Proto::Ping => {
            let protocol = if family == Family::Inet { IPPROTO_ICMP } else { IPPROTO_ICMPV6 };
            raw::create(k, ns, family, protocol as u16, true, cred.gid).map(SockId::Raw)
        }
    }
}

/// Local address first, then the right to the port, then the port itself.
#[doc(alias = "__inet_bind")]
pub(crate) fn bind(k: &mut Kernel, sock: SockId, to: SockAddr, cred: Cred) -> Result<(), Errno> {
    let (addr, port) = to.to_ip().ok_or(Errno::EAFNOSUPPORT)?;
    if let IpAddr::V6(a) = addr {
        bind6_address(k, sock, a, to.scope())?;
    }
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    let sysctl = &k.net.ns.get(sk.ns).ok_or(Errno::EADDRNOTAVAIL)?.sysctl;
    let anything = sysctl.ip_nonlocal_bind != 0 || sk.flags.freebind || sk.flags.transparent;
    let foreign = || af::addr_type(&k.net, sk.ns, addr) == route::RouteKind::Unicast;
    if addr.is_ipv4() && !addr.is_unspecified() && !anything && foreign() {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if let SockId::Raw(id) = sock {
        return raw::bind::bind(k, id, addr, port, cred.uid);
    }
    if port != 0 && u32::from(port) < sysctl.ip_unprivileged_port_start && !cred.caps.net_bind_service {
        return Err(Errno::EACCES);
    }
    match sock {
        SockId::Tcp(id) => tcp::bind::tcp_bind(k, id, addr, port),
        SockId::Udp(id) => udp::bind::bind(k, id, addr, port, cred.uid),
        SockId::Raw(id) => raw::bind::bind(k, id, addr, port, cred.uid),
        // Its addresses are none of IP's.
        SockId::Packet(_) | SockId::Xsk(_) => Err(Errno::EINVAL),
    }
}

/// One of our addresses, on the interface that a link-local one names; a stream is not bound to a group.
#[doc(alias = "__inet6_bind")]
fn bind6_address(k: &mut Kernel, sock: SockId, addr: Ipv6Addr, scope: u32) -> Result<(), Errno> {
    let sk = k.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
    if addr.is_multicast() && matches!(sock, SockId::Tcp(_)) {
        return Err(Errno::EINVAL);
    }
    if addr.is_unspecified() {
        return Ok(());
    }
    let (ns, mut dev) = (sk.ns, sk.bound_dev);
    let link = belljar_wire::ipv6::needs_scope(addr);
    if link && scope != 0 {
        let named = k.net.dev_by_index(ns, scope).ok_or(Errno::ENODEV)?;
        if dev.is_some_and(|d| d != named) {
            return Err(Errno::EINVAL);
        }
        dev = Some(named);
    }
    if link && dev.is_none() {
        return Err(Errno::EINVAL);
    }
    let n = k.net.ns.get(ns).ok_or(Errno::EADDRNOTAVAIL)?;
    let anything = n.sysctl.ip_nonlocal_bind6 != 0 || sk.flags.freebind || sk.flags.transparent;
    let on = dev.filter(|_| link);
    if !addr.is_multicast() && !anything && !crate::net::ipv6::route::chk_addr(&k.net, ns, addr, on) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if let Some(sk) = k.socks.sk_mut(sock).filter(|_| link) {
        sk.bound_dev = dev;
    }
    Ok(())
}

/// The interface that the address names: the socket is bound to it from now on. EINVAL for a link-local address without one.
#[doc(alias = "tcp_v6_connect")]
fn scope_for_connect(k: &mut Kernel, sock: SockId, to: &SockAddr) -> Result<(), Errno> {
    let SockAddr::V6 { addr, scope, flowinfo, .. } = *to else { return Ok(()) };
    let Kernel { socks, net, .. } = k;
    let sk = socks.sk_mut(sock).ok_or(Errno::ENOTSOCK)?;
    let label = if sk.v6_opts().is_some_and(|o| o.flowinfo_send) { flowinfo & 0xfff_ffff } else { 0 };
    if label != 0 {
        flowlabel::look_up(net, sk, label, &mut None)?;
    }
    if label != 0 || sk.cold.is_some() {
        sk.cold().flow_label = label;
    }
    if addr.is_multicast() && matches!(sock, SockId::Tcp(_)) {
        return Err(Errno::ENETUNREACH);
    }
    if !belljar_wire::ipv6::needs_scope(addr) {
        return Ok(());
    }
    let mut dev = sk.bound_dev;
    if scope != 0 {
        let named = k.net.dev_by_index(sk.ns, scope);
        if dev.is_some() && dev != named {
            return Err(Errno::EINVAL);
        }
        dev = Some(named.ok_or(Errno::ENODEV)?);
    }
    let multicast_if = sk.v6_opts().and_then(|o| o.mcast_if).filter(|_| addr.is_multicast());
    let dev = dev.or(multicast_if).ok_or(Errno::EINVAL)?;
    if let Some(sk) = k.socks.sk_mut(sock) {
        sk.bound_dev = Some(dev);
    }
    Ok(())
}

pub(crate) fn listen(k: &mut Kernel, sock: SockId, backlog: i32) -> Result<(), Errno> {
    match sock {
        SockId::Tcp(id) => {
            let sk = k.socks.tcp.get(id).ok_or(Errno::EINVAL)?;
            if sk.sk.flags.ss_connected || sk.flags.connecting {
                return Err(Errno::EINVAL);
            }
            tcp::bind::tcp_listen(k, id, backlog)
        }
        SockId::Udp(_) | SockId::Raw(_) | SockId::Packet(_) | SockId::Xsk(_) => Err(Errno::EOPNOTSUPP),
    }
}

#[doc(alias = "inet_csk_accept")]
pub(crate) fn accept(k: &mut Kernel, sock: SockId, ctx: RunCtx) -> Result<SockId, NoChild> {
    let SockId::Tcp(id) = sock else { return Err(NoChild::Fails(Errno::EOPNOTSUPP)) };
    if k.socks.tcp.get(id).is_none_or(|sk| sk.state != State::Listen) {
        return Err(NoChild::Fails(Errno::EINVAL));
    }
    match tcp::handshake::child::accept(k, id) {
        Some(child) => {
            if let Some(sk) = k.socks.tcp.get_mut(child) {
                sk.sk.flags.ss_connected = true;
            }
            Ok(SockId::Tcp(child))
        }
        None if ctx.nonblock || ctx.timed_out => Err(NoChild::Fails(Errno::EAGAIN)),
        // The oldest sleeper is woken, one for a connection.
        None => Err(NoChild::Sleep(Sleep { on: sock, mask: 0, exclusive: true, deadline: None })),
    }
}

/// `to`: IPv4, or `Unspec` to dissolve.
pub(crate) fn connect(k: &mut Kernel, sock: SockId, to: SockAddr, ctx: RunCtx) -> Step {
    if let Err(e) = scope_for_connect(k, sock, &to) {
        return Step::Done(Err(e));
    }
    match sock {
        SockId::Tcp(id) => {
            let target = to.to_ip();
            if target.is_some() && k.socks.tcp.get(id).is_some_and(|sk| sk.sk.flags.ss_connected) {
                return Step::Done(Err(Errno::EISCONN));
            }
            let step = tcp::connect::tcp_connect(k, id, target, ctx);
            k.tcp_settle(id);
            if let (Step::Done(Ok(_)), Some(sk)) = (&step, k.socks.tcp.get_mut(id)) {
                // With Fast Open the success is told before there is a connection.
                sk.sk.flags.ss_connected = target.is_some() && sk.state != State::SynSent;
            }
            step
        }
        SockId::Udp(id) => Step::Done(udp::bind::connect(k, id, to).map(|()| Ret::Int(0))),
        SockId::Raw(id) => Step::Done(raw::bind::connect(k, id, to).map(|()| Ret::Int(0))),
        SockId::Packet(_) | SockId::Xsk(_) => Step::Done(Err(Errno::EOPNOTSUPP)),
    }
}

pub(crate) fn sendmsg(k: &mut Kernel, sock: SockId, m: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    match sock {
        SockId::Tcp(id) if m.flags & MSG_ZEROCOPY != 0 => tcp_send_zerocopy(k, id, m, ctx),
        SockId::Tcp(id) => tcp_send(k, id, m, ctx),
        SockId::Udp(id) => udp::sendmsg::sendmsg(k, id, m, ctx),
        SockId::Raw(id) => raw::sendmsg::sendmsg(k, id, m, ctx),
        SockId::Packet(id) => packet::sendmsg::sendmsg(k, id, m, ctx),
        // Its memory is the driver's: [`Kernel::xsk_sendmsg`].
        SockId::Xsk(_) => Step::Done(Err(Errno::EBUSY)),
    }
}

#[doc(alias = "tcp_sendmsg")]
fn tcp_send(k: &mut Kernel, id: TcpId, m: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    if let Some(step) = tcp::handshake::fastopen::client::sendmsg(k, id, m, ctx) {
        k.tcp_settle(id);
        return step;
    }
    let Kernel { socks, net, .. } = k;
    let Some(sk) = socks.tcp.get_mut(id) else { return Step::Done(Err(Errno::EPIPE)) };
    let step = tcp::sendmsg::tcp_sendmsg(sk, net, id, m, ctx);
    tcp::mem::settle(sk, net);
    step
}

/// The call has a number from its beginning to its end.
fn tcp_send_zerocopy(k: &mut Kernel, id: TcpId, m: &mut SendMsg<'_>, ctx: RunCtx) -> Step {
    let Some(sk) = k.socks.tcp.get_mut(id) else { return Step::Done(Err(Errno::EPIPE)) };
    if let Err(e) = tcp::zerocopy::begin(sk, &k.net, m) {
        return Step::Done(Err(e));
    }
    let step = tcp_send(k, id, m, ctx);
    if let Some(sk) = k.socks.tcp.get_mut(id) {
        tcp::zerocopy::end(&mut sk.sk, &mut k.net.env, id, m, &step);
    }
    step
}

pub(crate) fn recvmsg(k: &mut Kernel, sock: SockId, m: &mut RecvMsg, ctx: RunCtx) -> Step {
    if m.flags & MSG_ERRQUEUE != 0 {
        let got = errqueue::recv_error(k, sock, m.len);
        if let SockId::Tcp(id) = sock {
            k.tcp_settle(id);
        }
        return Step::Done(got);
    }
    let Kernel { socks, net, .. } = k;
    match sock {
        SockId::Tcp(id) => match socks.tcp.get_mut(id) {
            Some(sk) => {
                let step = tcp::recvmsg::tcp_recvmsg(sk, net, id, m, ctx);
                tcp::mem::settle(sk, net);
                step
            }
            None => Step::Done(Err(Errno::ENOTCONN)),
        },
        SockId::Udp(id) => udp::recvmsg::recvmsg(k, id, m, ctx),
        SockId::Raw(id) => raw::recvmsg::recvmsg(k, id, m, ctx),
        SockId::Packet(id) => packet::recvmsg::recvmsg(k, id, m, ctx),
        SockId::Xsk(id) => Step::Done(k.xsk_recvmsg(id, ctx.nonblock).map(|()| Ret::Data(k.net.pool.take_received()))),
    }
}

pub(crate) fn shutdown(k: &mut Kernel, sock: SockId, how: i32) -> Result<(), Errno> {
    match sock {
        SockId::Tcp(id) => {
            let done = tcp::close::tcp_shutdown(k, id, how);
            k.tcp_settle(id);
            done
        }
        SockId::Udp(id) => udp::shutdown(k, id, how),
        SockId::Raw(id) => raw::shutdown(k, id, how),
        SockId::Packet(_) | SockId::Xsk(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// The last reference went. May sleep for SO_LINGER, unless `nonblock` (a process that exits does not linger).
#[doc(alias = "inet_release")]
pub(crate) fn release(k: &mut Kernel, sock: SockId, ctx: RunCtx) -> Step {
    match sock {
        SockId::Tcp(id) => {
            let lingers = ctx.again || tcp::close::tcp_close(k, id);
            k.tcp_settle(id);
            let Kernel { socks, net, .. } = k;
            match socks.tcp.get_mut(id) {
                Some(sk) if lingers => {
                    let ctx = RunCtx { timed_out: ctx.timed_out || ctx.nonblock, ..ctx };
                    return tcp::close::linger_step(sk, net, id, ctx);
                }
                _ => {}
            }
        }
        SockId::Udp(id) => {
            mcast::drop_socket(k, sock);
            udp::release(k, id);
        }
        SockId::Raw(id) => {
            mcast::drop_socket(k, sock);
            raw::release(k, id);
        }
        SockId::Packet(id) => packet::release(k, id),
        SockId::Xsk(id) => xsk::release(k, id),
    }
    Step::Done(Ok(Ret::Int(0)))
}

pub(crate) fn poll(k: &mut Kernel, sock: SockId) -> PollMask {
    let Kernel { socks, net, .. } = k;
    match sock {
        SockId::Tcp(id) => socks.tcp.get_mut(id).map_or(POLLHUP, |sk| tcp::poll::tcp_poll(sk, net)),
        SockId::Udp(id) => socks.udp.get(id).map_or(POLLHUP, udp::poll),
        SockId::Raw(id) => socks.raw.get(id).map_or(POLLHUP, raw::poll),
        SockId::Packet(id) => socks.packet.get(id).map_or(POLLHUP, packet::poll),
        SockId::Xsk(id) => socks.xsk.get(id).map_or(POLLHUP, xsk::poll),
    }
}

/// Requests that ask a socket for a number.
#[doc(alias = "tcp_ioctl")]
pub(crate) fn ioctl(k: &mut Kernel, sock: SockId, request: u32) -> Result<i64, Errno> {
    match sock {
        SockId::Tcp(id) => {
            let sk = k.socks.tcp.get(id).ok_or(Errno::ENOTTY)?;
            let opening = sk.state.is(&[State::SynSent, State::SynRecv]);
            let since = |from: u32| if opening { 0 } else { i64::from(sk.snd.write_seq.wrapping_sub(from)) };
            match request {
                SIOCINQ | SIOCOUTQ | SIOCOUTQNSD if sk.state == State::Listen => Err(Errno::EINVAL),
                SIOCINQ if opening => Ok(0),
                SIOCINQ => Ok(tcp::urgent::inq(sk).into()),
                SIOCOUTQ => Ok(since(sk.snd.una)),
                SIOCOUTQNSD => Ok(since(sk.snd.nxt)),
                SIOCATMARK => Ok(tcp::urgent::at_mark(sk).into()),
                _ => Err(Errno::ENOTTY),
            }
        }
        SockId::Udp(id) => udp::ioctl(k, id, request),
        SockId::Raw(id) => raw::ioctl(k, id, request),
        SockId::Packet(id) => packet::ioctl(k, id, request),
        SockId::Xsk(_) => Err(Errno::ENOTTY),
    }
}

fn v6(k: &Kernel, sock: SockId) -> bool {
    k.socks.sk(sock).is_some_and(|sk| sk.family == Family::Inet6)
}

pub(crate) fn setsockopt(
    k: &mut Kernel,
    sock: SockId,
    level: i32,
    name: i32,
    value: &[u8],
    cred: Cred,
) -> Result<(), Errno> {
    match (level, sock) {
        (SOL_SOCKET, _) => sockopt::sock_setsockopt(k, sock, name, value, cred),
        (SOL_PACKET, SockId::Packet(id)) => packet::sockopt::setsockopt(k, id, name, value),
        (SOL_XDP, SockId::Xsk(id)) => xsk::setsockopt(k, id, name, value),
        (_, SockId::Packet(_) | SockId::Xsk(_)) => Err(Errno::ENOPROTOOPT),
        (SOL_IP, SockId::Raw(id)) if raw::is_raw6(k, id) => Err(Errno::ENOPROTOOPT),
        (SOL_IP, _) => sockopt::ip_setsockopt(k, sock, name, value, cred),
        (SOL_IPV6, SockId::Raw(id)) if raw::is_own_option(name) => raw::setsockopt(k, id, level, name, value),
        (SOL_IPV6, _) => sockopt6::ipv6_setsockopt(k, sock, name, value, cred),
        (SOL_TCP, SockId::Tcp(id)) => {
            let Kernel { socks, net, .. } = k;
            let sk = socks.tcp.get_mut(id).ok_or(Errno::ENOTSOCK)?;
            let done = tcp::sockopt::tcp_setsockopt(sk, net, id, name, value, cred.caps.net_admin);
            tcp::mem::settle(sk, net);
            done
        }
        (SOL_UDP, SockId::Udp(id)) => udp::setsockopt(k, id, name, value),
        (SOL_RAW | SOL_ICMPV6, SockId::Raw(id)) => raw::setsockopt(k, id, level, name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

pub(crate) fn getsockopt(k: &mut Kernel, sock: SockId, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    match (level, sock) {
        (SOL_SOCKET, _) => sockopt::sock_getsockopt(k, sock, name, len),
        (SOL_PACKET, SockId::Packet(id)) => packet::sockopt::getsockopt(k, id, name),
        (SOL_XDP, SockId::Xsk(id)) => xsk::getsockopt(k, id, name, len),
        (_, SockId::Packet(_) | SockId::Xsk(_)) => Err(Errno::ENOPROTOOPT),
        (SOL_IP, SockId::Raw(id)) if raw::is_raw6(k, id) => Err(Errno::ENOPROTOOPT),
        (SOL_IP, _) => sockopt::ip_getsockopt(k, sock, name, len),
        (SOL_IPV6, _) if !v6(k, sock) => Err(Errno::EOPNOTSUPP),
        (SOL_IPV6, SockId::Raw(id)) if raw::is_own_option(name) => raw::getsockopt(k, id, level, name),
        (SOL_IPV6, _) => sockopt6::ipv6_getsockopt(k, sock, name),
        (SOL_TCP, SockId::Tcp(id)) => {
            let sk = k.socks.tcp.get_mut(id).ok_or(Errno::ENOTSOCK)?;
            tcp::sockopt::tcp_getsockopt(sk, &k.net, name, len)
        }
        (SOL_UDP, SockId::Udp(id)) => udp::getsockopt(k, id, name),
        (SOL_UDPLITE, SockId::Udp(_)) => Err(Errno::ENOPROTOOPT),
        (SOL_RAW | SOL_ICMPV6, SockId::Raw(id)) => raw::getsockopt(k, id, level, name),
        // Whoever is asked last: IPv4 and IPv6 say it differently.
        _ if !v6(k, sock) => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// A packet for this host, pulled to its transport header.
#[doc(alias = "inet_protos")]
pub fn inet_protocol(k: &mut Kernel, proto: u8, skb: Skb) {
    match proto {
        ipv4::IPPROTO_UDP => udp::rcv::udp_rcv(k, skb),
        ipv4::IPPROTO_TCP => tcp::ipv4::tcp_v4_rcv(k, skb),
        IPPROTO_IPIP | IPPROTO_GRE | ipv4::IPPROTO_IPV6 => tunnel::rcv(&mut k.net, proto, skb),
        _ => k.net.kfree_skb(skb, DropReason::IpNoProto, "inet_protocol"),
    }
}

/// An ICMP error; `skb` is pulled to the quoted IP header.
#[doc(alias = "icmp_socket_deliver")]
pub fn inet_protocol_err(k: &mut Kernel, ns: NsId, proto: u8, skb: &SkBuff, kind: u8, code: u8, info: u32) {
    match proto {
        ipv4::IPPROTO_UDP => udp::err::udp_err(k, ns, skb, kind, code, info),
        ipv4::IPPROTO_TCP => tcp_err(k, ns, skb, kind, code, info),
        ipv4::IPPROTO_ICMP => raw::rcv::ping_err(k, ns, skb, kind, code, info),
        IPPROTO_IPIP | IPPROTO_GRE | ipv4::IPPROTO_IPV6 => {
            tunnel::err(&mut k.net, ns, proto, skb, (kind, code, info));
        }
        _ => {}
    }
}

/// An ICMPv6 error about a packet from `src` to `dst`; `skb` is at the quoted IPv6 header, its transport `at` behind.
#[doc(alias = "inet6_protos")]
#[allow(clippy::too_many_arguments)]
pub fn inet6_protocol_err(
    k: &mut Kernel,
    ns: NsId,
    proto: u8,
    skb: &SkBuff,
    (src, dst, at): (core::net::Ipv6Addr, core::net::Ipv6Addr, usize),
    kind: u8,
    code: u8,
    info: u32,
) {
    let quoted = skb.head.bytes().get(at..).unwrap_or(&[]);
    match proto {
        ipv4::IPPROTO_UDP => udp::err::udp6_err(k, ns, skb, (src, dst, at), kind, code, info),
        ipv4::IPPROTO_TCP => {
            let Some(&[s0, s1, d0, d1, q0, q1, q2, q3]) = quoted.first_chunk() else { return };
            let (lport, rport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            let tuple = tcp::tables::Tuple { laddr: src.into(), lport, raddr: dst.into(), rport };
            let (errno, _) = convert6(kind, code);
            let frag = kind == icmpv6::ICMPV6_PKT_TOOBIG;
            let seq = u32::from_be_bytes([q0, q1, q2, q3]);
            let ee = SockExtendedErr { errno: errno.0, origin: SO_EE_ORIGIN_ICMP6, kind, code, info, data: 0 };
            let what = tcp::ipv4::IcmpError { ee, seq, frag_mtu: frag.then_some(info) };
            tcp::ipv4::tcp_v4_err(k, ns, &tuple, &what, skb);
        }
        _ => {}
    }
    if !matches!(proto, ipv4::IPPROTO_UDP | ipv4::IPPROTO_TCP)
        || k.net.ns.get(ns).is_some_and(|n| !n.raw.raw.is_empty())
    {
        raw::rcv6::raw6_err(k, ns, proto, skb, (src, dst, at), kind, code, info);
    }
}

/// What an error says to TCP: whose, about which sequence number, which errno.
fn tcp_err(k: &mut Kernel, ns: NsId, skb: &SkBuff, kind: u8, code: u8, info: u32) {
    let b = skb.head.bytes();
    let Ok(ip) = ipv4::Ipv4Header::parse(b) else { return };
    let Some(&[s0, s1, d0, d1, q0, q1, q2, q3]) = b.get(ip.ihl_bytes..).and_then(|t| t.first_chunk()) else { return };
    let errno = match kind {
        icmp::ICMP_SOURCE_QUENCH => return,
        icmp::ICMP_TIME_EXCEEDED => Errno::EHOSTUNREACH,
        icmp::ICMP_PARAMETERPROB => Errno::EPROTO,
        _ => match convert(code) {
            Some((e, _)) => e,
            None => return,
        },
    };
    let frag = kind == icmp::ICMP_DEST_UNREACH && code == icmp::ICMP_FRAG_NEEDED;
    // The quoted packet is ours: its source is our side.
    let tuple = tcp::tables::Tuple {
        laddr: ip.src.into(),
        lport: u16::from_be_bytes([s0, s1]),
        raddr: ip.dst.into(),
        rport: u16::from_be_bytes([d0, d1]),
    };
    let seq = u32::from_be_bytes([q0, q1, q2, q3]);
    let ee = SockExtendedErr { errno: errno.0, origin: SO_EE_ORIGIN_ICMP, kind, code, info, data: 0 };
    let what = tcp::ipv4::IcmpError { ee, seq, frag_mtu: frag.then_some(info) };
    tcp::ipv4::tcp_v4_err(k, ns, &tuple, &what, skb);
}
