//! The device layer, neighbours, and what all sockets share.
pub mod dev;
pub mod dev_rx;
pub mod dev_tx;
pub mod errqueue;
pub mod filter;
pub mod frag;
pub mod gro;
pub mod neighbour;
pub mod reuseport;
pub mod skb;
pub mod sock;
pub mod sockopt;
pub mod sockopt6;
pub mod softirq;
pub mod timestamp;
pub mod virtio_net;
pub mod zerocopy;
