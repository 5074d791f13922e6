//! How NAPI is done beside the softirq: deferral with its timer, threads, busy polling, steering after readers.
mod common;
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::NicConfig;
use belljar_kernel::ids::{DevId, NsId};
use belljar_kernel::net::core::softirq::Softirq;
use belljar_kernel::net::mib::Mib;
use belljar_wire::checksum;
use belljar_wire::ipv4::{IPPROTO_TCP, IPPROTO_UDP, Ipv4Header};
use belljar_wire::tcp::{Flags, TcpHeader};
use common::*;

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
