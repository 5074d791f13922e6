//! The shell of a netlink socket: port id, groups, options and the queue of answers. What is answered is the kernel's
//! (`net/netlink`, `net/netfilter/nfnetlink.rs`) for NETLINK_ROUTE, NETLINK_GENERIC and NETLINK_NETFILTER, `sock_diag.rs` for
//! NETLINK_SOCK_DIAG.
use crate::jar::Jar;
use crate::machine::Machine;
use crate::socks::{Dgram, Flow, SockId};
use crate::{packet_diag, sock_diag};
use belljar_abi::netlink::{self as nl, ErrorForm};
use belljar_abi::sock_diag::SOCK_DESTROY;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netlink::link_set::netns_refs;
use belljar_kernel::net::netlink::notify::Notice;
use belljar_kernel::net::netlink::{Caller, NetnsRef};
use belljar_kernel::task::call::Received;
use belljar_wire::Segs;
use std::collections::VecDeque;

/// Bytes of answers that may wait, as SO_RCVBUF bounds them; what does not fit is lost with ENOBUFS.
const MAX_QUEUED: usize = 1 << 20;
/// A dump of sockets is cut into datagrams of about this size, as Linux does for readers with 32 KB of room.
pub const DATAGRAM: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Netlink {
    kind: i32,
    pub(crate) protocol: i32,
    portid: u32,
    /// Bit n: a member of group n.
    groups: u64,
    /// Its namespace.
    ns: Option<NsId>,
    strict: bool,
    ext_ack: bool,
    cap_ack: bool,
    pktinfo: bool,
    queue: VecDeque<(u32, Vec<u8>)>,
    queued: usize,
    /// Something did not fit: the next reader is told.
    overrun: bool,
}

/// Groups of NETLINK_ROUTE (`RTNLGRP_MAX` of 6.18 is below).
const MOST_GROUPS: i32 = 63;

impl Netlink {
    pub fn new(kind: i32, protocol: i32, ns: NsId) -> Netlink {
        Netlink { kind, protocol, ns: Some(ns), ..Netlink::default() }
    }

    /// Groups of a protocol that it is a member of, in a namespace.
    fn listens(&self, ns: NsId, protocol: i32) -> u64 {
        if self.ns == Some(ns) && self.protocol == protocol { self.groups } else { 0 }
    }

    /// Asks about sockets.
    pub fn is_sock_diag(&self) -> bool {
        self.protocol == nl::NETLINK_SOCK_DIAG
    }

    pub fn bind(&mut self, portid: u32, groups: u32) {
        // Bit n of the address is group n + 1.
        (self.portid, self.groups) = (portid, self.groups & !(u64::from(u32::MAX) << 1) | u64::from(groups) << 1);
    }

    /// The first use gives the socket its port id.
    pub fn autobind(&mut self, portid: u32) {
        if self.portid == 0 {
            self.portid = portid;
        }
    }

    /// Whether a notice is for it.
    fn hears(&self, n: &Notice) -> bool {
        match n.port {
            0 => self.listens(n.ns, n.protocol) & (1 << n.group) != 0,
            port => self.ns == Some(n.ns) && self.protocol == n.protocol && self.portid == port,
        }
    }

    /// Its end: groups of nfnetlink_log that it was bound to are free.
    pub fn closed(&self, m: &mut Machine) {
        if let Some(ns) = self.ns.filter(|_| self.protocol == nl::NETLINK_NETFILTER) {
            m.k.net.nflog_release(ns, self.portid);
        }
    }

    pub fn addr(&self) -> SockAddr {
        SockAddr::Netlink { pid: self.portid, groups: (self.groups >> 1) as u32 }
    }

    /// What the pair behind the socket would answer wrongly.
    pub fn getsockopt(&self, level: i32, name: i32) -> Option<i32> {
        match (level, name) {
            (abi::SOL_SOCKET, abi::SO_TYPE) => Some(self.kind),
            (abi::SOL_SOCKET, abi::SO_DOMAIN) => Some(abi::AF_NETLINK),
            (abi::SOL_SOCKET, abi::SO_PROTOCOL) => Some(self.protocol),
            (abi::SOL_SOCKET, abi::SO_ERROR) => Some(0),
            (abi::SOL_NETLINK, NETLINK_PKTINFO) => Some(self.pktinfo.into()),
            (abi::SOL_NETLINK, NETLINK_CAP_ACK) => Some(self.cap_ack.into()),
            (abi::SOL_NETLINK, NETLINK_EXT_ACK) => Some(self.ext_ack.into()),
            (abi::SOL_NETLINK, NETLINK_GET_STRICT_CHK) => Some(self.strict.into()),
            _ => None,
        }
    }

    pub fn setsockopt(&mut self, name: i32, value: i32) -> Result<(), Errno> {
        let on = value != 0;
        match name {
            NETLINK_PKTINFO => self.pktinfo = on,
            NETLINK_CAP_ACK => self.cap_ack = on,
            NETLINK_EXT_ACK => self.ext_ack = on,
            NETLINK_GET_STRICT_CHK => self.strict = on,
            NETLINK_ADD_MEMBERSHIP | NETLINK_DROP_MEMBERSHIP if !(1..=MOST_GROUPS).contains(&value) => {
                return Err(Errno::EINVAL);
            }
            NETLINK_ADD_MEMBERSHIP => self.groups |= 1 << value,
            NETLINK_DROP_MEMBERSHIP => self.groups &= !(1 << value),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// The next answer, taken or (MSG_PEEK) looked at. ENOBUFS once when some were lost.
    pub fn next(&mut self, flags: i32) -> Result<Received, Errno> {
        if std::mem::take(&mut self.overrun) {
            return Err(Errno::ENOBUFS);
        }
        let (group, bytes) = if flags & abi::MSG_PEEK != 0 {
            self.queue.front().cloned().ok_or(Errno::EAGAIN)?
        } else {
            let (g, b) = self.queue.pop_front().ok_or(Errno::EAGAIN)?;
            self.queued -= b.len();
            (g, b)
        };
        let from = Some(SockAddr::Netlink { pid: 0, groups: group.checked_sub(1).map_or(0, |g| 1 << (g & 31)) });
        Ok(Received { full_len: bytes.len(), segs: Segs::from(bytes), from, ..Received::default() })
    }

    /// Answers and notices that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn nth(&self, nth: usize) -> Option<Segs> {
        self.queue.get(nth).map(|(_, b)| Segs::from(b.clone()))
    }

    /// The first one was read.
    pub fn was_read(&mut self) {
        self.queued -= self.queue.pop_front().map_or(0, |(_, b)| b.len());
    }

    fn push(&mut self, group: u32, bytes: Vec<u8>) {
        if self.queued + bytes.len() > MAX_QUEUED {
            self.overrun = true;
        } else if !bytes.is_empty() {
            self.queued += bytes.len();
            self.queue.push_back((group, bytes));
        }
    }

    /// Answers the requests in one datagram from a program.
    pub fn request(&mut self, now: u64, m: &mut Machine, who: &Asker<'_>, data: &[u8]) {
        let ns = self.ns.unwrap_or(m.ns);
        if self.is_sock_diag() {
            return self.request_diag(now, m, who, ns, data);
        }
        let caller = Caller {
            ns,
            port: self.portid,
            uid: 0,
            process: (who.pid, who.comm),
            net_admin: who.privileged,
            strict: self.strict,
            form: ErrorForm { ext_ack: self.ext_ack, cap_ack: self.cap_ack },
            netns: who.netns,
        };
        let answers = match self.protocol {
            nl::NETLINK_NETFILTER => m.k.nfnetlink(now, &caller, data),
            nl::NETLINK_GENERIC => m.k.genetlink(now, &caller, data),
            _ => m.k.rtnetlink(now, &caller, data),
        };
        for answer in answers {
            self.push(0, answer);
        }
    }

    fn request_diag(&mut self, now: u64, m: &mut Machine, who: &Asker<'_>, ns: NsId, data: &[u8]) {
        for (hdr, body) in nl::messages(data) {
            if hdr.flags & nl::NLM_F_REQUEST == 0 || hdr.kind < nl::NLMSG_MIN_TYPE {
                continue;
            }
            let port = self.portid;
            if packet_diag::is_asked(hdr, body) {
                packet_diag::request(&m.k, ns, hdr, body, port, &mut |b| self.push(0, b));
                continue;
            }
            let (rows, net) = (m.k.view_sockets(ns), &m.k.net);
            let index = |name: &str| net.dev_by_name(ns, name).and_then(|d| net.devs.get(d)).map_or(0, |d| d.ifindex);
            if hdr.kind == SOCK_DESTROY {
                let found = if who.privileged { sock_diag::target(&rows, &index, body) } else { Err(Errno::EPERM) };
                let done = found.and_then(|sock| m.k.sock_destroy(now, sock));
                let mut b = Vec::new();
                if done.is_err() || hdr.flags & nl::NLM_F_ACK != 0 {
                    nl::error(&mut b, hdr, body, done, port);
                }
                self.push(0, b);
                continue;
            }
            sock_diag::request(&rows, &index, hdr, body, port, &mut |b| self.push(0, b));
        }
    }
}

/// Answers a request that came by the control socket, as one of root's.
pub fn direct(now: u64, m: &mut Machine, message: &[u8], netns: Option<&str>) -> Result<Vec<Vec<u8>>, String> {
    let other = match netns {
        Some(name) => Some(*m.names.get(name).ok_or_else(|| format!("Invalid \"netns\" value \"{name}\""))?),
        None => None,
    };
    let form = ErrorForm { ext_ack: true, cap_ack: true };
    // Here any descriptor means that one.
    let refs = netns_refs(message).into_iter().filter(|by| matches!(by, NetnsRef::Fd(_)));
    let netns: Vec<_> = refs.filter_map(|by| Some((by, other?))).collect();
    let caller = Caller {
        ns: m.ns,
        port: 0,
        uid: 0,
        process: (0, "belljar"),
        net_admin: true,
        strict: false,
        form,
        netns: &netns,
    };
    Ok(m.k.rtnetlink(now, &caller, message))
}

/// Who sends a request.
pub struct Asker<'a> {
    /// May change things.
    pub privileged: bool,
    /// The process, and its name.
    pub pid: u32,
    pub comm: &'a str,
    /// What the references of its request mean.
    pub netns: &'a [(NetnsRef, NsId)],
}

impl Jar {
    fn netlinks(&self, host: usize) -> impl Iterator<Item = (SockId, &Netlink)> {
        self.socks.ids().into_iter().filter_map(move |id| match self.socks.get(id).map(|s| (s.host, &s.flow)) {
            Some((h, Flow::Dgram(Dgram { netlink: Some(nl), .. }))) if h == host => Some((id, &**nl)),
            _ => None,
        })
    }

    /// The port id that a socket gets: its process's number, or, where another one of the protocol has that, one that is
    /// nobody's (`netlink_autobind`).
    pub(crate) fn netlink_port(&self, id: SockId, wanted: u32) -> u32 {
        let Some(host) = self.socks.get(id).map(|s| s.host) else { return wanted };
        let Some((_, me)) = self.netlinks(host).find(|(n, _)| *n == id) else { return wanted };
        let is_taken = |port: u32| {
            self.netlinks(host).any(|(n, nl)| n != id && (nl.ns, nl.protocol, nl.portid) == (me.ns, me.protocol, port))
        };
        /// `-4097`: below are those that no process has.
        const ROVER: u32 = -4097i32 as u32;
        if is_taken(wanted) { (0..=ROVER).rev().find(|p| !is_taken(*p)).unwrap_or(wanted) } else { wanted }
    }

    /// Tells the kernel which groups somebody is a member of.
    pub(crate) fn nl_listen(&mut self, host: usize) {
        let spaces: Vec<NsId> =
            self.machines.get(host).map_or_else(Vec::new, |m| m.k.net.ns.iter().map(|n| n.0).collect());
        for ns in spaces {
            for protocol in [nl::NETLINK_ROUTE, nl::NETLINK_NETFILTER] {
                let groups = self.netlinks(host).fold(0, |all, (_, nl)| all | nl.listens(ns, protocol));
                if let Some(m) = self.machines.get_mut(host) {
                    m.k.net.nl_listen(ns, protocol, groups);
                }
            }
        }
    }

    /// Hands notifications to the members of their groups.
    pub(crate) fn tell_notices(&mut self) {
        for host in 0..self.machines.len() {
            let Some(m) = self.machines.get_mut(host).filter(|m| !m.k.net.notices.is_empty()) else { continue };
            let notices: Vec<Notice> = std::iter::from_fn(|| m.k.net.pop_notice()).collect();
            let mut told = false;
            let ids: Vec<SockId> = self.netlinks(host).map(|(id, _)| id).collect();
            for id in ids {
                let Some(Flow::Dgram(Dgram { netlink: Some(nl), .. })) = self.socks.get_mut(id).map(|s| &mut s.flow)
                else {
                    continue;
                };
                let mut any = false;
                for n in &notices {
                    if !nl.hears(n) {
                        continue;
                    }
                    any = true;
                    if n.bytes.is_empty() { nl.overrun = true } else { nl.push(n.group, n.bytes.clone()) }
                }
                if any {
                    told = true;
                    self.retry_parked(id);
                    self.dgram_in(id);
                }
            }
            if !told {
                // Whoever listened has closed his socket.
                self.nl_listen(host);
            }
        }
    }
}

pub const NETLINK_ADD_MEMBERSHIP: i32 = 1;
pub const NETLINK_DROP_MEMBERSHIP: i32 = 2;
pub const NETLINK_PKTINFO: i32 = 3;
pub const NETLINK_CAP_ACK: i32 = 10;
pub const NETLINK_EXT_ACK: i32 = 11;
pub const NETLINK_GET_STRICT_CHK: i32 = 12;
