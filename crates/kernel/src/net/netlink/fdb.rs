//! What `bridge link` and `bridge fdb` ask for: ports and the table of hardware addresses (family AF_BRIDGE).
use super::{Caller, Done, Dump, Head, Req, bridge_vlan, device, fdb_own, index, notify, refuse, vxlan};
use crate::drivers::bridge;
use crate::drivers::bridge_fdb::{self, FdbEntry, FdbKey, FdbKind};
use crate::drivers::bridge_vlan::VLAN_VID_MASK;
use crate::drivers::vxlan as vxlan_dev;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::ipv4::output::multicast_mac;
use crate::net::ipv6;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL};
use belljar_abi::rtnetlink::*;
use belljar_abi::{self as abi, Errno};
use belljar_wire::Mac;
use belljar_wire::ipv6::ALL_NODES;

/// The ports of all bridges; with their VLANs, if asked for those, and the bridges' own.
#[doc(alias = "rtnl_bridge_getlink")]
pub(crate) fn dump_ports(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let mask = r.attr(IfInfoMsg::LEN, IFLA_EXT_MASK).and_then(|v| nl::u32_at(v, 0)).unwrap_or(0);
    for dev in net.ns_devs(c.ns) {
        let is_bridge = bridge::of(net, dev).is_some();
        if bridge::port(net, dev).is_some() {
            let h = Head::dump(RTM_NEWLINK, d);
            fill_port(net, dev, false, mask, d.room(), h);
        }
        if is_bridge && mask & (RTEXT_FILTER_BRVLAN | RTEXT_FILTER_BRVLAN_COMPRESSED) != 0 {
            let h = Head::dump(RTM_NEWLINK, d);
            fill_port(net, dev, true, mask, d.room(), h);
        }
    }
}

/// A port, or a bridge as a port of its machine.
#[doc(alias = "br_fill_ifinfo")]
fn fill_port(net: &Net, dev: DevId, as_bridge: bool, mask: u32, out: &mut Vec<u8>, h: Head) {
    let Some(n) = net.devs.get(dev) else { return };
    let info = IfInfoMsg {
        family: abi::AF_BRIDGE as u8,
        kind: abi::ARPHRD_ETHER,
        index: n.ifindex as i32,
        flags: n.flags(),
        change: 0,
    };
    let master = if as_bridge { Some(dev) } else { n.master };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&info.to_bytes()).attr_str(IFLA_IFNAME, &n.name).attr_u32(IFLA_MASTER, index(net, master));
    m.attr_u32(IFLA_MTU, n.mtu).attr_u8(IFLA_OPERSTATE, net.operstate(n)).attr(IFLA_ADDRESS, &n.mac.0);
    if let Some(l) = n.iflink().and_then(|l| net.devs.get(l)) {
        m.attr_u32(IFLA_LINK, l.ifindex);
    }
    if let Some(p) = bridge::port(net, dev).filter(|_| !as_bridge) {
        m.nest(IFLA_PROTINFO | NLA_F_NESTED, |m| super::bridge::port_attrs(net, p, m));
    }
    let ranges = mask & RTEXT_FILTER_BRVLAN_COMPRESSED != 0;
    if (ranges || mask & RTEXT_FILTER_BRVLAN != 0)
        && let Some(g) = bridge_vlan::group(net, dev).filter(|g| !g.vlans.is_empty())
    {
        m.nest(IFLA_AF_SPEC, |m| bridge_vlan::fill(g, ranges, m));
    }
}

/// The device of a request, its settings as a port and what is said of VLANs.
type PortRequest<'a> = (DevId, Option<&'a [u8]>, Option<&'a [u8]>);

/// What a request of family AF_BRIDGE says of a port or of a bridge.
fn port_request<'a>(net: &Net, c: &Caller<'_>, r: Req<'a>) -> Done<PortRequest<'a>> {
    let info = IfInfoMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let dev = device(net, c, info.index as u32)?;
    let (mut port, mut spec) = (None, None);
    for (kind, v) in r.attrs(IfInfoMsg::LEN) {
        match kind {
            IFLA_PROTINFO => port = Some(v),
            IFLA_AF_SPEC => spec = Some(v),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok((dev, port, spec))
}

/// `bridge link set dev PORT …`, `bridge vlan add …`.
#[doc(alias = "br_setlink")]
pub(crate) fn set_port(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let (dev, settings, spec) = port_request(net, c, r)?;
    if let Some(spec) = spec {
        bridge_vlan::change(net, dev, spec, true)?;
    }
    if let Some(v) = settings {
        super::bridge::change_port(net, dev, v)?;
    }
    if spec.is_none() && settings.is_none() && bridge::port(net, dev).is_none() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    notify::link(net, RTM_NEWLINK, dev);
    Ok(())
}

/// `bridge vlan del …`.
#[doc(alias = "br_dellink")]
pub(crate) fn del_port(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let (dev, _, spec) = port_request(net, c, r)?;
    match spec {
        Some(spec) => bridge_vlan::change(net, dev, spec, false),
        None => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// One entry of a bridge's table.
#[doc(alias = "fdb_fill_info")]
pub(crate) fn fill(net: &Net, br: DevId, (mac, vid): FdbKey, e: &FdbEntry, out: &mut Vec<u8>, h: Head) {
    let state = match e.kind {
        FdbKind::Local => NUD_PERMANENT,
        FdbKind::Static => NUD_NOARP,
        FdbKind::Learned => NUD_REACHABLE,
    };
    let at = e.port.unwrap_or(br);
    let msg =
        NdMsg { family: abi::AF_BRIDGE as u8, ifindex: index(net, Some(at)) as i32, state, flags: e.flags, kind: 0 };
    let now = net.env.jiffies();
    let ago = |at: u32| now.wrapping_sub(at) as u64 * 100 / u64::from(net.env.hz.max(1));
    let info: Vec<u8> = [0, ago(e.used), ago(e.updated), 0].iter().flat_map(|v| (*v as u32).to_ne_bytes()).collect();
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&msg.to_bytes()).attr(NDA_LLADDR, &mac.0).attr_u32(NDA_MASTER, index(net, Some(br)));
    m.attr(NDA_CACHEINFO, &info);
    if vid != 0 {
        m.attr_u16(NDA_VLAN, vid);
    }
}

/// Device by device: what its bridge knows of it, then the groups that the device itself takes; of a bridge the other way
/// round.
#[doc(alias = "rtnl_fdb_dump")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    // `struct ndmsg`, or the `struct ifinfomsg` of older programs, both with the device's number in the same place.
    let only = NdMsg::parse(r.body).map(|m| m.ifindex).filter(|i| *i > 0);
    let fixed = if r.body.len() >= IfInfoMsg::LEN && r.attr(NdMsg::LEN, NDA_MASTER).is_none() {
        IfInfoMsg::LEN
    } else {
        NdMsg::LEN
    };
    let master_kind = if fixed == NdMsg::LEN { NDA_MASTER } else { IFLA_MASTER };
    let of_bridge = r.attr(fixed, master_kind).and_then(|v| nl::u32_at(v, 0)).filter(|i| *i > 0);
    for dev in net.ns_devs(c.ns) {
        let Some(n) = net.devs.get(dev) else { continue };
        let is_bridge = matches!(n.kind, DevKind::Bridge(_));
        let br = if is_bridge { Some(dev) } else { n.master };
        if only.is_some_and(|i| i as u32 != n.ifindex) || of_bridge.is_some_and(|i| index(net, br) != i) {
            continue;
        }
        let known = |d: &mut Dump| {
            let Some(br) = br else { return };
            let port = (!is_bridge).then_some(dev);
            let mut all: Vec<_> = bridge_fdb::entries(net, br).filter(|(_, e)| e.port == port).collect();
            // What came last stands first.
            all.sort_by_key(|(_, e)| std::cmp::Reverse(e.made));
            for (key, e) in all {
                let h = Head::dump(RTM_NEWNEIGH, d);
                fill(net, br, key, &e, d.room(), h);
            }
        };
        if !is_bridge {
            known(d);
        }
        for (mac, e) in vxlan_dev::entries(net, dev) {
            for to in &e.remotes {
                let h = Head::dump(RTM_NEWNEIGH, d);
                vxlan::fill_fdb(net, dev, mac, e, to, d.room(), h);
            }
        }
        let own: Vec<Mac> = match vxlan_dev::of(net, dev) {
            Some(_) => Vec::new(),
            None => n.uc.iter().copied().chain(net.mc_addresses(dev)).collect(),
        };
        for mac in own {
            let h = Head::dump(RTM_NEWNEIGH, d);
            let family = abi::AF_BRIDGE as u8;
            let msg = NdMsg { family, ifindex: n.ifindex as i32, state: NUD_PERMANENT, flags: NTF_SELF, kind: 0 };
            let mut m = Msg::new(d.room(), h.kind, h.flags, h.seq, h.port);
            m.body(&msg.to_bytes()).attr(NDA_LLADDR, &mac.0);
        }
        if is_bridge {
            known(d);
        }
    }
}

impl Net {
    /// Group addresses that a device takes.
    pub(crate) fn mc_addresses(&self, dev: DevId) -> Vec<Mac> {
        let Some(d) = self.devs.get(dev) else { return Vec::new() };
        let four = d.mc.groups.iter().map(|g| multicast_mac(g.addr));
        let mut six: Vec<_> = d.inet6.groups.iter().filter(|g| !g.left).map(|g| g.addr).collect();
        // All nodes are a group before the device has an address.
        six.sort_by_key(|g| *g != ALL_NODES);
        let first = usize::from(six.first() == Some(&ALL_NODES));
        let six: Vec<Mac> = six.into_iter().map(ipv6::output::multicast_mac).collect();
        let (first, rest) = six.split_at(first);
        let own = d.packet_groups.iter().map(|g| Mac(*g));
        let all = first.iter().copied().chain(four).chain(rest.iter().copied()).chain(own);
        let mut seen = Vec::new();
        for mac in all {
            if !seen.contains(&mac) {
                seen.push(mac);
            }
        }
        seen
    }
}

/// What a request is about: a device, its bridge, an address, a VLAN or none.
struct Entry {
    dev: DevId,
    br: DevId,
    mac: Mac,
    vid: u16,
    msg: NdMsg,
}

impl Entry {
    /// `None`: the bridge itself.
    fn port(&self) -> Option<DevId> {
        (self.dev != self.br).then_some(self.dev)
    }

    /// Who names no VLAN means none and all that the port has.
    fn keys(&self, net: &Net) -> Vec<FdbKey> {
        let all = bridge_vlan::group(net, self.dev).filter(|_| self.vid == 0);
        let more = all.into_iter().flat_map(|g| g.vlans.keys().copied());
        std::iter::once(self.vid).chain(more).map(|vid| (self.mac, vid)).collect()
    }
}

fn entry(net: &Net, c: &Caller<'_>, r: Req<'_>) -> Done<Entry> {
    let msg = NdMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if msg.ifindex <= 0 {
        return refuse(Errno::EINVAL, "invalid ifindex");
    }
    let dev = device(net, c, msg.ifindex as u32)?;
    let (mut mac, mut vid) = (None, 0);
    for (kind, v) in r.attrs(NdMsg::LEN) {
        match kind {
            NDA_LLADDR => mac = v.first_chunk().map(|m| Mac(*m)),
            NDA_CACHEINFO => {}
            NDA_VLAN => match v.first_chunk().map(|b| u16::from_ne_bytes(*b)) {
                Some(id) if id != 0 && id < VLAN_VID_MASK => vid = id,
                _ => return refuse(Errno::EINVAL, "invalid vlan id"),
            },
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    let Some(mac) = mac.filter(|m| !m.is_zero()) else { return refuse(Errno::EINVAL, "invalid address") };
    let d = net.devs.get(dev).ok_or(Errno::ENODEV)?;
    let master = d.master.filter(|_| msg.flags & NTF_MASTER != 0);
    let own = Some(dev).filter(|_| msg.flags & NTF_SELF != 0);
    let br = if matches!(d.kind, DevKind::Bridge(_)) { own } else { master };
    let br = br.ok_or(Errno::EOPNOTSUPP)?;
    if vid != 0 && bridge_vlan::group(net, dev).is_none_or(|g| !g.vlans.contains_key(&vid)) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Entry { dev, br, mac, vid, msg })
}

#[doc(alias = "rtnl_fdb_add")]
pub(crate) fn new(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    if let Some((dev, mac)) = fdb_own::asked(net, c, r) {
        return fdb_own::add(net, r, dev, mac);
    }
    let want = entry(net, c, r)?;
    let has = |bit| want.msg.state & bit != 0;
    let kind = match () {
        () if has(NUD_PERMANENT) => FdbKind::Local,
        () if has(NUD_NOARP) => FdbKind::Static,
        () if has(NUD_REACHABLE) => FdbKind::Learned,
        () => return refuse(Errno::EINVAL, "RTM_NEWNEIGH with invalid state"),
    };
    let flags = want.msg.flags;
    for key in want.keys(net) {
        match () {
            () if flags & NTF_USE != 0 => use_entry(net, &want, key)?,
            () if flags & NTF_EXT_LEARNED != 0 => learned_elsewhere(net, &want, kind, key)?,
            () => add_entry(net, r, &want, kind, key)?,
        }
    }
    Ok(())
}

/// As if a frame had come from the address.
#[doc(alias = "br_fdb_update")]
fn use_entry(net: &mut Net, want: &Entry, key: FdbKey) -> Done {
    let port = want.port().ok_or(Errno::EINVAL)?;
    if bridge::learns(net, port) {
        bridge_fdb::learn(net, want.br, port, key);
    }
    Ok(())
}

/// Whoever says so will say it again: it has no age.
#[doc(alias = "br_fdb_external_learn_add")]
fn learned_elsewhere(net: &mut Net, want: &Entry, kind: FdbKind, key: FdbKey) -> Done {
    let port = want.port();
    if port.is_none() && kind != FdbKind::Local {
        return refuse(Errno::EINVAL, "bridge: FDB entry towards bridge must be permanent");
    }
    let (now, old) = (net.env.jiffies(), bridge_fdb::entry(net, want.br, key));
    let made = if port.is_none() { FdbKind::Local } else { FdbKind::Learned };
    let flags = old.map_or(0, |e| e.flags) | NTF_EXT_LEARNED;
    let e = FdbEntry { port, kind: old.map_or(made, |e| e.kind), updated: now, used: now, made: 0, flags };
    bridge_fdb::insert(net, want.br, key, e);
    Ok(())
}

#[doc(alias = "fdb_add_entry")]
fn add_entry(net: &mut Net, r: Req<'_>, want: &Entry, kind: FdbKind, key: FdbKey) -> Done {
    let (sticky, port) = (want.msg.flags & NTF_STICKY, want.port());
    if kind != FdbKind::Local && port.is_none() || kind == FdbKind::Local && sticky != 0 {
        return Err(Errno::EINVAL.into());
    }
    let old = bridge_fdb::entry(net, want.br, key);
    match old {
        Some(_) if r.flag(NLM_F_EXCL) => return Err(Errno::EEXIST.into()),
        None if !r.flag(NLM_F_CREATE) => return Err(Errno::ENOENT.into()),
        _ => {}
    }
    let (now, flags) = (net.env.jiffies(), old.map_or(0, |e| e.flags & !NTF_STICKY) | sticky);
    bridge_fdb::insert(net, want.br, key, FdbEntry { port, kind, updated: now, used: now, made: 0, flags });
    Ok(())
}

#[doc(alias = "rtnl_fdb_del")]
pub(crate) fn del(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    if let Some((dev, mac)) = fdb_own::asked(net, c, r) {
        return fdb_own::del(net, dev, mac);
    }
    let want = entry(net, c, r)?;
    let (keys, port) = (want.keys(net), want.port());
    match bridge_fdb::forget(net, want.br, |key, e| keys.contains(key) && e.port == port) {
        0 => Err(Errno::ENOENT.into()),
        _ => Ok(()),
    }
}
