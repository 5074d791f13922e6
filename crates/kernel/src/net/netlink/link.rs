//! Devices as netlink shows them: RTM_GETLINK, dumps and the messages about changes.
use super::{Caller, Done, Dump, Head, NetnsRef, Req, index, refuse, str_of, u32_of};
use crate::drivers::bridge;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{DevKind, DevStats, NetDevice};
use crate::net::packet::link_of;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;
use belljar_abi::{AF_INET6, Errno};
use belljar_wire::Mac;

/// IFLA_EXT_MASK: no statistics, please.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// What disciplines and drivers take at once.
const GSO_MAX_SIZE: u32 = 65_536;
const GSO_MAX_SEGS: u32 = 65_535;
/// Of devices without a wire (`TSO_MAX_SIZE`, `TSO_MAX_SEGS`).
const TSO_MAX_SIZE: u32 = 524_280;

/// One device.
#[doc(alias = "rtnl_fill_ifinfo")]
pub(crate) fn fill(net: &Net, dev: DevId, out: &mut Vec<u8>, h: Head, skip_stats: bool) {
    let Some(d) = net.devs.get(dev) else { return };
    let kind = link_of(d).1;
    let info = IfInfoMsg { family: 0, kind, index: d.ifindex as i32, flags: d.flags(), change: 0 };
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&info.to_bytes());
    m.attr_str(IFLA_IFNAME, &d.name).attr_u32(IFLA_TXQLEN, d.tx_queue_len);
    m.attr_u8(IFLA_OPERSTATE, net.operstate(d)).attr_u8(IFLA_LINKMODE, 0);
    let (min, max) = d.mtu_range();
    m.attr_u32(IFLA_MTU, d.mtu).attr_u32(IFLA_MIN_MTU, min).attr_u32(IFLA_MAX_MTU, max);
    m.attr_u32(IFLA_GROUP, d.group).attr_u32(IFLA_PROMISCUITY, d.promiscuity).attr_u32(IFLA_ALLMULTI, d.allmulti);
    let queues = d.num_tx_queues().into();
    m.attr_u32(IFLA_NUM_TX_QUEUES, queues).attr_u32(IFLA_GSO_MAX_SEGS, GSO_MAX_SEGS);
    m.attr_u32(IFLA_GSO_MAX_SIZE, GSO_MAX_SIZE).attr_u32(IFLA_GRO_MAX_SIZE, GSO_MAX_SIZE);
    let bare = matches!(&d.kind, DevKind::Vxlan(v) if v.lower.is_none());
    let tso = if d.nic().is_some() || bare { GSO_MAX_SIZE } else { TSO_MAX_SIZE };
    m.attr_u32(IFLA_TSO_MAX_SIZE, tso).attr_u32(IFLA_TSO_MAX_SEGS, GSO_MAX_SEGS);
    m.attr_u32(IFLA_NUM_RX_QUEUES, queues);
    link_and_master(net, d, &mut m);
    m.attr_u8(IFLA_CARRIER, d.carrier.into()).attr_str(IFLA_QDISC, d.qdisc.name());
    let [ups, downs] = d.carrier_changes;
    m.attr_u32(IFLA_CARRIER_CHANGES, ups.wrapping_add(downs));
    m.attr_u32(IFLA_CARRIER_UP_COUNT, ups).attr_u32(IFLA_CARRIER_DOWN_COUNT, downs);
    if let Some(x) = &d.xdp {
        let (mode, of_mode) =
            if x.native { (XDP_ATTACHED_DRV, IFLA_XDP_DRV_PROG_ID) } else { (XDP_ATTACHED_SKB, IFLA_XDP_SKB_PROG_ID) };
        m.nest(IFLA_XDP, |m| {
            m.attr_u8(IFLA_XDP_ATTACHED, mode).attr_u32(IFLA_XDP_PROG_ID, x.id).attr_u32(of_mode, x.id);
        });
    }
    if let Some(alias) = &d.alias {
        m.attr(IFLA_IFALIAS, alias.as_bytes());
    }
    if !d.is_pointopoint() {
        let everybody = if d.is_loopback() { Mac::ZERO } else { Mac::BROADCAST };
        m.attr(IFLA_ADDRESS, &d.mac.0).attr(IFLA_BROADCAST, &everybody.0);
    } else if let Some((local, remote)) = d.ends() {
        m.attr(IFLA_ADDRESS, &local.octets()).attr(IFLA_BROADCAST, &remote.octets());
    }
    if d.nic().is_some() {
        // As SIOCETHTOOL tells it: a card keeps no other.
        m.attr(IFLA_PERM_ADDRESS, &d.mac.0);
    }
    if !skip_stats {
        stats(&d.stats, &mut m);
    }
    linkinfo(net, dev, d, &mut m);
    m.nest(IFLA_AF_SPEC, |m| {
        m.nest(AF_INET6 as u16, |m| {
            m.attr_u8(IFLA_INET6_ADDR_GEN_MODE, d.inet6.conf.addr_gen_mode as u8);
        });
    });
}

/// The device below or at the other end, with its namespace where that is another; the bridge that this is a port of.
fn link_and_master(net: &Net, d: &NetDevice, m: &mut Msg<'_>) {
    if let Some(l) = d.iflink().and_then(|l| net.devs.get(l)) {
        m.attr_u32(IFLA_LINK, l.ifindex);
        if l.ns != d.ns
            && let Some(id) = net.nsid(d.ns, l.ns)
        {
            m.attr_u32(IFLA_LINK_NETNSID, id);
        }
    } else if matches!(d.kind, DevKind::Veth(_) | DevKind::Tunnel(_)) {
        // Its other end is not there (yet, or any more), or anywhere: printed as `@NONE`.
        m.attr_u32(IFLA_LINK, 0);
    }
    if d.master.is_some() {
        m.attr_u32(IFLA_MASTER, index(net, d.master));
    }
}

/// `struct rtnl_link_stats64` and its narrow sister.
fn stats(s: &DevStats, m: &mut Msg<'_>) {
    let mut words = [0u64; 25];
    let first = [
        s.rx_packets,
        s.tx_packets,
        s.rx_bytes,
        s.tx_bytes,
        s.rx_errors,
        s.tx_errors,
        s.rx_dropped,
        s.tx_dropped,
        s.multicast,
    ];
    words.iter_mut().zip(first).for_each(|(to, from)| *to = from);
    (words[9], words[12], words[13]) = (s.collisions, s.rx_crc, s.rx_frame);
    (words[14], words[15], words[17]) = (s.rx_fifo, s.rx_missed, s.tx_carrier);
    let wide: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let narrow: Vec<u8> = words.iter().take(24).flat_map(|w| (*w as u32).to_ne_bytes()).collect();
    m.attr(IFLA_STATS64, &wide).attr(IFLA_STATS, &narrow);
}

fn linkinfo(net: &Net, dev: DevId, d: &NetDevice, m: &mut Msg<'_>) {
    if d.info_kind().is_none() && d.master.is_none() {
        return;
    }
    m.nest(IFLA_LINKINFO, |m| {
        if let Some(kind) = d.info_kind() {
            m.attr_str(IFLA_INFO_KIND, kind);
        }
        match &d.kind {
            DevKind::Bridge(b) => m.nest(IFLA_INFO_DATA, |m| super::bridge::fill(net, dev, b, m)),
            DevKind::Macvlan(v) => m.nest(IFLA_INFO_DATA, |m| super::macvlan::fill(v, m)),
            DevKind::Vxlan(v) => m.nest(IFLA_INFO_DATA, |m| super::vxlan::fill(net, v, m)),
            DevKind::Tunnel(t) => m.nest(IFLA_INFO_DATA, |m| super::tunnel::fill(net, t, m)),
            DevKind::Vlan(v) => m.nest(IFLA_INFO_DATA, |m| super::vlan::fill(v, m)),
            _ => m,
        };
        if let Some(p) = bridge::port(net, dev) {
            m.attr_str(IFLA_INFO_SLAVE_KIND, "bridge");
            m.nest(IFLA_INFO_SLAVE_DATA, |m| super::bridge::port_attrs(net, p, m));
        }
    });
}

/// The device that a request names: by number, or by name.
pub(crate) fn named(net: &Net, ns: NsId, r: Req<'_>) -> Done<Option<DevId>> {
    let info = IfInfoMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    if let Ok(index) = u32::try_from(info.index)
        && index > 0
    {
        return Ok(net.dev_by_index(ns, index));
    }
    let name = r.attrs(IfInfoMsg::LEN).find(|(k, _)| matches!(*k, IFLA_IFNAME | IFLA_ALT_IFNAME));
    match name {
        Some((_, v)) => Ok(net.dev_by_name(ns, str_of(v)?)),
        None => Ok(None),
    }
}

fn skip_stats(r: Req<'_>) -> bool {
    r.attr(IfInfoMsg::LEN, IFLA_EXT_MASK)
        .and_then(|v| nl::u32_at(v, 0))
        .is_some_and(|m| m & RTEXT_FILTER_SKIP_STATS != 0)
}

#[doc(alias = "rtnl_getlink")]
pub(crate) fn get(net: &Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let info = IfInfoMsg::parse(r.body).ok_or(Errno::EINVAL)?;
    let by_name = r.attrs(IfInfoMsg::LEN).any(|(k, _)| matches!(k, IFLA_IFNAME | IFLA_ALT_IFNAME));
    if info.index <= 0 && !by_name {
        return Err(Errno::EINVAL.into());
    }
    let dev = named(net, c.ns, r)?.ok_or(Errno::ENODEV)?;
    fill(net, dev, out, Head::reply(RTM_NEWLINK, c, r), skip_stats(r));
    Ok(())
}

/// All, of one kind only, or of one bridge.
#[doc(alias = "rtnl_dump_ifinfo")]
pub(crate) fn dump(net: &Net, c: &Caller<'_>, r: Req<'_>, d: &mut Dump) {
    let master = r.attr(IfInfoMsg::LEN, IFLA_MASTER).and_then(|v| nl::u32_at(v, 0)).filter(|m| *m != 0);
    let info = r.attr(IfInfoMsg::LEN, IFLA_LINKINFO).unwrap_or(&[]);
    let kind = nl::attrs(info).find(|(k, _)| *k == IFLA_INFO_KIND).and_then(|(_, v)| str_of(v).ok());
    let skip = skip_stats(r);
    for dev in net.ns_devs(c.ns) {
        let Some(n) = net.devs.get(dev) else { continue };
        let fits = kind.is_none_or(|k| n.info_kind() == Some(k)) && master.is_none_or(|m| index(net, n.master) == m);
        if fits {
            let h = Head::dump(RTM_NEWLINK, d);
            fill(net, dev, d.room(), h, skip);
        }
    }
}

const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
const NETNSA_FD: u16 = 3;

/// The namespace that a request for a number is about.
pub(super) fn asked_ns(body: &[u8]) -> Option<NetnsRef> {
    nl::attrs(body.get(4..)?).find_map(|(kind, v)| match kind {
        NETNSA_PID => Some(NetnsRef::Pid(u32_of(v).ok()?)),
        NETNSA_FD => Some(NetnsRef::Fd(u32_of(v).ok()? as i32)),
        _ => None,
    })
}

/// By which number the caller's namespace knows another; -1: by none.
#[doc(alias = "rtnl_net_getid")]
pub(crate) fn get_nsid(net: &Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let Some(by) = asked_ns(r.body) else { return refuse(Errno::EINVAL, "Peer netns reference is missing") };
    let Some(ns) = c.meant(by) else { return refuse(Errno::EINVAL, "Peer netns reference is invalid") };
    let id = net.nsid(c.ns, ns).map_or(-1, |id| id as i32);
    let h = Head::reply(RTM_NEWNSID, c, r);
    Msg::new(out, h.kind, h.flags, h.seq, h.port).body(&[0; 4]).attr(NETNSA_NSID, &id.to_ne_bytes());
    Ok(())
}
