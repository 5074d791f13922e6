//! Network devices: what each has, and how they are made, addressed and set up (the `ip` commands of a namespace).
use crate::drivers::nic::{Nic, NicConfig};
use crate::drivers::tun::Tun;
use crate::env::Nanos;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::neighbour;
use crate::net::core::skb::Skb;
use crate::net::ipv4::devconf;
use crate::net::ipv4::fib::{RT_TABLE_MAIN, Route, RouteType, Scope};
use crate::net::ipv4::mcast::{self, McDev};
use crate::net::ipv6::addrconf::Inet6Dev;
use crate::net::packet::bind::NetdevEvent;
use crate::net::sched::Qdisc;
use belljar_abi::Errno;
use belljar_wire::Mac;
use belljar_wire::ipv6::IPV6_MIN_MTU;
use core::net::Ipv4Addr;

/// Which kind of hardware, or none.
#[derive(Clone, Debug)]
pub enum DevKind {
    Loopback,
    Nic(Box<Nic>),
    Tun(Box<Tun>),
}

/// Offloads (`ethtool -k`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// tcp-segmentation-offload: super-segments go out whole.
    pub tso: bool,
    /// tx-checksumming: partial checksums go out as they are.
    pub tx_csum: bool,
    /// rx-checksumming: the device says which checksums are good.
    pub rx_csum: bool,
    /// generic-receive-offload; without it super-segments are cut on arrival.
    pub gro: bool,
    /// The driver lets go of the sender as it takes a packet (`skb_orphan`, as TUN does): what lies below counts against no
    /// TCP socket.
    pub orphan: bool,
}

impl Features {
    pub const ALL: Features = Features { tso: true, tx_csum: true, rx_csum: true, gro: true, orphan: false };
    pub const NONE: Features = Features { tso: false, tx_csum: false, rx_csum: false, gro: false, orphan: false };
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

/// An address of an interface (`struct in_ifaddr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfAddr {
    pub local: Ipv4Addr,
    pub prefix: u8,
    /// None unless given: `ip addr add` without `brd` sets none.
    pub broadcast: Option<Ipv4Addr>,
    pub scope: Scope,
    /// Another address of the same subnet was there before.
    pub secondary: bool,
}

impl IfAddr {
    /// The last address of its subnet, which is everybody there.
    fn subnet_broadcast(&self) -> Option<Ipv4Addr> {
        (self.prefix < 31 && self.prefix > 0).then(|| Ipv4Addr::from_bits(self.local.to_bits() | !mask(self.prefix)))
    }

    pub fn covers(&self, addr: Ipv4Addr) -> bool {
        (addr.to_bits() ^ self.local.to_bits()) & mask(self.prefix) == 0
    }
}

/// The netmask of a prefix length.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// Settings of one interface (`net.ipv4.conf.IF.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetConf {
    pub forwarding: bool,
    pub rp_filter: u8,
    pub accept_local: bool,
    pub route_localnet: bool,
    pub accept_source_route: bool,
    pub send_redirects: bool,
    pub arp_ignore: u8,
    pub arp_announce: u8,
    pub arp_accept: u8,
    pub arp_notify: bool,
    pub proxy_arp: bool,
    pub arp_filter: bool,
    pub drop_gratuitous_arp: bool,
    pub drop_unicast_in_l2_multicast: bool,
    pub accept_redirects: bool,
    pub secure_redirects: bool,
    pub shared_media: bool,
    /// 1 to 3: speak no other version of IGMP; how far apart reports are that nobody asked for, in milliseconds.
    pub force_igmp_version: u8,
    pub igmpv2_unsolicited_ms: u32,
    pub igmpv3_unsolicited_ms: u32,
}

impl InetConf {
    /// `all` at first: source routes are taken only if both it and the device say so.
    pub const ALL: InetConf = InetConf { accept_source_route: false, ..InetConf::DEFAULT };
}

impl Default for InetConf {
    fn default() -> InetConf {
        InetConf::DEFAULT
    }
}

impl InetConf {
    const DEFAULT: InetConf = {
        InetConf {
            forwarding: false,
            rp_filter: 0,
            accept_local: false,
            route_localnet: false,
            accept_source_route: true,
            accept_redirects: true,
            secure_redirects: true,
            send_redirects: true,
            shared_media: true,
            arp_filter: false,
            drop_gratuitous_arp: false,
            drop_unicast_in_l2_multicast: false,
            arp_ignore: 0,
            arp_announce: 0,
            arp_accept: 0,
            arp_notify: false,
            proxy_arp: false,
            force_igmp_version: 0,
            igmpv2_unsolicited_ms: 10_000,
            igmpv3_unsolicited_ms: 1000,
        }
    };
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
    /// How often somebody asked for every frame (IFF_PROMISC), and for every group's (IFF_ALLMULTI).
    pub promiscuity: u32,
    pub allmulti: u32,
    /// Of these two what was set as a flag of the device (SIOCSIFFLAGS): `ip link` shows no more.
    pub gflags: u32,
    /// Groups of packet sockets.
    pub packet_groups: Vec<[u8; 6]>,
    pub kind: DevKind,
    pub features: Features,
    pub stats: DevStats,
    pub qdisc: Qdisc,
    pub tx_queue_len: u32,
    /// The driver's ring is full: packets wait in the qdisc (`__QUEUE_STATE_DRV_XOFF`).
    pub stopped: bool,
    /// It waits in a CPU's output queue for NET_TX.
    pub scheduled: bool,
    pub addrs: Vec<IfAddr>,
    /// What counts, and what was written for this device alone.
    pub conf: InetConf,
    pub conf_own: InetConf,
    pub inet6: Inet6Dev,
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

    /// A TUN device: no link layer, somebody reads its packets.
    pub fn is_pointopoint(&self) -> bool {
        matches!(&self.kind, DevKind::Tun(t) if !t.tap)
    }

    /// Nobody is asked for hardware addresses there (IFF_NOARP).
    pub fn noarp(&self) -> bool {
        self.is_loopback() || self.is_pointopoint()
    }

    /// IPv6 is on, and the link carries what it wants to be carried (RFC 8200 §5).
    pub fn speaks_ipv6(&self) -> bool {
        self.inet6.enabled() && self.mtu >= IPV6_MIN_MTU
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
        let rings = self.devs.iter().filter_map(|(_, d)| d.nic()).flat_map(|n| n.tx.skbs());
        let tuns = self.devs.iter().filter_map(|(_, d)| match &d.kind {
            DevKind::Tun(t) => Some(t.skbs()),
            _ => None,
        });
        let qdiscs = self.devs.iter().flat_map(|(_, d)| d.qdisc.skbs());
        let backlog = self.cpus.iter().flat_map(|c| c.input_pkt_queue.iter().chain(&c.process_queue));
        let neighs = self.ns.iter().flat_map(|(_, n)| n.neighs.iter()).flat_map(|(_, n)| n.skbs());
        let frags = self.ns.iter().flat_map(|(_, n)| n.frags.iter()).flat_map(|(_, q)| q.pieces.skbs());
        let frags6 = self.ns.iter().flat_map(|(_, n)| n.v6.frags.skbs());
        rings.chain(tuns.flatten()).chain(qdiscs).chain(backlog).chain(neighs).chain(frags).chain(frags6)
    }

    pub(crate) fn register_netdev(&mut self, ns: NsId, name: &str, mtu: u32, kind: DevKind) -> Result<DevId, Errno> {
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']) {
            return Err(Errno::EINVAL);
        }
        if self.dev_by_name(ns, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let space = self.ns.get_mut(ns).ok_or(Errno::ENODEV)?;
        space.last_ifindex += 1;
        let ifindex = space.last_ifindex;
        let loopback = matches!(kind, DevKind::Loopback);
        let dev = NetDevice {
            ns,
            name: name.to_owned(),
            ifindex,
            mtu,
            mac: Mac::ZERO,
            up: false,
            carrier: true,
            promiscuity: 0,
            allmulti: 0,
            gflags: 0,
            packet_groups: Vec::new(),
            kind,
            features: Features::ALL,
            stats: DevStats::default(),
            qdisc: if loopback { Qdisc::Noqueue } else { Qdisc::pfifo_fast() },
            tx_queue_len: 1000,
            stopped: false,
            scheduled: false,
            addrs: Vec::new(),
            conf: devconf::effective(&space.conf_all, &space.conf_default),
            conf_own: space.conf_default,
            mc: McDev::default(),
            inet6: Inet6Dev::new(space.v6.conf_default),
            trans_start: 0,
        };
        let id = self.devs.insert(dev);
        self.ns.get_mut(ns).ok_or(Errno::ENODEV)?.devs.push(id);
        Ok(id)
    }

    pub(crate) fn rt_cache_flush(&mut self, ns: NsId) {
        if let Some(n) = self.ns.get_mut(ns) {
            n.rt_genid = n.rt_genid.wrapping_add(1);
        }
    }

    /// `ip addr add`: EEXIST when it is there already.
    #[doc(alias = "__inet_insert_ifa")]
    pub fn add_address(&mut self, dev: DevId, local: Ipv4Addr, prefix: u8) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        if prefix > 32 || local.is_unspecified() || local.is_multicast() || local.is_broadcast() {
            return Err(Errno::EINVAL);
        }
        if d.addrs.iter().any(|a| a.local == local && a.prefix == prefix) {
            return Err(Errno::EEXIST);
        }
        let scope = if local.is_loopback() { Scope::Host } else { Scope::Universe };
        let secondary = d.addrs.iter().any(|a| a.prefix == prefix && a.covers(local));
        let mut addr = IfAddr { local, prefix, broadcast: None, scope, secondary };
        addr.broadcast = addr.subnet_broadcast().filter(|_| !d.noarp());
        d.addrs.push(addr);
        let up = d.up;
        self.fib_add_ifaddr(dev, addr, up);
        Ok(())
    }

    /// `ip addr del`.
    pub fn del_address(&mut self, dev: DevId, local: Ipv4Addr, prefix: u8) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let ns = d.ns;
        let at = d.addrs.iter().position(|a| a.local == local && a.prefix == prefix).ok_or(Errno::EADDRNOTAVAIL)?;
        let gone = d.addrs.remove(at);
        // promote_secondaries is 0: with the primary address its secondaries go.
        let mut dead = vec![gone];
        if !gone.secondary {
            dead.extend(d.addrs.iter().filter(|a| a.secondary && a.prefix == prefix && a.covers(local)));
            d.addrs.retain(|a| !(a.secondary && a.prefix == prefix && a.covers(local)));
        }
        let elsewhere = |net: &Net, a: Ipv4Addr| {
            net.ns_devs(ns).any(|id| net.devs.get(id).is_some_and(|d| d.addrs.iter().any(|x| x.local == a)))
        };
        for a in dead {
            self.masq_gone(dev, Some(a.local.to_bits().into()));
            let still = elsewhere(self, a.local);
            if let Some(n) = self.ns.get_mut(ns) {
                let mine = |r: &Route| r.dev == Some(dev);
                if !still {
                    n.fib.local.remove(a.local, 32, |r| mine(r) && r.kind == RouteType::Local);
                }
                if let Some(b) = a.subnet_broadcast() {
                    n.fib.local.remove(b, 32, |r| mine(r) && r.kind == RouteType::Broadcast && r.src == Some(a.local));
                }
                n.fib.local.remove(a.local, a.prefix, |r| mine(r) && r.src == Some(a.local) && a.scope == Scope::Host);
                n.fib.forget_dev(|r| mine(r) && r.src == Some(a.local));
            }
        }
        self.rt_cache_flush(ns);
        Ok(())
    }

    /// The routes that come with an address: itself in the local table; its subnet and broadcast while the device is up.
    fn fib_add_ifaddr(&mut self, dev: DevId, a: IfAddr, up: bool) {
        let Some((ns, loopback)) = self.devs.get(dev).map(|d| (d.ns, d.is_loopback())) else { return };
        let Some(n) = self.ns.get_mut(ns) else { return };
        let route = |kind, scope| Route {
            kind,
            dev: Some(dev),
            gateway: None,
            src: Some(a.local),
            metric: 0,
            scope,
            proto: Route::PROTO_KERNEL,
            mtu: None,
            group: 0,
            weight: 1,
        };
        if up || !loopback {
            n.fib.local.insert(a.local, 32, route(RouteType::Local, Scope::Host));
        }
        if up {
            if let Some(b) = a.subnet_broadcast() {
                n.fib.local.insert(b, 32, route(RouteType::Broadcast, Scope::Link));
            }
            if a.prefix < 32 && !a.secondary {
                if loopback {
                    n.fib.local.insert(a.local, a.prefix, route(RouteType::Local, Scope::Host));
                } else {
                    n.fib.main.insert(a.local, a.prefix, route(RouteType::Unicast, Scope::Link));
                }
            }
        }
        self.rt_cache_flush(ns);
    }

    /// `ip route add PREFIX via GATEWAY dev DEV`; EEXIST for the same destination and metric.
    pub fn add_route(&mut self, ns: NsId, dst: Ipv4Addr, prefix: u8, route: Route) -> Result<(), Errno> {
        self.add_route_to(ns, RT_TABLE_MAIN, dst, prefix, &mut [route])
    }

    /// `ip route del PREFIX`: the first that fits; ESRCH when none does.
    pub fn del_route(&mut self, ns: NsId, dst: Ipv4Addr, prefix: u8, dev: Option<DevId>) -> Result<(), Errno> {
        self.del_route_of(ns, RT_TABLE_MAIN, dst, prefix, |r| dev.is_none() || r.dev == dev)
    }

    /// `ip link set DEV up|down`.
    #[doc(alias = "dev_change_flags")]
    pub fn set_link(&mut self, dev: DevId, up: bool) -> Result<(), Errno> {
        if self.devs.get(dev).ok_or(Errno::ENODEV)?.up == up {
            return Ok(());
        }
        self.netdev_event(dev, if up { NetdevEvent::Up } else { NetdevEvent::Down });
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        d.up = up;
        let (ns, loopback) = (d.ns, d.is_loopback());
        if !up {
            self.masq_gone(dev, None);
            self.qdisc_purge(dev);
            neighbour::ifdown(self, ns, dev);
            crate::net::ipv4::igmp::down(self, dev);
            if let Some(n) = self.ns.get_mut(ns) {
                // Local addresses stay known; what leads out of the device goes.
                n.fib.forget_dev(|r| r.dev == Some(dev));
                n.fib.local.remove_all(|r| r.dev == Some(dev) && r.kind == RouteType::Broadcast);
            }
            self.addrconf_down(dev, false);
            self.rt_cache_flush(ns);
            return Ok(());
        }
        let addrs = d.addrs.clone();
        for a in addrs {
            self.fib_add_ifaddr(dev, a, true);
        }
        if loopback && self.devs.get(dev).is_some_and(|d| d.addrs.is_empty()) {
            self.add_address(dev, Ipv4Addr::LOCALHOST, 8)?;
        }
        self.addrconf_up(dev);
        self.rt_cache_flush(ns);
        mcast::up(self, dev);
        if self.devs.get(dev).is_some_and(|d| d.conf.arp_notify) {
            crate::net::ipv4::arp::announce(self, dev);
        }
        Ok(())
    }

    /// Packet sockets follow their devices.
    fn netdev_event(&mut self, dev: DevId, event: NetdevEvent) {
        let Some((ns, ifindex)) = self.devs.get(dev).map(|d| (d.ns, d.ifindex)) else { return };
        if self.ns.get(ns).is_some_and(|n| n.packet.sockets > 0) {
            self.env.rises.push_back(crate::env::Rise::Netdev { ns, ifindex, event });
        }
    }

    /// The device goes away, with its addresses, routes and neighbours; sockets bound to it keep a number that names nothing.
    #[doc(alias = "unregister_netdevice")]
    pub fn unregister_netdev(&mut self, dev: DevId) {
        let _ = self.set_link(dev, false);
        self.netdev_event(dev, NetdevEvent::Unregister);
        while let Some((local, prefix)) = self.devs.get(dev).and_then(|d| d.addrs.first()).map(|a| (a.local, a.prefix))
        {
            let _ = self.del_address(dev, local, prefix);
        }
        let Some(d) = self.devs.remove(dev) else { return };
        if let Some(n) = self.ns.get_mut(d.ns) {
            n.fib.local.remove_all(|r| r.dev == Some(dev));
            n.fib.forget_dev(|r| r.dev == Some(dev));
            n.devs.retain(|id| *id != dev);
        }
        if let DevKind::Tun(t) = d.kind {
            for skb in t.into_skbs() {
                self.kfree_skb(skb, crate::net::drop::DropReason::QueuePurge, "tun_queue_purge");
            }
        }
        self.rt_cache_flush(d.ns);
    }

    /// The other end was plugged in or pulled out: without it nothing waits for better times.
    #[doc(alias = "netif_carrier_on")]
    #[doc(alias = "dev_deactivate")]
    pub fn set_carrier(&mut self, dev: DevId, on: bool) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        d.carrier = on;
        if !on {
            self.qdisc_purge(dev);
        }
    }

    fn qdisc_purge(&mut self, dev: DevId) {
        let held = self.devs.get_mut(dev).map_or_else(Vec::new, |d| d.qdisc.reset());
        for skb in held {
            self.kfree_skb(skb, crate::net::drop::DropReason::QueuePurge, "qdisc_reset");
        }
    }

    /// `ip link set DEV txqueuelen N`.
    pub fn set_txqlen(&mut self, dev: DevId, packets: u32) -> Result<(), Errno> {
        self.devs.get_mut(dev).ok_or(Errno::ENODEV)?.tx_queue_len = packets;
        Ok(())
    }

    /// `ip link set DEV mtu N`; below 68 IPv4 is impossible.
    pub fn set_mtu(&mut self, dev: DevId, mtu: u32) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        if !(68..=65_536).contains(&mtu) {
            return Err(Errno::EINVAL);
        }
        let (before, ns, up) = (std::mem::replace(&mut d.mtu, mtu), d.ns, d.up);
        // Below 1280 there is no IPv6 (RFC 8200 §5).
        match (before >= IPV6_MIN_MTU, mtu >= IPV6_MIN_MTU) {
            (true, false) => self.addrconf_down(dev, true),
            (false, true) if up => self.addrconf_up(dev),
            _ => {}
        }
        self.rt_cache_flush(ns);
        Ok(())
    }
}

impl Kernel {
    /// A NIC, down and without addresses.
    pub fn add_nic(&mut self, ns: NsId, config: &NicConfig) -> Result<DevId, Errno> {
        let nic = Nic::new(config)?;
        let id = self.net.register_netdev(ns, &config.name, config.mtu, DevKind::Nic(Box::new(nic)))?;
        if let Some(d) = self.net.devs.get_mut(id) {
            d.mac = config.mac;
            d.features = config.features;
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
