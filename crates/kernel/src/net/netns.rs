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
    /// Generation of routes and addresses; a cached `Dst` of another one is looked up again (`rt_genid`).
    pub rt_genid: u32,
    /// Secret of ISN, port choice, reuseport hash and cookies.
    pub secret: [u64; 2],
}
