//! Addresses: RTM_NEWADDR, RTM_DELADDR and dumps, of both families.
use super::{Caller, Done, Dump, Head, Req, device, refuse, str_of, u32_of, v4_of, v6_of};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::IfName;
use crate::net::ipv4::devinet::IfAddr;
use crate::net::ipv4::fib::Scope;
use crate::net::ipv6::addrconf::If6Addr;
use crate::net::ipv6::slaac::Cfg6;
use belljar_abi::netlink::{self as nl, Msg, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::ipv6::is_linklocal;
use core::net::Ipv4Addr;

/// `RT_SCOPE_*` of a scope, and back.
pub(crate) fn scope_number(s: Scope) -> u8 {
    match s {
        Scope::Universe => RT_SCOPE_UNIVERSE,
        Scope::Link => RT_SCOPE_LINK,
        Scope::Host => RT_SCOPE_HOST,
    }
}

pub(crate) fn scope_of(n: u8) -> Done<Scope> {
    match n {
        RT_SCOPE_UNIVERSE => Ok(Scope::Universe),
        RT_SCOPE_LINK => Ok(Scope::Link),
        RT_SCOPE_HOST => Ok(Scope::Host),
        _ => Err(Errno::EINVAL.into()),
    }
}

#[doc(alias = "inet_fill_ifaddr")]
pub(crate) fn fill4(net: &Net, dev: DevId, a: &IfAddr, out: &mut Vec<u8>, h: Head) {
    let Some(d) = net.devs.get(dev) else { return };
    let secondary = if a.secondary { IFA_F_SECONDARY } else { 0 };
    let flags = IFA_F_PERMANENT | secondary | if a.noprefixroute { IFA_F_NOPREFIXROUTE } else { 0 };
    let msg = IfAddrMsg {
        family: abi::AF_INET as u8,
        prefixlen: a.prefix,
        flags: flags as u8,
        scope: scope_number(a.scope),
        index: d.ifindex,
    };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(IFA_ADDRESS, &a.address.octets()).attr(IFA_LOCAL, &a.local.octets());
    if let Some(b) = a.broadcast {
        m.attr(IFA_BROADCAST, &b.octets());
    }
    m.attr_str(IFA_LABEL, a.label.as_str()).attr_u32(IFA_FLAGS, flags);
    if a.metric != 0 {
        m.attr_u32(IFA_RT_PRIORITY, a.metric);
    }
    m.attr(IFA_CACHEINFO, &cacheinfo(u32::MAX, u32::MAX));
}

/// `struct ifa_cacheinfo`: preferred and valid; created and changed at boot.
fn cacheinfo(preferred: u32, valid: u32) -> [u8; 16] {
    let mut b = [0; 16];
    b[..4].copy_from_slice(&preferred.to_ne_bytes());
    b[4..8].copy_from_slice(&valid.to_ne_bytes());
    b
}

#[doc(alias = "inet6_fill_ifaddr")]
pub(crate) fn fill6(net: &Net, dev: DevId, a: &If6Addr, out: &mut Vec<u8>, h: Head) {
    let Some(d) = net.devs.get(dev) else { return };
    let now = net.env.now;
    let bits = [
        (a.permanent, IFA_F_PERMANENT),
        (a.tentative(), IFA_F_TENTATIVE),
        (a.dadfailed, IFA_F_DADFAILED),
        (a.nodad, IFA_F_NODAD),
        (a.deprecated(now), IFA_F_DEPRECATED),
    ];
    let flags = bits.into_iter().filter(|b| b.0).fold(a.flags, |all, b| all | b.1);
    let scope = match a.addr {
        x if x.is_loopback() => RT_SCOPE_HOST,
        x if is_linklocal(x) => RT_SCOPE_LINK,
        x if x.segments()[0] & 0xffc0 == 0xfec0 => RT_SCOPE_SITE,
        _ => RT_SCOPE_UNIVERSE,
    };
    let family = abi::AF_INET6 as u8;
    let msg = IfAddrMsg { family, prefixlen: a.prefix, flags: flags as u8, scope, index: d.ifindex };
    let left = |at: Option<u64>| at.map_or(u32::MAX, |at| at.saturating_sub(now).div_ceil(1_000_000_000) as u32);
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes());
    match a.peer {
        Some(peer) => m.attr(IFA_LOCAL, &a.addr.octets()).attr(IFA_ADDRESS, &peer.octets()),
        None => m.attr(IFA_ADDRESS, &a.addr.octets()),
    };
    if a.rt_priority != 0 {
        m.attr_u32(IFA_RT_PRIORITY, a.rt_priority);
    }
    m.attr(IFA_CACHEINFO, &cacheinfo(left(a.preferred), left(a.valid))).attr_u32(IFA_FLAGS, flags);
}

/// Of all devices, or of the one that a strict request names.
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let family = i32::from(request_family(r.body));
    let only = IfAddrMsg::parse(r.body).map(|m| m.index).filter(|i| c.strict && *i != 0);
    if let Some(index) = only {
        device(net, c, index)?;
    }
    for four in [true, false] {
        if family != abi::AF_UNSPEC && family != if four { abi::AF_INET } else { abi::AF_INET6 } {
            continue;
        }
        for dev in net.ns_devs(c.ns) {
            let Some(n) = net.devs.get(dev).filter(|n| only.is_none_or(|i| n.ifindex == i)) else { continue };
            let h = Head::dump(RTM_NEWADDR, d);
            if four {
                n.addrs.iter().for_each(|a| fill4(net, dev, a, d.room(), h));
            } else {
                n.inet6.addrs.iter().for_each(|a| fill6(net, dev, a, d.room(), h));
            }
        }
    }
    Ok(())
}

/// What a request about an address says.
struct Spec<'a> {
    msg: IfAddrMsg,
    flags: u32,
    local: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    broadcast: Option<&'a [u8]>,
    label: Option<&'a str>,
    /// Seconds that it is preferred, and valid.
    lifetimes: (u32, u32),
    /// The metric of its prefix's route.
    metric: u32,
}

const FOR_EVER: (u32, u32) = (u32::MAX, u32::MAX);

fn parse(r: Req<'_>) -> Done<Spec<'_>> {
    let msg = IfAddrMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let (flags, none) = (u32::from(msg.flags), None);
    let mut s =
        Spec { msg, flags, local: none, address: none, broadcast: none, label: None, lifetimes: FOR_EVER, metric: 0 };
    for (kind, v) in r.attrs(IfAddrMsg::LEN) {
        match kind {
            IFA_LOCAL => s.local = Some(v),
            IFA_ADDRESS => s.address = Some(v),
            IFA_BROADCAST => s.broadcast = Some(v),
            IFA_LABEL => s.label = Some(str_of(v)?),
            IFA_FLAGS => s.flags = u32_of(v)?,
            IFA_CACHEINFO => s.lifetimes = nl::u32_at(v, 0).zip(nl::u32_at(v, 4)).ok_or(Errno::EINVAL)?,
            IFA_RT_PRIORITY => s.metric = u32_of(v)?,
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(s)
}

#[doc(alias = "inet_rtm_newaddr")]
#[doc(alias = "inet6_rtm_newaddr")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(r)?;
    let dev = device(net, c, s.msg.index)?;
    match i32::from(s.msg.family) {
        abi::AF_INET => new4(net, r, dev, &s),
        abi::AF_INET6 => new6(net, c, r, dev, &s),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn new4(net: &mut Net, r: Req<'_>, dev: DevId, s: &Spec<'_>) -> Done {
    let Some(local) = s.local else { return refuse(Errno::EINVAL, "ipv4: Local address is not supplied") };
    let local = v4_of(local)?;
    if s.msg.prefixlen > 32 {
        return refuse(Errno::EINVAL, "ipv4: Invalid prefix length");
    }
    // None is nothing to do.
    if local.is_unspecified() {
        return Ok(());
    }
    // Of IPv4 they are for ever.
    let other = s.flags & !(IFA_F_NOPREFIXROUTE | IFA_F_PERMANENT | IFA_F_SECONDARY) != 0;
    if other || s.lifetimes != FOR_EVER {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let a = IfAddr {
        address: s.address.map_or(Ok(local), v4_of)?,
        broadcast: s.broadcast.map(v4_of).transpose()?,
        scope: scope_of(s.msg.scope)?,
        noprefixroute: s.flags & IFA_F_NOPREFIXROUTE != 0,
        label: IfName::new(s.label.unwrap_or("")),
        metric: s.metric,
        ..IfAddr::new(local, s.msg.prefixlen)
    };
    match net.insert_ifa(dev, a) {
        // Asked to replace it, it is there as it is, but for its metric.
        Err(Errno::EEXIST) if r.flag(NLM_F_REPLACE) && !r.flag(NLM_F_EXCL) => {
            net.set_ifa_metric(dev, (a.local, a.prefix), s.metric);
            Ok(())
        }
        Err(Errno::EEXIST) => refuse(Errno::EEXIST, "ipv4: Address already assigned"),
        Err(Errno::EINVAL) => refuse(Errno::EINVAL, "ipv4: Invalid scope value"),
        done => Ok(done?),
    }
}

fn new6(net: &mut Net, c: &Caller<'_>, r: Req<'_>, dev: DevId, s: &Spec<'_>) -> Done {
    const KEPT: u32 = IFA_F_NOPREFIXROUTE | IFA_F_MANAGETEMPADDR | IFA_F_HOMEADDRESS;
    let Some(addr) = s.local.or(s.address) else { return Err(Errno::EINVAL.into()) };
    let addr = v6_of(addr)?;
    let peer = s.address.map(v6_of).transpose()?.filter(|a| *a != addr);
    if s.flags & !(KEPT | IFA_F_NODAD | IFA_F_PERMANENT | IFA_F_OPTIMISTIC) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let ((preferred, valid), prefix, nodad) = (s.lifetimes, s.msg.prefixlen, s.flags & IFA_F_NODAD != 0);
    // Without `optimistic_dad` that one means nothing.
    let optimistic = if net.allows_optimistic(c.ns, dev) { s.flags & IFA_F_OPTIMISTIC } else { 0 };
    if optimistic != 0 && nodad {
        return refuse(Errno::EINVAL, "IFA_F_NODAD and IFA_F_OPTIMISTIC are mutually exclusive");
    }
    let cfg =
        Cfg6 { addr, prefix, peer, flags: s.flags & KEPT | optimistic, nodad, valid, preferred, rt_priority: s.metric };
    let d = net.devs.get(dev).ok_or(Errno::ENODEV)?;
    let there = d.inet6.addrs.iter().any(|a| a.addr == addr);
    if there && d.inet6.enabled() && r.flag(NLM_F_REPLACE) && !r.flag(NLM_F_EXCL) {
        if valid == 0 || preferred > valid {
            return Err(Errno::EINVAL.into());
        }
        return Ok(net.addr6_modify(dev, &cfg)?);
    }
    if !there && prefix <= 128 {
        if valid == 0 || preferred > valid {
            return refuse(Errno::EINVAL, "ipv6: address lifetime invalid");
        }
        if cfg.flags & IFA_F_MANAGETEMPADDR != 0 && prefix != 64 {
            return refuse(Errno::EINVAL, "ipv6: address with \"mngtmpaddr\" flag must have a prefix length of 64");
        }
    }
    match net.addr6_add(dev, &cfg) {
        Err(Errno::EEXIST) => refuse(Errno::EEXIST, "ipv6: address already assigned"),
        Err(Errno::EACCES) => refuse(Errno::EACCES, "ipv6: IPv6 is disabled on this device"),
        Err(Errno::EADDRNOTAVAIL) => refuse(Errno::EADDRNOTAVAIL, "ipv6: Invalid address"),
        done => Ok(done?),
    }
}

/// The first address that is as the request says, or all of its subnet's other attributes left out.
#[doc(alias = "inet_rtm_deladdr")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse(r)?;
    let Ok(dev) = device(net, c, s.msg.index) else {
        let text = if i32::from(s.msg.family) == abi::AF_INET {
            "ipv4: Device not found"
        } else {
            "ipv6: Unable to find the interface"
        };
        return refuse(Errno::ENODEV, text);
    };
    if i32::from(s.msg.family) == abi::AF_INET6 {
        let addr = v6_of(s.local.or(s.address).ok_or(Errno::EINVAL)?)?;
        let here = |d: &crate::net::core::dev::NetDevice| {
            d.inet6.addrs.iter().any(|a| a.addr == addr && a.prefix == s.msg.prefixlen)
        };
        if !net.devs.get(dev).is_some_and(here) {
            return refuse(Errno::EADDRNOTAVAIL, "ipv6: address not found");
        }
        return Ok(net.del_address6(dev, addr)?);
    }
    let local = s.local.map(v4_of).transpose()?;
    let address: Option<Ipv4Addr> = s.address.map(v4_of).transpose()?;
    let fits = |a: &IfAddr| {
        local.is_none_or(|l| l == a.local)
            && s.label.is_none_or(|l| l == a.label.as_str())
            && address.is_none_or(|x| a.prefix == s.msg.prefixlen && a.covers(x))
    };
    let at = net.devs.get(dev).and_then(|d| d.addrs.iter().position(fits));
    match at {
        Some(at) => Ok(net.del_ifa(dev, at)?),
        None => refuse(Errno::EADDRNOTAVAIL, "ipv4: Address not found"),
    }
}
