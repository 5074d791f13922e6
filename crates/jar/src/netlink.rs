//! NETLINK_ROUTE, the kernel's side: dumps of links, addresses, routes and neighbours, truly from the host's tables.
//!
//! Changes are refused with EOPNOTSUPP and notifications never come, because no table here changes by netlink; what
//! glibc, Go, Node and `ip` ask at their start is all there.
use crate::devices::{Addr, Device, Route};
use crate::machine::Machine;
use crate::{packet_diag, sock_diag};
use belljar_abi::netlink::{self as nl, Msg, NlMsgHdr};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::task::call::Received;
use belljar_wire::Segs;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of answers that may wait, as SO_RCVBUF bounds them; what does not fit is lost with ENOBUFS.
const MAX_QUEUED: usize = 1 << 20;
/// A dump is cut into datagrams of at most this size, as Linux does for readers with 32 KB of room.
pub const DATAGRAM: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Netlink {
    kind: i32,
    protocol: i32,
    portid: u32,
    groups: u32,
    strict: bool,
    ext_ack: bool,
    cap_ack: bool,
    pktinfo: bool,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
}

impl Netlink {
    pub fn new(kind: i32, protocol: i32) -> Netlink {
        Netlink { kind, protocol, ..Netlink::default() }
    }

    /// Asks about sockets.
    pub fn is_sock_diag(&self) -> bool {
        self.protocol == nl::NETLINK_SOCK_DIAG
    }

    pub fn bind(&mut self, portid: u32, groups: u32) {
        (self.portid, self.groups) = (portid, groups);
    }

    /// The first use gives the socket its port id.
    pub fn autobind(&mut self, portid: u32) {
        if self.portid == 0 {
            self.portid = portid;
        }
    }

    pub fn addr(&self) -> SockAddr {
        SockAddr::Netlink { pid: self.portid, groups: self.groups }
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
            // Membership: nothing here changes by itself, so a member hears nothing.
            NETLINK_ADD_MEMBERSHIP if (1..=31).contains(&value) => self.groups |= 1 << (value - 1),
            NETLINK_DROP_MEMBERSHIP if (1..=31).contains(&value) => self.groups &= !(1 << (value - 1)),
            NETLINK_ADD_MEMBERSHIP | NETLINK_DROP_MEMBERSHIP => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// The next answer, taken or (MSG_PEEK) looked at.
    pub fn next(&mut self, flags: i32) -> Option<Received> {
        let bytes = if flags & abi::MSG_PEEK != 0 {
            self.queue.front()?.clone()
        } else {
            let b = self.queue.pop_front()?;
            self.queued -= b.len();
            b
        };
        let from = Some(SockAddr::Netlink { pid: 0, groups: 0 });
        Some(Received { full_len: bytes.len(), segs: Segs::from(bytes), from, ..Received::default() })
    }

    /// Answers that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn nth(&self, nth: usize) -> Option<Segs> {
        self.queue.get(nth).map(|b| Segs::from(b.clone()))
    }

    fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() && self.queued + bytes.len() <= MAX_QUEUED {
            self.queued += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Answers the requests in one datagram from the program.
    pub fn request(&mut self, m: &mut Machine, data: &[u8]) {
        for (hdr, body) in nl::messages(data) {
            if hdr.flags & nl::NLM_F_REQUEST == 0 || hdr.kind < nl::NLMSG_MIN_TYPE {
                continue;
            }
            if self.is_sock_diag() && packet_diag::is_asked(hdr, body) {
                let port = self.portid;
                packet_diag::request(&m.k, m.ns, hdr, body, port, &mut |b| self.push(b));
                continue;
            }
            if self.is_sock_diag() {
                let (rows, devices, port) = (m.k.view_sockets(m.ns), m.devices(), self.portid);
                let index = |name: &str| devices.iter().find(|d| d.name == name).map_or(0, |d| d.index);
                sock_diag::request(&rows, &index, hdr, body, port, &mut |b| self.push(b));
                continue;
            }
            let dump = hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP;
            if dump { self.dump(m, hdr, body) } else { self.single(m, hdr, body) }
        }
    }

    fn dump(&mut self, m: &mut Machine, hdr: NlMsgHdr, body: &[u8]) {
        let family = i32::from(request_family(body));
        // A dump of all families has those of IPv4 first.
        let ours = |a: &IpAddr| match family {
            abi::AF_UNSPEC => true,
            abi::AF_INET => a.is_ipv4(),
            _ => family == abi::AF_INET6 && a.is_ipv6(),
        };
        let (flags, port) = (nl::NLM_F_MULTI, self.portid);
        let mut out = Vec::new();
        let flush = |this: &mut Netlink, out: &mut Vec<u8>, force: bool| {
            if force || out.len() > DATAGRAM {
                this.push(std::mem::take(out));
            }
        };
        match hdr.kind {
            RTM_GETLINK => m.devices().iter().for_each(|d| {
                link(&mut out, d, flags, hdr.seq, port);
                flush(self, &mut out, false);
            }),
            RTM_GETADDR => m.addresses().iter().filter(|a| ours(&a.addr)).for_each(|a| {
                address(&mut out, a, flags, hdr.seq, port);
                flush(self, &mut out, false);
            }),
            RTM_GETROUTE => m.routes().iter().filter(|r| ours(&r.dst) && self.wants(body, r)).for_each(|r| {
                let mut one = Vec::new();
                route(&mut one, r, flags, hdr.seq, port);
                out.extend_from_slice(&one);
            }),
            RTM_GETNEIGH => m.neighbours().iter().filter(|n| ours(&n.addr)).for_each(|n| {
                let mut b = [0; NdMsg::LEN];
                b.copy_from_slice(
                    &NdMsg {
                        family: family_of(n.addr),
                        ifindex: n.index as i32,
                        state: n.state,
                        flags: 0,
                        kind: RTN_UNICAST,
                    }
                    .to_bytes(),
                );
                let mut msg = Msg::new(&mut out, RTM_NEWNEIGH, flags, hdr.seq, port);
                msg.body(&b).attr(NDA_DST, &octets(n.addr));
                if let Some(mac) = n.mac {
                    msg.attr(NDA_LLADDR, &mac);
                }
            }),
            // No rules or disciplines to tell about: an empty dump.
            RTM_GETRULE | RTM_GETQDISC => {}
            _ => {
                nl::error(&mut out, hdr, body, Err(Errno::EOPNOTSUPP), port);
                return self.push(out);
            }
        }
        let rest = !out.is_empty();
        flush(self, &mut out, rest);
        nl::done(&mut out, hdr.seq, port);
        self.push(out);
    }

    /// With NETLINK_GET_STRICT_CHK the header's table filters a route dump.
    fn wants(&self, body: &[u8], r: &Route) -> bool {
        let table = RtMsg::parse(body).map_or(0, |m| m.table);
        !self.strict || table == 0 || table == r.table
    }

    fn single(&mut self, m: &mut Machine, hdr: NlMsgHdr, body: &[u8]) {
        let mut out = Vec::new();
        let result = match hdr.kind {
            RTM_GETLINK => one_link(m, hdr, body, &mut out, self.portid),
            RTM_GETROUTE => one_route(m, hdr, body, &mut out, self.portid),
            RTM_GETADDR | RTM_GETNEIGH => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EOPNOTSUPP),
        };
        if result.is_err() || hdr.flags & nl::NLM_F_ACK != 0 {
            nl::error(&mut out, hdr, body, result, self.portid);
        }
        self.push(out);
    }
}

pub const NETLINK_ADD_MEMBERSHIP: i32 = 1;
pub const NETLINK_DROP_MEMBERSHIP: i32 = 2;
pub const NETLINK_PKTINFO: i32 = 3;
pub const NETLINK_CAP_ACK: i32 = 10;
pub const NETLINK_EXT_ACK: i32 = 11;
pub const NETLINK_GET_STRICT_CHK: i32 = 12;

fn link(out: &mut Vec<u8>, d: &Device, flags: u16, seq: u32, port: u32) {
    let kind = if d.loopback { abi::ARPHRD_LOOPBACK } else { abi::ARPHRD_ETHER };
    let info = IfInfoMsg { kind, index: d.index as i32, flags: d.flags, ..IfInfoMsg::default() };
    let mut m = Msg::new(out, RTM_NEWLINK, flags, seq, port);
    m.body(&info.to_bytes());
    m.attr_str(IFLA_IFNAME, &d.name).attr_u32(IFLA_TXQLEN, d.txqlen);
    let state = match (d.loopback, d.flags & abi::IFF_UP != 0) {
        (true, _) => abi::IF_OPER_UNKNOWN,
        (_, true) => abi::IF_OPER_UP,
        _ => abi::IF_OPER_DOWN,
    };
    m.attr_u8(IFLA_OPERSTATE, state).attr_u8(IFLA_LINKMODE, 0).attr_u32(IFLA_MTU, d.mtu).attr_u32(IFLA_GROUP, 0);
    m.attr_u32(IFLA_PROMISCUITY, d.promiscuity).attr_u32(IFLA_NUM_TX_QUEUES, 1).attr_u32(IFLA_NUM_RX_QUEUES, 1);
    m.attr_u8(IFLA_CARRIER, 1).attr_str(IFLA_QDISC, if d.loopback { "noqueue" } else { "pfifo_fast" });
    m.attr(IFLA_ADDRESS, &d.mac).attr(IFLA_BROADCAST, &if d.loopback { [0; 6] } else { [255; 6] });
    let mut stats = Vec::with_capacity(25 * 8);
    d.stats.iter().for_each(|v| stats.extend_from_slice(&v.to_ne_bytes()));
    stats.resize(25 * 8, 0);
    m.attr(IFLA_STATS64, &stats);
    let narrow: Vec<u8> = stats.chunks_exact(8).take(24).flat_map(|c| c.iter().take(4).copied()).collect();
    m.attr(IFLA_STATS, &narrow);
}

fn address(out: &mut Vec<u8>, a: &Addr, flags: u16, seq: u32, port: u32) {
    let family = family_of(a.addr);
    let msg = IfAddrMsg { family, prefixlen: a.prefix, flags: a.flags as u8, scope: a.scope, index: a.index };
    let mut m = Msg::new(out, RTM_NEWADDR, flags, seq, port);
    m.body(&msg.to_bytes()).attr(IFA_ADDRESS, &octets(a.addr));
    if let IpAddr::V4(addr) = a.addr {
        m.attr(IFA_LOCAL, &addr.octets());
        if !addr.is_loopback() && a.prefix < 31 {
            let host = u32::MAX.checked_shr(u32::from(a.prefix)).unwrap_or(0);
            m.attr(IFA_BROADCAST, &Ipv4Addr::from(u32::from(addr) | host).octets());
        }
        m.attr_str(IFA_LABEL, &a.label);
    }
    m.attr_u32(IFA_FLAGS, a.flags);
    // preferred and valid, created and changed at boot
    let mut cache = [0u8; 16];
    cache[..4].copy_from_slice(&a.lifetimes.0.to_ne_bytes());
    cache[4..8].copy_from_slice(&a.lifetimes.1.to_ne_bytes());
    m.attr(IFA_CACHEINFO, &cache);
}

fn route(out: &mut Vec<u8>, r: &Route, flags: u16, seq: u32, port: u32) {
    let msg = RtMsg {
        family: family_of(r.dst),
        dst_len: r.prefix,
        table: r.table,
        protocol: r.protocol,
        scope: r.scope,
        kind: r.kind,
        ..RtMsg::default()
    };
    let mut m = Msg::new(out, RTM_NEWROUTE, flags, seq, port);
    m.body(&msg.to_bytes()).attr_u32(RTA_TABLE, u32::from(r.table));
    if r.prefix > 0 {
        m.attr(RTA_DST, &octets(r.dst));
    }
    if let Some(src) = r.prefsrc {
        m.attr(RTA_PREFSRC, &octets(src));
    }
    if let Some(via) = r.via {
        m.attr(RTA_GATEWAY, &octets(via));
    }
    m.attr_u32(RTA_OIF, r.index);
    if r.metric != 0 {
        m.attr_u32(RTA_PRIORITY, r.metric);
    }
    if r.dst.is_ipv6() {
        m.attr_u8(RTA_PREF, 0);
    }
}

fn family_of(addr: IpAddr) -> u8 {
    let family = if addr.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 };
    family as u8
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn one_link(m: &mut Machine, hdr: NlMsgHdr, body: &[u8], out: &mut Vec<u8>, port: u32) -> Result<(), Errno> {
    let info = IfInfoMsg::parse(body).ok_or(Errno::EINVAL)?;
    let name = nl::attrs(body.get(IfInfoMsg::LEN..).unwrap_or(&[]))
        .find(|(k, _)| matches!(*k, IFLA_IFNAME | IFLA_ALT_IFNAME))
        .map(|(_, v)| String::from_utf8_lossy(v).trim_end_matches('\0').to_owned());
    let all = m.devices();
    let found = match (info.index, name) {
        (i, _) if i > 0 => all.iter().find(|d| d.index as i32 == i),
        (_, Some(n)) => all.iter().find(|d| d.name == n),
        _ => return Err(Errno::EINVAL),
    };
    link(out, found.ok_or(Errno::ENODEV)?, 0, hdr.seq, port);
    Ok(())
}

fn address_in(v: &[u8]) -> Option<IpAddr> {
    match v.len() {
        4 => v.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        _ => v.first_chunk::<16>().map(|b| IpAddr::from(*b)),
    }
}

/// `ip route get`: where a packet to that address would go.
fn one_route(m: &mut Machine, hdr: NlMsgHdr, body: &[u8], out: &mut Vec<u8>, port: u32) -> Result<(), Errno> {
    let dst = nl::attrs(body.get(RtMsg::LEN..).unwrap_or(&[]))
        .find(|(k, _)| *k == RTA_DST)
        .and_then(|(_, v)| address_in(v))
        .ok_or(Errno::EINVAL)?;
    let r = m.route_to(dst)?;
    route(out, &r, 0, hdr.seq, port);
    Ok(())
}
