//! What netlink says of a macvlan (`IFLA_INFO_DATA` of kind macvlan).
use super::vlan::Link;
use super::{Done, u32_of};
use crate::drivers::macvlan::{self, BRIDGE, FLAG_NOPROMISC, Macvlan, PASSTHRU, PRIVATE, VEPA};
use crate::ids::{DevId, NsId};
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;

/// Broadcasts that Linux lets wait for each device below, where nobody says otherwise.
const BC_QUEUE_LEN: u32 = 1000;

/// Mode and flags, where they are said.
#[doc(alias = "macvlan_validate")]
fn validate(data: &[u8]) -> Done<(Option<u32>, Option<u16>)> {
    let (mut mode, mut flags) = (None, None);
    for (kind, v) in nl::attrs(data) {
        match kind {
            IFLA_MACVLAN_MODE => match u32_of(v)? {
                m @ (PRIVATE | VEPA | BRIDGE | PASSTHRU) => mode = Some(m),
                IFLA_MACVLAN_MODE_SOURCE => return Err(Errno::EOPNOTSUPP.into()),
                _ => return Err(Errno::EINVAL.into()),
            },
            IFLA_MACVLAN_FLAGS => match v.first_chunk().map(|b| u16::from_ne_bytes(*b)) {
                Some(f) if f & !FLAG_NOPROMISC == 0 => flags = Some(f),
                _ => return Err(Errno::EINVAL.into()),
            },
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok((mode, flags))
}

#[doc(alias = "macvlan_common_newlink")]
pub(crate) fn create(
    net: &mut Net,
    (ns, name): (NsId, &str),
    link: Link,
    mtu: Option<u32>,
    data: &[u8],
) -> Done<DevId> {
    let (mode, flags) = validate(data)?;
    let on = match link {
        Link::None => return Err(Errno::EINVAL.into()),
        Link::Gone => return Err(Errno::ENODEV.into()),
        Link::Dev(dev) => dev,
    };
    if net.devs.get(on).is_some_and(|l| mtu.is_some_and(|m| m > l.mtu)) {
        return Err(Errno::EINVAL.into());
    }
    let name = net.alloc_name(ns, name)?;
    let dev = net.add_macvlan((ns, &name), on, mode.unwrap_or(VEPA))?;
    if let Some(m) = net.macvlan_mut(dev) {
        m.flags = flags.unwrap_or(0);
    }
    Ok(dev)
}

/// Into passthru and out of it there is no way.
#[doc(alias = "macvlan_changelink")]
pub(crate) fn change(net: &mut Net, dev: DevId, data: &[u8]) -> Done {
    let (mode, flags) = validate(data)?;
    let m = net.macvlan_mut(dev).ok_or(Errno::EOPNOTSUPP)?;
    if mode.is_some_and(|new| (new == PASSTHRU) != (m.mode == PASSTHRU)) {
        return Err(Errno::EINVAL.into());
    }
    (m.mode, m.flags) = (mode.unwrap_or(m.mode), flags.unwrap_or(m.flags));
    let up = net.devs.get(dev).is_some_and(|d| d.up);
    macvlan::set_promisc(net, dev, up);
    Ok(())
}

#[doc(alias = "macvlan_fill_info")]
pub(crate) fn fill(m: &Macvlan, out: &mut Msg<'_>) {
    out.attr_u32(IFLA_MACVLAN_MODE, m.mode).attr_u16(IFLA_MACVLAN_FLAGS, m.flags);
    out.attr_u32(IFLA_MACVLAN_BC_QUEUE_LEN, BC_QUEUE_LEN).attr_u32(IFLA_MACVLAN_BC_QUEUE_LEN_USED, BC_QUEUE_LEN);
}
