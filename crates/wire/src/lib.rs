//! Packet formats: views and meanings, parse and emit, checksums; and the two things that carry packets
//! through the whole project, payload [`Segs`] and [`Frame`]s.
//!
//! Nothing here does I/O, knows the time or allocates per packet on the fast path. A parser never panics,
//! whatever the bytes; what it refuses it names.
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod flow;
pub mod frame;
pub mod gso;
pub mod icmp;
pub mod icmpv6;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod malformed;
pub mod md5;
pub mod seg;
pub mod tcp;
pub mod udp;

pub use ethernet::Mac;
pub use flow::FlowKey;
pub use frame::{Csum, Encap, Frame, Gso, GsoType, Head, PacketId};
pub use malformed::Malformed;
pub use seg::{Seg, Segs};
