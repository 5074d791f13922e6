//! Hosts on a bridge: cables of their own to one switch, which learns where they are.
use belljar_abi::SockAddr;
use belljar_kernel::drivers::bridge_fdb;
use belljar_lab::{Checker, End, Lab, Nic, Pattern};
use belljar_link::Conditions;
use core::net::Ipv4Addr;

const SIZE: usize = 60_000;

/// A transfer between two of three hosts; what the third one's NIC saw, what the switch learned, and the end's time.
fn transfer(seed: u64) -> (u64, usize, u64) {
    let mut lab = Lab::new(None);
    let sw = lab.host("switch", seed);
    let link = Conditions { delay_ns: 1_000_000, ..Conditions::default() };
    let hosts: Vec<(usize, Ipv4Addr)> =
        (1..=3u8).map(|n| (lab.host(&format!("h{n}"), seed + u64::from(n)), Ipv4Addr::new(10, 0, 0, n))).collect();
    for (n, (host, addr)) in hosts.iter().enumerate() {
        let port = End { host: sw, v4: None, v6: None };
        lab.wire(port, (*host, *addr), 24, Nic::default(), link, seed + n as u64).unwrap();
    }
    let br = lab.bridge(sw).unwrap();
    let to = hosts[1].1;
    let (client, server) = (lab.task(hosts[0].0, "client").unwrap(), lab.task(hosts[1].0, "server").unwrap());
    lab.spawn("server", async move {
        let l = server.listen(SockAddr::V4(to, 80), 1).await.unwrap();
        let (s, _) = l.accept().await.unwrap();
        s.send_all(Pattern::new(1).at(0, SIZE)).await.unwrap();
        s.close().await.unwrap();
    });
    let world = lab.world.clone();
    lab.spawn("client", async move {
        let s = client.connect(SockAddr::V4(to, 80)).await.unwrap();
        let mut c = Checker::new(1);
        loop {
            let segs = s.recv(1 << 20).await.unwrap();
            if segs.is_empty() {
                break;
            }
            c.take(&segs).unwrap();
        }
        Lab::expect(&world, c.pos == SIZE as u64, || format!("{} bytes", c.pos));
    });
    lab.run();
    let now = lab.now();
    let w = lab.world.borrow();
    assert_eq!(w.failure, None);
    let third = &w.hosts[hosts[2].0];
    let seen = third.kernel.net.devs.get(third.nics[0].0).unwrap().stats.rx_packets;
    let learned = bridge_fdb::entries(&w.hosts[sw].kernel.net, br)
        .filter(|(_, e)| e.kind == bridge_fdb::FdbKind::Learned)
        .count();
    (seen, learned, now)
}

#[test]
fn a_switch_sends_a_transfer_to_whom_it_is_for() {
    let (seen, learned, end) = transfer(7);
    // The third host heard the one question that is for everybody, and that the switch is in the group of all snoopers.
    assert_eq!((seen, learned), (2, 2));
    assert_eq!(transfer(7), (seen, learned, end), "the same seed, the same run");
}
