//! Actions of filters: verdicts, packets sent to other devices, ifb, policers.
mod world;

use belljar_kernel::net::sched::act::{Action, Kind};
use world::*;

const MS: u64 = 1_000_000;

/// Namespaces 0 and 1 on a pair of devices, 10.0.0.1 and 10.0.0.2, which know each other's addresses.
fn world() -> World {
    let mut w = World::new(3);
    w.veth((0, "a"), (1, "b"));
    for (n, name, last) in [(0, "a", 1), (1, "b", 2)] {
        w.up(n, name);
        w.addr(n, name, [10, 0, 0, last]);
    }
    w.up(0, "a");
    assert!(w.reaches(0, 1, [10, 0, 0, 2]));
    w.watch();
    w
}

fn tc(w: &mut World, n: usize, line: &str) {
    try_tc(w, n, line).unwrap_or_else(|e| panic!("{line}: {e}"));
}

fn try_tc(w: &mut World, n: usize, line: &str) -> Result<Option<String>, String> {
    let ns = w.ns(n);
    w.k.tc_line(ns, line)
}

fn ifb(w: &mut World, n: usize) {
    assert_eq!(w.add(n, "ifb0", "ifb", &[], &[]), (0, String::new()));
    w.up(n, "ifb0");
}

fn action(w: &World, n: usize, kind: Kind, index: u32) -> Option<&Action> {
    let acts = &w.k.net.tc.acts;
    acts.find(w.ns(n), kind, index).and_then(|id| acts.get(id))
}

/// Packets, bytes, drops, overlimits of an action.
fn counted(w: &World, kind: Kind, index: u32) -> (u64, u64, u64, u64) {
    let s = action(w, 1, kind, index).unwrap().stats;
    (s.packets, s.bytes, s.drops, s.overlimits)
}

const TO_B: [u8; 4] = [10, 0, 0, 2];

#[test]
fn verdicts_on_the_way_in() {
    let mut w = world();
    tc(&mut w, 1, "qdisc add dev b ingress");
    tc(&mut w, 1, "filter add dev b ingress protocol ip prio 2 u32 match ip dport 7000 0xffff action drop");
    assert!(!w.reaches(0, 1, TO_B));
    assert_eq!(w.drops(), [("TC_INGRESS", "sch_handle_ingress")]);
    // Without its link header: 20 + 8 + 16.
    assert_eq!(counted(&w, Kind::Gact, 1), (1, 44, 1, 0));
    let s = w.d(1, "b").qdisc.ingress.as_ref().unwrap().stats;
    assert_eq!((s.packets, s.bytes, s.drops), (1, 44, 1));
    // What comes before it decides, unless it says that others shall.
    for (said, arrives) in [("ok", true), ("continue", false), ("pipe", true), ("reclassify", false)] {
        tc(&mut w, 1, &format!("filter replace dev b ingress protocol all prio 1 matchall action {said}"));
        assert_eq!(w.reaches(0, 1, TO_B), arrives, "{said}");
        tc(&mut w, 1, "filter del dev b ingress prio 1");
    }
    // One after another while they say `pipe`, and over some.
    for (said, arrives) in [("pipe action drop", false), ("jump 2 action drop action ok", true)] {
        tc(&mut w, 1, &format!("filter add dev b ingress protocol all prio 1 matchall action {said}"));
        assert_eq!(w.reaches(0, 1, TO_B), arrives, "{said}");
        tc(&mut w, 1, "filter del dev b ingress prio 1");
    }
    tc(&mut w, 1, "qdisc del dev b ingress");
    assert!(w.reaches(0, 1, TO_B) && w.k.net.tc.acts.is_empty());
}

#[test]
fn verdicts_on_the_way_out() {
    let mut w = world();
    tc(&mut w, 0, "qdisc add dev a clsact");
    tc(&mut w, 0, "filter add dev a egress protocol ip prio 1 u32 match ip dport 7000 0xffff action drop");
    assert!(!w.reaches(0, 1, TO_B));
    assert_eq!(w.drops(), [("TC_EGRESS", "sch_handle_egress")]);
    // With its link header.
    let a = action(&w, 0, Kind::Gact, 1).unwrap();
    assert_eq!((a.stats.packets, a.stats.bytes, a.stats.drops), (1, 58, 1));
    // Every third only.
    let random = "filter replace dev a egress protocol all prio 1 matchall action drop random determ ok 3";
    tc(&mut w, 0, "filter del dev a egress");
    tc(&mut w, 0, random);
    let there: Vec<bool> = (0..6).map(|_| w.reaches(0, 1, TO_B)).collect();
    assert_eq!(there, [false, false, true, false, false, true]);
}

#[test]
fn incoming_traffic_is_shaped_by_an_ifb() {
    let mut w = world();
    ifb(&mut w, 1);
    tc(&mut w, 1, "qdisc add dev b ingress");
    tc(
        &mut w,
        1,
        "filter add dev b ingress protocol ip prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb0",
    );
    // A frame of 1000 bytes takes 8 ms.
    tc(&mut w, 1, "qdisc add dev ifb0 root tbf rate 1mbit burst 1000 limit 3000");
    let (from, to) = (w.udp(0, 0), w.udp(1, 7000));
    let start = w.now;
    for _ in 0..5 {
        w.send(0, from, &[0; 958], TO_B, 7000).unwrap();
    }
    // One of the burst, three wait, one is too many.
    let mut at = Vec::new();
    for _ in 0..40 {
        while w.recv(1, to).is_ok() {
            at.push((w.now - start) / MS);
        }
        w.advance(MS);
    }
    assert_eq!(at, [0, 8, 16, 24]);
    assert_eq!(w.drops(), [("QDISC_DROP", "bfifo_enqueue")]);
    assert_eq!(counted(&w, Kind::Mirred, 1), (5, 5 * 986, 0, 1));
    let s = w.d(1, "ifb0").stats;
    assert_eq!((s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes), (4, 4000, 4, 4000));
    // What the machine itself sends there is nobody's.
    w.addr(1, "ifb0", [10, 9, 9, 9]);
    let own = w.udp(1, 0);
    let _ = w.send(1, own, b"x", [10, 9, 9, 1], 9);
    w.advance(SEC);
    assert_eq!(w.d(1, "ifb0").stats.rx_dropped, w.d(1, "ifb0").stats.rx_packets - 4);
    // Gone, it is none of the action's any more.
    let dev = w.dev(1, "ifb0");
    w.k.net.unregister_netdev(dev);
    w.settle();
    w.send(0, from, b"x", TO_B, 7000).unwrap();
    assert!(w.recv(1, to).is_err(), "redirected to nowhere");
    assert_eq!(counted(&w, Kind::Mirred, 1).3, 2);
}

#[test]
fn outgoing_traffic_comes_back_from_an_ifb_and_goes_out() {
    let mut w = world();
    ifb(&mut w, 0);
    tc(&mut w, 0, "qdisc add dev a clsact");
    tc(&mut w, 0, "filter add dev a egress matchall action mirred egress redirect dev ifb0");
    tc(&mut w, 0, "qdisc add dev ifb0 root netem delay 20ms");
    let (from, to) = (w.udp(0, 0), w.udp(1, 7000));
    w.send(0, from, b"later", TO_B, 7000).unwrap();
    assert!(w.recv(1, to).is_err());
    w.advance(19 * MS);
    assert!(w.recv(1, to).is_err());
    w.advance(2 * MS);
    assert_eq!(w.recv(1, to).unwrap(), b"later");
}

#[test]
fn mirrors_copy_and_redirects_carry_off() {
    let mut w = world();
    // c and d are another pair: what c sends, d receives in namespace 2.
    w.veth((1, "c"), (2, "d"));
    for (n, name) in [(1, "c"), (2, "d"), (1, "c")] {
        w.up(n, name);
    }
    tc(&mut w, 1, "qdisc add dev b ingress");
    tc(&mut w, 1, "filter add dev b ingress matchall action mirred egress mirror dev c");
    assert!(w.reaches(0, 1, TO_B));
    let before = w.d(2, "d").stats.rx_packets;
    assert!(w.reaches(0, 1, TO_B));
    assert_eq!(w.d(2, "d").stats.rx_packets, before + 1);
    // In by d instead of by the device that the sender is joined to: as its neighbour's, with its address.
    tc(&mut w, 2, "qdisc add dev d ingress");
    tc(&mut w, 2, "filter add dev d ingress protocol ip prio 1 matchall action mirred ingress redirect dev lo");
    w.up(2, "lo");
    let counted = w.d(2, "lo").stats.rx_packets;
    assert!(w.reaches(0, 1, TO_B));
    assert_eq!(w.d(2, "lo").stats.rx_packets, counted, "drivers count, the stack does not");
    let a = action(&w, 2, Kind::Mirred, 1).unwrap();
    assert_eq!((a.stats.packets, a.first_used.is_some()), (1, true));
    // An ifb gives back what was taken off its way, not copies.
    ifb(&mut w, 1);
    tc(&mut w, 1, "filter replace dev b ingress prio 7 matchall action mirred egress mirror dev ifb0");
    tc(&mut w, 1, "filter del dev b ingress prio 49152");
    assert!(w.reaches(0, 1, TO_B));
    let s = w.d(1, "ifb0").stats;
    assert_eq!((s.rx_packets, s.rx_dropped, s.tx_packets), (1, 1, 0));
    tc(&mut w, 1, "filter add dev b ingress matchall action mirred egress mirror dev c");
    tc(&mut w, 1, "filter del dev b ingress prio 7");
    // To a device that is down it is dropped; of a copy nobody hears.
    w.down(1, "c");
    assert!(w.reaches(0, 1, TO_B));
    tc(&mut w, 1, "filter replace dev b ingress prio 7 matchall action mirred egress redirect dev c");
    tc(&mut w, 1, "filter del dev b ingress prio 49152");
    w.drops();
    assert!(!w.reaches(0, 1, TO_B));
    assert_eq!(w.drops(), [("TC_INGRESS", "tcf_mirred_to_dev")]);
    let log = w.k.net.kmsg.text();
    assert!(log.contains("tc mirred to Houston: device c is down"), "{log}");
}

#[test]
fn devices_that_send_to_each_other_end() {
    let mut w = world();
    for name in ["x", "y"] {
        assert_eq!(w.add(1, name, "dummy", &[], &[]).0, 0);
        w.up(1, name);
        tc(&mut w, 1, &format!("qdisc add dev {name} clsact"));
    }
    for (from, to) in [("x", "y"), ("y", "x")] {
        let twice = format!("action mirred egress mirror dev {to} action mirred egress mirror dev {to}");
        tc(&mut w, 1, &format!("filter add dev {from} egress matchall {twice}"));
    }
    w.inject(1, "x", &[0xff; 60]);
    assert!(w.k.net.kmsg.text().contains("Packet exceeded mirred recursion limit on dev "));
    let sent = w.d(1, "x").stats.tx_packets + w.d(1, "y").stats.tx_packets;
    assert!((1..64).contains(&sent), "{sent}");
}

#[test]
fn a_policer_lets_its_rate_through() {
    let mut w = world();
    tc(&mut w, 1, "qdisc add dev b ingress");
    // 986 bytes take 7.888 ms; three of them are saved at most.
    tc(
        &mut w,
        1,
        "filter add dev b ingress protocol ip prio 1 u32 match u32 0 0 action police rate 1mbit burst 2958 drop",
    );
    let (from, to) = (w.udp(0, 0), w.udp(1, 7000));
    let burst = |w: &mut World| {
        (0..5).for_each(|_| _ = w.send(0, from, &[0; 958], TO_B, 7000));
        std::iter::from_fn(|| w.recv(1, to).ok()).count()
    };
    assert_eq!(burst(&mut w), 3);
    w.advance(8 * MS);
    assert_eq!(burst(&mut w), 1);
    assert_eq!(counted(&w, Kind::Police, 1), (10, 9860, 6, 6));
    // As filters had it before there were actions, by packets, and with other verdicts.
    tc(&mut w, 1, "filter del dev b ingress");
    let old = "filter add dev b parent ffff: protocol ip prio 1 u32 match u32 0 0 police rate 1mbit burst 2958 drop flowid :1";
    tc(&mut w, 1, old);
    assert_eq!(burst(&mut w), 3);
    tc(&mut w, 1, "filter del dev b ingress");
    tc(&mut w, 1, "filter add dev b ingress matchall action police pkts_rate 100 pkts_burst 2 conform-exceed drop/ok");
    w.advance(SEC);
    assert_eq!(burst(&mut w), 2);
    tc(&mut w, 1, "filter del dev b ingress");
    tc(&mut w, 1, "filter add dev b ingress matchall action police mtu 100 conform-exceed ok/drop");
    assert_eq!(burst(&mut w), 5);
}

#[test]
fn actions_are_shared_by_their_number() {
    let mut w = world();
    ifb(&mut w, 1);
    tc(&mut w, 1, "qdisc add dev b ingress");
    tc(&mut w, 1, "filter add dev b ingress prio 1 matchall action mirred egress mirror dev ifb0 index 7 cookie 00ff");
    tc(&mut w, 1, "filter add dev b ingress prio 2 matchall action mirred index 7");
    let a = action(&w, 1, Kind::Mirred, 7).unwrap();
    assert_eq!((a.refs(), a.binds, &a.cookie[..]), (2, 2, &[0, 0xff][..]));
    tc(&mut w, 1, "filter del dev b ingress prio 1");
    assert_eq!(action(&w, 1, Kind::Mirred, 7).unwrap().refs(), 1);
    tc(&mut w, 1, "filter add dev b ingress prio 3 matchall action mirred egress mirror dev ifb0");
    assert!(action(&w, 1, Kind::Mirred, 1).is_some(), "the lowest number that is free");
    for (line, why) in [
        ("action mirred index 9", "Error: act_mirred: Unknown mirred option."),
        ("action goto chain 1", "Error: Chains other than 0 are not supported by belljar."),
        ("action foo", "Bad action type foo\nbad action parsing\nIllegal \"action\""),
        (
            "action mirred egress redirect dev nosuch",
            "Cannot find device \"nosuch\"\nbad action parsing\nIllegal \"action\"",
        ),
        ("action police rate 1mbit", "'burst' requires 'rate'.\nbad action parsing\nIllegal \"action\""),
    ] {
        let got = try_tc(&mut w, 1, &format!("filter add dev b ingress prio 9 matchall {line}"));
        assert_eq!(got, Err(why.to_owned()), "{line}");
    }
    let dev = w.dev(1, "b");
    w.k.net.unregister_netdev(dev);
    assert!(w.k.net.tc.acts.is_empty());
}

#[test]
fn a_class_of_a_discipline_may_send_its_packets_away() {
    let mut w = world();
    ifb(&mut w, 0);
    tc(&mut w, 0, "qdisc add dev a root handle 1: prio");
    tc(
        &mut w,
        0,
        "filter add dev a parent 1: protocol ip prio 1 u32 match ip dport 7000 0xffff action mirred egress redirect dev ifb0",
    );
    tc(&mut w, 0, "qdisc add dev ifb0 root netem delay 5ms");
    let (from, to) = (w.udp(0, 0), w.udp(1, 7000));
    w.send(0, from, b"x", TO_B, 7000).unwrap();
    assert!(w.recv(1, to).is_err());
    w.advance(6 * MS);
    assert_eq!(w.recv(1, to).unwrap(), b"x");
    // Filters of a discipline drop as well.
    tc(&mut w, 0, "filter del dev a parent 1:");
    tc(&mut w, 0, "filter add dev a parent 1: matchall action drop");
    w.drops();
    w.send(0, from, b"x", TO_B, 7000).unwrap();
    assert_eq!(w.drops(), [("QDISC_DROP", "prio_enqueue")]);
}

#[test]
fn a_super_segment_that_is_cut_at_an_ifb_comes_back_whole() {
    use belljar_wire::{Csum, Gso, GsoType};
    let mut w = world();
    ifb(&mut w, 1);
    tc(&mut w, 1, "qdisc add dev b ingress");
    tc(
        &mut w,
        1,
        "filter add dev b ingress protocol ip prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb0",
    );
    tc(&mut w, 1, "qdisc add dev ifb0 root tbf rate 100mbit burst 2000 limit 90000");
    let to = w.udp(1, 7000);
    // Three datagrams in one packet, as UDP_SEGMENT makes them.
    let dev = w.dev(1, "b");
    let mut skb = w.k.net.alloc_skb();
    let mac = w.d(1, "b").mac.0;
    let mut b = [&mac[..], &[2, 0, 0, 0, 0, 1, 8, 0]].concat();
    let mut ip = vec![0; 20];
    belljar_wire::ipv4::Ipv4Header {
        ihl_bytes: 20,
        total_len: 28 + 3000,
        ttl: 64,
        proto: 17,
        src: [10, 0, 0, 1].into(),
        dst: TO_B.into(),
        ..Default::default()
    }
    .emit(&mut ip);
    b.extend(ip);
    b.extend([0, 9, 0x1b, 0x58, 0x0b, 0xc0, 0, 0]);
    skb.head.push(b.len()).unwrap().copy_from_slice(&b);
    skb.frags = belljar_wire::Segs::from(vec![7; 3000]);
    (skb.csum, skb.gso) = (Csum::Partial, Some(Gso::new(GsoType::UdpL4, 1000, 3)));
    (skb.dev, skb.protocol) = (Some(dev), 0x0800);
    (skb.mac_header, skb.network_header, skb.transport_header) = {
        let at = skb.head.start();
        (at, at + 14, at + 34)
    };
    skb.set_truesize();
    skb.head.pull(14).unwrap();
    belljar_kernel::net::core::dev_rx::netif_rx(&mut w.k.net, skb);
    w.settle();
    w.advance(10 * MS);
    let got: Vec<usize> = std::iter::from_fn(|| w.recv(1, to).ok()).map(|d| d.len()).collect();
    assert_eq!(got, [1000, 1000, 1000]);
    let s = w.d(1, "ifb0").stats;
    assert_eq!((s.rx_packets, s.rx_dropped, s.tx_packets), (3, 0, 3));
}
