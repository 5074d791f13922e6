//! Settings of bridges and of their ports, as netlink shows and takes them (`IFLA_INFO_DATA` of kind bridge,
//! `IFLA_BRPORT_*`).
use super::{Done, refuse, u32_of};
use crate::drivers::bridge::{self, BrPort, Bridge};
use crate::drivers::bridge_mcast::{self as mcast, MDB_RTR_TYPE_PERM, MDB_RTR_TYPE_TEMP};
use crate::drivers::{bridge_fdb, bridge_stp as stp, bridge_vlan};
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::rtnetlink::*;

/// What it says it is, whatever is set.
const RHT_ELASTICITY: u32 = 16;

fn clock(net: &Net, ticks: Jiffies) -> u64 {
    u64::from(ticks) * 100 / u64::from(net.env.hz.max(1))
}

fn ticks(net: &Net, clock: u64) -> Jiffies {
    (clock.min(u64::from(u32::MAX)) * u64::from(net.env.hz) / 100).min(i32::MAX as u64) as Jiffies
}

/// How long a timer still runs.
#[doc(alias = "br_timer_value")]
pub(crate) fn left(net: &Net, at: Option<Jiffies>) -> u64 {
    let now = net.env.jiffies();
    at.filter(|at| mcast::before(now, *at)).map_or(0, |at| clock(net, at.wrapping_sub(now)))
}

fn wide(m: &mut Msg<'_>, kind: u16, v: u64) {
    m.attr(kind, &v.to_ne_bytes());
}

#[doc(alias = "br_fill_info")]
pub(crate) fn fill(net: &Net, br: DevId, b: &Bridge, m: &mut Msg<'_>) {
    let (s, v, c) = (&b.stp, &b.vlans, |t| clock(net, t) as u32);
    for (kind, t) in [(IFLA_BR_HELLO_TIMER, s.hello_timer), (IFLA_BR_TCN_TIMER, s.tcn_timer)] {
        wide(m, kind, left(net, t));
    }
    wide(m, IFLA_BR_TOPOLOGY_CHANGE_TIMER, left(net, s.change_timer));
    wide(m, IFLA_BR_GC_TIMER, 0);
    m.attr_u32(IFLA_BR_FORWARD_DELAY, c(s.times.forward_delay)).attr_u32(IFLA_BR_HELLO_TIME, c(s.times.hello_time));
    m.attr_u32(IFLA_BR_MAX_AGE, c(s.times.max_age)).attr_u32(IFLA_BR_AGEING_TIME, b.ageing_time);
    m.attr_u32(IFLA_BR_STP_STATE, s.on.into()).attr_u16(IFLA_BR_PRIORITY, b.priority);
    m.attr_u8(IFLA_BR_VLAN_FILTERING, v.filtering.into()).attr_u16(IFLA_BR_GROUP_FWD_MASK, 0);
    m.attr(IFLA_BR_BRIDGE_ID, &stp::bridge_id(net, br)).attr(IFLA_BR_ROOT_ID, &s.root);
    m.attr_u16(IFLA_BR_ROOT_PORT, s.root_port).attr_u32(IFLA_BR_ROOT_PATH_COST, s.root_path_cost);
    m.attr_u8(IFLA_BR_TOPOLOGY_CHANGE, s.topology_change.into());
    m.attr_u8(IFLA_BR_TOPOLOGY_CHANGE_DETECTED, s.detected.into());
    m.attr(IFLA_BR_GROUP_ADDR, &stp::GROUP_ADDRESS.0);
    let known = BR_BOOLOPT_NO_LL_LEARN | BR_BOOLOPT_MCAST_VLAN_SNOOPING;
    m.attr(IFLA_BR_MULTI_BOOLOPT, &[0u32.to_ne_bytes(), known.to_ne_bytes()].concat());
    m.attr(IFLA_BR_VLAN_PROTOCOL, &v.proto.to_be_bytes()).attr_u16(IFLA_BR_VLAN_DEFAULT_PVID, v.default_pvid);
    m.attr_u8(IFLA_BR_VLAN_STATS_ENABLED, 0).attr_u8(IFLA_BR_VLAN_STATS_PER_PORT, 0);
    fill_mcast(net, &b.mcast, m);
    let nf = &b.nf_call;
    m.attr_u8(IFLA_BR_NF_CALL_IPTABLES, nf.iptables.into()).attr_u8(IFLA_BR_NF_CALL_IP6TABLES, nf.ip6tables.into());
    m.attr_u8(IFLA_BR_NF_CALL_ARPTABLES, nf.arptables.into());
}

fn fill_mcast(net: &Net, b: &mcast::BrMcast, m: &mut Msg<'_>) {
    m.attr_u8(IFLA_BR_MCAST_ROUTER, b.router).attr_u8(IFLA_BR_MCAST_SNOOPING, b.enabled.into());
    m.attr_u8(IFLA_BR_MCAST_QUERY_USE_IFADDR, b.query_use_ifaddr.into());
    m.attr_u8(IFLA_BR_MCAST_QUERIER, b.querier.into()).attr_u8(IFLA_BR_MCAST_STATS_ENABLED, 0);
    m.attr_u32(IFLA_BR_MCAST_HASH_ELASTICITY, RHT_ELASTICITY).attr_u32(IFLA_BR_MCAST_HASH_MAX, b.hash_max);
    m.attr_u32(IFLA_BR_MCAST_LAST_MEMBER_CNT, b.last_member_count);
    m.attr_u32(IFLA_BR_MCAST_STARTUP_QUERY_CNT, b.startup_query_count);
    m.attr_u8(IFLA_BR_MCAST_IGMP_VERSION, b.igmp_version).attr_u8(IFLA_BR_MCAST_MLD_VERSION, b.mld_version);
    let times = [
        (IFLA_BR_MCAST_LAST_MEMBER_INTVL, b.last_member_interval),
        (IFLA_BR_MCAST_MEMBERSHIP_INTVL, b.membership_interval),
        (IFLA_BR_MCAST_QUERIER_INTVL, b.querier_interval),
        (IFLA_BR_MCAST_QUERY_INTVL, b.query_interval),
        (IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, b.query_response_interval),
        (IFLA_BR_MCAST_STARTUP_QUERY_INTVL, b.startup_query_interval),
    ];
    times.into_iter().for_each(|(kind, t)| wide(m, kind, clock(net, t)));
}

fn u8_of(v: &[u8]) -> Done<u8> {
    v.first().copied().ok_or(Errno::EINVAL.into())
}

fn u16_of(v: &[u8]) -> Done<u16> {
    v.first_chunk().map(|b| u16::from_ne_bytes(*b)).ok_or(Errno::EINVAL.into())
}

fn u64_of(v: &[u8]) -> Done<u64> {
    v.first_chunk().map(|b| u64::from_ne_bytes(*b)).ok_or(Errno::EINVAL.into())
}

/// Settings of a bridge.
#[doc(alias = "br_changelink")]
pub(crate) fn change(net: &mut Net, br: DevId, data: &[u8]) -> Done {
    if bridge::of(net, br).is_none() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    nl::attrs(data).try_for_each(|(kind, v)| match kind {
        IFLA_BR_MCAST_ROUTER..=IFLA_BR_MCAST_STARTUP_QUERY_INTVL
        | IFLA_BR_MCAST_STATS_ENABLED..=IFLA_BR_MCAST_MLD_VERSION => change_mcast(net, br, kind, v),
        _ => change_one(net, br, kind, v),
    })
}

fn change_one(net: &mut Net, br: DevId, kind: u16, v: &[u8]) -> Done {
    let id = stp::bridge_id(net, br);
    match kind {
        IFLA_BR_FORWARD_DELAY | IFLA_BR_HELLO_TIME | IFLA_BR_MAX_AGE => {
            return set_time(net, br, kind, u64::from(u32_of(v)?));
        }
        IFLA_BR_STP_STATE => stp::set_enabled(net, br, u32_of(v)? != 0),
        IFLA_BR_VLAN_PROTOCOL => {
            let proto = v.first_chunk().map(|b| u16::from_be_bytes(*b)).ok_or(Errno::EINVAL)?;
            bridge_vlan::set_proto(net, br, proto)?;
        }
        IFLA_BR_VLAN_DEFAULT_PVID => bridge_vlan::set_default_pvid(net, br, u16_of(v)?)?,
        IFLA_BR_MULTI_BOOLOPT => {
            let (on, mask) = (u32_of(v)?, nl::u32_at(v, 4).ok_or(Errno::EINVAL)?);
            match on & mask {
                0 => {}
                b if b & BR_BOOLOPT_MCAST_VLAN_SNOOPING != 0
                    && bridge::of(net, br).is_some_and(|b| !b.vlans.filtering) =>
                {
                    return refuse(
                        Errno::EINVAL,
                        "bridge: Cannot enable multicast vlan snooping with vlan filtering disabled",
                    );
                }
                _ => return Err(Errno::EOPNOTSUPP.into()),
            }
        }
        IFLA_BR_FDB_FLUSH => {
            bridge_fdb::forget(net, br, |_, e| e.kind == bridge_fdb::FdbKind::Learned);
        }
        // Counters of single VLANs are not there.
        IFLA_BR_VLAN_STATS_ENABLED | IFLA_BR_VLAN_STATS_PER_PORT if v.first() == Some(&0) => {}
        _ => {
            let Some(b) = net.bridge_mut(br) else { return Ok(()) };
            match kind {
                IFLA_BR_AGEING_TIME => b.ageing_time = u32_of(v)?,
                IFLA_BR_VLAN_FILTERING => b.vlans.filtering = u8_of(v)? != 0,
                IFLA_BR_NF_CALL_IPTABLES => b.nf_call.iptables = u8_of(v)? != 0,
                IFLA_BR_NF_CALL_IP6TABLES => b.nf_call.ip6tables = u8_of(v)? != 0,
                IFLA_BR_NF_CALL_ARPTABLES => b.nf_call.arptables = u8_of(v)? != 0,
                IFLA_BR_PRIORITY => {
                    b.priority = u16_of(v)?;
                    stp::id_changed(net, br, id);
                }
                _ => return Err(Errno::EOPNOTSUPP.into()),
            }
        }
    }
    Ok(())
}

/// The tree's times, in hundredths of a second.
#[doc(alias = "br_set_forward_delay")]
#[doc(alias = "br_set_hello_time")]
#[doc(alias = "br_set_max_age")]
fn set_time(net: &mut Net, br: DevId, kind: u16, t: u64) -> Done {
    let (new, root) = (ticks(net, t), stp::is_root(net, br));
    let Some(b) = net.bridge_mut(br) else { return Ok(()) };
    let range = match kind {
        IFLA_BR_FORWARD_DELAY if !b.stp.on => 0..=u64::from(u32::MAX),
        IFLA_BR_FORWARD_DELAY => 200..=3000,
        IFLA_BR_HELLO_TIME => 100..=1000,
        _ => 600..=4000,
    };
    if !range.contains(&t) {
        return Err(Errno::ERANGE.into());
    }
    let set = |times: &mut stp::Times| match kind {
        IFLA_BR_FORWARD_DELAY => times.forward_delay = new,
        IFLA_BR_HELLO_TIME => times.hello_time = new,
        _ => times.max_age = new,
    };
    set(&mut b.stp.own);
    if root {
        set(&mut b.stp.times);
    }
    Ok(())
}

/// Intervals of queries are never less than a second (`BR_MULTICAST_QUERY_INTVL_MIN`).
const QUERY_INTVL_MIN: u64 = 100;

fn change_mcast(net: &mut Net, br: DevId, kind: u16, v: &[u8]) -> Done {
    match kind {
        IFLA_BR_MCAST_SNOOPING => mcast::set_enabled(net, br, u8_of(v)? != 0),
        IFLA_BR_MCAST_QUERIER => mcast::set_querier(net, br, u8_of(v)? != 0),
        IFLA_BR_MCAST_LAST_MEMBER_INTVL..=IFLA_BR_MCAST_STARTUP_QUERY_INTVL => {
            let t = ticks(net, u64_of(v)?);
            let slow = ticks(net, u64_of(v)?.max(QUERY_INTVL_MIN));
            let Some(m) = mcast::of_mut(net, br) else { return Ok(()) };
            match kind {
                IFLA_BR_MCAST_LAST_MEMBER_INTVL => m.last_member_interval = t,
                IFLA_BR_MCAST_MEMBERSHIP_INTVL => m.membership_interval = t,
                IFLA_BR_MCAST_QUERIER_INTVL => m.querier_interval = t,
                IFLA_BR_MCAST_QUERY_INTVL => m.query_interval = slow,
                IFLA_BR_MCAST_QUERY_RESPONSE_INTVL => m.query_response_interval = t,
                _ => m.startup_query_interval = slow,
            }
        }
        _ => {
            let Some(m) = mcast::of_mut(net, br) else { return Ok(()) };
            match kind {
                IFLA_BR_MCAST_ROUTER => m.router = at_most(u8_of(v)?, 0..=MDB_RTR_TYPE_PERM)?,
                IFLA_BR_MCAST_QUERY_USE_IFADDR => m.query_use_ifaddr = u8_of(v)? != 0,
                // Kept for programs only, as the table grows by itself.
                IFLA_BR_MCAST_HASH_ELASTICITY => {}
                IFLA_BR_MCAST_HASH_MAX => m.hash_max = u32_of(v)?,
                IFLA_BR_MCAST_LAST_MEMBER_CNT => m.last_member_count = u32_of(v)?,
                IFLA_BR_MCAST_STARTUP_QUERY_CNT => m.startup_query_count = u32_of(v)?,
                IFLA_BR_MCAST_IGMP_VERSION => m.igmp_version = at_most(u8_of(v)?, 2..=3)?,
                IFLA_BR_MCAST_MLD_VERSION => m.mld_version = at_most(u8_of(v)?, 1..=2)?,
                IFLA_BR_MCAST_STATS_ENABLED if v.first() == Some(&0) => {}
                _ => return Err(Errno::EOPNOTSUPP.into()),
            }
        }
    }
    Ok(())
}

fn at_most(v: u8, range: std::ops::RangeInclusive<u8>) -> Done<u8> {
    if range.contains(&v) { Ok(v) } else { Err(Errno::EINVAL.into()) }
}

/// `IFLA_BRPORT_*` of a port.
#[doc(alias = "br_port_fill_attrs")]
pub(crate) fn port_attrs(net: &Net, p: &BrPort, m: &mut Msg<'_>) {
    let s = &p.stp;
    m.attr_u8(IFLA_BRPORT_STATE, s.state).attr_u16(IFLA_BRPORT_PRIORITY, p.priority).attr_u32(IFLA_BRPORT_COST, p.cost);
    let switches = [
        (IFLA_BRPORT_MODE, p.hairpin),
        (IFLA_BRPORT_GUARD, p.guard),
        (IFLA_BRPORT_PROTECT, p.root_block),
        (IFLA_BRPORT_FAST_LEAVE, p.mcast.fast_leave),
        (IFLA_BRPORT_MCAST_TO_UCAST, false),
        (IFLA_BRPORT_LEARNING, p.learning),
        (IFLA_BRPORT_UNICAST_FLOOD, p.flood),
        (IFLA_BRPORT_MCAST_FLOOD, p.mcast_flood),
        (IFLA_BRPORT_BCAST_FLOOD, p.bcast_flood),
        (IFLA_BRPORT_PROXYARP, false),
        (IFLA_BRPORT_PROXYARP_WIFI, false),
        (IFLA_BRPORT_TOPOLOGY_CHANGE_ACK, s.change_ack),
        (IFLA_BRPORT_CONFIG_PENDING, s.config_pending),
        (IFLA_BRPORT_VLAN_TUNNEL, false),
        (IFLA_BRPORT_NEIGH_SUPPRESS, false),
        (IFLA_BRPORT_ISOLATED, p.isolated),
        (IFLA_BRPORT_LOCKED, false),
    ];
    for (kind, on) in switches {
        m.attr_u8(kind, on.into());
    }
    m.attr(IFLA_BRPORT_ROOT_ID, &s.designated_root).attr(IFLA_BRPORT_BRIDGE_ID, &s.designated_bridge);
    m.attr_u16(IFLA_BRPORT_DESIGNATED_PORT, s.designated_port);
    m.attr_u16(IFLA_BRPORT_DESIGNATED_COST, s.designated_cost as u16);
    m.attr_u16(IFLA_BRPORT_ID, p.id()).attr_u16(IFLA_BRPORT_NO, p.no).attr_u16(IFLA_BRPORT_GROUP_FWD_MASK, 0);
    wide(m, IFLA_BRPORT_MESSAGE_AGE_TIMER, left(net, s.message_age));
    wide(m, IFLA_BRPORT_FORWARD_DELAY_TIMER, left(net, s.forward_delay));
    wide(m, IFLA_BRPORT_HOLD_TIMER, left(net, s.hold));
    m.attr_u8(IFLA_BRPORT_MULTICAST_ROUTER, p.mcast.router);
}

/// Settings of a port.
#[doc(alias = "br_setport")]
pub(crate) fn change_port(net: &mut Net, dev: DevId, data: &[u8]) -> Done {
    let br = net.devs.get(dev).and_then(|d| d.master).ok_or(Errno::EOPNOTSUPP)?;
    nl::attrs(data).try_for_each(|(kind, v)| {
        match kind {
            IFLA_BRPORT_STATE => stp::set_port_state(net, br, dev, u8_of(v)?)?,
            IFLA_BRPORT_COST => stp::set_path_cost(net, br, dev, u32_of(v)?)?,
            IFLA_BRPORT_PRIORITY => stp::set_port_priority(net, br, dev, u16_of(v)?)?,
            IFLA_BRPORT_MULTICAST_ROUTER => {
                mcast::set_port_router(net, br, dev, at_most(u8_of(v)?, 0..=MDB_RTR_TYPE_TEMP)?);
            }
            IFLA_BRPORT_FLUSH => {
                bridge_fdb::forget(net, br, |_, e| e.port == Some(dev) && e.kind == bridge_fdb::FdbKind::Learned);
            }
            _ => {
                let p = net.devs.get_mut(dev).and_then(|d| d.brport.as_deref_mut()).ok_or(Errno::EOPNOTSUPP)?;
                return switch(p, kind, v);
            }
        }
        Ok(())
    })
}

fn switch(p: &mut BrPort, kind: u16, v: &[u8]) -> Done {
    let on = u8_of(v)? != 0;
    match kind {
        IFLA_BRPORT_MODE => p.hairpin = on,
        IFLA_BRPORT_GUARD => p.guard = on,
        IFLA_BRPORT_PROTECT => p.root_block = on,
        IFLA_BRPORT_FAST_LEAVE => p.mcast.fast_leave = on,
        IFLA_BRPORT_LEARNING => p.learning = on,
        IFLA_BRPORT_UNICAST_FLOOD => p.flood = on,
        IFLA_BRPORT_MCAST_FLOOD => p.mcast_flood = on,
        IFLA_BRPORT_BCAST_FLOOD => p.bcast_flood = on,
        IFLA_BRPORT_ISOLATED => p.isolated = on,
        IFLA_BRPORT_MCAST_TO_UCAST
        | IFLA_BRPORT_PROXYARP
        | IFLA_BRPORT_PROXYARP_WIFI
        | IFLA_BRPORT_NEIGH_SUPPRESS
        | IFLA_BRPORT_VLAN_TUNNEL
        | IFLA_BRPORT_LOCKED
            if !on => {}
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    Ok(())
}
