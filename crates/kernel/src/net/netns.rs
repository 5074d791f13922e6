//! A network namespace: everything that Linux keeps per `struct net`.
use crate::drivers::nic::NicConfig;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::{DevKind, InetConf};
use crate::net::core::neighbour::{NeighTable, Neighbour};
use crate::net::ipv4::fib::Fib;
use crate::net::ipv4::icmp::IcmpLimits;
use crate::net::ipv4::peer::Peers;
use crate::net::ipv4::reassembly::{FragQueue, FragTable};
use crate::net::ipv4::route::Exceptions;
use crate::net::ipv6::Ns6;
use crate::net::mib::Mibs;
use crate::net::netfilter::Netfilter;
use crate::net::netfilter::conntrack::CtStat;
use crate::net::packet::PacketTables;
use crate::net::raw::RawTables;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::tables::TcpTables;
use crate::net::udp::tables::UdpTables;

#[derive(Clone, Debug)]
pub struct NetNs {
    pub name: String,
    pub lo: DevId,
    /// In order of ifindex.
    pub devs: Vec<DevId>,
    pub last_ifindex: u32,
    /// What a new interface begins with (`net.ipv4.conf.default`).
    pub conf_default: InetConf,
    /// What is said for all of them.
    pub conf_all: InetConf,
    pub sysctl: Sysctl,
    pub mib: Mibs,
    pub neighs: Slab<Neighbour>,
    pub neigh_table: NeighTable,
    pub frags: Slab<FragQueue>,
    pub frag_table: FragTable,
    pub fib: Fib,
    /// Path MTUs learned from ICMP.
    pub exceptions: Exceptions,
    pub v6: Ns6,
    pub peers: Peers,
    pub icmp: IcmpLimits,
    /// Counters of IP identification, chosen by hash (`ip_idents`).
    pub idents: Vec<u32>,
    pub tcp: TcpTables,
    pub udp: UdpTables,
    pub raw: RawTables,
    pub packet: PacketTables,
    /// Tables of iptables, once one was named; not here while a hook runs.
    pub nf: Option<Box<Netfilter>>,
    pub ct_stat: CtStat,
    /// A rule says TPROXY: answers leave from foreign addresses.
    pub nf_tproxy: bool,
    /// Deliver what is meant for others here: the gateway's way to every address at once.
    pub tproxy: Option<Tproxy>,
    /// Generation of routes and addresses; a cached `Dst` of another one is looked up again (`rt_genid`).
    pub rt_genid: u32,
    /// Secret of ISN, port choice, reuseport hash and cookies.
    pub secret: [u64; 2],
}

/// TCP connections and UDP datagrams to foreign addresses that arrive on `dev` go to these sockets, which answer from the
/// address that was asked (Linux: a TPROXY rule and a policy route to the local table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tproxy {
    pub dev: DevId,
    pub tcp: Option<TcpId>,
    pub udp: Option<UdpId>,
}

/// Buckets of [`NetNs::idents`].
const IDENTS: usize = 2048;

impl Net {
    /// A new namespace: only lo, down, no routes.
    #[doc(alias = "copy_net_ns")]
    pub fn add_ns(&mut self, name: &str) -> NsId {
        let secret = [self.env.rng.next_u64(), self.env.rng.next_u64()];
        let idents = (0..IDENTS).map(|_| self.env.rng.next_u32()).collect();
        // lo needs the namespace and the namespace needs lo: an id that names nothing stands in for a moment.
        let Some(nobody) = DevId::from_bits(1 << 63) else { unreachable!("the generation is not zero") };
        let ns = self.ns.insert(NetNs {
            name: name.to_owned(),
            lo: nobody,
            devs: Vec::new(),
            last_ifindex: 0,
            conf_default: InetConf::default(),
            conf_all: InetConf::ALL,
            sysctl: Sysctl::default(),
            mib: Mibs::default(),
            neighs: Slab::default(),
            neigh_table: NeighTable::default(),
            frags: Slab::default(),
            frag_table: FragTable::default(),
            fib: Fib::default(),
            exceptions: Exceptions::default(),
            v6: Ns6::default(),
            peers: Peers::default(),
            icmp: IcmpLimits::default(),
            idents,
            tcp: TcpTables::default(),
            udp: UdpTables::default(),
            raw: RawTables::default(),
            packet: PacketTables::default(),
            nf: None,
            ct_stat: CtStat::default(),
            nf_tproxy: false,
            tproxy: None,
            rt_genid: 1,
            secret,
        });
        if let Ok(lo) = self.register_netdev(ns, "lo", 65_536, DevKind::Loopback)
            && let Some(n) = self.ns.get_mut(ns)
        {
            n.lo = lo;
        }
        ns
    }
}

impl Kernel {
    /// The usual host: a namespace with lo up, one NIC up with an address, and a default route through `gateway`.
    pub fn add_host(
        &mut self,
        name: &str,
        nic: &NicConfig,
        addr: (core::net::Ipv4Addr, u8),
        gateway: Option<core::net::Ipv4Addr>,
    ) -> Result<(NsId, DevId), belljar_abi::Errno> {
        let ns = self.net.add_ns(name);
        if let Some(lo) = self.net.ns.get(ns).map(|n| n.lo) {
            self.net.set_link(lo, true)?;
        }
        let dev = self.add_nic(ns, nic)?;
        self.net.set_link(dev, true)?;
        self.net.add_address(dev, addr.0, addr.1)?;
        if let Some(gw) = gateway {
            self.add_route(ns, core::net::Ipv4Addr::UNSPECIFIED, 0, Some(gw), Some(dev))?;
        }
        Ok((ns, dev))
    }
}
