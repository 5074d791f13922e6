//! `/sys/class/net/BRIDGE/bridge` and `/sys/class/net/PORT/brport`: what netlink shows and takes, as files.
use super::bridge::{self, BrPort, Bridge};
use super::bridge_stp::{self as stp, BridgeId};
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::netlink::Refusal;
use crate::net::netlink::bridge as settings;
use belljar_abi::Errno;
use belljar_abi::rtnetlink::*;

/// A file, and the attribute that writing it sets, with its width; `None`: it can be read only.
type File = (&'static str, Option<(u16, usize)>);

pub const BRIDGE_FILES: [File; 39] = [
    ("ageing_time", Some((IFLA_BR_AGEING_TIME, 4))),
    ("bridge_id", None),
    ("forward_delay", Some((IFLA_BR_FORWARD_DELAY, 4))),
    ("gc_timer", None),
    ("group_addr", None),
    ("group_fwd_mask", None),
    ("hash_elasticity", Some((IFLA_BR_MCAST_HASH_ELASTICITY, 4))),
    ("hash_max", Some((IFLA_BR_MCAST_HASH_MAX, 4))),
    ("hello_time", Some((IFLA_BR_HELLO_TIME, 4))),
    ("hello_timer", None),
    ("max_age", Some((IFLA_BR_MAX_AGE, 4))),
    ("multicast_igmp_version", Some((IFLA_BR_MCAST_IGMP_VERSION, 1))),
    ("multicast_last_member_count", Some((IFLA_BR_MCAST_LAST_MEMBER_CNT, 4))),
    ("multicast_last_member_interval", Some((IFLA_BR_MCAST_LAST_MEMBER_INTVL, 8))),
    ("multicast_membership_interval", Some((IFLA_BR_MCAST_MEMBERSHIP_INTVL, 8))),
    ("multicast_mld_version", Some((IFLA_BR_MCAST_MLD_VERSION, 1))),
    ("multicast_querier", Some((IFLA_BR_MCAST_QUERIER, 1))),
    ("multicast_querier_interval", Some((IFLA_BR_MCAST_QUERIER_INTVL, 8))),
    ("multicast_query_interval", Some((IFLA_BR_MCAST_QUERY_INTVL, 8))),
    ("multicast_query_response_interval", Some((IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, 8))),
    ("multicast_query_use_ifaddr", Some((IFLA_BR_MCAST_QUERY_USE_IFADDR, 1))),
    ("multicast_router", Some((IFLA_BR_MCAST_ROUTER, 1))),
    ("multicast_snooping", Some((IFLA_BR_MCAST_SNOOPING, 1))),
    ("multicast_startup_query_count", Some((IFLA_BR_MCAST_STARTUP_QUERY_CNT, 4))),
    ("multicast_startup_query_interval", Some((IFLA_BR_MCAST_STARTUP_QUERY_INTVL, 8))),
    ("multicast_stats_enabled", Some((IFLA_BR_MCAST_STATS_ENABLED, 1))),
    ("nf_call_arptables", Some((IFLA_BR_NF_CALL_ARPTABLES, 1))),
    ("nf_call_ip6tables", Some((IFLA_BR_NF_CALL_IP6TABLES, 1))),
    ("nf_call_iptables", Some((IFLA_BR_NF_CALL_IPTABLES, 1))),
    ("priority", Some((IFLA_BR_PRIORITY, 2))),
    ("root_id", None),
    ("root_path_cost", None),
    ("root_port", None),
    ("stp_state", Some((IFLA_BR_STP_STATE, 4))),
    ("tcn_timer", None),
    ("topology_change", None),
    ("topology_change_detected", None),
    ("topology_change_timer", None),
    ("vlan_filtering", Some((IFLA_BR_VLAN_FILTERING, 1))),
];

pub const PORT_FILES: [File; 25] = [
    ("bpdu_guard", Some((IFLA_BRPORT_GUARD, 1))),
    ("broadcast_flood", Some((IFLA_BRPORT_BCAST_FLOOD, 1))),
    ("change_ack", None),
    ("config_pending", None),
    ("designated_bridge", None),
    ("designated_cost", None),
    ("designated_port", None),
    ("designated_root", None),
    ("forward_delay_timer", None),
    ("hairpin_mode", Some((IFLA_BRPORT_MODE, 1))),
    ("hold_timer", None),
    ("isolated", Some((IFLA_BRPORT_ISOLATED, 1))),
    ("learning", Some((IFLA_BRPORT_LEARNING, 1))),
    ("message_age_timer", None),
    ("multicast_fast_leave", Some((IFLA_BRPORT_FAST_LEAVE, 1))),
    ("multicast_flood", Some((IFLA_BRPORT_MCAST_FLOOD, 1))),
    ("multicast_router", Some((IFLA_BRPORT_MULTICAST_ROUTER, 1))),
    ("path_cost", Some((IFLA_BRPORT_COST, 4))),
    ("port_id", None),
    ("port_no", None),
    ("priority", Some((IFLA_BRPORT_PRIORITY, 2))),
    ("root_block", Some((IFLA_BRPORT_PROTECT, 1))),
    // What the administrator sets, `bridge link set dev PORT state …` does.
    ("state", None),
    ("unicast_flood", Some((IFLA_BRPORT_UNICAST_FLOOD, 1))),
    ("flush", Some((IFLA_BRPORT_FLUSH, 1))),
];

fn id(id: &BridgeId) -> String {
    let [a, b, rest @ ..] = id;
    let mac: String = rest.iter().map(|b| format!("{b:02x}")).collect();
    format!("{a:02x}{b:02x}.{mac}")
}

/// The number behind an attribute, as netlink shows it.
fn shown(fill: impl FnOnce(&mut belljar_abi::netlink::Msg<'_>), kind: u16) -> Option<String> {
    let mut out = Vec::new();
    fill(&mut belljar_abi::netlink::Msg::new(&mut out, 0, 0, 0, 0));
    let all = out.get(belljar_abi::netlink::NLMSG_HDRLEN..)?;
    let (_, v) = belljar_abi::netlink::attrs(all).find(|(k, _)| *k == kind)?;
    Some(v.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)).to_string())
}

fn bridge_file(net: &Net, br: DevId, b: &Bridge, name: &str) -> Option<String> {
    let kind = match name {
        "bridge_id" => return Some(id(&stp::bridge_id(net, br))),
        "root_id" => return Some(id(&b.stp.root)),
        "group_addr" => return Some(stp::GROUP_ADDRESS.to_string()),
        "group_fwd_mask" => return Some("0x0".to_owned()),
        "gc_timer" => IFLA_BR_GC_TIMER,
        "hello_timer" => IFLA_BR_HELLO_TIMER,
        "tcn_timer" => IFLA_BR_TCN_TIMER,
        "topology_change_timer" => IFLA_BR_TOPOLOGY_CHANGE_TIMER,
        "topology_change" => IFLA_BR_TOPOLOGY_CHANGE,
        "topology_change_detected" => IFLA_BR_TOPOLOGY_CHANGE_DETECTED,
        "root_port" => IFLA_BR_ROOT_PORT,
        "root_path_cost" => IFLA_BR_ROOT_PATH_COST,
        _ => BRIDGE_FILES.iter().find(|f| f.0 == name)?.1?.0,
    };
    shown(|m| settings::fill(net, br, b, m), kind)
}

fn port_file(net: &Net, p: &BrPort, name: &str) -> Option<String> {
    let kind = match name {
        "designated_bridge" => return Some(id(&p.stp.designated_bridge)),
        "designated_root" => return Some(id(&p.stp.designated_root)),
        "port_id" => return Some(format!("{:#x}", p.id())),
        "port_no" => return Some(format!("{:#x}", p.no)),
        "flush" => return None,
        "change_ack" => IFLA_BRPORT_TOPOLOGY_CHANGE_ACK,
        "config_pending" => IFLA_BRPORT_CONFIG_PENDING,
        "designated_cost" => IFLA_BRPORT_DESIGNATED_COST,
        "designated_port" => IFLA_BRPORT_DESIGNATED_PORT,
        "forward_delay_timer" => IFLA_BRPORT_FORWARD_DELAY_TIMER,
        "hold_timer" => IFLA_BRPORT_HOLD_TIMER,
        "message_age_timer" => IFLA_BRPORT_MESSAGE_AGE_TIMER,
        "state" => IFLA_BRPORT_STATE,
        _ => PORT_FILES.iter().find(|f| f.0 == name)?.1?.0,
    };
    shown(|m| settings::port_attrs(net, p, m), kind)
}

impl Kernel {
    /// `bridge/FILE` of a bridge, `brport/FILE` of a port.
    pub fn bridge_attr(&self, dev: DevId, path: &str) -> Option<String> {
        match path.split_once('/')? {
            ("bridge", name) => bridge_file(&self.net, dev, bridge::of(&self.net, dev)?, name),
            ("brport", name) => port_file(&self.net, bridge::port(&self.net, dev)?, name),
            _ => None,
        }
    }

    /// Whether there is such a file, and whether it can be written.
    pub fn bridge_file(&self, dev: DevId, path: &str) -> Option<bool> {
        let find = |all: &[File], name: &str| all.iter().find(|f| f.0 == name).map(|f| f.1.is_some());
        match path.split_once('/')? {
            ("bridge", name) => bridge::of(&self.net, dev).and_then(|_| find(&BRIDGE_FILES, name)),
            ("brport", name) => bridge::port(&self.net, dev).and_then(|_| find(&PORT_FILES, name)),
            _ => None,
        }
    }

    /// Writes such a file.
    #[doc(alias = "store_bridge_parm")]
    pub fn set_bridge_attr(&mut self, dev: DevId, path: &str, text: &str) -> Result<(), Errno> {
        let value: u64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        let (dir, name) = path.split_once('/').ok_or(Errno::ENOENT)?;
        let files: &[File] = if dir == "bridge" { &BRIDGE_FILES } else { &PORT_FILES };
        let (kind, width) = files.iter().find(|f| f.0 == name).and_then(|f| f.1).ok_or(Errno::EACCES)?;
        let value = if width < 8 { value.min((1 << (8 * width)) - 1) } else { value };
        let mut attr = ((4 + width) as u16).to_ne_bytes().to_vec();
        attr.extend(kind.to_ne_bytes());
        attr.extend(value.to_ne_bytes().iter().take(width));
        attr.resize(attr.len().next_multiple_of(4), 0);
        let done = match dir {
            "bridge" => settings::change(&mut self.net, dev, &attr),
            _ => settings::change_port(&mut self.net, dev, &attr),
        };
        done.map_err(|e: Refusal| e.errno)
    }

    /// The ports of a bridge by name, for `brif`.
    pub fn bridge_ports(&self, dev: DevId) -> Vec<String> {
        let all = bridge::of(&self.net, dev).map_or(&[][..], |b| &b.ports);
        all.iter().filter_map(|p| self.net.devs.get(*p)).map(|d| d.name.clone()).collect()
    }
}
