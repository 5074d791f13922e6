//! The requests that came before netlink (`route`, `arp`, `ifconfig` with IPv6): structures of fixed size that say what a message
//! of netlink says. Routes become such a message (`rtentry_to_fib_config`, `rtmsg_to_fib6_config`).
use super::{Caller, request};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::mask;
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::pneigh::Pneigh;
use crate::net::ipv4::devconf;
use crate::net::ipv4::route::{Flow4, RouteKind, addr_type, ip_route_output};
use belljar_abi::netlink::{self as nl, ErrorForm, Msg};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno, SockAddr};
use belljar_wire::Mac;
use core::net::{Ipv4Addr, Ipv6Addr};

/// sizeof(struct rtentry), of in6_rtmsg, of arpreq, of in6_ifreq.
pub const RTENTRY_LEN: usize = 120;
pub const IN6_RTMSG_LEN: usize = 80;
pub const ARPREQ_LEN: usize = 68;
pub const IN6_IFREQ_LEN: usize = 24;
/// Where rtentry has the address of a device's name.
pub const RT_DEV_AT: usize = 88;

// `RTF_*`
const RTF_GATEWAY: u32 = 2;
const RTF_HOST: u32 = 4;
const RTF_MTU: u32 = 0x40;
const RTF_WINDOW: u32 = 0x80;
const RTF_IRTT: u32 = 0x100;
const RTF_REJECT: u32 = 0x200;
// `ATF_*`
const ATF_COM: u32 = 2;
const ATF_PERM: u32 = 4;
const ATF_PUBL: u32 = 8;
const ATF_NETMASK: u32 = 0x20;
const ATF_DONTPUB: u32 = 0x40;

fn u16_at(b: &[u8], at: usize) -> u16 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b))
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    nl::u32_at(b, at).unwrap_or(0)
}

/// A `sockaddr`'s family, and what it is when that is AF_INET.
fn sockaddr(b: &[u8], at: usize) -> (i32, Option<Ipv4Addr>) {
    let bytes = b.get(at..at + 16).unwrap_or(&[]);
    let ip = if let Ok(SockAddr::V4(ip, _)) = SockAddr::parse(bytes) { Some(ip) } else { None };
    (u16_at(b, at).into(), ip)
}

fn v6_at(b: &[u8], at: usize) -> Ipv6Addr {
    b.get(at..).and_then(|b| b.first_chunk::<16>()).map_or(Ipv6Addr::UNSPECIFIED, |b| (*b).into())
}

fn ask(net: &mut Net, ns: NsId, kind: u16, msg: RtMsg, attrs: &[(u16, Vec<u8>)]) -> Result<(), Errno> {
    let mut data = Vec::new();
    let mut m = Msg::new(&mut data, kind, nl::NLM_F_REQUEST | nl::NLM_F_ACK | nl::NLM_F_CREATE, 1, 0);
    m.body(&msg.to_bytes());
    attrs.iter().for_each(|(k, v)| _ = m.attr(*k, v));
    let form = ErrorForm { ext_ack: false, cap_ack: true };
    let c = Caller { ns, port: 0, uid: 0, process: (0, ""), net_admin: true, strict: false, form, netns: &[] };
    let answers = request(net, &c, &data);
    let (_, body) = answers.first().and_then(|a| nl::messages(a).next()).ok_or(Errno::EINVAL)?;
    match u32_at(body, 0) as i32 {
        0 => Ok(()),
        e => Err(Errno(-e)),
    }
}

/// SIOCADDRT and SIOCDELRT of IPv4. `dev`: what the pointer in the structure leads to.
#[doc(alias = "ip_rt_ioctl")]
fn rtentry(net: &mut Net, ns: NsId, add: bool, rt: &[u8], dev: Option<&str>) -> Result<(), Errno> {
    let flags = u32::from(u16_at(rt, 56));
    let (_, Some(dst)) = sockaddr(rt, 8) else { return Err(Errno::EAFNOSUPPORT) };
    let mut len = 32;
    if flags & RTF_HOST == 0 {
        let (family, genmask) = sockaddr(rt, 40);
        let bits = genmask.map_or(u32_at(rt, 44).to_be(), |m| m.to_bits());
        if family != abi::AF_INET && (bits != 0 || family != 0) {
            return Err(Errno::EAFNOSUPPORT);
        }
        len = bits.leading_ones() as u8;
        if mask(len) != bits || dst.to_bits() & !bits != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let mut attrs = vec![(RTA_DST, dst.octets().to_vec())];
    let metric = u16_at(rt, 80);
    if metric != 0 {
        // One more than it is, for old binaries.
        attrs.push((RTA_PRIORITY, u32::from(metric - 1).to_ne_bytes().to_vec()));
    }
    let family = abi::AF_INET as u8;
    let mut msg = RtMsg { family, dst_len: len, table: RT_TABLE_MAIN, kind: RTN_UNICAST, ..RtMsg::default() };
    msg.protocol = if add { RTPROT_BOOT } else { RTPROT_UNSPEC };
    msg.scope = RT_SCOPE_NOWHERE;
    if flags & RTF_REJECT != 0 {
        (msg.kind, msg.scope) = (RTN_UNREACHABLE, RT_SCOPE_HOST);
        return ask(net, ns, if add { RTM_NEWROUTE } else { RTM_DELROUTE }, msg, &attrs);
    }
    if let Some(name) = dev {
        let (base, alias) = name.split_once(':').map_or((name, false), |(base, _)| (base, true));
        let d = net.dev_by_name(ns, base).and_then(|d| net.devs.get(d)).ok_or(Errno::ENODEV)?;
        attrs.push((RTA_OIF, d.ifindex.to_ne_bytes().to_vec()));
        if alias {
            let a = d.addrs.iter().find(|a| a.label.as_str() == name).ok_or(Errno::ENODEV)?;
            attrs.push((RTA_PREFSRC, a.local.octets().to_vec()));
        }
    }
    let gateway = sockaddr(rt, 24).1.filter(|g| !g.is_unspecified());
    if let Some(gw) = gateway {
        attrs.push((RTA_GATEWAY, gw.octets().to_vec()));
        if flags & RTF_GATEWAY != 0 && addr_type(net, ns, gw) == RouteKind::Unicast {
            msg.scope = RT_SCOPE_UNIVERSE;
        }
    }
    if !add {
        return ask(net, ns, RTM_DELROUTE, msg, &attrs);
    }
    if flags & RTF_GATEWAY != 0 && gateway.is_none() {
        return Err(Errno::EINVAL);
    }
    if msg.scope == RT_SCOPE_NOWHERE {
        msg.scope = RT_SCOPE_LINK;
    }
    attrs.extend(rt_metrics(rt, flags));
    ask(net, ns, RTM_NEWROUTE, msg, &attrs)
}

/// `mss` (an MTU by name), `window` and `irtt`, as RTA_METRICS.
fn rt_metrics(rt: &[u8], flags: u32) -> Option<(u16, Vec<u8>)> {
    let given = [
        (RTF_MTU, RTAX_ADVMSS, u32_at(rt, 96).wrapping_sub(40)),
        (RTF_WINDOW, RTAX_WINDOW, u32_at(rt, 104)),
        (RTF_IRTT, RTAX_RTT, u32::from(u16_at(rt, 112)) << 3),
    ];
    let one = |which: u16, value: u32| [&[8, 0], &which.to_ne_bytes()[..], &value.to_ne_bytes()].concat();
    let all: Vec<u8> = given.iter().filter(|g| flags & g.0 != 0).flat_map(|g| one(g.1, g.2)).collect();
    (!all.is_empty()).then_some((RTA_METRICS, all))
}

/// The same of IPv6.
#[doc(alias = "ipv6_route_ioctl")]
fn in6_rtmsg(net: &mut Net, ns: NsId, add: bool, rt: &[u8]) -> Result<(), Errno> {
    let (flags, index, metric) = (u32_at(rt, 72), u32_at(rt, 76), u32_at(rt, 56));
    let dst_len = u8::try_from(u16_at(rt, 52)).ok().filter(|l| *l <= 128).ok_or(Errno::EINVAL)?;
    if u16_at(rt, 54) != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = if flags & RTF_REJECT != 0 { RTN_UNREACHABLE } else { RTN_UNICAST };
    let family = abi::AF_INET6 as u8;
    let protocol = if add { RTPROT_BOOT } else { RTPROT_UNSPEC };
    let msg = RtMsg { family, dst_len, table: RT_TABLE_MAIN, protocol, kind, ..RtMsg::default() };
    let mut attrs = vec![(RTA_DST, v6_at(rt, 0).octets().to_vec())];
    if metric != 0 {
        attrs.push((RTA_PRIORITY, metric.to_ne_bytes().to_vec()));
    }
    if index != 0 {
        attrs.push((RTA_OIF, index.to_ne_bytes().to_vec()));
    }
    if flags & RTF_GATEWAY != 0 {
        attrs.push((RTA_GATEWAY, v6_at(rt, 32).octets().to_vec()));
    }
    ask(net, ns, if add { RTM_NEWROUTE } else { RTM_DELROUTE }, msg, &attrs)
}

/// SIOCSARP, SIOCDARP and SIOCGARP; the last returns the structure as it is written back.
fn arpreq(net: &mut Net, ns: NsId, cmd: u32, r: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let (_, Some(ip)) = sockaddr(r, 0) else { return Err(Errno::EPFNOSUPPORT) };
    let flags = u32_at(r, 32);
    if flags & ATF_PUBL == 0 && flags & (ATF_NETMASK | ATF_DONTPUB) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = r.get(52..68).unwrap_or(&[]);
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let name = std::str::from_utf8(name.get(..end).unwrap_or(&[])).map_err(|_| Errno::ENODEV)?;
    let mut dev = match name {
        "" if cmd == abi::SIOCGARP => return Err(Errno::ENODEV),
        "" => None,
        name => Some(net.dev_by_name(ns, name).ok_or(Errno::ENODEV)?),
    };
    let hatype = |net: &Net, dev| net.devs.get(dev).map_or(0, |d| crate::net::packet::link_of(d).1);
    if let Some(dev) = dev
        && u16_at(r, 16) != 0
        && u16_at(r, 16) != hatype(net, dev)
    {
        return Err(Errno::EINVAL);
    }
    if flags & ATF_PUBL != 0 && cmd != abi::SIOCGARP {
        return published(net, ns, cmd == abi::SIOCSARP, r, (ip, dev)).map(|()| None);
    }
    if dev.is_none() {
        dev = Some(ip_route_output(net, ns, &Flow4::to(ip))?.dev);
    }
    let dev = dev.ok_or(Errno::ENODEV)?;
    let known = net.ns.get(ns).and_then(|n| n.neigh_table.get(dev, ip.into()));
    if cmd == abi::SIOCSARP {
        let mac = r.get(18..).and_then(|b| b.first_chunk()).map_or(Mac::ZERO, |b| Mac(*b));
        let id = neighbour::lookup_or_create(net, ns, dev, ip.into()).ok_or(Errno::ENOBUFS)?;
        let state = if flags & ATF_PERM != 0 { Nud::Permanent } else { Nud::Stale };
        neighbour::update(net, ns, id, mac, state, Update { r#override: true, admin: true, weak: false });
        super::notify::neigh(net, RTM_NEWNEIGH, ns, id);
        return Ok(None);
    }
    let id = known.ok_or(Errno::ENXIO)?;
    if cmd == abi::SIOCDARP {
        neighbour::fail(net, ns, id);
        super::notify::neigh(net, RTM_DELNEIGH, ns, id);
        neighbour::destroy(net, ns, id);
        return Ok(None);
    }
    let e = net.ns.get(ns).and_then(|n| n.neighs.get(id)).filter(|e| e.state != Nud::NoArp).ok_or(Errno::ENXIO)?;
    let mut out = r.to_vec();
    let shown = match e.state {
        Nud::Permanent => ATF_PERM | ATF_COM,
        state if state.valid() => ATF_COM,
        _ => 0,
    };
    let mac = if e.state.valid() { e.mac } else { Mac::ZERO };
    let ha = [&hatype(net, dev).to_ne_bytes()[..], &mac.0].concat();
    out.iter_mut().skip(16).zip(ha).for_each(|(t, b)| *t = b);
    out.iter_mut().skip(32).zip(shown.to_ne_bytes()).for_each(|(t, b)| *t = b);
    Ok(Some(out))
}

/// An entry for somebody else: one address, or with a mask of 0 all of a device or of all of them.
#[doc(alias = "arp_req_set_public")]
#[doc(alias = "arp_req_delete_public")]
fn published(
    net: &mut Net,
    ns: NsId,
    set: bool,
    r: &[u8],
    (addr, mut dev): (Ipv4Addr, Option<DevId>),
) -> Result<(), Errno> {
    let flags = u32_at(r, 32);
    let mask = match flags & ATF_NETMASK {
        0 => u32::MAX,
        _ => sockaddr(r, 36).1.map_or(0, Ipv4Addr::to_bits),
    };
    if mask != 0 && mask != u32::MAX {
        return Err(Errno::EINVAL);
    }
    if set && dev.is_none() && flags & ATF_COM != 0 {
        let mac = r.get(18..).and_then(|b| b.first_chunk()).map_or(Mac::ZERO, |b| Mac(*b));
        let has = |id: &DevId| net.devs.get(*id).is_some_and(|d| d.mac == mac);
        dev = Some(net.ns_devs(ns).find(has).ok_or(Errno::ENODEV)?);
    }
    if mask != 0 {
        let new = Pneigh { addr: addr.into(), dev, flags: 0, proto: 0, permanent: false };
        return if set { net.pneigh_create(ns, new) } else { net.pneigh_delete(ns, new.addr, dev) };
    }
    let name = dev.and_then(|d| net.devs.get(d)).map_or_else(|| "all".to_owned(), |d| d.name.clone());
    devconf::store(net, ns, &format!("net.ipv4.conf.{name}.proxy_arp"), if set { "1" } else { "0" })
}

/// How much of the caller's memory a request is: those of routes, of ARP, and of addresses of IPv6.
pub fn request_len(cmd: u32, six: bool) -> Option<usize> {
    match cmd {
        abi::SIOCADDRT | abi::SIOCDELRT => Some(if six { IN6_RTMSG_LEN } else { RTENTRY_LEN }),
        abi::SIOCSARP | abi::SIOCDARP | abi::SIOCGARP => Some(ARPREQ_LEN),
        abi::SIOCSIFADDR | abi::SIOCDIFADDR if six => Some(IN6_IFREQ_LEN),
        _ => None,
    }
}

impl Kernel {
    /// Such a request of a privileged caller; what is to be written back.
    pub fn old_request(
        &mut self,
        now: u64,
        ns: NsId,
        (cmd, six): (u32, bool),
        r: &[u8],
        dev: Option<&str>,
    ) -> Result<Option<Vec<u8>>, Errno> {
        if r.len() < request_len(cmd, six).ok_or(Errno::EINVAL)? {
            return Err(Errno::EFAULT);
        }
        self.begin_step(now);
        let net = &mut self.net;
        let done = match cmd {
            abi::SIOCADDRT | abi::SIOCDELRT if six => in6_rtmsg(net, ns, cmd == abi::SIOCADDRT, r).map(|()| None),
            abi::SIOCADDRT | abi::SIOCDELRT => rtentry(net, ns, cmd == abi::SIOCADDRT, r, dev).map(|()| None),
            abi::SIOCSIFADDR | abi::SIOCDIFADDR => in6_ifreq(net, ns, cmd == abi::SIOCSIFADDR, r).map(|()| None),
            _ => arpreq(net, ns, cmd, r),
        };
        self.end_step();
        done
    }
}

#[doc(alias = "addrconf_add_ifaddr")]
fn in6_ifreq(net: &mut Net, ns: NsId, add: bool, r: &[u8]) -> Result<(), Errno> {
    let dev = net.dev_by_index(ns, u32_at(r, 20)).ok_or(Errno::ENODEV)?;
    let prefix = u8::try_from(u32_at(r, 16)).ok().filter(|p| *p <= 128).ok_or(Errno::EINVAL)?;
    if add { net.add_address6(dev, v6_at(r, 0), prefix, false) } else { net.del_address6(dev, v6_at(r, 0)) }
}
