//! Devices: loopback, a NIC with rings, interrupts and NAPI, TUN/TAP, and those that are software only: dummy, veth, bridge,
//! ifb, those on top of another one (VLANs, macvlan), and tunnels (VXLAN, ipip, gre, gretap, sit).
pub mod br_netfilter;
pub mod bridge;
pub mod bridge_bpdu;
pub mod bridge_fdb;
pub mod bridge_igmp;
pub mod bridge_mcast;
pub mod bridge_sources;
pub mod bridge_stp;
pub mod bridge_sysfs;
pub mod bridge_timer;
pub mod bridge_vlan;
pub mod ifb;
pub mod loopback;
pub mod macvlan;
pub mod nic;
pub mod stacked;
pub mod tun;
pub mod tunnel;
mod tunnel_rx;
pub mod veth;
pub mod veth_rx;
pub mod vlan;
pub mod vxlan;
