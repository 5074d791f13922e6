//! SO_REUSEPORT groups (Linux: `sock_reuseport.c`): which of several sockets with one address and port gets a packet. A
//! group is what its members have in common; it has no object of its own.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::filter::{Ancillary, Packet, Prog};
use crate::net::core::skb::SkBuff;
use crate::net::core::sock::{Family, Sock};
use crate::net::packet::link_of;
use crate::net::tcp::state::State;
use belljar_abi::Errno;
use core::net::IpAddr;

/// What the members of a group have in common, beside the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    uid: u32,
    dev: Option<DevId>,
    family: Family,
    ipv6only: bool,
    addr: IpAddr,
}

impl Group {
    /// The group of a socket with the option.
    pub fn of(s: &Sock) -> Option<Group> {
        let (addr, ipv6only) = (s.rcv_saddr, s.flags.ipv6only);
        s.flags.reuseport.then_some(Group { uid: s.uid, dev: s.bound_dev, family: s.family, ipv6only, addr })
    }
}

/// What of the packet and of this machine takes part in the choice.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Keyed, of the 4-tuple.
    pub hash: u32,
    pub cpu: usize,
    /// The packet from its payload on; without one no program is asked.
    pub packet: Option<(Packet<'a>, Ancillary)>,
}

/// A program that was attached chooses by number; else the hash does, among those that asked for this CPU if any asked.
#[doc(alias = "reuseport_select_sock")]
pub fn select<'a, I: Copy>(
    ids: &[I],
    sock: impl Fn(&I) -> Option<&'a Sock>,
    group: Group,
    c: &Choice<'_>,
) -> Option<I> {
    let in_group = |id: &&I| sock(id).and_then(Group::of) == Some(group);
    let members = || ids.iter().filter(in_group);
    let n = members().count();
    let prog = members().next().and_then(&sock).and_then(Sock::reuseport_prog);
    if let (Some(prog), Some((packet, anc))) = (prog, &c.packet)
        && let Some(id) = members().nth(prog.run(packet, anc) as usize)
    {
        return Some(*id);
    }
    // reciprocal_scale
    let first = ((u64::from(c.hash) * n as u64) >> 32) as usize;
    let mine = |id: &&I| sock(id).is_some_and(|s| s.incoming_cpu == c.cpu as i32);
    if members().any(|id| sock(id).is_some_and(|s| s.incoming_cpu >= 0)) {
        let found = members().skip(first).find(mine).or_else(|| members().take(first).find(mine));
        if found.is_some() {
            return found.copied();
        }
    }
    members().nth(first).copied()
}

/// What a program may ask about a packet that has come in.
pub fn ancillary(net: &Net, skb: &SkBuff, secret: [u64; 2]) -> Ancillary {
    let dev = skb.dev.and_then(|d| net.devs.get(d));
    Ancillary {
        ifindex: dev.map_or(0, |d| d.ifindex),
        hatype: dev.map_or(0, |d| link_of(d).1.into()),
        cpu: net.cpu as u32,
        random: crate::net::tcp::tables::keyed(secret, skb.id, net.env.now) as u32,
    }
}

impl Kernel {
    /// The group of a socket that is in one: it listens, or it is a UDP socket with a port. The port goes along.
    fn reuseport_group(&self, sock: SockId) -> Option<(Group, u16)> {
        let sk = self.socks.sk(sock)?;
        let member = match sock {
            SockId::Tcp(id) => self.socks.tcp.get(id)?.state == State::Listen,
            SockId::Udp(id) => self.socks.udp.get(id)?.hashed,
            // Raw sockets have no ports to share.
            SockId::Raw(_) | SockId::Packet(_) | SockId::Xsk(_) => false,
        };
        member.then(|| Group::of(sk)).flatten().map(|g| (g, sk.num))
    }

    /// All members of a group, in the order in which they joined.
    fn reuseport_members(&self, ns: NsId, sock: SockId, group: Group, port: u16) -> Vec<SockId> {
        let Some(n) = self.net.ns.get(ns) else { return Vec::new() };
        let all: Vec<SockId> = match sock {
            SockId::Tcp(_) => n.tcp.listeners.get(&port).into_iter().flatten().copied().map(SockId::Tcp).collect(),
            SockId::Udp(_) => n.udp.on_port(port).iter().copied().map(SockId::Udp).collect(),
            SockId::Raw(_) | SockId::Packet(_) | SockId::Xsk(_) => Vec::new(),
        };
        all.into_iter().filter(|id| self.socks.sk(*id).and_then(Group::of) == Some(group)).collect()
    }

    /// SO_ATTACH_REUSEPORT_CBPF, or its opposite: for the whole group, or for one to come.
    #[doc(alias = "reuseport_attach_prog")]
    #[doc(alias = "reuseport_detach_prog")]
    pub(crate) fn set_reuseport_prog(&mut self, sock: SockId, prog: Option<Prog>) -> Result<(), Errno> {
        let sk = self.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
        if !sk.flags.reuseport {
            return Err(Errno::EINVAL);
        }
        if prog.is_none() && sk.reuseport_prog().is_none() {
            return Err(Errno::ENOENT);
        }
        let (ns, alone) = (sk.ns, sk.daddr.is_unspecified());
        let members = match self.reuseport_group(sock) {
            Some((group, port)) => self.reuseport_members(ns, sock, group, port),
            // A connection is in no group.
            None if !alone && matches!(sock, SockId::Tcp(_)) => return Err(Errno::EINVAL),
            None => vec![sock],
        };
        if let (SockId::Udp(_), Some(n)) = (sock, self.net.ns.get_mut(ns)) {
            n.udp.programs = true;
        }
        for id in members {
            if let Some(sk) = self.socks.sk_mut(id) {
                sk.cold().reuseport_prog = prog.clone();
            }
        }
        Ok(())
    }

    /// A socket joins its group: what the group has in the way of a program counts.
    #[doc(alias = "reuseport_add_sock")]
    pub(crate) fn join_reuseport(&mut self, sock: SockId) {
        let Some((group, port)) = self.reuseport_group(sock) else { return };
        let Some(ns) = self.socks.sk(sock).map(|s| s.ns) else { return };
        let other = self.reuseport_members(ns, sock, group, port).into_iter().find(|id| *id != sock);
        let Some(theirs) = other.and_then(|id| self.socks.sk(id)).map(|s| s.reuseport_prog().cloned()) else { return };
        if let Some(sk) = self.socks.sk_mut(sock)
            && sk.reuseport_prog() != theirs.as_ref()
        {
            sk.cold().reuseport_prog = theirs;
        }
    }
}
