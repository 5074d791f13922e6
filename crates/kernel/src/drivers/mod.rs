//! Devices: loopback, a NIC with rings, interrupts and NAPI, and TUN/TAP.
pub mod loopback;
pub mod nic;
pub mod tun;
