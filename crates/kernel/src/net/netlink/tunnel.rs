//! What netlink says of tunnels (`IFLA_INFO_DATA` of kinds ipip, sit, gre and gretap).
use super::vlan::Link;
use super::{Done, index, refuse, u32_of, v4_of};
use crate::drivers::stacked;
use crate::drivers::tunnel::{self, GRE_ROUTING, GRE_VERSION, IPPROTO_IPIP, Kind, Tunnel};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::features;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;
use belljar_wire::ipv4::IPPROTO_IPV6;
use core::net::Ipv4Addr;

pub(crate) fn kind_of(name: &str) -> Option<Kind> {
    [Kind::Ipip, Kind::Sit, Kind::Gre, Kind::Gretap].into_iter().find(|k| k.name() == name)
}

fn is_gre(kind: Kind) -> bool {
    matches!(kind, Kind::Gre | Kind::Gretap)
}

fn u8_of(v: &[u8]) -> Done<u8> {
    v.first().copied().ok_or(Errno::EINVAL.into())
}

fn be16(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

/// Settings over those that `t` has; what is not here is refused.
#[doc(alias = "ipgre_netlink_parms")]
#[doc(alias = "ipip_netlink_parms")]
fn settings(net: &Net, c_ns: NsId, t: &mut Tunnel, data: &[u8]) -> Done {
    for (kind, v) in nl::attrs(data) {
        match is_gre(t.kind) {
            true => gre(net, c_ns, t, kind, v)?,
            false => iptun(net, c_ns, t, kind, v)?,
        }
    }
    let ends = [t.local, t.remote];
    if ends.iter().any(|a| a.is_multicast()) {
        return refuse(Errno::EOPNOTSUPP, "Multicast is not supported");
    }
    if t.ignore_df && t.pmtudisc || (t.iflags | t.oflags) & (GRE_VERSION | GRE_ROUTING) != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

fn lower(net: &Net, c_ns: NsId, v: &[u8]) -> Done<Option<DevId>> {
    Ok(net.dev_by_index(c_ns, u32_of(v)?))
}

fn gre(net: &Net, c_ns: NsId, t: &mut Tunnel, kind: u16, v: &[u8]) -> Done {
    let off = v.iter().all(|b| *b == 0);
    let key = |v: &[u8]| v.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Errno::EINVAL);
    match kind {
        IFLA_GRE_LINK => t.lower = lower(net, c_ns, v)?,
        IFLA_GRE_IFLAGS => t.iflags = be16(v)?,
        IFLA_GRE_OFLAGS => t.oflags = be16(v)?,
        IFLA_GRE_IKEY => t.ikey = key(v)?,
        IFLA_GRE_OKEY => t.okey = key(v)?,
        IFLA_GRE_LOCAL => t.local = v4_of(v)?,
        IFLA_GRE_REMOTE if t.kind == Kind::Gretap && off => return Err(Errno::EINVAL.into()),
        IFLA_GRE_REMOTE => t.remote = v4_of(v)?,
        IFLA_GRE_TTL => t.ttl = u8_of(v)?,
        IFLA_GRE_TOS => t.tos = u8_of(v)?,
        IFLA_GRE_PMTUDISC => t.pmtudisc = u8_of(v)? != 0,
        IFLA_GRE_IGNORE_DF => t.ignore_df = u8_of(v)? != 0,
        IFLA_GRE_FWMARK => t.fwmark = u32_of(v)?,
        // Without an encapsulation its flags and ports say nothing.
        IFLA_GRE_ENCAP_TYPE if off => {}
        IFLA_GRE_ENCAP_FLAGS | IFLA_GRE_ENCAP_SPORT | IFLA_GRE_ENCAP_DPORT => {}
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(())
}

fn iptun(net: &Net, c_ns: NsId, t: &mut Tunnel, kind: u16, v: &[u8]) -> Done {
    let off = v.iter().all(|b| *b == 0);
    match kind {
        IFLA_IPTUN_LINK => t.lower = lower(net, c_ns, v)?,
        IFLA_IPTUN_LOCAL => t.local = v4_of(v)?,
        IFLA_IPTUN_REMOTE => t.remote = v4_of(v)?,
        IFLA_IPTUN_TTL => t.ttl = u8_of(v)?,
        IFLA_IPTUN_TOS => t.tos = u8_of(v)?,
        IFLA_IPTUN_PMTUDISC => t.pmtudisc = u8_of(v)? != 0,
        IFLA_IPTUN_FWMARK => t.fwmark = u32_of(v)?,
        IFLA_IPTUN_PROTO => match (t.kind, u8_of(v)?) {
            (_, p @ (0 | IPPROTO_IPIP)) | (Kind::Sit, p @ IPPROTO_IPV6) => t.proto = p,
            // ipip carries MPLS in Linux, and nothing else.
            _ => return Err(Errno::EINVAL.into()),
        },
        IFLA_IPTUN_FLAGS | IFLA_IPTUN_ENCAP_TYPE if off => {}
        IFLA_IPTUN_ENCAP_FLAGS | IFLA_IPTUN_ENCAP_SPORT | IFLA_IPTUN_ENCAP_DPORT => {}
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(())
}

#[doc(alias = "ip_tunnel_newlink")]
pub(crate) fn create(
    net: &mut Net,
    c_ns: NsId,
    (ns, name): (NsId, &str),
    (kind, link, mac): (Kind, Link, bool),
    data: &[u8],
) -> Done<DevId> {
    if link != Link::None {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut t = Tunnel {
        kind,
        ns: c_ns,
        lower: None,
        local: Ipv4Addr::UNSPECIFIED,
        remote: Ipv4Addr::UNSPECIFIED,
        ttl: 0,
        tos: 0,
        proto: if kind == Kind::Sit { IPPROTO_IPV6 } else { IPPROTO_IPIP },
        pmtudisc: true,
        ignore_df: false,
        iflags: 0,
        oflags: 0,
        ikey: 0,
        okey: 0,
        fwmark: 0,
        o_seqno: 0,
        i_seqno: 0,
        errors: (0, 0),
    };
    settings(net, c_ns, &mut t, data)?;
    let name = net.alloc_name(ns, name)?;
    Ok(net.add_tunnel((ns, &name), t, mac)?)
}

/// Other ends, another key; whether it comes first in a list is not kept.
#[doc(alias = "ip_tunnel_changelink")]
pub(crate) fn change(net: &mut Net, dev: DevId, data: &[u8]) -> Done {
    let before = tunnel::of(net, dev).copied().ok_or(Errno::EOPNOTSUPP)?;
    let here = net.devs.get(dev).map_or(before.ns, |d| d.ns);
    let mut t = before;
    settings(net, here, &mut t, data)?;
    if net.same_tunnel(&t, Some(dev)) {
        return Err(Errno::EEXIST.into());
    }
    // One between two ends does not become one between any.
    if t.kind != Kind::Gretap && t.remote.is_unspecified() != before.remote.is_unspecified() {
        return Err(Errno::EINVAL.into());
    }
    net.list_tunnel(dev, false);
    stacked::unlink(net, dev);
    if let Some(slot) = net.tunnel_mut(dev) {
        *slot = t;
    }
    if let Some(lower) = t.lower {
        stacked::link(net, dev, lower);
    }
    net.list_tunnel(dev, true);
    features::update(net, dev);
    let moved = (t.lower, t.fwmark, t.overhead()) != (before.lower, before.fwmark, before.overhead());
    if moved {
        let mtu = net.tunnel_mtu(&t);
        net.set_mtu(dev, mtu)?;
    }
    Ok(())
}

/// The largest MTU: what an IPv4 packet has room for.
pub(crate) fn most_mtu(net: &Net, dev: DevId) -> Option<u32> {
    Some(tunnel::IP_MAX_MTU.saturating_sub(tunnel::of(net, dev)?.overhead()))
}

#[doc(alias = "ipgre_fill_info")]
#[doc(alias = "ipip_fill_info")]
pub(crate) fn fill(net: &Net, t: &Tunnel, m: &mut Msg<'_>) {
    let link = index(net, t.lower);
    if is_gre(t.kind) {
        m.attr_u32(IFLA_GRE_LINK, link).attr(IFLA_GRE_IFLAGS, &t.iflags.to_be_bytes());
        m.attr(IFLA_GRE_OFLAGS, &t.oflags.to_be_bytes());
        m.attr(IFLA_GRE_IKEY, &t.ikey.to_be_bytes()).attr(IFLA_GRE_OKEY, &t.okey.to_be_bytes());
        m.attr(IFLA_GRE_LOCAL, &t.local.octets()).attr(IFLA_GRE_REMOTE, &t.remote.octets());
        m.attr_u8(IFLA_GRE_TTL, t.ttl).attr_u8(IFLA_GRE_TOS, t.tos);
        m.attr_u8(IFLA_GRE_PMTUDISC, t.pmtudisc.into()).attr_u32(IFLA_GRE_FWMARK, t.fwmark);
        for kind in [IFLA_GRE_ENCAP_TYPE, IFLA_GRE_ENCAP_SPORT, IFLA_GRE_ENCAP_DPORT, IFLA_GRE_ENCAP_FLAGS] {
            m.attr_u16(kind, 0);
        }
        m.attr_u8(IFLA_GRE_IGNORE_DF, t.ignore_df.into());
        return;
    }
    m.attr_u32(IFLA_IPTUN_LINK, link);
    m.attr(IFLA_IPTUN_LOCAL, &t.local.octets()).attr(IFLA_IPTUN_REMOTE, &t.remote.octets());
    m.attr_u8(IFLA_IPTUN_TTL, t.ttl).attr_u8(IFLA_IPTUN_TOS, t.tos).attr_u8(IFLA_IPTUN_PROTO, t.proto);
    m.attr_u8(IFLA_IPTUN_PMTUDISC, t.pmtudisc.into()).attr_u32(IFLA_IPTUN_FWMARK, t.fwmark);
    if t.kind == Kind::Sit {
        // 6to4's prefix, as long as no other is set.
        let mut prefix = [0; 16];
        prefix[..2].copy_from_slice(&[0x20, 2]);
        m.attr_u16(IFLA_IPTUN_FLAGS, 0).attr(IFLA_IPTUN_6RD_PREFIX, &prefix);
        m.attr_u32(IFLA_IPTUN_6RD_RELAY_PREFIX, 0).attr_u16(IFLA_IPTUN_6RD_PREFIXLEN, 16);
        m.attr_u16(IFLA_IPTUN_6RD_RELAY_PREFIXLEN, 0);
    }
    for kind in [IFLA_IPTUN_ENCAP_TYPE, IFLA_IPTUN_ENCAP_SPORT, IFLA_IPTUN_ENCAP_DPORT, IFLA_IPTUN_ENCAP_FLAGS] {
        m.attr_u16(kind, 0);
    }
}
