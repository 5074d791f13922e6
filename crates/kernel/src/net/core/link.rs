//! What is done to a device: up and down, carrier, MTU, name, address, and its end.
use crate::drivers::{bridge, macvlan, stacked, veth};
use crate::env::Rise;
use crate::ids::{DevId, NsId};
use crate::net::Net;
use crate::net::core::dev::{DevKind, IfName, NetDevice, valid_name};
use crate::net::core::{features, napi, neighbour};
use crate::net::drop::DropReason;
use crate::net::ipv4::fib::RouteType;
use crate::net::ipv4::{arp, igmp, mcast};
use crate::net::netfilter::nft::netdev;
use crate::net::netlink::notify;
use crate::net::packet::bind::NetdevEvent;
use belljar_abi::rtnetlink::{RTM_DELLINK, RTM_NEWLINK};
use belljar_abi::{Errno, IF_OPER_DOWN, IF_OPER_LOWERLAYERDOWN};
use belljar_wire::Mac;
use belljar_wire::ipv6::IPV6_MIN_MTU;
use core::net::Ipv4Addr;

impl Net {
    /// The state of a device as it is told: what it stands on is looked for by its number, in the device's own namespace.
    #[doc(alias = "default_operstate")]
    pub fn operstate(&self, d: &NetDevice) -> u8 {
        let said = d.operstate();
        if said != IF_OPER_LOWERLAYERDOWN {
            return said;
        }
        let number = d.iflink().and_then(|l| self.devs.get(l)).map_or(d.ifindex, |l| l.ifindex);
        let below = self.dev_by_index(d.ns, number).and_then(|l| self.devs.get(l)).filter(|l| l.ifindex != d.ifindex);
        if below.is_some_and(|l| !l.carrier) { said } else { IF_OPER_DOWN }
    }

    /// `ip link set DEV up|down`.
    #[doc(alias = "dev_change_flags")]
    pub fn set_link(&mut self, dev: DevId, up: bool) -> Result<(), Errno> {
        if self.devs.get(dev).ok_or(Errno::ENODEV)?.up == up {
            return Ok(());
        }
        if up {
            stacked::open(self, dev)?;
        }
        self.netdev_event(dev, if up { NetdevEvent::Up } else { NetdevEvent::Down });
        let done = if up { self.dev_open(dev) } else { self.dev_close(dev) };
        stacked::lower_updown(self, dev, up);
        self.follow_link(dev);
        done
    }

    #[doc(alias = "__dev_close")]
    fn dev_close(&mut self, dev: DevId) -> Result<(), Errno> {
        stacked::stop(self, dev);
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        d.up = false;
        let ns = d.ns;
        self.masq_gone(dev, None);
        self.qdisc_purge(dev);
        notify::link(self, RTM_NEWLINK, dev);
        neighbour::ifdown(self, ns, dev);
        self.pneigh_ifdown(ns, dev, false);
        igmp::down(self, dev);
        self.nexthop_flush_dev(ns, dev);
        if let Some(n) = self.ns.get_mut(ns) {
            // Local addresses stay known; what leads out of the device goes.
            n.fib.forget_dev(|r| r.dev == Some(dev));
            n.fib.local.remove_all(|r| r.dev == Some(dev) && r.kind == RouteType::Broadcast);
        }
        self.addrconf_down(dev, false);
        self.rt_cache_flush(ns);
        Ok(())
    }

    #[doc(alias = "__dev_open")]
    fn dev_open(&mut self, dev: DevId) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        d.up = true;
        let (ns, loopback) = (d.ns, d.is_loopback());
        let addrs = d.addrs.clone();
        self.attach_default_qdisc(dev);
        notify::link(self, RTM_NEWLINK, dev);
        for a in addrs {
            self.fib_add_ifaddr(dev, a, true);
        }
        if loopback && self.devs.get(dev).is_some_and(|d| d.addrs.is_empty()) {
            self.add_address(dev, Ipv4Addr::LOCALHOST, 8)?;
        }
        self.addrconf_open(dev);
        self.rt_cache_flush(ns);
        mcast::up(self, dev);
        if self.devs.get(dev).is_some_and(|d| d.conf.arp_notify) {
            arp::announce(self, dev);
        }
        Ok(())
    }

    /// The devices whose carrier depends on this one.
    #[doc(alias = "netif_stacked_transfer_operstate")]
    pub(crate) fn follow_link(&mut self, dev: DevId) {
        veth::follow(self, dev);
        stacked::follow(self, dev);
        if self.devs.get(dev).is_some_and(|d| matches!(d.kind, DevKind::Bridge(_))) {
            bridge::follow(self, dev);
        }
        if let Some(br) = self.devs.get(dev).and_then(|d| d.master) {
            bridge::follow(self, br);
        }
    }

    /// Packet sockets follow their devices.
    fn netdev_event(&mut self, dev: DevId, event: NetdevEvent) {
        let Some((ns, ifindex)) = self.devs.get(dev).map(|d| (d.ns, d.ifindex)) else { return };
        if !self.xsk.is_empty() || self.ns.get(ns).is_some_and(|n| n.packet.sockets > 0) {
            self.env.rises.push_back(Rise::Netdev { ns, ifindex, event });
        }
    }

    /// A device goes away, with its addresses, routes and neighbours; sockets bound to it keep a number that names nothing.
    /// Its ports are free, its other end goes as well.
    #[doc(alias = "unregister_netdevice")]
    pub fn unregister_netdev(&mut self, dev: DevId) {
        let peer = veth::part(self, dev);
        self.unregister_one(dev);
        if let Some(peer) = peer {
            self.unregister_one(peer);
        }
    }

    fn unregister_one(&mut self, dev: DevId) {
        self.strip_netdev(dev);
        bridge::release_all(self, dev);
        stacked::unregister_uppers(self, dev);
        stacked::unlink(self, dev);
        self.netdev_event(dev, NetdevEvent::Unregister);
        notify::link(self, RTM_DELLINK, dev);
        self.unlist_netdev(dev);
        self.mirred_gone(dev);
        self.list_tunnel(dev, false);
        napi::forget(self, dev);
        let Some(d) = self.devs.remove(dev) else { return };
        let held: Vec<_> = match d.kind {
            DevKind::Tun(t) => t.into_skbs().collect(),
            DevKind::Ifb(i) => i.into_skbs().into(),
            DevKind::Nic(n) => n.queues.into_iter().flat_map(|q| q.into_skbs()).collect(),
            _ => Vec::new(),
        };
        for skb in held {
            self.kfree_skb(skb, DropReason::QueuePurge, "netdev_free");
        }
        self.settle_actions();
    }

    /// What it was in its namespace goes: port of a bridge, addresses, routes, neighbours, groups.
    pub(crate) fn strip_netdev(&mut self, dev: DevId) {
        let _ = self.set_link(dev, false);
        bridge::release(self, dev);
        while self.devs.get(dev).is_some_and(|d| !d.addrs.is_empty()) {
            let _ = self.del_ifa(dev, 0);
        }
        self.addrconf_down(dev, true);
        if let Some(ns) = self.devs.get(dev).map(|d| d.ns) {
            self.rt6_sync_down(ns, dev, true);
        }
    }

    pub(crate) fn unlist_netdev(&mut self, dev: DevId) {
        let Some((ns, name)) = self.devs.get(dev).map(|d| (d.ns, IfName::new(&d.name))) else { return };
        if let Some(n) = self.ns.get_mut(ns) {
            n.fib.local.remove_all(|r| r.dev == Some(dev));
            n.fib.forget_dev(|r| r.dev == Some(dev));
            n.devs.retain(|id| *id != dev);
        }
        self.name_rule_devs(ns, name, None);
        self.forget_in_flight(dev);
        self.rt_cache_flush(ns);
    }

    /// Packets in the backlog that came in through it (`flush_backlog`).
    fn forget_in_flight(&mut self, dev: DevId) {
        let mut gone = Vec::new();
        for cpu in &mut self.cpus {
            for queue in [&mut cpu.input_pkt_queue, &mut cpu.process_queue] {
                for skb in std::mem::take(queue) {
                    if skb.dev == Some(dev) { gone.push(skb) } else { queue.push_back(skb) }
                }
            }
        }
        for skb in gone {
            self.kfree_skb(skb, DropReason::DevReady, "flush_backlog");
        }
    }

    /// The other end was plugged in or pulled out: without it nothing waits for better times.
    #[doc(alias = "netif_carrier_on")]
    #[doc(alias = "dev_deactivate")]
    pub fn set_carrier(&mut self, dev: DevId, on: bool) {
        let Some(d) = self.devs.get_mut(dev) else { return };
        let (before, up, ns) = (std::mem::replace(&mut d.carrier, on), d.up, d.ns);
        let count = &mut d.carrier_changes[usize::from(!on)];
        *count = count.wrapping_add(u32::from(before != on));
        if !on {
            self.qdisc_purge(dev);
        }
        if before == on || !up {
            return;
        }
        if !on {
            self.nexthop_flush_dev(ns, dev);
            self.evict_nocarrier(ns, dev);
            self.pneigh_ifdown(ns, dev, true);
        }
        if on {
            self.addrconf_up(dev);
        }
        notify::link(self, RTM_NEWLINK, dev);
        self.follow_link(dev);
    }

    /// `arp_evict_nocarrier`, `ndisc_evict_nocarrier`.
    fn evict_nocarrier(&mut self, ns: NsId, dev: DevId) {
        let Some(d) = self.devs.get(dev) else { return };
        let all = self.ns.get(ns).is_some_and(|n| n.v6.conf_all.ndisc_evict_nocarrier != 0);
        if d.conf.arp_evict_nocarrier {
            neighbour::forget(self, ns, dev, &[false]);
        }
        if all && self.devs.get(dev).is_some_and(|d| d.inet6.conf.ndisc_evict_nocarrier != 0) {
            neighbour::forget(self, ns, dev, &[true]);
        }
    }

    fn qdisc_purge(&mut self, dev: DevId) {
        let held = self.devs.get_mut(dev).map_or_else(Vec::new, |d| d.qdisc.reset());
        for skb in held {
            self.kfree_skb(skb, DropReason::QueuePurge, "qdisc_reset");
        }
    }

    /// `ip link set DEV txqueuelen N`.
    pub fn set_txqlen(&mut self, dev: DevId, packets: u32) -> Result<(), Errno> {
        self.devs.get_mut(dev).ok_or(Errno::ENODEV)?.tx_queue_len = packets;
        Ok(())
    }

    /// `ip link set DEV mtu N`; below 68 IPv4 is impossible.
    pub fn set_mtu(&mut self, dev: DevId, mtu: u32) -> Result<(), Errno> {
        self.devs.get(dev).ok_or(Errno::ENODEV)?;
        if !(68..=65_536).contains(&mtu) {
            return Err(Errno::EINVAL);
        }
        stacked::mtu_fits(self, dev, mtu)?;
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let was = d.inet6.mtu(d.mtu);
        let (before, ns, up) = (std::mem::replace(&mut d.mtu, mtu), d.ns, d.up);
        // Below 1280 there is no IPv6 (RFC 8200 §5).
        match (before >= IPV6_MIN_MTU, mtu >= IPV6_MIN_MTU) {
            (true, false) => self.addrconf_down(dev, true),
            (false, true) if up => self.addrconf_open(dev),
            _ => self.rt6_mtu_change(dev, was, 0),
        }
        self.rt_cache_flush(ns);
        stacked::mtu_changed(self, dev);
        if let Some(br) = self.devs.get(dev).and_then(|d| d.master) {
            bridge::adjust(self, br);
        }
        Ok(())
    }

    /// Into the namespace's list, which is in order of ifindex; rules that name it begin to count.
    pub(crate) fn list_netdev(&mut self, ns: NsId, dev: DevId) {
        let index = |id: &DevId| self.devs.get(*id).map_or(0, |d| d.ifindex);
        let Some(n) = self.ns.get(ns) else { return };
        let at = n.devs.partition_point(|id| index(id) < index(&dev));
        let name = self.devs.get(dev).map(|d| IfName::new(&d.name)).unwrap_or_default();
        if let Some(n) = self.ns.get_mut(ns) {
            n.devs.insert(at, dev);
        }
        self.name_rule_devs(ns, name, Some(dev));
        netdev::watch(self, ns, dev);
    }

    /// `ip link set DEV name NAME`, up or not; rules that name it follow the name, addresses keep theirs behind a colon.
    #[doc(alias = "dev_change_name")]
    pub fn rename(&mut self, dev: DevId, name: &str) -> Result<(), Errno> {
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let (ns, old) = (d.ns, d.name.clone());
        if old == name {
            return Ok(());
        }
        if !valid_name(name) {
            return Err(Errno::EINVAL);
        }
        let name = self.alloc_name(ns, name)?;
        if self.dev_by_name(ns, &name).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Some(d) = self.devs.get_mut(dev) {
            for a in &mut d.addrs {
                let rest = a.label.as_str().split_once(':').map_or("", |(_, rest)| rest).to_owned();
                a.label = IfName::new(&if rest.is_empty() { name.clone() } else { format!("{name}:{rest}") });
            }
            d.name = name.clone();
        }
        self.name_rule_devs(ns, IfName::new(&old), None);
        self.name_rule_devs(ns, IfName::new(&name), Some(dev));
        netdev::watch(self, ns, dev);
        Ok(())
    }

    /// `ip link set DEV address MAC`: EADDRNOTAVAIL for a group's and for none. Neighbours are forgotten.
    #[doc(alias = "eth_prepare_mac_addr_change")]
    pub fn set_mac(&mut self, dev: DevId, mac: Mac) -> Result<(), Errno> {
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        if d.is_pointopoint() {
            return Err(Errno::EOPNOTSUPP);
        }
        if !d.is_loopback() && (mac.is_multicast() || mac.is_zero()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        macvlan::addr_free(self, dev, mac)?;
        let d = self.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        let old = std::mem::replace(&mut d.mac, mac);
        let (ns, master) = (d.ns, d.master);
        if old == mac {
            return Ok(());
        }
        macvlan::address(self, dev, mac);
        neighbour::forget(self, ns, dev, &[false, true]);
        bridge::mac_changed(self, dev, old, mac);
        stacked::mac_changed(self, dev);
        if let Some(br) = master {
            bridge::adjust(self, br);
        }
        Ok(())
    }

    /// A locally administered address by chance (`eth_hw_addr_random`).
    pub(crate) fn random_mac(&mut self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.env.rng.next_u64().to_le_bytes();
        Mac([a & 0xfc | 2, b, c, d, e, f])
    }

    /// A device joins a bridge, changes to it, or leaves.
    #[doc(alias = "do_set_master")]
    pub fn set_master(&mut self, dev: DevId, master: Option<DevId>) -> Result<(), Errno> {
        if self.devs.get(dev).ok_or(Errno::ENODEV)?.master == master {
            return Ok(());
        }
        bridge::release(self, dev);
        match master {
            Some(br) => bridge::enslave(self, br, dev),
            None => Ok(()),
        }
    }

    /// A device moves to another namespace: down, without its addresses; EINVAL for lo, EEXIST when its name is taken.
    #[doc(alias = "dev_change_net_namespace")]
    pub fn move_netdev(&mut self, dev: DevId, to: NsId, name: Option<&str>) -> Result<(), Errno> {
        let d = self.devs.get(dev).ok_or(Errno::ENODEV)?;
        let (from, loopback) = (d.ns, d.is_loopback() || matches!(d.kind, DevKind::Bridge(_)));
        let name = name.unwrap_or(&d.name).to_owned();
        if from == to {
            return Ok(());
        }
        if loopback {
            return Err(Errno::EINVAL);
        }
        self.ns.get(to).ok_or(Errno::EINVAL)?;
        if self.dev_by_name(to, &name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.strip_netdev(dev);
        self.netdev_event(dev, NetdevEvent::Unregister);
        notify::link(self, RTM_DELLINK, dev);
        self.unlist_netdev(dev);
        self.mirred_gone(dev);
        let wanted = self.devs.get(dev).map_or(0, |d| d.ifindex);
        let index = if self.dev_by_index(to, wanted).is_some() { self.new_ifindex(to) } else { wanted };
        let (all, default, v6) =
            self.ns.get(to).map(|n| (n.conf_all, n.conf_default, n.v6.conf_default)).ok_or(Errno::EINVAL)?;
        if let Some(d) = self.devs.get_mut(dev) {
            (d.ns, d.ifindex, d.name) = (to, index, name);
            d.conf = crate::net::ipv4::devconf::effective(&all, &default);
            d.conf_own = default;
            d.inet6.conf = v6.of_device();
            d.neigh = neighbour::NeighDev::default();
        }
        self.list_netdev(to, dev);
        if self.devs.get(dev).is_some_and(|d| d.conf.forwarding) {
            features::disable_lro(self, dev);
        }
        if let Some(other) = self.devs.get(dev).and_then(|d| d.iflink()).and_then(|l| self.devs.get(l)).map(|l| l.ns) {
            self.know_each_other(to, other);
        }
        notify::link(self, RTM_NEWLINK, dev);
        Ok(())
    }
}
