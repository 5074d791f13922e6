//! A network namespace: everything that Linux keeps per `struct net`.
use crate::ids::*;
use crate::net::core::neighbour::Neighbour;
use crate::net::ipv4::reassembly::FragQueue;
use crate::net::mib::Mibs;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::tables::TcpTables;

#[derive(Clone, Debug)]
pub struct NetNs {
    pub name: String,
    pub lo: DevId,
    /// In order of ifindex.
    pub devs: Vec<DevId>,
    pub sysctl: Sysctl,
    pub mib: Mibs,
    pub neighs: Slab<Neighbour>,
    pub frags: Slab<FragQueue>,
    pub tcp: TcpTables,
    /// A gateway delivers foreign connections from one device locally.
    pub tproxy: Option<Tproxy>,
    /// Generation of routes and addresses; a cached `Dst` of another one is looked up again (`rt_genid`).
    pub rt_genid: u32,
    /// Secret of ISN, port choice, reuseport hash and cookies.
    pub secret: [u64; 2],
}

/// Connections and datagrams to any foreign address that come in by `dev` are delivered to these sockets, which see
/// the original destination (IP_TRANSPARENT with a TPROXY rule).
#[derive(Clone, Copy, Debug)]
pub struct Tproxy {
    pub dev: DevId,
    pub tcp: Option<TcpId>,
    pub udp: Option<UdpId>,
}
