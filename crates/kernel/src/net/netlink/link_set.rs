//! Devices made, changed and removed by netlink: RTM_NEWLINK, RTM_SETLINK, RTM_DELLINK.
use super::vlan::{self, Link};
use super::{Caller, Done, NetnsRef, Req, bridge, macvlan, notify, refuse, str_of, tunnel, u32_of, vxlan};
use crate::drivers::veth::Veth;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::DevKind;
use crate::net::netlink::link::{asked_ns, named};
use belljar_abi::netlink::{self as nl, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET6, Errno};
use belljar_wire::Mac;

/// What a request says of a device.
#[derive(Debug, Default)]
struct Spec<'a> {
    info: IfInfoMsg,
    name: Option<&'a str>,
    mac: Option<Mac>,
    mtu: Option<u32>,
    txqlen: Option<u32>,
    group: Option<u32>,
    alias: Option<&'a [u8]>,
    master: Option<u32>,
    link: Option<u32>,
    carrier: Option<u8>,
    netns: Option<NetnsRef>,
    promiscuity: Option<u32>,
    kind: Option<&'a str>,
    data: &'a [u8],
    slave_data: Option<&'a [u8]>,
    gen_mode: Option<u8>,
}

/// Attributes of a device behind its fixed part. What cannot be done here is refused.
fn parse<'a>(info: IfInfoMsg, attrs: impl Iterator<Item = (u16, &'a [u8])>) -> Done<Spec<'a>> {
    let mut s = Spec { info, ..Spec::default() };
    for (kind, v) in attrs {
        match kind {
            IFLA_IFNAME => s.name = Some(str_of(v)?),
            IFLA_ADDRESS => s.mac = Some(Mac(*v.first_chunk().ok_or(Errno::EINVAL)?)),
            IFLA_MTU => s.mtu = Some(u32_of(v)?),
            IFLA_TXQLEN => s.txqlen = Some(u32_of(v)?),
            IFLA_GROUP => s.group = Some(u32_of(v)?),
            IFLA_IFALIAS => s.alias = Some(v),
            IFLA_MASTER => s.master = Some(u32_of(v)?),
            IFLA_LINK => s.link = Some(u32_of(v)?),
            IFLA_CARRIER => s.carrier = v.first().copied(),
            IFLA_NET_NS_FD => s.netns = Some(NetnsRef::Fd(u32_of(v)? as i32)),
            IFLA_NET_NS_PID => s.netns = Some(NetnsRef::Pid(u32_of(v)?)),
            IFLA_PROMISCUITY => s.promiscuity = Some(u32_of(v)?),
            IFLA_LINKINFO => {
                for (kind, v) in nl::attrs(v) {
                    match kind {
                        IFLA_INFO_KIND => s.kind = Some(str_of(v)?),
                        IFLA_INFO_DATA => s.data = v,
                        // It is the master's.
                        IFLA_INFO_SLAVE_KIND => {}
                        IFLA_INFO_SLAVE_DATA => s.slave_data = Some(v),
                        _ => return Err(Errno::EOPNOTSUPP.into()),
                    }
                }
            }
            IFLA_AF_SPEC => s.gen_mode = af_spec(v)?,
            // Says what to leave out of answers.
            IFLA_EXT_MASK => {}
            // One queue each way is what there is.
            IFLA_NUM_TX_QUEUES | IFLA_NUM_RX_QUEUES if u32_of(v)? == 1 => {}
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(s)
}

/// Of the families' own settings how identifiers of IPv6 are made.
#[doc(alias = "inet6_set_link_af")]
fn af_spec(v: &[u8]) -> Done<Option<u8>> {
    let mut mode = None;
    for (family, v) in nl::attrs(v) {
        if i32::from(family) != AF_INET6 {
            return Err(Errno::EAFNOSUPPORT.into());
        }
        for (kind, v) in nl::attrs(v) {
            if kind != IFLA_INET6_ADDR_GEN_MODE {
                return Err(Errno::EOPNOTSUPP.into());
            }
            mode = v.first().copied();
        }
    }
    Ok(mode)
}

fn parse_req<'a>(r: Req<'a>) -> Done<Spec<'a>> {
    let info = IfInfoMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    parse(info, r.attrs(IfInfoMsg::LEN))
}

/// The namespaces beside the caller's that requests of NETLINK_ROUTE name, for who has to find them before.
pub fn netns_refs(requests: &[u8]) -> Vec<NetnsRef> {
    let mut out = Vec::new();
    for (h, body) in nl::messages(requests) {
        match h.kind {
            RTM_NEWLINK | RTM_SETLINK => {
                // What cannot be read is refused later.
                let Some(Ok(s)) = IfInfoMsg::parse(body).map(|info| parse_behind(info, body)) else { continue };
                out.extend(s.netns);
                out.extend(peer_of(&s).ok().and_then(|peer| peer.netns));
            }
            RTM_GETNSID => out.extend(asked_ns(body)),
            _ => {}
        }
    }
    out
}

/// The namespace that a device is to be in.
fn target_ns(c: &Caller<'_>, s: &Spec<'_>) -> Done<Option<NsId>> {
    match s.netns {
        None => Ok(None),
        Some(by) => c.meant(by).map(Some).ok_or(Errno::EINVAL.into()),
    }
}

/// A new device, or a change of one that is there.
#[doc(alias = "__rtnl_newlink")]
pub(crate) fn newlink(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse_req(r)?;
    if let Some(dev) = named(net, c.ns, r)? {
        if r.flag(NLM_F_EXCL) {
            return Err(Errno::EEXIST.into());
        }
        if r.flag(NLM_F_REPLACE) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if let Some(v) = s.slave_data {
            bridge::change_port(net, dev, v)?;
        }
        if let Some(kind) = s.kind.filter(|_| !s.data.is_empty()) {
            if net.devs.get(dev).and_then(|d| d.info_kind()) != Some(kind) {
                return Err(Errno::EOPNOTSUPP.into());
            }
            change_kind(net, dev, kind, s.data)?;
        }
        return apply(net, c, dev, &s);
    }
    if !r.flag(NLM_F_CREATE) {
        return match s.group {
            Some(group) if s.info.index == 0 && s.name.is_none() => change_group(net, c, group, &s),
            _ => Err(Errno::ENODEV.into()),
        };
    }
    let Some(kind) = s.kind else { return refuse(Errno::EOPNOTSUPP, "Unknown device type") };
    create(net, c, kind, &s)
}

fn of_group(net: &Net, ns: NsId, group: u32) -> Vec<DevId> {
    net.ns_devs(ns).filter(|d| net.devs.get(*d).is_some_and(|d| d.group == group)).collect()
}

/// `ip link set group N …`: the same for each of them.
#[doc(alias = "rtnl_group_changelink")]
fn change_group(net: &mut Net, c: &Caller<'_>, group: u32, s: &Spec<'_>) -> Done {
    of_group(net, c.ns, group).into_iter().try_for_each(|dev| apply(net, c, dev, s))
}

/// `ip link del group N`: all or none. Those without a group are not one.
#[doc(alias = "rtnl_group_dellink")]
fn del_group(net: &mut Net, ns: NsId, group: u32) -> Done {
    let devs = of_group(net, ns, group);
    match () {
        () if group == 0 => return Err(Errno::EPERM.into()),
        () if devs.is_empty() => return Err(Errno::ENODEV.into()),
        () if devs.iter().any(|d| !removable(net, *d)) => return Err(Errno::EOPNOTSUPP.into()),
        () => {}
    }
    // With the one end of a pair goes the other.
    devs.into_iter().for_each(|d| {
        if net.devs.get(d).is_some() {
            net.unregister_netdev(d)
        }
    });
    Ok(())
}

/// What hardware or a program's file is behind does not go by a word.
fn removable(net: &Net, dev: DevId) -> bool {
    match net.devs.get(dev).map(|d| &d.kind) {
        Some(DevKind::Tun(t)) => t.persist,
        Some(DevKind::Loopback | DevKind::Nic(_)) | None => false,
        Some(_) => true,
    }
}

fn create(net: &mut Net, c: &Caller<'_>, kind: &str, s: &Spec<'_>) -> Done {
    if s.promiscuity.is_some() {
        return refuse(Errno::EINVAL, "IFLA_PROMISCUITY is a read-only attribute");
    }
    let ns = target_ns(c, s)?.unwrap_or(c.ns);
    let template = match (s.name, kind) {
        (Some(name), _) => name.to_owned(),
        (None, "ipip") => "tunl%d".to_owned(),
        (None, _) => format!("{kind}%d"),
    };
    let link = match s.link {
        None => Link::None,
        Some(index) => net.dev_by_index(c.ns, index).map_or(Link::Gone, Link::Dev),
    };
    if link != Link::None && matches!(kind, "dummy" | "ifb" | "bridge" | "veth") {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let dev = match kind {
        "dummy" => {
            let name = net.alloc_name(ns, &template)?;
            net.add_dummy(ns, &name)?
        }
        "ifb" => {
            let name = net.alloc_name(ns, &template)?;
            net.add_ifb(ns, &name)?
        }
        "bridge" => {
            let name = net.alloc_name(ns, &template)?;
            net.add_bridge(ns, &name)?
        }
        "veth" => veth(net, c, (ns, &template), s)?,
        "macvlan" => macvlan::create(net, (ns, &template), link, s.mtu, s.data)?,
        "vxlan" => vxlan::create(net, c.ns, (ns, &template), link, s.data)?,
        "vlan" => vlan::create(net, (ns, &template), link, s.mtu, s.data)?,
        _ => match tunnel::kind_of(kind) {
            Some(kind) => tunnel::create(net, c.ns, (ns, &template), (kind, link, s.mac.is_some()), s.data)?,
            None => return refuse(Errno::EOPNOTSUPP, "Unknown device type"),
        },
    };
    let done = finish(net, c, dev, ns, kind, s);
    if done.is_err() {
        net.unregister_netdev(dev);
    }
    done
}

/// Number, address and the rest of a device that was just made.
fn finish(net: &mut Net, c: &Caller<'_>, dev: DevId, ns: NsId, kind: &str, s: &Spec<'_>) -> Done {
    if let Ok(index) = u32::try_from(s.info.index)
        && index > 0
    {
        net.renumber(dev, ns, index)?;
    }
    if let Some(mac) = s.mac {
        set_mac(net, dev, mac)?;
    }
    if let Some(mtu) = s.mtu {
        // More than a tunnel's device below carries is not asked for at its birth.
        let most = vxlan::most_mtu(net, dev).or(tunnel::most_mtu(net, dev));
        set_mtu(net, dev, most.map_or(mtu, |most| most.min(mtu)))?;
    }
    if kind == "bridge" {
        bridge::change(net, dev, s.data)?;
    }
    let rest = Spec { name: None, mac: None, mtu: None, netns: None, kind: None, link: None, ..*s };
    let here = Caller {
        ns,
        port: c.port,
        uid: c.uid,
        process: c.process,
        net_admin: c.net_admin,
        strict: c.strict,
        form: c.form,
        netns: c.netns,
    };
    let since = net.notices.len();
    notify::link(net, RTM_NEWLINK, dev);
    apply_since(net, &here, dev, &rest, since)
}

/// A device's fixed part with its attributes behind.
fn parse_behind(info: IfInfoMsg, body: &[u8]) -> Done<Spec<'_>> {
    parse(info, nl::attrs(body.get(IfInfoMsg::LEN..).unwrap_or(&[])))
}

/// The other end of a veth pair, as its own attributes describe it.
fn peer_of<'a>(s: &Spec<'a>) -> Done<Spec<'a>> {
    match nl::attrs(s.data).find(|(k, _)| *k == VETH_INFO_PEER).filter(|_| s.kind == Some("veth")) {
        Some((_, v)) => parse_behind(IfInfoMsg::parse(v).ok_or(Errno::EINVAL)?, v),
        None => Ok(Spec::default()),
    }
}

/// Both ends; the other one's description stands in VETH_INFO_PEER.
fn veth(net: &mut Net, c: &Caller<'_>, (ns, template): (NsId, &str), s: &Spec<'_>) -> Done<DevId> {
    let peer = peer_of(s)?;
    let peer_ns = target_ns(c, &peer)?.unwrap_or(c.ns);
    let peer_name = net.alloc_name(peer_ns, peer.name.unwrap_or("veth%d"))?;
    let name = match template.contains("%d") && ns == peer_ns {
        // The peer has its number already.
        true => net.alloc_name_but(ns, template, &peer_name)?,
        false => net.alloc_name(ns, template)?,
    };
    let (dev, peer_dev) = net.add_veth((ns, &name), (peer_ns, &peer_name))?;
    let there = Spec { netns: None, ..peer };
    // It is told before there is a pair.
    set_peer(net, peer_dev, None);
    let done = finish(net, c, peer_dev, peer_ns, "veth", &there);
    set_peer(net, peer_dev, Some(dev));
    if done.is_err() {
        net.unregister_netdev(dev);
    }
    done.map(|()| dev)
}

fn set_peer(net: &mut Net, dev: DevId, peer: Option<DevId>) {
    if let Some(d) = net.devs.get_mut(dev) {
        d.kind = DevKind::Veth(Veth { peer, rx: None });
    }
}

/// RTM_SETLINK: a change of a device that is there.
#[doc(alias = "rtnl_setlink")]
pub(crate) fn setlink(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse_req(r)?;
    let dev = named(net, c.ns, r)?.ok_or(Errno::ENODEV)?;
    apply(net, c, dev, &s)
}

fn set_mac(net: &mut Net, dev: DevId, mac: Mac) -> Done {
    net.set_mac(dev, mac)?;
    if let Some(b) = net.bridge_mut(dev) {
        b.mac_set = true;
    }
    if let Some(v) = net.vlan_mut(dev) {
        v.mac_set = true;
    }
    Ok(())
}

#[doc(alias = "dev_validate_mtu")]
fn set_mtu(net: &mut Net, dev: DevId, mtu: u32) -> Done {
    let (min, max) = net.devs.get(dev).map_or((0, 0), |d| d.mtu_range());
    if mtu < min {
        return refuse(Errno::EINVAL, "mtu less than device minimum");
    }
    if max != 0 && mtu > max {
        return refuse(Errno::EINVAL, "mtu greater than device maximum");
    }
    net.set_mtu(dev, mtu)?;
    if let Some(b) = net.bridge_mut(dev) {
        b.mtu_set = true;
    }
    Ok(())
}

/// Everything that a request says of a device, in the kernel's order.
#[doc(alias = "do_setlink")]
fn apply(net: &mut Net, c: &Caller<'_>, dev: DevId, s: &Spec<'_>) -> Done {
    let since = net.notices.len();
    apply_since(net, c, dev, s, since)
}

fn apply_since(net: &mut Net, c: &Caller<'_>, dev: DevId, s: &Spec<'_>, since: usize) -> Done {
    if s.link.is_some() || s.promiscuity.is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if let Some(mode) = s.gen_mode {
        net.check_gen_mode(dev, mode.into())?;
    }
    let named_only = s.info.index > 0;
    if let Some(ns) = target_ns(c, s)? {
        match net.move_netdev(dev, ns, s.name.filter(|_| named_only)) {
            Err(Errno::EINVAL) => return refuse(Errno::EINVAL, "The interface netns is immutable"),
            done => done?,
        }
    } else if let Some(name) = s.name.filter(|_| named_only) {
        net.rename(dev, name)?;
    }
    if let Some(mac) = s.mac {
        set_mac(net, dev, mac)?;
    }
    if let Some(mtu) = s.mtu {
        set_mtu(net, dev, mtu)?;
    }
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    d.group = s.group.unwrap_or(d.group);
    d.inet6.conf.addr_gen_mode = s.gen_mode.map_or(d.inet6.conf.addr_gen_mode, u32::from);
    if let Some(alias) = s.alias {
        let text = std::str::from_utf8(alias).map_err(|_| Errno::EINVAL)?.trim_end_matches('\0');
        d.alias = (!text.is_empty()).then(|| text.to_owned());
    }
    if let Some(n) = s.txqlen {
        net.set_txqlen(dev, n)?;
    }
    if let Some(index) = s.master {
        let ns = net.devs.get(dev).map_or(c.ns, |d| d.ns);
        let master = if index == 0 { None } else { Some(net.dev_by_index(ns, index).ok_or(Errno::EINVAL)?) };
        match net.set_master(dev, master) {
            Err(Errno::ELOOP) => return refuse(Errno::ELOOP, "Can not enslave a bridge to a bridge"),
            done => done?,
        }
    }
    if s.info.flags != 0 || s.info.change != 0 {
        change_flags(net, dev, &s.info)?;
    }
    if let Some(on) = s.carrier {
        // Only devices without hardware can be told.
        if !matches!(net.devs.get(dev).map(|d| &d.kind), Some(DevKind::Dummy)) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        net.set_carrier(dev, on != 0);
    }
    notify::link_once(net, dev, since);
    Ok(())
}

/// The bits of `ifi_change`; all of them when that is 0 and there are flags.
#[doc(alias = "rtnl_dev_combine_flags")]
fn change_flags(net: &mut Net, dev: DevId, info: &IfInfoMsg) -> Done {
    let change = if info.change == 0 { u32::MAX } else { info.change };
    let now = net.devs.get(dev).ok_or(Errno::ENODEV)?.flags();
    let flags = info.flags & change | now & !change;
    Ok(net.set_if_flags(dev, flags as u16)?)
}

/// Settings of a device that is there.
fn change_kind(net: &mut Net, dev: DevId, kind: &str, data: &[u8]) -> Done {
    match kind {
        "macvlan" => macvlan::change(net, dev, data),
        "vxlan" => vxlan::change(net, dev, data),
        _ if tunnel::kind_of(kind).is_some() => tunnel::change(net, dev, data),
        "vlan" => vlan::change(net, dev, data),
        _ => bridge::change(net, dev, data),
    }
}

#[doc(alias = "rtnl_dellink")]
pub(crate) fn dellink(net: &mut Net, c: &Caller<'_>, r: Req<'_>) -> Done {
    let s = parse_req(r)?;
    if s.info.index <= 0 && s.name.is_none() {
        return match s.group {
            Some(group) => del_group(net, c.ns, group),
            None => Err(Errno::EINVAL.into()),
        };
    }
    let dev = named(net, c.ns, r)?.ok_or(Errno::ENODEV)?;
    if !removable(net, dev) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    net.unregister_netdev(dev);
    Ok(())
}

impl Net {
    /// `ip link add NAME type dummy`.
    pub fn add_dummy(&mut self, ns: NsId, name: &str) -> Result<DevId, Errno> {
        let mac = self.random_mac();
        let id = self.register_netdev(ns, name, 1500, DevKind::Dummy)?;
        if let Some(d) = self.devs.get_mut(id) {
            (d.mac, d.iff_noarp) = (mac, true);
        }
        Ok(id)
    }

    /// The device gets this number; EBUSY when another one has it.
    fn renumber(&mut self, dev: DevId, ns: NsId, index: u32) -> Result<(), Errno> {
        if self.dev_by_index(ns, index).is_some() {
            return Err(Errno::EBUSY);
        }
        let old = self.devs.get(dev).map_or(0, |d| d.ifindex);
        if let Some(d) = self.devs.get_mut(dev) {
            d.ifindex = index;
        }
        // The number that it had is free again.
        if let Some(n) = self.ns.get_mut(ns) {
            n.devs.retain(|id| *id != dev);
            if n.last_ifindex == old {
                n.last_ifindex -= 1;
            }
        }
        self.list_netdev(ns, dev);
        Ok(())
    }

    /// As [`Net::alloc_name`], for a second device made at the same moment as one of the name `taken`.
    fn alloc_name_but(&self, ns: NsId, template: &str, taken: &str) -> Result<String, Errno> {
        let (a, b) = template.split_once("%d").ok_or(Errno::EINVAL)?;
        let free = |n: &String| n != taken && self.dev_by_name(ns, n).is_none();
        (0..).map(|n| format!("{a}{n}{b}")).find(free).ok_or(Errno::ENFILE)
    }
}
