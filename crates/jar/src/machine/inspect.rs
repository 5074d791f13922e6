//! What the supervisor looks at directly, without a call: queues of a socket, and the tables that netlink shows.
use super::Machine;
use crate::devices::{Addr, Device};
use belljar_abi::SockAddr;
use belljar_kernel::fs::file::FileKind;
use belljar_kernel::ids::{DevId, PacketId, SockId};
use belljar_kernel::net::core::sock::Family;
use belljar_kernel::net::packet::link_of;
use belljar_kernel::net::tcp::sock::TcpSock;
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::net::tcp::tables::wildcard;
use belljar_kernel::net::tcp::urgent;
use belljar_kernel::task::call::Fd;
use belljar_kernel::task::process::Caps;
use belljar_wire::Segs;
use belljar_wire::ipv4::IPPROTO_TCP;

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

    /// What calls of the host's programs may do at the moment.
    pub fn caps(&self) -> Caps {
        let process = self.k.tasks.tasks.get(self.task).map(|t| t.process);
        process.and_then(|p| self.k.tasks.procs.get(p)).map_or(Caps::NONE, |p| p.caps)
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

    pub(super) fn devs(&self) -> impl Iterator<Item = (DevId, &belljar_kernel::net::core::dev::NetDevice)> {
        self.k.net.ns_devs(self.ns).filter_map(|id| Some((id, self.k.net.devs.get(id)?)))
    }

    pub fn devices(&self) -> Vec<Device> {
        self.devs()
            .map(|(_, d)| {
                let s = &d.stats;
                Device {
                    index: d.ifindex,
                    name: d.name.clone(),
                    iflink: d.iflink().and_then(|l| self.k.net.devs.get(l)).map_or(d.ifindex, |l| l.ifindex),
                    flags: d.flags(),
                    operstate: self.k.net.operstate(d),
                    alias: d.alias.clone().unwrap_or_default(),
                    group: d.group,
                    mtu: d.mtu,
                    txqlen: d.tx_queue_len,
                    mac: d.mac.0,
                    hatype: link_of(d).1,
                    ends: d.ends(),
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

    /// Addresses of IPv4, which is all that the old requests know.
    pub fn addresses(&self) -> Vec<Addr> {
        let of = |d: &belljar_kernel::net::core::dev::NetDevice| {
            let one = |a: &belljar_kernel::net::core::dev::IfAddr| Addr {
                index: d.ifindex,
                label: a.label.as_str().to_owned(),
                addr: a.local,
                peer: a.address,
                broadcast: a.broadcast,
                prefix: a.prefix,
            };
            d.addrs.iter().map(one).collect::<Vec<_>>()
        };
        self.devs().flat_map(|(_, d)| of(d)).collect()
    }
}
