//! What netlink says of a VLAN (`IFLA_INFO_DATA` of kind vlan).
use super::{Done, refuse, u32_of};
use crate::drivers::vlan::{VLAN_FLAG_LOOSE_BINDING, VLAN_FLAG_REORDER_HDR, Vlan};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;
use belljar_wire::ethernet::{ETH_P_8021Q, is_vlan};

fn be16(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL.into())
}

fn u16_of(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_ne_bytes(*b)).ok_or(Errno::EINVAL.into())
}

/// Protocol and number of a new one.
#[doc(alias = "vlan_validate")]
fn validate(data: &[u8]) -> Done<(u16, Option<u16>)> {
    let (mut proto, mut vid) = (ETH_P_8021Q, None);
    if data.is_empty() {
        return refuse(Errno::EINVAL, "VLAN properties not specified");
    }
    for (kind, v) in nl::attrs(data) {
        match kind {
            IFLA_VLAN_PROTOCOL => match be16(v)? {
                p if is_vlan(p) => proto = p,
                _ => return refuse(Errno::EPROTONOSUPPORT, "Invalid VLAN protocol"),
            },
            IFLA_VLAN_ID => match u16_of(v)? {
                0xfff.. => return refuse(Errno::ERANGE, "Invalid VLAN id"),
                id => vid = Some(id),
            },
            IFLA_VLAN_FLAGS => {
                flags(v)?;
            }
            IFLA_VLAN_INGRESS_QOS => mappings(v, "Invalid ingress QOS map").map(|_| ())?,
            IFLA_VLAN_EGRESS_QOS => mappings(v, "Invalid egress QOS map").map(|_| ())?,
            _ => {}
        }
    }
    Ok((proto, vid))
}

/// Flags and which of them count. Registration protocols and a bridge's ports are not followed here.
fn flags(v: &[u8]) -> Done<(u32, u32)> {
    let (flags, mask) = (u32_of(v)?, u32_of(v.get(4..).unwrap_or(&[]))?);
    match flags & mask & !(VLAN_FLAG_REORDER_HDR | VLAN_FLAG_LOOSE_BINDING) {
        0 => Ok((flags, mask)),
        _ => refuse(Errno::EINVAL, "Invalid VLAN flags"),
    }
}

fn mappings(v: &[u8], why: &'static str) -> Done<Vec<(u32, u32)>> {
    let one = |(_, v): (u16, &[u8])| Some((nl::u32_at(v, 0)?, nl::u32_at(v, 4)?));
    let all: Option<Vec<_>> = nl::attrs(v).filter(|(k, _)| *k == IFLA_VLAN_QOS_MAPPING).map(one).collect();
    all.map_or_else(|| refuse(Errno::EINVAL, why), Ok)
}

/// A VLAN on the device with number `link`.
#[doc(alias = "vlan_newlink")]
pub(crate) fn create(
    net: &mut Net,
    (ns, name): (NsId, &str),
    link: Link,
    mtu: Option<u32>,
    data: &[u8],
) -> Done<DevId> {
    let (proto, vid) = validate(data)?;
    let Some(vid) = vid else { return refuse(Errno::EINVAL, "VLAN id not specified") };
    let lower = match link {
        Link::None => return refuse(Errno::EINVAL, "link not specified"),
        Link::Gone => return refuse(Errno::ENODEV, "link does not exist"),
        Link::Dev(dev) => dev,
    };
    if net.devs.get(lower).is_some_and(|l| mtu.is_some_and(|m| m > l.mtu)) {
        return Err(Errno::EINVAL.into());
    }
    let name = net.alloc_name(ns, name)?;
    let dev = match net.add_vlan((ns, &name), lower, (proto, vid)) {
        Err(Errno::EOPNOTSUPP) => return refuse(Errno::EOPNOTSUPP, "VLANs not supported on device"),
        Err(Errno::EEXIST) if net.dev_by_name(ns, &name).is_none() => {
            return refuse(Errno::EEXIST, "VLAN device already exists");
        }
        done => done?,
    };
    change(net, dev, data).inspect_err(|_| net.unregister_netdev(dev))?;
    Ok(dev)
}

/// The device that a new one is to stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    Gone,
    Dev(DevId),
}

/// Flags and priorities; protocol and number stay what they are, whatever is said of them.
#[doc(alias = "vlan_changelink")]
pub(crate) fn change(net: &mut Net, dev: DevId, data: &[u8]) -> Done {
    validate(data)?;
    for (kind, value) in nl::attrs(data) {
        let Some(v) = net.vlan_mut(dev) else { return Err(Errno::EOPNOTSUPP.into()) };
        match kind {
            IFLA_VLAN_FLAGS => {
                let (flags, mask) = flags(value)?;
                v.flags = v.flags & !mask | flags & mask;
            }
            IFLA_VLAN_INGRESS_QOS => {
                for (from, to) in mappings(value, "Invalid ingress QOS map")? {
                    v.ingress[from as usize & 7] = to;
                }
            }
            IFLA_VLAN_EGRESS_QOS => {
                for (from, to) in mappings(value, "Invalid egress QOS map")? {
                    v.map_egress(from, to as u8)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[doc(alias = "vlan_fill_info")]
pub(crate) fn fill(v: &Vlan, m: &mut Msg<'_>) {
    m.attr(IFLA_VLAN_PROTOCOL, &v.proto.to_be_bytes()).attr_u16(IFLA_VLAN_ID, v.vid);
    if v.flags != 0 {
        let words = [v.flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat();
        m.attr(IFLA_VLAN_FLAGS, &words);
    }
    let ingress = v.ingress.iter().enumerate().map(|(from, to)| (from as u32, *to));
    let egress = v.egress.iter().map(|(from, to)| (*from, u32::from(*to)));
    let maps = [(IFLA_VLAN_INGRESS_QOS, ingress.collect::<Vec<_>>()), (IFLA_VLAN_EGRESS_QOS, egress.collect())];
    for (kind, map) in maps {
        if !map.iter().any(|m| m.1 != 0) {
            continue;
        }
        m.nest(kind, |m| {
            for (from, to) in map.iter().filter(|m| m.1 != 0) {
                m.attr(IFLA_VLAN_QOS_MAPPING, &[from.to_ne_bytes(), to.to_ne_bytes()].concat());
            }
        });
    }
}
