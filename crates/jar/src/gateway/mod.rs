//! The gateway: the host at the other end of the link, through which the jar reaches the machine and the machine the jar.
//!
//! It is an ordinary belljar host (10.0.2.2) whose programs are in this folder. Outside addresses that the jar talks to
//! are put on its loopback device as they come up, so its stack accepts what is sent to them; a TCP SYN is held at the
//! cable until the real server has accepted, so a refusal or an unreachable net is what the program sees.
//!
//! 10.0.2.2 itself stands for the machine's own loopback address, 10.0.2.3 port 53 for its nameserver, and nameservers
//! of its resolv.conf that are loopback addresses are answered inside the jar.
mod craft;
mod tcp;
mod udp;

use crate::jar::Jar;
use crate::key::Key;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::ids::{Id, Slab};
use belljar_kernel::task::call::Fd;
use belljar_wire::Frame;
use belljar_wire::flow::FlowKey;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

pub use tcp::Flow;
pub use udp::{Assoc, AssocId, InnerUdp, PublishUdp};

pub type FlowId = Id<Flow>;

/// Index of the jar's own host among the machines, and of the gateway where a jar has only these two.
pub const HOST: usize = 0;
pub const GW: usize = 1;

/// Outside addresses and listeners that may be there at once.
const MAX_INNER: usize = 4096;

/// A published port.
#[derive(Debug)]
pub struct Publish {
    pub outer: TcpListener,
    pub port: u16,
    /// Clients come by IPv6.
    pub six: bool,
    /// The machine it leads to.
    pub host: usize,
}

/// What the gateway's programs listen on inside.
#[derive(Debug)]
pub enum Inner {
    /// Takes connections for one outside place; goes when nobody is expected any more.
    Tcp {
        machine: usize,
        fd: Fd,
        at: SocketAddr,
        target: Option<SocketAddr>,
        expected: usize,
    },
    Udp(InnerUdp),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gateway {
    /// Its index among the machines; none has it where there is no gateway.
    pub at: usize,
    pub flows: Slab<Flow>,
    pub assocs: Slab<Assoc>,
    pub publish: Vec<Publish>,
    pub inners: Vec<Option<Inner>>,
    /// Inner listeners and sockets by machine, protocol and place.
    pub(crate) places: HashMap<(usize, u8, SocketAddr), usize>,
    /// Outbound connections whose SYN is held or not yet accepted inside.
    pub(crate) expected: HashMap<FlowKey, FlowId>,
    pub(crate) addresses: HashMap<IpAddr, ()>,
    /// Where 10.0.2.3 port 53 goes.
    pub nameserver: Option<SocketAddr>,
    /// The jar's host, the gateway and its nameserver; the second of each is IPv6.
    pub host_ip: [Option<IpAddr>; 2],
    pub gw_ip: [Option<IpAddr>; 2],
    pub dns_ip: [Option<IpAddr>; 2],
}

impl Gateway {
    fn insert_inner(&mut self, key: (usize, u8, SocketAddr), inner: Inner) -> usize {
        let n = self.inners.iter().position(Option::is_none).unwrap_or(self.inners.len());
        if n == self.inners.len() {
            self.inners.push(None);
        }
        if let Some(slot) = self.inners.get_mut(n) {
            *slot = Some(inner);
        }
        self.places.insert(key, n);
        n
    }

    fn room(&self) -> bool {
        self.places.len() < MAX_INNER && self.addresses.len() < MAX_INNER
    }

    /// Where an outside place really is: the gateway's own address stands for the machine's loopback.
    fn target(&self, dst: IpAddr, port: u16) -> SocketAddr {
        let this_machine = match dst {
            IpAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], port)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        };
        if self.gw_ip.contains(&Some(dst)) {
            this_machine
        } else if self.dns_ip.contains(&Some(dst)) {
            match self.nameserver {
                Some(ns) if port == 53 => ns,
                _ => this_machine,
            }
        } else {
            SocketAddr::new(dst, port)
        }
    }
}

impl Jar {
    /// A frame of the jar's host at the gateway's end of the link; returned when the gateway's kernel shall have it.
    pub(crate) fn gateway_frame(&mut self, frame: Frame) -> Option<Frame> {
        let Some(key) = FlowKey::dissect(&frame) else { return Some(frame) };
        if for_many(key.dst) || key.dport == 0 {
            return Some(frame);
        }
        match key.proto {
            IPPROTO_TCP if craft::is_syn(&frame) => self.outbound_syn(frame, key),
            IPPROTO_UDP => {
                self.outbound_datagram(key);
                Some(frame)
            }
            _ => Some(frame),
        }
    }

    /// Puts an outside address on the gateway's loopback device.
    fn hold_address(&mut self, addr: IpAddr) {
        let g = &mut self.gateway;
        if g.gw_ip.contains(&Some(addr)) || g.dns_ip.contains(&Some(addr)) || g.addresses.contains_key(&addr) {
            return;
        }
        g.addresses.insert(addr, ());
        if let Some(m) = self.machines.get_mut(self.gateway.at) {
            m.add_address(addr);
        }
    }

    /// The address of the program's host that a published port leads to: in the family of its clients where somebody
    /// listens there, in the other where only that one does.
    fn inward(&self, proto: u8, port: u16, six: bool, host: usize) -> Option<IpAddr> {
        let [four, other] = match &self.up {
            Some(up) if host != HOST => up.addresses(host),
            _ => self.gateway.host_ip,
        };
        let host = self.machines.get(host)?;
        let (first, second) = if six { (other, four) } else { (four, other) };
        let listens = |a: &Option<IpAddr>| a.is_some_and(|a| host.takes(proto, a, port));
        [first, second].into_iter().find(listens).unwrap_or(first.or(second))
    }

    /// True when a program in the gateway host itself (`exec JAR/gw`) has that port.
    fn gateway_owns(&self, proto: u8, dst: IpAddr, port: u16) -> bool {
        if !self.gateway.gw_ip.contains(&Some(dst)) {
            return false;
        }
        self.machines.get(self.gateway.at).is_some_and(|m| m.has_port(proto, port))
    }

    /// Something about an inner listener or socket changed.
    pub(crate) fn inner_event(&mut self, n: u32) {
        match self.gateway.inners.get(n as usize) {
            Some(Some(Inner::Tcp { .. })) => self.inner_accept(n as usize),
            Some(Some(Inner::Udp(_))) => self.inner_datagrams(n as usize),
            _ => {}
        }
    }

    fn drop_inner(&mut self, n: usize) {
        let Some(inner) = self.gateway.inners.get_mut(n).and_then(Option::take) else { return };
        let (machine, fd) = match &inner {
            Inner::Tcp { machine, fd, .. } => (*machine, *fd),
            Inner::Udp(u) => (u.machine, u.fd),
        };
        self.gateway.places.retain(|_, at| *at != n);
        if let Some(m) = self.machines.get_mut(machine) {
            m.close(self.now, fd);
        }
    }

    /// Answers the machine's loopback nameservers inside the jar.
    pub(crate) fn serve_nameserver(&mut self, at: SocketAddr) {
        let _ = self.open_inner_udp(HOST, at, at);
        let _ = self.open_inner_tcp(HOST, at, Some(at));
    }

    /// Gives up our own service at a place that a program wants to bind.
    pub(crate) fn yield_service(&mut self, ip: IpAddr, port: u16) -> bool {
        let ours: Vec<usize> = self
            .gateway
            .places
            .iter()
            .filter(|((m, _, at), _)| *m == HOST && at.port() == port && (at.ip() == ip || ip.is_unspecified()))
            .map(|(_, n)| *n)
            .collect();
        ours.iter().for_each(|n| self.drop_inner(*n));
        !ours.is_empty()
    }

    fn open_inner_udp(&mut self, machine: usize, at: SocketAddr, target: SocketAddr) -> Result<usize, Errno> {
        let now = self.now;
        let m = self.machines.get_mut(machine).ok_or(Errno::ENODEV)?;
        let fd = m.socket(now, family(at), abi::SOCK_DGRAM, 0)?;
        if let Err(e) = m.bind(now, fd, SockAddr::ip(at.ip(), at.port())) {
            m.close(now, fd);
            return Err(e);
        }
        let inner = Inner::Udp(InnerUdp { machine, fd, target, by_client: HashMap::new() });
        let n = self.gateway.insert_inner((machine, IPPROTO_UDP, at), inner);
        if let Some(m) = self.machines.get_mut(machine) {
            m.watch(now, fd, Key::Inner(n as u32))?;
        }
        Ok(n)
    }

    fn open_inner_tcp(&mut self, machine: usize, at: SocketAddr, target: Option<SocketAddr>) -> Result<usize, Errno> {
        let now = self.now;
        let m = self.machines.get_mut(machine).ok_or(Errno::ENODEV)?;
        let fd = m.socket(now, family(at), abi::SOCK_STREAM, 0)?;
        let opened = m
            .set_flag(now, fd, abi::SOL_SOCKET, abi::SO_REUSEADDR)
            .and_then(|()| m.bind(now, fd, SockAddr::ip(at.ip(), at.port())))
            .and_then(|()| m.listen(now, fd, 4096));
        if let Err(e) = opened {
            m.close(now, fd);
            return Err(e);
        }
        let inner = Inner::Tcp { machine, fd, at, target, expected: 0 };
        let n = self.gateway.insert_inner((machine, IPPROTO_TCP, at), inner);
        if let Some(m) = self.machines.get_mut(machine) {
            m.watch(now, fd, Key::Inner(n as u32))?;
        }
        Ok(n)
    }
}

/// A group's or everybody's.
fn for_many(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_multicast(),
    }
}

fn family(at: SocketAddr) -> i32 {
    if at.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 }
}

/// The nameservers of the machine's resolv.conf.
pub fn nameservers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    parse_nameservers(&text)
}

fn parse_nameservers(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(|l| l.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn resolv_conf_is_read() {
        let t = "# c\nnameserver 127.0.0.53\nnameserver ::1\n nameserver\t10.0.0.1 \nsearch x\n";
        assert_eq!(
            super::parse_nameservers(t),
            ["127.0.0.53", "::1", "10.0.0.1"].map(|a| a.parse::<std::net::IpAddr>().unwrap())
        );
    }
}
