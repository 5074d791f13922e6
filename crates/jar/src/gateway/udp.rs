//! UDP through the gateway: an inner socket per outside place, an outer socket per client and place; published ports the
//! other way round. An association ends when nothing passed it for a minute (RFC 4787 asks for two at least; resolvers
//! are done in seconds, and a new one costs nothing).
use super::Inner;
use crate::jar::Jar;
use crate::key::Key;
use belljar_abi::{self as abi, SockAddr};
use belljar_host::{epoll, net};
use belljar_kernel::ids::Id;
use belljar_kernel::task::call::{Fd, Payload};
use belljar_wire::flow::FlowKey;
use belljar_wire::ipv4::IPPROTO_UDP;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

pub type AssocId = Id<Assoc>;

const IDLE: u64 = 60_000_000_000;
const MAX_ASSOCS: usize = 4096;
const MAX: usize = 65_536;

/// An inner socket bound to an outside place.
#[derive(Debug)]
pub struct InnerUdp {
    pub machine: usize,
    pub fd: Fd,
    /// Where it really is.
    pub target: SocketAddr,
    pub by_client: HashMap<(IpAddr, u16), AssocId>,
}

/// Two parties that exchange datagrams through us.
#[derive(Debug)]
pub struct Assoc {
    kind: Kind,
    last: u64,
}

#[derive(Debug)]
enum Kind {
    /// A client inside, a server outside: `inner` is shared, `outer` is the client's own.
    Outbound { inner: usize, client: (IpAddr, u16), outer: UdpSocket },
    /// A client outside, a published port inside: `outer` is shared, `inner` is the client's own.
    Published { port: usize, client: SocketAddr, inner: Fd },
}

/// A published UDP port.
#[derive(Debug)]
pub struct PublishUdp {
    pub outer: Arc<UdpSocket>,
    pub port: u16,
    /// The machine it leads to.
    pub host: usize,
    pub by_client: HashMap<SocketAddr, AssocId>,
}

/// Any address and port of the same family.
fn any(of: SocketAddr) -> SocketAddr {
    match of {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
    }
}

impl Jar {
    /// Makes sure that somebody is there for a datagram to an outside place.
    pub(super) fn outbound_datagram(&mut self, key: FlowKey) {
        let at = SocketAddr::new(key.dst, key.dport);
        if self.gateway.host_ip.contains(&Some(key.dst))
            || self.gateway.places.contains_key(&(self.gateway.at, IPPROTO_UDP, at))
            || self.gateway_owns(IPPROTO_UDP, key.dst, key.dport)
            || !self.gateway.room()
        {
            return;
        }
        self.hold_address(key.dst);
        let target = self.gateway.target(key.dst, key.dport);
        let _ = self.open_inner_udp(self.gateway.at, at, target);
    }

    /// Datagrams of clients inside.
    pub(super) fn inner_datagrams(&mut self, n: usize) {
        let now = self.now;
        loop {
            let Some(Some(Inner::Udp(u))) = self.gateway.inners.get(n) else { return };
            let (machine, fd, target) = (u.machine, u.fd, u.target);
            let Some(m) = self.machines.get_mut(machine) else { return };
            let Ok(got) = m.recv(now, fd, MAX, 0) else { return };
            let Some(client) = got.from.and_then(|f| f.to_ip()) else { continue };
            let known = match self.gateway.inners.get(n) {
                Some(Some(Inner::Udp(u))) => u.by_client.get(&client).copied(),
                _ => None,
            };
            let Some(id) = known.or_else(|| self.new_outbound(n, client, target)) else { continue };
            if let Some(Assoc { kind: Kind::Outbound { outer, .. }, last }) = self.gateway.assocs.get_mut(id) {
                *last = now;
                let _ = outer.send(&got.segs.to_vec());
            }
        }
    }

    fn new_outbound(&mut self, n: usize, client: (IpAddr, u16), target: SocketAddr) -> Option<AssocId> {
        if self.gateway.assocs.len() >= MAX_ASSOCS {
            return None;
        }
        let outer = net::udp_bind(any(target)).ok()?;
        outer.connect(target).ok()?;
        let kind = Kind::Outbound { inner: n, client, outer };
        let id = self.gateway.assocs.insert(Assoc { kind, last: self.now });
        if let Some(Assoc { kind: Kind::Outbound { outer, .. }, .. }) = self.gateway.assocs.get(id) {
            let _ = self.ep.add(outer, epoll::IN | epoll::ET, Key::Assoc(id).pack());
        }
        if let Some(Some(Inner::Udp(u))) = self.gateway.inners.get_mut(n) {
            u.by_client.insert(client, id);
        }
        Some(id)
    }

    /// An answer from outside.
    pub(crate) fn assoc_outer(&mut self, id: AssocId) {
        let now = self.now;
        let mut buf = vec![0; MAX];
        loop {
            let Some(Assoc { kind: Kind::Outbound { inner, client, outer }, last }) = self.gateway.assocs.get_mut(id)
            else {
                return;
            };
            // An ICMP error of the real path ends here: the inner client's timeout tells it.
            let Ok(n) = outer.recv(&mut buf) else { return };
            *last = now;
            let Some(Some(Inner::Udp(u))) = self.gateway.inners.get(*inner) else { return };
            let to = SockAddr::ip(client.0, client.1).emit();
            if let Some(m) = self.machines.get_mut(u.machine) {
                let data = Payload::Bytes(buf.get(..n).unwrap_or(&[]));
                let _ = m.send_to(now, u.fd, data, 0, Some(&to), &[]);
            }
        }
    }

    /// Opens a published UDP port.
    pub(crate) fn publish_udp(&mut self, at: SocketAddr, port: u16, host: usize) -> std::io::Result<SocketAddr> {
        let outer = net::udp_bind(at)?;
        let bound = outer.local_addr()?;
        let n = self.publish_udp.len() as u32;
        self.ep.add(&outer, epoll::IN, Key::PublishUdp(n).pack())?;
        self.publish_udp.push(PublishUdp { outer: Arc::new(outer), port, host, by_client: HashMap::new() });
        Ok(bound)
    }

    /// Datagrams of clients outside.
    pub(crate) fn published_datagrams(&mut self, n: u32) {
        let now = self.now;
        let mut buf = vec![0; MAX];
        for _ in 0..256 {
            let Some(p) = self.publish_udp.get(n as usize) else { return };
            let Ok((len, client)) = p.outer.recv_from(&mut buf) else { return };
            let Some(id) = p.by_client.get(&client).copied().or_else(|| self.new_published(n as usize, client)) else {
                continue;
            };
            if let Some(Assoc { kind: Kind::Published { inner, .. }, last }) = self.gateway.assocs.get_mut(id)
                && let Some(m) = self.machines.get_mut(self.gateway.at)
            {
                *last = now;
                let _ = m.send(now, *inner, Payload::Bytes(buf.get(..len).unwrap_or(&[])));
            }
        }
    }

    fn new_published(&mut self, n: usize, client: SocketAddr) -> Option<AssocId> {
        let p = self.publish_udp.get(n)?;
        let (port, host, six) = (p.port, p.host, p.outer.local_addr().is_ok_and(|a| a.is_ipv6()));
        let (now, to) = (self.now, self.inward(IPPROTO_UDP, port, six, host)?);
        if self.gateway.assocs.len() >= MAX_ASSOCS {
            return None;
        }
        let family = if to.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 };
        let m = self.machines.get_mut(self.gateway.at)?;
        let inner = m.socket(now, family, abi::SOCK_DGRAM, 0).ok()?;
        if m.connect(now, inner, SockAddr::ip(to, port)).is_err() {
            m.close(now, inner);
            return None;
        }
        let id = self.gateway.assocs.insert(Assoc { kind: Kind::Published { port: n, client, inner }, last: now });
        let _ = self.machines.get_mut(self.gateway.at)?.watch(now, inner, Key::Assoc(id));
        self.publish_udp.get_mut(n)?.by_client.insert(client, id);
        Some(id)
    }

    /// Answers of a published port.
    pub(crate) fn assoc_inner(&mut self, id: AssocId) {
        let now = self.now;
        loop {
            let Some(Assoc { kind: Kind::Published { port, client, inner }, last }) = self.gateway.assocs.get_mut(id)
            else {
                return;
            };
            let Some(m) = self.machines.get_mut(self.gateway.at) else { return };
            let Ok(got) = m.recv(now, *inner, MAX, 0) else { return };
            *last = now;
            if let Some(p) = self.publish_udp.get(*port) {
                let _ = p.outer.send_to(&got.segs.to_vec(), *client);
            }
        }
    }

    /// Ends associations that nothing passed for long, and inner sockets without any.
    pub(crate) fn expire_assocs(&mut self) {
        let now = self.now;
        let old: Vec<AssocId> =
            self.gateway.assocs.iter().filter(|(_, a)| now.saturating_sub(a.last) > IDLE).map(|(id, _)| id).collect();
        for id in old {
            match self.gateway.assocs.remove(id).map(|a| a.kind) {
                Some(Kind::Outbound { inner, client, .. }) => {
                    let Some(Some(Inner::Udp(u))) = self.gateway.inners.get_mut(inner) else { continue };
                    u.by_client.remove(&client);
                    if u.by_client.is_empty() && u.machine == self.gateway.at {
                        self.drop_inner(inner);
                    }
                }
                Some(Kind::Published { port, client, inner }) => {
                    if let Some(p) = self.publish_udp.get_mut(port) {
                        p.by_client.remove(&client);
                    }
                    if let Some(m) = self.machines.get_mut(self.gateway.at) {
                        m.close(now, inner);
                    }
                }
                None => {}
            }
        }
    }
}
