//! Routing: local table, then main; the result is a [`Dst`].
use crate::ids::*;
use crate::net::Net;
use belljar_abi::Errno;
use core::net::Ipv4Addr;

/// What the lookup asks (Linux: `struct flowi4`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow4 {
    pub daddr: Ipv4Addr,
    /// 0.0.0.0: the route chooses.
    pub saddr: Ipv4Addr,
    pub oif: Option<DevId>,
    pub tos: u8,
    pub mark: u32,
}

impl Flow4 {
    pub fn to(daddr: Ipv4Addr) -> Flow4 {
        Flow4 { daddr, saddr: Ipv4Addr::UNSPECIFIED, oif: None, tos: 0, mark: 0 }
    }
}

/// Route types that a lookup can end in successfully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Broadcast,
    Multicast,
}

/// Where a packet goes next (Linux: `struct rtable`); small and copied into sockets and packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dst {
    pub kind: RouteKind,
    pub dev: DevId,
    /// Next hop, when it is not the destination itself.
    pub gateway: Option<Ipv4Addr>,
    /// Source address the route prefers.
    pub src: Ipv4Addr,
    /// Path MTU: the device's, or less after an ICMP fragmentation needed.
    pub mtu: u32,
    /// Generation of the tables; when the namespace's moved on, look up again.
    pub genid: u32,
}

/// `ip_route_output_key`. ENETUNREACH without a route, the route type's own error otherwise.
#[doc(alias = "ip_route_output_key_hash")]
pub fn ip_route_output(_net: &mut Net, _ns: NsId, _fl: &Flow4) -> Result<Dst, Errno> {
    Err(Errno::ENETUNREACH)
}

/// Whether `addr` is one of this host (local table; `inet_addr_type` = RTN_LOCAL).
pub fn is_local(_net: &Net, _ns: NsId, _addr: Ipv4Addr) -> bool {
    false
}
