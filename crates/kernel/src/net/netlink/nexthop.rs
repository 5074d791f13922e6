//! Next hop objects: RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP and dumps (`ip nexthop`).
use super::{Caller, Done, Dump, Head, Req, index, notify, refuse, u32_of, v4_of, v6_of};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::ipv4::fib::RouteType;
use crate::net::nexthop::{Hop, Kind, MOST, Nexthop};
use crate::net::{ipv4, ipv6};
use belljar_abi::netlink::{Msg, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET, AF_INET6, AF_UNSPEC, Errno};
use core::net::IpAddr;

/// `struct nhmsg`: family, scope, protocol, flags.
#[derive(Clone, Copy, Debug, Default)]
struct NhMsg {
    family: u8,
    scope: u8,
    proto: u8,
    flags: u32,
}

const LEN: usize = 8;

impl NhMsg {
    fn parse(b: &[u8]) -> Option<NhMsg> {
        let &[family, scope, proto, _, a, b, c, d] = b.first_chunk::<LEN>()?;
        Some(NhMsg { family, scope, proto, flags: u32::from_ne_bytes([a, b, c, d]) })
    }

    fn to_bytes(self) -> [u8; LEN] {
        let [a, b, c, d] = self.flags.to_ne_bytes();
        [self.family, self.scope, self.proto, 0, a, b, c, d]
    }
}

#[doc(alias = "nh_fill_node")]
fn fill(net: &Net, n: &Nexthop, out: &mut Vec<u8>, h: Head) {
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    let mut head = NhMsg { proto: n.proto, ..NhMsg::default() };
    match &n.kind {
        Kind::Group(list) => {
            let members: Vec<u8> = list
                .iter()
                .flat_map(|(id, weight)| {
                    let [low, high] = weight.saturating_sub(1).to_le_bytes();
                    [&id.to_ne_bytes()[..], &[low, high, 0, 0]].concat()
                })
                .collect();
            m.body(&head.to_bytes()).attr_u32(NHA_ID, n.id).attr_u16(NHA_GROUP_TYPE, 0).attr(NHA_GROUP, &members);
        }
        Kind::One(hop) => {
            head.family = if hop.six { AF_INET6 } else { AF_INET } as u8;
            head.flags = if hop.onlink { RTNH_F_ONLINK } else { 0 };
            head.scope = match hop {
                Hop { blackhole: true, .. } => RT_SCOPE_UNIVERSE,
                Hop { gateway: None, six: false, .. } => RT_SCOPE_HOST,
                _ => RT_SCOPE_LINK,
            };
            m.body(&head.to_bytes()).attr_u32(NHA_ID, n.id);
            if hop.blackhole {
                m.attr(NHA_BLACKHOLE, &[]);
                return;
            }
            m.attr_u32(NHA_OIF, index(net, hop.dev));
            if let Some(gw) = hop.gateway {
                m.attr(NHA_GATEWAY, &super::octets(gw));
            }
        }
    }
}

/// Those who listen hear of an object.
pub(crate) fn tell(net: &mut Net, ns: NsId, kind: u16, n: &Nexthop) {
    notify::nexthop(net, ns, |net, out| fill(net, n, out, Head { kind, ..Head::default() }));
}

fn id_of(r: Req<'_>) -> Done<u32> {
    let Some(v) = r.attr(LEN, NHA_ID) else { return refuse(Errno::EINVAL, "Nexthop id is missing") };
    match u32_of(v)? {
        0 => refuse(Errno::EINVAL, "Invalid nexthop id"),
        id => Ok(id),
    }
}

#[doc(alias = "rtm_del_nexthop")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let id = id_of(r)?;
    if net.del_nexthop(c.ns, id, true) { Ok(()) } else { Err(Errno::ENOENT.into()) }
}

#[doc(alias = "rtm_get_nexthop")]
pub(crate) fn get(net: &Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let id = id_of(r)?;
    let found = net.ns.get(c.ns).and_then(|n| n.nexthops.all.get(&id)).ok_or(Errno::ENOENT)?;
    fill(net, found, out, Head::reply(RTM_NEWNEXTHOP, c, r));
    Ok(())
}

/// By device, groups only, of a family; who asks for those of VXLAN gets all, as from Linux.
#[doc(alias = "rtm_dump_nexthop")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) -> Done {
    let Some(n) = net.ns.get(c.ns) else { return Ok(()) };
    let msg = NhMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let oif = r.attr(LEN, NHA_OIF).map(u32_of).transpose()?.unwrap_or(0);
    let master = r.attr(LEN, NHA_MASTER).map(u32_of).transpose()?.unwrap_or(0);
    let groups = r.attr(LEN, NHA_GROUPS).is_some();
    let fits = |n: &Nexthop| match &n.kind {
        Kind::Group(_) => oif == 0 && master == 0 && i32::from(msg.family) == AF_UNSPEC,
        Kind::One(h) => {
            let family = if h.six { AF_INET6 } else { AF_INET };
            let under = h.dev.and_then(|d| net.devs.get(d)).and_then(|d| d.master);
            !groups
                && (oif == 0 || index(net, h.dev) == oif)
                && (master == 0 || index(net, under) == master)
                && (i32::from(msg.family) == AF_UNSPEC || i32::from(msg.family) == family)
        }
    };
    for one in n.nexthops.all.values().filter(|n| fits(n)) {
        let h = Head::dump(RTM_NEWNEXTHOP, d);
        fill(net, one, d.room(), h);
    }
    Ok(())
}

#[doc(alias = "rtm_new_nexthop")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let msg = NhMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.scope != 0 || r.body.get(3) != Some(&0) {
        return refuse(Errno::EINVAL, "Invalid values in ancillary header");
    }
    if msg.flags & !RTNH_F_ONLINK != 0 {
        return refuse(Errno::EINVAL, "Invalid nexthop flags in ancillary header");
    }
    // Encapsulation, VXLAN's, resilient groups.
    if r.attrs(LEN).any(|(kind, _)| !(NHA_ID..=NHA_GATEWAY).contains(&kind)) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let kind = match r.attr(LEN, NHA_GROUP) {
        Some(list) => group(net, c, r, list)?,
        None => Kind::One(hop(net, c, r, msg)?),
    };
    let asked = r.attr(LEN, NHA_ID).map(u32_of).transpose()?.unwrap_or(0);
    let n = net.ns.get_mut(c.ns).ok_or(Errno::ENODEV)?;
    let id = match asked {
        0 => n.nexthops.unused().ok_or(Errno::ENOENT)?,
        id => id,
    };
    let replace = r.flag(NLM_F_REPLACE);
    match n.nexthops.all.get(&id) {
        Some(_) if r.flag(NLM_F_EXCL) || !replace => return Err(Errno::EEXIST.into()),
        Some(old) => replaceable(&n.nexthops, old, &kind)?,
        None if replace && !r.flag(NLM_F_CREATE) => {
            return refuse(Errno::ENOENT, "Replace specified without create and no entry exists");
        }
        None if n.nexthops.all.len() >= MOST => return Err(Errno::ENOMEM.into()),
        None => {}
    }
    let new = Nexthop { id, proto: msg.proto, kind };
    let replaced = n.nexthops.all.insert(id, new.clone()).is_some();
    let mut changed = n.nexthops.groups(id);
    changed.push(id);
    tell(net, c.ns, RTM_NEWNEXTHOP, &new);
    net.nexthops_changed(c.ns, &changed);
    if replaced {
        net.tell_nexthop_routes(c.ns, &changed);
    }
    Ok(())
}

#[doc(alias = "replace_nexthop")]
fn replaceable(all: &crate::net::nexthop::Nexthops, old: &Nexthop, new: &Kind) -> Done {
    let shared = |id: &u32| matches!(all.all.get(id).map(|n| &n.kind), Some(Kind::Group(g)) if g.len() > 1);
    match (&old.kind, new) {
        (Kind::One(_), Kind::Group(_)) => refuse(Errno::EINVAL, "Can not replace a nexthop with a nexthop group."),
        (Kind::Group(_), Kind::One(_)) => refuse(Errno::EINVAL, "Can not replace a nexthop group with a nexthop."),
        (Kind::One(_), Kind::One(h)) if h.blackhole && all.groups(old.id).iter().any(shared) => {
            refuse(Errno::EINVAL, "Blackhole nexthop can not be a member of a group with more than one path")
        }
        _ => Ok(()),
    }
}

#[doc(alias = "nh_check_attr_group")]
fn group(net: &Net, c: &Caller<'_>, r: Req<'_>, list: &[u8]) -> Done<Kind> {
    match r.attr(LEN, NHA_GROUP_TYPE).map(|v| v.first_chunk().map(|b| u16::from_ne_bytes(*b))) {
        None | Some(Some(0)) => {}
        Some(Some(1)) => return Err(Errno::EOPNOTSUPP.into()),
        _ => return refuse(Errno::EINVAL, "Invalid group type"),
    }
    let (entries, rest) = list.as_chunks::<8>();
    if entries.is_empty() || !rest.is_empty() {
        return refuse(Errno::EINVAL, "Invalid length for nexthop group attribute");
    }
    let mut members: Vec<(u32, u16)> = Vec::with_capacity(entries.len());
    for &[a, b, c, d, low, high, x, y] in entries {
        if x != 0 || y != 0 {
            return refuse(Errno::EINVAL, "Reserved field in nexthop_grp must be 0");
        }
        let id = u32::from_ne_bytes([a, b, c, d]);
        let Some(weight) = u16::from_le_bytes([low, high]).checked_add(1) else {
            return refuse(Errno::EINVAL, "Invalid value for weight");
        };
        if members.iter().any(|m| m.0 == id) {
            return refuse(Errno::EINVAL, "Nexthop id can not be used twice in a group");
        }
        members.push((id, weight));
    }
    for (id, _) in &members {
        match net.ns.get(c.ns).and_then(|n| n.nexthops.all.get(id)).map(|n| &n.kind) {
            None => return refuse(Errno::EINVAL, "Invalid nexthop id"),
            Some(Kind::Group(_)) => {
                return refuse(Errno::EINVAL, "Hash-threshold group can not be a nexthop within a group");
            }
            Some(Kind::One(h)) if h.blackhole && members.len() > 1 => {
                let text = "Blackhole nexthop can not be used in a group with more than 1 path";
                return refuse(Errno::EINVAL, text);
            }
            Some(Kind::One(_)) => {}
        }
    }
    let other = |kind: u16| !matches!(kind, NHA_ID | NHA_GROUP | NHA_GROUP_TYPE);
    if r.attrs(LEN).any(|(kind, _)| other(kind)) {
        return refuse(Errno::EINVAL, "No other attributes can be set in nexthop groups");
    }
    Ok(Kind::Group(members))
}

#[doc(alias = "rtm_to_nh_config")]
fn hop(net: &Net, c: &Caller<'_>, r: Req<'_>, msg: NhMsg) -> Done<Hop> {
    let six = match i32::from(msg.family) {
        AF_INET => false,
        AF_INET6 => true,
        _ => return refuse(Errno::EINVAL, "Invalid address family"),
    };
    let (oif, gateway) = (r.attr(LEN, NHA_OIF), r.attr(LEN, NHA_GATEWAY));
    let onlink = msg.flags & RTNH_F_ONLINK != 0;
    if r.attr(LEN, NHA_BLACKHOLE).is_some() {
        if oif.is_some() || gateway.is_some() {
            return refuse(Errno::EINVAL, "Blackhole attribute can not be used with gateway, oif, encap or fdb");
        }
        return Ok(Hop { six, blackhole: true, dev: None, gateway: None, onlink: false });
    }
    let Some(oif) = oif else {
        return refuse(Errno::EINVAL, "Device attribute required for non-blackhole and non-fdb nexthops");
    };
    let Some(dev) = net.dev_by_index(c.ns, u32_of(oif)?) else {
        return refuse(Errno::EINVAL, "Invalid device index");
    };
    match net.devs.get(dev) {
        Some(d) if !d.up => return refuse(Errno::ENETDOWN, "Nexthop device is not up"),
        Some(d) if !d.carrier => return refuse(Errno::ENETDOWN, "Carrier for nexthop device is down"),
        _ => {}
    }
    let gateway = match gateway {
        Some(v) if six => Some(IpAddr::V6(v6_of(v)?)),
        Some(v) => Some(IpAddr::V4(v4_of(v)?)),
        None if onlink => {
            return refuse(Errno::EINVAL, "ONLINK flag can not be set for nexthop without a gateway");
        }
        None => None,
    };
    if let Some(gw) = gateway.filter(|_| !onlink) {
        reachable(net, c, gw, dev)?;
    }
    Ok(Hop { six, blackhole: false, dev: Some(dev), gateway, onlink })
}

/// A router has to be on the device's own link.
fn reachable(net: &Net, c: &Caller<'_>, gateway: IpAddr, dev: crate::ids::DevId) -> Done {
    match gateway {
        IpAddr::V4(gw) => match ipv4::fib::lookup(net, c.ns, gw, Some(dev)) {
            Some(r) if r.gateway.is_none() && r.kind == RouteType::Unicast => Ok(()),
            _ => refuse(Errno::ENETUNREACH, "Nexthop has invalid gateway"),
        },
        IpAddr::V6(gw) => {
            let n = net.ns.get(c.ns).ok_or(Errno::ENODEV)?;
            match n.v6.fib.lookup(gw, Some(dev), net.env.now) {
                Some(ipv6::fib::Route6 { kind: RouteType::Unicast, gateway: None, .. }) => Ok(()),
                _ => Err(Errno::EHOSTUNREACH.into()),
            }
        }
    }
}
