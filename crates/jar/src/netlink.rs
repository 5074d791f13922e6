//! NETLINK_ROUTE, the kernel's side: dumps of links, addresses, routes and neighbours, truly from the host's tables.
//!
//! Changes are refused with EOPNOTSUPP and notifications never come, because no table here changes by netlink; what
//! glibc, Go, Node and `ip` ask at their start is all there.
use crate::devices::{Addr, Device, Route};
use crate::machine::Machine;
use crate::sock_diag;
use belljar_abi::netlink::{self as nl, Msg, NlMsgHdr};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_kernel::task::call::Received;
use belljar_wire::Segs;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

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
        let ours = matches!(family, abi::AF_UNSPEC | abi::AF_INET);
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
            RTM_GETADDR if ours => m.addresses().iter().for_each(|a| {
                address(&mut out, a, flags, hdr.seq, port);
                flush(self, &mut out, false);
            }),
            RTM_GETROUTE if ours => m.routes().iter().filter(|r| self.wants(body, r)).for_each(|r| {
                let mut one = Vec::new();
                route(&mut one, r, flags, hdr.seq, port);
                out.extend_from_slice(&one);
            }),
            RTM_GETNEIGH if ours => m.neighbours().iter().for_each(|n| {
                let mut b = [0; NdMsg::LEN];
                b.copy_from_slice(
                    &NdMsg {
                        family: abi::AF_INET as u8,
                        ifindex: n.index as i32,
                        state: n.state,
                        flags: 0,
                        kind: RTN_UNICAST,
                    }
                    .to_bytes(),
                );
                let mut msg = Msg::new(&mut out, RTM_NEWNEIGH, flags, hdr.seq, port);
                msg.body(&b).attr(NDA_DST, &n.addr.octets());
                if let Some(mac) = n.mac {
                    msg.attr(NDA_LLADDR, &mac);
                }
            }),
            // No IPv6, rules or disciplines to tell about: an empty dump.
            RTM_GETADDR | RTM_GETROUTE | RTM_GETNEIGH | RTM_GETRULE | RTM_GETQDISC => {}
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
    m.attr_u32(IFLA_PROMISCUITY, 0).attr_u32(IFLA_NUM_TX_QUEUES, 1).attr_u32(IFLA_NUM_RX_QUEUES, 1);
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
    let scope = if a.addr.is_loopback() { RT_SCOPE_HOST } else { 0 };
    let msg = IfAddrMsg {
        family: abi::AF_INET as u8,
        prefixlen: a.prefix,
        flags: IFA_F_PERMANENT as u8,
        scope,
        index: a.index,
    };
    let mut m = Msg::new(out, RTM_NEWADDR, flags, seq, port);
    m.body(&msg.to_bytes()).attr(IFA_ADDRESS, &a.addr.octets()).attr(IFA_LOCAL, &a.addr.octets());
    if !a.addr.is_loopback() && a.prefix < 31 {
        let host = u32::MAX.checked_shr(u32::from(a.prefix)).unwrap_or(0);
        m.attr(IFA_BROADCAST, &Ipv4Addr::from(u32::from(a.addr) | host).octets());
    }
    m.attr_str(IFA_LABEL, &a.label).attr_u32(IFA_FLAGS, IFA_F_PERMANENT);
    // preferred and valid for ever, created and changed at boot
    let mut cache = [0xffu8; 16];
    cache[8..].fill(0);
    m.attr(IFA_CACHEINFO, &cache);
}

fn route(out: &mut Vec<u8>, r: &Route, flags: u16, seq: u32, port: u32) {
    let msg = RtMsg {
        family: abi::AF_INET as u8,
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
        m.attr(RTA_DST, &r.dst.octets());
    }
    if let Some(src) = r.prefsrc {
        m.attr(RTA_PREFSRC, &src.octets());
    }
    if let Some(via) = r.via {
        m.attr(RTA_GATEWAY, &via.octets());
    }
    m.attr_u32(RTA_OIF, r.index);
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

/// `ip route get`: where a packet to that address would go.
fn one_route(m: &mut Machine, hdr: NlMsgHdr, body: &[u8], out: &mut Vec<u8>, port: u32) -> Result<(), Errno> {
    let dst = nl::attrs(body.get(RtMsg::LEN..).unwrap_or(&[]))
        .find(|(k, _)| *k == RTA_DST)
        .and_then(|(_, v)| v.first_chunk::<4>().copied())
        .map(Ipv4Addr::from)
        .ok_or(Errno::EINVAL)?;
    let r = m.route_to(dst)?;
    route(out, &r, 0, hdr.seq, port);
    Ok(())
}
