//! A network namespace: everything that Linux keeps per `struct net`.
use crate::drivers::nic::NicConfig;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::dst_metrics::MetricsTable;
use crate::net::core::neighbour::{NeighTable, Neighbour};
use crate::net::core::pneigh::Pneighs;
use crate::net::hits::Hits;
use crate::net::ipv4::devconf::Written;
use crate::net::ipv4::fib::Fib;
use crate::net::ipv4::icmp::IcmpLimits;
use crate::net::ipv4::peer::Peers;
use crate::net::ipv4::reassembly::{FragQueue, FragTable};
use crate::net::ipv4::route::Exceptions;
use crate::net::ipv6::Ns6;
use crate::net::mib::Mibs;
use crate::net::netfilter::conntrack::CtStat;
use crate::net::netfilter::{Netfilter, ipset, nflog, xt};
use crate::net::nexthop::Nexthops;
use crate::net::packet::PacketTables;
use crate::net::raw::RawTables;
use crate::net::sysctl::Sysctl;
use crate::net::tcp::tables::TcpTables;
use crate::net::udp::tables::UdpTables;
use belljar_abi::Errno;

#[derive(Clone, Debug)]
pub struct NetNs {
    pub name: String,
    pub lo: DevId,
    /// In order of ifindex.
    pub devs: Vec<DevId>,
    pub last_ifindex: u32,
    /// Groups of NETLINK_ROUTE that somebody is a member of: bit n for group n.
    pub nl_groups: u64,
    /// The same of NETLINK_NETFILTER.
    pub nf_groups: u64,
    /// By which numbers other namespaces are known here: the place in the list.
    pub nsids: Vec<NsId>,
    /// What a new interface begins with (`net.ipv4.conf.default`).
    pub conf_default: Written,
    /// What is said for all of them.
    pub conf_all: Written,
    /// A device here has `ignore_routes_with_linkdown`: until then that costs a look at this.
    pub ignores_linkdown: bool,
    pub sysctl: Sysctl,
    pub mib: Mibs,
    pub neighs: Slab<Neighbour>,
    pub neigh_table: NeighTable,
    /// Who is answered for.
    pub pneighs: Pneighs,
    pub frags: Slab<FragQueue>,
    pub frag_table: FragTable,
    pub fib: Fib,
    pub metrics: MetricsTable,
    /// Path MTUs learned from ICMP.
    pub exceptions: Exceptions,
    pub v6: Ns6,
    pub peers: Peers,
    pub icmp: IcmpLimits,
    /// Counters of IP identification, chosen by hash (`ip_idents`).
    pub idents: Vec<u32>,
    pub tcp: TcpTables,
    pub udp: UdpTables,
    pub tunnels: crate::drivers::tunnel::Table,
    pub raw: RawTables,
    pub packet: PacketTables,
    /// Tables of iptables, once one was named; not here while a hook runs.
    pub nf: Option<Box<Netfilter>>,
    pub ct_stat: CtStat,
    /// Who found the table of connections full.
    pub ct_full: Option<Hits>,
    /// Sets of `ipset`, once somebody asked for them.
    pub ipset: Option<Box<ipset::Sets>>,
    /// What rules share by name, once one does.
    pub xt: Option<Box<xt::Shared>>,
    /// Programs that are shown packets.
    pub nflog: nflog::Groups,
    /// Next hops that routes name by number.
    pub nexthops: Nexthops,
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
        let mut sysctl = Sysctl::default();
        self.mem.apply_limits(&mut sysctl);
        let ns = self.ns.insert(NetNs {
            name: name.to_owned(),
            lo: nobody,
            devs: Vec::new(),
            last_ifindex: 0,
            nl_groups: 0,
            nf_groups: 0,
            nsids: Vec::new(),
            conf_default: Written::DEFAULT,
            conf_all: Written::all(),
            ignores_linkdown: false,
            sysctl,
            mib: Mibs::default(),
            neighs: Slab::default(),
            neigh_table: NeighTable::default(),
            pneighs: Pneighs::default(),
            frags: Slab::default(),
            frag_table: FragTable::default(),
            fib: Fib::default(),
            metrics: MetricsTable::default(),
            exceptions: Exceptions::default(),
            v6: Ns6::default(),
            peers: Peers::default(),
            icmp: IcmpLimits::default(),
            idents,
            tcp: TcpTables::default(),
            tunnels: Default::default(),
            udp: UdpTables::default(),
            raw: RawTables::default(),
            packet: PacketTables::default(),
            nf: None,
            ct_stat: CtStat::default(),
            ct_full: None,
            ipset: None,
            xt: None,
            nflog: nflog::Groups::default(),
            nexthops: Nexthops::default(),
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

impl Net {
    /// The number by which a namespace knows another one.
    pub fn nsid(&self, ns: NsId, other: NsId) -> Option<u32> {
        self.ns.get(ns)?.nsids.iter().position(|n| *n == other).map(|n| n as u32)
    }

    /// Both know each other by a number from now on.
    #[doc(alias = "peernet2id_alloc")]
    pub(crate) fn know_each_other(&mut self, a: NsId, b: NsId) {
        for (ns, other) in [(a, b), (b, a)] {
            if ns == other || self.nsid(ns, other).is_some() {
                continue;
            }
            // The number of one that is gone is free again.
            let gone = self.ns.get(ns).and_then(|n| n.nsids.iter().position(|id| self.ns.get(*id).is_none()));
            if let Some(n) = self.ns.get_mut(ns) {
                match gone.and_then(|at| n.nsids.get_mut(at)) {
                    Some(slot) => *slot = other,
                    None => n.nsids.push(other),
                }
            }
        }
    }
}

impl Kernel {
    /// A namespace whose only users were its name and its devices goes; EBUSY while sockets or processes are in it. Virtual
    /// devices go with it and take their other ends along, hardware comes to `heir`.
    #[doc(alias = "cleanup_net")]
    pub fn del_ns(&mut self, ns: NsId, heir: Option<NsId>) -> Result<(), Errno> {
        self.net.ns.get(ns).ok_or(Errno::ENOENT)?;
        let here = |sk: Option<&crate::net::core::sock::Sock>| sk.is_some_and(|sk| sk.ns == ns);
        let k = &self.socks;
        let busy = k.tcp.iter().any(|s| here(Some(&s.1.sk)))
            || k.udp.iter().any(|s| here(Some(&s.1.sk)))
            || k.raw.iter().any(|s| here(Some(&s.1.sk)))
            || k.packet.iter().any(|s| here(Some(&s.1.sk)))
            || self.tasks.procs.iter().any(|p| p.1.ns == ns);
        if busy || heir == Some(ns) {
            return Err(Errno::EBUSY);
        }
        self.net.tear_down(ns, heir);
        Ok(())
    }
}

impl Net {
    fn tear_down(&mut self, ns: NsId, heir: Option<NsId>) {
        // Tunnels through this network, wherever their devices are.
        let through = |d: &NetDevice| match &d.kind {
            DevKind::Vxlan(v) => v.ns == ns,
            DevKind::Tunnel(t) => t.ns == ns,
            _ => false,
        };
        let tunnels: Vec<DevId> = self.devs.iter().filter(|(_, d)| through(d)).map(|(id, _)| id).collect();
        tunnels.into_iter().for_each(|id| self.unregister_netdev(id));
        while let Some(dev) = self.ns.get(ns).and_then(|n| n.devs.last().copied()) {
            let hardware = self.devs.get(dev).is_some_and(|d| d.nic().is_some());
            let moved = hardware
                && heir.is_some_and(|to| {
                    let name = self.alloc_name(to, "dev%d").unwrap_or_default();
                    self.move_netdev(dev, to, None).or_else(|_| self.move_netdev(dev, to, Some(&name))).is_ok()
                });
            if !moved {
                self.unregister_netdev(dev);
            }
        }
        let left: Vec<NeighId> = self.ns.get(ns).map(|n| n.neigh_table.iter().collect()).unwrap_or_default();
        left.into_iter().for_each(|id| crate::net::core::neighbour::destroy(self, ns, id));
        crate::net::ipv4::reassembly::flush(self, ns);
        crate::net::ipv6::reassembly::flush(self, ns);
        self.ns.remove(ns);
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
