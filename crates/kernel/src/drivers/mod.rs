//! Devices: loopback, a NIC with rings, interrupts and NAPI, TUN/TAP, and those that are software only: dummy, veth, bridge.
pub mod bridge;
pub mod loopback;
pub mod nic;
pub mod tun;
pub mod veth;
