//! Virtual networks in one kernel: namespaces joined by veth and bridges, forwarding between them, devices that move.
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::bridge_fdb::{self, FdbKind};
use belljar_kernel::ids::*;
use belljar_kernel::kernel::Output;
use belljar_kernel::net::core::dev::NetDevice;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::Mac;
use std::net::Ipv4Addr;

const SEC: u64 = 1_000_000_000;

/// A kernel with several namespaces, a task in each.
struct World {
    k: Kernel,
    now: u64,
    spaces: Vec<(NsId, TaskId)>,
}

impl World {
    fn new(names: &[&str]) -> World {
        let mut w = World { k: Kernel::new(11), now: 1, spaces: Vec::new() };
        for name in names {
            let ns = w.k.net.add_ns(name);
            let lo = w.k.net.ns.get(ns).unwrap().lo;
            w.k.set_link(lo, true).unwrap();
            let p = w.k.add_process(ns, 0, Caps::ROOT, 64, name);
            let task = w.k.add_task(p, 0).unwrap();
            w.spaces.push((ns, task));
        }
        w
    }

    fn ns(&self, n: usize) -> NsId {
        self.spaces[n].0
    }

    fn dev(&self, n: usize, name: &str) -> DevId {
        self.k.net.dev_by_name(self.ns(n), name).unwrap()
    }

    fn d(&self, n: usize, name: &str) -> &NetDevice {
        self.k.net.devs.get(self.dev(n, name)).unwrap()
    }

    /// A pair with one end in each of two namespaces, both up, addressed.
    fn veth(&mut self, a: (usize, &str, [u8; 4]), b: (usize, &str, [u8; 4])) {
        let (ns_a, ns_b) = (self.ns(a.0), self.ns(b.0));
        let (dev_a, dev_b) = self.k.net.add_veth((ns_a, a.1), (ns_b, b.1)).unwrap();
        for (dev, ip) in [(dev_a, a.2), (dev_b, b.2)] {
            if ip != [0; 4] {
                self.k.add_address(dev, ip.into(), 24).unwrap();
            }
            self.k.set_link(dev, true).unwrap();
        }
    }

    fn settle(&mut self) {
        self.k.tick(self.now);
        loop {
            while let Some(o) = self.k.pop_output() {
                assert!(!matches!(o, Output::Frame { .. }), "nothing leaves the machine");
            }
            if !self.k.more_work() {
                break;
            }
            self.k.tick(self.now);
        }
        self.k.check().unwrap();
    }

    fn advance(&mut self, by: u64) {
        let end = self.now + by;
        while let Some(at) = self.k.next_deadline().filter(|d| *d <= end) {
            self.now = at.max(self.now);
            self.k.tick(self.now);
            self.settle();
        }
        self.now = end;
        self.k.tick(end);
        self.settle();
    }

    fn call(&mut self, n: usize, c: Call<'_>) -> SysResult {
        match self.k.call(self.now, self.spaces[n].1, c) {
            Submitted::Done(r) => r,
            Submitted::Parked(id) => {
                self.k.cancel(self.now, id, Errno::EAGAIN);
                Err(Errno::EAGAIN)
            }
        }
    }

    fn udp(&mut self, n: usize, port: u16) -> Fd {
        let kind = SOCK_DGRAM | SOCK_NONBLOCK;
        let Ok(Ret::Fd(fd)) = self.call(n, Call::Socket { family: AF_INET, kind, protocol: 0 }) else { panic!() };
        let addr = SockAddr::V4(Ipv4Addr::UNSPECIFIED, port).emit();
        self.call(n, Call::Bind { fd, addr: &addr }).unwrap();
        fd
    }

    fn send(&mut self, n: usize, fd: Fd, data: &[u8], to: [u8; 4], port: u16) -> SysResult {
        let to = SockAddr::V4(to.into(), port).emit();
        let r = self.call(n, Call::Send { fd, data: Payload::Bytes(data), flags: 0, to: Some(&to), cmsgs: &[] });
        self.settle();
        r
    }

    fn recv(&mut self, n: usize, fd: Fd) -> Result<(Vec<u8>, SockAddr), Errno> {
        match self.call(n, Call::Recv { fd, len: 65_536, flags: 0 })? {
            Ret::Data(d) => Ok((d.segs.to_vec(), d.from.unwrap())),
            r => panic!("{r:?}"),
        }
    }

    fn sysctl(&mut self, n: usize, key: &str, value: &str) {
        let ns = self.ns(n);
        self.k.sysctl_set(ns, key, value).unwrap();
    }

    fn counter(&self, n: usize, c: Mib) -> u64 {
        self.k.net.ns.get(self.ns(n)).unwrap().mib.get(c)
    }
}

#[test]
fn datagrams_cross_a_pair_and_count_at_both_ends() {
    let mut w = World::new(&["a", "b"]);
    w.veth((0, "v0", [10, 0, 0, 1]), (1, "v1", [10, 0, 0, 2]));
    let (a, b) = (w.udp(0, 1000), w.udp(1, 2000));
    w.send(0, a, b"over there", [10, 0, 0, 2], 2000).unwrap();
    let (data, from) = w.recv(1, b).unwrap();
    assert_eq!((data.as_slice(), from), (&b"over there"[..], SockAddr::V4([10, 0, 0, 1].into(), 1000)));
    // ARP question and answer, then 10 bytes with 42 of headers.
    let (s, p) = (w.d(0, "v0").stats, w.d(1, "v1").stats);
    assert_eq!((s.tx_packets, s.tx_bytes, s.rx_packets), (2, 42 + 52, 1));
    assert_eq!((p.rx_packets, p.rx_bytes, p.tx_packets), (2, 42 + 52, 1));
    // What is not known there is nobody's: the error comes back over the pair.
    w.send(0, a, b"x", [10, 0, 0, 2], 9).unwrap();
    assert_eq!(w.counter(0, Mib::IcmpInDestUnreachs), 1);
}

#[test]
fn the_other_end_down_is_no_carrier_and_a_drop() {
    let mut w = World::new(&["a", "b"]);
    w.veth((0, "v0", [10, 0, 0, 1]), (1, "v1", [10, 0, 0, 2]));
    assert_eq!((w.d(0, "v0").operstate(), w.d(0, "v0").carrier), (IF_OPER_UP, true));
    let other = w.dev(1, "v1");
    w.k.set_link(other, false).unwrap();
    assert_eq!((w.d(0, "v0").operstate(), w.d(0, "v0").carrier), (IF_OPER_LOWERLAYERDOWN, false));
    let a = w.udp(0, 1000);
    w.send(0, a, b"x", [10, 0, 0, 255], 9).unwrap_err();
    w.send(0, a, b"x", [10, 0, 0, 2], 9).unwrap();
    assert_eq!((w.d(0, "v0").stats.tx_dropped, w.d(1, "v1").stats.rx_dropped), (1, 1));
    // One end takes the other along.
    let dev = w.dev(0, "v0");
    w.k.net.unregister_netdev(dev);
    w.settle();
    assert!(w.k.net.dev_by_name(w.ns(1), "v1").is_none());
}

#[test]
fn a_longer_packet_than_the_other_end_takes_is_dropped() {
    let mut w = World::new(&["a", "b"]);
    w.veth((0, "v0", [10, 0, 0, 1]), (1, "v1", [10, 0, 0, 2]));
    let other = w.dev(1, "v1");
    w.k.net.set_mtu(other, 1000).unwrap();
    let (a, b) = (w.udp(0, 1000), w.udp(1, 2000));
    w.send(0, a, &[1; 900], [10, 0, 0, 2], 2000).unwrap();
    w.send(0, a, &[2; 1200], [10, 0, 0, 2], 2000).unwrap();
    assert_eq!(w.recv(1, b).unwrap().0.len(), 900);
    assert_eq!(w.recv(1, b), Err(Errno::EAGAIN));
    assert_eq!((w.d(0, "v0").stats.tx_dropped, w.d(1, "v1").stats.rx_dropped), (1, 1));
}

/// Three hosts on a bridge that stands in a namespace of its own and has an address there.
fn switch() -> World {
    let mut w = World::new(&["sw", "a", "b", "c"]);
    let ns = w.ns(0);
    let br = w.k.net.add_bridge(ns, "br0").unwrap();
    for (n, port, last) in [(1, "pa", 1), (2, "pb", 2), (3, "pc", 3)] {
        w.veth((0, port, [0; 4]), (n, "eth0", [10, 0, 0, last]));
        let port = w.dev(0, port);
        w.k.net.set_master(port, Some(br)).unwrap();
    }
    w.k.add_address(br, [10, 0, 0, 254].into(), 24).unwrap();
    w.k.set_link(br, true).unwrap();
    w.settle();
    w
}

#[test]
fn a_bridge_learns_and_floods_what_it_does_not_know() {
    let mut w = switch();
    let (a, b) = (w.udp(1, 1000), w.udp(2, 2000));
    w.send(1, a, b"one", [10, 0, 0, 2], 2000).unwrap();
    assert_eq!(w.recv(2, b).unwrap().0, b"one");
    // The question went everywhere, the rest to whom it was for.
    let rx = |w: &World, n| w.d(n, "eth0").stats.rx_packets;
    assert_eq!((rx(&w, 1), rx(&w, 2), rx(&w, 3)), (1, 2, 1));
    let (mac_a, mac_c) = (w.d(1, "eth0").mac, w.d(3, "eth0").mac);
    let br = w.dev(0, "br0");
    let e = bridge_fdb::entry(&w.k.net, br, (mac_a, 0)).unwrap();
    assert_eq!((e.port, e.kind), (Some(w.dev(0, "pa")), FdbKind::Learned));
    assert!(bridge_fdb::entry(&w.k.net, br, (mac_c, 0)).is_none());
    // The least address of its ports is the bridge's, and the machine itself answers there.
    assert_eq!(w.d(0, "br0").mac, ["pa", "pb", "pc"].map(|p| w.d(0, p).mac).into_iter().min().unwrap());
    let own = w.udp(0, 53);
    w.send(1, a, b"to the switch", [10, 0, 0, 254], 53).unwrap();
    assert_eq!(w.recv(0, own).unwrap().0, b"to the switch");
    w.send(0, own, b"back", [10, 0, 0, 1], 1000).unwrap();
    assert_eq!(w.recv(1, a).unwrap().0, b"back");
    assert_eq!((w.d(0, "br0").stats.rx_packets, w.d(0, "br0").stats.tx_packets), (3, 2));
    // What nobody says for the ageing time is forgotten.
    w.advance(330 * SEC);
    assert!(bridge_fdb::entry(&w.k.net, br, (mac_a, 0)).is_none());
}

#[test]
fn a_bridge_follows_its_ports() {
    let mut w = switch();
    let br = w.dev(0, "br0");
    assert!(w.d(0, "br0").carrier);
    for port in ["pa", "pb", "pc"] {
        let dev = w.dev(0, port);
        w.k.set_link(dev, false).unwrap();
    }
    assert_eq!((w.d(0, "br0").carrier, w.d(0, "br0").operstate()), (false, IF_OPER_DOWN));
    let pa = w.dev(0, "pa");
    w.k.net.set_mtu(pa, 1400).unwrap();
    assert_eq!(w.d(0, "br0").mtu, 1400);
    assert_eq!(w.k.net.set_master(br, Some(br)), Err(Errno::ELOOP));
    assert_eq!(w.k.net.set_master(pa, Some(w.dev(0, "pb"))), Err(Errno::EOPNOTSUPP));
    assert_eq!((w.d(0, "pa").master, w.d(0, "br0").mtu), (None, 1500));
    w.k.net.unregister_netdev(br);
    w.settle();
    assert!(["pa", "pb", "pc"].iter().all(|p| w.d(0, p).master.is_none() && w.d(0, p).promiscuity == 0));
}

#[test]
fn two_networks_are_joined_by_one_that_forwards() {
    let mut w = World::new(&["router", "left", "right"]);
    let ns = w.ns(0);
    let br = w.k.net.add_bridge(ns, "br0").unwrap();
    w.veth((0, "port", [0; 4]), (1, "eth0", [10, 1, 0, 2]));
    w.veth((0, "r", [10, 2, 0, 1]), (2, "eth0", [10, 2, 0, 2]));
    let port = w.dev(0, "port");
    w.k.net.set_master(port, Some(br)).unwrap();
    w.k.add_address(br, [10, 1, 0, 1].into(), 24).unwrap();
    w.k.set_link(br, true).unwrap();
    for (n, gw) in [(1, [10, 1, 0, 1]), (2, [10, 2, 0, 1])] {
        let ns = w.ns(n);
        w.k.add_route(ns, Ipv4Addr::UNSPECIFIED, 0, Some(gw.into()), None).unwrap();
    }
    let (a, b) = (w.udp(1, 1000), w.udp(2, 2000));
    w.send(1, a, b"nobody passes it on", [10, 2, 0, 2], 2000).unwrap();
    assert_eq!(w.recv(2, b), Err(Errno::EAGAIN));
    w.sysctl(0, "net.ipv4.ip_forward", "1");
    w.send(1, a, &[7; 4000], [10, 2, 0, 2], 2000).unwrap();
    w.advance(SEC);
    let (data, from) = w.recv(2, b).unwrap();
    assert_eq!((data.len(), from), (4000, SockAddr::V4([10, 1, 0, 2].into(), 1000)));
    w.send(2, b, b"answer", [10, 1, 0, 2], 1000).unwrap();
    assert_eq!(w.recv(1, a).unwrap().0, b"answer");
    assert_eq!((w.counter(0, Mib::IpForwDatagrams), w.counter(2, Mib::IpReasmOKs)), (4, 1));
}

#[test]
fn devices_move_and_namespaces_end() {
    let mut w = World::new(&["a"]);
    let home = w.ns(0);
    let other = w.k.net.add_ns("blue");
    w.veth((0, "v0", [10, 0, 0, 1]), (0, "v1", [10, 0, 0, 2]));
    let v1 = w.dev(0, "v1");
    w.k.net.move_netdev(v1, other, Some("eth0")).unwrap();
    let d = w.k.net.devs.get(v1).unwrap();
    assert_eq!((d.ns, d.name.as_str(), d.up, d.addrs.len()), (other, "eth0", false, 0));
    assert_eq!(w.k.net.nsid(home, other), Some(0));
    let lo = w.k.net.ns.get(other).unwrap().lo;
    assert_eq!(w.k.net.move_netdev(lo, home, None), Err(Errno::EINVAL));
    // Its socket keeps a namespace.
    let p = w.k.add_process(other, 0, Caps::ROOT, 64, "in blue");
    assert_eq!(w.k.del_ns(other, Some(home)), Err(Errno::EBUSY));
    w.k.exit(w.now, p);
    w.k.del_ns(other, Some(home)).unwrap();
    w.settle();
    assert!(w.k.net.ns.get(other).is_none() && w.k.net.dev_by_name(home, "v0").is_none());
    assert_eq!(w.k.del_ns(other, Some(home)), Err(Errno::ENOENT));
}

#[test]
fn a_bridge_believes_nobody_about_its_own_addresses() {
    let mut w = switch();
    let br = w.dev(0, "br0");
    let own = w.d(0, "br0").mac;
    let eth = w.dev(1, "eth0");
    w.k.net.set_mac(eth, own).unwrap();
    let a = w.udp(1, 1000);
    w.send(1, a, b"x", [10, 0, 0, 2], 2000).unwrap();
    let e = bridge_fdb::entry(&w.k.net, br, (own, 0)).unwrap();
    assert_eq!(e.kind, FdbKind::Local);
    assert_eq!(w.k.net.set_mac(eth, Mac([1, 0, 0x5e, 0, 0, 1])), Err(Errno::EADDRNOTAVAIL));
}
