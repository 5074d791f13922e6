//! Neighbours: who on the link has which address, and what waits until that is known.

#[derive(Clone, Debug)]
pub struct Neighbour {}

/// Upper layers heard from the neighbour: its entry stays REACHABLE without a probe.
pub fn confirm(
    _net: &mut crate::net::Net,
    _ns: crate::ids::NsId,
    _dst: &crate::net::ipv4::route::Dst,
    _daddr: core::net::Ipv4Addr,
) {
}
