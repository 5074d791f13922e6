//! IPv4 and what belongs to it.
pub mod icmp;
pub mod output;
pub mod reassembly;
pub mod route;
