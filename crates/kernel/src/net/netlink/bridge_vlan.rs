//! What `bridge vlan` asks for: the VLANs of ports and of bridges (`IFLA_AF_SPEC` of family AF_BRIDGE).
use super::{Done, refuse};
use crate::drivers::bridge;
use crate::drivers::bridge_vlan::{self, VLAN_VID_MASK, VlanGroup};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;

/// `struct bridge_vlan_info`.
#[derive(Clone, Copy, Debug)]
struct Info {
    flags: u16,
    vid: u16,
}

impl Info {
    fn parse(v: &[u8]) -> Done<Info> {
        let [a, b, c, d] = *v.first_chunk().ok_or(Errno::EINVAL)?;
        Ok(Info { flags: u16::from_ne_bytes([a, b]), vid: u16::from_ne_bytes([c, d]) })
    }

    fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

fn put(m: &mut Msg<'_>, vid: u16, flags: u16) {
    m.attr(IFLA_BRIDGE_VLAN_INFO, &[flags.to_ne_bytes(), vid.to_ne_bytes()].concat());
}

/// The VLANs of a port, or of the bridge itself.
#[doc(alias = "br_fill_ifvlaninfo")]
pub(crate) fn fill(g: &VlanGroup, ranges: bool, m: &mut Msg<'_>) {
    let bits = |vid: u16, untagged: bool| {
        let pvid = if vid == g.pvid { BRIDGE_VLAN_INFO_PVID } else { 0 };
        pvid | if untagged { BRIDGE_VLAN_INFO_UNTAGGED } else { 0 }
    };
    let all: Vec<(u16, u16)> = g.vlans.iter().map(|(vid, untagged)| (*vid, bits(*vid, *untagged))).collect();
    if !ranges {
        all.iter().for_each(|(vid, flags)| put(m, *vid, *flags));
        return;
    }
    for run in all.chunk_by(|a, b| a.0 + 1 == b.0 && a.1 == b.1) {
        let (Some((first, flags)), Some((last, _))) = (run.first(), run.last()) else { continue };
        if first == last {
            put(m, *first, *flags);
        } else {
            put(m, *first, flags | BRIDGE_VLAN_INFO_RANGE_BEGIN);
            put(m, *last, flags | BRIDGE_VLAN_INFO_RANGE_END);
        }
    }
}

/// Which bridge and which of its ports a request is about: it says `master`, `self`, or nothing, which is `master`.
fn target(net: &Net, dev: DevId, flags: u16) -> Done<(DevId, Option<DevId>)> {
    let d = net.devs.get(dev).ok_or(Errno::ENODEV)?;
    match (d.master, &d.kind) {
        (Some(br), _) if flags == 0 || flags & BRIDGE_FLAGS_MASTER != 0 => Ok((br, Some(dev))),
        (_, DevKind::Bridge(_)) if flags & BRIDGE_FLAGS_SELF != 0 && flags & BRIDGE_FLAGS_MASTER == 0 => {
            Ok((dev, None))
        }
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// The flags of IFLA_AF_SPEC, which come in any place there.
pub(crate) fn spec_flags(spec: &[u8]) -> u16 {
    let flags = nl::attrs(spec).find(|(k, _)| *k == IFLA_BRIDGE_FLAGS);
    flags.and_then(|(_, v)| v.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b))
}

/// `bridge vlan add|del`: one VLAN, or a range whose ends stand in two attributes.
#[doc(alias = "br_afspec")]
pub(crate) fn change(net: &mut Net, dev: DevId, spec: &[u8], add: bool) -> Done {
    let (br, port) = target(net, dev, spec_flags(spec))?;
    let mut begin: Option<Info> = None;
    for (kind, v) in nl::attrs(spec) {
        match kind {
            IFLA_BRIDGE_FLAGS => {}
            IFLA_BRIDGE_VLAN_INFO => {
                let info = Info::parse(v)?;
                if info.vid == 0 || info.vid >= VLAN_VID_MASK {
                    return refuse(Errno::EINVAL, "Vlan id is invalid");
                }
                if info.has(BRIDGE_VLAN_INFO_RANGE_BEGIN) {
                    check_range(info, begin)?;
                    begin = Some(info);
                    continue;
                }
                if let Some(b) = begin {
                    check_range(info, Some(b))?;
                }
                let first = begin.take().map_or(info.vid, |b| b.vid);
                for vid in first..=info.vid {
                    one(net, (br, port), Info { vid, ..info }, add);
                }
            }
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(())
}

#[doc(alias = "br_vlan_valid_range")]
fn check_range(info: Info, begin: Option<Info>) -> Done {
    if info.has(BRIDGE_VLAN_INFO_PVID) {
        return refuse(Errno::EINVAL, "Pvid isn't allowed in a range");
    }
    match begin {
        Some(b) if info.has(BRIDGE_VLAN_INFO_RANGE_BEGIN) || info.vid <= b.vid => {
            refuse(Errno::EINVAL, "End vlan id is less than or equal to start vlan id")
        }
        Some(_) if !info.has(BRIDGE_VLAN_INFO_RANGE_END) => refuse(Errno::EINVAL, "Vlan range end flag is missing"),
        _ => Ok(()),
    }
}

fn one(net: &mut Net, (br, port): (DevId, Option<DevId>), info: Info, add: bool) {
    if add {
        let how = (info.has(BRIDGE_VLAN_INFO_PVID), info.has(BRIDGE_VLAN_INFO_UNTAGGED));
        bridge_vlan::add(net, br, port, info.vid, how);
    } else {
        // One that is not there is no mistake.
        let _ = bridge_vlan::del(net, br, port, info.vid);
    }
}

/// The list of a device: as a port, or as a bridge.
pub(crate) fn group(net: &Net, dev: DevId) -> Option<&VlanGroup> {
    let d = net.devs.get(dev)?;
    match (&d.kind, d.master) {
        (DevKind::Bridge(b), _) => Some(&b.vlans.own),
        (_, Some(br)) => bridge::of(net, br)?.vlans.group(Some(dev)),
        _ => None,
    }
}
