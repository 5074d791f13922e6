//! The device layer, neighbours, and what all sockets share.
pub mod dev;
pub mod neighbour;
pub mod skb;
pub mod sock;
pub mod sockopt;
pub mod softirq;
