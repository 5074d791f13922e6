//! What the supervisor looks at directly, without a call: queues of a socket, and the tables that netlink shows.
use super::Machine;
use crate::devices::{Addr, Device, Neighbour, Route};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::fs::file::FileKind;
use belljar_kernel::ids::{DevId, PacketId, SockId};
use belljar_kernel::net::af;
use belljar_kernel::net::core::neighbour::Nud;
use belljar_kernel::net::core::sock::Family;
use belljar_kernel::net::ipv4::fib::{self, RouteType, Scope};
use belljar_kernel::net::ipv4::route::RouteKind;
use belljar_kernel::net::tcp::sock::TcpSock;
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::net::tcp::tables::wildcard;
use belljar_kernel::net::tcp::urgent;
use belljar_kernel::task::call::Fd;
use belljar_wire::Segs;
use belljar_wire::ipv4::IPPROTO_TCP;
use std::net::IpAddr;

impl Machine {
    fn tcp(&self, fd: Fd) -> Option<&TcpSock> {
        match self.sock(fd)? {
            SockId::Tcp(id) => self.k.socks.tcp.get(id),
            _ => None,
        }
    }

    /// The socket behind a descriptor.
    fn sock(&self, fd: Fd) -> Option<SockId> {
        let process = self.k.tasks.tasks.get(self.task)?.process;
        let (file, _) = self.k.tasks.procs.get(process)?.fds.get(fd)?;
        match self.k.files.files.get(file)?.kind {
            FileKind::Sock(sock) => Some(sock),
            _ => None,
        }
    }

    /// The packet socket behind a descriptor.
    pub fn packet(&self, fd: Fd) -> Option<PacketId> {
        match self.sock(fd)? {
            SockId::Packet(id) => Some(id),
            _ => None,
        }
    }

    /// Datagrams in the receive queue.
    pub fn datagrams(&self, fd: Fd) -> usize {
        self.sock(fd).map_or(0, |s| self.k.datagrams(s))
    }

    /// The `nth` of them, which stays there.
    pub fn datagram(&mut self, fd: Fd, nth: usize) -> Option<Segs> {
        let sock = self.sock(fd)?;
        self.k.datagram(sock, nth)
    }

    /// The first `n` of them were read.
    pub fn datagrams_were_read(&mut self, fd: Fd, n: usize) {
        let Some(sock) = self.sock(fd) else { return };
        for _ in 0..n {
            self.k.datagram_was_read(sock);
        }
    }

    /// The pending error, which stays.
    pub fn pending_error(&self, fd: Fd) -> i32 {
        self.sock(fd).and_then(|s| self.k.socks.sk(s)).map_or(0, |sk| sk.err)
    }

    /// Up to `len` bytes of the receive queue from byte `skip` on, shared; they stay in the queue.
    pub fn peek(&self, fd: Fd, mut skip: usize, len: usize) -> Segs {
        let mut out = Segs::new();
        let Some(t) = self.tcp(fd) else { return out };
        for skb in &t.rcv.queue {
            let here = skb.frags.len();
            if skip >= here {
                skip -= here;
                continue;
            }
            out.append(skb.frags.slice(skip, len - out.len()));
            skip = 0;
            if out.len() >= len {
                break;
            }
        }
        out
    }

    /// There is a mark in what came.
    pub(super) fn marked(&self, fd: Fd) -> bool {
        self.tcp(fd).is_some_and(|t| urgent::mark(t).is_some())
    }

    /// Where in the receive queue the urgent byte lies.
    pub fn urgent(&self, fd: Fd) -> Option<usize> {
        let t = self.tcp(fd).filter(|t| urgent::is_valid(t))?;
        Some(urgent::mark(t)?.wrapping_sub(t.rcv.copied_seq) as usize)
    }

    /// Whether urgent bytes are taken like all others; the program's wish, except for the pump, which counts them all.
    pub(super) fn set_inline(&mut self, fd: Fd, on: bool) -> bool {
        let Some(sock) = self.sock(fd) else { return on };
        self.k.socks.sk_mut(sock).map_or(on, |sk| std::mem::replace(&mut sk.flags.oobinline, on))
    }

    /// Bytes in the receive queue.
    pub fn readable(&self, fd: Fd) -> usize {
        self.tcp(fd).map_or(0, |t| t.rcv.queue.iter().map(|s| s.frags.len()).sum())
    }

    /// Up to where the stream has been read.
    pub fn copied_seq(&self, fd: Fd) -> Option<u32> {
        self.tcp(fd).map(|t| t.rcv.copied_seq)
    }

    /// TCP_INQ is set.
    pub fn wants_inq(&self, fd: Fd) -> bool {
        self.tcp(fd).is_some_and(|t| t.flags.inq)
    }

    /// The connection is over: a pending error is its end, and not news about it.
    pub fn is_over(&self, fd: Fd) -> bool {
        self.tcp(fd).is_none_or(|t| t.state == State::Close)
    }

    /// An eighth of the receive buffer is taken, by true size: a small one fills with little, and if what the program has
    /// read already stays in it, the peer waits for the window.
    pub fn tight(&self, fd: Fd) -> bool {
        self.tcp(fd).is_some_and(|t| t.sk.rmem_alloc > t.sk.rcvbuf / 8)
    }

    /// The peer's FIN is behind what is in the receive queue.
    pub fn got_fin(&self, fd: Fd) -> bool {
        self.tcp(fd).is_some_and(|t| t.rcv.fin)
    }

    /// Connections that wait for accept.
    pub fn accept_queue(&self, fd: Fd) -> usize {
        self.tcp(fd).and_then(|t| t.listener.as_ref()).map_or(0, |l| l.accept.len())
    }

    /// The peer of the connection that accept would return.
    pub fn accept_peer(&self, fd: Fd) -> Option<SockAddr> {
        let listener = self.tcp(fd)?;
        let child = self.k.socks.tcp.get(*listener.listener.as_ref()?.accept.front()?)?;
        let peer = SockAddr::ip(child.sk.daddr, child.sk.dport);
        Some(if listener.sk.family == Family::Inet6 { peer.to_mapped() } else { peer })
    }

    /// True when some socket of the host has that port.
    pub fn has_port(&self, proto: u8, port: u16) -> bool {
        if proto == IPPROTO_TCP {
            self.k.socks.tcp.iter().any(|(_, t)| t.sk.num == port && t.listener.is_some())
        } else {
            self.k.socks.udp.iter().any(|(_, u)| u.sk.num == port)
        }
    }

    /// True when somebody is there for what comes to this address and port.
    pub fn takes(&self, proto: u8, addr: std::net::IpAddr, port: u16) -> bool {
        let any = wildcard(addr);
        let fits = |sk: &belljar_kernel::net::core::sock::Sock| {
            sk.num == port && (sk.is_bound_to(addr) || sk.is_bound_to(any))
        };
        if proto == IPPROTO_TCP {
            self.k.socks.tcp.iter().any(|(_, t)| t.listener.is_some() && fits(&t.sk))
        } else {
            self.k.socks.udp.iter().any(|(_, u)| fits(&u.sk))
        }
    }

    fn devs(&self) -> impl Iterator<Item = (DevId, &belljar_kernel::net::core::dev::NetDevice)> {
        self.k.net.ns_devs(self.ns).filter_map(|id| Some((id, self.k.net.devs.get(id)?)))
    }

    fn index(&self, dev: Option<DevId>) -> u32 {
        dev.and_then(|d| self.k.net.devs.get(d)).map_or(0, |d| d.ifindex)
    }

    pub fn devices(&self) -> Vec<Device> {
        self.devs()
            .map(|(_, d)| {
                let mut flags = match (d.is_loopback(), d.is_pointopoint()) {
                    (true, _) => abi::IFF_LOOPBACK,
                    (_, true) => abi::IFF_POINTOPOINT | abi::IFF_NOARP | abi::IFF_MULTICAST,
                    _ => abi::IFF_BROADCAST | abi::IFF_MULTICAST,
                };
                flags |= d.gflags;
                if d.up {
                    flags |= abi::IFF_UP | abi::IFF_RUNNING;
                }
                if d.carrier {
                    flags |= abi::IFF_LOWER_UP;
                }
                let s = &d.stats;
                Device {
                    index: d.ifindex,
                    name: d.name.clone(),
                    loopback: d.is_loopback(),
                    flags,
                    mtu: d.mtu,
                    promiscuity: d.promiscuity,
                    txqlen: d.tx_queue_len,
                    mac: d.mac.0,
                    stats: vec![
                        s.rx_packets,
                        s.tx_packets,
                        s.rx_bytes,
                        s.tx_bytes,
                        s.rx_errors,
                        s.tx_errors,
                        s.rx_dropped,
                        s.tx_dropped,
                        s.multicast,
                    ],
                }
            })
            .collect()
    }

    pub fn addresses(&self) -> Vec<Addr> {
        let of = |d: &belljar_kernel::net::core::dev::NetDevice| {
            let (index, label) = (d.ifindex, d.name.clone());
            let now = self.k.net.env.now;
            let forever = (u32::MAX, u32::MAX);
            let four = d.addrs.iter().map(|a| {
                let scope = if a.local.is_loopback() { RT_SCOPE_HOST } else { 0 };
                let (addr, prefix, label) = (a.local.into(), a.prefix, label.clone());
                Addr { index, label, addr, prefix, scope, flags: IFA_F_PERMANENT, lifetimes: forever }
            });
            let left = move |at: Option<u64>| at.map_or(u32::MAX, |at| (at.saturating_sub(now) / 1_000_000_000) as u32);
            let six = d.inet6.addrs.iter().map(|a| Addr {
                index,
                label: label.clone(),
                addr: a.addr.into(),
                prefix: a.prefix,
                scope: match a.addr {
                    x if x.is_loopback() => RT_SCOPE_HOST,
                    x if belljar_wire::ipv6::is_linklocal(x) => RT_SCOPE_LINK,
                    _ => 0,
                },
                flags: if a.permanent { IFA_F_PERMANENT } else { 0 } | if a.tentative() { IFA_F_TENTATIVE } else { 0 },
                lifetimes: (left(a.preferred), left(a.valid)),
            });
            four.chain(six).collect::<Vec<_>>()
        };
        self.devs().flat_map(|(_, d)| of(d)).collect()
    }

    pub fn routes(&self) -> Vec<Route> {
        let Some(ns) = self.k.net.ns.get(self.ns) else { return Vec::new() };
        let main = ns.fib.main.iter().map(|r| (RT_TABLE_MAIN, r));
        let local = ns.fib.local.iter().map(|r| (RT_TABLE_LOCAL, r));
        let four = main.chain(local).map(|(table, (dst, prefix, r))| self.route(table, dst.into(), prefix, r));
        let main6 = ns.v6.fib.main.iter().map(|r| (RT_TABLE_MAIN, r));
        let local6 = ns.v6.fib.local.iter().map(|r| (RT_TABLE_LOCAL, r));
        let six = main6.chain(local6).map(|(table, (dst, prefix, r))| Route {
            table,
            kind: if dst.is_multicast() { RTN_MULTICAST } else { rtn(r.kind) },
            scope: 0,
            protocol: r.proto,
            dst: dst.into(),
            prefix,
            via: r.gateway.map(IpAddr::V6),
            prefsrc: r.prefsrc.map(IpAddr::V6),
            metric: r.metric,
            index: self.index(r.dev),
        });
        four.chain(six).collect()
    }

    fn route(&self, table: u8, dst: IpAddr, prefix: u8, r: &fib::Route) -> Route {
        let kind = rtn(r.kind);
        let scope = match r.scope {
            Scope::Universe => 0,
            Scope::Link => RT_SCOPE_LINK,
            Scope::Host => RT_SCOPE_HOST,
        };
        Route {
            table,
            kind,
            scope,
            protocol: r.proto,
            dst,
            prefix,
            via: r.gateway.map(IpAddr::V4),
            prefsrc: r.src.map(IpAddr::V4),
            metric: r.metric,
            index: self.index(r.dev),
        }
    }

    /// Where a packet to `dst` goes (`ip route get`).
    pub fn route_to(&mut self, dst: IpAddr) -> Result<Route, Errno> {
        let found = af::route_output(&mut self.k.net, self.ns, &af::Flow::to(dst))?;
        let kind = match found.kind {
            RouteKind::Unicast => RTN_UNICAST,
            RouteKind::Local => RTN_LOCAL,
            RouteKind::Broadcast => RTN_BROADCAST,
            RouteKind::Multicast => RTN_MULTICAST,
        };
        let table = if found.kind == RouteKind::Local { RT_TABLE_LOCAL } else { RT_TABLE_MAIN };
        Ok(Route {
            table,
            kind,
            scope: 0,
            protocol: RTPROT_UNSPEC,
            dst,
            prefix: af::prefix_len(dst),
            via: found.gateway,
            prefsrc: Some(found.src),
            metric: 0,
            index: self.index(Some(found.dev)),
        })
    }

    pub fn neighbours(&self) -> Vec<Neighbour> {
        let all = self.k.net.ns.get(self.ns).into_iter().flat_map(|n| n.neighs.iter());
        all.map(|(_, n)| Neighbour {
            index: self.index(Some(n.dev)),
            addr: n.addr,
            mac: n.state.valid().then_some(n.mac.0),
            state: match n.state {
                Nud::Incomplete => NUD_INCOMPLETE,
                Nud::Reachable => NUD_REACHABLE,
                Nud::Stale => NUD_STALE,
                Nud::Delay => NUD_DELAY,
                Nud::Probe => NUD_PROBE,
                Nud::Failed => NUD_FAILED,
                Nud::Permanent => NUD_PERMANENT,
            },
        })
        .collect()
    }
}

/// `RTN_*`.
fn rtn(kind: RouteType) -> u8 {
    match kind {
        RouteType::Unicast => RTN_UNICAST,
        RouteType::Local => RTN_LOCAL,
        RouteType::Broadcast => RTN_BROADCAST,
        RouteType::Unreachable => RTN_UNREACHABLE,
        RouteType::Blackhole => RTN_BLACKHOLE,
        RouteType::Prohibit => RTN_PROHIBIT,
        RouteType::Throw => RTN_THROW,
    }
}
