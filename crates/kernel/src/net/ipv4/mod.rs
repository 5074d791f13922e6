//! IPv4 and what belongs to it.
pub mod arp;
pub mod devinet;
pub mod fib;
pub mod forward;
pub mod fragment;
pub mod icmp;
pub mod icmp_rcv;
pub mod igmp;
pub mod input;
pub mod mcast;
pub mod mcast_opt;
pub mod options;
pub mod output;
pub mod peer;
pub mod reassembly;
pub mod route;
