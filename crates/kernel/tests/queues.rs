//! Cards with several channels: RSS, vectors and their CPUs, steering, mq, and changes while packets wait.
mod common;
use belljar_abi::ethtool::*;
use belljar_abi::*;
use belljar_kernel::Kernel;
use belljar_kernel::drivers::nic::{self, NicConfig};
use belljar_kernel::ids::{DevId, NsId, TaskId};
use belljar_kernel::task::call::*;
use belljar_kernel::task::process::Caps;
use belljar_wire::Mac;
use belljar_wire::arp::ARPOP_REQUEST;
use belljar_wire::ipv4::IPPROTO_UDP;
use common::*;

/// A machine with so many CPUs and channels; datagrams to port 7 have a reader.
fn machine(cpus: u32, channels: u32) -> (Kernel, NsId, DevId) {
    let mut k = Kernel::new(7);
    k.set_cpus(cpus);
    let nic = NicConfig { mac: HOST_MAC, channels, ..NicConfig::default() };
    let (ns, dev) = k.add_host("h", &nic, (HOST, 24), None).unwrap();
    (k, ns, dev)
}

fn arrive(k: &mut Kernel, dev: DevId, flows: u16) {
    for port in 0..flows {
        let frame = ip(from_peer(IPPROTO_UDP), &udp((PEER, 1000 + port), (HOST, 7), b"x"));
        nic::rx_frame(&mut k.net, dev, frame);
    }
}

fn settle(k: &mut Kernel) {
    k.tick(k.net.env.now);
    while k.more_work() {
        k.tick(k.net.env.now);
    }
    while k.pop_output().is_some() {}
    k.check().unwrap();
}

fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn ask(k: &mut Kernel, dev: DevId, request: &[u32]) -> Result<Vec<u32>, Errno> {
    let reply = k.ethtool(dev, &words(request))?.1;
    Ok(reply.chunks_exact(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect())
}

fn channels(k: &mut Kernel, dev: DevId, combined: u32) -> Result<Vec<u32>, Errno> {
    ask(k, dev, &[ETHTOOL_SCHANNELS, 0, 0, 0, 0, 0, 0, 0, combined])
}

fn per_queue(k: &Kernel, dev: DevId) -> Vec<u64> {
    k.net.devs.get(dev).unwrap().nic().unwrap().queues.iter().map(|q| q.rx.packets).collect()
}

#[test]
fn flows_are_spread_and_each_queue_has_its_cpu() {
    let (mut k, ns, dev) = machine(4, 4);
    arrive(&mut k, dev, 200);
    settle(&mut k);
    let got = per_queue(&k, dev);
    assert!(got.iter().all(|n| (20..90).contains(n)) && got.iter().sum::<u64>() == 200, "{got:?}");
    for (n, c) in k.net.cpus.iter().enumerate() {
        assert_eq!(c.stat.processed, got[n], "CPU {n}");
    }
    // The same flows go the same ways again.
    arrive(&mut k, dev, 200);
    settle(&mut k);
    assert_eq!(per_queue(&k, dev), got.iter().map(|n| 2 * n).collect::<Vec<_>>());
    let text = k.proc_text(ns, "/proc/interrupts").unwrap();
    assert_eq!(text.lines().count(), 9, "{text}");
    let line = text.lines().find(|l| l.ends_with("eth0-input.2")).unwrap();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((columns[0], columns[1], columns[3]), ("28:", "0", "2"), "{text}");
}

#[test]
fn a_vector_moves_to_another_cpu_and_its_past_stays() {
    let (mut k, ns, dev) = machine(4, 2);
    assert_eq!(k.vectors(ns), [24, 25, 26, 27]);
    assert_eq!(k.irq_attr(ns, 26, "smp_affinity"), Some("2".into()));
    arrive(&mut k, dev, 50);
    settle(&mut k);
    let first = per_queue(&k, dev);
    k.set_irq_affinity(ns, 26, "smp_affinity_list", "3").unwrap();
    assert_eq!(k.irq_attr(ns, 26, "effective_affinity"), Some("8".into()));
    assert_eq!(k.set_irq_affinity(ns, 26, "smp_affinity", "f0"), Err(Errno::EINVAL));
    arrive(&mut k, dev, 50);
    settle(&mut k);
    assert_eq!([0, 1, 2, 3].map(|c| k.net.cpus[c].stat.processed), [2 * first[0], first[1], 0, first[1]]);
    let text = k.proc_text(ns, "/proc/interrupts").unwrap();
    let line: Vec<&str> = text.lines().find(|l| l.ends_with("eth0-input.1")).unwrap().split_whitespace().collect();
    assert_eq!(line[1..5], ["0", "1", "0", "1"], "{text}");
}

#[test]
fn channels_change_while_frames_wait_and_none_is_lost() {
    let (mut k, _, dev) = machine(4, 4);
    assert_eq!(ask(&mut k, dev, &[ETHTOOL_GCHANNELS]).unwrap(), [ETHTOOL_GCHANNELS, 0, 0, 0, 4, 0, 0, 0, 4]);
    arrive(&mut k, dev, 100);
    channels(&mut k, dev, 1).unwrap();
    arrive(&mut k, dev, 100);
    settle(&mut k);
    let got = per_queue(&k, dev);
    assert!(got.iter().sum::<u64>() == 200 && got[0] > 100 && got[3] > 0, "{got:?}");
    assert_eq!(k.net.devs.get(dev).unwrap().stats.rx_packets, 200);
    for n in [0, 5] {
        assert_eq!(channels(&mut k, dev, n), Err(Errno::EINVAL));
    }
    // Counters are where they were when the channels come back.
    channels(&mut k, dev, 4).unwrap();
    assert_eq!(per_queue(&k, dev), got);
    let names = k.ethtool(dev, &words(&[ETHTOOL_GSTRINGS, ETH_SS_STATS, 0])).unwrap().1;
    assert!(String::from_utf8_lossy(&names).contains("rx_queue_3_packets"));
}

#[test]
fn the_indirection_table_and_the_key() {
    let (mut k, _, dev) = machine(1, 4);
    let head = ask(&mut k, dev, &[ETHTOOL_GRSSH, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(head, [ETHTOOL_GRSSH, 0, 128, 40, ETH_RSS_HASH_TOP, 0]);
    let all = ask(&mut k, dev, &[ETHTOOL_GRSSH, 0, 128, 40, 0, 0]).unwrap();
    assert_eq!((all.len(), &all[6..12]), (6 + 128 + 10, &[0, 1, 2, 3, 0, 1][..]));
    // Everything to queue 2.
    let set = |to: u32| [vec![ETHTOOL_SRSSH, 0, 128, 0, 0, 0], vec![to; 128]].concat();
    assert_eq!(ask(&mut k, dev, &set(4)), Err(Errno::EINVAL));
    ask(&mut k, dev, &set(2)).unwrap();
    arrive(&mut k, dev, 60);
    settle(&mut k);
    assert_eq!(per_queue(&k, dev), [0, 0, 60, 0]);
    // A table that names a queue keeps it in use, until it is the default one again.
    assert_eq!(channels(&mut k, dev, 2), Err(Errno::EINVAL));
    ask(&mut k, dev, &[ETHTOOL_SRSSH, 0, 0, 0, 0, 0]).unwrap();
    channels(&mut k, dev, 2).unwrap();
    let keep = [vec![ETHTOOL_SRSSH, 0, ETH_RXFH_INDIR_NO_CHANGE, 0, 0, 0]].concat();
    assert_eq!(ask(&mut k, dev, &keep), Err(Errno::EINVAL));
    let key = [vec![ETHTOOL_SRSSH, 0, ETH_RXFH_INDIR_NO_CHANGE, 40, 0, 0], vec![u32::MAX; 10]].concat();
    ask(&mut k, dev, &key).unwrap();
    assert_eq!(ask(&mut k, dev, &[ETHTOOL_GRSSH, 0, 0, 40, 0, 0]).unwrap()[6..], [u32::MAX; 10]);
}

#[test]
fn rps_gives_packets_to_other_cpus() {
    let (mut k, ns, dev) = machine(4, 1);
    assert_eq!(k.rps_cpus(dev, 0), Some("0".into()));
    k.set_rps_cpus(dev, 0, "c").unwrap();
    arrive(&mut k, dev, 100);
    settle(&mut k);
    let processed: Vec<u64> = k.net.cpus.iter().map(|c| c.stat.processed).collect();
    assert!(processed[0] == 100 && processed[1] == 0 && processed[2] > 20 && processed[3] > 20, "{processed:?}");
    assert_eq!(processed[2] + processed[3], 100);
    assert!(k.net.cpus[2].stat.received_rps > 0 && k.net.cpus[3].stat.received_rps > 0);
    let text = k.proc_text(ns, "/proc/net/softnet_stat").unwrap();
    assert_eq!(text.lines().count(), 4);
    k.set_rps_cpus(dev, 0, "0").unwrap();
    assert!(!k.net.rps_needed);
    assert_eq!(k.set_rps_cpus(dev, 1, "1"), Err(Errno::ENOENT));
}

#[test]
fn devices_to_come_begin_with_rps_default_mask() {
    let (mut k, ns, dev) = machine(4, 1);
    let key = "net.core.rps_default_mask";
    assert_eq!(k.sysctl_set(ns, key, "1f"), Err(Errno::EOVERFLOW));
    k.sysctl_set(ns, key, "0,6\n").unwrap();
    assert_eq!(k.sysctl_get(ns, key), Some("6".into()));
    let (new, _) = k.net.add_veth((ns, "w0"), (ns, "w1")).unwrap();
    assert_eq!((k.rps_cpus(new, 0), k.rps_cpus(dev, 0)), (Some("6".into()), Some("0".into())));
    assert!(k.net.rps_needed);
}

fn send_from(k: &mut Kernel, task: TaskId) {
    let now = k.net.env.now;
    let Submitted::Done(Ok(Ret::Fd(fd))) =
        k.call(now, task, Call::Socket { family: AF_INET, kind: SOCK_DGRAM, protocol: 0 })
    else {
        panic!()
    };
    let to = SockAddr::V4(PEER, 9).emit();
    let send = Call::Send { fd, data: Payload::Bytes(b"x"), flags: 0, to: Some(&to), cmsgs: &[] };
    assert!(matches!(k.call(now, task, send), Submitted::Done(Ok(Ret::Int(1)))));
}

fn sent(k: &Kernel, dev: DevId) -> Vec<u64> {
    k.net.devs.get(dev).unwrap().nic().unwrap().queues.iter().map(|q| q.tx.packets).collect()
}

#[test]
fn each_transmit_queue_has_a_discipline_and_a_cpu() {
    let (mut k, ns, dev) = machine(2, 2);
    assert_eq!(k.net.devs.get(dev).unwrap().qdisc.name(), "mq");
    assert_eq!((k.xps_cpus(dev, 0), k.xps_cpus(dev, 1)), (Some("1".into()), Some("2".into())));
    // The question makes the peer known, and is answered.
    nic::rx_frame(&mut k.net, dev, arp(ARPOP_REQUEST, PEER_MAC, PEER, Mac::ZERO, HOST, Mac::BROADCAST));
    settle(&mut k);
    let before = sent(&k, dev);
    let p = k.add_process(ns, 0, Caps::ROOT, 64, "p");
    for cpu in [0, 1, 1] {
        let task = k.add_task(p, cpu).unwrap();
        send_from(&mut k, task);
    }
    settle(&mut k);
    assert_eq!(sent(&k, dev), [before[0] + 1, before[1] + 2]);
    // One queue in use: there is no choice.
    channels(&mut k, dev, 1).unwrap();
    let task = k.add_task(p, 1).unwrap();
    send_from(&mut k, task);
    settle(&mut k);
    assert_eq!(sent(&k, dev), [before[0] + 2, before[1] + 2]);
    channels(&mut k, dev, 2).unwrap();
    k.set_xps_cpus(dev, 0, "3").unwrap();
    k.set_xps_cpus(dev, 1, "0").unwrap();
    send_from(&mut k, task);
    assert_eq!(sent(&k, dev)[0], before[0] + 3);
}

/// As `tc -s qdisc` and `tc class` show it, and as it is changed.
#[test]
fn mq_holds_a_discipline_for_each_queue() {
    let (mut k, ns, _) = machine(1, 3);
    let show = |k: &mut Kernel| {
        let d = k.net.devs.iter().find(|(_, d)| d.name == "eth0").unwrap().1;
        let kids: Vec<(u32, &str)> = d.qdisc.root.children().map(|q| (q.parent, q.name())).collect();
        (d.qdisc.name(), kids.iter().map(|k| (k.0, k.1.to_owned())).collect::<Vec<_>>())
    };
    let pf = |n| (n, "pfifo_fast".to_owned());
    assert_eq!(show(&mut k), ("mq", vec![pf(1), pf(2), pf(3)]));
    k.tc_line(ns, "qdisc replace dev eth0 root handle 5: mq").unwrap();
    assert_eq!(show(&mut k).1[2], pf(0x5_0003));
    k.tc_line(ns, "qdisc add dev eth0 parent 5:2 handle 7: fq_codel").unwrap();
    assert_eq!(show(&mut k).1[1], (0x5_0002, "fq_codel".to_owned()));
    k.tc_line(ns, "qdisc replace dev eth0 root fq").unwrap();
    assert_eq!(show(&mut k).0, "fq");
    k.tc_line(ns, "qdisc del dev eth0 root").unwrap();
    assert_eq!(show(&mut k).0, "mq");
}
