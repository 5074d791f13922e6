//! Devices: loopback, and a NIC with rings, interrupts and NAPI.
pub mod loopback;
pub mod nic;
