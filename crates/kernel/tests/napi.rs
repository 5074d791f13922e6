//! How NAPI is done beside the softirq: deferral with its timer, threads, busy polling, steering after readers.
mod common;
use belljar_abi::*;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::{DevId, NsId};
use belljar_kernel::net::core::softirq::Softirq;
use belljar_kernel::net::mib::Mib;
use belljar_kernel::task::call::*;
use belljar_kernel::{Kernel, Output, task};
use belljar_wire::arp::ARPOP_REQUEST;
use belljar_wire::checksum;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::tcp::{Flags, TcpHeader};
use common::*;
use std::net::Ipv4Addr;

const US: u64 = 1000;

fn machine(cpus: u32) -> (Kernel, NsId, DevId) {
    let mut k = Kernel::new(7);
    k.set_cpus(cpus);
    let nic = NicConfig { mac: HOST_MAC, ..NicConfig::default() };
    let (ns, dev) = k.add_host("h", &nic, (HOST, 24), None).unwrap();
    (k, ns, dev)
}

fn datagram() -> belljar_wire::Frame {
    ip(from_peer(IPPROTO_UDP), &udp((PEER, 9), (HOST, 7), b"x"))
}

/// One of the segments of a connection that the host knows nothing of.
fn segment(n: u16) -> belljar_wire::Frame {
    let seq = 1 + 100 * u32::from(n);
    let h = TcpHeader {
        src_port: 9,
        dst_port: 80,
        seq,
        ack: 1,
        flags: Flags::ACK,
        window: 100,
        header_len: 20,
        ..Default::default()
    };
    let mut b = vec![0; 120];
    h.emit(&mut b);
    let csum = checksum::fold(checksum::sum(&b, checksum::pseudo_v4(PEER, HOST, IPPROTO_TCP, b.len())));
    TcpHeader { csum, ..h }.emit(&mut b);
    ip(Ipv4Header { id: n, df: true, ..from_peer(IPPROTO_TCP) }, &b)
}

fn interrupts(k: &Kernel, dev: DevId) -> u64 {
    k.net.devs.get(dev).unwrap().nic().unwrap().queues[0].irq.rx_count
}

fn set(k: &mut Kernel, dev: DevId, file: &str, text: &str) -> Result<String, Errno> {
    k.set_napi_attr(dev, file, text)?;
    Ok(k.napi_attr(dev, file).unwrap())
}

/// Values and errors as a veth's files had them on Linux 6.18.
#[test]
fn files_take_what_the_kernel_takes() {
    let (mut k, ns, dev) = machine(1);
    let big = "18446744073709551615";
    for (text, is) in [("20000", "20000"), ("0x10", "16"), ("010", "8"), ("7\n", "7"), (big, big)] {
        assert_eq!(set(&mut k, dev, "gro_flush_timeout", text), Ok(is.into()));
    }
    for text in ["-1", "abc", " 5", "5x", ""] {
        assert_eq!(set(&mut k, dev, "gro_flush_timeout", text), Err(Errno::EINVAL), "{text:?}");
    }
    assert_eq!(set(&mut k, dev, "gro_flush_timeout", "18446744073709551616"), Err(Errno::ERANGE));
    assert_eq!(set(&mut k, dev, "napi_defer_hard_irqs", "2147483647"), Ok("2147483647".into()));
    for text in ["2147483648", "4294967296"] {
        assert_eq!(set(&mut k, dev, "napi_defer_hard_irqs", text), Err(Errno::ERANGE));
    }
    assert_eq!(set(&mut k, dev, "threaded", "1"), Ok("1".into()));
    assert_eq!(set(&mut k, dev, "threaded", "2"), Err(Errno::EOPNOTSUPP));
    assert_eq!(set(&mut k, dev, "threaded", "-1"), Err(Errno::EINVAL));
    // No NAPI of its own there.
    let lo = k.net.ns.get(ns).unwrap().lo;
    assert_eq!(set(&mut k, lo, "threaded", "1"), Err(Errno::EOPNOTSUPP));
    assert_eq!(set(&mut k, lo, "gro_flush_timeout", "1"), Ok("1".into()));
}

/// Two polls after the one with work find nothing and leave the vectors masked; the timer makes them.
#[test]
fn hard_interrupts_are_deferred() {
    let (mut k, _, dev) = machine(1);
    set(&mut k, dev, "gro_flush_timeout", "20000").unwrap();
    set(&mut k, dev, "napi_defer_hard_irqs", "2").unwrap();
    k.rx(0, dev, datagram());
    assert_eq!((interrupts(&k, dev), k.next_deadline()), (1, Some(20 * US)));
    // What comes now interrupts nobody and is there after the time.
    k.rx(5 * US, dev, datagram());
    k.rx(9 * US, dev, datagram());
    assert_eq!(k.net.devs.get(dev).unwrap().stats.rx_packets, 1);
    k.tick(20 * US);
    assert_eq!((interrupts(&k, dev), k.net.devs.get(dev).unwrap().stats.rx_packets), (1, 3));
    // A poll with work counts anew: two more are to come, the last of them unmasks.
    for n in 2..=4 {
        assert_eq!(k.net.devs.get(dev).unwrap().nic().unwrap().queues[0].napi.timer_polls, n - 1);
        k.tick(n * 20 * US);
    }
    k.rx(100 * US, dev, datagram());
    assert_eq!(interrupts(&k, dev), 2);
    k.check().unwrap();
}

/// Without a timeout a deferral has no effect.
#[test]
fn a_deferral_needs_its_time() {
    let (mut k, _, dev) = machine(1);
    set(&mut k, dev, "napi_defer_hard_irqs", "5").unwrap();
    k.rx(0, dev, datagram());
    k.rx(5 * US, dev, datagram());
    assert_eq!((interrupts(&k, dev), k.net.devs.get(dev).unwrap().stats.rx_packets), (2, 2));
}

/// Segments of a connection that come in several interrupts become one packet, if they are held that long.
#[test]
fn segments_are_held_from_poll_to_poll() {
    for (timeout, packets) in [("0", 3), ("50000", 1)] {
        let (mut k, ns, dev) = machine(1);
        set(&mut k, dev, "gro_flush_timeout", timeout).unwrap();
        for n in 0..3u16 {
            k.rx(u64::from(n) * 10 * US, dev, segment(n));
            k.check().unwrap();
        }
        assert_eq!(interrupts(&k, dev), 3);
        k.tick(100 * US);
        // No connection is there for them: each packet is answered by a reset.
        let out = std::iter::from_fn(|| k.pop_output()).count();
        assert_eq!((out > 0, k.net.ns.get(ns).unwrap().mib.get(Mib::IpInReceives)), (true, packets));
        k.check().unwrap();
    }
}

/// A device that goes while GRO holds packets of its takes them with it.
#[test]
fn held_packets_end_with_their_device() {
    let (mut k, _, dev) = machine(1);
    set(&mut k, dev, "gro_flush_timeout", "50000").unwrap();
    k.rx(0, dev, segment(0));
    k.net.unregister_netdev(dev);
    k.tick(100 * US);
    k.check().unwrap();
}

/// The thread polls, the softirq does not.
#[test]
fn a_thread_polls() {
    let (mut k, _, dev) = machine(2);
    assert_eq!(set(&mut k, dev, "threaded", "1"), Ok("1".into()));
    for n in 0..200 {
        k.rx(n * US, dev, datagram());
    }
    while k.more_work() {
        k.tick(1000 * US);
    }
    let d = k.net.devs.get(dev).unwrap();
    assert_eq!(d.stats.rx_packets, 200);
    assert!(k.net.cpus.iter().all(|c| c.softirqs[Softirq::NetRx as usize] == 0));
    set(&mut k, dev, "threaded", "0").unwrap();
    k.rx(1000 * US, dev, datagram());
    assert_eq!(k.net.cpus[0].softirqs[Softirq::NetRx as usize], 1);
    k.check().unwrap();
}

/// `net.core.rps_sock_flow_entries` and `rps_flow_cnt`, as Linux 6.18 takes them; where there is no memory here is earlier.
#[test]
fn flow_tables_are_powers_of_two() {
    let (mut k, ns, dev) = machine(4);
    let entries = |k: &mut Kernel, text: &str| {
        k.sysctl_set(ns, "net.core.rps_sock_flow_entries", text)?;
        Ok(k.net.sysctl.show("net.core.rps_sock_flow_entries").unwrap())
    };
    assert_eq!(entries(&mut k, "50"), Ok("64".into()));
    for text in ["-1", "536870913", "abc"] {
        assert_eq!(entries(&mut k, text), Err(Errno::EINVAL));
    }
    assert_eq!(entries(&mut k, "536870912"), Err(Errno::ENOMEM));
    assert_eq!(k.rps_flow_cnt(dev, 0), Some("0".into()));
    for (text, is) in [("100", "128"), ("0x10", "16"), ("5\n", "8"), ("0", "0")] {
        k.set_rps_flow_cnt(dev, 0, text).unwrap();
        assert_eq!(k.rps_flow_cnt(dev, 0), Some(is.into()));
    }
    assert_eq!(k.set_rps_flow_cnt(dev, 0, "4294967295"), Err(Errno::ENOMEM));
    assert_eq!(k.set_rps_flow_cnt(dev, 0, "-1"), Err(Errno::EINVAL));
    assert_eq!(k.rps_flow_cnt(dev, 1), None);
}

/// A socket that is connected to the peer, and knows the queue of its packets.
fn connected(h: &mut Host) -> u32 {
    h.know_peer();
    let fd = h.socket(SOCK_DGRAM);
    h.bind(fd, HOST, 7).unwrap();
    h.connect(fd, PEER, 9).unwrap();
    h.rx(datagram());
    h.recv(fd).unwrap();
    fd
}

/// Packets of a connected socket come to the CPU on which its reader last made a call.
#[test]
fn flows_follow_their_readers() {
    let mut h = Host::new();
    h.k.set_cpus(4);
    h.sysctl("net.core.rps_sock_flow_entries", "256");
    h.k.set_rps_flow_cnt(h.dev, 0, "256").unwrap();
    let fd = connected(&mut h);
    for cpu in [2, 3, 0] {
        h.k.tasks.tasks.get_mut(h.task).unwrap().cpu = cpu;
        // The call says where; it knows the flow from the packets before.
        assert_eq!(h.call(Call::Recv { fd, len: 9, flags: MSG_DONTWAIT }), Err(Errno::EAGAIN));
        h.rx(datagram());
        assert_eq!(h.get(fd, SOL_SOCKET, SO_INCOMING_CPU), cpu as i32);
        h.recv(fd).unwrap();
    }
    assert_eq!(h.k.net.cpus[2].stat.received_rps, 1);
    // Without the table everything is as before.
    h.sysctl("net.core.rps_sock_flow_entries", "0");
    assert!(!h.k.net.rps_needed);
}

fn busy(h: &Host) -> u64 {
    h.counter(Mib::TcpExtBusyPollRxPackets)
}

/// Options as Linux 6.18 takes them; a budget can only be set.
#[test]
fn options_of_busy_polling() {
    let mut h = Host::new();
    let fd = connected(&mut h);
    assert!(h.get(fd, SOL_SOCKET, SO_INCOMING_NAPI_ID) >= 65);
    let fresh = h.udp();
    assert_eq!(h.get(fresh, SOL_SOCKET, SO_INCOMING_NAPI_ID), 0);
    assert_eq!(h.set(fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, 1), Err(Errno::ENOPROTOOPT));
    h.set(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, 2).unwrap();
    assert_eq!(h.get(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL), 1);
    for (budget, ok) in [(-1, false), (0, true), (64, true), (65_535, true), (65_536, false)] {
        assert_eq!(h.set(fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, budget).is_ok(), ok, "{budget}");
    }
    let asked = h.call(Call::GetSockOpt { fd, level: SOL_SOCKET, name: SO_BUSY_POLL_BUDGET, len: 4 });
    assert_eq!(asked, Err(Errno::ENOPROTOOPT));
    h.sysctl("net.core.busy_read", "50");
    let next = h.udp();
    assert_eq!(h.get(next, SOL_SOCKET, SO_BUSY_POLL), 50);
}

/// A call that waits takes its packets out of the ring itself, for as long as its socket says.
#[test]
fn a_sleeping_call_polls() {
    let mut h = Host::new();
    let fd = connected(&mut h);
    h.set(fd, SOL_SOCKET, SO_BUSY_POLL, 50).unwrap();
    let softirqs = h.k.net.cpus[0].softirqs[Softirq::NetRx as usize];
    for n in 1..=3 {
        assert!(matches!(h.try_call(Call::Recv { fd, len: 9, flags: 0 }), Submitted::Parked(_)));
        h.now += 10 * US;
        h.rx(datagram());
        assert_eq!((h.completions.len(), busy(&h)), (n, n as u64));
    }
    assert_eq!(h.k.net.cpus[0].softirqs[Softirq::NetRx as usize], softirqs);
    // When the time is over the call sleeps on, and an interrupt wakes it.
    assert!(matches!(h.try_call(Call::Recv { fd, len: 9, flags: 0 }), Submitted::Parked(_)));
    h.advance(60 * US);
    h.rx(datagram());
    assert_eq!((h.completions.len(), busy(&h)), (4, 3));
    assert_eq!(h.k.net.cpus[0].softirqs[Softirq::NetRx as usize], softirqs + 1);
    // So it does when it is interrupted by a signal.
    let Submitted::Parked(id) = h.try_call(Call::Recv { fd, len: 9, flags: 0 }) else { panic!() };
    h.k.cancel(h.now, id, Errno::EINTR);
    h.rx(datagram());
    assert_eq!((busy(&h), h.recv(fd).is_ok()), (3, true));
}

/// A call that does not wait looks once: what no interrupt has told of yet is found.
#[test]
fn a_call_that_does_not_wait_looks_once() {
    let mut h = Host::new();
    let fd = connected(&mut h);
    let words = [ethtool::ETHTOOL_SCOALESCE, 1000].into_iter().chain([0; 21]);
    let request: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    h.k.ethtool(h.dev, &request).unwrap();
    h.rx(datagram());
    let once = || Call::Recv { fd, len: 9, flags: MSG_DONTWAIT };
    assert_eq!(h.call(once()), Err(Errno::EAGAIN));
    h.set(fd, SOL_SOCKET, SO_BUSY_POLL, 1).unwrap();
    assert!(h.call(once()).is_ok());
    assert_eq!(busy(&h), 1);
}

/// With SO_PREFER_BUSY_POLL, deferral and timeout one interrupt is the last while somebody reads.
#[test]
fn preferred_busy_polling_needs_no_interrupts() {
    for (prefer, least) in [(0, 10), (1, 1)] {
        let mut h = Host::new();
        let fd = connected(&mut h);
        h.set(fd, SOL_SOCKET, SO_BUSY_POLL, 50).unwrap();
        h.set(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, prefer).unwrap();
        if prefer == 1 {
            set(&mut h.k, h.dev, "gro_flush_timeout", "200000").unwrap();
            set(&mut h.k, h.dev, "napi_defer_hard_irqs", "2").unwrap();
        }
        let before = interrupts(&h.k, h.dev);
        for _ in 0..10 {
            assert!(matches!(h.try_call(Call::Recv { fd, len: 9, flags: 0 }), Submitted::Parked(_)));
            h.now += 10 * US;
            h.rx(datagram());
        }
        assert_eq!((h.completions.len(), busy(&h), interrupts(&h.k, h.dev) - before), (10, 10, least));
        // Nobody reads any more: the timer finds what comes, then interrupts are back.
        h.rx(datagram());
        h.advance(10 * MS);
        assert!(h.recv(fd).is_ok());
        let then = interrupts(&h.k, h.dev);
        h.rx(datagram());
        assert_eq!(interrupts(&h.k, h.dev), then + 1);
    }
}

/// poll(2) looks into the queue of its sockets while `net.core.busy_poll` says so.
#[test]
fn poll_looks_as_long_as_the_setting_says() {
    let mut h = Host::new();
    let fd = connected(&mut h);
    h.set(fd, SOL_SOCKET, SO_BUSY_POLL, 50).unwrap();
    let fds = [PollFd { fd: fd as i32, events: poll::POLLIN as u16, revents: 0 }];
    for (usecs, n) in [("0", 0), ("50", 1)] {
        h.sysctl("net.core.busy_poll", usecs);
        assert!(matches!(h.try_call(Call::Poll { fds: &fds, timeout: None }), Submitted::Parked(_)));
        h.rx(datagram());
        assert_eq!((h.completions.pop().is_some(), busy(&h)), (true, n));
        h.recv(fd).unwrap();
    }
}

/// A card with a speed sends one packet after another; its ring holds what the limit says, the discipline the rest.
#[test]
fn a_slow_cards_ring_is_limited_by_bytes() {
    let mut k = Kernel::new(7);
    let nic = NicConfig { mac: HOST_MAC, speed: 10, ..NicConfig::default() };
    let (ns, dev) = k.add_host("h", &nic, (HOST, 24), None).unwrap();
    let p = k.add_process(ns, 0, task::process::Caps::ROOT, 64, "sender");
    let task = k.add_task(p, 0).unwrap();
    k.rx(0, dev, arp(ARPOP_REQUEST, PEER_MAC, PEER, belljar_wire::Mac::ZERO, HOST, belljar_wire::Mac::BROADCAST));
    let attr = |k: &Kernel, file: &str| k.bql_attr(dev, 0, file).unwrap();
    for (file, is) in [("limit", "0"), ("limit_max", "1879048192"), ("limit_min", "0"), ("hold_time", "1000")] {
        assert_eq!(attr(&k, file), is);
    }
    let Submitted::Done(Ok(Ret::Fd(fd))) =
        k.call(0, task, Call::Socket { family: AF_INET, kind: SOCK_DGRAM, protocol: 0 })
    else {
        panic!()
    };
    let to = SockAddr::V4(PEER, 9).emit();
    let (mut now, mut sent, mut most) = (0, 0, 0);
    for n in 0..400 {
        let data = Payload::Bytes(&[7; 1472]);
        let call = Call::Send { fd, data, flags: MSG_DONTWAIT, to: Some(&to), cmsgs: &[] };
        sent += u64::from(matches!(k.call(now, task, call), Submitted::Done(Ok(_))));
        // 1514 bytes and their framing take 1.23 ms; they come twice as fast at first.
        now += if n < 100 { 600 * US } else { 1200 * US };
        k.tick(now);
        most = most.max(attr(&k, "inflight").parse::<u32>().unwrap());
        k.check().unwrap();
    }
    let limit: u32 = attr(&k, "limit").parse().unwrap();
    assert!((1514..=6056).contains(&limit) && most <= limit + 1514, "{limit} {most}");
    assert!(k.net.devs.get(dev).unwrap().qdisc.stats().qlen > 10);
    let mut out = 0;
    for _ in 0..1000 {
        now += MS;
        k.tick(now);
        out += std::iter::from_fn(|| k.pop_output()).filter(|o| matches!(o, Output::Frame { .. })).count() as u64;
    }
    assert!(out >= sent && attr(&k, "inflight") == "0", "{out} of {sent}");
    k.check().unwrap();
}

/// Values and errors as a virtio card's files had them on Linux 6.18.
#[test]
fn limits_take_what_the_kernel_takes() {
    let mut k = Kernel::new(7);
    let (_, dev) = k.add_host("h", &NicConfig { speed: 100, ..NicConfig::default() }, (HOST, 24), None).unwrap();
    let set = |k: &mut Kernel, file: &str, text: &str| {
        k.set_bql_attr(dev, 0, file, text)?;
        Ok(k.bql_attr(dev, 0, file).unwrap())
    };
    for (file, text, is) in [
        ("limit_max", "max", Ok("1879048192")),
        ("limit_max", "3000\n", Ok("3000")),
        ("limit", "1879048193", Err(Errno::EINVAL)),
        ("limit_min", "4294967296", Err(Errno::ERANGE)),
        ("limit_min", "-1", Err(Errno::EINVAL)),
        ("limit_min", "0x10", Err(Errno::EINVAL)),
        ("hold_time", "1", Ok("4")),
        ("inflight", "1", Err(Errno::EACCES)),
    ] {
        assert_eq!(set(&mut k, file, text), is.map(str::to_owned), "{file} {text}");
    }
    // A card that sends at once has no such limits.
    let (k, _, dev) = machine(1);
    assert_eq!(k.bql_attr(dev, 0, "limit"), None);
}

/// What a card holds when it goes down is dropped, and its ring is empty in the end; so it is when it goes altogether.
#[test]
fn a_slow_card_goes_down_with_packets() {
    for gone in [false, true] {
        let mut h = Host::new();
        h.know_peer();
        let nic = NicConfig {
            name: "slow".into(),
            speed: 1,
            mac: belljar_wire::Mac([2, 0, 0, 0, 0, 9]),
            ..NicConfig::default()
        };
        let dev = h.k.add_nic(h.ns, &nic).unwrap();
        h.k.add_address(dev, Ipv4Addr::new(10, 9, 0, 1), 24).unwrap();
        h.k.set_link(dev, true).unwrap();
        let fd = h.udp();
        for _ in 0..5 {
            h.send_to(fd, &[0; 1000], Ipv4Addr::new(10, 9, 0, 255), 9).ok();
        }
        h.set(fd, SOL_SOCKET, SO_BROADCAST, 1).unwrap();
        for _ in 0..5 {
            h.send_to(fd, &[0; 1000], Ipv4Addr::new(10, 9, 0, 255), 9).unwrap();
        }
        if gone {
            h.k.net.unregister_netdev(dev);
        } else {
            h.k.set_link(dev, false).unwrap();
        }
        h.advance(SEC);
        h.k.check().unwrap();
        assert_eq!(h.k.bql_attr(dev, 0, "inflight"), (!gone).then(|| "0".into()));
    }
}

/// `ethtool -C eth0 adaptive-rx on` and off again.
#[test]
fn adaptive_coalescing_comes_and_goes() {
    let mut h = Host::new();
    let mut coalesce = |cmd: u32, (usecs, frames): (u32, u32), adaptive: u32| {
        let mut w = [0u32; 23];
        (w[0], w[1], w[2], w[10]) = (cmd, usecs, frames, adaptive);
        let request: Vec<u8> = w.into_iter().flat_map(u32::to_ne_bytes).collect();
        let reply = h.k.ethtool(h.dev, &request)?.1;
        let at = |n: usize| reply.get(4 * n..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
        Ok((at(1), at(2), at(10)))
    };
    let (get, put) = (ethtool::ETHTOOL_GCOALESCE, ethtool::ETHTOOL_SCOALESCE);
    coalesce(put, (50, 0), 0).unwrap();
    assert_eq!(coalesce(put, (70, 0), 1), Err(Errno::EINVAL));
    coalesce(put, (50, 0), 1).unwrap();
    assert_eq!(coalesce(get, (0, 0), 0), Ok((8, 256, 1)));
    assert_eq!(coalesce(put, (9, 256), 1), Err(Errno::EINVAL));
    // ethtool echoes what it was shown: what was asked for before comes back.
    coalesce(put, (8, 256), 0).unwrap();
    assert_eq!(coalesce(get, (0, 0), 0), Ok((50, 0, 0)));
}
