//! Network devices: what each has, and how they are made, addressed and set up (the `ip` commands of a namespace).
use crate::drivers::bridge::{BrPort, Bridge};
use crate::drivers::ifb::Ifb;
use crate::drivers::macvlan::Macvlan;
use crate::drivers::nic::{Nic, NicConfig};
use crate::drivers::tun::Tun;
use crate::drivers::tunnel::{self, Tunnel};
use crate::drivers::veth::Veth;
use crate::drivers::vlan::Vlan;
use crate::drivers::vxlan::Vxlan;
use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::mem::{Gfp, Kind};
use crate::net::Net;
use crate::net::core::features;
pub use crate::net::core::features::Features;
use crate::net::core::napi::NapiConf;
use crate::net::core::rps::{self, RxQueue};
use crate::net::core::skb::{Skb, VlanTag};
use crate::net::core::xdp::Xdp;
use crate::net::ipv4::devconf::{self, InetConf, Written};
pub use crate::net::ipv4::devinet::IfAddr;
use crate::net::ipv4::fib::{RT_TABLE_MAIN, Route, Scope};
use crate::net::ipv4::mcast::McDev;
use crate::net::ipv6::addrconf::Inet6Dev;
use crate::net::sched::{Qdisc, Sched};
use belljar_abi::{self as abi, Errno};
use belljar_wire::Mac;
use belljar_wire::ethernet::ETH_P_8021AD;
use belljar_wire::ipv6::IPV6_MIN_MTU;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// The name of a device, also of one that is not there (yet).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IfName([u8; 16]);

impl IfName {
    /// Up to 15 bytes of it.
    pub fn new(name: &str) -> IfName {
        let mut b = [0; 16];
        b.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
        IfName(b)
    }

    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        self.0.get(..len).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
    }
}

impl std::fmt::Debug for IfName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Devices that a namespace has room for: what a program makes takes memory of the machine.
const MOST_DEVICES: usize = 4096;

/// What a device may be called (`dev_valid_name`).
pub fn valid_name(name: &str) -> bool {
    let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && !name.contains(strange)
}

/// Which kind of hardware, or none.
#[derive(Clone, Debug)]
pub enum DevKind {
    Loopback,
    Nic(Box<Nic>),
    Tun(Box<Tun>),
    /// Takes everything and sends nothing.
    Dummy,
    Veth(Veth),
    Bridge(Box<Bridge>),
    Vlan(Box<Vlan>),
    Macvlan(Macvlan),
    Vxlan(Box<Vxlan>),
    Ifb(Box<Ifb>),
    Tunnel(Box<Tunnel>),
}

/// Interface counters (`/proc/net/dev`, `ip -s link`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevStats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    /// The receive ring was full.
    pub rx_missed: u64,
    pub rx_fifo: u64,
    pub rx_crc: u64,
    pub rx_frame: u64,
    pub collisions: u64,
    pub multicast: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
    pub tx_carrier: u64,
}

impl DevStats {
    pub fn rx(&mut self, packets: u64, bytes: u64) {
        self.rx_packets += packets;
        self.rx_bytes += bytes;
    }

    pub fn tx(&mut self, packets: u64, bytes: u64) {
        self.tx_packets += packets;
        self.tx_bytes += bytes;
    }
}

/// The netmask of a prefix length.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NetDevice {
    pub ns: NsId,
    pub name: String,
    pub ifindex: u32,
    pub mtu: u32,
    pub mac: Mac,
    /// IFF_UP.
    pub up: bool,
    /// The other end is there (IFF_LOWER_UP).
    pub carrier: bool,
    /// How often that came, and went.
    pub carrier_changes: [u32; 2],
    /// How often somebody asked for every frame (IFF_PROMISC), and for every group's (IFF_ALLMULTI).
    pub promiscuity: u32,
    pub allmulti: u32,
    /// Of these two what was set as a flag of the device (SIOCSIFFLAGS): `ip link` shows no more.
    pub gflags: u32,
    /// Groups of packet sockets.
    pub packet_groups: Vec<[u8; 6]>,
    /// Addresses of hosts beside its own (`bridge fdb add … self`).
    pub uc: Vec<Mac>,
    pub kind: DevKind,
    /// The bridge that it is a port of.
    pub master: Option<DevId>,
    /// Devices that were made on top of this one, oldest first.
    pub uppers: Vec<DevId>,
    /// Of these the VLANs, by protocol and number; and whether others take frames by their addresses.
    pub vlans: BTreeMap<(u16, u16), DevId>,
    pub macvlan_port: bool,
    /// Chains of nf_tables stand there (the family netdev).
    pub nf_netdev: bool,
    /// As a port of a bridge.
    pub brport: Option<Box<BrPort>>,
    pub group: u32,
    pub alias: Option<String>,
    /// IFF_NOARP and the absence of IFF_MULTICAST, where they are not the hardware's.
    pub iff_noarp: bool,
    pub no_multicast: bool,
    /// Flags that are shown and mean nothing to the stack (IFF_DEBUG, IFF_NOTRAILERS, IFF_DYNAMIC, …).
    pub iff_more: u32,
    pub features: Features,
    /// Bits that somebody asked for ([`features`](super::features)).
    pub wanted_features: Option<u64>,
    pub stats: DevStats,
    pub qdisc: Sched,
    pub tx_queue_len: u32,
    /// Transmit queues whose ring is full: packets wait in the qdisc (`__QUEUE_STATE_DRV_XOFF`).
    pub xoff: u32,
    /// Transmit queues in use (`real_num_tx_queues`).
    pub tx_queues: u16,
    /// Steering of what it receives; empty until somebody sets it.
    pub rx_queues: Vec<RxQueue>,
    pub napi: NapiConf,
    pub xdp: Option<Box<Xdp>>,
    /// It waits in a CPU's output queue for NET_TX.
    pub scheduled: bool,
    pub addrs: Vec<IfAddr>,
    /// What counts, and what was written for this device alone.
    pub conf: InetConf,
    pub conf_own: Written,
    pub inet6: Inet6Dev,
    pub neigh: super::neighbour::NeighDev,
    /// Groups that somebody here is a member of.
    pub mc: McDev,
    /// When its last packet was handed to the driver.
    pub trans_start: Nanos,
}

impl NetDevice {
    /// What it takes is copied at once: it goes to a program of this machine or to a local socket (`skb_orphan_frags_rx`).
    pub fn copies(&self) -> bool {
        self.features.orphan || self.is_loopback()
    }

    pub fn is_loopback(&self) -> bool {
        matches!(self.kind, DevKind::Loopback)
    }

    pub fn nic(&self) -> Option<&Nic> {
        match &self.kind {
            DevKind::Nic(n) => Some(n),
            _ => None,
        }
    }

    pub fn nic_mut(&mut self) -> Option<&mut Nic> {
        match &mut self.kind {
            DevKind::Nic(n) => Some(n),
            _ => None,
        }
    }

    /// It keeps nothing waiting and needs no queue (IFF_NO_QUEUE).
    pub fn is_noqueue(&self) -> bool {
        match &self.kind {
            DevKind::Nic(_) | DevKind::Tun(_) | DevKind::Ifb(_) => false,
            DevKind::Tunnel(t) => t.kind != tunnel::Kind::Gretap,
            _ => true,
        }
    }

    /// A TUN device, whose packets somebody reads, or a tunnel of packets: no link layer.
    pub fn is_pointopoint(&self) -> bool {
        match &self.kind {
            DevKind::Tun(t) => !t.tap,
            DevKind::Tunnel(t) => t.kind != tunnel::Kind::Gretap,
            _ => false,
        }
    }

    /// The ends of a tunnel that has no link layer, which stand where others have hardware addresses.
    pub fn ends(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match &self.kind {
            DevKind::Tunnel(t) if t.kind != tunnel::Kind::Gretap => Some((t.local, t.remote)),
            _ => None,
        }
    }

    /// Nobody is asked for hardware addresses there (IFF_NOARP).
    pub fn noarp(&self) -> bool {
        self.is_loopback() || self.is_pointopoint() || self.iff_noarp
    }

    /// What IFLA_INFO_KIND and `ip -d link` call it; hardware has none.
    pub fn info_kind(&self) -> Option<&'static str> {
        Some(match &self.kind {
            DevKind::Loopback | DevKind::Nic(_) => return None,
            DevKind::Tun(_) => "tun",
            DevKind::Dummy => "dummy",
            DevKind::Veth(_) => "veth",
            DevKind::Bridge(_) => "bridge",
            DevKind::Vlan(_) => "vlan",
            DevKind::Macvlan(_) => "macvlan",
            DevKind::Vxlan(_) => "vxlan",
            DevKind::Ifb(_) => "ifb",
            DevKind::Tunnel(t) => t.kind.name(),
        })
    }

    /// The device that it sends through or is joined to (`dev_get_iflink`).
    pub fn iflink(&self) -> Option<DevId> {
        match &self.kind {
            DevKind::Veth(v) => v.peer,
            DevKind::Vxlan(_) => None,
            _ => self.lower(),
        }
    }

    /// The device that it was made on top of.
    pub fn lower(&self) -> Option<DevId> {
        match &self.kind {
            DevKind::Vlan(v) => Some(v.lower),
            DevKind::Macvlan(m) => Some(m.lower),
            DevKind::Vxlan(v) => v.lower,
            DevKind::Tunnel(t) => t.lower,
            _ => None,
        }
    }

    /// It sends frames with a tag beside them, and hands them to its other end so (NETIF_F_HW_VLAN_CTAG_TX).
    pub fn keeps_vlan_tag(&self, tag: VlanTag) -> bool {
        let on = if tag.proto == ETH_P_8021AD { self.features.stag_tx } else { self.features.vlan_tx };
        on && matches!(self.kind, DevKind::Veth(_) | DevKind::Bridge(_) | DevKind::Nic(_))
    }

    /// The smallest and largest MTU; 0: no limit but that of the number.
    pub fn mtu_range(&self) -> (u32, u32) {
        match self.kind {
            DevKind::Loopback | DevKind::Dummy | DevKind::Ifb(_) => (0, 0),
            DevKind::Vlan(_) => (0, 65_535),
            DevKind::Macvlan(m) => m.mtus,
            DevKind::Tunnel(ref t) => match t.kind {
                tunnel::Kind::Sit => (1280, 65_555),
                tunnel::Kind::Gretap => (68, 0),
                _ => (0, 0),
            },
            _ => (68, 65_535),
        }
    }

    /// `IFF_*` as programs see them.
    #[doc(alias = "dev_get_flags")]
    pub fn flags(&self) -> u32 {
        let bare = self.is_pointopoint();
        let ptp = bare && self.ends().is_none_or(|(_, remote)| !remote.is_unspecified());
        let bits = [
            (self.up, abi::IFF_UP),
            (!self.is_loopback() && !bare, abi::IFF_BROADCAST),
            (self.is_loopback(), abi::IFF_LOOPBACK),
            (ptp, abi::IFF_POINTOPOINT),
            (self.running(), abi::IFF_RUNNING | abi::IFF_LOWER_UP),
            (bare || self.iff_noarp, abi::IFF_NOARP),
            (!self.no_multicast, abi::IFF_MULTICAST),
        ];
        bits.into_iter().filter(|b| b.0).fold(self.gflags | self.iff_more, |all, b| all | b.1)
    }

    /// `IF_OPER_*` (RFC 2863): of a device that nobody watches the link of, nothing is known.
    pub fn operstate(&self) -> u8 {
        let unwatched = matches!(
            self.kind,
            DevKind::Loopback | DevKind::Dummy | DevKind::Vxlan(_) | DevKind::Ifb(_) | DevKind::Tunnel(_)
        );
        match (self.up, self.carrier) {
            (true, true) if unwatched => abi::IF_OPER_UNKNOWN,
            (true, true) => abi::IF_OPER_UP,
            (true, false) if self.iflink().is_some() => abi::IF_OPER_LOWERLAYERDOWN,
            _ => abi::IF_OPER_DOWN,
        }
    }

    /// IPv6 is on, and the link carries what it wants to be carried (RFC 8200 §5).
    pub fn speaks_ipv6(&self) -> bool {
        self.inet6.enabled() && self.mtu >= IPV6_MIN_MTU
    }

    /// Transmit queues that it was made with.
    pub fn num_tx_queues(&self) -> u16 {
        self.nic().map_or(1, |n| n.queues.len() as u16)
    }

    /// No queue takes anything.
    #[inline]
    pub fn all_stopped(&self) -> bool {
        self.xoff != 0 && self.xoff.trailing_ones() >= self.tx_queues.into()
    }

    /// The ring of one of the transmit queues is full.
    #[inline]
    pub fn stopped(&self, queue: u16) -> bool {
        self.xoff & 1 << (queue & 31) != 0
    }

    /// Up and connected: packets can go out.
    pub fn running(&self) -> bool {
        self.up && self.carrier
    }

    /// The address that packets without one take on the way to `to` (`inet_select_addr`, `confirm` left out).
    #[doc(alias = "inet_select_addr")]
    pub fn select_addr(&self, to: Ipv4Addr, scope: Scope) -> Option<Ipv4Addr> {
        let usable = || self.addrs.iter().filter(move |a| !a.secondary && a.scope <= scope);
        usable().find(|a| to.is_unspecified() || a.covers(to)).or_else(|| usable().next()).map(|a| a.local)
    }
}

impl Net {
    /// The device with this name or number in a namespace.
    pub fn dev_by_name(&self, ns: NsId, name: &str) -> Option<DevId> {
        self.ns_devs(ns).find(|id| self.devs.get(*id).is_some_and(|d| d.name == name))
    }

    pub fn dev_by_index(&self, ns: NsId, ifindex: u32) -> Option<DevId> {
        self.ns_devs(ns).find(|id| self.devs.get(*id).is_some_and(|d| d.ifindex == ifindex))
    }

    pub fn ns_devs(&self, ns: NsId) -> impl Iterator<Item = DevId> + '_ {
        self.ns.get(ns).into_iter().flat_map(|n| n.devs.iter().copied())
    }

    /// Packets in the queues below the sockets, for `check()`.
    pub(crate) fn held_skbs(&self) -> impl Iterator<Item = &Skb> {
        let rings = self.devs.iter().filter_map(|(_, d)| d.nic()).flat_map(|n| &n.queues).flat_map(|q| q.skbs());
        let tuns = self.devs.iter().filter_map(|(_, d)| match &d.kind {
            DevKind::Tun(t) => Some(t.skbs()),
            _ => None,
        });
        let veths = self.devs.iter().filter_map(|(_, d)| match &d.kind {
            DevKind::Veth(v) => v.rx.as_deref(),
            _ => None,
        });
        let veths = veths.flat_map(|r| r.skbs());
        let ifbs = self.devs.iter().filter_map(|(_, d)| match &d.kind {
            DevKind::Ifb(i) => Some(i.skbs()),
            _ => None,
        });
        let waiting = ifbs.flatten().chain(self.tc.acts.way.skbs());
        let qdiscs = self.devs.iter().flat_map(|(_, d)| d.qdisc.skbs());
        let backlog = self.cpus.iter().flat_map(|c| c.input_pkt_queue.iter().chain(&c.process_queue));
        let neighs = self.ns.iter().flat_map(|(_, n)| n.neighs.iter()).flat_map(|(_, n)| n.skbs());
        let frags = self.ns.iter().flat_map(|(_, n)| n.frags.iter()).flat_map(|(_, q)| q.pieces.skbs());
        let frags6 = self.ns.iter().flat_map(|(_, n)| n.v6.frags.skbs());
        rings
            .chain(tuns.flatten())
            .chain(veths)
            .chain(waiting)
            .chain(qdiscs)
            .chain(backlog)
            .chain(neighs)
            .chain(frags)
            .chain(frags6)
    }

    pub(crate) fn register_netdev(&mut self, ns: NsId, name: &str, mtu: u32, kind: DevKind) -> Result<DevId, Errno> {
        if !valid_name(name) {
            return Err(Errno::EINVAL);
        }
        if self.dev_by_name(ns, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let space = self.ns.get(ns).ok_or(Errno::ENODEV)?;
        if space.devs.len() >= MOST_DEVICES {
            return Err(Errno::ENFILE);
        }
        if !self.mem.room(Kind::NetDevice, &self.devs, Gfp::Kernel) {
            return Err(Errno::ENOMEM);
        }
        let ifindex = self.new_ifindex(ns);
        let rx_queues = rps::first_queues(self, ns);
        let space = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        let loopback = matches!(&kind, DevKind::Loopback);
        let private = !loopback && !matches!(&kind, DevKind::Tun(t) if !t.tap);
        let dev = NetDevice {
            ns,
            name: name.to_owned(),
            ifindex,
            mtu,
            mac: Mac::ZERO,
            up: false,
            carrier: true,
            carrier_changes: [0; 2],
            promiscuity: 0,
            allmulti: 0,
            gflags: 0,
            packet_groups: Vec::new(),
            uc: Vec::new(),
            kind,
            master: None,
            uppers: Vec::new(),
            vlans: BTreeMap::new(),
            macvlan_port: false,
            nf_netdev: false,
            brport: None,
            group: 0,
            alias: None,
            iff_noarp: false,
            no_multicast: loopback,
            iff_more: 0,
            features: Features::ALL,
            wanted_features: None,
            stats: DevStats::default(),
            qdisc: Sched::new(Qdisc::noop()),
            tx_queue_len: 1000,
            xoff: 0,
            tx_queues: 1,
            rx_queues,
            napi: NapiConf::default(),
            xdp: None,
            scheduled: false,
            addrs: Vec::new(),
            conf: devconf::effective(&space.conf_all, &space.conf_default),
            conf_own: space.conf_default,
            mc: McDev::default(),
            inet6: Inet6Dev::new(space.v6.conf_default, private),
            neigh: Default::default(),
            trans_start: 0,
        };
        let id = self.devs.insert(dev);
        self.list_netdev(ns, id);
        Ok(id)
    }

    /// The next number; one that is taken is passed over.
    #[doc(alias = "dev_new_index")]
    pub(crate) fn new_ifindex(&mut self, ns: NsId) -> u32 {
        let mut index = self.ns.get(ns).map_or(0, |n| n.last_ifindex);
        loop {
            index = if index >= i32::MAX as u32 { 1 } else { index + 1 };
            if self.dev_by_index(ns, index).is_none() {
                if let Some(n) = self.ns.get_mut(ns) {
                    n.last_ifindex = index;
                }
                return index;
            }
        }
    }

    /// `veth%d`: the first number that makes a free name; other names are taken as they are.
    #[doc(alias = "dev_alloc_name")]
    pub fn alloc_name(&self, ns: NsId, template: &str) -> Result<String, Errno> {
        let name = match template.split_once("%d") {
            None => template.to_owned(),
            Some((a, b)) => (0..MOST_DEVICES)
                .map(|n| format!("{a}{n}{b}"))
                .find(|n| self.dev_by_name(ns, n).is_none())
                .ok_or(Errno::ENFILE)?,
        };
        if valid_name(&name) { Ok(name) } else { Err(Errno::EINVAL) }
    }

    pub(crate) fn rt_cache_flush(&mut self, ns: NsId) {
        if let Some(n) = self.ns.get_mut(ns) {
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    /// `ip route add PREFIX via GATEWAY dev DEV`; EEXIST for the same destination and metric.
    pub fn add_route(&mut self, ns: NsId, dst: Ipv4Addr, prefix: u8, route: Route) -> Result<(), Errno> {
        self.add_route_to(ns, RT_TABLE_MAIN, dst, prefix, &mut [route])
    }

    /// `ip route del PREFIX`: the first that fits; ESRCH when none does.
    pub fn del_route(&mut self, ns: NsId, dst: Ipv4Addr, prefix: u8, dev: Option<DevId>) -> Result<(), Errno> {
        self.del_route_of(ns, RT_TABLE_MAIN, dst, prefix, |r| dev.is_none() || r.dev == dev)
    }
}

impl Kernel {
    /// A NIC, down and without addresses.
    pub fn add_nic(&mut self, ns: NsId, config: &NicConfig) -> Result<DevId, Errno> {
        let nic = Nic::new(config)?;
        let id = self.net.register_netdev(ns, &config.name, config.mtu, DevKind::Nic(Box::new(nic)))?;
        self.net.request_vectors(id);
        if let Some(d) = self.net.devs.get_mut(id) {
            d.tx_queues = config.channels as u16;
            d.mac = config.mac;
            features::of_card(d, config.features);
        }
        Ok(id)
    }

    pub fn add_address(&mut self, dev: DevId, local: Ipv4Addr, prefix: u8) -> Result<(), Errno> {
        self.net.add_address(dev, local, prefix)
    }

    /// `ip route add DST/PREFIX [via VIA] [dev DEV]`.
    pub fn add_route(
        &mut self,
        ns: NsId,
        dst: Ipv4Addr,
        prefix: u8,
        via: Option<Ipv4Addr>,
        dev: Option<DevId>,
    ) -> Result<(), Errno> {
        self.net.add_route(ns, dst, prefix, Route::unicast(via, dev))
    }

    pub fn set_link(&mut self, dev: DevId, up: bool) -> Result<(), Errno> {
        self.net.set_link(dev, up)
    }
}
