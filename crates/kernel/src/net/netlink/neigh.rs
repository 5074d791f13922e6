//! Neighbours: RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH and dumps, of both families.
use super::{Caller, Done, Dump, Head, Req, device, index, notify, octets, refuse, u32_of, v4_of, v6_of};
use crate::ids::{DevId, NeighId, NsId};
use crate::net::Net;
use crate::net::core::neighbour::{self, Nud, Update};
use crate::net::core::pneigh::Pneigh;
use belljar_abi::netlink::{self as nl, Msg, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::Mac;
use core::net::IpAddr;

const STATES: [(Nud, u16); 8] = [
    (Nud::Incomplete, NUD_INCOMPLETE),
    (Nud::Reachable, NUD_REACHABLE),
    (Nud::Stale, NUD_STALE),
    (Nud::Delay, NUD_DELAY),
    (Nud::Probe, NUD_PROBE),
    (Nud::Failed, NUD_FAILED),
    (Nud::Permanent, NUD_PERMANENT),
    (Nud::NoArp, NUD_NOARP),
];

#[doc(alias = "neigh_fill_info")]
pub(crate) fn fill(net: &Net, ns: NsId, id: NeighId, out: &mut Vec<u8>, h: Head) {
    let Some(e) = net.ns.get(ns).and_then(|n| n.neighs.get(id)) else { return };
    let family = if e.addr.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 };
    let state = STATES.iter().find(|s| s.0 == e.state).map_or(NUD_NONE, |s| s.1);
    let (ifindex, flags) = (index(net, Some(e.dev)) as i32, e.flags);
    let msg = NdMsg { family: family as u8, ifindex, state, flags, kind: RTN_UNICAST };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(NDA_DST, &octets(e.addr));
    if e.state.valid() {
        m.attr(NDA_LLADDR, &e.mac.0);
    }
    // `struct nda_cacheinfo`: hundredths of a second since confirmed, used, updated; references.
    let now = net.env.jiffies();
    let ago = |at: u32| now.wrapping_sub(at) as u64 * 100 / u64::from(net.env.hz.max(1));
    let info: Vec<u8> =
        [ago(e.confirmed), ago(e.used), ago(e.updated), 0].iter().flat_map(|v| (*v as u32).to_ne_bytes()).collect();
    m.attr(NDA_CACHEINFO, &info).attr_u32(NDA_PROBES, e.probes);
    if e.proto != 0 {
        m.attr_u8(NDA_PROTOCOL, e.proto);
    }
}

#[doc(alias = "pneigh_fill_info")]
fn fill_proxy(net: &Net, p: &Pneigh, out: &mut Vec<u8>, h: Head) {
    let family = if p.addr.is_ipv4() { abi::AF_INET } else { abi::AF_INET6 };
    let ifindex = p.dev.map_or(0, |d| index(net, Some(d))) as i32;
    let msg = NdMsg { family: family as u8, ifindex, state: NUD_NONE, flags: p.flags | NTF_PROXY, kind: RTN_UNICAST };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(NDA_DST, &octets(p.addr));
    if p.proto != 0 {
        m.attr_u8(NDA_PROTOCOL, p.proto);
    }
}

/// Of all devices, or of the one named.
#[doc(alias = "neigh_dump_info")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let Some(n) = net.ns.get(c.ns) else { return };
    let family = i32::from(request_family(r.body));
    let proxy = NdMsg::parse(r.body).is_some_and(|m| m.flags == NTF_PROXY);
    let only = r.attr(NdMsg::LEN, NDA_IFINDEX).and_then(|v| nl::u32_at(v, 0)).filter(|i| *i != 0);
    for four in [true, false] {
        if family != abi::AF_UNSPEC && family != if four { abi::AF_INET } else { abi::AF_INET6 } {
            continue;
        }
        if proxy {
            let all = n.pneighs.of(!four).iter();
            for p in all.filter(|p| only.is_none_or(|i| p.dev.is_some_and(|d| index(net, Some(d)) == i))) {
                let h = Head::dump(RTM_NEWNEIGH, d);
                fill_proxy(net, p, d.room(), h);
            }
            continue;
        }
        for id in n.neigh_table.iter() {
            let Some(e) = n.neighs.get(id).filter(|e| e.addr.is_ipv4() == four) else { continue };
            if only.is_none_or(|i| index(net, Some(e.dev)) == i) {
                let h = Head::dump(RTM_NEWNEIGH, d);
                fill(net, c.ns, id, d.room(), h);
            }
        }
    }
}

/// What a request about a neighbour says.
struct Spec {
    msg: NdMsg,
    dev: DevId,
    addr: IpAddr,
    mac: Option<Mac>,
    probes: Option<u32>,
    proto: u8,
}

/// The address that somebody is to be answered for, or not any more, and the device if one is named.
fn parse_proxy(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Option<Pneigh>> {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.flags & NTF_PROXY == 0 {
        return Ok(None);
    }
    let (mut addr, mut proto) = (None, 0);
    for (kind, v) in r.attrs(NdMsg::LEN) {
        match kind {
            NDA_DST if i32::from(msg.family) == abi::AF_INET6 => addr = Some(IpAddr::V6(v6_of(v)?)),
            NDA_DST if i32::from(msg.family) == abi::AF_INET => addr = Some(IpAddr::V4(v4_of(v)?)),
            NDA_PROTOCOL => proto = v.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    let Some(addr) = addr else { return refuse(Errno::EINVAL, "Network address not specified") };
    let dev = match u32::try_from(msg.ifindex) {
        Ok(n) if n > 0 => Some(device(net, c, n)?),
        _ => None,
    };
    let permanent = msg.state & NUD_PERMANENT != 0;
    Ok(Some(Pneigh { addr, dev, flags: msg.flags & !NTF_PROXY, proto, permanent }))
}

fn parse(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Spec> {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let (mut addr, mut mac, mut probes, mut proto) = (None, None, None, 0);
    for (kind, v) in r.attrs(NdMsg::LEN) {
        match kind {
            NDA_DST if i32::from(msg.family) == abi::AF_INET6 => addr = Some(IpAddr::V6(v6_of(v)?)),
            NDA_DST if i32::from(msg.family) == abi::AF_INET => addr = Some(IpAddr::V4(v4_of(v)?)),
            NDA_LLADDR => match v.first_chunk() {
                Some(m) => mac = Some(Mac(*m)),
                None => return refuse(Errno::EINVAL, "Invalid link address"),
            },
            NDA_PROBES => probes = Some(u32_of(v)?),
            NDA_CACHEINFO => {}
            NDA_PROTOCOL => proto = v.first().copied().unwrap_or(0),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let Some(addr) = addr else { return refuse(Errno::EINVAL, "Network address not specified") };
    if msg.flags & !(NTF_ROUTER | NTF_EXT_LEARNED) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let dev = match u32::try_from(msg.ifindex) {
        Ok(n) if n > 0 => device(net, c, n)?,
        _ => return refuse(Errno::EINVAL, "Device not specified"),
    };
    Ok(Spec { msg, dev, addr, mac, probes, proto })
}

#[doc(alias = "neigh_add")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    if let Some(p) = parse_proxy(net, c, r)? {
        return Ok(net.pneigh_create(c.ns, p)?);
    }
    let s = parse(net, c, r)?;
    if s.probes.is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let Some((state, _)) = STATES.iter().find(|st| st.1 == s.msg.state).copied() else {
        return Err(Errno::EINVAL.into());
    };
    let known = net.ns.get(c.ns).and_then(|n| n.neigh_table.get(s.dev, s.addr));
    match known {
        None if !r.flag(NLM_F_CREATE) => return Err(Errno::ENOENT.into()),
        Some(_) if r.flag(NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
        _ => {}
    }
    let old = known.and_then(|id| net.ns.get(c.ns)?.neighs.get(id)).filter(|e| e.state.valid()).map(|e| e.mac);
    let Some(mac) = s.mac.or(old).or(if state.valid() { None } else { Some(Mac::ZERO) }) else {
        return refuse(Errno::EINVAL, "No link layer address given");
    };
    let id = neighbour::lookup_or_create(net, c.ns, s.dev, s.addr).ok_or(Errno::ENOBUFS)?;
    let r#override = known.is_none() || r.flag(NLM_F_REPLACE);
    let flags = s.msg.flags;
    let which = if r#override { NTF_ROUTER | NTF_EXT_LEARNED } else { NTF_EXT_LEARNED };
    neighbour::update_flags(net, c.ns, id, which, flags);
    if let Some(e) = net.ns.get_mut(c.ns).and_then(|n| n.neighs.get_mut(id)).filter(|_| s.proto != 0) {
        e.proto = s.proto;
    }
    neighbour::update(net, c.ns, id, mac, state, Update { r#override, admin: true, weak: false });
    notify::neigh(net, RTM_NEWNEIGH, c.ns, id);
    Ok(())
}

#[doc(alias = "neigh_delete")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    if let Some(p) = parse_proxy(net, c, r)? {
        return Ok(net.pneigh_delete(c.ns, p.addr, p.dev)?);
    }
    let s = parse(net, c, r)?;
    let id = net.ns.get(c.ns).and_then(|n| n.neigh_table.get(s.dev, s.addr)).ok_or(Errno::ENOENT)?;
    neighbour::fail(net, c.ns, id);
    notify::neigh(net, RTM_NEWNEIGH, c.ns, id);
    notify::neigh(net, RTM_DELNEIGH, c.ns, id);
    neighbour::destroy(net, c.ns, id);
    Ok(())
}

#[doc(alias = "neigh_get")]
pub(crate) fn get(net: &Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    if let Some(asked) = parse_proxy(net, c, r)? {
        let Some(p) = net.pneigh(c.ns, asked.addr, asked.dev) else {
            return refuse(Errno::ENOENT, "Proxy neighbour entry not found");
        };
        fill_proxy(net, p, out, Head::reply(RTM_NEWNEIGH, c, r));
        return Ok(());
    }
    let s = parse(net, c, r)?;
    let Some(id) = net.ns.get(c.ns).and_then(|n| n.neigh_table.get(s.dev, s.addr)) else {
        return refuse(Errno::ENOENT, "Neighbour entry not found");
    };
    fill(net, c.ns, id, out, Head::reply(RTM_NEWNEIGH, c, r));
    Ok(())
}
