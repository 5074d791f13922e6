//! Rings, interrupts, softirqs, queues.
mod common;
use belljar_abi::*;
use belljar_kernel::drivers::nic;
use belljar_kernel::net::core::dev::Features;
use belljar_kernel::net::core::softirq;
use belljar_kernel::net::drop::DropReason;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_wire::ipv4::IPPROTO_UDP;
use common::*;

/// TCP over lo: the whole way down and up.
#[test]
fn a_stream_over_loopback() {
    let mut h = Host::new();
    let l = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    h.bind(l, LO, 80).unwrap();
    h.call(Call::Listen { fd: l, backlog: 5 }).unwrap();
    let c = h.socket(SOCK_STREAM | SOCK_NONBLOCK);
    assert_eq!(h.connect(c, LO, 80), Err(Errno::EINPROGRESS));
    let Ok(Ret::Accepted { fd: s, .. }) = h.call(Call::Accept { fd: l, flags: SOCK_NONBLOCK }) else { panic!() };
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..100_000 {
        if sent < data.len() {
            match h.send(c, &data[sent..]) {
                Ok(Ret::Int(n)) => sent += n as usize,
                Err(Errno::EAGAIN) => {}
                r => panic!("{r:?}"),
            }
        }
        match h.call(Call::Recv { fd: s, len: 65_536, flags: 0 }) {
            Ok(Ret::Stream(b)) => got.extend(b.to_vec()),
            Err(Errno::EAGAIN) => h.advance(MS),
            r => panic!("{r:?}"),
        }
        if got.len() == data.len() {
            break;
        }
    }
    assert_eq!((sent, got.len()), (data.len(), data.len()));
    assert!(got == data);
    h.call(Call::Close { fd: c }).unwrap();
    assert!(matches!(h.call(Call::Recv { fd: s, len: 1, flags: 0 }), Ok(Ret::Stream(b)) if b.is_empty()));
    h.call(Call::Close { fd: s }).unwrap();
    h.advance(SEC);
    assert_eq!(h.counter(Mib::TcpExtTCPTimeouts), 0);
}

#[test]
fn udp_in_burst() {
    let mut h = Host::new();
    h.know_peer();
    let fd = h.udp_on(HOST, 7);
    for _ in 0..300 {
        h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), &[0; 64])));
    }
    assert_eq!(h.get(fd, SOL_SOCKET, SO_RCVBUF), 212_992);
    // 212992 / 832, and one more that found the queue not yet over its limit.
    let mut n = 0;
    while h.recv(fd).is_ok() {
        n += 1;
    }
    assert_eq!((n, h.counter(Mib::UdpRcvbufErrors)), (257, 43));
}

fn datagram() -> belljar_wire::Frame {
    ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"x"))
}

#[test]
fn a_full_ring_drops_before_the_stack_sees_anything() {
    let mut h = Host::new();
    let fd = h.udp_on(HOST, 7);
    // Frames arrive while no softirq runs: as on a machine whose CPU is busy.
    for _ in 0..300 {
        nic::rx_frame(&mut h.k.net, h.dev, datagram());
    }
    let stats = h.k.net.devs.get(h.dev).unwrap().stats;
    assert_eq!((stats.rx_missed, stats.rx_fifo, stats.rx_packets), (44, 44, 0));
    assert_eq!(h.k.net.pool.drops().collect::<Vec<_>>(), [(DropReason::FullRing, 44)]);
    let hits = h.k.net.devs.get(h.dev).unwrap().nic().unwrap().rx_full.unwrap();
    assert_eq!((hits.count, hits.first, hits.last), (44, PEER.into(), PEER.into()));
    h.k.tick(h.now);
    h.collect();
    let d = h.k.net.devs.get(h.dev).unwrap();
    assert_eq!((d.stats.rx_packets, d.nic().unwrap().queues[0].irq.rx_count), (256, 1));
    let mut n = 0;
    while h.recv(fd).is_ok() {
        n += 1;
    }
    assert_eq!(n, 256);
}

#[test]
fn a_small_budget_squeezes_and_leaves_work_to_ksoftirqd() {
    let mut h = Host::new();
    h.k.net.sysctl.netdev_budget = 1;
    for _ in 0..256 {
        nic::rx_frame(&mut h.k.net, h.dev, datagram());
    }
    h.k.tick(h.now);
    let cpu = &h.k.net.cpus[0];
    assert_eq!((cpu.stat.processed, cpu.stat.time_squeeze, h.k.more_work()), (256, 4, false));
    for _ in 0..2000 {
        let skb = h.k.net.alloc_skb();
        softirq::enqueue_to_backlog(&mut h.k.net, skb);
    }
    let cpu = &h.k.net.cpus[0];
    assert_eq!((cpu.input_pkt_queue.len(), cpu.stat.dropped), (1001, 999));
    h.k.net.sysctl.dev_weight = 16;
    h.k.tick(h.now);
    assert!(h.k.more_work());
    h.collect();
    let cpu = &h.k.net.cpus[0];
    assert_eq!((cpu.stat.processed, cpu.ksoftirqd_runs > 0), (256 + 1001, true));
}

#[test]
fn coalescing_holds_the_interrupt_back() {
    let mut h = Host::new();
    let irq = |h: &mut Host| h.k.net.devs.get_mut(h.dev).unwrap().nic_mut().unwrap().queues[0].irq.clone();
    {
        let nic = h.k.net.devs.get_mut(h.dev).unwrap().nic_mut().unwrap();
        let irq = &mut nic.queues[0].irq;
        (irq.rx_usecs, irq.rx_frames) = (50, 4);
    }
    let fd = h.udp_on(HOST, 7);
    h.rx(datagram());
    assert_eq!((irq(&mut h).rx_count, h.recv(fd).is_ok()), (0, false));
    h.advance(49_000);
    assert_eq!(irq(&mut h).rx_count, 0);
    h.advance(1_000);
    assert_eq!((irq(&mut h).rx_count, h.recv(fd).is_ok()), (1, true));
    for n in 0..4 {
        assert_eq!(irq(&mut h).rx_count, 1, "{n}");
        h.rx(datagram());
    }
    assert_eq!(irq(&mut h).rx_count, 2);
}

#[test]
fn without_carrier_packets_are_dropped_and_nobody_is_told() {
    let mut h = Host::new();
    belljar_kernel::net::core::neighbour::set_permanent(&mut h.k.net, h.ns, h.dev, PEER.into(), PEER_MAC).unwrap();
    let fd = h.udp();
    h.k.net.set_carrier(h.dev, false);
    for _ in 0..20 {
        h.send_to(fd, b"x", PEER, 9).unwrap();
    }
    // Measured on a veth with pfifo whose other end is down.
    let d = h.k.net.devs.get(h.dev).unwrap();
    assert_eq!((d.qdisc.len(), d.qdisc.stats().drops, d.stats.tx_dropped, h.sent().len()), (0, 0, 20, 0));
    h.k.net.set_carrier(h.dev, true);
    h.k.tick(h.now);
    h.collect();
    assert_eq!(h.sent().len(), 0);
    h.send_to(fd, b"x", PEER, 9).unwrap();
    assert_eq!(h.sent().len(), 1);
}

/// Two machines, cables without delay: a stream crosses as super-segments, or cut where a card has no offload.
#[test]
fn a_stream_between_two_cards() {
    for (features, whole) in [(Features::ALL, true), (Features::NONE, false)] {
        let mut a = Host::new();
        let mut b = Host::at(PEER, PEER_MAC, HOST);
        for h in [&mut a, &mut b] {
            h.k.net.devs.get_mut(h.dev).unwrap().features = features;
        }
        let l = b.socket(SOCK_STREAM | SOCK_NONBLOCK);
        b.bind(l, PEER, 80).unwrap();
        b.call(Call::Listen { fd: l, backlog: 5 }).unwrap();
        let c = a.socket(SOCK_STREAM | SOCK_NONBLOCK);
        a.connect(c, PEER, 80).unwrap_err();
        let data: Vec<u8> = (0..400_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let (mut sent, mut got, mut largest, mut server) = (0, vec![], 0, None);
        for _ in 0..20_000 {
            for (from, to) in [(0, 1), (1, 0)] {
                let hosts = [&mut a, &mut b];
                let frames = hosts[from].sent();
                for f in frames {
                    largest = largest.max(f.len());
                    let to = if to == 0 { &mut a } else { &mut b };
                    to.rx(f);
                }
            }
            if server.is_none()
                && let Ok(Ret::Accepted { fd, .. }) = b.call(Call::Accept { fd: l, flags: SOCK_NONBLOCK })
            {
                server = Some(fd);
            }
            let Some(s) = server else { continue };
            if sent < data.len()
                && let Ok(Ret::Int(n)) = a.send(c, &data[sent..])
            {
                sent += n as usize;
            }
            if let Ok(Ret::Stream(x)) = b.call(Call::Recv { fd: s, len: 1 << 20, flags: 0 }) {
                got.extend(x.to_vec());
            } else if a.out.is_empty() && b.out.is_empty() {
                a.advance(MS);
                b.advance(MS);
            }
            if got.len() == data.len() {
                break;
            }
        }
        assert!(got == data, "{} of {}", got.len(), data.len());
        assert_eq!(largest > 1514, whole, "{largest}");
    }
}

/// `ethtool -G` while frames wait: they stay, in order; what the smaller ring has no room for is a full ring's drop.
#[test]
fn rings_are_resized_with_what_is_in_them() {
    use belljar_abi::ethtool::{ETHTOOL_GRINGPARAM, ETHTOOL_SRINGPARAM};
    let mut h = Host::new();
    let fd = h.udp_on(HOST, 7);
    let of = |rx: u32, tx: u32| -> Vec<u8> {
        [ETHTOOL_SRINGPARAM, 0, 0, 0, 0, rx, 0, 0, tx].into_iter().flat_map(u32::to_ne_bytes).collect()
    };
    for n in 0..20_u8 {
        let data = udp((PEER, 9), (HOST, 7), &[n]);
        nic::rx_frame(&mut h.k.net, h.dev, ip(from_peer(IPPROTO_UDP), &data));
    }
    assert_eq!(h.k.ethtool(h.dev, &of(4097, 256)), Err(Errno::EINVAL));
    assert_eq!(h.k.ethtool(h.dev, &of(0, 256)), Err(Errno::EINVAL));
    h.k.ethtool(h.dev, &of(64, 32)).unwrap();
    h.k.ethtool(h.dev, &of(16, 32)).unwrap();
    let (_, now) = h.k.ethtool(h.dev, &ETHTOOL_GRINGPARAM.to_ne_bytes()).unwrap();
    assert_eq!((now[20], now[32]), (16, 32));
    let d = h.k.net.devs.get(h.dev).unwrap();
    assert_eq!((d.stats.rx_missed, d.nic().unwrap().queues[0].rx.full), (4, 4));
    h.k.tick(h.now);
    let got: Vec<u8> = std::iter::from_fn(|| h.recv(fd).ok().map(|r| r.0[0])).collect();
    assert_eq!(got, (0..16).collect::<Vec<u8>>());
}

/// Segmentation goes with the checksum, and comes back with it.
#[test]
fn offloads_that_go_together() {
    use belljar_abi::ethtool::{ETHTOOL_F_UNSUPPORTED, ETHTOOL_F_WISH, ETHTOOL_SFEATURES};
    let mut h = Host::new();
    let of = |valid: u32, on: u32| -> Vec<u8> {
        [ETHTOOL_SFEATURES, 2, valid, on, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
    };
    let (csum, tso, fcoe) = (1 << 3, 1 << 16, 1 << 21);
    let features = |h: &Host| h.k.net.devs.get(h.dev).unwrap().features;
    assert_eq!(h.k.ethtool(h.dev, &of(csum, 0)), Ok((0, Vec::new())));
    assert_eq!((features(&h).tx_csum, features(&h).tso, features(&h).uso), (false, false, false));
    assert_eq!(h.k.ethtool(h.dev, &of(tso, tso)), Ok((ETHTOOL_F_WISH, Vec::new())));
    assert_eq!(h.k.ethtool(h.dev, &of(csum | fcoe, csum | fcoe)), Ok((ETHTOOL_F_UNSUPPORTED, Vec::new())));
    assert_eq!(features(&h), Features { csum_whole: false, ..Features::ALL });
    assert_eq!(h.k.ethtool(h.dev, &of(4, 4)), Err(Errno::EINVAL));
}

fn xdp(h: &mut Host, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let o = h.k.xdp_words(h.ns, &words);
    assert_eq!(o.code == 0, o.stderr.is_empty());
    o.stdout + &o.stderr
}

/// Both places: what is dropped has its reason, what is sent back goes the way it came, the rest passes.
#[test]
fn a_list_decides_before_the_stack_does() {
    for mode in ["native", "generic"] {
        let mut h = Host::new();
        h.know_peer();
        let fd = h.udp_on(HOST, 7);
        assert_eq!(xdp(&mut h, &format!("set dev eth0 {mode} drop proto udp sport 9 dport 7-8 , tx proto icmp")), "");
        h.rx(datagram());
        assert_eq!(h.recv(fd), Err(Errno::EAGAIN));
        assert_eq!(h.k.net.pool.drops().find(|d| d.0 == DropReason::Xdp), Some((DropReason::Xdp, 1)));
        h.rx(ip(from_peer(IPPROTO_UDP), &udp((PEER, 10), (HOST, 7), b"y")));
        assert!(h.recv(fd).is_ok());
        h.sent();
        h.rx(ip(from_peer(belljar_wire::ipv4::IPPROTO_ICMP), &echo(1, 1, b"x")));
        let back = h.sent();
        let (eth, _, _) = parse(&back[0]);
        assert_eq!((back.len(), eth.dst, eth.src), (1, PEER_MAC, HOST_MAC));
        // It was not answered, only reflected.
        assert_eq!(parse(&back[0]).2[0], 8);
        let told = xdp(&mut h, "show dev eth0");
        assert!(
            told.starts_with(&format!("eth0: {mode} id 1 packets 3 drops 1 tx 1 redirects 0 errors 0\n")),
            "{told}"
        );
        assert!(told.contains("    drop proto udp sport 9 dport 7-8: 1 packets\n"), "{told}");
        assert_eq!(xdp(&mut h, "off dev eth0"), "");
        h.rx(datagram());
        assert!(h.recv(fd).is_ok());
    }
}

/// From one card to another, without the stack between; to one that is gone it ends, named.
#[test]
fn a_list_redirects() {
    let mut h = Host::new();
    let nic = nic::NicConfig { name: "eth1".into(), mac: belljar_wire::Mac([2, 0, 0, 0, 0, 9]), ..Default::default() };
    let other = h.k.add_nic(h.ns, &nic).unwrap();
    h.k.set_link(other, true).unwrap();
    assert_eq!(xdp(&mut h, "set dev eth0 native pass proto arp , redirect eth1 src 10.0.0.0/8"), "");
    h.rx(datagram());
    let stats = |h: &Host, dev| h.k.net.devs.get(dev).unwrap().stats;
    assert_eq!((stats(&h, other).tx_packets, h.sent().len()), (1, 1));
    assert_eq!(h.counter(Mib::IpInReceives), 0);
    h.k.net.unregister_netdev(other);
    h.rx(datagram());
    assert!(xdp(&mut h, "show").contains("redirects 2 errors 1"));
    assert!(xdp(&mut h, "show").contains("redirect (gone) src 10.0.0.0/8"));
}

#[test]
fn lists_are_looked_through_first() {
    let mut h = Host::new();
    for (line, says) in [
        ("set dev eth9 native drop", "Cannot find device"),
        ("set dev lo native drop", "does not support XDP in native mode"),
        ("set dev eth0 native", "is no action"),
        ("set dev eth0 native redirect eth0", "is the device itself"),
        ("set dev eth0 native redirect eth7", "Cannot find device"),
        ("set dev eth0 native drop dport", "no value"),
        ("set dev eth0 native drop dport 9-7", "is empty"),
        ("set dev eth0 native drop dport 70000", "is not understood"),
        ("set dev eth0 native drop src 10.0.0.0/33", "longer than an address"),
        ("set dev eth0 native drop ttl 3", "matches nothing"),
        ("set dev eth0 hardware drop", "usage"),
    ] {
        let told = xdp(&mut h, line);
        assert!(told.contains(says), "{line}: {told}");
    }
    let many = format!("set dev eth0 generic {}drop", "pass proto 1 , ".repeat(64));
    assert!(xdp(&mut h, &many).contains("at most"));
    assert_eq!(xdp(&mut h, "show"), "");
}
