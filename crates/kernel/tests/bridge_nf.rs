//! Bridged packets and the tables of the network layer: what they see of them, what is checked on the way, pieces, tags.
mod world;

use belljar_abi::rtnetlink::*;
use belljar_kernel::env::trace::{Dir, Event};
use belljar_kernel::net::mib::Mib;
use belljar_kernel::net::netfilter::Pf;
use belljar_wire::Mac;
use belljar_wire::ipv4::{IPPROTO_UDP, Ipv4Header};
use world::*;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ONE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const TWO: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// Two hosts (1, 2) on a bridge that has an address (0), each with its neighbours known.
fn switch() -> World {
    let mut w = World::new(3);
    assert_eq!(w.add(0, "br0", "bridge", &[], &[]).0, 0);
    let br = w.dev(0, "br0");
    w.k.net.set_mac(br, OWN).unwrap();
    w.up(0, "br0");
    w.addr(0, "br0", [10, 0, 0, 9]);
    for (n, mac) in [(1, ONE), (2, TWO)] {
        let port = format!("p{n}");
        w.veth((0, &port), (n, "e"));
        let e = w.dev(n, "e");
        w.k.net.set_mac(e, mac).unwrap();
        w.master(0, &port, "br0");
        w.up(0, &port);
        w.up(n, "e");
        w.addr(n, "e", [10, 0, 0, n as u8]);
    }
    assert!(w.reaches(1, 2, [10, 0, 0, 2]) && w.reaches(1, 0, [10, 0, 0, 9]) && w.reaches(2, 0, [10, 0, 0, 9]));
    w
}

fn sysctl(w: &mut World, key: &str, value: &str) {
    let ns = w.ns(0);
    w.k.sysctl_set(ns, &format!("net.bridge.bridge-nf-{key}"), value).unwrap();
}

fn mib(w: &World, c: Mib) -> u64 {
    w.k.net.ns.get(w.ns(0)).unwrap().mib.get(c)
}

/// A datagram from host 1 to host 2, in a frame.
fn frame(len: usize, change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let mut ip = Ipv4Header {
        total_len: (28 + len) as u16,
        id: 7,
        ttl: 64,
        proto: IPPROTO_UDP,
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        ..Ipv4Header::default()
    };
    change(&mut ip);
    let mut f = [TWO.0.as_slice(), &ONE.0, &[8, 0]].concat();
    f.resize(34, 0);
    ip.emit(&mut f[14..]);
    f.extend([0, 1, 0, 2]);
    f.extend((8 + len as u16).to_be_bytes());
    f.extend([0, 0]);
    f.resize(42 + len, 0x55);
    f
}

fn out_of(w: &mut World, frame: &[u8]) -> Vec<Vec<u8>> {
    w.watch();
    w.inject(1, "e", frame);
    w.frames(0, "p2", Dir::Out)
}

#[test]
fn settings_are_switches_of_each_namespace() {
    let mut w = World::new(2);
    let all = |w: &World, n: usize| -> Vec<String> {
        let all = w.k.view_sysctls(w.ns(n)).into_iter();
        all.filter(|s| s.key.starts_with("net.bridge.")).map(|s| format!("{} {}", &s.key[21..], s.value)).collect()
    };
    let defaults = [
        "call-arptables 1",
        "call-ip6tables 1",
        "call-iptables 1",
        "filter-pppoe-tagged 0",
        "filter-vlan-tagged 0",
        "pass-vlan-input-dev 0",
    ];
    assert_eq!(all(&w, 0), defaults);
    sysctl(&mut w, "call-iptables", "0");
    sysctl(&mut w, "filter-vlan-tagged", "-7");
    assert_eq!((all(&w, 0)[2].as_str(), all(&w, 0)[4].as_str()), ("call-iptables 0", "filter-vlan-tagged 1"));
    assert_eq!(all(&w, 1), defaults);
    assert_eq!(w.add(0, "br0", "bridge", &[], &[a8(IFLA_BR_NF_CALL_IPTABLES, 1)]).0, 0);
    let shown = w.info(0, "br0");
    let calls = [IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES, IFLA_BR_NF_CALL_ARPTABLES];
    assert_eq!(calls.map(|k| find(&shown, k)[0]), [1, 0, 0]);
    assert_eq!(w.set_kind(0, "br0", "bridge", &[a8(IFLA_BR_NF_CALL_ARPTABLES, 3)]).0, 0);
    let shown = w.info(0, "br0");
    assert_eq!(find(&shown, IFLA_BR_NF_CALL_ARPTABLES), [1]);
}

/// As measured with frames that a packet socket sent across a bridge of Linux 6.18.
#[test]
fn what_is_bridged_is_checked_as_what_is_received() {
    let mut w = switch();
    let mut padded = frame(4, |_| ());
    padded.extend([0; 20]);
    assert_eq!(out_of(&mut w, &padded), [&padded[..46]], "padding is cut off");
    let mut bad = frame(4, |_| ());
    bad[24] ^= 1;
    assert!(out_of(&mut w, &bad).is_empty());
    assert_eq!((mib(&w, Mib::IpExtInCsumErrors), mib(&w, Mib::IpInHdrErrors)), (1, 1));
    assert!(out_of(&mut w, &frame(4, |ip| ip.total_len = 100)).is_empty());
    assert_eq!(mib(&w, Mib::IpExtInTruncatedPkts), 1);
    assert!(out_of(&mut w, &frame(4, |_| ())[..32]).is_empty());
    assert_eq!(mib(&w, Mib::IpInHdrErrors), 2);
    let mut arp = [[0xff; 6].as_slice(), &ONE.0, &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
    assert!(out_of(&mut w, &arp).is_empty());
    arp.extend([0, 1]);
    arp.resize(42, 0);
    assert_eq!(out_of(&mut w, &arp).len(), 1);
    sysctl(&mut w, "call-iptables", "0");
    assert_eq!(out_of(&mut w, &padded), [padded.clone()]);
    assert_eq!(out_of(&mut w, &bad).len(), 1);
}

#[test]
fn what_is_too_long_is_cut_for_the_bridge() {
    let mut w = switch();
    let port = w.dev(0, "p2");
    w.k.net.set_mtu(port, 1000).unwrap();
    w.settle();
    assert_eq!(w.d(0, "br0").mtu, 1000);
    let pieces = out_of(&mut w, &frame(1372, |_| ()));
    let heads: Vec<(usize, u8, u8)> = pieces.iter().map(|f| (f.len(), f[20], f[21])).collect();
    assert_eq!(heads, [(1010, 0x20, 0), (438, 0, 0x7a)]);
    assert!(pieces.iter().all(|f| f[..12] == [TWO.0, ONE.0].concat()));
    assert!(pieces.iter().all(|f| Ipv4Header::verify_checksum(&f[14..34])));
    assert_eq!((mib(&w, Mib::IpFragOKs), mib(&w, Mib::IpFragCreates)), (1, 2));
    assert!(out_of(&mut w, &frame(1372, |ip| ip.df = true)).is_empty());
    assert_eq!(mib(&w, Mib::IpFragFails), 1);
    sysctl(&mut w, "call-iptables", "0");
    assert!(out_of(&mut w, &frame(1372, |_| ())).is_empty());
    assert_eq!(w.drops(), []);
}

#[test]
fn pieces_are_put_together_for_connections_and_leave_as_they_came() {
    let mut w = switch();
    w.iptables(0, "-A FORWARD -m conntrack --ctstate NEW\n-t mangle -A POSTROUTING");
    let fd = w.udp(2, 7);
    let a = w.udp(1, 0);
    w.watch();
    w.send(1, a, &[7; 4000], [10, 0, 0, 2], 7).unwrap();
    let out: Vec<usize> = w.frames(0, "p2", Dir::Out).iter().map(Vec::len).collect();
    assert_eq!(out, [1514, 1514, 1082]);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD"), [(1, 4028)]);
    assert_eq!(w.counts(0, Pf::V4, "mangle/POSTROUTING"), [(1, 4028)]);
    assert_eq!(w.recv(2, fd).unwrap().len(), 4000);
}

#[test]
fn tags_hide_packets_unless_it_is_said_otherwise() {
    let mut w = switch();
    w.iptables(0, "-A FORWARD -p udp\n-A FORWARD -p udp -i br0.7");
    let mut tagged = frame(4, |_| ());
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(out_of(&mut w, &tagged).len(), 1);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD")[0].0, 0);
    sysctl(&mut w, "filter-vlan-tagged", "1");
    assert_eq!(out_of(&mut w, &tagged), [tagged.clone()]);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD"), [(1, 32), (0, 0)]);
    let link = a32(IFLA_LINK, w.index(0, "br0"));
    assert_eq!(w.add(0, "br0.7", "vlan", &[link], &[a16(IFLA_VLAN_ID, 7)]).0, 0);
    sysctl(&mut w, "pass-vlan-input-dev", "1");
    assert_eq!(out_of(&mut w, &tagged), [tagged]);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD"), [(2, 64), (1, 32)]);
}

#[test]
fn sessions_of_pppoe_hide_packets_unless_it_is_said_otherwise() {
    let mut w = switch();
    w.iptables(0, "-A FORWARD -p udp\n-t mangle -A POSTROUTING -p udp");
    let mut session = frame(4, |_| ());
    session.splice(12..14, [0x88, 0x64, 0x11, 0, 0, 1, 0, 34, 0, 0x21]);
    assert_eq!(out_of(&mut w, &session), [session.clone()]);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD")[0].0, 0);
    sysctl(&mut w, "filter-pppoe-tagged", "1");
    assert_eq!(out_of(&mut w, &session), [session]);
    assert_eq!(w.counts(0, Pf::V4, "FORWARD"), [(1, 32)]);
    assert_eq!(w.counts(0, Pf::V4, "mangle/POSTROUTING"), [(1, 32)]);
}

#[test]
fn lines_of_the_log_and_stages_name_the_ports() {
    let mut w = switch();
    w.iptables(0, "-A FORWARD -p udp -j LOG\n-A INPUT -p udp -j LOG");
    w.k.net.env.trace.wanted.stages = true;
    while w.k.net.env.trace.pop().is_some() {}
    w.inject(1, "e", &frame(4, |_| ()));
    let mut stages = Vec::new();
    while let Some(r) = w.k.net.env.trace.pop() {
        if let Event::Stage { stage, .. } = r.event
            && stage.starts_with("br_")
        {
            stages.push(stage);
        }
    }
    assert_eq!(stages[..4], ["br_handle_frame", "br_nf_pre_routing", "br_nf_forward", "br_nf_post_routing"]);
    let line = |w: &World| w.k.net.kmsg.lines().last().unwrap().1.clone();
    assert!(line(&w).starts_with("IN=br0 OUT=br0 PHYSIN=p1 PHYSOUT=p2 MAC=02:00:00:00:00:03:02:00"), "{}", line(&w));
    assert!(w.reaches(1, 0, [10, 0, 0, 9]));
    assert!(line(&w).starts_with("IN=br0 OUT= PHYSIN=p1 MAC="), "{}", line(&w));
}

#[test]
fn rules_of_ports_are_refused_where_none_is_known() {
    let mut w = World::new(1);
    w.iptables(0, "-A FORWARD -m physdev ! --physdev-in p+ --physdev-is-bridged");
    let mut ask = |words: &str| {
        let (ns, words) = (w.ns(0), words.split(' ').collect::<Vec<_>>());
        let o = w.k.iptables(ns, Pf::V4, &words, &belljar_kernel::net::netfilter::words::NoNames);
        (o.code, format!("{}{}", o.stdout, o.stderr))
    };
    assert!(ask("-S FORWARD").1.ends_with("-A FORWARD -m physdev ! --physdev-in p+ --physdev-is-bridged\n"));
    assert!(ask("-L FORWARD").1.ends_with("PHYSDEV match ! --physdev-in p+ --physdev-is-bridged\n"));
    assert!(ask("-A OUTPUT -m physdev --physdev-out b").1.contains("Invalid argument"));
    assert_eq!(ask("-A OUTPUT -m physdev --physdev-out b --physdev-is-bridged").0, 0);
    assert!(ask("-A FORWARD -m physdev").1.contains("PHYSDEV: no physdev option specified"));
    assert!(ask("-A FORWARD -m physdev --physdev-in a --physdev-in b").1.contains("can only be used once"));
}

/// A translated destination behind the bridge whose address on the link is not known waits for it, and comes by its port.
#[test]
fn who_is_translated_to_is_asked_for() {
    let mut w = switch();
    w.iptables(0, "-t nat -A PREROUTING -p udp --dport 7 -d 10.0.0.77 -j DNAT --to-destination 10.0.0.2:9");
    let ns = w.ns(0);
    w.k.sysctl_set(ns, "net.ipv4.ip_forward", "1").unwrap();
    let br = w.dev(0, "br0");
    for addr in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        let id = w.k.net.ns.get(ns).unwrap().neigh_table.get(br, std::net::IpAddr::from(addr)).unwrap();
        belljar_kernel::net::core::neighbour::destroy(&mut w.k.net, ns, id);
    }
    let fd = w.udp(2, 9);
    let mut f = frame(4, |ip| ip.dst = [10, 0, 0, 77].into());
    f[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
    f[36..38].copy_from_slice(&[0, 7]);
    let out = out_of(&mut w, &f);
    let last = out.last().unwrap();
    assert_eq!((&last[..6], &last[6..12], &last[30..34]), (&TWO.0[..], &ONE.0[..], &[10, 0, 0, 2][..]));
    assert_eq!(w.recv(2, fd).unwrap(), [0x55; 4]);
    // The second one finds it known.
    assert_eq!(out_of(&mut w, &f).len(), 1);
}
