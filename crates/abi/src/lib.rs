//! Linux constants and layouts: errno, sockaddr, socket options, netlink, tcp_info.
//!
//! Numbers are those of x86-64 and aarch64, which agree here; layouts are in the machine's byte order, as programs see
//! them. Constants are at the crate root as well: `abi::SOL_SOCKET`, `abi::rtnetlink::RTM_GETLINK`.
#![forbid(unsafe_code)]

pub mod errno;
pub mod errqueue;
pub mod ethtool;
pub mod genl;
pub mod if_xdp;
pub mod ioctl;
pub mod ipset;
pub mod netlink;
pub mod nf_tables;
pub mod nfnetlink;
pub mod packet;
pub mod pkt_sched;
pub mod poll;
pub mod rtax;
pub mod rtnetlink;
pub mod sock_diag;
pub mod sockaddr;
pub mod socket;
pub mod tcp_info;

pub use errno::Errno;
pub use errqueue::*;
pub use ioctl::*;
pub use packet::*;
pub use poll::*;
pub use sockaddr::{SockAddr, SockAddrBytes};
pub use socket::*;
pub use tcp_info::*;
